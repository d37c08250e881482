"""Delivery to a Kafka topic beside a bare confluent-kafka loop with the same settings, key and headers, on three brokers here.

    python tests/benchmarks/kafka.py [ROUNDS] [--save]

Needs Java and Apache Kafka (kafka_cluster.py). The console script of a plain venv, a program with a KafkaSink, and the loop are
processes of their own, in turn; each says how long it took from its first event to the last report, without Python's own start.
Every message has to be in the topic, under an ID of its own; exit code 1 where one is missing, else it decides nothing.
"""

from __future__ import annotations

import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import kafka_cluster
from bulk import write_events
from common import Goal, Table, arguments, at_least, environment, install, report, version_of
from kafka_cluster import Cluster, consume
from memory import Saved

EVENTS = 400_000
LOOP, FLUSH, SINK = "bare confluent-kafka loop", "rillevents flush", "KafkaSink, hot loop"
ONE = "rillevents flush, one partition"
PARTITIONS = 6

# The loop that one would write: the same settings, key, headers and reports, and a look into each event for them.
BARE = """\
import sys, time
import msgspec
from confluent_kafka import Producer

class Event(msgspec.Struct):
    event_id: str
    event_type: str
    install_id: str = ""

decode = msgspec.json.Decoder(Event).decode
reported = 0

def on_delivery(error, message):
    global reported
    if error is None:
        reported += 1

started = time.perf_counter()
producer = Producer({"bootstrap.servers": sys.argv[1], "acks": "all", "enable.idempotence": True,
                     "compression.type": "lz4", "linger.ms": 200})
with open(sys.argv[3], "rb") as file:
    for line in file:
        event = decode(line)
        headers = [("event_id", event.event_id), ("event_type", event.event_type)]
        while True:
            try:
                producer.produce(sys.argv[2], line[:-1], event.install_id or event.event_id, headers=headers,
                                 on_delivery=on_delivery)
                break
            except BufferError:
                producer.poll(0.1)
        producer.poll(0)
producer.flush()
print(reported, time.perf_counter() - started)
"""
EMIT = """\
import sys, time
from rillevents import Client, KafkaSink
number = int(sys.argv[3])
started = time.perf_counter()
sink = KafkaSink(f"kafka://{sys.argv[1]}/{sys.argv[2]}", key="event_id", max_wait=60)
client = Client(sink).with_install_id("91b0420a-4417-4951-ba4e-c0fab4a39ed7").with_service_name("bench")
for at in range(number):
    client.record_behavioral("login-success", user_id=f"u-{at % 1000}", plan="pro", call=at)
client.flush(timeout=60)
print(sink.counts["delivered"], time.perf_counter() - started)
client.close()
"""


@dataclass
class Cost:
    """What a kind of turn has cost: seconds of computing, of the process and of the brokers, and bytes on each broker's disk."""

    own: list[float] = field(default_factory=list)
    brokers: list[float] = field(default_factory=list)
    stored: list[int] = field(default_factory=list)

    def __str__(self) -> str:
        own, brokers = (statistics.median(part) / EVENTS * 1e6 for part in (self.own, self.brokers))
        return (
            f"{own:.1f} µs of computing an event (one core is full at {1e6 / own:,.0f} events/s), "
            f"{brokers:.1f} µs on the three brokers together, {statistics.median(self.stored) / EVENTS:.0f} bytes on each"
        )


