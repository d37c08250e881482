"""The spool on a bad day: damaged files, strange files, vanishing files, full disks. What was acknowledged and is whole is delivered."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import Tool, need, only

from rillevents.delivery.flusher import Flusher
from rillevents.delivery.outcome import FlushResult, Kind, Outcome
from rillevents.errors import Busy
from rillevents.event import Event
from rillevents.event.batch import DELIVERED, UNSETTLED, Batch, LineVerdict, Rejected
from rillevents.event.envelope import is_event
from rillevents.spool import create, quarantine, tally, view
from rillevents.spool.drain import Drain
from rillevents.spool.live import LiveWriter
from rillevents.spool.maintenance import purge, retry
from rillevents.spool.slots import append
from rillevents.spool.state import load

from .test_spool_kills import memory

pytestmark = pytest.mark.unmeasured

PLENTY = 1 << 30
GARBAGE = b"garbage, not an event\n"
KNOWN = {"state.json", "flush.lock", "backlog", "rejected", "corrupt"}


def line(event_id: str, **attributes: Any) -> bytes:
    return Event("t", "n", attributes, event_id=event_id, event_time="2026-11-23T10:00:00Z").line


def ids(lines: Sequence[bytes]) -> list[str]:
    return [json.loads(text)["event_id"] for text in lines]


class Delivered:
    """What a flush has delivered, in its order, and by the file that it stood in."""

    def __init__(self) -> None:
        self.lines: list[bytes] = []
        self.pieces: dict[str, list[tuple[int, bytes]]] = {}


def drain(folder: Path, verdict: LineVerdict = DELIVERED, **how: Any) -> Delivered:
    """Give every event that verdict."""
    delivered = Delivered()
    with Drain(str(folder), **how) as flusher:
        for batch in flusher.batches():
            for entry in batch.entries:
                if entry.line:
                    delivered.lines.append(entry.line)
                    delivered.pieces.setdefault(entry.name, []).append((entry.end - len(entry.line), entry.line))
            flusher.commit(batch, [verdict] * len(batch.batch))
    return delivered


def left_over(folder: Path) -> set[str]:
    return set(os.listdir(folder)) - KNOWN


class Exporter:
    """A destination that takes everything but the events that are called bad."""

    def __init__(self) -> None:
        self.lines: list[bytes] = []

    def export(self, batch: Batch) -> Outcome:
        bad = tuple((n, "bad") for n, text in enumerate(batch.lines) if b'"bad"' in text)
        self.lines += [text for text in batch.lines if b'"bad"' not in text]
        return Outcome(Kind.ACCEPTED, rejected=bad)

    def close(self) -> None:
        return


def flush(spool: Path, exporter: Exporter) -> FlushResult:
    return Flusher(exporter).flush([str(spool)])


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder in memory where there is one: damage is synced to the disk, and here by the thousand."""
    with tempfile.TemporaryDirectory(dir=memory()) as folder:
        yield Path(folder)


@pytest.fixture
def folder(place: Path) -> Path:
    """The folder of a new spool."""
    return Path(create(str(place / "spool")))


def squeezed(data: bytes) -> bytes:
    """Return bytes without what separates events."""
    return data.replace(b"\n", b"").replace(b"\0", b"")


def check_all_there(folder: Path, delivered: Delivered, contents: dict[str, bytes]) -> None:
    """Check that every byte of the files was delivered or is in corrupt/, in its order, and that the damage was counted."""
    found = {name: list(pieces) for name, pieces in delivered.pieces.items()}
    corrupt = list((folder / "corrupt").glob("*"))
    for path in corrupt:
        name, _, start = path.name.rpartition("-")
        found.setdefault(name, []).append((int(start), path.read_bytes()))
    for name, content in contents.items():
        pieces = sorted(found.pop(name, []))
        assert squeezed(content) == squeezed(b"".join(text for _, text in pieces)), (name, content)
    assert {} == found
    assert len(corrupt) == load(str(folder)).counts["corrupt"]
    assert all(map(is_event, delivered.lines))
    assert set() == left_over(folder)


