"""`rillevents timer …`: what it does, and its plain forms for the quick way; Typer's are in timer_typer.py.

A timer that takes as long to stop as Typer to load would measure that.
"""

from __future__ import annotations

from rillevents.cli.record import Plan, Report, perform, show
from rillevents.cli.record_quick import RecordCommand, failure_mode, is_quiet, parse
from rillevents.errors import RilleventsError, UsageError
from rillevents.event import check_text
from rillevents.local import Paths, consent

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


def quick(argv: Sequence[str], environ: Mapping[str, str]) -> int | None:
    """Start or stop the timer that a plain command line names; None, without doing anything, if it is not plain."""
    words = list(argv)
    if words[1:2] == ["start"] and len(words) == 3 and words[2][:1] != "-":
        request = RecordCommand("metric", [words[2], "0"])
        act = start
    elif words[1:2] == ["stop"]:
        # What `record metric` takes, with a value that is known later.
        found = parse(["record", "metric", *words[2:], "0"])
        if found is None or found.time is not None or found.id is not None:
            return None
        request, act = found, stop
    else:
        return None
    try:
        Plan(request)
    except UsageError:
        return None
    return show(act(request, environ), quiet=request.quiet or is_quiet(environ))


def start(request: RecordCommand, environ: Mapping[str, str]) -> Report:
    """Start the timer that is the request's first argument; when opted out, nothing."""
    from rillevents.shell import timer

    report, name = Report(), check_text("NAME", request.arguments[0])
    paths = Paths(environ)
    if _is_off(paths, report):
        return report
    try:
        timer.start(paths, name)
    except RilleventsError as error:
        _fail(report, request, environ, error)
    return report


def stop(request: RecordCommand, environ: Mapping[str, str]) -> Report:
    """Stop the timer, and record the metric that the request makes, with the seconds as its value; raises UsageError."""
    from rillevents.shell import timer

    Plan(request)
    report, paths = Report(), Paths(environ)
    name = check_text("NAME", request.arguments[0])
    if _is_off(paths, report):
        return report
    try:
        seconds = timer.elapsed(paths, name)
    except RilleventsError as error:
        _fail(report, request, environ, error)
        return report
    report = record_seconds(request, name, seconds, environ)
    if report.recorded and not request.dry_run:
        timer.forget(paths, name)
    return report


def record_seconds(request: RecordCommand, name: str, seconds: float, environ: Mapping[str, str]) -> Report:
    """Record a metric of so many seconds, with the request's options and attributes."""
    request.arguments = [name, repr(round(seconds, 6))]
    request.attr = [*request.attr, "unit=s"]
    return perform(request, Plan(request), environ)


def _is_off(paths: Paths, report: Report) -> bool:
    decision = consent.decide(paths)
    report.messages += [decision.warning] if decision.warning else []
    return not decision.enabled


def _fail(report: Report, request: RecordCommand, environ: Mapping[str, str], error: RilleventsError) -> None:
    mode, _ = failure_mode(request.on_error, environ)
    report.code = error.exit_code if mode == "fail" else 0
    report.messages.append(str(error))
