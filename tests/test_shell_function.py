"""The function of `shell-init`: the same events as the command's, without a process; and what it leaves to the command."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from support import Tool, need

from rillevents.cli.record import Plan, perform
from rillevents.cli.record_quick import failure_mode, parse
from rillevents.errors import RilleventsError
from rillevents.event import ENVELOPE, format_time
from rillevents.event.timestamp import parse_time
from rillevents.recording.redact import KEYS, MARKS
from rillevents.shell import function as shell_function
from rillevents.shell.function import SHELLS, function_text, quoted
from rillevents.spool.drain import Drain

pytestmark = pytest.mark.unmeasured

OLD = 1_700_000_000_000_000_000


@pytest.fixture(params=SHELLS)
def shell(request: pytest.FixtureRequest) -> str:
    """The name of a shell that is here."""
    need(request.param)
    return str(request.param)


@dataclass
class Told:
    """What a script came to: its output, the lines that the function wrote, and what the command was called with."""

    done: subprocess.CompletedProcess[str]
    lines: list[bytes]
    calls: list[tuple[str, ...]]

    @property
    def events(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.lines]


class Shell:
    """A shell with the function, over a command that notes its words and stores nothing."""

    def __init__(self, shell: str, folder: Path, config: str = "", **environ: str) -> None:
        self.shell = shell
        self.tool = Tool(folder / "home")
        (folder / "user").mkdir(exist_ok=True)
        self.tool.environ |= environ
        # The first event of all makes the ID and the folder.
        if config:
            self.tool.home.mkdir()
            (self.tool.home / "config.toml").write_text(config)
        assert 0 == perform_in_process(self.tool, ["record", "behavioral", "first"])[0]
        self.calls = folder / "calls"
        self.command = folder / "noting"
        init = folder / "init.py"
        init.write_text(
            "import os\nfrom rillevents.shell.function import function_text\n"
            f"os.write(1, os.fsencode(function_text({shell!r}, os.environ, [{str(self.command)!r}])))\n"
        )
        self.command.write_text(
            "#!/bin/sh\n"
            f'if [ "$1" = shell-init ]; then exec {shlex.join([sys.executable, str(init)])}; fi\n'
            f'printf "%s\\0" "$I" "$#" "$@" >>{shlex.quote(str(self.calls))}\n'
        )
        self.command.chmod(0o755)
        self.age()

    def age(self) -> None:
        """Let all files be old: what has just changed is looked at again."""
        for path in self.tool.home.iterdir():
            if path.is_file() and path.suffix in (".toml", "") and not path.name.startswith("shell-"):
                os.utime(path, ns=(OLD, OLD))

    def text(self, **environ: str) -> str:
        """What the shell evaluates."""
        return function_text(self.shell, self.tool.environ | environ, [str(self.command)], warning_of)

    def __call__(self, script: str | bytes, *, ready: bool = True, options: Sequence[str] = (), **environ: str) -> Told:
        """Run a script behind the definition; *ready*: behind the event that a process gives to the command first."""
        first = b"I=first rillevents record behavioral first\n" if ready else b""
        body = script if isinstance(script, bytes) else os.fsencode(script)
        file = self.command.with_name("script")
        file.write_bytes(os.fsencode(self.text(**environ)) + first + body)
        done = subprocess.run(
            [self.shell, *options, file],
            env=self.tool.environ | environ,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=120,
        )
        out = subprocess.CompletedProcess(
            done.args, done.returncode, done.stdout.decode(), done.stderr.decode("utf-8", "replace")
        )
        return Told(out, self.taken(), self.called())

    def slots(self) -> list[Path]:
        """The files that the function has made."""
        return sorted(self.tool.spool.glob("slot-sh-*"))

    def taken(self) -> list[bytes]:
        """Take the lines away that the function has written."""
        found = []
        for path in self.slots():
            found += path.read_bytes().splitlines(keepends=True)
            path.unlink()
        return found

    def called(self) -> list[tuple[str, ...]]:
        """What the command was called with since the last time, behind the number of the call."""
        if not self.calls.exists():
            return []
        words = iter(os.fsdecode(self.calls.read_bytes()).split("\0")[:-1])
        self.calls.unlink()
        found = [(number, *islice(words, int(next(words)))) for number in words]
        return [call for call in found if call[0] != "first"]


def warning_of(environ: Mapping[str, str]) -> str:
    return failure_mode(None, environ)[1]


def perform_in_process(tool: Tool, words: Sequence[str]) -> tuple[int, bytes]:
    """Record as the command does, and return the exit code and what `--print` would print; 2 if the words are not valid."""
    request = parse(words)
    if request is None:
        return 2, b""
    request.print = True
    try:
        report = perform(request, Plan(request), tool.environ)
    except RilleventsError as error:
        return error.exit_code, b""
    return report.code, report.out


def without_id_and_time(line: bytes) -> str:
    """Return a line with neither its ID nor its times."""
    text = line.decode()
    event = json.loads(text)
    assert (36, 30) == (len(event["event_id"]), len(event["event_time"]))
    text = text.replace(event["event_id"], "ID").replace(event["event_time"], "TIME")
    return text.replace(event["event_time"][:19] + "Z", "SECOND") if event["event_type"] == "metric" else text


# Words

plain = st.sampled_from(
    ["pro", "eu-west-1", "build", "2.10", "main", "9f3c2ab81d4e5f60718293a4b5c6d7e8f9012345", "a b", "x" * 200]
)
odd = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)
bytes_ = st.binary(max_size=8).map(lambda data: os.fsdecode(data.replace(b"\0", b"")))
marks = st.sampled_from([*MARKS, "https://me:secret@example.com/", "a@b", "://"]).map(
    lambda mark: f"x {mark}{'A' * 40}"
)
numbers = st.one_of(
    st.integers(-(10**17), 10**17).map(str),
    st.floats(allow_nan=False, allow_infinity=False).map(repr),
    st.decimals(-100000, 100000, places=4).map(str),
    st.sampled_from(
        [
            "0",
            "-0",
            "00",
            "1.0",
            "0.5",
            "-0.5",
            "0.00001",
            "1e3",
            "1.",
            ".5",
            "-",
            "true",
            "null",
            "NaN",
            "",
            "0x1",
            "1_0",
        ]
    ),
)
values = st.one_of(
    plain,
    odd,
    bytes_,
    marks,
    st.sampled_from(list("\"\\'`$&*?[]{}!~#%\n\t\r\b\f\x1f\x7f") + ["\\n", "\\\\", "&&", "\x01\x02\n"]),
)
keys = st.one_of(
    st.sampled_from(
        [
            "plan",
            "region",
            "n",
            "buildId",
            "a.b",
            "a-b",
            "x_y",
            "message",
            "value",
            "name",
            "install_id",
            "user_id",
            "service_name",
        ]
    ),
    st.sampled_from(KEYS),
    st.sampled_from([*ENVELOPE, "API-KEY", "Pass_Word", "p|q", "", ":", "toKen", "ıd"]),
    odd,
)
attributes = st.one_of(
    st.tuples(keys, st.just("="), values).map("".join),
    st.tuples(keys, st.just(":="), st.one_of(numbers, values)).map("".join),
    odd,
)
flags = st.one_of(
    attributes.map(lambda text: ["-a", text]),
    attributes.map(lambda text: ["--attr", text]),
    attributes.map(lambda text: [f"--attr={text}"]),
    st.sampled_from(
        [
            ["--durable"],
            ["--id", "x"],
            ["--time", "@0"],
            ["-q"],
            ["--"],
            ["-"],
            ["--attrs", "{}"],
            ["--user-id", "me"],
            ["-a"],
        ]
    ),
)
names = st.one_of(st.sampled_from(["login-start", "build", "Deploy done", " "]), odd, values)
arguments = st.one_of(
    names.map(lambda name: ["behavioral", name]),
    st.tuples(names, numbers).map(lambda both: ["metric", *both]),
    names.map(lambda name: ["log", name]),
    st.tuples(names, values).map(lambda both: ["log", *both]),
    st.tuples(names, names).map(lambda both: ["event", *both]),
    st.lists(names, max_size=3),
)


@st.composite
def commands(draw: Callable[..., Any]) -> list[str]:
    """Draw the words of a command."""
    form = draw(arguments)
    given_flags = draw(st.lists(flags, max_size=3))
    at = draw(st.integers(min(1, len(form)), len(form)))
    return ["record", *form[:at], *[word for flag in given_flags for word in flag], *form[at:]]


SHARED = {"RILLEVENTS_SERVICE_NAME": 'ci\'s "grün" \\ $x', "RILLEVENTS_ATTRIBUTES": "n=1,region=eu"}


@pytest.mark.parametrize("locale", ["C", "C.UTF-8"])
def test_same_events(shell: str, locale: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    """The function records exactly what the command does, ID and time aside, or calls the command with the same words."""
    inner = Shell(shell, tmp_path_factory.mktemp("function"), LC_ALL=locale, **SHARED)
    outer = Tool(tmp_path_factory.mktemp("command") / "home")
    outer.environ = inner.tool.environ | {"RILLEVENTS_HOME": str(outer.home)}
    outer.home.mkdir()
    (outer.home / "install_id").write_bytes((inner.tool.home / "install_id").read_bytes())
    by_function = 0

    @settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.lists(commands(), min_size=1, max_size=40))
    @example([["record", "behavioral", "a", "-a", f"k={chr(number)}"] for number in range(1, 256)])
    @example(
        [
            ["record", "metric", "a", number]
            for number in ("0", "-0", "5", "-5", "1.5", "0.0001", "0.00009", "1e3", "123456789012345")
        ]
    )
    @example([["record", "behavioral", "a", "-a", f"{key}=x"] for key in KEYS])
    @example([["record", "behavioral", "a", "-a", f"k=some text {mark}AAAAAAAAAAAAAAAAAAAAAAAAA"] for mark in MARKS])
    @example(
        [
            ["record", "behavioral", "a", "-a", os.fsdecode(b"k=" + data)]
            for data in (
                b"\xc3\xa9",
                b"\xe2\x82\xc3\xa9\xac",
                b"\xed\xa0\x80",
                b"\xf4\x90\x80\x80",
                b"\xc0\x80",
                b"\xf0\x9f\x98\x80",
                b"\xff",
                b"\xe9",
            )
        ]
    )
    def compared(some: list[list[str]]) -> None:
        nonlocal by_function
        script = b"".join(
            b"I=%d; export I; rillevents %s\n" % (number, b" ".join(os.fsencode(quoted(word)) for word in words))
            for number, words in enumerate(some)
        )
        told = inner(script)
        left = {int(number): words for number, *words in told.calls}
        lines = iter(told.lines)
        for number, words in enumerate(some):
            if number in left:
                assert words == left[number]
                continue
            code, expected = perform_in_process(outer, words)
            assert (0, without_id_and_time(expected)) == (code, without_id_and_time(next(lines)))
            by_function += 1
        assert [] == list(lines)
        assert "" == told.done.stderr

    compared()
    # All of them left to the command would be right as well, and pointless.
    assert by_function > 200


@pytest.fixture
def inner(shell: str, tmp_path: Path) -> Shell:
    """A shell with the function, whose command notes what it is called with."""
    return Shell(shell, tmp_path)


def names_of(told: Told) -> list[str]:
    return [event["event_name"] for event in told.events]


def record(name: str, *more: str) -> tuple[str, ...]:
    return ("record", "behavioral", name, *more)


PLAIN = "rillevents record behavioral {0}\n"


def script_of(*steps: str) -> str:
    """Return a script: single words are the names of events, everything else is a line of the shell's."""
    return "".join(step + "\n" if " " in step else PLAIN.format(step) for step in steps)


