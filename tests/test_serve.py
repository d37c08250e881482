"""`rillevents serve`: what it takes, what it answers, where the events are then."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import gzip
import http.client
import json
import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from serving import Serving, Told, event, exchange, ids, rows, stored_ids, until
from support import PACE, Tool, need, only

from rillevents import MAX_EVENT_BYTES, Client, IntakeSink, RilleventsError
from rillevents.local import Paths
from rillevents.serve.access import Access
from rillevents.serve.app import App
from rillevents.serve.commit import Committer
from rillevents.serve.forward import SpoolStorage, spool_for
from rillevents.serve.metrics import Metrics
from rillevents.serve.options import Options
from rillevents.serve.response import Answer
from rillevents.testing import FakeIntake


@pytest.fixture
def server(tool: Tool) -> Iterator[Serving]:
    """A server with a store."""
    with Serving(tool) as serving:
        yield serving


@pytest.fixture
def store(tool: Tool) -> str:
    """Where the default store is."""
    return tool.paths.default_store


def verdict(accepted: int, duplicates: int = 0, *rejected: tuple[int, str]) -> dict[str, object]:
    """Return the answer to a request of events."""
    told = [{"line": line, "reason": reason} for line, reason in rejected]
    return {"accepted": accepted, "duplicates": duplicates, "rejected": told}


def basic(user: str, password: str) -> str:
    """Return the header that says who one is."""
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


class TestBeginning:
    def test_it_says_where_it_is(self, server: Serving) -> None:
        """With --json stdout has one document, and stderr the line to export."""
        assert {"url": server.url, "intake_url": f"{server.url}/events/default"} == server.told
        assert server.url.startswith("http://127.0.0.1:")
        until(lambda: f"\nexport RILLEVENTS_INTAKE_URL={server.url}/events/default\n" in server.stderr)

    def test_stdout_is_one_document_to_the_end(self, tool: Tool) -> None:
        """Nothing follows the document when the server is stopped."""
        with Serving(tool) as serving:
            assert 143 == serving.stop()
            assert serving.process.stdout
            assert b"" == serving.process.stdout.read()

    def test_quiet(self, tool: Tool) -> None:
        """With -q nothing is said on stderr."""
        with Serving(tool, "-q") as serving:
            assert "" == serving.stderr

    @pytest.mark.slow
    @pytest.mark.parametrize(
        ("words", "code", "told"),
        [
            (["--port", "70000"], 2, "--port 70000"),
            (["--store", "a.db", "--to", "spool"], 2, "exclude each other"),
            (["--to", "spool", "--keep", "3d"], 2, "--keep"),
            (["--keep", "3 days"], 2, "30d"),
            (["--keep", "0d"], 2, "30d"),
            (["--host", "0.0.0.0"], 2, "--user"),
            (["--host", "no such host"], 2, "not a valid address"),
            (
                ["--host", "no-such-host.invalid", "--user", "me", "--password-file", "PASSWORD"],
                2,
                "not an address of this",
            ),
            (["--host", "192.0.2.77", "--user", "me", "--password-file", "PASSWORD"], 2, "cannot listen on"),
            (["--tls-cert", "a.pem"], 2, "go together"),
            (["--tls-cert", "a.pem", "--tls-key", "b.pem"], 78, "--tls-cert"),
            (["--user", "me"], 78, "RILLEVENTS_SERVE_PASSWORD"),
            (["--user", "a:b"], 2, "colon"),
            (["--user", "me", "--password-file", "/dev/null"], 78, "not a regular file"),
            (["--allow-host", "a b"], 2, "not a valid host name"),
            (["--allow-origin", "app.example.com"], 2, "not a valid origin"),
            (["--allow-origin", "https://app.example.com/path"], 2, "not a valid origin"),
            (["--allow-origin", "null"], 2, "not a valid origin"),
            (["--allow-origin", "*"], 2, "not a valid origin"),
            (["--allow-origin", "https://*"], 2, "not a valid origin"),
            (["--allow-origin", "file://"], 2, "not a valid origin"),
            (["--allow-origin", "file://host"], 2, "not a valid origin"),
            (["--to", "intake"], 78, "no destination is configured"),
            (["--to", "nonsense"], 78, "not a valid destination"),
            (["--to", "https://me:secret@example.com/"], 2, "secrets do not belong in arguments"),
        ],
        ids=lambda value: " ".join(value) if isinstance(value, list) else "",
    )
    def test_what_cannot_be(self, words: list[str], code: int, told: str, tool: Tool, tmp_path: Path) -> None:
        """A server that cannot be as it is asked for says why, and what to type, and makes nothing."""
        (tmp_path / "password").write_text("secret\n")
        done = tool("serve", *(str(tmp_path / "password") if word == "PASSWORD" else word for word in words))
        assert code == done.returncode, done.stderr
        assert told in done.stderr
        assert "secret@" not in done.stderr
        assert not Path(tool.paths.default_store).exists()

    def test_port_in_use(self, server: Serving) -> None:
        """A port that somebody else has is 75, and the message says what to do."""
        done = server.tool("serve", "--port", str(server.port))
        assert 75 == done.returncode
        assert f"port {server.port} of 127.0.0.1 is in use; give another --port" in done.stderr

    def test_ipv6(self, tool: Tool) -> None:
        """An IPv6 address is listened on, and written in brackets."""
        with Serving(tool, "--host", "::1") as serving:
            assert serving.url.startswith("http://[::1]:")
            assert 200 == serving.post(event()).status


class TestStoring:
    def test_a_row(self, server: Serving, store: str) -> None:
        """An event is a row: its four fields, its time in microseconds, its stream, and its line as it came."""
        line = event("a", "login", "2026-11-23T12:00:00.123456789+02:00", plan="pro")
        assert verdict(1) == server.post(line, "/events/web").json
        found = only(rows(store, "SELECT * FROM events"))
        expected = ("a", "2026-11-23T12:00:00.123456789+02:00", 1795428000123456, "t", "login", "web")
        assert expected == found[:6]
        assert line.rstrip(b"\n").decode() == found[7]
        assert [1] == rows(store, "PRAGMA user_version")
        assert ["events_name_us", "events_us"] == rows(
            store, "SELECT name FROM sqlite_master WHERE type = 'index' AND name NOT LIKE 'sqlite_%' ORDER BY name"
        )

    def test_duplicates(self, server: Serving, store: str) -> None:
        """An event that comes again, in the same request or a later one, is stored once, and told."""
        assert verdict(1, 1) == server.post(event("a") * 2).json
        assert verdict(1, 1) == server.post(event("a") + event("b")).json
        assert ["a", "b"] == stored_ids(store)

    def test_conflicts(self, server: Serving, store: str) -> None:
        """Another event with an ID that is taken is refused, kept apart and counted; the first one stays."""
        server.post(event("a", plan="free"))
        told = server.post(event("a", plan="pro") + event("b"))
        assert verdict(1, 0, (1, "another event has this event_id")) == told.json
        assert 400 == server.post(event("a", plan="pro")).status
        assert event("a", plan="free").rstrip().decode() == rows(store)[0]
        assert [("a", "another event has this event_id")] * 2 == rows(store, "SELECT event_id, reason FROM rejected")
        assert [2] == rows(store, "SELECT n FROM counts WHERE name = 'conflicts'")

    def test_bad_lines(self, server: Serving, store: str) -> None:
        """Lines that are no events are named with their reasons, and kept; the others are stored."""
        told = server.post(b'{"a":1}\n' + event("a") + b"\nnonsense\n" + event("b")[:-1])
        assert (200, 2) == (told.status, told.json["accepted"])
        assert [(1, "missing event_id"), (4, "not JSON")] == [
            (each["line"], each["reason"][: len("missing event_id")].partition(":")[0])
            for each in told.json["rejected"]
        ]
        assert ["a", "b"] == stored_ids(store)
        assert ['{"a":1}', "nonsense"] == rows(store, "SELECT body FROM rejected")

    @pytest.mark.parametrize("body", [b"", b"\n\n", b"{}", b"nonsense", b"[]"], ids=repr)
    def test_nothing_acceptable(self, body: bytes, server: Serving, store: str) -> None:
        """A request without a single event is 400."""
        assert 400 == server.post(body).status
        assert [] == rows(store)

    def test_compressed(self, server: Serving, store: str) -> None:
        """Gzip is taken, what claims to be it is 400, and what is not known 415."""
        assert verdict(1) == server.post(gzip.compress(event("a")), Content_Encoding="gzip").json
        assert 400 == server.post(event("b"), Content_Encoding="gzip").status
        assert 415 == server.post(event("c"), Content_Encoding="br").status
        assert ["a"] == stored_ids(store)

    def test_many_clients_at_once(self, server: Serving, store: str) -> None:
        """Sixteen clients that send on kept connections at the same time lose nothing, and each is told of its own."""
        told: dict[str, list[Told]] = {}

        def send(client: int) -> None:
            with contextlib.closing(server.connect()) as connection:
                told[str(client)] = [
                    exchange(connection, "POST", "/events/default", event(f"{client}-{n}") + event("shared"))
                    for n in range(50)
                ]

        threads = [threading.Thread(target=send, args=(client,)) for client in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        answers = [answer.json for each in told.values() for answer in each]
        assert 16 * 50 + 1 == sum(answer["accepted"] for answer in answers)
        assert 16 * 50 - 1 == sum(answer["duplicates"] for answer in answers)
        assert 16 * 50 + 1 == len(stored_ids(store))

    def test_keep(self, tool: Tool, store: str) -> None:
        """What was received longer ago than --keep is deleted and counted, whatever its own time is; what is younger stays."""
        with Serving(tool) as serving:
            serving.post(event("old") + event("older"))
        import sqlite3

        with contextlib.closing(sqlite3.connect(store)) as connection:
            connection.execute("UPDATE events SET received_us = received_us - 7200 * 1000000")
            connection.commit()
        with Serving(tool, "--keep", "1h") as serving:
            serving.post(event("young", time="1999-01-01T00:00:00Z"))
            until(lambda: ["young"] == stored_ids(store))
            assert "rillevents_removed_total 2.0" in serving.ask("GET", "/metrics").body.decode()
        assert [2] == rows(store, "SELECT n FROM counts WHERE name = 'removed'")


class TestPages:
    @pytest.mark.slow
    @pytest.mark.parametrize("content_type", ["text/plain;charset=UTF-8", "application/json", "application/x-ndjson"])
    @pytest.mark.parametrize(
        ("body", "expected"),
        [
            (event("a"), ["a"]),
            (event("a") + event("b"), ["a", "b"]),
            (b" [" + event("a") + b"," + event("b") + b"]", ["a", "b"]),
            (json.dumps(json.loads(event("a")), indent=2).encode(), ["a"]),
            (json.dumps([json.loads(event("a")), json.loads(event("b"))], indent=1).encode(), ["a", "b"]),
        ],
        ids=["object", "NDJSON", "array", "object over lines", "array over lines"],
    )
    def test_local_track(
        self, body: bytes, expected: list[str], content_type: str, server: Serving, store: str
    ) -> None:
        """A page may send an object, an array or NDJSON, of any content type, and each event stands on one line."""
        assert verdict(len(expected)) == server.post(body, "/local/track", Content_Type=content_type).json
        assert expected == stored_ids(store)
        assert all("\n" not in body for body in rows(store))

    def test_what_a_page_sends_is_kept(self, server: Serving, store: str) -> None:
        """Something that is no event is 200 from a page, and kept with its reason."""
        for body in (b"{}", b"nonsense", b"[1]", b'[{"a":1},' + event("a") + b"]"):
            assert 200 == server.post(body, "/local/track").status
        assert ["a"] == stored_ids(store)
        assert ["{}", "nonsense", "1", '{"a":1}'] == rows(store, "SELECT body FROM rejected")

    def test_a_large_one_is_cut(self, server: Serving, store: str) -> None:
        """Of a body that is no JSON as much is kept as an event may have."""
        assert 200 == server.post(b"[" + b"x" * 500_000, "/local/track").status
        assert [MAX_EVENT_BYTES + 1] == rows(store, "SELECT length(body) FROM rejected")

    def test_wrapped(self, server: Serving, store: str) -> None:
        """The admin's form is taken, each of its events as it is; something else in its place is 400."""
        body = b'{"other":[1],"events":[' + event("a").rstrip() + b", {}]}"
        assert verdict(1, 0, (2, "empty event")) == server.post(body, "/v1/telemetry/events").json
        assert event("a").rstrip().decode() == only(rows(store))
        assert 400 == server.post(event("b"), "/v1/telemetry/events").status

    def test_wrapped_alone(self, server: Serving, store: str) -> None:
        """An older page of Rill's sends one event as `event`: it is taken as it is; another form in its place is 400."""
        assert verdict(1, 0) == server.post(b'{"event":' + event("a").rstrip() + b',"x":1}', "/v1/telemetry").json
        assert event("a").rstrip().decode() == only(rows(store))
        for body in (event("b"), b'{"events":[' + event("b").rstrip() + b"]}", b'{"event":[]}', b'{"event":{}}', b"{}"):
            assert 400 == server.post(body, "/v1/telemetry").status
        assert ["a"] == stored_ids(store)


