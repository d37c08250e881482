"""Holds slots of a spool until it is killed, as a process does that was stopped within its write: FOLDER and how many."""

from __future__ import annotations

import fcntl
import os
import sys
import time


def main(folder: str, count: int) -> None:
    """Lock the first *count* slots, say so, and stay."""
    for number in range(count):
        # Never closed: the lock goes with the descriptor.
        slot = os.open(f"{folder}/slot-{number}.ndjson", os.O_RDWR | os.O_CREAT, 0o600)
        fcntl.flock(slot, fcntl.LOCK_EX)
    print("held", flush=True)
    time.sleep(86400)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
