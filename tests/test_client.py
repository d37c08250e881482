"""The library: clients, their attributes, and their manners in somebody else's program."""

from __future__ import annotations

import asyncio
import contextvars
import json
import logging
import subprocess
import sys
import threading
import uuid

import pytest
from support import Tool, only

from rillevents import (
    Client,
    Event,
    FilterSink,
    InvalidEvent,
    LoggerSink,
    NoopSink,
    SpoolSink,
    set_attributes,
)
from rillevents.event import ENVELOPE
from rillevents.spool.live import LiveWriter
from rillevents.testing import CapturingSink

RAW = {"event_id": "i", "event_time": "2026-11-23T10:00:00Z", "event_type": "t", "event_name": "n", "k": 1}


@pytest.fixture
def sink() -> CapturingSink:
    """A sink that keeps what it gets."""
    return CapturingSink()


def fields(sink: CapturingSink) -> dict[str, object]:
    """The one event of a sink, decoded."""
    found: dict[str, object] = json.loads(only(sink.events).line)
    return found


class TestRecord:
    def test_four_fields(self, sink: CapturingSink) -> None:
        """An event has the four fields, its attributes, and nothing else; the call returns its ID."""
        event_id = Client(sink).record("behavioral", "login-start", {"plan": "pro"}, k=1)
        found = fields(sink)
        assert {*ENVELOPE, "plan", "k"} == found.keys()
        assert (event_id, "behavioral", "login-start", "pro", 1) == tuple(
            found[key] for key in ("event_id", "event_type", "event_name", "plan", "k")
        )
        assert uuid.UUID(event_id)

    def test_metric(self, sink: CapturingSink) -> None:
        """A metric has its value, and name and time for readers of the older format; those win over attributes."""
        Client(sink).record_metric("m", 1.5, value=2, name="x", time="y", unit="s")
        found = fields(sink)
        assert ("metric", 1.5, "m", "s") == (found["event_type"], found["value"], found["name"], found["unit"])
        assert f"{str(found['event_time'])[:19]}Z" == found["time"]

    @pytest.mark.parametrize("value", [float("nan"), float("inf"), "1", None, True], ids=str)
    def test_bad_metric(self, value: object, sink: CapturingSink) -> None:
        """A metric that is no finite number is refused and counted."""
        assert Client(sink, warn=lambda message: None).record_metric("m", value) is None  # type: ignore[arg-type]
        assert [] == sink.events
        with pytest.raises(InvalidEvent):
            Client(sink, on_error="raise").record_metric("m", value)  # type: ignore[arg-type]

    def test_log(self, sink: CapturingSink) -> None:
        """A log event carries its text as `message`."""
        Client(sink).record_log("backup", "done", level="info")
        assert ("log", "done", "info") == tuple(fields(sink)[key] for key in ("event_type", "message", "level"))

    def test_id_and_time(self, sink: CapturingSink) -> None:
        """An ID and a time may be given, the time as text, seconds or a datetime."""
        import datetime

        client = Client(sink, on_error="raise")
        for when in (
            "2026-01-01T01:00:00+01:00",
            1767225600,
            datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC),
        ):
            client.record_behavioral("x", event_id="mine", event_time=when)
        assert {("mine", "2026-01-01T00:00:00.000000000Z")} == {
            (event.event_id, event.event_time) for event in sink.events
        }

    def test_precedence(self, sink: CapturingSink) -> None:
        """The client's attributes lose against the ambient ones, and those against the arguments of the call."""
        client = Client(sink).with_attributes(a="client", b="client", c="client")
        with set_attributes(b="ambient", c="ambient"):
            client.record("t", "n", {"c": "mapping"}, d=1)
        found = fields(sink)
        assert ("client", "ambient", "mapping", 1) == (found["a"], found["b"], found["c"], found["d"])

    def test_with(self, sink: CapturingSink) -> None:
        """Every with_* returns a copy, and leaves the client that it was called on as it was."""
        base = Client(sink)
        full = (
            base.with_service_name("s")
            .with_service_version("1.0", "abc")
            .with_is_dev()
            .with_install_id("i")
            .with_user_id("u")
        )
        base.record("t", "n")
        full.record("t", "n")
        first, second = (json.loads(event.line) for event in sink.events)
        assert set(ENVELOPE) == first.keys()
        expected = {
            "service_name": "s",
            "service_version": "1.0",
            "service_commit": "abc",
            "is_dev": True,
            "install_id": "i",
            "user_id": "u",
        }
        assert expected == {key: value for key, value in second.items() if key not in ENVELOPE}

    def test_truncated(self, sink: CapturingSink, caplog: pytest.LogCaptureFixture) -> None:
        """An event over 32 KiB is recorded truncated, and the log says so."""
        assert Client(sink).record("t", "n", blob="x" * 40_000)
        assert fields(sink)["truncated"] is True
        assert "32 KiB" in caplog.text