class TestFlippedBits:
    LINES = tuple(line(f"id-{number}", k=f"é @{number}") for number in range(3))
    WHOLE = b"".join(LINES)

    @pytest.mark.parametrize("damaged", range(3), ids=["first", "middle", "last"])
    def test_events(self, damaged: int, folder: Path) -> None:
        """Whichever bit of an event's line is flipped, its neighbours are delivered byte for byte, and it, or its pieces, are put aside."""
        first = sum(map(len, self.LINES[:damaged]))
        last = first + len(self.LINES[damaged])
        flips = {
            f"claim-{at:010}-{bit}.ndjson": flipped(self.WHOLE, at, bit)
            for at in range(first, last)
            for bit in range(8)
        }
        for name, content in flips.items():
            (folder / name).write_bytes(content)
        delivered = drain(folder)
        check_all_there(folder, delivered, flips)
        for name in flips:
            newline = int(name.split("-")[1]) == last - 1
            touched = {damaged, damaged + 1} if newline else {damaged}
            whole = [text for n, text in enumerate(self.LINES) if n not in touched]
            assert whole == [text for _, text in delivered.pieces.get(name, []) if text in whole], name

    @pytest.mark.slow
    def test_state(self, folder: Path) -> None:
        """Whatever is flipped or cut off in state.json, nothing fails and every event is delivered that was not before."""
        writer = LiveWriter(str(folder.parent), max_bytes=PLENTY)
        writer.append(line("before"))
        drain(folder)
        content = (folder / "state.json").read_bytes()
        tally.add(str(folder.parent), "truncated")
        writer.append(line("after"))
        files = {path: path.read_bytes() for path in folder.iterdir()}
        writer.close()
        for damaged in damages(content):
            for path, was in files.items():
                path.write_bytes(was)
            (folder / "state.json").write_bytes(damaged)
            assert view.ledger(str(folder.parent)), damaged
            delivered = ids(drain(folder).lines)
            assert delivered in (["after"], ["before", "after"]), damaged
            state = load(str(folder))
            assert min([*state.counts.values(), *state.dropped.values()]) >= 0, damaged

    def test_backlog(self, folder: Path) -> None:
        """Whatever is flipped or cut off in the note of the backlog, events are stored and delivered."""
        for damaged in damages(b"12345\n"):
            (folder / "backlog").write_bytes(damaged)
            append(str(folder), line("x"), max_bytes=PLENTY)
            assert ["x"] == ids(drain(folder).lines), damaged

    def test_tally(self, folder: Path) -> None:
        """Whatever is flipped or cut off in a file of counts, nothing fails, the other counts hold, and the file goes."""
        one, two = (
            json.dumps({"count": kind, "reason": "", "n": 1}).encode() + b"\n" for kind in ("truncated", "refused")
        )
        for damaged in damages(one):
            (folder / "state.json").unlink(missing_ok=True)
            (folder / "tally-0.ndjson").write_bytes(damaged + b"\n" + two)
            looked = view.ledger(str(folder.parent))
            drain(folder)
            counts = load(str(folder)).counts
            assert looked
            assert looked.counts == counts, damaged
            assert counts["refused"] >= 1, damaged
            assert set() == left_over(folder), damaged

    @pytest.mark.slow
    def test_rejected(self, folder: Path) -> None:
        """Whatever is flipped or cut off in rejected/, a retry brings back what is whole and puts the rest aside."""
        for event_id in ("one", "two"):
            append(str(folder), line(event_id), max_bytes=PLENTY)
        drain(folder, Rejected("because"))
        file = only(list((folder / "rejected").iterdir()))
        one, two = file.read_bytes().splitlines(keepends=True)
        for damaged in damages(one[:-1]):
            shutil.rmtree(folder / "corrupt", ignore_errors=True)
            file.write_bytes(damaged + b"\n" + two)
            assert ids([entry.line for entry in view.rejected(str(folder.parent))])[-1] == "two", damaged
            before = load(str(folder)).counts["corrupt"]
            retry(str(folder.parent))
            delivered = drain(folder).lines
            assert line("two") == delivered[-1], damaged
            corrupt = [path.read_bytes() for path in (folder / "corrupt").glob("*")]
            assert squeezed(event_part(damaged)) in squeezed(b"".join([*delivered, *corrupt])), damaged
            assert sum(text.count(b"\n") for text in corrupt) == load(str(folder)).counts["corrupt"] - before, damaged
            assert [] == list((folder / "rejected").iterdir()), damaged


def flipped(data: bytes, at: int, bit: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 1 << bit]) + data[at + 1 :]


def damages(data: bytes) -> Iterator[bytes]:
    """Yield *data* cut off at every byte, and with each of its bits flipped."""
    for at in range(len(data)):
        yield data[:at]
        for bit in range(8):
            yield flipped(data, at, bit)


def event_part(entry: bytes) -> bytes:
    """Return what is left of the event in an entry of rejected/."""
    _, _, event = entry.partition(b',"event":')
    return event.removesuffix(b"}")[:-1]


NAMES = ("slot-5.ndjson", "live-0.ndjson", "claim-1.ndjson", "done-2.ndjson")
ZEROS = st.sampled_from([1, 10, 4096]).map(lambda size: b"\0" * size)
DAMAGE = st.one_of(st.binary(max_size=200), ZEROS, st.just(line("torn")[:30]), st.just(line("whole")[:-1] + b"\0"))


