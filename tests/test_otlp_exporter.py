"""What an OTLP exporter sends, and what a receiver's answers mean."""

# ruff: noqa: F401, F811 - fixtures are imported

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsPartialSuccess, ExportLogsServiceResponse
from receiving import JSON, PROTOBUF, Receiver, export, exporter_to, line, receiver, records_of, running
from support import Clock, only

from rillevents import ConfigError
from rillevents.delivery.exporters.otlp.exporter import MAX_BODY_BYTES, OtlpExporter, _told
from rillevents.delivery.flusher import Flusher
from rillevents.delivery.outcome import FlushResult, Kind, Outcome
from rillevents.event.batch import Batch
from rillevents.spool import create, view
from rillevents.spool.slots import append
from rillevents.testing import Request, Response

from .faults.socket_server import FaultServer, answering

CONTENT_TYPES = {"protobuf": PROTOBUF, "json": JSON}
ENCODINGS = pytest.mark.parametrize("encoding", ["protobuf", "json"])


def lines(number: int) -> list[bytes]:
    return [line(f'"number":{at}') for at in range(number)]


@ENCODINGS
class TestRequests:
    def test_their_head(self, receiver: Receiver, encoding: str) -> None:
        """A request says its type and its length, and carries the fields that were given, and those of the moment."""
        marks = iter("12")
        given = {"X-Api-Key": "k3y", "User-Agent": "mine"}
        with exporter_to(receiver, encoding, headers=given, mark=lambda: {"Rillevents-Via": next(marks)}) as exporter:
            for _ in range(2):
                exporter.export(Batch(lines(2)))
        for mark, request in zip("12", receiver.requests, strict=True):
            assert {
                "host": receiver.origin.removeprefix("http://"),
                "user-agent": "mine",
                "accept": CONTENT_TYPES[encoding],
                "accept-encoding": "identity",
                "content-type": CONTENT_TYPES[encoding],
                "x-api-key": "k3y",
                "rillevents-via": mark,
                "content-length": str(len(request.body)),
            } == request.headers
            assert ("POST", "/v1/logs") == (request.method, request.path)

    @pytest.mark.parametrize("compression", ["gzip", "zstd"])
    def test_compressed(self, receiver: Receiver, encoding: str, compression: str) -> None:
        """A compressed request holds the same records, and says how long it is."""
        export(receiver, line(f'"a":"{"x" * 5000}"'), encoding=encoding, compression=compression)
        headers = only(receiver.requests).headers
        assert (compression, True) == (headers["content-encoding"], 0 < int(headers["content-length"]) < 500)
        assert "x" * 5000 == only(receiver.records).attributes["a"]

    def test_prepared_ahead(self, receiver: Receiver, encoding: str) -> None:
        """A batch that is encoded while the one before is sent arrives like any other."""
        batches = [Batch([line(f'"a":{at}')] * 3) for at in range(3)]
        with exporter_to(receiver, encoding) as exporter:
            for at, batch in enumerate(batches):
                for ahead in batches[at + 1 :]:
                    exporter.prepare(ahead)
                assert Kind.ACCEPTED is exporter.export(batch).kind
        assert [0] * 3 + [1] * 3 + [2] * 3 == [each.attributes["a"] for each in receiver.records]

    def test_their_size(self, receiver: Receiver, encoding: str) -> None:
        """A request that would be larger than receivers take is not sent, encoded ahead or not; its half is."""
        batch = Batch([line(f'"a":"{"x" * (MAX_BODY_BYTES // 2)}"')] * 2)
        with exporter_to(receiver, encoding) as exporter:
            if encoding == "protobuf":
                exporter.prepare(batch)
            assert (Kind.TOO_LARGE, []) == (exporter.export(batch).kind, receiver.requests)
            assert Kind.ACCEPTED is exporter.export(batch.one(0)).kind
        assert 1 == len(receiver.records)


@pytest.mark.parametrize("given", [{"encoding": "grpc"}, {"compression": "br"}, {"headers": {"Host": "h"}}])
def test_wrong_arguments(given: dict[str, Any]) -> None:
    """An encoding, a compression or a header field that there is not is told at once."""
    with pytest.raises(ConfigError):
        OtlpExporter("http://127.0.0.1:1/v1/logs", environ={}, **given)


def partial(rejected: int, message: str, encoding: str) -> Response:
    """Return the answer that some of the records were rejected, as a receiver writes it."""
    if encoding == "json":
        told = {"rejectedLogRecords": str(rejected), "errorMessage": message}
        return Response(200, json.dumps({"partialSuccess": told}).encode(), {"Content-Type": JSON})
    inner = ExportLogsPartialSuccess(rejected_log_records=rejected, error_message=message)
    return protobuf(200, ExportLogsServiceResponse(partial_success=inner).SerializeToString())


