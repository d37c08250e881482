"""The spool's folder, `<spool>/v1`: its names, and whether it may be used at all."""

from __future__ import annotations

import errno
import os
import stat

from rillevents.errors import SpoolError, SpoolFull, SpoolUnwritable
from rillevents.files import make_folder

VERSION = "v1"
SLOTS = 64
SUFFIX = ".ndjson"
SLOT, LIVE, CLAIM, DONE, TALLY, TEMPORARY = "slot-", "live-", "claim-", "done-", "tally-", "tmp-"
READ_PREFIXES = (CLAIM, DONE, LIVE)
STATE, FLUSH_LOCK, BACKLOG = "state.json", "flush.lock", "backlog"
REJECTED, CORRUPT = "rejected", "corrupt"

# The folder is to blame, and another one may do better; all other errors are the disk's.
_ELSEWHERE = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT, errno.ENOTDIR)


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
        outer, inner = os.lstat(spool), os.lstat(folder)
    except (FileNotFoundError, NotADirectoryError):
        return ""
    except OSError as error:
        raise unwritable(f"the spool {spool} cannot be used", error) from None
    for path, found in ((spool, outer), (folder, inner)):
        if not stat.S_ISDIR(found.st_mode):
            raise SpoolError(f"{path} is no folder (links are not followed)", hint="set RILLEVENTS_SPOOL_DIR")
    if hasattr(os, "geteuid") and os.geteuid() not in (0, outer.st_uid) and outer.st_uid != 0:
        raise Unusable(f"{spool} belongs to another user, and was not used", hint="set RILLEVENTS_SPOOL_DIR")
    _check_owner(folder, inner)
    return folder


def _check_owner(folder: str, found: os.stat_result) -> None:
    if not hasattr(os, "geteuid"):  # pragma: no cover - Windows
        return
    me = os.geteuid()
    if me not in (0, found.st_uid) or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise Unusable(
            f"{folder} belongs to or is open to other users, and was not used", hint=f"run: chmod 700 {folder}"
        )


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


def sending_order(name: str) -> tuple[str, int, str]:
    """Return a key that sorts files as a flush sends them: claims by their time, then slots (claims to be), then the rest."""
    if name.startswith(SLOT):
        number = name[len(SLOT) : -len(SUFFIX)]
        return (CLAIM + "~", int(number) if number.isdigit() else SLOTS, name)
    return (name, 0, name)


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
