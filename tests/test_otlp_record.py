"""What becomes of an event as OpenTelemetry's log record, in both encodings."""

# ruff: noqa: F401, F811 - fixtures are imported

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from receiving import NOW, Receiver, Record, export, exporter_to, line, running
from support import only

from rillevents.delivery.exporters.otlp.exporter import OtlpExporter
from rillevents.delivery.exporters.otlp.form import SEVERITIES
from rillevents.delivery.outcome import Kind, Outcome
from rillevents.event import Event
from rillevents.event.batch import Batch
from rillevents.local import __version__

SECOND, TIME = 1_767_225_600_000_000_000, "2026-01-01T00:00:00.500000000Z"
TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
IDS = {"event_id": "e-1", "event_type": "behavioral"}
# 0: no record can hold it.
TIMES = {
    "2026-01-01T00:00:00Z": SECOND,
    TIME: SECOND + 500_000_000,
    "2026-01-01T00:00:00.500000001Z": SECOND + 500_000_001,
    "2026-01-01T02:00:00.000000001+02:00": SECOND + 1,
    "2025-12-31T19:30:00.123456789-04:30": SECOND + 123_456_789,
    "2026-01-01T00:00:00.1234567899Z": SECOND + 123_456_789,
    "1970-01-01T00:00:00.000000001Z": 1,
    "2262-04-11T23:47:16.854775807Z": 2**63 - 1,
    "1969-12-31T23:59:59.999999999Z": 0,
    "0001-01-01T00:00:00Z": 0,
    "2262-04-11T23:47:17.000000000Z": 0,
    "9999-12-31T23:59:59Z": 0,
}
MIXED = ["info", 1, 1.0, True, "", None, TRACE, SPAN, "x" * 130, [1], [1.0], {"a": "b"}, {"a": 1}, {"a": 1.0}, {"a": True},
         0, False, 0.0, 2**63, [2**63], "ü", "info", {"a": "b"}, {}, []]  # fmt: skip
Sent: TypeAlias = Callable[..., list[Record]]


@pytest.fixture(params=["protobuf", "json"])
def sent(running: Receiver, request: pytest.FixtureRequest) -> Sent:
    """A function that returns what arrives of events, in each of the encodings."""

    def send(*lines: bytes, **given: Any) -> list[Record]:
        running.records.clear()
        assert Outcome(Kind.ACCEPTED) == export(running, *lines, encoding=request.param, **given)
        return list(running.records)

    return send


def attribute(text: object) -> str:
    return f'"a":{text}'


