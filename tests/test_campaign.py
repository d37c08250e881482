"""The kill campaign: a short one with the other tests, a minute of it in CI; `tests/faults/campaign.py` runs as long as one likes."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from support import PACE

from .faults.campaign import KILLS, MUST_BE_NONE, SABOTAGE
from .faults.faulty_intake import FAULTS, POISONED

pytestmark = [pytest.mark.slow, pytest.mark.unmeasured]

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("seconds", [20 if os.environ.get("CI") else 8])
def test_campaign(seconds: int) -> None:
    """Writers and flushers killed at random, with a disk and an intake that fail: every fault is played, and nothing is lost."""
    words = [sys.executable, str(ROOT / "tests/faults/campaign.py"), str(seconds * PACE), str(os.getpid())]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert 0 == done.returncode, done.stdout + done.stderr


def test_a_campaign_without_its_faults_fails() -> None:
    """A run that is too short for its faults says which of them were not played, and fails."""
    words = [sys.executable, str(ROOT / "tests/faults/campaign.py"), "0.01", "1"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert 1 == done.returncode
    assert "not played, so this run proves nothing about it: intake: 400, because of one event\n" in done.stderr


def test_the_manual_has_the_table_of_a_long_campaign() -> None:
    """The manual's table is one that the campaign printed: the same rows, at least 15,000 kills, nothing lost."""
    page = (ROOT / "rillevents/docs/faults.md").read_text()
    rows = {
        name.strip(): int(figure.replace(",", ""))
        for name, figure in re.findall(r"^\| (.+?) +\| +([\d,]+) \|$", page, re.M)
    }
    names = [*KILLS.values(), *SABOTAGE.values(), *list(FAULTS)[1:], POISONED]
    assert [0] == sorted({rows[name] for name in MUST_BE_NONE})
    assert 0 < min(rows[name] for name in names)
    assert 15_000 <= sum(rows[name] for name in KILLS.values())
    assert f"{sum(rows[name] for name in KILLS.values()):,} kills" in page
