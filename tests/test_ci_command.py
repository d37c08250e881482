"""CI attributes on events: `record --ci`, the variable, the setting, the library, and `rillevents ci`."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support import Tool, only
from test_docs import PAGES, blocks

from rillevents import Client
from rillevents.cli.notices import first_run
from rillevents.local import Paths
from rillevents.recording.setup import recording_setup

SHA = "1f34500d2065743b317a1fb034024b31d28d9183"
JOB = {"CI": "true", "GITLAB_CI": "true", "CI_JOB_NAME": "unit", "CI_PIPELINE_ID": "1000"}
JOB |= {"CI_COMMIT_SHA": SHA, "CI_COMMIT_BRANCH": "feat/x"}
EXPECTED = {"ci_provider": "gitlab", "ci_job": "unit", "ci_build_id": "1000", "git_branch": "feat/x", "git_commit": SHA}


def of_ci(event: dict[str, Any]) -> dict[str, Any]:
    """Return the attributes of an event that say which CI job it is."""
    return {key: value for key, value in event.items() if key.startswith(("ci_", "git_"))}


def recorded(tool: Tool, *words: str, **environ: str | None) -> dict[str, Any]:
    """Record an event and return its attributes of CI."""
    done = tool("record", "log", "x", *words, "--print", **(JOB | environ))
    assert 0 == done.returncode
    return of_ci(json.loads(done.stdout))


class TestRecord:
    def test_both_parsers(self, tool: Tool) -> None:
        """`--ci` gives the same event whether the quick parser or Typer takes the command line."""
        fixed = ["--ci", "--id", "i", "--time", "@0", "--dry-run"]
        environ = JOB | {"RILLEVENTS_INSTALL_ID": "fixed"}
        # Typer alone knows an option and its value in one word.
        quick, typer = (tool("record", "log", "x", *fixed, *more, **environ) for more in (["-a", "k=v"], ["-ak=v"]))
        assert quick.stdout == typer.stdout
        assert EXPECTED == of_ci(json.loads(quick.stdout))

    @pytest.mark.parametrize("form", [["behavioral", "b"], ["metric", "m", "1"], ["log", "l"], ["event", "t", "n"]])
    def test_every_form(self, form: list[str], tool: Tool) -> None:
        """Every form of `record` takes `--ci`."""
        assert 0 == tool("record", *form, "--ci", **JOB).returncode
        assert EXPECTED == of_ci(only(tool.events()))

    def test_not_unless_asked(self, tool: Tool) -> None:
        """Without being asked for, no attribute of CI is added."""
        assert {} == recorded(tool)

    def test_outside_of_ci(self, tool: Tool) -> None:
        """Outside of CI `--ci` adds nothing and says nothing."""
        done = tool("record", "log", "x", "--ci")
        assert (0, "") == (done.returncode, done.stderr)
        assert {} == of_ci(only(tool.events()))

    @pytest.mark.parametrize("value", ["1", "on", "Yes", "true"])
    def test_variable(self, value: str, tool: Tool) -> None:
        """RILLEVENTS_CI_CONTEXT does what `--ci` does."""
        assert EXPECTED == recorded(tool, RILLEVENTS_CI_CONTEXT=value)

    @pytest.mark.parametrize("value", ["0", "false", "no", "off", ""])
    def test_variable_that_says_no(self, value: str, tool: Tool) -> None:
        """A word for no, or nothing, adds nothing; `--ci` wins over it."""
        assert {} == recorded(tool, RILLEVENTS_CI_CONTEXT=value)
        assert EXPECTED == recorded(tool, "--ci", RILLEVENTS_CI_CONTEXT=value)

    def test_variable_that_is_neither(self, tool: Tool) -> None:
        """Any other word is a warning, and the event is recorded without."""
        done = tool("record", "log", "x", **JOB, RILLEVENTS_CI_CONTEXT="maybe")
        assert "RILLEVENTS_CI_CONTEXT='maybe' is neither true nor false" in done.stderr
        assert (0, {}) == (done.returncode, of_ci(only(tool.events())))

    def test_setting(self, tool: Tool) -> None:
        """`ci.context` in config.toml does what `--ci` does, parsed or cached; the variable wins over it."""
        assert 0 == tool("config", "set", "ci.context", "true").returncode
        assert EXPECTED == recorded(tool)
        assert {"context": True} == json.loads((tool.home / "config.json").read_text())["sections"]["ci"]
        assert EXPECTED == recorded(tool)
        assert {} == recorded(tool, RILLEVENTS_CI_CONTEXT="0")

    def test_setting_of_a_wrong_type(self, tool: Tool) -> None:
        """A value that is not true or false is a warning, and the event is recorded without."""
        tool.home.mkdir()
        (tool.home / "config.toml").write_text("[ci]\ncontext = 'yes'\n")
        done = tool("record", "log", "x", **JOB)
        assert "ci.context takes true or false" in done.stderr
        assert {} == of_ci(only(tool.events()))

    def test_what_people_say_wins(self, tool: Tool) -> None:
        """[attributes], RILLEVENTS_ATTRIBUTES and the arguments win over what is found."""
        tool.home.mkdir()
        (tool.home / "config.toml").write_text("[attributes]\nci_job = 'mine'\n")
        found = recorded(tool, "--ci", "-a", "git_branch=b", RILLEVENTS_ATTRIBUTES="ci_build_id=7")
        assert EXPECTED | {"ci_job": "mine", "ci_build_id": "7", "git_branch": "b"} == found

    def test_opted_out(self, tool: Tool) -> None:
        """Opted out, GitHub's event file is not opened."""
        event = tool.home.parent / "event.json"
        event.write_text("{}")
        script = (
            "import sys\n"
            f"sys.argv = ['rillevents', 'record', 'log', 'x', '--ci']\nevent = {str(event)!r}\n"
            "sys.addaudithook(lambda name, args: print('opened') if name == 'open' and args[0] == event else None)\n"
            "import rillevents.cli as main\nmain.leave = lambda code: None\nmain.main()\n"
        )
        job = {"GITHUB_ACTIONS": "true", "GITHUB_EVENT_NAME": "pull_request", "GITHUB_EVENT_PATH": str(event)}

        def run(**more: str) -> str:
            words = [sys.executable, "-c", script]
            return subprocess.run(words, env=tool.environ | job | more, capture_output=True, text=True).stdout

        assert ("", "opened\n") == (run(DO_NOT_TRACK="1"), run())


