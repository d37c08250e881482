"""What the flusher does to the spool: take the lock, claim slots, read batches, move offsets, clean up.

Theory of operation. A pass reads what was there when it began: the slots, renamed to claims, and all other files up to their
size at that time. A batch may span files, so that fifty thousand files of one event need no more requests than one file.
Reading changes nothing except corrupt/; only `commit` moves offsets, and only `_finish` unlinks files. Recovery after a crash
is simply the next pass.
"""

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Callable, Iterator, Sequence

from rillevents.event.batch import Doubtful, LineVerdict, Rejected
from rillevents.local.files import CLOEXEC, NO_FOLLOW, NONBLOCK, Moved, check_named, discard, lock_to_unlink
from rillevents.spool import (
    BACKLOG,
    CLAIM,
    CORRUPT,
    READ_PREFIXES,
    REST,
    STATE,
    SUFFIX,
    TEMPORARY,
    listed,
    rest,
    tally,
    unique,
    unwritable,
)
from rillevents.spool.lines import Run, complete_lines, complete_runs
from rillevents.spool.offsets import Entry, Settled, SpoolBatch
from rillevents.spool.quarantine import COPY, RejectedFile, enforce_caps, keep_corrupt, own_folder, pieces
from rillevents.spool.slots import claim_slots, count_backlog
from rillevents.spool.state import State, load, proof, take_turn, trusted_offset

_READ = os.O_RDWR | NO_FOLLOW | CLOEXEC | NONBLOCK
# Gone since the listing, or not a regular file: a link, a socket, a folder.
NO_FILE = (errno.ENOENT, errno.ELOOP, errno.EMLINK, errno.ENXIO, errno.EISDIR)


