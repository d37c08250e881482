"""The secrets of a destination, read from a password file or from a command's output."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
from collections.abc import Callable, Mapping
from typing import Any

from rillevents.errors import ConfigError
from rillevents.local.files import read_text_file

_COMMAND_SECONDS = 30


def read_password(told: Mapping[str, Any], warn: Callable[[str], None], timeout: float | None) -> str | None:
    """Return the password that the settings give, a file or a command's output included; raises ConfigError.

    *timeout* limits the command, in seconds, to 30 at most.
    """
    if told.get("password"):
        return str(told["password"])
    if told.get("password_file"):
        return read_secret(told["password_file"], warn)
    if told.get("password_command"):
        return _run_secret(told["password_command"], min(_COMMAND_SECONDS, timeout or _COMMAND_SECONDS))
    return None


def read_secret(path: str, warn: Callable[[str], None]) -> str:
    """Return the one line of a password file; raises ConfigError, and warns if other users can read it."""
    try:
        content = read_text_file(path, 64 << 10)
        mode = os.stat(path).st_mode
    except OSError as error:
        raise ConfigError(f"the password file {path} cannot be read: {error.strerror or error}") from None
    if content is None:
        raise ConfigError(f"the password file {path} does not exist")
    if mode & (stat.S_IRGRP | stat.S_IROTH):
        warn(f"{path} can be read by other users; run: chmod 600 {path}")
    return _one_line(content, path)


def _run_secret(command: str, timeout: float) -> str:
    # In a session of its own: killing only the shell leaves its children, which hold the pipe open.
    with subprocess.Popen(  # noqa: S602 - the setting is a shell command
        command, shell=True, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, start_new_session=True
    ) as running:
        try:
            printed, _ = running.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            os.killpg(running.pid, signal.SIGKILL)
            printed, running.returncode = b"", 1
        except BaseException:
            # A signal: without this, leaving the block would wait for the command.
            os.killpg(running.pid, signal.SIGKILL)
            raise
    if running.returncode:
        # Do not show its text: that may contain the secret.
        raise ConfigError("intake.password_command failed or took too long", hint="run it by hand")
    return _one_line(printed, "what intake.password_command prints")


def _one_line(content: bytes, what: str) -> str:
    try:
        text = content.decode().rstrip("\r\n")
    except UnicodeDecodeError:
        raise ConfigError(f"{what} is not UTF-8") from None
    if not text or "\n" in text:
        raise ConfigError(f"{what} must be one non-empty line")
    return text
