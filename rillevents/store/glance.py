"""A store looked at in bounded time and memory, for who asks every few seconds; what was left out is said, not hidden.

A filter passes over so many events and no more, counts are of a time that holds so many and no more, and values are a sample
where there are too many of them. Whoever wants all of it has `reader.Store`, and the patience.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from typing import Any

from rillevents.event.ndjson import finite
from rillevents.event.pattern import is_pattern, matches
from rillevents.event.query import Query, decoded
from rillevents.store.reader import Counted, Filter, RejectedRow, Store

LOOKED_AT = 50_000
COUNTED = 200_000
VALUES = 10_000
# Of all lines that one look returns, or takes values from.
_MOST_BYTES = 4 << 20
_MOST_VALUE_BYTES = 32 << 20
_PAGE = 100


@dataclass(frozen=True, slots=True)
class Seen:
    """Events, oldest first, and the `cursor` after which the next ones come.

    `complete`: there are no more that would have belonged here. `reset`: the cursor that was given leads nowhere any more,
    and these are simply the newest.
    """

    lines: list[bytes]
    cursor: str
    complete: bool = True
    reset: bool = False


@dataclass(frozen=True, slots=True)
class Window:
    """How many events there were from `since` to before `until`; `since` is later than was asked for where `cut` is true."""

    since: int
    until: int
    total: int
    counted: list[Counted]
    cut: bool = False


class Glance:
    """A look at the store at *path*; raises StoreError where there is none, Busy where it is locked or changes hands.

    For the one thread that asked. Times are nanoseconds since 1970.
    """

    def __init__(self, path: str) -> None:
        self._store = Store(path)
        self._file = self._store.file

    def close(self) -> None:
        """Let the file go."""
        self._store.close()

    def newest(self, query: Query, limit: int) -> Seen:
        """Return the newest events that *query* accepts, by their time, and the cursor of the event that came last."""
        last = self._number("SELECT MAX(rowid) FROM events")
        rows = self._newest_rows(query, limit + 1)
        lines = [line for _, line in self._lines(rows[:limit], _MOST_BYTES)]
        complete = len(lines) == len(rows) and not self._has_more(query)
        return Seen(lines[::-1], self._cursor(last), complete)

    def after(self, cursor: str, query: Query, limit: int) -> Seen:
        """Return the events that *query* accepts of those that came after *cursor*, in the order in which they came."""
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
            # One that has no room in any answer is passed over: because nothing would come after it.
            end = lines[-1][0] if lines else rows[0]
        complete = end >= self._number("SELECT MAX(rowid) FROM events")
        return Seen([line for _, line in lines], self._cursor(end), complete)

    def rejected(self, limit: int) -> tuple[list[RejectedRow], int]:
        """Return the lines that were rejected last, the newest first, and how many are kept."""
        return self._store.rejected(limit), self._number("SELECT COUNT(*) FROM rejected")

    def counts(self, since: int, until: int, *, buckets: int, limit: int) -> Window:
        """Return what was counted in *buckets* parts; where too many events are in that time, of the last part of it."""
        times = "SELECT event_us FROM events WHERE event_us >= ? AND event_us < ? ORDER BY event_us DESC LIMIT ?"
        sql = f"SELECT COUNT(*), MIN(event_us) FROM ({times})"  # noqa: S608 - our own text
        total, first = self._file.rows(sql, (since // 1000, until // 1000, COUNTED + 1))[0]
        cut = total > COUNTED
        if cut:
            since = (first + 1) * 1000
            total = self._file.rows(sql, (since // 1000, until // 1000, COUNTED + 1))[0][0]
        return Window(since, until, total, self._store.counts(since, until, buckets=buckets, limit=limit), cut)

    def values(self, query: Query) -> tuple[list[float], bool]:
        """Return the numbers that the newest events have as their `value`, and whether those were all."""
        rows = self._newest_rows(query, VALUES + 1)
        taken, values = 0, []
        for _, line in self._lines(rows[:VALUES], _MOST_VALUE_BYTES):
            taken += 1
            values += value_of(line)
        return values, taken == len(rows) and not self._has_more(query)

    def _newest_rows(self, query: Query, limit: int) -> list[int]:
        found = Filter(query)
        rows, values = _bounded(query, found)
        # Their numbers first, then what they hold: because a body is read from the disk even where nothing asks for it.
        sql = f"SELECT row, event_us, event_name FROM ({rows}) WHERE {found.condition}"  # noqa: S608 - no value is in it
        return self._accepted(found, sql, (*values, LOOKED_AT, *found.values), limit)

    def _accepted(self, found: Filter, sql: str, values: tuple[Any, ...], limit: int) -> list[int]:
        """Return the first *limit* rows that a filter accepts of those that a statement has, with their times and names."""
        if found.is_complete and not found.edges:
            return self._numbers(f"{sql} LIMIT ?", (*values, limit))
        rows = self._file.rows(sql, values, same_file=True)
        named = (row for row in rows if _is_named(found.query, row[2]))
        return [row for row, us, _ in islice(filter(partial(self._is_within, found), named), limit)]

    def _is_within(self, found: Filter, row: tuple[int, int, bytes]) -> bool:
        """Return whether an event's nanoseconds are within the time that is asked for; only at its edges they may not be."""
        if row[1] not in found.edges:
            return True
        bodies = self._file.rows("SELECT CAST(body AS BLOB) FROM events WHERE rowid = ?", row[:1], same_file=True)
        return any(found.accepts(row[1], body) for (body,) in bodies)

    def _has_more(self, query: Query) -> bool:
        """Return whether there is more in that time than a filter passes over."""
        rows, values = _bounded(query, Filter(query))
        return self._number(f"SELECT COUNT(*) FROM ({rows})", *values, LOOKED_AT + 1) > LOOKED_AT  # noqa: S608 - no value is in it

    def _lines(self, rows: list[int], most: int) -> Iterator[tuple[int, bytes]]:
        """Yield the lines of *rows* in their order, until they are too many bytes together."""
        held = 0
        for at in range(0, len(rows), _PAGE):
            some = rows[at : at + _PAGE]
            sql = f"SELECT rowid, CAST(body AS BLOB) FROM events WHERE rowid IN ({','.join('?' * len(some))})"  # noqa: S608 - marks
            bodies = dict(self._file.rows(sql, some, same_file=True))
            for row in some:
                line = bodies.get(row) or b""
                held += len(line)
                if held > most:
                    return
                yield row, line + b"\n"

    def _cursor(self, row: int) -> str:
        """Return a row as a cursor: with its event's ID, because a store that is replaced or packed gives numbers away again."""
        found = self._file.rows("SELECT event_id FROM events WHERE rowid = ?", (row,), same_file=True)
        return cursor(row, (found[0][0] or b"").decode("utf-8", "backslashreplace") if found else "")

    def _number(self, sql: str, *values: Any) -> int:
        return int(self._file.rows(sql, values, same_file=True)[0][0] or 0)

    def _numbers(self, sql: str, values: tuple[Any, ...]) -> list[int]:
        return [row[0] for row in self._file.rows(sql, values, same_file=True)]


