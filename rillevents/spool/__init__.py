"""The spool: events as NDJSON files that many short-lived processes write at once and one flusher empties.

Every change here must keep these rules:

1. A writer holds the file's lock, and checks after locking that the path still names that file.
2. Only the flusher renames or unlinks. It renames slots without their lock (a writer that holds it notices after its write,
   and its line is still read), and unlinks a file only under that file's lock, after reading it once more. A purge unlinks
   without the lock: a writer that finds its file gone after a write writes that line again, elsewhere.
3. A line is acknowledged to the caller after one whole write. A short write is undone; the next writer closes a torn tail
   with a newline before it adds its own line.
4. Offsets move only after an acknowledgement, together with the ledger, in one atomic replace.
5. No state file is indispensable: without it, events are sent twice, never lost.
6. Age decides nothing, and what is unknown (file prefixes, other versions) is not touched.
7. A shell cannot lock a file and keep it from its children. So each of its processes has slots of a name that never recurs and
   that nobody else makes (`slot-sh-…`). Its line counts once the name is still there after the write: a flusher that renames the
   file from then on reads that line. So the flusher renames even an empty one, and never unlinks it under that name.

This file handles the folder itself, `<spool>/v1`: its names, and whether it is safe to use.

        slots.py    one event per process        live.py     a long-lived writer      tally.py        counts made by writers
        lines.py    bytes → lines                offsets.py  lines with positions     drain.py        what the flusher does
        state.py    lock, checkpoint, ledger     quarantine.py  rejected/, corrupt/   maintenance.py  retry, purge
        rest.py     a batch that was acknowledged in part
        view.py     reading without writing      follow.py   events as they arrive
"""

from __future__ import annotations

import errno
import os
import stat

from rillevents.errors import SpoolError, SpoolFull, SpoolUnwritable
from rillevents.local.files import CLOEXEC, NO_FOLLOW, make_folder

VERSION = "v1"
SLOTS = 64
# How often a writer starts again if its file is renamed or deleted meanwhile. A flush does that once. Only if something deletes
# files without end is the bound reached, and then a program must not hang.
TRIES = 16
SUFFIX = ".ndjson"
SLOT, LIVE, CLAIM, DONE, TALLY, TEMPORARY = "slot-", "live-", "claim-", "done-", "tally-", "tmp-"
# Of one process of a shell, which cannot lock: see rule 7.
SHELL_SLOT = f"{SLOT}sh-"
# Not read as long as it has this name: rest.py makes a DONE file of it.
REST = "rest-"
READ_PREFIXES = (CLAIM, DONE, LIVE)
# What somebody else has put into the folder; nobody reads it.
STRANGER = "stranger-"
STATE, FLUSH_LOCK, BACKLOG = "state.json", "flush.lock", "backlog"
# When a flush that nobody asked for began last: delivery/turns.py.
AUTO = "auto.json"
LONGEST_BACKOFF = 600.0
REJECTED, CORRUPT = "rejected", "corrupt"

# Errors of this folder, where another folder may work; all other errors come from the disk.
_ELSEWHERE = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP)


class Unusable(SpoolUnwritable):
    """The folder cannot be written to at all; another place may work."""


def unwritable(what: str, error: OSError) -> SpoolUnwritable:
    """Return the error for an OSError that prevented something from being stored."""
    kind = Unusable if error.errno in _ELSEWHERE else SpoolUnwritable
    return kind(f"{what}: {error.strerror or error}", errno=error.errno or 0)


def vanishing(folder: str) -> SpoolUnwritable:
    """Return the error for a folder whose files are deleted as fast as they are written."""
    return SpoolUnwritable(
        f"the event was not stored: something deletes the files in {folder} as soon as they are there"
    )


def full(path: str, max_bytes: int) -> SpoolFull:
    """Return the error for a spool that has reached its size limit."""
    return SpoolFull(f"the spool {path} is full ({max_bytes} bytes)", hint="run: rillevents flush")


def check(spool: str) -> str:
    """Return the folder with the events of *spool* if it exists and is safe to use, else "".

    Raises SpoolError if it is a link, another user's, or open to others: they could read what is written there.
    """
    folder = f"{spool}/{VERSION}"
    try:
        for path, is_ours in ((spool, _outer_is_safe), (folder, _is_private)):
            found = os.lstat(path)
            if not stat.S_ISDIR(found.st_mode):
                raise SpoolError(f"{path} is not a folder (links are not followed)", hint="set RILLEVENTS_SPOOL_DIR")
            me = os.geteuid() if hasattr(os, "geteuid") else -1
            if me == found.st_uid and found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
                found = _tightened(path, found)
            if me >= 0 and (not is_ours(found, me) or _is_planted(path, found, me)):
                raise Unusable(
                    f"{path} belongs to or is open to other users and was not used", hint=f"run: chmod 700 {path}"
                )
    except (FileNotFoundError, NotADirectoryError):
        return ""
    except OSError as error:
        raise unwritable(f"the spool {spool} cannot be used", error) from None
    return folder


