"""The kill campaign: a short one with the other tests, a minute of it in CI; `tests/faults/campaign.py` runs as long as one likes."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from .faults.campaign import KILLS, MUST_BE_NONE, SABOTAGE
from .faults.faulty_intake import FAULTS, POISONED

pytestmark = [pytest.mark.slow, pytest.mark.unmeasured]

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("seconds", [40 if os.environ.get("CI") else 15])
def test_campaign(seconds: int) -> None:
    """Writers and flushers killed at random, with a disk and an intake that fail: nothing acknowledged is lost or altered."""
    words = [sys.executable, str(ROOT / "tests/faults/campaign.py"), str(seconds), str(os.getpid())]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert 0 == done.returncode, done.stdout + done.stderr
    kills = re.search(r"^([\d,]+) kills", done.stdout)
    assert kills, done.stdout
    assert int(kills[1].replace(",", "")) > 5 * seconds, done.stdout


def test_the_manual_has_the_table_of_a_long_campaign() -> None:
    """The manual's table is one that the campaign printed: the same rows, at least 20,000 kills, nothing lost."""
    page = (ROOT / "rillevents/docs/faults.md").read_text()
    rows = {
        name.strip(): int(figure.replace(",", ""))
        for name, figure in re.findall(r"^\| (.+?) +\| +([\d,]+) \|$", page, re.M)
    }
    names = [*KILLS.values(), *SABOTAGE.values(), *list(FAULTS)[1:], POISONED]
    assert [0] == sorted({rows[name] for name in MUST_BE_NONE})
    assert 0 < min(rows[name] for name in names)
    assert 20_000 <= sum(rows[name] for name in KILLS.values())
    assert f"{sum(rows[name] for name in KILLS.values()):,} kills" in page
