"""The writer of a store: duplicates and conflicts, damage, locks, full disks, files that vanish, and what is too old."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from faults.sandbox import need_root
from hypothesis import given, settings
from hypothesis import strategies as st
from serving import event, rows, stored_ids

from rillevents.errors import Busy, StoreError
from rillevents.event.validate import certain_events
from rillevents.store import schema
from rillevents.store.incoming import Incoming, InvalidLine, Stored, Unavailable
from rillevents.store.reader import Store
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
        assert ("was moved" if moved else "was deleted") in told[0]

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


class TestMoves:
    """What was stored is in the file that it was stored in, wherever that is now."""

    def test_moved(self, path: str) -> None:
        """Where a store is moved while it is open, all that was stored before is in the moved file, and nothing stays behind."""
        with writing(path) as writer:
            writer.store([incoming(event("a"))])
            os.rename(path, f"{path}.moved")
            writer.store([incoming(event("b"))])
        assert ["events.db", "events.db.moved"] == names(path)
        assert {"a", "b"} == set(stored_ids(f"{path}.moved"))
        assert ["b"] == stored_ids(path)

    def test_moved_before_the_end(self, path: str) -> None:
        """Where a store is moved just before its writer ends, all is in the moved file."""
        with writing(path) as writer:
            writer.store([incoming(event("a"))])
            os.rename(path, f"{path}.moved")
        assert ["events.db.moved"] == names(path)
        assert ["a"] == stored_ids(f"{path}.moved")

    def test_idle(self, path: str) -> None:
        """A writer that is given nothing notices a move within a second."""
        now = [0.0]
        with writing(path, clock=lambda: now[0]) as writer:
            writer.store([incoming(event("a"))])
            writer.tidy()
            os.rename(path, f"{path}.moved")
            now[0] = 1.0
            writer.tidy()
            assert ["a"] == stored_ids(f"{path}.moved")

    @pytest.mark.parametrize("order", [(0, 1), (1, 0)], ids=str)
    def test_two_writers(self, order: tuple[int, int], path: str) -> None:
        """Of two writers on one store, each has what it stored in the moved file, whichever of them notices first."""
        with writing(path) as one, writing(path) as two:
            both = (one, two)
            for number in range(20):
                both[number % 2].store([incoming(event(str(number)))])
            os.rename(path, f"{path}.moved")
            for number in order:
                assert [Stored(1)] == both[number].store([incoming(event(f"new-{number}"))])
        assert {str(number) for number in range(20)} <= set(stored_ids(f"{path}.moved"))
        assert {"new-0", "new-1"} == set(stored_ids(path))
        assert ["ok"] == rows(path, "PRAGMA integrity_check") == rows(f"{path}.moved", "PRAGMA integrity_check")

    def test_a_reader_in_the_way(self, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """Where a program reads an old state of a moved store, nothing is acknowledged until its journal can be written."""
        monkeypatch.setattr(schema, "_BUSY_SECONDS", 0.05)
        with writing(path) as writer, contextlib.closing(sqlite3.connect(path, isolation_level=None)) as reader:
            reader.execute("BEGIN")
            reader.execute("SELECT * FROM events").fetchall()
            writer.store([incoming(event("a"))])
            os.rename(path, f"{path}.moved")
            with pytest.raises(Unavailable, match="another process reads it"):
                writer.store([incoming(event("b"))])
            reader.execute("COMMIT")
            assert [Stored(1)] == writer.store([incoming(event("b"))])
        assert "a" in stored_ids(f"{path}.moved")
        assert ["b"] == stored_ids(path)

    @pytest.mark.parametrize("names_left", ["all", "database"])
    def test_deleted(self, names_left: str, path: str) -> None:
        """A journal whose store was deleted is set aside: the file may have been moved to another file system."""
        told: list[str] = []
        with writing(path, warn=told.append) as writer:
            writer.store([incoming(event("a"))])
            copy = Path(path).read_bytes()
            os.unlink(path)
            if names_left == "all":
                os.unlink(f"{path}-wal")
            writer.store([incoming(event("b"))])
        kept = [name for name in names(path) if ".journal-" in name]
        assert (names_left == "database") == bool(kept)
        if kept:
            assert kept[0] in told[0]
            Path(f"{path}.elsewhere").write_bytes(copy)
            os.rename(Path(path).parent / kept[0], f"{path}.elsewhere-wal")
            assert {"a"} <= set(stored_ids(f"{path}.elsewhere"))
        assert ["b"] == stored_ids(path)

    def test_journal_deleted(self, path: str) -> None:
        """Where somebody deletes the journal of an open store, everything is written into the store, also while it is read."""
        with writing(path) as writer, Store(path) as reader:
            writer.store([incoming(event("a"))])
            assert reader.has_events()
            os.unlink(f"{path}-wal")
            writer.store([incoming(event("b"))])
            assert 2 == reader.count()
            assert [Stored(1)] == writer.store([incoming(event("c"))])
            assert 3 == reader.count()
        assert ["a", "b", "c"] == stored_ids(path)
        assert ["ok"] == rows(path, "PRAGMA integrity_check")


class TestRestored:
    """A backup in a store's place is what it is: nothing of the old store gets into it."""

    @pytest.mark.slow
    @pytest.mark.parametrize("how", ["cp", "backup", "VACUUM INTO"])
    @pytest.mark.parametrize("by", ["mv", "rm and cp"])
    @pytest.mark.parametrize("end", ["under way", "killed"])
    def test_backup(self, end: str, by: str, how: str, path: str) -> None:
        """A backup that replaces a store, under a writer or after a kill, has its events and the new ones, and is whole.

        After a kill, a backup that equals the old file byte for byte cannot be told from it, and takes the journal as well.
        """
        writer = killed(path) if end == "killed" else StoreWriter(path)
        if writer:
            writer.store([incoming(*map(numbered, range(300)))])
        back_up(path, f"{path}.backup", how)
        expected = stored_ids(f"{path}.backup")
        if writer:
            writer.store([incoming(*map(numbered, range(300, 600)))])
        else:
            killed(path, 300)
        if by == "mv":
            os.rename(f"{path}.backup", path)
        else:
            os.unlink(path)
            Path(path).write_bytes(Path(f"{path}.backup").read_bytes())
        told: list[str] = []
        with contextlib.closing(writer or StoreWriter(path, warn=told.append)) as writer:
            assert [Stored(1)] == writer.store([incoming(event("new"))])
            assert 0 == writer.put_aside
        if (end, how) == ("killed", "cp"):
            expected = [str(number) for number in range(600)]
        assert [*expected, "new"] == stored_ids(path)
        assert ["ok"] == rows(path, "PRAGMA integrity_check")

    @pytest.mark.parametrize("moved_to", ["events.db.moved", "other/m.db"])
    def test_moved_after_a_kill(self, moved_to: str, path: str) -> None:
        """Where a store is moved after a kill, the next writer at its old name writes its last events into the moved file."""
        killed(path)
        moved = Path(path).parent / moved_to
        moved.parent.mkdir(exist_ok=True)
        os.rename(path, moved)
        told: list[str] = []
        with writing(path, warn=told.append) as writer:
            writer.store([incoming(event("new"))])
        assert [str(number) for number in range(300)] == stored_ids(moved)
        assert ["new"] == stored_ids(path)
        assert [f"{path} was moved; all its events are in the moved file"] == told

    def test_renamed_and_served(self, path: str) -> None:
        """A writer at the new name of a store that was renamed after a kill finds the journal at the old name."""
        killed(path)
        os.rename(path, f"{path}.moved")
        with pytest.raises(Busy, match="was moved while a server had it open"):
            list(Store(f"{path}.moved").lines())
        with writing(f"{path}.moved") as writer:
            writer.store([incoming(event("new"))])
        assert ["events.db.moved"] == names(path)
        assert [*map(str, range(300)), "new"] == stored_ids(f"{path}.moved")

    def test_journal_no_longer_fits(self, path: str) -> None:
        """A journal is not written into a moved file that was changed meanwhile so that it would be damaged."""
        with writing(path) as writer:
            writer.store([incoming(*map(numbered, range(1000, 4000)))])
        killed(path)
        os.rename(path, f"{path}.moved")
        with contextlib.closing(sqlite3.connect(f"{path}.moved", isolation_level=None)) as other:
            other.execute("DELETE FROM events WHERE rowid % 3 > 0")
            other.execute("VACUUM")
        before = stored_ids(f"{path}.moved")
        told: list[str] = []
        with writing(path, warn=told.append) as writer:
            writer.store([incoming(event("new"))])
        assert "no longer fits" in told[0]
        assert before == stored_ids(f"{path}.moved")
        assert ["ok"] == rows(f"{path}.moved", "PRAGMA integrity_check")
        assert ["new"] == stored_ids(path)

    def test_folder_copied(self, path: str, tmp_path: Path) -> None:
        """A copy of the folder of a killed server's store has all its events, also without its hard links."""
        killed(path)
        shutil.copytree(os.path.dirname(path), tmp_path / "copy")
        copy = str(tmp_path / "copy" / "events.db")
        with contextlib.closing(Store(copy)) as reader:
            assert 300 == len(list(reader.lines()))
        with writing(copy) as writer:
            assert [Stored(0, 300)] == writer.store([incoming(*map(numbered, range(300)))])

    def test_read_before_the_server(self, path: str) -> None:
        """A backup in the place of a killed server's store can be read before any server starts; nothing is mixed in."""
        killed(path)
        back_up(path, f"{path}.backup", "VACUUM INTO")
        expected = stored_ids(f"{path}.backup")
        killed(path, 300)
        os.rename(f"{path}.backup", path)
        with contextlib.closing(Store(path)) as reader:
            assert sorted(expected) == sorted(json.loads(line)["event_id"] for line in reader.lines())

    def test_damaged_backup(self, path: str) -> None:
        """A damaged backup that is put in the place of an open store is put aside, and nothing is answered into it."""
        with writing(path) as writer:
            writer.store([incoming(*(event(str(n), pad="x" * 500) for n in range(2000)))])
        damaged = bytearray(Path(path).read_bytes())
        damaged[len(damaged) // 2 :] = b"\xaa" * (len(damaged) - len(damaged) // 2)
        told: list[str] = []
        with writing(path, warn=told.append) as writer:
            writer.store([incoming(event("a"))])
            Path(f"{path}.backup").write_bytes(damaged)
            os.rename(f"{path}.backup", path)
            assert [Stored(1)] == writer.store([incoming(event("b"))])
            assert 1 == writer.put_aside
        assert ["b"] == stored_ids(path)
        assert "is damaged" in told[-1]

    def test_no_hard_links(self, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """On a file system without hard links a moved store has its events; a journal without a file is set aside."""
        monkeypatch.setattr(os, "link", refuse)
        with writing(path) as writer:
            writer.store([incoming(event("a"))])
            os.rename(path, f"{path}.moved")
            writer.store([incoming(event("b"))])
        assert "a" in stored_ids(f"{path}.moved")
        killed(path)
        os.unlink(f"{path}-held")
        os.unlink(path)
        with writing(path) as writer:
            writer.store([incoming(event("new"))])
        assert ["new"] == stored_ids(path)
        assert [".journal-"] == [name[9:18] for name in names(path) if "journal" in name]

    @pytest.mark.parametrize("mode", [0o644, 0o660])
    def test_mode(self, mode: int, path: str) -> None:
        """A store that was restored with the umask's mode is closed to others, as are its journals, and one line says so."""
        with writing(path) as writer:
            writer.store([incoming(event("a"))])
        os.chmod(path, mode)
        told: list[str] = []
        with writing(path, warn=told.append) as writer:
            writer.store([incoming(event("b"))])
            found = {name: stat.S_IMODE(os.stat(f"{path}{name}").st_mode) for name in ("", "-wal", "-shm")}
        assert {"": 0o600, "-wal": 0o600, "-shm": 0o600} == found
        assert [f"{path} was readable by others (mode {mode:04o}); it is now readable by its owner only (0600)"] == told


def names(path: str) -> list[str]:
    """Return what is in the folder of a store."""
    return sorted(os.listdir(os.path.dirname(path)))


def numbered(number: int) -> bytes:
    return event(str(number), pad="x" * 300)


def refuse(*words: object, **settings: object) -> None:
    raise OSError(95, "Operation not supported")


def back_up(path: str, copy: str, how: str) -> None:
    """Copy a store as people do."""
    with contextlib.closing(sqlite3.connect(path)) as connection, contextlib.closing(sqlite3.connect(copy)) as other:
        if how == "backup":
            connection.backup(other)
        elif how == "cp":
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            Path(copy).write_bytes(Path(path).read_bytes())
        else:
            connection.execute("VACUUM INTO ?", (copy,))


def killed(path: str, first: int = 0) -> None:
    """Store 300 events in a process that is killed."""
    program = f"""
import os, signal, sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from test_store_writer import StoreWriter, incoming, numbered
StoreWriter({path!r}).store([incoming(*map(numbered, range({first}, {first + 300})))])
os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run([sys.executable, "-c", program], check=False)
    assert -signal.SIGKILL == done.returncode


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
