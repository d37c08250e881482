"""Delivery against servers that misbehave on real sockets: nothing is lost, and every deadline holds."""

from __future__ import annotations

import contextlib
import email.utils
import socket
import threading
import time
from typing import Any

import pytest
from support import PACE

from rillevents.delivery.exporters.intake import IntakeExporter
from rillevents.delivery.outcome import Kind
from rillevents.delivery.pace import Backoff, Deadline
from rillevents.delivery.settle import Delivery, Settlement
from rillevents.event.batch import DELIVERED, UNSETTLED, Batch, Rejected
from rillevents.testing import FakeIntake, Request, Response

from .faults.socket_server import (
    OK,
    Connection,
    FaultServer,
    Script,
    answering,
    dripping,
    flooding,
    full_server,
    hasty,
    resetting,
    silent,
    stalling,
)

BUDGET = 0.5 * PACE
SLACK = 2.0 * PACE
LINES = [b'{"event_id":"%d"}\n' % n for n in range(8)]
BIG = [b'{"event_id":"%d","pad":"%s"}\n' % (n, b"x" * 30_000) for n in range(64)]
FAST = Backoff(0.01, 0.02)


def deliver(url: str, lines: list[bytes] = LINES, total: float = 10.0, stall: float = 30.0) -> Settlement:
    exporter = IntakeExporter(url, environ={})
    delivery = Delivery(exporter, Deadline(total, stall), backoff=FAST)
    with contextlib.closing(exporter), contextlib.closing(delivery):
        return delivery.deliver(Batch(lines))


def stopped(settlement: Settlement) -> Kind | None:
    return settlement.stop.kind if settlement.stop else None


HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


