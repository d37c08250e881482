"""An intake that counts what it takes, and behaves as badly as intakes do until it is told to be calm."""

from __future__ import annotations

import json
import random
import threading
import zlib
from collections import Counter
from collections.abc import Callable
from types import TracebackType

from .socket_server import OK, Connection, FaultServer

# How often, in relation to each other; the rest of the requests is simply taken.
FAULTS = {
    "taken": 60,
    "intake: 503": 6,
    "intake: 500": 4,
    "intake: 429 with `Retry-After`": 4,
    "intake: 413 for half of the batch's size": 3,
    "intake: a login page": 3,
    "intake: reset before the request was read": 4,
    "intake: reset, events taken, no answer": 5,
    "intake: half an answer, events taken": 4,
    "intake: silence, then closed": 2,
    "intake: some events refused by name": 5,
    "intake: some events refused for now, 429 an item": 5,
}
POISONED = "intake: 400, because of one event"
LOGIN = b"<html>please log in</html>"


class FaultyIntake:
    """Listens on loopback inside `with`; `delivered` counts by event ID what it took, whether it said so or not."""

    def __init__(self, seed: int, payload_of: Callable[[str], str]) -> None:
        self.calm = False
        self.delivered: Counter[str] = Counter()
        self.altered = 0
        self.times: Counter[str] = Counter()
        self._rng = random.Random(seed)
        self._payload_of = payload_of
        self._lock = threading.Lock()
        self._server = FaultServer(self._serve)
        self.url = self._server.url

    @property
    def faults(self) -> dict[str, int]:
        """How often which fault was played."""
        return {name: self.times[name] for name in (*list(FAULTS)[1:], POISONED)}

    def __enter__(self) -> FaultyIntake:
        self._server.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._server.__exit__(kind, error, at)

    def _serve(self, connection: Connection) -> None:
        while True:
            fault = "taken" if self.calm else self._choose()
            if "before the request" in fault:
                connection.read(1)
                if connection.received:
                    self._note(fault)
                    connection.reset()
                return
            head, _, body = connection.read_request().partition(b"\r\n\r\n")
            if not head or f"content-length: {len(body)}".encode() not in head.lower():
                return  # the flusher was killed within its request
            if not self._answer(connection, fault, body.splitlines()):
                return

    def _choose(self) -> str:
        """Draw a fault; those that were never played come first, so that a short campaign has them all."""
        unplayed = [name for name in FAULTS if name != "taken" and not self.times[name]]
        if unplayed and self._rng.random() < 0.5:
            return unplayed[0]
        return self._rng.choices(list(FAULTS), list(FAULTS.values()))[0]

    def _answer(self, connection: Connection, fault: str, lines: list[bytes]) -> bool:
        """Play one fault on one request; False where the connection is over."""
        if fault == "taken" and not self.calm and any(map(self._is_poisoned, lines)):
            self._note(POISONED)
            connection.send(answer("400 Bad Request"))
            return True
        self._note(fault)
        if "503" in fault or "500" in fault:
            connection.send(answer("503 Unavailable" if "503" in fault else "500 Internal Server Error"))
        elif "429" in fault:
            connection.send(answer("429 Too Many Requests", headers="Retry-After: 0\r\n"))
        elif "413" in fault and len(lines) > 1:
            connection.send(answer("413 Content Too Large"))
        elif "login" in fault:
            connection.send(answer("200 OK", LOGIN, "Content-Type: text/html\r\n"))
        elif "silence" in fault:
            connection.server.stopping.wait(0.5)
            return False
        elif "refused by name" in fault:
            refused = {self._rng.randrange(len(lines)) for _ in range(3)}
            self._take([line for number, line in enumerate(lines) if number not in refused])
            told = [{"line": number + 1, "reason": "not today"} for number in sorted(refused)]
            connection.send(
                answer("200 OK", json.dumps({"rejected": told}).encode(), "Content-Type: application/json\r\n")
            )
        elif "refused for now" in fault:
            refused = {self._rng.randrange(len(lines)) for _ in range(3)}
            self._take([line for number, line in enumerate(lines) if number not in refused])
            busy, stored = {"status": 429, "error": {"reason": "busy"}}, {"status": 201}
            items = [{"create": busy if number in refused else stored} for number in range(len(lines))]
            connection.send(answer("200 OK", json.dumps({"errors": True, "items": items}).encode()))
        else:
            self._take(lines)
            if "no answer" in fault:
                connection.reset()
                return False
            if "half an answer" in fault:
                connection.send(b"HTTP/1.1 200 OK\r\nContent-Le")
                return False
            connection.send(OK)
        return True

    def _is_poisoned(self, line: bytes) -> bool:
        return zlib.crc32(line) % 1500 == 0

    def _take(self, lines: list[bytes]) -> None:
        for line in lines:
            event = json.loads(line)
            with self._lock:
                self.delivered[event["event_id"]] += 1
                self.altered += event["payload"] != self._payload_of(event["event_id"])

    def _note(self, fault: str) -> None:
        with self._lock:
            self.times[fault] += 1


def answer(status: str, body: bytes = b"", headers: str = "") -> bytes:
    """Return the bytes of a response."""
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n{headers}\r\n".encode() + body