@dataclass
class Bench:
    """The cluster, the installed programs, and what was missing in each turn."""

    cluster: Cluster
    python: str
    script: str
    folder: Path
    file: Path
    saved: Saved
    turns: int = 0
    missing: list[int] = field(default_factory=list)
    twice: int = 0
    costs: dict[str, Cost] = field(default_factory=dict)
    consumed: list[float] = field(default_factory=list)

    def table(self, rounds: int) -> Table:
        """Measure events a second."""
        table = Table(f"Kafka: {EVENTS:,} events, three brokers on this machine", "events/s", LOOP, less=False)
        runs: dict[str, Callable[[str], tuple[float, float]]] = {
            LOOP: lambda topic: self._program(BARE, topic, str(self.file)),
            FLUSH: self._flush,
            ONE: self._flush,
            SINK: lambda topic: self._program(EMIT, topic, str(EVENTS)),
        }
        table.measure({row: partial(self._turn, row, run) for row, run in runs.items()}, rounds)
        return table

    def _turn(self, row: str, run: Callable[[str], tuple[float, float]]) -> float:
        self.turns += 1
        # One of its own for each turn, deleted afterwards: so that none finds what another has left to clear up.
        topic = f"turn-{self.turns}"
        self.cluster.create(topic, partitions=1 if row == ONE else PARTITIONS)
        cost, before = self.costs.setdefault(row, Cost()), self._computed()
        reported, seconds = run(topic)
        after = self._computed()
        cost.own.append(after[0] - before[0])
        cost.brokers.append(after[1] - before[1])
        cost.stored.append(self.cluster.brokers[0].stored(topic))
        self._count(topic, int(reported))
        self.cluster.delete(topic)
        return EVENTS / seconds

    def _computed(self) -> tuple[float, float]:
        own = resource.getrusage(resource.RUSAGE_CHILDREN)
        return own.ru_utime + own.ru_stime, sum(broker.cpu_seconds() for broker in self.cluster.brokers)

    def _program(self, code: str, topic: str, more: str) -> tuple[float, float]:
        words = [self.python, "-c", code, self.cluster.servers, topic, more]
        done = subprocess.run(words, env=environment(self.folder), check=True, capture_output=True, text=True)
        reported, seconds = map(float, done.stdout.split())
        return reported, seconds

    def _flush(self, topic: str) -> tuple[float, float]:
        self.saved.restore("")
        words = [self.script, "flush", "--json", "--to", f"kafka://{self.cluster.servers}/{topic}"]
        done = subprocess.run(
            words, env=environment(self.folder, self.saved.home.name), check=True, capture_output=True, text=True
        )
        told = json.loads(done.stdout)
        return told["delivered"], told["seconds"]

    def _count(self, topic: str, reported: int) -> None:
        started = time.perf_counter()
        found = consume(self.cluster.servers, topic)
        self.consumed.append(len(found) / (time.perf_counter() - started))
        distinct = len({dict(headers)["event_id"] for _, _, headers in found})
        self.missing.append(EVENTS - min(distinct, reported))
        self.twice += len(found) - distinct

    def counted(self) -> list[str]:
        """Return what arrived, and what it has cost: a line for each kind of turn."""
        turns = f"{len(self.missing)} turns of {EVENTS:,} events: {sum(self.missing)} missing, {self.twice} there twice"
        read = f"a consumer in Python reads {statistics.median(self.consumed):,.0f} events/s"
        return [turns, *(f"{row}: {cost}" for row, cost in self.costs.items()), read]


def goals_of(table: Table) -> list[Goal]:
    """Return what was wanted."""
    ratio = table.ratio(FLUSH)
    return [at_least("`flush` to Kafka, delivery reports on", "≥ 0.8 × a bare confluent-kafka loop", ratio, 0.8)]


def main() -> int:
    """Measure, and print the table."""
    assert __doc__
    options = arguments(__doc__, 5)
    if reason := kafka_cluster.missing():
        raise SystemExit(reason)
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        python, script = install(folder, "confluent-kafka")
        versions = {"python": version_of(python, "--version").split()[1]}
        code = "import confluent_kafka as c; print(c.version(), 'librdkafka', c.libversion()[0])"
        versions["confluent-kafka"] = version_of(python, "-c", code)
        versions["kafka"] = next(kafka_cluster.jars().glob("kafka_2.13-*.jar")).stem.rpartition("-")[2]
        file = write_events(folder / "events.ndjson", EVENTS)
        saved = Saved.filled(script, file, folder, "home")
        with kafka_cluster.running() as cluster:
            bench = Bench(cluster, python, script, folder, file, saved)
            table = bench.table(options.rounds)
    report([table], goals_of(table), bench.counted(), versions, options)
    return int(any(bench.missing))


if __name__ == "__main__":
    sys.exit(main())
