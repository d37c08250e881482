"""Where events are looked for: the spool, or a store; asked the same way, and with the same answers for the same events."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Protocol

from rillevents.errors import Busy, StoreError
from rillevents.event.query import Query, find, newest
from rillevents.local import Paths
from rillevents.spool import follow as spool_follow
from rillevents.spool.view import contents, existing_spools, pending

if TYPE_CHECKING:
    from rillevents.store.reader import Store


class Source(Protocol):
    """Somewhere that events are: at *path*, and by the *name* that people are told."""

    path: str
    name: str

    def lines(self, query: Query) -> Iterator[bytes]:
        """Yield the lines that *query* accepts."""

    def newest(self, query: Query, limit: int) -> list[bytes]:
        """Return the *limit* newest of them, oldest first."""

    def count(self, query: Query) -> int:
        """Return how many they are."""

    def follow(self, query: Query, *, sleep: Callable[[float], None]) -> Iterator[bytes]:
        """Yield those that are there, and then, for ever, those that come."""


class SpoolSource:
    """What is in this user's spool and not delivered yet, in the order in which a flush would send it."""

    name = "the spool"

    def __init__(self, paths: Paths) -> None:
        self._places = existing_spools(paths)
        self.path = paths.spool_dir

    def lines(self, query: Query) -> Iterator[bytes]:
        """Yield the lines that *query* accepts; raises SpoolError."""
        return (line for line, _ in find(self._all(), query))

    def newest(self, query: Query, limit: int) -> list[bytes]:
        """Return the *limit* newest of them, oldest first; raises SpoolError."""
        return [line for line, _ in newest(find(self._all(), query), limit)]

    def count(self, query: Query) -> int:
        """Return how many they are; raises SpoolError."""
        return sum(1 for _ in self.lines(query))

    def follow(self, query: Query, *, sleep: Callable[[float], None]) -> Iterator[bytes]:
        """Yield those that are there, and then, for ever, those that are recorded; raises SpoolError."""
        lines = spool_follow.follow(self._places or [self.path], sleep=sleep)
        return (line for line, _ in find(lines, query))

    def _all(self) -> Iterator[bytes]:
        return (line for place in self._places for line in pending(place))


class StoreSource:
    """The store at *path*; raises StoreError at once where it cannot be read, or Busy."""

    def __init__(self, path: str) -> None:
        self.path = path
        with self._open() as store:
            store.has_events()
            self.path = self.name = store.file.path

    def lines(self, query: Query) -> Iterator[bytes]:
        """Yield the lines that *query* accepts, oldest first; raises StoreError, Busy."""
        with self._open() as store:
            yield from store.lines(query)

    def newest(self, query: Query, limit: int) -> list[bytes]:
        """Return the *limit* newest of them, oldest first; raises StoreError, Busy."""
        with self._open() as store:
            return store.newest(query, limit)

    def count(self, query: Query) -> int:
        """Return how many they are; raises StoreError, Busy."""
        with self._open() as store:
            return store.count(query)

    def follow(self, query: Query, *, sleep: Callable[[float], None]) -> Iterator[bytes]:
        """Yield those that are there, and then, for ever, those that the server stores; raises StoreError."""
        from rillevents.store.follow import follow

        with self._open() as store:
            yield from follow(store, query, sleep=sleep)

    def _open(self) -> Store:
        # Here, not above: because most commands have to do with the spool alone, and never load SQLite.
        from rillevents.store.reader import Store

        return Store(self.path)


def source_of(paths: Paths, store: str) -> SpoolSource | StoreSource:
    """Return the store at that path, or the spool where there is none; raises StoreError, Busy."""
    return StoreSource(store) if store else SpoolSource(paths)


def elsewhere(paths: Paths, source: Source, words: Sequence[str]) -> str:
    """Return where else there are events when *source* has none, and how to see them by the command *words*; or nothing."""
    if not isinstance(source, SpoolSource):
        return ""
    found = []
    rejected = sum(contents(place).rejected for place in existing_spools(paths))
    if rejected:
        found.append(f"rejected: {rejected}, run: rillevents spool rejected")
    path = paths.default_store
    stored = _count(path) if path else 0
    if stored:
        held = "1 event" if stored == 1 else f"{stored:,} events"
        found.append(f"the store {path} holds {held}, run: rillevents {shlex.join([*words, '--store', path])}")
    return "; ".join(found)


def _count(path: str) -> int:
    try:
        return StoreSource(path).count(Query())
    except (StoreError, Busy):
        # None there, most of the time; and who does not use it need not hear that it is damaged.
        return 0
