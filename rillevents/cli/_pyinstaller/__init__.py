"""Hooks for PyInstaller, which it finds by the entry point `pyinstaller40`: the files that it would leave out."""

from __future__ import annotations

import os


def hook_dirs() -> list[str]:
    """Return the folder of the hooks."""
    return [os.path.dirname(__file__)]
