"""`rillevents shell-init …` in Typer: its help, the script for images without Python, and wrong words. See shell_init.py."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from rillevents.cli.command import register
from rillevents.cli.result import Result
from rillevents.cli.shell_init import text_for
from rillevents.errors import RilleventsError, UsageError
from rillevents.shell.function import SHELLS
from rillevents.shell.standalone import write_standalone

_EXAMPLE = """
eval "$(rillevents shell-init bash)"
eval "$(rillevents shell-init zsh)"
rillevents shell-init sh --standalone ci/rillevents
"""


def _complete_syntax(incomplete: str) -> list[str]:
    return [name for name in (*SHELLS, "sh") if name.startswith(incomplete)]


def add_to(app: typer.Typer) -> None:
    """Register the command."""

    @register(app, "shell-init", _EXAMPLE)
    def shell_init(
        syntax: Annotated[
            str,
            typer.Argument(metavar="SHELL", help="bash, zsh or sh.", autocompletion=_complete_syntax),
        ],
        standalone: Annotated[
            str, typer.Option("--standalone", metavar="FILE", help="With sh: write a script that needs no Python.")
        ] = "",
    ) -> Result:
        """Print a function that records without a process."""
        if syntax == "sh" and standalone:
            return _written(standalone)
        if syntax == "sh":
            raise UsageError("sh has no function", hint="write: rillevents shell-init sh --standalone FILE")
        if standalone:
            raise UsageError(
                f"--standalone is for sh, not for {syntax}", hint="write: rillevents shell-init sh --standalone FILE"
            )
        if syntax not in SHELLS:
            raise UsageError(
                f"{syntax!r} is not one of {', '.join(SHELLS)}, sh", hint="run: rillevents shell-init bash"
            )
        return Result(lines=[os.fsencode(text_for(syntax))])


def _written(file: str) -> Result:
    try:
        write_standalone(file)
    except FileExistsError:
        raise UsageError(
            f"{file} is another file, and was left as it is", hint="give another name, or move it away"
        ) from None
    except OSError as error:
        raise RilleventsError(f"{file} cannot be written: {error.strerror or error}") from None
    notices = (f"wrote {file}; try: sh {file} record behavioral login-start",)
    return Result(notices=notices)
