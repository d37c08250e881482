"""A program that has telemetry under its own name: its folders, variables, consent, notice, and delivery."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from io import StringIO
from typing import IO, TYPE_CHECKING, Any, Literal

from rillevents.local import Application as Named
from rillevents.local import Paths, consent
from rillevents.recording import Client
from rillevents.recording.sinks import log

if TYPE_CHECKING:
    import typer

    from rillevents.recording import OnError
    from rillevents.recording.telemetry import Telemetry

# What tells a process that it is the delivery of a program that cannot tell it by its arguments.
_DEFINED = "_RV_APPLICATION"
# Where that process looks for modules first.
_SEARCHED = "PYTHONPATH"


class Application(Named):
    """A program with telemetry of its own, for command-line programs and services.

    *name* names its folders, *prefix* its variables (`MYTOOL_` makes `MYTOOL_TELEMETRY`, `MYTOOL_HOME`, `MYTOOL_INTAKE_URL` …).
    Events have *name* and *version* as `service_name` and `service_version`, and go to *intake_url*, unless the user's
    config.toml or variables say otherwise. With `consent="opt-in"` nothing is recorded before the user has agreed, and no file is
    made but the mark that the notice was shown. The *notice* is shown once, on a terminal, never in CI. With *auto_flush*, such
    as "30s", a process beside the program delivers when the program ends, at most once in that time, and not before the notice
    was shown; see `maybe_flush_child`. The spool holds *max_bytes* at most. *environ* is `os.environ` if it is None.
    `DO_NOT_TRACK` wins over everything. Raises ValueError.
    """

    __slots__ = ("_found_in", "_restart", "environ", "notice", "version")

    def __init__(
        self,
        name: str,
        prefix: str,
        *,
        version: str = "",
        intake_url: str = "",
        intake_user: str = "",
        intake_password: str = "",
        consent: Literal["opt-out", "opt-in"] = "opt-out",
        notice: str = "",
        auto_flush: float | str | None = None,
        max_bytes: int | None = None,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        if not name or "/" in name or name.startswith("."):
            raise ValueError(f"name must be the name of a folder, not {name!r}")
        if not prefix.isidentifier() or not prefix.isascii():
            raise ValueError(
                f"prefix must be what the names of variables begin with, such as 'MYTOOL_', not {prefix!r}"
            )
        if consent not in ("opt-out", "opt-in"):
            raise ValueError(f"consent must be 'opt-out' or 'opt-in', not {consent!r}")
        if intake_url and not intake_url.lower().startswith(("https://", "http://")):
            raise ValueError(f"intake_url must begin with https:// or http://, not {intake_url!r}")
        if max_bytes is not None and (not isinstance(max_bytes, int) or max_bytes <= 0):
            raise ValueError(f"max_bytes must be a number of bytes above 0, not {max_bytes!r}")
        intake = {"url": intake_url, "user": intake_user, "password": intake_password}
        flush = {"auto": _seconds(auto_flush)} if auto_flush is not None else {}
        sections: dict[str, dict[str, Any]] = {
            "attributes": {"service_name": name} | ({"service_version": version} if version else {}),
            "intake": {key: value for key, value in intake.items() if value},
            "spool": {"max_bytes": max_bytes} if max_bytes is not None else {},
            "flush": flush,
        }
        defaults = {section: table for section, table in sections.items() if table}
        super().__init__(name, prefix, defaults=defaults, asks=consent == "opt-in")
        self.version = version
        self.notice = notice
        self.environ = environ
        self._restart: Sequence[str] = ()
        self._found_in = ""

    @property
    def paths(self) -> Paths:
        """Where this program's files are, for the user who runs it."""
        return Paths(os.environ if self.environ is None else self.environ, self)

    @property
    def telemetry(self) -> Telemetry:
        """What the user decides: `on()`, `off(purge=True)`, `status()`, `show()`."""
        from rillevents.recording.telemetry import Telemetry

        return Telemetry(self.paths)

    def client(self, *, on_error: OnError = "log", flush_every: float | str | None = None) -> Client:
        """Return the client to record with, after the notice if it is due; its events are on the disk when `record` returns.

        With *flush_every*, for services, it delivers by itself as `Client.from_config` says. While the variable
        *prefix* + `TELEMETRY_DEBUG` is set, events are printed to stderr, and neither stored nor sent.
        """
        paths = self.paths
        is_debug = paths.variable("TELEMETRY_DEBUG").strip().lower() not in ("", *consent.OFF)
        if is_debug and consent.decide(paths).enabled:
            from rillevents.recording.setup import recording_setup
            from rillevents.recording.sinks.tap import PrintingSink

            found = recording_setup(paths, dry_run=True, tap=PrintingSink())
            for warning in found.warnings:
                log(self.own_words(warning))
            return Client(found.sink, on_error=on_error, attributes=found.attributes, redactor=found.redactor)
        self.show_notice()
        return Client.from_config(environ=self.environ, app=self, on_error=on_error, flush_every=flush_every)

    def show_notice(self, stream: IO[str] | None = None) -> bool:
        """Show the notice on *stream* (stderr), and return whether it was: once, if that is a terminal, not in CI.

        Not if the user has decided already; and if it cannot be remembered that it was shown, it is not.
        """
        out, paths = stream or sys.stderr, self.paths
        if not self.notice or consent.decide(paths).decided_by != "default" or out is None or not out.isatty():
            return False
        from rillevents.local.notice import note_shown

        if not note_shown(paths):
            return False
        out.write(f"{self.notice.rstrip()}\n")
        out.flush()
        return True

    def maybe_flush_child(self) -> None:
        """Deliver and leave if this process is the one beside the program that *auto_flush* starts; else return.

        Call it first thing in the program. Without it, a program that PyInstaller, shiv or pex made delivers nothing by itself:
        such a process can only be the program once more, and its own main would run.
        """
        from rillevents.delivery import SPOOL, WORD

        # Now: the program may change its folder and its arguments.
        self._restart, self._found_in = _program()
        environ = os.environ if self.environ is None else self.environ
        if sys.argv[1:] == [WORD] and SPOOL in environ:
            from rillevents.delivery.auto import deliver
            from rillevents.delivery.detached import settle

            settle()
            os._exit(deliver(environ, self))

    def child_words(self, environ: dict[str, str]) -> Sequence[str]:
        """Return what starts the process beside the program: the program itself, or Python with this package."""
        from rillevents.delivery import WORD

        if self._restart:
            if self._found_in:
                environ[_SEARCHED] = os.pathsep.join(filter(None, (self._found_in, environ.get(_SEARCHED))))
            return [*self._restart, WORD]
        if _is_bundled():
            return ()
        from rillevents.event import ndjson

        # Not in the arguments, which every user of the machine can read.
        environ[_DEFINED] = ndjson.dumps([self.name, self.prefix, self.defaults, self.asks])
        environ[_SEARCHED] = os.pathsep.join([os.path.abspath(entry) for entry in sys.path if entry])
        return [sys.executable, "-P", "-m", "rillevents.recording.application"]

    def telemetry_command(self, argv: Sequence[str], out: IO[str] | None = None) -> int:
        """Do what `mytool telemetry …` says, with the words after `telemetry`, and return the exit code.

        `status`, `on`, `off [--purge]` and `show`, which prints what waits to be sent; stdout has data alone. For programs with
        a parser of any kind.
        """
        from rillevents.recording.telemetry import run

        return run(self.paths, argv, out or sys.stdout or StringIO())

    def telemetry_app(self) -> typer.Typer:
        """Return the same commands as a Typer app: `app.add_typer(application.telemetry_app(), name="telemetry")`."""
        from rillevents.recording.telemetry import mountable

        return mountable(self.name, self.telemetry_command)


