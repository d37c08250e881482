"""A model of the spool and all its users, in any order: acknowledged events are delivered or kept."""

from __future__ import annotations

import os
import random
import resource
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from unittest import mock

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from rillevents.errors import Busy, SpoolError
from rillevents.event import Event
from rillevents.event.batch import DELIVERED, HELD, UNSETTLED, LineVerdict, Rejected
from rillevents.local.files import lock
from rillevents.spool import create, live, tally, view
from rillevents.spool import slots as appending
from rillevents.spool.drain import Drain
from rillevents.spool.live import LiveWriter
from rillevents.spool.maintenance import purge, retry
from rillevents.spool.offsets import SpoolBatch
from rillevents.spool.slots import append
from rillevents.spool.state import load

from .faults.stepping import Report, Steps, Tell

PLENTY = 1 << 30
CLOCKS = [None, 0, 10**9, 10**18, 1 << 62, -1]
# How far a process may let its files grow: mostly, as far as it likes.
ROOMS = st.sampled_from([None, None, None, None, 0, 50, 150, 250, 400])
# Where a process stops next.
CALLS = st.sampled_from(
    ["open", "flock", "lstat", "listdir", "pread", "write", "ftruncate", "rename", "replace", "unlink", "close"]
)
KEPT = (HELD, UNSETTLED)
MOODS = {"good": [1, 0, 0, 0], "mixed": [12, 3, 1, 1], "bad": [1, 1, 2, 1]}
# What is left when all is delivered; an empty slot is one that nobody has claimed for nothing.
REMAINS = ("state.json", "flush.lock", "backlog", "rejected", "corrupt")


def decide(batch: SpoolBatch, rng: random.Random, mood: str) -> list[LineVerdict]:
    return rng.choices([DELIVERED, Rejected("no"), UNSETTLED, HELD], MOODS[mood], k=len(batch.batch))


@dataclass
class Flush:
    """How one pass of the flusher goes: what the destination says, how large the batches are, and what the clock shows."""

    seed: int
    mood: str
    batch_events: int
    clock: int | None

    def drain(self, folder: str) -> Drain:
        clock = self.clock
        settings = {} if clock is None else {"now_ns": lambda: clock}
        return Drain(folder, batch_events=self.batch_events, **settings)

    def run(self, folder: str, tell: Tell) -> None:
        rng = random.Random(self.seed)
        try:
            with self.drain(folder) as drain:
                tell("acquired")
                stuck: set[str] = set()
                for batch in drain.batches():
                    verdicts = decide(batch, rng, self.mood)
                    tell("sent", told(batch, verdicts, stuck))
                    drain.commit(batch, verdicts)
                    tell("committed")
        except Busy:
            tell("busy")


def told(batch: SpoolBatch, verdicts: list[LineVerdict], stuck: set[str]) -> list[tuple[str, str, bool]]:
    """Return (line, verdict, whether it stays in the spool): what is kept, and if that is the end of a file, all that follows."""
    verdict_of = iter(verdicts)
    entries = [(entry, next(verdict_of) if entry.line else None) for entry in batch.entries]
    names = {entry.name for entry in batch.entries}
    tails = {name for name in names if _is_kept_to_the_end([v for entry, v in entries if entry.name == name])}
    found = []
    for entry, verdict in entries:
        kept = verdict in KEPT
        if kept and entry.name in tails:
            stuck.add(entry.name)
        if verdict is not None:
            name = "rejected" if isinstance(verdict, Rejected) else verdict.value
            found.append((entry.line.decode(), name, kept or entry.name in stuck))
    return found


def _is_kept_to_the_end(verdicts: list[LineVerdict | None]) -> bool:
    kept = [verdict in KEPT for verdict in verdicts]
    return True in kept and all(kept[kept.index(True) :])


def storing(store: Callable[[bytes], None], lines: list[bytes], room: int | None) -> Callable[[Tell], None]:
    """Return the work of a process that stores *lines*, and says of each whether it was; *room*: its files grow no further."""

    def work(tell: Tell) -> None:
        if room is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (room, room))
        for number, line in enumerate(lines):
            try:
                store(line)
                tell("stored", number)
            except SpoolError:
                tell("refused", number)

    return work


@dataclass(eq=False)
class Actor:
    """A process that is stopped between two of its system calls."""

    kind: str
    steps: Steps
    lines: list[bytes] = field(default_factory=list)
    uncommitted: list[tuple[bytes, str, bool]] = field(default_factory=list)
    holds: bool = False
    orphan: bool = False
    purged: Counter[bytes] = field(default_factory=Counter)


