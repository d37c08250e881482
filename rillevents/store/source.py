"""Where to read events from: the spool or a store, queried in the same way, with the same results for the same events."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from difflib import get_close_matches
from typing import TYPE_CHECKING, Protocol

from rillevents.errors import Busy, StoreError
from rillevents.event.pattern import matches
from rillevents.event.query import Query, decoded, find, newest
from rillevents.event.timestamp import microseconds, parse_time
from rillevents.local import Paths
from rillevents.spool import follow as spool_follow
from rillevents.spool.view import contents, existing_spools, ledger, pending

if TYPE_CHECKING:
    from rillevents.store.counts import Counts
    from rillevents.store.reader import Store


Block = tuple[Sequence[int | None], Sequence[bytes]]

_BLOCK = 1000
# So many events are looked at for a hint.
_NEWEST = 1000


class Source(Protocol):
    """A place with events, at *path*; *name* is what people are shown."""

    path: str
    name: str

    def lines(self, query: Query) -> Iterator[bytes]:
        """Yield the lines that *query* accepts."""

    def newest(self, query: Query, limit: int) -> list[bytes]:
        """Return the *limit* newest of them, oldest first."""

    def count(self, query: Query) -> int:
        """Return how many there are."""

    def follow(self, query: Query, *, sleep: Callable[[float], None]) -> Iterator[bytes]:
        """Yield the existing lines, and then, forever, new ones."""


class SpoolSource:
    """The events in this user's spool that are not delivered yet, in the order in which a flush would send them."""

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
        """Return how many there are; raises SpoolError."""
        return sum(1 for _ in self.lines(query))

    def follow(self, query: Query, *, sleep: Callable[[float], None]) -> Iterator[bytes]:
        """Yield the existing lines, and then, forever, those that are recorded; raises SpoolError."""
        lines = spool_follow.follow(self._places or [self.path], sleep=sleep)
        return (line for line, _ in find(lines, query))

    def blocks(self, query: Query, *, is_timed: bool) -> Iterator[Block]:
        """Yield the events in the time of *query*, in blocks for a Tally; one without a valid time unless *is_timed*."""
        from rillevents.event.envelope import required_fields

        times: list[int | None] = []
        lines: list[bytes] = []
        for line in self._all():
            us = microseconds_of(required_fields(line).event_time)
            if _is_within(us, line, query, is_timed):
                times.append(us)
                lines.append(line[:-1])
                if len(lines) >= _BLOCK:
                    yield times, lines
                    times, lines = [], []
        yield times, lines

    def oldest(self, query: Query, *, is_timed: bool) -> int | None:
        """Return the microsecond of the oldest event that *query* accepts."""
        from rillevents.event.tally import Tally

        tally = Tally(query)
        for times, lines in self.blocks(query, is_timed=is_timed):
            tally.add(times, lines)
        return tally.first

    def _all(self) -> Iterator[bytes]:
        return (line for place in self._places for line in pending(place))


class StoreSource:
    """The store at *path*; raises StoreError or Busy at once if it cannot be read."""

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
        """Return how many there are; raises StoreError, Busy."""
        with self.counts() as counts:
            found = counts.total(query)
        if found is not None:
            return found
        with self._open() as store:
            return store.count(query)

    def follow(self, query: Query, *, sleep: Callable[[float], None]) -> Iterator[bytes]:
        """Yield the existing lines, and then, forever, those that the server stores; raises StoreError."""
        from rillevents.store.follow import follow

        with self._open() as store:
            yield from follow(store, query, sleep=sleep)

    def blocks(self, query: Query, *, is_timed: bool) -> Iterator[Block]:
        """Yield the events in the time of *query*, in blocks for a Tally; every event of a store has a valid time."""
        from rillevents.store.reader import Filter

        with self._open() as store:
            found = Filter(query)
            for rows in store.pages(found):
                kept = (
                    [row for row in rows if row[0] not in found.edges or found.is_in_time(row[2])]
                    if found.edges
                    else rows
                )
                yield [us for us, _, _ in kept], [body or b"" for _, _, body in kept]

    def oldest(self, query: Query, *, is_timed: bool) -> int | None:
        """Return the microsecond of the oldest event with the type and the name of *query*, whatever its attributes."""
        from rillevents.store.reader import Filter

        found = Filter(query)
        with self._open() as store:
            sql = f"SELECT MIN(event_us) FROM events WHERE {found.condition} AND event_us BETWEEN ? AND ?"  # noqa: S608 - no value is in it
            least: int | None = store.file.rows(sql, (*found.values, found.low, found.high))[0][0]
            return least

    def counts(self) -> Counts:
        """Return what the store's tables of counts say; close it."""
        from rillevents.store.counts import Counts

        return Counts(self._open().file)

    def _open(self) -> Store:
        # Imported here: most commands only need the spool, and never load SQLite.
        from rillevents.store.reader import Store

        return Store(self.path)


