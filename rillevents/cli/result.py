"""What a command returns: data for stdout, messages for stderr, and an exit code; `render` decides how it looks."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Result:
    """The outcome of one command.

    *kind* says how *data* is shown to people; `--json` prints *data* itself as one document. *lines* are bytes that go to stdout
    unchanged (NDJSON, a completion script); with the kind `stream` each is shown as it comes. *messages* go to stderr, *notices*
    only if that is a terminal.
    """

    kind: str = ""
    data: Any = None
    lines: Iterable[bytes] = ()
    messages: tuple[str, ...] = ()
    notices: tuple[str, ...] = ()
    exit_code: int = 0


@dataclass(frozen=True, slots=True)
class Shown:
    """A result and how its caller wants to see it; *on_error* applies to a failure to print it."""

    result: Result
    as_json: bool = False
    quiet: bool = False
    on_error: str = "fail"


@dataclass(frozen=True, slots=True)
class Failure:
    """An error as data, for `--json`."""

    error: str
    hint: str = ""
    exit_code: int = 1

    def as_dict(self) -> dict[str, Any]:
        """Return the document that `--json` prints for it."""
        return {"error": self.error, "hint": self.hint, "exit_code": self.exit_code}
