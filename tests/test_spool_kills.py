"""A kill, or an error, at every system call of whatever touches the spool, and the order in which it syncs what it promises to keep."""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import cycle
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from support import need, only

from rillevents.event import Event
from rillevents.event.batch import DELIVERED, Rejected
from rillevents.spool import create, tally, view
from rillevents.spool.drain import Drain
from rillevents.spool.live import LiveWriter
from rillevents.spool.slots import append
from rillevents.spool.state import State

from .faults.socket_server import Connection, FaultServer

pytestmark = pytest.mark.unmeasured

PLENTY = 1 << 30
# One interpreter that has imported everything, and forks a process for each command: a new interpreter for each
# of a thousand kills would take ten minutes, and its start is nothing that touches the spool.
STARTER = """
import ctypes, json, os, signal, sys
from rillevents.cli import main
from rillevents.cli.app import run

def become(words, environ, output):
    os.environ.clear()
    os.environ.update(environ)
    out, null = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), os.open(os.devnull, os.O_RDONLY)
    for old, new in ((null, 0), (out, 1), (out, 2)):
        os.dup2(old, new)
    os.close(out), os.close(null)
    sys.argv = ["rillevents", *words]

def start(words, environ, output, stop):
    child = os.fork()
    if child == 0:
        become(words, environ, output)
        if stop:
            # Our parent may trace us, even where Yama restricts tracing: PR_SET_PTRACER, any process.
            ctypes.CDLL(None).prctl(0x59616D61, ctypes.c_ulong(-1), 0, 0, 0)
            os.kill(os.getpid(), signal.SIGSTOP)
        main()
    return child

def tell(answer):
    os.write(answers, f"{answer}\\n".encode())

# The streams themselves are given to each command in turn.
asked, answers = os.fdopen(os.dup(0)), os.dup(1)
for line in asked:
    words, environ, output, stop = json.loads(line)
    if stop is None:
        become(words, environ, output)
        tell(run(words))
        continue
    child = start(words, environ, output, stop)
    if stop:
        os.waitpid(child, os.WUNTRACED)
    tell(child)
    tell(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


class Call(NamedTuple):
    """A system call: of which thread (numbered by their first call), which one of its name there, and as strace shows it."""

    thread: int
    name: str
    number: int
    text: str


class Ended(NamedTuple):
    """A process that has ended: how, what it said, and what it asked of the system."""

    code: int
    said: str
    calls: list[Call]


class Starter:
    """Runs commands of the tool, under strace if asked for: then from the first line of its `main` on."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.home = folder / "home"
        environ = {key: value for key, value in os.environ.items() if not key.startswith("RILLEVENTS_")}
        self.environ = environ | {"HOME": str(folder), "RILLEVENTS_HOME": str(self.home), "NO_PROXY": "*"}
        self._process = subprocess.Popen(
            [sys.executable, "-c", STARTER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=folder
        )
        for words in (
            ["record", "behavioral", "warm"],
            ["flush", "--timeout", "0.5", "--to", "http://127.0.0.1:9/"],
            ["flush", "--to", f"file:{folder}/warm"],
            ["spool", "retry"],
            ["spool", "purge"],
        ):
            self._ask(words, {}, None)
            self._answer()
        shutil.rmtree(self.home)

    def close(self) -> None:
        self._process.communicate()

    def __call__(self, *words: str, **environ: str) -> Ended:
        """Run a command to its end."""
        self._ask(words, environ, False)
        self._answer()
        return Ended(self._answer(), self._said(), [])

    def traced(
        self,
        *words: str,
        inject: str = "",
        meanwhile: Callable[[], object] | None = None,
        about: str = "",
        **environ: str,
    ) -> Ended:
        """Run a command to its end under strace; *inject* is what to do to it.

        *meanwhile* is called once it has made a call *about* something.
        """
        self._ask(words, environ, True)
        child = self._answer()
        log = self.folder / "trace"
        log.write_bytes(b"")
        options = ["-f", "-y", "-s", "400", "-o", str(log), "-p", str(child)]
        if inject:
            options += ["-e", f"inject={inject}"]
        tracing = subprocess.Popen([need("strace"), *options], stderr=subprocess.PIPE, text=True)
        assert tracing.stderr
        said = tracing.stderr.readline()
        assert "attached" in said, said
        os.kill(child, signal.SIGCONT)
        if meanwhile:
            while about not in log.read_text("utf-8", "replace"):
                time.sleep(0.01)
            meanwhile()
        code = self._answer()
        tracing.communicate()
        return Ended(code, self._said(), parse(log.read_text("utf-8", "replace")))

    def kill(self, call: Call, *words: str, **environ: str) -> None:
        """Run a command again that has shown its calls before, and kill it right before *call*."""
        done = self.traced(*words, inject=f"{call.name}:signal=KILL:when={call.number}", **environ)
        assert -signal.SIGKILL == done.code, call
        unfinished = [shape(last) for last in done.calls if last.text.endswith(("= ?", "<unfinished ...>"))]
        assert shape(call) in unfinished, call

    def _ask(self, words: Sequence[str], environ: Mapping[str, str], stop: bool | None) -> None:
        assert self._process.stdin
        self._process.stdin.write(json.dumps([words, self.environ | environ, str(self.folder / "said"), stop]) + "\n")
        self._process.stdin.flush()

    def _answer(self) -> int:
        assert self._process.stdout
        return int(self._process.stdout.readline())

    def _said(self) -> str:
        return (self.folder / "said").read_text("utf-8", "backslashreplace")


def parse(log: str) -> list[Call]:
    """Return the calls of a log of `strace -f`, in the order in which they began."""
    threads: dict[str, int] = {}
    counts: dict[tuple[int, str], int] = {}
    calls = []
    for line in log.splitlines():
        found = re.match(r"(\d+) +(\w+)\(", line)
        if found:
            thread = threads.setdefault(found[1], len(threads))
            number = counts[thread, found[2]] = counts.get((thread, found[2]), 0) + 1
            calls.append(Call(thread, found[2], number, line))
    return calls


# What changes something, or learns something that others may change; a look at a file's size is no step of its own.
STRUCK = {
    *("openat", "read", "pread64", "flock", "exit_group"),
    *("mkdir", "write", "fchmod", "ftruncate", "link", "rename", "unlink", "fdatasync", "fsync"),
    *("socket", "connect", "sendto", "recvfrom"),
}


def strikes(calls: Sequence[Call], home: Path, *more: str) -> list[Call]:
    """Return the calls that concern the home folder or a socket, and the last one, as the points to strike at."""
    concerned = re.compile(re.escape(str(home)) + r"|<socket:|<TCP:|socket\(AF_INET|exit_group")
    # By name and number: strace strikes in the thread that comes to that number first.
    found = {
        call[1:3]: call for call in reversed(calls) if call.name in STRUCK.union(more) and concerned.search(call.text)
    }
    return sorted(found.values(), key=calls.index)


def shape(call: Call) -> list[str]:
    """Return what a call is and what it is about, without what differs from run to run: numbers, random names."""
    asked = re.sub(" = [^=]*$", "", call.text)
    return [call.name, *(re.sub(r"[0-9a-f]+", "#", found) for found in re.findall(r'/home[^>"]*|<socket:', asked))]


def memory() -> str | None:
    """Return a folder in memory for temporary files, so that what is synced costs no time; None where there is no roomy one."""
    folder = "/dev/shm"
    roomy = os.access(folder, os.W_OK) and shutil.disk_usage(folder).free > 1 << 30
    return folder if roomy else None


@pytest.fixture(scope="module")
def starter() -> Iterator[Starter]:
    """Something that starts the tool's commands quickly."""
    need("strace")
    with tempfile.TemporaryDirectory(dir=memory()) as folder:
        starter = Starter(Path(folder))
        yield starter
        starter.close()


@pytest.fixture
def home(starter: Starter) -> Iterator[Path]:
    """The starter's home, empty before and after."""
    shutil.rmtree(starter.home, ignore_errors=True)
    yield starter.home
    shutil.rmtree(starter.home, ignore_errors=True)


def line(event_id: str, **attributes: Any) -> bytes:
    return Event("t", event_id, attributes, event_id=event_id, event_time="2026-11-23T10:00:00Z").line


def ids(lines: Sequence[bytes]) -> list[str]:
    return [json.loads(text)["event_id"] for text in lines]


def spool_of(home: Path) -> str:
    return str(home / "spool")


def drain(home: Path) -> list[bytes]:
    """Deliver everything, and return what was delivered."""
    delivered: list[bytes] = []
    with Drain(create(spool_of(home))) as flusher:
        for batch in flusher.batches():
            delivered += batch.batch.lines
            flusher.commit(batch, [DELIVERED] * len(batch.batch))
    return delivered


def ledger(home: Path) -> State:
    found = view.ledger(spool_of(home))
    assert found
    return found


def kept(home: Path, folder: str) -> bytes:
    """Return all that is in rejected/ or corrupt/."""
    return b"".join(path.read_bytes() for path in sorted((home / "spool/v1" / folder).glob("*")))


def left_over(home: Path) -> set[str]:
    """Return the files of the spool that should not be there once everything is delivered."""
    return set(os.listdir(home / "spool/v1")) - {"state.json", "flush.lock", "backlog", "rejected", "corrupt"}


@contextmanager
def no_free_slot(home: Path) -> Iterator[None]:
    """Hold the locks of all slots."""
    folder = create(spool_of(home))
    held = [os.open(f"{folder}/slot-{number}.ndjson", os.O_RDWR | os.O_CREAT, 0o600) for number in range(64)]
    try:
        for fd in held:
            fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        for fd in held:
            os.close(fd)


def prepare_nothing(home: Path) -> None:
    return


def prepare_one(home: Path) -> None:
    append(create(spool_of(home)), line("earlier"), max_bytes=PLENTY)


def prepare_torn(home: Path) -> None:
    prepare_one(home)
    with open(home / "spool/v1/slot-0.ndjson", "ab") as file:
        file.write(line("torn")[:40])


class Recording(NamedTuple):
    """A way to record: what was there before, the words after the name, and how many damaged lines there are."""

    prepare: Callable[[Path], None]
    words: tuple[str, ...] = ()
    corrupt: int = 0


RECORDINGS = {
    "first-ever": Recording(prepare_nothing),
    "second": Recording(prepare_one),
    "durable": Recording(prepare_nothing, ("--durable",)),
    "torn-tail": Recording(prepare_torn, corrupt=1),
    "truncated": Recording(prepare_one, ("-a", "k=" + "v" * 40_000)),
}


class TestRecord:
    @pytest.mark.slow
    @pytest.mark.parametrize("kind", RECORDINGS)
    def test_killed_anywhere(self, kind: str, starter: Starter, home: Path) -> None:
        """Killed before any of its system calls, `record` costs no event but its own, and the next one is stored and delivered."""
        how = RECORDINGS[kind]
        words = ("record", "behavioral", "killed", "--id", "killed", *how.words)
        how.prepare(home)
        calls = starter.traced(*words).calls
        written = next(n for n, call in enumerate(calls) if call.name == "write" and '"event_id\\":' in call.text)
        counted = next(
            (n for n, call in enumerate(calls) if call.name == "write" and '\\"count\\"' in call.text), len(calls)
        )
        points = strikes(calls, home, "close", "newfstatat")
        assert {"openat", "flock", "write", "close", "exit_group"} <= {call.name for call in points}
        for call in points:
            shutil.rmtree(home)
            how.prepare(home)
            starter.kill(call, *words)
            self.check_next(starter, home, how, call, stored=calls.index(call) > written)
            assert ledger(home).counts["truncated"] == (calls.index(call) > counted), call

    def test_killed_with_a_file_of_its_own(self, starter: Starter, home: Path) -> None:
        """Where no slot is free a killed `record` leaves a whole file or one that the next flush clears away."""
        words = ("record", "behavioral", "killed", "--id", "killed")
        starter(*words)
        drain(home)
        with no_free_slot(home):
            calls = starter.traced(*words).calls
            points = [call for call in strikes(calls, home, "close") if re.search("/tmp-|/done-|backlog", call.text)]
            assert {"openat", "write", "rename"} <= {call.name for call in points}
            renamed = next(n for n, call in enumerate(calls) if call.name == "rename" and "/done-" in call.text)
            drain(home)
            for call in points:
                starter.kill(call, *words)
                assert ["killed"] * (calls.index(call) > renamed) == ids(drain(home)), call
                assert {"slot-"} == {name[:5] for name in left_over(home)}, call

    def check_next(self, starter: Starter, home: Path, how: Recording, call: Call, *, stored: bool) -> None:
        """Record another event, and check that what was acknowledged is delivered, and the damage counted."""
        done = starter("record", "behavioral", "next", "--id", "next")
        assert (0, "") == (done.code, done.said), call
        delivered = drain(home)
        expected = ["earlier"] * (how.prepare is not prepare_nothing) + ["killed"] * stored + ["next"]
        assert expected == ids(delivered), call
        identities = {json.loads(text).get("install_id") for text in delivered} - {None}
        assert identities <= {(home / "install_id").read_text().strip()}, call
        assert (how.corrupt, set()) == (ledger(home).counts["corrupt"], left_over(home)), call


# The slot is the first file that is written to, where the install ID is given.
FIRST_WRITE = {"RILLEVENTS_INSTALL_ID": "given"}
SLOT = "slot-0.ndjson>"
DAWDLE = "{}:delay_enter=600ms:when=1"


class TestBetween:
    """What others do to a slot between two calls of a writer, which is made to dawdle there."""

    @pytest.mark.parametrize("call", ["flock", "write"])
    def test_flushed(self, call: str, starter: Starter, home: Path) -> None:
        """A slot that a flush takes between a writer's opening, locking and writing costs neither its events nor the writer's."""
        prepare_one(home)
        delivered: list[bytes] = []
        words = ("record", "behavioral", "x", "--id", "x")
        done = starter.traced(
            *words,
            inject=DAWDLE.format(call),
            meanwhile=lambda: delivered.extend(drain(home)),
            about=SLOT,
            **FIRST_WRITE,
        )
        assert (0, "") == (done.code, done.said)
        assert ["earlier", "x"] == ids([*delivered, *drain(home)])
        assert set() == left_over(home)

    @pytest.mark.parametrize("call", ["flock", "write"])
    def test_deleted(self, call: str, starter: Starter, home: Path) -> None:
        """A slot that somebody deletes, or replaces by another file, under the writer's hands does not take the event with it."""
        prepare_one(home)
        slot = home / "spool/v1/slot-0.ndjson"

        def replace() -> None:
            slot.unlink()
            slot.write_bytes(line("theirs"))

        words = ("record", "behavioral", "x", "--id", "x")
        assert (
            0 == starter.traced(*words, inject=DAWDLE.format(call), meanwhile=replace, about=SLOT, **FIRST_WRITE).code
        )
        assert ["theirs", "x"] == ids(drain(home))

    def test_moved_away(self, starter: Starter, home: Path) -> None:
        """A slot that somebody moves out of the spool before the writer has locked it is not the one that is written to."""
        prepare_one(home)
        slot = home / "spool/v1/slot-0.ndjson"
        words = ("record", "behavioral", "x", "--id", "x")
        starter.traced(
            *words, inject=DAWDLE.format("flock"), meanwhile=lambda: slot.rename(home / "backup"), about=SLOT
        )
        assert ["x"] == ids(drain(home))
        assert line("earlier") == (home / "backup").read_bytes()

    def test_cleared_away(self, starter: Starter, home: Path) -> None:
        """A file of its own that a flush takes for a killed process's before it has its name is written once more."""
        prepare_one(home)
        drain(home)
        words = ("record", "behavioral", "x", "--id", "x")
        with no_free_slot(home):
            flush = {"meanwhile": lambda: drain(home), "about": "tmp-done-"}
            done = starter.traced(*words, inject=DAWDLE.format("rename"), **flush, **FIRST_WRITE)  # type: ignore[arg-type]
        renames = [call for call in done.calls if call.name == "rename" and "/done-" in call.text]
        assert (0, "", 2) == (done.code, done.said, len(renames))
        assert ["x"] == ids(drain(home))


GARBAGE = b"garbage, not an event\n"
BATCHES = "[flush]\nbatch_events = 5\n"


def prepare_everything(home: Path) -> list[bytes]:
    """Make a spool that gives a flush everything to do, and return the events that it holds."""
    folder = create(spool_of(home))
    (home / "config.toml").write_text(BATCHES)
    writer = LiveWriter(spool_of(home), max_bytes=PLENTY)
    writer.append(line("sent-before"))
    assert ["sent-before"] == ids(drain(home))
    lines = [line(f"good-{number}", pad="é" * number) for number in range(7)]
    for text in lines[:2]:
        writer.append(text)
    with open(only(list(Path(folder).glob("live-*"))), "ab") as file:
        file.write(line("torn")[:50])
    writer.close()
    append(folder, lines[2], max_bytes=PLENTY)
    append(folder, GARBAGE, max_bytes=PLENTY)
    append(folder, lines[3], max_bytes=PLENTY)
    (home / "spool/v1/slot-1.ndjson").write_bytes(line("bad") + b"".join(lines[4:]))
    tally.add(spool_of(home), "truncated")
    tally.add(spool_of(home), "dropped", "filter", 5)
    return lines


def prepare_rejected(home: Path, name: str) -> None:
    """Leave an event in a file of its own in rejected/."""
    append(create(spool_of(home)), line(name), max_bytes=PLENTY)
    with Drain(create(spool_of(home))) as flusher:
        for batch in flusher.batches():
            flusher.commit(batch, [Rejected("no")] * len(batch.batch))


class Intake(FaultServer):
    """An intake that refuses by its name each event that is called bad; it says so in one piece, so that each run reads alike."""

    def __init__(self) -> None:
        super().__init__(self.answer)
        self.taken: list[tuple[str, bytes]] = []

    def answer(self, connection: Connection) -> None:
        while request := connection.read_request():
            head, _, body = request.partition(b"\r\n\r\n")
            path, lines = head.split()[1].decode(), body.splitlines(keepends=True)
            self.taken += [(path, text) for text in lines if b'"bad"' not in text]
            bad = [{"line": number, "reason": "bad"} for number, text in enumerate(lines, 1) if b'"bad"' in text]
            said = json.dumps({"rejected": bad}).encode()
            connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(said), said))

    def delivered(self, path: str) -> set[bytes]:
        """Return the lines that it has taken at a path."""
        return {text for where, text in self.taken if where == path}

    def at(self, path: str) -> dict[str, str]:
        """Return the environment that makes a flush go to a path of its own."""
        return {"RILLEVENTS_INTAKE_URL": f"http://127.0.0.1:{self.port}{path}"}


