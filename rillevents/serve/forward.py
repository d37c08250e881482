"""A spool between the server and its destination: an answer means that the events are in it, synced; a flusher empties it."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress

from rillevents.delivery.flusher import Flusher
from rillevents.delivery.outcome import Exporter, FlushOutcome, FlushResult
from rillevents.delivery.pace import Backoff
from rillevents.errors import Busy, RilleventsError, SpoolError
from rillevents.event.envelope import required_fields
from rillevents.local import Paths
from rillevents.recording.sinks.spool import SpoolSink
from rillevents.spool import check, create, full, unique
from rillevents.spool.quarantine import keep_damaged, read_rejected, rejected_names
from rillevents.spool.slots import backlog, slot_bytes
from rillevents.spool.view import contents
from rillevents.store.incoming import Incoming, Stored, Unavailable
from rillevents.store.reader import RejectedRow

# How long an event waits for others, to be sent together.
_GATHER_SECONDS = 0.2
_LAST_SECONDS = 5.0


def spool_for(paths: Paths, to: str) -> str:
    """Return the spool folder of a server that forwards to *to*; each destination has its own, and gets no other's events.

    Raises RilleventsError if there is no place for it.
    """
    if not paths.state_dir:
        raise RilleventsError("there is no place for a spool (no home folder)", hint="set RILLEVENTS_HOME")
    digest = hashlib.blake2b(to.encode("utf-8", "surrogateescape"), digest_size=6).hexdigest()
    return f"{paths.serve_dir}/{to.partition(':')[0]}-{digest}"


def refused(spools: Sequence[str], limit: int) -> list[RejectedRow]:
    """Return up to *limit* of the events that the destination refused last, from the newest file of each spool."""
    found: list[RejectedRow] = []
    for spool in spools:
        try:
            folder = check(spool)
            names = rejected_names(folder) if folder else []
            entries = read_rejected(folder, names[-1]).entries if names else []
        except (OSError, SpoolError):
            continue
        for each in entries[-limit:]:
            event_id = required_fields(each.line).event_id
            found.append(RejectedRow(each.rejected_at, "", each.reason, event_id, each.line.decode().rstrip("\n")))
    return found


class SpoolStorage:
    """Keeps events in a spool: one write and one sync for everything given at a time, before it returns.

    Duplicates are not detected: the destination keeps events by their ID. *on_stored* gets the number of events.
    """

    def __init__(
        self, spools: Sequence[str], *, max_bytes: int, on_stored: Callable[[int], None] = lambda events: None
    ) -> None:
        self._spools = tuple(spools)
        self._max_bytes = max_bytes
        self._sink = SpoolSink(spools, max_bytes=max_bytes, durable=True)
        self._on_stored = on_stored

    def store(self, incoming: Sequence[Incoming]) -> list[Stored]:
        """Append all lines and sync them; if it raises Unavailable, none of them is kept."""
        lines = b"".join([line for arrived in incoming for line in arrived.lines])
        try:
            if lines:
                self._sink.append(lines)
            else:
                self._check_room()
        except SpoolError as error:
            raise Unavailable(error.message) from None
        self._keep_bad([bad.line for arrived in incoming for bad in arrived.bad])
        self._on_stored(sum(len(arrived.lines) for arrived in incoming))
        return [Stored(len(arrived.lines)) for arrived in incoming]

    def _check_room(self) -> None:
        folder = create(self._spools[0])
        if backlog(folder) + slot_bytes(folder) >= self._max_bytes:
            raise full(folder, self._max_bytes)

    def _keep_bad(self, lines: Sequence[bytes]) -> None:
        """Put invalid lines into corrupt/ and count them as refused; if the disk has no room for them, nobody waits for that."""
        if not lines:
            return
        self._sink.count("refused", "invalid", len(lines))
        try:
            keep_damaged(create(self._spools[0]), unique("serve-", time.time_ns()), lines)
        except (OSError, SpoolError):
            return

    def tidy(self) -> bool:
        """Do nothing: the flusher cleans up."""
        return False

    def close(self) -> None:
        """Close the file; everything is on the disk already."""
        self._sink.close()


class Forwarder:
    """Empties spools into an exporter on a thread of its own, in rounds; between rounds anybody may lock the spool.

    *allowed* is asked before each round: after an opt-out nothing is sent. Failed rounds are retried, less and less often.
    """

    def __init__(
        self,
        exporter: Exporter,
        spools: Sequence[str],
        *,
        allowed: Callable[[], bool] = lambda: True,
        batch_events: int = 1000,
        batch_bytes: int = 1 << 20,
        most: tuple[int, int] | None = None,
        stall_timeout: float = 30.0,
        warn: Callable[[str], None] = lambda message: None,
        backoff: Backoff | None = None,
    ) -> None:
        self.last = FlushResult(FlushOutcome.EMPTY)
        self.delivered = self.rejected = 0
        self._stored = 0
        self._warned = ""
        # How many events the last round left, and how many had been stored by then.
        self._left = (0, 0)
        self._spools = spools
        self._allowed = allowed
        self._warn = warn
        self._backoff = backoff or Backoff(base=1.0)
        self._failures = 0
        self._work = threading.Event()
        self._stopping = threading.Event()
        self._exporter = exporter
        self._flusher = Flusher(
            exporter,
            batch_events=batch_events,
            batch_bytes=batch_bytes,
            most=most,
            stall_timeout=stall_timeout,
            wait=False,
            sleep=self._sleep,
            warn=self._warn_once,
        )
        self._thread = threading.Thread(target=self._run, name="rillevents-forward", daemon=True)

    def start(self) -> None:
        """Start with what an earlier server has left."""
        self._work.set()
        self._thread.start()

    def wake(self, events: int) -> None:
        """Note that there are new events."""
        self._stored += events
        self._work.set()

    @property
    def pending(self) -> int:
        """How many events wait: those that the last round left, and those stored since."""
        left, stored_then = self._left
        return max(0, left + self._stored - stored_then)

    def close(self) -> None:
        """Send what is there, for a few seconds at most, then end; the rest waits in the spool for the next server."""
        self._stopping.set()
        self._work.set()
        self._flusher.timeout = _LAST_SECONDS
        self._thread.join(_LAST_SECONDS * 2)
        self._exporter.close()

    def _run(self) -> None:
        with suppress(SpoolError):
            self._left = (sum(contents(spool).events for spool in self._spools), 0)
        while not self._stopping.is_set():
            self._work.wait()
            self._stopping.wait(_GATHER_SECONDS)
            self._work.clear()
            if not self._round() and not self._stopping.is_set():
                self._stopping.wait(self._backoff.delay(self._failures))
                self._failures += 1
                self._work.set()

    def _round(self) -> bool:
        """Flush once; return whether nothing is left to do until new events come."""
        if not self._allowed():
            return True
        try:
            done = self._flusher.flush(self._spools)
        except Busy:
            return False
        except RilleventsError as error:
            done = FlushResult(FlushOutcome.TEMPORARY, reason=error.message)
        except Exception as error:  # noqa: BLE001 - the events are in the spool; the next round tries again
            done = FlushResult(FlushOutcome.TEMPORARY, reason=f"{type(error).__name__}: {error}")
        self._tell(done)
        self.delivered += done.delivered
        self.rejected += done.rejected
        self.last = done
        self._left = (done.pending, self._stored)
        if done.outcome.needs_attention:
            return False
        self._failures = 0
        return True

    def _tell(self, done: FlushResult) -> None:
        if done.outcome.needs_attention and done.outcome != self.last.outcome:
            self._warn(f"events are kept in the spool {self._spools[0]}: {done.reason}")
        elif self.last.outcome.needs_attention and not done.outcome.needs_attention:
            self._warn("events are delivered again")

    def _warn_once(self, message: str) -> None:
        if message != self._warned:
            self._warned = message
            self._warn(message)

    def _sleep(self, seconds: float) -> None:
        self._stopping.wait(seconds)
