"""Who may ask a server: the Host, the Origin and the credentials, over raw sockets; and what it listens on."""

from __future__ import annotations

import base64
import contextlib
import http.client
import os
import signal
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from serving import Serving, certificate, event, stored_ids, until
from support import Tool

from rillevents.serve.access import Access, is_loopback_client

from .faults.raw_http import HOST, Line, chunked, exchange, request, statuses

pytestmark = pytest.mark.unmeasured


def basic(credentials: bytes, scheme: bytes = b"Basic") -> bytes:
    return b"Authorization: " + scheme + b" " + base64.b64encode(credentials) + b"\r\n"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """A server with names and origins of its own, which prints nothing, whatever it is asked."""
    folder = tmp_path_factory.mktemp("server")
    (folder / "user").mkdir()
    words = ("--allow-host", "events.test", "--allow-host", "ported.test:8787", "--allow-origin", "https://app.test")
    with Serving(Tool(folder / "home"), *words) as serving:
        until(lambda: "export" in serving.stderr)
        said = serving.stderr
        yield serving
        assert serving.process.poll() is None
        assert said == serving.stderr


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """A server that asks for credentials."""
    folder = tmp_path_factory.mktemp("guarded")
    (folder / "user").mkdir()
    words = ("--user", "ci", "--allow-origin", "https://app.test")
    with Serving(Tool(folder / "home"), *words, RILLEVENTS_SERVE_PASSWORD="p:ä") as serving:
        yield serving


def stored(server: Serving) -> list[str]:
    return stored_ids(server.tool.paths.default_store)


ENDPOINTS = (b"/events/default", b"/events/other", b"/local/track", b"/v1/telemetry/events", b"/v1/telemetry")
GOOD_HOSTS = (
    b"localhost", b"LocalHost:1", b"127.0.0.1", b"127.0.0.1:65535", b"[::1]", b"[::1]:8787", b"events.test", b"EVENTS.test:99",
    b"ported.test:8787",
)  # fmt: skip
BAD_HOSTS = (
    b"evil.test", b"localhost.evil.test", b"evil.test:8787", b"localhost@evil.test", b"evil.test@localhost", b"localhost, evil.test",
    b"localhost evil.test", b"localhost:", b"localhost:x", b"localhost:65536", b"localhost:99999999", b"localhost:-1", b"localhost:80:80",
    b"localhost/", b"http://localhost", b"127.0.0.1.", b"127.1", b"2130706433", b"0x7f.0.0.1", b"127.0.0.2", b"0.0.0.0", b"::1", b"[::1",
    b"[::1]evil", b"[::ffff:127.0.0.1]", b"[::1%25lo]", b"localhost\xad", b"\xe9vil.test", b"ported.test", b"ported.test:8788", b"",
    b".localhost", b"sub.events.test", b"localhost%00", b"localhost#", b"localhost?",
)  # fmt: skip


class TestHost:
    @pytest.mark.parametrize("name", GOOD_HOSTS, ids=repr)
    def test_ours(self, name: bytes, server: Serving) -> None:
        """The names of this machine are ours on any port, and those that were named."""
        assert [200] == statuses(exchange(server.port, request(event("host"), host=b"Host: " + name + b"\r\n")))

    @pytest.mark.parametrize("name", BAD_HOSTS, ids=repr)
    def test_not_ours(self, name: bytes, server: Serving) -> None:
        """Any other is refused before anything else is looked at."""
        data = request(event("evil-host"), b"Origin: https://app.test\r\n", host=b"Host: " + name + b"\r\n")
        answers = exchange(server.port, data)
        assert [403] == statuses(answers)
        assert "evil-host" not in stored(server)
        assert b"evil" not in answers[0].body

    @pytest.mark.parametrize("target", [*ENDPOINTS, b"/", b"/api/events", b"/nothing"], ids=bytes.decode)
    @pytest.mark.parametrize("method", [b"GET", b"POST", b"OPTIONS", b"HEAD", b"DELETE"], ids=bytes.decode)
    def test_everywhere(self, method: bytes, target: bytes, server: Serving) -> None:
        """There is no method and no place for which it is not asked, and none that goes without it."""
        for host in (b"Host: evil.test\r\n", b""):
            with Line(server.port) as line:
                line.send(request(event("evil"), method=method, target=target, host=host))
                answer = line.answer(bodiless=method == b"HEAD")
            assert answer
            assert 403 == answer.status

    @pytest.mark.parametrize("target", [b"/healthz", b"/readyz", b"/metrics"], ids=bytes.decode)
    def test_but_for_machines_that_watch(self, target: bytes, server: Serving) -> None:
        """What watches a server asks by whatever name it knows."""
        assert [200] == statuses(
            exchange(server.port, request(method=b"GET", target=target, host=b"Host: 10.0.0.7\r\n"))
        )

    @pytest.mark.parametrize(
        "second", [b"Host: evil.test\r\n", b"Host: localhost\r\n", b"host:\r\n"], ids=["other", "same", "empty"]
    )
    def test_twice(self, second: bytes, server: Serving) -> None:
        """Two are one too many."""
        for host in (HOST + second, second + HOST):
            assert [400] == statuses(exchange(server.port, request(event("two-hosts"), host=host)))
        assert "two-hosts" not in stored(server)