class TestRecords:
    def test_an_event(self, sent: Sent) -> None:
        """The name and the time are fields, the observed time is that of the request, everything else is an attribute."""
        expected = Record(
            {}, ("rillevents", __version__), "n", SECOND + 500_000_000, NOW, None, 0, "", "", "", {**IDS, "a": "b"}
        )
        assert expected == only(sent(line('"a":"b"')))

    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            *[(text, json.loads(text)) for text in ('""', '"ü€😀\\u0000\\n"', "true", "false", "0", "-1", "1.5", "1.0", "-0.0", "5e-324", "-1.7976931348623157e308", "null", "[]", "{}", '[null,[],{},0,"",1.0]')],
            *[(json.dumps("x" * size), "x" * size) for size in (100, 127, 128, 129, 2047, 2048, 20_000)],
            (f"{2**63 - 1}", 2**63 - 1),
            (f"{-(2**63)}", -(2**63)),
            (f"{2**63}", f"{2**63}"),
            (f"{-(2**63) - 1}", f"{-(2**63) - 1}"),
            (f"[{10**30}]", [f"{10**30}"]),
            ("1e400", "1e400"),
            ('{"":[-1e400,1.0E+999]}', {"": ["-1e400", "1.0E+999"]}),
            ('{"a":{"b":[{"c":true}]},"d":"e"}', {"a": {"b": [{"c": True}]}, "d": "e"}),
        ],
        ids=lambda value: value[:20] if isinstance(value, str) else "",
    )  # fmt: skip
    def test_values(self, text: str, expected: object, sent: Sent) -> None:
        """Each value keeps its type; a number that no type of OTLP holds is its own digits, as text."""
        found = only(sent(line(attribute(text)))).attributes["a"]
        # By their texts, since 1, 1.0 and True are equal.
        assert repr(expected) == repr(found)

    @pytest.mark.parametrize(("start", "end"), [("[", "]"), ('{"k":', "}")], ids=["lists", "objects"])
    def test_the_deepest(self, start: str, end: str, sent: Sent) -> None:
        """What lies within 28 lists or objects is JSON text, so that readers that give up at 100 messages read it."""
        found = only(sent(line(attribute(start * 200 + "1.0" + end * 200)))).attributes["a"]
        for _ in range(28):
            found = found[0] if start == "[" else found["k"]
        assert start * 172 + "1.0" + end * 172 == found

    @pytest.mark.parametrize("level", [*SEVERITIES, "Warning", "ERROR", "loud", "ünknown", "", None])
    def test_logs(self, level: str | None, sent: Sent) -> None:
        """A log's message is the body, and its level the severity: as it is, with OpenTelemetry's number where there is one."""
        more = '"message":"it broke"' + (f',"level":"{level}"' if level is not None else "")
        found = only(sent(line(more, event_type="log")))
        number = SEVERITIES.get((level or "").lower(), 0)
        kept = {"level": ""} if level == "" else {}
        assert ("it broke", number, level or "") == (found.body, found.severity, found.level)
        assert {"event_id": "e-1", "event_type": "log", **kept} == found.attributes

    @pytest.mark.parametrize("more", ['"message":5,"level":["info"]', '"message":"","level":null', '"message":{"a":1}'])
    def test_logs_without_a_text(self, more: str, sent: Sent) -> None:
        """A message or a level that is no text stays what it is."""
        found = only(sent(line(more, event_type="log")))
        assert (None, 0, "") == (found.body, found.severity, found.level)
        assert {**IDS, "event_type": "log", **json.loads(f"{{{more}}}")} == found.attributes

    def test_other_types(self, sent: Sent) -> None:
        """The message and the level of any other type are attributes like all others."""
        found = only(sent(line('"message":"m","level":"info"')))
        assert (None, 0, "") == (found.body, found.severity, found.level)
        assert {**IDS, "message": "m", "level": "info"} == found.attributes

    def test_traces(self, sent: Sent) -> None:
        """A valid trace ID and span ID are the record's own."""
        found = only(sent(line(f'"trace_id":"{TRACE}","span_id":"{SPAN}"')))
        assert (TRACE, SPAN, IDS) == (found.trace_id, found.span_id, found.attributes)

    @pytest.mark.parametrize(
        ("trace", "span"),
        [
            pytest.param(TRACE.upper(), SPAN.upper(), id="upper-case"),
            pytest.param("0" * 32, "0" * 16, id="zeros"),
            pytest.param(TRACE[1:], SPAN[1:], id="short"),
            pytest.param(TRACE + "0", SPAN + "0", id="long"),
            pytest.param(TRACE[1:] + "g", SPAN[1:] + "g", id="no-digits"),
            pytest.param(TRACE + "\n", SPAN + "\n", id="newline"),
            pytest.param("", "", id="empty"),
            pytest.param(5, None, id="no-text"),
        ],
    )
    def test_no_traces(self, trace: object, span: object, sent: Sent) -> None:
        """One that is not valid stays an attribute: one bad ID would refuse the whole request."""
        found = only(sent(line(f'"trace_id":{json.dumps(trace)},"span_id":{json.dumps(span)}')))
        assert ("", "", {**IDS, "trace_id": trace, "span_id": span}) == (
            found.trace_id,
            found.span_id,
            found.attributes,
        )

    @pytest.mark.parametrize("time", TIMES)
    def test_times(self, time: str, sent: Sent) -> None:
        """Times are nanoseconds since 1970, whatever their offset and their digits; one that no record can hold stays as it is."""
        kept = {} if TIMES[time] else {"event_time": time}
        assert [(TIMES[time], {**IDS, **kept})] * 2 == [
            (found.time, found.attributes) for found in sent(*[line(time=time)] * 2)
        ]

    @pytest.mark.parametrize("event_type", ["log", "t"])
    @pytest.mark.parametrize(
        "key",
        ["a", "message", "level", "trace_id", "span_id", "service_name", "service_version", "event_name", "event_time"],
    )
    def test_types_of_one_key(self, key: str, event_type: str, sent: Sent) -> None:
        """However the values of one key differ within a batch, in type or otherwise, each event keeps its own."""
        values: list[Any] = (
            [*TIMES] if key == "event_time" else [*"nm", "n" * 130, "ü"] if key == "event_name" else MIXED
        )
        events = [
            {**IDS, "event_time": TIME, "event_type": event_type, "event_name": "n", key: value} for value in values
        ]
        events.insert(3, {**events[0], "b": 1})
        compare(events, sent(*[json.dumps(event).encode() + b"\n" for event in events], resource={"r": "1"}))

    def test_resources(self, sent: Sent) -> None:
        """Each service of a batch is a resource of its own; what an event lacks comes from the environment."""
        more = ['"service_name":"a","service_version":"1","n":1', '"service_name":"b","n":2', '"n":3', '"service_version":"2","n":4',
                '"service_name":"a","service_version":"1","n":5', '"service_name":7,"service_version":"","n":6']  # fmt: skip
        found = sent(*map(line, more), resource={"service.name": "all", "host.name": "h"})
        named = {each.attributes["n"]: {key: each.resource[key] for key in sorted(each.resource)} for each in found}
        assert {
            1: {"host.name": "h", "service.name": "a", "service.version": "1"},
            2: {"host.name": "h", "service.name": "b"},
            3: {"host.name": "h", "service.name": "all"},
            4: {"host.name": "h", "service.name": "all", "service.version": "2"},
            5: {"host.name": "h", "service.name": "a", "service.version": "1"},
            6: {"host.name": "h", "service.name": "all"},
        } == named
        kept = {"service_name": 7, "service_version": ""}
        assert [{**IDS, "n": each} for each in range(1, 6)] + [{**IDS, **kept, "n": 6}] == sorted(
            (each.attributes for each in found), key=lambda attributes: attributes["n"]
        )

    def test_half_characters(self, sent: Sent) -> None:
        """Half a character, which no request can hold, becomes the sign for it; the other events of the batch stay whole."""
        half = line('"\\udc00k":["\\ud800","a\\ud83dz","\\ud83d\\ude00",1e400]', name="n\\udfff")
        bad, good = sent(half, line('"a":"ü"'))
        assert ("n\ufffd", {**IDS, "\ufffdk": ["\ufffd", "a\ufffdz", "😀", "1e400"]}) == (bad.name, bad.attributes)
        assert {**IDS, "a": "ü"} == good.attributes


