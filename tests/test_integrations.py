"""The adapters in `rillevents.integrations`, each in the real framework that it is for."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any
from wsgiref.util import FileWrapper, setup_testing_defaults

import httpx
import pytest
from support import PACE, Tool, only

from rillevents import Client, SpoolSink
from rillevents.event.timestamp import parse_time
from rillevents.integrations import asgi, wsgi
from rillevents.integrations.logging import EventHandler
from rillevents.testing import CapturingSink

ROOT = Path(__file__).parents[1]


class DecodedSink(CapturingSink):
    """Keeps events as the objects that are sent."""

    def emit(self, event: Any) -> None:
        self.events.append(json.loads(event.line))


@pytest.fixture
def sink() -> CapturingSink:
    return DecodedSink()


@pytest.fixture
def client(sink: CapturingSink) -> Client:
    return Client(sink, on_error="raise")


class TestLogging:
    @pytest.fixture
    def logger(self) -> Iterator[logging.Logger]:
        found = logging.Logger("shop.checkout")
        yield found
        for handler in found.handlers:
            handler.close()

    def test_a_record_with_a_name_is_an_event(
        self, logger: logging.Logger, client: Client, sink: CapturingSink
    ) -> None:
        """A record with `event_name` is a behavioral event with its attributes and its time; its message is not in it."""
        logger.addHandler(EventHandler(client))
        before = time.time_ns()
        logger.info("secret of %s", "ours", extra={"event_name": "order-paid", "attributes": {"plan": "pro"}})
        logger.info("nothing")
        event = only(sink.events)
        assert ("behavioral", "order-paid", "pro") == (event["event_type"], event["event_name"], event["plan"])
        assert "secret" not in json.dumps(event)
        assert 0 <= parse_time(event["event_time"]) - before + 1000 < 60 * PACE * 1e9

    def test_its_type(self, logger: logging.Logger, client: Client, sink: CapturingSink) -> None:
        """`event_type` names another type."""
        logger.addHandler(EventHandler(client))
        logger.info("", extra={"event_name": "x", "event_type": "audit"})
        assert "audit" == only(sink.events)["event_type"]

    def test_every_record(self, logger: logging.Logger, client: Client, sink: CapturingSink) -> None:
        """With `every_record` the others are `log` events with message, level and an exception's class."""
        logger.addHandler(EventHandler(client, every_record=True))
        logger.warning("%d left", 3)
        try:
            raise KeyError("x")
        except KeyError:
            logger.exception("failed")
        first, second = sink.events
        assert ("log", "shop.checkout", "3 left", "warning") == (
            first["event_type"],
            first["event_name"],
            first["message"],
            first["level"],
        )
        assert ("failed", "error", "KeyError") == (second["message"], second["level"], second["error"])

    def test_our_own_records_are_left_out(self, client: Client, sink: CapturingSink) -> None:
        """What rillevents logs about a failure is no event: it would be recorded for ever."""
        handler = EventHandler(client, every_record=True)
        for name in ("rillevents", "rillevents.x"):
            logger = logging.Logger(name)
            logger.addHandler(handler)
            logger.error("x")
        assert [] == sink.events

    def test_on_the_root_logger_with_a_broken_spool(self, tmp_path: Path) -> None:
        """With a spool that cannot be written, and the handler on the root logger, logging goes on: no recursion, no exception."""
        (tmp_path / "spool").write_text("a file")
        code = f"""
            import logging
            from rillevents import Client, SpoolSink
            from rillevents.integrations.logging import EventHandler
            logging.basicConfig(level=0)
            client = Client(SpoolSink({str(tmp_path / "spool")!r}))
            logging.getLogger().addHandler(EventHandler(client, every_record=True))
            logging.warning("x")
            print("on")
        """
        done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, cwd=ROOT)
        assert (0, "on\n") == (done.returncode, done.stdout)
        assert "Traceback" not in done.stderr

    def test_a_message_that_does_not_fit(
        self, logger: logging.Logger, client: Client, sink: CapturingSink, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """A message that does not fit its arguments is told as by any handler, and nothing is raised."""
        logger.addHandler(EventHandler(client, every_record=True))
        logger.info("%d", "x")
        assert [] == sink.events
        assert "Logging error" in capsys.readouterr().err


def get(app: Any, *calls: tuple[str, str]) -> list[int]:
    """Send requests to an ASGI application, and return the statuses."""

    async def send() -> list[int]:
        transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as http:
            return [(await http.request(method, path)).status_code for method, path in calls]

    return asyncio.run(send())


def figures(events: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    return [(event["method"], event.get("route"), event.get("status"), event.get("error")) for event in events]


CALLS = [
    ("GET", "/users/17?token=secret"),
    ("GET", "/nothing/secret"),
    ("POST", "/users/17"),
    ("GET", "/fail"),
    ("GET", "/v1/api/items/secret"),
    ("SECRET", "/users/17"),
]


def fastapi_app(client: Client) -> Any:
    fastapi = pytest.importorskip("fastapi")
    app, inner = fastapi.FastAPI(), fastapi.APIRouter(prefix="/api")

    @app.get("/users/{user_id}")
    async def user(user_id: str) -> str:
        return user_id

    @app.get("/fail")
    def fail() -> None:
        raise ZeroDivisionError("secret")

    @inner.get("/items/{item}")
    def item(item: str) -> str:
        return item

    app.include_router(inner, prefix="/v1")
    app.add_middleware(asgi.EventMiddleware, client=client)
    return app


def starlette_app(client: Client) -> Any:
    from starlette.applications import Starlette
    from starlette.responses import PlainTextResponse
    from starlette.routing import Mount, Route

    async def user(request: Any) -> Any:
        return PlainTextResponse("x")

    async def item(request: Any) -> Any:
        return PlainTextResponse("x")

    def fail(request: Any) -> Any:
        raise ZeroDivisionError("secret")

    inner = [Route("/items/{item}", item)]
    app = Starlette(routes=[Route("/users/{user_id}", user), Route("/fail", fail), Mount("/v1/api", routes=inner)])
    app.add_middleware(asgi.EventMiddleware, client=client)
    return app


class TestAsgi:
    @pytest.mark.parametrize("make", [fastapi_app, starlette_app])
    def test_one_metric_a_request(self, make: Any, client: Client, sink: CapturingSink) -> None:
        """Each request is a metric with the route's template, method, status and seconds, and with nothing that a visitor wrote."""
        statuses = get(make(client), *CALLS)
        assert [200, 404, 405, 500, 200, 405] == statuses
        found = figures(sink.events)
        assert ("GET", "/users/{user_id}", 200, None) == found[0]
        assert ("GET", None, 404, None) == found[1]
        assert ("POST", 405) == (found[2][0], found[2][2])
        assert ("GET", "/fail", 500, "ZeroDivisionError") == found[3]
        assert ("GET", "/v1/api/items/{item}", 200, None) == found[4]
        assert ("OTHER", 405) == (found[5][0], found[5][2])
        assert "secret" not in json.dumps(sink.events).lower()
        assert {("http-request", "metric", "s")} == {(e["event_name"], e["event_type"], e["unit"]) for e in sink.events}
        assert all(0 < event["value"] < 60 for event in sink.events)

    def test_a_template_of_its_own(self, client: Client, sink: CapturingSink) -> None:
        """An application of no framework may name its route; without it there is none."""

        async def app(scope: Any, receive: Any, send: Any) -> None:
            if scope["path"] == "/named":
                scope["rillevents.route"] = "/named"
            await send({"type": "http.response.start", "status": 204, "headers": []})
            await send({"type": "http.response.body"})

        get(asgi.EventMiddleware(app, client, name="web"), ("GET", "/named"), ("GET", "/other"))
        assert ["/named", None] == [event.get("route") for event in sink.events]
        assert {"web"} == {event["event_name"] for event in sink.events}

    def test_a_request_that_is_cancelled(self, client: Client, sink: CapturingSink) -> None:
        """A request whose client has gone has no status, and the cancellation goes on."""

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await asyncio.sleep(600)

        async def call() -> None:
            wrapped = asgi.EventMiddleware(app, client)
            task = asyncio.create_task(wrapped({"type": "http", "method": "GET"}, None, None))  # type: ignore[arg-type]
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

        asyncio.run(call())
        assert [("GET", None, None, "CancelledError")] == figures(sink.events)

    def test_other_connections_pass(self, client: Client, sink: CapturingSink) -> None:
        """WebSockets and lifespan go to the application unchanged, without a metric."""
        seen = []

        async def app(scope: Any, receive: Any, send: Any) -> None:
            seen.append((scope["type"], receive, send))

        for kind in ("websocket", "lifespan"):
            asyncio.run(asgi.EventMiddleware(app, client)({"type": kind}, 1, 2))  # type: ignore[arg-type]
        assert [("websocket", 1, 2), ("lifespan", 1, 2)] == seen
        assert [] == sink.events


class TestWsgi:
    def test_flask(self, client: Client, sink: CapturingSink) -> None:
        """Each request is a metric with the rule, method, status and seconds, and with nothing that a visitor wrote."""
        flask = pytest.importorskip("flask")
        app = flask.Flask("shop")
        app.add_url_rule("/users/<user_id>", "user", lambda user_id: user_id)
        app.add_url_rule("/fail", "fail", lambda: 1 / 0)
        app.add_url_rule("/v1/api/items/<item>", "item", lambda item: flask.Response(iter(["a", "b"])))
        app.wsgi_app = wsgi.EventMiddleware(app.wsgi_app, client)
        web = app.test_client()
        assert [200, 404, 405, 500, 200, 405] == [
            web.open(path, method=method, buffered=True).status_code for method, path in CALLS
        ]
        assert [
            ("GET", "/users/<user_id>", 200),
            ("GET", None, 404),
            ("POST", None, 405),
            ("GET", "/fail", 500),
            ("GET", "/v1/api/items/<item>", 200),
            ("OTHER", None, 405),
        ] == [found[:3] for found in figures(sink.events)]
        assert "secret" not in json.dumps(sink.events).lower()

    def test_an_application_of_no_framework(self, client: Client, sink: CapturingSink) -> None:
        """An exception, at once or within the body, is told by its class and passed on; each request is one metric."""

        def app(environ: Any, start_response: Any) -> Iterator[bytes]:
            start_response("200 OK", [])
            environ["rillevents.route"] = "/x"
            yield b"a"
            if environ["QUERY_STRING"] == "late":
                raise KeyError("secret")

        def broken(environ: Any, start_response: Any) -> Any:
            raise ValueError("secret")

        def call(application: Any, query: str) -> None:
            body = wsgi.EventMiddleware(application, client)(
                {"REQUEST_METHOD": "GET", "QUERY_STRING": query}, lambda status, headers, *more: lambda data: None
            )
            try:
                list(body)
            finally:
                body.close()  # type: ignore[attr-defined]

        call(app, "")
        with pytest.raises(KeyError):
            call(app, "late")
        with pytest.raises(ValueError, match="secret"):
            call(broken, "")
        assert [("GET", "/x", 200, None), ("GET", "/x", 200, "KeyError"), ("GET", None, 500, "ValueError")] == figures(
            sink.events
        )
        assert "secret" not in json.dumps(sink.events)

    @pytest.mark.parametrize("body", [[b"five!"], [b"a", b"b"], (b"x",)])
    def test_a_body_with_a_length(self, body: Any, client: Client) -> None:
        """A server gets the length of a list, by which it knows that of a response; an iterator has none."""
        for made, expected in ((body, len(body)), (iter(body), None)):
            app = wsgi.EventMiddleware(lambda environ, start, made=made: made, client)
            found = app({"REQUEST_METHOD": "GET"}, lambda status, headers: lambda data: None)
            assert expected == (len(found) if hasattr(found, "__len__") else None)
            assert [*body] == list(found)

    def test_a_file_that_the_server_sends(self, client: Client, sink: CapturingSink, tmp_path: Path) -> None:
        """What an application hands over as a file stays the server's own class, which it sends by itself; its close ends the request."""
        flask = pytest.importorskip("flask")

        class Bare:
            __slots__ = ("_file",)

            def __init__(self, file: Any, size: int = 0) -> None:
                self._file = file

            def __iter__(self) -> Iterator[bytes]:
                return iter(self._file)

            def close(self) -> None:
                self._file.close()

        def in_memory(file: Any, size: int = 0) -> Any:
            with file:
                return FileWrapper(BytesIO(file.read()))

        (tmp_path / "a.txt").write_text("five!")
        app = flask.Flask("shop")
        app.add_url_rule("/file", "file", lambda: flask.send_file(tmp_path / "a.txt"))
        app.wsgi_app = wsgi.EventMiddleware(app.wsgi_app, client)
        others = (Bare, lambda file, size=0: FileWrapper(file), in_memory)
        for wrapper, kept in ((FileWrapper, True), *((each, False) for each in others)):
            environ = {"wsgi.file_wrapper": wrapper}
            setup_testing_defaults(environ)
            body = app({**environ, "PATH_INFO": "/file"}, lambda status, headers, *more: lambda data: None)
            assert kept == (type(body) is wrapper)
            assert b"five!" == b"".join(body)
            assert not sink.events
            body.close()
            assert [("GET", "/file", 200, None)] == figures(sink.events)
            sink.events.clear()

    def test_what_is_no_file(self, client: Client, sink: CapturingSink) -> None:
        """What is handed over as a file but is none is read here: where that fails, the request tells it."""

        class Failing(BytesIO):
            def read(self, size: int | None = -1) -> bytes:
                raise KeyError("secret")

        def app(environ: Any, start_response: Any) -> Any:
            start_response("200 OK", [])
            return environ["wsgi.file_wrapper"](Failing())

        environ: dict[str, Any] = {"wsgi.file_wrapper": FileWrapper}
        setup_testing_defaults(environ)
        body: Any = wsgi.EventMiddleware(app, client)(environ, lambda status, headers, *more: lambda data: None)
        with pytest.raises(KeyError):
            list(body)
        body.close()
        assert [("GET", None, 200, "KeyError")] == figures(sink.events)


def test_a_celery_task_without_an_end(client: Client, sink: CapturingSink) -> None:
    """Nothing is kept of a task that is ignored: a worker of long does not grow by it."""
    celery = pytest.importorskip("celery")
    from rillevents.integrations.celery import TaskEvents

    app = celery.Celery("shop", broker="memory://", set_as_current=False)

    @app.task(name="ignored")
    def ignored() -> None:
        raise celery.exceptions.Ignore

    events = TaskEvents(client)
    try:
        for _ in range(3):
            ignored.apply()
    finally:
        events.disconnect()
    assert ["task-start"] * 3 == [event["event_name"] for event in sink.events]
    assert {} == events._started


TASKS = """
import os, time
import celery
from rillevents import Client
from rillevents.integrations.celery import TaskEvents

app = celery.Celery("shop", broker=os.environ["BROKER"])
app.conf.broker_connection_retry_on_startup = True
app.conf.worker_prefetch_multiplier = 1
client = Client.from_config()
client.record_log("boot")
TaskEvents(client)

@app.task
def fine(secret):
    return secret

@app.task
def broken(secret):
    raise KeyError(secret)

@app.task(bind=True, max_retries=1, default_retry_delay=0)
def again(self, secret):
    raise self.retry(exc=ValueError(secret), countdown=0)
"""


@pytest.mark.slow
@pytest.mark.unmeasured
def test_celery(broker: str, tool: Tool, tmp_path: Path) -> None:
    """Tasks in a real prefork worker are events with their ends, also in children that the client was made before."""
    pytest.importorskip("celery")
    (tmp_path / "tasks.py").write_text(TASKS)
    environ = tool.environ | {"BROKER": broker, "PYTHONPATH": f"{ROOT}:{tmp_path}", "PYTHONWARNINGS": "ignore"}
    worker = subprocess.Popen(
        [sys.executable, "-m", "celery", "-A", "tasks", "worker", "-c", "2", "-P", "prefork", "-l", "warning"],
        env=environ,
        cwd=tmp_path,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        calls = "import tasks\nfor n in range(20): tasks.fine.delay('hidden')\ntasks.broken.delay('hidden'); tasks.again.delay('hidden')"
        subprocess.run([sys.executable, "-c", calls], env=environ, cwd=tmp_path, check=True, timeout=60 * PACE)
        deadline = time.monotonic() + 60 * PACE
        # The start and the end of each; the one that is tried again has two of both.
        while len(found := [e for e in tool.events() if e["event_name"] != "boot"]) < 46:
            assert worker.poll() is None
            assert time.monotonic() < deadline, found
            time.sleep(0.1)
    finally:
        worker.send_signal(signal.SIGTERM)
        worker.wait(60 * PACE)
    by_task: dict[str, list[str]] = {}
    for event in found:
        by_task.setdefault(event["task"].removeprefix("tasks."), []).append(event["event_name"])
    assert 20 == by_task["fine"].count("task-start") == by_task["fine"].count("task-success")
    assert ["task-failure", "task-start"] == sorted(by_task["broken"])
    assert ["task-failure", "task-retry", "task-start", "task-start"] == sorted(by_task["again"])
    assert {"KeyError"} == {event["error"] for event in found if event["task"] == "tasks.broken" and "error" in event}
    assert {"ValueError"} == {event["error"] for event in found if event["task"] == "tasks.again" and "error" in event}
    assert {1, 2} == {event["attempt"] for event in found if event["task"] == "tasks.again"}
    ends = [event for event in found if event["event_name"] != "task-start"]
    assert all(0 <= event["duration_s"] < 60 * PACE for event in ends)
    assert "hidden" not in json.dumps(found)


@pytest.mark.parametrize("name", ["logging", "asgi", "wsgi"])
def test_an_adapter_imports_nothing_else(name: str) -> None:
    """An adapter loads neither a framework nor our own client: the program brings both."""
    code = f"import sys, rillevents.integrations.{name}; print(*sorted(m for m in sys.modules if m.partition('.')[0] in ('rillevents', 'starlette', 'flask', 'httpx', 'typer', 'celery')))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    allowed = {
        "rillevents",
        "rillevents.integrations",
        "rillevents.integrations._request",
        f"rillevents.integrations.{name}",
    }
    assert {*done.stdout.split()} <= allowed


def test_recording_in_a_coroutine(tmp_path: Path) -> None:
    """A client that spools records within a coroutine, from many tasks at once, each event once."""
    client = Client(SpoolSink(str(tmp_path / "spool")))

    async def main() -> None:
        await asyncio.gather(*(asyncio.to_thread(client.record, "a", f"n{n}") if n % 2 else one(n) for n in range(50)))

    async def one(n: int) -> None:
        client.record("a", f"n{n}")

    asyncio.run(main())
    client.close()
    from rillevents.spool.view import pending

    found = [json.loads(line)["event_name"] for line in pending(str(tmp_path / "spool"))]
    assert sorted(f"n{n}" for n in range(50)) == sorted(found)
    assert os.listdir(tmp_path) == ["spool"]
