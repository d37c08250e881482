"""What the intake exporter sends, to whom, and what it refuses to send."""

# ruff: noqa: F401, F811 - fixtures are imported; helpers speak for themselves, and the expected value stands first

from __future__ import annotations

import base64
import contextlib
import shutil
import socket
import ssl
import subprocess
import sys
import urllib.request
from collections.abc import Iterable, Mapping
from pathlib import Path
from urllib.parse import urlsplit

import httpcore
import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import Tool, need

from rillevents.delivery.exporters.file import FileExporter
from rillevents.delivery.exporters.http import ANSWER_MAX
from rillevents.delivery.exporters.http_failures import os_error, outcome_of
from rillevents.delivery.exporters.intake import IntakeExporter
from rillevents.delivery.exporters.intake_responses import PROXY_ADVICE
from rillevents.delivery.exporters.transport import request_target
from rillevents.delivery.flush import exporter_for
from rillevents.delivery.outcome import Kind, Outcome, clean
from rillevents.delivery.url import IntakeSettings, is_loopback, origin, proxy_for
from rillevents.errors import ConfigError, UsageError
from rillevents.event import Event
from rillevents.event.batch import Batch
from rillevents.testing import CapturingSink, FakeIntake, Request, Response, rillevents_home, rillevents_intake

from .faults.socket_server import OK, FaultServer, answering

LINES = [b'{"event_id":"a"}\n', '{"event_id":"ü"}\n'.encode()]
HTTPS = "https://intake.example/events/default"


def send(
    url: str,
    *,
    user: str | None = None,
    password: str | None = None,
    token: str | None = None,
    ca_cert: Path | None = None,
    compression: str = "none",
    environ: Mapping[str, str] | None = None,
) -> Outcome:
    exporter = IntakeExporter(
        url,
        user=user,
        password=password,
        token=token,
        ca_cert=ca_cert,
        compression=compression,
        environ=environ or {},
    )
    with contextlib.closing(exporter):
        return exporter.export(Batch(LINES))


