"""`record` on a host that does not play along: faults of its environment, one by one, in every mode."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from support import PACE, Tool, need, only

from rillevents.event.timestamp import parse_time

pytestmark = [pytest.mark.slow, pytest.mark.unmeasured]

# In seconds, for one process on a machine that is busy with other things.
BOUND = 15 * PACE
# A user who has no entry in the password file.
NOBODY = 12345
EVENTS = ("slot-", "live-", "done-", "claim-")

LIBRARY = """
import logging, sys
from rillevents import Client
logging.basicConfig(format="rillevents: %(message)s")
client = Client.from_config()
event_id = client.record("behavioral", "x")
client.close()
sys.exit(0 if event_id else 73)
"""
SIGNALS = """
import os, signal, sys
for name in sys.argv[1].split(","):
    signal.signal(getattr(signal, name), signal.SIG_DFL if "default" in sys.argv[2] else signal.SIG_IGN)
if "blocked" in sys.argv[2]:
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
os.execv(sys.executable, [sys.executable, *sys.argv[4:]])
"""


def need_root() -> None:
    """Skip a test that only root can run, but not in CI, which has to run as root."""
    if os.geteuid() != 0 and os.environ.get("CI"):
        pytest.fail("CI has to run as root")
    if os.geteuid() != 0:
        pytest.skip("needs root")


def faketime() -> str:
    """Return where the library is that shifts a process's clock; without it a test is skipped, but not in CI."""
    found = sorted(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))
    if not found and os.environ.get("CI"):
        pytest.fail("libfaketime is missing, and CI has to have it: see .ci/run")
    if not found:
        pytest.skip("libfaketime is not installed")
    return str(found[0])


def events_below(folder: Path) -> list[dict[str, object]]:
    """Return all events that lie in spools anywhere below a folder; every line there has to be whole."""
    found = []
    for path in sorted(folder.rglob("v1/*.ndjson")):
        if path.name.startswith(EVENTS) and path.is_file() and not path.is_symlink():
            content = path.read_bytes()
            assert content[-1:] in (b"", b"\n"), path
            found += [json.loads(line) for line in content.splitlines()]
    return found


class Scene:
    """A host of a test's own: a user's home, and a /var/tmp that only the processes of the test see."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.home = root / "home"
        self.user = root / "user"
        (root / "vartmp").mkdir()
        (root / "vartmp").chmod(0o1777)
        self.user.mkdir()
        self.mounted: list[Path] = []
        self.environ = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.user),
            "RILLEVENTS_HOME": str(self.home),
            "PYTHONDONTWRITEBYTECODE": "1",
        }

    def run(self, fault: Fault, words: Sequence[str]) -> subprocess.CompletedProcess[str]:
        """Run Python with these words under a fault; the process must end in time."""
        fault.prepare(self)
        given = {key: value and value.format(root=self.root) for key, value in fault.environ.items()}
        script = f'mount --bind {self.root}/vartmp /var/tmp && {fault.script.format(root=self.root)} exec "$@"'
        user = ["setpriv", f"--reuid={fault.user}", f"--regid={fault.user}", "--clear-groups"] if fault.user else []
        wrap = [word.format(root=self.root) for word in fault.wrap]
        return subprocess.run(
            ["unshare", "-m", "sh", "-c", script, "sh", *wrap, *user, sys.executable, *words],
            env={key: value for key, value in (self.environ | given).items() if value is not None},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            cwd=self.root,
            timeout=BOUND,
            check=False,
            encoding="utf-8",
            errors="surrogateescape",
        )

    def events(self) -> list[dict[str, object]]:
        """Return what is stored, wherever it went."""
        return events_below(self.root)


@pytest.fixture
def scene() -> Iterator[Scene]:
    """A host for one test; not below tmp_path, because that is closed to other users."""
    need_root()
    for program in ("unshare", "setpriv", "prlimit"):
        need(program)
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        made = Scene(Path(folder))
        yield made
        for place in made.mounted:
            subprocess.run(["umount", place], check=True)


@dataclass(frozen=True)
class Fault:
    """What is wrong with a host, and what comes of it.

    *code* is what `--on-error fail` gives: 0 where the event is stored all the same, without a word. *off* is for what counts
    as an opt-out: a line that says so, and 0. The rest is how the host is made so: variables, something done before, a piece
    of shell in a mount namespace, another user, words before the command.
    """

    code: int = 0
    environ: Mapping[str, str | None] = field(default_factory=dict)
    prepare: Callable[[Scene], object] = lambda scene: None
    script: str = ""
    user: int = 0
    wrap: Sequence[str] = ()
    off: bool = False


def home(value: str | None, **more: str | None) -> dict[str, str | None]:
    """Return variables without RILLEVENTS_HOME, with this HOME."""
    return {"RILLEVENTS_HOME": None, "HOME": value, **more}


def place(value: str) -> dict[str, str | None]:
    """Return the variable RILLEVENTS_HOME."""
    return {"RILLEVENTS_HOME": value}


def spool(value: str) -> dict[str, str | None]:
    """Return the variable RILLEVENTS_SPOOL_DIR."""
    return {"RILLEVENTS_SPOOL_DIR": value}


def link(name: str, target: str) -> Callable[[Scene], object]:
    """Put a link there."""
    return lambda scene: (scene.root / name).symlink_to(target)


def folder(name: str, mode: int, owner: int = 0) -> Callable[[Scene], object]:
    """Put somebody's folder there."""

    def make(scene: Scene) -> None:
        (scene.root / name).mkdir(exist_ok=True)
        (scene.root / name).chmod(mode)
        os.chown(scene.root / name, owner, owner)

    return make


