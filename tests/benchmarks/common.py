"""What all benchmarks share: the installed product, runs in turn, tables of medians and ratios, and the file of results.

    python tests/benchmarks/NAME.py [ROUNDS] [--save]

With `--save` a benchmark writes `tests/benchmarks/results/NAME.json`, from which `chart.py` makes the picture in the README and
the table in the manual (`rillevents help performance`). Figures are compared within one run alone, by the median of the
rounds' ratios: the same machine differs by half within minutes.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
import venv
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[2]
RESULTS = Path(__file__).parent / "results"


@dataclass
class Table:
    """Samples of several rows, one of each row a round; *unit* says of what, *less* whether less is better."""

    title: str
    unit: str
    base: str
    less: bool = True
    samples: dict[str, list[float]] = field(default_factory=dict)

    def add(self, row: str, figure: float) -> None:
        """Note one sample."""
        self.samples.setdefault(row, []).append(figure)

    def measure(self, runs: Mapping[str, Callable[[], float]], rounds: int) -> None:
        """Let each of *runs* have its turn, so many times, after one turn that does not count."""
        for row, run in runs.items():
            self.samples.setdefault(row, [])
            run()
        for number in range(rounds):
            # In another order each time: the caches and the disk are as the previous one left them.
            for row in list(runs)[:: 1 if number % 2 else -1]:
                self.add(row, runs[row]())

    def median(self, row: str) -> float:
        """Return the median of a row."""
        return statistics.median(self.samples[row])

    def ratio(self, row: str, base: str = "") -> float:
        """Return the median of the rounds' ratios of *row* to *base* (by default the table's)."""
        pairs = zip(self.samples[row], self.samples[base or self.base], strict=True)
        return statistics.median(mine / theirs for mine, theirs in pairs)

    def difference(self, row: str, base: str) -> float:
        """Return the median of the rounds' differences of *row* from *base*."""
        pairs = zip(self.samples[row], self.samples[base], strict=True)
        return statistics.median(mine - theirs for mine, theirs in pairs)

    def spread(self, row: str) -> tuple[float, float]:
        """Return the tenth and the ninetieth percentile of a row."""
        some = sorted(self.samples[row])
        return some[len(some) // 10], some[-1 - len(some) // 10]

    def rows(self) -> list[dict[str, object]]:
        """Return what is to be seen of each row."""
        return [
            {
                "name": row,
                "median": self.median(row),
                "low": self.spread(row)[0],
                "high": self.spread(row)[1],
                "ratio": self.ratio(row),
            }
            for row in self.samples
        ]

    def __str__(self) -> str:
        width = max(map(len, self.samples))
        lines = [f"{self.title} ({self.unit}; {'less' if self.less else 'more'} is better)"]
        lines.append(f"{'':{width}}{'median':>12}{'p10':>12}{'p90':>12}{'ratio':>9}  to {self.base}")
        for row in self.samples:
            low, high = self.spread(row)
            lines.append(f"{row:{width}}{self.median(row):12,.2f}{low:12,.2f}{high:12,.2f}{self.ratio(row):9.2f}")
        return "\n".join(lines)


@dataclass(frozen=True)
class Goal:
    """A row of the manual's table: the job, what is wanted, what was reached, and whether that is enough."""

    job: str
    goal: str
    reached: str
    met: bool


def at_most(job: str, goal: str, figure: float, bound: float, unit: str = "×") -> Goal:
    """Return a goal that is met by *bound* or less."""
    return Goal(job, goal, f"{figure:.2f} {unit}", figure <= bound)


def at_least(job: str, goal: str, figure: float, bound: float, unit: str = "×") -> Goal:
    """Return a goal that is met by *bound* or more."""
    return Goal(job, goal, f"{figure:.2f} {unit}", figure >= bound)


def arguments(description: str, rounds: int, files: Mapping[str, str] | None = None) -> argparse.Namespace:
    """Return what was asked for: `rounds`, whether to `save`, the `command` that is, and each of *files* or None.

    *files* are the options that take a path, each with its help.
    """
    files = files or {}
    parser = argparse.ArgumentParser(description=description.splitlines()[0])
    parser.add_argument("rounds", nargs="?", type=int, default=rounds)
    parser.add_argument("--save", action="store_true", help="write the results to tests/benchmarks/results/")
    for name, text in files.items():
        parser.add_argument(f"--{name}", metavar="FILE", type=os.path.abspath, help=text)
    options = parser.parse_args()
    given = [f" --{name} FILE" for name in files if getattr(options, name)]
    options.command = f"python tests/benchmarks/{Path(sys.argv[0]).stem}.py {options.rounds}{''.join(given)}"
    return options


def report(
    tables: Sequence[Table],
    goals: Sequence[Goal],
    counted: Sequence[str],
    versions: Mapping[str, str],
    options: argparse.Namespace,
) -> None:
    """Print the tables, what was *counted* (that everything arrived, that the sink is no bottleneck) and the goals; save them.

    *versions* names the peers and what they are. Raises nothing where a goal is missed: a benchmark decides nothing.
    """
    name = Path(sys.argv[0]).stem
    print(f"{machine()}; {options.rounds} rounds")
    print(", ".join(f"{peer} {version}" for peer, version in versions.items()))
    for table in tables:
        print(f"\n{table}")
    print()
    for line in counted:
        print(line)
    for goal in goals:
        print(f"{'reached' if goal.met else 'MISSED '}  {goal.job}: {goal.reached} (goal: {goal.goal})")
    if options.save:
        found = {
            "command": options.command,
            "machine": machine(),
            "versions": dict(versions),
            "counted": list(counted),
            "goals": [asdict(goal) for goal in goals],
            "tables": [
                {"title": table.title, "unit": table.unit, "base": table.base, "less": table.less, "rows": table.rows()}
                for table in tables
            ],
        }
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / f"{name}.json").write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n")


