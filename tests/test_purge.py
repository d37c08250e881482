"""A purge: what it deletes is gone from the disk when it returns, whoever holds it open."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import threading

import pytest
from support import Tool

from rillevents import Client
from rillevents.spool import VERSION
from rillevents.spool.maintenance import purge
from rillevents.spool.slots import append

SECRET = "something-that-must-go"
LINE = b'{"event_id":"i","event_time":"2026-11-23T10:00:00Z","event_type":"t","event_name":"something-that-must-go"}\n'


def traces(tool: Tool) -> list[str]:
    """The files of a home that hold what was to be purged."""
    return [str(path) for path in tool.home.rglob("*") if path.is_file() and SECRET.encode() in path.read_bytes()]


@pytest.mark.parametrize("words", [["spool", "purge", "--yes"], ["telemetry", "off", "--purge"]], ids=" ".join)
def test_of_an_open_client(words: list[str], tool: Tool) -> None:
    """What a running program holds is purged, in its file and in the open one, and it goes on in a new file."""
    client = Client.from_config(environ=tool.environ)
    client.record_log("n", SECRET)
    held = os.open(next(tool.spool.glob("live-*")), os.O_RDONLY)
    assert [] != traces(tool)
    assert 0 == tool(*words).returncode
    assert ([], b"") == (traces(tool), os.read(held, 100))
    os.close(held)
    tool("telemetry", "on")
    assert client.record("t", "later")
    client.close()
    assert ["later"] == [event["event_name"] for event in tool.events()]
    ledger = tool.json("status")["ledger"]
    assert ({"purged": 1}, 2) == (ledger["dropped"], ledger["recorded"])


def test_of_a_stopped_writer(tool: Tool) -> None:
    """A slot whose writer was stopped with its lock in hand is purged as well; going on, it writes its line elsewhere."""
    folder = str(tool.spool)
    tool.spool.mkdir(parents=True, mode=0o700)
    append(folder, LINE, max_bytes=1 << 20)
    fd = os.open(f"{folder}/slot-0.ndjson", os.O_RDWR)
    fcntl.flock(fd, fcntl.LOCK_EX)
    assert 1 == purge(str(tool.spool.parent))
    assert [] == traces(tool)
    assert 0 == os.fstat(fd).st_nlink == os.fstat(fd).st_size
    os.close(fd)


def test_while_events_arrive(tool: Tool) -> None:
    """Events that are recorded while the spool is purged are each purged and counted, or in the spool afterwards."""
    client = Client.from_config(environ=tool.environ)
    recorded = [client.record("t", "n")]
    spool, ended, purged = str(tool.spool.parent), threading.Event(), 0

    def record() -> None:
        while not ended.is_set():
            recorded.append(client.record("t", "n"))

    thread = threading.Thread(target=record)
    thread.start()
    rounds = 40
    for _ in range(rounds):
        purged += purge(spool)
    ended.set()
    thread.join()
    client.close()
    kept = [event["event_id"] for event in tool.events()]
    assert None not in recorded
    assert len(kept) == len(set(kept))
    # A line that was in its file when that was deleted is counted, and written again.
    assert 0 <= purged + len(kept) - len(recorded) <= rounds


def test_what_is_kept(tool: Tool) -> None:
    """What cannot be deleted is named, the rest is deleted; other things with such a name are left alone."""
    if not os.geteuid():
        pytest.skip("root may delete anything")
    tool("record", "behavioral", "x")
    (tool.spool / "live-a.ndjson").write_bytes(LINE)
    (tool.spool / "live-a.ndjson").chmod(0)
    done = tool("spool", "purge", "--yes")
    assert (73, True) == (done.returncode, "live-a.ndjson is kept" in done.stderr)
    assert ["live-a.ndjson"] == [path.name for path in tool.spool.glob("*.ndjson")]


def test_links_and_folders(tool: Tool) -> None:
    """A link or a folder with the name of a file of events stops no purge and is not followed."""
    tool("record", "behavioral", SECRET)
    outside = tool.home.parent / "outside"
    outside.write_bytes(LINE)
    (tool.spool / "live-a.ndjson").symlink_to(outside)
    (tool.spool / "claim-b.ndjson").mkdir()
    assert {"purged": 1} == tool.json("spool", "purge")
    assert outside.read_bytes() == LINE
    assert VERSION == tool.spool.name


def test_in_another_process(tool: Tool) -> None:
    """A process that records, is purged under, and records again loses no event."""
    program = (
        "import sys; from rillevents import Client; c = Client.from_config()\n"
        f"c.record_log('n', {SECRET!r}); print(1, flush=True); sys.stdin.readline()\n"
        "assert c.record('t', 'later'); print(2, flush=True); sys.stdin.readline()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], env=tool.environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin
        assert process.stdout
        process.stdout.readline()
        assert {"purged": 1} == tool.json("spool", "purge")
        assert [] == traces(tool)
        process.stdin.write("\n")
        process.stdin.flush()
        process.stdout.readline()
        assert ["later"] == [event["event_name"] for event in tool.events()]
        process.kill()
    assert ["later"] == [event["event_name"] for event in tool.events()]
