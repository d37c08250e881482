"""Programs that send events with OpenTelemetry's own SDKs, Python's and Go's, to a server."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from serving import Serving, rows
from support import KEPT, Tool, need

from rillevents.testing import FakeIntake, Request, Response

pytestmark = [pytest.mark.slow, pytest.mark.unmeasured]

START_NS = 1795428000123456789
GO_PROGRAM = Path(__file__).parent / "go" / "otlp"
# Every tenth record has no event name.
PROGRAM = f"""
import sys
from opentelemetry import trace
from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.resources import Resource

count, own_ids = int(sys.argv[1]), "ids" in sys.argv
provider = LoggerProvider(resource=Resource({{"service.name": "shop", "service.version": "1.2", "host.name": "private"}}))
provider.add_log_record_processor(BatchLogRecordProcessor(OTLPLogExporter(), max_export_batch_size=100))
logger = provider.get_logger("program", "3")
flags = trace.TraceFlags(1)
span = trace.NonRecordingSpan(trace.SpanContext(trace_id=1, span_id=2, is_remote=False, trace_flags=flags))
with trace.use_span(span):
    for n in range(count):
        attributes = {{"n": n, "fraction": 0.5, "ok": True, "bytes": b"\\0\\xff", "list": ["ä", "b"]}}
        attributes["map"] = {{"a": ["b", 1, None], "empty": {{}}}}
        if own_ids:
            attributes |= {{"event_id": f"own-{{n}}", "event_type": "audit"}}
        record = LogRecord(
            timestamp={START_NS} + n,
            severity_number=SeverityNumber.WARN,
            body="slow",
            attributes=attributes,
            event_name=None if n % 10 == 9 else "sdk-event",
        )
        logger.emit(record)
print(provider.force_flush(), flush=True)
provider.shutdown()
"""


class Proxy(FakeIntake):
    """Hands every request on to a server, and its answer back, unless the script has another answer."""

    def __init__(self, serving: Serving) -> None:
        super().__init__()
        self._serving = serving
        self.respond = self.pass_on

    @property
    def origin(self) -> str:
        return self.url.removesuffix("/events/default")

    def pass_on(self, request: Request) -> Response:
        told = self._serving.post(request.body, request.path, Content_Type=request.headers["content-type"])
        return Response(told.status, told.body, {"Content-Type": told.headers["content-type"]})

    def lose_the_answer(self, request: Request) -> Response:
        self.pass_on(request)
        return Response(503, b"", {"Retry-After": "0"})

    def _store(self, request: Request, rejected: set[int]) -> None:
        """Keep nothing: the server does."""


def emit(url: str, *words: str, **environ: str) -> str:
    """Run a program that emits log records, and return what its SDK said on stderr."""
    pytest.importorskip("opentelemetry.exporter.otlp.proto.http._log_exporter")
    pytest.importorskip("opentelemetry.sdk._logs.export")
    kept = {key: os.environ[key] for key in KEPT if key in os.environ}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *words],
        # In seconds, for all tries of a batch.
        env=kept | {"OTEL_EXPORTER_OTLP_ENDPOINT": url, "OTEL_EXPORTER_OTLP_TIMEOUT": "100"} | environ,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert (0, "True\n") == (done.returncode, done.stdout), done.stderr
    return done.stderr


def stored(tool: Tool) -> list[dict[str, Any]]:
    return [json.loads(body) for body in rows(tool.paths.default_store)]


def expected(name: str, n: int, **more: Any) -> dict[str, Any]:
    """Return the event, without its ID, that a program's record with a number should be."""
    return {
        "event_time": f"2026-11-23T10:00:00.{123456789 + n:09}Z",
        "event_type": "behavioral",
        "event_name": name,
        "service_name": "shop",
        "service_version": "1.2",
        "n": n,
        "fraction": 0.5,
        "ok": True,
        "bytes": "AP8=",
        "message": "slow",
        "trace_id": f"{1:032x}",
        "span_id": f"{2:016x}",
        **more,
    }


def without(event: dict[str, Any], *keys: str) -> dict[str, Any]:
    return {key: value for key, value in event.items() if key not in keys}


