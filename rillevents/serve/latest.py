"""The latest events that a forwarding server has passed on: what there is to view when nothing is stored."""

from __future__ import annotations

import secrets
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

from rillevents.event import format_time
from rillevents.event.envelope import Required
from rillevents.event.fields import Attributes
from rillevents.event.query import Query
from rillevents.event.timestamp import microseconds
from rillevents.store.glance import Page, Window, by_type, cursor, value_of
from rillevents.store.incoming import Incoming
from rillevents.store.reader import Counted, RejectedRow

RECENT = 1000
_MOST_BYTES = 4 << 20


class _Passed(NamedTuple):
    number: int
    us: int
    fields: Required
    line: bytes


class Latest:
    """Keeps the latest events and the latest invalid lines; any thread may query it like a `BoundedReader` while one thread adds.

    *refused* returns the events that the destination refused.
    """

    def __init__(self, refused: Callable[[int], Iterable[RejectedRow]] = lambda limit: ()) -> None:
        self._passed: deque[_Passed] = deque(maxlen=RECENT)
        self._bad: deque[RejectedRow] = deque(maxlen=RECENT)
        self._number = 0
        self._refused = refused
        # A cursor from an earlier run of the server is thereby invalid.
        self._run = secrets.token_hex(4)

    def add(self, incoming: Incoming) -> None:
        """Add the events and invalid lines of one request; older ones drop out."""
        for fields, line in zip(incoming.fields, incoming.lines, strict=True):
            self._number += 1
            self._passed.append(_Passed(self._number, microseconds(fields.event_time), fields, line))
        at = format_time(incoming.received_us * 1000)
        for bad in incoming.bad:
            self._bad.append(RejectedRow(at, incoming.stream, bad.reason, "", bad.line.decode("utf-8", "replace")))

    def newest(self, query: Query, limit: int) -> Page:
        """Return the newest events that *query* accepts, by their time."""
        number = self._number
        found = sorted(self._found(query), key=lambda passed: (passed.us, passed.number), reverse=True)
        lines = _fitting(found[:limit])
        return Page(lines[::-1], cursor(number, self._run), len(lines) == len(found))

    def after(self, given: str, query: Query, limit: int) -> Page:
        """Return the events after a cursor that *query* accepts, in the order of arrival."""
        number, end = int(given.partition("-")[0]), self._number
        # Also start anew if more has passed than is kept: the list would have a hole.
        if given != cursor(number, self._run) or number > end or number < end - RECENT:
            return replace(self.newest(query, limit), reset=True)
        found = [passed for passed in self._found(query) if number < passed.number <= end]
        lines = _fitting(found[:limit])
        complete = len(lines) == len(found)
        last = end if complete else found[len(lines) - 1].number
        return Page(lines, cursor(last, self._run), complete)

    def rejected(self, limit: int) -> tuple[list[RejectedRow], int]:
        """Return the invalid lines and the events that the destination refused, the newest first."""
        found = [*self._bad.copy(), *self._refused(RECENT)]
        found.sort(key=lambda each: each.received_at, reverse=True)
        return found[:limit], len(found)

    def counts(self, since: int, until: int, *, buckets: int, limit: int) -> Window:
        """Return how many of the latest events fall into each bucket of a time range."""
        return self.kept_counts(Query(since=since, until=until), buckets=buckets, limit=limit)

    def kept_counts(self, query: Query, *, buckets: int, limit: int) -> Window:
        """Return the same for the events that *query* accepts; its times must be set."""
        since, until = query.since or 0, query.until or 0
        first, width = since // 1000, max(1, -(-(until - since) // 1000 // buckets))
        found = list(self._found(query))
        kinds = Counter((each.fields.event_type, each.fields.event_name) for each in found)
        most = sorted(kinds, key=lambda kind: (-kinds[kind], kind))[:limit]
        parts = {kind: [0] * buckets for kind in kinds}
        for each in found:
            parts[each.fields.event_type, each.fields.event_name][min((each.us - first) // width, buckets - 1)] += 1
        return Window(since, until, len(found), [Counted(*kind, parts[kind]) for kind in most], by_type(parts))

    def blocks(self, query: Query) -> tuple[int, Iterator[tuple[list[int], list[bytes]]]]:
        """Return from which nanosecond on events are read, and the times and the lines in one block."""
        found = self._found(query)
        return query.since or 0, iter([([each.us for each in found], [each.line.rstrip(b"\n") for each in found])])

    def values(self, query: Query) -> tuple[Sequence[float], bool]:
        """Return the `value` numbers of the latest events."""
        return [value for passed in self._found(query) for value in value_of(passed.line)], True

    def close(self) -> None:
        """Do nothing: there is no file."""

    def _found(self, query: Query) -> list[_Passed]:
        # A copy made in one step: the server goes on adding meanwhile.
        return [passed for passed in self._passed.copy() if _accepts(query, passed)]


def _accepts(query: Query, passed: _Passed) -> bool:
    fields = passed.fields
    required = {
        "event_type": fields.event_type,
        "event_name": fields.event_name,
        "event_time": fields.event_time,
    }
    if not replace(query, attributes=()).accepts(required):
        return False
    return not query.attributes or Attributes(query.attributes).accepted([passed.line.rstrip(b"\n")])[0]


def _fitting(found: list[_Passed]) -> list[bytes]:
    """Return the first lines, as many as fit into one answer."""
    lines, held = [], 0
    for passed in found:
        held += len(passed.line)
        if held > _MOST_BYTES:
            break
        lines.append(passed.line)
    return lines