class TestAccess:
    def test_user(self, tool: Tool, store: str) -> None:
        """With --user clients must authenticate; a page of this machine need not, a page from elsewhere is refused."""
        with Serving(tool, "--user", "me", RILLEVENTS_SERVE_PASSWORD="pä:ss") as serving:
            assert 401 == serving.post(event("a")).status
            assert 401 == serving.post(event("a"), Authorization=basic("me", "wrong")).status
            assert 401 == serving.post(event("a"), "/local/track").status
            assert 200 == serving.post(event("a"), Authorization=basic("me", "pä:ss")).status
            assert 200 == serving.post(event("b"), "/local/track", Origin="http://localhost:3000").status
            assert 401 == serving.post(event("c"), Origin="http://localhost:3000").status
            assert 403 == serving.post(event("c"), "/local/track", Origin="https://evil.example").status
            assert 200 == serving.ask("GET", "/healthz").status
        assert ["a", "b"] == stored_ids(store)

    def test_password_file(self, tool: Tool, tmp_path: Path) -> None:
        """The password may be in a file; one that others can read gets a warning."""
        (tmp_path / "secret").write_text("s3\n")
        (tmp_path / "secret").chmod(0o644)
        with Serving(tool, "--user", "me", "--password-file", str(tmp_path / "secret")) as serving:
            assert 200 == serving.post(event(), Authorization=basic("me", "s3")).status
            assert "chmod 600" in serving.stderr

    def test_allowed(self, tool: Tool) -> None:
        """Hosts and origins that are named are allowed beside those of this machine."""
        words = ["--allow-host", "events.example.com", "--allow-origin", "https://app.example.com"]
        with Serving(tool, *words) as serving:
            assert 200 == serving.post(event("a"), Host="events.example.com").status
            assert 403 == serving.post(event("a"), Host="example.com").status
            told = serving.post(event("b"), "/local/track", Origin="https://app.example.com")
            assert "https://app.example.com" == told.headers["access-control-allow-origin"]
            assert 403 == serving.post(event("c"), "/local/track", Origin="https://other.example.com").status

    @pytest.mark.parametrize("header", ["X_Forwarded_For", "Forwarded", "Via", "X_Real_IP", "X_Forwarded_Host"])
    def test_behind_a_proxy(self, header: str, tool: Tool) -> None:
        """A client behind a proxy is not on this machine: the page, the metrics and a page of localhost need more than that."""
        words = ["--user", "me", "--allow-host", "events.example.com"]
        with Serving(tool, *words, RILLEVENTS_SERVE_PASSWORD="s") as serving:
            proxied = {header: "203.0.113.9"}
            assert 401 == serving.post(event(), "/local/track", Origin="http://localhost", **proxied).status
            assert 401 == serving.ask("GET", "/metrics", **proxied).status
            assert 403 == serving.ask("GET", "/api/events", Authorization=basic("me", "s"), **proxied).status
            told = serving.ask("GET", "/api/events", Authorization=basic("me", "s"), Host="events.example.com")
            assert 403 == told.status

    def test_nobody_reads_stderr(self, tool: Tool, store: str) -> None:
        """A server whose warnings nobody reads goes on serving, and ends when it is told to."""
        read, write = os.pipe()
        os.set_blocking(write, False)
        with contextlib.suppress(BlockingIOError):
            while True:
                os.write(write, b"x" * 4096)
        os.set_blocking(write, True)
        words = tool.command("serve", "--port", "0", "--json")
        with subprocess.Popen(words, env=tool.environ, stdout=subprocess.PIPE, stderr=write) as server:
            os.close(write)
            killer = threading.Timer(30, server.kill)
            killer.start()
            assert server.stdout
            url = json.loads(server.stdout.readline())["url"]
            for event_id in ("a", "b"):
                for name in ("", "-wal", "-shm"):
                    Path(f"{store}{name}").unlink(missing_ok=True)
                with contextlib.closing(http.client.HTTPConnection(url.partition("//")[2], timeout=10)) as connection:
                    assert 200 == exchange(connection, "POST", "/events/default", event(event_id)).status
            server.send_signal(signal.SIGTERM)
            assert 143 == server.wait(30)
            killer.cancel()
        os.close(read)
        assert ["b"] == stored_ids(store)


