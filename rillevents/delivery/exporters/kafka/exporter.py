"""Batches to a Kafka topic. confluent-kafka's exceptions end here, and it is imported when the first exporter is created.

Theory of operation. Each event becomes a message, and a batch is acknowledged once the brokers have reported every message.
A batch is flushed piece by piece: its events do not wait for the linger, and the brokers are busy while the next piece is
handed over. Batches are large, so that the round trip matters little. (Handing over the next batch meanwhile was tried; it
cost more than it gained, because a flush sends what arrives in small pieces.) librdkafka retries by itself for
`message.timeout.ms`; the caller then resends only the messages that are still unreported, since reported ones are
remembered.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast
from weakref import WeakSet

from rillevents.delivery.exporters.kafka.message import reader
from rillevents.delivery.exporters.kafka.producer import (
    ADVICE,
    ORDER,
    TIMESTAMP,
    ProducerErrors,
    check,
    kind_of,
    producer_for,
)
from rillevents.delivery.exporters.kafka.sending import Sending
from rillevents.delivery.exporters.kafka.settings import KafkaAddress, loopback_only, producer_settings
from rillevents.delivery.outcome import Kind, Outcome, clean
from rillevents.delivery.url import is_loopback
from rillevents.errors import ConfigError

if TYPE_CHECKING:
    from confluent_kafka import KafkaError, Producer

    from rillevents.event.batch import Batch

# An unreachable cluster is detected within 5 s: this, plus the start of a process on a busy machine.
METADATA_SECONDS = 3.0
# How long a topic may take to appear if brokers create topics on request.
TOPIC_SECONDS = 1.0
SLICE = 0.25
# This many messages are on their way to the brokers while the next ones are handed over; and the time to get that going.
PIECE, MOMENT = 5000, 0.001
SAID = 90


class _Stop(Exception):
    def __init__(self, outcome: Outcome) -> None:
        super().__init__(outcome.reason)
        self.outcome = outcome


class KafkaExporter:
    """Sends each event as a message to a topic, and acknowledges what the brokers have reported as written.

    A message is the event's JSON, with the headers `event_id` and `event_type`; its key is the attribute *key*, or the event's
    ID without it. *settings* are librdkafka's. Raises ConfigError if the URL or the settings are not usable or break a promise,
    and if confluent-kafka is not installed; UsageError if the URL contains credentials. One call at a time; `close` may be
    called from another thread, and aborts a call. A forked child gets connections of its own.
    """

    batch_events = 10_000
    batch_bytes = 4 << 20

    def __init__(self, url: str, *, key: str = "install_id", settings: Mapping[str, Any] | None = None) -> None:
        self._address = KafkaAddress.from_url(url)
        self._settings = producer_settings(self._address, settings or {})
        self._local = loopback_only(self._settings)
        self._read = reader(key)
        self._trouble = ProducerErrors()
        self._producer: Producer | None = None
        self._found = self._failed_before = self._closed = False
        # By identity: the same event is handed over again as the same object, and equal events are different ones.
        self._reported: dict[int, bytes] = {}
        check(self._settings)
        _exporters.add(self)

    @property
    def name(self) -> str:
        """The first broker, and the topic: the destination's name in messages."""
        return self._address.short

    def export(self, batch: Batch) -> Outcome:
        """Send the batch once, and wait until all of it is reported; librdkafka retries meanwhile."""
        from confluent_kafka import KafkaException

        try:
            batch.progress(0)
            producer = self._open()
            # Check again: a call that was abandoned meanwhile must not send.
            batch.progress(0)
            return self._send(producer, batch)
        except _Stop as stop:
            return stop.outcome
        except (KafkaException, SystemError) as problem:
            # Also a SystemError: that is how a fatal error surfaces during a delivery report.
            error = problem if isinstance(problem, KafkaException) else problem.__cause__
            # Sometimes without its cause, when a debugger or coverage traces every line.
            return self._after_error(error.args[0] if isinstance(error, KafkaException) else None)

    def close(self) -> None:
        """Close the connections; unreported messages are withdrawn, and a call in another thread ends."""
        self._closed = True
        producer, self._producer = self._producer, None
        if producer is not None:
            producer.purge(blocking=False)

    def _open(self) -> Producer:
        producer = self._producer
        if producer is None and not self._closed:
            self._trouble, self._found = ProducerErrors(), False
            self._producer = producer = producer_for(self._settings, self._trouble)
        if self._closed or producer is None:
            raise _Stop(Outcome(Kind.TEMPORARY, "closed"))
        if not self._found:
            self._find_topic(producer)
            self._found = True
        return producer

    def _find_topic(self, producer: Producer) -> None:
        started = time.monotonic()
        while (problem := self._problem(producer)) is not None:
            waits = {Kind.TEMPORARY: METADATA_SECONDS, Kind.MISCONFIGURED: TOPIC_SECONDS}.get(problem.kind, 0.0)
            if time.monotonic() - started >= waits or self._closed:
                raise _Stop(problem)
            producer.poll(SLICE / 5)

    def _problem(self, producer: Producer) -> Outcome | None:
        """Look up the topic, and return the problem with it, if any."""
        from confluent_kafka import KafkaException

        try:
            found = producer.list_topics(self._address.topic, timeout=METADATA_SECONDS / 3)
        except KafkaException as error:
            producer.poll(0)
            if self._trouble.refusal:
                return self._refusal(self._trouble.refusal, "")
            reason = f"could not reach {self.name}: {self._trouble.last or error.args[0].str()}"
            # No early retry: librdkafka has retried all the time.
            return Outcome(Kind.TEMPORARY, clean(reason), math.inf)
        abroad = [broker.host for broker in found.brokers.values() if not is_loopback(broker.host)]
        if self._local and abroad:
            raise ConfigError(f"the brokers point to {abroad[0]}, where credentials would be sent in plain text")
        refused = found.topics[self._address.topic].error
        return self._refusal(refused, "") if refused else None

    def _send(self, producer: Producer, batch: Batch) -> Outcome:
        self._forget_others(batch)
        sending = Sending(producer, self._address.topic, batch.lines, self._read, self._reported, batch.acknowledge)
        self._await(sending, batch)
        return self._outcome(batch, sending)

    def _forget_others(self, batch: Batch) -> None:
        """Forget reported events that are not part of this batch, once there are more than any batch has.

        Not at once: a batch is halved, and its other half comes next. But a new flush reads new objects.
        """
        if len(self._reported) > 2 * self.batch_events:
            present = {id(line) for line in batch.lines}
            self._reported = {key: line for key, line in self._reported.items() if key in present}

    def _await(self, sending: Sending, batch: Batch) -> None:
        while True:
            goes_on = sending.advance(PIECE)
            if sending.is_over:
                return
            if self._closed:
                raise _Stop(Outcome(Kind.TEMPORARY, "closed"))
            # Not poll: flush does not wait for the linger.
            sending.producer.flush(MOMENT if goes_on else SLICE)
            batch.progress(batch.size * sending.settled // len(batch))

    def _outcome(self, batch: Batch, sending: Sending) -> Outcome:
        done, rejected = sending.done(), tuple(sending.rejected)
        if sending.failed:
            self._reported |= {id(line): line for line in done}
            error = min(sending.failed.values(), key=lambda error: ORDER.index(kind_of(error)))
            some = f"{sending.failures} of {len(batch)} events are not acknowledged: "
            refusal = self._refusal(error, some if len(batch) > 1 else "")
            # Alone it is no matter of its neighbours any more, nor of the event.
            is_clock = error.name() == TIMESTAMP and len(batch) == 1
            return replace(refusal, kind=Kind.MISCONFIGURED) if is_clock else refusal
        for line in done if self._reported else ():
            self._reported.pop(id(line), None)
        self._failed_before, self._trouble.last = self._failed_before and not done, ""
        if not done and len(batch) == 1:
            return Outcome(Kind.TOO_LARGE, rejected[0][1])
        batch.progress(batch.size)
        return Outcome(Kind.ACCEPTED, rejected=rejected)

    def _after_error(self, error: KafkaError | None) -> Outcome:
        """Drop the producer after a fatal error, so that the next call creates another; give up after two in a row."""
        outcome = self._refusal(error, "") if error else Outcome(Kind.TEMPORARY, f"{self.name}: the producer failed")
        if error and not error.fatal() and error.name() != "_FATAL":
            return outcome
        cause = self._cause_of_failure()
        before, self._failed_before = self._failed_before, True
        self._producer = None
        if cause:
            return self._refusal(cause, "")
        return replace(outcome, retry_after=math.inf) if before else outcome

    def _cause_of_failure(self) -> KafkaError | None:
        """Return the refusal that made a producer fail for good; librdkafka may report it only after the failure itself."""
        from confluent_kafka import KafkaException

        for wait in (self._producer.poll, self._producer.flush) if self._producer else ():
            try:
                wait(SLICE / 5)
            except KafkaException as problem:
                # These raise the error itself; its callback does not always get it.
                if problem.args[0].name() != "_FATAL":
                    return cast("KafkaError", problem.args[0])
            except SystemError:
                continue
        return self._trouble.refusal

    def _refusal(self, error: KafkaError, what: str) -> Outcome:
        advice = ADVICE.get(error.name(), "")
        trouble = self._trouble.last if kind_of(error) is Kind.TEMPORARY else ""
        # Shorten librdkafka's text rather than the advice.
        parts = [f"{self.name}: {what}{clean(error.str(), SAID)}", *filter(None, (clean(trouble, SAID), advice))]
        return Outcome(kind_of(error), clean("; ".join(parts)))

    def _after_fork(self) -> None:
        if self._producer is not None:
            import ctypes

            # Never collect it: its threads belong to the parent, and destroying it would wait for them.
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._producer))
            self._producer = None


_exporters: WeakSet[KafkaExporter] = WeakSet()


def _after_fork() -> None:
    for exporter in list(_exporters):
        exporter._after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
