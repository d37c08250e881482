"""The four required fields of an event, decoded by msgspec: fast for many lines."""

from __future__ import annotations

import msgspec

from rillevents.event import MAX_EVENT_BYTES, ndjson


class Required(msgspec.Struct, gc=False):
    """The four required fields of an event."""

    event_id: str
    event_time: str
    event_type: str
    event_name: str


_decoder = msgspec.json.Decoder(Required)


required_fields = _decoder.decode


def is_event(line: bytes) -> bool:
    """Return whether *line* is one JSON object with the four required fields, in valid UTF-8, and not too large.

    Raises RecursionError if the caller's stack has no room left to decide.
    """
    if len(line) > MAX_EVENT_BYTES + line.endswith(b"\n"):
        return False
    try:
        _decoder.decode(line)
        line.decode()
    except (msgspec.DecodeError, UnicodeDecodeError):
        return False
    except RecursionError:
        # Only judge the line itself: no event nested that deeply is ever recorded, and an event must not end in corrupt/
        # because the flush was called from deep in a stack.
        if not ndjson.is_too_deep(line):
            raise
        return False
    return True
