"""What `serve` takes over HTTP, durable before each answer, beside servers that keep nothing.

    python tests/benchmarks/serve.py [ROUNDS] [--save]

Builds the wheel of this checkout, installs it with the extra into a plain venv, and lets wrk send events on 64 kept connections to
one server after the other, in turn: one event a request beside a bare ASGI application on the same uvicorn, which parses and
stores nothing; 500 events a request beside the same server of ours with a storage that keeps nothing. Every event has an ID of its
own, and is counted in the store, or the spool, afterwards. Exit code 1 where one is missing that was answered for; else it decides
nothing. wrk has a core of the two to itself, and the server the other.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import sqlite3
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from common import Goal, Table, arguments, at_least, environment, install, report, version_of

CONNECTIONS, SECONDS, MANY = 64, 4, 500
BARE, NOTHING = "bare ASGI application, uvicorn", "rillevents serve, keeping nothing"
STORE, SPOOL = "rillevents serve --store", "rillevents serve --to spool"
EXTRA = ("uvicorn>=0.54,<0.60", "httptools", "uvloop", "prometheus-client")

BARE_PROGRAM = """\
import asyncio, json, socket, uvicorn

async def app(scope, receive, send):
    while (await receive()).get("more_body"):
        pass
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2"), (b"content-type", b"application/json")]})
    await send({"type": "http.response.body", "body": b"{}"})

with socket.create_server(("127.0.0.1", 0), backlog=2048) as listener:
    print(json.dumps({"url": f"http://127.0.0.1:{listener.getsockname()[1]}"}), flush=True)
    settings = uvicorn.Config(
        app, http="httptools", loop="uvloop", ws="none", lifespan="off", log_config=None, access_log=False, proxy_headers=False, server_header=False
    )
    uvicorn.Server(settings).run(sockets=[listener])
"""
NOTHING_PROGRAM = """\
import json, os
from rillevents.local import Paths
from rillevents.serve.options import Options
from rillevents.serve.server import Server
from rillevents.store.incoming import Stored

class Nothing:
    def store(self, incoming):
        return [Stored(len(arrived.lines)) for arrived in incoming]
    def tidy(self):
        pass
    close = tidy

class KeepingNothing(Server):
    def _storage(self):
        return Nothing()

KeepingNothing(
    Options(port=0), Paths(os.environ), os.environ, lambda url, keeps: print(json.dumps({"url": url}), flush=True), print
).run()
"""
# An ID of its own for each event: the run, the request and the place in it; a time that moves on. Replaced in a body that is made
# once: wrk has one core of two, and is not what is measured.
LUA = """\
local events, run, n = tonumber(os.getenv("EVENTS")), os.getenv("RUN"), 0
local lines = {}
for i = 1, events do
  lines[i] = string.format('{"event_id":"%s-@ID@-%03d","event_time":"2026-11-23T10:@TIME@.%06dZ",', run, i, i) ..
    '"event_type":"behavioral","event_name":"login-start","install_id":"6f1c8a5e-0000-4000-8000-000000000000",' ..
    '"service_name":"worker","service_version":"1.2.3","plan":"pro","path":"' .. string.rep("x", 96) .. '"}\\n'
end
local template = table.concat(lines)
function request()
  n = n + 1
  local seconds = math.floor(n * events / 10000)
  local body = template:gsub("@ID@", string.format("%09d", n)):gsub("@TIME@", string.format("%02d:%02d", seconds / 60 % 60, seconds % 60))
  return wrk.format("POST", "/events/default", {["Content-Type"] = "application/x-ndjson"}, body)
