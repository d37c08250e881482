"""Off means off: no ID, no file, no thread, no connection, whatever is called."""

from __future__ import annotations

import subprocess

import pytest
from support import Tool, need

COMMANDS = [
    ["record", "behavioral", "x"],
    ["record", "metric", "x", "1", "--print"],
    ["record", "log", "x", "y", "--durable"],
    ["record", "event", "t", "n"],
    ["record", "raw"],
    ["flush"],
    ["flush", "--json", "--to", "http://127.0.0.1:9/"],
    ["spool", "import", "-"],
    ["status"],
    ["id", "show"],
]
SWITCHES = [{"DO_NOT_TRACK": "1"}, {"RILLEVENTS_TELEMETRY": "off"}]
LINE = b'{"event_id":"i","event_time":"2026-11-23T10:00:00Z","event_type":"t","event_name":"n"}\n'


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
@pytest.mark.parametrize("switch", SWITCHES, ids=lambda switch: next(iter(switch)))
def test_nothing_is_written_or_connected(words: list[str], switch: dict[str, str], tool: Tool) -> None:
    """Opted out, every command that records or sends opens no file for writing, no socket, no thread, and returns 0."""
    strace = need("strace")
    log = tool.home.parent / "trace"
    trace = "trace=openat,open,creat,mkdir,mkdirat,rename,renameat,renameat2,link,linkat,unlink,symlink,socket,connect,clone,clone3"
    done = subprocess.run(
        [strace, "-f", "-o", str(log), "-e", trace, *tool.command(*words)],
        # Without coverage: that writes a file of its own.
        env={key: value for key, value in tool.environ.items() if "COVERAGE" not in key}
        | {"PYTHONDONTWRITEBYTECODE": "1"}
        | switch,
        input=LINE,
        capture_output=True,
        check=False,
    )
    assert 0 == done.returncode, done.stderr
    calls = [text for text in log.read_text().splitlines() if "+++" not in text and "---" not in text]
    writing = [
        text
        for text in calls
        if ("open" not in text or any(flag in text for flag in ("O_WRONLY", "O_RDWR", "O_CREAT")))
        and "/dev/null" not in text
    ]
    assert [] == writing
    assert not tool.home.exists()


def test_the_file_is_enough(tool: Tool) -> None:
    """After `telemetry off` nothing is recorded or sent, and what was recorded before stays until it is purged."""
    tool("record", "behavioral", "x")
    assert "--purge" in tool("telemetry", "off").stderr
    tool("record", "behavioral", "y")
    assert "off: " in tool("flush", "--to", "http://127.0.0.1:9/").stderr
    assert 1 == len(tool.events())
    assert 0 == tool("telemetry", "off", "--purge").returncode
    assert [] == tool.lines()


def test_status_says_who_decided(tool: Tool) -> None:
    """`status` names the switch that turned telemetry off."""
    for switch in SWITCHES:
        document = tool.json("status", **switch)
        assert {"enabled": False, "decided_by": next(iter(switch))} == document["telemetry"]
