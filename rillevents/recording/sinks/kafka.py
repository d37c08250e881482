"""A batching sink in front of a Kafka topic."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from rillevents.recording.sinks.batching import BatchingSink


class KafkaSink(BatchingSink):
    """Sends events to a Kafka topic, in the background; everything about BatchingSink applies.

    Raises ConfigError if the URL or librdkafka's *settings* are not usable, or confluent-kafka is not installed, as KafkaExporter
    does; a cluster that is down raises nothing. *key* names the attribute that becomes the message's key. *interval* replaces
    `linger.ms`: how many seconds an event may wait for others. *close_timeout* and *max_wait* are seconds, too. Forked
    children, and a sink that is used after `close`, get connections of their own.
    """

    def __init__(
        self,
        url: str,
        *,
        key: str = "install_id",
        settings: Mapping[str, Any] | None = None,
        buffer_size: int = 20_000,
        batch_events: int = 5000,
        interval: float = 0.2,
        close_timeout: float = 10.0,
        max_wait: float = 1.0,
    ) -> None:
        from rillevents.delivery.exporters.kafka.exporter import KafkaExporter

        make = partial(KafkaExporter, url, key=key, settings=dict(settings or {}))
        super().__init__(
            make(),
            renew=make,
            buffer_size=buffer_size,
            batch_events=batch_events,
            interval=interval,
            close_timeout=close_timeout,
            max_wait=max_wait,
        )
