"""The one seam between what we hold and where it goes: a batch in, an outcome out. Importing it loads no exporter."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import Enum, StrEnum
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from rillevents.event.batch import Batch

import unicodedata

from rillevents.event.batch import Batch


class Kind(Enum):
    """What an answer means for the batch, by who has to act."""

    ACCEPTED = "accepted"
    """Acknowledged, but for the lines that `Outcome.rejected` names."""
    TEMPORARY = "temporary"
    """Nobody has to act: 408, 425, 429, 5xx other than 500, the network, an unreadable answer, a web page."""
    SERVER_ERROR = "server error"
    """500: temporary, unless it comes again and again for the same batch."""
    TOO_LARGE = "too large"
    """413."""
    INVALID = "invalid"
    """400, 422: at least one line is refused."""
    REFUSED = "refused"
    """401, 403: the credentials have to change."""
    MISCONFIGURED = "misconfigured"
    """404, 410, 3xx and every other 4xx: the URL or the set-up has to change; no event is rejected because of it."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one batch.

    `retry_after` is the least number of seconds to wait, infinity where trying again soon is of no use. `rejected`
    holds (0-based index into the batch's lines, reason) and counts only where the kind is ACCEPTED.
    """

    kind: Kind
    reason: str = ""
    retry_after: float | None = None
    rejected: tuple[tuple[int, str], ...] = ()


class FlushOutcome(StrEnum):
    """What a whole flush came to: the word that `flush --json` prints, and its exit code."""

    DELIVERED = "delivered"
    EMPTY = "empty"
    OFF = "off"
    REJECTED = "rejected"
    TEMPORARY = "temporary"
    REFUSED = "refused"
    UNCONFIGURED = "unconfigured"

    @classmethod
    def of(cls, stop: Outcome) -> FlushOutcome:
        """Return what a flush came to that had to stop at this outcome."""
        return {Kind.REFUSED: cls.REFUSED, Kind.MISCONFIGURED: cls.UNCONFIGURED}.get(stop.kind, cls.TEMPORARY)

    @property
    def exit_code(self) -> int:
        """The exit code of `rillevents flush`."""
        return {"rejected": 65, "temporary": 75, "refused": 77, "unconfigured": 78}.get(self.value, 0)

    @property
    def needs_attention(self) -> bool:
        """Whether the flush ended before everything was settled: the destination, or its set-up, has to change first."""
        return self.exit_code > 65


@dataclass(frozen=True, slots=True)
class FlushResult:
    """What one flush came to; the keys of `flush --json`.

    `delivered`, `rejected`, `corrupt` and `dropped` count the events that this call acknowledged, put aside as refused, put
    aside as damaged, and gave up for a cap. `pending` counts those that the spool still holds. `requests` and `bytes` are
    what was sent, `seconds` how long it took. `reason` says why, where the outcome is not "everything was delivered".
    """

    outcome: FlushOutcome
    delivered: int = 0
    rejected: int = 0
    corrupt: int = 0
    dropped: int = 0
    pending: int = 0
    requests: int = 0
    bytes: int = 0
    seconds: float = 0.0
    reason: str = ""

    @property
    def exit_code(self) -> int:
        """The exit code that `rillevents flush` gives for this."""
        return self.outcome.exit_code

    def as_dict(self) -> Mapping[str, Any]:
        """Return the result as the JSON document of `flush --json`."""
        return {**asdict(self), "outcome": self.outcome.value}


class Exporter(Protocol):
    """Hands batches to one destination.

    `export` is called from one thread at a time, though not always from the same, and may be left behind while it
    still waits; `close` may be called meanwhile, from another thread, and more than once. One may have a method `prepare`,
    too: a flush gives it the batch that comes next while one is under way, and does not mind what it raises. One may say by
    `batch_events` and `batch_bytes` how much it likes at a time, where nobody has configured it.
    """

    def export(self, batch: Batch) -> Outcome:
        """Hand the batch over once, report through `batch.progress`, and say what was answered."""

    def close(self) -> None:
        """Let go of connections and files."""


REASON_MAX = 200


def clean(text: str | bytes, limit: int = REASON_MAX) -> str:
    """Return one line of at most `limit` characters, without anything that could steer a terminal or a log."""
    if isinstance(text, bytes):
        text = text[: limit * 4].decode("utf-8", "replace")
    # Format characters go too, not control ones alone: because bidirectional marks can turn a line around.
    visible = "".join(" " if unicodedata.category(c)[0] in "CZ" else c for c in text[: limit * 4])
    line = " ".join(visible.split())
    return line if len(line) <= limit else line[: limit - 1] + "…"
