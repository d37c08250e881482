"""When passes are made: the scheduler, and the turns that processes take, with clocks of the test's own."""

from __future__ import annotations

import errno
import json
import os
import threading
from pathlib import Path

import pytest
from support import Clock

from rillevents.delivery.outcome import FlushOutcome, FlushResult
from rillevents.delivery.schedule import Scheduler
from rillevents.delivery.turns import Turns, backoff, forget_failures, last_pass
from rillevents.errors import Busy, SpoolError, UsageError
from rillevents.spool import AUTO, LONGEST_BACKOFF, is_auto_due

DELIVERED, DOWN = FlushResult(FlushOutcome.DELIVERED), FlushResult(FlushOutcome.TEMPORARY, reason="down")


class Passes:
    """What a scheduler delivers: the given results, one a pass, each an exception or a result; the last one again and again."""

    def __init__(self, *results: FlushResult | Exception) -> None:
        self.results = list(results)
        self.count = 0

    def __call__(self) -> FlushResult:
        self.count += 1
        found = self.results.pop(0) if self.results[1:] else self.results[0]
        if isinstance(found, Exception):
            raise found
        return found


def waits(scheduler: Scheduler, most: int) -> list[float]:
    """Return what a scheduler waits between its first passes."""
    found: list[float] = []

    def wait(seconds: float) -> bool:
        found.append(seconds)
        return len(found) == most

    scheduler.run(wait)
    return found


def test_passes_come_at_the_interval() -> None:
    """A pass is made at once, and then one each interval, until the wait says that it is over."""
    passes = Passes(DELIVERED)
    assert [30.0, 30.0, 30.0] == waits(Scheduler(passes, 30.0), 3)
    assert 3 == passes.count


def test_in_a_thread_of_a_program() -> None:
    """An event of `threading` is what it can wait for; one that is set ends it after the pass."""
    passes, ended = Passes(DELIVERED), threading.Event()
    ended.set()
    Scheduler(passes, 30.0).run(ended.wait)
    assert 1 == passes.count


def test_failures_are_waited_for_longer() -> None:
    """After each failure the wait doubles, up to ten minutes; after a success it is the interval again."""
    assert [60.0, 120.0, 30.0] == waits(Scheduler(Passes(DOWN, DOWN, DELIVERED), 30.0), 3)
    assert LONGEST_BACKOFF == waits(Scheduler(Passes(DOWN), 30.0), 20)[-1]
    assert 3600.0 == waits(Scheduler(Passes(DOWN), 3600.0), 4)[-1]


@pytest.mark.parametrize(
    ("outcome", "has_failed"),
    [("delivered", False), ("empty", False), ("off", False), ("rejected", False)]
    + [("temporary", True), ("refused", True), ("unconfigured", True)],
)
def test_what_counts_as_a_failure(outcome: str, has_failed: bool) -> None:
    """What keeps events back is a failure; refused events, an empty spool and an opt-out are none."""
    scheduler = Scheduler(Passes(FlushResult(FlushOutcome(outcome))), 1.0)
    assert has_failed == (waits(scheduler, 1) != [1.0])


def test_another_flush_is_no_failure() -> None:
    """A flush that runs already changes nothing about the next pass, before or after failures."""
    scheduler = Scheduler(Passes(Busy("another"), DOWN, Busy("another"), DELIVERED), 1.0)
    assert [1.0, 2.0, 2.0, 1.0] == waits(scheduler, 4)


def test_a_broken_spool_does_not_end_it() -> None:
    """A spool that cannot be used is the result of that pass, a failure; an error of the caller's is raised."""
    told: list[FlushResult] = []
    scheduler = Scheduler(Passes(SpoolError("full"), DELIVERED), 1.0, on_pass=told.append)
    assert [2.0, 1.0] == waits(scheduler, 2)
    assert [("temporary", "full"), ("delivered", "")] == [(done.outcome, done.reason) for done in told]
    with pytest.raises(UsageError):
        Scheduler(Passes(UsageError("no")), 1.0).run_pass()


def test_consent_is_asked_for_each_pass(tmp_path: Path) -> None:
    """Before each pass it is asked whether one is allowed; without it nothing is delivered, and no file is made."""
    allowed = iter([True, False, True])
    passes = Passes(DELIVERED)
    scheduler = Scheduler(passes, 1.0, is_allowed=lambda: next(allowed))
    assert [DELIVERED, None, DELIVERED] == [scheduler.run_pass() for _ in range(3)]
    scheduler = Scheduler(passes, 1.0, is_allowed=lambda: False, turns=Turns(str(tmp_path), 1.0))
    assert scheduler.run_pass() is None
    assert 2 == passes.count
    assert [] == list(tmp_path.iterdir())


def schedulers(folder: Path, clock: Clock, passes: Passes, every: float = 30.0) -> list[Scheduler]:
    """Return two schedulers, as of two processes, that take turns."""
    return [Scheduler(passes, every, turns=Turns(str(folder), every, clock=clock)) for _ in range(2)]


def test_one_pass_an_interval_among_processes(tmp_path: Path) -> None:
    """Of all who share a spool one makes a pass in an interval."""
    clock, passes = Clock(), Passes(DELIVERED)
    one, other = schedulers(tmp_path, clock, passes)
    assert [DELIVERED, None, None] == [one.run_pass(), other.run_pass(), one.run_pass()]
    clock.sleep(29.9)
    assert other.run_pass() is None
    clock.sleep(0.2)
    assert [DELIVERED, None] == [other.run_pass(), one.run_pass()]
    assert 2 == passes.count