class TestManners:
    @pytest.mark.parametrize(
        "call",
        [
            lambda client: client.record("t", ""),
            lambda client: client.record(3, "n"),
            lambda client: client.record("t", "n", 5),
            lambda client: client.record("t", "n", event_time="never"),
            lambda client: client.record("t", "x" * 2000),
        ],
        ids=["empty-name", "type", "no-mapping", "time", "long-name"],
    )
    def test_never_raises(self, call: object, tool: Tool, caplog: pytest.LogCaptureFixture) -> None:
        """A bad event is logged once, counted nowhere but in the ledger, and raises nothing."""
        client = Client.from_config(environ=tool.environ)
        assert call(client) is None  # type: ignore[operator]
        client.close()
        assert 1 == len([entry for entry in caplog.records if entry.name == "rillevents"])
        assert [] == tool.lines()

    def test_refused_is_counted(self, tool: Tool, caplog: pytest.LogCaptureFixture) -> None:
        """A bad event is counted as refused."""
        client = Client.from_config(environ=tool.environ)
        client.record("t", "")
        client.close()
        assert 1 == tool.json("status")["ledger"]["refused"]
        assert caplog.records

    def test_broken_sink(self, caplog: pytest.LogCaptureFixture) -> None:
        """A sink that raises is logged, not passed on."""

        class Broken:
            def emit(self, event: Event) -> None:
                raise RuntimeError("boom")

            def close(self) -> None:
                raise RuntimeError("bang")

        client = Client(Broken())  # type: ignore[arg-type]
        assert client.record("t", "n") is None
        client.close()
        assert "empty" == client.flush().outcome
        assert "boom" in caplog.text
        assert "bang" in caplog.text

    def test_importing_does_nothing(self, tool: Tool) -> None:
        """Importing the library and all its public names opens no file, starts no thread and configures no logging."""
        script = (
            "import sys, threading, logging, os\n"
            "before = set(os.listdir('/proc/self/fd'))\n"
            "import rillevents\n"
            "assert not any(name.startswith('rillevents.') for name in sys.modules)\n"
            "for name in rillevents.__all__: getattr(rillevents, name)\n"
            "assert threading.active_count() == 1\n"
            "assert not logging.getLogger().handlers and not logging.getLogger('rillevents').handlers\n"
            "assert before == set(os.listdir('/proc/self/fd'))\n"
        )
        subprocess.run([sys.executable, "-c", script], env=tool.environ, check=True)
        assert not tool.home.exists()

    def test_survives_os_exit(self, tool: Tool) -> None:
        """What was recorded is on the disk already: a process that ends by os._exit or SIGKILL loses nothing."""
        for end in ("os._exit(0)", "os.kill(os.getpid(), 9)"):
            script = f"import os; from rillevents import Client; c = Client.from_config(); c.record('t', 'n'); {end}"
            subprocess.run([sys.executable, "-c", script], env=tool.environ, check=False)
        assert 2 == len(tool.events())

    def test_atexit(self, tool: Tool) -> None:
        """An event that is recorded while the interpreter shuts down is stored, without a traceback."""
        script = "import atexit; from rillevents import Client; c = Client.from_config(); atexit.register(c.record, 't', 'n')"
        done = subprocess.run([sys.executable, "-c", script], env=tool.environ, check=True, capture_output=True)
        assert (b"", 1) == (done.stderr, len(tool.events()))


