"""One metric for each HTTP request of a WSGI application: Flask and others."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sized
from typing import TYPE_CHECKING, Any, cast

from rillevents.integrations._request import ROUTE, request_attributes

if TYPE_CHECKING:
    from rillevents.recording import Client

    Environ = dict[str, Any]
    StartResponse = Callable[..., Callable[[bytes], object]]
    Application = Callable[[Environ, StartResponse], Iterable[bytes]]


class EventMiddleware:
    """A WSGI application around *app* that records a metric *name* a request, its value the seconds until its body was closed.

    Its attributes are those of the ASGI one: `method`, `status`, `unit` ("s"), `route` (Flask's rule, such as `/users/<id>`) and
    `error`. An application may set `environ["rillevents.route"]` itself. Paths, queries, headers, bodies and addresses are never
    read. With Flask: `app.wsgi_app = EventMiddleware(app.wsgi_app, client)`.
    """

    def __init__(self, app: Application, client: Client, *, name: str = "http-request") -> None:
        self.app = app
        self.client = client
        self.name = name

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        """Answer one request."""
        request = _Request(self, environ)

        def started(status: str, headers: list[tuple[str, str]], *more: Any) -> Callable[[bytes], object]:
            request.status = int(status[:3]) if status[:3].isdigit() else 0
            # Now: Flask takes its request out of the environ when it leaves.
            request.route = _route(environ)
            return start_response(status, headers, *more)

        try:
            body = self.app(environ, started)
            if _is_file(body, environ) and _ends(body, request):
                return body
            return (_SizedBody if isinstance(body, Sized) else _Body)(body, request)
        except BaseException:
            request.failed()
            raise


class _Request:
    """What is known of a request, and its metric, which is recorded once."""

    def __init__(self, middleware: EventMiddleware, environ: Environ) -> None:
        self._middleware = middleware
        self._environ = environ
        self._started = time.perf_counter()
        self._is_over = False
        self.status = 0
        self.route = ""

    def failed(self) -> None:
        """Record that the exception under way ended the request."""
        kind = sys.exc_info()[0]
        if kind and issubclass(kind, Exception):
            self.status = self.status or 500
        self.over(kind.__name__ if kind else "")

    def over(self, error: str = "") -> None:
        """Record the metric, unless it is already."""
        if self._is_over:
            return
        self._is_over = True
        route = self.route or _route(self._environ)
        found = request_attributes(self._environ.get("REQUEST_METHOD"), self.status, route, error)
        self._middleware.client.record_metric(self._middleware.name, time.perf_counter() - self._started, found)


class _Body:
    """The body of a response, which ends its request when it is closed."""

    def __init__(self, body: Iterable[bytes], request: _Request) -> None:
        self._body = body
        self._request = request

    def __iter__(self) -> Iterator[bytes]:
        try:
            yield from self._body
        except GeneratorExit:
            raise
        except BaseException:
            self._request.failed()
            raise

    def close(self) -> None:
        """Close the application's body, as the server has to."""
        try:
            close = getattr(self._body, "close", None)
            if close:
                close()
        finally:
            self._request.over()


class _SizedBody(_Body):
    """The same of a list: servers take the length of its one part for the response's."""

    def __len__(self) -> int:
        return len(cast("Sized", self._body))


def _is_file(body: Any, environ: Environ) -> bool:
    """Return whether a server sends this body by itself, as a file; it knows that by its class."""
    wrapper = environ.get("wsgi.file_wrapper")
    if not isinstance(wrapper, type) or not isinstance(body, wrapper):
        return False
    file: Any = getattr(body, "filelike", None)
    try:
        file.fileno()
    except Exception:  # noqa: BLE001 - somebody else's object: what is no file is read here, and can fail meanwhile
        return False
    return True


def _ends(body: Any, request: _Request) -> bool:
    """Let a body end its request when it is closed, and return whether that is possible without one around it."""
    close = getattr(body, "close", None)

    def closed() -> None:
        try:
            if close:
                close()
        finally:
            request.over()

    try:
        body.close = closed
    except AttributeError:
        return False
    return True


def _route(environ: Environ) -> str:
    """Return the rule that served a request, "" if it is not known."""
    try:
        # Werkzeug leaves its request there, and Flask the rule in it.
        rule = getattr(environ.get("werkzeug.request"), "url_rule", None)
        return str(environ.get(ROUTE) or getattr(rule, "rule", "") or "")
    except Exception:  # noqa: BLE001 - somebody else's objects
        return ""
