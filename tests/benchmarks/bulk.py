"""What `record raw` takes for a million lines, beside jq, json and a bare msgspec loop over the same file.

    python tests/benchmarks/bulk.py [ROUNDS] [--save]

Builds the wheel of this checkout, installs it into a plain venv, and runs the installed console script and its peers in turn,
each as a process of its own, timed from its start to its end. After each turn of rillevents the spool has to hold every line,
byte for byte as many as there were, and is deleted. Exit code 1 where a line is missing; else it decides nothing.
"""

from __future__ import annotations

import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from common import Table, arguments, at_least, environment, install, report, version_of

LINES = 1_000_000
# So many lines differ in all their fields, and then come again under other IDs: more than any compressor here looks back.
KINDS = 10_000
FILE, STDIN = "rillevents record raw FILE", "rillevents record raw < FILE"
JQ, JSON, MSGSPEC = "jq -c . FILE > file", "python, json.loads, line > file", "python, bare msgspec loop"

JSON_LOOP = """\
import json, sys
with open(sys.argv[1], "rb") as file, open(sys.argv[2], "wb") as kept:
    for line in file:
        json.loads(line)
        kept.write(line)
"""
# It validates and keeps nothing, and what it has to say is how long the loop took without the interpreter's start.
DECODE = """\
import msgspec

class Required(msgspec.Struct):
    event_id: str
    event_time: str
    event_type: str
    event_name: str

decode = msgspec.json.Decoder(Required).decode
"""
MSGSPEC_LOOP = f"""\
import sys, time
{DECODE}
started = time.perf_counter()
with open(sys.argv[1], "rb") as file:
    for line in file:
        decode(line)
print(time.perf_counter() - started)
"""


def write_events(path: Path, lines: int) -> Path:
    """Write so many distinct events of about 330 bytes into a file of NDJSON, the same ones each time."""
    chance = random.Random(0)
    installs = [f"{chance.getrandbits(128):032x}" for _ in range(1000)]
    kinds = [_kind(chance, number, chance.choice(installs)) for number in range(min(lines, KINDS))]
    with path.open("wb") as file:
        for first in range(0, lines, KINDS):
            file.write(b"".join(kind % _scattered(number) for number, kind in enumerate(kinds[: lines - first], first)))
    return path


def _scattered(number: int) -> int:
    """Return twelve digits that look random, as a minted ID does to a compressor, and that no other number gets."""
    return number * 3**18 % 10**12


def _kind(chance: random.Random, number: int, install: str) -> bytes:
    """Return an event with a place for the end of its ID."""
    name = chance.choice(["login-start", "login-success", "deploy-start", "deploy-success", "query", "page-view"])
    version = f'"1.{chance.randrange(20)}.{chance.randrange(10)}"'
    return (
        f'{{"event_id":"0193f7a1-{number % 65536:04x}-7{chance.randrange(4096):03x}-8{chance.randrange(4096):03x}-%012d",'
        f'"event_time":"2026-11-23T10:{number // 60 % 60:02}:{number % 60:02}.{chance.randrange(10**9):09}Z",'
        f'"event_type":"behavioral","event_name":"{name}","install_id":"{install}",'
        f'"service_name":"cli","service_version":{version},"session":"{chance.getrandbits(64):016x}",'
        f'"duration":{chance.random():.4f},"source":{{"agent":"cli","plan":"pro"}}}}\n'
    ).encode()


def stored(home: Path) -> tuple[int, int]:
    """Return how many lines and how many bytes are in the spool of *home*, counted without asking rillevents."""
    lines = size = 0
    for path in (home / "spool" / "v1").glob("*.ndjson"):
        content = path.read_bytes()
        lines += content.count(b"\n")
        size += len(content)
    return lines, size


@dataclass
class Bulk:
    """The file, the folder in which everybody writes, and what was missing in the spools, turn by turn."""

    file: Path
    folder: Path
    environ: Mapping[str, str]
    missing: list[int] = field(default_factory=list)
    loops: list[float] = field(default_factory=list)

    def record(self, words: Sequence[str], *, piped: bool = False) -> Callable[[], float]:
        """Return a turn of `record raw`, after which the spool is compared with the file and deleted."""

        def run() -> float:
            seconds, _ = self._timed(words, piped=piped)
            home = Path(self.environ["RILLEVENTS_HOME"])
            lines, size = stored(home)
            self.missing.append(max(LINES - lines, int(size != self.file.stat().st_size)))
            shutil.rmtree(home)
            return seconds

        return run

    def peer(self, words: Sequence[str], *, keeps: bool = False) -> Callable[[], float]:
        """Return a turn of something else, whose output goes into a file and is deleted; *keeps*: it writes that file itself."""

        def run() -> float:
            kept = self.folder / "kept.ndjson"
            seconds, printed = self._timed([*words, str(kept)] if keeps else words, output=None if keeps else kept)
            if MSGSPEC_LOOP in words:
                self.loops.append(float(printed))
            # Deleted, as the spool is: so that the disk has no more to do on one side than on the other.
            kept.unlink()
            return seconds

        return run

    def _timed(self, words: Sequence[str], *, piped: bool = False, output: Path | None = None) -> tuple[float, str]:
        with self.file.open("rb") as file, (output or Path("/dev/null")).open("wb") as out:
            started = time.perf_counter()
            # What goes to stderr is caught: a progress bar on a terminal is no part of the job.
            subprocess.run(
                words,
                env=self.environ,
                stdin=file if piped else subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.PIPE,
                check=True,
            )
            seconds = time.perf_counter() - started
        return seconds, output.read_text() if output and MSGSPEC_LOOP in words else ""


def main() -> int:
    """Measure, and print the table."""
    assert __doc__
    options = arguments(__doc__, 3)
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        python, script = install(folder)
        bulk = Bulk(write_events(folder / "events.ndjson", LINES), folder, environment(folder))
        file = str(bulk.file)
        runs = {
            MSGSPEC: bulk.peer([python, "-c", MSGSPEC_LOOP, file]),
            FILE: bulk.record([script, "record", "raw", file]),
            STDIN: bulk.record([script, "record", "raw"], piped=True),
            JSON: bulk.peer([python, "-c", JSON_LOOP, file], keeps=True),
        }
        versions = {"python": version_of(python, "--version").split()[1]}
        versions["msgspec"] = version_of(python, "-c", "import msgspec; print(msgspec.__version__)")
        if shutil.which("jq"):
            runs[JQ] = bulk.peer(["jq", "-c", ".", file])
            versions["jq"] = version_of("jq", "--version")
        table = Table(
            f"record raw: {LINES:,} lines of {bulk.file.stat().st_size // LINES} bytes, the whole process", "s", MSGSPEC
        )
        table.measure(runs, options.rounds)
    job = f"`record raw`, {LINES:,} NDJSON lines"
    # Speeds, so theirs over ours: the table holds seconds.
    goals = [at_least(job, "≥ 0.7 × a bare msgspec validation loop", table.ratio(MSGSPEC, FILE), 0.7)]
    if JQ in runs:
        goals.insert(0, at_least(job, "≥ 12 × `jq -c .`", table.ratio(JQ, FILE), 12))
    counted = [
        f"{len(bulk.missing)} spools of {LINES:,} lines looked at, {sum(bulk.missing)} lines missing",
        f"the msgspec loop alone, without the start of its process: {statistics.median(bulk.loops[1:]):.2f} s",
    ]
    report([table], goals, counted, versions, options)
    return int(any(bulk.missing))


if __name__ == "__main__":
    sys.exit(main())
