"""Spool → exporter: one flush, from taking the lock to the result."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace

from rillevents.delivery.outcome import Exporter, FlushOutcome, FlushResult, Outcome
from rillevents.delivery.pace import BatchSize, Deadline
from rillevents.delivery.settle import Delivery
from rillevents.errors import Busy
from rillevents.event import format_time
from rillevents.event.batch import DELIVERED, HELD, UNSETTLED, Batch, Doubtful, LineVerdict
from rillevents.event.timestamp import oldest, parse_time
from rillevents.spool import VERSION, check, unwritable
from rillevents.spool.drain import Drain
from rillevents.spool.offsets import SpoolBatch
from rillevents.spool.view import contents

# Of every destination that drops by an event's time, none says so in its answer.
OLD = "events older than a day were delivered; some destinations drop such silently (run: rillevents help destinations)"
_DAY_NS = 86_400 * 1_000_000_000
_POLL_SECONDS = 0.05


@dataclass(slots=True)
class Flusher:
    """Empties spools into an exporter, one flush at a time.

    A batch has at most *batch_events* lines and *batch_bytes* bytes; while answers come quickly the batches grow, up to *most*
    (events and bytes). *timeout* limits the whole flush, in seconds (None: no limit); *stall_timeout* limits the seconds without
    progress. If another flush is running, *wait* false raises Busy at once; otherwise the flusher waits until the deadline.
    *on_progress* gets the number of events settled so far, *on_wait* the seconds until the next attempt, *on_settled* each batch
    with its verdicts once they are committed, *warn* once a flush what an answer says beside an acknowledgement. *destination*
    is its name for people. *sleep* and *clock* are for tests.
    """

    exporter: Exporter
    batch_events: int = 1000
    batch_bytes: int = 1 << 20
    most: tuple[int, int] | None = None
    timeout: float | None = None
    stall_timeout: float = 30.0
    wait: bool = True
    on_progress: Callable[[int], None] | None = None
    on_wait: Callable[[float], None] | None = None
    warn: Callable[[str], None] = lambda message: None
    on_settled: Callable[[Batch, Sequence[LineVerdict]], None] | None = None
    sleep: Callable[[float], None] = time.sleep
    clock: Callable[[], float] = time.monotonic
    destination: str = ""
    _held: list[tuple[SpoolBatch, Sequence[LineVerdict]]] = field(default_factory=list)
    _oldest: str = ""

    def flush(self, spools: Sequence[str]) -> FlushResult:
        """Deliver what is in *spools* now, and return the result; raises SpoolError, and Busy."""
        started = self.clock()
        self._held.clear()
        self._oldest = ""
        deadline = Deadline(self.timeout, self.stall_timeout, clock=self.clock)
        delivery = Delivery(self.exporter, deadline, sleep=self._wait)
        result = FlushResult(FlushOutcome.EMPTY)
        try:
            for folder in filter(None, map(check, spools)):
                result = self._flush_folder(folder, delivery, deadline, result, started)
                if result.outcome.needs_attention:
                    break
        finally:
            delivery.close()
            if delivery.warning:
                self.warn(delivery.warning)
            if getattr(self.exporter, "may_drop_old", False) and _is_old(self._oldest):
                self.warn(OLD)
        return self._finished(result, started, delivery, spools)

    def _wait(self, seconds: float) -> None:
        if self.on_wait:
            self.on_wait(seconds)
        self.sleep(seconds)

    def _finished(self, result: FlushResult, started: float, delivery: Delivery, spools: Sequence[str]) -> FlushResult:
        return replace(
            result,
            pending=sum(contents(spool).events for spool in spools),
            requests=delivery.requests,
            bytes=delivery.bytes,
            seconds=round(self.clock() - started, 3),
        )

    def _flush_folder(
        self, folder: str, delivery: Delivery, deadline: Deadline, before: FlushResult, started: float
    ) -> FlushResult:
        drain = Drain(folder, batch_events=self.batch_events, batch_bytes=self.batch_bytes)
        self._acquire(drain, deadline)
        # Waiting for another flush does not count as a stall.
        deadline.progress()
        try:
            counts = dict(drain.state.counts)
            stop = self._deliver(drain, delivery, before.delivered + before.rejected)
            result = _result(drain, counts, stop, before)
            told = self._finished(result, started, delivery, [folder[: -len(VERSION) - 1]])
            drain.state.last_flush = {"at": format_time(time.time_ns()), **asdict(told), "to": self.destination}
        except OSError as error:
            raise unwritable(f"the spool {folder} could not be emptied", error) from None
        finally:
            drain.release()
        return result

    def _acquire(self, drain: Drain, deadline: Deadline) -> None:
        while True:
            try:
                drain.acquire()
                return
            except Busy:
                if not self.wait or deadline.remaining() <= _POLL_SECONDS:
                    raise
            self.sleep(_POLL_SECONDS)

    def _deliver(self, drain: Drain, delivery: Delivery, settled: int) -> Outcome | None:
        ahead = Prefetch(drain, getattr(self.exporter, "prepare", None))
        start = (self.batch_events, self.batch_bytes)
        size = BatchSize(start, self.most or start)
        while (taken := ahead.take()) is not None:
            batch, lines = taken
            began = self.clock()
            settlement = delivery.deliver(lines, meanwhile=ahead.read) if len(lines) else None
            if settlement and size.settled(lines, settlement.verdicts, self.clock() - began):
                drain.limit(*size.limits)
            if settlement:
                self._note_times(batch.times, settlement.verdicts)
            self._held.append((batch, settlement.verdicts if settlement else ()))
            if settlement and settlement.stop:
                self._commit(drain, UNSETTLED)
                return settlement.stop
            if delivery.accepted_any or not any(map(_has_held, self._held)):
                settled += sum(len(verdicts) for _, verdicts in self._held)
                self._commit(drain, delivery.held_verdict(final=False))
                if self.on_progress:
                    self.on_progress(settled)
        self._commit(drain, delivery.held_verdict(final=True))
        return None

    def _note_times(self, times: Sequence[str], verdicts: Sequence[LineVerdict]) -> None:
        """Remember the time of the oldest event that was delivered."""
        if verdicts.count(DELIVERED) < len(verdicts):
            pairs = zip(times, verdicts, strict=True)
            times = [time for time, verdict in pairs if verdict is DELIVERED or isinstance(verdict, Doubtful)]
        self._oldest = oldest([time for time in (self._oldest, oldest(times)) if time])

    def _commit(self, drain: Drain, held: LineVerdict) -> None:
        """Commit the batches that wait for evidence, in order; *held* is their verdict."""
        for batch, verdicts in self._held:
            if _has_held((batch, verdicts)):
                verdicts = [held if verdict is HELD else verdict for verdict in verdicts]
            drain.commit(batch, verdicts)
            if self.on_settled and verdicts:
                self.on_settled(batch.batch, verdicts)
        self._held.clear()


def _is_old(event_time: str) -> bool:
    try:
        return bool(event_time) and parse_time(event_time) < time.time_ns() - _DAY_NS
    except ValueError:
        return False


def _has_held(settled: tuple[SpoolBatch, Sequence[LineVerdict]]) -> bool:
    verdicts = settled[1]
    # The same object each time, which is quick to count; to look for another one is not.
    return verdicts.count(DELIVERED) < len(verdicts) and HELD in verdicts


class Prefetch:
    """The batches of a spool; reads the next one, and lets the exporter *prepare* it, while the current one is being sent."""

    def __init__(self, drain: Drain, prepare: Callable[[Batch], None] | None) -> None:
        self._drain = drain
        self._prepare = prepare
        self._batches = drain.batches()
        self._read: list[tuple[SpoolBatch, Batch] | None] = []
        self._failure: Exception | None = None

    def read(self) -> None:
        """Read the next batch; the batch, or the error from reading it, waits for `take`."""
        try:
            self._read.append(self._next())
        except Exception as error:  # noqa: BLE001 - the current batch must be settled first
            self._failure = error
            return
        if self._read[0] and self._prepare:
            with suppress(Exception):
                self._prepare(self._read[0][1])

    def take(self) -> tuple[SpoolBatch, Batch] | None:
        """Return the next batch and its lines, None at the end."""
        if self._failure:
            raise self._failure
        taken = self._read.pop() if self._read else self._next()
        if taken is None:
            # Ask again now that everything before is committed: only a commit notices lines added to a file meanwhile.
            self._batches = self._drain.added()
            taken = self._next()
        return taken

    def _next(self) -> tuple[SpoolBatch, Batch] | None:
        batch = next(self._batches, None)
        return (batch, batch.batch) if batch else None


def _result(drain: Drain, counts: Mapping[str, int], stop: Outcome | None, before: FlushResult) -> FlushResult:
    rejected = drain.state.counts["rejected"] - counts["rejected"] + before.rejected
    delivered = drain.state.counts["delivered"] - counts["delivered"] + before.delivered
    dropped = drain.enforce_caps() + before.dropped
    if stop:
        outcome, reason = FlushOutcome.of(stop), stop.reason
    elif drain.problem:
        outcome, reason = FlushOutcome.TEMPORARY, drain.problem
    elif rejected:
        outcome, reason = FlushOutcome.REJECTED, "some events were refused for good and moved to rejected/"
    else:
        outcome, reason = FlushOutcome.DELIVERED if delivered else FlushOutcome.EMPTY, before.reason
    return replace(
        before,
        outcome=outcome,
        reason=reason,
        delivered=delivered,
        rejected=rejected,
        corrupt=drain.corrupt + before.corrupt,
        dropped=dropped,
    )
