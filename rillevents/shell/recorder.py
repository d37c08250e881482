"""The process beside a wrapped command that records its events, so that a slow or hanging home holds nothing up.

It is forked before the command, with all signals blocked that are passed on, and holds no descriptor of it. It records nothing
before it is told to, through a pipe, a line each, and says through another what a person should read. If it is late, it is left
alone, and goes on.
"""

from __future__ import annotations

import os
import select
import sys
import time
from _signal import SIGHUP, SIGINT, SIGQUIT, SIGTERM, sigpending  # type: ignore[import-not-found]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

    from rillevents.shell.ending import Ended

# So long is waited for an event to be stored: a disk that works takes a hundredth of it.
_STORE_SECONDS = 2.0
# After a signal somebody may be about to kill us.
_SECONDS_AFTER_SIGNAL = 2.0
_ENDING = frozenset((SIGTERM, SIGHUP, SIGQUIT, SIGINT))


class Plan:
    """What is to be recorded of a command: a name for its events, attributes, and in how many seconds they are delivered.

    *args*, if they are to be recorded, are the command's arguments as they are.
    """

    __slots__ = ("args", "attributes", "ci", "flush", "name")

    def __init__(
        self,
        name: str,
        attributes: dict[str, Any],
        *,
        args: Sequence[str] | None = None,
        ci: bool = False,
        flush: float = 0.0,
    ) -> None:
        self.name = name
        self.attributes = attributes
        self.args = args
        self.ci = ci
        self.flush = flush


def _pipe() -> tuple[int, int]:
    """Return a pipe away from 0, 1 and 2, which may be closed here, and are the null device in the other process."""
    import fcntl

    ends = os.pipe()
    moved = [fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 3) if end < 3 else end for end in ends]
    for end, kept in zip(ends, moved, strict=True):
        if end != kept:
            os.close(end)
    return moved[0], moved[1]


class Recorder:
    """The other end of the recording process; it never raises, and `finish` never takes longer than it says."""

    def __init__(self, plan: Plan, record: Callable[[Plan, int, int], None]) -> None:
        """Fork the process; *record* runs there, with descriptors to read from and to write to."""
        self._plan = plan
        self.is_late = False
        self._is_told = False
        self._by_signal = False
        self._to, self._from, self._pid = -1, -1, 0
        self._read, self._is_decided = b"", False
        try:
            reading, self._to = _pipe()
            self._from, writing = _pipe()
            self._pid = os.fork()
        except OSError:
            return
        if self._pid == 0:
            _run_apart(lambda: record(plan, reading, writing), (reading, writing))
        os.close(reading)
        os.close(writing)

    def decided(self, seconds: float) -> tuple[bool, list[str]]:
        """Return whether telemetry is on, as far as that is known after *seconds*, and what a person should read if it is off.

        If it is off, the process has ended: a command that takes our place must not find a child.
        """
        if self._from < 0 or not _is_readable(self._from, seconds):
            # Not known yet: what is told to it is recorded once it knows that it may be.
            return True, []
        self._read = os.read(self._from, 1 << 16)
        first, _, self._read = self._read.partition(b"\n")
        self._is_decided = True
        if first != b"off":
            return True, []
        os.waitpid(self._pid, 0)
        os.close(self._to)
        return False, self._read.decode("utf-8", "replace").splitlines()

    def note_start(self, started_ns: int) -> None:
        """Record the start, at a time in nanoseconds since 1970."""
        self._tell({"started_ns": started_ns})

    def note_signal(self, number: int, seconds: float) -> None:
        """Record the end at once: who sends such a signal may send a KILL in a moment. Later ones change nothing."""
        self._by_signal = True
        self._tell_end({"signal": number, "duration_s": seconds})

    def finish(self, ended: Ended) -> list[str]:
        """Record how the command ended, wait for that, and return what a person should read."""
        told: dict[str, Any] = {"signal": ended.signal} if ended.signal else {"exit_code": ended.exit_code}
        told |= {"duration_s": ended.seconds, "user_s": ended.user_s, "system_s": ended.system_s}
        self._tell_end({**told, "max_rss_bytes": ended.max_rss_bytes})
        # The terminal's Ctrl-C is one, too, if the command ended by it.
        is_urgent = self._by_signal or ended.signal in _ENDING
        flush = min(self._plan.flush, _SECONDS_AFTER_SIGNAL) if is_urgent else self._plan.flush
        # A part of the time is for what is no delivery.
        self._tell({"flush": 0.8 * flush})
        if self._to >= 0:
            os.close(self._to)
        return self._messages(max(_STORE_SECONDS, flush))

    def _tell_end(self, fields: dict[str, Any]) -> None:
        if not self._is_told:
            self._is_told = True
            self._tell(fields)

    def _tell(self, fields: Mapping[str, Any]) -> None:
        try:
            # JSON, of numbers alone.
            os.write(
                self._to, b"{%b}\n" % ",".join(f'"{key}":{_rounded(value)!r}' for key, value in fields.items()).encode()
            )
        except OSError:
            # It has ended, and has said why, or there never was one.
            return

    def _messages(self, seconds: float) -> list[str]:
        if self._from < 0:
            return ["nothing was recorded: no process could be started"]
        by, told = time.monotonic() + seconds, self._read
        while (left := by - time.monotonic()) > 0:
            if not sigpending().isdisjoint(_ENDING):
                # Somebody wants us to end, now that the command has.
                by = min(by, time.monotonic() + _SECONDS_AFTER_SIGNAL / 2)
            if not _is_readable(self._from, min(left, 0.2)):
                continue
            piece = os.read(self._from, 1 << 16)
            if not piece:
                # It has ended: nobody else may be there to take it in.
                os.waitpid(self._pid, 0)
                return self._lines(told)
            told += piece
        self.is_late = True
        return [*self._lines(told), "the events could not be stored in time; storing them goes on"]

    def _lines(self, told: bytes) -> list[str]:
        lines = told.decode("utf-8", "replace").splitlines()
        # The decision, if it came late.
        return lines if self._is_decided else lines[1:]


def _is_readable(fd: int, seconds: float) -> bool:
    # Not select: it refuses descriptors from 1024 on.
    waiting = select.poll()
    waiting.register(fd, select.POLLIN)
    return bool(waiting.poll(max(0, seconds) * 1000))


def _rounded(value: float) -> float:
    """Return a number of seconds to the microsecond; a whole number as it is."""
    return round(value, 6) if isinstance(value, float) else value


def _run_apart(work: Callable[[], None], kept: tuple[int, int]) -> None:
    """Run *work* in this forked process, away from everything that the command uses; never returns."""
    try:
        null = os.open(os.devnull, os.O_RDWR)
        for number in (0, 1, 2):
            os.dup2(null, number)
        sys.stdin = sys.stdout = sys.stderr = None
        _close_others(kept)
        work()
    finally:
        os._exit(0)


def _close_others(kept: tuple[int, int]) -> None:
    """Close the command's descriptors: who waits for them to be closed must not wait for us."""
    first = 3
    for number in sorted(kept):
        os.closerange(first, number)
        first = number + 1
    os.closerange(first, 1 << 20)
