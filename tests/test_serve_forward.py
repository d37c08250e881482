"""A server that hands events on: what it takes from clients and does not pass on, and what upstreams say and it does not repeat."""

from __future__ import annotations

import contextlib
import socket
import time

import pytest
from serving import Serving, event, ids, stored_ids, until
from support import PACE, Tool, snapshot

from rillevents.testing import FakeIntake, Response

from .faults.raw_http import CHUNKED, Line, chunk, exchange, request, statuses
from .faults.socket_server import FaultServer, stalling

pytestmark = pytest.mark.unmeasured

SECRET = "hunter2"
FORBIDDEN = (
    b"Authorization: Basic Y2xpZW50OmNsaWVudA==\r\nCookie: session=client\r\nProxy-Authorization: Basic client\r\n"
    b"X-Forwarded-For: 6.6.6.6\r\nX-Forwarded-Host: evil.test\r\nForwarded: for=6.6.6.6\r\nVia: 1.1 evil.test\r\nTE: trailers\r\n"
    b"Connection: keep-alive, X-Listed\r\nX-Listed: client\r\nKeep-Alive: timeout=5\r\nReferer: http://localhost/client\r\n"
    b"User-Agent: client/1\r\nOrigin: http://localhost\r\nX-Api-Key: client\r\nTraceparent: 00-client\r\n"
)


def forwarding(tool: Tool, url: str, **environ: str | None) -> Serving:
    return Serving(tool, "--to", "intake", RILLEVENTS_INTAKE_URL=url, **environ)


class TestHeaders:
    def test_what_a_client_says_about_itself_stays(self, tool: Tool) -> None:
        """The upstream gets lines of events and our own credentials, and no header that a client has sent."""
        with FakeIntake(user="us", password=SECRET) as intake:
            environ = {"RILLEVENTS_INTAKE_USER": "us", "RILLEVENTS_INTAKE_PASSWORD": SECRET}
            with forwarding(tool, intake.url, **environ) as serving:
                for target in (b"/events/default", b"/local/track"):
                    assert [200] == statuses(
                        exchange(serving.port, request(event(target.decode()), FORBIDDEN, target=target))
                    )
                until(lambda: len(intake.events) == 2)
        for asked in intake.requests:
            said = str(dict(asked.headers)).lower()
            assert not [
                word
                for word in ("client", "6.6.6.6", "evil.test", "x-forwarded", "x-listed", "x-api", "cookie", "origin")
                if word in said
            ]
            assert asked.authorized
            assert "/events/default" == asked.path

    def test_nobody_chooses_the_upstream(self, tool: Tool) -> None:
        """No target, Host or header of a request leads anywhere but to the configured intake."""
        with FakeIntake() as intake, FakeIntake() as other, forwarding(tool, intake.url) as serving:
            elsewhere = other.url.encode()
            for data in (
                request(event("1"), target=elsewhere),
                request(event("2"), host=b"Host: 127.0.0.1:%d\r\n" % int(other.url.split(":")[2].split("/")[0])),
                request(event("3"), b"X-Original-URL: " + elsewhere + b"\r\nX-Forwarded-Host: " + elsewhere + b"\r\n"),
            ):
                exchange(serving.port, data)
            until(lambda: len(intake.events) == 2)
            assert [] == other.requests


ANSWERS = {
    "401": Response(401, SECRET.encode(), {"WWW-Authenticate": f'Basic realm="{SECRET}"'}),
    "403": Response(403, SECRET.encode()),
    "429": Response(429, SECRET.encode(), {"Retry-After": "1"}),
    "500": Response(500, f"Traceback {SECRET}".encode()),
    "redirect": Response(302, b"", {"Location": f"http://127.0.0.1:9/{SECRET}", "Set-Cookie": SECRET}),
    "html": Response(200, f"<html>{SECRET}</html>".encode(), {"Content-Type": "text/html"}),
}


