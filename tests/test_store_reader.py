"""Looking at a store: the same answers as the spool gives, by the indexes, without touching anything, whatever happens to the file."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support import insert, make_store, need, snapshot

from rillevents.errors import Busy, RilleventsError, StoreError
from rillevents.event.query import Query, find, newest
from rillevents.event.timestamp import parse_time
from rillevents.store.follow import follow
from rillevents.store.reader import Counted, Filter, Store
from rillevents.store.schema import identity_of, open_to_write, put_aside

pytestmark = pytest.mark.unmeasured

NOON = parse_time("2026-11-23T12:00:00Z")


def line(event_id: str, time: str = "2026-11-23T12:00:00Z", kind: str = "log", name: str = "x", **more: Any) -> bytes:
    """Return an event as its line."""
    return json.dumps(
        {"event_id": event_id, "event_time": time, "event_type": kind, "event_name": name, **more}
    ).encode()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where a store is to be."""
    return tmp_path / "state" / "events.db"


def ids(lines: Sequence[bytes] | Iterator[bytes]) -> list[str]:
    """Return the IDs of events."""
    return [json.loads(found)["event_id"] for found in lines]


class TestQueries:
    def test_lines(self, path: Path) -> None:
        """Lines come as they were stored, oldest first, each with a newline."""
        stored = [line("b", "2026-01-02T00:00:00Z", n=1.50), line("a", "2026-01-01T00:00:00Z", text="ü")]
        with Store(str(make_store(path, stored))) as store:
            assert [b"%s\n" % found for found in reversed(stored)] == list(store.lines())

    def test_pages(self, path: Path) -> None:
        """More events than a page holds come once each, also where thousands have the same time."""
        stored = [line(f"{number:05}", f"2026-01-01T00:00:0{number % 2}Z") for number in range(2500)]
        expected = sorted(range(2500), key=lambda number: number % 2)
        with Store(str(make_store(path, stored))) as store:
            assert expected == [int(found) for found in ids(store.lines())]
            assert expected[-700:] == [int(found) for found in ids(store.newest(limit=700))]

    def test_newest_to_the_nanosecond(self, path: Path) -> None:
        """The newest are the newest by their nanoseconds, not by the microseconds of the table."""
        times = ["0.000000001Z", "0.000000900Z", "0.000000002Z", "0.000000800Z"]
        stored = [line(str(number), f"2026-01-01T00:00:0{time}") for number, time in enumerate(times)]
        with Store(str(make_store(path, stored))) as store:
            assert ["3", "1"] == ids(store.newest(limit=2))

    @pytest.mark.parametrize("bound", ["since", "until"])
    def test_times_that_sqlite_cannot_hold(self, bound: str, path: Path) -> None:
        """A time of long before or after every year is a bound like any other."""
        with Store(str(make_store(path, [line("a")]))) as store:
            for time in (-(10**30), 10**30):
                expected = (bound == "since") == (time < 0)
                assert expected == bool(store.count(Query(**{bound: time})))

    def test_rejected(self, path: Path) -> None:
        """Rejected lines come newest first, with when, by which stream and why, whatever bytes they are."""
        connection = open_to_write(str(path))
        rows = [(1, "s", "no JSON", None, b"\xff{"), (2_000_000, "t", "conflict", "id", "{}")]
        connection.executemany("INSERT INTO rejected VALUES(?,?,?,?,?)", rows)
        with Store(str(path)) as store:
            first, second = store.rejected()
            assert ("1970-01-01T00:00:02.000000000Z", "t", "conflict", "id", "{}") == dataclasses.astuple(first)
            assert ("no JSON", "", "\\xff{") == (second.reason, second.event_id, second.body)
            assert [first] == store.rejected(1)
        connection.close()

    def test_counts(self, path: Path) -> None:
        """Types and names are counted in equal parts of a time, the most frequent first."""
        stored = [line(f"a{n}", f"2026-11-23T12:00:0{n}Z", name="often") for n in range(10)]
        stored += [line("b", "2026-11-23T12:00:09.9Z", "metric", "seldom"), line("c", "2026-11-23T12:00:10Z")]
        with Store(str(make_store(path, stored))) as store:
            found = store.counts(NOON, NOON + 10 * 10**9, buckets=3)
            assert [Counted("log", "often", [4, 3, 3]), Counted("metric", "seldom", [0, 0, 1])] == found
            assert found[:1] == store.counts(NOON, NOON + 10 * 10**9, buckets=3, limit=1)