class TestTheDeadlineHolds:
    @pytest.mark.slow
    @pytest.mark.parametrize(
        "script",
        [
            pytest.param(silent, id="nothing-is-read"),
            pytest.param(stalling(), id="no-answer"),
            pytest.param(stalling(b"HTTP/1.1 200 OK\r\nX: "), id="half-the-headers"),
            pytest.param(stalling(HEAD + b"{"), id="half-the-body"),
            pytest.param(dripping(b"", b"HTTP/1.1 200 OK\r\nX: " + b"x" * 10_000), id="headers-drip"),
            pytest.param(dripping(HEAD, b"x" * 10_000), id="body-drips"),
            pytest.param(dripping(CHUNKED, b"1\r\nx\r\n" * 10_000), id="chunks-drip"),
            pytest.param(flooding(b"", b"HTTP/1.1 103 Early Hints\r\n\r\n"), id="endless-1xx"),
            pytest.param(answering(b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n"), id="503-storm"),
            pytest.param(resetting(0), id="resets"),
        ],
    )
    def test_whatever_a_server_does(self, script: Script) -> None:
        """The total holds through stalls, drips, floods and storms, and everything is kept."""
        start = time.monotonic()
        with FaultServer(script) as server:
            settlement = deliver(server.url, BIG if script is silent else LINES, total=BUDGET)
            seconds = time.monotonic() - start
        assert (Kind.TEMPORARY, {UNSETTLED}) == (stopped(settlement), set(settlement.verdicts))
        assert seconds < BUDGET + SLACK

    def test_connecting(self) -> None:
        """A connect that gets no answer ends with the deadline."""
        start = time.monotonic()
        with full_server() as url:
            settlement = deliver(url, total=BUDGET)
        assert Kind.TEMPORARY is stopped(settlement)
        assert BUDGET <= time.monotonic() - start < BUDGET + SLACK

    def test_the_tls_handshake(self) -> None:
        """A handshake that gets no answer ends with the deadline."""
        start = time.monotonic()
        with FaultServer(silent) as server:
            settlement = deliver(server.url.replace("http:", "https:"), total=BUDGET)
        assert Kind.TEMPORARY is stopped(settlement)
        assert time.monotonic() - start < BUDGET + SLACK

    def test_the_stall_time_too(self) -> None:
        """Without a total a dripping answer is given up once nothing has moved for the stall time."""
        start = time.monotonic()
        with FaultServer(dripping(HEAD, b"x" * 10_000)) as server:
            settlement = deliver(server.url, total=60, stall=BUDGET)
        assert Kind.TEMPORARY is stopped(settlement)
        assert time.monotonic() - start < BUDGET + SLACK

    def test_closing_ends_a_call_left_behind(self) -> None:
        """The thread that still waits for an answer ends once its exporter is closed."""
        before = set(threading.enumerate())
        with FaultServer(stalling()) as server:
            deliver(server.url, total=0.1)
            left = [t for t in set(threading.enumerate()) - before if "_make_calls" in t.name]
            for thread in left:
                thread.join(5)
            assert [False] * len(left) == [thread.is_alive() for thread in left]

    def test_closing_while_it_connects_sends_nothing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A connection that is made too late is closed again, and not used."""
        connect = socket.create_connection

        def connect_too_late(*args: Any, **kwargs: Any) -> socket.socket:
            exporter.close()
            made.append(connect(*args, **kwargs))
            return made[-1]

        made: list[socket.socket] = []
        monkeypatch.setattr(socket, "create_connection", connect_too_late)
        with FaultServer(answering(OK)) as server:
            exporter = IntakeExporter(server.url, environ={})
            assert Kind.TEMPORARY is exporter.export(Batch(LINES)).kind
        assert ([], [-1]) == (server.requests, [sock.fileno() for sock in made])


class TestNoAnswerIsNoAcknowledgement:
    @pytest.mark.parametrize(
        "answer",
        [
            pytest.param(b"", id="nothing"),
            pytest.param(b"HTTP/1.1 200 OK\r\n", id="status-line-only"),
            pytest.param(HEAD + b"{}", id="short-content-length"),
            pytest.param(CHUNKED + b"zz\r\n", id="bad-chunk"),
            pytest.param(CHUNKED + b"5\r\nab", id="short-chunk"),
            pytest.param(b"SSH-2.0-OpenSSH_9.6\r\n", id="not-http"),
            pytest.param(b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 100_000, id="header-flood"),
            pytest.param(
                b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 6\r\n\r\n<html>", id="login-portal"
            ),
        ],
    )
    def test_a_garbled_answer_keeps_all(self, answer: bytes) -> None:
        """What is not a whole response counts as none, and the batch is sent again."""
        with FaultServer(answering(answer)) as server:
            settlement = deliver(server.url, total=0.3)
        assert (Kind.TEMPORARY, {UNSETTLED}) == (stopped(settlement), set(settlement.verdicts))
        assert len(server.requests) >= 2

    @pytest.mark.parametrize(
        "script",
        [
            pytest.param(resetting(0), id="before-reading"),
            pytest.param(resetting(100_000), id="mid-body"),
            pytest.param(resetting(), id="after-reading-all"),
            pytest.param(resetting(answer=b"HTTP/1.1 200 OK\r\n"), id="mid-answer"),
            pytest.param(answering(HEAD + b"{}"), id="short-answer"),
        ],
    )
    def test_the_same_bytes_are_sent_again(self, script: Script) -> None:
        """After a broken connection the batch follows once more, byte for byte."""
        with FaultServer(script, answering(OK)) as server:
            settlement = deliver(server.url, BIG)
        assert {DELIVERED} == set(settlement.verdicts)
        assert server.requests[-1].endswith(b"\r\n\r\n" + b"".join(BIG))

    @pytest.mark.parametrize(
        "head",
        [
            pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 10000000000\r\n\r\n", id="10-GB"),
            pytest.param(b"HTTP/1.1 200 OK\r\n\r\n", id="until-closed"),
        ],
    )
    def test_an_endless_answer_is_not_read(self, head: bytes) -> None:
        """More than the limit is no acknowledgement, and is not waited for."""
        with FaultServer(flooding(head, b" " * 65536)) as server:
            settlement = deliver(server.url, total=0.4)
        assert settlement.stop is not None
        assert "more than 1048576 bytes" in settlement.stop.reason

    def test_a_gzip_bomb_stays_packed(self) -> None:
        """Answers are read as they come, never unpacked."""
        head = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 9\r\n\r\n"
        with FaultServer(answering(head + b"not gzip!")) as server:
            assert {DELIVERED} == set(deliver(server.url).verdicts)

    def test_a_refused_connection(self) -> None:
        """A closed port keeps everything, and the reason says so."""
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
        settlement = deliver(f"http://127.0.0.1:{port}/", total=0.2)
        assert settlement.stop is not None
        assert f"could not connect to http://127.0.0.1:{port}: connection refused" in settlement.stop.reason


class TestKeptConnections:
    def test_closed_between_batches(self) -> None:
        """A connection that the server closes between two batches costs no attempt and no back-off."""
        with FaultServer(answering(OK)) as server:
            exporter = IntakeExporter(server.url, environ={})
            with contextlib.closing(exporter):
                kinds = [exporter.export(Batch(LINES)).kind for _ in range(3)]
        assert ([Kind.ACCEPTED] * 3, 3) == (kinds, server.connections)

    def test_reset_at_the_second_batch(self) -> None:
        """A kept connection that turns out dead only when it is used is replaced within the same call."""

        def twice(connection: Connection) -> None:
            answering(OK)(connection)
            connection.read_request()
            connection.reset()

        with FaultServer(twice, answering(OK)) as server:
            exporter = IntakeExporter(server.url, environ={})
            with contextlib.closing(exporter):
                kinds = [exporter.export(Batch(LINES)).kind for _ in range(2)]
        assert ([Kind.ACCEPTED] * 2, 2) == (kinds, server.connections)

    def test_a_fresh_connection_is_not_tried_twice(self) -> None:
        """Only a kept connection is replaced: a fresh one that breaks is the destination's answer."""
        with FaultServer(resetting()) as server:
            exporter = IntakeExporter(server.url, environ={})
            with contextlib.closing(exporter):
                assert Kind.TEMPORARY is exporter.export(Batch(LINES)).kind
        assert 1 == server.connections


def refusing(status: int, bad: bytes) -> object:
    return lambda request: status if bad in request.body else 200


class TestAnAnswerBeforeTheEnd:
    def test_an_acknowledgement_of_half_a_batch_is_none(self) -> None:
        """A server that says 200 and hangs up before it was sent all of the events cannot have taken them."""
        with FaultServer(hasty(OK), receive_buffer=1024) as server:
            settlement = deliver(server.url, BIG * 2, total=0.3)
        assert settlement.stop is not None
        assert {UNSETTLED} == set(settlement.verdicts)
        assert "before it had received all of the events" in settlement.stop.reason

    @pytest.mark.parametrize(("status", "kind"), [(401, Kind.REFUSED), (404, Kind.MISCONFIGURED)])
    def test_a_refusal_counts(self, status: int, kind: Kind) -> None:
        """What a person has to fix is understood even where the server does not wait for the events."""
        answer = b"HTTP/1.1 %d No\r\nContent-Length: 0\r\n\r\n" % status
        with FaultServer(hasty(answer), receive_buffer=1024) as server:
            settlement = deliver(server.url, BIG * 2)
        assert (kind, {UNSETTLED}, 1) == (stopped(settlement), set(settlement.verdicts), server.connections)

    @pytest.mark.parametrize("promised", [0, 1000], ids=["whole-answer", "cut-off-answer"])
    def test_a_limit_counts(self, promised: int) -> None:
        """A server that says 413 and hangs up before it has read the batch gets it in pieces."""
        limited = hasty(b"HTTP/1.1 413 No\r\nContent-Length: %d\r\n\r\n" % promised)
        with FaultServer(limited, limited, answering(*[OK] * 9), receive_buffer=1024) as server:
            assert {DELIVERED} == set(deliver(server.url, BIG * 2).verdicts)
        assert BIG * 2 == [line for request in server.requests for line in request_lines(request)]
        assert 3 == len(server.requests)


def request_lines(request: bytes) -> list[bytes]:
    return request.partition(b"\r\n\r\n")[2].splitlines(keepends=True)


class TestTheClock:
    @pytest.mark.parametrize("years", [10, -10])
    def test_it_may_jump(self, years: int, monkeypatch: pytest.MonkeyPatch) -> None:
        """A clock that is set by years while a flush waits makes no wait longer, and none shorter than was asked for."""
        monkeypatch.setattr("rillevents.delivery.exporters.intake_responses.RETRY_AFTER_MAX", 1.0)
        jump, waits = [0.0], []
        real = time.time

        def sleep(seconds: float) -> None:
            jump[0] += years * 365 * 86400
            waits.append(seconds)

        with FakeIntake() as intake:
            asked = email.utils.formatdate(real() + 3600, usegmt=True)
            intake.script += [Response(429, b"", {"Retry-After": asked})] * 3
            monkeypatch.setattr(time, "time", lambda: real() + jump[0])
            exporter = IntakeExporter(intake.url, environ={})
            delivery = Delivery(exporter, Deadline(30), backoff=FAST, sleep=sleep)
            with contextlib.closing(exporter), contextlib.closing(delivery):
                settlement = delivery.deliver(Batch(LINES))
        assert {DELIVERED} == set(settlement.verdicts)
        assert (1.0, 3) == (waits[0], len(waits))
        assert all(0 < wait <= 1.0 for wait in waits)


class TestTheWholeWay:
    @pytest.mark.parametrize("status", [400, 422, 500, 502, 503])
    def test_one_poisoned_event(self, status: int) -> None:
        """One event that a real server refuses is isolated, and the rest arrive once."""
        with FakeIntake() as intake:
            intake.respond = refusing(status, LINES[3])  # type: ignore[assignment]
            verdicts = deliver(intake.url).verdicts
        assert [3] == [n for n, verdict in enumerate(verdicts) if isinstance(verdict, Rejected)]
        assert sorted(LINES[:3] + LINES[4:]) == sorted(intake.lines)

    @pytest.mark.parametrize("bad", [[2, 3], [0, 1], [6, 7], [0, 1, 2], [5, 6, 7]], ids=str)
    def test_neighbours_that_get_500(self, bad: list[int]) -> None:
        """Where several fail beside each other, one accepted event is sent again; that it is accepted is the evidence."""
        with FakeIntake() as intake:
            intake.respond = lambda request: 500 if any(LINES[n] in request.body for n in bad) else 200
            settlement = deliver(intake.url)
        assert bad == [n for n, verdict in enumerate(settlement.verdicts) if isinstance(verdict, Rejected)]
        assert settlement.stop is None
        assert {line for n, line in enumerate(LINES) if n not in bad} == set(intake.lines)
        assert len(intake.lines) <= len(LINES) - len(bad) + 1

    @pytest.mark.slow
    def test_neighbours_and_then_everything(self) -> None:
        """Where what was accepted before gets 500 as well the server is down, and none of them is rejected."""
        asked_alone: list[bytes] = []

        def reply(request: Request) -> int:
            asked_alone.extend(request.lines if len(request.lines) == 1 else [])
            return 500 if len(asked_alone) >= 4 or LINES[3] in request.body or LINES[2] in request.body else 200

        with FakeIntake() as intake:
            intake.respond = reply
            settlement = deliver(intake.url)
        assert [UNSETTLED, UNSETTLED] == list(settlement.verdicts[2:4])
        assert 6 == settlement.verdicts.count(DELIVERED)
        assert Kind.TEMPORARY is stopped(settlement)

    def test_a_limit_on_the_size(self) -> None:
        """A server that takes 100 kB at a time gets everything in pieces."""
        with FakeIntake() as intake:
            intake.respond = lambda request: 413 if len(request.body) > 100_000 else 200
            assert {DELIVERED} == set(deliver(intake.url, BIG).verdicts)
        assert BIG == intake.lines

    @pytest.mark.parametrize("status", [401, 403, 404, 410, 301, 302, 307, 308])
    def test_one_request_is_enough(self, status: int) -> None:
        """What a person has to fix is asked once, and nothing is rejected."""
        with FakeIntake() as intake:
            intake.respond = lambda request: status
            settlement = deliver(intake.url)
        assert ({UNSETTLED}, 1) == (set(settlement.verdicts), len(intake.requests))
        assert stopped(settlement) is (Kind.REFUSED if status in (401, 403) else Kind.MISCONFIGURED)

    @pytest.mark.parametrize("form", ["seconds", "date"])
    def test_retry_after_is_waited_for(self, form: str) -> None:
        """A 429 that asks for a wait gets it, and then the batch."""
        times: list[float] = []

        def reply(request: Request) -> Response:
            times.append(time.monotonic())
            asked = "0.3" if form == "seconds" else email.utils.formatdate(time.time() + 2, usegmt=True)
            return Response(429, b"", {"Retry-After": asked}) if len(times) == 1 else Response(200)

        with FakeIntake() as intake:
            intake.respond = reply
            assert {DELIVERED} == set(deliver(intake.url).verdicts)
        assert times[1] - times[0] >= 0.3

    def test_a_redirect_gets_neither_events_nor_credentials(self) -> None:
        """The server that a redirect leads to is never contacted."""
        with FakeIntake() as other, FakeIntake("u", "p") as intake:
            intake.respond = lambda request: Response(307, b"", {"Location": other.url})
            exporter = IntakeExporter(intake.url, user="u", password="p", environ={})
            with contextlib.closing(exporter):
                assert Kind.MISCONFIGURED is exporter.export(Batch(LINES)).kind
        assert ([], 1) == (other.requests, len(intake.requests))
