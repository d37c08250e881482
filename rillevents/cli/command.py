"""What all commands share: the common options, and the one way in which a command is called and fails."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Mapping
from typing import Annotated, Any

import typer

from rillevents.cli.record_quick import ON_ERROR, OPTIONS, failure_mode, is_quiet
from rillevents.cli.result import Failure, Result, Shown
from rillevents.errors import RilleventsError, UsageError
from rillevents.local import Paths, __version__

# The exit codes that `warn` turns into 0; `ignore` also does so with 2.
SOFT = (1, 65, 73, 75, 77, 78)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"rillevents {__version__}")
        raise typer.Exit


Quiet = Annotated[bool, typer.Option("-q", "--quiet", help="Print nothing on stderr except usage errors.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
Version = Annotated[bool, typer.Option("--version", help="Print the version.", callback=_print_version, is_eager=True)]


def group(about: str, example: str) -> typer.Typer:
    """Return a command with subcommands, with the common options and *example*s."""
    app = typer.Typer(no_args_is_help=True, help=about, epilog=_epilog(example))

    @app.callback()
    def everywhere(quiet: Quiet = False, version: Version = False) -> None:
        if quiet:
            os.environ["RILLEVENTS_QUIET"] = "1"

    everywhere.__doc__ = about
    return app


def option(name: str) -> Any:
    """Return Typer's form of an option of `record`, from the table that the quick parser also uses."""
    found = next(option for option in OPTIONS if option.name == name)
    return typer.Option(*found.flags, help=found.help, metavar=found.metavar or None, hidden=found.hidden)


OnError = Annotated[str, option("on_error")]


def paths() -> Paths:
    """Return where this user's files are."""
    return Paths(os.environ)


def places() -> list[str]:
    """Return the folders in which this user's events may wait, as far as they exist."""
    # Imported here: the top-level help loads all commands, and this takes longer than they do.
    from rillevents.spool.view import existing_spools

    return existing_spools(paths())


def register(
    app: typer.Typer,
    name: str,
    example: str,
    *,
    json: bool = False,
    on_error: str = "",
    counted: bool = False,
    **settings: Any,
) -> Callable[[Callable[..., Result]], Callable[..., Result]]:
    """Add a function as a command with -h, -q and --version, *example*s in its help, and `--json` if wanted.

    *on_error* is the default of commands that take that option. With *counted*, a refusal that is ignored is counted as a
    refused event.
    """

    def add(command: Callable[..., Result]) -> Callable[..., Result]:
        signature = inspect.signature(command, eval_str=True)

        def called(**arguments: Any) -> Shown:
            arguments.pop("version")
            if arguments.pop("quiet"):
                os.environ["RILLEVENTS_QUIET"] = "1"
            quiet = is_quiet(os.environ)
            as_json = arguments.get("as_json", False)
            if "as_json" not in signature.parameters:
                arguments.pop("as_json", None)
            result = _run(command, arguments)
            mode = _mode(arguments, on_error)
            softened = soften(result, mode)
            if softened is not result and result.exit_code == 2 and counted:
                count_refused(len(result.data["bad"]) if result.kind == "raw" else 1)
            return Shown(softened, as_json, quiet, mode)

        shared = [("as_json", Json)] if json and "as_json" not in signature.parameters else []
        shared += [("quiet", Quiet), ("version", Version)]
        keyword = inspect.Parameter.KEYWORD_ONLY
        more = [inspect.Parameter(key, keyword, default=False, annotation=kind) for key, kind in shared]
        called.__signature__ = signature.replace(  # type: ignore[attr-defined]
            parameters=[p.replace(kind=keyword) for p in signature.parameters.values()] + more, return_annotation=Shown
        )
        called.__annotations__ = {p.name: p.annotation for p in called.__signature__.parameters.values()}  # type: ignore[attr-defined]
        called.__doc__ = command.__doc__
        app.command(name, epilog=_epilog(example), **settings)(called)
        return command

    return add


def _epilog(example: str) -> str:
    return "Examples:\n\n\b\n" + "\n".join(f"  {line}" for line in example.strip().splitlines())


def _mode(arguments: Mapping[str, Any], default: str) -> str:
    if not default:
        return "fail"
    flag = arguments.get("on_error")
    # The command itself refuses an unknown word; that refusal is never softened.
    return "fail" if flag and flag not in ON_ERROR else failure_mode(flag, os.environ, default)[0]


def _run(command: Callable[..., Result], arguments: Mapping[str, Any]) -> Result:
    flag = arguments.get("on_error")
    try:
        if flag is not None and flag not in ON_ERROR:
            raise UsageError(f"--on-error {flag!r} is not one of {', '.join(ON_ERROR)}")
        return command(**arguments)
    except RilleventsError as error:
        return failed(error)


def failed(error: RilleventsError) -> Result:
    """Return the result of a command that failed."""
    failure = Failure(error.message, error.hint, error.exit_code)
    return Result("failure", failure.as_dict(), messages=(str(error),), exit_code=error.exit_code)


def events(count: int) -> str:
    """Return a number of events in words."""
    return "1 event" if count == 1 else f"{count:,} events"


def soften(result: Result, mode: str) -> Result:
    """Return *result* with the exit code that *mode* gives it."""
    codes = {"fail": (), "warn": SOFT, "ignore": (*SOFT, 2)}[mode]
    if result.exit_code not in codes:
        return result
    return Result(result.kind, result.data, result.lines, result.messages, result.notices, 0)


def count_refused(n: int = 1) -> None:
    """Count refused events that are not reported anywhere else."""
    from rillevents.local import consent
    from rillevents.local.files import ensure_home
    from rillevents.spool.tally import add

    if consent.decide(paths()).enabled and paths().spool_dir:
        ensure_home(paths().home)
        add(paths().spool_dir, "refused", "usage", n)
