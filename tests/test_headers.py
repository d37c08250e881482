"""Header fields that a person adds to requests: what they may be, who gets them, and that nobody else sees them."""

# ruff: noqa: F401, F811 - fixtures are imported

from __future__ import annotations

import contextlib
import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from receiving import Home, home
from support import Tool, only, snapshot

from rillevents import Client, ConfigError, IntakeExporter, IntakeSink
from rillevents.delivery.flush import exporter_to
from rillevents.delivery.outcome import Kind
from rillevents.event.batch import Batch
from rillevents.local import Paths, config
from rillevents.local.headers import check_headers, headers_of, parse_headers
from rillevents.testing import FakeIntake, Request, Response

from .faults.socket_server import OK, FaultServer, answering

SECRET = "s3cret-k3y"
OURS = ["Host", "Content-Type", "Content-Length", "Content-Encoding", "Content-", "Transfer-Encoding", "Connection", "Expect", "TE"]  # fmt: skip


@pytest.fixture(scope="module")
def running() -> Iterator[FakeIntake]:
    """One intake for all of these tests."""
    with FakeIntake() as intake:
        yield intake


@pytest.fixture
def intake(running: FakeIntake) -> FakeIntake:
    """An intake that has got nothing yet, and answers 200."""
    running.requests.clear()
    running.respond = None
    return running


class TestRules:
    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("X-Api-Key=a", {"X-Api-Key": "a"}),
            (" X-Api-Key = a%20b%2C%3D , B=c=d,", {"X-Api-Key": "a b,=", "B": "c=d"}),
            ("X%2DApi=%61", {"X-Api": "a"}),
            ("a=1,A=2,b=3", {"A": "2", "b": "3"}),
            ("a=", {"a": ""}),
            ("!#$&'*+.^_`|~09=~ !", {"!#$&'*+.^_`|~09": "~ !"}),
        ],
    )
    def test_possible(self, text: str, expected: dict[str, str]) -> None:
        """Pairs of a token and visible characters, percent-decoded; of a name in any case the last one wins."""
        assert expected == parse_headers(text) == check_headers(expected)

    @pytest.mark.parametrize("name", OURS)
    @pytest.mark.parametrize("change", [str, str.lower, str.upper], ids=["as-it-is", "lower", "upper"])
    def test_ours(self, name: str, change: type[str]) -> None:
        """What frames a request, or says what it holds, is not theirs to set, in any case."""
        for told in ({change(name): SECRET}, f"{change(name)}={SECRET}", {f"X-{name}": SECRET, change(name): SECRET}):
            with pytest.raises(ConfigError, match=f"(?i)X takes header fields other than {name}") as caught:
                headers_of("X", told)
            assert SECRET not in f"{caught.value} {caught.value.hint}"
        assert {f"X-{name}": "a"} == check_headers({f"X-{name}": "a"})

    @pytest.mark.parametrize(
        "told",
        [
            f"{SECRET}",
            f"X-Api-Key={SECRET},{SECRET}",
            f"={SECRET}",
            f"X Api Key={SECRET}",
            f"X:Y={SECRET}",
            f"Ü={SECRET}",
            f"X%0d%0aY={SECRET}",
            f"X={SECRET}%0aY: z",
            f"X={SECRET}%00",
            f"X={SECRET}%09",
            f"X={SECRET}ü",
            f"X={SECRET}%7f",
            f"X={SECRET}%ff",
            {"X": f"{SECRET}\n"},
            {"X": [SECRET]},
            {"X": 5},
            {"": SECRET},
            {"X\n": SECRET},
        ],
    )
    def test_impossible(self, told: object) -> None:
        """A name that is no token, or a value that a header cannot carry, is told without any value."""
        with pytest.raises(ConfigError, match=r"^X takes ") as caught:
            headers_of("X", told)  # type: ignore[arg-type]
        assert SECRET not in f"{caught.value} {caught.value.hint}"

    @given(st.text(st.characters(max_codepoint=300), max_size=30))
    def test_any_text(self, text: str) -> None:
        """Whatever a text holds, what comes of it can stand in a request, and parsing it again changes nothing."""
        with contextlib.suppress(ValueError):
            found = parse_headers(text)
            assert all(f"{name}{value}".isascii() and f"{name}{value}".isprintable() for name, value in found.items())
            assert found == check_headers(found)


