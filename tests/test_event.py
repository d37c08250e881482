"""The event and its one line of JSON."""

from __future__ import annotations

import datetime
import decimal
import enum
import json
import os
import pathlib
import subprocess
import sys
import uuid
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rillevents import event as event_module
from rillevents.errors import InvalidEvent
from rillevents.event import (
    ENVELOPE,
    MAX_EVENT_BYTES,
    Event,
    Shared,
    check_number,
    check_text,
    format_time,
    ndjson,
    new_event_id,
    to_event_time,
)
from rillevents.event.envelope import Required, certain_lines, is_event
from rillevents.event.timestamp import microseconds, parse_time
from rillevents.event.validate import (
    certain_event,
    certain_events,
    check_raw,
    checked_line,
    count_events,
    decode_line,
    fill,
    parse_raw,
    without_halves,
)

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
UNICODE_JSON = JSON.filter(lambda value: "\\ud" not in json.dumps(value))
# A few, so that they collide.
NAMES = st.sampled_from(["a", "b", "event_id", "event_name", "ä", '"', ""]) | st.text(max_size=2)


class Colour(enum.Enum):
    RED = "red"


class TestLine:
    @given(st.dictionaries(st.text(min_size=1), UNICODE_JSON, max_size=4))
    def test_round_trip(self, attributes: dict[str, object]) -> None:
        """Whatever JSON the attributes hold comes back out of the line as it went in, on one line of UTF-8."""
        try:
            event = Event("behavioral", "x", attributes)
            line = event.line
        except InvalidEvent:
            assert any(0xD800 <= ord(sign) <= 0xDFFF for sign in json.dumps(attributes, ensure_ascii=False))
            return
        found = json.loads(line)
        assert line.count(b"\n") == 1
        assert {key: value for key, value in attributes.items() if key not in ENVELOPE} == {
            key: value for key, value in found.items() if key not in ENVELOPE
        }

    @given(
        st.dictionaries(NAMES, JSON, max_size=4),
        st.dictionaries(NAMES, JSON, max_size=4),
        st.text(max_size=4),
        st.text(max_size=4),
    )
    def test_shared_attributes(
        self, shared: dict[str, object], own: dict[str, object], event_id: str, event_name: str
    ) -> None:
        """Attributes that were rendered once for many events make the same line as if each had its own, or the same error."""
        told = {"event_id": event_id, "event_time": "2026-11-23T10:00:00Z"}
        common = Shared(shared)
        for _ in range(2):
            lines = []
            for event in (
                Event("t", event_name, {**shared, **own}, **told),
                Event("t", event_name, own, **told, shared=common),
            ):
                # An empty one is a new one, and so not to be compared.
                event.event_id = event_id
                try:
                    lines.append((event.line, event.truncated))
                except InvalidEvent as error:
                    lines.append((str(error).encode(), -1))
            assert lines[0] == lines[1]

    def test_shared_attributes_that_change(self) -> None:
        """A shared list that somebody changes later is recorded as it is then."""
        items = [1]
        shared = Shared({"items": items})
        before = json.loads(Event("log", "n", {}, shared=shared).line)
        items.append(2)
        after = json.loads(Event("log", "n", {}, shared=shared).line)
        assert ([1], [1, 2]) == (before["items"], after["items"])

    def test_sink_that_adds_an_attribute(self) -> None:
        """What a sink puts into `attributes` before the line was made is in the line, beside shared and own ones."""
        event = Event("log", "n", {"own": 1}, shared=Shared({"shared": 2}))
        event.attributes["added"] = 3  # type: ignore[index]
        found = json.loads(event.line)
        assert {"shared": 2, "own": 1, "added": 3} == {key: found[key] for key in ("shared", "own", "added")}

    def test_sink_that_replaces_the_attributes(self) -> None:
        """A sink may also put others in their place."""
        event = Event("log", "n", {"own": 1}, shared=Shared({"shared": 2}))
        event.attributes = {"only": 3}
        assert event.line.endswith(b'"event_name":"n","only":3}\n')

    def test_names_that_are_equal_and_not_the_same(self) -> None:
        """A name of a class of its own, which is equal to another, is written as it is."""

        class Folded(str):
            __slots__ = ()

            def __eq__(self, other: object) -> bool:
                return str(other).lower() == self.lower()

            def __hash__(self) -> int:
                return hash(self.lower())

        for kind, name in ((Folded, str), (str, Folded), (Folded, Folded)):
            lines = [Event(kind(text), name(text), {}, shared=Shared({})).line for text in ("start", "START")]
            found = [json.loads(line) for line in lines]
            assert [("start", "start"), ("START", "START")] == [
                (each["event_type"], each["event_name"]) for each in found
            ]

    def test_envelope_wins(self) -> None:
        """An attribute that is called like one of the four fields loses against it, and stands in the line once."""
        line = Event("log", "n", {"event_id": "mine", "a": 1}, event_id="theirs").line
        assert "theirs" == json.loads(line)["event_id"]
        assert 1 == line.count(b'"event_id"')

    def test_no_change_to_the_callers_mapping(self) -> None:
        """Writing an event leaves the mapping that it was made of as it was."""
        attributes = {"a": 1}
        assert Event("log", "n", attributes).line
        assert {"a": 1} == attributes

    @pytest.mark.parametrize(
        "size", [MAX_EVENT_BYTES - 1, MAX_EVENT_BYTES, MAX_EVENT_BYTES + 1], ids=["below", "at", "over"]
    )
    def test_limit(self, size: int) -> None:
        """An event of exactly 32 KiB is kept whole; of one with a byte more the longest text is cut, with a reason."""
        event = Event("log", "n", {"é": ""}, event_id="i", event_time=format_time(0))
        short = Event("log", "n", {"é": "x" * (size - len(event.line) + 1)}, event_id="i", event_time=format_time(0))
        found = json.loads(short.line)
        if size <= MAX_EVENT_BYTES:
            assert (size + 1, 0) == (len(short.line), short.truncated)
            return
        assert size == short.truncated
        assert {*ENVELOPE, "é", "truncated", "reason"} == found.keys()
        assert found["truncated"] is True

    @pytest.mark.parametrize(
        "letter", ["x", "ä", "😀", '"', "\n", "\0"], ids=["ascii", "two-bytes", "emoji", "quote", "newline", "nul"]
    )
    @pytest.mark.parametrize(
        ("attributes", "name"),
        [
            (lambda text: {"a": 1, "message": text, "z": "stays"}, "message"),
            (lambda text: {"a": {"b": ["stays", {"c": text}]}}, "a.b.c"),
        ],
        ids=["top", "nested"],
    )
    def test_longest_text_is_cut(self, attributes: Any, name: str, letter: str) -> None:
        """The longest text of a too large event is cut to what fits, at any depth and in any script; all else stays."""
        given = attributes(letter * (40_000 // len(letter.encode())))
        event = Event("log", "n", given)
        found = json.loads(event.line)
        reason = f'the event had {event.truncated} bytes, more than 32768: the text of "{name}" was cut'
        assert MAX_EVENT_BYTES - 12 < len(event.line) <= MAX_EVENT_BYTES + 1
        cut = found["message"] if "message" in found else found["a"]["b"][1]["c"]
        assert "…" == cut.strip(letter)
        assert given.get("z") == found.get("z")
        assert (True, reason, reason) == (found["truncated"], found["reason"], event.reason)

    @pytest.mark.parametrize(
        "attributes",
        [
            {"a": "x" * 40_000, "b": "x" * 40_000},
            {"reason": "x" * 40_000},
            {"a": [1] * 20_000, "b": "x" * 100},
            {str(key): 1 for key in range(9000)},
        ],
        ids=["two-texts", "own-reason", "numbers", "keys"],
    )
    def test_no_cut_is_enough(self, attributes: dict[str, Any]) -> None:
        """Where cutting one text is not enough, only the four fields stay, with a reason."""
        event = Event("log", "n", attributes)
        found = json.loads(event.line)
        assert {*ENVELOPE, "truncated", "reason"} == found.keys()
        assert found["reason"].endswith("its attributes were left out")

    @pytest.mark.parametrize(
        ("value", "expected"),
        [
            pytest.param(
                datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.UTC), "2026-01-02T03:04:05Z", id="datetime"
            ),
            pytest.param(datetime.date(2026, 1, 2), "2026-01-02", id="date"),
            pytest.param(uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001", id="uuid"),
            pytest.param(pathlib.PurePosixPath("/a/b"), "/a/b", id="path"),
            pytest.param(Colour.RED, "red", id="enum"),
            pytest.param(decimal.Decimal("0.10"), "0.10", id="decimal"),
            pytest.param((1, 2), [1, 2], id="tuple"),
            pytest.param(2**70, 2**70, id="large-integer"),
        ],
    )
    def test_values(self, value: object, expected: object) -> None:
        """What is no JSON but has an obvious form in it is written in that form."""
        assert expected == json.loads(Event("log", "n", {"v": value}).line)["v"]

    @pytest.mark.parametrize(
        "value",
        [float("nan"), float("inf"), {1, 2}, b"x", object(), "\ud800"],
        ids=["nan", "inf", "set", "bytes", "object", "surrogate"],
    )
    def test_bad_values(self, value: object) -> None:
        """What has no form in JSON is a bad event, and says so."""
        for shared in (None, Shared({}), Shared({"a": 1})):
            with pytest.raises(InvalidEvent):
                _ = Event("log", "n", {"v": value}, shared=shared).line

    def test_nesting_without_end(self) -> None:
        """A value that contains itself is a bad event, not a crash."""
        value: list[object] = []
        value.append(value)
        with pytest.raises(InvalidEvent):
            _ = Event("log", "n", {"v": value}).line


class TestShared:
    @pytest.mark.parametrize(
        ("shared", "own", "expected"),
        [
            ({"a": 1, "b": "ä"}, {"c": None}, ',"a":1,"b":"ä","c":null'),
            ({"a": 1}, {}, ',"a":1'),
            ({}, {"c": [1]}, ',"c":[1]'),
            ({}, {}, ""),
            ({"a": 1}, {"a": 2}, None),
            ({"a": 1}, {"event_id": "x"}, None),
            ({"event_id": "x"}, {}, None),
            ({"a": [1]}, {}, None),
        ],
        ids=["both", "shared", "own", "none", "same-key", "own-field", "field", "may-change"],
    )
    def test_rendered(self, shared: dict[str, object], own: dict[str, object], expected: str | None) -> None:
        """Attributes are put together from what is rendered already where that says the same, and left to the encoder elsewhere."""
        attributes = Shared(shared)
        assert [expected, expected] == [attributes.render(own) for _ in range(2)]

    def test_put_together(self) -> None:
        """A line with shared attributes is put together of what is known, one without is encoded."""
        event = Event("log", "n", {"b": 2}, shared=Shared({"a": 1}))
        assert [event.line, b""] == [event._joined(), Event("log", "n", {"b": 2})._joined()]

    def test_kinds_that_are_remembered(self) -> None:
        """Up to 256 pairs of a type and a name are remembered, and then all are forgotten."""
        event_module._kinds.clear()
        shared = Shared({})
        for number in range(257):
            assert len(event_module._kinds) == number
            assert Event("log", f"n{number}", shared=shared).line
        assert 1 == len(event_module._kinds)


class TestReplace:
    def test_other_attributes(self) -> None:
        """An event with other attributes is the same one: its ID, time, type and name stay."""
        event = Event("log", "n", {"a": 1})
        other = event.replace({"b": 2})
        assert {**json.loads(event.line), "b": 2} == {**json.loads(other.line), "a": 1}

    def test_its_own_attributes(self) -> None:
        """With its own attributes it is itself."""
        event = Event("log", "n", {"a": 1})
        assert event is event.replace(event.attributes)

    def test_repr(self) -> None:
        """An event in a debugger says its type, its name and its ID."""
        assert "<Event log/n i>" == repr(Event("log", "n", event_id="i"))


class TestChecks:
    @pytest.mark.parametrize("value", ["x", " x ", "x" * 1024, "é" * 512], ids=["short", "spaces", "longest", "bytes"])
    def test_text(self, value: str) -> None:
        """A text of up to 1,024 bytes will do as an event's ID, type or name."""
        assert value == check_text("event_name", value)

    @pytest.mark.parametrize(
        ("value", "expected"),
        [
            ("", "event_name must be a non-empty string"),
            (" ", "event_name must be a non-empty string"),
            (None, "event_name must be a non-empty string"),
            (b"x", "event_name must be a non-empty string"),
            ("\ud800", "event_name is not valid Unicode"),
            ("x" * 1025, "event_name has 1025 bytes, more than 1024"),
            ("é" * 513, "event_name has 1026 bytes, more than 1024"),
        ],
        ids=["empty", "space", "none", "bytes", "surrogate", "too-long", "too-many-bytes"],
    )
    def test_bad_text(self, value: object, expected: str) -> None:
        """What will not do says what is wrong with it."""
        with pytest.raises(InvalidEvent) as caught:
            check_text("event_name", value)
        assert expected == caught.value.message

    @pytest.mark.parametrize("value", [0, -1, 1.5, 2**70, 1e308])
    def test_number(self, value: float) -> None:
        """A finite number will do as a metric's value."""
        assert value == check_number(value)

    @pytest.mark.parametrize(
        ("value", "expected"),
        [
            (True, "a metric's value must be a number, not bool"),
            ("1", "a metric's value must be a number, not str"),
            (None, "a metric's value must be a number, not NoneType"),
            (float("nan"), "a metric's value must be a finite number"),
            (float("inf"), "a metric's value must be a finite number"),
            (float("-inf"), "a metric's value must be a finite number"),
        ],
    )
    def test_bad_number(self, value: object, expected: str) -> None:
        """A bool is no number, and neither is what no JSON can hold."""
        with pytest.raises(InvalidEvent) as caught:
            check_number(value)
        assert expected == caught.value.message


class TestEventId:
    def test_layout(self) -> None:
        """An ID is its milliseconds in 48 bits, the version, the rest of its time in 12 bits, the variant, and 62 random bits."""
        for _ in range(100):
            found = new_event_id(1_700_000_000_123_456_789)
            assert "018bcfe5-687b-774f-" == found[:19]
            assert found[19] in "89ab"
            assert [8, 4, 4, 4, 12] == [len(part) for part in found.split("-")]

    def test_is_a_uuid7(self) -> None:
        """An event's ID is a UUID of version 7."""
        found = uuid.UUID(new_event_id())
        assert (7, uuid.RFC_4122) == (found.version, found.variant)

    def test_sorts_by_time(self) -> None:
        """IDs made one after the other in different milliseconds sort in that order, and none recurs."""
        ids = [new_event_id() for _ in range(20_000)]
        assert len(ids) == len(set(ids))
        assert [text[:13] for text in ids] == sorted(text[:13] for text in ids)

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform cannot fork")
    def test_forks_and_threads(self) -> None:
        """No ID is handed out twice: not by threads, nor by children that were forked with random digits in store."""
        code = (
            "import os, threading\n"
            "from rillevents.event import new_event_id\n"
            "new_event_id(1)\n"
            "for _ in range(4):\n"
            "    if not os.fork():\n"
            "        break\n"
            "made = []\n"
            # The same instant for all: so that it takes the random digits to tell them apart.
            "work = lambda: made.extend(new_event_id(1) for _ in range(500))\n"
            "threads = [threading.Thread(target=work) for _ in range(4)]\n"
            "[thread.start() for thread in threads], [thread.join() for thread in threads]\n"
            "os.write(1, ''.join(one + chr(10) for one in made).encode())\n"
        )
        with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as process:
            assert process.stdout
            ids = process.stdout.read().split()
        assert 5 * 4 * 500 == len(ids) == len(set(ids))


class TestTime:
    @given(st.integers(-62167219200_000000000, 253402300799_999999999))
    def test_round_trip(self, nanoseconds: int) -> None:
        """Every nanosecond that RFC 3339 can write is read back exactly."""
        assert nanoseconds == parse_time(format_time(nanoseconds), strict=True)

    @given(
        st.datetimes(
            timezones=st.timezones(), min_value=datetime.datetime(1, 1, 3), max_value=datetime.datetime(9999, 12, 29)
        )
    )
    def test_agrees_with_datetime(self, when: datetime.datetime) -> None:
        """A time with an offset is the instant that datetime takes it for."""
        offset = when.utcoffset()
        if offset is None or offset.seconds % 60:
            return
        whole = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
        assert (when - whole) // datetime.timedelta(microseconds=1) * 1000 == parse_time(when.isoformat())

    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("2026-11-23T10:00:00+02:00", "2026-11-23T08:00:00.000000000Z"),
            ("2026-11-23 10:00:00+0200", "2026-11-23T08:00:00.000000000Z"),
            ("2026-11-23t10:00:00.123456789123z", "2026-11-23T10:00:00.123456789Z"),
            ("@1700000000.5", "2023-11-14T22:13:20.500000000Z"),
            ("@-1.25", "1969-12-31T23:59:58.750000000Z"),
            ("0000-01-01T00:00:00Z", "0000-01-01T00:00:00.000000000Z"),
            ("2024-02-29T23:59:59Z", "2024-02-29T23:59:59.000000000Z"),
            ("2000-02-29T00:00:00Z", "2000-02-29T00:00:00.000000000Z"),
            ("@253402300799.999999999", "9999-12-31T23:59:59.999999999Z"),
        ],
    )
    def test_forms(self, text: str, expected: str) -> None:
        """A time may have any offset, with or without its colon, a space for the T, or be seconds since 1970."""
        assert expected == to_event_time(text)

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "now",
            "2026-11-23",
            "2026-11-23T10:00:00",
            "2023-02-29T00:00:00Z",
            "1900-02-29T00:00:00Z",
            "2026-04-31T00:00:00Z",
            "2026-11-31T00:00:00Z",
            "2026-13-01T00:00:00Z",
            "2026-11-23T24:00:00Z",
            "2026-11-23T10:00:60Z",
            "2026-11-23T10:00:00.Z",
            "2026-11-23T10:00:00Zx",
            "2026-11-23T10:00:00+2",
            "２026-11-23T10:00:00Z",
            "@",
            "@1_0",
            "@1.",
            "@--1",
            "@1.x",
            "@253402300800",
            "@999999999999999",
        ],
    )
    def test_bad_forms(self, text: str) -> None:
        """What is no time is refused, with a message that shows one."""
        with pytest.raises(InvalidEvent, match="2026-11-23T10:00:00Z"):
            to_event_time(text)

    @pytest.mark.parametrize(
        ("value", "expected"),
        [
            (1, "1970-01-01T00:00:01.000000000Z"),
            (datetime.datetime(2026, 1, 2, tzinfo=datetime.UTC), "2026-01-02T00:00:00.000000000Z"),
        ],
        ids=["seconds", "datetime"],
    )
    def test_values(self, value: int | datetime.datetime, expected: str) -> None:
        """A time may also be seconds since 1970, or a datetime."""
        assert expected == to_event_time(value)

    @pytest.mark.parametrize("text", ["2026-11-23 10:00:00Z", "2026-11-23t10:00:00Z", "2026-11-23T10:00:00+0200", "@1"])
    def test_strict(self, text: str) -> None:
        """A raw event's time has to be what every reader understands: RFC 3339 to the letter."""
        with pytest.raises(ValueError, match="is not a valid time"):
            parse_time(text, strict=True)

    @given(st.text(max_size=40))
    def test_any_text(self, text: str) -> None:
        """No text makes the parser do anything but return a number or raise ValueError."""
        try:
            assert isinstance(parse_time(text), int)
        except ValueError:
            return

    @pytest.mark.parametrize("nanoseconds", [-(2**70), 2**70], ids=["before", "after"])
    def test_absurd_clocks(self, nanoseconds: int) -> None:
        """A clock beyond what RFC 3339 can write gives a valid time all the same."""
        assert parse_time(format_time(nanoseconds), strict=True)

    @pytest.mark.parametrize(
        ("nanoseconds", "expected"),
        [
            (-62167219200_000000000, "0000-01-01T00:00:00.000000000Z"),
            (-62167219200_000000001, "0000-01-01T00:00:00.000000000Z"),
            (0, "1970-01-01T00:00:00.000000000Z"),
            (253402300799_999999999, "9999-12-31T23:59:59.999999999Z"),
            (253402300800_000000000, "9999-12-31T23:59:59.999999999Z"),
        ],
    )
    def test_ends(self, nanoseconds: int, expected: str) -> None:
        """The years 0 to 9999 are written to their ends, and a clock beyond them is at the nearer end."""
        assert expected == format_time(nanoseconds)


