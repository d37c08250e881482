"""The installs of a time range, read from its events: how many, how many of them new, and how often one event follows another."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from itertools import repeat
from typing import Any

from rillevents.event.fields import Attributes, Fields
from rillevents.event.pattern import exactly
from rillevents.event.query import Query
from rillevents.serve.breakdown import Blocks, Reader

_KEY = "install_id"


def installs_read(seeing: Reader, query: Query, buckets: int, beginning: int) -> dict[str, Any]:
    """Return how many installs have events that *query* accepts, and how many have their first one there, in all and by bucket.

    The times of *query* must be set and divide into *buckets* of whole microseconds; it has no name. Events from *beginning* on,
    in nanoseconds, can be the first one of an install. An event without a text as its `install_id` is left out.
    """
    since, until = (query.since or 0) // 1000, (query.until or 0) // 1000
    first, blocks = seeing.blocks(replace(query, since=beginning))
    firsts: dict[str, int] = {}
    there: set[str] = set()
    for us, install in _installs(blocks, query):
        if us < firsts.get(install, until):
            firsts[install] = us
        if since <= us < until:
            there.add(install)
    new = [0] * buckets
    width = (until - since) // buckets
    for us in firsts.values():
        if us >= since:
            new[(us - since) // width] += 1
    return {"installs": len(there), "new": sum(new), "buckets": new, "complete": first <= beginning}


def reach_read(seeing: Reader, query: Query, start: str, goal: str, *, within: int) -> dict[str, Any]:
    """Return how many events *start* that *query* accepts are followed by a *goal* of the same install within some microseconds.

    The times of *query* must be set, and are those of *start*; an event at the same moment follows, except itself.
    """
    until = (query.until or 0) + within * 1000
    first, blocks = seeing.blocks(replace(query, name=exactly(start)))
    goals_first, goal_blocks = seeing.blocks(replace(query, name=exactly(goal), until=until))
    goals: defaultdict[str, list[int]] = defaultdict(list)
    for us, install in _installs(goal_blocks, query, goal):
        goals[install].append(us)
    for times in goals.values():
        times.sort()
    after = bisect_right if start == goal else bisect_left
    started = reached = 0
    for us, install in _installs(blocks, query, start):
        started += 1
        if found := goals.get(install):
            at = after(found, us)
            reached += at < len(found) and found[at] <= us + within
    complete = max(first, goals_first) <= (query.since or 0)
    return {"started": started, "reached": reached, "within_seconds": within / 1e6, "complete": complete}


def _installs(blocks: Blocks, query: Query, name: str = "") -> Iterator[tuple[int, str]]:
    """Yield the microseconds and the install of each event that has one, and has this name if one is given."""
    fields = Fields([_KEY, "event_name"])
    attributes = Attributes(query.attributes) if query.attributes else None
    for times, lines in blocks:
        rows = fields.rows(lines)
        asked = attributes.accepted(lines) if attributes else repeat(True)
        for us, row, is_asked in zip(times, rows, asked, strict=False):
            if is_asked and type(row.f0) is str and (not name or row.f1 == name):
                yield us, row.f0