def table(**told: object) -> str:
    return "[intake]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in told.items())


class TestOnTheWire:
    def sent(self, home: Home, intake: FakeIntake, to: str = "", **environ: str) -> dict[str, str]:
        """Return the header fields of the one request, without those of every request."""
        assert "delivered" == home.flush(to, **environ).outcome
        usual = ("host", "user-agent", "accept", "accept-encoding", "content-type", "content-length")
        return {name: value for name, value in only(intake.requests).headers.items() if name not in usual}

    def test_by_variable(self, home: Home, intake: FakeIntake) -> None:
        """The variable's fields are sent beside those of every request, percent-decoded."""
        environ = {"RILLEVENTS_INTAKE_URL": intake.url, "RILLEVENTS_INTAKE_HEADERS": "X-Api-Key=a%20b,X-Scope=s"}
        assert {"x-api-key": "a b", "x-scope": "s"} == self.sent(home, intake, **environ)

    def test_in_place_of_ours(self, home: Home) -> None:
        """A field that every request has may be another one, in any case of its name, and is then sent once."""
        with FaultServer(answering(OK)) as server:
            home.flush(RILLEVENTS_INTAKE_URL=server.url, RILLEVENTS_INTAKE_HEADERS="user-AGENT=mine,ACCEPT=a/b")
        head = only(server.requests).partition(b"\r\n\r\n")[0].lower().split(b"\r\n")
        told = [field for field in head if field.startswith((b"user-agent:", b"accept:", b"content-length:"))]
        assert [b"accept: a/b", b"content-length: ", b"user-agent: mine"] == [
            text.rstrip(b"0123456789") for text in sorted(told)
        ]

    @pytest.mark.parametrize("told", ['{"X-Api-Key" = "a b", "X-Scope" = ""}', '"X-Api-Key=a%20b,X-Scope="'])
    def test_by_configuration(self, home: Home, intake: FakeIntake, told: str) -> None:
        """In config.toml they are a table, or a text like that of the variable."""
        home.configure(f'[intake]\nurl = "{intake.url}"\nheaders = {told}')
        assert {"x-api-key": "a b", "x-scope": ""} == self.sent(home, intake)
        assert [] == home.warnings

    def test_the_environment_wins(self, home: Home, intake: FakeIntake) -> None:
        """The variable stands in for all fields of config.toml; the other credentials there remain."""
        home.configure(table(url=intake.url, token="t", headers="A=1,B=1"))
        environ = {"RILLEVENTS_INTAKE_HEADERS": "B=2"}
        assert {"b": "2", "authorization": "Bearer t"} == self.sent(home, intake, **environ)

    @pytest.mark.parametrize(
        ("environ", "expected"),
        [
            ({"TOKEN": "t"}, "Bearer t"),
            ({"USER": "u", "PASSWORD": "p"}, "Basic dTpw"),
            ({"HEADERS": "authorization=Custom c,X-Scope=s"}, "Custom c"),
            ({}, "Configured"),
        ],
    )
    def test_the_environment_authorizes(
        self, home: Home, intake: FakeIntake, environ: dict[str, str], expected: str
    ) -> None:
        """Credentials of the environment stand in for an Authorization of config.toml; its other fields remain."""
        home.configure(table(url=intake.url, headers="Authorization=Configured,X-Scope=s"))
        said = {f"RILLEVENTS_INTAKE_{name}": value for name, value in environ.items()}
        assert {"authorization": expected, "x-scope": "s"} == self.sent(home, intake, **said)

    def test_another_way_to_authorize(self, home: Home, intake: FakeIntake) -> None:
        """An Authorization of the environment does not go beside a user or token of config.toml: 78, nothing is sent."""
        for told in ({"user": "u", "password": SECRET}, {"token": SECRET}):
            home.configure(table(url=intake.url, **told))
            result = home.flush(RILLEVENTS_INTAKE_HEADERS="AUTHORIZATION=a")
            assert ("unconfigured", 1, []) == (result.outcome, result.pending, intake.requests)
            assert ("Authorization" in result.reason, SECRET in result.reason) == (True, False)

    @pytest.mark.parametrize("told", [{"user": "u", "password": SECRET}, {"token": SECRET}, {"user": "u"}])
    @pytest.mark.parametrize("where", ["config", "environment", "url"])
    def test_authorized_twice(self, home: Home, intake: FakeIntake, told: dict[str, str], where: str) -> None:
        """An Authorization beside a user or a token is refused wherever they come from: 78, nothing is sent."""
        told = {"url": intake.url, "headers": f"AuthoriZation={SECRET}", **told}
        if where == "url":
            told = {"url": intake.url.replace("//", f"//u:{SECRET}@"), "headers": told["headers"]}
        if where == "config":
            home.configure(table(**told))
            told = {}
        result = home.flush(**{f"RILLEVENTS_INTAKE_{key.upper()}": value for key, value in told.items()})
        assert ("unconfigured", 1, []) == (result.outcome, result.pending, intake.requests)
        assert ("Authorization is set twice" in result.reason, SECRET in result.reason) == (True, False)

    @pytest.mark.parametrize("where", ["config", "environment"])
    def test_they_stay_with_their_origin(self, home: Home, intake: FakeIntake, where: str) -> None:
        """Another path of the intake gets them, another origin does not."""
        told = {"url": intake.url, "headers": f"X-Api-Key={SECRET}"}
        if where == "config":
            home.configure(table(**told))
            told = {}
        environ = {f"RILLEVENTS_INTAKE_{key.upper()}": value for key, value in told.items()}
        for to, expected in ((f"{intake.url}?x=1", SECRET), (intake.url.replace("127.0.0.1", "localhost"), None)):
            home.add()
            assert "delivered" == home.flush(to, **environ).outcome
            assert expected == intake.requests[-1].headers.get("x-api-key")

    def test_those_of_the_configuration(self, home: Home, intake: FakeIntake) -> None:
        """Those of config.toml go to the URL there, not to that of the environment."""
        home.configure(table(url="http://127.0.0.1:1/events", headers=f"X-Api-Key={SECRET}"))
        assert {} == self.sent(home, intake, RILLEVENTS_INTAKE_URL=intake.url)

    def test_in_plain_text(self, home: Home) -> None:
        """Off this machine they go over TLS or not at all: 78, and nobody is connected to before."""
        environ = {"RILLEVENTS_INTAKE_URL": "http://192.0.2.1/events", "RILLEVENTS_INTAKE_HEADERS": f"A={SECRET}"}
        result = home.flush(**environ)
        assert ("unconfigured", 1, 0) == (result.outcome, result.pending, result.requests)
        assert ("refused before connecting" in result.reason, SECRET in result.reason) == (True, False)

    @pytest.mark.parametrize("text", [SECRET, f"Host={SECRET}", f"X={SECRET}%0a"])
    def test_wrong_ones(self, home: Home, intake: FakeIntake, text: str) -> None:
        """Fields that cannot be sent are 78, told by the name of the variable alone."""
        result = home.flush(RILLEVENTS_INTAKE_URL=intake.url, RILLEVENTS_INTAKE_HEADERS=text)
        assert ("unconfigured", []) == (result.outcome, intake.requests)
        assert ("RILLEVENTS_INTAKE_HEADERS" in result.reason, SECRET in result.reason) == (True, False)

    def test_renewed(self, home: Home, intake: FakeIntake) -> None:
        """After a 401 they are read again: if they are others by then, the batch is sent once more; if not, it is not."""
        keys: list[str] = []

        def respond(request: Request) -> int:
            keys.append(request.headers["x-api-key"])
            return 200 if keys[-1] == "new" else 401

        intake.respond = respond
        home.configure(table(url=intake.url, headers="X-Api-Key=old"))
        paths = Paths(home.environ)
        with contextlib.closing(exporter_to(paths, config.load(paths))) as exporter:  # type: ignore[type-var]
            batch = Batch([b'{"event_id":"1"}\n'])
            assert Kind.REFUSED is exporter.export(batch).kind
            home.configure(table(url=intake.url, headers="x-api-key=new"))
            assert [Kind.ACCEPTED] * 2 == [exporter.export(batch).kind for _ in range(2)]
        assert ["old", "old", "new", "new"] == keys


