"""What a client can make large has a limit, what it can make slow has a deadline, and others are served meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import http.client
import re
import resource
import socket
import ssl
import threading
import time
import zlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from serving import Serving, certificate, event, says_nothing, until
from serving import exchange as exchange_events
from support import PACE, Tool, zstd

from rillevents.serve.body import Body, Reading
from rillevents.serve.commit import Committer, Overloaded
from rillevents.serve.endpoints import endpoint_at
from rillevents.serve.metrics import Metrics
from rillevents.serve.response import Refused
from rillevents.store.incoming import Incoming, InvalidLine

from .faults.quick_server import QuickTool
from .faults.raw_http import CHUNKED, Line, exchange, many, request, statuses

pytestmark = pytest.mark.unmeasured

# Of the whole server, which takes about 60 MB for itself.
MOST_MEMORY = 512 << 10
EVENT = event("plain")
GET = request(method=b"GET", target=b"/healthz")


def memory(server: Serving) -> int:
    """Return the most memory that a server has had, in KiB."""
    found = re.search(r"VmHWM:\s+(\d+)", Path(f"/proc/{server.process.pid}/status").read_text())
    assert found
    return int(found[1])


def seconds_of(server: Serving, count: int = 3) -> float:
    """Return the longest that a server took for one of a few requests on connections of their own."""
    longest = 0.0
    for number in range(count):
        started = time.monotonic()
        assert 200 == server.post(event(f"neighbour-{started}-{number}")).status
        longest = max(longest, time.monotonic() - started)
    return longest


def has_ended(line: Line) -> bool:
    """Whether the server has hung up; what it has said before is passed over."""
    line.socket.settimeout(0)
    try:
        while line.socket.recv(65536):
            continue
    except BlockingIOError:
        return False
    except ConnectionError:
        return True
    return True


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """A server with deadlines of about a second, which says nothing whatever is done to it."""
    folder = tmp_path_factory.mktemp("quick")
    (folder / "user").mkdir()
    with Serving(QuickTool(folder / "home", head=1.0, body=1.5, answer=2.0, idle=2.0, linger=1.0)) as serving:
        yield serving
        assert serving.process.poll() is None
        assert "" == serving.stderr


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """A server as it is, whose memory stays within bounds to the end, and which says nothing."""
    with says_nothing(tmp_path_factory.mktemp("server")) as serving:
        yield serving
        assert memory(serving) < MOST_MEMORY


HALF = b"POST /events/default HTTP/1.1\r\nHost: localhost\r\nX: "
# What is sent at once, and what is sent again and again after that.
SLOW = {
    "nothing": (b"", b""),
    "half-a-head": (HALF, b""),
    "dripping-head": (HALF, b"x"),
    "dripping-headers": (HALF, b"x\r\nX: "),
    "dripping-blank-lines": (b"\r\n", b"\r\n"),
    "no-body": (request(b"", b"Content-Length: 100\r\n", framed=False), b""),
    "dripping-body": (request(b"", b"Content-Length: 1000000\r\n", framed=False), b"x"),
    "dripping-chunks": (request(b"", CHUNKED, framed=False), b"1\r\nx\r\n"),
    "dripping-extension": (request(b"1;", CHUNKED, framed=False), b"x"),
    "dripping-trailers": (request(b"0\r\n", CHUNKED, framed=False), b"X: y\r\n"),
    "refused-and-dripping": (request(b"", b"Content-Length: 1000000\r\n", framed=False, host=b""), b"x"),
    "nothing-more": (GET, b""),
    "half-a-head-after-an-answer": (GET + HALF, b"x"),
    "blank-lines-after-an-answer": (GET, b"\r\n"),
    "half-a-body-after-an-answer": (GET + request(b"", b"Content-Length: 1000000\r\n", framed=False), b"x"),
}


class TestSlowClients:
    @pytest.mark.slow
    def test_every_kind(self, quick: Serving) -> None:
        """Whatever a client is slow at, it is hung up on in time, and others are served meanwhile."""
        with contextlib.ExitStack() as stack:
            lines = {name: stack.enter_context(Line(quick.port)) for name in SLOW}
            for name, line in lines.items():
                line.send(SLOW[name][0])
            ended: dict[str, float] = {}
            started = time.monotonic()
            while len(ended) < len(lines) and time.monotonic() < started + 10 * PACE:
                assert seconds_of(quick, 1) < 5 * PACE
                for name in set(lines) - set(ended):
                    lines[name].send(SLOW[name][1])
                    if has_ended(lines[name]):
                        ended[name] = time.monotonic() - started
                time.sleep(0.1)
        assert set(SLOW) == set(ended)
        assert ended.pop("refused-and-dripping") < min(ended.values())
        assert max(ended.values()) < 6 * PACE

    @pytest.mark.slow
    def test_after_an_answer(self, quick: Serving) -> None:
        """A refused client that continues to send drop by drop is soon disconnected."""
        with Line(quick.port) as line:
            line.send(SLOW["refused-and-dripping"][0])
            assert [403] == statuses(line.answers())
            started = time.monotonic()
            with pytest.raises(ConnectionError):
                while time.monotonic() < started + 10 * PACE:
                    line.socket.sendall(b"x")
                    time.sleep(0.05)


FLOODS = {
    "a-line-of-64-kB": (request(b"", b"X: " + b"x" * 65_536 + b"\r\n"), 431),
    "a-name-of-64-kB": (request(b"", b"x" * 65_536 + b": y\r\n"), 431),
    "a-target-of-64-kB": (request(b"", target=b"/" + b"x" * 65_536), 431),
    "10,000-headers": (request(b"", b"X: y\r\n" * 10_000), 431),
    "101-headers": (request(b"", b"X: y\r\n" * 99), 431),
    "an-endless-line": (b"GET / HTTP/1.1\r\nX: " + b"x" * (8 << 20), 431),
    "endless-headers": (b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * (1 << 20), 431),
    "an-endless-method": (b"P" * (8 << 20), 400),
    "an-endless-target": (b"GET /" + b"x" * (8 << 20), 431),
    "endless-blank-lines": (b"\r\n" * (4 << 20), 431),
    "an-endless-extension": (request(b"1;" + b"x" * (8 << 20), CHUNKED, framed=False), 431),
    "extensions": (request((b"1;" + b"x" * 30_000 + b"\r\nx\r\n") * 2400, CHUNKED, framed=False), 413),
    "endless-trailers": (request(b"0\r\n" + b"X: y\r\n" * (1 << 20), CHUNKED, framed=False), 431),
    "an-endless-trailer": (request(b"0\r\nX: " + b"y" * (8 << 20), CHUNKED, framed=False), 431),
}


class TestFloods:
    @pytest.mark.parametrize(("data", "status"), FLOODS.values(), ids=FLOODS)
    def test_of_headers(self, data: bytes, status: int, server: Serving) -> None:
        """More than a head may have is refused, the sender hears it, and the connection ends."""
        with Line(server.port) as line:
            line.send(data)
            assert [status] == statuses(line.answers())
            assert line.ends()

    def test_just_within(self, server: Serving) -> None:
        """As much as a head may have is taken."""
        headers = b"X: y\r\n" * 50 + b"X: " + b"x" * 31_000 + b"\r\n"
        for data in (request(event("large-head"), headers), GET + request(event("large-head"), headers)):
            assert {200} == {*statuses(exchange(server.port, data))}

    def test_of_requests(self, server: Serving) -> None:
        """So many at once on each of many connections are not taken apart before their turn."""
        before = memory(server)
        with many(30, server.port) as lines:
            for line in lines:
                line.socket.setblocking(False)
                line.send((b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n" * 8000)[: 256 << 10])
            assert seconds_of(server) < 10 * PACE
            assert memory(server) - before < 100 << 10


def knock(port: int, count: int, stack: contextlib.ExitStack) -> None:
    """Open so many connections at once, and leave them."""
    for _ in range(count):
        client = stack.enter_context(socket.socket())
        client.setblocking(False)
        client.connect_ex(("127.0.0.1", port))


@pytest.fixture
def descriptors() -> Iterator[None]:
    """Enough of them for us to hold more connections than a server has room for."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 4096:
        pytest.skip("this needs 4,096 descriptors")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 4096), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


