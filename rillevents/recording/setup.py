"""The client as a user has configured it: folders, consent, configuration, install ID and spool, combined in one place."""

from __future__ import annotations

import os
import time

from rillevents.event import INSTALL_ID
from rillevents.local import RILLEVENTS, Paths, config, consent, install_id
from rillevents.local.files import ensure_home
from rillevents.recording.redact import DEFAULT, Redactor
from rillevents.recording.sinks.spool import SpoolSink
from rillevents.spool import VERSION, is_auto_due

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from rillevents.delivery.outcome import FlushResult
    from rillevents.local import Application
    from rillevents.local.config import Config
    from rillevents.recording.sinks import Sink
    from rillevents.recording.sinks.tap import TapSink

    Origin = tuple[dict[str, str] | None, Application | None, Any, float | str | None, dict[str, Any]]


class Setup:
    """What a client needs: its sink, its attributes and its redactor; `warnings` are for a person to see.

    `spool` is the sink at the end of all others, and `auto` in how many seconds a flush may be started for it, 0 for never.
    """

    __slots__ = ("attributes", "auto", "redactor", "sink", "spool", "warnings")

    def __init__(
        self,
        sink: Sink,
        attributes: dict[str, Any],
        redactor: Redactor | None,
        warnings: list[str],
        *,
        spool: SpoolSink | None = None,
        auto: float = 0.0,
    ) -> None:
        self.sink = sink
        self.attributes = attributes
        self.redactor = redactor
        self.warnings = warnings
        self.spool = spool
        self.auto = auto

    def start_delivery(self, paths: Paths) -> None:
        """Start a flush beside this process, which ends soon, if something was stored and the user wants that; never raises."""
        if self.auto and self.spool and self.spool.stored_in:
            start_delivery(paths, self.spool.stored_in, self.auto)

    def origin(
        self,
        environ: Mapping[str, str] | None,
        app: Application | None,
        on_error: str,
        flush_every: float | str | None,
    ) -> Origin:
        """Return what `Client.from_config` was called with, and the attributes that came of it, to do it again elsewhere."""
        return None if environ is None else dict(environ), app, on_error, flush_every, self.attributes


def reduced(kind: type, origin: Origin | None, attributes: Mapping[str, Any]) -> tuple[Any, ...]:
    """Return how pickle makes a client anew: from the configuration there, with the attributes that were added here.

    Raises TypeError for a client on a sink that a programmer made.
    """
    if origin is None:
        raise TypeError(
            "a client cannot be pickled: its sink's file, thread and connections belong to this process; "
            "make a client in the other process, or use Client.from_config()"
        )
    environ, app, on_error, flush_every, configured = origin
    nothing = object()
    added = {key: value for key, value in attributes.items() if configured.get(key, nothing) != value}
    return _opened_again, (kind, environ, app, on_error, flush_every, added)


def _opened_again(
    kind: Any,
    environ: dict[str, str] | None,
    app: Application | None,
    on_error: str,
    flush_every: float | str | None,
    added: dict[str, Any],
) -> Any:
    found = kind.from_config(environ=environ, app=app, on_error=on_error, flush_every=flush_every)
    return found.with_attributes(added)


def start_delivery(paths: Paths, spool: str, every: float, *, lasting: bool = False) -> None:
    """Start a flush of *spool* beside this process unless one began within *every* seconds; never raises.

    *lasting*: this process does not end soon.
    """
    if not is_auto_due(f"{spool}/{VERSION}", every, time.time()):
        return
    try:
        from rillevents.delivery.detached import start

        start(paths, spool, every, lasting=lasting)
    except Exception:  # noqa: BLE001 - the events are stored; the next command tries again
        return


def start_configured_delivery(paths: Paths, spool: str) -> None:
    """Start a flush of *spool* beside this process, which ends soon, if telemetry is on and the user wants that; never raises."""
    if consent.decide(paths).enabled:
        every, _ = config.auto_interval(paths, config.load_for_recording(paths))
        if every:
            start_delivery(paths, spool, every)


