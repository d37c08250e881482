"""Whether `record` takes longer the more the spool holds, or the more others write to it at once.

    python tests/benchmarks/growth.py [ROUNDS] [--save]

Builds the wheel of this checkout, installs it into a plain venv, and lets the installed console script record into spools that
hold nothing, ten thousand and a million events, in turn, beside `python -c pass`. Then it lets several writers record at once,
each one event after another, beside as many that start a bare Python. Every event has to be in the spool afterwards. Exit code 1
where one is missing; else it decides nothing.
"""

from __future__ import annotations

import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from bulk import write_events
from common import Table, arguments, at_most, environment, install, report, timed
from drain_server import EVENT_ID

PYTHON = "python -c pass"
# How many processes one sample is the median of, and how many events each writer of a crowd records.
REPEATS = 5
CROWDS = (1, 4, 16)
EVENT = ["record", "behavioral", "login-start", "-a", "plan=pro", "--on-error", "fail"]


@dataclass
class Home:
    """A spool in a certain state: how many events were in it at first, and how many were recorded since."""

    script: str
    folder: Path
    name: str
    held: int = 0
    recorded: int = 0
    environ: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.environ = environment(self.folder, self.name)

    def bulk(self, file: Path, lines: int) -> Home:
        """Fill it as `record raw` does: into files that are no slots."""
        words = [self.script, "record", "raw", "-q", "--on-error", "fail", str(file)]
        subprocess.run(words, env=self.environ, check=True)
        self.held += lines
        return self

    def slot(self, file: Path, lines: int) -> Home:
        """Fill it as so many calls of `record` would have: all in the slot that the next one finds free, too."""
        self.record()
        with file.open("rb") as source, (self._spool() / "slot-0.ndjson").open("ab") as slot:
            shutil.copyfileobj(source, slot)
        self.held += lines
        return self

    def record(self) -> float:
        """Record some events one after another, and return how many milliseconds each took."""
        self.recorded += REPEATS
        return sequence([self.script, *EVENT], self.environ)

    def missing(self) -> int:
        """Return how many events are not in the spool, or more than once."""
        ids = [name for path in self._spool().glob("*.ndjson") for name in EVENT_ID.findall(path.read_bytes())]
        return abs(self.held + self.recorded - len(ids)) + len(ids) - len(set(ids))

    def _spool(self) -> Path:
        return self.folder / self.name / "spool" / "v1"


def sequence(words: list[str], environ: dict[str, str]) -> float:
    """Run a command several times, and return the median of how many milliseconds each took."""
    # The median, not the mean: one process that somebody else kept waiting says nothing of the spool.
    return statistics.median(timed(words, environ) for _ in range(REPEATS))


def crowd(writers: int, words: list[str], environ: dict[str, str]) -> float:
    """Let several shells at once run a command several times each; return the milliseconds in all by the number of runs."""
    numbers = " ".join(map(str, range(REPEATS)))
    shell = ["/bin/sh", "-c", f'for _ in {numbers}; do "$@" || exit 1; done', "writer", *words]
    started = time.perf_counter()
    children = [os.posix_spawn(shell[0], shell, environ) for _ in range(writers)]
    failed = sum(os.waitpid(child, 0)[1] != 0 for child in children)
    took = (time.perf_counter() - started) * 1000
    if failed:
        raise SystemExit(f"{failed} of {writers} writers failed: {' '.join(words)}")
    return took / (writers * REPEATS)


def crowded(home: Home, writers: int) -> Callable[[], float]:
    """Return a turn of so many writers at once in one spool."""

    def run() -> float:
        home.recorded += writers * REPEATS
        return crowd(writers, [home.script, *EVENT], home.environ)

    return run


def calls(words: list[str], environ: dict[str, str], folder: Path) -> int | None:
    """Return how many system calls a command makes; None where strace is not there, or may not look."""
    table = folder / "strace.txt"
    strace = ["strace", "-f", "-c", "-o", str(table), *words]
    if not shutil.which("strace") or subprocess.run(strace, env=environ, capture_output=True, check=False).returncode:
        return None
    # The columns: % time, seconds, usecs/call, calls, errors (where there were any), and the word.
    total = re.search(r"^ *100\.00 +[\d.]+ +\d+ +(\d+).*total$", table.read_text(), re.MULTILINE)
    return int(total[1]) if total else None


def states(script: str, folder: Path) -> dict[str, Home]:
    """Return the spools to record into, by the names of their rows."""
    some = write_events(folder / "some.ndjson", 10_000)
    many = write_events(folder / "many.ndjson", 1_000_000)
    homes = {
        "record, none yet": Home(script, folder, "none"),
        "record, 10⁴ by `record raw`": Home(script, folder, "some").bulk(some, 10_000),
        "record, 10⁶ by `record raw`": Home(script, folder, "many").bulk(many, 1_000_000),
        "record, 10⁶ by `record`": Home(script, folder, "slot").slot(many, 1_000_000),
    }
    # So that the disk is idle: appending to a page that is being written to it has to wait.
    os.sync()
    return homes


def counted_calls(python: str, homes: dict[str, Home], folder: Path) -> str:
    """Return a line that says how many system calls each takes."""
    found: dict[str, int | None] = {PYTHON: calls([python, "-c", "pass"], environment(folder), folder)}
    for name, home in homes.items():
        found[name] = calls([home.script, *EVENT], home.environ, folder)
        home.recorded += found[name] is not None
    if None in found.values():
        return "system calls: not counted, strace cannot be used here"
    return "system calls: " + ", ".join(f"{name} {number}" for name, number in found.items())


def main() -> int:
    """Measure, and print the tables."""
    assert __doc__
    options = arguments(__doc__, 30)
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        python, script = install(folder)
        homes = states(script, folder)
        bare = environment(folder)
        first, *_, raw, slot = homes
        held = Table("one event into a spool that holds others already", "ms", first)
        runs = {PYTHON: lambda: sequence([python, "-c", "pass"], bare)}
        held.measure(runs | {name: home.record for name, home in homes.items()}, options.rounds)
        tables = [held]
        everybody = Home(script, folder, "crowd")
        for writers in CROWDS:
            table = Table(f"{writers} at once, {REPEATS} events each, time in all by events", "ms", PYTHON)
            row = f"record, {writers} at once"
            pair = {PYTHON: lambda writers=writers: crowd(writers, [python, "-c", "pass"], bare)}
            table.measure(pair | {row: crowded(everybody, writers)}, options.rounds)
            tables.append(table)
        counted = [counted_calls(python, homes, folder)]
        spools = [*homes.values(), everybody]
        missing = sum(home.missing() for home in spools)
    recorded = sum(home.recorded for home in spools)
    counted.insert(
        0, f"{recorded} events recorded beside those that were there, {missing} missing or twice in the spools"
    )
    job, goal = "`record` with 1,000,000 events in the spool", "the same as with none (≤ 1.05 ×)"
    goals = [
        at_most(f"{job}, by `{how}`", goal, held.ratio(row), 1.05)
        for how, row in (("record raw", raw), ("record", slot))
    ]
    report(tables, goals, counted, {"python": ".".join(map(str, sys.version_info[:3]))}, options)
    return int(missing > 0)


if __name__ == "__main__":
    sys.exit(main())