def test_back_off_is_on_the_disk(tmp_path: Path) -> None:
    """After failures the next pass is due later for every process, with the failures counted on, until one succeeds."""
    clock, passes = Clock(), Passes(DOWN, DOWN, DELIVERED)
    one, other = schedulers(tmp_path, clock, passes)
    assert DOWN == one.run_pass()
    assert (1, "temporary", "down") == tuple(last_pass(str(tmp_path)).values())
    clock.sleep(59)
    assert other.run_pass() is None
    clock.sleep(2)
    assert DOWN == other.run_pass()
    clock.sleep(119)
    assert one.run_pass() is None
    clock.sleep(2)
    assert DELIVERED == one.run_pass()
    assert {"failures": 0, "outcome": "delivered", "reason": ""} == last_pass(str(tmp_path))
    clock.sleep(31)
    assert DELIVERED == other.run_pass()


def test_a_killed_pass_has_failed(tmp_path: Path) -> None:
    """A pass that begins and never ends counts as failed, so that what kills it does not do so each interval."""
    clock = Clock()
    turns = Turns(str(tmp_path), 30.0, clock=clock)
    assert turns.claim()
    assert turns.begin()
    os.close(turns._fd)
    assert 1 == last_pass(str(tmp_path))["failures"]
    clock.sleep(45)
    assert not is_auto_due(str(tmp_path), 30.0, clock())


def test_an_internal_error_has_failed(tmp_path: Path) -> None:
    """What a pass raises goes to the caller, and counts as a failure; the lock is released."""
    [scheduler, _] = schedulers(tmp_path, Clock(), Passes(ValueError("x")))
    with pytest.raises(ValueError, match="x"):
        scheduler.run_pass()
    assert 1 == last_pass(str(tmp_path))["failures"]
    assert Turns(str(tmp_path), 30.0).begin()


def test_while_one_passes_no_other_does(tmp_path: Path) -> None:
    """A pass that takes longer than the interval has the lock: nobody else claims one, or begins one."""
    clock = Clock()
    turns, others = (Turns(str(tmp_path), 30.0, clock=clock) for _ in range(2))
    assert turns.begin()
    clock.sleep(1000)
    assert not others.claim()
    assert not others.begin()
    turns.end("delivered", "", has_failed=False)
    assert others.claim()


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"failures": "x"}', b"\xff", b"[" * 5000])
def test_its_file_is_not_indispensable(content: bytes, tmp_path: Path) -> None:
    """A file that is empty, torn or not ours is as none."""
    (tmp_path / AUTO).write_bytes(content)
    os.utime(tmp_path / AUTO, (0, 0))
    assert {} == last_pass(str(tmp_path))
    [scheduler, _] = schedulers(tmp_path, Clock(), Passes(DELIVERED))
    assert DELIVERED == scheduler.run_pass()
    assert 0 == json.loads((tmp_path / AUTO).read_bytes())["failures"]


def test_a_clock_that_was_set_back(tmp_path: Path) -> None:
    """A time further ahead than any back-off is a clock's: the pass is due."""
    clock = Clock()
    clock.now = 1e9
    turns = Turns(str(tmp_path), 30.0, clock=clock)
    assert turns.claim()
    clock.now -= 300
    assert not turns.claim()
    clock.now -= 301
    assert turns.claim()


@pytest.mark.parametrize("call", ["write", "ftruncate"])
def test_a_full_disk(call: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nothing can be noted events are delivered all the same."""

    def full(*arguments: object) -> int:
        raise OSError(errno.ENOSPC, "full")

    passes = Passes(DELIVERED)
    [scheduler, _] = schedulers(tmp_path, Clock(), passes)
    monkeypatch.setattr(os, call, full)
    assert DELIVERED == scheduler.run_pass()


def test_where_its_file_cannot_be(tmp_path: Path) -> None:
    """A link in its place is not followed, and a folder that cannot be written is a result."""
    (tmp_path / AUTO).symlink_to(tmp_path / "elsewhere")
    os.utime(tmp_path / AUTO, (0, 0), follow_symlinks=False)
    [scheduler, _] = schedulers(tmp_path, Clock(), Passes(DELIVERED))
    done = scheduler.run_pass()
    assert done
    assert "temporary" == done.outcome
    assert not (tmp_path / "elsewhere").exists()


def test_a_flush_that_delivers_ends_the_back_off(tmp_path: Path) -> None:
    """After failures a flush that somebody asks for makes the next pass due as usual; without failures it changes nothing."""
    clock = Clock()
    clock.now = 1e9
    [scheduler, _] = schedulers(tmp_path, clock, Passes(DOWN))
    forget_failures(str(tmp_path))
    assert not (tmp_path / AUTO).exists()
    scheduler.run_pass()
    forget_failures(str(tmp_path))
    assert 0 == last_pass(str(tmp_path))["failures"]


def test_back_off() -> None:
    """The back-off doubles, is never shorter than the interval, and at most ten minutes where that is not longer."""
    assert [1.0, 2.0, 4.0] == [backoff(1.0, failures) for failures in range(3)]
    assert (LONGEST_BACKOFF, 7200.0) == (backoff(1.0, 10**9), backoff(7200.0, 5))
