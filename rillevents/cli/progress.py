"""A progress line for long work, only on a terminal."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rillevents.cli.record_quick import is_quiet

_PATIENCE_SECONDS = 0.5


@contextmanager
def progress(verb: str, total: int | None = None) -> Iterator[Callable[[int], None] | None]:
    """Give a function to call with the number of events done so far, or None if nobody would see it.

    Nothing is shown if the work takes less than half a second.
    """
    if sys.stderr is None or not sys.stderr.isatty() or is_quiet(os.environ):
        yield None
        return
    from rillevents.cli.display import progress_bar

    started = time.monotonic()
    with progress_bar(verb, total) as (begin, advance):
        shown = False

        def report(done: int) -> None:
            nonlocal shown
            if not shown and time.monotonic() - started > _PATIENCE_SECONDS:
                shown = True
                begin()
            if shown:
                advance(done)

        yield report
