"""Answers: a status, a body, and the headers."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from rillevents.serve.limits import RETRY_AFTER_SECONDS
from rillevents.store.incoming import Stored

Headers = Mapping[bytes, bytes]

# A long answer gives shorter reasons: the client reads an answer only up to a limit.
_MANY_REJECTED, _SHORT_REASON = 2000, 40


class Answer:
    """A status, a body, and `fields`, the headers: *headers* plus those of every answer."""

    __slots__ = ("body", "fields", "status")

    def __init__(self, status: int, body: bytes = b"", headers: Sequence[tuple[bytes, bytes]] = ()) -> None:
        self.status = status
        self.body = body
        fields = [] if status == 204 else [(b"content-length", b"%d" % len(body))]
        if body and not any(name == b"content-type" for name, _ in headers):
            fields.append((b"content-type", b"application/json"))
        self.fields = [*fields, *headers]


class Refused(Exception):
    """Ends the request with this answer."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer.status)
        self.answer = answer


def all_good(accepted: int, duplicates: int) -> Answer:
    """Return the answer when every line was an event and is now kept."""
    if accepted == 1 and not duplicates:
        return _ONE_ACCEPTED
    return Answer(200, b'{"accepted":%d,"duplicates":%d,"rejected":[]}' % (accepted, duplicates))


_ONE_ACCEPTED = Answer(200, b'{"accepted":1,"duplicates":0,"rejected":[]}')


def judged(status: int, stored: Stored, rejected: Sequence[tuple[int, str]]) -> Answer:
    """Return the answer when some lines, given by number, were not accepted, with the reasons."""
    short = len(rejected) > _MANY_REJECTED
    told = [{"line": line, "reason": reason[:_SHORT_REASON] if short else reason} for line, reason in rejected]
    body = {"accepted": stored.accepted, "duplicates": stored.duplicates, "rejected": told}
    return Answer(status, json.dumps(body, separators=(",", ":")).encode())


def problem(status: int, reason: str, *headers: tuple[bytes, bytes]) -> Answer:
    """Return the answer to a request that failed."""
    return Answer(status, json.dumps({"error": reason}).encode(), headers)


def later(reason: str) -> Answer:
    """Return an answer that asks the client to keep its events and retry later."""
    return problem(503, reason, (b"retry-after", b"%d" % RETRY_AFTER_SECONDS))


def too_large(reason: str) -> Answer:
    """Return the answer to a request that brings more than allowed."""
    return problem(413, reason)


def preflight(headers: Headers) -> Answer:
    """Tell a browser what a page of an allowed origin may send; the origin has been checked already."""
    allowed = [
        (b"access-control-allow-methods", b"POST"),
        (b"access-control-allow-headers", b"authorization, content-encoding, content-type"),
        (b"access-control-max-age", b"600"),
    ]
    if headers.get(b"access-control-request-private-network") == b"true":
        allowed.append((b"access-control-allow-private-network", b"true"))
    return Answer(204, b"", tuple(allowed))