def cursor(number: int, text: str) -> str:
    """Return a position, with so much of *text* that another one of the same number is told from it."""
    return f"{number}-{hashlib.blake2b(text.encode('utf-8', 'surrogatepass'), digest_size=4).hexdigest()}"


def value_of(line: bytes) -> list[float]:
    """Return the number that an event has as its value; nothing where it has none, or is no event."""
    try:
        value = decoded(line).get("value")
    except (ValueError, RecursionError, AttributeError):
        return []
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return []
    return [finite(value)]


def _is_named(query: Query, name: bytes | None) -> bool:
    """Return whether a pattern matches an event's name; what is no pattern SQL has asked for."""
    return not is_pattern(query.name) or matches((name or b"").decode("utf-8", "backslashreplace"), query.name)


def _bounded(query: Query, found: Filter) -> tuple[str, list[Any]]:
    """Return the statement for the newest events of that time, its name's where it is one, and its values but for the limit."""
    is_name = bool(query.name) and not is_pattern(query.name)
    by_name = "event_name = ? AND" if is_name else ""
    sql = (
        "SELECT rowid AS row, event_us, event_time, event_type, event_name FROM events"  # noqa: S608 - no value is in it
        f" WHERE {by_name} event_us BETWEEN ? AND ? ORDER BY event_us DESC, rowid DESC LIMIT ?"
    )
    return sql, [*([query.name] if is_name else []), found.low, found.high]