class TestUpstream:
    @pytest.mark.slow
    @pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS)
    def test_what_it_says_stays_here(self, answer: Response, tool: Tool) -> None:
        """Whatever an upstream answers, a client hears that its events are kept, and no word of the upstream's; and they are."""
        with FakeIntake() as intake:
            intake.respond = lambda request: answer
            with forwarding(
                tool, intake.url, RILLEVENTS_INTAKE_USER="us", RILLEVENTS_INTAKE_PASSWORD=SECRET
            ) as serving:
                heard = exchange(
                    serving.port, request(event("1"), b"Origin: http://localhost\r\n", target=b"/local/track")
                )
                until(lambda: intake.requests)
                for target in (
                    b"/metrics",
                    b"/readyz",
                    b"/",
                    b"/api/events",
                    b"/api/rejected",
                    b"/api/stats",
                    b"/events/default",
                ):
                    heard += exchange(serving.port, request(method=b"GET", target=target))
                assert 200 == heard[0].status
                assert {"accepted": 1, "duplicates": 0, "rejected": []} == heard[0].json
                assert SECRET not in repr(heard)
                assert intake.url not in repr(heard)
                serving.stop()
            intake.respond = None
            with forwarding(tool, intake.url):
                until(lambda: intake.events)
        assert {"1"} == {*ids(intake.lines)}

    def test_down(self, tool: Tool) -> None:
        """If the destination is down, events are accepted at once all the same, and delivered when it is up."""
        with socket.create_server(("127.0.0.1", 0)) as listener:
            url = f"http://127.0.0.1:{listener.getsockname()[1]}/events/default"
        with forwarding(tool, url) as serving:
            started = time.monotonic()
            assert [[200]] * 5 == [statuses(exchange(serving.port, request(event(str(n))))) for n in range(5)]
            assert time.monotonic() - started < 10 * PACE

    def test_slow(self, tool: Tool) -> None:
        """An upstream that does not answer keeps no client waiting."""
        with FaultServer(stalling()) as upstream, forwarding(tool, upstream.url) as serving:
            assert 200 == serving.post(event("first")).status
            assert upstream.reached.wait(20)
            started = time.monotonic()
            assert 200 == serving.post(event("second")).status
            assert time.monotonic() - started < 5 * PACE
            serving.process.kill()

    def test_opted_out(self, tool: Tool) -> None:
        """Off means off: a page is told nothing is wrong, nothing is stored, and nobody is connected to."""
        with FakeIntake() as intake, forwarding(tool, intake.url, DO_NOT_TRACK="1") as serving:
            before = snapshot(tool.home) if tool.home.exists() else {}
            for target, status in ((b"/local/track", 204), (b"/events/default", 403), (b"/v1/telemetry/events", 403)):
                assert [status] == statuses(exchange(serving.port, request(event("off"), target=target)))
            time.sleep(0.5)
            assert before == (snapshot(tool.home) if tool.home.exists() else {})
            assert [] == intake.requests


class TestHangingUp:
    @pytest.mark.slow
    @pytest.mark.parametrize(
        "sent",
        [
            pytest.param(b"", id="nothing"),
            pytest.param(b"POST /events/default HTTP/1.1\r\nHost: loc", id="half-a-head"),
            pytest.param(request(event("half"))[:-30], id="half-a-body"),
            pytest.param(request(chunk(event("half")), CHUNKED, framed=False), id="no-last-chunk"),
            pytest.param(request(event("half") * 3000)[:-1], id="all-but-one-byte"),
            pytest.param(request(event("whole")), id="before-the-answer"),
            pytest.param(request(event("whole")) * 50, id="many-before-the-answers"),
            pytest.param(request(b"x\n" * 9000), id="before-a-long-answer"),
        ],
    )
    def test_at_any_moment(self, sent: bytes, tool: Tool) -> None:
        """Who hangs up leaves whole events or none behind, nothing is said about it, and others are served."""
        with Serving(tool) as serving:
            until(lambda: "export" in serving.stderr)
            said = serving.stderr
            for reset in (True, False) * 5:
                with Line(serving.port, receive_buffer=2048) as line:
                    line.send(sent)
                    if reset:
                        line.reset()
            assert 200 == serving.post(event("after")).status
            found = stored_ids(tool.paths.default_store)
            assert said == serving.stderr
        assert {"after"} <= {*found} <= {"after", "whole"}

    def test_an_answer_that_nobody_reads(self, tool: Tool) -> None:
        """A client that does not read its answers delays no other."""
        with Serving(tool) as serving, contextlib.ExitStack() as stack:
            for _ in range(20):
                line = stack.enter_context(Line(serving.port, receive_buffer=2048, timeout=2))
                with contextlib.suppress(TimeoutError):
                    line.socket.sendall(request(b"x\n" * 3000) * 2)
            started = time.monotonic()
            assert 200 == serving.post(event("read")).status
            assert time.monotonic() - started < 15 * PACE
