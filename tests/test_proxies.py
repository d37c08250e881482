"""Flush through real proxies, tinyproxy and squid, in a network of its own, where the intake is not on loopback."""

from __future__ import annotations

import base64
import os
import pwd
import re
import socket
import ssl
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from support import Tool, need, snapshot

from rillevents.event import Event
from rillevents.spool import create
from rillevents.spool.slots import append

from .faults.sandbox import ADDRESS, Ended, Network, Running, until
from .faults.socket_server import OK, FaultServer, Script, answering, greeting, silent, stalling

pytestmark = [pytest.mark.slow, pytest.mark.unmeasured]

USER, PASSWORD = "worker", "pa55-w0rd"
BASIC = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
PROXY_PASSWORD = "h1ddenpa55"
SQUID_HELPER = "/usr/lib/squid/basic_ncsa_auth"
NAMES = ("tinyproxy", "squid")
_REQUEST = re.compile(r"\b(CONNECT|POST|GET) (\S+)")

TINYPROXY = """
Port {port}
Listen {address}
LogLevel Connect
LogFile "{folder}/{name}.log"
Filter "{folder}/denied"
MaxClients 20
"""
SQUID = """
http_port {address}:3128
http_port {address}:3129
cache_log {folder}/cache.log
cache_effective_user nobody
cache_effective_group nogroup
cache deny all
coredump_dir {folder}
pid_filename none
pinger_enable off
shutdown_lifetime 0 seconds
visible_hostname proxy.test
auth_param basic program {helper} {folder}/passwords
auth_param basic children 1
acl denied dstdomain denied.test
acl guarded localport 3129
acl known proxy_auth REQUIRED
access_log stdio:{folder}/squid-guarded.log guarded
access_log stdio:{folder}/squid.log !guarded
http_access deny denied
http_access deny guarded !known
http_access allow all
"""


@dataclass
class Proxy:
    """A proxy that runs: where, and what it has logged since it was last asked."""

    port: int
    log: Path
    network: Network
    marks: int = 0
    read: int = 0

    def url(self, userinfo: str = "") -> str:
        return f"http://{userinfo}{ADDRESS}:{self.port}"

    def seen(self, least: int = 0) -> list[tuple[str, str]]:
        """Return what it was asked for since the last call, at *least* so much, and forget it."""
        # Squid notes a tunnel once it has ended, and that may be a moment after its user has.
        until(lambda: len(self._requests()) >= least)
        # A request of ours comes last: what was not logged by then was not asked.
        self.marks += 1
        mark = f"http://{ADDRESS}:1/mark-{self.marks}-"
        with self.network.inside(lambda: socket.create_connection((ADDRESS, self.port), 10)) as asking:
            asking.sendall(f"GET {mark} HTTP/1.0\r\n\r\n".encode())
            until(lambda: mark in self.log.read_text())
        found, self.read = self._requests(), len(self.log.read_text())
        return found

    def _requests(self) -> list[tuple[str, str]]:
        found = _REQUEST.findall(self.log.read_text()[self.read :]) if self.log.exists() else []
        return [request for request in found if "/mark-" not in request[1]]


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    """A network with an intake's name in it."""
    hosts = tmp_path_factory.mktemp("network") / "hosts"
    hosts.write_text(f"127.0.0.1 localhost\n::1 localhost\n{ADDRESS} intake.test denied.test\n")
    with Network(hosts) as found:
        yield found


@pytest.fixture(scope="module")
def proxies(network: Network) -> Iterator[Mapping[str, Proxy]]:
    """Both proxies, each open, and as `…-guarded` one that asks for a password."""
    with tempfile.TemporaryDirectory() as temporary, ExitStack() as stack:
        folder = Path(temporary)
        hashed = subprocess.run([need("openssl"), "passwd", "-apr1", PROXY_PASSWORD], capture_output=True, text=True)
        (folder / "passwords").write_text(f"{USER}:{hashed.stdout}")
        (folder / "denied").write_text("^denied\\.test$\n")
        ports = {"tinyproxy": 8888, "tinyproxy-guarded": 8889, "squid": 3128, "squid-guarded": 3129}
        for name, guard in (("tinyproxy", ""), ("tinyproxy-guarded", f"BasicAuth {USER} {PROXY_PASSWORD}\n")):
            config = TINYPROXY.format(port=ports[name], address=ADDRESS, folder=folder, name=name)
            (folder / name).write_text(config + guard)
            stack.enter_context(running(network, ports[name], need("tinyproxy"), "-d", "-c", str(folder / name)))
        (folder / "squid").write_text(SQUID.format(address=ADDRESS, folder=folder, helper=SQUID_HELPER))
        # Squid does not work as root, so the folder is to be somebody else's.
        os.chown(folder, pwd.getpwnam("nobody").pw_uid, -1)
        stack.enter_context(running(network, ports["squid"], need("squid"), "-N", "-f", str(folder / "squid")))
        yield {name: Proxy(port, folder / f"{name}.log", network) for name, port in ports.items()}


