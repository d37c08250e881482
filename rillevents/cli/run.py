"""`rillevents run -- COMMAND…`: a command with two events around it. Its words are sorted here: Typer costs too much for that.

Typer has the command's help, and answers where the `--` is missing.
"""

from __future__ import annotations

import os
import sys

from rillevents.cli.record_quick import is_quiet
from rillevents.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from rillevents.shell.recorder import Plan, Recorder

# Reading the decision takes a thousandth of it, unless the home hangs.
_CONSENT_SECONDS = 0.25
_OURS = ("run_id", "exit_code", "signal", "duration_s", "user_s", "system_s", "max_rss_bytes", "args")
_VALUES = {"--name": "name", "-a": "attr", "--attr": "attr", "--flush": "flush"}
_SWITCHES = {"--ci": "ci", "--record-args": "record_args", "-q": "quiet", "--quiet": "quiet"}


def run_words(argv: Sequence[str], umask: int) -> int | None:
    """Run the command in *argv* and leave as it did; None if Typer must answer: there is no `--`, or help is asked for."""
    words = list(argv)
    if "--" not in words:
        return None
    at = words.index("--")
    options, command = words[words.index("run") + 1 : at], words[at + 1 :]
    if {"-h", "--help", "--version"} & {*options} or not command:
        return None
    quiet = is_quiet(os.environ) or bool({"-q", "--quiet"} & {*words[:at]})
    plan, problem = _planned(options, command)
    if plan is None or _is_off_by_environment():
        if problem and not quiet:
            _say(f"{problem}; the command runs without events")
        return _replaced(command, umask, None, quiet)
    return _wrapped(plan, command, umask, quiet)


def _wrapped(plan: Plan, command: Sequence[str], umask: int, quiet: bool) -> int:
    from rillevents.shell.recorder import Recorder
    from rillevents.shell.run import CannotStart, Wrapped, block_signals, leave_as

    mask = block_signals()
    # Its process loads what it needs while the command starts, and records only what it is told later.
    recorder = Recorder(plan, _record_apart)
    is_on, warnings = recorder.decided(_CONSENT_SECONDS)
    if not is_on:
        for warning in [] if quiet else warnings:
            _say(warning)
        return _replaced(command, umask, mask, quiet)
    try:
        wrapped = Wrapped(command, umask, mask)
    except CannotStart as error:
        return _not_started(error, quiet)
    recorder.note_start(wrapped.started_ns)
    ended = wrapped.wait(recorder)
    try:
        messages = recorder.finish(ended)
        for message in [] if quiet else [*messages, *_notices(recorder)]:
            _say(message)
    finally:
        # Whatever happens here, the exit code is the command's.
        leave_as(ended)
    raise AssertionError("unreachable")


def _record_apart(plan: Plan, reading: int, writing: int) -> None:
    """Say whether telemetry is on, then record what is told: in the forked process, since the home may hang."""
    from rillevents.local import Paths
    from rillevents.local.consent import decide

    decision = decide(Paths(os.environ))
    os.write(writing, b"on\n" if decision.enabled else b"off\n" + decision.warning.encode("utf-8", "replace"))
    if decision.enabled:
        # Not before: it takes longer than all else here.
        from rillevents.shell.recording import record

        record(plan, reading, writing)


def _is_off_by_environment() -> bool:
    from rillevents.local import Paths
    from rillevents.local.consent import decide_by_environment

    return decide_by_environment(Paths(os.environ)) is not None


def _notices(recorder: Recorder) -> list[str]:
    """Return what a person reads once: not while the home hangs."""
    if recorder.is_late or sys.stderr is None or not sys.stderr.isatty():
        return []
    from rillevents.cli.notices import first_run
    from rillevents.local import Paths

    return [notice for notice in [first_run(Paths(os.environ))] if notice]


def _replaced(command: Sequence[str], umask: int, mask: set[int] | None, quiet: bool) -> int:
    from rillevents.shell.run import replace_by

    return _not_started(replace_by(command, umask, mask), quiet)


def _not_started(error: Any, quiet: bool) -> int:
    if not quiet:
        _say(error.reason)
    code: int = error.code
    return code


def _say(message: str) -> None:
    from rillevents.cli.printable import printable

    try:
        if sys.stderr is not None:
            print(f"rillevents: {printable(message)}", file=sys.stderr, flush=True)
    except OSError:
        return


def _planned(options: Sequence[str], command: Sequence[str]) -> tuple[Plan | None, str]:
    """Return what to record, or why these options cannot be used: then the command runs without events."""
    from rillevents.shell.recorder import Plan

    try:
        found = _sorted(options)
        name = _name(found.get("name", [""])[-1], command[0])
        attributes = _attributes(found.get("attr", []))
        flush = _seconds(found["flush"][-1]) if "flush" in found else 0.0
    except UsageError as error:
        return None, str(error)
    args = command[1:] if "record_args" in found else None
    return Plan(name, attributes, args=args, ci="ci" in found, flush=flush), ""


def _sorted(options: Sequence[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    words = list(reversed(options))
    while words:
        word = words.pop()
        flag, equals, value = word.partition("=") if word[:2] == "--" else (word, "", "")
        if flag in _SWITCHES and not equals:
            found[_SWITCHES[flag]] = [""]
        elif flag in _VALUES and (equals or words):
            found.setdefault(_VALUES[flag], []).append(value if equals else words.pop())
        else:
            raise UsageError(
                f"run has no option {word!r}", hint="write: rillevents run --name NAME -a KEY=VALUE -- COMMAND"
            )
    return found


def _name(given: str, command: str) -> str:
    if given:
        from rillevents.event import check_text

        return check_text("--name", given)
    base = command.rpartition("/")[2]
    return base if base.isprintable() and base.strip() and base.isascii() and len(base) <= 100 else "command"


def _attributes(texts: Sequence[str]) -> dict[str, Any]:
    if not texts:
        return {}
    from rillevents.cli.record import parse_attribute
    from rillevents.event import ENVELOPE, encode_line

    found = dict(map(parse_attribute, texts))
    for key in found:
        if key in (*ENVELOPE, *_OURS) or not key:
            raise UsageError(f"{key!r} is set by rillevents itself", hint="give the attribute another name")
    encode_line(found)
    return found


def _seconds(text: str) -> float:
    from rillevents.event.timestamp import parse_duration

    try:
        seconds = parse_duration(text)
    except ValueError:
        seconds = -1.0
    if not 0 < seconds < 1e6:
        raise UsageError(f"--flush {text!r} is not a duration", hint="write --flush 10, or --flush 10s")
    return seconds
