"""How much memory each command takes at its peak, beside a bare Python, jq and curl.

    python tests/benchmarks/memory.py [ROUNDS] [--save]

Builds the wheel of this checkout, installs it into a plain venv, and asks the system for the peak resident size of each process
in turn (`wait4`), in megabytes of a million bytes. That figure begins at the size of whoever starts the process, so all are
started by a launcher that is as small as a Python can be; what that comes to is a row: no figure can be below it. Exit code 1
where an event is missing; else it decides nothing.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bulk import stored, write_events
from common import Table, arguments, at_most, environment, install, report, version_of
from drain_server import Sink, running

FEW, SOME, MANY = 10_000, 100_000, 1_000_000
FLOOR, PYTHON, RECORD = "the launcher itself (floor)", "python -c pass", "rillevents record"
RAW, FLUSH = "rillevents record raw, {:,} lines", "rillevents flush, {:,} events"
BEFORE, AFTER = "a client, before it records", f"a client, after {SOME:,} records"
JQ, CURL = f"jq -c ., {SOME:,} lines", f"curl --data-binary, {MANY:,} lines"

# Built-in modules alone, and no site: whatever it imports is in the figure of everything that it starts.
LAUNCHER = """\
import posix, sys, time
told = int(sys.argv[1])
posix.set_inheritable(told, False)
started = time.perf_counter()
child = posix.posix_spawn(sys.argv[2], sys.argv[2:], posix.environ)
status, used = posix.wait4(child, 0)[1:]
took = time.perf_counter() - started
posix.write(told, b"%r %d %d" % (took, used.ru_maxrss, posix.waitstatus_to_exitcode(status)))
"""
CLIENT = """\
import resource, sys
from rillevents import Client
client = Client.from_config()
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for number in range(int(sys.argv[1])):
    client.record("behavioral", "login-start", {"plan": "pro", "number": number})
