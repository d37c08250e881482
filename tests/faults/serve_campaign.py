"""Kill the server, all the time, and count what it had answered for and does not have.

    python tests/faults/serve_campaign.py [SECONDS] [SEED] [store|spool]

Clients send events over HTTP, one and many at a time, on kept connections and on new ones, and send again what was not answered.
Meanwhile the server is killed at random moments, or stopped by SIGTERM, and started again. An event is answered once a response of
200 has been read to its end. A store is moved, deleted, backed up and restored as well, under one server and under two that share it,
and after kills: moving.py.

Afterwards answered ⊆ stored ⊆ sent, every event has the bytes that were made for its ID, and every store is whole; otherwise the exit
code is 1. Stored means: in the store or in a file that it was moved to. What was in a deleted store, or in one that a backup replaced,
does not count. The exit code is 1, too, where a fault was not played: a campaign proves nothing about that. The table that is printed is the one in the manual
(`rillevents help serve`).
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
from faults.campaign import line_of, table
from faults.moving import AT_REST, UNDER_WAY, Shelf
from serving import rows

from rillevents.local import Paths
from rillevents.spool.view import pending

CLIENTS = 8


class Campaign:
    """One run: what was sent, what was answered for, and how often the server was killed."""

    def __init__(self, home: Path, seed: int, *, to_spool: bool) -> None:
        self.environ = {key: value for key, value in os.environ.items() if not key.startswith("RILLEVENTS_")}
        self.environ |= {"RILLEVENTS_HOME": str(home)}
        self.seed = seed
        self.to_spool = to_spool
        self.sent: set[str] = set()
        self.answered: set[str] = set()
        self.times: Counter[str] = Counter()
        self.over = threading.Event()
        with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as two:
            self.ports = (one.getsockname()[1], two.getsockname()[1])
        self.shelf = Shelf(Path(Paths(self.environ).default_store), self.sent, self.answered, self.times)

    def run(self, seconds: float) -> None:
        """Let everybody loose for so long, or longer where something was not played yet, and end with a server that was stopped in good order."""
        clients = [threading.Thread(target=self.client, args=(number,)) for number in range(CLIENTS)]
        for client in clients:
            client.start()
        end, rng = time.monotonic() + seconds, random.Random(self.seed)
        while time.monotonic() < end or not (self.is_played() or time.monotonic() > end + 120):
            self.serve(rng)
        self.over.set()
        with self.started() as server:
            for client in clients:
                client.join()
            server.send_signal(signal.SIGTERM)
            server.wait()

    def is_played(self) -> bool:
        """Return whether everything that is done to a store was done."""
        return self.to_spool or (self.shelf.is_played() and bool(self.times[TWO] and self.times[AGAIN]))

    def serve(self, rng: random.Random) -> None:
        """Run a server for a moment, or two on one store."""
        if self.to_spool or rng.random() < 0.5:
            with self.started() as server:
                self.disturb(rng)
                self.end(rng, server)
        else:
            self.serve_two(rng)
        if not self.to_spool and rng.random() < 0.6:
            self.shelf.play(rng, is_served=False)

    def serve_two(self, rng: random.Random) -> None:
        """Run two servers on one store; the second may be killed and started again while the first goes on."""
        with self.started() as one:
            self.times[TWO] += 1
            with self.started(1) as two:
                self.disturb(rng)
                self.end(rng, two)
            if rng.random() < 0.5:
                self.times[AGAIN] += 1
                self.shelf.play(rng, is_served=True)
                with self.started(1) as two:
                    self.disturb(rng)
                    self.end(rng, two)
            self.end(rng, one)

    def disturb(self, rng: random.Random) -> None:
        """Let a moment pass, and do something to the store in it."""
        time.sleep(rng.uniform(0.05, 0.6))
        if not self.to_spool and rng.random() < 0.9:
            self.shelf.play(rng, is_served=True)
            time.sleep(rng.choice((0, 0, 0.05, 0.4)))

    def end(self, rng: random.Random, server: subprocess.Popen[bytes]) -> None:
        """End a server, mostly the hard way."""
        number = signal.SIGKILL if rng.random() < 0.7 else signal.SIGTERM
        server.send_signal(number)
        self.times[number.name] += 1
        server.wait()

    @contextlib.contextmanager
    def started(self, which: int = 0) -> Iterator[subprocess.Popen[bytes]]:
        """Give a server that listens."""
        words = [sys.executable, "-m", "rillevents", "serve", "--port", str(self.ports[which]), "--json", "-q"]
        words += ["--to", "spool"] if self.to_spool else []
        with subprocess.Popen(words, env=self.environ, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as server:
            assert server.stdout
            assert server.stdout.readline(), "the server does not start"
            yield server

    def client(self, number: int) -> None:
        """Send events until it is over; what was not answered is sent again, the same bytes."""
        rng = random.Random(f"{self.seed}-{number}")
        connection = http.client.HTTPConnection("127.0.0.1", self.ports[0], timeout=10)
        sequence = 0
        while not self.over.is_set():
            event_ids = [f"{number}-{sequence + n}" for n in range(rng.choice((1, 1, 1, 20, 300)))]
            sequence += len(event_ids)
            self.sent.update(event_ids)
            while not self.send(connection, event_ids) and not self.over.is_set():
                connection.close()
                connection.port = rng.choice(self.ports)
                time.sleep(0.01)
            if rng.random() < 0.1:
                connection.close()
        connection.close()

    def send(self, connection: http.client.HTTPConnection, event_ids: list[str]) -> bool:
        """Send once; return whether it was answered for."""
        try:
            connection.request("POST", "/events/default", b"".join(map(line_of, event_ids)))
            answer = connection.getresponse()
            body = answer.read()
        except (OSError, http.client.HTTPException):
            connection.close()
            self.times["broken"] += 1
            return False
        if answer.status != 200 or json.loads(body)["rejected"]:
            self.times["refused"] += 1
            return False
        self.answered.update(event_ids)
        self.times["answered"] += 1
        return True

    def stored(self) -> list[str]:
        """Return the lines that are there."""
        if self.to_spool:
            return [line.decode() for line in pending(Paths(self.environ).spool_dir)]
        return [f"{body}\n" for path in self.shelf.files() for body in _bodies(path)]

    def verdict(self) -> dict[str, int]:
        """Return what became of the events; `lost`, `altered`, `never sent`, `damaged` and `incomplete` have to be 0."""
        lines = self.stored()
        found = Counter(json.loads(line)["event_id"] for line in lines)
        gone = self.answered - found.keys()
        return {
            "sent": len(self.sent),
            "answered for": len(self.answered),
            "stored": len(found),
            "stored again": len(lines) - len(found),
            "deleted with a store": len(gone & self.shelf.excused),
            "answered for, but lost": len(gone - self.shelf.excused),
            "altered": sum(line.encode() != line_of(json.loads(line)["event_id"]) for line in lines),
            "stored, but never sent": len(found.keys() - self.sent),
            "stores damaged": 0 if self.to_spool else self.shelf.damaged(),
            "backups incomplete": self.shelf.incomplete,
        }


def _bodies(path: Path) -> list[str]:
    """Return the events of a file; none if it was moved before its tables were made: what it should have is then missing."""
    if not rows(path, "SELECT name FROM sqlite_master WHERE name = 'events'"):
        return []
    return rows(path)


TWO = "two servers on one store"
AGAIN = "one of two servers ended and started again"
MUST_BE_NONE = (
    "answered for, but lost",
    "altered",
    "stored, but never sent",
    "stores damaged",
    "backups incomplete",
)


def main(seconds: float = 20, seed: int = 1, kind: str = "store") -> int:
    """Run a campaign and print its tables; 0 where nothing was lost."""
    with tempfile.TemporaryDirectory() as folder:
        campaign = Campaign(Path(folder) / "home", seed, to_spool=kind == "spool")
        campaign.run(seconds)
        figures = campaign.verdict()
    print(
        f"{campaign.times['SIGKILL']:,} kills and {campaign.times['SIGTERM']:,} stops in {seconds:.0f} s, seed {seed}, {kind}.\n"
    )
    told = {
        "server killed": campaign.times["SIGKILL"],
        "server stopped by SIGTERM": campaign.times["SIGTERM"],
        "requests broken off, or not taken": campaign.times["broken"],
        "requests refused": campaign.times["refused"],
        "requests answered": campaign.times["answered"],
    }
    if kind == "store":
        told |= {name: campaign.times[name] for name in (TWO, AGAIN, *UNDER_WAY, *AT_REST)}
    for line in (*table("fault", told), "", *table("events", figures)):
        print(line)
    missing = [name for name, n in told.items() if not n and name != "requests refused"]
    for name in missing:
        print("not played, so this run proves nothing about it:", name, file=sys.stderr)
    return int(bool(missing) or any(figures[name] for name in MUST_BE_NONE))


if __name__ == "__main__":
    words = sys.argv[1:]
    sys.exit(main(*(kind(word) for kind, word in zip((float, int, str), words, strict=False))))  # type: ignore[operator, arg-type]