def file(name: str) -> Callable[[Scene], object]:
    """Put a file there."""
    return lambda scene: (scene.root / name).write_text("precious\n")


def slot_and_no_inode(scene: Scene) -> None:
    """Put a file system there that has room for bytes, and a slot, but for no other file."""
    scene.home.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "nr_inodes=8,mode=700", "tmpfs", scene.home], check=True)
    scene.mounted.append(scene.home)
    for path in (scene.home / "spool", scene.home / "spool" / "v1"):
        path.mkdir(mode=0o700)
    (scene.home / "spool" / "v1" / "slot-0.ndjson").touch(0o600)
    with contextlib.suppress(OSError):
        for number in range(100):
            (scene.home / str(number)).touch()


def injected(calls: str, error: str) -> list[str]:
    """Return the words that make system calls of a command fail."""
    return ["strace", "-o", "/dev/null", "-e", f"trace={calls}", "-e", f"inject={calls}:error={error}"]


def signals(names: str, how: str) -> list[str]:
    """Return the words that start Python with these signals at their default, ignored, or with all of them blocked."""
    return [sys.executable, "-c", SIGNALS, names, how]


def clock(time: str) -> Callable[[Scene], object]:
    """Set the clock."""
    return lambda scene: scene.environ.update(LD_PRELOAD=faketime(), FAKETIME=time, DONT_FAKE_MONOTONIC="1")


READ_ONLY_USER = "mount --bind {root}/user {root}/user && mount -o remount,ro,bind {root}/user && "
READ_ONLY_VARTMP = "mount -o remount,ro,bind /var/tmp && "
NO_ROOM = "mkdir {root}/home && mount -t tmpfs -o size=8k tmpfs {root}/home && cat /dev/zero >{root}/home/zeros 2>&- ; "
NO_INODES = "mkdir {root}/home && mount -t tmpfs -o nr_inodes=1 tmpfs {root}/home && "
C_LOCALE = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}

