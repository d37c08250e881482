"""OTLP's two encodings of requests with log records, by the classes of opentelemetry-proto, and how their answers are read."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from google.protobuf.json_format import MessageToDict, Parse
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import (
    ExportLogsPartialSuccess,
    ExportLogsServiceRequest,
    ExportLogsServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, KeyValue, KeyValueList
from serving import Serving, Told

KINDS = {bool: "bool_value", int: "int_value", float: "double_value", str: "string_value", bytes: "bytes_value"}


def any_value(value: Any) -> AnyValue:
    if isinstance(value, dict):
        return AnyValue(kvlist_value=KeyValueList(values=pairs(value)))
    if isinstance(value, list):
        return AnyValue(array_value=ArrayValue(values=map(any_value, value)))
    return AnyValue() if value is None else AnyValue(**{KINDS[type(value)]: value})


def pairs(fields: dict[str, Any]) -> list[KeyValue]:
    return [KeyValue(key=key, value=any_value(value)) for key, value in fields.items()]


def of(*records: dict[str, Any], scope: str = "", **resource: Any) -> ExportLogsServiceRequest:
    """Return a request with log records, and the attributes of their resource (`__` in a name stands for a dot)."""
    request = ExportLogsServiceRequest()
    logs = request.resource_logs.add()
    logs.resource.attributes.extend(pairs({key.replace("__", "."): value for key, value in resource.items()}))
    inner = logs.scope_logs.add()
    inner.scope.name = scope
    for fields in records:
        made: dict[str, Any] = {
            "body": any_value(fields.get("body")),
            "attributes": pairs(fields.get("attributes", {})),
        }
        inner.log_records.add(**fields | made)
    return request


def in_json(request: ExportLogsServiceRequest) -> bytes:
    """Return a request in OTLP's JSON, which has numbers for enums, and hexadecimal IDs, where protobuf's own has base64."""
    document = MessageToDict(request, use_integers_for_enums=True)
    for record in document["resourceLogs"][0]["scopeLogs"][0].get("logRecords", []):
        record |= {key: base64.b64decode(record[key]).hex() for key in ("traceId", "spanId") if key in record}
    return json.dumps(document).encode()


@dataclass(frozen=True)
class Form:
    """One of the two encodings: how a request is written, how a response and a Status are read."""

    content_type: str
    write: Callable[[ExportLogsServiceRequest], bytes]
    response: Callable[[bytes], ExportLogsServiceResponse]
    status: Callable[[bytes], str]

    def post(self, serving: Serving, request: ExportLogsServiceRequest | bytes, **headers: str) -> Told:
        body = request if isinstance(request, bytes) else self.write(request)
        return serving.post(body, "/v1/logs", **{"Content_Type": self.content_type} | headers)

    def judged(self, told: Told) -> tuple[int, int, str]:
        """Return the status, how many records were rejected, and the message."""
        partial = self.response(told.body).partial_success
        assert self.content_type == told.headers.get("content-type", self.content_type)
        return told.status, partial.rejected_log_records, partial.error_message

    def refused(self, told: Told) -> tuple[int, str]:
        """Return the status, and the message of a google.rpc.Status in the request's encoding."""
        assert self.content_type == told.headers["content-type"]
        return told.status, self.status(told.body)


PROTOBUF = Form(
    "application/x-protobuf",
    lambda request: request.SerializeToString(),
    ExportLogsServiceResponse.FromString,
    # A google.rpc.Status has its message where this has one, too; its own class is in a package of Google's.
    lambda body: ExportLogsPartialSuccess.FromString(body).error_message,
)
JSON = Form(
    "application/json",
    in_json,
    lambda body: Parse(body, ExportLogsServiceResponse()),
    lambda body: json.loads(body)["message"],
)


def in_otlp(value: Any) -> Any:
    """Return a value as OTLP can hold it."""
    if isinstance(value, dict):
        return {key: in_otlp(each) for key, each in value.items()}
    if isinstance(value, list):
        return [in_otlp(each) for each in value]
    return str(value) if type(value) is int and not -(2**63) <= value < 2**63 else value
