"""Damaged spools and configurations that are kept as files: what the command line makes of each is written down beside it.

Each folder in fixtures/ is a home: its `spool/`, `config.toml`, `install_id` or `telemetry`. Its `expected.json` says why it is
there, and what `status`, `record`, `flush` and `spool retry` come to.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest
from support import Tool, snapshot

pytestmark = pytest.mark.unmeasured

FOLDER = Path(__file__).parent / "fixtures"
NAMES = sorted(path.name for path in FOLDER.iterdir())


class Case:
    """A copy of one fixture, and what is expected of it."""

    def __init__(self, name: str, tool: Tool) -> None:
        self.tool = tool
        self.expected: Mapping[str, Any] = json.loads((FOLDER / name / "expected.json").read_bytes())
        shutil.copytree(FOLDER / name, tool.home, ignore=shutil.ignore_patterns("expected.json"))
        for file, size in self.expected.get("lengthen", {}).items():
            with open(tool.home / file, "ab") as lengthened:
                lengthened.write(b"# a line\n" * (size // 9))
        # A checkout knows no modes but these, and other tools make folders that others may write to.
        for path in [tool.home, *tool.home.rglob("*")]:
            path.chmod(0o700 if path.is_dir() else 0o600)
        self.before = snapshot(tool.home)

    def run(self, step: str, *words: str) -> CompletedProcess[str]:
        """Run a command, and check its exit code and what it says."""
        done = self.tool(*words)
        expected = self.expected.get(step, {})
        assert expected.get("code", 0) == done.returncode, done.stderr
        assert "Traceback" not in done.stderr
        assert "internal error" not in done.stderr
        for said in expected.get("said", []):
            assert said in done.stderr
        return done

    def counts(self) -> dict[str, int]:
        spool = json.loads(self.run("status", "status", "--json").stdout)["spool"]
        return {key: spool[key] for key in ("events", "rejected", "corrupt")}

    def flush(self) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """Flush to a file, and return the document and the events that arrived."""
        out = self.tool.home.parent / "out"
        out.unlink(missing_ok=True)
        document = json.loads(self.run("flush", "flush", "--json", "--to", f"file:{out}").stdout)
        return document, [json.loads(text) for text in out.read_bytes().splitlines()] if out.exists() else []


@pytest.fixture
def case(request: pytest.FixtureRequest, tool: Tool) -> Case:
    """The fixture of that name."""
    return Case(request.param, tool)


@pytest.mark.slow
@pytest.mark.parametrize("case", NAMES, indirect=True)
def test_as_expected(case: Case) -> None:
    """What is damaged harms nothing else: events are recorded, shown and delivered as written down, and the rest is left alone."""
    expected = case.expected
    if "status" in expected:
        assert expected["status"] == case.counts()
    said = case.run("record", "record", "behavioral", "x", "--id", "new", "--on-error", "fail").stderr
    assert bool(said) == bool(expected["record"].get("said"))
    assert expected["record"]["stored"] == ("new" in [event["event_id"] for event in case.tool.events()])
    document, arrived = case.flush()
    check_flush(expected, document, arrived)
    check_files(case)
    if "after" in expected:
        assert expected["after"] == case.counts()
    if "retry" in expected:
        check_retry(case)


def check_flush(expected: Mapping[str, Any], document: Mapping[str, Any], arrived: list[dict[str, Any]]) -> None:
    """Check what a flush came to, what arrived, and what every new event carries."""
    assert expected["flush"]["delivered"] == [event["event_id"] for event in arrived]
    found = {key: document[key] for key in expected["flush"] if key in document and key != "delivered"}
    assert found.items() <= expected["flush"].items()
    recorded = [event for event in arrived if event["event_id"] == "new"]
    assert all(expected["record"].get("attributes", {}).items() <= event.items() for event in recorded)


def check_files(case: Case) -> None:
    """Check the files that are to be as they were, those that are to be gone, the state, the ledger and the install ID."""
    expected, after = case.expected, snapshot(case.tool.home)
    for name in expected.get("unchanged", []):
        assert case.before[name] == after[name]
    assert {} == {name: after[name] for name in expected.get("gone", []) if name in after}
    if "state" in expected:
        assert expected["state"].items() <= json.loads(after["spool/v1/state.json"]).items()
    if "ledger" in expected:
        assert expected["ledger"].items() <= case.tool.json("status")["ledger"].items()
    if "new_install_id" in expected:
        assert case.tool.json("status")["install_id"] == after["install_id"].decode().strip()
        assert 36 == len(after["install_id"].strip())


def check_retry(case: Case) -> None:
    """Put rejected events back, and check that they are delivered, and what is damaged is put aside."""
    retry = case.expected["retry"]
    assert retry["retried"] == case.tool.json("spool", "retry")["retried"]
    _, arrived = case.flush()
    assert (retry["delivered"], {"events": 0, "rejected": 0, "corrupt": retry["corrupt"]}) == (
        [event["event_id"] for event in arrived],
        case.counts(),
    )


def test_every_fixture_says_why() -> None:
    """Each fixture has files, and a reason that a reader can follow."""
    for name in NAMES:
        files = [path for path in (FOLDER / name).rglob("*") if path.is_file()]
        assert len(files) > 1, name
        assert len(json.loads((FOLDER / name / "expected.json").read_bytes())["why"]) > 40, name
        assert sum(path.stat().st_size for path in files) < 10_000, name
