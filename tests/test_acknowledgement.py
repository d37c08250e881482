"""Acknowledgements that say that events were refused: who counts what, and where the events are kept."""

from __future__ import annotations

import gzip
import json
import logging
import zlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import PACE, Tool

from rillevents.delivery.exporters.acknowledgement import acknowledgement
from rillevents.delivery.exporters.encoding import decoded
from rillevents.delivery.outcome import Kind, Outcome
from rillevents.event import Event
from rillevents.recording.sinks.batching import IntakeSink
from rillevents.testing import FakeIntake, Request, Response

EVENTS = 10
# The body of the answer → how many of ten events it refuses without saying which.
UNNAMED = [
    pytest.param({"partialSuccess": {"rejectedLogRecords": "4"}}, 4, id="otlp"),
    pytest.param({"partialSuccess": {"rejectedLogRecords": 4, "errorMessage": "old"}}, 4, id="otlp-number"),
    pytest.param({"successful_rows": 9, "quarantined_rows": 1}, 1, id="tinybird"),
    pytest.param({"ingested": 9, "failed": 1, "failures": [{"error": "bad"}], "processedBytes": 9}, 1, id="axiom"),
    pytest.param({"ingested": 0, "failed": 99}, EVENTS, id="more-than-there-are"),
    pytest.param({"errors": True}, EVENTS, id="bulk-without-items"),
    pytest.param({"errors": True, "items": []}, EVENTS, id="bulk-with-other-items"),
]
WARNED = [
    pytest.param({"error": "the queue is full"}, id="error"),
    pytest.param({"rejected": 3}, id="number"),
    pytest.param({"errors": ["a", "b"]}, id="errors"),
    pytest.param({"failed": 2}, id="failed-alone"),
    pytest.param({"partialSuccess": {"errorMessage": "soon over"}}, id="otlp-warning"),
]
SILENT = [
    pytest.param({"partialSuccess": {}}, id="otlp"),
    pytest.param({"partialSuccess": {"rejectedLogRecords": "0", "errorMessage": ""}}, id="otlp-zero"),
    pytest.param({"successful_rows": 10, "quarantined_rows": 0}, id="tinybird"),
    pytest.param({"ingested": 10, "failed": 0, "failures": []}, id="axiom"),
    pytest.param({"errors": False, "items": [{"index": {"status": 201}}] * EVENTS}, id="bulk"),
    pytest.param({"error": None, "errors": []}, id="no-error"),
    pytest.param({"partialSuccess": {"rejectedLogRecords": True}}, id="a-bool"),
]


def told(body: object) -> Outcome:
    return acknowledgement(json.dumps(body).encode(), EVENTS)


class TestForms:
    @pytest.mark.parametrize(("body", "refused"), UNNAMED)
    def test_a_number(self, body: object, refused: int) -> None:
        """A known form's number is what was refused, at most the batch."""
        assert (Kind.ACCEPTED, refused) == (told(body).kind, told(body).unidentified)

    def test_a_name(self) -> None:
        """Where there is an item for each event, the items say which were refused."""
        items = [{"create": {"status": 201}}] * 9 + [{"create": {"status": 400, "error": {"reason": "no mapping"}}}]
        assert ((9, "no mapping"),) == told({"errors": True, "items": items}).rejected

    @pytest.mark.parametrize("status", [429, 503])
    def test_for_now(self, status: int) -> None:
        """An item that is refused for now is kept, and the items that were taken are settled."""
        busy = {"create": {"status": status, "error": {"reason": "queue full"}}}
        outcome = told({"errors": True, "items": [{"create": {"status": 201}}] * 8 + [busy] * 2})
        assert (Kind.TEMPORARY, (*range(8),)) == (outcome.kind, outcome.acknowledged)
        assert "2 of 10 events were refused for now: queue full" == outcome.reason

    @pytest.mark.parametrize("body", WARNED)
    def test_an_error_of_no_known_form(self, body: object) -> None:
        """An error in another body changes nothing but that somebody hears of it."""
        outcome = told(body)
        assert "told of an error" in outcome.warning
        assert Outcome(Kind.ACCEPTED, warning=outcome.warning) == outcome

    @pytest.mark.parametrize("body", SILENT)
    def test_no_error(self, body: object) -> None:
        """What was refused is nothing, so nothing is said."""
        assert Outcome(Kind.ACCEPTED) == told(body)

    @given(
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.text(max_size=9),
            lambda inner: (
                st.lists(inner, max_size=3)
                | st.dictionaries(
                    st.sampled_from(
                        ["errors", "items", "partialSuccess", "rejectedLogRecords", "failed", "ingested", "rejected"]
                    ),
                    inner,
                    max_size=4,
                )
            ),
        )
    )
    def test_it_never_raises(self, body: object) -> None:
        """Whatever a body holds, it is an acknowledgement, and refuses no more than there is."""
        outcome = told(body)
        assert Kind.ACCEPTED is outcome.kind
        assert 0 <= outcome.unidentified <= EVENTS

    @pytest.mark.parametrize("form", ["utf-16", "utf-16-le", "utf-32-be"])
    def test_it_is_utf_8(self, form: str) -> None:
        """JSON on the wire is UTF-8: what would be JSON in another encoding refuses nothing, with or without blanks before it."""
        for blanks in ("", "\r\n"):
            body = (blanks + json.dumps({"ingested": 9, "failed": 1})).encode(form)
            assert Outcome(Kind.ACCEPTED) == acknowledgement(body, EVENTS)

    def test_a_damaged_text(self) -> None:
        """A byte that is no UTF-8 within a text takes nothing away from the number beside it."""
        body = b'\xef\xbb\xbf {"ingested":9,"failed":1,"failures":[{"error":"\xff"}]}'
        assert 1 == acknowledgement(body, EVENTS).unidentified