class TestEnding:
    @pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)], ids=["TERM", "INT"])
    def test_signals(self, number: int, code: int, tool: Tool, store: str) -> None:
        """A signal ends a server in good order, and a connection that is open does not hold it up."""
        with Serving(tool) as serving, contextlib.closing(serving.connect()) as connection:
            exchange(connection, "POST", "/events/default", event("a"))
            assert code == serving.stop(number, timeout=8 * PACE)
        assert not Path(f"{store}-wal").exists()
        assert ["a"] == stored_ids(store)

    def test_what_is_under_way(self, tool: Tool, store: str) -> None:
        """A request that is being sent when SIGTERM comes is taken to its end and answered; a new one is not."""
        with Serving(tool) as serving, contextlib.closing(serving.connect()) as connection:
            line = event("a")
            connection.putrequest("POST", "/events/default")
            connection.putheader("Content-Length", str(len(line)))
            connection.endheaders(line[:10])
            until(lambda: "rillevents_connections_total 2.0" in serving.ask("GET", "/metrics").body.decode())
            serving.process.send_signal(signal.SIGTERM)

            def is_closed() -> bool:
                with contextlib.closing(serving.connect(1)) as other:
                    try:
                        other.connect()
                    except OSError:
                        return True
                return False

            until(is_closed)
            connection.send(line[10:])
            assert 200 == connection.getresponse().status
            assert 143 == serving.process.wait(20)
        assert ["a"] == stored_ids(store)


