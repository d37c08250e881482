"""Odd settings, odd lines and odd answers: no secret is shown, nothing is blocked, and the advice fits."""

# ruff: noqa: F401, F811 - fixtures are imported

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest
from receiving import Receiver, receiver, running
from support import Tool, only

from rillevents import IntakeExporter, OtlpExporter, OtlpSink
from rillevents.delivery.exporters.otlp.json import Json
from rillevents.delivery.exporters.otlp.record import LogRecords
from rillevents.event.batch import Batch
from rillevents.testing import FakeIntake, Response

LINE = b'{"event_id":"%b","event_time":"2026-11-28T10:00:00Z","event_type":"t","event_name":"n"}\n'


def answered(response: Response, **credentials: Any) -> str:
    """Return all that a person reads of an answer."""
    with FakeIntake() as intake:
        intake.respond = lambda request: response
        exporter = IntakeExporter(intake.url, **credentials)
        outcome = exporter.export(Batch([LINE % b"1"]))
        exporter.close()
    return " ".join([outcome.reason, outcome.warning, *(reason for _, reason in outcome.rejected)])


class TestSecrets:
    @pytest.mark.parametrize("scheme", ["Bearer", "Basic", "Token"])
    def test_a_part_of_a_header_field(self, scheme: str) -> None:
        """The secret in an Authorization field is hidden where an answer repeats it without its scheme."""
        told = answered(Response(400, b"s3cret-t0ken is bad"), headers={"Authorization": f"{scheme} s3cret-t0ken"})
        assert ("s3cret" in told, "*** is bad" in told) == (False, True)

    @pytest.mark.parametrize(
        "body",
        [b'{"error":"%b%b"}', b'{"rejected":[{"line":1,"reason":"%b%b"}]}', b'{"ingested":1,"failed":1,"x":"%b%b"}'],
    )
    @pytest.mark.parametrize(
        "credentials",
        [
            {"headers": {"X-Api-Key": "s3cret-" * 12}},
            {"user": "u", "password": "s3cret-" * 12},
            {"token": "s3cret-" * 12},
        ],
    )
    def test_a_secret_that_would_be_cut(self, body: bytes, credentials: dict[str, Any]) -> None:
        """A long reason is cut after its secrets were hidden, so no beginning of one is left, in a 2xx too."""
        assert "s3c" not in answered(Response(200, body % (b"x" * 150, b"s3cret-" * 12)), **credentials)

    @pytest.mark.parametrize("key", ["intake.headers", "otlp.headers"])
    def test_nothing_given(self, key: str, tool: Tool) -> None:
        """Without a line on stdin nothing is changed: 2."""
        tool("config", "set", key, stdin=b"X-A=1\n")
        before = (tool.home / "config.toml").read_bytes()
        assert (2, before) == (
            tool("config", "set", key, stdin=b"").returncode,
            (tool.home / "config.toml").read_bytes(),
        )