def test_only_the_first_of_a_process(inner: Shell) -> None:
    """A process's first event goes through the command, and makes no file; from the second on the function records."""
    told = inner(script_of("I=1; export I", "one", "two", "three"), ready=False)
    assert (["two", "three"], [("1", *record("one"))]) == (names_of(told), told.calls)


def test_subshells_and_pipelines(inner: Shell) -> None:
    """A subshell, a substitution and a part of a pipeline each have a file of their own, once they record twice."""
    body = script_of(
        "a",
        "( rillevents record behavioral b; rillevents record behavioral c )",
        "echo $(rillevents record behavioral d; rillevents record behavioral e)",
    )
    body += (
        "{ rillevents record behavioral f; rillevents record behavioral g; } | cat; rillevents record behavioral h\n"
    )
    told = inner(f"I=1; export I; {body}")
    ids = [event["event_id"] for event in told.events]
    assert (sorted("acegh"), len(ids)) == (sorted(names_of(told)), len(set(ids)))
    assert [("1", *record(name)) for name in "bdf"] == told.calls


def test_unset_variables(inner: Shell) -> None:
    """A script that ends at a variable that is not set defines the function and records, HOME set or not."""
    told = inner("rillevents record behavioral one; unset HOME; rillevents record behavioral two\n", options=["-eu"])
    recorded = [*names_of(told), *[call[3] for call in told.calls]]
    assert (["one", "two"], 0) == (sorted(name for name in recorded if name != "first"), told.done.returncode)


