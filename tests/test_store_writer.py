"""The writer of a store: duplicates and conflicts, damage, locks, full disks, files that vanish, and what is too old."""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import stat
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from faults.sandbox import need_root
from hypothesis import given, settings
from hypothesis import strategies as st
from serving import event, rows, stored_ids

from rillevents.errors import StoreError
from rillevents.event.validate import certain_events
from rillevents.store import schema
from rillevents.store.incoming import Incoming, InvalidLine, Stored, Unavailable
from rillevents.store.writer import MAX_REJECTED, StoreWriter


def incoming(*lines: bytes, received_us: int = 1, bad: Sequence[InvalidLine] = ()) -> Incoming:
    """Return what a request of these lines brings."""
    fields = certain_events(b"".join(lines)) if lines else []
    return Incoming(list(lines), fields, range(1, len(lines) + 1), list(bad), "default", received_us)


@pytest.fixture
def path(tmp_path: Path) -> str:
    """Where a store is going to be."""
    return str(tmp_path / "folder" / "events.db")


@contextlib.contextmanager
def writing(path: str, **settings: object) -> Iterator[StoreWriter]:
    """Give a writer, and close it."""
    writer = StoreWriter(path, **settings)  # type: ignore[arg-type]
    try:
        yield writer
    finally:
        writer.close()


class TestFile:
    @pytest.mark.parametrize("umask", [0o000, 0o077, 0o777], ids=oct)
    def test_private(self, umask: int, path: str) -> None:
        """A store is 0600 in a folder of 0700, and so is what SQLite puts beside it, whatever the umask."""
        before = os.umask(umask)
        try:
            with writing(path) as writer:
                writer.store([incoming(event())])
                found = {name: stat.S_IMODE(os.stat(f"{path}{name}").st_mode) for name in ("", "-wal", "-shm")}
        finally:
            os.umask(before)
        assert {"": 0o600, "-wal": 0o600, "-shm": 0o600} == found
        assert 0o700 == stat.S_IMODE(os.stat(os.path.dirname(path)).st_mode)

    def test_link(self, path: str, tmp_path: Path) -> None:
        """A link in the store's place is not followed."""
        (tmp_path / "folder").mkdir()
        (tmp_path / "target").touch()
        os.symlink(tmp_path / "target", path)
        with pytest.raises(StoreError, match="not a regular file"):
            StoreWriter(path)
        assert b"" == (tmp_path / "target").read_bytes()

    def test_unknown_version(self, path: str) -> None:
        """A store of another version is left alone."""
        with writing(path) as writer:
            writer.store([incoming(event("a"))])
        with contextlib.closing(sqlite3.connect(path)) as connection:
            connection.execute("PRAGMA user_version = 7")
        with pytest.raises(StoreError, match="version 7"):
            StoreWriter(path)
        assert ["a"] == stored_ids(path)

    def test_no_store(self, tmp_path: Path) -> None:
        """A text, and another program's database, are left alone: a slip in --store moves nothing away."""
        (tmp_path / "notes.txt").write_text("dear diary\n")
        with contextlib.closing(sqlite3.connect(tmp_path / "bookmarks")) as other:
            other.execute("CREATE TABLE bookmarks(url)")
            other.execute("PRAGMA user_version = 1")
        before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
        for name in before:
            with pytest.raises(StoreError, match="not changed"):
                StoreWriter(str(tmp_path / name))
        assert before == {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    @pytest.mark.parametrize("path", ["/proc/no/e.db", "/dev/null/e.db", "/tmp"], ids=str)
    def test_impossible(self, path: str) -> None:
        """A store that cannot be made is an error of the store's from the start, not something to wait for."""
        with pytest.raises(StoreError):
            StoreWriter(path)

    @pytest.mark.parametrize("name", ["a b", "ä", "a?b#c%20", "a\nb", "-x"], ids=ascii)
    def test_odd_names(self, name: str, tmp_path: Path) -> None:
        """A store may be called anything."""
        with writing(str(tmp_path / name)) as writer:
            assert [Stored(1)] == writer.store([incoming(event())])
        assert (tmp_path / name).exists()


class TestVerdicts:
    @given(
        st.lists(
            st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 2)), min_size=1, max_size=4),
            min_size=1,
            max_size=4,
        )
    )
    @settings(max_examples=60, deadline=None)
    def test_first_wins(self, requests: list[list[tuple[str, int]]]) -> None:
        """However events come, together or apart: the first of an ID stays, its equals are duplicates, all others conflicts."""
        import tempfile

        with tempfile.TemporaryDirectory() as folder, writing(f"{folder}/e.db") as writer:
            first: dict[str, int] = {}
            expected = []
            for request in requests:
                accepted, duplicates, conflicts = 0, 0, []
                for index, (event_id, body) in enumerate(request):
                    accepted += event_id not in first
                    duplicates += first.get(event_id) == body
                    if first.setdefault(event_id, body) != body:
                        conflicts.append(index)
                expected.append(Stored(accepted, duplicates, tuple(conflicts)))
            half = len(requests) // 2
            arrived = [incoming(*(event(event_id, body=body) for event_id, body in each)) for each in requests]
            found = [*(writer.store(arrived[:half]) if half else []), *writer.store(arrived[half:])]
            assert expected == found
            assert first == {each["event_id"]: each["body"] for each in map(json.loads, rows(f"{folder}/e.db"))}
            assert sum(len(each.conflicts) for each in expected) == len(
                rows(f"{folder}/e.db", "SELECT body FROM rejected")
            )

    @pytest.mark.parametrize("count", [1, 127, 128, 129, 1000])
    def test_any_number(self, count: int, path: str) -> None:
        """A transaction takes any number of events, and the same ones again are all duplicates."""
        lines = [event(str(number)) for number in range(count)]
        with writing(path) as writer:
            assert [Stored(count)] == writer.store([incoming(*lines)])
            assert [Stored(0, count)] == writer.store([incoming(*lines)])
        assert count == len(stored_ids(path))

    def test_bad_lines(self, path: str) -> None:
        """Bad lines are kept with their reasons, also where they are no text."""
        with writing(path) as writer:
            writer.store([incoming(bad=[InvalidLine(1, "not UTF-8", b"\xff\0x")])])
        assert [("not UTF-8", "\ufffd\0x")] == rows(path, "SELECT reason, body FROM rejected")
        assert [1] == rows(path, "SELECT n FROM counts WHERE name = 'invalid'")