class TestMicroseconds:
    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("1970-01-01T00:00:01Z", 1_000_000),
            ("1970-01-01T00:00:01.5Z", 1_500_000),
            ("1970-01-01T00:00:01.000001Z", 1_000_001),
            ("1970-01-01T00:00:01.1234567Z", 1_123_456),
            ("1970-01-01T01:00:01.5+01:00", 1_500_000),
            ("1969-12-31T23:59:59.9999999Z", -1),
        ],
    )
    def test_forms(self, text: str, expected: int) -> None:
        """A time is its whole microseconds since 1970, rounded down, the first time and when its second is remembered."""
        assert [expected, expected] == [microseconds(text), microseconds(text)]

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "Z",
            "1970-01-01T00:00:01",
            "1970-01-01T00:00:01z",
            "1970-01-01 00:00:01Z",
            "1970-01-01T00:00:01.Z",
            "1970-01-01T00:00:01,5Z",
            "1970-01-01T00:00:01.1_0Z",
            "1970-01-01T00:00:01.\u0663Z",
        ],
        ids=ascii,
    )
    def test_bad_forms(self, text: str) -> None:
        """What no strict time is has no microseconds either."""
        with pytest.raises(ValueError, match="is not a valid time"):
            microseconds(text)


class TestRaw:
    GOOD = {"event_id": "i", "event_time": "2026-11-23T10:00:00Z", "event_type": "t", "event_name": "n"}

    @pytest.mark.parametrize("field", ENVELOPE)
    @pytest.mark.parametrize("value", [None, 1, "", ["x"]], ids=["null", "number", "empty", "list"])
    def test_fields(self, field: str, value: object) -> None:
        """Each of the four fields has to be a string that is not empty."""
        with pytest.raises(InvalidEvent, match=field):
            check_raw({**self.GOOD, field: value})

    def test_good(self) -> None:
        """What has all four comes back as it is."""
        fields = {**self.GOOD, "a": 1}
        assert fields is check_raw(fields)

    def test_order(self) -> None:
        """The fields are checked in the order ID, time, type, name."""
        fields = dict(self.GOOD)
        for field in reversed(ENVELOPE):
            del fields[field]
            if fields:
                with pytest.raises(InvalidEvent, match=f"missing {field}"):
                    check_raw({**fields, "x": 1})

    @pytest.mark.parametrize("newline", [b"", b"\n"], ids=["bare", "newline"])
    def test_size(self, newline: bytes) -> None:
        """A line of exactly 32 KiB beside its newline is an event, one of a byte more is none."""
        fits, does_not = (raw(MAX_EVENT_BYTES + more).rstrip() for more in (0, 1))
        assert MAX_EVENT_BYTES == len(fits)
        assert is_event(fits + newline)
        assert json.loads(fits) == decode_line(fits + newline)
        assert fits + b"\n" == checked_line(fits + newline)
        with pytest.raises(InvalidEvent, match=f"the event has {len(does_not + newline)} bytes, more than 32768"):
            decode_line(does_not + newline)
        with pytest.raises(InvalidEvent, match="the event has 32769 bytes, more than 32768"):
            checked_line(does_not + newline)
        assert not is_event(does_not + newline)

    def test_depth(self) -> None:
        """A line that is nested without end is no event, and says so."""
        line = raw().replace(b"}", b',"a":' + b"[" * 5000 + b"]" * 5000 + b"}")
        assert not is_event(line)
        with pytest.raises(InvalidEvent, match=r"not JSON|nested more than 200 deep"):
            checked_line(line)

    @pytest.mark.parametrize("fields", [{}, None], ids=["empty", "none"])
    def test_empty(self, fields: object) -> None:
        """An event with nothing in it is called that."""
        with pytest.raises(InvalidEvent, match="empty event"):
            check_raw(fields)


