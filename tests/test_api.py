"""What a server has, as JSON: bounded, the same from a store as from forwarded events, and only for clients on this machine."""

from __future__ import annotations

import asyncio
import json
import math
import sqlite3
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browsing import Serving, damage
from hypothesis import given, settings
from hypothesis import strategies as st
from support import PACE, Tool, only

from rillevents.event import format_time
from rillevents.event.query import Query
from rillevents.event.stats import spread
from rillevents.event.timestamp import parse_time
from rillevents.serve.access import Access
from rillevents.serve.api import POLICY, PRIVATE
from rillevents.serve.app import App
from rillevents.serve.breakdown import count_read
from rillevents.serve.latest import RECENT, Latest
from rillevents.serve.metrics import Metrics
from rillevents.serve.parse import parse_ndjson
from rillevents.serve.response import Answer
from rillevents.store import glance
from rillevents.store.glance import BoundedReader, Page
from rillevents.store.reader import RejectedRow
from rillevents.store.schema import identity_of, put_aside
from rillevents.store.writer import StoreWriter
from rillevents.testing import FakeIntake, Response

NOON = parse_time("2026-11-23T12:00:00Z")


def event(
    number: int, *, second: float | None = None, kind: str = "log", name: str = "x", **more: Any
) -> dict[str, Any]:
    """Return an event; its time is so many seconds after noon."""
    at = NOON + int((number if second is None else second) * 1e9)
    return {"event_id": f"e{number}", "event_time": format_time(at), "event_type": kind, "event_name": name, **more}


def body(*events: dict[str, Any]) -> bytes:
    """Return events as NDJSON."""
    return "\n".join(json.dumps(each) for each in events).encode()


def ids(seen: Page) -> list[str]:
    """Return the IDs of events."""
    return [json.loads(line)["event_id"] for line in seen.lines]


