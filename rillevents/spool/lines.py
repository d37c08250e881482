"""The bytes of a spool file → its complete lines, the good told from the bad, in bounded memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import msgspec

from rillevents.event import MAX_EVENT_BYTES
from rillevents.files import read_at

BLOCK = 1 << 20


class Line(NamedTuple):
    """A complete line: where it begins and ends in its file, and the event's bytes, none where it is no event."""

    start: int
    end: int
    good: bytes


class _Required(msgspec.Struct):
    """The four fields that an event has to have."""

    event_id: str
    event_time: str
    event_type: str
    event_name: str


_decoder = msgspec.json.Decoder(_Required)
required_fields = _decoder.decode


def is_event(line: bytes) -> bool:
    """Return whether *line* is one JSON object with the four required fields, in valid UTF-8, and not too large."""
    if len(line) > MAX_EVENT_BYTES + 1:
        return False
    try:
        _decoder.decode(line)
        line.decode()
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    return True


def complete_lines(fd: int, start: int, end: int) -> Iterator[Line]:
    """Yield the lines between two offsets of a file, up to the last newline; empty ones are passed over."""
    while start < end:
        block = read_at(fd, min(BLOCK, end - start), start)
        cut = block.rfind(b"\n") + 1
        if not cut:
            # More than any event has, so its bytes are not looked at: they are put aside as they are.
            line_end = _find_newline(fd, start + len(block), end) if len(block) == BLOCK else 0
            if not line_end:
                return
            yield Line(start, line_end, b"")
            start = line_end
            continue
        for text in block[:cut].split(b"\n")[:-1]:
            end_of_line = start + len(text) + 1
            # Zeros are passed over: a loss of power leaves them where a file had grown before its data was written.
            event = text.lstrip(b"\0") if text[:1] == b"\0" else text
            if event:
                yield Line(start, end_of_line, event + b"\n" if is_event(event) else b"")
            start = end_of_line


def _find_newline(fd: int, start: int, end: int) -> int:
    while start < end:
        block = read_at(fd, min(BLOCK, end - start), start)
        found = block.find(b"\n")
        if found >= 0:
            return start + found + 1
        if not block:
            break
        start += len(block)
    return 0
