"""The counts beside the events: always those of the events, whoever writes, and however the store was made."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from collections import Counter
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support import Clock, make_store

from rillevents.event import ndjson
from rillevents.event.envelope import Required
from rillevents.event.query import Query
from rillevents.store import counted
from rillevents.store.counts import Counts, Range
from rillevents.store.glance import BoundedReader
from rillevents.store.incoming import Incoming
from rillevents.store.insertion import _insert as insert_rows
from rillevents.store.readonly import ReadOnlyFile
from rillevents.store.schema import SCHEMA, VERSION, open_to_write
from rillevents.store.source import StoreSource
from rillevents.store.summary import Question, summarize
from rillevents.store.transaction import Transaction
from rillevents.store.uncounted import Uncounted
from rillevents.store.writer import StoreWriter

pytestmark = pytest.mark.unmeasured

MINUTE = counted.MINUTE
MARKED = "SELECT event_id FROM counted_to"


def row(number: int, us: int, name: str = "x", kind: str = "log", **more: Any) -> tuple[Any, ...]:
    """Return an event as its row."""
    body = {
        "event_id": f"e{number}",
        "event_time": "2026-01-01T00:00:00Z",
        "event_type": kind,
        "event_name": name,
        **more,
    }
    return f"e{number}", "2026-01-01T00:00:00Z", us, kind, name, "s", us, json.dumps(body)


def insert(connection: sqlite3.Connection, rows: list[tuple[Any, ...]]) -> None:
    """Insert rows as any program may do it."""
    connection.executemany("INSERT INTO events VALUES (?,?,?,?,?,?,?,?)", rows)


def older_store(path: Path) -> sqlite3.Connection:
    """Make a store as version 0.1.0 made it, without counts."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.executescript(f"BEGIN;{SCHEMA}PRAGMA user_version={VERSION};COMMIT;PRAGMA journal_mode=WAL")
    return connection


