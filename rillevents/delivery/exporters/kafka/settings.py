"""Which brokers and topic a destination names, and which of librdkafka's settings go with it; pure, and cheap to import."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from rillevents.delivery.url import is_loopback
from rillevents.errors import ConfigError, UsageError

DEFAULTS: Mapping[str, Any] = {
    "client.id": "rillevents",
    "acks": "all",
    "enable.idempotence": True,
    "compression.type": "lz4",
    "linger.ms": 200,
    # Below the 30 s after which a flush gives up: so that it is this that says what was wrong, and that only what was
    # not reported is sent again.
    "message.timeout.ms": 20_000,
}
PLAIN = ("", "plaintext", "sasl_plaintext")

_SHAPE = "it looks like kafka://HOST:PORT[,HOST:PORT]/TOPIC"
_URL = re.compile(r"kafka://([^/]+)/([^/]+)", re.IGNORECASE)
_SERVER = re.compile(r"(\[[0-9a-f:.]+\]|[a-z0-9_][a-z0-9_.-]*):([0-9]{1,5})", re.IGNORECASE)
_TOPIC = re.compile(r"(?!\.\.?$)[a-zA-Z0-9._-]{1,249}")
_BROKERS = f"the brokers stand in the destination: {_SHAPE}"
_NOT_SAFE = "an event would count as delivered before it is safe; leave it out"
# Name of a setting, what it may be, and what the rest would break.
_HELD = {
    "acks": (("all", "-1"), _NOT_SAFE),
    "request.required.acks": (("all", "-1"), _NOT_SAFE),
    "enable.idempotence": (("true", "t", "1"), "events would be doubled and change their order; leave it out"),
    "delivery.report.only.error": (("false", "f", "0"), "nothing would ever be acknowledged; leave it out"),
    "transactional.id": ((), "events would wait for a commit that never comes; leave it out"),
    "bootstrap.servers": ((), _BROKERS),
    "metadata.broker.list": ((), _BROKERS),
}
_CREDENTIALS = ("sasl.username", "sasl.password", "sasl.oauthbearer.")


@dataclass(frozen=True, slots=True)
class KafkaAddress:
    """The brokers to ask first, and the topic."""

    servers: tuple[tuple[str, int], ...]
    topic: str

    @property
    def short(self) -> str:
        """The destination as messages show it, with one of the brokers."""
        host, port = self.servers[0]
        return f"kafka://{host}:{port}{',…' * (len(self.servers) > 1)}/{self.topic}"

    @property
    def brokers(self) -> str:
        """The brokers as they stand in the URL."""
        return ",".join(f"{host}:{port}" for host, port in self.servers)

    @classmethod
    def from_url(cls, url: str) -> KafkaAddress:
        """Read `kafka://HOST:PORT[,HOST:PORT]/TOPIC`; raises ConfigError, and UsageError where credentials stand in it."""
        if "@" in url:
            raise UsageError(
                "secrets do not belong in a destination, where every user of this machine can read them",
                hint="set RILLEVENTS_KAFKA_SASL_USERNAME and RILLEVENTS_KAFKA_SASL_PASSWORD",
            )
        found = _URL.fullmatch(url)
        if found is None:
            raise ConfigError("this is no Kafka destination", hint=_SHAPE)
        if not _TOPIC.fullmatch(found[2]):
            raise ConfigError("no Kafka topic can have this name", hint="it has letters, digits, dots, _ and - alone")
        return cls(tuple(_server(text) for text in found[1].split(",")), found[2])


def _server(text: str) -> tuple[str, int]:
    found = _SERVER.fullmatch(text)
    if found is None or not 0 < int(found[2]) < 65536:
        raise ConfigError("the Kafka destination has a wrong host or port", hint=_SHAPE)
    if found[1].startswith("["):
        try:
            ipaddress.IPv6Address(found[1][1:-1])
        except ValueError:
            raise ConfigError("the Kafka destination has a wrong host or port", hint=_SHAPE) from None
    return found[1], int(found[2])


def producer_settings(address: KafkaAddress, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return librdkafka's settings for a producer: the defaults, and over them what is *given*.

    Raises ConfigError for what would break a promise, above all where credentials would travel in plain text.
    """
    for name, value in given.items():
        allowed, why = _HELD.get(name, ((_text(value),), ""))
        if _text(value) not in allowed:
            raise ConfigError(f"[kafka] {name} = {_text(value)} is refused", hint=why)
    far = [host for host, _ in address.servers if not is_loopback(host)]
    if far and loopback_only(given):
        reason = f"refused before connecting: credentials would travel to {far[0]} in plain text"
        raise ConfigError(reason, hint='set "security.protocol" = "SASL_SSL" under [kafka]')
    if (
        far
        and has_credentials(given)
        and _text(given.get("enable.ssl.certificate.verification")) in ("false", "f", "0")
    ):
        reason = f"refused before connecting: credentials would go to whoever answers as {far[0]}"
        raise ConfigError(reason, hint='leave "enable.ssl.certificate.verification" out, and set "ssl.ca.location"')
    endpoint = urlsplit(str(given.get("sasl.oauthbearer.token.endpoint.url", "")))
    if endpoint.scheme == "http" and not is_loopback(endpoint.hostname or ""):
        raise ConfigError(
            "refused before connecting: the client's secret would travel in plain text", hint="use https://"
        )
    plain = _text(given.get("security.protocol", "")) in PLAIN
    return {**DEFAULTS, **given, "bootstrap.servers": ",".join(_bootstrap(address, plain))}


def loopback_only(settings: Mapping[str, Any]) -> bool:
    """Return whether these settings may lead to brokers of this machine alone: because credentials travel in plain text."""
    protocol = _text(settings.get("security.protocol", ""))
    return protocol in PLAIN and (protocol == "sasl_plaintext" or has_credentials(settings))


def has_credentials(settings: Mapping[str, Any]) -> bool:
    """Return whether settings say who one is to the brokers."""
    return any(name.startswith(_CREDENTIALS) for name in settings)


def _bootstrap(address: KafkaAddress, plain: bool) -> list[str]:
    """The brokers to ask first; where no certificate is checked against it, localhost is not left to DNS."""
    found = []
    for host, port in address.servers:
        local = plain and host.lower() == "localhost"
        found += [f"{name}:{port}" for name in (("127.0.0.1", "[::1]") if local else (host,))]
    return found


def _text(value: object) -> str:
    return str(value).strip().lower()
