"""Which database a journal belongs to: what was stored stays, also where a store is moved, replaced, deleted or restored.

Theory of operation. SQLite finds a journal by its name alone: it replays `events.db-wal` into whatever file is called
`events.db`, deletes it if there is none, and merges it into nothing if the file was renamed. So a writer keeps a second name of
the file that it has open, the hard link `events.db-held`. These rules hold for every process that writes:

1. `-held`, `-wal` and `-shm` belong to one another. They are made and removed only by the process that has the folder's lock.
2. A commit counts only if the path still names the file that is open, and `-wal` still names the journal that is open. Otherwise
   the events are stored again, in the file that is there now.
3. A writer that finds its file moved first writes the journal into it (a checkpoint), then removes the three names. If another
   process still reads the old state, it waits: nothing is acknowledged, and nothing is removed.
4. A file with no name but `-held` was deleted, overwritten, or copied to another file system. Nothing can be written into it, so
   its journal is set aside as `events.db.journal-…`.
5. Before it opens a file, a writer applies 3 and 4 to what a killed one left. It opens the old file by its name `-held`, alone
   (an exclusive lock), and writes the journal into it only if the result is whole. The moved file has its events, wherever it is.
6. A folder that was copied without its hard links has two equal files; the journal fits both, and stays where it is. So it does
   where a killed writer's file was replaced by a copy that is equal, byte for byte.
7. A clean end removes `-held` together with the journal.

The link keeps the inode from being used again, so equal inodes mean the same file. On a file system without hard links a writer
still notices moves while it runs; rule 5 then has nothing to go by, except for a journal without any file.
"""

from __future__ import annotations

import contextlib
import filecmp
import os
import sqlite3
import time
from collections.abc import Callable

from rillevents.local.files import discard, make_folder, sync_folder
from rillevents.store.incoming import Unavailable
from rillevents.store.schema import HELD, alone_in, damaged, identity_of, open_to_write, stat_of

Warn = Callable[[str], None]

# How long a start waits for a server that still has a moved file open; that one looks every second.
_TRIES, _PAUSE = 50, 0.1
# How long a store is examined when it is opened: about a gigabyte from memory, less from a disk.
CHECK_SECONDS = 2.0
_WAL_HEADER = 32


class OpenStore:
    """The store at *path*, open for writing, whatever its name is by now; raises as `open_to_write` does, and Unavailable."""

    def __init__(self, path: str, warn: Warn) -> None:
        self._path = path
        self._folder = os.path.dirname(path)
        make_folder(self._folder)
        for left in reversed(range(_TRIES)):
            try:
                with alone_in(self._folder):
                    _settle_all(path, warn)
                    self._open(warn)
                return
            except _InUse:
                if not left:
                    raise Unavailable(f"{path} was moved, and another process still has it open") from None
            time.sleep(_PAUSE)

    def _open(self, warn: Warn) -> None:
        before = identity_of(self._path)
        self.connection = open_to_write(self._path, warn)
        # The file may have been created only now, or already be another one, which `is_named` notices.
        self._database = before or identity_of(self._path)
        self._journal = identity_of(f"{self._path}-wal")
        self._index = identity_of(f"{self._path}-shm")
        with contextlib.suppress(OSError, NotImplementedError):
            os.link(self._path, f"{self._path}{HELD}", follow_symlinks=False)

    def is_named(self) -> bool:
        """Return whether the path and its journal's path still name what is open."""
        return self._is(self._database, "") and self._is(self._journal, "-wal")

    def _is(self, identity: tuple[int, int] | None, suffix: str) -> bool:
        return identity is not None and identity == identity_of(f"{self._path}{suffix}")

    def leave(self) -> str:
        """Close a file that the path no longer names, and return what became of it; raises Unavailable if that has to wait."""
        with alone_in(self._folder):
            told = f"{self._path} was deleted or moved" if self._is_settled() else self._settle()
        self.connection.close()
        return told

    def _is_settled(self) -> bool:
        """Return whether another process has done all this already; what was written since was not acknowledged."""
        is_held = self._is(self._database, HELD) and not os.path.lexists(f"{self._path}-wal")
        return not self._is(self._journal, "-wal") and not is_held

    def _settle(self) -> str:
        is_deleted = self._is(self._database, HELD) and _links(f"{self._path}{HELD}") == 1
        is_stored = not is_deleted and self._checkpoint()
        is_named = self._is(self._database, "")
        aside = _drop(self._path) if is_stored else _set_aside(self._path)
        if is_named:
            return f"the journal of {self._path} was deleted or moved; all events are in the file"
        return _told(self._path, aside, is_deleted=is_deleted)

    def _checkpoint(self) -> bool:
        """Write the whole journal into the database; return False if the database is damaged."""
        try:
            # FULL, not TRUNCATE: it leaves the journal as it is, and waits only for those that read an old state.
            busy, frames, written = self.connection.execute("PRAGMA wal_checkpoint(FULL)").fetchone()
        except sqlite3.Error as error:
            if damaged(error):
                return False
            raise Unavailable(f"{self._path} was moved, and its journal cannot be written into it: {error}") from None
        if busy or frames != written:
            raise Unavailable(f"{self._path} was moved while another process reads it; waiting for that process")
        return True

    def close(self) -> str:
        """Close the file, its journal merged into it; return what is to be told, if anything."""
        if not self.is_named():
            return self._last_leave()
        with alone_in(self._folder):
            self.connection.close()
            # If the journal is still there, another process has the file open.
            if self._is(self._database, HELD) and not os.path.lexists(f"{self._path}-wal"):
                discard(f"{self._path}{HELD}")
        return ""

    def _last_leave(self) -> str:
        try:
            return self.leave()
        except (Unavailable, OSError, sqlite3.Error) as error:
            self.connection.close()
            return f"{error}; its newest events are still in {self._path}-wal, and the next server at {self._path} moves them"


