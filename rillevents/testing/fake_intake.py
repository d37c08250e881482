"""A real, scriptable intake on 127.0.0.1, for the demo, our tests and other people's."""

from __future__ import annotations

import base64
import io
import json
import socket
import sys
import threading
import zlib
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer
from types import TracebackType
from typing import Any, TypeAlias, cast

_POLL = 0.02
_GRACE = 2.0


@dataclass(frozen=True, slots=True)
class Response:
    """An answer of the intake; a Content-Length is added."""

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Request:
    """A request to the intake: headers by their lower-case names, the body decompressed."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes
    authorized: bool

    @property
    def lines(self) -> list[bytes]:
        """The body's lines, each with its newline."""
        return io.BytesIO(self.body).readlines()


Reply: TypeAlias = Response | int
Script: TypeAlias = Reply | Callable[[Request], Reply]


class FakeIntake:
    """Listens inside `with`; keeps accepted events in `events` and `lines`, and all requests in `requests`.

    Each request takes the next reply from `script`: a `Response`, a status, or a callable that gets the `Request`. When it
    is empty, `respond` replies, or else 200. With `user`, wrong credentials get 401 and do not use up the script.
    Requests are handled on threads of their own; read the lists after the sender has finished.
    """

    def __init__(self, user: str | None = None, password: str | None = None) -> None:
        self.events: list[dict[str, Any]] = []
        self.lines: list[bytes] = []
        self.requests: list[Request] = []
        self.script: deque[Script] = deque()
        self.respond: Callable[[Request], Reply] | None = None
        self._expected = None if user is None else _basic(user, password or "")
        self._lock = threading.Lock()
        self._server: _Server | None = None
        self._thread: threading.Thread | None = None

    def __enter__(self) -> FakeIntake:
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.intake = self
        self._thread = threading.Thread(target=self._server.serve_forever, args=(_POLL,), daemon=True)
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._server is not None and self._thread is not None:
            self._server.shutdown()
            self._thread.join()
            self._server.hang_up()
            self._server.server_close()

    @property
    def url(self) -> str:
        """The URL to post to; raises RuntimeError before `with`."""
        if self._server is None:
            raise RuntimeError("a FakeIntake only listens inside `with`")
        return f"http://127.0.0.1:{self._server.server_port}/events/default"

    def authorizes(self, header: str) -> bool:
        """Whether this Authorization is correct, or none is required."""
        return self._expected is None or header == self._expected

    def reply_to(self, request: Request) -> Response:
        """Record a request and return the answer; for a 2xx its lines are stored, except rejected ones."""
        with self._lock:
            self.requests.append(request)
            script = self._next(request)
        reply = script(request) if callable(script) else script
        response = Response(reply) if isinstance(reply, int) else reply
        if request.method == "POST" and 200 <= response.status < 300:
            self._store(request, _rejected(response))
        return response

    def _next(self, request: Request) -> Script:
        if not request.authorized:
            return 401
        if self.script:
            return self.script.popleft()
        return self.respond or _default

    def _store(self, request: Request, rejected: set[int]) -> None:
        lines = [line for number, line in enumerate(request.lines, 1) if number not in rejected]
        events = [json.loads(line) for line in lines]
        with self._lock:
            self.lines += lines
            self.events += events


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128
    intake: FakeIntake

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler]) -> None:
        super().__init__(address, handler)
        self._open: set[socket.socket] = set()
        self._changed = threading.Condition()

    def server_bind(self) -> None:
        # Skip HTTPServer's own: it asks DNS for the name of the address, and may wait for that.
        TCPServer.server_bind(self)
        self.server_name, self.server_port = "127.0.0.1", self.socket.getsockname()[1]

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        with self._changed:
            self._open.add(request)
        try:
            super().process_request_thread(request, client_address)
        finally:
            with self._changed:
                self._open.discard(request)
                self._changed.notify_all()

    def hang_up(self) -> None:
        # Close every connection, not only the listening socket: an idle one would keep its thread and its socket.
        with self._changed:
            for connection in self._open:
                try:
                    connection.shutdown(socket.SHUT_RDWR)
                except OSError:
                    continue
            self._changed.wait_for(lambda: not self._open, _GRACE)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Print nothing: tests expect clients that go away."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_POST(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length)
        if len(body) < length:
            self.close_connection = True
            return
        headers = {name.lower(): value for name, value in self.headers.items()}
        intake = cast(_Server, self.server).intake
        authorized = intake.authorizes(headers.get("authorization", ""))
        try:
            plain = _decoded(body, headers.get("content-encoding", ""))
            request = Request(self.command, self.path, headers, plain, authorized)
            response = intake.reply_to(request)
        except ValueError as error:
            response = Response(400, str(error).encode())
        self._answer(response)

    do_GET = do_PUT = do_DELETE = do_HEAD = do_OPTIONS = do_POST

    def _answer(self, response: Response) -> None:
        bodiless = response.status in (204, 304)
        headers = {} if bodiless else {"Content-Length": str(len(response.body))}
        self.send_response(response.status)
        for name, value in {**headers, **response.headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if not bodiless and self.command != "HEAD":
            self.wfile.write(response.body)

    def log_message(self, format: str, *args: Any) -> None:
        """Print nothing."""


def _default(request: Request) -> Reply:
    if request.method != "POST":
        return Response(405, b"", {"Allow": "POST"})
    if not request.path.startswith("/events/"):
        return 404
    for line in request.lines:
        json.loads(line)
    return 200


def _basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode("ascii")


def _rejected(response: Response) -> set[int]:
    try:
        return {entry["line"] for entry in json.loads(response.body)["rejected"]}
    except (ValueError, LookupError, TypeError):
        return set()


def _decoded(body: bytes, encoding: str) -> bytes:
    if encoding in ("", "identity"):
        return body
    try:
        if encoding == "gzip":
            return zlib.decompress(body, 31)
        if encoding == "zstd":
            return _unzstd(body)
    except Exception as error:
        raise ValueError(f"the body is not valid {encoding}: {error}") from error
    raise ValueError(f"unknown encoding: {encoding}")


def _unzstd(body: bytes) -> bytes:
    if sys.version_info >= (3, 14):
        try:
            from compression import zstd
        except ImportError:  # a Python that was built without it
            pass
        else:
            return zstd.decompress(body)
    import zstandard

    found: bytes = zstandard.ZstdDecompressor().decompressobj().decompress(body)
    return found