class TestOrigin:
    @pytest.mark.parametrize(
        "origin",
        [
            b"https://app.test",
            b"HTTPS://App.test",
            b"http://localhost:3000",
            b"http://127.0.0.1",
            b"https://[::1]:8443",
        ],
        ids=bytes.decode,
    )
    def test_allowed(self, origin: bytes, server: Serving) -> None:
        """A page of this machine, or of an origin that was named, may send, and read the answer."""
        answers = exchange(
            server.port, request(event("origin"), b"Origin: " + origin + b"\r\n", target=b"/local/track")
        )
        assert [200] == statuses(answers)
        assert origin.decode() == answers[0].headers["access-control-allow-origin"]
        assert ("true", "Origin") == (
            answers[0].headers["access-control-allow-credentials"],
            answers[0].headers["vary"],
        )

    @pytest.mark.parametrize(
        "origin",
        [
            b"null", b"https://evil.test", b"http://app.test", b"https://app.test:444", b"https://app.test/", b"https://app.test.evil.test",
            b"https://sub.app.test", b"http://localhost/x", b"http://localhost.evil.test", b"http://localhost@evil.test", b"localhost",
            b"file://", b"file://localhost", b"chrome-extension://abc", b"HTTP://LOCALHOST", b"http://localhost http://evil.test", b"",
            b"*", b"https://app.test, https://evil.test", b"http://[::1", b"http://localhost:99999999",
        ],
        ids=repr,
    )  # fmt: skip
    @pytest.mark.parametrize("target", ENDPOINTS, ids=bytes.decode)
    def test_refused(self, target: bytes, origin: bytes, server: Serving) -> None:
        """Any other page's request is refused before it is stored, whatever its type, and no page may read the answer."""
        headers = b"Content-Type: text/plain\r\nOrigin: " + origin + b"\r\n"
        for data in (
            request(event("evil-origin"), headers, target=target),
            request(b"", headers, target=target, method=b"OPTIONS"),
        ):
            answers = exchange(server.port, data)
            assert [403] == statuses(answers)
            assert not [name for name in answers[0].headers if name.startswith("access-control")]
        assert "evil-origin" not in stored(server)

    def test_twice(self, server: Serving) -> None:
        """Two are one too many."""
        headers = b"Origin: https://app.test\r\nOrigin: https://evil.test\r\n"
        assert [400] == statuses(exchange(server.port, request(event("two-origins"), headers)))
        assert "two-origins" not in stored(server)

    def test_preflight(self, server: Serving) -> None:
        """A browser is told what a page of an allowed origin may send, and nothing about what it may not."""
        headers = b"Origin: https://app.test\r\nAccess-Control-Request-Method: POST\r\nAccess-Control-Request-Private-Network: true\r\n"
        answer = exchange(server.port, request(b"", headers, method=b"OPTIONS", target=b"/local/track"))[0]
        assert (204, b"") == (answer.status, answer.body)
        assert "https://app.test" == answer.headers["access-control-allow-origin"]
        assert "POST" == answer.headers["access-control-allow-methods"]
        assert "true" == answer.headers["access-control-allow-private-network"]
        assert "*" not in str(answer.headers)

    @pytest.mark.parametrize("target", [b"/", b"/api/events", b"/metrics", b"/healthz"], ids=bytes.decode)
    def test_what_people_look_at(self, target: bytes, server: Serving) -> None:
        """No page reads what is shown here, one of an allowed origin neither."""
        answers = exchange(server.port, request(method=b"GET", target=target, headers=b"Origin: https://app.test\r\n"))
        assert not [name for name in answers[0].headers if name.startswith("access-control")]

    def test_it_stands_in_for_credentials(self, guarded: Serving) -> None:
        """Where events of pages go, an allowed origin needs no credentials, and nowhere else."""
        origin = b"Origin: https://app.test\r\n"
        found = {
            target: statuses(exchange(guarded.port, request(event("beacon"), origin, target=target)))
            for target in ENDPOINTS
        }
        assert {target: [200] if target == b"/local/track" else [401] for target in ENDPOINTS} == found

    def test_one_of_this_machine_from_elsewhere(self) -> None:
        """A client on another machine that claims to be a page of this one needs credentials all the same."""
        access = Access(origins=["https://app.test"], user="ci", password="p")
        assert access.vouches(b"http://localhost:3000", is_local=True)
        assert not access.vouches(b"http://localhost:3000", is_local=False)
        assert access.vouches(b"https://app.test", is_local=False)
        assert not access.vouches(None, is_local=True)


