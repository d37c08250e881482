"""Old events: a flush says when it has delivered some, and `status` how old the oldest is that waits."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from serving import event
from support import Tool

from rillevents import Client
from rillevents.cli.render import _age
from rillevents.delivery.flush import flush
from rillevents.delivery.flusher import OLD
from rillevents.delivery.outcome import FlushResult
from rillevents.event import format_time
from rillevents.local import Paths
from rillevents.spool.view import contents
from rillevents.testing import FakeIntake, Request, Response

HOUR = 3600
DAY = 24 * HOUR


def ago(seconds: float) -> str:
    """Return the time so many seconds before now."""
    return format_time(time.time_ns() - int(seconds * 10**9))


def record(tool: Tool, *lines: bytes) -> None:
    """Put events into the spool."""
    client = Client.from_config(environ=tool.environ, on_error="raise")
    for line in lines:
        client.record_raw(line)
    client.close()


def young(count: int, prefix: str = "") -> list[bytes]:
    return [event(f"{prefix}{number}", time=ago(HOUR)) for number in range(count)]


def flushed(tool: Tool, to: str) -> tuple[FlushResult, list[str]]:
    """Flush, and return the result and the warnings."""
    told: list[str] = []
    return flush(Paths(tool.environ), to=to, warn=told.append), told


class Receiver(FakeIntake):
    """Takes whatever it is sent."""

    def __init__(self) -> None:
        super().__init__()
        self.respond = lambda request: 200

    def _store(self, request: Request, rejected: set[int]) -> None:
        """Keep nothing."""


class TestFlush:
    def test_once_on_stderr(self, tool: Tool) -> None:
        """A flush that has delivered an event older than a day, one among thousands, says so once, and exits with 0."""
        with FakeIntake() as intake:
            lines = [*young(1000, "a"), event("old", time=ago(DAY + HOUR)), *young(1000, "b")]
            tool("record", "raw", stdin=b"".join(lines))
            done = tool("flush", "--json", RILLEVENTS_INTAKE_URL=intake.url)
            assert (0, 1) == (done.returncode, done.stderr.count(f"rillevents: {OLD}\n"))
            assert (2001, "delivered") == tuple(json.loads(done.stdout)[key] for key in ("delivered", "outcome"))
            assert "help destinations" in OLD

    @pytest.mark.parametrize(
        ("seconds", "old"),
        [(-DAY, False), (0, False), (DAY - HOUR, False), (DAY + 60, True), (50 * 365 * DAY, True)],
        ids=["ahead", "now", "23 hours", "a day", "50 years"],
    )
    def test_from_a_day_on(self, seconds: float, old: bool, tool: Tool) -> None:
        """An event is old from a day on."""
        with FakeIntake() as intake:
            record(tool, event("1", time=ago(seconds)))
            result, told = flushed(tool, intake.url)
        assert (1, [OLD] * old) == (result.delivered, told)

    @pytest.mark.parametrize("at", [0, 1, 9, 24])
    def test_in_any_batch(self, at: int, tool: Tool) -> None:
        """It is said once, whichever of several requests the old events were in."""
        lines = [event(str(number), time=ago(3 * DAY if number >= at else HOUR)) for number in range(25)]
        with FakeIntake() as intake:
            record(tool, *lines)
            (tool.home / "config.toml").write_text("[flush]\nbatch_events = 10\n")
            result, told = flushed(tool, intake.url)
            assert 3 == len(intake.requests)
        assert (25, [OLD]) == (result.delivered, told)

    def test_each_flush_for_itself(self, tool: Tool) -> None:
        """A later flush, with young events alone, says nothing of old ones."""
        with FakeIntake() as intake:
            record(tool, event("old", time=ago(2 * DAY)))
            assert [OLD] == flushed(tool, intake.url)[1]
            record(tool, *young(3))
            assert [] == flushed(tool, intake.url)[1]

    def test_an_offset(self, tool: Tool) -> None:
        """A time with an offset is one like any other."""
        with FakeIntake() as intake:
            record(tool, event("1", time=f"{ago(2 * DAY)[:19]}+00:00"), *young(2))
            assert [OLD] == flushed(tool, intake.url)[1]

    def test_otlp(self, tool: Tool) -> None:
        """It is said of deliveries by OTLP as well."""
        with Receiver() as receiver:
            record(tool, *young(2), event("old", time=ago(2 * DAY)))
            result, told = flushed(tool, f"otlp+{receiver.url}")
        assert (3, [OLD]) == (result.delivered, told)

    def test_a_file(self, tool: Tool, tmp_path: Path) -> None:
        """A file drops nothing, so nothing is said."""
        record(tool, event("old", time=ago(2 * DAY)))
        result, told = flushed(tool, f"file:{tmp_path}/out.ndjson")
        assert (1, []) == (result.delivered, told)

    @pytest.mark.parametrize("status", [401, 404])
    def test_what_is_not_delivered(self, status: int, tool: Tool) -> None:
        """Nothing is said of old events that are kept, however many young ones wait beside them."""
        with FakeIntake() as intake:
            intake.respond = lambda request: status
            record(tool, *young(5), event("old", time=ago(2 * DAY)), *young(5, "b"))
            result, told = flushed(tool, intake.url)
        assert (0, 11, []) == (result.delivered, result.pending, told)

    def test_what_is_rejected(self, tool: Tool) -> None:
        """Nothing is said of an old event that the destination rejects."""
        with FakeIntake() as intake:
            intake.respond = lambda request: Response(200, b'{"rejected":[{"line":1,"reason":"too old"}]}')
            record(tool, event("old", time=ago(2 * DAY)))
            result, told = flushed(tool, intake.url)
        assert (0, 1, []) == (result.delivered, result.rejected, told)

    @pytest.mark.parametrize(
        ("rejected", "told"),
        [('{"line":1,"reason":"too old"}', []), ('{"line":2,"reason":"x"}', [OLD])],
        ids=["the-old-one", "a-young-one"],
    )
    def test_what_is_rejected_of_several(self, rejected: str, told: list[str], tool: Tool) -> None:
        """Of a batch of which some are rejected, only those that were delivered count."""
        with FakeIntake() as intake:
            intake.respond = lambda request: Response(200, b'{"rejected":[%b]}' % rejected.encode())
            record(tool, event("old", time=ago(2 * DAY)), *young(2))
            assert told == flushed(tool, intake.url)[1]

    def test_unidentified(self, tool: Tool) -> None:
        """Where some were rejected, and not said which, the others may be old ones."""
        with FakeIntake() as intake:
            intake.respond = lambda request: Response(200, b'{"partialSuccess":{"rejectedLogRecords":"1"}}')
            record(tool, *(event(str(number), time=ago(3 * DAY)) for number in range(3)))
            result, told = flushed(tool, intake.url)
        assert (2, 1, [OLD]) == (result.delivered, result.rejected, [text for text in told if text == OLD])

    def test_the_part_that_was_delivered(self, tool: Tool) -> None:
        """An old event behind those that were delivered is not one of them yet."""
        with FakeIntake() as intake:
            record(tool, *young(14), event("old", time=ago(2 * DAY)))
            (tool.home / "config.toml").write_text("[flush]\nbatch_events = 10\n")
            intake.respond = lambda request: 200 if len(intake.requests) == 1 else 401
            result, told = flushed(tool, intake.url)
        assert (10, 5, []) == (result.delivered, result.pending, told)

    def test_offsets_beside_each_other(self, tool: Tool) -> None:
        """Times are compared as times, not as texts."""
        with FakeIntake() as intake:
            then = time.time() - DAY - HOUR
            east = time.strftime("%Y-%m-%dT%H:%M:%S+14:00", time.gmtime(then + 14 * HOUR))
            now = time.strftime("%Y-%m-%dT%H:%M:%S-11:00", time.gmtime(time.time() - 11 * HOUR))
            record(tool, event("1", time=now), event("2", time=east))
            assert east == contents(tool.paths.spool_dir).oldest
            assert [OLD] == flushed(tool, intake.url)[1]


def spoken(seconds: int) -> str:
    """Return an age in words: in the largest unit of which it has at least two."""
    for size, unit in ((DAY, "days"), (HOUR, "hours"), (60, "minutes")):
        if seconds >= 2 * size:
            return f" ({seconds // size:,} {unit} old)"
    return f" ({seconds} seconds old)"


class TestStatus:
    @pytest.mark.parametrize(
        "seconds",
        [0, 1, 59, 119, 120, 121, 3599, 2 * HOUR - 1, 2 * HOUR, DAY, 2 * DAY - 1, 2 * DAY, 30 * DAY, 5000 * DAY],
    )
    def test_age(self, seconds: int) -> None:
        """An age is told in seconds, minutes, hours or days."""
        then = time.time_ns() - seconds * 10**9
        told = _age(format_time(then))
        passed = (time.time_ns() - then) // 10**9
        assert told in {spoken(possible) for possible in range(seconds, passed + 1)}

    @pytest.mark.parametrize("text", [None, "", "nonsense", ago(-HOUR)], ids=["none", "empty", "no time", "ahead"])
    def test_no_age(self, text: str | None) -> None:
        """What lies ahead, or is no time, has no age."""
        assert "" == _age(text)

    def test_waiting(self, tool: Tool) -> None:
        """`status` shows the age of the oldest event that waits, wherever among the others it is; the JSON has its time alone."""
        then = ago(30.5 * HOUR)
        record(tool, event("a", time=ago(60)), event("b", time=then), event("c", time=ago(60)))
        size = sum(map(len, tool.lines()))
        line = f"waiting      3 events, {size} bytes, the oldest of {then[:19]}Z (30 hours old)"
        assert line in tool("status").stdout.splitlines()
        spool = tool.json("status")["spool"]
        assert ["bytes", "corrupt", "events", "fallback", "oldest", "path", "rejected"] == sorted(spool)
        assert (3, size, then) == (spool["events"], spool["bytes"], spool["oldest"])

    def test_nothing_waits(self, tool: Tool) -> None:
        """Where nothing waits there is no age."""
        assert "waiting      0 events, 0 bytes" in tool("status").stdout.splitlines()

    def test_among_thousands(self, tool: Tool) -> None:
        """The oldest is found in the middle of a file, and in whichever of several files it is."""
        oldest = ago(7 * DAY)
        record(tool, *young(2000, "a"), event("old", time=oldest), *young(2000, "b"))
        record(tool, event("z", time=ago(2 * DAY)), *young(10, "c"))
        assert (4012, oldest) == ((found := contents(tool.paths.spool_dir)).events, found.oldest)
