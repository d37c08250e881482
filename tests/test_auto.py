"""`[flush] auto`: a detached flush after a command that stored events."""

from __future__ import annotations

import json
import os
import pty
import re
import shlex
import shutil
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support import PACE, Tool, need, only

from rillevents.delivery import SPOOL
from rillevents.delivery.detached import LIFE_SECONDS
from rillevents.delivery.turns import last_pass
from rillevents.spool import AUTO
from rillevents.testing import FakeIntake, Request

LINE = b'{"event_id":"i","event_time":"2026-11-23T10:00:00Z","event_type":"log","event_name":"raw"}\n'


@pytest.fixture
def intake(tool: Tool) -> Iterator[FakeIntake]:
    """The configured intake."""
    with FakeIntake() as running:
        tool.environ["RILLEVENTS_INTAKE_URL"] = running.url
        yield running


@pytest.fixture
def auto(tool: Tool, intake: FakeIntake) -> Tool:
    """The command line of a user who wants events to be sent, and has said so."""
    tool.home.mkdir()
    (tool.home / "config.toml").write_text('[flush]\nauto = "1h"\n')
    (tool.home / "telemetry").write_text("on\n")
    return tool


def eventually(check: Callable[[], Any]) -> Any:
    """Wait until a check is true, and return it."""
    ends = time.monotonic() + 30 * PACE
    while not (found := check()):
        assert time.monotonic() < ends
        time.sleep(0.01)
    return found


def has_ended(tool: Tool) -> Callable[[], bool]:
    """Return a check of whether a pass was made, and no process makes one any more."""
    return lambda: "outcome" in last_pass(str(tool.spool)) and not children(tool)


def children(tool: Tool) -> list[Path]:
    """Return the detached flushes of a spool, as their folders in /proc."""
    mark = f"{SPOOL}={Path(tool.paths.spool_dir).absolute()}".encode()
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            if mark in (place / "environ").read_bytes().split(b"\0"):
                found.append(place)
        except OSError:
            continue
    return found


class Hanging:
    """An intake that has got a request, and does not answer it before it may."""

    def __init__(self, intake: FakeIntake) -> None:
        self.asked, self.may_answer = threading.Event(), threading.Event()
        intake.respond = self._respond

    def _respond(self, request: Request) -> int:
        self.asked.set()
        self.may_answer.wait(30 * PACE)
        return 200


@pytest.fixture
def hanging(intake: FakeIntake) -> Iterator[Hanging]:
    """The intake, which answers when the test lets it."""
    found = Hanging(intake)
    yield found
    found.may_answer.set()


@pytest.mark.parametrize(
    ("words", "names"),
    [
        (["record", "log", "a"], ["a"]),
        (["record", "metric", "m", "1", "--attrs", "@/dev/stdin"], ["m"]),
        pytest.param(["record", "raw"], ["raw"], marks=pytest.mark.slow),
        pytest.param(["record", "raw", "FILE"], ["raw"], marks=pytest.mark.slow),
        (["spool", "import", "FILE"], ["raw"]),
        (["run", "--", "true"], ["true-start", "true-success"]),
    ],
    ids=["quick", "typer", "stdin", "file", "import", "run"],
)
def test_each_command_that_stores(words: list[str], names: list[str], auto: Tool, intake: FakeIntake) -> None:
    """Whatever stores events, they arrive without a flush that somebody asks for."""
    file = auto.home.parent / "file"
    file.write_bytes(LINE)
    stdin = LINE if words[-1] == "raw" else b"{}"
    assert 0 == auto(*[str(file) if word == "FILE" else word for word in words], stdin=stdin).returncode
    eventually(lambda: [event["event_name"] for event in intake.events] == names)
    eventually(has_ended(auto))
    assert [] == auto.lines()


@pytest.mark.slow
def test_retried_events(auto: Tool, intake: FakeIntake) -> None:
    """What is put back into the spool is sent, too."""
    intake.script.append(400)
    auto("record", "log", "bad", RILLEVENTS_FLUSH_AUTO="off")
    auto("record", "log", "good", RILLEVENTS_FLUSH_AUTO="off")
    intake.script.extend([400, 200])
    assert 65 == auto("flush").returncode
    assert 1 == auto.json("spool", "retry")["retried"]
    eventually(lambda: 2 == len(intake.events))


def test_one_in_an_interval(auto: Tool, intake: FakeIntake) -> None:
    """Of many commands at once one starts a flush, and none until the interval is over."""
    processes = [subprocess.Popen(auto.command("record", "log", "a"), env=auto.environ) for _ in range(12)]
    assert {0} == {process.wait() for process in processes}
    eventually(has_ended(auto))
    before = len(intake.requests)
    assert 1 == before
    auto("record", "log", "b")
    assert [] == children(auto)
    assert [] != auto.lines()
    os.utime(auto.spool / AUTO, (0, 0))
    auto("record", "log", "c")
    eventually(lambda: 14 == len(intake.events))


