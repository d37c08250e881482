"""Events that cannot be written as they are: what is no JSON is left out alone, and a text that is too long is cut.

No way of an ordinary event leads here, so this module is imported only when one is needed.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from rillevents.event import ndjson

INVALID = "invalid_attributes"
_NO_JSON = (TypeError, ValueError, RecursionError)
_NEWS_EVERY, _MOST_NEWS = 60.0, 256


def without_invalid(attributes: Mapping[Any, Any], found: dict[str, str]) -> dict[str, Any]:
    """Return *attributes* without those that are no JSON; their keys, and the types of their values, are added to *found*.

    The keys are an attribute of their own, so that a reader knows what is missing.
    """
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


_told: dict[tuple[str, str, str], float] = {}


def is_news(kind: tuple[str, str, str]) -> bool:
    """Return whether *kind* (event, key, type) was not told in the last minute, and note that it is told now."""
    now = time.monotonic()
    if now - _told.get(kind, -_NEWS_EVERY) < _NEWS_EVERY:
        return False
    if len(_told) >= _MOST_NEWS:
        _told.clear()
    _told[kind] = now
    return True
