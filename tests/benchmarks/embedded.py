"""What telemetry costs the users of a program that embeds it, with the intake down: the manual's program beside the same without.

    python tests/benchmarks/embedded.py [ROUNDS] [--save]

Builds the wheel of this checkout and installs it into a plain venv. Each run is a process of its own, from its start to its end,
and starts a delivery beside it, as if none had been due for long; that is given time before the next run. The events of all runs
have to wait in the spool afterwards. With the intake that never answers, a delivery stays for a minute after the end. It decides nothing.
"""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from common import ROOT, Table, arguments, at_most, environment, install, report, version_of

# Without its import too: what remains is what the program does.
PLAIN, OUT = "the program without telemetry", "opted out"
REFUSING, SILENT = "intake down: nobody listens", "intake down: it never answers"
DUE_AGAIN = "intake down, and a delivery is not due"
PROGRAM = """
import typer

app = typer.Typer()


@app.callback()
def telemetry() -> None: ...


@app.command()
def build(target: str = "all") -> None:
    print(f"building {target}")


if __name__ == "__main__":
    app()
"""
# For what runs beside: it has read all that it needs by then, and waits.
FLUSH_SECONDS = 1.0


def main() -> int:
    """Measure, print the table, and return 1 if an event is missing."""
    assert __doc__
    options = arguments(__doc__, 30)
    # Closed at once: nobody listens there. The other one listens, and takes no connection.
    with (
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as text,
        socket.create_server(("127.0.0.1", 0)) as silent,
    ):
        folder = Path(text)
        python, _ = install(folder)
        versions = {"python": version_of(python, "--version").split()[1]}
        with socket.create_server(("127.0.0.1", 0)) as closed:
            port = closed.getsockname()[1]
        homes = {
            OUT: home(folder, OUT, port) | {"MYTOOL_TELEMETRY": "0"},
            REFUSING: home(folder, REFUSING, port),
            SILENT: home(folder, SILENT, silent.getsockname()[1]),
            DUE_AGAIN: home(folder, DUE_AGAIN, port),
        }
        words = [python, str(program(folder)), "build"]
        plain = folder / "plain.py"
        plain.write_text(PROGRAM)
        runs = {PLAIN: run([python, str(plain), "build"], environment(folder))}
        runs |= {row: run(words, environ) for row, environ in homes.items()}
        for row in (REFUSING, SILENT):
            runs[row] = due(runs[row], Path(homes[row]["MYTOOL_HOME"]))
        table = Table("a run of the manual's program, the whole process", "ms", PLAIN)
        table.measure(runs, options.rounds)
        recording = (REFUSING, SILENT, DUE_AGAIN)
        # A time and an action in each run, and in the one that does not count.
        recorded = 2 * len(recording) * (options.rounds + 1)
        stored = sum(waiting(words, homes[row]) for row in recording)
        started = sum((Path(homes[row]["MYTOOL_HOME"]) / "spool/v1/auto.json").exists() for row in (REFUSING, SILENT))
    goals = [
        at_most(f"the manual's program, {row}", f"≤ 1.1 × {base}", table.ratio(row, base), 1.1)
        for row in (REFUSING, SILENT)
        for base in (OUT, PLAIN)
    ]
    counted = [
        f"{recorded} events recorded, {recorded - stored} of them missing in the spool",
        f"a delivery was started in {started} of 2 homes",
    ]
    report([table], goals, counted, versions, options)
    return int(stored != recorded)


def program(folder: Path) -> Path:
    """Write the program of the manual's page, and return its file."""
    page = (ROOT / "rillevents/docs/embedding.md").read_text()
    found = re.search(r"```python program\n(.*?)```", page, re.DOTALL)
    assert found
    file = folder / "mytool.py"
    file.write_text(found[1])
    return file


def home(folder: Path, name: str, port: int) -> dict[str, str]:
    """Return the environment of a user who has agreed, with an intake on that port."""
    own = {"MYTOOL_HOME": str(folder / name), "MYTOOL_TELEMETRY": "1", "MYTOOL_INTAKE_URL": f"http://127.0.0.1:{port}/"}
    return {"PATH": os.environ["PATH"], "HOME": str(folder), **own}


def run(words: Sequence[str], environ: Mapping[str, str]) -> Callable[[], float]:
    """Return a function that runs a command without showing what it prints, and says how many milliseconds that took."""
    quiet = [(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)]

    def once() -> float:
        started = time.perf_counter()
        pid = os.posix_spawn(words[0], words, environ, file_actions=quiet)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        took = (time.perf_counter() - started) * 1000
        if code:
            raise SystemExit(f"{' '.join(words)} failed with exit code {code}")
        return took

    return once


def due(once: Callable[[], float], place: Path) -> Callable[[], float]:
    """Return *once* with a delivery that is due before it, and time for that afterwards."""

    def run_alone() -> float:
        (place / "spool/v1/auto.json").unlink(missing_ok=True)
        took = once()
        time.sleep(FLUSH_SECONDS)
        return took

    return run_alone


def waiting(words: Sequence[str], environ: Mapping[str, str]) -> int:
    """Return how many events wait in the spool."""
    shown = subprocess.run([*words[:-1], "telemetry", "show"], env=environ, capture_output=True, text=True, check=True)
    return len(shown.stdout.splitlines())


if __name__ == "__main__":
    sys.exit(main())