@pytest.mark.parametrize(
    "options",
    [
        "set -eux",
        "set -euo pipefail",
        "set -C",
        'if [ "${BASH_VERSION-}" ]; then set -o posix; else emulate sh; fi',
        "readonly t=1 z=1 n2=1",
        "set -f",
        "set -a",
        "umask 0777",
        "umask 0",
        "IFS=0123456789",
        "IFS=",
        "set -E 2>/dev/null; trap 'echo err' ERR",
        "trap 'echo debug >/dev/null' DEBUG",
        "exec 0<&- 1>&-",
        'cd / && cd "$OLDPWD"',
    ],
)
def test_settings_of_a_shell(inner: Shell, options: str) -> None:
    """Whatever a script has set, events are the same, nothing else is printed, and the script goes on."""
    told = inner(
        script_of(f"{options}; true", "one", "rillevents record behavioral two -a 'k=a b'", "three", 'exit "$?"')
    )
    recorded = [*names_of(told), *[call[3] for call in told.calls]]
    assert (["one", "three", "two"], 0) == (sorted(recorded), told.done.returncode)
    if "0777" not in options or os.geteuid() == 0:
        assert ["one", "two", "three"] == names_of(told)
    assert "" == told.done.stdout
    if options != "set -eux":
        assert "" == told.done.stderr


