"""Times, values and attributes as programs give them, with what other libraries' objects are like."""

from __future__ import annotations

import datetime
import decimal
import enum
import fractions
import json
import logging
import warnings
from collections.abc import Callable
from typing import Any

import pytest
from support import Tool, only

from rillevents import Client, InvalidEvent, RilleventsError
from rillevents.event import mending, timestamp, to_event_time
from rillevents.event.validate import certain_event, checked_line, count_events, fill
from rillevents.serve.parse import parse_ndjson
from rillevents.testing import CapturingSink

NEW_YEAR = "2026-01-01T00:00:00.000000000Z"


class Timestamp(datetime.datetime):
    """Like pandas' Timestamp: a datetime that knows nanoseconds."""

    nanosecond = 7


class NaT(datetime.datetime):
    """Like pandas' NaT: a datetime whose methods raise."""

    def utcoffset(self) -> Any:
        raise ValueError("NaTType does not support utcoffset")

    def astimezone(self, tz: datetime.tzinfo | None = None) -> Any:
        raise ValueError("NaTType does not support astimezone")


class Int64:
    """Like numpy's int64: no int, but one by `__index__`."""

    def __init__(self, value: int) -> None:
        self.value = value

    def __index__(self) -> int:
        return self.value

    def __repr__(self) -> str:
        return f"Int64({self.value})"


class Float32:
    """Like numpy's float32: no float, but one by `__float__`."""

    def __init__(self, value: float) -> None:
        self.value = value

    def __float__(self) -> float:
        return self.value

    def __repr__(self) -> str:
        return f"Float32({self.value})"


class Array:
    """Like an array of three: it has both methods, which raise, and no truth."""

    def __index__(self) -> int:
        raise TypeError("only integer scalar arrays can be converted to a scalar index")

    def __float__(self) -> float:
        raise RuntimeError("only length-1 arrays can be converted")

    def __repr__(self) -> str:
        return "Array()"

    def __bool__(self) -> bool:
        raise ValueError("the truth value of an array is ambiguous")

    def __eq__(self, other: object) -> Any:
        return self

    __hash__ = None  # type: ignore[assignment]


class Weight(enum.Enum):
    HEAVY = 3

    def __float__(self) -> float:
        return 3.0


numpy_bool = type(
    "bool_", (), {"__bool__": lambda self: True, "__float__": lambda self: 1.0, "__repr__": lambda self: "True_"}
)
EAST = datetime.timezone(datetime.timedelta(hours=14))


def calls() -> list[Any]:
    """The five calls that take a time."""

    def legacy(client: Client, **when: Any) -> str | None:
        told = client.with_service_name("s").with_service_version("1").with_install_id("i").with_user_id("u")
        return told.record_behavioral_legacy("n", **when)

    return [
        pytest.param(lambda client, **when: client.record("t", "n", **when), id="record"),
        pytest.param(lambda client, **when: client.record_behavioral("n", **when), id="behavioral"),
        pytest.param(lambda client, **when: client.record_metric("n", 1, **when), id="metric"),
        pytest.param(lambda client, **when: client.record_log("n", "text", **when), id="log"),
        pytest.param(legacy, id="legacy"),
    ]


@pytest.fixture
def sink() -> CapturingSink:
    """A sink that keeps what it gets."""
    return CapturingSink()


def fields(sink: CapturingSink) -> dict[str, Any]:
    """The one event of a sink, decoded."""
    found: dict[str, Any] = json.loads(only(sink.events).line)
    return found


