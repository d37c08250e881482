"""`rillevents query`: SQL on a store or on the spool, which only reads."""

from __future__ import annotations

from typing import Annotated

import typer

from rillevents.cli.command import Json, paths, register
from rillevents.cli.events import Csv, Store
from rillevents.cli.result import Result
from rillevents.errors import UsageError

_EXAMPLE = """
rillevents query "SELECT event_name, COUNT(*) FROM events GROUP BY 1"
rillevents query --store events.db --csv "SELECT service_name, AVG(value) FROM events GROUP BY 1"
"""


def add_to(app: typer.Typer) -> None:
    """Register the command."""

    @register(app, "query", _EXAMPLE, json=True)
    def query(
        sql: Annotated[str, typer.Argument(metavar="SQL", help="One SELECT on the table events.")],
        store: Store = "",
        timeout: Annotated[
            str, typer.Option("--timeout", metavar="S", help="Stop after so many seconds, or 5m.")
        ] = "300",
        csv: Csv = False,
        as_json: Json = False,
    ) -> Result:
        """Run SQL on the events of the spool, or of a store. It only reads."""
        from rillevents.store import sql as guarded
        from rillevents.store.source import source_of

        if csv and as_json:
            raise UsageError("--csv cannot be combined with --json")
        limits = guarded.Limits(seconds=_seconds(timeout))
        answer = guarded.query(source_of(paths(), store), sql, limits=limits)
        names = guarded.names_of(answer.columns)
        if as_json:
            return Result("rows", (dict(zip(names, row, strict=True)) for row in answer.rows))
        if csv:
            return Result("csv", (row for rows in ([answer.columns], answer.rows) for row in rows))
        return Result("table", (answer.columns, answer.rows))


def _seconds(text: str) -> float:
    from rillevents.event.timestamp import parse_duration

    try:
        found = float(parse_duration(text)) if text[-1:].isalpha() else float(text)
    except ValueError:
        found = 0.0
    if not 0 < found < 1e9:
        raise UsageError(f"--timeout {text!r} is not a number of seconds, such as 30 or 5m")
    return found