class TestSettings:
    @pytest.mark.parametrize(
        "variables",
        [
            {"RILLEVENTS_INTAKE_USER": "u", "RILLEVENTS_INTAKE_PASSWORD_FILE": "/nonexistent"},
            {"RILLEVENTS_INTAKE_HEADERS": "nonsense"},
        ],
    )
    def test_of_an_intake(self, variables: dict[str, str], tool: Tool, receiver: Receiver, tmp_path: Path) -> None:
        """What is wrong with the intake's credentials stands in the way of no destination that never gets them."""
        given = {"RILLEVENTS_INTAKE_URL": "https://intake.example/", **variables}
        for to in (f"otlp+{receiver.url}", f"file:{tmp_path}/out.ndjson"):
            tool("record", "log", "x")
            assert 0 == tool("flush", "--to", to, **given).returncode
        assert 78 == tool("flush", "--to", "intake", **given).returncode

    def test_a_command_is_not_run(self, tool: Tool, receiver: Receiver, tmp_path: Path) -> None:
        """The command that prints the intake's password is not run for another destination."""
        tool("record", "log", "x")
        (tool.home / "config.toml").write_text(
            f'[intake]\nurl = "https://intake.example/"\nuser = "u"\npassword_command = "touch {tmp_path}/run"\n'
        )
        assert 0 == tool("flush", "--to", f"otlp+{receiver.url}").returncode
        assert not (tmp_path / "run").exists()

    @pytest.mark.parametrize("to", ["OTLP+HTTP://127.0.0.1:1", "file:///tmp/x", "otlp"])
    def test_what_can_be_configured(self, to: str, tool: Tool) -> None:
        """What `flush --to` takes can be configured as well."""
        assert 0 == tool("config", "set", "flush.to", to).returncode

    def test_a_user_in_a_url(self, tool: Tool) -> None:
        """The advice names the setting that an OTLP endpoint has."""
        assert "otlp.headers" in tool("config", "set", "flush.to", "otlp+https://u:p@h.example").stderr

    def test_headers_beside_a_user_in_the_url(self, tool: Tool) -> None:
        """Header fields of config.toml that are no credentials of a user go along with those in a URL of the same origin."""
        with FakeIntake() as intake:
            fields = '{X-Scope = "a", Authorization = "Bearer b"}'
            tool("record", "log", "x")
            (tool.home / "config.toml").write_text(f'[intake]\nurl = "{intake.url}"\nheaders = {fields}\n')
            url = intake.url.replace("http://", "http://u:p@")
            assert 0 == tool("flush", RILLEVENTS_INTAKE_URL=url).returncode
            headers = only(intake.requests).headers
        assert ("a", "Basic dTpw") == (headers["x-scope"], headers["authorization"])

    def test_a_sink_tells(self, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
        """A program hears of a variable that was left out."""
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "soon")
        with caplog.at_level(logging.WARNING, "rillevents"):
            OtlpSink().close()
        assert "OTEL_EXPORTER_OTLP_TIMEOUT" in caplog.text

    def test_a_key_twice(self, tool: Tool, receiver: Receiver) -> None:
        """A key that occurs twice in OTEL_RESOURCE_ATTRIBUTES is not malformed; the last one counts."""
        tool("record", "log", "x")
        done = tool("flush", "--to", f"otlp+{receiver.url}", OTEL_RESOURCE_ATTRIBUTES="a=1,a=2")
        assert (0, False) == (done.returncode, "malformed" in done.stderr)


class TestLines:
    def test_a_number_that_is_too_long(self, tool: Tool, receiver: Receiver) -> None:
        """A number with more digits than Python reads, in a line of another program, is sent as text, and blocks nothing."""
        tool("record", "log", "x")
        odd = (LINE % b"odd").replace(b"}", b',"n":%b}' % (b"9" * 5000))
        with only(list(tool.spool.glob("*.ndjson"))).open("ab") as file:
            file.write(odd)
        assert 2 == tool.json("flush", "--to", f"otlp+{receiver.url}")["delivered"]

    def test_the_last_second(self) -> None:
        """Within the last second that a log record can hold, what is too late stays an attribute."""
        write = LogRecords(Json(("", ""), {}))
        for fraction, is_time in ((b"5", True), (b"9", False)):
            line = (LINE % b"1").replace(b"2026-11-28T10:00:00Z", b"2262-04-11T23:47:16.%b00000000Z" % fraction)
            (record,) = json.loads(write(line, 1))["resourceLogs"][0]["scopeLogs"][0]["logRecords"]
            assert is_time is ("timeUnixNano" in record)


class TestAnswers:
    @pytest.mark.parametrize("status", [401, 403])
    def test_advice(self, status: int) -> None:
        """Who is refused by an OTLP endpoint is told of header fields, since it has no user and no token."""
        with FakeIntake() as intake:
            intake.respond = lambda request: status
            exporter = OtlpExporter(f"{intake.url}/v1/logs")
            reason = exporter.export(Batch([LINE % b"1"])).reason
            exporter.close()
        assert ("OTEL_EXPORTER_OTLP_HEADERS" in reason, "password" in reason) == (True, False)

    def test_a_negative_number(self) -> None:
        """A negative number of rejected records says nothing: all are accepted."""
        body = b"\x0a\x0b\x08" + b"\xff" * 9 + b"\x01"
        with FakeIntake() as intake:
            intake.respond = lambda request: Response(200, body, {"Content-Type": "application/x-protobuf"})
            exporter = OtlpExporter(f"{intake.url}/v1/logs")
            assert 0 == exporter.export(Batch([LINE % b"1"])).unidentified
            exporter.close()