def test_many(running: Receiver) -> None:
    """However many names, keys and values a batch has, each event keeps its own: what is seen again is not written again."""
    events = [
        {**IDS, "event_id": f"{at:05}", "event_time": TIME, "event_type": "log", "event_name": f"n{at}", "same": str(at % 7),
         f"k{at % 1100}": at, "ü": f"ü{at:05}", "o": {"p": f"q{at % 1100}"}, "message": f"m{at}", "trace_id": f"{at + 1:032x}"}
        for at in range(4600)
    ]  # fmt: skip
    running.records.clear()
    export(running, *[json.dumps(event).encode() + b"\n" for event in events], resource={"r": "1"})
    compare(events, running.records)


def exact(value: Any) -> Any:
    """Return a value so that 1, 1.0 and true differ, and the order of keys does not matter."""
    if isinstance(value, dict):
        return {key: exact(each) for key, each in value.items()}
    return [exact(each) for each in value] if isinstance(value, list) else repr(value)


def held(value: Any) -> Any:
    """Return a value as a record holds it, where that is not nested deeply."""
    if isinstance(value, dict):
        return {key: held(each) for key, each in value.items()}
    if isinstance(value, list):
        return [held(each) for each in value]
    return str(value) if type(value) is int and not -(2**63) <= value < 2**63 else value


