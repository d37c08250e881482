"""Settles batches with a destination: which events were delivered, which were refused, which are to be kept.

Rules that a reviewer should hold this file to:

1. Every line gets exactly one verdict, UNSETTLED unless the destination said otherwise.
2. A line is rejected only where it was refused alone or named by an acknowledgement, and for a 400 or a 500 only if
   something else was accepted: because a destination that refuses everything is the wrong one.
3. No wait ends after the deadline, and once a call was left behind nothing further is sent.
"""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Callable
from dataclasses import replace
from queue import SimpleQueue

from rillevents.batch import DELIVERED, HELD, UNSETTLED, Batch, Mark, Rejected, Settlement, Verdict
from rillevents.exporters import Exporter, Kind, Outcome
from rillevents.retry import Backoff, Deadline, attempt, clean

__all__ = ["DELIVERED", "HELD", "UNSETTLED", "Deadline", "Delivery", "Mark", "Rejected", "Settlement", "Verdict"]

SERVER_ERROR_ATTEMPTS = REFUSED_SINGLES = 3
MOST_SUSPECTS = 8
WAIT_SLICE = 1.0


class _Stop(Exception):
    def __init__(self, outcome: Outcome) -> None:
        super().__init__(outcome.reason)
        self.outcome = outcome


class _LeftBehind(Exception):
    """Ends the upload of a call that nobody waits for any longer."""


class _Call:
    def __init__(self, batch: Batch) -> None:
        self.batch = batch
        self.done = threading.Event()
        self.outcome = Outcome(Kind.TEMPORARY)


def _make_calls(exporter: Exporter, calls: SimpleQueue[_Call | None]) -> None:
    while (call := calls.get()) is not None:
        call.outcome = attempt(exporter, call.batch)
        call.done.set()
        del call  # It leads back to the Delivery, which could not be collected while the next one is waited for.


