"""One page about everything: install ID, consent and what decided it, spool, destination, losses."""

from __future__ import annotations

from typing import Any

from rillevents.delivery.destination import destination_name, intake_settings
from rillevents.delivery.url import without_userinfo
from rillevents.errors import ConfigError, SpoolError
from rillevents.local import Paths, config, consent, install_id
from rillevents.spool import listed
from rillevents.spool.state import State
from rillevents.spool.view import Contents, contents, existing_spools, ledger


def overview(paths: Paths) -> tuple[dict[str, Any], list[str]]:
    """Return the document of `status --json`, and messages for a person.

    If opted in, it creates a missing install ID; if opted out, it creates nothing.
    """
    decision = consent.decide(paths)
    find = install_id.read_or_create if decision.enabled else install_id.peek
    identity = find(paths)
    destination, warnings = _destination(paths)
    held, state, problems = _spools(paths)
    document = {
        "install_id": identity.value if identity else None,
        "install_id_source": identity.source if identity else None,
        "telemetry": {"enabled": decision.enabled, "decided_by": decision.decided_by},
        "spool": {
            "path": paths.spool_dir,
            "fallback": bool(paths.spool_dir) and paths.spool_dir == paths.fallback_spool,
            "events": held.events,
            "bytes": held.bytes,
            "oldest": held.oldest,
            "rejected": held.rejected,
            "corrupt": held.corrupt,
        },
        "destination": destination,
        **_ledger(state, held),
    }
    servers = _servers(paths)
    if servers:
        document["servers"] = servers
    return document, [warning for warning in (decision.warning, *warnings, *problems) if warning]


def _spools(paths: Paths) -> tuple[Contents, State, list[str]]:
    """Return what all places where events may be hold together, and the ledger of those that left."""
    held, state, problems = Contents(), State(""), list[str]()
    for place in existing_spools(paths):
        try:
            held, state = held + contents(place), state.merged(ledger(place))
        except SpoolError as error:
            problems.append(str(error))
    return held, state, problems


def _servers(paths: Paths) -> list[dict[str, Any]]:
    """Return what the spools of forwarding servers hold, and what became of the other events; empty without such a server."""
    found = []
    for name in sorted(listed(paths.serve_dir)) if paths.serve_dir else ():
        spool = f"{paths.serve_dir}/{name}"
        try:
            held, state = contents(spool), ledger(spool)
        except SpoolError:
            continue
        if state:
            counts = {key: state.counts[key] for key in ("delivered", "rejected")}
            last = state.last_flush or None
            found.append({"spool": spool, "events": held.events, "bytes": held.bytes, **counts, "last_flush": last})
    return found


def _destination(paths: Paths) -> tuple[dict[str, Any], list[str]]:
    found: dict[str, Any] = {"to": None, "url": None, "user": None, "configured": False}
    try:
        settings = config.load(paths)
        intake = intake_settings(paths, settings, secrets=False)
    except ConfigError as error:
        return found, [str(error)]
    found["to"] = without_userinfo(destination_name(paths, settings))
    if intake:
        found |= {"url": intake.url, "user": intake.user}
    found["configured"] = found["to"] != "intake" or intake is not None
    return found, settings.warnings


def _ledger(state: State, held: Contents) -> dict[str, Any]:
    """Return the ledger since its start; `recorded` is the sum of what left the spool and what is in it."""
    dropped_later = sum(state.dropped.get(reason, 0) for reason in ("purged", "rejected-full"))
    counts = state.counts
    return {
        "ledger": {
            "since": state.since or None,
            "recorded": counts["delivered"] + counts["rejected"] + dropped_later + held.events,
            "delivered": counts["delivered"],
            "rejected": counts["rejected"],
            "truncated": counts["truncated"],
            "refused": counts["refused"],
            "dropped": state.dropped,
        },
        "last_flush": state.last_flush or None,
    }
