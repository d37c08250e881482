"""Settles batches with a destination: which events were delivered, which were refused, which must be kept.

Every change here must keep these rules:

1. Every line gets exactly one verdict, UNSETTLED unless the destination said otherwise.
2. A line is rejected only if it was refused alone or named by an acknowledgement, and for a 400 or a 500 only if
   something else was accepted: a destination that refuses everything is the wrong one.
3. No wait ends after the deadline, and once a call was abandoned nothing further is sent.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from rillevents.delivery.outcome import Exporter, Kind, Outcome, clean
from rillevents.delivery.pace import Backoff, Deadline
from rillevents.delivery.sender import Sender, Stop
from rillevents.event.batch import DELIVERED, HELD, UNSETTLED, Batch, LineVerdict, Rejected

SERVER_ERROR_ATTEMPTS = REFUSED_SINGLES = 3
MOST_SUSPECTS = 8


@dataclass(frozen=True, slots=True)
class Settlement:
    """One verdict for each line of a batch, in order; `stop` is set if the flush must end now, and says why."""

    verdicts: tuple[LineVerdict, ...]
    stop: Outcome | None = None


class Delivery:
    """Settles one batch after another with one exporter, within one deadline; use it in one thread only."""

    def __init__(
        self,
        exporter: Exporter,
        deadline: Deadline,
        *,
        backoff: Backoff | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.evidence = _Evidence()
        self._sender = Sender(exporter, deadline, backoff=backoff, sleep=sleep)

    @property
    def requests(self) -> int:
        """How many calls were made."""
        return self._sender.requests

    @property
    def bytes(self) -> int:
        """How many bytes were sent."""
        return self._sender.bytes

    @property
    def accepted_any(self) -> bool:
        """Whether the destination has accepted any event so far."""
        return self.evidence.accepted_any

    def close(self) -> None:
        """End the thread as soon as it is idle; nothing can be delivered afterwards."""
        self._sender.close()

    def deliver(self, batch: Batch, meanwhile: Callable[[], None] | None = None) -> Settlement:
        """Return a verdict for each line; whatever the exporter does, only an interrupt of this thread is raised.

        *meanwhile* is called once, during the first request; an exception from it counts as an interrupt.
        """
        settling = _Settling(self._sender, self.evidence, self._sender.begin(batch, meanwhile))
        stop = settling.run()
        self.evidence.stopped = self.evidence.stopped or stop is not None
        return Settlement(tuple(settling.verdicts), stop)

    def held_verdict(self, final: bool) -> LineVerdict:
        """Return the verdict on HELD events: rejected once anything was accepted, or nothing more comes.

        After a stop without any acceptance there is no such evidence: they are UNSETTLED, and kept.
        """
        evidence = self.evidence
        if evidence.accepted_any:
            return Rejected(evidence.held_reason)
        if evidence.stopped:
            return UNSETTLED
        return Rejected(evidence.held_reason) if final else HELD


class _Evidence:
    """What all answers so far say about the destination: whether it accepts events at all."""

    def __init__(self) -> None:
        self.accepted_any = False
        self.stopped = False
        self.held_reason = ""
        self._singles_refused = 0

    def count_refused_single(self, reason: str) -> None:
        """Note that an event was refused alone; raises Stop if every event is refused."""
        self._singles_refused += 1
        if not self.accepted_any and self._singles_refused >= REFUSED_SINGLES:
            raise Stop(Outcome(Kind.MISCONFIGURED, clean(f"every event is refused: {reason}")))

    def refusal(self, reason: str, stop: Outcome | None) -> LineVerdict:
        """Return the verdict on an event that was refused alone with a 400."""
        if self.accepted_any:
            return Rejected(reason)
        if stop is not None:
            return UNSETTLED
        self.held_reason = reason
        return HELD


class _Settling:
    """The verdicts on one batch, found by bisecting what is refused."""

    def __init__(self, sender: Sender, evidence: _Evidence, batch: Batch) -> None:
        self.verdicts: list[LineVerdict] = [UNSETTLED] * len(batch)
        self._sender = sender
        self._evidence = evidence
        self._batch = batch
        self._refused: dict[int, str] = {}
        self._suspects: dict[int, str] = {}
        self._acceptances = 0
        # More 500s in a row than a bisection down to one bad event needs: then the server may be down, and the event fine.
        self._patience = len(batch).bit_length() + 6
        self._server_errors = 0

    def run(self) -> Outcome | None:
        stop = None
        try:
            if len(self._batch):
                self._settle(self._batch)
            if self._suspects:
                self._ask_again()
        except Stop as found:
            stop = found.outcome
        for index, reason in self._refused.items():
            self.verdicts[index] = self._evidence.refusal(reason, stop)
        return stop

    def _settle(self, piece: Batch) -> None:
        outcome = self._send(piece, SERVER_ERROR_ATTEMPTS)
        if outcome.kind is not Kind.SERVER_ERROR:
            self._descend(piece, outcome)
        elif len(self._batch) == 1:
            raise Stop(replace(outcome, kind=Kind.TEMPORARY))
        elif len(piece) == 1:
            self._suspect(piece, outcome)
        else:
            self._server_errors = 0
            self._halve(piece, outcome)

    def _send(self, piece: Batch, attempts: int) -> Outcome:
        attempt = 0
        while True:
            outcome = self._sender.request(piece)
            if outcome.kind is Kind.ACCEPTED:
                self._accept(piece, outcome)
            elif outcome.kind in (Kind.REFUSED, Kind.MISCONFIGURED):
                raise Stop(outcome)
            elif outcome.kind is Kind.SERVER_ERROR:
                attempts -= 1
                self._server_errors += 1
            if attempts <= 0 or outcome.kind not in (Kind.TEMPORARY, Kind.SERVER_ERROR):
                return outcome
            self._sender.pause(attempt, outcome)
            attempt += 1

    def _accept(self, piece: Batch, outcome: Outcome) -> None:
        lines = range(len(piece))
        named = {offset: reason for offset, reason in outcome.rejected if reason is not None and offset in lines}
        self.verdicts[piece.start : piece.start + len(piece)] = [DELIVERED] * len(piece)
        for offset, reason in named.items():
            self.verdicts[piece.start + int(offset)] = Rejected(reason)
        self._sender.progress()
        if len(named) == len(piece):
            return  # An acknowledgement that accepts nothing is no evidence that the destination accepts events.
        self._evidence.accepted_any = True
        self._acceptances += 1
        self._server_errors = 0

    def _suspect(self, piece: Batch, answer: Outcome) -> None:
        self._suspects[piece.start] = answer.reason
        if len(self._suspects) >= MOST_SUSPECTS and self._acceptances:
            # Settle them now: the deadline may come before the end, and all the work would be lost.
            self._ask_again()

    def _ask_again(self) -> None:
        """Resend what failed alone without an accepted neighbour; if others pass, what still fails is a bad event.

        Otherwise adjacent bad events would stay at the head of the spool and block everything behind them.
        """
        suspects, self._suspects = self._suspects, {}
        for index, reason in suspects.items():
            if not self._acceptances:
                raise Stop(Outcome(Kind.TEMPORARY, reason))
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
        """Resend an event that was accepted before: only this tells bad events from a server that went down."""
        if self._server_errors:
            answer = self._sender.request(self._batch.one(self.verdicts.index(DELIVERED)))
            if answer.kind is not Kind.ACCEPTED:
                raise Stop(Outcome(Kind.TEMPORARY, reason))
            self._sender.progress()
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
        self._evidence.count_refused_single(outcome.reason)

    def _halve(self, piece: Batch, outcome: Outcome) -> None:
        # Send both halves first, then descend: an acceptance is evidence, and is needed early.
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
                raise Stop(replace(answer, kind=Kind.TEMPORARY))
            self._probe(answer.reason)
        if len(half) > 1:
            self._halve(half, answer)
        elif not accepted_beside:
            self._suspect(half, answer)
        else:
            # Send it once more: an outage may have ended between the two.
            again = self._send(half, 1)
            if again.kind is Kind.SERVER_ERROR:
                self.verdicts[half.start] = Rejected(again.reason)
            else:
                self._descend(half, again)

    def _attempts(self, half: Batch, outcome: Outcome) -> int:
        """How often to try a half after this answer: rarely if more requests follow that reveal as much."""
        if outcome.kind is not Kind.SERVER_ERROR:
            return SERVER_ERROR_ATTEMPTS
        return 2 if len(half) == 1 and not self._acceptances else 1
