"""`rillevents run` where things are odd: closed streams, many descriptors, variables of Python's, signals at the wrong moment."""

from __future__ import annotations

import contextlib
import itertools
import os
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import PACE, Tool
from test_run import command_of, names, running, until

from rillevents.event.timestamp import parse_time

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="not on this platform")
CLOSED = [" ".join(some) for n in (1, 2, 3) for some in itertools.combinations(("<&-", ">&-", "2>&-"), n)]


@pytest.mark.parametrize("closed", CLOSED)
def test_closed_streams(closed: str, tool: Tool) -> None:
    """Where stdin, stdout or stderr is closed, the command runs, and both events are recorded."""
    words = ["sh", "-c", f'exec "$@" {closed}', "sh", *map(str, tool.command("run", "--", "sh", "-c", "exit 7"))]
    done = subprocess.run(words, env=tool.environ, capture_output=True, check=False, timeout=60 * PACE)
    assert (7, ["sh-start", "sh-failure"]) == (done.returncode, names(tool))


def test_many_descriptors(tool: Tool) -> None:
    """More open descriptors than `select` takes change nothing."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 4096:
        pytest.skip("too few descriptors are allowed here")
    resource.setrlimit(resource.RLIMIT_NOFILE, (4096, hard))
    opened = [os.open(os.devnull, os.O_RDONLY) for _ in range(1100)]
    try:
        words = tool.command("run", "--", "sh", "-c", "exit 5")
        done = subprocess.run(
            words, env=tool.environ, pass_fds=opened, capture_output=True, check=False, timeout=60 * PACE
        )
    finally:
        for each in opened:
            os.close(each)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert (5, b"", 2) == (done.returncode, done.stderr, len(names(tool)))


@pytest.mark.parametrize(
    "variable",
    ["PYTHONHOME=/nonsense", "PYTHONUTF8=7", "PYTHONHASHSEED=abc", "PYTHONIOENCODING=bogus", "PYTHONPATH=odd"],
)
def test_variables_of_python(variable: str, tool: Tool) -> None:
    """Variables that are meant for the command, or are wrong, stop neither us nor the command, which gets them."""
    script = Path(sys.executable).parent / "rillevents"
    if not script.exists():
        pytest.skip("rillevents is not installed beside this Python")
    (tool.home.parent / "odd").mkdir()
    (tool.home.parent / "odd" / "select.py").write_text("raise RuntimeError('mine')\n")
    name, _, value = variable.partition("=")
    value = str(tool.home.parent / value) if value == "odd" else value
    done = subprocess.run(
        [script, "run", "--", "sh", "-c", f"echo ${name}; exit 4"],
        env=tool.environ | {name: value},
        capture_output=True,
        check=False,
        timeout=60 * PACE,
    )
    assert (4, value, b"") == (done.returncode, done.stdout.decode().strip(), done.stderr)


@contextlib.contextmanager
def silent() -> Iterator[str]:
    """The URL of a server that accepts, and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/"


def test_a_signal_while_it_delivers(tool: Tool) -> None:
    """A signal after the command's end ends the delivery soon, and the exit code stays the command's."""
    with silent() as url:
        tool.environ["RILLEVENTS_INTAKE_URL"] = url
        with running(tool, "--flush", "3000", "--", "sh", "-c", "exit 6") as process:
            until(lambda: "sh-failure" in names(tool))
            process.terminate()
            assert 6 == process.wait(60 * PACE)


def test_stopped_and_continued_alone(tool: Tool) -> None:
    """A command that somebody stops and continues by itself, without us, goes on, and its exit code is ours."""
    with running(
        tool, "--", "sh", "-c", "echo; read x; exit 3", stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdin
        assert process.stdout
        process.stdout.readline()
        child = command_of(process)
        os.kill(child, signal.SIGSTOP)
        until(lambda: " (sh) T " in Path(f"/proc/{child}/stat").read_text())
        os.kill(child, signal.SIGCONT)
        process.stdin.write(b"\n")
        process.stdin.flush()
        assert 3 == process.wait(60 * PACE)


def test_the_time_of_a_kill(tool: Tool) -> None:
    """Where we are killed, the end has the time at which that was noticed."""
    with running(tool, "--", "sleep", "20", stdout=subprocess.DEVNULL) as process:
        until(lambda: "sleep-start" in names(tool))
        child = command_of(process)
        process.kill()
        until(lambda: "sleep-failure" in names(tool))
        os.kill(child, signal.SIGKILL)
    start, end = (parse_time(event["event_time"]) for event in tool.events())
    assert start <= end <= time.time_ns()


def test_nobody_is_left(tool: Tool) -> None:
    """No process of ours is left for the first process of a container, which may take in none."""
    code = (
        "import ctypes, os, subprocess, sys\n"
        "ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)\n"  # PR_SET_CHILD_SUBREAPER
        "subprocess.run(sys.argv[1:], check=True)\n"
        "try: print(os.waitpid(-1, os.WNOHANG))\n"
        "except ChildProcessError: print('nobody')\n"
    )
    words = [sys.executable, "-c", code, *map(str, tool.command("run", "--", "true"))]
    done = subprocess.run(words, env=tool.environ, capture_output=True, check=True, timeout=60 * PACE)
    assert (b"nobody\n", b"") == (done.stdout, done.stderr)


def test_children_that_are_ignored(tool: Tool) -> None:
    """Where SIGCHLD was ignored, the command's end is noticed all the same, and the command finds it ignored."""
    code = (
        "import os, signal, sys\nsignal.signal(signal.SIGCHLD, signal.SIG_IGN)\nos.execv(sys.argv[1], sys.argv[1:])\n"
    )
    words = [sys.executable, "-c", code, *map(str, tool.command("run", "--", "grep", "SigIgn", "/proc/self/status"))]
    done = subprocess.run(words, env=tool.environ, capture_output=True, check=True, timeout=60 * PACE)
    assert int(done.stdout.split()[1], 16) >> (signal.SIGCHLD - 1) & 1
    assert ["grep-start", "grep-success"] == names(tool)


@pytest.mark.parametrize("key", ["run_id", "exit_code", "signal", "duration_s", "args"])
def test_attributes_of_ours(key: str, tool: Tool) -> None:
    """An attribute that `run` sets itself is refused in a line, and the command runs."""
    done = tool("run", "-a", f"{key}=x", "--", "sh", "-c", "exit 2")
    assert (2, True, []) == (done.returncode, key in done.stderr, names(tool))


def test_very_many_arguments(tool: Tool) -> None:
    """Of very many arguments the first are recorded, and no other attribute is lost."""
    assert 0 == tool("run", "-a", "job=x", "--record-args", "--", "true", *map(str, range(20_000))).returncode
    start, _ = tool.events()
    assert ("x", "…", False) == (start["job"], start["args"][-1], "truncated" in start)
