"""The quick parser of `record` against Typer's: a second parser, not a second implementation."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support import Tool, need

from rillevents.cli import record_quick
from rillevents.cli.app import _call
from rillevents.cli.record import Plan, perform
from rillevents.cli.record_quick import FORMS, OPTIONS
from rillevents.cli.result import Shown
from rillevents.errors import UsageError

FIXED = ["--id", "i", "--time", "@0", "--dry-run"]
WORDS = st.sampled_from(
    [
        "x",
        "login-start",
        "",
        "-45",
        "45",
        "nan",
        "--",
        "-",
        "-a",
        "--attr",
        "k=v",
        "k:=1",
        "k:={",
        "novalue",
        "event_id=1",
        "value=2",
    ]
    + [
        "--attrs",
        '{"a": 1}',
        "[1]",
        "@missing",
        "--user-id",
        "u",
        "--user-id=u",
        "--attr=k=w",
        "--print",
        "--durable",
        "-q",
        "--ci",
        "--legacy",
    ]
    + [
        "--on-error",
        "fail",
        "bogus",
        "--on-error=ignore",
        "--bogus",
        "-ak=v",
        "--time",
        "@5",
        "never",
        "--attr=",
        "--print=1",
        "--help",
    ]
    + ["--version", "-x", "-1e3", "--id", "--dry-run", "☃", "a=b=c", ":=1", "=1", "-qa", "k=-1", "--json"]
) | st.text(max_size=5).filter(lambda text: "\0" not in text)
LINES = st.builds(
    lambda form, words: ["record", form, *words],
    st.sampled_from([*FORMS, "raw", "behaviorl"]),
    st.lists(WORDS, max_size=7),
)


@pytest.fixture(scope="module", autouse=True)
def environment(tmp_path_factory: pytest.TempPathFactory) -> object:
    """An environment without anything of ours, and an ID that does not change."""
    before = dict(os.environ)
    for name in list(os.environ):
        if name.startswith("RILLEVENTS_") or name == "DO_NOT_TRACK":
            del os.environ[name]
    os.environ |= {"RILLEVENTS_HOME": str(tmp_path_factory.mktemp("home") / "h"), "RILLEVENTS_INSTALL_ID": "fixed"}
    yield
    os.environ.clear()
    os.environ.update(before)


def quick(argv: list[str]) -> tuple[int, bytes] | None:
    """What the quick parser makes of a command line; None where it declines."""
    request = record_quick.parse(argv)
    if request is None or request.legacy:
        return None
    try:
        plan = Plan(request)
    except UsageError:
        return None
    report = perform(request, plan, os.environ)
    return report.code, report.out


def typer(argv: list[str]) -> tuple[int, bytes]:
    """What Typer makes of it."""
    shown = _call(argv)
    if not isinstance(shown, Shown):
        return (shown or 0), b""
    return shown.result.exit_code, b"".join(shown.result.lines)


@settings(max_examples=600, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])
@given(LINES)
def test_same_events_and_same_refusals(argv: list[str]) -> None:
    """Whatever the quick parser takes on, Typer makes the same event of, byte for byte; whatever Typer refuses it declines."""
    # First, not last: an option that waits for its value would take it.
    argv = [*argv[:2], *FIXED, *argv[2:]] if argv[1] in FORMS else argv
    if argv[1] == "raw" or (record_quick.parse(argv) is None and {"--help", "--version"} & {*argv}):
        return  # Typer prints its help itself.
    mine = quick(argv)
    if mine is not None:
        assert typer(argv) == mine


@pytest.mark.slow
@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from(sorted(FORMS)),
    st.lists(st.tuples(st.sampled_from("abc"), st.text(max_size=8).filter(lambda text: "\0" not in text)), max_size=3),
    st.permutations([["-q"], ["--print"], ["--durable"], ["--user-id", "-u"], ["--on-error=warn"], ["--ci"]]),
)
def test_takes_on_what_is_plain(form: str, attributes: list[tuple[str, str]], options: list[list[str]]) -> None:
    """Every plain form with valid words is taken on by the quick parser, in any order of its options."""
    arguments = {"metric": ["m", "-4.5"], "behavioral": ["b"], "log": ["l", "text"], "event": ["t", "n"]}[form]
    words = [word for key, value in attributes for word in ("-a", f"{key}={value}")]
    argv = ["record", form, *words, *arguments, *(word for option in options for word in option), *FIXED]
    mine = quick(argv)
    try:
        "".join(argv).encode()
    except UnicodeEncodeError:
        assert mine is None
        return
    assert mine is not None
    assert typer(argv) == mine
    assert dict(attributes) == {key: json.loads(mine[1])[key] for key in dict(attributes)}


def test_every_option_is_in_both() -> None:
    """Each option of the table is one of Typer's, with the same flags, and the other way round."""
    import typer as library

    from rillevents.cli.app import assembled

    group = library.main.get_command(assembled()).commands["record"]  # type: ignore[attr-defined]
    for form in FORMS:
        params = {
            param.name: set(param.opts) for param in group.commands[form].params if param.param_type_name == "option"
        }
        params.pop("version")
        assert {option.name: set(option.flags) for option in OPTIONS if option.only in ("", form)} == params