NAMES = ["a", "ab", "a*", "[a]", "A", "ü", "a\nb", "\x00"]
TIMES = [
    f"2026-11-23T12:00:00{fraction}Z" for fraction in ("", ".000000001", ".000000999", ".000001", ".5", ".500000001")
]
EVENTS = st.lists(
    st.tuples(st.sampled_from(TIMES), st.sampled_from(["log", "metric"]), st.sampled_from(NAMES), st.sampled_from([{}, {"k": 1}, {"k": "1"}])),
    max_size=12,
)  # fmt: skip
MOMENTS = st.none() | st.sampled_from([parse_time(time) for time in TIMES])
QUERIES = st.builds(
    Query,
    st.sampled_from(["", "log", "metric", "\udc9b"]),
    st.sampled_from(["", *NAMES, "*", "a?", "[!a]*", "[[]a]", "*\n*", "[", "\udc9b", "[!\udc9b]"]),
    MOMENTS,
    MOMENTS,
    st.sampled_from([(), (("k", 1),), (("k", "1"),)]),
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(EVENTS, QUERIES, st.integers(1, 5))
def test_the_same_as_the_spool(tmp_path: Path, events: list[Any], query: Query, limit: int) -> None:
    """For the same events and any filter a store gives the lines, the count and the newest that the spool gives."""
    lines = [line(str(number), time, kind, name, **more) for number, (time, kind, name, more) in enumerate(events)]
    path = make_store(tmp_path / os.urandom(8).hex(), lines)
    pending = [body + b"\n" for body in lines]
    expected = list(find(pending, query))
    with Store(str(path)) as store:
        assert sorted(body for body, _ in expected) == sorted(store.lines(query))
        assert len(expected) == store.count(query)
        assert [body for body, _ in newest(expected, limit)] == store.newest(query, limit)
        assert [body for body, _ in expected] == list(_until_idle(store, query))
    path.unlink()


class _Idle(Exception):
    """A follower has seen every event."""


def _until_idle(store: Store, query: Query = Query()) -> Iterator[bytes]:
    """Yield what following gives until it has to wait."""

    def stop(_: float) -> None:
        raise _Idle

    try:
        yield from follow(store, query, sleep=stop)
    except _Idle:
        return


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """A store of 200,000 events."""
    path = tmp_path_factory.mktemp("large") / "events.db"
    connection = open_to_write(str(path))
    connection.execute(
        "WITH RECURSIVE n(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM n LIMIT 200000) INSERT INTO events"
        " SELECT 'id-' || n, '', n * 1000000, 'log', 'name-' || (n % 100), 'default', n,"
        ' \'{"event_id":"id-\' || n || \'","event_time":"","event_type":"log","event_name":"x"}\' FROM n'
    )
    connection.close()
    with Store(str(path)) as store:
        yield store


class TestIndexes:
    @pytest.mark.parametrize(
        ("query", "index", "found"),
        [
            (Query(name="name-7"), "events_name_us (event_name=? AND", 2000),
            (Query(name="name-7", since=199_900 * 10**9), "events_name_us (event_name=? AND", 1),
            (Query(since=199_990 * 10**9), "events_us (", 10),
            (Query(until=10 * 10**9), "events_us (", 10),
            (Query("log", "x*", since=199_900 * 10**9), "events_us (", 100),
        ],
        ids=["name", "name-since", "since", "until", "glob-since"],
    )
    def test_plans(self, query: Query, index: str, found: int, large: Store) -> None:
        """Counting, the pages and the newest of 200,000 events go by the index between the ends of a time, and sort nothing."""
        assert found == large.count(query)
        assert found == len(list(large.lines(query))) == len(large.newest(query, 10_000))
        statements = [Filter(query).count()]
        for backwards in (False, True):
            sql, values, at = Filter(query).page(backwards=backwards)
            statements.append((sql, [*values, *at, 500]))
        for sql, values in statements:
            [(*_, plan)] = large.file.rows(f"EXPLAIN QUERY PLAN {sql}", values)
            plan = plan.decode()
            assert plan.replace("COVERING ", "").startswith(f"SEARCH events USING INDEX {index}")
            assert "event_us>" in plan or "(event_us,rowid)>" in plan
            assert "event_us<" in plan or "(event_us,rowid)<" in plan

    def test_position(self, large: Store) -> None:
        """Following goes on by the row's number: a poll costs the same, however much was read before."""
        plans = large.file.rows(
            "EXPLAIN QUERY PLAN SELECT 1 FROM events NOT INDEXED WHERE rowid > 5 ORDER BY rowid LIMIT 1"
        )
        assert [b"SEARCH events USING INTEGER PRIMARY KEY (rowid>?)"] == [plan for *_, plan in plans]


class TestFile:
    @pytest.mark.parametrize("is_written", [False, True], ids=["at-rest", "written"])
    def test_nothing_is_touched(self, is_written: bool, path: Path) -> None:
        """Looking creates no file and changes none, whether somebody writes the store or not."""
        make_store(path, [line("a")])
        writer = open_to_write(str(path))
        if is_written:
            insert(writer, [line("b")])
        else:
            writer.close()
        before = {name: data for name, data in snapshot(path.parent).items() if not name.endswith("-shm")}
        names = sorted(os.listdir(path.parent))
        with Store(str(path)) as store:
            assert 1 + is_written == len(list(store.lines())) == store.count()
        assert names == sorted(os.listdir(path.parent))
        assert before == {name: data for name, data in snapshot(path.parent).items() if not name.endswith("-shm")}
        writer.close()

    def test_a_writer_that_comes_and_goes(self, path: Path) -> None:
        """What is written after a store was opened is seen, while its writer is there and after it has gone."""
        make_store(path, [line("a")])
        with Store(str(path)) as store:
            assert 1 == store.count()
            writer = open_to_write(str(path))
            insert(writer, [line("b")])
            assert 2 == store.count()
            writer.close()
            for number in range(3, 10):
                make_store(path, [line(str(number))])
                assert number == store.count()

    @pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
    @pytest.mark.parametrize("name", ["name-1*", ""], ids=["glob", "all"])
    def test_interrupted(self, name: str, large: Store) -> None:
        """An interrupt while a store is read is an interrupt, and not an error of the store's."""

        class Interrupted(BaseException):
            """A signal arrived."""

        def interrupt(number: int, frame: object) -> None:
            raise Interrupted

        before = signal.signal(signal.SIGALRM, interrupt)
        try:
            for milliseconds in range(1, 60, 3):
                # And again a second later: Python drops what a handler raises while a finalizer or a callback runs.
                signal.setitimer(signal.ITIMER_REAL, milliseconds / 1000, 1.0)
                with pytest.raises(Interrupted):
                    while True:
                        large.count(Query(name=name, since=1))
                        sum(1 for _ in large.lines(Query(name=name, since=1)))
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)

    def test_a_reader_that_stands_still(self, path: Path) -> None:
        """A reader that pauses in the middle keeps no writer from checkpointing its journal, and then reads on."""
        make_store(path, [line(f"{number:04}") for number in range(1200)])
        writer = open_to_write(str(path))
        insert(writer, [line("z")])
        with Store(str(path)) as store:
            lines = store.lines()
            first = next(lines)
            insert(writer, [line("zz")])
            assert (0, 0, 0) == writer.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            assert [*(f"{number:04}" for number in range(1200)), "z", "zz"] == ids([first, *lines])
        writer.close()

    def test_left_by_the_killed(self, path: Path) -> None:
        """Events that a killed writer left in the journal are seen."""
        code = (
            "import os, sys; from test_store_reader import *; "
            "store = open_to_write(sys.argv[1]); insert(store, [line('a')]); os.kill(os.getpid(), 9)"
        )
        subprocess.run(
            [sys.executable, "-c", code, str(path)],
            check=False,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        )
        assert os.stat(f"{path}-wal").st_size
        with Store(str(path)) as store:
            assert ["a"] == ids(store.lines())

    def test_a_folder_that_is_read_only(self, path: Path) -> None:
        """A store in a folder that one may not write to can be looked at."""
        make_store(path, [line("a")])
        path.parent.chmod(0o555)
        path.chmod(0o444)
        for folder in [*path.parents][1:-2]:
            if folder.stat().st_uid == os.getuid():
                folder.chmod(0o755)
        code = "import sys; from rillevents.store.reader import Store; print(Store(sys.argv[1]).count())"
        root = [need("setpriv"), "--reuid", "65534", "--clear-groups"] if os.getuid() == 0 else []
        done = subprocess.run(
            [*root, sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=False,
            env={"PYTHONPATH": os.pathsep.join(sys.path), "PYTHONDONTWRITEBYTECODE": "1"},
        )  # fmt: skip
        assert (0, "1\n") == (done.returncode, done.stdout), done.stderr
        assert ["events.db"] == os.listdir(path.parent)

    @pytest.mark.parametrize("name", ["a?mode=rwc#x", "ü %41", b"\x9b.db"], ids=["query", "percent", "bytes"])
    def test_odd_paths(self, name: str | bytes, path: Path) -> None:
        """A path with signs of its own in a URI, or that is no UTF-8, is that path."""
        odd = path.parent / os.fsdecode(name)
        make_store(odd, [line("a")])
        with Store(str(odd)) as store:
            assert 1 == store.count()
        assert [os.fsdecode(name)] == os.listdir(path.parent)

    def test_missing(self, path: Path) -> None:
        """Where there is no store, none is made, and the message says so."""
        with pytest.raises(StoreError, match=r"there is no store at .*; give a file that"):
            Store(str(path)).count()
        assert not path.parent.exists()

    def damaged(self, path: Path) -> None:
        """Make a store in whose pages there is garbage."""
        make_store(path, [line(str(number), text="x" * 500) for number in range(200)])
        with path.open("r+b") as file:
            file.seek(4096)
            file.write(b"\xaa" * (path.stat().st_size - 4096))

    def version(self, path: Path) -> None:
        """Make a store of another version."""
        make_store(path)
        with sqlite3.connect(path) as connection:
            connection.execute("PRAGMA user_version=7")
        connection.close()

    def another(self, path: Path) -> None:
        """Make a database that is no store, but says that it is one."""
        connection = sqlite3.connect(path)
        connection.executescript("CREATE TABLE t(x); PRAGMA user_version=1")
        connection.close()

    @pytest.mark.parametrize(
        ("prepare", "told"),
        [
            (lambda self, path: path.write_text("hello, world\n" * 100), "not an SQLite database"),
            (lambda self, path: path.touch(), "is not a store of events"),
            (lambda self, path: path.mkdir(), "is not a regular file"),
            (lambda self, path: path.symlink_to(make_store(path.with_name("other"))), "links are not followed"),
            (lambda self, path: os.mkfifo(path), "is not a regular file"),
            (version, "store of version 7"),
            (damaged, "is damaged"),
            (another, "no such table"),
        ],
        ids=["text", "empty", "folder", "link", "fifo", "version", "damaged", "another"],
    )  # fmt: skip
    def test_no_store(self, prepare: Any, told: str, path: Path) -> None:
        """What is no store that can be read is refused with what it is, and left as it was."""
        path.parent.mkdir()
        prepare(self, path)
        before = sorted(os.listdir(path.parent)), path.lstat().st_size
        with pytest.raises(StoreError, match=told), Store(str(path)) as store:
            list(store.lines())
        assert before == (sorted(os.listdir(path.parent)), path.lstat().st_size)

    def test_rows_that_are_no_events(self, path: Path) -> None:
        """Rows of a store that somebody else filled are passed over where they are no events, whatever they are."""
        make_store(path, [line("a")])
        connection = sqlite3.connect(path)
        bodies = [None, b"\xff", "no JSON", "[1]", '{"event_id":"x"}', 7]
        rows = [(str(number), None, NOON // 1000, b"\xff", None, 3, "x", body) for number, body in enumerate(bodies)]
        connection.executemany(
            "INSERT INTO events VALUES(?,?,?,?,?,?,?,?)", [*rows, ("b", 1, 2, 3, 4, 5, "x", line("b"))]
        )
        connection.execute("INSERT INTO rejected VALUES('x', NULL, 7, X'FF', NULL)")
        connection.commit()
        connection.close()
        with Store(str(path)) as store:
            for query in (Query(), Query(attributes=[("event_name", "x")])):
                assert ["a", "b"] == sorted(ids(store.lines(query))) == sorted(ids(store.newest(query)))
                assert ["a", "b"] == sorted(ids(_until_idle(store, query)))
            assert ("", "7", "\\xff", "") == dataclasses.astuple(store.rejected()[0])[1:]
            assert store.counts(NOON - 1000, NOON + 10**9, buckets=2)

    def test_locked(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A store that somebody keeps locked is not damaged, but busy."""
        monkeypatch.setattr("rillevents.store.readonly._BUSY_SECONDS", 0.05)
        make_store(path)
        holder = sqlite3.connect(path, isolation_level=None)
        holder.executescript("PRAGMA locking_mode=EXCLUSIVE; BEGIN EXCLUSIVE; INSERT INTO counts VALUES('x', 1)")
        with pytest.raises(RilleventsError) as raised, Store(str(path)) as store:
            store.count()
        assert Busy is raised.type
        holder.close()


class Following:
    """Somebody who follows a store, and what happens each time that they wait."""

    def __init__(self, path: Path, query: Query = Query()) -> None:
        self.path = path
        self.query = query
        self.steps: list[Any] = []

    def seen(self) -> list[str]:
        """Follow until all steps are done and seen, and return the IDs."""
        waiting = iter([*self.steps, None])

        def step(_: float) -> None:
            done = next(waiting)
            if done is None:
                raise _Idle
            done()

        found: list[str] = []
        with Store(str(self.path)) as store, pytest.raises(_Idle):
            for body in follow(store, self.query, sleep=step):
                found.append(json.loads(body)["event_id"])
        return found


class TestFollow:
    def test_order(self, path: Path) -> None:
        """Events come in the order in which they were stored, first those that are there, then those that come."""
        make_store(path, [line("b"), line("a", "2020-01-01T00:00:00Z")])
        following = Following(path)
        following.steps = [lambda: make_store(path, [line("c")]), lambda: None, lambda: make_store(path, [line("d")])]
        assert ["b", "a", "c", "d"] == following.seen()

    def test_filters(self, path: Path) -> None:
        """Only those that are looked for come, also beyond thousands of others."""
        make_store(path, [line(str(number)) for number in range(1200)])
        following = Following(path, Query(name="y*", attributes=[("k", 1)]))
        following.steps = [
            lambda: make_store(path, [line("a", name="yes", k=1), line("b", name="yes"), line("c", k=1)])
        ]
        assert ["a"] == following.seen()

    def test_rows_that_are_given_away_again(self, path: Path) -> None:
        """Where old events are deleted and new ones get their rows' numbers, every event still comes once."""
        make_store(path, [line(str(number)) for number in range(10)])
        following = Following(path)

        def thin_and_go_on() -> None:
            writer = open_to_write(str(path))
            writer.execute("DELETE FROM events WHERE rowid > 4")
            insert(writer, [line("a"), line("b")])
            writer.execute("DELETE FROM events WHERE rowid < 4")
            writer.execute("VACUUM")
            writer.close()

        following.steps = [thin_and_go_on, lambda: make_store(path, [line("c")])]
        assert [*map(str, range(10)), "a", "b", "c"] == following.seen()

    def test_everything_deleted(self, path: Path) -> None:
        """A store that was emptied goes on, too."""
        make_store(path, [line(str(number)) for number in range(5)])
        following = Following(path)

        def empty() -> None:
            writer = open_to_write(str(path))
            writer.execute("DELETE FROM events")
            writer.close()

        following.steps = [empty, lambda: make_store(path, [line("a")])]
        assert [*map(str, range(5)), "a"] == following.seen()

    def test_a_new_file(self, path: Path) -> None:
        """Where a store is put aside and a new one begun, what was still to come of the old one comes, then the new one."""
        make_store(path, [line("a")])
        writer = open_to_write(str(path))
        following = Following(path)

        def begin_anew() -> None:
            insert(writer, [line("b")])
            put_aside(str(path), identity_of(str(path)))
            make_store(path, [line("a"), line("c")])

        following.steps = [
            lambda: insert(writer, [line("0")]),
            begin_anew,
            lambda: None,
            lambda: make_store(path, [line("d")]),
        ]
        assert ["a", "0", "b", "a", "c", "d"] == following.seen()
        writer.close()

    def test_a_server_at_work(self, path: Path) -> None:
        """While a server stores, stops, starts, and puts its store aside, every event of every file comes once, in order."""
        make_store(path)
        code = (
            "import sys\nfrom test_store_reader import *\n"
            "for number in range(300):\n"
            "    writer = open_to_write(sys.argv[1])\n"
            "    insert(writer, [line(f'{number}-{part}') for part in range(3)])\n"
            "    if number % 50 == 49: put_aside(sys.argv[1], identity_of(sys.argv[1]))\n"
            "    writer.close()\n"
            "insert(open_to_write(sys.argv[1]), [line('end')])\n"
        )
        environ = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
        with (
            subprocess.Popen([sys.executable, "-c", code, str(path)], env=environ) as server,
            Store(str(path)) as store,
        ):
            found = (json.loads(body)["event_id"] for body in follow(store, Query(), sleep=lambda _: time.sleep(0.02)))
            seen = list(iter(lambda: next(found), "end"))
        assert 0 == server.returncode
        assert [f"{number}-{part}" for number in range(300) for part in range(3)] == seen

    def test_away_for_a_while(self, path: Path) -> None:
        """A store that is away, or no store yet, is waited for."""
        make_store(path, [line("a")])
        following = Following(path)
        aside = path.with_name("aside")
        following.steps = [
            lambda: path.rename(aside),
            lambda: path.touch(),
            path.unlink,
            lambda: make_store(path, [line("b")]),
            lambda: None,
        ]
        assert ["a", "b"] == following.seen()

    def test_away_for_good(self, path: Path) -> None:
        """A store that does not come back ends it, and one that never was does so at once."""
        make_store(path)
        polls: list[float] = []

        def gone(seconds: float) -> None:
            polls.append(seconds)
            path.unlink(missing_ok=True)

        for expected in (10, 0):
            polls.clear()
            with Store(str(path)) as store, pytest.raises(StoreError, match="there is no store"):
                list(follow(store, Query(), sleep=gone))
            assert expected == pytest.approx(sum(polls))
