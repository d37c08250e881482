"""What a Kafka destination may look like, which settings go with it, and which are refused; no broker is asked."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from support import Tool

from rillevents import ConfigError, UsageError
from rillevents.delivery.exporters.kafka.message import reader
from rillevents.delivery.exporters.kafka.settings import DEFAULTS, KafkaAddress, producer_settings
from rillevents.delivery.flush import exporter_for
from rillevents.local.config_file import is_secret, parse

HERE, FAR = "kafka://127.0.0.1:9/t", "kafka://kafka.example.com:9/t"


class TestAddress:
    @pytest.mark.parametrize(
        ("url", "servers", "topic"),
        [
            pytest.param("kafka://h:9092/t", [("h", 9092)], "t", id="one"),
            pytest.param("KAFKA://a:1,b.example:65535/My.topic_1-x", [("a", 1), ("b.example", 65535)], "My.topic_1-x", id="two"),
            pytest.param("kafka://[::1]:9092/t", [("[::1]", 9092)], "t", id="ipv6"),
        ],
    )  # fmt: skip
    def test_possible(self, url: str, servers: list[tuple[str, int]], topic: str) -> None:
        """Brokers with a port, separated by commas, and a topic."""
        address = KafkaAddress.from_url(url)
        assert (tuple(servers), topic) == (address.servers, address.topic)

    @pytest.mark.parametrize(
        "url",
        [
            "kafka:",
            "kafka://",
            "kafka://h:9092",
            "kafka://h:9092/",
            "kafka://h/t",
            "kafka://h:/t",
            "kafka://h:0/t",
            "kafka://h:65536/t",
            "kafka://h:1,/t",
            "kafka://h:1/t/u",
            "kafka://h:1/t?x=1",
            "kafka://h:1/..",
            "kafka://h:1/a b",
            "kafka://h:1/" + "t" * 250,
            "kafka://[::g]:1/t",
            "kafka://::1:1/t",
            "kafka://h\n:1/t",
        ],
    )
    def test_impossible(self, url: str) -> None:
        """Everything else is refused before anything is loaded."""
        with pytest.raises(ConfigError):
            KafkaAddress.from_url(url)

    def test_credentials(self) -> None:
        """A password in a destination is refused, and not repeated."""
        with pytest.raises(UsageError) as caught:
            KafkaAddress.from_url("kafka://u:hunter2@h:9092/t")
        assert "hunter2" not in str(caught.value)
        assert "RILLEVENTS_KAFKA_SASL_PASSWORD" in str(caught.value)


class TestPromises:
    def test_defaults(self) -> None:
        """Without settings every replica in sync has to have an event, once, lz4 and 200 ms."""
        found = producer_settings(KafkaAddress.from_url(HERE), {})
        assert {**DEFAULTS, "bootstrap.servers": "127.0.0.1:9"} == found
        assert ("all", True, "lz4", 200) == tuple(
            found[name] for name in ("acks", "enable.idempotence", "compression.type", "linger.ms")
        )

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("acks", 0),
            ("acks", "1"),
            ("request.required.acks", 1),
            ("enable.idempotence", False),
            ("delivery.report.only.error", True),
            ("transactional.id", "x"),
            ("bootstrap.servers", "other:9092"),
            ("metadata.broker.list", "other:9092"),
        ],
    )
    def test_broken(self, name: str, value: object) -> None:
        """A setting that breaks a promise is refused by its name, with what to do."""
        with pytest.raises(ConfigError) as caught:
            exporter_for(HERE, None, kafka={name: value})
        assert f"{name} = " in str(caught.value)
        assert caught.value.hint

    @pytest.mark.parametrize(
        ("name", "value"), [("acks", "all"), ("acks", -1), ("enable.idempotence", "true"), ("linger.ms", 5)]
    )
    def test_kept(self, name: str, value: object) -> None:
        """What keeps them passes."""
        assert value == producer_settings(KafkaAddress.from_url(HERE), {name: value})[name]

    @pytest.mark.parametrize(
        ("name", "value", "says"),
        [
            pytest.param("linger.msec", 5, "linger.msec", id="unknown"),
            pytest.param("linger.ms", "soon", "Invalid value", id="value"),
            pytest.param("max.in.flight", 6, "max.in.flight", id="idempotence"),
            pytest.param("on_delivery", "x", "on_delivery", id="callback"),
        ],
    )
    def test_what_librdkafka_does_not_take(self, name: str, value: object, says: str) -> None:
        """What librdkafka refuses is told before it connects, in its own words."""
        pytest.importorskip("confluent_kafka", reason="it has no wheel for this Python yet")
        with pytest.raises(ConfigError, match=says):
            exporter_for(HERE, None, kafka={name: value})


class TestCredentials:
    @pytest.mark.parametrize(
        "settings",
        [
            pytest.param({"sasl.username": "u", "sasl.password": "hunter2"}, id="no-protocol"),
            pytest.param({"security.protocol": "PLAINTEXT", "sasl.password": "hunter2"}, id="plaintext"),
            pytest.param({"security.protocol": "sasl_plaintext"}, id="sasl-plaintext"),
            pytest.param({"sasl.oauthbearer.client.secret": "hunter2"}, id="oauth"),
        ],
    )
    def test_not_in_plain_text(self, settings: dict[str, str]) -> None:
        """Off loopback credentials go over TLS or not at all, and nobody is connected to before."""
        for url in (FAR, "kafka://127.0.0.1:9,kafka.example.com:9/t", "kafka://localhost.example.com:9/t"):
            with pytest.raises(ConfigError, match="in plain text") as caught:
                producer_settings(KafkaAddress.from_url(url), settings)
            assert "hunter2" not in str(caught.value)
        for url in (HERE, "kafka://localhost:9,[::1]:9/t"):
            producer_settings(KafkaAddress.from_url(url), settings)

    @pytest.mark.parametrize(
        ("more", "says"),
        [
            pytest.param({"enable.ssl.certificate.verification": False}, "any server that answers", id="unverified"),
            pytest.param(
                {"sasl.oauthbearer.token.endpoint.url": "http://id.example.com/t"}, "in plain text", id="oauth"
            ),
        ],
    )
    def test_not_to_whoever_answers(self, more: dict[str, object], says: str) -> None:
        """Nor do they go where nobody's certificate is looked at."""
        settings = {"security.protocol": "SASL_SSL", "sasl.username": "u", "sasl.password": "hunter2", **more}
        with pytest.raises(ConfigError, match=says) as caught:
            producer_settings(KafkaAddress.from_url(FAR), settings)
        assert "hunter2" not in str(caught.value)

    def test_over_tls(self) -> None:
        """Over TLS they go wherever the destination leads."""
        settings = {"security.protocol": "SASL_SSL", "sasl.username": "u", "sasl.password": "p"}
        assert "p" == producer_settings(KafkaAddress.from_url(FAR), settings)["sasl.password"]

    def test_localhost_is_not_asked_for(self) -> None:
        """Without TLS exactly localhost is this machine, whatever DNS says."""
        found = producer_settings(KafkaAddress.from_url("kafka://LOCALHOST:9/t"), {})
        assert "127.0.0.1:9,[::1]:9" == found["bootstrap.servers"]

    @pytest.mark.parametrize(
        ("key", "expected"),
        [
            ("kafka.sasl.password", True),
            ("kafka.ssl.key.password", True),
            ("kafka.ssl.keystore.password", True),
            ("kafka.ssl.key.pem", True),
            ("kafka.sasl.oauthbearer.client.secret", True),
            ("kafka.sasl.oauthbearer.config", True),
            ("kafka.sasl.oauthbearer.assertion.private.key.passphrase", True),
            ("kafka.sasl.username", False),
            ("kafka.ssl.ca.location", False),
            ("intake.password", True),
            ("attributes.password", False),
        ],
    )
    def test_secrets_are_known(self, key: str, expected: bool) -> None:
        """What librdkafka calls its secrets is treated as the intake's are."""
        assert expected is is_secret(key)


