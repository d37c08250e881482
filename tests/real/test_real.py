"""Flushes to real programs of others, which are built first:

    tests/real/build.sh FOLDER
    RILLEVENTS_REAL=FOLDER python -m pytest tests/real -n0 -s

`-s` prints their versions, and what each flush took. Without RILLEVENTS_REAL all tests are skipped. Not in CI: building takes
minutes, and what other people's programs do is not ours to hold.
"""

from __future__ import annotations

import json
import subprocess
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from support import Tool

from rillevents.event.timestamp import parse_time

from .mixed import LEVELS, exact, flat, in_otlp, read_as, write_mixed
from .peers import Benthos, Collector, Record, VictoriaLogs, attributes, until, version

pytestmark = pytest.mark.unmeasured

EVENTS = 100_000
JSON_LINES = "/insert/jsonline?_stream_fields=event_type&_time_field=event_time&_msg_field=event_name"
# What VictoriaLogs adds to what it was sent.
ADDED = {"_stream", "_stream_id", "_time", "scope.name", "scope.version"}
# What it says where a log record has no body.
NO_BODY = "missing _msg field; see https://docs.victoriametrics.com/victorialogs/keyconcepts/#message-field"

Events = dict[str, dict[str, Any]]


@pytest.fixture(scope="module", autouse=True)
def _versions() -> None:
    for name in ("collector", "benthos", "victoria-logs"):
        print(f"\n{version(name)}", end="")
    print()


@pytest.fixture
def events(tool: Tool, tmp_path: Path) -> Events:
    """Events of all kinds, by their IDs, which are in the spool."""
    file = tmp_path / "events.ndjson"
    found = write_mixed(file, EVENTS, seed=1)
    done = tool("record", "raw", str(file), "--on-error", "fail")
    assert 0 == done.returncode, done.stderr
    assert EVENTS == len(found)
    return found


def flush(tool: Tool, to: str, name: str) -> dict[str, Any]:
    """Flush everything to an URL, and print what it took."""
    started = time.monotonic()
    done = tool("flush", "--to", to, "--json")
    seconds = time.monotonic() - started
    assert 0 == done.returncode, done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    assert ("delivered", EVENTS, 0) == (told["outcome"], told["delivered"], told["pending"]), told
    sums = f"{told['requests']:,} requests, {told['bytes']:,} bytes"
    print(f"{name}: {EVENTS:,} events in {seconds:.1f} s ({EVENTS / seconds:,.0f} events/s), {sums}")
    return told


def assert_once(events: Events, ids: Iterable[str]) -> None:
    """Check that each ID is there once, and nothing else."""
    counts = Counter(ids)
    assert not events.keys() - counts.keys()
    assert counts.keys() == events.keys()
    assert EVENTS == counts.total()


def assert_equal(expected: Iterable[tuple[Any, Any]]) -> None:
    """Check that the two of each pair are equal, and show the first that are not."""
    different = [pair for pair in expected if exact(pair[0]) != exact(pair[1])]
    assert not different[:3], len(different)


def text_fields(event: dict[str, Any], found: dict[str, str]) -> tuple[Any, Any]:
    """Return what VictoriaLogs should have of an event, and what it has, its texts read as what was sent."""
    wanted = dict(flat(event))
    texts = {key: text for key, text in found.items() if key not in ADDED}
    read = {key: read_as(wanted[key], text) if key in wanted else text for key, text in texts.items()}
    # It leaves out zeros at the end of a time.
    return timed(wanted), read | {"event_time": parse_time(found["_time"])}


def as_log_record(event: dict[str, Any]) -> dict[str, Any]:
    """Return an event with the names and the severity that VictoriaLogs gives to the parts of a log record."""
    names = {"service_name": "service.name", "service_version": "service.version"}
    names |= {"message": "_msg", "level": "severity_text"}
    renamed = {names.get(key, key): value for key, value in in_otlp(event).items()}
    number = LEVELS.get(event.get("level", ""), 0)
    return {"_msg": NO_BODY, "severity_text": "Unspecified", "severity_number": number} | renamed


def event_of(record: Record) -> dict[str, Any]:
    """Return the event that a log record was, its time in nanoseconds."""
    fields, resource = record
    named = {
        "event_time": int(fields["timeUnixNano"]),
        "event_name": fields["eventName"],
        "message": fields.get("body", {}).get("stringValue"),
        "level": fields.get("severityText"),
        "trace_id": fields.get("traceId"),
        "span_id": fields.get("spanId"),
        "service_name": resource.get("service.name"),
        "service_version": resource.get("service.version"),
    }
    return attributes(fields) | {key: value for key, value in named.items() if value}


def assert_in_collector(events: Events, stored: list[Record], now: int) -> None:
    """Check that a Collector has each event as it was, observed since *now*."""
    found = [(event_of(record), record.fields) for record in stored]
    assert_equal((in_otlp(timed(events[event["event_id"]])), event) for event, _ in found)
    wrong = [
        fields
        for event, fields in found
        if LEVELS.get(event.get("level", ""), 0) != fields.get("severityNumber", 0)
        or not now <= int(fields["observedTimeUnixNano"]) <= time.time_ns()
    ]
    assert not wrong[:3]


