"""`rillevents doctor`: what keeps events from arriving, and what to do about it."""

from __future__ import annotations

from typing import Annotated

import typer

from rillevents.cli.command import paths, register
from rillevents.cli.result import Result
from rillevents.cli.values import Seconds

_EXAMPLE = """
rillevents doctor
rillevents doctor --json | jq -r '.checks[] | select(.ok | not) | .advice'
"""


def add_to(app: typer.Typer) -> None:
    """Register the command."""

    @register(app, "doctor", _EXAMPLE, json=True)
    def doctor(
        to: Annotated[
            str, typer.Option("--to", metavar="URL", help="Try this destination instead of the configured one.")
        ] = "",
        timeout: Annotated[
            Seconds | None, typer.Option("--timeout", metavar="S", help="Limit each step of the connection (5).")
        ] = None,
        ca_cert: Annotated[
            str | None, typer.Option("--ca-cert", metavar="FILE", help="Also trust this certificate authority.")
        ] = None,
    ) -> Result:
        """Check what events need to arrive, and say what to do.

        The destination is tried by DNS, TCP and TLS, without a request. The exit code is that of the first check that failed.
        """
        from rillevents.delivery.doctor import STEP_SECONDS, examine

        found = examine(paths(), to=to, timeout=timeout or STEP_SECONDS, ca_cert=ca_cert)
        failed = sum(not check.ok for check in found.checks)
        told = f"{failed} of {len(found.checks)} checks failed" if failed else "all is well"
        return Result("doctor", found.as_dict(), messages=(told,), exit_code=found.exit_code)