class TestGarbage:
    @given(name=st.sampled_from(NAMES), content=st.binary(min_size=1, max_size=3000))
    @settings(deadline=None, max_examples=150, derandomize=True)
    def test_random_bytes(self, name: str, content: bytes) -> None:
        """Random bytes in a file's place are put aside to the last one, and an event beside them is delivered."""
        with tempfile.TemporaryDirectory(dir=memory()) as place:
            folder = Path(create(place))
            (folder / name).write_bytes(content)
            (folder / "live-x.ndjson").write_bytes(line("x"))
            view.contents(place)
            delivered = drain(folder)
            assert line("x") in delivered.lines
            claim = next((found for found in names_of(folder, delivered) if found.startswith("claim-0")), name)
            check_all_there(folder, delivered, {claim if "slot" in name else name: content, "live-x.ndjson": line("x")})

    @given(chunks=st.lists(st.one_of(DAMAGE, st.integers(0, 9)), max_size=12))
    @settings(deadline=None, max_examples=150, derandomize=True)
    def test_events_between(self, chunks: list[bytes | int]) -> None:
        """Events between whatever damage are delivered, each once and in their order."""
        events = [line(f"id-{chunk}") for chunk in chunks if isinstance(chunk, int)]
        content = b"".join(b"\n" + line(f"id-{chunk}") if isinstance(chunk, int) else chunk for chunk in chunks)
        with tempfile.TemporaryDirectory(dir=memory()) as place:
            folder = Path(create(place))
            (folder / "done-1.ndjson").write_bytes(content)
            delivered = drain(folder)
            check_all_there(folder, delivered, {"done-1.ndjson": content})
            assert events == [text for text in delivered.lines if text in events]

    @pytest.mark.parametrize("size", [1, 4096, 5 << 20], ids=["one", "page", "megabytes"])
    def test_zeros_where_a_newline_was(self, size: int, folder: Path) -> None:
        """Zeros that a loss of power left between two events, over the newline between them, cost neither of the two."""
        content = line("one")[:-1] + b"\0" * size + line("two") + line("three")
        (folder / "done-1.ndjson").write_bytes(content)
        found = drain(folder)
        assert ["one", "two", "three"] == ids(found.lines)
        check_all_there(folder, found, {"done-1.ndjson": content})

    def test_garbage_everywhere(self, tool: Tool) -> None:
        """Where every file that the spool keeps beside its events is garbage, events are recorded, shown and delivered all the same."""
        assert 0 == tool("record", "behavioral", "x").returncode
        for name in ("state.json", "backlog", "flush.lock", "tally-0.ndjson", "slot-9.ndjson", "claim-.ndjson"):
            (tool.spool / name).write_bytes(os.urandom(500).replace(b"\n", b"") + b"[" * 100_000 + b"\n")
        (tool.spool / "tally-1.ndjson").write_bytes(b'{"count": "truncated", "reason": "", "n": 1e999}\n')
        assert (0, "") == (tool("record", "behavioral", "y").returncode, tool("record", "behavioral", "y").stderr)
        assert 0 == tool("status").returncode
        destination = tool.home / "out"
        assert 0 == tool("flush", "--to", f"file:{destination}").returncode
        assert ["x", "y", "y"] == [json.loads(text)["event_name"] for text in destination.read_bytes().splitlines()]
        assert set() == left_over(tool.spool)
        assert 0 == tool("flush", "--to", f"file:{destination}").returncode


def names_of(folder: Path, delivered: Delivered) -> set[str]:
    """Return the names of the files that something came of."""
    return {*delivered.pieces, *(path.name.rpartition("-")[0] for path in (folder / "corrupt").glob("*"))}


PLACES = {
    "slot": ["slot-0.ndjson"],
    "all-slots": [f"slot-{number}.ndjson" for number in range(64)],
    "tally": ["tally-0.ndjson"],
    "live": ["live-0.ndjson"],
    "claim": ["claim-0.ndjson"],
    "done": ["done-0.ndjson"],
    "state": ["state.json"],
    "backlog": ["backlog"],
    "lock": ["flush.lock"],
    "rejected": ["rejected"],
    "corrupt": ["corrupt"],
}
KINDS = ("empty", "folder", "fifo", "socket", "link", "dangling", "link-to-folder")


def put(kind: str, path: Path, target: Path) -> None:
    """Put something there that is no file of ours."""
    if kind == "empty":
        path.touch()
    elif kind == "folder":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(path))
    else:
        path.symlink_to({"link": target / "precious.ndjson", "link-to-folder": target}.get(kind, target / "nowhere"))


def take_away(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


@pytest.fixture
def bounded() -> Iterator[None]:
    """Fail what hangs, wherever it hangs."""

    def give_up(number: int, frame: object) -> None:
        raise TimeoutError("it hangs")

    before = signal.signal(signal.SIGALRM, give_up)
    signal.alarm(60)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


class Home:
    """A home in memory, and an outside for links to lead to."""

    def __init__(self, place: Path) -> None:
        self.tool = Tool(place / "home")
        self.spool = place / "home" / "spool"
        self.folder = Path(create(str(self.spool)))
        self.outside = place / "outside"
        self.outside.mkdir()
        (self.outside / "precious.ndjson").write_bytes(line("precious"))

    def record(self, event_id: str) -> None:
        done = self.tool("record", "behavioral", "x", "--id", event_id, "--on-error", "fail", timeout=30)
        assert (0, "") == (done.returncode, done.stderr)

    def check_outside(self) -> None:
        assert ["precious.ndjson"] == os.listdir(self.outside)
        assert line("precious") == (self.outside / "precious.ndjson").read_bytes()


@pytest.fixture
def home(place: Path) -> Home:
    """A home with an empty spool."""
    return Home(place)


@pytest.mark.usefixtures("bounded")
class TestSomethingElseInThePlace:
    @pytest.mark.slow
    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize("where", PLACES)
    def test_of_a_file(self, where: str, kind: str, home: Home) -> None:
        """Whatever stands in a file's place, `record` stores, a flush delivers, nothing waits for it, and no link is followed."""
        for name in PLACES[where]:
            put(kind, home.folder / name, home.outside)
        home.record("first")
        for text in (GARBAGE, line("bad"), line("good")):
            append(str(home.folder), text, max_bytes=PLENTY)
        exporter = Exporter()
        result = flush(home.spool, exporter)
        assert {"first", "good"} == set(ids(exporter.lines))
        put_aside = where != "rejected" or kind == "folder"
        told = {"rejected"} if put_aside and where not in ("state", "corrupt") else {"temporary", "rejected"}
        assert result.outcome in told
        assert self.held(home) >= {line("bad"), GARBAGE}
        view.contents(str(home.spool))
        home.record("second")
        flush(home.spool, exporter)
        assert {"first", "good", "second"} == set(ids(exporter.lines))
        home.check_outside()

    @pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "folder"])
    @pytest.mark.parametrize("where", ["rejected", "corrupt"])
    def test_until_it_is_taken_away(self, where: str, kind: str, home: Home) -> None:
        """What cannot be put aside stays in the spool, and is put aside once it can be; retrying and purging follow no link."""
        put(kind, home.folder / where, home.outside)
        for text in (GARBAGE, line("bad"), line("good")):
            append(str(home.folder), text, max_bytes=PLENTY)
        flush(home.spool, Exporter())
        retry(str(home.spool))
        home.check_outside()
        flush(home.spool, Exporter())
        take_away(home.folder / where)
        flush(home.spool, Exporter())
        assert set() == left_over(home.folder)
        assert self.held(home) >= {line("bad"), GARBAGE}
        shutil.rmtree(home.folder / where, ignore_errors=True)
        put(kind, home.folder / where, home.outside)
        purge(str(home.spool))
        home.check_outside()

    @pytest.mark.parametrize("kind", KINDS)
    def test_among_what_was_put_aside(self, kind: str, home: Home) -> None:
        """Whatever stands among the files of rejected/ and corrupt/ stops no flush, no retry and no purge, and no link is followed."""
        for text in (GARBAGE, line("bad"), line("good")):
            append(str(home.folder), text, max_bytes=PLENTY)
        flush(home.spool, Exporter())
        for path in (home.folder / "rejected" / "0.ndjson", home.folder / "corrupt" / "0"):
            put(kind, path, home.outside)
        append(str(home.folder), line("next"), max_bytes=PLENTY)
        assert "delivered" == flush(home.spool, Exporter()).outcome
        assert 1 == view.contents(str(home.spool)).rejected
        assert 1 == retry(str(home.spool))
        assert [line("bad")] == list(view.pending(str(home.spool)))
        assert 1 == purge(str(home.spool))
        home.check_outside()

    @pytest.mark.parametrize("kind", KINDS)
    def test_one_flush_at_a_time(self, kind: str, home: Home) -> None:
        """Whatever stands in the place of the flusher's lock, a second flush is told that another one is running."""
        put(kind, home.folder / "flush.lock", home.outside)
        with Drain(str(home.folder)):
            with pytest.raises(Busy):
                Drain(str(home.folder)).acquire()
            append(str(home.folder), line("x"), max_bytes=PLENTY)
        assert ["x"] == ids(drain(home.folder).lines)

    def held(self, home: Home) -> set[bytes]:
        """Return what is rejected or damaged, or still waits where it cannot be put aside."""
        files = [path for path in [*home.folder.glob("*-*"), *home.folder.glob("corrupt/*")] if path.is_file()]
        lines = [text for path in files for text in path.read_bytes().splitlines(keepends=True)]
        return {*lines, *(entry.line for entry in view.rejected(str(home.spool)))}


