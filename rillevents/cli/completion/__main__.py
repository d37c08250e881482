"""`python -m rillevents.cli.completion FOLDER`: write the completion scripts into a folder."""

from __future__ import annotations

import sys
from pathlib import Path

from rillevents.cli.app import assembled
from rillevents.cli.completion import scripts


def main(arguments: list[str]) -> int:
    """Write the scripts into the folder that is the only argument, and return the exit code."""
    if len(arguments) != 1 or arguments[0].startswith("-"):
        print("usage: python -m rillevents.cli.completion FOLDER", file=sys.stderr)
        return 2
    folder = Path(arguments[0])
    folder.mkdir(parents=True, exist_ok=True)
    for name, script in scripts(assembled()).items():
        (folder / name).write_bytes(script)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
