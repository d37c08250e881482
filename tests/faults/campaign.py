"""Kill everything, break everything, all the time, and count what is lost: the oracle of the spool and of delivery.

    python tests/faults/campaign.py [SECONDS] [SEED]

One-shot `record` processes, `record raw`, long-lived clients and flushers run side by side, are killed and stopped at random
moments, lose the flusher's memory and its lock, meet a full disk (as root) and damaged lines, while the intake answers with
outages, resets, half answers and refusals. An event is acknowledged once the process that recorded it has said so.

Afterwards acknowledged ⊆ delivered ⊆ attempted, every payload is the one that was made for its ID, and a fresh event still
flows; otherwise the exit code is 1. It is 1, too, where a fault was not played: a campaign proves nothing about that. So delays
are parts of what a `record` and a `flush` take on this machine, which is measured first.

The table that is printed is the one in the manual (`rillevents help faults`).
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
from faults.faulty_intake import FaultyIntake

CLIENT = """
import sys, time, zlib
from rillevents import Client
client = Client.from_config(on_error="log")
for number in range(10**9):
    event_id = f"{sys.argv[1]}-{number}"
    print("try", event_id, flush=True)
    if client.record("behavioral", "live", event_id=event_id, payload=event_id * (1 + zlib.crc32(event_id.encode()) % 40)):
        print("ack", event_id, flush=True)
    time.sleep(0.001)
