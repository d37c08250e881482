"""OTLP logs → events: what an OpenTelemetry SDK sends to `/v1/logs`, and the answers that it reads.

A log record with an event name is an event; any other is refused, counted in the answer, and kept with what was refused.
Protobuf is read by the classes of opentelemetry-proto, JSON by Python's own. Format: https://opentelemetry.io/docs/specs/otlp/
"""

from __future__ import annotations

import json
import re
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from hashlib import blake2b
from typing import Any

from rillevents.delivery.exporters.otlp.protobuf import varint
from rillevents.errors import InvalidEvent
from rillevents.event import (
    BEHAVIORAL,
    ENVELOPE,
    MAX_EVENT_BYTES,
    SERVICE_NAME,
    SERVICE_VERSION,
    encode_line,
    format_time,
    ndjson,
)
from rillevents.event.envelope import required_fields
from rillevents.event.timestamp import parse_time
from rillevents.event.validate import checked_line
from rillevents.local.files import BOM
from rillevents.serve.limits import MAX_EVENTS, MAX_INFLATED_BYTES
from rillevents.serve.otlp_records import Record, records_of_json, records_of_protobuf
from rillevents.serve.parse import BadBody, TooMany, short_reason
from rillevents.serve.response import Answer
from rillevents.store.incoming import Incoming, InvalidLine

PROTOBUF, JSON = b"application/x-protobuf", b"application/json"

_SERVICE = {"service.name": SERVICE_NAME, "service.version": SERVICE_VERSION}
# Who ran what, and where: a person's name, and secrets in arguments. An SDK adds them unasked.
_PRIVATE = re.compile(r"process\.(command_args|command_line|owner)|host\..*", re.DOTALL)
_OWN_SCOPE = "rillevents"
_NO_NAME = "the log record has no event name, so it is no event"
# https://opentelemetry.io/docs/specs/otel/logs/data-model/#displaying-severity
_LEVELS = ("trace", "debug", "info", "warn", "error", "fatal")


def parse_otlp_json(body: bytes) -> Incoming:
    """Return the events of an ExportLogsServiceRequest in JSON; raises BadBody, and TooMany."""
    try:
        document = json.loads(body.removeprefix(BOM).decode(), parse_constant=ndjson.no_constant)
        records = list(_limited(records_of_json(document)))
    except (TypeError, AttributeError, RecursionError, OverflowError):
        raise BadBody(400, "the body is not OTLP in JSON, but another document") from None
    except ValueError as error:
        raise BadBody(400, short_reason(f"the body is not OTLP in JSON: {error}")) from None
    return _incoming(records)


def parse_otlp_protobuf(body: bytes) -> Incoming:
    """Return the events of an ExportLogsServiceRequest in protobuf; raises BadBody, and TooMany."""
    try:
        from google.protobuf.message import DecodeError
        from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
    except ImportError:
        hint = "send OTLP as JSON, or run on the server's machine: pip install 'rillevents[otlp]'"
        raise BadBody(415, f"this server has no protobuf: {hint}") from None
    request = ExportLogsServiceRequest()
    try:
        request.ParseFromString(body)
        records = list(_limited(records_of_protobuf(request)))
    except (DecodeError, RecursionError):
        raise BadBody(400, "the body is not OTLP in protobuf") from None
    except ValueError as error:
        raise BadBody(400, str(error)) from None
    return _incoming(records)


def accepted(content_type: bytes, reasons: Sequence[str]) -> Answer:
    """Return the answer to a request that was understood; *reasons* has one for each record that was refused."""
    message = f"{len(reasons)} refused, the first one because: {reasons[0]}" if reasons else ""
    if content_type == JSON:
        partial = {"partialSuccess": {"rejectedLogRecords": str(len(reasons)), "errorMessage": message}}
        return Answer(200, json.dumps(partial if reasons else {}).encode())
    text = message.encode()
    inner = b"\x08" + varint(len(reasons)) + b"\x12" + varint(len(text)) + text
    return Answer(200, b"\x0a" + varint(len(inner)) + inner if reasons else b"", ((b"content-type", PROTOBUF),))


def kind_of(content_type: bytes) -> bytes:
    """Return a content type without its parameters."""
    return content_type.partition(b";")[0].strip().lower()


