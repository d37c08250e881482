"""A server of raw bytes that misbehaves by script: each connection runs the next one, the last of them for ever."""

from __future__ import annotations

import contextlib
import re
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from types import TracebackType

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
PIECE = 65536


class Connection:
    """One accepted connection, for a script to play with."""

    def __init__(self, sock: socket.socket, server: FaultServer) -> None:
        self.sock = sock
        self.server = server
        self.received = b""

    def read(self, size: int) -> None:
        """Read until `size` bytes were received in all, or the other side ends."""
        while len(self.received) < size and (piece := self.sock.recv(PIECE)):
            self.received += piece

    def read_request(self) -> bytes:
        """Read one request with its body, and return it."""
        while b"\r\n\r\n" not in self.received and (piece := self.sock.recv(PIECE)):
            self.received += piece
        head, _, _ = self.received.partition(b"\r\n\r\n")
        length = re.search(rb"(?i)content-length: (\d+)", head)
        end = len(head) + 4 + (int(length[1]) if length else 0)
        self.read(end)
        request, self.received = self.received[:end], self.received[end:]
        return request

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def stall(self) -> None:
        """Do nothing until the server is closed."""
        self.server.reached.set()
        self.server.stopping.wait(60)

    def sip(self, interval: float = 0.01) -> None:
        """Read one byte at a time, until the server is closed or the other side ends."""
        self.server.reached.set()
        while not self.server.stopping.wait(interval) and self.sock.recv(1):
            continue

    def drip(self, data: bytes, interval: float = 0.01) -> None:
        """Send one byte at a time."""
        self.server.reached.set()
        for byte in data:
            if self.server.stopping.wait(interval):
                return
            self.send(bytes([byte]))

    def flood(self, piece: bytes) -> None:
        """Send the same for ever."""
        self.server.reached.set()
        while not self.server.stopping.is_set():
            self.send(piece)

    def reset(self) -> None:
        """Close with an RST, not a FIN."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()


Script = Callable[[Connection], None]


class FaultServer:
    """Listens inside `with`; `requests` has what was read by `answering` scripts, in order.

    `reached` is set once a script stalls, sips, drips or floods. A small `receive_buffer` stops an upload that is not read.
    """

    def __init__(
        self,
        *scripts: Script,
        host: str = "127.0.0.1",
        wrap: Callable[[socket.socket], socket.socket] | None = None,
        receive_buffer: int = 0,
    ) -> None:
        self.requests: list[bytes] = []
        self.connections = 0
        self._scripts = list(scripts)
        self._wrap = wrap
        self.stopping = threading.Event()
        self.reached = threading.Event()
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._listener = socket.create_server((host, 0), family=family)
        if receive_buffer:
            # Before anybody connects: accepted sockets inherit it, and a window that was offered stays.
            self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self._open: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self.port = self._listener.getsockname()[1]
        self.url = f"http://{host if '.' in host else '127.0.0.1'}:{self.port}/events/default"

    def __enter__(self) -> FaultServer:
        self._run(self._accept)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stopping.set()
        for sock in [self._listener, *self._open]:
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue
        for thread in self._threads:
            thread.join(10)
        self._listener.close()

    def _run(self, target: Callable[..., None], *args: object) -> None:
        thread = threading.Thread(target=target, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            self._open.append(sock)
            script = self._scripts.pop(0) if len(self._scripts) > 1 else self._scripts[0]
            self._run(self._play, script, sock)

    def _play(self, script: Script, sock: socket.socket) -> None:
        try:
            with self._wrap(sock) if self._wrap else sock as plain:
                script(Connection(plain, self))
        except OSError:
            sock.close()


def answering(*answers: bytes) -> Script:
    """Read a request, answer, and so on; then close."""

    def script(connection: Connection) -> None:
        for answer in answers:
            request = connection.read_request()
            if request:
                connection.server.requests.append(request)
                connection.send(answer)

    return script


def stalling(answer: bytes = b"") -> Script:
    """Read a request, send this much, and then nothing."""

    def script(connection: Connection) -> None:
        connection.read_request()
        connection.send(answer)
        connection.stall()

    return script


def resetting(after: int | None = None, answer: bytes = b"") -> Script:
    """Read this many bytes, or a whole request, send this much, and reset."""

    def script(connection: Connection) -> None:
        if after is None:
            connection.read_request()
        else:
            connection.read(after)
        connection.send(answer)
        connection.reset()

    return script


def dripping(head: bytes, tail: bytes, interval: float = 0.01) -> Script:
    """Read a request, send the head at once and the tail byte by byte."""

    def script(connection: Connection) -> None:
        connection.read_request()
        connection.send(head)
        connection.drip(tail, interval)

    return script


def flooding(head: bytes, piece: bytes) -> Script:
    """Read a request, send the head, and the piece for ever."""

    def script(connection: Connection) -> None:
        connection.read_request()
        connection.send(head)
        connection.flood(piece)

    return script


def hasty(answer: bytes, after: int = 1000) -> Script:
    """Read this many bytes, answer, and close, whatever else is on its way."""

    def script(connection: Connection) -> None:
        connection.read(after)
        connection.send(answer)

    return script


def stopping(after: int) -> Script:
    """Read this many bytes, and then no more."""

    def script(connection: Connection) -> None:
        connection.read(after)
        connection.stall()

    return script


def greeting(hello: bytes, interval: float = 0.01) -> Script:
    """Wait for the first byte, and send this much, byte by byte."""

    def script(connection: Connection) -> None:
        connection.read(1)
        connection.drip(hello, interval)

    return script


def silent(connection: Connection) -> None:
    """Neither read nor write."""
    connection.stall()


def sipping(connection: Connection) -> None:
    """Read one byte at a time."""
    connection.sip()


@contextlib.contextmanager
def full_server() -> Iterator[str]:
    """Yield a URL whose queue of connections is full, so that a connect gets no answer."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(4):
            client = stack.enter_context(socket.socket())
            client.setblocking(False)
            client.connect_ex(listener.getsockname())
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/"