class TestCredentials:
    GOOD = "p:ä".encode()

    @pytest.mark.parametrize("scheme", [b"Basic", b"basic", b"BASIC", b"Basic "], ids=repr)
    def test_right(self, scheme: bytes, guarded: Serving) -> None:
        """The name of the scheme may be written in any way."""
        assert [200] == statuses(exchange(guarded.port, request(event("in"), basic(b"ci:" + self.GOOD, scheme))))

    @pytest.mark.parametrize(
        "header",
        [
            pytest.param(b"", id="none"),
            pytest.param(b"Authorization:\r\n", id="empty"),
            pytest.param(b"Authorization: Basic\r\n", id="scheme-alone"),
            pytest.param(b"Authorization: Basic !!!\xff\r\n", id="no-base64"),
            pytest.param(b"Authorization: Basic " + b"A" * 20_000 + b"\r\n", id="long"),
            pytest.param(basic(b"ci:p:a"), id="wrong-password"),
            pytest.param(basic("ci:p:ä".encode("latin-1")), id="latin-1"),
            pytest.param(basic(b"CI:" + GOOD), id="other-user"),
            pytest.param(basic(b"ci"), id="no-password"),
            pytest.param(basic(b"ci:"), id="empty-password"),
            pytest.param(basic(b"ci:" + GOOD, b"Bearer"), id="bearer"),
            pytest.param(basic(b"ci:" + GOOD).replace(b"=", b""), id="no-padding"),
            pytest.param(basic(b"ci:" + GOOD).lower(), id="lower-case"),
            pytest.param(b"Proxy-" + basic(b"ci:" + GOOD), id="proxy"),
        ],
    )
    def test_wrong(self, header: bytes, guarded: Serving) -> None:
        """Others are told which ones are asked for, and nothing else."""
        for target in (b"/events/default", b"/v1/telemetry/events", b"/local/track"):
            answers = exchange(guarded.port, request(event("out"), header, target=target))
            assert [401] == statuses(answers)
            assert 'Basic realm="rillevents"' == answers[0].headers["www-authenticate"]
        assert "out" not in stored(guarded)

    def test_twice(self, guarded: Serving) -> None:
        """Two are one too many."""
        header = basic(b"ci:" + self.GOOD)
        assert [400] == statuses(exchange(guarded.port, request(event("out"), header + basic(b"x:y"))))

    def test_before_the_body(self, guarded: Serving) -> None:
        """Nothing of a body is asked for, or waited for, before the credentials are right."""
        head = request(b"", b"Content-Length: 10000000\r\nExpect: 100-continue\r\n", framed=False)
        for data in (head, head.replace(b"Expect: 100-continue\r\n", b""), chunked(b"")[:-5]):
            with Line(guarded.port) as line:
                line.send(data)
                answer = line.answer()
                assert answer
                assert 401 == answer.status

    @pytest.mark.parametrize("password", [b"\xff\xfe", "ä€😀".encode()], ids=["no-unicode", "unicode"])
    def test_any_password(self, password: bytes, tool: Tool) -> None:
        """A password is bytes to us: whatever is in the environment can be sent."""
        with Serving(tool, "--user", "ci", RILLEVENTS_SERVE_PASSWORD=os.fsdecode(password)) as serving:
            assert [200] == statuses(exchange(serving.port, request(event("in"), basic(b"ci:" + password))))

    @pytest.mark.parametrize(
        ("address", "here"),
        [("127.0.0.1", True), ("127.9.9.9", True), ("::1", True), ("::ffff:127.0.0.1", True), ("::1%lo", True),
         ("10.0.0.1", False), ("192.0.2.1", False), ("fe80::1%eth0", False), ("::ffff:10.0.0.1", False), ("", False), ("x", False)],
    )  # fmt: skip
    def test_who_is_here(self, address: str, here: bool) -> None:
        """A client with one of this machine's own addresses is on it."""
        assert here is is_loopback_client((address, 1))
        assert not is_loopback_client(None)


