"""A person's SQL on a store or on the spool: read-only, bounded in time, memory and disk, one statement.

What guards it: an authorizer that allows SELECT, READ, RECURSIVE and functions except load_extension; a file opened with
`mode=ro` and `trusted_schema=OFF`; limits for the length of a value and for SQLite's heap; a folder of its own for temporary
files, with a limit for their size. `mode=ro` and `query_only` alone are not enough: ATTACH creates files, and a pragma can be
taken back. The limit of the heap is SQLite's for the whole process, and stays.
"""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import stat
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from threading import Thread
from typing import IO, Any, Final
from urllib.parse import quote

from rillevents.errors import Busy, RilleventsError, StoreError, UsageError
from rillevents.event.envelope import required_fields
from rillevents.event.ndjson import finite
from rillevents.event.query import Query
from rillevents.store.readonly import ReadOnlyFile, refused
from rillevents.store.source import SpoolSource, StoreSource, microseconds_of
from rillevents.store.statement import prepared

SECONDS: Final = 300.0
# One value, such as a text that is put together.
MAX_LENGTH: Final = 16 << 20
HEAP_BYTES: Final = 64 << 20
TEMPORARY_BYTES: Final = 1 << 30
SPOOL_BYTES: Final = 256 << 20
_LOOK_SECONDS = 0.05
_END_SECONDS = 1.0
# These functions load code.
_FORBIDDEN = ("load_extension", "fts3_tokenizer")
_ALLOWED = (sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_RECURSIVE)
_TABLE = (
    "CREATE TABLE events(event_id TEXT, event_time TEXT, event_us INTEGER, event_type TEXT, event_name TEXT, body TEXT)"
)
_INSERT = "INSERT INTO events VALUES (?,?,?,?,?,?)"
_ROWS = 1000
# Where SQLite puts temporary files.
_FOLDER = "SQLITE_TMPDIR"


@dataclass(frozen=True, slots=True)
class Answer:
    """The rows that a statement found; they are in a temporary file, and can be read once."""

    columns: list[str]
    rows: Iterator[list[Any]]


@dataclass(slots=True)
class Limits:
    """How much a statement may take: seconds, bytes of SQLite's heap, of temporary files, and of a spool that is loaded."""

    seconds: float = SECONDS
    heap: int = HEAP_BYTES
    temporary: int = TEMPORARY_BYTES
    spool: int = SPOOL_BYTES


