"""`rillevents stats`: counts of events over time, and the distribution of metric values."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import typer

from rillevents.cli.command import paths, register
from rillevents.cli.events import Name, Since, Store, Type, nothing_in
from rillevents.cli.progress import progress
from rillevents.cli.result import Result

if TYPE_CHECKING:
    from rillevents.event.query import Query
    from rillevents.store.source import Source

_REPORT_EVERY = 5000

_EXAMPLE = """
rillevents stats --since 24h
rillevents stats --type metric --name 'build-*'
rillevents stats --store events.db --json | jq '.values[] | {name, p95}'
"""


def add_to(app: typer.Typer) -> None:
    """Register the command."""

    @register(app, "stats", _EXAMPLE, json=True)
    def stats(store: Store = "", type: Type = "", name: Name = "", since: Since = "") -> Result:
        """Show counts over time and percentiles of metrics. Reads the spool, or a store."""
        from rillevents.event.query import Query, point_in_time
        from rillevents.event.stats import summarize
        from rillevents.store.source import source_of

        query = Query(type, name, point_in_time(since) if since else None)
        source = source_of(paths(), store)
        with progress("counted") as report:
            document = summarize(_events(source, query, report), source.path)
        messages = () if document["events"] else (nothing_in(source, query, "stats"),)
        return Result("stats", document, messages=messages)


def _events(source: Source, query: Query, report: Callable[[int], None] | None) -> Iterator[dict[str, Any]]:
    from rillevents.event.query import decoded

    for number, line in enumerate(source.lines(query)):
        if report and number % _REPORT_EVERY == 0:
            report(number)
        yield decoded(line)