end
"""


@dataclass
class Run:
    """What wrk saw of one run: answers of 200 by second, and how long they took, in milliseconds."""

    requests: int
    rate: float
    p50: float
    p99: float


@dataclass
class Bench:
    """The servers, and what became of what they answered for."""

    folder: Path
    python: str
    script: str
    runs: dict[tuple[str, int], list[Run]] = field(default_factory=dict)
    missing: int = 0
    kept: int = 0
    number: int = 0

    def words(self, row: str, home: Path) -> list[str]:
        """Return what starts a server; each prints its address."""
        programs = {BARE: BARE_PROGRAM, NOTHING: NOTHING_PROGRAM}
        if row in programs:
            return [self.python, "-c", programs[row]]
        more = ["--store", str(home / "events.db")] if row == STORE else ["--to", "spool"]
        return [self.script, "serve", "--port", "0", "--json", "-q", *more]

    @contextlib.contextmanager
    def server(self, row: str, home: Path) -> Iterator[str]:
        """Give the address of a server under way."""
        environ = environment(self.folder, str(home))
        with subprocess.Popen(self.words(row, home), env=environ, stdout=subprocess.PIPE, text=True) as server:
            assert server.stdout
            text = ""
            while "}" not in text:
                text += server.stdout.readline()
            try:
                yield json.loads(text)["url"]
            finally:
                server.send_signal(signal.SIGTERM)

    def rate(self, row: str, events: int) -> Callable[[], float]:
        """Return a turn of a server: events a second."""

        def turn() -> float:
            self.number += 1
            home = self.folder / f"home-{self.number}"
            home.mkdir()
            with self.server(row, home) as url:
                run = wrk(url, self.folder / "events.lua", events, f"run-{self.number}")
            self.runs.setdefault((row, events), []).append(run)
            if row in (STORE, SPOOL):
                kept = count(row, home)
                self.kept += kept
                self.missing += max(0, run.requests * events - kept)
            shutil.rmtree(home)
            return run.rate * events

        return turn

    def counted(self) -> list[str]:
        """Return what arrived, and how long answers took."""
        lines = [
            f"kept by the store and the spool: {self.kept:,} events; {self.missing} missing of those that were answered for"
        ]
        for (row, events), runs in self.runs.items():
            p50, p99 = (
                statistics.median(figures) for figures in zip(*((run.p50, run.p99) for run in runs), strict=True)
            )
            lines.append(f"{row}, {events} a request: p50 {p50:.2f} ms, p99 {p99:.2f} ms, {CONNECTIONS} connections")
        return lines


def wrk(url: str, script: Path, events: int, run: str) -> Run:
    """Let wrk send for a few seconds; raises SystemExit where an answer is not 2xx."""
    words = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{SECONDS}", "--timeout", "30", "--latency", "-s", str(script), url]
    environ = os.environ | {"EVENTS": str(events), "RUN": run}
    done = subprocess.run(words, env=environ, capture_output=True, text=True, check=True)
    if "Non-2xx" in done.stdout:
        raise SystemExit(done.stdout)

    def said(pattern: str) -> re.Match[str]:
        found = re.search(pattern, done.stdout)
        if not found:
            raise SystemExit(done.stdout)
        return found

    p50, p99 = (milliseconds(said(rf"{part}%\s+([\d.]+)(us|ms|s)")) for part in (50, 99))
    return Run(int(said(r"(\d+) requests in")[1]), float(said(r"Requests/sec:\s+([\d.]+)")[1]), p50, p99)


def milliseconds(found: re.Match[str]) -> float:
    """Return a time as wrk writes it."""
    return float(found[1]) * {"us": 0.001, "ms": 1, "s": 1000}[found[2]]


def count(row: str, home: Path) -> int:
    """Return how many events a server has kept."""
    if row == SPOOL:
        return sum(path.read_bytes().count(b"\n") for path in (home / "spool" / "v1").glob("live-*.ndjson"))
    with contextlib.closing(sqlite3.connect(home / "events.db")) as connection:
        return int(connection.execute("SELECT COUNT(*) FROM events").fetchone()[0])


def goals_of(tables: Mapping[int, Table]) -> list[Goal]:
    """Return what was wanted."""
    one, many = tables[1], tables[MANY]
    return [
        at_least(
            "`serve`, one event a request, durable", "≥ 0.5 × a bare ASGI application", one.ratio(STORE, BARE), 0.5
        ),
        at_least(
            f"`serve`, {MANY} events a request, SQLite",
            "≥ 0.35 × the same without a store",
            many.ratio(STORE, NOTHING),
            0.35,
        ),
        at_least(
            f"`serve`, {MANY} events a request, spool",
            "≥ 0.7 × the same without a store",
            many.ratio(SPOOL, NOTHING),
            0.7,
        ),
    ]


def main() -> int:
    """Measure, and print the tables."""
    assert __doc__
    options = arguments(__doc__, 5)
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        bench = Bench(folder, *install(folder, *EXTRA))
        (folder / "events.lua").write_text(LUA)
        versions = {
            "python": version_of(bench.python, "--version").split()[1],
            "wrk": version_of("wrk", "-v").split()[1],
        }
        for package in ("uvicorn", "httptools", "uvloop"):
            versions[package] = version_of(
                bench.python, "-c", f"import importlib.metadata as m; print(m.version('{package}'))"
            )
        tables = {
            1: Table("serve, one event a request", "events/s", BARE, less=False),
            MANY: Table(f"serve, {MANY} events a request", "events/s", NOTHING, less=False),
        }
        for events, rows in ((1, (BARE, NOTHING, STORE, SPOOL)), (MANY, (NOTHING, STORE, SPOOL))):
            tables[events].measure({row: bench.rate(row, events) for row in rows}, options.rounds)
    report(list(tables.values()), goals_of(tables), bench.counted(), versions, options)
    return int(bool(bench.missing))


if __name__ == "__main__":
    sys.exit(main())
