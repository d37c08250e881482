"""What a client can make large has a limit, what it can make slow has a deadline, and others are served meanwhile."""

from __future__ import annotations

import contextlib
import re
import resource
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from serving import Serving, event, until
from support import Tool

from .faults.quick_server import QuickTool
from .faults.raw_http import CHUNKED, Line, exchange, many, request, statuses

# Of the whole server, which takes about 60 MB for itself.
MOST_MEMORY = 400 << 10
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
    folder = tmp_path_factory.mktemp("server")
    (folder / "user").mkdir()
    with Serving(Tool(folder / "home")) as serving:
        until(lambda: "export" in serving.stderr)
        said = serving.stderr
        yield serving
        assert serving.process.poll() is None
        assert said == serving.stderr
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
    def test_every_kind(self, quick: Serving) -> None:
        """Whatever a client is slow at, it is hung up on in time, and others are served meanwhile."""
        with contextlib.ExitStack() as stack:
            lines = {name: stack.enter_context(Line(quick.port)) for name in SLOW}
            for name, line in lines.items():
                line.send(SLOW[name][0])
            ended: dict[str, float] = {}
            started = time.monotonic()
            while len(ended) < len(lines) and time.monotonic() < started + 10:
                assert seconds_of(quick, 1) < 5
                for name in set(lines) - set(ended):
                    lines[name].send(SLOW[name][1])
                    if has_ended(lines[name]):
                        ended[name] = time.monotonic() - started
                time.sleep(0.1)
        assert set(SLOW) == set(ended)
        assert ended.pop("refused-and-dripping") < 0.9 < min(ended.values())
        assert max(ended.values()) < 6

    def test_after_an_answer(self, quick: Serving) -> None:
        """Who was refused and goes on sending, drop by drop, is not listened to for long."""
        with Line(quick.port) as line:
            line.send(SLOW["refused-and-dripping"][0])
            assert [403] == statuses(line.answers())
            started = time.monotonic()
            with pytest.raises(ConnectionError):
                while time.monotonic() < started + 10:
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
            assert seconds_of(server) < 10
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
                assert seconds_of(server) < 10
            assert len(list(Path(f"/proc/{server.process.pid}/fd").iterdir())) < 1064
            assert 'rillevents_hung_up_total{why="evicted"}' in server.ask("GET", "/metrics").body.decode()

    def test_slow_bodies(self, tmp_path: Path) -> None:
        """Where all are sending, who comes is asked to come again; who has sent for long, and has not finished, makes room."""
        (tmp_path / "user").mkdir()
        with contextlib.ExitStack() as stack:
            server = stack.enter_context(Serving(QuickTool(tmp_path / "home", head=2.0, connections=20)))
            for line in stack.enter_context(many(60, server.port)):
                line.send(SLOW["no-body"][0])
            full = server.post(event("full"))
            assert (503, "1") == (full.status, full.headers["retry-after"])
            until(lambda: server.post(event("later")).status == 200, 20)
            assert len(list(Path(f"/proc/{server.process.pid}/fd").iterdir())) < 60
