"""What an event costs in a shell: by the function of `shell-init`, beside a process for each, in the same run.

    python tests/benchmarks/shell.py [ROUNDS] [--save]

Installs the wheel of this checkout into a plain venv. A round is one shell of each kind that records a thousand events with two
attributes, one that calls an empty function as often, `rillevents record`, `/bin/true`, and curl with one event to a server on this
machine. Every event of the function has to be in the spool afterwards. It decides nothing.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

from common import Table, arguments, at_most, environment, install, report, timed, version_of

RECORD, TRUE, CURL = "rillevents record", "/bin/true", "curl, one event to this machine"
WORDS = ("record", "behavioral", "login-start", "-a", "plan=pro", "-a", "region=eu-west")
EVENTS, WARM = 1000, 5
# Prints microseconds; the clock is the shell's own.
SCRIPT = """
empty() {{ :; }}
n=0; while [ $n -lt {warm} ]; do {call}; n=$((n+1)); done
{clock}
begun=$now; n=0; while [ $n -lt {events} ]; do {call}; n=$((n+1)); done
{clock}
echo $(( now - begun ))
"""
CLOCKS = {
    "bash": "now=$EPOCHREALTIME; now=${now%[.,]*}${now: -6}",
    "zsh": "zmodload zsh/datetime; now=${(j: :)epochtime}; now=$(( ${now% *} * 1000000 + ${now#* } / 1000 ))",
}


class _Intake(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *arguments: object) -> None:
        pass


def called(shell: str, definition: str, call: Sequence[str], environ: Mapping[str, str]) -> Callable[[], float]:
    """Return a function that calls something in a new shell, and says how many microseconds one call took."""
    script = definition + SCRIPT.format(call=" ".join(call), clock=CLOCKS[shell], warm=WARM, events=EVENTS)

    def run() -> float:
        done = subprocess.run([shell, "-c", script], env=environ, capture_output=True, text=True, check=True)
        return int(done.stdout) / EVENTS

    return run


def main() -> int:
    """Measure, and print the table."""
    assert __doc__
    options = arguments(__doc__, 15)
    shells = [shell for shell in CLOCKS if shutil.which(shell)]
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Intake)
    Thread(target=server.serve_forever, daemon=True).start()
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        _, script = install(folder)
        environ = environment(folder)
        record = [script, *WORDS]
        timed(record, environ)
        runs: dict[str, Callable[[], float]] = {RECORD: lambda: timed(record, environ) * 1000}
        for shell in shells:
            text = subprocess.run(
                [script, "shell-init", shell], env=environ, capture_output=True, text=True, check=True
            ).stdout
            runs[f"rillevents, function in {shell}"] = called(shell, text, ["rillevents", *WORDS], environ)
            runs[f"an empty function in {shell}"] = called(shell, text, ["empty", *WORDS], environ)
        true = shutil.which("true") or TRUE
        runs[TRUE] = lambda: timed([true], environ) * 1000
        versions = {shell: version_of(shell, "--version") for shell in shells}
        if curl := shutil.which("curl"):
            url = f"http://127.0.0.1:{server.server_port}/events/default"
            post = [curl, "-s", "-o", "/dev/null", "-d", '{"event_name":"login-start","plan":"pro"}', url]
            runs[CURL] = lambda: timed(post, environ) * 1000
            versions["curl"] = version_of("curl", "--version").split()[1]
        table = Table("one event from a running shell", "µs", RECORD)
        table.measure(runs, options.rounds)
        count = [script, "events", "--count"]
        stored = int(subprocess.run(count, env=environ, capture_output=True, text=True, check=True).stdout)
    server.shutdown()
    goals = []
    for shell in shells:
        row, empty = f"rillevents, function in {shell}", f"an empty function in {shell}"
        goals.append(
            at_most(f"the function in {shell}", "≤ 1/100 of `rillevents record`", 100 * table.ratio(row), 1, "/ 100")
        )
        if CURL in runs:
            goals.append(at_most(f"the function in {shell}", "≤ 1/50 of curl", 50 * table.ratio(row, CURL), 1, "/ 50"))
        goals.append(at_most(f"the function in {shell}", "≤ 25 empty function calls", table.ratio(row, empty), 25))
    if len(shells) == 2:
        ratio = table.ratio("rillevents, function in zsh", "rillevents, function in bash")
        goals.append(at_most("the function in zsh", "≤ 1.5 × in bash", ratio, 1.5))
    recorded = 1 + (options.rounds + 1) * (1 + len(shells) * (EVENTS + WARM))
    counted = [f"{recorded} events recorded, {recorded - stored} of them missing in the spool"]
    report([table], goals, counted, versions, options)
    return int(stored != recorded)


if __name__ == "__main__":
    os.environ.pop("RILLEVENTS_HOME", None)
    sys.exit(main())