class TestTheRequest:
    def test_it_is_ndjson_of_a_known_length(self) -> None:
        """The body is the lines as they are, with their length, and nothing asks for a packed answer."""
        with FaultServer(answering(OK)) as server:
            assert Outcome(Kind.ACCEPTED) == send(server.url + "?x=1")
        head, _, body = server.requests[0].partition(b"\r\n\r\n")
        headers = head.lower().split(b"\r\n")
        assert (b"post /events/default?x=1 http/1.1", b"".join(LINES)) == (headers[0], body)
        expected = {b"content-type: application/x-ndjson", b"accept-encoding: identity", b"content-length: 35"}
        assert expected <= set(headers)
        assert not any(header.startswith((b"transfer-encoding", b"authorization", b"cookie")) for header in headers)

    @pytest.mark.parametrize("compression", ["gzip", "zstd"])
    def test_it_can_be_compressed(self, compression: str) -> None:
        """A compressed body arrives as the same lines."""
        with FakeIntake() as intake:
            assert Kind.ACCEPTED is send(intake.url, compression=compression).kind
        assert (compression, LINES) == (intake.requests[0].headers["content-encoding"], intake.lines)

    def test_basic_credentials_are_utf_8(self) -> None:
        """A user and a password travel as Basic authentication."""
        with FakeIntake("ü", "pä:ss") as intake:
            assert Kind.ACCEPTED is send(intake.url, user="ü", password="pä:ss").kind
            assert Kind.REFUSED is send(intake.url, user="ü", password="wrong").kind
        assert [True, False] == [request.authorized for request in intake.requests]

    def test_a_token_is_a_bearer(self) -> None:
        """A token travels as it is."""
        with FakeIntake() as intake:
            send(intake.url, token="t0k.en")
        assert "Bearer t0k.en" == intake.requests[0].headers["authorization"]

    def test_localhost_needs_no_dns(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The name localhost is connected to as 127.0.0.1, and stays the Host."""
        asked: list[object] = []
        resolve = socket.getaddrinfo
        monkeypatch.setattr(
            socket, "getaddrinfo", lambda host, *a, **k: (asked.append(host), resolve(host, *a, **k))[1]
        )
        with FakeIntake() as intake:
            url = intake.url.replace("127.0.0.1", "LocalHost")
            assert Kind.ACCEPTED is send(url, user="u", password="p").kind
        assert origin(url)[1:] == ("localhost", int(intake.requests[0].headers["host"].removeprefix("localhost:")))
        assert "localhost" not in asked

    def test_localhost_may_be_ipv6(self) -> None:
        """Where 127.0.0.1 refuses, [::1] is asked."""
        try:
            server = FaultServer(answering(OK), host="::1")
        except OSError:
            pytest.skip("this machine has no IPv6")
        with server:
            assert Kind.ACCEPTED is send(f"http://localhost:{server.port}/").kind
        assert b"\r\nhost: localhost:%d\r\n" % server.port in server.requests[0].lower()

    def test_no_netrc(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A netrc that knows the host is not asked."""
        (tmp_path / ".netrc").write_text("machine 127.0.0.1 login l password p\n")
        (tmp_path / ".netrc").chmod(0o600)
        monkeypatch.setenv("HOME", str(tmp_path))
        with FakeIntake() as intake:
            send(intake.url)
        assert "authorization" not in intake.requests[0].headers

    def test_cookies_are_not_kept(self) -> None:
        """What one answer sets does not travel with the next request."""
        with FakeIntake() as intake:
            intake.script.extend([Response(200, b"", {"Set-Cookie": "a=b"})] * 2)
            exporter = IntakeExporter(intake.url, environ={})
            with contextlib.closing(exporter):
                exporter.export(Batch(LINES))
                exporter.export(Batch(LINES))
        assert "cookie" not in intake.requests[1].headers

    def test_no_step_waits_without_end(self) -> None:
        """Each step of a request has a time of its own to end in, connecting a short one."""
        seen = []

        class Answering(httpcore.ConnectionPool):
            def handle_request(self, request: httpcore.Request) -> httpcore.Response:
                seen.append(request.extensions["timeout"])
                assert isinstance(request.stream, Iterable)
                assert b"".join(LINES) == b"".join(request.stream)
                return httpcore.Response(200)

        exporter = IntakeExporter("http://127.0.0.1:1/", environ={})
        exporter._pool.close()
        exporter._pool = Answering()
        assert Kind.ACCEPTED is exporter.export(Batch(LINES)).kind
        assert [{"connect": 10.0, "pool": 10.0, "read": 600.0, "write": 600.0}] == seen

    @given(
        st.lists(st.text("aZ0-._~%é\"<|^{}[]'()*+;:@!$&=,", max_size=4), max_size=4),
        st.text("aZ0-._~%é\"<|^{}[]'()*+;:@!$&=,/?", max_size=6),
    )
    def test_what_a_url_asks_for(self, path: list[str], query: str) -> None:
        """Path and query stand in the request as httpx writes them, whether or not they are plain."""
        url = f"http://host/{'/'.join(path)}?{query}" if query else f"http://host/{'/'.join(path)}"
        assert httpx.URL(url).raw_path == request_target(urlsplit(url))

    def test_no_client(self, tool: Tool) -> None:
        """A flush of a few events imports neither httpx's client nor its command line."""
        tool("record", "behavioral", "x")
        code = (
            "import sys; from rillevents.cli.app import run\n"
            "assert 0 == run(['flush', '--to', sys.argv[1]]); print({'httpx', 'pydantic', 'rich'} & {*sys.modules})"
        )
        with FakeIntake() as intake:
            words = [sys.executable, "-c", code, intake.url]
            done = subprocess.run(words, env=tool.environ, check=True, capture_output=True, text=True)
        assert "set()\n" == done.stdout

    @pytest.mark.parametrize(("more", "kind"), [(0, Kind.ACCEPTED), (1, Kind.TEMPORARY)], ids=["at", "over"])
    def test_the_longest_answer(self, more: int, kind: Kind) -> None:
        """An acknowledgement of up to a megabyte is read; a longer one is none."""
        with FakeIntake() as intake:
            intake.script.append(Response(200, b" " * (ANSWER_MAX + more)))
            outcome = send(intake.url)
        expected = f"{intake.url.partition('/events')[0]} answered with more than 1048576 bytes" if more else ""
        assert Outcome(kind, expected) == outcome

    @pytest.mark.parametrize(
        ("url", "expected"),
        [
            ("https://[::1]:8443/x?y=z", "https://[::1]:8443"),
            ("http://H.example:80/", "http://h.example"),
            ("https://h.example:80/", "https://h.example:80"),
        ],
    )
    def test_its_name(self, url: str, expected: str) -> None:
        """Messages call a destination by its scheme, its host, and its port where that is not the usual one."""
        with contextlib.closing(IntakeExporter(url, environ={})) as exporter:
            assert expected == exporter.name


class TestSecretsStayHere:
    @pytest.mark.parametrize(
        "host",
        ["intake.example", "localhost.evil.test", "127.0.0.1.nip.io", "localhost.", "0.0.0.0", "127.1", "2130706433",
         "0x7f.1", "[::ffff:127.0.0.1]", "[::2]", "128.0.0.1", "xn--localhost-9a"],
    )  # fmt: skip
    def test_plain_http_elsewhere_is_refused(self, host: str) -> None:
        """Credentials over http leave this machine for nobody, whatever the name looks like."""
        with pytest.raises(ConfigError, match="refused before connecting"):
            IntakeExporter(f"http://{host}:8787/", user="u", password="secret", environ={})
        IntakeExporter(f"http://{host}:8787/", environ={}).close()

    @pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "[::1]", "[0:0::1]", "localhost"])
    def test_loopback_is_this_machine(self, host: str) -> None:
        """Loopback takes credentials over http, and no proxy."""
        IntakeExporter(f"http://{host}:8787/", token="t", environ={}).close()
        assert is_loopback(host)
        assert proxy_for("http", host.strip("[]"), 80, {"http_proxy": "http://p:1", "ALL_PROXY": "x"}) is None

    def test_an_echoing_server_gives_nothing_away(self) -> None:
        """What a server repeats of the credentials is not in the reason."""

        def echo(request: Request) -> Response:
            decoded = base64.b64decode(request.headers["authorization"].split()[1])
            body = request.headers["authorization"].encode() + b" " + decoded
            return Response(400, body, {"Location": "/?x"})

        with FakeIntake() as intake:
            intake.respond = echo
            reason = send(intake.url, user="u", password="hunter2").reason
        assert not any(secret in reason for secret in ("hunter2", base64.b64encode(b"u:hunter2").decode()))

    def test_a_secret_that_would_be_cut(self) -> None:
        """A secret is taken out before a reason is cut to its length, so that no beginning of it is left."""
        password = "hunter2-" * 10
        with FakeIntake() as intake:
            for pad in (0, 150, 195, 750):
                intake.script.append(Response(400, b"x" * pad + password.encode() + b" was wrong"))
                outcome = send(intake.url, user="u", password=password)
                expected = clean(f"HTTP 400 Bad Request: {'x' * pad}*** was wrong")
                assert Outcome(Kind.INVALID, expected) == outcome

    def test_a_secret_in_a_rejection(self) -> None:
        """The reason for a rejected event holds no secret either."""
        with FakeIntake() as intake:
            intake.script.append(Response(200, b'{"rejected":[{"line":2,"reason":"hunter2 is bad"}]}'))
            outcome = send(intake.url, user="u", password="hunter2")
        assert Outcome(Kind.ACCEPTED, rejected=((1, "*** is bad"),)) == outcome

    @pytest.mark.parametrize(
        ("user", "password", "token"),
        [
            pytest.param("u\r\nX: y", "p", None, id="newline-in-user"),
            pytest.param("u", "p\n", None, id="newline-in-password"),
            pytest.param("u:v", "p", None, id="colon-in-user"),
            pytest.param(None, None, "t\x7f", id="control-in-token"),
            pytest.param(None, None, "tökén", id="token-not-ascii"),
            pytest.param("u", "p", "t", id="both"),
            pytest.param(None, "p", None, id="no-user"),
        ],
    )
    def test_unusable_credentials(self, user: str | None, password: str | None, token: str | None) -> None:
        """Credentials that a header cannot carry are refused."""
        with pytest.raises(ConfigError):
            IntakeExporter(HTTPS, user=user, password=password, token=token, environ={})