def check_nothing_gone(home: Path, delivered: set[bytes], lines: Sequence[bytes], call: Call) -> None:
    """Check that each event is somewhere at every moment, and damage too."""
    pending = list(view.pending(spool_of(home)))
    rejected = [entry.line for entry in view.rejected(spool_of(home))]
    assert set(lines) <= {*pending, *delivered}, call
    assert line("bad") in [*pending, *rejected], call
    held = b"".join(path.read_bytes() for path in (home / "spool/v1").glob("*-*"))
    assert GARBAGE in held + kept(home, "corrupt"), call
    assert line("torn")[:50] in held + kept(home, "corrupt"), call


class TestFlush:
    @pytest.mark.slow
    def test_killed_anywhere(self, starter: Starter, home: Path, tmp_path: Path) -> None:
        """Killed before any of its system calls, a flush loses nothing, counts nothing twice, and the next one completes."""
        lines = prepare_everything(home)
        template = shutil.copytree(home, tmp_path / "template")
        with Intake() as intake:
            shown = starter.traced("flush", **intake.at("/events/shown"))
            assert 65 == shown.code, shown.said
            points = strikes(shown.calls, home)
            names = {
                "sendto",
                "recvfrom",
                "rename",
                "unlink",
                "fdatasync",
                "fsync",
                "flock",
                "write",
                "mkdir",
                "connect",
            }
            assert names <= {call.name for call in points}
            for number, call in enumerate(points):
                shutil.rmtree(home)
                shutil.copytree(template, home)
                path = f"/events/{number}"
                starter.kill(call, "flush", **intake.at(path))
                check_nothing_gone(home, intake.delivered(path), lines, call)
                done = starter("flush", "--json", "-q", **intake.at(path))
                assert (done.code, json.loads(done.said)["pending"]) in [(0, 0), (65, 0)], (call, done.said)
                assert set(lines) == intake.delivered(path), call
                self.check_ledger(home, call)
                assert set() == left_over(home), call

    @pytest.mark.slow
    @pytest.mark.parametrize("words", [("spool", "retry"), ("spool", "purge")], ids=["retry", "purge"])
    def test_rejected_events(self, words: tuple[str, ...], starter: Starter, home: Path, tmp_path: Path) -> None:
        """Killed before any of their system calls, `spool retry` loses no event, and `spool purge` completes when it is run again."""
        for name in ("one", "two"):
            prepare_rejected(home, name)
        append(create(spool_of(home)), line("waiting"), max_bytes=PLENTY)
        template = shutil.copytree(home, tmp_path / "template")
        points = strikes(starter.traced(*words).calls, home)
        assert {"rename", "unlink", "write"} <= {call.name for call in points}
        for call in points:
            shutil.rmtree(home)
            shutil.copytree(template, home)
            starter.kill(call, *words)
            found = {entry.line for entry in view.rejected(spool_of(home))} | set(view.pending(spool_of(home)))
            if "retry" in words:
                assert {line("one"), line("two"), line("waiting")} == found, call
            assert 0 == starter(*words).code, call
            expected = {"one", "two", "waiting"} if "retry" in words else set()
            assert (expected, b"") == (set(ids(drain(home))), kept(home, "rejected")), call
            assert set() == left_over(home), call
            assert min([*ledger(home).counts.values(), *ledger(home).dropped.values()]) >= 0, call

    def check_ledger(self, home: Path, call: Call) -> None:
        counts = ledger(home).counts
        assert {"delivered": 8, "rejected": 1, "corrupt": 2, "truncated": 1, "refused": 0} == counts, call
        assert {"filter": 5} == ledger(home).dropped, call
        assert sorted([GARBAGE, line("torn")[:50]]) == sorted(
            path.read_bytes() for path in (home / "spool/v1/corrupt").iterdir()
        ), call
        assert {line("bad")} == {entry.line for entry in view.rejected(spool_of(home))}, call


