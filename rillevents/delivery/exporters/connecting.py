"""How a connection is opened to a name with several addresses: one after the other, without waiting for those before.

httpcore tries one address with all of the time, so an address that swallows packets hides the others. Here the next address
is tried a moment later, and the first that answers is used (RFC 8305, happy eyeballs).
"""

from __future__ import annotations

import errno
import os
import selectors
import socket
import time
from collections.abc import Iterable
from typing import Any

import httpcore
from httpcore._backends.sync import SyncStream

# What RFC 8305 recommends.
HEAD_START = 0.25
_IN_PROGRESS = (0, errno.EINPROGRESS, errno.EWOULDBLOCK, errno.EAGAIN, getattr(errno, "WSAEWOULDBLOCK", 0))


class Connecting(httpcore.SyncBackend):
    """httpcore's connections, opened to whichever address answers first."""

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        """Return a connection; raises httpcore.ConnectTimeout and httpcore.ConnectError."""
        try:
            addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except OSError as error:
            raise httpcore.ConnectError(str(error)) from error
        if len(addresses) < 2:
            return super().connect_tcp(host, port, timeout, local_address, socket_options)
        try:
            sock = first_to_answer(addresses, timeout)
        except TimeoutError as error:
            raise httpcore.ConnectTimeout(str(error)) from error
        except OSError as error:
            raise httpcore.ConnectError(str(error)) from error
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return SyncStream(sock)


def first_to_answer(addresses: Iterable[tuple[Any, ...]], timeout: float | None) -> socket.socket:
    """Return a socket that is connected to one of the addresses (of getaddrinfo); raises OSError, the first one's, if none is.

    Each has a head start before the next one, or none if it fails.
    """
    ends = None if timeout is None else time.monotonic() + timeout
    waiting = list(addresses)
    problem: OSError | None = None
    with selectors.DefaultSelector() as trying:
        try:
            while waiting or trying.get_map():
                if waiting:
                    problem = _begin(waiting.pop(0), trying) or problem
                for sock in _answered(trying, HEAD_START if waiting else None, ends):
                    trying.unregister(sock)
                    code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                    if not code:
                        sock.setblocking(True)
                        return sock
                    sock.close()
                    problem = problem or OSError(code, os.strerror(code))
        finally:
            for key in list(trying.get_map().values()):
                _socket_of(key).close()
    raise problem or OSError(errno.EADDRNOTAVAIL, os.strerror(errno.EADDRNOTAVAIL))


def _begin(address: tuple[Any, ...], trying: selectors.BaseSelector) -> OSError | None:
    family, kind, protocol, _, name = address
    sock = None
    try:
        sock = socket.socket(family, kind, protocol)
        sock.setblocking(False)
        code = sock.connect_ex(name)
        if code not in _IN_PROGRESS:
            raise OSError(code, os.strerror(code))
        trying.register(sock, selectors.EVENT_WRITE)
    except OSError as error:
        if sock is not None:
            sock.close()
        return error
    return None


def _answered(trying: selectors.BaseSelector, most: float | None, ends: float | None) -> list[socket.socket]:
    """Wait for answers, for at most *most* seconds if there is another address; raises TimeoutError at the end of the time."""
    if not trying.get_map():
        return []
    left = None if ends is None else max(0.0, ends - time.monotonic())
    found = trying.select(min((wait for wait in (most, left) if wait is not None), default=None))
    if not found and left is not None and (most is None or left <= most):
        raise TimeoutError(errno.ETIMEDOUT, "timed out")
    return [_socket_of(key) for key, _ in found]


def _socket_of(key: selectors.SelectorKey) -> socket.socket:
    assert isinstance(key.fileobj, socket.socket)  # noqa: S101 - only sockets are registered
    return key.fileobj
