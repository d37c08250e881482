"""The function that records from a shell without starting a process: a text of this package, filled with what events hold.

Theory of operation. What every event of this user holds, and what that depends on, is found here by the code of `record` itself,
and becomes part of the function: the shared attributes as JSON, the keys and marks of secrets, the folder. At every event the
function compares what it depends on with what it was: the variables that were read here, the files by their times, the bytes that
it may still write. Where anything differs, the event goes to the command, and the next one first asks for this text anew.

A shell can only compare the times of two files. So beside each file that was read stands a stamp: an empty file with the same
time, which is also in its name. A stamp never changes: of a file that changes, the next stamp has another name.
"""

from __future__ import annotations

import errno
import math
import os
import sys
import time
import zlib

from rillevents.errors import SpoolError
from rillevents.event import ENVELOPE, METRIC_FIELDS, ndjson
from rillevents.local import Paths, config, consent, install_id
from rillevents.local.files import CLOEXEC, NO_FOLLOW, discard, give_to_owner_of, read_file
from rillevents.recording.redact import MARKS, Redactor
from rillevents.recording.setup import recording_setup
from rillevents.spool import SHELL_SLOT, check, held_bytes
from rillevents.spool.slots import count_backlog

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

    from rillevents.local.config import Config

SHELLS = ("bash", "zsh")
# What decides which bytes a command gets as which text.
_LOCALE = ("LC_ALL", "LC_CTYPE", "LANG", "PYTHONUTF8")
# A file that changed so lately may change again within the same tick of the file system's clock.
_TICK_NS, _COARSE_TICK_NS = 50_000_000, 2_000_000_000
# A shell writes so much before it asks for room again: a part of what is left, for there may be others.
_MOST_BYTES, _PART = 4 << 20, 16
_IS_UTF8 = sys.getfilesystemencoding() == "utf-8"
_STAMP = "shell-"


