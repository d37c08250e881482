"""Batches to a Kafka topic. confluent-kafka's exceptions end here, and it is imported only once an exporter is made.

Theory of operation. Each event becomes a message, and a batch is acknowledged once the brokers have reported every one of
them; what they did not report is not. A batch is flushed piece by piece, so that its events do not wait for the linger and
the brokers have something to do while the next piece is handed over; and it is large, so that the way to them and back counts
little. (The next batch is not handed over meanwhile: that was tried, and cost more than it gained, because a flush sends what
comes in small pieces.) librdkafka tries again by itself, for as long as `message.timeout.ms`; what is still not reported then
is sent again by whoever called, and that alone: those that were reported are remembered.
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
from rillevents.delivery.exporters.kafka.producer import ADVICE, ORDER, ProducerErrors, check, kind_of, producer_for
from rillevents.delivery.exporters.kafka.sending import Sending
from rillevents.delivery.exporters.kafka.settings import KafkaAddress, loopback_only, producer_settings
from rillevents.delivery.outcome import Kind, Outcome, clean
from rillevents.delivery.url import is_loopback
from rillevents.errors import ConfigError

if TYPE_CHECKING:
    from confluent_kafka import KafkaError, Producer

    from rillevents.event.batch import Batch

# A cluster that cannot be reached is found out within 5 s: this, and the start of a process on a busy machine.
METADATA_SECONDS = 3.0
# So long a topic may take to appear where brokers make what is asked for.
TOPIC_SECONDS = 1.0
SLICE = 0.25
# So many messages are on their way to the brokers while the next ones are handed over, and so long that takes to begin.
PIECE, MOMENT = 5000, 0.001
SAID = 90


class _Stop(Exception):
    def __init__(self, outcome: Outcome) -> None:
        super().__init__(outcome.reason)
        self.outcome = outcome


class KafkaExporter:
    """Sends each event as a message to a topic, and acknowledges what the brokers have reported as written.

    A message is the event's JSON, with the headers `event_id` and `event_type`; its key is the attribute *key*, or the event's
    ID where it has none. *settings* are librdkafka's. Raises ConfigError where the URL or the settings cannot be used, or break
    a promise, and where confluent-kafka is not installed; UsageError where the URL holds credentials. One call at a time;
    `close` may come from another thread, and ends a call under way. A child that is forked off gets connections of its own.
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
        # By identity: because the same event is handed over again as the same object, and equal ones are not the same.
        self._reported: dict[int, bytes] = {}
        check(self._settings)
        _exporters.add(self)

    @property
    def name(self) -> str:
        """The first of the brokers, and the topic: what messages call the destination."""
        return self._address.short

    def export(self, batch: Batch) -> Outcome:
        """Send the batch once, and wait until all of it is reported; librdkafka tries again meanwhile."""
        from confluent_kafka import KafkaException

        try:
            batch.progress(0)
            producer = self._open()
            # Once more: because who was left behind meanwhile must not send.
            batch.progress(0)
            return self._send(producer, batch)
        except _Stop as stop:
            return stop.outcome
        except (KafkaException, SystemError) as problem:
            # A SystemError, too: because that is what comes of a fatal error where a report is under way.
            error = problem if isinstance(problem, KafkaException) else problem.__cause__
            # And sometimes without a word about its cause, where somebody looks at every line (a debugger, coverage).
            return self._after_error(error.args[0] if isinstance(error, KafkaException) else None)

    def close(self) -> None:
        """Let go of the connections; what is not reported yet is taken back, and a call under way in another thread ends."""
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
        """Ask for the topic, and return what stands in its way."""
        from confluent_kafka import KafkaException

        try:
            found = producer.list_topics(self._address.topic, timeout=METADATA_SECONDS / 3)
        except KafkaException as error:
            producer.poll(0)
            if self._trouble.refusal:
                return self._refusal(self._trouble.refusal, "")
            reason = f"could not reach {self.name}: {self._trouble.last or error.args[0].str()}"
            # Not tried again at once: because librdkafka has, all the time.
            return Outcome(Kind.TEMPORARY, clean(reason), math.inf)
        abroad = [broker.host for broker in found.brokers.values() if not is_loopback(broker.host)]
        if self._local and abroad:
            raise ConfigError(f"the brokers lead to {abroad[0]}, where credentials would travel in plain text")
        refused = found.topics[self._address.topic].error
        return self._refusal(refused, "") if refused else None

    def _send(self, producer: Producer, batch: Batch) -> Outcome:
        self._forget_others(batch)
        sending = Sending(producer, self._address.topic, batch.lines, self._read, self._reported)
        self._await(sending, batch)
        return self._outcome(batch, sending)

    def _forget_others(self, batch: Batch) -> None:
        """Forget of what was reported that is no part of this batch, where it has become more than any batch is.

        Not at once: because a batch is halved, and the other half comes next. But a flush that begins anew reads new objects.
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
            # Not poll: because flush does not wait for the linger.
            sending.producer.flush(MOMENT if goes_on else SLICE)
            batch.progress(batch.size * sending.settled // len(batch))

    def _outcome(self, batch: Batch, sending: Sending) -> Outcome:
        done, rejected = sending.done(), tuple(sending.rejected)
        if sending.failed:
            self._reported |= {id(line): line for line in done}
            error = min(sending.failed.values(), key=lambda error: ORDER.index(kind_of(error)))
            some = f"{sending.failures} of {len(batch)} events are not acknowledged: "
            return self._refusal(error, some if len(batch) > 1 else "")
        for line in done if self._reported else ():
            self._reported.pop(id(line), None)
        self._failed_before, self._trouble.last = self._failed_before and not done, ""
        if not done and len(batch) == 1:
            return Outcome(Kind.TOO_LARGE, rejected[0][1])
        batch.progress(batch.size)
        return Outcome(Kind.ACCEPTED, rejected=rejected)

    def _after_error(self, error: KafkaError | None) -> Outcome:
        """After a fatal error, let go of the producer, so that the next call makes another; twice in a row is too much."""
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
        """Return the refusal that made a producer fail for good: it may be told only after the failure itself."""
        from confluent_kafka import KafkaException

        for wait in (self._producer.poll, self._producer.flush) if self._producer else ():
            try:
                wait(SLICE / 5)
            except KafkaException as problem:
                # The error itself comes out of these, and not always out of the callback that is there for it.
                if problem.args[0].name() != "_FATAL":
                    return cast("KafkaError", problem.args[0])
            except SystemError:
                continue
        return self._trouble.refusal

    def _refusal(self, error: KafkaError, what: str) -> Outcome:
        advice = ADVICE.get(error.name(), "")
        trouble = self._trouble.last if kind_of(error) is Kind.TEMPORARY else ""
        # What librdkafka says is cut off, rather than what to do about it.
        parts = [f"{self.name}: {what}{clean(error.str(), SAID)}", *filter(None, (clean(trouble, SAID), advice))]
        return Outcome(kind_of(error), clean("; ".join(parts)))

    def _after_fork(self) -> None:
        if self._producer is not None:
            import ctypes

            # Never collected: because its threads are the parent's, and who destroys it waits for them.
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._producer))
            self._producer = None


_exporters: WeakSet[KafkaExporter] = WeakSet()


def _after_fork() -> None:
    for exporter in list(_exporters):
        exporter._after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
