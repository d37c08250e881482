"""Small files, private folders and locks: what everything on the disk of a user is made with."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from rillevents.local import files

NOBODY = 65534


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@contextmanager
def umask(bits: int) -> Iterator[None]:
    before = os.umask(bits)
    try:
        yield
    finally:
        os.umask(before)


@contextmanager
def opened(path: Path, flags: int = os.O_RDWR | os.O_CREAT | os.O_APPEND) -> Iterator[int]:
    fd = os.open(path, flags, 0o600)
    try:
        yield fd
    finally:
        os.close(fd)


class TestReading:
    def test_limit(self, tmp_path: Path) -> None:
        """A file of exactly the limit is read whole, a larger one is an error and not cut off."""
        path = tmp_path / "f"
        path.write_bytes(b"12345")
        assert b"12345" == files.read_file(str(path), 5)
        with pytest.raises(OSError, match="too large") as caught:
            files.read_file(str(path), 4)
        assert errno.EFBIG == caught.value.errno

    @pytest.mark.parametrize("name", ["missing", "f/below", "x" * 300], ids=["missing", "below-a-file", "too-long"])
    def test_nothing_there(self, name: str, tmp_path: Path) -> None:
        """Where there can be no file there is none."""
        (tmp_path / "f").touch()
        assert files.read_file(str(tmp_path / name)) is None

    @pytest.mark.parametrize("kind", ["folder", "fifo"])
    def test_no_file(self, kind: str, tmp_path: Path) -> None:
        """What is not a regular file is an error, and is not waited for."""
        path = tmp_path / "f"
        (os.mkdir if kind == "folder" else os.mkfifo)(path)
        with pytest.raises(OSError, match="is not a regular file"):
            files.read_file(str(path))

    def test_unreadable(self, tmp_path: Path) -> None:
        """A file that cannot be opened is an error, not nothing."""
        path = tmp_path / "f"
        path.symlink_to(path)
        with pytest.raises(OSError, match="symbolic links"):
            files.read_file(str(path))

    def test_a_part(self, tmp_path: Path) -> None:
        """Bytes are read from where they stand, up to the end of the file, and whoever reads on does so where they were."""
        path = tmp_path / "f"
        path.write_bytes(b"12345")
        with opened(path) as fd:
            assert [b"23", b"5", b""] == [files.read_at(fd, 2, at) for at in (1, 4, 5)]
            assert b"12345" == os.read(fd, 10)


class TestFolders:
    @pytest.mark.parametrize("bits", [0, 0o177], ids=oct)
    def test_made(self, bits: int, tmp_path: Path) -> None:
        """A folder and what is missing above it are made, each 0700, and only the folder itself is told, once."""
        made: list[str] = []
        path = tmp_path / "a" / "b" / "c"
        with umask(bits):
            for _ in range(2):
                files.make_folder(str(path), on_create=made.append)
        assert [0o700] * 3 == [mode(path), mode(path.parent), mode(path.parent.parent)]
        assert [str(path)] == made

    def test_nowhere(self) -> None:
        """A path that has nothing above it to be made cannot be made."""
        with pytest.raises(FileNotFoundError):
            files.make_folder("")

    def test_home(self, tmp_path: Path) -> None:
        """A new home is ignored by git, one that was there is left as it is, and no home is none."""
        (tmp_path / "old").mkdir()
        for prepare in (files.prepare_home, files.ensure_home):
            for home in ("", str(tmp_path / "old"), str(tmp_path / prepare.__name__)):
                prepare(home)
        assert ["ensure_home/.gitignore", "prepare_home/.gitignore"] == sorted(
            str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()
        )

    def test_home_that_cannot_be_made(self, tmp_path: Path) -> None:
        """A home that cannot be created is reported by the next access to it."""
        (tmp_path / "f").touch()
        files.ensure_home(str(tmp_path / "f" / "home"))
        with pytest.raises(NotADirectoryError):
            files.prepare_home(str(tmp_path / "f" / "home"))

    @pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can do that")
    def test_owner(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """What root makes in another user's folder is that user's, what it makes in its own, or another makes, stays its own."""
        theirs, ours = tmp_path / "theirs", tmp_path / "ours"
        for folder in (theirs, ours):
            folder.mkdir()
        os.chown(theirs, NOBODY, NOBODY)
        for folder, owner in ((theirs, NOBODY), (ours, 0)):
            files.make_folder(str(folder / "made"))
            files.replace_file(str(folder / "file"), b"")
            assert [owner] * 2 == [(folder / name).stat().st_uid for name in ("made", "file")]
        monkeypatch.setattr("os.geteuid", lambda: 1)
        files.replace_file(str(theirs / "file"), b"")
        assert 0 == (theirs / "file").stat().st_uid


class TestReplacing:
    @pytest.mark.parametrize("bits", [0, 0o777], ids=oct)
    def test_whole(self, bits: int, tmp_path: Path) -> None:
        """The new content takes the old one's place, is 0600, and leaves nothing beside it."""
        path = tmp_path / "f"
        path.write_bytes(b"old and longer")
        with umask(bits):
            files.replace_file(str(path), b"new")
        assert (b"new", 0o600, [path]) == (path.read_bytes(), mode(path), list(tmp_path.iterdir()))

    @pytest.mark.parametrize("durable", [True, False])
    def test_synced(self, durable: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """The content is on the disk before it is seen, where that is asked for."""
        synced: list[bool] = []
        path = tmp_path / "f"
        monkeypatch.setattr("os.fsync", lambda fd: synced.append(path.exists()))
        files.replace_file(str(path), b"new", durable=durable)
        assert [False] * durable == synced

    def test_impossible(self, tmp_path: Path) -> None:
        """Where it cannot be done nothing is left behind."""
        (tmp_path / "f" / "g").mkdir(parents=True)
        with pytest.raises(OSError, match="f"):
            files.replace_file(str(tmp_path / "f"), b"new")
        assert [tmp_path / "f"] == list(tmp_path.iterdir())

    def test_in_pieces(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Where the system takes a few bytes at a time the content is whole all the same."""
        real = os.write
        monkeypatch.setattr("os.write", lambda fd, data: real(fd, data[:3]))
        files.replace_file(str(tmp_path / "f"), b"12345678")
        assert b"12345678" == (tmp_path / "f").read_bytes()


class TestLocks:
    def test_taken(self, tmp_path: Path) -> None:
        """Only one process has a lock at a time, others are told so at once, and it is released with its descriptor."""
        with opened(tmp_path / "f") as one, opened(tmp_path / "f") as two:
            assert [True, False] == [files.lock(one), files.lock(two)]
            assert not files.lock_to_unlink(two)
        with opened(tmp_path / "f") as one:
            files.wait_for_lock(one)
            with opened(tmp_path / "f") as two:
                assert not files.lock(two)

    @pytest.mark.parametrize("number", files.NO_LOCKS, ids=errno.errorcode.get)
    def test_none(self, number: int, monkeypatch: pytest.MonkeyPatch) -> None:
        """Without lock support a caller that needs a lock is told so; one that can do without it continues."""

        def no_locks(fd: int, how: int) -> None:
            raise OSError(number, "no locks")

        monkeypatch.setattr("fcntl.flock", no_locks)
        with pytest.raises(files.NoLocks):
            files.lock(0)
        files.wait_for_lock(0)
        assert files.lock_to_unlink(0)

    def test_broken(self) -> None:
        """Every other error is one."""
        for take in (files.lock, files.wait_for_lock, files.lock_to_unlink):
            with pytest.raises(OSError, match="descriptor"):
                take(1 << 20)


class TestNames:
    def test_same(self, tmp_path: Path) -> None:
        """A path that names the file is in order; one that names another, a link to it, or nothing is not."""
        path, link = tmp_path / "f", tmp_path / "link"
        path.touch()
        link.symlink_to(path)
        found = path.stat()
        files.check_named(str(path), found)
        for other in (link, tmp_path, tmp_path / "missing"):
            with pytest.raises(files.Moved):
                files.check_named(str(other), found)

    def test_discarded(self, tmp_path: Path) -> None:
        """A file that nobody needs is deleted, and one that is gone already is no matter."""
        (tmp_path / "f").touch()
        for _ in range(2):
            files.discard(str(tmp_path / "f"))
        assert [] == list(tmp_path.iterdir())


class TestAppending:
    @pytest.mark.parametrize(
        ("held", "expected"),
        [(b"", b"new\n"), (b"old\n", b"old\nnew\n"), (b"torn", b"torn\nnew\n"), (b"t", b"t\nnew\n")],
    )
    def test_line(self, held: bytes, expected: bytes, tmp_path: Path) -> None:
        """A line begins on a line of its own, whatever the file ends with."""
        path = tmp_path / "f"
        path.write_bytes(held)
        with opened(path) as fd:
            files.write_line(fd, b"new\n", len(held))
        assert expected == path.read_bytes()

    @pytest.mark.parametrize(
        ("held", "taken", "expected"),
        [(b"old\n", 0, b"old\n"), (b"old\n", 3, b"old\n"), (b"torn", 0, b"torn"), (b"torn", 3, b"torn\n")],
    )
    def test_short_write(
        self, held: bytes, taken: int, expected: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A line of which only a part fits is an error, and nothing of it stays but the newline that closed a torn tail."""
        path = tmp_path / "f"
        path.write_bytes(held)
        real = os.write
        monkeypatch.setattr("os.write", lambda fd, data: real(fd, data[:taken]))
        with opened(path) as fd, pytest.raises(OSError, match="space") as caught:
            files.write_line(fd, b"new\n", len(held))
        assert (errno.ENOSPC, expected) == (caught.value.errno, path.read_bytes())

    def test_private(self, tmp_path: Path) -> None:
        """A file that others could read is theirs no more."""
        path = tmp_path / "f"
        path.touch(0o600)
        for before in (0o644, 0o600):
            path.chmod(before)
            with opened(path) as fd:
                files.make_private(str(tmp_path), fd, os.fstat(fd))
            assert 0o600 == mode(path)

    def test_sync_fails(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """What could not be synced is taken back, and is an error."""

        def fail(fd: int) -> None:
            raise OSError(errno.EIO, "the disk is broken")

        path = tmp_path / "f"
        path.write_bytes(b"old\nnew\n")
        monkeypatch.setattr("os.fdatasync", fail, raising=False)
        with opened(path) as fd, pytest.raises(OSError, match="broken"):
            files.sync_or_undo(fd, "", 4)
        assert b"old\n" == path.read_bytes()

    @pytest.mark.parametrize("with_folder", [True, False])
    def test_sync(self, with_folder: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """The data is synced, and the folder after it, where there is one to sync."""
        synced: list[str] = []
        monkeypatch.setattr("os.fdatasync", lambda fd: synced.append("data"), raising=False)
        monkeypatch.setattr("os.fsync", lambda fd: synced.append("folder"))
        with opened(tmp_path / "f") as fd:
            files.sync(fd, str(tmp_path) if with_folder else "")
        assert ["data", "folder"][: 1 + with_folder] == synced
