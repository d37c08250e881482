"""Which CI job it is: what is read from the environment, provider by provider, and what is not."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rillevents.event import encode_line
from rillevents.local.ci import ci_attributes, clean, is_ci
from rillevents.local.ci_providers import MARKERS, VARIABLES

SHA, MERGE = "1f34500d2065743b317a1fb034024b31d28d9183", "ef2023102ad644dce35319c9c0d9a97b369aae19"
KEYS = [
    "ci_provider",
    "ci_pipeline",
    "ci_job",
    "ci_build_id",
    "ci_attempt",
    "git_branch",
    "git_commit",
    "ci_pull_request",
]


@dataclass
class Job:
    """A job of a provider: its environment, and the attributes to be read from it."""

    name: str
    environ: dict[str, str] = field(default_factory=dict)
    expected: dict[str, str] = field(default_factory=dict)


def documented() -> Iterator[Job]:
    """Yield the jobs of ci_jobs.txt, which says where each provider documents its variables."""
    text = (Path(__file__).parent / "ci_jobs.txt").read_text()
    for block in text.replace("=SHA\n", f"={SHA}\n").replace("=MERGE\n", f"={MERGE}\n").split("\n== ")[1:]:
        head, *jobs = block.split("\n-- ")
        first, *shared = head.splitlines()
        provider = first.split()[0]
        for part in jobs:
            name, *lines = part.strip().splitlines()
            own = dict(line.split("=", 1) for line in [*shared, *lines] if line and not line.startswith("=> "))
            expected = dict(line[3:].split("=", 1) for line in lines if line.startswith("=> "))
            yield Job(f"{provider} {name}", own, {"ci_provider": provider} | expected)


JOBS = list(documented())
PUSH = next(job.environ for job in JOBS if job.name == "github branch")


def without_ref(**more: str) -> dict[str, str]:
    """Return GitHub's environment for an event of a pull request."""
    kept = {key: value for key, value in PUSH.items() if not key.startswith("GITHUB_REF")}
    return kept | {"GITHUB_EVENT_NAME": "pull_request", "GITHUB_SHA": MERGE} | more


@pytest.mark.parametrize("job", JOBS, ids=lambda job: job.name)
def test_documented_environments(job: Job) -> None:
    """Each provider's own environment gives exactly these attributes, in this order."""
    found = ci_attributes(job.environ)
    assert job.expected == found
    assert [key for key in KEYS if key in found] == list(found)
    assert is_ci(job.environ)


def test_every_provider_has_a_documented_environment() -> None:
    """Every provider that the code knows has such an environment, and the other way round."""
    assert {*VARIABLES} == {job.name.split()[0] for job in JOBS}
    assert {*VARIABLES} == {provider for provider, _ in MARKERS} | {"woodpecker"}


@pytest.mark.parametrize("job", JOBS, ids=lambda job: job.name)
def test_no_person(job: Job) -> None:
    """No attribute contains an actor, an author, a user name or an e-mail address."""
    found = " ".join(ci_attributes(job.environ).values())
    people = [value for key, value in job.environ.items() if any(word in key for word in ("ACTOR", "AUTHOR", "USER"))]
    assert [] == [text for text in [*people, "@", "alice"] if text in found]


@pytest.mark.parametrize("value", ["false", "0", "no", "off", "FALSE", "No", " off "])
@pytest.mark.parametrize("job", JOBS, ids=lambda job: job.name)
def test_ci_says_no(job: Job, value: str) -> None:
    """`CI` with a word for no means that this is no CI job, whatever else is set."""
    environ = job.environ | {"CI": value}
    assert (False, {}) == (is_ci(environ), ci_attributes(environ))


