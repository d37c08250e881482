"""The races that the spool's protocol is there for, each gone through stop by stop.

    python tests/faults/mutants.py [SCENARIO]...

A scenario lets one process stop before each of its system calls in turn, kills it there or lets somebody else act, and looks at
what came out. The exit code is 1 where an acknowledged event was lost, altered, or sent twice without need: as it has to be once
the protocol is broken on purpose. What breaks it is in test_mutants.py.
"""

from __future__ import annotations

import os
import resource
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import product
from pathlib import Path

from stepping import Report, Steps, Tell

from rillevents.delivery.flusher import Flusher
from rillevents.delivery.outcome import Kind, Outcome
from rillevents.errors import Busy, SpoolError
from rillevents.event import Event
from rillevents.event.batch import DELIVERED, Batch
from rillevents.spool import create, tally, view
from rillevents.spool.drain import Drain
from rillevents.spool.live import LiveWriter
from rillevents.spool.slots import append
from rillevents.spool.state import load

PLENTY = 1 << 30
IN_MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


class Caught(Exception):
    """Something came out that must not."""


class Spool:
    """A spool, what was acknowledged in it, and what was delivered from it."""

    def __init__(self, place: str) -> None:
        self.path = f"{place}/spool"
        self.folder = create(self.path)
        self.stored: Counter[bytes] = Counter()
        self.sent: Counter[bytes] = Counter()
        self.serial = 0

    def line(self, pad: int = 100) -> bytes:
        """Return a line that differs from others of its size near its beginning only."""
        self.serial += 1
        event = Event("t", "n", {"pad": "x" * pad}, event_id=f"{self.serial:04d}", event_time="2026-11-23T10:00:00Z")
        return event.line

    def record(self, line: bytes = b"") -> None:
        line = line or self.line()
        append(self.folder, line, max_bytes=PLENTY)
        self.stored[line] += 1

    def writer(self) -> LiveWriter:
        return LiveWriter(self.path, max_bytes=PLENTY)

    def write(self, writer: LiveWriter, pad: int = 100) -> None:
        line = self.line(pad)
        writer.append(line)
        self.stored[line] += 1

    def recording(self, lines: list[bytes], room: int | None = None) -> Callable[[Tell], None]:
        """Return the work of a process that records *lines* one by one, as `record` does."""
        return storing(lambda line: append(self.folder, line, max_bytes=PLENTY), lines, room)

    def drain(self, tell: Tell) -> None:
        """Be a flusher whose destination takes everything, two events at a time."""
        try:
            with Drain(self.folder, batch_events=2) as drain:
                for batch in drain.batches():
                    tell("sent", [line.decode() for line in batch.batch.lines])
                    drain.commit(batch, [DELIVERED] * len(batch.batch))
        except Busy:
            tell("busy")

    def flush(self) -> None:
        """Deliver everything, as a flusher that nothing disturbs."""
        self.drain(lambda *report: self.hear([list(report)], []))

    def hear(self, reports: list[Report], lines: list[bytes]) -> None:
        """Take down what a process has told: what it has sent, and which of its own lines were stored."""
        for kind, *told in reports:
            if kind == "sent":
                self.sent.update(text.encode() for text in told[0])
            elif kind == "stored":
                self.stored[lines[told[0]]] += 1

    def check(self, *, once: bool = True) -> None:
        """Deliver what is left, and hold what came out against what was acknowledged."""
        self.flush()
        self.flush()
        found = self.sent + Counter(entry.line for entry in view.rejected(self.path))
        if self.stored - found:
            raise Caught(f"lost: {len(self.stored - found)} of {self.stored.total()} events")
        if once and found - self.stored:
            raise Caught(f"sent twice, or unknown: {len(found - self.stored)} events")
        left = [
            name
            for name in os.listdir(self.folder)
            if name.endswith(".ndjson") and os.path.getsize(f"{self.folder}/{name}")
        ]
        if left:
            raise Caught(f"left over: {left}")

    def files(self, prefix: str) -> list[Path]:
        return sorted(Path(self.folder).glob(f"{prefix}*"))


@contextmanager
def a_spool() -> Iterator[Spool]:
    place = tempfile.mkdtemp(prefix="mutants-", dir=IN_MEMORY)
    try:
        yield Spool(place)
    finally:
        shutil.rmtree(place)


