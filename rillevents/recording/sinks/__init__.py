"""Where a client's events go. A sink is two methods, `emit(event)` and `close()`; what else it can do is optional.

noop.py   discards     logger.py   Python's logging     filter.py   some of them     spool.py   the disk
batching.py   a queue in memory and an exporter, in the background
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from rillevents.delivery.outcome import FlushResult
    from rillevents.event import Event


class Sink:
    """The base of our sinks, and of yours if you like; any object with `emit` and `close` will do.

    `enabled` is false where nothing that is emitted goes anywhere: clients do not even make the event then.
    """

    enabled = True

    def emit(self, event: Event) -> None:
        """Take one event; raises RilleventsError where it could not be taken."""
        raise NotImplementedError

    def close(self, timeout: float | None = None) -> None:
        """Deliver what can still be delivered, in at most *timeout* seconds, and let go of what is held open."""

    def count(self, kind: str, reason: str = "", n: int = 1) -> None:
        """Note *n* events that did not get here: `refused`, `truncated`, or `dropped` for a *reason*."""

    def flush(self, timeout: float | None = None) -> FlushResult:
        """Deliver what is held, as far as *timeout* seconds allow; never raises."""
        from rillevents.delivery.outcome import FlushOutcome, FlushResult

        return FlushResult(FlushOutcome.EMPTY)


def adapted(sink: Sink) -> Sink:
    """Return *sink* itself where it is one of ours; for any other object, a Sink that fills in what it lacks."""
    if isinstance(sink, Sink) and _takes_timeout(sink.close):
        return sink
    return _Adapted(sink)


def _takes_timeout(close: Callable[..., None]) -> bool:
    code = getattr(close, "__code__", None)
    return code is not None and "timeout" in code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]


class _Adapted(Sink):
    """Somebody's own sink, which may have no more than `emit` and `close`."""

    def __init__(self, sink: Any) -> None:
        self._sink = sink
        self.emit = sink.emit  # type: ignore[method-assign]

    @property
    def enabled(self) -> bool:  # type: ignore[override]
        return getattr(self._sink, "enabled", True)

    def close(self, timeout: float | None = None) -> None:
        """Close the sink; what takes longer than *timeout* seconds goes on in the background."""
        if timeout is None:
            self._sink.close()
        else:
            _close_in_background(self._sink.close, timeout)

    def count(self, kind: str, reason: str = "", n: int = 1) -> None:
        count = getattr(self._sink, "count", None)
        if count:
            count(kind, reason, n)

    def flush(self, timeout: float | None = None) -> FlushResult:
        flush = getattr(self._sink, "flush", None)
        return flush(timeout) if flush else super().flush(timeout)


def _close_in_background(close: Callable[[], None], timeout: float) -> None:
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
