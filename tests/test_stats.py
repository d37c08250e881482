"""Counts over time, percentiles of values, and how a terminal shows them; the pages about that, run as they stand."""

from __future__ import annotations

import json
import math
import os
import re
import tracemalloc
from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import datetime
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import Tool, insert, make_store

from rillevents.cli import charts
from rillevents.event import format_time
from rillevents.event.stats import EXACT_VALUES, MAX_BUCKETS, MAX_NAMES, PERCENTILES, Spread, Timeline, summarize
from rillevents.store.schema import open_to_write

DOCS = Path(__file__).parents[1] / "rillevents" / "docs"
NOON = "2026-11-23T12:00:00Z"


def event(name: str = "x", kind: str = "log", time: str = NOON, **more: Any) -> dict[str, Any]:
    """Return an event."""
    return {"event_id": os.urandom(8).hex(), "event_time": time, "event_type": kind, "event_name": name, **more}


def values(*given: Any, name: str = "m") -> list[dict[str, Any]]:
    """Return a metric's events."""
    return [event(name, "metric", value=value) for value in given]


def ranked(numbers: Iterable[float]) -> dict[str, float]:
    """Return the percentiles as they are defined: by rank, of all values in order."""
    ordered = sorted(numbers)
    return {f"p{p}": ordered[max(1, math.ceil(len(ordered) * p / 100)) - 1] for p in PERCENTILES}


class TestCounts:
    def test_nothing(self) -> None:
        """Of no events the document has all keys, and no time."""
        empty = {"since": None, "until": None, "bucket_seconds": None}
        assert {"source": "s", "events": 0, **empty, "types": {}, "names": [], "others": 0, "values": []} == summarize(
            [], "s"
        )

    def test_names_and_types(self) -> None:
        """Types and names are counted, the most frequent first; the same name of another type is another."""
        found = summarize(
            [event("a"), event("b"), event("b"), event("b", "audit"), event("b", "audit"), event("b", "audit")], ""
        )
        assert [("audit", "b", 3), ("log", "b", 2), ("log", "a", 1)] == [
            (entry["type"], entry["name"], entry["count"]) for entry in found["names"]
        ]
        assert {"log": 3, "audit": 3} == found["types"]

    def test_parts_of_the_time(self) -> None:
        """The parts begin at full units of UTC, and reach from the oldest event to the newest."""
        times = ["2026-11-23T10:59:59Z", "2026-11-23T12:00:31+01:00", "2026-11-23T10:30:00.999Z"]
        found = summarize([event(time=time) for time in times], "")
        expected = ("2026-11-23T10:30:00.000000000Z", "2026-11-23T11:01:00.000000000Z", 60)
        assert expected == (found["since"], found["until"], found["bucket_seconds"])
        assert [1, *[0] * 28, 1, 1] == found["names"][0]["buckets"]

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
        found = summarize([event(time="soon")], "")
        assert (1, None, []) == (found["events"], found["since"], found["names"][0]["buckets"])
        found = summarize([event(time="soon"), event()], "")
        assert (2, [1]) == (found["names"][0]["count"], found["names"][0]["buckets"])

    def test_names_without_end(self) -> None:
        """Beyond so many names the others are counted together, and their values are not."""
        found = summarize((event(f"n{number}", "metric", value=1) for number in range(MAX_NAMES + 5)), "")
        assert (MAX_NAMES, MAX_NAMES, 5) == (len(found["names"]), len(found["values"]), found["others"])
        assert found["events"] == found["others"] + sum(found["types"].values())


