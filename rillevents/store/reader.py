"""Reading a store: which events, how many, the newest, the rejected ones. Nothing is written, and memory is bounded.

SQL and its indexes filter by type, name and time; `query.Query` filters by attributes. All times given or returned are
nanoseconds since 1970; those in the tables are microseconds, rounded down.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import compress, groupby
from types import TracebackType
from typing import Any, Self

from rillevents.event import format_time
from rillevents.event.envelope import is_event, required_fields
from rillevents.event.fields import Attributes
from rillevents.event.pattern import is_pattern, matches
from rillevents.event.query import Query, decoded, moment
from rillevents.store.readonly import ReadOnlyFile

PAGE = 500
# From this share of all events on, the table is read in its own order instead of an index's.
_SCAN_FROM = 4
_LEAST, _MOST = -(1 << 63), (1 << 63) - 1
_EVERYTHING = Query()


@dataclass(frozen=True, slots=True)
class RejectedRow:
    """A line that was not accepted: its time, its stream, the reason, its ID if it had one, and the line."""

    received_at: str
    stream: str
    reason: str
    event_id: str
    body: str


@dataclass(frozen=True, slots=True)
class Counted:
    """How many events of one type and name fall into each part of a time range."""

    event_type: str
    event_name: str
    buckets: list[int]


class Store:
    """The store at *path*, for reading; raises StoreError if there is none, Busy if it is locked for too long.

    The file is opened at the first query. Use it in one thread only; any number of readers may read while one process writes.
    """

    def __init__(self, path: str) -> None:
        self.file = ReadOnlyFile(path)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; the next query opens it again."""
        self.file.close()

    def has_events(self) -> bool:
        """Return whether there are any events; this is also the quickest check that the store can be read."""
        return bool(self.file.rows("SELECT 1 FROM events LIMIT 1"))

    def lines(self, query: Query = _EVERYTHING) -> Iterator[bytes]:
        """Yield the lines that *query* accepts, oldest first (to the microsecond, then by arrival), each with its newline.

        Lines that are stored meanwhile may be included. An invalid row is skipped.
        """
        return (row[-1] for row in self._found(Filter(query), backwards=False, page=PAGE))

    def newest(self, query: Query = _EVERYTHING, limit: int = 50) -> list[bytes]:
        """Return the *limit* newest lines that *query* accepts, oldest first; within a nanosecond, the later ones."""
        rows = _until_enough(self._found(Filter(query), backwards=True, page=min(PAGE, limit + 1)), limit)
        timed = ((moment(required_fields(line).event_time), rowid, line) for _, rowid, line in rows)
        return [line for _, _, line in sorted(heapq.nlargest(limit, timed))]

    def count(self, query: Query = _EVERYTHING) -> int:
        """Return how many events *query* accepts; only the indexes are read unless it has attributes or wildcards."""
        found = Filter(query)
        if not found.is_complete:
            return sum(1 for _ in self._scanned(found))
        sql, values = found.count()
        counted = int(self.file.rows(sql, values)[0][0])
        return counted + sum(1 for edge in found.at_the_edges() for _ in self._found(edge, backwards=False, page=PAGE))

    def rejected(self, limit: int = 50) -> list[RejectedRow]:
        """Return the *limit* lines that were rejected last, the newest first."""
        rows = self.file.rows(
            "SELECT CAST(received_us AS INTEGER), CAST(stream AS BLOB), CAST(reason AS BLOB), CAST(event_id AS BLOB),"
            " CAST(body AS BLOB) FROM rejected ORDER BY rowid DESC LIMIT ?",
            (limit,),
        )
        return [RejectedRow(format_time(us * 1000), *map(text_of, texts)) for us, *texts in rows]

    def counts(self, since: int, until: int, *, buckets: int, limit: int = 50) -> list[Counted]:
        """Return the *limit* most frequent types and names from *since* to before *until*, counted in *buckets* equal parts."""
        first, end = _clamped(since // 1000), _clamped(until // 1000)
        width = max(1, -(-(end - first) // buckets))
        rows = self.file.rows(_COUNTS, {"first": first, "end": end, "width": width, "limit": limit})
        return [
            Counted(text_of(event_type), text_of(event_name), _spread({row[3]: row[4] for row in group}, buckets))
            for (_, event_type, event_name), group in groupby(rows, key=lambda row: row[:3])
        ]

    def types(self, since: int, until: int, *, buckets: int) -> dict[str, list[int]]:
        """Return the same for each type, with all of its names."""
        first, end = _clamped(since // 1000), _clamped(until // 1000)
        rows = self.file.rows(_TYPES, {"first": first, "end": end, "width": max(1, -(-(end - first) // buckets))})
        groups = groupby(rows, key=lambda row: row[0])
        return {text_of(kind): _spread({row[1]: row[2] for row in group}, buckets) for kind, group in groups}

    def _found(self, found: Filter, *, backwards: bool, page: int) -> Iterator[tuple[int, int, bytes]]:
        """Yield (microseconds, row, line) of what a filter finds, page by page; each page starts where the last one ended."""
        for rows in self._pages(found, backwards=backwards, page=page):
            for us, rowid, body in found.candidates(rows):
                if found.accepts_candidate(us, body):
                    yield us, rowid, body + b"\n"

    def _pages(self, found: Filter, *, backwards: bool, page: int) -> Iterator[list[tuple[int, int, bytes]]]:
        sql, values, at = found.page(backwards=backwards)
        while True:
            rows = self.file.rows(sql, (*values, *at, page))
            yield rows
            if len(rows) < page:
                return
            at, page = rows[-1][:2], PAGE

    def _scanned(self, found: Filter) -> Iterator[tuple[int, bytes]]:
        """Yield (microseconds, body) of what a filter finds, in the quickest order."""
        for rows in self.pages(found):
            for us, _, body in found.candidates(rows):
                if found.accepts_candidate(us, body):
                    yield us, body

    def pages(self, found: Filter) -> Iterator[list[tuple[int, int, bytes]]]:
        """Yield rows (microseconds, row, body) that satisfy the SQL of a filter, page by page, in the quickest order.

        That is the order of the table, unless an index leaves most of it out.
        """
        if not self._is_mostly(found):
            yield from self._pages(found, backwards=False, page=PAGE)
            return
        sql = (
            f"SELECT event_us, rowid, CAST(body AS BLOB) FROM events NOT INDEXED WHERE {found.condition}"  # noqa: S608 - no value is in it
            " AND event_us BETWEEN ? AND ? AND rowid > ? ORDER BY rowid LIMIT ?"
        )
        rowid = _LEAST
        while rows := self.file.rows(sql, (*found.values, found.low, found.high, rowid, PAGE)):
            yield rows
            rowid = rows[-1][1]

    def _is_mostly(self, found: Filter) -> bool:
        """Return whether a filter by name and time leaves so much that reading the whole table is quicker."""
        sql, values = found.count()
        is_indexed = "event_name = ?" in found.conditions
        if not is_indexed and (found.low, found.high) == (_LEAST, _MOST):
            return True
        if "event_type = ?" in found.conditions:
            # The type is in no index; the time alone tells enough.
            timed = Filter(
                Query(name=found.query.name if is_indexed else "", since=found.query.since, until=found.query.until)
            )
            sql, values = timed.count()
        some, everything = (
            int(self.file.rows(*asked)[0][0]) for asked in ((sql, values), ("SELECT COUNT(*) FROM events", ()))
        )
        return some * _SCAN_FROM > everything


_COUNTS = """
WITH most AS (
    SELECT event_type AS type, event_name AS name, COUNT(*) AS n FROM events
    WHERE event_us >= :first AND event_us < :end GROUP BY 1, 2 ORDER BY n DESC, 1, 2 LIMIT :limit)
SELECT n, CAST(type AS BLOB), CAST(name AS BLOB), (event_us - :first) / :width AS bucket, COUNT(*)
FROM events JOIN most ON event_type = type AND event_name = name
WHERE event_us >= :first AND event_us < :end GROUP BY 2, 3, 4 ORDER BY n DESC, 2, 3, 4
"""

_TYPES = """
SELECT CAST(event_type AS BLOB), (event_us - :first) / :width, COUNT(*) FROM events
WHERE event_us >= :first AND event_us < :end GROUP BY 1, 2 ORDER BY 1, 2
"""


class Filter:
    """A query as SQL; `is_complete` if SQL checks everything except the nanoseconds of events at the `edges` of the range.

    What SQL cannot express is checked in Python, page by page. A function called by SQLite will not do: an interrupt that
    arrives inside it is reported as an error of SQLite.
    """

    def __init__(self, query: Query) -> None:
        self.query = query
        self.values: list[str] = []
        self.conditions: list[str] = []
        self._is_pattern = is_pattern(query.name)
        self._asks_more = False
        self._attributes = Attributes(query.attributes) if query.attributes else None
        self.low = _LEAST if query.since is None else _clamped(query.since // 1000)
        self.high = _MOST if query.until is None else _clamped((query.until - 1) // 1000)
        edges = ((self.low, query.since), (self.high, query.until))
        self.edges = {us for us, bound in edges if bound is not None and bound % 1000}
        self._add("event_type = ?", query.event_type)
        if not self._is_pattern:
            self._add("event_name = ?", query.name)

    def _add(self, condition: str, text: str) -> None:
        try:
            text.encode()
        except UnicodeEncodeError:
            # A command-line argument with bytes that are not valid UTF-8: SQLite does not accept it.
            self._asks_more = True
            return
        if text:
            self.conditions.append(condition)
            self.values.append(text)

    @property
    def is_complete(self) -> bool:
        """Whether only the events at the edges must be checked in Python."""
        return not self._is_pattern and not self._asks_more and not self._attributes

    def candidates(self, rows: list[tuple[int, int, bytes]]) -> list[tuple[int, int, bytes]]:
        """Return the rows (microseconds, row, body) that have the attributes of the query; all, if it has none."""
        if not self._attributes:
            return rows
        return [*compress(rows, self._attributes.accepted([body or b"" for _, _, body in rows]))]

    def is_in_time(self, body: bytes) -> bool:
        """Return whether an event at one of the edges is within the time, to the nanosecond."""
        return Query(since=self.query.since, until=self.query.until).accepts(decoded(body))

    def accepts(self, us: int, body: bytes | None) -> bool:
        """Return whether *body*, which already satisfies the SQL, is a valid event (as in a spool) and matches the query."""
        return self.accepts_candidate(us, body) and (
            not self._attributes or self._attributes.accepted([body or b""])[0]
        )

    def accepts_candidate(self, us: int, body: bytes | None) -> bool:
        """Return the same for one of the `candidates`."""
        if body is None or not is_event(body):
            return False
        # Check the name first: it is quicker to decode than the whole event.
        if self._is_pattern and not matches(required_fields(body).event_name, self.query.name):
            return False
        return self.query.accepts(decoded(body)) if self._asks_more or us in self.edges else True

    @property
    def condition(self) -> str:
        """The condition that must hold, besides the microseconds between `low` and `high`."""
        return " AND ".join(["TRUE", *self.conditions])

    def count(self) -> tuple[str, list[Any]]:
        """Return the statement that counts the events between the edges, and its values."""
        sql = f"SELECT COUNT(*) FROM events WHERE {self.condition} AND event_us BETWEEN ? AND ?"  # noqa: S608 - no value is in it
        return sql, [*self.values, self.low + (self.low in self.edges), self.high - (self.high in self.edges)]

    def at_the_edges(self) -> Iterator[Filter]:
        """Yield the filters for the microseconds whose nanoseconds must be checked."""
        for us in self.edges:
            if self.low <= us <= self.high:
                edge = Filter(self.query)
                edge.low = edge.high = us
                yield edge

    def page(self, *, backwards: bool) -> tuple[str, list[Any], tuple[int, int]]:
        """Return the statement for a page, its values except the start and the page size, and the first start.

        The start replaces one end of the requested range: with two conditions on the same end, SQLite might use either for its
        index.
        """
        ahead, other, order = ("<", ">=", "DESC") if backwards else (">", "<=", "ASC")
        sql = (
            f"SELECT event_us, rowid, CAST(body AS BLOB) FROM events WHERE {self.condition}"  # noqa: S608 - likewise
            f" AND event_us {other} ? AND (event_us, rowid) {ahead} (?, ?) ORDER BY event_us {order}, rowid {order} LIMIT ?"
        )
        if backwards:
            return sql, [*self.values, self.low], (min(self.high + 1, _MOST), _LEAST)
        return sql, [*self.values, self.high], (max(self.low - 1, _LEAST), _MOST)


def _clamped(us: int) -> int:
    """Return the nearest number that SQLite can hold: `--since 99999999999w` is valid, too."""
    return min(max(us, _LEAST), _MOST)


def _until_enough(rows: Iterator[tuple[int, int, bytes]], limit: int) -> Iterator[tuple[int, int, bytes]]:
    """Yield *limit* rows, and the rest of the last one's microsecond: only the nanoseconds decide which are newest."""
    last = 0
    for number, row in enumerate(rows):
        if number >= limit and row[0] != last:
            return
        last = row[0]
        yield row


def text_of(data: bytes | None) -> str:
    """Return a text of the tables, whatever bytes it contains."""
    return (data or b"").decode("utf-8", "backslashreplace")


def _spread(counted: dict[int, int], buckets: int) -> list[int]:
    return [counted.get(number, 0) for number in range(buckets)]
