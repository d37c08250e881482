"""What a person should read of a flush."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rillevents.cli.command import events

if TYPE_CHECKING:
    from rillevents.delivery.outcome import FlushResult


def told_of(done: FlushResult) -> list[str]:
    """Return what a person should read of a flush."""
    if done.outcome == "off":
        return [f"off: telemetry is off ({done.reason}); nothing was sent"]
    if done.outcome == "empty" and not done.corrupt:
        return ["nothing to send: the spool is empty"]
    told = [f"delivered {events(done.delivered)} in {done.seconds:.1f} s"] if done.delivered else []
    if done.rejected:
        told.append(f"{events(done.rejected)} refused for good; run: rillevents spool rejected")
    if done.dropped:
        told.append(f"{events(done.dropped)} that were rejected or corrupt earlier were deleted to make room")
    if done.corrupt:
        told.append(f"damaged lines moved to the spool's folder corrupt/: {done.corrupt}")
    if done.outcome in ("temporary", "refused", "unconfigured"):
        told.append(f"{done.reason}; {events(done.pending)} kept")
    return told
