"""Small files and private folders: read whole, created 0700 and 0600 whatever the umask, replaced atomically."""

from __future__ import annotations

import errno
import os
import stat

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn


# On Windows the missing flags are 0: they only restrict what an open may do.
NO_FOLLOW: int = getattr(os, "O_NOFOLLOW", 0)
CLOEXEC: int = getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOINHERIT", 0) | getattr(os, "O_BINARY", 0)
NONBLOCK: int = getattr(os, "O_NONBLOCK", 0)
APPEND = os.O_RDWR | os.O_APPEND | os.O_CREAT | NO_FOLLOW | CLOEXEC | NONBLOCK
BOM = b"\xef\xbb\xbf"
# A name that is too long for the system cannot exist.
_NOT_THERE = (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG)


def read_at(fd: int, size: int, offset: int) -> bytes:
    """Return up to *size* bytes from *offset*; raises OSError."""
    if hasattr(os, "pread"):
        return os.pread(fd, size, offset)
    os.lseek(fd, offset, os.SEEK_SET)  # pragma: no cover - Windows
    return os.read(fd, size)  # pragma: no cover - Windows


def read_file(path: str, limit: int = 1 << 20) -> bytes | None:
    """Return the contents of a regular file, or None if there is none.

    Raises OSError if it cannot be read or is larger than *limit*; never waits (a FIFO is not read).
    """
    try:
        fd = os.open(path, os.O_RDONLY | NONBLOCK | CLOEXEC)
    except OSError as error:
        if error.errno in _NOT_THERE:
            return None
        raise
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise OSError(f"{path} is not a regular file")
        content = os.read(fd, limit + 1)
        if len(content) > limit:
            # Do not return a part: a caller that writes back what it read must not truncate the file.
            raise OSError(errno.EFBIG, os.strerror(errno.EFBIG), path)
        return content
    finally:
        os.close(fd)


def read_text_file(path: str, limit: int = 1 << 20) -> bytes | None:
    """Return what `read_file` returns, without the byte order mark that some editors put before a text."""
    content = read_file(path, limit)
    return content.removeprefix(BOM) if content else content


def make_folder(path: str, *, on_create: Callable[[str], None] | None = None) -> None:
    """Create *path* and missing parents, each 0700; *on_create* gets *path* if it was created.

    If root creates something in another user's folder, it gets that folder's owner. Raises OSError.
    """
    parent = os.path.dirname(path)
    try:
        os.mkdir(path, 0o700)
    except FileExistsError:
        return
    except FileNotFoundError:
        if parent == path:
            raise
        make_folder(parent)
        try:
            os.mkdir(path, 0o700)
        except FileExistsError:
            return
    _make_private(parent, path)
    if on_create:
        on_create(path)


def _make_private(parent: str, path: str) -> None:
    """Set the mode of a folder that was just created; mkdir alone is not enough, since the umask removes bits."""
    if not hasattr(os, "O_DIRECTORY"):  # pragma: no cover - Windows
        return
    # By descriptor, not by name: in another user's folder the name may by now be a link to anything.
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | NO_FOLLOW | CLOEXEC)
    try:
        if os.fstat(fd).st_uid == os.geteuid():
            os.fchmod(fd, 0o700)
            give_to_owner_of(parent, fd)
    finally:
        os.close(fd)


def give_to_owner_of(folder: str, fd: int) -> None:
    """If root created the file of *fd* in another user's folder, give it to that user."""
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        return
    owner = os.stat(folder)
    if owner.st_uid != 0:
        os.fchown(fd, owner.st_uid, owner.st_gid)


def write_temporary(path: str, data: bytes, *, durable: bool = True) -> str:
    """Write *data* to a new file of mode 0600 beside *path* and return its name; if it raises OSError, nothing is left."""
    temporary = f"{path}.{os.getpid()}-{os.urandom(4).hex()}.tmp"
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | NO_FOLLOW | CLOEXEC, 0o600)
    try:
        try:
            if hasattr(os, "fchmod"):
                os.fchmod(fd, 0o600)
            give_to_owner_of(os.path.dirname(path), fd)
            write_all(fd, data)
            if durable:
                os.fsync(fd)
        finally:
            os.close(fd)
    except BaseException:
        os.unlink(temporary)
        raise
    return temporary


def replace_file(path: str, data: bytes, *, durable: bool = True) -> None:
    """Make *data* the whole content of *path*: readers see either the old or the new file; raises OSError.

    A link is replaced itself, not its target. With *durable*, the content is on the disk before readers see it.
    """
    temporary = write_temporary(path, data, durable=durable)
    try:
        try:
            os.replace(temporary, path)
        except OSError as error:
            # A file that is a mount of its own (bind-mounted into a container) cannot be replaced, only written.
            if error.errno != errno.EBUSY:
                raise
            _write_in_place(path, data, durable)
            os.unlink(temporary)
    except BaseException:
        # A signal may arrive after the rename: the file is then gone, and that error must not hide the signal.
        try:
            os.unlink(temporary)
        except FileNotFoundError:
            pass
        raise


