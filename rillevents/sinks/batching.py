"""A queue in memory and an exporter, in the background: for services, whose recording is to cost next to nothing.

Theory of operation. Events stay in one deque until they are settled: emitters append on the right; one daemon thread,
the worker, looks at the left and removes what was delivered or rejected, so that a failure changes neither order nor
counts. One lock guards it all; it is held for microseconds, never across a call to the exporter or the log. The worker
goes in rounds, each over what was there when it began, and with a Delivery of its own: because what a destination
accepted an hour ago is no evidence that it is the right one now, because a Delivery that left a call behind sends
nothing more, and because the stall clock has to start when a round does. A flush asks for a round that begins after
it, a close for the last one.

What memory cannot do: what is held is lost with the process (a kill, `os._exit`, power). Who must not lose any event
records to the spool.
"""

from __future__ import annotations

import atexit
import logging
import math
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from itertools import islice
from typing import TYPE_CHECKING, Any
from weakref import WeakSet, finalize

from rillevents.batch import HELD, UNSETTLED, Batch, Rejected, Verdict
from rillevents.delivery import Deadline, Delivery
from rillevents.errors import ConfigError
from rillevents.exporters import Exporter, Kind, Outcome
from rillevents.retry import Backoff
from rillevents.sinks import Sink

if TYPE_CHECKING:
    from rillevents.event import Event
    from rillevents.flusher import FlushResult

BATCH_BYTES = 1 << 20
_LONGEST = 60  # The number of an attempt after which every Backoff has reached its cap.
_OUTCOMES = {Kind.REFUSED: "refused", Kind.MISCONFIGURED: "unconfigured"}
_log = logging.getLogger("rillevents")


class _Memory:
    """The events that wait, in order, and a ledger of what became of the others; whoever looks at it holds `lock`."""

    def __init__(self, limit: int) -> None:
        # Reentrant: because a signal handler may emit in the thread that it interrupted, with the lock held. What it
        # interrupts has to bear that: every change is one operation of a deque, or has no call in its midst.
        self.lock = threading.RLock()
        self.work = threading.Condition(self.lock)
        self.changed = threading.Condition(self.lock)
        self.limit = limit
        self.lines: deque[bytes] = deque()
        self.wake_at: float = 0
        self.full = False
        self.overflow = 0
        self._waiting: set[int] = set()
        self.removed = self.requests = self.bytes = 0
        self.delivery: Delivery | None = None
        self.last_rejection = ""
        self._counts = dict.fromkeys(("delivered", "rejected", "truncated", "refused"), 0)
        self._dropped: dict[str, int] = {}

    def count(self, kind: str, reason: str = "", n: int = 1) -> None:
        ledger, key = (self._dropped, reason) if kind == "dropped" else (self._counts, kind)
        with self.lock:
            ledger.setdefault(key, 0)
            # No call between reading and writing: because a signal handler, which may count as well, runs after calls.
            ledger[key] += n

    def ledger(self) -> dict[str, Any]:
        pending, dropped = len(self.lines), dict(self._dropped)
        settled = self._counts["delivered"] + self._counts["rejected"] + sum(dropped.values())
        return {"recorded": settled + pending, **self._counts, "dropped": dropped, "pending": pending}

    def totals(self) -> tuple[int, ...]:
        """Return how many were delivered, rejected and dropped, and requests and bytes, those under way included."""
        requests, size = self.requests, self.bytes
        if self.delivery is not None:
            requests, size = requests + self.delivery.requests, size + self.delivery.bytes
        return self._counts["delivered"], self._counts["rejected"], sum(self._dropped.values()), requests, size

    def end_delivery(self) -> None:
        *_, self.requests, self.bytes = self.totals()
        self.delivery = None

    def read(self, start: int, end: int) -> list[bytes]:
        lines: list[bytes] = []
        size = 0
        for line in islice(self.lines, start, end):
            size += len(line)
            if lines and size > BATCH_BYTES:
                break
            lines.append(line)
        return lines

    def settle(self, start: int, verdicts: Sequence[Verdict]) -> tuple[int, str]:
        """Remove what is delivered or rejected from *start* on; return how many stay, and a rejection that is news."""
        rejections = [verdict.reason for verdict in verdicts if isinstance(verdict, Rejected)]
        self.lines.rotate(-start)
        lines = [self.lines.popleft() for _ in verdicts]
        kept = [line for line, verdict in zip(lines, verdicts, strict=True) if verdict in (HELD, UNSETTLED)]
        self.lines.extendleft(reversed(kept))
        self.lines.rotate(start)
        self.count("rejected", n=len(rejections))
        self.count("delivered", n=len(lines) - len(kept) - len(rejections))
        self._note_removed(len(lines) - len(kept))
        before, self.last_rejection = self.last_rejection, rejections[-1] if rejections else self.last_rejection
        return len(kept), self.last_rejection if self.last_rejection != before else ""

    def drop_before(self, mark: int, reason: str) -> int:
        """Drop the lines in front, up to the one before which *mark* had been removed, and return how many."""
        n = 0
        # One by one, not counted first: because a signal handler may close in the midst, and do the same.
        while self.lines and self.removed < mark:
            self.lines.popleft()
            self.count("dropped", reason)
            self._note_removed(1)
            n += 1
        return n

    def is_held(self) -> bool:
        """Return whether this thread holds the lock, which is so in a signal handler that interrupted one of us."""
        try:
            self.changed.notify(0)
        except RuntimeError:
            return False
        return True

    def wait_for_room(self, seconds: float) -> bool:
        """Wait until there is room; but after a wait in vain not again, nor in a handler that interrupted a wait."""
        thread = threading.get_ident()
        if not self.full and thread not in self._waiting:
            self._waiting.add(thread)
            try:
                self.full = not self.changed.wait_for(self.has_room, seconds)
            finally:
                self._waiting.discard(thread)
        return self.has_room()

    def has_room(self) -> bool:
        return len(self.lines) < self.limit

    def _note_removed(self, n: int) -> None:
        self.removed += n
        if n:
            self.full = False
            self.changed.notify_all()


