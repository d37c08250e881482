"""A program with telemetry of its own as one file that shiv or pex made, run as its users run it."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from support import PACE, need, only, pip_install

from rillevents import Application
from rillevents.delivery import WORD
from rillevents.local import Paths
from rillevents.spool.view import existing_spools, pending
from rillevents.testing import FakeIntake

pytestmark = [pytest.mark.slow, pytest.mark.unmeasured]

# The program changes its folder, as many do: it was started by a relative path.
PROGRAM = """
import os
from rillevents import Application

app = Application("mytool", "MYTOOL_", intake_url=os.environ["URL"], auto_flush="1s")

def main():
    if "HOOK" in os.environ:
        app.maybe_flush_child()
    with open(os.environ["RAN"], "a") as ran:
        ran.write("x")
    os.chdir("/")
    app.client().record_behavioral("app-start")
    print("done")
"""


@pytest.fixture(scope="module")
def bench(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with shiv and pex in a venv, the program, and what it needs."""
    folder = tmp_path_factory.mktemp("bench")
    venv.create(folder / "venv", with_pip=True)
    pip_install(folder / "venv", "shiv>=1.0.8", "pex>=2.60")
    pip_install(folder / "venv", "--target", folder / "site", wheel)
    (folder / "program").mkdir()
    (folder / "program" / "mytool.py").write_text(PROGRAM)
    (folder / "site" / "mytool.py").write_text(PROGRAM)
    return folder


@pytest.fixture(scope="module", params=["shiv", "pex", "pex --venv"])
def archive(request: pytest.FixtureRequest, bench: Path, wheel: Path) -> Path:
    """The program as one file."""
    builder, *options = request.param.split()
    file = bench / f"mytool.{request.param.replace(' ', '')}"
    words: list[str | Path] = [bench / "venv" / "bin" / builder, "-e", "mytool:main", "-o", file]
    if builder == "shiv":
        words += ["--site-packages", bench / "site", "--compressed", "-p", "/usr/bin/env python3"]
    else:
        # From where pip installs here, too.
        words += [wheel, "-D", bench / "program", "--use-pip-config", "--pex-root", bench / "root", *options]
    subprocess.run(words, check=True, capture_output=True, timeout=600 * PACE)
    return file


@pytest.fixture
def intake() -> Iterator[FakeIntake]:
    with FakeIntake() as running:
        yield running


@pytest.fixture
def cache() -> Iterator[Path]:
    """Where pex unpacks: with a short name, since it warns of a long one."""
    with tempfile.TemporaryDirectory(prefix="pex") as folder:
        yield Path(folder)


class Run:
    """One run of the file by a user with an empty home, by the Python that has none of our dependencies."""

    def __init__(
        self, archive: Path, intake: FakeIntake, folder: Path, cache: Path, before: Sequence[str] = (), **more: str
    ) -> None:
        self.ran, home = folder / "ran", folder / "home"
        home.mkdir()
        self.environ = {"PATH": f"{sys.base_prefix}/bin:/usr/bin:/bin", "HOME": str(home), "MYTOOL_TELEMETRY": "1"}
        self.environ |= {"URL": intake.url, "RAN": str(self.ran), "PEX_ROOT": str(cache), **more}
        done = subprocess.run(
            [*before, f"./{archive.name}"],
            env=self.environ,
            cwd=archive.parent,
            capture_output=True,
            text=True,
            check=False,
            timeout=120 * PACE,
        )
        assert (0, "done\n", "") == (done.returncode, done.stdout, done.stderr)

    def waiting(self) -> list[bytes]:
        paths = Paths(self.environ, Application("mytool", "MYTOOL_"))
        return [line for place in existing_spools(paths) for line in pending(place)]


def test_it_delivers(archive: Path, intake: FakeIntake, cache: Path, tmp_path: Path) -> None:
    """With the hook the event arrives by a process beside the program, whose main has run once."""
    run = Run(archive, intake, tmp_path, cache, HOOK="1")
    deadline = time.monotonic() + 60 * PACE
    while run.waiting() or not intake.events:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert "app-start" == only(intake.events)["event_name"]
    assert "x" == run.ran.read_text()


def test_without_the_hook(archive: Path, intake: FakeIntake, cache: Path, tmp_path: Path) -> None:
    """Without the hook the program is not started again: its main has run once when all its processes have ended, and the event waits."""
    log = tmp_path / "strace"
    # It ends when all processes have that it follows.
    run = Run(archive, intake, tmp_path, cache, [need("strace"), "-f", "-e", "trace=execve", "-o", str(log)])
    assert f'"{WORD}"' not in log.read_text()
    assert "x" == run.ran.read_text()
    assert 1 == len(run.waiting())
    assert [] == intake.events
