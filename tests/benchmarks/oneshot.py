"""What one `record` costs, beside what starting Python costs, in the same run.

    python tests/benchmarks/oneshot.py [PAIRS]

Builds the wheel of this checkout, installs it into a plain venv with the pip that comes with this Python, and runs the
installed console script and its peers in turn; prints medians, spread, and the median of the pairs' ratios. It decides nothing.
"""

from __future__ import annotations

import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).parents[2]


def main() -> None:
    """Measure, and print the table."""
    pairs = int(sys.argv[1]) if len(sys.argv) > 1 else 100
    with tempfile.TemporaryDirectory() as folder:
        python, script = install(Path(folder))
        environ = {"PATH": os.environ["PATH"], "HOME": folder, "RILLEVENTS_HOME": f"{folder}/home"}
        peers = {
            "python -c pass": [python, "-c", "pass"],
            "rillevents record": [script, "record", "behavioral", "login-start", "-a", "plan=pro"],
            "rillevents record --durable": [script, "record", "behavioral", "login-start", "--durable"],
        }
        if shutil.which("jq"):
            peers["jq -n … >> file"] = ["sh", "-c", f"jq -nc '{{event_name: \"login-start\"}}' >> {folder}/jq.ndjson"]
        for words in peers.values():
            run(words, environ)
        rows = measure(peers, environ, pairs)
        stored = subprocess.run(
            [script, "events", "--count"], env=environ, capture_output=True, text=True, check=True
        ).stdout
    print(
        f"{platform.python_implementation()} {platform.python_version()}, {platform.system()} {platform.machine()}, {os.cpu_count()} cores"
    )
    print(f"{pairs} rounds; every one of {2 * (pairs + 1)} events stored: {int(stored) == 2 * (pairs + 1)}\n")
    print(f"{'':30}{'median ms':>10}{'p10':>8}{'p90':>8}{'× python':>10}")
    for name, times in rows.items():
        ratios = [mine / theirs for mine, theirs in zip(times, rows["python -c pass"], strict=True)]
        low, high = statistics.quantiles(times, n=10)[0], statistics.quantiles(times, n=10)[8]
        print(f"{name:30}{statistics.median(times):10.1f}{low:8.1f}{high:8.1f}{statistics.median(ratios):10.2f}")


def install(folder: Path) -> tuple[str, str]:
    """Return the Python and the console script of a plain venv with this checkout in it."""
    subprocess.run([sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", folder, ROOT], check=True)
    venv.create(folder / "venv", with_pip=True)
    wheel = next(folder.glob("*.whl"))
    subprocess.run([folder / "venv/bin/pip", "install", "-q", "--disable-pip-version-check", wheel], check=True)
    return str(folder / "venv/bin/python"), str(folder / "venv/bin/rillevents")


def run(words: Sequence[str], environ: Mapping[str, str]) -> float:
    """Return how many milliseconds one command took."""
    started = time.perf_counter()
    subprocess.run(words, env=environ, check=True)
    return (time.perf_counter() - started) * 1000


def measure(peers: Mapping[str, Sequence[str]], environ: Mapping[str, str], rounds: int) -> dict[str, list[float]]:
    """Run all peers in turn, so that what disturbs one round disturbs them all."""
    rows: dict[str, list[float]] = {name: [] for name in peers}
    for _ in range(rounds):
        for name, words in peers.items():
            rows[name].append(run(words, environ))
    return rows


if __name__ == "__main__":
    main()