class _Link:
    """The exporter in use, made on first use where there is none yet, and never called twice at a time."""

    def __init__(self, exporter: Exporter | None, renew: Callable[[], Exporter] | None) -> None:
        self._exporter = exporter
        self._renew = renew
        self.busy = self._used = self._closed = False
        self.answer = ""

    def export(self, batch: Batch) -> Outcome:
        if self.busy:
            return Outcome(Kind.TEMPORARY, "the call before has not come back yet")
        self.busy = self._used = True
        try:
            outcome = self._open().export(batch)
        finally:
            self.busy = False
        self.answer = "" if outcome.kind is Kind.ACCEPTED else outcome.reason
        return outcome

    def _open(self) -> Exporter:
        if self._exporter is None:
            if self._renew is None:
                raise ConfigError("the exporter belongs to the process this one was forked off", hint="give renew=")
            self._exporter = self._renew()
            if self._closed:
                self._exporter.close()
        return self._exporter

    def close(self) -> None:
        closed, self._closed = self._closed, True
        try:
            if self._exporter is not None and not closed:
                self._exporter.close()
        except Exception as error:  # noqa: BLE001 - somebody else's bug; whoever closes has nothing to do about it
            _log.warning("the exporter could not be closed: %s: %s", type(error).__name__, error)

    def successor(self) -> _Link:
        if self._renew is not None:
            return _Link(None, self._renew)
        self._closed = False
        return self

    def after_fork(self) -> _Link:
        if not self._used:
            return self
        # Neither closed nor collected: because its connections are the parent's, and closing would shut them down.
        _inherited.append(self)
        return _Link(None, self._renew)


class _LastingBackoff(Backoff):
    """Goes on in the next round where the one before left off."""

    def __init__(self, inner: Backoff) -> None:
        self._inner = inner
        self.failures = 0

    def delay(self, attempt: int, retry_after: float | None = None) -> float:
        self.failures += 1
        return self._inner.delay(self.failures - 1, retry_after)

    def after_round(self, stop: Outcome | None) -> float:
        temporary = stop is not None and stop.kind is Kind.TEMPORARY
        wait = self.delay(0, stop.retry_after) if stop is not None and temporary else math.inf
        return wait if wait < math.inf else self._inner.delay(_LONGEST)


class _RoundDeadline(Deadline):
    """The stall clock of a round, and what a close leaves of it, whenever that comes."""

    def __init__(self, end_by: Callable[[], float]) -> None:
        super().__init__(None)
        self._end_by = end_by

    def remaining(self) -> float:
        return max(0.0, min(super().remaining(), self._end_by() - self.clock()))


class _Abandoned(Exception):
    """Ends a worker whose events were dropped by a close that could not wait for it."""


