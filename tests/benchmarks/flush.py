"""What `flush` of a million spooled events takes, beside curl with one body, and beside compressing and discarding.

    python tests/benchmarks/flush.py [ROUNDS] [--save]

Builds the wheel of this checkout, installs it into a plain venv together with zstandard, and lets the installed console script
and its peers send to a sink on 127.0.0.1 (drain_server.py) in turn, each as a process of its own, timed from its start to its
end. The spool is filled once and put back before each turn. Every event has to arrive in every turn, and where the bodies are
kept (a first flush of each kind, and all compressed ones) each under an ID of its own. Exit code 1 where one is missing; else it
decides nothing.
"""

from __future__ import annotations

import json
import shutil
import statistics
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from bulk import LINES, write_events
from common import Goal, Table, arguments, at_least, at_most, environment, install, report, version_of
from drain_server import Sink, running
from memory import Saved, measured

FLUSH, OWN = "rillevents flush", "rillevents flush, as it says itself"
CURL, SOCKET = "curl --data-binary @FILE", "a bare socket, bodies as flush's"
# What stands in the way: the HTTP library that flush uses, with nothing to read, to check or to remember beside it.
HTTPX = "httpx alone, bodies as flush's"
COMPRESSIONS = ("gzip", "zstd")

SOCKET_LOOP = """\
import socket, sys
size = int(sys.argv[3])
with open(sys.argv[1], "rb") as file, socket.create_connection(("127.0.0.1", int(sys.argv[2]))) as connection:
    while body := file.read(size):
        connection.sendall(b"POST /count HTTP/1.1\\r\\nContent-Length: %d\\r\\n\\r\\n" % len(body) + body)
        answer = b""
        while not answer.endswith(b"\\r\\n\\r\\n"):
            answer += connection.recv(1024)
"""
HTTPX_LOOP = """\
import sys, httpx
url, size = sys.argv[2], int(sys.argv[3])
with open(sys.argv[1], "rb") as file, httpx.Client(trust_env=False, verify=False) as client:
    while body := file.read(size):
        client.post(url, content=body)
"""
# The same calls as those of rillevents/batch.py, and nothing else.
COMPRESS_LOOP = """\
import sys
size, encoding = int(sys.argv[2]), sys.argv[3]
if encoding == "gzip":
    import zlib
    encode = lambda body: zlib.compress(body, 1, 31)
else:
    import zstandard
    encode = lambda body: zstandard.ZstdCompressor().compress(body)
with open(sys.argv[1], "rb") as file:
    while body := file.read(size):
        encode(body)
"""


@dataclass
class Flushes:
    """Flushes of one kind: how long each took by its own account, its peak of memory, and what was missing at the sink."""

    script: str
    saved: Saved
    sink: Sink
    environ: Mapping[str, str]
    compression: str
    own: list[float] = field(default_factory=list)
    peaks: list[float] = field(default_factory=list)
    missing: list[int] = field(default_factory=list)
    requests: int = 0
    bytes: int = 0

    def run(self, path: str) -> float:
        """Put the spool back and flush it; *path*: whether the sink shall `keep` the bodies or `count` lines."""
        self.saved.restore(f'[flush]\ncompression = "{self.compression}"\n')
        environ = {**self.environ, "RILLEVENTS_INTAKE_URL": self.sink.url(path)}
        done = measured([self.script, "flush", "--json"], environ)
        arrived, told = self.sink.taken(), json.loads(done.output)
        self.own.append(told["seconds"])
        self.peaks.append(done.megabytes)
        came = min(arrived.events, told["delivered"], *([arrived.distinct] if path == "keep" else []))
        # More than there were is wrong as well: nothing broke here that could have made a flush send an event twice.
        self.missing.append(abs(LINES - came) + max(0, arrived.events - LINES) + told["pending"])
        self.requests, self.bytes = arrived.requests, arrived.bytes
        return done.seconds


