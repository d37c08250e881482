"""`rillevents doctor`: each check where it passes and where it fails, and what it says to do."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support import Tool, need, snapshot

from rillevents.delivery.doctor import destination, examine, machine
from rillevents.delivery.doctor.check import Check, Diagnosis
from rillevents.delivery.turns import Turns
from rillevents.local import Paths
from rillevents.testing import FakeIntake

NAMES = [
    *("consent", "configuration", "permissions", "spool", "install_id", "clock"),
    *("destination", "credentials", "dns", "tcp", "tls"),
    *("last_flush", "background", "bytecode"),
]


@pytest.fixture
def intake(tool: Tool) -> Iterator[FakeIntake]:
    """The configured intake."""
    with FakeIntake() as running:
        tool.environ["RILLEVENTS_INTAKE_URL"] = running.url
        yield running


def checks(
    tool: Tool, *, to: str = "", ca_cert: str | None = None, timeout: float = 5.0, **environ: str
) -> dict[str, Check]:
    """Return what the library's call finds, by name; every check that fails has an exit code and an advice."""
    found = examine(Paths(tool.environ | environ), to=to, ca_cert=ca_cert, timeout=timeout)
    for check in found.checks:
        assert check.detail
        assert check.ok or (check.advice and check.exit_code)
    return {check.name: check for check in found.checks}


def begun(tool: Tool) -> Turns:
    """Configure flushes in the background, record an event, and begin one."""
    tool("config", "set", "flush.auto", "30s")
    tool("record", "log", "a")
    tool("telemetry", "on")
    turns = Turns(str(tool.spool), 30.0)
    assert turns.begin()
    return turns


def test_all_is_well(tool: Tool, intake: FakeIntake) -> None:
    """On a machine where everything is right each check is ok, the code is 0, and the intake got no request."""
    tool("record", "log", "a")
    done = tool("doctor", "--json")
    document = json.loads(done.stdout)
    assert (0, True, NAMES) == (done.returncode, document["ok"], [check["name"] for check in document["checks"]])
    assert [["name", "ok", "detail", "advice"]] * len(NAMES) == [list(check) for check in document["checks"]]
    assert [] == intake.requests


def test_for_people(tool: Tool) -> None:
    """As text each check is a line, with what to do below it; the number of failures is told on stderr."""
    done = tool("doctor")
    assert 78 == done.returncode
    assert re.search(
        r"^FAIL  destination +no destination is configured\n +-> set RILLEVENTS_INTAKE_URL", done.stdout, re.M
    )
    assert re.search(r"^ok    consent +on \(decided by: default\)$", done.stdout, re.MULTILINE)
    assert "rillevents: 1 of 10 checks failed\n" == done.stderr


def test_the_first_failure_gives_the_code() -> None:
    """The exit code is that of the first check that failed, 0 without one."""
    passed, failed, other = (
        Check("a", True, "x", "", 9),
        Check("b", False, "x", "y", 75),
        Check("c", False, "x", "y", 78),
    )
    assert [0, 75, 78] == [Diagnosis(found).exit_code for found in ([passed], [passed, failed, other], [other, failed])]
    assert not Diagnosis([passed, failed]).as_dict()["ok"]


def test_nothing_is_made(tool: Tool, intake: FakeIntake) -> None:
    """It creates no file, not even an install ID."""
    checks(tool)
    assert not tool.home.exists()
    tool("record", "log", "a")
    before = snapshot(tool.home)
    checks(tool)
    assert before == snapshot(tool.home)


def test_opted_out(tool: Tool, intake: FakeIntake) -> None:
    """Opted out it says who decided, opens no connection and runs no command; that is no failure."""
    mark = tool.home.parent / "mark"
    tool("config", "set", "intake.password_command", f"touch {mark}; echo x")
    log = tool.home.parent / "trace"
    environ = tool.environ | {"DO_NOT_TRACK": "1"}
    words = [need("strace"), "-f", "-o", str(log), "-e", "trace=network", *tool.command("doctor", "--json")]
    done = subprocess.run(words, env=environ, capture_output=True, text=True, check=True)
    found = {check["name"]: check for check in json.loads(done.stdout)["checks"]}
    assert "off (decided by: DO_NOT_TRACK)" == found["consent"]["detail"]
    assert ["not tried: telemetry is off"] * 3 == [found[step]["detail"] for step in ("dns", "tcp", "tls")]
    assert not re.search(r"\b(socket|connect)\(", log.read_text())
    assert not mark.exists()


