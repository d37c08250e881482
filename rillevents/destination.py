"""Where a user's events go: the configured intake and its credentials, or what `--to` says, and the flush that goes there."""

from __future__ import annotations

import os
import stat
import subprocess
from collections.abc import Callable, Mapping
from typing import Any

from rillevents import config, consent
from rillevents.errors import ConfigError
from rillevents.exporters.destination import IntakeSettings, exporter_for, origin
from rillevents.files import read_file
from rillevents.flusher import Flusher, FlushResult
from rillevents.paths import Paths
from rillevents.spool.view import contents

_COMMAND_SECONDS = 30


def flush(
    paths: Paths,
    environ: Mapping[str, str],
    *,
    to: str = "",
    timeout: float | None = None,
    wait: bool = True,
    ca_cert: str | None = None,
    on_progress: Callable[[int], None] | None = None,
    warn: Callable[[str], None] = lambda message: None,
) -> FlushResult:
    """Send what is in this user's spool, and return what came of it.

    Opted out, nothing is sent. *to* overrules the environment and config.toml. A configuration that has to change first is
    the outcome `unconfigured`. Raises Busy where another flush is at it for longer than *timeout* (or *wait* is false),
    UsageError where *to* holds a password, SpoolError.
    """
    decision = consent.decide(paths, environ)
    if decision.warning:
        warn(decision.warning)
    if not decision.enabled:
        return FlushResult("off", pending=_held(paths), reason=decision.decided_by)
    try:
        settings = config.load(paths)
        exporter = exporter_for(
            destination_name(paths, environ, settings, to),
            intake_settings(paths, environ, settings, warn=warn),
            ca_cert=ca_cert,
            compression=settings.get("flush", "compression", "none"),
            environ=environ,
        )
    except ConfigError as error:
        return FlushResult("unconfigured", pending=_held(paths), reason=str(error))
    for warning in settings.warnings:
        warn(warning)
    flusher = Flusher(
        exporter,
        batch_events=settings.get("flush", "batch_events", 1000),
        batch_bytes=settings.get("flush", "batch_bytes", 1 << 20),
        timeout=timeout,
        stall_timeout=settings.get("flush", "stall_timeout", 30.0),
        wait=wait,
        on_progress=on_progress,
    )
    try:
        return flusher.flush(existing_spools(paths))
    finally:
        exporter.close()


def _held(paths: Paths) -> int:
    return sum(contents(place).events for place in existing_spools(paths))


def existing_spools(paths: Paths) -> list[str]:
    """Return the spools that are there: the one that `record` uses, and the other place where it may have had to go."""
    return [place for place in paths.spool_dirs if os.path.isdir(place)]


def destination_name(paths: Paths, environ: Mapping[str, str], settings: config.Config, to: str = "") -> str:
    """Return where events are to go: the flag, the environment, config.toml, or else the configured intake."""
    return to or paths.app.variable(environ, "TO") or settings.get("flush", "to", "intake")


def intake_settings(
    paths: Paths,
    environ: Mapping[str, str],
    settings: config.Config,
    *,
    secrets: bool = True,
    warn: Callable[[str], None] = lambda message: None,
) -> IntakeSettings | None:
    """Return the configured intake, None where there is none; raises ConfigError where its password cannot be had.

    Credentials of the environment, those in its URL too, replace those of config.toml as a whole; and those of config.toml go
    only where its own URL leads. Without *secrets* no file is read and no command is run for them.
    """
    configured = settings.get("intake", "url", "")
    url = paths.app.variable(environ, "INTAKE_URL") or configured
    if not url:
        return None
    names = ("user", "password", "password_file", "token")
    told = {name: paths.app.variable(environ, f"INTAKE_{name.upper()}") for name in names}
    if not any(told.values()):
        within = IntakeSettings.from_url(url)
        theirs = not configured or origin(within.url) != origin(IntakeSettings.from_url(configured).url)
        if theirs or (url != configured and within.user):
            return within
        told = dict(settings.sections.get("intake", {}))
    password = _password(told, warn) if secrets else None
    return IntakeSettings.from_url(url, user=told.get("user"), password=password, token=told.get("token"))


def _password(told: Mapping[str, Any], warn: Callable[[str], None]) -> str | None:
    if told.get("password"):
        return str(told["password"])
    if told.get("password_file"):
        return _read_secret(told["password_file"], warn)
    if told.get("password_command"):
        return _run_secret(told["password_command"])
    return None


def _read_secret(path: str, warn: Callable[[str], None]) -> str:
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


def _run_secret(command: str) -> str:
    try:
        done = subprocess.run(  # noqa: S602 - a shell command is what the setting holds
            command, shell=True, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, timeout=_COMMAND_SECONDS, check=True
        )
    except (OSError, subprocess.SubprocessError) as error:
        # Not its text: because that quotes the command.
        raise ConfigError(f"intake.password_command failed ({type(error).__name__})", hint="try it by hand") from None
    return _one_line(done.stdout, "what intake.password_command prints")


def _one_line(content: bytes, what: str) -> str:
    try:
        text = content.decode().rstrip("\r\n")
    except UnicodeDecodeError:
        raise ConfigError(f"{what} is not UTF-8") from None
    if not text or "\n" in text:
        raise ConfigError(f"{what} has to be one line that is not empty")
    return text
