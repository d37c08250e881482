"""Redaction: secrets are taken out when an event is recorded, and nothing else is."""

from __future__ import annotations

import decimal
import enum
import json
import pathlib
import re
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import PACE, Tool, only

from rillevents import Client, InvalidEvent, Redactor
from rillevents.event import MAX_EVENT_BYTES
from rillevents.recording import secrets as _token_forms
from rillevents.recording.redact import COUNT, DEFAULT, KEYS, MARKS, REDACTED
from rillevents.testing import CapturingSink

# Put together here, so that nobody's scanner takes this file for a leak.
SECRETS = {
    "url": ("https://[redacted]@git.example/r.git", "https://me:p@ss:word" + "@git.example/r.git"),
    "url without user": ("redis://[redacted]@cache:6379/0", "redis://:pw" + "@cache:6379/0"),
    "jwt": ("it is [redacted]!", "it is eyJhbGciOiJIUzI1NiJ9" + ".eyJzdWIiOiIxMjM0In0.abc-_x!"),
    "key": ("a [redacted] b", "a -----BEGIN RSA " + "PRIVATE KEY-----\nMIIE\n-----END RSA PRIVATE KEY----- b"),
    "key, cut off": ("a [redacted]", "a -----BEGIN " + "PRIVATE KEY-----\nMIIE"),
    "header": ("Authorization: Basic [redacted]", "Authorization: Basic " + "dXNlcjpwYXNzd29yZA=="),
    "bearer": ("curl -H 'X: Bearer [redacted]'", "curl -H 'X: Bearer " + "abcdefgh1234567890'"),
    "proxy's header": ("Proxy-Authorization: Basic [redacted]", "Proxy-Authorization: Basic " + "dXNlcjpwYXNzd29yZA=="),
    "header in JSON": (
        '{\\"Authorization\\": \\"Basic [redacted]\\"}',
        '{\\"Authorization\\": \\"Basic ' + 'dXNlcjpwYXNz\\"}',
    ),
    "two parts": ("Authorization: Bearer [redacted]", "Authorization: Bearer " + "12|aB3dE6gH9jK2"),
    "named": ("Authorization: Token [redacted]", "Authorization: Token " + "token=abcdef123456789"),
    "escaped newline": ("out\\n[redacted]", "out\\nghp_" + "a1" * 18),
    "in a URL": ("?t%3D[redacted]", "?t%3Dghp_" + "a1" * 18),
    "coloured": ("\x1b[31m[redacted]", "\x1b[31mghp_" + "a1" * 18),
    "google's machines": (REDACTED, "ya29.c." + "b0Aaekm1" * 4),
    "slack session": (REDACTED, "xoxc-" + "1234567890-abcdef"),
    "user with an at": ("https://[redacted]@host/", "https://me@example.com:pw" + "@host/"),
    "aws": ("id=[redacted]", "id=AKIA" + "IOSFODNN7EXAMPLE"),
    "github": (REDACTED, "ghp_" + "a1" * 18),
    "github, fine": (REDACTED, "github_pat_" + "a1" * 20),
    "gitlab": (REDACTED, "glpat-" + "a1" * 10),
    "slack": (REDACTED, "xoxb-" + "1234567890-abcdef"),
    "stripe": (REDACTED, "sk_live_" + "a1" * 12),
    "anthropic": (REDACTED, "sk-ant-" + "a1" * 20),
    "openai": (REDACTED, "sk-" + "a1" * 10 + "T3BlbkFJ" + "a1" * 10),
    "google": (REDACTED, "AIza" + "a" * 35),
    "npm": (REDACTED, "npm_" + "a1" * 18),
    "pypi": (REDACTED, "pypi-AgEIcHlwaS5vcmc" + "a1" * 20),
    "hugging face": (REDACTED, "hf_" + "a1" * 17),
    "digitalocean": (REDACTED, "dop_v1_" + "a1" * 32),
    "sendgrid": (REDACTED, "SG." + "a1" * 11 + "." + "a1" * 20),
    "rill": (REDACTED, "rill_usr_" + "a1" * 15),
}
# The patterns once more: the generator of texts knows no comments in them.
FORMS = (
    r"[a-z]{1,5}://[a-z]{0,5}:[a-z]{0,5}@h", r"eyJ[\w-]{12,20}(\.[\w-]{0,9}){2,4}", r"(AKIA|ASIA)[A-Z0-9]{16}",
    r"gh[pousr]_[A-Za-z0-9]{36}", r"github_pat_\w{22}", r"glpat-[\w-]{20}", r"xox[abeoprs]-[\w-]{12}",
    r"xapp-[\w-]{12}", r"[rs]k_(live|test)_\w{16}", r"sk-(ant|proj|svcacct|admin)-[\w-]{20}",
    r"sk-[a-z]{5}T3BlbkFJ\w{8}", r"AIza[\w-]{35}", r"ya29\.[\w-]{20}", r"npm_[A-Za-z0-9]{36}",
    r"pypi-AgE[\w-]{40}", r"hf_[A-Za-z0-9]{30}", r"dop_v1_[a-f0-9]{64}", r"SG\.[\w-]{16}\.[\w-]{16}",
    r"rill_(usr|svc|dpl|mgc)_\w{20}",
)  # fmt: skip
HARMLESS = [
    "https://example.com/a:b@c",
    "https://example.com:8080/?mail=a@b.example",
    "see http://localhost:8080 or write to me@example.com",
    '{"url":"http://h:80","mail":"a@b.example"}',
    "git@github.com:rilldata/rill.git",
    "basic understanding of bearer instruments",
    "task-sk-learn-something-that-is-long-enough-for-all",
    "ec85646e-227c-4322-afe8-d015b7d8df7d",
    "da39a3ee5e6b4b0d3255bfef95601890afd80709",
    "rill_usr",
    "npm_config_registry is not set",
    "-----BEGIN CERTIFICATE-----",
]


