"""`rillevents serve --to kafka`: brokers that are away, servers that are killed, and several of them behind one balancer."""

from __future__ import annotations

import contextlib
import http.client
import os
import random
import re
import signal
import socket
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Collection, Iterator
from pathlib import Path

import pytest
from kafka_cluster import Cluster, consume
from kafka_mock import MockCluster
from serving import Serving, event, until
from support import Tool, need
from test_kafka import cluster

from rillevents.spool.view import pending

pytestmark = [pytest.mark.slow, pytest.mark.unmeasured]

__all__ = ["cluster"]


def figure(serving: Serving, name: str) -> float:
    """Return one of the server's figures."""
    found = re.search(rf"^rillevents_{name} ([\d.e+]+)$", serving.ask("GET", "/metrics").body.decode(), re.MULTILINE)
    return float(found[1]) if found else 0.0


def test_hands_on(tool: Tool) -> None:
    """Events that a server is sent are in the topic, byte for byte, and counted; consent is not asked about what others sent."""
    with MockCluster() as mock, Serving(tool, "--to", mock.url(), DO_NOT_TRACK="1") as serving:
        until(lambda: f"events go to {mock.url()}" in serving.stderr)
        lines = [event(str(number), install_id="i-1") for number in range(50)]
        assert 50 == serving.post(b"".join(lines)).json["accepted"]
        until(lambda: figure(serving, "delivered_total") == 50)
        found = consume(mock.servers, "events")
        assert sorted(line[:-1] for line in lines) == sorted(value for _, value, _ in found)
        assert {b"i-1"} == {key for key, _, _ in found}


def test_brokers_are_away(tool: Tool) -> None:
    """While the brokers are away events are answered for, and wait in the server's spool; they go once the brokers are back."""
    with MockCluster() as mock:
        mock.set_down(1)
        with Serving(tool, "--to", mock.url()) as serving:
            assert 200 == serving.post(event("a")).status
            until(lambda: "events are kept in the spool" in serving.stderr)
            [spool] = (tool.home / "serve").iterdir()
            assert [event("a")] == list(pending(str(spool)))
            mock.set_up(1)
            until(lambda: figure(serving, "delivered_total") == 1, 60)
            assert [b"a"] == [dict(headers)["event_id"] for _, _, headers in consume(mock.servers, "events")]


def test_without_its_extra(tool: Tool, tmp_path: Path) -> None:
    """A server without confluent-kafka does not begin, and says what to install."""
    (tmp_path / "confluent_kafka.py").write_text("raise ImportError('not here', name='confluent_kafka')\n")
    done = tool("serve", "--to", "kafka://127.0.0.1:9092/events", PYTHONPATH=str(tmp_path))
    assert 78 == done.returncode
    assert "pip install 'rillevents[kafka]'" in done.stderr


class Senders:
    """Clients that send events to one port, again until they are answered for; `answered` are those."""

    def __init__(self, port: int, number: int, name: str) -> None:
        self.answered: dict[str, bytes] = {}
        self.sent: dict[str, bytes] = {}
        self.over = threading.Event()
        self._port = port
        self._threads = [threading.Thread(target=self._send, args=(f"{name}-{each}",)) for each in range(number)]

    def __enter__(self) -> Senders:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        for thread in self._threads:
            thread.join()

    def _send(self, name: str) -> None:
        number = 0
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=10)
        while not self.over.is_set():
            number += 1
            lines = {f"{name}-{number}-{each}": event(f"{name}-{number}-{each}", install_id=name) for each in range(5)}
            self.sent |= lines
            while not self.over.is_set():
                try:
                    connection.request("POST", "/events/default", b"".join(lines.values()))
                    answer = connection.getresponse()
                    answer.read()
                except (OSError, http.client.HTTPException):
                    connection.close()
                    time.sleep(0.02)
                    continue
                if answer.status == 200:
                    self.answered |= lines
                    break
                time.sleep(0.02)
        connection.close()


def assert_all_arrived(cluster: Cluster, topic: str, senders: Senders) -> int:
    """Check ID by ID that what was answered for is in the topic, unaltered, and return how many messages are there again."""
    found = consume(cluster.servers, topic)
    times = Counter(dict(headers)["event_id"].decode() for _, _, headers in found)
    assert senders.answered.keys() <= times.keys() <= senders.sent.keys()
    for _, value, headers in found:
        assert senders.sent[dict(headers)["event_id"].decode()][:-1] == value
    return len(found) - len(times)