class TestFlush:
    def test_into_a_server(self, tool: Tool, server: Serving, store: str) -> None:
        """A flush into a server delivers the events, byte for byte; those that it rejects are put aside with the reason."""
        server.post(event("taken", plan="free"))
        tool("record", "raw", stdin=event("a") + event("taken", plan="pro") + event("b"))
        tool("record", "behavioral", "login-start", "-a", "plan=pro")
        lines = tool.lines()
        done = tool("flush", "--json", RILLEVENTS_INTAKE_URL=f"{server.url}/events/default")
        assert 65 == done.returncode
        assert ("rejected", 3, 1, 0) == tuple(
            json.loads(done.stdout)[key] for key in ("outcome", "delivered", "rejected", "pending")
        )
        entry = only(tool.json("spool", "rejected"))
        assert ("taken", "another event has this event_id") == (entry["event"]["event_id"], entry["reason"])
        kept = [line.rstrip(b"\n").decode() for line in lines if b'"taken"' not in line]
        assert kept == rows(store)[1:]

    @pytest.mark.parametrize("compression", ["gzip", "zstd"])
    def test_compressed(self, compression: str, tool: Tool, server: Serving, store: str) -> None:
        """What flush.compression makes of a batch is understood."""
        tool("config", "set", "flush.compression", compression)
        tool("record", "raw", stdin=b"".join(event(str(n)) for n in range(2000)))
        assert 0 == tool("flush", RILLEVENTS_INTAKE_URL=f"{server.url}/events/default").returncode
        assert 2000 == len(stored_ids(store))

    def test_again(self, tool: Tool, server: Serving, store: str) -> None:
        """A flush whose memory was lost sends everything again, and each event is stored once."""
        url = f"{server.url}/events/default"
        tool("record", "raw", stdin=b"".join(event(str(n)) for n in range(1500)))
        exported = tool("spool", "export").stdout.encode()
        assert 0 == tool("flush", RILLEVENTS_INTAKE_URL=url).returncode
        tool("record", "raw", stdin=exported)
        assert 0 == tool("flush", RILLEVENTS_INTAKE_URL=url).returncode
        assert 1500 == len(stored_ids(store))

    def test_the_library(self, server: Serving, store: str) -> None:
        """An IntakeSink sends to a server in the background."""
        client = Client(IntakeSink(f"{server.url}/events/default"))
        sent = [client.record_behavioral("login-start", n=n) for n in range(100)]
        client.close(timeout=20)
        assert sent == stored_ids(store)