def refusal(content_type: bytes, answer: Answer) -> Answer:
    """Return an answer that tells of an error as a google.rpc.Status, which is what a client of OTLP reads."""
    reason = str(json.loads(answer.body)["error"]) if answer.body else ""
    kept = [pair for pair in answer.fields if pair[0] not in (b"content-length", b"content-type")]
    if kind_of(content_type) != PROTOBUF:
        return Answer(answer.status, json.dumps({"message": reason}).encode(), kept)
    text = reason.encode()
    return Answer(answer.status, b"\x12" + varint(len(text)) + text, (*kept, (b"content-type", PROTOBUF)))


def _limited(records: Iterator[Record]) -> Iterator[Record]:
    for count, record in enumerate(records):
        if count >= MAX_EVENTS:
            raise TooMany
        yield record


def _incoming(records: Sequence[Record]) -> Incoming:
    found, numbers, seen = Incoming([], [], []), [], Counter[bytes]()
    now = time.time_ns()
    for number, record in enumerate(records, 1):
        whole = record.as_json()
        # The same record twice in one request is two; a retry sends both again.
        seen[whole] += 1
        # A resource's attributes become those of each of its records: little can become much.
        found.size += len(whole)
        if found.size > MAX_INFLATED_BYTES:
            raise BadBody(413, f"the events in the body would have more than {MAX_INFLATED_BYTES} bytes")
        try:
            line = checked_line(_line(record, _hashed_id(whole, seen[whole]), now))
        except InvalidEvent as error:
            found.bad.append(InvalidLine(number, short_reason(error.message), whole[: MAX_EVENT_BYTES + 1]))
            continue
        found.lines.append(line)
        found.fields.append(required_fields(line))
        numbers.append(number)
    found.numbers = numbers
    return found


def _line(record: Record, digest: str, now: int) -> bytes:
    """Return the event that a log record is; raises InvalidEvent if it is none."""
    if not record.event_name:
        raise InvalidEvent(_NO_NAME)
    given = record.attributes.get("event_id")
    kind = record.attributes.get("event_type")
    return encode_line(
        {
            "event_id": given if isinstance(given, str) and given else digest,
            "event_time": _time(record) or format_time(record.time or record.observed or _arrived(digest, now)),
            "event_type": kind if isinstance(kind, str) and kind else BEHAVIORAL,
            "event_name": record.event_name,
            **_attributes(record),
        }
    )


def _time(record: Record) -> str:
    """Return the time of an event of ours that no log record can hold; "" for any other."""
    told = record.attributes.get("event_time")
    if record.time or record.scope[0] != _OWN_SCOPE or not isinstance(told, str):
        return ""
    try:
        parse_time(told, strict=True)
    except ValueError:
        return ""
    return told


# When records without any time arrived: the same ones, sent again, are no other events.
_arrivals: dict[str, int] = {}
_MOST_ARRIVALS = 10_000


def _arrived(digest: str, now: int) -> int:
    if len(_arrivals) >= _MOST_ARRIVALS:
        _arrivals.clear()
    return _arrivals.setdefault(digest, now)


def _hashed_id(whole: bytes, nth: int) -> str:
    """Return a UUIDv8 (RFC 9562) of a log record without an ID: an SDK's retry is no second event."""
    digits = blake2b(whole + b"\n%d" % nth, digest_size=16).hexdigest()
    return f"{digits[:8]}-{digits[8:12]}-8{digits[13:16]}-a{digits[17:20]}-{digits[20:]}"


def _attributes(record: Record) -> dict[str, Any]:
    named = {_SERVICE.get(key, key): value for key, value in record.resource.items()}
    if record.scope[0] not in ("", _OWN_SCOPE):
        named |= {
            "otel.scope.name": record.scope[0],
            **({"otel.scope.version": record.scope[1]} if record.scope[1] else {}),
        }
    found = {
        key: value
        for key, value in {**named, **record.attributes}.items()
        if key not in ENVELOPE and not _PRIVATE.fullmatch(key)
    }
    if record.body not in (None, ""):
        names = ("message", "body", "otel.body") if isinstance(record.body, str) else ("body", "otel.body")
        found[next((name for name in names if name not in found), names[-1])] = record.body
    if level := _level(record):
        found["otel.severity" if "level" in found else "level"] = level
    return found | {name: value for name in ("trace_id", "span_id") if (value := getattr(record, name))}


def _level(record: Record) -> str:
    known = 1 <= record.severity_number <= 24
    return record.severity_text or (_LEVELS[(record.severity_number - 1) // 4] if known else "")
