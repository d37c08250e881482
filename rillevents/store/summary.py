"""`stats`: how many events, over time and by attribute, and how their values are distributed; from the spool or a store, alike.

Plain counts of a store come from its tables of counts, everything else from the events, block by block.
"""

from __future__ import annotations

import time
from array import array
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, tzinfo
from typing import Any

from rillevents.event import METRIC, format_time
from rillevents.event.columns import ColumnOf, bounds
from rillevents.event.query import Query
from rillevents.event.stats import MAX_NAMES, Timeline, distribution
from rillevents.event.tally import MOST_CELLS, Group, Kind, Tally, plain, too_many_groups
from rillevents.store.counts import Counts, Range
from rillevents.store.reader import Filter
from rillevents.store.source import SpoolSource, StoreSource

_SECOND, _MINUTE = 1_000_000, 60_000_000

Report = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class Question:
    """What `stats` is asked: which events, *every* so many seconds (0: no columns) of UTC or local time, by which attributes.

    *value* is the attribute whose numbers are wanted instead of a metric's `value`.
    """

    query: Query = field(default_factory=Query)
    every: int = 0
    utc: bool = False
    by: Sequence[str] = ()
    value: str = ""

    @property
    def wants_values(self) -> bool:
        """Whether values are asked for; plain counts leave them out, since they must be read."""
        return bool(self.query.name or self.query.event_type == METRIC or self.value or self.by)

    @property
    def zone(self) -> tzinfo | None:
        """The zone of the columns; None is the local one."""
        return UTC if self.utc else None