def microseconds_of(text: str) -> int | None:
    """Return the microseconds since 1970 of an event's time in any form that is accepted, None if it is not valid."""
    try:
        return microseconds(text)
    except ValueError:
        pass
    try:
        return parse_time(text) // 1000
    except ValueError:
        return None


def _is_within(us: int | None, line: bytes, query: Query, is_timed: bool) -> bool:
    if us is None:
        return not is_timed
    for bound in (query.since, query.until):
        if bound is not None and us == bound // 1000 and bound % 1000:
            return Query(since=query.since, until=query.until).accepts(decoded(line))
    return (query.since is None or us * 1000 >= query.since) and (query.until is None or us * 1000 < query.until)


def source_of(paths: Paths, store: str) -> SpoolSource | StoreSource:
    """Return the store at that path, or the spool if no path is given; raises StoreError, Busy."""
    return StoreSource(store) if store else SpoolSource(paths)


def elsewhere(paths: Paths, source: Source, words: Sequence[str]) -> str:
    """Return where else there are events when *source* has none, and the command that shows them, or ""."""
    if not isinstance(source, SpoolSource):
        return ""
    found = []
    rejected = sum(contents(place).rejected for place in existing_spools(paths))
    if rejected:
        found.append(f"rejected: {rejected}, run: rillevents spool rejected")
    found += [_delivered(place) for place in existing_spools(paths)]
    path = paths.default_store
    stored = _count(path) if path else 0
    if stored:
        held = "1 event" if stored == 1 else f"{stored:,} events"
        found.append(f"the store {path} holds {held}, run: rillevents {shlex.join([*words, '--store', path])}")
    return "; ".join(filter(None, found))


def _delivered(spool: str) -> str:
    """Return where the last flush that delivered something took the events, with the command for a file, or ""."""
    state = ledger(spool)
    last = state.last_flush if state else {}
    to = last.get("to")
    if not last.get("delivered") or not isinstance(to, str) or not to:
        return ""
    count = "1 event was" if last["delivered"] == 1 else f"{last['delivered']:,} events were"
    told = f"{count} delivered to {to} at {last['at'][:19]}Z"
    return f"{told}, run: jq . {shlex.quote(to.removeprefix('file:'))}" if to.startswith("file:") else told


def names_like(source: Source, query: Query) -> str:
    """Return what the newest events are called, when the name or the type of *query* is one that none of them has, or ""."""
    wanted = [("event_type", query.event_type, "--type"), ("event_name", query.name, "--name")]
    if not (query.event_type or query.name):
        return ""
    # Not all events: with millions of them the hint would take longer than the answer.
    events = [decoded(line) for line in source.newest(Query(), _NEWEST)]
    for field, given, option in wanted:
        known = Counter(str(event[field]) for event in events)
        if given and known and not any(matches(name, given) for name in known):
            names = get_close_matches(given.strip("*?"), known, 3) or [name for name, _ in known.most_common(3)]
            return f"among the newest events, {option} can be {', '.join(shlex.quote(name) for name in names)}"
    return ""


def _count(path: str) -> int:
    try:
        return StoreSource(path).count(Query())
    except (StoreError, Busy):
        # Usually there is no store; and a user who does not use one need not hear that it is damaged.
        return 0