"""
KILLS = {
    "record": "`record` killed",
    "raw": "`record raw` of 50 lines killed",
    "client": "long-lived client killed",
    "flush": "`flush` killed",
}
SABOTAGE = {
    "stopped": "`record` stopped for a while, whatever it held",
    "torn": "half a line left at the end of a file",
    "state": "`state.json` deleted, emptied or cut off",
    "lock": "`flush.lock` deleted",
    "full": "disk full for a while",
}


def payload_of(event_id: str) -> str:
    """Return what an event of this ID carries: between one and forty times its ID."""
    return event_id * (1 + zlib.crc32(event_id.encode()) % 40)


class Campaign:
    """One run: what was tried, what was acknowledged, and how often what was done to whom."""

    def __init__(self, home: Path, url: str, seed: int, *, can_fill: bool) -> None:
        self.environ = {key: value for key, value in os.environ.items() if not key.startswith("RILLEVENTS_")}
        self.environ |= {
            "RILLEVENTS_HOME": str(home),
            "RILLEVENTS_INTAKE_URL": url,
            "RILLEVENTS_INSTALL_ID": "campaign",
        }
        self.home = home
        self.spool = home / "spool" / "v1"
        self.seed = seed
        self.can_fill = can_fill
        self.attempted: set[str] = set()
        self.acknowledged: set[str] = set()
        self.times: Counter[str] = Counter()
        self.lock = threading.Lock()
        self.over = threading.Event()
        # What one `record` and one `flush` of one event take, in seconds.
        self.record_seconds = self.flush_seconds = 0.0

    def measure(self) -> None:
        """Record and flush once while nobody else does anything, to know what that takes here."""
        self.attempt(["first"])
        self.record_seconds = self.timed(
            ["record", "behavioral", "x", "--id", "first", "-a", f"payload={payload_of('first')}"]
        )
        self.flush_seconds = self.timed(["flush"])
        self.acknowledge(["first"])

    def timed(self, words: list[str]) -> float:
        """Run the tool, and return how many seconds it took; it has to succeed."""
        began = time.monotonic()
        if self.spawn("", words):
            raise RuntimeError(f"{words[0]} failed before anything was done to it")
        return time.monotonic() - began

    def run(self, seconds: float) -> None:
        """Let everybody loose for so long."""
        workers = [self.one_shot] * 4 + [self.raw, self.client, self.client, self.flusher, self.flusher, self.saboteur]
        with ThreadPoolExecutor(len(workers)) as threads:
            running = [threads.submit(work, random.Random(f"{self.seed}-{n}"), n) for n, work in enumerate(workers)]
            # Until one of them ends, which only a fault of the campaign's own makes it do.
            wait(running, seconds, FIRST_COMPLETED)
            self.over.set()
        for worker in running:
            worker.result()

    def one_shot(self, rng: random.Random, worker: int) -> None:
        """Record one event in a process of its own, again and again; kill two in three, stop some."""
        number = 0
        while not self.over.is_set():
            number += 1
            event_id = f"shot-{worker}-{number}"
            self.attempt([event_id])
            words = ["record", "behavioral", "shot", "--id", event_id, "-a", f"payload={payload_of(event_id)}"]
            words += ["--on-error", "fail", *(["--durable"] if rng.random() < 0.1 else [])]
            after = rng.uniform(0.1, 1.2) * self.record_seconds if rng.random() < 0.67 else None
            if self.spawn("record", words, after, stop=rng.random() < 0.05) == 0:
                self.acknowledge([event_id])

    def raw(self, rng: random.Random, worker: int) -> None:
        """Record fifty lines at once; kill every other process."""
        number = 0
        while not self.over.is_set():
            number += 1
            ids = [f"raw-{worker}-{number}-{n}" for n in range(50)]
            self.attempt(ids)
            words = ["record", "raw", "--on-error", "fail"]
            after = rng.uniform(0.1, 1.2) * self.flush_seconds if rng.random() < 0.5 else None
            if self.spawn("raw", words, after, stdin=b"".join(map(line_of, ids))) == 0:
                self.acknowledge(ids)

    def client(self, rng: random.Random, worker: int) -> None:
        """Keep a long-lived client recording; kill it after a while, and start another."""
        generation = 0
        while not self.over.is_set():
            generation += 1
            words = [sys.executable, "-c", CLIENT, f"live-{worker}-{generation}"]
            with subprocess.Popen(
                words, env=self.environ, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
            ) as running:
                killer = threading.Timer(rng.uniform(0.4, 4) * self.flush_seconds, running.kill)
                killer.start()
                assert running.stdout
                for told in running.stdout:
                    self.hear(told)
                killer.join()
            self.note("client")

    def flusher(self, rng: random.Random, worker: int) -> None:
        """Flush again and again; kill two in three."""
        while not self.over.is_set():
            after = rng.uniform(0.5, 4) * self.flush_seconds if rng.random() < 0.67 else None
            self.spawn("flush", ["flush", "--timeout", str(6 * self.flush_seconds), "-q"], after)

    def saboteur(self, rng: random.Random, worker: int) -> None:
        """Take away what the flusher remembers, leave half lines behind, fill the disk."""
        deeds: Sequence[Callable[[random.Random], None]] = [
            self.tear,
            self.spoil_state,
            self.unlink_lock,
            self.fill_disk,
        ]
        while not self.over.wait(rng.uniform(0.1, 0.5)):
            with contextlib.suppress(FileNotFoundError, BlockingIOError):
                rng.choices(deeds, [4, 2, 2, 1])[0](rng)

    def tear(self, rng: random.Random) -> None:
        """Leave what a writer leaves that is killed within its write: a part of a line, without its end."""
        with open(self.spool / "slot-0.ndjson", "ab", buffering=0) as slot:
            fcntl.flock(slot, fcntl.LOCK_EX | fcntl.LOCK_NB)
            slot.write(line_of("torn")[: rng.randrange(1, 60)])
            self.note("torn")

    def spoil_state(self, rng: random.Random) -> None:
        """Make the flusher forget how far it was, or remember half of it."""
        state = self.spool / "state.json"
        kind = rng.randrange(3)
        if kind == 0:
            state.unlink()
        else:
            os.truncate(state, rng.randrange(state.stat().st_size + 1) if kind == 1 else 0)
        self.note("state")

    def unlink_lock(self, rng: random.Random) -> None:
        """Delete the file that keeps flushers apart."""
        (self.spool / "flush.lock").unlink()
        self.note("lock")

    def fill_disk(self, rng: random.Random) -> None:
        """Leave no byte free for a while."""
        if not self.can_fill:
            return
        filler = self.home.parent / "filler"
        with contextlib.suppress(OSError), open(filler, "wb", buffering=0) as file:
            while True:
                file.write(b"\0" * (1 << 20))
        self.note("full")
        self.over.wait(rng.uniform(0.1, 0.5))
        filler.unlink()

    def spawn(
        self, kind: str, words: list[str], kill_after: float | None = None, *, stop: bool = False, stdin: bytes = b""
    ) -> int:
        """Run the tool, killed (or stopped and let go on) after so many seconds, and return its exit code."""
        with subprocess.Popen(
            [sys.executable, "-m", "rillevents", *words],
            env=self.environ,
            stdin=subprocess.PIPE if stdin else subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        ) as running:
            if stdin and running.stdin:
                with contextlib.suppress(BrokenPipeError):
                    running.stdin.write(stdin)
                    running.stdin.close()
            try:
                return running.wait(kill_after)
            except subprocess.TimeoutExpired:
                if stop:
                    running.send_signal(signal.SIGSTOP)
                    self.note("stopped")
                    self.over.wait(0.3)
                    running.send_signal(signal.SIGCONT)
                    return running.wait()
                running.kill()
                self.note(kind)
                return running.wait()

    def note(self, what: str) -> None:
        with self.lock:
            self.times[what] += 1

    def hear(self, told: str) -> None:
        verb, _, event_id = told.rstrip("\n").partition(" ")
        if told.endswith("\n"):  # else torn by the kill: nothing was said
            (self.attempt if verb == "try" else self.acknowledge)([event_id])

    def attempt(self, event_ids: Sequence[str]) -> None:
        with self.lock:
            self.attempted.update(event_ids)

    def acknowledge(self, event_ids: Sequence[str]) -> None:
        with self.lock:
            self.acknowledged.update(event_ids)

    def finish(self, intake: FaultyIntake) -> None:
        """Flush what is left into an intake that has become well, what it had refused included, and one more event."""
        intake.calm = True
        self.attempt(["fresh"])
        if self.spawn("", ["record", "behavioral", "x", "--id", "fresh", "-a", f"payload={payload_of('fresh')}"]) == 0:
            self.acknowledge(["fresh"])
        for _ in range(3):
            self.spawn("", ["flush"])
            self.spawn("", ["spool", "retry"])
        self.spawn("", ["flush"])

    def left_over(self) -> list[Path]:
        """Return the files that still hold something.

        Not those of no byte: a writer killed before its first write leaves a slot that the next one takes.
        """
        return [path for path in self.spool.glob("*.ndjson") if path.stat().st_size]


def line_of(event_id: str) -> bytes:
    """Return a raw event."""
    fields = {"event_id": event_id, "event_time": "2026-11-23T10:00:00Z", "event_type": "t", "event_name": "n"}
    return json.dumps(fields | {"payload": payload_of(event_id)}).encode() + b"\n"


def verdict(campaign: Campaign, intake: FaultyIntake) -> dict[str, int]:
    """Return what became of the events; `lost`, `altered`, `never recorded` and `files left over` have to be 0."""
    delivered = intake.delivered
    return {
        "attempted": len(campaign.attempted),
        "acknowledged": len(campaign.acknowledged),
        "delivered": len(delivered),
        "delivered again (duplicates)": sum(delivered.values()) - len(delivered),
        "torn or damaged lines mended": sum(
            path.read_bytes().count(b"\n") + (path.read_bytes()[-1:] != b"\n")
            for path in campaign.spool.glob("corrupt/*")
        ),
        "acknowledged, but lost": len(campaign.acknowledged - delivered.keys()),
        "altered": intake.altered,
        "delivered, but never recorded": len(delivered.keys() - campaign.attempted),
        "files left over": len(campaign.left_over()),
    }


MUST_BE_NONE = ("acknowledged, but lost", "altered", "delivered, but never recorded", "files left over")


def not_played(campaign: Campaign, intake: FaultyIntake) -> list[str]:
    """Return the faults that this run did not play; a full disk needs a small one of its own."""
    times = {text: campaign.times[kind] for kind, text in (KILLS | SABOTAGE).items()} | intake.faults
    return [name for name, n in times.items() if not n and (name != SABOTAGE["full"] or campaign.can_fill)]


def report(campaign: Campaign, intake: FaultyIntake, figures: dict[str, int], seconds: float) -> Iterator[str]:
    """Yield the tables of a run, as Markdown."""
    kills = sum(campaign.times[kind] for kind in KILLS)
    yield f"{kills:,} kills in {seconds:.0f} s, seed {campaign.seed}."
    yield ""
    yield from table("fault", {text: campaign.times[kind] for kind, text in (KILLS | SABOTAGE).items()} | intake.faults)
    yield ""
    yield from table("events", figures)


def table(what: str, rows: dict[str, int]) -> Iterator[str]:
    """Yield a table of two columns."""
    width = max(map(len, rows))
    yield f"| {what.ljust(width)} | {'times' if what == 'fault' else 'number':>9} |"
    yield f"|{'-' * (width + 2)}|{'-' * 10}:|"
    for name, figure in rows.items():
        yield f"| {name.ljust(width)} | {figure:>9,} |"


@contextlib.contextmanager
def small_disk() -> Iterator[tuple[Path, bool]]:
    """Give a folder to work in, on a small disk of its own where that can be had (as root), and whether it is one."""
    with tempfile.TemporaryDirectory() as folder:
        words = ["mount", "-t", "tmpfs", "-o", "size=256m,mode=0700", "tmpfs", folder]
        mounted = os.geteuid() == 0 and subprocess.run(words, capture_output=True, check=False).returncode == 0
        try:
            yield Path(folder), mounted
        finally:
            if mounted:
                subprocess.run(["umount", folder], check=True)


def main(seconds: float = 60, seed: int = 1) -> int:
    """Run a campaign and print its tables; 0 where every fault was played and nothing was lost."""
    began = time.monotonic()
    with small_disk() as (folder, can_fill), FaultyIntake(seed, payload_of) as intake:
        campaign = Campaign(folder / "home", intake.url, seed, can_fill=can_fill)
        intake.calm = True
        campaign.measure()
        intake.calm = False
        campaign.run(seconds)
        campaign.finish(intake)
        figures = verdict(campaign, intake)
        left = [f"{path.name}: {path.read_bytes()[:200]!r}" for path in campaign.left_over()]
    for line in report(campaign, intake, figures, time.monotonic() - began):
        print(line)
    for event_id in sorted(campaign.acknowledged - intake.delivered.keys())[:20]:
        print("lost:", event_id, file=sys.stderr)
    for line in left:
        print("left over:", line, file=sys.stderr)
    missing = not_played(campaign, intake)
    for name in missing:
        print("not played, so this run proves nothing about it:", name, file=sys.stderr)
    return int(bool(missing) or any(figures[name] for name in MUST_BE_NONE))


if __name__ == "__main__":
    sys.exit(main(*(float(text) if n == 0 else int(text) for n, text in enumerate(sys.argv[1:3]))))  # type: ignore[arg-type]