class TestLibrary:
    @pytest.mark.parametrize("how", ["variable", "setting"])
    def test_client(self, how: str, tool: Tool) -> None:
        """A client of `from_config` adds the attributes if the variable or the setting asks for them."""
        tool.home.mkdir()
        (tool.home / "config.toml").write_text("[ci]\ncontext = true\n" if how == "setting" else "")
        variable = {"RILLEVENTS_CI_CONTEXT": "1"} if how == "variable" else {}
        client = Client.from_config(environ=tool.environ | JOB | variable)
        client.record_log("x")
        client.close()
        assert EXPECTED == of_ci(only(tool.events()))

    def test_setup(self, tool: Tool) -> None:
        """What records for a command can ask for them."""
        paths = Paths(tool.environ | JOB)
        assert EXPECTED == of_ci(recording_setup(paths, ci=True).attributes)
        assert {} == of_ci(recording_setup(paths).attributes)


class TestCommand:
    def test_pairs(self, tool: Tool) -> None:
        """`rillevents ci` prints what `--ci` adds, a pair on each line."""
        done = tool("ci", **JOB)
        assert (0, "") == (done.returncode, done.stderr)
        assert [[*pair] for pair in EXPECTED.items()] == [line.split() for line in done.stdout.splitlines()]

    def test_json(self, tool: Tool) -> None:
        """With `--json` it is one document, in CI and outside."""
        assert {"is_ci": True, "attributes": EXPECTED} == tool.json("ci", **JOB)
        assert {"is_ci": True, "attributes": {}} == tool.json("ci", CI="true")
        assert {"is_ci": False, "attributes": {}} == tool.json("ci")

    @pytest.mark.parametrize(
        ("environ", "told"), [({}, "this is not a CI job"), ({"CI": "1"}, "the provider of this CI job is not known")]
    )
    def test_nothing_to_add(self, environ: dict[str, str], told: str, tool: Tool) -> None:
        """Where there is nothing to add, a message says why, and the exit code is 0."""
        done = tool("ci", **environ)
        assert (0, "", f"rillevents: {told}: --ci adds no attributes\n") == (done.returncode, done.stdout, done.stderr)

    def test_nothing_is_written(self, tool: Tool) -> None:
        """The command makes no file."""
        tool("ci", **JOB)
        assert not tool.home.exists()

    def test_manual(self, tool: Tool) -> None:
        """What the manual shows is what a job of GitHub prints."""
        transcript = next(body for body in blocks(PAGES["ci"], "console") if body.startswith("$ rillevents ci\n"))
        shown = dict(line.split() for line in transcript.splitlines()[1:])
        event = tool.home.parent / "event.json"
        event.write_text(json.dumps({"pull_request": {"number": 42, "head": {"sha": shown["git_commit"]}}}))
        environ = {"GITHUB_ACTIONS": "true", "GITHUB_EVENT_NAME": "pull_request", "GITHUB_EVENT_PATH": str(event)}
        environ |= {"GITHUB_WORKFLOW": "Tests", "GITHUB_JOB": "build", "GITHUB_RUN_ID": shown["ci_build_id"]}
        environ |= {"GITHUB_RUN_ATTEMPT": "1", "GITHUB_HEAD_REF": "feat/login"}
        assert transcript.partition("\n")[2] == tool("ci", **environ).stdout


@pytest.mark.parametrize(
    ("environ", "shown"),
    [({"CIRCLECI": "true"}, False), ({"CI": "true"}, False), ({"CI": "0"}, True), ({"RUN_ID": "5"}, True)],
    ids=str,
)
def test_first_notice(environ: dict[str, str], shown: bool, tmp_path: Path) -> None:
    """The notice of the first event is shown where this is no CI job, by the same rules."""
    assert shown == bool(first_run(Paths({"RILLEVENTS_HOME": str(tmp_path)} | environ)))
