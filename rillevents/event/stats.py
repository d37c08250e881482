"""Events → counts over time and the distribution of metric values; pure, in one pass, in bounded memory.

    Summary    every event once  →  Buckets    counts over time, in at most 60 parts that grow with the time they cover
                                 →  Spread     the values of one metric: the minimum, the percentiles, the maximum

A percentile is the value of that rank (the smallest that so many per cent of the values do not exceed); there is no
interpolation. It is exact for up to 1,000 values. More values are counted by size, in steps that make each at most 1 % wrong,
as in DDSketch; if there are too many sizes (values nine decades apart), the steps double, as in UDDSketch.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate
from typing import Any, Final

from rillevents.event import METRIC, format_time
from rillevents.event.ndjson import LARGEST, finite
from rillevents.event.timestamp import parse_time

MAX_BUCKETS: Final = 60
# Further names are counted together, since a program may use anything as a name.
MAX_NAMES: Final = 1000
EXACT_VALUES: Final = 1000
MAX_SIZES: Final = 2048
RELATIVE_ERROR: Final = 0.01
PERCENTILES: Final = (50, 90, 95, 99)
# In seconds; each is a multiple of the one before, so that narrower parts combine into wider ones.
_WIDTHS = (1, 5, 10, 30, 60, 300, 600, 1800, 3600, 7200, 21600, 43200, *(86400 << times for times in range(17)))
# The distance between the logarithms of neighbouring sizes; a value is at most half of it from the middle of its size.
_STEP = 2 * math.atanh(RELATIVE_ERROR)


class Summary:
    """What is known about the events added so far."""

    def __init__(self) -> None:
        self.events = 0
        self.others = 0
        self._time = Timeline()
        self._names: dict[tuple[str, str], Counter[int]] = {}
        self._counts: Counter[tuple[str, str]] = Counter()
        self._values: dict[str, Spread] = {}

    def add(self, event: Mapping[str, Any]) -> None:
        """Count one event; one without a valid time is left out of the timeline."""
        self.events += 1
        kind, name = event["event_type"], event["event_name"]
        if (kind, name) not in self._counts and len(self._counts) >= MAX_NAMES:
            self.others += 1
            return
        self._counts[kind, name] += 1
        try:
            second = parse_time(event["event_time"]) // 1_000_000_000
        except ValueError:
            pass
        else:
            self._time.add((kind, name), second)
        value: Any = event.get("value")
        if kind == METRIC and type(value) in (int, float):
            self._values.setdefault(name, Spread()).add(finite(value))

    def document(self, source: str) -> dict[str, Any]:
        """Return the document of `stats --json`, the most frequent names first."""
        types: Counter[str] = Counter()
        for (kind, _), count in self._counts.items():
            types[kind] += count
        return {
            "source": source,
            "events": self.events,
            **self._time.document(),
            "types": dict(types.most_common()),
            "names": [
                {"type": kind, "name": name, "count": count, "buckets": self._time.buckets((kind, name))}
                for (kind, name), count in self._counts.most_common()
            ],
            "others": self.others,
            "values": [
                {"name": name, **spread.document()}
                for name, spread in sorted(self._values.items(), key=lambda item: -item[1].count)
            ],
        }


def summarize(events: Iterable[Mapping[str, Any]], source: str) -> dict[str, Any]:
    """Return the document about *events*, reading each of them once."""
    summary = Summary()
    for event in events:
        summary.add(event)
    return summary.document(source)


class Timeline:
    """Counts by key in equal parts of the time between the first and the last second, which need not be known before."""

    def __init__(self) -> None:
        self._width = 0
        self._first = self._last = 0
        self._counts: dict[object, Counter[int]] = {}

    def add(self, key: object, second: int) -> None:
        """Count one event under *key*; if the time has become too long, all parts become wider."""
        if not self._counts:
            self._first = self._last = second
        self._first, self._last = min(self._first, second), max(self._last, second)
        while self._length() > MAX_BUCKETS:
            self._widen()
        self._counts.setdefault(key, Counter())[second // self.seconds] += 1

    @property
    def seconds(self) -> int:
        """The seconds of one part."""
        return _WIDTHS[self._width]

    def _length(self) -> int:
        return self._last // self.seconds - self._first // self.seconds + 1 if self._counts else 1

    def _widen(self) -> None:
        before = self.seconds
        self._width += 1
        for key, counts in self._counts.items():
            wider: Counter[int] = Counter()
            for number, count in counts.items():
                wider[number * before // self.seconds] += count
            self._counts[key] = wider

    def buckets(self, key: object) -> list[int]:
        """Return the counts of one key from the first part to the last; none if no event has a time."""
        if not self._counts:
            return []
        start, counts = self._first // self.seconds, self._counts.get(key, Counter())
        return [counts[start + number] for number in range(self._length())]

    def document(self) -> dict[str, Any]:
        """Return the start and the end of the parts, and the length of one."""
        if not self._counts:
            return {"since": None, "until": None, "bucket_seconds": None}
        start = self._first // self.seconds * self.seconds
        end = start + self._length() * self.seconds
        return {"since": _written(start), "until": _written(end), "bucket_seconds": self.seconds}


class Spread:
    """The distribution of one metric's values: all values up to `EXACT_VALUES`, beyond that a count for each size.

    A size is a sign and a number of steps, (0, 0) for zero; sizes sort like the values.
    """

    def __init__(self) -> None:
        self.count = 0
        self._sum = 0.0
        self._least, self._most = math.inf, -math.inf
        self._values: list[float] = []
        self._step = _STEP
        self._sizes: Counter[tuple[int, int]] = Counter()

    def add(self, value: float) -> None:
        """Count one value."""
        self.count += 1
        self._sum += value
        self._least, self._most = min(self._least, value), max(self._most, value)
        if self.count <= EXACT_VALUES:
            self._values.append(value)
            return
        if self._values:
            self._sizes.update(map(self._size, self._values))
            self._values.clear()
        self._sizes[self._size(value)] += 1
        while len(self._sizes) > MAX_SIZES:
            self._coarsen()

    @property
    def error(self) -> float:
        """How far a percentile may differ from the value of its rank, as a fraction of that value."""
        return math.tanh(self._step / 2) if self.count > EXACT_VALUES else 0.0

    def percentiles(self) -> dict[str, float]:
        """Return the value of each rank, by name."""
        ranks = [_rank(self.count, per_cent) for per_cent in PERCENTILES]
        found = self._exact(ranks) if self.count <= EXACT_VALUES else self._estimated(ranks)
        return {f"p{per_cent}": value for per_cent, value in zip(PERCENTILES, found, strict=True)}

    def _exact(self, ranks: list[int]) -> list[float]:
        ordered = sorted(self._values)
        return [ordered[rank - 1] for rank in ranks]

    def _estimated(self, ranks: list[int]) -> list[float]:
        sizes = sorted(self._sizes)
        up_to = list(accumulate(self._sizes[size] for size in sizes))
        estimates = [self._middle(sizes[bisect_left(up_to, rank)]) for rank in ranks]
        return [min(max(value, self._least), self._most) for value in estimates]

    def _size(self, value: float) -> tuple[int, int]:
        if value == 0:
            return 0, 0
        number = math.ceil(math.log(abs(value)) / self._step)
        return (1, number) if value > 0 else (-1, -number)

    def _middle(self, size: tuple[int, int]) -> float:
        """Return the value with the same relative distance from a size's largest and smallest value."""
        sign, number = size
        exponent = sign * number * self._step - math.log((1 + math.exp(self._step)) / 2)
        return sign * math.exp(min(exponent, math.log(LARGEST))) if sign else 0.0

    def _coarsen(self) -> None:
        self._step *= 2
        coarser: Counter[tuple[int, int]] = Counter()
        for (sign, number), count in self._sizes.items():
            coarser[sign, sign * -(-sign * number // 2)] += count
        self._sizes = coarser

    def document(self) -> dict[str, Any]:
        """Return the summary of the values."""
        total = finite(self._sum)
        return {
            "count": self.count,
            "min": self._least,
            **self.percentiles(),
            "max": self._most,
            "mean": min(max(total / self.count, self._least), self._most),
            "sum": total,
            "error": round(self.error, 4),
        }


def _rank(count: int, per_cent: int) -> int:
    """Return the rank, from 1, of the smallest value that so many per cent of *count* values do not exceed."""
    return max(1, -(-count * per_cent // 100))


def _written(second: int) -> str:
    return format_time(second * 1_000_000_000)


# From this ratio of maximum to median on, a linear scale would squeeze nearly everything into one bar.
_LONG_TAIL = 8


def spread(values: Sequence[float], bins: int) -> dict[str, Any]:
    """Return minimum, mean, percentiles (values that occurred, by rank), maximum, and a histogram."""
    found = sorted(values)
    if not found:
        return {"values": 0, "scale": "linear", "histogram": []}
    ranks = {f"p{per_cent}": found[_rank(len(found), per_cent) - 1] for per_cent in (50, 90, 99)}
    is_log = found[0] > 0 and ranks["p99"] > _LONG_TAIL * ranks["p50"]
    edges = _edges(found[0], found[-1], bins, is_log=is_log)
    return {
        "values": len(found),
        "min": found[0],
        "mean": finite(sum(value / len(found) for value in found)),
        **ranks,
        "max": found[-1],
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
    """Count the values from each edge to before the next; the maximum counts in the last part."""
    counts = [0] * (len(edges) - 1)
    for value in values:
        counts[min(bisect_right(edges, value), len(counts)) - 1] += 1
    return [
        {"from": low, "to": high, "count": count} for low, high, count in zip(edges, edges[1:], counts, strict=False)
    ]
