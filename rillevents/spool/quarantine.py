"""rejected/ (refused for good by the destination) and corrupt/ (damaged lines): kept apart, each with its own cap."""

from __future__ import annotations

import errno
import json
import os
import stat
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from rillevents.event import format_time
from rillevents.event.envelope import is_event
from rillevents.local.files import (
    CLOEXEC,
    NO_FOLLOW,
    NONBLOCK,
    discard,
    make_folder,
    make_private,
    read_at,
    read_file,
    sync,
    sync_folder,
    write_all,
)
from rillevents.spool import CORRUPT, REJECTED, SUFFIX, unique

MAX_REJECTED_BYTES = 64 << 20
MAX_CORRUPT_BYTES = 64 << 20
# A cap deletes whole files, the oldest first, so a single file must not hold everything.
MAX_FILE_BYTES = 4 << 20
_EVENT = b',"event":'
# Files in rejected/ with copies of events that count as delivered: a part of their batch was refused, and not said which.
COPY = "copy-"
_NO_REASON = "the reason is damaged"


class DeadLetter(NamedTuple):
    """An event that the destination refused for good: the reason, the time, and its line as recorded."""

    reason: str
    rejected_at: str
    line: bytes


class RejectedFound(NamedTuple):
    """The contents of a file in rejected/: its entries, and the lines without a whole event."""

    entries: list[DeadLetter]
    damaged: list[bytes]


def own_folder(path: str) -> None:
    """Create rejected/ or corrupt/ if missing, its name synced; raises OSError if something else is there."""
    make_folder(path, on_create=lambda made: sync_folder(os.path.dirname(made)))
    if not stat.S_ISDIR(os.lstat(path).st_mode):
        raise OSError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))


class RejectedFile:
    """The file in rejected/ that one flush writes to, its name with a prefix; created with the first event."""

    def __init__(self, folder: str, prefix: str = "") -> None:
        self._folder = f"{folder}/{REJECTED}"
        self._prefix = prefix
        self._path = ""

    def add(self, rejected: Sequence[tuple[bytes, str]]) -> None:
        """Store *rejected* (line, reason) and sync it, since the spool forgets these events next. Raises OSError."""
        own_folder(self._folder)
        if not self._path:
            self._path = f"{self._folder}/{unique(self._prefix, time.time_ns())}"
        now = format_time(time.time_ns())
        data = b"".join(_entry(line, reason, now) for line, reason in rejected)
        fd = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | NO_FOLLOW | CLOEXEC, 0o600)
        try:
            found = os.fstat(fd)
            size = found.st_size
            make_private(self._folder, fd, found)
            try:
                write_all(fd, data)
                sync(fd, "" if size else self._folder)
                if size + len(data) > MAX_FILE_BYTES:
                    self._path = ""
            except OSError:
                os.ftruncate(fd, size)
                raise
        finally:
            os.close(fd)


def _entry(line: bytes, reason: str, now: str) -> bytes:
    head = json.dumps({"reason": reason, "rejected_at": now}).encode()
    # Copy the event's bytes, without decoding: a retry must send exactly what was recorded.
    return head[:-1] + _EVENT + line.rstrip(b"\n") + b"}\n"


def rejected_names(folder: str) -> list[str]:
    """Return the files in rejected/, oldest first."""
    names = [name for name in _files(f"{folder}/{REJECTED}") if name.endswith(SUFFIX)]
    return sorted(names, key=lambda name: name.removeprefix(COPY))


def read_rejected(folder: str, name: str) -> RejectedFound:
    """Return the contents of one file in rejected/; raises OSError.

    An event is found even if the reason beside it is damaged. A torn last line comes from a killed flush; its event was sent
    again.
    """
    found = RejectedFound([], [])
    for entry in (read_file(f"{folder}/{REJECTED}/{name}", MAX_REJECTED_BYTES * 2) or b"").split(b"\n"):
        head, _, rest = entry.partition(_EVENT)
        # With or without the brace that closes the entry.
        line = next(filter(is_event, (rest[:-1], rest)), b"")
        if line:
            found.entries.append(DeadLetter(*_reason_of(head), line + b"\n"))
        elif entry:
            found.damaged.append(entry)
    return found


