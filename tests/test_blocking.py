"""How long `record` can hold up an event loop: a number of file calls, and no wait for another process, whatever is wrong."""

from __future__ import annotations

import fcntl
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support import PACE, Tool, need, only
from test_docs import TEXTS

from rillevents import Client
from rillevents.errors import SpoolUnwritable
from rillevents.spool import TALLY, TRIES, create, slots
from rillevents.spool.live import LiveWriter
from rillevents.spool.slots import append, write_own_file
from rillevents.spool.view import pending

pytestmark = pytest.mark.unmeasured

PLENTY = 1 << 30
LINE = b'{"event_id":"1","event_time":"2026-01-01T00:00:00Z","event_type":"t","event_name":"x"}\n'
# What the docstring of `Client` and the manual's page on services state; one that opens a file looks at each file of the spool, too.
HEALTHY, BOUND, OPENING = 2, 400, 800
# A call to the file system before each, and one after the last, that nothing else makes.
PROGRAM = """
import asyncio, os, sys
from rillevents import Client, SpoolSink
client = Client(SpoolSink(sys.argv[1], max_bytes=int(sys.argv[2])), warn=lambda _: None)
async def main():
    for number in range(3):
        os.access("/mark", os.F_OK)
        print(bool(client.record_behavioral("x", number=number)), file=sys.stderr)
        await asyncio.sleep(0)
    os.access("/mark", os.F_OK)
asyncio.run(main())
"""


def calls(tool: Tool, spool: Path, max_bytes: int = PLENTY) -> tuple[list[str], list[int]]:
    """Record three events in a coroutine; return whether each was stored, and how many file calls each of them made."""
    log = tool.home.parent / "strace"
    words = [
        need("strace"),
        "-o",
        str(log),
        "-e",
        "trace=%file,%desc",
        sys.executable,
        "-c",
        PROGRAM,
        str(spool),
        str(max_bytes),
    ]
    done = subprocess.run(words, env=tool.environ, capture_output=True, text=True, check=True, timeout=120 * PACE)
    parts = re.split(r".*\"/mark\".*\n", log.read_text())[1:-1]
    ours = re.compile(r"^(?!write\(2,|epoll|mmap)\w+\(", re.MULTILINE)
    return done.stderr.split(), [len(ours.findall(part)) for part in parts]


@contextmanager
def disk(place: Path, options: str) -> Iterator[Path]:
    """A small disk that is full, but for what was made in it before."""
    if os.geteuid() != 0:
        pytest.skip("mounting a small file system needs root")
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"mode=700,{options}", "tmpfs", place], check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", place], check=True)


def fill(folder: Path, size: int) -> None:
    """Make files until there is no room for another."""
    with pytest.raises(OSError, match="No space left"):
        for number in range(1000):
            (folder / f"filler-{number}").write_bytes(b"x" * size)


class TestCalls:
    def test_a_healthy_disk(self, tool: Tool, tmp_path: Path) -> None:
        """Once the file is open an event takes a write and a look at the file's name."""
        stored, made = calls(tool, tmp_path / "spool")
        assert ["True"] * 3 == stored
        assert [HEALTHY] * 2 == made[1:]
        assert made[0] <= OPENING

    def test_a_full_disk(self, tool: Tool, tmp_path: Path) -> None:
        """On a full disk an event is refused at once, within the stated number of calls."""
        with disk(tmp_path / "disk", "size=128k") as place:
            create(f"{place}/spool")
            fill(place, 4096)
            stored, made = calls(tool, place / "spool")
        assert ["False"] * 3 == stored
        assert made[0] <= OPENING
        assert max(made[1:]) <= BOUND

    def test_no_room_for_a_file_and_busy_slots(self, tool: Tool, tmp_path: Path) -> None:
        """With no room for a new file and each slot locked by others, it tries each slot once and waits for none."""
        with disk(tmp_path / "disk", "nr_inodes=200") as place:
            folder = create(f"{place}/spool")
            with busy(folder, slots.SLOT):
                fill(place, 0)
                stored, made = calls(tool, place / "spool")
        assert ["False"] * 3 == stored
        assert max(made) <= BOUND
        # An open and a lock at least.
        assert min(made) > 2 * slots.SLOTS

    def test_a_full_spool_and_busy_slots(self, tool: Tool, tmp_path: Path) -> None:
        """With a spool at its limit, and each slot for counts locked by others, it waits for none."""
        folder = create(str(tmp_path / "spool"))
        with busy(folder, slots.SLOT), busy(folder, TALLY):
            stored, made = calls(tool, tmp_path / "spool", max_bytes=1)
        assert ["False"] * 3 == stored
        assert made[0] <= OPENING + len(os.listdir(folder))
        assert max(made[1:]) <= BOUND
        assert min(made) > 2 * slots.SLOTS


@contextmanager
def busy(folder: str, prefix: str) -> Iterator[None]:
    """Hold the lock of each slot."""
    held = [os.open(f"{folder}/{prefix}{n}.ndjson", os.O_RDWR | os.O_CREAT, 0o600) for n in range(slots.SLOTS)]
    for fd in held:
        fcntl.flock(fd, fcntl.LOCK_EX)
    yield
    for fd in held:
        os.close(fd)


class Deleted(LiveWriter):
    """A writer whose file is deleted each time that it has opened one."""

    opened = 0

    def _open(self) -> None:
        super()._open()
        self.opened += 1
        os.unlink(self._path)


class TestDeletedWithoutEnd:
    """Something deletes what is written, again and again: `record` ends all the same, and does not say that it was stored."""

    def test_a_long_lived_writer(self, tmp_path: Path) -> None:
        """A writer that never finds its file gives up after so many."""
        create(str(tmp_path / "spool"))
        writer = Deleted(str(tmp_path / "spool"), max_bytes=PLENTY)
        with pytest.raises(SpoolUnwritable, match="something deletes the files"):
            writer.append(LINE)
        assert TRIES == writer.opened
        writer.close()

    def test_slots(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Who never finds a slot again gets a file of its own."""
        folder, moved = create(str(tmp_path / "spool")), []

        def move(path: str, found: os.stat_result) -> None:
            moved.append(path)
            raise slots.Moved

        # Between two system calls of one process, each time.
        monkeypatch.setattr(slots, "check_named", move)
        append(folder, LINE, max_bytes=PLENTY)
        assert TRIES == len(moved)
        assert LINE == only(list(pending(str(tmp_path / "spool"))))

    def test_files_of_their_own(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Who never can give its file a name gives up after so many."""
        folder, removed, real = create(str(tmp_path / "spool")), [], slots.write_whole

        def write_and_delete(fd: int, data: bytes) -> None:
            real(fd, data)
            removed.append(os.unlink(os.readlink(f"/proc/self/fd/{fd}")))

        monkeypatch.setattr(slots, "write_whole", write_and_delete)
        with pytest.raises(SpoolUnwritable, match="something deletes the files"):
            write_own_file(folder, LINE, max_bytes=PLENTY)
        assert TRIES == len(removed)


def test_the_manual_states_it() -> None:
    """The manual and the docstring have these numbers."""
    stated = {str(HEALTHY), str(BOUND), str(OPENING), str(TRIES)}
    section = TEXTS["services"].partition("## In coroutines")[2].partition("\n## ")[0]
    assert stated <= {*re.findall(r"\d+", section)}
    assert f"at most {BOUND} calls to the file system" in " ".join((Client.__doc__ or "").split())
