"""A growing spool: every line once, while files are renamed and vanish."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator, Sequence

from rillevents.local.files import CLOEXEC, NO_FOLLOW, NONBLOCK
from rillevents.spool import READ_PREFIXES, SLOT, SUFFIX, check
from rillevents.spool.lines import complete_lines
from rillevents.spool.state import load, trusted_offset

_POLL_SECONDS = 0.2


def follow(spools: Sequence[str], *, sleep: Callable[[float], None]) -> Iterator[bytes]:
    """Yield the lines of *spools* that are not delivered yet, and then, forever, new ones."""
    seen: dict[tuple[int, int], int] = {}
    while True:
        for spool in spools:
            folder = check(spool)
            if folder:
                yield from _news(folder, seen)
        sleep(_POLL_SECONDS)


def _news(folder: str, seen: dict[tuple[int, int], int]) -> Iterator[bytes]:
    offsets = load(folder).offsets
    for name in sorted(os.listdir(folder)):
        if not name.startswith((*READ_PREFIXES, SLOT)) or not name.endswith(SUFFIX):
            continue
        try:
            fd = os.open(f"{folder}/{name}", os.O_RDONLY | NO_FOLLOW | CLOEXEC | NONBLOCK)
        except OSError:
            continue
        try:
            found = os.fstat(fd)
            if stat.S_ISREG(found.st_mode):
                # By inode, not by name: a flush renames slots whose lines were shown already.
                file = (found.st_dev, found.st_ino)
                start = max(seen.get(file, 0), trusted_offset(fd, offsets.get(name)))
                for line in complete_lines(fd, start if start <= found.st_size else 0, found.st_size):
                    seen[file] = line.end
                    if line.good:
                        yield line.good
        finally:
            os.close(fd)