def test_trace(inner: Shell) -> None:
    """`set -x` shows that an event is recorded, not how."""
    told = inner(script_of("set -x", "one"))
    assert ["one"] == names_of(told)
    assert 4 >= len(told.done.stderr.splitlines())


def test_foreign_names(inner: Shell) -> None:
    """Neither aliases nor functions that somebody has named like builtins take part."""
    words = ("printf", "read", "command", "local", "set", "eval", "return", "echo", "record")
    aliases = "".join(f"alias {word}='echo alias'\n" for word in words)
    functions = "".join(f"{word}() {{ echo function; }}\n" for word in ("printf", "read", "command", "local", "set"))
    on = "shopt -s expand_aliases\n" if inner.shell == "bash" else "setopt aliases\n"
    file = inner.command.with_name("definition")
    file.write_bytes(os.fsencode(inner.text()))
    told = inner(f"{on}{aliases}\\builtin . {file}\n\\unalias -a\n{functions}" + script_of("one", "two"))
    assert (["one", "two"], "") == (names_of(told), told.done.stdout + told.done.stderr)


def test_quoted(inner: Shell, tmp_path: Path) -> None:
    """What is printed is quoted: a value with newlines, quotes and substitutions is a value, and nothing is run."""
    evil = f"'\n\"; touch {tmp_path}/run; $(touch {tmp_path}/run) `touch {tmp_path}/run` \\' {{{{FOLDER}}}}\n"
    told = inner(script_of("one"), RILLEVENTS_SERVICE_NAME=evil)
    assert [evil] == [event["service_name"] for event in told.events]
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "how", ["file", "RILLEVENTS_TELEMETRY=off", "RILLEVENTS_TELEMETRY=0", "DO_NOT_TRACK=1", "both"]
)
def test_opted_out_in_mid_session(inner: Shell, how: str) -> None:
    """From the event on that follows an opt-out, nothing is recorded; and again from an opt-in on."""
    file = inner.tool.home / "telemetry"
    off = (
        f"echo off >{file}"
        if how == "file"
        else f"export {how}"
        if "=" in how
        else f"echo off >{file}; export DO_NOT_TRACK=1"
    )
    on = (
        f"echo on >{file}"
        if how == "file"
        else f"unset {how.partition('=')[0]}"
        if "=" in how
        else f"rm {file}; unset DO_NOT_TRACK"
    )
    told = inner(script_of("before", off, "no", "no", "no", on, "after", "after"))
    # The command decides by itself where it is called: only what the function records itself counts here.
    assert "no" not in names_of(told)
    assert "before" == names_of(told)[0]
    assert 2 >= len([call for call in told.calls if call[3] == "no"])
    assert ["after"] == names_of(told)[1:2] or "after" in [call[3] for call in told.calls]


