"""A batch of events on its way to a destination, and the verdicts on its events; no I/O."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import TypeAlias

CHUNK = 64 << 10
# Each piece costs its sender a turn of the interpreter, and who reads the next batch meanwhile does not give it at once.
MOST_CHUNK, QUICK_SECONDS = 1 << 20, 0.02

lines_of: Callable[[bytes], list[bytes]] = re.compile(rb"[^\n]*\n").findall
"""Return the lines of a text, each with its newline."""


class Batch:
    """An immutable run of NDJSON lines, each ending with a newline, that knows its size and can be halved.

    It may be given as pieces of several lines, with the *count* of all: they become lines only where somebody asks for them.
    Exporters call `on_progress` on their own thread with the bytes sent so far; an exception from it aborts the upload. Halves
    inherit it; their `start` is the position of their first line in the batch that was split first. `acknowledged` has the
    positions there of the lines that are acknowledged whatever becomes of the others; all parts of a batch share it.
    """

    __slots__ = ("_count", "_lines", "acknowledged", "on_progress", "pieces", "size", "start")

    def __init__(
        self,
        pieces: Sequence[bytes],
        on_progress: Callable[[int], None] | None = None,
        *,
        start: int = 0,
        count: int | None = None,
        acknowledged: set[int] | None = None,
    ) -> None:
        self.pieces = tuple(pieces)
        self.size = sum(map(len, self.pieces))
        self._count = len(self.pieces) if count is None else count
        self._lines = self.pieces if self._count == len(self.pieces) else None
        self.on_progress = on_progress
        self.start = start
        self.acknowledged: set[int] = set() if acknowledged is None else acknowledged

    def __len__(self) -> int:
        return self._count

    @property
    def lines(self) -> tuple[bytes, ...]:
        """The lines one by one; the same objects each time."""
        if self._lines is None:
            self._lines = tuple(line for piece in self.pieces for line in lines_of(piece))
        return self._lines

    def __repr__(self) -> str:
        return f"<Batch of {len(self)} events, {self.size} bytes>"

    def body(self) -> bytes:
        """Return all lines in one piece."""
        return b"".join(self.pieces)

    def watched(self, on_progress: Callable[[int], None]) -> Batch:
        """Return the same batch with another listener, of which nothing is acknowledged."""
        return Batch(self.pieces, on_progress, count=self._count)

    def split(self) -> tuple[Batch, Batch]:
        """Return two consecutive halves; the left one is the larger, and the right one of a single line is empty."""
        middle = (len(self) + 1) // 2
        return self.part(0, middle), self.part(middle, len(self))

    def parts(self, most_bytes: int) -> Iterator[Batch]:
        """Yield consecutive parts of at most so many bytes, but of at least one line each."""
        start = size = 0
        for end, line in enumerate(self.lines):
            if size and size + len(line) > most_bytes:
                yield self.part(start, end)
                start, size = end, 0
            size += len(line)
        if size:
            yield self.part(start, len(self))

    def one(self, index: int) -> Batch:
        """Return a batch of one of the lines."""
        return self.part(index, index + 1)

    def part(self, start: int, end: int) -> Batch:
        """Return a batch of the lines from *start* up to, but without, *end*."""
        lines = self.lines[start:end]
        return Batch(lines, self.on_progress, start=self.start + start, acknowledged=self.acknowledged)

    def acknowledge(self, index: int) -> None:
        """Note at once that this line is acknowledged: the call may fail, or be abandoned, before the others are. Thread-safe."""
        self.acknowledged.add(self.start + index)

    def is_acknowledged(self, index: int) -> bool:
        """Whether a line was acknowledged in an earlier call."""
        return self.start + index in self.acknowledged

    def progress(self, sent: int) -> None:
        """Tell the listener that `sent` bytes have been handed over; raises what the listener raises."""
        if self.on_progress is not None:
            self.on_progress(sent)

    def chunks(
        self, size: int = CHUNK, *, body: bytes | None = None, clock: Callable[[], float] = time.monotonic
    ) -> Iterator[bytes]:
        """Yield the body, or its given form, in pieces that grow while they are taken quickly.

        Progress is reported before the first and after each, often enough to see a slow line move.
        """
        data = self.body() if body is None else body
        self.progress(0)
        start = 0
        while start < len(data):
            began = clock()
            yield data[start : start + size]
            start = min(start + size, len(data))
            self.progress(start)
            if clock() - began < QUICK_SECONDS:
                size = min(2 * size, MOST_CHUNK)


class Verdict(Enum):
    """The verdicts without a reason."""

    DELIVERED = "delivered"
    HELD = "held"
    UNSETTLED = "unsettled"


DELIVERED, HELD, UNSETTLED = Verdict.DELIVERED, Verdict.HELD, Verdict.UNSETTLED


@dataclass(frozen=True, slots=True)
class Rejected:
    """The verdict on an event that the destination refuses for good, with the reason."""

    reason: str


@dataclass(frozen=True, slots=True)
class Doubtful:
    """The verdict on an event that was acknowledged beside others that were refused, without a word about which.

    It counts as delivered, and a copy of it is kept with the reason.
    """

    reason: str


LineVerdict: TypeAlias = Verdict | Rejected | Doubtful
