"""Reading a store in bounded time and memory, for frequent polling; what is left out is reported.

A filter looks at a limited number of events, counts cover a time range with a limited number of events, and values are a
sample if there are too many. `reader.Store` reads everything, and takes its time.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from typing import Any

from rillevents.event import METRIC
from rillevents.event.ndjson import finite
from rillevents.event.pattern import is_pattern, matches
from rillevents.event.query import Query, decoded
from rillevents.store.counts import Counts, Range
from rillevents.store.reader import Counted, Filter, RejectedRow, Store

LOOKED_AT = 50_000
# Events that are not counted yet, and are read with every look.
LATER = 50_000
COUNTED = 200_000
VALUES = 10_000
# Events whose attributes are read for one look.
READ = 500_000
# Bytes of all lines that one call returns, or takes values from.
_MOST_BYTES = 4 << 20
_MOST_VALUE_BYTES = 32 << 20
_PAGE = 100
_MINUTE_NS = 60 * 10**9


@dataclass(frozen=True, slots=True)
class Page:
    """Events, oldest first, and the `cursor` after which the next ones come.

    `complete`: no further events belong here. `reset`: the given cursor is no longer valid, and these are simply the newest
    events.
    """

    lines: list[bytes]
    cursor: str
    complete: bool = True
    reset: bool = False


@dataclass(frozen=True, slots=True)
class Window:
    """How many events there were from `since` to before `until`; if `cut` is true, `since` is later than requested.

    `counted` has the most frequent names, `types` the buckets of each type with all of its names.
    """

    since: int
    until: int
    total: int
    counted: list[Counted]
    types: dict[str, list[int]]
    cut: bool = False


class BoundedReader:
    """A quick view of the store at *path*; raises StoreError if there is none, Busy if it is locked or being replaced.

    Use it in one thread only. Times are nanoseconds since 1970.
    """

    def __init__(self, path: str) -> None:
        self._store = Store(path)
        self._file = self._store.file

    def close(self) -> None:
        """Close the file."""
        self._store.close()

    def newest(self, query: Query, limit: int) -> Page:
        """Return the newest events that *query* accepts, by their time, and the cursor of the event that arrived last."""
        last = self._number("SELECT MAX(rowid) FROM events")
        rows = self._newest_rows(query, limit + 1)
        lines = [line for _, line in self._lines(rows[:limit], _MOST_BYTES)]
        complete = len(lines) == len(rows) and not self._has_more(query)
        return Page(lines[::-1], self._cursor(last), complete)

    def after(self, cursor: str, query: Query, limit: int) -> Page:
        """Return the events that *query* accepts and that arrived after *cursor*, in order of arrival."""
        row = int(cursor.partition("-")[0])
        if cursor != self._cursor(row):
            return replace(self.newest(query, limit), reset=True)
        numbers = "SELECT rowid FROM events NOT INDEXED WHERE rowid > ? ORDER BY rowid LIMIT ?"
        end = self._number(f"SELECT MAX(rowid) FROM ({numbers})", row, LOOKED_AT) or row  # noqa: S608 - our own text
        found = Filter(query)
        sql = (
            "SELECT rowid, event_us, event_name FROM events NOT INDEXED"  # noqa: S608 - no value is in it
            f" WHERE rowid > ? AND rowid <= ? AND {found.condition} AND event_us BETWEEN ? AND ? ORDER BY rowid"
        )
        rows = self._accepted(found, sql, (row, end, *found.values, found.low, found.high), limit + 1)
        lines = list(self._lines(rows[:limit], _MOST_BYTES))
        if len(lines) < len(rows):
            # Skip a line that fits into no answer: otherwise nothing after it would ever be returned.
            end = lines[-1][0] if lines else rows[0]
        complete = end >= self._number("SELECT MAX(rowid) FROM events")
        return Page([line for _, line in lines], self._cursor(end), complete)

    def rejected(self, limit: int) -> tuple[list[RejectedRow], int]:
        """Return the lines that were rejected last, the newest first, and how many are kept in total."""
        return self._store.rejected(limit), self._number("SELECT COUNT(*) FROM rejected")

    def counts(self, since: int, until: int, *, buckets: int, limit: int) -> Window:
        """Return the counts in *buckets* parts; those of whole minutes come from the counts beside the events, and are complete.

        Else, if the range has too many events, only its last part is counted.
        """
        if found := self.kept_counts(Query(since=since, until=until), buckets=buckets, limit=limit):
            return found
        times = "SELECT event_us FROM events WHERE event_us >= ? AND event_us < ? ORDER BY event_us DESC LIMIT ?"
        sql = f"SELECT COUNT(*), MIN(event_us) FROM ({times})"  # noqa: S608 - our own text
        total, first = self._file.rows(sql, (since // 1000, until // 1000, COUNTED + 1))[0]
        cut = total > COUNTED
        if cut:
            since = (first + 1) * 1000
            total = self._file.rows(sql, (since // 1000, until // 1000, COUNTED + 1))[0][0]
        counted = self._store.counts(since, until, buckets=buckets, limit=limit)
        return Window(since, until, total, counted, self._store.types(since, until, buckets=buckets), cut)

    def kept_counts(self, query: Query, *, buckets: int, limit: int) -> Window | None:
        """Return the same from the counts beside the events, of one type or name too; None if they cannot tell it."""
        since, until = query.since or 0, query.until or 0
        width = (until - since) // buckets
        if width % _MINUTE_NS or since % _MINUTE_NS or (until - since) % buckets:
            return None
        with self._file.snapshot():
            counts = Counts(self._file)
            kinds = counts.kinds(query) if self._has_counts() else None
            if kinds is None:
                return None
            edges = [(since + width * number) // _MINUTE_NS for number in range(buckets + 1)]
            found = counts.count(query, Range.of(query), kinds, edges)
        most = sorted(found, key=lambda kind: (-sum(found[kind]), kind))[:limit]
        total = sum(map(sum, found.values()))
        return Window(since, until, total, [Counted(*kind, found[kind]) for kind in most], by_type(found))

    def _has_counts(self) -> bool:
        """Return whether the counts can be used: they add up, and few events are not counted yet."""
        later = Counts(self._file).later()
        return later is not None and later <= LATER

    def blocks(self, query: Query) -> tuple[int, Iterator[tuple[list[int], list[bytes]]]]:
        """Return from which nanosecond on events are read, the newest of too many, and their times and lines in blocks.

        The times of *query* must be set, in whole microseconds.
        """
        since, found = query.since or 0, Filter(query)
        rows, values = _bounded(query, found)
        total, first = self._file.rows(f"SELECT COUNT(*), MIN(event_us) FROM ({rows})", (*values, READ + 1))[0]  # noqa: S608 - no value is in it
        if total > READ:
            since = (first + 1) * 1000
            found = Filter(replace(query, since=since))
        pages = self._store.pages(found)
        return since, (([us for us, _, _ in page], [body or b"" for _, _, body in page]) for page in pages)

    def values(self, query: Query) -> tuple[Sequence[float], bool]:
        """Return the numbers that the newest events have as their `value`, and whether these were all."""
        found = Filter(query)
        is_one_metric = query.event_type == METRIC and query.name and not is_pattern(query.name)
        if is_one_metric and not found.edges:
            with self._file.snapshot():
                if self._has_counts():
                    return Counts(self._file).values(query.name, Range.of(query)), True
        rows = self._newest_rows(query, VALUES + 1)
        taken, values = 0, []
        for _, line in self._lines(rows[:VALUES], _MOST_VALUE_BYTES):
            taken += 1
            values += value_of(line)
        return values, taken == len(rows) and not self._has_more(query)

    def _newest_rows(self, query: Query, limit: int) -> list[int]:
        found = Filter(query)
        rows, values = _bounded(query, found)
        # Select the row numbers first, then their contents: SQLite reads a body from the disk even if no condition needs it.
        sql = f"SELECT row, event_us, event_name FROM ({rows}) WHERE {found.condition}"  # noqa: S608 - no value is in it
        return self._accepted(found, sql, (*values, LOOKED_AT, *found.values), limit)

    def _accepted(self, found: Filter, sql: str, values: tuple[Any, ...], limit: int) -> list[int]:
        """Return the first *limit* rows of a statement (row, time, name) that a filter accepts."""
        if found.is_complete and not found.edges:
            return self._numbers(f"{sql} LIMIT ?", (*values, limit))
        rows = self._file.rows(sql, values, same_file=True)
        named: Iterator[Any] = (row for row in rows if _is_named(found.query, row[2]))
        if found.query.attributes:
            named = self._with_attributes(found, named)
        return [row for row, us, _ in islice(filter(partial(self._is_within, found), named), limit)]

    def _with_attributes(
        self, found: Filter, rows: Iterator[tuple[int, int, bytes]]
    ) -> Iterator[tuple[int, int, bytes]]:
        """Yield the rows whose events have the attributes of the query."""
        while some := list(islice(rows, _PAGE)):
            bodies = self._bodies([row for row, _, _ in some])
            kept = {row for _, row, _ in found.candidates([(0, row, body) for row, body in bodies.items()])}
            yield from (each for each in some if each[0] in kept)

    def _bodies(self, rows: list[int]) -> dict[int, bytes]:
        sql = f"SELECT rowid, CAST(body AS BLOB) FROM events WHERE rowid IN ({','.join('?' * len(rows))})"  # noqa: S608 - marks
        return dict(self._file.rows(sql, rows, same_file=True))

    def _is_within(self, found: Filter, row: tuple[int, int, bytes]) -> bool:
        """Return whether an event's nanoseconds are within the requested range; this matters only at its edges."""
        if row[1] not in found.edges:
            return True
        bodies = self._file.rows("SELECT CAST(body AS BLOB) FROM events WHERE rowid = ?", row[:1], same_file=True)
        return any(found.accepts(row[1], body) for (body,) in bodies)

    def _has_more(self, query: Query) -> bool:
        """Return whether the range has more events than a filter looks at."""
        rows, values = _bounded(query, Filter(query))
        return self._number(f"SELECT COUNT(*) FROM ({rows})", *values, LOOKED_AT + 1) > LOOKED_AT  # noqa: S608 - no value is in it

    def _lines(self, rows: list[int], most: int) -> Iterator[tuple[int, bytes]]:
        """Yield the lines of *rows* in order, until their total size exceeds the limit."""
        held = 0
        for at in range(0, len(rows), _PAGE):
            some = rows[at : at + _PAGE]
            bodies = self._bodies(some)
            for row in some:
                line = bodies.get(row) or b""
                held += len(line)
                if held > most:
                    return
                yield row, line + b"\n"

    def _cursor(self, row: int) -> str:
        """Return a row as a cursor that includes its event's ID: a replaced or vacuumed store reuses row numbers."""
        found = self._file.rows("SELECT event_id FROM events WHERE rowid = ?", (row,), same_file=True)
        return cursor(row, (found[0][0] or b"").decode("utf-8", "backslashreplace") if found else "")

    def _number(self, sql: str, *values: Any) -> int:
        return int(self._file.rows(sql, values, same_file=True)[0][0] or 0)

    def _numbers(self, sql: str, values: tuple[Any, ...]) -> list[int]:
        return [row[0] for row in self._file.rows(sql, values, same_file=True)]


