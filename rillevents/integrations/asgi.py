"""One metric for each HTTP request of an ASGI application: FastAPI, Starlette and others."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import TYPE_CHECKING, Any

from rillevents.integrations._request import ROUTE, request_attributes

if TYPE_CHECKING:
    from rillevents.recording import Client

    Scope = MutableMapping[str, Any]
    Message = MutableMapping[str, Any]
    Receive = Callable[[], Awaitable[Message]]
    Send = Callable[[Message], Awaitable[None]]
    Application = Callable[[Scope, Receive, Send], Awaitable[None]]


class EventMiddleware:
    """An ASGI application around *app* that records a metric *name* a request: the seconds until its last byte was sent.

    Its attributes are `method`, `status`, `unit` ("s"), `route` (the route's template, such as `/users/{id}`, where the framework
    tells it), and `error`, the class of an exception that left the application, whose status is 500. Paths, queries, headers,
    bodies and addresses are never read. An application may set `scope["rillevents.route"]` itself. WebSockets and lifespan pass
    through. The event is recorded on the event loop: with a client that spools, that takes some ten microseconds.
    """

    def __init__(self, app: Application, client: Client, *, name: str = "http-request") -> None:
        self.app = app
        self.client = client
        self.name = name

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started, status, error = time.perf_counter(), 0, ""

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self.app(scope, receive, watched)
        except BaseException as raised:
            error = type(raised).__name__
            # A request that was cancelled, because the client has gone, has no answer of ours.
            status = status or (500 if isinstance(raised, Exception) else 0)
            raise
        finally:
            found = request_attributes(scope.get("method"), status, _route(scope), error)
            self.client.record_metric(self.name, time.perf_counter() - started, found)


def _route(scope: Scope) -> str:
    """Return the template of the route that served a request, "" if it is not known."""
    try:
        if given := scope.get(ROUTE):
            return str(given)
        # FastAPI from 0.165 on: its route lacks the prefix that a router was included with.
        effective = (scope.get("fastapi") or {}).get("effective_route_context")
        if effective is not None:
            return str(effective.path)
        endpoint, route = scope.get("endpoint"), scope.get("route")
        routes = getattr(scope.get("app"), "routes", None) or ()
        return (_template(routes, endpoint) if endpoint is not None else "") or str(getattr(route, "path", ""))
    except Exception:  # noqa: BLE001 - somebody else's objects
        return ""


def _template(routes: Iterable[Any], endpoint: object) -> str:
    """Return the template of an endpoint's route, with those of the mounts around it."""
    for route in routes:
        path = getattr(route, "path", "")
        if getattr(route, "endpoint", None) is endpoint:
            return str(path)
        inner = _template(getattr(route, "routes", None) or (), endpoint)
        if inner:
            return f"{path}{inner}"
    return ""
