"""Where events are sent to, and what each of these places takes."""

from __future__ import annotations

import re
from dataclasses import dataclass

from rillevents.serve.arrival import Parse, parse_local, parse_ndjson, parse_wrapped
from rillevents.serve.limits import MAX_INFLATED_BYTES, MAX_LOCAL_BYTES

_STREAM = re.compile(r"/events/([A-Za-z0-9._~-]{1,128})")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """What takes events: their stream, how it reads a body, and whether a page of an allowed origin needs no credentials."""

    stream: str
    parse: Parse = parse_ndjson
    limit: int = MAX_INFLATED_BYTES
    is_local: bool = False


_ENDPOINTS = {
    "/events/default": Endpoint("default"),
    "/local/track": Endpoint("local", parse_local, MAX_LOCAL_BYTES, is_local=True),
    "/v1/telemetry/events": Endpoint("telemetry", parse_wrapped, MAX_LOCAL_BYTES),
}


def endpoint_at(path: str) -> Endpoint | None:
    """Return what takes events at *path*, None where nothing does."""
    known = _ENDPOINTS.get(path)
    if known:
        return known
    found = _STREAM.fullmatch(path)
    return Endpoint(found[1]) if found else None
