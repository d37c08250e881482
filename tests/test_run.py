"""`rillevents run -- COMMAND`: two events around a command that notices nothing."""

from __future__ import annotations

import contextlib
import os
import pty
import select
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support import PACE, Tool, need

from rillevents.shell.arguments import redacted_arguments
from rillevents.testing import FakeIntake

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="not on this platform")

# What a process can see of how it was started.
PROBE = """
import json, os, resource, signal
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
umask = os.umask(0)
listed = os.open("/proc/self/fd", os.O_RDONLY)
print(json.dumps({
    "umask": umask,
    **{key: status[key].strip() for key in ("SigBlk", "SigIgn", "Threads")},
    "fds": sorted(int(name) for name in os.listdir(listed) if int(name) != listed),
    "limits": [resource.getrlimit(number) for number in range(16)],
    "environ": sorted(open("/proc/self/environ", "rb").read().decode().split("\\0")),
    "group": os.getpgrp() == %d or os.getpgid(os.getppid()) == os.getpgrp(),
    "session": os.getsid(0),
    "nice": os.nice(0),
}))
"""


def until(found: Callable[[], Any], seconds: float = 30) -> Any:
    """Wait for something to be there, and return it."""
    by = time.monotonic() + seconds * PACE
    while not (value := found()):
        assert time.monotonic() < by, "it did not happen in time"
        time.sleep(0.01)
    return value


def names(tool: Tool) -> list[str]:
    return [event["event_name"] for event in tool.events()]


def command_of(process: subprocess.Popen[bytes]) -> int:
    """Return the process of the command: the last child of ours, since the one that records is there before."""
    return int(Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()[-1])


@contextlib.contextmanager
def running(tool: Tool, *words: str, **more: Any) -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(tool.command("run", *words), env=tool.environ, stderr=subprocess.PIPE, **more) as process:
        try:
            yield process
        finally:
            process.kill()


class TestEvents:
    def test_success(self, tool: Tool) -> None:
        """A command that succeeds gives a start and a success, with one run_id, what it used, and the attributes."""
        done = tool("run", "-a", "job=linux", "--attr", "n:=5", "--", "sh", "-c", "echo out; echo err >&2")
        assert (0, "out\n", "err\n") == (done.returncode, done.stdout, done.stderr)
        start, end = tool.events()
        assert ["sh-start", "sh-success"] == [start["event_name"], end["event_name"]]
        assert [("linux", 5, start["run_id"])] * 2 == [(e["job"], e["n"], e["run_id"]) for e in (start, end)]
        assert (0, True, True) == (end["exit_code"], end["duration_s"] > 0, end["max_rss_bytes"] > 100_000)
        assert {"user_s", "system_s"} <= end.keys()
        assert "signal" not in end
        assert {"exit_code", "duration_s"}.isdisjoint(start)
        assert start["event_time"] < end["event_time"]

    @pytest.mark.parametrize("code", [1, 2, 73, 255])
    def test_failure(self, code: int, tool: Tool) -> None:
        """A command that fails gives a failure with its exit code, which is the exit code."""
        assert code == tool("run", "--name", "build", "--", "sh", "-c", f"exit {code}").returncode
        assert ["build-start", "build-failure"] == names(tool)
        assert code == tool.events()[1]["exit_code"]

    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGSEGV, signal.SIGPIPE, signal.SIGXFSZ])
    def test_killed(self, number: signal.Signals, tool: Tool) -> None:
        """Where a signal kills the command, the event names it, and we are killed by the same, as a shell sees it."""
        done = tool("run", "--", "sh", "-c", f"ulimit -c 0; kill -{number.value} $$")
        assert -number == done.returncode
        end = tool.events()[1]
        assert ("sh-failure", number.name, False) == (end["event_name"], end["signal"], "exit_code" in end)

    @pytest.mark.parametrize(("command", "name"), [("/bin/true", "true"), ("./x y.sh", "x y.sh"), ("./ä", "command")])
    def test_its_name(self, command: str, name: str, tool: Tool, tmp_path: Path) -> None:
        """Without --name the events are called after the command, or `command` where that is no name."""
        if command[0] == ".":
            (tool.home.parent / command[2:]).write_text("#!/bin/sh\n")
            (tool.home.parent / command[2:]).chmod(0o755)
        tool("run", "--", command)
        assert [f"{name}-start", f"{name}-success"] == names(tool)

    def test_arguments(self, tool: Tool) -> None:
        """Arguments are recorded where that is asked for, without secrets, and never else."""
        words = ["true", "--region", "eu", "--token", "hunter2", "--password=hunter2", "ghp_" + "a" * 36]
        tool("run", "--", *words)
        assert not any("eu" in line.decode() for line in tool.lines())
        tool("run", "--record-args", "--", *words)
        assert "hunter2" not in b"".join(tool.lines()).decode()
        expected = ["--region", "eu", "--token", "[redacted]", "--password=[redacted]", "[redacted]"]
        assert expected == tool.events()[-1]["args"]

    @pytest.mark.parametrize(
        ("words", "expected"),
        [
            (["--token", "--next", "x"], ["--token", "--next", "x"]),
            (["API_KEY=x", "a=b"], ["API_KEY=[redacted]", "a=b"]),
            (["--secret="], ["--secret="]),
            (["-psecret", "--", "-"], ["-psecret", "--", "-"]),
        ],
    )
    def test_what_is_a_secret(self, words: list[str], expected: list[str]) -> None:
        """What follows the name of a secret is one; the rest is told in the manual as not found."""
        assert expected == redacted_arguments(words)

    @pytest.mark.parametrize("options", [["--ci"], []], ids=["asked-for", "not"])
    def test_in_a_ci_job(self, options: list[str], tool: Tool) -> None:
        """With --ci both events say which job it is."""
        tool.environ |= {"CI": "true", "GITHUB_ACTIONS": "true", "GITHUB_RUN_ID": "77"}
        tool("run", *options, "--", "true")
        assert ["77" if options else None] * 2 == [event.get("ci_build_id") for event in tool.events()]

    def test_delivered(self, tool: Tool) -> None:
        """With --flush the events are at the intake when the command has ended."""
        with FakeIntake() as intake:
            tool.environ["RILLEVENTS_INTAKE_URL"] = intake.url
            assert 3 == tool("run", "--flush", "20", "--", "sh", "-c", "exit 3").returncode
            assert ["sh-start", "sh-failure"] == [event["event_name"] for event in intake.events]