# What a disk that is full, over its quota or broken says to each call.
ERRORS = {
    "openat": ["ENOSPC"],
    "mkdir": ["ENOSPC"],
    "read": ["EIO"],
    "pread64": ["EIO"],
    "getdents64": ["EIO"],
    "write": ["ENOSPC", "EDQUOT", "EIO"],
    "fdatasync": ["EIO"],
    "fsync": ["EIO"],
    "close": ["EIO"],
    "rename": ["ENOSPC", "EIO"],
    "unlink": ["EIO"],
}


def failures(calls: Sequence[Call], home: Path) -> list[tuple[Call, str]]:
    """Return the calls that concern the spool, each with an error that it may get, the possible ones in turn.

    Of those that do the same to the same file the first two: a folder is listed eight times by one function.
    """
    turns = {name: cycle(errors) for name, errors in ERRORS.items()}
    seen: Counter[tuple[str, ...]] = Counter()
    found = []
    for call in strikes(calls, home / "spool", *ERRORS):
        seen[tuple(shape(call))] += 1
        if call.name in ERRORS and "<socket:" not in call.text and seen[tuple(shape(call))] <= 2:
            found.append((call, next(turns[call.name])))
    return found


class TestErrors:
    @pytest.mark.parametrize("kind", ["first-ever", "durable", "torn-tail"])
    def test_record(self, kind: str, starter: Starter, home: Path) -> None:
        """Whichever of its system calls fails, `record` has stored its event or says in one line that it has not; nothing else is harmed."""
        how = RECORDINGS[kind]
        words = ("record", "behavioral", "x", "--id", "failed", *how.words)
        how.prepare(home)
        found = failures(starter.traced(*words).calls, home)
        assert {"openat", "write", "close"} <= {call.name for call, _ in found}
        for call, error in found:
            for mode, code in (("fail", 73), ("warn", 0)):
                shutil.rmtree(home)
                how.prepare(home)
                inject = f"{call.name}:error={error}:when={call.number}"
                done = starter.traced(*words, "--on-error", mode, inject=inject)
                told = "not recorded" in done.said
                assert (code if told else 0, int(told)) == (done.code, done.said.count("\n")), (call, error, done.said)
                assert 0 == starter("record", "behavioral", "x", "--id", "next").code
                delivered = set(ids(drain(home)))
                assert delivered - {"failed"} == {"next", *["earlier"] * (how.prepare is not prepare_nothing)}, call
                assert told or "failed" in delivered, (call, error)
                assert (how.corrupt, set()) == (ledger(home).counts["corrupt"], left_over(home)), (call, error)

    @pytest.mark.slow
    def test_flush(self, starter: Starter, home: Path, tmp_path: Path) -> None:
        """Whichever of its system calls fails, a flush loses nothing, ends with a code that says so, and the next one completes."""
        lines = prepare_everything(home)
        (home / "config.toml").unlink()
        template = shutil.copytree(home, tmp_path / "template")
        with Intake() as intake:
            shown = starter.traced("flush", **intake.at("/events/shown"))
            for number, (call, error) in enumerate(failures(shown.calls, home)):
                shutil.rmtree(home)
                shutil.copytree(template, home)
                path = f"/events/{number}"
                inject = f"{call.name}:error={error}:when={call.number}"
                done = starter.traced("flush", inject=inject, **intake.at(path))
                assert done.code in (0, 65, 73, 75), (call, error, done.said)
                assert "internal error" not in done.said, (call, error)
                check_nothing_gone(home, intake.delivered(path), lines, call)
                done = starter("flush", "--json", "-q", **intake.at(path))
                assert (done.code, json.loads(done.said)["pending"]) in [(0, 0), (65, 0)], (call, error, done.said)
                assert set(lines) <= intake.delivered(path) <= {line("sent-before"), *lines}, (call, error)
                assert {line("bad")} == {entry.line for entry in view.rejected(spool_of(home))}, (call, error)
                assert set() == left_over(home), (call, error)
                assert min([*ledger(home).counts.values(), *ledger(home).dropped.values()]) >= 0, (call, error)