class Stored:
    """A store that is written and looked at."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.writer = StoreWriter(str(path))
        self.glance = BoundedReader(str(path))

    def add(self, *events: dict[str, Any]) -> None:
        """Store events."""
        self.writer.store([parse_ndjson(body(*events))])

    def close(self) -> None:
        """Let go of the file."""
        self.glance.close()
        self.writer.close()


@pytest.fixture
def stored(tmp_path: Path) -> Iterator[Stored]:
    """An empty store."""
    made = Stored(tmp_path / "events.db")
    yield made
    made.close()


class TestSpread:
    def test_percentiles(self) -> None:
        """A percentile is interpolated between the two values next to its place."""
        found = spread([float(number) for number in range(100, 0, -1)], 10)
        assert (50.5, 90.1, 95.05) == (found["p50"], pytest.approx(found["p90"]), pytest.approx(found["p95"]))
        assert (1, 50.5, 100, 100) == (found["min"], round(found["mean"], 9), found["max"], found["values"])
        assert [10] * 10 == [bar["count"] for bar in found["histogram"]]

    def test_nothing_and_one(self) -> None:
        """No value is no histogram, and one that always occurs is one bar."""
        assert {"values": 0, "scale": "linear", "histogram": []} == spread([], 10)
        assert [{"from": 3.0, "to": 3.0, "count": 7}] == spread([3.0] * 7, 10)["histogram"]

    def test_a_long_tail(self) -> None:
        """Where the largest are many times the median, the bars are logarithmic."""
        found = spread([1.0] * 90 + [1000.0] * 10, 3)
        assert "log" == found["scale"]
        assert [90, 0, 10] == [bar["count"] for bar in found["histogram"]]
        assert [1, 10, 100, 1000] == [round(bar["from"]) for bar in found["histogram"]] + [1000]

    @given(st.lists(st.floats(-1e308, 1e308), min_size=1), st.integers(1, 100))
    def test_any_values(self, values: list[float], bins: int) -> None:
        """Whatever the values are, every one is in one bar, edges never fall, and no number is infinite."""
        found = spread(values, bins)
        bars = found["histogram"]
        assert len(values) == sum(bar["count"] for bar in bars)
        edges = [bar["from"] for bar in bars] + [bars[-1]["to"]]
        ranks = [found[key] for key in ("min", "p50", "p90", "p99", "max")]
        assert sorted(ranks) == ranks
        assert all(math.isfinite(each) for each in (*edges, *ranks, found["mean"]))
        assert (found["min"], found["max"]) == (edges[0], edges[-1])


class TestCursors:
    def test_news(self, stored: Stored) -> None:
        """After a cursor comes what was stored since, in that order, whatever its time, and each once."""
        stored.add(event(1), event(2))
        seen = stored.glance.newest(Query(), 10)
        assert ["e1", "e2"] == ids(seen)
        stored.add(event(3, second=-100), event(4))
        seen = stored.glance.after(seen.cursor, Query(), 10)
        assert (["e3", "e4"], True, False) == (ids(seen), seen.complete, seen.reset)
        assert [] == ids(stored.glance.after(seen.cursor, Query(), 10))

    def test_pages(self, stored: Stored) -> None:
        """More than was asked for is said, and comes with the next cursor; what a filter passes over is not looked at again."""
        begin = stored.glance.newest(Query(), 10)
        stored.add(*[event(number, name="ab"[number % 2]) for number in range(10)])
        seen = stored.glance.after(begin.cursor, Query(name="a"), 3)
        assert (["e0", "e2", "e4"], False) == (ids(seen), seen.complete)
        seen = stored.glance.after(seen.cursor, Query(name="a"), 3)
        assert (["e6", "e8"], True) == (ids(seen), seen.complete)

    def test_deleted(self, stored: Stored) -> None:
        """A cursor whose event is gone, or whose number is another event's now, leads to the newest."""
        stored.add(event(1))
        old = stored.glance.newest(Query(), 10).cursor
        with sqlite3.connect(stored.path) as connection:
            connection.execute("DELETE FROM events")
        connection.close()
        stored.add(event(2))
        seen = stored.glance.after(old, Query(), 10)
        assert (["e2"], True) == (ids(seen), seen.reset)

    def test_replaced(self, stored: Stored) -> None:
        """A cursor into a store that was put aside leads to the newest of the new one."""
        stored.add(event(1), event(2))
        old = stored.glance.newest(Query(), 10).cursor
        stored.close()
        put_aside(str(stored.path), identity_of(str(stored.path)))
        stored.add(event(3), event(4))
        seen = stored.glance.after(old, Query(), 10)
        assert (["e3", "e4"], True) == (ids(seen), seen.reset)

    def test_gone_by(self) -> None:
        """Where nothing is stored, a cursor older than what is kept leads to the newest, and so does one of another run."""
        latest = Latest()
        begin = latest.newest(Query(), 10).cursor
        latest.add(parse_ndjson(body(*[event(number) for number in range(RECENT)])))
        assert not latest.after(begin, Query(), 10).reset
        latest.add(parse_ndjson(body(event(RECENT))))
        assert latest.after(begin, Query(), 10).reset
        assert Latest().after(begin, Query(), 10).reset


