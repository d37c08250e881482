"""What a call costs in a process that lives on, how fast events arrive, and how many do: rillevents beside other libraries.

    python tests/benchmarks/library.py [ROUNDS] [--save]

Builds the wheel of this checkout and installs it into a plain venv, and the libraries of `peers.txt` into another. Each row of
a round is a process of its own, which makes its calls in a plain loop, to `peers_client.py`'s rules; it delivers to `sink.py`,
yet another process, or into files. What arrived is counted, event by event. It fails only where rillevents lost one.
"""

from __future__ import annotations

import http.client
import json
import re
import shutil
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from common import Goal, Table, arguments, at_least, at_most, environment, install, report
from sink import count

HERE = Path(__file__).parent
PEERS = HERE / "peers.txt"
CALLS, WARMING_CALLS, HOT_CALLS = 30_000, 1_000, 100_000
SPOOL, UNREDACTED = "rillevents, spool", "rillevents, spool, no redaction"
INTAKE, LOGGING = "rillevents, intake", "logging + json, file"
SYSTEM = "write + lstat alone, as the spool does"
# A service's client, which delivers by itself, beside the same client that does not.
CONFIGURED, MINUTE, MOMENT = "rillevents, from_config", "the same, flush_every=60", "the same, flush_every=0.05"
# Within a coroutine: how long one call keeps the event loop from going on.
IN_LOOP, LOGGING_IN_LOOP = "rillevents, spool, in a coroutine", "logging + json, file, in a coroutine"
LOOPS = {LOGGING_IN_LOOP: "stdlib_coroutine", IN_LOOP: "spool_coroutine"}
OURS = (SPOOL, UNREDACTED, CONFIGURED, MINUTE, MOMENT, INTAKE, IN_LOOP)
FILES = {
    LOGGING: "stdlib",
    SYSTEM: "system_calls",
    SPOOL: "spool",
    UNREDACTED: "spool_unredacted",
    CONFIGURED: "configured",
}
# They store as well, and have delivered when they are closed.
DELIVERING = {MINUTE: "every_minute", MOMENT: "every_moment"}
SDKS = {
    "opentelemetry logs": "opentelemetry",
    "sentry logs": "sentry",
    "mixpanel buffered": "mixpanel",
    "segment": "segment",
    "posthog": "posthog",
}
SENDERS = {INTAKE: "intake", **SDKS}
ROWS = FILES | DELIVERING | SENDERS | LOOPS
# What is posted ready-made, to see what the sink takes: as many events a request as rillevents puts into one.
POSTS, POST_EVENTS, EVENT_BYTES = 200, 500, 340


class Sink:
    """The sink's process."""

    def __init__(self) -> None:
        words = [sys.executable, str(HERE / "sink.py")]
        self._process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._process.stdin
        assert self._process.stdout
        self._asked, self._answers = self._process.stdin, self._process.stdout
        self.port = int(self._answers.readline())

    def __enter__(self) -> Sink:
        return self

    def __exit__(self, *_: object) -> None:
        self._asked.close()
        self._process.wait()

    def taken(self) -> dict[str, float]:
        """Return what has come since the last time."""
        print(file=self._asked, flush=True)
        answer: dict[str, float] = json.loads(self._answers.readline())
        return answer

    def ready_made(self) -> float:
        """Return how many events a second it takes where making them costs nothing."""
        bodies = [b"".join(map(_line, range(n, n + POST_EVENTS))) for n in range(0, POSTS * POST_EVENTS, POST_EVENTS)]
        connection = http.client.HTTPConnection("127.0.0.1", self.port)
        started = time.monotonic()
        for body in bodies:
            connection.request("POST", "/ready-made", body)
            connection.getresponse().read()
        connection.close()
        found = self.taken()
        if found["events"] != POSTS * POST_EVENTS:
            raise SystemExit(f"the sink counts {found['events']} of {POSTS * POST_EVENTS} events")
        return found["events"] / (found["last"] - started)


def _line(number: int) -> bytes:
    return b'{"request":"call-%07d","' % number + b"-" * (EVENT_BYTES - 28) + b'"}\n'


@dataclass
class Ledger:
    """What became of a row's events."""

    recorded: int = 0
    arrived: int = 0
    again: int = 0
    requests: int = 0
    size: int = 0

    def __str__(self) -> str:
        where = f"in {self.requests:,} requests" if self.requests else "in files"
        twice = f", {self.again:,} of them again" if self.again else ""
        each = f"{self.size / max(1, self.arrived + self.again):.0f} bytes each"
        return f"{self.recorded:,} events recorded, {self.arrived:,} arrived {where}, {each}{twice}"


