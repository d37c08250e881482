"""What a session or a CI job recorded, in a table: what waits in the spool, and what was delivered."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rillevents.delivery.sums import OTHERS, Sums, current_key, load, sums_of_lines
from rillevents.local import Paths
from rillevents.spool.view import existing_spools, pending

# GitHub drops a summary of more than 1 MiB whole.
MAX_ROWS = 200
# Where a backslash does not help: GitHub's formulas, emoji, mentions and references, and bare URLs.
_REFERENCES = {character: f"&#{ord(character)};" for character in "&<>$:@#"}
_ESCAPED = {character: f"\\{character}" for character in "\\`*_[]|~"} | _REFERENCES


@dataclass(frozen=True, slots=True)
class Summary:
    """Events by type and name: how many wait and how many were delivered, how many failed, and the seconds of metrics.

    *scope* is `session`, `job` or `spool`; *unseen* says what is not counted.
    """

    scope: str
    rows: tuple[Mapping[str, Any], ...]
    unseen: str

    def as_dict(self) -> dict[str, Any]:
        """Return the document of `summary --json`; the row of names that did not fit has empty ones."""
        totals = {key: sum(row[key] for row in self.rows) for key in ("waiting", "delivered", "failed")}
        return {"scope": self.scope, **totals, "events": [dict(row) for row in self.rows], "unseen": self.unseen}


def summary(paths: Paths, flushed: Sums | None = None) -> Summary:
    """Return what the session of this environment recorded, else its CI job, else what is in the spool.

    *flushed* is what a flush has just delivered: it counts where there is neither session nor job. Raises SpoolError if the
    spool cannot be read.
    """
    key = current_key(paths)
    waiting = sums_of_lines((line for place in existing_spools(paths) for line in pending(place)), key)
    delivered = load(paths, key) if key else flushed or Sums()
    scope = key.partition(" ")[0] or "spool"
    return Summary(scope, tuple(_rows(waiting, delivered)), _UNSEEN[scope])


_UNSEEN = {
    "session": "not counted: what another home or another machine recorded, and what is older than seven days",
    "job": "not counted: events without --ci, and what another home or another machine recorded",
    "spool": "not counted: what was delivered before; start a session to count it: rillevents help sessions",
}


def _rows(waiting: Sums, delivered: Sums) -> list[Mapping[str, Any]]:
    nothing = [0, 0, 0.0]
    rows = []
    for name in {**delivered.rows, **waiting.rows}:
        left, gone = waiting.rows.get(name, nothing), delivered.rows.get(name, nothing)
        rows.append(
            {
                "event_type": name[0],
                "event_name": name[1],
                "waiting": int(left[0]),
                "delivered": int(gone[0]),
                "failed": int(left[1] + gone[1]),
                "seconds": round(left[2] + gone[2], 6),
            }
        )
    return sorted(rows, key=lambda row: (row["event_name"] == OTHERS[1], -row["waiting"] - row["delivered"]))


def markdown(found: Summary) -> str:
    """Return a summary as a Markdown table, as `GITHUB_STEP_SUMMARY` takes it: no text of an event is markup in it."""
    totals = found.as_dict()
    count, failed = totals["waiting"] + totals["delivered"], totals["failed"]
    head = f"### rillevents: {count:,} event{'' if count == 1 else 's'}{f', {failed:,} failed' if failed else ''}"
    lines = [head, ""]
    if found.rows:
        lines += ["| event | type | delivered | waiting | failed | seconds |", "|---|---|--:|--:|--:|--:|"]
    for row in found.rows[:MAX_ROWS]:
        name = escaped(row["event_name"]) or "others"
        numbers = [f"{row[key]:,}" for key in ("delivered", "waiting", "failed")]
        seconds = f"{row['seconds']:,.3f}" if row["seconds"] else ""
        lines.append(f"| {name} | {escaped(row['event_type'])} | {' | '.join(numbers)} | {seconds} |")
    if len(found.rows) > MAX_ROWS:
        lines.append(f"\n{len(found.rows) - MAX_ROWS:,} more names")
    return "\n".join([*lines, "", f"{found.unseen[0].upper()}{found.unseen[1:]}.", ""])


def escaped(text: str) -> str:
    """Return text that Markdown and HTML show as it is, in one line and of at most 100 characters."""
    cut = text if len(text) <= 100 else text[:99] + "…"
    return "".join(_ESCAPED.get(found, found if found.isprintable() else " ") for found in cut)


def append(found: Summary, file: str) -> None:
    """Append the Markdown to a file, which is made if there is none; raises OSError."""
    fd = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o666)
    with os.fdopen(fd, "w", encoding="utf-8", newline="\n") as out:
        out.write(markdown(found))
