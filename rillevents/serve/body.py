"""The bytes of a body, decompressed: never more than a limit, whatever they claim to be; pure."""

from __future__ import annotations

import zlib

_ZSTD_WINDOW = 8 << 20


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
        return unzip.decompress(body, max_output_size=limit, allow_extra_data=False)
    except zstandard.ZstdError:
        raise BadBody(400, "the body is not one frame of zstd, or is damaged") from None
