"""A batch that was acknowledged in part: what stays moves into a file of its own, since an offset can only stand behind a prefix.

Theory of operation. The lines that stay are written to a `rest-` file, which nobody reads. Then the offsets move past the whole
batch, together with the ledger and the name of the file, in the one replace of the state. Then the file gets its name as a
`done-` file, and only then may the file that the lines came from be unlinked. A kill before the replace leaves a `rest-` file
that the state does not name: it is deleted, since its lines are still where they were. A kill after it leaves one that the
state names: it is renamed. So no line is lost, and none that was acknowledged is sent again.
"""

from __future__ import annotations

import os
from collections.abc import Container, Sequence

from rillevents.event.batch import HELD, UNSETTLED, Doubtful, Rejected
from rillevents.local.files import discard, sync_folder
from rillevents.spool import DONE, REST, listed
from rillevents.spool.offsets import Settled
from rillevents.spool.slots import write_named_file
from rillevents.spool.state import State


def stays(settled: Settled, all_rejected_stay: bool) -> bool:
    """Whether a line stays in the spool."""
    verdict = settled.verdict
    return verdict in (HELD, UNSETTLED) or (all_rejected_stay and isinstance(verdict, (Rejected, Doubtful)))


def lines_to_move(settled: Sequence[Settled], stuck: Container[str], all_rejected_stay: bool) -> dict[str, list[bytes]]:
    """Return the lines that stay, of each file in which a line behind them does not; not of *stuck* files."""
    staying: dict[str, list[bytes]] = {}
    moving: set[str] = set()
    for each in settled:
        name = each.entry.name
        if name in stuck:
            continue
        if stays(each, all_rejected_stay):
            staying.setdefault(name, []).append(each.entry.line)
        elif name in staying:
            moving.add(name)
    return {name: lines for name, lines in staying.items() if name in moving}


def write(folder: str, name: str, lines: Sequence[bytes]) -> None:
    """Store the lines in a `rest-` file, synced; raises OSError."""
    write_named_file(folder, name, b"".join(lines))


def adopt(folder: str, state: State) -> None:
    """Rename the `rest-` files that the state names, and delete those that it does not know; raises OSError."""
    found = [name for name in listed(folder) if name.startswith(REST)]
    for name in found:
        if name in state.rests:
            os.rename(f"{folder}/{name}", f"{folder}/{DONE}{name[len(REST) :]}")
        else:
            discard(f"{folder}/{name}")
    if any(name in state.rests for name in found):
        sync_folder(folder)
    state.rests = []
