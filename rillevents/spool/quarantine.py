"""rejected/ (refused for good by the destination) and corrupt/ (what does not parse): kept apart, with caps of their own."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from rillevents.event import format_time
from rillevents.files import CLOEXEC, NO_FOLLOW, NONBLOCK, give_to_owner_of, make_folder, read_at, read_file, write_all
from rillevents.spool.append import sync
from rillevents.spool.folder import CORRUPT, REJECTED, SUFFIX, unique

MAX_REJECTED_BYTES = 64 << 20
MAX_CORRUPT_BYTES = 64 << 20
# The oldest files are what a cap costs, so a file must not hold all there is.
MAX_FILE_BYTES = 4 << 20
_EVENT = b',"event":'


class Rejected(NamedTuple):
    """An event that the destination refused for good: why, when, and its line as it was recorded."""

    reason: str
    rejected_at: str
    line: bytes


class RejectedFile:
    """The file in rejected/ that one flush writes to; made with the first event."""

    def __init__(self, folder: str) -> None:
        self._folder = f"{folder}/{REJECTED}"
        self._path = ""

    def add(self, rejected: Sequence[tuple[bytes, str]]) -> None:
        """Store *rejected* (line, reason) and sync it: because the spool forgets these events next. Raises OSError."""
        if not self._path:
            make_folder(self._folder)
            self._path = f"{self._folder}/{unique('', time.time_ns())}"
        now = format_time(time.time_ns())
        data = b"".join(_entry(line, reason, now) for line, reason in rejected)
        fd = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | NO_FOLLOW | CLOEXEC, 0o600)
        try:
            size = os.fstat(fd).st_size
            give_to_owner_of(self._folder, fd)
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
    # The event's own bytes, not decoded and written again: because a retry has to send what was recorded.
    return head[:-1] + _EVENT + line.rstrip(b"\n") + b"}\n"


def rejected_names(folder: str) -> list[str]:
    """Return the files in rejected/, oldest first."""
    try:
        return sorted(name for name in os.listdir(f"{folder}/{REJECTED}") if name.endswith(SUFFIX))
    except (FileNotFoundError, NotADirectoryError):
        return []


def read_rejected(folder: str, name: str) -> Iterator[Rejected]:
    """Yield what one file in rejected/ holds; a torn last line is passed over (its event was sent again)."""
    for entry in (read_file(f"{folder}/{REJECTED}/{name}", MAX_REJECTED_BYTES * 2) or b"").split(b"\n"):
        head, found, line = entry.partition(_EVENT)
        try:
            told = json.loads(head + b"}") if found and entry.endswith(b"}") else {}
            yield Rejected(str(told["reason"]), str(told["rejected_at"]), line[:-1] + b"\n")
        except (ValueError, KeyError, TypeError):
            continue


def keep_corrupt(folder: str, name: str, fd: int, start: int, end: int) -> None:
    """Copy the bytes of a spool file from *start* to *end* into corrupt/; the same piece twice is one file. Raises OSError."""
    make_folder(f"{folder}/{CORRUPT}")
    path = f"{folder}/{CORRUPT}/{name}-{start}"
    out = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | NO_FOLLOW | CLOEXEC | NONBLOCK, 0o600)
    try:
        give_to_owner_of(f"{folder}/{CORRUPT}", out)
        while start < end:
            piece = read_at(fd, min(1 << 20, end - start), start)
            if not piece:
                break
            write_all(out, piece)
            start += len(piece)
        sync(out, f"{folder}/{CORRUPT}")
    except OSError:
        os.unlink(path)
        raise
    finally:
        os.close(out)


def corrupt_names(folder: str) -> list[str]:
    """Return the files in corrupt/."""
    try:
        return sorted(os.listdir(f"{folder}/{CORRUPT}"))
    except (FileNotFoundError, NotADirectoryError):
        return []


def enforce_caps(folder: str) -> dict[str, int]:
    """Delete the oldest files of either folder while it is over its cap; return how many lines that cost, by reason."""
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
        lost += count_lines(path)
        os.unlink(path)
        total -= status.st_size
    return lost


def count_lines(path: str) -> int:
    """Return how many lines a file holds, a last one without its newline too."""
    lines, last = 0, b"\n"
    try:
        with open(path, "rb") as file:
            while block := file.read(1 << 20):
                lines += block.count(b"\n")
                last = block[-1:]
    except OSError:
        return 0
    return lines + (last != b"\n")


def remove_all(folder: str) -> int:
    """Delete everything in rejected/ and corrupt/, and return how many events were in rejected/."""
    rejected = 0
    for name in rejected_names(folder):
        rejected += sum(1 for _ in read_rejected(folder, name))
        os.unlink(f"{folder}/{REJECTED}/{name}")
    for name in corrupt_names(folder):
        os.unlink(f"{folder}/{CORRUPT}/{name}")
    return rejected