class TestNotThere:
    @pytest.mark.parametrize("probe", ["python", "status"])
    def test_what_the_command_sees(self, probe: str, tool: Tool) -> None:
        """Umask, signals, descriptors, limits, environment, group and session are those without us."""
        script = Path(sys.executable).parent / "rillevents"
        if not script.exists():
            pytest.skip("rillevents is not installed beside this Python")
        (tool.home.parent / "probe.py").write_text(PROBE % os.getpgrp())
        line = "trap '' USR1 PIPE; umask 027; ulimit -n 512; exec 7>/dev/null; exec \"$@\""
        environ = {**tool.environ, "python": "mine", "bin": "mine", "X": "a=b"}
        environ = {key: value for key, value in environ.items() if not key.startswith(("LC_", "LANG"))}
        words = {
            "python": [sys.executable, "-S", str(tool.home.parent / "probe.py")],
            "status": ["grep", "-E", "^Sig(Blk|Ign|Cgt)|^Umask|^NoNewPrivs", "/proc/self/status"],
        }[probe]
        seen = [
            subprocess.run(
                ["sh", "-c", line, "sh", *before, *words],
                env=environ,
                capture_output=True,
                check=True,
                timeout=60 * PACE,
            ).stdout.decode()
            for before in ((), (str(script), "run", "--"))
        ]
        assert seen[0] == seen[1]
        assert 2 == len(tool.events())

    def test_its_streams(self, tool: Tool) -> None:
        """What goes through the command is not touched, and a closed stdin stays closed."""
        data = os.urandom(1 << 20)
        words = tool.command("run", "--", "cat")
        done = subprocess.run(words, input=data, env=tool.environ, capture_output=True, check=True)
        assert (data, b"") == (done.stdout, done.stderr)
        line = 'exec "$@" <&- 2>/dev/null'
        words = ["sh", "-c", line, "sh", *map(str, tool.command("run", "--", "sh", "-c", "read x; echo $?"))]
        assert subprocess.run(words, env=tool.environ, capture_output=True, check=True).stdout.strip() != b"0"

    @pytest.mark.parametrize(
        ("words", "code"),
        [(["nonexistent-command"], 127), (["./nonexistent"], 127), (["/"], 126), (["/etc/passwd"], 126)],
    )
    def test_no_command(self, words: list[str], code: int, tool: Tool) -> None:
        """A command that is not there is 127, one that cannot be run 126, as in a shell; nothing is recorded."""
        done = tool("run", "--", *words)
        assert (code, 1, []) == (done.returncode, done.stderr.count("rillevents: "), names(tool))

    def test_a_script_without_a_first_line(self, tool: Tool) -> None:
        """A script that does not say what reads it is read by sh, as from a shell."""
        (tool.home.parent / "script").write_text("exit 4\n")
        (tool.home.parent / "script").chmod(0o755)
        assert 4 == tool("run", "--", "./script").returncode
        assert ["script-start", "script-failure"] == names(tool)

    @pytest.mark.parametrize(
        "variables", [{"DO_NOT_TRACK": "1"}, {"RILLEVENTS_TELEMETRY": "off"}], ids=["do-not-track", "variable"]
    )
    def test_off(self, variables: dict[str, str], tool: Tool) -> None:
        """While telemetry is off, the command takes our place: the same process, no file, no word."""
        words = tool.command("run", "--", "sh", "-c", "echo $$")
        with subprocess.Popen(
            words, env=tool.environ | variables, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        ) as process:
            out, err = process.communicate(timeout=60 * PACE)
        assert (0, str(process.pid), b"", False) == (process.returncode, out.decode().strip(), err, tool.home.exists())

    def test_off_by_the_file(self, tool: Tool) -> None:
        """`telemetry off` counts as well."""
        tool("telemetry", "off")
        assert 5 == tool("run", "--", "sh", "-c", "exit 5").returncode
        assert [] == names(tool)

    @pytest.mark.parametrize(
        "options", [["--nonsense"], ["--name"], ["-a", "nonsense"], ["--flush", "soon"], ["-a", "event_id=x"]]
    )
    def test_wrong_options(self, options: list[str], tool: Tool) -> None:
        """With wrong options of ours the command runs all the same, after one line, and without events."""
        done = tool("run", *options, "--", "sh", "-c", "exit 6")
        assert (6, 1, []) == (done.returncode, len(done.stderr.splitlines()), names(tool))

    @pytest.mark.parametrize("words", [[], ["make"], ["--"], ["--name", "x", "make", "-j"]])
    def test_without_a_command(self, words: list[str], tool: Tool) -> None:
        """Without `--` and a command after it nothing runs: 2, and what to type."""
        done = tool("run", *words)
        assert (2, "") == (done.returncode, done.stdout)

    def test_a_home_that_is_broken(self, tool: Tool) -> None:
        """With an unusable home the command runs, and one line tells what was not recorded."""
        tool.home.write_text("a file")
        done = tool("run", "--", "sh", "-c", "exit 7")
        assert (7, True) == (done.returncode, "not recorded" in done.stderr)
        assert 7 == tool("run", "-q", "--", "sh", "-c", "exit 7").returncode

    @pytest.mark.parametrize("file", ["spool/v1/slot-0.ndjson", "telemetry"])
    def test_a_home_that_hangs(self, file: str, tool: Tool) -> None:
        """A home in which every call takes long holds up neither the command's start nor, for more than a moment, its end."""
        strace = need("strace")
        tool("record", "log", "x")
        tool("telemetry", "on")
        words = [strace, "-f", "-o", "/dev/null", "-P", str(tool.home / file), "-e", "inject=all:delay_enter=300s"]
        words += map(str, tool.command("run", "--", "sh", "-c", "exit 8"))
        with subprocess.Popen(words, env=tool.environ, stderr=subprocess.PIPE) as process:
            try:
                # The tracer waits for the process that records: what we wait for is the line of the wrapper.
                assert process.stderr
                assert b"in time" in process.stderr.readline()
            finally:
                process.kill()


