"""The secrets of a destination, read from a password file or printed by a command."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from rillevents.errors import ConfigError
from rillevents.local.files import read_file

if TYPE_CHECKING:
    pass


_COMMAND_SECONDS = 30


def _password(told: Mapping[str, Any], warn: Callable[[str], None], timeout: float | None) -> str | None:
    if told.get("password"):
        return str(told["password"])
    if told.get("password_file"):
        return read_secret(told["password_file"], warn)
    if told.get("password_command"):
        return _run_secret(told["password_command"], min(_COMMAND_SECONDS, timeout or _COMMAND_SECONDS))
    return None


def read_secret(path: str, warn: Callable[[str], None]) -> str:
    """Return the one line of a password file; raises ConfigError, and warns where others can read it."""
    try:
        content = read_file(path, 64 << 10)
        mode = os.stat(path).st_mode
    except OSError as error:
        raise ConfigError(f"the password file {path} cannot be read: {error.strerror or error}") from None
    if content is None:
        raise ConfigError(f"the password file {path} is not there")
    if mode & (stat.S_IRGRP | stat.S_IROTH):
        warn(f"{path} can be read by other users; run: chmod 600 {path}")
    return _one_line(content, path)


def _run_secret(command: str, timeout: float) -> str:
    # A session of its own: because killing the shell alone leaves what it started, which holds the pipe open.
    with subprocess.Popen(  # noqa: S602 - a shell command is what the setting holds
        command, shell=True, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, start_new_session=True
    ) as running:
        try:
            printed, _ = running.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            os.killpg(running.pid, signal.SIGKILL)
            printed, running.returncode = b"", 1
    if running.returncode:
        # Not its text: because that may hold the secret.
        raise ConfigError("intake.password_command failed, or took too long", hint="try it by hand")
    return _one_line(printed, "what intake.password_command prints")


def _one_line(content: bytes, what: str) -> str:
    try:
        text = content.decode().rstrip("\r\n")
    except UnicodeDecodeError:
        raise ConfigError(f"{what} is not UTF-8") from None
    if not text or "\n" in text:
        raise ConfigError(f"{what} has to be one line that is not empty")
    return text