class TestValues:
    def test_which(self) -> None:
        """Numbers of metrics are values; booleans, texts, nulls and the values of other types are not."""
        found = summarize([*values(1, 2.5, True, "3", None, [4]), event("m", value=9), event("m", "metric")], "")
        [metric] = found["values"]
        assert (2, 1, 2.5, 3.5, 1.75) == tuple(metric[key] for key in ("count", "min", "max", "sum", "mean"))

    @given(st.lists(st.floats(allow_nan=False, allow_infinity=False) | st.integers(-5, 5), min_size=1, max_size=200))
    @settings(deadline=None)
    def test_exact(self, numbers: list[float]) -> None:
        """Of up to 1,000 values a percentile is the value of that rank."""
        [metric] = summarize(values(*numbers), "")["values"]
        assert 0 == metric["error"]
        assert ranked(numbers) == {key: value for key, value in metric.items() if re.fullmatch(r"p\d+", key)}
        assert metric["min"] <= metric["mean"] <= metric["max"]
        json.dumps(metric, allow_nan=False)

    @given(
        st.lists(st.floats(1e-200, 1e200) | st.floats(-1e200, -1e-200) | st.just(0.0), min_size=1, max_size=40),
        st.integers(EXACT_VALUES + 1, 3000),
        st.integers(),
    )
    @settings(max_examples=60, deadline=None)
    def test_error_bound(self, seeds: list[float], count: int, seed: int) -> None:
        """Of more values it differs from that by at most the error that is told, whatever their sizes and signs."""
        random = Random(seed)
        numbers = [random.choice(seeds) * random.uniform(0.5, 2) for _ in range(count)]
        spread = Spread()
        for number in numbers:
            spread.add(number)
        for key, expected in ranked(numbers).items():
            assert spread.percentiles()[key] == pytest.approx(expected, rel=spread.error * (1 + 1e-6), abs=0)

    @pytest.mark.parametrize(("decades", "error"), [(4, 0.01), (8, 0.01), (9.5, 0.02), (600, 0.86)])
    def test_error(self, decades: float, error: float) -> None:
        """That error is 1 %, also of positive and negative values that are eight decades apart, and grows beyond."""
        spread = Spread()
        for number in range(40_000):
            spread.add(10 ** ((number * 0.6180339887 % 1 - 0.5) * decades) * (-1) ** number)
        assert error == pytest.approx(spread.document()["error"], rel=0.05)

    def test_the_last_exact_one(self) -> None:
        """All of 1,000 values are kept, and none of 1,001."""
        for count in (EXACT_VALUES, EXACT_VALUES + 1):
            [metric] = summarize(values(*range(count)), "")["values"]
            assert (count, 0 if count == EXACT_VALUES else 0.01) == (metric["count"], metric["error"])

    def test_numbers_that_no_float_holds(self) -> None:
        """Numbers beyond a float's range count as the largest float, and the document is JSON that every reader takes."""
        [metric] = summarize(values(10**400, -(10**400), *[1.7e308] * 5), "")["values"]
        json.dumps(metric, allow_nan=False)
        assert list(charts.spread(metric, 80, ascii_only=True))

    @pytest.mark.slow
    def test_memory(self) -> None:
        """Thirty thousand values of all sizes, in any order of time, take less than two megabytes."""
        entries = (
            event("m", "metric", format_time(n * 7919 % 30_000 * 10**9), value=10 ** (n * 0.37 % 600 - 300))
            for n in range(30_000)
        )
        tracemalloc.start()
        summarize(entries, "")
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 2 << 20


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
    @pytest.mark.slow
    def test_spool_and_store(self, filled: Tool) -> None:
        """The spool and a store with the same events give the same document, each with its own source, under any filter."""
        store = make_store(filled.home / "events.db", filled.lines())
        for words in (
            [],
            ["--type", "metric"],
            ["--name", "login-*"],
            ["--since", "2026-11-23T10:40:00Z"],
            ["--name", "x"],
        ):
            spool, stored = filled.json("stats", *words), filled.json("stats", *words, "--store", str(store))
            assert (filled.paths.spool_dir, str(store)) == (spool.pop("source"), stored.pop("source"))
            assert spool == stored
        assert 0 == spool["events"]

    def test_as_the_manual_shows_it(self, filled: Tool) -> None:
        """What the manual shows of `stats` is what it prints for such events."""
        [shown] = blocks("stats", "console stats")
        printed = filled("stats", LC_ALL="C.UTF-8").stdout
        assert shown.splitlines()[1:] == [line.rstrip() for line in printed.splitlines()]

    def test_keys(self, filled: Tool) -> None:
        """The manual names every key of the document, and of its parts, and no other."""
        document = filled.json("stats")
        page = (DOCS / "stats.md").read_text().partition("## As JSON")[2]
        rows = [line.split(" | ") for line in page.splitlines() if line.startswith("| `")]
        named = {key for row in rows for key in re.findall(r"`(\w+)`", row[0])}
        assert document.keys() == named
        for part in ("names", "values"):
            [row] = [row for row in rows if row[0] == f"| `{part}`"]
            assert {*document[part][0]} - {"name"} == {*re.findall(r"`(\w+)`", row[1])} - {"name"}

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
        seen = filled("stats", "--store", str(store), **environ).stdout
        table, _, spreads = seen.partition("\n\n")
        lines_seen = [*table.splitlines(), *(line for line in spreads.splitlines() if line.startswith("  "))]
        assert 90 < len(lines_seen)
        assert [] == [line for line in lines_seen if len(line) + line.count("名") > width]
        assert "13 more names, 23 more metrics" in seen
        assert "\x1b" not in seen
        signs = set(seen) - {"名"}
        assert ("LC_ALL" in environ) == all(sign.isascii() for sign in signs)


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

    HOURS = [(datetime(2026, 11, 23, 10), "build-seconds", 4, 25.0, 50.0)]

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
