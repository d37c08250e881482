"""The script for images without Python: the same events as the command's, into a file that `spool import` takes."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest
from support import Tool, need

from rillevents.recording.redact import KEYS, MARKS
from rillevents.shell.standalone import standalone_text, write_standalone

SHELLS = ("dash", "bash", "bash --posix", "zsh")


@pytest.fixture(params=SHELLS)
def script(request: pytest.FixtureRequest, tmp_path: Path) -> Sequence[str]:
    """How the script is started."""
    words = str(request.param).split()
    need(words[0])
    write_standalone(str(tmp_path / "record.sh"))
    return [*words, str(tmp_path / "record.sh")]


def run(script: Sequence[str], *words: str | bytes, cwd: Path, **environ: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [*script, *words], env={"PATH": os.environ["PATH"], "LANG": "C.UTF-8"} | environ, cwd=cwd, capture_output=True
    )


def events(folder: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (folder / "rillevents.ndjson").read_bytes().splitlines()]


def test_same_events(script: Sequence[str], tool: Tool, tmp_path: Path) -> None:
    """The script's events are the command's, ID and time aside, and `spool import` stores them as they are."""
    commands = [
        ["behavioral", "login-start", "-a", "plan=pro", "--attr", "b=2", "--attr=c=3=4", "-a", "plan=free"],
        ["metric", "build", "-1.5", "-a", "n:=3", "-a", "ok:=true"],
        ["log", "note", 'a "b" \\c\n\td\x01\x7f', "-a", "grün=äöü €😀"],
        ["log", "note"],
        ["event", "my type", "it's", "-a", "x=$(touch run) `touch run` *"],
    ]
    environ = {"RILLEVENTS_INSTALL_ID": "me", "RILLEVENTS_SERVICE_NAME": "ci", "RILLEVENTS_IS_DEV": "1"}
    for words in commands:
        done = run(script, "record", *words, cwd=tmp_path, **environ)
        assert (0, b"", b"") == (done.returncode, done.stdout, done.stderr)
        assert 0 == tool("record", *words, **environ).returncode
    aside = dict.fromkeys(["event_id", "event_time", "time"])
    assert [event | aside for event in tool.events()] == [event | aside for event in events(tmp_path)]
    assert not (tmp_path / "run").exists()
    assert {"stored": 5, "duplicates": 0, "bad": []} == tool.json(
        "spool", "import", str(tmp_path / "rillevents.ndjson")
    )
    assert tool.lines()[5:] == (tmp_path / "rillevents.ndjson").read_bytes().splitlines(keepends=True)


@pytest.mark.parametrize(
    "name",
    [
        "DO_NOT_TRACK=1",
        "DO_NOT_TRACK=yes",
        "RILLEVENTS_TELEMETRY=off",
        "RILLEVENTS_TELEMETRY=0",
        "RILLEVENTS_TELEMETRY= FALSE ",
    ],
)
def test_opted_out(tmp_path: Path, name: str) -> None:
    """Opted out by a variable, the script makes no file and says nothing; wrong words are still wrong."""
    write_standalone(str(tmp_path / "record.sh"))
    variable, _, value = name.partition("=")
    done = run(["sh", "record.sh"], "record", "behavioral", "a", cwd=tmp_path, **{variable: value})
    assert (0, b"", b"") == (done.returncode, done.stdout, done.stderr)
    assert ["record.sh"] == os.listdir(tmp_path)
    assert 2 == run(["sh", "record.sh"], "record", "behavioral", cwd=tmp_path, **{variable: value}).returncode


def test_odd_consent(tmp_path: Path) -> None:
    """A value that is neither on nor off is off, with a line; DO_NOT_TRACK=0 is no signal."""
    write_standalone(str(tmp_path / "record.sh"))
    done = run(["sh", "record.sh"], "record", "behavioral", "a", cwd=tmp_path, RILLEVENTS_TELEMETRY="maybe")
    assert (0, 1) == (done.returncode, done.stderr.count(b"\n"))
    assert not (tmp_path / "rillevents.ndjson").exists()
    run(["sh", "record.sh"], "record", "behavioral", "a", cwd=tmp_path, DO_NOT_TRACK="0", RILLEVENTS_TELEMETRY="on")
    assert 1 == len(events(tmp_path))


def test_wrong_words(tmp_path: Path) -> None:
    """Wrong words are told and exit with 2, or 0 where RILLEVENTS_ON_ERROR says ignore; nothing is written."""
    write_standalone(str(tmp_path / "record.sh"))
    wrong: list[list[str | bytes]] = [
        [], ["flush"], ["record"], ["record", "a"], ["record", "behavioral"], ["record", "behavioral", " "], ["record", "behavioral", "a", "b"],
        ["record", "metric", "a", "1e3"], ["record", "metric", "a", "-"], ["record", "metric", "a", "01"], ["record", "behavioral", "a", "-a", "b"],
        ["record", "behavioral", "a", "-a", "=b"], ["record", "behavioral", "a", "-a", "event_id=b"], ["record", "metric", "a", "1", "-a", "value=b"],
        ["record", "behavioral", "a", "-a", "b:=[1]"], ["record", "behavioral", "a", "--durable"], ["record", "behavioral", b"\xff"],
        ["record", "behavioral", b"\xed\xa0\x80"], ["record", "behavioral", "a", "-a"],
    ]  # fmt: skip
    for words in wrong:
        done = run(["sh", "record.sh"], *words, cwd=tmp_path)
        assert (2, 1) == (done.returncode, done.stderr.count(b"\n")), words
        assert 0 == run(["sh", "record.sh"], *words, cwd=tmp_path, RILLEVENTS_ON_ERROR="ignore").returncode
    assert ["record.sh"] == os.listdir(tmp_path)


def test_secrets(tmp_path: Path) -> None:
    """What the command looks for is not kept: values of secret keys, and whole texts that may hold a token or a password."""
    write_standalone(str(tmp_path / "record.sh"))
    words = (
        [f"{key.upper()}=x" for key in KEYS[:3]]
        + [f"k{number}=text {mark}AAAAAAAAAAAA" for number, mark in enumerate(MARKS)]
        + ["u=https://a:b@c/", "mail=a@b.c"]
    )
    run(
        ["sh", "record.sh"],
        "record",
        "behavioral",
        "a",
        *[word for text in words for word in ("-a", text)],
        cwd=tmp_path,
    )
    [event] = events(tmp_path)
    assert len(words) - 1 == event["redacted"] == list(event.values()).count("[redacted]")
    assert "a@b.c" == event["mail"]


def test_torn_line_and_no_file(tmp_path: Path) -> None:
    """A torn line costs only itself; a file that cannot be written is one line on stderr, and 73 where that is asked for."""
    write_standalone(str(tmp_path / "record.sh"))
    (tmp_path / "rillevents.ndjson").write_text('{"event_')
    run(["sh", "record.sh"], "record", "behavioral", "a", cwd=tmp_path)
    assert "a" == json.loads((tmp_path / "rillevents.ndjson").read_text().splitlines()[1])["event_name"]
    for mode, code in (("warn", 0), ("fail", 73)):
        done = run(
            ["sh", "record.sh"],
            "record",
            "behavioral",
            "a",
            cwd=tmp_path,
            RILLEVENTS_EVENTS_FILE="/nowhere/x",
            RILLEVENTS_ON_ERROR=mode,
        )
        assert (code, 1) == (done.returncode, done.stderr.count(b"\n"))
    quiet = run(
        ["sh", "record.sh"],
        "record",
        "behavioral",
        "a",
        cwd=tmp_path,
        RILLEVENTS_EVENTS_FILE="/nowhere/x",
        RILLEVENTS_QUIET="1",
    )
    assert (0, b"") == (quiet.returncode, quiet.stderr)


def test_command(tool: Tool, tmp_path: Path) -> None:
    """`shell-init sh --standalone FILE` writes the script, over an older one too, but over no other file."""
    file = tmp_path / "record.sh"
    for _ in range(2):
        assert 0 == tool("shell-init", "sh", "--standalone", str(file)).returncode
        assert (standalone_text(), 0o755) == (file.read_text(), file.stat().st_mode & 0o777)
    file.write_text("mine\n")
    done = tool("shell-init", "sh", "--standalone", str(file))
    assert (2, "mine\n") == (done.returncode, file.read_text())
    assert not tool.home.exists()
    for words in (["sh"], ["fish"], ["bash", "--standalone", str(file)], []):
        assert 2 == tool("shell-init", *words).returncode
