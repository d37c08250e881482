"""A program with telemetry under its own name, run as its users run it; and a client that delivers by itself."""

from __future__ import annotations

import fcntl
import json
import multiprocessing
import os
import pickle
import pty
import re
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support import PACE, need, only
from test_docs import PAGES, TEXTS, blocks, only_block

from rillevents import Application, Client
from rillevents.delivery import WORD
from rillevents.delivery.detached import LIFE_SECONDS
from rillevents.local import Paths
from rillevents.spool.view import existing_spools, pending
from rillevents.testing import FakeIntake

ROOT = Path(__file__).parents[1]
NOTICE = "mytool records what it does; to stop: mytool telemetry off"
# An end user's program, of five lines.
FIVE = """
from rillevents import Application
app = Application("mytool", "MYTOOL_", version="1.2", {options})
app.client().record_behavioral("app-start", plan="pro")
print("done")
"""


@pytest.fixture
def intake() -> Iterator[FakeIntake]:
    with FakeIntake() as running:
        yield running


class User:
    """A user who runs a program, with a home of their own."""

    def __init__(self, folder: Path, options: str = "", program: str = FIVE) -> None:
        self.home = folder / "home of one"
        self.home.mkdir()
        self.file = folder / "mytool.py"
        self.file.write_text(program.replace("{options}", options))
        self.environ = {"PATH": "/usr/bin:/bin", "HOME": str(self.home), "PYTHONPATH": str(ROOT)}

    def words(self, *argv: str) -> list[str]:
        return [sys.executable, str(self.file), *argv]

    def run(self, *argv: str, **environ: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.words(*argv),
            env=self.environ | environ,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=60 * PACE,
        )

    def on_a_terminal(self, *argv: str, **environ: str) -> str:
        """Run the program on a terminal, and return what the screen shows."""
        ours, theirs = pty.openpty()
        running = subprocess.Popen(
            self.words(*argv), env=self.environ | environ, stdin=theirs, stdout=theirs, stderr=theirs
        )
        os.close(theirs)
        shown = b""
        try:
            while piece := os.read(ours, 4096):
                shown += piece
        except OSError:
            pass
        os.close(ours)
        assert 0 == running.wait(60 * PACE)
        return shown.decode()

    @property
    def paths(self) -> Paths:
        return Paths(self.environ, Application("mytool", "MYTOOL_"))

    def waiting(self) -> list[dict[str, Any]]:
        return [json.loads(line) for place in existing_spools(self.paths) for line in pending(place)]

    def files(self) -> list[str]:
        return sorted(path.name for path in self.home.rglob("*") if path.is_file())


def until(arrived: Any) -> None:
    deadline = time.monotonic() + 60 * PACE
    while not arrived():
        assert time.monotonic() < deadline
        time.sleep(0.02)


