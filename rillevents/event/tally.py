"""Events → counts and values by name, by attribute and over time, block by block: msgspec decodes only what is asked for."""

from __future__ import annotations

import json
from array import array
from collections import Counter
from collections.abc import Sequence
from operator import attrgetter
from typing import Any, Final

from rillevents.errors import UsageError
from rillevents.event import METRIC
from rillevents.event.columns import ColumnOf
from rillevents.event.fields import MISSING, Attributes, Fields
from rillevents.event.ndjson import finite
from rillevents.event.pattern import matches
from rillevents.event.query import Query
from rillevents.event.stats import MAX_NAMES, Timeline

MAX_GROUPS: Final = 100_000
_SECOND, _MINUTE = 1_000_000, 60_000_000
Kind = tuple[str, str]
Group = tuple[Any, ...]


class Tally:
    """What is known about the events added so far; those that *query* does not accept by name or attribute are left out.

    *by* are the attributes that make groups. *value* is the attribute whose numbers are kept, "" for none; `value` counts in
    metrics alone. *column* gives the column of a minute, for counts over time in each group.
    """

    def __init__(self, query: Query, by: Sequence[str] = (), value: str = "", column: ColumnOf | None = None) -> None:
        self.events = self.others = 0
        # The microseconds of the oldest event.
        self.first: int | None = None
        self.timeline = Timeline()
        self.kinds: Counter[Kind] = Counter()
        self.groups: Counter[Group] = Counter()
        self.columns: Counter[tuple[Group, int]] = Counter()
        self.values: dict[tuple[Group, str], array[float]] = {}
        self._query = query
        self._value = value
        self._column = column
        self._names = _Matching(query.name)
        self._attributes = Attributes(query.attributes) if query.attributes else None
        self._fields = Fields(["event_type", "event_name", value or "value", *by])
        self._get = [attrgetter(self._fields.name(key)) for key in by]

    def add(self, times: Sequence[int | None], lines: Sequence[bytes]) -> None:
        """Count the events of some lines without newlines; *times* are their microseconds since 1970, None for no valid time."""
        rows = self._fields.rows(lines)
        asked = self._attributes.accepted(lines) if self._attributes else [True] * len(rows)
        kept = [at for at, row in enumerate(rows) if asked[at] and self._is_asked(row)]
        if len(kept) < len(rows):
            rows, times = [rows[at] for at in kept], [times[at] for at in kept]
        self.events += len(rows)
        self.first = min((us for us in (self.first, *times) if us is not None), default=None)
        types, names = [row.f0 for row in rows], [row.f1 for row in rows]
        self._count_kinds(types, names, times)
        groups: list[Group] = [()] * len(rows)
        if self._get:
            groups = [*zip(*([_hashable(get(row)) for row in rows] for get in self._get), strict=True)]
            self.groups.update(groups)
            if len(self.groups) > MAX_GROUPS:
                told = f"more than {MAX_GROUPS:,} groups; choose another --by, or filter"
                raise UsageError(told, hint="`rillevents query` can group by anything")
        if self._column is not None:
            column = self._column
            self.columns.update(
                (group, column[us // _MINUTE]) for group, us in zip(groups, times, strict=True) if us is not None
            )
        if self._value:
            self._take_values(rows, groups)

    def _is_asked(self, row: Any) -> bool:
        # A row that is no event has no type.
        if type(row.f0) is not str or type(row.f1) is not str:
            return False
        return (not self._query.event_type or row.f0 == self._query.event_type) and self._names[row.f1]

    def _count_kinds(self, types: list[str], names: list[str], times: Sequence[int | None]) -> None:
        width = self.timeline.seconds
        slots = [None if us is None else us // _SECOND // width for us in times]
        for (kind, name, slot), n in Counter(zip(types, names, slots, strict=True)).items():
            if (kind, name) not in self.kinds and len(self.kinds) >= MAX_NAMES:
                self.others += n
                if slot is not None:
                    self.timeline.reach(slot * width)
                continue
            self.kinds[kind, name] += n
            if slot is not None:
                self.timeline.add((kind, name), slot * width, n)

    def _take_values(self, rows: list[Any], groups: list[Group]) -> None:
        metrics_only, field = self._value == "value", self._fields.name(self._value)
        for row, group in zip(rows, groups, strict=True):
            value = getattr(row, field)
            if type(value) in (int, float) and (not metrics_only or row.f0 == METRIC):
                key = group, row.f1 if (row.f0, row.f1) in self.kinds else ""
                if key not in self.values:
                    self.values[key] = array("d")
                self.values[key].append(finite(value))


class _Matching(dict[str, bool]):
    """Which names match a pattern, worked out once for each."""

    def __init__(self, pattern: str) -> None:
        super().__init__()
        self._pattern = pattern

    def __missing__(self, name: str) -> bool:
        found = not self._pattern or matches(name, self._pattern)
        if len(self) < MAX_GROUPS:
            self[name] = found
        return found


def _hashable(value: Any) -> Any:
    """Return a value of JSON as part of a key; true differs from 1, a missing value is null, 1 and 1.0 are one."""
    if type(value) is str:
        return value
    if value is MISSING or value is None:
        return None
    return _Other(value)


class _Other:
    """A number, a truth value, an object or an array as part of a key."""

    __slots__ = ("_key", "value")

    def __init__(self, value: Any) -> None:
        self.value = value
        self._key = value if type(value) in (int, float) else (json.dumps(value, sort_keys=True),)

    def __eq__(self, other: object) -> bool:
        return type(other) is _Other and self._key == other._key

    def __hash__(self) -> int:
        return hash(self._key)


def plain(value: Any) -> Any:
    """Return the value of JSON that a part of a group's key stands for."""
    return value.value if type(value) is _Other else value