def query(
    source: SpoolSource | StoreSource,
    sql: str,
    *,
    limits: Limits | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Answer:
    """Run one SELECT on the events of *source* and return its rows.

    The table is `events`, with the columns of statement.COLUMNS and every attribute by its name. Raises UsageError for any other
    statement, Busy if it takes too long, StoreError if it needs too much memory or disk, and what the source raises.
    """
    limits = limits or Limits()
    # A sort of all events must fit: SQLite sorts with their bodies.
    with suppress(OSError):
        limits = replace(limits, temporary=max(limits.temporary, 2 * os.stat(source.path).st_size))
    with _own_folder() as folder:
        work = _Work(source, sql, folder, limits)
        thread = Thread(target=work.run, name="rillevents-query", daemon=True)
        deadline = clock() + limits.seconds
        thread.start()
        try:
            while thread.is_alive():
                thread.join(_LOOK_SECONDS)
                if clock() > deadline:
                    told = f"the statement was stopped after {limits.seconds:g} s; nothing was changed"
                    work.stopped = Busy(told, hint="give more with --timeout, or ask for less")
                elif _temporary_bytes(folder) > limits.temporary:
                    work.stopped = _too_much("disk")
                if work.stopped:
                    break
        except BaseException as error:
            # Ctrl-C: end the statement before its files are removed.
            work.stopped = error
            work.end(thread)
            raise
        work.end(thread)
        return work.answer()


@contextmanager
def _own_folder() -> Iterator[str]:
    """Let SQLite write its temporary files into a folder of ours, which is removed afterwards."""
    folder = tempfile.mkdtemp(prefix="rillevents-query-")
    before = {name: os.environ[name] for name in [_FOLDER] if name in os.environ}
    os.environ[_FOLDER] = folder
    try:
        yield folder
    finally:
        del os.environ[_FOLDER]
        os.environ.update(before)
        shutil.rmtree(folder, ignore_errors=True)


class _Work:
    """Runs a statement on a thread of its own: signals reach the main thread meanwhile, and a callback would lose them."""

    def __init__(self, source: SpoolSource | StoreSource, sql: str, folder: str, limits: Limits) -> None:
        self.stopped: BaseException | None = None
        self._source = source
        self._sql = sql
        self._folder = folder
        self._limits = limits
        self._connection: sqlite3.Connection | None = None
        self._answer: Answer | None = None
        self._error: BaseException | None = None

    def run(self) -> None:
        """Run the statement to its end."""
        try:
            with self._opened() as self._connection:
                _guard(self._connection, self._limits)
                self._answer = self._rows(prepared(self._sql, self._complaint))
        except sqlite3.Error as error:
            self._error = _error_of(error, self._source.name)
        except MemoryError:
            self._error = _too_much("memory")
        except BaseException as error:  # noqa: BLE001 - raised again in the thread that waits
            self._error = error
        finally:
            self._connection = None

    def end(self, thread: Thread) -> None:
        """Interrupt what SQLite does, again and again since it may be between two statements, for a moment.

        A thread that is in one long function of SQLite's, such as printf, is left behind; it ends with the process.
        """
        ends = time.monotonic() + _END_SECONDS
        while thread.is_alive() and time.monotonic() < ends:
            # Closed just now: the thread is about to end.
            with suppress(sqlite3.ProgrammingError):
                if self._connection:
                    self._connection.interrupt()
            thread.join(_LOOK_SECONDS)

    def answer(self) -> Answer:
        """Return the rows, or raise why there are none."""
        if self._answer and not self.stopped:
            return self._answer
        raise self.stopped or self._error or _too_much("memory")

    @contextmanager
    def _opened(self) -> Iterator[sqlite3.Connection]:
        if isinstance(self._source, StoreSource):
            file = ReadOnlyFile(self._source.path)
            try:
                yield file.connection()
            finally:
                file.close()
            return
        path = f"{self._folder}/spool.db"
        self._load(self._source, path)
        connection = sqlite3.connect(f"file:{quote(path)}?mode=ro", uri=True, isolation_level=None)
        try:
            yield connection
        finally:
            connection.close()

    def _load(self, source: SpoolSource, path: str) -> None:
        """Copy the spool into a database; raises StoreError if it is too large for that."""
        size = 0
        rows: list[tuple[Any, ...]] = []
        connection = sqlite3.connect(path, isolation_level=None)
        try:
            connection.executescript(f"PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF; {_TABLE}")
            for line in source.lines(Query()):
                size += len(line)
                if size > self._limits.spool or self.stopped:
                    raise StoreError(
                        f"the spool has more than {self._limits.spool >> 20} MiB of events, too much to load; it was not changed",
                        hint="keep events in a store (rillevents serve), or read rillevents spool export by another program",
                    )
                found = required_fields(line)
                us = microseconds_of(found.event_time)
                rows.append(
                    (found.event_id, found.event_time, us, found.event_type, found.event_name, line[:-1].decode())
                )
                if len(rows) >= _ROWS:
                    connection.executemany(_INSERT, rows)
                    rows.clear()
            connection.executemany(_INSERT, rows)
        finally:
            connection.close()

    def _complaint(self, statement: str) -> str:
        """Prepare a statement and return the message if a column is missing, or "" if it can run."""
        assert self._connection  # noqa: S101 - it is open
        try:
            self._connection.execute(f"EXPLAIN {statement}").close()
        except sqlite3.OperationalError as error:
            if str(error).startswith("no such column: "):
                return str(error)
            raise
        return ""

    def _rows(self, statement: str) -> Answer:
        assert self._connection  # noqa: S101 - it is open
        held = tempfile.SpooledTemporaryFile(8 << 20)  # noqa: SIM115 - its rows are read later
        try:
            cursor = self._connection.execute(statement)
            for row in cursor:
                held.write(json.dumps([_plain(value) for value in row], ensure_ascii=False).encode() + b"\n")
                if self.stopped or held.tell() > self._limits.temporary:
                    raise _too_much("disk")
        except BaseException:
            held.close()
            raise
        held.seek(0)
        return Answer([column[0] for column in cursor.description or ()], _read(held))


def _guard(connection: sqlite3.Connection, limits: Limits) -> None:
    """Let a connection only read, within its limits."""
    connection.text_factory = lambda data: data.decode("utf-8", "backslashreplace")
    for pragma in ("trusted_schema=OFF", "query_only=ON", "temp_store=FILE", "mmap_size=0"):
        connection.execute(f"PRAGMA {pragma}")
    connection.execute(f"PRAGMA hard_heap_limit={limits.heap}")
    for limit, most in (
        (sqlite3.SQLITE_LIMIT_LENGTH, MAX_LENGTH),
        (sqlite3.SQLITE_LIMIT_ATTACHED, 0),
        (sqlite3.SQLITE_LIMIT_TRIGGER_DEPTH, 0),
        (sqlite3.SQLITE_LIMIT_LIKE_PATTERN_LENGTH, 1000),
    ):
        connection.setlimit(limit, most)
    # Before it is forbidden: what connects a table that is a function makes that table.
    for function in ("json_each", "json_tree"):
        connection.execute(f"SELECT 1 FROM {function}('[]')")  # noqa: S608 - our own text
    # Last: it forbids the pragmas above, too.
    connection.set_authorizer(_authorized)


def _error_of(error: sqlite3.Error, name: str) -> RilleventsError:
    """Return our error for one of SQLite's."""
    code = (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF
    if isinstance(error, sqlite3.DataError) or code in (sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_TOOBIG):
        return _too_much("memory")
    if code in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR):
        return _too_much("disk")
    if code in (sqlite3.SQLITE_AUTH, sqlite3.SQLITE_READONLY):
        return UsageError(f"a query only reads: {error}", hint="see rillevents help query")
    if code in (sqlite3.SQLITE_ERROR, 0):
        return UsageError(f"SQLite says: {error}", hint="see rillevents help query")
    return refused(name, error)


def _too_much(what: str) -> StoreError:
    return StoreError(
        f"the statement needs too much {what}; nothing was changed", hint="filter by time or name, or return less"
    )


def _authorized(action: int, first: str | None, second: str | None, database: str | None, source: str | None) -> int:
    if action in _ALLOWED or (action == sqlite3.SQLITE_FUNCTION and (second or "").lower() not in _FORBIDDEN):
        return sqlite3.SQLITE_OK
    return sqlite3.SQLITE_DENY


def _temporary_bytes(folder: str) -> int:
    """Return the size of SQLite's temporary files: they have no name any more, only a descriptor."""
    device, total = os.stat(folder).st_dev, 0
    for fd in range(3, 64):
        with suppress(OSError):
            found = os.fstat(fd)
            if stat.S_ISREG(found.st_mode) and found.st_nlink == 0 and found.st_dev == device:
                total += found.st_size
    return total


def _plain(value: Any) -> Any:
    """Return a value of SQLite as one of JSON: bytes become X'…', an infinity the largest number."""
    if isinstance(value, bytes):
        return f"X'{value.hex().upper()}'"
    return finite(value) if isinstance(value, float) else value


def _read(held: IO[bytes]) -> Iterator[list[Any]]:
    with held:
        for line in held:
            yield json.loads(line)


def names_of(columns: Sequence[str]) -> list[str]:
    """Return the names of columns as keys of an object, each once."""
    found: list[str] = []
    for column in columns:
        number, name = 1, column
        while name in found:
            number += 1
            name = f"{column}_{number}"
        found.append(name)
    return found