class TestBounds:
    def test_rows_of_a_filter(self, stored: Stored, monkeypatch: pytest.MonkeyPatch) -> None:
        """A filter passes over so many events and no more, and says so; one by a name does not have to."""
        monkeypatch.setattr(glance, "LOOKED_AT", 5)
        stored.add(event(0, kind="rare", name="rare"), *[event(number) for number in range(1, 11)])
        seen = stored.glance.newest(Query("rare"), 10)
        assert ([], False) == (ids(seen), seen.complete)
        seen = stored.glance.newest(Query(name="rare"), 10)
        assert (["e0"], True) == (ids(seen), seen.complete)

    def test_bytes(self, stored: Stored) -> None:
        """An answer holds so many bytes and no more, and says so: the newest, or the next with the cursor for the rest."""
        begin = stored.glance.newest(Query(), 500)
        stored.add(*[event(number, text="x" * 30_000) for number in range(200)])
        seen = stored.glance.newest(Query(), 500)
        assert not seen.complete
        assert sum(map(len, seen.lines)) <= 4 << 20
        assert "e199" == ids(seen)[-1]
        first = stored.glance.after(begin.cursor, Query(), 500)
        rest = stored.glance.after(first.cursor, Query(), 500)
        assert [f"e{number}" for number in range(200)] == ids(first) + ids(rest)

    def test_counted(self, stored: Stored, monkeypatch: pytest.MonkeyPatch) -> None:
        """Of too many events the latest are counted, and from when on."""
        monkeypatch.setattr(glance, "COUNTED", 5)
        stored.add(*[event(number) for number in range(10)])
        window = stored.glance.counts(NOON, NOON + 10 * 10**9, buckets=10, limit=5)
        assert (True, 5) == (window.cut, window.total)
        assert window.total == sum(sum(each.buckets) for each in window.counted)
        assert {"log": window.counted[0].buckets} == window.types
        assert NOON + 4 * 10**9 < window.since <= NOON + 5 * 10**9

    def test_counted_by_attribute(self, stored: Stored, monkeypatch: pytest.MonkeyPatch) -> None:
        """The same by an attribute: the buckets begin where the window says."""
        monkeypatch.setattr(glance, "READ", 5)
        stored.add(*[event(number, k="v") for number in range(100)])
        query = Query(since=NOON, until=NOON + 100 * 10**9)
        window, found = count_read(stored.glance, query, buckets=2, limit=5, by="k")
        assert (True, 5, NOON + 94 * 10**9) == (window.cut, window.total, window.since)
        assert NOON + 100 * 10**9 == window.until
        assert [2, 3] == only(found["groups"])["buckets"]

    def test_complete(self, stored: Stored, monkeypatch: pytest.MonkeyPatch) -> None:
        """Counts by the minute, and values, are complete however many there are, once the store has been counted."""
        for name in ("COUNTED", "VALUES"):
            monkeypatch.setattr(glance, name, 5)
        day = 86400 * 10**9
        start = NOON // day * day
        stored.add(*[event(number, kind="metric", name="m", value=number) for number in range(100)])
        for _ in range(2):
            window = stored.glance.counts(start, start + day, buckets=24, limit=5)
            assert (False, 100, [100]) == (window.cut, window.total, [sum(each.buckets) for each in window.counted])
            values, complete = stored.glance.values(Query("metric", "m", since=start, until=start + day))
            assert (True, [*range(100)]) == (complete, sorted(values))
            stored.writer.tidy()

    def test_values(self, stored: Stored, monkeypatch: pytest.MonkeyPatch) -> None:
        """Of too many values the newest are a sample; what has none, or none that is a number, is passed over."""
        monkeypatch.setattr(glance, "VALUES", 3)
        # As if the store had not been counted.
        monkeypatch.setattr(glance, "LATER", -1)
        odd = [
            event(number, kind="metric", name="m", value=value) for number, value in enumerate([True, "1", None, [1]])
        ]
        stored.add(*odd, event(4, kind="metric", name="m"), event(5, kind="log", name="m", value=9))
        assert ([], False) == stored.glance.values(Query("metric", "m"))
        stored.add(*[event(number, kind="metric", name="m", value=number) for number in range(6, 10)])
        assert ([9, 8, 7], False) == stored.glance.values(Query("metric", "m"))
        assert ([9, 8], True) == stored.glance.values(Query("metric", "m", since=NOON + 8 * 10**9))


KINDS = st.sampled_from(["log", "metric", "b*d"])
EVENTS = st.lists(
    st.tuples(KINDS, st.sampled_from(["a", "b", "ab"]), st.integers(0, 9), st.none() | st.integers()), max_size=30
)
QUERIES = st.builds(
    Query,
    KINDS | st.just(""),
    st.sampled_from(["", "a", "a*", "[*]"]),
    st.none() | st.integers(-1, 10).map(lambda second: NOON + second * 10**9),
    st.none() | st.integers(-1, 10).map(lambda second: NOON + second * 10**9),
)


