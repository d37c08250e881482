"""A tap: shows an event as it is stored."""

from __future__ import annotations

import sys

from rillevents.recording.sinks import Sink

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rillevents.event import Event


class TapSink(Sink):
    """Keeps the line of the last event, and passes it on to the sink *behind* if there is one."""

    def __init__(self) -> None:
        self.behind: Sink | None = None
        self.line = b""

    def emit(self, event: Event) -> None:
        """Pass the event on, and keep its line once that succeeded."""
        if self.behind:
            self.behind.emit(event)
        self.line = event.line

    def close(self, timeout: float | None = None) -> None:
        """Close the sink behind."""
        if self.behind:
            self.behind.close(timeout)

    def count(self, kind: str, reason: str = "", n: int = 1) -> None:
        """Let the sink behind count."""
        if self.behind:
            self.behind.count(kind, reason, n)


class PrintingSink(TapSink):
    """Prints each event to stderr as well."""

    def emit(self, event: Event) -> None:
        """Pass the event on, and print its line once that succeeded."""
        super().emit(event)
        if sys.stderr is not None:
            sys.stderr.write(event.line.decode())
