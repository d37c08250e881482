"""What one `record` costs, beside what starting Python costs, in the same run.

    python tests/benchmarks/oneshot.py [ROUNDS] [--save]

Builds the wheel of this checkout, installs it into a plain venv with the pip that comes with this Python, the last release into
another, and runs the installed console scripts and their peers in turn. Every event has to be in the spool afterwards. It decides nothing.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from common import Goal, Table, arguments, at_most, environment, install, install_release, report, version_of

PYTHON, RECORD, DURABLE = "python -c pass", "rillevents record", "rillevents record --durable"
RELEASED = "rillevents record of 0.1.0"
RUN, TRUE = "rillevents run -- true", "true"
IN_CI, TRACED = "rillevents record --ci, in a job", "rillevents record, with TRACEPARENT"
AUTO, DUE = "rillevents record, [flush] auto", "the same, which starts the flush"
FLUSH_SECONDS = 0.5
JOB = {"CI": "true", "GITHUB_ACTIONS": "true", "GITHUB_REF_NAME": "main", "GITHUB_RUN_ID": "1", "GITHUB_SHA": "9f3c2ab"}
TRACE = {"TRACEPARENT": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}
# What stands in the way: all that `record` loads, with the same quick exit, and nothing done.
IMPORTS = "record's modules, nothing else"
IMPORT_THEM = "import os, rillevents.cli, rillevents.cli.record_quick, rillevents.spool.slots; os._exit(0)"
JQ, CURL = "jq -n … >> file", "curl --version"


def main() -> int:
    """Measure, and print the table."""
    assert __doc__
    options = arguments(__doc__, 100)
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        python, script = install(folder)
        environ = environment(folder)
        commands = {
            PYTHON: [python, "-c", "pass"],
            RECORD: [script, "record", "behavioral", "login-start", "-a", "plan=pro"],
            RELEASED: [install_release(folder), "record", "behavioral", "login-start", "-a", "plan=pro"],
            DURABLE: [script, "record", "behavioral", "login-start", "--durable"],
            IN_CI: [script, "record", "behavioral", "login-start", "-a", "plan=pro", "--ci"],
            TRACED: [script, "record", "behavioral", "login-start", "-a", "plan=pro"],
            AUTO: [script, "record", "behavioral", "login-start", "-a", "plan=pro"],
            DUE: [script, "record", "behavioral", "login-start", "-a", "plan=pro"],
            RUN: [script, "run", "--", "true"],
            TRUE: ["true"],
            IMPORTS: [python, "-c", IMPORT_THEM],
        }
        versions = {"python": version_of(python, "--version").split()[1]}
        if shutil.which("jq"):
            commands[JQ] = ["sh", "-c", f"jq -nc '{{event_name: \"login-start\"}}' >> {folder}/jq.ndjson"]
            versions["jq"] = version_of("jq", "--version")
        if shutil.which("curl"):
            commands[CURL] = ["curl", "--version"]
            versions["curl"] = version_of("curl", "--version").split()[1]
        table = Table("one event from a shell, the whole process", "ms", PYTHON)
        homes = {RELEASED: environment(folder, "home of 0.1.0"), IN_CI: environ | JOB, TRACED: environ | TRACE}
        # No interval is ever over, or one is each time; the spool is not emptied, since there is no destination.
        homes |= {
            AUTO: configured(folder, "home with auto", "1h"),
            DUE: configured(folder, "home with flushes", "0.000001"),
        }
        runs = {name: timed(words, homes.get(name, environ)) for name, words in commands.items()}
        runs[DUE] = alone(runs[DUE])
        table.measure(runs, options.rounds)
        stored = sum(count(script, environ) for environ in (environ, homes[AUTO], homes[DUE]))
    recorded = 8 * (options.rounds + 1)
    goals = [at_most("`record`, whole process", "≤ 1.15 × `python -c pass`", table.ratio(RECORD), 1.15)]
    goals.append(at_most("`record`, whole process", "≤ 1.03 × 0.1.0's", table.ratio(RECORD, RELEASED), 1.03))
    goals.append(at_most("`record` with `--ci`, TRACEPARENT, `[flush] auto`", "≤ 1.10 × `record`", _worse(table), 1.10))
    more = max(table.difference(AUTO, RECORD), table.difference(DUE, RECORD))
    goals.append(at_most("`record` with `[flush] auto`, less `record`", "≤ 1 ms", more, 1.0, "ms"))
    beside = (table.median(RUN) - table.median(TRUE)) / table.median(PYTHON)
    goals.append(at_most("`run -- true`, without `true`", "≤ 1.5 × `python -c pass`", beside, 1.5))
    if JQ in commands:
        ratio = table.ratio(RECORD, JQ)
        goals.append(Goal("`record`, whole process", "below `jq -n … >> file`", f"{ratio:.2f} ×", ratio < 1))
    counted = [f"{recorded} events recorded, {recorded - stored} of them missing in the spool"]
    report([table], goals, counted, versions, options)
    return int(stored != recorded)


def _worse(table: Table) -> float:
    return max(table.ratio(name, RECORD) for name in (IN_CI, TRACED, AUTO, DUE))


def alone(run: Callable[[], float]) -> Callable[[], float]:
    """Return *run* with time afterwards for the flush that it starts, which would slow down what is measured next."""

    def and_wait() -> float:
        took = run()
        time.sleep(FLUSH_SECONDS)
        return took

    return and_wait


def configured(folder: Path, home: str, interval: str) -> dict[str, str]:
    """Return the environment of a user who wants a flush in that interval, and has said that events may be sent."""
    environ = environment(folder, home)
    place = Path(environ["RILLEVENTS_HOME"])
    place.mkdir()
    (place / "config.toml").write_text(f'[flush]\nauto = "{interval}"\n')
    (place / "telemetry").write_text("on\n")
    return environ


def count(script: str, environ: Mapping[str, str]) -> int:
    """Return how many events wait in the spool."""
    words = [script, "events", "--count"]
    return int(subprocess.run(words, env=environ, capture_output=True, text=True, check=True).stdout)


def timed(words: Sequence[str], environ: Mapping[str, str]) -> Callable[[], float]:
    """Return a function that runs a command and says how many milliseconds that took."""

    def run() -> float:
        started = time.perf_counter()
        subprocess.run(words, env=environ, check=True, stdout=subprocess.DEVNULL)
        return (time.perf_counter() - started) * 1000

    return run


if __name__ == "__main__":
    sys.exit(main())
