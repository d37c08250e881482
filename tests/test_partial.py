"""A batch that is acknowledged in part: what was acknowledged is never sent again, by this flush or the next."""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from support import Clock

from rillevents.delivery.exporters.file import FileExporter
from rillevents.delivery.flusher import Flusher
from rillevents.delivery.outcome import FlushResult, Kind, Outcome
from rillevents.event import Event
from rillevents.event.batch import Batch
from rillevents.recording.sinks.batching import BatchingSink
from rillevents.spool import create, rest, view
from rillevents.spool.slots import append
from rillevents.spool.state import State, load


class Partial:
    """Acknowledges every event but those whose number is a multiple of *bad*, and then fails."""

    def __init__(self, bad: int, kind: Kind = Kind.TEMPORARY) -> None:
        self.bad = bad
        self.kind = kind
        self.taken: list[int] = []

    def export(self, batch: Batch) -> Outcome:
        failed = False
        for index, line in enumerate(batch.lines):
            number = json.loads(line)["number"]
            if self.bad and number % self.bad == 0:
                failed = True
            elif not batch.is_acknowledged(index):
                self.taken.append(number)
                batch.acknowledge(index)
        return Outcome(self.kind, "some partition has no leader") if failed else Outcome(Kind.ACCEPTED)

    def close(self) -> None:
        """Nothing to close."""


@pytest.fixture
def spool(tmp_path: Path) -> str:
    """A spool with a hundred events, in two files."""
    path = str(tmp_path / "spool")
    for number in range(100):
        append(create(path), Event("t", "n", {"number": number}).line, max_bytes=1 << 30)
    return path


def flush(spool: str, exporter: Any, **settings: Any) -> FlushResult:
    clock = Clock()
    return Flusher(exporter, clock=clock, sleep=clock.sleep, timeout=8, **settings).flush([spool])


class TestFlush:
    @pytest.mark.parametrize("kind", [Kind.TEMPORARY, Kind.REFUSED, Kind.MISCONFIGURED])
    @pytest.mark.parametrize("bad", [1, 4, 99], ids=str)
    def test_three_times(self, kind: Kind, bad: int, spool: str) -> None:
        """However often it is flushed, each acknowledged event arrives once, the others stay, and every count says so."""
        exporter = Partial(bad, kind)
        kept = len(range(0, 100, bad))
        results = [flush(spool, exporter) for _ in range(3)]
        assert [100 - kept, 0, 0] == [result.delivered for result in results]
        assert [kept] * 3 == [result.pending for result in results] == [view.contents(spool).events] * 3
        assert {1} >= set(Counter(exporter.taken).values())
        exporter.bad = 0
        assert kept == flush(spool, exporter).delivered
        assert sorted(exporter.taken) == list(range(100))
        assert 100 == load(create(spool)).counts["delivered"]

    def test_a_batch_that_goes_on_in_its_file(self, spool: str) -> None:
        """What a file holds beyond the batch is neither lost nor moved."""
        exporter = Partial(4)
        assert 7 == flush(spool, exporter, batch_events=10).delivered
        exporter.bad = 0
        assert 93 == flush(spool, exporter).delivered
        assert sorted(exporter.taken) == list(range(100))

    def test_a_disk_that_takes_no_file(self, spool: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """Where the rest cannot be moved nothing is lost; then what was acknowledged is sent again, and a line says so."""

        def fail(*_: object) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(rest, "write", fail)
        exporter = Partial(4)
        assert 100 == flush(spool, exporter).pending
        monkeypatch.undo()
        exporter.bad = 0
        flush(spool, exporter)
        assert set(exporter.taken) == set(range(100))

    @pytest.mark.parametrize("named", [True, False])
    def test_a_kill_before_the_rename(self, named: bool, spool: str) -> None:
        """A file that the state names is read, one that it does not name is deleted: its lines are still where they were."""
        folder = create(spool)
        rest.write(folder, "rest-1.ndjson", [Event("t", "n", {"number": 100}).line])
        state = load(folder)
        state.rests = ["rest-1.ndjson"] if named else []
        state.save(folder)
        exporter = Partial(0)
        assert 100 + named == flush(spool, exporter).delivered
        assert [] == [name for name in os.listdir(folder) if name.startswith(("rest-", "done-"))]

    def test_a_state_of_an_older_version(self, spool: str) -> None:
        """A state without the names of such files is read."""
        folder = create(spool)
        State("2026-01-01T00:00:00Z", offsets={"a": (1, 2)}).save(folder)
        path = Path(folder, "state.json")
        path.write_text(
            json.dumps({key: value for key, value in json.loads(path.read_text()).items() if key != "rests"})
        )
        assert ({"a": (1, 2)}, []) == (load(folder).offsets, load(folder).rests)


def test_memory() -> None:
    """A sink keeps in memory what was not acknowledged, and nothing else."""
    exporter = Partial(4)
    sink = BatchingSink(exporter)
    for number in range(100):
        sink.emit(Event("t", "n", {"number": number}))
    sink.flush(0.6)
    assert 75 == len(exporter.taken)
    exporter.bad = 0
    sink.flush(10)
    sink.close()
    assert sorted(exporter.taken) == list(range(100))


def test_files_by_day(spool: str, tmp_path: Path) -> None:
    """Where one day's file cannot be written, the events of the other days are written once."""
    path = str(tmp_path / "spool-of-days")
    for number in range(10):
        line = b'{"event_id":"%d","event_time":"2026-01-%02dT00:00:00Z","event_type":"t","event_name":"n"}\n'
        append(create(path), line % (number, 1 + number % 2), max_bytes=1 << 30)
    (tmp_path / "out-02").mkdir()
    for _ in range(3):
        assert 5 == flush(path, FileExporter(tmp_path / "out-%d")).pending
    assert 5 == len((tmp_path / "out-01").read_bytes().splitlines())
    (tmp_path / "out-02").rmdir()
    flush(path, FileExporter(tmp_path / "out-%d"))
    assert [5, 5] == [len((tmp_path / f"out-0{day}").read_bytes().splitlines()) for day in (1, 2)]