class TestAnswers:
    @pytest.mark.parametrize(
        "name",
        [b"a%0d%0aX:%20y", b"a%0aSet-Cookie:%20b", b"%00", b"a%2fb", b"%c3%a9", b"x" * 129, b"a%20b", b"<b>"],
        ids=repr,
    )
    def test_no_name_comes_back(self, name: bytes, server: Serving) -> None:
        """What is no stream is nowhere, and nothing of its name is in the answer."""
        answers = exchange(
            server.port, request(event("odd-stream"), b"Origin: https://app.test\r\n", target=b"/events/" + name)
        )
        assert [404] == statuses(answers) or [400] == statuses(answers)
        assert not {"x", "set-cookie"} & set(answers[0].headers)
        assert "odd-stream" not in stored(server)

    def test_control_characters_stay_escaped(self, server: Serving) -> None:
        """What an answer says about a line is JSON, whatever is in the line."""
        bad = b'{"event_id":"\\r\\nX: y","event_type":"\\u001b[2J\\u2028"}'
        answer = exchange(server.port, request(bad, target=b"/events/default"))[0]
        assert 400 == answer.status
        assert answer.body.isascii()
        assert not [byte for byte in answer.body if byte < 32]

    def test_errors_say_nothing_of_the_server(self, server: Serving) -> None:
        """No answer names what it runs on, or a place on its disk."""
        home = str(server.tool.home).encode()
        for data in (
            request(b"x"),
            request(target=b"/nothing"),
            b"x\r\n\r\n",
            request(host=b""),
            request(method=b"PUT"),
        ):
            for answer in exchange(server.port, data):
                said = answer.body + repr(answer.headers).encode()
                assert not [word for word in (b"uvicorn", b"httptools", b"Traceback", home) if word in said]


class TestListening:
    def test_ipv6(self, tool: Tool) -> None:
        """It can be reached by IPv6 alone, and says so."""
        with Serving(tool, "--host", "::1") as serving:
            assert f"http://[::1]:{serving.port}" == serving.url
            with Line(serving.port, host="::1") as line:
                line.send(request(event("six"), host=b"Host: [::1]:%d\r\n" % serving.port))
                assert [200] == statuses(line.answers())
            with pytest.raises(ConnectionRefusedError):
                Line(serving.port)

    def test_another_address_of_this_machine(self, tool: Tool) -> None:
        """The address that it was told to listen on is a name of it."""
        with Serving(tool, "--host", "127.0.0.2") as serving:
            assert 200 == serving.post(event("two")).status

    @pytest.mark.parametrize("host", ["0.0.0.0", "::", "0", "192.0.2.1", "::ffff:127.0.0.1"])
    def test_elsewhere_without_a_user(self, host: str, tool: Tool) -> None:
        """No client from elsewhere gets in without authentication."""
        done = tool("serve", "--port", "0", "--host", host)
        assert 2 == done.returncode
        assert "--user" in done.stderr

    def test_in_use(self, tool: Tool) -> None:
        """A port that somebody else has is said to be in use, and nothing is made."""
        with socket.create_server(("127.0.0.1", 0)) as other:
            done = tool("serve", "--port", str(other.getsockname()[1]))
        assert 75 == done.returncode
        assert "in use" in done.stderr
        assert not Path(tool.paths.default_store).exists()


