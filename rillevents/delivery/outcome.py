"""The one interface between our code and destinations: a batch in, an outcome out. Importing it loads no exporter."""

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
    """What an answer means for the batch, by who must act."""

    ACCEPTED = "accepted"
    """Acknowledged, except for the lines that `Outcome.rejected` names."""
    TEMPORARY = "temporary"
    """Nobody must act: 408, 425, 429, 5xx except 500 and 508, network errors, an unreadable answer, a web page."""
    SERVER_ERROR = "server error"
    """500: temporary, unless it is repeated for the same batch."""
    TOO_LARGE = "too large"
    """413."""
    INVALID = "invalid"
    """400, 422: at least one line is refused."""
    REFUSED = "refused"
    """401, 403: the credentials must be changed."""
    MISCONFIGURED = "misconfigured"
    """404, 410, 3xx and every other 4xx: the URL or the set-up must be changed; no event is rejected because of it."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result for one batch.

    `retry_after` is the minimum wait in seconds, infinity if an early retry is useless. `rejected` holds (0-based index into the
    batch's lines, reason) and only counts if the kind is ACCEPTED. `acknowledged` holds the indexes of lines that are accepted
    although the kind is another one: only the others are to be sent again. `fault` is the status of a temporary 5xx that may be
    about an event of the batch, else 0: if it is repeated for one batch, it is taken for a SERVER_ERROR. `unidentified` is how
    many events an acknowledgement refuses without naming them, for `reason`. `warning` is for a person: the events are settled.
    """

    kind: Kind
    reason: str = ""
    retry_after: float | None = None
    rejected: tuple[tuple[int, str], ...] = ()
    fault: int = 0
    unidentified: int = 0
    warning: str = ""
    acknowledged: tuple[int, ...] = ()


class FlushOutcome(StrEnum):
    """The result of a whole flush: the word that `flush --json` prints, and its exit code."""

    DELIVERED = "delivered"
    EMPTY = "empty"
    OFF = "off"
    REJECTED = "rejected"
    TEMPORARY = "temporary"
    REFUSED = "refused"
    UNCONFIGURED = "unconfigured"

    @classmethod
    def of(cls, stop: Outcome) -> FlushOutcome:
        """Return the result of a flush that had to stop at this outcome."""
        return {Kind.REFUSED: cls.REFUSED, Kind.MISCONFIGURED: cls.UNCONFIGURED}.get(stop.kind, cls.TEMPORARY)

    @property
    def exit_code(self) -> int:
        """The exit code of `rillevents flush`."""
        return {"rejected": 65, "temporary": 75, "refused": 77, "unconfigured": 78}.get(self.value, 0)

    @property
    def needs_attention(self) -> bool:
        """Whether the flush ended early: the destination, or the set-up, must be changed first."""
        return self.exit_code > 65


@dataclass(frozen=True, slots=True)
class FlushResult:
    """The result of one flush; the keys of `flush --json`.

    `delivered`, `rejected`, `corrupt` and `dropped` count the events that this call had acknowledged, moved to rejected/, moved
    to corrupt/, and deleted because of a cap. `pending` counts those still in the spool. `requests` and `bytes` count what was
    sent, `seconds` the time it took. `reason` explains any outcome other than "everything was delivered".
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
        """The exit code of `rillevents flush` for this result."""
        return self.outcome.exit_code

    def as_dict(self) -> Mapping[str, Any]:
        """Return the result as the JSON document of `flush --json`."""
        return {**asdict(self), "outcome": self.outcome.value}


class Exporter(Protocol):
    """Hands batches to one destination.

    `export` is called from one thread at a time, though not always from the same, and may be abandoned while it still waits;
    `close` may be called meanwhile, from another thread, and more than once. An exporter may have a method `prepare`: a flush
    gives it the next batch while one is being sent, and ignores its exceptions. `batch_events` and `batch_bytes` may say how
    much it prefers at a time if nothing is configured, and `most`, a pair of both, up to how much it takes at a time. With a true
    `may_drop_old`, a person hears of it when old events were delivered.
    """

    def export(self, batch: Batch) -> Outcome:
        """Hand the batch over once, report through `batch.progress`, and return what was answered.

        A destination that acknowledges single events notes each with `batch.acknowledge`, before it returns or fails; such
        events may be handed over again within other parts of the batch, and must not be sent again.
        """

    def close(self) -> None:
        """Close connections and files."""


REASON_MAX = 200


def clean(text: str | bytes, limit: int = REASON_MAX) -> str:
    """Return one line of at most `limit` characters, without anything that could control a terminal or forge a log line."""
    if isinstance(text, bytes):
        text = text[: limit * 4].decode("utf-8", "replace")
    # Remove format characters as well as control characters: bidirectional marks can reverse a line.
    visible = "".join(" " if unicodedata.category(c)[0] in "CZ" else c for c in text[: limit * 4])
    line = " ".join(visible.split())
    return line if len(line) <= limit else line[: limit - 1] + "…"
