"""Which request gets which answer: an ASGI application. A small request costs little, so there is no framework.

POST /events/{stream}  /local/track  /v1/telemetry/events  /v1/telemetry    events
POST /v1/logs                                                              OpenTelemetry's log records
GET  /healthz  /readyz  /metrics                                           monitoring
GET  /  /page.js  /page.css  /api/…                                        people on this machine
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from rillevents.serve import otlp
from rillevents.serve.access import Access, is_direct
from rillevents.serve.body import Body, ClientDisconnected, Reading, Receive
from rillevents.serve.commit import Committer, Overloaded
from rillevents.serve.endpoints import Endpoint, endpoint_at, endpoint_for
from rillevents.serve.metrics import Metrics, exposition
from rillevents.serve.response import Answer, Headers, Refused, all_good, judged, later, preflight, problem
from rillevents.store.incoming import Incoming, Stored, Unavailable
from rillevents.store.insertion import CONFLICT

Scope = MutableMapping[str, Any]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

_MOST_FAULTS = 20
_OPEN = ("/healthz", "/readyz", "/metrics")
# Views answered at the same time; further ones wait.
_READERS = 2


class App:
    """Answers requests; *committer* stores events, *views* maps each viewable path to the function that answers it.

    *allowed* says whether events are accepted now: nothing is forwarded for a user who has opted out. *has_passed* says whether
    a request has passed this server before.
    """

    def __init__(
        self,
        access: Access,
        committer: Committer,
        metrics: Metrics,
        *,
        views: Mapping[str, Callable[[Mapping[str, str]], Answer]] | None = None,
        allowed: Callable[[], bool] = lambda: True,
        gauges: Callable[[], tuple[Mapping[str, float], Mapping[str, float]]] = lambda: ({}, {}),
        on_stored: Callable[[Incoming, Stored], None] | None = None,
        has_passed: Callable[[Headers], bool] = lambda headers: False,
        warn: Callable[[str], None] = lambda message: None,
    ) -> None:
        self._access = access
        self._committer = committer
        self._metrics = metrics
        self._views = views or {}
        self._allowed = allowed
        self._gauges = gauges
        self._on_stored = on_stored
        self._has_passed = has_passed
        self._warn = warn
        self._faults: set[str] = set()
        self._reading = Reading(metrics)
        self._readers = ThreadPoolExecutor(_READERS, "rillevents-view")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        headers: dict[bytes, bytes] = dict(scope["headers"])
        body = Body(receive, headers)
        try:
            answer = await self._answer(scope, headers, body)
        except Refused as refused:
            answer = refused.answer
        except ClientDisconnected:
            return
        except Exception as error:  # noqa: BLE001 - a client learns only that there was an internal error
            self._tell_fault(f"{type(error).__name__}: {error}")
            answer = problem(500, "internal error")
        if scope["path"] == "/v1/logs" and answer.status >= 400:
            answer = otlp.refusal(headers.get(b"content-type", b""), answer)
        self._metrics.answers[answer.status] += 1
        found = answer.fields
        if b"origin" in headers:
            found = [*found, *self._shared_with(headers[b"origin"], scope["path"])]
        if not body.ended and not await body.passed_over():
            found = [*found, (b"connection", b"close")]
        await send({"type": "http.response.start", "status": answer.status, "headers": found})
        await send({"type": "http.response.body", "body": answer.body})

    def _tell_fault(self, fault: str) -> None:
        """Warn the operator once for each kind of error, since a client may repeat its request again and again."""
        if fault not in self._faults and len(self._faults) < _MOST_FAULTS:
            self._faults.add(fault)
            self._warn(f"internal error, answered with 500: {fault}; please report it")

    def _shared_with(self, origin: bytes, path: str) -> list[tuple[bytes, bytes]]:
        """Return the headers that let a page of an allowed origin read the answer.

        Only on paths that take events: no other page may read what is shown to people here.
        """
        if not self._access.allows_origin(origin) or not endpoint_at(path):
            return []
        allowed = [(b"access-control-allow-origin", origin), (b"access-control-allow-credentials", b"true")]
        return [*allowed, (b"vary", b"Origin")]

    async def _answer(self, scope: Scope, headers: Headers, body: Body) -> Answer:
        path, method = scope["path"], scope["method"]
        if path in _OPEN:
            return self._watched(path, method, scope, headers)
        self._admit(headers)
        endpoint = endpoint_at(path)
        if endpoint is None:
            return await self._show(path, method, scope, headers)
        if method == "POST":
            return await self._take(endpoint, scope, headers, body)
        if method == "OPTIONS":
            return preflight(headers)
        return problem(405, "events must be sent by POST", (b"allow", b"POST, OPTIONS"))

    def _admit(self, headers: Headers) -> None:
        if not self._access.allows_host(headers.get(b"host")):
            raise Refused(
                problem(403, "this Host is not allowed here; to allow it, start the server with --allow-host")
            )
        origin = headers.get(b"origin")
        if origin is not None and not self._access.allows_origin(origin):
            raise Refused(
                problem(403, "this Origin is not allowed here; to allow it, start the server with --allow-origin")
            )

    def _authenticate(self, headers: Headers) -> None:
        if not self._access.allows(headers.get(b"authorization")):
            raise Refused(
                problem(
                    401, "a user name and a password are required", (b"www-authenticate", b'Basic realm="rillevents"')
                )
            )

    async def _take(self, endpoint: Endpoint, scope: Scope, headers: Headers, body: Body) -> Answer:
        if self._access.needs_credentials and not (endpoint.is_local and self._is_vouched_for(scope, headers)):
            self._authenticate(headers)
        if not self._allowed():
            return Answer(204) if endpoint.is_local else problem(403, "telemetry is off here: no events are accepted")
        if self._has_passed(headers):
            return problem(508, "these events have passed this server before: they would go round for ever")
        endpoint = endpoint_for(endpoint, headers.get(b"content-type", b""))
        incoming = await self._reading.events(endpoint, headers, body)
        incoming.stream, incoming.received_us = endpoint.stream, time.time_ns() // 1000
        if not incoming.lines and not incoming.bad:
            if endpoint.otlp:
                return otlp.accepted(endpoint.otlp, ())
            return all_good(0, 0) if endpoint.is_local else problem(400, "the body contains no event")
        try:
            stored = await self._committer.submit(incoming)
        except Overloaded:
            return later("too many events are waiting for the disk")
        if isinstance(stored, Unavailable):
            return later("events cannot be stored now")
        if self._on_stored:
            self._on_stored(incoming, stored)
        return self._verdict(incoming, stored, endpoint)

    def _is_vouched_for(self, scope: Scope, headers: Headers) -> bool:
        # The Origin vouches for a beacon, which cannot carry credentials.
        return self._access.vouches(headers.get(b"origin"), is_local=is_direct(scope["client"], headers))

    def _verdict(self, incoming: Incoming, stored: Stored, endpoint: Endpoint) -> Answer:
        counts = self._metrics.events
        counts["accepted"] += stored.accepted
        if stored.accepted == len(incoming.lines) and not incoming.bad:
            return otlp.accepted(endpoint.otlp, ()) if endpoint.otlp else all_good(stored.accepted, 0)
        counts["duplicates"] += stored.duplicates
        counts["conflicts"] += len(stored.conflicts)
        counts["invalid"] += len(incoming.bad)
        rejected = [(bad.number, bad.reason) for bad in incoming.bad]
        rejected += [(incoming.numbers[index], CONFLICT) for index in stored.conflicts]
        if endpoint.otlp:
            return otlp.accepted(endpoint.otlp, [reason for _, reason in sorted(rejected)])
        kept = endpoint.is_local or stored.accepted or stored.duplicates
        return judged(200 if kept else 400, stored, sorted(rejected))

    def _watched(self, path: str, method: str, scope: Scope, headers: Headers) -> Answer:
        if method not in ("GET", "HEAD"):
            return problem(405, "this is asked for by GET", (b"allow", b"GET, HEAD"))
        if path == "/healthz":
            return Answer(200, b'{"status":"ok"}')
        if path == "/readyz":
            ready = not self._committer.problem
            return Answer(200, b'{"status":"ready"}') if ready else later("events cannot be stored now")
        # Any Host will do: a scraper addresses the server by its IP address.
        if not is_direct(scope["client"], {**headers, b"host": b"localhost"}):
            self._authenticate(headers)
        gauges, counters = self._gauges()
        waiting = {"waiting_events": self._committer.events, "waiting_bytes": self._committer.bytes}
        body = exposition(self._metrics, {**waiting, **gauges}, counters)
        return Answer(200, body, ((b"content-type", b"text/plain; version=0.0.4; charset=utf-8"),))

    async def _show(self, path: str, method: str, scope: Scope, headers: Headers) -> Answer:
        found = self._views.get(path)
        if found is None:
            return problem(404, "not found; send events to /events/default")
        if method not in ("GET", "HEAD"):
            return problem(405, "this is asked for by GET", (b"allow", b"GET, HEAD"))
        if not is_direct(scope["client"], headers):
            return problem(403, "this is only shown on the server's own machine")
        # Another site's page that only triggers the request sends no Origin; it would still make us count.
        if path != "/" and headers.get(b"sec-fetch-site", b"none") not in (b"same-origin", b"none"):
            return problem(403, "this is only for this server's own page")
        self._authenticate(headers)
        # On a thread: scanning a store of millions takes time, and events must not wait for a viewer.
        # On a pool of its own: the loop's threads parse bodies and must not be busy with views.
        return await asyncio.get_running_loop().run_in_executor(self._readers, found, _query(scope["query_string"]))


def _query(text: bytes) -> dict[str, str]:
    from urllib.parse import parse_qsl

    try:
        given = parse_qsl(text.decode("latin-1"), keep_blank_values=True, max_num_fields=20)
    except ValueError:
        raise Refused(problem(400, "too many parameters")) from None
    found = dict(given)
    if len(found) < len(given):
        twice = next(name for name in found if sum(name == each for each, _ in given) > 1)
        raise Refused(problem(400, f"{twice[:40]} is given more than once"))
    return {name: value for name, value in given if value}
