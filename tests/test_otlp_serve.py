"""`POST /v1/logs`: OpenTelemetry's log records become events, and the answers are those that its clients read."""

from __future__ import annotations

import base64
import gzip
import json
import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from otlp_forms import JSON, PROTOBUF, Form, in_json, in_otlp, of, pairs
from serving import Serving, rows, says_nothing
from support import Tool, only

from rillevents import Client
from rillevents.event.timestamp import parse_time
from rillevents.serve.limits import MAX_EVENTS

TIME_NS, TIME = 1795428000123456789, "2026-11-23T10:00:00.123456789Z"
BAD = of({"event_name": "bad"}).SerializeToString()
BAD_FIELDS = b"""
"eventName":5 "timeUnixNano":"2026-11-23T10:00:00Z" "timeUnixNano":1.5 "timeUnixNano":18446744073709551616
"severityNumber":true "body":{"intValue":9223372036854775808} "body":{"intValue":"1.0"} "body":{"doubleValue":NaN}
"body":{"doubleValue":"x"} "attributes":[{"key":5}]
"""
NO_REQUESTS = [b"", b"nonsense", b"[]", b"{} {}", b"{}\n\xff", b'{"resourceLogs":5}', b'{"resourceLogs":[null]}']
MALFORMED = [
    *NO_REQUESTS,
    b'{"resourceLogs":' + b"[" * 100_000,
    in_json(of({"event_name": "bad"})) * 2,
    *(
        b'{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"eventName":"bad"},{%b}]}]}]}' % each
        for each in BAD_FIELDS.split()
    ),
]
TAKEN = ("application/json", "Application/JSON; charset=utf-8", "application/x-protobuf", "application/x-protobuf ;a=b")
OTHERS = ("application/protobuf", "application/x-ndjson", "application/jsonl", "text/plain", "")
both = pytest.mark.parametrize("form", [PROTOBUF, JSON], ids=["protobuf", "JSON"])


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """A server with a store, which says nothing of errors to the end."""
    with says_nothing(tmp_path_factory.mktemp("server")) as serving:
        yield serving


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    """A name that only events of this test have."""
    return str(request.node.name)


def stored(serving: Serving, name: str) -> list[dict[str, Any]]:
    query = "SELECT body FROM events WHERE event_name = ? ORDER BY rowid"
    return [json.loads(body) for body in rows(serving.tool.paths.default_store, query, name)]


def own(event: dict[str, Any]) -> dict[str, Any]:
    """Return what an event has beside the four fields."""
    return {key: value for key, value in event.items() if not key.startswith("event_")}


