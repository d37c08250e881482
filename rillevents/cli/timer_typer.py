"""`rillevents timer …` in Typer: its help, and the forms that are not plain."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Annotated

import typer

from rillevents.cli.command import OnError, group, option, register
from rillevents.cli.record import Report
from rillevents.cli.record_quick import RecordCommand
from rillevents.cli.result import Result
from rillevents.cli.timer import start, stop

app = group("Measure the time between two commands.", "rillevents timer start build")
Name = Annotated[str, typer.Argument(metavar="NAME", help="The timer, and the name of its metric.")]


@register(app, "start", "rillevents timer start build", on_error="warn")
def start_command(name: Name, on_error: OnError = None) -> Result:  # type: ignore[assignment]
    """Start a timer, anew if it runs already."""
    request = RecordCommand("metric", [name, "0"])
    return _result(start, request, on_error)


@register(app, "stop", "rillevents timer stop build -a job=linux", on_error="warn")
def stop_command(
    name: Name,
    attr: Annotated[list[str] | None, option("attr")] = None,
    ci: Annotated[bool, option("ci")] = False,
    durable: Annotated[bool, option("durable")] = False,
    show: Annotated[bool, option("print")] = False,
    on_error: OnError = None,  # type: ignore[assignment]
) -> Result:
    """Record a timer's seconds as a metric, and take the timer away."""
    request = RecordCommand("metric", [name, "0"])
    request.attr, request.ci, request.durable, request.print = list(attr or []), ci, durable, show
    return _result(stop, request, on_error)


def _result(
    act: Callable[[RecordCommand, os._Environ[str]], Report], request: RecordCommand, on_error: str | None
) -> Result:
    request.on_error = on_error
    report = act(request, os.environ)
    return Result(lines=[report.out] if report.out else [], messages=tuple(report.messages), exit_code=report.code)


def add_to(parent: typer.Typer) -> None:
    """Register the commands."""
    parent.add_typer(app, name="timer")
