"""Sessions: an ID and attributes on every event of a terminal, a script or a CI job, whichever process records it.

A session lives in the environment: `session start` prints variables, and whoever inherits them is in it. Beside them is a small
file for each session, with when it began, so that its ID alone is enough to end it.
"""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from rillevents.errors import InvalidEvent, RilleventsError, UsageError
from rillevents.event import ENVELOPE, ndjson
from rillevents.local import Paths
from rillevents.local.files import ensure_home, make_folder, read_file, replace_file
from rillevents.local.install_id import mint
from rillevents.local.keyed_files import drop_old, hashed
from rillevents.shell.stopwatch import reading, seconds_since

# What a session exports is in the environment of every process below; 200 kB of it stop a CI step from starting.
MAX_ATTRIBUTES = 4096
END_NAME = "session-end"


@dataclass(frozen=True, slots=True)
class Session:
    """A session that has been started: its ID, its attributes as JSON, and when it began."""

    session_id: str
    attributes: Mapping[str, Any]
    started: str

    def variables(self, prefix: str) -> dict[str, str]:
        """Return the variables that put a process into the session."""
        found = {f"{prefix}SESSION_ID": self.session_id, f"{prefix}SESSION_START": self.started}
        if self.attributes:
            found[f"{prefix}SESSION_ATTRIBUTES"] = ndjson.dumps(dict(self.attributes))
        return found


def start(paths: Paths, attributes: Mapping[str, Any]) -> Session:
    """Return a new session with these attributes beside those of the session around it, if there is one.

    Raises InvalidEvent for an attribute that no event can have, or if all of them take more than 4,096 bytes. That the session's
    file cannot be written is no error: the variables are enough.
    """
    from rillevents.local.config import session_attributes

    outer, _ = session_attributes(paths)
    merged = {**outer, **attributes}
    for key in attributes:
        if not key or key in (*ENVELOPE, "session_id"):
            raise InvalidEvent(f"{key!r} is set by rillevents itself", hint="give the attribute another name")
    if len(ndjson.dumps(merged).encode()) > MAX_ATTRIBUTES:
        raise InvalidEvent(
            f"the attributes of a session take more than {MAX_ATTRIBUTES:,} bytes",
            hint="they are in the environment of every process; give the long ones to the events that need them",
        )
    session = Session(mint(), merged, reading())
    _keep(paths, session)
    return session


def seconds(paths: Paths) -> float:
    """Return how long the session of this environment has lasted; raises UsageError if there is none, RilleventsError."""
    session_id = paths.variable("SESSION_ID")
    if not session_id:
        hint = 'start one: eval "$(rillevents session start)"'
        raise UsageError(f"there is no session: {paths.app.prefix}SESSION_ID is not set", hint=hint)
    found = seconds_since(paths.variable("SESSION_START") or _kept(paths, session_id))
    if found is None:
        raise RilleventsError(
            "when this session began is not known here: the machine was restarted, or it is another one"
        )
    return found