def test_telemetry_file_that_says_neither(inner: Shell) -> None:
    """A file `telemetry` that says neither on nor off leaves the decision to the command."""
    for content in ("", "on\nfoo\n", "ON\n", " on\n", "on\0\n"):
        (inner.tool.home / "telemetry").write_text(content)
        told = inner(script_of("I=1; export I", "one"))
        assert ([], [("1", *record("one"))]) == (told.lines, told.calls), content


@pytest.mark.parametrize(
    "change",
    [
        "export RILLEVENTS_SERVICE_NAME=new",
        "export RILLEVENTS_ATTRIBUTES='service_name=new'",
        "printf '[attributes]\\nservice_name = \"new\"\\n' >$RILLEVENTS_HOME/config.toml",
        "RILLEVENTS_SERVICE_NAME=new; export RILLEVENTS_SERVICE_NAME",
    ],
)
def test_changes_in_mid_session(inner: Shell, change: str) -> None:
    """A variable or a configuration that changes counts from the next event on: two go through the command, then the function knows."""
    told = inner(script_of("I=1; export I", "one", f"{change}", "two", "sleep 0.1; true", "three", "four", "five"))
    assert "service_name" not in told.events[0]
    assert [None, "new"] == [event.get("service_name") for event in (told.events[0], told.events[-1])]
    assert {"one": None, "four": "new", "five": "new"}.items() <= {
        event["event_name"]: event.get("service_name") for event in told.events
    }.items()
    assert "two" in [call[3] for call in told.calls]


def test_configuration_replaced_by_an_older_one(inner: Shell) -> None:
    """A configuration counts that has an older time than the one before."""
    home = inner.tool.home
    (home / "config.toml").write_text("[attributes]\nn = 1\n")
    inner.age()
    (home / "older.toml").write_text("[attributes]\nn = 2\n")
    os.utime(home / "older.toml", ns=(OLD - 10**9, OLD - 10**9))
    told = inner(
        script_of("one", "mv $RILLEVENTS_HOME/older.toml $RILLEVENTS_HOME/config.toml", "two", "three", "four")
    )
    assert {"one": 1, "three": 2, "four": 2} == {event["event_name"]: event["n"] for event in told.events}


def test_new_id_in_mid_session(inner: Shell) -> None:
    """A new install ID counts from the next event on."""
    told = inner(
        script_of(
            "one",
            f"{shlex.join(map(str, inner.tool.command('id', 'reset')))} >/dev/null 2>&1",
            "two",
            "sleep 0.1; true",
            "three",
            "four",
        )
    )
    new = (inner.tool.home / "install_id").read_text().strip()
    found = {event["event_name"]: event["install_id"] for event in told.events}
    assert new == found["four"] != found["one"]


@pytest.mark.parametrize(
    "config",
    [
        "[filter]\ndrop_names = ['debug-*']\n",
        "[spool]\ndurable = true\n",
        "[attributes]\npassword = 'x'\n",
        "[attributes]\nlist = [1]\n",
        "[redact]\nkeys = 3\n",
    ],
)
def test_what_only_the_command_can(shell: str, tmp_path: Path, config: str) -> None:
    """With a filter, a sync, a secret among the attributes, or a configuration with a slip, every event goes through the command."""
    inner = Shell(shell, tmp_path, config)
    told = inner(script_of("one", "two", "three"))
    assert ([], ["one", "two", "three"]) == (told.lines, [call[3] for call in told.calls])


def test_configured_redaction(shell: str, tmp_path: Path) -> None:
    """A key of `[redact]` goes through the command; with redaction switched off nothing does."""
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    words = "rillevents record behavioral one -a Card-No=1; rillevents record behavioral two -a password=1 -a 'text=Bearer abcdefghijklmnop'"
    told = Shell(shell, tmp_path / "a", "[redact]\nkeys = ['card_no']\n")(script_of(words))
    assert ([], ["one", "two"]) == (told.lines, [call[3] for call in told.calls])
    told = Shell(shell, tmp_path / "b", "[redact]\nenabled = false\n")(script_of(words))
    assert (["one", "two"], []) == (names_of(told), told.calls)


