"""`rillevents run …` in Typer: its help, and what cannot be run. What runs is sorted in run.py."""

from __future__ import annotations

from typing import Annotated

import typer

from rillevents.cli.command import option, register
from rillevents.cli.result import Result
from rillevents.errors import UsageError

_EXAMPLE = """
rillevents run -- make build
rillevents run --name build -a job=linux --flush 20 -- make -j8
rillevents run --record-args -- ./deploy.sh --region eu
"""


def add_to(app: typer.Typer) -> None:
    """Register the command."""

    @register(app, "run", _EXAMPLE)
    def run_command(
        command: Annotated[
            str | None, typer.Argument(metavar="-- COMMAND [ARG]...", help="The command and its arguments, after --.")
        ] = None,
        name: Annotated[str, typer.Option("--name", metavar="NAME", help="Instead of the command's own name.")] = "",
        attr: Annotated[
            list[str] | None, typer.Option("-a", "--attr", metavar="KEY=VALUE", help="An attribute of both events.")
        ] = None,
        ci: Annotated[bool, option("ci")] = False,
        record_args: Annotated[
            bool, typer.Option("--record-args", help="Record the arguments, without known secrets.")
        ] = False,
        flush: Annotated[
            str, typer.Option("--flush", metavar="S", help="Deliver afterwards, within so many seconds.")
        ] = "",
    ) -> Result:
        """Run a command, and record its start and its end."""
        raise UsageError("the command to run is missing", hint="write -- before it: rillevents run -- make build")
