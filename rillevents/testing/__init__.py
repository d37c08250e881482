"""Helpers for tests of programs with telemetry: a sink that keeps events, an intake on this machine, pytest fixtures.

To get the fixtures `rillevents_home` and `rillevents_intake`, put `pytest_plugins = ["rillevents.testing"]` into the topmost
conftest.py. Everything else works without pytest.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rillevents.testing.fake_intake import FakeIntake, Request, Response

__all__ = ["CapturingSink", "FakeIntake", "Request", "Response"]

_PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")


class CapturingSink:
    """Keeps emitted events in `events`, counts in `counts` by (kind, reason), and whether it was closed."""

    def __init__(self) -> None:
        self.events: list[Any] = []
        self.counts: Counter[tuple[str, str]] = Counter()
        self.closed = False

    def emit(self, event: Any) -> None:
        """Keep the event after checking that it can be written; raises InvalidEvent as a real sink would."""
        if event.line:
            self.events.append(event)

    def count(self, kind: str, reason: str = "", n: int = 1) -> None:
        """Add to `counts`."""
        self.counts[kind, reason] += n

    def close(self) -> None:
        """Note that the sink was closed."""
        self.closed = True


try:
    import pytest
except ImportError:  # pragma: no cover - for programs tested without pytest
    pass
else:

    def _prefixes(request: pytest.FixtureRequest) -> tuple[str, ...]:
        """Return ours, and those that a fixture `rillevents_prefixes` returns, if there is one: of the programs under test."""
        try:
            return ("RILLEVENTS_", *request.getfixturevalue("rillevents_prefixes"))
        except pytest.FixtureLookupError:
            return ("RILLEVENTS_",)

    @pytest.fixture
    def rillevents_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Path:
        """Give the test a home of its own, and remove environment variables that would override it.

        Programs whose prefixes a fixture `rillevents_prefixes` returns get a home each, too, beside this one.
        """
        prefixes = _prefixes(request)
        for name in list(os.environ):
            decides = name.startswith(prefixes) or name in ("CI", "DO_NOT_TRACK")
            if decides or name.upper() in _PROXIES:
                monkeypatch.delenv(name)
        for prefix in prefixes:
            monkeypatch.setenv(f"{prefix}HOME", str(tmp_path / prefix.rstrip("_").lower()))
        return tmp_path / "rillevents"

    @pytest.fixture
    def rillevents_intake(
        rillevents_home: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
    ) -> Iterator[FakeIntake]:
        """Give the test a running intake that is configured as the destination, also of the programs with these prefixes."""
        with FakeIntake() as intake:
            for prefix in _prefixes(request):
                monkeypatch.setenv(f"{prefix}INTAKE_URL", intake.url)
            yield intake
