"""Encoded bodies, compressed on separate threads ahead of time."""

from __future__ import annotations

import sys
import threading
import zlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

from rillevents.errors import ConfigError

if TYPE_CHECKING:
    from rillevents.event.batch import Batch

Compression = Literal["none", "gzip", "zstd"]


class Encoding:
    """Returns the encoded body of a batch; a batch announced by `begin` is ready sooner. Thread-safe."""

    def __init__(self, encode: Callable[[bytes], bytes] | None) -> None:
        self._encode = encode
        self._begun: dict[int, _Compression] = {}

    def begin(self, batch: Batch) -> None:
        """Start compressing the next batch; without compression this does nothing."""
        if self._encode is None or not len(batch):
            return
        while len(self._begun) > 1:
            # The current batch may not have been requested yet; the one before never will be: a flush stopped there.
            self._begun.pop(next(iter(self._begun)), None)
        ahead = _Compression(batch, self._encode)
        try:
            ahead.start()
        except RuntimeError:
            # No thread is available: it will be compressed when it is needed.
            return
        self._begun[id(batch.pieces)] = ahead

    def body(self, batch: Batch) -> bytes:
        """Return the body to send; waits for a batch that was begun."""
        ahead = self._begun.pop(id(batch.pieces), None)
        if ahead:
            ahead.join()
        if ahead and ahead.encoded:
            return ahead.encoded
        return batch.body() if self._encode is None else self._encode(batch.body())

    def clear(self) -> None:
        """Forget everything that was begun."""
        self._begun.clear()


class _Compression(threading.Thread):
    def __init__(self, batch: Batch, encode: Callable[[bytes], bytes]) -> None:
        super().__init__(name="rillevents-encoding", daemon=True)
        # Kept alive: it is found by the identity of its pieces.
        self.batch = batch
        self.encoded = b""
        self._encode = encode

    def run(self) -> None:
        try:
            self.encoded = self._encode(self.batch.body())
        except Exception:  # noqa: BLE001 - tried again where the error is reported
            self.encoded = b""


def decoded(body: bytes, form: str, limit: int) -> bytes | None:
    """Return the content of an answer in the encoding *form*, None if it has over *limit* bytes; raises ValueError.

    An answer may come encoded although no encoding was asked for.
    """
    for name in reversed([part.strip().lower() for part in form.split(",")]):
        if name in ("", "identity"):
            continue
        if name not in ("gzip", "x-gzip", "deflate"):
            raise ValueError(f"the encoding {name} is not read")
        # With the head of gzip or of zlib; what is called deflate often has neither.
        content = _inflated(body, limit, (47, -15) if name == "deflate" else (47,))
        if content is None:
            return None
        body = content
    return body


def _inflated(body: bytes, limit: int, forms: tuple[int, ...]) -> bytes | None:
    for bits in forms:
        try:
            inflater = zlib.decompressobj(bits)
            content = inflater.decompress(body, limit + 1)
        except zlib.error:
            continue
        if len(content) > limit:
            return None
        if inflater.eof:
            return content
    raise ValueError("it is damaged")


def encoder(form: Compression) -> Callable[[bytes], bytes] | None:
    """Return the function that compresses a body with `gzip` or `zstd`, None for `none`; raises ConfigError."""
    if form == "none":
        return None
    if form == "gzip":
        # Level 1, not 6: events compress to about the same size, in a third of the time.
        return lambda body: zlib.compress(body, 1, 31)
    if form != "zstd":
        raise ConfigError("unknown compression", hint="possible values: none, gzip, zstd")
    return _zstd()


def _zstd() -> Callable[[bytes], bytes]:
    """Return a compressor that several threads may call at once: each call has a context of its own."""
    if sys.version_info >= (3, 14):
        try:
            from compression import zstd
        except ImportError:  # Python was built without it
            pass
        else:
            return zstd.compress
    try:
        import zstandard
    except ImportError:
        hint = "run: pip install 'rillevents[zstd]'"
        raise ConfigError("zstd needs the package zstandard, which is not installed", hint=hint) from None
    return lambda body: zstandard.ZstdCompressor().compress(body)
