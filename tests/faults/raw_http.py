"""HTTP as bytes: requests that no client would send, and what a server answers to them."""

from __future__ import annotations

import contextlib
import select
import socket
import struct
import time
from collections.abc import Iterable, Iterator
from typing import Any

from serving import Told

HOST = b"Host: localhost\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n"
PIECE = 1 << 18


def request(
    body: bytes = b"",
    headers: bytes = b"",
    *,
    target: bytes = b"/events/default",
    method: bytes = b"POST",
    host: bytes = HOST,
    version: bytes = b"1.1",
    framed: bool = True,
) -> bytes:
    """Return a request; its Content-Length is left to *headers* where it is not to be *framed*."""
    length = b"Content-Length: %d\r\n" % len(body) if framed else b""
    return b"%b %b HTTP/%b\r\n%b%b%b\r\n%b" % (method, target, version, host, headers, length, body)


def chunked(body: bytes, headers: bytes = b"", **more: Any) -> bytes:
    """Return a request whose body comes in one chunk."""
    return request(chunk(body) + b"0\r\n\r\n", CHUNKED + headers, framed=False, **more)


def chunk(data: bytes) -> bytes:
    """Return the data as a chunk."""
    return b"%x\r\n%b\r\n" % (len(data), data)


class Line:
    """A connection to a server on this machine; what it is sent is not looked at, what comes back is taken apart."""

    def __init__(self, port: int, *, receive_buffer: int = 0, timeout: float = 20, host: str = "127.0.0.1") -> None:
        self.socket = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
        if receive_buffer:
            # Before it connects: the window that is offered then stays.
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.settimeout(timeout)
        try:
            self.socket.connect((host, port))
        except OSError:
            self.socket.close()
            raise
        self._held = b""

    def send(self, data: bytes) -> None:
        """Send all of it; a server that has hung up does not mind, and has perhaps answered before."""
        with contextlib.suppress(ConnectionError):
            self.socket.sendall(data)

    def answer(self, *, bodiless: bool = False) -> Told | None:
        """Return the next answer, None where the connection ends without one; one to HEAD has no body."""
        head = self._until(b"\r\n\r\n")
        if head is None:
            return None
        first, *fields = head.decode("latin-1").split("\r\n")[:-2]
        headers = {name.lower(): value.strip() for name, _, value in (field.partition(":") for field in fields)}
        status = int(first.split(" ")[1])
        size = 0 if bodiless or status < 200 else int(headers.get("content-length", 0))
        while len(self._held) < size and self._more():
            continue
        body, self._held = self._held[:size], self._held[size:]
        return Told(status, headers, body)

    def answers(self, count: int = 1, quiet: float = 0.05) -> list[Told]:
        """Return all answers, until the connection ends or nothing has come for a while after so many."""
        found = [self.answer()]
        while found[-1] and (len(found) < count or self._held or select.select([self.socket], [], [], quiet)[0]):
            found.append(self.answer())
        return [each for each in found if each]

    def ends(self, within: float = 20) -> bool:
        """Whether the server hangs up, without a word more, in so much time."""
        self.socket.settimeout(within)
        try:
            return not self._held and self.socket.recv(PIECE) == b""
        except TimeoutError:
            return False
        except ConnectionError:
            return True

    def reset(self) -> None:
        """Hang up with an RST, not a FIN."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def _until(self, end: bytes) -> bytes | None:
        while end not in self._held:
            if not self._more():
                return None
        place = self._held.index(end) + len(end)
        found, self._held = self._held[:place], self._held[place:]
        return found

    def _more(self) -> bool:
        try:
            piece = self.socket.recv(PIECE)
        except ConnectionError:
            piece = b""
        self._held += piece
        return piece != b""

    def __enter__(self) -> Line:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()


def exchange(port: int, *pieces: bytes, count: int = 1, gap: float = 0.1) -> list[Told]:
    """Send pieces with a pause between them, and return all answers, which should be so many."""
    with Line(port) as line:
        for number, piece in enumerate(pieces):
            time.sleep(gap if number else 0)
            line.send(piece)
        return line.answers(count)


def statuses(answers: Iterable[Told]) -> list[int]:
    """Return what was answered, in numbers."""
    return [answer.status for answer in answers]


@contextlib.contextmanager
def many(count: int, port: int, **options: Any) -> Iterator[list[Line]]:
    """Yield so many connections."""
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(Line(port, **options)) for _ in range(count)]