class TestMessages:
    LINE = b'{"event_id":"e-1","event_time":"2026-01-01T00:00:00Z","event_type":"log","event_name":"x"%s}\n'

    @pytest.mark.parametrize(
        ("key", "more", "expected"),
        [
            pytest.param("install_id", b',"install_id":"i-1"', "i-1", id="attribute"),
            pytest.param("install_id", b"", "e-1", id="none"),
            pytest.param("install_id", b',"install_id":""', "e-1", id="empty"),
            pytest.param("install_id", b',"install_id":null', "e-1", id="null"),
            pytest.param("install_id", b',"install_id":{"a":1}', "e-1", id="object"),
            pytest.param("install_id", b',"install_id":true', "e-1", id="switch"),
            pytest.param("shard", b',"shard":17', "17", id="number"),
            pytest.param("shard", b',"shard":1e999', "inf", id="a-number-that-is-none"),
            pytest.param("key", b',"key":"k"', "k", id="called-key"),
            pytest.param("event_id", b',"key":"k"', "e-1", id="event-id"),
            pytest.param("event_type", b"", "log", id="event-type"),
            pytest.param("user_id", ',"user_id":"\u00fc"'.encode(), "\u00fc", id="unicode"),
        ],
    )
    def test_key(self, key: str, more: bytes, expected: str) -> None:
        """A message's key is the attribute asked for, and never nothing; its value is the line, its headers say what it is."""
        line = self.LINE % more
        assert (line[:-1], expected, [("event_id", "e-1"), ("event_type", "log")]) == reader(key)(line)

    @pytest.mark.parametrize(
        "line",
        [
            b"[]\n",
            b'{"event_id":"x"}\n',
            b"{\n",
            b'{"event_id":"\\ud800","event_type":"x"}\n',
            b'{"event_id":1,"event_type":"x"}\n',
        ],
    )
    def test_no_event(self, line: bytes) -> None:
        """What is no event has a reason in place of a message."""
        assert str(reader("install_id")(line)).startswith("not a valid event")


