"""Where the libraries send to: an HTTP server on 127.0.0.1 that keeps what it is sent and looks at it only when asked.

    python tests/benchmarks/sink.py

Prints its port. For each line on stdin it prints what has come since the last one, as JSON; it ends with its stdin. While
events come it does as little as a server can: no parsing, no decompression, one answer for all, so that it is no bottleneck.
"""

from __future__ import annotations

import json
import re
import sys
import threading
import time
import zlib
from collections.abc import Iterable
from socketserver import StreamRequestHandler, ThreadingTCPServer
from typing import Any

# Mixpanel's client insists on a status of 1; to all others the status line is enough.
BODY = b'{"status":1}'
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (len(BODY), BODY)
# In JSON, in a form and in protobuf alike an event has its number in it exactly once, in an attribute of the call's own.
NUMBER = re.compile(rb"call-(\d{7})")
GZIP = b"\x1f\x8b"
# So long the connections of a process that has ended may take to be seen as closed.
PATIENCE = 30


class Sink(ThreadingTCPServer):
    """Keeps each body, and when it had arrived."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Taking)
        self.arrivals: list[tuple[float, bytes]] = []
        self._open = 0
        self._changed = threading.Condition()

    def process_request(self, request: Any, client_address: Any) -> None:
        """Count the connection as open."""
        with self._changed:
            self._open += 1
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        """Count it as closed."""
        super().shutdown_request(request)
        with self._changed:
            self._open -= 1
            self._changed.notify_all()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: a client that leaves in the midst of a request loses it, and that is seen by the count."""

    def taken(self) -> dict[str, float]:
        """Return what has come since the last time, once nobody is connected any more."""
        with self._changed:
            if not self._changed.wait_for(lambda: not self._open, PATIENCE):
                raise TimeoutError(f"{self._open} connections are still open")
        arrivals, self.arrivals = self.arrivals, []
        # By bodies with events, not by the last: some libraries have something to say about themselves at the end.
        last = max((when for when, body in arrivals if numbers(body)), default=0.0)
        size = sum(len(body) for _, body in arrivals)
        return {"requests": len(arrivals), "bytes": size, "last": last, **count(body for _, body in arrivals)}


class Taking(StreamRequestHandler):
    """One connection, kept alive for as long as the client wants."""

    disable_nagle_algorithm = True
    rbufsize = 1 << 16
    server: Sink

    def handle(self) -> None:
        """Keep the bodies, and answer each."""
        while self.rfile.readline():
            size = 0
            while (header := self.rfile.readline()) not in (b"\r\n", b""):
                if header[:15].lower() == b"content-length:":
                    size = int(header[15:])
            body = self.rfile.read(size)
            if len(body) < size:
                return
            self.server.arrivals.append((time.monotonic(), body))
            self.connection.sendall(ANSWER)


def numbers(body: bytes) -> list[bytes]:
    """Return the numbers of all events in a body or a file, compressed or not."""
    return NUMBER.findall(zlib.decompress(body, 31) if body.startswith(GZIP) else body)


def count(bodies: Iterable[bytes]) -> dict[str, int]:
    """Return how many different events there are, and how many more than once."""
    found = [number for body in bodies for number in numbers(body)]
    events = len(set(found))
    return {"events": events, "again": len(found) - events}


def main() -> int:
    """Serve until stdin ends."""
    with Sink() as sink:
        threading.Thread(target=sink.serve_forever, daemon=True).start()
        print(sink.server_address[1], flush=True)
        for _ in sys.stdin:
            print(json.dumps(sink.taken()), flush=True)
        sink.shutdown()
    return 0


if __name__ == "__main__":
    sys.exit(main())
