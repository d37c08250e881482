"""What tests share: the tool as a real process, in a clean environment."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest

from rillevents.event.timestamp import parse_time
from rillevents.local import Paths
from rillevents.spool.view import pending
from rillevents.store.schema import open_to_write

# Where coverage is measured, processes that we start have to find out about it.
KEPT = (
    "PATH",
    "LANG",
    "LC_ALL",
    "COVERAGE_PROCESS_START",
    "COVERAGE_PROCESS_CONFIG",
    "COVERAGE_FILE",
    "SSL_CERT_FILE",
    "VIRTUAL_ENV",
)


# What `rillevents status` takes, in seconds, on two cores that have nothing else to do.
_UNHURRIED = 0.3


class Clock:
    """Time that passes only while somebody sleeps."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.sleeps: list[float] = []

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.sleeps.append(seconds)
        self.now += seconds


def _pace() -> float:
    """Return twice as many times as this machine is slower than that now, at least 2: it may become busier."""
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as home:
        environ = {key: os.environ[key] for key in KEPT if key in os.environ} | {"HOME": home, "RILLEVENTS_HOME": home}
        words = [sys.executable, "-m", "rillevents", "status"]
        subprocess.run(words, env=environ, stdin=subprocess.DEVNULL, capture_output=True, check=True)
    return max(2.0, 2 * (time.monotonic() - started) / _UNHURRIED)


# Time budgets are multiplied by it: no test fails because a machine is slow.
PACE = _pace()


class Tool:
    """The command line in a real process, with an environment in which nothing of ours is set but the home folder."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.environ = {key: os.environ[key] for key in KEPT if key in os.environ} | {
            "HOME": str(home.parent / "user"),
            "RILLEVENTS_HOME": str(home),
        }

    def __call__(
        self, *words: str | bytes, stdin: bytes | None = None, timeout: float = 60, **environ: str | None
    ) -> subprocess.CompletedProcess[str]:
        """Run `rillevents *words*`; variables that are None are taken out."""
        kept = {key: value for key, value in (self.environ | environ).items() if value is not None}
        given: dict[str, Any] = {"stdin": subprocess.DEVNULL} if stdin is None else {"input": stdin}
        done = subprocess.run(
            self.command(*words),
            env=kept,
            capture_output=True,
            timeout=timeout * PACE,
            check=False,
            cwd=self.home.parent,
            **given,
        )
        return subprocess.CompletedProcess(
            done.args, done.returncode, done.stdout.decode(), done.stderr.decode("utf-8", "backslashreplace")
        )

    def command(self, *words: str | bytes) -> list[str | bytes]:
        """Return the words that start the tool."""
        return [sys.executable, "-m", "rillevents", *words]

    def json(self, *words: str, **environ: str | None) -> Any:
        """Run a command with --json and return its document."""
        return json.loads(self(*words, "--json", **environ).stdout)

    @property
    def paths(self) -> Paths:
        """Where this home's files are."""
        return Paths(self.environ)

    @property
    def spool(self) -> Path:
        """The folder that holds the events."""
        return Path(self.paths.spool_dir) / "v1"

    def lines(self) -> list[bytes]:
        """What is in the spool."""
        return list(pending(self.paths.spool_dir))

    def events(self) -> list[dict[str, Any]]:
        """What is in the spool, decoded."""
        return [json.loads(line) for line in self.lines()]


class Installed(Tool):
    """The console script of the release that is installed in an environment."""

    def __init__(self, home: Path, environment: Path) -> None:
        super().__init__(home)
        self.environment = environment
        self.script = environment / "bin" / "rillevents"

    def command(self, *words: str | bytes) -> list[str | bytes]:
        return [str(self.script), *words]

    def install(self, *what: str | Path) -> None:
        """Install into the environment."""
        pip_install(self.environment, *what)


def pip_install(environment: Path, *what: str | Path) -> None:
    """Install into an environment with its own pip."""
    words = [environment / "bin" / "pip", "install", "-q", "--disable-pip-version-check", *what]
    subprocess.run(words, check=True)


def need(program: str) -> str:
    """Return where a program is; without it a test is skipped, but never in CI, which has to have it."""
    found = shutil.which(program)
    if not found and os.environ.get("CI"):
        pytest.fail(f"{program} is missing, and CI has to have it: see .ci/run")
    if not found:
        pytest.skip(f"{program} is not installed")
    return found


def only(items: list[Any]) -> Any:
    """Return the one item of a list that has to have one."""
    assert 1 == len(items), items
    return items[0]


def snapshot(folder: Path) -> Mapping[str, bytes]:
    """Return every file below a folder, with what it holds."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def insert(connection: sqlite3.Connection, lines: Iterable[bytes]) -> None:
    """Store lines as a server does, in one transaction."""
    rows = []
    for line in lines:
        body = line.decode().rstrip("\n")
        event = json.loads(body)
        us = parse_time(event["event_time"]) // 1000
        fields = event["event_id"], event["event_time"], us, event["event_type"], event["event_name"]
        rows.append((*fields, "default", us, body))
    connection.execute("BEGIN")
    connection.executemany("INSERT INTO events VALUES(?,?,?,?,?,?,?,?)", rows)
    connection.execute("COMMIT")


def make_store(path: Path, lines: Iterable[bytes] = ()) -> Path:
    """Add lines to a store, made where it is missing; nobody has it open afterwards."""
    connection = open_to_write(str(path))
    insert(connection, lines)
    connection.close()
    return path


def zstd(data: bytes, *, says_its_size: bool = True) -> bytes:
    """Return *data* as one frame of zstd, which says in its head how large it will be, or does not."""
    if sys.version_info >= (3, 14):
        from compression import zstd as python_zstd

        options = {python_zstd.CompressionParameter.content_size_flag: int(says_its_size)}
        return python_zstd.compress(data, options=options)
    import zstandard

    return zstandard.ZstdCompressor(write_content_size=says_its_size).compress(data)


def unzstd(data: bytes) -> bytes:
    """Return what is in frames of zstd."""
    if sys.version_info >= (3, 14):
        from compression import zstd as python_zstd

        return python_zstd.decompress(data)
    import zstandard

    return zstandard.ZstdDecompressor().decompressobj().decompress(data)
