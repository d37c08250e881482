"""What a large store answers, and how long that takes beside the same SQL in sqlite3; what storing costs beside 0.1.0.

    python tests/benchmarks/store.py [ROUNDS] [--events N] [--save]

Builds the wheel of this checkout and installs it, and that of version 0.1.0, into plain venvs. A seed makes 5,000,000 events over
30 days, 500 at a time as requests bring them; each version stores all of them in a file of its own, in pieces by turns, and a server
of each takes the same requests by turns. Then every command and its SQL have their turns on the new store, each as a process of its
own, and a server's page is asked for its counts.
The memory is what the largest command needed. What the store answers is compared with the SQL's answer.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import count, islice
from pathlib import Path

from common import Table, arguments, at_least, at_most, environment, install, install_release, report, version_of

EVENTS = 5_000_000
DAYS = 30
PIECES = 10
# Requests of a turn, and the events of each.
POSTS, POSTED = 60, 500
EXTRA = ("uvicorn", "httptools", "uvloop")
SQLITE3 = shutil.which("sqlite3") or "sqlite3"
PLAIN, OURS, SQLITE = "python -c pass", "rillevents", "sqlite3"
_COUNTS, _PAGE, _VALUES = "stats --since 30d", "page, counts of 30 days", "page, values of 30 days"
_BY, _INSTALLS, _REACH = "page, 30 days by service_name", "page, installs of 30 days", "page, what reaches what"
# What is asked, as a command and as SQL.
ASKED = {
    "stats --every 1d --by service_name": (
        ["stats", "--every", "1d", "--utc", "--by", "service_name", "--json"],
        "SELECT date(event_us / 1000000, 'unixepoch') AS day, json_extract(body, '$.service_name') AS s, COUNT(*),"
        " SUM(CASE WHEN event_type = 'metric' THEN json_extract(body, '$.value') END) FROM events GROUP BY 1, 2",
    ),
    "stats --name build-seconds --by service_name": (
        ["stats", "--name", "build-seconds", "--by", "service_name", "--json"],
        "SELECT s, COUNT(*), SUM(v * MAX(0, 1 - ABS(0.95 * last - place))) FROM (SELECT s, v, ROW_NUMBER() OVER (PARTITION BY s"
        " ORDER BY v) - 1 AS place, COUNT(*) OVER (PARTITION BY s) - 1 AS last FROM (SELECT json_extract(body,"
        " '$.service_name') AS s, json_extract(body, '$.value') AS v FROM events WHERE event_name = 'build-seconds'"
        " AND event_type = 'metric')) GROUP BY s",
    ),
    "stats --name build-seconds": (
        ["stats", "--name", "build-seconds", "--json"],
        "SELECT COUNT(*), SUM(json_extract(body, '$.value')) FROM events WHERE event_name = 'build-seconds'"
        " AND event_type = 'metric'",
    ),
    "events -a service_name=nosuch": (
        ["events", "-a", "service_name=nosuch"],
        "SELECT event_time FROM events WHERE json_extract(body, '$.service_name') = 'nosuch' ORDER BY event_us DESC LIMIT 50",
    ),
    "query, a GROUP BY": (
        ["query", "SELECT service_name, COUNT(*) FROM events GROUP BY 1"],
        "SELECT json_extract(body, '$.service_name'), COUNT(*) FROM events GROUP BY 1",
    ),
}
# Runs in the Python of either version: makes the events of one piece and stores them, and prints the seconds of the storing.
FILL = """
import json, random, sys, time
from pathlib import Path
try:
    from rillevents.event.envelope import Required
except ImportError:
    from rillevents.spool.lines import Required
from rillevents.store.incoming import Incoming
from rillevents.store.writer import StoreWriter

path, events, piece, pieces, days, end = sys.argv[1], *map(int, sys.argv[2:])
kinds = [("behavioral", "login-start", 25), ("behavioral", "login-success", 20), ("behavioral", "deploy-start", 10),
         ("behavioral", "deploy-success", 8), ("behavioral", "app-start", 10), ("metric", "build-seconds", 12),
         ("metric", "test-seconds", 5), ("log", "note", 10)]
