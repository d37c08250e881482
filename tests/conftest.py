"""Fixtures that all tests may ask for."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from browsing import Browser, chromium
from support import Tool, need, only

# A shell starts background jobs with SIGINT and SIGQUIT ignored, nohup with SIGHUP, and a child inherits that: tests that send
# them need the default.
signal.signal(signal.SIGINT, signal.default_int_handler)
for ending in (signal.SIGQUIT, signal.SIGHUP):
    signal.signal(ending, signal.SIG_DFL)


@pytest.fixture(autouse=True, scope="module")
def measured(request: pytest.FixtureRequest) -> Iterator[None]:
    """Let the processes that a module's tests start be measured for coverage, or not.

    `unmeasured` are modules that start thousands of processes (measuring one takes ten times as long as recording an event),
    that fork or are interrupted while threads record (the lock of what measures does not bear that), or that hold a server to
    seconds and megabytes. What they run is measured elsewhere.
    """
    unmeasured = request.node.get_closest_marker("unmeasured")
    taken = {key: os.environ.pop(key) for key in list(os.environ) if unmeasured and key.startswith("COVERAGE_PROCESS")}
    yield
    os.environ.update(taken)


@pytest.fixture
def tool(tmp_path: Path) -> Tool:
    """The command line, with an empty home."""
    (tmp_path / "user").mkdir()
    return Tool(tmp_path / "home")


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", folder, Path(__file__).parents[1]], check=True
    )
    return Path(only(list(folder.glob("*.whl"))))


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """One Chromium for all tests that need one."""
    with chromium() as found:
        yield found


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[str]:
    """A Redis on loopback."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    words = [need("redis-server"), "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(tmp_path)]
    running = subprocess.Popen(words, stdout=subprocess.DEVNULL)
    try:
        yield f"redis://127.0.0.1:{port}/0"
    finally:
        running.kill()
        running.wait()
