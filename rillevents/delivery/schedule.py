"""When to deliver, again and again: one scheduler for `flush --watch`, for a flush beside a command, and for a program's thread.

A pass is one flush; between passes nothing is locked and nothing is open. After a pass that failed the next one is later
and later. Where several processes deliver one spool, a file beside it (turns.py) says whose turn it is.
"""

from __future__ import annotations

from collections.abc import Callable

from rillevents.delivery.outcome import FlushOutcome, FlushResult
from rillevents.delivery.turns import Turns, backoff
from rillevents.errors import Busy, SpoolError


class Scheduler:
    """Calls *deliver* for a pass, each *every* seconds.

    *is_allowed* is asked before each pass: telemetry may have been turned off. With *turns*, there is one pass in that time
    among all processes that have the same turns, and the back-off survives this process. *on_pass* hears of each pass, unless
    another flush was running. Not for use from several threads at once.
    """

    def __init__(
        self,
        deliver: Callable[[], FlushResult],
        every: float,
        *,
        is_allowed: Callable[[], bool] = lambda: True,
        turns: Turns | None = None,
        on_pass: Callable[[FlushResult], None] = lambda result: None,
    ) -> None:
        self._deliver = deliver
        self._every = every
        self._is_allowed = is_allowed
        self._turns = turns
        self._on_pass = on_pass
        self._failures = 0
        self._has_failed: bool | None = False

    def run(self, wait: Callable[[float], bool]) -> None:
        """Make passes until *wait*, which gets the seconds until the next one, returns true (as `threading.Event.wait` does)."""
        while True:
            self.run_pass()
            if wait(self.delay):
                return

    @property
    def delay(self) -> float:
        """The seconds from the end of the last pass to the next one."""
        return backoff(self._every, self._failures)

    def run_pass(self, *, is_claimed: bool = False) -> FlushResult | None:
        """Make one pass; None if telemetry is off, or with turns if it is not due (unless *is_claimed*) or another one runs.

        A spool that cannot be used, and another flush that runs, are results as well. Raises UsageError.
        """
        if not self._is_allowed():
            return None
        if self._turns is None:
            return self._made()
        try:
            if not (is_claimed or self._turns.claim()) or not self._turns.begin():
                return None
        except OSError as error:
            return self._told(FlushResult(FlushOutcome.TEMPORARY, reason=f"the spool cannot be used: {error.strerror}"))
        self._has_failed = True
        result = FlushResult(FlushOutcome.TEMPORARY, reason="internal error")
        try:
            result = self._made()
        finally:
            self._turns.end(result.outcome, result.reason, has_failed=self._has_failed)
        return result

    def _made(self) -> FlushResult:
        try:
            result = self._deliver()
        except Busy as error:
            # No failure, and no success: somebody delivers.
            self._has_failed = None
            return FlushResult(FlushOutcome.TEMPORARY, reason=str(error))
        except SpoolError as error:
            result = FlushResult(FlushOutcome.TEMPORARY, reason=str(error))
        self._has_failed = result.outcome.needs_attention
        self._failures = self._failures + 1 if self._has_failed else 0
        return self._told(result)

    def _told(self, result: FlushResult) -> FlushResult:
        self._on_pass(result)
        return result
