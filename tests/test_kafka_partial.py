"""A partition without a leader: what the other partitions hold is there once, however often it is tried."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection

import pytest
from kafka_cluster import consume
from kafka_mock import MockCluster
from serving import Serving, until
from support import Tool

from rillevents.event import Event

EVENTS = 400


def body() -> bytes:
    return b"".join(Event("log", "n", {"number": number, "install_id": f"i-{number}"}).line for number in range(EVENTS))


def numbers(servers: str, without: Collection[int] = ()) -> Counter[int]:
    return Counter(json.loads(value)["number"] for _, value, _ in consume(servers, "events", without=without))


@pytest.mark.slow
@pytest.mark.unmeasured
def test_three_flushes(tool: Tool) -> None:
    """A flush takes what the good partitions report as delivered, the next ones send none of it again: 75, and the rest stays."""
    tool("record", "raw", stdin=body())
    with MockCluster() as cluster:
        consume(cluster.servers, "events")
        cluster.without_leader("events", 3)
        found = [tool("flush", "--to", cluster.url(), "--timeout", "6", "--json") for _ in range(3)]
        results = [json.loads(done.stdout) for done in found]
        delivered = results[0]["delivered"]
        assert [75] * 3 == [done.returncode for done in found]
        assert 0 < delivered < EVENTS
        assert [0, 0] == [result["delivered"] for result in results[1:]]
        assert [EVENTS - delivered] * 3 == [result["pending"] for result in results]
        assert f"delivered {delivered} events" in found[0].stderr
        assert EVENTS - delivered == tool.json("status")["spool"]["events"]
        cluster.with_leader("events", 3, 1)
        assert EVENTS - delivered == tool.json("flush", "--to", cluster.url())["delivered"]
        arrived = numbers(cluster.servers)
    assert (set(range(EVENTS)), {1}) == (set(arrived), set(arrived.values()))


@pytest.mark.slow
@pytest.mark.unmeasured
def test_a_server(tool: Tool) -> None:
    """A server that forwards sends to the good partitions once, round after round, and the rest when there is a leader.

    Of the rest one may be there twice: its time was up while the new leader's answer was on its way.
    """
    with MockCluster() as cluster:
        consume(cluster.servers, "events")
        cluster.without_leader("events", 3)
        tool("config", "set", "kafka.message.timeout.ms", "3000")
        tool("config", "set", "flush.stall_timeout", "9")
        with Serving(tool, "--to", cluster.url()) as serving:
            assert 200 == serving.post(body()).status
            until(lambda: "events are kept" in serving.stderr)
            cluster.with_leader("events", 3, 1)
            until(lambda: "delivered again" in serving.stderr)
        arrived, reported = numbers(cluster.servers), numbers(cluster.servers, without=[3])
    assert set(range(EVENTS)) == {*arrived}
    assert (True, {1}) == (len(reported) > EVENTS // 2, {*reported.values()})