def no_room_beyond(size: int) -> None:
    """Let this process's files grow to so many bytes and no further."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


def storing(store: Callable[[bytes], None], lines: list[bytes], room: int | None = None) -> Callable[[Tell], None]:
    """Return the work of a process that stores *lines*; with *room* the disk is full for the first of them."""

    def work(tell: Tell) -> None:
        if room is not None:
            no_room_beyond(room)
        for number, line in enumerate(lines):
            try:
                store(line)
                tell("stored", number)
            except SpoolError:
                tell("refused", number)
            no_room_beyond(resource.RLIM_INFINITY)

    return work


def stops(play: Callable[[Spool, int], bool]) -> None:
    """Play with a new spool for each of the stops of a process, until it is over before it is stopped."""
    n, over = 0, False
    while not over:
        n += 1
        with a_spool() as spool:
            over = play(spool, n)


def interrupt(
    spool: Spool, work: Callable[[Tell], None], n: int, act: Callable[[str], object], lines: list[bytes]
) -> bool:
    """Stop a process after *n* system calls, act (on the call that it stands before), and let it go on.

    Returns whether it was over by then; then nobody has acted. *lines* are those that it stores.
    """
    process = Steps(work)
    spool.hear(process.step(n), lines)
    over = process.over
    if not over:
        act(process.at)
    spool.hear(process.finish(), lines)
    return over


# A flush that is killed


class Destination:
    """Takes everything but the second event of each batch, and tells what it took."""

    def __init__(self, tell: Tell) -> None:
        self.tell = tell

    def export(self, batch: Batch) -> Outcome:
        refused = ((1, "no"),) if len(batch) > 1 else ()
        self.tell("sent", [line.decode() for n, line in enumerate(batch.lines) if (n, "no") not in refused])
        return Outcome(Kind.ACCEPTED, rejected=refused)

    def close(self) -> None:
        return


def flush_killed() -> None:
    """A flush is killed before each of its system calls: what it had not delivered comes, what was counted counts once."""

    def play(spool: Spool, n: int) -> bool:
        for _ in range(3):
            spool.record()
        writer = spool.writer()
        spool.write(writer)
        spool.write(writer)
        tally.add(spool.path, "refused", n=5)

        def work(tell: Tell) -> None:
            Flusher(Destination(tell), batch_events=3).flush([spool.path])

        flusher = Steps(work)
        spool.hear(flusher.step(n), [])
        over = flusher.over
        flusher.kill()
        writer.close()
        spool.check(once=False)
        if load(spool.folder).counts["refused"] != 5:
            raise Caught("counted more or less than once")
        return over

    stops(play)


# An event is recorded during a flush


def record_under_way() -> None:
    """A flush is stopped before each of its system calls, and somebody records meanwhile: nothing is lost or sent twice."""

    def play(spool: Spool, n: int, how: str) -> bool:
        writer = spool.writer()
        spool.record()
        spool.write(writer)

        def act(_: str) -> None:
            if how == "one-shot":
                spool.record()
                return
            spool.write(writer)
            if how == "last":
                writer.close()

        over = interrupt(spool, spool.drain, n, act, [])
        writer.close()
        spool.check()
        return over

    for how in ("one-shot", "live", "last"):
        stops(lambda spool, n, how=how: play(spool, n, how))


def two_flushers() -> None:
    """A flush is stopped before each of its system calls, and another is started: that one sends nothing twice."""

    def play(spool: Spool, n: int) -> bool:
        for _ in range(3):
            spool.record()
        over = interrupt(spool, spool.drain, n, lambda _: spool.flush(), [])
        spool.check()
        return over

    stops(play)


# Somebody flushes, or deletes a file, while another one records


def flush_on_a_full_disk(spool: Spool) -> None:
    def work(tell: Tell) -> None:
        no_room_beyond(0)
        spool.drain(tell)

    spool.hear(Steps(work).finish(), [])


def flush_while_recording() -> None:
    """A writer is stopped before each of its system calls, and a flush runs meanwhile: its event is delivered, once."""

    def play(spool: Spool, n: int) -> bool:
        spool.record()
        lines = [spool.line()]
        over = interrupt(spool, spool.recording(lines), n, lambda _: spool.flush(), lines)
        spool.check()
        return over

    stops(play)


def file_moved_while_recording() -> None:
    """The same, and the flush moves the writer's file to corrupt/, because there is damage in it and no room for a copy."""

    def play(spool: Spool, n: int) -> bool:
        spool.record()
        with open(f"{spool.folder}/slot-0.ndjson", "ab") as file:
            file.write(b"garbage\n")
        lines = [spool.line()]
        over = interrupt(spool, spool.recording(lines), n, lambda _: flush_on_a_full_disk(spool), lines)
        spool.check(once=False)
        return over

    stops(play)


