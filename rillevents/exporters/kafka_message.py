"""An event's line as a Kafka message: its key and its headers; pure, and msgspec is imported only once a reader is made."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, TypeAlias

from rillevents.retry import clean

# Value, key and headers.
Message: TypeAlias = tuple[bytes, bytes, list[tuple[str, str | bytes | None]]]


def reader(key: str) -> Callable[[bytes], Message | str]:
    """Return what makes a message of a line, or says why that is no event.

    The message's key is the attribute *key* where that is a text or a number, else the event's ID: never nothing.
    """
    decode, name = _decoder(key)

    def read(line: bytes) -> Message | str:
        try:
            event = decode(line)
            return _message(line, event.event_id, event.event_type, getattr(event, name))
        except ValueError:
            pass
        # Python's own reader takes numbers that the quick one does not.
        try:
            event = json.loads(line)
            return _message(line, event["event_id"], event["event_type"], event.get(key))
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as problem:
            return clean(f"this is no event: {problem}")

    return read


def _message(line: bytes, event_id: str, event_type: str, key: object) -> Message:
    identity = event_id.encode()
    return line[:-1], _key(key) or identity, [("event_id", identity), ("event_type", event_type.encode())]


def _decoder(key: str) -> tuple[Callable[[bytes], Any], str]:
    import msgspec

    fields: list[Any] = [("event_id", str), ("event_type", str)]
    if key in ("event_id", "event_type"):
        return msgspec.json.Decoder(msgspec.defstruct("Envelope", fields)).decode, key
    fields.append(("key", Any, None))
    return msgspec.json.Decoder(msgspec.defstruct("Envelope", fields, rename={"key": key})).decode, "key"


def _key(value: object) -> bytes:
    if isinstance(value, str):
        return value.encode("utf-8", "replace")
    return str(value).encode() if isinstance(value, (int, float)) and not isinstance(value, bool) else b""
