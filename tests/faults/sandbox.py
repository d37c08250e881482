"""Processes in surroundings of their own: measured, with other files in /etc, in a network that nobody else is in."""

from __future__ import annotations

import contextlib
import ctypes
import os
import random
import re
import select
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import pytest

T = TypeVar("T")
ADDRESS = "192.0.2.1"
_CLONE_NEWNET = 0x40000000

# By ioctl, not by `ip`: that is one program less to ask for.
_HOLDER = f"""
import fcntl, socket, struct, subprocess, sys
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
    address = struct.pack("16sHH4s8x", b"lo:1", socket.AF_INET, 0, socket.inet_aton("{ADDRESS}"))
    fcntl.ioctl(any_socket, 0x8914, struct.pack("16sh", b"lo", 0x49))
    fcntl.ioctl(any_socket, 0x8916, address)
subprocess.run(["mount", "--bind", sys.argv[1], "/etc/hosts"], check=True)
subprocess.run(["mount", "-t", "tmpfs", "tmpfs", "/dev/shm"], check=True)
print("ready", flush=True)
sys.stdin.read()
"""


def need_root() -> None:
    """Skip the test where we may not mount; never in CI, which has to be root."""
    if os.geteuid() != 0 and os.environ.get("CI"):
        pytest.fail("this needs root, and CI has to be root")
    if os.geteuid() != 0:
        pytest.skip("this needs root")


@dataclass(frozen=True)
class Ended:
    """What a process came to: its exit code, what it printed, and the most memory that it had, in KiB."""

    code: int
    stdout: str
    stderr: str
    peak: int


class Running:
    """A process under way, which is killed after *limit* seconds."""

    def __init__(self, words: Sequence[str | bytes], environ: Mapping[str, str], cwd: Path, limit: float = 120) -> None:
        # Files, not pipes: nobody reads while the process runs. `end` closes them.
        self._out, self._err = tempfile.TemporaryFile(), tempfile.TemporaryFile()  # noqa: SIM115
        self.process = subprocess.Popen(
            words, env=dict(environ), cwd=cwd, stdin=subprocess.DEVNULL, stdout=self._out, stderr=self._err
        )
        self.peak = 0
        self._end = time.monotonic() + limit
        self._over = threading.Event()
        self._watcher = threading.Thread(target=self._watch, daemon=True)
        self._watcher.start()

    def end(self, signal: int = 0) -> Ended:
        """Send *signal*, if there is one, and return what the process came to."""
        if signal:
            self.process.send_signal(signal)
        code = self.process.wait()
        self._over.set()
        self._watcher.join()
        texts = []
        for file in (self._out, self._err):
            file.seek(0)
            texts.append(file.read().decode("utf-8", "backslashreplace"))
            file.close()
        return Ended(code, *texts, self.peak)

    def _watch(self) -> None:
        # Not by the rusage of the process: that begins with what we had ourselves when we started it.
        while not self._over.wait(0.03):
            with contextlib.suppress(OSError):
                found = re.search(r"VmHWM:\s+(\d+)", Path(f"/proc/{self.process.pid}/status").read_text())
                self.peak = max(self.peak, int(found[1]) if found else 0)
            if time.monotonic() > self._end:
                self.process.kill()


def with_files(files: Mapping[str, Path], words: Sequence[str | bytes]) -> list[str | bytes]:
    """Return the words that start *words* with other files in place of some of the system's, for this process alone."""
    need_root()
    mounts = "".join(f"mount --bind '{ours}' '{path}' && " for path, ours in files.items())
    return ["unshare", "--mount", "sh", "-c", f'{mounts}exec "$@"', "sh", *words]


class Resolver:
    """A name server on a loopback address that says nothing, or answers everything with *code*; use it inside `with`."""

    def __init__(self, code: int | None = None) -> None:
        need_root()
        self.asked = threading.Event()
        self._code = code
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._thread = threading.Thread(target=self._serve, daemon=True)
        for _ in range(50):
            # A loopback address that is hardly anybody's: name servers have one port, and it may be taken.
            self.address = f"127.{random.randrange(64, 250)}.{random.randrange(250)}.{random.randrange(1, 250)}"
            with contextlib.suppress(OSError):
                self._socket.bind((self.address, 53))
                break

    def within(self, folder: Path) -> Callable[[Sequence[str | bytes]], list[str | bytes]]:
        """Return what makes a process ask this server, and nobody else; *folder* takes the files that it needs."""
        (folder / "resolv.conf").write_text(f"nameserver {self.address}\noptions timeout:30 attempts:2\n")
        (folder / "hosts").write_text("127.0.0.1 localhost\n")
        (folder / "nsswitch.conf").write_text("hosts: files dns\n")
        names = [name for name in ("resolv.conf", "hosts", "nsswitch.conf") if os.path.exists(f"/etc/{name}")]
        return lambda words: with_files({f"/etc/{name}": folder / name for name in names}, words)

    def _serve(self) -> None:
        while True:
            query, sender = self._socket.recvfrom(4096)
            if not query:
                return
            self.asked.set()
            if self._code is not None:
                # The question back, with the bits for "an answer" and "recursion", and the code.
                flags = bytes([0x81, 0x80 | self._code])
                self._socket.sendto(query[:2] + flags + query[4:6] + bytes(6) + query[12:], sender)

    def __enter__(self) -> Resolver:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        # An empty datagram ends the thread.
        self._socket.sendto(b"", (self.address, 53))
        self._thread.join(10)
        self._socket.close()


class Network:
    """A network with loopback and ADDRESS in it, for as long as `with` lasts; it has a hosts file and a /dev/shm of its own."""

    def __init__(self, hosts: Path) -> None:
        need_root()
        words = ["unshare", "--net", "--mount", sys.executable, "-c", _HOLDER, str(hosts)]
        self._holder = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self._holder.stdout
        assert b"ready\n" == self._holder.stdout.readline()
        self._at = f"/proc/{self._holder.pid}/ns"

    def words(self, *words: str | bytes) -> list[str | bytes]:
        """Return the words that start a process in this network."""
        return ["nsenter", f"--net={self._at}/net", f"--mount={self._at}/mnt", *words]

    def inside(self, make: Callable[[], T]) -> T:
        """Call *make* on a thread that has moved here: a socket that it makes belongs to this network, wherever it is used."""

        def move() -> T:
            with open(f"{self._at}/net") as network:
                if ctypes.CDLL(None, use_errno=True).setns(network.fileno(), _CLONE_NEWNET):
                    raise OSError(ctypes.get_errno(), "setns")
            return make()

        with ThreadPoolExecutor(1) as pool:
            return pool.submit(move).result()

    def __enter__(self) -> Network:
        return self

    def __exit__(self, *_: object) -> None:
        self._holder.communicate(timeout=10)


@contextlib.contextmanager
def watching(path: Path) -> Iterator[Callable[[], bool]]:
    """Yield what says whether anybody has opened a file since then."""
    libc = ctypes.CDLL(None)
    events = libc.inotify_init1(os.O_NONBLOCK)
    try:
        libc.inotify_add_watch(events, os.fsencode(path), 0x20)
        yield lambda: select.select([events], [], [], 0)[0] != []
    finally:
        os.close(events)


def until(ready: Callable[[], object], seconds: float = 60) -> None:
    """Wait until something is so; fail where it takes too long."""
    end = time.monotonic() + seconds
    while not ready():
        if time.monotonic() > end:
            pytest.fail(f"this did not happen within {seconds} s: {ready}")
        time.sleep(0.02)