def summarize(
    source: SpoolSource | StoreSource,
    question: Question,
    *,
    now_ns: Callable[[], int] = time.time_ns,
    report: Report | None = None,
) -> dict[str, Any]:
    """Return the document of `stats --json`; the time ends now unless the query has an end.

    Raises UsageError for too many columns or groups, and what the source raises.
    """
    # Whole microseconds: an event of this very moment belongs to it.
    now = (now_ns() // 1000 + 1) * 1000
    until = now if question.query.until is None else question.query.until
    asked = replace(question, query=replace(question.query, until=until))
    found = _counted(source, asked) if isinstance(source, StoreSource) else None
    if found is None:
        found = _tallied(source, asked, report, is_timed=(question.query.since, question.query.until) != (None, None))
    outside = 0
    if question.query.until is None:
        outside = source.count(replace(question.query, since=max(until, question.query.since or until)))
    return {
        "source": source.path,
        **_document(found, asked),
        "outside": outside,
        "every": question.every or None,
        "utc": question.utc,
    }


@dataclass(slots=True)
class _Found:
    """What was counted: by type and name, in each group, in each column of a group, and the values of groups and names."""

    events: int = 0
    others: int = 0
    first: int | None = None
    timeline: Timeline = field(default_factory=Timeline)
    kinds: Counter[Kind] = field(default_factory=Counter)
    groups: Counter[Group] = field(default_factory=Counter)
    columns: Counter[tuple[Group, int]] = field(default_factory=Counter)
    values: dict[tuple[Group, str], array[float]] = field(default_factory=dict)
    bounds: list[int] = field(default_factory=list)


def _tallied(source: SpoolSource | StoreSource, asked: Question, report: Report | None, *, is_timed: bool) -> _Found:
    """Read the events."""
    query = asked.query
    edges: list[int] = []
    if asked.every:
        first = source.oldest(query, is_timed=is_timed) if query.since is None else query.since // 1000
        edges = [] if first is None else _bounds(asked, first)
    value = asked.value or ("value" if asked.wants_values else "")
    tally = Tally(query, asked.by, value, ColumnOf(edges) if edges else None)
    for times, lines in source.blocks(query, is_timed=is_timed):
        tally.add(times, lines)
        if report:
            report(tally.events)
    groups = tally.groups if asked.by else Counter({(): tally.events})
    found = _Found(
        tally.events, tally.others, tally.first, tally.timeline, tally.kinds, groups, tally.columns, tally.values
    )
    found.bounds = edges
    return found


def _counted(source: StoreSource, asked: Question) -> _Found | None:
    """Ask the store's tables of counts; None if they cannot answer this, or do not add up."""
    query = asked.query
    if query.attributes or asked.by or asked.value not in ("", "value"):
        return None
    within = Range.of(query)
    with source.counts() as counts, counts.snapshot():
        # Within one microsecond only the events themselves tell which belong to the time.
        if (
            counts.later() is None
            or counts.has_events_at(Filter(query).edges)
            or (kinds := counts.kinds(query)) is None
        ):
            return None
        first = counts.first(query, within)
        edges = [] if not asked.every or (first is None and query.since is None) else _bounds(
            asked, within.low if query.since is not None else first or 0
        )  # fmt: skip
        if first is None:
            return _Found(groups=Counter({(): 0}), bounds=edges)
        return _from_counts(counts, asked, replace(within, low=max(within.low, first)), kinds, edges)


def _from_counts(counts: Counts, asked: Question, within: Range, kinds: Sequence[Kind], edges: list[int]) -> _Found:
    timeline = Timeline()
    timeline.reach(within.low // _SECOND)
    timeline.reach(within.high // _SECOND)
    if timeline.seconds % 60:
        found = counts.by_second(asked.query, within)
    else:
        parts = timeline.bounds()
        counted = counts.count(asked.query, within, kinds, [second // 60 for second in parts])
        found = {kind: dict(zip(parts, row, strict=False)) for kind, row in counted.items()}
    sums = Counter({kind: sum(row.values()) for kind, row in found.items()})
    known = dict(sums.most_common(MAX_NAMES))
    for kind in known:
        for second, n in found[kind].items():
            if n:
                timeline.add(kind, second, n)
    columns: Counter[tuple[Group, int]] = Counter()
    if edges:
        for row in counts.count(asked.query, within, kinds, [edge // _MINUTE for edge in edges]).values():
            columns.update({((), number): n for number, n in enumerate(row) if n})
    values: dict[tuple[Group, str], array[float]] = {}
    if asked.wants_values:
        metrics = [name for kind, name in sums if kind == METRIC]
        for name in metrics:
            key = (), name if (METRIC, name) in known else ""
            if numbers := counts.values(name, within):
                values.setdefault(key, array("d")).extend(numbers)
    total = sum(sums.values())
    return _Found(
        total,
        total - sum(known.values()),
        within.low,
        timeline,
        Counter(known),
        Counter({(): total}),
        columns,
        values,
        edges,
    )


def _bounds(asked: Question, first_us: int) -> list[int]:
    return bounds(first_us, max(first_us, ((asked.query.until or 0) - 1) // 1000), asked.every, asked.zone)


def _document(found: _Found, asked: Question) -> dict[str, Any]:
    line = found.timeline
    if found.events and line.is_set:
        line.reach(max(((asked.query.until or 0) - 1) // 1_000_000_000, line.first))
    types: Counter[str] = Counter()
    for (kind, _), count in found.kinds.items():
        types[kind] += count
    by_name: dict[str, array[float]] = {}
    by_group: dict[Group, array[float]] = {}
    for (group, name), values in found.values.items():
        # One array as it is: most often there is only one.
        by_name[name] = by_name[name] + values if name in by_name else values
        by_group[group] = by_group[group] + values if group in by_group else values
    return {
        "events": found.events,
        **line.document(),
        "types": dict(types.most_common()),
        "names": [
            {"type": kind, "name": name, "count": count, "buckets": line.buckets((kind, name))}
            for (kind, name), count in found.kinds.most_common()
        ],
        "others": found.others,
        "values": [
            {"name": name, **(distribution(values) or {})}
            for name, values in sorted(by_name.items(), key=lambda item: -len(item[1]))
            if name
        ],
        "groups": _groups(found, asked, by_group),
    }


def _groups(found: _Found, asked: Question, values: dict[Group, array[float]]) -> list[dict[str, Any]]:
    starts = found.bounds[:-1]
    skipped = 0
    if asked.query.since is None and found.first is not None:
        # The columns begin with the oldest event.
        skipped = max(0, bisect_right(starts, found.first) - 1)
    if asked.query.since is None and not found.events:
        starts = []
    if len(found.groups) * (len(starts) - skipped) > MOST_CELLS:
        raise too_many_groups()
    written = [format_time(us * 1000) for us in starts[skipped:]]
    return [
        {
            "by": dict(zip(asked.by, map(plain, group), strict=True)),
            "count": count,
            "columns": [
                {"from": start, "count": found.columns[group, number]} for number, start in enumerate(written, skipped)
            ],
            "values": distribution(values.get(group, ())),
        }
        for group, count in found.groups.most_common()
    ]
