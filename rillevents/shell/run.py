"""A command with two events around it, which is otherwise not there: the process that stands beside the command.

Theory of operation. The command is started before anything else, and gets what it would have without us: umask, dispositions and
mask of signals, descriptors, environment, process group and terminal. A second process does all recording, so that a hanging home
holds nothing up (recorder.py). This process only waits: its signals are blocked, and taken one by one, with
who sent each. It leaves as the command did.

Only modules that cost nothing are imported here: the command waits for them.
"""

from __future__ import annotations

import os
import time
from _signal import (  # type: ignore[import-not-found]
    SIG_BLOCK,
    SIG_DFL,
    SIG_IGN,
    SIG_SETMASK,
    SIGCHLD,
    SIGCONT,
    SIGHUP,
    SIGINT,
    SIGPIPE,
    SIGQUIT,
    SIGSTOP,
    SIGTERM,
    SIGTSTP,
    SIGTTIN,
    SIGTTOU,
    SIGUSR1,
    SIGUSR2,
    SIGXFSZ,
    getsignal,
    pthread_sigmask,
    sigwaitinfo,
)
from _signal import signal as set_disposition
from errno import ENOENT, ENOEXEC, ENOTDIR

from rillevents.shell.ending import Ended

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from rillevents.shell.recorder import Recorder

# What ends a command, when somebody sends it: the end is recorded at once, since a KILL may follow.
_ENDING = (SIGTERM, SIGHUP, SIGQUIT, SIGINT)
_PASSED_ON = (*_ENDING, SIGUSR1, SIGUSR2, SIGTSTP, SIGCONT)
_BLOCKED = (*_PASSED_ON, SIGCHLD)
# si_code of a signal that a process sent; the terminal's come from the kernel.
_SENT = (0, -1, -6)
# Which signals were ignored when `rillevents` began, before Python set its own: a mask in hexadecimal, from the script's head.
IGNORED = "_RV_IGNORED"
NOT_FOUND, NOT_EXECUTABLE = 127, 126


class CannotStart(Exception):
    """The command does not run: `code` is what a shell exits with, `reason` what it says."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


def original_environment() -> dict[bytes, bytes]:
    """Return the environment that this process was started with: Python adds LC_CTYPE where the locale is C."""
    try:
        with open("/proc/self/environ", "rb") as file:
            pairs = [entry.partition(b"=") for entry in file.read().split(b"\0") if entry]
    except OSError:
        pairs = [(key, b"=", value) for key, value in os.environb.items()]
    return {key: value for key, _, value in pairs if key != IGNORED.encode()}


def replace_by(command: Sequence[str], umask: int, mask: set[int] | None) -> CannotStart:
    """Replace this process by the command; return only if that fails. *mask* is that of signals before some were blocked."""
    environ = original_environment()
    os.umask(umask)
    _restore_signals(pthread_sigmask(SIG_BLOCK, ()) if mask is None else mask)
    try:
        _exec(command, environ)
    except OSError as error:
        return _cannot(command[0], error)
    raise AssertionError("unreachable")


_is_child_ignored = False


def block_signals() -> set[int]:
    """Block all signals that are passed on, for all processes that are forked from now on, and return the mask of before."""
    found: set[int] = pthread_sigmask(SIG_BLOCK, _BLOCKED)
    global _is_child_ignored
    if getsignal(SIGCHLD) == SIG_IGN:
        # Else nobody would tell us of the command's end.
        _is_child_ignored = True
        set_disposition(SIGCHLD, SIG_DFL)
    return found


class Wrapped:
    """A command that runs beside this process; `wait` returns how it ended."""

    def __init__(self, command: Sequence[str], umask: int, mask: set[int]) -> None:
        """Start the command with an umask and a mask of signals; raises CannotStart."""
        self._started = time.monotonic()
        self.started_ns = time.time_ns()
        environ = original_environment()
        try:
            self.pid = _forked(command, environ, mask, umask)
        except OSError as error:
            raise _cannot(command[0], error) from None

    def wait(self, recorder: Recorder) -> Ended:
        """Pass signals on until the command has ended, and return how; the recorder hears of the first signal that ends it."""
        while True:
            told = sigwaitinfo(_BLOCKED)
            number = told.si_signo
            if number == SIGCHLD:
                ended = self._reap()
                if ended is not None:
                    return ended
                continue
            is_sent = told.si_code in _SENT
            if number in _ENDING and (is_sent or number != SIGINT):
                recorder.note_signal(number, self.seconds)
            # What the terminal sends goes to all of the process group, so the command has it already.
            if is_sent or number == SIGHUP:
                self._pass_on(number)

    @property
    def seconds(self) -> float:
        """How long the command has been running."""
        return time.monotonic() - self._started

    def _pass_on(self, number: int) -> None:
        try:
            os.kill(self.pid, number)
        except ProcessLookupError:
            pass

    def _reap(self) -> Ended | None:
        """Take what SIGCHLD tells of; return how the command ended, if it did."""
        ended = None
        # As the first process of a container, all others are ours in the end.
        whose = -1 if os.getpid() == 1 else self.pid
        while True:
            try:
                pid, status, usage = os.wait4(whose, os.WNOHANG | os.WUNTRACED)
            except ChildProcessError:
                return ended
            if pid == 0:
                return ended
            if pid != self.pid:
                continue
            if os.WIFSTOPPED(status):
                # A STOP that somebody sends to the command alone is no job control: nobody would continue us.
                if os.WSTOPSIG(status) in (SIGTSTP, SIGTTIN, SIGTTOU):
                    self._stop()
                continue
            ended = Ended(status, self.seconds, (usage.ru_utime, usage.ru_stime, usage.ru_maxrss * 1024))
            if whose != -1:
                return ended

    def _stop(self) -> None:
        """Stop, too, so that a shell sees a stopped job; once it continues the job, the command goes on as well."""
        os.kill(os.getpid(), SIGSTOP)
        self._pass_on(SIGCONT)


def leave_as(ended: Ended) -> None:
    """End this process as the command ended: killed by the same signal, or with its exit code; never returns."""
    if ended.signal:
        # Whatever core there is to dump, the command has dumped.
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
        try:
            set_disposition(ended.signal, SIG_DFL)
        except OSError:
            pass
        pthread_sigmask(SIG_SETMASK, ())
        os.kill(os.getpid(), ended.signal)
        # The first process of a container is not killed so.
        os._exit(128 + ended.signal)
    os._exit(ended.exit_code)


def _reset() -> list[int]:
    """Return the signals that Python ignores and that were not ignored before."""
    return [number for number in (SIGPIPE, SIGXFSZ) if not _was_ignored(number)]


def _was_ignored(number: int) -> bool:
    """Whether a signal was ignored when the script's head began."""
    try:
        before = int(os.environ.get(IGNORED, "0"), 16)
    except ValueError:
        before = 0
    return bool(before >> (number - 1) & 1)


