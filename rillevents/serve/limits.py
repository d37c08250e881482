"""Where, how much, and how long: everything that a client can make large or slow has its limit here."""

from __future__ import annotations

from dataclasses import dataclass

DEFAULT_PORT = 8787
MAX_HEAD_BYTES = 32 << 10
MAX_HEADERS = 100
# A body as received, and decompressed. A flush sends 1 MiB, and halves what is refused as too large.
MAX_BODY_BYTES = 16 << 20
MAX_INFLATED_BYTES = 32 << 20
# An element of two bytes becomes an object of a hundred.
MAX_OTLP_BYTES = 4 << 20
# From a page: an array must be parsed as a whole before its elements can be counted.
MAX_LOCAL_BYTES = 1 << 20
MAX_EVENTS = 10_000
# A refused body up to this size is read to its end, so that the connection can stay; a larger one is refused at once.
MAX_AWAITED_BYTES = 64 << 10
# How much is read after an early answer, so that its client receives the answer.
MAX_DRAINED_BYTES = 64 << 20
# All bodies that are being received or parsed.
MAX_RECEIVING_BYTES = 256 << 20
# Everything that waits for a commit, and one commit.
MAX_WAITING_EVENTS = 100_000
MAX_WAITING_BYTES = 128 << 20
MAX_COMMIT_BYTES = 8 << 20

MAX_CONNECTIONS = 1000
BODY_BYTES_A_SECOND = 16 << 10
# For requests in progress when SIGTERM comes.
GRACE_SECONDS = 10
RETRY_AFTER_SECONDS = 1
# A body this large is parsed on a thread, so that other requests do not wait. So is a smaller one whose events must be
# checked one by one, which takes a hundred times as long.
LARGE_BYTES = 512 << 10
SLOW_BYTES = 1 << 10
# Threads that parse bodies; each may hold a few times the size of a body.
READERS = 2


@dataclass(frozen=True, slots=True)
class Deadlines:
    """The seconds that a connection may spend in each phase."""

    head: float = 10.0
    # Plus one second for each BODY_BYTES_A_SECOND received: a slow line may finish, a dripping one may not.
    body: float = 30.0
    # From the end of a request to the end of its answer.
    answer: float = 60.0
    idle: float = 75.0
    # After an answer that was sent before its request had ended.
    linger: float = 5.0
