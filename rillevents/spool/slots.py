"""Slots: how a process that records once and exits gets its line into the spool.

Theory of operation. A slot is a file that any process may append to while it is unlocked. The writer takes the first free
slot, so it never waits: not for other writers, not for a stopped one, not for the flusher. It locks the data file itself: a
separate lock file that gets deleted lets two writers in, and a file opened before it is locked may have been renamed and
unlinked in between (2,873 of 72,000 events were lost that way in a trial).
"""

from __future__ import annotations

import errno
import os
import stat
import time

from rillevents.errors import SpoolFull
from rillevents.local.files import (
    APPEND,
    CLOEXEC,
    HAS_LOCKS,
    NO_FOLLOW,
    NONBLOCK,
    Moved,
    NoLocks,
    check_named,
    discard,
    lock,
    make_private,
    replace_file,
    sync,
    sync_folder,
    sync_or_undo,
    write_line,
    write_whole,
)
from rillevents.spool import (
    BACKLOG,
    CLAIM,
    DONE,
    SHELL_SLOT,
    SLOT,
    SLOTS,
    SUFFIX,
    TEMPORARY,
    TRIES,
    full,
    held_bytes,
    slot_sizes,
    unique,
    unwritable,
    vanishing,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

# A link, a folder, a socket or another user's file stands in the slot's place.
_TAKEN = (errno.ELOOP, errno.EISDIR, errno.ENXIO, errno.EACCES, errno.EPERM, errno.EMLINK)


def append(folder: str, line: bytes, *, max_bytes: int, durable: bool = False, prefix: str = SLOT) -> None:
    """Store one line in a slot; once this returns it survives a kill of any process.

    With *durable* it also survives a loss of power. Raises SpoolFull, or SpoolUnwritable if nothing was stored.
    """
    try:
        stored = HAS_LOCKS and _append_to_free_slot(folder, line, max_bytes, durable, prefix)
        if not stored:
            write_own_file(
                folder, line, max_bytes=max_bytes, durable=durable, prefix=DONE if prefix == SLOT else prefix
            )
    except OSError as error:
        raise unwritable("the event was not stored", error) from None


def _append_to_free_slot(folder: str, line: bytes, max_bytes: int, durable: bool, prefix: str) -> bool:
    number = moves = 0
    while number < SLOTS and moves < TRIES:
        path = f"{folder}/{prefix}{number}{SUFFIX}"
        try:
            if _append_to(folder, path, line, max_bytes, durable, first=number == 0, shared=prefix == SLOT):
                return True
            number += 1
        except Moved:
            moves += 1
        except NoLocks:
            return False
    return False


def _append_to(
    folder: str, path: str, line: bytes, max_bytes: int, durable: bool, *, first: bool, shared: bool
) -> bool:
    """Append to one slot; False if it is busy or not usable. *shared*: the cap applies to all events together."""
    try:
        fd = os.open(path, APPEND, 0o600)
    except OSError as error:
        if error.errno in _TAKEN:
            return False
        raise
    try:
        if not lock(fd):
            return False
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode):
            return False
        check_named(path, found)
        _check_room(folder if shared else "", found.st_size, len(line), max_bytes, first=first)
        if found.st_size == 0:
            make_private(folder, fd, found)
        write_line(fd, line, found.st_size)
        if durable:
            # Sync the folder even for an existing file: its creator may not have waited for the name to be synced.
            sync_or_undo(fd, folder, found.st_size)
        if os.fstat(fd).st_nlink == 0:
            # The file was deleted meanwhile, and its lines with it: ours goes elsewhere.
            raise Moved
    finally:
        os.close(fd)
    return True


def write_own_file(folder: str, data: bytes, *, max_bytes: int, durable: bool = False, prefix: str = DONE) -> None:
    """Store *data* as a file of its own, complete when its name appears; used without locks, or without a free slot."""
    if backlog(folder) + len(data) > max_bytes:
        raise full(folder, max_bytes)
    # A flush may take it for the remains of a killed process and delete it: use another name.
    if not any(_write_own_file(folder, unique(prefix, time.time_ns()), data, durable) for _ in range(TRIES)):
        raise vanishing(folder)
    if durable:
        sync_folder(folder)
    add_to_backlog(folder, len(data))


