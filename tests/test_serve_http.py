"""What a server makes of bytes that are almost HTTP: each request has one meaning, or is refused and the connection closed."""

from __future__ import annotations

import contextlib
import random
import re
import socket
import time
from collections.abc import Iterator

import pytest
from serving import Serving, event, says_nothing, stored_ids

from .faults import fuzz
from .faults.raw_http import (
    CHUNKED,
    HOST,
    Line,
    chunk,
    chunked,
    exchange,
    request,
    statuses,
)

pytestmark = pytest.mark.unmeasured


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """A server with a store, which all tests of this file talk to; none of them makes it say anything."""
    with says_nothing(tmp_path_factory.mktemp("server")) as serving:
        yield serving


def stored(server: Serving) -> list[str]:
    return stored_ids(server.tool.paths.default_store)


EVENT = event("framed")
TAKEN = event("oddity")
LENGTH = len(EVENT)
AS_CHUNK = chunk(EVENT) + b"0\r\n\r\n"
# fmt: off
AMBIGUOUS = {
    "length-and-chunked": chunked(EVENT, b"Content-Length: 5\r\n"),
    "chunked-and-length": request(AS_CHUNK, b"Content-Length: 5\r\n" + CHUNKED, framed=False),
    "two-lengths": request(EVENT, b"Content-Length: 5\r\n"),
    "two-equal-lengths": request(EVENT, b"Content-Length: %d\r\n" % LENGTH),
    "chunk-size-ends-in-lf": request(b"%x\n%b\r\n0\r\n\r\n" % (LENGTH, EVENT), CHUNKED, framed=False),
    "chunk-ends-in-lf": request(b"%x\r\n%b\n0\r\n\r\n" % (LENGTH, EVENT), CHUNKED, framed=False),
    "chunk-ends-in-letters": request(b"%x\r\n%bXX0\r\n\r\n" % (LENGTH, EVENT), CHUNKED, framed=False),
    "chunk-too-long": request(b"%x\r\n%b\r\n0\r\n\r\n" % (LENGTH - 1, EVENT), CHUNKED, framed=False),
    "last-chunk-ends-in-lf": request(chunk(EVENT) + b"0\n\n", CHUNKED, framed=False),
    "trailer-ends-in-lf": request(chunk(EVENT) + b"0\r\nX: y\n\n", CHUNKED, framed=False),
    "trailer-of-a-length": request(chunk(EVENT) + b"0\r\nContent-Length: 10\r\n\r\n", CHUNKED, framed=False),
    "lf-after-the-request-line": request(EVENT).replace(b"\r\n", b"\n", 1),
    "lf-after-a-header": request(EVENT, b"X: y\n"),
    "lf-everywhere": request(EVENT).replace(b"\r\n", b"\n"),
    "lf-before-the-body": request(EVENT).replace(b"\r\n\r\n", b"\r\n\n"),
    "cr-after-the-request-line": request(EVENT).replace(b"\r\n", b"\r", 1),
    "cr-in-a-header": request(EVENT, b"X: a\rTransfer-Encoding: chunked\r\n"),
    "nul-in-a-header": request(EVENT, b"X: a\0b\r\n"),
    "control-in-a-name": request(EVENT, b"A\x01: b\r\n"),
    "folded": request(EVENT, b"X: a\r\n b\r\n"),
    "no-colon": request(EVENT, b"X y\r\n"),
    "no-name": request(EVENT, b": y\r\n"),
    "blank-before-the-first-header": request(EVENT, host=b" Host: localhost\r\n"),
    "absolute-target": request(EVENT, target=b"http://localhost/events/default"),
    "authority-target": request(EVENT, target=b"localhost"),
    "8-bit-target": request(EVENT, target=b"/events/d\xe9faut"),
    "nul-in-the-target": request(EVENT, target=b"/events/\0"),
    "tab-in-the-request-line": request(EVENT).replace(b" ", b"\t", 2),
    "lower-case-http": request(EVENT).replace(b"HTTP", b"http"),
    "lower-case-method": request(EVENT, method=b"post"),
    "unknown-method": request(EVENT, method=b"FOO"),
    "tls": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200),
    "http-2-preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
}
# fmt: on
for _number in (b"-5", b"+5", b"0x5", b"5 5", b"5, 5", b"5;q=1", b'"5"', b"5.0", b"1e3", b"", b"\xb2", b"9" * 30):
    AMBIGUOUS[f"length-{_number!r}"] = request(EVENT, b"Content-Length: " + _number + b"\r\n", framed=False)
