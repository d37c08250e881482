"""Maintenance of the spool: put rejected events back, or delete everything."""

from __future__ import annotations

import os
import stat

from rillevents.errors import SpoolError
from rillevents.event.batch import DELIVERED
from rillevents.local.files import CLOEXEC, NO_FOLLOW, NONBLOCK
from rillevents.spool import DONE, READ_PREFIXES, REJECTED, check, listed
from rillevents.spool.drain import NO_FILE, Drain
from rillevents.spool.lines import complete_runs
from rillevents.spool.quarantine import COPY, keep_damaged, read_rejected, rejected_names
from rillevents.spool.slots import write_own_file
from rillevents.spool.state import trusted_offset

_NO_LIMIT = 1 << 62


def retry(spool: str) -> int:
    """Put every rejected event of *spool* back, byte for byte as recorded, and return how many there were.

    If it is killed, some may be in both places, but none in neither. What is damaged goes to corrupt/. Raises Busy while a
    flush is running, and SpoolError if some could not be put back; those stay rejected, the others are back.
    """
    folder = check(spool)
    if not folder:
        return 0
    count, problem = 0, ""
    with Drain(folder) as drain:
        for name in rejected_names(folder):
            try:
                count += _put_back(drain, name)
            except OSError as error:
                problem = f"{folder}/{REJECTED}/{name} could not be put back and is kept: {error.strerror or error}"
    if problem:
        raise SpoolError(problem)
    return count


def _put_back(drain: Drain, name: str) -> int:
    found = read_rejected(drain.folder, name)
    if found.entries:
        lines = b"".join(entry.line for entry in found.entries)
        write_own_file(drain.folder, lines, max_bytes=_NO_LIMIT, durable=True, prefix=DONE)
    if found.damaged:
        keep_damaged(drain.folder, name, found.damaged)
        drain.state.count("corrupt", n=len(found.damaged))
    os.unlink(f"{drain.folder}/{REJECTED}/{name}")
    drain.state.count("delivered" if name.startswith(COPY) else "rejected", n=-len(found.entries))
    return len(found.entries)


def purge(spool: str) -> int:
    """Delete everything in *spool*, rejected and corrupt events too, and return how many events there were; raises Busy.

    The ledger counts them as dropped, with the reason `purged`. Also deleted is what a writer holds open: it notices that after
    its next write, and writes that event to a new file. Raises SpoolError if something could not be deleted.
    """
    from rillevents.spool.quarantine import remove_all

    folder = check(spool)
    if not folder:
        return 0
    with Drain(folder) as drain:
        before = drain.state.dropped.get("purged", 0)
        for batch in drain.batches():
            drain.commit(batch, [DELIVERED] * len(batch.batch), purged=True)
        problem = "".join(_delete_held(drain, name) for name in listed(folder) if name.startswith(READ_PREFIXES))
        rejected = remove_all(folder)
        drain.state.count("rejected", n=-rejected)
        drain.state.count("dropped", "purged", rejected)
        purged = drain.state.dropped["purged"] - before
    if problem:
        raise SpoolError(f"deleted {purged} events, but {problem}")
    return purged


def _delete_held(drain: Drain, name: str) -> str:
    """Delete a file whose lock somebody else holds, and count what was added since it was read.

    The name goes first: a writer that finds it gone does not acknowledge what it has just written here. Then the content, which
    would otherwise stay on the disk as long as the writer runs. Returns what could not be deleted, and why.
    """
    path = f"{drain.folder}/{name}"
    try:
        fd = os.open(path, os.O_RDWR | NO_FOLLOW | CLOEXEC | NONBLOCK)
    except OSError as error:
        return "" if error.errno in NO_FILE else f"{path} is kept: {error.strerror or error}. "
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            return ""
        os.unlink(path)
        start = trusted_offset(fd, drain.state.offsets.pop(name, None))
        added = sum(run.events for run in complete_runs(fd, start, os.fstat(fd).st_size))
        os.ftruncate(fd, 0)
        drain.state.count("dropped", "purged", added)
    except OSError as error:
        return f"{path} is kept: {error.strerror or error}. "
    finally:
        os.close(fd)
    return ""
