"""What one request brings, checked, on its way into a store or a spool; no I/O."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from rillevents.errors import RilleventsError
from rillevents.event.envelope import Required


class Unavailable(RilleventsError):
    """Nothing of this could be stored now; the sender keeps it and tries again."""

    exit_code = 75


class Bad(NamedTuple):
    """A line that is no event: its number (from 1), why, and its bytes."""

    number: int
    reason: str
    line: bytes


@dataclass(slots=True)
class Incoming:
    """The events of one request: `lines` end with a newline each, and `fields`, `numbers` are those of the same line."""

    lines: list[bytes]
    fields: list[Required]
    numbers: Sequence[int]
    bad: list[Bad] = field(default_factory=list)
    stream: str = "default"
    received_us: int = 0
    size: int = 0


@dataclass(frozen=True, slots=True)
class Stored:
    """What became of the good lines of one request; `conflicts` are the indexes of those whose ID another event has."""

    accepted: int
    duplicates: int = 0
    conflicts: tuple[int, ...] = ()


class Storage(Protocol):
    """Where incoming events are kept; called from one thread at a time, though not always from the same."""

    def store(self, incoming: Sequence[Incoming]) -> list[Stored]:
        """Keep all of it, or raise Unavailable; once this returns it outlasts a kill and a loss of power."""

    def tidy(self) -> bool:
        """Do what is due between two of these calls, and return whether there is more of it; raises Unavailable."""

    def close(self) -> None:
        """Let go of files and locks."""