class TestUser:
    def test_the_first_run_on_a_terminal(self, tmp_path: Path) -> None:
        """The notice is shown once, on a terminal, before the program goes on; events have the program's name and version."""
        user = User(tmp_path, f"notice={NOTICE!r}")
        assert [NOTICE, "done"] == user.on_a_terminal().split("\r\n")[:2]
        assert ["done"] == user.on_a_terminal().split("\r\n")[:1]
        assert {("mytool", "1.2", "pro")} == {
            (event["service_name"], event["service_version"], event["plan"]) for event in user.waiting()
        }
        assert 2 == len(user.waiting())

    @pytest.mark.parametrize("environ", [{"CI": "true"}, {"GITHUB_ACTIONS": "true"}])
    def test_in_ci_there_is_no_notice(self, environ: dict[str, str], tmp_path: Path) -> None:
        """In CI nothing is shown, on a terminal either, and it is not counted as shown."""
        user = User(tmp_path, f"notice={NOTICE!r}")
        assert "records" not in user.on_a_terminal(**environ)
        assert "noticed" not in user.files()

    def test_without_a_terminal_there_is_no_notice(self, tmp_path: Path) -> None:
        """Where nobody would read it, the notice is kept for later."""
        user = User(tmp_path, f"notice={NOTICE!r}")
        done = user.run()
        assert (0, "done\n", "") == (done.returncode, done.stdout, done.stderr)
        assert NOTICE in user.on_a_terminal()

    @pytest.mark.parametrize(
        "environ", [{"MYTOOL_TELEMETRY": "0"}, {"DO_NOT_TRACK": "1"}, {"MYTOOL_TELEMETRY": "maybe"}]
    )
    def test_opted_out_by_a_variable(self, environ: dict[str, str], tmp_path: Path) -> None:
        """Opted out: no file below the home, no connection, no notice."""
        user = User(tmp_path, f"notice={NOTICE!r}, intake_url='http://127.0.0.1:9/', auto_flush=1")
        log = tmp_path / "strace"
        words = [
            need("strace"),
            "-f",
            "-e",
            "trace=connect,openat,mkdir,fork,vfork,clone",
            "-o",
            str(log),
            *user.words(),
        ]
        subprocess.run(words, env=user.environ | environ, check=True, capture_output=True)
        assert [] == user.files()
        assert "connect(" not in log.read_text()
        assert "O_CREAT" not in "".join(line for line in log.read_text().splitlines() if str(user.home) in line)

    def test_opted_out_by_the_command(self, tmp_path: Path) -> None:
        """`telemetry off --purge` deletes what waits and keeps the decision; the program records nothing afterwards."""
        user = User(tmp_path, program=COMMANDS)
        user.run("work")
        assert 1 == len(user.waiting())
        done = user.run("telemetry", "off", "--purge")
        assert (0, "", "mytool: telemetry is off; deleted 1 events\n") == (done.returncode, done.stdout, done.stderr)
        user.run("work")
        assert [] == user.waiting()
        assert "off (decided by: " in user.run("telemetry", "status").stdout
        assert "mytool: telemetry is on\n" == user.run("telemetry", "on").stderr
        user.run("work")
        shown = user.run("telemetry", "show").stdout.splitlines()
        assert "work" == json.loads(only(shown))["event_name"]
        wrong = user.run("telemetry", "maybe")
        assert (2, "") == (wrong.returncode, wrong.stdout)
        assert "write on, off, off --purge, status or show" in wrong.stderr

    def test_opt_in(self, tmp_path: Path) -> None:
        """With opt-in nothing is recorded and no file is made before the user agrees, by the command or by the variable."""
        user = User(tmp_path, "consent='opt-in'", COMMANDS)
        user.run("work")
        assert ([], "off (decided by: default)\n") == (user.files(), user.run("telemetry", "status").stdout)
        user.run("work", MYTOOL_TELEMETRY="1")
        assert 1 == len(user.waiting())
        user.run("telemetry", "on")
        user.run("work")
        assert 2 == len(user.waiting())
        user.run("work", DO_NOT_TRACK="1")
        assert 2 == len(user.waiting())

    def test_debug(self, tmp_path: Path) -> None:
        """With the debug variable events are printed to stderr, and neither stored nor sent."""
        user = User(tmp_path, "intake_url='http://127.0.0.1:9/'")
        done = user.run(MYTOOL_TELEMETRY_DEBUG="1")
        assert ("done\n", "app-start") == (done.stdout, json.loads(done.stderr)["event_name"])
        assert [] == user.files()
        assert "" == user.run(MYTOOL_TELEMETRY_DEBUG="1", DO_NOT_TRACK="1").stderr
        for off in ("0", "off", ""):
            assert "" == user.run(MYTOOL_TELEMETRY_DEBUG=off).stderr
        assert 3 == len(user.waiting())

    def test_debug_shows_what_would_be_sent(self, tmp_path: Path) -> None:
        """With the debug variable an event is printed as it would be sent: with the user's settings, and what they leave out."""
        program = FIVE.replace('"app-start", plan="pro"', '"app-start", pin="1234", plan="pro", secret_plan="x"')
        program += 'app.client().record_behavioral("noise-start")\n'
        user = User(tmp_path, program=program)
        home = tmp_path / "mytool"
        home.mkdir()
        (home / "config.toml").write_text(
            '[attributes]\nteam = "web"\n[redact]\nkeys = ["pin"]\n'
            '[filter]\ndrop_names = ["noise-*"]\ndrop_attributes = ["secret_plan"]\n'
        )
        variables = {"MYTOOL_HOME": str(home), "TRACEPARENT": f"00-{'a' * 32}-{'b' * 16}-01"}
        shown = json.loads(user.run(MYTOOL_TELEMETRY_DEBUG="1", **variables).stderr)
        assert ["config.toml"] == [path.name for path in home.iterdir()]
        user.environ |= variables
        user.run()
        [sent] = [json.loads(line) for line in pending(str(home / "spool"))]
        for event in (shown, sent):
            # Another one each time.
            for name in ("event_id", "event_time", "install_id", "time"):
                assert event.pop(name, "x")
        assert sent == shown
        assert ("[redacted]", "web", "a" * 32) == (shown["pin"], shown["team"], shown["trace_id"])

    def test_its_own_places(self, tmp_path: Path) -> None:
        """The user's own rillevents and the program's telemetry do not meet: folders, ID, variables, consent."""
        user = User(tmp_path)
        user.run(RILLEVENTS_TELEMETRY="0", RILLEVENTS_HOME=str(tmp_path / "other"), RILLEVENTS_SESSION_ID="s")
        event = only(user.waiting())
        assert "session_id" not in event
        assert not (tmp_path / "other").exists()
        assert all("mytool" in str(path) for path in user.home.rglob("*") if path.is_file())


