"""Reading the spool without touching it: no lock is taken, nothing is created, and files may vanish meanwhile."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from rillevents.errors import SpoolError
from rillevents.event.timestamp import oldest
from rillevents.local import Paths
from rillevents.local.files import CLOEXEC, NO_FOLLOW, NONBLOCK, read_at
from rillevents.spool import CORRUPT, READ_PREFIXES, SLOT, STATE, SUFFIX, check, listed, sending_order, tally
from rillevents.spool.lines import BLOCK, complete_lines, complete_runs
from rillevents.spool.quarantine import DeadLetter, corrupt_names, count_lines, read_rejected, rejected_names
from rillevents.spool.state import State, load, trusted_offset

_LOOKED_AT = 1 << 20


@dataclass(frozen=True, slots=True)
class Contents:
    """What a spool holds: `events` and `bytes` still to be sent, the time of the `oldest`, and the rejected and corrupt ones.

    The oldest is looked for in the first MiB of each file: events are mostly recorded when they happen.
    """

    events: int = 0
    bytes: int = 0
    oldest: str | None = None
    rejected: int = 0
    corrupt: int = 0

    def __add__(self, other: Contents) -> Contents:
        return Contents(
            self.events + other.events,
            self.bytes + other.bytes,
            oldest([time for time in (self.oldest, other.oldest) if time]) or None,
            self.rejected + other.rejected,
            self.corrupt + other.corrupt,
        )


def contents(spool: str) -> Contents:
    """Return what *spool* holds, counted now; raises SpoolError if it is not safe to read."""
    folder = check(spool)
    try:
        return _contents(folder) if folder else Contents()
    except OSError as error:
        raise unreadable(folder, error) from None


def unreadable(folder: str, error: OSError) -> SpoolError:
    """Return the error for a spool that cannot be read."""
    return SpoolError(f"the spool {folder} cannot be read: {error.strerror or error}")


def _contents(folder: str) -> Contents:
    events = size = 0
    times: list[str] = []
    for fd, start, end in _files(folder):
        found, held = _count(fd, start, end)
        events, size = events + found, size + held
        for run in complete_runs(fd, start, min(end, start + _LOOKED_AT)):
            times += filter(None, [oldest(run.times)])
    rejected = sum(1 for _ in _rejected(folder))
    corrupt = sum(count_lines(f"{folder}/{CORRUPT}/{name}") for name in _readable(corrupt_names, folder))
    return Contents(events, size, oldest(times) or None, rejected, corrupt)


def pending(spool: str) -> Iterator[bytes]:
    """Yield the lines that a flush would send now, unchanged; raises SpoolError."""
    folder = check(spool)
    try:
        for fd, start, end in _files(folder) if folder else ():
            for line in complete_lines(fd, start, end):
                if line.good:
                    yield line.good
    except OSError as error:
        raise unreadable(folder, error) from None


def rejected(spool: str) -> Iterator[DeadLetter]:
    """Yield the events that the destination refused for good, oldest first."""
    folder = check(spool)
    if folder:
        yield from _rejected(folder)


def _rejected(folder: str) -> Iterator[DeadLetter]:
    for name in _readable(rejected_names, folder):
        try:
            found = read_rejected(folder, name)
        except OSError:
            # Gone since the listing, or unreadable.
            continue
        yield from found.entries


def _readable(names: Callable[[str], list[str]], folder: str) -> list[str]:
    try:
        return names(folder)
    except OSError:
        return []


def ledger(spool: str) -> State | None:
    """Return the counts up to now, including those that writers noted since the last flush; None without a spool."""
    folder = check(spool)
    if not folder:
        return None
    state = load(folder)
    if not os.path.exists(f"{folder}/{STATE}"):
        # Nothing counted yet, so there is no start: a time that changes with every call would be meaningless.
        state.since = ""
    for name in _readable(tally.names, folder):
        if name not in state.folded:
            try:
                tally.read_into(state, folder, name)
            except OSError:
                # Gone since the listing, or unreadable.
                continue
    return state


def _files(folder: str) -> Iterator[tuple[int, int, int]]:
    """Yield (descriptor, offset, size) of every file that holds events, as a flush would send them."""
    offsets = load(folder).offsets
    names = [name for name in listed(folder) if name.startswith((*READ_PREFIXES, SLOT)) and name.endswith(SUFFIX)]
    for name in sorted(names, key=sending_order):
        try:
            fd = os.open(f"{folder}/{name}", os.O_RDONLY | NO_FOLLOW | CLOEXEC | NONBLOCK)
        except OSError:
            continue
        try:
            if stat.S_ISREG(os.fstat(fd).st_mode):
                yield fd, trusted_offset(fd, offsets.get(name)), os.fstat(fd).st_size
        finally:
            os.close(fd)


def _count(fd: int, start: int, end: int) -> tuple[int, int]:
    """Return how many lines stand between two offsets, and their bytes; counted without parsing, which is quick."""
    lines, last, first = 0, start, start
    while start < end:
        block = read_at(fd, min(BLOCK, end - start), start)
        if not block:
            break
        lines += block.count(b"\n")
        last = start + block.rfind(b"\n") + 1 if b"\n" in block else last
        start += len(block)
    return lines, last - first


def existing_spools(paths: Paths) -> list[str]:
    """Return the existing spools: the one that `record` uses, and the fallback place it may have used."""
    return [place for place in paths.spool_dirs if os.path.isdir(place)]


def held_events(paths: Paths) -> int:
    """Return how many events wait in this user's spool; 0 if it is not readable."""
    try:
        return sum(contents(place).events for place in existing_spools(paths))
    except SpoolError:
        return 0