FAULTS: dict[str, Fault] = {
    # No home, or one that is none: the spool goes to /var/tmp.
    "HOME-unset": Fault(environ=home(None), user=NOBODY),
    "HOME-empty": Fault(environ=home(""), user=NOBODY),
    "HOME-nonexistent": Fault(environ=home("/nonexistent"), user=NOBODY),
    "HOME-relative": Fault(environ=home("relative"), user=NOBODY),
    "HOME-tilde": Fault(environ=home("~"), user=NOBODY),
    "HOME-two-lines": Fault(environ=home("{root}/a\nb"), user=NOBODY),
    "HOME-a-file": Fault(environ=home("{root}/file"), prepare=file("file")),
    "HOME-read-only": Fault(environ=home("{root}/user"), script=READ_ONLY_USER),
    "HOME-not-writable": Fault(environ=home("{root}/user"), prepare=folder("user", 0o500, NOBODY), user=NOBODY),
    "HOME-and-the-rest-read-only": Fault(73, home("{root}/user"), script=READ_ONLY_USER + READ_ONLY_VARTMP),
    "XDG-relative": Fault(environ=home("{root}/user", XDG_CONFIG_HOME="x", XDG_STATE_HOME="../y")),
    "XDG-garbage": Fault(environ=home("{root}/user", XDG_CONFIG_HOME="\x1b:", XDG_STATE_HOME="%\n")),
    "XDG-a-file": Fault(environ=home("{root}/user", XDG_STATE_HOME="{root}/file"), prepare=file("file")),
    "XDG-too-long": Fault(environ=home("{root}/user", XDG_STATE_HOME="{root}/" + "x" * 300)),
    "XDG-a-loop": Fault(environ=home("{root}/user", XDG_STATE_HOME="{root}/loop"), prepare=link("loop", "loop")),
    # RILLEVENTS_HOME: what it says is meant, so there is nowhere else to go.
    "place-a-file": Fault(73, place("{root}/file"), prepare=file("file")),
    "place-a-device": Fault(73, place("/dev/null")),
    "place-link-to-nowhere": Fault(73, place("{root}/link"), prepare=link("link", "nowhere")),
    "place-a-loop": Fault(0, place("{root}/loop"), prepare=link("loop", "loop"), off=True),
    "place-in-proc": Fault(73, place("/proc/nowhere")),
    "place-of-another-user": Fault(73, prepare=folder("home", 0o755, 54321), user=NOBODY),
    "place-closed-to-us": Fault(0, prepare=folder("home", 0o700, 54321), user=NOBODY, off=True),
    "place-read-only": Fault(73, place("{root}/user"), script=READ_ONLY_USER),
    "place-with-an-odd-name": Fault(environ=place("{root}/a b\nç☃'\"$(x)\t\x1b[2J")),
    "place-not-UTF-8": Fault(environ=place("{root}/\udcff\udcfe")),
    "place-of-255-bytes": Fault(environ=place("{root}/" + "x" * 255)),
    "place-of-256-bytes": Fault(73, place("{root}/" + "x" * 256)),
    "place-of-5000-bytes": Fault(73, place("{root}" + "/xxxxxxxxx" * 500)),
    "place-relative": Fault(environ=place("relative/place/")),
    # RILLEVENTS_SPOOL_DIR, likewise.
    "spool-a-file": Fault(73, spool("{root}/file"), prepare=file("file")),
    "spool-a-link": Fault(73, spool("{root}/link"), prepare=link("link", "user")),
    "spool-link-to-nowhere": Fault(73, spool("{root}/link"), prepare=link("link", "nowhere")),
    "spool-of-another-user": Fault(73, spool("{root}/s"), prepare=folder("s", 0o755, 54321), user=NOBODY),
    "spool-open-to-all": Fault(environ=spool("{root}/s"), prepare=folder("s", 0o777, NOBODY), user=NOBODY),
    "spool-in-a-shared-folder": Fault(environ=spool("{root}/s"), prepare=folder("s", 0o1777), user=NOBODY),
    # The disk and the process's limits.
    "no-room": Fault(73, script=NO_ROOM),
    "no-inodes": Fault(73, script=NO_INODES),
    "no-growth": Fault(73, wrap=["prlimit", "--fsize=0"]),
    "hardly-any-growth": Fault(73, wrap=["prlimit", "--fsize=50"]),
    "five-descriptors": Fault(wrap=["prlimit", "--nofile=5"]),
    "eight-descriptors": Fault(wrap=["prlimit", "--nofile=8"]),
    "no-processes": Fault(
        environ=home("{root}/user"), prepare=folder("user", 0o700, NOBODY), user=NOBODY, wrap=["prlimit", "--nproc=1"]
    ),
    "TMPDIR-nowhere": Fault(environ={"TMPDIR": "/nonexistent"}),
    "TMPDIR-a-device": Fault(environ={"TMPDIR": "/dev/full"}),
    "no-locks-ENOLCK": Fault(wrap=injected("flock", "ENOLCK")),
    "no-locks-EOPNOTSUPP": Fault(wrap=injected("flock", "EOPNOTSUPP")),
    "no-locks-ENOSYS": Fault(wrap=injected("flock", "ENOSYS")),
    "no-network": Fault(wrap=["unshare", "-n"]),
    "no-sockets": Fault(wrap=injected("socket,connect", "EPERM")),
    # The folder that we are started in.
    "cwd-gone": Fault(wrap=["sh", "-c", 'mkdir gone && cd gone && rmdir ../gone && exec "$@"', "sh"]),
    "cwd-gone-and-needed": Fault(
        73, place("relative"), wrap=["sh", "-c", 'mkdir gone && cd gone && rmdir ../gone && exec "$@"', "sh"]
    ),
    "cwd-not-UTF-8": Fault(
        environ=place("relative"), wrap=["sh", "-c", 'mkdir \udcff && cd \udcff && exec "$@"', "sh"]
    ),
    # Signal dispositions inherited from the parent process.
    "SIGPIPE-default": Fault(wrap=signals("SIGPIPE", "default")),
    "SIGHUP-and-others-ignored": Fault(wrap=signals("SIGHUP,SIGTERM,SIGINT,SIGCHLD,SIGXFSZ", "ignored")),
    "all-signals-blocked": Fault(wrap=signals("SIGPIPE", "blocked")),
    # Clocks that are wrong.
    "clock-1960": Fault(prepare=clock("1960-01-01 00:00:00")),
    "clock-1970": Fault(prepare=clock("1970-01-01 00:00:00")),
    "clock-2100": Fault(prepare=clock("2100-02-28 23:59:59")),
    "clock-2261": Fault(prepare=clock("2261-12-31 23:59:59")),
    # Locales and the variables of Python.
    "locale-C": Fault(environ={"LC_ALL": "C"}),
    "locale-unknown": Fault(environ={"LANG": "xx"}),
    "locale-ASCII": Fault(environ=place("{root}/ç☃") | C_LOCALE),
    "ASCII-streams": Fault(environ=place("{root}/ç☃") | {"PYTHONIOENCODING": "ascii"}),
    "PYTHONOPTIMIZE": Fault(environ={"PYTHONOPTIMIZE": "2"}),
    "PYTHONWARNINGS": Fault(environ={"PYTHONWARNINGS": "error"}),
    "PYTHONDEVMODE": Fault(environ={"PYTHONDEVMODE": "1"}),
    "PYTHONSAFEPATH": Fault(environ={"PYTHONSAFEPATH": "1"}),
    "PYTHONHASHSEED": Fault(environ={"PYTHONHASHSEED": "0"}),
}

