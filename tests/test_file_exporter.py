"""Appending to a file: whole or not at all, private, and on the disk before anybody is told so."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from rillevents.delivery.exporters.file import FileExporter
from rillevents.delivery.outcome import Kind, Outcome
from rillevents.errors import ConfigError
from rillevents.event.batch import Batch

LINES = [b'{"n":1}\n', b'{"n":2}\n']


def at(*times: str) -> Batch:
    return Batch([f'{{"event_time":"{time}"}}\n'.encode() for time in times])


class TestAppending:
    def test_lines_are_added(self, tmp_path: Path) -> None:
        """What is there stays, what comes stands behind it."""
        path = tmp_path / "out.ndjson"
        exporter = FileExporter(path)
        assert [Outcome(Kind.ACCEPTED)] * 2 == [exporter.export(Batch(LINES)) for _ in range(2)]
        assert b"".join(LINES * 2) == path.read_bytes()

    def test_a_missing_newline_is_mended(self, tmp_path: Path) -> None:
        """A torn last line does not swallow the first of ours."""
        path = tmp_path / "out"
        path.write_bytes(b'{"torn')
        FileExporter(path).export(Batch(LINES))
        assert b'{"torn\n' + b"".join(LINES) == path.read_bytes()

    @pytest.mark.parametrize("umask", [0o000, 0o077, 0o777], ids=oct)
    def test_a_new_file_is_private(self, tmp_path: Path, umask: int) -> None:
        """The mode is 0600 whatever the umask."""
        before = os.umask(umask)
        try:
            outcome = FileExporter(tmp_path / "out").export(Batch(LINES))
        finally:
            os.umask(before)
        assert (Kind.ACCEPTED, 0o600) == (outcome.kind, stat.S_IMODE((tmp_path / "out").stat().st_mode))

    def test_it_is_synced_first(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A failed sync is no acknowledgement, and leaves nothing behind."""

        def fail(fd: int) -> None:
            raise OSError(errno.EIO, "Input/output error")

        monkeypatch.setattr(os, "fdatasync", fail)
        outcome = FileExporter(tmp_path / "out").export(Batch(LINES))
        assert (Kind.TEMPORARY, True) == (outcome.kind, "Input/output error" in outcome.reason)
        assert b"" == (tmp_path / "out").read_bytes()

    def test_writers_side_by_side(self, tmp_path: Path) -> None:
        """Exporters in several threads lose and mix nothing."""
        path = tmp_path / "out"
        batches = [Batch([b"%d-%d\n" % (n, i) for i in range(200)]) for n in range(8)]
        threads = [threading.Thread(target=FileExporter(path).export, args=(batch,)) for batch in batches]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        content = path.read_bytes()
        assert len(content) == sum(batch.size for batch in batches)
        assert all(batch.body() in content for batch in batches)

    def test_who_was_left_behind_does_not_write(self, tmp_path: Path) -> None:
        """The listener can end an export that nobody waits for, even once the file is locked."""

        class LeftBehind(Exception):
            pass

        calls: list[int] = []

        def listen(sent: int) -> None:
            calls.append(sent)
            if len(calls) == 2:
                raise LeftBehind

        with pytest.raises(LeftBehind):
            FileExporter(tmp_path / "out").export(Batch(LINES, listen))
        assert b"" == (tmp_path / "out").read_bytes()


