"""The spool: what is appended is read, whatever happens in between."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from support import Tool, need, only

from rillevents.errors import Busy, SpoolError, SpoolFull, SpoolUnwritable
from rillevents.event import MAX_EVENT_BYTES, Event
from rillevents.event.batch import DELIVERED, UNSETTLED, Rejected
from rillevents.spool import BACKLOG, TALLY, check, create, tally, view
from rillevents.spool import slots as appending
from rillevents.spool.drain import Drain
from rillevents.spool.lines import Run, complete_runs
from rillevents.spool.live import LiveWriter
from rillevents.spool.maintenance import purge, retry
from rillevents.spool.slots import append, backlog, count_backlog, slot_bytes, write_own_file
from rillevents.spool.state import load

PLENTY = 1 << 30


def line(number: int, size: int = 0) -> bytes:
    return Event("t", "n", {"number": number, "pad": "x" * size}, event_id=f"id-{number}").line


def numbers(lines: list[bytes]) -> list[int]:
    return [json.loads(text)["number"] for text in lines]


class Spool:
    """A spool in a folder of its own."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)
        self.folder = create(self.path)

    def add(self, *found: int) -> None:
        for number in found:
            append(self.folder, line(number), max_bytes=PLENTY)

    def held(self) -> list[int]:
        return numbers(list(view.pending(self.path)))

    def drain(self, **settings: int) -> list[int]:
        """Deliver everything, and return what was delivered."""
        delivered: list[bytes] = []
        with Drain(self.folder, **settings) as drain:
            for batch in drain.batches():
                delivered += batch.batch.lines
                drain.commit(batch, [DELIVERED] * len(batch.batch))
        return numbers(delivered)

    def names(self) -> list[str]:
        return sorted(name for name in os.listdir(self.folder) if name.endswith(".ndjson"))


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    """An empty spool."""
    return Spool(tmp_path / "spool")


