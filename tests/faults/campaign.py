"""Kill everything, all the time, and count what is lost: the oracle of the spool and of delivery.

    python tests/faults/campaign.py [SECONDS] [SEED]

One-shot `record` processes, long-lived clients and flushers run side by side and are killed at random moments, while the intake
answers with outages and resets. An event is acknowledged once the process that recorded it has said so. Afterwards everything
that was acknowledged has to have been delivered, with the payload that was made for it, and a fresh event still flows.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from pathlib import Path
from typing import Any

from rillevents.testing import FakeIntake

ONE_SHOTS, CLIENTS, FLUSHERS = 3, 2, 1
CLIENT = """
import sys
from rillevents import Client
client = Client.from_config(on_error="raise")
for number in range(10**9):
    event_id = f"{sys.argv[1]}-{number}"
    print("try", event_id, flush=True)
    client.record("behavioral", "live", event_id=event_id, payload=event_id * (1 + number % 40))
    print("ack", event_id, flush=True)
"""


class Campaign:
    """One run: what was tried, what was acknowledged, and how often somebody was killed."""

    def __init__(self, home: str, url: str, seed: int) -> None:
        self.environ = {key: value for key, value in os.environ.items() if not key.startswith("RILLEVENTS_")}
        self.environ |= {"RILLEVENTS_HOME": home, "RILLEVENTS_INTAKE_URL": url, "RILLEVENTS_INSTALL_ID": "campaign"}
        self.seed = seed
        self.attempted: dict[str, str] = {}
        self.acknowledged: set[str] = set()
        self.counts: Counter[str] = Counter()
        self.lock = threading.Lock()
        self.over = threading.Event()

    def run(self, seconds: float) -> None:
        """Let everybody loose for so long."""
        kinds = [self.one_shot] * ONE_SHOTS + [self.client] * CLIENTS + [self.flusher] * FLUSHERS
        threads = [
            threading.Thread(target=kind, args=(random.Random(self.seed + n), n)) for n, kind in enumerate(kinds)
        ]
        for thread in threads:
            thread.start()
        self.over.wait(seconds)
        self.over.set()
        for thread in threads:
            thread.join()

    def one_shot(self, rng: random.Random, worker: int) -> None:
        """Record one event in a process of its own, again and again; kill one in two."""
        number = 0
        while not self.over.is_set():
            number += 1
            event_id = f"shot-{worker}-{number}"
            payload = event_id * (1 + number % 400)
            self.attempt(event_id, payload)
            words = ["record", "behavioral", "shot", "--id", event_id, "-a", f"payload={payload}", "--on-error", "fail"]
            if self.spawn(words, rng.uniform(0.001, 0.04) if rng.random() < 0.5 else None) == 0:
                self.acknowledge(event_id)

    def client(self, rng: random.Random, worker: int) -> None:
        """Keep a long-lived client recording; kill it after a while, and start another."""
        generation = 0
        while not self.over.is_set():
            generation += 1
            words = [sys.executable, "-c", CLIENT, f"live-{worker}-{generation}"]
            with subprocess.Popen(words, env=self.environ, stdout=subprocess.PIPE, text=True) as running:
                killer = threading.Timer(rng.uniform(0.1, 0.6), running.kill)
                killer.start()
                assert running.stdout
                for told in running.stdout:
                    self.hear(told)
                killer.join()
            self.count(running.returncode)

    def flusher(self, rng: random.Random, worker: int) -> None:
        """Flush again and again; kill two in three."""
        while not self.over.is_set():
            self.spawn(["flush", "--timeout", "2", "-q"], rng.uniform(0.15, 0.9) if rng.random() < 0.66 else None)

    def spawn(self, words: list[str], kill_after: float | None) -> int:
        """Run the tool, killed after so many seconds, and return its exit code."""
        with subprocess.Popen(
            [sys.executable, "-m", "rillevents", *words], env=self.environ, stderr=subprocess.DEVNULL
        ) as running:
            try:
                running.wait(kill_after)
            except subprocess.TimeoutExpired:
                running.send_signal(signal.SIGKILL)
        return self.count(running.returncode)

    def count(self, code: int) -> int:
        with self.lock:
            self.counts["kills" if code == -signal.SIGKILL else "ended"] += 1
        return code

    def hear(self, told: str) -> None:
        verb, _, event_id = told.rstrip("\n").partition(" ")
        if not told.endswith("\n"):
            # Torn by the kill: nothing was said.
            return
        if verb == "try":
            self.attempt(event_id, event_id * (1 + int(event_id.rpartition("-")[2]) % 40))
        elif verb == "ack":
            self.acknowledge(event_id)

    def attempt(self, event_id: str, payload: str) -> None:
        with self.lock:
            self.attempted[event_id] = payload

    def acknowledge(self, event_id: str) -> None:
        with self.lock:
            self.acknowledged.add(event_id)


def verdict(campaign: Campaign, events: list[dict[str, Any]], corrupt: int) -> dict[str, int]:
    """Return the figures of a run; `lost`, `altered` and `unknown` have to be 0."""
    delivered = Counter(event["event_id"] for event in events)
    return {
        "attempted": len(campaign.attempted),
        "acknowledged": len(campaign.acknowledged),
        "delivered": len(delivered),
        "duplicates": sum(delivered.values()) - len(delivered),
        "kills": campaign.counts["kills"],
        "damaged lines put aside": corrupt,
        "lost": len(campaign.acknowledged - delivered.keys()),
        "altered": sum(campaign.attempted.get(event["event_id"]) != event["payload"] for event in events),
        "unknown": len(delivered.keys() - campaign.attempted.keys()),
    }


def main(seconds: float = 60, seed: int = 1) -> int:
    """Run a campaign and print its figures; 0 where nothing was lost."""
    rng = random.Random(seed)
    with tempfile.TemporaryDirectory() as folder, FakeIntake() as intake:
        home = f"{folder}/home"
        campaign = Campaign(home, intake.url, seed)
        intake.respond = lambda request: rng.choices([200, 503, 500, 429], [6, 1, 1, 1])[0]
        campaign.run(seconds)
        intake.respond = None
        campaign.attempt("fresh", "fresh")
        for words in (["record", "behavioral", "x", "--id", "fresh", "-a", "payload=fresh"], ["flush"], ["flush"]):
            campaign.spawn(words, None)
        campaign.acknowledge("fresh")
        spool = Path(home, "spool", "v1")
        left = [path.name for path in spool.glob("*.ndjson")]
        corrupt = sum(path.read_bytes().count(b"\n") for path in spool.glob("corrupt/*"))
        figures = verdict(campaign, intake.events, corrupt) | {"files left": len(left)}
    for name, figure in figures.items():
        print(f"{name:26}{figure:>12,}")
    return int(any(figures[name] for name in ("lost", "altered", "unknown", "files left")))


if __name__ == "__main__":
    sys.exit(main(*(float(text) if n == 0 else int(text) for n, text in enumerate(sys.argv[1:3]))))  # type: ignore[arg-type]
