"""The recipes of the manual's page on CI, run as they stand in the shells that CI systems start, with everything failing in turn."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml
from support import PACE, need
from test_docs import PAGES, only_block

from rillevents.local import Paths
from rillevents.spool.view import pending
from rillevents.testing import FakeIntake

ROOT = Path(__file__).parents[1]
WHEEL = "https://example.com/rillevents-0.1.0-py3-none-any.whl"

# What comes of `python3 -m venv FOLDER` and of the pip in that folder.
INSTALLS = {
    "installed": """
        mkdir -p "$3/bin"
        printf '#!/bin/sh\\necho "$@" >> "$STUBS/pip-got"\\ncp "$STUBS/tool" "$3/bin/rillevents"\\n' > "$3/bin/pip"
        sed -i "s|[$]3|$3|" "$3/bin/pip"
        chmod +x "$3/bin/pip"
    """,
    "no-venv": "exit 1",
    "no-package": """
        mkdir -p "$3/bin"
        printf '#!/bin/sh\\necho "ERROR: no such package" >&2\\nexit 1\\n' > "$3/bin/pip"
        chmod +x "$3/bin/pip"
    """,
    "does-not-run": """
        mkdir -p "$3/bin"
        printf '#!/bin/sh\\n' > "$3/bin/pip"
        printf '#!/bin/sh\\necho "rillevents needs Python 3.11" >&2\\nexit 1\\n' > "$3/bin/rillevents"
        chmod +x "$3/bin/pip" "$3/bin/rillevents"
    """,
}


@dataclass
class Recipe:
    """A recipe as its CI system runs it: the variables of the job, its steps, and the steps that always run."""

    environ: Mapping[str, str]
    job: list[str]
    always: list[str] = field(default_factory=list)


def for_sh(text: str) -> Recipe:
    return Recipe({}, [text])


def for_github(text: str) -> Recipe:
    [job] = yaml.safe_load(text)["jobs"].values()
    steps = [step for step in job["steps"] if "run" in step]
    split = [
        [step["run"] for step in steps if ("always()" in step.get("if", "")) is always] for always in (False, True)
    ]
    return Recipe(job["env"], *split)


def for_gitlab(text: str) -> Recipe:
    [job] = yaml.safe_load(text).values()
    return Recipe(job["variables"], ["\n".join(job["before_script"] + job["script"])], ["\n".join(job["after_script"])])


def for_jenkins(text: str) -> Recipe:
    environ = dict(re.findall(r"(RILLEVENTS_\w+) = '([^']*)'", text))
    parts = text.partition("post {")
    found = [[textwrap.dedent(body) for body in re.findall(r"sh '''\n(.*?)'''", part, re.DOTALL)] for part in parts]
    return Recipe(environ, found[0], found[2])


def for_buildkite(text: str) -> Recipe:
    pipeline = yaml.safe_load(text)
    # What the upload of a pipeline makes of it.
    assert [] == re.findall(r"(?<!\$)\$(?!\$)", text.replace("$$", "")), "a single $ is replaced by the upload"
    return Recipe(pipeline["env"], [step["command"].replace("$$", "$") for step in pipeline["steps"]])


def for_circleci(text: str) -> Recipe:
    [job] = yaml.safe_load(text)["jobs"].values()
    steps = [step["run"] for step in job["steps"] if isinstance(step, dict)]
    split = [
        [step["command"] for step in steps if (step.get("when") == "always") is always] for always in (False, True)
    ]
    return Recipe(job["environment"], *split)


def for_woodpecker(text: str) -> Recipe:
    # Both Woodpecker and Drone replace these before a shell sees them.
    assert "${" not in text
    [step] = yaml.safe_load(text)["steps"]
    environ = {key: value for key, value in step["environment"].items() if not isinstance(value, dict)}
    return Recipe(environ, ["\n".join(step["commands"])])


HOSTED = {
    "yaml github": for_github,
    "yaml gitlab": for_gitlab,
    "groovy jenkins": for_jenkins,
    "yaml buildkite": for_buildkite,
    "yaml circleci": for_circleci,
    "yaml woodpecker": for_woodpecker,
}
RECIPES = {"sh recipe": for_sh} | HOSTED


@dataclass
class Machine:
    """A machine that a recipe runs on: its home, its PATH, whether installing works, what the job's exit code is."""

    home: Path
    url: str
    installs: str = "installed"
    code: int = 0
    build: str = ""
    said: str = ""

    def __post_init__(self) -> None:
        stubs = self.home / "stubs"
        stubs.mkdir(parents=True)
        (self.home / "user").mkdir()
        call = f'exec {shlex.quote(sys.executable)} -m rillevents "$@"'
        self._stub(stubs / "tool", f"export PYTHONPATH={shlex.quote(str(ROOT))}\n{call}")
        self._stub(stubs / "python3", textwrap.dedent(INSTALLS.get(self.installs, self.installs)))
        self._stub(stubs / "make", self.build or f"echo made\nexit {self.code}")
        self.environ = {
            "PATH": f"{stubs}:/usr/bin:/bin",
            "HOME": str(self.home / "user"),
            "STUBS": str(stubs),
            "RILLEVENTS_INTAKE_URL": self.url,
            "RUNNER_TEMP": str(self.home),
            "GITHUB_PATH": str(self.home / "github_path"),
            "BASH_ENV": str(self.home / "bash_env"),
        }
        (self.home / "bash_env").touch()

    def _stub(self, path: Path, body: str) -> None:
        path.write_text(f"#!/bin/sh\n{body}\n")
        path.chmod(0o755)

    def start(self, shell: list[str], script: str, **environ: str) -> subprocess.Popen[str]:
        """Start a script as a CI system does, in a session of its own."""
        file = self.home / "script"
        file.write_text(script)
        added = self.home / "github_path"
        path = ":".join([*(added.read_text().split() if added.exists() else []), self.environ["PATH"]])
        return subprocess.Popen(
            [*shell, str(file)],
            env=self.environ | {"PATH": path} | environ,
            cwd=self.home,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def run(self, shell: list[str], script: str, **environ: str) -> int:
        """Run a script, and return its exit code; what it says about a missing command or a wrong use fails the test."""
        started = self.start(shell, script, **environ)
        said, _ = started.communicate(timeout=60 * PACE)
        self.said += said
        assert "not found" not in said
        assert "Usage" not in said
        return started.returncode

    def spooled(self) -> list[dict[str, Any]]:
        """Return the events that wait."""
        return [json.loads(line) for place in Paths(self.environ).spool_dirs[:1] for line in pending(place)]


def in_a_hurry(script: str) -> str:
    """Return a recipe that delivers for one second instead of twenty."""
    return script.replace("--flush 20", "--flush 1").replace("--timeout 20", "--timeout 1")


def strict(shell: str) -> list[str]:
    """Return the strictest call of a shell."""
    return [need(shell), "-eu", *([] if shell == "dash" else ["-o", "pipefail"])]


def run_recipe(recipe: Recipe, machine: Machine, shell: list[str]) -> int:
    """Run a recipe's steps as its CI system does, and return the job's exit code."""
    environ = {key: str(value) for key, value in recipe.environ.items()}
    code = 0
    for script in recipe.job:
        code = machine.run(shell, in_a_hurry(script), **environ)
        if code:
            break
    assert [0] * len(recipe.always) == [machine.run(shell, in_a_hurry(script), **environ) for script in recipe.always]
    return code


def ended(code: int) -> list[tuple[str, int | None]]:
    return [("build-start", None), ("build-failure" if code else "build-success", code)]


def told(events: list[dict[str, Any]]) -> list[tuple[str, int | None]]:
    return sorted(
        ((event["event_name"], event.get("exit_code")) for event in events), key=lambda pair: pair[1] is not None
    )


SHELLS = [pytest.param("sh recipe", shell, id=f"sh-{shell}") for shell in ("dash", "bash", "zsh")]
ALL = [*SHELLS, *(pytest.param(info, "bash", id=info.split()[1]) for info in HOSTED)]


@pytest.fixture
def refusing() -> Iterator[str]:
    """An intake that is down: bound, and not listening, so that nobody else can get the port meanwhile."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{taken.getsockname()[1]}/events/default"


@pytest.mark.slow
@pytest.mark.parametrize("code", [0, 3])
@pytest.mark.parametrize(("info", "shell"), ALL)
def test_the_job_runs_as_without_and_all_events_arrive(info: str, shell: str, code: int, tmp_path: Path) -> None:
    """A recipe leaves the job's exit code alone and delivers its start and its end, with the wheel that was filled in."""
    recipe = RECIPES[info](only_block(PAGES["ci"], info))
    with FakeIntake() as intake:
        machine = Machine(tmp_path, intake.url, code=code)
        assert code == run_recipe(recipe, machine, strict(shell))
    assert ended(code) == told(intake.events)
    assert ([], 1) == (machine.spooled(), machine.said.count("made"))
    assert WHEEL == (tmp_path / "stubs" / "pip-got").read_text().split()[-1]


@pytest.mark.slow
@pytest.mark.parametrize(("info", "shell"), ALL)
def test_with_the_intake_down_the_events_wait(info: str, shell: str, refusing: str, tmp_path: Path) -> None:
    """With the intake down the job's exit code is its own, and both events wait in the spool."""
    machine = Machine(tmp_path, refusing, code=3)
    assert 3 == run_recipe(RECIPES[info](only_block(PAGES["ci"], info)), machine, strict(shell))
    assert ended(3) == told(machine.spooled())


@pytest.mark.slow
@pytest.mark.parametrize("code", [0, 3])
@pytest.mark.parametrize("installs", ["no-venv", "no-package", "does-not-run"])
@pytest.mark.parametrize(("info", "shell"), ALL)
def test_without_the_tool_the_job_runs(
    info: str, shell: str, installs: str, code: int, refusing: str, tmp_path: Path
) -> None:
    """Where the tool cannot be installed or does not run, the job runs once, with its own exit code, and one line says so."""
    machine = Machine(tmp_path, refusing, installs, code)
    assert code == run_recipe(RECIPES[info](only_block(PAGES["ci"], info)), machine, strict(shell))
    said = machine.said.splitlines()
    assert (1, []) == (said.count("made"), machine.spooled())
    [line] = [line for line in said if line != "made"]
    assert re.fullmatch(r"no rillevents, so no events: see (/.*\.log)", line)
    assert "ERROR: no such package" not in machine.said


@pytest.mark.slow
@pytest.mark.parametrize(("info", "shell"), [*SHELLS, *ALL[4:7], ALL[-1]])
def test_without_a_home_the_job_runs(info: str, shell: str, refusing: str, tmp_path: Path) -> None:
    """Where the home is no folder, nothing can be installed: the job runs all the same."""
    machine = Machine(tmp_path, refusing)
    machine.environ["HOME"] = str(tmp_path / "stubs" / "make")
    recipe = RECIPES[info](only_block(PAGES["ci"], info))
    environ = {key: str(value) for key, value in recipe.environ.items()}
    started = machine.start(strict(shell), recipe.job[0], **environ)
    said, _ = started.communicate(timeout=60 * PACE)
    assert (0, 1) == (started.returncode, said.count("made\n"))


@contextmanager
def silent() -> Iterator[str]:
    """An intake that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}/events/default"


@contextmanager
def dropping() -> Iterator[str]:
    """An intake whose packets get lost: its queue of connections is full, so that the kernel drops what comes."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as server:
        waiting = []
        for _ in range(4):
            client = socket.socket()
            client.setblocking(False)
            client.connect_ex(server.getsockname())
            waiting.append(client)
        yield f"http://127.0.0.1:{server.getsockname()[1]}/events/default"
        for client in waiting:
            client.close()


@pytest.mark.slow
@pytest.mark.parametrize("intake", [silent, dropping])
@pytest.mark.parametrize("info", RECIPES)
def test_a_bad_intake_holds_the_job_up_for_its_bound_alone(info: str, intake: Any, tmp_path: Path) -> None:
    """With an intake that never answers or whose packets are lost, delivery ends when its time is over, and nothing is lost."""
    with intake() as url:
        machine = Machine(tmp_path, url)
        started = time.monotonic()
        assert 0 == run_recipe(RECIPES[info](only_block(PAGES["ci"], info)), machine, strict("bash"))
        # Without a bound of its own a flush waits for thirty seconds.
        assert time.monotonic() - started < 1 + 12 * PACE
    assert ended(0) == told(machine.spooled())


def until(path: Path, started: subprocess.Popen[str]) -> None:
    """Wait for a file that the job makes."""
    while not path.exists():
        assert started.poll() is None, started.communicate()
        time.sleep(0.01)


CANCELLED = [
    *SHELLS,
    pytest.param("yaml github", "bash", id="github"),
    pytest.param("yaml circleci", "bash", id="circleci"),
]


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT], ids=lambda number: number.name)
@pytest.mark.parametrize(("info", "shell"), CANCELLED)
def test_a_cancel_reaches_the_build_and_the_end_is_recorded(
    info: str, shell: str, number: signal.Signals, tmp_path: Path
) -> None:
    """A signal to the first process of the step alone ends the build, and the events with this signal arrive."""
    recipe = RECIPES[info](only_block(PAGES["ci"], info))
    with FakeIntake() as intake:
        machine = Machine(tmp_path, intake.url, build='touch "$STUBS/building"\nexec sleep 600')
        environ = {key: str(value) for key, value in recipe.environ.items()}
        *before, build = recipe.job
        assert [0] * len(before) == [machine.run(strict(shell), script, **environ) for script in before]
        started = machine.start(strict(shell), build, **environ)
        until(tmp_path / "stubs" / "building", started)
        os.kill(started.pid, number)
        started.communicate(timeout=60 * PACE)
        assert -number == started.returncode
        assert [0] * len(recipe.always) == [machine.run(strict(shell), script, **environ) for script in recipe.always]
    names = [(event["event_name"], event.get("signal")) for event in intake.events]
    assert {("build-start", None), ("build-failure", number.name)} == {*names}


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT], ids=lambda number: number.name)
@pytest.mark.parametrize("shell", ["dash", "bash", "zsh"])
def test_a_cancel_during_the_installation_ends_the_job(shell: str, number: signal.Signals, tmp_path: Path) -> None:
    """A signal to the shell that installs ends the job at once, with the code of that signal: the build never starts."""
    installs = 'touch "$STUBS/installing"\nexec sleep 600 >/dev/null 2>&1'
    machine = Machine(tmp_path, "http://127.0.0.1:9/", installs)
    started = machine.start(strict(shell), only_block(PAGES["ci"], "sh recipe"))
    until(tmp_path / "stubs" / "installing", started)
    os.kill(started.pid, number)
    assert 128 + number == started.wait(timeout=60 * PACE)
    os.killpg(started.pid, signal.SIGKILL)
    assert "made" not in started.communicate()[0]


