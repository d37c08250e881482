"""The internals of uvicorn that our protocol is built on: a new version that lacks one fails here, by its name."""

from __future__ import annotations

import asyncio
import inspect
from typing import Any

import pytest

uvicorn = pytest.importorskip("uvicorn")

from uvicorn.protocols.http.flow_control import FlowControl  # noqa: E402
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle  # noqa: E402
from uvicorn.server import ServerState  # noqa: E402

from rillevents.serve.metrics import Metrics  # noqa: E402
from rillevents.serve.protocol import GuardedProtocol  # noqa: E402

# What we override, with the parameters that it has to have.
OVERRIDDEN = {
    (HttpToolsProtocol, "connection_made"): ["self", "transport"],
    (HttpToolsProtocol, "eof_received"): ["self"],
    (HttpToolsProtocol, "data_received"): ["self", "data"],
    (HttpToolsProtocol, "send_400_response"): ["self", "msg"],
    (HttpToolsProtocol, "on_message_begin"): ["self"],
    (HttpToolsProtocol, "on_headers_complete"): ["self"],
    (HttpToolsProtocol, "on_body"): ["self", "body"],
    (HttpToolsProtocol, "on_message_complete"): ["self"],
    (HttpToolsProtocol, "on_response_complete"): ["self"],
    (HttpToolsProtocol, "_start_asgi_task"): ["self", "cycle", "app"],
    (FlowControl, "resume_reading"): ["self"],
    (FlowControl, "pause_reading"): ["self"],
    (uvicorn.Server, "startup"): ["self", "sockets"],
    (uvicorn.Server, "on_tick"): ["self", "counter"],
}
# What we read or set on a connection, on the answer under way on it, and on the server.
USED = {
    "connection": ["connections", "cycle", "flow", "headers", "loop", "parser", "pipeline", "scheme", "server_state", "transport", "url"],
    "cycle": ["disconnected", "message_event", "more_body", "response_complete", "transport"],
    "server_state": ["connections", "total_requests"],
}  # fmt: skip


class Wire(asyncio.Transport):
    """The other side of a connection: what was written to it."""

    def __init__(self) -> None:
        super().__init__({"peername": ("127.0.0.1", 1), "sockname": ("127.0.0.1", 2)})
        self.written = b""

    def write(self, data: bytes) -> None:  # type: ignore[override]
        self.written += data

    def is_closing(self) -> bool:
        return False

    def pause_reading(self) -> None:
        """Do nothing."""

    def resume_reading(self) -> None:
        """Do nothing."""


async def answer(scope: Any, receive: Any, send: Any) -> None:
    """Answer every request alike."""
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})


@pytest.mark.parametrize(("owner", "name"), OVERRIDDEN, ids=lambda value: getattr(value, "__name__", value))
def test_methods(owner: type, name: str) -> None:
    """Each method that we override or call is there, with the parameters that we give it."""
    assert OVERRIDDEN[owner, name] == list(inspect.signature(getattr(owner, name)).parameters)


def test_a_request() -> None:
    """A connection has every attribute that we use while a request is answered, and its answer's head goes with its body."""

    async def request() -> tuple[dict[str, list[str]], bytes]:
        config = uvicorn.Config(answer, log_config=None, lifespan="off", server_header=False, date_header=False)
        config.load()
        kind = type("Protocol", (GuardedProtocol,), {"metrics": Metrics()})
        connection: Any = kind(config=config, server_state=ServerState(), app_state={})
        wire = Wire()
        connection.connection_made(wire)
        connection.data_received(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n")
        held = {"connection": connection, "cycle": connection.cycle, "server_state": connection.server_state}
        missing = {what: [name for name in names if not hasattr(held[what], name)] for what, names in USED.items()}
        assert isinstance(connection.cycle, RequestResponseCycle)
        await asyncio.gather(*connection.tasks)
        return missing, wire.written

    missing, written = asyncio.run(request())
    assert {what: [] for what in USED} == missing
    assert written.startswith(b"HTTP/1.1 200 OK\r\n")
    assert written.endswith(b"\r\n\r\nok")