def check_all(path: Path, low: int = -(10**9), high: int = 10**12) -> None:
    """Fail unless counts and values of a range are those of the events."""
    connection = sqlite3.connect(path)
    expected = {
        (kind, name): n
        for kind, name, n in connection.execute(
            "SELECT event_type, event_name, COUNT(*) FROM events WHERE event_us BETWEEN ? AND ? GROUP BY 1, 2",
            (low, high),
        )
    }
    values = Counter(
        (name, float(value))
        for name, value in connection.execute(
            "SELECT event_name, json_extract(body, '$.value') FROM events WHERE event_us BETWEEN ? AND ?"
            " AND event_type = 'metric' AND json_type(body, '$.value') IN ('integer', 'real')",
            (low, high),
        )
    )
    connection.close()
    with Counts(ReadOnlyFile(str(path))) as counts:
        assert counts.later() is not None
        kinds = counts.kinds(Query()) or []
        middle = (low + high) // 2 // MINUTE
        found = counts.count(Query(), Range(low, high), kinds, [low // MINUTE, middle, middle + 1, high // MINUTE + 1])
        assert expected == {kind: sum(row) for kind, row in found.items()}
        names = {name for name, _ in values}
        assert values == Counter((name, value) for name in names for value in counts.values(name, Range(low, high)))


EVENTS = st.tuples(
    st.integers(-3 * MINUTE, 3 * MINUTE), st.sampled_from("ab"), st.sampled_from(["log", "metric"]), st.sampled_from([1, 2.5, "x", None])
)  # fmt: skip
STEPS = st.one_of(
    st.tuples(st.sampled_from(["store", "store", "insert"]), st.lists(EVENTS, min_size=1, max_size=6)),
    st.tuples(st.sampled_from(["delete", "update", "mend", "mend", "check", "vacuum", "replace"]), st.integers(0, 30)),
)


@given(st.lists(STEPS, max_size=16), st.integers(-3 * MINUTE, 3 * MINUTE), st.integers(0, 4 * MINUTE))
@settings(deadline=None, max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_always_those_of_the_events(tmp_path: Path, steps: list[Any], low: int, length: int) -> None:
    """After what a server stores and counts, and inserts, deletions and changes by anybody, the counts are those of the events."""
    path = tmp_path / "events.db"
    for left in tmp_path.iterdir():
        left.unlink()
    server, other = open_to_write(str(path)), open_to_write(str(path))
    uncounted = Uncounted()
    number = 0
    for step, given_ in steps:
        if step in ("store", "insert"):
            rows = []
            for us, name, kind, value in given_:
                number += 1
                rows.append(row(number, us, name, kind, value=value))
            if step == "store":
                with Transaction(server):
                    _, inserted = insert_rows(server, rows)
                uncounted.add(inserted)
            else:
                insert(other, rows)
        elif step == "delete":
            other.execute("DELETE FROM events WHERE event_id = ?", (f"e{given_}",))
        elif step == "update":
            other.execute(
                "UPDATE events SET event_us = event_us + 7, event_name = 'c' WHERE event_id = ?", (f"e{given_}",)
            )
        elif step == "replace" and given_ <= number and other.execute(MARKED).fetchone()[0] != f"e{given_}":
            # No trigger sees the deletion: only a check finds out, unless it is the mark's own event.
            other.execute("INSERT OR REPLACE INTO events VALUES (?,?,?,?,?,?,?,?)", row(given_, 5, "r"))
            counted.check(other)
        elif step == "vacuum":
            other.execute("VACUUM")
        elif step == "check":
            counted.check(server)
        else:
            uncounted.mend(server)
    server.close()
    other.close()
    check_all(path)
    check_all(path, low, low + length)


class TestAsTheyAreStored:
    """What a server stores is counted from memory; only what others stored or touched is read again."""

    @staticmethod
    def stored(path: Path, reads: list[str], *, others: bool = False, keep_us: int = 0) -> None:
        clock = Clock()
        writer = StoreWriter(str(path), clock=clock, keep_us=keep_us)
        writer.tidy()
        writer._open().set_trace_callback(reads.append)
        for first in (0, 50):
            writer.store([incoming(first, first + 50)])
            if others:
                change(path, "DELETE FROM events WHERE event_id = 'e7'")
        for _ in range(2):
            clock.sleep(60)
            writer.tidy()
        assert not counted.later(writer._open())
        assert [(2,)] == writer._open().execute("PRAGMA synchronous").fetchall()
        writer.close()

    def test_nothing_is_read(self, tmp_path: Path) -> None:
        """No event of the server's own is read to be counted."""
        reads: list[str] = []
        self.stored(tmp_path / "events.db", reads)
        assert any("INSERT INTO counted_values" in sql for sql in reads)
        assert not any("body" in sql and "SELECT" in sql for sql in reads)
        check_all(tmp_path / "events.db", high=1 << 60)

    @pytest.mark.parametrize(("others", "keep_us"), [(True, 0), (False, 1)], ids=["another program's", "its own"])
    def test_after_a_deletion(self, tmp_path: Path, others: bool, keep_us: int) -> None:
        """Where events were deleted before they were counted, those that are left are read."""
        self.stored(tmp_path / "events.db", [], others=others, keep_us=keep_us)
        check_all(tmp_path / "events.db", high=1 << 60)

    def test_the_mark_is_deleted(self, tmp_path: Path) -> None:
        """Where the last event that was counted is deleted, the rest is counted all the same."""
        path = tmp_path / "events.db"
        clock = Clock()
        writer = StoreWriter(str(path), clock=clock)
        writer.store([incoming(0, 10)])
        writer.tidy()
        writer.store([incoming(10, 3 * counted.SLICE)])
        change(path, "DELETE FROM events WHERE event_id = 'e9'")
        assert not all(writer.tidy() for _ in range(10))
        clock.sleep(60)
        assert not any([writer.tidy(), writer.tidy()])
        assert not counted.later(writer._open())
        writer.close()
        check_all(path, high=1 << 60)

    @pytest.mark.parametrize(
        "sql",
        [
            "UPDATE events SET event_id = 'other' WHERE event_id = 'e9'",
            "CREATE TRIGGER theirs AFTER INSERT ON events BEGIN"
            " UPDATE events SET event_name = upper(NEW.event_name) WHERE rowid = NEW.rowid; END",
        ],
        ids=["the mark is lost", "a trigger of somebody else"],
    )
    def test_what_others_do(self, sql: str, tmp_path: Path) -> None:
        """Counts are those of the events where the last counted one gets another ID, and where a trigger changes what arrives."""
        path = tmp_path / "events.db"
        clock = Clock()
        writer = StoreWriter(str(path), clock=clock)
        writer.store([incoming(0, 10)])
        writer.tidy()
        change(path, sql)
        writer.store([incoming(10, 20)])
        clock.sleep(60)
        assert not any([writer.tidy(), writer.tidy()])
        writer.close()
        check_all(path, high=1 << 60)

    def test_beside_another_writer(self, tmp_path: Path) -> None:
        """While another program inserts between any two requests, no more than a few slices wait to be counted."""
        path = tmp_path / "events.db"
        writer = StoreWriter(str(path), clock=Clock())
        writer.tidy()
        other = sqlite3.connect(path)
        most = 0
        for number in range(0, 5 * counted.SLICE, 500):
            writer.store([incoming(number, number + 500)])
            with other:
                insert(other, [row(-number - 1, 5)])
            writer.tidy()
            most = max(most, counted.later(writer._open()) or 0)
        other.close()
        writer.close()
        assert most <= 2 * counted.SLICE
        check_all(path, high=1 << 60)

    def test_a_row_without_a_time(self, tmp_path: Path) -> None:
        """A metric that another program inserted without its columns does not keep the rest from being counted."""
        path = tmp_path / "events.db"
        clock = Clock()
        writer = StoreWriter(str(path), clock=clock)
        change(path, "INSERT INTO events(event_id, event_type) VALUES ('x', 'metric')")
        clock.sleep(60)
        writer.tidy()
        assert not counted.later(writer._open())
        writer.close()


def incoming(first: int, end: int) -> Incoming:
    """Return a request with metrics."""
    lines = [ndjson.dumps(json.loads(row(n, 0, "m", "metric", value=n)[7])) for n in range(first, end)]
    fields = [Required(f"e{n}", "2026-01-01T00:00:00Z", "metric", "m") for n in range(first, end)]
    return Incoming([f"{line}\n".encode() for line in lines], fields, range(first, end), received_us=1)


def change(path: Path, sql: str) -> list[Any]:
    """Change a store as any program may do it, or ask it."""
    with closing(sqlite3.connect(path)) as other, other:
        return other.execute(sql).fetchall()


class TestReaders:
    """What readers make of counts that they cannot use, and of ranges that begin anywhere."""

    @pytest.mark.parametrize("query", [Query("log"), Query(name="x*"), Query(name="x"), Query()], ids=str)
    def test_a_range_that_begins_within_a_minute(self, query: Query, tmp_path: Path) -> None:
        """Events of the same minute before the range are left out, and those of later minutes are not."""
        path = make_store(tmp_path / "events.db")
        connection = open_to_write(str(path))
        insert(connection, [row(1, 10_000_000), row(2, 5 * MINUTE), row(3, 6 * MINUTE)])
        Uncounted().mend(connection)
        connection.close()
        source = StoreSource(str(path))
        asked = replace(query, since=30 * 10**9, until=60 * 60 * 10**9)
        found = summarize(source, Question(asked), now_ns=lambda: 10**15)
        assert 2 == found["events"] == source.count(asked)

    def test_a_metric_without_numbers(self, tmp_path: Path) -> None:
        """A metric that has no number is counted, and has no line of values."""
        path = make_store(tmp_path / "events.db")
        connection = open_to_write(str(path))
        insert(connection, [row(1, 0, "m", "metric", value="n/a"), row(2, 1, "k", "metric", value=1)])
        Uncounted().mend(connection)
        connection.close()
        found = summarize(StoreSource(str(path)), Question(Query("metric")), now_ns=lambda: 10**15)
        assert (2, ["k"]) == (found["events"], [each["name"] for each in found["values"]])

    @pytest.mark.parametrize(
        "sql",
        [
            "DROP TABLE counted_values; CREATE TABLE counted_values(event_name, minute, value, n)",
            "UPDATE counted_values SET numbers = x'0102'",
        ],
        ids=["another layout", "damaged"],
    )
    def test_what_cannot_be_used(self, sql: str, tmp_path: Path) -> None:
        """Values in another layout, or damaged ones, are read from the events."""
        path = make_store(tmp_path / "events.db")
        connection = open_to_write(str(path))
        insert(connection, [row(number, number, "m", "metric", value=number) for number in range(9)])
        Uncounted().mend(connection)
        connection.executescript(sql)
        connection.close()
        found = summarize(StoreSource(str(path)), Question(Query("metric")), now_ns=lambda: 10**15)
        assert (9, 8.0, 36.0) == tuple(found["values"][0][key] for key in ("count", "max", "sum"))


class TestOlderStores:
    def test_without_counts(self, tmp_path: Path) -> None:
        """A store without counts says so, and a writer counts it slice by slice, in its maintenance."""
        path = tmp_path / "events.db"
        connection = older_store(path)
        insert(
            connection,
            [
                row(number, number * MINUTE // 7, "m", "metric", value=number)
                for number in range(2 * counted.SLICE + 10)
            ],
        )
        connection.close()
        with Counts(ReadOnlyFile(str(path))) as counts:
            assert counts.later() is None
        writer = StoreWriter(str(path))
        with Counts(ReadOnlyFile(str(path))) as counts:
            assert 2 * counted.SLICE + 10 == counts.later()
        assert [True, False] == [writer.tidy(), writer.tidy()]
        check_all(path)
        writer.close()
        assert [(VERSION,)] == change(path, "PRAGMA user_version")

    def test_an_older_writer(self, tmp_path: Path) -> None:
        """An older version's connection, without trust in the schema, inserts and deletes, and the counts stay right."""
        path = make_store(tmp_path / "events.db")
        older = sqlite3.connect(path, isolation_level=None)
        older.execute("PRAGMA trusted_schema=OFF")
        insert(older, [row(number, number * 1000, "m", "metric", value=number) for number in range(20)])
        connection = open_to_write(str(path))
        Uncounted().mend(connection)
        older.execute("DELETE FROM events WHERE rowid <= 5")
        insert(older, [row(number, number * 1000, "m", "metric", value=1) for number in range(20, 25)])
        for some in (older, connection):
            some.close()
        check_all(path)

    def test_missing_triggers(self, tmp_path: Path) -> None:
        """Counts whose triggers were dropped are thrown away at the next start."""
        path = make_store(tmp_path / "events.db")
        connection = open_to_write(str(path))
        insert(connection, [row(number, number) for number in range(9)])
        Uncounted().mend(connection)
        connection.execute("DROP TRIGGER counted_delete")
        connection.execute("DELETE FROM events WHERE rowid = 3")
        connection.close()
        with Counts(ReadOnlyFile(str(path))) as counts:
            assert counts.later() is None
        open_to_write(str(path)).close()
        check_all(path)

    def test_values_that_are_missing(self, tmp_path: Path) -> None:
        """Values that a deletion dropped are read from the events, and are put back at the next start."""
        path = make_store(tmp_path / "events.db")
        connection = open_to_write(str(path))
        insert(connection, [row(number, number, "m", "metric", value=number) for number in range(9)])
        Uncounted().mend(connection)
        connection.execute("DELETE FROM events WHERE rowid = 3")
        assert [(0,)] == connection.execute("SELECT COUNT(*) FROM counted_values").fetchall()
        connection.close()
        check_all(path)
        clock = Clock()
        writer = StoreWriter(str(path), clock=clock)
        writer.tidy()
        writer.close()
        assert [(8, 64)] == change(path, "SELECT n, length(numbers) FROM counted_values")
        check_all(path)


RELEASED = next((Path(__file__).parent / "wheels").glob("rillevents-0.1.0-*.whl"))
OLDER = """
import sys
from rillevents.store.incoming import Incoming
from rillevents.store.writer import StoreWriter
from rillevents.spool.lines import Required
path, first, last, keep = sys.argv[1], *map(int, sys.argv[2:])
writer = StoreWriter(path, keep_us=keep)
fields = [Required(f"o{n}", f"2026-01-01T00:{n % 60:02}:00Z", "metric", "m") for n in range(first, last)]
lines = [b'{"event_id":"%s","event_time":"%s","event_type":"metric","event_name":"m","value":%d}\\n'
         % (one.event_id.encode(), one.event_time.encode(), n) for n, one in enumerate(fields, first)]
writer.store([Incoming(lines, fields, range(1, len(lines) + 1), received_us=1 if keep else 10**18)])
writer.tidy()
print(writer.removed)
writer.close()
"""


class TestTheReleaseBefore:
    """Version 0.1.0 itself, from its wheel."""

    def older(self, path: Path, *numbers: int) -> str:
        """Let the released writer store events of these numbers and do its maintenance; return how many it deleted."""
        words = [sys.executable, "-c", OLDER, str(path), *map(str, numbers)]
        environ = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(RELEASED)}
        done = subprocess.run(words, env=environ, cwd=path.parent, capture_output=True, text=True, check=False)
        assert 0 == done.returncode, done.stderr
        return done.stdout.strip()

    def test_its_store(self, tmp_path: Path) -> None:
        """A store of the release before is counted by this one, and the release before can go on with it, --keep included."""
        path = tmp_path / "events.db"
        self.older(path, 0, 200, 0)
        writer = StoreWriter(str(path))
        writer.tidy()
        writer.close()
        check_all(path, 0, 1 << 60)
        self.older(path, 200, 300, 0)
        check_all(path, 0, 1 << 60)
        # What it receives now is older than that already, and what came before is not: it deletes from the front only.
        connection = sqlite3.connect(path)
        connection.execute("UPDATE events SET received_us = 1 WHERE rowid <= 50")
        connection.commit()
        connection.close()
        assert "50" == self.older(path, 300, 310, 10**6)
        check_all(path, 0, 1 << 60)


@pytest.mark.parametrize("at", range(1, 8))
def test_counted_between_two_questions(at: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However soon the writer counts events while somebody reads, each of them is in the answer once."""
    path = tmp_path / "events.db"
    writer = open_to_write(str(path))
    counted.prepare(writer)
    insert(writer, [row(n, n * MINUTE, name=f"n{n}", kind="metric", value=n) for n in range(6)])
    read, asked = ReadOnlyFile.rows, 0

    def disturbed(self: ReadOnlyFile, *words: Any, **more: Any) -> list[Any]:
        nonlocal asked
        asked += 1
        if asked == at:
            Uncounted().mend(writer)
        return read(self, *words, **more)

    monkeypatch.setattr(ReadOnlyFile, "rows", disturbed)
    source = StoreSource(str(path))
    assert 6 == source.count(Query(until=10**15))
    asked = 0
    insert(writer, [row(n, n * MINUTE, name=f"n{n}", kind="metric", value=n) for n in range(6, 12)])
    reader = BoundedReader(str(path))
    window = reader.kept_counts(Query(since=0, until=20 * MINUTE * 1000), buckets=20, limit=50)
    assert window is not None
    assert (12, 12) == (window.total, len(window.counted))
    asked = 0
    insert(writer, [row(n, n * MINUTE, name="n0", kind="metric", value=n) for n in range(12, 15)])
    values, complete = reader.values(Query("metric", "n0", 0, 20 * MINUTE * 1000))
    assert ([0, 12, 13, 14], True) == (sorted(values), complete)
    asked = 0
    insert(writer, [row(n, n * MINUTE, name=f"o{n}") for n in range(15, 18)])
    found = summarize(source, Question(Query(since=0, until=20 * MINUTE * 1000)))
    assert 18 == found["events"] == sum(each["count"] for each in found["names"])
    reader.close()
    writer.close()