def _forked(command: Sequence[str], environ: dict[bytes, bytes], mask: set[int], umask: int) -> int:
    """Start the command, and return its process once it runs; raises OSError.

    Not by posix_spawn: glibc's leaves two signals of its own ignored in the command, and has no umask.
    """
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.umask(umask)
            _restore_signals(mask)
            _exec(command, environ)
        except OSError as error:
            os.write(writing, b"%d" % (error.errno or 0))
        finally:
            os._exit(NOT_EXECUTABLE)
    os.close(writing)
    # It ends with the exec, which closes the other end.
    told = os.read(reading, 16)
    os.close(reading)
    if told:
        os.waitpid(pid, 0)
        raise OSError(int(told), os.strerror(int(told)))
    return pid


def _restore_signals(mask: set[int]) -> None:
    """Set the dispositions and the mask that were there before Python began."""
    for number in _reset():
        set_disposition(number, SIG_DFL)
    if _is_child_ignored or _was_ignored(SIGCHLD):
        set_disposition(SIGCHLD, SIG_IGN)
    if getsignal(SIGINT) != SIG_IGN:
        # Python's handler would take a Ctrl-C from the command in the moment before it is there.
        set_disposition(SIGINT, SIG_DFL)
    pthread_sigmask(SIG_SETMASK, mask)


def _exec(command: Sequence[str], environ: dict[bytes, bytes]) -> None:
    try:
        os.execvpe(command[0], list(command), environ)  # noqa: S606 - the command is what is asked for
    except OSError as error:
        if error.errno != ENOEXEC:
            raise
        os.execve("/bin/sh", ["sh", _found(command[0]), *command[1:]], environ)  # noqa: S606


def _found(name: str) -> str:
    """Return the path of the file that a name on the PATH is."""
    if "/" in name:
        return name
    paths = [f"{folder or '.'}/{name}" for folder in os.get_exec_path()]
    return next((path for path in paths if os.access(path, os.X_OK)), name)


def _cannot(name: str, error: OSError) -> CannotStart:
    is_missing = error.errno in (ENOENT, ENOTDIR)
    reason = "command not found" if is_missing and "/" not in name else error.strerror or str(error)
    return CannotStart(NOT_FOUND if is_missing else NOT_EXECUTABLE, f"{name}: {reason}")
