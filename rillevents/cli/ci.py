"""`rillevents ci`: which CI job this is."""

from __future__ import annotations

import os

import typer

from rillevents.cli.command import register
from rillevents.cli.result import Result
from rillevents.local.ci import ci_attributes, is_ci

_EXAMPLE = """
rillevents ci
rillevents ci --json
"""


def add_to(parent: typer.Typer) -> None:
    """Register the command."""

    @register(parent, "ci", _EXAMPLE, json=True)
    def ci() -> Result:
        """Show which CI job this is, as `record --ci` adds it."""
        in_job, attributes = is_ci(os.environ), ci_attributes(os.environ)
        missing = "the provider of this CI job is not known" if in_job else "this is not a CI job"
        messages = () if attributes else (f"{missing}: --ci adds no attributes",)
        return Result("ci", {"is_ci": in_job, "attributes": attributes}, messages=messages)