def _write_in_place(path: str, data: bytes, durable: bool) -> None:
    fd = os.open(path, os.O_WRONLY | NO_FOLLOW | CLOEXEC)
    try:
        write_all(fd, data)
        os.ftruncate(fd, len(data))
        if durable:
            os.fsync(fd)
    finally:
        os.close(fd)


def write_all(fd: int, data: bytes) -> None:
    """Write all of *data*, in several pieces if the system takes fewer bytes at once."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def prepare_home(home: str) -> None:
    """Create the folder of RILLEVENTS_HOME; a new one gets a `.gitignore` of `*`, so that nobody commits their events."""

    def ignore(path: str) -> None:
        replace_file(f"{path}/.gitignore", b"*\n", durable=False)

    if home:
        make_folder(home, on_create=ignore)


def ensure_home(home: str) -> None:
    """Create the folder of RILLEVENTS_HOME if it is set and missing; a failure is reported by the next access."""
    if home and not os.path.isdir(home):
        try:
            prepare_home(home)
        except OSError:
            return


try:
    import fcntl
except ImportError:  # pragma: no cover - Windows
    fcntl = None  # type: ignore[assignment]


HAS_LOCKS = fcntl is not None


NO_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)


class Moved(Exception):
    """The path no longer names the file that was locked."""


class NoLocks(Exception):
    """The file system does not support locks."""


def lock(fd: int) -> bool:
    """Take the file's lock without waiting; False if another process has it. Raises NoLocks if locks are not supported."""
    if not HAS_LOCKS:  # pragma: no cover - Windows
        raise NoLocks
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno in NO_LOCKS:
            raise NoLocks from None
        raise
    return True


def wait_for_lock(fd: int) -> bool:
    """Take the lock of a file or a folder, waiting as long as necessary; False if locks are not supported."""
    try:
        if HAS_LOCKS:
            fcntl.flock(fd, fcntl.LOCK_EX)
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        return False
    return HAS_LOCKS


def lock_to_unlink(fd: int) -> bool:
    """Take the lock of a file that is about to be unlinked; without lock support every file was complete from the start."""
    try:
        return lock(fd)
    except NoLocks:
        return True


def check_named(path: str, found: os.stat_result) -> None:
    """Raise Moved unless *path* names the file that *found* describes."""
    try:
        now = os.lstat(path)
    except FileNotFoundError:
        raise Moved from None
    if (now.st_ino, now.st_dev) != (found.st_ino, found.st_dev):
        raise Moved


def make_private(folder: str, fd: int, found: os.stat_result) -> None:
    """Set the mode of a new file to 0600, whatever the umask, and in another user's folder its owner to that user."""
    if stat.S_IMODE(found.st_mode) != 0o600:
        os.fchmod(fd, 0o600)
    give_to_owner_of(folder, fd)


def write_line(fd: int, line: bytes, size: int) -> None:
    """Append *line* to a locked file of *size* bytes, closing a torn tail first; if it raises OSError, no part of it stays."""
    torn = is_torn(fd, size)
    write_whole(fd, b"\n" + line if torn else line, keep=torn)


def is_torn(fd: int, size: int) -> bool:
    """Return whether a file of *size* bytes ends in the middle of a line, because its writer was killed."""
    return size > 0 and read_at(fd, 1, size - 1) != b"\n"


def write_whole(fd: int, data: bytes, *, keep: int = 0) -> None:
    """Append *data* to a locked file with one write; a short write is undone and raises OSError.

    The first *keep* bytes stay in any case: the newline that closed a torn tail, without which the fragment would swallow the
    next line.
    """
    written = os.write(fd, data)
    if written < len(data):
        undo_short_write(fd, written, keep=keep)


def undo_short_write(fd: int, written: int, *, keep: int = 0) -> NoReturn:
    """Take back the *written* bytes of a write that was cut short, but for the first *keep*; raises OSError."""
    # Measured, not known by the caller: one that was interrupted between a write and its note of it is behind the file.
    os.ftruncate(fd, os.fstat(fd).st_size - written + min(keep, written))
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def sync(fd: int, folder: str = "") -> None:
    """Wait until the file's data is on the disk, and with *folder* also its name there; raises OSError."""
    getattr(os, "fdatasync", os.fsync)(fd)
    if folder:
        sync_folder(folder)


def sync_or_undo(fd: int, folder: str, size: int) -> None:
    """Sync a locked file; if that fails, cut it back to *size* as far as possible; raises OSError.

    A failed sync is never repeated: the system may have discarded the data, and report success the second time.
    """
    try:
        sync(fd, folder)
    except OSError:
        try:
            os.ftruncate(fd, size)
        except OSError:
            pass
        raise


def sync_folder(folder: str) -> None:
    """Wait until the names in *folder* are on the disk; raises OSError."""
    if not hasattr(os, "O_DIRECTORY"):  # pragma: no cover - Windows
        return
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def discard(path: str) -> None:
    """Delete a file that is no longer needed; it does not matter if it is gone or cannot be deleted."""
    try:
        os.unlink(path)
    except OSError:
        return
