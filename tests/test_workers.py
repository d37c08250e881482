"""One client in several worker processes of a server, some of which are killed."""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support import PACE

from rillevents import Client
from rillevents.testing import FakeIntake

pytestmark = [pytest.mark.slow, pytest.mark.unmeasured]

ROOT = Path(__file__).parents[1]
# Each records 50 events: 2,000 make a campaign of 100,000.
WORKER_REQUESTS = int(os.environ.get("RILLEVENTS_WORKER_REQUESTS", "200"))
SIGNALS = (signal.SIGKILL, signal.SIGTERM)


@pytest.fixture
def intake() -> Iterator[FakeIntake]:
    with FakeIntake() as running:
        yield running


@pytest.fixture
def environ(intake: FakeIntake, tmp_path: Path) -> dict[str, str]:
    return {
        "PATH": os.environ["PATH"],
        "RILLEVENTS_HOME": str(tmp_path / "home"),
        "RILLEVENTS_INTAKE_URL": intake.url,
        "PYTHONPATH": f"{ROOT}:{tmp_path}",
        "PYTHONWARNINGS": "ignore",
    }


class Killer:
    """Kills children of *parent* by both signals in turn, after each as much progress as chance says: *step* on average."""

    def __init__(self, parent: subprocess.Popen[bytes], step: int) -> None:
        self.kills: Counter[signal.Signals] = Counter()
        self._parent = parent
        self._chance = random.Random(7)
        self._step = step
        # Not while the server starts: then it may give up.
        self._next = 1

    def see(self, progress: int) -> None:
        """Kill a child if it is time to."""
        children = [child for child in self._children() if not _is_tracker(child)]
        if progress >= self._next and children:
            number = SIGNALS[self.kills.total() % 2]
            os.kill(int(self._chance.choice(children)), number)
            self.kills[number] += 1
            self._next = progress + self._chance.randrange(1, 2 * self._step)

    def _children(self) -> list[str]:
        return Path(f"/proc/{self._parent.pid}/task/{self._parent.pid}/children").read_text().split()


def _is_tracker(pid: str) -> bool:
    """Return whether a child is multiprocessing's own, and runs nothing of ours."""
    try:
        return b"resource_tracker" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return True


def check_delivered(acknowledged: set[str], intake: FakeIntake, environ: dict[str, str], killer: Killer) -> None:
    """Deliver what is left, and compare."""
    rest = Client.from_config(environ=environ).flush(timeout=60 * PACE)
    assert 0 == rest.pending
    arrived = [event["event_name"] for event in intake.events]
    lost = acknowledged - {*arrived}
    told = ", ".join(f"{number.name} {killer.kills[number]:,}" for number in SIGNALS)
    print(f"\nacknowledged {len(acknowledged):,}, delivered {len({*arrived}):,} in {len(intake.requests):,} requests,")
    print(f"arrived again {len(arrived) - len({*arrived}):,}, lost {len(lost):,}; killed: {told}")
    assert len(acknowledged) > 1000
    assert set() == lost
    assert {*SIGNALS} == killer.kills.keys()


GUNICORN = """
import os
from rillevents import Client
client = Client.from_config(flush_every=0.2)
def app(environ, start_response):
    name = environ["PATH_INFO"][1:]
    stored = all([client.record("a", f"{name}-{step}") for step in range(50)])
    start_response("200 OK" if stored else "500 X", [("Content-Type", "text/plain"), ("Content-Length", "2")])
    return [b"ok"]
"""
UVICORN = """
from rillevents import Client
client = Client.from_config(flush_every=0.2)
async def app(scope, receive, send):
    stored = all([client.record("a", f"{scope['path'][1:]}-{step}") for step in range(50)])
    head = [(b"content-type", b"text/plain"), (b"content-length", b"2")]
    await send({"type": "http.response.start", "status": 200 if stored else 500, "headers": head})
    await send({"type": "http.response.body", "body": b"ok"})
"""
SERVERS = {
    "gunicorn": (GUNICORN, ["-w", "4", "--preload", "-b", "127.0.0.1:{port}", "--no-control-socket"]),
    "uvicorn": (UVICORN, ["--workers", "4", "--port", "{port}", "--lifespan", "off", "--no-access-log"]),
}


