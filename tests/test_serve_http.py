"""What a server makes of bytes that are almost HTTP: each request has one meaning, or is refused and the connection closed."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from serving import Serving, event, stored_ids, until
from support import Tool

from .faults.raw_http import (
    CHUNKED,
    chunk,
    chunked,
    exchange,
    request,
    statuses,
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """A server with a store, which all tests of this file talk to; none of them makes it say anything."""
    folder = tmp_path_factory.mktemp("server")
    (folder / "user").mkdir()
    with Serving(Tool(folder / "home")) as serving:
        until(lambda: "export" in serving.stderr)
        said = serving.stderr
        yield serving
        assert serving.process.poll() is None
        assert said == serving.stderr


def stored(server: Serving) -> list[str]:
    return stored_ids(server.tool.paths.default_store)


class TestTrailers:
    def test_they_are_no_headers(self, server: Serving) -> None:
        """What stands behind a chunked body overrules no header: a Host of somebody else's stays one."""
        for host, status in ((b"Host: evil.test\r\n", 403), (b"Host: localhost\r\n", 200)):
            other = b"localhost" if status == 403 else b"evil.test"
            body = chunk(event(f"trailer-{status}")) + b"0\r\nHost: " + other + b"\r\nX: y\r\n\r\n"
            answers = exchange(server.port, request(body, CHUNKED, host=host, framed=False))
            assert [status] == statuses(answers)
        assert "trailer-403" not in stored(server)


class TestOtherProtocols:
    @pytest.mark.parametrize("framed", [True, False], ids=["length", "chunked"])
    @pytest.mark.parametrize("pieces", [1, 2], ids=["at-once", "body-later"])
    @pytest.mark.parametrize("protocol", [b"h2c", b"websocket", b"TLS/1.0"], ids=["h2c", "websocket", "tls"])
    def test_an_upgrade_is_passed_over(self, protocol: bytes, pieces: int, framed: bool, server: Serving) -> None:
        """A request that would go on in another protocol is answered in this one, body and all, and so is the next one."""
        asked = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: " + protocol + b"\r\nHTTP2-Settings: AAMA\r\n"
        name = f"{protocol.decode()}-{pieces}-{framed}"
        whole = (request if framed else chunked)(event(name), asked)
        head, end, body = whole.partition(b"\r\n\r\n")
        cut = [whole + request(event(f"next-{name}"))] if pieces == 1 else [head + end, body]
        answers = exchange(server.port, *cut)
        assert [200] * (3 - pieces) == statuses(answers)
        assert [1] * (3 - pieces) == [answer.json["accepted"] for answer in answers]
        assert name in stored(server)

    def test_an_upgrade_hides_no_request(self, server: Serving) -> None:
        """The body of a request that asks for an upgrade is its body, never a request of its own."""
        hidden = request(event("hidden-behind-an-upgrade"))
        asked = b"Connection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: %d\r\n" % len(hidden)
        assert 1 == len(exchange(server.port, request(b"", asked, framed=False), hidden))
        # As a line of that body it is an event, and that is all.
        assert 1 == stored(server).count("hidden-behind-an-upgrade")

    def test_many_upgrades_in_one_read(self, server: Serving) -> None:
        """So many in a row are answered one by one."""
        one = request(method=b"GET", target=b"/healthz", headers=b"Connection: Upgrade\r\nUpgrade: h2c\r\n")
        assert [200] * 1500 == statuses(exchange(server.port, one * 1500))

    @pytest.mark.parametrize("target", [b"localhost:80", b"evil.test:443", b"/events/default"], ids=repr)
    def test_connect(self, target: bytes, server: Serving) -> None:
        """CONNECT opens nothing, and ends the connection."""
        tunnel = request(method=b"CONNECT", target=target) + request(event("tunnelled"))
        assert [400] == statuses(exchange(server.port, tunnel))
        assert "tunnelled" not in stored(server)
