"""A flush of very many events: in bounded memory, with a checkpoint after each batch, and killed half-way."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support import Tool

from rillevents.delivery.exporters.intake import IntakeExporter
from rillevents.delivery.pace import BatchSize
from rillevents.spool import create, view

from .faults.sandbox import Ended, Running
from .faults.socket_server import OK, Connection, FaultServer

pytestmark = [pytest.mark.slow, pytest.mark.unmeasured]

BATCH = 1000
PEAK_KIB = 80 << 10
FORMAT = (
    b'{"event_id":"e-%07d","event_time":"2026-11-23T10:00:00.000000000Z","event_type":"behavioral","event_name":"n"}\n'
)
LENGTH = len(FORMAT % 0)


class Receiver:
    """An intake that keeps no event, but which runs of them it was sent, each compared with what was recorded."""

    def __init__(self, recorded: bytes, pause: float = 0.0) -> None:
        self.runs: list[tuple[int, int]] = []
        self.altered = 0
        self.before: Callable[[], None] = lambda: None
        self.after: Callable[[], None] = lambda: None
        self._recorded = memoryview(recorded)
        self._pause = pause

    @property
    def received(self) -> int:
        return sum(end - start for start, end in self.runs)

    def distinct(self) -> int:
        found = bytearray(len(self._recorded) // LENGTH)
        for start, end in self.runs:
            found[start:end] = b"\1" * (end - start)
        return found.count(1)

    def serve(self, connection: Connection) -> None:
        while request := connection.read_request():
            body = request[request.index(b"\r\n\r\n") + 4 :]
            if request.startswith(b"POST") and f"ength: {len(body)}\r\n".encode() in request:
                self.before()
                self.take(body)
                time.sleep(self._pause)
                connection.send(OK)
                self.after()

    def take(self, body: bytes) -> None:
        # All events are of one length, so a batch is a part of what was recorded, and its place is its first number.
        start = int(body[15:22])
        self.altered += body != self._recorded[start * LENGTH : start * LENGTH + len(body)]
        self.runs.append((start, start + len(body) // LENGTH))


def record(tool: Tool, events: int) -> bytes:
    """Put so many events into the spool, and return them."""
    recorded = b"".join(FORMAT % number for number in range(events))
    slot = Path(create(tool.paths.spool_dir), "slot-0.ndjson")
    slot.touch(0o600)
    slot.write_bytes(recorded)
    return recorded


@contextmanager
def receiving(tool: Tool, receiver: Receiver) -> Iterator[Callable[..., Running]]:
    """Yield what starts a flush to the receiver."""
    with FaultServer(receiver.serve) as server:
        # Not measured for coverage: that has memory, and locks for a signal to arrive in, of its own.
        environ = {key: value for key, value in tool.environ.items() if "COVERAGE" not in key}
        environ["RILLEVENTS_INTAKE_URL"] = server.url
        yield lambda *before: Running([*before, *tool.command("flush", "--json")], environ, tool.home)


def stop_half_way(running: Running, receiver: Receiver, events: int, number: int, moment: float) -> Ended:
    """Send a signal this long after the acknowledgement that follows so many events: while it is noted, or soon after."""
    goal = receiver.received + events

    def stop() -> None:
        if receiver.received >= goal:
            receiver.after = lambda: None
            time.sleep(moment)
            running.process.send_signal(number)

    receiver.after = stop
    return running.end()


def delivered(tool: Tool) -> int:
    ledger = view.ledger(tool.paths.spool_dir)
    assert ledger
    return ledger.counts["delivered"]


@pytest.mark.parametrize(
    ("number", "events", "moments"),
    [
        pytest.param(signal.SIGKILL, 1_000_000, [0.002, 0.007], id="a-million-killed-twice"),
        pytest.param(signal.SIGTERM, 300_000, [0.0, 0.001, 0.002, 0.003, 0.004, 0.005, 0.006], id="terminated"),
        pytest.param(signal.SIGINT, 300_000, [0.0, 0.001, 0.002, 0.003, 0.004, 0.005, 0.006], id="interrupted"),
    ],
)
def test_stopped_half_way_and_resumed(number: signal.Signals, events: int, moments: list[float], tool: Tool) -> None:
    """However a flush is stopped, all events arrive unaltered, at most one batch twice for each stop, and none is miscounted."""
    receiver = Receiver(record(tool, events))
    # Each stop may come up to two of the largest batches later than that: enough is left for the last one.
    some = events // (2 * (len(moments) + 1))
    with receiving(tool, receiver) as flush:
        ended = [stop_half_way(flush(), receiver, some, number, moment) for moment in moments]
        receiver.after = lambda: None
        last = flush().end()
    code = -number if number == signal.SIGKILL else 128 + number
    assert [code] * len(moments) == [end.code for end in ended]
    assert 0 == last.code, last
    assert (events, 0) == (receiver.distinct(), receiver.altered)
    largest = max(end - start for start, end in receiver.runs)
    assert BATCH <= largest <= IntakeExporter.most[0]
    assert receiver.received - events <= len(moments) * largest
    assert (events, []) == (delivered(tool), tool.lines())
    assert [] == sorted(tool.spool.glob("*.ndjson")) + sorted(tool.spool.glob("*.tmp"))
    assert PEAK_KIB > max(end.peak for end in [*ended, last]) > 0


def test_a_slow_intake(tool: Tool) -> None:
    """A slow intake gets all it can take, beyond the time without progress, no more at a time, and each batch is noted first."""
    recorded = record(tool, 10_000)
    (tool.home / "config.toml").write_text("[flush]\nstall_timeout = 3\n")
    receiver = Receiver(recorded, pause=BatchSize.QUICK_SECONDS)
    noted: list[int] = []

    def look() -> None:
        state = tool.spool / "state.json"
        offsets = json.loads(state.read_bytes())["offsets"] if state.exists() else {}
        noted.append(sum(offset for offset, _ in offsets.values()) // LENGTH)

    receiver.before = look
    with receiving(tool, receiver) as flush:
        ended = flush("sh", "-c", 'ulimit -v 600000; exec "$@"', "sh").end()
    assert (0, 10_000) == (ended.code, json.loads(ended.stdout)["delivered"])
    assert float(json.loads(ended.stdout)["seconds"]) > 3
    assert [start for start, _ in receiver.runs] == noted == list(range(0, 10_000, BATCH))
    assert PEAK_KIB > ended.peak > 0