def redacted(**attributes: Any) -> dict[str, Any]:
    """What an event with these attributes has in the end, without the four fields."""
    sink = CapturingSink()
    Client(sink, on_error="raise").record("t", "n", attributes)
    event = json.loads(only(sink.events).line)
    return {key: value for key, value in event.items() if not key.startswith("event_")}


class TestKeys:
    @pytest.mark.parametrize("key", KEYS)
    def test_built_in(self, key: str) -> None:
        """The value of each listed key is replaced, however the key is written, and counted on the event."""
        for written in (key, key.upper(), key.replace("_", "-"), key.title().replace("_", "")):
            assert {written: REDACTED, COUNT: 1} == redacted(**{written: "x"})

    @pytest.mark.parametrize(
        "key", ["max_tokens", "token_count", "tokens", "password_length", "secretary", "author", "keys"]
    )
    def test_never_by_a_part_of_it(self, key: str) -> None:
        """A key that only contains a listed one is no secret."""
        assert {key: "4096"} == redacted(**{key: "4096"})

    def test_keys_that_are_no_text(self) -> None:
        """A key that is no text is no secret, and what it leads to is searched."""
        given = {"a": {1: "x", None: 2.5}}
        assert given is DEFAULT.redact(given)
        assert {"a": {1: {"token": REDACTED}}, COUNT: 1} == DEFAULT.redact({"a": {1: {"token": "x"}}})

    def test_at_any_depth(self) -> None:
        """Objects and lists are searched, each replaced value counts, and a secret that is an object goes whole."""
        found = redacted(a=[{"b": {"Api-Key": 17, "n": 1}}, ["x"]], credentials={"user": "me", "list": [1]}, k=1)
        assert {"a": [{"b": {"Api-Key": REDACTED, "n": 1}}, ["x"]], "credentials": REDACTED, "k": 1, COUNT: 2} == found

    @pytest.mark.parametrize("value", [None, True, False, "", [], {}])
    def test_nothing_is_no_secret(self, value: object) -> None:
        """Whether there is a password is not the password."""
        assert {"password": value} == redacted(password=value)

    def test_documented(self) -> None:
        """The manual lists the keys, all of them and no other."""
        page = (pathlib.Path(__file__).parents[1] / "rillevents/docs/redaction.md").read_text()
        listed = page.partition("<!-- keys -->")[2].partition("<!-- end -->")[0]
        assert list(KEYS) == re.findall(r"`(\w+)`", listed)


