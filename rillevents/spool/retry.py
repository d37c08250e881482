"""Rejected events, back into the spool."""

from __future__ import annotations

import os

from rillevents.spool.append import write_own_file
from rillevents.spool.drain import Drain
from rillevents.spool.folder import DONE, REJECTED, check
from rillevents.spool.quarantine import read_rejected, rejected_names

_NO_LIMIT = 1 << 62


def retry(spool: str) -> int:
    """Put every rejected event of *spool* back, byte for byte as it was recorded, and return how many there were.

    Killed under way, some may be in both places, and none in neither. Raises Busy while a flush is at it, OSError.
    """
    folder = check(spool)
    if not folder:
        return 0
    count = 0
    with Drain(folder) as drain:
        for name in rejected_names(folder):
            lines = [entry.line for entry in read_rejected(folder, name)]
            if lines:
                write_own_file(folder, b"".join(lines), max_bytes=_NO_LIMIT, durable=True, prefix=DONE)
            os.unlink(f"{folder}/{REJECTED}/{name}")
            drain.state.count("rejected", n=-len(lines))
            count += len(lines)
    return count