def test_context(shell: str, tmp_path: Path) -> None:
    """The CI job and the trace are on the function's events as on the command's, and follow their variables."""
    job = {
        "CI": "true",
        "GITHUB_ACTIONS": "true",
        "GITHUB_REF_NAME": "main",
        "GITHUB_REF_TYPE": "branch",
        "GITHUB_RUN_ID": "1",
        "GITHUB_SHA": "9f3c2ab",
    }
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b71692033{}-01"
    inner = Shell(shell, tmp_path, RILLEVENTS_CI_CONTEXT="1", TRACEPARENT=trace.format("31"), **job)
    told = inner(script_of("one", f"export TRACEPARENT={trace.format('32')} GITHUB_RUN_ID=2", "two", "three", "four"))
    _, line = perform_in_process(inner.tool, record("one"))
    assert without_id_and_time(line) == without_id_and_time(told.lines[0])
    assert ("2", "b7ad6b7169203332") == (told.events[-1]["ci_build_id"], told.events[-1]["span_id"])
    assert ["two"] == [call[3] for call in told.calls]


def test_room(shell: str, tmp_path: Path) -> None:
    """A shell writes no more than a part of what is left in the spool before it asks again."""
    inner = Shell(shell, tmp_path, "[spool]\nmax_bytes = 40000\n")
    told = inner(script_of(*["x"] * 100))
    assert 40_000 > sum(map(len, told.lines)) > 10_000
    assert told.calls


def test_full_disk_and_no_file(inner: Shell, tmp_path: Path) -> None:
    """Where the file cannot be written, the command gets the event, with the ID and the time that it has; stdout gets nothing."""
    body = script_of("I=1; export I", "one", "__rv_file=/dev/full; true", "two", "echo end")
    told = inner(body)
    [call] = told.calls
    assert (record("two"), "--id", "--time") == (call[1:4], call[4], call[6])
    assert (36, 30) == (len(call[5]), len(call[7]))
    assert "end\n" == told.done.stdout
    assert "" == told.done.stderr


def test_trap(inner: Shell) -> None:
    """Events that traps record in the midst of others, and at the end, are recorded as well, each with an ID of its own."""
    body = "trap 'rillevents record behavioral trapped' USR1\ntrap 'rillevents record behavioral last' EXIT\n"
    body += "(n=0; while [ $n -lt 200 ]; do kill -USR1 $$ || exit 0; n=$((n+1)); done) &\n"
    body += "n=0; while [ $n -lt 1500 ]; do rillevents record behavioral a -a n=$n; n=$((n+1)); done\nwait\n"
    told = inner(body)
    # One that a trap interrupted may be there twice, with the same ID.
    by_id = {event["event_id"]: event for event in told.events}
    assert len(set(told.lines)) == len(by_id)
    assert [str(number) for number in range(1500)] == [
        event["n"] for event in by_id.values() if event["event_name"] == "a"
    ]
    assert "last" == told.events[-1]["event_name"]


def test_empty_files_are_taken_away(tool: Tool) -> None:
    """A flush takes an empty file of a shell away, and gives every file of a shell the mode 0600 whatever the umask was."""
    assert 0 == tool("record", "behavioral", "a").returncode
    [line] = tool.lines()
    (tool.spool / "slot-sh-empty.ndjson").touch()
    (tool.spool / "slot-sh-closed.ndjson").write_bytes(line)
    (tool.spool / "slot-sh-closed.ndjson").chmod(0)
    with Drain(str(tool.spool)) as drain:
        [batch] = [batch for batch in drain.batches() if len(batch.batch)]
        modes = {path.name[:6]: path.stat().st_mode & 0o777 for path in tool.spool.glob("*.ndjson")}
        assert ({"claim-": 0o600}, 2) == (modes, len(batch.batch))
        drain.release()
    assert not list(tool.spool.glob("slot-sh-*"))


def test_opted_out(tmp_path: Path, shell: str) -> None:
    """Opted out, `shell-init` makes no file, and the function does nothing."""
    tool = Tool(tmp_path / "home")
    (tmp_path / "user").mkdir()
    text = tool("shell-init", shell, DO_NOT_TRACK="1").stdout
    done = subprocess.run(
        [shell, "-c", text + "rillevents record behavioral a\n" * 3],
        env=tool.environ | {"DO_NOT_TRACK": "1"},
        capture_output=True,
    )
    assert (0, b"", b"") == (done.returncode, done.stdout, done.stderr)
    assert not tool.home.exists()


