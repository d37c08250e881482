"""The command line: parse, call the library, return a result; one file per command, and one place that prints.

The process starts here: the quick parser handles the plain forms of `record` and `timer`, `run` its own words, Typer everything
else.
"""

from __future__ import annotations

import os
import sys

# Imported at the top: if anything fails to load later, the exit code and --quiet are still handled.
from rillevents.cli.record_quick import failure_mode, is_quiet, on_error_flag, parse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TextIO


def main() -> None:
    """Run the command line of this process and exit with its code; never returns."""
    # Folders and files are created as 0700 and 0600; the umask must not remove more, nor grant more for a moment.
    umask = os.umask(0o077)
    try:
        code = _quick(sys.argv[1:], umask)
        if code is None:
            if sys.flags.no_site:
                # The script starts Python without the search for packages; only the quick commands do without.
                import site

                site.main()
            # httpcore imports trio where that is installed, which takes longer than a flush and starts a process (ldconfig).
            sys.modules.setdefault("trio", None)  # type: ignore[arg-type]
            from rillevents.cli.app import run

            code = run(sys.argv[1:])
    except KeyboardInterrupt:
        code = 130
    except Exception as error:  # noqa: BLE001 - without memory or descriptors not even our modules load
        code = _failed(error)
    leave(code)


def _failed(error: Exception) -> int:
    """Report in one line that the command could not run; return 1, or 0 if it recorded and the script must go on."""
    words = sys.argv[1:]
    mode, _ = failure_mode(on_error_flag(words), os.environ)
    try:
        if sys.stderr is not None and not {"-q", "--quiet"} & set(words) and not is_quiet(os.environ):
            print(f"rillevents: nothing was done: {type(error).__name__}: {str(error)!a}", file=_bounded_stderr())
    except OSError:
        pass
    return 1 if mode == "fail" or not {"record", "timer", "session"} & {*words[:2]} else 0


def _bounded_stderr() -> TextIO:
    try:
        from rillevents.cli.stderr import bounded

        return bounded(sys.stderr)
    except Exception:  # noqa: BLE001 - what kept other modules from loading keeps this one, too
        return sys.stderr


def _quick(argv: list[str], umask: int) -> int | None:
    if argv[:1] == ["run"] or (argv[:1] in (["-q"], ["--quiet"]) and argv[1:2] == ["run"]):
        from rillevents.cli.run import run_words

        return run_words(argv, umask)
    if argv[:1] == ["timer"]:
        from rillevents.cli.timer import quick

        return quick(argv, os.environ)
    if argv == ["auto-flush"] and "_RV_DETACHED" in os.environ:
        # What a command with [flush] auto has started.
        from rillevents.delivery.auto import deliver

        return deliver(os.environ)
    if argv[:1] == ["shell-init"]:
        from rillevents.cli.shell_init import print_function

        return print_function(argv)
    if argv[:1] != ["record"] and argv[1:2] != ["record"]:
        return None
    request = parse(argv)
    if request is None:
        return None
    from rillevents.cli.record import perform_quietly

    return perform_quietly(request, os.environ)


def leave(code: int) -> None:
    """Leave the process at once, without Python's cleanup: that costs as much as recording an event does."""
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:
                stream.flush()
        except OSError:
            # The reader has gone (`| head`): the command itself succeeded.
            continue
    os._exit(code)
