"""Counts and values of any range of time, from the tables beside the events (counted.py) and the few events they leave out.

A range consists of whole minutes, which the tables have, and of its two ends, which are read from the events, as are the events
after the mark. All that belongs to one answer is one statement, so that it is of one moment.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from itertools import chain, pairwise
from typing import Any, Self

from rillevents.event import METRIC
from rillevents.event.pattern import matches
from rillevents.event.query import Query
from rillevents.store.counted import DEFINED, MARK, MINUTE, SUMS, is_ours, minute_of, unpacked, value_of
from rillevents.store.reader import Filter, text_of
from rillevents.store.readonly import ReadOnlyFile

Kind = tuple[str, str]
_FAR = 1 << 60

# A pattern that more kinds match is looked for in the events.
_MOST_KINDS = 5000
# With more columns than that, one statement for all would be too long.
_KINDS_AT_ONCE = 500

# One look into the index for each: a DISTINCT would read all counts.
_KINDS = """
WITH RECURSIVE
types(type) AS (
    SELECT MIN(event_type) FROM counted
    UNION ALL SELECT (SELECT MIN(event_type) FROM counted WHERE event_type > type) FROM types WHERE type IS NOT NULL),
kinds(type, name) AS (
    SELECT type, (SELECT MIN(event_name) FROM counted WHERE event_type = type) FROM types WHERE type IS NOT NULL
    UNION ALL SELECT type, (SELECT MIN(event_name) FROM counted WHERE event_type = type AND event_name > name)
    FROM kinds WHERE name IS NOT NULL)