def raw(size: int = 0, **fields: str) -> bytes:
    """Return an event's line, of so many bytes beside its newline where that is given."""
    start = json.dumps({**TestRaw.GOOD, **fields}, ensure_ascii=False).encode()[:-1]
    return start + (b',"pad":"' + b"x" * (size - len(start) - 10) + b'"' if size else b"") + b"}\n"


class TestCertain:
    @pytest.mark.parametrize(
        "lines",
        [
            [raw()],
            [raw(), raw(), raw()],
            [raw(event_name="ä")],
            [raw(4300), raw()],
            [raw(event_time="2026-11-23T10:00:00.5+01:00")],
        ],
        ids=["one", "three", "not-ascii", "long", "offset"],
    )
    def test_good(self, lines: list[bytes]) -> None:
        """Ordinary lines are known for events at once, with their four fields, as one block and one by one."""
        block = b"".join(lines)
        expected = [json.loads(line)["event_name"] for line in lines]
        assert expected == [event.event_name for event in certain_events(block)]
        assert len(lines) == count_events(block)
        assert lines == [checked_line(line) for line in lines]

    @pytest.mark.parametrize(
        "line",
        [
            raw(4301),
            raw(event_id=""),
            raw(event_type=""),
            raw(event_name=""),
            raw(event_time="now"),
            raw(event_time="2026-11-31T10:00:00Z"),
            raw().replace(b"00Z", b"00Z\\n2026-11-23T10:00:00Z"),
            raw().replace(b"\n", b"\r\n"),
            raw().rstrip(b"\n"),
            raw().replace(b'"n"', b'"\xff"'),
            raw().replace(b"}", b',"a":' + b"[" * 201 + b"]" * 201 + b"}"),
            b"{}\n",
            b"\n",
            b"",
        ],
        ids=["long", "no-id", "no-type", "no-name", "no-time", "no-day", "two-times", "cr", "no-newline", "not-utf-8",
             "deep", "object", "empty", "nothing"],
    )  # fmt: skip
    def test_uncertain(self, line: bytes) -> None:
        """A block with a line of any other kind has to be looked at line by line."""
        assert ([], 0) == (certain_events(raw() + line) if line else [], count_events(line))

    @pytest.mark.parametrize(
        "split",
        [
            raw().replace(b"{", b"{\n", 1),
            raw()[:-2] + b',"a":{}\n}\n',
            raw()[:-2] + b',"a":[{}\n,{}]}\n',
            raw()[:-2] + b',"a":[{},\n{}]}\n',
            raw()[:-2] + b'\n,"a":{}}\n',
        ],
    )
    def test_documents_that_are_not_lines(self, split: bytes) -> None:
        """One event over two lines and two in one line are as many events as lines, and still not one event a line."""
        block = raw() + split + raw()[:-1] + raw()
        assert 4 == len(msgspec.json.Decoder(Required).decode_lines(block)) == block.count(b"\n")
        assert [] == certain_lines(block, longest=MAX_EVENT_BYTES) == certain_events(block)

    @pytest.mark.parametrize(
        ("line", "is_certain"),
        [
            (raw(), True),
            (raw(event_name="ä"), True),
            (raw(4299), True),
            (raw(4300), False),
            (raw().rstrip(b"\n"), True),
            (raw().replace(b"\n", b"\r\n"), False),
            (raw(event_id=""), False),
            (raw(event_type=""), False),
            (raw(event_name=""), False),
            (raw(event_time="now"), False),
            (raw().replace(b'"n"', b'"\xff"'), False),
            (raw().replace(b"}", b',"a":"\xff"}'), False),
            (raw().replace(b"}", b',"a":' + b"[" * 201 + b"]" * 201 + b"}"), False),
            (raw().replace(b"}", b',"a":' + b"[" * 199 + b"]" * 199 + b"}"), True),
        ],
    )
    def test_one(self, line: bytes, is_certain: bool) -> None:
        """The same holds for a line alone."""
        found = certain_event(line)
        assert is_certain is (found is not None)
        assert found is None or found.event_id == "i"


