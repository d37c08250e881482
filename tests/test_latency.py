"""How long recording may take: it waits for nobody, neither for a crowd nor for a process that is stopped."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import PACE, Tool, need

from rillevents.testing import FakeIntake

pytestmark = [pytest.mark.slow, pytest.mark.unmeasured]

# In seconds, for one `record`. The fault that these tests look for is a wait that does not end by itself.
BOUND = 30 * PACE

HOLDER = Path(__file__).parent / "faults" / "holder.py"
WRITER = """
from rillevents import Client
client = Client.from_config(on_error="raise")
for number in range(4):
    client.record("behavioral", f"live-{number}")
    print(number, flush=True)
client.close()
"""
LOOP = """
import asyncio, time
from rillevents import Client
client = Client.from_config(on_error="raise")
lags = []
async def beat():
    for _ in range(200):
        before = time.monotonic()
        await asyncio.sleep(0.001)
        lags.append(time.monotonic() - before)
async def work():
    for number in range(500):
        client.record("behavioral", "x", number=number)
        await asyncio.sleep(0)
async def main():
    await asyncio.gather(beat(), *(work() for _ in range(4)))
asyncio.run(main())
client.close()
print(max(lags))
"""


def stop(process: subprocess.Popen[str], pid: int = 0) -> None:
    """Stop a process, and return once it stands still."""
    os.kill(pid or process.pid, signal.SIGSTOP)
    await_stopped(pid or process.pid)


def await_stopped(pid: int) -> None:
    deadline = time.monotonic() + BOUND
    while Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "Tt":
        assert time.monotonic() < deadline, "it was not stopped"
        time.sleep(0.01)


@contextlib.contextmanager
def running(words: list[str], tool: Tool, **environ: str) -> Iterator[subprocess.Popen[str]]:
    """Run a process in a group of its own, which is ended, stopped or not, with the block."""
    with subprocess.Popen(
        words,
        env=tool.environ | environ,
        stdout=subprocess.PIPE,
        text=True,
        cwd=tool.home.parent,
        start_new_session=True,
    ) as process:
        try:
            yield process
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


@contextlib.contextmanager
def held_slots(tool: Tool, count: int) -> Iterator[None]:
    """Have a stopped process hold so many slots."""
    tool("record", "behavioral", "before")
    with running([sys.executable, str(HOLDER), str(tool.spool), str(count)], tool) as holder:
        assert holder.stdout
        assert holder.stdout.readline() == "held\n"
        stop(holder)
        yield


def record_in_time(tool: Tool, count: int = 3) -> None:
    """Record events, each within the bound."""
    for number in range(count):
        done = tool("record", "behavioral", f"prompt-{number}", "--on-error", "fail", timeout=BOUND)
        assert (0, "") == (done.returncode, done.stderr)


def names(tool: Tool, prefix: str = "") -> list[str]:
    """Return the names of the events that wait."""
    return sorted(event["event_name"] for event in tool.events() if event["event_name"].startswith(prefix))


def test_crowd(tool: Tool) -> None:
    """Sixty-four `record` processes at once all return 0 in time, and every event is stored exactly once."""
    processes = [
        subprocess.Popen(
            tool.command("record", "behavioral", f"{number:02}", "--on-error", "fail"),
            env=tool.environ,
            stderr=subprocess.PIPE,
            cwd=tool.home.parent,
        )
        for number in range(64)
    ]
    told = [process.communicate(timeout=BOUND)[1] for process in processes]
    assert [(0, b"")] * 64 == [(process.returncode, text) for process, text in zip(processes, told, strict=True)]
    assert [f"{number:02}" for number in range(64)] == names(tool)


@pytest.mark.parametrize("count", [1, 64])
def test_stopped_holder(count: int, tool: Tool) -> None:
    """`record` and programs do not wait for a stopped process that holds a slot, or all of them; a flush delivers everything."""
    script = "from rillevents import Client; Client.from_config(on_error='raise').record('behavioral', 'prompt-by-a-program')"
    out = tool.home.parent / "out.ndjson"
    with held_slots(tool, count):
        record_in_time(tool)
        subprocess.run([sys.executable, "-c", script], env=tool.environ, check=True, timeout=BOUND)
        expected = ["prompt-0", "prompt-1", "prompt-2", "prompt-by-a-program"]
        assert expected == names(tool, "prompt")
        assert 0 == tool("flush", "--to", f"file:{out}", timeout=BOUND).returncode
        record_in_time(tool, 1)
    assert 0 == tool("flush", "--to", f"file:{out}", timeout=BOUND).returncode
    delivered = [json.loads(line)["event_name"] for line in out.read_bytes().splitlines()]
    assert sorted([*expected, "before", "prompt-0"]) == sorted(delivered)


def test_stopped_flush(tool: Tool) -> None:
    """`record` does not wait for a flush that is stopped in the middle of sending; another flush has a bound of its own."""
    tool("record", "behavioral", "before")
    reached, release = threading.Event(), threading.Event()
    with FakeIntake() as intake:
        intake.respond = lambda request: (reached.set(), release.wait(BOUND), 200)[2]  # type: ignore[func-returns-value]
        with running(tool.command("flush"), tool, RILLEVENTS_INTAKE_URL=intake.url) as flush:  # type: ignore[arg-type]
            assert reached.wait(BOUND)
            stop(flush)
            record_in_time(tool)
            assert 75 == tool("flush", "--timeout", "1", timeout=BOUND, RILLEVENTS_INTAKE_URL=intake.url).returncode
            release.set()
            os.kill(flush.pid, signal.SIGCONT)
            assert 0 == flush.wait(BOUND)
        assert 0 == tool("flush", timeout=BOUND, RILLEVENTS_INTAKE_URL=intake.url).returncode
    assert ["before", "prompt-0", "prompt-1", "prompt-2"] == sorted({event["event_name"] for event in intake.events})


def test_stopped_inside_its_write(tool: Tool) -> None:
    """A program that is stopped while it writes an event holds nobody up, and its events arrive, once it goes on, once each."""
    strace = need("strace")
    tool.home.mkdir(mode=0o700)
    # Durable, so that each event has one call that nothing else makes: the sync, after the write, with the file locked.
    (tool.home / "config.toml").write_text("[spool]\ndurable = true\n")
    inject = ["-e", "trace=fdatasync", "-e", "inject=fdatasync:signal=STOP:when=2"]
    out = tool.home.parent / "out.ndjson"
    with running([strace, "-o", "/dev/null", *inject, sys.executable, "-c", WRITER], tool) as tracer:
        assert tracer.stdout
        assert tracer.stdout.readline() == "0\n"
        writer = int(Path(f"/proc/{tracer.pid}/task/{tracer.pid}/children").read_text().split()[0])
        await_stopped(writer)
        record_in_time(tool)
        assert 0 == tool("flush", "--to", f"file:{out}", timeout=BOUND).returncode
        record_in_time(tool, 1)
        os.kill(writer, signal.SIGCONT)
        assert "1\n2\n3\n" == tracer.stdout.read()
        assert 0 == tracer.wait(BOUND)
    assert 0 == tool("flush", "--to", f"file:{out}", timeout=BOUND).returncode
    delivered = sorted(json.loads(line)["event_name"] for line in out.read_bytes().splitlines())
    assert [*(f"live-{n}" for n in range(4)), "prompt-0", "prompt-0", "prompt-1", "prompt-2"] == delivered


def test_beside_a_large_flush(tool: Tool) -> None:
    """While a flush works through a large spool, `record` is prompt, and everything arrives, once."""
    line = b'{"event_id":"%d","event_time":"2026-11-23T10:00:00Z","event_type":"t","event_name":"many","pad":"%s"}\n'
    tool("record", "raw", stdin=b"".join(line % (number, b"x" * 500) for number in range(20_000)))
    (tool.home / "config.toml").write_text("[flush]\nbatch_events = 20\n")
    out = tool.home.parent / "out.ndjson"
    with running(tool.command("flush", "--to", f"file:{out}"), tool) as flush:  # type: ignore[arg-type]
        while not out.exists():
            time.sleep(0.01)
            assert flush.poll() is None
        record_in_time(tool, 10)
        assert 0 == flush.wait(10 * BOUND)
    assert 0 == tool("flush", "--to", f"file:{out}", timeout=BOUND).returncode
    found = [json.loads(text)["event_id"] for text in out.read_bytes().splitlines()]
    assert (20_010, 20_010) == (len(found), len(set(found)))


def test_event_loop(tool: Tool) -> None:
    """In an event loop recording holds up the other tasks only for moments, also while all slots are held by a stopped process."""
    with held_slots(tool, 64):
        done = subprocess.run(
            [sys.executable, "-c", LOOP],
            env=tool.environ,
            capture_output=True,
            text=True,
            timeout=4 * BOUND,
            check=True,
        )
    assert float(done.stdout) < BOUND / 3
    assert 2000 == len(names(tool, "x"))
