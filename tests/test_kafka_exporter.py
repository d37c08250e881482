"""The Kafka exporter and its sink against librdkafka's mock cluster: what each report means, and that nothing unreported counts."""

from __future__ import annotations

import json
import logging
import multiprocessing
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
from kafka_cluster import consume
from kafka_mock import INIT_PRODUCER_ID, PRODUCE, MockCluster
from support import PACE

from rillevents import Client, ConfigError, Event, KafkaExporter, KafkaSink
from rillevents.delivery.exporters.kafka.producer import ProducerErrors, kind_of, producer_for
from rillevents.delivery.flush import exporter_for
from rillevents.delivery.outcome import Kind, Outcome
from rillevents.delivery.pace import Deadline
from rillevents.delivery.settle import Delivery
from rillevents.event.batch import DELIVERED, UNSETTLED, Batch, Rejected

# As the protocol numbers them.
TOO_LARGE, NOT_ENOUGH_REPLICAS, TOPIC_AUTHORIZATION, CLUSTER_AUTHORIZATION = 10, 19, 29, 31
UNKNOWN_TOPIC, INVALID_TIMESTAMP, OUT_OF_ORDER, INVALID_RECORD = 3, 32, 45, 87
SOON = {"message.timeout.ms": 1500}


def lines(number: int, *, prefix: str = "e", pad: int = 0) -> list[bytes]:
    """Return so many events, of three installs."""
    return [
        b'{"event_id":"%s-%d","event_time":"2026-01-01T00:00:00Z","event_type":"log","event_name":"x",'
        b'"install_id":"i-%d","pad":"%s"}\n' % (prefix.encode(), n, n % 3, b"x" * pad)
        for n in range(number)
    ]


def ids(servers: str) -> list[str]:
    """Return the IDs of what a mock cluster holds."""
    return [json.loads(value)["event_id"] for _, value, _ in consume(servers, "events")]


@pytest.fixture
def cluster() -> Iterator[MockCluster]:
    """One mock broker."""
    with MockCluster() as mock:
        yield mock


def exported(url: str, batch: list[bytes], **settings: Any) -> Outcome:
    """Export a batch once."""
    with closing(KafkaExporter(url, settings={**SOON, **settings})) as exporter:
        return exporter.export(Batch(batch))


def settled(exporter: KafkaExporter, batch: list[bytes], *, timeout: float = 10.0) -> Any:
    """Deliver a batch as a flush does, and return the settlement."""
    delivery = Delivery(exporter, Deadline(timeout))
    try:
        return delivery.deliver(Batch(batch))
    finally:
        delivery.close()


class TestDelivery:
    def test_messages(self, cluster: MockCluster) -> None:
        """Each event is one message: its JSON, the key, two headers; and all of them are there once it says so."""
        batch = lines(50)
        with closing(exporter_for(cluster.url(), None)) as exporter:
            assert Outcome(Kind.ACCEPTED) == exporter.export(Batch(batch))
            found = consume(cluster.servers, "events")
        assert sorted(line[:-1] for line in batch) == sorted(value for _, value, _ in found)
        for key, value, headers in found:
            event = json.loads(value)
            assert event["install_id"].encode() == key
            assert [("event_id", event["event_id"].encode()), ("event_type", b"log")] == headers

    def test_another_key(self, cluster: MockCluster) -> None:
        """`key` under [kafka] names another attribute."""
        with closing(exporter_for(cluster.url(), None, kafka={"key": "pad"})) as exporter:
            exporter.export(Batch([*lines(1, pad=3), *lines(1)]))
        assert {b"xxx", b"e-0"} == {key for key, _, _ in consume(cluster.servers, "events")}

    def test_progress(self, cluster: MockCluster) -> None:
        """What is reported counts as progress, up to all bytes of the batch."""
        sent: list[int] = []
        batch = Batch(lines(20), sent.append)
        with closing(KafkaExporter(cluster.url())) as exporter:
            exporter.export(batch)
        assert (0, batch.size) == (sent[0], sent[-1])
        assert sent == sorted(sent)

    def test_linger_is_not_waited_for(self, cluster: MockCluster) -> None:
        """A batch is sent as soon as it is handed over, however long the linger."""
        with closing(KafkaExporter(cluster.url(), settings={"linger.ms": 10_000})) as exporter:
            exporter.export(Batch(lines(1)))
            started = time.monotonic()
            assert Kind.ACCEPTED is exporter.export(Batch(lines(100))).kind
        assert time.monotonic() - started < 5 * PACE

    def test_full_queue(self, cluster: MockCluster) -> None:
        """e5: a local queue that is smaller than the batch is waited for; nothing is dropped."""
        assert Kind.ACCEPTED is exported(cluster.url(), lines(100), **{"queue.buffering.max.messages": 7}).kind
        assert {f"e-{n}" for n in range(100)} == set(ids(cluster.servers))

    def test_lines_that_are_no_events(self, cluster: MockCluster) -> None:
        """A line without an ID is rejected by itself; the others are delivered."""
        outcome = exported(cluster.url(), [b"[]\n", *lines(2)])
        assert (Kind.ACCEPTED, [0]) == (outcome.kind, [index for index, _ in outcome.rejected])


