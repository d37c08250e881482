"""The four required fields of an event, decoded by msgspec: fast for many lines."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable

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
# Consumes an iterator and keeps nothing.
_consume: Callable[[Iterable[object]], None] = deque[object](maxlen=0).extend


def are_events(block: bytes) -> int:
    """Return the number of lines in *block* if `is_event` certainly holds for each; 0 means that each must be asked about."""
    *lines, rest = block.split(b"\n")
    try:
        if not block.isascii():
            block.decode()
        _consume(map(required_fields, lines))
    except (ValueError, RecursionError):
        return 0
    longest = max(map(len, lines), default=0)
    if rest or longest > MAX_EVENT_BYTES:
        return 0
    return 0 if longest > 2 * ndjson.MAX_DEPTH and any(map(ndjson.is_too_deep, lines)) else len(lines)


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
    # Asked in any case: from Python 3.14 on the decoder goes as deep as the stack has room.
    return not ndjson.is_too_deep(line)
