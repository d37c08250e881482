"""Ambient attributes: what a block of code puts on every event recorded in it, in threads and asyncio tasks alike."""

from __future__ import annotations

from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_ambient: ContextVar[Mapping[str, Any] | None] = ContextVar("rillevents_attributes", default=None)


def ambient() -> Mapping[str, Any] | None:
    """Return the attributes of the blocks that the caller is in, the innermost last."""
    return _ambient.get()


@contextmanager
def set_attributes(attributes: Mapping[str, Any] | None = None, /, **more: Any) -> Iterator[None]:
    """Put attributes on every event recorded inside the `with` block, by any client.

    Blocks nest, and the inner one wins. asyncio tasks take them along; a thread has its own (start it with
    `contextvars.copy_context().run` to hand them over). They lose against arguments of the call, and win over the client's.
    """
    token = _ambient.set({**(_ambient.get() or {}), **(attributes or {}), **more})
    try:
        yield
    finally:
        _ambient.reset(token)