class TestReports:
    def test_too_large_for_librdkafka(self, cluster: MockCluster) -> None:
        """e4: an event over message.max.bytes is rejected, alone or in company."""
        batch = [*lines(1), *lines(1, prefix="big", pad=2000), *lines(1, prefix="f")]
        with closing(KafkaExporter(cluster.url(), settings={"message.max.bytes": 1000})) as exporter:
            found = settled(exporter, batch).verdicts
            alone = settled(exporter, batch[1:2]).verdicts
        assert (DELIVERED, Rejected("too large for message.max.bytes"), DELIVERED) == found
        assert found[1:2] == alone
        assert {"e-0", "f-0"} == set(ids(cluster.servers))

    def test_too_large_for_the_broker(self, cluster: MockCluster) -> None:
        """e4: a batch that a broker finds too large is halved, and only an event that is so alone is rejected."""
        cluster.answer(PRODUCE, TOO_LARGE, TOO_LARGE)
        with closing(KafkaExporter(cluster.url(), settings=SOON)) as exporter:
            exporter.export(Batch(lines(0)))
            found = settled(exporter, [line for line in lines(8) if b'"i-1"' in line])
        assert {DELIVERED} == set(found.verdicts)
        cluster.answer(PRODUCE, TOO_LARGE)
        assert Kind.TOO_LARGE is exported(cluster.url(), lines(1)).kind

    @pytest.mark.parametrize(
        ("code", "kind", "says"),
        [
            pytest.param(TOPIC_AUTHORIZATION, Kind.REFUSED, "permission to write", id="authorization"),
            pytest.param(UNKNOWN_TOPIC, Kind.MISCONFIGURED, "create the topic", id="unknown"),
        ],
    )
    def test_the_topic_is_refused(self, cluster: MockCluster, code: int, kind: Kind, says: str) -> None:
        """e4: a topic that is not there, or not for us, stops at once, and says what to do; no event is rejected."""
        cluster.refuse("events", code)
        with closing(KafkaExporter(cluster.url())) as exporter:
            found = settled(exporter, lines(5))
        assert {UNSETTLED} == set(found.verdicts)
        assert kind is found.stop.kind
        assert says in found.stop.reason
        assert cluster.url() in found.stop.reason

    def test_writing_is_refused(self, cluster: MockCluster) -> None:
        """e4: a right that is missing when it comes to writing stops as well."""
        cluster.answer(PRODUCE, TOPIC_AUTHORIZATION)
        assert Kind.REFUSED is exported(cluster.url(), lines(1)).kind

    def test_idempotence_is_refused(self, cluster: MockCluster) -> None:
        """A user without permission to write idempotently is told so with the second batch at the latest; the first may only fail."""
        cluster.answer(INIT_PRODUCER_ID, *[CLUSTER_AUTHORIZATION] * 4)
        with closing(KafkaExporter(cluster.url(), settings=SOON)) as exporter:
            outcomes = [exporter.export(Batch(lines(1))) for _ in range(2)]
        found = next(outcome for outcome in outcomes if outcome.kind is Kind.REFUSED)
        assert "idempotently" in found.reason
        assert {Kind.REFUSED, Kind.TEMPORARY} >= {outcome.kind for outcome in outcomes}

    def test_a_refusal_whose_error_is_lost(self, cluster: MockCluster) -> None:
        """Why a producer failed for good is known from librdkafka's log too: its error, raised once, may end in another call."""
        cluster.answer(INIT_PRODUCER_ID, CLUSTER_AUTHORIZATION)
        from confluent_kafka import KafkaException

        errors = ProducerErrors()
        producer = producer_for({"bootstrap.servers": cluster.servers, "enable.idempotence": True}, errors)
        deadline = Deadline(30 * PACE)
        with pytest.raises(KafkaException):
            while not deadline.expired:
                producer.poll(0.05)
        assert errors.refusal is not None
        assert ("CLUSTER_AUTHORIZATION_FAILED", Kind.REFUSED) == (errors.refusal.name(), kind_of(errors.refusal))

    def test_invalid_record(self, cluster: MockCluster) -> None:
        """A record that a broker does not take is looked for by halving, as with an intake's 400."""
        cluster.answer(PRODUCE, INVALID_RECORD)
        assert Kind.INVALID is exported(cluster.url(), lines(1)).kind

    @pytest.mark.parametrize("times", [1, 2])
    def test_one_timestamp_refuses_a_whole_batch(self, times: int, cluster: MockCluster) -> None:
        """What was refused beside a message whose time a broker does not take is sent without it, once, and none is rejected."""
        with closing(KafkaExporter(cluster.url(), settings=SOON)) as exporter:
            cluster.answer(PRODUCE, *[INVALID_TIMESTAMP] * times)
            settlement = settled(exporter, lines(64))
        assert ({DELIVERED}, None) == (set(settlement.verdicts), settlement.stop)
        assert sorted(f"e-{n}" for n in range(64)) == sorted(ids(cluster.servers))

    @pytest.mark.parametrize("number", [1, 2, 200])
    def test_a_clock_that_no_broker_takes(self, number: int, cluster: MockCluster) -> None:
        """Where every message's time is refused everything is kept, and the line says where to look: 78, soon, and not 65."""
        cluster.answer(PRODUCE, *[INVALID_TIMESTAMP] * 500)
        with closing(KafkaExporter(cluster.url(), settings=SOON)) as exporter:
            settlement = settled(exporter, lines(number))
        assert {UNSETTLED} == set(settlement.verdicts)
        assert Kind.MISCONFIGURED is settlement.stop.kind
        assert "check this machine's clock, and the topic's message.timestamp.before.max.ms" in settlement.stop.reason

    def test_what_librdkafka_tries_again(self, cluster: MockCluster) -> None:
        """e3: what may or may not have been written is tried again by librdkafka, and is there once."""
        cluster.answer(PRODUCE, NOT_ENOUGH_REPLICAS, 20, 7)
        assert Kind.ACCEPTED is exported(cluster.url(), lines(30), **{"message.timeout.ms": 10_000}).kind
        assert {f"e-{n}" for n in range(30)} == set(ids(cluster.servers))

    def test_what_is_remembered(self, cluster: MockCluster) -> None:
        """Of what was reported in batches that failed in part, no more is remembered than a few batches are."""

        class Small(KafkaExporter):
            batch_events = 10

        with closing(Small(cluster.url(), settings=SOON)) as exporter:
            for number in range(12):
                cluster.answer(PRODUCE, INVALID_RECORD)
                # New objects, as a flush that begins anew reads them.
                assert Kind.INVALID is exporter.export(Batch(lines(30, prefix=f"r{number}"))).kind
                assert 0 < len(exporter._reported) <= 2 * Small.batch_events + 30

    def test_not_reported(self, cluster: MockCluster) -> None:
        """e2, e3: what is not reported within message.timeout.ms is not acknowledged, and says what may be wrong."""
        cluster.answer(PRODUCE, *[NOT_ENOUGH_REPLICAS] * 200)
        outcome = exported(cluster.url(), lines(3))
        assert Kind.TEMPORARY is outcome.kind
        assert "3 of 3 events are not acknowledged" in outcome.reason
        assert "replicas are in sync" in outcome.reason

    def test_only_the_rest_is_sent_again(self, cluster: MockCluster) -> None:
        """What was reported of a batch that failed in part is not sent a second time."""
        batch = Batch(lines(60))
        with closing(KafkaExporter(cluster.url(), settings=SOON)) as exporter:
            exporter.export(Batch(lines(1, prefix="first")))
            cluster.answer(PRODUCE, INVALID_RECORD)
            failed = exporter.export(batch)
            assert Kind.INVALID is failed.kind
            halves = [exporter.export(half).kind for half in batch.split()]
        assert [Kind.ACCEPTED] * 2 == halves
        found = ids(cluster.servers)
        assert len(found) == len(set(found)) == 61

    def test_equal_lines(self, cluster: MockCluster) -> None:
        """Two lines that are equal are two messages."""
        assert Kind.ACCEPTED is exported(cluster.url(), lines(1) * 2).kind
        assert ["e-0", "e-0"] == ids(cluster.servers)

    def test_fatal_error(self, cluster: MockCluster) -> None:
        """e7: after a fatal error the next call has a producer of its own; after a second one in a row nobody waits for a third."""
        with closing(KafkaExporter(cluster.url(), settings=SOON)) as exporter:
            found = []
            for codes in ([OUT_OF_ORDER], [], [OUT_OF_ORDER], [OUT_OF_ORDER]):
                cluster.answer(PRODUCE, *codes)
                found.append(exporter.export(Batch(lines(1))))
        assert [Kind.TEMPORARY, Kind.ACCEPTED, Kind.TEMPORARY, Kind.TEMPORARY] == [outcome.kind for outcome in found]
        assert [None, None, None, float("inf")] == [outcome.retry_after for outcome in found]


