"""The action for GitHub in `.github/actions/setup`: its two steps run under node as a runner runs them."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from support import PACE, need
from test_docs import PAGES
from test_recipes import INSTALLS, WHEEL, Machine, told, until

from rillevents.testing import FakeIntake

pytestmark = [pytest.mark.slow, pytest.mark.unmeasured]

FOLDER = Path(__file__).parents[1] / ".github" / "actions" / "setup"
ACTION = yaml.safe_load((FOLDER / "action.yml").read_text())


class Job:
    """A job on a runner: what its steps get and what they leave behind."""

    def __init__(self, machine: Machine, **inputs: str) -> None:
        self.machine = machine
        del machine.environ["RILLEVENTS_INTAKE_URL"]
        self.files = {name: machine.home / f"github_{name.lower()}" for name in ("PATH", "ENV", "STATE")}
        for file in self.files.values():
            file.touch()
        defaults = {name: str(given["default"]) for name, given in ACTION["inputs"].items() if "default" in given}
        self.inputs = {f"INPUT_{key.upper()}": value for key, value in (defaults | inputs).items()}
        self.said = ""

    def environ(self) -> dict[str, str]:
        """Return what a step finds in its environment."""
        added = dict(line.split("=", 1) for line in self.files["ENV"].read_text().splitlines())
        path = ":".join([*self.files["PATH"].read_text().split("\n")[:-1], self.machine.environ["PATH"]])
        files = {f"GITHUB_{name}": str(file) for name, file in self.files.items()}
        return self.machine.environ | added | files | {"PATH": path}

    def step(self, part: str) -> subprocess.CompletedProcess[str]:
        """Run the `main` or the `post` step, which never fails."""
        state = [line.split("=", 1) for line in self.files["STATE"].read_text().splitlines()]
        kept = {f"STATE_{key}": value for key, value in state}
        done = self.run([need("node"), str(FOLDER / ACTION["runs"][part])], **self.inputs, **kept)
        assert (0, "") == (done.returncode, "".join(re.findall(r"^\s+at .*\.js:.*$", done.stderr, re.MULTILINE)))
        return done

    def run(self, words: list[str], **environ: str) -> subprocess.CompletedProcess[str]:
        """Run what a step of the workflow runs."""
        done = subprocess.run(
            words,
            env=self.environ() | environ,
            cwd=self.machine.home,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120 * PACE,
            check=False,
        )
        self.said += done.stdout + done.stderr
        return done


BUILD = ["bash", "-e", "-c", "exec rillevents run --name build -- make build"]


@pytest.mark.parametrize("code", [0, 3])
def test_events_arrive_from_the_post_step(code: int, tmp_path: Path) -> None:
    """The tool is on the PATH of later steps, which see no credential; the post step delivers, whatever the build did."""
    with FakeIntake(user="ci", password="s3 cr:et") as intake:
        job = Job(
            Machine(tmp_path, "", code=code),
            **{"install": WHEEL, "intake-url": intake.url, "intake-user": "ci", "intake-password": "s3 cr:et"},
        )
        job.step("main")
        assert code == job.run(BUILD).returncode
        assert [] == intake.events
        job.step("post")
        assert ["build-start", "build-failure" if code else "build-success"] == [e["event_name"] for e in intake.events]
    assert [] == [key for key, value in job.environ().items() if "s3 cr:et" in value]
    assert ["::add-mask::s3 cr:et"] == [line for line in job.said.splitlines() if "s3 cr:et" in line]
    assert {"RILLEVENTS_ON_ERROR": "ignore", "RILLEVENTS_CI_CONTEXT": "1"}.items() <= job.environ().items()
    assert WHEEL == (tmp_path / "stubs" / "pip-got").read_text().split()[-1]


@pytest.mark.parametrize("status", ["success", "failure", "cancelled"])
def test_the_status_of_the_job_is_an_event(status: str, tmp_path: Path) -> None:
    """With `status` the job itself has a start and an end, and the end is what the runner says at the post step."""
    with FakeIntake() as intake:
        job = Job(Machine(tmp_path, ""), **{"install": WHEEL, "intake-url": intake.url, "status": "success"})
        job.step("main")
        job.inputs["INPUT_STATUS"] = status
        job.step("post")
    start, end = intake.events
    assert ("job-start", f"job-{status}") == (start["event_name"], end["event_name"])
    assert 0 < end["duration_s"] < 60 * PACE


@pytest.mark.parametrize("installs", [name for name in INSTALLS if name != "installed"])
def test_without_the_tool_the_job_runs(installs: str, tmp_path: Path) -> None:
    """If the tool cannot be installed or does not run, one warning says why, and a later step runs its command all the same."""
    job = Job(Machine(tmp_path, "", installs, code=3), install=WHEEL)
    assert 1 == job.step("main").stdout.count(
        "::warning title=rillevents::rillevents does not run, so this job has no events"
    )
    assert (3, "made\n") == ((done := job.run(BUILD)).returncode, done.stdout)
    assert 0 == job.run(["rillevents", "record", "behavioral", "x"]).returncode
    assert "" == job.step("post").stdout


def test_a_python_that_is_missing_is_named(tmp_path: Path) -> None:
    """The warning names the Python that cannot be started."""
    job = Job(Machine(tmp_path, ""), install=WHEEL, python="/nowhere/python3")
    assert "/nowhere/python3: ENOENT" in job.step("main").stdout


def test_with_the_intake_down_the_job_is_as_without(tmp_path: Path) -> None:
    """A delivery that fails ends within its time, fails nothing, and keeps the events."""
    job = Job(Machine(tmp_path, ""), **{"install": WHEEL, "intake-url": "http://127.0.0.1:9/", "timeout": "1"})
    job.step("main")
    assert 0 == job.run(BUILD).returncode
    job.step("post")
    assert [("build-start", None), ("build-success", 0)] == told(job.machine.spooled())


def test_a_summary_of_the_job(tmp_path: Path) -> None:
    """With `summary` the job's summary shows what was recorded, besides what is in it already."""
    with FakeIntake() as intake:
        job = Job(Machine(tmp_path, "", code=3), **{"install": WHEEL, "intake-url": intake.url, "summary": "true"})
        job.machine.environ["GITHUB_STEP_SUMMARY"] = str(tmp_path / "summary.md")
        (tmp_path / "summary.md").write_text("# Mine\n")
        job.step("main")
        job.run(BUILD)
        job.step("post")
    assert (tmp_path / "summary.md").read_text().startswith("# Mine\n### rillevents: 2 events, 1 failed\n")


