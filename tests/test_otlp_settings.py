"""Where an OTLP destination is, which settings go with it, and who may see the header fields."""

# ruff: noqa: F401, F811 - fixtures are imported

from __future__ import annotations

import json
import ssl
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from receiving import JSON, PROTOBUF, Home, Receiver, home, receiver, running
from support import Tool, need, only

from rillevents import Client, ConfigError, OtlpSink, UsageError
from rillevents.delivery.exporters.otlp.settings import OtlpSettings, otlp_settings

from .faults.socket_server import OK, FaultServer, answering

DEFAULT = "http://localhost:4318/v1/logs"
HERE, FAR = "http://127.0.0.1:9", "https://otel.example:4318"
SECRET = "s3cret-k3y"


def found(environ: Mapping[str, str], to: str = "otlp", **given: Any) -> tuple[OtlpSettings, list[str]]:
    """Return the settings, and the warnings."""
    warnings: list[str] = []
    return otlp_settings(to, given.pop("configured", {}), environ, warn=warnings.append, **given), warnings


def variables(general: str, logs: str, name: str) -> dict[str, str]:
    """Return the variable for all signals, and the one for logs."""
    return {f"OTEL_EXPORTER_OTLP_{name}": general, f"OTEL_EXPORTER_OTLP_LOGS_{name}": logs}


