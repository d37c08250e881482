"""`rillevents events` as people and spreadsheets see it: a table that fits, CSV that is exact, and where the events went."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path

import pytest
from rich.cells import cell_len
from support import Tool, make_store

from rillevents.event.query import Query
from rillevents.event.timestamp import parse_time
from rillevents.store.schema import open_to_write
from rillevents.store.source import StoreSource
from rillevents.store.uncounted import Uncounted


def line(name: str = "login-start", number: int = 0, **more: object) -> bytes:
    """Return an event as its line."""
    time = f"2026-11-23T10:{number // 60:02}:{number % 60:02}Z"
    event = {"event_id": f"e{number}", "event_time": time, "event_type": "behavioral", "event_name": name, **more}
    return json.dumps(event, ensure_ascii=False).encode()


class TestTable:
    @pytest.mark.parametrize("width", ["40", "60", "80", "200"])
    def test_fits(self, width: str, tool: Tool) -> None:
        """No time or name is broken across lines; attributes are cropped at the end of the terminal."""
        tool("record", "raw", stdin=b"\n".join(line("n" * 12, number, k="名" * 200) for number in range(3)))
        heading, *rows = tool("events", COLUMNS=width).stdout.splitlines()
        assert ["time", "type", "name", "attributes"] == heading.split()
        assert 3 == len(rows)
        for number, row in enumerate(rows):
            assert row.startswith(f"2026-11-23T10:00:0{number}Z  behavioral  {'n' * 12}  k=")
            assert row.endswith("…")
            assert cell_len(row) <= max(int(width), 58)

    def test_footer(self, tool: Tool) -> None:
        """Below the newest fifty a line says how many there are, and what shows all."""
        tool("record", "raw", stdin=b"\n".join(line(number=number) for number in range(60)))
        seen = tool("events")
        assert 51 == len(seen.stdout.splitlines())
        assert "the newest 50 of 60 events; --limit N shows more, --csv or --ndjson all" in seen.stderr
        assert 60 == len(tool.json("events"))


class TestCsv:
    def test_exact(self, tool: Tool) -> None:
        """One column for each attribute seen; numbers keep their digits, objects are JSON, texts are as they are."""
        odd = b'{"event_id":"e9","event_time":"2026-11-23T11:00:00Z","event_type":"t","event_name":"n","n":12345678901234567890.10,"o":{"a":[1,"x"]},"e":""}'
        tool("record", "raw", stdin=b"\n".join([line(text='a,"b"\nc', k=True, z=None), odd]))
        heading, *rows = csv.reader(io.StringIO(tool("events", "--csv").stdout))
        assert ["event_id", "event_time", "event_type", "event_name", "text", "k", "z", "n", "o", "e"] == heading
        assert [
            ["e0", "2026-11-23T10:00:00Z", "behavioral", "login-start", 'a,"b"\nc', "true", "null", "", "", ""],
            ["e9", "2026-11-23T11:00:00Z", "t", "n", "", "", "", "12345678901234567890.10", '{"a":[1,"x"]}', ""],
        ] == rows

    def test_no_limit(self, tool: Tool, tmp_path: Path) -> None:
        """All events of a store are printed, oldest first."""
        store = make_store(tmp_path / "events.db", [line(number=number) for number in range(120)])
        rows = tool("events", "--store", str(store), "--csv").stdout.splitlines()
        assert ["event_id", *(f"e{number}" for number in range(120))] == [row.partition(",")[0] for row in rows]

    def test_one_form(self, tool: Tool) -> None:
        """--csv with another form is refused."""
        assert 2 == tool("events", "--csv", "--json").returncode


class TestAfterAFlush:
    def test_where_they_went(self, tool: Tool, tmp_path: Path) -> None:
        """After a flush `events` and `stats` say what was delivered, where to, and how to look there."""
        tool("record", "behavioral", "login-start")
        tool("flush", "--to", f"file:{tmp_path}/out.ndjson")
        for command in ("events", "stats"):
            seen = tool(command).stderr
            assert f"1 event was delivered to file:{tmp_path}/out.ndjson at " in seen
            assert f"run: jq . {tmp_path}/out.ndjson" in seen


class TestCount:
    def test_from_the_counts(self, tmp_path: Path) -> None:
        """The number of events comes from the counts beside them, and is that of the events, under any filter."""
        path = make_store(tmp_path / "events.db", [line("ab"[number % 2], number, k=1) for number in range(400)])
        queries = [
            Query(),
            Query(name="a"),
            Query(name="[b-z]"),
            Query(event_type="log"),
            Query(since=parse_time("2026-11-23T10:01:30Z")),
        ]
        expected = [400, 200, 200, 0, 310]
        source = StoreSource(str(path))
        assert expected == [source.count(query) for query in queries]
        connection = open_to_write(str(path))
        Uncounted().mend(connection)
        connection.close()
        assert expected == [source.count(query) for query in queries]
        with source.counts() as counts:
            assert expected == [counts.total(query) for query in queries]


class TestAttributes:
    def test_a_number_is_no_truth(self, tool: Tool, tmp_path: Path) -> None:
        """-a compares values of JSON: 1 and 1.0 are equal, and neither is true."""
        lines = [line(number=number, k=value) for number, value in enumerate((1, 1.0, True, "1", None))]
        store = make_store(tmp_path / "events.db", lines)
        tool("record", "raw", stdin=b"\n".join(lines))
        for asked, expected in (("k:=1", 2), ("k:=true", 1), ("k=1", 1), ("k:=null", 1), ("k:=1e0", 2)):
            assert f"{expected}\n" == tool("events", "-a", asked, "--count").stdout
            assert f"{expected}\n" == tool("events", "-a", asked, "--count", "--store", str(store)).stdout


class TestDays:
    """A date alone is the beginning of that day."""

    @pytest.mark.parametrize(
        ("words", "zone", "names"),
        [
            (("events", "--since", "2026-10-25"), "Europe/Berlin", ["b", "c", "d"]),
            (("events", "--since", "2026-10-25", "--until", "2026-10-26"), "Europe/Berlin", ["b", "c"]),
            (("events", "--since", "2026-10-25"), "UTC", ["c", "d"]),
            (("stats", "--since", "2026-10-25", "--utc"), "Europe/Berlin", ["c", "d"]),
        ],
        ids=["its zone", "a day of 25 hours", "UTC", "--utc"],
    )
    def test_of_the_zone(self, tool: Tool, words: tuple[str, ...], zone: str, names: list[str]) -> None:
        """By the clock of the user, also on a day when clocks change; with --utc by UTC."""
        # The day in Berlin begins at 22:00 and ends 25 hours later.
        times = {"a": "24T21:59:59Z", "b": "24T22:00:00Z", "c": "25T22:59:59Z", "d": "25T23:00:00Z"}
        for name, time in times.items():
            assert 0 == tool("record", "log", name, "--time", f"2026-10-{time}").returncode
        found = json.loads(tool(*words, "--json", TZ=zone).stdout)
        events = found["names"] if words[0] == "stats" else found
        assert names == sorted(event["name" if words[0] == "stats" else "event_name"] for event in events)

    @pytest.mark.parametrize("text", ["2026-02-30", "2026-13-01", "0000-01-01", "2026-1x-01"])
    def test_no_day(self, tool: Tool, text: str) -> None:
        """A date that the calendar does not have is 2, in one line."""
        done = tool("events", "--since", text)
        assert (2, "") == (done.returncode, done.stdout)
        assert "is not a day that the calendar has" in done.stderr

    @pytest.mark.parametrize("zone", ["UTC", "Asia/Tokyo"])
    def test_the_first_day(self, tool: Tool, zone: str) -> None:
        """The calendar's first day is one, too."""
        tool("record", "log", "a", "--time", "0001-01-02T00:00:00Z")
        assert "1\n" == tool("events", "--since", "0001-01-01", "--count", TZ=zone).stdout

    def test_an_hour_that_comes_twice(self, tool: Tool) -> None:
        """Where clocks go back, columns that would read alike have their offsets; others have none."""
        for hour in ("00", "01", "02"):
            tool("record", "log", "a", "--time", f"2026-10-25T{hour}:30:00Z")
        words = ("stats", "--every", "1h", "--since", "2026-10-25T00:00:00Z")
        found = tool(*words, "--until", "2026-10-25T03:00:00Z", TZ="Europe/Berlin").stdout
        assert ["02:00 +0200", "02:00 +0100", "03:00 +0100"] == re.findall(r"2026-10-25 (\d\d:00 \S+)  ", found)
        found = tool(*words, "--until", "2026-10-25T01:00:00Z", TZ="Europe/Berlin").stdout
        assert ["02:00"] == re.findall(r"2026-10-25 (.*?)  ", found)

    def test_the_headline_has_the_zone_of_the_lines(self, tool: Tool) -> None:
        """With `--every` the headline is in the zone whose days and hours are the lines; else, and with `--utc`, in UTC."""
        tool("record", "log", "a", "--time", "2026-10-05T00:30:00Z")
        words = ("stats", "--since", "2026-10-05T00:00:00Z", "--until", "2026-10-05T01:00:00Z")
        for more, told in (
            (("--every", "1h"), "2026-10-04 20:30:00 to 2026-10-04 21:00:00 -0400; a line"),
            (("--every", "1h", "--utc"), "2026-10-05 00:30:00 to 2026-10-05 01:00:00 UTC; a line"),
            ((), "2026-10-05 00:30:00 to 2026-10-05 01:00:00 UTC; a column"),
        ):
            assert told in tool(*words, *more, TZ="America/New_York").stdout

    def test_years_of_few_digits(self, tool: Tool) -> None:
        """A year has four digits, in the headline and in the lines."""
        tool("record", "log", "a", "--time", "0987-06-05T00:30:00Z")
        words = ("--since", "0987-06-05T00:00:00Z", "--until", "0987-06-05T01:00:00Z", "--every", "1h")
        found = tool("stats", *words, TZ="Etc/GMT+2").stdout
        assert "0987-06-04 22:30:00 to 0987-06-04 23:00:00 -0200; a line" in found
        assert "\n0987-06-04 22:00 " in found

    def test_too_many_counts(self, tool: Tool) -> None:
        """More groups times columns than fit in memory are refused, however few of them are not 0."""
        lines = [
            f'{{"event_id":"{n}","event_time":"2026-10-{1 + n % 20:02}T00:00:00Z","event_type":"log","event_name":"n{n}"}}'
            for n in range(1200)
        ]
        tool("record", "raw", stdin="\n".join(lines).encode())
        words = ("--by", "event_name", "--since", "2026-10-01T00:00:00Z", "--until", "2026-10-21T00:00:00Z", "--utc")
        done = tool("stats", "--every", "1h", *words, "--json")
        assert 2 == done.returncode
        assert "500,000 counts in them; choose another --by" in done.stdout
        assert 1200 == len(json.loads(tool("stats", "--every", "1d", *words, "--json").stdout)["groups"])

    def test_a_day_without_midnight(self, tool: Tool) -> None:
        """Where clocks leave midnight out, the day begins when they do, in a column as well."""
        for name, time in (("a", "T04:59:59Z"), ("b", "T05:00:00Z")):
            tool("record", "log", name, "--time", f"2020-03-08{time}")
        words = ("--until", "2020-03-10", "--json")
        found = json.loads(tool("stats", "--every", "1d", *words, TZ="America/Havana").stdout)
        starts = [(each["from"], each["count"]) for each in found["groups"][0]["columns"]]
        assert [("2020-03-07T05:00:00.000000000Z", 1), ("2020-03-08T05:00:00.000000000Z", 1)] == starts[:2]
        since = json.loads(tool("stats", "--since", "2020-03-08", *words, TZ="America/Havana").stdout)
        assert 1 == since["events"]