def _reason_of(head: bytes) -> tuple[str, str]:
    try:
        told = json.loads(head + b"}")
        return str(told["reason"]), str(told["rejected_at"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return _NO_REASON, ""


def keep_corrupt(folder: str, name: str, fd: int, start: int, end: int) -> None:
    """Copy the bytes of a spool file from *start* to *end* into corrupt/; repeating it makes no second file. Raises OSError."""
    _keep(folder, f"{name}-{start}", pieces(fd, start, end))


def keep_damaged(folder: str, name: str, lines: Sequence[bytes]) -> None:
    """Copy *lines* of a file in rejected/ into corrupt/; raises OSError."""
    _keep(folder, f"{REJECTED}-{name}", (line + b"\n" for line in lines))


def _keep(folder: str, name: str, content: Iterable[bytes]) -> None:
    place = f"{folder}/{CORRUPT}"
    own_folder(place)
    out = os.open(f"{place}/{name}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | NO_FOLLOW | CLOEXEC | NONBLOCK, 0o600)
    try:
        make_private(place, out, os.fstat(out))
        for piece in content:
            write_all(out, piece)
        sync(out, place)
    except OSError:
        discard(f"{place}/{name}")
        raise
    finally:
        os.close(out)


def pieces(fd: int, start: int, end: int) -> Iterator[bytes]:
    """Yield the bytes between two offsets of a file, in parts; raises OSError."""
    while start < end and (piece := read_at(fd, min(1 << 20, end - start), start)):
        yield piece
        start += len(piece)


def corrupt_names(folder: str) -> list[str]:
    """Return the files in corrupt/."""
    return _files(f"{folder}/{CORRUPT}")


def _files(folder: str) -> list[str]:
    """Return the files in one of the two folders; anything else there is not ours, nor is a folder that is a link."""
    if not os.path.lexists(folder) or not stat.S_ISDIR(os.lstat(folder).st_mode):
        return []
    with os.scandir(folder) as entries:
        return sorted(entry.name for entry in entries if entry.is_file(follow_symlinks=False))


def enforce_caps(folder: str) -> dict[str, int]:
    """Delete the oldest files of each folder while it is over its cap; return how many lines were deleted, by reason."""
    lost = {
        "rejected-full": _enforce(f"{folder}/{REJECTED}", rejected_names(folder), MAX_REJECTED_BYTES),
        "corrupt-full": _enforce(f"{folder}/{CORRUPT}", corrupt_names(folder), MAX_CORRUPT_BYTES),
    }
    return {reason: n for reason, n in lost.items() if n}


def _enforce(folder: str, names: list[str], most: int) -> int:
    found = [(os.lstat(f"{folder}/{name}"), f"{folder}/{name}") for name in names]
    found.sort(key=lambda item: item[0].st_mtime_ns)
    total = sum(status.st_size for status, _ in found)
    lost = 0
    for status, path in found:
        if total <= most:
            break
        lost += 0 if os.path.basename(path).startswith(COPY) else count_lines(path)
        os.unlink(path)
        total -= status.st_size
    return lost


def count_lines(path: str) -> int:
    """Return how many lines a file holds, including a last one without a newline."""
    lines, last = 0, b"\n"
    try:
        fd = os.open(path, os.O_RDONLY | NO_FOLLOW | CLOEXEC | NONBLOCK)
    except OSError:
        return 0
    try:
        for block in pieces(fd, 0, os.fstat(fd).st_size):
            lines += block.count(b"\n")
            last = block[-1:]
    except OSError:
        return 0
    finally:
        os.close(fd)
    return lines + (last != b"\n")


def remove_all(folder: str) -> int:
    """Delete everything in rejected/ and corrupt/, and return how many events were in rejected/."""
    rejected = 0
    for name in rejected_names(folder):
        try:
            rejected += 0 if name.startswith(COPY) else len(read_rejected(folder, name).entries)
        except OSError:
            # Unreadable: delete it all the same.
            pass
        os.unlink(f"{folder}/{REJECTED}/{name}")
    for name in corrupt_names(folder):
        os.unlink(f"{folder}/{CORRUPT}/{name}")
    return rejected
