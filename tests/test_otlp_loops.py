"""A server that would deliver to itself by OTLP, directly or through another: no event goes round."""

from __future__ import annotations

import re
import socket
from pathlib import Path

import pytest
from otlp_forms import JSON, PROTOBUF, Form, of
from serving import Serving, event, rows, stored_ids, until
from support import Tool

from rillevents.serve.options import Options
from rillevents.serve.server import is_own_url

pytestmark = pytest.mark.unmeasured

ENDPOINT, LOGS_ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_LOGS_ENDPOINT"


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def other(tmp_path: Path) -> Tool:
    (tmp_path / "other" / "user").mkdir(parents=True)
    return Tool(tmp_path / "other" / "home")


def answers(serving: Serving, status: int) -> float:
    """How many requests were answered so."""
    text = serving.ask("GET", "/metrics").body.decode()
    found = re.search(rf'^rillevents_answers_total{{status="{status}"}} (\S+)$', text, re.MULTILINE)
    return float(found[1]) if found else 0


def accepted(serving: Serving) -> float:
    text = serving.ask("GET", "/metrics").body.decode()
    found = re.search(r'^rillevents_events_total{outcome="accepted"} (\S+)$', text, re.MULTILINE)
    return float(found[1]) if found else -1


@pytest.mark.parametrize(
    ("to", "environ"),
    [
        ("otlp+http://127.0.0.1:PORT", {}),
        ("otlp", {ENDPOINT: "http://localhost:PORT"}),
        pytest.param("otlp+http://localhost:PORT/v1/logs", {}, marks=pytest.mark.slow),
        pytest.param("OTLP+HTTP://127.8.8.8:PORT/", {}, marks=pytest.mark.slow),
        pytest.param("otlp+http://[::1]:PORT/any/path", {}, marks=pytest.mark.slow),
        pytest.param("otlp", {LOGS_ENDPOINT: "http://127.0.0.1:PORT/v1/logs"}, marks=pytest.mark.slow),
        pytest.param("otlp", {LOGS_ENDPOINT: "http://[::1]:PORT", ENDPOINT: "http://x:1"}, marks=pytest.mark.slow),
    ],
    ids=lambda value: value if isinstance(value, str) else ",".join(value) or "flag",
)
def test_its_own_url_is_refused(to: str, environ: dict[str, str], tool: Tool) -> None:
    """A server that is told to deliver to itself by OTLP, by any name of this machine, does not start: 78."""
    port = str(free_port())
    variables = {name: value.replace("PORT", port) for name, value in environ.items()}
    done = tool("serve", "--port", port, "--to", to.replace("PORT", port), **variables)
    assert (78, True) == (done.returncode, "is this server itself" in done.stderr), done.stderr


@pytest.mark.slow
def test_the_default_endpoint(tool: Tool) -> None:
    """Without any variable `otlp` is port 4318 of this machine: a server that listens there is told so."""
    done = tool("serve", "--port", "4318", "--to", "otlp")
    # Or another program has that port.
    assert done.returncode == 75 or (78, True) == (done.returncode, "is this server itself" in done.stderr), done.stderr


@pytest.mark.parametrize(
    ("to", "own"),
    [
        ("otlp+http://127.0.0.1:8787/v1/logs", True),
        ("otlp+http://127.0.0.1:4318/v1/logs", False),
        ("otlp+http://0.0.0.0:8787/v1/logs", True),
        ("otlp+http://10.0.0.7:8787/v1/logs", True),
        ("otlp+http://10.0.0.8:8787/v1/logs", False),
        ("otlp+https://events.example/v1/logs", True),
        ("otlp+https://events.example:4318/v1/logs", False),
        ("http://127.0.0.1:8787/events/default", True),
        ("kafka://127.0.0.1:8787/topic", False),
        ("file:/tmp/127.0.0.1:8787", False),
        ("", False),
    ],
)
def test_what_is_known_at_the_start(to: str, own: bool) -> None:
    """A server knows its port, its address and its names in a URL of OTLP as in any other."""
    assert own is is_own_url(to, Options(host="10.0.0.7", allow_hosts=("Events.example",)), 8787)


@pytest.mark.slow
@pytest.mark.parametrize("configured", ["url", "variable"])
def test_a_spool_that_would_come_back_is_told(configured: str, tool: Tool) -> None:
    """A server that fills the spool of a flush by OTLP that leads to the server says so, and starts."""
    port = free_port()
    to = f"otlp+http://127.0.0.1:{port}" if configured == "url" else "otlp"
    with Serving(
        tool, "--to", "spool", "--port", str(port), RILLEVENTS_TO=to, **{ENDPOINT: f"http://localhost:{port}"}
    ) as serving:
        until(lambda: "events would go round" in serving.stderr)


@pytest.mark.slow
@pytest.mark.parametrize("form", [PROTOBUF, JSON], ids=["protobuf", "JSON"])
def test_two_servers_that_forward_to_each_other(form: Form, tool: Tool, tmp_path: Path) -> None:
    """An event that comes back by OTLP is answered 508 and stays with the server that has it; that server says so, once."""
    ports = free_port(), free_port()
    urls = [f"otlp+http://127.0.0.1:{port}" for port in ports]
    tools = tool, other(tmp_path)
    for each in tools:
        each.home.mkdir()
        encoding = "protobuf" if form is PROTOBUF else "json"
        (each.home / "config.toml").write_text(f'[otlp]\nencoding = "{encoding}"\n')
    with (
        Serving(tools[0], "--to", urls[1], "--port", str(ports[0])) as first,
        Serving(tools[1], "--to", urls[0], "--port", str(ports[1])) as second,
    ):
        assert 200 == form.post(first, of({"event_name": "n"})).status
        # The third answer: what there was to say of the second one has been said.
        until(lambda: answers(first, 508) >= 3)
        assert (1, 0) == (second.stderr.count("HTTP 508"), first.stderr.count("HTTP 508"))
        assert "passed this server before" in second.stderr
        assert [1.0, 1.0] == [accepted(first), accepted(second)]


@pytest.mark.slow
def test_by_otlp_there_and_as_lines_back(tool: Tool, tmp_path: Path) -> None:
    """The mark is the same on both ways: what went by OTLP and would come back as NDJSON is answered 508."""
    ports = free_port(), free_port()
    back = f"http://127.0.0.1:{ports[0]}/events/default"
    with (
        Serving(tool, "--to", f"otlp+http://127.0.0.1:{ports[1]}", "--port", str(ports[0])) as first,
        Serving(other(tmp_path), "--to", back, "--port", str(ports[1])) as second,
    ):
        assert 200 == first.post(event("1")).status
        until(lambda: answers(first, 508) >= 2)
        assert [1.0, 1.0] == [accepted(first), accepted(second)]


@pytest.mark.slow
def test_a_chain_is_no_loop(tool: Tool, tmp_path: Path) -> None:
    """From one server to the next by OTLP, and into its store: an event arrives as it is."""
    target = other(tmp_path)
    with (
        Serving(target) as second,
        Serving(tool, "--to", f"otlp+http://127.0.0.1:{second.port}") as first,
    ):
        line = event("1", time="2026-11-23T10:00:00.000000000Z", plan="pro")
        assert 200 == first.post(line).status
        until(lambda: ["1"] == stored_ids(target.paths.default_store))
        assert [line.decode().replace(": ", ":").replace(", ", ",").strip()] == rows(target.paths.default_store)
