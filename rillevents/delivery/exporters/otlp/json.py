"""Log records as the JSON of an ExportLogsServiceRequest.

Not by protobuf's own JSON, which writes IDs as base64 and enums as names: OTLP has hexadecimal IDs and numbers. 64-bit integers
are texts. Format: https://opentelemetry.io/docs/specs/otlp/#json-protobuf-encoding
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rillevents.delivery.exporters.otlp.form import INT64, MAX_DEPTH, SEVERITIES, Resource, as_text, utf8


class Json:
    """Writes pieces of JSON; *scope* is who records, *resource* what each resource has beside an event's own."""

    content_type = "application/json"

    def __init__(self, scope: Resource, resource: Mapping[str, str]) -> None:
        self._scope = _text({"name": scope[0], "version": scope[1]})
        self._resource = resource

    def attribute(self, key: str, value: Any) -> bytes:
        """Return an attribute."""
        return _text(_key_value(key, value))

    def texts(self, key: str, values: Sequence[str]) -> list[bytes]:
        """Return an attribute for each of many texts."""
        head = b'{"key":%b,"value":{"stringValue":' % _text(key)
        return [b"%b%b}}" % (head, _text(value)) for value in values]

    def floats(self, key: str, values: Sequence[float]) -> list[bytes]:
        """Return an attribute for each of many floats."""
        head = b'{"key":%b,"value":{"doubleValue":' % _text(key)
        return [b"%b%a}}" % (head, value) for value in values]

    def time(self, nanoseconds: int) -> bytes:
        """Return a record's time; b"" for 0."""
        return b'"timeUnixNano":"%d"' % nanoseconds if nanoseconds else b""

    def name(self, text: str) -> bytes:
        """Return a record's event name."""
        return b'"eventName":' + _text(text)

    def body(self, text: str) -> bytes:
        """Return a record's body; b"" without a text."""
        return b'"body":' + _text(_any_value(text, 0)) if text else b""

    def severity(self, level: str) -> bytes:
        """Return a record's severity; b"" without a text."""
        number = SEVERITIES.get(level.lower())
        told = b'"severityNumber":%d,' % number if number else b""
        return told + b'"severityText":' + _text(level) if level else b""

    def trace_id(self, digits: str) -> bytes:
        """Return a record's trace ID."""
        return b'"traceId":' + _text(digits)

    def span_id(self, digits: str) -> bytes:
        """Return a record's span ID."""
        return b'"spanId":' + _text(digits)

    def record(self, fields: Sequence[bytes], attributes: Sequence[bytes], now: int) -> bytes:
        """Return the record whose pieces these are."""
        told, more = b",".join(filter(None, fields)), b",".join(filter(None, attributes))
        return b'{"observedTimeUnixNano":"%d",%b,"attributes":[%b]}' % (now, told, more)

    def records(self, fields: list[list[bytes]], attributes: list[list[bytes]], now: int) -> list[bytes]:
        """Return many records."""
        pieces = zip(zip(*fields, strict=True), zip(*attributes, strict=True), strict=True)
        return [self.record(told, more, now) for told, more in pieces]

    def joined(self, records: Sequence[bytes]) -> bytes:
        """Return several records of one resource in one piece."""
        return b",".join(records)

    def request(self, groups: Mapping[Resource, list[bytes]]) -> bytes:
        """Return the body of a request."""
        return b'{"resourceLogs":[%b]}' % b",".join([self._resource_logs(*group) for group in groups.items()])

    def _resource_logs(self, resource: Resource, records: list[bytes]) -> bytes:
        named = zip(("service.name", "service.version"), resource, strict=True)
        attributes = {**self._resource, **{key: value for key, value in named if value}}
        told = b",".join([self.attribute(key, value) for key, value in attributes.items()])
        logs = b'"scopeLogs":[{"scope":%b,"logRecords":[%b]}]' % (self._scope, b",".join(records))
        return b'{"resource":{"attributes":[%b]},%b}' % (told, logs)


def _text(value: object) -> bytes:
    return utf8(as_text(value))


def _key_value(key: str, value: Any, depth: int = 0) -> dict[str, Any]:
    return {"key": key, "value": _any_value(value, depth)}


def _any_value(value: Any, depth: int) -> dict[str, Any]:
    kind = type(value)
    if kind is str:
        return {"stringValue": value}
    if kind is bool:
        return {"boolValue": value}
    if kind is int and -INT64 <= value < INT64:
        return {"intValue": str(value)}
    if kind is float:
        return {"doubleValue": value}
    if value is None:
        return {}
    if depth >= MAX_DEPTH or kind is int:
        return {"stringValue": as_text(value)}
    if kind is dict:
        return {"kvlistValue": {"values": [_key_value(key, value[key], depth + 1) for key in value]}}
    return {"arrayValue": {"values": [_any_value(each, depth + 1) for each in value]}}
