"""`rillevents events`: look at what is in the spool, before it leaves."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Annotated, Any

import typer

from rillevents._record import parse_attribute
from rillevents.cli.common import Json, paths, register
from rillevents.cli.result import Result
from rillevents.destination import existing_spools
from rillevents.errors import UsageError
from rillevents.query import Query, find, newest, point_in_time
from rillevents.spool.follow import follow
from rillevents.spool.view import contents, pending

_TABLE_ROWS = 50
_EXAMPLE = """
rillevents events --since 1h --name 'login-*'
rillevents events --type metric --ndjson | jq .value
rillevents events -f
"""


def add_to(app: typer.Typer) -> None:
    """Register the command."""

    @register(app, "events", _EXAMPLE, json=True)
    def events(
        type: Annotated[str, typer.Option("--type", metavar="T", help="Only this type.")] = "",
        name: Annotated[str, typer.Option("--name", metavar="GLOB", help="Only names like this.")] = "",
        since: Annotated[str, typer.Option("--since", metavar="T", help="Not before: a time, or 90m, 7d ago.")] = "",
        until: Annotated[str, typer.Option("--until", metavar="T", help="Before: a time, or 90m, 7d ago.")] = "",
        attr: Annotated[list[str], typer.Option("-a", "--attr", metavar="K=V", help="With this attribute.")] = [],  # noqa: B006
        limit: Annotated[int | None, typer.Option("--limit", metavar="N", help="The newest N.", min=1)] = None,
        keep_on: Annotated[
            bool, typer.Option("-f", "--follow", help="Go on with those that are recorded now.")
        ] = False,
        count: Annotated[bool, typer.Option("--count", help="Print how many there are.")] = False,
        ndjson: Annotated[bool, typer.Option("--ndjson", help="Print the lines as they are stored.")] = False,
        as_json: Json = False,
    ) -> Result:
        """Show the events that are in the spool and not yet delivered."""
        query = Query(
            type,
            name,
            point_in_time(since) if since else None,
            point_in_time(until) if until else None,
            [parse_attribute(text) for text in attr],
        )
        if keep_on and (as_json or count or limit):
            raise UsageError("-f goes on for ever, so --json, --count and --limit have no end to wait for")
        if keep_on:
            return _follow(query, ndjson)
        lines = (line for place in existing_spools(paths()) for line in pending(place))
        return _show(find(lines, query), limit, count=count, ndjson=ndjson, as_json=as_json)


def _show(
    found: Iterator[tuple[bytes, dict[str, Any]]], limit: int | None, *, count: bool, ndjson: bool, as_json: bool
) -> Result:
    if limit:
        found = iter(newest(found, limit))
    if count:
        return Result("count", sum(1 for _ in found))
    if ndjson:
        return Result(lines=(line for line, _ in found))
    if as_json:
        return Result("events", (event for _, event in found))
    rows = newest(found, _TABLE_ROWS + 1) if not limit else list(found)
    notices = (
        [f"the newest {_TABLE_ROWS}; --limit N shows more, --ndjson all"]
        if len(rows) > _TABLE_ROWS and not limit
        else []
    )
    rows = rows if limit else rows[-_TABLE_ROWS:]
    messages = () if rows else (_nothing_here(),)
    return Result("events", [event for _, event in rows], messages=messages, notices=tuple(notices))


def _nothing_here() -> str:
    rejected = sum(contents(place).rejected for place in existing_spools(paths()))
    put_aside = f"; rejected: {rejected}, run: rillevents spool rejected" if rejected else ""
    return f"no such events in the spool{put_aside}"


def _follow(query: Query, ndjson: bool) -> Result:
    places = existing_spools(paths()) or [paths().spool_dir]
    lines = follow(places, sleep=time.sleep)
    if ndjson:
        return Result("stream", lines=(line for line, _ in find(lines, query)))
    return Result("following", (event for _, event in find(lines, query)))
