"""A queue in memory and an exporter, in the background: for services, whose recording is to cost next to nothing.

Theory of operation. The events stay in one deque until they are settled: emitters append on the right, and one daemon thread, the
worker, looks at the left and removes what was delivered or rejected; so a failure changes nothing, neither order nor counts. One
lock guards it all, held for microseconds, never across a call to the exporter or the log. The worker goes in rounds, each over the
events that were there when it began, with a Delivery of its own: because what a destination accepted an hour ago is no evidence that
it is the right one now, because a Delivery that left a call behind sends nothing more, and because the stall clock starts when a
round does. A flush is a request for a round that begins after it; a close is one for the last round.

What memory cannot do: events that are held are lost with the process (a kill, `os._exit`, power). A program that must not lose any
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
from functools import cache, partial
from itertools import islice
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from rillevents.batch import DELIVERED, HELD, UNSETTLED, Batch, Rejected, Verdict
from rillevents.delivery import Deadline, Delivery
from rillevents.errors import ConfigError
from rillevents.exporters import Exporter, Kind, Outcome
from rillevents.retry import RETRY_AFTER_MAX, Backoff
from rillevents.sinks import Sink

if TYPE_CHECKING:
    from rillevents.event import Event
    from rillevents.flusher import FlushResult

BATCH_BYTES = 1 << 20
_LONGEST = 60  # The number of an attempt after which every Backoff has reached its cap.
_OUTCOMES = {Kind.REFUSED: "refused", Kind.MISCONFIGURED: "unconfigured"}
_log = logging.getLogger("rillevents")


class _Abandoned(Exception):
    """Ends a worker whose events were dropped by a close that could not wait for it."""


class _Link:
    """The exporter in use, made on first use where there is none yet, and never called twice at a time."""

    def __init__(self, exporter: Exporter | None, renew: Callable[[], Exporter] | None) -> None:
        self._exporter = exporter
        self._renew = renew
        self.busy = self.used = self._closed = False
        self.answer = ""

    def export(self, batch: Batch) -> Outcome:
        if self.busy:
            return Outcome(Kind.TEMPORARY, "the call before has not come back yet")
        self.busy = self.used = True
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
        if not self.used:
            return self
        # Not closed, nor collected: because its connections are the parent's, and closing would shut them down there.
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

    def after(self, stop: Outcome | None) -> float:
        wait = math.inf
        if stop is not None and stop.kind is Kind.TEMPORARY:
            wait = self.delay(0, stop.retry_after)
        return wait if wait <= 2 * RETRY_AFTER_MAX else self._inner.delay(_LONGEST)


class _RoundDeadline(Deadline):
    """The stall clock of a round, and what a close leaves of it, whenever that comes."""

    def __init__(self, end: Callable[[], float]) -> None:
        super().__init__(None)
        self._end_by = end

    def remaining(self) -> float:
        return max(0.0, min(super().remaining(), self._end_by() - self.clock()))


class BatchingSink(Sink):
    """Keeps events in memory, at most *buffer_size*, and sends them from a thread of its own, in order, in batches.

    An event is sent at most *interval* seconds after it came, or once there are *batch_events*. What is refused for now stays, and
    is tried again, ever less often up to half a minute. *close_timeout* is what `close` may take, and the end of the process.

    An exporter that has connections cannot be shared with a forked child, nor be used after `close`, nor while a call to it hangs:
    *renew* makes another for these cases. Without it the same one goes on being used, but not by the child of a process that used it.

    Safe in threads, signal handlers and forks: a child begins with nothing, and its parent keeps what it holds. `os._exit`, a kill
    and the end of a child that `os.fork` made by such means lose what is held.
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
        if min(buffer_size, batch_events) < 1:
            raise ValueError("buffer_size and batch_events are at least 1")
        self._link = _Link(exporter, renew)
        self._buffer_size = buffer_size
        self._batch_events = min(batch_events, buffer_size)
        self._interval = interval
        self._close_timeout = close_timeout
        self._max_wait = max_wait
        self._backoff = _LastingBackoff(backoff or Backoff())
        self._begin()
        _sinks.add(self)

    def emit(self, event: Event) -> None:
        """Put the event into memory, and return; raises InvalidEvent where it is none.

        Where memory is full it waits for room, at most *max_wait* seconds, and then drops the event, counted as `queue full`; the
        emits after it do not wait until there has been room again. After `close` an emit starts anew.
        """
        line = event.line
        with self._lock:
            if event.truncated:
                self.count("truncated")
            if len(self._lines) < self._buffer_size or self._wait_for_room():
                self._lines.append(line)
                if len(self._lines) >= self._wake_at:
                    self._wake()
                    if _exiting:
                        self.close()  # Nobody else will: the hooks that run at exit have run.
                return
            self.count("dropped", "queue full")
            told, self._full = self._full, True
        if not told:
            _log.warning("%d events wait in memory, which is all it may hold: events are dropped", self._buffer_size)

    def flush(self, timeout: float | None = None) -> FlushResult:
        """Send what is held now, in at most *timeout* seconds, and return what came of it; never raises.

        The counts are of all that was settled meanwhile, `pending` is what is in memory afterwards. What could not be sent stays.
        """
        started = time.monotonic()
        with self._lock:
            before = self._totals()
            stop = self._ask_and_wait(timeout) if self._lines else None
            return self._result(before, stop, time.monotonic() - started)

    def close(self, timeout: float | None = None) -> None:
        """Send what is held, in at most *timeout* seconds (*close_timeout* by default), and end the thread and the exporter.

        What is left then is dropped, counted as `closed`, and logged. Never raises. Events that come meanwhile start anew.
        """
        self._await_end(*self._ask_to_end(timeout))

    def count(self, kind: str, reason: str = "", n: int = 1) -> None:
        """Note *n* events that did not get here; what is `dropped` counts as recorded, too."""
        ledger, key = (self._dropped, reason) if kind == "dropped" else (self._counts, kind)
        with self._lock:
            ledger.setdefault(key, 0)
            # No call between reading and writing: because a signal handler, which may count as well, can only run after calls.
            ledger[key] += n

    @property
    def counts(self) -> Mapping[str, Any]:
        """The ledger of this process: `recorded` is always `delivered`, `rejected`, all that was `dropped` and `pending`."""
        with self._lock:
            pending, dropped = len(self._lines), dict(self._dropped)
            settled = self._counts["delivered"] + self._counts["rejected"] + sum(dropped.values())
            return {"recorded": settled + pending, **self._counts, "dropped": dropped, "pending": pending}

    def _begin(self) -> None:
        # Reentrant: because a signal handler may emit in the thread that it interrupted, with the lock held. Whatever it
        # interrupts has to bear that; so every change is one operation of a deque, or without a call in its midst.
        self._lock = threading.RLock()
        self._work, self._changed = threading.Condition(self._lock), threading.Condition(self._lock)
        self._lines: deque[bytes] = deque()
        self._counts = dict.fromkeys(("delivered", "rejected", "truncated", "refused"), 0)
        self._dropped: dict[str, int] = {}
        self._delivery: Delivery | None = None
        self._removed = self._requests = self._bytes = self._asked = self._answered = 0
        self._stop: Outcome | None = None
        self._trouble: Kind | None = None
        self._last_rejection = ""
        self._full = False
        self._without_worker()

    def _without_worker(self) -> None:
        self._worker: threading.Thread | None = None
        self._wake_at: float = 0
        self._kept = self._closing_at = self._backoff.failures = 0
        self._heard = self._asked
        self._not_before = 0.0
        self._due = self._retry_at = self._close_by = math.inf

    def _after_fork(self) -> None:
        self._link = self._link.after_fork()
        self._begin()

    def _wait_for_room(self) -> bool:
        if self._full:
            return False
        self._wake()
        return self._changed.wait_for(lambda: len(self._lines) < self._buffer_size, self._max_wait)

    def _wake(self) -> None:
        self._wake_at = math.inf
        if self._worker is not None:
            self._work.notify_all()
            return
        self._worker = threading.Thread(target=self._run, name="rillevents-batching", daemon=True)
        try:
            _close_at_exit()
            self._worker.start()
        except RuntimeError:
            # Too many threads, or too late for one. The events stay, the next emit tries again, and close() tells.
            self._without_worker()

    def _totals(self) -> tuple[int, ...]:
        requests, size = self._requests, self._bytes
        if self._delivery is not None:
            requests, size = requests + self._delivery.requests, size + self._delivery.bytes
        return self._counts["delivered"], self._counts["rejected"], sum(self._dropped.values()), requests, size

    def _ask_and_wait(self, timeout: float | None) -> Outcome | None:
        self._asked += 1
        ticket = self._asked
        self._wake()
        self._changed.wait_for(
            lambda: self._answered >= ticket or not self._lines or self._worker is None,
            None if timeout is None else min(timeout, threading.TIMEOUT_MAX),
        )
        if self._answered >= ticket:
            return self._stop
        if not self._lines:
            return None
        answer = f"; the last answer was: {self._link.answer}" if self._link.answer else ""
        return Outcome(Kind.TEMPORARY, f"not delivered in time{answer}")

    def _result(self, before: tuple[int, ...], stop: Outcome | None, seconds: float) -> FlushResult:
        from rillevents.flusher import FlushResult

        delivered, rejected, dropped, requests, size = (a - b for a, b in zip(self._totals(), before, strict=True))
        if stop is not None:
            outcome, reason = _OUTCOMES.get(stop.kind, "temporary"), stop.reason
        elif rejected:
            outcome, reason = "rejected", f"{rejected} events were refused for good: {self._last_rejection}"
        else:
            outcome, reason = "delivered" if delivered else "empty", ""
        pending = len(self._lines)
        return FlushResult(outcome, delivered, rejected, 0, dropped, pending, requests, size, round(seconds, 3), reason)

    def _ask_to_end(self, timeout: float | None) -> tuple[threading.Thread | None, float]:
        by = time.monotonic() + (self._close_timeout if timeout is None else timeout)
        with self._lock:
            if self._lines or self._worker is not None:
                self._closing_at = self._removed + len(self._lines)
                self._close_by = min(self._close_by, by)
                self._asked += 1
                self._wake()
            return self._worker, by

    def _await_end(self, worker: threading.Thread | None, by: float) -> None:
        with self._lock:
            if worker is not None:
                self._changed.wait_for(lambda: self._worker is not worker, by - time.monotonic())
            abandoned = self._worker is worker
            link = self._link
            if abandoned:
                self._stop = Outcome(Kind.TEMPORARY, link.answer or "no answer in time")
                dropped = self._end()
        if abandoned:
            link.close()
            self._tell_dropped(dropped)
        if worker is not None and worker is not threading.current_thread():
            worker.join(max(0.0, by - time.monotonic()))

    def _end(self) -> int:
        dropped = max(0, min(len(self._lines), self._closing_at - self._removed))
        for _ in range(dropped):
            self._lines.popleft()
        if dropped:
            self._removed += dropped
            self.count("dropped", "closed", dropped)
        self._link = self._link.successor()
        self._answered = self._asked
        self._without_worker()
        self._work.notify_all()
        self._changed.notify_all()
        if self._lines:
            self._wake()
        return dropped

    def _tell_dropped(self, n: int) -> None:
        if n:
            reason = self._stop.reason if self._stop else "no time left"
            _log.warning("%d events could not be delivered before the end, and are dropped: %s", n, reason)

    def _run(self) -> None:
        try:
            closing = False
            while not closing:
                closing = self._await_round()
                self._round()
            self._link.close()
            with self._lock:
                self._check_worker()
                dropped = self._end()
        except _Abandoned:
            return
        self._tell_dropped(dropped)

    def _check_worker(self) -> None:
        if self._worker is not threading.current_thread():
            raise _Abandoned

    def _await_round(self) -> bool:
        """Return when it is time for a round, true if it is the last one."""
        with self._lock:
            while True:
                self._check_worker()
                if self._asked > self._answered:
                    break
                wait = self._next_round() - time.monotonic()
                if wait <= 0:
                    break
                self._work.wait(None if wait == math.inf else wait)
            self._wake_at = math.inf
            return self._close_by < math.inf

    def _next_round(self) -> float:
        now, held = time.monotonic(), len(self._lines)
        if held <= self._kept:
            self._due, self._wake_at = math.inf, held + 1
        else:
            self._due = min(self._due, now + self._interval)
            self._wake_at = min(self._kept + self._batch_events, self._buffer_size)
            if held >= self._wake_at:
                self._due = now
        if now < self._not_before:
            self._wake_at = math.inf
        return max(min(self._due, self._retry_at), self._not_before)

    def _round(self) -> None:
        with self._lock:
            self._check_worker()
            asked = self._heard = self._asked
            final = asked > self._answered
            if final:
                self._backoff.failures = 0
            # What comes from now on came after now: so its time is not up before this, even if the round takes long.
            self._kept, self._due = len(self._lines), time.monotonic() + self._interval
            link = self._link
            if link.busy:
                self._link = link.successor()
            delivery = self._delivery = self._new_delivery()
        if link is not self._link:
            link.close()
        try:
            stop = self._deliver(delivery, final=final)
        except _Abandoned:
            raise
        except Exception as error:  # noqa: BLE001 - such as no thread to be had: the events stay, and so does the worker
            stop = Outcome(Kind.TEMPORARY, f"{type(error).__name__}: {error}")
        finally:
            delivery.close()
        self._end_round(asked, stop)

    def _new_delivery(self) -> Delivery:
        worker = self._worker
        deadline = _RoundDeadline(lambda: self._close_by if self._worker is worker else 0.0)
        return Delivery(self._link, deadline, backoff=self._backoff, sleep=self._pause)

    def _pause(self, seconds: float) -> None:
        worker = threading.current_thread()
        with self._lock:
            self._work.wait_for(lambda: self._asked != self._heard or self._worker is not worker, seconds)
            self._heard = self._asked

    def _deliver(self, delivery: Delivery, *, final: bool) -> Outcome | None:
        """Deliver the round's events; those that are HELD stay in front until the end of it.

        Nothing accepted, they become rejected where somebody asked for a flush, since then nothing more comes that could be
        evidence. In a round of the worker's own they stay, to be tried again beside the next events.
        """
        stop, held = None, 0
        while stop is None and held < self._kept:
            settlement = delivery.deliver(Batch(self._next_lines(held)))
            kept, stop = self._settle(held, settlement.verdicts), settlement.stop
            held += kept if stop is None else 0
        if held:
            self._settle(0, [delivery.held_verdict(final)] * held)
        return stop

    def _next_lines(self, start: int) -> list[bytes]:
        with self._lock:
            self._check_worker()
            lines, size = [], 0
            for line in islice(self._lines, start, min(start + self._batch_events, self._kept)):
                size += len(line)
                if lines and size > BATCH_BYTES:
                    break
                lines.append(line)
            return lines

    def _settle(self, start: int, verdicts: Sequence[Verdict]) -> int:
        """Remove what is delivered or rejected of the lines from *start* on, and return how many stay."""
        rejections = [verdict.reason for verdict in verdicts if isinstance(verdict, Rejected)]
        with self._lock:
            self._check_worker()
            self._lines.rotate(-start)
            lines = [self._lines.popleft() for _ in verdicts]
            kept = [line for line, verdict in zip(lines, verdicts, strict=True) if verdict in (HELD, UNSETTLED)]
            self._lines.extendleft(reversed(kept))
            self._lines.rotate(start)
            self._note_removed(len(lines) - len(kept), len(rejections))
            news = bool(rejections) and rejections[-1] != self._last_rejection
            self._last_rejection = rejections[-1] if rejections else self._last_rejection
        if news:
            _log.warning("the destination refuses events for good, which are dropped: %s", rejections[-1])
        return len(kept)

    def _note_removed(self, n: int, rejected: int) -> None:
        self.count("rejected", n=rejected)
        self.count("delivered", n=n - rejected)
        self._removed += n
        self._kept -= n
        if n > rejected:
            self._backoff.failures = 0
        if n:
            self._full = False
            self._changed.notify_all()

    def _end_round(self, asked: int, stop: Outcome | None) -> None:
        with self._lock:
            self._check_worker()
            *_, self._requests, self._bytes = self._totals()
            self._delivery = None
            retry_at = time.monotonic() + self._backoff.after(stop)
            self._not_before = retry_at if stop is not None else 0.0
            self._retry_at = retry_at if self._kept else math.inf
            self._answered, self._stop = asked, stop
            self._changed.notify_all()
            trouble = stop.kind if stop is not None else None
            news = trouble is not self._trouble and self._close_by == math.inf
            self._trouble = trouble
        if news and stop is not None:
            _log.warning("events wait in memory: %s", stop.reason)
        elif news:
            _log.info("events are delivered again")


class IntakeSink(BatchingSink):
    """Sends events to an intake over HTTP, in the background; what BatchingSink says holds.

    Raises ConfigError where the URL, the credentials or the certificates cannot be used, as IntakeExporter does. It needs no
    *renew*: forked children and a sink that is used after `close` get connections of their own.
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
    ending = [(sink, *sink._ask_to_end(None)) for sink in list(_sinks) if sink._lines or sink._worker is not None]
    for sink, worker, by in ending:
        sink._await_end(worker, by)


def _close_last() -> None:
    global _exiting
    _exiting = True
    _close_all()


@cache
def _close_at_exit() -> None:
    atexit.register(_close_last)
    # Before that too, where threading has a hook: because from Python 3.12 on an atexit function cannot start the thread that
    # an export needs, and because children of multiprocessing run that hook only. What other threads record later starts anew.
    try:
        getattr(threading, "_register_atexit", atexit.register)(_close_all)
    except RuntimeError:  # It is past that point.
        pass


def _after_fork() -> None:
    for sink in list(_sinks):
        sink._after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
