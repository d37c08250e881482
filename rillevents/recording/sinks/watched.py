"""The user's spool in a program that runs on: whether telemetry is on is asked again for each event."""

from __future__ import annotations

from collections.abc import Callable
from os import access, fsencode, stat
from typing import Any

from rillevents.recording.sinks.spool import SpoolSink


class WatchedSpoolSink(SpoolSink):
    """A SpoolSink that is disabled while the user has telemetry off.

    *decide* is asked when *file*, the user's decision, has changed. For each event the file's status is read, and where there is
    no file only whether that is still so, which costs half.
    """

    def __init__(self, *args: Any, file: str, decide: Callable[[], bool], **options: Any) -> None:
        super().__init__(*args, **options)
        # As bytes: a text would be encoded again for every event.
        self._file = fsencode(file)
        self._decide = decide
        self._is_missing = self._is_on = False
        # Of no file, so that it is asked about now: later a program may have no descriptor left to ask with.
        self._seen: tuple[int, ...] | None = ()
        self._look()

    @property
    def enabled(self) -> bool:  # type: ignore[override]
        """Whether telemetry is on now."""
        if self._is_missing and not access(self._file, 0):
            return self._is_on
        return self._look()

    def _look(self) -> bool:
        seen = _status(self._file)
        if seen != self._seen:
            # The decision first: where another thread looks meanwhile, it must not find a new status with an old decision.
            self._is_on = self._decide()
            self._seen = seen
            self._is_missing = seen is None
        return self._is_on


def _status(file: bytes) -> tuple[int, ...] | None:
    try:
        found = stat(file)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError:
        return (0,)
    return found.st_ino, found.st_mtime_ns, found.st_size, found.st_mode
