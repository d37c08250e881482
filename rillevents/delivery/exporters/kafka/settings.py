"""The brokers and the topic of a destination, and librdkafka's settings. Pure, and cheap to import."""

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
    # Less than the 30 s after which a flush gives up: then this timeout reports what was wrong, and only unreported messages
    # are sent again.
    "message.timeout.ms": 20_000,
}
PLAIN = ("", "plaintext", "sasl_plaintext")

_SHAPE = "it must look like kafka://HOST:PORT[,HOST:PORT]/TOPIC"
_URL = re.compile(r"kafka://([^/]+)/([^/]+)", re.IGNORECASE)
_SERVER = re.compile(r"(\[[0-9a-f:.]+\]|[a-z0-9_][a-z0-9_.-]*):([0-9]{1,5})", re.IGNORECASE)
_TOPIC = re.compile(r"(?!\.\.?$)[a-zA-Z0-9._-]{1,249}")
_BROKERS = f"the brokers are part of the destination: {_SHAPE}"
_NOT_SAFE = "an event would count as delivered before it is safe; leave it out"
# Setting → its allowed values, and what any other value would break.
_HELD = {
    "acks": (("all", "-1"), _NOT_SAFE),
    "request.required.acks": (("all", "-1"), _NOT_SAFE),
    "enable.idempotence": (("true", "t", "1"), "events would be duplicated and reordered; leave it out"),
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
        """The destination for messages, with one of the brokers."""
        host, port = self.servers[0]
        return f"kafka://{host}:{port}{',…' * (len(self.servers) > 1)}/{self.topic}"

    @property
    def brokers(self) -> str:
        """The brokers as in the URL."""
        return ",".join(f"{host}:{port}" for host, port in self.servers)

    @classmethod
    def from_url(cls, url: str) -> KafkaAddress:
        """Parse `kafka://HOST:PORT[,HOST:PORT]/TOPIC`; raises ConfigError, and UsageError if it contains credentials."""
        if "@" in url:
            raise UsageError(
                "secrets do not belong in a destination, which every user of this machine can read",
                hint="set RILLEVENTS_KAFKA_SASL_USERNAME and RILLEVENTS_KAFKA_SASL_PASSWORD",
            )
        found = _URL.fullmatch(url)
        if found is None:
            raise ConfigError("this is not a valid Kafka destination", hint=_SHAPE)
        if not _TOPIC.fullmatch(found[2]):
            raise ConfigError("this is not a valid Kafka topic name", hint="use only letters, digits, dots, _ and -")
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
    """Return librdkafka's settings for a producer: the defaults, overridden by *given*.

    Raises ConfigError for settings that would break a promise, above all if credentials would be sent in plain text.
    """
    for name, value in given.items():
        allowed, why = _HELD.get(name, ((_text(value),), ""))
        if _text(value) not in allowed:
            raise ConfigError(f"[kafka] {name} = {_text(value)} is refused", hint=why)
    far = [host for host, _ in address.servers if not is_loopback(host)]
    if far and loopback_only(given):
        reason = f"refused before connecting: credentials would be sent to {far[0]} in plain text"
        raise ConfigError(reason, hint='set "security.protocol" = "SASL_SSL" under [kafka]')
    if (
        far
        and has_credentials(given)
        and _text(given.get("enable.ssl.certificate.verification")) in ("false", "f", "0")
    ):
        reason = f"refused before connecting: any server that answers as {far[0]} would get the credentials"
        raise ConfigError(reason, hint='leave "enable.ssl.certificate.verification" out, and set "ssl.ca.location"')
    endpoint = urlsplit(str(given.get("sasl.oauthbearer.token.endpoint.url", "")))
    if endpoint.scheme == "http" and not is_loopback(endpoint.hostname or ""):
        raise ConfigError(
            "refused before connecting: the client's secret would be sent in plain text", hint="use https://"
        )
    plain = _text(given.get("security.protocol", "")) in PLAIN
    return {**DEFAULTS, **given, "bootstrap.servers": ",".join(_bootstrap(address, plain))}


def loopback_only(settings: Mapping[str, Any]) -> bool:
    """Return whether these settings may only lead to brokers on this machine, since credentials are sent in plain text."""
    protocol = _text(settings.get("security.protocol", ""))
    return protocol in PLAIN and (protocol == "sasl_plaintext" or has_credentials(settings))


def has_credentials(settings: Mapping[str, Any]) -> bool:
    """Return whether settings authenticate to the brokers."""
    return any(name.startswith(_CREDENTIALS) for name in settings)


def _bootstrap(address: KafkaAddress, plain: bool) -> list[str]:
    """The brokers to ask first; if no certificate is checked against it, localhost is not resolved by DNS."""
    found = []
    for host, port in address.servers:
        local = plain and host.lower() == "localhost"
        found += [f"{name}:{port}" for name in (("127.0.0.1", "[::1]") if local else (host,))]
    return found


def _text(value: object) -> str:
    return str(value).strip().lower()
