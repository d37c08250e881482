"""What the process beside a wrapped command does: two events into the spool, and perhaps a delivery."""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import os
import time

from rillevents.errors import RilleventsError
from rillevents.event import ndjson, new_event_id
from rillevents.local import Paths
from rillevents.recording import Client
from rillevents.recording.setup import recording_setup

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from rillevents.recording.setup import Setup
    from rillevents.shell.recorder import Plan

_NANOSECONDS = 1_000_000_000


def record(plan: Plan, reading: int, writing: int) -> None:
    """Record what comes through *reading*, a JSON object a line, and write what a person should read to *writing*."""

    def say(message: str) -> None:
        try:
            os.write(writing, message.encode("utf-8", "replace") + b"\n")
        except OSError:
            # Nobody waits any more; the events are stored all the same.
            return

    paths = Paths(os.environ)
    events = _Events(plan, paths, say)
    with os.fdopen(reading, "rb") as lines:
        for line in lines:
            told: Any = ndjson.loads(line.decode())
            try:
                events.take(told)
            except RilleventsError as error:
                say(f"event not recorded: {error}")
            except Exception as error:  # noqa: BLE001 - the command must not hear of it
                say(f"event not recorded, internal error: {type(error).__name__}: {error}")
    # The wrapper was killed: what became of the command is not known.
    events.close()


def _name_of(number: int) -> str:
    # The module `signal` has the names, too, and takes as long to load as all that is recorded.
    names = (name for name in dir(_signal) if name[:3] == "SIG" and name[3:4] not in ("_", ""))
    return next((name for name in sorted(names) if getattr(_signal, name) == number), f"SIG{number}")


class _Events:
    def __init__(self, plan: Plan, paths: Paths, say: Any) -> None:
        self._plan = plan
        self._paths = paths
        self._say = say
        self._client: Client | None = None
        self._setup: Setup | None = None
        self._attributes = {**plan.attributes, "run_id": new_event_id()}
        self._started_ns = 0
        self._is_ended = False

    def take(self, told: dict[str, Any]) -> None:
        if "started_ns" in told:
            self._started_ns = told["started_ns"]
            self._open()
            self._record("start", {}, self._started_ns)
        elif "flush" in told:
            if told["flush"] > 0:
                self._flush(told["flush"])
        else:
            self._end(told)

    def _open(self) -> None:
        if self._plan.args is not None:
            from rillevents.shell.arguments import redacted_arguments

            self._attributes["args"] = redacted_arguments(self._plan.args)
        self._setup = setup = recording_setup(self._paths, short_lived=True, ci=self._plan.ci)
        for warning in setup.warnings:
            self._say(warning)
        self._client = Client(
            setup.sink, on_error="raise", warn=self._say, attributes=setup.attributes, redactor=setup.redactor
        )

    def _end(self, told: dict[str, Any]) -> None:
        self._is_ended = True
        fields = {key: value for key, value in told.items() if key != "signal"}
        if told.get("signal"):
            fields["signal"] = _name_of(told["signal"])
        outcome = "success" if told.get("exit_code") == 0 else "failure"
        self._record(outcome, fields, self._started_ns + int(told["duration_s"] * _NANOSECONDS))

    def _record(self, what: str, fields: dict[str, Any], when_ns: int) -> None:
        if self._client:
            attributes = {**self._attributes, **fields}
            self._client.record_behavioral(f"{self._plan.name}-{what}", attributes, event_time_ns=when_ns)

    def _flush(self, seconds: float) -> None:
        from rillevents.recording.setup import flush_configured

        if self._client:
            done = flush_configured(self._paths, timeout=seconds)
            if done.exit_code:
                self._say(f"{done.reason}; {done.pending} events kept")

    def close(self) -> None:
        if self._started_ns and not self._is_ended and self._client:
            self._record("failure", {"signal": "SIGKILL"}, time.time_ns())
        if self._setup and not self._plan.flush:
            self._setup.start_delivery(self._paths)