class TestURLs:
    @pytest.mark.parametrize(
        "url",
        ["intake.example", "ftp://x/", "http://", "http:///x", "http://x:99999/", "http://x:0/", "http://x:/",
         "http://x:y/", "http://[::1/", "http://[fe80::1%25eth0]/", "http://a b/", "http://x\\@y/", "http://x\n/",
         "http://u:secret@x/", "http://ex%61mple/", "http://…/", ""],
    )  # fmt: skip
    def test_wrong_ones(self, url: str) -> None:
        """A URL that cannot be meant is a matter of configuration, and no secret in it is shown."""
        with pytest.raises(ConfigError) as caught:
            IntakeExporter(url, environ={})
        assert "secret" not in str(caught.value)

    @pytest.mark.parametrize(
        ("url", "expected"),
        [
            ("https://Intake.Example/x", ("https", "intake.example", 443)),
            ("http://h:80/", ("http", "h", 80)),
            ("HTTP://[::0:1]:8/", ("http", "::1", 8)),
            ("https://bücher.example", ("https", "xn--bcher-kva.example", 443)),
        ],
        ids=["case", "port", "ipv6", "idna"],
    )
    def test_origins(self, url: str, expected: tuple[str, str, int]) -> None:
        """Two URLs of one origin have the same scheme, host and port."""
        assert expected == origin(url)


