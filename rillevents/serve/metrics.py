"""The counters of a server, and their Prometheus format."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any


class Metrics:
    """The counters of one process since its start; each is written by one thread only."""

    def __init__(self) -> None:
        self.connections = 0
        self.hung_up: Counter[str] = Counter()
        self.answers: Counter[int] = Counter()
        self.events: Counter[str] = Counter(accepted=0, duplicates=0, conflicts=0, invalid=0)
        self.body_bytes = 0
        self.commits = 0
        self.committed_requests = 0
        self.commit_seconds = 0.0

    def count_commit(self, requests: int, seconds: float) -> None:
        """Count a commit."""
        self.commits += 1
        self.committed_requests += requests
        self.commit_seconds += seconds


def exposition(metrics: Metrics, gauges: Mapping[str, float], counters: Mapping[str, float]) -> bytes:
    """Return all counters in Prometheus's text format, together with the *gauges* and *counters* of the storage."""
    from prometheus_client import CollectorRegistry, generate_latest

    registry = CollectorRegistry()
    registry.register(_Collector(lambda: _families(metrics, gauges, counters)))
    return generate_latest(registry)


class _Collector:
    def __init__(self, collect: Callable[[], Iterator[Any]]) -> None:
        self.collect = collect


def _families(metrics: Metrics, gauges: Mapping[str, float], counters: Mapping[str, float]) -> Iterator[Any]:
    from prometheus_client.core import GaugeMetricFamily

    yield _counted("rillevents_connections", "Connections accepted", {(): metrics.connections})
    yield _counted("rillevents_hung_up", "Connections closed by the server, by reason", _by(metrics.hung_up), ["why"])
    yield _counted("rillevents_answers", "Answers, by status", _by(metrics.answers), ["status"])
    yield _counted("rillevents_events", "Events, by outcome", _by(metrics.events), ["outcome"])
    yield _counted("rillevents_body_bytes", "Bytes of bodies, as received", {(): metrics.body_bytes})
    yield _counted("rillevents_commits", "Commits", {(): metrics.commits})
    yield _counted("rillevents_committed_requests", "Requests in commits", {(): metrics.committed_requests})
    yield _counted("rillevents_commit_seconds", "Seconds that commits took", {(): metrics.commit_seconds})
    for name, value in counters.items():
        yield _counted(f"rillevents_{name}", name.replace("_", " ").capitalize(), {(): value})
    for name, value in gauges.items():
        yield GaugeMetricFamily(f"rillevents_{name}", name.replace("_", " ").capitalize(), value=value)


def _by(counts: Mapping[Any, float]) -> dict[tuple[str, ...], float]:
    return {(str(key),): value for key, value in list(counts.items())}


def _counted(name: str, about: str, values: Mapping[tuple[str, ...], float], labels: list[str] | None = None) -> Any:
    from prometheus_client.core import CounterMetricFamily

    family = CounterMetricFamily(name, about, labels=labels or [])
    for label, value in values.items():
        family.add_metric(label, value)
    return family
