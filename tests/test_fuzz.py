"""The parsers of what others wrote, against a corpus and against what is made of it."""

from __future__ import annotations

import random
import re
import sys
import threading
from collections.abc import Iterator
from itertools import chain, islice
from pathlib import Path

import pytest
from support import only

from rillevents.delivery.exporters.intake import IntakeExporter
from rillevents.delivery.outcome import Kind, Outcome
from rillevents.errors import InvalidEvent
from rillevents.event import Event, ndjson
from rillevents.event.batch import Batch
from rillevents.event.validate import checked_line
from rillevents.spool import create
from rillevents.spool.slots import append
from rillevents.spool.view import pending

from .faults import fuzz
from .faults.socket_server import Connection, FaultServer

SEED = 1
SECONDS = {"line": 4.0, "raw": 3.0, "answer": 3.0}


@pytest.mark.parametrize("target", fuzz.TARGETS)
def test_corpus(target: str) -> None:
    """Every input that was worth keeping is understood as it is meant, and does no harm."""
    for name, data in fuzz.seeds(target).items():
        behaviour = fuzz.check(target, data)
        if target == "raw" and not name.startswith("found-"):
            assert name.startswith("accepted-") is behaviour.startswith(" | "), (name, behaviour)


@pytest.mark.slow
@pytest.mark.parametrize("target", fuzz.TARGETS)
def test_mutated(target: str) -> None:
    """What is made of the corpus by chance is understood as other parsers understand it, quickly, and in few words."""
    runs, seen = fuzz.fuzz(target, SECONDS[target], SEED)
    assert runs > 20
    assert len(seen) > 10


def over_the_wire(inputs: Iterator[bytes]) -> Iterator[tuple[bytes, Outcome]]:
    """Give each input as the answer to a batch of one event, and yield what an exporter makes of it."""
    answer = b""

    def script(connection: Connection) -> None:
        connection.read_request()
        connection.send(answer)

    with FaultServer(script) as server:
        exporter = IntakeExporter(server.url, environ={})
        for answer in inputs:
            yield answer, exporter.export(Batch([fuzz.EVENT + b"\n"]))
        exporter.close()


def test_over_the_wire() -> None:
    """Whatever bytes a server answers with are an outcome, and an acknowledgement only where they say so in full."""
    corpus = list(fuzz.seeds("answer").values())
    mutated = islice(fuzz.mutations(random.Random(SEED), corpus), 300)
    for data, outcome in over_the_wire(chain(corpus, mutated)):
        fuzz.check_reason(outcome.reason)
        if outcome.kind is Kind.ACCEPTED:
            assert re.search(rb"HTTP/\d\.\d 2\d\d", data), data
        assert {place for place, _ in outcome.rejected} <= {0}


def test_answer_cut_short() -> None:
    """An acknowledgement that ends before it said that it would is none."""
    whole = b"HTTP/1.1 200 OK\r\nContent-Length: 15\r\n\r\n" + b'{"rejected":[]}'
    cuts = [whole[:cut] for cut in range(len(whole))]
    kinds = [outcome.kind for _, outcome in over_the_wire(iter([*cuts, whole]))]
    assert [Kind.TEMPORARY] * len(cuts) + [Kind.ACCEPTED] == kinds


def nested(depth: int) -> list[object]:
    value: list[object] = []
    for _ in range(depth - 1):
        value = [value]
    return value


class TestNesting:
    def test_recorded(self) -> None:
        """An event may be nested as deep as every reader goes; one level more is refused, in so many words."""
        event = Event("t", "n", {"a": nested(ndjson.MAX_DEPTH - 1)})
        assert event.line == checked_line(event.line)
        with pytest.raises(InvalidEvent, match="nested more than 200 deep"):
            _ = Event("t", "n", {"a": nested(ndjson.MAX_DEPTH)}).line

    def test_flush_from_deep_within(self, tmp_path: Path) -> None:
        """A flush that is called from deep within a program gives no event up for damaged, whatever it can still read."""
        folder = create(str(tmp_path / "spool"))
        line = Event("t", "n", {"a": nested(ndjson.MAX_DEPTH - 1)}).line
        append(folder, line, max_bytes=1 << 20)
        found: list[list[bytes]] = []

        def flush(frames: int) -> None:
            if frames:
                flush(frames - 1)
            else:
                found.append(fuzz.drain(folder))

        def from_deep_within() -> None:
            try:
                flush(sys.getrecursionlimit() - 150)
            except RecursionError:
                flush(0)

        thread = threading.Thread(target=from_deep_within)
        thread.start()
        thread.join()
        assert [line] == only(found)
        assert not (tmp_path / "spool" / "v1" / "corrupt").exists()
        assert [] == list(pending(str(tmp_path / "spool")))
