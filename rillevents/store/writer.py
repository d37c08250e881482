"""Events into a store: one transaction for all waiting requests, on the disk once it is committed.

Theory of operation. How requests are inserted is in insertion.py. The path is checked after each commit: a file that was
deleted or moved still takes commits, and nobody finds them. What then becomes of the file and its journal is in journal.py.
"""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from itertools import takewhile
from typing import TypeVar
from urllib.parse import quote

from rillevents.errors import StoreError
from rillevents.store import counted
from rillevents.store.counted import SLICE
from rillevents.store.incoming import Incoming, Stored, Unavailable
from rillevents.store.insertion import count, insert
from rillevents.store.journal import OpenStore, check_whole
from rillevents.store.schema import check_is_no_other_file, damaged, identity_of, put_aside
from rillevents.store.transaction import Transaction
from rillevents.store.uncounted import Uncounted

T = TypeVar("T")

MAX_REJECTED = 2000
TIDY_SECONDS = 10.0
# How soon a server that receives nothing notices that its file was moved.
LOOK_SECONDS = 1.0
# After so long without an event the journal is written into the file.
IDLE_SECONDS = 30.0
# Rows deleted at a time, since requests wait meanwhile.
_SLICE = 2000
_ATTEMPTS = 4


class StoreWriter:
    """Writes to the store at *path*, one call at a time.

    Events received more than *keep_us* microseconds ago are deleted and counted. A damaged file is put aside, reported through
    *warn*, and a new one is started. Raises StoreError or Unavailable if the file cannot be used from the start.
    """

    def __init__(
        self,
        path: str,
        *,
        keep_us: int = 0,
        warn: Callable[[str], None] = lambda message: None,
        now_ns: Callable[[], int] = time.time_ns,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.path = path
        self.put_aside = 0
        self.removed = 0
        self._keep_us = keep_us
        self._warn = warn
        self._now_ns = now_ns
        self._clock = clock
        self._tidied = -TIDY_SECONDS
        self._looked = -LOOK_SECONDS
        self._file: OpenStore | None = None
        self._identity: tuple[int, int] | None = None
        self._began = False
        self._unchecked = True
        # About how many events are not counted: as it was asked last, and those stored since.
        self._behind = 0
        self._uncounted = Uncounted()
        self._written: float | None = None
        check_is_no_other_file(path)
        try:
            self._attempt(lambda connection: connection.execute("SELECT 1 FROM events LIMIT 1"))
        except Unavailable as error:
            raise StoreError(error.message, hint="give another file with --store") from None
        self._began = True

    def store(self, incoming: Sequence[Incoming]) -> list[Stored]:
        """Commit the events, the invalid lines and the counts of these requests; if it raises Unavailable, nothing is kept."""
        done, inserted = self._attempt(lambda connection: insert(connection, incoming))
        self._written = self._clock()
        self._behind += sum(len(arrived.lines) for arrived in incoming)
        self._uncounted.add(inserted)
        return done

    def tidy(self) -> bool:
        """Count a slice of events, delete old ones and rejected lines beyond MAX_REJECTED; return whether there is more.

        Deletes every ten seconds, or at once while there is more. This is also how soon damage to the file is noticed.
        """
        self._look_for_moves()
        is_due = self._clock() - self._tidied >= TIDY_SECONDS
        # A few events can wait: counting them costs a commit, and asking how many there are costs the threads a change of turns.
        if is_due or self._unchecked or self._behind >= SLICE:
            self._attempt(partial(self._count, 1 if is_due else SLICE))
        is_more = self._behind >= SLICE
        self._checkpoint_if_idle()
        if not is_due:
            return is_more
        self._look_from_outside()
        now = self._now_ns() // 1000
        before = now - self._keep_us if self._keep_us else 0
        removed = self._attempt(lambda connection: _remove(connection, before, now))
        self.removed += removed["removed"]
        if removed["removed"]:
            self._uncounted.clear()
        if removed.total():
            self._written = self._clock()
        is_more |= any(n >= _SLICE for n in removed.values())
        self._tidied = -TIDY_SECONDS if is_more else self._clock()
        return is_more

    def _count(self, least: int, connection: sqlite3.Connection) -> None:
        """Count a slice of the events if at least so many are not counted."""
        later = counted.later(connection)
        if self._unchecked or later is None:
            counted.check(connection)
            self._unchecked = False
            later = counted.later(connection)
        self._behind = later or 0
        if self._behind >= least:
            self._uncounted.mend(connection)
            self._written = self._clock()
            self._behind = counted.later(connection) or 0

    def _checkpoint_if_idle(self) -> None:
        """Write the journal into the file while nothing comes, so that a copy of the file alone is whole."""
        if self._written is None or not self._file or self._clock() - self._written < IDLE_SECONDS:
            return
        # PASSIVE waits for nobody; a reader of an old state may keep it from the end, so it is tried again.
        _, frames, done = self._attempt(
            lambda connection: connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        )
        if frames == done:
            self._written = None

    def close(self) -> None:
        """Close the file; SQLite merges its journal into it."""
        file, self._file = self._file, None
        told = file.close() if file else ""
        if told:
            self._warn(told)

    def _attempt(self, work: Callable[[sqlite3.Connection], T]) -> T:
        for _ in range(_ATTEMPTS):
            try:
                done = work(self._open())
            except sqlite3.Error as error:
                self._recover(error)
            except OSError as error:
                raise Unavailable(f"{self.path} cannot be opened: {error.strerror or error}") from None
            except StoreError as error:
                # The error is not ours and not current: another process has put something else in the file's place.
                self.close()
                if not self._began:
                    raise
                raise Unavailable(error.message) from None
            else:
                if self._file and self._file.is_named():
                    return done
                self._leave()
        raise Unavailable(f"{self.path} cannot be used: it keeps being replaced or damaged")

    def _leave(self) -> None:
        """Go on with the file that the path names now; raises Unavailable."""
        if self._file:
            try:
                what = self._file.leave()
            except OSError as error:
                raise Unavailable(
                    f"the journal of {self.path} cannot be set aside: {error.strerror or error}"
                ) from None
            self._file = None
            there = "the file that is there now" if identity_of(self.path) else "a new one"
            self._warn(f"{what}; continuing with {there}")

    def _look_for_moves(self) -> None:
        if self._clock() - self._looked >= LOOK_SECONDS:
            self._looked = self._clock()
            if not (self._file and self._file.is_named()):
                self._attempt(lambda connection: None)

    def _look_from_outside(self) -> None:
        """Check through a second connection: ours caches pages, and does not notice damage to those in the file."""
        if not (self._file and self._file.is_named()):
            return  # The next `store` notices that and starts a new file.
        try:
            # Open for reading: a missing file would otherwise be created, with the umask's mode.
            where = f"file:{quote(self.path)}?mode=ro"
            with contextlib.closing(sqlite3.connect(where, uri=True, isolation_level=None)) as other:
                other.execute("PRAGMA trusted_schema=OFF")
                other.execute("SELECT body FROM events ORDER BY rowid DESC LIMIT 1").fetchone()
        except sqlite3.Error as error:
            if damaged(error):
                self._recover(error)

    def _open(self) -> sqlite3.Connection:
        if self._file is None:
            # Before opening: if that fails, we must know which file it was.
            self._identity = identity_of(self.path)
            self._file = OpenStore(self.path, self._warn)
            self._identity = self._identity or identity_of(self.path)
            # A file that was put here, or not closed, may be damaged: find that out before anything is stored in it.
            check_whole(self._file.connection)
            self._unchecked = True
            self._uncounted.clear()
        return self._file.connection

    def _recover(self, error: sqlite3.Error) -> None:
        """Put a damaged file aside; raise Unavailable for any other error, and open a new connection next time."""
        try:
            self.close()
        except sqlite3.Error:
            # A file that cannot even be closed is dropped: its journal is still there for the next process that opens it.
            pass
        if not damaged(error):
            raise Unavailable(f"{self.path} cannot be written: {error}") from None
        try:
            # Move only the damaged file: another server may have started a new one by now, or somebody may have restored a
            # copy.
            aside = put_aside(self.path, self._identity)
        except OSError as problem:
            raise Unavailable(f"{self.path} is damaged and cannot be moved: {problem.strerror or problem}") from None
        if not aside:
            return
        self.put_aside += 1
        self._warn(f"{self.path} is damaged ({error}); it is kept as {aside}, and a new one was started")


def _remove(connection: sqlite3.Connection, before_us: int, now_us: int) -> Counter[str]:
    """Delete events received before that time (0: none), and the oldest rejected lines beyond their cap; count both."""
    removed: Counter[str] = Counter()
    with Transaction(connection):
        if before_us:
            removed["removed"] = _remove_old(connection, before_us, now_us)
        beyond = "SELECT rowid FROM rejected ORDER BY rowid DESC LIMIT ? OFFSET ?"
        oldest = f"DELETE FROM rejected WHERE rowid IN ({beyond})"  # noqa: S608 - our own text
        removed["rejected_removed"] = connection.execute(oldest, (_SLICE, MAX_REJECTED)).rowcount
        count(connection, removed)
    return removed


def _remove_old(connection: sqlite3.Connection, before_us: int, now_us: int) -> int:
    """Delete the oldest events, at most one slice, up to the first that must be kept."""
    # By row number, which follows the order of arrival: no index has the time of arrival.
    rows = connection.execute("SELECT rowid, received_us FROM events ORDER BY rowid LIMIT ?", (_SLICE,)).fetchall()
    ahead = [(now_us, rowid) for rowid, received_us in rows if received_us > now_us]
    # Events from a clock that was ahead age from now on; otherwise nothing behind them would ever be deleted.
    connection.executemany("UPDATE events SET received_us = ? WHERE rowid = ?", ahead)
    old = list(takewhile(lambda row: row[1] < before_us, rows))
    return connection.execute("DELETE FROM events WHERE rowid <= ?", (old[-1][0],)).rowcount if old else 0
