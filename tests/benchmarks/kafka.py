"""Delivery to a Kafka topic beside a bare confluent-kafka loop with the same settings, key and headers, on three brokers here.

    python tests/benchmarks/kafka.py [ROUNDS] [--save]

Needs Java and Apache Kafka (kafka_cluster.py). The console script of a plain venv, a program with a KafkaSink, and the loop are
processes of their own, in turn; each says how long it took from its first event to the last report, without Python's own start.
Every message has to be in the topic, under an ID of its own; exit code 1 where one is missing, else it decides nothing.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import kafka_cluster
from bulk import write_events
from common import Goal, Table, arguments, at_least, environment, install, report, version_of
from kafka_cluster import Cluster, consume
from memory import Saved, measured

EVENTS = 400_000
LOOP, FLUSH, EXPORTER, SINK = "bare confluent-kafka loop", "rillevents flush", "KafkaExporter", "KafkaSink"
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
EXPORT = """\
import sys, time
from itertools import islice
from rillevents import KafkaExporter
from rillevents.batch import Batch
started = time.perf_counter()
exporter, sent = KafkaExporter(f"kafka://{sys.argv[1]}/{sys.argv[2]}"), 0
with open(sys.argv[3], "rb") as file:
    while lines := list(islice(file, exporter.batch_events)):
        sent += len(lines) if exporter.export(Batch(lines)).kind.value == "accepted" else 0
print(sent, time.perf_counter() - started)
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

    def table(self, rounds: int) -> Table:
        """Measure events a second."""
        table = Table(f"Kafka: {EVENTS:,} events, three brokers on this machine", "events/s", LOOP, less=False)
        runs: dict[str, Callable[[], float]] = {
            LOOP: lambda: self._program(BARE, str(self.file)),
            EXPORTER: lambda: self._program(EXPORT, str(self.file)),
            FLUSH: self._flush,
            SINK: lambda: self._program(EMIT, str(EVENTS)),
        }
        table.measure(runs, rounds)
        return table

    def _topic(self) -> str:
        self.turns += 1
        # One of its own for each turn, deleted afterwards: so that none finds what another has left to clear up.
        self.cluster.create(f"turn-{self.turns}", partitions=PARTITIONS)
        return f"turn-{self.turns}"

    def _program(self, code: str, more: str) -> float:
        topic = self._topic()
        words = [self.python, "-c", code, self.cluster.servers, topic, more]
        done = subprocess.run(words, env=environment(self.folder), check=True, capture_output=True, text=True)
        return self._counted(topic, *map(float, done.stdout.split()))

    def _flush(self) -> float:
        topic = self._topic()
        self.saved.restore("")
        to = f"kafka://{self.cluster.servers}/{topic}"
        done = measured([self.script, "flush", "--json", "--to", to], environment(self.folder, self.saved.home.name))
        told = json.loads(done.output)
        return self._counted(topic, told["delivered"], told["seconds"])

    def _counted(self, topic: str, reported: float, seconds: float) -> float:
        found = consume(self.cluster.servers, topic)
        distinct = len({dict(headers)["event_id"] for _, _, headers in found})
        self.missing.append(EVENTS - min(distinct, int(reported)))
        self.twice += len(found) - distinct
        self.cluster.delete(topic)
        return EVENTS / seconds


def goals_of(table: Table) -> list[Goal]:
    """Return what was wanted."""
    return [
        at_least(
            "`flush` to Kafka, delivery reports on", "≥ 0.8 × a bare confluent-kafka loop", table.ratio(FLUSH), 0.8
        ),
        at_least(
            "`KafkaExporter`, delivery reports on", "≥ 0.8 × a bare confluent-kafka loop", table.ratio(EXPORTER), 0.8
        ),
    ]


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
    missing = sum(bench.missing)
    counted = [f"{len(bench.missing)} turns of {EVENTS:,} events: {missing} missing, {bench.twice} there twice"]
    report([table], goals_of(table), counted, versions, options)
    return int(missing > 0)


if __name__ == "__main__":
    sys.exit(main())