chance = random.Random(piece)
weights = [weight for *_, weight in kinds]
start, step = end - days * 86400, days * 86400 / events
writer, took = StoreWriter(path), 0.0
first, last = events * piece // pieces, events * (piece + 1) // pieces
for at in range(first, last, 500):
    lines, fields = [], []
    for number in range(at, min(at + 500, last)):
        moment = start + number * step
        kind, name, _ = chance.choices(kinds, weights)[0]
        text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(int(moment))) + ".%09dZ" % int(moment % 1 * 1e9)
        event = {"event_id": "0193f7a1-%04x-7000-8000-%012x" % (number & 0xFFFF, number), "event_time": text,
                 "event_type": kind, "event_name": name, "install_id": "%032x" % chance.randrange(5000),
                 "service_name": chance.choice(["api", "web", "worker", "cron", "cli"]), "service_version": "1.4.2",
                 "plan": chance.choice(["free", "pro", "team"]), "git_branch": "main", "os": "linux"}
        if kind == "metric":
            event["value"] = round(chance.lognormvariate(3, 0.6), 3)
        lines.append(json.dumps(event, separators=(",", ":")).encode() + b"\\n")
        fields.append(Required(event["event_id"], text, kind, name))
    incoming = Incoming(lines, fields, range(1, len(lines) + 1), received_us=end * 1000000, size=sum(map(len, lines)))
    began = time.perf_counter()
    writer.store([incoming])
    writer.tidy()
    took += time.perf_counter() - began
began = time.perf_counter()
while writer.tidy():
    pass
writer.close()
print(took + time.perf_counter() - began)
"""


@dataclass
class Bench:
    """The installed programs, the stores, and what the commands needed."""

    folder: Path
    python: str
    script: str
    released: str
    events: int
    end: int
    memory: int = 0
    counted: list[str] = field(default_factory=list)

    @property
    def store(self) -> str:
        """The store that is asked."""
        return str(self.folder / "new.db")

    def fill(self) -> Table:
        """Let each version store all events, a piece at a time by turns, and return the seconds of the pieces."""
        table = Table("storing a piece of the events, 500 a call", "s", "0.1.0")
        for piece in range(PIECES):
            for row, python, store in (
                ("0.1.0", self.released, "old.db"),
                (OURS, self.python, "new.db"),
            )[:: 1 if piece % 2 else -1]:
                numbers = map(str, (self.events, piece, PIECES, DAYS, self.end))
                words = [python, "-c", FILL, str(self.folder / store), *numbers]
                # Not in the checkout: `-c` would import that.
                done = subprocess.run(
                    words, env=self.environ, cwd=self.folder, capture_output=True, text=True, check=True
                )
                table.add(row, float(done.stdout))
        (self.folder / "old.db").unlink()
        return table

    @property
    def environ(self) -> dict[str, str]:
        """The environment of the children."""
        return environment(self.folder)

    def run(self, *words: str) -> float:
        """Run a command, note its memory, and return its seconds; raises SystemExit where it fails."""
        actions = [(os.POSIX_SPAWN_OPEN, fd, os.devnull, os.O_RDWR, 0) for fd in (1, 2)]
        began = time.perf_counter()
        _, status, used = os.wait4(os.posix_spawn(words[0], words, self.environ, file_actions=actions), 0)
        took = time.perf_counter() - began
        if os.waitstatus_to_exitcode(status):
            raise SystemExit(f"{' '.join(words)} failed")
        if words[0] == self.script:
            self.memory = max(self.memory, used.ru_maxrss >> 10)
        return took

    def ours(self, *words: str) -> Callable[[], float]:
        """Return a turn of a command on the store."""
        return lambda: self.run(self.script, words[0], "--store", self.store, *words[1:])

    def theirs(self, sql: str) -> Callable[[], float]:
        """Return a turn of the SQL in sqlite3."""
        return lambda: self.run(SQLITE3, "-readonly", self.store, sql)

    def document(self, *words: str) -> dict[str, object]:
        """Return what `stats` says as JSON."""
        done = subprocess.run(
            [self.script, "stats", "--store", self.store, "--json", *words],
            env=self.environ, capture_output=True, check=True,
        )  # fmt: skip
        found: dict[str, object] = json.loads(done.stdout)
        return found


def ingested(bench: Bench, released: str, rounds: int) -> Table:
    """Return how long a server of each version takes for some requests, one after the other, on a store that is empty at first."""
    table = Table(f"{POSTS} requests of {POSTED} events to a server", "s", "0.1.0")
    servers, urls = [], {}
    numbers = count()
    try:
        for row, script in (("0.1.0", released), (OURS, bench.script)):
            words = [script, "serve", "--port", "0", "--json", "-q", "--store", str(bench.folder / f"posted {row}.db")]
            servers.append(subprocess.Popen(words, env=bench.environ, stdout=subprocess.PIPE))
            assert servers[-1].stdout
            urls[row] = json.loads(servers[-1].stdout.readline())["intake_url"]
        table.measure({row: partial(_post, url, numbers) for row, url in urls.items()}, rounds)
    finally:
        for server in servers:
            server.terminate()
            server.wait()
    return table


def _post(url: str, numbers: Iterator[int]) -> float:
    bodies = []
    for _ in range(POSTS):
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        # Of six events one is a metric, with a value that hardly any other has.
        lines = [
            json.dumps(
                {"event_id": f"0193f7a1-0000-7000-8000-{number:012x}", "event_time": now,
                 "event_type": "behavioral" if number % 6 else "metric",
                 "event_name": "build-seconds" if number % 6 == 0 else f"login-{number % 6}",
                 "install_id": f"{number % 5000:032x}", "service_name": "api", "service_version": "1.4.2", "plan": "free",
                 "git_branch": "main", "os": "linux", **({} if number % 6 else {"value": number % 99991 / 7})}
            )
            for number in islice(numbers, POSTED)
        ]  # fmt: skip
        bodies.append("\n".join(lines).encode())
    began = time.perf_counter()
    for body in bodies:
        request = urllib.request.Request(url, body, {"Content-Type": "application/x-ndjson"})
        with urllib.request.urlopen(request) as answer:
            answer.read()
    return time.perf_counter() - began


def page(bench: Bench, rounds: int) -> Table:
    """Return how long a server's answers for its page take, with those of 30 days."""
    words = [bench.script, "serve", "--port", "0", "--json", "-q", "--store", bench.store]
    server = subprocess.Popen(words, env=bench.environ, stdout=subprocess.PIPE)
    assert server.stdout
    url = json.loads(server.stdout.readline())["url"]

    def asked(path: str) -> dict[str, object]:
        with urllib.request.urlopen(f"{url}{path}") as answer:
            found: dict[str, object] = json.load(answer)
        return found

    def timed(path: str) -> Callable[[], float]:
        def turn() -> float:
            began = time.perf_counter()
            asked(path)
            return time.perf_counter() - began

        return turn

    counts, values = "/api/stats?since=30d", "/api/values?name=build-seconds&since=30d"
    # No goal: these are read from the events, the newest 500,000.
    read = {
        _BY: "/api/stats?since=30d&buckets=30&by=service_name",
        _INSTALLS: "/api/installs?since=30d&buckets=30",
        _REACH: "/api/reach?since=30d&start=login-start&goal=login-success",
    }
    table = Table("the page's answers", "s", _PAGE)
    try:
        found = asked(counts)
        bench.counted.append(f"the page's counts: {found['total']:,} events, complete: {found['complete']}")
        asks = {_PAGE: counts, _VALUES: values, **read}
        table.measure({row: timed(path) for row, path in asks.items()}, rounds)
    finally:
        server.terminate()
        server.wait()
    return table


