"""One call to an exporter at a time, on a thread that can be abandoned when the deadline ends."""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Callable
from dataclasses import replace
from queue import SimpleQueue

from rillevents.delivery.outcome import Exporter, Kind, Outcome, clean
from rillevents.delivery.pace import Backoff, Deadline
from rillevents.errors import ConfigError
from rillevents.event.batch import Batch
from rillevents.event.muting import Muted

WAIT_SLICE = 1.0


class Stop(Exception):
    """The flush must end now; `outcome` says why."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__(outcome.reason)
        self.outcome = outcome


class _LeftBehind(Exception):
    """Aborts the upload of a call that nobody waits for any longer."""


class _Call:
    def __init__(self, batch: Batch) -> None:
        self.batch = batch
        self.done = threading.Event()
        self.outcome = Outcome(Kind.TEMPORARY)


class Sender:
    """Hands batches to one exporter, each call within one deadline.

    Use it in one thread only. The exporter runs on a daemon thread, which is abandoned when the deadline ends or at an interrupt;
    after that every request raises Stop, and the caller must still call `exporter.close()`.
    """

    def __init__(
        self,
        exporter: Exporter,
        deadline: Deadline,
        *,
        backoff: Backoff | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.requests = 0
        self.warning = ""
        self.bytes = 0
        self._exporter = exporter
        self._deadline = deadline
        self._backoff = backoff or Backoff()
        self._sleep = sleep
        self._calls: SimpleQueue[_Call | None] = SimpleQueue()
        # A finalizer as well as close(): otherwise the thread would outlive a Sender that was dropped.
        self._end_thread = weakref.finalize(self, self._calls.put, None)
        # Not at exit: a flush that runs at exit still needs the thread, which is a daemon and ends by itself.
        self._end_thread.atexit = False
        self._thread: threading.Thread | None = None
        self._left_behind = False
        self._last_answer = ""
        self._sent = self._most_sent = 0
        self._meanwhile: Callable[[], None] | None = None

    def close(self) -> None:
        """End the thread as soon as it is idle; nothing can be sent afterwards."""
        self._left_behind = True
        self._end_thread()

    def begin(self, batch: Batch, meanwhile: Callable[[], None] | None = None) -> Batch:
        """Return *batch* with its progress watched; *meanwhile* is called once, during the next request."""
        self._most_sent = 0
        self._meanwhile = meanwhile
        return batch.watched(self._on_progress)

    def request(self, batch: Batch) -> Outcome:
        """Return the outcome of one call to the exporter; raises Stop if there is no time left."""
        if self._left_behind or self._deadline.expired:
            raise Stop(Outcome(Kind.TEMPORARY, self._with_last_answer("no time left")))
        self.requests += 1
        self._sent = 0
        outcome = self._wait_for(self._start(batch))
        # If no progress was reported, only an acknowledgement shows that everything was sent.
        self.bytes += self._sent or (batch.size if outcome.kind is Kind.ACCEPTED else 0)
        self._last_answer = outcome.reason
        self.warning = self.warning or outcome.warning
        return outcome

    def pause(self, attempt: int, outcome: Outcome) -> None:
        """Wait before attempt number *attempt* + 1; raises Stop if the wait would not end in time."""
        wait = self._backoff.delay(attempt, outcome.retry_after)
        if wait >= self._deadline.remaining():
            raise Stop(replace(outcome, kind=Kind.TEMPORARY))
        self._sleep(wait)

    def progress(self) -> None:
        """Restart the stall clock: something was settled."""
        self._deadline.progress()

    def _start(self, batch: Batch) -> _Call:
        call = _Call(batch)
        if self._thread is None:
            thread = threading.Thread(target=_make_calls, args=(self._exporter, self._calls), daemon=True)
            try:
                thread.start()
            except RuntimeError:
                # The interpreter is shutting down and starts no more threads: call directly, without a deadline.
                call.outcome = attempt(self._exporter, batch)
                call.done.set()
                return call
            self._thread = thread
        self._calls.put(call)
        return call

    def _wait_for(self, call: _Call) -> Outcome:
        started = self._deadline.clock()
        meanwhile, self._meanwhile = self._meanwhile, None
        try:
            if meanwhile:
                meanwhile()
            # In slices, not for all the time that is left: an upload with progress gets more time, and not every platform can
            # interrupt a wait.
            while not call.done.wait(min(self._deadline.remaining(), WAIT_SLICE)):
                if self._deadline.expired:
                    seconds = self._deadline.clock() - started
                    reason = self._with_last_answer(f"no answer within {round(seconds, 1):g} s")
                    raise Stop(Outcome(Kind.TEMPORARY, reason))
        except BaseException:
            self.close()
            raise
        return call.outcome

    def _with_last_answer(self, reason: str) -> str:
        return clean(f"{reason}; the last answer was: {self._last_answer}") if self._last_answer else reason

    def _on_progress(self, sent: int) -> None:
        if self._left_behind:
            raise _LeftBehind
        self._sent = sent
        if sent > self._most_sent:
            self._most_sent = sent
            self._deadline.progress()


def _make_calls(exporter: Exporter, calls: SimpleQueue[_Call | None]) -> None:
    while (call := calls.get()) is not None:
        call.outcome = attempt(exporter, call.batch)
        call.done.set()
        del call  # It refers to the Sender, which could not be collected while the thread waits for the next call.


def attempt(exporter: Exporter, batch: Batch) -> Outcome:
    """Return the outcome of one call to an exporter; whatever it raises, the events are kept."""
    try:
        # An HTTP client logs its requests; as events, these lines would cause requests without end.
        with Muted():
            outcome: object = exporter.export(batch)
    except ConfigError as error:
        return Outcome(Kind.MISCONFIGURED, clean(str(error)))
    except BaseException as error:  # noqa: BLE001 - a bug in an exporter must not lose events
        return Outcome(Kind.TEMPORARY, clean(f"{type(error).__name__}: {error}"))
    return outcome if isinstance(outcome, Outcome) else Outcome(Kind.TEMPORARY, "the exporter returned no outcome")