for _size in (b"0x5a", b"-5a", b"+5a", b" 5a", b"5a ", b"5_a", b"", b"g", b"f" * 20, b"5a;x\n", b"5a;\0"):
    AMBIGUOUS[f"chunk-size-{_size!r}"] = request(_size + b"\r\n" + EVENT + b"\r\n0\r\n\r\n", CHUNKED, framed=False)
for _coding in (
    b": xchunked", b" : chunked", b"\t: chunked", b": \x0bchunked", b": chunked, chunked", b": chunked\r\nTransfer-Encoding: chunked",
    b": chunked\r\nTransfer-Encoding: identity", b": gzip, chunked", b": chunked, identity", b": identity", b': "chunked"', b":\r\n chunked",
    b":", b": chunked;q=1", b": chunked,", b": chunked\0", b": c\xadhunked", b": chun ked", b": ,chunked",
):  # fmt: skip
    AMBIGUOUS[f"coding-{_coding!r}"] = request(AS_CHUNK, b"Transfer-Encoding" + _coding + b"\r\n", framed=False)
for _version in (b"0.9", b"1.2", b"2.0", b"9.9", b"1", b"1.1.1", b"11"):
    AMBIGUOUS[f"version-{_version.decode()}"] = request(EVENT, version=_version)
AMBIGUOUS["chunked-in-1.0"] = chunked(EVENT, version=b"1.0")
AMBIGUOUS["http-0.9"] = b"GET /healthz\r\n\r\n"


class TestFraming:
    @pytest.mark.parametrize("data", AMBIGUOUS.values(), ids=AMBIGUOUS)
    def test_what_can_be_read_in_two_ways(self, data: bytes, server: Serving) -> None:
        """It is refused in so many words, the connection ends, and what follows is no request."""
        with Line(server.port) as line:
            line.send(data + request(event("smuggled")))
            answer = line.answer()
            assert answer
            assert answer.status in (400, 505)
            assert "close" == answer.headers["connection"]
            assert answer.json["error"]
            assert line.ends()
        assert not {"framed", "smuggled"} & {*stored(server)}

    @pytest.mark.parametrize(
        "headers",
        [
            pytest.param(b"Content-Length:  %d \t \r\n" % LENGTH, id="blanks-around-a-length"),
            pytest.param(b"Content_Length: 5\r\nContent-Length: %d\r\n" % LENGTH, id="underscore"),
            pytest.param(b"X: \xe9\r\nContent-Length: %d\r\n" % LENGTH, id="8-bit-value"),
        ],
    )
    def test_what_can_be_read_in_one(self, headers: bytes, server: Serving) -> None:
        """What is odd, and still has one meaning, is taken."""
        assert [200] == statuses(exchange(server.port, request(TAKEN, headers, framed=False)))

    @pytest.mark.parametrize(
        "body",
        [
            pytest.param(b"".join(map(chunk, [b"%c" % c for c in TAKEN])) + b"0\r\n\r\n", id="a-byte-each"),
            pytest.param(b'%x;a=b;c="d"\r\n%b\r\n0;e\r\n\r\n' % (LENGTH, EVENT), id="extensions"),
            pytest.param(b"00000%X\r\n%b\r\n000\r\n\r\n" % (LENGTH, TAKEN), id="zeros-in-front"),
        ],
    )
    def test_chunks(self, body: bytes, server: Serving) -> None:
        """Chunks of every shape that the standard knows are put together."""
        answers = exchange(server.port, request(body, CHUNKED, framed=False))
        assert [200] == statuses(answers)
        assert 0 == len(answers[0].json["rejected"])

    @pytest.mark.parametrize("length", [b"5", b"%d" % (LENGTH - 2)], ids=["much-too-short", "a-brace-too-short"])
    def test_a_length_that_is_too_short(self, length: bytes, server: Serving) -> None:
        """The body ends where it is said to; what is left is not HTTP, and ends the connection."""
        data = request(EVENT, b"Content-Length: " + length + b"\r\n", framed=False)
        assert [400, 400] == statuses(exchange(server.port, data, count=2))

    def test_every_cut(self, server: Serving) -> None:
        """A request that comes in two pieces, wherever it is cut, is the request that it is in one."""
        whole = chunked(event("cut"), b"Connection: Upgrade\r\nUpgrade: h2c\r\nX: y\r\n")
        for cut in range(1, len(whole)):
            with Line(server.port) as line:
                line.send(whole[:cut])
                line.send(whole[cut:])
                answer = line.answer()
                assert answer
                assert 200 == answer.status, cut


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
        answers = exchange(server.port, *cut, count=3 - pieces)
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
        assert [200] * 1500 == statuses(exchange(server.port, one * 1500, count=1500))

    @pytest.mark.parametrize("target", [b"localhost:80", b"evil.test:443", b"/events/default"], ids=repr)
    def test_connect(self, target: bytes, server: Serving) -> None:
        """CONNECT opens nothing, and ends the connection."""
        tunnel = request(method=b"CONNECT", target=target) + request(event("tunnelled"))
        assert [400] == statuses(exchange(server.port, tunnel))
        assert "tunnelled" not in stored(server)


