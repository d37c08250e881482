"""Lines of the spool that are sent and settled together, with their positions in the files; no I/O.

Lines are handled in runs: one check or note for a thousand lines costs little more than for one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from rillevents.event.batch import DELIVERED, Batch, LineVerdict, lines_of
from rillevents.spool.lines import Run


class Entry(NamedTuple):
    """A line on its way: the file it is from, its end there, and its bytes (empty if it did not parse)."""

    name: str
    end: int
    line: bytes


class Settled(NamedTuple):
    """The result for *lines* lines, of which this entry is the last."""

    entry: Entry
    verdict: LineVerdict | None
    lines: int = 1


@dataclass(slots=True)
class SpoolBatch:
    """Lines to be settled together, in runs by file, and the files that end with them."""

    runs: list[tuple[str, Run]] = field(default_factory=list)
    finished: list[str] = field(default_factory=list)
    count: int = 0
    size: int = 0

    @property
    def batch(self) -> Batch:
        """The lines to send."""
        good = [run for _, run in self.runs if run.good]
        return Batch([run.good for run in good], count=sum(run.events for run in good))

    @property
    def times(self) -> list[str]:
        """The times of the lines to send, as texts."""
        return [time for _, run in self.runs for time in run.times]

    @property
    def entries(self) -> list[Entry]:
        """The lines one by one, damaged ones included."""
        return [entry for name, run in self.runs for entry in _entries(name, run)]

    def take(self) -> SpoolBatch:
        """Return the contents, and become empty."""
        taken = SpoolBatch(self.runs, self.finished, self.count, self.size)
        self.runs, self.finished, self.count, self.size = [], [], 0, 0
        return taken

    def add(self, name: str, run: Run) -> None:
        """Add a run of the file *name*."""
        self.runs.append((name, run))
        self.count += max(1, run.events)
        self.size += len(run.good)

    def room(self, most: tuple[int, int]) -> tuple[int, int]:
        """Return how many events and bytes still fit into limits."""
        return most[0] - self.count, most[1] - self.size

    def has_room_for(self, run: Run, most: tuple[int, int]) -> bool:
        """Whether all of a run still fits into limits of events and bytes; into an empty batch, an event always does."""
        events, size = self.count + run.events, self.size + len(run.good)
        return (events <= most[0] and size <= most[1]) or (run.events == 1 and not self.count)

    def settled(self, verdicts: Sequence[LineVerdict]) -> Iterator[Settled]:
        """Yield the result of each line; one result for a whole run if all of it was delivered."""
        start = 0
        for name, run in self.runs:
            told = verdicts[start : start + run.events]
            start += run.events
            if not told:
                yield Settled(Entry(name, run.end, b""), None)
            elif told.count(DELIVERED) == len(told):
                yield Settled(Entry(name, run.end, run.last), DELIVERED, len(told))
            else:
                yield from map(Settled, _entries(name, run), told)


def _entries(name: str, run: Run) -> Iterator[Entry]:
    if run.events < 2:
        yield Entry(name, run.end, run.good)
        return
    end = run.start
    for line in lines_of(run.good):
        end += len(line)
        yield Entry(name, end, line)