class TestEvents:
    @both
    def test_a_log_record(self, form: Form, server: Serving, name: str) -> None:
        """A log record with an event name is an event: its ID and type, its time, resource, severity, body, trace and attributes."""
        record = {
            "event_name": name,
            "time_unix_nano": TIME_NS,
            "observed_time_unix_nano": 1,
            "severity_number": 13,
            "severity_text": "WARNING",
            "body": "slow, ä",
            "trace_id": bytes.fromhex("0af7651916cd43dd8448eb211c80319c"),
            "span_id": bytes.fromhex("b7ad6b7169203331"),
            "attributes": {"event_id": f"{name}-1", "event_type": "checkout", "plan": "pro", "both": "record"},
        }
        request = of(record, service__name="shop", service__version="1.2", both="resource", zone="eu")
        assert (200, 0, "") == form.judged(form.post(server, request))
        assert {
            "event_id": f"{name}-1",
            "event_time": TIME,
            "event_type": "checkout",
            "event_name": name,
            "service_name": "shop",
            "service_version": "1.2",
            "zone": "eu",
            "both": "record",
            "plan": "pro",
            "level": "WARNING",
            "message": "slow, ä",
            "trace_id": "0af7651916cd43dd8448eb211c80319c",
            "span_id": "b7ad6b7169203331",
        } == only(stored(server, name))

    @both
    def test_values(self, form: Form, server: Serving, name: str) -> None:
        """Values keep their types; bytes are base64, and a double that is no number is text."""
        values = {
            "text": 'ä "\n\u2028\x01',
            "least": -(2**63),
            "whole": 2**63 - 1,
            "fraction": -2.5e-7,
            "no": False,
            "nothing": None,
            "list": [1, "a", None, [True, {}], {"x": [2.5]}],
            "map": {"a.b": {"": [], "event_id": "inner"}, "empty": {}},
        }
        odd = {"bytes": b"\x00\xff", "nan": math.nan, "infinite": -math.inf, "in": [b"x", {"y": math.inf}]}
        assert 200 == form.post(server, of({"event_name": name, "attributes": values | odd})).status
        expected = values | {"bytes": "AP8=", "nan": "nan", "infinite": "-inf", "in": ["eA==", {"y": "inf"}]}
        assert expected == own(only(stored(server, name)))

    @both
    def test_time(self, form: Form, server: Serving, name: str) -> None:
        """Without a time of its own a record has the one when it was observed, else that of its arrival."""
        before = time.time_ns()
        form.post(server, of({"event_name": name, "observed_time_unix_nano": TIME_NS}, {"event_name": name}))
        observed, arrived = stored(server, name)
        assert TIME == observed["event_time"]
        assert before <= parse_time(arrived["event_time"]) <= time.time_ns()

    @both
    def test_an_id_of_its_own(self, form: Form, server: Serving, name: str) -> None:
        """Without an ID an event's is a hash: a retry is no second event, two alike in one request are two, others are others."""
        record = {"event_name": name, "time_unix_nano": TIME_NS, "attributes": {"n": 1}}
        twice = of(record, record, zone="eu")
        assert [(200, 0, "")] * 3 == [form.judged(form.post(server, twice)) for _ in range(3)]
        assert 2 == len(stored(server, name))
        others = [of(record), of(record, zone="us"), of(record | {"attributes": {"n": 2}}, zone="eu")]
        others += [of(record, zone="eu", scope="other"), of(record | {"time_unix_nano": TIME_NS + 1}, zone="eu")]
        assert {200} == {form.post(server, each).status for each in others}
        found = {event["event_id"] for event in stored(server, name)}
        assert (7, {36}) == (len(found), {len(each) for each in found})

    def test_the_same_in_both(self, server: Serving, name: str) -> None:
        """A record has the same hash in either encoding."""
        request = of({"event_name": name, "time_unix_nano": TIME_NS, "attributes": {"n": 1, "b": b"x"}}, zone="eu")
        assert [(200, 0, "")] * 2 == [form.judged(form.post(server, request)) for form in (PROTOBUF, JSON)]
        assert 1 == len(stored(server, name))

    @both
    def test_what_does_not_override(self, form: Form, server: Serving, name: str) -> None:
        """Attributes named like a field override neither name nor time; an ID or a type that is empty or no text counts as none."""
        given = [
            {"event_time": "1999-01-01T00:00:00Z", "event_name": "other", "event_id": "", "event_type": ""},
            {"event_id": 5, "event_type": ["x"]},
        ]
        records = [{"event_name": name, "time_unix_nano": TIME_NS, "attributes": each} for each in given]
        assert (200, 0, "") == form.judged(form.post(server, of(*records, event_id="r", event_type="r")))
        found = stored(server, name)
        assert [(TIME, "behavioral")] * 2 == [(each["event_time"], each["event_type"]) for each in found]
        assert [36, 36] == [len(each["event_id"]) for each in found]

    @both
    def test_what_is_private(self, form: Form, server: Serving, name: str) -> None:
        """Command lines, their owner and the host are dropped, from the resource and from the record; what is called alike stays."""
        private: dict[str, Any] = {"process.command_args": ["x", "--token=s"], "process.command_line": "x --token=s"}
        private |= {"process.owner": "me", "host.name": "h", "host.ip": ["::1"], "host.": "x"}
        kept = {"process.pid": 5, "process.command": "x", "process.owner.x": "y", "hostname": "z", "my.host.name": "w"}
        request = of({"event_name": name, "attributes": private})
        request.resource_logs[0].resource.attributes.extend(pairs(private | kept))
        assert 200 == form.post(server, request).status
        assert kept == own(only(stored(server, name)))

    def test_severity(self, server: Serving, name: str) -> None:
        """A severity is the event's level, by its text, or else by its number; an attribute `level` wins over it."""
        numbers = [{"event_name": name, "severity_number": number} for number in (1, 4, 5, 9, 12, 13, 17, 21, 24, 0)]
        texts: list[dict[str, Any]] = [{"event_name": name, "severity_number": 9, "severity_text": "Notice"}]
        texts += [{"event_name": name, "severity_text": "x", "attributes": {"level": 3}}]
        assert (200, 0, "") == PROTOBUF.judged(PROTOBUF.post(server, of(*numbers, *texts)))
        expected = ["trace", "trace", "debug", "info", "info", "warn", "error", "fatal", "fatal", None, "Notice", 3]
        assert expected == [event.get("level") for event in stored(server, name)]

    def test_body_and_ids(self, server: Serving, name: str) -> None:
        """A body that is no text, or that an attribute `message` stands before, is the attribute `body`; IDs of zeros are none."""
        bodies = [{"event_name": name, "body": body} for body in ("text", {"a": [1]}, 0, False, "", None)]
        last = {"event_name": name, "body": "text", "attributes": {"message": "own"}, "span_id": bytes(8)}
        assert (200, 0, "") == PROTOBUF.judged(PROTOBUF.post(server, of(*bodies, last | {"trace_id": bytes(16)})))
        expected = [{"message": "text"}, {"body": {"a": [1]}}, {"body": 0}, {"body": False}, {}, {}]
        assert [*expected, {"message": "own", "body": "text"}] == [own(event) for event in stored(server, name)]

    def test_json_as_others_write_it(self, server: Serving, name: str) -> None:
        """JSON may have numbers for 64-bit integers, keys of protobuf, upper-case IDs, nulls and keys that nobody knows."""
        ids = {"trace_id": "0AF7651916CD43DD8448EB211C80319C", "spanId": "B7AD6B7169203331", "severity_number": "9"}
        values = [{"int_value": -5}, {"intValue": "-5"}, {"double_value": "2.5"}, {"array_value": {"values": None}}]
        listed = [{"key": f"k{number}", "value": value} for number, value in enumerate(values)]
        record = ids | {"event_name": name, "time_unix_nano": TIME_NS, "attributes": listed, "body": None, "x": 1}
        logs = {"resource": None, "scope_logs": [{"scope": None, "log_records": [record], "schema_url": "u"}]}
        body = b"\xef\xbb\xbf" + json.dumps({"resource_logs": [logs], "new": {}}).encode()
        assert (200, 0, "") == JSON.judged(JSON.post(server, body))
        found = only(stored(server, name))
        trace = {"trace_id": "0af7651916cd43dd8448eb211c80319c", "span_id": "b7ad6b7169203331", "level": "info"}
        assert (TIME, {"k0": -5, "k1": -5, "k2": 2.5, "k3": []} | trace) == (found["event_time"], own(found))


