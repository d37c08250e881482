"""The checked contents of one request, on the way into a store or a spool; no I/O."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from rillevents.errors import RilleventsError
from rillevents.event.envelope import Required


class Unavailable(RilleventsError):
    """Nothing could be stored now; the sender keeps its events and retries."""

    exit_code = 75


class InvalidLine(NamedTuple):
    """An invalid line: its number (from 1), the reason, and its bytes."""

    number: int
    reason: str
    line: bytes


@dataclass(slots=True)
class Incoming:
    """The events of one request: each of `lines` ends with a newline; `fields` and `numbers` belong to the same line."""

    lines: list[bytes]
    fields: list[Required]
    numbers: Sequence[int]
    bad: list[InvalidLine] = field(default_factory=list)
    stream: str = "default"
    received_us: int = 0
    size: int = 0


@dataclass(frozen=True, slots=True)
class Stored:
    """The result for the good lines of one request; `conflicts` are the indexes of those whose ID belongs to another event."""

    accepted: int
    duplicates: int = 0
    conflicts: tuple[int, ...] = ()


class Storage(Protocol):
    """Where incoming events are kept; called from one thread at a time, though not always from the same."""

    def store(self, incoming: Sequence[Incoming]) -> list[Stored]:
        """Keep everything, or raise Unavailable; once this returns, the events survive a kill and a loss of power."""

    def tidy(self) -> bool:
        """Do the maintenance that is due between two calls, and return whether there is more of it; raises Unavailable."""

    def close(self) -> None:
        """Release files and locks."""
