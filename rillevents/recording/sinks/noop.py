"""No destination: for people who opted out."""

from __future__ import annotations

from rillevents.recording.sinks import Sink

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rillevents.delivery.outcome import FlushResult
    from rillevents.event import Event


class NoopSink(Sink):
    """Discards everything, at once."""

    enabled = False

    def emit(self, event: Event) -> None:
        """Do nothing."""

    def close(self, timeout: float | None = None) -> None:
        """Do nothing."""

    def flush(self, timeout: float | None = None) -> FlushResult:
        """Return that telemetry is off."""
        from rillevents.delivery.outcome import FlushOutcome, FlushResult

        return FlushResult(FlushOutcome.OFF)
