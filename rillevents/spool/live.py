"""A long-lived writer: a process that keeps a file of its own open and locked, and appends each event with one write.

Theory of operation. Nobody else writes to the file, so a write needs no locking and no look at the end of the file. After
each write the writer checks that the path still names the file, since somebody may have deleted it. The flusher reads the
file while it grows, and cannot unlink it while the lock is held. A forked child uses neither: it closes the descriptor
(without unlocking, since the lock is the parent's, too) and starts a file of its own.
"""

from __future__ import annotations

import errno
import os
import time
from _thread import allocate_lock, get_ident
from weakref import WeakSet

from rillevents.local.files import CLOEXEC, NO_FOLLOW, NoLocks, lock, make_private, sync_or_undo, undo_short_write
from rillevents.spool import LIVE, TRIES, create, full, unique, unwritable, vanishing
from rillevents.spool.slots import add_to_backlog, append, backlog, count_backlog, slot_bytes, write_own_file

MAX_FILE_BYTES = 8 << 20
# After this many bytes of our own, count again what others hold, and note what we hold for them.
_NOTE_EVERY = 4 << 20
_NO_NEW_FILE = (errno.ENOSPC, errno.EDQUOT)


class LiveWriter:
    """Appends lines to the spool, from any thread, in any forked child of this process, and in signal handlers."""

    # Without a file, also where `__init__` fails.
    _fd = -1

    def __init__(self, spool: str, *, max_bytes: int, durable: bool = False) -> None:
        self.spool = spool
        self._max_bytes = max_bytes
        self._note_every = min(_NOTE_EVERY, max_bytes // 64)
        self._durable = durable
        self._mutex = allocate_lock()
        self._inside: set[int] = set()
        self._folder = ""
        self._fd, self._path, self._inode, self._device = -1, "", 0, 0
        self._path_bytes = b""
        self._size = self._noted = self._behind = 0
        _writers.add(self)

    def append(self, line: bytes) -> None:
        """Store one line; once this returns it survives a kill of the process. Raises SpoolError."""
        me = get_ident()
        if me in self._inside:
            # A signal handler that interrupted this very method: the file is in an unknown state, and waiting for the mutex
            # would never end. A slot works.
            append(self._folder or create(self.spool), line, max_bytes=self._max_bytes, durable=self._durable)
            return
        # Set before the mutex is taken: a signal handler may run between the two.
        try:
            self._inside.add(me)
            with self._mutex:
                self._append(line)
        except OSError as error:
            raise unwritable("the event was not stored", error) from None
        finally:
            self._inside.discard(me)

    def close(self) -> None:
        """Close the file; stored lines stay. The next append opens a new file."""
        with self._mutex:
            self._close()

    def __del__(self) -> None:
        # Nobody uses it any more; without this its descriptor would stay.
        if self._fd >= 0:
            try:
                self._close()
            except OSError:
                return

    def _append(self, line: bytes) -> None:
        for _ in range(TRIES):
            if self._fd < 0 or self._size + len(line) > MAX_FILE_BYTES:
                try:
                    self._open()
                except NoLocks:
                    write_own_file(self._folder, line, max_bytes=self._max_bytes, durable=self._durable)
                    return
                except OSError as error:
                    if error.errno not in _NO_NEW_FILE:
                        raise
                    # Perhaps there are no inodes left; an existing slot can still grow.
                    append(self._folder, line, max_bytes=self._max_bytes, durable=self._durable)
                    return
            if self._size - self._noted >= self._note_every or self._behind + self._size + len(line) > self._max_bytes:
                self._check_room(len(line))
            try:
                # write_whole, without a call: every event passes here.
                written = os.write(self._fd, line)
                if written < len(line):
                    undo_short_write(self._fd, written)
                if self._durable:
                    sync_or_undo(self._fd, self._folder if not self._size else "", self._size)
                self._size += len(line)
            except BaseException:
                # After any failure, an interrupt too: if the file is not as expected, the next event starts a new one.
                if os.fstat(self._fd).st_size != self._size:
                    self._close()
                raise
            # Does the path still name our file? Lines in a deleted or moved file are not in the spool.
            try:
                now = os.lstat(self._path_bytes)
                if now.st_ino == self._inode and now.st_dev == self._device:
                    return
            except FileNotFoundError:
                pass
            self._close()
        raise vanishing(self._folder)

    def _check_room(self, more: int) -> None:
        if self._size - self._noted >= self._note_every:
            # So that others see how this file grows, even if this process is killed and never closes it.
            add_to_backlog(self._folder, self._size - self._noted)
            self._noted = self._size
            self._look()
        if self._behind + self._size + more > self._max_bytes:
            self._look()
        if self._behind + self._size + more > self._max_bytes:
            raise full(self._folder, self._max_bytes)

    def _look(self) -> None:
        """Count what all others hold."""
        self._behind = max(0, backlog(self._folder) - self._noted) + slot_bytes(self._folder)

    def _open(self) -> None:
        """Open the new file before closing the old one: the name must never be free for a moment."""
        self._folder = create(self.spool)
        old = self._fd
        for _ in range(TRIES):
            path = f"{self._folder}/{unique(LIVE, time.time_ns())}"
            fd = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_EXCL | NO_FOLLOW | CLOEXEC, 0o600)
            try:
                # A flusher may be quicker: it locks the file, finds it empty and unlinks it. Then use another name.
                if lock(fd):
                    found = os.fstat(fd)
                    if found.st_nlink:
                        make_private(self._folder, fd, found)
                        break
            except BaseException:
                os.close(fd)
                os.unlink(path)
                raise
            os.close(fd)
        else:
            raise vanishing(self._folder)
        self._fd, self._path, self._inode, self._device = fd, path, found.st_ino, found.st_dev
        # As bytes: a text would be encoded again for every event.
        self._path_bytes = os.fsencode(path)
        self._size = self._noted = 0
        if old >= 0:
            os.close(old)
        # Counted here and not with every event: it reads the size of every file, and this happens once in 8 MB.
        self._behind = count_backlog(self._folder) + slot_bytes(self._folder)

    def _close(self) -> None:
        fd, unnoted = self._fd, self._size - self._noted
        # Forget it first: an interrupt in what follows must not leave a closed descriptor in use.
        self._forget()
        if fd >= 0:
            os.close(fd)
        if unnoted > 0:
            add_to_backlog(self._folder, unnoted)

    def _forget(self) -> None:
        self._fd, self._path, self._inode, self._device = -1, "", 0, 0
        self._size = self._noted = self._behind = 0

    def _after_fork(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
        self._mutex = allocate_lock()
        self._inside.clear()
        self._forget()


_writers: WeakSet[LiveWriter] = WeakSet()


def _after_fork() -> None:
    for writer in _writers:
        writer._after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
