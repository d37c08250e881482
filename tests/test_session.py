"""`rillevents session` and `rillevents timer`, in real shells and across processes."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from support import PACE, Tool, need, only
from test_environment import faketime

from rillevents import Client
from rillevents.local import Paths
from rillevents.shell import session, timer
from rillevents.shell.stopwatch import reading, seconds_since

ROOT = Path(__file__).parents[1]
POSIX = ("dash", "bash", "zsh")
ODD = ["it's", 'a "b" c', "$HOME `id` \\", "a=b", "ü ☃", "-n", "  two  spaces ", "a\tb", "!x", "*"]


@pytest.fixture
def script(tool: Tool) -> Any:
    """Run a script in a shell, with `rillevents` on its PATH; returns what it printed, and its exit code."""
    folder = tool.home.parent / "bin"
    folder.mkdir()
    call = f'PYTHONPATH={shlex.quote(str(ROOT))} exec {shlex.quote(sys.executable)} -m rillevents "$@"'
    (folder / "rillevents").write_text(f"#!/bin/sh\n{call}\n")
    (folder / "rillevents").chmod(0o755)

    def run(shell: str, text: str, *options: str, **environ: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [need(shell), *options, "-c", text],
            env=tool.environ
            | {"PATH": f"{folder}:/usr/bin:/bin", "PYTHONPATH": str(ROOT), "PYTHON": sys.executable}
            | environ,
            cwd=tool.home.parent,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=60 * PACE,
        )

    return run


def names(tool: Tool) -> list[str]:
    return [event["event_name"] for event in tool.events()]


class TestSession:
    @pytest.mark.parametrize("shell", POSIX)
    def test_every_process_below_is_in_it(self, shell: str, script: Any, tool: Tool) -> None:
        """Events of the command, of a subshell, of `run` and of the Python client have the ID and the attributes; the end comes with the shell."""
        client = "from rillevents import Client; Client.from_config().record('a', 'python')"
        done = script(
            shell,
            'eval "$(rillevents session start -a job=nightly)"\n'
            "rillevents record behavioral one\n(rillevents record behavioral two)\nrillevents run -- true\n"
            f'"$PYTHON" -c {shlex.quote(client)}\n',
            "-eu",
        )
        assert (0, "", "") == (done.returncode, done.stdout, done.stderr)
        assert {"one", "two", "true-start", "true-success", "python", "session-end"} == {*names(tool)}
        assert 1 == len({event["session_id"] for event in tool.events()})
        assert {"nightly"} == {event["job"] for event in tool.events()}
        end = next(event for event in tool.events() if event["event_name"] == "session-end")
        assert ("metric", "s") == (end["event_type"], end["unit"])
        assert 0 < end["value"] < 60 * PACE

    @pytest.mark.slow
    @pytest.mark.parametrize("shell", [*POSIX, "fish"])
    @pytest.mark.parametrize("value", [*ODD, "two\nlines", "\r", "x\n'; exit 9; '"])
    def test_any_value_arrives(self, shell: str, value: str, script: Any, tool: Tool) -> None:
        """What is printed is quoted: no value of an attribute ends it, and nothing in it is run."""
        take = (
            "rillevents session start -a v=$V --print fish | source"
            if shell == "fish"
            else 'eval "$(rillevents session start -a "v=$V")"'
        )
        done = script(shell, f"{take}\nrillevents record behavioral one", V=value)
        assert (0, "") == (done.returncode, done.stderr)
        assert ["one", "session-end"] == names(tool)
        assert [value, value] == [event["v"] for event in tool.events()]

    @pytest.mark.slow
    @pytest.mark.parametrize("options", [("-eu",), ("-eux",), ("-euC",)])
    @pytest.mark.parametrize("shell", POSIX)
    @pytest.mark.parametrize(
        "before", ['echo "it\'s $?"', "echo one\necho two", "echo 'a' EXIT; echo b", "true; exit 7"]
    )
    def test_a_trap_of_before_goes_on(
        self, before: str, shell: str, options: tuple[str, ...], script: Any, tool: Tool
    ) -> None:
        """An EXIT trap that was set before runs as it would without a session, with the same exit code; other traps stay."""
        text = f"trap 'echo usr1' USR1\ntrap {shlex.quote(before)} EXIT\n{{}}\nkill -USR1 $$\nexit 3"
        without = script(shell, text.format(":"), *options)
        within = script(shell, text.format('eval "$(rillevents session start)"'), *options)
        assert (without.returncode, without.stdout) == (within.returncode, within.stdout)
        assert ["session-end"] == names(tool)

    @pytest.mark.parametrize("before", ["", "trap 'echo before $?' EXIT\n", "trap 'echo one; echo it\\''s' INT EXIT\n"])
    @pytest.mark.parametrize("shell", [("dash", "-eu"), ("bash", "-eu"), ("bash", "--posix", "-eu"), ("zsh", "-eu")])
    def test_an_error_under_set_e_ends_it(self, shell: tuple[str, ...], before: str, script: Any, tool: Tool) -> None:
        """A session ends once with a script that `set -e` stops, in bash's POSIX mode (`sh` on many systems) too, and traps of before run."""
        name, *options = shell
        without = script(name, f"{before}:\nfalse", *options)
        within = script(name, f'{before}eval "$(rillevents session start)"\nfalse', *options)
        assert (1, without.stdout, "") == (within.returncode, within.stdout, within.stderr)
        assert ["session-end"] == names(tool)

    def test_a_function_that_zsh_runs_at_its_end_stays(self, script: Any, tool: Tool) -> None:
        """`TRAPEXIT` of zsh is not replaced, and the session ends with the shell."""
        text = 'TRAPEXIT() { [[ -n ${ZSH_SUBSHELL:#0} ]] || echo mine; }\neval "$(rillevents session start)"\n:'
        assert "mine\n" == script("zsh", text).stdout
        assert ["session-end"] == names(tool)

    @pytest.mark.parametrize("shell", POSIX)
    def test_two_sessions_end_both(self, shell: str, script: Any, tool: Tool) -> None:
        """A session within a session takes its attributes over, and each of them ends once."""
        start = 'eval "$(rillevents session start -a {}=1)"\n'
        assert (
            0
            == script(
                shell, start.format("outer") + start.format("inner") + "rillevents record behavioral x"
            ).returncode
        )
        event, *ends = tool.events()
        assert (1, 1) == (int(event["outer"]), int(event["inner"]))
        assert ["session-end"] * 2 == [end["event_name"] for end in ends]
        assert 2 == len({end["session_id"] for end in ends})

    @pytest.mark.parametrize("shell", POSIX)
    def test_an_end_by_hand_is_the_end(self, shell: str, script: Any, tool: Tool) -> None:
        """A session that the script ends is not ended again by its shell."""
        script(shell, 'eval "$(rillevents session start)"\nrillevents session end')
        assert ["session-end"] == names(tool)

    def test_github_env(self, tool: Tool) -> None:
        """`env` prints one line for each variable, and a later step that has them is in the session and can end it."""
        done = tool("session", "start", "-a", "job=a=b", "--print", "env")
        variables = dict(line.split("=", 1) for line in done.stdout.splitlines())
        assert {"RILLEVENTS_SESSION_ID", "RILLEVENTS_SESSION_START", "RILLEVENTS_SESSION_ATTRIBUTES"} == {*variables}
        tool("record", "behavioral", "one", **variables)
        assert 0 == tool("session", "end", **variables).returncode
        assert [("one", "a=b"), ("session-end", "a=b")] == [(e["event_name"], e["job"]) for e in tool.events()]

    @pytest.mark.parametrize("value", ["a\nRILLEVENTS_TELEMETRY=0", "a\rb"])
    @pytest.mark.parametrize("form", ["v={}", 'v:=["{}"]', 'v:={{"k":"{}"}}'])
    def test_env_refuses_what_could_set_other_variables(self, value: str, form: str, tool: Tool) -> None:
        """A line break in a value, or deep in it, is refused before anything is printed."""
        text = form.format(value if form == "v={}" else json.dumps(value)[1:-1])
        done = tool("session", "start", "-a", text, "--print", "env")
        assert (2, "") == (done.returncode, done.stdout)
        assert "line break" in done.stderr
        done = tool("session", "start", "--attr", 'v:="\\u0000"', "--print", "env")
        assert (2, "") == (done.returncode, done.stdout)

    def test_json(self, tool: Tool) -> None:
        """`json` prints the ID, the attributes as they are, and the variables; the ID alone is enough to end the session."""
        found = json.loads(tool("session", "start", "-a", "n:=1", "--print", "json").stdout)
        assert ({"n": 1}, found["session_id"]) == (found["attributes"], found["environment"]["RILLEVENTS_SESSION_ID"])
        assert 0 == tool("session", "end", RILLEVENTS_SESSION_ID=found["session_id"]).returncode
        assert found["session_id"] == only(tool.events())["session_id"]

    @pytest.mark.parametrize(
        ("words", "said"),
        [
            (["start", "--print", "csh"], "--print 'csh' is not one of sh, fish, env, json"),
            (["start", "-a", "event_id=x"], "'event_id' is set by rillevents itself"),
            (["start", "-a", "session_id=x"], "'session_id' is set by rillevents itself"),
            (["start", "-a", "novalue"], "'novalue' is not a valid attribute"),
            (["start", "-a", f"v={'x' * 4096}"], "take more than 4,096 bytes"),
            (["end"], "there is no session: RILLEVENTS_SESSION_ID is not set"),
        ],
    )
    def test_what_is_wrong_is_told(self, words: list[str], said: str, tool: Tool) -> None:
        """Wrong words are a usage error, and nothing is printed that a shell could evaluate."""
        done = tool("session", *words)
        assert (2, "") == (done.returncode, done.stdout)
        assert said in done.stderr

    def test_an_end_elsewhere_is_told(self, tool: Tool) -> None:
        """Where it is not known when a session began, its end is not recorded: a line says so, and the script goes on."""
        done = tool("session", "end", RILLEVENTS_SESSION_ID="of another machine")
        assert (0, True) == (done.returncode, "when this session began is not known here" in done.stderr)
        assert [] == tool.events()

    @pytest.mark.parametrize("form", session.FORMS)
    def test_opted_out(self, form: str, tool: Tool) -> None:
        """Opted out, nothing is printed that a shell could evaluate, and no file is made."""
        done = tool("session", "start", "-a", "a=b", "--print", form, DO_NOT_TRACK="1")
        assert (0, "") == (done.returncode, done.stderr)
        assert (form != "json") == (done.stdout == "")
        assert 0 == tool("session", "end", DO_NOT_TRACK="1", RILLEVENTS_SESSION_ID="x").returncode
        assert not tool.home.exists()

    @pytest.mark.parametrize("shell", POSIX)
    def test_without_a_place_for_files(self, shell: str, script: Any, tool: Tool) -> None:
        """Where nothing can be written, a session starts, a trap of before stays, and the script goes on."""
        done = script(
            shell,
            'trap "echo mine" EXIT\neval "$(rillevents session start)"\necho "${RILLEVENTS_SESSION_ID:+in}"',
            "-eu",
            RILLEVENTS_HOME="/proc/nowhere",
        )
        assert (0, "in\nmine\n") == (done.returncode, done.stdout)

    def test_an_id_that_is_no_text_is_left_out(self, tool: Tool) -> None:
        """A session's ID or attributes that no event can hold are left out, with a line, and the event is kept."""
        environ = {os.fsdecode(key): os.fsdecode(value) for key, value in tool.environ.items()}
        done = subprocess.run(
            tool.command("record", "behavioral", "x"),
            env=environ | {"RILLEVENTS_SESSION_ID": "\udcff", "RILLEVENTS_SESSION_ATTRIBUTES": "{broken"},
            capture_output=True,
            check=False,
        )
        assert 0 == done.returncode
        assert b"RILLEVENTS_SESSION_ID is not valid Unicode" in done.stderr
        assert b"RILLEVENTS_SESSION_ATTRIBUTES is partly malformed" in done.stderr
        assert "session_id" not in only(tool.events())

    def test_the_users_attributes_win(self, tool: Tool) -> None:
        """An attribute of the call wins over the variable, that over the session's, and that over the configuration's."""
        tool("config", "set", "attributes.a", "config")
        given = {"RILLEVENTS_SESSION_ID": "s", "RILLEVENTS_SESSION_ATTRIBUTES": '{"a":1,"b":1,"c":1}'}
        tool("record", "behavioral", "x", "-a", "c=call", RILLEVENTS_ATTRIBUTES="b=variable", **given)
        event = only(tool.events())
        assert (1, "variable", "call") == (event["a"], event["b"], event["c"])

    def test_the_client_of_a_program(self, tmp_path: Path) -> None:
        """A client that is made from the configuration is in the session of its environment."""
        environ = {"RILLEVENTS_HOME": str(tmp_path / "home"), "RILLEVENTS_SESSION_ID": "s"}
        assert "s" == Client.from_config(environ=environ).attributes["session_id"]