def timed(event: dict[str, Any]) -> dict[str, Any]:
    """Return an event with its time in nanoseconds."""
    return event | {"event_time": parse_time(event["event_time"])}


class TestNdjson:
    """Lines as they are, by POST."""

    def test_victoria_logs(self, tool: Tool, events: Events, tmp_path: Path) -> None:
        """VictoriaLogs stores each event once, with its time to the nanosecond and every digit of its numbers."""
        with VictoriaLogs(tmp_path) as peer:
            flush(tool, f"http://127.0.0.1:{peer.port}{JSON_LINES}", "NDJSON → VictoriaLogs")
            stored = peer.stored(EVENTS)
        assert_once(events, (found["event_id"] for found in stored))
        for found in stored:
            found["event_name"] = found.pop("_msg")
        assert_equal(text_fields(events[found["event_id"]], found) for found in stored)

    def test_benthos(self, tool: Tool, events: Events, tmp_path: Path) -> None:
        """Benthos writes each event once, byte for byte."""
        with Benthos(tmp_path) as peer:
            flush(tool, f"http://127.0.0.1:{peer.port}/post", "NDJSON → Benthos")
            stored = peer.stored()
        assert_once(events, (json.loads(line)["event_id"] for line in stored))
        with (tmp_path / "events.ndjson").open("rb") as recorded:
            assert sorted(recorded) == sorted(stored)


class TestOtlp:
    """Events as log records."""

    @pytest.mark.parametrize("encoding", ["protobuf", "json"])
    def test_collector(self, tool: Tool, events: Events, tmp_path: Path, encoding: str) -> None:
        """A Collector has each event once, with its name, its time and all attributes of their types."""
        (tool.home / "config.toml").write_text(f'[otlp]\nencoding = "{encoding}"\n')
        now = time.time_ns()
        with Collector(tmp_path) as peer:
            flush(tool, f"otlp+http://127.0.0.1:{peer.port}", f"OTLP {encoding} → Collector")
            stored = list(peer.stored())
        assert_once(events, (attributes(record.fields)["event_id"] for record in stored))
        assert_in_collector(events, stored, now)

    def test_victoria_logs(self, tool: Tool, events: Events, tmp_path: Path) -> None:
        """VictoriaLogs stores each event once, as text, with its time to the nanosecond."""
        with VictoriaLogs(tmp_path) as peer:
            url = f"otlp+http://127.0.0.1:{peer.port}/insert/opentelemetry/v1/logs"
            flush(tool, url, "OTLP protobuf → VictoriaLogs")
            stored = peer.stored(EVENTS)
        assert_once(events, (found["event_id"] for found in stored))
        assert_equal(text_fields(as_log_record(events[found["event_id"]]), found) for found in stored)


def kill_at_work(peer: Collector) -> None:
    """Kill a Collector in the moment in which it has begun to write something."""
    before = peer.size()
    # Without a pause: what it writes at a time takes it milliseconds, and its answer comes right after.
    until(lambda: peer.size() > before, pause=0)
    peer.kill()


class TestFaults:
    """A Collector that dies, and one that refuses."""

    def test_killed(self, tool: Tool, events: Events, tmp_path: Path) -> None:
        """A Collector that is killed five times while it writes, and started again, has every event, some of them twice."""
        with Collector(tmp_path) as peer:
            url, now = f"otlp+http://127.0.0.1:{peer.port}", time.time_ns()
            flushing = subprocess.Popen(
                tool.command("flush", "--to", url, "--json"),
                env=tool.environ,
                cwd=tmp_path,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
            )
            for _ in range(5):
                kill_at_work(peer)
                assert flushing.poll() is None
                peer.start()
            told = json.loads(flushing.communicate()[0])
            assert flushing.returncode in (0, 75), told
            flushes = 1
            while told["pending"] and flushes < 10:
                told = tool.json("flush", "--to", url)
                flushes += 1
            assert 0 == told["pending"], told
            stored = list(peer.stored())
        counts = Counter(attributes(record.fields)["event_id"] for record in stored)
        print(f"killed five times: flushes: {flushes}, duplicates: {counts.total() - len(counts):,}")
        assert counts.keys() == events.keys()
        assert_in_collector(events, stored, now)

    @pytest.mark.parametrize("encoding", ["protobuf", "json"])
    def test_too_large(self, tool: Tool, events: Events, tmp_path: Path, encoding: str) -> None:
        """A Collector that answers a large body with 400 gets everything, once, in smaller ones."""
        (tool.home / "config.toml").write_text(f'[otlp]\nencoding = "{encoding}"\n')
        now = time.time_ns()
        with Collector(tmp_path, max_request_body_size=100_000) as peer:
            flush(tool, f"otlp+http://127.0.0.1:{peer.port}", f"OTLP {encoding}, at most 100,000 bytes a request")
            stored = list(peer.stored())
        assert_once(events, (attributes(record.fields)["event_id"] for record in stored))
        assert_in_collector(events, stored, now)
