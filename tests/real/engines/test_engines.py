"""The manual's recipes in real CI engines, which are fetched first:

    tests/real/engines/build.sh FOLDER
    RILLEVENTS_ENGINES=FOLDER python -m pytest tests/real/engines -n0 -s

Each recipe is taken as it stands, with the wheel of this checkout filled in. Without RILLEVENTS_ENGINES all tests are skipped. Not
in CI: what other people's engines do is not ours to hold. Jenkins, CircleCI, Woodpecker and Drone are not among them.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support import PACE
from test_docs import PAGES, only_block
from test_recipes import WHEEL

from rillevents.local import Paths
from rillevents.spool.view import pending
from rillevents.testing import FakeIntake

pytestmark = pytest.mark.unmeasured

ROOT = Path(__file__).parents[3]
DOWN = "http://127.0.0.1:9/events/default"


class Workspace:
    """A repository with a recipe in it, a build that it runs, and a home of its own."""

    def __init__(self, folder: Path, info: str, install: str, build: str, url: str) -> None:
        self.folder = folder / "repository"
        self.home = folder / "home"
        self.build = folder / "building"
        self.url = url
        self.folder.mkdir()
        self.home.mkdir()
        self.recipe = only_block(PAGES["ci"], info).replace(WHEEL, install)
        (self.folder / "Makefile").write_text(f"build:\n\t@touch {self.build}; {build}\n")
        kept = ("PATH", "GOCACHE", "PIP_INDEX_URL", "PIP_CONFIG_FILE", "PIP_CACHE_DIR", "SSL_CERT_FILE")
        self.environ = {key: os.environ[key] for key in kept if key in os.environ} | {"HOME": str(self.home)}
        # pip's own settings and cache are the user's.
        for name in (".config/pip", ".cache/pip", ".pip"):
            if (found := Path.home() / name).exists():
                (self.home / name).parent.mkdir(parents=True, exist_ok=True)
                (self.home / name).symlink_to(found)

    def write(self, name: str, text: str) -> None:
        (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
        (self.folder / name).write_text(text)

    def commit(self) -> None:
        identity = ["-c", "user.name=t", "-c", "user.email=t@example.com"]
        for words in (["init", "-q"], ["add", "-A"], [*identity, "commit", "-qm", "A build"]):
            subprocess.run(["git", *words], cwd=self.folder, env=self.environ, check=True)

    def start(self, words: list[str | Path], **environ: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            words,
            cwd=self.folder,
            env=self.environ | environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def spooled(self) -> list[dict[str, Any]]:
        return [json.loads(line) for place in Paths(self.environ).spool_dirs[:1] for line in pending(place)]


def engine(name: str) -> Path:
    """Return where an engine is."""
    folder = os.environ.get("RILLEVENTS_ENGINES")
    if not folder:
        pytest.skip("RILLEVENTS_ENGINES names no folder: see tests/real/engines/build.sh")
    return Path(folder).resolve() / name


def act(work: Workspace) -> subprocess.Popen[str]:
    shutil.copytree(ROOT / ".github" / "actions", work.folder / ".github" / "actions")
    work.write(".github/workflows/ci.yml", work.recipe)
    work.commit()
    words = [engine("act"), "push", "-P", "ubuntu-latest=-self-hosted", "-s", f"RILLEVENTS_INTAKE_URL={work.url}"]
    return work.start(words)


def gitlab_ci_local(work: Workspace) -> subprocess.Popen[str]:
    # With an image it needs Docker; without one it takes this machine's shell.
    work.write(".gitlab-ci.yml", work.recipe.replace("  image: python:3.12\n", ""))
    work.commit()
    words = [
        engine("npm/node_modules/.bin/gitlab-ci-local"),
        "build",
        "--variable",
        f"RILLEVENTS_INTAKE_URL={work.url}",
    ]
    return work.start(words)


def buildkite(work: Workspace) -> subprocess.Popen[str]:
    work.write(".buildkite/pipeline.yml", work.recipe)
    work.commit()
    agent = engine("buildkite-agent")
    upload = [agent, "pipeline", "upload", "--dry-run", "--log-level", "error", "--agent-access-token", "none"]
    done = subprocess.run(upload, cwd=work.folder, env=work.environ, capture_output=True, text=True, check=True)
    pipeline = json.loads(done.stdout)
    job = {
        "COMMAND": pipeline["steps"][0]["command"],
        "REPO": str(work.folder),
        "COMMIT": "HEAD",
        "BRANCH": "master",
        "JOB_ID": "1",
        "AGENT_NAME": "agent",
        "ORGANIZATION_SLUG": "o",
        "PIPELINE_SLUG": "p",
        "PIPELINE_PROVIDER": "git",
        "AGENT_ACCESS_TOKEN": "none",
        "BUILD_PATH": str(work.home / "builds"),
        "HOOKS_PATH": str(work.home / "hooks"),
        "PLUGINS_PATH": str(work.home / "plugins"),
        "BIN_PATH": str(agent.parent),
        # Here, without a checkout: that asks the service, which is nowhere.
        "BOOTSTRAP_PHASES": "command",
        "AGENT_ENDPOINT": DOWN,
    }
    environ = pipeline["env"] | {f"BUILDKITE_{key}": value for key, value in job.items()}
    environ |= {"RILLEVENTS_INTAKE_URL": work.url, "BUILDKITE": "true", "CI": "true"}
    return work.start([agent, "bootstrap"], **environ)


Start = Callable[[Workspace], subprocess.Popen[str]]
ENGINES = [
    pytest.param(act, "yaml github-action", "act", id="act-action"),
    pytest.param(act, "yaml github", "act", id="act"),
    pytest.param(gitlab_ci_local, "yaml gitlab", None, id="gitlab-ci-local"),
    pytest.param(buildkite, "yaml buildkite", "buildkite", id="buildkite"),
]


def names(events: list[dict[str, Any]]) -> list[str]:
    return sorted(event["event_name"] for event in events if not event["event_name"].startswith("job-"))


def finish(started: subprocess.Popen[str]) -> tuple[bool, str]:
    """Return whether the job succeeded, and what was printed."""
    said, _ = started.communicate(timeout=180 * PACE)
    print(said)
    return started.returncode == 0, said


@pytest.mark.parametrize("fails", [False, True], ids=["succeeds", "fails"])
@pytest.mark.parametrize(("start", "info", "provider"), ENGINES)
def test_all_events_arrive(
    start: Start, info: str, provider: str | None, fails: bool, wheel: Path, tmp_path: Path
) -> None:
    """The job's result is the build's, and its events arrive with the name of the provider."""
    with FakeIntake() as intake:
        work = Workspace(tmp_path, info, str(wheel), "exit 3" if fails else "true", intake.url)
        succeeded, _ = finish(start(work))
    assert succeeded is not fails
    assert sorted(["build-start", "build-failure" if fails else "build-success"]) == names(intake.events)
    assert {provider} == {event.get("ci_provider") for event in intake.events}
    if info == "yaml github-action":
        assert ["job-start", "job-failure" if fails else "job-success"] == [
            event["event_name"] for event in intake.events if event["event_name"].startswith("job-")
        ]


@pytest.mark.parametrize("fails", [False, True], ids=["succeeds", "fails"])
@pytest.mark.parametrize(("start", "info", "provider"), ENGINES)
def test_with_the_intake_down(
    start: Start, info: str, provider: str | None, fails: bool, wheel: Path, tmp_path: Path
) -> None:
    """With the intake down the job's result is the build's, and its events wait in the spool."""
    work = Workspace(tmp_path, info, str(wheel), "exit 3" if fails else "true", DOWN)
    work.recipe = work.recipe.replace(" 20", " 1")
    succeeded, _ = finish(start(work))
    assert succeeded is not fails
    assert sorted(["build-start", "build-failure" if fails else "build-success"]) == names(work.spooled())


@pytest.mark.parametrize("fails", [False, True], ids=["succeeds", "fails"])
@pytest.mark.parametrize(("start", "info", "provider"), ENGINES)
def test_with_the_installation_failing(
    start: Start, info: str, provider: str | None, fails: bool, tmp_path: Path
) -> None:
    """With nothing to install the build runs, its result is the job's, and one line says that there are no events."""
    work = Workspace(tmp_path, info, "/nowhere/rillevents-0.1.0-py3-none-any.whl", "exit 3" if fails else "true", DOWN)
    succeeded, said = finish(start(work))
    assert succeeded is not fails
    assert work.build.exists()
    # Engines print the script as well.
    assert "no rillevents, so no events: see /" in said or "rillevents does not run, so this job has no events" in said


CANCELLED = [ENGINES[0], ENGINES[3]]


@pytest.mark.parametrize(("start", "info", "provider"), CANCELLED)
def test_a_cancel(start: Start, info: str, provider: str | None, wheel: Path, tmp_path: Path) -> None:
    """A cancel ends the build, and its start and its end arrive: from the post step, or within the time that is left."""
    with FakeIntake() as intake:
        work = Workspace(tmp_path, info, str(wheel), "exec sleep 600", intake.url)
        started = start(work)
        deadline = time.monotonic() + 120 * PACE
        while not work.build.exists():
            assert time.monotonic() < deadline
            assert started.poll() is None, started.communicate()
            time.sleep(0.1)
        time.sleep(1)
        started.send_signal(signal.SIGINT if provider == "act" else signal.SIGTERM)
        succeeded, _ = finish(started)
        assert not succeeded
        # The process that records may outlive the engine for a moment.
        while "build-failure" not in names(intake.events) and time.monotonic() < deadline:
            time.sleep(0.1)
    assert ["build-failure", "build-start"] == names(intake.events)
