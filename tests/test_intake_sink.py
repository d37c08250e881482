"""An IntakeSink where the environment or the moment is unkind: the program runs, and what becomes of events is told."""

from __future__ import annotations

import subprocess
import sys
import threading

import pytest
from support import Tool

from rillevents import Client, ConfigError, IntakeExporter, IntakeSink
from rillevents.testing import FakeIntake

ENVIRONMENTS = [
    pytest.param({"ALL_PROXY": "socks://127.0.0.1:7891"}, "the proxy's URL cannot be used", id="socks"),
    pytest.param({"HTTPS_PROXY": "http://u:p@proxy:x"}, "the proxy's URL cannot be used", id="port"),
    pytest.param({"https_proxy": "nonsense://proxy"}, "the proxy's URL cannot be used", id="scheme"),
    pytest.param({"SSL_CERT_FILE": "/missing.pem"}, "certificates of SSL_CERT_FILE cannot be read", id="certificates"),
]


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """An environment without a proxy."""
    for name in ("ALL_PROXY", "HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY", "SSL_CERT_FILE"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


class TestEnvironment:
    @pytest.mark.parametrize(("environ", "says"), ENVIRONMENTS)
    def test_program_starts(
        self, environ: dict[str, str], says: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        """A proxy or certificates in the environment that cannot be used are logged; events wait, and are counted."""
        for name, value in environ.items():
            monkeypatch.setenv(name, value)
        sink = IntakeSink("https://intake.example/events", interval=0.01)
        assert says in caplog.text
        client = Client(sink)
        assert client.record("t", "n")
        result = client.flush(5)
        assert (0, 1, True) == (result.delivered, result.pending, says in result.reason)
        client.close(0.5)
        assert {"recorded": 1, "dropped": {"closed": 1}} == {key: sink.counts[key] for key in ("recorded", "dropped")}

    def test_environment_that_is_mended(self, tmp_path: object, monkeypatch: pytest.MonkeyPatch) -> None:
        """Once the environment is usable, what waited is delivered."""
        with FakeIntake() as intake:
            monkeypatch.setenv("SSL_CERT_FILE", "/missing.pem")
            monkeypatch.setenv("HTTP_PROXY", "nonsense://proxy")
            monkeypatch.setattr("rillevents.delivery.url.is_loopback", lambda host: False)
            sink = IntakeSink(intake.url)
            client = Client(sink)
            client.record("t", "n")
            assert 1 == client.flush(5).pending
            monkeypatch.undo()
            assert 1 == client.flush(5).delivered
            client.close()

    @pytest.mark.parametrize(("environ", "says"), ENVIRONMENTS)
    def test_exporter(self, environ: dict[str, str], says: str) -> None:
        """An exporter that is made by hand, and a flush, still say so at once."""
        with pytest.raises(ConfigError, match=says):
            IntakeExporter("https://intake.example/events", environ=environ)

    @pytest.mark.parametrize(
        "arguments",
        [
            {"url": "nonsense"},
            {"url": "https://a/", "ca_cert": "/missing.pem"},
            {"url": "http://a/", "token": "secret"},
        ],
        ids=["url", "ca", "credentials"],
    )
    def test_wrong_arguments(self, arguments: dict[str, str]) -> None:
        """Wrong arguments are the programmer's own, and raise."""
        with pytest.raises(ConfigError):
            IntakeSink(**arguments)  # type: ignore[arg-type]


class TestNoThread:
    def test_true_reason(self, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
        """Where no thread can be started any more, a flush and a close say just that, at once."""

        def start(self: threading.Thread) -> None:
            raise RuntimeError("can't create new thread at interpreter shutdown")

        with FakeIntake() as intake:
            sink = IntakeSink(intake.url)
            client = Client(sink)
            monkeypatch.setattr(threading.Thread, "start", start)
            assert client.record("t", "n")
            result = client.flush(60)
            client.close(60)
        says = "no thread could be started to deliver events: can't create new thread at interpreter shutdown"
        assert (0, says) == (result.delivered, result.reason)
        assert f"1 events could not be delivered before the end and were dropped: {says}" in caplog.text
        assert {"closed": 1} == sink.counts["dropped"]

    def test_in_atexit(self, tool: Tool) -> None:
        """A sink that is first used while the interpreter ends delivers, or says why not."""
        script = (
            "import atexit, sys; from rillevents import Client, IntakeSink; c = Client(IntakeSink(sys.argv[1]))\n"
            "@atexit.register\ndef end(): c.record('t', 'n'); print(c.flush(10).reason); c.close(10)"
        )
        with FakeIntake() as intake:
            words = [sys.executable, "-c", script, intake.url]
            done = subprocess.run(words, env=tool.environ, check=True, capture_output=True, text=True)
            assert intake.events or "no thread could be started to deliver events" in done.stdout
