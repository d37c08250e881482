"""The sink that batches in memory, with a real intake, real forks and processes that really end."""

from __future__ import annotations

import json
import logging
import multiprocessing
import os
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import PACE

from rillevents.delivery.exporters.intake import IntakeExporter
from rillevents.delivery.outcome import Exporter, Kind, Outcome
from rillevents.delivery.pace import Backoff
from rillevents.errors import ConfigError, InvalidEvent
from rillevents.event import Event
from rillevents.event.batch import Batch
from rillevents.recording import Client
from rillevents.recording.sinks.batching import BatchingSink, IntakeSink
from rillevents.testing import FakeIntake

pytestmark = pytest.mark.unmeasured

# So long a test waits for what should happen at once.
PATIENCE = 20.0 * PACE
Answer = Callable[[Batch], Outcome]


class Memory:
    """An exporter in memory: it gives or calls the next of *answers*, and accepts after the last."""

    def __init__(self, *answers: Outcome | Answer | Exception) -> None:
        self.answers = list(answers)
        self.calls: list[tuple[bytes, ...]] = []
        self.accepted: list[bytes] = []
        self.closed = 0

    def export(self, batch: Batch) -> Outcome:
        self.calls.append(batch.lines)
        answer = self.answers.pop(0) if self.answers else Outcome(Kind.ACCEPTED)
        if isinstance(answer, Exception):
            raise answer
        outcome = answer if isinstance(answer, Outcome) else answer(batch)
        if outcome.kind is Kind.ACCEPTED:
            named = dict(outcome.rejected)
            self.accepted += [line for n, line in enumerate(batch.lines) if n not in named]
        return outcome

    def close(self) -> None:
        self.closed += 1


class Hanging:
    """An exporter whose calls come back only once it is let go, or closed."""

    def __init__(self) -> None:
        self.entered, self.free = threading.Event(), threading.Event()

    def export(self, batch: Batch) -> Outcome:
        self.entered.set()
        self.free.wait(PATIENCE)
        return Outcome(Kind.TEMPORARY, "let go")

    def close(self) -> None:
        self.free.set()


def event(n: object = 0, **attributes: object) -> Event:
    return Event("behavioral", "test", {"n": n, **attributes})


def emit(sink: BatchingSink, *numbers: int) -> None:
    for n in numbers:
        sink.emit(event(n))


def numbers(lines: list[bytes] | tuple[bytes, ...]) -> list[Any]:
    return [json.loads(line)["n"] for line in lines]


def _threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name == "rillevents-batching"]


def wait_until(fact: Callable[[], object]) -> None:
    until, tick = time.monotonic() + PATIENCE, threading.Event()
    while not fact():
        assert time.monotonic() < until, "it did not happen"
        tick.wait(0.002)


def assert_balanced(sink: BatchingSink) -> None:
    counts = sink.counts
    settled = counts["delivered"] + counts["rejected"] + sum(counts["dropped"].values())
    assert counts["recorded"] == settled + counts["pending"]


@contextmanager
def closing(sink: BatchingSink) -> Iterator[BatchingSink]:
    try:
        yield sink
    finally:
        sink.close()
        assert_balanced(sink)
        assert 0 == sink.counts["pending"]


def sink_of(exporter: Exporter, **settings: Any) -> Any:
    return closing(BatchingSink(exporter, **{"backoff": Backoff(0.001, 0.01), **settings}))


def warned(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


@pytest.fixture
def intake() -> Iterator[FakeIntake]:
    with FakeIntake() as running:
        yield running


class TestImport:
    def test_costs_nothing(self) -> None:
        """Importing the sink starts no thread, and loads no httpcore; making an IntakeSink loads that only."""
        code = (
            "import sys, threading; from rillevents.recording.sinks.batching import IntakeSink; early = 'httpcore' in sys.modules\n"
            "IntakeSink('http://127.0.0.1:1/'); print(early, 'httpcore' in sys.modules, threading.active_count())"
        )

        done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, timeout=60)

        assert ("False True 1\n", "") == (done.stdout, done.stderr)

    @pytest.mark.parametrize("limits", [{"buffer_size": 0}, {"batch_events": 0}], ids=str)
    def test_refuses_limits_that_let_nothing_through(self, limits: dict[str, int]) -> None:
        """A memory or a batch for no event is a mistake that is told at once."""
        with pytest.raises(ValueError, match="at least 1"):
            BatchingSink(Memory(), **limits)

    def test_tells_a_wrong_url_at_once(self) -> None:
        """An IntakeSink with a URL that cannot be used raises where it is made, not in the background."""
        with pytest.raises(ConfigError):
            IntakeSink("ftp://example.org/")


