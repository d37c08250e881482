"""What the flusher does to the spool: takes the lock, claims slots, reads batches, moves offsets, clears up behind itself.

Theory of operation. A pass reads what was there when it began: the slots, renamed to claims, and all other files up to their
size then. A batch may span files, so that fifty thousand files of one event cost no more requests than one file. Nothing is
changed by reading but for corrupt/; `commit` is the only place where offsets move, and `_finish` the only one that unlinks.
Recovery after a crash is the next pass: there is no other step.
"""

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Callable, Iterator, Sequence

from rillevents.event.batch import HELD, UNSETTLED, LineVerdict, Rejected
from rillevents.local.files import CLOEXEC, NO_FOLLOW, NONBLOCK, Moved, check_named, discard, lock_to_unlink
from rillevents.spool import (
    BACKLOG,
    CLAIM,
    CORRUPT,
    READ_PREFIXES,
    STATE,
    SUFFIX,
    TEMPORARY,
    listed,
    slot_sizes,
    tally,
    unique,
    unwritable,
)
from rillevents.spool.lines import Run, complete_lines, complete_runs
from rillevents.spool.offsets import Entry, Settled, SpoolBatch
from rillevents.spool.quarantine import RejectedFile, enforce_caps, keep_corrupt, own_folder, pieces
from rillevents.spool.slots import count_backlog
from rillevents.spool.state import State, load, proof, take_turn, trusted_offset

_READ = os.O_RDWR | NO_FOLLOW | CLOEXEC | NONBLOCK
# Gone since the listing, or no file at all: a link, a socket, a folder.
_NO_FILE = (errno.ENOENT, errno.ELOOP, errno.EMLINK, errno.ENXIO, errno.EISDIR)


