"""Raw events: lines that are events already, checked and passed on byte for byte."""

from __future__ import annotations

import json
import re
import time
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from rillevents.errors import InvalidEvent
from rillevents.event import (
    ENVELOPE,
    MAX_EVENT_BYTES,
    METRIC,
    Event,
    encode_line,
    format_time,
    ndjson,
    new_event_id,
)
from rillevents.event.envelope import Required, certain_lines, is_event, required_fields
from rillevents.event.ndjson import LARGEST
from rillevents.event.timestamp import microseconds, parse_time

if TYPE_CHECKING:
    from collections.abc import Mapping

# Match from a number's first digit only: matching from each digit would take as long again each time. A sign counts as a digit.
_LONG_NUMBER = re.compile(rb"(?<![0-9])[0-9]{%d}" % ndjson.MAX_DIGITS)


# A UTF-16 half of a character, as JavaScript leaves it where it cuts a text; escaped backslashes and whole pairs are passed over.
_HALF = re.compile(
    rb"\\\\|\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(\\u[dD][89a-fA-F][0-9a-fA-F]{2})"
)


def without_halves(line: bytes) -> bytes:
    """Return *line* with U+FFFD in place of each lone surrogate, as Go's decoder reads it; the same bytes where there is none."""
    return _HALF.sub(lambda found: b"\\ufffd" if found[1] else found[0], line)


def decode_line(line: bytes) -> dict[str, Any]:
    """Return the JSON object in *line*; raises InvalidEvent that says what it is instead."""
    if len(line) > MAX_EVENT_BYTES + line.endswith(b"\n"):
        raise InvalidEvent(f"the event has {len(line)} bytes, more than {MAX_EVENT_BYTES}")
    try:
        fields = json.loads(line.decode(), parse_constant=ndjson.no_constant, parse_int=ndjson.to_int)
    except UnicodeDecodeError:
        raise InvalidEvent("not valid UTF-8") from None
    except (ValueError, RecursionError) as error:
        raise InvalidEvent(f"not JSON: {error}") from None
    if not isinstance(fields, dict):
        raise InvalidEvent("not a JSON object")
    if ndjson.is_too_deep(line):
        raise InvalidEvent(f"nested more than {ndjson.MAX_DEPTH} deep")
    return fields


def checked_line(line: bytes) -> bytes:
    """Return *line* with its newline if it is an event with the four fields; raises InvalidEvent with the reason.

    A faster parser than `json` decodes it; a line that fails there is checked more closely, for the verdict.
    """
    line = line.rstrip(b"\r\n")
    try:
        good = is_event(line) and _is_understood(line)
    except RecursionError:
        good = False
    if not good:
        check_raw(decode_line(line))
        if without_halves(line) != line:
            reason = r"a lone surrogate (half a character, such as \ud83d) is not valid Unicode"
            raise InvalidEvent(reason, hint=r"send \ufffd in its place")
        raise InvalidEvent("not JSON that all readers understand")
    if _may_be_too_large(line):
        _check_value(decode_line(line))
    return line + b"\n"


# A metric's value that a double may not hold: it has a long exponent or many digits.
_VALUE = re.compile(rb'"value"\s*+:\s*+-?+(?:[0-9.]{100}|[0-9.]++[eE]\+?+[0-9]{3})')
# The same key, written with escapes.
_ESCAPED_KEY = re.compile(rb"\\u00(?:76|61|6[cC]|75|65)")


def _may_be_too_large(lines: bytes) -> bool:
    return bool(_VALUE.search(lines) or (b"\\" in lines and _ESCAPED_KEY.search(lines)))


def _check_value(fields: Mapping[str, Any]) -> None:
    value = fields.get("value")
    if fields.get("event_type") == METRIC and isinstance(value, (int, float)) and not -LARGEST <= value <= LARGEST:
        raise InvalidEvent("a metric's value is too large for a number")


def _is_understood(line: bytes) -> bool:
    """Return whether other readers accept an event's line, too: its time, the length of its numbers, its depth."""
    required = required_fields(line)
    try:
        parse_time(required.event_time, strict=True)
    except ValueError:
        return False
    if len(line) > ndjson.MAX_DIGITS and (len(line) > MAX_EVENT_BYTES or _LONG_NUMBER.search(line)):
        # Only then: no other line can contain a number that is too long for Python's own reader.
        decode_line(line)
    return bool(required.event_id and required.event_type and required.event_name) and not ndjson.is_too_deep(line)