class TestDelivery:
    def test_delivers_everything_in_order(self, intake: FakeIntake) -> None:
        """A loop faster than the intake loses nothing at default limits, and keeps the order."""
        with closing(IntakeSink(intake.url)) as sink:
            emit(sink, *range(25_000))

            assert "delivered" == sink.flush(PATIENCE).outcome

        assert list(range(25_000)) == [found["n"] for found in intake.events]
        assert {} == sink.counts["dropped"]

    def test_eight_threads_deliver_each_event_once(self, intake: FakeIntake) -> None:
        """What eight threads record arrives exactly once, each thread's events in their order."""

        def record(thread: int) -> None:
            for n in range(5000):
                sink.emit(event(n, thread=thread))

        with closing(IntakeSink(intake.url)) as sink:
            threads = [threading.Thread(target=record, args=(n,)) for n in range(8)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            sink.flush(PATIENCE)

        assert 40_000 == sink.counts["delivered"] == len(intake.events)
        for thread_id in range(8):
            assert list(range(5000)) == [found["n"] for found in intake.events if found["thread"] == thread_id]

    def test_is_sent_after_the_interval(self) -> None:
        """A single event is sent without anybody asking, once its interval is over, and not before."""
        exporter = Memory()
        with sink_of(exporter, interval=0.2) as sink:
            started = time.monotonic()
            emit(sink, 1)

            wait_until(lambda: exporter.accepted)

        assert 0.15 < time.monotonic() - started < 5 * PACE

    def test_is_sent_once_a_batch_is_full(self) -> None:
        """A full batch does not wait for its interval, and no batch holds more than it may."""
        exporter = Memory()
        with sink_of(exporter, interval=600, batch_events=3) as sink:
            emit(sink, *range(7))

            wait_until(lambda: len(exporter.accepted) >= 3)
            sink.flush(PATIENCE)

        assert list(range(7)) == numbers(exporter.accepted)
        assert max(map(len, exporter.calls)) == 3

    def test_a_memory_smaller_than_a_batch_is_sent_when_full(self) -> None:
        """A memory that cannot hold a batch is sent once it is full, not once the interval is over."""
        exporter = Memory()
        with sink_of(exporter, interval=600, buffer_size=2) as sink:
            emit(sink, *range(6))

            wait_until(lambda: 6 == len(exporter.accepted))

    def test_batches_hold_at_most_a_mebibyte(self) -> None:
        """Batches end at one MiB, however few events that is."""
        exporter = Memory()
        with sink_of(exporter, interval=600) as sink:
            for n in range(100):
                sink.emit(event(n, text="x" * 30_000))
            sink.flush(PATIENCE)

        assert list(range(100)) == numbers(exporter.accepted)
        assert max(sum(map(len, call)) for call in exporter.calls) <= 1 << 20

    def test_an_outage_that_ends_loses_nothing(self, intake: FakeIntake) -> None:
        """What came while the intake answered 503 is delivered once it does not, in order."""
        intake.script.extend([503] * 4)
        with sink_of(IntakeExporter(intake.url), interval=0.01) as sink:
            emit(sink, *range(100))

            wait_until(lambda: 100 == sink.counts["delivered"])

        assert list(range(100)) == [found["n"] for found in intake.events]

    def test_a_broken_exporter_keeps_the_events(self) -> None:
        """An exporter that raises keeps its events, and the thread."""
        exporter = Memory(RuntimeError("bug"), ValueError("bug"))
        with sink_of(exporter, interval=0.01) as sink:
            emit(sink, 1)

            wait_until(lambda: [1] == numbers(exporter.accepted))

    def test_passes_credentials_and_compression_on(self) -> None:
        """User, password and compression reach the intake."""
        with FakeIntake("somebody", "secret") as intake:
            with closing(IntakeSink(intake.url, user="somebody", password="secret", compression="gzip")) as sink:
                emit(sink, 1)
            assert [1] == [found["n"] for found in intake.events]
            assert "gzip" == intake.requests[0].headers["content-encoding"]


class TestRefusals:
    def test_credentials_refused_keep_the_events(self, caplog: pytest.LogCaptureFixture) -> None:
        """While credentials are refused all is kept, with one line in the log; once they are not, all is delivered."""
        exporter = Memory(*[Outcome(Kind.REFUSED, "HTTP 401")] * 20)
        with sink_of(exporter, interval=0.001) as sink:
            emit(sink, *range(10))
            wait_until(lambda: len(exporter.calls) > 5)

            assert 1 == len(warned(caplog))
            assert "HTTP 401" in warned(caplog)[0]
            wait_until(lambda: 10 == sink.counts["delivered"])

        assert list(range(10)) == numbers(exporter.accepted)

    def test_rejected_events_are_counted_and_told_once(self, caplog: pytest.LogCaptureFixture) -> None:
        """Events that an acknowledgement names are counted as rejected, and their reason is logged once."""

        def refuse_first(batch: Batch) -> Outcome:
            return Outcome(Kind.ACCEPTED, rejected=((0, "bad event"),))

        exporter = Memory(refuse_first, refuse_first)
        with sink_of(exporter, interval=600) as sink:
            emit(sink, 1, 2)
            first = sink.flush(PATIENCE)
            emit(sink, 3, 4)
            sink.flush(PATIENCE)

        assert ("rejected", 1, 1) == (first.outcome, first.delivered, first.rejected)
        assert (2, 2) == (sink.counts["delivered"], sink.counts["rejected"])
        assert 1 == len([message for message in warned(caplog) if "bad event" in message])

    def test_poison_is_found_among_others(self) -> None:
        """A single event that makes the batch invalid is rejected; those beside it are delivered, in order."""

        def check(batch: Batch) -> Outcome:
            return Outcome(Kind.INVALID, "HTTP 400") if 13 in numbers(batch.lines) else Outcome(Kind.ACCEPTED)

        exporter = Memory(*[check] * 50)
        with sink_of(exporter, interval=600) as sink:
            emit(sink, *range(20))

            assert ("rejected", 19, 1, 0) == _brief(sink)

        assert sorted(set(range(20)) - {13}) == sorted(numbers(exporter.accepted))

    def test_a_lone_refusal_waits_for_evidence(self) -> None:
        """An event refused when nothing else was accepted is kept, until others are accepted beside it."""

        def check(batch: Batch) -> Outcome:
            return Outcome(Kind.INVALID, "HTTP 400") if 13 in numbers(batch.lines) else Outcome(Kind.ACCEPTED)

        exporter = Memory(*[check] * 50)
        with sink_of(exporter, interval=0.01, backoff=Backoff(600, 600)) as sink:
            emit(sink, 13)
            wait_until(lambda: exporter.calls)
            assert (0, 1) == (sink.counts["rejected"], sink.counts["pending"])
            emit(sink, 1, 2)

            wait_until(lambda: 1 == sink.counts["rejected"])

        assert [1, 2] == sorted(numbers(exporter.accepted))

    def test_a_lone_refusal_is_final_when_asked(self) -> None:
        """A flush takes the refusal of a lone event for final: nothing more comes that it could be compared to."""
        with sink_of(Memory(Outcome(Kind.INVALID, "HTTP 400")), interval=600) as sink:
            emit(sink, 13)

            assert ("rejected", 0, 1, 0) == _brief(sink)

    def test_a_destination_that_refuses_everything_rejects_nothing(self) -> None:
        """Where every event is refused it is the destination that is wrong, and all are kept."""
        exporter = Memory(*[Outcome(Kind.INVALID, "HTTP 400")] * 7)
        with sink_of(exporter, interval=600, backoff=Backoff(600, 600)) as sink:
            emit(sink, *range(4))

            assert ("unconfigured", 0, 0, 4) == _brief(sink)

            exporter.answers.clear()

    def test_an_invalid_event_raises(self) -> None:
        """What cannot be encoded is told to the caller, and is not in the ledger."""
        with sink_of(Memory()) as sink:
            with pytest.raises(InvalidEvent):
                sink.emit(event(object()))

            assert 0 == sink.counts["recorded"]

    def test_truncated_events_are_counted(self) -> None:
        """An event that is too large is delivered without its attributes, and counted."""
        exporter = Memory()
        with sink_of(exporter) as sink:
            sink.emit(event(text="x" * 40_000))

        assert (1, 1) == (sink.counts["truncated"], sink.counts["delivered"])
        assert json.loads(exporter.accepted[0])["truncated"] is True

    def test_counts_what_others_left_out(self) -> None:
        """What a filter in front dropped is in the ledger, and the ledger is still balanced."""
        with sink_of(Memory()) as sink:
            sink.count("dropped", "filter", 3)
            sink.count("refused")
            emit(sink, 1)

            assert_balanced(sink)
            assert (4, 1, {"filter": 3}) == (
                sink.counts["recorded"],
                sink.counts["refused"],
                sink.counts["dropped"],
            )


def _brief(sink: BatchingSink, timeout: float = PATIENCE) -> tuple[str, int, int, int]:
    result = sink.flush(timeout)
    return result.outcome, result.delivered, result.rejected, result.pending


class TestFullMemory:
    def test_waits_for_room(self) -> None:
        """An emit into a full memory waits until there is room, and loses nothing."""
        exporter = Hanging()
        with sink_of(Memory(lambda batch: exporter.export(batch)), buffer_size=2, max_wait=PATIENCE) as sink:
            emit(sink, 1, 2)
            late = threading.Thread(target=emit, args=(sink, 3))
            late.start()
            exporter.entered.wait(PATIENCE)
            assert late.is_alive()
            exporter.free.set()

            late.join(PATIENCE)

            assert not late.is_alive()
            assert {} == sink.counts["dropped"]

    def test_drops_and_counts_what_found_no_room(self, caplog: pytest.LogCaptureFixture) -> None:
        """With no room in time events are dropped, counted and logged once; only the first of them waited for it."""
        exporter = Hanging()
        with sink_of(exporter, buffer_size=5, max_wait=0.1, close_timeout=0.2) as sink:
            started = time.monotonic()
            emit(sink, *range(50))
            seconds = time.monotonic() - started

            assert {"queue-full": 45} == sink.counts["dropped"]
            assert 5 == sink.counts["pending"]
            assert 0.1 <= seconds < 1 * PACE
            assert_balanced(sink)
            exporter.free.set()

        assert ["45 events were dropped"] == [found[:22] for found in warned(caplog) if "which is the limit" in found]

    def test_waits_again_once_there_was_room(self) -> None:
        """After an outage that filled the memory, emits are taken again."""
        exporter = Memory(*[Outcome(Kind.REFUSED, "HTTP 401")] * 3)
        with sink_of(exporter, buffer_size=5, max_wait=0, backoff=Backoff(600, 600)) as sink:
            emit(sink, *range(9))
            wait_until(lambda: 0 < len(exporter.calls))
            exporter.answers.clear()
            sink.flush(PATIENCE)
            emit(sink, 100)
            sink.flush(PATIENCE)

        assert [*range(5), 100] == numbers(exporter.accepted)
        assert {"queue-full": 4} == sink.counts["dropped"]


class TestFlush:
    def test_without_events_is_empty(self) -> None:
        """A flush of nothing says so, and makes no request and no thread."""
        assert ("empty", 0, 0, 0) == _brief(BatchingSink(Memory()))
        assert not _threads()

    def test_counts_what_this_call_delivered(self, intake: FakeIntake) -> None:
        """The result has the counts of the call, not of the process."""
        with closing(IntakeSink(intake.url, interval=600)) as sink:
            emit(sink, 1)
            sink.flush(PATIENCE)
            emit(sink, 2, 3)
            result = sink.flush(PATIENCE)

        assert ("delivered", 2, 1, 0) == (result.outcome, result.delivered, result.requests, result.pending)
        assert sum(map(len, intake.lines[1:])) == result.bytes

    @pytest.mark.parametrize(
        ("kind", "outcome"),
        [
            (Kind.REFUSED, "refused"),
            (Kind.MISCONFIGURED, "unconfigured"),
        ],
        ids=str,
    )
    def test_says_who_has_to_act(self, kind: Kind, outcome: str) -> None:
        """Where somebody has to act, the flush ends at once, says so, and keeps the events."""
        exporter = Memory(*[Outcome(kind, "the reason")] * 2)
        with sink_of(exporter, interval=600, backoff=Backoff(600, 600)) as sink:
            emit(sink, 1, 2)

            result = sink.flush(PATIENCE)

            assert (outcome, "the reason", 2) == (result.outcome, result.reason, result.pending)

    def test_an_outage_is_temporary(self) -> None:
        """A flush that does not get through in its time says what the last answer was, and keeps the events."""
        exporter = Memory(*[Outcome(Kind.TEMPORARY, "HTTP 503")] * 3)
        with sink_of(exporter, interval=600, backoff=Backoff(20, 20)) as sink:
            emit(sink, 1)
            result = sink.flush(0.2)

            assert ("temporary", 1, 1) == (result.outcome, result.pending, result.requests)
            assert "HTTP 503" in result.reason
            exporter.answers.clear()

        assert [1] == numbers(exporter.accepted)

    def test_keeps_its_time_while_the_exporter_hangs(self) -> None:
        """A flush ends in time while the exporter does not come back at all."""
        with sink_of(Hanging(), interval=600, close_timeout=0.1) as sink:
            emit(sink, 1)
            started = time.monotonic()

            assert ("temporary", 0, 0, 1) == _brief(sink, 0.2)
            assert 0.2 <= time.monotonic() - started < 1 * PACE

    def test_cuts_a_pause_short(self) -> None:
        """A flush tries at once, however long the worker meant to pause."""
        exporter = Memory(Outcome(Kind.TEMPORARY, "HTTP 503"))
        with sink_of(exporter, interval=0.001, backoff=Backoff(25, 25)) as sink:
            emit(sink, 1)
            wait_until(lambda: exporter.calls)

            assert ("delivered", 1, 0, 0) == _brief(sink, 10)

    def test_many_at_once_beside_emits(self, intake: FakeIntake) -> None:
        """Flushes from several threads, beside emits, all come back, and nothing is lost or doubled."""
        outcomes: list[str] = []

        def work(thread: int) -> None:
            for n in range(200):
                sink.emit(event(n, thread=thread))
                if n % 20 == 0:
                    outcomes.append(sink.flush(PATIENCE).outcome)

        with closing(IntakeSink(intake.url)) as sink:
            threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()

        assert {"delivered", "empty"} >= set(outcomes)
        assert 40 == len(outcomes)
        assert 800 == len(intake.events) == len({found["event_id"] for found in intake.events})


class TestClose:
    def test_delivers_and_ends_the_thread(self) -> None:
        """Closing delivers what is held, closes the exporter and ends the thread; closing again does no harm."""
        exporter = Memory()
        sink = BatchingSink(exporter, interval=600)
        emit(sink, 1, 2)
        sink.close()
        sink.close()

        assert [1, 2] == numbers(exporter.accepted)
        assert exporter.closed
        assert not _threads()

    def test_drops_what_does_not_get_through(self, caplog: pytest.LogCaptureFixture) -> None:
        """Closing while the exporter hangs ends in time; what is left is counted, and the log says how many."""
        exporter = Hanging()
        sink = BatchingSink(exporter, interval=0.001, close_timeout=0.3)
        emit(sink, *range(7))
        exporter.entered.wait(PATIENCE)
        started = time.monotonic()
        sink.close()

        assert 0.3 <= time.monotonic() - started < 1 * PACE
        assert {"closed": 7} == sink.counts["dropped"]
        assert [True] == ["7 events could not be delivered" in message for message in warned(caplog)]
        assert exporter.free.is_set()

    def test_drops_what_is_refused(self, caplog: pytest.LogCaptureFixture) -> None:
        """Closing against a destination that is down gives up in time, and says why in the log."""
        exporter = Memory(*[Outcome(Kind.TEMPORARY, "HTTP 503")] * 1000)
        sink = BatchingSink(exporter, interval=600)
        emit(sink, 1)
        sink.close(0.3)

        assert {"closed": 1} == sink.counts["dropped"]
        assert "HTTP 503" in warned(caplog)[-1]

    def test_emit_afterwards_starts_anew(self, intake: FakeIntake) -> None:
        """An event after a close is delivered over a connection of its own."""
        with closing(IntakeSink(intake.url, interval=0.001)) as sink:
            emit(sink, 1)
            sink.close()
            emit(sink, 2)

            wait_until(lambda: 2 == sink.counts["delivered"])

        assert [1, 2] == [found["n"] for found in intake.events]

    def test_emits_meanwhile_are_not_lost(self) -> None:
        """Events that come while the sink is closed again and again are delivered, each once and in order."""
        exporter = Memory()
        with sink_of(exporter, interval=0.001) as sink:
            emitting = threading.Thread(target=emit, args=(sink, *range(3000)))
            emitting.start()
            while emitting.is_alive():
                sink.close()
            emitting.join()

        assert list(range(3000)) == numbers(exporter.accepted)

    def test_before_any_event_does_no_harm(self, intake: FakeIntake) -> None:
        """A sink that was closed before its first event delivers it nevertheless."""
        with closing(IntakeSink(intake.url)) as sink:
            sink.close()
            emit(sink, 1)

        assert [1] == [found["n"] for found in intake.events]

    def test_without_a_thread(self, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
        """Where no thread can be started, flush and close come back, and the log says what was lost."""

        def refuse(thread: threading.Thread) -> None:
            raise RuntimeError("can't start new thread")

        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", refuse)
            sink = BatchingSink(Memory())
            emit(sink, 1, 2)
            result = sink.flush()
            sink.close()

        assert ("temporary", 2) == (result.outcome, result.pending)
        assert {"closed": 2} == sink.counts["dropped"]
        assert "can't start new thread" in warned(caplog)[-1]
        assert_balanced(sink)

    def test_an_exporter_that_fails_to_close(self, caplog: pytest.LogCaptureFixture) -> None:
        """An exporter whose close raises is logged, and the sink is closed all the same."""

        class Broken(Memory):
            def close(self) -> None:
                raise OSError("broken")

        with sink_of(Broken()) as sink:
            emit(sink, 1)
            sink.close()

            assert 1 == sink.counts["delivered"]
        assert "OSError: broken" in warned(caplog)[0]

    def test_a_flush_meanwhile_comes_back(self) -> None:
        """A flush without a limit comes back when the sink is closed beside it, and does not claim success."""
        exporter = Hanging()
        sink = BatchingSink(exporter, interval=600)
        emit(sink, 1)
        results: list[str] = []
        flushing = threading.Thread(target=lambda: results.append(sink.flush().outcome))
        flushing.start()
        exporter.entered.wait(PATIENCE)
        sink.close(0.1)
        flushing.join(PATIENCE)

        assert ["temporary"] == results

    def test_is_closed_by_the_client(self, intake: FakeIntake) -> None:
        """A client's close delivers what its sink holds."""
        with Client(IntakeSink(intake.url, interval=600)) as client:
            client.record_behavioral("login-start")
            client.record_metric("build", 1.5)

        assert ["login-start", "build"] == [found["event_name"] for found in intake.events]

    def test_a_call_that_was_left_behind_gets_no_company(self) -> None:
        """An exporter that cannot be renewed is not called again before its last call came back."""
        calls: list[str] = []
        hanging = Hanging()

        class Slow(Memory):
            def export(self, batch: Batch) -> Outcome:
                calls.append("in")
                hanging.free.wait(PATIENCE)
                calls.append("out")
                return super().export(batch)

        with sink_of(Slow(), interval=0.001) as sink:
            emit(sink, 1)
            wait_until(lambda: calls)
            sink.close(0.05)
            emit(sink, 2)
            assert ("temporary", 0, 0, 1) == _brief(sink, 0.1)
            hanging.free.set()
            wait_until(lambda: 1 == sink.counts["delivered"])

        assert ["in", "out", "in", "out"] == calls


EXIT = """
import sys
from rillevents.event import Event
from rillevents.recording.sinks.batching import IntakeSink
sink = IntakeSink(sys.argv[1], close_timeout=float(sys.argv[2]))
for n in range(1000):
    sink.emit(Event("behavioral", "test", {"n": n}))
"""


# In a process of its own, which is not measured for coverage: that has a lock, too, and its children never get it.
FORKS = """
import os, threading, warnings
from rillevents.event import Event
from rillevents.delivery.outcome import Kind, Outcome
from rillevents.recording.sinks.batching import BatchingSink

warnings.simplefilter("ignore", DeprecationWarning)

class Accepting:
    def export(self, batch):
        return Outcome(Kind.ACCEPTED)

    def close(self):
        pass

sink = BatchingSink(Accepting(), buffer_size=100_000)
stop = threading.Event()

def storm():
    while not stop.is_set():
        sink.emit(Event("log", "test", {"n": 0}))

def exit_code_of_child():
    child = os.fork()
    if not child:
        code = 1
        try:
            sink.emit(Event("log", "test", {"n": 1}))
            code = 0 if sink.counts["pending"] == 1 else 2
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

threads = [threading.Thread(target=storm) for _ in range(2)]
for thread in threads:
    thread.start()
codes = {exit_code_of_child() for _ in range(200)}
stop.set()
for thread in threads:
    thread.join()
sink.close(20)
raise SystemExit(codes != {0})
"""


def run(code: str, *arguments: str) -> tuple[subprocess.CompletedProcess[str], float]:
    started = time.monotonic()
    command = [sys.executable, "-W", "error", "-c", code, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    return done, time.monotonic() - started


class TestExit:
    def test_a_script_that_ends_delivers(self, intake: FakeIntake) -> None:
        """A script that records and ends delivers all, and leaves nothing on its outputs."""
        done, _ = run(EXIT, intake.url, "10")

        assert (0, "", "") == (done.returncode, done.stdout, done.stderr)
        assert list(range(1000)) == [found["n"] for found in intake.events]

    @pytest.mark.parametrize(("ending", "code"), [("", 0), ("sys.exit(7)", 7), ("raise ValueError", 1)])
    def test_a_hanging_intake_does_not_hold_it_up(self, intake: FakeIntake, ending: str, code: int) -> None:
        """With an intake that hangs the process ends in time, with its own exit code, and says what it dropped."""
        free = threading.Event()
        intake.respond = lambda request: 200 if free.wait(PATIENCE) else 500
        done, seconds = run(EXIT + ending, intake.url, "0.5")
        free.set()

        assert (code, "") == (done.returncode, done.stdout)
        assert seconds < 5 * PACE
        assert "1000 events could not be delivered before the end" in done.stderr
        assert ("Traceback" in done.stderr) == (ending == "raise ValueError")

    def test_records_in_exit_hooks_are_delivered(self, intake: FakeIntake) -> None:
        """What is recorded while the interpreter ends, by hooks older and younger than ours, is delivered."""
        hooks = "import atexit; atexit.register(lambda: sink.emit(Event('log', 'old', {'n': -1})))\n"
        done, _ = run(hooks + EXIT + hooks.replace("old", "young"), intake.url, "10")

        assert (0, "", "") == (done.returncode, done.stdout, done.stderr)
        assert {"test", "young", "old"} == {found["event_name"] for found in intake.events}

    def test_threads_that_outlive_the_main_one_deliver(self, intake: FakeIntake) -> None:
        """A thread that goes on recording after the main thread has ended loses nothing."""
        thread = (
            "import threading\ndef work():\n    threading.main_thread().join()\n    for n in range(1000, 1500):\n"
            "        sink.emit(Event('log', 'late', {'n': n}))\nthreading.Thread(target=work).start()\n"
        )
        done, _ = run(EXIT + thread, intake.url, "10")

        assert (0, "", "") == (done.returncode, done.stdout, done.stderr)
        assert list(range(1500)) == [found["n"] for found in intake.events]

    def test_several_sinks_end_together(self) -> None:
        """Sinks whose destinations hang are given up at the same time, not one after the other."""
        sockets = "import socket; s = socket.create_server(('127.0.0.1', 0))\n"
        sockets += "url = f'http://127.0.0.1:{s.getsockname()[1]}/'\n"
        code = EXIT.replace("sink = IntakeSink(", "sinks = [IntakeSink(url, close_timeout=1.0) for _ in range(5)] #")
        code = code.replace("sink.emit(", "sinks[n % 5].emit(")
        done, seconds = run(sockets + code)

        assert (0, "", 5) == (done.returncode, done.stdout, done.stderr.count("200 events could not be delivered"))
        assert seconds < 4 * PACE


def _record_in_child(url: str, start: int) -> None:
    sink = IntakeSink(url)
    emit(sink, *range(start, start + 100))


def _record_with(sink: BatchingSink, start: int) -> None:
    emit(sink, *range(start, start + 100))


def fork(work: Callable[[], bool]) -> int:
    """Run *work* in a forked child that leaves by os._exit, and return its PID."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        code = 1
        try:
            code = 0 if work() else 2
        finally:
            os._exit(code)
    return child


def exit_code_of(child: int) -> int:
    found: list[int] = []

    def ended() -> bool:
        pid, status = os.waitpid(child, os.WNOHANG)
        found.append(os.waitstatus_to_exitcode(status))
        return pid == child

    try:
        wait_until(ended)
    except AssertionError:
        os.kill(child, 9)
        os.waitpid(child, 0)
        raise
    return found[-1]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform cannot fork")
class TestFork:
    def test_the_child_has_nothing_of_the_parents(self, intake: FakeIntake) -> None:
        """A child begins with nothing, and delivers its own; the parent delivers what it held, once."""

        def work() -> bool:
            mine = sink.counts["recorded"] == 0
            emit(sink, 100)
            return mine and ("delivered", 1, 0, 0) == _brief(sink)

        with closing(IntakeSink(intake.url, interval=600)) as sink:
            emit(sink, 1, 2)

            assert 0 == exit_code_of(fork(work))

        assert [100, 1, 2] == [found["n"] for found in intake.events]

    def test_the_child_leaves_the_parents_connection_alone(self, intake: FakeIntake) -> None:
        """A child that was forked off with an open connection uses one of its own, and the parent's goes on working."""

        def work() -> bool:
            emit(sink, 100)
            delivered = ("delivered", 1, 0, 0) == _brief(sink)
            sink.close()
            return delivered

        with closing(IntakeSink(intake.url, interval=600)) as sink:
            emit(sink, 1)
            sink.flush(PATIENCE)
            child = fork(work)
            assert 0 == exit_code_of(child)
            emit(sink, 2)
            assert ("delivered", 1, 0, 0) == _brief(sink)

        assert [1, 100, 2] == [found["n"] for found in intake.events]

    def test_an_exporter_that_cannot_be_renewed_is_not_shared(self, intake: FakeIntake) -> None:
        """Without a way to make another the child does not use the parent's connection, and says so."""

        def work() -> bool:
            emit(sink, 100)
            result = sink.flush(PATIENCE)
            return result.outcome == "unconfigured" and "renew" in result.reason and result.pending == 1

        with closing(BatchingSink(IntakeExporter(intake.url), interval=600)) as sink:
            emit(sink, 1)
            sink.flush(PATIENCE)

            assert 0 == exit_code_of(fork(work))

        assert [1] == [found["n"] for found in intake.events]

    @pytest.mark.slow
    def test_while_other_threads_hold_the_lock(self) -> None:
        """Children forked while other threads record can record and close, every time."""
        done, _ = run(FORKS)
        assert (0, "", "") == (done.returncode, done.stdout, done.stderr)

    def test_a_child_that_ends_normally_delivers(self, intake: FakeIntake) -> None:
        """A child of os.fork that ends by itself delivers what it holds, and so does its parent."""
        # A fork beside threads warns from Python 3.12 on.
        quiet = "import os, warnings\nwarnings.simplefilter('ignore', DeprecationWarning)\n"
        code = EXIT + quiet + "child = os.fork()\nif child:\n    os.waitpid(child, 0)\nfor n in range(1000, 1100):\n"
        done, _ = run(code + "    sink.emit(Event('log', 'test', {'n': n}))\n", intake.url, "10")

        assert (0, "", "") == (done.returncode, done.stdout, done.stderr)
        assert sorted([*range(1000), *range(1000, 1100), *range(1000, 1100)]) == sorted(
            found["n"] for found in intake.events
        )

    def test_a_child_that_leaves_by_os_exit_hangs_nothing(self, intake: FakeIntake) -> None:
        """A child that leaves by os._exit loses what it held, and neither it nor its parent hangs."""
        with closing(IntakeSink(intake.url, interval=600)) as sink:
            emit(sink, 1)

            assert 0 == exit_code_of(fork(lambda: [emit(sink, 2)] == [None]))

        assert [1] == [found["n"] for found in intake.events]

    def test_leaves_no_import_to_the_threads(self, intake: FakeIntake) -> None:
        """A first delivery imports nothing: a child forked off during an import could never do the same one."""
        code = EXIT + "loaded = set(sys.modules)\nsink.flush(20)\nprint(sorted(set(sys.modules) - loaded))"
        done, _ = run(code, intake.url, "10")

        assert ("[]\n", "") == (done.stdout, done.stderr)

    @pytest.mark.parametrize("method", ["spawn", "fork"])
    def test_children_of_multiprocessing_deliver(self, intake: FakeIntake, method: str) -> None:
        """A child of multiprocessing delivers at its end, though it leaves by os._exit."""
        context: Any = multiprocessing.get_context(method)
        with closing(IntakeSink(intake.url, interval=600)) as sink:
            emit(sink, *range(100))
            work = (_record_in_child, (intake.url, 100)) if method == "spawn" else (_record_with, (sink, 100))
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)
                child = context.Process(target=work[0], args=work[1])
                child.start()
            child.join(PATIENCE)

            assert 0 == child.exitcode

        assert list(range(200)) == sorted(found["n"] for found in intake.events)


STORM = """
import json, signal, sys
from rillevents.event import Event
from rillevents.recording.sinks.batching import IntakeSink
sink = IntakeSink(sys.argv[1], buffer_size=int(sys.argv[2]), interval=0.001)
handled = 0
def handler(*_):
    global handled
    handled += 1
    sink.emit(Event("log", "handler", {"n": handled}))
signal.signal(signal.SIGALRM, handler)
signal.setitimer(signal.ITIMER_REAL, 0.002, 0.002)
for n in range(6000):
    sink.emit(Event("log", "main", {"n": n}))
    if n % 500 == 0:
        sink.flush(20)
    if n % 5000 == 0:
        sink.close(20)
signal.setitimer(signal.ITIMER_REAL, 0)
sink.close(20)
print(json.dumps([handled, sink.counts]))
"""


class TestSignals:
    @pytest.mark.parametrize("room", [10_000, 100])
    def test_emit_in_handlers(self, intake: FakeIntake, room: int) -> None:
        """Emits in handlers that interrupt emit, flush and close deadlock nothing; they are delivered, or counted."""
        done, _ = run(STORM, intake.url, str(room))
        assert 0 == done.returncode, done.stderr
        handled, counts = json.loads(done.stdout)
        dropped = counts["dropped"].get("queue-full", 0)

        assert ("" == done.stderr) == (0 == dropped)
        assert "Traceback" not in done.stderr
        assert handled > 10
        assert 6_000 + handled == counts["recorded"] == counts["delivered"] + dropped
        assert counts["delivered"] == len(intake.events) == len({found["event_id"] for found in intake.events})
        assert room < 10_000 or 0 == dropped

    def test_close_in_a_handler(self, intake: FakeIntake) -> None:
        """A handler that records, closes and leaves ends the process with all that was recorded delivered."""
        handler = (
            "import os, signal\ndef handler(*_):\n    sink.emit(Event('log', 'end', {'n': -1}))\n    sink.close()\n"
            "    sys.exit(3)\n"
            "signal.signal(signal.SIGTERM, handler)\nos.kill(os.getpid(), signal.SIGTERM)\nsignal.pause()\n"
        )
        done, _ = run(EXIT + handler, intake.url, "10")

        assert (3, "", "") == (done.returncode, done.stdout, done.stderr)
        assert 1001 == len(intake.events)


ANSWERS = st.sampled_from(
    [
        Outcome(Kind.ACCEPTED),
        Outcome(Kind.ACCEPTED, rejected=((0, "bad"),)),
        Outcome(Kind.TEMPORARY, "HTTP 503"),
        Outcome(Kind.SERVER_ERROR, "HTTP 500"),
        Outcome(Kind.TOO_LARGE, "HTTP 413"),
        Outcome(Kind.INVALID, "HTTP 400"),
        Outcome(Kind.REFUSED, "HTTP 401"),
        Outcome(Kind.MISCONFIGURED, "HTTP 404"),
        RuntimeError("a bug"),
    ]
)
STEPS = st.one_of(
    st.tuples(st.just("emit"), st.integers(1, 8)),
    st.tuples(st.just("flush"), st.sampled_from([0.0, 0.02, 1.0])),
    st.tuples(st.just("close"), st.sampled_from([0.02, 1.0])),
    st.tuples(st.just("drop"), st.integers(1, 3)),
)


class TestLedger:
    @settings(max_examples=150, deadline=None)
    @given(st.lists(ANSWERS, max_size=25), st.lists(STEPS, max_size=12), st.integers(1, 20), st.integers(1, 5))
    def test_balances(self, answers: list[Any], steps: list[Any], room: int, batch: int) -> None:
        """Whatever is answered, every event that was emitted is delivered, rejected, dropped by a reason or pending."""
        exporter = Memory(*answers)
        sink = BatchingSink(
            exporter,
            buffer_size=room,
            batch_events=batch,
            interval=0.001,
            max_wait=0.01,
            backoff=Backoff(0.0001, 0.001),
        )
        made = 0
        with closing(sink):
            for step, argument in steps:
                if step == "emit":
                    emit(sink, *range(made, made + argument))
                elif step == "drop":
                    sink.count("dropped", "filter", argument)
                elif step == "flush":
                    result = sink.flush(argument)
                    assert result.outcome in ("delivered", "empty", "temporary", "refused", "rejected", "unconfigured")
                else:
                    sink.close(argument)
                made += argument if step in ("emit", "drop") else 0

                assert made == sink.counts["recorded"]
                assert_balanced(sink)

        assert made == sink.counts["recorded"]
        assert len(exporter.accepted) == len(set(exporter.accepted))
        assert len(exporter.accepted) == sink.counts["delivered"]
