"""The log records of an OTLP request as plain values, from protobuf and from JSON."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from rillevents.delivery.exporters.otlp.form import INT64

_INTEGER = re.compile(r"-?[0-9]{1,20}", re.ASCII)
_HEX = re.compile(r"[0-9a-f]+")


@dataclass(slots=True)
class Record:
    """One log record as plain values; times in nanoseconds since 1970, 0 if unknown; IDs hexadecimal, "" if there are none."""

    resource: Mapping[str, Any]
    scope: tuple[str, str]
    event_name: str = ""
    time: int = 0
    observed: int = 0
    severity_number: int = 0
    severity_text: str = ""
    body: Any = None
    trace_id: str = ""
    span_id: str = ""
    attributes: Mapping[str, Any] = field(default_factory=dict)

    def as_json(self) -> bytes:
        """Return all of the record, the same bytes each time that it is sent."""
        told = {name: getattr(self, name) for name in self.__slots__}
        return json.dumps(told, sort_keys=True, ensure_ascii=False).encode("utf-8", "surrogatepass")


def records_of_protobuf(request: Any) -> Iterator[Record]:
    """Yield the log records of an ExportLogsServiceRequest; raises ValueError for an ID of a wrong length."""
    for resource_logs in request.resource_logs:
        resource = _pairs_of_protobuf(resource_logs.resource.attributes)
        for scope_logs in resource_logs.scope_logs:
            scope = (scope_logs.scope.name, scope_logs.scope.version)
            for each in scope_logs.log_records:
                yield Record(
                    resource,
                    scope,
                    each.event_name,
                    each.time_unix_nano,
                    each.observed_time_unix_nano,
                    each.severity_number,
                    each.severity_text,
                    _value_of_protobuf(each.body),
                    _id(each.trace_id.hex(), 32),
                    _id(each.span_id.hex(), 16),
                    _pairs_of_protobuf(each.attributes),
                )


def _pairs_of_protobuf(pairs: Any) -> dict[str, Any]:
    return {pair.key: _value_of_protobuf(pair.value) for pair in pairs}


def _value_of_protobuf(value: Any) -> Any:
    kind = value.WhichOneof("value")
    if kind == "kvlist_value":
        return _pairs_of_protobuf(value.kvlist_value.values)
    if kind == "array_value":
        return [_value_of_protobuf(each) for each in value.array_value.values]
    if kind == "bytes_value":
        import base64

        return base64.b64encode(value.bytes_value).decode()
    return _finite(getattr(value, kind)) if kind else None


def records_of_json(document: Any) -> Iterator[Record]:
    """Yield the log records of a decoded ExportLogsServiceRequest.

    Raises ValueError for a wrong value; TypeError, AttributeError or OverflowError for another shape.
    """
    for resource_logs in _list(document, "resourceLogs"):
        resource = _pairs_of_json(_list(_get(resource_logs, "resource", {}), "attributes"))
        for scope_logs in _list(resource_logs, "scopeLogs"):
            scope = _get(scope_logs, "scope", {})
            named = (_text(_get(scope, "name", "")), _text(_get(scope, "version", "")))
            for each in _list(scope_logs, "logRecords"):
                yield Record(
                    resource,
                    named,
                    _text(_get(each, "eventName", "")),
                    _int(_get(each, "timeUnixNano", 0), 0, 2 * INT64),
                    _int(_get(each, "observedTimeUnixNano", 0), 0, 2 * INT64),
                    _int(_get(each, "severityNumber", 0)),
                    _text(_get(each, "severityText", "")),
                    _value_of_json(_get(each, "body", {})),
                    _id(_text(_get(each, "traceId", "")).lower(), 32),
                    _id(_text(_get(each, "spanId", "")).lower(), 16),
                    _pairs_of_json(_list(each, "attributes")),
                )


def _get(fields: Any, name: str, default: Any) -> Any:
    """Return a field by its name in JSON, or by the one in protobuf, as the Collector does; null is none."""
    value = fields.get(name)
    if value is None:
        value = fields.get(re.sub(r"[A-Z]", lambda found: f"_{found[0].lower()}", name))
    return default if value is None else value


def _list(fields: Any, name: str) -> list[Any]:
    found = _get(fields, name, [])
    if not isinstance(found, list):
        raise ValueError(f"{name} is a list, not {str(found)[:40]}")
    return found


def _pairs_of_json(pairs: Any) -> dict[str, Any]:
    return {_text(_get(pair, "key", "")): _value_of_json(_get(pair, "value", {})) for pair in pairs}


def _value_of_json(value: Any) -> Any:
    if (text := _get(value, "stringValue", None)) is not None:
        return _text(text)
    if (number := _get(value, "intValue", None)) is not None:
        return _int(number)
    if (found := _get(value, "boolValue", None)) is not None:
        if not isinstance(found, bool):
            raise ValueError(f"a boolValue is true or false, not {str(found)[:40]}")
        return found
    if (found := _get(value, "bytesValue", None)) is not None:
        return _text(found)
    if (number := _get(value, "doubleValue", None)) is not None:
        return _finite(float(number if isinstance(number, str) else number + 0.0))
    if (pairs := _get(value, "kvlistValue", None)) is not None:
        return _pairs_of_json(_list(pairs, "values"))
    if (items := _get(value, "arrayValue", None)) is not None:
        return [_value_of_json(each) for each in _list(items, "values")]
    return None


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"a text was expected, not {str(value)[:40]}")
    return value


def _int(value: Any, least: int = -INT64, most: int = INT64) -> int:
    is_number = type(value) is int or (isinstance(value, str) and _INTEGER.fullmatch(value))
    if not is_number or not least <= int(value) < most:
        raise ValueError(f"an integer of 64 bits was expected, not {str(value)[:40]}")
    return int(value)


def _id(digits: str, size: int) -> str:
    """Return the hexadecimal digits of an ID; "" if it is all zeros, or none."""
    if digits and not (len(digits) == size and _HEX.fullmatch(digits)):
        raise ValueError(f"an ID has {size} hexadecimal digits, not {digits[:40]}")
    return digits if digits.strip("0") else ""


def _finite(value: Any) -> Any:
    """Return a value as JSON can hold it: a double without a number as text."""
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