class TestForNow:
    def test_only_those_are_sent_again(self, tool: Tool) -> None:
        """Of a batch of which some items were refused for now, those alone are sent again, and a refusal among them is found."""
        with FakeIntake() as intake:
            bodies: list[list[int]] = []

            def respond(request: Request) -> Response:
                numbers = [json.loads(line)["number"] for line in request.body.splitlines()]
                bodies.append(numbers)
                items = [
                    {"create": {"status": 429, "error": {"reason": "busy"}} if n % 2 else {"status": 201}}
                    for n in numbers
                ]
                if len(bodies) == 1:
                    return Response(200, json.dumps({"errors": True, "items": items}).encode())
                return Response(200, json.dumps({"rejected": [{"line": 2, "reason": "never"}]}).encode())

            intake.respond = respond
            tool("record", "raw", stdin=b"".join(Event("t", "n", {"number": n}).line for n in range(EVENTS)))
            done = tool.json("flush", "--to", intake.url)
        assert [[*range(EVENTS)], [1, 3, 5, 7, 9]] == bodies
        assert (EVENTS - 1, 1, 0) == (done["delivered"], done["rejected"], done["pending"])
        assert 3 == tool.json("spool", "rejected")[0]["event"]["number"]

    @pytest.mark.slow
    def test_those_stay(self, tool: Tool) -> None:
        """When the time is up, what was taken counts as delivered and is not sent by the next flush; the rest is kept: 75."""
        with FakeIntake() as intake:
            bodies: list[int] = []

            def respond(request: Request) -> Response:
                lines = request.body.splitlines()
                bodies.append(len(lines))
                items = [
                    {"create": {"status": 429, "error": "busy"} if b"busy" in line else {"status": 201}}
                    for line in lines
                ]
                return Response(200, json.dumps({"errors": True, "items": items}).encode())

            intake.respond = respond
            for name in ("a", "busy", "b"):
                tool("record", "behavioral", name)
            done = tool("flush", "--json", "--timeout", str(PACE), "--to", intake.url)
            told = json.loads(done.stdout)
            assert (75, 2, 1) == (done.returncode, told["delivered"], told["pending"])
            assert "1 of 1 events were refused for now: busy" in done.stderr
            again = tool.json("flush", "--timeout", str(PACE), "--to", intake.url)
            assert (0, 1) == (again["delivered"], again["pending"])
        assert [3] == [size for size in bodies if size > 1]


