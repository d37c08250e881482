"""`rillevents session …`: an ID and attributes for all events of a terminal, a script or a job."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from rillevents.cli.command import OnError, group, paths, register
from rillevents.cli.record import parse_attribute
from rillevents.cli.record_quick import RecordCommand
from rillevents.cli.result import Result
from rillevents.cli.timer import record_seconds
from rillevents.errors import UsageError
from rillevents.local import consent
from rillevents.shell import session

app = group("Give all events of a script or a job one ID.", 'eval "$(rillevents session start)"')

_START = """
eval "$(rillevents session start)"
eval "$(rillevents session start -a job=nightly)"
rillevents session start --print fish | source
rillevents session start --print env >> "$GITHUB_ENV"
"""


@register(app, "start", _START)
def start(
    attr: Annotated[
        list[str] | None, typer.Option("-a", "--attr", metavar="KEY=VALUE", help="An attribute of every event in it.")
    ] = None,
    form: Annotated[
        str, typer.Option("--print", metavar="|".join(session.FORMS), help="What to print: for which shell.")
    ] = "sh",
) -> Result:
    """Print what a shell evaluates to be in a new session."""
    if form not in session.FORMS:
        raise UsageError(f"--print {form!r} is not one of {', '.join(session.FORMS)}")
    here = paths()
    attributes = dict(map(parse_attribute, attr or []))
    decision = consent.decide(here)
    warnings = (decision.warning,) if decision.warning else ()
    if not decision.enabled:
        # There is nothing that a shell could evaluate; a program that reads JSON gets a document.
        return Result(
            lines=[b'{"session_id":null,"attributes":{},"environment":{}}\n'] if form == "json" else [],
            messages=warnings,
        )
    printed = session.printed(session.start(here, attributes), form, here)
    return Result(lines=[printed.encode()], messages=warnings)


@register(app, "end", "rillevents session end", on_error="warn")
def end(on_error: OnError = None) -> Result:  # type: ignore[assignment]
    """Record how long the session has lasted."""
    here = paths()
    decision = consent.decide(here)
    if not decision.enabled:
        return Result(messages=(decision.warning,) if decision.warning else ())
    seconds = session.seconds(here)
    if not session.note_end(here):
        return Result()
    request = RecordCommand("metric", [session.END_NAME, "0"])
    request.on_error = on_error
    report = record_seconds(request, session.END_NAME, seconds, os.environ)
    return Result(messages=tuple(report.messages), exit_code=report.code)


def add_to(parent: typer.Typer) -> None:
    """Register the commands."""
    parent.add_typer(app, name="session")
