"""Many requests, one commit: all waiting requests are stored together, and each is answered when the data is on the disk.

One thread commits. While it waits for the disk, new requests gather and form the next commit, so a slow disk makes
commits larger, not requests fewer. The queue is bounded; when it is full, clients are asked to come again.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress

from rillevents.serve.limits import MAX_COMMIT_BYTES, MAX_WAITING_BYTES, MAX_WAITING_EVENTS
from rillevents.store.incoming import Incoming, Storage, Stored, Unavailable

_TIDY_SECONDS = 1.0

CommitResult = Stored | Unavailable
Waiting = tuple[Incoming, "asyncio.Future[CommitResult]"]


class Overloaded(Exception):
    """More events wait for the disk than allowed."""


class Committer:
    """Stores what it is given, on a thread of its own, in the order of arrival.

    Call `submit` on the thread of *loop*; *on_commit* is called on the committing thread with requests and seconds.
    """

    def __init__(
        self,
        storage: Storage,
        loop: asyncio.AbstractEventLoop,
        *,
        on_commit: Callable[[int, float], None] = lambda requests, seconds: None,
        warn: Callable[[str], None] = lambda message: None,
    ) -> None:
        self.problem = ""
        self.events = self.bytes = 0
        self._storage = storage
        self._loop = loop
        self._on_commit = on_commit
        self._warn = warn
        self._waiting: deque[Waiting] = deque()
        self._work = threading.Event()
        self._closing = self._idle = False
        self._thread = threading.Thread(target=self._run, name="rillevents-commit", daemon=True)

    def start(self) -> None:
        """Start committing."""
        self._thread.start()

    def submit(self, incoming: Incoming) -> asyncio.Future[CommitResult]:
        """Return a future with the counts once the events are on the disk, or with Unavailable; raises Overloaded."""
        events, size = self.events + _count(incoming), self.bytes + incoming.size
        if self.events and (events > MAX_WAITING_EVENTS or size > MAX_WAITING_BYTES):
            raise Overloaded
        self.events, self.bytes = events, size
        future: asyncio.Future[CommitResult] = self._loop.create_future()
        self._waiting.append((incoming, future))
        if self._idle:
            # In the loop's next turn: everything that arrives in this turn then goes into one commit, not two.
            self._idle = False
            self._loop.call_soon(self._work.set)
        return future

    def close(self) -> None:
        """Commit what waits, then end the thread; waits for both."""
        self._closing = True
        self._work.set()
        self._thread.join()

    def _run(self) -> None:
        is_more = False
        while True:
            self._idle = True
            # Check after setting `_idle`: a request that came in between found nobody to wake.
            if not self._waiting and not self._closing and not self._work.wait(0 if is_more else _TIDY_SECONDS):
                self._ask_again()
            self._idle = False
            self._work.clear()
            while batch := self._take():
                self._commit(batch)
            if self._closing and not self._waiting:
                self._storage.close()
                return
            is_more = self._tidy()

    def _take(self) -> list[Waiting]:
        batch: list[Waiting] = []
        size = 0
        while self._waiting and (not batch or size + self._waiting[0][0].size <= MAX_COMMIT_BYTES):
            batch.append(self._waiting.popleft())
            size += batch[-1][0].size
        return batch

    def _commit(self, batch: Sequence[Waiting]) -> None:
        began = time.monotonic()
        try:
            results: Sequence[CommitResult] = self._storage.store([incoming for incoming, _ in batch])
            self._heard("")
        except Unavailable as error:
            self._heard(error.message)
            results = [error] * len(batch)
        except Exception as error:  # noqa: BLE001 - nothing was acknowledged; the next commit may succeed
            self._heard(f"internal error: {type(error).__name__}: {error}")
            results = [Unavailable(self.problem)] * len(batch)
        self._on_commit(len(batch), time.monotonic() - began)
        self._loop.call_soon_threadsafe(self._tell, batch, results)

    def _heard(self, problem: str) -> None:
        """Report a problem once, not with each request."""
        if problem and problem != self.problem:
            self._warn(f"{problem}; clients are asked to keep their events and retry")
        elif self.problem and not problem:
            self._warn("events are stored again")
        self.problem = problem

    def _tell(self, batch: Sequence[Waiting], results: Sequence[CommitResult]) -> None:
        for (incoming, future), result in zip(batch, results, strict=True):
            self.events -= _count(incoming)
            self.bytes -= incoming.size
            # If it is done already, the client has gone; the events are stored all the same.
            if not future.done():
                future.set_result(result)

    def _ask_again(self) -> None:
        """After a problem, check whether it persists even if no request comes, for clients that poll /readyz first."""
        if self.problem:
            with suppress(Exception):
                self._storage.store([])
                self._heard("")

    def _tidy(self) -> bool:
        """Do the maintenance that is due, and return whether there is more of it."""
        try:
            return self._storage.tidy()
        except Exception as error:  # noqa: BLE001 - what is not cleaned up now is cleaned up next time
            self._heard(getattr(error, "message", "") or f"{type(error).__name__}: {error}")
            return False


def _count(incoming: Incoming) -> int:
    # Count invalid lines, too: they are also kept, and need more memory than their bytes.
    return len(incoming.lines) + len(incoming.bad)
