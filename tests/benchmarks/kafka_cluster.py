"""A real Apache Kafka cluster on 127.0.0.1: three brokers in KRaft mode with small heaps, for the tests and the benchmark.

    .ci/run      # fetches it, as tests/benchmarks/kafka_pom.xml says

The jars lie in the folder that `RILLEVENTS_TEST_KAFKA` names, else in `~/.cache/rillevents-tests/kafka`.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

USER, PASSWORD = "worker", "pa55-w0rd"
CLUSTER_ID = "cmlsbGV2ZW50cy10ZXN0cw"
READY_SECONDS = 60
# The start is most of what the tests cost: so no compiler that pays only later, and no threads for the collector.
JVM = ("-Xms64m", "-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto")
SETTINGS = """\
process.roles=broker,controller
node.id={node}
log.dirs={folder}/data
listeners=PLAINTEXT://127.0.0.1:{port},SASL://127.0.0.1:{sasl},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{port},SASL://127.0.0.1:{sasl}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,SASL:SASL_PLAINTEXT,CONTROLLER:PLAINTEXT
sasl.enabled.mechanisms=PLAIN
listener.name.sasl.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required \
  user_{user}="{password}";
controller.listener.names=CONTROLLER
controller.quorum.voters={voters}
auto.create.topics.enable=false
num.partitions=3
default.replication.factor=3
min.insync.replicas=2
offsets.topic.num.partitions=1
offsets.topic.replication.factor=1
group.initial.rebalance.delay.ms=0
# A broker that is killed is missed soon: the tests wait for that.
broker.session.timeout.ms=3000
broker.heartbeat.interval.ms=500
controlled.shutdown.enable=false
unclean.leader.election.enable=false
num.network.threads=2
num.io.threads=2
background.threads=2
log.cleaner.enable=false
"""


def jars() -> Path:
    """Return the folder in which Kafka's jars lie, or would."""
    told = os.environ.get("RILLEVENTS_TEST_KAFKA")
    return Path(told) if told else Path.home() / ".cache" / "rillevents-tests" / "kafka"


def missing() -> str:
    """Return why there can be no cluster here, nothing where there can."""
    if not shutil.which("java"):
        return "java is not installed"
    if not any(jars().glob("kafka_2.13-*.jar")):
        return f"Apache Kafka is not in {jars()}: see .ci/run"
    return ""