class _InUse(Exception):
    """A server has not noticed yet that its file was moved."""


def check_whole(connection: sqlite3.Connection, *, seconds: float = CHECK_SECONDS) -> None:
    """Raise sqlite3.DatabaseError if a database is damaged, as far as that shows within that time."""
    end = time.monotonic() + seconds
    connection.set_progress_handler(lambda: time.monotonic() > end, 10_000)
    try:
        [found] = connection.execute("PRAGMA quick_check(1)").fetchone()
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode != sqlite3.SQLITE_INTERRUPT:
            raise
        return
    finally:
        connection.set_progress_handler(None, 0)
    if found != "ok":
        damage = sqlite3.DatabaseError(found.replace("\n", " "))
        damage.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
        raise damage


def belongs(path: str) -> bool:
    """Return whether the journal at *path* belongs to the file there, as far as anything says; nothing is opened for writing."""
    held = identity_of(f"{path}{HELD}")
    return held is None or held == identity_of(path) or _are_equal(path)


def former_name(path: str) -> str:
    """Return the path at which a writer had this file open, if it was renamed within its folder since; else ""."""
    identity = identity_of(path)
    if identity is None or _links(path) < 2 or identity == identity_of(f"{path}{HELD}"):
        return ""
    folder = os.path.dirname(path)
    names = (os.path.join(folder, name) for name in os.listdir(folder) if name.endswith(HELD))
    return next((name.removesuffix(HELD) for name in names if identity_of(name) == identity), "")


def has_frames(path: str) -> bool:
    """Return whether the journal at *path* holds anything."""
    return _size(f"{path}-wal") > _WAL_HEADER


def _settle_all(path: str, warn: Warn) -> None:
    """Bring what killed writers left at *path* where it belongs, and what they left at this file's former name."""
    former = former_name(path)
    for each in (former, path) if former else (path,):
        told = _settle(each)
        if told:
            warn(told)


def _settle(path: str) -> str:
    held = identity_of(f"{path}{HELD}")
    if belongs(path):
        if held and held != identity_of(path):
            discard(f"{path}{HELD}")
        # SQLite deletes the journal of a file that is missing or empty.
        return "" if _size(path) or not has_frames(path) else _told(path, _set_aside(path))
    if not has_frames(path):
        return _drop(path)
    is_deleted = _links(f"{path}{HELD}") == 1
    is_stored = not is_deleted and _finish(path)
    aside = _drop(path) if is_stored else _set_aside(path)
    return _told(path, aside, is_deleted=is_deleted)


def _finish(path: str) -> bool:
    """Write a killed writer's journal into its moved file; return False, with nothing changed, if they do not fit together."""
    held = f"{path}{HELD}"
    discard(f"{held}-wal")
    os.link(f"{path}-wal", f"{held}-wal", follow_symlinks=False)
    connection = sqlite3.connect(held, timeout=0, isolation_level=None)
    try:
        # Alone: another process with the file open has the same journal under another name.
        connection.execute("PRAGMA locking_mode=EXCLUSIVE")
        check_whole(connection)
        busy, frames, written = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        return not busy and frames == written
    except sqlite3.Error as error:
        if damaged(error):
            # SQLite writes the journal at close, unless the file was renamed meanwhile.
            discard(held)
            return False
        if error.sqlite_errorcode & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            raise _InUse from None
        raise
    finally:
        connection.close()
        discard(f"{held}-wal")


def _drop(path: str) -> str:
    """Remove the three names that belong to one another, the journal first: without the others it is nobody's."""
    for suffix in ("-wal", "-shm", HELD):
        discard(f"{path}{suffix}")
    with contextlib.suppress(OSError):
        sync_folder(os.path.dirname(path))
    return ""


def _set_aside(path: str) -> str:
    """Keep the journal under another name, and return that; "" if it holds nothing."""
    aside = f"{path}.journal-{time.time_ns()}" if has_frames(path) else ""
    if aside:
        os.rename(f"{path}-wal", aside)
    _drop(path)
    return aside


def _told(path: str, aside: str, *, is_deleted: bool = True) -> str:
    """Return what people are told about a file that has left this path, and about its journal."""
    if not is_deleted:
        kept = (
            f"its journal no longer fits it, and is kept as {aside}"
            if aside
            else "all its events are in the moved file"
        )
        return f"{path} was moved; {kept}"
    what = f"{path} was deleted, replaced, or moved to another file system"
    if not aside:
        return what
    return (
        f"{what}; its journal, with its newest events, is kept as {aside}: if you moved the file, rename the journal to the"
        " file's new name plus -wal before anything opens the file; otherwise delete it"
    )


def _links(path: str) -> int:
    found = stat_of(path)
    return found.st_nlink if found else 0


def _size(path: str) -> int:
    found = stat_of(path)
    return found.st_size if found else 0


def _are_equal(path: str) -> bool:
    try:
        return filecmp.cmp(path, f"{path}{HELD}", shallow=False)
    except OSError:
        return False