def test_words_that_are_wrong(inner: Shell) -> None:
    """Another command, wrong words and help go to the command with all words, and its exit code comes back."""
    inner.command.write_text("#!/bin/sh\nexit 7\n")
    told = inner(
        "rillevents flush || echo $?\nrillevents record || echo $?\nrillevents || echo $?\nrillevents record behavioral a b || echo $?\n"
    )
    assert "7\n" * 4 == told.done.stdout


def test_no_process(inner: Shell) -> None:
    """A hundred events start no process: they are recorded where the shell may start none."""
    told = inner("ulimit -u 1 2>/dev/null\nPATH=\n" + script_of(*["x"] * 100))
    assert 100 == len(told.lines)


def taken_after_the_write(text: str, action: str) -> str:
    """Return the function with something done between its write and its check, once."""
    at = "            # Still there: whoever"
    assert at in text
    return text.replace(at, f"            if [[ $__rv_once != done ]]; then __rv_once=done; {action}; fi\n{at}", 1)


def defined(inner: Shell, text: str, script: str) -> Told:
    """Run a script behind another definition than ours."""
    file = inner.command.with_name("script")
    file.write_bytes(os.fsencode(f"{text}\nrillevents record behavioral first\n{script}"))
    done = subprocess.run([inner.shell, file], env=inner.tool.environ, capture_output=True, timeout=60)
    out = subprocess.CompletedProcess(done.args, done.returncode, done.stdout.decode(), done.stderr.decode())
    return Told(out, inner.taken(), inner.called())


def test_a_flusher_is_quicker(inner: Shell) -> None:
    """A line whose file was taken away before the check is written again, with the same bytes."""
    text = taken_after_the_write(inner.text(), 'mv "$__rv_file" "${__rv_file%/*}/taken"')
    told = defined(inner, text, script_of("one", "two"))
    taken = (inner.tool.spool / "taken").read_bytes().splitlines(keepends=True)
    assert (["one", "two"], taken) == (names_of(told), told.lines[:1])
    assert "" == told.done.stderr


def test_an_objection_meanwhile(inner: Shell) -> None:
    """A line that a purge took away is not written again once the user has objected."""
    text = taken_after_the_write(inner.text(), f'rm "$__rv_file"; echo off >{inner.tool.home}/telemetry')
    told = defined(inner, text, script_of("one", "two"))
    assert [] == told.lines


def test_a_trap_makes_the_file_anew(inner: Shell) -> None:
    """A line whose file was taken away is written again, even if an event of a trap has made a file of its name meanwhile."""
    text = taken_after_the_write(inner.text(), 'rm "$__rv_file"; rillevents record behavioral trapped')
    told = defined(inner, text, script_of("one"))
    assert ["trapped", "one"] == names_of(told)


def test_limits_of_files(inner: Shell) -> None:
    """Where the size of files is limited, everything goes through the command: a shell would be killed by its own write."""
    shell = f'ulimit -f 100; eval "$({shlex.join(map(str, inner.tool.command("shell-init", inner.shell)))})"\n'
    done = subprocess.run(
        [inner.shell, "-c", shell + script_of("one", "two", "three")], env=inner.tool.environ, capture_output=True
    )
    assert (0, b"") == (done.returncode, done.stderr)
    assert ([], ["first", "one", "two", "three"]) == (
        inner.slots(),
        [event["event_name"] for event in inner.tool.events()],
    )


@pytest.mark.slow
@pytest.mark.parametrize(("name", "charset"), [("de_DE", "UTF-8"), ("tr_TR", "UTF-8"), ("de_DE", "ISO-8859-1")])
def test_locales(shell: str, name: str, charset: str, tmp_path: Path) -> None:
    """A decimal comma, letters that fold otherwise, and bytes that are no UTF-8 change no event and hide no secret."""
    folder = tmp_path / "locales"
    folder.mkdir()
    made = subprocess.run(
        [need("localedef"), "-i", name, "-f", charset, folder / f"{name}.{charset}"], capture_output=True
    )
    if made.returncode > 1:
        pytest.skip("the sources of locales are not installed")
    inner = Shell(shell, tmp_path, LOCPATH=str(folder), LC_ALL=f"{name}.{charset}")
    words = ["a", "b -a PASSPHRASE=x -a k=v", "c -a CLIENT_ID_TOKEN=x", "d -a ID_TOKEN=x", "e -a grün=1", "f -a k=grün"]
    script = f'eval "$({shlex.join(map(str, inner.tool.command("shell-init", shell)))})"\n' + "".join(
        f"rillevents record behavioral {word}\n" for word in ["first", *words]
    )
    done = subprocess.run([shell, "-c", script], env=inner.tool.environ, capture_output=True)
    assert (0, b"") == (done.returncode, done.stderr)
    by_function = [json.loads(line)["event_name"] for line in inner.taken()]
    assert ["a", "c", "f"][: 3 if charset == "UTF-8" else 2] == by_function
    stored = {event["event_name"]: event for event in inner.tool.events()}
    assert ["[redacted]"] * 2 == [stored["b"]["PASSPHRASE"], stored["d"]["ID_TOKEN"]]


