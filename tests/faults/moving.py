"""What people do to a store under a server: they move it, delete it, back it up and put a backup back, and what must be there then.

Events that were answered for before a move are *safe*: they must be in the moved file or in one that was moved before. What was sent
before a store was deleted or replaced, and is neither safe nor in the backup, is *excused*: it may be gone.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import sqlite3
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from serving import rows, stored_ids

UNDER_WAY = (
    "store moved",
    "store moved to another folder",
    "store deleted",
    "store deleted with its journal",
    "backup made by `.backup`",
    "backup made by `VACUUM INTO`",
    "backup put back by `mv`",
    "backup put back by `rm`, `mv`",
)
AT_REST = tuple(f"{name}, after a kill" for name in (*UNDER_WAY[:4], *UNDER_WAY[6:]))


class Shelf:
    """The files that a campaign's store has become; *sent* and *answered* grow meanwhile."""

    def __init__(self, store: Path, sent: set[str], answered: set[str], times: Counter[str]) -> None:
        self.store = store
        self.times = times
        self.moved: list[Path] = []
        self.excused: set[str] = set()
        self.incomplete = 0
        self._sent, self._answered = sent, answered
        self._safe: set[str] = set()
        self._earlier: set[str] = set()
        self._backup: Path | None = None
        self._number = 0

    def play(self, rng: random.Random, *, is_served: bool) -> None:
        """Do something to the store, if it is there."""
        names = [*(UNDER_WAY if is_served else AT_REST)]
        rng.shuffle(names)
        name = min(names, key=lambda name: self.times[name])
        if is_served and not self._is_settled():
            return
        with contextlib.suppress(FileNotFoundError):
            self.times[name] += self._action(name)()

    def is_played(self) -> bool:
        """Return whether everything happened."""
        return all(self.times[name] for name in (*UNDER_WAY, *AT_REST))

    def _action(self, name: str) -> Callable[[], bool]:
        actions: dict[str, Callable[[], bool]] = {
            "store moved": lambda: self._move(self.store.parent),
            "store moved to another folder": lambda: self._move(self.store.parent / "archive"),
            "store deleted": lambda: self._delete(""),
            "store deleted with its journal": lambda: self._delete("", "-wal", "-shm"),
            "backup made by `.backup`": lambda: self._back_up("backup"),
            "backup made by `VACUUM INTO`": lambda: self._back_up("vacuum"),
            "backup put back by `mv`": lambda: self._restore(is_removed=False),
            "backup put back by `rm`, `mv`": lambda: self._restore(is_removed=True),
        }
        return actions[name.partition(", after")[0]]

    def _is_settled(self) -> bool:
        """Wait until a server has opened what is there: for that long, no other program may open it."""
        end = time.monotonic() + 5
        while time.monotonic() < end:
            with contextlib.suppress(OSError):
                if os.path.samefile(self.store, f"{self.store}-held") and os.path.exists(f"{self.store}-wal"):
                    return True
            time.sleep(0.02)
        return False

    def _new(self, folder: Path, what: str) -> Path:
        folder.mkdir(exist_ok=True)
        self._number += 1
        return folder / f"{what}-{self._number}.db"

    def _move(self, folder: Path) -> bool:
        # What was excused is not safe: it may be only in a backup that was put back, and go with it.
        before, target = self._answered - self.excused, self._new(folder, "moved")
        os.rename(self.store, target)
        self.moved.append(target)
        self._safe |= before
        self._earlier = set(self._sent)
        return True

    def _delete(self, *suffixes: str) -> bool:
        for suffix in suffixes:
            Path(f"{self.store}{suffix}").unlink(missing_ok=bool(suffix))
        self._earlier = set(self._sent)
        self.excused |= self._earlier - self._safe
        return True

    def _back_up(self, how: str) -> bool:
        expected, target = set(self._answered), self._new(self.store.parent, "backup")
        with contextlib.closing(sqlite3.connect(f"file:{self.store}?mode=rw", uri=True, timeout=30)) as connection:
            if how == "vacuum":
                connection.execute("VACUUM INTO ?", (str(target),))
            else:
                with contextlib.closing(sqlite3.connect(target)) as other:
                    connection.backup(other)
        self._backup = target
        # What was sent before the last move may be in an earlier file.
        missing = expected - self._earlier - set(stored_ids(target))
        self.incomplete += bool(missing) or rows(target, "PRAGMA integrity_check") != ["ok"]
        return True

    def _restore(self, *, is_removed: bool) -> bool:
        if self._backup is None:
            return False
        copy, ids = self._new(self.store.parent, "copy"), set(stored_ids(self._backup))
        shutil.copy(self._backup, copy)
        if is_removed:
            os.unlink(self.store)
        # Not by `cp`: under load there is a new store at once, and `cp` would write into that.
        os.rename(copy, self.store)
        self._earlier = set(self._sent)
        self.excused = (self.excused | (self._earlier - self._safe)) - ids
        return True

    def files(self) -> list[Path]:
        """Return the files that must have everything."""
        return [*self.moved, self.store]

    def damaged(self) -> int:
        """Return how many files are damaged, or were put aside as damaged."""
        broken = sum(rows(path, "PRAGMA integrity_check") != ["ok"] for path in self.files())
        return broken + len(list(self.store.parent.glob("*.corrupt-*")))
