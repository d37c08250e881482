"""`rillevents telemetry …`: on, off, and what decided it."""

from __future__ import annotations

from typing import Annotated

import typer

from rillevents.cli.command import events, group, paths, places, register
from rillevents.cli.result import Result
from rillevents.errors import RilleventsError
from rillevents.local import consent

app = group("Turn telemetry on or off, and see what decided it.", "rillevents telemetry off")


@register(app, "status", "rillevents telemetry status --json", json=True)
def status() -> Result:
    """Print `on` or `off`, and what decided it."""
    decision = consent.decide(paths())
    told = f"telemetry is {'on' if decision.enabled else 'off'} (decided by: {decision.decided_by})"
    return Result(
        "switch",
        {"enabled": decision.enabled, "decided_by": decision.decided_by},
        messages=(decision.warning,) if decision.warning else (),
        notices=(told,),
    )


@register(app, "on", "rillevents telemetry on", json=True)
def on() -> Result:
    """Turn telemetry on; a variable that turns it off still wins."""
    return _save(True)


@register(app, "off", "rillevents telemetry off --purge", json=True)
def off(
    purge: Annotated[bool, typer.Option("--purge", help="Also delete the spooled events.")] = False,
) -> Result:
    """Turn telemetry off: nothing is recorded or sent any more. Spooled events are kept unless --purge is given."""
    from rillevents.spool.maintenance import purge as delete
    from rillevents.spool.view import contents

    result = _save(False)
    if purge:
        return _more(result, f"deleted {events(sum(map(delete, places())))}")
    held = sum(contents(place).events for place in places())
    told = f"kept in the spool: {events(held)}; to delete, run: rillevents telemetry off --purge"
    return _more(result, told) if held else result


def _save(enabled: bool) -> Result:
    here = paths()
    if not here.config_dir:
        raise RilleventsError(
            "there is no config folder to write to", hint="set RILLEVENTS_HOME or RILLEVENTS_TELEMETRY=0"
        )
    try:
        consent.save(here, enabled)
    except OSError as error:
        raise RilleventsError(
            f"{here.telemetry_file} cannot be written: {error.strerror or error}", hint="set RILLEVENTS_TELEMETRY=0"
        ) from None
    decision = consent.decide(here)
    told = f"telemetry is {'on' if decision.enabled else 'off'}"
    if decision.enabled != enabled:
        told += f" still: {decision.decided_by} turns it off"
    return Result("done", {"enabled": decision.enabled, "decided_by": decision.decided_by}, messages=(told,))


def _more(result: Result, message: str) -> Result:
    return Result(result.kind, result.data, messages=(*result.messages, message))


def add_to(parent: typer.Typer) -> None:
    """Register the commands."""
    parent.add_typer(app, name="telemetry")
