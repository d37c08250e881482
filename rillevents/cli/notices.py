"""Notices on a terminal beside an event: a name that looks mistyped, and, once, that events are being recorded."""

from __future__ import annotations

from rillevents.event import BEHAVIORAL, BEHAVIORAL_NAMES
from rillevents.local import Paths, config
from rillevents.local.notice import note_shown


def resembling(event_type: str, event_name: str) -> str:
    """Return a hint if a behavioral event's name is similar, but not equal, to a known one; else ""."""
    if event_type != BEHAVIORAL or event_name in BEHAVIORAL_NAMES:
        return ""
    import difflib

    near = difflib.get_close_matches(event_name, BEHAVIORAL_NAMES, n=1, cutoff=0.85)
    return f"recorded {event_name!r}; did you mean {near[0]!r}?" if near else ""


def first_run(paths: Paths) -> str:
    """Return the notice for a user's first event on this machine; "" in CI, and after the first time.

    If we cannot remember that it was shown, it is not shown: with every event it would be noise.
    """
    if not note_shown(paths):
        return ""
    return (
        f"events are stored in {paths.spool_dir}, with a random install ID, and sent {_when(paths)}. "
        "To record nothing, run: rillevents telemetry off. More: rillevents help consent"
    )


def _when(paths: Paths) -> str:
    every, _ = config.auto_interval(paths, config.load_for_recording(paths))
    return f"by a flush after a command, every {every:g} s at most" if every else "only by `rillevents flush`"
