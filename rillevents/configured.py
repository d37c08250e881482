"""The client as a user has configured it: folders, consent, configuration, install ID and spool, put together in one place."""

from __future__ import annotations

import os

from rillevents import config, consent, install_id
from rillevents.client import Client
from rillevents.event import INSTALL_ID
from rillevents.files import ensure_home
from rillevents.paths import RILLEVENTS, Paths
from rillevents.redact import DEFAULT, Redactor
from rillevents.sinks.spool import SpoolSink

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from rillevents.config import Config
    from rillevents.flusher import FlushResult
    from rillevents.paths import Application
    from rillevents.sinks import Sink
    from rillevents.sinks.tap import TapSink


def client_from_config(
    *,
    environ: Mapping[str, str] | None = None,
    app: Application | None = None,
    on_error: str = "log",
) -> Client:
    """Return the client that `Client.from_config` promises; warnings go to the logger `rillevents`."""
    environ = os.environ if environ is None else environ
    paths = Paths(environ, app or RILLEVENTS)
    decision = consent.decide(paths, environ)
    if decision.warning:
        _log(decision.warning)
    if not decision.enabled:
        from rillevents.sinks.noop import NoopSink

        return Client(NoopSink(), on_error=on_error)
    client, warnings = recording_client(paths, environ, on_error=on_error)
    for warning in warnings:
        _log(warning)
    return client


def _log(message: str) -> None:
    import logging

    logging.getLogger("rillevents").warning(message)


def recording_client(
    paths: Paths,
    environ: Mapping[str, str],
    *,
    on_error: str = "log",
    short_lived: bool = False,
    durable: bool = False,
    dry_run: bool = False,
    tap: TapSink | None = None,
    warn: Callable[[str], None] | None = None,
) -> tuple[Client, list[str]]:
    """Return the client of somebody who has not opted out, and what should be said about the configuration.

    A *tap* sees every event as it is stored. With *dry_run* it is all that does, and nothing is created: no ID, no folder.
    """
    if not dry_run:
        ensure_home(paths.home)
    settings = config.load_for_recording(paths, cache=not dry_run)
    listed, warnings = config.identity_attributes(paths, environ)
    known = (install_id.peek if dry_run else install_id.read_or_create)(paths, environ)
    identity = known.value if known else install_id.mint()
    sink: Sink = SpoolSink(
        paths.spool_dirs,
        max_bytes=settings.max_bytes,
        durable=durable or settings.durable,
        short_lived=short_lived,
        flush=lambda timeout: flush_configured(paths, environ, timeout=timeout),
    )
    if tap:
        tap.behind = None if dry_run else sink
        sink = tap
    attributes = {**settings.attributes, INSTALL_ID: identity, **listed}
    client = Client(
        _filtered(sink, settings), on_error=on_error, warn=warn, attributes=attributes, redactor=_redactor(settings)
    )
    return client, settings.warnings + warnings


def _redactor(settings: Config) -> Redactor | None:
    if not settings.get("redact", "enabled", True):
        return None
    if "redact" not in settings.sections:
        return DEFAULT
    return Redactor(settings.get("redact", "keys", ()), values=settings.get("redact", "values", True))


def _filtered(sink: Sink, settings: Config) -> Sink:
    rules = settings.sections.get("filter")
    if not rules:
        return sink
    from rillevents.sinks.filter import ConfiguredFilterSink

    return ConfiguredFilterSink(sink, rules)


def flush_configured(paths: Paths, environ: Mapping[str, str], *, timeout: float | None = None) -> FlushResult:
    """Send what is in this user's spool to the configured destination; what keeps that from happening is in the result."""
    from rillevents.destination import flush
    from rillevents.errors import Busy, SpoolError
    from rillevents.flusher import FlushResult

    try:
        return flush(paths, environ, timeout=timeout)
    except (Busy, SpoolError) as error:
        return FlushResult("temporary", reason=str(error))