COMMANDS = """
import sys
from rillevents import Application
app = Application("mytool", "MYTOOL_", notice="n", {options})
if sys.argv[1] == "telemetry":
    sys.exit(app.telemetry_command(sys.argv[2:]))
app.client().record_behavioral(sys.argv[1])
"""


def test_what_opted_out_costs(tmp_path: Path) -> None:
    """A program whose user opted out loads nothing that only recording or delivering needs."""
    unwanted = (
        "{'json', 'logging', 'rillevents.delivery.detached', 'rillevents.local.ci', 'rillevents.local.config_file'}"
    )
    program = FIVE.replace("app.client()", "app.maybe_flush_child()\napp.client()")
    program += f"import sys\nprint({unwanted} & {{*sys.modules}})\n"
    done = User(tmp_path, "auto_flush=1", program).run(MYTOOL_TELEMETRY="0")
    assert ("done\nset()\n", "") == (done.stdout, done.stderr)


class TestAutoFlush:
    @pytest.mark.parametrize("hook", [False, True], ids=["plain", "with-the-hook"])
    def test_delivers_beside_the_program(self, hook: bool, intake: FakeIntake, tmp_path: Path) -> None:
        """After the notice a program's events arrive by a process of its own; its main does not run twice, and it does not wait."""
        program = FIVE.replace("app.client", "app.maybe_flush_child()\napp.client") if hook else FIVE
        options = (
            f"notice={NOTICE!r}, intake_url={intake.url!r}, intake_user='u', intake_password='s3cret', auto_flush='1s'"
        )
        user = User(tmp_path, options, program)
        user.on_a_terminal()
        until(lambda: [] == user.waiting() or intake.events)
        until(lambda: intake.events)
        assert ["app-start"] == [event["event_name"] for event in intake.events]

    @pytest.mark.parametrize("started", ["script", "module", "code"])
    def test_a_program_that_changes_its_folder(self, started: str, intake: FakeIntake, tmp_path: Path) -> None:
        """With the hook a program delivers however it was started, also if it is in another folder by then; its main runs once."""
        program = (
            f"import os, sys\nfrom rillevents import Application\n"
            f"app = Application('mytool', 'MYTOOL_', intake_url={intake.url!r}, auto_flush='1s')\n"
            "app.maybe_flush_child()\nopen('ran', 'a').write('x')\nos.chdir('/')\nsys.argv[0] = 'other'\n"
            "app.client().record_behavioral('app-start')\n"
        )
        user = User(tmp_path, program=program)
        words = {"script": ["mytool.py"], "module": ["-m", "mytool"], "code": ["-c", program]}[started]
        environ = user.environ | {"MYTOOL_TELEMETRY": "1"}
        subprocess.run([sys.executable, *words], env=environ, cwd=tmp_path, check=True, timeout=60 * PACE)
        until(lambda: intake.events)
        assert "x" == (tmp_path / "ran").read_text()

    @pytest.mark.parametrize("hook", [False, True], ids=["plain", "with-the-hook"])
    def test_what_it_has_of_the_program(self, hook: bool, intake: FakeIntake, tmp_path: Path) -> None:
        """A program is not copied; the process beside it has a session, a folder, a limit, signals and descriptors of its own."""
        asked, may_answer = threading.Event(), threading.Event()

        def hold(request: object) -> int:
            asked.set()
            may_answer.wait(60 * PACE)
            return 200

        intake.respond = hold
        program = FIVE.replace("app.client", "app.maybe_flush_child()\napp.client") if hook else FIVE
        program += "import signal\nsignal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])\n"
        user, log = User(tmp_path, f"intake_url={intake.url!r}, auto_flush=1", program), tmp_path / "strace"
        mark = f'"{WORD}"' if hook else "rillevents.recordin"
        lock, words = tmp_path / "lock", shlex.join(user.words())
        script = f"exec 9>{shlex.quote(str(lock))} && flock 9 && trap '' TERM && {words}"
        trace = [need("strace"), "-f", "-e", "trace=process,alarm", "-o", str(log), "bash", "-c", script]
        try:
            started = subprocess.Popen(trace, env=user.environ | {"MYTOOL_TELEMETRY": "1"}, stdout=subprocess.DEVNULL)
            assert asked.wait(60 * PACE)
            lines = log.read_text().splitlines()
            child = only([line for line in lines if "execve(" in line and re.search(mark, line)]).split()[0]
            # The lock is free although this process goes on.
            subprocess.run([need("flock"), "-n", lock, "true"], check=True)
            place = Path("/proc", child)
            links = {number: os.readlink(place / "fd" / number) for number in os.listdir(place / "fd")}
            assert ["/dev/null"] * 3 == [links.pop(number) for number in "012"]
            assert not {str(lock), str(log)} & {*links.values()}
            assert "/" == os.readlink(place / "cwd")
            status = (place / "status").read_text()
            assert "Umask:\t0077" in status
            assert 0 == int(re.search(r"SigIgn:\s+(\w+)", status)[1], 16) >> signal.SIGTERM - 1 & 1  # type: ignore[index]
            assert 0 == int(re.search(r"SigBlk:\s+(\w+)", status)[1], 16)  # type: ignore[index]
            assert child == (place / "stat").read_text().rpartition(")")[2].split()[3]
        finally:
            may_answer.set()
        started.wait(60 * PACE)
        own = [line for line in lines if line.split()[0] == child]
        assert f"alarm({LIFE_SECONDS})" in "".join(own)
        program = next(line for line in lines if line.endswith(f" = {child}")).split()[0]
        begun = [line for line in lines if line.split()[0] == program and re.search(r"fork\(|clone3?\(", line)]
        assert "vfork(" in begun[-1] or "CLONE_VFORK" in begun[-1]

    def test_credentials_are_not_in_arguments(self, intake: FakeIntake, tmp_path: Path) -> None:
        """The process beside the program has neither URL nor password among its arguments."""
        credentials = "intake_user='u', intake_password='s3cret'"
        options = f"notice={NOTICE!r}, intake_url={intake.url!r}, {credentials}, auto_flush=1"
        user, log = User(tmp_path, options), tmp_path / "strace"
        (tmp_path / "marker").mkdir()
        words = [need("strace"), "-f", "-e", "trace=execve", "-s", "2000", "-o", str(log), *user.words()]
        subprocess.run(words, env=user.environ | {"MYTOOL_TELEMETRY": "1"}, check=True, capture_output=True)
        until(lambda: log.read_text().count("execve(") >= 2)
        assert "s3cret" not in "".join(
            line.partition("[")[2].partition("]")[0] for line in log.read_text().splitlines()
        )

    def test_a_run_that_may_not_deliver_takes_no_turn(self, intake: FakeIntake, tmp_path: Path) -> None:
        """A run in CI, where nothing is delivered, does not hold up the delivery of the next one."""
        user = User(tmp_path)
        for number, end in enumerate(("", "client.close()")):
            program = FIVE.replace("app.client()", "client = app.client()\nclient") + end
            user.file.write_text(program.replace("{options}", f"intake_url={intake.url!r}, auto_flush='1d'"))
            environ = {"MYTOOL_TELEMETRY": "1", "MYTOOL_HOME": str(tmp_path / f"home{number}")}
            user.run(CI="true", **environ)
            assert 2 * number == len(intake.events)
            user.run(**environ)
            until(lambda number=number: 2 * number + 2 == len(intake.events))

    @pytest.mark.parametrize("environ", [{}, {"MYTOOL_TELEMETRY": "1", "CI": "true"}])
    def test_not_before_the_notice_nor_in_ci(self, environ: dict[str, str], intake: FakeIntake, tmp_path: Path) -> None:
        """Where nobody was told, and in CI, nothing is sent by itself."""
        user = User(tmp_path, f"intake_url={intake.url!r}, auto_flush=1")
        log = tmp_path / "strace"
        words = [need("strace"), "-f", "-e", "trace=execve,connect", "-o", str(log), *user.words()]
        subprocess.run(words, env=user.environ | environ, check=True, capture_output=True)
        assert 1 == len(user.waiting())
        assert ([], 1) == (intake.events, log.read_text().count("execve("))

    @pytest.mark.parametrize(("end", "waits"), [("", 0), ("client.close()", 1)], ids=["ends", "goes on"])
    def test_waits_for_no_process(self, end: str, waits: int, intake: FakeIntake, tmp_path: Path) -> None:
        """A program that ends waits for no process; one that goes on is left without a child."""
        program = FIVE.replace("app.client()", "client = app.client()\nclient") + end
        user, log = User(tmp_path, f"intake_url={intake.url!r}, auto_flush=1", program), tmp_path / "strace"
        words = [need("strace"), "-f", "-e", "trace=wait4,execve", "-o", str(log), *user.words()]
        subprocess.run(words, env=user.environ | {"MYTOOL_TELEMETRY": "1"}, check=True, capture_output=True)
        until(lambda: intake.events)
        lines = log.read_text().splitlines()
        first = lines[0].split()[0]
        assert waits == sum("wait4(" in line for line in lines if line.split()[0] == first)

    def test_the_intake_down(self, tmp_path: Path) -> None:
        """With an intake that never answers the program ends as soon as without, and its events wait."""
        with socket.create_server(("127.0.0.1", 0)) as silent:
            url = f"http://127.0.0.1:{silent.getsockname()[1]}/"
            user = User(tmp_path, f"intake_url={url!r}, auto_flush=1, notice='n'")
            started = time.monotonic()
            done = user.run(MYTOOL_TELEMETRY="1")
            assert (0, "done\n") == (done.returncode, done.stdout)
            assert time.monotonic() - started < 10 * PACE
            assert 1 == len(user.waiting())