class TestVariables:
    @pytest.mark.parametrize(
        ("general", "logs", "expected"),
        [
            ("", "", DEFAULT),
            ("http://h:4318", "", "http://h:4318/v1/logs"),
            ("http://h:4318/", "", "http://h:4318/v1/logs"),
            ("https://h/otlp", "", "https://h/otlp/v1/logs"),
            ("https://h/otlp/", "", "https://h/otlp/v1/logs"),
            ("https://h/a?tenant=b", "", "https://h/a/v1/logs?tenant=b"),
            (" http://h:1 ", " ", "http://h:1/v1/logs"),
            ("", "http://h:1/my/logs/", "http://h:1/my/logs/"),
            ("http://other", "http://h:1", "http://h:1"),
        ],
    )
    def test_endpoint(self, general: str, logs: str, expected: str) -> None:
        """That of the logs is taken as it is; that of all signals gets the path; without either it is the usual one here."""
        assert (OtlpSettings(expected), []) == found(variables(general, logs, "ENDPOINT"))

    @pytest.mark.parametrize(
        ("general", "logs", "expected"),
        [
            ("X-Api-Key=a%20b%3Dc, X-Scope=t ", "", {"X-Api-Key": "a b=c", "X-Scope": "t"}),
            ("A=1,B=2", "C=3", {"C": "3"}),
            ("authorization=Basic%20dTpw,", "", {"authorization": "Basic dTpw"}),
        ],
    )
    def test_headers(self, general: str, logs: str, expected: dict[str, str]) -> None:
        """Header fields are percent-decoded; those of the logs stand in for the general ones."""
        assert (expected, []) == (found(variables(general, logs, "HEADERS"))[0].headers, [])

    @pytest.mark.parametrize(
        ("name", "general", "logs", "attribute", "expected"),
        [
            ("COMPRESSION", "gzip", "", "compression", "gzip"),
            ("COMPRESSION", "gzip", "none", "compression", "none"),
            ("PROTOCOL", "http/json", "", "encoding", "json"),
            ("PROTOCOL", "grpc", "http/protobuf", "encoding", "protobuf"),
            ("CERTIFICATE", "a.pem", "b.pem", "ca_cert", "b.pem"),
            ("TIMEOUT", "10000", "", "timeout", 10.0),
            ("TIMEOUT", "10000", "1", "timeout", 0.001),
        ],
    )
    def test_others(self, name: str, general: str, logs: str, attribute: str, expected: object) -> None:
        """The others are read as OpenTelemetry's own exporters read them; a timeout is in milliseconds."""
        settings, warnings = found(variables(general, logs, name))
        assert (expected, []) == (getattr(settings, attribute), warnings)

    @pytest.mark.parametrize("value", ["soon", "10s", "-1", "1.5", "\u0661"])
    def test_a_timeout_that_is_none(self, value: str) -> None:
        """A timeout that is no number of milliseconds is left out, with a warning."""
        settings, warnings = found({"OTEL_EXPORTER_OTLP_TIMEOUT": value})
        assert (None, True) == (settings.timeout, "OTEL_EXPORTER_OTLP_TIMEOUT" in only(warnings))

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("ENDPOINT", "localhost:4318"),
            ("ENDPOINT", "grpc://h:4317"),
            ("ENDPOINT", f"https://u:{SECRET}@h:4318"),
            ("HEADERS", SECRET),
            ("HEADERS", f"X-Api-Key={SECRET}%0a"),
            ("HEADERS", f"Content-Type={SECRET}"),
            ("PROTOCOL", "grpc"),
            ("COMPRESSION", "deflate"),
        ],
    )
    @pytest.mark.parametrize("signal", ["", "LOGS_"])
    def test_wrong_ones(self, name: str, value: str, signal: str) -> None:
        """One that cannot be meant is a matter of configuration, told by its name and without a secret."""
        with pytest.raises(ConfigError) as caught:
            found({f"OTEL_EXPORTER_OTLP_{signal}{name}": value})
        assert f"OTEL_EXPORTER_OTLP_{signal}{name}" in str(caught.value)
        assert SECRET not in f"{caught.value} {caught.value.hint}"

    @pytest.mark.parametrize(
        ("environ", "expected", "warned"),
        [
            ({"OTEL_SERVICE_NAME": "s"}, {"service.name": "s"}, False),
            ({"OTEL_RESOURCE_ATTRIBUTES": "a=b%20c, d.e = f"}, {"a": "b c", "d.e": "f"}, False),
            ({"OTEL_SERVICE_NAME": "s", "OTEL_RESOURCE_ATTRIBUTES": "service.name=t"}, {"service.name": "s"}, False),
            ({"OTEL_SERVICE_NAME": "", "OTEL_RESOURCE_ATTRIBUTES": "service.name=t"}, {"service.name": "t"}, False),
            ({"OTEL_RESOURCE_ATTRIBUTES": "a=b,c"}, {"a": "b"}, True),
            ({"OTEL_RESOURCE_ATTRIBUTES": "a=%ff,b=c"}, {"b": "c"}, True),
        ],
    )
    @pytest.mark.parametrize("to", ["otlp", f"otlp+{FAR}"])
    def test_resource(self, environ: dict[str, str], expected: dict[str, str], warned: bool, to: str) -> None:
        """The attributes that the environment sets for every program are the resource's, whichever the destination."""
        settings, warnings = found(environ, to)
        assert (expected, warned) == (settings.resource, bool(warnings))


class TestURLs:
    @pytest.mark.parametrize(
        ("url", "expected"),
        [
            ("otlp+http://h:4318", "http://h:4318/v1/logs"),
            ("otlp+https://h/", "https://h/v1/logs"),
            ("otlp+https://h/my/logs?a=b", "https://h/my/logs?a=b"),
            ("OTLP+HTTP://h:1", "http://h:1/v1/logs"),
            ("otlp+http://[::1]:4318", "http://[::1]:4318/v1/logs"),
        ],
    )
    def test_possible(self, url: str, expected: str) -> None:
        """A URL without a path gets the usual one; none of the variables for another endpoint changes anything."""
        environ = {f"OTEL_EXPORTER_OTLP_{name}": value for name, value in
                   {"ENDPOINT": "http://other", "HEADERS": "A=1", "PROTOCOL": "grpc", "COMPRESSION": "gzip"}.items()}  # fmt: skip
        assert (OtlpSettings(expected), []) == found(environ, url)

    @pytest.mark.parametrize(
        "url", ["otlp+http://", "otlp+http:h", "otlp+http://h:0", "otlp+https://h:x", "otlp+http://a b"]
    )
    def test_impossible(self, url: str) -> None:
        """What is no URL of a receiver is a matter of configuration."""
        with pytest.raises(ConfigError):
            found({}, url)

    def test_credentials(self, tool: Tool) -> None:
        """A password in a destination is refused before anything is sent, and not repeated: 2 as an argument, else 78."""
        url = f"otlp+{HERE}".replace("//", f"//u:{SECRET}@")
        with pytest.raises(UsageError) as caught:
            found({}, url)
        assert SECRET not in f"{caught.value} {caught.value.hint}"
        for code, done in ((2, tool("flush", "--to", url)), (78, tool("flush", RILLEVENTS_TO=url))):
            assert (code, False) == (done.returncode, SECRET in done.stderr + done.stdout)


