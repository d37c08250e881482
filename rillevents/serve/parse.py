"""The body of a request → its events, and a verdict for each invalid line. Pure functions.

NDJSON, what a page sends (an object, an array, or NDJSON), `{"events": [...]}` and `{"event": {...}}`. Events keep their bytes;
only an event written over several lines is joined into one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import msgspec

from rillevents.errors import InvalidEvent
from rillevents.event import MAX_EVENT_BYTES
from rillevents.event.envelope import required_fields
from rillevents.event.validate import certain_event, certain_events, checked_line, without_halves
from rillevents.local.files import BOM
from rillevents.serve.limits import MAX_EVENTS
from rillevents.store.incoming import Incoming, InvalidLine

Parse = Callable[[bytes], Incoming]

_REASON_CHARS = 120
_FIRST = (1,)


class TooMany(Exception):
    """A body has more events than a request may have."""


class BadBody(Exception):
    """The body is not what its headers say; `status` is the status to answer with."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason


class _Wrapped(msgspec.Struct):
    """What `/v1/telemetry/events` accepts; other keys are ignored."""

    events: list[msgspec.Raw]


class _WrappedOne(msgspec.Struct):
    """What `/v1/telemetry` accepts, from older pages."""

    event: msgspec.Raw


_object = msgspec.json.Decoder(msgspec.Raw)
_array = msgspec.json.Decoder(list[msgspec.Raw])
_wrapped = msgspec.json.Decoder(_Wrapped)
_wrapped_one = msgspec.json.Decoder(_WrappedOne)


def quick_ndjson(body: bytes) -> Incoming | None:
    """Return the events of NDJSON if all pass the quick check, else None; raises TooMany."""
    if not body.endswith(b"\n"):
        body += b"\n"
    count = body.count(b"\n")
    if count == 1 and (one := certain_event(body)):
        return Incoming([body], [one], _FIRST, size=len(body))
    if count > MAX_EVENTS:
        raise TooMany
    fields = certain_events(body)
    if not fields:
        return None
    # There is no other end of a line in it, or the check would not have passed.
    return Incoming(body.splitlines(keepends=True), fields, range(1, count + 1), size=len(body))


def parse_ndjson(body: bytes) -> Incoming:
    """Return the events of NDJSON, one per line; raises TooMany."""
    text = body.removeprefix(BOM)
    return quick_ndjson(text) or _checked(enumerate(text.split(b"\n"), 1), len(body))


def parse_local(body: bytes) -> Incoming:
    """Return the events sent by a page: one object, an array of objects, or NDJSON; raises TooMany."""
    text = body.removeprefix(BOM).strip()
    # A page cuts a text by UTF-16 units, and may cut a character in half; its event is not lost for that.
    text = without_halves(text) if b"\\u" in text else text
    if text[:1] == b"[":
        return _listed(text, _array.decode)
    if b"\n" in text and _is_one_object(text):
        return _checked([(1, _on_one_line(text))], len(text))
    return parse_ndjson(text) if text else _checked([], 0)


def parse_wrapped(body: bytes) -> Incoming:
    """Return the events of `{"events": [...]}`; raises TooMany."""
    return _listed(body.removeprefix(BOM).strip(), lambda text: _wrapped.decode(text).events)


def parse_wrapped_one(body: bytes) -> Incoming:
    """Return the event of `{"event": {...}}`."""
    return _listed(body.removeprefix(BOM).strip(), lambda text: [_wrapped_one.decode(text).event])


def _is_one_object(text: bytes) -> bool:
    try:
        _object.decode(text)
    except (msgspec.DecodeError, RecursionError):
        return False
    return True


def _listed(text: bytes, decode: Callable[[bytes], list[msgspec.Raw]]) -> Incoming:
    try:
        found = decode(text)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        return _checked(
            [],
            len(text),
            [InvalidLine(1, short_reason(f"not the JSON that is expected here: {error}"), text[: MAX_EVENT_BYTES + 1])],
        )
    if len(found) > MAX_EVENTS:
        raise TooMany
    return _checked(((number, _on_one_line(bytes(item))) for number, item in enumerate(found, 1)), len(text))


def _on_one_line(text: bytes) -> bytes:
    """Return an event on one line; only white space between its parts is removed, and only if it has several lines."""
    if b"\n" not in text and b"\r" not in text:
        return text.strip()
    try:
        return bytes(msgspec.json.format(text, indent=-1))
    except (msgspec.DecodeError, RecursionError):
        return text


def _checked(lines: Iterable[tuple[int, bytes]], size: int, bad: list[InvalidLine] | None = None) -> Incoming:
    found = Incoming([], [], [], bad or [], size=size)
    numbers: list[int] = []
    for number, line in lines:
        if not line.strip():
            continue
        try:
            good = checked_line(line)
        except InvalidEvent as error:
            found.bad.append(InvalidLine(number, short_reason(error.message), line[: MAX_EVENT_BYTES + 1]))
        else:
            found.lines.append(good)
            found.fields.append(required_fields(good))
            numbers.append(number)
    found.numbers = numbers
    return found


def short_reason(reason: str) -> str:
    """Return a reason that is not too long for an answer."""
    return reason if len(reason) <= _REASON_CHARS else reason[: _REASON_CHARS - 1] + "…"
