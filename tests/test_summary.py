"""`rillevents summary` and `flush --summary`: what a session or a CI job recorded, in numbers."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support import Tool, only

from rillevents.delivery.sums import MAX_BYTES, OTHERS, Sums, Told
from rillevents.local import Paths
from rillevents.shell.summary import MAX_ROWS, Summary, escaped, markdown, summary
from rillevents.testing import FakeIntake

JOB = {
    "CI": "true",
    "GITHUB_ACTIONS": "true",
    "GITHUB_RUN_ID": "7",
    "GITHUB_JOB": "build",
    "RILLEVENTS_CI_CONTEXT": "1",
}
SESSION = {"RILLEVENTS_SESSION_ID": "s"}


@pytest.fixture
def intake() -> Iterator[FakeIntake]:
    with FakeIntake() as running:
        yield running


def record(tool: Tool, **environ: str) -> None:
    """Record a start, a failure and a timer."""
    tool("record", "behavioral", "build-start", **environ)
    tool("record", "behavioral", "build-failure", **environ)
    tool("record", "metric", "build", "1.5", "-a", "unit=s", "-a", "success:=false", **environ)


def rows(document: dict[str, Any]) -> dict[str, tuple[int, int, int, float]]:
    return {
        row["event_name"]: (row["waiting"], row["delivered"], row["failed"], row["seconds"])
        for row in document["events"]
    }


class TestScope:
    @pytest.mark.parametrize(("scope", "environ"), [("session", SESSION), ("job", JOB)])
    def test_what_waits_and_what_was_delivered(
        self, scope: str, environ: dict[str, str], tool: Tool, intake: FakeIntake
    ) -> None:
        """A session's or a job's events are counted while they wait and after they are delivered, over several flushes, and no others."""
        record(tool, **environ)
        tool("record", "behavioral", "another")
        tool("record", "behavioral", "another", RILLEVENTS_SESSION_ID="another")
        before = tool.json("summary", **environ)
        assert {"build-start": (1, 0, 0, 0), "build-failure": (1, 0, 1, 0), "build": (1, 0, 1, 1.5)} == rows(before)
        for _ in range(2):
            assert 0 == tool("flush", RILLEVENTS_INTAKE_URL=intake.url, **environ).returncode
            record(tool, **environ)
        after = tool.json("summary", **environ)
        assert {"build-start": (1, 2, 0, 0), "build-failure": (1, 2, 3, 0), "build": (1, 2, 3, 4.5)} == rows(after)
        assert (scope, 3, 6, 6) == (after["scope"], after["waiting"], after["delivered"], after["failed"])

    def test_neither_session_nor_job(self, tool: Tool, intake: FakeIntake, tmp_path: Path) -> None:
        """Elsewhere what waits is counted, and by `flush --summary` what it delivers itself; what is not counted is told."""
        record(tool)
        assert {"build-start", "build-failure", "build"} == {*rows(tool.json("summary"))}
        file = tmp_path / "summary.md"
        assert 0 == tool("flush", "--summary", str(file), RILLEVENTS_INTAKE_URL=intake.url).returncode
        assert "### rillevents: 3 events, 2 failed" in file.read_text()
        assert not Path(tool.paths.sessions_dir).exists()
        done = tool("summary")
        assert "not counted: what was delivered before" in done.stderr
        assert "nothing is recorded here yet" in done.stderr

    def test_what_a_client_flushes_counts(self, tool: Tool, intake: FakeIntake) -> None:
        """A flush from Python counts as one by the command does."""
        from rillevents import Client

        environ = tool.environ | SESSION | {"RILLEVENTS_INTAKE_URL": intake.url}
        Path(tool.paths.sessions_dir).mkdir(parents=True)
        with_session = Client.from_config(environ=environ)
        with_session.record("behavioral", "python")
        assert 1 == with_session.flush(timeout=30).delivered
        assert {"python": (0, 1, 0, 0)} == rows(summary(Paths(environ)).as_dict())

    def test_rejected_events_are_not_delivered(self, tool: Tool, intake: FakeIntake) -> None:
        """An event that the intake refuses is not counted as delivered."""
        tool("session", "start")
        record(tool, **SESSION)
        intake.respond = lambda request: 400 if b"build-failure" in request.body else 200
        tool("flush", "--timeout", "30", RILLEVENTS_INTAKE_URL=intake.url, **SESSION)
        found = rows(tool.json("summary", **SESSION))
        assert {"build-start", "build"} == {*found}


class TestFlush:
    def test_it_appends(self, tool: Tool, intake: FakeIntake, tmp_path: Path) -> None:
        """The file keeps what is in it, and gets the session's table; stdout stays the flush's."""
        file = tmp_path / "step summary.md"
        file.write_text("# Mine\n")
        record(tool, **SESSION)
        done = tool("flush", "--json", "--summary", str(file), RILLEVENTS_INTAKE_URL=intake.url, **SESSION)
        assert 3 == json.loads(done.stdout)["delivered"]
        assert file.read_text().startswith("# Mine\n### rillevents: 3 events, 2 failed\n")
        assert "| build | metric | 1 | 0 | 1 | 1.500 |" in file.read_text()

    def test_a_failed_flush_has_one_too(self, tool: Tool, tmp_path: Path) -> None:
        """With the intake down the exit code is the flush's, and the table shows what waits."""
        record(tool, **SESSION)
        file = tmp_path / "summary.md"
        done = tool(
            "flush", "--timeout", "1", "--summary", str(file), RILLEVENTS_INTAKE_URL="http://127.0.0.1:9/", **SESSION
        )
        assert 75 == done.returncode
        assert "| build-start | behavioral | 0 | 1 | 0 |  |" in file.read_text()

    def test_a_file_that_cannot_be_written(self, tool: Tool, intake: FakeIntake) -> None:
        """It is told, the events are delivered, and the exit code is the flush's."""
        record(tool)
        done = tool("flush", "--summary", "/proc/nowhere/x", RILLEVENTS_INTAKE_URL=intake.url)
        assert (0, 3) == (done.returncode, len(intake.events))
        assert "the summary cannot be written to /proc/nowhere/x" in done.stderr

    def test_opted_out(self, tool: Tool, tmp_path: Path) -> None:
        """Opted out, no file is made."""
        assert 0 == tool("flush", "--summary", str(tmp_path / "x.md"), DO_NOT_TRACK="1").returncode
        assert not (tmp_path / "x.md").exists()


