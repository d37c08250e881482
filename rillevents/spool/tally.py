"""Counts that writers make (truncated, refused, dropped): lines beside the events, which the flusher adds to the ledger.

Lines are appended: with one number that is read, increased and written back, writers would have to wait for each other.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from rillevents.errors import SpoolError
from rillevents.event import ndjson
from rillevents.local.files import CLOEXEC, NO_FOLLOW, NONBLOCK, Moved, check_named, lock_to_unlink, read_file
from rillevents.spool import SUFFIX, TALLY, create, listed, unique
from rillevents.spool.slots import append

if TYPE_CHECKING:
    from rillevents.spool.state import State

_MAX_BYTES = 16 << 20
# No writer counts this far: such a line is damaged.
_TOO_MANY = 1 << 53


def add(spool: str, kind: str, reason: str = "", n: int = 1) -> bool:
    """Count *n* events that were changed before they were stored, or not stored; False if the count cannot be written."""
    line = ndjson.dumps({"count": kind, "reason": reason, "n": n}).encode() + b"\n"
    try:
        append(create(spool), line, max_bytes=_MAX_BYTES, prefix=TALLY)
    except SpoolError:
        return False
    return True


def names(folder: str) -> list[str]:
    """Return the files that hold counts."""
    return sorted(name for name in listed(folder) if name.startswith(TALLY) and name.endswith(SUFFIX))


def fold(folder: str, state: State, save: Callable[[], bool], now_ns: Callable[[], int]) -> None:
    """Add all counts to the ledger, exactly once: the saved ledger names a file before the file is unlinked."""
    for name in names(folder):
        try:
            _fold_file(folder, name, state, save, now_ns)
        except (OSError, Moved):
            # Gone, or in use: the next flush finds it.
            continue


def _fold_file(folder: str, name: str, state: State, save: Callable[[], bool], now_ns: Callable[[], int]) -> None:
    path = f"{folder}/{name}"
    fd = os.open(path, os.O_RDWR | NO_FOLLOW | CLOEXEC | NONBLOCK)
    try:
        if not lock_to_unlink(fd):
            return
        check_named(path, os.fstat(fd))
        if len(name) < len(TALLY) + 20:
            name = unique(TALLY, now_ns())
            os.rename(path, f"{folder}/{name}")
        if name not in state.folded:
            read_into(state, folder, name)
            state.folded.append(name)
            if not save():
                # The counts are only in this file, so it stays.
                return
        os.unlink(f"{folder}/{name}")
        state.folded.remove(name)
    finally:
        os.close(fd)


def read_into(state: State, folder: str, name: str) -> None:
    """Add the counts of one file to *state*, ignoring invalid lines. Raises OSError."""
    for kind, reason, n in _entries(f"{folder}/{name}"):
        state.count(kind, reason, n)


def _entries(path: str) -> Iterator[tuple[str, str, int]]:
    # Not at the top: a program that only records has no other need of it.
    import json

    for line in (read_file(path, _MAX_BYTES) or b"").splitlines():
        try:
            entry = json.loads(line)
            kind, reason, n = str(entry["count"]), str(entry["reason"]), int(entry["n"])
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
            continue
        if 0 < n < _TOO_MANY:
            yield kind, reason, n
