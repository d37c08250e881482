"""What both kinds of servers tell of a request: nothing that somebody outside can choose freely."""

from __future__ import annotations

from typing import Any

# Where an application puts a template of its own: a key of ASGI's scope, or of WSGI's environ.
ROUTE = "rillevents.route"
_METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT"))


def request_attributes(method: object, status: int, route: str, error: str) -> dict[str, Any]:
    """Return the attributes of a request; a method that HTTP does not define is `OTHER`, and what is unknown is left out."""
    found: dict[str, Any] = {"method": method if method in _METHODS else "OTHER", "unit": "s"}
    found |= {"status": status} if status else {}
    found |= {"route": route} if route else {}
    return found | ({"error": error} if error else {})
