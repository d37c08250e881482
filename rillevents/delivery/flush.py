"""One call for the command line and the library: send this user's spool to the destination."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from rillevents.delivery.destination import destination_name, intake_settings, kafka_settings
from rillevents.delivery.exporters.encoding import Compression
from rillevents.delivery.flusher import Flusher
from rillevents.delivery.outcome import Exporter, FlushOutcome, FlushResult
from rillevents.delivery.sums import Tally
from rillevents.delivery.turns import forget_failures
from rillevents.delivery.url import (
    DEFAULT_PORTS,
    IntakeSettings,
    is_kafka,
    is_otlp,
    is_stdout,
    origin,
    split_url,
    without_userinfo,
)
from rillevents.errors import ConfigError, UsageError
from rillevents.event.muting import Muted
from rillevents.local import Paths, config, consent
from rillevents.spool import VERSION
from rillevents.spool.view import existing_spools, held_events

if TYPE_CHECKING:
    from rillevents.delivery.exporters.otlp.settings import OtlpSettings


def flush(
    paths: Paths,
    *,
    to: str = "",
    timeout: float | None = None,
    wait: bool = True,
    ca_cert: str | None = None,
    on_progress: Callable[[int], None] | None = None,
    on_wait: Callable[[float], None] | None = None,
    warn: Callable[[str], None] = lambda message: None,
    tally: Tally | None = None,
) -> FlushResult:
    """Send what is in this user's spool, and return the result.

    If opted out, nothing is sent. *to* overrides the environment and config.toml. If the configuration must be changed first,
    the outcome is `unconfigured`. Raises Busy if another flush is running for longer than *timeout* (or *wait* is false),
    UsageError if *to* contains a password, SpoolError. What is delivered of sessions and CI jobs is counted for `summary`, by
    *tally* if one is given.
    """
    decision = consent.decide(paths)
    if decision.warning:
        warn(decision.warning)
    if not decision.enabled:
        return FlushResult(FlushOutcome.OFF, pending=held_events(paths), reason=decision.decided_by)
    started = time.monotonic()
    try:
        settings = config.load(paths)
        for warning in settings.warnings:
            warn(warning)
        exporter = exporter_to(paths, settings, to=to, timeout=timeout, ca_cert=ca_cert, warn=warn)
    except ConfigError as error:
        return FlushResult(FlushOutcome.UNCONFIGURED, pending=held_events(paths), reason=str(error))
    tally = tally or Tally.wanted(paths)
    flusher = Flusher(
        exporter,
        **batch_limits(settings, exporter),
        # Subtract the time that the password command took, since the timeout is a total.
        timeout=None if timeout is None else max(0.0, timeout - (time.monotonic() - started)),
        wait=wait,
        on_progress=on_progress,
        on_wait=on_wait,
        warn=warn,
        on_settled=tally.add if tally else None,
        destination=_for_people(paths, settings, to),
    )
    spools = existing_spools(paths)
    try:
        result = flusher.flush(spools)
    finally:
        with Muted():
            exporter.close()
        if tally:
            tally.save(paths)
    if result.delivered and not result.outcome.needs_attention:
        for spool in spools:
            with suppress(OSError):
                forget_failures(f"{spool}/{VERSION}")
    return result


def _for_people(paths: Paths, settings: config.Config, to: str) -> str:
    """Return the destination as people are told where events went: without secrets, an intake by its URL."""
    name = to or destination_name(paths, settings)
    intake = intake_settings(paths, settings, secrets=False) if name == "intake" else None
    return without_userinfo(intake.url if intake else name)


def batch_limits(settings: config.Config, exporter: Exporter) -> dict[str, Any]:
    """Return the limits of a batch and of a stall: as configured, else as the exporter prefers, with room to grow if it has."""
    configured = any(settings.get("flush", key, None) is not None for key in ("batch_events", "batch_bytes"))
    return {
        "most": None if configured else getattr(exporter, "most", None),
        "batch_events": settings.get("flush", "batch_events", getattr(exporter, "batch_events", 1000)),
        "batch_bytes": settings.get("flush", "batch_bytes", getattr(exporter, "batch_bytes", 1 << 20)),
        "stall_timeout": settings.get("flush", "stall_timeout", 30.0),
    }


def exporter_to(
    paths: Paths,
    settings: config.Config,
    *,
    to: str = "",
    timeout: float | None = None,
    ca_cert: str | None = None,
    warn: Callable[[str], None] = lambda message: None,
    mark: Callable[[], Mapping[str, str]] | None = None,
) -> Exporter:
    """Return an exporter to *to* or to the configured destination; raises ConfigError, and UsageError."""
    name = to or _named(destination_name(paths, settings))

    def renew() -> IntakeSettings | None:
        found = intake_settings(paths, config.load(paths), timeout=timeout)
        return found and _settings_for(name, name.partition(":")[0].lower(), found)

    return exporter_for(
        name,
        # What cannot be sent there is not read: its password's file, and the command that prints it.
        intake_settings(paths, settings, warn=warn, timeout=timeout) if _is_intake(name) else None,
        ca_cert=ca_cert,
        compression=settings.get("flush", "compression", "none"),
        environ=paths.environ,
        kafka=kafka_settings(paths, settings, name) if is_kafka(name) else None,
        otlp=otlp_of(paths, settings, name, warn) if is_otlp(name) else None,
        renew=renew,
        mark=mark,
    )


def _named(to: str) -> str:
    """Return a configured destination; raises ConfigError if it contains a password, which does not belong there."""
    if to != without_userinfo(to):
        raise ConfigError(
            f"the destination {without_userinfo(to)} contains a password",
            hint="set RILLEVENTS_INTAKE_URL, RILLEVENTS_INTAKE_USER and RILLEVENTS_INTAKE_PASSWORD",
        )
    return to


def _is_intake(to: str) -> bool:
    """Return whether a destination may get the intake's credentials: `intake`, and a URL whose origin may be the same."""
    return to == "intake" or to.partition(":")[0].lower() in DEFAULT_PORTS


