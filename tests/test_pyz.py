"""The command line as one file, `.ci/build_pyz`: on a machine that has Python and nothing else."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from support import Tool, need, only

from rillevents.testing import FakeIntake

pytestmark = [pytest.mark.slow, pytest.mark.unmeasured]

SCRIPT = Path(__file__).parents[1] / ".ci" / "build_pyz"
LINE = b'{"event_id":"1","event_time":"2026-01-01T00:00:00Z","event_type":"t","event_name":"given"}\n'


@pytest.fixture(scope="module")
def pyz(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file, built for this Python alone."""
    file = tmp_path_factory.mktemp("one file") / "rillevents.pyz"
    subprocess.run([need("bash"), SCRIPT, "--here", file], check=True, stdin=subprocess.DEVNULL)
    return file


class OneFile(Tool):
    """The file, started by the Python that this one's environment was made from, which has none of our dependencies."""

    def __init__(self, home: Path, file: Path) -> None:
        super().__init__(home)
        self.file = file
        self.environ = {key: value for key, value in self.environ.items() if "PYTHON" not in key} | {
            "PATH": "/usr/bin:/bin"
        }

    def command(self, *words: str | bytes) -> list[str | bytes]:
        return [f"{sys.base_prefix}/bin/python3", "-s", str(self.file), *words]


@pytest.fixture
def tool(pyz: Path, tmp_path: Path) -> OneFile:
    """The file, with an empty home."""
    (tmp_path / "user").mkdir()
    return OneFile(tmp_path / "home", pyz)


def test_the_python_has_nothing_else(tool: OneFile) -> None:
    """The Python of these tests has none of our dependencies."""
    done = subprocess.run(
        [f"{sys.base_prefix}/bin/python3", "-s", "-c", "import typer, msgspec"], env=tool.environ, capture_output=True
    )
    assert b"ModuleNotFoundError" in done.stderr


def test_the_main_job(tool: OneFile) -> None:
    """Events of `record` and `record raw` are shown, counted, exported and delivered, with what it holds itself."""
    assert 0 == tool("record", "behavioral", "login-start", "-a", "plan=pro").returncode
    assert 0 == tool("record", "raw", stdin=LINE).returncode
    assert 2 == tool.json("status")["spool"]["events"]
    assert {"login-start", "given"} == {event["event_name"] for event in tool.json("events")}
    assert LINE.decode() in tool("spool", "export").stdout
    with FakeIntake() as intake:
        done = tool("flush", "--json", RILLEVENTS_INTAKE_URL=intake.url)
        assert 2 == json.loads(done.stdout)["delivered"], done.stderr
        assert 2 == len(intake.events)
    assert [] == tool.lines()


def test_a_wrapped_command(tool: OneFile) -> None:
    """`run` leaves with the command's code, and both of its events are stored."""
    assert 4 == tool("run", "--name", "build", "--", "sh", "-c", "exit 4").returncode
    assert ["build-start", "build-failure"] == [event["event_name"] for event in tool.events()]


def test_what_it_holds(tool: OneFile) -> None:
    """The manual and the completions are in the file."""
    assert "# CI jobs" in tool("help", "ci").stdout
    assert "complete " in tool("completions", "bash").stdout


def test_a_metric_is_exact(tool: OneFile) -> None:
    """A value arrives as it was given, also where the short way of `record` does not take it."""
    assert 0 == tool("record", "metric", "build-seconds", "1.50", "--attrs", '{"a":{"b":[1]}}').returncode
    event = only(tool.events())
    assert (1.5, {"b": [1]}) == (event["value"], event["a"])