ALLOWED = {
    "__future__", "_json", "errno", "fcntl", "rillevents", "rillevents.cli", "rillevents.cli.record_quick", "rillevents.cli.record", "rillevents.recording", "rillevents.local.config", "rillevents.recording.setup", "rillevents.local.consent", "rillevents.errors",
    "rillevents.event", "rillevents.local.files", "rillevents.local.install_id", "rillevents.event.ndjson", "rillevents.local", "rillevents.recording.redact", "rillevents.recording.sinks",
    "rillevents.recording.sinks.spool", "rillevents.spool", "rillevents.spool.slots",
}  # fmt: skip


OF_CI = {"rillevents.local.ci", "rillevents.local.ci_providers"}


OF_AUTO = {"rillevents.delivery", "rillevents.delivery.turns", "rillevents.delivery.detached"}


@pytest.mark.parametrize("words", [[], ["--ci"]], ids=["plain", "ci"])
@pytest.mark.parametrize("auto", ["", "due", "not due"], ids=["", "due", "not-due"])
def test_modules_that_record_loads(words: list[str], auto: str, tool: Tool) -> None:
    """A plain `record` loads these modules beside those of a bare interpreter, and no other.

    With `--ci` it loads those that know CI, and with `[flush] auto` those that start a flush, when one is due.
    """
    allowed = ALLOWED | (OF_CI if words else set()) | (OF_AUTO if auto == "due" else set())
    if auto:
        tool("config", "set", "flush.auto", "1h")
        tool("record", "log", "before")
    if auto == "due":
        (tool.spool / "auto.json").unlink()
    assert 24 >= len([name for name in allowed if name.startswith("rillevents")])
    event = tool.home.parent / "event.json"
    event.write_text('{"pull_request": {"number": 5, "head": {"ref": "x", "sha": "0123abc"}}}')
    job = {"GITHUB_ACTIONS": "true", "GITHUB_EVENT_NAME": "pull_request", "GITHUB_EVENT_PATH": str(event)}
    script = (
        "import sys, os; bare = set(sys.modules)\n"
        f"sys.argv = ['rillevents', 'record', 'behavioral', 'x', '-a', 'k=v', '-a', 'n:=1', '--user-id', 'u', *{words!r}]\n"
        "import rillevents.cli as main\n"
        "main.leave = lambda code: print('\\n'.join(sorted(set(sys.modules) - bare)), 'bare:', *bare, sep='\\n')\n"
        "main.main()\n"
    )
    environ = tool.environ | job | {"COVERAGE_PROCESS_START": "", "COVERAGE_PROCESS_CONFIG": ""}
    found = subprocess.run(
        [sys.executable, "-S", "-c", f"import sys; sys.path[:0] = {sys.path!r}\n{script}"],
        env=environ,
        capture_output=True,
        text=True,
        check=True,
    )
    loaded, bare = (set(names.split()) for names in found.stdout.split("bare:"))
    # What a newer interpreter has loaded by itself is not loaded again.
    assert allowed == loaded | (allowed & bare)
    assert bool(words) == ("ci_pull_request" in tool.events()[-1])


def test_file_system_calls_of_record(tool: Tool) -> None:
    """A plain `record` touches the file system of the user a fixed number of times, however much is spooled."""
    strace = need("strace")
    log = tool.home.parent / "trace"
    tool("record", "behavioral", "first")

    def calls() -> list[str]:
        words = [strace, "-o", str(log), "-e", "trace=%file,%desc", *tool.command("record", "behavioral", "x")]
        # Without coverage: that has files of its own.
        environ = {key: value for key, value in tool.environ.items() if "COVERAGE" not in key}
        subprocess.run(words, env=environ, check=True)
        # Without mmap: that is how Python gets memory, and says nothing about files.
        lines = [text for text in log.read_text().splitlines() if not text.startswith("mmap(")]
        start = next(n for n, text in enumerate(lines) if str(tool.home) in text)
        return [
            text.partition("(")[0]
            for text in lines[start:]
            if "rillevents" not in text.partition("(")[2] or str(tool.home) in text
        ]

    few = calls()
    for _ in range(30):
        tool("record", "behavioral", "more")
    assert few == calls()
    assert len(few) <= 36, few
