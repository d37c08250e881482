"""`rillevents flush --watch` as a process that a supervisor starts and stops."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import pytest
from support import PACE, Tool

from rillevents.cli.values import Seconds
from rillevents.errors import UsageError
from rillevents.event.query import point_in_time
from rillevents.event.timestamp import parse_duration
from rillevents.local.config_file import parse
from rillevents.serve.options import Options
from rillevents.testing import FakeIntake


@pytest.fixture
def intake(tool: Tool) -> Iterator[FakeIntake]:
    """The configured intake."""
    with FakeIntake() as running:
        tool.environ["RILLEVENTS_INTAKE_URL"] = running.url
        yield running


class Watching:
    """A running `flush --watch`."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.stderr: IO[str] = process.stderr  # type: ignore[assignment]

    def line(self) -> str:
        """Return its next line on stderr."""
        return self.stderr.readline()

    def end(self, number: int = signal.SIGTERM) -> tuple[int, str]:
        """Send a signal, and return the exit code and what else it has said on stderr."""
        self.process.send_signal(number)
        return self.process.wait(30 * PACE), self.stderr.read()


@contextmanager
def watching(tool: Tool, *words: str) -> Iterator[Watching]:
    """Start `flush --watch` with these words, and yield it once it runs."""
    with subprocess.Popen(
        tool.command("flush", "--watch", *words),
        env=tool.environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        found = Watching(process)
        try:
            assert "flushing" in found.line()
            yield found
        finally:
            process.kill()


def eventually(check: Callable[[], Any]) -> None:
    """Wait until a check is true."""
    ends = time.monotonic() + 20 * PACE
    while not check():
        assert time.monotonic() < ends
        time.sleep(0.01)


def test_each_interval_what_came_is_delivered(tool: Tool, intake: FakeIntake) -> None:
    """What is recorded while it runs is delivered with the next pass, and told in a line; a pass without events says nothing."""
    tool("record", "log", "a")
    with watching(tool, "0.2s") as found:
        assert "rillevents: delivered 1 event" in found.line()
        time.sleep(0.5)
        tool("record", "log", "b")
        assert "rillevents: delivered 1 event" in found.line()
        assert (0, "") == found.end()
    assert ["a", "b"] == [event["event_name"] for event in intake.events]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_a_signal_drains(number: int, code: int, tool: Tool, intake: FakeIntake) -> None:
    """At SIGTERM and SIGINT what waits is delivered, then the process ends, with 0 and 130."""
    with watching(tool, "5m") as found:
        eventually(lambda: tool.json("status")["last_flush"] or not tool.spool.exists())
        tool("record", "log", "late")
        ended, told = found.end(number)
    assert code == ended
    assert "delivered 1 event" in told
    assert ["late"] == [event["event_name"] for event in intake.events]


@pytest.mark.slow
def test_the_lock_is_free_between_passes(tool: Tool, intake: FakeIntake) -> None:
    """While it waits another flush delivers at once."""
    with watching(tool, "5m"):
        tool("record", "log", "a")
        eventually(lambda: tool("flush", "--timeout", "0.5s").returncode == 0)
    assert ["a"] == [event["event_name"] for event in intake.events]


@pytest.fixture
def asked(tool: Tool, intake: FakeIntake) -> Iterator[threading.Event]:
    """An event that waits, an intake that never answers, and when it was asked."""
    asked, over = threading.Event(), threading.Event()

    def hang(request: object) -> int:
        asked.set()
        over.wait(60 * PACE)
        return 503

    intake.respond = hang
    tool("record", "log", "a")
    yield asked
    over.set()


def test_a_second_signal(tool: Tool, asked: threading.Event) -> None:
    """A destination that does not answer keeps nobody from stopping: a second signal ends it at once, with 0, and all is kept."""
    with watching(tool, "1") as found:
        assert asked.wait(20 * PACE)
        found.process.send_signal(signal.SIGTERM)
        time.sleep(0.1)
        started = time.monotonic()
        code, told = found.end()
        assert time.monotonic() - started < 4 * PACE
    assert 0 == code
    assert "1 event kept" in told
    assert 1 == len(tool.lines())


@pytest.mark.slow
def test_draining_has_a_limit(tool: Tool, asked: threading.Event) -> None:
    """After one signal a destination that does not answer is waited for five seconds."""
    with watching(tool, "1") as found:
        assert asked.wait(20 * PACE)
        started = time.monotonic()
        assert 0 == found.end()[0]
        assert 4 < time.monotonic() - started < 5 + 5 * PACE


@pytest.mark.slow
def test_a_password_command_that_hangs(tool: Tool, intake: FakeIntake) -> None:
    """A command that never prints the password does not keep the process from ending, and ends with it."""
    mark = tool.home.parent / "pid"
    tool("config", "set", "intake.url", intake.url)
    tool("config", "set", "intake.user", "u")
    tool("config", "set", "intake.password_command", f"echo $$ > {mark}; sleep 3600")
    del tool.environ["RILLEVENTS_INTAKE_URL"]
    tool("record", "log", "a")
    with watching(tool, "1") as found:
        eventually(lambda: mark.exists() and mark.read_text())
        found.process.send_signal(signal.SIGTERM)
        assert 0 == found.end()[0]
    eventually(lambda: not Path(f"/proc/{mark.read_text().strip()}").exists())


@pytest.mark.slow
def test_a_failure_is_told_once(tool: Tool, intake: FakeIntake) -> None:
    """What keeps events back is told once, not with each pass; the delivery afterwards is told, too."""
    intake.script.extend([401] * 3)
    tool("record", "log", "a")
    with watching(tool, "0.1") as found:
        assert "HTTP 401" in found.line()
        assert "delivered 1 event" in found.line()
        assert 0 == found.end()[0]


@pytest.mark.slow
def test_without_a_destination(tool: Tool) -> None:
    """If nothing is configured it does not go on: 78, as of a flush."""
    with watching(Tool(tool.home), "1") as found:
        assert 78 == found.process.wait(30 * PACE)
        assert "no destination is configured" in found.stderr.read()


@pytest.mark.slow
def test_off_in_between(tool: Tool, intake: FakeIntake) -> None:
    """Opted out while it runs it sends nothing and says so once; on again, it goes on."""
    tool("record", "log", "a")
    tool("telemetry", "off")
    with watching(tool, "0.1") as found:
        assert "off: telemetry is off" in found.line()
        time.sleep(0.3)
        assert [] == intake.requests
        tool("telemetry", "on")
        assert "delivered 1 event" in found.line()
        assert (0, "") == found.end()


@pytest.mark.usefixtures("intake")
def test_a_document_a_line(tool: Tool) -> None:
    """With --json each pass with something new is a document, on a line of its own."""
    tool("record", "log", "a")
    with watching(tool, "0.1", "--json") as found:
        found.line()
        time.sleep(0.3)
        found.end()
        documents = [json.loads(line) for line in found.process.stdout or ()]
    assert ["delivered", "empty"] == [document["outcome"] for document in documents]


@pytest.mark.slow
def test_a_pipe_that_nobody_reads(tool: Tool) -> None:
    """Into a pipe without a reader it does not go on for ever: 75, and the event is kept."""
    tool("record", "log", "a")
    with watching(tool, "0.1", "--to", "file:-") as found:
        assert found.process.stdout
        assert "a" in found.process.stdout.readline()
        found.process.stdout.close()
        tool("record", "log", "b")
        assert 75 == found.process.wait(30 * PACE)
    assert 1 == len(tool.lines())


@pytest.mark.slow
@pytest.mark.parametrize("words", ["--watch 0", "--watch soon", "--watch 30x", "--watch 1 --dry-run"])
def test_wrong_words(words: str, tool: Tool) -> None:
    """An interval that is none, and what excludes it, is 2."""
    assert 2 == tool("flush", *words.split()).returncode


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("0.5", 0.5), ("1s", 1), ("1.5m", 90), ("2h", 7200), (".5", 0.5), ("1d", 86_400), ("1w", 604_800)],
)
def test_durations(text: str, seconds: float) -> None:
    """A duration is a number of seconds, or one with a unit, as an option, in config.toml and as how long ago."""
    assert seconds == Seconds(text) == parse_duration(text)
    assert {"flush": {"stall_timeout": seconds}} == parse(f'[flush]\nstall_timeout = "{text}"'.encode(), "c").sections
    assert -seconds * 1e9 == point_in_time(text, now_ns=lambda: 0)
    assert seconds * 1_000_000 == Options(keep=text).keep_us


@pytest.mark.parametrize("text", ["s", "-1", "1x", "1e3", "1_0", "inf", "nan", "1.2.3", "9" * 400, "٣s"])
def test_no_durations(text: str) -> None:
    """What is no number, or none that a person means, is no duration."""
    with pytest.raises(ValueError, match=re.escape(text[:5])):
        parse_duration(text)


@pytest.mark.slow
@pytest.mark.usefixtures("intake")
def test_durations_of_commands(tool: Tool) -> None:
    """Commands take them with and without a unit."""
    for text in ("2", "2s"):
        assert 0 == tool("flush", "--timeout", text).returncode
        assert 0 == tool("events", "--since", text).returncode
        assert 0 == tool("run", "--flush", text, "--", "true").returncode


def test_a_time_without_its_sign() -> None:
    """Seconds since 1970 without their @ are not taken for how long ago, and the message has what to type."""
    with pytest.raises(UsageError, match="write @1767225600"):
        point_in_time("1767225600")
