"""What one writer has stored and the counts (counted.py) do not have yet: counted as it passes, it is not read again.

It holds only for an unbroken row of events, from the mark on, that nobody else has touched. Whoever else writes shows in
`PRAGMA data_version`; then these counts are thrown away, and the events are read.
"""

from __future__ import annotations

import sqlite3
from collections import Counter, defaultdict
from operator import itemgetter
from typing import Final

from rillevents.event import METRIC
from rillevents.store import counted
from rillevents.store.counted import MARK, MINUTE, PLUS, SLICE
from rillevents.store.insertion import Inserted, data_version
from rillevents.store.transaction import Transaction

_KIND: Final = itemgetter(3, 4)
# Counts of more events are thrown away: they wait for older ones, which take their time.
_MOST: Final = 16 * SLICE


class Uncounted:
    """The counts of the newest events of one connection; use it in one thread only."""

    def __init__(self) -> None:
        self._low = self._high = 0
        self._version = -1
        self._counts: Counter[tuple[str, str, int]] = Counter()
        self._values: counted.Values = defaultdict(list)

    def clear(self) -> None:
        """Forget all: some of these events were deleted, or the connection is another one."""
        self.__init__()  # type: ignore[misc]

    def add(self, inserted: Inserted) -> None:
        """Add events once they are committed."""
        rows, last, version = inserted
        if not rows:
            return
        if self._high != last - len(rows) or self._version != version or last - self._low > _MOST:
            self.clear()
            self._low, self._version = last - len(rows), version
        self._high = last
        times = [row[2] for row in rows]
        first = min(times) // MINUTE
        if first == max(times) // MINUTE:
            # Most requests have events of one minute: so few keys are made at once.
            self._counts.update({(*kind, first): n for kind, n in Counter(map(_KIND, rows)).items()})
        else:
            self._counts.update([(kind, name, us // MINUTE) for _, _, us, kind, name, _, _, _ in rows])
        for us, name, body in [(row[2], row[4], row[7]) for row in rows if row[3] == METRIC]:
            self._values[name, us // MINUTE].append(counted.value_of(body.encode()))

    def mend(self, connection: sqlite3.Connection) -> None:
        """Bring a slice of the events into the tables of counts, in a short transaction."""
        # Unlike events, counts may be lost with the power, as long as their mark is: it waits for no disk.
        connection.execute("PRAGMA synchronous=NORMAL")
        try:
            with Transaction(connection):
                mark = connection.execute(f"SELECT {MARK}").fetchone()[0]
                is_whole = self._version == data_version(connection)
                if is_whole and mark == self._low < self._high:
                    self._enter(connection)
                elif is_whole and mark is not None and mark < self._low and counted.count_slice(connection, self._low):
                    return  # The older ones first.
                else:
                    counted.count_slice(connection)
                self.clear()
        finally:
            connection.execute("PRAGMA synchronous=FULL")

    def _enter(self, connection: sqlite3.Connection) -> None:
        # In the order of the tables, which is quicker.
        connection.executemany(
            f"INSERT INTO counted VALUES (?,?,?,?) {PLUS}",  # noqa: S608 - marks alone
            sorted((*key, n) for key, n in self._counts.items()),
        )
        counted.insert_values(connection, self._values)
        counted.move_mark(connection, self._high)
