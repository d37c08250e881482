"""A password that is replaced while a server or a long flush runs."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from serving import Serving, event, until
from support import Tool

from rillevents.delivery.flush import exporter_to
from rillevents.delivery.outcome import Kind
from rillevents.event.batch import Batch
from rillevents.local import Paths, config
from rillevents.testing import FakeIntake

LINES = [b'{"event_id":"1"}\n']


def rotated(way: str, secret: str, tool: Tool) -> dict[str, str]:
    """Put the password where *way* says; return the variables that lead to it."""
    file = tool.home.parent / "password"
    file.write_text(secret + "\n")
    file.chmod(0o600)
    if way == "file":
        return {"RILLEVENTS_INTAKE_USER": "us", "RILLEVENTS_INTAKE_PASSWORD_FILE": str(file)}
    command = f"cat {file}" if way == "command" else ""
    tool.home.mkdir(exist_ok=True)
    told = f'password_command = "{command}"' if command else f'password = "{secret}"'
    (tool.home / "config.toml").write_text(f'[intake]\nuser = "us"\n{told}\nurl = "URL"\n')
    return {}


@pytest.mark.parametrize("way", ["file", "command", "config"])
class TestARotatedPassword:
    def exporter(self, way: str, tool: Tool, intake: FakeIntake) -> Any:
        paths = Paths(tool.environ | rotated(way, "old", tool) | {"RILLEVENTS_INTAKE_URL": intake.url})
        self.place(tool, intake)
        return exporter_to(paths, config.load(paths), to="intake")

    def place(self, tool: Tool, intake: FakeIntake) -> None:
        found = tool.home / "config.toml"
        if found.exists():
            found.write_text(found.read_text().replace("URL", intake.url))

    def test_is_read_again(self, way: str, tool: Tool) -> None:
        """After a 401 the password is read again, from where it came, and the batch is sent once more, within one call."""
        with FakeIntake("us", "old") as intake, contextlib.closing(self.exporter(way, tool, intake)) as exporter:
            assert Kind.ACCEPTED is exporter.export(Batch(LINES)).kind
            intake._expected = FakeIntake("us", "new")._expected
            assert Kind.REFUSED is exporter.export(Batch(LINES)).kind
            refusals = len(intake.requests)
            rotated(way, "new", tool)
            self.place(tool, intake)
            assert [Kind.ACCEPTED] * 2 == [exporter.export(Batch(LINES)).kind for _ in range(2)]
        assert (2, 5) == (refusals, len(intake.requests))

    def test_that_is_gone(self, way: str, tool: Tool) -> None:
        """Where there is no password at that moment, the refusal stays one, and says so; nothing is sent without it."""
        with FakeIntake("us", "new") as intake, contextlib.closing(self.exporter(way, tool, intake)) as exporter:
            (tool.home.parent / "password").unlink()
            outcome = exporter.export(Batch(LINES))
        assert (Kind.REFUSED, 1, []) == (outcome.kind, len(intake.requests), intake.lines)

    def test_a_server_goes_on(self, way: str, tool: Tool) -> None:
        """A server that forwards delivers with the new password once there is one, without a restart."""
        with FakeIntake("us", "old") as intake:
            environ = rotated(way, "old", tool) | {"RILLEVENTS_INTAKE_URL": intake.url}
            self.place(tool, intake)
            with Serving(tool, "--to", "intake", **environ) as serving:
                assert 200 == serving.post(event("1")).status
                until(lambda: len(intake.events) == 1)
                intake._expected = FakeIntake("us", "new")._expected
                rotated(way, "new", tool)
                self.place(tool, intake)
                assert 200 == serving.post(event("2")).status
                until(lambda: len(intake.events) == 2)