SELECT CAST(type AS BLOB), CAST(name AS BLOB) FROM kinds WHERE name IS NOT NULL LIMIT ?
"""


_WHOLE = "SUM(CASE WHEN length(numbers) % 8 = 0 AND length(numbers) <= 8 * n THEN n ELSE 0 END)"
_FIRST = "SELECT minute FROM counted WHERE event_type = ? AND event_name = ? AND minute BETWEEN ? AND ? ORDER BY minute LIMIT 1"


@dataclass(frozen=True, slots=True)
class Range:
    """Microseconds from *low* to *high*, both included, and the whole minutes from *first* to before *end* within it."""

    low: int
    high: int

    @classmethod
    def of(cls, query: Query) -> Range:
        """Return the range of a query's times."""
        found = Filter(query)
        # Far beyond every time: multiplied by what a minute has, it must still be a number of SQLite's.
        return cls(max(found.low, -_FAR), min(found.high, _FAR))

    @property
    def first(self) -> int:
        """The first whole minute."""
        return -(-self.low // MINUTE)

    @property
    def end(self) -> int:
        """The minute after the last whole one, not before the first."""
        return max(self.first, (self.high + 1) // MINUTE)

    def rest(self) -> tuple[str, list[int]]:
        """Return the condition for the events that no whole minute has, and its values."""
        inner = [self.first * MINUTE, self.end * MINUTE]
        if inner[0] >= inner[1]:
            return "event_us BETWEEN ? AND ?", [self.low, self.high]
        return (
            "(event_us BETWEEN ? AND ? OR event_us BETWEEN ? AND ?)",
            [self.low, inner[0] - 1, inner[1], self.high],
        )


class Counts:
    """What the tables of the store in *file* say; use it in one thread. Raises as ReadOnlyFile does."""

    def __init__(self, file: ReadOnlyFile) -> None:
        self._file = file

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()

    def snapshot(self) -> AbstractContextManager[None]:
        """Let all that is asked within be of one state: the writer counts events between two questions."""
        return self._file.snapshot()

    def later(self) -> int | None:
        """Return how many events the counts do not have yet; None if there are no counts, or they do not add up."""
        if not is_ours((text_of(name), text_of(sql)) for name, sql in self._file.rows(DEFINED)):
            return None
        events, later, counted = self._file.rows(SUMS)[0]
        marked = self._file.rows(f"SELECT {MARK}")[0][0] is not None
        return int(later) if marked and events == later + counted else None

    def has_events_at(self, times: Iterable[int]) -> bool:
        """Return whether any event has one of these times, in microseconds."""
        return any(self._file.rows("SELECT 1 FROM events WHERE event_us = ? LIMIT 1", (us,)) for us in times)

    def kinds(self, query: Query) -> list[Kind] | None:
        """Return the types and names that are counted and that *query* accepts; None if there are too many."""
        rows = self._file.rows(_KINDS, (_MOST_KINDS + 1,))
        if len(rows) > _MOST_KINDS:
            return None
        found = [(text_of(kind), text_of(name)) for kind, name in rows]
        return [kind for kind in found if _accepts(query, kind)]

    def total(self, query: Query) -> int | None:
        """Return how many events *query* accepts; None if the counts do not tell."""
        with self.snapshot():
            if query.attributes or self.later() is None or self.has_events_at(Filter(query).edges):
                return None
            kinds = self.kinds(query)
            within = Range.of(query)
            if kinds is None:
                return None
            return sum(sum(row) for row in self.count(query, within, kinds, [within.first, within.end]).values())

    def first(self, query: Query, within: Range) -> int | None:
        """Return the microsecond of the oldest event that *query* accepts in the range."""
        found = Filter(query)
        if found.conditions == ["event_name = ?"] or (not found.conditions and not query.name):
            sql = f"SELECT MIN(event_us) FROM events WHERE {found.condition} AND event_us BETWEEN ? AND ?"  # noqa: S608 - marks
            least: int | None = self._file.rows(sql, (*found.values, within.low, within.high))[0][0]
            return least
        times = list(self._times(query, f"NOT INDEXED WHERE rowid > {MARK}", within))
        # Of the first minute only a part may be within.
        begun = within.low // MINUTE
        part = replace(within, high=min(begun * MINUTE + MINUTE - 1, within.high))
        if found_there := list(self._times(query, "WHERE TRUE", part)):
            return min(times + found_there)
        minutes = [
            minute
            for kind in self.kinds(query) or ()
            for (minute,) in self._file.rows(_FIRST, (*kind, begun + 1, within.high // MINUTE))
        ]
        if minutes:
            start = min(minutes) * MINUTE
            times += self._times(
                query, "WHERE TRUE", Range(max(start, within.low), min(start + MINUTE - 1, within.high))
            )
        return min(times, default=None)

    def _times(self, query: Query, where: str, within: Range) -> Iterator[int]:
        kinds = "CAST(event_type AS BLOB), CAST(event_name AS BLOB)"
        sql = f"SELECT event_us, {kinds} FROM events {where} AND event_us BETWEEN ? AND ?"  # noqa: S608 - our own text
        for us, kind, name in self._file.rows(sql, (within.low, within.high)):
            if _accepts(query, (text_of(kind), text_of(name))):
                yield us

    def by_second(self, query: Query, within: Range) -> dict[Kind, dict[int, int]]:
        """Return how many events of each kind there are in each second; reads the events."""
        found = Filter(query)
        sql = (
            "SELECT CAST(event_type AS BLOB), CAST(event_name AS BLOB), event_us / 1000000 - (event_us % 1000000 < 0), COUNT(*)"  # noqa: S608 - marks
            f" FROM events WHERE {found.condition} AND event_us BETWEEN ? AND ? GROUP BY 1, 2, 3"
        )
        counted: dict[Kind, dict[int, int]] = {}
        for kind, name, second, n in self._file.rows(sql, (*found.values, within.low, within.high)):
            key = text_of(kind), text_of(name)
            if _accepts(query, key):
                counted.setdefault(key, {})[second] = n
        return counted

    def count(self, query: Query, within: Range, kinds: Sequence[Kind], bounds: Sequence[int]) -> dict[Kind, list[int]]:
        """Return how many events of each kind there are between each two of *bounds* (whole minutes, ascending).

        The first column has what comes before the second bound, the last one what comes after the last but one.
        """
        columns = [(max(low, within.first), min(high, within.end)) for low, high in pairwise(bounds)]
        columns[0] = (within.first, columns[0][1])
        columns[-1] = (columns[-1][0], within.end)
        found: dict[Kind, list[int]] = {}
        for at in range(0, max(1, len(kinds)), _KINDS_AT_ONCE):
            for kind, name, number, minute, n in self._rows(
                query, within, kinds[at : at + _KINDS_AT_ONCE], columns, at == 0
            ):
                key = text_of(kind), text_of(name)
                if number is None:
                    if not _accepts(query, key):
                        continue
                    number = min(max(bisect_right(bounds, minute) - 1, 0), len(columns) - 1)
                found.setdefault(key, [0] * len(columns))[number] += n
        return {kind: counts for kind, counts in found.items() if any(counts)}

    def _rows(
        self, query: Query, within: Range, kinds: Sequence[Kind], columns: Sequence[tuple[int, int]], rest: bool
    ) -> list[Any]:
        """Return rows (type, name, column, None, n) for whole minutes, and (type, name, None, minute, n) for the *rest*."""
        parts: list[str] = []
        values: list[Any] = []
        if kinds:
            parts.append(
                "SELECT k.column1 AS type, k.column2 AS name, c.column1 AS number, NULL AS minute,"  # noqa: S608 - marks and numbers
                " (SELECT SUM(n) FROM counted WHERE event_type = k.column1 AND event_name = k.column2"
                "  AND minute >= c.column2 AND minute < c.column3) AS n"
                f" FROM (VALUES {','.join(['(?,?)'] * len(kinds))}) AS k,"
                f" (VALUES {','.join(f'({number},{low},{high})' for number, (low, high) in enumerate(columns))}) AS c"
            )
            values += chain.from_iterable(kinds)
        if rest or not parts:
            condition, bounds = within.rest()
            found = Filter(query)
            parts += [
                f"SELECT event_type, event_name, NULL, {minute_of('event_us')} AS minute, COUNT(*) FROM events"  # noqa: S608 - marks
                f" WHERE {where} AND {found.condition} GROUP BY 1, 2, 4"
                for where in (condition, f"rowid > {MARK} AND event_us >= ? AND event_us < ?")
            ]
            parts[-1] = parts[-1].replace("FROM events WHERE", "FROM events NOT INDEXED WHERE")
            inner = [within.first * MINUTE, within.end * MINUTE]
            values += [*bounds, *found.values, *inner, *found.values]
        sql = " UNION ALL ".join(f"SELECT * FROM ({part})" for part in parts)  # noqa: S608 - marks and numbers
        if kinds:
            sql = f"SELECT CAST(type AS BLOB), CAST(name AS BLOB), number, minute, n FROM ({sql}) WHERE n"  # noqa: S608 - likewise
        return self._file.rows(sql, values)

    def values(self, name: str, within: Range) -> array[float]:
        """Return the values of a metric in no particular order, all that the events have."""
        inner = (name, within.first, within.end)
        lacking = self._lacking(inner)
        skip = f" AND minute NOT IN ({','.join(map(str, lacking))})" if lacking else ""
        sql = f"SELECT numbers FROM counted_values WHERE event_name = ? AND minute >= ? AND minute < ?{skip}"  # noqa: S608 - numbers
        found = unpacked(numbers for (numbers,) in self._file.rows(sql, inner))
        condition, bounds = within.rest()
        metric = f"event_name = ? AND event_type = '{METRIC}'"
        parts = [(f"{metric} AND {condition}", [name, *bounds])]
        parts += [
            (
                f"{metric} AND event_us >= ? AND event_us < ? AND +rowid <= {MARK}",
                [name, minute * MINUTE, (minute + 1) * MINUTE],
            )
            for minute in lacking
        ]
        parts.append(
            (
                f"+rowid > {MARK} AND {metric} AND event_us >= ? AND event_us < ?",
                [name, within.first * MINUTE, within.end * MINUTE],
            )
        )
        for where, bound in parts:
            plan = "NOT INDEXED " if where.startswith("+rowid") else ""
            where = where.removeprefix("+") if plan else where
            rows = self._file.rows(f"SELECT CAST(body AS BLOB) FROM events {plan}WHERE {where}", bound)  # noqa: S608 - marks
            found.extend(number for (body,) in rows if (number := value_of(body or b"")) != "")  # type: ignore[misc]
        return found

    def _lacking(self, inner: tuple[str, int, int]) -> list[int]:
        """Return the minutes of which values are missing, or damaged."""
        whole = "event_name = ? AND minute >= ? AND minute < ?"
        sums = (
            f"SELECT (SELECT SUM(n) FROM counted WHERE event_type = '{METRIC}' AND {whole}),"  # noqa: S608 - our own text
            f" (SELECT {_WHOLE} FROM counted_values WHERE {whole})"
        )
        metrics, values = self._file.rows(sums, (*inner, *inner))[0]
        if metrics == values:
            return []
        values = f"SELECT minute, {_WHOLE} AS n FROM counted_values WHERE {whole} GROUP BY 1"  # noqa: S608 - likewise
        sql = (
            f"SELECT minute FROM counted LEFT JOIN ({values}) AS v"  # noqa: S608 - likewise
            f" USING (minute) WHERE event_type = '{METRIC}' AND {whole} AND counted.n <> ifnull(v.n, 0)"
        )
        return [minute for (minute,) in self._file.rows(sql, (*inner, *inner))]


def _accepts(query: Query, kind: Kind) -> bool:
    """Return whether a query accepts the type and the name; it has no attributes."""
    return (not query.event_type or kind[0] == query.event_type) and (not query.name or matches(kind[1], query.name))