def _seconds(duration: float | str) -> float:
    from rillevents.event.timestamp import parse_duration

    with suppress(ValueError):
        duration = float(parse_duration(duration)) if isinstance(duration, str) else duration
    if isinstance(duration, str) or not 0 < duration < 1e6:
        raise ValueError(f"auto_flush must be a number of seconds above 0, or a text such as '30s', not {duration!r}")
    return float(duration)


def _program() -> tuple[list[str], str]:
    """Return the words that start this program again, without its arguments, and the folder that its module was found in.

    No words if it has no file, such as `python -c`; no folder if there is no need for one.
    """
    if getattr(sys, "frozen", False):
        return [sys.executable], ""
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    if spec is not None and spec.name != "__main__":
        # `python -m` looks in the folder where it was started.
        found_in = "" if sys.flags.safe_path else sys.path[0]
        return [sys.executable, "-P", "-m", spec.name.removesuffix(".__main__")], found_in
    script = os.path.abspath(sys.argv[0])
    return ([sys.executable, script], "") if os.path.exists(script) else ([], "")


def _is_bundled() -> bool:
    """Return whether the program is one file that PyInstaller, shiv or pex made."""
    # Not zipfile: this one is loaded with Python.
    import zipimport

    spec = getattr(sys.modules["__main__"], "__spec__", None)
    if getattr(sys, "frozen", False) or (spec is not None and isinstance(spec.loader, zipimport.zipimporter)):
        return True
    # Shiv runs from its archive. Pex does not, but names it by its whole path.
    try:
        zipimport.zipimporter(sys.argv[0])
    except zipimport.ZipImportError:
        return False
    return True


def _main() -> None:
    """Deliver for the program that the environment names."""
    import json

    from rillevents.delivery.auto import deliver
    from rillevents.delivery.detached import settle

    settle()
    name, prefix, defaults, asks = json.loads(os.environ.pop(_DEFINED))
    os._exit(deliver(os.environ, Named(name, prefix, defaults=defaults, asks=asks)))


if __name__ == "__main__":
    _main()