client.close()
print(before, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@dataclass(frozen=True)
class Measured:
    """What one process took, and what it printed."""

    seconds: float
    megabytes: float
    output: str


def megabytes(maxrss: int) -> float:
    """Return what the system says of a peak in millions of bytes; macOS says it in bytes, others in KiB."""
    return maxrss * (1 if sys.platform == "darwin" else 1024) / 1e6


def measured(words: Sequence[str], environ: Mapping[str, str]) -> Measured:
    """Run a command through the launcher, and return its time and its peak; raises SystemExit where it fails."""
    program = shutil.which(words[0])
    assert program, words[0]
    reads, writes = os.pipe()
    launch = [sys.executable, "-I", "-S", "-c", LAUNCHER, str(writes), program, *words[1:]]
    # What goes to stderr is caught: a progress bar on a terminal is no part of the job.
    done = subprocess.run(launch, env=environ, capture_output=True, text=True, pass_fds=[writes], check=True)
    os.close(writes)
    with os.fdopen(reads) as told:
        seconds, maxrss, code = told.read().split()
    if code != "0":
        raise SystemExit(f"{' '.join(words)[:200]} failed with exit code {code}: {done.stderr}")
    return Measured(float(seconds), megabytes(int(maxrss)), done.stdout)


@dataclass(frozen=True)
class Saved:
    """A home whose spool was filled once, and that is put back before each flush."""

    home: Path
    saved: Path

    @classmethod
    def filled(cls, script: str, file: Path, folder: Path, name: str) -> Saved:
        """Record all of *file* by `record raw`, and keep the home that this makes."""
        environ = environment(folder, name)
        subprocess.run([script, "record", "raw", "-q", "--on-error", "fail", file], env=environ, check=True)
        found = cls(folder / name, folder / f"{name}-saved")
        found.home.rename(found.saved)
        return found

    def restore(self, config: str = "") -> None:
        """Put the home back, with *config* as its config.toml."""
        shutil.rmtree(self.home, ignore_errors=True)
        # Copied, not linked: a flush that unlinks the last name of a file has more to do.
        shutil.copytree(self.saved, self.home)
        (self.home / "config.toml").write_text(config)
        for path in self.home.rglob("*.ndjson"):
            # On the disk before the clock starts, not while it runs.
            with path.open("rb") as file:
                os.fsync(file.fileno())


@dataclass
class Peaks:
    """The installed programs, and what was lost in their turns."""

    python: str
    script: str
    folder: Path
    sink: Sink
    missing: list[int] = field(default_factory=list)

    def command(self, *words: str) -> Callable[[], float]:
        """Return a turn of a command that leaves nothing to look at."""
        return lambda: measured(words, environment(self.folder)).megabytes

    def recorded(self, events: int, *words: str, home: str = "recorded") -> Callable[[], float]:
        """Return a turn of a command that stores so many events, which are counted and deleted."""

        def run() -> float:
            peak = measured(words, environment(self.folder, home)).megabytes
            self.missing.append(events - stored(self.folder / home)[0])
            shutil.rmtree(self.folder / home, ignore_errors=True)
            return peak

        return run

    def flushed(self, events: int, file: Path) -> Callable[[], float]:
        """Return a turn of `flush` that has so many events to deliver."""
        saved = Saved.filled(self.script, file, self.folder, f"spool-{events}")
        environ = environment(self.folder, saved.home.name) | {"RILLEVENTS_INTAKE_URL": self.sink.url("count")}
        flush = self.sent(events, self.script, "flush", "-q", environ=environ)

        def run() -> float:
            saved.restore()
            return flush()

        return run

    def sent(self, events: int, *words: str, environ: Mapping[str, str] | None = None) -> Callable[[], float]:
        """Return a turn of a command that sends so many events to the sink."""

        def run() -> float:
            peak = measured(words, environ or environment(self.folder)).megabytes
            self.missing.append(events - self.sink.taken().events)
            return peak

        return run

    def client(self) -> Callable[[], tuple[float, float]]:
        """Return a turn of a program that records for long: its peaks before and after, as it sees them itself."""
        environ = environment(self.folder, "client")

        def run() -> tuple[float, float]:
            before, after = map(int, measured([self.python, "-c", CLIENT, str(SOME)], environ).output.split())
            self.missing.append(SOME - stored(self.folder / "client")[0])
            shutil.rmtree(self.folder / "client", ignore_errors=True)
            return megabytes(before), megabytes(after)

        return run


def commands(peaks: Peaks) -> dict[str, Callable[[], float]]:
    """Return all that is measured, by the names of its rows."""
    files = {lines: write_events(peaks.folder / f"{lines}.ndjson", lines) for lines in (FEW, SOME, MANY)}
    script = peaks.script
    runs = {
        PYTHON: peaks.command(peaks.python, "-c", "pass"),
        FLOOR: peaks.command("true"),
        RECORD: peaks.recorded(1, script, "record", "behavioral", "login-start", "-a", "plan=pro"),
    }
    for lines in (SOME, MANY):
        runs[RAW.format(lines)] = peaks.recorded(lines, script, "record", "raw", str(files[lines]))
    for events in (FEW, MANY):
        runs[FLUSH.format(events)] = peaks.flushed(events, files[events])
    if shutil.which("jq"):
        runs[JQ] = peaks.command("jq", "-c", ".", str(files[SOME]))
    if shutil.which("curl"):
        runs[CURL] = peaks.sent(MANY, "curl", "-s", "--data-binary", f"@{files[MANY]}", peaks.sink.url("count"))
    return runs


def main() -> int:
    """Measure, and print the table."""
    assert __doc__
    options = arguments(__doc__, 3)
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        python, script = install(folder)
        with running(python) as sink:
            peaks = Peaks(python, script, folder, sink)
            table = Table("peak resident size", "MB", PYTHON)
            table.measure(commands(peaks), options.rounds)
            client = peaks.client()
            for before, after in [client() for _ in range(options.rounds)]:
                table.add(BEFORE, before)
                table.add(AFTER, after)
        versions = {"python": version_of(python, "--version").split()[1]}
    if shutil.which("jq"):
        versions["jq"] = version_of("jq", "--version")
    if shutil.which("curl"):
        versions["curl"] = version_of("curl", "--version").split()[1]
    flushes = [FLUSH.format(events) for events in (FEW, MANY)]
    goals = [at_most("`record`, peak memory", "≤ 15 MB", max(table.samples[RECORD]), 15, "MB")]
    for row in flushes:
        goals.append(
            at_most(
                f"{row.replace('rillevents flush,', '`flush` of')}, peak memory",
                "≤ 80 MB",
                max(table.samples[row]),
                80,
                "MB",
            )
        )
    growth = table.ratio(flushes[1], flushes[0])
    counted = [
        f"{len(peaks.missing)} turns that recorded or delivered looked at, {sum(map(abs, peaks.missing))} events missing",
        f"a flush of {MANY:,} events takes {growth:.2f} × the memory of one of {FEW:,}",
    ]
    report([table], goals, counted, versions, options)
    return int(any(peaks.missing))


if __name__ == "__main__":
    sys.exit(main())
