"""The tables of a store, and how its file is made, opened and, where it is damaged, put aside."""

from __future__ import annotations

import os
import sqlite3
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from rillevents.errors import StoreError
from rillevents.local.files import (
    CLOEXEC,
    NO_FOLLOW,
    NONBLOCK,
    give_to_owner_of,
    make_folder,
    sync_folder,
    wait_for_lock,
)

VERSION: Final = 1
# `body` is the event's line as it arrived, without its newline. `event_us` beside `event_time`: because as text, 10:00:00Z sorts
# after 10:00:00.5Z.
SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS events(
    event_id TEXT PRIMARY KEY, event_time TEXT, event_us INTEGER, event_type TEXT, event_name TEXT,
    stream TEXT, received_us INTEGER, body TEXT);
CREATE INDEX IF NOT EXISTS events_us ON events(event_us);
CREATE INDEX IF NOT EXISTS events_name_us ON events(event_name, event_us);
CREATE TABLE IF NOT EXISTS rejected(received_us INTEGER, stream TEXT, reason TEXT, event_id TEXT, body TEXT);
CREATE TABLE IF NOT EXISTS counts(name TEXT PRIMARY KEY, n INTEGER NOT NULL) WITHOUT ROWID;
"""
# What SQLite puts beside a file while it is open.
BESIDE: Final = ("-wal", "-shm", "-journal")
_MAGIC: Final = b"SQLite format 3\0"
# So a file is called that is meant to be a database: where it is none any more, it is a damaged one.
_SUFFIXES: Final = (".db", ".sqlite", ".sqlite3")
_COLUMNS: Final = ["event_id", "event_time", "event_us", "event_type", "event_name", "stream", "received_us", "body"]
_BUSY_SECONDS = 2.0


def open_to_write(path: str) -> sqlite3.Connection:
    """Return a connection to the store at *path*, made where it is missing: WAL, and on the disk once a commit returns.

    Raises StoreError where the file is a link, no file, somebody else's, another program's, or of a version that is not known,
    and sqlite3.Error where the disk or the database refuses. For one thread at a time.
    """
    _make_private_file(path)
    # Not tied to this thread: because who opens it to see whether it can be used is not who writes to it afterwards.
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
        # Eight times SQLite's own (32 MiB): because folding the journal in costs two syncs, however often a page changed.
        connection.execute("PRAGMA wal_autocheckpoint=8000")
        if version == 0:
            connection.executescript(f"BEGIN IMMEDIATE;{SCHEMA}PRAGMA user_version={VERSION};COMMIT;")
    except BaseException:
        connection.close()
        raise
    return connection


def check_is_no_other_file(path: str) -> None:
    """Raise StoreError for a file that never was a database: a slip in --store must not move somebody's notes away.

    Only before this process opens it: because closing a descriptor gives away the locks that SQLite has by another.
    """
    try:
        fd = os.open(path, os.O_RDONLY | NO_FOLLOW | CLOEXEC | NONBLOCK)
    except OSError:
        return  # Whoever opens it to write hears of that.
    try:
        begins = os.read(fd, len(_MAGIC)) if stat.S_ISREG(os.fstat(fd).st_mode) else b""
    finally:
        os.close(fd)
    if begins and begins != _MAGIC and not path.endswith(_SUFFIXES):
        raise StoreError(f"{path} is no store of events, and was left alone", hint="name another file with --store")


def _check_is_ours(connection: sqlite3.Connection, path: str, version: int) -> None:
    """Raise StoreError for another program's database, and for a store of another version."""
    tables = connection.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()[0]
    columns = [row[1] for row in connection.execute("PRAGMA table_info(events)")]
    if tables and (version == 0 or (version == VERSION and columns != _COLUMNS)):
        raise StoreError(
            f"{path} is another program's database, and was left alone", hint="name another file with --store"
        )
    if version not in (0, VERSION):
        raise unknown_version(path, version)


def unknown_version(path: str, version: int) -> StoreError:
    """Return the error for a store that another version of this tool made; it is left alone."""
    return StoreError(
        f"{path} is a store of version {version}, and this is rillevents with stores of version {VERSION}; it was left alone",
        hint="name another file with --store, or update rillevents",
    )


def _make_private_file(path: str) -> None:
    """Make the file 0600 before SQLite does with whatever mode the umask gives; raises StoreError, OSError."""
    folder = os.path.dirname(path)
    make_folder(folder)
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | NO_FOLLOW | CLOEXEC, 0o600)
    except FileExistsError:
        found = os.lstat(path)
        if not stat.S_ISREG(found.st_mode):
            raise StoreError(f"{path} is no regular file (links are not followed)", hint="name a file") from None
        if hasattr(os, "geteuid") and os.geteuid() not in (0, found.st_uid):
            raise StoreError(f"{path} belongs to another user, and was not used", hint="name another file") from None
        return
    try:
        if hasattr(os, "fchmod"):
            os.fchmod(fd, 0o600)
        give_to_owner_of(folder, fd)
    finally:
        os.close(fd)
    # SQLite syncs the names of its journals, not that of the file itself.
    sync_folder(folder)


def identity_of(path: str) -> tuple[int, int] | None:
    """Return what tells the file at *path* from any other that may stand there, None where there is none."""
    try:
        found = os.lstat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def put_aside(path: str, identity: tuple[int, int] | None) -> str:
    """Move a damaged store, and what SQLite keeps beside it, out of the way, and return its new name.

    "" where another file is at *path* by now, which stays. Two at once take turns. Raises OSError.
    """
    with _alone_in(os.path.dirname(path)):
        return _put_aside(path) if identity and identity == identity_of(path) else ""


@contextmanager
def _alone_in(folder: str) -> Iterator[None]:
    # The folder, not the file: because who closes a descriptor of the file gives SQLite's locks on it away.
    fd = os.open(folder, os.O_RDONLY | getattr(os, "O_DIRECTORY", 0) | CLOEXEC)
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
    # Last: because a store without its journal could not be mended, and a journal beside a new store would damage that.
    os.rename(path, aside)
    return aside