class _Environ(dict[str, str]):
    """An environment that notes which variables are read."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        super().__init__(environ)
        self.read: dict[str, None] = {}

    def get(self, key: str, default: Any = None) -> Any:
        self.read[key] = None
        return super().get(key, default)

    def __getitem__(self, key: str) -> str:
        self.read[key] = None
        return super().__getitem__(key)

    def __contains__(self, key: object) -> bool:
        self.read[str(key)] = None
        return super().__contains__(key)


class _Found:
    """What the events of a user hold now; `ready` is what the function may do.

    `ready` records itself; `off` does nothing; `command` leaves everything to the command; "" does too, until it asks again.
    """

    def __init__(self, environ: Mapping[str, str], check_environ: Callable[[Mapping[str, str]], str]) -> None:
        self.environ = _Environ(environ)
        self.files: list[tuple[str, str]] = []
        self.ready = "command"
        self.attributes: dict[str, Any] = {}
        self.redactor: Redactor | None = None
        self.folder = ""
        self.bytes = 1
        # With [flush] auto: after so many seconds the command gets an event again, and delivers. 0 is never.
        self.interval = 0
        self.paths = Paths(self.environ)
        for name in _LOCALE:
            self.environ.get(name)
        decision = consent.decide_by_environment(self.paths)
        if decision:
            self.ready = "command" if decision.warning else "off"
            return
        warning = check_environ(self.environ)
        self._read(warning)

    @property
    def names(self) -> list[str]:
        """The variables that were read."""
        return [name for name in self.environ.read if name.isascii() and name.isidentifier()]

    def _read(self, warning: str) -> None:
        paths = self.paths
        settings = config.load_for_recording(paths, cache=False)
        setup = recording_setup(paths, short_lived=True, dry_run=True)
        self.attributes, self.redactor = setup.attributes, setup.redactor
        known = install_id.peek(paths)
        seconds, more = config.auto_interval(paths, settings)
        self.interval = math.ceil(seconds)
        if warning or more or setup.warnings or self._is_special(settings) or not _are_absolute(paths):
            self._stamp_all(paths.state_dir)
            return
        try:
            self.folder = check(paths.spool_dir)
            is_ours = bool(self.folder) and os.stat(self.folder).st_uid == os.geteuid()
            if not known or not self.folder:
                self.ready = ""
            elif is_ours and self._stamp_all(paths.state_dir):
                self.bytes = self._room(settings)
                self.ready = "ready"
        except (OSError, SpoolError):
            self.ready = "command"

    def _is_special(self, settings: Config) -> bool:
        """Whether events need what a shell cannot do."""
        attributes = self.attributes
        has_secrets = self.redactor is not None and not self.redactor.has_no_secrets(attributes)
        return bool(
            settings.sections.get("filter")
            or settings.durable
            or has_secrets
            or not {*ENVELOPE}.isdisjoint(attributes)
            # The text that is printed has the encoding of the file system's names.
            or not (_IS_UTF8 or ndjson.dumps(attributes).isascii())
            or _has_limit()
        )

    def _room(self, settings: Config) -> int:
        count_backlog(self.folder)
        left = settings.max_bytes - held_bytes(self.folder)
        return max(0, min(_MOST_BYTES, left // _PART))

    def _stamp_all(self, folder: str) -> bool:
        """Note the files that events depend on, each with its stamp; False if a stamp cannot be made."""
        files = [self.paths.config_file]
        known = install_id.peek(self.paths)
        if not known or known.source != "env":
            files += self.paths.install_id_files
        for path in filter(None, files):
            try:
                self.files.append((path, _stamped(path, folder)))
            except OSError:
                # Nothing is compared: the command sees for itself what has changed.
                self.files = []
                return False
        return True


def _are_absolute(paths: Paths) -> bool:
    """Whether the folders are the same wherever the shell goes."""
    return all(paths.variable(name)[:1] in ("", "/") for name in ("HOME", "CONFIG", "SPOOL_DIR"))


def _has_limit() -> bool:
    """Whether the size of files is limited: writing more would kill the shell."""
    import resource

    return resource.getrlimit(resource.RLIMIT_FSIZE)[0] != resource.RLIM_INFINITY


def _stamped(path: str, folder: str) -> str:
    """Return the stamp of a file, made in *folder*; "" if there is no file, or it may just be changing. Raises OSError."""
    stem = f"{_STAMP}{zlib.crc32(os.fsencode(path)):08x}-"
    try:
        changed = os.stat(path).st_mtime_ns
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ENOTDIR):
            raise
        return ""
    tick = _COARSE_TICK_NS if changed % 1_000_000_000 == 0 else _TICK_NS
    if time.time_ns() - tick <= changed:
        return ""
    stamp = f"{folder}/{stem}{changed:x}"
    if _time_of(stamp) != changed:
        fd = os.open(stamp, os.O_WRONLY | os.O_CREAT | NO_FOLLOW | CLOEXEC, 0o600)
        try:
            give_to_owner_of(folder, fd)
            os.utime(fd, ns=(changed, changed))
        finally:
            os.close(fd)
        if _time_of(stamp) != changed:
            raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP), stamp)
    _discard_older(folder, stem, stamp)
    return stamp


def _time_of(path: str) -> int | None:
    try:
        return os.lstat(path).st_mtime_ns
    except OSError:
        return None


def _discard_older(folder: str, stem: str, stamp: str) -> None:
    # A shell that still compares with one of these asks anew.
    for name in os.listdir(folder):
        if name.startswith(stem) and f"{folder}/{name}" != stamp:
            discard(f"{folder}/{name}")


def function_text(
    shell: str,
    environ: Mapping[str, str],
    command: Sequence[str],
    check_environ: Callable[[Mapping[str, str]], str] = lambda environ: "",
) -> str:
    """Return the text that defines the function `rillevents` when *shell*, one of SHELLS, evaluates it.

    *command* are the words that start the command, for everything that the function leaves to it. *check_environ*
    returns a warning that the command would give with every event, or "". Creates no folder, no ID and no event. Raises
    ValueError for a shell that it does not know, and for a *command* with a NUL.
    """
    if shell not in SHELLS:
        raise ValueError(f"{shell!r} is not one of {', '.join(SHELLS)}")
    found = _Found(environ, check_environ)
    values = _values(shell, found, command)
    head, split, body = _template(shell).partition("{{SPLIT}}\n")
    if split:
        values["BODY"] = quoted(filled(body, values))
    return filled(head, values)


def _values(shell: str, found: _Found, command: Sequence[str]) -> dict[str, str]:
    shared = f",{ndjson.dumps(found.attributes)[1:-1]}" if found.attributes and found.ready == "ready" else ""
    # Only text that is not ASCII depends on the locale, and most texts are: bash compares it for those alone.
    apart = _LOCALE if shell == "bash" and shared.isascii() else ()
    return {
        "READY": quoted(found.ready),
        "BYTES": str(found.bytes),
        "ENVIRONMENT": _variables(shell, found, [name for name in found.names if name not in apart]),
        "LOCALE": _variables(shell, found, apart),
        "UNEXPORTED": _unexported(found),
        "COMMAND": " ".join(map(quoted, command)),
        "UTF8": quoted("1" if _IS_UTF8 else ""),
        "REFUSED": quoted(_refused_keys(found)),
        "MARKS": _marks(found.redactor),
        "FOLDER": quoted(found.folder),
        "SLOT": SHELL_SLOT,
        "TELEMETRY": quoted(found.paths.telemetry_file),
        "DUE": f" && $(( EPOCHSECONDS - ${{__rv_handed:-0}} )) -lt {found.interval}" if found.interval else "",
        "UNCHANGED": _unchanged(shell, found),
        "ATTRIBUTES": quoted(shared),
        "WIDER": str(len(shared.encode()) - len(shared)),
    }


def _variables(shell: str, found: _Found, names: Sequence[str]) -> str:
    """Return a word whose value changes if one of these variables does, or is exported no longer."""
    # With `-`, and `+`: under `set -u` bash would end the script at a variable that is not there.
    kind = "${{{0}-}}${{{0}+${{{0}@a}}}}" if shell == "bash" else "${{{0}-}}${{(t){0}}}"
    is_set = dict[str, str].__contains__
    return f'"{";".join((kind if is_set(found.environ, name) else "${{{0}-}}").format(name) for name in names)}:"'


def _unexported(found: _Found) -> str:
    """Return a condition that is true if the shell has a variable that was read, but does not export it."""
    missing = [f"${{{name}+x}}" for name in found.names if not dict.__contains__(found.environ, name)]
    return f'-n "{"".join(missing)}"'


def _unchanged(shell: str, found: _Found) -> str:
    """Return the part of a condition that is true if none of the files has changed."""
    tests = []
    for path, stamp in found.files:
        if stamp:
            # Where one of them is missing, bash says that the other is newer, zsh that neither is.
            there = f"&& -e {quoted(path)} && -e {quoted(stamp)} " if shell == "zsh" else ""
            tests.append(f"{there}&& ! {quoted(path)} -nt {quoted(stamp)} && ! {quoted(path)} -ot {quoted(stamp)}")
        else:
            # A file that is there, but has no stamp, counts as changed.
            tests.append(f"&& ! -e {quoted(path)}")
    folder = found.paths.config_dir
    if folder and not any(stamp and os.path.dirname(path) == folder for path, stamp in found.files):
        # Where the folder cannot be searched any more, nobody can read the decision in it.
        tests.append(f"&& {'-x' if os.path.isdir(folder) else '! -e'} {quoted(folder)}")
    return " ".join(tests)


def _refused_keys(found: _Found) -> str:
    """Return the keys that the function leaves to the command, each folded and between bars."""
    secret = found.redactor.keys if found.redactor else ()
    known = (_folded(key) for key in (*ENVELOPE, *METRIC_FIELDS, *found.attributes))
    return "|".join(["", *sorted({*secret, *known}), ""])


def _folded(key: str) -> str:
    return key.lower().replace("-", "").replace("_", "")


def _marks(redactor: Redactor | None) -> str:
    """Return a condition that is true if a word may hold a secret: cheap tests first, since every event comes here."""
    if not redactor or not redactor.searches_values:
        return "-n ''"
    groups: dict[str, list[str]] = {"*_*": [], "*-*": [], "upper": [], "": []}
    for mark in MARKS:
        has_upper = any("A" <= char <= "Z" for char in mark)
        groups["*_*" if "_" in mark else "*-*" if "-" in mark else "upper" if has_upper else ""].append(mark)
    firsts = {next(char for char in mark if "A" <= char <= "Z") for mark in groups["upper"]}
    groups[f"*[{''.join(sorted(firsts))}]*"] = groups.pop("upper")
    tests = [f"$__rv_value == *{quoted(mark)}*" for mark in groups.pop("")]
    tests += [
        f"$__rv_value == {sign} && ( {' || '.join(f'$__rv_value == *{quoted(m)}*' for m in marks)} )"
        for sign, marks in groups.items()
    ]
    tests.append("$__rv_value == *'@'* && $__rv_value == *'://'*")
    return " || ".join(f"( {test} )" if "&&" in test else test for test in tests)


def quoted(text: str) -> str:
    """Return *text* as one word of any shell, whatever is in it; raises ValueError for a NUL, which no word can hold."""
    if "\0" in text:
        raise ValueError("a shell's word cannot hold a NUL")
    return "'" + text.replace("'", "'\\''") + "'"


def _template(shell: str) -> str:
    return (read_file(f"{os.path.dirname(__file__)}/function.{shell}") or b"").decode()


def filled(template: str, values: Mapping[str, str]) -> str:
    """Return the template with each {{NAME}} replaced; what a value holds is not searched."""
    first, *rest = template.split("{{")
    pieces = [first]
    for piece in rest:
        name, _, after = piece.partition("}}")
        pieces += [values[name], after]
    return "".join(pieces)