def main() -> None:
    """Fill the stores, ask them, and report."""
    own = argparse.ArgumentParser(add_help=False)
    own.add_argument("--events", type=int, default=EVENTS)
    given, sys.argv[1:] = own.parse_known_args()
    options = arguments(__doc__ or "", 3)
    if given.events != EVENTS:
        options.command += f" --events {given.events}"
    with tempfile.TemporaryDirectory(prefix="rillevents-store-") as name:
        folder = Path(name)
        python, script = install(folder, *EXTRA)
        release = install_release(folder, *EXTRA)
        released = str(Path(release).with_name("python"))
        bench = Bench(folder, python, script, released, given.events, int(time.time()))
        # First: for long after the stores are filled the disk is busy with them.
        posted = ingested(bench, release, options.rounds * 10)
        stored = bench.fill()
        plain = Table("counts of 30 days", "s", PLAIN)
        plain.measure(
            {PLAIN: lambda: bench.run(python, "-c", "pass"), _COUNTS: bench.ours("stats", "--since", "31d", "--json")},
            options.rounds,
        )
        found = bench.document("--since", "31d")
        bench.counted.append(f"stats: {found['events']:,} events of {given.events:,}")
        tables = []
        for job, (words, sql) in ASKED.items():
            table = Table(job, "s", SQLITE)
            table.measure({OURS: bench.ours(*words), SQLITE: bench.theirs(sql)}, options.rounds)
            tables.append(table)
        shown = page(bench, options.rounds)
        goals = [
            at_most("`stats --since 30d`, whole process", "≤ 0.3 s", plain.median(_COUNTS), 0.3, "s"),
            *(at_most(f"the {row}", "≤ 0.3 s", shown.median(row), 0.3, "s") for row in (_PAGE, _VALUES)),
            *(
                at_most(f"`{table.title}`", "≤ 1.5 × the same SQL in `sqlite3`", table.ratio(OURS), 1.5)
                for table in tables
            ),
            at_most("memory of the largest command", "≤ 100 MB", bench.memory, 100, "MB"),
            at_least("a server's requests, beside 0.1.0", "≥ 0.9 × as quick", 1 / posted.ratio(OURS), 0.9),
            at_least("storing alone, beside 0.1.0", "≥ 0.9 × as quick", 1 / stored.ratio(OURS), 0.9),
        ]
        report(
            [stored, posted, plain, *tables, shown],
            goals,
            bench.counted,
            {"sqlite3": version_of(SQLITE3, "--version")},
            options,
        )


if __name__ == "__main__":
    main()
