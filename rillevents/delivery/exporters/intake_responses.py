"""What an HTTP answer means for a batch, and when to retry; no I/O, and the clock is a parameter."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from urllib.parse import urlsplit

from rillevents.delivery.exporters.acknowledgement import acknowledgement
from rillevents.delivery.outcome import REASON_MAX, Kind, Outcome, clean
from rillevents.local.files import BOM

RETRY_AFTER_MAX = 300.0
PROXY_ADVICE = "give the proxy a user and a password: http://USER:PASSWORD@HOST:PORT"
CREDENTIALS_ADVICE = "check the user and the password, or the token"
LOGIN_PORTAL = "answered with a web page (a login portal?), not an acknowledgement"

_NUMBER = re.compile(r"([+-]?)(\d+(?:\.\d*)?)", re.ASCII)
_KINDS = {
    400: Kind.INVALID,
    401: Kind.REFUSED,
    403: Kind.REFUSED,
    408: Kind.TEMPORARY,
    413: Kind.TOO_LARGE,
    422: Kind.INVALID,
    425: Kind.TEMPORARY,
    429: Kind.TEMPORARY,
    500: Kind.SERVER_ERROR,
    508: Kind.MISCONFIGURED,
}
_ADVICE = {
    401: CREDENTIALS_ADVICE,
    403: CREDENTIALS_ADVICE,
    404: "check the URL",
    407: PROXY_ADVICE,
    410: "check the URL",
    508: "a server must not forward to one that forwards to it; check its --to",
}


def classify(status: int, headers: Mapping[str, str], body: bytes, *, lines: int, now: datetime | float) -> Outcome:
    """Return what the answer to a batch of `lines` lines means; never raises, whatever the server sent.

    Header names are case-insensitive. A `Retry-After` date is compared with `now`.
    """
    fields = {name.lower(): value for name, value in headers.items()}
    if 200 <= status < 300:
        if _is_page(fields.get("content-type", ""), body):
            return Outcome(Kind.TEMPORARY, LOGIN_PORTAL)
        return acknowledgement(body, lines)
    if 300 <= status < 400:
        return Outcome(Kind.MISCONFIGURED, _redirect_reason(status, fields.get("location", "")))
    kind = _KINDS.get(status) or (Kind.MISCONFIGURED if 400 <= status < 500 else Kind.TEMPORARY)
    waits = kind in (Kind.TEMPORARY, Kind.SERVER_ERROR)
    retry_after = retry_after_seconds(fields.get("retry-after"), now) if waits else None
    # A server that says when to come back, or that a login is missing in between, speaks of itself, not of an event.
    fault = status if status > 500 and status not in (508, 511) and retry_after is None else 0
    return Outcome(kind, _reason(status, fields.get("content-type", ""), body), retry_after, fault=fault)


def retry_after_seconds(value: str | None, now: datetime | float) -> float | None:
    """Return the seconds that a `Retry-After` requests, 0 to RETRY_AFTER_MAX, or None if invalid; never raises."""
    text = (value or "").strip()[:100]
    number = _NUMBER.fullmatch(text)
    if number is not None:
        return 0.0 if number[1] == "-" else min(float(number[2]), RETRY_AFTER_MAX)
    try:
        date = parsedate_to_datetime(text)
        seconds = (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp() - _epoch(now)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    return min(max(seconds, 0.0), RETRY_AFTER_MAX)


def _epoch(now: datetime | float) -> float:
    return now.timestamp() if isinstance(now, datetime) else now


def _is_page(content_type: str, body: bytes) -> bool:
    kind = content_type.partition(";")[0].strip().lower()
    start = body[:64].removeprefix(BOM).lstrip().lower()
    return kind in ("text/html", "application/xhtml+xml") or start.startswith((b"<!doctype html", b"<html"))


def _reason(status: int, content_type: str, body: bytes) -> str:
    text = _title(status)
    if status in _ADVICE:
        text += f"; {_ADVICE[status]}"
    if body and not _is_page(content_type, body):
        text += f": {body[: REASON_MAX * 4].decode('utf-8', 'replace')}"
    return clean(text)


def _redirect_reason(status: int, location: str) -> str:
    try:
        parts = urlsplit(location)
        # Without user, query and fragment: they may contain secrets.
        target = parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()
    except ValueError:
        target = ""
    to = f" to {target}" if target else ""
    return clean(f"{_title(status)}: the URL redirects{to}, and redirects are not followed; check the URL")


def _title(status: int) -> str:
    try:
        return f"HTTP {status} {HTTPStatus(status).phrase}"
    except ValueError:
        return f"HTTP {status}"
