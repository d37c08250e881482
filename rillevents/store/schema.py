"""The tables of a store, and how its file is created, opened and, if damaged, put aside."""

from __future__ import annotations

import os
import sqlite3
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from rillevents.errors import StoreError
from rillevents.local.files import (
    CLOEXEC,
    NO_FOLLOW,
    NONBLOCK,
    discard,
    give_to_owner_of,
    make_folder,
    sync_folder,
    wait_for_lock,
)
from rillevents.store import counted

VERSION: Final = 1
# `body` is the event's line as received, without its newline. `event_us` exists because, as text, 10:00:00Z sorts after
# 10:00:00.5Z.
SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS events(
    event_id TEXT PRIMARY KEY, event_time TEXT, event_us INTEGER, event_type TEXT, event_name TEXT,
    stream TEXT, received_us INTEGER, body TEXT);
CREATE INDEX IF NOT EXISTS events_us ON events(event_us);
CREATE INDEX IF NOT EXISTS events_name_us ON events(event_name, event_us);
CREATE TABLE IF NOT EXISTS rejected(received_us INTEGER, stream TEXT, reason TEXT, event_id TEXT, body TEXT);
CREATE TABLE IF NOT EXISTS counts(name TEXT PRIMARY KEY, n INTEGER NOT NULL) WITHOUT ROWID;
"""
# The files that SQLite keeps beside a database while it is open.
BESIDE: Final = ("-wal", "-shm", "-journal")
# A second name of the file that a writer has open: journal.py.
HELD: Final = "-held"
_MAGIC: Final = b"SQLite format 3\0"
# Suffixes of files meant to be databases: such a file without an SQLite header is a damaged database.
_SUFFIXES: Final = (".db", ".sqlite", ".sqlite3")
_COLUMNS: Final = ["event_id", "event_time", "event_us", "event_type", "event_name", "stream", "received_us", "body"]
_BUSY_SECONDS = 2.0
_DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def open_to_write(path: str, warn: Callable[[str], None] = lambda message: None) -> sqlite3.Connection:
    """Return a connection to the store at *path*, created if missing: WAL mode, and a commit is on the disk when it returns.

    Raises StoreError if the file is a link, not a regular file, another user's, another program's, or of an unknown version;
    and sqlite3.Error if the disk or the database fails. Use it in one thread at a time.
    """
    _make_private_file(path)
    for suffix in ("", *BESIDE):
        _tighten(f"{path}{suffix}", warn)
    # Not tied to this thread: one thread checks at startup that the store is usable, another one writes later.
    connection = sqlite3.connect(
        path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False, cached_statements=256
    )
    try:
        connection.execute("PRAGMA trusted_schema=OFF")
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        _check_is_ours(connection, path, version)
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("PRAGMA cache_size=-16384")
        # Eight times SQLite's default (32 MiB): a checkpoint costs two syncs, however often a page changed.
        connection.execute("PRAGMA wal_autocheckpoint=8000")
        if version == 0:
            connection.executescript(f"BEGIN IMMEDIATE;{SCHEMA}PRAGMA user_version={VERSION};COMMIT;")
        counted.prepare(connection)
        # SQLite creates the journal at the first read.
        connection.execute("SELECT 1 FROM events LIMIT 1").fetchall()
    except BaseException:
        connection.close()
        raise
    return connection


def check_is_no_other_file(path: str) -> None:
    """Raise StoreError for a file that never was a database: a slip in --store must not move somebody's notes away.

    Call it only before this process opens the database: closing a descriptor drops the locks SQLite holds through another one.
    """
    try:
        fd = os.open(path, os.O_RDONLY | NO_FOLLOW | CLOEXEC | NONBLOCK)
    except OSError:
        return  # Opening it for writing reports the error.
    try:
        begins = os.read(fd, len(_MAGIC)) if stat.S_ISREG(os.fstat(fd).st_mode) else b""
    finally:
        os.close(fd)
    if begins and begins != _MAGIC and not path.endswith(_SUFFIXES):
        raise StoreError(f"{path} is not a store of events; it was not changed", hint="give another file with --store")


def _check_is_ours(connection: sqlite3.Connection, path: str, version: int) -> None:
    """Raise StoreError for another program's database, and for a store of another version."""
    tables = connection.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()[0]
    columns = [row[1] for row in connection.execute("PRAGMA table_info(events)")]
    if tables and (version == 0 or (version == VERSION and columns != _COLUMNS)):
        raise StoreError(
            f"{path} is another program's database; it was not changed", hint="give another file with --store"
        )
    if version not in (0, VERSION):
        raise unknown_version(path, version)