class TestValues:
    @pytest.mark.parametrize("kind", SECRETS)
    def test_known_forms(self, kind: str) -> None:
        """A text keeps what is around the secret in it."""
        expected, text = SECRETS[kind]
        assert {"x": expected, COUNT: 1} == redacted(x=text)
        assert {"x": [{"y": expected}], COUNT: 1} == redacted(x=[{"y": text}])

    @pytest.mark.parametrize("text", HARMLESS)
    def test_harmless(self, text: str) -> None:
        """What only looks a little like a secret stays as it is."""
        assert {"x": text} == redacted(x=text)

    def test_several_in_one(self) -> None:
        """Each secret of a text is replaced, and the text counts once."""
        text = f"{SECRETS['url'][1]} and {SECRETS['github'][1]}"
        assert {"x": "https://[redacted]@git.example/r.git and [redacted]", COUNT: 1} == redacted(x=text)

    def test_other_types(self) -> None:
        """Values that become text in JSON are searched as that text."""
        url = SECRETS["url"][1]
        kinds = enum.Enum("Kind", {"URL": url})  # type: ignore[misc]
        assert {"x": SECRETS["url"][0], COUNT: 1} == redacted(x=kinds.URL)
        assert {"x": "/etc/passwd", "n": "1.5"} == redacted(x=pathlib.PurePath("/etc/passwd"), n=decimal.Decimal("1.5"))

    @pytest.mark.slow
    @settings(max_examples=300, deadline=None)
    @given(
        st.one_of(st.from_regex(re.compile(rf"\A{form}\Z", re.ASCII)) for form in FORMS)
        | st.one_of(st.from_regex(pattern) for pattern in (_token_forms._PRIVATE_KEY, _token_forms._HEADER))
    )
    def test_the_cheap_test_misses_nothing(self, text: str) -> None:
        """Whatever a pattern matches has a mark in it that lets it be looked at."""
        if _token_forms.redacted(text, REDACTED) != text:
            assert any(mark in text for mark in MARKS) or ("@" in text and "://" in text)
            assert {"x": _token_forms.redacted(text, REDACTED), COUNT: 1} == redacted(x=text)

    @pytest.mark.parametrize(
        "piece",
        [
            "eyJ",
            "://",
            "://a:",
            "a:b@",
            "://a:b@",
            "bearer ",
            "ghp_",
            "-----BEGIN ",
            "eyJaaaaaaaa.",
            "SG.",
            "sk-",
            "\n",
        ],
    )
    def test_hostile_texts(self, piece: str) -> None:
        """A text made to be slow costs about what any text of its length costs: a part of a second, not minutes."""
        program = f"from rillevents.recording.secrets import redacted; redacted(({piece!r} * 32768)[:32768], '')"
        subprocess.run([sys.executable, "-c", program], check=True, timeout=20 * PACE)


