"""On a terminal: notices, hints, colours and escapes, seen through a real one."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import shlex
import subprocess
import termios
from io import StringIO

import pytest
from rich.console import Console
from support import Tool, need

from rillevents.cli import display, render
from rillevents.cli.help import topics
from rillevents.cli.manual import show_page

SGR = re.compile(r"\x1b\[([\d;:]*)m")
# Reset, bold, italic, underlined: what any background leaves readable.
WEIGHTS = {"", "0", "1", "3", "4", "1;4"}


def on_terminal(tool: Tool, *words: str, typed: bytes = b"", hidden: bool = False, **environ: str) -> str:
    """Run a command with all three streams on a terminal, and return what the person saw."""
    ours, theirs = pty.openpty()
    running = subprocess.Popen(
        tool.command(*words),
        env=tool.environ | {"TERM": "xterm-256color", "COLUMNS": "100"} | environ,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        cwd=tool.home.parent,
    )
    os.close(theirs)
    seen = b""
    while running.poll() is None or select.select([ours], [], [], 0)[0]:
        # What is typed ahead of a hidden prompt is thrown away: not before the terminal has stopped echoing.
        if typed and seen and not (hidden and termios.tcgetattr(ours)[3] & termios.ECHO):
            os.write(ours, typed)
            typed = b""
        if select.select([ours], [], [], 0.05)[0]:
            try:
                seen += os.read(ours, 65536)
            except OSError:
                break
    os.close(ours)
    running.wait(30)
    return seen.decode()


class TestNotices:
    def test_first_run(self, tool: Tool) -> None:
        """The first event on a terminal tells once what is stored, where, and how to opt out in one command."""
        first, second = (
            on_terminal(tool, "record", "behavioral", "login-start"),
            on_terminal(tool, "record", "behavioral", "login-start"),
        )
        assert "rillevents telemetry off" in first
        assert str(tool.home) in first
        assert "" == second

    @pytest.mark.parametrize(
        "environ",
        [{"CI": "true"}, {"RILLEVENTS_QUIET": "1"}, {"DO_NOT_TRACK": "1"}, {"GITHUB_ACTIONS": "true"}],
        ids=str,
    )
    def test_no_notice(self, environ: dict[str, str], tool: Tool) -> None:
        """Not in CI, not when quiet, not opted out; and then it is still to come."""
        assert "" == on_terminal(tool, "record", "behavioral", "login-start", **environ)
        assert "telemetry off" in on_terminal(tool, "record", "behavioral", "login-start")

    def test_no_notice_elsewhere(self, tool: Tool) -> None:
        """Where stderr is no terminal there is no notice."""
        assert "" == tool("record", "behavioral", "login-start").stderr

    def test_mistyped_name(self, tool: Tool) -> None:
        """A name that is nearly a known one is recorded as it is, with a hint on a terminal only."""
        assert "did you mean 'login-start'?" in on_terminal(tool, "record", "behavioral", "login-strat", CI="1")
        assert "" == tool("record", "behavioral", "login-strat").stderr
        assert ["login-strat"] * 2 == [event["event_name"] for event in tool.events()]


class TestColours:
    def test_terminal(self, tool: Tool) -> None:
        """Colours and weights on a terminal, none with NO_COLOR, none in a pipe unless CLICOLOR_FORCE asks for them."""
        assert "\x1b[1m" in on_terminal(tool, "status")
        assert "\x1b[3" not in on_terminal(tool, "status", NO_COLOR="1")
        assert "\x1b[" not in on_terminal(tool, "status", TERM="dumb")
        assert "\x1b[" not in tool("status").stdout
        assert "\x1b[" in tool("status", CLICOLOR_FORCE="1").stdout
        assert "\x1b[3" not in tool("status", CLICOLOR_FORCE="1", NO_COLOR="1").stdout

    def test_escapes(self, tool: Tool) -> None:
        """Control, format and bidirectional characters of an event are shown escaped, and stay as they are in NDJSON."""
        evil = "\x1b[2J\x07\u202e\u200b\x9b"
        tool("record", "behavioral", f"name{evil}", "-a", f"key{evil}=value{evil}")
        seen = on_terminal(tool, "events", NO_COLOR="1")
        for sign in ("\x1b[2J", "\x07", "\u202e", "\u200b", "\x9b"):
            assert sign not in seen
        assert f"name{evil}" == json.loads(tool("events", "--ndjson").stdout)["event_name"]
        refused = tool("record", "behavioral", "x", "-a", evil)
        assert not set(evil) & {sign for sign in refused.stderr if not sign.isprintable()} - {"\n"}

    def test_page(self, tool: Tool) -> None:
        """A page of the manual is laid out on a terminal, and plain text in a pipe."""
        assert tool("help", "recording").stdout.startswith("# ")
        assert "\x1b[" in on_terminal(tool, "help", "recording")

    @pytest.mark.parametrize("environ", [{}, {"COLORTERM": "truecolor"}, {"TERM": "xterm"}, {"NO_COLOR": "1"}], ids=str)
    def test_page_on_any_background(self, environ: dict[str, str], tool: Tool) -> None:
        """A page sets weights alone, no text colour and no background, so it can be read on light and dark terminals."""
        seen = on_terminal(tool, "help", "destinations", **environ)
        assert WEIGHTS >= set(SGR.findall(seen)) >= {"0", "1", "4", "1;4"}

    @pytest.mark.parametrize("words", [["--help"], ["flush", "--help"], ["help", "flush"], ["help"]], ids=" ".join)
    def test_help_on_any_background(self, words: list[str], tool: Tool) -> None:
        """The help of commands and the list of pages set no colour either."""
        assert WEIGHTS >= set(SGR.findall(on_terminal(tool, *words)))

    @pytest.mark.parametrize("topic", topics())
    def test_every_page_on_any_background(self, topic: str) -> None:
        """No page of the manual sets a colour, whatever it contains, and each line of its code stays whole."""
        out, text = StringIO(), topics()[topic].read_text()
        show_page(Console(file=out, force_terminal=True, color_system="truecolor", width=60), text)
        seen = out.getvalue()
        assert WEIGHTS >= set(SGR.findall(seen))
        lines = {line.strip() for line in seen.splitlines()}
        code = "\n".join(re.findall(r"^```[^\n`]*\n(.*?)^```$", text, re.MULTILINE | re.DOTALL))
        assert {line.strip() for line in code.splitlines()} <= lines | {""}
        assert "](" not in SGR.sub("", seen)

    def test_links_can_be_read(self, tool: Tool) -> None:
        """A link is underlined and numbered, and its address stands at the end of the page, once and whole."""
        seen = on_terminal(tool, "help", "query", COLUMNS="40")
        assert "\x1b[4mDatasette\x1b[0m" in re.sub(r"\x1b\]8;[^\x1b]*\x1b\\", "", seen)
        plain = re.sub(r"\x1b\][^\x1b]*\x1b\\", "", SGR.sub("", seen))
        assert "Datasette [1]" in " ".join(plain.split())
        assert 1 == plain.count("https://datasette.io")
        assert plain.rstrip().endswith("[1] https://datasette.io")


class TestQuestions:
    def test_purge_asks(self, tool: Tool) -> None:
        """On a terminal `spool purge` asks first; a no deletes nothing."""
        tool("record", "behavioral", "x")
        assert "Delete" in on_terminal(tool, "spool", "purge", typed=b"n\n")
        assert 1 == len(tool.events())
        on_terminal(tool, "spool", "purge", typed=b"y\n")
        assert [] == tool.lines()

    def test_secret_is_asked_for(self, tool: Tool) -> None:
        """On a terminal a secret is asked for, and not echoed."""
        seen = on_terminal(tool, "config", "set", "intake.password", typed=b"hunter2\n", hidden=True)
        assert "intake.password" in seen
        assert "hunter2" in (tool.home / "config.toml").read_text()


@pytest.mark.slow
def test_progress(tool: Tool) -> None:
    """A flush that takes longer than half a second shows how far it is, on a terminal only."""
    from rillevents.testing import FakeIntake

    lines = b"".join(
        b'{"event_id":"%d","event_time":"2026-11-23T10:00:00Z","event_type":"t","event_name":"n"}\n' % n
        for n in range(300)
    )
    tool("record", "raw", stdin=lines)
    (tool.home / "config.toml").write_text("[flush]\nbatch_events = 1\n")
    with FakeIntake() as intake:
        import threading

        gate = threading.Event()
        intake.respond = lambda request: gate.wait(0.01) or 200
        assert "events sent" in on_terminal(tool, "flush", RILLEVENTS_INTAKE_URL=intake.url)


def test_tmux(tool: Tool) -> None:
    """In a real terminal program the status page stands as one would read it."""
    tmux = need("tmux")
    tool("record", "behavioral", "x")
    socket = str(tool.home.parent / "tmux")
    words = shlex.join(str(word) for word in tool.command("status"))
    subprocess.run(
        [tmux, "-S", socket, "new-session", "-d", "-x", "100", "-y", "30", f"{words}; echo done; cat"],
        env=tool.environ | {"TERM": "xterm"},
        check=True,
    )
    try:
        for _ in range(100):
            seen = subprocess.run(
                [tmux, "-S", socket, "capture-pane", "-p"], capture_output=True, text=True, check=True, env=tool.environ
            ).stdout
            if "done" in seen:
                break
            subprocess.run(["sleep", "0.1"], check=True)
        assert "waiting      1 event," in seen
    finally:
        subprocess.run([tmux, "-S", socket, "kill-server"], check=False, env=tool.environ)


def test_what_rich_shows() -> None:
    """What a command shows is shown without rich, or named as one of rich's views."""
    assert {*display.VIEWS} == {*render._RICH}
    assert not {*render._RICH} & {*render._PLAIN, *render._PAIRS}
