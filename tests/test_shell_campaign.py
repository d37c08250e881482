"""The kill campaign of shells: a short one with the other slow tests; `tests/faults/shell_campaign.py` runs as long as one likes."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from support import PACE

from .faults.shell_campaign import KILLS, MUST_BE_NONE

pytestmark = [pytest.mark.slow, pytest.mark.unmeasured]

ROOT = Path(__file__).parents[1]


def test_campaign() -> None:
    """Shells with subshells and pipelines, and the flusher of their files, are killed at random: nothing acknowledged is lost."""
    words = [sys.executable, str(ROOT / "tests/faults/shell_campaign.py"), str(8 * PACE), "1"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert 0 == done.returncode, done.stdout + done.stderr


def test_a_campaign_without_its_kills_fails() -> None:
    """A run that is too short for its kills says which of them were not played, and fails."""
    words = [sys.executable, str(ROOT / "tests/faults/shell_campaign.py"), "0", "1"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert (1, True) == (done.returncode, "not played, so this run proves nothing about it: " in done.stderr)


def test_the_manual_has_the_table_of_a_campaign() -> None:
    """The manual's table is one that the campaign printed: the same rows, hundreds of kills, nothing lost."""
    page = (ROOT / "rillevents/docs/shell.md").read_text()
    rows = {
        name.strip(): int(figure.replace(",", ""))
        for name, figure in re.findall(r"^\| (.+?) +\| +([\d,]+) \|$", page, re.M)
    }
    assert [0] == sorted({rows[name] for name in MUST_BE_NONE})
    assert 300 <= sum(rows[name] for name in KILLS.values())
    assert f"{sum(rows[name] for name in KILLS.values()):,} kills" in page
