"""`rillevents spool …`: look at events on this machine's disk, export, import or delete them."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from rillevents.cli.command import events, group, paths, places, register
from rillevents.cli.result import Result
from rillevents.errors import RilleventsError

app = group("Export, import, retry or delete spooled events.", "rillevents spool export > events.ndjson")


@register(app, "path", "rillevents spool path")
def path() -> Result:
    """Print the spool's folder."""
    place = paths().spool_dir
    if not place:
        raise RilleventsError("there is no place for the spool (no home folder)", hint="set RILLEVENTS_SPOOL_DIR")
    return Result("text", place)


@register(app, "export", "rillevents spool export > events.ndjson")
def export() -> Result:
    """Print undelivered events as NDJSON; they stay in the spool. The bytes are those that a flush would send."""
    from rillevents.spool.view import pending

    return Result(lines=(line for place in places() for line in pending(place)))


@register(app, "import", "rillevents spool import events.ndjson", json=True)
def import_(
    file: Annotated[str, typer.Argument(metavar="FILE", help="NDJSON, as `spool export` prints it; - for stdin.")],
) -> Result:
    """Store exported events, each one once. An event whose ID the spool still holds is skipped."""
    from rillevents.cli.progress import progress
    from rillevents.recording.bulk import import_lines

    with progress("stored") as report:
        done = import_lines(file, paths(), on_progress=report)
    messages = [f"line {bad['line']}: {bad['reason']}" for bad in done.bad[:20]]
    return Result(
        "import",
        {"stored": done.stored, "duplicates": done.duplicates, "bad": done.bad},
        messages=(*messages, *done.warnings, *([done.problem] if done.problem else [])),
        exit_code=done.exit_code,
    )


@register(app, "rejected", "rillevents spool rejected --json | jq '.[].reason'", json=True)
def rejected() -> Result:
    """Show the events that the destination rejected, and why."""
    from rillevents.event.query import decoded
    from rillevents.spool import view

    found = [
        {"reason": entry.reason, "rejected_at": entry.rejected_at, "event": decoded(entry.line)}
        for place in places()
        for entry in view.rejected(place)
    ]
    notices = ("run `rillevents spool retry` once the cause is gone",) if found else ()
    return Result("rejected", found, messages=() if found else ("no event was rejected",), notices=notices)


@register(app, "retry", "rillevents spool retry && rillevents flush", json=True)
def retry() -> Result:
    """Put the rejected events back, for the next flush."""
    from rillevents.recording.setup import start_configured_delivery
    from rillevents.spool import view
    from rillevents.spool.maintenance import retry as put_back

    unsure = sum(entry.reason.startswith("unidentified:") for place in places() for entry in view.rejected(place))
    count = 0
    for place in places():
        count += (found := put_back(place))
        if found:
            start_configured_delivery(paths(), place)
    hint = "; run: rillevents flush" if count else ""
    hint = f" ({unsure} of them may have been delivered already)" * bool(unsure) + hint
    return Result("retry", {"retried": count}, messages=(f"put {events(count)} back into the spool{hint}",))


@register(app, "purge", "rillevents spool purge --yes", json=True)
def purge(
    yes: Annotated[
        bool, typer.Option("--yes", help="Do not ask for confirmation; required if stdin is not a terminal.")
    ] = False,
) -> Result:
    """Delete all events in the spool. That includes rejected and damaged ones; they are counted as dropped."""
    from rillevents.spool.maintenance import purge as delete

    if not yes and sys.stdin is not None and sys.stdin.isatty():
        typer.confirm(
            "Delete all events that are not delivered yet, including the rejected and damaged ones?",
            abort=True,
            err=True,
        )
    count = sum(delete(place) for place in places())
    return Result("purge", {"purged": count}, messages=(f"deleted {events(count)}",))


def add_to(parent: typer.Typer) -> None:
    """Register the commands."""
    parent.add_typer(app, name="spool")