# What is stored without a word under `fail` is so under `warn` and `ignore`, too.
CASES = [
    pytest.param(fault, mode, id=f"{name}-{mode}")
    for name, fault in FAULTS.items()
    for mode in (("warn", "fail", "ignore", "library") if fault.code or fault.off else ("fail", "library"))
]


@pytest.mark.parametrize(("fault", "mode"), CASES)
def test_fault(fault: Fault, mode: str, scene: Scene) -> None:
    """Whatever is wrong with the host: stdout is empty, stderr has a line at most, the code is the documented one, in time.

    An event is stored, whole and with a valid time, where nothing is said; where it is not, one line says so.
    """
    record = ["-m", "rillevents", "record", "behavioral", "x", "--on-error", mode]
    done = scene.run(fault, ["-c", LIBRARY] if mode == "library" else record)
    told = done.stderr.splitlines()
    stored = [event["event_time"] for event in scene.events()]
    assert "" == done.stdout
    if fault.code or fault.off:
        says = "telemetry is off" if fault.off else "not recorded"
        assert ([], 1) == (stored, sum(says in text for text in told)), told
        assert len(told) == 1
    else:
        assert ([], 1) == (told, len(stored))
        parse_time(str(only(stored)), strict=True)
    failed = fault.code if mode == "fail" else 73 if mode == "library" and (fault.code or fault.off) else 0
    assert failed == done.returncode


def test_no_file_but_a_slot(scene: Scene) -> None:
    """Where the disk takes no further file, but further bytes, `record` and a program append to a slot that is there."""
    for number in range(3):
        record = ["-m", "rillevents", "record", "behavioral", str(number), "--on-error", "fail"]
        done = scene.run(Fault() if number else Fault(prepare=slot_and_no_inode), record)
        assert (0, "") == (done.returncode, done.stderr)
    program = "from rillevents import Client; print(Client.from_config(on_error='raise').record('t', '3'))"
    assert 0 == scene.run(Fault(), ["-c", program]).returncode
    assert ["0", "1", "2", "3"] == [event["event_name"] for event in scene.events()]


def test_planted_fallback(scene: Scene) -> None:
    """Root does not use a folder that somebody else has put where its own is to be, and gives away no event."""
    planted = scene.root / "vartmp" / "rillevents-0"
    fault = Fault(
        environ=home("{root}/user"), prepare=folder("vartmp/rillevents-0", 0o755, NOBODY), script=READ_ONLY_USER
    )
    done = scene.run(fault, ["-m", "rillevents", "record", "behavioral", "x", "--on-error", "fail"])
    assert 73 == done.returncode
    assert "other users" in done.stderr
    assert [] == list(planted.iterdir())


def test_home_that_is_gone(tool: Tool) -> None:
    """Where a job's home is thrown away, events in RILLEVENTS_SPOOL_DIR are delivered by a later job with another home."""
    environ = {"RILLEVENTS_HOME": None, "RILLEVENTS_SPOOL_DIR": str(tool.home.parent / "kept")}
    first, second = (str(tool.home.parent / name) for name in ("first", "second"))
    assert 0 == tool("record", "behavioral", "x", HOME=first, **environ).returncode
    shutil.rmtree(first)
    out = tool.home.parent / "out.ndjson"
    assert 0 == tool("flush", "--to", f"file:{out}", HOME=second, **environ).returncode
    assert "x" == only([json.loads(line)["event_name"] for line in out.read_bytes().splitlines()])