class TestUnreachable:
    @pytest.mark.slow
    def test_at_the_start(self) -> None:
        """e1: nobody there is told within 5 s, and not tried again for long."""
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            url = f"kafka://127.0.0.1:{taken.getsockname()[1]}/t"
            started = time.monotonic()
            outcome = exported(url, lines(1))
        assert time.monotonic() - started < 5 * PACE
        assert (Kind.TEMPORARY, float("inf")) == (outcome.kind, outcome.retry_after)
        assert "could not reach kafka://127.0.0.1" in outcome.reason
        assert "refused" in outcome.reason

    @pytest.mark.slow
    def test_in_the_midst(self, cluster: MockCluster) -> None:
        """e1, e2: a broker that goes away leaves what it did not report unacknowledged; once it is back all goes on."""
        batch = Batch(lines(20))
        with closing(KafkaExporter(cluster.url(), settings=SOON)) as exporter:
            assert Kind.ACCEPTED is exporter.export(Batch(lines(1, prefix="first"))).kind
            cluster.set_down(1)
            outcome = exporter.export(batch)
            assert Kind.TEMPORARY is outcome.kind
            assert "20 of 20" in outcome.reason
            cluster.set_up(1)
            until = time.monotonic() + 10 * PACE
            while exporter.export(batch).kind is not Kind.ACCEPTED:
                assert time.monotonic() < until
        assert {f"e-{n}" for n in range(20)} <= set(ids(cluster.servers))

    def test_deadline(self, cluster: MockCluster) -> None:
        """e2: when the deadline ends, what was not reported is unsettled, and closing takes it back at once."""
        exporter = KafkaExporter(cluster.url())
        exporter.export(Batch(lines(1)))
        cluster.set_down(1)
        started = time.monotonic()
        found = settled(exporter, lines(5), timeout=0.5)
        exporter.close()
        assert time.monotonic() - started < 3 * PACE
        assert {UNSETTLED} == set(found.verdicts)
        assert Kind.TEMPORARY is found.stop.kind

    def test_close_ends_a_call(self, cluster: MockCluster) -> None:
        """A close ends a call that waits in another thread, which acknowledges nothing; afterwards nothing is sent."""
        exporter = KafkaExporter(cluster.url())
        exporter.export(Batch(lines(1)))
        cluster.set_down(1)
        threading.Timer(0.3, exporter.close).start()
        started = time.monotonic()
        outcomes = [exporter.export(Batch(lines(3))), exporter.export(Batch(lines(3)))]
        assert time.monotonic() - started < 3 * PACE
        assert [Kind.TEMPORARY] * 2 == [outcome.kind for outcome in outcomes]
        exporter.close()

    @pytest.mark.slow
    def test_log_lines(self, caplog: pytest.LogCaptureFixture) -> None:
        """Librdkafka's log lines go to Python's logging, under rillevents.kafka."""
        with caplog.at_level(logging.DEBUG, "rillevents.kafka"), socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            exported(f"kafka://127.0.0.1:{taken.getsockname()[1]}/t", lines(1))
        assert any("Connect to" in record.getMessage() for record in caplog.records)
        assert {"rillevents.kafka"} == {record.name for record in caplog.records}