def test_the_program_of_the_manual(intake: FakeIntake, tmp_path: Path) -> None:
    """The whole example of the manual, as its user runs it: the notice, its commands, its events at the intake, off."""
    program = only_block(PAGES["embedding"], "python program")
    program = program.replace("https://intake.example.com/events/default", intake.url)
    user = User(tmp_path, program=program)
    assert "mytool records which commands you use" in user.on_a_terminal("build", "--target", "x")
    until(lambda: len(intake.events) == 2)
    assert {"build", "build-success"} == {event["event_name"] for event in intake.events}
    assert {"1.2"} == {event["service_version"] for event in intake.events}
    assert ("building all\n", "") == ((done := user.run("build")).stdout, done.stderr)
    assert 0 == user.run("telemetry", "off", "--purge").returncode
    assert "off (decided by: " in user.run("telemetry", "status").stdout
    user.run("build")
    assert [] == user.waiting()


@pytest.mark.parametrize("way", ["DO_NOT_TRACK=1", "MYTOOL_TELEMETRY=0", "telemetry off", "not granted"])
def test_the_program_of_the_manual_opted_out(way: str, intake: FakeIntake, tmp_path: Path) -> None:
    """Opted out by each of the ways, the whole example makes no file, no connection, and no other process."""
    program = only_block(PAGES["embedding"], "python program")
    program = program.replace("https://intake.example.com/events/default", intake.url)
    if way == "not granted":
        program = program.replace("    version=", '    consent="opt-in",\n    version=')
        assert "opt-in" in program
    user, log = User(tmp_path, program=program), tmp_path / "strace"
    if way == "telemetry off":
        assert 0 == user.run("telemetry", "off").returncode
    before = sorted(user.home.rglob("*"))
    name, _, value = way.partition("=")
    # With its variables for sending: only the user's decision stands against it.
    environ = user.environ | {"MYTOOL_FLUSH_AUTO": "1s"} | ({name: value} if value else {})
    trace = "trace=connect,sendto,openat,creat,mkdir,mkdirat,rename,symlink,execve,fork,vfork,clone,clone3"
    words = [need("strace"), "-f", "-e", trace, "-o", str(log), *user.words("build")]
    done = subprocess.run(words, env=environ, capture_output=True, text=True, check=True, timeout=60 * PACE)
    made = [line for line in log.read_text().splitlines() if re.search(r"O_CREAT|creat\(|mkdir|rename|symlink", line)]
    # Python itself writes what it has compiled.
    assert [] == [line for line in made if "__pycache__" not in line]
    assert [] == re.findall(r"(?:connect|sendto|v?fork|clone3?)\(.*", log.read_text())
    assert 1 == log.read_text().count("execve(")
    assert before == sorted(user.home.rglob("*"))
    assert [] == intake.requests
    assert ("building all\n", "") == (done.stdout, done.stderr)


