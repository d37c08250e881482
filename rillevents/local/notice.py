"""That a user was told, once, that events are recorded: the marker of the first notice."""

from __future__ import annotations

import os
import time

from rillevents.event import format_time
from rillevents.local.ci import is_ci
from rillevents.local.files import CLOEXEC, NO_FOLLOW, give_to_owner_of, make_folder

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rillevents.local import Paths


def note_shown(paths: Paths) -> bool:
    """Note that the notice is shown now, and return whether it is to be: not in CI, not twice, not if it cannot be noted."""
    if is_ci(paths.environ) or not paths.state_dir or os.path.lexists(paths.notice_marker):
        return False
    try:
        make_folder(paths.state_dir)
        fd = os.open(paths.notice_marker, os.O_WRONLY | os.O_CREAT | os.O_EXCL | NO_FOLLOW | CLOEXEC, 0o600)
        try:
            give_to_owner_of(paths.state_dir, fd)
            os.write(fd, f"{format_time(time.time_ns())}\n".encode())
        finally:
            os.close(fd)
    except OSError:
        return False
    return True
