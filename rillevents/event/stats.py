"""Counts over time in parts that grow, and the distribution of values: exact percentiles, histograms. Pure, no I/O."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence
from typing import Any, Final

from rillevents.event import format_time
from rillevents.event.ndjson import LARGEST, finite

MAX_BUCKETS: Final = 60
# Further names are counted together, since a program may use anything as a name.
MAX_NAMES: Final = 1000
PERCENTILES: Final = (50, 90, 95, 99)
# So many values are sorted as a whole; of more, a sample of so many says what to sort.
_SORTED, _SAMPLE = 1_000_000, 20_000
# In seconds; each is a multiple of the one before, so that narrower parts combine into wider ones.
_WIDTHS = (1, 5, 10, 30, 60, 300, 600, 1800, 3600, 7200, 21600, 43200, *(86400 << times for times in range(17)))


class Timeline:
    """Counts by key in equal parts of the time between the first and the last second, which need not be known before."""

    def __init__(self) -> None:
        self._width = 0
        self.first = self._last = 0
        self.is_set = False
        self._counts: dict[object, Counter[int]] = {}

    def add(self, key: object, second: int, n: int = 1) -> None:
        """Count *n* events under *key*; if the time has become too long, all parts become wider."""
        self.reach(second)
        self._counts.setdefault(key, Counter())[second // self.seconds] += n

    def reach(self, second: int) -> None:
        """Let the time include *second*, without an event."""
        if not self.is_set:
            self.first = self._last = second
            self.is_set = True
        self.first, self._last = min(self.first, second), max(self._last, second)
        while self._length() > MAX_BUCKETS:
            self._widen()

    @property
    def seconds(self) -> int:
        """The seconds of one part."""
        return _WIDTHS[self._width]

    def _length(self) -> int:
        return self._last // self.seconds - self.first // self.seconds + 1 if self.is_set else 1

    def _widen(self) -> None:
        before = self.seconds
        self._width += 1
        for key, counts in self._counts.items():
            wider: Counter[int] = Counter()
            for number, count in counts.items():
                wider[number * before // self.seconds] += count
            self._counts[key] = wider

    def bounds(self) -> list[int]:
        """Return the seconds at which the parts begin, and the end of the last one."""
        start = self.first // self.seconds
        return [(start + number) * self.seconds for number in range(self._length() + 1)]

    def buckets(self, key: object) -> list[int]:
        """Return the counts of one key from the first part to the last; none if no event has a time."""
        if not self.is_set:
            return []
        start, counts = self.first // self.seconds, self._counts.get(key, Counter())
        return [counts[start + number] for number in range(self._length())]

    def document(self) -> dict[str, Any]:
        """Return the start and the end of the parts, and the length of one."""
        if not self.is_set:
            return {"since": None, "until": None, "bucket_seconds": None}
        start = self.first // self.seconds * self.seconds
        end = start + self._length() * self.seconds
        return {"since": _written(start), "until": _written(end), "bucket_seconds": self.seconds}


def distribution(values: Sequence[float]) -> dict[str, Any] | None:
    """Return count, minimum, percentiles, maximum, mean and sum of some values; None if there are none.

    A percentile is exact, interpolated between the two values next to its place, as numpy and Excel's PERCENTILE.INC do.
    """
    return _about(sorted(values) if len(values) <= _SORTED else values) if values else None


def _about(values: Sequence[float]) -> dict[str, Any]:
    """Return the distribution of values that are sorted, unless there are very many."""
    least, most = (min(values), max(values)) if len(values) > _SORTED else (values[0], values[-1])
    if max(abs(least), abs(most)) < LARGEST / len(values):
        total = math.fsum(values)
        mean = total / len(values)
    else:
        # Divided first: the sum of what a float can hold may be more than that.
        mean = math.fsum(value / len(values) for value in values)
        total = finite(mean * len(values))
    return {
        "count": len(values),
        "min": least,
        **percentiles(values),
        "max": most,
        "mean": min(max(mean, least), most),
        "sum": total,
    }


def percentiles(values: Sequence[float], wanted: Sequence[int] = PERCENTILES) -> dict[str, float]:
    """Return the percentiles of some values, at least one, by name: linear interpolation at (n - 1) * p / 100."""
    places = [divmod((len(values) - 1) * per_cent, 100) for per_cent in wanted]
    ranks = sorted({rank for whole, part in places for rank in (whole, whole + (part > 0))})
    found = dict(zip(ranks, _ranked(values, ranks), strict=True))
    return {
        f"p{per_cent}": _between(found[whole], found[whole + 1], part / 100) if part else found[whole]
        for per_cent, (whole, part) in zip(wanted, places, strict=True)
    }


def _between(low: float, high: float, share: float) -> float:
    """Return what lies that *share* of the way between two values; never outside, even where their distance is no float."""
    found = low + (high - low) * share if high - low <= LARGEST else low * (1 - share) + high * share
    return min(max(found, low), high)


def _ranked(values: Sequence[float], ranks: Sequence[int]) -> list[float]:
    """Return the values of some ranks (from 0, ascending) without sorting them all at once if there are very many."""
    if len(values) <= _SORTED:
        ordered = sorted(values)
        return [ordered[rank] for rank in ranks]
    # A sorted sample tells between which values a rank lies, give or take; only these are then sorted.
    sample = sorted(values[:: len(values) // _SAMPLE + 1])
    found = []
    for rank in ranks:
        place, margin = rank * len(sample) // len(values), _SAMPLE // 50
        low = sample[place - margin] if place >= margin else -math.inf
        high = sample[place + margin] if place + margin < len(sample) else math.inf
        below = sum(1 for value in values if value < low)
        between = sorted(value for value in values if low <= value <= high)
        if not below <= rank < below + len(between):
            # The sample was not typical.
            between, below = sorted(values), 0
        found.append(between[rank - below])
    return found


def _written(second: int) -> str:
    return format_time(second * 1_000_000_000)


# From this ratio of maximum to median on, a linear scale would squeeze nearly everything into one bar.
_LONG_TAIL = 8


def spread(values: Sequence[float], bins: int) -> dict[str, Any]:
    """Return minimum, mean, percentiles, maximum, sum and a histogram."""
    if not values:
        return {"values": 0, "scale": "linear", "histogram": []}
    found = sorted(values)
    about = _about(found)
    is_log = found[0] > 0 and about["p99"] > _LONG_TAIL * about["p50"]
    edges = _edges(found[0], found[-1], bins, is_log=is_log)
    return {
        "values": about.pop("count"),
        **about,
        "error": 0.0,
        "scale": "log" if is_log else "linear",
        "histogram": _histogram(found, edges),
    }


def _edges(least: float, most: float, bins: int, *, is_log: bool) -> list[float]:
    if least == most:
        return [least, most]
    if is_log:
        low, high = math.log(least), math.log(most)
        inner = [math.exp(low + (high - low) * number / bins) for number in range(1, bins)]
    else:
        # Weighted ends instead of their difference, which may exceed the range of a float.
        inner = [least * (1 - number / bins) + most * (number / bins) for number in range(1, bins)]
    return [least, *inner, most]


def _histogram(values: Sequence[float], edges: Sequence[float]) -> list[dict[str, float]]:
    """Count the sorted values from each edge to before the next; the maximum counts in the last part."""
    places = [0, *(bisect_left(values, edge) for edge in edges[1:-1]), len(values)]
    return [
        {"from": low, "to": high, "count": end - start}
        for low, high, start, end in zip(edges, edges[1:], places, places[1:], strict=False)
    ]
