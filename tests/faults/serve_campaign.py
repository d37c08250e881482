"""Kill the server, all the time, and count what it had answered for and does not have.

    python tests/faults/serve_campaign.py [SECONDS] [SEED] [store|spool]

Clients send events over HTTP, one and many at a time, on kept connections and on new ones, and send again what was not answered.
Meanwhile the server is killed at random moments, or stopped by SIGTERM, and started again. An event is answered once a response of
200 has been read to its end.

Afterwards answered ⊆ stored ⊆ sent, every event is there once (in a store; a spool may hold one again) with the bytes that were made
for its ID, and a store is whole; otherwise the exit code is 1. The table that is printed is the one in the manual
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
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]

    def run(self, seconds: float) -> None:
        """Let everybody loose for so long, and end with a server that was stopped in good order."""
        clients = [threading.Thread(target=self.client, args=(number,)) for number in range(CLIENTS)]
        for client in clients:
            client.start()
        end, rng = time.monotonic() + seconds, random.Random(self.seed)
        while time.monotonic() < end:
            self.serve(rng)
        self.over.set()
        with self.started() as server:
            for client in clients:
                client.join()
            server.send_signal(signal.SIGTERM)
            server.wait()

    def serve(self, rng: random.Random) -> None:
        """Run a server for a moment."""
        with self.started() as server:
            time.sleep(rng.uniform(0.05, 1.0))
            number = signal.SIGKILL if rng.random() < 0.8 else signal.SIGTERM
            server.send_signal(number)
            self.times[number.name] += 1
            server.wait()

    @contextlib.contextmanager
    def started(self) -> Iterator[subprocess.Popen[bytes]]:
        """Give a server that listens."""
        words = [sys.executable, "-m", "rillevents", "serve", "--port", str(self.port), "--json", "-q"]
        words += ["--to", "spool"] if self.to_spool else []
        with subprocess.Popen(words, env=self.environ, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as server:
            assert server.stdout
            assert server.stdout.readline(), "the server does not start"
            yield server

    def client(self, number: int) -> None:
        """Send events until it is over; what was not answered is sent again, the same bytes."""
        rng = random.Random(f"{self.seed}-{number}")
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        sequence = 0
        while not self.over.is_set():
            event_ids = [f"{number}-{sequence + n}" for n in range(rng.choice((1, 1, 1, 20, 300)))]
            sequence += len(event_ids)
            self.sent.update(event_ids)
            while not self.send(connection, event_ids) and not self.over.is_set():
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
        paths = Paths(self.environ)
        if self.to_spool:
            return [line.decode() for line in pending(paths.spool_dir)]
        return [f"{body}\n" for body in rows(paths.default_store)]

    def verdict(self) -> dict[str, int]:
        """Return what became of the events; `lost`, `altered`, `never sent` and `damaged` have to be 0."""
        lines = self.stored()
        found = Counter(json.loads(line)["event_id"] for line in lines)
        whole = self.to_spool or rows(Paths(self.environ).default_store, "PRAGMA integrity_check") == ["ok"]
        return {
            "sent": len(self.sent),
            "answered for": len(self.answered),
            "stored": len(found),
            "stored again": len(lines) - len(found),
            "answered for, but lost": len(self.answered - found.keys()),
            "altered": sum(line.encode() != line_of(json.loads(line)["event_id"]) for line in lines),
            "stored, but never sent": len(found.keys() - self.sent),
            "stores damaged": int(not whole),
        }


MUST_BE_NONE = ("answered for, but lost", "altered", "stored, but never sent", "stores damaged")


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
    for line in (*table("fault", told), "", *table("events", figures)):
        print(line)
    missing = [name for name, n in told.items() if not n and name != "requests refused"]
    for name in missing:
        print("not played, so this run proves nothing about it:", name, file=sys.stderr)
    again = kind == "store" and figures["stored again"]
    return int(bool(again or missing) or any(figures[name] for name in MUST_BE_NONE))


if __name__ == "__main__":
    words = sys.argv[1:]
    sys.exit(main(*(kind(word) for kind, word in zip((float, int, str), words, strict=False))))  # type: ignore[operator, arg-type]
