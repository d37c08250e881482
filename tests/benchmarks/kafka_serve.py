"""What `serve --to kafka` takes, durable in its own spool before each answer, and how soon the brokers have it.

    python tests/benchmarks/kafka_serve.py [ROUNDS] [--save]

Three brokers (kafka_cluster.py), the server and wrk on the same machine. Each turn is a new server and a new topic: wrk sends for
a few seconds on 64 kept connections, and then the topic is watched until it holds everything that was answered for. Beside it the
same server with `--to spool`, which hands nothing on. Exit code 1 where an event is missing; else it decides nothing.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import statistics
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import kafka_cluster
from common import Table, arguments, install, report, version_of
from kafka_cluster import Cluster
from serve import CONNECTIONS, EXTRA, LUA, MANY, SPOOL, Bench, Run, wrk

KAFKA = "rillevents serve --to kafka"
PATIENCE = 120.0


@dataclass
class KafkaBench(Bench):
    """The two servers; `delays` are the seconds from the last answer until the brokers had everything."""

    cluster: Cluster = field(kw_only=True)
    delays: dict[int, list[float]] = field(default_factory=dict)
    url: str = ""

    def words(self, row: str, home: Path) -> list[str]:
        """Return what starts a server."""
        if row != KAFKA:
            return super().words(row, home)
        return [self.script, "serve", "--port", "0", "--json", "-q", "--to", self.url]

    def turn(self, row: str, events: int) -> Callable[[], float]:
        """Return a turn of a server: events a second."""

        def measure() -> float:
            self.number += 1
            self.url = self.cluster.create(f"serve-{self.number}", partitions=6)
            home = self.folder / f"home-{self.number}"
            home.mkdir()
            with self.server(row, home) as url:
                run = wrk(url, self.folder / "events.lua", events, f"run-{self.number}")
                if row == KAFKA:
                    self.await_brokers(url, run, events)
            self.runs.setdefault((row, events), []).append(run)
            shutil.rmtree(home)
            return run.rate * events

        return measure

    def await_brokers(self, url: str, run: Run, events: int) -> None:
        """Wait until the server has heard that everything is written; what never is counts as missing."""
        began, wanted, delivered = time.monotonic(), run.requests * events, 0.0
        while delivered < wanted and time.monotonic() - began < PATIENCE:
            time.sleep(0.05)
            with urllib.request.urlopen(f"{url}/metrics") as answer:
                found = re.search(r"^rillevents_delivered_total ([\d.e+]+)$", answer.read().decode(), re.MULTILINE)
            delivered = float(found[1]) if found else 0.0
        self.delays.setdefault(events, []).append(time.monotonic() - began)
        self.kept += int(delivered)
        self.missing += max(0, wanted - int(delivered))

    def counted(self) -> list[str]:
        """Return what arrived, how long answers took, and how far behind the brokers were."""
        late = [
            f"{KAFKA}, {events} a request: everything reported {statistics.median(delays):.1f} s after the last answer"
            for events, delays in self.delays.items()
        ]
        return [line.replace("the store and the spool", "the brokers") for line in super().counted()] + late


def main() -> int:
    """Measure, and print the tables."""
    assert __doc__
    options = arguments(__doc__, 3)
    if reason := kafka_cluster.missing():
        raise SystemExit(reason)
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        python, script = install(folder, *EXTRA, "confluent-kafka")
        bench = KafkaBench(folder, python, script, cluster=stack.enter_context(kafka_cluster.running()))
        (folder / "events.lua").write_text(LUA)
        versions = {"python": version_of(python, "--version").split()[1], "wrk": version_of("wrk", "-v").split()[1]}
        tables = [
            Table(f"serve, {events} event{'s' if events > 1 else ''} a request", "events/s", SPOOL, less=False)
            for events in (1, MANY)
        ]
        for table, events in zip(tables, (1, MANY), strict=True):
            table.measure({row: bench.turn(row, events) for row in (SPOOL, KAFKA)}, options.rounds)
        print(f"{CONNECTIONS} connections")
        report(tables, [], bench.counted(), versions, options)
    return int(bool(bench.missing))


if __name__ == "__main__":
    sys.exit(main())
