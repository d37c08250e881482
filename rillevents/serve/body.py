"""The bytes of a body, as received and decompressed: never more than a limit, whatever the headers claim."""

from __future__ import annotations

import asyncio
import sys
import zlib
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from rillevents.serve.endpoints import Endpoint
from rillevents.serve.limits import (
    LARGE_BYTES,
    MAX_AWAITED_BYTES,
    MAX_BODY_BYTES,
    MAX_EVENTS,
    MAX_RECEIVING_BYTES,
    READERS,
    SLOW_BYTES,
)
from rillevents.serve.metrics import Metrics
from rillevents.serve.parse import BadBody, TooMany
from rillevents.serve.response import Headers, Refused, later, problem, too_large
from rillevents.store.incoming import Incoming

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]

_ZSTD_WINDOW = 8 << 20


class ClientDisconnected(Exception):
    """The client has disconnected."""


class Body:
    """The body of a request, piece by piece; raises ClientDisconnected if the client disconnects."""

    __slots__ = ("_headers", "_receive", "ended")

    def __init__(self, receive: Receive, headers: Mapping[bytes, bytes]) -> None:
        self._receive = receive
        self._headers = headers
        self.ended = b"content-length" not in headers and b"transfer-encoding" not in headers

    async def piece(self) -> bytes:
        """Return the next piece; `ended` then says whether it was the last one."""
        message = await self._receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnected
        self.ended = not message.get("more_body")
        found: bytes = message.get("body", b"")
        return found

    async def passed_over(self) -> bool:
        """Read and discard the rest of a small body, and return whether the body is over; do not wait for a large one."""
        # A client that sent `Expect` has not sent the body yet.
        awaited = b"expect" not in self._headers and _is_small(self._headers)
        try:
            while awaited and not self.ended:
                await self.piece()
        except ClientDisconnected:
            return False
        return self.ended


def _is_small(headers: Mapping[bytes, bytes]) -> bool:
    length = headers.get(b"content-length", b"")
    return 0 < len(length) < 10 and int(length) <= MAX_AWAITED_BYTES


def decompressed(body: bytes, encoding: bytes, limit: int) -> bytes:
    """Return the body without its Content-Encoding; raises BadBody if that is unknown, damaged, or over *limit*."""
    name = encoding.strip().lower()
    if name in (b"", b"identity"):
        found = body
    elif name in (b"gzip", b"x-gzip"):
        found = _gunzipped(body, limit)
    elif name == b"zstd":
        found = _unzstd(body, limit)
    else:
        raise BadBody(415, "Content-Encoding must be gzip or zstd, or be left out")
    if len(found) > limit:
        raise BadBody(413, f"the body has more than {limit} bytes")
    return found


def _gunzipped(body: bytes, limit: int) -> bytes:
    unzip = zlib.decompressobj(31)
    try:
        found = unzip.decompress(body, limit + 1)
    except zlib.error:
        raise BadBody(400, "the body is not gzip, or is damaged") from None
    if len(found) <= limit and not unzip.eof:
        raise BadBody(400, "the gzip body ends too early")
    if unzip.unused_data:
        raise BadBody(400, "there is extra data after the gzip body")
    return found


def _unzstd(body: bytes, limit: int) -> bytes:
    if sys.version_info >= (3, 14):
        try:
            return _unzstd_by_python(body, limit)
        except ImportError:  # a Python that was built without it
            pass
    try:
        import zstandard
    except ImportError:
        raise BadBody(415, "this server has no zstd: use gzip, or install rillevents[zstd] on it") from None
    try:
        claimed = zstandard.frame_content_size(body)
        if claimed > limit:
            raise BadBody(413, f"the body has more than {limit} bytes")
        unzip = zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW)
        # Only if the frame does not say its size: zstd reports "too large" and "damaged" as the same error.
        if claimed < 0 and len(unzip.stream_reader(body).read(limit + 1)) > limit:
            raise BadBody(413, f"the body has more than {limit} bytes")
        found: bytes = unzip.decompress(body, max_output_size=limit, allow_extra_data=False)
        return found
    except zstandard.ZstdError:
        raise BadBody(400, "the body is not one frame of zstd, or is damaged") from None


