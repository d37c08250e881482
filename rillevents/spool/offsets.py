"""Lines of the spool that are sent and settled together, with their positions in the files; no I/O.

Lines are handled in runs: one check or note for a thousand lines costs little more than for one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, chain
from typing import NamedTuple

from rillevents.event.batch import DELIVERED, Batch, LineVerdict
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
        return Batch(list(chain.from_iterable(run.good for _, run in self.runs)), size=self.size)

    @property
    def entries(self) -> list[Entry]:
        """The lines one by one, damaged ones included."""
        return [entry for name, run in self.runs for entry in _entries(name, run)]

    def take(self) -> SpoolBatch:
        """Return the contents, and become empty."""
        taken = SpoolBatch(self.runs, self.finished, self.count, self.size)
        self.runs, self.finished, self.count, self.size = [], [], 0, 0
        return taken

    def add(self, name: str, run: Run, size: int) -> None:
        """Add a run of the file *name*; its events have *size* bytes."""
        self.runs.append((name, run))
        self.count += max(1, len(run.good))
        self.size += size

    def fitting(self, run: Run, most: int, most_bytes: int) -> tuple[int, int]:
        """Return how many lines of a run still fit, and their bytes; at least one if this is empty, however large it is."""
        lines = run.good[: most - self.count]
        size = sum(map(len, lines))
        if self.size + size <= most_bytes:
            return len(lines), size
        sizes = [size for size in accumulate(map(len, lines)) if self.size + size <= most_bytes]
        if not sizes and not self.count:
            return 1, len(lines[0])
        return len(sizes), sizes[-1] if sizes else 0

    def settled(self, verdicts: Sequence[LineVerdict]) -> Iterator[Settled]:
        """Yield the result of each line; one result for a whole run if all of it was delivered."""
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
