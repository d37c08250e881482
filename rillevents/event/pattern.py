"""Globs for names of events, without loading `re` where there is none."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    pass


def is_pattern(glob: str) -> bool:
    """Return whether *glob* may match another name than the one that it is."""
    return any(sign in glob for sign in "*?[")


def matches(name: str, glob: str) -> bool:
    """Return whether *name* is like *glob*; `fnmatch` (and with it `re`) is only loaded for a real pattern."""
    if not is_pattern(glob):
        return name == glob
    from fnmatch import fnmatchcase

    return fnmatchcase(name, glob)
