"""The paths that take events, and what each of them accepts."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from rillevents.serve import otlp
from rillevents.serve.limits import MAX_INFLATED_BYTES, MAX_LOCAL_BYTES, MAX_OTLP_BYTES
from rillevents.serve.parse import Parse, parse_local, parse_ndjson, parse_wrapped, parse_wrapped_one, quick_ndjson
from rillevents.serve.response import Refused, problem
from rillevents.store.incoming import Incoming

_STREAM = re.compile(r"/events/([A-Za-z0-9._~-]{1,128})")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """What takes events: the stream, how a body is parsed, and whether a page of an allowed origin needs no credentials.

    `quick` parses a body if that is quick, and returns None otherwise. `otlp` is the content type of an OTLP endpoint, and of its
    answers.
    """

    stream: str
    parse: Parse = parse_ndjson
    quick: Callable[[bytes], Incoming | None] = quick_ndjson
    limit: int = MAX_INFLATED_BYTES
    is_local: bool = False
    otlp: bytes = b""


def _never(body: bytes) -> Incoming | None:
    return None


_ENDPOINTS = {
    "/events/default": Endpoint("default"),
    "/local/track": Endpoint("local", parse_local, _never, MAX_LOCAL_BYTES, is_local=True),
    "/v1/telemetry/events": Endpoint("telemetry", parse_wrapped, _never, MAX_LOCAL_BYTES),
    # Where an older page of Rill's sends one event at a time.
    "/v1/telemetry": Endpoint("telemetry", parse_wrapped_one, _never, MAX_LOCAL_BYTES),
}


_OTLP = {
    otlp.PROTOBUF: Endpoint("otlp", otlp.parse_otlp_protobuf, _never, MAX_OTLP_BYTES, otlp=otlp.PROTOBUF),
    otlp.JSON: Endpoint("otlp", otlp.parse_otlp_json, _never, MAX_OTLP_BYTES, otlp=otlp.JSON),
}
_ENDPOINTS["/v1/logs"] = _OTLP[otlp.JSON]


def endpoint_for(endpoint: Endpoint, content_type: bytes) -> Endpoint:
    """Return what takes a body of this type at an endpoint; raises Refused if it does not."""
    if not endpoint.otlp:
        return endpoint
    found = _OTLP.get(otlp.kind_of(content_type))
    if found is None:
        raise Refused(problem(415, "OTLP comes as application/x-protobuf or application/json"))
    return found


def endpoint_at(path: str) -> Endpoint | None:
    """Return the endpoint at *path*, None if there is none."""
    known = _ENDPOINTS.get(path)
    if known:
        return known
    found = _STREAM.fullmatch(path)
    return Endpoint(found[1]) if found else None