class TestLocks:
    def test_the_date_without_a_percent_sign(self, tmp_path: Path) -> None:
        """`{date}` is the day of each event: a crontab cuts a line at a percent sign, and systemd reads one its own way."""
        day = b'{"event_time":"2026-11-23T10:00:00Z"}\n'
        assert Outcome(Kind.ACCEPTED) == FileExporter(tmp_path / "ev-{date}.ndjson").export(Batch([day]))
        assert day == (tmp_path / "ev-2026-11-23.ndjson").read_bytes()

    def test_a_file_that_was_moved_away_is_not_written(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """What was renamed during the wait for its lock stays as it is, and the lines are where the path leads."""
        path = tmp_path / "out"
        path.write_bytes(b"old\n")
        lock, moves = fcntl.flock, [path]

        def rotate_first(fd: int, how: int) -> None:
            if moves:
                moves.pop().rename(tmp_path / "out.1")
            lock(fd, how)

        monkeypatch.setattr(fcntl, "flock", rotate_first)
        assert Outcome(Kind.ACCEPTED) == FileExporter(path).export(Batch(LINES))
        assert (b"old\n", b"".join(LINES)) == ((tmp_path / "out.1").read_bytes(), path.read_bytes())

    @pytest.mark.parametrize(
        ("number", "kind"),
        [
            pytest.param(errno.ENOLCK, Kind.ACCEPTED, id="no-locks"),
            pytest.param(errno.EIO, Kind.TEMPORARY, id="broken"),
        ],
    )
    def test_a_file_system_without_locks(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, kind: Kind
    ) -> None:
        """Where there are no locks appending goes on, where they fail it does not."""

        def fail(fd: int, how: int) -> None:
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr(fcntl, "flock", fail)
        assert kind is FileExporter(tmp_path / "out").export(Batch(LINES)).kind


class TestADiskThatIsFull:
    CODE = """
import resource, sys
from rillevents.event.batch import Batch
from rillevents.delivery.exporters.file import FileExporter
resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
outcome = FileExporter(sys.argv[1]).export(Batch([b"x" * 60 + b"\\n"] * 2))
print(outcome.kind.name, outcome.reason)
"""

    def test_a_short_write_is_taken_back(self, tmp_path: Path) -> None:
        """What fits only in part is not in the file at all, and the reason is the system's."""
        path = tmp_path / "out"
        path.write_bytes(b"kept\n")
        done = subprocess.run([sys.executable, "-c", self.CODE, str(path)], capture_output=True, text=True, check=True)
        assert done.stdout.startswith("TEMPORARY")
        assert os.strerror(errno.EFBIG) in done.stdout
        assert b"kept\n" == path.read_bytes()


class TestDays:
    def test_each_event_goes_to_its_day(self, tmp_path: Path) -> None:
        """The day is that of the event in UTC, and a doubled percent sign is one."""
        batch = at("2026-11-23T23:30:00.123456789Z", "2026-11-23T23:30:00-02:00", "2026-11-23T23:59:60Z")
        assert Outcome(Kind.ACCEPTED) == FileExporter(f"{tmp_path}/%Y-%m-%d.100%%").export(batch)
        assert batch.lines[0] + batch.lines[2] == (tmp_path / "2026-11-23.100%").read_bytes()
        assert batch.lines[1] == (tmp_path / "2026-11-24.100%").read_bytes()

    @pytest.mark.parametrize("line", [b"{}\n", b"[]\n", b"x\n", b'{"event_time":1}\n', b'{"event_time":"../x"}\n'])
    def test_without_a_day_it_is_rejected(self, tmp_path: Path, line: bytes) -> None:
        """An event that belongs to no day is named, and the others are written."""
        outcome = FileExporter(f"{tmp_path}/%d").export(Batch([*at("2026-11-23T10:00:00Z").lines, line]))
        assert (Kind.ACCEPTED, [1]) == (outcome.kind, [index for index, _ in outcome.rejected])
        assert ["23"] == os.listdir(tmp_path)

    @pytest.mark.parametrize("path", ["%H", "%", "x%-d", "", "a\0b"], ids=repr)
    def test_wrong_paths(self, path: str) -> None:
        """Another directive, no path or a NUL is a matter of configuration."""
        with pytest.raises(ConfigError):
            FileExporter(path)


class TestWhatIsNoFile:
    @pytest.mark.parametrize(
        ("name", "says"),
        [
            pytest.param("missing/out", "folder does not exist", id="no-folder"),
            pytest.param("file/out", "folder is not a folder", id="file-as-folder"),
            pytest.param("link", "is a link", id="link"),
            pytest.param("dangling", "is a link", id="dangling-link"),
            pytest.param("folder", "is a folder", id="folder"),
            pytest.param("fifo", "not a regular file", id="fifo"),
        ],
    )
    def test_it_is_left_alone(self, tmp_path: Path, name: str, says: str) -> None:
        """Whatever else stands there needs a person, does not block, and is not touched."""
        (tmp_path / "file").write_bytes(b"target")
        (tmp_path / "link").symlink_to("file")
        (tmp_path / "dangling").symlink_to("nothing")
        (tmp_path / "folder").mkdir()
        os.mkfifo(tmp_path / "fifo")
        outcome = FileExporter(tmp_path / name).export(Batch(LINES))
        assert (Kind.MISCONFIGURED, True) == (outcome.kind, says in outcome.reason)
        assert b"target" == (tmp_path / "file").read_bytes()
        assert not (tmp_path / "nothing").exists()