def test_nobody_waits_for_it(auto: Tool, hanging: Hanging) -> None:
    """A command substitution, or whoever reads a command's output to its end, has it while the flush still hangs."""
    done = subprocess.run(
        [
            need("dash"),
            "-c",
            f'x=$({shlex.quote(sys.executable)} -m rillevents record log a --print 2>&1); echo "got $x"',
        ],
        env=auto.environ,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "got {" in done.stdout
    assert hanging.asked.wait(30 * PACE)
    assert not hanging.may_answer.is_set()


def test_what_it_has_of_the_command(auto: Tool, hanging: Hanging) -> None:
    """It has no descriptor but its own, a session of its own, / as its folder, and fixed words; a script's lock is free."""
    lock, place = auto.home.parent / "lock", auto.home.parent / "here"
    place.mkdir()
    script = f"exec 9>{lock}; flock 9; exec 8</etc/passwd; cd {place}; {shlex.quote(sys.executable)} -m rillevents record log a -a x=s3cret"
    subprocess.run([need("bash"), "-c", script], env=auto.environ, check=True)
    assert hanging.asked.wait(30 * PACE)
    child = only(children(auto))
    subprocess.run([need("flock"), "-n", lock, "true"], check=True)
    ours = {os.readlink(f"/proc/self/fd/{number}") for number in (0, 1, 2)} - {"/dev/null"}
    links = {number: os.readlink(child / "fd" / number) for number in os.listdir(child / "fd")}
    assert ["/dev/null"] * 3 == [links.pop(number) for number in "012"]
    # The connection and its own files.
    allowed = re.compile(rf"socket:.*|anon_inode:.*|pipe:.*|{re.escape(str(auto.spool))}/.*")
    assert [] == [link for link in links.values() if not allowed.fullmatch(link)]
    assert not ours & {*links.values()}
    assert "/" == os.readlink(child / "cwd")
    fields = (child / "stat").read_text().rpartition(")")[2].split()
    assert [child.name] * 2 == fields[2:4]
    words = (child / "cmdline").read_bytes().split(b"\0")[:-1]
    assert [b"-P", b"-m", b"rillevents", b"auto-flush"] == words[1:]
    assert os.path.isabs(words[0])
    hanging.may_answer.set()
    eventually(has_ended(auto))


@pytest.mark.slow
def test_paths_are_absolute(auto: Tool, intake: FakeIntake) -> None:
    """Folders and files that the environment names relative to where the command runs are found by the flush."""
    (auto.home.parent / "password").write_text("s3cret\n")
    environ = {
        "RILLEVENTS_HOME": auto.home.name,
        "RILLEVENTS_INTAKE_USER": "u",
        "RILLEVENTS_INTAKE_PASSWORD_FILE": "password",
    }
    auto("record", "log", "a", **environ)
    eventually(lambda: intake.requests)
    assert intake.requests[0].headers["authorization"].startswith("Basic ")


@pytest.mark.slow
def test_a_relative_file(auto: Tool) -> None:
    """A destination that is relative to a folder is none for it: nothing is written anywhere, and the reason is kept."""
    auto("record", "log", "a", RILLEVENTS_TO="file:x.ndjson")
    eventually(has_ended(auto))
    assert "whole path" in last_pass(str(auto.spool))["reason"]
    assert not Path("/x.ndjson").exists()
    assert 1 == len(auto.lines())


@pytest.mark.slow
def test_strace(auto: Tool, hanging: Hanging) -> None:
    """Before the flush begins it has left the session, closed all descriptors, gone to / and set the timer that ends it."""
    log = auto.home.parent / "trace"
    words = [need("strace"), "-ff", "-o", str(log), "-e", "trace=process,%desc,chdir,setsid,alarm,close_range"]
    process = subprocess.Popen([*words, *auto.command("record", "log", "a")], env=auto.environ)
    assert hanging.asked.wait(60 * PACE)
    hanging.may_answer.set()
    process.wait(60 * PACE)
    own = only([text for path in log.parent.glob("trace.*") if "\nsetsid()" in (text := "\n" + path.read_text())])
    before, _, after = own.partition("\nexecve(")
    for call in (f"alarm({LIFE_SECONDS})", "dup2(", "close_range(3, 1048575", 'chdir("/")'):
        assert f"\n{call}" in before
    # What it opens first gets the first number that is free.
    assert re.search(r"^open.* = (\d+)$", after, re.MULTILINE)[1] == "3"  # type: ignore[index]


def test_opted_out_nothing_is_started(auto: Tool, intake: FakeIntake) -> None:
    """Opted out a command forks nothing; and a flush that was started before ends without a connection and without a file."""
    auto("record", "log", "a", RILLEVENTS_FLUSH_AUTO="off")
    log = auto.home.parent / "trace"
    strace = [need("strace"), "-f", "-o", str(log), "-e", "trace=process,network,%file"]

    def calls(*words: str, **environ: str) -> str:
        subprocess.run([*strace, *auto.command(*words)], env=auto.environ | environ, check=True, capture_output=True)
        return log.read_text()

    off = {"DO_NOT_TRACK": "1"}
    assert not re.search(r"\b(v?fork|clone3?|connect|socket)\(", calls("record", "log", "b", **off))
    before = sorted(auto.home.rglob("*"))
    found = calls("auto-flush", **{SPOOL: auto.paths.spool_dir}, **off)
    assert not re.search(r"\b(connect|socket)\(", found)
    assert "O_CREAT" not in "".join(line for line in found.splitlines() if str(auto.home) in line)
    assert before == sorted(auto.home.rglob("*"))
    assert [] == intake.requests


def test_it_starts_no_other(auto: Tool, intake: FakeIntake) -> None:
    """What the flush itself starts records, and starts no flush: there is no recursion."""
    command = f"{shlex.quote(sys.executable)} -m rillevents record log inner --on-error fail && echo s3cret"
    with (auto.home / "config.toml").open("a") as file:
        file.write(f'[intake]\nurl = "{auto.environ.pop("RILLEVENTS_INTAKE_URL")}"\nuser = "u"\n')
        file.write(f"password_command = {json.dumps(command)}\n")
    os.utime(auto.home / "config.toml", (1, 1))
    auto("record", "log", "outer", RILLEVENTS_FLUSH_AUTO="0.000001")
    eventually(has_ended(auto))
    assert {"outer"} <= {event["event_name"] for event in intake.events} <= {"outer", "inner"}
    assert len(intake.requests) <= 2


def test_not_before_the_notice(tool: Tool, intake: FakeIntake) -> None:
    """Before the user was told that events are stored nothing is sent: not by scripts, nor with the event that is told of."""
    tool.home.mkdir()
    (tool.home / "config.toml").write_text("[flush]\nauto = 0.001\n")
    tool("record", "log", "a")
    ours, theirs = pty.openpty()
    words = tool.command("record", "log", "b")
    subprocess.run(words, env=tool.environ, stdout=theirs, stderr=theirs, check=True)
    told = os.read(ours, 4096)
    os.close(theirs)
    os.close(ours)
    assert b"sent by a flush after a command" in told
    eventually(lambda: not children(tool))
    assert [] == intake.requests
    tool("record", "log", "c")
    eventually(lambda: 3 == len(intake.events))


@pytest.mark.parametrize("asked", [{}, {"RILLEVENTS_FLUSH_AUTO": "1h"}], ids=["configured", "asked"])
def test_in_ci(asked: dict[str, str], auto: Tool, intake: FakeIntake) -> None:
    """In a CI job it is started only if the job's environment asks; a configuration does not."""
    auto("record", "log", "a", CI="true", **asked)
    if asked:
        eventually(lambda: intake.events)
    eventually(lambda: not children(auto))
    assert bool(asked) == bool(intake.events)


@pytest.mark.slow
@pytest.mark.parametrize("value", ["soon", "off", "0", "-1s"])
def test_the_variable(value: str, auto: Tool, intake: FakeIntake) -> None:
    """The variable wins over the configuration; what is no duration is told, and starts nothing."""
    done = auto("record", "log", "a", RILLEVENTS_FLUSH_AUTO=value)
    assert ("FLUSH_AUTO" in done.stderr) == (value in ("soon", "-1s"))
    assert not (auto.spool / AUTO).exists()
    assert 0 == done.returncode


@pytest.mark.slow
def test_the_cache_has_it_and_nothing_else(auto: Tool) -> None:
    """What `record` reads is cached: of [flush] the interval, and no destination, which may hold a password."""
    (auto.home / "config.toml").write_text('[flush]\nauto = "off"\nto = "https://u:s3cret@i.example/"\n')
    auto("record", "log", "a")
    cached = (auto.home / "config.json").read_text()
    assert {"flush": {"auto": 0.0}} == json.loads(cached)["sections"]
    (auto.home / "config.json").write_text(cached.replace("0.0", '"x"'))
    assert ("", 2) == (auto("record", "log", "b").stderr, len(auto.lines()))


def test_back_off(auto: Tool, intake: FakeIntake) -> None:
    """After a failure the next flush is later, for every command, until one delivers that somebody asked for."""
    auto.environ["RILLEVENTS_FLUSH_AUTO"] = "200s"
    intake.respond = lambda request: 401
    auto("record", "log", "a")
    eventually(has_ended(auto))
    assert (1, "refused") == tuple(last_pass(str(auto.spool)).values())[:2]
    ahead = (auto.spool / AUTO).stat().st_mtime - time.time()
    assert 100 < ahead <= 200
    count = len(intake.requests)
    auto("record", "log", "b")
    assert [] == children(auto)
    assert count == len(intake.requests)
    intake.respond = None
    assert 0 == auto("flush").returncode
    assert 0 == last_pass(str(auto.spool))["failures"]


@pytest.mark.slow
def test_its_files_are_private(auto: Tool) -> None:
    """Its file is 0600, whatever the umask."""
    subprocess.run(
        ["sh", "-c", 'umask 0; exec "$@"', "sh", *auto.command("record", "log", "a")], env=auto.environ, check=True
    )
    eventually(has_ended(auto))
    assert 0o600 == stat.S_IMODE((auto.spool / AUTO).stat().st_mode)


START = """
import os, sys
from rillevents.delivery import detached
from rillevents.local import Paths
detached.LIFE_SECONDS = int(sys.argv[2])
paths = Paths(os.environ)
detached.start(paths, paths.spool_dir, 1.0, lasting=True, words=["/bin/sh", "-c", sys.argv[1]])
try:
    os.waitpid(-1, os.WNOHANG)
except ChildProcessError:
    print("no child")
"""


def started(tool: Tool, script: str, life: int = 60) -> str:
    """Let a process that goes on start *script* instead of a flush, and return what it prints."""
    words = [sys.executable, "-c", START, script, str(life)]
    return subprocess.run(words, env=tool.environ, check=True, capture_output=True, text=True).stdout


def test_a_process_that_goes_on(auto: Tool) -> None:
    """A process that does not end soon is left without a child that somebody would have to wait for."""
    auto("record", "log", "a", RILLEVENTS_FLUSH_AUTO="off")
    out = auto.home.parent / "out"
    assert "no child\n" == started(auto, f"echo x > {out}")
    eventually(out.exists)


@pytest.mark.slow
def test_its_life_has_a_limit(auto: Tool) -> None:
    """What hangs in any way is ended by a timer of the system."""
    auto("record", "log", "a", RILLEVENTS_FLUSH_AUTO="off")
    out = auto.home.parent / "out"
    subprocess.run(["sh", "-c", "trap '' ALRM; exec \"$@\"", "sh", *sleeping(out)], env=auto.environ, check=True)
    pid = int(eventually(lambda: out.exists() and out.read_text().strip()))
    eventually(lambda: not Path(f"/proc/{pid}").exists())


def sleeping(out: Path) -> list[str]:
    """Return the words that start a process which sleeps for an hour, with a second to live, and writes its number."""
    return [sys.executable, "-c", START, f"echo $$ > {out}; exec sleep 3600", "1"]


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_it_runs_as_the_owner_of_the_spool(auto: Tool) -> None:
    """Started by root for another user's spool it is that user's process, without root's groups and credentials."""
    auto("record", "log", "a", RILLEVENTS_FLUSH_AUTO="off")
    for path in [auto.home, *auto.home.rglob("*")]:
        os.chown(path, 12345, 12346)
    out = Path("/var/tmp") / f"rillevents-test-{os.getpid()}-{time.monotonic_ns()}"
    auto.environ |= {"RILLEVENTS_INTAKE_PASSWORD": "s3cret", "OTHER": "s3cret"}
    try:
        started(auto, f"{{ id -u; id -g; id -G; env; }} > {out}.tmp && mv {out}.tmp {out}")
        eventually(out.exists)
        text = out.read_text()
        assert 12345 == out.stat().st_uid
    finally:
        out.unlink(missing_ok=True)
    assert ["12345", "12346", "12346"] == text.splitlines()[:3]
    assert "s3cret" not in text
    assert f"RILLEVENTS_HOME={auto.home}" in text
    assert 12345 == (auto.spool / AUTO).stat().st_uid


@pytest.mark.slow
def test_from_an_archive(auto: Tool, intake: FakeIntake) -> None:
    """A zip file with the package and its needs starts itself again."""
    import zipapp

    folder = auto.home.parent / "app"
    shutil.copytree(
        Path(__file__).parents[1] / "rillevents", folder / "rillevents", ignore=shutil.ignore_patterns("__pycache__")
    )
    (folder / "__main__.py").write_text("from rillevents.cli import main\nmain()\n")
    zipapp.create_archive(folder, auto.home.parent / "tool.pyz")
    subprocess.run(
        [sys.executable, "tool.pyz", "record", "log", "a"], env=auto.environ, cwd=auto.home.parent, check=True
    )
    eventually(lambda: intake.events)


def test_the_signal_that_ends_it() -> None:
    """The flush has a time of its own that is over before the timer's."""
    from rillevents.delivery.auto import DELIVER_SECONDS

    assert DELIVER_SECONDS < LIFE_SECONDS
    assert signal.SIGALRM