class TestFromConfig:
    def test_same_as_the_command(self, tool: Tool) -> None:
        """The library's client and the command put the same attributes on their events."""
        tool.home.mkdir()
        (tool.home / "config.toml").write_text('[attributes]\nk = "v"\n')
        environ = tool.environ | {"RILLEVENTS_SERVICE_NAME": "s", "RILLEVENTS_ATTRIBUTES": "a=b"}
        with Client.from_config(environ=environ) as client:
            client.record("behavioral", "x", plan="pro")
        tool(
            "record",
            "behavioral",
            "x",
            "-a",
            "plan=pro",
            **{key: environ[key] for key in environ if key not in tool.environ},
        )
        first, second = ({k: v for k, v in event.items() if k not in ENVELOPE} for event in tool.events())
        assert first == second

    def test_off(self, tool: Tool) -> None:
        """Opted out, the client records nothing, makes no file, and says that it is off."""
        client = Client.from_config(environ=tool.environ | {"DO_NOT_TRACK": "1"})
        assert client.record("t", "n") is None
        assert "off" == client.flush().outcome
        client.close()
        assert not tool.home.exists()

    def test_off_still_checks_raw_events(self, tool: Tool) -> None:
        """Opted out, a raw event that is none raises all the same: a program's mistakes show everywhere."""
        client = Client.from_config(environ=tool.environ | {"DO_NOT_TRACK": "1"})
        with pytest.raises(InvalidEvent):
            client.record_raw({"event_id": "x"})
        assert client.record_raw(RAW) is None


class TestRaw:
    def test_mapping(self, sink: CapturingSink) -> None:
        """A raw event is handed on without the client's attributes, and the caller's mapping stays as it is."""
        given = dict(RAW)
        assert "i" == Client(sink).with_user_id("u").record_raw(given)
        assert RAW == fields(sink) == given

    def test_bytes(self, sink: CapturingSink) -> None:
        """A line of NDJSON is handed on byte for byte."""
        line = b'{ "event_name":"n","event_type":"t","event_time":"2026-11-23T10:00:00Z","event_id":"i","x":1.50}'
        Client(sink).record_raw(line)
        assert line + b"\n" == only(sink.events).line

    @pytest.mark.parametrize(
        "event",
        [
            {},
            None,
            b"",
            b"[]",
            b"nonsense",
            b"\xff",
            {**RAW, "event_id": 3},
            {**RAW, "blob": "x" * 40_000},
            {**RAW, "event_time": "yesterday"},
        ],
        ids=["empty", "none", "no-bytes", "list", "nonsense", "not-utf8", "id", "large", "time"],
    )
    def test_bad(self, event: object, sink: CapturingSink) -> None:
        """What is no event raises, and nothing is handed on."""
        with pytest.raises(InvalidEvent):
            Client(sink).record_raw(event)  # type: ignore[arg-type]
        assert [] == sink.events


