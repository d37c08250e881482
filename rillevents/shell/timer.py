"""Timers that one process starts and another one stops: a small file each.

The file's name is a hash of the session and of the timer's name, which may be any text; its content is a reading (stopwatch.py).
"""

from __future__ import annotations

from rillevents.errors import RilleventsError, SpoolError
from rillevents.local.files import discard, ensure_home, make_folder, read_file, replace_file
from rillevents.local.keyed_files import drop_old, hashed
from rillevents.shell.stopwatch import reading, seconds_since

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rillevents.local import Paths


def start(paths: Paths, name: str) -> None:
    """Start the timer *name* of this user and session, anew if it runs already; raises SpoolError if it cannot be kept.

    A timer that nobody has stopped for seven days is taken away when another one is started.
    """
    file = _file(paths, name)
    try:
        ensure_home(paths.home)
        make_folder(paths.timers_dir)
        drop_old(paths.timers_dir)
        replace_file(file, reading().encode(), durable=False)
    except OSError as error:
        hint = "set RILLEVENTS_HOME to a folder that can be written"
        raise SpoolError(f"the timer {name!r} was not started: {error.strerror or error}", hint=hint) from None


def elapsed(paths: Paths, name: str) -> float:
    """Return the seconds since the timer was started, and let it run on; raises RilleventsError if it does not run."""
    file = _file(paths, name)
    try:
        content = read_file(file, 256)
    except OSError as error:
        raise SpoolError(f"the timer cannot be read: {error.strerror or error}") from None
    if content is None:
        # Not above: on the way of a timer that runs, it would be measured.
        from shlex import quote

        raise RilleventsError(f"no timer {name!r} is running", hint=f"start it: rillevents timer start {quote(name)}")
    seconds = seconds_since(content.decode("ascii", "replace"))
    if seconds is None:
        discard(file)
        raise RilleventsError(f"the timer {name!r} is from before this machine was started, or damaged; it is removed")
    return seconds


def forget(paths: Paths, name: str) -> None:
    """Take the timer away; nothing happens if it does not run."""
    discard(_file(paths, name))


def _file(paths: Paths, name: str) -> str:
    if not paths.timers_dir:
        raise SpoolError("there is no folder for timers", hint="set HOME or RILLEVENTS_HOME")
    return f"{paths.timers_dir}/{hashed(paths.variable('SESSION_ID'), name)}"