class FewFiles(Tool):
    """The command line, in a process that may open only so many files."""

    def __init__(self, home: Path, files: str) -> None:
        super().__init__(home)
        self._files = files

    def command(self, *words: str | bytes) -> list[str | bytes]:
        return ["sh", "-c", f'ulimit {self._files}; exec "$@"', "sh", *super().command(*words)]


class TestManyConnections:
    @pytest.mark.parametrize("files", ["-Sn 1024", "-n 256"], ids=["as-usual", "few-files"])
    def test_idle(self, files: str, descriptors: None, tmp_path: Path) -> None:
        """Two thousand connections that do nothing keep nobody out: the oldest make room."""
        (tmp_path / "user").mkdir()
        with contextlib.ExitStack() as stack:
            server = stack.enter_context(Serving(FewFiles(tmp_path / "home", files)))
            for _ in range(2):
                knock(server.port, 2000, stack)
                assert seconds_of(server) < 10 * PACE
            assert len(list(Path(f"/proc/{server.process.pid}/fd").iterdir())) < 1064
            assert 'rillevents_hung_up_total{why="evicted"}' in server.ask("GET", "/metrics").body.decode()

    def test_silent_handshakes(self, descriptors: None, tmp_path: Path) -> None:
        """A server that speaks TLS has room for those who do not begin to, beside those who do."""
        (tmp_path / "user").mkdir()
        cert, key = certificate(tmp_path)
        context = ssl.create_default_context(cafile=str(cert))
        with contextlib.ExitStack() as stack:
            words = ("--tls-cert", str(cert), "--tls-key", str(key))
            server = stack.enter_context(Serving(FewFiles(tmp_path / "home", "-Sn 1024"), *words))
            knock(server.port, 1500, stack)
            connection = http.client.HTTPSConnection("127.0.0.1", server.port, context=context, timeout=20)
            stack.callback(connection.close)
            assert 200 == exchange_events(connection, "POST", "/events/default", event("tls")).status

    @pytest.mark.slow
    def test_slow_bodies(self, tmp_path: Path) -> None:
        """If all are sending, a new client is asked to retry; one that has sent for long without finishing is evicted."""
        (tmp_path / "user").mkdir()
        with contextlib.ExitStack() as stack:
            server = stack.enter_context(Serving(QuickTool(tmp_path / "home", head=2.0, connections=20)))
            for line in stack.enter_context(many(60, server.port)):
                line.send(SLOW["no-body"][0])
            full = server.post(event("full"))
            assert (503, "1") == (full.status, full.headers["retry-after"])
            until(lambda: server.post(event("later")).status == 200, 20)
            assert len(list(Path(f"/proc/{server.process.pid}/fd").iterdir())) < 60


