"""librdkafka's producer: how it is created, what its errors mean, and what it reports about its connections."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from rillevents.delivery.outcome import Kind
from rillevents.errors import ConfigError

if TYPE_CHECKING:
    from confluent_kafka import KafkaError, Producer

OLDEST_LIBRARY = (2, 16)

# A broker refuses a whole batch of messages for one whose time it does not take. A message's time is that of its sending, so no
# event is to blame: sent later, or from a clock that is right, it passes.
TIMESTAMP = "INVALID_TIMESTAMP"
_KINDS = {
    "MSG_SIZE_TOO_LARGE": Kind.TOO_LARGE,
    "INVALID_RECORD": Kind.INVALID,
    TIMESTAMP: Kind.INVALID,
    "UNKNOWN_TOPIC_OR_PART": Kind.MISCONFIGURED,
    "_UNKNOWN_TOPIC": Kind.MISCONFIGURED,
    "_UNKNOWN_PARTITION": Kind.MISCONFIGURED,
    "TOPIC_EXCEPTION": Kind.MISCONFIGURED,
    "INVALID_REQUIRED_ACKS": Kind.MISCONFIGURED,
    "UNSUPPORTED_FOR_MESSAGE_FORMAT": Kind.MISCONFIGURED,
    "POLICY_VIOLATION": Kind.MISCONFIGURED,
    "TOPIC_AUTHORIZATION_FAILED": Kind.REFUSED,
    "CLUSTER_AUTHORIZATION_FAILED": Kind.REFUSED,
    "SASL_AUTHENTICATION_FAILED": Kind.REFUSED,
    "_AUTHENTICATION": Kind.REFUSED,
}
# Which of several errors in one batch counts: first what stops everything, last what waits for the others.
ORDER = (Kind.REFUSED, Kind.MISCONFIGURED, Kind.TEMPORARY, Kind.TOO_LARGE, Kind.INVALID)
ADVICE = {
    "UNKNOWN_TOPIC_OR_PART": "create the topic, or check its name",
    "_UNKNOWN_TOPIC": "create the topic, or check its name",
    "TOPIC_AUTHORIZATION_FAILED": "ask for permission to write to the topic",
    "CLUSTER_AUTHORIZATION_FAILED": "ask for permission to write idempotently",
    "SASL_AUTHENTICATION_FAILED": "check sasl.username and RILLEVENTS_KAFKA_SASL_PASSWORD",
    "_AUTHENTICATION": "check sasl.username and RILLEVENTS_KAFKA_SASL_PASSWORD",
    TIMESTAMP: "check this machine's clock, and the topic's message.timestamp.before.max.ms and …after.max.ms",
    "_MSG_TIMED_OUT": "check that the brokers are up and that enough replicas are in sync",
}

_log = logging.getLogger("rillevents.kafka")
# Otherwise Python would print librdkafka's lines if no logging is configured.
_log.addHandler(logging.NullHandler())


class ProducerErrors:
    """What librdkafka reported about the connections; it holds no reference to the producer."""

    def __init__(self) -> None:
        self.last = ""
        self.refusal: KafkaError | None = None

    def note(self, error: KafkaError) -> None:
        """Remember an error that librdkafka reports; called inside poll and flush."""
        if kind_of(error) is Kind.REFUSED:
            self.refusal = error
        elif error.name() != "_ALL_BROKERS_DOWN":
            self.last = error.str()

    def log(self, level: int, message: str, *args: object) -> None:
        """Pass on a line of librdkafka's log; called inside poll and flush.

        Its line about a fatal error is the only sign of it that is certain: the binding raises the error inside the call that
        reports on a message, where Python may lose it.
        """
        if level >= logging.CRITICAL:
            text = message % args
            self.refusal = next((error for error in _refusals() if error.str() in text), self.refusal)
        _log.log(level, message, *args, stacklevel=2)


def _refusals() -> list[KafkaError]:
    from confluent_kafka import KafkaError

    return [KafkaError(getattr(KafkaError, name)) for name, kind in _KINDS.items() if kind is Kind.REFUSED]


def kind_of(error: KafkaError) -> Kind:
    """Return what an error means, by who must act; for an unknown error, nobody."""
    return _KINDS.get(error.name(), Kind.TEMPORARY)


def producer_for(settings: Mapping[str, Any], trouble: ProducerErrors) -> Producer:
    """Return a producer, which starts to connect; raises ConfigError if librdkafka rejects the settings."""
    from confluent_kafka import KafkaException, Producer

    try:
        return Producer({**settings, "error_cb": trouble.note}, logger=trouble)
    except KafkaException as error:
        raise ConfigError(f"[kafka]: {error.args[0].str()}", hint="run: rillevents help kafka") from None
    except (TypeError, ValueError) as error:
        raise ConfigError(f"[kafka]: {error}", hint="run: rillevents help kafka") from None


def check(settings: Mapping[str, Any]) -> None:
    """Raise ConfigError if confluent-kafka is missing or too old, or librdkafka rejects the settings.

    Makes no connection.
    """
    try:
        from confluent_kafka import version
    except ImportError as error:
        hint = "run: pip install 'rillevents[kafka]'"
        raise ConfigError(
            f"Kafka needs the package confluent-kafka, which is not installed ({error})", hint=hint
        ) from None
    found = version()
    # Older versions return a pair of text and number.
    text = found if isinstance(found, str) else found[0]
    if tuple(int(part) for part in text.split(".")[:2]) < OLDEST_LIBRARY:
        wanted = ".".join(map(str, OLDEST_LIBRARY))
        hint = "run: pip install --upgrade 'rillevents[kafka]'"
        raise ConfigError(f"Kafka needs confluent-kafka {wanted} or later; the installed version is {text}", hint=hint)
    alone = {
        name: value for name, value in settings.items() if name not in ("bootstrap.servers", "test.mock.num.brokers")
    }
    producer_for({**alone, "log_level": 0}, ProducerErrors())
