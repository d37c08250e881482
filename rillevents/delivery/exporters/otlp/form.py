"""What a log record is written with: protobuf or JSON, and what both have in common."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

INT64 = 1 << 63
# Each level is three messages in protobuf, and readers in Python, C++ and Java give up at 100.
MAX_DEPTH = 28
# https://opentelemetry.io/docs/specs/otel/logs/data-model/#field-severitynumber; the words are those of syslog, Python and Go.
SEVERITIES = {
    "trace": 1,
    "debug": 5,
    "info": 9,
    "notice": 10,
    "warn": 13,
    "warning": 13,
    "error": 17,
    "err": 17,
    "critical": 21,
    "crit": 21,
    "fatal": 21,
    "alert": 22,
    "emergency": 23,
    "emerg": 23,
    "panic": 23,
}

Resource = tuple[str, str]


class Form(Protocol):
    """How log records are written: pieces, and what they are joined to."""

    content_type: str

    def attribute(self, key: str, value: Any) -> bytes:
        """Return an attribute."""

    def texts(self, key: str, values: Sequence[str]) -> list[bytes]:
        """Return an attribute for each of many texts."""

    def floats(self, key: str, values: Sequence[float]) -> list[bytes]:
        """Return an attribute for each of many floats."""

    def time(self, nanoseconds: int) -> bytes:
        """Return a record's time; b"" for 0."""

    def name(self, text: str) -> bytes:
        """Return a record's event name."""

    def body(self, text: str) -> bytes:
        """Return a record's body; b"" without a text."""

    def severity(self, level: str) -> bytes:
        """Return a record's severity; b"" without a text."""

    def trace_id(self, digits: str) -> bytes:
        """Return a record's trace ID."""

    def span_id(self, digits: str) -> bytes:
        """Return a record's span ID."""

    def record(self, fields: Sequence[bytes], attributes: Sequence[bytes], now: int) -> bytes:
        """Return the record whose pieces these are, some of them empty; observed *now*, in nanoseconds since 1970."""

    def records(self, fields: list[list[bytes]], attributes: list[list[bytes]], now: int) -> list[bytes]:
        """Return many records, of which each list has a field or an attribute."""

    def joined(self, records: Sequence[bytes]) -> bytes:
        """Return several records of one resource in one piece."""

    def request(self, groups: Mapping[Resource, list[bytes]]) -> bytes:
        """Return the body of a request: for each resource its records, or pieces of several."""


def as_text(value: object) -> str:
    """Return the JSON text of a value for which OTLP has no type."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def utf8(text: str) -> bytes:
    """Return a text in UTF-8; half a character, which JSON can hold, becomes U+FFFD."""
    try:
        return text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace").encode()