def compressed(count: int, piece: bytes) -> bytes:
    """Return so many bytes of a piece again and again, as gzip."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    return packer.compress(piece * (count // len(piece))) + packer.flush()


START = event("bomb").rstrip()[:-1]
# With an ID of its own: it is an event, and is stored.
NUMBERS = event("numbers").rstrip()[:-1] + b',"a":[' + b"1," * 16_000 + b"1]}\n"
INFLATED = 31 << 20
GZIP, ZSTD = b"Content-Encoding: gzip\r\n", b"Content-Encoding: zstd\r\n"
# A body, its encoding, and what /events/…, /local/track and /v1/telemetry/events say to it.
BOMBS = {
    "100,000-arrays": (b"[" * 100_000, b"", (400, 200, 400)),
    "100,000-arrays-and-back": (b"[" * 100_000 + b"]" * 100_000, b"", (400, 200, 400)),
    "100,000-objects": (b'{"a":' * 100_000, b"", (400, 200, 400)),
    "100,000-arrays-on-lines": (b"[\n" * 100_000 + b"]" * 100_000, b"", (413, 200, 400)),
    "deep-within": (b'{"events":[' + START + b',"a":' + b"[" * 10_000 + b"]" * 10_000 + b"}]}", b"", (400, 200, 400)),
    "5,000-digits": (START + b',"a":' + b"9" * 5000 + b"}", b"", (400, 200, 400)),
    "nan": (START + b',"a":NaN}', b"", (400, 200, 400)),
    "infinity": (START + b',"a":-Infinity}', b"", (400, 200, 400)),
    "lone-surrogate": (START + b',"a":"\\ud800"}', b"", (400, 200, 400)),
    "lone-surrogate-as-id": (START.replace(b"bomb", b"\\udfff") + b"}", b"", (400, 200, 400)),
    "invalid-utf-8": (START + b',"a":"\xff"}', b"", (400, 200, 400)),
    "surrogate-in-utf-8": (START + b',"a":"\xed\xa0\x80"}', b"", (400, 200, 400)),
    "utf-16": (START.decode().encode("utf-16"), b"", (400, 200, 400)),
    "byte-order-mark": (b"\xef\xbb\xbf" + event("bom"), b"", (200, 200, 400)),
    "id-twice-once-a-number": (START + b',"event_id":5}', b"", (400, 200, 400)),
    "nul": (START + b',"a":"\0"}', b"", (400, 200, 400)),
    "1,000,000-keys": (b"{" + b",".join(b'"k%d":1' % n for n in range(1_000_000)) + b"}", b"", (400, 413, 413)),
    "90,000-keys": (b"{" + b",".join(b'"k%d":1' % n for n in range(90_000)) + b"}", b"", (400, 200, 400)),
    "500,000-elements": (b"[" + b"1," * 499_000 + b"1]", b"", (400, 413, 400)),
    "1,000,000-elements": (b"[" + b"1," * 999_999 + b"1]", b"", (400, 413, 413)),
    "500,000-events": (b'{"events":[' + b"1," * 499_000 + b"1]}", b"", (400, 200, 413)),
    "300,000-objects": (b"[" + b"{}," * 300_000 + b"{}]", b"", (400, 413, 400)),
    "8,000,000-newlines": (b"\n" * 8_000_000, b"", (413, 413, 413)),
    "1,000,000-newlines": (b"\n" * 1_000_000, b"", (413, 200, 400)),
    "10,000-bad-lines": (b"x\n" * 9_999, b"", (400, 200, 400)),
    "500-lines-of-numbers": (NUMBERS * 500, b"", (200, 413, 413)),
    "gzip-of-1-GB": (compressed(1 << 30, b"\0"), GZIP, (413, 413, 413)),
    "gzip-of-31-MB": (compressed(INFLATED, b"\0"), GZIP, (400, 413, 413)),
    "gzip-of-newlines": (compressed(INFLATED, b"\n"), GZIP, (413, 413, 413)),
    "gzip-of-blanks": (compressed(INFLATED, b" "), GZIP, (400, 413, 413)),
    "gzip-of-brackets": (compressed(INFLATED, b"["), GZIP, (400, 413, 413)),
    "gzip-of-lines-of-numbers": (
        compressed(INFLATED, NUMBERS),
        GZIP,
        (200, 413, 413),
    ),
    "gzip-of-1-MB-of-bad-lines": (compressed(9_999 * 100, b"x" * 99 + b"\n"), GZIP, (400, 200, 400)),
    "gzip-in-gzip": (gzip.compress(compressed(INFLATED, b"\0")), GZIP, (400, 200, 400)),
    "gzip-twice-said": (gzip.compress(gzip.compress(EVENT)), b"Content-Encoding: gzip, gzip\r\n", (415, 415, 415)),
    "gzip-cut-short": (gzip.compress(EVENT)[:-5], GZIP, (400, 400, 400)),
    "gzip-and-more": (gzip.compress(EVENT) + b"more", GZIP, (400, 400, 400)),
    "two-members": (gzip.compress(EVENT) * 2, GZIP, (400, 400, 400)),
    "gzip-damaged": (gzip.compress(EVENT)[:-8] + bytes(8), GZIP, (400, 400, 400)),
    "no-gzip": (EVENT, GZIP, (400, 400, 400)),
    "empty-gzip": (b"", GZIP, (400, 400, 400)),
    "zstd-of-1-GB": (zstd(bytes(1 << 30)), ZSTD, (413, 413, 413)),
    "zstd-of-who-knows": (
        zstd(bytes(1 << 28), says_its_size=False),
        ZSTD,
        (413, 413, 413),
    ),
    "zstd-cut-short": (zstd(EVENT)[:-5], ZSTD, (400, 400, 400)),
    "zstd-and-more": (zstd(EVENT) + b"more", ZSTD, (400, 400, 400)),
    "no-zstd": (b"(\xb5/\xfd" + b"abc" * 100, ZSTD, (400, 400, 400)),
    "empty-zstd": (b"", ZSTD, (400, 400, 400)),
    "brotli": (EVENT, b"Content-Encoding: br\r\n", (415, 415, 415)),
}
TARGETS = (b"/events/default", b"/local/track", b"/v1/telemetry/events")


class TestBombs:
    @pytest.mark.slow
    @pytest.mark.parametrize(("body", "headers", "expected"), BOMBS.values(), ids=BOMBS)
    def test_of_every_kind(self, body: bytes, headers: bytes, expected: tuple[int, ...], server: Serving) -> None:
        """Whatever a body becomes, it is answered within seconds by what the sender did wrong, and others are served meanwhile."""
        started = time.monotonic()
        with contextlib.ExitStack() as stack:
            lines = [stack.enter_context(Line(server.port)) for _ in TARGETS]
            for line, target in zip(lines, TARGETS, strict=True):
                line.send(request(body, headers, target=target))
            assert seconds_of(server, 2) < 5 * PACE
            assert list(expected) == [answer.status if answer else 0 for answer in (line.answer() for line in lines)]
        assert time.monotonic() - started < 15 * PACE

    @pytest.mark.slow
    def test_many_at_once(self, server: Serving) -> None:
        """So many bombs at once wait for each other, and take no more memory than a few."""
        bomb = request(compressed(INFLATED, NUMBERS), GZIP)
        with many(6, server.port, timeout=60) as lines:
            for line in lines:
                line.send(bomb)
            assert seconds_of(server) < 5 * PACE
            assert {200} == {answer.status if answer else 0 for answer in (line.answer() for line in lines)}

    def test_what_is_looked_at_counts(self) -> None:
        """Bodies that wait to be parsed count, too: over the limit, a new client is asked to retry."""
        asyncio.run(self._read_too_much())

    async def _read_too_much(self) -> None:
        found, parsed = endpoint_at("/events/default"), threading.Event()
        assert found
        # No body is parsed before all have come: from Python 3.12 on one may be through at once, without a turn of the loop.
        endpoint = replace(found, parse=lambda body: parsed.wait() and found.parse(body))
        reading = Reading(Metrics(), most=3_000_000)
        headers = {b"content-length": b"1000000"}

        async def received() -> dict[str, object]:
            return {"type": "http.request", "body": b"x" * 1_000_000}

        bodies = [asyncio.ensure_future(reading.events(endpoint, headers, Body(received, headers))) for _ in range(5)]
        await asyncio.wait(bodies[3:])
        parsed.set()
        answers = await asyncio.gather(*bodies, return_exceptions=True)
        assert [Incoming] * 3 + [Refused] * 2 == [type(each) for each in answers]
        assert [503, 503] == [each.answer.status for each in answers if isinstance(each, Refused)]
        assert 0 == reading.held

    def test_what_is_no_event_waits_for_the_disk_as_well(self) -> None:
        """What is kept though it is no event is counted while it waits."""
        asyncio.run(self._submit_too_much())

    async def _submit_too_much(self) -> None:
        committer = Committer(None, asyncio.get_running_loop())  # type: ignore[arg-type] - it does not begin
        bad = Incoming([], [], [], [InvalidLine(number, "no event", b"x") for number in range(10_000)], size=20_000)
        for _ in range(10):
            committer.submit(bad)
        with pytest.raises(Overloaded):
            committer.submit(bad)