class TestForwarding:
    def test_to_the_intake(self, tool: Tool) -> None:
        """Events go on to the configured intake, with its credentials and not the sender's; a server that begins sends what is left."""
        with FakeIntake("up", "stream") as intake:
            up = {
                "RILLEVENTS_INTAKE_USER": "up",
                "RILLEVENTS_INTAKE_PASSWORD": "stream",
                "RILLEVENTS_INTAKE_URL": intake.url,
            }
            intake.respond = lambda request: 503
            with Serving(tool, "--to", "intake", **up) as serving:
                assert verdict(1) == serving.post(event("a"), Authorization=basic("x", "y"), Cookie="c=1").json
                until(lambda: intake.requests)
                serving.process.kill()
                serving.process.wait()
            intake.respond = None
            with Serving(tool, "--to", "intake", **up) as serving:
                serving.post(event("b"), "/local/track")
                until(lambda: {"a", "b"} <= set(ids(intake.lines)))
                assert 143 == serving.stop()
            assert {basic("up", "stream")} == {request.headers["authorization"] for request in intake.requests}
            assert not any("cookie" in request.headers for request in intake.requests)

    @pytest.mark.slow
    def test_opted_out(self, tool: Tool) -> None:
        """Where its user has opted out, a server that forwards takes nothing, from the moment on that they do."""
        with FakeIntake() as intake, Serving(tool, "--to", "intake", RILLEVENTS_INTAKE_URL=intake.url) as serving:
            assert 200 == serving.post(event("a"), "/local/track").status
            until(lambda: ["a"] == list(ids(intake.lines)))
            tool("telemetry", "off")
            until(lambda: 204 == serving.post(event("b"), "/local/track").status)
            assert 403 == serving.post(event("c")).status
            tool("telemetry", "on")
            until(lambda: 200 == serving.post(event("d"), "/local/track").status)
            until(lambda: "d" in ids(intake.lines))
            assert "c" not in ids(intake.lines)

    @pytest.mark.parametrize("scheme", ["http", "HTTP"])
    def test_opted_out_of_elsewhere(self, scheme: str, tool: Tool) -> None:
        """Consent is asked for every intake, however its URL is written."""
        with FakeIntake() as intake:
            to = intake.url.replace("http", scheme, 1)
            with Serving(tool, "--to", to, DO_NOT_TRACK="1") as serving:
                assert 403 == serving.post(event("a")).status
                assert 204 == serving.post(event("a"), "/local/track").status
            assert [] == intake.requests

    def test_the_flag_wins(self, tool: Tool, tmp_path: Path) -> None:
        """--to intake is the configured intake, whatever the environment and config.toml say a flush should go to."""
        with FakeIntake() as intake:
            environ = {"RILLEVENTS_INTAKE_URL": intake.url, "RILLEVENTS_TO": f"file:{tmp_path}/other"}
            with Serving(tool, "--to", "intake", **environ) as serving:
                serving.post(event("a"))
                until(lambda: ["a"] == list(ids(intake.lines)))
        assert not (tmp_path / "other").exists()

    def test_a_file_by_its_whole_path(self, tool: Tool, tmp_path: Path) -> None:
        """A file named by a path from here is that file, wherever a later server is started: the spool of one is not another's."""
        assert f"file:{os.getcwd()}/out" == Options(to="FILE:out").destination == Options(to="file:./out").destination
        assert "file:/a/out" == Options(to="file:///a/out").destination
        assert "kafka://Host:1/T" == Options(to="KAFKA://Host:1/T").destination

    def test_no_home(self) -> None:
        """Without a home folder there is no place for a spool, and the message says what to set."""
        paths = Paths({"HOME": "/nowhere"})
        paths.state_dir = ""
        with pytest.raises(RilleventsError, match="set RILLEVENTS_HOME"):
            spool_for(paths, "http://127.0.0.1/")

    def test_status(self, tool: Tool) -> None:
        """`status` names the spool of a server that hands events on, and what became of its events; `/metrics` what waits."""
        assert "servers" not in tool.json("status")
        with FakeIntake() as intake:
            intake.respond = lambda request: 503
            with Serving(tool, "--to", intake.url) as serving:
                serving.post(event("a") + event("b"))
                assert "rillevents_pending 2.0" in serving.ask("GET", "/metrics").body.decode()
                found = only(tool.json("status")["servers"])
                assert (2, 0) == (found["events"], found["delivered"])
                intake.respond = None
                until(lambda: 2 == only(tool.json("status")["servers"])["delivered"], 60)
            assert found["spool"] in tool("status").stdout

    def test_to_a_file(self, tool: Tool, tmp_path: Path) -> None:
        """Any other exporter takes them, too; consent is not asked about what others sent."""
        with Serving(tool, "--to", f"file:{tmp_path}/out.ndjson", DO_NOT_TRACK="1") as serving:
            assert verdict(2) == serving.post(event("a") + event("b")).json
            until(
                lambda: (
                    (tmp_path / "out.ndjson").exists()
                    and event("a") + event("b") == (tmp_path / "out.ndjson").read_bytes()
                )
            )

    def test_to_the_spool(self, tool: Tool) -> None:
        """They can be put into the user's own spool, for a flush to deliver."""
        with Serving(tool, "--to", "spool") as serving:
            assert verdict(1) == serving.post(event("a")).json
            assert [event("a")] == tool.lines()

    def test_full(self, tool: Tool) -> None:
        """A spool that is full is 503 with Retry-After, and takes events again once there is room."""
        tool("config", "set", "spool.max_bytes", "1000")
        with Serving(tool, "--to", "spool") as serving:
            assert 200 == serving.post(event("a")).status
            told = serving.post(event("b", pad="x" * 2000))
            assert (503, "1") == (told.status, told.headers["retry-after"])
            assert 503 == serving.ask("GET", "/readyz").status
            assert 200 == serving.post(event("c")).status
            assert 200 == serving.ask("GET", "/readyz").status
        assert [event("a"), event("c")] == tool.lines()


