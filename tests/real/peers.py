"""The programs that receive, as real processes on this machine, and what they have stored."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Self
from urllib.parse import urlencode

import pytest
from support import KEPT, PACE

WITHIN = 60 * PACE
BUILD = "run tests/real/build.sh FOLDER, and set RILLEVENTS_REAL=FOLDER"


def program(name: str) -> str:
    """Return where a program is; without it, the test is skipped."""
    if not (folder := os.environ.get("RILLEVENTS_REAL")):
        pytest.skip(f"the programs to send to are not there: {BUILD}")
    path = Path(folder).resolve() / name
    if not path.exists():
        pytest.skip(f"there is no {path}: {BUILD}")
    return str(path)


def version(name: str) -> str:
    """Return what a program says about its version, on one line."""
    words = [program(name), "--version"]
    done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True)
    return f"{name}: {done.stdout.splitlines()[0]}"


def free_port() -> int:
    """Return a port that nobody uses at the moment."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def until(fact: Callable[[], bool], pause: float = 0.01) -> None:
    """Return as soon as *fact* is true, which is asked for after each *pause*, in seconds."""
    end = time.monotonic() + WITHIN
    while not fact():
        assert time.monotonic() < end, "it takes too long"
        time.sleep(pause)


class Peer:
    """A program that listens on a port; use it inside `with`: it is killed at the end."""

    def __init__(self, words: list[str], port: int, folder: Path) -> None:
        self.port = port
        self._words = words
        self._log = folder / "log"
        self.start()

    def start(self) -> None:
        """Start it, and return when it listens."""
        environ = {key: os.environ[key] for key in KEPT if key in os.environ}
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._words, env=environ, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self._log.parent
            )
        until(self._listens)

    def kill(self) -> None:
        """Kill it."""
        self._process.kill()
        self._process.wait()

    def ask(self, path: str, **arguments: str) -> bytes:
        """Return what it answers to a question by GET."""
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=WITHIN)) as connection:
            connection.request("GET", f"{path}?{urlencode(arguments)}")
            response = connection.getresponse()
            body = response.read()
        assert 200 == response.status, body
        return body

    def _listens(self) -> bool:
        assert self._process.poll() is None, self._log.read_text()
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port)):
            return True
        return False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()


class VictoriaLogs(Peer):
    """A VictoriaLogs with nothing in it."""

    def __init__(self, folder: Path) -> None:
        port = free_port()
        words = [program("victoria-logs"), f"-httpListenAddr=127.0.0.1:{port}", f"-storageDataPath={folder / 'data'}"]
        super().__init__(words, port, folder)

    def stored(self, count: int) -> list[dict[str, str]]:
        """Return everything that it has, as soon as that is at least so many, which it may be a second after it was sent."""
        until(lambda: self._count() >= count)
        return [json.loads(line) for line in self.ask("/select/logsql/query", query="*").splitlines()]

    def _count(self) -> int:
        # By stream: events of a new stream are counted up to two seconds before a query that shows them finds them.
        told = self.ask("/select/logsql/query", query="* | stats by (_stream) count() n").splitlines()
        return sum(int(json.loads(line)["n"]) for line in told)


class Record(NamedTuple):
    """A log record as a Collector wrote it, and the attributes of its resource."""

    fields: dict[str, Any]
    resource: dict[str, Any]


class Collector(Peer):
    """A Collector that writes what arrives by OTLP over HTTP into a file before it answers.

    It rotates, because only then does the exporter write at once: a file that it never rotates gets the last of up to 4 KiB up
    to a second after the answer, and a kill loses that.
    """

    def __init__(self, folder: Path, **http: Any) -> None:
        port = free_port()
        self.file = folder / "stored.json"
        receiver = {"protocols": {"http": {"endpoint": f"127.0.0.1:{port}", **http}}}
        config = {
            "receivers": {"otlp": receiver},
            "exporters": {"file": {"path": str(self.file), "rotation": {"max_megabytes": 1 << 20}}},
            "service": {
                "pipelines": {"logs": {"receivers": ["otlp"], "exporters": ["file"]}},
                "telemetry": {"metrics": {"level": "none"}},
            },
        }
        # YAML, of which JSON is a part.
        (folder / "config.yaml").write_text(json.dumps(config))
        super().__init__([program("collector"), "--config", str(folder / "config.yaml")], port, folder)

    def size(self) -> int:
        """Return how much it has written."""
        return self.file.stat().st_size if self.file.exists() else 0

    def stored(self) -> Iterator[Record]:
        """Return everything that it has written whole."""
        for line in self.file.read_bytes().split(b"\n"):
            for document in _documents(line):
                for resource_logs in document["resourceLogs"]:
                    resource = attributes(resource_logs["resource"])
                    for scope_logs in resource_logs["scopeLogs"]:
                        yield from (Record(fields, resource) for fields in scope_logs["logRecords"])


def _documents(line: bytes) -> Iterator[dict[str, Any]]:
    # One that is killed while it writes leaves a part of a document, or one without its newline; what it writes next follows that.
    start = b'{"resourceLogs":'
    for part in line.split(start)[1:]:
        with contextlib.suppress(ValueError):
            yield json.loads(start + part)


def attributes(owner: Mapping[str, Any]) -> dict[str, Any]:
    """Return the attributes of a resource or a record as Python's values."""
    return {each.get("key", ""): _value(each.get("value", {})) for each in owner.get("attributes", ())}


def _value(any_value: dict[str, Any]) -> Any:
    if not any_value:
        return None
    [(kind, value)] = any_value.items()
    if kind == "kvlistValue":
        return {each.get("key", ""): _value(each.get("value", {})) for each in value.get("values", ())}
    if kind == "arrayValue":
        return [_value(each) for each in value.get("values", ())]
    # A double such as 1.0 is written as 1, and a whole number as text.
    return {"intValue": int, "doubleValue": float}.get(kind, lambda it: it)(value)


class Benthos(Peer):
    """A Benthos that takes a body's lines for messages, and writes them into a file before it answers."""

    def __init__(self, folder: Path) -> None:
        port = free_port()
        self.file = folder / "stored.ndjson"
        # After the last newline of a body there is one more line for `unarchive`: an empty one.
        processors = [{"unarchive": {"format": "lines"}}, {"mapping": 'root = if content() == "" { deleted() }'}]
        config = {
            "http": {"address": f"127.0.0.1:{port}"},
            "input": {"http_server": {"path": "/post"}},
            "pipeline": {"processors": processors},
            "output": {"file": {"path": str(self.file), "codec": "lines"}},
        }
        (folder / "config.yaml").write_text(json.dumps(config))
        super().__init__([program("benthos"), "-c", str(folder / "config.yaml")], port, folder)

    def stored(self) -> list[bytes]:
        """Return the lines that it has written."""
        return self.file.read_bytes().splitlines(keepends=True)
