"""A whole copy of a store, while a server writes it or not."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from rillevents.errors import StoreError, UsageError
from rillevents.local.files import CLOEXEC, NO_FOLLOW, discard, sync_folder
from rillevents.store.readonly import ReadOnlyFile, refused
from rillevents.store.schema import BESIDE

# Copied at a time, about 8 MiB; between two steps Ctrl-C is heard.
_PAGES = 2000


@dataclass(frozen=True, slots=True)
class Backup:
    """A copy that was made: of which store, where it is, its events and bytes."""

    store: str
    file: str
    events: int
    bytes: int


def backup(store: str, file: str, *, on_progress: Callable[[int, int], None] | None = None) -> Backup:
    """Copy the store at *store* to *file*, which must not exist, and return what was copied; the copy is on the disk.

    The copy is one state of the store, including what is only in its journal; the server goes on meanwhile. *on_progress*
    gets the pages done and all pages. Raises UsageError if the file exists, StoreError, Busy.
    """
    target = os.path.abspath(file)
    if os.path.lexists(target):
        raise UsageError(f"{file} exists, and was not changed", hint="give a name that is free, or delete it first")
    partial = f"{target}.partial-{os.getpid()}"
    source = ReadOnlyFile(store)
    try:
        connection = source.connection()
        os.close(os.open(partial, os.O_RDWR | os.O_CREAT | os.O_EXCL | NO_FOLLOW | CLOEXEC, 0o600))
        events = _copy(connection, partial, on_progress)
        size = os.stat(partial).st_size
        _name(partial, target)
        sync_folder(os.path.dirname(target))
    except sqlite3.Error as error:
        raise refused(source.path, error) from None
    except FileExistsError:
        raise UsageError(f"{file} exists, and was not changed", hint="give a name that is free") from None
    except OSError as error:
        raise StoreError(f"{file} cannot be written: {error.strerror or error}; the store is unchanged") from None
    finally:
        source.close()
        for suffix in ("", *BESIDE):
            with suppress(OSError):
                discard(f"{partial}{suffix}")
    return Backup(source.path, target, events, size)


def _name(partial: str, target: str) -> None:
    """Give the copy its name; raises FileExistsError if somebody made such a file meanwhile."""
    try:
        os.link(partial, target)
    except FileExistsError:
        raise
    except (OSError, NotImplementedError):
        # A file system without hard links.
        if os.path.lexists(target):
            raise FileExistsError(target) from None
        os.rename(partial, target)


def _copy(source: sqlite3.Connection, path: str, on_progress: Callable[[int, int], None] | None) -> int:
    target = sqlite3.connect(path, isolation_level=None)
    try:
        # One state from the first page to the last: without this, each commit of the server would start the copy again.
        source.execute("BEGIN")
        events = int(source.execute("SELECT COUNT(*) FROM events").fetchone()[0])
        source.backup(
            target,
            pages=_PAGES,
            progress=lambda status, left, total: on_progress(total - left, total) if on_progress else None,
        )
        # A copy needs no journal beside it to be read.
        target.execute("PRAGMA journal_mode=DELETE")
    finally:
        target.close()
    fd = os.open(path, os.O_RDWR | NO_FOLLOW | CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
    return events