def cursor(number: int, text: str) -> str:
    """Return a position, with enough of *text* to tell it from another position of the same number."""
    return f"{number}-{hashlib.blake2b(text.encode('utf-8', 'surrogatepass'), digest_size=4).hexdigest()}"


def by_type(found: Mapping[tuple[str, str], list[int]]) -> dict[str, list[int]]:
    """Return the buckets of each type, from those of each type and name."""
    types: dict[str, list[int]] = {}
    for (event_type, _), buckets in found.items():
        types[event_type] = [sum(pair) for pair in zip(types.get(event_type, [0] * len(buckets)), buckets, strict=True)]
    return types


def value_of(line: bytes) -> list[float]:
    """Return an event's `value` as a list of one number; an empty list if it has none, or the line is invalid."""
    try:
        value = decoded(line).get("value")
    except (ValueError, RecursionError, AttributeError):
        return []
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return []
    return [finite(value)]


def _is_named(query: Query, name: bytes | None) -> bool:
    """Return whether a pattern matches an event's name; SQL has already compared a plain name."""
    return not is_pattern(query.name) or matches((name or b"").decode("utf-8", "backslashreplace"), query.name)


def _bounded(query: Query, found: Filter) -> tuple[str, list[Any]]:
    """Return the statement for the newest events of a range, with a plain name's condition, and its values except the limit."""
    is_name = bool(query.name) and not is_pattern(query.name)
    by_name = "event_name = ? AND" if is_name else ""
    sql = (
        "SELECT rowid AS row, event_us, event_time, event_type, event_name FROM events"  # noqa: S608 - no value is in it
        f" WHERE {by_name} event_us BETWEEN ? AND ? ORDER BY event_us DESC, rowid DESC LIMIT ?"
    )
    return sql, [*([query.name] if is_name else []), found.low, found.high]
