"""Ambient attributes: what a block of code adds to every event recorded in it, in threads and asyncio tasks alike."""

from __future__ import annotations

from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_ambient: ContextVar[Mapping[str, Any] | None] = ContextVar("rillevents_attributes", default=None)


def ambient() -> Mapping[str, Any] | None:
    """Return the attributes of the blocks around the caller, the innermost last."""
    return _ambient.get()


@contextmanager
def set_attributes(attributes: Mapping[str, Any] | None = None, /, **more: Any) -> Iterator[None]:
    """Add attributes to every event recorded inside the `with` block, by any client.

    Blocks nest, and the inner one wins. asyncio tasks inherit them; a thread starts without (start it with
    `contextvars.copy_context().run` to pass them on). The call's arguments override them; they override the client's.
    """
    token = _ambient.set({**(_ambient.get() or {}), **(attributes or {}), **more})
    try:
        yield
    finally:
        _ambient.reset(token)
