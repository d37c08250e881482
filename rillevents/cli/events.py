"""`rillevents events`: look at events in the spool before they are sent, or in a store."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated

import typer

from rillevents.cli.command import Json, paths, register
from rillevents.cli.record import parse_attribute
from rillevents.cli.result import Result
from rillevents.errors import UsageError

if TYPE_CHECKING:
    from datetime import tzinfo

    from rillevents.event.query import Query
    from rillevents.store.source import Source

_TABLE_ROWS = 50
_EXAMPLE = """
rillevents events --since 1h --name 'login-*'
rillevents events --type metric --ndjson | jq .value
rillevents events --store events.db --count
rillevents events -a service_name=web --csv > events.csv
rillevents events -f
"""

Store = Annotated[str, typer.Option("--store", metavar="FILE", help="Read this store instead of the spool.")]
Type = Annotated[str, typer.Option("--type", metavar="T", help="Only events of this type.")]
Name = Annotated[str, typer.Option("--name", metavar="GLOB", help="Only names that match this pattern.")]
Since = Annotated[str, typer.Option("--since", metavar="T", help="From this time or day on; 90m or 7d means ago.")]
Until = Annotated[str, typer.Option("--until", metavar="T", help="Before this time or day; 90m or 7d means ago.")]
Attr = Annotated[list[str], typer.Option("-a", "--attr", metavar="K=V", help="Only events with this attribute.")]
Csv = Annotated[bool, typer.Option("--csv", help="Print comma-separated values.")]


def query_of(type: str, name: str, since: str, until: str, attr: list[str], zone: tzinfo | None = None) -> Query:
    """Return the query that these options ask, days being of *zone* (None: local time); raises UsageError."""
    from rillevents.event.query import Query, point_in_time

    return Query(
        type,
        name,
        point_in_time(since, zone=zone) if since else None,
        point_in_time(until, zone=zone) if until else None,
        [parse_attribute(text) for text in attr],
    )


def add_to(app: typer.Typer) -> None:
    """Register the command."""

    @register(app, "events", _EXAMPLE, json=True)
    def events(
        store: Store = "",
        type: Type = "",
        name: Name = "",
        since: Since = "",
        until: Until = "",
        attr: Attr = [],  # noqa: B006
        limit: Annotated[int | None, typer.Option("--limit", metavar="N", help="Only the newest N.", min=1)] = None,
        keep_on: Annotated[bool, typer.Option("-f", "--follow", help="Keep printing new events.")] = False,
        count: Annotated[bool, typer.Option("--count", help="Print only the number of events.")] = False,
        ndjson: Annotated[bool, typer.Option("--ndjson", help="Print the lines as stored.")] = False,
        csv: Csv = False,
        as_json: Json = False,
    ) -> Result:
        """Show events that wait in the spool, or those in a store."""
        from rillevents.store.source import source_of

        query = query_of(type, name, since, until, attr)
        if csv and (as_json or ndjson or count or keep_on):
            raise UsageError("--csv cannot be combined with --json, --ndjson, --count or -f")
        if keep_on and (as_json or count or limit):
            raise UsageError("-f never ends, so it cannot be combined with --json, --count or --limit")
        source = source_of(paths(), store)
        if keep_on:
            return _follow(source, query, ndjson)
        if count:
            return _count(source, query, limit)
        if csv:
            return _csv(source, query, limit)
        if ndjson or as_json:
            return _print(source, query, limit, ndjson=ndjson)
        return _table(source, query, limit)


def _count(source: Source, query: Query, limit: int | None) -> Result:
    counted = source.count(query)
    notices = () if counted else (nothing_in(source, query, "events"),)
    return Result("count", min(counted, limit) if limit else counted, notices=notices)


def _print(source: Source, query: Query, limit: int | None, *, ndjson: bool) -> Result:
    from rillevents.event.query import decoded

    lines = iter(source.newest(query, limit)) if limit else source.lines(query)
    return Result(lines=lines) if ndjson else Result("events", (decoded(line) for line in lines))


def _csv(source: Source, query: Query, limit: int | None) -> Result:
    from rillevents.event.table import rows

    lines = iter(source.newest(query, limit)) if limit else source.lines(query)
    return Result("csv", rows(lines))


def _table(source: Source, query: Query, limit: int | None) -> Result:
    from rillevents.event.query import decoded

    found = source.newest(query, limit or _TABLE_ROWS + 1)
    shown = found if limit else found[-_TABLE_ROWS:]
    messages: tuple[str, ...] = () if found else (nothing_in(source, query, "events"),)
    if len(shown) < len(found):
        messages = (
            f"the newest {_TABLE_ROWS} of {source.count(query):,} events; --limit N shows more, --csv or --ndjson all",
        )
    return Result("events", [decoded(line) for line in shown], messages=messages)


def nothing_in(source: Source, query: Query, *words: str) -> str:
    """Return the message when the command *words* finds no events for *query*."""
    from rillevents.store.source import elsewhere, names_like

    told = (f"no matching events in {source.name}", names_like(source, query), elsewhere(paths(), source, words))
    return "; ".join(filter(None, told))


def _follow(source: Source, query: Query, ndjson: bool) -> Result:
    from rillevents.event.query import decoded

    lines = source.follow(query, sleep=time.sleep)
    return Result("stream", lines=lines) if ndjson else Result("following", (decoded(line) for line in lines))
