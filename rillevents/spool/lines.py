"""The bytes of a spool file → its complete lines, valid ones told from damaged ones, in bounded memory."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import accumulate, count
from operator import add, attrgetter
from typing import NamedTuple

from rillevents.event import MAX_EVENT_BYTES
from rillevents.event.batch import lines_of
from rillevents.event.envelope import certain_lines, is_event, required_fields
from rillevents.local.files import read_at

# Reading one lets another thread run: small enough that the one that sends does not wait for its turn.
BLOCK = 1 << 18
# And where there are no lines: each piece of garbage costs a file in corrupt/.
_WIDE = 1 << 20
_TIME = attrgetter("event_time")
_NO_ZEROS = re.compile(rb"[^\0]+")


class Line(NamedTuple):
    """A complete line: its start and end in the file, and the event's bytes, empty if it is damaged."""

    start: int
    end: int
    good: bytes


class Run(NamedTuple):
    """Consecutive lines: their start and end in the file, the events in one piece (empty if damaged), and their number.

    Events of a run of several follow each other in the file; a single one may have zeros around it. `times` are their times, as
    texts.
    """

    start: int
    end: int
    good: bytes
    events: int
    times: Sequence[str] = ()

    @property
    def last(self) -> bytes:
        """The last event."""
        return self.good[self.good.rfind(b"\n", 0, -1) + 1 :]

    def parts(self, room: tuple[int, int], most: tuple[int, int]) -> Iterator[Run]:
        """Yield the events in parts of at most so many events and bytes, but of at least one event each.

        The first part has what fits into *room*, and is left out if that is none.
        """
        lines = self.good.split(b"\n")[:-1]
        ends = [0, *map(add, accumulate(map(len, lines)), count(1))]
        first, limits = 0, room
        while first < self.events:
            end = min(first + max(0, limits[0]), self.events)
            if ends[end] - ends[first] > limits[1]:
                end = bisect_right(ends, ends[first] + limits[1], first) - 1
            end = max(end, first + 1) if limits is most else end
            if end > first:
                good = self.good[ends[first] : ends[end]]
                stop = self.start + ends[end] if end < self.events else self.end
                yield Run(self.start + ends[first], stop, good, end - first, self.times[first:end])
            first, limits = end, most


def complete_lines(fd: int, start: int, end: int) -> Iterator[Line]:
    """Yield the lines between two offsets of a file, up to the last newline, without empty ones.

    Consecutive damaged lines come as one.
    """
    for run in complete_runs(fd, start, end):
        if run.events < 2:
            yield Line(run.start, run.end, run.good)
            continue
        before = run.start
        for line in lines_of(run.good):
            yield Line(before, before + len(line), line)
            before += len(line)


def complete_runs(fd: int, start: int, end: int) -> Iterator[Run]:
    """Yield what `complete_lines` yields, but whole blocks at a time where a block holds only valid events."""
    newline = start
    while start < end:
        block = read_at(fd, min(BLOCK, end - start), start)
        cut = block.rfind(b"\n") + 1
        if not cut and start + len(block) < end:
            block = read_at(fd, min(_WIDE, end - start), start)
            cut = block.rfind(b"\n") + 1
        if cut:
            yield from _runs_of(block[:cut], start)
            start += cut
            continue
        zeros = len(block) - len(block.lstrip(b"\0"))
        if zeros:
            start += zeros
            continue
        if newline <= start:
            newline = _find(fd, b"\n", start + len(block), end) if start + len(block) < end else 0
        if not newline:
            return
        last_zero = block.rfind(b"\0") + 1
        if last_zero:
            yield from map(_run, _joined(_between_zeros(block[:last_zero], start, start + last_zero)))
            start += last_zero
        else:
            # Longer than any event: damaged, so put it aside unparsed.
            before = start
            start = (_find(fd, b"\0", start + len(block), newline) or newline + 1) - 1
            yield Run(before, start, b"", 0)


def _runs_of(block: bytes, start: int) -> Iterator[Run]:
    events = certain_lines(block, longest=MAX_EVENT_BYTES)
    if events:
        yield Run(start, start + len(block), block, len(events), list(map(_TIME, events)))
    else:
        yield from map(_run, _joined(_lines_of(block, start)))


def _run(line: Line) -> Run:
    if not line.good:
        return Run(line.start, line.end, b"", 0)
    return Run(line.start, line.end, line.good, 1, (required_fields(line.good).event_time,))


def _lines_of(block: bytes, start: int) -> Iterator[Line]:
    for text in block.split(b"\n")[:-1]:
        end = start + len(text) + 1
        if b"\0" in text:
            yield from _between_zeros(text, start, end)
        elif text:
            yield Line(start, end, text + b"\n" if is_event(text) else b"")
        start = end


def _joined(lines: Iterator[Line]) -> Iterator[Line]:
    """Join consecutive damaged lines: each would cost a file in corrupt/, and garbage has thousands of them."""
    damaged: Line | None = None
    for line in lines:
        if not line.good:
            damaged = Line(damaged.start if damaged else line.start, line.end, b"")
            continue
        if damaged:
            yield damaged
            damaged = None
        yield line
    if damaged:
        yield damaged


def _between_zeros(text: bytes, start: int, end: int) -> Iterator[Line]:
    """Yield the events in a line that contains zeros, and each damaged part between zeros as one piece.

    Zeros are skipped: after a loss of power they stand where a file had grown before its data was written, newlines included.
    """
    damaged = -1
    for piece in _NO_ZEROS.finditer(text):
        first, last = start + piece.start(), start + piece.end()
        if not is_event(piece[0]):
            damaged = first if damaged < 0 else damaged
            continue
        if damaged >= 0:
            yield Line(damaged, first, b"")
            damaged = -1
        yield Line(first, last, piece[0] + b"\n")
    if damaged >= 0:
        yield Line(damaged, end, b"")


def _find(fd: int, what: bytes, start: int, end: int) -> int:
    """Return the offset after the first such byte, 0 if there is none."""
    while start < end:
        block = read_at(fd, min(BLOCK, end - start), start)
        found = block.find(what)
        if found >= 0:
            return start + found + 1
        if not block:
            break
        start += len(block)
    return 0
