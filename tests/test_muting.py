"""What is logged while recording or delivering is not recorded, so that no line causes further lines."""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from support import Tool, only

from rillevents import BatchingSink, Client, Event, FilterSink, IntakeSink, LoggerSink, Redactor, Sink, SpoolSink
from rillevents.delivery.outcome import Kind, Outcome
from rillevents.event import muted
from rillevents.testing import CapturingSink, FakeIntake

app = logging.getLogger("app")


class Recording(logging.Handler):
    """A handler that records what is logged, as programs install it on the root logger."""

    def __init__(self, client: Client) -> None:
        super().__init__(logging.DEBUG)
        self.client = client
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())
        self.client.record_log(record.name, record.getMessage())


@pytest.fixture
def record_logs() -> Iterator[Callable[[Client], Recording]]:
    """Record what the root logger gets, at DEBUG, with a client."""
    root, installed = logging.getLogger(), []
    level = root.level

    def install(client: Client) -> Recording:
        installed.append(Recording(client))
        root.addHandler(installed[-1])
        root.setLevel(logging.DEBUG)
        return installed[-1]

    yield install
    root.setLevel(level)
    for handler in installed:
        root.removeHandler(handler)


class Talkative(CapturingSink):
    """A program's own sink, which logs what it gets."""

    def emit(self, event: Event) -> None:
        app.info("got %s", event.event_name)
        super().emit(event)


class TalkativeRedactor(Redactor):
    def redact(self, attributes: Any) -> Any:
        app.info("redacting")
        return super().redact(attributes)


def wordy(event: Event) -> bool:
    app.info("asked for %s", event.event_name)
    return True


def unwritable(tool: Tool) -> Client:
    (tool.home / "spool").mkdir(parents=True, mode=0o700)
    (tool.home / "spool" / "v1").write_text("a plain file")
    return Client.from_config(environ=tool.environ)


@pytest.mark.parametrize(
    ("make", "lines"),
    [
        pytest.param(unwritable, 2, id="spool-that-cannot-be-written"),
        pytest.param(lambda tool: Client(Talkative()), 2, id="sink"),
        pytest.param(lambda tool: Client(LoggerSink()), 2, id="logger"),
        pytest.param(lambda tool: Client(FilterSink(CapturingSink(), wordy)), 2, id="filter"),
        pytest.param(lambda tool: Client(CapturingSink(), redactor=TalkativeRedactor()), 2, id="redactor"),
        pytest.param(lambda tool: Client(CapturingSink(), warn=app.warning, attributes={"bad": {1}}), 2, id="warn"),
    ],
)
def test_one_line(
    make: Callable[[Tool], Client], lines: int, tool: Tool, record_logs: Callable[[Client], Recording]
) -> None:
    """One line of a program is one event, and what recording it logs is none, whatever logs it."""
    handler = record_logs(make(tool))
    app.warning("disk nearly full")
    assert lines == len(handler.lines), handler.lines
    assert set() == muted


def test_events_of_an_intake_sink(record_logs: Callable[[Client], Recording]) -> None:
    """At DEBUG, the HTTP client's lines about a delivery do not come back as events."""
    with FakeIntake() as intake:
        client = Client(IntakeSink(intake.url, interval=0.01))
        handler = record_logs(client)
        app.warning("disk nearly full")
        assert 1 == client.flush(10).delivered
        client.close()
        assert any("send_request" in line for line in handler.lines)
        assert ["app"] == [event["event_name"] for event in intake.events]


def test_flush_of_a_spool(tool: Tool, record_logs: Callable[[Client], Recording]) -> None:
    """A flush of the spool does not fill it with its own requests."""
    with FakeIntake() as intake:
        client = Client.from_config(environ=tool.environ | {"RILLEVENTS_INTAKE_URL": intake.url})
        handler = record_logs(client)
        app.warning("disk nearly full")
        assert 1 == client.flush(10).delivered
        assert any("send_request" in line for line in handler.lines)
        client.close()
    assert [] == tool.events()


def test_worker_that_cannot_deliver(record_logs: Callable[[Client], Recording]) -> None:
    """What a batching sink logs about its events is no event, neither by its thread nor by the one that closes it."""

    class Down:
        def export(self, batch: Any) -> Outcome:
            return Outcome(Kind.TEMPORARY, "down")

        def close(self) -> None:
            raise RuntimeError("boom")

    sink = BatchingSink(Down(), interval=0.01)
    client = Client(sink)
    handler = record_logs(client)
    client.record("t", "n")
    client.flush(0.1)
    client.close(0.1)
    assert len(handler.lines) >= 2
    assert 1 == sink.counts["recorded"]


def test_other_threads(tool: Tool) -> None:
    """While one thread is muted, another records."""
    sink = CapturingSink()

    class Slow(Sink):
        def emit(self, event: Event) -> None:
            thread = threading.Thread(target=Client(sink).record, args=("t", "other"))
            thread.start()
            thread.join()

        def close(self, timeout: float | None = None) -> None:
            """Nothing to close."""

    Client(Slow()).record("t", "n")
    assert "other" == only(sink.events).event_name


def test_signal_handlers(tool: Tool) -> None:
    """A signal handler that interrupts recording is recorded: only what recording logs is not."""
    client = Client(SpoolSink(tool.paths.spool_dir))
    signals: list[str | None] = []

    def record(number: int, frame: object) -> None:
        signals.append(client.record("t", "signal"))

    before = signal.signal(signal.SIGALRM, record)
    signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
    try:
        while len(signals) < 50:
            client.record("t", "n")
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    client.close()
    assert sorted(map(str, signals)) == sorted(e["event_id"] for e in tool.events() if e["event_name"] == "signal")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform cannot fork")
def test_fork() -> None:
    """A child has none of its parent's other muted threads."""
    muted.add(1)
    child = os.fork()
    if not child:
        os._exit(len(muted))
    muted.discard(1)
    assert 0 == os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
