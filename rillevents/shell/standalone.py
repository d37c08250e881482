"""The script that records where there is no Python: POSIX sh, to be kept beside the scripts that call it."""

from __future__ import annotations

import os

from rillevents.local import __version__
from rillevents.local.files import read_file, replace_file
from rillevents.recording.redact import DEFAULT, MARKS
from rillevents.shell.function import filled, quoted

_SIGN = b"`rillevents shell-init sh --standalone FILE`"


def standalone_text() -> str:
    """Return the script: plain `record` into a file, with known secrets replaced as a whole."""
    template = (read_file(f"{os.path.dirname(__file__)}/standalone.sh") or b"").decode()
    return filled(
        template,
        {
            "VERSION": __version__,
            "KEYS": " | ".join(sorted(DEFAULT.keys)),
            "MARKS": " | ".join(f"*{quoted(mark)}*" for mark in MARKS),
        },
    )


def write_standalone(file: str) -> None:
    """Write the script to *file*, executable by everybody who can read it; an older one of ours is replaced.

    Raises FileExistsError if it is another file, and OSError if it cannot be written.
    """
    file = os.path.abspath(file)
    there = read_file(file)
    if there and _SIGN not in there:
        raise FileExistsError(file)
    replace_file(file, standalone_text().encode())
    os.chmod(file, 0o755)  # noqa: S103 - it is to be committed and run by others, and holds no secret
