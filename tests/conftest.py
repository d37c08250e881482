"""Fixtures that all tests may ask for."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from browsing import Browser, chromium
from support import Tool

# A shell starts background jobs with SIGINT ignored, and a child inherits that: tests of Ctrl-C need the default.
signal.signal(signal.SIGINT, signal.default_int_handler)

# Processes of these are not measured for coverage: because they start thousands, and measuring one takes ten times as long as
# recording an event; or because they fork, or are interrupted, while threads record, and what measures has a lock that does not
# bear that; or because they hold a server to seconds and megabytes. What they run is measured elsewhere.
UNMEASURED = (
    "test_batching_sink",
    "test_browser",
    "test_campaign",
    "test_completions",
    "test_config_faults",
    "test_environment",
    "test_fixtures",
    "test_flush_faults",
    "test_go_client",
    "test_kafka",
    "test_kafka_serve",
    "test_large_spool",
    "test_latency",
    "test_packaging",
    "test_page",
    "test_proxies",
    "test_serve_access",
    "test_serve_forward",
    "test_serve_http",
    "test_serve_limits",
    "test_serve_store",
    "test_spool_damage",
    "test_spool_kills",
    "test_store_reader",
    "test_terminal_escapes",
)


@pytest.fixture(autouse=True, scope="module")
def measured(request: pytest.FixtureRequest) -> Iterator[None]:
    """Let the processes that a module's tests start be measured, or not."""
    unmeasured = request.module.__name__.rpartition(".")[2] in UNMEASURED
    taken = {key: os.environ.pop(key) for key in list(os.environ) if unmeasured and key.startswith("COVERAGE_PROCESS")}
    yield
    os.environ.update(taken)


@pytest.fixture
def tool(tmp_path: Path) -> Tool:
    """The command line, with an empty home."""
    (tmp_path / "user").mkdir()
    return Tool(tmp_path / "home")


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """One Chromium for all tests that need one."""
    with chromium() as found:
        yield found
