"""Where a user's events go: the configured intake and its credentials, or what `--to` says, and the flush that goes there."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from rillevents import config, consent
from rillevents.config_file import is_secret
from rillevents.errors import ConfigError, SpoolError
from rillevents.exporters.destination import IntakeSettings, exporter_for, is_kafka, origin, without_userinfo
from rillevents.exporters.kafka_settings import KafkaAddress
from rillevents.files import read_file
from rillevents.paths import Paths
from rillevents.spool.view import contents

if TYPE_CHECKING:
    from rillevents.exporters import Exporter
    from rillevents.flusher import FlushResult

_COMMAND_SECONDS = 30
# What comes after RILLEVENTS_KAFKA_, and the setting that it stands for.
_KAFKA_VARIABLES = {
    "SASL_USERNAME": "sasl.username",
    "SASL_PASSWORD": "sasl.password",
    "SASL_OAUTHBEARER_CLIENT_SECRET": "sasl.oauthbearer.client.secret",
    "SSL_KEY_PASSWORD": "ssl.key.password",
    "SSL_KEYSTORE_PASSWORD": "ssl.keystore.password",
}


def flush(
    paths: Paths,
    environ: Mapping[str, str],
    *,
    to: str = "",
    timeout: float | None = None,
    wait: bool = True,
    ca_cert: str | None = None,
    on_progress: Callable[[int], None] | None = None,
    on_wait: Callable[[float], None] | None = None,
    warn: Callable[[str], None] = lambda message: None,
) -> FlushResult:
    """Send what is in this user's spool, and return what came of it.

    Opted out, nothing is sent. *to* overrules the environment and config.toml. A configuration that has to change first is
    the outcome `unconfigured`. Raises Busy where another flush is at it for longer than *timeout* (or *wait* is false),
    UsageError where *to* holds a password, SpoolError.
    """
    # Here, not above: because all commands ask this module where things are, and one of them sends.
    from rillevents.flusher import Flusher, FlushResult

    decision = consent.decide(paths, environ)
    if decision.warning:
        warn(decision.warning)
    if not decision.enabled:
        return FlushResult("off", pending=held_events(paths), reason=decision.decided_by)
    started = time.monotonic()
    try:
        settings = config.load(paths)
        for warning in settings.warnings:
            warn(warning)
        exporter = exporter_to(paths, environ, settings, to=to, timeout=timeout, ca_cert=ca_cert, warn=warn)
    except ConfigError as error:
        return FlushResult("unconfigured", pending=held_events(paths), reason=str(error))
    flusher = Flusher(
        exporter,
        batch_events=settings.get("flush", "batch_events", getattr(exporter, "batch_events", 1000)),
        batch_bytes=settings.get("flush", "batch_bytes", getattr(exporter, "batch_bytes", 1 << 20)),
        # What the password's command took is taken off: because the time-out is a total.
        timeout=None if timeout is None else max(0.0, timeout - (time.monotonic() - started)),
        stall_timeout=settings.get("flush", "stall_timeout", 30.0),
        wait=wait,
        on_progress=on_progress,
        on_wait=on_wait,
    )
    try:
        return flusher.flush(existing_spools(paths))
    finally:
        exporter.close()


def exporter_to(
    paths: Paths,
    environ: Mapping[str, str],
    settings: config.Config,
    *,
    to: str = "",
    timeout: float | None = None,
    ca_cert: str | None = None,
    warn: Callable[[str], None] = lambda message: None,
) -> Exporter:
    """Return an exporter to where events are to go, *to* or what is configured; raises ConfigError, and UsageError."""
    name = to or _named(destination_name(paths, environ, settings))
    return exporter_for(
        name,
        intake_settings(paths, environ, settings, warn=warn, timeout=timeout),
        ca_cert=ca_cert,
        compression=settings.get("flush", "compression", "none"),
        environ=environ,
        kafka=kafka_settings(paths, environ, settings, name),
    )


def _named(to: str) -> str:
    """Return a configured destination; raises ConfigError where a password stands in it, which is no place for one."""
    if to != without_userinfo(to):
        raise ConfigError(
            f"the destination {without_userinfo(to)} holds a password",
            hint="set RILLEVENTS_INTAKE_URL, RILLEVENTS_INTAKE_USER and RILLEVENTS_INTAKE_PASSWORD",
        )
    return to


def held_events(paths: Paths) -> int:
    """Return how many events wait in this user's spool; 0 where it cannot be looked at."""
    try:
        return sum(contents(place).events for place in existing_spools(paths))
    except SpoolError:
        return 0


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
    timeout: float | None = None,
    warn: Callable[[str], None] = lambda message: None,
) -> IntakeSettings | None:
    """Return the configured intake, None where there is none; raises ConfigError where its password cannot be had.

    A key of the environment wins over the same of config.toml, and a token over a password. Credentials of config.toml go only
    where its own URL leads. Without *secrets* no file is read and no command is run for them.
    """
    configured = settings.get("intake", "url", "")
    url = paths.app.variable(environ, "INTAKE_URL") or configured
    if not url:
        return None
    names = ("user", "password", "password_file", "token")
    told = {name: value for name in names if (value := paths.app.variable(environ, f"INTAKE_{name.upper()}"))}
    if "token" in told:
        told = {"token": told["token"]}
    within = IntakeSettings.from_url(url)
    at_home = configured and origin(within.url) == origin(IntakeSettings.from_url(configured).url)
    if at_home and (url == configured or not within.user):
        told = _merged(settings.sections.get("intake", {}), told)
    password = _password(told, warn, timeout) if secrets else None
    found = IntakeSettings.from_url(url, user=told.get("user"), password=password, token=told.get("token"))
    if secrets and found.user and not found.password:
        warn(f"there is no password for {found.user}: an empty one is sent")
    return found


def kafka_settings(paths: Paths, environ: Mapping[str, str], settings: config.Config, to: str = "") -> dict[str, Any]:
    """Return what stands under `[kafka]`, and over it the credentials of the environment.

    Raises ConfigError where *to* leads to other brokers than `flush.to`, and config.toml holds a secret, which is for those.
    """
    configured = settings.sections.get("kafka", {})
    told = {
        name: value
        for variable, name in _KAFKA_VARIABLES.items()
        if (value := paths.app.variable(environ, f"KAFKA_{variable}"))
    }
    home = settings.get("flush", "to", "")
    if is_kafka(to) and is_kafka(home) and any(is_secret(f"kafka.{name}") for name in {*configured} - {*told}):
        servers, known = (set(KafkaAddress.from_url(url).servers) for url in (to, home))
        if not servers <= known:
            hint = "set them in the environment: rillevents help kafka"
            raise ConfigError("the credentials under [kafka] are for the brokers of flush.to, not for these", hint=hint)
    return {**configured, **told}


def _merged(configured: Mapping[str, Any], told: Mapping[str, str]) -> dict[str, Any]:
    """Put the environment's credentials over those of config.toml, one way to say who one is over the other."""
    merged = dict(configured)
    if "token" in told:
        merged = {}
    elif told:
        merged.pop("token", None)
    if "password" in told or "password_file" in told:
        for key in ("password", "password_file", "password_command"):
            merged.pop(key, None)
    return merged | dict(told)


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
