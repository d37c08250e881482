"""The search for the events of one batch that are refused, by halving it; the rules are those of settle.py.

A server that is down and a server that fails because of one event answer alike. Only an acceptance tells them apart, so it
is looked for before anything else: at once for a 500, which is about the request, and at the pace of the back-off for the
other 5xx, which are mostly about the server. Until something is accepted, the search never goes faster than retries would.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

from rillevents.delivery.outcome import Kind, Outcome, clean
from rillevents.delivery.sender import Sender, Stop
from rillevents.event.batch import DELIVERED, HELD, UNSETTLED, Batch, Doubtful, LineVerdict, Rejected

SERVER_ERROR_ATTEMPTS = REFUSED_SINGLES = 3
MOST_SUSPECTS = 8


class Evidence:
    """What all answers so far say about the destination: whether it accepts events at all."""

    def __init__(self) -> None:
        self.accepted_any = False
        self.stopped = False
        self.held_reason = ""
        # The statuses 5xx that turned out to be about an event.
        self.faults: set[int] = set()
        # In bytes: the largest body that was accepted, and the smallest that was refused for its size alone.
        self.largest = 0
        self.too_large = math.inf
        self._singles_refused = 0

    def note_size(self, size: int, accepted: bool) -> None:
        """Note that a body of this size was accepted, or refused as too large.

        A refusal counts only beyond what is accepted: otherwise it was not about the body, but about one event in it.
        """
        if accepted:
            self.largest = max(self.largest, size)
            self.too_large = self.too_large if self.too_large > size else math.inf
        elif size > self.largest:
            self.too_large = min(self.too_large, size)

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


class _NothingPasses(Exception):
    """The server fails for every part of the batch so far; `answer` is the last one."""

    def __init__(self, answer: Outcome) -> None:
        super().__init__(answer.reason)
        self.answer = answer


class Settling:
    """The verdicts on one batch, found by bisecting what is refused."""

    def __init__(self, sender: Sender, evidence: Evidence, batch: Batch) -> None:
        self.verdicts: list[LineVerdict] = [UNSETTLED] * len(batch)
        self._sender = sender
        self._evidence = evidence
        self._batch = batch
        self._refused: dict[int, str] = {}
        self._suspects: dict[int, Outcome] = {}
        self._acceptances = 0
        # More 500s in a row than a bisection down to one bad event needs: then the server may be down, and the event fine.
        self._patience = len(batch).bit_length() + 6
        self._server_errors = 0
        # The smallest part that was refused with a 400, although it had several lines.
        self._invalid_size = 0
        # Equal answers 5xx in a row.
        self._faults = (0, 0)

    def run(self) -> Outcome | None:
        """Settle the batch as far as it can be; return the outcome that ends the flush, if any."""
        stop = None
        try:
            if len(self._batch):
                self._settle_all()
        except Stop as found:
            stop = found.outcome
        finally:
            self._note_acknowledged()
        for index, reason in self._refused.items():
            self.verdicts[index] = self._evidence.refusal(reason, stop)
        if self.verdicts.count(DELIVERED) == len(self.verdicts) and self._invalid_size:
            # Refused as a whole and accepted in parts: it was the size.
            self._evidence.note_size(self._invalid_size, False)
        return stop

    def _note_acknowledged(self) -> None:
        """Settle what was acknowledged within a call that failed or was abandoned."""
        for index in sorted(self._batch.acknowledged):
            if self.verdicts[index] is UNSETTLED and index not in self._refused:
                self.verdicts[index] = DELIVERED
                self._evidence.accepted_any = True

    def _settle_all(self) -> None:
        """Settle the batch; while the server fails for all of it, wait for an acceptance, then search in the rest."""
        samples, waits = self._samples(), SERVER_ERROR_ATTEMPTS - 1
        pieces, attempts = self._pieces(), SERVER_ERROR_ATTEMPTS
        while True:
            try:
                for piece in pieces:
                    self._settle(piece, attempts)
                if self._suspects:
                    self._ask_again()
                return
            except _NothingPasses as found:
                answer: Outcome | None = found.answer
            self._suspects = {}
            while answer:
                self._sender.pause(waits, answer)
                answer, waits = self._ask_for(next(samples)), waits + 1
            pieces, attempts = self._unsettled(), 1

    def _pieces(self) -> list[Batch]:
        """Return the batch in parts as large as what was accepted so far, if all of it would be refused for its size."""
        known = self._evidence
        return list(self._batch.parts(known.largest)) if self._batch.size >= known.too_large else [self._batch]

    def _samples(self) -> Iterator[Batch]:
        """Yield parts of the batch of which one may be accepted: the halves, then in turns a single event and everything.

        Everything comes between the halves, too: after an outage the events should arrive in their order.
        """
        count = len(self._batch)
        if count > 1:
            left, right = self._batch.split()
            yield from (left, self._batch, right)
        while True:
            for nth in range(count):
                # A golden step: the singles are spread over the batch, since bad events often stand beside each other.
                yield self._batch.one(int((nth + 1) * 0.618 * count) % count)
                yield self._batch

    def _ask_for(self, sample: Batch) -> Outcome | None:
        """Send a part of the batch; return the answer if the server fails again, None if it answers something else."""
        answer = self._send(sample, 1)
        if answer.kind is not Kind.SERVER_ERROR:
            self._server_errors = 0
            return None
        return answer

    def _unsettled(self) -> list[Batch]:
        """Return the runs of lines without an answer of their own."""
        runs: list[Batch] = []
        start = 0
        open_ = [v is UNSETTLED and index not in self._refused for index, v in enumerate(self.verdicts)]
        for end, is_open in enumerate([*open_, False]):
            if not is_open:
                runs += [self._batch.part(start, end)] if end > start else []
                start = end + 1
        return runs

    def _settle(self, piece: Batch, attempts: int = SERVER_ERROR_ATTEMPTS) -> None:
        outcome = self._send(piece, attempts)
        if outcome.kind is not Kind.SERVER_ERROR:
            self._descend(piece, outcome)
        elif not self._acceptances and (len(self._batch) == 1 or self._is_about_the_server(outcome)):
            raise _NothingPasses(outcome)
        elif len(piece) == 1:
            self._suspect(piece, outcome)
        else:
            self._server_errors = 0
            self._halve(piece, outcome)

    def _is_about_the_server(self, outcome: Outcome) -> bool:
        return outcome.fault > 0 and outcome.fault not in self._evidence.faults

    def _send(self, piece: Batch, attempts: int) -> Outcome:
        attempt = 0
        while True:
            outcome = self._judged(self._sender.request(piece))
            if outcome.acknowledged:
                self._sender.progress()
            if outcome.kind is Kind.ACCEPTED:
                self._evidence.note_size(piece.size, True)
                self._accept(piece, outcome)
            elif outcome.kind in (Kind.REFUSED, Kind.MISCONFIGURED):
                raise Stop(outcome)
            elif outcome.kind is Kind.SERVER_ERROR:
                attempts = 0 if outcome.fault and self._faults[1] == SERVER_ERROR_ATTEMPTS else attempts - 1
                self._server_errors += 1
            if attempts <= 0 or outcome.kind not in (Kind.TEMPORARY, Kind.SERVER_ERROR):
                return outcome
            if attempt and outcome.kind is Kind.TEMPORARY and self._is_larger_than_ever(piece):
                # Some that stand in between break a connection off instead of answering 413.
                return replace(outcome, kind=Kind.TOO_LARGE)
            self._sender.pause(attempt, outcome)
            attempt += 1

    def _is_larger_than_ever(self, piece: Batch) -> bool:
        return len(piece) > 1 and 0 < 1.5 * self._evidence.largest < piece.size

    def _judged(self, outcome: Outcome) -> Outcome:
        """Take a 5xx for a server error, as a 500 is, once it was repeated for this batch."""
        if not outcome.fault or outcome.kind is not Kind.TEMPORARY:
            return outcome
        fault, times = self._faults
        self._faults = (outcome.fault, times + 1 if fault == outcome.fault else 1)
        repeated = self._faults[1] >= SERVER_ERROR_ATTEMPTS or outcome.fault in self._evidence.faults
        return replace(outcome, kind=Kind.SERVER_ERROR) if repeated else outcome

    def _accept(self, piece: Batch, outcome: Outcome) -> None:
        lines = range(len(piece))
        named = {offset: reason for offset, reason in outcome.rejected if reason is not None and offset in lines}
        self.verdicts[piece.start : piece.start + len(piece)] = [DELIVERED] * len(piece)
        for offset, reason in named.items():
            self.verdicts[piece.start + int(offset)] = Rejected(reason)
        refused = len(named)
        if outcome.unidentified > 0:
            refused += self._put_in_doubt([at for at in lines if at not in named], piece.start, outcome)
        self._sender.progress()
        if refused == len(piece):
            return  # An acknowledgement that accepts nothing is no evidence that the destination accepts events.
        self._evidence.accepted_any = True
        self._acceptances += 1
        self._server_errors = 0

    def _put_in_doubt(self, offsets: list[int], start: int, outcome: Outcome) -> int:
        """Count as many events as were refused without a name; return how many."""
        count = min(outcome.unidentified, len(offsets))
        for nth, offset in enumerate(offsets):
            kept = Rejected if nth < count else Doubtful
            self.verdicts[start + offset] = kept(outcome.reason)
        return count

    def _suspect(self, piece: Batch, answer: Outcome) -> None:
        self._suspects[piece.start] = answer
        if len(self._suspects) >= MOST_SUSPECTS and self._acceptances:
            # Settle them now: the deadline may come before the end, and all the work would be lost.
            self._ask_again()

    def _ask_again(self) -> None:
        """Resend what failed alone without an accepted neighbour; if others pass, what still fails is a bad event.

        Otherwise adjacent bad events would stay at the head of the spool and block everything behind them.
        """
        suspects, self._suspects = self._suspects, {}
        for index, answer in suspects.items():
            if not self._acceptances:
                raise _NothingPasses(answer)
            again = self._send(self._batch.one(index), 1)
            if again.kind is Kind.SERVER_ERROR:
                self._suspects[index] = again
            else:
                self._descend(self._batch.one(index), again)
        for index, answer in self._suspects.items():
            self._probe()
            self._reject(index, answer)
        self._suspects = {}

    def _reject(self, index: int, answer: Outcome) -> None:
        self.verdicts[index] = Rejected(answer.reason)
        self._evidence.faults |= {answer.fault} - {0}

    def _probe(self) -> None:
        """Resend an event that was accepted before: only this tells bad events from a server that went down.

        Where it fails now, too, it is sent again until it passes, or no time is left.
        """
        is_accepted = [verdict is DELIVERED or isinstance(verdict, Doubtful) for verdict in self.verdicts]
        accepted, waits = self._batch.one(is_accepted.index(True)), 0
        while self._server_errors:
            answer = self._sender.request(accepted)
            if answer.kind is Kind.ACCEPTED:
                self._sender.progress()
                self._server_errors = 0
            elif answer.kind in (Kind.TEMPORARY, Kind.SERVER_ERROR):
                self._sender.pause(waits, answer)
                waits += 1
            else:
                raise Stop(replace(answer, kind=Kind.TEMPORARY))

    def _descend(self, piece: Batch, outcome: Outcome) -> None:
        if outcome.kind is Kind.ACCEPTED:
            return
        if len(piece) == 1:
            self._refuse(piece.start, outcome)
        elif outcome.kind is Kind.TOO_LARGE:
            self._evidence.note_size(piece.size, False)
            for half in piece.split():
                self._settle(half)
        else:
            self._invalid_size = piece.size
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
                raise _NothingPasses(answer)
            self._probe()
        if len(half) > 1:
            self._halve(half, answer)
        elif not accepted_beside:
            self._suspect(half, answer)
        else:
            # Send it once more: an outage may have ended between the two. Other 5xx than 500 come and go: give them time.
            again = self._send(half, SERVER_ERROR_ATTEMPTS if answer.fault else 1)
            if again.kind is Kind.SERVER_ERROR:
                self._reject(half.start, again)
            else:
                self._descend(half, again)

    def _attempts(self, half: Batch, outcome: Outcome) -> int:
        """How often to try a half after this answer: rarely if more requests follow that reveal as much."""
        if outcome.kind is not Kind.SERVER_ERROR:
            return SERVER_ERROR_ATTEMPTS
        return 2 if len(half) == 1 and not self._acceptances else 1
