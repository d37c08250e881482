"""A queue in memory and an exporter, in the background: for services in which recording must cost almost nothing.

Theory of operation. Events stay in one deque until they are settled: emitters append on the right; one daemon thread, the
worker, reads on the left and removes what was delivered or rejected, so that a failure changes neither order nor counts.
One lock guards it all; it is held for microseconds, never during a call to the exporter or the log. The worker goes in
rounds, each over what was there when it began, and with a Delivery of its own. There are three reasons for that: what a
destination accepted an hour ago is no evidence that it is the right one now; a Delivery that abandoned a call sends
nothing more; and the stall clock must start with the round. A flush requests a round that starts after it, a close the
last one.

The limit of memory: held events are lost with the process (a kill, `os._exit`, power). If you cannot afford to lose
events, record to the spool.
"""

from __future__ import annotations

import atexit
import logging
import os
import threading
import time
from collections.abc import Callable, Mapping
from functools import cache, partial
from typing import TYPE_CHECKING, Any
from weakref import WeakSet, finalize

from rillevents.delivery.outcome import Exporter, Kind, Outcome
from rillevents.delivery.pace import Backoff
from rillevents.event.muting import Muted
from rillevents.recording.sinks import Sink
from rillevents.recording.sinks._link import ExporterHandle, LastingBackoff
from rillevents.recording.sinks._queue import EventQueue
from rillevents.recording.sinks._worker import Worker

if TYPE_CHECKING:
    from rillevents.delivery.exporters.encoding import Compression
    from rillevents.delivery.outcome import FlushResult
    from rillevents.event import Event