class TestAppend:
    def test_read_back(self, spool: Spool) -> None:
        """What is appended is there, in order, byte for byte."""
        spool.add(1, 2, 3)
        assert [1, 2, 3] == spool.held()
        assert ["slot-0.ndjson"] == spool.names()

    def test_busy_slot(self, spool: Spool) -> None:
        """A slot that is locked is passed over at once, not waited for."""
        spool.add(1)
        fd = os.open(f"{spool.folder}/slot-0.ndjson", os.O_RDWR)
        fcntl.flock(fd, fcntl.LOCK_EX)
        spool.add(2)
        os.close(fd)
        assert ["slot-0.ndjson", "slot-1.ndjson"] == spool.names()
        assert [1, 2] == sorted(spool.held())

    def test_torn_tail(self, spool: Spool) -> None:
        """A torn tail is closed with a newline before the next line, and swallows nothing."""
        spool.add(1)
        with open(f"{spool.folder}/slot-0.ndjson", "ab") as file:
            file.write(line(9)[:40])
        spool.add(2)
        assert [1, 2] == spool.held()
        assert [1, 2] == spool.drain()
        assert line(9)[:40] + b"\n" == only(list(Path(spool.folder, "corrupt").iterdir())).read_bytes()

    @pytest.mark.parametrize("kind", ["link", "folder", "fifo", "socket"])
    def test_something_else_in_the_slots_place(
        self, kind: str, spool: Spool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """What is no file of ours in a slot's place is passed over, and not written to."""
        slot = Path(spool.folder, "slot-0.ndjson")
        target = tmp_path / "target"
        target.write_text("precious")
        if kind == "link":
            slot.symlink_to(target)
        elif kind == "folder":
            slot.mkdir()
        elif kind == "fifo":
            os.mkfifo(slot)
        else:
            import socket

            with socket.socket(socket.AF_UNIX) as listener:
                # A socket's name is short, so it is bound from within.
                monkeypatch.chdir(spool.folder)
                listener.bind("slot-0.ndjson")
        spool.add(1)
        assert [1] == spool.held()
        assert [1] == spool.drain()
        assert "precious" == target.read_text()

    def test_all_slots_busy(self, spool: Spool) -> None:
        """Where no slot is free the event gets a file of its own."""
        held = []
        for number in range(64):
            fd = os.open(f"{spool.folder}/slot-{number}.ndjson", os.O_RDWR | os.O_CREAT)
            fcntl.flock(fd, fcntl.LOCK_EX)
            held.append(fd)
        spool.add(1)
        assert [1] == spool.held()
        assert only([name for name in spool.names() if not name.startswith("slot-")]).startswith("done-")
        for fd in held:
            os.close(fd)

    def test_short_write_is_undone(self, spool: Spool, tool: Tool) -> None:
        """Where only a part of a line fits, nothing of it stays, and the caller hears of it."""
        script = (
            "import resource, sys, signal; from rillevents.spool.slots import append; from rillevents.errors import SpoolUnwritable\n"
            f"folder = {spool.folder!r}; line = {line(2, 5000)!r}\n"
            f"append(folder, {line(1)!r}, max_bytes=1 << 30)\n"
            "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
            "try: append(folder, line, max_bytes=1 << 30)\n"
            "except SpoolUnwritable as error: print(error)\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", script], env=tool.environ, capture_output=True, text=True, check=True
        )
        assert "not stored" in done.stdout
        spool.add(3)
        assert [1, 3] == spool.held()
        assert [1, 3] == spool.drain()

    def test_deleted_under_way(self, spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
        """Where somebody deletes the file between the write and the answer, the line is written again elsewhere."""
        real = appending.write_line
        deleted = []

        def write_and_delete(fd: int, text: bytes, size: int) -> None:
            real(fd, text, size)
            if not deleted:
                deleted.append(os.unlink(f"{spool.folder}/slot-0.ndjson"))

        # The one place where timing cannot be had from outside: between two system calls of one process.
        monkeypatch.setattr(appending, "write_line", write_and_delete)
        spool.add(1)
        assert [1] == spool.held()

    def test_without_locks(self, spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
        """On a file system without locks every event is a file of its own, and all of them are delivered."""

        def no_locks(fd: int, how: int) -> None:
            raise OSError(errno.ENOLCK, "no locks")

        monkeypatch.setattr("fcntl.flock", no_locks)
        spool.add(1, 2)
        writer = LiveWriter(spool.path, max_bytes=PLENTY)
        writer.append(line(3))
        writer.close()
        assert 3 == len([name for name in spool.names() if name.startswith("done-")])
        assert [1, 2, 3] == spool.held()
        assert [1, 2, 3] == spool.drain()
        assert [] == [name for name in spool.names() if name.startswith("done-")]

    @pytest.mark.parametrize("store", [append, write_own_file], ids=["slot", "file"])
    @pytest.mark.parametrize("umask", [0, 0o777], ids=oct)
    def test_mode(self, store: Callable[..., None], umask: int, spool: Spool) -> None:
        """What holds an event is 0600, whatever the umask."""
        before = os.umask(umask)
        try:
            store(spool.folder, line(1), max_bytes=PLENTY)
        finally:
            os.umask(before)
        assert 0o600 == stat.S_IMODE(os.stat(f"{spool.folder}/{only(spool.names())}").st_mode)

    def test_cleared_away_under_way(self, spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
        """Where a flush takes a file that is being written for a left-over and clears it away, it is written again."""
        real = os.rename
        cleared = []

        def clear_and_rename(old: str, new: str) -> None:
            if not cleared:
                cleared.append(os.unlink(old))
            real(old, new)

        # Between two system calls of one process, once more.
        monkeypatch.setattr("os.rename", clear_and_rename)
        write_own_file(spool.folder, line(1), max_bytes=PLENTY)
        assert ([None], [1]) == (cleared, spool.held())

    def test_durable_file(self, spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
        """A file of its own is synced before it gets its name, and its folder afterwards, where that is asked for alone."""
        calls = []
        real = os.rename
        monkeypatch.setattr("os.fdatasync", lambda fd: calls.append("data"), raising=False)
        monkeypatch.setattr("os.fsync", lambda fd: calls.append("folder"))
        monkeypatch.setattr("os.rename", lambda *names: (calls.append("name"), real(*names)))
        write_own_file(spool.folder, line(1), max_bytes=PLENTY)
        write_own_file(spool.folder, line(2), max_bytes=PLENTY, durable=True)
        assert ["name", "data", "name", "folder"] == calls

    def test_durable_order(self, tool: Tool) -> None:
        """With --durable the data is synced after it was written and before the process says that it is done."""
        strace = need("strace")
        log = tool.home.parent / "trace"
        words = tool.command("record", "behavioral", "x", "--durable")
        subprocess.run(
            [strace, "-o", log, "-e", "trace=write,fdatasync,fsync,exit_group", *words], env=tool.environ, check=True
        )
        calls = [text.partition("(")[0] for text in log.read_text().splitlines()]
        ours = next(n for n, text in enumerate(log.read_text().splitlines()) if "event_id" in text)
        assert ["write", "fdatasync", "fsync", "exit_group"] == calls[ours:][:4]


class TestCap:
    def test_refused_when_full(self, spool: Spool) -> None:
        """Over the cap new events are refused, the old ones stay, and after a flush there is room again."""
        stored = 0
        with pytest.raises(SpoolFull, match="rillevents flush"):
            for number in range(1000):
                append(spool.folder, line(number, 200), max_bytes=20_000)
                stored += 1
        assert list(range(stored)) == spool.held()
        assert 15_000 < sum(map(len, view.pending(spool.path))) <= 20_000
        spool.drain()
        append(spool.folder, line(1), max_bytes=20_000)

    def test_to_the_byte(self, spool: Spool) -> None:
        """The cap is reached to the byte, and not passed by one."""
        text = line(1)
        append(spool.folder, text, max_bytes=len(text))
        with pytest.raises(SpoolFull):
            append(spool.folder, text, max_bytes=2 * len(text) - 1)
        append(spool.folder, text, max_bytes=2 * len(text))
        assert [1, 1] == spool.held()

    def test_to_the_byte_outside_the_slots(self, spool: Spool) -> None:
        """An event in a file of its own counts like one in a slot, for both kinds of writers."""
        text = line(1)
        write_own_file(spool.folder, text, max_bytes=len(text))
        for store in (write_own_file, append):
            with pytest.raises(SpoolFull):
                store(spool.folder, text, max_bytes=2 * len(text) - 1)
        append(spool.folder, text, max_bytes=2 * len(text))
        assert [1, 1] == spool.held()

    def test_what_is_counted(self, spool: Spool) -> None:
        """The bytes in the slots are counted apart from those outside, whose number is noted; a note that is none says nothing."""
        spool.add(1)
        write_own_file(spool.folder, line(20), max_bytes=PLENTY)
        assert (len(line(1)), len(line(20))) == (slot_bytes(spool.folder), backlog(spool.folder))
        note = Path(spool.folder, BACKLOG)
        for content in (b"", b"x", b"\xff"):
            note.write_bytes(content)
            assert 0 == backlog(spool.folder)
        note.unlink()
        assert 0 == backlog(spool.folder)
        assert [len(line(20))] * 2 == [count_backlog(spool.folder), backlog(spool.folder)]

    def test_first_slot_busy(self, spool: Spool) -> None:
        """Who finds the first slot busy holds to the cap of all slots together."""
        spool.add(*range(10))
        fd = os.open(f"{spool.folder}/slot-0.ndjson", os.O_RDWR)
        fcntl.flock(fd, fcntl.LOCK_EX)
        with pytest.raises(SpoolFull):
            append(spool.folder, line(10), max_bytes=10 * len(line(1)) + 50)
        append(spool.folder, line(10), max_bytes=11 * len(line(1)) + 50)
        os.close(fd)
        assert list(range(11)) == sorted(spool.held())

    def test_counts_have_a_cap_of_their_own(self, spool: Spool) -> None:
        """What is counted is held to the size of its own file, to the byte, whatever lies beside it."""
        text = line(1)
        spool.add(*range(5))
        for _ in range(2):
            append(spool.folder, text, max_bytes=2 * len(text), prefix=TALLY)
        with pytest.raises(SpoolFull, match="the counts of the spool are full"):
            append(spool.folder, text, max_bytes=3 * len(text) - 1, prefix=TALLY)
        assert 2 * len(text) == os.path.getsize(f"{spool.folder}/{TALLY}0.ndjson")

    def test_counts_what_a_failed_flush_left(self, spool: Spool) -> None:
        """What a flush could not deliver counts against the cap, too."""
        for number in range(50):
            append(spool.folder, line(number, 200), max_bytes=20_000)
        with Drain(spool.folder) as drain:
            for batch in drain.batches():
                drain.commit(batch, [UNSETTLED] * len(batch.batch))
        with pytest.raises(SpoolFull):
            for number in range(50):
                append(spool.folder, line(number, 200), max_bytes=20_000)

    def test_live(self, spool: Spool) -> None:
        """A long-lived writer holds to the same cap, and goes on after a flush and a rotation."""
        writer = LiveWriter(spool.path, max_bytes=20_000)
        with pytest.raises(SpoolFull):
            for number in range(1000):
                writer.append(line(number, 200))
        writer.close()
        assert 0 < len(spool.drain()) < 1000
        writer.append(line(1))
        assert [1] == spool.held()
        writer.close()


class TestLive:
    def test_threads(self, spool: Spool) -> None:
        """Eight threads with one writer lose nothing."""
        writer = LiveWriter(spool.path, max_bytes=PLENTY)

        def work(thread: int) -> None:
            for number in range(500):
                writer.append(line(thread * 500 + number))

        threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        writer.close()
        assert list(range(4000)) == sorted(spool.held())

    def test_kept_while_it_is_open(self, spool: Spool) -> None:
        """A flush delivers what an open writer has written, leaves its file, and delivers what comes next exactly once."""
        writer = LiveWriter(spool.path, max_bytes=PLENTY)
        writer.append(line(1))
        assert [1] == spool.drain()
        writer.append(line(2))
        assert [2] == spool.drain()
        writer.close()
        assert [] == spool.drain()
        assert [] == spool.names()

    def test_unlinked_under_way(self, spool: Spool) -> None:
        """Where somebody deletes a writer's file, the next event goes into a new one."""
        writer = LiveWriter(spool.path, max_bytes=PLENTY)
        writer.append(line(1))
        os.unlink(f"{spool.folder}/{only(spool.names())}")
        writer.append(line(2))
        writer.close()
        assert [2] == spool.held()

    def test_rotation(self, spool: Spool) -> None:
        """A file that has grown to 8 MB is left for a new one."""
        writer = LiveWriter(spool.path, max_bytes=PLENTY)
        for number in range(300):
            writer.append(line(number, 30_000))
        assert 2 == len(spool.names())
        writer.close()
        assert list(range(300)) == spool.held()

    def test_fork(self, spool: Spool) -> None:
        """A forked child writes to a file of its own, and its parent's lines and lock stay as they are."""
        writer = LiveWriter(spool.path, max_bytes=PLENTY)
        writer.append(line(0))
        children = []
        for child in range(1, 6):
            pid = os.fork()
            if pid == 0:
                signal.alarm(20)
                writer.append(line(child))
                os._exit(0)
            children.append(pid)
            writer.append(line(100 + child))
        assert [0] * 5 == [os.waitpid(pid, 0)[1] for pid in children]
        assert [0, 1, 2, 3, 4, 5, 101, 102, 103, 104, 105] == sorted(spool.held())
        assert 6 == len(spool.names())
        writer.close()

    @pytest.mark.slow
    def test_fork_while_a_thread_writes(self, spool: Spool) -> None:
        """A child that was forked while another thread held the writer's lock records without waiting for it."""
        writer = LiveWriter(spool.path, max_bytes=PLENTY)
        stop = threading.Event()

        def work() -> None:
            while not stop.is_set():
                writer.append(line(0))

        thread = threading.Thread(target=work)
        thread.start()
        try:
            for child in range(1, 101):
                pid = os.fork()
                if pid == 0:
                    signal.alarm(20)
                    writer.append(line(child))
                    os._exit(0)
                assert 0 == os.waitpid(pid, 0)[1]
        finally:
            stop.set()
            thread.join()
        writer.close()
        assert list(range(1, 101)) == [number for number in sorted(spool.held()) if number]

    def test_signal_handler(self, spool: Spool) -> None:
        """An event that is recorded in a signal handler, in the middle of recording another, deadlocks nothing."""
        writer = LiveWriter(spool.path, max_bytes=PLENTY)
        handled = []

        def handle(number: int, frame: object) -> None:
            handled.append(writer.append(line(-1)))

        before = signal.signal(signal.SIGALRM, handle)
        signal.setitimer(signal.ITIMER_REAL, 0.001, 0.003)
        try:
            for number in range(5000):
                writer.append(line(number))
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
        writer.close()
        held = sorted(spool.held())
        assert list(range(5000)) == [number for number in held if number >= 0]
        assert len(handled) == sum(number < 0 for number in held)

    def test_not_inherited(self, spool: Spool) -> None:
        """A program that is started by the writer's process inherits no descriptor of ours."""
        writer = LiveWriter(spool.path, max_bytes=PLENTY)
        writer.append(line(1))
        found = subprocess.run(
            ["sh", "-c", "ls -l /proc/self/fd"], capture_output=True, text=True, check=True, close_fds=False
        ).stdout
        assert spool.folder not in found
        writer.close()


class TestFolder:
    @pytest.mark.parametrize("which", ["spool", "v1"])
    def test_link(self, which: str, tmp_path: Path) -> None:
        """A spool that is a link is refused, and what it leads to is left alone."""
        elsewhere = tmp_path / "elsewhere"
        elsewhere.mkdir()
        (tmp_path / "spool").mkdir(exist_ok=True)
        target = tmp_path / "link" if which == "spool" else tmp_path / "spool" / "v1"
        target.symlink_to(elsewhere)
        with pytest.raises(SpoolError, match="not a folder"):
            (elsewhere / "v1").mkdir(), create(str(tmp_path / ("link" if which == "spool" else "spool")))

    @pytest.mark.parametrize("mode", [0o2770, 0o775, 0o777], ids=["fsGroup", "group", "everybody"])
    @pytest.mark.parametrize("which", ["spool", "v1"])
    def test_opened_to_others(self, which: str, mode: int, spool: Spool) -> None:
        """A folder of ours that was opened to others, as Kubernetes does at each start of a pod, is closed to them and used."""
        spool.add(1)
        path = spool.path if which == "spool" else spool.folder
        os.chmod(path, mode)
        assert spool.folder == create(spool.path)
        spool.add(2)
        # Only what others can do harm with is taken back: a group may not put files among ours.
        if which == "v1" or mode == 0o777:
            assert 0o700 == os.stat(path).st_mode & 0o777
        assert [1, 2] == spool.drain()

    def test_what_others_have_put_there(self, spool: Spool, tmp_path: Path) -> None:
        """While the folder was open to everybody, others may have put links and second names there: nobody reads those."""
        theirs = line(7)
        (tmp_path / "theirs").write_bytes(theirs)
        os.link(tmp_path / "theirs", f"{spool.folder}/slot-0.ndjson")
        os.symlink(tmp_path / "theirs", f"{spool.folder}/slot-1.ndjson")
        Path(spool.folder, "slot-2.ndjson").write_bytes(line(1))
        os.chmod(spool.folder, 0o777)
        assert spool.folder == check(spool.path)
        spool.add(2)
        assert {1, 2} == set(spool.drain())
        assert theirs == (tmp_path / "theirs").read_bytes()
        assert 2 == len([name for name in os.listdir(spool.folder) if name.startswith("stranger-")])

    def test_other_versions_are_left_alone(self, spool: Spool) -> None:
        """Files with unknown prefixes and folders of other versions are neither read nor touched."""
        Path(spool.path, "v2").mkdir()
        theirs = [Path(spool.path, "v2", "slot-0.ndjson"), Path(spool.folder, "future-1.ndjson")]
        for path in theirs:
            path.write_bytes(b"theirs\n")
        spool.add(1)
        assert [1] == spool.drain()
        assert [b"theirs\n"] * 2 == [path.read_bytes() for path in theirs]

    def test_odd_names(self, tmp_path: Path) -> None:
        """A folder's name may hold spaces, newlines and any Unicode."""
        spool = Spool(tmp_path / "a b\nç☃")
        spool.add(1)
        assert [1] == spool.drain()


class TestDrain:
    def test_clears_up(self, spool: Spool) -> None:
        """After everything was acknowledged no file with events is left, and nothing is delivered again."""
        spool.add(1, 2)
        assert [1, 2] == spool.drain()
        assert ([], []) == (spool.drain(), spool.names())

    def test_batches_concatenate(self, spool: Spool) -> None:
        """Batches hold what was recorded, once and in order, and no more than they may."""
        spool.add(*range(25))
        with Drain(spool.folder, batch_events=10) as drain:
            found = []
            for batch in drain.batches():
                found.append(numbers(list(batch.batch.lines)))
                drain.commit(batch, [DELIVERED] * len(batch.batch))
        assert [list(range(10)), list(range(10, 20)), list(range(20, 25))] == found

    def test_batches_span_files(self, spool: Spool) -> None:
        """Many files of one event each travel together."""
        for number in range(500):
            write_own_file(spool.folder, line(number), max_bytes=PLENTY)
        with Drain(spool.folder, batch_events=1000) as drain:
            sizes = []
            for batch in drain.batches():
                sizes.append(len(batch.batch))
                drain.commit(batch, [DELIVERED] * len(batch.batch))
        assert [500] == sizes
        assert [] == spool.names()

    def test_stopped_midway(self, spool: Spool) -> None:
        """What was not acknowledged comes again, what was does not."""
        spool.add(*range(10))
        with Drain(spool.folder, batch_events=4) as drain:
            batches = drain.batches()
            drain.commit(next(batches), [DELIVERED] * 4)
            drain.commit(next(batches), [DELIVERED, DELIVERED, UNSETTLED, DELIVERED])
            batches.close()  # type: ignore[attr-defined]
        assert [6, 8, 9] == sorted(spool.drain())

    def test_rejected(self, spool: Spool) -> None:
        """A rejected event is kept apart with its reason, and can be put back byte for byte."""
        spool.add(1, 2, 3)
        with Drain(spool.folder) as drain:
            for batch in drain.batches():
                drain.commit(batch, [DELIVERED, Rejected('no, "event":{} here'), DELIVERED])
        found = only(list(view.rejected(spool.path)))
        assert ('no, "event":{} here', 2) == (found.reason, json.loads(found.line)["number"])
        before = found.line
        assert 1 == retry(spool.path)
        assert before == only(list(view.pending(spool.path)))
        assert [] == list(view.rejected(spool.path))

    def test_ledger(self, spool: Spool) -> None:
        """The ledger counts what became of the events, survives, and takes in what writers have counted, once."""
        spool.add(1, 2, 3)
        tally.add(spool.path, "truncated")
        tally.add(spool.path, "dropped", "filter", 5)
        with Drain(spool.folder) as drain:
            for batch in drain.batches():
                drain.commit(batch, [DELIVERED, Rejected("r"), DELIVERED])
        state = load(spool.folder)
        assert (2, 1, 1, {"filter": 5}) == (
            state.counts["delivered"],
            state.counts["rejected"],
            state.counts["truncated"],
            state.dropped,
        )
        spool.drain()
        assert state.counts == load(spool.folder).counts
        assert [] == tally.names(spool.folder)

    @pytest.mark.parametrize(
        "content", [b"", b"{", b"[1]", b'{"since": 3}', b"\0" * 50], ids=["empty", "torn", "list", "half", "nul"]
    )
    def test_damaged_state(self, content: bytes, spool: Spool) -> None:
        """Without its state the spool sends everything once more, and the ledger begins anew."""
        spool.add(1, 2)
        with Drain(spool.folder, batch_events=1) as drain:
            batches = drain.batches()
            drain.commit(next(batches), [DELIVERED])
            batches.close()  # type: ignore[attr-defined]
        Path(spool.folder, "state.json").write_bytes(content)
        assert [1, 2] == spool.drain()
        assert 2 == load(spool.folder).counts["delivered"]

    def test_restored_copy(self, spool: Spool) -> None:
        """Where an older copy of a file was put in its place, the offset is not believed, and everything is sent."""
        writer = LiveWriter(spool.path, max_bytes=PLENTY)
        writer.append(line(1))
        assert [1] == spool.drain()
        name = only(spool.names())
        writer.close()
        Path(spool.folder, name).write_bytes(line(7) + line(8))
        assert [7, 8] == spool.drain()

    def test_one_at_a_time(self, spool: Spool) -> None:
        """A second flusher is told that another one is running."""
        with Drain(spool.folder), pytest.raises(Busy):
            Drain(spool.folder).acquire()

    def test_recorded_under_way(self, spool: Spool) -> None:
        """Events recorded during a flush are neither lost nor sent twice."""
        spool.add(*range(10))
        with Drain(spool.folder, batch_events=3) as drain:
            first = []
            for batch in drain.batches():
                spool.add(100 + len(first))
                first += numbers(list(batch.batch.lines))
                drain.commit(batch, [DELIVERED] * len(batch.batch))
        assert list(range(10)) == first
        assert [100, 103, 106, 109] == spool.drain()

    def test_corrupt_lines(self, spool: Spool) -> None:
        """What does not parse is put aside and counted, and its neighbours are delivered."""
        bad = [
            b"garbage\n",
            b'{"event_id": 1}\n',
            b"\xff\xfe\n",
            b'{"a": NaN}\n',
            b"[" * 5000 + b"\n",
            b"x" * 40_000 + b"\n",
        ]
        with open(f"{spool.folder}/slot-0.ndjson", "wb") as file:
            for number, text in enumerate(bad):
                file.write(line(number) + text)
        assert list(range(len(bad))) == spool.drain()
        assert len(bad) == load(spool.folder).counts["corrupt"]
        assert b"".join(bad) == b"".join(
            path.read_bytes() for path in sorted(Path(spool.folder, "corrupt").iterdir(), key=_offset)
        )

    def test_zeros(self, spool: Spool) -> None:
        """Zeros that a loss of power left behind are passed over, and the events after them are delivered."""
        Path(spool.folder, "slot-0.ndjson").write_bytes(
            line(1) + b"\0" * 4096 + b"\n" + b"\0" * 10 + line(2) + b"\0" * 4096
        )
        assert [1, 2] == spool.drain()
        assert 0 == load(spool.folder).counts["corrupt"]
        assert [] == spool.names()

    def test_endless_line(self, spool: Spool) -> None:
        """A line of many megabytes is put aside in pieces, and blocks nothing."""
        with open(f"{spool.folder}/slot-0.ndjson", "wb") as file:
            file.write(line(1))
            for _ in range(5):
                file.write(b"y" * (1 << 20))
            file.write(b"\n" + line(2))
        assert [1, 2] == spool.drain()
        assert (5 << 20) + 1 == only(list(Path(spool.folder, "corrupt").iterdir())).stat().st_size

    def test_truncated_anywhere(self, tmp_path: Path) -> None:
        """A file that was cut off at any byte gives the whole lines before the cut, and nothing fails."""
        whole = line(1) + line(2)
        for cut in range(len(whole) + 1):
            spool = Spool(tmp_path / str(cut))
            Path(spool.folder, "slot-0.ndjson").write_bytes(whole[:cut])
            assert [1, 2][: whole[:cut].count(b"\n")] == spool.drain(), cut

    def test_purge(self, spool: Spool) -> None:
        """Purging deletes everything, rejected and damaged events too, and counts it as dropped."""
        spool.add(1, 2)
        with Drain(spool.folder) as drain:
            for batch in drain.batches():
                drain.commit(batch, [Rejected("r"), UNSETTLED])
        assert 2 == purge(spool.path)
        assert ([], []) == (spool.held(), list(view.rejected(spool.path)))
        assert {"purged": 2} == load(spool.folder).dropped


def _offset(path: Path) -> int:
    return int(path.name.rpartition("-")[2])


class TestLines:
    ONE, TWO = line(1), line(2)

    def runs(self, tmp_path: Path, *texts: bytes) -> list[Run]:
        """Return the runs in a file that holds these texts."""
        path = tmp_path / "file"
        path.write_bytes(b"".join(texts))
        with path.open("rb") as file:
            found = list(complete_runs(file.fileno(), 0, path.stat().st_size))
        assert all(run.events == len(run.times) for run in found)
        return [run._replace(times=()) for run in found]

    @pytest.mark.parametrize("name", ["n", "ä"])
    def test_good(self, name: str, tmp_path: Path) -> None:
        """Events that follow each other come as one run, up to the longest that there may be."""
        long = Event("t", name, {"pad": ""}, event_id="long").line
        long = long.replace(b'""', b'"%s"' % (b"x" * (MAX_EVENT_BYTES + 1 - len(long))))
        assert MAX_EVENT_BYTES + 1 == len(long)
        lines = [self.ONE, long, self.TWO]
        size = sum(map(len, lines))
        assert [Run(0, size, b"".join(lines), 3)] == self.runs(tmp_path, *lines)
        assert [self.ONE, self.TWO] == [
            run.good for run in self.runs(tmp_path, self.ONE, long.replace(b"x", b"xx", 1), self.TWO) if run.events
        ]

    @pytest.mark.parametrize(
        "damaged",
        [
            ONE.replace(b"\n", b"\r") + TWO,
            ONE.replace(b'"pad":""', b'"pad":"\xff"'),
            b"garbage\n",
            b'{"event_id":"i"}\n',
        ],
        ids=["carriage-return", "not-utf-8", "garbage", "fields"],
    )
    def test_damaged(self, damaged: bytes, tmp_path: Path) -> None:
        """A damaged line between events is told from them, with where it stands; so is one of two events without a newline."""
        starts = [0, len(self.ONE), len(self.ONE + damaged)]
        expected = [
            Run(0, starts[1], self.ONE, 1),
            Run(starts[1], starts[2], b"", 0),
            Run(starts[2], starts[2] + starts[1], self.TWO, 1),
        ]
        assert expected == self.runs(tmp_path, self.ONE, damaged, self.TWO)

    def test_incomplete(self, tmp_path: Path) -> None:
        """What has no newline yet is in no run, and neither are empty lines."""
        assert [Run(2, 2 + len(self.ONE), self.ONE, 1)] == self.runs(tmp_path, b"\n\n", self.ONE, self.TWO[:-1])

    def test_zeros(self, tmp_path: Path) -> None:
        """Of a line with zeros in it the events are found, and what is none beside them is damage, from the first byte on."""
        size = len(self.ONE) - 1
        assert [Run(0, 7, b"", 0)] == self.runs(tmp_path, b"x\0\0y\0z\n")
        assert [Run(0, 2, b"", 0), Run(2, 2 + size, self.ONE, 1)] == self.runs(tmp_path, b"x\0", self.ONE)
        assert [Run(0, size, self.ONE, 1), Run(size + 1, size + 3, b"", 0)] == self.runs(
            tmp_path, self.ONE[:-1], b"\0x\n"
        )


class TestInterrupted:
    def test_stale_size(self, spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
        """An interrupt between a write and its note, and a full disk later, cost no event that was stored."""
        writer = LiveWriter(spool.path, max_bytes=PLENTY)
        real = os.write
        writer.append(line(1))

        def interrupted(fd: int, data: bytes) -> int:
            real(fd, data)
            raise KeyboardInterrupt

        monkeypatch.setattr(os, "write", interrupted)
        with pytest.raises(KeyboardInterrupt):
            writer.append(line(2))
        monkeypatch.setattr(os, "write", real)
        writer.append(line(3))
        monkeypatch.setattr(os, "write", lambda fd, data: real(fd, data[:10]))
        with pytest.raises(SpoolUnwritable):
            writer.append(line(4))
        monkeypatch.setattr(os, "write", real)
        writer.append(line(5))
        writer.close()
        assert [1, 2, 3, 5] == sorted(spool.held())
        assert set() == writer._inside

    def test_cap_holds_for_writers_that_never_close(self, tool: Tool) -> None:
        """Long-lived writers that end without closing count against the cap, for each other and for `record`."""
        tool.home.mkdir()
        (tool.home / "config.toml").write_text('[spool]\nmax_bytes = "100KiB"\n')
        script = (
            "import os; from rillevents import Client; c = Client.from_config()\n"
            "for n in range(200): c.record('t', 'n', pad='x' * 1000)\n"
            "os._exit(0)"
        )
        for _ in range(4):
            subprocess.run([sys.executable, "-c", script], env=tool.environ, check=True, capture_output=True)
        held = sum(path.stat().st_size for path in tool.spool.glob("*-*.ndjson") if not path.name.startswith("tally"))
        assert 80_000 < held < 125_000
        assert 73 == tool("record", "behavioral", "x", "-a", "pad=" + "x" * 9000, "--on-error", "fail").returncode

    def test_what_killed_processes_left(self, spool: Spool) -> None:
        """Temporary files of killed processes are cleared away by the next flush."""
        for name in ("state.json.1-ab.tmp", "backlog.2-cd.tmp"):
            Path(spool.folder, name).write_bytes(b"x")
        spool.drain()
        assert [] == list(Path(spool.folder).glob("*.tmp"))

    def test_rejected_cap(self, spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
        """Over the cap of rejected/ the oldest events go, counted; the newest stay."""
        from rillevents.spool import quarantine

        monkeypatch.setattr(quarantine, "MAX_REJECTED_BYTES", 40_000)
        monkeypatch.setattr(quarantine, "MAX_FILE_BYTES", 10_000)
        for number in range(100):
            append(spool.folder, line(number, 1000), max_bytes=PLENTY)
        with Drain(spool.folder, batch_events=5) as drain:
            for batch in drain.batches():
                drain.commit(batch, [Rejected("r")] * len(batch.batch))
            lost = drain.enforce_caps()
        left = numbers([found.line for found in view.rejected(spool.path)])
        assert 100 == lost + len(left)
        assert list(range(100 - len(left), 100)) == left
        assert left
        assert (len(left), lost) == (load(spool.folder).counts["rejected"], load(spool.folder).dropped["rejected-full"])

    def test_outer_folder_of_others(self, spool: Spool) -> None:
        """A spool in a folder of somebody else's from which others can take it away is not used, but by root."""
        os.chmod(spool.path, 0o777)
        script = f"from rillevents.spool import check; check({spool.path!r})"
        if os.geteuid() == 0:
            os.chown(spool.path, 12346, 12346)
            os.chown(spool.folder, 12345, 12345)
            parent = Path(spool.path)
            while parent != Path("/tmp") and parent != Path("/"):
                os.chmod(parent, 0o777)
                parent = parent.parent
        words = ["setpriv", "--reuid=12345", "--regid=12345", "--clear-groups"] if os.geteuid() == 0 else []
        done = subprocess.run(
            [*words, sys.executable, "-c", script], capture_output=True, text=True, check=False, cwd="/"
        )
        assert "belongs to or is open to other users" in done.stderr
