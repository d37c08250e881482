"""Log records as the protobuf of an ExportLogsServiceRequest, written by hand.

The generated classes of opentelemetry-proto, with which the tests read what is written here, take several times as long: a flush
would be slower than the programs that it competes with.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from typing import Any

from rillevents.delivery.exporters.otlp.form import INT64, MAX_DEPTH, SEVERITIES, Resource, as_text, utf8


def varint(number: int) -> bytes:
    """Return a number as protobuf writes lengths and counts."""
    found = bytearray()
    while number > 127:
        found.append(number & 127 | 128)
        number >>= 7
    found.append(number)
    return bytes(found)


_FEW = 2048
_LENGTHS = tuple(map(varint, range(_FEW)))
_fixed64 = struct.Struct("<Q").pack
_double = struct.Struct("<d").pack


def _sized(tag: bytes, content: bytes) -> bytes:
    size = len(content)
    return b"%b%b%b" % (tag, _LENGTHS[size] if size < _FEW else varint(size), content)


def _string(text: str) -> bytes:
    """Return an AnyValue with a text."""
    content = utf8(text)
    return b"\x0a%c%b" % (len(content), content) if len(content) < 128 else _sized(b"\x0a", content)


def _any_value(value: Any, depth: int = 0) -> bytes:
    """Return an AnyValue: its one field, or none for null."""
    kind = type(value)
    if kind is str:
        return _string(value)
    if kind is bool:
        return b"\x10\x01" if value else b"\x10\x00"
    if kind is int and -INT64 <= value < INT64:
        return b"\x18" + varint(value & 0xFFFFFFFFFFFFFFFF)
    if kind is float:
        return b"\x21" + _double(value)
    if value is None:
        return b""
    if depth >= MAX_DEPTH or kind is int:
        return _string(as_text(value))
    if kind is dict:
        return _sized(b"\x32", b"".join([_sized(b"\x0a", _key_value(key, value[key], depth + 1)) for key in value]))
    return _sized(b"\x2a", b"".join([_sized(b"\x0a", _any_value(each, depth + 1)) for each in value]))


def _key_value(key: str, value: Any, depth: int = 0) -> bytes:
    name, content = utf8(key), _any_value(value, depth)
    if len(name) < 128 and len(content) < 128:
        return b"\x0a%c%b\x12%c%b" % (len(name), name, len(content), content)
    return _sized(b"\x0a", name) + _sized(b"\x12", content)


class Protobuf:
    """Writes the fields of protobuf; *scope* is who records, *resource* what each resource has beside an event's own."""

    content_type = "application/x-protobuf"

    def __init__(self, scope: Resource, resource: Mapping[str, str]) -> None:
        self._scope = _sized(b"\x0a", _sized(b"\x0a", utf8(scope[0])) + _sized(b"\x12", utf8(scope[1])))
        self._resource = resource

    def attribute(self, key: str, value: Any) -> bytes:
        """Return an attribute."""
        return _sized(b"\x32", _key_value(key, value))

    def texts(self, key: str, values: Sequence[str]) -> list[bytes]:
        """Return an attribute for each of many texts; in one go if they are of one length, as IDs are."""
        sizes = set(map(len, values))
        if len(sizes) == 1 and all(map(str.isascii, values)):
            size = sizes.pop()
            head = self.attribute(key, "x" * size)
            head = head[: len(head) - size]
            return [head + value.encode() for value in values]
        return [self.attribute(key, value) for value in values]

    def floats(self, key: str, values: Sequence[float]) -> list[bytes]:
        """Return an attribute for each of many floats."""
        head = self.attribute(key, 1.0)[:-8]
        return [head + _double(value) for value in values]

    def time(self, nanoseconds: int) -> bytes:
        """Return a record's time; b"" for 0."""
        return b"\x09" + _fixed64(nanoseconds) if nanoseconds else b""

    def name(self, text: str) -> bytes:
        """Return a record's event name."""
        return _sized(b"\x62", utf8(text))

    def body(self, text: str) -> bytes:
        """Return a record's body; b"" without a text."""
        return _sized(b"\x2a", _string(text)) if text else b""

    def severity(self, level: str) -> bytes:
        """Return a record's severity; b"" without a text."""
        number = SEVERITIES.get(level.lower())
        return (b"\x10" + varint(number) if number else b"") + (_sized(b"\x1a", utf8(level)) if level else b"")

    def trace_id(self, digits: str) -> bytes:
        """Return a record's trace ID."""
        return _sized(b"\x4a", bytes.fromhex(digits))

    def span_id(self, digits: str) -> bytes:
        """Return a record's span ID."""
        return _sized(b"\x52", bytes.fromhex(digits))

    def record(self, fields: Sequence[bytes], attributes: Sequence[bytes], now: int) -> bytes:
        """Return the record whose pieces these are; their order does not matter."""
        return _sized(b"\x12", b"\x59%b%b%b" % (_fixed64(now), b"".join(fields), b"".join(attributes)))

    def records(self, fields: list[list[bytes]], attributes: list[list[bytes]], now: int) -> list[bytes]:
        """Return many records."""
        observed = [b"\x59" + _fixed64(now)] * len(fields[0])
        joined = map(b"".join, zip(observed, *fields, *attributes, strict=True))
        # _sized, without a call: every event passes here.
        sized = [(len(record), record) for record in joined]
        return [b"\x12%b%b" % (_LENGTHS[n] if n < _FEW else varint(n), record) for n, record in sized]

    def joined(self, records: Sequence[bytes]) -> bytes:
        """Return several records of one resource in one piece."""
        return b"".join(records)

    def request(self, groups: Mapping[Resource, list[bytes]]) -> bytes:
        """Return the body of a request."""
        return b"".join([self._resource_logs(*group) for group in groups.items()])

    def _resource_logs(self, resource: Resource, records: list[bytes]) -> bytes:
        named = zip(("service.name", "service.version"), resource, strict=True)
        attributes = {**self._resource, **{key: value for key, value in named if value}}
        told = b"".join([_sized(b"\x0a", _key_value(key, value)) for key, value in attributes.items()])
        return _sized(b"\x0a", _sized(b"\x0a", told) + _sized(b"\x12", self._scope + b"".join(records)))