def _tightened(path: str, found: os.stat_result) -> os.stat_result:
    """Take a folder of ours back from a group, or from everybody, and return its status; raises OSError.

    Kubernetes opens a volume to its group at each start of a pod. What others may have put there while it was open to
    everybody is renamed, so that nobody reads it as ours: links, files of others, and files with a second name elsewhere.
    """
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | NO_FOLLOW | CLOEXEC)
    try:
        if (os.fstat(fd).st_dev, os.fstat(fd).st_ino) == (found.st_dev, found.st_ino):
            os.fchmod(fd, 0o700)
        tight = os.fstat(fd)
    finally:
        os.close(fd)
    if found.st_mode & stat.S_IWOTH:
        _set_strangers_aside(path, tight.st_uid)
    return tight


def _set_strangers_aside(folder: str, me: int) -> None:
    for name in os.listdir(folder):
        found = os.lstat(f"{folder}/{name}")
        plain = stat.S_ISREG(found.st_mode) and found.st_nlink == 1
        if found.st_uid != me or not (plain or stat.S_ISDIR(found.st_mode)):
            os.rename(f"{folder}/{name}", f"{folder}/{STRANGER}{name}")


def _outer_is_safe(found: os.stat_result, me: int) -> bool:
    """Whether no other user can remove the folder within: a shared place is safe if only owners may remove (sticky)."""
    open_to_all = found.st_mode & stat.S_IWOTH and not found.st_mode & stat.S_ISVTX
    return me == 0 or (found.st_uid in (0, me) and not open_to_all)


def _is_private(found: os.stat_result, me: int) -> bool:
    return me in (0, found.st_uid) and not found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


def _is_planted(path: str, found: os.stat_result, me: int) -> bool:
    """Whether root finds another user's folder in a place where anybody may have put it, such as below /var/tmp.

    In a user's own folder it may well be theirs, and root uses it: `sudo` keeps the user's home.
    """
    return me == 0 != found.st_uid and bool(os.stat(os.path.dirname(path)).st_mode & stat.S_IWOTH)


def create(spool: str) -> str:
    """Return the folder with the events of *spool*, created if missing; raises SpoolError."""
    folder = check(spool)
    if not folder:
        try:
            make_folder(f"{spool}/{VERSION}")
        except OSError as error:
            raise unwritable(f"the spool {spool} cannot be created", error) from None
        folder = check(spool)
    return folder


def listed(folder: str) -> list[str]:
    """Return the names in a folder, none if it is gone; raises OSError."""
    try:
        return os.listdir(folder)
    except (FileNotFoundError, NotADirectoryError):
        return []


def sending_order(name: str) -> tuple[str, int, str]:
    """Return a sort key for the order in which a flush sends files: claims by time, then slots (future claims), then others."""
    if name.startswith(SLOT):
        number = name[len(SLOT) : -len(SUFFIX)]
        return (CLAIM + "~", int(number) if number.isdigit() else SLOTS, name)
    return (name, 0, name)


def slot_sizes(folder: str) -> list[tuple[str, int]]:
    """Return the slots of a folder in order, each with its size; raises OSError."""
    found = []
    for name in sorted(listed(folder), key=sending_order):
        if name.startswith(SLOT) and name.endswith(SUFFIX):
            try:
                status = os.lstat(f"{folder}/{name}")
            except OSError:
                continue
            if stat.S_ISREG(status.st_mode):
                found.append((name, status.st_size))
    return found


def unique(prefix: str, now_ns: int) -> str:
    """Return a file name that never recurs; the time orders names, the random part makes them unique."""
    return f"{prefix}{max(0, now_ns):020d}-{os.urandom(8).hex()}{SUFFIX}"


def is_auto_due(folder: str, every: float, now: float) -> bool:
    """Return whether the last flush of its own accord began *every* seconds ago (*now*: seconds since 1970), or never.

    Here, not where the rest of it is: `record` asks each time.
    """
    try:
        ago = now - os.lstat(f"{folder}/{AUTO}").st_mtime
    except OSError:
        return True
    # A time further ahead than any back-off: the clock was set back.
    return ago >= every or ago < -max(LONGEST_BACKOFF, every)


def held_bytes(folder: str) -> int:
    """Return how many bytes of events the folder holds; reads the size of every file in it."""
    total = 0
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith((SLOT, *READ_PREFIXES)):
                try:
                    total += entry.stat(follow_symlinks=False).st_size
                except FileNotFoundError:
                    continue
    return total
