"""Where a client's events go. A sink is two methods, `emit(event)` and `close()`; what else it can do is optional.

noop.py   discards     logger.py   Python's logging     filter.py   some of them     spool.py   the disk
batching.py   a queue in memory and an exporter, in the background
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from rillevents.event import Event
    from rillevents.flusher import FlushResult


class Sink:
    """The base of our sinks, and of yours if you like; any object with `emit` and `close` will do.

    `enabled` is false where nothing that is emitted goes anywhere: clients do not even make the event then.
    """

    enabled = True
    # True for sinks whose close() never waits for anybody.
    closes_at_once = False

    def emit(self, event: Event) -> None:
        """Take one event; raises RilleventsError where it could not be taken."""
        raise NotImplementedError

    def close(self) -> None:
        """Let go of what is held open; what can still be delivered is."""

    def close_within(self, timeout: float) -> None:
        """Close, waiting at most *timeout* seconds for it; what takes longer goes on in the background."""
        if self.closes_at_once:
            self.close()
        else:
            close_in_background(self.close, timeout)

    def count(self, kind: str, reason: str = "", n: int = 1) -> None:
        """Note *n* events that did not get here: `refused`, `truncated`, or `dropped` for a *reason*."""

    def flush(self, timeout: float | None = None) -> FlushResult:
        """Deliver what is held, as far as *timeout* seconds allow; never raises."""
        from rillevents.flusher import FlushResult

        return FlushResult("empty")


def close_in_background(close: Callable[[], None], timeout: float) -> None:
    """Call *close* on a thread of its own, and wait at most *timeout* seconds for it; what it raises is raised."""
    from threading import Thread

    failed: list[Exception] = []

    def run() -> None:
        try:
            close()
        except Exception as error:  # noqa: BLE001 - handed on to the thread that waits
            failed.append(error)

    closing = Thread(target=run, name="rillevents-close", daemon=True)
    try:
        closing.start()
    except RuntimeError:
        # The interpreter is shutting down and starts no more threads: then here.
        run()
    else:
        closing.join(timeout)
    for error in failed:
        raise error
