"""Lines of the spool that are sent and settled together, and where in their files they stand; no I/O.

In runs, not line by line: because what is asked of a thousand lines, or noted for them, costs little more than of one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, chain
from typing import NamedTuple

from rillevents.event.batch import DELIVERED, Batch, LineVerdict
from rillevents.spool.lines import Run


class Entry(NamedTuple):
    """A line on its way: the file that it stands in, where it ends there, and its bytes (none where it did not parse)."""

    name: str
    end: int
    line: bytes


class Settled(NamedTuple):
    """What becomes of so many *lines*, of which this entry is the last."""

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
        return Batch(list(chain.from_iterable(run.good for _, run in self.runs)), size=self.size)

    @property
    def entries(self) -> list[Entry]:
        """The lines one by one, damaged ones included."""
        return [entry for name, run in self.runs for entry in _entries(name, run)]

    def take(self) -> SpoolBatch:
        """Return what is in here, and be empty."""
        taken = SpoolBatch(self.runs, self.finished, self.count, self.size)
        self.runs, self.finished, self.count, self.size = [], [], 0, 0
        return taken

    def add(self, name: str, run: Run, size: int) -> None:
        """Take in a run of the file *name*, whose events have so many bytes."""
        self.runs.append((name, run))
        self.count += max(1, len(run.good))
        self.size += size

    def fitting(self, run: Run, most: int, most_bytes: int) -> tuple[int, int]:
        """Return how many of a run's lines still fit, and their bytes; one where this is empty, however large it is."""
        lines = run.good[: most - self.count]
        size = sum(map(len, lines))
        if self.size + size <= most_bytes:
            return len(lines), size
        sizes = [size for size in accumulate(map(len, lines)) if self.size + size <= most_bytes]
        if not sizes and not self.count:
            return 1, len(lines[0])
        return len(sizes), sizes[-1] if sizes else 0

    def settled(self, verdicts: Sequence[LineVerdict]) -> Iterator[Settled]:
        """Yield what becomes of each line; of a whole run at once where all of it was delivered."""
        start = 0
        for name, run in self.runs:
            told = verdicts[start : start + len(run.good)]
            start += len(run.good)
            if not told:
                yield Settled(Entry(name, run.end, b""), None)
            elif told.count(DELIVERED) == len(told):
                yield Settled(Entry(name, run.end, run.good[-1]), DELIVERED, len(told))
            else:
                yield from map(Settled, _entries(name, run), told)


def _entries(name: str, run: Run) -> Iterator[Entry]:
    if len(run.good) < 2:
        yield Entry(name, run.end, b"".join(run.good))
        return
    end = run.start
    for line in run.good:
        end += len(line)
        yield Entry(name, end, line)