def _unzstd_by_python(body: bytes, limit: int) -> bytes:  # pragma: no cover - only from Python 3.14 on
    from compression import zstd  # type: ignore[import-not-found]

    unzip = zstd.ZstdDecompressor(options={zstd.DecompressionParameter.window_log_max: _ZSTD_WINDOW.bit_length() - 1})
    try:
        found: bytes = unzip.decompress(body, limit + 1)
    except zstd.ZstdError:
        raise BadBody(400, "the body is not one frame of zstd, or is damaged") from None
    if len(found) <= limit and (not unzip.eof or unzip.unused_data):
        raise BadBody(400, "the body is not one frame of zstd, or is damaged")
    return found


class Reading:
    """Reads the bodies of requests; `held` counts the bytes of large ones not parsed yet. For the thread of one loop."""

    def __init__(self, metrics: Metrics, most: int = MAX_RECEIVING_BYTES) -> None:
        self.held = 0
        self._metrics = metrics
        self._most = most
        self._threads = ThreadPoolExecutor(READERS, "rillevents-read")

    async def events(self, endpoint: Endpoint, headers: Headers, body: Body) -> Incoming:
        """Return the events of a body; raises Refused, and ClientDisconnected if the client disconnects."""
        limit = min(endpoint.limit, MAX_BODY_BYTES)
        # A claimed size that is too large is believed; any other is checked as the bytes arrive.
        length = headers.get(b"content-length", b"")
        if len(length) > 4 and (len(length) > 12 or int(length) > limit):
            raise _over(limit)
        encoding = headers.get(b"content-encoding", b"")
        found = await body.piece()
        if not body.ended:
            found = await self._whole(found, limit, body)
        self._metrics.body_bytes += len(found)
        quick = None if encoding or len(found) > LARGE_BYTES else _quickly(endpoint, found)
        if quick or (not encoding and len(found) <= SLOW_BYTES):
            return quick or _parsed(endpoint, found)
        return await self._on_a_thread(endpoint, found, encoding)

    async def _whole(self, first: bytes, limit: int, body: Body) -> bytes:
        whole = bytearray(first)
        self.held += len(first)
        try:
            while not body.ended:
                piece = await body.piece()
                whole += piece
                self.held += len(piece)
                if len(whole) > limit:
                    raise _over(limit)
                self._check()
            return bytes(whole)
        finally:
            self.held -= len(whole)

    async def _on_a_thread(self, endpoint: Endpoint, body: bytes, encoding: bytes) -> Incoming:
        # Counted until the end: a body that waits for a thread uses memory as well.
        self.held += len(body)
        try:
            self._check()
            return await asyncio.get_running_loop().run_in_executor(
                self._threads, _checked_body, endpoint, body, encoding
            )
        finally:
            self.held -= len(body)

    def _check(self) -> None:
        if self.held > self._most:
            raise Refused(later("too much data is being received"))


def _checked_body(endpoint: Endpoint, body: bytes, encoding: bytes) -> Incoming:
    try:
        return _parsed(endpoint, decompressed(body, encoding, endpoint.limit))
    except BadBody as error:
        raise Refused(problem(error.status, error.reason)) from None


def _quickly(endpoint: Endpoint, body: bytes) -> Incoming | None:
    try:
        return endpoint.quick(body)
    except TooMany:
        raise _too_many() from None


def _parsed(endpoint: Endpoint, body: bytes) -> Incoming:
    try:
        return endpoint.parse(body)
    except TooMany:
        raise _too_many() from None
    except BadBody as error:
        raise Refused(problem(error.status, error.reason)) from None


def _over(limit: int) -> Refused:
    return Refused(too_large(f"the body has more than {limit} bytes"))


def _too_many() -> Refused:
    return Refused(too_large(f"the body has more than {MAX_EVENTS} events"))
