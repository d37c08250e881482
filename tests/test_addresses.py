"""A name with several addresses, some of which do not answer."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Iterator
from typing import Any

import pytest
from support import PACE

from rillevents.delivery.exporters.connecting import HEAD_START, first_to_answer
from rillevents.delivery.exporters.intake import IntakeExporter
from rillevents.delivery.outcome import Kind
from rillevents.event import Event
from rillevents.event.batch import Batch
from rillevents.recording.sinks.batching import IntakeSink

from .faults.socket_server import OK, FaultServer, answering, full_server, hasty

NAME = "telemetry.example"
LINES = [b'{"event_id":"1"}\n']
real = socket.getaddrinfo


def port_of(url: str) -> int:
    return int(url.rpartition(":")[2].partition("/")[0])


@pytest.fixture
def swallowing() -> Iterator[int]:
    """The port of an address on this machine that never answers a SYN."""
    with full_server() as url:
        yield port_of(url)


@pytest.fixture
def refusing() -> int:
    """A port that refuses connections."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def name(ports: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the name have these addresses, ports of this machine."""

    def resolve(host: Any, port: Any, *args: Any, **kwargs: Any) -> Any:
        if host not in (NAME, NAME.encode()):
            return real(host, port, *args, **kwargs)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", at)) for at in ports]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)


class TestTheSecondAddress:
    @pytest.mark.parametrize("first", ["swallowing", "refusing"])
    @pytest.mark.parametrize("way", ["direct", "proxy", "sink"])
    def test_is_used(
        self, first: str, way: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Events arrive at the address that answers, with a proxy and without, long before the time is up."""
        with FaultServer(answering(OK)) as intake:
            name([request.getfixturevalue(first), port_of(intake.url)], monkeypatch)
            started = time.monotonic()
            if way == "sink":
                sink = IntakeSink(f"http://{NAME}/")
                sink.emit(Event("t", "n", {}))
                assert 1 == sink.flush(5 * PACE).delivered
                sink.close()
            else:
                environ = {"http_proxy": f"http://{NAME}:8080"} if way == "proxy" else {}
                exporter = IntakeExporter(
                    "http://far.example/" if way == "proxy" else f"http://{NAME}/", environ=environ
                )
                with contextlib.closing(exporter):
                    assert Kind.ACCEPTED is exporter.export(Batch(LINES)).kind
        assert time.monotonic() - started < 3 * PACE

    def test_is_used_for_tls(self, swallowing: int, monkeypatch: pytest.MonkeyPatch) -> None:
        """An https connection begins at the address that answers."""
        with FaultServer(hasty(b"no TLS here\r\n", 1)) as server:
            name([swallowing, port_of(server.url)], monkeypatch)
            exporter = IntakeExporter(f"https://{NAME}/", environ={})
            with contextlib.closing(exporter):
                assert "could not speak TLS" in exporter.export(Batch(LINES)).reason

    def test_none_answers(self, refusing: int, monkeypatch: pytest.MonkeyPatch) -> None:
        """Where every address refuses, the reason is that of the first."""
        name([refusing, refusing], monkeypatch)
        exporter = IntakeExporter(f"http://{NAME}/", environ={})
        with contextlib.closing(exporter):
            outcome = exporter.export(Batch(LINES))
        assert (Kind.TEMPORARY, f"could not connect to http://{NAME}: connection refused") == (
            outcome.kind,
            outcome.reason,
        )


class TestFirstToAnswer:
    def test_the_time_holds(self, swallowing: int) -> None:
        """Where all addresses swallow packets, the time is up when it is up."""
        silent = (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", swallowing))
        started = time.monotonic()
        with pytest.raises(TimeoutError):
            first_to_answer([silent, silent], 2 * HEAD_START)
        assert 2 * HEAD_START <= time.monotonic() - started + 0.01 < 2 * HEAD_START + 2 * PACE

    def test_the_first_is_preferred(self) -> None:
        """An address that answers at once is used, and the next one not asked."""
        with FaultServer(answering(b"")) as one, FaultServer(answering(b"")) as two:
            found = [
                (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port_of(each.url))) for each in (one, two)
            ]
            with first_to_answer(found, 5) as sock:
                assert found[0][4] == sock.getpeername()
                assert sock.getblocking()
        assert 0 == two.connections

    def test_a_family_that_is_not_there(self) -> None:
        """An address that this machine cannot use at all is passed over."""
        with FaultServer(answering(b"")) as server:
            usable = (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port_of(server.url)))
            with first_to_answer([(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("no address", 1)), usable], 5) as sock:
                assert usable[4] == sock.getpeername()

    def test_no_address(self) -> None:
        """Without an address there is an error, not a wait."""
        with pytest.raises(OSError, match="assign"):
            first_to_answer([], 5)