class TestMachine:
    def test_an_odd_decision(self, tool: Tool) -> None:
        """A variable that is neither on nor off is 78, and is told."""
        found = checks(tool, RILLEVENTS_TELEMETRY="perhaps")["consent"]
        assert (False, 78) == (found.ok, found.exit_code)
        assert "'perhaps'" in found.detail

    @pytest.mark.parametrize("text", ["nonsense", "[flush]\nauto = 'soon'\n"])
    def test_a_broken_configuration(self, text: str, tool: Tool) -> None:
        """A config.toml that cannot be used is 78, and the other checks are made all the same."""
        tool.home.mkdir()
        (tool.home / "config.toml").write_text(text)
        found = checks(tool)
        assert (False, 78) == (found["configuration"].ok, found["configuration"].exit_code)
        assert found["spool"].ok

    def test_a_slip_in_the_configuration(self, tool: Tool) -> None:
        """An unknown key is no failure, and is named with its advice."""
        tool.home.mkdir()
        (tool.home / "config.toml").write_text("[flush]\nautp = 3\n")
        found = checks(tool)["configuration"]
        assert found.ok
        assert found.advice
        assert "did you mean flush.auto?" in found.detail

    def test_open_folders(self, tool: Tool) -> None:
        """A folder that others can change is 73, with the command that closes it."""
        tool("record", "log", "a")
        tool.home.chmod(0o777)
        found = checks(tool)["permissions"]
        assert (False, 73) == (found.ok, found.exit_code)
        assert f"chmod go-w {tool.home}" in found.advice

    def test_no_place_for_events(self, tool: Tool) -> None:
        """Where no spool can be, it is 73, with the variable that helps."""
        (tool.home.parent / "file").write_text("")
        found = checks(tool, RILLEVENTS_SPOOL_DIR=str(tool.home.parent / "file"))["spool"]
        assert (False, 73) == (found.ok, found.exit_code)
        found = checks(tool, RILLEVENTS_SPOOL_DIR=str(tool.home.parent / "file" / "x"))["spool"]
        assert (False, 73) == (found.ok, found.exit_code)
        assert "RILLEVENTS_SPOOL_DIR" in found.advice

    @pytest.mark.slow
    def test_a_full_spool(self, tool: Tool) -> None:
        """A spool at its limit is 73; one that is nearly full, or has old events, is told to flush."""
        tool("record", "log", "a", "--time", "2026-01-01T00:00:00Z")
        assert (True, "run: rillevents flush") == (checks(tool)["spool"].ok, checks(tool)["spool"].advice)
        tool("config", "set", "spool.max_bytes", "100")
        found = checks(tool)["spool"]
        assert (False, 73, "run: rillevents flush") == (found.ok, found.exit_code, found.advice)

    @pytest.mark.slow
    def test_rejected_events(self, tool: Tool, intake: FakeIntake) -> None:
        """What was refused for good is counted, with the command that shows it."""
        intake.respond = lambda request: 200 if b"good" in request.body and b"bad" not in request.body else 400
        tool("record", "log", "good")
        tool("record", "log", "bad")
        tool("flush")
        found = checks(tool)["spool"]
        assert "1 rejected" in found.detail
        assert "spool rejected" in found.advice

    @pytest.mark.slow
    def test_the_clock(self, tool: Tool) -> None:
        """A clock behind the program, or behind what it wrote, is a failure."""
        tool("record", "log", "a")
        tool("flush", "--to", f"file:{tool.home.parent}/out")
        paths = tool.paths
        assert [False, False, True] == [machine.clock(paths, lambda now=now: now).ok for now in (1e9, 1.77e9, 4e9)]  # type: ignore[misc]

    def test_the_install_id(self, tool: Tool) -> None:
        """Before the first event there is none, which is well; where none can be kept, that is 73."""
        assert "none yet" in checks(tool)["install_id"].detail
        (tool.home.parent / "file").write_text("")
        found = checks(tool, RILLEVENTS_HOME=str(tool.home.parent / "file" / "x"))["install_id"]
        assert (False, 73) == (found.ok, found.exit_code)

    @pytest.mark.slow
    def test_missing_bytecode(self, tool: Tool, tmp_path: Path) -> None:
        """Modules that are not compiled are seen, with how to compile them; compiled ones are well."""
        shutil.copytree(
            Path(__file__).parents[1] / "rillevents",
            tmp_path / "lib" / "rillevents",
            ignore=shutil.ignore_patterns("__pycache__"),
        )
        environ = tool.environ | {"PYTHONPATH": str(tmp_path / "lib"), "PYTHONDONTWRITEBYTECODE": "1"}

        def bytecode() -> dict[str, Any]:
            words = [sys.executable, "-m", "rillevents", "doctor", "--json"]
            done = subprocess.run(words, env=environ, cwd=tmp_path, capture_output=True, check=False)
            return dict(json.loads(done.stdout)["checks"][-1])

        found = bytecode()
        assert ("bytecode", False) == (found["name"], found["ok"])
        assert "UV_COMPILE_BYTECODE=1" in found["advice"]
        subprocess.run([sys.executable, "-m", "compileall", "-q", tmp_path / "lib"], check=True)
        assert bytecode()["ok"]

    @pytest.mark.slow
    def test_the_last_flush(self, tool: Tool, intake: FakeIntake) -> None:
        """Refused credentials, which no connection shows, are known from the last flush: 77 until one delivers."""
        assert "never" == checks(tool)["last_flush"].detail
        tool("record", "log", "a")
        intake.script.append(401)
        tool("flush")
        found = checks(tool)["last_flush"]
        assert (False, 77) == (found.ok, found.exit_code)
        assert "401" in found.detail
        tool("flush")
        assert checks(tool)["last_flush"].ok


