"""Nowhere: for people who opted out."""

from __future__ import annotations

from rillevents.sinks import Sink

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rillevents.event import Event
    from rillevents.flusher import FlushResult


class NoopSink(Sink):
    """Discards everything, at once."""

    enabled = False
    closes_at_once = True

    def emit(self, event: Event) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""

    def flush(self, timeout: float | None = None) -> FlushResult:
        """Return that telemetry is off."""
        from rillevents.flusher import FlushResult

        return FlushResult("off")