class TestDestinations:
    INTAKE = IntakeSettings.from_url("http://u%40x:p%3Ass@127.0.0.1:1/events/default")

    def test_a_url_gives_its_credentials(self) -> None:
        """User and password are percent-decoded and taken out of the URL; the repr shows no secret."""
        assert IntakeSettings("http://127.0.0.1:1/events/default", "u@x", "p:ss") == self.INTAKE
        shown = repr(self.INTAKE) + repr(IntakeSettings("https://u:hunter2@x/", "u", "hunter2", "t0ken"))
        assert not any(secret in shown for secret in ("p:ss", "hunter2", "t0ken"))

    def test_what_is_given_apart_wins(self) -> None:
        """A user of its own takes its own password along."""
        assert IntakeSettings("https://x/", "v", "q") == IntakeSettings.from_url(
            "https://u:p@x/", user="v", password="q"
        )

    @pytest.mark.parametrize(("port", "goes"), [(0, True), (1, False)], ids=["same-origin", "other-port"])
    def test_credentials_stay_with_their_origin(self, port: int, goes: bool) -> None:
        """Another path of the configured intake gets the credentials, another port does not."""
        with FakeIntake() as intake, FakeIntake() as configured:
            at = intake if goes else configured
            settings = IntakeSettings(at.url, "u", "p")
            exporter = exporter_for(intake.url + "2", settings, environ={})
            with contextlib.closing(exporter):
                exporter.export(Batch(LINES))
        assert goes is ("authorization" in intake.requests[0].headers)

    @pytest.mark.parametrize(
        ("to", "error", "says"),
        [
            pytest.param("intake", ConfigError, "RILLEVENTS_INTAKE_URL", id="none"),
            pytest.param("https://u:hunter2@x/", UsageError, "RILLEVENTS_INTAKE_PASSWORD", id="argv"),
            pytest.param("kafka://h/t", ConfigError, "HOST:PORT", id="kafka"),
            pytest.param("nowhere", ConfigError, "file:PATH", id="unknown"),
            pytest.param("file:", ConfigError, "file:PATH", id="no-path"),
            pytest.param("file://host/x", ConfigError, "file:///PATH", id="file-host"),
        ],
    )
    def test_impossible_ones(self, to: str, error: type[Exception], says: str) -> None:
        """What cannot be a destination says what can."""
        with pytest.raises(error) as caught:
            exporter_for(to, None, environ={})
        assert says in str(caught.value)
        assert "hunter2" not in str(caught.value)

    @pytest.mark.parametrize("form", ["file:{}", "file://{}"])
    def test_files(self, form: str, tmp_path: Path) -> None:
        """A file: destination appends to that file."""
        exporter = exporter_for(form.format(tmp_path / "x"), None)
        assert isinstance(exporter, FileExporter)
        assert Kind.ACCEPTED is exporter.export(Batch(LINES)).kind
        assert b"".join(LINES) == (tmp_path / "x").read_bytes()

    def test_it_is_cheap(self) -> None:
        """Neither the exporters' package nor the destinations import httpx or ssl."""
        code = "import sys, rillevents.delivery.url, rillevents.delivery.settle; print({'httpcore','ssl'} & {*sys.modules})"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert "set()" == done.stdout.strip()


