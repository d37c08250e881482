"""Events → counts and values by name, by attribute and over time, block by block: msgspec decodes only what is asked for."""

from __future__ import annotations

import json
from array import array
from collections import Counter
from collections.abc import Sequence
from itertools import compress
from operator import attrgetter
from typing import Any, Final

from rillevents.errors import UsageError
from rillevents.event import METRIC
from rillevents.event.columns import ColumnOf
from rillevents.event.fields import MISSING, Attributes, Fields
from rillevents.event.ndjson import LARGEST, finite
from rillevents.event.pattern import matches
from rillevents.event.query import Query
from rillevents.event.stats import MAX_NAMES, Timeline

MAX_GROUPS: Final = 100_000
_SECOND = 1_000_000
MOST_CELLS: Final = 500_000
_NUMBERS = (int, float)
Kind = tuple[str, str]
Group = tuple[Any, ...]


class Tally:
    """What is known about the events added so far; those that *query* does not accept by name or attribute are left out.

    *by* are the attributes that make groups. *value* is the attribute whose numbers are kept, "" for none; `value` counts in
    metrics alone, unless *any_type*. *column* gives the column of a time, for counts over time in each group.
    """

    def __init__(
        self,
        query: Query,
        by: Sequence[str] = (),
        value: str = "",
        column: ColumnOf | None = None,
        *,
        any_type: bool = False,
    ) -> None:
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
        self._metrics_only = value == "value" and not any_type
        self._column = column
        self._names = _Matching(query.name)
        self._attributes = Attributes(query.attributes) if query.attributes else None
        self._fields = Fields(["event_type", "event_name", value or "value", *by])
        self._get = [attrgetter(self._fields.name(key)) for key in by]

    def add(self, times: Sequence[int | None], lines: Sequence[bytes]) -> None:
        """Count the events of some lines without newlines; *times* are their microseconds since 1970, None for no valid time."""
        if self._attributes:
            asked = self._attributes.accepted(lines)
            lines, times = [*compress(lines, asked)], [*compress(times, asked)]
        rows = self._fields.rows(lines)
        types, names = [row.f0 for row in rows], [row.f1 for row in rows]
        if not self._are_all_asked(types, names):
            kept = [self._is_asked(kind, name) for kind, name in zip(types, names, strict=True)]
            rows, times = [*compress(rows, kept)], [*compress(times, kept)]
            types, names = [*compress(types, kept)], [*compress(names, kept)]
        self.events += len(rows)
        known = [us for us in times if us is not None] if None in times else times
        if known:
            self.first = min([*known, *([] if self.first is None else [self.first])])  # type: ignore[type-var]
        self._count_kinds(types, names, times)
        groups: list[Group] = [()] * len(rows)
        if self._get:
            groups = [*zip(*(_hashable([*map(get, rows)]) for get in self._get), strict=True)]
        if self._column is not None:
            column, unit = self._column, self._column.unit
            cells = Counter(zip(groups, [None if us is None else column[us // unit] for us in times], strict=True))
            self.columns.update({cell: n for cell, n in cells.items() if cell[1] is not None})  # type: ignore[misc]
            for (group, _), n in cells.items():
                self.groups[group] += n
        elif self._get:
            self.groups.update(groups)
        if len(self.groups) > MAX_GROUPS or len(self.columns) > MOST_CELLS:
            raise too_many_groups()
        if self._value:
            self._take_values([*map(attrgetter(self._fields.name(self._value)), rows)], types, names, groups)

    def _are_all_asked(self, types: list[Any], names: list[Any]) -> bool:
        """Return whether no line of a block has to be left out; most often the store's SQL has seen to that."""
        if not {*map(type, types), *map(type, names)} <= {str}:
            return False
        return all(kind == self._query.event_type or not self._query.event_type for kind in {*types}) and all(
            self._names[name] for name in {*names}
        )

    def _is_asked(self, kind: Any, name: Any) -> bool:
        # A line that is no event has no type.
        if type(kind) is not str or type(name) is not str:
            return False
        return (not self._query.event_type or kind == self._query.event_type) and self._names[name]

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

    def _take_values(self, values: list[Any], types: list[str], names: list[str], groups: list[Group]) -> None:
        metrics_only = self._metrics_only
        for value, kind, name, group in zip(values, types, names, groups, strict=True):
            if type(value) in _NUMBERS and (kind == METRIC or not metrics_only):
                key = group, name if (kind, name) in self.kinds else ""
                if key not in self.values:
                    self.values[key] = array("d")
                self.values[key].append(
                    value if type(value) is float and -LARGEST <= value <= LARGEST else finite(value)
                )


def too_many_groups() -> UsageError:
    """Return the error for more groups, or counts in them, than fit in memory."""
    told = f"more than {MAX_GROUPS:,} groups, or {MOST_CELLS:,} counts in them; choose another --by, or filter"
    return UsageError(told, hint="`rillevents query` can group by anything")


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


def _hashable(values: list[Any]) -> list[Any]:
    """Return values of JSON as parts of keys; true differs from 1, a missing value is null, 1 and 1.0 are one."""
    if {*map(type, values)} <= {str}:
        return values
    return [
        value if type(value) is str else None if value is None or value is MISSING else _Other(value)
        for value in values
    ]


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