def refusal(code: int, message: str, encoding: str) -> Response:
    """Return a google.rpc.Status, whose two fields are, as bytes, those of a partial success."""
    if encoding == "json":
        return Response(code, json.dumps({"code": 3, "message": message}).encode(), {"Content-Type": JSON})
    return protobuf(code, ExportLogsPartialSuccess(rejected_log_records=3, error_message=message).SerializeToString())


def protobuf(code: int, body: bytes) -> Response:
    return Response(code, body, {"Content-Type": PROTOBUF})


class TestAnswers:
    @pytest.mark.parametrize(
        "answer",
        [
            pytest.param(Response(200), id="nothing"),
            pytest.param(protobuf(200, b""), id="protobuf"),
            pytest.param(protobuf(200, ExportLogsServiceResponse(partial_success={}).SerializeToString()), id="empty"),
            pytest.param(Response(200, b"{}", {"Content-Type": JSON}), id="json"),
            pytest.param(Response(202, b'{"partialSuccess":{}}', {"Content-Type": JSON}), id="empty-json"),
        ],
    )
    @ENCODINGS
    def test_all_accepted(self, receiver: Receiver, encoding: str, answer: Response) -> None:
        """An answer that tells of no refusal accepts all, in whichever encoding it comes."""
        receiver.script.append(answer)
        assert Outcome(Kind.ACCEPTED) == export(receiver, *lines(5), encoding=encoding)

    @pytest.mark.parametrize("content_type", [PROTOBUF, "Application/X-Protobuf; charset=utf-8"])
    @pytest.mark.parametrize(("rejected", "counted"), [(1, 1), (3, 3), (300, 5), (2**62, 5)])
    @ENCODINGS
    def test_some_refused(
        self, receiver: Receiver, encoding: str, rejected: int, counted: int, content_type: str
    ) -> None:
        """A partial success says how many were refused, and why; how could it say which."""
        answer = partial(rejected, "too öld", encoding)
        headers = {"Content-Type": content_type} if encoding == "protobuf" else answer.headers
        receiver.script.append(Response(200, answer.body, headers))
        outcome = export(receiver, *lines(5), encoding=encoding)
        assert (Kind.ACCEPTED, counted, (), "") == (
            outcome.kind,
            outcome.unidentified,
            outcome.rejected,
            outcome.warning,
        )
        assert outcome.reason.startswith(f"unidentified: {counted} of 5 events were refused")
        assert "too" in outcome.reason

    @ENCODINGS
    def test_a_warning(self, receiver: Receiver, encoding: str) -> None:
        """A message without a refusal is for a person, and refuses nothing."""
        receiver.script.append(partial(0, "soon over", encoding))
        outcome = export(receiver, *lines(5), encoding=encoding)
        assert Outcome(Kind.ACCEPTED, warning=outcome.warning) == outcome
        assert "soon over" in outcome.warning

    @ENCODINGS
    def test_the_reason_of_a_refusal(self, receiver: Receiver, encoding: str) -> None:
        """What a Status says stands in the reason, without what frames it."""
        receiver.script.append(refusal(400, "bad\n trace_id", encoding))
        outcome = export(receiver, *lines(5), encoding=encoding)
        text = "bad trace_id" if encoding == "protobuf" else '{"code": 3, "message": "bad\\n trace_id"}'
        assert Outcome(Kind.INVALID, f"HTTP 400 Bad Request: {text}") == outcome

    @pytest.mark.parametrize(
        "body", [b"\x0a", b"\x0a\x05\x08\x03", b"\x0a\x02\x08", b"\xff" * 20, b"\x0d\0\0\0\0", b"\x0a\x03\x0d\0\0", b"x"]
    )  # fmt: skip
    @pytest.mark.parametrize(("code", "kind"), [(200, Kind.ACCEPTED), (400, Kind.INVALID)])
    def test_a_damaged_answer(self, receiver: Receiver, code: int, kind: Kind, body: bytes) -> None:
        """What cannot be read says nothing beyond its status."""
        receiver.script.append(protobuf(code, body))
        outcome = export(receiver, *lines(5))
        assert Outcome(kind, "" if kind is Kind.ACCEPTED else "HTTP 400 Bad Request") == outcome

    @given(st.binary(max_size=30))
    def test_any_answer(self, body: bytes) -> None:
        """Whatever an answer holds, reading it never fails."""
        assert type(_told(body)) is bytes

    @pytest.mark.parametrize(
        ("code", "kind"),
        [
            (400, Kind.INVALID),
            (401, Kind.REFUSED),
            (403, Kind.REFUSED),
            (404, Kind.MISCONFIGURED),
            (405, Kind.MISCONFIGURED),
            (413, Kind.TOO_LARGE),
            (415, Kind.MISCONFIGURED),
            (307, Kind.MISCONFIGURED),
            (429, Kind.TEMPORARY),
            (500, Kind.SERVER_ERROR),
            (502, Kind.TEMPORARY),
            (503, Kind.TEMPORARY),
            (504, Kind.TEMPORARY),
        ],
    )
    def test_each_status(self, receiver: Receiver, code: int, kind: Kind) -> None:
        """Each status means what it means for an intake."""
        receiver.script.append(refusal(code, "no", "protobuf"))
        outcome = export(receiver, *lines(5))
        assert (kind, None, True) == (outcome.kind, outcome.retry_after, f"HTTP {code}" in outcome.reason)

    @pytest.mark.parametrize("code", [429, 503])
    def test_come_back_later(self, receiver: Receiver, code: int) -> None:
        """A receiver may say when to come back."""
        receiver.script.append(Response(code, b"", {"Retry-After": "7"}))
        outcome = export(receiver, *lines(5))
        assert (Kind.TEMPORARY, 7.0, 0) == (outcome.kind, outcome.retry_after, outcome.fault)

    def test_a_server_of_grpc(self) -> None:
        """What answers with HTTP/2's first frame is told as the other port; the events are kept."""
        with (
            FaultServer(answering(b"\0\0\x06\x04\0\0\0\0\0\0\x05\0\0\x40\0")) as server,
            contextlib.closing(OtlpExporter(server.url, environ={})) as exporter,
        ):
            outcome = exporter.export(Batch(lines(1)))
        assert (Kind.TEMPORARY, True) == (outcome.kind, "gRPC" in outcome.reason and "4318" in outcome.reason)

    @pytest.mark.parametrize("answer", [refusal, partial])
    @ENCODINGS
    def test_no_secret_in_a_reason(
        self, receiver: Receiver, encoding: str, answer: Callable[[int, str, str], Response]
    ) -> None:
        """What a receiver repeats of a header field is told without it."""
        for number in (400, 0) if answer is partial else (400, 503):
            receiver.script.append(answer(number, "the key s3cret-k3y is old", encoding))
            outcome = export(receiver, *lines(5), encoding=encoding, headers={"X-Api-Key": "s3cret-k3y"})
            assert "s3cret" not in outcome.reason + outcome.warning
            assert "the key *** is old" in outcome.reason + outcome.warning


