"""A flush beside a command that stored events: a process of its own, which the command does not wait for.

What it has of the command: the environment, with absolute paths, and nothing else. It is in a session of its own, in /,
with the null device as its stdin, stdout and stderr and no other descriptor; so nobody waits for it who waits for the command's
output to end, and a lock that a script holds in a descriptor is not held by it. A timer of the system ends it.

On the way of `record`: only what is loaded anyway is imported, and turns.py.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import os
import sys

from rillevents.delivery import SPOOL, WORD
from rillevents.delivery.turns import Turns
from rillevents.local import RILLEVENTS, consent
from rillevents.spool import VERSION

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import NoReturn

    from rillevents.local import Paths

# It has a limit of its own before this one: auto.py.
LIFE_SECONDS = 90
_ENDING = (_signal.SIGTERM, _signal.SIGHUP, _signal.SIGINT)
# Variables that hold paths, which are relative to where the command runs.
_PATHS = (
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "OTEL_EXPORTER_OTLP_CERTIFICATE",
    "OTEL_EXPORTER_OTLP_LOGS_CERTIFICATE",
)
_PATH_LISTS = ("PYTHONPATH",)
_OUR_PATHS = ("HOME", "SPOOL_DIR", "CONFIG", "INTAKE_PASSWORD_FILE")
# What another user's process may see of root's environment; no credentials.
_FOR_OTHERS = (
    "HOME",
    "PATH",
    "LANG",
    "PYTHONPATH",
    "XDG_CONFIG_HOME",
    "XDG_STATE_HOME",
    "DO_NOT_TRACK",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "NO_PROXY",
    "no_proxy",
)
_OURS_FOR_OTHERS = ("HOME", "SPOOL_DIR", "CONFIG", "TO", "TELEMETRY", "FLUSH_AUTO")


def start(paths: Paths, spool: str, every: float, *, lasting: bool = False, words: Sequence[str] | None = None) -> None:
    """Start a flush of *spool* unless one began within *every* seconds.

    Nothing is started before the user knows about it, nor in CI unless the environment asks. *lasting* is for a process that
    does not end soon: it must not be left with a child. *words* start another program than this one. Raises OSError.
    """
    if SPOOL in paths.environ or not hasattr(os, "fork"):
        return
    # Now: the command may be about to show the notice.
    is_noticed = os.path.lexists(paths.notice_marker)
    is_embedded = paths.app is not RILLEVENTS
    if is_embedded and obstacle(paths, is_noticed):
        return
    # Before a command of ours asks whether there is an obstacle: else each one would look again at all that decides it.
    if not Turns(f"{spool}/{VERSION}", every).claim():
        return
    if is_embedded and not lasting and _spawn(paths, spool):
        return
    pid = os.fork()
    if pid == 0:
        # All else is done here: the command does not wait for it.
        _become(paths, spool, is_noticed, lasting, words)
    if lasting:
        os.waitpid(pid, 0)


def _spawn(paths: Paths, spool: str) -> bool:
    """Start the flush of a program that embeds us, and return False if that needs a fork.

    A fork copies the tables of a large program's pages, and then each page that it touches until its end: some 8 ms with Typer
    and pydantic.
    """
    try:
        inherited = [int(name) for name in os.listdir("/dev/fd") if int(name) > 2 and _is_inheritable(int(name))]
        owner = os.stat(f"{spool}/{VERSION}")
        if os.geteuid() == 0 != owner.st_uid:
            return False
        environ = _environment(paths, spool, for_others=False)
        words = list(paths.app.child_words(environ) or ())
        if not words:
            return True
        os.posix_spawn(
            words[0],
            words,
            environ,
            file_actions=[
                *((os.POSIX_SPAWN_OPEN, number, os.devnull, os.O_RDWR, 0) for number in (0, 1, 2)),
                *((os.POSIX_SPAWN_CLOSE, number) for number in inherited),
            ],
            setsid=True,
            setsigmask=(),
            setsigdef=(_signal.SIGALRM, *_ENDING),
        )
    except (OSError, NotImplementedError):
        return False
    return True


def _is_inheritable(number: int) -> bool:
    try:
        return os.get_inheritable(number)
    except OSError:
        # The listing's own, which is closed by now.
        return False


def settle() -> None:
    """Let this process, which a program started without a fork, have a limited life, be in /, and make private files."""
    _limit_life()
    _leave_folder()


def _limit_life() -> None:
    _signal.signal(_signal.SIGALRM, _signal.SIG_DFL)
    _signal.alarm(LIFE_SECONDS)


def _leave_folder() -> None:
    os.chdir("/")
    os.umask(0o077)


def _become(paths: Paths, spool: str, is_noticed: bool, lasting: bool, words: Sequence[str] | None) -> NoReturn:
    """Turn this forked process into a detached flush, if there may be one; never returns."""
    try:
        os.setsid()
        if lasting and os.fork():
            os._exit(0)
        _signal.pthread_sigmask(_signal.SIG_SETMASK, ())
        _limit_life()
        _let_go_of_descriptors()
        if not obstacle(paths, is_noticed):
            _replace_by_flush(paths, spool, words)
    finally:
        os._exit(127)


def _let_go_of_descriptors() -> None:
    null = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(null, number)
    os.closerange(3, 1 << 20)


def _replace_by_flush(paths: Paths, spool: str, words: Sequence[str] | None) -> None:
    owner = os.stat(f"{spool}/{VERSION}")
    is_other = os.geteuid() == 0 != owner.st_uid
    environ = _environment(paths, spool, for_others=is_other)
    words = words or paths.app.child_words(environ)
    words = _own_words(environ) if words is None else words
    _leave_folder()
    for number in _ENDING:
        _signal.signal(number, _signal.SIG_DFL)
    if is_other:
        os.setgroups([])
        os.setgid(owner.st_gid)
        os.setuid(owner.st_uid)
    os.execve(words[0], list(words), environ)  # noqa: S606 - our own program


def obstacle(paths: Paths, is_noticed: bool) -> str:
    """Return why no flush is started here although it is configured, and what to do about it; "" if one is.

    *is_noticed*: the first notice was shown.
    """
    from rillevents.local.ci import is_ci

    is_asked = bool(paths.variable("FLUSH_AUTO"))
    if is_ci(paths.environ):
        name = f"{paths.app.prefix}FLUSH_AUTO"
        return "" if is_asked else f"this is a CI job; set {name} in it, or better: end the job with rillevents flush"
    is_decided = paths.variable("TELEMETRY").strip().lower() in consent.ON
    if is_decided or is_noticed:
        return ""
    decision = consent.decide(paths)
    if decision.enabled and decision.decided_by == paths.telemetry_file:
        return ""
    return "the first notice was not shown yet; record an event in a terminal, or run: rillevents telemetry on"


def _environment(paths: Paths, spool: str, *, for_others: bool) -> dict[str, str]:
    prefix = paths.app.prefix
    found = dict(paths.environ)
    if for_others:
        kept = {*_FOR_OTHERS, *(f"{prefix}{name}" for name in _OURS_FOR_OTHERS)}
        found = {key: value for key, value in found.items() if key in kept}
    found.pop("_RV_IGNORED", None)
    if getattr(sys, "frozen", False):
        # Else PyInstaller takes it for a part of the program that is ending, whose unpacked files are being deleted.
        found["PYINSTALLER_RESET_ENVIRONMENT"] = "1"
    for name in (*_PATHS, *(f"{prefix}{name}" for name in _OUR_PATHS)):
        if found.get(name):
            found[name] = os.path.abspath(found[name])
    for name in _PATH_LISTS:
        if found.get(name):
            found[name] = os.pathsep.join(map(os.path.abspath, found[name].split(os.pathsep)))
    found[SPOOL] = os.path.abspath(spool)
    return found


def _own_words(environ: dict[str, str]) -> list[str]:
    """Return the words that start this program again: a script or an archive by its path, else the package."""
    if getattr(sys, "frozen", False):
        return [sys.executable, WORD]
    script = os.path.abspath(sys.argv[0])
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    if (spec is None or spec.name == "__main__") and os.path.isfile(script):
        return [sys.executable, "-P", script, WORD]
    root = __file__.rpartition("/rillevents/")[0]
    if sys.path[:1] == [root]:
        # Found only because the command ran there.
        for name in _PATH_LISTS:
            environ[name] = os.pathsep.join(filter(None, (root, environ.get(name))))
    return [sys.executable, "-P", "-m", "rillevents", WORD]
