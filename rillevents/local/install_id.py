"""The install ID: a random UUID for each user and machine, created once and kept permanently.

It is never derived from hardware or a machine ID: all containers of an image share those, and they cannot be reset.
"""

from __future__ import annotations

import errno
import os

from rillevents.local.files import make_folder, prepare_home, read_text_file, replace_file, write_temporary

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rillevents.local import Paths


class InstallId:
    """The ID and its source: `file`, `new` (created by this call), `env`, or `process` (not stored)."""

    __slots__ = ("source", "value")

    def __init__(self, value: str, source: str) -> None:
        self.value = value
        self.source = source


def peek(paths: Paths) -> InstallId | None:
    """Return the existing ID, None if there is none; creates nothing."""
    value = paths.variable("INSTALL_ID")
    # Unprintable text is not an ID: no event could be recorded with it.
    if value and value.isprintable():
        return InstallId(value, "env")
    for path in paths.install_id_files:
        try:
            known = _read(path)
        except OSError:
            continue
        if known:
            return InstallId(known, "file")
    return None


def read_or_create(paths: Paths) -> InstallId:
    """Return the install ID, creating it if there is none; any number of processes that race for it agree on one.

    It is kept in the config folder, or in the state folder if that one cannot be written, and stays there. If neither can be
    written, the ID is valid for this process only. Never raises.
    """
    known = peek(paths)
    if known:
        return known
    new = mint()
    for path in paths.install_id_files:
        try:
            prepare_home(paths.home)
            make_folder(os.path.dirname(path))
            value = _create(path, new)
        except OSError:
            continue
        return InstallId(value, "new" if value == new else "file")
    return InstallId(new, "process")


def reset(paths: Paths) -> str:
    """Replace the install ID where it is kept, and return the new one; raises OSError."""
    new = mint()
    first, *others = paths.install_id_files
    path = next((path for path in others if _is_there(path) and not _is_there(first)), first)
    prepare_home(paths.home)
    make_folder(os.path.dirname(path))
    replace_file(path, f"{new}\n".encode())
    return new


def _is_there(path: str) -> bool:
    return os.path.lexists(path)


def mint() -> str:
    """Return a new random ID (UUIDv4)."""
    text = f"{int.from_bytes(os.urandom(16), 'big') & ~(0xF000 << 64) & ~(0xC << 60) | 0x4000 << 64 | 0x8 << 60:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def _read(path: str) -> str:
    try:
        content = read_text_file(path, 256) if path else None
    except OSError as error:
        if error.errno != errno.EFBIG:
            raise
        # Larger than any ID: as damaged as an empty file.
        content = None
    try:
        value = (content or b"").strip().decode("ascii")
    except UnicodeDecodeError:
        return ""
    return value if value.isprintable() else ""


def _create(path: str, new: str) -> str:
    temporary = write_temporary(path, f"{new}\n".encode())
    try:
        # link, not rename: of all racing processes exactly one gets the name, and nobody replaces its file.
        os.link(temporary, path)
        return new
    except FileExistsError:
        return _read(path) or _repair(path, new)
    except OSError:
        # A file system without hard links (FAT, some network ones): there the lock decides.
        return _repair(path, new)
    finally:
        os.unlink(temporary)


def _repair(path: str, new: str) -> str:
    """Replace a file without a valid ID (empty, damaged), one process at a time."""
    folder = os.open(os.path.dirname(path), os.O_RDONLY)
    try:
        try:
            import fcntl

            # Lock the folder: the file itself is about to be replaced.
            fcntl.flock(folder, fcntl.LOCK_EX)
        except (ImportError, OSError):  # pragma: no cover - without locks two may race; the last one wins
            pass
        known = _read(path)
        if not known:
            replace_file(path, f"{new}\n".encode())
            known = new
        return known
    finally:
        os.close(folder)