HEADERS = {"X-Api-Key": SECRET}


class TestHeadersOfTheConfiguration:
    @pytest.mark.parametrize(
        ("to", "home", "endpoint"),
        [
            pytest.param(f"otlp+{FAR}", "", "", id="no-home"),
            pytest.param(f"otlp+{FAR}", "intake", "", id="home-elsewhere"),
            pytest.param(f"otlp+{FAR}/x", f"OTLP+{FAR}/y", "", id="same-origin"),
            pytest.param("otlp", "", "", id="default"),
            pytest.param("otlp", "otlp+http://localhost:4318", "", id="default-is-home"),
            pytest.param("otlp", f"otlp+{FAR}", FAR, id="variables-name-home"),
        ],
    )
    def test_sent(self, to: str, home: str, endpoint: str) -> None:
        """They go to the origin of flush.to, or to the given URL where flush.to is no receiver's."""
        given = found({"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint}, to, configured={"headers": HEADERS}, home=home)
        assert (HEADERS, []) == (given[0].headers, given[1])

    @pytest.mark.parametrize(
        ("to", "home", "endpoint"),
        [
            pytest.param(f"otlp+{FAR}", "otlp+https://other.example:4318", "", id="host"),
            pytest.param(f"otlp+{FAR}", "otlp+https://otel.example", "", id="port"),
            pytest.param(f"otlp+{FAR}", "otlp+http://otel.example:4318", "", id="scheme"),
            pytest.param("otlp", f"otlp+{FAR}", "", id="default"),
            pytest.param("otlp", "", FAR, id="variables"),
            pytest.param("otlp", "otlp", FAR, id="variables-at-home"),
        ],
    )
    def test_not_sent(self, to: str, home: str, endpoint: str) -> None:
        """Nobody else gets them, and a warning says so."""
        given = found({"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint}, to, configured={"headers": HEADERS}, home=home)
        assert ({}, True) == (given[0].headers, "are for another endpoint" in only(given[1]))
        assert SECRET not in repr(given)

    def test_those_of_the_variables_win(self) -> None:
        """Where the variables have header fields, those are sent, and no others."""
        environ = {"OTEL_EXPORTER_OTLP_HEADERS": "A=1"}
        assert {"A": "1"} == found(environ, configured={"headers": HEADERS})[0].headers


class TestFlush:
    def test_by_variables(self, tool: Tool, receiver: Receiver) -> None:
        """`flush --to otlp` goes where the variables say, with their header fields, in their encoding; a warning is told."""
        tool("record", "behavioral", "x", "-a", "k=v")
        said = {"ENDPOINT": receiver.origin, "HEADERS": f"X-Api-Key={SECRET}", "PROTOCOL": "http/json", "COMPRESSION": "gzip", "TIMEOUT": "soon"}  # fmt: skip
        environ = {f"OTEL_EXPORTER_OTLP_{name}": value for name, value in said.items()}
        done = tool("flush", "--to", "otlp", OTEL_SERVICE_NAME="s", **environ)
        assert (0, True) == (done.returncode, "OTEL_EXPORTER_OTLP_TIMEOUT='soon'" in done.stderr)
        sent, record = only(receiver.requests), only(receiver.records)
        assert ("/v1/logs", JSON, "gzip", SECRET) == (
            sent.path,
            *(sent.headers[name] for name in ("content-type", "content-encoding", "x-api-key")),
        )
        assert ("x", {"service.name": "s"}, "v") == (record.name, record.resource, record.attributes["k"])
        assert [] == tool.lines()

    def test_grpc(self, home: Home, receiver: Receiver) -> None:
        """GRPC is not spoken: 78, the events are kept, and nobody is asked."""
        result = home.flush("otlp", OTEL_EXPORTER_OTLP_ENDPOINT=receiver.origin, OTEL_EXPORTER_OTLP_PROTOCOL="grpc")
        assert ("unconfigured", 78, 1, []) == (result.outcome, result.exit_code, result.pending, receiver.requests)
        assert "http/protobuf" in result.reason

    @pytest.mark.parametrize(
        ("config", "environ", "content_type", "encoding"),
        [
            ("", {}, PROTOBUF, None),
            ('[otlp]\nencoding = "json"\n[flush]\ncompression = "gzip"', {}, JSON, "gzip"),
            ('[otlp]\nencoding = "json"', {"PROTOCOL": "http/protobuf", "COMPRESSION": "gzip"}, PROTOBUF, "gzip"),
            ('[flush]\ncompression = "gzip"', {"COMPRESSION": "none"}, PROTOBUF, None),
        ],
    )
    def test_forms(
        self,
        home: Home,
        receiver: Receiver,
        config: str,
        environ: dict[str, str],
        content_type: str,
        encoding: str | None,
    ) -> None:
        """The encoding and the compression of config.toml hold where the variables say nothing."""
        home.configure(config)
        said = {f"OTEL_EXPORTER_OTLP_{name}": value for name, value in environ.items()}
        assert "delivered" == home.flush("otlp", OTEL_EXPORTER_OTLP_ENDPOINT=receiver.origin, **said).outcome
        headers = only(receiver.requests).headers
        assert (content_type, encoding) == (headers["content-type"], headers.get("content-encoding"))

    def test_configured(self, home: Home, receiver: Receiver) -> None:
        """A receiver in config.toml gets the header fields that stand there."""
        home.configure(f'[flush]\nto = "otlp+{receiver.origin}"\n[otlp]\nheaders = {{"X-Api-Key" = "{SECRET}"}}')
        assert ("delivered", []) == (home.flush().outcome, home.warnings)
        assert SECRET == only(receiver.requests).headers["x-api-key"]

    @pytest.mark.parametrize("to", ["otlp", "otlp+URL"])
    @pytest.mark.parametrize("where", ["environment", "config"])
    def test_an_intake_at_the_same_address(self, home: Home, receiver: Receiver, to: str, where: str) -> None:
        """Nothing that is for the intake goes to a receiver, not even where both have the same host and port."""
        told = {"url": receiver.url, "user": "u", "password": SECRET, "headers": f"X-Api-Key={SECRET}"}
        if where == "config":
            home.configure("[intake]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in told.items()))
        environ = {f"RILLEVENTS_INTAKE_{key.upper()}": value for key, value in told.items() if where != "config"}
        result = home.flush(to.replace("URL", receiver.origin), OTEL_EXPORTER_OTLP_ENDPOINT=receiver.origin, **environ)
        assert "delivered" == result.outcome
        assert not {"authorization", "x-api-key"} & only(receiver.requests).headers.keys()
        assert SECRET not in str(only(receiver.requests).headers)

    @pytest.mark.parametrize("how", ["variables", "config"])
    def test_in_plain_text(self, home: Home, how: str) -> None:
        """Off this machine header fields go over TLS or not at all: 78, and nobody is connected to before."""
        if how == "config":
            home.configure(f'[otlp]\nheaders = "X-Api-Key={SECRET}"')
            result = home.flush("otlp+http://192.0.2.1:4318")
        else:
            environ = {"ENDPOINT": "http://192.0.2.1:4318", "HEADERS": f"X-Api-Key={SECRET}"}
            result = home.flush("otlp", **{f"OTEL_EXPORTER_OTLP_{name}": value for name, value in environ.items()})
        assert ("unconfigured", 1, 0) == (result.outcome, result.pending, result.requests)
        assert ("refused before connecting" in result.reason, SECRET in result.reason) == (True, False)

    def test_certificate(self, home: Home, tmp_path: Path) -> None:
        """A receiver whose certificate the variable names is trusted; another one is not, and a missing file is 78."""
        cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
        what = [
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
            "-subj",
            "/CN=localhost",
            "-addext",
        ]
        words = [need("openssl"), "req", "-x509", *what, "subjectAltName=DNS:localhost", "-keyout", key, "-out", cert]
        subprocess.run(words, check=True, capture_output=True)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(cert, key)
        with FaultServer(answering(OK), wrap=lambda s: context.wrap_socket(s, server_side=True)) as server:
            environ = {"OTEL_EXPORTER_OTLP_ENDPOINT": f"https://localhost:{server.port}"}
            found = [home.flush("otlp", OTEL_EXPORTER_OTLP_CERTIFICATE=name, **environ).outcome for name in ("", "/missing", str(cert))]  # fmt: skip
        assert ["temporary", "unconfigured", "delivered"] == found


class TestSink:
    def test_delivers(self, receiver: Receiver) -> None:
        """A sink sends what a client records, with what was given to it."""
        sink = OtlpSink(receiver.origin, headers=HEADERS, encoding="json", compression="gzip", resource={"a": "b"})
        client = Client(sink).with_service_name("s")
        assert client.record("t", "n", k=1)
        assert 1 == client.flush(20).delivered
        client.close()
        headers, record = only(receiver.requests).headers, only(receiver.records)
        assert (JSON, "gzip", SECRET) == tuple(
            headers[name] for name in ("content-type", "content-encoding", "x-api-key")
        )
        assert ({"a": "b", "service.name": "s"}, 1) == (record.resource, record.attributes["k"])

    def test_by_variables(self, tool: Tool, receiver: Receiver) -> None:
        """A sink without a URL goes where the variables say; one with a URL gets none of their header fields."""
        code = (
            "import sys; from rillevents import Client, OtlpSink\n"
            "for url in (None, sys.argv[1]):\n"
            "    client = Client(OtlpSink(url)); client.record('t', 'n'); assert client.flush(20).delivered; client.close()\n"
            "assert not {'google.protobuf', 'opentelemetry', 'httpx'} & {*sys.modules}"
        )
        said = {"LOGS_ENDPOINT": f"{receiver.origin}/mine", "HEADERS": f"X-Api-Key={SECRET}"}
        environ = tool.environ | {f"OTEL_EXPORTER_OTLP_{name}": value for name, value in said.items()}
        subprocess.run([sys.executable, "-c", code, receiver.logs], env=environ, check=True)
        told = [(request.path, request.headers.get("x-api-key")) for request in receiver.requests]
        assert [("/mine", SECRET), ("/v1/logs", None)] == told

    def test_wrong_arguments(self) -> None:
        """What cannot be meant raises at once, and shows no secret."""
        for given in (
            {"url": "h:4318"},
            {"url": "http://h.example", "headers": HEADERS},
            {"url": HERE, "encoding": "x"},
        ):
            with pytest.raises(ConfigError) as caught:
                OtlpSink(**given)  # type: ignore[arg-type]
            assert SECRET not in str(caught.value)
