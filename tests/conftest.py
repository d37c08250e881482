"""Fixtures that all tests may ask for."""

from __future__ import annotations

from pathlib import Path

import pytest
from support import Tool


@pytest.fixture
def tool(tmp_path: Path) -> Tool:
    """The command line, with an empty home."""
    (tmp_path / "user").mkdir()
    return Tool(tmp_path / "home")