@dataclass(frozen=True)
class Took:
    """What a run took: µs a call; events a second, from the first call until the last arrival; percent of them that arrived.

    *blocked* has what single calls took in µs, in a row that times each: "median", "p99", "longest".
    """

    call: float
    rate: float
    kept: float
    blocked: Mapping[str, float]


@dataclass
class Bench:
    """Where everything is installed, and what has been counted so far."""

    folder: Path
    ours: str
    theirs: str
    sink: Sink
    ledgers: dict[str, Ledger] = field(default_factory=dict)
    strangers: set[str] = field(default_factory=set)

    def run(self, row: str, calls: int, limits: str = "raised", ledger: str = "") -> Took:
        """Let a row make its calls, and count what arrived, in *ledger* (by default the row's)."""
        path = self.folder / "stored"
        words = [self.theirs if row in SDKS else self.ours, str(HERE / "peers_client.py"), ROWS[row]]
        words += [str(calls), limits, str(self.sink.port), str(path)]
        # Not in this checkout: a library may look around where it is started, for a version to report.
        where, env = self.folder, environment(self.folder)
        done = subprocess.run(words, cwd=where, env=env, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"{row}: {done.stderr[-2000:]}")
        figures = json.loads(done.stdout)
        self.strangers.update(f"{row}: {host}" for host in figures["strangers"])
        found = self._stored(path) if row in FILES | LOOPS else self.sink.taken()
        if row in OURS and found["events"] < calls:
            print(f"{row}: {calls - found['events']} of {calls} events are lost; it says: {done.stderr[:500]}")
        self._note(self.ledgers.setdefault(ledger or row, Ledger()), calls, found)
        rate = found["events"] / (found["last"] - figures["started"]) if found["events"] else 0.0
        # What a client that delivered has left of its own: its counts, its ID.
        shutil.rmtree(path, ignore_errors=True)
        return Took(figures["call"], rate, 100 * found["events"] / calls, figures["blocked"])

    def _stored(self, path: Path) -> dict[str, float]:
        """Count what is in the files of a folder, which has arrived by now, and remove it."""
        now = time.monotonic()
        bodies = [file.read_bytes() for file in path.rglob("*") if file.is_file()]
        shutil.rmtree(path, ignore_errors=True)
        return {"requests": 0, "bytes": sum(map(len, bodies)), "last": now, **count(bodies)}

    def _note(self, ledger: Ledger, calls: int, found: Mapping[str, float]) -> None:
        ledger.recorded += calls
        ledger.arrived += int(found["events"])
        ledger.again += int(found["again"])
        ledger.requests += int(found["requests"])
        ledger.size += int(found["bytes"])


def main() -> int:
    """Measure, print the tables, and return 1 where rillevents lost an event."""
    assert __doc__
    options = arguments(__doc__, 5)
    with tempfile.TemporaryDirectory() as text, Sink() as sink:
        folder = Path(text)
        bench = Bench(folder, install(folder)[0], install_peers(folder), sink)
        versions = versions_of(bench.theirs)
        calls = Table("one call in a long-lived process, mean", "µs", LOGGING)
        rates = Table("delivered to a server on the same machine, until all has arrived", "events/s", "", less=False)
        kept = Table(f"{HOT_CALLS:,} calls in a hot loop at default limits", "% arrived", INTAKE, less=False)
        waits = [
            Table("an event loop waits for one call: the median", "µs", LOGGING_IN_LOOP),
            Table("an event loop waits for one call: the 99th percentile", "µs", LOGGING_IN_LOOP),
            Table(f"an event loop waits for one call: the longest of {CALLS:,}", "µs", LOGGING_IN_LOOP),
        ]
        services = Table("one call of a client that delivers by itself, mean", "µs", CONFIGURED)
        ready_made = measure(bench, calls, rates, options.rounds)
        measure_services(bench, services, waits, options.rounds)
        # Once: it takes long, and what is lost by the tenth is seen well enough. A percent or less is chance.
        for row in SENDERS:
            kept.add(row, bench.run(row, HOT_CALLS, "default", f"{row}, default limits").kept)
    quickest, best = min(SDKS, key=calls.median), max(SDKS, key=rates.median)
    rates.base = best
    goals = goals_of(calls, rates, kept, quickest, best)
    report([calls, rates, kept, services, *waits], goals, counted(bench, ready_made, rates), versions, options)
    return int(any(ledger.arrived < ledger.recorded for row, ledger in bench.ledgers.items() if row.startswith(OURS)))


