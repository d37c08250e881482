"""What people may look at: the events of a store, or the latest that went by, as JSON."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping

from rillevents.serve.answer import Answer
from rillevents.store.incoming import Incoming, Stored

Show = Callable[[Mapping[str, str]], Answer]
_RECENT = 1000


class Look:
    """What can be looked at; `note` is told of every request that was stored."""

    def note(self, incoming: Incoming, stored: Stored) -> None:
        """Take notice of what was stored."""

    def paths(self) -> Mapping[str, Show]:
        """Return what there is to see, by path."""
        return {}


class StoreLook(Look):
    """Looks into a store."""

    def __init__(self, path: str) -> None:
        self._path = path


class Recent(Look):
    """Keeps the latest events, where there is no store to look into."""

    def __init__(self) -> None:
        self._lines: deque[bytes] = deque(maxlen=_RECENT)

    def note(self, incoming: Incoming, stored: Stored) -> None:
        """Keep the lines."""
        self._lines.extend(incoming.lines)