class TestConfiguration:
    def test_both_ways_to_write_a_setting(self) -> None:
        """Dots in a key mean the same with quotes and without them."""
        quoted = parse(b'[kafka]\n"linger.ms" = 5\n"ssl.ca.location" = "x"\nkey = "user_id"\n', "c")
        bare = parse(b'[kafka]\nlinger.ms = 5\nssl.ca.location = "x"\nkey = "user_id"\n', "c")
        assert quoted.sections == bare.sections == {"kafka": {"linger.ms": 5, "ssl.ca.location": "x", "key": "user_id"}}
        assert [] == quoted.warnings == bare.warnings

    @pytest.mark.parametrize("text", ['x = ["hunter2"]', "x = {}", 'x = ""', "x = 2026-01-01"])
    def test_wrong_values(self, text: str) -> None:
        """A value that no setting takes is an error that does not show it."""
        with pytest.raises(ConfigError, match=r"kafka\.x takes text, a number, true or false") as caught:
            parse(f"[kafka]\n{text}\n".encode(), "c")
        assert "hunter2" not in str(caught.value)

    def test_set_and_unset(self, tool: Tool) -> None:
        """`config set` writes a setting of librdkafka's, whichever way it stands there already, and `config unset` removes it."""
        tool.home.mkdir()
        file = Path(tool.paths.config_file)
        file.write_text("[kafka]\nlinger.ms = 5\n")
        assert 0 == tool("config", "set", "kafka.linger.ms", "7").returncode
        assert 0 == tool("config", "set", "kafka.security.protocol", "SASL_SSL").returncode
        assert {"kafka.linger.ms": 7, "kafka.security.protocol": "SASL_SSL"} == tool.json("config", "list")
        assert 0 == tool("config", "unset", "kafka.linger.ms").returncode
        assert 0 == tool("config", "unset", "kafka.security.protocol").returncode
        assert {} == tool.json("config", "list")
        tomllib.loads(file.read_text())

    def test_secrets(self, tool: Tool) -> None:
        """A secret is refused as an argument, read from stdin, kept 0600, and not shown."""
        refused = tool("config", "set", "kafka.sasl.password", "hunter2")
        assert 2 == refused.returncode
        assert 0 == tool("config", "set", "kafka.sasl.password", stdin=b"hunter2\n").returncode
        assert "hunter2" in Path(tool.paths.config_file).read_text()
        assert 0o600 == stat.S_IMODE(os.stat(tool.paths.config_file).st_mode)
        assert "hunter2" not in tool("config", "list").stdout + tool("config", "get", "kafka.sasl.password").stdout
        os.chmod(tool.paths.config_file, 0o644)
        assert "contains a secret that other users can read" in tool("config", "list").stderr

    @pytest.mark.parametrize(
        ("to", "code"), [("kafka://h:9092/t", 0), ("kafka://h/t", 2), ("kafka://u:hunter2@h:9092/t", 2)]
    )
    def test_the_destination_is_checked(self, tool: Tool, to: str, code: int) -> None:
        """`config set flush.to` takes a Kafka destination that is one, and none with a password."""
        done = tool("config", "set", "flush.to", to)
        assert code == done.returncode, done.stderr
        assert "hunter2" not in done.stderr

    @pytest.mark.slow
    def test_credentials_stay_with_their_brokers(self, tool: Tool) -> None:
        """Credentials of config.toml are for the brokers of flush.to; those of the environment for whatever is asked for."""
        pytest.importorskip("confluent_kafka", reason="it has no wheel for this Python yet")
        tool("record", "behavioral", "x")
        Path(tool.paths.config_file).write_text(
            '[flush]\nto = "kafka://h.example:9/t"\n[kafka]\n"security.protocol" = "SASL_SSL"\n'
            '"sasl.mechanism" = "PLAIN"\n"sasl.username" = "u"\n"sasl.password" = "hunter2"\n'
        )
        os.chmod(tool.paths.config_file, 0o600)
        other = tool("flush", "--to", "kafka://127.0.0.1:9/t", "--timeout", "3")
        # One of those among others is not enough: any of them may be the one that is asked.
        mixed = tool("flush", "--to", "kafka://127.0.0.1:9,h.example:9/t", "--timeout", "3")
        for refused in (other, mixed):
            assert 78 == refused.returncode
            assert "are for the brokers of flush.to" in refused.stderr
            assert "hunter2" not in refused.stderr
        given = tool("flush", "--to", "kafka://127.0.0.1:9/t", "--timeout", "1", RILLEVENTS_KAFKA_SASL_PASSWORD="p")
        assert 75 == given.returncode, given.stderr


