"""Some of them: sinks around a sink that leave events, or attributes of events, out."""

from __future__ import annotations

from rillevents.sinks import Sink

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

    from rillevents.event import Event
    from rillevents.flusher import FlushResult


class FilterSink(Sink):
    """Hands on the events for which *keep* returns true; the others are counted as dropped, by the reason `filter`."""

    def __init__(self, sink: Sink, keep: Callable[[Event], bool]) -> None:
        self._sink = sink
        self._keep = keep
        self.enabled = getattr(sink, "enabled", True)

    def emit(self, event: Event) -> None:
        """Hand the event on, or drop it."""
        if self._keep(event):
            self._sink.emit(event)
        else:
            self.count("dropped", "filter")

    def close(self) -> None:
        """Close the sink behind."""
        self._sink.close()

    def close_within(self, timeout: float) -> None:
        """Close the sink behind, waiting at most *timeout* seconds for it."""
        within = getattr(self._sink, "close_within", None)
        if within:
            within(timeout)
        else:
            super().close_within(timeout)

    def count(self, kind: str, reason: str = "", n: int = 1) -> None:
        """Let the sink behind count."""
        count = getattr(self._sink, "count", None)
        if count:
            count(kind, reason, n)

    def flush(self, timeout: float | None = None) -> FlushResult:
        """Flush the sink behind."""
        return self._sink.flush(timeout) if hasattr(self._sink, "flush") else super().flush(timeout)


class ConfiguredFilterSink(FilterSink):
    """Applies `[filter]` of config.toml: drops events by type or name, and attributes by key. Raw events pass as they are."""

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
        """Hand the event on without the attributes that are to be left out, or drop it."""
        if not event.is_raw and not self._attributes.isdisjoint(event.attributes):
            event = event.replace(
                {key: value for key, value in event.attributes.items() if key not in self._attributes}
            )
        super().emit(event)


def is_pattern(glob: str) -> bool:
    """Return whether *glob* may match another name than the one that it is."""
    return any(sign in glob for sign in "*?[")


def matches(name: str, glob: str) -> bool:
    """Return whether *name* is like *glob*; `fnmatch` (and with it `re`) is only loaded for a real pattern."""
    if not is_pattern(glob):
        return name == glob
    from fnmatch import fnmatchcase

    return fnmatchcase(name, glob)
