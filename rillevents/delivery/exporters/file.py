"""Batches into a file of NDJSON, or one file per day if its path says so."""

from __future__ import annotations

import errno
import json
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING

from rillevents.delivery.outcome import Kind, Outcome, clean
from rillevents.errors import ConfigError
from rillevents.local.files import APPEND, Moved, check_named, is_torn, sync, sync_folder, wait_for_lock, write_all

if TYPE_CHECKING:
    from rillevents.event.batch import Batch

# `{date}` says the same as %Y-%m-%d: cron, systemd and supervisor have meanings of their own for a percent sign.
_DIRECTIVE = re.compile(r"%(.?)", re.DOTALL)
_DATE = "{date}"
_FORMATS = {"Y": "{:%Y}", "m": "{:%m}", "d": "{:%d}", "%": "%"}
_REOPENINGS = 10
_ADVICE = {
    errno.ENOENT: "its folder does not exist",
    errno.ENOTDIR: "its folder is not a folder",
    errno.ELOOP: "it is a link, and links are not followed",
    errno.EISDIR: "it is a folder",
    errno.ENXIO: "it is not a regular file",
    errno.EACCES: "permission denied",
    errno.EPERM: "operation not permitted",
    errno.EROFS: "read-only file system",
    errno.ENAMETOOLONG: "its name is too long",
}


class FileExporter:
    """Appends batches to a file; the data is on the disk when it returns ACCEPTED.

    `{date}`, or `%Y`, `%m` and `%d`, in the path stand for the day of each event (UTC), `%%` for a percent sign; anything else
    raises ConfigError. An incomplete write is undone. Several processes may append to one file at the same time.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = os.fspath(path).replace(_DATE, "%Y-%m-%d")
        directives = _DIRECTIVE.findall(self._path)
        unknown = [name for name in directives if name not in _FORMATS]
        if unknown:
            raise ConfigError(f"%{unknown[0]} in a file: path is unknown", hint="possible are: {date}, %Y, %m, %d, %%")
        if not self._path or "\0" in self._path:
            raise ConfigError("a file: destination needs a path", hint="write file:PATH")
        self._dated = any(name != "%" for name in directives)

    def export(self, batch: Batch) -> Outcome:
        """Append the batch; after a failure nothing of it is left in the file that failed."""
        files, rejected = self._files(batch)
        path = self._path
        try:
            written = 0
            for path, lines in files.items():
                batch.progress(written)
                _append(path, [line for _, line in lines], batch, written)
                # At once: the next file may fail, and this one is not written again.
                for index, line in lines:
                    batch.acknowledge(index)
                    written += len(line)
                batch.progress(written)
        except OSError as error:
            return _outcome(error, path)
        return Outcome(Kind.ACCEPTED, rejected=tuple(rejected))

    def close(self) -> None:
        """Do nothing: no file stays open between two batches."""

    def _files(self, batch: Batch) -> tuple[dict[str, list[tuple[int, bytes]]], list[tuple[int, str]]]:
        files: dict[str, list[tuple[int, bytes]]] = {}
        rejected = []
        for index, line in enumerate(batch.lines):
            if batch.is_acknowledged(index):
                continue
            day = _day(line) if self._dated else date.min
            if day is None:
                rejected.append((index, "no event_time that gives the day in the path"))
            else:
                files.setdefault(self._path_on(day), []).append((index, line))
        return files, rejected

    def _path_on(self, day: date) -> str:
        return _DIRECTIVE.sub(lambda found: _FORMATS[found[1]].format(day), self._path)


def _day(line: bytes) -> date | None:
    try:
        time = json.loads(line)["event_time"].upper().replace(":60", ":59")
        parsed = datetime.fromisoformat(time)
        return (parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)).astimezone(UTC).date()
    except (ValueError, LookupError, TypeError, AttributeError, OverflowError, RecursionError):
        return None


def _append(path: str, lines: list[bytes], batch: Batch, written: int) -> None:
    with _locked(path) as (fd, is_locked):
        # Check again under the lock: a call that waited too long for it was abandoned, and must not write.
        batch.progress(written)
        size = os.fstat(fd).st_size
        try:
            write_all(fd, (b"\n" if is_torn(fd, size) else b"") + b"".join(lines))
            sync(fd)
        except OSError:
            # Without a lock the part stays as a torn line, which the next writer ends: others may have appended.
            if is_locked:
                os.ftruncate(fd, size)
            raise
        if size == 0:
            sync_folder(os.path.dirname(path) or ".")


@contextmanager
def _locked(path: str) -> Iterator[tuple[int, bool]]:
    for _ in range(_REOPENINGS):
        fd = _open(path)
        try:
            is_locked = wait_for_lock(fd)
            # Checked once the lock is held: the file may have been moved or deleted during the wait.
            check_named(path, os.fstat(fd))
            yield fd, is_locked
            return
        except Moved:
            continue
        finally:
            os.close(fd)
    raise OSError(errno.EAGAIN, "the file keeps being replaced")


def _open(path: str) -> int:
    try:
        fd, is_new = os.open(path, APPEND | os.O_EXCL, 0o600), True
    except FileExistsError:
        fd, is_new = os.open(path, APPEND, 0o600), False
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise OSError(errno.ENXIO, os.strerror(errno.ENXIO))
        if is_new and hasattr(os, "fchmod"):
            os.fchmod(fd, 0o600)
    except BaseException:
        os.close(fd)
        raise
    return fd


def _outcome(error: OSError, path: str) -> Outcome:
    advice = _ADVICE.get(error.errno or 0)
    kind = Kind.MISCONFIGURED if advice else Kind.TEMPORARY
    return Outcome(kind, clean(f"cannot append to {path}: {advice or error.strerror or error}"))