class TestProxies:
    @pytest.mark.parametrize(
        ("environ", "expected"),
        [
            pytest.param({}, None, id="none"),
            pytest.param({"HTTPS_PROXY": "http://p:1"}, "http://p:1", id="upper"),
            pytest.param({"https_proxy": "p:1"}, "http://p:1", id="no-scheme"),
            pytest.param({"https_proxy": "", "HTTPS_PROXY": "p:1"}, "http://p:1", id="empty"),
            pytest.param({"ALL_PROXY": "socks5://p:1"}, "socks5://p:1", id="all"),
            pytest.param({"HTTP_PROXY": "http://p:1"}, None, id="other-scheme"),
            pytest.param({"HTTPS_PROXY": "p:1", "NO_PROXY": "other, example"}, None, id="no-proxy"),
            pytest.param({"HTTPS_PROXY": "p:1", "no_proxy": "*"}, None, id="no-proxy-at-all"),
        ],
    )
    def test_the_environment_decides(self, environ: dict[str, str], expected: str | None) -> None:
        """The variables are read as everybody reads them, an empty one as if it was not there."""
        assert expected == proxy_for("https", "intake.example", 443, environ)

    def test_cgi(self) -> None:
        """In a CGI program HTTP_PROXY comes from outside and is ignored."""
        environ = {"HTTP_PROXY": "p:1", "REQUEST_METHOD": "GET"}
        assert proxy_for("http", "h.example", 80, environ) is None

    def test_a_plain_request_goes_through_it(self) -> None:
        """An http destination is asked for in full at the proxy."""
        with FaultServer(answering(OK)) as proxy:
            environ = {"http_proxy": f"http://u:p@127.0.0.1:{proxy.port}"}
            assert Kind.ACCEPTED is send("http://intake.example/e", environ=environ).kind
        assert proxy.requests[0].startswith(b"POST http://intake.example/e HTTP/1.1\r\n")

    @pytest.mark.parametrize(("status", "kind"), [(407, Kind.MISCONFIGURED), (502, Kind.TEMPORARY)])
    def test_https_is_tunnelled(self, status: int, kind: Kind) -> None:
        """A proxy sees of an https destination its name alone, no credentials."""
        with FaultServer(answering(b"HTTP/1.1 %d No\r\nContent-Length: 0\r\n\r\n" % status)) as proxy:
            environ = {"HTTPS_PROXY": f"http://127.0.0.1:{proxy.port}"}
            outcome = send(HTTPS, user="u", password="p", environ=environ)
        assert (kind, True) == (outcome.kind, str(status) in outcome.reason)
        assert proxy.requests[0].startswith(b"CONNECT intake.example:443 HTTP/1.1\r\n")
        assert b"uthorization" not in proxy.requests[0]

    @pytest.mark.parametrize("proxy", ["socks5://p:1", "socks4://p:1", "http://u:secret@p:x"])
    def test_unusable_proxies(self, proxy: str) -> None:
        """A proxy that cannot be used says what to do, without its password."""
        with pytest.raises(ConfigError) as caught:
            IntakeExporter(HTTPS, environ={"ALL_PROXY": proxy})
        assert "secret" not in str(caught.value)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ssl.SSLContext]:
    """Return a self-signed certificate for localhost, and a server's context with it."""
    openssl = need("openssl")
    folder = tmp_path_factory.mktemp("tls")
    cert, key = folder / "cert.pem", folder / "key.pem"
    what = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-days", "2"]
    made = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", str(key), "-out", str(cert), *what]
    subprocess.run([openssl, *made], check=True, capture_output=True)
    # A folder of certificates has them by the hash of their subject.
    words = [openssl, "x509", "-in", str(cert), "-noout", "-subject_hash"]
    subject = subprocess.run(words, check=True, capture_output=True, text=True).stdout.strip()
    (folder / "folder").mkdir()
    shutil.copy(cert, folder / "folder" / f"{subject}.0")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    return cert, context


