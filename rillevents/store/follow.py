"""A growing store: every event once, while old events are deleted and the file itself may be replaced."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

from rillevents.errors import Busy, StoreError
from rillevents.event.query import Query
from rillevents.store.reader import PAGE, Filter, Store
from rillevents.store.readonly import Replaced

_POLL_SECONDS = 0.2
# How many polls a store may be missing or damaged: a server that starts a new one is quicker than that.
_PATIENCE = 50
_REMEMBERED = 1000


def follow(store: Store, query: Query, *, sleep: Callable[[float], None]) -> Iterator[bytes]:
    """Yield the lines of *store* that *query* accepts in order of arrival, and then, forever, new ones.

    If the file is put aside and a new one is started, the rest of the old one comes first. Raises StoreError if there is no
    store, or none any more for ten seconds.
    """
    growing, failures = _Growing(store, Filter(query)), _PATIENCE - 1
    while True:
        try:
            yield from growing.news()
            failures = 0
        except (StoreError, Busy):
            failures += 1
            if failures >= _PATIENCE:
                raise
        sleep(_POLL_SECONDS)


class _Growing:
    """How far a store has been read."""

    def __init__(self, store: Store, found: Filter) -> None:
        self._file = store.file
        self._found = found
        # Remember IDs, not row numbers: a store whose old events are deleted reuses numbers, and a vacuumed one gives all rows
        # new numbers.
        self._ids: deque[bytes | None] = deque(maxlen=_REMEMBERED)
        self._row = 0
        # Read every row, not only the wanted ones, so that the position moves past the others, too.
        wanted = f"{found.condition} AND event_us BETWEEN ? AND ?"
        self._sql = (
            f"SELECT rowid, CAST(event_id AS BLOB), event_us, CASE WHEN {wanted} THEN CAST(body AS BLOB) END"  # noqa: S608 - no value is in it
            " FROM events NOT INDEXED WHERE rowid > ? ORDER BY rowid LIMIT ?"
        )

    def news(self) -> Iterator[bytes]:
        """Yield what has arrived since the last call."""
        try:
            self._row = self._position()
            while rows := self._file.rows(self._sql, self._values(), same_file=True):
                yield from self._taken(rows)
        except Replaced:
            while rows := self._file.last_rows(self._sql, self._values()):
                yield from self._taken(rows)
            self._file.close()
            self._ids.clear()
            self._row = 0

    def _values(self) -> tuple[Any, ...]:
        return (*self._found.values, self._found.low, self._found.high, self._row, PAGE)

    def _taken(self, rows: list[Any]) -> Iterator[bytes]:
        for rowid, event_id, us, body in rows:
            self._row = rowid
            self._ids.append(event_id)
            if self._found.accepts(us, body):
                yield body + b"\n"

    def _position(self) -> int:
        """Return the row of the last event that was read and still exists."""
        while self._ids:
            sql = "SELECT rowid FROM events WHERE event_id = CAST(? AS TEXT)"
            found = self._file.rows(sql, (self._ids[-1],), same_file=True)
            if found:
                return int(found[0][0])
            self._ids.pop()
        newest = self._file.rows("SELECT MAX(rowid) FROM events", same_file=True)[0][0] or 0
        return min(self._row, int(newest))
