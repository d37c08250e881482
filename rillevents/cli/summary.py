"""`rillevents summary`: what this session or CI job recorded."""

from __future__ import annotations

from typing import Annotated

import typer

from rillevents.cli.command import Json, paths, register
from rillevents.cli.result import Result
from rillevents.errors import UsageError
from rillevents.shell.summary import markdown, summary

_EXAMPLE = """
rillevents summary
rillevents summary --markdown >> "$GITHUB_STEP_SUMMARY"
"""


def add_to(app: typer.Typer) -> None:
    """Register the command."""

    @register(app, "summary", _EXAMPLE, json=True)
    def summary_command(
        as_markdown: Annotated[bool, typer.Option("--markdown", help="Print a Markdown table.")] = False,
        as_json: Json = False,
    ) -> Result:
        """Show what this session or CI job recorded."""
        if as_markdown and as_json:
            raise UsageError("--markdown and --json are two forms of the same", hint="give one of them")
        found = summary(paths())
        if as_markdown:
            return Result(lines=[markdown(found).encode("utf-8", "replace")])
        said = () if found.rows else ("nothing is recorded here yet; run: rillevents record behavioral NAME",)
        return Result("summary", found.as_dict(), messages=(*said, found.unseen))
