"""What a command gives back: data for stdout, words for stderr, and an exit code; how it looks is `render`'s matter."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Result:
    """The outcome of one command.

    *kind* says how people see *data*; `--json` prints *data* itself as one document. *lines* are bytes for stdout that stay as
    they are (NDJSON, a completion script); of the kind `stream` each is seen as it comes. *messages* go to stderr, *notices*
    only where that is a terminal.
    """

    kind: str = ""
    data: Any = None
    lines: Iterable[bytes] = ()
    messages: tuple[str, ...] = ()
    notices: tuple[str, ...] = ()
    exit_code: int = 0


@dataclass(frozen=True, slots=True)
class Shown:
    """A result and the way in which its caller wants to see it; *on_error* is what it says to a failure to print it."""

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