@pytest.mark.parametrize("name", SERVERS)
def test_a_web_server(name: str, intake: FakeIntake, environ: dict[str, str], tmp_path: Path) -> None:
    """Under gunicorn or uvicorn with four workers, some of them killed at random, every acknowledged event is delivered."""
    pytest.importorskip(name)
    import httpx

    code, options = SERVERS[name]
    (tmp_path / "shop.py").write_text(code)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    words = ["-m", name, *(option.format(port=port) for option in options), "shop:app"]
    server = subprocess.Popen([sys.executable, *words], env=environ, cwd=tmp_path, stderr=subprocess.DEVNULL)
    acknowledged, killer = set(), Killer(server, 20)
    try:
        deadline = time.monotonic() + 60 * PACE
        while not _is_open(port):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        with httpx.Client(timeout=20 * PACE) as web:
            for number in range(WORKER_REQUESTS):
                try:
                    if web.get(f"http://127.0.0.1:{port}/n{number}").status_code == 200:
                        acknowledged |= {f"n{number}-{step}" for step in range(50)}
                except httpx.HTTPError:
                    pass
                killer.see(number)
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(60 * PACE)
    check_delivered(acknowledged, intake, environ, killer)


def _is_open(port: int) -> bool:
    with socket.socket() as found:
        return found.connect_ex(("127.0.0.1", port)) == 0


# The file of acknowledgements has lines of one length, so that its size tells how many there are.
CELERY = """
import os
import celery
from rillevents import Client

app = celery.Celery("shop", broker=os.environ["BROKER"])
app.conf.broker_connection_retry_on_startup = True
app.conf.worker_prefetch_multiplier = 1
# Children also come and go by themselves.
app.conf.worker_max_tasks_per_child = 40
client = Client.from_config(flush_every=0.2)
# The pool forks a process that has a thread and a file of ours.
client.record("a", "boot")
acknowledgements = os.open(os.environ["ACKNOWLEDGED"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

@app.task(ignore_result=True)
def work(number):
    for step in range(50):
        name = f"n{number:06}-{step:02}"
        if client.record("a", name):
            os.write(acknowledgements, f"{name}\\n".encode())
"""
LINE = len("n000000-00\n")


def test_celery_prefork(broker: str, intake: FakeIntake, environ: dict[str, str], tmp_path: Path) -> None:
    """In a prefork pool of four, with children killed at random amid their tasks, every acknowledged event is delivered."""
    pytest.importorskip("celery")
    redis: Any = pytest.importorskip("redis")
    (tmp_path / "tasks.py").write_text(CELERY)
    file = tmp_path / "acknowledged"
    file.touch()
    environ |= {"BROKER": broker, "ACKNOWLEDGED": str(file)}
    calls = f"import tasks\nfor n in range({WORKER_REQUESTS}): tasks.work.delay(n)"
    subprocess.run([sys.executable, "-c", calls], env=environ, cwd=tmp_path, check=True, timeout=120 * PACE)
    words = ["-m", "celery", "-A", "tasks", "worker", "-c", "4", "-P", "prefork", "-l", "critical"]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    worker = subprocess.Popen([sys.executable, *words], env=environ, cwd=tmp_path, **quiet)  # type: ignore[call-overload]
    # About sixty in all, wherever each of them is then.
    killer = Killer(worker, max(50, WORKER_REQUESTS * 50 // 60))
    deadline = time.monotonic() + (60 + WORKER_REQUESTS / 5) * PACE
    try:
        with redis.Redis.from_url(broker) as queue:
            while waits := queue.llen("celery"):
                assert worker.poll() is None
                assert time.monotonic() < deadline, f"{waits} tasks wait"
                killer.see(file.stat().st_size // LINE)
                time.sleep(0.005)
    finally:
        # It ends once its children have done what they are at.
        worker.send_signal(signal.SIGTERM)
        worker.wait(60 * PACE)
    check_delivered({*file.read_text().split()}, intake, environ, killer)
