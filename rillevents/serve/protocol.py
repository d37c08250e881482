"""uvicorn's HTTP protocol, made safe for untrusted clients: with deadlines, with caps, and without ambiguous requests.

Theory of operation. Each connection notes its phase, and when that began; the server checks all connections once a second
(`sweep`). A timer for each request would cost a tenth of a small request.

    HEAD  a new connection, or the first byte of a request → the headers' end      BODY  → the body's end
    BUSY  → the answer's end                                                       IDLE  → the next request
    LINGER  an answer was sent before its request had ended → the client has closed its side, and receives the answer

Answers come in the order of the requests: malformed HTTP is answered after all requests before it.
"""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import httptools
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from rillevents.serve.limits import (
    BODY_BYTES_A_SECOND,
    MAX_CONNECTIONS,
    MAX_DRAINED_BYTES,
    MAX_HEAD_BYTES,
    MAX_HEADERS,
    RETRY_AFTER_SECONDS,
    Deadlines,
)
from rillevents.serve.metrics import Metrics

HEAD, BODY, BUSY, IDLE, LINGER = range(5)
# How much is parsed at a time, and how many requests may wait: a parsed request is a hundred times as large as its bytes.
_PIECE = 8 << 10
_MOST_WAITING = 16
_ANSWER = "HTTP/1.1 {}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n{}connection: close\r\n\r\n{}"
_INTERIM = b"HTTP/1.1 1"
_BAD = "400 Bad Request"
_TOO_LARGE = ("431 Request Header Fields Too Large", "the headers are too large")
# Headers that identify the client or frame the request: two of one kind mean different requests to different readers.
_ONCE = frozenset((b"host", b"origin", b"authorization", b"content-length", b"content-encoding", b"transfer-encoding"))


class _Flow(FlowControl):
    """Stops reading while enough requests are waiting, also when uvicorn asks to resume."""

    enough = False

    def resume_reading(self) -> None:
        if not self.enough:
            super().resume_reading()


