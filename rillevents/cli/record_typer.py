"""`rillevents record …`: the five ways to record an event."""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Callable
from contextlib import nullcontext
from typing import Annotated, Any

import typer

from rillevents.cli.command import OnError, group, option, paths, register
from rillevents.cli.record import Plan, Report, perform
from rillevents.cli.record_quick import Opt, RecordCommand, is_negative, options_of
from rillevents.cli.result import Result
from rillevents.errors import InvalidEvent

app = group(
    "Record an event; `rillevents flush` sends it.",
    "rillevents record behavioral login-start -a plan=pro",
)

# Typer takes a word that starts with a dash for an option. Mark it with a NUL, which no command line can contain.
_NEGATIVE = "\0"


def _complete_name(incomplete: str) -> list[str]:
    from rillevents.event import BEHAVIORAL_NAMES

    return [name for name in BEHAVIORAL_NAMES if name.startswith(incomplete)]


class MetricCommand(typer.core.TyperCommand):
    """A command whose VALUE may be negative."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse *args*, after marking negative numbers."""
        valued = {flag for known in options_of("metric") if known.metavar for flag in known.flags}
        before = ["", *args]
        marked = [
            _NEGATIVE + word if is_negative(word, "metric") and last not in valued else word
            for last, word in zip(before, args, strict=False)
        ]
        return super().parse_args(ctx, marked)


def _perform(form: str, arguments: list[str], options: dict[str, Any]) -> Result:
    request = RecordCommand(form, [word.removeprefix(_NEGATIVE) for word in arguments])
    for name, value in options.items():
        setattr(request, name, value)
    request.attrs = [_read_attrs(text) for text in request.attrs]
    return _result(perform(request, Plan(request), os.environ))


def _result(report: Report) -> Result:
    return Result(lines=[report.out], messages=tuple(report.messages), exit_code=report.code)


def _read_attrs(text: str) -> str:
    """Return the JSON that `--attrs` gives: its text, the file @FILE, or stdin (@-)."""
    if text[:1] != "@":
        return text
    try:
        if text == "@-":
            content = sys.stdin.buffer.read() if sys.stdin else b""
        else:
            with open(text[1:], "rb") as file:
                content = file.read()
        return content.decode()
    except UnicodeDecodeError:
        raise InvalidEvent(f"--attrs {text} is not UTF-8") from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise InvalidEvent(f"--attrs {text} cannot be read: {reason}") from None


def _form(name: str, example: str, **settings: Any) -> Callable[[Callable[..., list[str | None]]], None]:
    """Register a form of `record`: options from the table, arguments from the decorated function."""

    def add(arguments: Callable[..., list[str | None]]) -> None:
        signature = inspect.signature(arguments, eval_str=True)

        def command(**values: Any) -> Result:
            words = arguments(**{key: values.pop(key) for key in signature.parameters})
            return _perform(name, [word for word in words if word is not None], values)

        options = [_parameter(known) for known in options_of(name) if known.name != "quiet"]
        command.__signature__ = signature.replace(parameters=[*signature.parameters.values(), *options])  # type: ignore[attr-defined]
        command.__doc__ = arguments.__doc__
        register(app, name, example, on_error="warn", counted=True, **settings)(command)

    return add


def _parameter(known: Opt) -> inspect.Parameter:
    """Return Typer's form of an option of the table."""
    kind, default = (list[str], []) if known.many else (str | None, None) if known.metavar else (bool, False)
    annotation = Annotated[kind, option(known.name)]  # type: ignore[valid-type]
    return inspect.Parameter(known.name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


Name = Annotated[str, typer.Argument(metavar="NAME", help="The event's name, unique within its type.")]


@_form(
    "behavioral",
    """
rillevents record behavioral login-start
rillevents record behavioral deploy-success -a target=prod -a 'replicas:=3'
""",
)
def behavioral(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="The event's name: what happened.", autocompletion=_complete_name)
    ],
) -> list[str | None]:
    """Record an action of a user or a program."""
    return [name]


@_form(
    "metric",
    """
rillevents record metric build-seconds 41.7 -a job=linux
rillevents record metric balance -45
""",
    cls=MetricCommand,
)
def metric(
    name: Name,
    value: Annotated[str, typer.Argument(metavar="VALUE", help="A JSON number, may be negative.")],
) -> list[str | None]:
    """Record a number."""
    return [name, value]


@_form("log", 'rillevents record log backup "nightly backup finished" -a level=info')
def log(
    name: Name,
    message: Annotated[str | None, typer.Argument(metavar="MESSAGE", help="The text.")] = None,
) -> list[str | None]:
    """Record a log line under a name."""
    return [name, message]


@_form("event", "rillevents record event audit key-rotated -a key=deploy")
def event(
    type: Annotated[str, typer.Argument(metavar="TYPE", help="The event's type.")],
    name: Name,
) -> list[str | None]:
    """Record an event of any type."""
    return [type, name]


@register(
    app,
    "raw",
    """
rillevents record raw events.ndjson
some-program --log-json | rillevents record raw --fill --type log --name some-program
""",
    json=True,
    on_error="warn",
    counted=True,
)
def raw(
    file: Annotated[str, typer.Argument(metavar="FILE", help="NDJSON; - or none for stdin.")] = "-",
    fill: Annotated[bool, typer.Option("--fill", help="Fill in missing required fields.")] = False,
    type: Annotated[str, typer.Option("--type", metavar="T", help="The event_type for --fill.")] = "log",
    name: Annotated[str, typer.Option("--name", metavar="N", help="The event_name for --fill.")] = "raw",
    on_error: OnError = None,  # type: ignore[assignment]
) -> Result:
    """Record NDJSON unchanged; each bad line is reported. From a pipe, each line is recorded as it arrives."""
    from rillevents.cli.progress import progress
    from rillevents.recording.bulk import record_lines

    typing = file == "-" and sys.stdin is not None and sys.stdin.isatty()
    if typing:
        typer.echo("reading NDJSON from the terminal; press Ctrl-D to end", err=True)
    with nullcontext() if typing else progress("stored") as report:
        done = record_lines(file, paths(), fill=(type, name) if fill else None, on_progress=report)
    messages = [f"line {bad['line']}: {bad['reason']}" for bad in done.bad[:20]]
    if len(done.bad) > 20:
        messages.append(f"and {len(done.bad) - 20} more bad lines")
    return Result(
        "raw",
        {"stored": done.stored, "bad": done.bad} | ({"error": done.problem} if done.problem else {}),
        messages=(*messages, *done.warnings, *([done.problem] if done.problem else [])),
        exit_code=done.exit_code,
    )


def add_to(parent: typer.Typer) -> None:
    """Register the commands."""
    parent.add_typer(app, name="record")
