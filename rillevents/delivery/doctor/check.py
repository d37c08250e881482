"""One check of the doctor, and all of them together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Check:
    """What was looked at, whether it is as it should be, what was seen, and what to do.

    *advice* may be there although it is *ok*: then something could be better. *exit_code* counts only if it is not.
    """

    name: str
    ok: bool
    detail: str
    advice: str = ""
    exit_code: int = 0


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """All checks, in the order in which they were made."""

    checks: Sequence[Check]

    @property
    def exit_code(self) -> int:
        """The exit code of the first check that failed, 0 if none did."""
        return next((check.exit_code for check in self.checks if not check.ok), 0)

    def as_dict(self) -> dict[str, Any]:
        """Return the document of `doctor --json`."""
        checks = [
            {"name": check.name, "ok": check.ok, "detail": check.detail, "advice": check.advice}
            for check in self.checks
        ]
        return {"ok": all(check.ok for check in self.checks), "checks": checks}
