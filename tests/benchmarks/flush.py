"""What `flush` of a million spooled events takes, beside a naive loop, curl, other shippers, and compressing alone.

    python tests/benchmarks/flush.py [ROUNDS] [--save] [--collector FILE] [--benthos FILE]

Builds the wheel of this checkout, installs it into a plain venv together with zstandard, and lets the installed console script
and its peers send to a sink on 127.0.0.1 (drain_server.py) in turn, each as a process of its own, timed from its start to its
end. The spool is filled once and put back before each turn. An OpenTelemetry Collector and a Benthos take part where their
programs are given (peers_go.sh builds them); a Collector never ends, and is timed until its last event arrives. Every event has
to arrive in every turn, from the peers as well, and where the bodies are kept (a first flush of each kind, and all compressed
ones) each under an ID of its own. Exit code 1 where one is missing; else it decides nothing.
"""

from __future__ import annotations

import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bulk import DECODE, LINES, write_events
from common import Goal, Table, arguments, at_least, at_most, environment, install, report, version_of
from drain_server import Sink, running
from memory import Saved, measured

FLUSH, OWN = "rillevents flush", "rillevents flush, as it says itself"
CURL, SOCKET = "curl --data-binary @FILE", "a bare socket, bodies as flush's"
# What stands in the way: the HTTP library that flush uses, with nothing to read, to check or to remember beside it.
HTTPX = "httpx alone, bodies as flush's"
NAIVE = "a naive loop: msgspec, http.client"
COLLECTOR, BENTHOS = "OpenTelemetry Collector, no queue", "Redpanda Benthos"
PROGRAMS = {
    "collector": "an OpenTelemetry Collector to compare with",
    "benthos": "a Redpanda Benthos to compare with",
}
# A Collector that has not sent everything by then never will.
COLLECTOR_SECONDS = 600
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
# What somebody writes who has to send this file once. The text is decoded as a whole, because the Decoder looks at the UTF-8 of
# the four fields alone.
NAIVE_LOOP = f"""\
import http.client, os, sys
{DECODE}
connection = http.client.HTTPConnection("127.0.0.1", int(sys.argv[2]))
log = os.open(sys.argv[3], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
rest, offset = b"", 0
with open(sys.argv[1], "rb") as file:
    while block := file.read(1 << 20):
        block = rest + block
        end = block.rfind(b"\\n") + 1
        body, rest = block[:end], block[end:]
        body.decode()
        for line in body.splitlines():
            decode(line)
        connection.request("POST", "/count", body)
        connection.getresponse().read()
        offset += end
        os.write(log, b"%d\\n" % offset)
"""
# Without a queue each answer is waited for before more is read, and 100 records are a request: no setting changes that. A queue
# in memory with batches is more than twice as quick, but what is in it counts as read and is lost with the process: another job
# than `flush` does. Protobuf is quicker than JSON, and a larger buffer for reading than the default.
COLLECTOR_CONFIG = """\
receivers:
  file_log:
    include: ["%(file)s"]
    start_at: beginning
    poll_interval: 10ms
    initial_buffer_size: 1MiB
    include_file_name: false
    operators: [%(operators)s]
exporters:
  otlp_http:
    logs_endpoint: "%(url)s"
    encoding: proto
    compression: none
    sending_queue: {enabled: false}
service:
  telemetry:
    metrics: {level: none}
    logs: {level: warn}
  pipelines:
    logs: {receivers: [file_log], exporters: [otlp_http]}
"""
# The archive has no newline after its last line, and the sink counts newlines.
BENTHOS_CONFIG = """\
http: {enabled: false}
logger: {level: WARN}
metrics: {none: {}}
input:
  file:
    paths: ["%(file)s"]
    scanner: {lines: {}}
output:
  http_client:
    url: "%(url)s"
    verb: POST
    batching:
      count: 1000
      processors:
        - archive: {format: lines}
        - mapping: root = content() + "\\n"
"""
# The same calls as those of rillevents/delivery/exporters/encoding.py, and nothing else.
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
    programs: Mapping[str, str]
    flushes: dict[str, Flushes] = field(default_factory=dict)
    missing: list[int] = field(default_factory=list)
    requests: dict[str, int] = field(default_factory=dict)

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
        file, port, url = str(self.file), str(self.sink.port), self.sink.url("count")
        size = str(self.file.stat().st_size // flushes.requests)
        python = (self.python, "-I", "-c")
        runs = {
            FLUSH: lambda: flushes.run("count"),
            NAIVE: self._sender(NAIVE, *python, NAIVE_LOOP, file, port, str(self.folder / "naive.log")),
            SOCKET: self._sender(SOCKET, *python, SOCKET_LOOP, file, port, size),
            HTTPX: self._sender(HTTPX, *python, HTTPX_LOOP, file, url, size),
        }
        if COLLECTOR in self.programs:
            config = self._config("collector.yaml", COLLECTOR_CONFIG, self.sink.url("otlp/v1/logs"))
            runs[COLLECTOR] = lambda: self._collector("--config", config)
        if BENTHOS in self.programs:
            runs[BENTHOS] = self._sender(
                BENTHOS, self.programs[BENTHOS], "run", self._config("benthos.yaml", BENTHOS_CONFIG, url)
            )
        if shutil.which("curl"):
            runs[CURL] = self._sender(CURL, "curl", "-sS", "--data-binary", f"@{file}", url)
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

    def _sender(self, row: str, *words: str) -> Callable[[], float]:
        def run() -> float:
            done = measured(words, environment(self.folder))
            self._look(row)
            return done.seconds

        return run

    def _collector(self, *words: str) -> float:
        seconds = collect(self.programs[COLLECTOR], words, self.sink, environment(self.folder))
        self._look(COLLECTOR)
        return seconds

    def _config(self, name: str, content: str, url: str) -> str:
        path = self.folder / name
        path.write_text(content % {"file": self.file, "url": url, "operators": ""})
        return str(path)

    def _look(self, row: str) -> None:
        """Note what a peer sent: more events than there were are as wrong as fewer."""
        arrived = self.sink.taken()
        self.missing.append(abs(LINES - arrived.events))
        self.requests[row] = arrived.requests

    def counted(self) -> list[str]:
        """Return what arrived, and how: a line for each kind of flush, and one for the peers."""
        requests = "; ".join(f"{count:,} by {row}" for row, count in self.requests.items())
        peers = f"peers: {len(self.missing)} turns of {LINES:,} events, {sum(self.missing)} missing or sent twice"
        return [
            f"{name}: {len(found.missing)} flushes of {LINES:,} events, {sum(found.missing)} missing or not distinct; "
            f"{found.requests} requests, {found.bytes / 1e6:.0f} MB; peak memory {statistics.median(found.peaks):.1f} MB"
            for name, found in self.flushes.items()
        ] + [peers, f"requests of the peers: {requests}"]


def collect(program: str, words: Sequence[str], sink: Sink, environ: Mapping[str, str]) -> float:
    """Let the Collector run until the sink has every event, and return how long that took; raises SystemExit."""
    started = time.perf_counter()
    with subprocess.Popen([program, *words], env=environ) as process:
        try:
            while not sink.has(LINES):
                if process.poll() is not None or time.perf_counter() - started > COLLECTOR_SECONDS:
                    raise SystemExit(f"the Collector sent {sink.taken().events:,} of {LINES:,} events")
            seconds = time.perf_counter() - started
            # The clock has stopped. The last answer is on its way, and without it the Collector would report an error.
            time.sleep(0.2)
        finally:
            process.terminate()
    # It has ended: nothing can arrive any more.
    return seconds


def alone_row(compression: str) -> str:
    """Return the name of the row of a compressor that has nothing else to do."""
    return f"{compression} alone, discarded"


def goals_of(tables: Mapping[str, Table], peak: float) -> list[Goal]:
    """Return what was wanted of throughput: theirs over ours, because the tables hold seconds; and of memory."""
    job, plain = f"`flush` of {LINES:,} events", tables["none"]
    # Ours over theirs, alone here: this one is about how much longer it takes.
    goals = [at_most(job, "≤ 1.1 × a naive loop (1 MiB, msgspec, http.client)", plain.ratio(FLUSH, NAIVE), 1.1)]
    for row, goal, bound in (
        (CURL, "≥ 0.3 × `curl --data-binary @file`", 0.3),
        (COLLECTOR, f"≥ 2.5 × {COLLECTOR}", 2.5),
        (BENTHOS, f"≥ 8 × {BENTHOS}", 8),
    ):
        if row in plain.samples:
            goals.append(at_least(job, goal, plain.ratio(row, FLUSH), bound))
    for name in COMPRESSIONS:
        ratio = tables[name].ratio(alone_row(name), FLUSH)
        goals.append(at_least(f"`flush` with {name}", f"≥ 0.9 × {name} alone, discarded", ratio, 0.9))
    goals.append(at_most(f"{job}, peak memory", "≤ 80 MB", peak, 80, "MB"))
    return goals


def main() -> int:
    """Measure, and print the tables."""
    assert __doc__
    options = arguments(__doc__, 3, PROGRAMS)
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        python, script = install(folder, "zstandard")
        versions = {"python": version_of(python, "--version").split()[1]}
        versions["zstandard"] = version_of(python, "-c", "import zstandard; print(zstandard.__version__)")
        if shutil.which("curl"):
            versions["curl"] = version_of("curl", "--version").split()[1]
        given = {COLLECTOR: options.collector, BENTHOS: options.benthos}
        programs = {row: program for row, program in given.items() if program}
        for row, program in programs.items():
            versions[row.partition(",")[0]] = version_of(program, "--version").split()[-1].removeprefix("v")
        file = write_events(folder / "events.ndjson", LINES)
        saved = Saved.filled(script, file, folder, "home")
        with running(python) as sink:
            bench = Bench(python, script, folder, file, sink, saved, options.rounds, programs)
            tables = {"none": bench.plain()} | {name: bench.compressed(name) for name in COMPRESSIONS}
    peak = max(max(flushes.peaks) for flushes in bench.flushes.values())
    missing = bench.missing + [count for flushes in bench.flushes.values() for count in flushes.missing]
    report(list(tables.values()), goals_of(tables, peak), bench.counted(), versions, options)
    return int(any(missing))


if __name__ == "__main__":
    sys.exit(main())
