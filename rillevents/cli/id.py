"""`rillevents id …`: the install ID."""

from __future__ import annotations

import typer

from rillevents.cli.command import group, paths, register
from rillevents.cli.result import Result
from rillevents.errors import RilleventsError
from rillevents.local import consent, install_id

app = group("Show the install ID, or replace it.", "rillevents id show")


@register(app, "show", "rillevents id show", json=True)
def show() -> Result:
    """Print the install ID. If there is none, it is created now, unless telemetry is off."""
    here = paths()
    decision = consent.decide(here)
    find = install_id.read_or_create if decision.enabled else install_id.peek
    found = find(here)
    if found is None:
        return Result(
            "id", {"install_id": None, "source": None}, messages=(f"telemetry is off ({decision.decided_by}): no ID",)
        )
    note = "this ID is for this process only: there is no place to store it" if found.source == "process" else ""
    return Result("id", {"install_id": found.value, "source": found.source}, messages=(note,) if note else ())


@register(app, "reset", "rillevents id reset", json=True)
def reset() -> Result:
    """Replace the install ID, for example in a copied virtual machine."""
    here = paths()
    decision = consent.decide(here)
    if not decision.enabled:
        told = f"telemetry is off ({decision.decided_by}): no new ID was created"
        return Result("id", {"install_id": None, "source": None}, messages=(told,))
    try:
        if not here.config_dir:
            raise OSError("there is no config folder")
        new = install_id.reset(here)
    except OSError as error:
        raise RilleventsError(f"the install ID cannot be written: {error.strerror or error}") from None
    overruled = here.variable("INSTALL_ID")
    note = ("RILLEVENTS_INSTALL_ID is set and overrides the new ID",) if overruled else ()
    return Result("id", {"install_id": new, "source": "file"}, messages=note)


def add_to(parent: typer.Typer) -> None:
    """Register the commands."""
    parent.add_typer(app, name="id")
