"""What the body of a 2xx says about single events: a destination may take a batch and refuse a part of it.

The known forms, each with its source. Another body does not change what a 2xx means; if it tells of an error, somebody hears
of it.
"""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from rillevents.delivery.outcome import Kind, Outcome, clean
from rillevents.local.files import BOM


class _Count(NamedTuple):
    """A form that tells how many events were refused: where the number is, and a field that the form always has, too."""

    path: tuple[str, ...]
    beside: str
    source: str


_COUNTS = (
    _Count(
        ("partialSuccess", "rejectedLogRecords"),
        "partialSuccess",
        "OTLP/HTTP, https://opentelemetry.io/docs/specs/otlp/#partial-success-1",
    ),
    _Count(
        ("quarantined_rows",),
        "successful_rows",
        "Tinybird Events API, https://www.tinybird.co/docs/api-reference/events-api",
    ),
    _Count(("failed",), "ingested", "Axiom ingest API, https://axiom.co/docs/restapi/endpoints/ingestIntoDataset"),
)
# {"errors": true, "items": [{"index": {"status": 400, "error": {"reason": "…"}}}]}, an item for each event:
# Elasticsearch and OpenSearch, https://www.elastic.co/docs/api/doc/elasticsearch/operation/operation-bulk
# An item's status may be 429 or 5xx: that event alone is to be sent again.
_BULK = ("errors", "items")
# {"rejected": [{"line": 1, "reason": "…"}]}: rillevents serve.
_NAMED = "rejected"

_ERROR_FIELDS = (
    "error",
    "errors",
    "error_message",
    "errorMessage",
    "failed",
    "failures",
    "failure",
    "rejected",
    "invalid",
)
_DEFAULT_REASON = "rejected by the destination"


def acknowledgement(body: bytes, lines: int) -> Outcome:
    """Return what a 2xx with this body means for a batch of *lines* lines; never raises."""
    told = _object(body)
    if isinstance(told.get(_NAMED), list):
        return Outcome(Kind.ACCEPTED, rejected=_named(told[_NAMED], lines))
    if told.get(_BULK[0]) is True:
        return _bulk(told, lines)
    for form in _COUNTS:
        count = _number(_at(told, form.path)) if form.beside in told else None
        if count:
            return _unidentified(count, lines, body)
    inner = told.get("partialSuccess")
    if any(part.get(field) for part in (told, inner) if isinstance(part, dict) for field in _ERROR_FIELDS):
        return Outcome(
            Kind.ACCEPTED, warning=clean(b"the destination acknowledged events and told of an error: " + body)
        )
    return Outcome(Kind.ACCEPTED)


def _object(body: bytes) -> dict[str, Any]:
    # Decoded here, since json would guess UTF-16 from bytes: JSON on the wire is UTF-8. A damaged reason loses no count.
    text = body.removeprefix(BOM).decode("utf-8", "replace").lstrip(" \t\r\n")
    if not text.startswith("{"):
        return {}
    try:
        told = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return told if isinstance(told, dict) else {}


def _named(entries: list[Any], lines: int) -> tuple[tuple[int, str], ...]:
    found: dict[int, str] = {}
    for entry in entries:
        line = entry.get("line") if isinstance(entry, dict) else None
        if type(line) is int and 1 <= line <= lines:
            reason = entry.get("reason")
            found.setdefault(line - 1, clean(reason if isinstance(reason, str) else "") or _DEFAULT_REASON)
    return tuple(sorted(found.items()))


def _bulk(told: dict[str, Any], lines: int) -> Outcome:
    items = told.get(_BULK[1])
    if not isinstance(items, list) or len(items) != lines:
        return _unidentified(lines, lines, json.dumps(told).encode())
    results = [next(iter(item.values()), None) if isinstance(item, dict) else None for item in items]
    errors = {at: result for at, result in enumerate(results) if isinstance(result, dict) and result.get("error")}
    for_now = [result for result in errors.values() if _is_for_now(result.get("status"))]
    if for_now:
        reason = f"{len(for_now)} of {lines} events were refused for now: {_reason_of(for_now[0]['error'])}"
        accepted = tuple(at for at in range(lines) if at not in errors)
        return Outcome(Kind.TEMPORARY, clean(reason), acknowledged=accepted)
    return Outcome(Kind.ACCEPTED, rejected=tuple((at, _reason_of(each["error"])) for at, each in errors.items()))


def _is_for_now(status: object) -> bool:
    """Whether an item's status asks for patience: 429, which is a full queue, and 5xx."""
    return isinstance(status, int) and (status == 429 or 500 <= status < 600)


def _reason_of(error: object) -> str:
    text = error.get("reason") if isinstance(error, dict) else error
    return clean(text if isinstance(text, str) else "") or _DEFAULT_REASON


def _unidentified(count: int, lines: int, body: bytes) -> Outcome:
    count = min(count, lines)
    which = "" if lines == 1 else f"unidentified: {count} of {lines} events were refused, and not said which: "
    return Outcome(Kind.ACCEPTED, clean(which.encode() + body), unidentified=count)


def _at(told: object, path: tuple[str, ...]) -> object:
    for key in path:
        told = told.get(key) if isinstance(told, dict) else None
    return told


def _number(value: object) -> int | None:
    """Return a count, which may be a text: in JSON, protobuf writes 64-bit integers so."""
    if isinstance(value, str) and value.isascii() and value.isdigit():
        return int(value[:18])
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None