def test_brokers_elsewhere(cluster: MockCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """With credentials for this machine alone, brokers that are elsewhere are not written to."""
    monkeypatch.setattr("rillevents.delivery.exporters.kafka.exporter.is_loopback", lambda host: False)
    settings = {"sasl.username": "u", "sasl.password": "hunter2"}
    with (
        closing(KafkaExporter(cluster.url(), settings=settings)) as exporter,
        pytest.raises(ConfigError, match="plain"),
    ):
        exporter.export(Batch(lines(1)))


def event(number: int) -> Event:
    """Return an event."""
    return Event.create("log", "x", {"install_id": "i"}, event_id=f"s-{number}")


class TestSink:
    def test_delivers(self, cluster: MockCluster) -> None:
        """What a client records arrives, at the latest with close, and is counted by report."""
        sink = KafkaSink(cluster.url())
        client = Client(sink).with_install_id("i-9")
        for number in range(10):
            client.record_log("x", n=number)
        assert ("delivered", 10) == (client.flush(timeout=10).outcome, sink.counts["delivered"])
        client.record_log("last")
        client.close()
        assert (11, 0) == (sink.counts["delivered"], sink.counts["pending"])
        assert {b"i-9"} == {key for key, _, _ in consume(cluster.servers, "events")}

    def test_does_not_block(self) -> None:
        """With nobody there recording takes no time, close its timeout, and what was not delivered is counted."""
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            sink = KafkaSink(f"kafka://127.0.0.1:{taken.getsockname()[1]}/t")
            client = Client(sink)
            started = time.monotonic()
            for _ in range(100):
                client.record_log("x")
            assert time.monotonic() - started < 0.5 * PACE
            started = time.monotonic()
            sink.close(timeout=1.0)
            assert time.monotonic() - started < 2.5 * PACE
        assert {"closed": 100} == sink.counts["dropped"]

    def test_settings(self) -> None:
        """What cannot be used is told by the constructor."""
        for url, settings in (("kafka://h:1/t", {"acks": 0}), ("kafka://h/t", {}), ("kafka://h:1/t", {"nonsense": 1})):
            with pytest.raises(ConfigError):
                KafkaSink(url, settings=settings)

    def test_used_after_close(self, cluster: MockCluster) -> None:
        """A sink that is used after close starts anew."""
        sink = KafkaSink(cluster.url())
        client = Client(sink)
        for _ in range(2):
            client.record_log("x")
            client.close()
        assert 2 == sink.counts["delivered"]

    def test_fork(self, cluster: MockCluster) -> None:
        """e8: a forked child sends with a producer of its own, and ends; its parent's goes on."""
        sink = KafkaSink(cluster.url())
        client = Client(sink)
        client.record_log("parent")
        client.flush(timeout=10)
        child = multiprocessing.get_context("fork").Process(target=record_in_child, args=(client,))
        child.start()
        child.join(20)
        assert 0 == child.exitcode
        client.record_log("parent-again")
        assert "delivered" == client.flush(timeout=10).outcome
        client.close()
        names = [json.loads(value)["event_name"] for _, value, _ in consume(cluster.servers, "events")]
        assert ["child", "parent", "parent-again"] == sorted(names)


def record_in_child(client: Client) -> None:
    """Record an event, and send it."""
    client.record_log("child")
    assert "delivered" == client.flush(timeout=10).outcome
    client.close()


def test_exporter_after_a_fork(cluster: MockCluster) -> None:
    """e8: an exporter that was used before a fork is recreated in the child, which ends without waiting for the parent's threads."""
    exporter = KafkaExporter(cluster.url())
    exporter.export(Batch(lines(1, prefix="parent")))
    started = time.monotonic()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            code = int(exporter.export(Batch(lines(1, prefix="child"))).kind is not Kind.ACCEPTED)
            exporter.close()
            del exporter
        finally:
            os._exit(code)
    assert 0 == os.waitpid(child, 0)[1]
    assert time.monotonic() - started < 10 * PACE
    assert Kind.ACCEPTED is exporter.export(Batch(lines(1, prefix="again"))).kind
    exporter.close()
    assert ["again-0", "child-0", "parent-0"] == sorted(ids(cluster.servers))


FORKING = """\
import os, sys, time
from rillevents import KafkaExporter
from rillevents.event.batch import Batch
exporter = KafkaExporter(sys.argv[1])
line = b'{"event_id":"e","event_time":"2026-01-01T00:00:00Z","event_type":"log","event_name":"x"}\\n'
exporter.export(Batch([line]))
child = os.fork()
if child == 0:
    sys.exit(0)
started = time.monotonic()
code = os.waitpid(child, 0)[1]
exporter.close()
print(code, time.monotonic() - started < 0.9)
"""


def test_a_child_that_ends_as_usual(cluster: MockCluster) -> None:
    """e8: a child that clears up at its end does not wait for threads of librdkafka's that only its parent has."""
    done = subprocess.run(
        [sys.executable, "-c", FORKING, cluster.url()], capture_output=True, text=True, check=True, timeout=60
    )
    assert "0 True" == done.stdout.strip()
