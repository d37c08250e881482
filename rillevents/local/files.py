"""Small files and private folders: read whole, created 0700 and 0600 whatever the umask, replaced atomically."""

from __future__ import annotations

import errno
import os
import stat

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


# What Windows lacks is 0 there: the flags narrow what an open may do, they add nothing to it.
NO_FOLLOW: int = getattr(os, "O_NOFOLLOW", 0)
CLOEXEC: int = getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOINHERIT", 0) | getattr(os, "O_BINARY", 0)
NONBLOCK: int = getattr(os, "O_NONBLOCK", 0)
APPEND = os.O_RDWR | os.O_APPEND | os.O_CREAT | NO_FOLLOW | CLOEXEC | NONBLOCK
# A name that is too long for the system is nobody's name.
_NOT_THERE = (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG)


def read_at(fd: int, size: int, offset: int) -> bytes:
    """Return up to *size* bytes that stand at *offset*; raises OSError."""
    if hasattr(os, "pread"):
        return os.pread(fd, size, offset)
    os.lseek(fd, offset, os.SEEK_SET)  # pragma: no cover - Windows
    return os.read(fd, size)  # pragma: no cover - Windows


def read_file(path: str, limit: int = 1 << 20) -> bytes | None:
    """Return what is in a regular file, or None where there is none.

    Raises OSError where there is one that cannot be read, or that is larger than *limit*; never waits (a FIFO is no file).
    """
    try:
        fd = os.open(path, os.O_RDONLY | NONBLOCK | CLOEXEC)
    except OSError as error:
        if error.errno in _NOT_THERE:
            return None
        raise
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise OSError(f"{path} is no regular file")
        content = os.read(fd, limit + 1)
        if len(content) > limit:
            # Not the part that fits: because who writes back what was read of a file must not cut it off.
            raise OSError(errno.EFBIG, os.strerror(errno.EFBIG), path)
        return content
    finally:
        os.close(fd)


def make_folder(path: str, *, on_create: Callable[[str], None] | None = None) -> None:
    """Create *path* and what is missing above it, each 0700; *on_create* gets *path* where it was not there.

    Root in another user's folder gives what it creates that folder's owner. Raises OSError.
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
    """Give a folder that was just made its mode, after mkdir and not by that alone: the umask takes bits away."""
    if not hasattr(os, "O_DIRECTORY"):  # pragma: no cover - Windows
        return
    # By descriptor, not by name: because in somebody else's folder the name may be a link to anything by now.
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | NO_FOLLOW | CLOEXEC)
    try:
        if os.fstat(fd).st_uid == os.geteuid():
            os.fchmod(fd, 0o700)
            give_to_owner_of(parent, fd)
    finally:
        os.close(fd)


def give_to_owner_of(folder: str, fd: int) -> None:
    """Where root has created the file of *fd* in another user's folder, make it that user's."""
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        return
    owner = os.stat(folder)
    if owner.st_uid != 0:
        os.fchown(fd, owner.st_uid, owner.st_gid)


def write_temporary(path: str, data: bytes, *, durable: bool = True) -> str:
    """Write *data* to a new file of mode 0600 beside *path* and return its name; raises OSError and leaves nothing."""
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
    """Make *data* the whole content of *path*: readers see the old file or the new one; raises OSError.

    The name is replaced, not what it may link to. *durable* makes the content outlast a loss of power before it is seen.
    """
    temporary = write_temporary(path, data, durable=durable)
    try:
        os.replace(temporary, path)
    except BaseException:
        # It may be gone already, where a signal arrived after the rename: and must not take that signal's place.
        try:
            os.unlink(temporary)
        except FileNotFoundError:
            pass
        raise


def write_all(fd: int, data: bytes) -> None:
    """Write all of *data*, in several pieces where the system takes fewer bytes at once."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def prepare_home(home: str) -> None:
    """Create the folder of RILLEVENTS_HOME: a new one gets a `.gitignore` of `*`, so that nobody commits their events."""

    def ignore(path: str) -> None:
        replace_file(f"{path}/.gitignore", b"*\n", durable=False)

    if home:
        make_folder(home, on_create=ignore)


def ensure_home(home: str) -> None:
    """Create the folder of RILLEVENTS_HOME where it is to be and is not; what keeps it from that is told by what comes next."""
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
    """The file system has no locks."""


def lock(fd: int) -> bool:
    """Take the file's lock without waiting; False where somebody has it. Raises NoLocks where there are none."""
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
    """Take the lock of a file or a folder, however long somebody else holds it; False where there are no locks."""
    try:
        if HAS_LOCKS:
            fcntl.flock(fd, fcntl.LOCK_EX)
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        return False
    return HAS_LOCKS


def lock_to_unlink(fd: int) -> bool:
    """Take the lock of a file that is about to be unlinked; where there are no locks, every file was complete from the start."""
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
    """Give a file that was just made the mode 0600, whatever the umask, and in another user's folder that owner."""
    if stat.S_IMODE(found.st_mode) != 0o600:
        os.fchmod(fd, 0o600)
    give_to_owner_of(folder, fd)


def write_line(fd: int, line: bytes, size: int) -> None:
    """Append *line* to a locked file of *size* bytes, closing a torn tail first; raises OSError and leaves nothing of it."""
    torn = is_torn(fd, size)
    write_whole(fd, b"\n" + line if torn else line, keep=torn)


def is_torn(fd: int, size: int) -> bool:
    """Return whether a file of *size* bytes ends in the midst of a line: whoever wrote it was killed."""
    return size > 0 and read_at(fd, 1, size - 1) != b"\n"


def write_whole(fd: int, data: bytes, *, keep: int = 0) -> None:
    """Append *data* to a locked file by one write; a short one is undone and raises OSError.

    The first *keep* bytes stay all the same: the newline that closed a torn tail, without which the fragment would swallow
    the next line.
    """
    written = os.write(fd, data)
    if written < len(data):
        # Measured, not *size*: because a caller that was interrupted between a write and its note of it is behind the file.
        os.ftruncate(fd, os.fstat(fd).st_size - written + min(keep, written))
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def sync(fd: int, folder: str = "") -> None:
    """Wait until the file's data is on the disk, and the name of a new one in its *folder*; raises OSError."""
    getattr(os, "fdatasync", os.fsync)(fd)
    if folder:
        sync_folder(folder)


def sync_or_undo(fd: int, folder: str, size: int) -> None:
    """Sync a locked file, and where that fails cut it back to *size*, as far as that can be done; raises OSError.

    A failed sync is never tried again: the system may have thrown the data away, and say that all is well the second time.
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
    """Delete a file that nobody needs; one that is gone already, or that cannot be deleted, is no matter."""
    try:
        os.unlink(path)
    except OSError:
        return
