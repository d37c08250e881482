"""Batches as NDJSON to stdout: for every destination that has a program of its own."""

from __future__ import annotations

import errno
import math
import os
import select
import sys
from typing import TYPE_CHECKING

from rillevents.delivery.outcome import Kind, Outcome, clean
from rillevents.errors import ConfigError

if TYPE_CHECKING:
    from rillevents.event.batch import Batch

NO_READER = "stdout: nobody reads it any more"


class StdoutExporter:
    """Writes batches to stdout; a batch is acknowledged once all of it is written, which is when a pipe has taken it.

    After a failure the batch is kept as a whole: nobody knows how much of it was read. Raises ConfigError if stdout is closed.
    """

    def __init__(self) -> None:
        try:
            # Not simply 1: where stdout was closed at the start, that may be any other file by now.
            self._fd = sys.stdout.fileno() if sys.stdout is not None else -1
        except (OSError, ValueError):
            self._fd = -1
        if self._fd < 0:
            raise ConfigError("file:- writes to stdout, which is closed", hint="give it a file or a pipe")

    def export(self, batch: Batch) -> Outcome:
        """Write the batch."""
        try:
            for chunk in batch.chunks():
                self._write(chunk)
        except BrokenPipeError:
            return Outcome(Kind.TEMPORARY, NO_READER, math.inf)
        except OSError as error:
            # No early retry: a full disk stays full, and a retry would write what was written before once more.
            return Outcome(Kind.TEMPORARY, clean(f"stdout: {error.strerror or error}"), math.inf)
        return Outcome(Kind.ACCEPTED)

    def close(self) -> None:
        """Do nothing: stdout belongs to the process."""

    def _write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            try:
                view = view[os.write(self._fd, view) :]
            except OSError as error:
                if error.errno != errno.EAGAIN:
                    raise
                # The other side has made it non-blocking.
                select.select([], [self._fd], [], 1.0)
