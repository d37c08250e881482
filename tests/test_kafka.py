"""`rillevents flush` and KafkaSink against a real Apache Kafka cluster whose brokers are killed, and flushes killed at random."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import kafka_cluster
import pytest
from kafka_cluster import PASSWORD, USER, Cluster, consume
from kafka_mock import MockCluster
from support import PACE, Tool

from rillevents import Client, KafkaSink
from rillevents.spool.view import held_events

pytestmark = [pytest.mark.slow, pytest.mark.unmeasured]

MANY = 200_000
# What a process may take beyond its budget on a machine that has much else to do.
SLACK = 15.0 * PACE


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """Three brokers; without them a test is skipped, but never in CI, which has to have them."""
    reason = kafka_cluster.missing()
    if reason and os.environ.get("CI"):
        pytest.fail(f"{reason}; CI has to have it")
    if reason:
        pytest.skip(reason)
    with kafka_cluster.running() as found:
        yield found


def event(number: int) -> bytes:
    """Return an event that no JSON writer would write like this, so that it is known again only if nobody touched it."""
    return (
        f'{{"event_id": "e-{number:06}" ,"event_time":"2026-11-23T10:00:00Z","event_type":"behavioral",'
        f'"event_name":"login-start","install_id":"i-{number % 100}","z":1.50,  "☃":"{number * 7919}"}}\n'
    ).encode()


def filled(tool: Tool, number: int) -> dict[str, bytes]:
    """Put so many events into the spool, and return them by their ID, without their newlines."""
    lines = [event(at) for at in range(number)]
    file = tool.home.parent / "events.ndjson"
    file.write_bytes(b"".join(lines))
    done = tool("record", "raw", str(file))
    assert 0 == done.returncode, done.stderr
    return {f"e-{at:06}": line[:-1] for at, line in enumerate(lines)}


def started(tool: Tool, *words: str) -> subprocess.Popen[str]:
    """Start `rillevents *words*`."""
    return subprocess.Popen(
        tool.command(*words), env=tool.environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def assert_arrived(cluster: Cluster, topic: str, events: dict[str, bytes]) -> int:
    """Check ID by ID that all events are in a topic, with nothing changed, and return how many are there twice."""
    found = consume(cluster.servers, topic)
    times = Counter(dict(headers)["event_id"].decode() for _, _, headers in found)
    assert events.keys() == times.keys()
    for key, value, headers in found:
        event_id = dict(headers)["event_id"].decode()
        assert events[event_id] == value
        assert f"i-{int(event_id[2:]) % 100}".encode() == key
    return len(found) - len(times)


def high_watermark(cluster: Cluster, topic: str) -> int:
    """Return how many messages a topic holds, from what its leaders say."""
    from confluent_kafka import Consumer, KafkaException, TopicPartition

    reader = Consumer({"bootstrap.servers": cluster.servers, "group.id": "watch", "log_level": 0})
    try:
        return sum(reader.get_watermark_offsets(TopicPartition(topic, n), timeout=5)[1] for n in range(3))
    except KafkaException:
        return 0
    finally:
        reader.close()


def await_messages(cluster: Cluster, topic: str, number: int) -> None:
    """Return once a topic holds more than so many messages."""
    until = time.monotonic() + 30 * PACE
    while high_watermark(cluster, topic) <= number:
        assert time.monotonic() < until
        time.sleep(0.02)


class TestFlush:
    def test_delivers(self, tool: Tool, cluster: Cluster) -> None:
        """What was recorded is in the topic after a flush, byte for byte, and in the counts of `status`."""
        to, events = cluster.create("plain"), filled(tool, 500)
        found = tool.json("flush", "--to", to)
        assert ("delivered", 500, 0) == (found["outcome"], found["delivered"], found["pending"])
        assert 0 == assert_arrived(cluster, "plain", events)
        status = tool.json("status", RILLEVENTS_TO=to)
        assert (500, to, "delivered") == (
            status["ledger"]["delivered"], status["destination"]["to"], status["last_flush"]["outcome"]
        )  # fmt: skip

    def test_unknown_topic(self, tool: Tool, cluster: Cluster) -> None:
        """e4: without the topic nothing is sent, everything is kept, and the code is 78."""
        filled(tool, 3)
        done = tool("flush", "--to", f"kafka://{cluster.servers}/nowhere")
        assert 78 == done.returncode
        assert "create the topic" in done.stderr
        assert "3 events kept" in done.stderr

    def test_too_large(self, tool: Tool, cluster: Cluster) -> None:
        """e4: where a broker finds a batch too large it is halved, and only the event that is so alone is put aside."""
        to = cluster.create("small", max_message_bytes="1500")
        chance = random.Random(1)
        big = b'{"event_id":"big","event_time":"2026-11-23T10:00:00Z","event_type":"t","event_name":"n","x":"%s"}\n'
        (tool.home.parent / "big").write_bytes(big % chance.randbytes(2000).hex().encode())
        events = filled(tool, 40)
        tool("record", "raw", str(tool.home.parent / "big"))
        done = tool("flush", "--to", to)
        assert 65 == done.returncode, done.stderr
        assert "big" in tool("spool", "rejected", "--json").stdout
        assert_arrived(cluster, "small", events)

    @pytest.mark.parametrize(("password", "code"), [(PASSWORD, 0), ("wrong-pa55", 77)], ids=["right", "wrong"])
    def test_credentials(self, tool: Tool, cluster: Cluster, password: str, code: int) -> None:
        """A password comes from the environment; a wrong one is 77 at once; it is shown nowhere."""
        cluster.create(f"secret-{code}")
        filled(tool, 3)
        Path(tool.paths.config_file).write_text(
            '[kafka]\nsecurity.protocol = "SASL_PLAINTEXT"\nsasl.mechanism = "PLAIN"\n'
        )
        secrets = {"RILLEVENTS_KAFKA_SASL_USERNAME": USER, "RILLEVENTS_KAFKA_SASL_PASSWORD": password}
        done = tool("flush", "--to", f"kafka://{cluster.sasl_servers}/secret-{code}", **secrets)
        assert code == done.returncode, done.stderr
        assert ("check sasl.username" in done.stderr) is bool(code)
        assert password not in done.stdout + done.stderr
        assert (3 if code else 0) == len(tool.lines())


class TestUnreachable:
    def test_at_the_start(self, tool: Tool) -> None:
        """e1: where nobody is there a flush ends within 5 s with 75, and keeps everything."""
        filled(tool, 3)
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            begun = time.monotonic()
            done = tool("flush", "--to", f"kafka://127.0.0.1:{taken.getsockname()[1]}/t")
        assert time.monotonic() - begun < 5 * PACE
        assert 75 == done.returncode
        assert "could not reach kafka://127.0.0.1" in done.stderr
        assert "3 events kept" in done.stderr
        # Without configured logging, librdkafka's lines are not printed.
        assert 1 == len(done.stderr.splitlines())

    @pytest.mark.parametrize(("sent", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
    def test_interrupted(self, tool: Tool, sent: signal.Signals, code: int) -> None:
        """A flush that waits for reports ends at once at a signal, and keeps what was not reported."""
        filled(tool, 10)
        with MockCluster() as mock:
            mock.delay(1, 300)
            running = started(tool, "flush", "--to", mock.url())
            time.sleep(1.0)
            mock.set_down(1)
            running.send_signal(sent)
            begun = time.monotonic()
            running.communicate(timeout=30)
        assert time.monotonic() - begun < SLACK
        assert code == running.returncode
        assert 10 == len(tool.lines())


class TestKills:
    def test_killed_between_report_and_spool(self, tool: Tool, cluster: Cluster) -> None:
        """e6: a flush that is killed before it notes what was reported sends the same again: same key, same ID, same bytes."""
        to, events = cluster.create("twice"), filled(tool, 20)
        killed = (
            "import os, signal, sys; from rillevents.spool.drain import Drain\n"
            "Drain.commit = lambda *words, **named: os.kill(os.getpid(), signal.SIGKILL)\n"
            "from rillevents.cli.app import run; run(sys.argv[1:])"
        )
        done = subprocess.run(
            [sys.executable, "-c", killed, "flush", "--to", to], env=tool.environ, capture_output=True, check=False
        )
        assert -signal.SIGKILL == done.returncode, done.stderr
        assert 0 == tool("flush", "--to", to).returncode
        assert 20 == assert_arrived(cluster, "twice", events)

    def test_killed_at_random(self, tool: Tool, cluster: Cluster) -> None:
        """Flushes that are killed at random moments lose nothing and change nothing; each doubles at most the batch under way."""
        to, events = cluster.create("killed"), filled(tool, 60_000)
        chance, kills = random.Random(2026), 0
        Path(tool.paths.config_file).write_text("[flush]\nbatch_events = 500\n")
        while kills < 8 and held_events(tool.paths):
            running = started(tool, "flush", "--to", to)
            time.sleep(chance.uniform(0.5, 1.3))
            running.kill()
            running.communicate()
            kills += running.returncode == -signal.SIGKILL
        done = tool("flush", "--to", to)
        assert 0 == done.returncode, done.stderr
        twice = assert_arrived(cluster, "killed", events)
        print(f"{kills} kills, {twice} events twice")
        assert kills > 2
        assert twice <= 500 * kills


class TestBrokers:
    def test_one_is_killed(self, tool: Tool, cluster: Cluster) -> None:
        """A broker that is killed and comes back while 200,000 events are sent costs none of them, nor a byte."""
        to, events = cluster.create("one-down"), filled(tool, MANY)
        running = started(tool, "flush", "--to", to, "--json")
        await_messages(cluster, "one-down", 1000)
        at_the_kill = high_watermark(cluster, "one-down")
        cluster.brokers[1].kill()
        time.sleep(2)
        cluster.brokers[1].start()
        output, told = running.communicate(timeout=120)
        assert 0 == running.returncode, told
        found = json.loads(output)
        assert (MANY, 0) == (found["delivered"], found["pending"])
        twice = assert_arrived(cluster, "one-down", events)
        print(f"killed at about {at_the_kill} events, {found['seconds']} s in all, {twice} events twice")
        cluster.await_sync("one-down")

    def test_two_are_down(self, tool: Tool, cluster: Cluster) -> None:
        """With two of three brokers down nothing is acknowledged, nothing is lost, and the code is 75 in time."""
        to, events = cluster.create("two-down"), filled(tool, 1000)
        for broker in cluster.brokers[1:]:
            broker.kill()
        begun = time.monotonic()
        done = tool("flush", "--to", to, "--timeout", "8", "--json")
        took = time.monotonic() - begun
        found = json.loads(done.stdout)
        for broker in cluster.brokers[1:]:
            broker.start()
        assert (75, 0, 1000) == (done.returncode, found["delivered"], found["pending"]), done.stderr
        assert took < 8 + 3
        cluster.await_brokers(3)
        cluster.await_sync("two-down")
        again = tool("flush", "--to", to)
        assert 0 == again.returncode, again.stderr
        assert_arrived(cluster, "two-down", events)

    def test_a_partition_loses_its_leader(self, tool: Tool, cluster: Cluster) -> None:
        """What the other partitions' leaders report is delivered once, flush after flush; the rest follows when the leader is back."""
        to, events = cluster.create("no-leader", replicas=1, min_insync_replicas="1"), filled(tool, 600)
        cluster.brokers[1].kill()
        done = [tool("flush", "--to", to, "--timeout", "12", "--json") for _ in range(2)]
        first, second = (json.loads(each.stdout) for each in done)
        waiting = tool.json("status")["spool"]["events"]
        cluster.brokers[1].start()
        cluster.await_brokers(3)
        assert [75, 75] == [each.returncode for each in done], done[0].stderr
        assert 0 < first["delivered"] < 600
        assert f"delivered {first['delivered']} events" in done[0].stderr
        assert (0, 600 - first["delivered"]) == (second["delivered"], second["pending"])
        assert waiting == second["pending"]
        last = tool("flush", "--to", to, "--json")
        assert (0, waiting) == (last.returncode, json.loads(last.stdout)["delivered"])
        assert 0 == assert_arrived(cluster, "no-leader", events)


def test_sink(cluster: Cluster) -> None:
    """A hot loop of 20,000 events through KafkaSink arrives whole at default limits, a broker's death in the midst included."""
    sink = KafkaSink(cluster.create("sink"), max_wait=30)
    client = Client(sink).with_install_id("i-1")
    made = set()
    for number in range(20_000):
        made.add(client.record_log("x", n=number))
        if number == 5000:
            cluster.brokers[2].kill()
    cluster.brokers[2].start()
    done = client.flush(timeout=60)
    client.close()
    assert (0, 20_000) == (done.pending, sink.counts["delivered"]), (done, sink.counts)
    assert made == {json.loads(value)["event_id"] for _, value, _ in consume(cluster.servers, "sink")}
    cluster.await_brokers(3)
