"""Counts over time, percentiles of values, and how a terminal shows them; the pages about that, run as they stand."""

from __future__ import annotations

import json
import math
import os
import re
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, tzinfo
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import Tool, insert, make_store

from rillevents.cli import charts
from rillevents.errors import UsageError
from rillevents.event import format_time
from rillevents.event.columns import bounds, parse_every
from rillevents.event.query import Query
from rillevents.event.stats import MAX_BUCKETS, MAX_NAMES, PERCENTILES, Timeline, distribution, percentiles
from rillevents.event.timestamp import parse_time
from rillevents.store.schema import open_to_write
from rillevents.store.summary import Question
from rillevents.store.summary import summarize as summarize_source
from rillevents.store.uncounted import Uncounted

DOCS = Path(__file__).parents[1] / "rillevents" / "docs"
NOON = "2026-11-23T12:00:00Z"


def event(name: str = "x", kind: str = "log", time: str = NOON, **more: Any) -> dict[str, Any]:
    """Return an event."""
    return {"event_id": os.urandom(8).hex(), "event_time": time, "event_type": kind, "event_name": name, **more}


def values(*given: Any, name: str = "m") -> list[dict[str, Any]]:
    """Return a metric's events."""
    return [event(name, "metric", value=value) for value in given]


class Lines:
    """Events as a source of `stats`."""

    path = name = "s"

    def __init__(self, events: Iterable[dict[str, Any]]) -> None:
        self._lines = [json.dumps(each).encode() for each in events]

    def blocks(self, query: Query, *, is_timed: bool) -> Iterator[Any]:
        times = []
        for line in self._lines:
            try:
                times.append(parse_time(json.loads(line)["event_time"]) // 1000)
            except ValueError:
                times.append(None)
        yield times, self._lines

    def oldest(self, query: Query, *, is_timed: bool) -> int | None:
        return min(us for us in next(self.blocks(query, is_timed=is_timed))[0] if us is not None)

    def count(self, query: Query) -> int:
        return 0


def summarize(events: Iterable[dict[str, Any]], now: str = "2026-11-23T12:00:30Z", **asked: Any) -> dict[str, Any]:
    """Return the document about *events*, at a time."""
    source: Any = Lines(events)
    return summarize_source(source, Question(**asked), now_ns=lambda: parse_time(now))


METRICS = Query(event_type="metric")


def interpolated(numbers: Iterable[float]) -> dict[str, float]:
    """Return the percentiles as they are defined: between the two values next to the place, in proportion."""
    ordered = sorted(map(float, numbers))
    found = {}
    for per_cent in PERCENTILES:
        place = Fraction((len(ordered) - 1) * per_cent, 100)
        low = ordered[math.floor(place)]
        high = ordered[math.ceil(place)]
        found[f"p{per_cent}"] = float(Fraction(low) + (place % 1) * (Fraction(high) - Fraction(low)))
    return found


class TestCounts:
    def test_nothing(self) -> None:
        """Of no events the document has all keys, and no time."""
        empty = {"since": None, "until": None, "bucket_seconds": None, "every": None, "utc": False, "outside": 0}
        group = {"by": {}, "count": 0, "columns": [], "values": None}
        counts = {"types": {}, "names": [], "others": 0, "values": [], "groups": [group]}
        assert {"source": "s", "events": 0, **empty, **counts} == summarize([])

    def test_names_and_types(self) -> None:
        """Types and names are counted, the most frequent first; the same name of another type is another."""
        found = summarize(
            [event("a"), event("b"), event("b"), event("b", "audit"), event("b", "audit"), event("b", "audit")]
        )
        assert [("audit", "b", 3), ("log", "b", 2), ("log", "a", 1)] == [
            (entry["type"], entry["name"], entry["count"]) for entry in found["names"]
        ]
        assert {"log": 3, "audit": 3} == found["types"]

    def test_parts_of_the_time(self) -> None:
        """The parts begin at full units of UTC, and reach from the oldest event until now."""
        times = ["2026-11-23T10:59:59Z", "2026-11-23T12:00:31+01:00", "2026-11-23T10:30:00.999Z"]
        found = summarize([event(time=time) for time in times], "2026-11-23T11:01:10Z")
        expected = ("2026-11-23T10:30:00.000000000Z", "2026-11-23T11:02:00.000000000Z", 60)
        assert expected == (found["since"], found["until"], found["bucket_seconds"])
        assert [1, *[0] * 28, 1, 1, 0] == found["names"][0]["buckets"]

    @given(st.lists(st.integers(-62135596800, 253402300799) | st.integers(0, 10**5), min_size=1, max_size=40))
    @settings(deadline=None)
    def test_every_event_is_in_its_part(self, seconds: list[int]) -> None:
        """In whatever order times come and however far they are apart: at most 60 parts, and each event in its own."""
        line = Timeline()
        for second in seconds:
            line.add("key", second)
        counts = line.buckets("key")
        first = min(seconds) // line.seconds
        expected = Counter(second // line.seconds - first for second in seconds)
        assert [expected[number] for number in range(max(expected) + 1)] == counts
        assert len(counts) <= MAX_BUCKETS
        assert [0] * len(counts) == line.buckets("other")

    def test_no_time(self) -> None:
        """An event whose time is none is counted, and is in no part."""
        found = summarize([event(time="soon")])
        assert (1, None, []) == (found["events"], found["since"], found["names"][0]["buckets"])
        found = summarize([event(time="soon"), event()], NOON)
        assert (2, [1]) == (found["names"][0]["count"], found["names"][0]["buckets"])

    def test_names_without_end(self) -> None:
        """Beyond so many names the others are counted together."""
        events = [event(f"n{number}", "metric", value=1) for number in range(MAX_NAMES + 5)]
        found = summarize(events, query=METRICS)
        assert (MAX_NAMES, MAX_NAMES, 5) == (len(found["names"]), len(found["values"]), found["others"])
        assert found["events"] == found["others"] + sum(found["types"].values())
        assert MAX_NAMES + 5 == found["groups"][0]["values"]["count"]


class TestColumns:
    @pytest.mark.parametrize(
        ("every", "first", "last", "starts"),
        [
            ("1d", "2026-11-22T23:30:00Z", "2026-11-24T01:00:00Z", ["22T00:00", "23T00:00", "24T00:00"]),
            ("1h", "2026-11-22T23:30:00Z", "2026-11-23T01:00:00Z", ["22T23:00", "23T00:00", "23T01:00"]),
            ("5m", "2026-11-22T23:58:00Z", "2026-11-23T00:04:59Z", ["22T23:55", "23T00:00"]),
            ("1w", "2026-11-22T23:58:00Z", "2026-11-23T00:00:00Z", ["16T00:00", "23T00:00"]),
        ],
    )
    def test_whole_units(self, every: str, first: str, last: str, starts: list[str]) -> None:
        """Columns begin at whole units, weeks on Mondays, and the last one has the last moment."""
        edges = bounds(parse_time(first) // 1000, parse_time(last) // 1000, parse_every(every), UTC)
        assert starts == [format_time(us * 1000)[8:16] for us in edges[:-1]]

    def test_days_of_a_zone(self) -> None:
        """A day has 25 hours where the clocks go back, and its hours are as many columns."""
        zone = ZoneInfo("Europe/Berlin")
        first, last = (parse_time(f"2026-10-{day}T12:00:00Z") // 1000 for day in (24, 26))
        edges = bounds(first, last, 86400, zone)
        assert [24, 25, 24] == [(end - start) // 3_600_000_000 for start, end in pairwise(edges)]
        assert ["2026-10-23T22", "2026-10-24T22", "2026-10-25T23"] == [format_time(us * 1000)[:13] for us in edges[:-1]]
        assert 25 == len(bounds(edges[1], edges[2] - 1, 3600, zone)) - 1

    def test_hours_of_the_clock(self) -> None:
        """Columns of several hours begin at the same hours of the clock each day, and a day that a zone leaves out has none."""
        zone = ZoneInfo("Europe/Berlin")
        first, last = (parse_time(f"2026-10-{day}T12:00:00Z") // 1000 for day in (24, 26))
        starts = [datetime.fromtimestamp(us / 1e6, zone).hour for us in bounds(first, last, 6 * 3600, zone)]
        assert [12, 18, 0, 6, 12, 18, 0, 6, 12, 18] == starts
        zone = ZoneInfo("Pacific/Apia")
        first, last = (parse_time(f"2011-12-{day}T12:00:00Z") // 1000 for day in (29, 31))
        for seconds, per_day in ((86400, 1), (6 * 3600, 4)):
            edges = bounds(first, last, seconds, zone)
            days = Counter(datetime.fromtimestamp(us / 1e6, zone).day for us in edges[:-1])
            assert 30 not in days
            assert per_day == days[31]

    def test_hours_where_clocks_change_by_half_of_one(self) -> None:
        """Hours are those of the clock also then: one is shorter, and the next begins at a whole hour again."""
        zone = ZoneInfo("Australia/Lord_Howe")
        for begin, end, starts in (
            ("2026-10-03T14:30:00Z", "2026-10-03T17:30:00Z", ["01:00", "02:30", "03:00", "04:00"]),
            ("2026-04-04T14:00:00Z", "2026-04-04T16:40:00Z", ["01:00", "01:30", "02:00", "03:00"]),
        ):
            edges = bounds(parse_time(begin) // 1000, parse_time(end) // 1000, 3600, zone)
            assert starts == [f"{datetime.fromtimestamp(us / 1e6, zone):%H:%M}" for us in edges[:-1]]

    @pytest.mark.parametrize(
        ("first", "last", "zone"),
        [
            ("0000-06-01T00:00:00Z", "2026-01-01T00:00:00Z", UTC),
            ("0001-01-01T00:00:00Z", "0001-01-02T00:00:00Z", ZoneInfo("America/St_Johns")),
            ("9999-12-31T00:00:00Z", "9999-12-31T23:00:00Z", UTC),
            ("0001-01-01T00:00:00Z", "0001-01-02T00:00:00Z", ZoneInfo("Asia/Tokyo")),
        ],
    )
    @pytest.mark.parametrize("seconds", [3600, 86400])
    def test_the_ends_of_the_calendar(self, first: str, last: str, zone: tzinfo, seconds: int) -> None:
        """Where the calendar has no further day, columns are refused with what to do, or are as they should be."""
        begin, end = parse_time(first) // 1000, parse_time(last) // 1000
        found, told = [begin, end + 1], "give"
        try:
            found = bounds(begin, end, seconds, zone)
        except UsageError as error:
            told = str(error)
        assert "give" in told
        assert found[0] <= begin < end < found[-1]

    @pytest.mark.parametrize("every", ["", "1", "0d", "7m", "45s", "36h", "d", "-1d", "5 m"])
    def test_lengths_that_days_do_not_consist_of(self, every: str) -> None:
        """Any other length is refused."""
        with pytest.raises(UsageError, match="--every"):
            parse_every(every)

    def test_too_many(self) -> None:
        """More than 2,000 columns are refused, and 2,000 are not."""
        hour = 3_600_000_000
        assert 2001 == len(bounds(0, 2000 * hour - 1, 3600, UTC))
        with pytest.raises(UsageError, match="2,000 columns"):
            bounds(0, 2000 * hour, 3600, UTC)

    def test_every_event_in_its_column(self) -> None:
        """Each group has all columns, empty ones included, from the oldest event until now."""
        times = ["2026-11-20T10:00:00Z", "2026-11-20T23:59:59.999Z", "2026-11-22T00:00:00Z"]
        [group] = summarize([event(time=time) for time in times], every=86400, utc=True)["groups"]
        days = [f"2026-11-{day}T00:00:00.000000000Z" for day in (20, 21, 22, 23)]
        assert [{"from": day, "count": n} for day, n in zip(days, (2, 0, 1, 0), strict=True)] == group["columns"]


class TestGroups:
    def test_values_of_a_key(self) -> None:
        """A group for each value; events without the key are null; true, 1 and "1" are three, and 1 and 1.0 are one."""
        given = [1, 1.0, True, "1", None, {"a": 1}, {"a": 1}]
        found = summarize([*(event(k=value) for value in given), event()], by=("k",))["groups"]
        expected = [(2, 1), (2, None), (2, {"a": 1}), (1, True), (1, "1")]
        assert sorted(map(repr, expected)) == sorted(repr((group["count"], group["by"]["k"])) for group in found)

    @pytest.mark.parametrize("key", ['a"b', "a\\b", "a\nb", "\0", "\ud800", "", "é"])
    def test_odd_keys(self, key: str) -> None:
        """A key may have any sign; a filter by it works, too."""
        given = [event(**{key: 1}), event(**{key: 1}, other=2), event(other=1)]
        found = summarize(given, by=(key, "other"), query=Query(attributes=[(key, 1)]))["groups"]
        told = {(group["by"][key], group["by"]["other"], group["count"]) for group in found}
        assert {(1, None, 1), (1, 2, 1)} == told

    def test_several_keys(self) -> None:
        """Several keys make a group for each combination; the largest comes first."""
        found = summarize([event(a=1, b="x"), event(a=1, b="x"), event(a=1, b="y")], by=("a", "b"))["groups"]
        assert [({"a": 1, "b": "x"}, 2), ({"a": 1, "b": "y"}, 1)] == [(group["by"], group["count"]) for group in found]

    def test_values_of_a_group(self) -> None:
        """Each group has the values of its metrics."""
        events = [event("m", "metric", value=value, s=s) for value, s in ((1, "a"), (3, "a"), (5, "b"))]
        found = summarize(events, by=("s",))["groups"]
        assert [(2, 4.0), (1, 5.0)] == [(group["values"]["count"], group["values"]["sum"]) for group in found]

    def test_another_value(self) -> None:
        """--value takes the numbers of any attribute, of any type of event."""
        found = summarize([event(n=1), event(n=4), event(n="x"), event()], value="n")
        assert (2, 5.0) == tuple(found["groups"][0]["values"][key] for key in ("count", "sum"))
        assert ["x"] == [entry["name"] for entry in found["values"]]

    def test_events_of_the_future(self, tool: Tool) -> None:
        """An event of 2099 does not stretch the chart: it is counted in a line."""
        tool("record", "behavioral", "login-start")
        tool("record", "behavioral", "login-start", "--time", "2099-01-01T00:00:00Z")
        found = tool.json("stats", "--since", "1h")
        assert (1, 1) == (found["events"], found["outside"])
        assert found["bucket_seconds"] <= 60
        assert "1 event lies in the future" in tool("stats", "--since", "1h").stderr
        assert (2, 0) == tuple(
            tool.json("stats", "--until", "2100-01-01T00:00:00Z")[key] for key in ("events", "outside")
        )


class TestValues:
    def test_which(self) -> None:
        """Numbers of metrics are values; booleans, texts, nulls and the values of other types are not."""
        events = [*values(1, 2.5, True, "3", None, [4]), event("m", value=9), event("m", "metric")]
        [metric] = summarize(events, query=Query(name="m"))["values"]
        assert (2, 1, 2.5, 3.5, 1.75) == tuple(metric[key] for key in ("count", "min", "max", "sum", "mean"))

    @pytest.mark.parametrize(
        ("asked", "told"),
        [({}, False), ({"query": METRICS}, True), ({"query": Query(name="m")}, True), ({"by": ("k",)}, True), ({"value": "value"}, True)],
    )  # fmt: skip
    def test_only_where_asked(self, asked: dict[str, Any], told: bool) -> None:
        """Values are worked out where a name, the type metric, a value or groups are asked for; else counts alone."""
        found = summarize(values(1, 2), **asked)
        assert told == bool(found["values"]) == bool(found["groups"][0]["values"])

    @given(st.lists(st.floats(-1e200, 1e200) | st.integers(-5, 5), min_size=1, max_size=200))
    @settings(deadline=None)
    def test_exact(self, numbers: list[float]) -> None:
        """A percentile is exact, by linear interpolation."""
        found = percentiles([float(number) for number in numbers])
        for key, expected in interpolated(numbers).items():
            # Between two numbers that nearly cancel, the error is one of theirs.
            nearest = max(1e-300, 1e-15 * max(map(abs, numbers)))
            assert expected == pytest.approx(found[key], rel=1e-12, abs=nearest)

    @pytest.mark.slow
    def test_very_many(self) -> None:
        """More than a million values, in any order, have the same percentiles as if they were sorted."""
        random = Random(1)
        numbers = array("d", (random.choice((random.lognormvariate(3, 2), 7.0, -1.5)) for _ in range(1_000_001)))
        assert interpolated(numbers) == pytest.approx(percentiles(numbers), rel=1e-12)
        numbers = array("d", sorted(numbers))
        assert interpolated(numbers) == pytest.approx(percentiles(numbers), rel=1e-12)

    def test_numbers_that_no_float_holds(self) -> None:
        """Numbers beyond a float's range count as the largest float, and the document is JSON that every reader takes."""
        [metric] = summarize(values(10**400, -(10**400), *[1.7e308] * 5), query=METRICS)["values"]
        json.dumps(metric, allow_nan=False)
        assert metric["min"] <= metric["mean"] <= metric["max"]
        assert list(charts.spread(metric, 80, ascii_only=True))

    def test_none(self) -> None:
        """No values have no distribution."""
        assert distribution([]) is None


class TestCharts:
    @given(st.lists(st.integers(0, 10**9), max_size=60), st.integers(1, 80), st.booleans())
    def test_columns(self, counts: list[int], width: int, ascii_only: bool) -> None:
        """A chart over time is within its width, keeps the sum, and has a blank exactly where there is nothing."""
        shorter, step = charts.merged(counts, width)
        drawn = charts.columns(shorter, ascii_only=ascii_only)
        assert (sum(counts), len(shorter)) == (sum(shorter), len(drawn))
        assert len(drawn) <= width
        assert len(counts) <= step * len(shorter) < len(counts) + step or not counts
        assert [count == 0 for count in shorter] == [sign == " " for sign in drawn]
        assert not ascii_only or drawn.isascii()
        if any(shorter):
            assert drawn[shorter.index(max(shorter))] == ("@" if ascii_only else "█")

    @given(st.floats(0, 1), st.floats(0, 1), st.integers(1, 80), st.booleans())
    def test_bar(self, share: float, other: float, width: int, ascii_only: bool) -> None:
        """A bar is within its width, all of it for the whole, and longer for more."""
        drawn, second = (charts.bar(part, width, ascii_only=ascii_only) for part in sorted((share, other)))
        assert len(drawn) <= len(second) <= width
        assert width == len(charts.bar(1.0, width, ascii_only=ascii_only))
        assert "" == charts.bar(0.0, width, ascii_only=ascii_only)

    @pytest.mark.parametrize(
        ("encoding", "environ", "expected"),
        [
            ("utf-8", {}, False),
            ("utf-8", {"LANG": "en_GB.UTF-8"}, False),
            ("utf-8", {"LC_ALL": "C"}, True),
            ("utf-8", {"LC_ALL": "", "LANG": "C"}, True),
            ("utf-8", {"LC_ALL": "C.UTF-8", "LANG": "C"}, False),
            ("utf-8", {"LC_CTYPE": "POSIX", "LANG": "de_DE.UTF-8"}, True),
            ("ascii", {}, True),
            ("latin-1", {"LANG": "de_DE"}, True),
            (None, {}, True),
        ],
    )
    def test_ascii(self, encoding: str | None, environ: dict[str, str], expected: bool) -> None:
        """Charts are in ASCII where the encoding has no other signs, or the locale in force is C."""
        assert expected == charts.is_ascii(encoding, environ)

    @pytest.mark.parametrize(
        ("value", "shown"),
        [(0, "0"), (1.5, "1.5"), (20.288439, "20.2884"), (1856101.2, "1,856,101"), (-12345.678, "-12,345.7"), (1e300, "1e+300")],
    )  # fmt: skip
    def test_numbers(self, value: float, shown: str) -> None:
        """Values have six digits at most, or all that stand before the point."""
        assert shown == charts.number(value)


# The command

SHOWN = [
    ("login-start", "behavioral", "2026-11-23T10:10:05Z", {}),
    ("login-start", "behavioral", "2026-11-23T10:40:00Z", {}),
    ("login-start", "behavioral", "2026-11-23T10:42:59Z", {}),
    ("build-seconds", "metric", "2026-11-23T10:00:00Z", {"value": 20}),
    ("build-seconds", "metric", "2026-11-23T10:11:00Z", {"value": 25}),
    ("build-seconds", "metric", "2026-11-23T10:14:30Z", {"value": 30}),
    ("build-seconds", "metric", "2026-11-23T10:57:00Z", {"value": 50}),
]


@pytest.fixture
def filled(tool: Tool) -> Tool:
    """A spool with a few events of two names."""
    lines = (json.dumps(event(name, kind, time, **more)) for name, kind, time, more in SHOWN)
    tool("record", "raw", stdin="\n".join(lines).encode())
    return tool


def blocks(page: str, info: str) -> list[str]:
    """Return the fenced blocks of a page of the manual."""
    return re.findall(rf"^```{info}\n(.*?)^```$", (DOCS / f"{page}.md").read_text(), re.M | re.S)


class TestCommand:
    @pytest.mark.parametrize(
        "words",
        [
            [],
            ["--type", "metric"],
            ["--name", "login-*"],
            ["--since", "2026-11-23T10:40:00Z", "--until", "2026-11-23T10:43:00Z"],
            ["--since", "2026-11-23T10:11:00.000000001Z"],
            ["--name", "x"],
            ["-a", "value:=25"],
            ["--every", "1h", "--utc", "--by", "value"],
            ["--every", "5m", "--name", "build-seconds"],
            ["--value", "value", "--by", "event_type"],
        ],
        ids=" ".join,
    )
    def test_spool_and_store(self, words: list[str], filled: Tool) -> None:
        """The spool and a store with the same events give the same document, each with its own source, under any filter."""
        store = make_store(filled.home / "events.db", filled.lines())
        words = words if "--until" in words else [*words, "--until", "2026-11-23T11:00:00Z"]
        for number in range(2):
            spool, stored = filled.json("stats", *words), filled.json("stats", *words, "--store", str(store))
            assert (filled.paths.spool_dir, str(store)) == (spool.pop("source"), stored.pop("source"))
            assert spool == stored
            if not number:
                # Counted, as a server does it.
                connection = open_to_write(str(store))
                Uncounted().mend(connection)
                connection.close()

    def test_as_the_manual_shows_it(self, filled: Tool) -> None:
        """What the manual shows of `stats` is what it prints for such events."""
        [shown] = blocks("stats", "console stats")
        printed = filled("stats", "--name", "*", "--until", "2026-11-23T11:00:00Z", LC_ALL="C.UTF-8").stdout
        assert shown.splitlines()[1:] == [line.rstrip() for line in printed.splitlines()]

    def test_keys(self, filled: Tool) -> None:
        """The manual names every key of the document, and of its parts, and no other."""
        document = filled.json("stats", "--name", "*", "--every", "1d")
        page = (DOCS / "stats.md").read_text().partition("## As JSON")[2]
        rows = [line.split(" | ") for line in page.splitlines() if line.startswith("| `")]
        named = {key for row in rows for key in re.findall(r"`(\w+)`", row[0])}
        assert document.keys() == named
        for part in ("names", "values", "groups"):
            [row] = [row for row in rows if row[0] == f"| `{part}`"]
            assert {*document[part][0]} - {"name"} == {*re.findall(r"`(\w+)`", row[1])} - {"name", "from"}

    @pytest.mark.parametrize(
        ("environ", "width"),
        [({}, 80), ({"COLUMNS": "120"}, 120), ({"LC_ALL": "C"}, 80), ({"TERM": "dumb"}, 80)],
        ids=["piped", "wide", "ascii", "dumb"],
    )
    def test_width(self, environ: dict[str, str], width: int, filled: Tool) -> None:
        """No line is wider than the terminal, however long, wide or strange the names; in the locale C all is ASCII."""
        names = ["n" * 200, "名" * 60, "a b" * 30, *(f"name-{number}" for number in range(30))]
        lines = [
            json.dumps(event(name, "metric", format_time(n * 10**13), value=n)).encode() for n, name in enumerate(names)
        ]
        store = make_store(filled.home / "events.db", lines)
        seen = filled("stats", "--name", "*", "--store", str(store), **environ).stdout
        table, _, spreads = seen.partition("\n\n")
        lines_seen = [*table.splitlines(), *(line for line in spreads.splitlines() if line.startswith("  "))]
        assert 90 < len(lines_seen)
        assert [] == [line for line in lines_seen if len(line) + line.count("名") > width]
        assert "13 more names, 23 more metrics" in seen
        assert "\x1b" not in seen
        signs = set(seen) - {"名"}
        assert ("LC_ALL" in environ) == all(sign.isascii() for sign in signs)

    @pytest.mark.parametrize("width", [30, 60, 100])
    @pytest.mark.parametrize(
        "words", [["--by", "k", "--name", "*"], ["--every", "1d"], ["--every", "1d", "--by", "k"]], ids=" ".join
    )
    def test_groups(self, words: list[str], width: int, tool: Tool) -> None:
        """The twelve largest groups and the others fit the terminal; numbers are never cropped, and nothing is left out of the sums."""
        lines = [
            json.dumps(
                event(
                    f"n{n}",
                    "metric",
                    format_time(n * 10**13 + 10**18),
                    value=n * 1000,
                    k=f"group-{'g' * 40}-{n % 15:02}",
                )
            )
            for n in range(40)
        ]
        tool("record", "raw", stdin="\n".join(lines).encode())
        head, *seen = tool("stats", *words, "--until", "2001-09-14T00:00:00Z", COLUMNS=str(width)).stdout.splitlines()
        # What a line is, where a line is a day; no chart has columns.
        assert ("; a line: 1 d" in head, "a column" in head) == (words[0] == "--every", False)
        assert [] == [line for line in seen if len(line) > width and width > 30]
        if words[0] == "--by":
            assert 14 == len(seen)
            assert seen[-1].startswith("3 others")
            counts = [int(re.split(r"  +", line)[1]) for line in seen[1:]]
            assert 40 == sum(counts)
        else:
            counts = [sum(map(int, re.findall(r"  +([\d,]+)", line.replace(",", "")))) for line in seen[1:]]
            assert 40 == sum(counts)


# DuckDB


@pytest.fixture
def database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """DuckDB, in the folder of the test, with its extension from the package and nothing that it could download."""
    duckdb = pytest.importorskip("duckdb", reason="duckdb has no wheel for this Python yet")
    scanner = pytest.importorskip("duckdb_extension_sqlite_scanner")
    monkeypatch.chdir(tmp_path)
    settings = {"home_directory": str(tmp_path), "autoinstall_known_extensions": False}
    extensions = Path(scanner.__file__).parent / "extensions" / f"v{duckdb.__version__}"
    with duckdb.connect(config=settings) as connection:
        connection.execute(f"LOAD '{extensions}/sqlite_scanner.duckdb_extension'")
        yield connection


def asked(database: Any, info: str) -> list[list[tuple[Any, ...]]]:
    """Return the rows of each block of SQL on the page, run as it stands."""
    return [database.execute(sql).fetchall() for sql in blocks("duckdb", info)]


class TestDuckDB:
    COUNTS = [("metric", "build-seconds", 4), ("behavioral", "login-start", 3)]

    HOURS = [(datetime(2026, 11, 23, 10), "build-seconds", 4, 27.5, 47.0)]

    def test_the_spool(self, filled: Tool, database: Any) -> None:
        """The manual's statements about the spool's export give what is in the spool."""
        Path("events.ndjson").write_text(filled("spool", "export").stdout)
        assert [self.COUNTS, self.HOURS] == asked(database, "sql spool")

    def test_a_store(self, filled: Tool, database: Any) -> None:
        """The manual's statements about a store give what is in the store, while its server writes, also of times with an offset."""
        lines = filled.lines()
        lines[0] = lines[0].replace(b"T10:", b"T12:").replace(b'Z"', b'+02:00"')
        writer = open_to_write(str(make_store(Path("events.db").absolute(), lines[:2])))
        insert(writer, lines[2:])
        assert [self.COUNTS, self.HOURS] == asked(database, "sql store")
        writer.close()
        assert json.loads(lines[0]) in [
            json.loads(body) for (body,) in database.execute("SELECT body FROM store.events").fetchall()
        ]

    def test_columns(self, database: Any) -> None:
        """The manual names the columns of the tables as they are."""
        make_store(Path("events.db").absolute())
        page = (DOCS / "duckdb.md").read_text()
        database.execute("ATTACH 'events.db' AS store (TYPE sqlite, READ_ONLY)")
        cells = " ".join(re.findall(r"^\| (`.*?) \|", page, re.M))
        sentence = page.partition("`store.rejected`:")[2].partition(". ")[0]
        for table, text in (("events", cells), ("rejected", sentence)):
            found = [row[0] for row in database.execute(f"DESCRIBE store.{table}").fetchall()]
            assert found == re.findall(r"`(\w+)`", text)

    def test_parquet(self, filled: Tool, database: Any) -> None:
        """The manual's statement that writes a Parquet file writes one."""
        make_store(Path("events.db").absolute(), filled.lines())
        database.execute("ATTACH 'events.db' AS store (TYPE sqlite, READ_ONLY)")
        [statement] = re.findall(r"`(COPY .*?;)`", (DOCS / "duckdb.md").read_text())
        database.execute(statement)
        assert [(7,)] == database.execute("SELECT count(*) FROM 'events.parquet'").fetchall()