class TestAnswers:
    @both
    def test_no_event(self, form: Form, server: Serving, name: str) -> None:
        """Records that are no events are counted in the answer and kept with the rejected lines; the others are stored."""
        lost = {"body": f"lost {name}", "severity_number": 9}
        told = form.post(server, of(lost, {"event_name": name}, {"event_name": name, "body": "x" * 40_000}, lost))
        status, count, message = form.judged(told)
        assert (200, 3, True) == (status, count, "no event name" in message)
        assert 1 == len(stored(server, name))
        kept = server.ask("GET", "/api/rejected?limit=500").json["rejected"]
        mine = [(each["stream"], "no event name" in each["reason"]) for each in kept if f"lost {name}" in each["line"]]
        assert [("otlp", True)] * 2 == mine

    @both
    def test_conflict(self, form: Form, server: Serving, name: str) -> None:
        """Another event with an ID that is taken is counted in the answer; the first one stays, and is no conflict again."""
        first, other = ({"event_name": name, "attributes": {"event_id": name, "n": n}} for n in (1, 2))
        first |= {"time_unix_nano": TIME_NS}
        assert (200, 0, "") == form.judged(form.post(server, of(first)))
        status, count, message = form.judged(form.post(server, of(other, first)))
        assert (200, 1, True) == (status, count, "another event has this event_id" in message)
        assert [1] == [event["n"] for event in stored(server, name)]

    @both
    def test_nothing(self, form: Form, server: Serving) -> None:
        """A request without records is well, and so is one without anything in it."""
        empty = [b"", of()] if form is PROTOBUF else [b"{}", of()]
        assert [(200, 0, "")] * 2 == [form.judged(form.post(server, each)) for each in empty]

    @pytest.mark.parametrize(
        ("content_type", "status"), [*((each, 200) for each in TAKEN), *((each, 415) for each in OTHERS)]
    )
    def test_content_type(self, content_type: str, status: int, server: Serving, name: str) -> None:
        """Protobuf and JSON are told by the content type, whatever its parameters; anything else, or none, is 415."""
        form = PROTOBUF if "protobuf" in content_type else JSON
        body = form.write(of({"event_name": name}))
        told = server.post(body, "/v1/logs", **{"Content_Type": content_type} if content_type else {})
        assert status == told.status
        assert (status == 200) is bool(stored(server, name))
        assert status == 200 or "application/x-protobuf or application/json" in told.json["message"]

    @both
    def test_gzip(self, form: Form, server: Serving, name: str) -> None:
        """A body may be gzip; damaged it is 400, and in another compression 415."""
        packed = gzip.compress(form.write(of({"event_name": name})))
        assert (200, 0, "") == form.judged(form.post(server, packed, Content_Encoding="gzip"))
        told = [form.refused(form.post(server, packed[:-9], Content_Encoding=each)) for each in ("gzip", "br")]
        assert [(400, True), (415, True)] == [(status, "gzip" in reason) for status, reason in told]
        assert 1 == len(stored(server, name))

    @pytest.mark.parametrize("body", [b"\xff\xff", BAD[:-1], b'{"resourceLogs":[]}', BAD.replace(b"bad", b"b\xffd")])
    def test_malformed_protobuf(self, body: bytes, server: Serving) -> None:
        """What is no protobuf is 400 as a whole, and says so in protobuf; nothing of it is stored."""
        status, reason = PROTOBUF.refused(PROTOBUF.post(server, body))
        assert (400, True) == (status, reason.startswith("the body is not OTLP in protobuf"))
        assert [] == stored(server, "bad")

    @pytest.mark.parametrize("body", MALFORMED, ids=lambda body: repr(body[-60:]))
    def test_malformed_json(self, body: bytes, server: Serving) -> None:
        """What is no JSON of OTLP's, or is followed by more, is 400 as a whole, and nothing of it is stored."""
        status, reason = JSON.refused(JSON.post(server, body))
        assert (400, True) == (status, reason.startswith("the body is not OTLP in JSON"))
        assert [] == stored(server, "bad")

    @pytest.mark.parametrize("form", [PROTOBUF, pytest.param(JSON, marks=pytest.mark.slow)], ids=["protobuf", "JSON"])
    def test_too_many(self, form: Form, server: Serving) -> None:
        """More records than a request may have are 413, and none of them is stored."""
        many = b",".join([b'{"eventName":"many"}'] * (MAX_EVENTS + 1))
        body = b'{"resourceLogs":[{"scopeLogs":[{"logRecords":[%b]}]}]}' % many
        request = body if form is JSON else of(*[{"event_name": "many"}] * (MAX_EVENTS + 1))
        status, reason = form.refused(form.post(server, request))
        assert (413, True) == (status, str(MAX_EVENTS) in reason)
        assert [] == stored(server, "many")

    @both
    def test_host_and_origin(self, form: Form, server: Serving, name: str) -> None:
        """Another Host or Origin is 403, as it is for `/events`; a page of this machine may read the answer."""
        request = of({"event_name": name})
        for wrong in ({"Host": "evil.example"}, {"Origin": "https://evil.example"}):
            status, reason = form.refused(form.post(server, request, **wrong))
            assert (403, True) == (status, "is not allowed here" in reason)
        told = form.post(server, request, Origin="http://localhost:3000")
        assert (200, "http://localhost:3000") == (told.status, told.headers["access-control-allow-origin"])
        assert 1 == len(stored(server, name))

    def test_credentials(self, tool: Tool) -> None:
        """With --user credentials are asked for, as they are for `/events`; an Origin does not stand in for them."""
        basic = "Basic " + base64.b64encode(b"me:secret").decode()
        with Serving(tool, "--user", "me", RILLEVENTS_SERVE_PASSWORD="secret") as serving:
            for form in (PROTOBUF, JSON):
                for wrong in ({}, {"Authorization": basic + "x"}, {"Origin": "http://localhost:3000"}):
                    told = form.post(serving, of({"event_name": "n"}), **wrong)
                    assert (401, "a user name and a password are required") == form.refused(told)
                    assert told.headers["www-authenticate"].startswith("Basic")
                assert 200 == form.post(serving, of({"event_name": "n"}), Authorization=basic).status


