"""`rillevents events`: look at what is in the spool, before it leaves, or in a store."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from rillevents.cli.command import Json, paths, register
from rillevents.cli.record import parse_attribute
from rillevents.cli.result import Result
from rillevents.errors import UsageError
from rillevents.event.query import Query, decoded, point_in_time
from rillevents.store.source import Source, elsewhere, source_of

_TABLE_ROWS = 50
_EXAMPLE = """
rillevents events --since 1h --name 'login-*'
rillevents events --type metric --ndjson | jq .value
rillevents events --store events.db --count
rillevents events -f
"""

Store = Annotated[str, typer.Option("--store", metavar="FILE", help="Look into this store, not the spool.")]
Type = Annotated[str, typer.Option("--type", metavar="T", help="Only this type.")]
Name = Annotated[str, typer.Option("--name", metavar="GLOB", help="Only names like this.")]
Since = Annotated[str, typer.Option("--since", metavar="T", help="Not before: a time, or 90m, 7d ago.")]


def add_to(app: typer.Typer) -> None:
    """Register the command."""

    @register(app, "events", _EXAMPLE, json=True)
    def events(
        store: Store = "",
        type: Type = "",
        name: Name = "",
        since: Since = "",
        until: Annotated[str, typer.Option("--until", metavar="T", help="Before: a time, or 90m, 7d ago.")] = "",
        attr: Annotated[list[str], typer.Option("-a", "--attr", metavar="K=V", help="With this attribute.")] = [],  # noqa: B006
        limit: Annotated[int | None, typer.Option("--limit", metavar="N", help="The newest N.", min=1)] = None,
        keep_on: Annotated[bool, typer.Option("-f", "--follow", help="Go on with those that come now.")] = False,
        count: Annotated[bool, typer.Option("--count", help="Print how many there are.")] = False,
        ndjson: Annotated[bool, typer.Option("--ndjson", help="Print the lines as they are stored.")] = False,
        as_json: Json = False,
    ) -> Result:
        """Show the events that are in the spool and not yet delivered, or those in a store."""
        query = Query(
            type,
            name,
            point_in_time(since) if since else None,
            point_in_time(until) if until else None,
            [parse_attribute(text) for text in attr],
        )
        if keep_on and (as_json or count or limit):
            raise UsageError("-f goes on for ever, so --json, --count and --limit have no end to wait for")
        source = source_of(paths(), store)
        if keep_on:
            return _follow(source, query, ndjson)
        if count:
            return _count(source, query, limit)
        if ndjson or as_json:
            return _print(source, query, limit, ndjson=ndjson)
        return _table(source, query, limit)


def _count(source: Source, query: Query, limit: int | None) -> Result:
    counted = source.count(query)
    notices = () if counted else (nothing_in(source, "events"),)
    return Result("count", min(counted, limit) if limit else counted, notices=notices)


def _print(source: Source, query: Query, limit: int | None, *, ndjson: bool) -> Result:
    lines = iter(source.newest(query, limit)) if limit else source.lines(query)
    return Result(lines=lines) if ndjson else Result("events", (decoded(line) for line in lines))


def _table(source: Source, query: Query, limit: int | None) -> Result:
    found = source.newest(query, limit or _TABLE_ROWS + 1)
    shown = found if limit else found[-_TABLE_ROWS:]
    notice = f"the newest {_TABLE_ROWS}; --limit N shows more, --ndjson all"
    return Result(
        "events",
        [decoded(line) for line in shown],
        messages=() if found else (nothing_in(source, "events"),),
        notices=(notice,) if len(shown) < len(found) else (),
    )


def nothing_in(source: Source, *words: str) -> str:
    """Return what a person is told where there is nothing of what they look for by the command *words*."""
    return "; ".join(filter(None, [f"no such events in {source.name}", elsewhere(paths(), source, words)]))


def _follow(source: Source, query: Query, ndjson: bool) -> Result:
    lines = source.follow(query, sleep=time.sleep)
    return Result("stream", lines=lines) if ndjson else Result("following", (decoded(line) for line in lines))
