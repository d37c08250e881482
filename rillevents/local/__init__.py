"""The places of all files; creates nothing, and reads only the environment.

    Application            its name and the prefix of its variables: everything that differs per application
    └── Paths              config.toml, telemetry, install_id │ spool/, the parsed configuration, the notice's marker

On Linux the folders are computed here, without platformdirs: importing that costs three times what starting Python costs.
A test checks that both give the same result.
"""

from __future__ import annotations

import errno
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any


__version__ = "0.1.0"


class Application:
    """A program that keeps events under its own name: its folders are called *name*, its variables *prefix*…

    *defaults* are settings as config.toml has them, by section, which that file overrides. With *asks* nothing is recorded before
    its user has agreed.
    """

    __slots__ = ("asks", "defaults", "name", "prefix")

    def __init__(
        self, name: str, prefix: str, *, defaults: Mapping[str, Mapping[str, Any]] | None = None, asks: bool = False
    ) -> None:
        self.name = name
        self.prefix = prefix
        self.defaults = defaults or {}
        self.asks = asks

    def own_words(self, message: str) -> str:
        """Return a message as a user of this program can use it: with its variables, and without another program's commands."""
        if self.prefix == RILLEVENTS.prefix:
            return message
        import re

        return re.sub(r"[;,]( or)? run: rillevents [^;]*", "", message).replace(RILLEVENTS.prefix, self.prefix)

    def child_words(self, environ: dict[str, str]) -> Sequence[str] | None:
        """Return the words that start this program for a detached flush, () if nothing can; None: as `rillevents` itself is.

        May add to the *environ* of that process, which calls `detached.settle` unless this is None.
        """
        return None

    def variable(self, environ: Mapping[str, str], name: str) -> str:
        """Return the variable *prefix* + *name*, "" if it is not set; an empty variable counts as unset."""
        return environ.get(self.prefix + name, "")


RILLEVENTS = Application("rillevents", "RILLEVENTS_")


class Paths:
    """The place of every file, for one application in one environment, and that environment.

    A folder is "" if there is none (no home folder, and no variable that names another place).
    """

    __slots__ = ("_spool", "app", "config_dir", "config_file", "environ", "fallback_spool", "home", "state_dir")

    def __init__(self, environ: Mapping[str, str], app: Application = RILLEVENTS) -> None:
        self.app = app
        self.environ = environ
        self.home = _absolute(app.variable(environ, "HOME"))
        self.config_dir = self.home or _user_dir(environ, app, "CONFIG")
        self.state_dir = self.home or _user_dir(environ, app, "STATE")
        self.config_file = _absolute(app.variable(environ, "CONFIG")) or _join(self.config_dir, "config.toml")
        self._spool = _absolute(app.variable(environ, "SPOOL_DIR")) or _join(self.home, "spool")
        self.fallback_spool = ""
        if not self._spool and hasattr(os, "getuid"):
            self.fallback_spool = f"/var/tmp/{app.name}-{os.getuid()}"  # noqa: S108 - checked to be ours alone when used

    def variable(self, name: str) -> str:
        """Return the application's variable *name* (without its prefix), "" if it is not set."""
        return self.app.variable(self.environ, name)

    @property
    def telemetry_file(self) -> str:
        """The file that says `on` or `off`. It is separate from config.toml: off must hold even if that file is broken."""
        return _join(self.config_dir, "telemetry")

    @property
    def install_id_file(self) -> str:
        """The file with the install ID as its only line."""
        return _join(self.config_dir, "install_id")

    @property
    def install_id_files(self) -> tuple[str, ...]:
        """The places of the install ID, in the order in which they are read: the config folder, else the state folder."""
        return tuple(dict.fromkeys(filter(None, (self.install_id_file, _join(self.state_dir, "install_id")))))

    @property
    def config_cache(self) -> str:
        """The part of config.toml that `record` needs, parsed; never a secret."""
        return _join(self.state_dir, "config.json")

    @property
    def notice_marker(self) -> str:
        """The file that records that the first-run notice was shown."""
        return _join(self.state_dir, "noticed")

    @property
    def default_store(self) -> str:
        """The file that `serve` stores events in by default."""
        return _join(self.state_dir, "events.db")

    @property
    def sessions_dir(self) -> str:
        """The folder with a small file for each session: when it began, and what of it was delivered."""
        return _join(self.state_dir, "sessions")

    @property
    def timers_dir(self) -> str:
        """The folder with a small file for each timer that is running."""
        return _join(self.state_dir, "timers")

    @property
    def serve_dir(self) -> str:
        """The folder with the spools of forwarding servers, one for each destination."""
        return _join(self.state_dir, "serve")

    @property
    def spool_dirs(self) -> tuple[str, ...]:
        """The places for the spool, in the order in which they are tried: one, or the state folder and the fallback."""
        places = (self._spool,) if self._spool else (_join(self.state_dir, "spool"), self.fallback_spool)
        return tuple(place for place in places if place)

    @property
    def spool_dir(self) -> str:
        """The first writable place for the spool: what `record` would use, found without creating it."""
        places = self.spool_dirs
        for place in places[:-1]:
            if can_be_made(place):
                return place
        return places[-1] if places else ""


def _absolute(path: str) -> str:
    if path and not os.path.isabs(path):
        try:
            path = os.path.join(os.getcwd(), path)
        except OSError:
            # The current folder was deleted: the path stays relative, and opening it will report the error.
            pass
    # Also normpath: with a trailing slash, O_NOFOLLOW would follow a link after all.
    return os.path.normpath(path) if path else ""


def _join(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder else ""


def _user_dir(environ: Mapping[str, str], app: Application, kind: str) -> str:
    if sys.platform != "linux":
        return _platform_dir(app, kind)
    base = environ.get(f"XDG_{kind}_HOME", "").rstrip("/")
    if base[:1] != "/":
        home = environ.get("HOME", "")
        home = home if home[:1] == "/" else _passwd_home()
        base = home.rstrip("/") + ("/.config" if kind == "CONFIG" else "/.local/state") if home else ""
    return _join(base, app.name)


def _passwd_home() -> str:
    import pwd

    try:
        home = pwd.getpwuid(os.getuid()).pw_dir
    except KeyError:
        return ""
    return home if home[:1] == "/" else ""


def _platform_dir(app: Application, kind: str) -> str:  # pragma: no cover - macOS and Windows
    import platformdirs

    find = platformdirs.user_config_dir if kind == "CONFIG" else platformdirs.user_state_dir
    try:
        return find(app.name, appauthor=False)
    except RuntimeError:
        return ""


def can_be_made(path: str) -> bool:
    """Return whether a folder can be written, or if it is missing, be made, as far as the permissions tell."""
    while True:
        try:
            os.lstat(path)
        except OSError as error:
            if error.errno in (errno.ENAMETOOLONG, errno.ELOOP) or not path:
                return False
            path = os.path.dirname(path)
        else:
            return os.path.isdir(path) and os.access(path, os.W_OK | os.X_OK)
