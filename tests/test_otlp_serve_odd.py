"""OTLP from senders that are odd, or mean harm: what is bounded, what is a retry, and what is not lost."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from otlp_forms import JSON, PROTOBUF, Form, in_json, of
from serving import Serving, rows, says_nothing

from rillevents.serve.limits import MAX_INFLATED_BYTES, MAX_OTLP_BYTES
from rillevents.serve.otlp import parse_otlp_json, parse_otlp_protobuf
from rillevents.serve.parse import BadBody
from rillevents.store.incoming import Incoming

LINE = b'{"resourceLogs":[{"scopeLogs":[{"logRecords":[%b]}]}]}'
both = pytest.mark.parametrize("form", [PROTOBUF, JSON], ids=["protobuf", "JSON"])


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """A server with a store, which says nothing of errors to the end."""
    with says_nothing(tmp_path_factory.mktemp("server")) as serving:
        yield serving


def parsed(*records: dict[str, Any], **more: Any) -> list[dict[str, Any]]:
    """Return the events of a request, which are the same in both encodings."""
    request = of(*records, **more)
    found = [[json.loads(line) for line in each.lines] for each in (_by(PROTOBUF, request), _by(JSON, request))]
    assert found[0] == found[1]
    return found[0]


def _by(form: Form, request: Any) -> Incoming:
    if form is JSON:
        return parse_otlp_json(in_json(request))
    return parse_otlp_protobuf(request.SerializeToString())


class TestBounds:
    @both
    def test_small_and_empty_records(self, form: Form, server: Serving) -> None:
        """A small body that unpacks to millions of empty records is refused before it is read: 413."""
        empty = b"\x12\x00" if form is PROTOBUF else b"{},"
        body = gzip.compress(empty * (MAX_OTLP_BYTES // len(empty) + 1))
        answer = server.ask("POST", "/v1/logs", body, **{"Content-Type": form.content_type, "Content-Encoding": "gzip"})
        assert 413 == answer.status

    @both
    def test_a_resource_of_many(self, form: Form) -> None:
        """A large resource, which each of many records repeats, is refused at a bound: 413."""
        records = [{"event_name": f"n{number}"} for number in range(MAX_INFLATED_BYTES // 30_000 + 1)]
        with pytest.raises(BadBody) as caught:
            _by(form, of(*records, large="x" * 30_000))
        assert 413 == caught.value.status


class TestRetries:
    @both
    def test_without_any_time(self, form: Form, server: Serving) -> None:
        """A record without any time, sent again, is the event that it was."""
        request = of({"event_name": f"untimed-{form.content_type}"})
        assert [(200, 0, "")] * 2 == [form.judged(form.post(server, request)) for _ in range(2)]
        query = "SELECT body FROM events WHERE event_name = ?"
        assert 1 == len(list(rows(server.tool.paths.default_store, query, f"untimed-{form.content_type}")))


class TestNothingIsLost:
    def test_other_attributes(self) -> None:
        """Only the four fields cannot be set by attributes; what else begins with event_, or has no name, stays."""
        attributes = {"event_source": "a", "event_time": "b", "event_name": "c", "": "d"}
        (event,) = parsed({"event_name": "x", "time_unix_nano": 1, "attributes": attributes})
        assert {"event_source": "a", "": "d"} == {key: event[key] for key in ("event_source", "")}
        assert ("x", "1970-01-01T00:00:00.000000001Z") == (event["event_name"], event["event_time"])

    def test_a_time_of_ours_that_no_record_can_hold(self) -> None:
        """The time of our own event that is only an attribute is its time; anybody else's attribute is none."""
        record = {"event_name": "x", "observed_time_unix_nano": 1, "attributes": {"event_time": "1969-07-20T20:17:40Z"}}
        assert "1969-07-20T20:17:40Z" == parsed(record, scope="rillevents")[0]["event_time"]
        assert "1970-01-01T00:00:00.000000001Z" == parsed(record, scope="other")[0]["event_time"]

    def test_attributes_of_the_same_names(self) -> None:
        """A body and a severity beside attributes of their names get other names; a record's own IDs win."""
        attributes = {"message": "m", "body": "b", "level": "l", "trace_id": "t"}
        record = {
            "event_name": "x",
            "time_unix_nano": 1,
            "body": "text",
            "severity_text": "WARN",
            "attributes": attributes,
        }
        (event,) = parsed(record | {"trace_id": b"\x01" * 16}, scope="lib")
        expected = attributes | {"otel.body": "text", "otel.severity": "WARN", "trace_id": "01" * 16}
        assert expected == {key: event[key] for key in expected}
        assert "lib" == event["otel.scope.name"]


class TestMalformed:
    @pytest.mark.parametrize(
        "record",
        [
            b'{"eventName":"x","traceId":"AAAAAAAAAAAAAAAAAAAAAA=="}',
            b'{"eventName":"x","spanId":"abc"}',
            b'{"eventName":"x","timeUnixNano":"-1"}',
            b'{"eventName":"x","body":{"intValue":"1_0"}}',
            b'{"eventName":"x","body":{"intValue":" 5 "}}',
            b'{"eventName":"x","body":{"boolValue":"yes"}}',
            b'{"eventName":"x","body":{"bytesValue":5}}',
            b'{"eventName":"x","body":{"doubleValue":%b}}' % (b"9" * 401),
            b'{"eventName":"x","attributes":""}',
        ],
    )
    def test_a_value_of_another_kind(self, record: bytes) -> None:
        """A value that OTLP does not have there refuses the request, as the Collector does, and says nothing of Python."""
        with pytest.raises(BadBody) as caught:
            parse_otlp_json(LINE % record)
        assert (400, False) == (
            caught.value.status,
            "NoneType" in caught.value.reason or "literal" in caught.value.reason,
        )

    @pytest.mark.parametrize("ids", [{"trace_id": b"12345"}, {"span_id": b"123456789"}])
    def test_ids_of_other_lengths(self, ids: dict[str, bytes]) -> None:
        """An ID of a wrong length refuses the request in protobuf, too."""
        with pytest.raises(BadBody) as caught:
            parse_otlp_protobuf(of({"event_name": "x", **ids}).SerializeToString())
        assert 400 == caught.value.status

    @pytest.mark.parametrize("kind", ["application/x-protobuf; a=b", "Application/X-Protobuf"])
    def test_the_answer_is_of_the_same_kind(self, kind: str, server: Serving) -> None:
        """A refusal comes in the encoding of the request, however its content type is written."""
        answer = server.ask("POST", "/v1/logs", b"\xff", **{"Content-Type": kind})
        assert (400, "application/x-protobuf") == (answer.status, answer.headers["content-type"])


def test_a_destination_that_cannot_be_used(tmp_path: Path, server: Serving) -> None:
    """A server that fills the spool starts whatever the configured destination is: only a warning needs to know it."""
    variables = {"RILLEVENTS_TO": "otlp", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}
    with Serving(server.tool, "--to", "spool", **variables) as serving:
        assert 200 == serving.ask("GET", "/healthz").status