def test_nothing_is_left_to_root(tool: Tool) -> None:
    """Whatever root does in a user's home, with HOME kept, leaves no file there that is root's."""
    need_root()
    user = tool.home.parent / "user"
    os.chown(user, NOBODY, NOBODY)
    line = b'{"event_id":"i","event_time":"2026-11-23T10:00:00Z","event_type":"t","event_name":"n"}\n'
    for words in (
        ["record", "behavioral", "x", "-a", "k=" + "v" * 40_000],
        ["record", "raw"],
        ["config", "set", "attributes.k", "v"],
        ["record", "behavioral", "x"],
        ["id", "reset"],
        ["telemetry", "on"],
        ["flush", "--to", "file:/nonexistent/x"],
    ):
        tool(*words, stdin=line, RILLEVENTS_HOME=None)
    made = {path: path.stat().st_uid for path in user.rglob("*")}
    assert {"config.toml", "telemetry", "install_id", "config.json", "state.json"} <= {path.name for path in made}
    assert [] == [path for path, owner in made.items() if owner != NOBODY]


LINKED = {
    "telemetry": [["telemetry", "on"]],
    "install_id": [["id", "reset"]],
    "config.json": [["record", "behavioral", "x"]],
    "config.toml": [["config", "set", "attributes.k", "v"]],
    "spool/v1/backlog": [["record", "raw"], ["flush", "--to", "file:out"]],
    "spool/v1/tally-0.ndjson": [
        ["record", "behavioral", "x", "-a", "k=" + "v" * 40_000],
        ["flush", "--to", "file:out"],
    ],
    "spool/v1/state.json": [["flush", "--to", "file:out"]],
    "spool/v1/flush.lock": [["flush", "--to", "file:out"]],
    "spool/v1/rejected": [["spool", "retry"]],
}


@pytest.mark.parametrize("name", LINKED)
@pytest.mark.parametrize("kind", ["file", "nowhere"])
def test_links(kind: str, name: str, tool: Tool) -> None:
    """A link under one of our names is not written through: what it leads to stays as it is, and `record` goes on."""
    tool("record", "behavioral", "first")
    target = tool.home.parent / "target"
    if kind == "file":
        target.write_text("[attributes]\n" if name == "config.toml" else "on\n")
        target.chmod(0o640)
    if name == "config.json":
        (tool.home / "config.toml").write_text("[attributes]\n")
    before = (target.read_bytes(), target.stat().st_mode) if kind == "file" else None
    (tool.home / name).unlink(missing_ok=True)
    (tool.home / name).symlink_to(target)
    line = b'{"event_id":"i","event_time":"2026-11-23T10:00:00Z","event_type":"t","event_name":"n"}\n'
    for words in LINKED[name]:
        assert "Traceback" not in tool(*words, stdin=line).stderr
    assert 0 == tool("record", "behavioral", "last", "--on-error", "fail").returncode
    assert before == ((target.read_bytes(), target.stat().st_mode) if target.exists() else None)
    assert "last" in [event["event_name"] for event in events_below(tool.home)]


def test_opt_out_through_a_link(tool: Tool) -> None:
    """The file `telemetry`, which is only read, may be a link, and what it leads to holds."""
    tool.home.mkdir()
    (tool.home.parent / "for-all").write_text("off\n")
    (tool.home / "telemetry").symlink_to(tool.home.parent / "for-all")
    assert 0 == tool("record", "behavioral", "x").returncode
    assert [] == events_below(tool.home)


@pytest.mark.parametrize("code", ["ENOLCK", "EOPNOTSUPP", "ENOSYS"])
def test_no_locks(code: str, tool: Tool) -> None:
    """Where files cannot be locked every event gets a file of its own, and a flush delivers them all, once."""
    need("strace")
    for name in ("one", "two", "three"):
        subprocess.run(
            [*injected("flock", code), *tool.command("record", "behavioral", name)], env=tool.environ, check=True
        )
    assert 3 == len(list(tool.spool.glob("done-*.ndjson")))
    out = tool.home.parent / "out.ndjson"
    for _ in range(2):
        words = [
            "strace",
            "-f",
            "--seccomp-bpf",
            *injected("flock", code)[1:],
            *tool.command("flush", "--to", f"file:{out}"),
        ]
        subprocess.run(words, env=tool.environ, check=True, capture_output=True)
    names = [json.loads(line)["event_name"] for line in out.read_bytes().splitlines()]
    assert ["one", "three", "two"] == sorted(names)
    assert [] == events_below(tool.home)