class BatchingSink(Sink):
    """Keeps events in memory, at most *buffer_size*, and sends them from a thread of its own, in batches.

    An event is sent at most *interval* seconds after it was emitted, or once there are *batch_events*. What cannot be delivered
    now stays, in order, and is retried, less and less often, down to every half minute. *close_timeout* is how many seconds
    `close`, and the end of the process, may take. *max_wait* is how many seconds `emit` waits if memory is full. The thread,
    and with it the sink, lives until the process ends.

    An exporter with connections can neither be shared with a forked child nor be used after `close`, nor while a call to it
    hangs: *renew* creates another one for these cases. Without *renew* the same exporter stays in use, but never for two calls
    at a time, nor in the child of a process that has used it.

    Safe in threads, signal handlers and forks: a child starts with nothing, and its parent keeps what it holds. The sink is
    closed at the end of a process, and of a child of multiprocessing; `os._exit` and a kill lose what is held.
    """

    def __init__(
        self,
        exporter: Exporter | None,
        *,
        renew: Callable[[], Exporter] | None = None,
        buffer_size: int = 10_000,
        batch_events: int = 2000,
        interval: float = 1.0,
        close_timeout: float = 2.0,
        max_wait: float = 1.0,
        backoff: Backoff | None = None,
    ) -> None:
        # Imported here, not in a thread or a flush: a child forked during an import can never do the same import.
        import rillevents.delivery.flusher  # noqa: F401

        if min(buffer_size, batch_events) < 1:
            raise ValueError("buffer_size and batch_events must be at least 1")
        self._memory = EventQueue(buffer_size)
        self._link = ExporterHandle(exporter, renew)
        self._worker: Worker | None = None
        self._batch_events = batch_events
        self._interval = interval
        self._close_timeout = close_timeout
        self._max_wait = max_wait
        self._backoff = backoff or Backoff()
        _sinks.add(self)

    def emit(self, event: Event) -> None:
        """Put the event into memory, and return; raises InvalidEvent if it is invalid.

        If memory is full, it waits for room, at most *max_wait* seconds, and then drops the event, counted as `queue-full`. Later
        emits do not wait until there has been room again, nor does one in a signal handler that interrupted the sink. After
        `close` an emit starts anew.
        """
        line = event.line
        memory = self._memory
        with memory.lock:
            if event.truncated:
                memory.count("truncated")
            if len(memory.lines) < memory.limit:
                self._put(line)
                return
        self._put_late(line)

    def flush(self, timeout: float | None = None) -> FlushResult:
        """Send what is held now, in at most *timeout* seconds, and return the result; never raises.

        The counts cover everything settled meanwhile; `pending` is what is in memory afterwards, to be retried.
        """
        started = time.monotonic()
        with self._memory.lock:
            before = self._memory.totals()
            stop = self._ask_and_wait(timeout) if self._memory.lines else None
            return self._result(before, stop, time.monotonic() - started)

    def close(self, timeout: float | None = None) -> None:
        """Send what is held, in at most *timeout* seconds (else *close_timeout*), and end the thread and the exporter.

        The rest is dropped, counted as `closed`, and logged. Never raises. Events that arrive meanwhile start anew.
        """
        self._await_end(*self._ask_to_end(timeout))

    def count(self, kind: str, reason: str = "", n: int = 1) -> None:
        """Count *n* events that did not arrive here; `dropped` ones count as recorded, too."""
        self._memory.count(kind, reason, n)

    @property
    def counts(self) -> Mapping[str, Any]:
        """The ledger of this process: `recorded` is always `delivered` + `rejected` + all `dropped` + `pending`."""
        with self._memory.lock:
            return self._memory.ledger()

    def _put(self, line: bytes) -> None:
        self._memory.lines.append(line)
        if len(self._memory.lines) >= self._memory.wake_at:
            self._wake()
            if _exiting:
                self.close()  # Nothing else will: the exit handlers have run.

    def _put_late(self, line: bytes) -> None:
        memory = self._memory
        # Not if the lock is held already: a wait releases it in the middle of the interrupted code.
        may_wait = not memory.is_held()
        with memory.lock:
            self._wake()
            if memory.wait_for_room(self._max_wait) if may_wait else memory.has_room():
                self._put(line)
            else:
                # The worker logs it, not this code: it may be a signal handler, which must not write to the log.
                memory.count("dropped", "queue-full")
                memory.overflow += 1

    def _wake(self) -> None:
        if self._worker is not None and not self._worker.ended:
            self._worker.wake()
        else:
            self._start()

    def _start(self) -> Worker:
        """Return the worker, a new one if the last has ended."""
        before = self._worker
        if before is not None and not before.ended:
            return before
        _close_at_exit()
        link = self._link if before is None else before.link.successor()
        events, backoff = min(self._batch_events, self._memory.limit), LastingBackoff(self._backoff)
        worker = Worker(self._memory, link, events, self._interval, backoff, self._wake)
        # A signal handler in between may have started one; from here on it finds ours.
        if self._worker is before:
            self._worker = worker
            self._memory.wake_at = float("inf")
            worker.start()
        return self._worker or worker

    def _ask_and_wait(self, timeout: float | None) -> Outcome | None:
        worker = self._start()
        if worker.ended and not worker.has_thread():
            return worker.stop  # It says why there is no thread.
        ticket = worker.ask()
        self._memory.changed.wait_for(
            lambda: worker.answered >= ticket or worker.ended or not self._memory.lines,
            None if timeout is None else min(timeout, threading.TIMEOUT_MAX),
        )
        if worker.answered >= ticket:
            return worker.stop
        if not self._memory.lines:
            return None
        answer = f"; the last answer was: {worker.link.answer}" if worker.link.answer else ""
        return Outcome(Kind.TEMPORARY, f"not delivered in time{answer}")

    def _result(self, before: tuple[int, ...], stop: Outcome | None, seconds: float) -> FlushResult:
        from rillevents.delivery.outcome import FlushOutcome, FlushResult

        memory = self._memory
        delivered, rejected, dropped, requests, size = (a - b for a, b in zip(memory.totals(), before, strict=True))
        if stop is not None:
            outcome, reason = FlushOutcome.of(stop), stop.reason
        elif rejected:
            outcome, reason = FlushOutcome.REJECTED, f"{rejected} events were refused for good: {memory.last_rejection}"
        else:
            outcome, reason = FlushOutcome.DELIVERED if delivered else FlushOutcome.EMPTY, ""
        seconds = round(seconds, 3)
        return FlushResult(outcome, delivered, rejected, 0, dropped, len(memory.lines), requests, size, seconds, reason)

    def _ask_to_end(self, timeout: float | None) -> tuple[Worker | None, float]:
        by = time.monotonic() + (self._close_timeout if timeout is None else timeout)
        with self._memory.lock:
            if self._memory.lines or (self._worker is not None and not self._worker.ended):
                self._start().ask_to_end(by)
            return self._worker, by

    def _await_end(self, worker: Worker | None, by: float) -> None:
        if worker is None:
            self._link.close()
            self._link = self._link.successor()
            return
        with self._memory.lock:
            self._memory.changed.wait_for(lambda: worker.ended, by - time.monotonic())
            # A worker without a thread has ended, too, and leaves its events to us.
            abandoned = not (worker.ended and worker.has_thread())
            if abandoned:
                worker.end()
        if abandoned:
            worker.link.close()
        worker.tell_dropped()
        if worker.has_thread() and worker.thread is not threading.current_thread():
            worker.thread.join(max(0.0, by - time.monotonic()))

    def _after_fork(self) -> None:
        self._memory = EventQueue(self._memory.limit)
        self._link = (self._worker.link if self._worker is not None else self._link).after_fork()
        self._worker = None


