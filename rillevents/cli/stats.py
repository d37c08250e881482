"""`rillevents stats`: counts of events over time and by attribute, and the distribution of values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC
from typing import Annotated, Any

import typer

from rillevents.cli.command import Json, paths, register
from rillevents.cli.events import Attr, Csv, Name, Since, Store, Type, Until, nothing_in, query_of
from rillevents.cli.progress import progress
from rillevents.cli.result import Result
from rillevents.errors import UsageError

_EXAMPLE = """
rillevents stats --since 24h
rillevents stats --name 'deploy-*' --since 7d --every 1d --by service_name
rillevents stats --type metric --name 'build-*' --csv
rillevents stats --store events.db --json | jq '.values[] | {name, p95}'
"""


def add_to(app: typer.Typer) -> None:
    """Register the command."""

    @register(app, "stats", _EXAMPLE, json=True)
    def stats(
        store: Store = "",
        type: Type = "",
        name: Name = "",
        since: Since = "",
        until: Until = "",
        attr: Attr = [],  # noqa: B006
        every: Annotated[
            str, typer.Option("--every", metavar="T", help="A column for each 5m, 1h, 1d or 1w of local time.")
        ] = "",
        utc: Annotated[bool, typer.Option("--utc", help="Let the columns of --every begin by UTC.")] = False,
        by: Annotated[
            list[str], typer.Option("--by", metavar="KEY", help="A group for each value of this attribute.")
        ] = [],  # noqa: B006
        value: Annotated[str, typer.Option("--value", metavar="KEY", help="Show the numbers in this attribute.")] = "",
        csv: Csv = False,
        as_json: Json = False,
    ) -> Result:
        """Show counts over time and percentiles. Reads the spool, or a store."""
        from rillevents.event.columns import parse_every
        from rillevents.store.source import source_of
        from rillevents.store.summary import Question, summarize

        if csv and as_json:
            raise UsageError("--csv cannot be combined with --json")
        query = query_of(type, name, since, until, attr, UTC if utc else None)
        question = Question(query, parse_every(every) if every else 0, utc, tuple(dict.fromkeys(by)), value)
        source = source_of(paths(), store)
        with progress("counted") as report:
            document = summarize(source, question, report=report)
        messages = () if document["events"] else (nothing_in(source, query, "stats"),)
        if document["outside"]:
            count = document["outside"]
            told = "1 event lies" if count == 1 else f"{count:,} events lie"
            messages = (
                *messages,
                f"{told} in the future and {'is' if count == 1 else 'are'} left out; --until includes them",
            )
        if csv:
            return Result("csv", _rows(document, question.by), messages=messages)
        return Result("stats", document, messages=messages)


def _rows(document: Mapping[str, Any], by: Sequence[str]) -> Iterator[list[Any]]:
    """Yield the rows of a CSV: one for each group and column, below their headings."""
    figures = ["count", "min", "p50", "p90", "p95", "p99", "max", "mean", "sum"]
    has_columns = any(group["columns"] for group in document["groups"])
    has_values = any(group["values"] for group in document["groups"])
    yield [*by, *(["from"] if has_columns else []), "count"] + (
        [f"value_{figure}" for figure in figures] if has_values and not has_columns else []
    )
    for group in document["groups"]:
        keys = [group["by"][key] for key in by]
        if has_columns:
            yield from ([*keys, column["from"], column["count"]] for column in group["columns"])
        else:
            values = [(group["values"] or {}).get(figure) for figure in figures] if has_values else []
            yield [*keys, group["count"], *values]