class TestSignals:
    @pytest.mark.parametrize(
        "number", [signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2, signal.SIGINT]
    )
    def test_passed_on(self, number: signal.Signals, tool: Tool) -> None:
        """A signal that is sent to us reaches the command, once, and what it makes of it is the exit code."""
        name = number.name.removeprefix("SIG")
        script = f"n=0; trap 'n=$((n+1)); echo' {name}; trap 'exit $((40+n))' WINCH; echo; while :; do sleep 0.05; done"
        with running(tool, "--", "sh", "-c", script, stdout=subprocess.PIPE) as process:
            assert process.stdout
            process.stdout.readline()
            process.send_signal(number)
            process.stdout.readline()
            # A second one, if there were any, would be here by now.
            time.sleep(0.3)
            os.kill(command_of(process), signal.SIGWINCH)
            assert 41 == process.wait(60 * PACE)

    def test_recorded_at_the_first(self, tool: Tool) -> None:
        """At the first signal that ends commands the end is recorded: a KILL in the next moment loses nothing."""
        with running(
            tool, "--", "sh", "-c", "trap '' TERM; echo; sleep 30 & wait; wait", stdout=subprocess.PIPE
        ) as process:
            assert process.stdout
            process.stdout.readline()
            command = command_of(process)
            process.terminate()
            until(lambda: "sh-failure" in names(tool))
            process.kill()
            os.kill(command, signal.SIGKILL)
        assert (2, "SIGTERM") == (len(tool.events()), tool.events()[1]["signal"])

    def test_we_are_killed(self, tool: Tool) -> None:
        """Where we are killed, the end of what nobody watches any more is recorded as a failure."""
        with running(tool, "--", "sleep", "20", stdout=subprocess.DEVNULL) as process:
            until(lambda: "sleep-start" in names(tool))
            children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
            process.kill()
            until(lambda: "sleep-failure" in names(tool))
            for child in children:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(child), signal.SIGKILL)
        assert "SIGKILL" == tool.events()[1]["signal"]

    def test_the_first_process_of_a_container(self, tool: Tool) -> None:
        """As the first process of a container it takes in orphans, and its exit code is that of the command."""
        unshare = need("unshare")
        script = "(sleep 0.1 & exec true) & sleep 0.5; ps -eo stat= | grep -c Z; exit 9"
        words = [unshare, "--pid", "--fork", "--mount-proc", *map(str, tool.command("run", "--", "sh", "-c", script))]
        done = subprocess.run(words, env=tool.environ, capture_output=True, check=False, timeout=60 * PACE)
        if b"Operation not permitted" in done.stderr:
            pytest.skip("namespaces are not permitted")
        assert (9, b"0") == (done.returncode, done.stdout.strip())