class TestFill:
    def test_complete(self) -> None:
        """A line that lacks nothing keeps its bytes, and gets its newline."""
        line = raw().replace(b", ", b" ,  ")
        assert [line, line] == [fill(line, "other", "other"), fill(line.rstrip(b"\n"), "other", "other")]

    @pytest.mark.parametrize("value", [None, ""], ids=["null", "empty"])
    def test_missing(self, value: str | None) -> None:
        """What is missing, null or empty is filled in, and the rest stays."""
        found = json.loads(fill(json.dumps({"event_name": value, "event_id": "i", "a": 1}).encode(), "t", "n"))
        assert parse_time(found.pop("event_time"), strict=True)
        assert {"event_id": "i", "event_type": "t", "event_name": "n", "a": 1} == found

    def test_two_lines(self) -> None:
        """Two lines are no event, a line with its end is one, whose bytes are kept."""
        with pytest.raises(InvalidEvent, match="more than one line"):
            parse_raw(raw() + raw())
        assert (raw(), True) == (parse_raw(raw()).line, parse_raw(raw()).is_raw)


class TestJson:
    @given(UNICODE_JSON)
    def test_same_as_json(self, value: object) -> None:
        """What we write is what the standard library writes, and we read what it reads."""
        text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
        assert text == ndjson.dumps(value)
        assert json.loads(text) == ndjson.loads(f" {text}\n")

    @pytest.mark.parametrize(
        "text", ["nan", "NaN", "-Infinity", "1e999", "{", "[1]x", "", "1_000", "01", ".5", "+1", "'a'", '"\t"']
    )
    def test_stricter_than_json(self, text: str) -> None:
        """What is no JSON document, and what no number can hold, is refused."""
        with pytest.raises(ValueError):  # noqa: PT011 - it is json's own message
            ndjson.loads(text)

    @pytest.mark.parametrize("opening", ["[", '{"a":'], ids=["lists", "objects"])
    def test_nesting(self, opening: str) -> None:
        """A document that is nested 200 deep is not too deep, one that is nested 201 deep is, as text and as bytes."""
        closing = "]" if opening == "[" else "}"
        deep = [f"{opening * depth}{' ' * 500}1{closing * depth}" for depth in (1, 200, 201)]
        assert [False, False, True] == [ndjson.is_too_deep(text) for text in deep]
        assert [False, False, True] == [ndjson.is_too_deep(text.encode()) for text in deep]
        assert not ndjson.is_too_deep(deep[1][:-1] + f",{deep[0]}" + closing)

    def test_brackets_in_a_text(self) -> None:
        """Brackets in a text nest nothing, also behind an escaped quote and beside letters of any script."""
        quoted = json.dumps('\\"ä\ud800' + "[{" * 300, ensure_ascii=False)
        assert not ndjson.is_too_deep(f"[{quoted}]")
        assert ndjson.is_too_deep(f"{'[' * 201}{quoted}{']' * 201}")

    def test_writing_what_is_nested(self) -> None:
        """200 deep is written, 201 deep is refused with the limit in the message."""
        value: list[object] = []
        for _ in range(199):
            value = [value]
        assert "[" * 200 + "]" * 200 == ndjson.dumps(value)
        with pytest.raises(RecursionError, match="nested more than 200 deep"):
            ndjson.dumps([value])

    def test_long_numbers(self) -> None:
        """A number of 4,300 digits is read, one of 4,301 is refused."""
        assert int("9" * 4300) == ndjson.loads("9" * 4300)
        with pytest.raises(ValueError, match="a number of 4301 digits is too long"):
            ndjson.loads("9" * 4301)


