"""`rillevents store …`: where a server keeps its events, and whole copies of it."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from rillevents.cli.command import events, group, paths, register
from rillevents.cli.result import Result
from rillevents.errors import RilleventsError

app = group("Find and copy a store of events.", "rillevents store backup events-copy.db")


@register(app, "path", "rillevents store path")
def path() -> Result:
    """Print where `serve` keeps events if --store names no other file."""
    return Result("text", _default())


@register(
    app, "backup", "rillevents store backup copy.db\nrillevents store backup --store events.db copy.db", json=True
)
def backup(
    file: Annotated[str, typer.Argument(metavar="FILE", help="The copy; it must not exist.")],
    store: Annotated[str, typer.Option("--store", metavar="FILE", help="Copy this store, not the default one.")] = "",
) -> Result:
    """Make a whole copy of a store, while a server runs or not."""
    from rillevents.store.backup import backup as copy

    done = copy(store or _default(), file)
    return Result("backup", asdict(done), messages=(f"{events(done.events)} copied to {done.file}",))


def _default() -> str:
    place = paths().default_store
    if not place:
        raise RilleventsError("there is no place for the store (no home folder)", hint="give one with --store")
    return place


def add_to(main: typer.Typer) -> None:
    """Register the commands."""
    main.add_typer(app, name="store")