class TestStreams:
    @pytest.mark.parametrize("closed", range(8), ids=lambda closed: f"{closed:03b}")
    def test_closed(self, closed: int, tool: Tool) -> None:
        """With any of the three streams closed the event is stored, and what is printed never gets into a file of ours."""
        redirect = "".join(f" {number}>&-" for number in range(3) if closed >> number & 1)
        for words in ("--print", f"-a k={'v' * 40_000}"):
            script = f'"$@" {words} --on-error fail{redirect}'
            done = subprocess.run(
                ["sh", "-c", script, "sh", *tool.command("record", "behavioral", "x")],
                env=tool.environ,
                check=False,
                capture_output=True,
                text=True,
            )
            assert 0 == done.returncode
        assert ["x", "x"] == [event["event_name"] for event in events_below(tool.home)]

    @pytest.mark.parametrize("stream", [">/dev/full", "2>/dev/full", "<&- >/dev/full 2>/dev/full"])
    def test_full(self, stream: str, tool: Tool) -> None:
        """Where stdout or stderr is full, `record` stores its event all the same, and returns 0."""
        for words in ("behavioral x --print", f"behavioral x -a k={'v' * 40_000}", "metric x 1 --print --attrs @attrs"):
            (tool.home.parent / "attrs").write_text("{}")
            done = subprocess.run(
                ["sh", "-c", f'"$@" {words} {stream}', "sh", *tool.command("record")],
                env=tool.environ,
                cwd=tool.home.parent,
                check=False,
                capture_output=True,
                text=True,
            )
            assert (0, 0) == (done.returncode, done.stderr.count("Traceback")), done.stderr
        assert 3 == len(events_below(tool.home))

    @pytest.mark.parametrize("words", ["status", "status --json", "spool export", "events", "help recording"])
    def test_output_that_is_lost(self, words: str, tool: Tool) -> None:
        """Where stdout is full a command that was asked for data says so in one line, and returns 1."""
        tool("record", "behavioral", "x")
        done = subprocess.run(
            ["sh", "-c", f'"$@" {words} >/dev/full', "sh", *tool.command()],
            env=tool.environ,
            check=False,
            capture_output=True,
            text=True,
        )
        assert (1, "rillevents: the output is incomplete: No space left on device\n") == (done.returncode, done.stderr)

    def test_ascii(self, tool: Tool) -> None:
        """Where the streams can only take ASCII, data for people is shown escaped, and a path is printed as it is."""
        place = tool.home.parent / "ç☃"
        environ = {"RILLEVENTS_HOME": str(place), "PYTHONIOENCODING": "ascii"}
        assert 0 == tool("record", "behavioral", "☃", **environ).returncode
        for words in (["events"], ["status"], ["config", "list"], ["help", "recording"]):
            done = tool(*words, **environ)
            assert (0, 0) == (done.returncode, done.stderr.count("internal error")), done.stderr
        assert "\\u2603" in tool("events", **environ).stdout
        assert f"{place}/spool\n" == tool("spool", "path", **environ).stdout

    def test_path_of_any_bytes(self, tool: Tool) -> None:
        """`spool path` and `config path` print the very bytes of a path, so that a script finds the file by it."""
        environ = tool.environ | {"RILLEVENTS_HOME": f"{tool.home}\udcff"}
        for words, name in ((["spool", "path"], b"spool"), (["config", "path"], b"config.toml")):
            printed = subprocess.run(tool.command(*words), env=environ, check=True, capture_output=True).stdout
            assert os.fsencode(tool.home) + b"\xff/" + name + b"\n" == printed


@dataclass(frozen=True)
class Call:
    """A system call of a traced process: the how-manieth of its name it was, and whether it was about our files."""

    name: str
    number: int
    ours: bool


