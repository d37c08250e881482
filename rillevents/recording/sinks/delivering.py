"""Events on the disk first, then delivered by this program itself: by a thread every so often, or beside it when it ends."""

from __future__ import annotations

import atexit
import os
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

from rillevents.delivery.turns import Turns
from rillevents.recording.sinks import Sink, adapted
from rillevents.spool import VERSION

if TYPE_CHECKING:
    from rillevents.delivery.outcome import FlushResult
    from rillevents.delivery.schedule import Scheduler
    from rillevents.event import Event
    from rillevents.recording.sinks.spool import SpoolSink

# How long the end of the process may take for a client that nobody has closed.
CLOSE_SECONDS = 2.0


class _Behind(Sink):
    """A sink in front of another one, *sink*, which stores in *spool*; the same in every process."""

    def __init__(self, sink: Sink, spool: SpoolSink) -> None:
        self._sink = adapted(sink)
        self._spool = spool

    @property
    def enabled(self) -> bool:  # type: ignore[override]
        """Whether the sink behind is enabled now."""
        return self._sink.enabled

    def emit(self, event: Event) -> None:
        """Pass the event on."""
        self._sink.emit(event)

    def count(self, kind: str, reason: str = "", n: int = 1) -> None:
        """Let the sink behind count."""
        self._sink.count(kind, reason, n)

    def flush(self, timeout: float | None = None) -> FlushResult:
        """Flush the sink behind."""
        return self._sink.flush(timeout)

    def close(self, timeout: float | None = None) -> None:
        """Close the sink behind."""
        self._sink.close(timeout)

    def close_at_exit(self) -> None:
        """Close in a process that ends."""
        self.close(CLOSE_SECONDS)


class DeliveringSink(_Behind):
    """Calls *deliver* with a timeout every so many seconds, on a daemon thread that starts with the first event.

    A forked child has a thread of its own from its first event on; among all processes with the same spool there is one pass in
    an interval. `close` stops the thread and delivers what is left within its timeout; so does the end of the process, within two
    seconds. What is not delivered stays on the disk, for any later process. *is_allowed* is asked before each pass.
    """

    def __init__(
        self,
        sink: Sink,
        spool: SpoolSink,
        every: float,
        deliver: Callable[[float | None, bool], FlushResult],
        is_allowed: Callable[[], bool],
    ) -> None:
        super().__init__(sink, spool)
        # Now: a child forked during an import can never do the same import. Not above: LeavingSink has no use for it.
        import rillevents.delivery.schedule  # noqa: F401

        self._every = every
        self._deliver = deliver
        self._is_allowed = is_allowed
        self._pid = 0
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def emit(self, event: Event) -> None:
        """Pass the event on, and see to it that this process has a thread."""
        self._sink.emit(event)
        if self._pid != os.getpid():
            self._start()

    @property
    def is_used_here(self) -> bool:
        """Whether this process has recorded since it was forked, or since the last close."""
        return self._pid == os.getpid()

    def _start(self) -> None:
        if not self._spool.stored_in:
            # Dropped by a filter, say: there is nothing to deliver.
            return
        from rillevents.delivery.schedule import Scheduler

        self._pid = os.getpid()
        _used.add(self)
        self._stop = threading.Event()
        turns = Turns(f"{self._spool.stored_in}/{VERSION}", self._every)
        deliver = self._deliver
        scheduler = Scheduler(
            lambda: deliver(None, False), self._every, is_allowed=self._is_allowed, turns=turns, on_pass=_tell
        )
        # Not a method: the thread must not keep a client alive that nobody uses any more.
        thread = threading.Thread(
            target=_run, args=(scheduler, self._every, self._stop), name="rillevents-deliver", daemon=True
        )
        try:
            thread.start()
        except RuntimeError:
            # The interpreter is shutting down, or has no thread to spare: the events are on the disk.
            return
        self._thread = thread

    def close(self, timeout: float | None = None) -> None:
        """Deliver what is left in at most *timeout* seconds (2 without one), stop the thread, and close the sink behind."""
        ends = time.monotonic() + (CLOSE_SECONDS if timeout is None else timeout)
        is_ours = self.is_used_here
        self._stop.set()
        if is_ours:
            self._pid = 0
            _used.discard(self)
            if self._is_allowed():
                _tell(self._deliver(max(0.05, ends - time.monotonic()), True))
            thread, self._thread = self._thread, None
            if thread and thread is not threading.current_thread():
                thread.join(max(0.0, ends - time.monotonic()))
        self._sink.close(max(0.0, ends - time.monotonic()))


def _run(scheduler: Scheduler, every: float, stop: threading.Event) -> None:
    from rillevents.event.muting import Muted

    # What the delivery logs is not recorded.
    with Muted():
        if not stop.wait(every):
            scheduler.run(stop.wait)


def _tell(result: FlushResult) -> None:
    """Log a pass that failed, as the outcome that it is; retries are nothing that a program has to know."""
    if result.outcome.needs_attention and result.outcome != "temporary":
        from rillevents.recording.sinks import log

        log(f"events are not delivered, and kept: {result.reason}")


class LeavingSink(_Behind):
    """Starts a delivery beside this process when it is closed, or when the process ends, if an event was stored.

    *start* is called with the spool's folder, and whether the process goes on.
    """

    def __init__(self, sink: Sink, spool: SpoolSink, start: Callable[[str, bool], object]) -> None:
        super().__init__(sink, spool)
        self._start = start
        self._pid = 0

    @property
    def is_used_here(self) -> bool:
        """Whether this process has recorded since it was forked, or since the last close."""
        return self._pid == os.getpid()

    def emit(self, event: Event) -> None:
        """Pass the event on."""
        self._sink.emit(event)
        if self._pid != os.getpid() and self._spool.stored_in:
            self._pid = os.getpid()
            _leaving[id(self)] = self
            _starts[self._spool.stored_in] = self._start
            _left[self._pid, self._spool.stored_in] += 1

    def close(self, timeout: float | None = None) -> None:
        """Close the sink behind, and start the delivery."""
        self._close(timeout, lasting=True)

    def close_at_exit(self) -> None:
        """Do the same in a process that ends: it need not wait until the delivery is another process's child."""
        self._close(CLOSE_SECONDS, lasting=False)

    def _close(self, timeout: float | None, *, lasting: bool) -> None:
        self._sink.close(timeout)
        if self.is_used_here and self._spool.stored_in:
            _leaving.pop(id(self), None)
            _left[self._pid, self._spool.stored_in] -= 1
            self._pid = 0
            self._start(self._spool.stored_in, lasting)


# Those with something to deliver, until they are closed: whoever does not keep a client must not lose its delivery. Those that
# only start one are not kept for that, or their files would stay open.
_used: set[DeliveringSink] = set()
_leaving: WeakValueDictionary[int, LeavingSink] = WeakValueDictionary()
# How many of them have stored in a spool, by process, and are not closed; and what starts a delivery of it.
_left: Counter[tuple[int, str]] = Counter()
_starts: dict[str, Callable[[str, bool], object]] = {}


def _close_all() -> None:
    # Lists that are made in one step: other threads go on recording.
    used: list[DeliveringSink | LeavingSink | None] = [*list(_used), *[each() for each in _leaving.valuerefs()]]
    for sink in used:
        # Not in a forked child that has recorded nothing: what its parent recorded is the parent's to deliver.
        if sink and sink.is_used_here:
            sink.close_at_exit()
    for (pid, spool), sinks in list(_left.items()):
        if sinks > 0 and pid == os.getpid():
            _starts[spool](spool, False)


atexit.register(_close_all)