@pytest.mark.parametrize("timeout", ["soon", "-1", "0"])
def test_a_wrong_timeout_loses_nothing(timeout: str, tmp_path: Path) -> None:
    """A time that is no number of seconds is told, and the events are delivered."""
    with FakeIntake() as intake:
        job = Job(Machine(tmp_path, ""), **{"install": WHEEL, "intake-url": intake.url, "timeout": timeout})
        job.step("main")
        job.run(BUILD)
        assert f"::warning title=rillevents::timeout: {timeout} is not" in job.step("post").stdout
    assert 2 == len(intake.events)


def test_what_the_workflow_sets_stands(tmp_path: Path) -> None:
    """Variables of the workflow's own win over the action's."""
    machine = Machine(tmp_path, "")
    machine.environ |= {"RILLEVENTS_ON_ERROR": "warn", "RILLEVENTS_CI_CONTEXT": "0"}
    job = Job(machine, install=WHEEL)
    job.step("main")
    assert "" == job.files["ENV"].read_text()


def test_a_cancelled_build_is_delivered(tmp_path: Path) -> None:
    """A cancel, an INT to the step's process alone, is recorded as the build's end, and the post step delivers it."""
    with FakeIntake() as intake:
        machine = Machine(tmp_path, "", build='touch "$STUBS/building"\nexec sleep 600')
        job = Job(machine, **{"install": WHEEL, "intake-url": intake.url})
        job.step("main")
        started = subprocess.Popen(BUILD, env=job.environ(), start_new_session=True, text=True)
        until(tmp_path / "stubs" / "building", started)
        os.kill(started.pid, signal.SIGINT)
        assert -signal.SIGINT == started.wait(60 * PACE)
        job.step("post")
    assert {("build-start", None), ("build-failure", "SIGINT")} == {
        (event["event_name"], event.get("signal")) for event in intake.events
    }


def _read() -> set[str]:
    sources = "".join((FOLDER / name).read_text() for name in ("setup.js", "deliver.js"))
    return set(re.findall(r'input\("([^"]+)"\)', sources))


def test_every_input_is_read_and_documented() -> None:
    """The action reads the inputs that it declares, and the manual names each."""
    declared: dict[str, Any] = ACTION["inputs"]
    assert _read() == {*declared}
    assert [] == [name for name in declared if f"`{name}`" not in PAGES["ci"]]
    assert all((FOLDER / ACTION["runs"][part]).is_file() for part in ("main", "post"))
