"""Events on the disk: they are there when `emit` returns, whatever happens to the process next."""

from __future__ import annotations

from rillevents.errors import SpoolFull, SpoolUnwritable
from rillevents.recording.sinks import Sink
from rillevents.spool import Unusable, create

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rillevents.delivery.outcome import FlushResult
    from rillevents.event import Event
    from rillevents.spool.live import LiveWriter


class SpoolSink(Sink):
    """Stores events in the first writable one of *spools* (folders).

    *short_lived* is for a process that records once and exits: it shares files with others of its kind. A long-lived one keeps a
    file of its own, is safe in threads, forks and signal handlers, and is faster for every event after the first. `Client.flush`
    calls *flush* with its timeout. `emit` raises SpoolError if the event was not stored.
    """

    def __init__(
        self,
        spools: str | Sequence[str],
        *,
        max_bytes: int = 1 << 30,
        durable: bool = False,
        short_lived: bool = False,
        flush: Callable[[float | None], FlushResult] | None = None,
    ) -> None:
        self._spools = (spools,) if isinstance(spools, str) else tuple(spools)
        self._max_bytes = max_bytes
        self._durable = durable
        self._short_lived = short_lived
        self._flush = flush
        # Which of the spools has got an event, "" as long as none has.
        self.stored_in = ""
        self._live: LiveWriter | None = None
        # The same, once no other place can be the one.
        self._settled: LiveWriter | None = None
        if not short_lived:
            # Now, not with the first event: a child forked during an import can never do the same import, nor can a signal
            # handler that interrupts it, nor a program without free descriptors.
            import rillevents.spool.live
            import rillevents.spool.tally  # noqa: F401

    def emit(self, event: Event) -> None:
        """Store the event; raises SpoolError if that fails, InvalidEvent if it is not a valid event."""
        line = event.line
        try:
            # Without the calls in between, where the place is settled: every event of a long-lived process passes here.
            (self._settled or self).append(line)
        except SpoolFull:
            self.count("dropped", "spool-full")
            raise
        if event.truncated:
            self.count("truncated")

    def append(self, lines: bytes) -> None:
        """Store one line, or several that are stored or refused together; raises SpoolError."""
        if self._settled:
            self._settled.append(lines)
        else:
            self._in_first_usable(self._append_short_lived if self._short_lived else self._append_live, lines)

    def _in_first_usable(self, append: Callable[[str, bytes], None], lines: bytes) -> None:
        error = SpoolUnwritable("there is no place for the spool (no home folder)", hint="set RILLEVENTS_SPOOL_DIR")
        for spool in self._spools:
            try:
                append(spool, lines)
                live, self._spools = self._live, (spool,)
                self.stored_in = spool
                # Another thread may have put its writer there, for a place that it still tries.
                self._settled = live if live and live.spool == spool else None
                return
            except Unusable as problem:
                error = problem
        raise error

    def _append_short_lived(self, spool: str, lines: bytes) -> None:
        from rillevents.spool.slots import append

        append(create(spool), lines, max_bytes=self._max_bytes, durable=self._durable)

    def _append_live(self, spool: str, lines: bytes) -> None:
        if self._live is None or self._live.spool != spool:
            from rillevents.spool.live import LiveWriter

            self._live = LiveWriter(spool, max_bytes=self._max_bytes, durable=self._durable)
        self._live.append(lines)

    def count(self, kind: str, reason: str = "", n: int = 1) -> None:
        """Write the count beside the events; if the disk refuses that, too, the count is lost."""
        from rillevents.spool.tally import add

        for spool in self._spools:
            if add(spool, kind, reason, n):
                return

    def flush(self, timeout: float | None = None) -> FlushResult:
        """Send the spool to the configured destination, or return that this sink has none."""
        if self._flush:
            return self._flush(timeout)
        return super().flush(timeout)

    def close(self, timeout: float | None = None) -> None:
        """Close the file; everything is on the disk already."""
        if self._live is not None:
            self._live.close()
