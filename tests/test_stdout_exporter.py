"""`flush --to file:-`: events through a pipe to any program, acknowledged once they are written."""

from __future__ import annotations

import contextlib
import fcntl
import io
import json
import math
import os
import subprocess
from collections.abc import Iterator
from io import BufferedReader, FileIO
from pathlib import Path

import pytest
from support import PACE, Tool

from rillevents.delivery.exporters.stdout import StdoutExporter
from rillevents.delivery.flush import exporter_for
from rillevents.delivery.outcome import Kind, Outcome
from rillevents.errors import ConfigError
from rillevents.event import Event
from rillevents.event.batch import Batch
from rillevents.spool import create
from rillevents.spool.slots import append

TO = ("flush", "--to", "file:-")
# As it was recorded: blanks, escapes and the order of keys belong to it.
RAW = (
    b'{ "event_name":"n", "event_id":"1","event_time":"2026-01-01T01:00:00+01:00" ,"event_type":"t","\\u00fc":1.50,"b":9e400}\n'
    + '{"event_id":"2","event_time":"2026-01-01T00:00:00Z","event_type":"t","event_name":"ü\u2028"}\n'.encode()
)


def record(tool: Tool, number: int) -> list[bytes]:
    """Put so many events into the spool, and return their lines."""
    made = [Event("t", "n", {"number": at, "text": "x" * 50}).line for at in range(number)]
    spooled(tool, b"".join(made))
    return made


def spooled(tool: Tool, lines: bytes) -> None:
    append(create(tool.paths.spool_dir), lines, max_bytes=1 << 30)


@contextlib.contextmanager
def flushing(tool: Tool, *words: str, blocking: bool = True) -> Iterator[tuple[subprocess.Popen[bytes], FileIO]]:
    """Flush into a pipe that holds one page, and yield the process and what reads the pipe, which a test may close."""
    reading, writing = os.pipe()
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 4096)
    os.set_blocking(writing, blocking)
    given = {"env": tool.environ, "stdin": subprocess.DEVNULL, "stderr": subprocess.PIPE}
    # A file and not its number: a number that was closed may be another file's a moment later.
    with (
        FileIO(reading) as pipe,
        subprocess.Popen(tool.command(*TO, *words), stdout=writing, **given) as process,  # type: ignore[call-overload]
    ):
        os.close(writing)
        try:
            yield process, pipe
        finally:
            pipe.close()
            process.communicate(timeout=60 * PACE)


class TestWritten:
    def test_byte_for_byte(self, tool: Tool) -> None:
        """What was recorded is on stdout, byte for byte and nothing else, and is in the spool no more."""
        tool("record", "behavioral", "x", "-a", "ü=€")
        tool("record", "raw", stdin=RAW)
        lines = tool.lines()
        assert RAW in b"".join(lines)
        done = tool(*TO)
        assert (0, b"".join(lines), []) == (done.returncode, done.stdout.encode(), tool.lines())
        assert "delivered 3 events" in done.stderr
        again = tool(*TO)
        assert (0, "") == (again.returncode, again.stdout)

    @pytest.mark.parametrize("where", ["environment", "config"])
    def test_configured(self, tool: Tool, where: str) -> None:
        """The destination may stand in the environment or in config.toml."""
        spooled(tool, RAW)
        if where == "config":
            Path(tool.paths.config_file).write_text('[flush]\nto = "file:-"\n')
        done = tool("flush", RILLEVENTS_TO="file:-" if where == "environment" else None)
        assert (0, RAW) == (done.returncode, done.stdout.encode())

    def test_a_dry_run(self, tool: Tool) -> None:
        """A dry run writes the same, and acknowledges nothing."""
        spooled(tool, RAW)
        assert RAW == tool(*TO, "--dry-run").stdout.encode()
        assert RAW == b"".join(tool.lines())

    def test_a_slow_reader(self, tool: Tool) -> None:
        """Twenty thousand events arrive once and in order, however small the pieces that a reader takes."""
        lines = record(tool, 20_000)
        with flushing(tool) as (process, pipe):
            found = list(iter(lambda: pipe.read(1000), b""))
            assert 0 == process.wait(60 * PACE)
        assert b"".join(lines) == b"".join(found)
        assert [] == tool.lines()

    def test_not_blocking(self, tool: Tool) -> None:
        """It does not matter whether the other side of the pipe has made it non-blocking."""
        lines = record(tool, 500)
        with flushing(tool, blocking=False) as (process, pipe):
            assert b"".join(lines) == pipe.readall()
            assert 0 == process.wait(60 * PACE)


