"""A store's file, opened for reading: nothing is written or created, and no writer is blocked."""

from __future__ import annotations

import os
import shlex
import sqlite3
import stat
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final
from urllib.parse import quote

from rillevents.errors import Busy, RilleventsError, StoreError
from rillevents.store.journal import belongs, former_name, has_frames
from rillevents.store.schema import VERSION, identity_of, unknown_version

_BUSY_SECONDS = 2.0
_TRIES = 5
_TICK_NS = 100_000_000
_HINT = "give a file that was written by `rillevents serve --store FILE`"
_JOURNALS = ("-wal", "-journal")
_BUSY = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
# Bytes 18 and 19 of a database are 2 if it has a write-ahead journal.
_HEAD = 20
_WAL_FORMAT = b"\x02\x02"
_DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)

Values = Sequence[Any] | Mapping[str, Any]
# Which file a path names now, its content as far as the inode shows, and its journal, if a process has it open for writing.
Identity = tuple[int, int, int, int, tuple[int, int] | None]


class Replaced(Exception):
    """The path now names another file; the one that was read is still open."""


class ReadOnlyFile:
    """The store at *path*, which another process may write, replace or remove at any time; use it in one thread only."""

    def __init__(self, path: str) -> None:
        try:
            self.path: Final = os.path.abspath(path)
        except OSError:
            raise StoreError(f"the folder of {path} does not exist", hint=_HINT) from None
        self._connection: sqlite3.Connection | None = None
        self._identity: Identity | None = None
        self._is_fresh = False

    def rows(self, sql: str, values: Values = (), *, same_file: bool = False) -> list[Any]:
        """Return all rows that one statement finds in the file that has the path now; raises StoreError, Busy.

        With *same_file* it raises Replaced if that is not the file that was read last. No statement stays open afterwards: an
        unfinished read keeps the writer from checkpointing its journal, which then grows for as long as, say, somebody's pager
        waits.
        """
        for _ in range(_TRIES):
            connection = self._current(same_file=same_file)
            try:
                found = connection.execute(sql, values).fetchall()
            except sqlite3.Error as error:
                if self._has_moved():
                    continue
                raise refused(self.path, error) from None
            if not self._has_moved():
                return found
        raise Busy(f"{self.path} is being replaced; nothing was lost", hint="try again")

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """Let all reads within see one state of the file, as long as the path names the same one; raises as `rows` does.

        Meanwhile a writer goes on, but cannot empty its journal: so let it be short.
        """
        connection = self._current(same_file=False)
        is_outer = not connection.in_transaction
        if is_outer:
            connection.execute("BEGIN")
        try:
            yield
        finally:
            # A file that was replaced meanwhile has another connection, and this one is closed.
            if is_outer and self._connection is connection and connection.in_transaction:
                connection.execute("ROLLBACK")

    def connection(self) -> sqlite3.Connection:
        """Return a connection to the file that has the path now; texts are bytes, and `close` closes it."""
        return self._current(same_file=False)

    def last_rows(self, sql: str, values: Values = ()) -> list[Any]:
        """Return rows of the file that was read last, even if its path has changed; nothing if it is damaged."""
        try:
            return self._connection.execute(sql, values).fetchall() if self._connection else []
        except sqlite3.Error:
            return []

    def close(self) -> None:
        """Close the file."""
        self._disconnect()
        self._identity = None

    def _disconnect(self) -> None:
        if self._connection:
            self._connection.close()
            self._connection = None

    def _current(self, *, same_file: bool) -> sqlite3.Connection:
        if self._connection and not self._is_fresh and not self._has_moved():
            return self._connection
        found = _identify(self.path)
        if same_file and self._identity and found[:2] != self._identity[:2]:
            raise Replaced
        self._disconnect()
        self._identity = found
        # Reopen while the last change is fresh: a second change within one tick of the file system's clock leaves no trace.
        self._is_fresh = not found[-1] and abs(time.time_ns() - found[3]) < _TICK_NS
        self._connection = _connect(self.path, is_written=bool(found[-1]))
        return self._connection

    def _has_moved(self) -> bool:
        """Return whether the open connection no longer shows the store of that name, or is no longer reliable."""
        try:
            now = _identify(self.path)
        except StoreError:
            return True
        before = self._identity or now
        # Compare contents only while nobody writes: otherwise SQLite itself notices changes.
        return (now[:2], now[-1]) != (before[:2], before[-1]) or (not before[-1] and now != before)