class TestFlush:
    def flush(self, spool: Path, receiver: Receiver, **given: Any) -> FlushResult:
        clock = Clock()
        with exporter_to(receiver, "protobuf", **given) as exporter:
            return Flusher(exporter, clock=clock, sleep=clock.sleep).flush([str(spool)])

    @pytest.fixture
    def spool(self, tmp_path: Path) -> Path:
        """A spool with ten events."""
        for each in lines(10):
            append(create(str(tmp_path)), each, max_bytes=1 << 30)
        return tmp_path

    def test_one_bad_record(self, spool: Path, receiver: Receiver) -> None:
        """A receiver refuses a whole request for one bad record: that one alone is put aside, the others arrive."""

        def respond(request: Request) -> Response:
            numbers = [each.attributes["number"] for each in records_of(request.body, PROTOBUF)]
            return refusal(400, "bad record", "protobuf") if 6 in numbers else Response(200)

        receiver.respond = respond
        result = self.flush(spool, receiver)
        assert ("rejected", 9, 1, 0) == (result.outcome, result.delivered, result.rejected, result.pending)
        rejected = only(list(view.rejected(str(spool))))
        assert (6, True) == (json.loads(rejected.line)["number"], "bad record" in rejected.reason)
        assert [0, 1, 2, 3, 4, 5, 7, 8, 9] == sorted(each.attributes["number"] for each in receiver.records)

    @ENCODINGS
    def test_some_are_refused(self, spool: Path, receiver: Receiver, encoding: str) -> None:
        """Of a batch of which some records were refused, nobody knows which: they are counted, and all are kept."""
        receiver.script.append(partial(3, "too old", encoding))
        result = self.flush(spool, receiver)
        assert ("rejected", 7, 3, 0, 65) == (
            *(result.outcome, result.delivered, result.rejected, result.pending),
            result.exit_code,
        )
        assert {True} == {
            "unidentified" in found.reason and "too old" in found.reason for found in view.rejected(str(spool))
        }

    def test_a_full_receiver(self, spool: Path, receiver: Receiver) -> None:
        """A receiver that is full for a moment is asked again, and gets the same records once it takes them."""
        receiver.script.extend([503, Response(429, b"", {"Retry-After": "5"})])
        result = self.flush(spool, receiver)
        assert ("delivered", 10, 3) == (result.outcome, result.delivered, result.requests)
        assert [*range(10)] == [each.attributes["number"] for each in receiver.records]
        assert 1 == len({request.body[-100:] for request in receiver.requests})

    @pytest.mark.parametrize("code", [404, 415])
    def test_another_server(self, spool: Path, receiver: Receiver, code: int) -> None:
        """Where there is no receiver, everything is kept."""
        receiver.respond = lambda request: code
        result = self.flush(spool, receiver)
        assert ("unconfigured", 10, 1, 78) == (result.outcome, result.pending, result.requests, result.exit_code)