class TestSink:
    def test_delivers(self, intake: FakeIntake) -> None:
        """A sink sends the fields that were given to it, beside its credentials."""
        client = Client(IntakeSink(intake.url, user="u", password="p", headers={"X-Api-Key": SECRET}))
        client.record("t", "n")
        assert 1 == client.flush(20).delivered
        client.close()
        headers = only(intake.requests).headers
        assert (SECRET, "Basic dTpw") == (headers["x-api-key"], headers["authorization"])

    @pytest.mark.parametrize(
        ("url", "more"),
        [
            ("http://intake.example/", {}),
            ("http://127.0.0.1:1/", {"token": SECRET}),
            ("http://127.0.0.1:1/", {"user": "u"}),
            ("http://127.0.0.1:1/", {"headers": {"Connection": SECRET}}),
        ],
    )
    def test_wrong_arguments(self, url: str, more: dict[str, object]) -> None:
        """What must not be sent raises at once, and shows no secret."""
        for kind in (IntakeSink, IntakeExporter):
            with pytest.raises(ConfigError) as caught:
                kind(url, **{"headers": {"Authorization": SECRET}, **more})  # type: ignore[arg-type]
            assert SECRET not in str(caught.value)


class TestCommand:
    @pytest.mark.parametrize("key", ["intake.headers", "otlp.headers"])
    def test_set(self, tool: Tool, key: str) -> None:
        """They are read from stdin, never from an argument, kept 0600, and shown by their names alone."""
        refused = tool("config", "set", key, f"X-Api-Key={SECRET}")
        assert (2, False) == (refused.returncode, SECRET in refused.stderr + refused.stdout)
        done = tool("config", "set", key, stdin=f"X-Api-Key={SECRET},B=c%20d\n".encode())
        assert 0 == done.returncode, done.stderr
        assert SECRET in Path(tool.paths.config_file).read_text()
        assert 0o600 == stat.S_IMODE(os.stat(tool.paths.config_file).st_mode)
        assert {key: {"X-Api-Key": "***", "B": "***"}} == tool.json("config", "list")
        shown = tool("config", "get", key).stdout
        assert ("X-Api-Key" in shown, "***" in shown, SECRET in shown) == (True, True, False)

    @pytest.mark.parametrize("text", [SECRET, f"Host={SECRET}", f'{{"X" = "{SECRET}\\n"}}', f'{{"X" = ["{SECRET}"]}}'])
    def test_wrong_ones(self, tool: Tool, text: str) -> None:
        """Those that cannot be sent are a usage error that shows nothing of them, and change no file."""
        done = tool("config", "set", "intake.headers", stdin=text.encode())
        assert (2, False) == (done.returncode, SECRET in done.stderr + done.stdout)
        assert not os.path.exists(tool.paths.config_file)

    def test_nobody_sees_them(self, tool: Tool, intake: FakeIntake) -> None:
        """No command shows them, and no file but config.toml has them, whatever goes wrong."""
        tool.home.mkdir()
        file = Path(tool.paths.config_file)
        intake.respond = lambda request: Response(401, f"{SECRET} is too old".encode())
        shown = []
        for code, text in (
            (77, f'url = "{intake.url}"\nheaders = {{"X-Api-Key" = "{SECRET}"}}'),
            (78, f'[otlp]\nheaders = ["{SECRET}"]'),
            (78, f'headers = "{SECRET}'),
        ):
            file.write_text(f'[intake]\n{text}\n[attributes]\na = "b"\n')
            done = [tool(*words) for words in (("record", "behavioral", "x"), ("flush",), ("config", "list"))]
            shown += [each.stdout + each.stderr for each in done]
            assert code == done[1].returncode
        for words in (("status", "--json"), ("flush", "--help"), ("flush", "--dry-run")):
            found = tool(*words, RILLEVENTS_INTAKE_HEADERS=f"X-Api-Key={SECRET}")
            shown.append(found.stdout + found.stderr)
        assert SECRET not in "".join(shown)
        assert "*** is too old" in "".join(shown)
        kept = snapshot(tool.home)
        assert ["config.toml"] == [name for name, content in kept.items() if SECRET.encode() in content]
        assert 4 < len(kept)
