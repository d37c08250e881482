"""Events into Python's logging: for development."""

from __future__ import annotations

import logging

from rillevents.event import Event
from rillevents.event.muting import Muted
from rillevents.recording.sinks import Sink


class LoggerSink(Sink):
    """Logs every event as one line of JSON, at *level*; if the logger ignores that level, nothing is even encoded."""

    def __init__(self, logger: logging.Logger | None = None, level: int = logging.INFO) -> None:
        self._logger = logger or logging.getLogger("rillevents.events")
        self._level = level

    def emit(self, event: Event) -> None:
        """Log the event."""
        if self._logger.isEnabledFor(self._level):
            with Muted():
                self._logger.log(self._level, "%s", event.line.decode().rstrip("\n"))

    def close(self, timeout: float | None = None) -> None:
        """Do nothing: the logger is not ours."""