class TestFile:
    def test_it_is_bounded(self) -> None:
        """A file has at most 64 KiB: names beyond that are counted together, and nothing is uncounted."""
        sums = Sums()
        for number in range(20_000):
            sums.add(Told("behavioral", f"name-{number}", value=1, unit="s"))
        content = sums.as_json()
        assert len(content) <= MAX_BYTES
        again = Sums.of_json(content)
        assert 20_000 == sum(row[0] for row in again.rows.values()) == sum(row[2] for row in again.rows.values())
        again.merge(sums)
        assert len(again.as_json()) <= MAX_BYTES
        assert 40_000 == sum(row[0] for row in Sums.of_json(again.as_json()).rows.values())
        assert OTHERS in again.rows

    @pytest.mark.parametrize("content", [b"", b"x", b"[1]", b'[["a","b",1]]', b'[["a","b","x",1,2]]', b"[" * 100_000])
    def test_a_damaged_one_is_none(self, content: bytes) -> None:
        """What cannot be read counts as nothing, and the next flush writes it anew."""
        assert {} == Sums.of_json(content).rows

    def test_old_ones_are_dropped(self, tool: Tool, intake: FakeIntake) -> None:
        """A file that no flush has written for seven days is gone after the next one."""
        folder = Path(tool.paths.sessions_dir)
        folder.mkdir(parents=True)
        (folder / "old.sums").write_text("[]")
        os.utime(folder / "old.sums", (1, 1))
        record(tool, **SESSION)
        tool("flush", RILLEVENTS_INTAKE_URL=intake.url)
        assert "old.sums" not in os.listdir(folder)
        assert 0o600 == only(list(folder.glob("*.sums"))).stat().st_mode & 0o777

    @pytest.mark.parametrize(
        "line",
        [{"event_name": 5}, {"value": "x", "unit": "s"}, {"value": True, "unit": "s"}, {"unit": []}, {"success": "no"}],
    )
    def test_odd_fields_count_as_none(self, line: dict[str, Any]) -> None:
        """A field of another type than it should have is as good as none."""
        told = Told(**line)
        sums = Sums()
        sums.add(told)
        assert [[1, 0, 0.0]] == [*sums.rows.values()]


class TestMarkdown:
    @pytest.mark.parametrize(
        "text",
        [
            "a|b",
            "<script>x</script>",
            "`x`",
            "a\nb",
            "[x](y)",
            "*b*",
            "\\",
            "&lt;",
            "a\r\n| x | y |",
            "~~x~~",
            "$x$ :x: @x #1",
        ],
    )
    def test_no_text_is_markup(self, text: str, tool: Tool) -> None:
        """What an event says can neither leave its cell nor be markup."""
        tool("record", "behavioral", text)
        line = only([line for line in tool("summary", "--markdown").stdout.splitlines() if "behavioral" in line])
        assert 7 == len(re.findall(r"(?<!\\)\|", line))
        assert not re.search(r"[<$:@]|(?<!&)#|(?<!\\)[`*\[\]]", line)

    def test_it_is_bounded(self) -> None:
        """A table has at most 200 rows of names of at most 100 characters: GitHub drops a summary of more than 1 MiB."""
        row = {
            "event_type": "t" * 9999,
            "event_name": "|" * 9999,
            "waiting": 1,
            "delivered": 0,
            "failed": 0,
            "seconds": 0,
        }
        text = markdown(Summary("spool", (row,) * 5000, "not counted: x"))
        assert len(text) < 1 << 20
        assert MAX_ROWS == text.count("\n| \\|")
        assert "4,800 more names" in text
        assert 100 == len(escaped("x" * 5000))

    def test_no_file_called_dash(self, tool: Tool) -> None:
        """`flush --summary -` is refused and sends nothing; where the table is printed is said."""
        tool("record", "behavioral", "x")
        done = tool("flush", "--summary", "-")
        assert (2, []) == (done.returncode, [*tool.home.parent.glob("-")])
        assert "rillevents summary --markdown" in done.stderr

    def test_two_forms_at_once(self, tool: Tool) -> None:
        """`--markdown` and `--json` exclude each other."""
        assert 2 == tool("summary", "--markdown", "--json").returncode
