"""Which commands there are, and where each one is."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import typer

# The commands in the order of `rillevents --help`, by use, and the module of each.
COMMANDS = {
    "record": "rillevents.cli.record_typer",
    "run": "rillevents.cli.run_typer",
    "shell-init": "rillevents.cli.shell_init_typer",
    "session": "rillevents.cli.session",
    "timer": "rillevents.cli.timer_typer",
    "summary": "rillevents.cli.summary",
    "ci": "rillevents.cli.ci",
    "flush": "rillevents.cli.flush",
    "status": "rillevents.cli.status",
    "doctor": "rillevents.cli.doctor",
    "events": "rillevents.cli.events",
    "stats": "rillevents.cli.stats",
    "query": "rillevents.cli.query",
    "spool": "rillevents.cli.spool",
    "store": "rillevents.cli.store",
    "serve": "rillevents.cli.serve",
    "config": "rillevents.cli.config",
    "telemetry": "rillevents.cli.telemetry",
    "id": "rillevents.cli.id",
    "help": "rillevents.cli.help",
    "demo": "rillevents.cli.demo",
    "completions": "rillevents.cli.help",
}
# These speak of all commands.
_NEED_ALL = ("help",)


def add_commands(app: typer.Typer, argv: Sequence[str]) -> None:
    """Add the command that *argv* calls, or all if that is none of them: each costs the import of a module."""
    called = next((word for word in argv if not word.startswith("-")), "")
    known = called in COMMANDS and called not in _NEED_ALL
    for module in dict.fromkeys([COMMANDS[called]] if known else COMMANDS.values()):
        import_module(module).add_to(app)