HEALTH = request(method=b"GET", target=b"/healthz")


class TestOrder:
    def test_pipelined(self, server: Serving) -> None:
        """Requests that come at once are answered in their order, every one of them."""
        names = [f"pipelined-{number}" for number in range(300)]
        bodies = [event(name) if number % 7 else b"no event" for number, name in enumerate(names)]
        answers = exchange(
            server.port, b"".join([(chunked if len(body) % 2 else request)(body) for body in bodies]), count=300
        )
        assert [200 if number % 7 else 400 for number in range(300)] == statuses(answers)
        assert {name for number, name in enumerate(names) if number % 7} <= {*stored(server)}

    @pytest.mark.parametrize(
        ("end", "status"),
        [
            pytest.param(b"garbage\r\n\r\n", 400, id="garbage"),
            pytest.param(chunked(b"").replace(b"0\r\n", b"z\r\n"), 400, id="bad-chunk"),
            pytest.param(request(b"", b"X: " + b"x" * 40_000 + b"\r\n"), 431, id="too-large-a-head"),
            pytest.param(request(b"", target=b"http://evil.test/"), 400, id="absolute-target"),
            pytest.param(b"GET / HTTP/1.1\r\nX: " + b"x" * 2_000_000, 431, id="endless-header"),
        ],
    )
    def test_behind_requests(self, end: bytes, status: int, server: Serving) -> None:
        """What is no request is told so after the answers to those before it, and then the connection ends."""
        with Line(server.port) as line:
            line.send(request(event("before-1")) + HEALTH + request(event("before-2")) + end + request(event("behind")))
            assert [200, 200, 200, status] == [
                answer.status if answer else 0 for answer in (line.answer() for _ in range(4))
            ]
            assert line.ends()
        assert "behind" not in stored(server)

    def test_one_after_the_other(self, server: Serving) -> None:
        """A connection stays for as many requests as come, refused ones among them."""
        bad_host, bad_body = request(event("never"), host=b"Host: evil.test\r\n"), request(b"no event")
        with Line(server.port) as line:
            for data, status in [
                (HEALTH, 200),
                (bad_host, 403),
                (bad_body, 400),
                (request(event("kept-alive")), 200),
            ] * 5:
                line.send(data)
                answer = line.answer()
                assert answer
                assert status == answer.status
                assert "connection" not in answer.headers

    @pytest.mark.parametrize(
        "asked",
        [
            pytest.param(request(event("last-1"), b"Connection: close\r\n"), id="connection-close"),
            pytest.param(request(event("last-2"), version=b"1.0"), id="http-1.0"),
            pytest.param(
                request(event("last-3"), version=b"1.0", host=b"Host: localhost\r\nConnection: keep-alive\r\n"),
                id="1.0-keep-alive",
            ),
        ],
    )
    def test_the_last_one(self, asked: bytes, server: Serving) -> None:
        """After it the connection ends, and what came behind it is no request."""
        with Line(server.port) as line:
            line.send(asked + request(event("after-the-last")) * 50)
            answer = line.answer()
            assert answer
            assert (200, "close") == (answer.status, answer.headers["connection"])
            assert line.ends()
        assert "after-the-last" not in stored(server)

    @pytest.mark.parametrize("count", [1, 20, 2000])
    def test_who_will_ask_no_more(self, count: int, server: Serving) -> None:
        """Somebody who ends their side after a request, as `nc -N` does, gets the answer."""
        with Line(server.port) as line:
            line.send(request(event("half-closed")) * count)
            line.socket.shutdown(socket.SHUT_WR)
            assert [200] * count == statuses(line.answers(count))
            assert line.ends()