class TestJson:
    @pytest.mark.parametrize("where", ["argument", "environment", "config"])
    def test_is_refused(self, tool: Tool, where: str) -> None:
        """With --json stdout is for the document: 2, the document says why, and no event is sent, however the destination is told."""
        spooled(tool, RAW)
        if where == "config":
            Path(tool.paths.config_file).write_text('[flush]\nto = "file:-"\n')
        words = TO if where == "argument" else ("flush",)
        done = tool(*words, "--json", RILLEVENTS_TO="file:-" if where == "environment" else None)
        assert (2, 2) == (done.returncode, json.loads(done.stdout)["exit_code"])
        assert RAW == b"".join(tool.lines())


class TestKept:
    def test_nobody_reads(self, tool: Tool) -> None:
        """A pipe whose reader has gone keeps all events: 75, in one line."""
        lines = record(tool, 3)
        with flushing(tool) as (process, pipe):
            pipe.close()
            told = process.communicate(timeout=60 * PACE)[1].decode()
        assert (75, 1, lines) == (process.returncode, told.count("\n"), tool.lines())
        assert "nobody reads it any more; 3 events kept" in told

    def test_a_reader_that_leaves(self, tool: Tool) -> None:
        """Of a reader that leaves in between, no event is lost: each was read, or is kept, or both."""
        lines = record(tool, 4000)
        Path(tool.paths.config_file).write_text("[flush]\nbatch_events = 1000\n")
        with flushing(tool) as (process, pipe), BufferedReader(pipe) as reader:
            found = [reader.readline() for _ in range(2500)]
            reader.close()
            assert 75 == process.wait(60 * PACE)
        kept = tool.lines()
        assert lines[:2500] == found
        # The batch in between is kept as a whole.
        assert lines[2000:] == kept

    def test_a_full_disk(self, tool: Tool) -> None:
        """A disk that is full keeps all events: 75."""
        lines = record(tool, 3)
        with open("/dev/full", "wb") as full:
            done = subprocess.run(tool.command(*TO), env=tool.environ, stdout=full, stderr=subprocess.PIPE, check=False)
        assert (75, lines) == (done.returncode, tool.lines())
        assert b"No space left on device; 3 events kept" in done.stderr

    def test_nobody_takes_anything(self, tool: Tool) -> None:
        """A reader that takes nothing holds a flush no longer than its time-out: 75, and all events are kept."""
        lines = record(tool, 500)
        with flushing(tool, "--timeout", "0.3") as (process, _):
            assert 75 == process.wait(60 * PACE)
        assert lines == tool.lines()

    def test_closed(self, tool: Tool) -> None:
        """A stdout that is closed is 78, and no file that is opened instead gets an event."""
        lines = record(tool, 3)
        words = ["sh", "-c", '"$@" >&-', "sh", *tool.command(*TO)]
        done = subprocess.run(words, env=tool.environ, stderr=subprocess.PIPE, check=False)
        assert (78, lines) == (done.returncode, tool.lines())
        assert b"stdout, which is closed" in done.stderr


class TestExporter:
    def test_no_file(self) -> None:
        """A program whose stdout is no file has no such destination."""
        with contextlib.redirect_stdout(io.StringIO()), pytest.raises(ConfigError, match="closed"):
            exporter_for("file:-", None)

    @pytest.mark.parametrize("reason", ["nobody reads it any more", "No space left on device"])
    def test_no_second_attempt(self, reason: str) -> None:
        """After a failure a batch is not written again at once: whoever has read a part of it would get that twice."""
        reading, writing = os.pipe()
        os.close(reading)
        with contextlib.ExitStack() as stack:
            pipe, full = stack.enter_context(open(writing, "w")), stack.enter_context(open("/dev/full", "w"))
            stack.enter_context(contextlib.redirect_stdout(pipe if "reads" in reason else full))
            assert Outcome(Kind.TEMPORARY, f"stdout: {reason}", math.inf) == StdoutExporter().export(Batch([b"{}\n"]))

    def test_progress(self, tmp_path: Path) -> None:
        """What was written is reported piece by piece, so that a slow reader is not taken for one that has stopped."""
        told: list[int] = []
        line = b'{"event_id":"' + b"x" * 100_000 + b'"}\n'
        with open(tmp_path / "out", "w") as out, contextlib.redirect_stdout(out):
            exporter = StdoutExporter()
            assert Outcome(Kind.ACCEPTED) == exporter.export(Batch([line] * 3, told.append))
            exporter.close()
        assert (0, 3 * len(line), True) == (told[0], told[-1], len(told) > 2)
        assert line * 3 == (tmp_path / "out").read_bytes()