class Drain:
    """The spool in the hands of its one flusher; a context manager that holds the lock for as long as it is open."""

    def __init__(
        self,
        folder: str,
        *,
        batch_events: int = 1000,
        batch_bytes: int = 1 << 20,
        now_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self.folder = folder
        self.state = State("")
        self.corrupt = 0
        self.problem = ""
        self._batch_events = batch_events
        self._batch_bytes = batch_bytes
        self._now_ns = now_ns
        self._lock = -1
        self._rejected = RejectedFile(folder)
        self._stuck: set[str] = set()
        self._unproved: dict[str, bytes] = {}
        self._again: list[str] = []

    def acquire(self) -> None:
        """Take the flusher's lock; raises Busy where another flusher has it, SpoolError where that cannot be done."""
        try:
            self._lock = take_turn(self.folder)
            self.state = load(self.folder, now_ns=self._now_ns())
            tally.fold(self.folder, self.state, self._save, self._now_ns)
        except BaseException as error:
            self._unlock()
            if isinstance(error, OSError):
                raise unwritable(f"the spool {self.folder} cannot be emptied", error) from None
            raise

    def _unlock(self) -> None:
        held, self._lock = self._lock, -1
        try:
            if held >= 0:
                os.close(held)
        except OSError:
            return  # Nothing was written to it that could be lost.

    def release(self) -> None:
        """Save what is remembered and give the lock back."""
        if self._lock < 0:
            return
        try:
            present = set(listed(self.folder))
            self.state.offsets = {name: entry for name, entry in self.state.offsets.items() if name in present}
            self.state.aside = [name for name in self.state.aside if name in present]
            self.state.folded = [name for name in self.state.folded if name in present]
            count_backlog(self.folder)
            self._sweep()
        except OSError as error:
            self.problem = str(error)
        self._save()
        self._unlock()

    def _sweep(self) -> None:
        """Delete what killed processes have left half-written; whoever still writes one tries again or does without."""
        for name in listed(self.folder):
            if name.startswith(TEMPORARY) or (name.startswith((STATE, BACKLOG)) and name.endswith(".tmp")):
                discard(f"{self.folder}/{name}")

    def enforce_caps(self) -> int:
        """Delete what rejected/ and corrupt/ hold beyond their caps, oldest first, and return how many lines that cost."""
        try:
            lost = enforce_caps(self.folder)
        except OSError as error:
            self._tell("what was put aside could not be cut back", error)
            return 0
        for reason, count in lost.items():
            self.state.count("dropped", reason, count)
        self.state.count("rejected", n=-lost.get("rejected-full", 0))
        return sum(lost.values())

    def __enter__(self) -> Drain:
        self.acquire()
        return self

    def __exit__(self, kind: object, error: BaseException | None, at: object) -> None:
        self.release()
        if isinstance(error, OSError):
            raise unwritable(f"the spool {self.folder} could not be emptied", error) from None

    def batches(self) -> Iterator[SpoolBatch]:
        """Yield what is in the spool now; each batch has to be committed in its turn, or stays.

        One may be asked for before the one that came last was committed.
        """
        self._claim_slots()
        batch = SpoolBatch()
        for name in self._names():
            yield from self._fill(batch, name)
        yield from self._rest(batch)
        yield from self.added()

    def added(self) -> Iterator[SpoolBatch]:
        """Yield what has come to a file since `batches` was through with it; for who reads ahead, whose last commit is later."""
        while self._again:
            # A writer that held a claim since before it was one has added lines: they were acknowledged, so they go too.
            batch = SpoolBatch()
            yield from self._fill(batch, self._again.pop())
            yield from self._rest(batch)

    def _rest(self, batch: SpoolBatch) -> Iterator[SpoolBatch]:
        if batch.runs or batch.finished:
            yield batch.take()

    def _fill(self, batch: SpoolBatch, name: str) -> Iterator[SpoolBatch]:
        for run in self._runs(name):
            if not run.good and batch.count >= self._batch_events:
                yield batch.take()
            while True:
                fitting, size = batch.fitting(run, self._batch_events, self._batch_bytes)
                if fitting == len(run.good):
                    break
                if fitting:
                    batch.add(name, Run(run.start, run.start + size, run.good[:fitting]), size)
                    run = Run(run.start + size, run.end, run.good[fitting:])
                yield batch.take()
            batch.add(name, run, size)
        batch.finished.append(name)

    def _runs(self, name: str) -> Iterator[Run]:
        try:
            fd = os.open(f"{self.folder}/{name}", _READ)
        except OSError as error:
            if error.errno not in _NO_FILE:
                self._tell(f"{name} cannot be read", error)
            return
        try:
            if stat.S_ISREG(os.fstat(fd).st_mode):
                start = trusted_offset(fd, self.state.offsets.get(name))
                for run in complete_runs(fd, start, os.fstat(fd).st_size):
                    if not run.good:
                        self._put_aside(name, fd, run)
                    yield run
        except OSError as error:
            # What follows stays, and the other files are none the worse for it.
            self._tell(f"{name} cannot be read", error)
        finally:
            os.close(fd)

    def _tell(self, what: str, error: OSError) -> None:
        self.problem = f"{what}: {error.strerror or error}"

    def _put_aside(self, name: str, fd: int, run: Run) -> None:
        if name in self.state.aside:
            return
        try:
            keep_corrupt(self.folder, name, fd, run.start, run.end)
        except OSError:
            # No room for a copy, so the whole file moves there at its end: because a full disk must not stop delivery.
            self.state.aside.append(name)

    def commit(self, batch: SpoolBatch, verdicts: Sequence[LineVerdict], *, purged: bool = False) -> None:
        """Settle a batch, one verdict for each of its lines, in order; what follows a kept line in its file stays, too.

        *purged* counts as dropped what is else counted as delivered.
        """
        settled = list(batch.settled(verdicts))
        kept = self._put_rejected_aside(settled)
        before = self.state.copy()
        try:
            for entry, verdict, lines in settled:
                if verdict in (HELD, UNSETTLED) or (kept and isinstance(verdict, Rejected)):
                    self._stuck.add(entry.name)
                if entry.name not in self._stuck:
                    self._settle(entry, verdict, lines, purged)
            self._save_offsets()
        except BaseException:
            # Interrupted half-way, so nothing of it counts: because an offset and its count must not disagree.
            self.state, self._unproved = before, {}
            raise
        for name in batch.finished:
            if name not in self._stuck:
                self._finish(name)

    def _put_rejected_aside(self, settled: Sequence[Settled]) -> bool:
        """Write what was rejected to rejected/; True where it could not be, and has to stay where it is."""
        rejected = [(entry.line, verdict.reason) for entry, verdict, _ in settled if isinstance(verdict, Rejected)]
        try:
            if rejected:
                self._rejected.add(rejected)
        except OSError as error:
            self._tell("rejected events could not be put aside", error)
            return True
        return False

    def _settle(self, entry: Entry, verdict: LineVerdict | None, lines: int = 1, purged: bool = False) -> None:
        self.state.offsets[entry.name] = (entry.end, -1)
        self._unproved[entry.name] = entry.line
        if verdict is None:
            self.corrupt += 1
            self.state.count("corrupt")
        elif isinstance(verdict, Rejected):
            self.state.count("rejected")
        elif purged:
            self.state.count("dropped", "purged", lines)
        else:
            self.state.count("delivered", n=lines)

    def _save_offsets(self) -> None:
        for name, line in self._unproved.items():
            try:
                fd = os.open(f"{self.folder}/{name}", _READ)
            except OSError:
                continue
            offset, _ = self.state.offsets[name]
            # With the line that was acknowledged: because the file may have been replaced since it was read.
            self.state.offsets[name] = (offset, proof(fd, offset, line))
            os.close(fd)
        self._unproved.clear()
        self._save()

    def _save(self) -> bool:
        try:
            self.state.save(self.folder)
        except OSError as error:
            # Not a reason to stop: because what was delivered may be sent twice, and nothing is lost by that.
            self._tell("the progress could not be saved", error)
            return False
        return True

    def _finish(self, name: str) -> None:
        """Unlink a file that was acknowledged to its end and that nobody writes to any more."""
        path = f"{self.folder}/{name}"
        try:
            fd = os.open(path, _READ)
        except OSError:
            return
        try:
            if not stat.S_ISREG(os.fstat(fd).st_mode) or not lock_to_unlink(fd):
                return
            size = os.fstat(fd).st_size
            offset = trusted_offset(fd, self.state.offsets.get(name))
            if next(complete_lines(fd, offset, size), None):
                if name.startswith(CLAIM):
                    self._again.append(name)
                return
            self._keep_fragment(name, fd, offset, size)
            check_named(path, os.fstat(fd))
            self._remove(name, path)
        except (Moved, OSError):
            # Deleted or replaced under way, or the folder refuses: the next pass looks again.
            return
        finally:
            os.close(fd)

    def _keep_fragment(self, name: str, fd: int, offset: int, size: int) -> None:
        """Put what follows the last newline aside; its writer is dead, because we hold the lock."""
        if any(piece.strip(b"\0\n") for piece in pieces(fd, offset, size)):
            self._put_aside(name, fd, Run(offset, size, []))
            self._settle(Entry(name, size, b""), None)
            self._save_offsets()

    def _remove(self, name: str, path: str) -> None:
        if name in self.state.aside:
            own_folder(f"{self.folder}/{CORRUPT}")
            os.rename(path, f"{self.folder}/{CORRUPT}/{name}")
            self.state.aside.remove(name)
        else:
            os.unlink(path)
        self.state.offsets.pop(name, None)

    def _names(self) -> list[str]:
        return sorted(name for name in listed(self.folder) if name.startswith(READ_PREFIXES) and name.endswith(SUFFIX))

    def _claim_slots(self) -> None:
        """Rename what one-shot writers have left; without their lock: one that holds it is still read to the end."""
        for name, size in slot_sizes(self.folder):
            if size:
                try:
                    os.rename(f"{self.folder}/{name}", f"{self.folder}/{unique(CLAIM, self._now_ns())}")
                except FileNotFoundError:
                    continue
                except OSError as error:
                    self._tell(f"{name} could not be claimed", error)
