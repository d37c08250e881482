"""What the doctor looks at on this machine; nothing is created, and no connection is opened."""

from __future__ import annotations

import importlib.util
import os
import stat
import sys
import time
from collections.abc import Callable, Iterator

from rillevents.delivery.auto import unfit_destination
from rillevents.delivery.detached import obstacle
from rillevents.delivery.doctor.check import Check
from rillevents.delivery.outcome import FlushOutcome
from rillevents.delivery.turns import is_running, last_pass
from rillevents.errors import ConfigError, SpoolError
from rillevents.local import Paths, can_be_made, config, consent, install_id
from rillevents.spool import STATE, VERSION, check
from rillevents.spool.state import State
from rillevents.spool.view import Contents, contents, existing_spools, ledger

# A clock that is behind this version of the program is wrong: 2026-01-01.
_EARLIEST = 1_767_225_600
_CLOCK_SLACK_SECONDS = 60
_FEW_BYTES = 64 << 20
_NEARLY_FULL = 0.8
_OLD_SECONDS = 7 * 86_400
_OF_RECORD = ("rillevents.errors", "rillevents.event", "rillevents.local", "rillevents.spool", "rillevents.local.files")


def consent_of(paths: Paths) -> tuple[Check, bool]:
    """Return the check of the decision, and whether telemetry is on."""
    decision = consent.decide(paths)
    told = f"{'on' if decision.enabled else 'off'} (decided by: {decision.decided_by})"
    if decision.warning:
        advice = "set the variable to 0 or 1, or run: rillevents telemetry on (or off)"
        return Check("consent", False, decision.warning, advice, 78), decision.enabled
    advice = (
        ""
        if decision.enabled
        else "nothing is recorded and nothing is sent; to change that, see: rillevents help consent"
    )
    return Check("consent", True, told, advice), decision.enabled


def configuration(paths: Paths) -> tuple[Check, config.Config]:
    """Return the check of config.toml, and what can be used of it."""
    try:
        found = config.load(paths)
    except ConfigError as error:
        advice = error.hint or "correct it, or move it away; see: rillevents help configuration"
        return Check("configuration", False, error.message, advice, 78), _as_far_as_it_goes(paths)
    _, odd = config.auto_interval(paths, found)
    _, listed = config.identity_attributes(paths)
    warnings = [*found.warnings, *odd, *listed]
    there = os.path.exists(paths.config_file) if paths.config_file else False
    detail = "; ".join(warnings) or (
        paths.config_file if there else f"{paths.config_file or 'no config.toml'} (not there)"
    )
    advice = "correct what is named; the settings: rillevents help configuration" if warnings else ""
    return Check("configuration", True, detail, advice), found


def _as_far_as_it_goes(paths: Paths) -> config.Config:
    try:
        return config.load(paths, lenient=True)
    except ConfigError:
        return config.Config({}, [])


def permissions(paths: Paths) -> Check:
    """Return the check of who may read and write the files."""
    problems, advice = [], []
    for path, is_folder in _places(paths):
        try:
            found = os.stat(path)
        except FileNotFoundError:
            continue
        except OSError as error:
            problems.append(f"{path}: {error.strerror or error}")
            advice.append("give yourself access to it")
            continue
        for problem, remedy in _exposures(path, found, is_folder):
            problems.append(problem)
            advice.append(remedy)
    if problems:
        return Check("permissions", False, "; ".join(problems), "; ".join(dict.fromkeys(advice)), 73)
    return Check("permissions", True, "files and folders are this user's alone")


def _places(paths: Paths) -> Iterator[tuple[str, bool]]:
    for folder in dict.fromkeys(filter(None, (paths.config_dir, paths.state_dir, *existing_spools(paths)))):
        yield folder, True
    for file in (paths.config_file, paths.telemetry_file, *paths.install_id_files):
        if file:
            yield file, False


def _exposures(path: str, found: os.stat_result, is_folder: bool) -> Iterator[tuple[str, str]]:
    me = os.geteuid() if hasattr(os, "geteuid") else found.st_uid
    if me != 0 and found.st_uid not in (0, me):
        yield f"{path} belongs to another user", f"run as its owner, or: sudo chown {me} {path}"
    elif found.st_mode & stat.S_IWOTH:
        # Not for a group, which on many systems is the user's own.
        yield f"{path} can be changed by other users", f"run: chmod go-w {path}"
    if is_folder and not os.access(path, os.R_OK | os.X_OK):
        yield f"{path} cannot be read", f"run: chmod u+rwx {path}"


def spool(paths: Paths, settings: config.Config) -> Check:
    """Return the check of the place for events: that it can be written, has room, and what waits there."""
    place = paths.spool_dir
    if not place:
        return Check("spool", False, "there is no place for events (no home folder)", "set RILLEVENTS_SPOOL_DIR", 73)
    held = Contents()
    try:
        for found in existing_spools(paths):
            held += contents(found)
        check(place)
    except SpoolError as error:
        return Check("spool", False, error.message, error.hint or "set RILLEVENTS_SPOOL_DIR to a folder of yours", 73)
    if not can_be_made(place):
        return Check("spool", False, f"{place} cannot be written", "set RILLEVENTS_SPOOL_DIR to a folder of yours", 73)
    return _room(paths, place, held, settings.max_bytes)