@dataclass(eq=False)
class _Worker:
    """One life of the thread, from an emit to a close. Guarded by the lock of *memory*, but for what `_run` calls."""

    memory: _Memory
    link: _Link
    batch_events: int
    interval: float
    backoff: _LastingBackoff
    start_anew: Callable[[], None]
    asked: int = 0
    answered: int = 0
    stop: Outcome | None = None
    ended: bool = False
    _heard: int = 0
    _kept: int = 0
    _close_by: float = math.inf
    _closing_at: int = 0
    _untold: int = 0
    _overflowing: bool = False
    _not_before: float = 0.0
    _retry_at: float = math.inf
    _due: float = math.inf
    _trouble: Kind | None = None
    thread: threading.Thread = field(init=False)

    def __post_init__(self) -> None:
        self.thread = threading.Thread(target=self._run, name="rillevents-batching", daemon=True)

    def start(self) -> None:
        """Start the thread, or be `ended` where none is to be had."""
        try:
            self.thread.start()
        except RuntimeError as error:
            # Too many threads, or too late for one. The events stay, the next emit tries again, and close() tells.
            self.stop = Outcome(Kind.TEMPORARY, str(error))
            self.ended, self.memory.wake_at = True, 0

    def wake(self) -> None:
        if not self.ended:
            self.memory.wake_at = math.inf
            self.memory.work.notify_all()

    def ask(self) -> int:
        """Ask for a round that begins after this; `answered` gets to the number returned once it is over."""
        self.asked += 1
        self.wake()
        return self.asked

    def ask_to_end(self, by: float) -> None:
        self._closing_at = self.memory.removed + len(self.memory.lines)
        self._close_by = min(self._close_by, by)
        self.ask()

    def end(self) -> None:
        """Drop what was there when a close was asked for; what came later starts anew."""
        memory = self.memory
        # First of all: so that nothing that this thread may still bring home is taken for the verdict on other lines.
        self.ended = True
        dropped = memory.drop_before(self._closing_at, "closed")
        memory.end_delivery()
        if dropped and self.stop is None:
            self.stop = Outcome(Kind.TEMPORARY, self.link.answer or "no answer in time")
        self.answered, memory.wake_at = self.asked, 0
        memory.work.notify_all()
        memory.changed.notify_all()
        self._untold += dropped
        if memory.lines:
            self.start_anew()

    def has_thread(self) -> bool:
        return self.thread.ident is not None

    def tell_dropped(self) -> None:
        """Log how many were dropped, once; for who waited for the end, since the thread may be cut off at exit."""
        self._tell_overflow()
        with self.memory.lock:
            n, self._untold = self._untold, 0
        if n:
            reason = self.stop.reason if self.stop else ""
            _log.warning("%d events could not be delivered before the end, and are dropped: %s", n, reason)

    def _run(self) -> None:
        try:
            while not self._await_round():
                self._round()
            self._round()
            self.link.close()
            with self.memory.lock:
                self._check()
                self.end()
        except _Abandoned:
            return

    def _check(self) -> None:
        if self.ended:
            raise _Abandoned

    def _await_round(self) -> bool:
        """Return when it is time for a round, and whether that is the last one."""
        with self.memory.lock:
            while True:
                self._check()
                wait = self._next_round() - time.monotonic()
                closing = self._close_by < math.inf
                if closing or self.asked > self.answered or wait <= 0:
                    self.memory.wake_at = math.inf
                    return closing
                self.memory.work.wait(None if wait == math.inf else wait)

    def _next_round(self) -> float:
        now, memory, held = time.monotonic(), self.memory, len(self.memory.lines)
        if held <= self._kept:
            self._due, memory.wake_at = math.inf, held + 1
        else:
            memory.wake_at = min(self._kept + self.batch_events, memory.limit)
            self._due = now if held >= memory.wake_at else min(self._due, now + self.interval)
        if now < self._not_before:
            memory.wake_at = math.inf
        return max(min(self._due, self._retry_at), self._not_before)

    def _round(self) -> None:
        with self.memory.lock:
            self._check()
            asked = self._heard = self.asked
            final = asked > self.answered or self._close_by < math.inf
            if final:
                self.backoff.failures = 0
            # What comes from now on comes after now: so its time is not up before this, however long the round takes.
            self._kept, self._due = len(self.memory.lines), time.monotonic() + self.interval
            left_behind = self._leave_busy_link()
            deadline = _RoundDeadline(lambda: 0.0 if self.ended else self._close_by)
            delivery = Delivery(self.link, deadline, backoff=self.backoff, sleep=self._pause)
            self.memory.delivery = delivery
        if left_behind is not None:
            left_behind.close()
        self._end_round(asked, self._outcome(delivery, final=final))

    def _leave_busy_link(self) -> _Link | None:
        before = self.link
        if before.busy:
            self.link = before.successor()
        return before if before is not self.link else None

    def _outcome(self, delivery: Delivery, *, final: bool) -> Outcome | None:
        try:
            return self._deliver(delivery, final=final)
        except _Abandoned:
            raise
        except Exception as error:  # noqa: BLE001 - no thread to be had, or a bug: the events stay
            return Outcome(Kind.TEMPORARY, f"{type(error).__name__}: {error}")
        finally:
            delivery.close()

    def _deliver(self, delivery: Delivery, *, final: bool) -> Outcome | None:
        """Deliver the round's events; those that are HELD stay in front until its end.

        With nothing accepted they become rejected where somebody asked for a flush: since then nothing more comes that
        could be evidence. In a round of the worker's own they stay, to be tried again beside the next events.
        """
        stop, held = None, 0
        while stop is None and held < self._kept:
            with self.memory.lock:
                self._check()
                batch = Batch(self.memory.read(held, min(held + self.batch_events, self._kept)))
            settlement = delivery.deliver(batch)
            kept, stop = self._settle(held, settlement.verdicts), settlement.stop
            held += kept if stop is None else 0
        if held:
            self._settle(0, [delivery.held_verdict(final)] * held)
        return stop

    def _settle(self, start: int, verdicts: Sequence[Verdict]) -> int:
        with self.memory.lock:
            self._check()
            kept, news = self.memory.settle(start, verdicts)
            self._kept -= len(verdicts) - kept
            if kept < len(verdicts):
                self.backoff.failures = 0
        if news:
            _log.warning("the destination refuses events for good, and they are dropped: %s", news)
        return kept

    def _pause(self, seconds: float) -> None:
        with self.memory.lock:
            self.memory.work.wait_for(lambda: self.ended or self.asked != self._heard, seconds)
            self._heard = self.asked

    def _end_round(self, asked: int, stop: Outcome | None) -> None:
        with self.memory.lock:
            self._check()
            self.memory.end_delivery()
            retry_at = time.monotonic() + self.backoff.after_round(stop)
            self._not_before = 0.0 if stop is None else retry_at
            self._retry_at = retry_at if self._kept else math.inf
            self.answered, self.stop = asked, stop
            self.memory.changed.notify_all()
            closing = self._close_by < math.inf
        self._tell_overflow()
        if not closing:
            self._tell_trouble(stop)

    def _tell_overflow(self) -> None:
        with self.memory.lock:
            n, self.memory.overflow = self.memory.overflow, 0
        if n and not self._overflowing:
            reason = f"{self.memory.limit} wait in memory, which is all it may hold"
            _log.warning("%d events are dropped: %s", n, reason)
        self._overflowing = n > 0

    def _tell_trouble(self, stop: Outcome | None) -> None:
        before, self._trouble = self._trouble, stop.kind if stop is not None else None
        if stop is not None and stop.kind is not before:
            _log.warning("events wait in memory: %s", stop.reason)
        elif stop is None and before is not None:
            _log.info("events are delivered again")