class IntakeSink(BatchingSink):
    """Sends events to an intake over HTTP, in the background; everything about BatchingSink applies.

    Raises ConfigError if the URL, the credentials or the certificates are not usable, as IntakeExporter does. If it is the
    environment that is not (a proxy, `SSL_CERT_FILE`), that is logged, and the events wait: a program must start without
    telemetry. Forked children, and a sink that is used after `close`, get connections of their own.
    """

    def __init__(
        self,
        url: str,
        *,
        user: str | None = None,
        password: str | None = None,
        token: str | None = None,
        headers: Mapping[str, str] | None = None,
        compression: Compression = "none",
        ca_cert: str | os.PathLike[str] | None = None,
        buffer_size: int = 10_000,
        batch_events: int = 2000,
        interval: float = 1.0,
        close_timeout: float = 2.0,
        max_wait: float = 1.0,
    ) -> None:
        import encodings.idna  # noqa: F401 - or the first connection would import it, in a thread

        from rillevents.delivery.exporters.intake import IntakeExporter

        secrets = {"user": user, "password": password, "token": token, "headers": headers}
        make = partial(IntakeExporter, url, **secrets, compression=compression, ca_cert=ca_cert)  # type: ignore[arg-type]
        super().__init__(
            made(make),
            renew=make,
            buffer_size=buffer_size,
            batch_events=batch_events,
            interval=interval,
            close_timeout=close_timeout,
            max_wait=max_wait,
        )


def made(make: Callable[[], Exporter]) -> Exporter | None:
    """Return the exporter; None, which is logged, if the environment does not allow one now: each delivery tries again."""
    from rillevents.delivery.exporters.transport import UnusableEnvironment

    try:
        return make()
    except UnusableEnvironment as error:
        with Muted():
            logging.getLogger("rillevents").warning("events cannot be delivered, and wait in memory: %s", error)
        return None


_sinks: WeakSet[BatchingSink] = WeakSet()
_exiting = False


def _close_all() -> None:
    # Ask all of them first, so that they end at the same time, not one after the other.
    ending = [(sink, *sink._ask_to_end(None)) for sink in list(_sinks) if sink._worker is not None]
    for sink, worker, by in ending:
        sink._await_end(worker, by)


def _close_last() -> None:
    global _exiting
    _exiting = True
    _close_all()


@cache
def _close_at_exit() -> None:
    # First create a finalizer: weakref's own exit function is then registered before ours and runs after it, and it ends
    # the threads of deliveries in progress.
    finalize(_sinks, len, ())
    atexit.register(_close_last)
    # If threading has a hook, use that, which runs earlier: from Python 3.12 on an atexit function cannot start the
    # thread that an export needs, and children of multiprocessing run only that hook.
    try:
        getattr(threading, "_register_atexit", atexit.register)(_close_all)
    except RuntimeError:  # It is past that point.
        pass


def _after_fork() -> None:
    for sink in list(_sinks):
        sink._after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
