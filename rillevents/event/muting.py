"""Blocks in which nothing is recorded: what we log, and what others log while we call them, must not come back as events.

A handler of logging may record what is logged. If a failure to record is logged, or the HTTP client that delivers events logs
its requests, each line would be an event that causes further lines, without end. A signal handler that interrupts recording
is no such case, so only these blocks are muted, not recording as a whole.
"""

from __future__ import annotations

import os
from _thread import get_ident

from rillevents.event import muted


class Muted:
    """A context manager: nothing is recorded by this thread inside the block; blocks nest."""

    __slots__ = ("_thread",)

    def __enter__(self) -> None:
        thread = get_ident()
        # 0 belongs to no thread: an outer block has muted it, and ends it.
        self._thread = 0 if thread in muted else thread
        muted.add(thread)

    def __exit__(self, *_: object) -> None:
        muted.discard(self._thread)


if hasattr(os, "register_at_fork"):
    # Other threads do not exist in the child, which may give their numbers to new ones.
    os.register_at_fork(after_in_child=lambda: muted.intersection_update((get_ident(),)))
