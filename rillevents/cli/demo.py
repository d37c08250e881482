"""`rillevents demo`: a complete run on this machine, in a temporary home that is deleted afterwards."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import typer

from rillevents.cli.command import paths, register
from rillevents.cli.printable import printable
from rillevents.cli.result import Result
from rillevents.errors import RilleventsError
from rillevents.local import consent

_SCRIPT = (
    "record behavioral login-start -a plan=pro",
    "record behavioral login-success",
    "record metric build-seconds 41.7 -a job=linux",
    "record metric balance -45",
    "record log backup 'nightly backup finished' -a level=info",
    "record event audit key-rotated -a 'key:={\"id\":7}'",
)
# Removed from the environment: these variables of the calling shell would change what the demo shows.
_OURS = ("RILLEVENTS_", "DO_NOT_TRACK")


def add_to(app: typer.Typer) -> None:
    """Register the command."""

    @register(app, "demo", "rillevents demo")
    def demo() -> Result:
        """Record, flush and show events, all on this machine."""
        return Result(lines=(f"{printable(line)}\n".encode() for line in _demo()))


def _demo() -> Iterator[str]:
    decision = consent.decide(paths())
    if not decision.enabled:
        yield f"# Telemetry is off here ({decision.decided_by}). The demo ignores that, since nothing leaves this machine."
    with tempfile.TemporaryDirectory(prefix="rillevents-demo-") as home, _intake(home) as intake:
        environ = _environment(home, intake.url)
        yield f"# An intake listens on {intake.url} while the demo runs."
        yield f"# A temporary home: export RILLEVENTS_HOME={home}"
        yield ""
        for words in _SCRIPT:
            yield from _run(words, environ)
        yield ""
        yield "# Nothing has been sent yet; the events are lines in a file:"
        yield from _run("spool path", environ)
        yield from _run("events --count", environ)
        yield ""
        yield from _run("flush", environ)
        yield ""
        arrived = intake.arrived()
        yield f"# What arrived, {len(arrived)} events, each with a time and an ID of its own:"
        for event in arrived:
            yield "  " + _shown(event)
        yield from _run("events --count", environ)
        for words in intake.commands:
            yield from _run(words, environ)
        if len(arrived) != len(_SCRIPT):
            raise RilleventsError(f"the demo recorded {len(_SCRIPT)} events, and {len(arrived)} arrived")
    yield ""
    yield "# The intake and the temporary home are gone. Your own events would be here:"
    yield f"  config folder  {paths().config_dir or 'none (no home folder)'}"
    yield f"  spool          {paths().spool_dir or 'none (no home folder)'}"
    yield "# Next: rillevents config set intake.url URL, or: rillevents help"


@dataclass(frozen=True, slots=True)
class _Intake:
    """The demo's intake: its URL, the events that arrived, and further commands to show them."""

    url: str
    arrived: Callable[[], list[dict[str, Any]]]
    commands: tuple[str, ...] = ()


@contextmanager
def _intake(home: str) -> Iterator[_Intake]:
    """Give `rillevents serve` if its extra is installed, else a small intake of the package."""
    # Imported here: no other command needs a server.
    from rillevents.event.query import decoded
    from rillevents.store.reader import Store

    if all(find_spec(name) for name in ("uvicorn", "httptools")):
        with _serving(home) as url:
            store = f"{home}/events.db"
            yield _Intake(url, lambda: list(map(decoded, Store(store).lines())), (f"events --store {store} --count",))
        return
    from rillevents.testing.fake_intake import FakeIntake

    with FakeIntake("demo", "demo") as intake:
        yield _Intake(intake.url, lambda: intake.events)


@contextmanager
def _serving(home: str) -> Iterator[str]:
    words = ["serve", "--port", "0", "--user", "demo", "--json", "-q"]
    environ = _environment(home, "") | {"RILLEVENTS_SERVE_PASSWORD": "demo"}
    with subprocess.Popen(
        [sys.executable, "-m", "rillevents", *words], env=environ, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE
    ) as server:
        try:
            told = server.stdout.readline() if server.stdout else b""
            yield str(json.loads(told)["intake_url"])
        finally:
            server.terminate()


def _environment(home: str, url: str) -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith(_OURS)}
    return kept | {
        "RILLEVENTS_HOME": home,
        "RILLEVENTS_INTAKE_URL": url,
        "RILLEVENTS_INTAKE_USER": "demo",
        "RILLEVENTS_INTAKE_PASSWORD": "demo",
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
    }


def _run(words: str, environ: Mapping[str, str]) -> Iterator[str]:
    yield f"$ rillevents {words}"
    done = subprocess.run(
        [sys.executable, "-m", "rillevents", *shlex.split(words)],
        env=environ,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
        cwd=environ["RILLEVENTS_HOME"],
    )
    for line in (done.stdout + done.stderr).decode(errors="replace").splitlines():
        yield f"  {line}"
    if done.returncode:
        raise RilleventsError(f"`rillevents {words}` failed with exit code {done.returncode}")


def _shown(event: Mapping[str, object]) -> str:
    more = {key: value for key, value in event.items() if not key.startswith("event_") and key not in ("name", "time")}
    return f"{event['event_type']:<11}{event['event_name']:<16}{json.dumps(more, ensure_ascii=False)}"