class Drain:
    """The spool as its one flusher uses it; a context manager that holds the lock while it is open."""

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
        self._most = (batch_events, batch_bytes)
        self._now_ns = now_ns
        self._lock = -1
        self._rejected = RejectedFile(folder)
        self._copies = RejectedFile(folder, COPY)
        self._stuck: set[str] = set()
        self._unproved: dict[str, bytes] = {}
        self._again: list[str] = []

    def limit(self, events: int, size: int) -> None:
        """Let the next batches have at most so many events and bytes."""
        self._most = (events, size)

    def acquire(self) -> None:
        """Take the flusher's lock; raises Busy if another flusher has it, SpoolError if it cannot be taken."""
        try:
            self._lock = take_turn(self.folder)
            self.state = load(self.folder, now_ns=self._now_ns())
            rest.adopt(self.folder, self.state)
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
            return  # Nothing was written that could be lost.

    def release(self) -> None:
        """Save the state and release the lock."""
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
        """Delete half-written files of killed processes; a writer still busy with one tries again or does without it."""
        for name in listed(self.folder):
            if name.startswith(TEMPORARY) or (name.startswith((STATE, BACKLOG)) and name.endswith(".tmp")):
                discard(f"{self.folder}/{name}")

    def enforce_caps(self) -> int:
        """Delete what rejected/ and corrupt/ hold beyond their caps, oldest first, and return how many lines were deleted."""
        try:
            lost = enforce_caps(self.folder)
        except OSError as error:
            self._tell("rejected/ and corrupt/ could not be reduced to their caps", error)
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
        """Yield what is in the spool now; each batch must be committed in turn, or it stays.

        A batch may be requested before the previous one was committed.
        """
        claim_slots(self.folder, self._now_ns, self._tell)
        batch = SpoolBatch()
        for name in self._names():
            yield from self._fill(batch, name)
        yield from self._rest(batch)
        yield from self.added()

    def added(self) -> Iterator[SpoolBatch]:
        """Yield lines added to a file since `batches` finished with it; for a reader that reads ahead and commits later."""
        while self._again:
            # A writer that held the lock since before the claim has added lines. They were acknowledged, so send them, too.
            batch = SpoolBatch()
            yield from self._fill(batch, self._again.pop())
            yield from self._rest(batch)

    def _rest(self, batch: SpoolBatch) -> Iterator[SpoolBatch]:
        if batch.runs or batch.finished:
            yield batch.take()

    def _fill(self, batch: SpoolBatch, name: str) -> Iterator[SpoolBatch]:
        for run in self._runs(name):
            if not run.good and batch.count >= self._most[0]:
                yield batch.take()
            if batch.has_room_for(run, self._most) or not run.good:
                batch.add(name, run)
                continue
            for part in run.parts(batch.room(self._most), most := self._most):
                if not batch.has_room_for(part, most):
                    yield batch.take()
                batch.add(name, part)
        batch.finished.append(name)

    def _runs(self, name: str) -> Iterator[Run]:
        try:
            fd = os.open(f"{self.folder}/{name}", _READ)
        except OSError as error:
            if error.errno not in NO_FILE:
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
            # The rest of this file stays; the other files are not affected.
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
            # No room for a copy: the whole file moves there at its end, because a full disk must not stop delivery.
            self.state.aside.append(name)

    def commit(self, batch: SpoolBatch, verdicts: Sequence[LineVerdict], *, purged: bool = False) -> None:
        """Settle a batch, one verdict per line, in order; kept lines with a settled one behind them move to another file.

        *purged* counts as dropped what would otherwise count as delivered.
        """
        settled = list(batch.settled(verdicts))
        kept = self._put_rejected_aside(settled)
        before = self.state.copy()
        try:
            moved = self._move_rest(settled, kept)
            for each in settled:
                name, stays = each.entry.name, rest.stays(each, kept)
                if stays and name not in moved:
                    self._stuck.add(name)
                if name not in self._stuck:
                    self._pass(each.entry) if stays else self._settle(*each, purged)
            self._save_offsets()
            if moved:
                rest.adopt(self.folder, self.state)
        except BaseException:
            # Interrupted half-way: discard it all, since an offset and its count must agree.
            self.state, self._unproved = before, {}
            raise
        for name in batch.finished:
            if name not in self._stuck:
                self._finish(name)

    def _move_rest(self, settled: Sequence[Settled], kept: bool) -> set[str]:
        """Write the lines that stay to files of their own where lines behind them do not; return the files that they are from."""
        moved = set[str]()
        for name, lines in rest.lines_to_move(settled, self._stuck, kept).items():
            new = unique(REST, self._now_ns())
            try:
                rest.write(self.folder, new, lines)
                self.state.rests, moved = [*self.state.rests, new], moved | {name}
            except OSError as error:
                self._tell("events that were acknowledged will be sent again", error)
        return moved

    def _pass(self, entry: Entry) -> None:
        """Move the offset past a line."""
        self.state.offsets[entry.name] = (entry.end, -1)
        self._unproved[entry.name] = entry.line

    def _put_rejected_aside(self, settled: Sequence[Settled]) -> bool:
        """Write rejected lines to rejected/; True if that fails and they must stay where they are."""
        try:
            for file, kind in ((self._rejected, Rejected), (self._copies, Doubtful)):
                lines = [(entry.line, verdict.reason) for entry, verdict, _ in settled if isinstance(verdict, kind)]
                if lines:
                    file.add(lines)
        except OSError as error:
            self._tell("rejected events could not be moved to rejected/", error)
            return True
        return False

    def _settle(self, entry: Entry, verdict: LineVerdict | None, lines: int = 1, purged: bool = False) -> None:
        self._pass(entry)
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
            # Check the acknowledged line, too: the file may have been replaced since it was read.
            self.state.offsets[name] = (offset, proof(fd, offset, line))
            os.close(fd)
        self._unproved.clear()
        self._save()

    def _save(self) -> bool:
        try:
            self.state.save(self.folder)
        except OSError as error:
            # No reason to stop: delivered events may be sent twice, but nothing is lost.
            self._tell("the progress could not be saved", error)
            return False
        return True

    def _finish(self, name: str) -> None:
        """Unlink a file that is acknowledged to its end and has no writer any more."""
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
            # Deleted or replaced meanwhile, or the folder refuses: the next pass tries again.
            return
        finally:
            os.close(fd)

    def _keep_fragment(self, name: str, fd: int, offset: int, size: int) -> None:
        """Move what follows the last newline to corrupt/; its writer is dead, since we hold the lock."""
        if any(piece.strip(b"\0\n") for piece in pieces(fd, offset, size)):
            self._put_aside(name, fd, Run(offset, size, b"", 0))
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