def hidden(name: str, body: str, tmp_path: Path) -> dict[str, Any]:
    """Return an environment in which a package is another one."""
    (tmp_path / name).mkdir()
    (tmp_path / name / "__init__.py").write_text(body)
    return {"PYTHONPATH": str(tmp_path)}


@pytest.mark.parametrize(
    ("body", "says"),
    [
        pytest.param("raise ImportError('no librdkafka')", "is not installed", id="missing"),
        pytest.param("def version(): return ('1.9.2', 1)", "1.9.2", id="old"),
    ],
)
def test_without_the_library(tool: Tool, tmp_path: Path, body: str, says: str) -> None:
    """Without confluent-kafka, or with one that is too old, a flush says how to install it, keeps everything and exits 78."""
    tool("record", "behavioral", "x")
    done = tool("flush", "--to", HERE, **hidden("confluent_kafka", body, tmp_path))
    assert 78 == done.returncode
    assert says in done.stderr
    assert "rillevents[kafka]" in done.stderr
    assert 1 == len(tool.lines())


def test_nothing_else_loads_it() -> None:
    """Neither the package, nor the destinations, nor the sinks load confluent-kafka."""
    code = (
        "import sys, rillevents.delivery.destination, rillevents.recording.sinks.kafka, rillevents.delivery.exporters.kafka.exporter, rillevents.cli.app\n"
        "print([name for name in sys.modules if name.startswith('confluent_kafka')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "[]" == done.stdout.strip()
