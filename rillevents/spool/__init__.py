"""The spool: events as NDJSON files that many short-lived processes write at once and one flusher empties.

Rules that every change here is held to:

1. Who writes to a file holds its lock, and has made sure after locking that the path still names that file.
2. Only the flusher renames or unlinks. It renames slots without their lock (a writer that holds it sees the change after its
   write and is still read), and unlinks a file only under that file's lock, after reading it once more.
3. A line is acknowledged to the caller after one whole write. A short write is undone; a torn tail is closed with a newline
   by the next writer before its own line.
4. Offsets move only after an acknowledgement, together with the ledger, in one atomic replace.
5. No state file is indispensable: without it, events are sent twice, never lost.
6. Nothing is decided by age, and what is not understood (unknown prefixes, other versions) is left alone.

The folder itself, `<spool>/v1`, is here: its names, and whether it may be used at all.

    slots.py    one event and gone           live.py     a long-lived writer      tally.py        counts made by writers
    lines.py    bytes → lines                offsets.py  lines with positions     drain.py        what the flusher does
    state.py    lock, checkpoint, ledger     quarantine.py  rejected/, corrupt/   maintenance.py  retry, purge
    view.py     looking without touching     follow.py   events as they come
"""

from __future__ import annotations

import errno
import os
import stat

from rillevents.errors import SpoolError, SpoolFull, SpoolUnwritable
from rillevents.local.files import make_folder

VERSION = "v1"
SLOTS = 64
SUFFIX = ".ndjson"
SLOT, LIVE, CLAIM, DONE, TALLY, TEMPORARY = "slot-", "live-", "claim-", "done-", "tally-", "tmp-"
READ_PREFIXES = (CLAIM, DONE, LIVE)
STATE, FLUSH_LOCK, BACKLOG = "state.json", "flush.lock", "backlog"
REJECTED, CORRUPT = "rejected", "corrupt"

# The folder is to blame, and another one may do better; all other errors are the disk's.
_ELSEWHERE = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP)


class Unusable(SpoolUnwritable):
    """The folder cannot be written to at all: another place may do."""


def unwritable(what: str, error: OSError) -> SpoolUnwritable:
    """Return the error for an OSError that kept something from being stored."""
    kind = Unusable if error.errno in _ELSEWHERE else SpoolUnwritable
    return kind(f"{what}: {error.strerror or error}", errno=error.errno or 0)


def full(path: str, max_bytes: int) -> SpoolFull:
    """Return the error for a spool that holds as many bytes as it may."""
    return SpoolFull(f"the spool {path} is full ({max_bytes} bytes)", hint="run: rillevents flush")


def check(spool: str) -> str:
    """Return the folder that holds the events of *spool* where it is there and safe to use, else "".

    Raises SpoolError where it is a link, somebody else's, or open to others: what is written there would be theirs.
    """
    folder = f"{spool}/{VERSION}"
    try:
        for path, is_ours in ((spool, _outer_is_safe), (folder, _is_private)):
            found = os.lstat(path)
            if not stat.S_ISDIR(found.st_mode):
                raise SpoolError(f"{path} is no folder (links are not followed)", hint="set RILLEVENTS_SPOOL_DIR")
            me = os.geteuid() if hasattr(os, "geteuid") else -1
            if me >= 0 and (not is_ours(found, me) or _is_planted(path, found, me)):
                raise Unusable(
                    f"{path} belongs to or is open to other users, and was not used", hint=f"run: chmod 700 {path}"
                )
    except (FileNotFoundError, NotADirectoryError):
        return ""
    except OSError as error:
        raise unwritable(f"the spool {spool} cannot be used", error) from None
    return folder


def _outer_is_safe(found: os.stat_result, me: int) -> bool:
    """Whether nobody else can take away the folder within: a shared place is one where that needs its owner (sticky)."""
    open_to_all = found.st_mode & stat.S_IWOTH and not found.st_mode & stat.S_ISVTX
    return me == 0 or (found.st_uid in (0, me) and not open_to_all)


def _is_private(found: os.stat_result, me: int) -> bool:
    return me in (0, found.st_uid) and not found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


def _is_planted(path: str, found: os.stat_result, me: int) -> bool:
    """Whether root finds somebody else's folder where anybody may have put one, such as below /var/tmp.

    In a folder that belongs to a user it may be that user's, and root goes along with it: who says `sudo` keeps their home.
    """
    return me == 0 != found.st_uid and bool(os.stat(os.path.dirname(path)).st_mode & stat.S_IWOTH)


def create(spool: str) -> str:
    """Return the folder that holds the events of *spool*, made where it is missing; raises SpoolError."""
    folder = check(spool)
    if not folder:
        try:
            make_folder(f"{spool}/{VERSION}")
        except OSError as error:
            raise unwritable(f"the spool {spool} cannot be made", error) from None
        folder = check(spool)
    return folder


def listed(folder: str) -> list[str]:
    """Return the names in a folder, none where it is gone; raises OSError."""
    try:
        return os.listdir(folder)
    except (FileNotFoundError, NotADirectoryError):
        return []


def sending_order(name: str) -> tuple[str, int, str]:
    """Return a key that sorts files as a flush sends them: claims by their time, then slots (claims to be), then the rest."""
    if name.startswith(SLOT):
        number = name[len(SLOT) : -len(SUFFIX)]
        return (CLAIM + "~", int(number) if number.isdigit() else SLOTS, name)
    return (name, 0, name)


def slot_sizes(folder: str) -> list[tuple[str, int]]:
    """Return the slots of a folder in their order, each with its size; raises OSError."""
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


def held_bytes(folder: str) -> int:
    """Return how many bytes of events the folder holds, by looking at every file in it."""
    total = 0
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith((SLOT, *READ_PREFIXES)):
                try:
                    total += entry.stat(follow_symlinks=False).st_size
                except FileNotFoundError:
                    continue
    return total
