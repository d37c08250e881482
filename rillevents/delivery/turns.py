"""Whose turn it is to deliver, among processes that know nothing of each other: one pass in an interval, fewer after failures.

Beside the events there is a file, `auto.json`. Its modification time says when the last pass began, so that one `stat` tells
whether the next is due; after failures that time lies in the future, for the back-off. Its content says how often passes failed,
and why; a pass that is killed has failed. Who makes a pass holds the file's lock. The file is not indispensable: without it a
pass is due.
"""

from __future__ import annotations

import os
import time

from rillevents.event import ndjson
from rillevents.local.files import (
    CLOEXEC,
    NO_FOLLOW,
    NONBLOCK,
    Moved,
    NoLocks,
    check_named,
    give_to_owner_of,
    lock,
    read_at,
    read_file,
    write_all,
)
from rillevents.spool import AUTO, LONGEST_BACKOFF, is_auto_due

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

_NS = 1_000_000_000
_MOST_BYTES = 4096


class Turns:
    """The turns of all processes that deliver the spool in *folder* (its `v1`) every so many seconds.

    *clock* returns seconds since 1970. Methods raise OSError if the folder cannot be written.
    """

    def __init__(self, folder: str, every: float, *, clock: Callable[[], float] = time.time) -> None:
        self._folder = folder
        self._path = f"{folder}/{AUTO}"
        self._every = every
        self._clock = clock
        self._fd = -1
        self._failures = 0
        self._began = 0.0

    def claim(self) -> bool:
        """Return whether the next pass is due and is ours to make: then it is nobody else's for an interval."""
        if not is_auto_due(self._folder, self._every, self._clock()):
            return False
        fd = self._locked()
        if fd < 0:
            return False
        try:
            is_new = os.fstat(fd).st_size == 0
            # Asked again: another process may have been quicker.
            if not is_new and not is_auto_due(self._folder, self._every, self._clock()):
                return False
            if is_new:
                _mark(fd)
            self._set_time(fd, self._clock())
        finally:
            os.close(fd)
        return True

    def begin(self) -> bool:
        """Take the lock for a pass, and note it as failed until it has ended; False if another process makes one."""
        fd = self._locked()
        if fd < 0:
            return False
        self._fd, self._began = fd, self._clock()
        self._failures = int(_read(read_at(fd, _MOST_BYTES, 0)).get("failures", 0))
        self._note(self._failures + 1, {"outcome": "temporary", "reason": "the last pass did not end"}, self._began)
        return True

    def end(self, outcome: str, reason: str, *, has_failed: bool | None) -> None:
        """Note how the pass ended, and release the lock; *has_failed* None leaves the failures before it as they were."""
        failures = self._failures if has_failed is None else self._failures + 1 if has_failed else 0
        try:
            self._note(failures, {"outcome": outcome, "reason": reason}, self._clock() if has_failed else self._began)
        finally:
            os.close(self._fd)
            self._fd = -1

    def _locked(self) -> int:
        """Return the file's descriptor, with its lock; -1 if another process has it."""
        fd = os.open(self._path, os.O_RDWR | os.O_CREAT | NO_FOLLOW | CLOEXEC | NONBLOCK, 0o600)
        try:
            found = os.fstat(fd)
            if lock(fd):
                check_named(self._path, found)
                give_to_owner_of(self._folder, fd)
                return fd
        except NoLocks:
            return fd
        except Moved:
            # Deleted or replaced meanwhile; the next command finds a new one.
            os.close(fd)
            return -1
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)
        return -1

    def _note(self, failures: int, told: Mapping[str, str], since: float) -> None:
        content = ndjson.dumps({"failures": failures, **told}).encode()
        try:
            os.ftruncate(self._fd, 0)
            os.lseek(self._fd, 0, os.SEEK_SET)
            write_all(self._fd, content)
        except OSError:
            # A full disk: it must not keep events from leaving.
            pass
        self._set_time(self._fd, since + (backoff(self._every, failures) if failures else self._every) - self._every)

    def _set_time(self, fd: int, seconds: float) -> None:
        os.utime(fd, ns=(int(seconds * _NS), int(seconds * _NS)))


def backoff(every: float, failures: int) -> float:
    """Return how many seconds after a failure the next pass is due: twice as many with each failure, up to ten minutes.

    Not at random: of one spool there is one pass at a time.
    """
    return max(every, min(LONGEST_BACKOFF, every * 2.0 ** min(failures, 40)))


def last_pass(folder: str) -> dict[str, Any]:
    """Return what is known of the last pass: `failures` in a row, `outcome` and `reason`; {} if there was none."""
    try:
        return _read(read_file(f"{folder}/{AUTO}", _MOST_BYTES) or b"")
    except OSError:
        return {}


def is_running(folder: str) -> bool:
    """Return whether a pass is being made at this moment; False where that cannot be told."""
    try:
        fd = os.open(f"{folder}/{AUTO}", os.O_RDWR | NO_FOLLOW | CLOEXEC | NONBLOCK)
    except OSError:
        return False
    try:
        return not lock(fd)
    except (OSError, NoLocks):
        return False
    finally:
        os.close(fd)


def forget_failures(folder: str) -> None:
    """Let the next pass be due as usual, after a flush that somebody asked for has delivered; raises OSError."""
    if not last_pass(folder).get("failures"):
        return
    turns = Turns(folder, 0.0)
    if turns.begin():
        turns.end("delivered", "", has_failed=False)


def _mark(fd: int) -> None:
    """Make a new file one that was claimed: an empty one is only about to be."""
    try:
        write_all(fd, b"{}")
    except OSError:
        return


def _read(content: bytes) -> dict[str, Any]:
    try:
        found = ndjson.loads(content.decode())
    except (ValueError, RecursionError):
        return {}
    if not isinstance(found, dict) or not isinstance(found.get("failures", 0), int):
        return {}
    return found