@dataclass
class Model:
    """What has to come out.

    `stored` was acknowledged and nobody took it away; `attempted` may be there as well; `sent` reached the destination.
    `repeatable` may come twice; where `exact` is false, everything may. `put_back` was rejected, and may come late.
    """

    attempted: Counter[bytes] = field(default_factory=Counter)
    stored: Counter[bytes] = field(default_factory=Counter)
    sent: Counter[bytes] = field(default_factory=Counter)
    order: list[bytes] = field(default_factory=list)
    repeatable: set[bytes] = field(default_factory=set)
    put_back: set[bytes] = field(default_factory=set)
    delivered: int = 0
    refused: int = 0
    exact: bool = True
    counts_kept: bool = True
    tally_kept: bool = True
    disk_was_full: bool = False
    damaged: bool = False

    def send(self, line: bytes, verdict: str, stays: bool) -> None:
        if verdict == "delivered":
            self.sent[line] += 1
            self.order.append(line)
        if stays:
            self.repeatable.add(line)


class SpoolMachine(RuleBasedStateMachine):
    """One spool, its writers and its flushers, and what else may happen to a folder."""

    where: str | None = None

    def __init__(self) -> None:
        super().__init__()
        self.place = tempfile.mkdtemp(prefix="spool-machine-", dir=self.where)
        self.spool = f"{self.place}/spool"
        self.folder = create(self.spool)
        self.model = Model()
        self.serial = 0
        self.actors: list[Actor] = []
        self.writers: list[LiveWriter] = []
        self.by_file: dict[str, list[bytes]] = {}
        self.copies: list[tuple[str, bytes]] = []

    # Writers

    def new_line(self, pad: int) -> bytes:
        """Return a line that differs from others of its size near its beginning only."""
        self.serial += 1
        line = Event(
            "t", "n", {"pad": "x" * pad}, event_id=f"{self.serial:04d}", event_time="2026-11-23T10:00:00Z"
        ).line
        self.model.attempted[line] += 1
        return line

    def store(self, line: bytes) -> None:
        append(self.folder, line, max_bytes=PLENTY)

    @rule(pad=st.sampled_from([0, 100, 5000]))
    def record(self, pad: int) -> None:
        line = self.new_line(pad)
        self.store(line)
        self.model.stored[line] += 1

    @precondition(lambda self: self.serial)
    @rule()
    def record_the_same_again(self) -> None:
        line = sorted(self.model.attempted)[-1]
        self.model.attempted[line] += 1
        self.store(line)
        self.model.stored[line] += 1

    @precondition(lambda self: len(self.writers) < 3)
    @rule()
    def open_writer(self) -> None:
        self.writers.append(LiveWriter(self.spool, max_bytes=PLENTY))

    @precondition(lambda self: self.writers)
    @rule(
        which=st.integers(0, 2),
        pads=st.lists(st.sampled_from([0, 100, 1500]), min_size=1, max_size=3),
        close=st.booleans(),
    )
    def write(self, which: int, pads: list[int], close: bool) -> None:
        writer = self.writers[which % len(self.writers)]
        for pad in pads:
            self.back_up(os.path.basename(writer._path))
            line = self.new_line(pad)
            writer.append(line)
            self.model.stored[line] += 1
            self.by_file.setdefault(writer._path, []).append(line)
        if close:
            writer.close()

    @rule(n=st.integers(1, 9))
    def count(self, n: int) -> None:
        assert tally.add(self.spool, "refused", n=n)
        self.model.refused += n

    @rule(
        cut=st.integers(1, 300), where=st.sampled_from(["slot-0", "slot-1", "live-00000000000000000000-00", "tally-0"])
    )
    def tear(self, cut: int, where: str) -> None:
        """Leave what a writer leaves that is killed in the middle of its write."""
        line = self.new_line(100)
        self.damage(where, line[: min(cut, len(line) - 1)])

    @rule(
        data=st.sampled_from([b"\0" * 50, b"garbage\n", b'{"event_id":1}\n', b"\n\n"]),
        where=st.sampled_from(["slot-0", "slot-1"]),
    )
    def damage(self, where: str, data: bytes) -> None:
        self.model.damaged = True
        fd = os.open(f"{self.folder}/{where}.ndjson", os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            if lock(fd):
                size = os.fstat(fd).st_size
                torn = size and os.pread(fd, 1, size - 1) not in (b"\n", b"\0")
                os.write(fd, b"\n" * bool(torn) + data)
        finally:
            os.close(fd)

    # Processes that can be stopped anywhere

    def start(self, to: str, kind: str, work: Callable[[Tell], None], lines: list[bytes] | None = None) -> None:
        actor = Actor(kind, Steps(work), lines or [])
        self.actors.append(actor)
        self.hear(actor, actor.steps.step_to(to))

    room_for_another = precondition(lambda self: len(self.actors) < 3)

    @room_for_another
    @rule(
        to=CALLS,
        pads=st.lists(st.sampled_from([0, 100]), min_size=1, max_size=2),
        room=ROOMS,
    )
    def start_one_shot(self, to: str, pads: list[int], room: int | None) -> None:
        lines = [self.new_line(pad) for pad in pads]
        self.start(to, "writer", storing(self.store, lines, room), lines)

    @room_for_another
    @rule(
        to=CALLS,
        pads=st.lists(st.sampled_from([0, 100, 1500]), min_size=1, max_size=3),
        room=ROOMS,
        inherited=st.booleans(),
    )
    def start_live(self, to: str, pads: list[int], room: int | None, inherited: bool) -> None:
        lines = [self.new_line(pad) for pad in pads]
        writer = self.writers[0] if inherited and self.writers else LiveWriter(self.spool, max_bytes=PLENTY)
        self.start(to, "writer", storing(writer.append, lines, room), lines)

    @room_for_another
    @rule(
        to=CALLS,
        seed=st.integers(0, 99),
        mood=st.sampled_from(sorted(MOODS)),
        batch_events=st.integers(1, 4),
        clock=st.sampled_from(CLOCKS),
        room=ROOMS,
    )
    def start_flush(
        self, to: str, seed: int, mood: str, batch_events: int, clock: int | None, room: int | None
    ) -> None:
        flush = Flush(seed, mood, batch_events, clock)

        def work(tell: Tell) -> None:
            if room is not None:
                resource.setrlimit(resource.RLIMIT_FSIZE, (room, room))
            flush.run(self.folder, tell)

        if room is not None:
            self.model.disk_was_full = True
            self.model.exact = self.model.counts_kept = False
        self.start(to, "flush", work)

    @room_for_another
    @precondition(lambda self: not any(actor.orphan for actor in self.actors))
    @rule(to=CALLS, kind=st.sampled_from(["retry", "purge"]))
    def start_other(self, to: str, kind: str) -> None:
        """Start what takes the flusher's lock for something else."""

        def work(tell: Tell) -> None:
            try:
                {"retry": retry, "purge": purge}[kind](self.spool)
            except Busy:
                tell("busy")

        rejected = [entry.line for entry in view.rejected(self.spool)]
        self.model.put_back.update(rejected)
        self.start(to, kind, work, rejected)

    some_actor = precondition(lambda self: self.actors)

    @some_actor
    @rule(which=st.integers(0, 2), to=CALLS)
    def step(self, which: int, to: str) -> None:
        actor = self.actors[which % len(self.actors)]
        self.hear(actor, actor.steps.step() + actor.steps.step_to(to))

    @some_actor
    @rule(which=st.integers(0, 2))
    def finish(self, which: int) -> None:
        actor = self.actors[which % len(self.actors)]
        self.hear(actor, actor.steps.finish())

    @some_actor
    @rule(which=st.integers(0, 2))
    def kill(self, which: int) -> None:
        actor = self.actors[which % len(self.actors)]
        actor.steps.kill()
        self.actors.remove(actor)
        self.model.damaged = self.model.damaged or actor.kind == "writer"
        self.model.repeatable.update(line for line, _, _ in actor.uncommitted)
        if actor.kind == "retry":
            self.model.repeatable.update(actor.lines)
        if actor.kind != "writer" and self.model.counts_kept:
            self.settle_counts(actor)

    def settle_counts(self, actor: Actor) -> None:
        """Whether a killed flush had committed what it had sent is told by the ledger, by all of it or nothing."""
        counted = load(self.folder).counts["delivered"]
        at_most = sum(verdict == "delivered" and not stays for _, verdict, stays in actor.uncommitted)
        assert counted - self.model.delivered in (0, at_most)
        self.model.delivered = counted

    def hear(self, actor: Actor, reports: list[Report]) -> None:
        for kind, *report in reports:
            getattr(self, f"on_{kind}")(actor, *report)
        if any(other.kind == "purge" for other in self.actors):
            # Events recorded during a purge may be deleted with the rest.
            self.model.stored.clear()
        if actor.steps.over:
            self.actors.remove(actor)

    def on_stored(self, actor: Actor, number: int) -> None:
        line = actor.lines[number]
        if actor.purged[line]:
            # Stored, and purged before its writer could say so.
            actor.purged[line] -= 1
        else:
            self.model.stored[line] += 1

    def on_refused(self, actor: Actor, number: int) -> None:
        self.model.attempted[actor.lines[number]] -= 1

    def on_busy(self, actor: Actor) -> None:
        assert actor.kind != "writer"

    def on_acquired(self, actor: Actor) -> None:
        others = [other for other in self.actors if other is not actor and other.holds]
        # An orphan holds the lock of a file that was deleted since.
        assert actor.orphan or all(other.orphan for other in others)
        actor.holds = True

    def on_sent(self, actor: Actor, sent: list[tuple[str, str, bool]]) -> None:
        for text, verdict, stays in sent:
            self.model.send(text.encode(), verdict, stays)
            actor.uncommitted.append((text.encode(), verdict, stays))

    def on_committed(self, actor: Actor) -> None:
        self.model.delivered += sum(verdict == "delivered" and not stays for _, verdict, stays in actor.uncommitted)
        actor.uncommitted.clear()

    # Whole passes

    @property
    def flusher_about(self) -> bool:
        return any(actor.kind != "writer" for actor in self.actors)

    @rule(seed=st.integers(0, 99), mood=st.sampled_from(sorted(MOODS)), clock=st.sampled_from(CLOCKS))
    def flush(self, seed: int, mood: str, clock: int | None) -> None:
        reports: list[Report] = []
        Flush(seed, mood, 3, clock).run(self.folder, lambda *report: reports.append(list(report)))
        actor = Actor("flush", mock.Mock(over=False))
        for kind, *report in reports:
            if kind == "busy":
                assert self.flusher_about
            else:
                getattr(self, f"on_{kind}")(actor, *report)

    @precondition(lambda self: not any(actor.orphan for actor in self.actors))
    @rule()
    def purge(self) -> None:
        before = Counter(view.pending(self.spool))
        try:
            purge(self.spool)
        except Busy:
            assert self.flusher_about
            return
        for actor in self.actors:
            actor.purged += Counter(actor.lines) & before
        assert [] == list(view.pending(self.spool))
        assert [] == list(view.rejected(self.spool))
        self.model.stored.clear()

    # What else may happen to a folder

    @rule()
    def forget_state(self) -> None:
        Path(self.folder, "state.json").unlink(missing_ok=True)
        self.lose_state()

    @precondition(lambda self: os.path.exists(f"{self.folder}/state.json"))
    @rule(part=st.integers(0, 99))
    def cut_state(self, part: int) -> None:
        path = Path(self.folder, "state.json")
        path.write_bytes(path.read_bytes()[: path.stat().st_size * part // 100])
        self.lose_state()

    def lose_state(self) -> None:
        self.model.repeatable.update(self.model.attempted)
        self.model.counts_kept = self.model.tally_kept = False

    @precondition(lambda self: not any(actor.kind == "retry" for actor in self.actors))
    @rule()
    def delete_lock(self) -> None:
        Path(self.folder, "flush.lock").unlink(missing_ok=True)
        for actor in self.actors:
            if actor.kind != "writer":
                actor.orphan = True
                self.model.exact = self.model.counts_kept = self.model.tally_kept = False

    @rule()
    def delete_backlog(self) -> None:
        Path(self.folder, "backlog").unlink(missing_ok=True)

    def event_files(self) -> list[str]:
        prefixes = ("slot-", "live-", "claim-", "done-")
        return sorted(name for name in os.listdir(self.folder) if name.startswith(prefixes))

    @precondition(lambda self: self.event_files())
    @rule(which=st.integers(0, 9), part=st.sampled_from([100, 100, 70, 30]))
    def copy(self, which: int, part: int) -> None:
        self.back_up(self.event_files()[which % len(self.event_files())], part)

    def back_up(self, name: str, part: int = 100) -> None:
        """Take a copy of a file, of the front part of it; of one that may still have its writer, up to the end of a line."""
        path = Path(self.folder, name)
        if path.is_file():
            content = path.read_bytes()
            content = content[: len(content) * part // 100]
            if name.startswith("live-"):
                content = content[: content.rfind(b"\n") + 1]
            self.copies.insert(0, (name, content))

    @precondition(lambda self: self.event_files())
    @rule(which=st.integers(0, 9))
    def swap(self, which: int) -> None:
        """Put a file of the same content in a file's place, as an editor does, or a tool that makes backups."""
        path = Path(self.folder, self.event_files()[which % len(self.event_files())])
        Path(self.place, "copy").write_bytes(path.read_bytes())
        os.replace(f"{self.place}/copy", path)

    @precondition(lambda self: self.copies)
    @rule(which=st.integers(0, 9), in_place=st.booleans())
    def restore(self, which: int, in_place: bool) -> None:
        """Put a copy in its place: what stands there now is gone, and what it holds may come again."""
        name, content = self.copies[which % len(self.copies)]
        self.model.damaged = self.model.damaged or content[-1:] not in (b"", b"\n")
        path = Path(self.folder, name)
        if path.exists():
            self.model.stored.subtract(Counter(path.read_bytes().splitlines(keepends=True)))
        if in_place and not any(actor.kind == "writer" for actor in self.actors):
            path.write_bytes(content)
        else:
            Path(self.place, "copy").write_bytes(content)
            os.replace(f"{self.place}/copy", path)
        self.model.repeatable.update(content.splitlines(keepends=True))
        self.model.counts_kept = False

    # What has to hold

    @invariant()
    def nothing_is_lost(self) -> None:
        there = Counter(view.pending(self.spool)) + Counter(entry.line for entry in view.rejected(self.spool))
        there += self.model.sent
        assert not self.model.stored - there, "lost"
        assert not there.keys() - (+self.model.attempted).keys(), "unknown"

    @invariant()
    def the_ledger_is_right(self) -> None:
        ledger = view.ledger(self.spool)
        assert ledger
        assert all(count >= 0 for count in ledger.counts.values())
        if self.model.tally_kept:
            assert self.model.refused == ledger.counts["refused"]

    def teardown(self) -> None:
        try:
            while self.actors:
                self.kill(0)
            self.nothing_is_lost()
            for writer in self.writers:
                writer.close()
            for _ in range(3):
                self.flush(0, "good", None)
            self.check_the_end()
        finally:
            for actor in self.actors:
                actor.steps.kill()
            shutil.rmtree(self.place)

    def check_the_end(self) -> None:
        assert 0 == view.contents(self.spool).events
        self.nothing_is_lost()
        self.the_ledger_is_right()
        assert [] == list(view.pending(self.spool))
        left = [name for name in os.listdir(self.folder) if os.path.getsize(f"{self.folder}/{name}")]
        assert not set(left) - set(REMAINS)
        model = self.model
        if model.counts_kept:
            assert model.delivered == load(self.folder).counts["delivered"]
        if model.exact:
            found = model.sent + Counter(entry.line for entry in view.rejected(self.spool))
            assert not {line for line in found - model.attempted if line not in model.repeatable}, "sent twice"
            self.check_order()
        if not model.disk_was_full:
            put_aside = b"|".join(path.read_bytes() for path in Path(self.folder).glob("corrupt/*"))
            assert not [line for line in model.attempted if line in put_aside]
            assert model.damaged or not put_aside

    def check_order(self) -> None:
        """Each long-lived writer's lines came in its order, but for those that came twice or were put back."""
        once = {line: place for place, line in enumerate(self.model.order) if self.model.sent[line] == 1}
        for lines in self.by_file.values():
            places = [once[line] for line in lines if line in once.keys() - self.model.repeatable - self.model.put_back]
            assert places == sorted(places)


class InMemory(SpoolMachine):
    """The same where nothing waits for a disk, so that more of it can be tried."""

    where = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform cannot fork")
@pytest.mark.parametrize(
    ("machine", "examples"),
    [
        pytest.param(SpoolMachine, 20, id="disk"),
        pytest.param(InMemory, 150, id="memory", marks=pytest.mark.slow),
    ],
)
def test_whatever_happens(machine: type[SpoolMachine], examples: int) -> None:
    """Writers, flushes, kills and tampering, in any order: no stored event is lost or altered, none is sent twice needlessly."""
    # Few slots and small files: what happens where none is free, or one is full, is to happen often.
    with mock.patch.object(live, "MAX_FILE_BYTES", 4000), mock.patch.object(appending, "SLOTS", 2):
        run_state_machine_as_test(
            machine,
            settings=settings(
                max_examples=examples,
                stateful_step_count=40,
                deadline=None,
                print_blob=True,
                suppress_health_check=list(HealthCheck),
            ),
        )