def expected(event: dict[str, Any]) -> Record:
    """Return the record of an event, by the rules one after the other."""
    rest = held(event)
    is_log = event["event_type"] == "log"

    def taken(key: str, wanted: bool = True) -> str:
        return str(rest.pop(key)) if wanted and isinstance(event.get(key), str) and event[key] else ""

    def taken_id(key: str, length: int) -> str:
        text = str(event.get(key))
        return taken(key, len(text) == length and {*text} <= {*"0123456789abcdef"} and {*text} != {"0"})

    named = {"service.name": taken("service_name"), "service.version": taken("service_version")}
    name, time, body, level = (
        rest.pop("event_name"),
        rest.pop("event_time"),
        taken("message", is_log),
        taken("level", is_log),
    )
    if not TIMES[time]:
        rest["event_time"] = time
    ids = taken_id("trace_id", 32), taken_id("span_id", 16)
    resource = {"r": "1"} | {key: value for key, value in named.items() if value}
    number = SEVERITIES.get(level.lower(), 0)
    return Record(
        resource, ("rillevents", __version__), name, TIMES[time], NOW, body or None, number, level, *ids, rest
    )


def compare(events: list[dict[str, Any]], found: list[Record]) -> None:
    """Compare events with what arrived: those of one resource in their order, resources in the order of their first events."""
    wanted = [exact(expected(event)._asdict()) for event in events]
    first = [each["resource"] for each in wanted]
    wanted.sort(key=lambda each: first.index(each["resource"]))
    assert wanted == [exact(each._asdict()) for each in found]


TEXTS = st.text(max_size=6) | st.sampled_from(["info", TRACE, SPAN, TRACE.upper(), "x" * 130])
SIMPLE = (
    st.none() | st.booleans() | st.integers(-(2**65), 2**65) | st.floats(allow_nan=False, allow_infinity=False) | TEXTS
)
VALUES = st.recursive(
    SIMPLE | st.sampled_from([0, 1, 1.0, True, "1"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)
# Few keys, so that events with the same ones have values of different types there.
KEYS = st.sampled_from(["a", "b", "message", "level", "trace_id", "span_id", "service_name", "service_version"]) | TEXTS
EVENTS = st.lists(
    st.builds(
        lambda kind, name, time, fields: Event(kind, name, fields, event_time=time).line,
        st.sampled_from(["log", "t"]),
        st.sampled_from(["n", "m", "ü"]),
        st.sampled_from([*TIMES]),
        st.dictionaries(KEYS, VALUES, max_size=4),
    ),
    min_size=1,
    max_size=6,
)


@pytest.fixture(scope="module")
def exporters(running: Receiver) -> Iterator[list[OtlpExporter]]:
    """An exporter for each encoding, which gets to know more and more keys and values."""
    with contextlib.ExitStack() as stack:
        given = {"resource": {"r": "1"}}
        yield [stack.enter_context(exporter_to(running, encoding, **given)) for encoding in ("protobuf", "json")]


@settings(max_examples=60, deadline=None)
@given(EVENTS)
def test_both_encodings_hold_the_event(running: Receiver, exporters: list[OtlpExporter], lines: list[bytes]) -> None:
    """Whatever the events of a batch hold, beside whichever others, both encodings have the same record of each, by the rules."""
    for exporter in exporters:
        running.records.clear()
        assert Outcome(Kind.ACCEPTED) == exporter.export(Batch(lines))
        compare(list(map(json.loads, lines)), running.records)
