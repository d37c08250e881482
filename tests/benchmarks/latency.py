"""How long `record` takes when it is not alone: in a crowd, beside stopped processes that hold slots, beside a large flush.

    python tests/benchmarks/latency.py [ROUNDS]

Builds the wheel of this checkout and installs it into a plain venv, as oneshot.py does. In each round every situation has its
turn, and in each the same number of `python -c pass` right after, as the thing to compare with. Times are those of each process
by itself, from its start to its end. At the end every event that was recorded has to arrive. It decides nothing else.
"""

from __future__ import annotations

import json
import os
import platform
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from common import install, timed

CROWD = 64
# A sample of a situation that has no crowd of its own.
FEW = 5
LARGE = 100_000
HOLDER = Path(__file__).parents[1] / "faults" / "holder.py"


class Situation:
    """A home in a certain state, how many processes start in it at once, and how long each took."""

    def __init__(self, name: str, folder: Path, programs: tuple[str, str], *, at_once: int = 1) -> None:
        self.name = name
        self.home = folder / name.replace(" ", "-")
        self.python, self.script = programs
        self.at_once = at_once
        self.times: list[float] = []
        self.compared: list[float] = []
        self.recorded: list[str] = []
        self.beside: subprocess.Popen[bytes] | None = None
        self.environ = {"PATH": os.environ["PATH"], "HOME": str(folder), "RILLEVENTS_HOME": str(self.home)}
        self.record()

    def record(self) -> list[float]:
        """Record as many events as there are to be processes at once, and return how long each took."""
        ids = [f"{self.name}-{len(self.recorded) + number}" for number in range(self.at_once)]
        self.recorded += ids
        return self.run(
            [[self.script, "record", "behavioral", "x", "--on-error", "fail", "--id", word] for word in ids]
        )

    def run(self, commands: Sequence[Sequence[str]]) -> list[float]:
        """Run commands at once, and return how many milliseconds each took."""
        with ThreadPoolExecutor(len(commands)) as pool:
            return list(pool.map(lambda words: timed(words, self.environ), commands))

    def measure(self) -> None:
        """Take a sample of both."""
        for _ in range(1 if self.at_once > 1 else FEW):
            self.times += self.record()
            self.compared += self.run([[self.python, "-c", "pass"]] * self.at_once)

    def missing(self) -> int:
        """Deliver everything to a file, and return how many events are not there."""
        out = self.home / "out.ndjson"
        subprocess.run([self.script, "flush", "-q", "--to", f"file:{out}"], env=self.environ, check=True)
        arrived = {json.loads(line)["event_id"] for line in out.read_bytes().splitlines()}
        return len(set(self.recorded) - arrived)

    def end(self) -> None:
        """End the process that is beside, stopped or not."""
        if self.beside is not None:
            self.beside.kill()
            self.beside.wait()


class Held(Situation):
    """Slots are held by a process that is stopped."""

    def __init__(self, name: str, folder: Path, programs: tuple[str, str], *, slots: int) -> None:
        super().__init__(name, folder, programs)
        words = [self.python, str(HOLDER), str(self.home / "spool" / "v1"), str(slots)]
        self.beside = subprocess.Popen(words, stdout=subprocess.PIPE)
        assert self.beside.stdout
        self.beside.stdout.readline()
        self.beside.send_signal(signal.SIGSTOP)


class Flushed(Situation):
    """A flush works through a large spool; between the samples it is stopped, for not to disturb the others."""

    def __init__(self, name: str, folder: Path, programs: tuple[str, str]) -> None:
        super().__init__(name, folder, programs)
        (self.home / "config.toml").write_text("[flush]\nbatch_events = 20\n")
        self.lines = b"".join(
            b'{"event_id":"many-%d","event_time":"2026-11-23T10:00:00Z","event_type":"t","event_name":"n"}\n' % number
            for number in range(LARGE)
        )

    def measure(self) -> None:
        if self.beside is None or self.beside.poll() is not None:
            subprocess.run([self.script, "record", "raw"], env=self.environ, input=self.lines, check=True)
            words = [self.script, "flush", "-q", "--to", f"file:{self.home}/out.ndjson"]
            self.beside = subprocess.Popen(words, env=self.environ)
            time.sleep(1)
        self.beside.send_signal(signal.SIGCONT)
        super().measure()
        self.beside.send_signal(signal.SIGSTOP)


def row(name: str, times: Sequence[float], compared: Sequence[float]) -> str:
    """Return a line of the table."""
    figures = [(statistics.median(some), percentile(some, 0.99), max(some)) for some in (times, compared)]
    ratios = [mine / theirs for mine, theirs in zip(*figures, strict=True)]
    cells = "".join(f"{figure:9.1f}" for figure in (*figures[0], *figures[1])) + "".join(
        f"{ratio:8.2f}" for ratio in ratios
    )
    return f"{name:24}{len(times):6}{cells}"


def percentile(times: Sequence[float], part: float) -> float:
    """Return the smallest of *times* that so large a part of them does not exceed."""
    return sorted(times)[min(len(times) - 1, int(len(times) * part))]


def main() -> int:
    """Measure, print the table, and return 0 where every event arrived."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 20
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        programs = install(folder)
        situations = [
            Situation("alone", folder, programs),
            Situation(f"{CROWD} at once", folder, programs, at_once=CROWD),
            Held("slot 0 held", folder, programs, slots=1),
            Held("all slots held", folder, programs, slots=64),
            Flushed("beside a flush", folder, programs),
        ]
        try:
            for _ in range(rounds):
                for situation in situations:
                    situation.measure()
        finally:
            for situation in situations:
                situation.end()
        missing = sum(situation.missing() for situation in situations)
        recorded = sum(len(situation.recorded) for situation in situations)
    print(
        f"{platform.python_implementation()} {platform.python_version()}, {platform.system()} {platform.machine()}, "
        f"{os.cpu_count()} cores; {rounds} rounds; milliseconds of each process by itself"
    )
    print(f"{recorded} events recorded, {missing} of them missing\n")
    print(f"{'':30}{'record':^27}{'python -c pass':^27}{'record / python':^24}")
    print(f"{'':24}{'n':>6}" + 2 * f"{'median':>9}{'p99':>9}{'max':>9}" + f"{'median':>8}{'p99':>8}{'max':>8}")
    for situation in situations:
        print(row(situation.name, situation.times, situation.compared))
    return int(missing > 0)


if __name__ == "__main__":
    sys.exit(main())
