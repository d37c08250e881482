"""The flusher's memory: how far each file was acknowledged, and the ledger, in one file that is replaced atomically.

One file, not two: because an offset and the counts that belong to it must not be able to disagree. It may be missing, empty or
torn: then everything is sent once more, and the ledger begins anew with a new `since`.
"""

from __future__ import annotations

import json
import os
import time
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from rillevents.event import format_time
from rillevents.files import read_at, read_file, replace_file
from rillevents.spool.folder import STATE

# So many bytes before an offset have to be what they were, or the file is not the one that the offset belongs to.
PROOF_BYTES = 64
COUNTS = ("delivered", "rejected", "corrupt", "truncated", "refused")


@dataclass(slots=True)
class State:
    """Offsets by file name, and what became of the events since `since`.

    `folded` are the files of counts that the ledger already has; `aside` those that go to corrupt/ whole.
    """

    since: str
    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(COUNTS, 0))
    dropped: dict[str, int] = field(default_factory=dict)
    offsets: dict[str, tuple[int, int]] = field(default_factory=dict)
    folded: list[str] = field(default_factory=list)
    aside: list[str] = field(default_factory=list)
    last_flush: dict[str, Any] = field(default_factory=dict)

    def count(self, kind: str, reason: str = "", n: int = 1) -> None:
        """Add to the ledger: one of COUNTS, or `dropped` by its reason."""
        if kind == "dropped":
            self.dropped[reason] = self.dropped.get(reason, 0) + n
        elif kind in self.counts:
            self.counts[kind] += n

    def merged(self, other: State | None) -> State:
        """Return the ledger of two spools together, since the earlier of the two; offsets are left out."""
        if other is None:
            return self
        return State(
            min(filter(None, (self.since, other.since)), default=""),
            _sum(self.counts, other.counts),
            _sum(self.dropped, other.dropped),
            last_flush=max(self.last_flush, other.last_flush, key=lambda told: str(told.get("at", ""))),
        )

    def save(self, folder: str, *, durable: bool = False) -> None:
        """Replace the file; raises OSError, and the old one stays."""
        content = {
            "since": self.since,
            "counts": self.counts,
            "dropped": self.dropped,
            "offsets": self.offsets,
            "folded": self.folded,
            "aside": self.aside,
            "last_flush": self.last_flush,
        }
        replace_file(f"{folder}/{STATE}", json.dumps(content).encode(), durable=durable)


def load(folder: str, *, now_ns: int | None = None) -> State:
    """Return what the folder remembers; a new State where that is nothing, or not to be understood."""
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
            dict(content["last_flush"]),
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return fresh


def _counts(found: Mapping[str, Any]) -> dict[str, int]:
    return {str(key): int(value) for key, value in found.items()}


def proof(fd: int, offset: int) -> int:
    """Return the checksum of what stands right before *offset*."""
    start = max(0, offset - PROOF_BYTES)
    return zlib.crc32(read_at(fd, offset - start, start))


def trusted_offset(fd: int, entry: tuple[int, int] | None) -> int:
    """Return the acknowledged offset of a file, 0 where there is none or the file is another (restored, cut off)."""
    if entry is None:
        return 0
    offset, expected = entry
    return offset if 0 < offset <= os.fstat(fd).st_size and proof(fd, offset) == expected else 0


def _sum(one: Mapping[str, int], two: Mapping[str, int]) -> dict[str, int]:
    return {key: one.get(key, 0) + two.get(key, 0) for key in {**one, **two}}