class TestMetrics:
    def test_counts(self, server: Serving) -> None:
        """The metrics say what became of the events, in Prometheus's text format, and need no Host of ours."""
        server.post(event("a") + event("a") + b"{}\n")
        server.post(event("a", plan="pro"))
        told = server.ask("GET", "/metrics", Host="anything.example")
        assert told.headers["content-type"].startswith("text/plain; version=0.0.4")
        text = told.body.decode()
        for outcome in ("accepted", "duplicates", "conflicts", "invalid"):
            assert f'rillevents_events_total{{outcome="{outcome}"}} 1.0' in text
        assert "rillevents_commits_total 2.0" in text

    def test_health(self, server: Serving) -> None:
        """A server that is up says so, whatever Host it is asked by."""
        for path in ("/healthz", "/readyz"):
            assert 200 == server.ask("GET", path, Host="anything.example").status
            assert 405 == server.post(b"", path).status


class TestFaultsOfOurs:
    def test_told(self, tmp_path: Path) -> None:
        """An internal error is answered with 500 without details, and reported once to the operator."""
        told: list[str] = []
        answers: list[dict[str, object]] = []

        def broken(parameters: object) -> Answer:
            raise KeyError("secret")

        async def ask() -> None:
            committer = Committer(SpoolStorage([str(tmp_path)], max_bytes=1), asyncio.get_running_loop())
            app = App(Access(), committer, Metrics(), views={"/": broken}, warn=told.append)
            scope = {"type": "http", "method": "GET", "path": "/", "query_string": b"", "client": ("127.0.0.1", 1)}
            for _ in range(2):
                await app({**scope, "headers": [(b"host", b"localhost")]}, receive, send)

        async def receive() -> dict[str, object]:
            return {"type": "http.request", "body": b""}

        async def send(message: dict[str, object]) -> None:
            answers.append(message)

        asyncio.run(ask())
        assert [500, 500] == [message["status"] for message in answers if "status" in message]
        assert "secret" not in str(answers)
        assert ["internal error, answered with 500: KeyError: 'secret'; please report it"] == told