class TestTimes:
    @pytest.mark.parametrize("call", calls())
    @pytest.mark.parametrize(
        ("when", "expected"),
        [
            ({"event_time": 1767225600}, NEW_YEAR),
            ({"event_time": 1767225600.5}, "2026-01-01T00:00:00.500000000Z"),
            ({"event_time": 1700000000.1}, "2023-11-14T22:13:20.100000000Z"),
            ({"event_time": decimal.Decimal("1767225600.1234567899")}, "2026-01-01T00:00:00.123456789Z"),
            ({"event_time": -1.25}, "1969-12-31T23:59:58.750000000Z"),
            ({"event_time": 0}, "1970-01-01T00:00:00.000000000Z"),
            ({"event_time": Int64(1767225600)}, NEW_YEAR),
            ({"event_time": Float32(1767225600.0)}, NEW_YEAR),
            ({"event_time": "2026-01-01 01:00:00+0100"}, NEW_YEAR),
            ({"event_time": datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)}, NEW_YEAR),
            ({"event_time": datetime.datetime(2026, 1, 1)}, NEW_YEAR),
            (
                {"event_time": Timestamp(2026, 1, 1, 0, 0, 0, 123456, tzinfo=datetime.UTC)},
                "2026-01-01T00:00:00.123456007Z",
            ),
            ({"event_time": datetime.datetime(1, 1, 1, tzinfo=datetime.UTC)}, "0001-01-01T00:00:00.000000000Z"),
            ({"event_time": datetime.datetime(1, 1, 1, tzinfo=EAST)}, "0000-12-31T10:00:00.000000000Z"),
            ({"event_time_ns": 1767225600000000001}, "2026-01-01T00:00:00.000000001Z"),
            ({"event_time_ns": 1}, "1970-01-01T00:00:00.000000001Z"),
            ({"event_time_ns": Int64(1767225600 * 10**9)}, NEW_YEAR),
        ],
        ids=lambda value: str(value) if isinstance(value, dict) else "",
    )
    def test_forms(
        self,
        call: Callable[..., str | None],
        when: Any,
        expected: str,
        sink: CapturingSink,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """A time is text, a datetime or seconds since 1970; nanoseconds have an argument of their own. Every call takes both."""
        import time

        monkeypatch.setenv("TZ", "UTC")
        time.tzset()
        assert call(Client(sink, on_error="raise"), **when)
        assert expected == fields(sink)["event_time"]

    @pytest.mark.parametrize("call", calls())
    @pytest.mark.parametrize(
        ("when", "says"),
        [
            ({"event_time": True}, "a time cannot be a bool"),
            ({"event_time": numpy_bool()}, "a time cannot be a bool_"),
            ({"event_time": 2**70}, "outside of the years 0 to 9999"),
            ({"event_time": -(10**12)}, "outside of the years 0 to 9999"),
            ({"event_time": 1e300}, "outside of the years 0 to 9999"),
            ({"event_time": decimal.Decimal("1e999999")}, "outside of the years 0 to 9999"),
            ({"event_time": 10**11}, "looks like milliseconds"),
            ({"event_time": 1767225600000}, "looks like milliseconds"),
            ({"event_time": 10**17 - 1}, "looks like milliseconds"),
            ({"event_time": 1767225600000.0}, "looks like milliseconds"),
            ({"event_time": float("nan")}, "a time cannot be nan"),
            ({"event_time": datetime.date(2026, 1, 1)}, "a date has no time of day; give a datetime"),
            ({"event_time": NaT(2026, 1, 1)}, "not a time that can be told"),
            ({"event_time": [1]}, "a time cannot be a list"),
            ({"event_time": Array()}, "a time cannot be a Array"),
            ({"event_time": "nonsense"}, "not a valid time"),
            ({"event_time_ns": 1.5}, "event_time_ns must be a whole number, not float"),
            ({"event_time_ns": True}, "event_time_ns must be a whole number, not bool"),
            ({"event_time_ns": "1"}, "event_time_ns must be a whole number, not str"),
            ({"event_time_ns": 2**70}, "outside of the years 0 to 9999"),
            ({"event_time": 1, "event_time_ns": 1}, "both given"),
        ],
        ids=lambda value: str(value) if isinstance(value, dict) else "",
    )
    def test_refused(self, call: Callable[..., str | None], when: Any, says: str, sink: CapturingSink) -> None:
        """What is no time, or cannot be one, is an invalid event that says so, by every call."""
        with pytest.raises(InvalidEvent, match=says):
            call(Client(sink, on_error="raise"), **when)
        assert [] == sink.events

    @pytest.mark.parametrize("call", calls())
    def test_nanoseconds_of_old_callers(
        self,
        call: Callable[..., str | None],
        sink: CapturingSink,
        caplog: pytest.LogCaptureFixture,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """An int that can only be nanoseconds still is, with a DeprecationWarning where it was written, and one log line."""
        monkeypatch.setattr(timestamp, "_warned", [])
        client = Client(sink)
        for _ in range(2):
            with pytest.warns(DeprecationWarning, match="write event_time_ns=") as caught:
                call(client, event_time=1767225600 * 10**9)
            assert __file__ == only(caught.list).filename
        assert [NEW_YEAR] * 2 == [event.event_time for event in sink.events]
        assert "event_time_ns" in only(caplog.messages)

    def test_warnings_that_are_errors(self, sink: CapturingSink) -> None:
        """Where warnings are errors, the event of an old caller is recorded all the same."""
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert Client(sink, on_error="raise").record("t", "n", event_time=10**17)

    def test_numbers_are_the_command_lines(self) -> None:
        """A number of seconds means what `--time @SECONDS` means."""
        for number in (0, 1.5, 1700000000.1, -0.25, 1767225600.123456):
            assert to_event_time(f"@{number}") == to_event_time(number)


class TestNumbers:
    @pytest.mark.parametrize(
        ("value", "expected"),
        [
            (decimal.Decimal("0.5"), 0.5),
            (decimal.Decimal(17), 17),
            (Int64(5), 5),
            (Float32(0.5), 0.5),
            (fractions.Fraction(1, 4), 0.25),
            (2**70, 2**70),
        ],
        ids=str,
    )
    def test_metric(self, value: Any, expected: float, sink: CapturingSink) -> None:
        """A metric's value may be any library's number, a Decimal too."""
        Client(sink, on_error="raise").record_metric("m", value)
        found = fields(sink)["value"]
        assert (expected, type(expected)) == (found, type(found))

    @pytest.mark.parametrize(
        "value",
        [
            10**400,
            decimal.Decimal("1e400"),
            decimal.Decimal("NaN"),
            Float32(float("inf")),
            Weight.HEAVY,
            numpy_bool(),
            Array(),
        ],
        ids=["integer", "decimal", "decimal-nan", "float", "enum", "bool", "array"],
    )
    def test_no_metric(self, value: Any, sink: CapturingSink) -> None:
        """What is no finite number, or more than a double holds, is refused."""
        with pytest.raises(InvalidEvent, match="a metric's value must be"):
            Client(sink, on_error="raise").record_metric("m", value)

    @pytest.mark.parametrize(
        ("value", "expected"),
        [
            (Int64(5), 5),
            (Float32(0.5), 0.5),
            ([Int64(5)], [5]),
            (numpy_bool(), True),
            (Weight.HEAVY, "3"),
            (decimal.Decimal("0.10"), "0.10"),
        ],
        ids=["index", "float", "nested", "bool", "enum", "decimal"],
    )
    def test_attribute(self, value: Any, expected: object, sink: CapturingSink) -> None:
        """Other libraries' numbers are numbers; an Enum and a Decimal stay the text that they are."""
        Client(sink, on_error="raise").record("t", "n", v=value)
        assert expected == fields(sink)["v"]


def endless() -> list[Any]:
    value: list[Any] = []
    value.append(value)
    return value


NO_JSON = [
    pytest.param({1}, "set", id="set"),
    pytest.param(float("nan"), "float", id="nan"),
    pytest.param(Float32(float("inf")), "Float32", id="infinity"),
    pytest.param(datetime.timedelta(1), "timedelta", id="timedelta"),
    pytest.param(b"x", "bytes", id="bytes"),
    pytest.param(object(), "object", id="object"),
    pytest.param(Array(), "Array", id="array"),
    pytest.param(NaT(2026, 1, 1), "NaT", id="nat"),
    pytest.param("half of \ud83d", "str", id="surrogate"),
    pytest.param({"deep": [{1}]}, "dict", id="nested"),
    pytest.param({(1, 2): 3}, "dict", id="key"),
    pytest.param(endless(), "list", id="endless"),
    pytest.param(10**5000, "int", id="long-number"),
]


class TestInvalidAttributes:
    @pytest.mark.parametrize("shared", [{}, {"a": 1}, {"a": [1]}], ids=["alone", "shared", "shared-list"])
    @pytest.mark.parametrize(("value", "kind"), NO_JSON)
    def test_left_out_alone(
        self, value: object, kind: str, shared: dict[str, Any], sink: CapturingSink, caplog: pytest.LogCaptureFixture
    ) -> None:
        """An attribute that is no JSON is left out alone; the event says which, and the log says event, key and type."""
        client = Client(sink, attributes=shared)
        assert client.record("t", "n", bad=value, good=1)
        assert {"good": 1, "invalid_attributes": ["bad"], **shared} == {
            key: found for key, found in fields(sink).items() if not key.startswith("event_")
        }
        assert f"event 'n' was recorded without 'bad': JSON has no form for this {kind}" == only(caplog.messages)

    @pytest.mark.parametrize(("value", "kind"), NO_JSON)
    def test_raise(self, value: object, kind: str, sink: CapturingSink) -> None:
        """Where errors are raised, it is one."""
        with pytest.raises(InvalidEvent):
            Client(sink, on_error="raise").record("t", "n", bad=value)
            fields(sink)

    @pytest.mark.parametrize("key", [(1, 2), "half of \ud83d"], ids=["tuple", "surrogate"])
    def test_keys(self, key: Any, sink: CapturingSink) -> None:
        """A key that is no text is left out with its value."""
        assert Client(sink, warn=lambda message: None).record("t", "n", {key: 1, "good": 1})
        assert (1, [str(key).replace("\ud83d", "?")]) == tuple(
            fields(sink)[name] for name in ("good", "invalid_attributes")
        )

    def test_of_the_client(self, sink: CapturingSink) -> None:
        """The client's own attributes are no exception, nor are secrets beside one, nor secrets that have no truth."""
        client = Client(sink, warn=lambda message: None, attributes={"bad": {1}})
        assert client.record("t", "n", password="p", token=Array())
        assert (["bad"], "[redacted]", "[redacted]") == tuple(
            fields(sink)[key] for key in ("invalid_attributes", "password", "token")
        )

    def test_once_a_minute(self, sink: CapturingSink, monkeypatch: pytest.MonkeyPatch) -> None:
        """The same attribute of the same event is told of once a minute, another at once."""
        now = [1000.0]
        monkeypatch.setattr(mending.time, "monotonic", lambda: now[0])
        told: list[str] = []
        client = Client(sink, warn=told.append)
        for seconds, key, expected in ((0, "a", 1), (59, "a", 1), (0, "b", 2), (1, "a", 3), (59, "a", 3), (1, "a", 4)):
            now[0] += seconds
            client.record("t", "n", **{key: {1}})
            assert expected == len(told)


def metric(value: str, key: str = "value", event_type: str = "metric") -> bytes:
    start = f'{{"event_id":"i","event_time":"2026-11-23T10:00:00Z","event_type":"{event_type}","event_name":"n"'
    return f'{start},"{key}":{value}}}\n'.encode()


class TestRawValues:
    """A raw metric's value is refused beyond a double, as `-a` refuses it, by everything that takes raw events."""

    REFUSED = (
        "1e400", "-1e400", "1.5E+309", "1e0000400", "9" * 400, f"-{'9' * 310}", f"{'9' * 150}.0e200", "2e308",
    )  # fmt: skip
    TAKEN = (
        "1e308",
        "-1.7976931348623157e308",
        "1e-400",
        "9" * 300,
        "0.5",
        f"0.{'9' * 400}",
        f"0.{'0' * 200}1e400",
        "null",
        '"1e400"',
    )

    @pytest.mark.parametrize("key", ["value", "v\\u0061lue"], ids=["plain", "escaped"])
    @pytest.mark.parametrize("value", REFUSED, ids=lambda value: value[:12] + f"-{len(value)}")
    def test_refused(self, value: str, key: str, sink: CapturingSink) -> None:
        """By a program's call, line by line, in a block, and by the server's quick way."""
        line = metric(value, key)
        with pytest.raises(InvalidEvent, match="a metric's value is too large for a number"):
            Client(sink).record_raw(line)
        with pytest.raises(InvalidEvent, match="too large"):
            fill(line, "t", "n")
        assert (0, None) == (count_events(metric("1") + line), certain_event(line))
        bad = only(parse_ndjson(metric("1") + line + metric("2")).bad)
        assert (2, "a metric's value is too large for a number") == (bad.number, bad.reason)

    @pytest.mark.parametrize("value", TAKEN, ids=lambda value: value[:12] + f"-{len(value)}")
    def test_taken(self, value: str, sink: CapturingSink) -> None:
        """What a double holds, and what is no number, keeps its bytes."""
        Client(sink).record_raw(metric(value))
        assert metric(value) == only(sink.events).line == checked_line(metric(value))

    def test_other_events(self, sink: CapturingSink) -> None:
        """Other attributes and other types are no metric's value: they pass byte for byte."""
        for line in (metric("1e400", "other"), metric("1e400", event_type="log")):
            assert line == checked_line(line)

    def test_mapping(self, sink: CapturingSink) -> None:
        """A mapping is no exception."""
        with pytest.raises(InvalidEvent, match="too large"):
            Client(sink).record_raw(json.loads(metric("1")) | {"value": 10**400})

    def test_commands(self, tool: Tool) -> None:
        """`record raw` says which line it is, and stores the others."""
        done = tool("record", "raw", stdin=metric("1") + metric("1e400") + metric("2"))
        assert (2, True) == (done.returncode, "line 2: a metric's value is too large for a number" in done.stderr)
        assert [1, 2] == [event["value"] for event in tool.events()]


class TestErrors:
    @pytest.mark.parametrize(
        "call",
        [
            lambda client: client.record("t", "n", v=NaT(2026, 1, 1)),
            lambda client: client.record("t", "n", v=datetime.datetime(1, 1, 1)),
            lambda client: client.record("t", "n", [1]),
            lambda client: client.record("t", "n", 5),
            lambda client: client.record("t", "n", Array()),
            lambda client: client.record_behavioral("n", "text"),
            lambda client: client.record_metric("n", 1, [1]),
            lambda client: client.record_log("n", "m", [1]),
            lambda client: client.record_behavioral_legacy("n", [1]),
            lambda client: client.record_raw([1]),
            lambda client: client.record_raw(5),
            lambda client: client.record("t", "n", event_time=object()),
        ],
        ids=[
            "nat",
            "year-1",
            "list",
            "number",
            "array",
            "text",
            "metric",
            "log",
            "legacy",
            "raw-list",
            "raw-number",
            "time",
        ],
    )
    def test_every_error_is_ours(
        self, call: Callable[[Client], object], sink: CapturingSink, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Whatever a caller does wrong, the error is a RilleventsError, and what is wrong with an event an InvalidEvent."""
        import time

        monkeypatch.setenv("TZ", "Asia/Tokyo")
        time.tzset()
        with pytest.raises(InvalidEvent):
            call(Client(sink, on_error="raise"))
            fields(sink)

    def test_of_a_sink(self) -> None:
        """A sink's own error is one of ours, too, with the sink's as its cause."""

        class Broken(CapturingSink):
            def emit(self, event: Any) -> None:
                raise OSError("boom")

        with pytest.raises(RilleventsError, match="OSError: boom") as caught:
            Client(Broken(), on_error="raise").record("t", "n")
        assert isinstance(caught.value.__cause__, OSError)

    def test_timed(self, sink: CapturingSink, caplog: pytest.LogCaptureFixture) -> None:
        """A timed block with attributes that are none runs, and its metric is refused."""
        ran = []
        with Client(sink).timed("n", [1]):  # type: ignore[arg-type]
            ran.append(1)
        assert ([1], []) == (ran, sink.events)
        assert "event not recorded: attributes must be a mapping, not list" == only(caplog.messages)

    def test_handler_that_raises(self, sink: CapturingSink) -> None:
        """What a handler of logging raises does not come out of recording."""

        class Broken(logging.Handler):
            def emit(self, record: logging.LogRecord) -> None:
                raise RuntimeError("boom")

        handler = Broken()
        logging.getLogger().addHandler(handler)
        try:
            assert Client(sink).record("t", "") is None
        finally:
            logging.getLogger().removeHandler(handler)