class TestLegacy:
    def full(self, sink: CapturingSink) -> Client:
        return (
            Client(sink).with_service_name("s").with_service_version("1.2", "abc").with_install_id("i").with_user_id("")
        )

    def test_fields(self, sink: CapturingSink) -> None:
        """A legacy event has the older format's fields beside the attributes, without the ambient ones."""
        with set_attributes(ambient=1):
            self.full(sink).record_behavioral_legacy("login-start", olap_connector="duckdb", connectors=["s3"])
        found = fields(sink)
        expected = {
            "app_name": "rill-developer",
            "mode": "edit",
            "action": "login-start",
            "medium": "cli",
            "space": "terminal",
            "screen_name": "terminal",
            "build_id": "abc",
            "version": "1.2",
            "user_id": "",
            "payload": {"olap_connector": "duckdb", "connectors": ["s3"]},
        }
        assert expected == {key: found[key] for key in expected}
        assert "ambient" not in found
        assert found["event_datetime"] % 1000 == 0  # type: ignore[operator]

    def test_no_payload(self, sink: CapturingSink) -> None:
        """Without an OLAP connector there is no payload."""
        self.full(sink).record_behavioral_legacy("x", connectors=["s3"])
        assert "payload" not in fields(sink)

    def test_incomplete_client(self, sink: CapturingSink) -> None:
        """A client that lacks one of the four attributes is told which, and how to set it."""
        with pytest.raises(InvalidEvent, match=r"service_version \(with_service_version\), user_id \(with_user_id\)"):
            Client(sink).with_service_name("s").with_install_id("i").record_behavioral_legacy("x")


class TestTimed:
    def test_success(self, sink: CapturingSink) -> None:
        """A timed block is a metric in seconds that says that it went well, with what the block added."""
        with Client(sink).timed("build", job="linux") as more:
            more["files"] = 3
        found = fields(sink)
        assert ("metric", "s", True, "linux", 3) == tuple(
            found[key] for key in ("event_type", "unit", "success", "job", "files")
        )
        assert 0 <= found["value"] < 5  # type: ignore[operator]

    def test_failure(self, sink: CapturingSink) -> None:
        """An exception in the block is recorded by its class and passed on."""
        with pytest.raises(KeyError), Client(sink).timed("build"):
            raise KeyError("k")
        assert (False, "KeyError") == (fields(sink)["success"], fields(sink)["error"])


class TestAmbient:
    def test_nested(self, sink: CapturingSink) -> None:
        """Blocks nest, the inner one wins, and nothing is left afterwards."""
        client = Client(sink)
        with set_attributes({"a": 1, "b": 1}):
            with set_attributes(b=2):
                client.record("t", "inner")
            client.record("t", "outer")
        client.record("t", "none")
        found = [dict(event.attributes.items()) for event in sink.events]
        assert [{"a": 1, "b": 2}, {"a": 1, "b": 1}, {}] == found

    def test_tasks(self, sink: CapturingSink) -> None:
        """Tasks that run side by side see their own attributes."""
        client = Client(sink)

        async def work(number: int) -> None:
            with set_attributes(task=number):
                await asyncio.sleep(0)
                client.record("t", str(number))

        async def main() -> None:
            await asyncio.gather(*(work(number) for number in range(20)))

        asyncio.run(main())
        assert all(str(event.attributes["task"]) == event.event_name for event in sink.events)
        assert 20 == len(sink.events)

    def test_threads(self, sink: CapturingSink) -> None:
        """A thread has attributes of its own, unless it is started in a copy of the context."""
        client = Client(sink)
        with set_attributes(a=1):
            copied = contextvars.copy_context()
            for target in (lambda: client.record("t", "own"), lambda: copied.run(client.record, "t", "copied")):
                thread = threading.Thread(target=target)
                thread.start()
                thread.join()
        assert [{}, {"a": 1}] == [dict(event.attributes) for event in sink.events]