def machine() -> str:
    """Return what everything ran on."""
    return (
        f"{platform.python_implementation()} {platform.python_version()}, {platform.system()} {platform.machine()}, "
        f"{os.cpu_count()} cores"
    )


def install_release(folder: Path, *more: str) -> str:
    """Return the console script of a plain venv with the last release (and *more* packages) in it."""
    return _installed(folder / "released", ROOT / "tests/wheels/rillevents-0.1.0-py3-none-any.whl", *more)[1]


def install(folder: Path, *more: str) -> tuple[str, str]:
    """Return the Python and the console script of a plain venv with this checkout (and *more* packages) in it."""
    subprocess.run([sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", folder, ROOT], check=True)
    return _installed(folder / "venv", next(folder.glob("*.whl")), *more)


def _installed(place: Path, *what: str | Path) -> tuple[str, str]:
    venv.create(place, with_pip=True)
    subprocess.run([place / "bin/pip", "install", "-q", "--disable-pip-version-check", *what], check=True)
    return str(place / "bin/python"), str(place / "bin/rillevents")


def environment(folder: Path, home: str = "home") -> dict[str, str]:
    """Return an environment for children in which nothing of this user's is read or written."""
    return {"PATH": os.environ["PATH"], "HOME": str(folder), "RILLEVENTS_HOME": str(folder / home)}


def timed(words: Sequence[str], environ: Mapping[str, str]) -> float:
    """Run a command, and return how many milliseconds it took; raises SystemExit where it fails."""
    started = time.perf_counter()
    # Not subprocess: what that does itself is a tenth of what is measured here.
    code = os.waitstatus_to_exitcode(os.waitpid(os.posix_spawn(words[0], words, environ), 0)[1])
    took = (time.perf_counter() - started) * 1000
    if code:
        raise SystemExit(f"{' '.join(words)} failed with exit code {code}")
    return took


def version_of(*words: str) -> str:
    """Return the first line that a command says about its version."""
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    return (done.stdout or done.stderr).splitlines()[0]