@settings(max_examples=40, deadline=None)
@given(found=EVENTS, query=QUERIES, limit=st.integers(1, 40), first=st.integers(0, 30))
def test_a_store_and_what_went_by_answer_alike(
    found: list[tuple[Any, ...]], query: Query, limit: int, first: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """As long as nothing has to be left out, it makes no difference whether events are stored or only went by."""
    stored, latest = Stored(tmp_path_factory.mktemp("alike") / "events.db"), Latest()
    events = [
        event(number, second=second, kind=kind, name=name, value=value)
        for number, (kind, name, second, value) in enumerate(found)
    ]
    cursors = []
    for part in (events[:first], events[first:]):
        cursors.append((stored.glance.newest(Query(), 1).cursor, latest.newest(Query(), 1).cursor))
        if part:
            stored.add(*part)
            latest.add(parse_ndjson(body(*part)))

    def same(one: Page, other: Page) -> None:
        assert (one.lines, one.complete, one.reset) == (other.lines, other.complete, other.reset)

    same(stored.glance.newest(query, limit), latest.newest(query, limit))
    for one, other in cursors:
        same(stored.glance.after(one, query, limit), latest.after(other, query, limit))
    assert sorted(stored.glance.values(query)[0]) == sorted(latest.values(query)[0])
    window = (NOON, NOON + 8 * 10**9)
    assert stored.glance.counts(*window, buckets=3, limit=4) == latest.counts(*window, buckets=3, limit=4)
    stored.close()


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Tool:
    """The command line, with a home for all tests of this file."""
    folder = tmp_path_factory.mktemp("look")
    (folder / "user").mkdir()
    return Tool(folder / "home")


@pytest.fixture(scope="module")
def serving(home: Tool) -> Iterator[Serving]:
    """A server with a few events, some of them of now."""
    with Serving(home) as serving:
        now = format_time(time.time_ns())
        serving.send(
            *[event(number, kind="metric", name="m", value=number) | {"event_time": now} for number in range(1, 101)]
        )
        serving.send(event(101, name="old", text="ü"))
        serving.post(b'{"event_id":"bad"}\n')
        yield serving


class TestAnswers:
    def test_events(self, serving: Serving) -> None:
        """Events come as they are, oldest first, with a cursor for those that come next."""
        status, found, _ = serving.get("/api/events?limit=2&type=metric")
        assert (200, ["e99", "e100"]) == (status, [each["event_id"] for each in found["events"]])
        assert (False, False) == (found["complete"], found["reset"])
        cursor = serving.get("/api/events")[1]["cursor"]
        serving.send(event(102, name="new"))
        found = serving.get(f"/api/events?after={cursor}")[1]
        assert ["new"] == [each["event_name"] for each in found["events"]]

    def test_filters(self, serving: Serving) -> None:
        """Type, name and times are those of `rillevents events`."""
        assert ["old"] == [each["event_name"] for each in serving.get("/api/events?name=o*&until=1h")[1]["events"]]
        assert [] == serving.get("/api/events?name=o*&since=1h")[1]["events"]

    def test_bytes_are_kept(self, serving: Serving) -> None:
        """An event in an answer has the bytes that it came with."""
        line = b'{"event_id":"n","event_time":"2026-11-23T12:00:00+00:00","event_type":"n","event_name":"n", "n":1.50,"big":12345678901234567890123}'
        serving.post(line + b"\n")
        with urllib.request.urlopen(f"{serving.url}/api/events?type=n") as response:
            assert line in response.read()

    def test_stats(self, serving: Serving) -> None:
        """Counts are by type and name in whole buckets of whole seconds, up to one that holds now."""
        found = serving.get("/api/stats?since=30m&buckets=30")[1]
        assert ("metric", "m", 100) == tuple(found["counts"][0][key] for key in ("event_type", "event_name", "total"))
        assert (60, 30, "store", True) == (
            found["bucket_seconds"], len(found["counts"][0]["buckets"]), found["kept"], found["complete"],
        )  # fmt: skip
        assert 0 == parse_time(found["since"]) % (60 * 10**9)
        assert parse_time(found["since"]) < time.time_ns() < parse_time(found["until"]) + 10**9
        assert found["rejected"] >= 1

    def test_values(self, serving: Serving) -> None:
        """Values are those of one metric in that time."""
        found = serving.get("/api/values?name=m&since=30m&bins=10")[1]
        assert (100, 1, 50.5, 100, 5050) == tuple(found[key] for key in ("values", "min", "p50", "max", "sum"))
        assert (True, [10] * 10) == (found["complete"], [bar["count"] for bar in found["histogram"]])
        assert 0 == serving.get("/api/values?name=*")[1]["values"]

    def test_rejected(self, serving: Serving) -> None:
        """Rejected lines come with why, when and by which stream, and a long one is cut."""
        serving.post(b'{"event_id":"' + b"x" * 9000 + b'"}\n', "/events/other")
        first, *rest = serving.get("/api/rejected")[1]["rejected"]
        assert ("other", True, 2000) == (first["stream"], first["cut"], len(first["line"]))
        assert ["missing event_time"] == [each["reason"] for each in rest]
        assert {"received_at", "stream", "reason", "event_id", "line", "cut"} == set(first)
        assert 1 == len(serving.get("/api/rejected?limit=1")[1]["rejected"])

    def test_by_attribute(self, tool: Tool) -> None:
        """Counts and values come for each value of an attribute, null without it; a filter by attribute applies to all."""
        now = format_time(time.time_ns())
        with Serving(tool) as serving:
            values = [("web", 1), ("web", 3), ("api", 10), (True, 5)]
            sent = [event(n, kind="metric", name="m", value=v) | {"s": s} for n, (s, v) in enumerate(values)]
            serving.send(*[each | {"event_time": now} for each in [*sent, event(9, name="n")]])
            found = serving.get("/api/stats?by=s&buckets=1")[1]
            groups = [("web", 2, [2]), ("api", 1, [1]), (None, 1, [1]), (True, 1, [1])]
            assert groups == [(each["value"], each["total"], each["buckets"]) for each in found["groups"]]
            assert (4, 5, True) == (found["group_count"], found["total"], found["complete"])
            assert [("m", 4), ("n", 1)] == [(each["event_name"], each["total"]) for each in found["counts"]]
            found = serving.get("/api/values?name=m&by=s")[1]
            assert [("web", 2, 2, 4), ("api", 1, 10, 10), (True, 1, 5, 5)] == [
                (each["value"], each["count"], each["p50"], each["sum"]) for each in found["groups"]
            ]
            web = "attributes=" + urllib.parse.quote('{"s":"web"}')
            assert 2 == serving.get(f"/api/stats?{web}")[1]["total"]
            assert 2 == serving.get(f"/api/values?name=m&{web}")[1]["values"]
            assert ["e0", "e1"] == [each["event_id"] for each in serving.get(f"/api/events?{web}")[1]["events"]]

    @pytest.mark.parametrize("forward", [False, True])
    @pytest.mark.parametrize("asked", ["", "&type=log", "&attributes=%7B%22a%22:1%7D", "&since=5s&buckets=5"])
    def test_types(self, asked: str, forward: bool, tool: Tool) -> None:
        """Types are counted with all of their names, also where there are more of these than are told apart."""
        now = format_time(time.time_ns())
        with Serving(tool, *(["--to", f"file:{tool.paths.home}/out"] if forward else [])) as serving:
            serving.send(*[event(n, name=f"n{n}") | {"event_time": now, "a": 1} for n in range(60)])
            found = serving.get(f"/api/stats?{asked}")[1]
            assert (50, 60) == (len(found["counts"]), found["total"])
            assert [("log", 60, 60)] == [
                (each["event_type"], each["total"], sum(each["buckets"])) for each in found["types"]
            ]

    @pytest.mark.parametrize("forward", [False, True])
    def test_installs(self, forward: bool, tool: Tool) -> None:
        """An install is new once; an event reaches the next one of the same install, up to the last moment of the time."""
        day = NOON + 86400 * 10**9

        def of(number: int, seconds: float, name: str, install: Any, **more: Any) -> dict[str, Any]:
            made = event(number, name=name) | {
                "event_time": format_time(day + int(seconds * 1e9)),
                "install_id": install,
            }
            return made | more

        sent = [
            of(0, -86400, "a", "old"), of(1, 0, "a", "old"), of(2, 600, "b", "old"), of(3, 1, "a", "new", s="web"),
            of(4, 601.000001, "b", "new", s="web"), of(5, 2, "a", "third"), of(6, 2, "b", "third"), of(7, 3, "b", "third"),
            of(8, 4, "a", None), of(9, 4, "b", None), of(10, 4, "a", 5), of(11, 4, "*", "third"), of(12, 5, "*", "third"),
        ]  # fmt: skip
        del sent[8]["install_id"], sent[9]["install_id"]
        with Serving(tool, *(["--to", f"file:{tool.paths.home}/out"] if forward else [])) as serving:
            serving.send(*sent)
            times = f"since={format_time(day)}&until={format_time(day + 7200 * 10**9)}"
            found = serving.get(f"/api/installs?{times}&buckets=2")[1]
            assert (3, 2, [2, 0], True) == (found["installs"], found["new"], found["buckets"], found["complete"])
            web = "attributes=" + urllib.parse.quote('{"s":"web"}')
            assert 1 == serving.get(f"/api/installs?{times}&{web}")[1]["installs"]
            for asked, started, reached in (
                ("start=a&goal=b", 3, 2), ("start=a&goal=b&within=601s", 3, 3), (f"start=a&goal=b&{web}", 1, 0),
                ("start=b&goal=b", 4, 1), ("start=*&goal=*", 2, 1), ("start=a&goal=nosuch", 3, 0), ("start=nosuch&goal=b", 0, 0),
            ):  # fmt: skip
                found = serving.get(f"/api/reach?{times}&{asked}")[1]
                assert (started, reached) == (found["started"], found["reached"]), asked

    def test_values_of_any_type(self, serving: Serving) -> None:
        """The numbers of another type than metrics are told, by an attribute and with a filter as well."""
        serving.send(*[event(9000 + n, second=n, kind="log", name="typed", value=n, k="a") for n in range(3)])
        for more in ("", "&by=k", "&attributes=%7B%22k%22:%22a%22%7D"):
            asked = f"/api/values?name=typed&since={format_time(NOON)}&until={format_time(NOON + 10**10)}{more}"
            assert 3 == serving.get(f"{asked}&type=log")[1]["values"]
            assert [0, 0] == [serving.get(asked + kind)[1]["values"] for kind in ("", "&type=")]

    @pytest.mark.parametrize(
        "asked",
        [
            "events?limit=0", "events?limit=501", "events?limit=x", "events?limit=%C2%B2", f"events?limit={'9' * 5000}",
            "events?after=x", "events?after=1", f"events?after={'9' * 30}-00000000", "events?since=yesterday",
            f"events?since={'9' * 5000}w", f"events?name={'x' * 8193}", "events?nmae=x", "events?=1", "events?since=%00",
            "rejected?limit=-1", "rejected?after=1", "stats?buckets=1501", "stats?since=1h&until=2h", "stats?since=1h&until=1d", "stats?since=@99999999999",
            "stats?attributes=x", "stats?attributes=%5B1%5D", "events?attributes=" + "%5B" * 900, "installs?since=1h&until=2h", "installs?name=x",
            "reach", "reach?start=a", "reach?start=a&goal=b&within=soon", "reach?start=a&goal=b&by=x",
            "values", "values?name=", "values?name=m&bins=101", "values?name=m&since=1h&until=1h",
            "events?" + "&".join(f"a{number}=1" for number in range(21)), "events?since=1h&since=2h", "events?name=a&name=a", "events?name=a&name=", "events?name=&name=",
            "events?attributes=%7B%22a%22:NaN%7D", "stats?attributes=%7B%22a%22:-Infinity%7D",
        ],
        ids=lambda asked: asked[:24],
    )  # fmt: skip
    def test_wrong_parameters(self, asked: str, serving: Serving) -> None:
        """What cannot be meant is refused with a reason, and is no fault of the server."""
        status, found, _ = serving.get(f"/api/{asked}")
        assert (400, ["error"]) == (status, list(found))

    @pytest.mark.parametrize(
        "asked",
        [
            "events?since=99999999999w", "events?until=99999999999w", "stats?since=99999999999w",
            "stats?since=0001-01-01T00:00:00Z&until=9999-12-31T23:59:59Z", "stats?since=@0&until=@1", "events?after=0-00000000",
            "values?name=m&since=99999999999w", "stats?by=%00&buckets=1", "values?name=m&by=name", "installs?since=99999999999w",
            "reach?start=a&goal=b&within=99999999999w", "reach?start=*&goal=%5B&since=99999999999w", "events?attributes=%7B%22a%22:1e999%7D", "events?name=%ED%A0%80&type=%FF", "events?name=" + "*a" * 400,
            "values?name=" + urllib.parse.quote("[]*?\x00\u202e"),
        ],
        ids=lambda asked: asked[:24],
    )  # fmt: skip
    def test_strange_parameters(self, asked: str, serving: Serving) -> None:
        """What may be meant is answered, whatever it is."""
        assert 200 == serving.get(f"/api/{asked}")[0]


class TestWhoMayLook:
    @pytest.mark.parametrize(
        "path", ["/api/events", "/api/rejected", "/api/stats", "/api/values?name=m", "/api/events?limit=x"]
    )
    def test_headers(self, path: str, serving: Serving) -> None:
        """No answer is kept, framed, guessed at or given to another site."""
        headers = serving.get(path)[2]
        assert {name.decode(): value.decode() for name, value in PRIVATE}.items() <= {
            k.lower(): v for k, v in headers.items()
        }.items()
        assert headers["Content-Type"] == "application/json"

    @pytest.mark.parametrize("name", ["Origin", "Host", "X-Forwarded-For", "Forwarded", "Sec-Fetch-Site"])
    def test_others(self, name: str, serving: Serving) -> None:
        """A page of another site, another host name and a client behind a proxy get to see nothing."""
        value = {"Origin": "http://evil.test", "Sec-Fetch-Site": "cross-site"}.get(name, "evil.test")
        assert 403 == serving.get("/api/events", **{name: value})[0]

    def test_a_page_of_this_machine(self, serving: Serving) -> None:
        """A page of another port may send events, but gets no leave to read them."""
        headers = serving.get("/api/events", Origin="http://localhost:1")[2]
        assert "Access-Control-Allow-Origin" not in headers
        assert 403 == serving.get("/api/stats", **{"Sec-Fetch-Site": "same-site"})[0]

    def test_the_policy_has_no_hole(self) -> None:
        """The page may load what this server has, and nothing else: no inline script, no other host."""
        assert b"default-src 'none'" in POLICY
        assert not [word for word in (b"unsafe", b"*", b"http", b"data:", b"blob:") if word in POLICY]


class TestTrouble:
    def test_store_away(self, tool: Tool) -> None:
        """A store that is not there is said to be so, and the server goes on with a new one."""
        with Serving(tool) as serving:
            serving.send(event(1))
            damage(tool)
            status, found, _ = serving.get("/api/events")
            assert (503, True) == (status, "not a regular file" in found["error"])
            Path(tool.paths.default_store).rmdir()
            serving.send(event(2))
            assert ["x"] == serving.names()

    def test_no_event_in_the_store(self, tool: Tool) -> None:
        """A row that somebody else has put there, and that is no event, does not break the answer for the others."""
        with Serving(tool) as serving:
            serving.send(event(1, kind="metric", name="m", value=1) | {"event_time": format_time(time.time_ns())})
            with sqlite3.connect(tool.paths.default_store) as connection:
                us = time.time_ns() // 1000
                for number, text in enumerate(["no JSON", '"text"', b"\xff", None, "[" * 100_000]):
                    row = (f"odd{number}", "", us, "metric", "m", "s", us, text)
                    connection.execute("INSERT INTO events VALUES(?,?,?,?,?,?,?,?)", row)
            connection.close()
            assert ["m"] == serving.names()
            assert 1 == serving.get("/api/values?name=m")[1]["values"]
            assert 6 == serving.get("/api/stats")[1]["total"]

    def test_who_looks_holds_nobody_up(self) -> None:
        """However many look at something large, the threads that take bodies apart are free."""
        held = threading.Event()
        begun = threading.Semaphore(0)

        def show(parameters: Any) -> Answer:
            begun.release()
            held.wait(10)
            return Answer(200)

        app = App(Access(), None, Metrics(), views={"/slow": show})  # type: ignore[arg-type]
        scope = {
            "path": "/slow",
            "method": "GET",
            "headers": [(b"host", b"localhost")],
            "client": ("127.0.0.1", 1),
            "query_string": b"",
        }

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": b""}

        async def send(message: Any) -> None:
            pass

        async def main() -> str:
            looking = [asyncio.create_task(app(scope, receive, send)) for _ in range(50)]
            await asyncio.get_running_loop().run_in_executor(None, begun.acquire)
            done = await asyncio.wait_for(asyncio.get_running_loop().run_in_executor(None, lambda: "free"), 5)
            held.set()
            await asyncio.gather(*looking)
            return done

        assert "free" == asyncio.run(main())


class TestForwarding:
    def test_what_went_by(self, tool: Tool) -> None:
        """A server that hands events on shows the latest, and what was rejected: by itself, and by the destination."""
        with FakeIntake() as intake, Serving(tool, "--to", intake.url) as serving:
            now = format_time(time.time_ns())
            serving.send(event(1, kind="metric", name="m", value=4) | {"event_time": now})
            serving.post(b"no JSON\n")
            assert ["m"] == serving.names()
            found = serving.get("/api/stats")[1]
            assert (1, 1, "the latest 1,000") == (found["total"], found["rejected"], found["kept"])
            assert 4 == serving.get("/api/values?name=m")[1]["p50"]
            assert ["no JSON"] == [each["line"] for each in serving.get("/api/rejected")[1]["rejected"]]

    def test_what_the_destination_says(self, tool: Tool) -> None:
        """What the destination refused is shown with its reason."""
        answer = Response(200, b'{"rejected":[{"line":1,"reason":"poisoned"}]}', {"Content-Type": "application/json"})
        with FakeIntake() as intake, Serving(tool, "--to", intake.url) as serving:
            intake.respond = lambda request: answer
            serving.send(event(1))
            end = time.monotonic() + 10 * PACE
            while not (found := serving.get("/api/rejected")[1]["rejected"]) and time.monotonic() < end:
                time.sleep(0.1)
            assert ("poisoned", "e1") == (only(found)["reason"], only(found)["event_id"])

    def test_what_the_destination_refused(self) -> None:
        """What the destination refused stands among what was no event, the newest first."""
        refused = [RejectedRow("2026-01-02T00:00:00Z", "", "poisoned", "p", "{}")]
        latest = Latest(lambda limit: refused)
        bad = parse_ndjson(b"no JSON\n")
        bad.received_us = parse_time("2026-01-01T00:00:00Z") // 1000
        latest.add(bad)
        found, total = latest.rejected(50)
        assert (["{}", "no JSON"], 2) == ([each.body for each in found], total)