@dataclass
class Bench:
    """The installed programs, the file, the sink, and what each comparison came to."""

    python: str
    script: str
    folder: Path
    file: Path
    sink: Sink
    saved: Saved
    rounds: int
    flushes: dict[str, Flushes] = field(default_factory=dict)
    missing: list[int] = field(default_factory=list)

    def begin(self, compression: str) -> Flushes:
        """Flush once, to see that every event arrives under its own ID, and in how many bodies."""
        environ = environment(self.folder, self.saved.home.name)
        flushes = Flushes(self.script, self.saved, self.sink, environ, compression)
        flushes.run("keep")
        self.flushes[compression] = flushes
        return flushes

    def plain(self) -> Table:
        """Measure without compression."""
        flushes = self.begin("none")
        size = str(self.file.stat().st_size // flushes.requests)
        runs = {
            FLUSH: lambda: flushes.run("count"),
            SOCKET: self._sender(self.python, "-I", "-c", SOCKET_LOOP, str(self.file), str(self.sink.port), size),
        }
        runs[HTTPX] = self._sender(self.python, "-I", "-c", HTTPX_LOOP, str(self.file), self.sink.url("count"), size)
        if shutil.which("curl"):
            runs[CURL] = self._sender("curl", "-sS", "--data-binary", f"@{self.file}", self.sink.url("count"))
        return self._table("uncompressed", CURL if CURL in runs else SOCKET, runs, flushes)

    def compressed(self, compression: str) -> Table:
        """Measure with compression."""
        flushes = self.begin(compression)
        size = str(self.file.stat().st_size // flushes.requests)
        words = [self.python, "-c", COMPRESS_LOOP, str(self.file), size, compression]
        alone = alone_row(compression)
        # Kept, not counted: the sink would have to decompress for that, and they are small.
        runs = {
            FLUSH: lambda: flushes.run("keep"),
            alone: lambda: measured(words, environment(self.folder)).seconds,
        }
        return self._table(compression, alone, runs, flushes)

    def _table(self, name: str, base: str, runs: dict[str, Callable[[], float]], flushes: Flushes) -> Table:
        size = self.file.stat().st_size / 1e6
        table = Table(f"flush: {LINES:,} events, {size:.0f} MB, {name}, the whole process", "s", base)
        table.measure(runs, self.rounds)
        for seconds in flushes.own[-self.rounds :]:
            table.add(OWN, seconds)
        return table

    def _sender(self, *words: str) -> Callable[[], float]:
        def run() -> float:
            done = measured(words, environment(self.folder))
            self.missing.append(LINES - self.sink.taken().events)
            return done.seconds

        return run

    def counted(self) -> list[str]:
        """Return what arrived, and how: a line for each kind of flush."""
        return [
            f"{name}: {len(found.missing)} flushes of {LINES:,} events, {sum(found.missing)} missing or not distinct; "
            f"{found.requests} requests, {found.bytes / 1e6:.0f} MB; peak memory {statistics.median(found.peaks):.1f} MB"
            for name, found in self.flushes.items()
        ]


def alone_row(compression: str) -> str:
    """Return the name of the row of a compressor that has nothing else to do."""
    return f"{compression} alone, discarded"


def goals_of(tables: Mapping[str, Table], peak: float) -> list[Goal]:
    """Return what was wanted of throughput: theirs over ours, because the tables hold seconds."""
    goals = []
    if CURL in tables["none"].samples:
        ratio = tables["none"].ratio(CURL, FLUSH)
        goals.append(at_least(f"`flush` of {LINES:,} events", "≥ 0.6 × `curl --data-binary @file`", ratio, 0.6))
    for name in COMPRESSIONS:
        ratio = tables[name].ratio(alone_row(name), FLUSH)
        goals.append(at_least(f"`flush` with {name}", f"≥ 0.8 × {name} alone, discarded", ratio, 0.8))
    goals.append(at_most(f"`flush` of {LINES:,} events, peak memory", "≤ 80 MB", peak, 80, "MB"))
    return goals


def main() -> int:
    """Measure, and print the tables."""
    assert __doc__
    options = arguments(__doc__, 3)
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        python, script = install(folder, "zstandard")
        versions = {"python": version_of(python, "--version").split()[1]}
        versions["zstandard"] = version_of(python, "-c", "import zstandard; print(zstandard.__version__)")
        if shutil.which("curl"):
            versions["curl"] = version_of("curl", "--version").split()[1]
        file = write_events(folder / "events.ndjson", LINES)
        saved = Saved.filled(script, file, folder, "home")
        with running(python) as sink:
            bench = Bench(python, script, folder, file, sink, saved, options.rounds)
            tables = {"none": bench.plain()} | {name: bench.compressed(name) for name in COMPRESSIONS}
    peak = max(max(flushes.peaks) for flushes in bench.flushes.values())
    missing = bench.missing + [count for flushes in bench.flushes.values() for count in flushes.missing]
    report(list(tables.values()), goals_of(tables, peak), bench.counted(), versions, options)
    return int(any(missing))


if __name__ == "__main__":
    sys.exit(main())
