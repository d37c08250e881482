"""A stderr that waits for nobody: a script must not hang because the pipe behind it is full and not read."""

from __future__ import annotations

import io
import os
import select
import stat
import time
from typing import TextIO

# What a pipe takes without blocking once it says that it can be written to (PIPE_BUF).
_PIECE = 4096
_SECONDS = 1.0


class _BoundedPipe(io.RawIOBase):
    """Writes to a pipe, and waits for its reader for a second in all; what it has not taken by then is dropped."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._end = 0.0

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._fd

    def isatty(self) -> bool:
        return False

    def write(self, data: object) -> int:
        view = memoryview(data)  # type: ignore[arg-type]
        ready = select.poll()
        ready.register(self._fd, select.POLLOUT)
        self._end = self._end or time.monotonic() + _SECONDS
        left = view
        while left and ready.poll(max(0.0, self._end - time.monotonic()) * 1000):
            left = left[os.write(self._fd, left[:_PIECE]) :]
        if not left:
            # It is read: the next message has a second of its own.
            self._end = 0.0
        return len(view)


def bounded(stream: TextIO) -> TextIO:
    """Return *stream*, or, where it is a pipe or a socket, one that writes to the same without ever waiting for long."""
    if not isinstance(stream, io.TextIOWrapper) or not hasattr(select, "poll"):
        return stream
    try:
        mode = os.fstat(stream.fileno()).st_mode
    except (OSError, ValueError):
        return stream
    if not (stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)):
        return stream
    raw = io.BufferedWriter(_BoundedPipe(stream.fileno()))
    return io.TextIOWrapper(raw, stream.encoding, "backslashreplace", line_buffering=True, write_through=True)
