"""What the process beside a command does: one pass, if telemetry is still on."""

from __future__ import annotations

import os
from collections.abc import Mapping

from rillevents.delivery import SPOOL
from rillevents.delivery.destination import destination_name
from rillevents.delivery.flush import flush
from rillevents.delivery.outcome import FlushOutcome, FlushResult
from rillevents.delivery.schedule import Scheduler
from rillevents.delivery.turns import Turns
from rillevents.errors import ConfigError, RilleventsError
from rillevents.local import RILLEVENTS, Application, Paths, config, consent
from rillevents.spool import check
from rillevents.spool.view import held_events

# Less than the life of the process, whose last seconds are for what is no delivery.
DELIVER_SECONDS = 60.0


def deliver(environ: Mapping[str, str], app: Application = RILLEVENTS) -> int:
    """Make one pass for the command that started this process, and return the exit code of the flush; says nothing."""
    paths = Paths(environ, app)
    every, _ = config.auto_interval(paths, config.load_for_recording(paths))
    try:
        folder = check(environ[SPOOL])
        if not folder or not every:
            return 0
        scheduler = Scheduler(
            lambda: _flush(paths),
            every,
            is_allowed=lambda: consent.decide(paths).enabled,
            turns=Turns(folder, every),
        )
        done = scheduler.run_pass(is_claimed=True)
    except RilleventsError as error:
        return error.exit_code
    return done.exit_code if done else 0


def _flush(paths: Paths) -> FlushResult:
    reason = unfit_destination(paths)
    if reason:
        return FlushResult(FlushOutcome.UNCONFIGURED, pending=held_events(paths), reason=reason)
    return flush(paths, timeout=DELIVER_SECONDS, wait=False)


def unfit_destination(paths: Paths) -> str:
    """Return why the configured destination is none for a process in another folder, without a stdout; "" if it is one."""
    try:
        name = destination_name(paths, config.load(paths))
    except ConfigError:
        # The flush itself tells.
        return ""
    scheme, _, path = name.partition(":")
    if scheme.lower() != "file" or os.path.isabs(path):
        return ""
    return f"{name} is relative to the folder of the command; write file:/… with the whole path"
