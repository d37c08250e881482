"""The kill campaign, for some seconds."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

CAMPAIGN = Path(__file__).parent / "faults" / "campaign.py"


def test_nothing_is_lost() -> None:
    """With writers, clients and flushers killed at random, what was acknowledged is delivered, unaltered."""
    done = subprocess.run(
        [sys.executable, CAMPAIGN, "15", "3"], capture_output=True, text=True, check=False, timeout=180
    )
    assert 0 == done.returncode, done.stdout + done.stderr
    assert int(done.stdout.split("kills")[1].split()[0].replace(",", "")) > 20