def named(count: int) -> list[int]:
    return [n for n in range(count) if n % 10 != 9]


class TestPython:
    def test_events(self, tool: Tool) -> None:
        """Records with an event name arrive as they were emitted, each once, whatever its size of batch; others are rejected."""
        with Serving(tool) as serving:
            assert "" == emit(serving.url, "250", OTEL_EXPORTER_OTLP_COMPRESSION="gzip")
            assert 25 == serving.ask("GET", "/api/rejected?limit=1").json["total"]
        found = stored(tool)
        more = {"list": ["ä", "b"], "map": {"a": ["b", 1, None], "empty": {}}, "level": "warn"}
        events = [without(event, "event_id", "otel.scope.name", "otel.scope.version") for event in found]
        assert [expected("sdk-event", n, **more) for n in named(250)] == events
        assert {"program"} == {event["otel.scope.name"] for event in found}
        assert 225 == len({event["event_id"] for event in found})

    def test_ids_of_its_own(self, tool: Tool) -> None:
        """A program that runs again with IDs of its own makes no second events."""
        with Serving(tool) as serving:
            for _ in range(2):
                assert "" == emit(serving.url, "20", "ids")
        found = stored(tool)
        assert [(f"own-{n}", "audit") for n in named(20)] == [(each["event_id"], each["event_type"]) for each in found]

    def test_refused_at_first(self, tool: Tool) -> None:
        """What was refused with 503 is sent again, and arrives."""
        with Serving(tool) as serving, Proxy(serving) as proxy:
            proxy.script += [Response(503, b"", {"Retry-After": "0"})] * 2
            assert "retrying" in emit(proxy.origin, "20")
            assert 3 == len(proxy.requests)
        assert named(20) == [event["n"] for event in stored(tool)]

    def test_the_answer_is_lost(self, tool: Tool) -> None:
        """What was stored, although the SDK was told 503, and is sent again, is no second event."""
        with Serving(tool) as serving, Proxy(serving) as proxy:
            proxy.script += [proxy.lose_the_answer] * 2
            assert "retrying" in emit(proxy.origin, "20")
            assert 3 == len(proxy.requests)
            assert 1 == len({request.body for request in proxy.requests})
            assert 'outcome="duplicates"} 36.0' in serving.ask("GET", "/metrics").body.decode()
            assert 'outcome="conflicts"} 0.0' in serving.ask("GET", "/metrics").body.decode()
        assert named(20) == [event["n"] for event in stored(tool)]


def build(folder: Path) -> Path:
    """Return Go's program, built from a copy of its folder; skip where the SDK cannot be had."""
    go = need("go")
    shutil.copytree(GO_PROGRAM, folder / "otlp")
    words = [go, "build", "-o", folder / "program", "."]
    environ = os.environ | {"GOFLAGS": "-mod=mod", "GOTOOLCHAIN": "local"}
    built = subprocess.run(
        words, cwd=folder / "otlp", env=environ, capture_output=True, text=True, check=False, timeout=900
    )
    if "main.go:" in built.stderr:
        pytest.fail(built.stderr)
    if built.returncode:
        # Everywhere, CI too: whether the modules can be had, and for this version of Go, is not in our hands.
        pytest.skip(f"OpenTelemetry's SDK for Go cannot be had here: {built.stderr.strip()[-300:]}")
    return folder / "program"


def test_go(tool: Tool, tmp_path: Path) -> None:
    """What Go's SDK sends arrives as it was emitted, each event once, and its program is told how many records were rejected."""
    program = build(tmp_path)
    with Serving(tool) as serving:
        words = [program, f"{serving.url}/v1/logs", "1000"]
        done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=120)
    assert (0, "") == (done.returncode, done.stderr)
    assert 100 == sum(map(int, re.findall(r"no event name.*\((\d+) logs rejected\)", done.stdout))), done.stdout
    found = stored(tool)
    more = {"list": ["ä", -(2**63)], "map": {"a": "b", "empty": {}}, "level": "warn"}
    events = [without(event, "event_id", "otel.scope.name", "otel.scope.version") for event in found]
    assert [expected("go-event", n, **more) for n in named(1000)] == events
    assert 900 == len({event["event_id"] for event in found})