@pytest.mark.slow
@pytest.mark.parametrize("page", ["embedding", "services", "library", "README"])
def test_type_checkers_find_nothing_in_the_examples(page: str, tmp_path: Path) -> None:
    """Mypy in its strict mode, and pyright, have nothing to say about the manual's examples."""
    files = []
    for number, body in enumerate([*blocks(TEXTS[page], "python"), *blocks(TEXTS[page], "python program")]):
        file = tmp_path / f"{page.lower()}_{number}.py"
        file.write_text(body)
        files.append(str(file))
    settings = tmp_path / "pyrightconfig.json"
    settings.write_text(json.dumps({"typeCheckingMode": "standard", "extraPaths": [str(ROOT)], "include": ["*.py"]}))
    for words in (
        ["mypy", "--strict", "--cache-dir", str(tmp_path / "cache"), "--config-file=", *CHECKED, *files],
        ["basedpyright", "--project", str(settings), "--pythonpath", sys.executable],
    ):
        done = subprocess.run([sys.executable, "-m", *words], cwd=ROOT, capture_output=True, text=True)
        assert 0 == done.returncode, done.stdout + done.stderr


# Celery has no types of its own.
CHECKED = ["--disable-error-code=import-untyped", "--disable-error-code=untyped-decorator"]


class TestSettings:
    def test_the_users_intake_gets_no_credentials_of_the_program(self, tmp_path: Path) -> None:
        """Where the user names another intake, in config.toml or by the variable, the program's password does not go there."""
        from rillevents.delivery.destination import intake_settings
        from rillevents.local import config

        app = Application("mytool", "MYTOOL_", intake_url="https://ours.example/", intake_user="u", intake_password="p")
        environ = {"MYTOOL_HOME": str(tmp_path / "home")}
        paths = Paths(environ, app)
        found = intake_settings(paths, config.load(paths))
        assert found
        assert ("https://ours.example/", "u", "p") == (found.url, found.user, found.password)
        (tmp_path / "home").mkdir()
        (tmp_path / "home" / "config.toml").write_text('[intake]\nurl = "https://theirs.example/"\n')
        theirs = intake_settings(paths, config.load(paths))
        assert theirs
        assert ("https://theirs.example/", None) == (theirs.url, theirs.password)
        (tmp_path / "home" / "config.toml").unlink()
        variable = Paths(environ | {"MYTOOL_INTAKE_URL": "https://theirs.example/"}, app)
        third = intake_settings(variable, config.load(variable))
        assert third
        assert ("https://theirs.example/", None) == (third.url, third.password)

    def test_the_users_settings_win(self, tmp_path: Path) -> None:
        """Attributes and limits of config.toml win over the program's."""
        app = Application(
            "mytool", "MYTOOL_", version="1", max_bytes=1, environ={"MYTOOL_HOME": str(tmp_path / "home")}
        )
        assert None is app.client().record("a", "x")
        (tmp_path / "home" / "config.toml").write_text(
            '[attributes]\nservice_name = "mine"\n[spool]\nmax_bytes = "1MB"\n'
        )
        client = app.client()
        assert client.record("a", "x")
        assert ("mine", "1") == (client.attributes["service_name"], client.attributes["service_version"])

    @pytest.mark.parametrize(
        ("given", "said"),
        [
            ({"name": "a/b"}, "name of a folder"),
            ({"consent": "maybe"}, "'opt-out' or 'opt-in'"),
            ({"auto_flush": "soon"}, "auto_flush must be a number of seconds"),
            ({"auto_flush": 0}, "above 0"),
            ({"max_bytes": "1GiB"}, "max_bytes must be a number of bytes"),
            ({"max_bytes": -1}, "max_bytes must be a number of bytes"),
            ({"prefix": ""}, "prefix must be"),
            ({"prefix": "a-b "}, "prefix must be"),
            ({"intake_url": "nonsense"}, "intake_url must begin with"),
        ],
    )
    def test_wrong_arguments(self, given: dict[str, Any], said: str) -> None:
        """A wrong argument is a ValueError that says what is right."""
        with pytest.raises(ValueError, match=said):
            Application(**({"name": "mytool", "prefix": "MYTOOL_"} | given))

    def test_messages_are_the_programs_own(self, caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
        """What a program's user reads names its variables, and no command or variable of `rillevents`; a failure once a minute."""
        app = Application("mytool", "MYTOOL_", max_bytes=1, environ={"MYTOOL_HOME": str(tmp_path / "home")})
        client = app.client()
        for number in range(3):
            assert None is client.with_attributes(n=number).record_behavioral("x")
        assert [f"event not recorded: the spool {tmp_path}/home/spool/v1 is full (1 bytes)"] == caplog.messages
        assert "set MYTOOL_INTAKE_URL" in client.flush(timeout=1).reason
        (tmp_path / "home" / "config.toml").write_text("[spool]\nmax_bytes = 'much'\n[nonsense]\n")
        app.client()
        assert "rillevents" not in client.flush(timeout=1).reason + "".join(caplog.messages).lower()

    def test_a_client_that_nobody_keeps(self, intake: FakeIntake, tmp_path: Path) -> None:
        """Clients that are dropped leave no descriptor open, and what they stored is delivered beside the program."""
        program = (
            f"import os\nfrom rillevents import Application\n"
            f"app = Application('mytool', 'MYTOOL_', intake_url={intake.url!r}, auto_flush='1s')\n"
            "def count(): return len(os.listdir('/dev/fd'))\n"
            "app.client().record_behavioral('first')\nbefore = count()\n"
            "for _ in range(50): app.client().record_behavioral('other')\nprint(count() - before)\n"
        )
        user = User(tmp_path, program=program)
        done = user.run(MYTOOL_TELEMETRY="1")
        assert ("0\n", "") == (done.stdout, done.stderr)
        until(lambda: 51 == len(intake.events))

    def test_an_output_that_ends(self, tmp_path: Path) -> None:
        """`show` to a reader that has enough is done; to a full disk it says that the output is incomplete, without a traceback."""
        program = (
            "import sys\nfrom rillevents import Application\napp = Application('mytool', 'MYTOOL_')\n"
            "if sys.argv[1:2] == ['telemetry']: sys.exit(app.telemetry_command(sys.argv[2:]))\n"
            "client = app.client()\nfor n in range(2000): client.record_behavioral('x', pad='y' * 100)\n"
        )
        user = User(tmp_path, program=program)
        user.run()
        words = shlex.join(user.words("telemetry", "show"))
        off = shlex.join(user.words("telemetry", "off"))
        script = f"set -o pipefail; {words} | head -n 1 | wc -l; echo $?; {words} > /dev/full; echo $?; ({off} >&-); echo $?; {off} 2>&-"
        done = subprocess.run([need("bash"), "-c", script], env=user.environ, capture_output=True, text=True)
        assert (0, "1\n0\n1\n0\n") == (done.returncode, done.stdout)
        incomplete, told = done.stderr.splitlines()
        assert "mytool: the output is incomplete: No space left on device" == incomplete
        assert told.startswith("mytool: telemetry is off")
        helped = user.run("telemetry", "--help")
        assert (0, "Usage: mytool telemetry COMMAND") == (helped.returncode, helped.stdout.splitlines()[0])

    def test_a_client_that_is_dropped_after_another_was_closed(self, intake: FakeIntake, tmp_path: Path) -> None:
        """What a dropped client stored is delivered at the end, whoever else was closed meanwhile."""
        program = (
            f"from rillevents import Application\n"
            f"app = Application('mytool', 'MYTOOL_', intake_url={intake.url!r}, auto_flush=0.001)\n"
            "a, b = app.client(), app.client()\nb.record_log('b', '1')\na.record_log('a', '1')\na.close()\n"
            "b.record_log('b', '2')\ndel b\n"
        )
        User(tmp_path, program=program).run(MYTOOL_TELEMETRY="1")
        until(lambda: 3 == len({event["event_id"] for event in intake.events}))

    def test_an_stderr_that_fails(self, tmp_path: Path) -> None:
        """Nothing of a message that nobody can read gets into the program: with a full disk as its stderr it goes on."""
        program = FIVE.replace("app.client()", "app.client().close() or app.client()")
        user = User(tmp_path, program=program)
        home = tmp_path / "mytool"
        home.mkdir()
        (home / "config.toml").write_text("[nonsense\n")
        for variables in ({}, {"MYTOOL_TELEMETRY_DEBUG": "1"}):
            with open("/dev/full", "w") as full:
                done = subprocess.run(
                    user.words(),
                    env=user.environ | {"MYTOOL_HOME": str(home)} | variables,
                    stdout=subprocess.PIPE,
                    stderr=full,
                )
            # A message that fails at the very end is Python's own exit code.
            assert b"done\n" == done.stdout

    def test_a_busy_flush(self, tmp_path: Path) -> None:
        """A flush that finds another one at work says how many events wait."""
        app = Application("mytool", "MYTOOL_", intake_url="http://127.0.0.1:9/", environ={"MYTOOL_HOME": str(tmp_path)})
        client = app.client()
        client.record_behavioral("x")
        with (tmp_path / "spool" / "v1" / "flush.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            found = client.flush(timeout=0.1)
        assert ("temporary", 1) == (found.outcome, found.pending)

    def test_the_typer_app(self, tmp_path: Path) -> None:
        """The commands can be mounted into a Typer program."""
        program = (
            "import typer\nfrom rillevents import Application\napp = typer.Typer()\n"
            "app.add_typer(Application('mytool', 'MYTOOL_').telemetry_app(), name='telemetry')\n"
            "@app.command()\ndef work() -> None: ...\napp()\n"
        )
        user = User(tmp_path, program=program)
        assert "on (decided by: default)\n" == user.run("telemetry", "status").stdout
        assert "deleted 0 events" in user.run("telemetry", "off", "--purge").stderr
        assert "off (decided by: " in user.run("telemetry", "status").stdout
        assert 2 == user.run("telemetry", "maybe").returncode

    def test_pickle(self, tmp_path: Path) -> None:
        """A client of an application can be pickled, as that of the user's own."""
        app = Application("mytool", "MYTOOL_", version="1", environ={"MYTOOL_HOME": str(tmp_path / "home")})
        again = pickle.loads(pickle.dumps(app.client(flush_every=60)))
        assert "1" == again.attributes["service_version"]
        again.close()


class TestFlushEvery:
    @pytest.fixture
    def environ(self, intake: FakeIntake, tmp_path: Path) -> dict[str, str]:
        return {"RILLEVENTS_HOME": str(tmp_path / "home"), "RILLEVENTS_INTAKE_URL": intake.url}

    def waiting(self, environ: dict[str, str]) -> list[bytes]:
        return [line for place in existing_spools(Paths(environ)) for line in pending(place)]

    def test_a_thread_delivers(self, environ: dict[str, str], intake: FakeIntake) -> None:
        """Events are on the disk at once, and arrive without a call; a thread of ours is there only from the first event on."""
        import threading

        def ours() -> list[str]:
            return [thread.name for thread in threading.enumerate() if thread.name == "rillevents-deliver"]

        client = Client.from_config(environ=environ, flush_every=0.1)
        assert [] == ours()
        client.record("a", "x")
        assert ["rillevents-deliver"] == ours()
        until(lambda: intake.events)
        client.record("a", "y")
        until(lambda: len(intake.events) == 2)
        client.close()
        until(lambda: [] == ours())

    def test_close_delivers_the_rest(self, environ: dict[str, str], intake: FakeIntake) -> None:
        """`close` delivers what is left within its time."""
        client = Client.from_config(environ=environ, flush_every="1h")
        client.record("a", "x")
        assert 1 == len(self.waiting(environ))
        client.close(timeout=30 * PACE)
        assert ["x"] == [event["event_name"] for event in intake.events]

    def test_close_keeps_its_time(self, environ: dict[str, str]) -> None:
        """With an intake that never answers, `close` ends within its time, and the event waits."""
        with socket.create_server(("127.0.0.1", 0)) as silent:
            environ = environ | {"RILLEVENTS_INTAKE_URL": f"http://127.0.0.1:{silent.getsockname()[1]}/"}
            client = Client.from_config(environ=environ, flush_every=60)
            client.record("a", "x")
            started = time.monotonic()
            client.close(timeout=0.5)
            assert time.monotonic() - started < 0.5 + 3 * PACE
        assert 1 == len(self.waiting(environ))

    def test_the_end_of_the_process_delivers(self, environ: dict[str, str], intake: FakeIntake) -> None:
        """A program that forgets to close delivers at its end."""
        code = "from rillevents import Client\nClient.from_config(flush_every=60).record('a', 'x')"
        words = [
            sys.executable,
            "-c",
            "import time\n"
            + code.replace("Client.from", "client = Client.from", 1).replace(".record", "\nclient.record"),
        ]
        subprocess.run(words, env=environ | {"PYTHONPATH": str(ROOT)}, check=True, timeout=60 * PACE)
        assert ["x"] == [event["event_name"] for event in intake.events]

    def test_forks(self, environ: dict[str, str], intake: FakeIntake) -> None:
        """Children that are forked with the client deliver their own events, and each arrives once."""
        client = Client.from_config(environ=environ, flush_every=0.05)
        client.record("a", "parent")
        context = multiprocessing.get_context("fork")
        workers = [context.Process(target=_record, args=(client, number)) for number in range(4)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join(60 * PACE)
        client.close(timeout=30 * PACE)
        counted = Counter(event["event_name"] for event in intake.events)
        assert {"parent": 1} | {f"n{n}-{k}": 1 for n in range(4) for k in range(5)} == dict(counted)

    def test_off_in_mid_run(self, environ: dict[str, str], intake: FakeIntake) -> None:
        """After `telemetry off` nothing is sent any more, by `close` either."""
        client = Client.from_config(environ=environ, flush_every=60)
        client.record("a", "x")
        (Path(environ["RILLEVENTS_HOME"]) / "telemetry").write_text("off\n")
        client.close(timeout=5)
        assert [] == intake.events
        assert 1 == len(self.waiting(environ))

    @pytest.mark.parametrize("wrong", [0, -1, "soon", float("nan")])
    def test_a_wrong_interval(self, wrong: Any, environ: dict[str, str]) -> None:
        """An interval that is none is a ValueError, at the start and not in a thread."""
        with pytest.raises(ValueError, match=r"flush_every|duration|soon"):
            Client.from_config(environ=environ, flush_every=wrong)

    def test_opted_out(self, environ: dict[str, str], tmp_path: Path) -> None:
        """Opted out there is no thread and no file."""
        client = Client.from_config(environ=environ | {"DO_NOT_TRACK": "1"}, flush_every=0.01)
        client.record("a", "x")
        client.close()
        assert not (tmp_path / "home").exists()


def _record(client: Client, number: int) -> None:
    for step in range(5):
        client.record("a", f"n{number}-{step}")
    client.close(timeout=30)
