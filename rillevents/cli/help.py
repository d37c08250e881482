"""`rillevents help` and `rillevents completions`: print files that the package contains."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from rillevents.cli.command import register
from rillevents.cli.result import Result
from rillevents.errors import UsageError

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

SHELLS = {
    "bash": "rillevents.bash",
    "zsh": "_rillevents",
    "fish": "rillevents.fish",
    "powershell": "rillevents.ps1",
}


def topics() -> dict[str, Traversable]:
    """Return the manual's pages by topic."""
    from importlib.resources import files

    found = {page.name.removesuffix(".md"): page for page in files("rillevents").joinpath("docs").iterdir()}
    return {name: found[name] for name in sorted(found) if found[name].name.endswith(".md")}


def completion_script(shell: str) -> bytes:
    """Return the completion script for a shell, the same file as in `completions/`."""
    from importlib.resources import files
    from pathlib import Path

    packaged = files("rillevents").joinpath("_completions", SHELLS[shell])
    if packaged.is_file():
        return packaged.read_bytes()
    # A checkout, not an installation: the file is not copied into the package.
    return Path(__file__).parents[2].joinpath("completions", SHELLS[shell]).read_bytes()


def _complete_topic(incomplete: str) -> list[str]:
    return [name for name in topics() if name.startswith(incomplete)]


def _complete_shell(incomplete: str) -> list[str]:
    return [name for name in SHELLS if name.startswith(incomplete)]


def add_to(app: typer.Typer) -> None:
    """Register the commands."""

    @register(app, "completions", 'eval "$(rillevents completions bash)"')
    def completions(
        shell: Annotated[
            str, typer.Argument(metavar="SHELL", help=f"{', '.join(SHELLS)}.", autocompletion=_complete_shell)
        ],
    ) -> Result:
        """Print the completion script for a shell."""
        if shell not in SHELLS:
            raise UsageError(f"there are no completions for {shell!r}", hint=f"give one of: {', '.join(SHELLS)}")
        return Result(lines=[completion_script(shell)])

    @register(app, "help", "rillevents help recording")
    def help_command(
        topic: Annotated[
            str | None,
            typer.Argument(metavar="TOPIC", help="A page of the manual.", autocompletion=_complete_topic),
        ] = None,
    ) -> Result:
        """Show a page of the manual, or list the pages."""
        pages = topics()
        if topic is None:
            return Result("topics", {name: _title(page) for name, page in pages.items()})
        if topic not in pages and (usage := _usage(app, topic)):
            return Result("usage", usage)
        if topic not in pages:
            from rillevents.local.config_file import did_you_mean

            raise UsageError(
                f"there is no page {topic!r}{did_you_mean(topic, tuple(pages))}",
                hint=f"the pages are: {', '.join(pages)}",
            )
        return Result("page", pages[topic].read_text())


def _usage(app: typer.Typer, name: str) -> str:
    """Return the help of the command *name*, "" if there is none."""
    command = getattr(typer.main.get_command(app), "commands", {}).get(name)
    if command is None:
        return ""
    with command.make_context(f"rillevents {name}", [], resilient_parsing=True) as context:
        return str(command.get_help(context))


def _title(page: Traversable) -> str:
    return page.read_text().partition("\n")[0].lstrip("# ")
