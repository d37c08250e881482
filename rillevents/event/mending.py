"""Events that cannot be written as they are: what is no JSON is left out alone, and a text that is too long is cut.

No way of an ordinary event leads here, so this module is imported only when one is needed.
"""

from __future__ import annotations

import time
from collections.abc import Hashable, Mapping
from typing import Any

from rillevents.event import ndjson

INVALID = "invalid_attributes"
_OURS = ("truncated", "reason")
_NO_JSON = (TypeError, ValueError, RecursionError)
_NEWS_EVERY, _MOST_NEWS = 60.0, 256


def without_invalid(attributes: Mapping[Any, Any], found: dict[str, str] | None) -> dict[str, Any]:
    """Return *attributes* without those that are no JSON; their keys, and the types of their values, are added to *found*.

    The keys are an attribute of their own, so that a reader knows what is missing.
    """
    found = {} if found is None else found
    valid: dict[str, Any] = {}
    for key, value in attributes.items():
        try:
            ndjson.dumps({key: value}).encode()
        except _NO_JSON:
            found[_as_text(key)] = type(value if isinstance(key, str) else key).__name__
        else:
            valid[key] = value
    return {**valid, INVALID: [*found]} if found else valid


def _as_text(key: object) -> str:
    try:
        return str(key).encode("utf-8", "replace").decode()[:256]
    except Exception:  # noqa: BLE001 - a key of any class
        return type(key).__name__


def shortened(line: bytes, limit: int, envelope: Mapping[str, str]) -> tuple[bytes, str]:
    """Return the line of a too large event with its longest text cut, and the reason in it.

    If that is not enough, only the *envelope* stays.
    """
    start = f"the event had {len(line) - 1} bytes, more than {limit}:"
    fields: Any = ndjson.loads(line.decode())
    name, holder, key = _longest_text(fields, envelope)
    reason = f'{start} the text of "{name}" was cut'
    if holder is not None:
        fields |= {"truncated": True, "reason": reason}
        text, holder[key] = holder[key], "…"
        room = limit - len(ndjson.dumps(fields).encode())
        if cut := _start_of(text, room):
            holder[key] = f"{cut}…"
            return f"{ndjson.dumps(fields)}\n".encode(), reason
    reason = f"{start} its attributes were left out"
    return f"{ndjson.dumps({**envelope, 'truncated': True, 'reason': reason})}\n".encode(), reason


def _longest_text(fields: dict[str, Any], envelope: Mapping[str, str]) -> tuple[str, Any, Any]:
    """Return the longest text at any depth: its name, and where it is; None where there is none."""
    longest, found = 0, ("", None, None)
    places: list[tuple[str, Any, Any]] = [(key, fields, key) for key in fields if key not in (*envelope, *_OURS)]
    for name, holder, key in places:
        value = holder[key]
        if isinstance(value, str) and len(value.encode()) > longest:
            longest, found = len(value.encode()), (name[:256], holder, key)
        elif isinstance(value, dict):
            places += [(f"{name}.{inner}", value, inner) for inner in value]
        elif isinstance(value, list):
            places += [(name, value, index) for index in range(len(value))]
    return found


def _start_of(text: str, room: int) -> str:
    """Return as many characters of *text* as have at most *room* bytes in JSON."""
    least, most = 0, max(0, min(len(text), room))
    while least < most:
        middle = (least + most + 1) // 2
        if len(ndjson.quoted(text[:middle]).encode()) - 2 <= room:
            least = middle
        else:
            most = middle - 1
    return text[:least]


def is_news(kind: Hashable, told: dict[Hashable, float]) -> bool:
    """Return whether *kind* was not told in the last minute, and note in *told* that it is told now."""
    now = time.monotonic()
    if now - told.get(kind, -_NEWS_EVERY) < _NEWS_EVERY:
        return False
    if len(told) >= _MOST_NEWS:
        told.clear()
    told[kind] = now
    return True