@contextmanager
def running(network: Network, port: int, *words: str) -> Iterator[None]:
    """Start a proxy, and wait until it listens."""
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(network.words(*words), stdout=said, stderr=said)
        try:
            until(lambda: process.poll() is not None or is_open(network, port))
            said.seek(0)
            assert process.poll() is None, said.read()
            yield
        finally:
            process.terminate()
            process.wait(20)


def is_open(network: Network, port: int) -> bool:
    try:
        network.inside(lambda: socket.create_connection((ADDRESS, port), 1)).close()
    except OSError:
        return False
    return True


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ssl.SSLContext]:
    """A certificate for intake.test and denied.test, and a server's context with it."""
    folder = tmp_path_factory.mktemp("tls")
    cert, key = folder / "cert.pem", folder / "key.pem"
    what = ["-subj", "/CN=x", "-addext", "subjectAltName=DNS:intake.test,DNS:denied.test", "-days", "2", "-nodes"]
    made = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-keyout", key, "-out", cert]
    subprocess.run([need("openssl"), *made, *what], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    return cert, context


class Sender:
    """A spool with two events in the network, to be flushed from there."""

    def __init__(self, tool: Tool, network: Network) -> None:
        self.tool, self.network = tool, network
        self.lines = [Event("t", "n", {"number": number}).line for number in range(2)]
        for line in self.lines:
            append(create(tool.paths.spool_dir), line, max_bytes=1 << 20)

    def flush(self, url: str, *options: str, user: str = USER, **environ: str) -> Ended:
        """Run `flush` to *url*; its environment has nothing but this, and the intake's credentials if there is a user."""
        secrets = {"RILLEVENTS_INTAKE_USER": user, "RILLEVENTS_INTAKE_PASSWORD": PASSWORD} if user else {}
        words = self.network.words(*self.tool.command("flush", "--timeout", "20", *options))
        all_of_it = self.tool.environ | {"RILLEVENTS_INTAKE_URL": url} | secrets | environ
        return Running(words, all_of_it, self.tool.home).end()

    def has_kept(self) -> bool:
        return self.tool.lines() == self.lines


@pytest.fixture
def sender(tool: Tool, network: Network) -> Sender:
    return Sender(tool, network)


@contextmanager
def intake(network: Network, certificate: tuple[Path, ssl.SSLContext] | None = None) -> Iterator[FaultServer]:
    """An intake on the network's address, with TLS if there is a certificate."""
    wrap = None if certificate is None else lambda plain: certificate[1].wrap_socket(plain, server_side=True)
    with network.inside(lambda: FaultServer(answering(*[OK] * 9), host=ADDRESS, wrap=wrap)) as server:
        yield server


def body(request: bytes) -> list[bytes]:
    return request.partition(b"\r\n\r\n")[2].splitlines(keepends=True)


@pytest.mark.parametrize("name", NAMES)
class TestAnHttpsIntake:
    @pytest.mark.parametrize("how", ["SSL_CERT_FILE", "--ca-cert"])
    def test_the_proxy_sees_a_name_alone(
        self,
        name: str,
        how: str,
        proxies: Mapping[str, Proxy],
        certificate: tuple[Path, ssl.SSLContext],
        sender: Sender,
    ) -> None:
        """Events and credentials go through a tunnel; the proxy is asked for the intake's name, and logs nothing else."""
        options = ["--ca-cert", str(certificate[0])] if how == "--ca-cert" else []
        environ = {} if options else {how: str(certificate[0])}
        with intake(sender.network, certificate) as server:
            url = f"https://intake.test:{server.port}/events/default"
            done = sender.flush(url, *options, HTTPS_PROXY=proxies[name].url(), **environ)
        assert (0, "rillevents: delivered 2 events") == (done.code, done.stderr[:30]), done
        assert [("CONNECT", f"intake.test:{server.port}")] == proxies[name].seen(1)
        assert sender.lines == body(server.requests[0])
        assert f"Basic {BASIC}".encode() in server.requests[0]
        assert b"roxy-" not in server.requests[0]
        assert [] == [text for text in (BASIC, PASSWORD, "events/default") if text in proxies[name].log.read_text()]

    def test_a_certificate_is_checked_behind_it(
        self, name: str, proxies: Mapping[str, Proxy], certificate: tuple[Path, ssl.SSLContext], sender: Sender
    ) -> None:
        """An intake that nobody vouches for gets nothing through a proxy either."""
        with intake(sender.network, certificate) as server:
            done = sender.flush(f"https://intake.test:{server.port}/", HTTPS_PROXY=proxies[name].url())
        assert (75, [], True) == (done.code, server.requests, sender.has_kept())
        assert "is not trusted" in done.stderr
        assert [("CONNECT", f"intake.test:{server.port}")] == proxies[name].seen(1)

    def test_a_proxy_that_forbids_it(self, name: str, proxies: Mapping[str, Proxy], sender: Sender) -> None:
        """A proxy that answers 403 has to be talked to by somebody: 78, with everything kept."""
        done = sender.flush("https://denied.test/", HTTPS_PROXY=proxies[name].url())
        assert (78, True) == (done.code, sender.has_kept())
        assert "the proxy answered: 403" in done.stderr
        assert [("CONNECT", "denied.test:443")] == proxies[name].seen(1)

    def test_an_intake_that_is_down(self, name: str, proxies: Mapping[str, Proxy], sender: Sender) -> None:
        """A proxy that cannot reach the intake is an outage like any other: it is tried again, and all is kept."""
        done = sender.flush("https://intake.test:1/", "--timeout", "2", HTTPS_PROXY=proxies[name].url())
        assert (75, True) == (done.code, sender.has_kept())
        assert "the proxy answered: 50" in done.stderr
        assert {("CONNECT", "intake.test:1")} == set(proxies[name].seen(1))


@pytest.mark.parametrize("name", NAMES)
class TestAnHttpIntake:
    def test_without_credentials(self, name: str, proxies: Mapping[str, Proxy], sender: Sender) -> None:
        """Events without credentials go through the proxy as a request for the whole URL; a netrc adds none."""
        netrc = Path(sender.tool.environ["HOME"], ".netrc")
        netrc.write_text(f"machine intake.test login x password y\nmachine {ADDRESS} login x password y\n")
        with intake(sender.network) as server:
            url = f"http://intake.test:{server.port}/events/default"
            done = sender.flush(url, user="", http_proxy=proxies[name].url(), NETRC=str(netrc))
        assert (0, [("POST", url)]) == (done.code, proxies[name].seen(1))
        assert sender.lines == body(server.requests[0])
        assert b"uthorization" not in server.requests[0]
        assert b"\r\nVia: " in server.requests[0]

    def test_with_credentials(self, name: str, proxies: Mapping[str, Proxy], sender: Sender) -> None:
        """Credentials for an http intake elsewhere are refused before anybody is connected to, the proxy neither."""
        with intake(sender.network) as server:
            done = sender.flush(f"http://intake.test:{server.port}/", HTTP_PROXY=proxies[name].url())
        assert (78, [], 0, True) == (done.code, proxies[name].seen(), server.connections, sender.has_kept())
        assert "refused before connecting" in done.stderr


class TestWhatGoesThroughNoProxy:
    @pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]", "127.8.9.10"])
    def test_loopback(self, host: str, proxies: Mapping[str, Proxy], sender: Sender) -> None:
        """Loopback is connected to directly, with its credentials, whatever proxies the environment names."""
        proxy = proxies["tinyproxy"]
        variables = {name: proxy.url() for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy")}
        address = {"[::1]": "::1", "localhost": "127.0.0.1"}.get(host, host)
        with sender.network.inside(lambda: FaultServer(answering(OK), host=address)) as server:
            done = sender.flush(f"http://{host}:{server.port}/", **variables)
        assert (0, []) == (done.code, proxy.seen())
        assert f"Basic {BASIC}".encode() in server.requests[0]

    @pytest.mark.parametrize(
        ("excepted", "direct"),
        [
            ("intake.test", True),
            ("other.test, .test", True),
            ("*", True),
            ("other.test", False),
            ("take.test", False),
            ("", False),
        ],
    )
    def test_exceptions(self, excepted: str, direct: bool, proxies: Mapping[str, Proxy], sender: Sender) -> None:
        """NO_PROXY names hosts and domains that are connected to directly; all others go through the proxy."""
        proxy = proxies["tinyproxy"]
        with intake(sender.network) as server:
            url = f"http://intake.test:{server.port}/"
            done = sender.flush(url, user="", ALL_PROXY=proxy.url(), NO_PROXY=excepted)
        assert (0, 1) == (done.code, len(server.requests))
        assert ([] if direct else [("POST", url)]) == proxy.seen(0 if direct else 1)
        assert direct == (b"\r\nVia: " not in server.requests[0])


class TestTheProxyItself:
    @pytest.mark.parametrize("scheme", ["http", "https"])
    def test_it_is_down(self, scheme: str, sender: Sender) -> None:
        """Where the proxy is down nothing goes around it, and everything is kept."""
        with intake(sender.network) as server:
            url = f"{scheme}://intake.test:{server.port}/"
            done = sender.flush(url, "--timeout", "2", user="", ALL_PROXY=f"http://{ADDRESS}:1")
        assert (75, 0, True) == (done.code, server.connections, sender.has_kept())
        assert "connection refused" in done.stderr

    @pytest.mark.parametrize("scheme", ["http", "https"])
    @pytest.mark.parametrize("name", NAMES)
    def test_it_asks_for_a_password(self, name: str, scheme: str, proxies: Mapping[str, Proxy], sender: Sender) -> None:
        """A proxy that asks who calls is 78, after one request, and the message says how to tell it."""
        proxy = proxies[f"{name}-guarded"]
        done = sender.flush(f"{scheme}://intake.test/", user="", ALL_PROXY=proxy.url())
        assert (78, True, 1) == (done.code, sender.has_kept(), len(proxy.seen(1))), done
        assert "407" in done.stderr
        assert "give the proxy a user and a password: http://USER:PASSWORD@HOST:PORT" in done.stderr

    @pytest.mark.parametrize("name", NAMES)
    def test_it_is_given_a_wrong_one(self, name: str, proxies: Mapping[str, Proxy], sender: Sender) -> None:
        """A wrong password is as good as none, and is neither shown nor stored."""
        proxy, wrong = proxies[f"{name}-guarded"], "wr0ngpa55"
        done = sender.flush("https://intake.test/", "--json", user="", ALL_PROXY=proxy.url(f"{USER}:{wrong}@"))
        assert (78, True, 1) == (done.code, sender.has_kept(), len(proxy.seen(1))), done
        assert "give the proxy a user and a password" in done.stderr
        written = [done.stdout.encode(), done.stderr.encode(), *snapshot(sender.tool.home).values()]
        secrets = [wrong, base64.b64encode(f"{USER}:{wrong}".encode()).decode()]
        assert [] == [secret for secret in secrets for text in written if secret.encode() in text]

    @pytest.mark.parametrize("name", NAMES)
    def test_it_is_given_one(
        self, name: str, proxies: Mapping[str, Proxy], certificate: tuple[Path, ssl.SSLContext], sender: Sender
    ) -> None:
        """The password in the proxy's URL, percent-decoded, opens the tunnel, and does not get to the intake."""
        proxy = proxies[f"{name}-guarded"]
        quoted = f"{USER}:{PROXY_PASSWORD.replace('1', '%31')}@"
        with intake(sender.network, certificate) as server:
            url = f"https://intake.test:{server.port}/"
            done = sender.flush(url, HTTPS_PROXY=proxy.url(quoted), SSL_CERT_FILE=str(certificate[0]))
        assert (0, [("CONNECT", f"intake.test:{server.port}")]) == (done.code, proxy.seen(1)), done
        assert sender.lines == body(server.requests[0])
        assert b"roxy-" not in server.requests[0]

    @pytest.mark.parametrize(
        "script",
        [
            pytest.param(silent, id="nothing-is-read"),
            pytest.param(stalling(), id="no-answer"),
            pytest.param(greeting(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 99_999), id="headers-drip"),
            pytest.param(stalling(b"HTTP/1.1 200 OK\r\n\r\n"), id="no-handshake"),
            pytest.param(answering(b"HTTP/1.1 200 OK\r\n\r\nno TLS at all"), id="no-tls"),
            pytest.param(answering(b"HTTP/1.1 302 X\r\nLocation: http://login.test/\r\n\r\n"), id="login-portal"),
            pytest.param(answering(b"HTTP/1.1 200 OK\r\n"), id="half-an-answer"),
        ],
    )
    def test_it_misbehaves(self, script: Script, sender: Sender) -> None:
        """The total holds, and everything is kept, whatever a proxy does while the tunnel is made."""
        with sender.network.inside(lambda: FaultServer(script, host=ADDRESS)) as proxy:
            url = f"http://{ADDRESS}:{proxy.port}"
            done = sender.flush("https://intake.test/", "--timeout", "2", HTTPS_PROXY=url)
        assert (75, True) == (done.code, sender.has_kept()), done
        assert proxy.connections >= 1