class TestWhatStays:
    def test_type_name_and_id(self) -> None:
        """The event's own fields are never touched."""
        secret = SECRETS["github"][1]
        sink = CapturingSink()
        Client(sink).record(secret, secret, event_id=secret)
        event = only(sink.events)
        assert (secret, secret, secret) == (event.event_type, event.event_name, event.event_id)
        assert COUNT not in json.loads(event.line)

    def test_raw_events(self, tool: Tool) -> None:
        """A raw event passes byte for byte, whatever is in it."""
        line = (
            b'{"event_id":"i","event_time":"2026-11-23T10:00:00Z","event_type":"t","event_name":"n","password":"x"}\n'
        )
        sink = CapturingSink()
        Client(sink).record_raw(line)
        assert line == only(sink.events).line
        assert 0 == tool("record", "raw", stdin=line).returncode
        assert [line] == tool.lines()

    def test_the_callers_mapping(self) -> None:
        """What the caller passed stays as it was, and so do the client's own attributes."""
        given: dict[str, Any] = {"password": "x", "list": [{"token": "y"}]}
        client = Client(CapturingSink()).with_attributes(given)
        client.record("t", "n", given)
        assert {"password": "x", "list": [{"token": "y"}]} == given == client.attributes

    def test_what_holds_no_secret_is_not_copied(self) -> None:
        """Attributes without a secret come back as they are, however deep they are."""
        given = {"a": 1, "b": "x" * 40, "c": [{"d": None, "e": (1.5, "text")}]}
        assert given is DEFAULT.redact(given)

    def test_what_is_remembered(self) -> None:
        """Up to 1,024 keys and texts are remembered, each of 256 signs at most, and then all are forgotten."""
        redactor = Redactor()
        for number in range(1024):
            assert redactor.has_no_secrets({f"key {number}": f"a text of some length, {number}"})
        assert (1024, 1024) == (len(redactor._harmless), len(redactor._clean))
        assert redactor.has_no_secrets({"x" * 257: "x" * 257})
        assert (0, 0) == (len(redactor._harmless), len(redactor._clean))
        assert redactor.has_no_secrets({"x" * 256: "x" * 256})
        assert {"x" * 256} == redactor._harmless == redactor._clean

    def test_harmless_at_once(self) -> None:
        """What is ordinary is known to hold no secret the first time already, without a search; what may hold one is not."""
        redactor = Redactor()
        ordinary = {"fresh": 1, "other": "a text of some length", "none": None, "yes": True, "n": 1.5, "": "short"}
        assert [True, True] == [redactor.has_no_secrets(ordinary) for _ in range(2)]
        for value in ([], {}, ("a",), decimal.Decimal(1), SECRETS["github"][1], SECRETS["url"][1]):
            assert not redactor.has_no_secrets({"fresh": value})
        assert not redactor.has_no_secrets({"token": 1})

    @settings(max_examples=200, deadline=None)
    @given(
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.text(max_size=40),
            lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
            max_leaves=10,
        )
    )
    def test_ordinary_values(self, value: object) -> None:
        """Values without a listed key or a known form come through unchanged, and redacting twice changes nothing more."""
        found = DEFAULT.redact({"x": value})
        assert found == DEFAULT.redact(found) | ({COUNT: found[COUNT]} if COUNT in found else {})
        if COUNT not in found:
            assert {"x": value} == found

    def test_long_texts(self) -> None:
        """A text is searched as far as it may be stored: whole up to 128 KiB, and of a longer one the start."""
        secret = SECRETS["github"][1]
        text = f"{'x' * (4 * MAX_EVENT_BYTES - len(secret) - 1)} {secret}"
        assert text.replace(secret, REDACTED) == _token_forms.redacted(text, REDACTED)
        assert f"{text.replace(secret, REDACTED)}…" == _token_forms.redacted(f"{text} {secret}", REDACTED)

    @pytest.mark.parametrize("start", [0, 100, 32_000, 32_500, 32_700, 40_000, 140_000])
    def test_text_that_is_cut(self, start: int) -> None:
        """What is left of a text that is too long holds no secret, and no part of one, wherever it stood."""
        secret = SECRETS["github"][1]
        sink = CapturingSink()
        assert Client(sink, warn=lambda message: None).record(
            "t", "n", text=f"{'x ' * (start // 2)}{secret} {'y' * 40_000}"
        )
        event = only(sink.events)
        assert secret[:8] not in event.line.decode()
        assert event.truncated

    def test_keys_are_a_list(self) -> None:
        """A text in the place of the list of keys is a mistake that is told, not a list of letters."""
        with pytest.raises(TypeError):
            Redactor(keys="session")

    def test_nested_without_end(self) -> None:
        """A value within itself is an invalid event, not a crash."""
        value: list[object] = []
        value.append(value)
        with pytest.raises(InvalidEvent):
            Client(CapturingSink(), on_error="raise").record("t", "n", x=value)

    def test_no_json(self) -> None:
        """What is no JSON is told as that, redacted or not."""
        with pytest.raises(InvalidEvent, match="set"):
            Client(CapturingSink(), on_error="raise").record("t", "n", password="x", y={1})


