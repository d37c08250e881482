"""The completion scripts in `completions/`, generated from the Typer app, so that they match it.

The scripts are static: pressing TAB starts no process. To generate them anew:
`python -m rillevents.cli.completion completions`.
"""

from __future__ import annotations

import typer

from rillevents.cli.completion.bash import bash
from rillevents.cli.completion.fish import fish
from rillevents.cli.completion.powershell import powershell
from rillevents.cli.completion.tree import tree
from rillevents.cli.completion.zsh import zsh
from rillevents.cli.help import SHELLS

_MAKERS = {"bash": bash, "zsh": zsh, "fish": fish, "powershell": powershell}


def scripts(app: typer.Typer) -> dict[str, bytes]:
    """Return the completion scripts of the app by the names of their files."""
    root = tree(app)
    return {SHELLS[shell]: make(root).encode() for shell, make in _MAKERS.items()}
