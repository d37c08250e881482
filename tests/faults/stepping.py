"""A piece of our code in a process of its own, which stops before each of its system calls.

Whoever drives it lets it take some steps, runs something else in between, or kills it where it stands: so a race is a matter of
two numbers, not of luck. The process is a fork, so what it inherits is what a forked child of a program that uses the library
would inherit; it always ends by SIGKILL, so nothing is cleaned up that a kill would not clean up.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import traceback
import warnings
from collections.abc import Callable
from types import FrameType
from typing import Any

import rillevents

PACKAGE = os.path.dirname(os.path.abspath(rillevents.__file__))
# What changes nothing, and sees nothing that another process could change: a stop before it would be the one before it again.
_IDLE = frozenset({"fspath", "geteuid", "getpid", "strerror", "urandom", "fsync", "fdatasync"})
# Sizes that are only added up, file by file: a stop at each would be sixty of no difference.
_ESTIMATES = frozenset({"slot_bytes", "held_bytes"})
_WITHOUT_END = 1 << 40

Report = list[Any]
Tell = Callable[..., None]


class Steps:
    """Runs `work(tell)` in a forked process; what *work* tells is collected by each step, as lists of JSON values.

    A process that fails fails its driver, at its next step.
    """

    def __init__(self, work: Callable[[Tell], None]) -> None:
        ours, theirs = socket.socketpair()
        with warnings.catch_warnings():
            # Other tests' daemon threads may still be there: what runs in the child needs none of them.
            warnings.simplefilter("ignore", DeprecationWarning)
            self._pid = os.fork()
        if self._pid == 0:
            ours.close()
            _run(work, theirs)
        theirs.close()
        self._channel = ours
        self._buffer = b""
        self.over = False
        self.at = ""
        self._early = self._read_reports()

    def step(self, n: int = 1) -> list[Report]:
        """Let the process make *n* system calls, one at least, and return what it has told meanwhile."""
        early, self._early = self._early, []
        if self.over:
            return early
        self._channel.sendall(b"%d\n" % n)
        return early + self._read_reports()

    def step_to(self, call: str) -> list[Report]:
        """Let the process run until it stands before a system call of this name, or to its end."""
        reports, self._early = self._early, []
        while not self.over and self.at != call:
            reports += self.step()
        return reports

    def finish(self) -> list[Report]:
        """Let the process run to its end."""
        return self.step(_WITHOUT_END)

    def kill(self) -> None:
        """Kill the process where it stands."""
        if not self.over:
            os.kill(self._pid, signal.SIGKILL)
            self._bury()

    def _read_reports(self) -> list[Report]:
        reports: list[Report] = []
        while True:
            *lines, self._buffer = self._buffer.split(b"\n")
            for text in lines:
                kind, *report = json.loads(text)
                if kind == "told":
                    reports.append(report)
                elif kind == "at":
                    self.at = report[0]
                    return reports
                else:
                    self._bury()
                    assert kind == "done", report[0]
                    return reports
            received = self._channel.recv(1 << 16)
            assert received, "the process ended without a word"
            self._buffer += received

    def _bury(self) -> None:
        self.over = True
        self._channel.close()
        os.waitpid(self._pid, 0)


def _run(work: Callable[[Tell], None], channel: socket.socket) -> None:
    """Be the child: work, and stop before each system call for as long as the driver wants."""
    left = 0

    def say(*words: object) -> None:
        channel.sendall(json.dumps(words).encode() + b"\n")

    def pause(where: str) -> None:
        nonlocal left
        if left <= 0:
            say("at", where)
            received = channel.recv(64)
            if not received:
                # The driver is gone.
                os._exit(1)
            left = int(received)
        left -= 1

    def on_call(frame: FrameType, event: str, called: Any) -> None:
        code = frame.f_code
        if (
            event == "c_call"
            and called.__module__ in ("posix", "fcntl")
            and called.__name__ not in _IDLE
            and code.co_filename.startswith(PACKAGE)
            and code.co_name not in _ESTIMATES
        ):
            pause(called.__name__)

    try:
        sys.setprofile(on_call)
        work(lambda *report: say("told", *report))
        sys.setprofile(None)
        say("done")
    except BaseException:
        sys.setprofile(None)
        say("failed", traceback.format_exc())
    finally:
        # Not os._exit: coverage saves its data at a normal exit, in a file per process.
        os.kill(os.getpid(), signal.SIGKILL)
