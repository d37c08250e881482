"""The flusher's own files: its lock, and its state (how far each file was acknowledged, and the ledger).

The state is a single file that is replaced atomically, so that an offset and its counts always agree. It may be missing,
empty or torn: then everything is sent once more, and the ledger starts anew with a new `since`.
"""

from __future__ import annotations

import errno
import json
import os
import stat
import time
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from rillevents.errors import Busy
from rillevents.event import MAX_EVENT_BYTES, format_time
from rillevents.local.files import (
    CLOEXEC,
    NO_FOLLOW,
    NONBLOCK,
    Moved,
    NoLocks,
    check_named,
    give_to_owner_of,
    lock,
    read_at,
    read_file,
    replace_file,
)
from rillevents.spool import FLUSH_LOCK, STATE

# This many bytes before an offset must be unchanged, or the file is not the one that the offset belongs to. They cover the
# whole last event: events of one kind often have the same length and differ only near their beginning.
PROOF_BYTES = MAX_EVENT_BYTES + 2
COUNTS = ("delivered", "rejected", "corrupt", "truncated", "refused")
# A link, a folder, a socket; a disk without room for even an empty file.
_NO_LOCK_FILE = (errno.ELOOP, errno.EMLINK, errno.EISDIR, errno.ENXIO, errno.ENOSPC, errno.EDQUOT)


@dataclass(slots=True)
class State:
    """Offsets by file name, and the counts of events since `since`.

    `folded` are the files of counts that the ledger already includes; `aside` those that move to corrupt/ whole; `rests` those
    that the offsets count on (rest.py). `unknown`
    holds keys of another version, which are written back unchanged.
    """

    since: str
    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(COUNTS, 0))
    dropped: dict[str, int] = field(default_factory=dict)
    offsets: dict[str, tuple[int, int]] = field(default_factory=dict)
    folded: list[str] = field(default_factory=list)
    aside: list[str] = field(default_factory=list)
    last_flush: dict[str, Any] = field(default_factory=dict)
    rests: list[str] = field(default_factory=list)
    unknown: dict[str, Any] = field(default_factory=dict)

    def count(self, kind: str, reason: str = "", n: int = 1) -> None:
        """Add to the ledger: `dropped` by its reason, or one of COUNTS (or a count of another version).

        Never below 0: a correction may be about a count in a ledger that is gone.
        """
        if kind == "dropped":
            self.dropped[reason] = max(0, self.dropped.get(reason, 0) + n)
        else:
            self.counts[kind] = max(0, self.counts.get(kind, 0) + n)

    def copy(self) -> State:
        """Return a copy that later counts and moves do not change."""
        return replace(self, counts=dict(self.counts), dropped=dict(self.dropped), offsets=dict(self.offsets))

    def merged(self, other: State | None) -> State:
        """Return the ledgers of two spools combined, since the earlier of the two; without offsets."""
        if other is None:
            return self
        return State(
            min(filter(None, (self.since, other.since)), default=""),
            _sum(self.counts, other.counts),
            _sum(self.dropped, other.dropped),
            last_flush=max(self.last_flush, other.last_flush, key=lambda told: str(told.get("at", ""))),
        )

    def save(self, folder: str, *, durable: bool = False) -> None:
        """Replace the file; if it raises OSError, the old one stays."""
        content = self.unknown | {
            "since": self.since,
            "counts": self.counts,
            "dropped": self.dropped,
            "offsets": self.offsets,
            "folded": self.folded,
            "aside": self.aside,
            "last_flush": self.last_flush,
            "rests": self.rests,
        }
        replace_file(f"{folder}/{STATE}", json.dumps(content).encode(), durable=durable)


def load(folder: str, *, now_ns: int | None = None) -> State:
    """Return the saved state of the folder; a new State if there is none, or it is not readable."""
    fresh = State(format_time(time.time_ns() if now_ns is None else now_ns))
    try:
        content = json.loads(read_file(f"{folder}/{STATE}", 64 << 20) or b"")
        return State(
            str(content["since"]),
            fresh.counts | _counts(content["counts"]),
            _counts(content["dropped"]),
            {str(name): (int(offset), int(proof)) for name, (offset, proof) in content["offsets"].items()},
            [str(name) for name in content["folded"]],
            [str(name) for name in content["aside"]],
            _last_flush(content["last_flush"]),
            # Missing in the state of an older version.
            [str(name) for name in content.get("rests", [])],
            {key: value for key, value in content.items() if key not in State.__slots__},
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
        return fresh


def _counts(found: Mapping[str, Any]) -> dict[str, int]:
    return {str(key): max(0, int(value)) for key, value in found.items()}


def _last_flush(found: Mapping[str, Any]) -> dict[str, Any]:
    """Return the saved result of the last flush, nothing if any of it is damaged."""
    texts = all(isinstance(found.get(key), str) for key in ("at", "outcome", "reason"))
    numbers = all(isinstance(found.get(key), (int, float)) for key in ("delivered", "rejected", "pending", "seconds"))
    return dict(found) if texts and numbers else {}


def proof(fd: int, offset: int, line: bytes = b"") -> int:
    """Return the checksum of the bytes right before *offset*, -1 if they do not end with *line*."""
    start = max(0, offset - PROOF_BYTES)
    found = read_at(fd, offset - start, start)
    # Also without its newline: a zero may stand in its place.
    return zlib.crc32(found) if found.endswith((line, line[:-1])) else -1


def trusted_offset(fd: int, entry: tuple[int, int] | None) -> int:
    """Return the acknowledged offset of a file, 0 if there is none or the file is a different one (restored, truncated)."""
    if entry is None:
        return 0
    offset, expected = entry
    return offset if 0 < offset <= os.fstat(fd).st_size and proof(fd, offset) == expected else 0


def _sum(one: Mapping[str, int], two: Mapping[str, int]) -> dict[str, int]:
    return {key: one.get(key, 0) + two.get(key, 0) for key in {**one, **two}}


def take_turn(folder: str) -> int:
    """Return a descriptor with the flusher's lock; raises Busy if another flusher has it, OSError if it is not available."""
    path = f"{folder}/{FLUSH_LOCK}"
    fd = _open_lock(folder, path)
    try:
        found = os.fstat(fd)
        give_to_owner_of(folder, fd)
        if not lock(fd):
            raise Busy("another flush is running; the events are kept")
        if stat.S_ISREG(found.st_mode):
            check_named(path, found)
    except NoLocks:
        return fd
    except BaseException as error:
        os.close(fd)
        if isinstance(error, Moved):
            raise Busy("the flush lock was replaced meanwhile; the events are kept") from None
        raise
    return fd


def _open_lock(folder: str, path: str) -> int:
    """Open the lock's file, or the folder itself if such a file is not available.

    Two flushes at once lose nothing, they only send twice; so a problem with this file stops no flush.
    """
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | NO_FOLLOW | CLOEXEC | NONBLOCK, 0o600)
        if stat.S_ISREG(os.fstat(fd).st_mode):
            return fd
        os.close(fd)
    except OSError as error:
        # If a file exists that we may not open, the folder may still work; if none exists, it is the folder that refuses.
        closed_to_us = error.errno in (errno.EACCES, errno.EPERM) and os.path.lexists(path)
        if error.errno not in _NO_LOCK_FILE and not closed_to_us:
            raise
    return os.open(folder, os.O_RDONLY | getattr(os, "O_DIRECTORY", 0) | NO_FOLLOW | CLOEXEC)