class TestOrder:
    def test_store(self, tool: Tool, tmp_path: Path) -> None:
        """The journal is synced after the event was written to it, and before the answer is."""
        calls = traced(tool, tmp_path, "--store", str(tmp_path / "e.db"))
        written = index(calls, lambda call: "pwrite64" in call and "-wal" in call)
        synced = index(calls, lambda call: "fdatasync" in call and "-wal" in call, written)
        assert written < synced < index(calls, lambda call: "200 OK" in call, written)

    def test_spool(self, tool: Tool, tmp_path: Path) -> None:
        """The spool's file is synced after the event was written to it, and before the answer is."""
        calls = traced(tool, tmp_path, "--to", "spool")
        written = index(calls, lambda call: "write(" in call and "/live-" in call)
        synced = index(calls, lambda call: "fdatasync" in call and "/live-" in call, written)
        assert written < synced < index(calls, lambda call: "200 OK" in call, written)


def index(calls: list[str], wanted: object, start: int = 0) -> int:
    """Return where the first such call is, from *start* on."""
    return next(number for number, call in enumerate(calls) if number >= start and wanted(call))  # type: ignore[operator]


def traced(tool: Tool, tmp_path: Path, *words: str) -> list[str]:
    """Return the system calls of a server, on all its threads, that is sent one event."""
    trace = tmp_path / "trace"
    calls = "trace=write,writev,pwrite64,fdatasync,fsync,sendto,sendmsg"

    class Traced(Tool):
        def command(self, *words: str | bytes) -> list[str | bytes]:
            return [need("strace"), "-f", "-y", "-s", "300", "-e", calls, "-o", str(trace), *super().command(*words)]

    with Serving(Traced(tool.home), *words) as serving:
        assert 200 == serving.post(event("a")).status
        assert 0 == tool_stop(serving)
    return trace.read_text().splitlines()


def tool_stop(serving: Serving) -> int:
    """Stop the server below strace, which ends as that does."""
    child = subprocess.run(
        ["ps", "--ppid", str(serving.process.pid), "-o", "pid="], capture_output=True, text=True, check=True
    )
    os.kill(int(child.stdout.split()[0]), signal.SIGTERM)
    return 0 if serving.process.wait(20) == 143 else 1
