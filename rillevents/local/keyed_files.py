"""Small files that are named by any text, and dropped some days later: those of sessions and timers."""

from __future__ import annotations

import os
import time

KEPT_SECONDS = 7 * 86_400


def hashed(*texts: str) -> str:
    """Return a file's name that is made of any texts, the same for the same texts."""
    # hashlib takes as long to import as an event to record.
    from _blake2 import blake2b

    joined = "\0".join(f"{len(text)}:{text}" for text in texts)
    return str(blake2b(joined.encode("utf-8", "surrogateescape"), digest_size=16).hexdigest())


def drop_old(folder: str) -> None:
    """Delete the files of a folder that nobody has written for seven days; raises OSError if it cannot be read."""
    now = time.time()
    for entry in os.scandir(folder):
        try:
            if entry.stat(follow_symlinks=False).st_mtime < now - KEPT_SECONDS:
                os.unlink(entry.path)
        except OSError:
            continue
