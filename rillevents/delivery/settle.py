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
from dataclasses import dataclass

from rillevents.delivery.outcome import Exporter, Outcome
from rillevents.delivery.pace import Backoff, Deadline
from rillevents.delivery.search import Evidence, Settling
from rillevents.delivery.sender import Sender
from rillevents.event.batch import HELD, UNSETTLED, Batch, LineVerdict, Rejected


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
        self.evidence = Evidence()
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
    def warning(self) -> str:
        """The first warning beside an answer, for a person, or ""."""
        return self._sender.warning

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
        settling = Settling(self._sender, self.evidence, self._sender.begin(batch, meanwhile))
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
