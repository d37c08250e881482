"""The client: creates events, with attributes from three places, and passes them to a sink."""

from __future__ import annotations

import sys
from _thread import get_ident

from rillevents.errors import InvalidEvent, RilleventsError
from rillevents.event import (
    BEHAVIORAL,
    INSTALL_ID,
    IS_DEV,
    LOG,
    METRIC,
    SERVICE_COMMIT,
    SERVICE_NAME,
    SERVICE_VERSION,
    USER_ID,
    Event,
    Shared,
    check_mapping,
    check_number,
    check_text,
    muted,
    to_event_time,
)
from rillevents.recording.redact import DEFAULT, Redactor, redacted
from rillevents.recording.sinks import Lifecycle, Reporter, adapted, log

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime
    from decimal import Decimal
    from typing import Any, Literal, SupportsFloat, SupportsIndex

    from rillevents.local import Application
    from rillevents.recording.setup import Origin
    from rillevents.recording.sinks import Sink
    from rillevents.recording.timed import Timed

    # A number is seconds since 1970.
    EventTime = str | int | float | Decimal | datetime
    OnError = Literal["log", "raise"]


class Client(Lifecycle):
    """Records events into a sink; immutable, so every `with_*` returns a copy, and safe to share between threads.

    Recording never raises, and never waits for a network or another process. Into the spool an event takes at most 400 calls to
    the file system: 2 on a healthy disk; up to 800, and one for each file there, if it opens a new file. An invalid event or a
    failing disk is logged to the logger `rillevents` (or passed to *warn*) and counted; with `on_error="raise"` it raises, for
    tests. The client's attributes are overridden by OpenTelemetry's current span, that by `set_attributes`, those by the call's
    arguments, and those by what the method adds. The *redactor* replaces secrets; the default one knows common keys and tokens,
    and None leaves everything unchanged.
    """

    __slots__ = ("_origin", "_redactor", "_reporter", "_shared", "_shared_has_no_secrets", "_sink", "sink")

    def __init__(
        self,
        sink: Sink,
        *,
        on_error: OnError = "log",
        warn: Callable[[str], None] | None = None,
        attributes: Mapping[str, Any] | None = None,
        redactor: Redactor | None = DEFAULT,
    ) -> None:
        if on_error not in ("log", "raise"):
            raise ValueError(f"on_error must be 'log' or 'raise', not {on_error!r}")
        self.sink = sink
        self._sink = adapted(sink)
        self._reporter = Reporter(self._sink, warn, raises=on_error == "raise")
        if warn is None and self._sink.enabled:
            # Now, not when something fails: a program without free descriptors cannot import any more.
            import rillevents.event.mending
            import rillevents.recording.timed  # noqa: F401
        self._shared = Shared(dict(attributes or {}))
        self._origin: Origin | None = None
        self._redactor = redactor
        # Only if a subclass or instance has not replaced the method: otherwise that one must see every event.
        self._shared_has_no_secrets = (
            isinstance(redactor, Redactor)
            and type(redactor).redact is Redactor.redact
            and redactor.has_no_secrets(self._shared.attributes)
        )

    @classmethod
    def from_config(
        cls,
        *,
        environ: Mapping[str, str] | None = None,
        app: Application | None = None,
        on_error: OnError = "log",
        flush_every: float | str | None = None,
    ) -> Client:
        """Return the client that the command line uses: this user's configuration, consent, install ID and spool.

        If opted out, it records nothing and creates no file. Broken settings fall back to defaults, and are logged. With
        *flush_every*, seconds or a text such as "30s", a thread of this process delivers the spool that often, and `close` within
        its timeout; ValueError if that is no duration.
        """
        from rillevents.recording.setup import setup

        found = setup(environ, app, flush_every)
        for warning in found.warnings:
            log(app.own_words(warning) if app else warning)
        client = cls(found.sink, on_error=on_error, attributes=found.attributes, redactor=found.redactor)
        client._reporter.app = app
        client._origin = found.origin(environ, app, on_error, flush_every)
        return client

    def __copy__(self, _: object = None) -> Client:
        # The sink is shared: its file, its thread and its connections cannot be copied.
        return self.with_attributes()

    __deepcopy__ = __copy__

    def __reduce__(self) -> tuple[Any, ...]:
        from rillevents.recording.setup import reduced

        return reduced(type(self), self._origin, self._shared.attributes)

    @property
    def enabled(self) -> bool:
        """Whether recorded events go anywhere."""
        enabled: bool = self._sink.enabled
        return enabled

    @property
    def attributes(self) -> Mapping[str, Any]:
        """The attributes that this client adds to every event; a copy."""
        return dict(self._shared.attributes)

    def with_attributes(self, attributes: Mapping[str, Any] | None = None, /, **more: Any) -> Client:
        """Return a copy of the client that adds these attributes to every event."""
        client = self.__class__(
            self.sink,
            warn=self._reporter.warn,
            attributes={**self._shared.attributes, **(attributes or {}), **more},
            redactor=self._redactor,
        )
        client._origin, client._reporter = self._origin, self._reporter
        return client

    def with_service_name(self, name: str) -> Client:
        """Return a copy of the client that sets `service_name`."""
        return self.with_attributes({SERVICE_NAME: name})

    def with_service_version(self, number: str, commit: str = "") -> Client:
        """Return a copy of the client that sets `service_version` and `service_commit`."""
        return self.with_attributes({SERVICE_VERSION: number, SERVICE_COMMIT: commit})

    def with_is_dev(self, is_dev: bool = True) -> Client:
        """Return a copy of the client that sets `is_dev`."""
        return self.with_attributes({IS_DEV: is_dev})

    def with_install_id(self, install_id: str) -> Client:
        """Return a copy of the client that sets `install_id`."""
        return self.with_attributes({INSTALL_ID: install_id})

    def with_user_id(self, user_id: str) -> Client:
        """Return a copy of the client that sets `user_id`."""
        return self.with_attributes({USER_ID: user_id})

    def record(
        self,
        event_type: str,
        event_name: str,
        attributes: Mapping[str, Any] | None = None,
        /,
        *,
        event_id: str | None = None,
        event_time: EventTime | None = None,
        event_time_ns: int | None = None,
        **more: Any,
    ) -> str | None:
        """Record an event of any type, and return its ID; None if telemetry is off, or the event could not be stored."""
        return self._record(event_type, event_name, attributes, more, {}, event_id, (event_time, event_time_ns))

    def record_behavioral(
        self,
        event_name: str,
        attributes: Mapping[str, Any] | None = None,
        /,
        *,
        event_id: str | None = None,
        event_time: EventTime | None = None,
        event_time_ns: int | None = None,
        **more: Any,
    ) -> str | None:
        """Record an action (`login-start`), and return the event's ID."""
        return self._record(BEHAVIORAL, event_name, attributes, more, {}, event_id, (event_time, event_time_ns))

    def record_metric(
        self,
        event_name: str,
        value: SupportsFloat | SupportsIndex,
        attributes: Mapping[str, Any] | None = None,
        /,
        *,
        event_id: str | None = None,
        event_time: EventTime | None = None,
        event_time_ns: int | None = None,
        **more: Any,
    ) -> str | None:
        """Record a finite number, and return the event's ID.

        `name` and `time` (to the second) are added for readers of a format older than `event_name` and `event_time`.
        """
        added = {"value": value, "name": event_name, "time": ""}
        return self._record(METRIC, event_name, attributes, more, added, event_id, (event_time, event_time_ns))

    def record_log(
        self,
        event_name: str,
        message: str = "",
        attributes: Mapping[str, Any] | None = None,
        /,
        *,
        event_id: str | None = None,
        event_time: EventTime | None = None,
        event_time_ns: int | None = None,
        **more: Any,
    ) -> str | None:
        """Record a log line under a name, its text as the attribute `message`, and return the event's ID."""
        added = {"message": message} if message else {}
        return self._record(LOG, event_name, attributes, more, added, event_id, (event_time, event_time_ns))

    def _record(
        self,
        event_type: str,
        event_name: str,
        attributes: Mapping[str, Any] | None,
        more: dict[str, Any],
        added: dict[str, Any],
        event_id: str | None,
        when: tuple[EventTime | None, int | None],
    ) -> str | None:
        if not self._sink.enabled or (muted and get_ident() in muted):
            return None
        try:
            ambient: Mapping[str, Any] = {}
            # Only then can the code around the call have set any.
            if "rillevents.recording.context" in sys.modules or "opentelemetry.trace" in sys.modules:
                from rillevents.recording.trace import ambient_attributes

                ambient = ambient_attributes()
            own = {**ambient, **check_mapping(attributes), **more, **added} if ambient or attributes or added else more
            event = Event(
                check_text("the event's type", event_type),
                check_text("the event's name", event_name),
                own,
                event_id="" if event_id is None else check_text("event_id", event_id),
                event_time="" if when[0] is None and when[1] is None else to_event_time(*when, self._reporter.tell),
                shared=self._shared,
                invalid=None if self._reporter.raises else {},
            )
            if "value" in added:
                own["value"] = check_number(added["value"])
                own["time"] = f"{event.event_time[:19]}Z"
        except Exception as error:  # noqa: BLE001 - in somebody's program recording never raises
            self._reporter.failed(error, InvalidEvent)
            return None
        return self._emit(event)

    def _emit(self, event: Event) -> str | None:
        try:
            redactor = self._redactor
            if redactor and not (self._shared_has_no_secrets and redactor.has_no_secrets(event.own)):
                event = redacted(redactor, event)
            self._sink.emit(event)
        except Exception as error:  # noqa: BLE001 - in somebody's program recording never raises
            self._reporter.failed(error, RilleventsError)
            return None
        if event.truncated or event.invalid:
            self._reporter.tell_loss(event)
        return event.event_id

    def record_behavioral_legacy(
        self,
        event_name: str,
        attributes: Mapping[str, Any] | None = None,
        /,
        *,
        event_id: str = "",
        event_time: EventTime | None = None,
        event_time_ns: int | None = None,
        **more: Any,
    ) -> str | None:
        """Record a behavioral event that also has the fields of Rill's older format, and return its ID.

        Ambient attributes are left out, as in Rill's client. Raises InvalidEvent unless service name, service version,
        install ID and user ID were all set on the client (an empty string counts as set).
        """
        from rillevents.event.legacy import legacy_event

        if not self._sink.enabled or get_ident() in muted:
            return None
        given = None if isinstance(event_time, str) and not event_time else event_time
        when = to_event_time(given, event_time_ns, self._reporter.tell)
        event = legacy_event(
            event_name,
            self._shared.attributes,
            {**check_mapping(attributes), **more},
            event_id=event_id,
            event_time=when,
        )
        event.invalid = None if self._reporter.raises else {}
        return self._emit(event)

    def record_raw(self, event: Mapping[str, Any] | bytes) -> str | None:
        """Pass on a complete event (a line of NDJSON byte for byte), checked but not enriched, and return its ID.

        Raises InvalidEvent if a required field is missing, or it is not a JSON object, or larger than 32 KiB.
        """
        from rillevents.event.validate import parse_raw

        parsed = parse_raw(event)
        return self._emit(parsed) if self._sink.enabled and get_ident() not in muted else None

    def timed(self, event_name: str, attributes: Mapping[str, Any] | None = None, /, **more: Any) -> Timed:
        """Return what records the duration of a `with` block, or of each call of a function or coroutine that it decorates.

        The metric is in seconds, with `success` true or false. A block gets a dict for further attributes; an exception is passed
        on, with its class recorded as `error`.
        """
        from rillevents.recording.timed import Timed

        return Timed(self.record_metric, event_name, attributes, more)