class Broker:
    """One node, broker and controller in one; it can be killed, and started again with what it had."""

    def __init__(self, node: int, folder: Path, ports: tuple[int, int, int], voters: str) -> None:
        self.node = node
        self.port, self.sasl_port, controller = ports
        self._folder = folder
        self._settings = folder / "server.properties"
        self._process: subprocess.Popen[bytes] | None = None
        folder.mkdir()
        self._settings.write_text(
            SETTINGS.format(
                node=node,
                folder=folder,
                port=self.port,
                sasl=self.sasl_port,
                controller=controller,
                voters=voters,
                user=USER,
                password=PASSWORD,
            )
        )

    def format(self) -> None:
        """Make its storage."""
        words = ("kafka.tools.StorageTool", "format", "--cluster-id", CLUSTER_ID, "--config", str(self._settings))
        subprocess.run([*_java(), *words], check=True, stdout=subprocess.DEVNULL)

    def start(self) -> None:
        """Start it; whether it is up is asked of the cluster."""
        with (self._folder / "output").open("ab") as output:
            self._process = subprocess.Popen(
                [*_java(), "kafka.Kafka", str(self._settings)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )

    def kill(self) -> None:
        """Kill it as a power cut would, if it runs."""
        if self._process is not None:
            with suppress(ProcessLookupError):
                self._process.send_signal(signal.SIGKILL)
            self._process.wait()
            self._process = None

    def cpu_seconds(self) -> float:
        """Return how long it has computed so far."""
        assert self._process is not None
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def stored(self, topic: str) -> int:
        """Return how many bytes of a topic it has on its disk."""
        return sum(path.stat().st_size for path in self._folder.glob(f"data/{topic}-*/*.log"))

    def is_listening(self) -> bool:
        """Return whether it takes connections."""
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0


class Cluster:
    """Three brokers; a topic has three partitions, each on all of them, and two have to have an event."""

    def __init__(self, folder: Path) -> None:
        ports = list(_free_ports(9))
        groups = [(ports[at], ports[at + 1], ports[at + 2]) for at in (0, 3, 6)]
        voters = ",".join(f"{node}@127.0.0.1:{group[2]}" for node, group in enumerate(groups, 1))
        self.brokers = [Broker(node, folder / str(node), group, voters) for node, group in enumerate(groups, 1)]

    @property
    def servers(self) -> str:
        """The brokers' addresses, as they stand in a URL."""
        return ",".join(f"127.0.0.1:{broker.port}" for broker in self.brokers)

    @property
    def sasl_servers(self) -> str:
        """The same, where a user and a password are asked for."""
        return ",".join(f"127.0.0.1:{broker.sasl_port}" for broker in self.brokers)

    def start(self) -> None:
        """Start all of them, and wait until they are up."""
        with ThreadPoolExecutor(3) as pool:
            list(pool.map(Broker.format, self.brokers))
        for broker in self.brokers:
            broker.start()
        self.await_brokers(3)

    def stop(self) -> None:
        """Kill all of them."""
        for broker in self.brokers:
            broker.kill()

    def await_brokers(self, number: int) -> None:
        """Return once so many brokers have joined the cluster and listen; raises TimeoutError."""
        until = time.monotonic() + READY_SECONDS
        while time.monotonic() < until:
            if sum(broker.is_listening() for broker in self.brokers) >= number and self._registered() >= number:
                return
            time.sleep(0.2)
        raise TimeoutError(f"{number} brokers were not up within {READY_SECONDS} s")

    def create(self, topic: str, *, partitions: int = 3, replicas: int = 3, **settings: str) -> str:
        """Make a topic, and return the URL that leads to it; underscores in the names of *settings* stand for dots."""
        from confluent_kafka.admin import NewTopic

        config = {name.replace("_", "."): value for name, value in settings.items()}
        admin = self._admin()
        admin.create_topics([NewTopic(topic, partitions, replicas, config=config)])[topic].result(READY_SECONDS)
        return f"kafka://{self.servers}/{topic}"

    def led_by(self, broker: Broker, topic: str) -> list[int]:
        """Return the partitions of a topic that a broker leads."""
        found = self._admin().list_topics(topic, timeout=10).topics[topic].partitions
        return [number for number, partition in found.items() if partition.leader == broker.node]

    def delete(self, topic: str) -> None:
        """Delete a topic."""
        admin = self._admin()
        admin.delete_topics([topic])[topic].result(READY_SECONDS)

    def await_sync(self, topic: str) -> None:
        """Return once every partition of a topic is on all brokers again; raises TimeoutError."""
        until = time.monotonic() + READY_SECONDS
        while time.monotonic() < until:
            found = self._admin().list_topics(topic, timeout=10).topics[topic].partitions.values()
            if found and all(len(partition.isrs) == 3 for partition in found):
                return
            time.sleep(0.2)
        raise TimeoutError(f"{topic} was not in sync within {READY_SECONDS} s")

    def _registered(self) -> int:
        from confluent_kafka import KafkaException

        try:
            return len(self._admin().list_topics(timeout=2).brokers)
        except KafkaException:
            return 0

    def _admin(self):  # type: ignore[no-untyped-def]
        from confluent_kafka.admin import AdminClient

        return AdminClient({"bootstrap.servers": self.servers, "log_level": 0})


@contextmanager
def running() -> Iterator[Cluster]:
    """Give a cluster that is up, and leave nothing of it behind."""
    with tempfile.TemporaryDirectory(prefix="kafka-") as folder, ExitStack() as ends:
        cluster = Cluster(Path(folder))
        ends.callback(cluster.stop)
        cluster.start()
        yield cluster


def consume(  # type: ignore[type-arg]
    servers: str, topic: str, *, settings: Mapping[str, str] | None = None, without: Collection[int] = ()
) -> list[tuple]:
    """Return all that a topic holds, but for some partitions: of each message its key, value and headers."""
    from confluent_kafka import Consumer, KafkaException, TopicPartition

    def ends_of(partitions: Iterable[int]) -> dict[int, tuple[int, int]]:
        # A broker that has just come back is leader in the metadata some time before it is one.
        while True:
            try:
                return {n: consumer.get_watermark_offsets(TopicPartition(topic, n), timeout=10) for n in partitions}
            except KafkaException:
                if time.monotonic() > until:
                    raise
                time.sleep(0.1)

    until = time.monotonic() + READY_SECONDS
    config = {"bootstrap.servers": servers, "group.id": "tests", "enable.auto.commit": "false", **(settings or {})}
    consumer = Consumer({**config, "log_level": 0})
    try:
        partitions = {*consumer.list_topics(topic, timeout=10).topics[topic].partitions} - {*without}
        ends = ends_of(partitions)
        wanted = sum(high - low for low, high in ends.values())
        consumer.assign([TopicPartition(topic, n, low) for n, (low, _) in ends.items()])
        found = []
        while len(found) < wanted and time.monotonic() < until:
            found += [(m.key(), m.value(), m.headers()) for m in consumer.consume(10_000, 0.2) if m.error() is None]
        return found
    finally:
        consumer.close()


def _java() -> list[str]:
    return ["java", *JVM, "-cp", f"{jars()}/*"]


def _free_ports(number: int) -> Iterator[int]:
    with ExitStack() as taken:
        for _ in range(number):
            probe = taken.enter_context(socket.socket())
            probe.bind(("127.0.0.1", 0))
            yield probe.getsockname()[1]
