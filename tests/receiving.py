"""A receiver of OpenTelemetry's logs on loopback, what a request to it holds, the same from both encodings, and a home to flush."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from support import PACE

from rillevents.delivery.exporters.otlp.exporter import OtlpExporter
from rillevents.delivery.flush import flush
from rillevents.delivery.outcome import FlushResult, Outcome
from rillevents.event import Event
from rillevents.event.batch import Batch
from rillevents.local import Paths
from rillevents.spool import create
from rillevents.spool.slots import append
from rillevents.testing import FakeIntake, Request

NOW = 1_800_000_000_123_456_789

PROTOBUF, JSON = "application/x-protobuf", "application/json"


class Record(NamedTuple):
    """A log record with its resource's attributes and its scope; what is not there is None, 0 for numbers."""

    resource: dict[str, Any]
    scope: tuple[str, str]
    name: str
    time: int
    observed: int
    body: Any
    severity: int
    level: str
    trace_id: str
    span_id: str
    attributes: dict[str, Any]


class Receiver(FakeIntake):
    """An endpoint for logs, which keeps the records of accepted requests in `records`; it answers 200, or by its script."""

    def __init__(self) -> None:
        super().__init__()
        self.respond = lambda request: 200
        self.records: list[Record] = []

    @property
    def origin(self) -> str:
        """Scheme, host and port."""
        return self.url.removesuffix("/events/default")

    @property
    def logs(self) -> str:
        """The URL to post to."""
        return f"{self.origin}/v1/logs"

    def _store(self, request: Request, rejected: set[int]) -> None:
        self.records += records_of(request.body, request.headers["content-type"])


def line(
    more: str = "", time: str = "2026-01-01T00:00:00.5Z", name: str = "n", event_type: str = "behavioral"
) -> bytes:
    """Return an event with further members, which are JSON as it stands."""
    text = f'{{"event_id":"e-1","event_time":"{time}","event_type":"{event_type}","event_name":"{name}"'
    return f"{text}{',' if more else ''}{more}}}\n".encode()


@pytest.fixture(scope="module")
def running() -> Iterator[Receiver]:
    """One receiver for all tests of a module."""
    with Receiver() as receiver:
        yield receiver


@pytest.fixture
def receiver(running: Receiver) -> Receiver:
    """The receiver, which has got nothing yet, and answers 200."""
    running.records.clear()
    running.requests.clear()
    running.respond = lambda request: 200
    return running


class Home:
    """A home with one event, whose flush needs no process; what it warns of is in `warnings`."""

    def __init__(self, folder: Path) -> None:
        self.warnings: list[str] = []
        self.environ = {"HOME": str(folder), "RILLEVENTS_HOME": str(folder / "home")}
        self.add()

    def add(self) -> None:
        """Add an event."""
        append(create(Paths(self.environ).spool_dir), Event("t", "n").line, max_bytes=1 << 30)

    def configure(self, text: str) -> None:
        """Write config.toml."""
        file = Path(self.environ["RILLEVENTS_HOME"], "config.toml")
        file.write_text(text)
        file.chmod(0o600)

    def flush(self, to: str = "", **environ: str) -> FlushResult:
        """Flush, with more variables."""
        return flush(Paths(self.environ | environ), to=to, warn=self.warnings.append, timeout=20 * PACE)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """A home in a folder of its own."""
    return Home(tmp_path)


def exporter_to(receiver: FakeIntake, encoding: str, **given: Any) -> contextlib.closing[OtlpExporter]:
    """Return an exporter to a receiver, at the time NOW."""
    given = {"encoding": encoding, "environ": {}, "clock": lambda: NOW, **given}
    return contextlib.closing(OtlpExporter(receiver.url.replace("/events/default", "/v1/logs"), **given))


def export(receiver: FakeIntake, *lines: bytes, encoding: str = "protobuf", **given: Any) -> Outcome:
    """Send events as one request."""
    with exporter_to(receiver, encoding, **given) as exporter:
        return exporter.export(Batch(lines))


def records_of(body: bytes, content_type: str) -> list[Record]:
    """Return the records of a request."""
    return list((_by_protobuf if content_type == PROTOBUF else _by_json)(body))


def _by_protobuf(body: bytes) -> Iterable[Record]:
    for group in ExportLogsServiceRequest.FromString(body).resource_logs:
        for logs in group.scope_logs:
            for record in logs.log_records:
                yield Record(
                    _pairs((each.key, _value(each.value)) for each in group.resource.attributes),
                    (logs.scope.name, logs.scope.version),
                    record.event_name,
                    record.time_unix_nano,
                    record.observed_time_unix_nano,
                    _value(record.body) if record.HasField("body") else None,
                    record.severity_number,
                    record.severity_text,
                    record.trace_id.hex(),
                    record.span_id.hex(),
                    _pairs((each.key, _value(each.value)) for each in record.attributes),
                )


def _value(value: Any) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_value(each) for each in value.array_value.values]
    if kind == "kvlist_value":
        return _pairs((each.key, _value(each.value)) for each in value.kvlist_value.values)
    return getattr(value, kind) if kind else None


def _by_json(body: bytes) -> Iterable[Record]:
    for group in _only(json.loads(body), "resourceLogs")["resourceLogs"]:
        resource = _json_pairs(_only(group, "resource", "scopeLogs")["resource"]["attributes"])
        for logs in group["scopeLogs"]:
            scope = _only(_only(logs, "scope", "logRecords")["scope"], "name", "version")
            for record in logs["logRecords"]:
                yield Record(resource, (scope["name"], scope["version"]), *_fields_of_json(dict(record)))


def _fields_of_json(record: dict[str, Any]) -> Iterable[Any]:
    yield record.pop("eventName")
    # 64-bit numbers are texts, IDs hexadecimal, and enums numbers.
    for name in ("timeUnixNano", "observedTimeUnixNano"):
        yield int(_typed(record.pop(name, "0"), str))
    yield _json_value(record.pop("body", {}))
    yield _typed(record.pop("severityNumber", 0), int)
    for name in ("severityText", "traceId", "spanId"):
        yield _typed(record.pop(name, ""), str)
    yield _json_pairs(record.pop("attributes"))
    assert {} == record


def _json_value(value: Mapping[str, Any]) -> Any:
    if not value:
        return None
    ((kind, inner),) = value.items()
    if kind == "arrayValue":
        return [_json_value(each) for each in _only(inner, "values")["values"]]
    if kind == "kvlistValue":
        return _json_pairs(_only(inner, "values")["values"])
    if kind == "intValue":
        return int(_typed(inner, str))
    return _typed(inner, {"stringValue": str, "boolValue": bool, "doubleValue": float}[kind])


def _json_pairs(pairs: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    return _pairs((each["key"], _json_value(_only(each, "key", "value")["value"])) for each in pairs)


def _pairs(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    found = list(pairs)
    assert len(found) == len(dict(found)), "a key twice"
    return dict(found)


def _only(found: Mapping[str, Any], *names: str) -> Mapping[str, Any]:
    assert {*names} == found.keys()
    return found


def _typed(value: Any, kind: type) -> Any:
    assert kind is type(value)
    return value