def unknown_version(path: str, version: int) -> StoreError:
    """Return the error for a store of a version that this release does not know; the store is not changed."""
    return StoreError(
        f"{path} is a store of version {version}, this rillevents uses version {VERSION}; it was not changed",
        hint="give another file with --store, or update rillevents",
    )


def _make_private_file(path: str) -> None:
    """Create the file with mode 0600 before SQLite creates it with the umask's mode; raises StoreError, OSError."""
    folder = os.path.dirname(path)
    make_folder(folder)
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | NO_FOLLOW | CLOEXEC, 0o600)
    except FileExistsError:
        found = os.lstat(path)
        if not stat.S_ISREG(found.st_mode):
            raise StoreError(
                f"{path} is not a regular file (links are not followed)", hint="give a regular file"
            ) from None
        if hasattr(os, "geteuid") and os.geteuid() not in (0, found.st_uid):
            raise StoreError(f"{path} belongs to another user and was not used", hint="give another file") from None
        return
    try:
        if hasattr(os, "fchmod"):
            os.fchmod(fd, 0o600)
        give_to_owner_of(folder, fd)
    finally:
        os.close(fd)
    # SQLite syncs the folder entries of its journals, but not that of the database itself.
    sync_folder(folder)


def _tighten(path: str, warn: Callable[[str], None]) -> None:
    """Close a file of ours to others: a restored store has the umask's mode, and SQLite gives the same to its journals."""
    found = stat_of(path)
    if found is None or not stat.S_ISREG(found.st_mode) or not found.st_mode & 0o077 or not hasattr(os, "geteuid"):
        return
    what = f"{path} was readable by others (mode {stat.S_IMODE(found.st_mode):04o})"
    if os.geteuid() != found.st_uid:
        warn(f"{what} and belongs to another user, so it stays as it is; to close it, run: chmod 600 {path}")
        return
    try:
        _make_private(path)
    except OSError as error:
        warn(f"{what} and cannot be closed to them: {error.strerror or error}")
    else:
        warn(f"{what}; it is now readable by its owner only (0600)")


def _make_private(path: str) -> None:
    fd = os.open(path, os.O_RDONLY | NO_FOLLOW | CLOEXEC | NONBLOCK)
    try:
        os.fchmod(fd, 0o600)
    finally:
        os.close(fd)


def damaged(error: sqlite3.Error) -> bool:
    """Return whether SQLite says that the file is damaged, or none of its own."""
    return (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF in _DAMAGED


def stat_of(path: str) -> os.stat_result | None:
    """Return what the file system says about *path*, None if there is nothing; links are not followed."""
    try:
        return os.lstat(path)
    except OSError:
        return None


def identity_of(path: str) -> tuple[int, int] | None:
    """Return what identifies the file at *path* among all others that may stand there, None if there is none."""
    found = stat_of(path)
    return (found.st_dev, found.st_ino) if found else None


def put_aside(path: str, identity: tuple[int, int] | None) -> str:
    """Move a damaged store and SQLite's files beside it out of the way, and return its new name.

    Returns "" if another file stands at *path* by now; that one stays. Two processes take turns. Raises OSError.
    """
    with alone_in(os.path.dirname(path)):
        return _put_aside(path) if identity and identity == identity_of(path) else ""


@contextmanager
def alone_in(folder: str) -> Iterator[None]:
    """Let one process at a time change which files stand at a path; without locks, or without the folder, nobody waits."""
    try:
        # Lock the folder, not the file: closing a descriptor of the file drops SQLite's locks on it.
        fd = os.open(folder, os.O_RDONLY | getattr(os, "O_DIRECTORY", 0) | CLOEXEC)
    except OSError:
        yield
        return
    try:
        wait_for_lock(fd)
        yield
    finally:
        os.close(fd)


def _put_aside(path: str) -> str:
    aside = f"{path}.corrupt-{time.time_ns()}"
    for suffix in BESIDE:
        try:
            os.rename(f"{path}{suffix}", f"{aside}{suffix}")
        except FileNotFoundError:
            continue
    # The database last: without its journal it cannot be repaired, and its journal beside a new store would damage that.
    os.rename(path, aside)
    discard(f"{path}{HELD}")
    return aside