def trace(
    tool: Tool, folder: Path, *options: str, name: str = "x"
) -> tuple[subprocess.CompletedProcess[str], list[Call]]:
    """Run `record` in a home folder under strace, and return what came of it and its system calls."""
    log = f"{folder}.log"
    words = ["strace", "-y", "-o", log, *options, *tool.command("record", "behavioral", name, "--on-error", "fail")]
    environ = {key: value for key, value in tool.environ.items() if "COVERAGE" not in key}
    environ |= {"RILLEVENTS_HOME": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(words, env=environ, capture_output=True, text=True, timeout=BOUND, check=False)
    counts: Counter[str] = Counter()
    calls = []
    for text in Path(log).read_text(errors="replace").splitlines():
        called = re.match(r"(\w+)\(", text)
        if called:
            counts[called[1]] += 1
            calls.append(Call(called[1], counts[called[1]], f"{folder}" in text))
    return done, calls


def homes(folder: Path, kind: str, tool: Tool) -> Callable[[object], Path]:
    """Return what makes home folders: new ones that are not there yet, or used ones with a config.toml and an event."""

    def make(name: object) -> Path:
        place = folder / str(name)
        if kind == "used":
            place.mkdir(mode=0o700)
            (place / "config.toml").write_text("[attributes]\n")
            tool("record", "behavioral", "before", RILLEVENTS_HOME=str(place))
        return place

    return make


class TestEveryCall:
    """Each system call of `record` that is about our files, disturbed one at a time."""

    def sweep(
        self, tool: Tool, tmp_path: Path, kind: str, disturb: str, only_at: Sequence[str] = ()
    ) -> Iterator[tuple[subprocess.CompletedProcess[str], Path]]:
        need("strace")
        make = homes(tmp_path, kind, tool)
        _, calls = trace(tool, make("reference"))
        wanted = [call for call in calls if call.ours and (not only_at or call.name in only_at)]

        def run(numbered: tuple[int, Call]) -> tuple[subprocess.CompletedProcess[str], Path, bool]:
            number, call = numbered
            place = make(number)
            options = ["-e", f"trace={call.name}", "-e", f"inject={call.name}:{disturb}:when={call.number}"]
            done, made = trace(tool, place, *options)
            return done, place, any(one.ours and one.number == call.number for one in made)

        with ThreadPoolExecutor(3) as pool:
            disturbed = list(pool.map(run, enumerate(wanted)))
        # Another number of calls while modules are loaded, and a run has missed its mark: that may be a few, not many.
        hits = [(done, place) for done, place, hit in disturbed if hit]
        assert len(hits) > len(wanted) / 2 > 4
        yield from hits

    def goes_on(self, tool: Tool, place: Path) -> list[object]:
        """Return the names of the events that are there once another was recorded."""
        assert 0 == tool("record", "behavioral", "after", "--on-error", "fail", RILLEVENTS_HOME=str(place)).returncode
        return [event["event_name"] for event in events_below(place) if event["event_name"] != "before"]

    @pytest.mark.parametrize(
        ("kind", "code", "only_at"),
        [
            ("new", "EIO", ()),
            ("used", "EIO", ()),
            ("new", "ENOSPC", ("mkdir", "write", "fsync", "link", "rename", "fchmod")),
            ("new", "EDQUOT", ("mkdir", "write")),
            ("used", "ENOMEM", ()),
        ],
        ids=lambda value: value if isinstance(value, str) else "",
    )
    def test_fails(self, kind: str, code: str, only_at: Sequence[str], tool: Tool, tmp_path: Path) -> None:
        """Whichever call fails: the event is stored and the code is 0, or one line says that it is not, and the next one is."""
        for done, place in self.sweep(tool, tmp_path, kind, f"error={code}", only_at):
            told = done.stderr.splitlines()
            names = self.goes_on(tool, place)
            off = any("telemetry is off" in text for text in told)
            assert ("", 0) == (done.stdout, done.stderr.count("Traceback"))
            assert done.returncode in (0, 73)
            assert len(told) == (done.returncode == 73 or off), told
            # Where the last look at the file fails the event may be there, too: kept, but not promised.
            assert names in (
                [["after"]] if off else [["x", "after"]] if done.returncode == 0 else [["after"], ["x", "after"]]
            )
            if done.returncode == 73:
                assert os.strerror(getattr(errno, code)) in only(told)

    @pytest.mark.parametrize(
        ("kind", "name", "code"),
        [("used", "INT", 130), ("new", "INT", 130), ("used", "TERM", -15), ("used", "HUP", -1), ("used", "ALRM", -14)],
    )
    def test_signal(self, kind: str, name: str, code: int, tool: Tool, tmp_path: Path) -> None:
        """A signal at any call has its usual effect, the event is there whole or not at all, and the next one is stored."""
        for done, place in self.sweep(tool, tmp_path, kind, f"signal={name}"):
            assert done.returncode in (0, code)
            assert ("", "") == (done.stdout, done.stderr)
            assert self.goes_on(tool, place) in (
                [["x", "after"]] if done.returncode == 0 else [["after"], ["x", "after"]]
            )


def test_nothing_about_the_machine(tool: Tool) -> None:
    """An event holds what it was given and the install ID: no host or user name, folder, argument or variable."""
    tool("record", "behavioral", "x", "-a", "k=v", USER="somebody-7f3a", LOGNAME="somebody-7f3a", SECRET="hunter2")
    found = only(events_below(tool.home))
    assert {"event_id", "event_time", "event_type", "event_name", "install_id", "k"} == found.keys()
    stored = b"".join(path.read_bytes() for path in tool.home.rglob("*") if path.is_file()).decode()
    for word in ("somebody-7f3a", "hunter2", socket.gethostname(), str(tool.home), "--on-error"):
        assert word not in stored


class TestLibrary:
    """In a program that has run into its own limits."""

    def run(self, tool: Tool, script: str) -> subprocess.CompletedProcess[str]:
        # Not measured for coverage: that writes a file for each of three hundred children.
        environ = {key: value for key, value in tool.environ.items() if "COVERAGE" not in key}
        return subprocess.run(
            [sys.executable, "-c", script],
            env=environ,
            capture_output=True,
            text=True,
            timeout=4 * BOUND,
            check=False,
        )

    def test_memory(self, tool: Tool) -> None:
        """An event that there is no memory for is not recorded and raises nothing, and the next one is stored."""
        script = (
            "import logging, resource; from rillevents import Client\n"
            "client = Client.from_config(); client.record('t', 'first'); large = 'x' * (32 << 20)\n"
            "size = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize() + (8 << 20)\n"
            "resource.setrlimit(resource.RLIMIT_AS, (size, size))\n"
            "assert client.record('t', 'large', k=large) is None\n"
            "assert client.record('t', 'last')\n"
        )
        done = self.run(tool, script)
        assert (0, "MemoryError" in done.stderr) == (done.returncode, True), done.stderr
        assert ["first", "last"] == [event["event_name"] for event in events_below(tool.home)]

    def test_no_descriptors(self, tool: Tool) -> None:
        """A program that has no descriptors left hears of it once in its log, and records again when it has some."""
        script = (
            "import logging, os, resource; from rillevents import Client\n"
            "client = Client.from_config(); client.record('t', 'first'); client.close(); taken = []\n"
            "resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))\n"
            "try:\n"
            "    while True: taken.append(os.dup(0))\n"
            "except OSError: pass\n"
            "for _ in range(100): assert client.record('t', 'none') is None\n"
            "for fd in taken: os.close(fd)\n"
            "assert client.record('t', 'last')\n"
        )
        done = self.run(tool, script)
        assert (0, 1) == (done.returncode, done.stderr.count("Too many open files")), done.stderr
        assert ["first", "last"] == [event["event_name"] for event in events_below(tool.home)]

    def test_storm_of_signals(self, tool: Tool) -> None:
        """Hundreds of signals whose handler records, while two threads and the program itself record, lose and repeat nothing."""
        script = (
            "import signal, threading; from rillevents import Client\n"
            "client = Client.from_config(on_error='raise'); handled = []\n"
            "def handle(number, frame):\n"
            "    handled.append(client.record('t', 'handler'))\n"
            "    if len(handled) < 500: signal.setitimer(signal.ITIMER_REAL, 0.0002)\n"
            "def work(): [client.record('t', 'thread') for _ in range(500)]\n"
            "signal.signal(signal.SIGALRM, handle); threads = [threading.Thread(target=work) for _ in range(2)]\n"
            "signal.setitimer(signal.ITIMER_REAL, 0.0002); [thread.start() for thread in threads]\n"
            "while len(handled) < 500: client.record('t', 'program')\n"
            "[thread.join() for thread in threads]; client.close(); print(len(handled), all(handled))\n"
        )
        done = self.run(tool, script)
        assert (0, "500 True\n", "") == (done.returncode, done.stdout, done.stderr)
        found = events_below(tool.home)
        counts = Counter(str(event["event_name"]) for event in found)
        assert (500, 1000) == (counts["handler"], counts["thread"])
        assert len(found) == len({event["event_id"] for event in found})

    def test_many_forks(self, tool: Tool) -> None:
        """Three hundred children, forked while threads record, each record an event and leave by os._exit; none is lost."""
        script = (
            "import os, threading, warnings; from rillevents import Client\n"
            "warnings.simplefilter('ignore'); client = Client.from_config(on_error='raise')\n"
            "stop = threading.Event()\n"
            "def work():\n"
            "    while not stop.is_set(): client.record('t', 'thread')\n"
            "threads = [threading.Thread(target=work) for _ in range(3)]; [thread.start() for thread in threads]\n"
            "def child():\n"
            "    pid = os.fork()\n"
            "    if pid: return pid\n"
            "    import signal; signal.alarm(30); client.record('t', 'child'); os._exit(0)\n"
            "codes = []\n"
            "for _ in range(30): codes += [os.waitpid(pid, 0)[1] for pid in [child() for _ in range(10)]]\n"
            "stop.set(); [thread.join() for thread in threads]; client.close(); print(sum(codes))\n"
        )
        done = self.run(tool, script)
        assert (0, "0\n", "") == (done.returncode, done.stdout, done.stderr)
        found = events_below(tool.home)
        assert 300 == sum(event["event_name"] == "child" for event in found)
        assert len(found) == len({event["event_id"] for event in found})