class TestLargeBodies:
    @pytest.mark.parametrize(
        ("headers", "host", "status"),
        [
            pytest.param(b"Content-Length: 999999999999999\r\n", HOST, 413, id="a-petabyte"),
            pytest.param(b"Content-Length: 33554432\r\n", HOST, 413, id="too-large"),
            pytest.param(b"Content-Length: 33554432\r\n", b"Host: evil.test\r\n", 403, id="host"),
            pytest.param(CHUNKED, b"Host: evil.test\r\n", 403, id="host-chunked"),
            pytest.param(CHUNKED + b"Origin: null\r\n", HOST, 403, id="origin"),
            pytest.param(b"Content-Length: 33554432\r\nExpect: 100-continue\r\n", HOST, 413, id="expect"),
        ],
    )
    def test_refused_at_once(self, headers: bytes, host: bytes, status: int, server: Serving) -> None:
        """Nobody has to send a large body to hear that it is not taken."""
        with Line(server.port) as line:
            line.send(request(b"", headers, host=host, framed=False))
            answer = line.answer()
            assert answer
            assert (status, "close") == (answer.status, answer.headers["connection"])
            assert line.ends()

    @pytest.mark.parametrize("host", [HOST, b"Host: evil.test\r\n"], ids=["413", "403"])
    @pytest.mark.parametrize("framed", [True, False], ids=["length", "chunked"])
    def test_heard_by_those_who_send_it_all(self, framed: bool, host: bytes, server: Serving) -> None:
        """A client that reads no answer before it has sent everything can read it then."""
        whole = (request if framed else chunked)(b"x" * (40 << 20), host=host)
        with Line(server.port) as line:
            line.socket.sendall(whole)
            assert [413 if host == HOST else 403] == statuses(line.answers())
            assert line.ends()

    def test_without_end(self, server: Serving) -> None:
        """Who goes on and on is hung up on."""
        with Line(server.port) as line:
            line.send(request(b"", CHUNKED, host=b"", framed=False))
            with pytest.raises(ConnectionError):
                for _ in range(1 << 10):
                    line.socket.sendall(chunk(bytes(1 << 20)))

    def test_what_was_asked_for(self, server: Serving) -> None:
        """A body is asked for by 100 Continue only where it will be taken."""
        for host, expected in ((HOST, [100, 200]), (b"Host: evil.test\r\n", [403])):
            data = request(event("expected"), b"Expect: 100-continue\r\n", host=host)
            head, end, body = data.partition(b"\r\n\r\n")
            with Line(server.port) as line:
                line.send(head + end)
                first = line.answer()
                line.send(body)
                assert expected == [first.status if first else 0, *statuses(line.answers())]


class TestMutated:
    """Whatever is made by chance of requests, over real sockets."""

    # 100 is what a body that is asked for is told; 500 is an internal error.
    ANSWERS = {100, 200, 204, 304, 400, 401, 403, 404, 405, 413, 415, 431, 503, 505}
    SECONDS = 4.0

    def behaviour(self, data: bytes, port: int) -> str:
        """Return what a server answers to some bytes, in numbers; it answers or hangs up."""
        with Line(port, timeout=10) as line:
            line.send(data)
            with contextlib.suppress(OSError):
                line.socket.shutdown(socket.SHUT_WR)
            heard = b""
            with contextlib.suppress(ConnectionError):
                while piece := line.socket.recv(1 << 18):
                    heard += piece
        found = [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3}) ", heard)]
        assert self.ANSWERS >= {*found}, fuzz.shortened(data)
        assert sum(map(int, re.findall(rb'"accepted":(\d+)', heard))) <= data.count(b"event_id") + data.count(
            b"\x1f\x8b"
        )
        return str(found[:4])

    def test_the_corpus(self, server: Serving) -> None:
        """What every request is mutated from is answered as it is meant."""
        found = {name: self.behaviour(data, server.port) for name, data in fuzz.seeds("request").items()}
        assert "[200]" == found["plain.http"] == found["chunked.http"] == found["gzip.http"] == found["wrapped.http"]
        assert "[200, 200, 200]" == found["pipelined.http"]
        assert "[403]" == found["evil-host.http"]

    @pytest.mark.slow
    def test_by_chance(self, server: Serving) -> None:
        """It is answered, or hung up on, in no time, never by a fault of ours, and the server goes on."""
        corpus = list(fuzz.seeds("request").values())
        seen, runs, end = set(), 0, time.monotonic() + self.SECONDS
        for data in fuzz.mutations(random.Random("request 1"), corpus):
            runs += 1
            found = self.behaviour(data, server.port)
            if found not in seen:
                corpus.append(data)
            seen.add(found)
            if time.monotonic() > end:
                break
        assert runs > 100
        assert len(seen) > 10
        assert [200] == statuses(exchange(server.port, HEALTH))
        assert b'why="fault"' not in exchange(server.port, request(method=b"GET", target=b"/metrics"))[0].body
