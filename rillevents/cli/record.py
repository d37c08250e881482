"""What `record` does, for both parsers: request → event → spool → exit code, and the messages about it."""

from __future__ import annotations

import sys

from rillevents.cli.record_quick import failure_mode, is_quiet
from rillevents.errors import InvalidEvent, RilleventsError, SpoolError, UsageError
from rillevents.event import (
    BEHAVIORAL,
    ENVELOPE,
    LOG,
    METRIC,
    METRIC_FIELDS,
    USER_ID,
    check_number,
    check_text,
    encode_line,
)
from rillevents.event import to_event_time as _to_event_time
from rillevents.event.ndjson import loads
from rillevents.local import Paths, consent
from rillevents.recording import Client
from rillevents.recording.setup import recording_setup

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from rillevents.cli.record_quick import RecordCommand


class Plan:
    """A valid request: what is to be recorded."""

    __slots__ = ("attributes", "event_id", "event_name", "event_time", "event_type", "value")

    def __init__(self, request: RecordCommand) -> None:
        self.event_type, self.event_name, rest = _names(request)
        check_text("TYPE", self.event_type)
        check_text("NAME", self.event_name)
        self.value = _metric_value(rest[0]) if request.form == "metric" else None
        self.attributes: dict[str, Any] = dict(_attributes(request))
        if request.form == "log" and rest:
            self.attributes["message"] = rest[0]
        if request.user_id is not None:
            self.attributes[USER_ID] = request.user_id
        encode_line(self.attributes)
        self.event_id = None if request.id is None else check_text("--id", request.id)
        self.event_time = None if request.time is None else _to_event_time(request.time)


class Report:
    """The result: whether it was recorded, the exit code, the line for stdout, and the messages for stderr."""

    def __init__(self) -> None:
        self.recorded = False
        self.code = 0
        self.out = b""
        self.messages: list[str] = []


def perform_quietly(request: RecordCommand, environ: Mapping[str, str]) -> int | None:
    """Perform the request and print its output; return None, without doing anything, if it is not valid."""
    if request.legacy:
        return None
    try:
        plan = Plan(request)
    except UsageError:
        return None
    try:
        report = perform(request, plan, environ)
    except InvalidEvent:
        return None
    return show(report, quiet=request.quiet or is_quiet(environ))


def perform(request: RecordCommand, plan: Plan, environ: Mapping[str, str]) -> Report:
    """Record the plan, or nothing when opted out; raises InvalidEvent only for a legacy event that lacks attributes."""
    report = Report()
    paths = Paths(environ)
    decision = consent.decide(paths)
    if decision.warning:
        report.messages.append(decision.warning)
    _, warning = failure_mode(request.on_error, environ)
    if warning:
        report.messages.append(warning)
    if not decision.enabled and not request.dry_run:
        if request.print:
            report.messages.append(f"telemetry is off ({decision.decided_by}): nothing was recorded")
        return report
    tap = None
    if request.print or request.dry_run:
        from rillevents.recording.sinks.tap import TapSink

        tap = TapSink()
    try:
        setup = recording_setup(
            paths, short_lived=True, durable=request.durable, dry_run=request.dry_run, ci=request.ci, tap=tap
        )
        report.messages += setup.warnings
        client = Client(
            setup.sink,
            on_error="raise",
            warn=report.messages.append,
            attributes=setup.attributes,
            redactor=setup.redactor,
        )
        _record(client, request, plan)
        report.recorded = True
        # Before the notices: of what is told for the first time now, nothing is sent yet.
        setup.start_delivery(paths)
        if not request.dry_run and not request.quiet:
            report.messages += _notices(paths, plan)
    except InvalidEvent:
        raise
    except Exception as error:  # noqa: BLE001 - telemetry must not break the script that calls it
        _fail(report, request, environ, error)
    if tap:
        report.out = tap.line
        if not tap.line and not report.code and not report.messages:
            report.messages.append("this event would be dropped by [filter] in config.toml")
    if not decision.enabled:
        report.messages.append(f"telemetry is off ({decision.decided_by}): without --dry-run nothing would be recorded")
    return report


def _notices(paths: Paths, plan: Plan) -> list[str]:
    if sys.stderr is None or not sys.stderr.isatty() or is_quiet(paths.environ):
        return []
    from rillevents.cli.notices import first_run, resembling

    return [notice for notice in (resembling(plan.event_type, plan.event_name), first_run(paths)) if notice]


