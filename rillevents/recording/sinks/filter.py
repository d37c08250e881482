"""Filters: sinks around another sink that leave out events, or attributes of events."""

from __future__ import annotations

from rillevents.event.muting import Muted
from rillevents.event.pattern import matches
from rillevents.recording.sinks import Sink, adapted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

    from rillevents.delivery.outcome import FlushResult
    from rillevents.event import Event


class FilterSink(Sink):
    """Passes on the events for which *keep* returns true; the others are counted as dropped, with the reason `filter`."""

    def __init__(self, sink: Sink, keep: Callable[[Event], bool]) -> None:
        self._sink = adapted(sink)
        self._keep = keep

    @property
    def enabled(self) -> bool:  # type: ignore[override]
        """Whether the sink behind is enabled now."""
        return self._sink.enabled

    def emit(self, event: Event) -> None:
        """Pass the event on, or drop it."""
        with Muted():
            wanted = self._keep(event)
        if wanted:
            self._sink.emit(event)
        else:
            self.count("dropped", "filter")

    def close(self, timeout: float | None = None) -> None:
        """Close the sink behind, in at most *timeout* seconds."""
        self._sink.close(timeout)

    def count(self, kind: str, reason: str = "", n: int = 1) -> None:
        """Let the sink behind count."""
        self._sink.count(kind, reason, n)

    def flush(self, timeout: float | None = None) -> FlushResult:
        """Flush the sink behind."""
        return self._sink.flush(timeout)


class ConfiguredFilterSink(FilterSink):
    """Applies `[filter]` of config.toml: drops events by type or name, and attributes by key. Raw events pass unchanged."""

    def __init__(self, sink: Sink, settings: Mapping[str, Any]) -> None:
        super().__init__(sink, self._wanted)
        self._types: Sequence[str] = settings.get("drop_types", ())
        self._names: Sequence[str] = settings.get("drop_names", ())
        self._attributes = frozenset(settings.get("drop_attributes", ()))

    def _wanted(self, event: Event) -> bool:
        if event.is_raw:
            return True
        return event.event_type not in self._types and not any(matches(event.event_name, glob) for glob in self._names)

    def emit(self, event: Event) -> None:
        """Pass the event on without the filtered attributes, or drop it."""
        if not event.is_raw and not self._attributes.isdisjoint(event.attributes):
            event = event.replace(
                {key: value for key, value in event.attributes.items() if key not in self._attributes}
            )
        super().emit(event)
