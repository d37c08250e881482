"""A release replaced by this one: what it has left on the disk is found as it was."""

from __future__ import annotations

import venv
from pathlib import Path

import pytest
from serving import Serving, event
from support import Installed, snapshot

from rillevents.testing import FakeIntake, Response

pytestmark = [pytest.mark.slow, pytest.mark.unmeasured]

ROOT = Path(__file__).parents[1]
# The real wheel of the release.
OLD = ROOT / "tests/wheels/rillevents-0.1.0-py3-none-any.whl"


def test_the_first_release(tmp_path: Path, wheel: Path) -> None:
    """Spool, config.toml, consent, install ID and store of 0.1.0 are found as they were, and every event arrives unchanged."""
    (tmp_path / "user").mkdir()
    venv.create(tmp_path / "venv", with_pip=True)
    tool = Installed(tmp_path / "home", tmp_path / "venv")
    tool.install(f"{OLD}[serve]")
    assert "rillevents 0.1.0\n" == tool("--version").stdout
    tool("telemetry", "on")
    tool("config", "set", "attributes.team", "core")
    tool("config", "set", "filter.drop_names", '["debug-*"]')
    tool("record", "behavioral", "refused")
    with FakeIntake() as refusing:
        refusing.script.append(Response(200, b'{"rejected": [{"line": 1, "reason": "no"}]}'))
        assert 65 == tool("flush", RILLEVENTS_INTAKE_URL=refusing.url).returncode
    for number in range(3):
        tool("record", "behavioral", "login-start", "-a", f"number:={number}")
    tool("record", "raw", stdin=b"".join(event(f"raw-{number}") for number in range(50)))
    with Serving(tool) as serving:
        assert 200 == serving.post(event("stored")).status
        serving.stop()
    lines, install_id = tool.lines(), tool.json("id", "show")["install_id"]
    kept = {
        name: data for name, data in snapshot(tool.home).items() if name in ("config.toml", "telemetry", "install_id")
    }

    tool.install("--force-reinstall", "--no-deps", wheel)
    status = tool.json("status")
    assert (install_id, 53, 1) == (status["install_id"], status["spool"]["events"], status["spool"]["rejected"])
    assert {"enabled": True, "decided_by": str(tool.home / "telemetry")} == status["telemetry"]
    assert lines == tool("events", "--ndjson").stdout.encode().splitlines(keepends=True)
    stored = tool("events", "--store", str(tool.home / "events.db"), "--ndjson").stdout
    assert event("stored").decode() == stored
    assert 0 == tool("spool", "retry").returncode
    assert 0 == tool("record", "behavioral", "debug-x").returncode
    assert 0 == tool("record", "behavioral", "login-success").returncode
    with FakeIntake() as intake:
        assert 0 == tool("flush", RILLEVENTS_INTAKE_URL=intake.url).returncode
        found = {each["event_name"]: each for each in intake.events}
        assert set(lines) <= set(intake.lines)
        assert 55 == len(intake.lines)
        assert ("core", install_id) == tuple(found["refused"][key] for key in ("team", "install_id"))
        assert ("core", install_id) == tuple(found["login-success"][key] for key in ("team", "install_id"))
    assert kept == {name: snapshot(tool.home)[name] for name in kept}


def test_the_old_release_goes_on(tmp_path: Path, wheel: Path) -> None:
    """What this release has left is found by 0.1.0 as well: who goes back loses nothing."""
    (tmp_path / "user").mkdir()
    venv.create(tmp_path / "venv", with_pip=True)
    tool = Installed(tmp_path / "home", tmp_path / "venv")
    tool.install(wheel)
    tool("config", "set", "attributes.team", "core")
    tool("record", "behavioral", "login-start")
    lines, install_id = tool.lines(), tool.json("id", "show")["install_id"]
    tool.install("--force-reinstall", "--no-deps", OLD)
    with FakeIntake() as intake:
        assert 0 == tool("flush", RILLEVENTS_INTAKE_URL=intake.url).returncode
        assert lines == intake.lines
    assert install_id == tool.json("id", "show")["install_id"]
