"""`rillevents flush`: spool → destination."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from typing import Annotated

import typer

from rillevents.cli.command import Json, OnError, events, paths, register
from rillevents.cli.outcome import told_of
from rillevents.cli.progress import progress
from rillevents.cli.record_quick import is_quiet
from rillevents.cli.result import Result
from rillevents.cli.values import Seconds
from rillevents.delivery.sums import Tally
from rillevents.delivery.url import is_stdout
from rillevents.errors import Busy, ConfigError, UsageError

_EXAMPLE = """
rillevents flush
rillevents flush --timeout 20 --to https://intake.example.com/events
rillevents flush --to kafka://kafka.example.com:9092/events
rillevents flush --to otlp+https://otel.example.com:4318
rillevents flush --to file:events-%Y-%m-%d.ndjson
rillevents flush --watch 30s
"""


def add_to(app: typer.Typer) -> None:
    """Register the command."""

    @register(app, "flush", _EXAMPLE, json=True, on_error="fail")
    def flush_command(
        to: Annotated[
            str,
            typer.Option(
                "--to", metavar="URL", help="intake, http(s)://…, otlp, otlp+http(s)://…, kafka://…, file:PATH."
            ),
        ] = "",
        timeout: Annotated[
            Seconds | None,
            typer.Option("--timeout", metavar="S", help="Give up after this time in total: seconds, or 30s, 5m."),
        ] = None,
        watch: Annotated[
            Seconds | None, typer.Option("--watch", metavar="S", help="Flush again and again, every S, until stopped.")
        ] = None,
        no_wait: Annotated[bool, typer.Option("--no-wait", help="Exit at once if another flush is running.")] = False,
        dry_run: Annotated[bool, typer.Option("--dry-run", help="Print what would be sent; send nothing.")] = False,
        ca_cert: Annotated[
            str | None, typer.Option("--ca-cert", metavar="FILE", help="Also trust this certificate authority.")
        ] = None,
        summary: Annotated[
            str, typer.Option("--summary", metavar="FILE", help="Append a Markdown table of what was recorded.")
        ] = "",
        as_json: Json = False,
        on_error: OnError = None,  # type: ignore[assignment]
    ) -> Result:
        """Send the spooled events; unacknowledged ones are kept."""
        if as_json and not dry_run and is_stdout(_name(to)):
            hint = "leave --json out: what was sent is told on stderr"
            raise UsageError("file:- writes the events to stdout, where --json would stand among them", hint=hint)
        if summary == "-":
            hint = "flush first, then: rillevents summary --markdown"
            raise UsageError("--summary takes a file, and - is none", hint=hint)
        if watch is not None:
            if dry_run or summary:
                hint = "leave one of them out"
                raise UsageError("--watch goes with neither --dry-run nor --summary", hint=hint)
            from rillevents.cli.watch import watch as run

            return run(paths(), watch, to=to, timeout=timeout, ca_cert=ca_cert, as_json=as_json)
        if dry_run:
            return _dry_run(to)
        if not summary:
            return _flush(to, timeout, ca_cert, wait=not no_wait)
        tally = Tally(everything=True)
        return _with_summary(_flush(to, timeout, ca_cert, wait=not no_wait, tally=tally), tally, summary)


def _name(to: str) -> str:
    from rillevents.delivery.destination import destination_name
    from rillevents.local import config

    try:
        return destination_name(paths(), config.load(paths()), to)
    except ConfigError:
        # The flush itself tells.
        return to


def _with_summary(done: Result, tally: Tally, file: str) -> Result:
    """Append the summary; a file that cannot be written is told and changes nothing else."""
    from rillevents.shell.summary import append, summary

    if done.data["outcome"] == "off":
        return done
    try:
        append(summary(paths(), tally.total), file)
    except OSError as error:
        told = f"the summary cannot be written to {file}: {error.strerror or error}"
        return replace(done, messages=(*done.messages, told))
    return done


def _flush(to: str, timeout: float | None, ca_cert: str | None, *, wait: bool, tally: Tally | None = None) -> Result:
    from rillevents.delivery.flush import flush

    here, warnings = paths(), list[str]()
    try:
        with progress("sent") as report:
            done = flush(
                here,
                to=to,
                timeout=timeout,
                wait=wait,
                ca_cert=ca_cert,
                on_progress=report,
                on_wait=_tell_wait,
                warn=warnings.append,
                tally=tally,
            )
    except Busy as error:
        from rillevents.delivery.outcome import FlushOutcome, FlushResult
        from rillevents.spool.view import held_events

        done = FlushResult(FlushOutcome.TEMPORARY, pending=held_events(here), reason=str(error))
        if not wait:
            return Result("flush", done.as_dict(), messages=(str(error),))
    return Result("flush", done.as_dict(), messages=(*warnings, *told_of(done)), exit_code=done.exit_code)


def _tell_wait(seconds: float) -> None:
    """Tell a person who watches that the command is not hanging."""
    if sys.stderr is not None and sys.stderr.isatty() and not is_quiet(os.environ):
        print(
            f"rillevents: the destination is unavailable, retrying in {seconds:.1f} s (Ctrl-C stops; the events are kept)",
            file=sys.stderr,
        )


def _dry_run(to: str) -> Result:
    from rillevents.delivery.destination import destination_name, intake_settings
    from rillevents.delivery.url import without_userinfo
    from rillevents.local import config
    from rillevents.spool.view import existing_spools, pending

    here = paths()
    sizes = [len(line) for place in existing_spools(here) for line in pending(place)]
    lines = (line for place in existing_spools(here) for line in pending(place))
    messages = [f"would send {events(len(sizes))}, {sum(sizes):,} bytes; nothing was sent"]
    try:
        settings = config.load(here)
        name = destination_name(here, settings, to)
        intake = intake_settings(here, settings, secrets=False)
        told = (intake.url if intake else "none configured") if name == "intake" else without_userinfo(name)
        messages.append(f"destination: {told}")
    except ConfigError as error:
        messages.append(str(error))
    return Result("dry-run", {"events": len(sizes), "bytes": sum(sizes)}, lines, tuple(messages))
