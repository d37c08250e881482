"""Everything that can keep events from arriving, looked at one by one, each with what to do about it.

check.py        one check, all checks       machine.py   files, spool, clock, consent
destination.py  DNS, TCP, TLS, credentials
"""

from __future__ import annotations

from rillevents.delivery.doctor import destination, machine
from rillevents.delivery.doctor.check import Diagnosis
from rillevents.local import Paths

STEP_SECONDS = 5.0


def examine(paths: Paths, *, to: str = "", timeout: float = STEP_SECONDS, ca_cert: str | None = None) -> Diagnosis:
    """Return all checks for this user; each step of a connection may take *timeout* seconds.

    Nothing is created, and no request is sent: the destination is tried up to TLS. If telemetry is off, there is no connection.
    *to* is another destination than the configured one. Never raises for what it finds.
    """
    decided, enabled = machine.consent_of(paths)
    configured, settings = machine.configuration(paths)
    return Diagnosis(
        [
            decided,
            configured,
            machine.permissions(paths),
            machine.spool(paths, settings),
            machine.identity(paths),
            machine.clock(paths),
            *destination.destination(paths, settings, to=to, timeout=timeout, ca_cert=ca_cert, enabled=enabled),
            machine.last_flush(paths),
            machine.background(paths, settings),
            machine.bytecode(),
        ]
    )