class TestSinks:
    def test_noop(self) -> None:
        """The noop sink makes no event at all."""
        client = Client(NoopSink())
        assert (None, False) == (client.record("t", "n", k=object()), client.enabled)

    def test_logger(self, caplog: pytest.LogCaptureFixture) -> None:
        """The logger sink logs the event's line, and encodes nothing below its level."""
        with caplog.at_level(logging.INFO, "rillevents.events"):
            Client(LoggerSink(), on_error="raise").record("t", "n", k=1)
        assert ("t", 1) == (json.loads(only(caplog.messages))["event_type"], json.loads(only(caplog.messages))["k"])
        with caplog.at_level(logging.ERROR, "rillevents.events"):
            assert Client(LoggerSink(), on_error="raise").record("t", "n", k=object())

    def test_filter(self, sink: CapturingSink) -> None:
        """The filter sink hands on what is to be kept, counts the rest as dropped, and closes the sink behind it."""
        client = Client(FilterSink(sink, lambda event: event.event_type != "metric"), on_error="raise")
        client.record_metric("m", 1)
        client.record("t", "kept")
        client.close()
        assert ["kept"] == [event.event_name for event in sink.events]
        assert sink.closed

    def test_spool(self, tool: Tool) -> None:
        """The spool sink stores events in the folder that it is given."""
        with Client(SpoolSink(tool.paths.spool_dir), on_error="raise") as client:
            client.record("t", "n")
        assert "n" == only(tool.events())["event_name"]

    def test_spool_beside_a_thread_that_still_tries_the_first_place(self, tool: Tool) -> None:
        """Once a second place is known to do, events go there, also while another thread still has the first one in hand."""
        tool.home.mkdir()
        (tool.home / "file").write_text("in the way")
        unusable = str(tool.home / "file" / "spool")
        sink = SpoolSink((unusable, tool.paths.spool_dir))
        client = Client(sink, on_error="raise")
        client.record("t", "first")
        # What that thread does between the failure and its look at the second place.
        sink._live = LiveWriter(unusable, max_bytes=1 << 30)
        client.record("t", "second")
        client.close()
        assert ["first", "second"] == sorted(event["event_name"] for event in tool.events())


class TestClosing:
    def test_at_exit(self, tool: Tool) -> None:
        """Flushing and closing while the interpreter shuts down works, and says nothing."""
        from rillevents.testing import FakeIntake

        script = (
            "import atexit; from rillevents import Client; c = Client.from_config()\n"
            "c.record('t', 'n'); atexit.register(c.close); atexit.register(c.flush)"
        )
        with FakeIntake() as intake:
            done = subprocess.run(
                [sys.executable, "-c", script],
                env=tool.environ | {"RILLEVENTS_INTAKE_URL": intake.url},
                check=True,
                capture_output=True,
            )
        assert (b"", 1) == (done.stderr, len(intake.events))

    def test_flush_never_raises(self, tool: Tool, caplog: pytest.LogCaptureFixture) -> None:
        """`flush` and `close` never raise, not even where recording is to."""

        class Broken(NoopSink):
            def flush(self, timeout: float | None = None) -> None:  # type: ignore[override]
                raise RuntimeError("boom")

            def close(self) -> None:
                raise RuntimeError("bang")

        client = Client(Broken(), on_error="raise")
        assert "temporary" == client.flush().outcome
        client.close()
        assert ["flush failed, the events are kept: boom", "close failed: bang"] == caplog.messages

    def test_counted(self, tool: Tool, caplog: pytest.LogCaptureFixture) -> None:
        """A bad event counts as refused, whatever is bad about it."""
        client = Client.from_config(environ=tool.environ)
        client.record("a", "b", 5)  # type: ignore[arg-type]
        client.record("a", "b", event_time=True)
        client.record("a", "")
        client.close()
        assert 3 == tool.json("status")["ledger"]["refused"] == len(caplog.messages)


class TestLoaded:
    def test_nothing_is_imported_once_a_client_is_made(self, tool: Tool) -> None:
        """Recording, failing and timing import nothing: a forked child, a signal handler, a program without descriptors may not."""
        script = (
            "import sys; from rillevents import Client, SpoolSink\n"
            "client = Client(SpoolSink(sys.argv[1])); before = set(sys.modules)\n"
            "assert client.record('t', 'n', k='v')\n"
            "client.record('t', 'n', k='x' * 40000)\n"
            "client.record('t', ''); client.timed('x')\n"
            "print(*sorted(set(sys.modules) - before))\n"
        )
        words = [sys.executable, "-c", script, str(tool.home)]
        done = subprocess.run(words, env=tool.environ, capture_output=True, text=True, check=True)
        assert set() == {name for name in done.stdout.split() if name.startswith(("rillevents", "logging"))}