class Terminal:
    """An interactive bash on a pseudo-terminal."""

    def __init__(self, tool: Tool) -> None:
        bash = need("bash")
        pid, self.fd = pty.fork()
        if pid == 0:
            os.chdir(tool.home.parent)
            os.execve(bash, ["bash", "--norc", "--noprofile", "-i"], tool.environ | {"PS1": "ready> ", "TERM": "dumb"})
        self.pid = pid
        self.seen = b""
        self.expect("ready> ")

    def type(self, text: str) -> None:
        os.write(self.fd, text.encode())

    def expect(self, text: str) -> str:
        """Read until *text* is there, and return what came before it."""
        by = time.monotonic() + 30 * PACE
        while text.encode() not in self.seen:
            left = max(0, by - time.monotonic())
            assert select.select([self.fd], [], [], left)[0], (text, self.seen)
            self.seen += os.read(self.fd, 4096)
        before, _, self.seen = self.seen.partition(text.encode())
        return before.decode()

    def close(self) -> None:
        os.close(self.fd)
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)


@pytest.fixture
def terminal(tool: Tool) -> Iterator[Terminal]:
    """A shell that somebody types in."""
    found = Terminal(tool)
    yield found
    found.close()


def typed(tool: Tool, *words: str) -> str:
    return " ".join([shlex.join(map(str, tool.command("run"))), *words])


class TestTerminal:
    def test_ctrl_c(self, terminal: Terminal, tool: Tool) -> None:
        """Ctrl-C reaches the command once, from the terminal, and the shell sees its exit code."""
        script = "n=0; trap 'n=$((n+1))' INT; echo go; sleep 1; sleep 1; exit $((50+n))"
        terminal.type(typed(tool, "--", "sh", "-c", f'"{script}"'.replace("$", "\\$")) + "; echo code=$?\n")
        terminal.expect("\ngo")
        terminal.type("\x03")
        assert "51" == terminal.expect("ready> ").rpartition("code=")[2].split()[0]
        assert 51 == until(lambda: [e for e in tool.events() if "exit_code" in e])[0]["exit_code"]

    def test_the_first_time(self, terminal: Terminal, tool: Tool) -> None:
        """A person is told once that events are stored, and where."""
        for count in (1, 0):
            terminal.type(typed(tool, "--", "true") + "\n")
            terminal.expect("\n")
            assert count == terminal.expect("ready> ").count("are stored in")

    def test_ctrl_z(self, terminal: Terminal, tool: Tool) -> None:
        """Ctrl-Z stops command and wrapper, the shell has a stopped job, and fg goes on with both."""
        terminal.type(typed(tool, "--name", "job", "--", "sh", "-c", "'echo go; read x; echo got=$x; exit 12'") + "\n")
        terminal.expect("\ngo")
        terminal.type("\x1a")
        assert "Stopped" in terminal.expect("ready> ")
        terminal.type("fg\n")
        terminal.expect("read x")
        terminal.type("word\n")
        terminal.expect("got=word")
        terminal.expect("ready> ")
        terminal.type("echo code=$?\n")
        terminal.expect("code=12")
        assert ["job-start", "job-failure"] == until(lambda: names(tool) if len(names(tool)) == 2 else None)
