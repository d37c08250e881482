"""Where a client's events go. A sink needs two methods, `emit(event)` and `close()`; everything else is optional.

noop.py   discards     logger.py   Python's logging     filter.py   drops some     spool.py   the disk
batching.py   a queue in memory and an exporter, in the background
"""

from __future__ import annotations

import sys
from _thread import get_ident

from rillevents.errors import RilleventsError, SpoolError
from rillevents.event import muted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Hashable
    from typing import Any, Self

    from rillevents.delivery.outcome import FlushResult
    from rillevents.event import Event
    from rillevents.local import Application


class Sink:
    """The base of our sinks, and of yours if you like; any object with `emit` and `close` will do.

    `enabled` is false if emitted events go nowhere: clients then do not even create the event.
    """

    enabled = True

    def emit(self, event: Event) -> None:
        """Accept one event; raises RilleventsError if that fails."""
        raise NotImplementedError

    def close(self, timeout: float | None = None) -> None:
        """Deliver what can still be delivered, in at most *timeout* seconds, and release open resources."""

    def count(self, kind: str, reason: str = "", n: int = 1) -> None:
        """Count *n* events that did not arrive here: `refused`, `truncated`, or `dropped` for a *reason*."""

    def flush(self, timeout: float | None = None) -> FlushResult:
        """Deliver what is held, as far as possible in *timeout* seconds; never raises."""
        from rillevents.delivery.outcome import FlushOutcome, FlushResult

        return FlushResult(FlushOutcome.EMPTY)


def adapted(sink: Sink) -> Sink:
    """Return *sink* itself if it is one of ours; for any other object, a Sink that adds what it lacks, and mutes it."""
    if isinstance(sink, Sink) and type(sink).__module__.startswith("rillevents.") and _takes_timeout(sink.close):
        return sink
    return _Adapted(sink)


def _takes_timeout(close: Callable[..., None]) -> bool:
    code = getattr(close, "__code__", None)
    return code is not None and "timeout" in code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]


class _Adapted(Sink):
    """A foreign sink, which may only have `emit` and `close`."""

    def __init__(self, sink: Any) -> None:
        from rillevents.event.muting import Muted

        self._sink = sink
        self._muted = Muted

    def emit(self, event: Event) -> None:
        """Pass the event on; what the sink logs meanwhile is not recorded."""
        with self._muted():
            self._sink.emit(event)

    @property
    def enabled(self) -> bool:  # type: ignore[override]
        return getattr(self._sink, "enabled", True)

    def close(self, timeout: float | None = None) -> None:
        """Close the sink; after *timeout* seconds it continues in the background."""
        if timeout is None:
            self._sink.close()
        elif _takes_timeout(self._sink.close):
            self._sink.close(timeout)
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
    """Call *close* on a thread of its own, wait at most *timeout* seconds for it, and raise what it raises."""
    from threading import Thread

    failed: list[Exception] = []

    def run() -> None:
        try:
            close()
        except Exception as error:  # noqa: BLE001 - passed to the waiting thread
            failed.append(error)

    closing = Thread(target=run, name="rillevents-close", daemon=True)
    try:
        closing.start()
    except RuntimeError:
        # The interpreter is shutting down and starts no more threads: run it here.
        run()
    else:
        closing.join(timeout)
    for error in failed:
        raise error


class Reporter:
    """What a client does about a failure: it raises, or counts it in the *sink* and calls *warn*.

    Without *warn* it logs a line, of a disk or spool that takes no event the same one at most once a minute.
    """

    __slots__ = ("_sink", "_told", "app", "raises", "warn")

    def __init__(self, sink: Sink, warn: Callable[[str], None] | None, *, raises: bool) -> None:
        self._sink = sink
        self.warn = warn or log
        self.raises = raises
        # What was told, and when.
        self._told: dict[Hashable, float] = {}
        # The program whose user reads the messages, if it is not ours.
        self.app: Application | None = None

    def failed(self, error: Exception, kind: type[RilleventsError]) -> None:
        """Report that an event was not recorded; raises the error, as *kind* if it is not one of ours, or nothing."""
        known = isinstance(error, RilleventsError)
        text = str(error) if known else f"{type(error).__name__}: {error}"
        if self.raises:
            raise error if known else kind(text) from error
        if not isinstance(error, (SpoolError, OSError)):
            self._sink.count("refused")
        elif self.warn is log:
            from rillevents.event.mending import is_news

            # A disk that is full is so for every event.
            if not is_news(text, self._told):
                return
        self.tell(f"event not recorded: {text}")

    def flush_failed(self, error: Exception) -> FlushResult:
        """Report that a flush failed, and return that as its result."""
        from rillevents.delivery.outcome import FlushOutcome, FlushResult

        self.tell(f"flush failed, the events are kept: {error}")
        return FlushResult(FlushOutcome.TEMPORARY, reason=str(error))

    def tell_loss(self, event: Event) -> None:
        """Report that an event was truncated, and which attributes it was recorded without; these at most once a minute each."""
        from rillevents.event.mending import is_news

        if event.truncated:
            self.tell(f"event {event.event_name!r} was truncated, the limit is 32 KiB: {event.reason}")
        for key, kind in (event.invalid or {}).items():
            if is_news((event.event_name, key, kind), self._told):
                self.tell(f"event {event.event_name!r} was recorded without {key!r}: JSON has no form for this {kind}")

    def tell(self, message: str) -> None:
        """Warn; what is logged meanwhile is not recorded, and a handler that raises is no concern of the caller."""
        me = get_ident()
        is_outer = me not in muted
        muted.add(me)
        try:
            self.warn(self.app.own_words(message) if self.app else message)
        except Exception:  # noqa: BLE001, S110 - in somebody's program recording never raises
            pass
        finally:
            if is_outer:
                muted.discard(me)


def log(message: str) -> None:
    """Write a warning to the logger of the library.

    A program that has not imported `logging` has not configured it: then this is the line on stderr that `logging` would write.
    It is not imported for that, which a program without free descriptors could not do.
    """
    logging = sys.modules.get("logging")
    try:
        if logging:
            logging.getLogger("rillevents").warning(message)
        elif sys.stderr:
            sys.stderr.write(f"{message}\n")
    except (OSError, ValueError, AttributeError):
        # A stderr that nobody reads, or another thread that is importing `logging` right now.
        return


class Lifecycle:
    """The part of a client that delivers and closes; a client is a context manager, with `async with` as well."""

    __slots__ = ()

    if TYPE_CHECKING:
        _sink: Any
        _reporter: Reporter

    def flush(self, timeout: float | None = 10.0) -> FlushResult:
        """Deliver what is held, in at most *timeout* seconds, and return the result; never raises."""
        try:
            found: FlushResult = self._sink.flush(timeout)
        except Exception as error:  # noqa: BLE001 - never raises
            return self._reporter.flush_failed(error)
        return found

    async def aflush(self, timeout: float | None = 10.0) -> FlushResult:
        """Deliver what is held as `flush` does, in a thread: the event loop goes on.

        A call that is cancelled leaves the flush to its time.
        """
        import asyncio

        return await asyncio.to_thread(self.flush, timeout)

    def close(self, timeout: float = 2.0) -> None:
        """Close the sink, waiting at most *timeout* seconds for it; never raises. A later event may open it again."""
        try:
            self._sink.close(timeout)
        except Exception as error:  # noqa: BLE001 - never raises
            self._reporter.tell(f"close failed: {error}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        import asyncio

        await asyncio.to_thread(self.close)