class Delivery:
    """Settles one batch after another with one exporter, inside one deadline.

    Not for several threads at once. The exporter runs on a daemon thread, and is left behind when the deadline ends,
    or at an interrupt; then everything is unsettled from there on, and `exporter.close()` is still the caller's.
    """

    def __init__(
        self,
        exporter: Exporter,
        deadline: Deadline,
        *,
        backoff: Backoff | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.requests = 0
        self.bytes = 0
        self.accepted_any = False
        self._exporter = exporter
        self._deadline = deadline
        self._backoff = backoff or Backoff()
        self._sleep = sleep
        self._calls: SimpleQueue[_Call | None] = SimpleQueue()
        # By a finalizer as well as by close(), because the thread would otherwise outlive a Delivery that was dropped.
        self._end_thread = weakref.finalize(self, self._calls.put, None)
        # Not at exit: because what is sent then still needs the thread, and that is a daemon, which ends by itself.
        self._end_thread.atexit = False
        self._thread: threading.Thread | None = None
        self._left_behind = False
        self._stopped = False
        self._singles_refused = 0
        self._held_reason = ""
        self._last_answer = ""
        self._sent = self._most_sent = 0
        self._meanwhile: Callable[[], None] | None = None

    def close(self) -> None:
        """End the thread as soon as it is idle; nothing can be delivered afterwards."""
        self._left_behind = True
        self._end_thread()

    def deliver(self, batch: Batch, meanwhile: Callable[[], None] | None = None) -> Settlement:
        """Return a verdict for each line; whatever the exporter does, only an interrupt of this thread is raised.

        *meanwhile* is called once, while the first request is under way; what it raises counts as an interrupt.
        """
        self._most_sent = 0
        self._meanwhile = meanwhile
        settling = _Settling(self, Batch(batch.lines, self._on_progress, size=batch.size))
        stop = settling.run()
        self._stopped = self._stopped or stop is not None
        return Settlement(tuple(settling.verdicts), stop)

    def held_verdict(self, final: bool) -> Verdict:
        """Return what became of the events that were HELD: rejected once anything was accepted, or nothing more comes.

        After a stop without any acceptance there is no such evidence, and they are UNSETTLED: to be kept.
        """
        if self.accepted_any:
            return Rejected(self._held_reason)
        if self._stopped:
            return UNSETTLED
        return Rejected(self._held_reason) if final else HELD

    def _request(self, batch: Batch) -> Outcome:
        if self._left_behind or self._deadline.expired:
            raise _Stop(Outcome(Kind.TEMPORARY, self._with_last_answer("no time left")))
        self.requests += 1
        self._sent = 0
        outcome = self._wait_for(self._start(batch))
        # Where nothing was reported, an acknowledgement alone tells that all was sent.
        self.bytes += self._sent or (batch.size if outcome.kind is Kind.ACCEPTED else 0)
        self._last_answer = outcome.reason
        return outcome

    def _pause(self, attempt: int, outcome: Outcome) -> None:
        wait = self._backoff.delay(attempt, outcome.retry_after)
        if wait >= self._deadline.remaining():
            raise _Stop(replace(outcome, kind=Kind.TEMPORARY))
        self._sleep(wait)

    def _count_refused_single(self, reason: str) -> None:
        self._singles_refused += 1
        if not self.accepted_any and self._singles_refused >= REFUSED_SINGLES:
            raise _Stop(Outcome(Kind.MISCONFIGURED, clean(f"every event is refused: {reason}")))

    def _refusal(self, reason: str, stop: Outcome | None) -> Verdict:
        if self.accepted_any:
            return Rejected(reason)
        if stop is not None:
            return UNSETTLED
        self._held_reason = reason
        return HELD

    def _start(self, batch: Batch) -> _Call:
        call = _Call(batch)
        if self._thread is None:
            thread = threading.Thread(target=_make_calls, args=(self._exporter, self._calls), daemon=True)
            try:
                thread.start()
            except RuntimeError:
                # The interpreter is shutting down and starts no more threads: then here, without a deadline.
                call.outcome = attempt(self._exporter, batch)
                call.done.set()
                return call
            self._thread = thread
        self._calls.put(call)
        return call

    def _wait_for(self, call: _Call) -> Outcome:
        started = self._deadline.clock()
        meanwhile, self._meanwhile = self._meanwhile, None
        try:
            if meanwhile:
                meanwhile()
            # In slices, not for all that is left: because an upload that moves gets more, and because a wait
            # cannot be interrupted on every platform.
            while not call.done.wait(min(self._deadline.remaining(), WAIT_SLICE)):
                if self._deadline.expired:
                    seconds = self._deadline.clock() - started
                    reason = self._with_last_answer(f"no answer within {round(seconds, 1):g} s")
                    raise _Stop(Outcome(Kind.TEMPORARY, reason))
        except BaseException:
            self.close()
            raise
        return call.outcome

    def _with_last_answer(self, reason: str) -> str:
        return clean(f"{reason}; the last answer was: {self._last_answer}") if self._last_answer else reason

    def _on_progress(self, sent: int) -> None:
        if self._left_behind:
            raise _LeftBehind
        self._sent = sent
        if sent > self._most_sent:
            self._most_sent = sent
            self._deadline.progress()


class _Settling:
    """The verdicts on one batch, found by halving what is refused."""

    def __init__(self, delivery: Delivery, batch: Batch) -> None:
        self.verdicts: list[Verdict] = [UNSETTLED] * len(batch)
        self._delivery = delivery
        self._batch = batch
        self._refused: dict[int, str] = {}
        self._suspects: dict[int, str] = {}
        self._acceptances = 0
        # More 500s in a row than a descent to one bad event takes: the server may be down, and not the event bad.
        self._patience = len(batch).bit_length() + 6
        self._server_errors = 0

    def run(self) -> Outcome | None:
        stop = None
        try:
            if len(self._batch):
                self._settle(self._batch)
            if self._suspects:
                self._ask_again()
        except _Stop as found:
            stop = found.outcome
        for index, reason in self._refused.items():
            self.verdicts[index] = self._delivery._refusal(reason, stop)
        return stop

    def _settle(self, piece: Batch) -> None:
        outcome = self._send(piece, SERVER_ERROR_ATTEMPTS)
        if outcome.kind is not Kind.SERVER_ERROR:
            self._descend(piece, outcome)
        elif len(self._batch) == 1:
            raise _Stop(replace(outcome, kind=Kind.TEMPORARY))
        elif len(piece) == 1:
            self._suspect(piece, outcome)
        else:
            self._server_errors = 0
            self._halve(piece, outcome)

    def _send(self, piece: Batch, attempts: int) -> Outcome:
        attempt = 0
        while True:
            outcome = self._delivery._request(piece)
            if outcome.kind is Kind.ACCEPTED:
                self._accept(piece, outcome)
            elif outcome.kind in (Kind.REFUSED, Kind.MISCONFIGURED):
                raise _Stop(outcome)
            elif outcome.kind is Kind.SERVER_ERROR:
                attempts -= 1
                self._server_errors += 1
            if attempts <= 0 or outcome.kind not in (Kind.TEMPORARY, Kind.SERVER_ERROR):
                return outcome
            self._delivery._pause(attempt, outcome)
            attempt += 1

    def _accept(self, piece: Batch, outcome: Outcome) -> None:
        lines = range(len(piece))
        named = {offset: reason for offset, reason in outcome.rejected if reason is not None and offset in lines}
        self.verdicts[piece.start : piece.start + len(piece)] = [DELIVERED] * len(piece)
        for offset, reason in named.items():
            self.verdicts[piece.start + int(offset)] = Rejected(reason)
        self._delivery._deadline.progress()
        if len(named) == len(piece):
            return  # An acknowledgement that takes nothing is no evidence that the destination takes events.
        self._delivery.accepted_any = True
        self._acceptances += 1
        self._server_errors = 0

    def _suspect(self, piece: Batch, answer: Outcome) -> None:
        self._suspects[piece.start] = answer.reason
        if len(self._suspects) >= MOST_SUSPECTS and self._acceptances:
            # Settled now, not at the end: because the time may end before that, and then all of it was for nothing.
            self._ask_again()

    def _ask_again(self) -> None:
        """Send what failed alone, without an accepted neighbour, once more; what still fails is its own fault if others pass.

        Without that, bad events beside each other would stay at the head of the spool, and nothing behind them be delivered.
        """
        suspects, self._suspects = self._suspects, {}
        for index, reason in suspects.items():
            if not self._acceptances:
                raise _Stop(Outcome(Kind.TEMPORARY, reason))
            answer = self._send(self._batch.one(index), 1)
            if answer.kind is Kind.SERVER_ERROR:
                self._suspects[index] = answer.reason
            else:
                self._descend(self._batch.one(index), answer)
        for index, reason in self._suspects.items():
            self._probe(reason)
            self.verdicts[index] = Rejected(reason)
        self._suspects = {}

    def _probe(self, reason: str) -> None:
        """Send again what was accepted once: because only so are bad events told from a server that went down."""
        if self._server_errors:
            answer = self._delivery._request(self._batch.one(self.verdicts.index(DELIVERED)))
            if answer.kind is not Kind.ACCEPTED:
                raise _Stop(Outcome(Kind.TEMPORARY, reason))
            self._delivery._deadline.progress()
            self._server_errors = 0

    def _descend(self, piece: Batch, outcome: Outcome) -> None:
        if outcome.kind is Kind.ACCEPTED:
            return
        if len(piece) == 1:
            self._refuse(piece.start, outcome)
        elif outcome.kind is Kind.TOO_LARGE:
            for half in piece.split():
                self._settle(half)
        else:
            self._halve(piece, outcome)

    def _refuse(self, index: int, outcome: Outcome) -> None:
        if outcome.kind is Kind.TOO_LARGE:
            self.verdicts[index] = Rejected(outcome.reason)
            return
        self._refused[index] = outcome.reason
        self._delivery._count_refused_single(outcome.reason)

    def _halve(self, piece: Batch, outcome: Outcome) -> None:
        # Both halves first, then down: because an acceptance is evidence, and is wanted early.
        before = self._acceptances
        halves = [(half, self._send(half, self._attempts(half, outcome))) for half in piece.split()]
        for half, answer in halves:
            if answer.kind is not Kind.SERVER_ERROR:
                self._descend(half, answer)
        accepted_beside = self._acceptances > before
        for half, answer in halves:
            if answer.kind is Kind.SERVER_ERROR:
                self._doubt(half, answer, accepted_beside=accepted_beside)

    def _doubt(self, half: Batch, answer: Outcome, *, accepted_beside: bool) -> None:
        if self._server_errors > self._patience:
            if not self._acceptances:
                raise _Stop(replace(answer, kind=Kind.TEMPORARY))
            self._probe(answer.reason)
        if len(half) > 1:
            self._halve(half, answer)
        elif not accepted_beside:
            self._suspect(half, answer)
        else:
            # Once more: because an outage may have ended between the two.
            again = self._send(half, 1)
            if again.kind is Kind.SERVER_ERROR:
                self.verdicts[half.start] = Rejected(again.reason)
            else:
                self._descend(half, again)

    def _attempts(self, half: Batch, outcome: Outcome) -> int:
        """How often to try a half of what got this answer: seldom where more requests follow that tell as much."""
        if outcome.kind is not Kind.SERVER_ERROR:
            return SERVER_ERROR_ATTEMPTS
        return 2 if len(half) == 1 and not self._acceptances else 1