class GuardedProtocol(HttpToolsProtocol):
    """One connection."""

    max_connections = MAX_CONNECTIONS
    deadlines = Deadlines()
    metrics: Metrics

    phase = HEAD
    since = 0.0
    # Whether nothing more is parsed, and the answer to that once all requests before it are answered.
    _refused = False
    _refusal = b""
    # Whether a request has begun whose headers have not ended yet.
    _begun = False
    # Whether the client has closed its side, and what it sent that is not parsed yet.
    _ended = False
    _unread = b""
    # The head of an answer, held until its body comes.
    _held = b""
    # Bytes since the last progress (a head, or a piece of a body), and all bytes of a body with its framing.
    _idle = _body = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Accept the connection; if there are too many, evict the one that has been idle longest."""
        super().connection_made(transport)
        self.flow = _Flow(transport)
        self.since = self.loop.time()
        self._leaving = SimpleNamespace(write=self._write, is_closing=transport.is_closing, close=self.close)
        self.metrics.connections += 1
        if len(self.connections) > self.max_connections:
            self._make_room()

    def _make_room(self) -> None:
        now = self.loop.time()
        while len(self.connections) > self.max_connections:
            others = [each for each in self.connections if each is not self and each.may_go(now)]  # type: ignore[union-attr]
            if not others:
                self.refuse(
                    "503 Service Unavailable", "too many connections", f"retry-after: {RETRY_AFTER_SECONDS}\r\n"
                )
                return
            # Evict the oldest, not the newest: a client that holds a thousand open must not shut out later ones.
            min(others, key=lambda other: other.since).abort("evicted")  # type: ignore[union-attr]

    def may_go(self, now: float) -> bool:
        """Whether this connection may be evicted: nothing is in progress on it, or its body has been slow for long."""
        return self.phase in (HEAD, IDLE, LINGER) or (self.phase == BODY and now - self.since > self.deadlines.head)

    def abort(self, why: str) -> None:
        """Close the connection at once, whatever is in progress on it."""
        self.metrics.hung_up[why] += 1
        self.connections.discard(self)
        self.transport.abort()

    def refuse(self, status: str, reason: str, headers: str = "") -> None:
        """Answer an unacceptable request after those before it, and close."""
        body = f'{{"error":"{reason}"}}'
        self._refused, self._refusal = True, _ANSWER.format(status, len(body), headers, body).encode()
        if self.phase != BUSY:
            self._end()

    def _end(self) -> None:
        """Send the refusal, if any, and close."""
        cycle = self.cycle
        if self.transport.is_closing():
            return
        if cycle and not cycle.response_complete:
            # Wake a handler that waits for a body that will never be complete.
            cycle.disconnected = True
            cycle.message_event.set()
        if self._refusal:
            self.metrics.answers[int(self._refusal[9:12])] += 1
            self.transport.write(self._refusal)
            self._linger()
        else:
            self.transport.close()

    def _write(self, data: bytes) -> None:
        """Write like uvicorn, except that an answer's head is held and sent with its body: one system call, not two."""
        if not self._held and data.startswith(b"HTTP/1.1 ") and not data.startswith(_INTERIM):
            self._held = data
        else:
            held, self._held = self._held, b""
            self.transport.write(held + data if held else data)

    def _write_held(self) -> None:
        # The answer has no body.
        held, self._held = self._held, b""
        if held and not self.transport.is_closing():
            self.transport.write(held)

    def close(self) -> None:
        """Close; linger first if the client may still be sending."""
        self._write_held()
        if self.phase == BODY or self._begun or self.pipeline or self._unread:
            self._linger()
        else:
            self.transport.close()

    def _linger(self) -> None:
        # Not closed yet: closing with unread bytes resets the connection, and the answer is lost on its way.
        self.phase, self.since, self._body = LINGER, self.loop.time(), 0
        self.pipeline.clear()
        self._keep(b"")
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self.flow.resume_reading()

    def eof_received(self) -> bool | None:  # type: ignore[override]
        """Still answer what was asked after the client has closed its side; TLS does not allow that."""
        if self.phase != BUSY or self.scheme == "https":
            return None
        self._ended = True
        return True

    def is_late(self, now: float) -> bool:
        """Whether this connection has been in its phase for too long."""
        limits = self.deadlines
        allowed = (
            limits.head,
            limits.body + self._body / BODY_BYTES_A_SECOND,
            limits.answer,
            limits.idle,
            limits.linger,
        )
        return now - self.since > allowed[self.phase]

    def data_received(self, data: bytes) -> None:
        """Pass bytes to the parser, unless this connection is over or enough is waiting."""
        if self._refused or self.phase == LINGER:
            self._pass_over(data)
            return
        if self._unread:
            self._keep(self._unread + data)
        elif len(data) > _PIECE or self.pipeline:
            self._feed(data)
        else:
            self._feed_all(data)

    def _keep(self, data: bytes) -> None:
        self._unread, self.flow.enough = data, bool(data)  # type: ignore[attr-defined]
        if data:
            self.flow.pause_reading()

    def _pass_over(self, data: bytes) -> None:
        self._body += len(data)
        if self._body > MAX_DRAINED_BYTES and not self.transport.is_closing():
            self.abort("endless")

    def _feed_all(self, data: bytes) -> None:
        """Parse a small piece, as almost every request is."""
        try:
            rest = self._parse(data)
        except httptools.HttpParserError:
            self.send_400_response("")
        else:
            if rest and not self._refused:
                self._feed(bytes(rest))

    def _feed(self, data: bytes) -> None:
        rest: bytes | memoryview = memoryview(data) if len(data) > _PIECE else data
        try:
            while rest and len(self.pipeline) < _MOST_WAITING and not self._refused:
                rest = self._parse(rest)
        except httptools.HttpParserError:
            self.send_400_response("")
        if rest or self._unread:
            self._keep(b"" if self._refused else bytes(rest))

    def _parse(self, data: bytes | memoryview) -> bytes | memoryview:
        """Give one piece to the parser; return the bytes that it must get next."""
        piece, rest = (data, b"") if len(data) <= _PIECE else (data[:_PIECE], data[_PIECE:])
        self._idle += len(piece)
        if self.phase == BODY:
            self._body += len(piece)
        try:
            self.parser.feed_data(piece)
        except httptools.HttpParserUpgrade as upgrade:
            # Do not leave an upgrade to the parser: it treats the body of such a request as not part of HTTP.
            return b"" if self._refused else self._head_without_upgrade() + bytes(data[upgrade.args[0] :])
        if self._idle > MAX_HEAD_BYTES and not self._refused:
            self.refuse(*_TOO_LARGE)
        elif self._body > MAX_DRAINED_BYTES and not self._refused:
            self.refuse("413 Content Too Large", "the chunks of the body are too small")
        return rest

    def _head_without_upgrade(self) -> bytes:
        kept = [b"%b: %b\r\n" % (name, value) for name, value in self.headers if name != b"upgrade"]
        method, version = self.parser.get_method(), self.parser.get_http_version().encode()
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
        return b"%b %b HTTP/%b\r\n%b\r\n" % (method, self.url, version, b"".join(kept))

    def send_400_response(self, msg: str) -> None:
        """Answer malformed or ambiguous HTTP."""
        if not self._refused:
            self.refuse(_BAD, "malformed HTTP/1.1 request")

    def on_message_begin(self) -> None:
        """Begin a request."""
        super().on_message_begin()
        self._begun, self._idle = True, 0
        if self.phase != BUSY:
            self.phase, self.since = HEAD, self.loop.time()

    def on_headers_complete(self) -> None:
        """Check the headers that are about the request itself, then let it be answered."""
        self._begun = False
        if self._refused:
            return
        # The piece in which the request began is not counted.
        is_large = self._idle > MAX_HEAD_BYTES - _PIECE or len(self.headers) > MAX_HEADERS
        fault = (self._too_large() if is_large else None) or self._ambiguous()
        self._idle = 0
        if fault:
            self.refuse(*fault)
            return
        if self.parser.should_upgrade():
            return
        if self.phase == HEAD:
            self.phase, self.since, self._body = BODY, self.loop.time(), 0
        super().on_headers_complete()
        self.cycle.transport = self._leaving  # type: ignore[assignment]
        # Drop the trailers of a chunked body: they would overrule the Host that was checked.
        self.headers = []

    def _too_large(self) -> tuple[str, str] | None:
        headers = self.headers
        size = sum(len(name) + len(value) for name, value in headers) + len(self.url)
        return _TOO_LARGE if size > MAX_HEAD_BYTES or len(headers) > MAX_HEADERS else None

    def _ambiguous(self) -> tuple[str, str] | None:
        """Return how to refuse a request that another reader may take for a different one, or for two."""
        framing = [pair for pair in self.headers if pair[0] in _ONCE]
        found = dict(framing)
        if len(found) != len(framing):
            return _BAD, "a header is repeated"
        # No absolute URL: it names a host besides the Host header.
        if not (self.url[:1] == b"/" or self.url == b"*") or self.parser.get_method() == b"CONNECT":
            return _BAD, "the request target must be a path"
        version = self.parser.get_http_version()
        if version not in ("1.1", "1.0"):
            return "505 HTTP Version Not Supported", "only HTTP/1.1 and HTTP/1.0 are supported"
        coding = found.get(b"transfer-encoding", b"chunked")
        if coding.lower() != b"chunked" or (version == "1.0" and b"transfer-encoding" in found):
            return _BAD, "Transfer-Encoding must be chunked, in HTTP/1.1 only, or left out"
        return None

    def on_body(self, body: bytes) -> None:
        """Take a piece of the body."""
        self._idle = 0
        if not self._refused:
            super().on_body(body)

    def on_message_complete(self) -> None:
        """Wait for the answer."""
        if not self._refused and not self.parser.should_upgrade():
            self.phase, self.since = BUSY, self.loop.time()
            super().on_message_complete()

    def on_response_complete(self) -> None:
        """Wait for the next request, or start the one that came in the meantime."""
        self._write_held()
        if self.phase == LINGER:
            return
        self.phase, self.since, self._body = self._next_phase(), self.loop.time(), 0
        if self.phase != BUSY and (self._refused or (self._ended and not self._unread)):
            self._end()
            return
        self._go_on()
        if self._unread and not self.pipeline and not self.transport.is_closing():
            self._feed(self._unread)

    def _go_on(self) -> None:
        """Continue as uvicorn does, but without its timer for idle connections: `sweep` checks those, too."""
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            cycle, app = self.pipeline.pop()
            self._start_asgi_task(cycle, app)

    def _next_phase(self) -> int:
        if self.pipeline:
            return BODY if self.pipeline[-1][0].more_body else BUSY
        return HEAD if self._begun else IDLE


def sweep(connections: set[Any], now: float) -> None:
    """Close all connections that are over their deadline."""
    for connection in [each for each in connections if each.is_late(now)]:
        connection.abort("late")
