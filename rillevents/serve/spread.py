"""How values are spread: percentiles, and a histogram whose bars stay apart whatever the values are; pure."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from typing import Any

_PERCENTILES = (50, 90, 99)
# From so many times the median on, the long tail of a linear scale leaves one bar for everything else.
_LONG_TAIL = 8


def spread(values: Sequence[float], bins: int) -> dict[str, Any]:
    """Return the least, the mean, the percentiles (values that occurred, by their rank), the most, and a histogram."""
    found = sorted(values)
    if not found:
        return {"values": 0, "scale": "linear", "histogram": []}
    ranks = {f"p{percent}": found[-(-percent * len(found) // 100) - 1] for percent in _PERCENTILES}
    is_log = found[0] > 0 and ranks["p99"] > _LONG_TAIL * ranks["p50"]
    edges = _edges(found[0], found[-1], bins, is_log=is_log)
    return {
        "values": len(found),
        "min": found[0],
        "mean": sum(value / len(found) for value in found),
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
        # Parts of each end, not of their difference: because that may be more than a float can hold.
        inner = [least * (1 - number / bins) + most * (number / bins) for number in range(1, bins)]
    return [least, *inner, most]


def _histogram(values: Sequence[float], edges: Sequence[float]) -> list[dict[str, float]]:
    """Count values from each edge to before the next, and the largest with those before it."""
    counts = [0] * (len(edges) - 1)
    for value in values:
        counts[min(bisect_right(edges, value), len(counts)) - 1] += 1
    return [
        {"from": low, "to": high, "count": count} for low, high, count in zip(edges, edges[1:], counts, strict=False)
    ]