class TestElsewhere:
    def test_to_the_spool(self, tool: Tool) -> None:
        """A server that fills the spool puts events there; a full one is 503 with Retry-After, in the encoding of the request."""
        tool.home.mkdir()
        (tool.home / "config.toml").write_text("[spool]\nmax_bytes = 1000\n")
        with Serving(tool, "--to", "spool") as serving:
            told = PROTOBUF.post(serving, of({"event_name": "a"}, {"body": "no event"}, service__name="shop"))
            assert (200, 1) == PROTOBUF.judged(told)[:2]
            assert [("a", "shop")] == [(event["event_name"], event["service_name"]) for event in tool.events()]
            for form in (PROTOBUF, JSON):
                told = form.post(serving, of({"event_name": "b", "body": "x" * 2000}))
                assert (503, "events cannot be stored now") == form.refused(told)
                assert "1" == told.headers["retry-after"]

    def test_without_protobuf(self, tool: Tool, tmp_path: Path) -> None:
        """Without opentelemetry-proto protobuf is 415 with what to do; JSON is taken."""
        (tmp_path / "sitecustomize.py").write_text(
            "import sys\n"
            "class Missing:\n"
            "    def find_spec(self, name, path=None, target=None):\n"
            "        if name.partition('.')[0] == 'opentelemetry':\n"
            "            raise ModuleNotFoundError(name)\n"
            "sys.meta_path.insert(0, Missing())\n"
        )
        with Serving(tool, PYTHONPATH=str(tmp_path)) as serving:
            status, reason = PROTOBUF.refused(PROTOBUF.post(serving, of({"event_name": "a"})))
            assert (415, True, True) == (status, "as JSON" in reason, "pip install 'rillevents[otlp]'" in reason)
            assert (200, 0, "") == JSON.judged(JSON.post(serving, of({"event_name": "a"})))
            assert 1 == len(stored(serving, "a"))

    @pytest.mark.parametrize("encoding", ["protobuf", pytest.param("json", marks=pytest.mark.slow)])
    def test_there_and_back(self, encoding: str, tool: Tool, server: Serving) -> None:
        """What is recorded and flushed as OTLP is the same in the server's store; whole numbers beyond 64 bits are text there."""
        client = Client.from_config(environ=tool.environ | {"RILLEVENTS_SERVICE_NAME": "shop"}, on_error="raise")
        trace = {"trace_id": "0af7651916cd43dd8448eb211c80319c", "span_id": "b7ad6b7169203331"}
        client.record_behavioral("login-start", plan="pro", ok=True, nothing=None, note="")
        client.record_behavioral("old", trace, event_time="1999-12-31T23:59:59.999999999Z", service_version="1.2")
        client.record_metric("build", 2.0, unit="s", list=[1, 1.0, "1", None, {"x": [], "y": {}}], big=2**64)
        client.record_metric("size", -(2**63), {"a.b": -1e300, "ä": "\u2028", "in": {"deep": [-(10**20)]}})
        client.record_log("oom", "killed", level="error", trace_id="no hex", span_id="")
        client.record_log("no text", level="", message="", service_name="")
        client.record("audit", "x", message="no log", level=3, body={"b": 1})
        client.close()
        expected = {event["event_id"]: in_otlp(event) for event in tool.events()}
        assert 7 == len(expected)
        (tool.home / "config.toml").write_text(f'[otlp]\nencoding = "{encoding}"\n')
        done = tool("flush", "--to", f"otlp+http://127.0.0.1:{server.port}")
        assert (0, []) == (done.returncode, tool.lines()), done.stderr
        told = tool("events", "--store", server.tool.paths.default_store, "--ndjson").stdout
        found = {event["event_id"]: event for event in map(json.loads, told.strip().split("\n"))}
        assert expected == {event_id: found[event_id] for event_id in expected}
