"""Off means off: no ID, no file, no thread, no connection, whatever is called."""

from __future__ import annotations

import subprocess
import time

import pytest
from support import Tool, need, snapshot

from rillevents import Client, SpoolSink

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


class TestRunningPrograms:
    """A program that runs on follows the user's decision."""

    def test_off_and_on_again(self, tool: Tool) -> None:
        """From the next event on nothing is stored once telemetry is off, and events are stored again once it is on."""
        client = Client.from_config(environ=tool.environ)
        child = client.with_service_name("s")
        for command, expected in (
            ("", True),
            ("off", False),
            ("off --purge", False),
            ("on", True),
            ("off", False),
            ("on", True),
        ):
            if command:
                assert 0 == tool("telemetry", *command.split()).returncode
            for one in (client, child):
                assert expected is one.enabled
                assert expected is (one.record("t", "n") is not None)
                assert expected is (one.record_raw(LINE) is not None)
                assert expected is (one.record_log("n", "text") is not None)
        client.close()
        assert 12 == len(tool.events())

    @pytest.mark.parametrize("content", [b"off\n", b"", b"of\n", b"\xff", b"ON"], ids=repr)
    def test_file_written_by_hand(self, content: bytes, tool: Tool) -> None:
        """Whatever the file says but `on` is off, for a program that runs, too."""
        client = Client.from_config(environ=tool.environ)
        assert client.record("t", "n")
        (tool.home / "telemetry").write_bytes(content)
        assert client.record("t", "n") is None
        (tool.home / "telemetry").unlink()
        assert client.record("t", "n")
        client.close()

    def test_filtered(self, tool: Tool) -> None:
        """A filter in the configuration changes nothing about that."""
        tool.home.mkdir()
        (tool.home / "config.toml").write_text('[filter]\ndrop_types = ["metric"]\n')
        client = Client.from_config(environ=tool.environ)
        assert client.record("t", "n")
        tool("telemetry", "off")
        assert client.record("t", "n") is None
        client.close()

    def test_nothing_is_counted(self, tool: Tool) -> None:
        """Off, an invalid event is neither told nor counted: nothing is written."""
        client = Client.from_config(environ=tool.environ, on_error="raise")
        client.record("t", "n")
        client.close()
        tool("telemetry", "off")
        before = snapshot(tool.home)
        assert client.record("t", "") is None
        assert client.record_metric("m", float("nan")) is None
        client.close()
        assert before == snapshot(tool.home)

    def test_pipe(self, tool: Tool) -> None:
        """`record raw` with a pipe that stays open stores nothing that arrives after telemetry was turned off."""
        words = tool.command("record", "raw")
        with subprocess.Popen(words, env=tool.environ, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
            assert process.stdin
            process.stdin.write(LINE)
            process.stdin.flush()
            end = time.monotonic() + 30
            while not tool.lines() and time.monotonic() < end:
                time.sleep(0.02)
            tool("telemetry", "off")
            process.stdin.write(LINE)
            process.stdin.close()
            assert 0 == process.wait(30)
        assert [LINE] == tool.lines()

    def test_sinks_of_a_program(self, tool: Tool) -> None:
        """A client on a sink that a programmer made is theirs to switch."""
        tool("telemetry", "off")
        with Client(SpoolSink(tool.paths.spool_dir)) as client:
            assert client.record("t", "n")


def test_status_says_who_decided(tool: Tool) -> None:
    """`status` names the switch that turned telemetry off."""
    for switch in SWITCHES:
        document = tool.json("status", **switch)
        assert {"enabled": False, "decided_by": next(iter(switch))} == document["telemetry"]
