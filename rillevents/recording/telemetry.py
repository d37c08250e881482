"""What the user of a program decides about its telemetry, as calls and as the commands of `mytool telemetry`."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from typing import IO, TYPE_CHECKING

from rillevents.errors import RilleventsError, UsageError
from rillevents.local import consent

if TYPE_CHECKING:
    import typer

    from rillevents.local import Paths

_USAGE = """\
Usage: {name} telemetry COMMAND
What {name} may record and send.

  status         print on or off, and what decided it
  on             allow telemetry
  off [--purge]  turn it off, with --purge also delete what was recorded
  show           print what waits to be sent
"""


class Telemetry:
    """What a program's user decides. Methods raise RilleventsError if a file cannot be written or read."""

    def __init__(self, paths: Paths) -> None:
        self._paths = paths

    def status(self) -> consent.Consent:
        """Return whether telemetry is on, and what decided it."""
        return consent.decide(self._paths)

    def on(self) -> str:
        """Allow telemetry for good, and return what to tell the user; a variable that says off still wins."""
        return self._saved(True)

    def off(self, *, purge: bool = False) -> str:
        """Turn telemetry off for good, with *purge* delete what was recorded, and return what to tell the user."""
        from rillevents.spool.maintenance import purge as delete
        from rillevents.spool.view import contents, existing_spools

        told, places = self._saved(False), existing_spools(self._paths)
        if purge:
            return f"{told}; deleted {sum(map(delete, places)):,} events"
        held = sum(contents(place).events for place in places)
        return f"{told}; {held:,} events are kept, and not sent: off --purge deletes them" if held else told

    def show(self) -> list[bytes]:
        """Return the events that wait to be sent, as lines of NDJSON."""
        from rillevents.spool.view import existing_spools, pending

        return [line for place in existing_spools(self._paths) for line in pending(place)]

    def _saved(self, enabled: bool) -> str:
        paths = self._paths
        variable = f"{paths.app.prefix}TELEMETRY"
        if not paths.config_dir:
            raise RilleventsError("there is no config folder to write to", hint=f"set {variable}={int(enabled)}")
        try:
            consent.save(paths, enabled)
        except OSError as error:
            raise RilleventsError(
                f"{paths.telemetry_file} cannot be written: {error.strerror or error}",
                hint=f"set {variable}={int(enabled)}",
            ) from None
        found = consent.decide(paths)
        still = f" still: {found.decided_by} turns it off" if found.enabled != enabled else ""
        return f"telemetry is {'on' if found.enabled else 'off'}{still}"


def run(paths: Paths, argv: Sequence[str], out: IO[str]) -> int:
    """Do what the words after `telemetry` say, and return the exit code; *out* gets data alone."""
    try:
        message = _done(Telemetry(paths), list(argv) or ["status"], paths.app.name, out)
        out.flush()
    except RilleventsError as error:
        message, code = paths.app.own_words(str(error)), error.exit_code
    except OSError as error:
        if out is sys.stdout:
            # Python would try to write the rest once more when it ends, and fail again.
            with open(os.devnull, "wb") as nowhere:
                os.dup2(nowhere.fileno(), out.fileno())
        # Of `| head` the reader has gone: the work is done.
        is_done = isinstance(error, BrokenPipeError)
        message, code = ("", 0) if is_done else (f"the output is incomplete: {error.strerror}", 1)
    else:
        code = 0
    if message and sys.stderr:
        sys.stderr.write(f"{paths.app.name}: {message}\n")
    return code


def _done(telemetry: Telemetry, words: list[str], name: str, out: IO[str]) -> str:
    """Do it, and return what to tell the user; raises RilleventsError, and OSError if *out* fails."""
    if words[0] in ("--help", "-h"):
        out.write(_USAGE.format(name=name))
    elif words == ["status"]:
        found = telemetry.status()
        out.write(f"{'on' if found.enabled else 'off'} (decided by: {found.decided_by})\n")
    elif words == ["on"]:
        return telemetry.on()
    elif words[0] == "off" and words[1:] in ([], ["--purge"]):
        return telemetry.off(purge=len(words) == 2)
    elif words == ["show"]:
        for line in telemetry.show():
            out.write(line.decode())
    else:
        raise UsageError(f"telemetry has no {' '.join(words)!r}", hint="write on, off, off --purge, status or show")
    return ""


def mountable(name: str, command: Callable[[Sequence[str]], int]) -> typer.Typer:
    """Return the same commands as a Typer app; *command* gets their words, and returns the exit code."""
    import typer

    app = typer.Typer(no_args_is_help=True, help=f"What {name} may record and send.")

    def add(words: list[str], about: str) -> None:
        def called() -> None:
            raise typer.Exit(command(words))

        app.command(words[0], help=about)(called)

    add(["status"], "Print on or off, and what decided it.")
    add(["on"], "Allow telemetry.")
    add(["show"], "Print what waits to be sent.")

    @app.command("off", help="Turn telemetry off: nothing is recorded or sent any more.")
    def off(purge: bool = typer.Option(False, "--purge", help="Also delete what was recorded.")) -> None:
        raise typer.Exit(command(["off", *(["--purge"] if purge else [])]))

    return app
