"""Events of all kinds, and what becomes of their values on the way."""

from __future__ import annotations

import json
import random
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rillevents.event import format_time

TYPES = ("behavioral", "behavioral", "metric", "log", "audit")
LEVELS = {"debug": 5, "info": 9, "warn": 13, "error": 17}
SERVICES: tuple[dict[str, Any], ...] = (
    {},
    {"service_name": "shop"},
    {"service_name": "worker", "service_version": "1.2.3"},
)
TEXTS = (
    "plain",
    "Zürich, 東京, \u2028, \U0001f389",
    'a "quote", a \\, a </tag>',
    "two\nlines\tand \x01\x7f",
    "0123456789" * 30,
    "17",
    "true",
)
WHOLE = (0, -1, 2**53 + 1, 2**63 - 1, -(2**63))
FLOATS = (1.0, 0.1, -2.5e-7, 1e300, 5e-324, 123456789.125)
# A control character of a text in a list, as VictoriaLogs writes it if it came by OTLP: as in a program in Go, not as in JSON.
_GO_ESCAPE = re.compile(r"\\\\|\\x([0-9a-f]{2})")
HOUR = 3600 * 10**9


def write_mixed(path: Path, count: int, seed: int) -> dict[str, dict[str, Any]]:
    """Write so many events of the last hour as NDJSON, the same ones for a *seed* but for their times; return them by ID."""
    rng, now = random.Random(seed), time.time_ns()
    events = [_event(rng, number, now - rng.randrange(HOUR)) for number in range(count)]
    path.write_text("".join(json.dumps(event, ensure_ascii=False) + "\n" for event in events))
    return {event["event_id"]: event for event in events}


def _event(rng: random.Random, number: int, time_ns: int) -> dict[str, Any]:
    event_type = rng.choice(TYPES)
    event = {
        "event_id": f"{rng.getrandbits(64):016x}-{number}",
        "event_time": format_time(time_ns),
        "event_type": event_type,
        "event_name": f"{event_type}-{rng.randrange(20)}",
        **rng.choice(SERVICES),
    }
    if event_type == "metric":
        event["value"] = rng.choice((*FLOATS, *WHOLE, rng.random()))
    if event_type == "log":
        event["message"] = f"{rng.choice(TEXTS)} {number}"
        event["level"] = rng.choice(list(LEVELS))
        event |= {"trace_id": f"{rng.getrandbits(128) | 1:032x}", "span_id": f"{rng.getrandbits(64) | 1:016x}"}
    possible = _attributes(rng, number)
    return event | {key: possible[key] for key in rng.sample(sorted(possible), rng.randint(1, 8))}


def _attributes(rng: random.Random, number: int) -> dict[str, Any]:
    text, whole, fraction = rng.choice(TEXTS), rng.choice(WHOLE), rng.choice(FLOATS)
    return {
        "text": text,
        "whole": whole,
        "number": number,
        "large": rng.choice((1, -1)) * rng.randrange(10**19, 10**20),
        "fraction": fraction,
        "ok": rng.random() < 0.5,
        "nested": {"deep": {"whole": whole, "text": text, "nothing": None, "ok": True}, "list": [fraction, text]},
        "list": [whole, text, False, None, fraction, {"large": 2**64, "x": [1, []], "nothing": None}],
        "nothing": None,
        "empty": "",
        "no items": [],
        "no_keys": {},
        "größe.µ/%": text,
    }


def in_otlp(value: Any) -> Any:
    """Return a value as OTLP can say it: a whole number beyond 64 bits is text there."""
    if isinstance(value, dict):
        return {key: in_otlp(each) for key, each in value.items()}
    if isinstance(value, list):
        return [in_otlp(each) for each in value]
    return str(value) if type(value) is int and not -(2**63) <= value < 2**63 else value


def flat(fields: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Return the fields that VictoriaLogs makes of an object: `a.b` for a nested one, and none where there is nothing."""
    for key, value in fields.items():
        if isinstance(value, dict):
            yield from flat(value, f"{prefix}{key}.")
        elif value not in (None, ""):
            yield prefix + key, value


def read_as(value: Any, text: str) -> Any:
    """Return what *text*, as which VictoriaLogs keeps every value, says if it is read as what *value* is."""
    if isinstance(value, (bool, list)):
        told = json.loads(_GO_ESCAPE.sub(lambda found: rf"\u00{found[1]}" if found[1] else found[0], text))
        return _of_type(value, told)
    return type(value)(text)


def _of_type(value: Any, told: Any) -> Any:
    if isinstance(value, list) and len(value) == len(told):
        return [_of_type(*pair) for pair in zip(value, told, strict=True)]
    # What came by OTLP as 1.0 is written as 1.
    return float(told) if (type(value), type(told)) == (float, int) else told


def exact(value: Any) -> str:
    """Return a text that differs for 1, 1.0, "1" and true, and not for another order of the keys."""
    return json.dumps(value, sort_keys=True)