def deleted_while_recording() -> None:
    """A writer is stopped before each of its system calls, and its file is deleted: what it says afterwards holds."""

    def play(spool: Spool, n: int, live: bool) -> bool:
        lines = [spool.line()]
        work = storing(spool.writer().append, lines) if live else spool.recording(lines)

        def act(at: str) -> None:
            files = [*spool.files("slot-"), *spool.files("live-")]
            # Later it is as if the file had been deleted after the answer, and that is beyond any writer's help.
            if at != "close" or lines != [path.read_bytes() for path in files]:
                for path in files:
                    path.unlink()

        over = interrupt(spool, work, n, act, lines)
        spool.check()
        return over

    stops(lambda spool, n: play(spool, n, live=False))
    stops(lambda spool, n: play(spool, n, live=True))


def deleted_between_records() -> None:
    """The file of a long-lived writer is deleted between two of its events: the second is in a new one."""
    with a_spool() as spool:
        writer = spool.writer()
        writer.append(spool.line())
        for path in spool.files("live-"):
            path.unlink()
        spool.write(writer)
        spool.write(writer)
        writer.close()
        spool.check()


# What was left behind


def torn_tail() -> None:
    """A killed writer's fragment, cut off anywhere, swallows nothing of what comes after it."""
    for cut in range(1, 60, 7):
        with a_spool() as spool:
            spool.record()
            with open(f"{spool.folder}/slot-0.ndjson", "ab") as file:
                file.write(spool.line()[:cut])
            spool.record()
            spool.record()
            spool.check()


def full_disk() -> None:
    """Where only a part of a line fits on the disk nothing of it stays, and the lines around it are whole."""
    for live, room in product((False, True), range(0, 600, 50)):
        with a_spool() as spool:
            lines = [spool.line(), spool.line()]
            if live:
                work = storing(spool.writer().append, lines, room)
            else:
                spool.record()
                work = spool.recording(lines, room)
            spool.hear(Steps(work).finish(), lines)
            spool.check()
            if spool.files("corrupt"):
                raise Caught("a part of a line was left behind")


def full_disk_in_a_child() -> None:
    """A forked child on a full disk, stopped before each of its system calls, cuts nothing off that its parent writes."""

    def play(spool: Spool, n: int) -> bool:
        writer = spool.writer()
        spool.write(writer)
        lines = [spool.line()]
        work = storing(writer.append, lines, only(spool.files("live-")).stat().st_size + 20)
        over = interrupt(spool, work, n, lambda _: spool.write(writer), lines)
        writer.close()
        spool.check()
        return over

    stops(play)


# An older copy


def older_copy() -> None:
    """An older copy of a file takes its place and grows to its size: what was added to it is delivered."""
    for pad in (0, 100, 3000):
        with a_spool() as spool:
            writer = spool.writer()
            spool.write(writer)
            copy = only(spool.files("live-")).read_bytes()
            writer.append(spool.line(pad))
            spool.flush()
            only(spool.files("live-")).write_bytes(copy)
            spool.write(writer, pad)
            writer.close()
            spool.check(once=False)


def older_copy_under_way() -> None:
    """The same, while a flush is stopped before each of its system calls."""

    def play(spool: Spool, n: int) -> bool:
        writer = spool.writer()
        spool.write(writer)
        copy = only(spool.files("live-")).read_bytes()
        writer.append(spool.line())

        def act(_: str) -> None:
            only(spool.files("live-")).write_bytes(copy)
            spool.write(writer)

        over = interrupt(spool, spool.drain, n, act, [])
        writer.close()
        spool.check(once=False)
        return over

    stops(play)


def only(paths: list[Path]) -> Path:
    """Return the one path of a list."""
    (path,) = paths
    return path


SCENARIOS = {
    scenario.__name__: scenario
    for scenario in (
        flush_killed,
        record_under_way,
        two_flushers,
        flush_while_recording,
        file_moved_while_recording,
        deleted_while_recording,
        deleted_between_records,
        torn_tail,
        full_disk,
        full_disk_in_a_child,
        older_copy,
        older_copy_under_way,
    )
}


def main(names: list[str]) -> int:
    """Play scenarios, all of them where none is named; 1 where one has caught something."""
    for name in names or SCENARIOS:
        try:
            SCENARIOS[name]()
        except Caught as caught:
            print(f"{name}: {caught}")
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