class TestHalfCharacters:
    LINE = rb'{"event_id":"i","event_time":"2026-11-23T10:00:00Z","event_type":"t","event_name":"n","m":"%b"}'

    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            pytest.param(rb"cut \ud83d", rb"cut \ufffd", id="high"),
            pytest.param(rb"\uDE00 cut", rb"\ufffd cut", id="low"),
            pytest.param(rb"\ud83d\ud83d\ude00", rb"\ufffd\ud83d\ude00", id="high-then-pair"),
            pytest.param(rb"\ud83d\ude00", rb"\ud83d\ude00", id="pair"),
            pytest.param(rb"\\ud83d", rb"\\ud83d", id="escaped-backslash"),
            pytest.param(rb"\\\ud83d", rb"\\\ufffd", id="backslash-then-high"),
        ],
    )
    def test_replaced(self, text: bytes, expected: bytes) -> None:
        """A lone surrogate becomes U+FFFD, as Go's decoder reads it; pairs and escaped backslashes stay byte for byte."""
        assert self.LINE % expected == without_halves(self.LINE % text)
        assert self.LINE % expected + b"\n" == fill(self.LINE % text, "t", "n")

    def test_said(self) -> None:
        """Where bytes are kept as they are, the reason for refusing names the lone surrogate."""
        with pytest.raises(InvalidEvent, match=r"a lone surrogate .* is not valid Unicode; send \\ufffd"):
            checked_line(self.LINE % rb"\ud83d")