def in_order(calls: Sequence[Call], *expected: tuple[str, str]) -> None:
    """Check that the first calls of these names about these things came one after the other."""
    found = [
        next((n for n, call in enumerate(calls) if name == call.name and re.search(about, call.text)), None)
        for name, about in expected
    ]
    assert None not in found, list(zip(expected, found, strict=True))
    assert found == sorted(found, key=int), list(zip(expected, found, strict=True))  # type: ignore[arg-type]


# Another thread's call in between cuts the line of this one.
CHECKPOINT = ("rename", r"/state\.json\"(\)| <unfinished)")
FOLDER = ("fsync", "/v1>")


class TestOrder:
    @pytest.mark.parametrize("prepare", [prepare_nothing, prepare_one], ids=["new", "there"])
    def test_durable_record(self, prepare: Callable[[Path], None], starter: Starter, home: Path) -> None:
        """With --durable the event and its file's name are synced before `record` exits, whichever process created the file."""
        prepare(home)
        calls = starter.traced("record", "behavioral", "x", "--durable").calls
        in_order(calls, ("write", "event_id"), ("fdatasync", "slot-0"), FOLDER, ("exit_group", r"\(0\)"))

    def test_durable_record_without_a_slot(self, starter: Starter, home: Path) -> None:
        """With --durable a file of its own is synced before it gets its name, and that before `record` leaves."""
        with no_free_slot(home):
            calls = starter.traced("record", "behavioral", "x", "--durable").calls
        named = ("rename", "tmp-done-.*/done-")
        in_order(calls, ("write", "event_id"), ("fdatasync", "tmp-done-"), named, FOLDER, ("exit_group", r"\(0\)"))

    def test_durable_live_writer(self, starter: Starter, home: Path) -> None:
        """A long-lived writer that is durable syncs its file and that file's name before it answers."""
        home.mkdir()
        (home / "config.toml").write_text("[spool]\ndurable = true\n")
        (home / "events").write_bytes(line("x"))
        done = starter.traced("record", "raw", str(home / "events"), "--json")
        answered = ("write", r'stored\\"')
        in_order(done.calls, ("write", "live-.*event_id"), ("fdatasync", "live-"), FOLDER, answered)

    @pytest.mark.parametrize("sync", ["fdatasync", "fsync"])
    @pytest.mark.parametrize(("mode", "code"), [("fail", 73), ("warn", 0)])
    def test_failed_sync(self, sync: str, mode: str, code: int, starter: Starter, home: Path) -> None:
        """A sync that fails is told as a failure, and is not tried again until it succeeds."""
        prepare_one(home)
        words = ("record", "behavioral", "x", "--durable", "--on-error", mode)
        done = starter.traced(*words, inject=f"{sync}:error=EIO:when=1", RILLEVENTS_INSTALL_ID="x")
        assert (code, 1) == (done.code, done.said.count("\n"))
        assert "Input/output error" in done.said
        assert 1 == len([call for call in done.calls if call.name == sync])
        assert 1 == len([call for call in done.calls if call.name == "write" and "event_id" in call.text])

    def test_rejected_event(self, starter: Starter, home: Path) -> None:
        """A rejected event is on the disk in rejected/ before the spool forgets it, and that is after the answer."""
        append(create(spool_of(home)), line("bad"), max_bytes=PLENTY)
        with Intake() as intake:
            done = starter.traced("flush", **intake.at("/events/x"))
        kept = [("write", "/rejected/"), ("fdatasync", "/rejected/"), ("fsync", "/rejected>")]
        in_order(done.calls, ("rename", "/claim-"), ("recvfrom", "rejected"), *kept, CHECKPOINT, ("unlink", "/claim-"))
        in_order(done.calls, ("mkdir", "/rejected"), FOLDER, CHECKPOINT)

    def test_damaged_line(self, starter: Starter, home: Path) -> None:
        """A damaged line is on the disk in corrupt/ before the offset passes it."""
        append(create(spool_of(home)), GARBAGE, max_bytes=PLENTY)
        append(create(spool_of(home)), line("x"), max_bytes=PLENTY)
        with Intake() as intake:
            done = starter.traced("flush", **intake.at("/events/x"))
        kept = [("write", "/corrupt/"), ("fdatasync", "/corrupt/"), ("fsync", "/corrupt>")]
        in_order(done.calls, *kept, CHECKPOINT, ("unlink", "/claim-"))
        in_order(done.calls, ("sendto", '"event_id'.replace('"', r'\\"')), ("recvfrom", "200 OK"), CHECKPOINT)
        in_order(done.calls, ("mkdir", "/corrupt"), FOLDER, CHECKPOINT)

    def test_file_destination(self, starter: Starter, home: Path) -> None:
        """Events that go to a file are on the disk there before the spool forgets them."""
        append(create(spool_of(home)), line("x"), max_bytes=PLENTY)
        done = starter.traced("flush", "--to", f"file:{home}/out.ndjson")
        there = [("write", "out.ndjson.*event_id"), ("fdatasync", "out.ndjson"), ("fsync", "/home>")]
        in_order(done.calls, *there, CHECKPOINT, ("unlink", "/claim-"))

    def test_retry(self, starter: Starter, home: Path) -> None:
        """A rejected event is on the disk in the spool, with its file's name, before it leaves rejected/."""
        prepare_rejected(home, "x")
        calls = starter.traced("spool", "retry").calls
        back = [("write", "tmp-done-"), ("fdatasync", "tmp-done-"), ("rename", "tmp-done-.*/done-"), FOLDER]
        in_order(calls, *back, ("unlink", "/rejected/"))
