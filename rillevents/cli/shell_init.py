"""`rillevents shell-init bash|zsh`: its plain form, since a shell asks for it again and again. Typer has the rest."""

from __future__ import annotations

import os
import sys

from rillevents.cli.record_quick import failure_mode
from rillevents.shell.function import SHELLS, function_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


def print_function(argv: Sequence[str]) -> int | None:
    """Print the function for the shell that *argv* names, and return the exit code; None if Typer must answer."""
    if len(argv) != 2 or argv[1] not in SHELLS:
        return None
    sys.stdout.buffer.write(os.fsencode(text_for(argv[1])))
    return 0


def text_for(shell: str) -> str:
    """Return the function of this process's user, for that shell."""
    return function_text(shell, os.environ, own_command(), lambda environ: failure_mode(None, environ)[1])


def own_command() -> list[str]:
    """Return the words that start this command again."""
    if getattr(sys, "frozen", False):
        return [sys.executable]
    path = os.path.abspath(sys.argv[0])
    if path.endswith(".py") or not os.access(path, os.X_OK):
        return [sys.executable, "-P", "-m", "rillevents"]
    return [path]
