"""`rillevents serve` and its store under faults: locks, full disks, damage, files that vanish, kills and copies."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sqlite3
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from faults import serve_campaign
from faults.sandbox import need_root
from serving import Serving, event, exchange, rows, stored_ids, until
from support import Tool, only

pytestmark = [pytest.mark.slow, pytest.mark.unmeasured]


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A small disk."""
    need_root()
    folder = tmp_path / "disk"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=700k,mode=0700", "tmpfs", folder], check=True)
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_locked(tool: Tool) -> None:
    """While another program has the store locked, it is 503 with Retry-After, and one line says so; afterwards all is well."""
    with Serving(tool) as serving:
        store = tool.paths.default_store
        with contextlib.closing(sqlite3.connect(store, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            told = serving.post(event("a"))
            assert (503, "1") == (told.status, told.headers["retry-after"])
            assert 503 == serving.ask("GET", "/readyz").status
            assert 200 == serving.ask("GET", "/healthz").status
            other.execute("ROLLBACK")
        assert 200 == serving.post(event("a")).status
        assert 200 == serving.ask("GET", "/readyz").status
        until(lambda: "events are stored again" in serving.stderr)
        assert 1 == serving.stderr.count("database is locked")


def test_readiness_comes_back(tool: Tool) -> None:
    """A server that could not store is ready again by itself, also where nobody sends anything because it is not."""
    with Serving(tool) as serving:
        with contextlib.closing(sqlite3.connect(tool.paths.default_store, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            assert 503 == serving.post(event("a")).status
            assert 503 == serving.ask("GET", "/readyz").status
            other.execute("ROLLBACK")
        until(lambda: 200 == serving.ask("GET", "/readyz").status)


def test_full_disk(tool: Tool, disk: Path) -> None:
    """On a full disk it is 503, nothing that was answered for is lost, and with room again it goes on."""
    store = disk / "events.db"
    with Serving(tool, "--store", str(store)) as serving:
        answers = {str(n): serving.post(event(str(n), pad="x" * 3000)).status for n in range(300)}
        assert {200, 503} == set(answers.values())
        subprocess.run(["mount", "-o", "remount,size=8m", disk], check=True)
        assert 200 == serving.post(event("after")).status
        assert 143 == serving.stop()
    answered = [event_id for event_id, status in answers.items() if status == 200]
    assert {*answered, "after"} <= set(stored_ids(store))
    assert ["ok"] == rows(store, "PRAGMA integrity_check")


def test_full_disk_for_a_spool(tool: Tool, disk: Path) -> None:
    """A server that forwards answers 503 on a full disk, and has what it answered for."""
    with Serving(tool, "--to", "spool", RILLEVENTS_SPOOL_DIR=str(disk / "spool")) as serving:
        answers = {str(n): serving.post(event(str(n), pad="x" * 3000)).status for n in range(300)}
        assert {200, 503} == set(answers.values())
    lines = tool("spool", "export", RILLEVENTS_SPOOL_DIR=str(disk / "spool")).stdout
    answered = [event_id for event_id, status in answers.items() if status == 200]
    assert [] == [event_id for event_id in answered if f'"event_id": "{event_id}"' not in lines]


def test_damaged(tool: Tool) -> None:
    """A store that is none is put aside loudly, and a fresh one begun; the metrics count it."""
    store = Path(tool.paths.default_store)
    store.parent.mkdir()
    store.write_bytes(b"not a database" * 1000)
    with Serving(tool) as serving:
        assert 200 == serving.post(event("a")).status
        assert "rillevents_stores_put_aside_total 1.0" in serving.ask("GET", "/metrics").body.decode()
        aside = only([path for path in store.parent.iterdir() if ".corrupt-" in path.name])
        assert f"{store} is damaged" in serving.stderr
        assert aside.name in serving.stderr
    assert b"not a database" * 1000 == aside.read_bytes()
    assert ["a"] == stored_ids(store)


def test_deleted(tool: Tool) -> None:
    """A store that is deleted while the server runs is begun anew, before anything more is answered for."""
    store = tool.paths.default_store
    with Serving(tool) as serving:
        serving.post(event("a"))
        for name in ("", "-wal", "-shm"):
            os.unlink(f"{store}{name}")
        assert 200 == serving.post(event("b")).status
        until(lambda: "was deleted, replaced" in serving.stderr)
    assert ["b"] == stored_ids(store)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=str)
def test_moved(number: signal.Signals, tool: Tool) -> None:
    """A store that is moved has what was answered for, whether the server is then stopped or killed; the next one sees to it."""
    store = tool.paths.default_store
    with Serving(tool) as serving:
        answered = [str(n) for n in range(50) if 200 == serving.post(event(str(n))).status]
        os.rename(store, f"{store}.moved")
        serving.stop(number)
    with Serving(tool) as serving:
        assert 200 == serving.post(event("new")).status
        assert 143 == serving.stop()
    assert answered == stored_ids(f"{store}.moved")
    assert ["new"] == stored_ids(store)


def test_moved_while_idle(tool: Tool) -> None:
    """A server that receives nothing notices a move by itself, and says where the events are."""
    store = tool.paths.default_store
    with Serving(tool) as serving:
        serving.post(event("a"))
        os.rename(store, f"{store}.moved")
        until(lambda: "was moved; all its events are in the moved file; continuing with a new one" in serving.stderr)
    assert ["a"] == stored_ids(f"{store}.moved")


def test_moved_under_two_servers(tool: Tool) -> None:
    """Of two servers on one store, each has what it answered for in the moved file; a killed one's successor does not disturb."""
    store = tool.paths.default_store
    with Serving(tool) as one:
        with Serving(tool) as two:
            for number in range(20):
                assert 200 == (one, two)[number % 2].post(event(str(number))).status
            two.stop(signal.SIGKILL)
        os.rename(store, f"{store}.moved")
        with Serving(tool) as two:
            assert 200 == two.post(event("a")).status
            assert 200 == one.post(event("b")).status
            assert (143, 143) == (one.stop(), two.stop())
    assert {str(number) for number in range(20)} <= set(stored_ids(f"{store}.moved"))
    assert {"a", "b"} == set(stored_ids(store))


def test_restored_after_a_kill(tool: Tool) -> None:
    """A backup that is put in the place of a killed server's store has its events and the new ones, and stays whole."""
    store = Path(tool.paths.default_store)
    backup = store.with_name("backup.db")
    with Serving(tool) as serving:
        serving.post(b"".join(event(str(n), pad="x" * 500) for n in range(500)))
        with contextlib.closing(sqlite3.connect(store)) as connection:
            connection.execute("VACUUM INTO ?", (str(backup),))
        serving.post(b"".join(event(str(n), pad="x" * 500) for n in range(500, 1000)))
        serving.stop(signal.SIGKILL)
    os.rename(backup, store)
    with Serving(tool) as serving:
        assert 200 == serving.post(event("new")).status
        assert ".journal-" in serving.stderr
        assert "rillevents_stores_put_aside_total 0.0" in serving.ask("GET", "/metrics").body.decode()
    assert [*map(str, range(500)), "new"] == stored_ids(store)
    assert ["ok"] == rows(store, "PRAGMA integrity_check")


def test_unknown_version(tool: Tool) -> None:
    """A store of a version to come is left alone, and the message says what to do; the exit code is 73."""
    with Serving(tool):
        pass
    with contextlib.closing(sqlite3.connect(tool.paths.default_store)) as connection:
        connection.execute("PRAGMA user_version = 9")
    done = tool("serve", "--port", "0")
    assert 73 == done.returncode
    assert "version 9" in done.stderr
    assert "--store" in done.stderr


def test_home_is_not_committed(tool: Tool) -> None:
    """A server that makes the home folder gives it the .gitignore that it has when `record` makes it."""
    with Serving(tool):
        assert "*\n" == (tool.home / ".gitignore").read_text()


def test_copies(tool: Tool, tmp_path: Path) -> None:
    """A copy of the store's files at any moment opens, is whole, and holds everything that was answered for before."""
    store = tool.paths.default_store
    answered: list[str] = []
    over = threading.Event()
    with Serving(tool) as serving:

        def send() -> None:
            with contextlib.closing(serving.connect()) as connection:
                for number in range(100_000):
                    if over.is_set():
                        return
                    if (
                        exchange(connection, "POST", "/events/default", event(str(number), pad="x" * 2000)).status
                        == 200
                    ):
                        answered.append(str(number))

        sender = threading.Thread(target=send)
        sender.start()
        for number in range(12):
            until(lambda number=number: len(answered) > number * 40)
            serving.process.send_signal(signal.SIGSTOP)
            before = list(answered)
            copy = tmp_path / f"copy-{number}.db"
            for name in ("", "-wal"):
                shutil.copy(f"{store}{name}", f"{copy}{name}")
            serving.process.send_signal(signal.SIGCONT)
            assert set(before) <= set(stored_ids(copy))
            assert ["ok"] == rows(copy, "PRAGMA integrity_check")
        over.set()
        sender.join()


@pytest.mark.parametrize("kind", ["store", "spool"])
def test_campaign(kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Servers that are killed again and again have everything that they answered for, unaltered."""
    assert 0 == serve_campaign.main(5, 1, kind)
    assert "| answered for, but lost |         0 |" in capsys.readouterr().out
