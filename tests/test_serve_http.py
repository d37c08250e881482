"""What a server makes of bytes that are almost HTTP: each request has one meaning, or is refused and the connection closed."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from serving import Serving, event, stored_ids, until
from support import Tool

from .faults.raw_http import (
    CHUNKED,
    chunk,
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