def _identify(path: str) -> Identity:
    """Return the identity of the file at *path*; raises StoreError if it is not a regular file, Busy if its journal is elsewhere.

    Uses lstat and does not open the file: closing any descriptor of it would drop the locks of this process, which may be
    the server that writes the store.
    """
    try:
        found = os.lstat(path)
    except OSError as error:
        if isinstance(error, (FileNotFoundError, NotADirectoryError)):
            raise StoreError(f"there is no store at {path}", hint=_HINT) from None
        raise StoreError(f"{path} cannot be read: {error.strerror or error}", hint=_HINT) from None
    if not stat.S_ISREG(found.st_mode):
        raise StoreError(f"{path} is not a regular file (links are not followed)", hint=_HINT)
    # A journal that a killed server left beside another file must not be read as this one's.
    journal = next(filter(None, (identity_of(f"{path}{suffix}") for suffix in _JOURNALS)), None)
    former = former_name(path) if found.st_nlink > 1 else ""
    if former and has_frames(former):
        raise Busy(
            f"{path} was moved while a server had it open, and its newest events are still in {former}-wal",
            hint=f"try again in a second; if no server is running, start one: rillevents serve --store {shlex.quote(path)}",
        )
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, journal if journal and belongs(path) else None


def _connect(path: str, *, is_written: bool) -> sqlite3.Connection:
    # Open as immutable if there is no journal: SQLite would create one and leave it, in a folder that may not even be
    # ours to write to. After each read we check that this still held.
    mode = "mode=ro" if is_written else "mode=ro&immutable=1"
    connection = None
    try:
        connection = sqlite3.connect(
            f"file://{quote(os.fsencode(path))}?{mode}", uri=True, timeout=_BUSY_SECONDS, isolation_level=None
        )
        # As raw bytes: one text that is not valid UTF-8 must not hide the rest.
        connection.text_factory = bytes
        connection.execute("PRAGMA query_only=ON")
        connection.execute("PRAGMA trusted_schema=OFF")
        version = connection.execute("PRAGMA user_version").fetchone()[0]
    except sqlite3.Error as error:
        if connection:
            connection.close()
        raise refused(path, error) from None
    if version != VERSION:
        connection.close()
        raise unknown_version(path, version) if version else _no_store(path, is_written=is_written)
    return connection


def _no_store(path: str, *, is_written: bool) -> StoreError:
    """Return the error for a database without a version: another program's, or a store without its journal."""
    if not is_written:
        # Nobody has it open for writing, so reading it here drops no locks.
        with open(path, "rb") as file:
            head = file.read(_HEAD)
        if head[18:_HEAD] == _WAL_FORMAT:
            return StoreError(
                f"{path} is empty without its journal {path}-wal, which is missing",
                hint="copy both files, or make a whole copy: rillevents store backup FILE",
            )
    return StoreError(f"{path} is not a store of events", hint=_HINT)


def refused(path: str, error: sqlite3.Error) -> RilleventsError:
    """Return our error for an error that SQLite reports about a store."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code in _BUSY:
        return Busy(f"{path} is locked by another process; nothing was changed", hint="try again")
    if code in _DAMAGED:
        return StoreError(f"{path} is damaged or not an SQLite database ({error}); it was not changed", hint=_HINT)
    return StoreError(f"{path} cannot be read: {error}; it was not changed")
