"""Bodies as they come → their events, within what all bodies together may hold, and without others waiting for a large one."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor

from rillevents.serve.answer import Headers, Refused, later, problem, too_large
from rillevents.serve.arrival import TooMany
from rillevents.serve.body import BadBody, Body, decoded
from rillevents.serve.endpoints import Endpoint
from rillevents.serve.limits import LARGE_BYTES, MAX_BODY_BYTES, MAX_EVENTS, MAX_RECEIVING_BYTES, READERS, SLOW_BYTES
from rillevents.serve.metrics import Metrics
from rillevents.store.incoming import Incoming


class Reading:
    """Reads the bodies of requests; `held` are the bytes of large ones that are not events yet. For the thread of one loop."""

    def __init__(self, metrics: Metrics, most: int = MAX_RECEIVING_BYTES) -> None:
        self.held = 0
        self._metrics = metrics
        self._most = most
        self._threads = ThreadPoolExecutor(READERS, "rillevents-read")

    async def events(self, endpoint: Endpoint, headers: Headers, body: Body) -> Incoming:
        """Return what is in a body; raises Refused, and Gone where who sends it hangs up."""
        limit = min(endpoint.limit, MAX_BODY_BYTES)
        # What a body says about its size is believed where it is too much, and else looked at as it comes.
        length = headers.get(b"content-length", b"")
        if len(length) > 4 and (len(length) > 12 or int(length) > limit):
            raise _over(limit)
        encoding = headers.get(b"content-encoding", b"")
        found = await body.piece()
        if not body.ended:
            found = await self._whole(found, limit, body)
        self._metrics.body_bytes += len(found)
        quick = None if encoding or len(found) > LARGE_BYTES else _quickly(endpoint, found)
        if quick or (not encoding and len(found) <= SLOW_BYTES):
            return quick or _parsed(endpoint, found)
        return await self._on_a_thread(endpoint, found, encoding)

    async def _whole(self, first: bytes, limit: int, body: Body) -> bytes:
        whole = bytearray(first)
        self.held += len(first)
        try:
            while not body.ended:
                piece = await body.piece()
                whole += piece
                self.held += len(piece)
                if len(whole) > limit:
                    raise _over(limit)
                self._check()
            return bytes(whole)
        finally:
            self.held -= len(whole)

    async def _on_a_thread(self, endpoint: Endpoint, body: bytes, encoding: bytes) -> Incoming:
        # Held until then: because a body that waits for a thread is there as well.
        self.held += len(body)
        try:
            self._check()
            return await asyncio.get_running_loop().run_in_executor(self._threads, _decoded, endpoint, body, encoding)
        finally:
            self.held -= len(body)

    def _check(self) -> None:
        if self.held > self._most:
            raise Refused(later("too much is being received"))


def _decoded(endpoint: Endpoint, body: bytes, encoding: bytes) -> Incoming:
    try:
        return _parsed(endpoint, decoded(body, encoding, endpoint.limit))
    except BadBody as error:
        raise Refused(problem(error.status, error.reason)) from None


def _quickly(endpoint: Endpoint, body: bytes) -> Incoming | None:
    try:
        return endpoint.quick(body)
    except TooMany:
        raise _too_many() from None


def _parsed(endpoint: Endpoint, body: bytes) -> Incoming:
    try:
        return endpoint.parse(body)
    except TooMany:
        raise _too_many() from None


def _over(limit: int) -> Refused:
    return Refused(too_large(f"the body has more than {limit} bytes"))


def _too_many() -> Refused:
    return Refused(too_large(f"the body has more than {MAX_EVENTS} events"))
