"""Globs for event names; `re` is only loaded for a real pattern."""

from __future__ import annotations


def is_pattern(glob: str) -> bool:
    """Return whether *glob* can match any name besides itself."""
    return any(sign in glob for sign in "*?[")


def exactly(name: str) -> str:
    """Return the pattern that only this name matches."""
    return "".join(f"[{sign}]" if sign in "*?[" else sign for sign in name)


def matches(name: str, glob: str) -> bool:
    """Return whether *name* matches *glob*; `fnmatch` (and with it `re`) is only loaded for a real pattern."""
    if not is_pattern(glob):
        return name == glob
    from fnmatch import fnmatchcase

    return fnmatchcase(name, glob)