class TestTimer:
    def test_across_processes(self, tool: Tool) -> None:
        """A timer that one process starts is stopped by another one: a metric with the seconds, once."""
        assert 0 == tool("timer", "start", "build").returncode
        assert 0 == tool("timer", "stop", "build", "-a", "job=linux").returncode
        event = only(tool.events())
        assert ("metric", "build", "s", "linux") == (
            event["event_type"],
            event["event_name"],
            event["unit"],
            event["job"],
        )
        assert 0 < event["value"] < 60 * PACE
        again = tool("timer", "stop", "build", "--on-error", "fail")
        assert (1, True) == (again.returncode, "no timer 'build' is running" in again.stderr)
        assert 1 == len(tool.events())

    def test_what_to_type_next_can_be_typed(self, tool: Tool) -> None:
        """The advice for a timer that does not run quotes its name for the shell."""
        told = tool("timer", "stop", "my build; exit").stderr
        assert ["timer", "start", "my build; exit"] == shlex.split(told)[-3:]

    def test_the_quick_and_the_long_way_are_one(self, tool: Tool) -> None:
        """The plain form, and one that Typer has to sort, record the same."""
        for name, extra in (("quick", []), ("long", ["--attr=x=1", "--on-error=warn"])):
            tool("timer", "start", *(["--on-error", "warn"] if name == "long" else []), name)
            assert 0 == tool("timer", "stop", *extra, "-a", "k:=2", name).returncode
        quick, long = tool.events()
        assert {*quick} | {"x"} == {*long}
        assert ({"quick", "long"}, {2}) == ({quick["event_name"], long["event_name"]}, {quick["k"], long["k"]})

    @pytest.mark.parametrize("name", ["../../x", "a/b", "ü ☃", "x" * 1000, ".", "a\nb"])
    def test_any_name(self, name: str, tool: Tool) -> None:
        """A timer's name is any text: its file's name is a hash."""
        tool("timer", "start", name)
        assert 1 == len(list(Path(tool.paths.timers_dir).iterdir()))
        tool("timer", "stop", name)
        assert name == only(tool.events())["event_name"]
        assert [] == list(Path(tool.paths.timers_dir).iterdir())

    def test_sessions_have_their_own(self, tool: Tool) -> None:
        """Timers of the same name in two sessions do not meet."""
        for name in ("one", "two"):
            tool("timer", "start", "build", RILLEVENTS_SESSION_ID=name)
        assert 2 == len(list(Path(tool.paths.timers_dir).iterdir()))
        for name in ("one", "two"):
            assert "" == tool("timer", "stop", "build", RILLEVENTS_SESSION_ID=name).stderr
        assert ["one", "two"] == [event["session_id"] for event in tool.events()]

    def test_a_clock_that_is_set_changes_nothing(self, tool: Tool) -> None:
        """With the clock a year ahead when the timer is stopped, the seconds are those that passed."""
        tool("timer", "start", "build")
        tool("timer", "stop", "build", LD_PRELOAD=faketime(), FAKETIME="+1y", DONT_FAKE_MONOTONIC="1")
        event = only(tool.events())
        assert event["value"] < 60 * PACE
        assert int(event["event_time"][:4]) > time.gmtime().tm_year

    @pytest.mark.parametrize("content", [b"", b"garbage", b"0" * 32 + b":1", b"\xff", b":-5", b"x:" + b"9" * 40])
    def test_a_timer_of_another_start_of_the_machine(self, content: bytes, tool: Tool) -> None:
        """A timer of before a restart, or a damaged one, is told and removed; nothing is recorded, and the script goes on."""
        tool("timer", "start", "build")
        only(list(Path(tool.paths.timers_dir).iterdir())).write_bytes(content)
        done = tool("timer", "stop", "build")
        assert (0, True) == (done.returncode, "from before this machine was started, or damaged" in done.stderr)
        assert ([], []) == (tool.events(), list(Path(tool.paths.timers_dir).iterdir()))

    def test_it_goes_on_if_the_metric_cannot_be_stored(self, tool: Tool) -> None:
        """If the spool is full, the timer runs on: nothing that was measured is lost."""
        tool("timer", "start", "build")
        tool("config", "set", "spool.max_bytes", "1")
        assert "not recorded" in tool("timer", "stop", "build").stderr
        tool("config", "unset", "spool.max_bytes")
        assert 0 == tool("timer", "stop", "build").returncode
        assert "build" == only(tool.events())["event_name"]

    def test_an_unwritable_home(self, tool: Tool) -> None:
        """Where no timer can be kept, one line says so, and the script goes on."""
        done = tool("timer", "start", "build", RILLEVENTS_HOME="/proc/nowhere")
        assert (0, True) == (done.returncode, "set RILLEVENTS_HOME to a folder that can be written" in done.stderr)
        assert (
            73
            == tool("timer", "start", "build", RILLEVENTS_HOME="/proc/nowhere", RILLEVENTS_ON_ERROR="fail").returncode
        )

    def test_opted_out(self, tool: Tool) -> None:
        """Opted out, no file is made and nothing is said."""
        for word in ("start", "stop"):
            done = tool("timer", word, "build", DO_NOT_TRACK="1")
            assert (0, "", "") == (done.returncode, done.stdout, done.stderr)
        assert not tool.home.exists()

    @pytest.mark.parametrize(
        "words", [["stop"], ["start"], ["stop", "a", "-a", "x"], ["start", "a", "b"], ["stop", ""]]
    )
    def test_wrong_words(self, words: list[str], tool: Tool) -> None:
        """Wrong words are a usage error."""
        assert 2 == tool("timer", *words).returncode

    def test_old_ones_are_dropped(self, tool: Tool) -> None:
        """A timer that nobody has stopped for seven days is gone when another one is started."""
        tool("timer", "start", "old")
        old = only(list(Path(tool.paths.timers_dir).iterdir()))
        os.utime(old, (1, 1))
        tool("timer", "start", "new")
        assert old.name != only(list(Path(tool.paths.timers_dir).iterdir())).name

    def test_the_library(self, tmp_path: Path) -> None:
        """What the commands do is a call as well."""
        paths = Paths({"RILLEVENTS_HOME": str(tmp_path / "home")})
        timer.start(paths, "x")
        assert 0 <= timer.elapsed(paths, "x") < 60
        timer.forget(paths, "x")


def test_a_reading_of_later_is_none() -> None:
    """A reading that lies ahead is not a negative time."""
    boot, _, now = reading().partition(":")
    assert None is seconds_since(f"{boot}:{int(now) + 10**12}")
    assert (seconds_since(f"{boot}:{int(now) - 10**9}") or 0) >= 1