class BatchingSink(Sink):
    """Keeps events in memory, at most *buffer_size*, and sends them from a thread of its own, in batches.

    An event is sent at most *interval* seconds after it came, or once there are *batch_events*. What cannot be
    delivered now stays, in order, and is tried again, ever less often up to every half minute. *close_timeout* is what
    `close` may take, and the end of the process. The thread lives until then, and the sink with it.

    An exporter with connections can neither be shared with a forked child nor be used after `close`, nor while a call
    to it hangs: *renew* makes another for these cases. Without it the same one goes on being used, but never by two
    calls at a time, nor in the child of a process that has used it.

    Safe in threads, signal handlers and forks: a child begins with nothing, and its parent keeps what it holds. At the
    end of a process, and of a child of multiprocessing, the sink is closed; `os._exit` and a kill lose what is held.
    """

    def __init__(
        self,
        exporter: Exporter,
        *,
        renew: Callable[[], Exporter] | None = None,
        buffer_size: int = 10_000,
        batch_events: int = 500,
        interval: float = 1.0,
        close_timeout: float = 2.0,
        max_wait: float = 1.0,
        backoff: Backoff | None = None,
    ) -> None:
        # Here, not in a thread or a flush: because a child that is forked during an import can never do the same one.
        import rillevents.flusher  # noqa: F401

        if min(buffer_size, batch_events) < 1:
            raise ValueError("buffer_size and batch_events are at least 1")
        self._memory = _Memory(buffer_size)
        self._link = _Link(exporter, renew)
        self._worker: _Worker | None = None
        self._batch_events = batch_events
        self._interval = interval
        self._close_timeout = close_timeout
        self._max_wait = max_wait
        self._backoff = backoff or Backoff()
        _sinks.add(self)

    def emit(self, event: Event) -> None:
        """Put the event into memory, and return; raises InvalidEvent where it is none.

        Where memory is full it waits for room, at most *max_wait* seconds, and then drops the event, counted as `queue
        full`; the emits after it do not wait until there has been room again, nor does one in a signal handler that
        interrupted the sink. After `close` an emit starts anew.
        """
        line = event.line
        memory = self._memory
        with memory.lock:
            if event.truncated:
                memory.count("truncated")
            if len(memory.lines) < memory.limit:
                self._put(line)
                return
        self._put_late(line)

    def flush(self, timeout: float | None = None) -> FlushResult:
        """Send what is held now, in at most *timeout* seconds, and return what came of it; never raises.

        The counts are of all that was settled meanwhile; `pending` is what is in memory afterwards, to be tried again.
        """
        started = time.monotonic()
        with self._memory.lock:
            before = self._memory.totals()
            stop = self._ask_and_wait(timeout) if self._memory.lines else None
            return self._result(before, stop, time.monotonic() - started)

    def close(self, timeout: float | None = None) -> None:
        """Send what is held, in at most *timeout* seconds (else *close_timeout*), and end the thread and the exporter.

        What is left then is dropped, counted as `closed`, and logged. Never raises. What comes meanwhile starts anew.
        """
        self._await_end(*self._ask_to_end(timeout))

    def count(self, kind: str, reason: str = "", n: int = 1) -> None:
        """Note *n* events that did not get here; what is `dropped` counts as recorded, too."""
        self._memory.count(kind, reason, n)

    @property
    def counts(self) -> Mapping[str, Any]:
        """The ledger of this process: `recorded` is always `delivered`, `rejected`, all `dropped` and `pending`."""
        with self._memory.lock:
            return self._memory.ledger()

    def _put(self, line: bytes) -> None:
        self._memory.lines.append(line)
        if len(self._memory.lines) >= self._memory.wake_at:
            self._wake()
            if _exiting:
                self.close()  # Nobody else will: what runs at the end of the process has run.

    def _put_late(self, line: bytes) -> None:
        memory = self._memory
        # Not where the lock is held already: because a wait lets go of it, in the midst of what was interrupted.
        may_wait = not memory.is_held()
        with memory.lock:
            self._wake()
            if memory.wait_for_room(self._max_wait) if may_wait else memory.has_room():
                self._put(line)
            else:
                # Told by the worker, not here: because this may be a signal handler, which must not write to the log.
                memory.count("dropped", "queue full")
                memory.overflow += 1

    def _wake(self) -> None:
        if self._worker is not None and not self._worker.ended:
            self._worker.wake()
        else:
            self._start()

    def _start(self) -> _Worker:
        """Return the worker, a new one where the last has ended."""
        before = self._worker
        if before is not None and not before.ended:
            return before
        _close_at_exit()
        link = self._link if before is None else before.link.successor()
        events, backoff = min(self._batch_events, self._memory.limit), _LastingBackoff(self._backoff)
        worker = _Worker(self._memory, link, events, self._interval, backoff, self._wake)
        # A signal handler that came in between may have started one; after this look it finds ours.
        if self._worker is before:
            self._worker = worker
            self._memory.wake_at = math.inf
            worker.start()
        return self._worker or worker

    def _ask_and_wait(self, timeout: float | None) -> Outcome | None:
        worker = self._start()
        ticket = worker.ask()
        self._memory.changed.wait_for(
            lambda: worker.answered >= ticket or worker.ended or not self._memory.lines,
            None if timeout is None else min(timeout, threading.TIMEOUT_MAX),
        )
        if worker.answered >= ticket:
            return worker.stop
        if not self._memory.lines:
            return None
        answer = f"; the last answer was: {worker.link.answer}" if worker.link.answer else ""
        return Outcome(Kind.TEMPORARY, f"not delivered in time{answer}")

    def _result(self, before: tuple[int, ...], stop: Outcome | None, seconds: float) -> FlushResult:
        from rillevents.flusher import FlushResult

        memory = self._memory
        delivered, rejected, dropped, requests, size = (a - b for a, b in zip(memory.totals(), before, strict=True))
        if stop is not None:
            outcome, reason = _OUTCOMES.get(stop.kind, "temporary"), stop.reason
        elif rejected:
            outcome, reason = "rejected", f"{rejected} events were refused for good: {memory.last_rejection}"
        else:
            outcome, reason = "delivered" if delivered else "empty", ""
        seconds = round(seconds, 3)
        return FlushResult(outcome, delivered, rejected, 0, dropped, len(memory.lines), requests, size, seconds, reason)

    def _ask_to_end(self, timeout: float | None) -> tuple[_Worker | None, float]:
        by = time.monotonic() + (self._close_timeout if timeout is None else timeout)
        with self._memory.lock:
            if self._memory.lines or (self._worker is not None and not self._worker.ended):
                self._start().ask_to_end(by)
            return self._worker, by

    def _await_end(self, worker: _Worker | None, by: float) -> None:
        if worker is None:
            self._link.close()
            self._link = self._link.successor()
            return
        with self._memory.lock:
            self._memory.changed.wait_for(lambda: worker.ended, by - time.monotonic())
            # Without a thread it has ended too, and leaves its events to us.
            abandoned = not (worker.ended and worker.has_thread())
            if abandoned:
                worker.end()
        if abandoned:
            worker.link.close()
        worker.tell_dropped()
        if worker.has_thread() and worker.thread is not threading.current_thread():
            worker.thread.join(max(0.0, by - time.monotonic()))

    def _after_fork(self) -> None:
        self._memory = _Memory(self._memory.limit)
        self._link = (self._worker.link if self._worker is not None else self._link).after_fork()
        self._worker = None