def setup(environ: Mapping[str, str] | None, app: Application | None, flush_every: float | str | None = None) -> Setup:
    """Return the parts of `Client.from_config`: if opted out a sink that discards everything, else the user's spool.

    Raises ValueError if *flush_every* is no duration.
    """
    every = _checked_interval(flush_every)
    paths = Paths(os.environ if environ is None else environ, app or RILLEVENTS)
    decision = consent.decide(paths)
    warnings = [decision.warning] if decision.warning else []
    if not decision.enabled:
        from rillevents.recording.sinks.noop import NoopSink

        return Setup(NoopSink(), {}, DEFAULT, warnings)
    found = recording_setup(paths, watched=True)
    found.warnings[:0] = warnings
    if found.spool and every:
        from rillevents.recording.sinks.delivering import DeliveringSink

        deliver = lambda timeout, wait: flush_configured(paths, timeout=timeout, wait=wait)  # noqa: E731
        allowed = lambda: consent.decide(paths).enabled  # noqa: E731
        found.sink = DeliveringSink(found.sink, found.spool, every, deliver, allowed)
    elif found.spool and found.auto and paths.app is not RILLEVENTS:
        from rillevents.recording.sinks.delivering import LeavingSink

        auto = found.auto
        found.sink = LeavingSink(
            found.sink, found.spool, lambda spool, lasting: start_delivery(paths, spool, auto, lasting=lasting)
        )
    return found


def _checked_interval(every: float | str | None) -> float:
    """Return a number of seconds, 0 for none; raises ValueError."""
    if every is None:
        return 0.0
    from rillevents.event.timestamp import parse_duration

    seconds = float(parse_duration(every)) if isinstance(every, str) else float(every)
    if not 0 < seconds < 1e6:
        raise ValueError(f"flush_every must be a number of seconds above 0, or a text such as '30s', not {every!r}")
    return seconds


def recording_setup(
    paths: Paths,
    *,
    short_lived: bool = False,
    watched: bool = False,
    durable: bool = False,
    dry_run: bool = False,
    ci: bool = False,
    tap: TapSink | None = None,
) -> Setup:
    """Return the parts of a client for a user who has not opted out.

    *watched* is for a program that runs on: it follows the user's decision. With *ci*, events say which CI job this is, as
    they do if the user has asked for it.

    A *tap* sees every event as stored. With *dry_run* only the tap sees it, and nothing is created: no ID, no folder.
    """
    if not dry_run:
        ensure_home(paths.home)
    settings = config.load_for_recording(paths, cache=not dry_run)
    listed, warnings = config.identity_attributes(paths)
    known = (install_id.peek if dry_run else install_id.read_or_create)(paths)
    identity = known.value if known else install_id.mint()
    auto, odd = config.auto_interval(paths, settings)
    spool = (watched_sink(paths) if watched else SpoolSink)(
        paths.spool_dirs,
        max_bytes=settings.max_bytes,
        durable=durable or settings.durable,
        short_lived=short_lived,
        flush=lambda timeout: flush_configured(paths, timeout=timeout),
    )
    sink: Sink = spool
    if tap:
        tap.behind = None if dry_run else sink
        sink = tap
    of_ci, more = _ci(paths, settings, ci)
    attributes = {**_trace(paths), **of_ci, **settings.attributes, INSTALL_ID: identity, **listed}
    told = [*settings.warnings, *warnings, *more, *odd]
    return Setup(_filtered(sink, settings), attributes, _redactor(settings), told, spool=spool, auto=auto)


def _trace(paths: Paths) -> dict[str, str]:
    traceparent = paths.environ.get("TRACEPARENT")
    if not traceparent:
        return {}
    from rillevents.recording.trace import trace_context

    return trace_context(traceparent)


def _ci(paths: Paths, settings: Config, wanted: bool) -> tuple[dict[str, str], list[str]]:
    configured, warnings = config.ci_context(paths, settings)
    if not (wanted or configured):
        return {}, warnings
    from rillevents.local.ci import ci_attributes

    return ci_attributes(paths.environ), warnings


def watched_sink(paths: Paths) -> Callable[..., SpoolSink]:
    """Return what makes a sink that stores nothing while this user has telemetry off, also when they turn it off later."""
    from rillevents.recording.sinks.watched import WatchedSpoolSink

    def make(*args: Any, **options: Any) -> SpoolSink:
        decide = lambda: consent.decide(paths).enabled  # noqa: E731
        return WatchedSpoolSink(*args, file=paths.telemetry_file, decide=decide, **options)

    return make


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
    from rillevents.recording.sinks.filter import ConfiguredFilterSink

    return ConfiguredFilterSink(sink, rules)


def flush_configured(paths: Paths, *, timeout: float | None = None, wait: bool = True) -> FlushResult:
    """Send this user's spool to the configured destination; any problem is in the result."""
    from dataclasses import replace

    from rillevents.delivery.flush import flush
    from rillevents.delivery.outcome import FlushOutcome, FlushResult
    from rillevents.errors import Busy, SpoolError

    try:
        found = flush(paths, timeout=timeout, wait=wait)
    except (Busy, SpoolError) as error:
        from rillevents.spool.view import held_events

        found = FlushResult(FlushOutcome.TEMPORARY, pending=held_events(paths), reason=str(error))
    return replace(found, reason=paths.app.own_words(found.reason))
