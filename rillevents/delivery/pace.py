"""How long to wait before the next attempt, and until when; no I/O, and the clock is a parameter."""

from __future__ import annotations

import math
import random as _random
import time
from collections.abc import Callable, Sequence

from rillevents.event.batch import DELIVERED, Batch, LineVerdict


class Backoff:
    """The wait before the next attempt: exponential, with equal jitter, from `base` up to `cap` seconds.

    Equal jitter (half fixed, half random) instead of full: a wait of nearly zero would waste an attempt.
    """

    def __init__(self, base: float = 0.5, cap: float = 30.0, *, random: Callable[[], float] = _random.random) -> None:
        self._base = base
        self._cap = cap
        self._random = random

    def delay(self, attempt: int, retry_after: float | None = None) -> float:
        """Return the seconds to wait after attempt number `attempt` (the first is 0), at least `retry_after`."""
        ceiling = min(self._cap, self._base * 2.0 ** min(attempt, 60))
        return max(ceiling * (1 + self._random()) / 2, retry_after or 0.0)


class BatchSize:
    """How many events and bytes a batch may have: from *start* up to *most*, more and more while answers come quickly.

    A program with a narrow line, or before a slow server, stays at *start*: more at a time would be more to send again.
    """

    QUICK_SECONDS = 0.5
    SLOW_SECONDS = 2.0

    def __init__(self, start: tuple[int, int], most: tuple[int, int]) -> None:
        self.limits = start
        self._start = start
        self._most = most

    def settled(self, batch: Batch, verdicts: Sequence[LineVerdict], seconds: float) -> bool:
        """Note how long a batch took to be settled, and how; return whether the limits are others now."""
        before = self.limits
        is_large = 2 * len(batch) >= before[0] or 2 * batch.size >= before[1]
        if seconds > self.SLOW_SECONDS:
            self.limits = self._between(0.5)
        # Not where events are refused: to find one among more takes more requests.
        elif seconds < self.QUICK_SECONDS and is_large and verdicts.count(DELIVERED) == len(verdicts):
            self.limits = self._between(2)
        return self.limits != before

    def _between(self, factor: float) -> tuple[int, int]:
        events, size = (
            max(start, min(int(now * factor), most))
            for start, now, most in zip(self._start, self.limits, self._most, strict=True)
        )
        return events, size


class Deadline:
    """The time that a flush has left: of its *total*, if it has one, and since the last progress (*stall*).

    Both are seconds. *clock* returns seconds and only goes forward.
    """

    def __init__(
        self, total: float | None, stall: float = 30.0, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.clock = clock
        self._stall = stall
        self._moved = clock()
        self._end = math.inf if total is None else self._moved + total

    def remaining(self) -> float:
        """Return the seconds left, at least 0."""
        return max(0.0, min(self._end, self._moved + self._stall) - self.clock())

    def progress(self) -> None:
        """Restart the stall clock; the total is unchanged. Safe from any thread."""
        self._moved = self.clock()

    @property
    def expired(self) -> bool:
        """Whether no time is left."""
        return self.remaining() <= 0