class IntakeSink(BatchingSink):
    """Sends events to an intake over HTTP, in the background; what BatchingSink says holds.

    Raises ConfigError where the URL, the credentials or the certificates cannot be used, as IntakeExporter does. Forked
    children, and a sink that is used after `close`, get connections of their own.
    """

    def __init__(
        self,
        url: str,
        *,
        user: str | None = None,
        password: str | None = None,
        token: str | None = None,
        compression: str = "none",
        ca_cert: str | os.PathLike[str] | None = None,
        buffer_size: int = 10_000,
        batch_events: int = 500,
        interval: float = 1.0,
        close_timeout: float = 2.0,
        max_wait: float = 1.0,
    ) -> None:
        import encodings.idna  # noqa: F401 - or the first connection would import it, in a thread

        from rillevents.exporters.intake import IntakeExporter

        make = partial(
            IntakeExporter, url, user=user, password=password, token=token, compression=compression, ca_cert=ca_cert
        )
        super().__init__(
            make(),
            renew=make,
            buffer_size=buffer_size,
            batch_events=batch_events,
            interval=interval,
            close_timeout=close_timeout,
            max_wait=max_wait,
        )


_sinks: WeakSet[BatchingSink] = WeakSet()
_inherited: list[_Link] = []
_exiting = False


def _close_all() -> None:
    # All are asked first: so that they end at the same time, not one after the other.
    ending = [(sink, *sink._ask_to_end(None)) for sink in list(_sinks) if sink._worker is not None]
    for sink, worker, by in ending:
        sink._await_end(worker, by)


def _close_last() -> None:
    global _exiting
    _exiting = True
    _close_all()


@cache
def _close_at_exit() -> None:
    # First a finalizer, so that weakref's own exit function is registered before ours, and runs after it: because it
    # ends the threads of deliveries under way.
    finalize(_sinks, len, ())
    atexit.register(_close_last)
    # Before that too, where threading has a hook: because from Python 3.12 on an atexit function cannot start the
    # thread that an export needs, and because children of multiprocessing run that hook only.
    try:
        getattr(threading, "_register_atexit", atexit.register)(_close_all)
    except RuntimeError:  # It is past that point.
        pass


def _after_fork() -> None:
    for sink in list(_sinks):
        sink._after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
