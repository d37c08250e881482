"""How much, and how long: whatever a client can make large or slow ends at one of these."""

from __future__ import annotations

from dataclasses import dataclass

MAX_HEAD_BYTES = 32 << 10
MAX_HEADERS = 100
# A body as it comes, and decompressed. A flush sends 1 MiB, and halves what is refused as too large.
MAX_BODY_BYTES = 16 << 20
MAX_INFLATED_BYTES = 32 << 20
# From a page: because an array has to be taken apart as a whole before its parts can be counted.
MAX_LOCAL_BYTES = 1 << 20
MAX_EVENTS = 10_000
# So much of a body that is refused is waited for, and the connection stays; a larger one is refused at once.
MAX_AWAITED_BYTES = 64 << 10
# What is read behind an answer that did not wait, so that its sender gets to hear it.
MAX_DRAINED_BYTES = 64 << 20
# Of all bodies that are being received or looked at.
MAX_RECEIVING_BYTES = 256 << 20
# Of all that waits for a commit, and of one commit.
MAX_WAITING_EVENTS = 100_000
MAX_WAITING_BYTES = 128 << 20
MAX_COMMIT_BYTES = 8 << 20

MAX_CONNECTIONS = 1000
BODY_BYTES_A_SECOND = 16 << 10
# What is under way when SIGTERM comes.
GRACE_SECONDS = 10
RETRY_AFTER_SECONDS = 1
# So large a body is looked at on a thread: because others would wait for it. A smaller one, too, where its events have to be
# looked at one by one, which takes a hundred times as long.
LARGE_BYTES = 512 << 10
SLOW_BYTES = 1 << 10
# Threads that look at bodies: each may hold a few times what a body may be.
READERS = 2


@dataclass(frozen=True, slots=True)
class Deadlines:
    """The seconds that a connection may take for what it is at."""

    head: float = 10.0
    # And a second more for each BODY_BYTES_A_SECOND that have come: a slow line is let finish, a drip is not.
    body: float = 30.0
    # From the end of a request to the end of its answer.
    answer: float = 60.0
    idle: float = 75.0
    # After an answer that did not wait for the end of what it answers.
    linger: float = 5.0