def otlp_of(
    paths: Paths, settings: config.Config, to: str, warn: Callable[[str], None] = lambda message: None
) -> OtlpSettings:
    """Return the settings of an OTLP destination, from config.toml and OTEL_* variables; raises ConfigError, UsageError."""
    from rillevents.delivery.exporters.otlp.settings import otlp_settings

    configured = settings.sections.get("otlp", {})
    return otlp_settings(to, configured, paths.environ, home=settings.get("flush", "to", ""), warn=warn)


_HOST_AND_PORT = re.compile(r"[A-Za-z0-9.-]+:\d{1,5}(/|$)")
_POSSIBLE = (
    "possible destinations: intake, https://HOST/PATH, http://HOST/PATH, otlp, otlp+https://HOST:PORT, otlp+http://HOST:PORT, "
    "kafka://HOST:PORT/TOPIC, file:PATH, file:-"
)


def exporter_for(
    to: str,
    intake: IntakeSettings | None,
    *,
    ca_cert: str | os.PathLike[str] | None = None,
    compression: Compression = "none",
    environ: Mapping[str, str] | None = None,
    kafka: Mapping[str, Any] | None = None,
    otlp: OtlpSettings | None = None,
    renew: Callable[[], IntakeSettings | None] | None = None,
    mark: Callable[[], Mapping[str, str]] | None = None,
) -> Exporter:
    """Return an exporter for `intake`, an http(s), OTLP or kafka URL, or `file:PATH`; nothing is connected or opened yet.

    A URL gets the configured intake's credentials only if its origin is the same. *kafka* holds the settings under `[kafka]`,
    *otlp* those of an OTLP destination.
    *renew* reads the intake's settings again; *mark* gives headers for each request. Raises UsageError if the URL contains
    credentials, ConfigError if the destination is not usable.
    """
    scheme = to.partition(":")[0].lower()
    if is_stdout(to):
        from rillevents.delivery.exporters.stdout import StdoutExporter

        return StdoutExporter()
    if scheme == "file" and ":" in to:
        from rillevents.delivery.exporters.file import FileExporter

        return FileExporter(_file_path(to.partition(":")[2]))
    if is_kafka(to):
        from rillevents.delivery.exporters.kafka.exporter import KafkaExporter

        settings = dict(kafka or {})
        return KafkaExporter(to, key=settings.pop("key", "install_id"), settings=settings)
    given: dict[str, Any] = {"environ": environ, "mark": mark}
    if is_otlp(to):
        from rillevents.delivery.exporters.otlp.exporter import OtlpExporter
        from rillevents.delivery.exporters.otlp.settings import otlp_settings

        return OtlpExporter.of(otlp or otlp_settings(to, {}, environ or {}), compression, ca_cert, **given)
    given |= {"ca_cert": ca_cert, "compression": compression}
    return _intake_exporter(to, scheme, intake, renew=renew, **given)


def _intake_exporter(
    to: str,
    scheme: str,
    intake: IntakeSettings | None,
    *,
    renew: Callable[[], IntakeSettings | None] | None = None,
    **given: Any,
) -> Exporter:
    settings = _settings_for(to, scheme, intake)

    def renewed() -> IntakeSettings | None:
        # Only for the server that they are for: the URL may have been changed meanwhile, too.
        found = renew() if renew else None
        return found if found and origin(found.url) == origin(settings.url) else None

    from rillevents.delivery.exporters.intake import IntakeExporter

    return IntakeExporter(
        settings.url,
        user=settings.user,
        password=settings.password,
        token=settings.token,
        headers=settings.headers,
        renew=renewed,
        **given,
    )


def _settings_for(to: str, scheme: str, intake: IntakeSettings | None) -> IntakeSettings:
    if to == "intake":
        if intake is None:
            hint = "set RILLEVENTS_INTAKE_URL, or run: rillevents config set intake.url URL"
            raise ConfigError("no destination is configured", hint=hint)
        return intake
    if scheme not in DEFAULT_PORTS or "://" not in to:
        # `localhost:8787`: whoever leaves the scheme out is told what it lacks.
        hint = f"write --to http://{to}" if _HOST_AND_PORT.match(to) else _POSSIBLE
        raise ConfigError("this is not a valid destination", hint=hint)
    if "@" in split_url(to).netloc:
        hint = "set RILLEVENTS_INTAKE_USER and RILLEVENTS_INTAKE_PASSWORD"
        raise UsageError("secrets do not belong in arguments, which every user of this machine can read", hint=hint)
    if intake is not None and origin(to) == origin(intake.url):
        return replace(intake, url=to)
    return IntakeSettings(to)


def _file_path(path: str) -> str:
    if path.startswith("//") and not path.startswith("///"):
        raise ConfigError("a file: destination has no host", hint="write file:PATH or file:///PATH")
    return path.removeprefix("//")