def _record(client: Client, request: RecordCommand, plan: Plan) -> None:
    given: dict[str, Any] = {"event_id": plan.event_id, "event_time": plan.event_time}
    if request.legacy:
        called = {key: value for key, value in plan.attributes.items() if key != USER_ID}
        known = client.with_user_id(plan.attributes[USER_ID]) if USER_ID in plan.attributes else client
        told = {key: value for key, value in given.items() if value}
        known.record_behavioral_legacy(plan.event_name, called, **told)
    elif plan.value is not None:
        client.record_metric(plan.event_name, plan.value, plan.attributes, **given)
    else:
        client.record(plan.event_type, plan.event_name, plan.attributes, **given)


def _fail(report: Report, request: RecordCommand, environ: Mapping[str, str], error: Exception) -> None:
    mode, _ = failure_mode(request.on_error, environ)
    if mode == "fail":
        report.code = error.exit_code if isinstance(error, RilleventsError) else 1
    if isinstance(error, (SpoolError, OSError)):
        report.messages.append(f"event not recorded: {error}")
    else:
        report.messages.append(f"event not recorded, internal error: {type(error).__name__}: {error}")


def show(report: Report, *, quiet: bool) -> int:
    """Print a report and return its exit code; it is not a failure if nobody reads stdout any more."""
    try:
        if report.out and sys.stdout is not None:
            sys.stdout.buffer.write(_shown(report.out) if sys.stdout.isatty() else report.out)
        if report.messages and not quiet and sys.stderr is not None:
            from rillevents.cli.printable import printable
            from rillevents.cli.stderr import bounded

            stream = bounded(sys.stderr)
            for message in report.messages:
                stream.write(f"rillevents: {printable(message)}\n")
    except OSError:
        pass
    return report.code


def _shown(line: bytes) -> bytes:
    from rillevents.cli.printable import printable_json

    return printable_json(line)


def _names(request: RecordCommand) -> tuple[str, str, list[str]]:
    if request.form == "event":
        return request.arguments[0], request.arguments[1], []
    event_type = {"behavioral": BEHAVIORAL, "metric": METRIC, "log": LOG}[request.form]
    return event_type, request.arguments[0], request.arguments[1:]


def _metric_value(text: str) -> int | float:
    try:
        value = check_number(loads(text))
    except (ValueError, RecursionError):
        raise InvalidEvent(
            f"VALUE {text!r} is not a finite JSON number", hint="write it like 45, -0.5 or 1e3"
        ) from None
    return value


def _attributes(request: RecordCommand) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for text in request.attrs:
        found.update(_object(text))
    for text in request.attr:
        key, value = parse_attribute(text)
        found[key] = value
    taken = ENVELOPE + (METRIC_FIELDS if request.form == "metric" else ())
    for key in found:
        if key in taken:
            raise InvalidEvent(f"{key!r} is set by rillevents itself", hint="give the attribute another name")
        if not key:
            raise InvalidEvent("an attribute has no name", hint="write -a KEY=VALUE")
    return found


def parse_attribute(text: str) -> tuple[str, Any]:
    """Return the key and value of `KEY=VALUE`, or of `KEY:=JSON`; raises InvalidEvent."""
    key, equals, value = text.partition("=")
    if not equals:
        raise InvalidEvent(
            f"{text!r} is not a valid attribute", hint="write -a KEY=VALUE, or -a 'KEY:=JSON' for a typed value"
        )
    if key[-1:] != ":":
        return key, value
    try:
        return key[:-1], loads(value)
    except (ValueError, RecursionError) as error:
        single = "JSON needs double quotes: write -a 'key:={\"a\": 1}'"
        hint = single if "'" in value else f"write -a '{key[:-1]}={value}' for text"
        raise InvalidEvent(f"{value!r} is not valid JSON ({error})", hint=hint) from None


def _object(text: str) -> dict[str, Any]:
    try:
        found = loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidEvent(
            f"--attrs is not valid JSON ({error})", hint="""write --attrs '{"key": "value"}'"""
        ) from None
    if not isinstance(found, dict):
        raise InvalidEvent("--attrs is not a JSON object", hint="""write --attrs '{"key": "value"}'""")
    return found
