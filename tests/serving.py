"""`rillevents serve` as a real process, and a client that says what it was answered."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import select
import signal
import sqlite3
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from support import PACE, Tool, need

STARTS_WITHIN = 60.0 * PACE


@dataclass(frozen=True)
class Told:
    """An answer: its status, its headers by their lower-case names, and its body."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body, decoded."""
        return json.loads(self.body)


class Serving:
    """A server under way; `url` is where it is, `stderr` what it has said so far."""

    def __init__(self, tool: Tool, *words: str, **environ: str | None) -> None:
        kept = {key: value for key, value in (tool.environ | environ).items() if value is not None}
        self.tool = tool
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 - closed when the server is stopped
        self.process = subprocess.Popen(
            tool.command("serve", "--port", "0", "--json", *words),
            env=kept,
            cwd=tool.home.parent,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
        )
        self.told = self._read_document()
        self.url: str = self.told.get("url", "")
        self.port = urlsplit(self.url).port or 0

    def _read_document(self) -> dict[str, Any]:
        assert self.process.stdout
        text, end = b"", time.monotonic() + STARTS_WITHIN
        while not text.endswith(b"}\n"):
            assert select.select([self.process.stdout], [], [], max(0.0, end - time.monotonic()))[0], (
                "it does not start"
            )
            piece = os.read(self.process.stdout.fileno(), 4096)
            if not piece:
                break
            text += piece
        found: dict[str, Any] = json.loads(text or b"{}")
        return found

    @property
    def stderr(self) -> str:
        """What the server has said on stderr."""
        return os.pread(self._stderr.fileno(), 1 << 20, 0).decode()

    def connect(self, timeout: float = 30) -> http.client.HTTPConnection:
        """Return a connection that is not open yet."""
        return http.client.HTTPConnection(urlsplit(self.url).hostname or "", self.port, timeout=timeout)

    def ask(self, method: str, path: str, body: bytes | None = None, **headers: str) -> Told:
        """Send one request on a connection of its own; `_` in a header's name stands for `-`."""
        with contextlib.closing(self.connect()) as connection:
            return exchange(connection, method, path, body, **headers)

    def post(self, body: bytes, path: str = "/events/default", **headers: str) -> Told:
        """Send events."""
        return self.ask("POST", path, body, **headers)

    def stop(self, number: int = signal.SIGTERM, timeout: float = 30) -> int:
        """Send a signal, and return the exit code."""
        self.process.send_signal(number)
        return self.process.wait(timeout)

    def __enter__(self) -> Serving:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        assert self.process.stdout
        self.process.stdout.close()
        self._stderr.close()


@contextlib.contextmanager
def says_nothing(folder: Path) -> Iterator[Serving]:
    """Give a server with a store, which is still there at the end, and has said nothing beyond what it began with."""
    (folder / "user").mkdir()
    with Serving(Tool(folder / "home")) as serving:
        until(lambda: "export" in serving.stderr)
        said = serving.stderr
        yield serving
        assert serving.process.poll() is None
        assert said == serving.stderr


def exchange(
    connection: http.client.HTTPConnection, method: str, path: str, body: bytes | None = None, **headers: str
) -> Told:
    """Send a request on a connection that stays open, and return the answer."""
    connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
    answer = connection.getresponse()
    return Told(answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read())


def event(event_id: str = "1", name: str = "n", time: str = "2026-11-23T10:00:00Z", **more: Any) -> bytes:
    """Return the line of an event."""
    fields = {"event_id": event_id, "event_time": time, "event_type": "t", "event_name": name, **more}
    return json.dumps(fields).encode() + b"\n"


def rows(path: Path | str, query: str = "SELECT body FROM events ORDER BY rowid", *values: Any) -> list[Any]:
    """Return what a store says to a query; of one column, its values."""
    with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        found = connection.execute(query, values).fetchall()
    return [row[0] for row in found] if found and len(found[0]) == 1 else found


def stored_ids(path: Path | str) -> list[str]:
    """Return the IDs in a store, as they came in."""
    return list(rows(path, "SELECT event_id FROM events ORDER BY rowid"))


def until(ready: Any, seconds: float = 30) -> None:
    """Wait until something is so; fail where it takes too long."""
    end = time.monotonic() + seconds * PACE
    while not ready():
        assert time.monotonic() < end, f"this did not happen within {seconds} s"
        time.sleep(0.02)


def ids(lines: Sequence[bytes]) -> Iterator[str]:
    """Yield the IDs of lines of events."""
    return (json.loads(line)["event_id"] for line in lines)


def certificate(folder: Path) -> tuple[Path, Path]:
    """Make a certificate for this machine, and return it and its key."""
    cert, key = folder / "cert.pem", folder / "key.pem"
    words = f"req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost -keyout {key} -out {cert}"
    names = ["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    subprocess.run([need("openssl"), *words.split(), *names], check=True, capture_output=True)
    return cert, key