def measure(bench: Bench, calls: Table, rates: Table, rounds: int) -> list[float]:
    """Let every row have its turn, so many times, and return what the sink took ready-made in each round."""
    rows = [row for row in (*FILES, *SENDERS) if row != CONFIGURED]
    for row in rows:
        # Named in this order, whichever comes first in the rounds.
        calls.samples[row] = []
        if row in SENDERS:
            rates.samples[row] = []
        # So that no row is the first to read its files from the disk; counted like all others.
        bench.run(row, WARMING_CALLS)
    ready_made = []
    for number in range(rounds):
        ready_made.append(bench.sink.ready_made())
        for row in rows[:: 1 if number % 2 else -1]:
            took = bench.run(row, CALLS)
            calls.add(row, took.call)
            if row in SENDERS:
                rates.add(row, took.rate)
    return ready_made


def measure_services(bench: Bench, services: Table, waits: Sequence[Table], rounds: int) -> None:
    """Let the rows that deliver by themselves, and those within a coroutine, have their turns."""
    rows = [CONFIGURED, *DELIVERING, *LOOPS]
    for row in rows:
        bench.run(row, WARMING_CALLS)
    for row in (CONFIGURED, *DELIVERING):
        services.samples[row] = []
    for number in range(rounds):
        for row in rows[:: 1 if number % 2 else -1]:
            took = bench.run(row, CALLS)
            if row in LOOPS:
                for table, figure in zip(waits, took.blocked.values(), strict=True):
                    table.add(row, figure)
            else:
                services.add(row, took.call)


def goals_of(calls: Table, rates: Table, kept: Table, quickest: str, best: str) -> list[Goal]:
    """Return what was to be reached, and whether it was."""
    into_spool, into_intake = "`client.record` into the spool", "`client.record` into the intake sink"
    percent = kept.median(INTAKE)
    return [
        at_most(into_spool, "≤ 0.35 × stdlib `logging` + json into a file", calls.ratio(SPOOL), 0.35),
        at_least(into_spool, f"≥ 3 × faster than the fastest SDK's call ({quickest})", calls.ratio(quickest, SPOOL), 3),
        at_most(into_intake, f"≤ 1/5 of the fastest SDK's call ({quickest})", calls.ratio(INTAKE, quickest), 0.2),
        at_least(into_intake, f"≥ 8 × the best SDK's delivered events/s ({best})", rates.ratio(INTAKE, best), 8),
        Goal(into_intake, "100 % delivered at default limits", f"{percent:.2f} %", percent == 100),
    ]


def counted(bench: Bench, ready_made: Sequence[float], rates: Table) -> list[str]:
    """Return what became of all events, what the sink could have taken, and whether anybody wanted to go elsewhere."""
    needed = max(map(rates.median, rates.samples))
    strangers = ", ".join(sorted(bench.strangers)) or "none"
    return [
        *(f"{row}: {ledger}" for row, ledger in bench.ledgers.items()),
        f"the sink takes {median(ready_made):,.0f} events/s posted ready-made, "
        f"{median(ready_made) / needed:.1f} × what the fastest row needs",
        f"hosts beyond this machine that were asked for: {strangers}",
    ]


def install_peers(folder: Path) -> str:
    """Return the Python of a venv with the peers in it."""
    venv.create(folder / "peers", with_pip=True)
    words = [str(folder / "peers/bin/pip"), "install", "-q", "--disable-pip-version-check", "-r", str(PEERS)]
    subprocess.run(words, check=True)
    return str(folder / "peers/bin/python")


def versions_of(python: str) -> dict[str, str]:
    """Return the versions of the peers, by what is installed."""
    names = re.findall(r"^[\w-]+", PEERS.read_text(), re.MULTILINE)
    code = "import sys, json; from importlib.metadata import version; print(json.dumps({n: version(n) for n in sys.argv[1:]}))"
    done = subprocess.run([python, "-c", code, *names], capture_output=True, text=True, check=True)
    versions: dict[str, str] = json.loads(done.stdout)
    return versions


if __name__ == "__main__":
    sys.exit(main())
