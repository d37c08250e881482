"""An HTTP sink on 127.0.0.1, as a process of its own, that takes bodies faster than anybody here sends them.

    python tests/benchmarks/drain_server.py

It prints its port and stays until its stdin ends. `POST /count` counts lines while they come and throws them away; `POST /keep`
keeps the bodies as they are, so that it is only when somebody asks, after the clock has stopped, that they are decompressed and
looked at one by one. `POST /otlp/v1/logs` counts the log records of OTLP. `GET /` says what arrived since the last
time, and forgets it; `GET /has/NUMBER` waits a while for so many events, says whether they are there, and forgets nothing.
"""

from __future__ import annotations

import http.client
import json
import re
import socketserver
import subprocess
import sys
import threading
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, cast

READ_BYTES = 1 << 20
EVENT_ID = re.compile(rb'^\{"event_id":"([^"]+)"', re.MULTILINE)
OTLP_PATH = "/otlp/v1/logs"
# What a log record of each event here holds once, in protobuf and in JSON: in its body, the line as it was, or as an attribute's key.
EVENT_MARK = b"event_id"
WAIT_SECONDS = 2.0


@dataclass
class Arrived:
    """What came in; *distinct* event IDs are known of kept bodies alone."""

    requests: int = 0
    bytes: int = 0
    events: int = 0
    distinct: int = 0


@dataclass
class Drain:
    """What the connections share."""

    arrived: Arrived = field(default_factory=Arrived)
    kept: list[tuple[bytes, str]] = field(default_factory=list)
    lock: threading.Condition = field(default_factory=threading.Condition)
    awaited: int = 0

    def add(self, size: int, events: int) -> None:
        """Note a body of *size* bytes; the caller holds the lock."""
        self.arrived.requests += 1
        self.arrived.bytes += size
        self.arrived.events += events
        # At the last event alone: waking somebody at each request would cost the sender time.
        if 0 < self.awaited <= self.arrived.events:
            self.lock.notify_all()

    def has(self, events: int) -> bool:
        """Wait a while for so many events, and return whether they arrived."""
        with self.lock:
            self.awaited = events
            found = self.lock.wait_for(lambda: self.arrived.events >= events, WAIT_SECONDS)
            self.awaited = 0
        return found

    def taken(self) -> Arrived:
        """Return what arrived since the last time, the kept bodies looked at."""
        with self.lock:
            arrived, self.arrived = self.arrived, Arrived()
            kept, self.kept = self.kept, []
        ids: set[bytes] = set()
        for body, encoding in kept:
            plain = decoded(body, encoding)
            arrived.events += plain.count(b"\n")
            ids.update(EVENT_ID.findall(plain))
        arrived.distinct = len(ids)
        return arrived


def decoded(body: bytes, encoding: str) -> bytes:
    """Return what a body was before it was compressed."""
    if encoding == "gzip":
        return zlib.decompress(body, 31)
    if encoding == "zstd":
        import zstandard

        return zstandard.ZstdDecompressor().decompress(body)
    return body


class Server(socketserver.ThreadingTCPServer):
    """Listens on a port that is free."""

    daemon_threads = True
    allow_reuse_address = True
    # Benthos may have 64 requests in flight. A connection that finds the queue full, by default at 5, tries again after a second.
    request_queue_size = 128

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Connection)
        self.drain = Drain()


class Connection(socketserver.StreamRequestHandler):
    """One connection, kept for as many requests as its client has."""

    # Else an answer waits for the client's delayed ACK, 40 ms of each request.
    disable_nagle_algorithm = True

    def handle(self) -> None:
        """Answer until the client hangs up."""
        self.drain = cast(Server, self.server).drain
        self.buffer = bytearray(READ_BYTES)
        while line := self.rfile.readline():
            method, path, _ = line.decode().split()
            headers = dict(self._headers())
            if method == "GET":
                found = self.drain.has(int(path[5:])) if path.startswith("/has/") else asdict(self.drain.taken())
                self._answer(json.dumps(found).encode())
                continue
            if headers.get("expect") == "100-continue":
                # curl asks before it sends a large body, and waits a second for the answer.
                self.wfile.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            self._take(path, int(headers["content-length"]), headers.get("content-encoding", ""))
            self._answer(b"", b"Content-Type: application/x-protobuf\r\n" if path == OTLP_PATH else b"")

    def _headers(self) -> Iterator[tuple[str, str]]:
        while line := self.rfile.readline().strip():
            name, _, value = line.decode().partition(":")
            yield name.lower(), value.strip().lower()

    def _take(self, path: str, size: int, encoding: str) -> None:
        lines = 0
        if path == "/keep":
            body = self.rfile.read(size)
        elif path == OTLP_PATH:
            lines = self.rfile.read(size).count(EVENT_MARK)
        else:
            lines = self._count(size)
        with self.drain.lock:
            self.drain.add(size, lines)
            if path == "/keep":
                self.drain.kept.append((body, encoding))

    def _count(self, left: int) -> int:
        lines = 0
        with memoryview(self.buffer) as view:
            while left and (size := self.rfile.readinto(view[: min(left, READ_BYTES)])):
                lines += self.buffer.count(b"\n", 0, size)
                left -= size
        return lines

    def _answer(self, body: bytes, header: bytes = b"") -> None:
        self.wfile.write(b"HTTP/1.1 200 OK\r\n%bContent-Length: %d\r\n\r\n%b" % (header, len(body), body))


@dataclass(frozen=True)
class Sink:
    """The sink as those see it who send to it."""

    port: int

    def url(self, path: str) -> str:
        """Return where to send to: `count`, `keep` or `otlp/v1/logs`."""
        return f"http://127.0.0.1:{self.port}/{path}"

    def taken(self) -> Arrived:
        """Return what arrived since the last time."""
        return Arrived(**self._got("/"))

    def has(self, events: int) -> bool:
        """Wait a while for so many events, and return at once when the last of them arrives; False if some are missing yet."""
        return bool(self._got(f"/has/{events}"))

    def _got(self, path: str) -> Any:
        connection = http.client.HTTPConnection("127.0.0.1", self.port)
        connection.request("GET", path)
        answer = connection.getresponse().read()
        connection.close()
        return json.loads(answer)


@contextmanager
def running(python: str) -> Iterator[Sink]:
    """Run the sink in a process of its own, by a Python that has zstandard if zstd is to be sent."""
    words = [python, str(Path(__file__))]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout
        yield Sink(int(process.stdout.readline()))
        # The end of `with` closes its stdin, and that ends it.


def main() -> None:
    """Say which port it is, and serve until stdin ends."""
    server = Server()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(server.server_address[1], flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
