"""Copies of a store: whole while a server writes, and, after a minute of silence, also by cp."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import stat
import threading
from pathlib import Path

import pytest
from support import Clock, Tool, make_store

from rillevents.errors import StoreError, UsageError
from rillevents.event.envelope import Required
from rillevents.store.backup import backup
from rillevents.store.incoming import Incoming
from rillevents.store.reader import Store
from rillevents.store.writer import IDLE_SECONDS, StoreWriter

pytestmark = pytest.mark.unmeasured


def incoming(first: int, count: int) -> Incoming:
    """Return some events as they arrive."""
    fields = [Required(f"e{number}", "2026-01-01T00:00:00Z", "t", "n") for number in range(first, first + count)]
    lines = [
        json.dumps({name: getattr(one, name) for name in one.__struct_fields__}).encode() + b"\n" for one in fields
    ]
    return Incoming(lines, fields, range(1, count + 1), received_us=1)


def count(path: Path) -> int:
    """Return how many events a file alone has, and fail if it is damaged."""
    with Store(str(path)) as store:
        found = store.count()
    connection = sqlite3.connect(path)
    assert [("ok",)] == connection.execute("PRAGMA integrity_check").fetchall()
    connection.close()
    return found


class TestBackup:
    def test_what_is_in_the_journal(self, tmp_path: Path) -> None:
        """A copy has what is only in the journal; it is private, needs no journal, and the server goes on."""
        path, copy = tmp_path / "events.db", tmp_path / "copy.db"
        writer = StoreWriter(str(path))
        writer.store([incoming(0, 100)])
        done = backup(str(path), str(copy))
        assert (str(path), str(copy), 100, copy.stat().st_size) == (done.store, done.file, done.events, done.bytes)
        assert 0o600 == stat.S_IMODE(copy.stat().st_mode)
        assert {"copy.db"} == {name for name in os.listdir(tmp_path) if not name.startswith("events.db")}
        writer.store([incoming(100, 1)])
        writer.close()
        assert (100, 101) == (count(copy), count(path))

    def test_while_it_is_written(self, tmp_path: Path) -> None:
        """Copies made while a server writes are whole, and each is of one moment."""
        path = tmp_path / "events.db"
        writer = StoreWriter(str(path))
        end, stored = threading.Event(), [0]

        def write() -> None:
            while not end.is_set():
                writer.store([incoming(stored[0], 50)])
                stored[0] += 50

        thread = threading.Thread(target=write)
        thread.start()
        try:
            for number in range(5):
                before = stored[0]
                done = backup(str(path), str(tmp_path / f"copy{number}.db"))
                assert before <= done.events <= stored[0] + 50
                assert done.events % 50 == 0
                assert done.events == count(tmp_path / f"copy{number}.db")
        finally:
            end.set()
            thread.join()
            writer.close()

    def test_a_file_that_exists(self, tmp_path: Path) -> None:
        """A file that exists is not changed, the store itself neither."""
        path = make_store(tmp_path / "events.db")
        before = path.read_bytes()
        with pytest.raises(UsageError, match="exists"):
            backup(str(path), str(path))
        assert before == path.read_bytes()
        assert ["events.db"] == os.listdir(tmp_path)

    @pytest.mark.parametrize("place", ["missing/copy.db", "events.db/copy.db"])
    def test_no_place(self, place: str, tmp_path: Path) -> None:
        """A copy that cannot be written is an error, and leaves nothing behind."""
        path = make_store(tmp_path / "events.db")
        with pytest.raises(StoreError, match="cannot be written"):
            backup(str(path), str(tmp_path / place))
        assert ["events.db"] == os.listdir(tmp_path)

    def test_command(self, tool: Tool, tmp_path: Path) -> None:
        """The command copies the default store, or another one, and says what it copied."""
        path = Path(tool("store", "path").stdout.strip())
        assert tool.paths.default_store == str(path)
        assert 73 == tool("store", "backup", str(tmp_path / "none.db")).returncode
        make_store(path, [line[:-1] for line in incoming(0, 3).lines])
        seen = tool("store", "backup", str(tmp_path / "copy.db"))
        assert (0, f"rillevents: 3 events copied to {tmp_path}/copy.db\n") == (seen.returncode, seen.stderr)
        found = tool.json("store", "backup", "--store", str(tmp_path / "copy.db"), str(tmp_path / "second.db"))
        assert {"store": f"{tmp_path}/copy.db", "file": f"{tmp_path}/second.db", "events": 3} == {
            key: found[key] for key in ("store", "file", "events")
        }
        assert 2 == tool("store", "backup", str(tmp_path / "copy.db")).returncode
        assert 3 == count(tmp_path / "second.db")


class TestCopies:
    def test_after_a_minute_of_silence(self, tmp_path: Path) -> None:
        """An idle server writes its journal into the file, so that a copy of the file alone has every event."""
        path, copy = tmp_path / "events.db", tmp_path / "copy.db"
        clock = Clock()
        writer = StoreWriter(str(path), clock=clock)
        writer.store([incoming(0, 100)])
        writer.tidy()
        shutil.copy(path, copy)
        with pytest.raises(StoreError):
            count(copy)
        clock.sleep(IDLE_SECONDS)
        writer.tidy()
        shutil.copy(path, copy)
        assert 100 == count(copy)
        writer.store([incoming(100, 1)])
        writer.close()
        assert 101 == count(path)

    def test_a_missing_journal(self, tool: Tool, tmp_path: Path) -> None:
        """A store that was copied without its journal, which holds everything, is refused with the journal's name."""
        path, copy = tmp_path / "events.db", tmp_path / "copy.db"
        writer = StoreWriter(str(path))
        writer.store([incoming(0, 100)])
        shutil.copy(path, copy)
        seen = tool("events", "--store", str(copy), "--count")
        assert 73 == seen.returncode
        assert f"its journal {copy}-wal, which is missing" in seen.stderr
        assert "rillevents store backup" in seen.stderr
        writer.close()