class TestFaults:
    @pytest.mark.parametrize("damage", ["garbage", "header", "pages"])
    def test_damaged_before(self, damage: str, path: str) -> None:
        """A damaged store is put aside, told, and a fresh one begun; what it holds is still there to be mended."""
        with writing(path) as writer:
            writer.store([incoming(*(event(str(n), pad="x" * 500) for n in range(200)))])
        size = os.path.getsize(path)
        with open(path, "r+b") as file:
            file.seek(0 if damage != "pages" else 100)
            file.write(os.urandom(size if damage == "garbage" else size - 100 if damage == "pages" else 16))
        told: list[str] = []
        with writing(path, warn=told.append) as writer:
            assert [Stored(1)] == writer.store([incoming(event("new"))])
            assert 1 == writer.put_aside
        assert ["new"] == stored_ids(path)
        [aside] = [name for name in os.listdir(os.path.dirname(path)) if ".corrupt-" in name]
        assert size == os.path.getsize(f"{os.path.dirname(path)}/{aside}")
        assert len(told) == 1
        assert aside in told[0]

    def test_damaged_under_way(self, path: str) -> None:
        """A store that somebody overwrites while it is open is put aside when it is looked at next, and a fresh one begun."""
        told: list[str] = []
        with writing(path, warn=told.append) as writer:
            writer.store([incoming(event("a"))])
            for name in ("", "-wal"):
                with open(f"{path}{name}", "r+b") as file:
                    file.write(os.urandom(os.path.getsize(f"{path}{name}")))
            writer.tidy()
            assert [Stored(1)] == writer.store([incoming(event("b"))])
        assert (1, 1) == (writer.put_aside, len(told))
        assert ["b"] == stored_ids(path)

    @pytest.mark.parametrize("moved", [False, True], ids=["deleted", "moved"])
    def test_file_is_gone(self, moved: bool, path: str) -> None:
        """Where somebody deletes or moves the file under way, what is answered for is in the new one."""
        told: list[str] = []
        with writing(path, warn=told.append) as writer:
            writer.store([incoming(event("a"))])
            if moved:
                os.rename(path, f"{path}.moved")
            else:
                for name in ("", "-wal", "-shm"):
                    os.unlink(f"{path}{name}")
            assert [Stored(1)] == writer.store([incoming(event("b"))])
        assert ["b"] == stored_ids(path)
        assert len(told) == 1
        assert "deleted or moved" in told[0]

    def test_another_server_was_quicker(self, path: str) -> None:
        """Of two servers that find a store damaged, the second does not put aside what the first has begun anew."""
        with writing(path) as one, writing(path) as two:
            one.store([incoming(*(event(str(n), pad="x" * 500) for n in range(200)))])
            for name in ("", "-wal"):
                with open(f"{path}{name}", "r+b") as file:
                    file.write(os.urandom(os.path.getsize(f"{path}{name}")))
            one.tidy()
            assert [Stored(1)] == one.store([incoming(event("a"))])
            two.tidy()
            assert [Stored(1)] == two.store([incoming(event("b"))])
            assert (1, 0) == (one.put_aside, two.put_aside)
        assert ["a", "b"] == stored_ids(path)

    def test_a_copy_is_put_back(self, path: str) -> None:
        """A good copy that somebody puts in the place of a damaged store is written to, not put aside."""
        with writing(path) as writer:
            writer.store([incoming(event("a"))])
        copy = Path(path).read_bytes()
        with writing(path) as writer:
            writer.store([incoming(*(event(str(n), pad="x" * 500) for n in range(200)))])
            for name in ("", "-wal"):
                with open(f"{path}{name}", "r+b") as file:
                    file.write(os.urandom(os.path.getsize(f"{path}{name}")))
            for name in ("-wal", "-shm"):
                os.unlink(f"{path}{name}")
            Path(f"{path}.copy").write_bytes(copy)
            os.rename(f"{path}.copy", path)
            assert [Stored(1)] == writer.store([incoming(event("b"))])
            assert 0 == writer.put_aside
        assert ["a", "b"] == stored_ids(path)

    def test_looking_makes_nothing(self, path: str, tmp_path: Path) -> None:
        """Looking whether the file is still whole makes none where there is none, nor what a link leads to."""
        with writing(path) as writer:
            writer.store([incoming(event("a"))])
            os.rename(path, f"{path}.moved")
            os.symlink(tmp_path / "target", path)
            with pytest.raises(Unavailable, match="links are not followed"):
                writer.tidy()
            assert not (tmp_path / "target").exists()
            os.unlink(path)
            assert [Stored(1)] == writer.store([incoming(event("b"))])
            assert 0o600 == stat.S_IMODE(os.stat(path).st_mode)

    def test_locked(self, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """A store that another program has locked is unavailable, and takes events again afterwards."""
        monkeypatch.setattr(schema, "_BUSY_SECONDS", 0.05)
        with writing(path) as writer, contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(Unavailable, match="locked"):
                writer.store([incoming(event("a"))])
            other.execute("ROLLBACK")
            assert [Stored(1)] == writer.store([incoming(event("a"))])

    def test_full_disk(self, tmp_path: Path) -> None:
        """On a full disk nothing is acknowledged and nothing is put aside; with room again it goes on, and all is whole."""
        need_root()
        folder = tmp_path / "disk"
        folder.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=600k,mode=0700", "tmpfs", folder], check=True)
        try:
            path = f"{folder}/e.db"
            with writing(path) as writer:
                acknowledged = []
                for number in range(400):
                    with contextlib.suppress(Unavailable):
                        writer.store([incoming(event(str(number), pad="x" * 2000))])
                        acknowledged.append(str(number))
                assert 0 < len(acknowledged) < 400
                assert 0 == writer.put_aside
                subprocess.run(["mount", "-o", "remount,size=4m", folder], check=True)
                assert [Stored(1)] == writer.store([incoming(event("after"))])
            assert [*acknowledged, "after"] == stored_ids(path)
            assert ["ok"] == rows(path, "PRAGMA integrity_check")
        finally:
            subprocess.run(["umount", folder], check=True)

    def test_bug_under_way(self, path: str) -> None:
        """An error that is none of SQLite's takes its transaction back, and the next one is not held up by it."""
        told: list[str] = []
        with writing(path, warn=told.append) as writer:
            with pytest.raises(AttributeError):
                writer.store([incoming(event("a"), bad=[None])])  # type: ignore[list-item]
            assert [Stored(1)] == writer.store([incoming(event("a"))])
        assert (["a"], []) == (stored_ids(path), told)

    def test_two_writers(self, path: str) -> None:
        """Two servers may share a store; each of them sees the other's events as duplicates."""
        with writing(path) as one, writing(path) as two:
            assert [Stored(1)] == one.store([incoming(event("a"))])
            assert [Stored(1, 1)] == two.store([incoming(event("a"), event("b"))])
        assert ["a", "b"] == stored_ids(path)


class TestTidying:
    def test_old(self, path: str) -> None:
        """What was received too long ago goes, in slices, and is counted; what came later stays."""
        now = [10_000_000 * 1000]
        with writing(path, keep_us=1_000_000, now_ns=lambda: now[0], clock=lambda: now[0] / 1e9) as writer:
            writer.store([incoming(*(event(str(n)) for n in range(5000)), received_us=1)])
            writer.store([incoming(event("young"), received_us=9_500_000)])
            for _ in range(3):
                writer.tidy()
            assert ["young"] == stored_ids(path)
            assert 5000 == writer.removed
            now[0] += 60 * 10**9
            writer.tidy()
            assert [] == stored_ids(path)
        assert [5001] == rows(path, "SELECT n FROM counts WHERE name = 'removed'")

    def test_to_the_microsecond(self, path: str) -> None:
        """What is as old as may be stays, what is a microsecond older goes."""
        with writing(path, keep_us=1_000_000, now_ns=lambda: 10_000_000_000) as writer:
            writer.store(
                [incoming(event("older"), received_us=8_999_999), incoming(event("old"), received_us=9_000_000)]
            )
            writer.tidy()
        assert ["old"] == stored_ids(path)

    def test_once_in_ten_seconds(self, path: str) -> None:
        """Tidying is done at once and again after ten seconds, and not between them."""
        now = [0.0]
        with writing(path, keep_us=1, now_ns=lambda: 10**12, clock=lambda: now[0]) as writer:
            removed = []
            for now[0] in (0.0, 9.9, 10.0, 19.9, 20.0):
                writer.store([incoming(event(str(now[0])), received_us=1)])
                writer.tidy()
                removed.append(writer.removed)
        assert [1, 1, 3, 3, 5] == removed

    def test_there_is_more(self, path: str) -> None:
        """As long as there is more to delete it says so, and takes as long for each slice."""
        with writing(path, keep_us=1, now_ns=lambda: 10**12) as writer:
            writer.store([incoming(*(event(str(n)) for n in range(4500)), received_us=1)])
            assert [True, True, False, False] == [writer.tidy() for _ in range(4)]
        assert [] == stored_ids(path)

    def test_a_clock_that_was_ahead(self, path: str) -> None:
        """An event from a clock that was ahead goes in its time, and keeps no other from going."""
        now = [10**10]
        with writing(path, keep_us=60 * 10**6, now_ns=lambda: now[0] * 1000, clock=lambda: now[0] / 1e6) as writer:
            writer.store([incoming(event("ahead"), received_us=10**15), incoming(event("old"), received_us=1)])
            writer.tidy()
            now[0] += 61 * 10**6
            writer.tidy()
        assert [] == stored_ids(path)

    def test_rejected(self, path: str) -> None:
        """Of rejected lines the newest are kept, and how many went is counted."""
        with writing(path) as writer:
            writer.store([incoming(bad=[InvalidLine(n, str(n), b"x") for n in range(MAX_REJECTED + 5)])])
            writer.tidy()
        found = rows(path, "SELECT reason FROM rejected ORDER BY rowid")
        assert (MAX_REJECTED, "5") == (len(found), found[0])
        assert [5] == rows(path, "SELECT n FROM counts WHERE name = 'rejected_removed'")
