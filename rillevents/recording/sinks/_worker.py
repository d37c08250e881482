"""The thread behind a batching sink: when a round is due, what it does, and how it ends."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from rillevents.delivery.outcome import Kind, Outcome
from rillevents.delivery.settle import Delivery
from rillevents.event.batch import Batch, LineVerdict
from rillevents.event.muting import Muted
from rillevents.recording.sinks._link import ExporterHandle, LastingBackoff, RoundDeadline
from rillevents.recording.sinks._queue import EventQueue

_log = logging.getLogger("rillevents")


class _Abandoned(Exception):
    """Ends a worker whose events were dropped by a close that could not wait for it."""


@dataclass(eq=False)
class Worker:
    """One run of the thread, from an emit to a close. The lock of *memory* guards it, except for what `_run` calls."""

    memory: EventQueue
    link: ExporterHandle
    batch_events: int
    interval: float
    backoff: LastingBackoff
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
    _warned: str = ""
    _not_before: float = 0.0
    _retry_at: float = math.inf
    _due: float = math.inf
    _trouble: Kind | None = None
    thread: threading.Thread = field(init=False)

    def __post_init__(self) -> None:
        self.thread = threading.Thread(target=self._run_muted, name="rillevents-batching", daemon=True)

    def start(self) -> None:
        """Start the thread; without an available thread the worker is `ended`."""
        try:
            self.thread.start()
        except RuntimeError as error:
            # Too many threads, or too late for one. The events stay, the next emit tries again, and close() reports it.
            self.stop = Outcome(Kind.TEMPORARY, f"no thread could be started to deliver events: {error}")
            self.ended, self.memory.wake_at = True, 0

    def wake(self) -> None:
        if not self.ended:
            self.memory.wake_at = math.inf
            self.memory.work.notify_all()

    def ask(self) -> int:
        """Request a round that starts after this call; `answered` reaches the returned number once it is over."""
        self.asked += 1
        self.wake()
        return self.asked

    def ask_to_end(self, by: float) -> None:
        self._closing_at = self.memory.removed + len(self.memory.lines)
        self._close_by = min(self._close_by, by)
        self.ask()

    def end(self) -> None:
        """Drop the events that were there when a close was requested; later ones start anew."""
        memory = self.memory
        # First of all: a late answer on this thread must not be taken for the verdict on other lines.
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
        """Log once how many events were dropped; called by the waiter, since the thread may be stopped at exit."""
        with Muted():
            self._tell_overflow()
            with self.memory.lock:
                n, self._untold = self._untold, 0
            if n:
                reason = self.stop.reason if self.stop else ""
                _log.warning("%d events could not be delivered before the end and were dropped: %s", n, reason)

    def _run_muted(self) -> None:
        # What this thread logs is about events; as an event itself, it would be told of again.
        with Muted():
            self._run()

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
        """Wait until a round is due, and return whether it is the last one."""
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
            # Later events arrive after now, so they are not due before this, however long the round takes.
            self._kept, self._due = len(self.memory.lines), time.monotonic() + self.interval
            left_behind = self._leave_busy_link()
            deadline = RoundDeadline(lambda: 0.0 if self.ended else self._close_by)
            delivery = Delivery(self.link, deadline, backoff=self.backoff, sleep=self._pause)
            self.memory.delivery = delivery
        if left_behind is not None:
            left_behind.close()
        self._end_round(asked, self._outcome(delivery, final=final))

    def _leave_busy_link(self) -> ExporterHandle | None:
        before = self.link
        if before.busy:
            self.link = before.successor()
        return before if before is not self.link else None

    def _outcome(self, delivery: Delivery, *, final: bool) -> Outcome | None:
        try:
            return self._deliver(delivery, final=final)
        except _Abandoned:
            raise
        except Exception as error:  # noqa: BLE001 - no thread available, or a bug: the events stay
            return Outcome(Kind.TEMPORARY, f"{type(error).__name__}: {error}")
        finally:
            delivery.close()
            if delivery.warning not in ("", self._warned):
                self._warned = delivery.warning
                _log.warning("%s", delivery.warning)

    def _deliver(self, delivery: Delivery, *, final: bool) -> Outcome | None:
        """Deliver the round's events; HELD ones stay in front until its end.

        If nothing was accepted, they become rejected when a flush was requested: then nothing more can come that would be
        evidence. In the worker's own rounds they stay, and are retried together with the next events.
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

    def _settle(self, start: int, verdicts: Sequence[LineVerdict]) -> int:
        with self.memory.lock:
            self._check()
            kept, news = self.memory.settle(start, verdicts)
            self._kept -= len(verdicts) - kept
            if kept < len(verdicts):
                self.backoff.failures = 0
        if news:
            _log.warning("the destination refused events for good; they were dropped: %s", news)
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
            reason = f"{self.memory.limit} events are waiting in memory, which is the limit"
            _log.warning("%d events were dropped: %s", n, reason)
        self._overflowing = n > 0

    def _tell_trouble(self, stop: Outcome | None) -> None:
        before, self._trouble = self._trouble, stop.kind if stop is not None else None
        if stop is not None and stop.kind is not before:
            _log.warning("events are kept in memory: %s", stop.reason)
        elif stop is None and before is not None:
            _log.info("events are delivered again")