class TestSettings:
    def test_one_of_your_own(self) -> None:
        """A redactor whose `redact` is somebody's own sees every event, also those that look harmless."""

        class Mine(Redactor):
            def redact(self, attributes: Mapping[str, Any]) -> Mapping[str, Any]:
                return {**attributes, "email": "#"}

        sink = CapturingSink()
        Client(sink, attributes={"a": 1}, redactor=Mine()).record("t", "n", email="me@example.com")
        assert "#" == only(sink.events).attributes["email"]

    def test_keys_values_and_the_switch(self) -> None:
        """Keys may be added, values left alone, and a client may be told to redact nothing."""
        url = SECRETS["url"][1]
        for redactor, expected in (
            (Redactor(["Session-ID"]), {"session_id": REDACTED, "token": REDACTED, "url": SECRETS["url"][0], COUNT: 3}),
            (Redactor(values=False), {"session_id": "s", "token": REDACTED, "url": url, COUNT: 1}),
            (None, {"session_id": "s", "token": "t", "url": url}),
        ):
            sink = CapturingSink()
            Client(sink, redactor=redactor).with_attributes(session_id="s").record("t", "n", token="t", url=url)
            found = json.loads(only(sink.events).line)
            assert expected == {key: value for key, value in found.items() if not key.startswith("event_")}

    @pytest.mark.parametrize(
        ("settings_", "expected"),
        [
            ("", {"password": REDACTED, "ssn": "1", COUNT: 1}),
            ('keys = ["SSN"]', {"password": REDACTED, "ssn": REDACTED, COUNT: 2}),
            ("enabled = false", {"password": "p", "ssn": "1"}),
        ],
    )
    def test_config(self, tool: Tool, settings_: str, expected: dict[str, Any]) -> None:
        """[redact] of config.toml holds for the command, the first time and from the cache, and for the library's client."""
        tool.home.mkdir()
        (tool.home / "config.toml").write_text(f"[redact]\n{settings_}\n")
        for _ in range(2):
            assert 0 == tool("record", "behavioral", "x", "-a", "password=p", "-a", "ssn=1").returncode
        Client.from_config(environ=tool.environ).record("behavioral", "x", password="p", ssn="1")
        events = tool.events()
        assert 3 == len(events)
        for event in events:
            assert expected == {key: event[key] for key in ("password", "ssn", COUNT) if key in event}

    def test_legacy_attributes_config_and_environment(self, tool: Tool) -> None:
        """Attributes of the configuration, the environment and the older format are searched like those of the call."""
        tool.home.mkdir()
        (tool.home / "config.toml").write_text('[attributes]\ntoken = "config"\n')
        listed = {
            "RILLEVENTS_ATTRIBUTES": "api_key=environment",
            "RILLEVENTS_SERVICE_NAME": "s",
            "RILLEVENTS_SERVICE_VERSION": "1",
        }
        words = ["record", "behavioral", "x", "--legacy", "--user-id", "u", "-a", "secret=s", "-a", "olap_connector=d"]
        assert 0 == tool(*words, **listed).returncode
        event = only(tool.events())
        assert [REDACTED] * 3 == [event[key] for key in ("token", "api_key", "secret")]
        assert (3, "d", "u") == (event[COUNT], event["payload"]["olap_connector"], event["user_id"])

    def test_nothing_of_it_is_on_the_disk(self, tool: Tool) -> None:
        """A secret that was redacted is in no file, and not in what --print shows."""
        secret = "correct-horse-battery-staple"
        done = tool(
            "record", "behavioral", "x", "-a", f"password={secret}", "-a", f"u=https://me:{secret}@h/", "--print"
        )
        assert secret not in done.stdout + done.stderr
        assert not [path for path in tool.home.rglob("*") if path.is_file() and secret in path.read_text()]

    def test_patterns_are_loaded_only_where_they_may_match(self, tool: Tool) -> None:
        """`re` is not imported for a key, a plain URL or a long text, only for a text that may hold a token."""
        script = (
            "import sys; from rillevents.recording.redact import DEFAULT\n"
            "DEFAULT.redact({'password': 'x', 'url': 'https://example.com/' + 'a' * 99, 'text': 'some words ' * 20})\n"
            "assert 're' not in sys.modules\n"
            "DEFAULT.redact({'url': 'https://a:b@example.com/'})\n"
            "assert 're' in sys.modules\n"
        )
        environ = {key: value for key, value in tool.environ.items() if "COVERAGE" not in key}
        path = f"import sys; sys.path[:0] = {sys.path!r}\n"
        subprocess.run([sys.executable, "-S", "-c", path + script], env=environ, check=True)

    def test_a_slip_elsewhere_leaves_it_on(self, tool: Tool) -> None:
        """A wrong value in one section costs that value alone: the keys of [redact] still hold, and a line says what is wrong."""
        tool.home.mkdir()
        (tool.home / "config.toml").write_text(
            '[redact]\nkeys = ["session"]\nenabled = "yes"\n[filter]\ndrop_types = "metric"\n'
        )
        for _ in range(2):
            done = tool("record", "behavioral", "x", "-a", "session=s")
            assert (0, 1) == (done.returncode, len(done.stderr.splitlines()))
            assert "redact.enabled takes true or false" in done.stderr
            assert "recorded without it, and 1 more" in done.stderr
        assert [REDACTED, REDACTED] == [event["session"] for event in tool.events()]