@pytest.mark.parametrize("value", ["false", "0", "no", "False"])
@pytest.mark.parametrize("job", [job for job in JOBS if job.name.endswith(" branch")], ids=lambda job: job.name)
def test_markers_that_say_no(job: Job, value: str) -> None:
    """A marker that says false, 0 or no does not name its provider."""
    provider = job.name.split()[0]
    marks = {name for known, names in MARKERS if known == provider for name in names.split()} - {"CI", "RUN_ID"}
    environ = job.environ | dict.fromkeys(marks, value)
    if provider != "woodpecker":
        assert provider != ci_attributes(environ).get("ci_provider")


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"CI": ""},
        {"BUILD_ID": "5"},
        {"BUILD_NUMBER": "5"},
        {"RUN_ID": "5"},
        {"TASK_ID": "5"},
        {"KUBERNETES_SERVICE_HOST": "10.0.0.1"},
        {"JENKINS_URL": "https://jenkins.example.com/"},
        {"VERCEL": "1", "VERCEL_GIT_COMMIT_SHA": SHA},
        {"NETLIFY": "true", "BUILD_ID": "5"},
        {"GITHUB_ACTIONS": ""},
        {"ACT": "true"},
    ],
    ids=str,
)
def test_no_job(environ: dict[str, str]) -> None:
    """A variable that other programs also set, and a running app, are no CI job."""
    assert (False, {}) == (is_ci(environ), ci_attributes(environ))


@pytest.mark.parametrize("name", ["CI", "CONTINUOUS_INTEGRATION", "CI_NAME"])
def test_job_of_an_unknown_provider(name: str) -> None:
    """`CI` and its like alone are a job without a provider, and thus without attributes."""
    assert (True, {}) == (is_ci({name: "true"}), ci_attributes({name: "true"}))


def test_codebuild_by_its_arn() -> None:
    """Of CodeBuild one of its two markers is enough."""
    assert {"ci_provider": "codebuild"} == ci_attributes({"CODEBUILD_BUILD_ARN": "arn:aws:codebuild:eu-1:1:build/x:y"})


class TestLocalRunners:
    """What runs a workflow on one's own machine sets other things than the provider does."""

    def test_gitlab_ci_local(self) -> None:
        """`GITLAB_CI=false`, as gitlab-ci-local sets it, is not GitLab."""
        environ = {"CI": "true", "GITLAB_CI": "false", "CI_PIPELINE_IID": "0", "CI_PIPELINE_ID": "1000"}
        assert (True, {}) == (is_ci(environ), ci_attributes(environ))

    def test_act_without_an_event_file(self) -> None:
        """What act writes for a pull request without an event file gives no branch, no commit and no number."""
        environ = without_ref(ACT="true", GITHUB_REF="refs/pull/%!f(<nil>)/merge", GITHUB_EVENT_PATH="/nonexistent")
        expected = {"ci_provider": "act", "ci_pipeline": "My test workflow", "ci_job": "greeting_job"}
        assert expected == ci_attributes(environ)

    def test_act_with_an_event_file(self, tmp_path: Path) -> None:
        """With an event file act's jobs have the branch, the commit and the number of the pull request."""
        event = tmp_path / "event.json"
        event.write_text(json.dumps({"pull_request": {"number": 5, "head": {"ref": "feat/x", "sha": SHA}}}))
        environ = without_ref(ACT="true", GITHUB_REF="refs/pull/5/merge", GITHUB_EVENT_PATH=str(event))
        found = ci_attributes(environ)
        assert ("feat/x", SHA, "5") == (found["git_branch"], found["git_commit"], found["ci_pull_request"])
        assert "ci_build_id" not in found

    def test_woodpecker_exec(self) -> None:
        """For `woodpecker exec`, 0 is no build."""
        assert {"ci_provider": "woodpecker"} == ci_attributes({"CI": "woodpecker", "CI_PIPELINE_NUMBER": "0"})

    def test_drone_exec(self) -> None:
        """For `drone exec`, which leaves branch and commit empty, there is only the provider."""
        environ = {"DRONE": "true", "DRONE_BUILD_NUMBER": "0", "DRONE_COMMIT_SHA": "", "DRONE_BRANCH": ""}
        assert {"ci_provider": "drone"} == ci_attributes(environ | {"DRONE_BUILD_LINK": ":////1"})