def as_user(place: Path) -> list[str]:
    """Return the words before a command that run it as a user other than root, and give that user the place."""
    if os.geteuid() != 0:
        return []
    subprocess.run(["chown", "-R", "12345:12345", place], check=True)
    return [need("setpriv"), "--reuid=12345", "--regid=12345", "--clear-groups"]


class TestClosedFiles:
    @pytest.mark.slow
    @pytest.mark.parametrize("where", [*PLACES, "rejected-file"])
    def test_mode_0(self, where: str, place: Path) -> None:
        """A file or folder that even its owner may not open stops neither `record` nor `flush`, and is told."""
        home = Home(place)
        for text in (GARBAGE, line("bad"), line("good")):
            append(str(home.folder), text, max_bytes=PLENTY)
        (home.folder / "slot-0.ndjson").rename(home.folder / "claim-1.ndjson")
        self.close(home.folder, where)
        run = as_user(place)
        self.run(home, [*run, *home.tool.command("record", "behavioral", "x", "--on-error", "fail")], 0)
        code, said = self.run(home, [*run, *home.tool.command("flush", "--to", f"file:{place}/out")], None)
        assert {"good", "bad"} <= set(ids((place / "out").read_bytes().splitlines()))
        assert code == (0 if where in ("tally", "state", "backlog", "lock", "rejected-file") else 75), said
        assert "internal error" not in said
        self.run(home, [*run, *home.tool.command("status")], 0)

    def close(self, folder: Path, where: str) -> None:
        if where in ("rejected", "corrupt"):
            (folder / where).mkdir(mode=0)
        elif where == "rejected-file":
            (folder / "rejected").mkdir()
            (folder / "rejected" / "0.ndjson").touch(mode=0)
        else:
            for name in PLACES[where]:
                (folder / name).write_bytes(line("closed"))
                (folder / name).chmod(0)

    def run(self, home: Home, words: list[str | bytes], code: int | None) -> tuple[int, str]:
        done = subprocess.run(
            words, env=home.tool.environ, cwd="/", capture_output=True, text=True, timeout=60, check=False
        )
        assert code in (None, done.returncode), done.stderr
        return done.returncode, done.stderr


# Records until it has so many events acknowledged, in a file or in slots, and prints what was acknowledged.
WRITER = """
import sys
from rillevents import Client
from rillevents.event import Event
from rillevents.spool.slots import append
from rillevents.spool import create
name, spool, count, kind, step = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4], int(sys.argv[5])
client = Client.from_config(on_error="raise")
for number in range(count):
    event_id = f"{name}-{number}"
    size = 100 + number * step % 30_000
    if kind == "live":
        client.record("t", "n", event_id=event_id, pad="x" * size)
    else:
        append(create(spool), Event("t", "n", {"pad": "x" * size}, event_id=event_id).line, max_bytes=1 << 40)
    print(event_id)
"""
# Flushes to a file of its own until it is told to end.
FLUSHER = """
import sys, os
from rillevents.errors import Busy
from rillevents.delivery.exporters.file import FileExporter
from rillevents.delivery.flusher import Flusher
exporter = FileExporter(sys.argv[1])
while not os.path.exists(sys.argv[3]):
    try:
        Flusher(exporter, batch_events=50, wait=False).flush([sys.argv[2]])
    except Busy:
        continue
"""


