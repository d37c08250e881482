"""Raw events: lines that are events already, checked and passed on byte for byte."""

from __future__ import annotations

import json
import re
import time
from typing import Any

from rillevents.errors import InvalidEvent
from rillevents.event import (
    ENVELOPE,
    MAX_EVENT_BYTES,
    Event,
    check_raw,
    encode_line,
    format_time,
    ndjson,
    new_event_id,
)
from rillevents.event.envelope import Required, is_event, required_fields
from rillevents.event.timestamp import microseconds, parse_time

# From the first digit of a number on: because from each of them it would take as long again. A sign counts as a digit.
_LONG_NUMBER = re.compile(rb"(?<![0-9])[0-9]{%d}" % ndjson.MAX_DIGITS)


def decode_line(line: bytes) -> dict[str, Any]:
    """Return the JSON object that *line* is; raises InvalidEvent saying what it is instead."""
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
    """Return *line* with its newline where it is an event with the four fields; raises InvalidEvent saying what is wrong.

    Decoded by a quicker parser than `json`; a line that fails there is looked at more closely, for the verdict.
    """
    line = line.rstrip(b"\r\n")
    try:
        good = is_event(line) and _is_understood(line)
    except RecursionError:
        good = False
    if not good:
        check_raw(decode_line(line))
        raise InvalidEvent("not JSON that every reader understands")
    return line + b"\n"


def _is_understood(line: bytes) -> bool:
    """Return whether an event's line is one that other readers take, too: its time, how long its numbers are, how deep it is."""
    required = required_fields(line)
    try:
        parse_time(required.event_time, strict=True)
    except ValueError:
        return False
    if len(line) > ndjson.MAX_DIGITS and (len(line) > MAX_EVENT_BYTES or _LONG_NUMBER.search(line)):
        # Only then: because no other line can hold a number that Python's own reader refuses for its length.
        decode_line(line)
    return bool(required.event_id and required.event_type and required.event_name) and not ndjson.is_too_deep(line)


# The times of most events, one to a line; what is not like that (29 February among it) is looked at one by one.
_DAY = r"(?:(?:0[1-9]|1[0-2])-(?:0[1-9]|1\d|2[0-8])|(?:0[13-9]|1[0-2])-(?:29|30)|(?:0[13578]|1[02])-31)"
_CLOCK = r"(?:[01]\d|2[0-3]):[0-5]\d"
_TIMES = re.compile(rf"(?:\d{{4}}-{_DAY}T{_CLOCK}:[0-5]\d(?:\.\d+)?(?:Z|[+-]{_CLOCK})\n)*+", re.ASCII)


def count_events(block: bytes) -> int:
    """Return how many lines *block* has, where `checked_line` certainly takes each as it is; 0 says nothing about any of them."""
    return len(certain_events(block))


def certain_events(block: bytes) -> list[Required]:
    """Return the four fields of each line of *block*, where `checked_line` certainly takes each as it is; else none.

    Ten times as quick: what can be asked of the block is not asked of each line.
    """
    try:
        if not block.isascii():
            block.decode()
        *lines, rest = block.split(b"\n")
        longest = max(map(len, lines), default=0)
        if rest or longest > ndjson.MAX_DIGITS or b"\r" in block:
            return []
        events = list(map(required_fields, lines))
        times = [event.event_time for event in events if event.event_id and event.event_type and event.event_name]
    except (ValueError, RecursionError):
        return []
    if longest > 2 * ndjson.MAX_DEPTH and any(map(ndjson.is_too_deep, lines)):
        return []
    text = "\n".join([*times, ""])
    # Counted: because a time with a newline in it would look like two.
    good = len(times) == len(lines) == text.count("\n") and _TIMES.fullmatch(text)
    return events if good else []


def certain_event(line: bytes) -> Required | None:
    """Return the four fields of *line*, with its newline, where `checked_line` certainly takes it as it is; else None."""
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
    return event if plain and not ndjson.is_too_deep(line) else None


def parse_raw(line: bytes) -> Event:
    """Return the event that *line* is, its bytes kept; raises InvalidEvent where it lacks one of the four fields."""
    if b"\n" in line.rstrip(b"\r\n"):
        raise InvalidEvent("more than one line")
    return Event.raw(checked_line(line), decode_line(line))


def fill(line: bytes, event_type: str, event_name: str) -> bytes:
    """Return the line that *line* becomes with what it lacks of the four fields; complete lines keep their bytes.

    Raises InvalidEvent where it is no object, or too large.
    """
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
