"""What the counts beside the events cannot tell: counts and values by attribute, read from the events themselves."""

from __future__ import annotations

import json
from array import array
from collections.abc import Iterator
from typing import Any

from rillevents.event.columns import ColumnOf
from rillevents.event.query import Query
from rillevents.event.stats import distribution, spread
from rillevents.event.tally import Group, Tally, plain
from rillevents.serve.latest import Latest
from rillevents.store.glance import BoundedReader, Window
from rillevents.store.reader import Counted

Reader = BoundedReader | Latest
Blocks = Iterator[tuple[list[int], list[bytes]]]
_SECOND_US, _MINUTE_US = 1_000_000, 60_000_000
_SECOND_NS = 1_000_000_000


def count_read(seeing: Reader, query: Query, *, buckets: int, limit: int, by: str) -> tuple[Window, dict[str, Any]]:
    """Return the counts of the events that *query* accepts, and, if *by* names an attribute, the groups of its values.

    The times of *query* must be set and divide into *buckets* of whole seconds. With *by* the buckets are those of the groups.
    Of too many events the newest are counted, in buckets from the second of the oldest of them on.
    """
    since, until = query.since or 0, query.until or 0
    first, blocks = seeing.blocks(query)
    cut = first > since
    if cut:
        since = first // _SECOND_NS * _SECOND_NS
        until = since - (since - until) // (buckets * _SECOND_NS) * buckets * _SECOND_NS
    width = (until - since) // buckets // 1000
    edges = [since // 1000 + width * number for number in range(buckets + 1)]
    keys = (by,) if by else ("event_type", "event_name")
    tally = Tally(
        query, keys, column=ColumnOf(edges, _SECOND_US if width % _MINUTE_US or edges[0] % _MINUTE_US else _MINUTE_US)
    )
    _add(blocks, tally)

    def row(group: Group) -> list[int]:
        return [tally.columns[group, number] for number in range(buckets)]

    most = sorted(tally.groups, key=lambda group: (-tally.groups[group], _text(group)))[:limit]
    if not by:
        counted = [Counted(kind, name, row((kind, name))) for kind, name in most]
        # Not from a row for each name: there can be many, and most of their buckets are 0.
        types = {kind: [0] * buckets for kind, _ in tally.groups}
        for ((kind, _), number), n in tally.columns.items():
            types[kind][number] += n
        return Window(since, until, tally.events, counted, types, cut), {}
    kinds = sorted(tally.kinds, key=lambda kind: (-tally.kinds[kind], kind))[:limit]
    counted = [Counted(*kind, [tally.kinds[kind]]) for kind in kinds]
    groups = [{"value": plain(group[0]), "total": tally.groups[group], "buckets": row(group)} for group in most]
    return Window(since, until, tally.events, counted, {}, cut), {"groups": groups, "group_count": len(tally.groups)}


def values_read(seeing: Reader, query: Query, *, bins: int, limit: int, by: str) -> dict[str, Any]:
    """Return the distribution of the `value` of the events that *query* accepts, with *by* also that of each group."""
    tally = Tally(query, (by,) if by else (), "value", any_type=True)
    first, blocks = seeing.blocks(query)
    _add(blocks, tally)
    by_group: dict[Group, array[float]] = {}
    for (group, _), values in tally.values.items():
        by_group[group] = by_group[group] + values if group in by_group else values
    found = spread([value for values in by_group.values() for value in values], bins) | {
        "complete": first <= (query.since or 0)
    }
    if by:
        most = sorted(by_group, key=lambda group: (-len(by_group[group]), _text(group)))
        groups = [{"value": plain(group[0]), **(distribution(by_group[group]) or {})} for group in most[:limit]]
        found |= {"groups": groups, "group_count": len(by_group)}
    return found


def _add(blocks: Blocks, tally: Tally) -> None:
    for times, lines in blocks:
        tally.add(times, lines)


def _text(group: Group) -> str:
    return json.dumps([plain(part) for part in group])
