"""How long to wait before the next attempt, and until when; no I/O, and the clock is a parameter."""

from __future__ import annotations

import math
import random as _random
import time
from collections.abc import Callable


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
