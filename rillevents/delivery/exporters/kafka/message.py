"""An event's line as a Kafka message: its key and its headers. Pure; msgspec is imported when a reader is created."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, TypeAlias

from rillevents.delivery.outcome import clean

# Value, key and headers.
Message: TypeAlias = tuple[bytes, str, list[tuple[str, str | bytes | None]]]


def reader(key: str) -> Callable[[bytes], Message | str]:
    """Return a function that turns a line into a message, or returns why it is not an event.

    The message's key is the attribute *key* if that is a text or a number, else the event's ID; it is never empty.
    """
    decode, name = _decoder(key)

    def read(line: bytes) -> Message | str:
        try:
            event = decode(line)
        except ValueError:
            return _read_slowly(line, key)
        event_id, found = event.event_id, getattr(event, name)
        # As str, not as bytes: librdkafka's binding encodes it more cheaply.
        found = found if type(found) is str and found else _key(found, event_id)
        return line[:-1], found, [("event_id", event_id), ("event_type", event.event_type)]

    return read


def _decoder(key: str) -> tuple[Callable[[bytes], Any], str]:
    import msgspec

    fields: list[Any] = [("event_id", str), ("event_type", str)]
    if key in ("event_id", "event_type"):
        return msgspec.json.Decoder(msgspec.defstruct("Envelope", fields)).decode, key
    fields.append(("key", Any, None))
    return msgspec.json.Decoder(msgspec.defstruct("Envelope", fields, rename={"key": key})).decode, "key"


def _read_slowly(line: bytes, key: str) -> Message | str:
    """Read a line with Python's own reader, which accepts numbers that the fast one does not."""
    try:
        event = json.loads(line)
        event_id, event_type, found = event["event_id"], event["event_type"], _key(event.get(key), event["event_id"])
        for text in (event_id, event_type, found):
            text.encode()
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as problem:
        return clean(f"not a valid event: {problem}")
    return line[:-1], found, [("event_id", event_id), ("event_type", event_type)]


def _key(value: object, event_id: str) -> str:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return str(value)
    return value if isinstance(value, str) and value else event_id