class TestEncodings:
    BODY = json.dumps({"ingested": 9, "failed": 1}).encode()

    @pytest.mark.parametrize(
        ("form", "body"),
        [
            pytest.param("gzip", gzip.compress(BODY), id="gzip"),
            pytest.param("deflate", zlib.compress(BODY), id="deflate"),
            pytest.param("deflate", zlib.compress(BODY, wbits=-15), id="raw-deflate"),
            pytest.param("gzip, X-GZIP", gzip.compress(gzip.compress(BODY)), id="twice"),
            pytest.param("identity", BODY, id="none"),
        ],
    )
    def test_each_is_read(self, form: str, body: bytes) -> None:
        """An answer that comes encoded, although nobody asked for it, says what it says."""
        with FakeIntake() as intake:
            intake.respond = lambda request: Response(200, body, {"Content-Encoding": form})
            sink = IntakeSink(intake.url)
            for number in range(EVENTS):
                sink.emit(Event("t", "n", {"number": number}))
            assert 1 == sink.flush(10).rejected
            sink.close()

    @pytest.mark.parametrize("form", ["br", "gzip", "x"])
    def test_an_unreadable_one_is_told(self, form: str, caplog: pytest.LogCaptureFixture) -> None:
        """An acknowledgement that cannot be read is one all the same, and a line says so, once."""
        with FakeIntake() as intake, caplog.at_level(logging.WARNING, "rillevents"):
            intake.respond = lambda request: Response(200, b"\x8b\x00\x80", {"Content-Encoding": form})
            sink = IntakeSink(intake.url)
            for _ in range(2):
                sink.emit(Event("t", "n", {}))
                assert "delivered" == sink.flush(10).outcome
            sink.close()
        assert ["could not be read" in record.message for record in caplog.records] == [True]

    def test_a_bomb_stays_packed(self) -> None:
        """No more is unpacked than an answer may have."""
        assert None is decoded(gzip.compress(b" " * 10_000_000), "gzip", 1000)


def record(tool: Tool, number: int) -> None:
    lines = b"".join(Event("log", "n", {"number": n}).line for n in range(number))
    assert 0 == tool("record", "raw", stdin=lines).returncode


class TestFlush:
    @pytest.mark.parametrize(("body", "refused"), UNNAMED)
    def test_nothing_is_lost(self, body: object, refused: int, tool: Tool) -> None:
        """What was refused counts as rejected, all of the batch is kept, and both come back once it is asked for."""
        record(tool, EVENTS)
        with FakeIntake() as intake:
            environ = {"RILLEVENTS_INTAKE_URL": intake.url}
            intake.respond = lambda request: Response(200, json.dumps(body).encode())
            done = tool("flush", "--json", **environ)
            result = json.loads(done.stdout)
            assert (65, "rejected", EVENTS - refused, refused, 0) == (
                done.returncode,
                *(result[key] for key in ("outcome", "delivered", "rejected", "pending")),
            )
            kept = tool.json("spool", "rejected")
            assert (EVENTS, {True}) == (len(kept), {entry["reason"].startswith("unidentified: ") for entry in kept})
            assert f"({EVENTS} of them may have been delivered already)" in tool("spool", "retry").stderr
            intake.respond = lambda request: Response(200)
            assert EVENTS == tool.json("flush", **environ)["delivered"]
        ledger = tool.json("status")["ledger"]
        assert (EVENTS, EVENTS, 0) == tuple(ledger[key] for key in ("recorded", "delivered", "rejected"))

    def test_a_warning_once(self, tool: Tool) -> None:
        """An error of no known form is told once a flush, on stderr, and the events are delivered."""
        record(tool, EVENTS)
        with FakeIntake() as intake:
            tool("config", "set", "flush.batch_events", "2")
            intake.respond = lambda request: Response(200, b'{"error":"the queue is full"}')
            done = tool("flush", RILLEVENTS_INTAKE_URL=intake.url)
        assert (0, 1) == (done.returncode, done.stderr.count("the queue is full"))
        assert "delivered 10 events" in done.stderr

    def test_purged_copies_count_as_delivered(self, tool: Tool, tmp_path: Path) -> None:
        """A copy that is deleted was delivered before, and no count says otherwise."""
        record(tool, EVENTS)
        with FakeIntake() as intake:
            intake.respond = lambda request: Response(200, b'{"successful_rows":8,"quarantined_rows":2}')
            tool("flush", RILLEVENTS_INTAKE_URL=intake.url)
        tool("spool", "purge", "--yes")
        ledger = tool.json("status")["ledger"]
        assert (EVENTS, 8, 0) == tuple(ledger[key] for key in ("recorded", "delivered", "rejected"))