class TestTLS:
    def test_an_unknown_certificate_is_refused(self, certificate: tuple[Path, ssl.SSLContext]) -> None:
        """A certificate that nobody vouches for keeps the events, says what to do, and is not tried again soon."""
        with FaultServer(answering(OK), wrap=lambda s: certificate[1].wrap_socket(s, server_side=True)) as server:
            outcome = send(f"https://localhost:{server.port}/", user="u", password="p")
        assert (Kind.TEMPORARY, float("inf"), []) == (outcome.kind, outcome.retry_after, server.requests)
        assert "--ca-cert FILE or SSL_CERT_FILE" in outcome.reason

    @pytest.mark.parametrize("how", ["ca_cert", "SSL_CERT_FILE", "SSL_CERT_DIR"])
    def test_a_known_one_is_accepted_as_localhost(self, certificate: tuple[Path, ssl.SSLContext], how: str) -> None:
        """The name that is checked stays localhost, although the address is connected to."""
        cert, context = certificate
        environ = {} if how == "ca_cert" else {how: str(cert if how == "SSL_CERT_FILE" else cert.parent / "folder")}
        with FaultServer(answering(OK), wrap=lambda s: context.wrap_socket(s, server_side=True)) as server:
            ca_cert = cert if how == "ca_cert" else None
            outcome = send(f"https://localhost:{server.port}/", ca_cert=ca_cert, environ=environ)
        assert (Outcome(Kind.ACCEPTED), 1) == (outcome, len(server.requests))

    def test_another_name_is_refused(self, certificate: tuple[Path, ssl.SSLContext]) -> None:
        """A certificate for localhost does not serve 127.0.0.1."""
        cert, context = certificate
        with FaultServer(answering(OK), wrap=lambda s: context.wrap_socket(s, server_side=True)) as server:
            outcome = send(f"https://127.0.0.1:{server.port}/", ca_cert=cert)
        assert (Kind.TEMPORARY, []) == (outcome.kind, server.requests)

    def test_certificates_that_cannot_be_read(self, tmp_path: Path) -> None:
        """A missing file or one that holds none is a matter of configuration."""
        (tmp_path / "empty").write_text("no certificate")
        for name in ("missing", "empty"):
            with pytest.raises(ConfigError, match="--ca-cert"):
                IntakeExporter(HTTPS, ca_cert=tmp_path / name, environ={})

    def test_certificates_for_a_plain_url(self, tmp_path: Path) -> None:
        """A file that cannot be read is told for http, too: the URL may become another one."""
        with pytest.raises(ConfigError, match="--ca-cert"):
            IntakeExporter("http://127.0.0.1:1/", ca_cert=tmp_path / "missing", environ={})

    def test_only_those_that_were_named(self, certificate: tuple[Path, ssl.SSLContext]) -> None:
        """Where the environment names certificates, no others are trusted beside them."""
        from rillevents.delivery.exporters.transport import tls_context

        assert 1 == len(tls_context(None, {"SSL_CERT_FILE": str(certificate[0])}).get_ca_certs())

    def test_certificates_of_the_system(self, tmp_path: Path) -> None:
        """A system has certificates where it has their file, or a folder with anything in it."""
        from rillevents.delivery.exporters.transport import _system_has_certificates

        (tmp_path / "empty").mkdir()
        (tmp_path / "full").mkdir()
        (tmp_path / "full" / "x.0").touch()
        found = {
            (cafile, folder): _system_has_certificates(
                ssl.DefaultVerifyPaths(cafile, folder and str(tmp_path / folder), "", "", "", "")
            )
            for cafile in ("file", None)
            for folder in ("full", "empty", None)
        }
        assert {("file", "full"), ("file", "empty"), ("file", None), (None, "full")} == {
            key for key in found if found[key]
        }

    def test_old_tls_is_not_spoken(self) -> None:
        """TLS 1.2 is the least."""
        from rillevents.delivery.exporters.transport import tls_context

        assert ssl.TLSVersion.TLSv1_2 <= tls_context(None, {}).minimum_version


def caused(error: Exception, cause: BaseException) -> Exception:
    error.__cause__ = cause
    return error


def no_tls() -> ssl.SSLError:
    error = ssl.SSLError(1, "[SSL] wrong version number (_ssl.c:1)")
    error.reason = "WRONG_VERSION_NUMBER"
    return error


