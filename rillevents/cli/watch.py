"""`rillevents flush --watch`: passes until somebody says stop, and one more then."""

from __future__ import annotations

import json
import os
import select
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

from rillevents.cli.command import events
from rillevents.cli.outcome import told_of
from rillevents.cli.record_quick import is_quiet
from rillevents.cli.render import say, show
from rillevents.cli.result import Result, Shown
from rillevents.delivery.exporters.stdout import NO_READER
from rillevents.delivery.flush import flush
from rillevents.delivery.outcome import FlushOutcome, FlushResult
from rillevents.delivery.schedule import Scheduler
from rillevents.errors import Busy
from rillevents.local import Paths
from rillevents.spool.view import held_events

# Supervisors kill ten seconds after their signal, and some sooner.
DRAIN_SECONDS = 5.0


def watch(
    paths: Paths, every: float, *, to: str = "", timeout: float | None = None, ca_cert: str | None = None, as_json: bool
) -> Result:
    """Flush every so many seconds until SIGTERM or SIGINT, then once more, within five seconds; 0 after SIGTERM.

    *timeout* limits each pass. If nothing can be sent as it is configured, the first pass is the last; so is one to a pipe that
    nobody reads any more.
    """
    voice = _Voice(as_json)

    def deliver(limit: float | None = timeout) -> FlushResult:
        return flush(paths, to=to, timeout=limit, wait=False, ca_cert=ca_cert, warn=voice.warn)

    def ends(seconds: float) -> bool:
        return voice.has_lost_reader or stop.wait(seconds)

    with _stopping() as stop:
        scheduler = Scheduler(deliver, every, on_pass=voice.tell)
        voice.say(f"flushing {paths.spool_dir or 'the spool'} every {every:g} s; SIGTERM or Ctrl-C stops")
        try:
            first = scheduler.run_pass()
            if first and first.outcome == FlushOutcome.UNCONFIGURED and not first.requests:
                return Result("stream", exit_code=first.exit_code)
            if not ends(scheduler.delay):
                scheduler.run(ends)
            if voice.has_lost_reader:
                return Result("stream", exit_code=FlushOutcome.TEMPORARY.exit_code)
            with suppress(Busy):
                voice.tell(deliver(stop.remaining))
        except _Late:
            voice.say(f"stopped before all was sent; {events(held_events(paths))} kept")
        return Result("stream", exit_code=130 if stop.number == signal.SIGINT else 0)


class _Late(BaseException):
    """The time after a signal is up."""


class _Stop:
    """The first signal asks for an end, and gives what runs some seconds; the second one ends it at once."""

    def __init__(self) -> None:
        self.number = 0
        self._until = 0.0
        self._reading, self._writing = os.pipe()
        os.set_blocking(self._writing, False)

    def wait(self, seconds: float) -> bool:
        """Wait so long, or until a signal; return whether there was one."""
        ends = time.monotonic() + seconds
        waiting = select.poll()
        waiting.register(self._reading, select.POLLIN)
        # In pieces: poll takes no more than 24 days.
        while not self.number and (left := ends - time.monotonic()) > 0:
            waiting.poll(min(left, 3600.0) * 1000 + 1)
        return bool(self.number)

    @property
    def remaining(self) -> float:
        """The seconds that are left after the signal."""
        return max(0.1, self._until - time.monotonic())

    def ask(self, number: int, frame: FrameType | None) -> None:
        """Take a signal: SIGTERM, SIGINT, or that of the timer."""
        if self.number:
            raise _Late
        self.number = number
        self._until = time.monotonic() + DRAIN_SECONDS
        signal.setitimer(signal.ITIMER_REAL, DRAIN_SECONDS)
        with suppress(OSError):
            os.write(self._writing, b".")

    def close(self) -> None:
        """Close the pipe."""
        os.close(self._reading)
        os.close(self._writing)


@contextmanager
def _stopping() -> Iterator[_Stop]:
    stop = _Stop()
    before = {number: signal.signal(number, stop.ask) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGALRM)}
    try:
        yield stop
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in before.items():
            signal.signal(number, handler)
        stop.close()


class _Voice:
    """Says what is new: every delivery, and a failure once, not with each pass. With JSON, a document a pass, on a line."""

    def __init__(self, as_json: bool) -> None:
        self._as_json = as_json
        self._quiet = is_quiet(os.environ)
        self._said: tuple[str, str] | None = None
        self._warned: set[str] = set()
        self.has_lost_reader = False

    def say(self, message: str) -> None:
        say(Result(messages=(message,)), quiet=self._quiet)

    def warn(self, message: str) -> None:
        if message not in self._warned:
            self._warned.add(message)
            self.say(message)

    def tell(self, done: FlushResult) -> None:
        is_new = (done.outcome, done.reason) != self._said
        has_moved = bool(done.delivered or done.rejected or done.corrupt or done.dropped)
        self._said = (done.outcome, done.reason)
        self.has_lost_reader = done.reason == NO_READER
        if self._as_json and (has_moved or is_new):
            line = json.dumps(done.as_dict()).encode() + b"\n"
            show(Shown(Result("stream", lines=[line]), quiet=True))
        if has_moved or (is_new and done.outcome not in (FlushOutcome.EMPTY, FlushOutcome.DELIVERED)):
            for message in told_of(done):
                self.say(message)
