"""The install ID: a random UUID for each user and machine, created once and kept permanently.

It is never derived from hardware or a machine ID: all containers of an image share those, and they cannot be reset.
"""

from __future__ import annotations

import errno
import os

from rillevents.local.files import make_folder, prepare_home, read_file, replace_file, write_temporary

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
    try:
        known = _read(paths.install_id_file)
    except OSError:
        return None
    return InstallId(known, "file") if known else None


def read_or_create(paths: Paths) -> InstallId:
    """Return the install ID, creating it if there is none; any number of processes that race for it agree on one.

    If it cannot be stored (no home folder, a read-only one), it is valid for this process only. Never raises.
    """
    known = peek(paths)
    if known:
        return known
    new = mint()
    try:
        prepare_home(paths.home)
        make_folder(paths.config_dir)
        value = _create(paths.install_id_file, new)
    except OSError:
        return InstallId(new, "process")
    return InstallId(value, "new" if value == new else "file")


def reset(paths: Paths) -> str:
    """Replace the install ID and return the new one; raises OSError."""
    prepare_home(paths.home)
    make_folder(paths.config_dir)
    new = mint()
    replace_file(paths.install_id_file, f"{new}\n".encode())
    return new


def mint() -> str:
    """Return a new random ID (UUIDv4)."""
    text = f"{int.from_bytes(os.urandom(16), 'big') & ~(0xF000 << 64) & ~(0xC << 60) | 0x4000 << 64 | 0x8 << 60:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def _read(path: str) -> str:
    try:
        content = read_file(path, 256) if path else None
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
