"""What a batching sink holds: the waiting lines, and the ledger of all others."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

from rillevents.event.batch import HELD, UNSETTLED, LineVerdict, Rejected

if TYPE_CHECKING:
    from rillevents.delivery.settle import Delivery

BATCH_BYTES = 1 << 20


class EventQueue:
    """The waiting events, in order, and a ledger of the others; hold `lock` to access it."""

    def __init__(self, limit: int) -> None:
        # Reentrant: a signal handler may emit in the thread that it interrupted while the lock was held. The interrupted
        # code must tolerate that: every change is a single deque operation, or contains no call.
        self.lock = threading.RLock()
        self.work = threading.Condition(self.lock)
        self.changed = threading.Condition(self.lock)
        self.limit = limit
        self.lines: deque[bytes] = deque()
        self.wake_at: float = 0
        self.full = False
        self.overflow = 0
        self._waiting: set[int] = set()
        self.removed = self.requests = self.bytes = 0
        self.delivery: Delivery | None = None
        self.last_rejection = ""
        self._counts = dict.fromkeys(("delivered", "rejected", "truncated", "refused"), 0)
        self._dropped: dict[str, int] = {}

    def count(self, kind: str, reason: str = "", n: int = 1) -> None:
        ledger, key = (self._dropped, reason) if kind == "dropped" else (self._counts, kind)
        with self.lock:
            ledger.setdefault(key, 0)
            # No call between reading and writing: signal handlers, which may count as well, run after calls.
            ledger[key] += n

    def ledger(self) -> dict[str, Any]:
        pending, dropped = len(self.lines), dict(self._dropped)
        settled = self._counts["delivered"] + self._counts["rejected"] + sum(dropped.values())
        return {"recorded": settled + pending, **self._counts, "dropped": dropped, "pending": pending}

    def totals(self) -> tuple[int, ...]:
        """Return how many events were delivered, rejected and dropped, and requests and bytes, including current ones."""
        requests, size = self.requests, self.bytes
        if self.delivery is not None:
            requests, size = requests + self.delivery.requests, size + self.delivery.bytes
        return self._counts["delivered"], self._counts["rejected"], sum(self._dropped.values()), requests, size

    def end_delivery(self) -> None:
        *_, self.requests, self.bytes = self.totals()
        self.delivery = None

    def read(self, start: int, end: int) -> list[bytes]:
        lines: list[bytes] = []
        size = 0
        for line in islice(self.lines, start, end):
            size += len(line)
            if lines and size > BATCH_BYTES:
                break
            lines.append(line)
        return lines

    def settle(self, start: int, verdicts: Sequence[LineVerdict]) -> tuple[int, str]:
        """Remove delivered and rejected lines from *start* on; return how many stay, and any new rejection reason."""
        rejections = [verdict.reason for verdict in verdicts if isinstance(verdict, Rejected)]
        self.lines.rotate(-start)
        lines = [self.lines.popleft() for _ in verdicts]
        kept = [line for line, verdict in zip(lines, verdicts, strict=True) if verdict in (HELD, UNSETTLED)]
        self.lines.extendleft(reversed(kept))
        self.lines.rotate(start)
        self.count("rejected", n=len(rejections))
        self.count("delivered", n=len(lines) - len(kept) - len(rejections))
        self._note_removed(len(lines) - len(kept))
        before, self.last_rejection = self.last_rejection, rejections[-1] if rejections else self.last_rejection
        return len(kept), self.last_rejection if self.last_rejection != before else ""

    def drop_before(self, mark: int, reason: str) -> int:
        """Drop the first lines, up to the one before which *mark* lines had been removed, and return how many."""
        n = 0
        # One by one, without counting first: a signal handler may close meanwhile and do the same.
        while self.lines and self.removed < mark:
            self.lines.popleft()
            self.count("dropped", reason)
            self._note_removed(1)
            n += 1
        return n

    def is_held(self) -> bool:
        """Return whether this thread holds the lock, as in a signal handler that interrupted our code."""
        try:
            self.changed.notify(0)
        except RuntimeError:
            return False
        return True

    def wait_for_room(self, seconds: float) -> bool:
        """Wait until there is room; not again after a wait in vain, nor in a handler that interrupted a wait."""
        thread = threading.get_ident()
        if not self.full and thread not in self._waiting:
            self._waiting.add(thread)
            try:
                self.full = not self.changed.wait_for(self.has_room, seconds)
            finally:
                self._waiting.discard(thread)
        return self.has_room()

    def has_room(self) -> bool:
        return len(self.lines) < self.limit

    def _note_removed(self, n: int) -> None:
        self.removed += n
        if n:
            self.full = False
            self.changed.notify_all()