def test_clock(inner: Shell) -> None:
    """Times are those of the clock, in UTC, whatever the time zone; and IDs sort by them."""
    before = time.time()
    told = inner(script_of(*["x"] * 20), TZ="Asia/Kolkata")
    after = time.time()
    times = [event["event_time"] for event in told.events]
    stamps = [int(event["event_id"][:13].replace("-", ""), 16) / 1000 for event in told.events]
    assert times == sorted(times)
    assert [event["event_id"] for event in told.events] == sorted(event["event_id"] for event in told.events)
    assert before - 1 <= parse_time(times[0]) / 1e9 <= parse_time(times[-1]) / 1e9 <= after + 1
    assert all(abs(stamp - parse_time(text) / 1e9) < 0.002 for stamp, text in zip(stamps, times, strict=True))


def test_dates(shell: str) -> None:
    """The date that the function works out is the calendar's, for any second from 1970 to 2200."""
    template = (Path(shell_function.__file__).parent / f"function.{shell}").read_text()
    body = template[template.index("__rillevents_second() {") :]
    function = body[: body.index("\n}\n") + 3]
    some = [
        0,
        951782400,
        951868800,
        1709164799,
        1709164800,
        4107542399,
        4107542400,
        *range(86399, 7258118400, 86400 * 83 + 1),
    ]
    lines = "".join(f"__rv_s={second}; __rv_key={second}; __rillevents_second; echo $__rv_when\n" for second in some)
    done = subprocess.run([shell, "-c", function + lines], capture_output=True, text=True, check=True)
    assert [f"{second}={format_time(second * 10**9)[:19]}" for second in some] == done.stdout.split()


def test_another_locale_in_mid_session(inner: Shell) -> None:
    """After a change of the locale, texts that are not ASCII go through the command, until the function has asked anew."""
    told = inner(
        script_of(
            "I=1; export I",
            "rillevents record behavioral one -a k=ü",
            "export LC_ALL=POSIX",
            *["rillevents record behavioral two -a k=ü"] * 4,
        ),
        LC_ALL="C.UTF-8",
    )
    assert {"one", "two"} == {*names_of(told)}
    assert 1 <= len(told.calls) <= 3
    assert {"ü"} == {event["k"] for event in told.events}


def test_session(inner: Shell) -> None:
    """A session that starts in mid-session is on every event that follows, with its attributes."""
    start = shlex.join(map(str, inner.tool.command("session", "start", "-a", "stage=test")))
    told = inner(script_of("one", f'eval "$({start})"', "two", "three", "four"))
    found = {event["event_name"]: event for event in told.events}
    assert "session_id" not in found["one"]
    assert ("test", 36) == (found["four"]["stage"], len(found["four"]["session_id"]))


@pytest.mark.parametrize("option", ["-s nocasematch", "-u globasciiranges", "-s localvar_inherit"])
def test_options_that_change_patterns(option: str, tmp_path: Path) -> None:
    """While bash compares without case or by a language, or local variables inherit, every event goes through the command."""
    need("bash")
    told = Shell("bash", tmp_path)(
        script_of(
            "one",
            f"shopt {option}",
            "two",
            "two",
            f"shopt {'-u' if '-s' in option else '-s'} {option[3:]}",
            "three",
            "four",
        )
    )
    assert (["one", "three", "four"], ["two", "two"]) == (names_of(told), [call[3] for call in told.calls])


def test_automatic_flush(shell: str, tmp_path: Path) -> None:
    """With `[flush] auto` one event an interval goes through the command, which delivers; all others are recorded here."""
    told = Shell(shell, tmp_path, "[flush]\nauto = '1h'\n")(
        script_of("one", "two", "__rv_handed=1; true", "three", "four")
    )
    assert (["one", "two", "four"], ["three"]) == (names_of(told), [call[3] for call in told.calls])