class TestWhatWentWrong:
    @pytest.mark.parametrize(
        ("error", "expected"),
        [
            (httpcore.ConnectTimeout(""), "could not connect to https://h within 10 s"),
            (
                caused(httpcore.ConnectError("x"), ConnectionRefusedError(111, "Connection refused")),
                "could not connect to https://h: connection refused",
            ),
            (httpcore.ConnectError("All attempts failed"), "could not connect to https://h: all attempts failed"),
            (
                caused(httpcore.ConnectError("x"), socket.gaierror(-2, "Name not known")),
                "could not find the host of https://h: Name not known",
            ),
            (caused(httpcore.ConnectError("x"), no_tls()), "could not speak TLS with https://h: WRONG_VERSION_NUMBER"),
            (httpcore.ReadTimeout(""), "https://h stopped answering"),
            (httpcore.WriteTimeout(""), "https://h stopped answering"),
            (
                httpcore.RemoteProtocolError("no head"),
                "https://h answered with an incomplete or invalid HTTP response: no head",
            ),
            (
                caused(httpcore.ReadError("x"), ConnectionResetError(104, "Connection reset")),
                "the connection to https://h broke: Connection reset",
            ),
            (httpcore.WriteError("closed"), "the connection to https://h broke: closed"),
        ],
        ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
    )
    def test_reasons(self, error: Exception, expected: str) -> None:
        """Each failure of the network is temporary, and is told in words that say which it was."""
        assert Outcome(Kind.TEMPORARY, expected) == outcome_of(error, "https://h")

    @pytest.mark.parametrize(
        ("status", "kind", "has_advice"),
        [
            ("401 Unauthorized", Kind.MISCONFIGURED, True),
            ("403 Forbidden", Kind.MISCONFIGURED, False),
            ("407 Proxy Authentication Required", Kind.MISCONFIGURED, True),
            ("408 Request Timeout", Kind.TEMPORARY, False),
            ("429 Too Many Requests", Kind.TEMPORARY, False),
            ("502 Bad Gateway", Kind.TEMPORARY, False),
        ],
    )
    def test_proxies(self, status: str, kind: Kind, has_advice: bool) -> None:
        """What a proxy refuses has to be changed, but for what passes by itself; a user and a password are advised where asked for."""
        expected = f"the proxy answered: {status}" + (f"; {PROXY_ADVICE}" if has_advice else "")
        assert Outcome(kind, expected) == outcome_of(httpcore.ProxyError(status), "https://h")

    def test_the_cause_of_a_cause(self) -> None:
        """The system's own error is found however deep it lies, by whichever way it was raised."""
        inner = OSError(1, "inner")
        between, outer = RuntimeError(), RuntimeError()
        between.__context__ = inner
        outer.__cause__ = between
        assert inner is os_error(outer)
        assert (None, None) == (os_error(RuntimeError()).errno, os_error(None).errno)


class TestTestingModule:
    def test_the_intake_is_configured(self, rillevents_home: Path, rillevents_intake: FakeIntake) -> None:
        """The fixtures give a home and a running intake to a test."""
        assert Kind.ACCEPTED is send(rillevents_intake.url).kind
        assert LINES == rillevents_intake.lines
        assert ["a", "ü"] == [event["event_id"] for event in rillevents_intake.events]

    def test_the_script_comes_first(self) -> None:
        """Replies are taken in turn, and only what was accepted is kept."""
        with FakeIntake() as intake:
            intake.script += [503, lambda request: Response(204), Response(200, b'{"rejected": [{"line": 1}]}')]
            assert [Kind.TEMPORARY, Kind.ACCEPTED, Kind.ACCEPTED] == [send(intake.url).kind for _ in range(3)]
        assert [*LINES, LINES[1]] == intake.lines

    def test_it_knows_what_is_wrong(self) -> None:
        """Without a script a wrong path is 404, and lines that are no JSON are 400."""
        with FakeIntake() as intake:
            assert Kind.MISCONFIGURED is send(intake.url.replace("/events/", "/elsewhere/")).kind
            with pytest.raises(urllib.error.HTTPError, match="400") as caught:
                urllib.request.urlopen(intake.url, b"{", timeout=10)
            caught.value.close()
        assert [] == intake.lines

    def test_the_sink_remembers(self) -> None:
        """Events, counts and the closing are kept for the test."""
        sink = CapturingSink()
        event = Event("t", "n")
        sink.emit(event)
        sink.count("dropped", "filter", 2)
        sink.close()
        assert ([event], {("dropped", "filter"): 2}, True) == (sink.events, sink.counts, sink.closed)