def free_port() -> int:
    """Return a port that nobody has now."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


def test_killed_under_load(tool: Tool, cluster: Cluster) -> None:
    """A server that is killed and started again under load has handed on everything that it answered for."""
    to, port, rng = cluster.create("killed-serve"), free_port(), random.Random(1)
    words = ["serve", "--port", str(port), "--to", to, "--json", "-q"]
    with Senders(port, 4, "killed") as senders:
        for _ in range(6):
            with subprocess.Popen(tool.command(*words), env=tool.environ, stdout=subprocess.PIPE) as server:
                assert server.stdout
                assert server.stdout.readline()
                time.sleep(rng.uniform(0.2, 1.5))
                server.kill()
        senders.over.set()
    assert len(senders.answered) > 100
    with Serving(tool, "--to", to) as serving:
        [spool] = (tool.home / "serve").iterdir()
        until(lambda: not list(pending(str(spool))), 60)
        assert 143 == serving.stop()
    assert_all_arrived(cluster, "killed-serve", senders)


def test_a_partition_loses_its_leader(tool: Tool, cluster: Cluster) -> None:
    """A server hands each event once to the leaders that there are, round after round, and the rest when the third is back."""
    to = cluster.create("no-leader-serve", replicas=1, min_insync_replicas="1")
    tool("config", "set", "kafka.message.timeout.ms", "5000")
    tool("config", "set", "flush.stall_timeout", "12")
    lines = {f"e-{number}": event(f"e-{number}", install_id=f"i-{number}") for number in range(600)}
    lost = cluster.led_by(cluster.brokers[1], "no-leader-serve")
    cluster.brokers[1].kill()
    with Serving(tool, "--to", to) as serving:
        assert 200 == serving.post(b"".join(lines.values())).status
        until(lambda: 0 < figure(serving, "delivered_total") < 600, 60)
        until(lambda: "events are kept" in serving.stderr, 60)
        cluster.brokers[1].start()
        cluster.await_brokers(3)
        until(lambda: figure(serving, "delivered_total") == 600, 60)

    def times(without: Collection[int]) -> Counter[str]:
        found = consume(cluster.servers, "no-leader-serve", without=without)
        return Counter(dict(headers)["event_id"].decode() for _, _, headers in found)

    # Of the rest one may be there twice: its time was up while the answer of the broker that came back was on its way.
    assert lines.keys() == times(()).keys()
    assert {1} == {*times(lost).values()}


HAPROXY = """
defaults
  mode http
  timeout connect 2s
  timeout client 30s
  timeout server 30s
  retries 2
  option redispatch
frontend events
  bind 127.0.0.1:{front}
  default_backend servers
backend servers
  balance roundrobin
  option httpchk GET /readyz
  server one 127.0.0.1:{one} check inter 200ms
  server two 127.0.0.1:{two} check inter 200ms
"""


@pytest.fixture
def second(tmp_path: Path) -> Tool:
    """Another machine's tool, with a home of its own."""
    return Tool(tmp_path / "second")


@contextlib.contextmanager
def balanced(folder: Path, one: int, two: int) -> Iterator[int]:
    """Give the port of a balancer in front of two servers."""
    front = free_port()
    (folder / "haproxy.cfg").write_text(HAPROXY.format(front=front, one=one, two=two))
    with subprocess.Popen([need("haproxy"), "-q", "-db", "-f", str(folder / "haproxy.cfg")]) as balancer:
        yield front
        balancer.terminate()


def test_two_behind_a_balancer(tool: Tool, second: Tool, cluster: Cluster, tmp_path: Path) -> None:
    """Two servers behind one balancer need no coordination: one is stopped under load, and everything answered for arrives."""
    to = cluster.create("balanced")
    with Serving(tool, "--to", to) as one, Serving(second, "--to", to) as two:
        with balanced(tmp_path, one.port, two.port) as front, Senders(front, 4, "balanced") as senders:
            until(lambda: len(senders.answered) > 500)
            assert one.ask("GET", "/api/events?limit=10").json["events"]
            assert 143 == one.stop(signal.SIGTERM)
            before = len(senders.answered)
            until(lambda: len(senders.answered) > before + 500)
            assert two.ask("GET", "/api/events?limit=10").json["events"]
        [spool] = (second.home / "serve").iterdir()
        until(lambda: not list(pending(str(spool))), 60)
        assert 143 == two.stop()
    with Serving(tool, "--to", to) as one:
        [spool] = (tool.home / "serve").iterdir()
        until(lambda: not list(pending(str(spool))), 60)
    assert_all_arrived(cluster, "balanced", senders)
    assert os.listdir(tool.home / "serve") == os.listdir(second.home / "serve")