def start(home: Home, script: str, *words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", script, *words], env=home.tool.environ, stdout=subprocess.PIPE, text=True, cwd="/"
    )


def ended(process: subprocess.Popen[str]) -> list[str]:
    """Wait for a process that has to end well, and return the lines that it has printed."""
    printed, _ = process.communicate(timeout=120)
    assert 0 == process.returncode
    return printed.splitlines()


class TestCrowd:
    @pytest.mark.slow
    def test_many_processes(self, home: Home) -> None:
        """Of 32 processes that record at once while a flush runs without a pause, every event is delivered, whole and once."""
        kinds = ["live" if number % 4 == 0 else "slots" for number in range(32)]
        writers = [
            start(home, WRITER, str(n), str(home.spool), "300", kind, str(97 * (n + 1))) for n, kind in enumerate(kinds)
        ]
        delivered: list[bytes] = []
        acknowledged: list[str] = []
        with ThreadPool(writers) as answers:
            while not answers.done():
                delivered += drain(home.folder, batch_events=100).lines
            acknowledged = answers.lines()
        delivered += drain(home.folder).lines
        assert 32 * 300 == len(acknowledged)
        assert Counter(acknowledged) == Counter(ids(delivered))
        assert {100 + number * 97 * (n + 1) % 30_000 for n in range(32) for number in range(300)} == {
            len(json.loads(text)["pad"]) for text in delivered
        }
        assert {} == load(str(home.folder)).dropped
        assert not (home.folder / "corrupt").exists()
        assert all(name.startswith("slot-") for name in left_over(home.folder))

    @pytest.mark.parametrize("name", ["flush.lock", "state.json", "backlog"])
    def test_deleted_again_and_again(self, name: str, home: Home, place: Path) -> None:
        """Where somebody deletes the lock, the state or the backlog again and again, or spoils it, four writers and three flushers lose nothing."""
        stop = place / "stop"
        flushers = [start(home, FLUSHER, str(place / f"out-{n}"), str(home.spool), str(stop)) for n in range(3)]
        writers = [
            start(home, WRITER, str(n), str(home.spool), "1500", "live" if n % 2 else "slots", "1") for n in range(4)
        ]
        with ThreadPool(writers) as answers:
            for number in range(1_000_000):
                if answers.done():
                    break
                (home.folder / name).unlink(missing_ok=True)
                if number % 3 == 0:
                    (home.folder / name).write_bytes(GARBAGE * 20)
                time.sleep(0.001)
            acknowledged = answers.lines()
        stop.touch()
        for flusher in flushers:
            ended(flusher)
        under_way = [text for path in place.glob("out-*") for text in path.read_bytes().splitlines()]
        delivered = under_way + drain(home.folder).lines
        assert under_way
        assert 6000 == len(acknowledged)
        assert set(acknowledged) == set(ids(delivered))
        assert all(name.startswith("slot-") for name in left_over(home.folder))

    def test_folder_deleted_under_way(self, home: Home) -> None:
        """A client whose spool is deleted again and again goes on recording, into a new one."""
        script = (
            "import sys\n"
            "from rillevents import Client\n"
            "client = Client.from_config()\n"
            "for number, told in enumerate(sys.stdin):\n"
            "    for more in range(20):\n"
            "        client.record('t', 'n', event_id=f'{number}-{more}')\n"
            "    print(number, flush=True)\n"
        )
        with subprocess.Popen(
            [sys.executable, "-c", script],
            env=home.tool.environ,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as client:
            assert client.stdin
            assert client.stdout
            assert client.stderr
            for _ in range(50):
                client.stdin.write("\n")
                client.stdin.flush()
                shutil.rmtree(home.spool, ignore_errors=True)
                client.stdout.readline()
            shutil.rmtree(home.spool, ignore_errors=True)
            client.stdin.write("\n")
            client.stdin.close()
            client.stdout.read()
            said = client.stderr.read()
        assert (0, False) == (client.returncode, "Traceback" in said)
        assert [f"50-{more}" for more in range(20)] == ids(drain(home.folder).lines)


class ThreadPool:
    """Reads what processes print, each in a thread, until all have ended."""

    def __init__(self, processes: Sequence[subprocess.Popen[str]]) -> None:
        self._found: list[list[str]] = []
        self._threads = [threading.Thread(target=self._read, args=(process,)) for process in processes]

    def _read(self, process: subprocess.Popen[str]) -> None:
        self._found.append(ended(process))

    def __enter__(self) -> ThreadPool:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        for thread in self._threads:
            thread.join()

    def done(self) -> bool:
        return not any(thread.is_alive() for thread in self._threads)

    def lines(self) -> list[str]:
        return [text for lines in self._found for text in lines]


class TestFromABackup:
    def test_copied(self, folder: Path, place: Path) -> None:
        """A spool that was copied and flushed twice delivers the same bytes twice."""
        for number in range(5):
            append(str(folder), line(str(number)), max_bytes=PLENTY)
        subprocess.run(["cp", "-a", folder.parent, place / "copy"], check=True)
        assert drain(folder).lines == drain(place / "copy" / "v1").lines == [line(str(number)) for number in range(5)]

    @pytest.mark.parametrize("state", ["old", "new", "none"])
    def test_restored(self, state: str, folder: Path, place: Path) -> None:
        """An older copy that is put back over a spool costs none of the events in it, nor those recorded later."""
        writer = LiveWriter(str(folder.parent), max_bytes=PLENTY)
        writer.append(line("old"))
        drain(folder, UNSETTLED)
        append(str(folder), line("older"), max_bytes=PLENTY)
        subprocess.run(["cp", "-a", folder.parent, place / "copy"], check=True)
        writer.append(line("lost with its file"))
        assert {"old", "older", "lost with its file"} == set(ids(drain(folder).lines))
        if state == "new":
            (place / "copy" / "v1" / "state.json").unlink()
        subprocess.run(["cp", "-a", f"{place}/copy/.", folder.parent], check=True)
        if state == "none":
            (folder / "state.json").unlink()
        writer.append(line("new"))
        append(str(folder), line("newer"), max_bytes=PLENTY)
        writer.close()
        delivered = drain(folder).lines
        assert {line(event_id) for event_id in ("old", "older", "new", "newer")} <= set(delivered)
        assert set() == left_over(folder)

    def test_recorded_twice(self, home: Home) -> None:
        """An event that a script records twice under one ID is delivered twice, byte for byte."""
        for _ in range(2):
            home.record("same")
        waiting = home.tool.lines()
        assert 2 == len(waiting)
        assert waiting == drain(home.folder).lines


class TestVanishing:
    def test_between_listing_and_reading(self, folder: Path) -> None:
        """A file that is gone by the time that it is its turn is passed over, and those after it are delivered."""
        for number in range(4):
            (folder / f"done-{number}.ndjson").write_bytes(line(str(number)))
        delivered = []
        with Drain(str(folder), batch_events=1) as flusher:
            for batch in flusher.batches():
                delivered += ids(batch.batch.lines)
                (folder / "done-2.ndjson").unlink(missing_ok=True)
                flusher.commit(batch, [DELIVERED] * len(batch.batch))
        assert (["0", "1", "3"], "") == (delivered, flusher.problem)
        assert set() == left_over(folder)

    def test_everything(self, folder: Path) -> None:
        """If the spool is deleted during a flush, that flush ends well, and the next one, too."""
        append(str(folder), line("x"), max_bytes=PLENTY)
        exporter = Exporter()
        real = exporter.export

        def export(batch: Batch) -> Outcome:
            shutil.rmtree(folder.parent)
            return real(batch)

        exporter.export = export  # type: ignore[method-assign]
        assert "temporary" == flush(folder.parent, exporter).outcome
        assert ["x"] == ids(exporter.lines)
        assert "empty" == flush(folder.parent, Exporter()).outcome


CLOCKS = {
    "zero": [0, 0, 0, 0],
    "far": [1 << 62] * 4,
    "back": [1 << 62, 1_800_000_000_000_000_000, 0, -5],
    "still": [1_800_000_000_000_000_000] * 4,
}


class TestClock:
    @pytest.mark.parametrize("clock", CLOCKS)
    def test_wrong(self, clock: str, folder: Path) -> None:
        """Whatever the clock shows, names never collide, and nothing is lost or delivered twice."""
        for number, now in enumerate(CLOCKS[clock]):
            for slot in range(3):
                (folder / f"slot-{slot}.ndjson").write_bytes(line(f"{number}-{slot}"))
            tally.add(str(folder.parent), "truncated")
            drain(folder, UNSETTLED, now_ns=lambda now=now: now)
        assert 12 == len(list(folder.glob("claim-*")))
        delivered = drain(folder, now_ns=lambda: CLOCKS[clock][-1]).lines
        assert [f"{number}-{slot}" for number in range(4) for slot in range(3)] == sorted(ids(delivered))
        assert (12, 4) == (load(str(folder)).counts["delivered"], load(str(folder)).counts["truncated"])
        assert set() == left_over(folder)


class TestOtherVersions:
    def test_left_alone(self, folder: Path) -> None:
        """What a newer version has written is left alone, in the folder, beside it and in state.json; what is known is delivered."""
        theirs = [folder.parent / "v2" / "slot-0.ndjson", folder / "sealed-1.ndjson", folder / "live-1.ndjson.zst"]
        theirs[0].parent.mkdir()
        for path in theirs:
            path.write_bytes(b"theirs\n")
        append(str(folder), line("one"), max_bytes=PLENTY)
        drain(folder)
        state = json.loads((folder / "state.json").read_bytes())
        more = {"sequence": 7, "shards": {"a": [1, None]}}
        (folder / "state.json").write_text(json.dumps(state | more | {"counts": state["counts"] | {"redacted": 3}}))
        tally.add(str(folder.parent), "redacted", n=2)
        append(str(folder), line("two"), max_bytes=PLENTY)
        assert ["two"] == ids(drain(folder).lines)
        state = json.loads((folder / "state.json").read_bytes())
        assert more.items() <= state.items()
        assert (2, 5) == (state["counts"]["delivered"], state["counts"]["redacted"])
        assert [b"theirs\n"] * 3 == [path.read_bytes() for path in theirs]


class TestLedger:
    def test_counts_that_are_gone(self, folder: Path) -> None:
        """Where the state was lost, or an event is in rejected/ twice, putting events back makes no count negative."""
        for _ in range(2):
            append(str(folder), line("x"), max_bytes=PLENTY)
            drain(folder, Rejected("no"))
        (folder / "state.json").unlink()
        assert 2 == retry(str(folder.parent))
        drain(folder)
        assert {"delivered": 2, "rejected": 0, "corrupt": 0, "truncated": 0, "refused": 0} == load(str(folder)).counts


class TestCaps:
    def test_corrupt(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Over the cap of corrupt/ the oldest pieces go, counted as dropped; the newest stay."""
        monkeypatch.setattr(quarantine, "MAX_CORRUPT_BYTES", 2_000)
        pieces = [b"%02d" % number + b"x" * 197 + b"\n" for number in range(20)]
        lost = 0
        for text in pieces:
            (folder / "done-1.ndjson").write_bytes(text + line("x"))
            (folder / "done-1.ndjson").rename(folder / f"done-{text[:2].decode()}.ndjson")
            lost += flush(folder.parent, Exporter()).dropped
        kept = {path.read_bytes() for path in (folder / "corrupt").iterdir()}
        assert set(pieces[-10:]) == kept
        state = load(str(folder))
        assert (10, 20, {"corrupt-full": 10}) == (lost, state.counts["corrupt"], state.dropped)


# Runs the tool within so much address space (0: without a bound), and prints the most that it has taken.
BOUNDED = """
import resource, sys
from rillevents.cli.app import run
limit = int(sys.argv[1])
if limit:
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
code = run(sys.argv[2:])
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmPeak")))
sys.exit(code)
"""


class TestManyFiles:
    @pytest.mark.slow
    def test_bounded_memory(self, tool: Tool) -> None:
        """Fifty thousand files of one event each are flushed in about the memory that ten of them take."""
        room = 16 << 20
        self.fill(tool, 10)
        peak = self.flush(tool, 0) * 1024
        self.fill(tool, 50_000)
        self.flush(tool, peak + room)
        assert 50_000 * 400 > room
        assert 50_010 == (tool.home / "out").read_bytes().count(b"\n")
        assert set() == left_over(tool.spool)

    def fill(self, tool: Tool, count: int) -> None:
        folder = create(tool.paths.spool_dir)
        for number in range(count):
            with open(f"{folder}/done-{number:06}.ndjson", "wb") as file:
                file.write(line(str(number), pad="x" * 400))

    def flush(self, tool: Tool, limit: int) -> int:
        words = [sys.executable, "-c", BOUNDED, str(limit), "flush", "-q", "--to", f"file:{tool.home}/out"]
        # One arena: whether a thread gets one of its own is chance, and each takes 64 MiB of address space.
        environ = tool.environ | {"MALLOC_ARENA_MAX": "1"}
        done = subprocess.run(words, env=environ, capture_output=True, text=True, timeout=120, check=False)
        assert 0 == done.returncode, done.stderr
        return int(done.stdout)


@contextmanager
def small_disk(place: Path, *how: str) -> Iterator[Path]:
    """Mount something small, and give it back."""
    if os.geteuid() != 0:
        pytest.skip("mounting a small file system needs root")
    disk = place / "disk"
    disk.mkdir()
    subprocess.run(["mount", *how, disk], check=True)
    try:
        yield disk
    finally:
        subprocess.run(["umount", disk], check=True)


@contextmanager
def few_inodes(place: Path) -> Iterator[Path]:
    """Mount a disk that has room for a handful of files, whatever their size."""
    image = place / "image"
    image.write_bytes(b"")
    os.truncate(image, 4 << 20)
    subprocess.run([need("mkfs.ext4"), "-q", "-N", "16", image], check=True, capture_output=True)
    with small_disk(place, "-o", "loop", str(image)) as disk:
        yield disk


def fill(folder: Path) -> None:
    """Make files until there is no room for another."""
    with pytest.raises(OSError, match="No space left"):
        for number in range(1000):
            (folder / f"filler-{number}").write_bytes(b"x" * 2048)


class TestFullDisk:
    def record(self, tool: Tool, disk: Path, event_id: str, size: int = 10) -> int:
        words = ["record", "behavioral", "x", "--id", event_id, "-a", "pad=" + "x" * size, "--on-error", "fail"]
        done = tool(*words, RILLEVENTS_SPOOL_DIR=f"{disk}/spool", RILLEVENTS_INSTALL_ID="i")
        assert (done.returncode == 73) == ("No space left on device" in done.stderr) == (done.stderr != ""), done
        return done.returncode

    def test_flushed(self, tool: Tool, place: Path) -> None:
        """A full disk stops no delivery: all events go out, damage is put aside whole, and then there is room again."""
        with small_disk(place, "-t", "tmpfs", "-o", "size=128k", "tmpfs") as disk:
            folder = Path(create(f"{disk}/spool"))
            (folder / "slot-1.ndjson").write_bytes(GARBAGE + line("x"))
            codes = [self.record(tool, disk, str(number), 9000) for number in range(16)]
            assert (0, 73) == (codes[0], codes[-1])
            fill(disk)
            stored = [str(number) for number, code in enumerate(codes) if code == 0]
            exporter = Exporter()
            flush(disk / "spool", exporter)
            assert [*stored, "x"] == ids(exporter.lines)
            assert set() == left_over(folder)
            assert GARBAGE in b"".join(path.read_bytes() for path in (folder / "corrupt").iterdir())
            for filler in disk.glob("filler-*"):
                filler.unlink()
            assert 0 == self.record(tool, disk, "later", 9000)
            assert ["later"] == ids(drain(folder).lines)

    def test_rejected_events_stay(self, tool: Tool, place: Path) -> None:
        """On a full disk a rejected event that cannot be put aside stays, what stands behind it is delivered, and it is put aside later."""
        with small_disk(place, "-t", "tmpfs", "-o", "size=128k", "tmpfs") as disk:
            folder = Path(create(f"{disk}/spool"))
            for event_id in ("one", "bad", "two", "three", "four"):
                append(str(folder), line(event_id), max_bytes=PLENTY)
            fill(disk)
            exporter = Exporter()
            result = Flusher(exporter, batch_events=2).flush([f"{disk}/spool"])
            assert (["one", "two", "three", "four"], "temporary") == (ids(exporter.lines), result.outcome)
            assert "No space left on device" in result.reason
            assert line("bad") in set(view.pending(f"{disk}/spool"))
            for filler in disk.glob("filler-*"):
                filler.unlink()
            assert "rejected" == flush(disk / "spool", exporter).outcome
            assert [line("bad")] == [entry.line for entry in view.rejected(f"{disk}/spool")]
            assert set() == left_over(folder)

    def test_counts_stay(self, place: Path) -> None:
        """On a full disk counts that cannot be saved in the ledger stay where they are, and are in it later, once."""
        with small_disk(place, "-t", "tmpfs", "-o", "size=128k", "tmpfs") as disk:
            folder = Path(create(f"{disk}/spool"))
            tally.add(f"{disk}/spool", "truncated", n=3)
            fill(disk)
            flush(disk / "spool", Exporter())
            found = view.ledger(f"{disk}/spool")
            assert found
            assert 3 == found.counts["truncated"]
            for filler in disk.glob("filler-*"):
                filler.unlink()
            for _ in range(2):
                flush(disk / "spool", Exporter())
                assert 3 == load(str(folder)).counts["truncated"]
            assert set() == left_over(folder)

    def test_no_inodes(self, tool: Tool, place: Path) -> None:
        """Where no file can be made any more, events still go into the slot that is there, and a flush delivers them."""
        with few_inodes(place) as disk:
            assert 0 == self.record(tool, disk, "one")
            fill(disk)
            assert 0 == self.record(tool, disk, "two")
            exporter = Exporter()
            flush(disk / "spool", exporter)
            assert ["one", "two"] == ids(exporter.lines)
            assert set() == left_over(disk / "spool" / "v1")
            (disk / "filler-0").unlink(missing_ok=True)
            assert 0 == self.record(tool, disk, "three")

    def test_no_inodes_at_all(self, tool: Tool, place: Path) -> None:
        """Where not even the spool's folder can be made, `record` says so, in one line."""
        with few_inodes(place) as disk:
            fill(disk)
            assert 73 == self.record(tool, disk, "one")


LIMITED = 'ulimit -f 1; exec "$@"'


class TestFileSizeLimit:
    def test_record(self, tool: Tool) -> None:
        """Over the limit for a file's size `record` is not killed: it says so, and what was stored before stays whole."""
        assert 0 == tool("record", "behavioral", "x", "--id", "one").returncode
        words = tool.command("record", "behavioral", "x", "--id", "two", "-a", "pad=" + "x" * 9000)
        for mode, code in (("fail", 73), ("warn", 0)):
            done = self.limited(tool, *words, "--on-error", mode)
            assert (code, 1) == (done.returncode, done.stderr.count("\n"))
            assert "not recorded" in done.stderr
        assert 0 == tool("record", "behavioral", "x", "--id", "three").returncode
        assert ["one", "three"] == [event["event_id"] for event in tool.events()]
        assert ["one", "three"] == ids(drain(tool.spool).lines)

    def test_flush(self, tool: Tool) -> None:
        """Over that limit a flush is not killed either: what it cannot write is told, and everything is kept or delivered."""
        for number in range(10):
            tool("record", "behavioral", "x", "--id", str(number), "-a", "pad=" + "x" * 500)
        waiting = tool.lines()
        done = self.limited(tool, *tool.command("flush", "--timeout", "0.5", "--to", f"file:{tool.home}/out"))
        assert 75 == done.returncode
        assert waiting == tool.lines()
        assert 0 == tool("flush", "--to", f"file:{tool.home}/out").returncode
        assert b"".join(waiting) == (tool.home / "out").read_bytes()

    def limited(self, tool: Tool, *words: str | bytes) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["sh", "-c", LIMITED, "sh", *words],
            env=tool.environ,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )


def test_garbage_with_zeros_everywhere(tool: Tool) -> None:
    """More than a block of garbage with zeros in it, and no newline, is put aside in few pieces, and blocks nothing."""
    tool("record", "behavioral", "x")
    (tool.spool / f"done-{1:020}-0123456789abcdef.ndjson").write_bytes(b"x\0" * 1_500_000 + b"\n")
    done = tool("flush", "--timeout", "20", "--to", f"file:{tool.home}/out.ndjson")
    assert 0 == done.returncode, done.stderr
    assert 1 == len((tool.home / "out.ndjson").read_bytes().splitlines())
    assert len(list((tool.spool / "corrupt").iterdir())) < 10


def test_a_damaged_memory_of_the_last_flush(tool: Tool) -> None:
    """Whatever stands in the place of the last flush's result, `status` shows the rest."""
    tool("record", "behavioral", "x")
    tool("flush", "--to", f"file:{tool.home}/out.ndjson")
    state = json.loads((tool.spool / "state.json").read_text())
    for last in ({"at": 5}, {"at": "2026", "delivered": "x", "seconds": None, "outcome": 7}, {}, {"at": "2026"}):
        (tool.spool / "state.json").write_text(json.dumps(state | {"last_flush": last}))
        assert 0 == tool("status").returncode
        assert 1 == tool.json("status")["ledger"]["delivered"]