@pytest.mark.parametrize("info", RECIPES)
def test_a_recipe_delivers_once_within_a_time(info: str) -> None:
    """Every recipe delivers at one place, within at most twenty seconds, and a failure of it is nobody's."""
    text = only_block(PAGES["ci"], info)
    assert 1 == len(re.findall(r"--flush 20 |flush --timeout 20 \|\| true", text))
    assert 1 == len(re.findall(r"flush ", text))


@pytest.mark.parametrize("info", [*RECIPES, "yaml github-action"])
def test_nothing_of_others_is_pasted_into_a_script(info: str) -> None:
    """No script of a recipe has a place where the CI system pastes a text: what an outsider writes would be run."""
    text = only_block(PAGES["ci"], info)
    recipe = (
        RECIPES[info](text) if info in RECIPES else Recipe({}, [step["run"] for step in _steps(text) if "run" in step])
    )
    assert [] == [
        mark
        for script in recipe.job + recipe.always
        for mark in ("${{", "<<", "${", '"""')
        if mark in script.replace("${RILLEVENTS_INSTALL:-", "").replace("${HOME:-", "")
    ]


def _steps(text: str) -> list[dict[str, Any]]:
    [job] = yaml.safe_load(text)["jobs"].values()
    steps: list[dict[str, Any]] = job["steps"]
    return steps


@pytest.mark.parametrize("info", [info for info in RECIPES if info != "sh recipe"])
def test_a_recipe_sets_its_variables_for_the_whole_job(info: str) -> None:
    """Failures are nobody's, the job is named in every event, and the wheel is the one thing to fill in."""
    assert {
        "RILLEVENTS_INSTALL": WHEEL,
        "RILLEVENTS_ON_ERROR": "ignore",
        "RILLEVENTS_CI_CONTEXT": "1",
    } == {key: str(value) for key, value in RECIPES[info](only_block(PAGES["ci"], info)).environ.items()}