class TestBackground:
    def test_off(self, tool: Tool) -> None:
        """Without `flush.auto` it is off."""
        assert "flush.auto is off" in checks(tool)["background"].detail

    @pytest.mark.parametrize(
        ("environ", "advice"),
        [({}, "rillevents telemetry on"), ({"CI": "1"}, "RILLEVENTS_FLUSH_AUTO"), ({"RILLEVENTS_TELEMETRY": "on"}, "")],
        ids=["notice", "ci", "told"],
    )
    def test_why_it_is_not_started(self, environ: dict[str, str], advice: str, tool: Tool) -> None:
        """Where it is configured and not started it says why, and what to do; that is no failure."""
        tool("config", "set", "flush.auto", "30s")
        found = checks(tool, **environ)["background"]
        assert found.ok
        assert advice in found.advice
        assert bool(advice) == bool(found.advice)

    def test_failures(self, tool: Tool) -> None:
        """Failures in a row are told with the reason, and give the code that a flush has for it."""
        turns = begun(tool)
        turns.end("refused", "HTTP 401", has_failed=True)
        found = checks(tool)["background"]
        assert (False, 77) == (found.ok, found.exit_code)
        assert "it failed: HTTP 401" in found.detail

    def test_a_pass_under_way_has_not_failed(self, tool: Tool) -> None:
        """A pass that is being made is no failure; one that was killed is."""
        turns = begun(tool)
        found = checks(tool)["background"]
        assert (True, "") == (found.ok, found.advice)
        assert "running now" in found.detail
        os.close(turns._fd)
        assert "did not end" in checks(tool)["background"].detail

    def test_a_relative_file(self, tool: Tool) -> None:
        """A destination that a process in another folder cannot find is 78."""
        found = checks(tool, RILLEVENTS_TO="file:x", RILLEVENTS_FLUSH_AUTO="1s", RILLEVENTS_TELEMETRY="on")[
            "background"
        ]
        assert (False, 78) == (found.ok, found.exit_code)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A self-signed certificate for localhost, with its key in the same file, which ends in two days."""
    file = tmp_path_factory.mktemp("tls") / "both.pem"
    what = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-days", "2"]
    made = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", str(file), "-out", f"{file}.cert", *what]
    subprocess.run([need("openssl"), *made], check=True, capture_output=True)
    file.write_bytes(file.read_bytes() + Path(f"{file}.cert").read_bytes())
    return file


class Listener:
    """A server that speaks TLS, or only accepts, and keeps what it got."""

    def __init__(self, certificate: Path | None) -> None:
        self.got: list[bytes] = []
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER) if certificate else None
        if self._context and certificate:
            self._context.load_cert_chain(certificate)
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            while True:
                sock, _ = self._socket.accept()
                self._serve(sock)
        except OSError:
            return

    def _serve(self, sock: socket.socket) -> None:
        try:
            with self._context.wrap_socket(sock, server_side=True) if self._context else sock as wrapped:
                wrapped.settimeout(5)
                self.got.append(wrapped.recv(100))
        except OSError:
            self.got.append(b"")

    def close(self) -> None:
        """Stop, once what was accepted is over."""
        if self._socket.fileno() >= 0:
            self._socket.shutdown(socket.SHUT_RDWR)
            self._socket.close()
        self._thread.join()


@pytest.fixture
def listener(certificate: Path) -> Iterator[Listener]:
    """A server with TLS."""
    found = Listener(certificate)
    yield found
    found.close()


class TestDestination:
    def test_tls(self, listener: Listener, certificate: Path, tool: Tool) -> None:
        """A certificate that is trusted is well, with how long it is valid; not a byte of a request is sent."""
        found = checks(tool, to=f"https://localhost:{listener.port}/", ca_cert=f"{certificate}.cert")
        assert found["tls"].ok
        assert "TLSv1.3" in found["tls"].detail
        assert "renew" in found["tls"].advice
        listener.close()
        assert [b""] == listener.got

    @pytest.mark.parametrize(
        ("host", "advice"), [("localhost", "--ca-cert FILE or SSL_CERT_FILE"), ("127.0.0.1", "the host's name")]
    )
    def test_an_untrusted_certificate(
        self, host: str, advice: str, listener: Listener, certificate: Path, tool: Tool
    ) -> None:
        """An unknown certificate is 75 with the option that helps; one for another name says so."""
        ca_cert = f"{certificate}.cert" if host == "127.0.0.1" else None
        found = checks(tool, to=f"https://{host}:{listener.port}/", ca_cert=ca_cert)["tls"]
        assert (False, 75) == (found.ok, found.exit_code)
        assert advice in found.advice

    def test_no_tls_there(self, tool: Tool, intake: FakeIntake) -> None:
        """A port that speaks HTTP alone is told as such."""
        found = checks(tool, to=intake.url.replace("http:", "https:"))
        assert found["tcp"].ok
        assert (False, 75) == (found["tls"].ok, found["tls"].exit_code)

    def test_nobody_listens(self, tool: Tool) -> None:
        """A closed port is 75, and what depends on it is not tried."""
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            found = checks(tool, to=f"https://127.0.0.1:{taken.getsockname()[1]}/")
        assert (True, False, False) == tuple(found[step].ok for step in ("dns", "tcp", "tls"))
        assert "refused" in found["tcp"].detail
        assert "not tried" == found["tls"].detail

    def test_no_such_host(self, tool: Tool) -> None:
        """A name that nobody knows is 75."""
        found = checks(tool, to="http://rillevents.invalid/")
        assert (False, 75) == (found["dns"].ok, found["dns"].exit_code)
        assert "not used with http://" in found["tls"].detail

    def test_dns_that_hangs(self) -> None:
        """A resolver that does not answer is waited for as long as it was said."""
        waiting = threading.Event()
        with pytest.raises(TimeoutError):
            destination._within(0.05, waiting.wait)
        waiting.set()

    def test_a_proxy(self, tool: Tool, intake: FakeIntake) -> None:
        """Through a proxy its address is tried, and TLS is not: that would take a request to the proxy."""
        found = checks(tool, to="https://intake.invalid/", HTTPS_PROXY=intake.url)
        assert (True, True, True) == tuple(found[step].ok for step in ("dns", "tcp", "tls"))
        assert "behind a proxy" in found["tls"].detail
        assert [] == intake.requests

    @pytest.mark.parametrize(
        ("environ", "detail"),
        [
            ({"RILLEVENTS_INTAKE_USER": "u", "RILLEVENTS_INTAKE_PASSWORD": "s3cret"}, "a user and a password"),
            ({"RILLEVENTS_INTAKE_TOKEN": "s3cret"}, "a token"),
            ({"RILLEVENTS_INTAKE_HEADERS": "X-Key=s3cret"}, "the header field X-Key"),
            ({"RILLEVENTS_INTAKE_USER": "u"}, "a user and a password"),
            ({}, "none are configured"),
        ],
    )
    def test_credentials(self, environ: dict[str, str], detail: str, tool: Tool, intake: FakeIntake) -> None:
        """Which credentials there are is told, never their value."""
        done = tool("doctor", "--json", **environ)
        [found] = [check for check in json.loads(done.stdout)["checks"] if check["name"] == "credentials"]
        assert detail == found["detail"]
        assert "s3cret" not in done.stdout + done.stderr
        assert ("no password" in found["advice"]) == (environ == {"RILLEVENTS_INTAKE_USER": "u"})

    def test_a_missing_password(self, tool: Tool, intake: FakeIntake) -> None:
        """A password file that is not there is 78, as a check of the credentials; nothing is connected to."""
        found = checks(tool, RILLEVENTS_INTAKE_USER="u", RILLEVENTS_INTAKE_PASSWORD_FILE="/nonexistent")
        assert (False, 78) == (found["credentials"].ok, found["credentials"].exit_code)
        assert "tcp" not in found

    @pytest.mark.parametrize(
        ("to", "code"), [("nonsense", 78), ("http://u:p@h/", 78), ("kafka://h", 78), ("file:/nonexistent/x", 75)]
    )
    def test_no_destination(self, to: str, code: int, tool: Tool) -> None:
        """A destination that is none is a failure, with what one looks like."""
        found = checks(tool, to=to)["destination"]
        assert (False, code) == (found.ok, found.exit_code)

    def test_credentials_in_plain_text(self, tool: Tool) -> None:
        """Credentials that would be sent in plain text are refused, as by a flush."""
        environ = {"RILLEVENTS_INTAKE_URL": "http://h.example/", "RILLEVENTS_INTAKE_TOKEN": "t"}
        assert "plain text" in checks(tool, **environ)["destination"].detail

    @pytest.mark.parametrize("to", ["file:FOLDER/x", "file:FOLDER/%Y/{date}", "file:-"])
    def test_files(self, to: str, tool: Tool) -> None:
        """A file is a destination if its folder can be written."""
        assert checks(tool, to=to.replace("FOLDER", str(tool.home.parent)))["destination"].ok

    def test_kafka(self, tool: Tool) -> None:
        """Of brokers the addresses and the connection are tried; that password and key are there is told."""
        pytest.importorskip("confluent_kafka")
        with socket.create_server(("127.0.0.1", 0)) as broker:
            to = f"kafka://127.0.0.1:{broker.getsockname()[1]}/topic"
            environ = {"RILLEVENTS_KAFKA_SASL_PASSWORD": "s3cret", "RILLEVENTS_KAFKA_SASL_USERNAME": "u"}
            tool("config", "set", "kafka.security.protocol", "SASL_SSL")
            tool("config", "set", "kafka.sasl.mechanism", "PLAIN")
            found = checks(tool, to=to, **environ)
        assert (True, True) == (found["dns"].ok, found["tcp"].ok)
        assert "librdkafka" in found["tls"].detail
        assert "kafka.sasl.password" in found["credentials"].detail

    def test_otlp(self, tool: Tool) -> None:
        """An OTLP endpoint is tried as any other."""
        with socket.create_server(("127.0.0.1", 0)) as endpoint:
            found = checks(tool, to=f"otlp+http://127.0.0.1:{endpoint.getsockname()[1]}")
        assert found["tcp"].ok