def _room(paths: Paths, place: str, held: Contents, most: int) -> Check:
    fallback = " (fallback: the state folder cannot be written)" if place == paths.fallback_spool else ""
    detail = f"{place}{fallback}: {held.events:,} events wait, {held.bytes:,} of {most:,} bytes"
    above = place
    while not os.path.exists(above):
        above = os.path.dirname(above)
    disk = os.statvfs(above) if hasattr(os, "statvfs") else None
    free = disk.f_bavail * disk.f_frsize if disk and disk.f_blocks else _FEW_BYTES
    if free == 0 or (disk and disk.f_files and disk.f_favail == 0):
        return Check("spool", False, f"{detail}; the disk is full", f"make room on the disk of {above}", 73)
    if held.bytes >= most:
        return Check("spool", False, f"{detail}; it is full", "run: rillevents flush", 73)
    hints = [
        ("run: rillevents flush", held.bytes >= _NEARLY_FULL * most or _age(held) > _OLD_SECONDS),
        ("run: rillevents spool rejected", held.rejected > 0),
        (f"make room on the disk of {above}", free < _FEW_BYTES),
    ]
    if held.rejected or held.corrupt:
        detail += f"; set aside: {held.rejected:,} rejected, {held.corrupt:,} damaged"
    return Check("spool", True, detail, "; ".join(text for text, is_due in hints if is_due))


def _age(held: Contents) -> float:
    from rillevents.event.timestamp import parse_time

    try:
        return time.time() - parse_time(held.oldest) / 1e9 if held.oldest else 0.0
    except ValueError:
        return 0.0


def identity(paths: Paths) -> Check:
    """Return the check of the install ID: that there is one, or can be."""
    known = install_id.peek(paths)
    if known:
        return Check("install_id", True, f"there is one ({known.source})")
    for file in paths.install_id_files:
        if can_be_made(os.path.dirname(file)):
            return Check("install_id", True, "none yet; the first event makes one")
    advice = "make one of the folders writable, or set RILLEVENTS_INSTALL_ID"
    return Check("install_id", False, "it cannot be kept: each process would have another one", advice, 73)


def clock(paths: Paths, now: Callable[[], float] = time.time) -> Check:
    """Return the check of the clock: it is not behind this program, nor behind what it wrote before."""
    seconds = now()
    told = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))
    advice = "set the clock, and keep it set: timedatectl set-ntp true"
    if seconds < _EARLIEST:
        return Check("clock", False, f"{told} is before this version was made", advice, 1)
    for path in (*(f"{place}/{VERSION}/{STATE}" for place in existing_spools(paths)), paths.notice_marker):
        try:
            written = os.stat(path).st_mtime
        except OSError:
            continue
        if written > seconds + _CLOCK_SLACK_SECONDS:
            return Check("clock", False, f"{told} is before {path} was written: the clock was set back", advice, 1)
    return Check("clock", True, told)


def background(paths: Paths, settings: config.Config) -> Check:
    """Return the check of `[flush] auto`: whether it is started, and how it went."""
    every, _ = config.auto_interval(paths, settings)
    if not every:
        return Check("background", True, "flush.auto is off: events are sent by rillevents flush")
    told = f"every {every:g} s at most, after a command"
    hindrance = obstacle(paths, os.path.lexists(paths.notice_marker))
    if hindrance:
        return Check("background", True, f"{told}; not started here", hindrance)
    unfit = unfit_destination(paths)
    if unfit:
        return Check("background", False, unfit, "run: rillevents config set flush.to file:/PATH", 78)
    last = {key: value for place in existing_spools(paths) for key, value in last_pass(f"{place}/{VERSION}").items()}
    # Until it has ended, a pass is noted as failed.
    if last.get("failures") and any(is_running(f"{place}/{VERSION}") for place in existing_spools(paths)):
        return Check("background", True, f"{told}; a flush is running now")
    if last.get("failures"):
        outcome = str(last.get("outcome"))
        code = FlushOutcome(outcome).exit_code if outcome in set(FlushOutcome) else 75
        times = "failed" if last["failures"] == 1 else f"failed {last['failures']} times in a row"
        detail = f"{told}; it {times}: {last.get('reason', '')}"
        return Check("background", False, detail, "mend what is named, then run: rillevents flush", code or 75)
    return Check("background", True, f"{told}; the last one: {last.get('outcome', 'none yet')}")


def last_flush(paths: Paths) -> Check:
    """Return the check of how the last flush went."""
    told = [state.last_flush for place in existing_spools(paths) if (state := _ledger(place)) and state.last_flush]
    if not told:
        return Check("last_flush", True, "never")
    last = max(told, key=lambda found: str(found.get("at", "")))
    detail = f"{str(last.get('at'))[:19]}Z: {last.get('outcome')}; {last.get('reason') or ''}".strip("; ")
    outcome = str(last.get("outcome"))
    if outcome in ("refused", "unconfigured"):
        advice = "mend what is named, then run: rillevents flush"
        return Check("last_flush", False, detail, advice, FlushOutcome(outcome).exit_code)
    return Check("last_flush", True, detail, "run: rillevents flush" if outcome == "temporary" else "")


def _ledger(place: str) -> State | None:
    try:
        return ledger(place)
    except SpoolError:
        return None


def bytecode() -> Check:
    """Return the check of compiled modules: without them each command compiles what it loads, which takes longer than it does."""
    missing = []
    for name in _OF_RECORD:
        module = sys.modules.get(name)
        file = getattr(module, "__file__", None) or ""
        if file.endswith(".py") and os.path.exists(file) and not os.path.exists(importlib.util.cache_from_source(file)):
            missing.append(file)
    if not missing:
        return Check("bytecode", True, "modules are compiled")
    folder = missing[0].rpartition("/rillevents/")[0]
    advice = f"compile when the image is built: UV_COMPILE_BYTECODE=1, or python -m compileall -q {folder}"
    return Check(
        "bytecode", False, "modules are compiled anew by each command: record takes three times as long", advice, 1
    )
