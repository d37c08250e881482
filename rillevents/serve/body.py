"""The bytes of a body, as they come and decompressed: never more than a limit, whatever they claim to be."""

from __future__ import annotations

import zlib
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any

from rillevents.serve.limits import MAX_AWAITED_BYTES

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]

_ZSTD_WINDOW = 8 << 20


class Gone(Exception):
    """Who asked has hung up."""


class Body:
    """The body of a request, piece by piece; raises Gone where who sends it hangs up."""

    __slots__ = ("_headers", "_receive", "ended")

    def __init__(self, receive: Receive, headers: Mapping[bytes, bytes]) -> None:
        self._receive = receive
        self._headers = headers
        self.ended = b"content-length" not in headers and b"transfer-encoding" not in headers

    async def piece(self) -> bytes:
        """Return what comes next; `ended` says whether that was the last of it."""
        message = await self._receive()
        if message["type"] == "http.disconnect":
            raise Gone
        self.ended = not message.get("more_body")
        found: bytes = message.get("body", b"")
        return found

    async def passed_over(self) -> bool:
        """Read and forget the rest of a small body, and return whether there is none now; nobody waits for a large one."""
        # One that asked before sending it has not sent it.
        awaited = b"expect" not in self._headers and _is_small(self._headers)
        try:
            while awaited and not self.ended:
                await self.piece()
        except Gone:
            return False
        return self.ended


def _is_small(headers: Mapping[bytes, bytes]) -> bool:
    length = headers.get(b"content-length", b"")
    return 0 < len(length) < 10 and int(length) <= MAX_AWAITED_BYTES


class BadBody(Exception):
    """The body is not what its headers say; `status` is the answer."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason


def decoded(body: bytes, encoding: bytes, limit: int) -> bytes:
    """Return the body without its Content-Encoding; raises BadBody where it is none of ours, damaged, or over *limit*."""
    name = encoding.strip().lower()
    if name in (b"", b"identity"):
        found = body
    elif name in (b"gzip", b"x-gzip"):
        found = _gunzipped(body, limit)
    elif name == b"zstd":
        found = _unzstd(body, limit)
    else:
        raise BadBody(415, "Content-Encoding may be gzip or zstd, or be left out")
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
        raise BadBody(400, "something follows the gzip body")
    return found


def _unzstd(body: bytes, limit: int) -> bytes:
    try:
        import zstandard
    except ImportError:
        raise BadBody(415, "this server has no zstd: use gzip, or install rillevents[zstd] on it") from None
    try:
        claimed = zstandard.frame_content_size(body)
        if claimed > limit:
            raise BadBody(413, f"the body has more than {limit} bytes")
        unzip = zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW)
        # Where it does not say: because to zstd what is too much and what is damaged are one.
        if claimed < 0 and len(unzip.stream_reader(body).read(limit + 1)) > limit:
            raise BadBody(413, f"the body has more than {limit} bytes")
        return unzip.decompress(body, max_output_size=limit, allow_extra_data=False)
    except zstandard.ZstdError:
        raise BadBody(400, "the body is not one frame of zstd, or is damaged") from None