class TestTls:
    @pytest.fixture
    def secured(self, tool: Tool, tmp_path: Path) -> Iterator[tuple[Serving, ssl.SSLContext]]:
        """A server that speaks TLS, and what a client has to know."""
        cert, key = certificate(tmp_path)
        with Serving(tool, "--tls-cert", str(cert), "--tls-key", str(key)) as serving:
            yield serving, ssl.create_default_context(cafile=str(cert))

    def test_everything(self, secured: tuple[Serving, ssl.SSLContext]) -> None:
        """Events, refusals and large bodies go through TLS as they do without; what is no TLS gets nothing."""
        serving, context = secured
        connection = http.client.HTTPSConnection("127.0.0.1", serving.port, context=context, timeout=20)
        with contextlib.closing(connection):
            for body, status in ((event("tls"), 200), (b"x", 400), (b"x" * (20 << 20), 413)):
                connection.request("POST", "/events/default", body)
                answer = connection.getresponse()
                answer.read()
                assert status == answer.status
        for data in (request(event("plain")), b"\x16\x03\x01\x00\x05hello", b"\x00" * 1000):
            assert [] == exchange(serving.port, data)
        assert ["tls"] == stored(serving)
        until(lambda: "export" in serving.stderr)
        assert serving.stderr.splitlines()[-1].startswith("export ")

    def test_wrong_files(self, tool: Tool, tmp_path: Path) -> None:
        """Files that are no certificate, or of another key, are said to be so, without what is in them."""
        (tmp_path / "one").mkdir()
        (tmp_path / "other").mkdir()
        cert, key = certificate(tmp_path / "one")
        _, other = certificate(tmp_path / "other")
        (tmp_path / "secret").write_text("hunter2")
        for pair in (
            (cert, other),
            (key, cert),
            (tmp_path / "secret", key),
            (cert, tmp_path / "secret"),
            (tmp_path / "none", key),
        ):
            done = tool("serve", "--port", "0", "--tls-cert", str(pair[0]), "--tls-key", str(pair[1]))
            assert 78 == done.returncode, pair
            assert "--tls-cert" in done.stderr
            assert "hunter2" not in done.stderr


class TestStreams:
    @pytest.mark.slow
    @pytest.mark.parametrize("closed", ["out", "err", "both", "full", "nobody-reads"])
    def test_closed_or_full(self, closed: str, tool: Tool) -> None:
        """What it cannot say keeps it from nothing: it serves until it is stopped."""
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
        ways = {
            "out": ">&-",
            "err": "2>&-",
            "both": ">&- 2>&- <&-",
            "full": ">/dev/full 2>/dev/full",
            "nobody-reads": "",
        }
        words = ["sh", "-c", f'exec "$@" {ways[closed]}', "sh", *tool.command("serve", "--port", str(port), "--json")]
        read, write = os.pipe()
        os.close(read)
        with subprocess.Popen(words, env=tool.environ, stdout=write, stderr=write) as process:
            os.close(write)
            try:
                until(lambda: is_up(port))
                assert [200] == statuses(exchange(port, request(event("unheard"))))
                assert process.poll() is None
            finally:
                process.send_signal(signal.SIGTERM)


def is_up(port: int) -> bool:
    try:
        return [200] == statuses(exchange(port, request(method=b"GET", target=b"/healthz")))
    except ConnectionRefusedError:
        time.sleep(0.1)
        return False


@pytest.mark.parametrize(
    "origin",
    ["chrome-extension://abcdefghijklmnop", "vscode-webview://0af1", "tauri://localhost", "app://obsidian.md:1"],
)
def test_origins_of_other_schemes(origin: str) -> None:
    """Browser extensions and desktop shells have schemes of their own: each of them can be allowed, and no other comes with it."""
    access = Access(origins=[origin])
    assert access.allows_origin(origin.encode())
    assert not access.allows_origin(b"other" + origin.encode()[origin.index(":") :])
    assert not access.allows_origin(origin.encode() + b"x")