def note_end(paths: Paths) -> bool:
    """Note that the session has ended; False if it had already, so that a trap and a script that both end it are one end."""
    file = _file(paths, paths.variable("SESSION_ID"))
    try:
        make_folder(paths.sessions_dir)
        os.close(os.open(f"{file}.ended", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    except FileExistsError:
        return False
    except OSError:
        # Rather two ends than none.
        return True
    return True


def _file(paths: Paths, session_id: str) -> str:
    return f"{paths.sessions_dir}/{hashed(session_id)}"


def _keep(paths: Paths, session: Session) -> None:
    try:
        ensure_home(paths.home)
        make_folder(paths.sessions_dir)
        drop_old(paths.sessions_dir)
        replace_file(_file(paths, session.session_id), session.started.encode(), durable=False)
    except OSError:
        return


def _kept(paths: Paths, session_id: str) -> str:
    try:
        return (read_file(_file(paths, session_id), 256) or b"").decode("ascii", "replace")
    except OSError:
        return ""


def printed(session: Session, form: str, paths: Paths) -> str:
    """Return what puts a shell or a CI job into the session: the forms are `sh`, `fish`, `env` and `json`.

    `sh` is for dash, bash, zsh and other POSIX shells; its trap, like fish's handler, ends the session with the shell.
    """
    return _FORMS[form](session, paths)


def _sh(session: Session, paths: Paths) -> str:
    lines = [f"export {key}={shlex.quote(value)}" for key, value in session.variables(paths.app.prefix).items()]
    mark = session.session_id[:8]
    end = f"{_end_words(session, paths)} </dev/null || :"
    traps = shlex.quote(f"{_file(paths, session.session_id)}.traps" if paths.sessions_dir else "/dev/null")
    # zsh runs an EXIT trap that is set in a function at the function's end. It runs its list of functions at the shell's end, but
    # not after an error under `set -e`: hence both, and the first one to run takes the function away. Without any EXIT trap, a
    # zsh that was given a text (-c) puts its last command in its own place, and forgets the list.
    zsh = f"""_rillevents_end_{mark}() {{ unfunction _rillevents_end_{mark}; {end}; }}
  zshexit_functions+=(_rillevents_end_{mark})
  if [[ -z ${{funcstack:#\\(eval\\)}} ]] && (( ! ${{+functions[TRAPEXIT]}} )) && {{ trap >| {traps} }} 2>/dev/null; then
    _rillevents_traps=$(cat {traps}; rm -f {traps})
    _rillevents_traps=${{_rillevents_traps%%$'\\n'*}} _rillevents_exit_{mark}=
    [[ $_rillevents_traps != "trap -- "*" EXIT" ]] || eval "_rillevents_exit_{mark}=${{${{_rillevents_traps#trap -- }}% EXIT}}"
    trap '_rillevents_code=$?; (( ! ${{+functions[_rillevents_end_{mark}]}} )) || _rillevents_end_{mark}
      (exit "$_rillevents_code") && :; eval "$_rillevents_exit_{mark}"' EXIT
  fi"""
    return "\n".join([*lines, _TRAP.format(zsh=shlex.quote(zsh), end=shlex.quote(end), mark=mark, traps=traps), ""])


# What an EXIT trap of before did is done after ours, with the exit code that it would see. A shell tells its traps in the form in
# which they can be set again, EXIT's first; dash does so only outside of a substitution, hence the file. Where a trap cannot be
# read, it stays, and the session is not ended with the shell.
_TRAP = """\
if [ -n "${{ZSH_VERSION-}}" ]; then
  eval {zsh}
else
  if _rillevents_traps=$({{ trap -p EXIT; }} 2>/dev/null); then :
  elif {{ command trap >|{traps}; }} 2>/dev/null; then _rillevents_traps=$(cat {traps}; rm -f {traps})
  else _rillevents_traps=unknown
  fi
  _rillevents_exit_{mark}=
  case "$_rillevents_traps
" in
    "trap -- '"*"' EXIT
"*)
      _rillevents_traps="${{_rillevents_traps#trap -- }}
"
      eval "_rillevents_exit_{mark}=${{_rillevents_traps%%"' EXIT
"*}}'"
      _rillevents_traps= ;;
    "
" | "trap -- - EXIT
" | "trap -- '"*) _rillevents_traps= ;;
  esac
  if [ -z "$_rillevents_traps" ]; then
    trap '_rillevents_code=$?; '{end}'; (exit "$_rillevents_code") && :; eval "$_rillevents_exit_{mark}"' EXIT
  fi
fi"""


def _fish(session: Session, paths: Paths) -> str:
    lines = [f"set -gx {key} {_fish_quoted(value)}" for key, value in session.variables(paths.app.prefix).items()]
    name = f"_rillevents_end_{session.session_id[:8]}"
    ours = " ".join(map(_fish_quoted, own_words()))
    setting = f"{paths.app.prefix}SESSION_ID={_fish_quoted(session.session_id)}"
    end = f"env {setting} {paths.app.prefix}SESSION_START={session.started} {ours} session end </dev/null"
    return "\n".join([*lines, f"function {name} --on-event fish_exit; {end}; end", ""])


def _fish_quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _env(session: Session, paths: Paths) -> str:
    """`NAME=VALUE` lines, as GitHub's `GITHUB_ENV` and env files take them."""
    for key, value in session.attributes.items():
        for text in (key, *_texts(value)):
            if {"\r", "\n", "\0"} & {*text}:
                hint = "in such a file, each line sets a variable: give this attribute to the events that need it"
                raise UsageError(
                    f"the attribute {key!r} has a line break or a NUL, which --print env cannot hold", hint=hint
                )
    return "".join(f"{key}={value}\n" for key, value in session.variables(paths.app.prefix).items())


def _texts(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    if isinstance(value, Mapping):
        return [text for pair in value.items() for part in pair for text in _texts(part)]
    return [text for item in value for text in _texts(item)] if isinstance(value, list) else []


def _json(session: Session, paths: Paths) -> str:
    document = {
        "session_id": session.session_id,
        "attributes": dict(session.attributes),
        "environment": session.variables(paths.app.prefix),
    }
    return ndjson.dumps(document) + "\n"


_FORMS: dict[str, Callable[[Session, Paths], str]] = {"sh": _sh, "fish": _fish, "env": _env, "json": _json}
FORMS = tuple(_FORMS)


def _end_words(session: Session, paths: Paths) -> str:
    """Return the shell's words that end this very session, whichever one the shell is in by then."""
    prefix = paths.app.prefix
    setting = f"{prefix}SESSION_ID={session.session_id} {prefix}SESSION_START={session.started}"
    return f"{setting} {' '.join(map(shlex.quote, own_words()))} session end"


def own_words() -> list[str]:
    """Return the words that start this program again, from any folder."""
    script = os.path.abspath(sys.argv[0])
    if os.path.basename(script) == "__main__.py":
        return [sys.executable, "-m", "rillevents"]
    return [script] if os.access(script, os.X_OK) and not script.endswith((".py", ".pyz")) else [sys.executable, script]