class TestEventFile:
    """GitHub's event of a pull request."""

    def event(self, folder: Path, text: str | bytes) -> str:
        """Write an event file and return its path."""
        path = folder / "event.json"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return str(path)

    def read(self, **more: str) -> list[str | None]:
        """Return branch, commit and number of a job with that environment."""
        found = ci_attributes(without_ref(**more))
        return [found.get(key) for key in ("git_branch", "git_commit", "ci_pull_request")]

    def test_pull_request(self, tmp_path: Path) -> None:
        """Branch, commit and number are those of the pull request, not of the trial merge."""
        text = json.dumps({"number": 7, "pull_request": {"number": 7, "head": {"ref": "feat/x", "sha": SHA}}})
        more = {"GITHUB_REF": "refs/pull/7/merge", "GITHUB_REF_NAME": "7/merge", "GITHUB_HEAD_REF": "feat/x"}
        assert ["feat/x", SHA, "7"] == self.read(GITHUB_EVENT_PATH=self.event(tmp_path, text), **more)

    def test_pull_request_target(self, tmp_path: Path) -> None:
        """In `pull_request_target`, whose ref is the target's, the event says what was proposed."""
        text = json.dumps({"pull_request": {"number": 7, "head": {"ref": "feat/x", "sha": SHA}}})
        more = {"GITHUB_REF": "refs/heads/main", "GITHUB_REF_NAME": "main", "GITHUB_EVENT_NAME": "pull_request_target"}
        assert ["feat/x", SHA, "7"] == self.read(GITHUB_EVENT_PATH=self.event(tmp_path, text), **more)
        assert [None, None, None] == self.read(**more)

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "{",
            "null",
            "[]",
            '"x"',
            b"\xff\xfe",
            "[" * 100_000,
            '{"pull_request": 5}',
            '{"pull_request": {"number": true, "head": []}}',
            '{"pull_request": {"number": "7; rm", "head": {"ref": 5, "sha": "HEAD"}}}',
            '{"pull_request": {"number": -7, "head": {"ref": "a\\u0000b", "sha": null}}}',
            b'{"pull_request": {"number": 9}, "x": "' + b"x" * (1 << 20) + b'"}',
        ],
        ids=lambda text: repr(text[:50]),
    )
    def test_broken(self, text: str | bytes, tmp_path: Path) -> None:
        """An event file that is broken, too large or of another shape gives nothing; the ref has the number still."""
        more = {"GITHUB_REF": "refs/pull/7/merge", "GITHUB_HEAD_REF": "feat/x"}
        assert ["feat/x", None, "7"] == self.read(GITHUB_EVENT_PATH=self.event(tmp_path, text), **more)

    @pytest.mark.parametrize("path", ["", "/nonexistent/x", "/dev/zero", "/", "\0"])
    def test_missing(self, path: str) -> None:
        """Without a regular file at the path, the ref has the number."""
        assert [None, None, "7"] == self.read(GITHUB_EVENT_PATH=path, GITHUB_REF="refs/pull/7/merge")

    @pytest.mark.parametrize("event", ["push", "workflow_dispatch", "schedule", ""])
    def test_not_read_for_other_events(self, event: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """The file is opened for pull requests alone."""
        monkeypatch.setattr("rillevents.local.ci.read_text_file", None)
        environ = PUSH | {"GITHUB_EVENT_NAME": event, "GITHUB_EVENT_PATH": self.event(tmp_path, "{}")}
        assert "feature-branch-1" == ci_attributes(environ)["git_branch"]
        assert "x" == ci_attributes(environ | {"GITHUB_HEAD_REF": "x"})["git_branch"]

    @pytest.mark.parametrize(("kind", "branch"), [("branch", "v1"), ("", "v1"), ("tag", None)])
    def test_without_a_ref(self, kind: str, branch: str | None) -> None:
        """Where only the ref's short name is known, it is the branch unless it is a tag's."""
        environ = {"GITHUB_ACTIONS": "true", "GITHUB_REF_NAME": "v1", "GITHUB_REF_TYPE": kind}
        assert branch == ci_attributes(environ).get("git_branch")


class TestValues:
    """What the values may be."""

    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("https://ci:s3cret@host.example/x", "https://host.example/x"),
            ("see https://tok@a.example/b@c and ssh://u:p@d", "see https://a.example/b@c and ssh://d"),
            ("https://u:p@ss@host?x=a@b", "https://host?x=a@b"),
            ("https://host/a@b", "https://host/a@b"),
            ("build @ home", "build @ home"),
            ("Bau für Ärzte 🚀", "Bau für Ärzte 🚀"),
            ("👩\u200d💻", "👩\u200d💻"),
            ("a\nb", ""),
            ("a\x1b[31m", ""),
            ("a\x9b", ""),
            ("a\udc80", ""),
            ("x" * 300, "x" * 255 + "…"),
        ],
    )
    def test_clean(self, text: str, expected: str) -> None:
        """Credentials are taken out of URLs, long texts are cut, and what has control characters is left out."""
        assert expected == clean(text)

    @pytest.mark.parametrize(
        "value", ["HEAD", "0" * 40, "", "12345", "r1234567", "abc\udc80", "7" * 65, "refs/heads/main"]
    )
    def test_what_is_no_commit(self, value: str) -> None:
        """Only a hash is a commit."""
        assert "git_commit" not in ci_attributes({"BUILDKITE": "true", "BUILDKITE_COMMIT": value})

    @pytest.mark.parametrize("value", ["", "false", "0", "none", "$(System.PullRequest.PullRequestId)", "9" * 30, "٣"])
    def test_what_is_no_pull_request(self, value: str) -> None:
        """Only a number is a pull request."""
        found = ci_attributes({"BUILDKITE": "true", "BUILDKITE_PULL_REQUEST": value, "BUILDKITE_BRANCH": "main"})
        assert {"ci_provider": "buildkite", "git_branch": "main"} == found

    @pytest.mark.parametrize("value", [":////1", "https:///pull/1", "ftp://host/pull/1", "/pull/1", "https://host"])
    def test_links_that_name_no_pull_request(self, value: str) -> None:
        """A link without a host, or to something else, names no pull request."""
        assert {"ci_provider": "circleci"} == ci_attributes({"CIRCLECI": "true", "CIRCLE_PULL_REQUEST": value})

    @pytest.mark.parametrize("value", ["detached", "HEAD", "refs/tags/v1", "refs/remotes/origin/x", "a\x07"])
    def test_what_is_no_branch(self, value: str) -> None:
        """A detached head, a tag and another ref are no branch."""
        environ = {"JENKINS_URL": "https://jenkins.example.com", "BUILD_ID": "1", "GIT_BRANCH": value}
        assert {"ci_provider": "jenkins", "ci_build_id": "1"} == ci_attributes(environ)

    @given(st.sampled_from(JOBS), st.data())
    def test_any_environment(self, job: Job, data: st.DataObject) -> None:
        """Whatever the variables hold, the attributes are short texts that an event can hold."""
        text = st.text(st.characters(codec=None, exclude_characters="\0"), max_size=20)
        odd = st.one_of(text, st.sampled_from(["x" * 9999, "://", "pull/", "refs/pull/", "/", ":", "pr/", "\udcff"]))
        changed: dict[str, Any] = data.draw(st.dictionaries(st.sampled_from(sorted(job.environ)), odd, max_size=8))
        found = ci_attributes(job.environ | changed)
        encode_line(found)
        assert all(isinstance(value, str) and 0 < len(value) <= 256 for value in found.values())


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ("https://u:p/w@h.example/x", "https://h.example/x"),
        ("https://u:p@h.example/x", "https://h.example/x"),
        ("https://h.example:8080/x@v1", "https://h.example:8080/x@v1"),
    ],
)
def test_a_password_with_a_slash(told: str, expected: str) -> None:
    """A password in a URL is taken out, whatever it holds; an at sign in a path is none."""
    environ = {"CI": "true", "GITLAB_CI": "true", "CI_PIPELINE_NAME": told}
    assert expected == ci_attributes(environ)["ci_pipeline"]
