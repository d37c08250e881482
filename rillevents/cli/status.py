"""`rillevents status`: everything on one page."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rillevents.cli.command import paths, register
from rillevents.cli.result import Result

if TYPE_CHECKING:
    import typer


def add_to(app: typer.Typer) -> None:
    """Register the command."""

    @register(app, "status", "rillevents status --json | jq .spool.events", json=True)
    def status() -> Result:
        """Show install ID, consent, spool, destination and losses.

        Consent comes with what decided it; losses are counted by reason. All on one page.
        """
        from rillevents.cli.overview import overview

        document, warnings = overview(paths())
        return Result("status", document, messages=tuple(warnings))
