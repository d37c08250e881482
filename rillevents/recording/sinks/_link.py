"""How a batching sink's worker reaches its exporter: handle, back-off and deadline."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable

from rillevents.delivery.outcome import Exporter, Kind, Outcome
from rillevents.delivery.pace import Backoff, Deadline
from rillevents.errors import ConfigError
from rillevents.event.batch import Batch
from rillevents.event.muting import Muted

_LONGEST = 60  # After this many attempts every Backoff has reached its cap.
_log = logging.getLogger("rillevents")


class ExporterHandle:
    """The exporter in use, created on first use if necessary, with at most one call at a time."""

    def __init__(self, exporter: Exporter | None, renew: Callable[[], Exporter] | None) -> None:
        self._exporter = exporter
        self._renew = renew
        self.busy = self._used = self._closed = False
        self.answer = ""

    def export(self, batch: Batch) -> Outcome:
        if self.busy:
            return Outcome(Kind.TEMPORARY, "the previous call has not returned yet")
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
                raise ConfigError("the exporter belongs to the parent process", hint="give renew=")
            self._exporter = self._renew()
            if self._closed:
                self._exporter.close()
        return self._exporter

    def close(self) -> None:
        closed, self._closed = self._closed, True
        try:
            if self._exporter is not None and not closed:
                with Muted():
                    self._exporter.close()
        except Exception as error:  # noqa: BLE001 - a bug in the exporter; the caller of close cannot help it
            with Muted():
                _log.warning("the exporter could not be closed: %s: %s", type(error).__name__, error)

    def successor(self) -> ExporterHandle:
        if self._renew is not None:
            return ExporterHandle(None, self._renew)
        self._closed = False
        return self

    def after_fork(self) -> ExporterHandle:
        if not self._used:
            return self
        # Neither close nor collect it: its connections are the parent's, and closing would shut them down.
        _inherited.append(self)
        return ExporterHandle(None, self._renew)


class LastingBackoff(Backoff):
    """Continues in the next round where the previous one stopped."""

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


class RoundDeadline(Deadline):
    """The stall clock of a round, limited by what a close leaves of it, whenever that comes."""

    def __init__(self, end_by: Callable[[], float]) -> None:
        super().__init__(None)
        self._end_by = end_by

    def remaining(self) -> float:
        return max(0.0, min(super().remaining(), self._end_by() - self.clock()))


_inherited: list[ExporterHandle] = []