def write_named_file(folder: str, name: str, data: bytes) -> None:
    """Store *data* as a file with this name, synced; raises OSError. Only for a flusher, which deletes remains of others."""
    if not _write_own_file(folder, name, data, durable=True):
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
    sync_folder(folder)


def _write_own_file(folder: str, name: str, data: bytes, durable: bool) -> bool:
    """Write one file; False if its temporary name was gone at the end although the folder exists."""
    temporary = f"{folder}/{TEMPORARY}{name}"
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | NO_FOLLOW | CLOEXEC, 0o600)
    try:
        try:
            if hasattr(os, "fchmod"):
                make_private(folder, fd, os.fstat(fd))
            write_whole(fd, data)
            if durable:
                sync(fd)
        finally:
            os.close(fd)
        os.rename(temporary, f"{folder}/{name}")
    except FileNotFoundError:
        if os.path.isdir(folder):
            return False
        raise
    except BaseException:
        discard(temporary)
        raise
    return True


def claim_slots(folder: str, now_ns: Callable[[], int], tell: Callable[[str, OSError], None]) -> None:
    """Rename the slots of one-shot writers, without their lock: a slot whose lock is held is still read to its end.

    Only for a flusher. An empty slot of a shell is renamed as well: its name does not come again, so it would stay for ever.
    What fails is passed to *tell*.
    """
    for name, size in slot_sizes(folder):
        path, is_shells = f"{folder}/{name}", name.startswith(SHELL_SLOT)
        try:
            if is_shells:
                # A shell's files have the mode of its umask. Nobody else can put a link here: the folder is private.
                os.chmod(path, 0o600)
            if size or is_shells:
                os.rename(path, f"{folder}/{unique(CLAIM, now_ns())}")
        except FileNotFoundError:
            continue
        except OSError as error:
            tell(f"{name} could not be claimed", error)


def _check_room(folder: str, held: int, more: int, max_bytes: int, *, first: bool) -> None:
    """Raise SpoolFull if *more* bytes do not fit beside the contents of the slots and what the flusher has left.

    The folder is not listed: a spool that nobody empties must not make `record` slower and slower. The other slots are only
    checked if this one (it *held* that many bytes) makes it likely that the spool is nearly full, or is not the *first*, which
    is the fullest.
    """
    if not folder:
        if held + more > max_bytes:
            raise SpoolFull("the counts of the spool are full", hint="run: rillevents flush")
        return
    behind = backlog(folder)
    if (not first or (held + more) * 2 + behind > max_bytes) and slot_bytes(folder) + more + behind > max_bytes:
        raise full(folder, max_bytes)


def slot_bytes(folder: str) -> int:
    """Return how many bytes the slots hold."""
    total = 0
    for number in range(SLOTS):
        try:
            total += os.lstat(f"{folder}/{SLOT}{number}{SUFFIX}").st_size
        except OSError:
            continue
    return total


def backlog(folder: str) -> int:
    """Return how many bytes of events are outside the slots, as last counted by the flusher plus what writers added since."""
    try:
        fd = os.open(f"{folder}/{BACKLOG}", os.O_RDONLY | NO_FOLLOW | CLOEXEC | NONBLOCK)
    except OSError:
        return 0
    try:
        return int(os.read(fd, 32) or b"0")
    except (ValueError, OSError):
        return 0
    finally:
        os.close(fd)


def add_to_backlog(folder: str, size: int) -> None:
    """Note that a file of *size* bytes has joined those outside the slots.

    Of two simultaneous notes one may be lost, and that is fine: the flusher counts anew, and the cap is not exact to the
    byte.
    """
    _note_backlog(folder, backlog(folder) + size)


def count_backlog(folder: str) -> int:
    """Count the bytes outside the slots anew from the size of every file, note the sum for all writers, and return it."""
    outside = max(0, held_bytes(folder) - slot_bytes(folder))
    _note_backlog(folder, outside)
    return outside


def _note_backlog(folder: str, size: int) -> None:
    try:
        replace_file(f"{folder}/{BACKLOG}", b"%d\n" % size, durable=False)
    except OSError:
        # Not an error: the number is an estimate, and the next count corrects it.
        return