def check_raw(fields: object) -> dict[str, Any]:
    """Return the decoded raw event *fields* if it has the four required ones, checked in their order."""
    if not isinstance(fields, dict) or not fields:
        raise InvalidEvent("empty event" if fields in ({}, None) else "an event is a JSON object")
    for field in ENVELOPE:
        if not isinstance(fields.get(field), str) or not fields[field]:
            raise InvalidEvent(f"missing {field}" if field not in fields else f"{field} must be a non-empty string")
        if field == "event_time":
            _check_time(fields[field])
    return fields


def _check_time(text: str) -> None:
    try:
        parse_time(text, strict=True)
    except ValueError as error:
        raise InvalidEvent(f"event_time: {error}") from None


_TIME, _TYPE = attrgetter("event_time"), attrgetter("event_type")
# The times of most events, one per line; others (such as 29 February) are checked one by one.
_DAY = r"(?:(?:0[1-9]|1[0-2])-(?:0[1-9]|1\d|2[0-8])|(?:0[13-9]|1[0-2])-(?:29|30)|(?:0[13578]|1[02])-31)"
_CLOCK = r"(?:[01]\d|2[0-3]):[0-5]\d"
_TIMES = re.compile(rf"(?:\d{{4}}-{_DAY}T{_CLOCK}:[0-5]\d(?:\.\d+)?(?:Z|[+-]{_CLOCK})\n)*+", re.ASCII)


def count_events(block: bytes) -> int:
    """Return the number of lines in *block* if `checked_line` certainly accepts each unchanged; 0 means nothing is certain."""
    return len(certain_events(block))


def certain_events(block: bytes) -> list[Required]:
    """Return the four fields of each line of *block* if `checked_line` certainly accepts each unchanged; else none.

    Ten times as fast: one check of the block replaces a check of each line.
    """
    events = certain_lines(block, longest=ndjson.MAX_DIGITS, filled=True)
    if b"\r" in block or (METRIC in set(map(_TYPE, events)) and _may_be_too_large(block)):
        return []
    # Many events share a second: each time is looked at once.
    times = {*map(_TIME, events)}
    text = "\n".join([*times, ""])
    # Compare the counts: a time that contains a newline would look like two.
    return events if len(times) == text.count("\n") and _TIMES.fullmatch(text) else []


def certain_event(line: bytes) -> Required | None:
    """Return the four fields of *line*, with its newline, if `checked_line` certainly accepts it unchanged; else None."""
    try:
        event = required_fields(line)
        microseconds(event.event_time)
        if not line.isascii():
            line.decode()
    except (ValueError, RecursionError):
        return None
    plain = (
        len(line) <= ndjson.MAX_DIGITS
        and b"\r" not in line
        and event.event_id
        and event.event_type
        and event.event_name
    )
    return event if plain and not ndjson.is_too_deep(line) and not _may_be_too_large(line) else None


def parse_raw(event: Mapping[str, Any] | bytes | None) -> Event:
    """Return the event in a line, keeping its bytes, or in a mapping; raises InvalidEvent if a required field is missing."""
    line = event if isinstance(event, bytes) else encode_line(check_raw(_as_dict(event)))
    if b"\n" in line.rstrip(b"\r\n"):
        raise InvalidEvent("more than one line")
    return Event.raw(checked_line(line), decode_line(line))


def _as_dict(event: Mapping[str, Any] | None) -> dict[str, Any] | None:
    try:
        return None if event is None else dict(event)
    except (TypeError, ValueError):
        raise InvalidEvent(f"an event is a mapping or a line of bytes, not {type(event).__name__}") from None


def fill(line: bytes, event_type: str, event_name: str) -> bytes:
    """Return *line* with its missing required fields added; complete lines keep their bytes.

    Raises InvalidEvent if it is not an object, or too large.
    """
    line = without_halves(line)
    fields = decode_line(line.rstrip(b"\r\n"))
    missing = {field: value for field, value in _defaults(event_type, event_name).items() if not fields.get(field)}
    if not missing:
        return checked_line(line)
    filled = encode_line({**{field: missing.get(field, fields.get(field)) for field in ENVELOPE}, **fields, **missing})
    return checked_line(filled)


def _defaults(event_type: str, event_name: str) -> dict[str, str]:
    return {
        "event_id": new_event_id(),
        "event_time": format_time(time.time_ns()),
        "event_type": event_type,
        "event_name": event_name,
    }
