"""The command line: all commands, and the one boundary where errors become exit codes."""

from __future__ import annotations

import os
import re
import signal
import sys
from collections.abc import Sequence
from io import TextIOWrapper
from types import FrameType
from typing import Any

import typer

from rillevents.cli.command import Quiet, Version, count_refused, failed, soften
from rillevents.cli.commands import COMMANDS, add_commands
from rillevents.cli.record_quick import failure_mode, is_quiet, on_error_flag
from rillevents.cli.result import Failure, Result, Shown
from rillevents.cli.stderr import bounded
from rillevents.cli.values import read_plainly
from rillevents.errors import RilleventsError


class _Commands(typer.core.TyperGroup):
    def list_commands(self, ctx: Any) -> list[str]:
        return [name for name in COMMANDS if name in self.commands]


class Terminated(BaseException):
    """SIGTERM arrived."""


def assembled(argv: Sequence[str] = ()) -> typer.Typer:
    """Return the command line: all commands, or only the one that *argv* calls, since each costs the import of a module."""
    app = typer.Typer(
        name="rillevents",
        cls=_Commands,
        no_args_is_help=True,
        add_completion=False,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
        help="Telemetry events for scripts, CI jobs and programs: recorded at once, never lost.",
        epilog="""Examples:

\b
  rillevents demo                                a complete run on this machine
  rillevents record behavioral login-start
  rillevents flush
  rillevents help                                the manual""",
    )
    app.callback()(_root)
    add_commands(app, argv)
    return app


def _root(quiet: Quiet = False, version: Version = False) -> None:
    """Telemetry events for scripts, CI jobs and programs: recorded at once, never lost."""
    if quiet:
        os.environ["RILLEVENTS_QUIET"] = "1"


def run(argv: Sequence[str]) -> int:
    """Run one command line, print its output, and return its exit code."""
    signal.signal(signal.SIGTERM, _terminate)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            # A character that the locale cannot write (ASCII) is shown escaped; nothing fails.
            stream.reconfigure(errors="backslashreplace")
    sys.stderr = bounded(sys.stderr)
    try:
        return _guarded(argv)
    except KeyboardInterrupt:
        return _ended("interrupted", 130, argv)
    except Terminated:
        return _ended("terminated", 143, argv)
    except BrokenPipeError:
        # The reader of our output has gone (`| head`): the work is done.
        return 0


def _ended(how: str, code: int, argv: Sequence[str]) -> int:
    """Return *code*; with --json print a document even now, except for a server, which printed one at its start."""
    if "--json" in argv and "serve" not in argv:
        _show(Shown(Result("failure", Failure(how, exit_code=code).as_dict(), exit_code=code), as_json=True))
    return code


def _guarded(argv: Sequence[str]) -> int:
    """Call the command and show its result; also handles errors while showing (a spool is read while it is printed)."""
    try:
        shown = _call(argv)
        # Typer turns an interrupt into this exit code before we see it.
        return _ended("interrupted", 130, argv) if shown == 130 else _show(shown)
    except RilleventsError as error:
        return _show(Shown(failed(error)))
    except (BrokenPipeError, KeyboardInterrupt):
        raise
    except Exception as error:  # noqa: BLE001 - the outermost boundary: no traceback in a script's output
        return _show(_broken(error, argv))


def _terminate(number: int, frame: FrameType | None) -> None:
    raise Terminated


def _show(shown: Shown | int | None) -> int:
    if not isinstance(shown, Shown):
        return shown or 0
    from rillevents.cli.render import show

    return show(shown)


def _call(argv: Sequence[str]) -> Shown | int | None:
    command = typer.main.get_command(assembled(argv))
    read_plainly(command)
    quiet = is_quiet(os.environ)
    try:
        found: Shown | int | None = command.main(args=list(argv), prog_name="rillevents", standalone_mode=False)
        return found
    except typer.Abort:
        return Shown(Result(messages=("nothing was done",), exit_code=1), quiet=quiet)
    except typer.TyperException as error:
        return _refused(error, argv)


def _refused(error: typer.TyperException, argv: Sequence[str]) -> Shown:
    """Return the message for a command line that could not be parsed."""
    if type(error).__name__ == "NoArgsIsHelpError":  # it has no public name
        typer.echo(error.format_message(), err=True)
        return Shown(Result(exit_code=0 if argv[:1] == ["record"] and _mode(argv) == "ignore" else 2))
    context = getattr(error, "ctx", None)
    hint = _meant(error.message, argv) or f"run: {context.command_path} --help" if context else "run: rillevents --help"
    failure = Failure(error.format_message().rstrip("."), hint, 2)
    result = Result("failure", failure.as_dict(), messages=(f"{failure.error}; {hint}",), exit_code=2)
    commands = {"record": "warn", "flush": "fail"}
    called = next((word for word in argv if word in commands), "")
    if called and _mode(argv, commands[called]) == "ignore":
        result = soften(result, "ignore")
        if called == "record":
            count_refused()
    return Shown(result, as_json="--json" in argv)


_NUMBER = re.compile(r"[-+]?\d+(\.\d+)?([eE][-+]?\d+)?")

# Commands of other tools → the equivalent here.
_MEANT = {
    "off": "telemetry off",
    "disable": "telemetry off",
    "on": "telemetry on",
    "enable": "telemetry on",
    "send": "flush",
    "push": "flush",
    "upload": "flush",
    "log": "record log NAME",
    "track": "record behavioral NAME",
    "list": "events",
    "show": "events",
    "export": "spool export",
    "import": "spool import FILE",
    "version": "--version",
    "uninstall": "help consent",
}


def _meant(message: str, argv: Sequence[str]) -> str:
    """Return what to type instead of a common mistake; "" for any other mistake."""
    word = next(
        (word for word in argv if f"'{word}'" in message or f"({word}" in message or f": {word}" in message), ""
    )
    if "No such command" in message and "Did you mean" not in message:
        found = _event_meant(word, argv) or _MEANT.get(word, "")
        return f"run: rillevents {found}" if found else ""
    if argv[:1] == ["record"] and ("=" in word or word in ("--tag", "--attribute", "--property", "--label")):
        return "write attributes as: -a KEY=VALUE"
    return "write: rillevents flush --to URL" if argv[:1] == ["flush"] and ("://" in word or word == "--url") else ""


def _event_meant(word: str, argv: Sequence[str]) -> str:
    """Return the `record` command for `record build`, `record build 3` or `build 3`: a name, and perhaps its value."""
    after = argv[argv.index(word) + 1 :] if word in argv else []
    if after and _NUMBER.fullmatch(after[0]):
        return f"record metric {word} {after[0]}"
    return f"record behavioral {word}" if argv[:1] == ["record"] else ""


def _broken(error: Exception, argv: Sequence[str]) -> Shown:
    told = f"internal error: {type(error).__name__}: {error}; please report it"
    failure = Failure(told, exit_code=1)
    result = Result("failure", failure.as_dict(), messages=(told,), exit_code=1)
    default = "warn" if "record" in argv else "fail"
    return Shown(soften(result, _mode(argv, default)), as_json="--json" in argv, quiet=is_quiet(os.environ))


def _mode(argv: Sequence[str], default: str = "warn") -> str:
    """Return the mode that --on-error or its variable gives, for a command line that could not be parsed."""
    return failure_mode(on_error_flag(argv), os.environ, default)[0]
