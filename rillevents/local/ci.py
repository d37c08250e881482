"""Which CI job this is, from the environment alone: the provider, the run, the branch, the commit and the pull request.

On `record`'s quick path: only the small JSON reader is imported, and only one file is read, GitHub's event of a pull request.
A provider is named by its own marker. What is unknown is left out, and so is everything about a person.
"""

from __future__ import annotations

from rillevents.event.ndjson import loads
from rillevents.local.ci_providers import MARKERS, NAMELESS, VARIABLES
from rillevents.local.files import read_text_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

_NO = ("", "0", "false", "no", "off")
_MAX_CHARACTERS = 256
_MAX_EVENT_BYTES = 1 << 20
_LIKE_GITHUB = ("github", "gitea", "act")


def is_ci(environ: Mapping[str, str]) -> bool:
    """Return whether this is a CI job; `CI=false`, `0`, `no` or `off` says no, whatever else is set."""
    if _raw(environ, "CI") and not _is_set(environ, "CI"):
        return False
    return any(_is_set(environ, name) for name in NAMELESS) or bool(_provider(environ))


def ci_attributes(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the attributes that say which CI job this is; none outside of CI, or if the provider is not known."""
    provider = _provider(environ) if is_ci(environ) else ""
    if not provider:
        return {}
    names = VARIABLES[provider]
    read_git = _github if provider in _LIKE_GITHUB else _git
    found = {
        "ci_provider": provider,
        "ci_pipeline": _first(environ, names.get("pipeline", ""), clean),
        "ci_job": _first(environ, names.get("job", ""), clean),
        "ci_build_id": _first(environ, names.get("build", ""), _build_id),
        "ci_attempt": _first(environ, names.get("attempt", ""), _number)
        or _first(environ, names.get("retry", ""), _next),
        **read_git(environ, names),
    }
    return {key: value for key, value in found.items() if value}


def _raw(environ: Mapping[str, str], name: str) -> str:
    return environ.get(name, "").strip()


def _is_set(environ: Mapping[str, str], name: str) -> bool:
    value = _raw(environ, name)
    # Taskcluster counts runs from 0 on.
    return value.lower() not in _NO or (name == "RUN_ID" and value == "0")


def _provider(environ: Mapping[str, str]) -> str:
    if _raw(environ, "CI").lower() == "woodpecker":
        return "woodpecker"
    for provider, names in MARKERS:
        if all(_is_set(environ, name) for name in names.split()):
            return provider
    return ""


def _first(environ: Mapping[str, str], names: str, read: Callable[[str], str]) -> str:
    """Return what *read* makes of the first of these variables of which it makes something."""
    for name in names.split():
        found = read(_raw(environ, name))
        if found:
            return found
    return ""


def clean(text: str) -> str:
    """Return *text* without credentials in URLs, cut to a bounded length; "" if it has control characters or is no Unicode."""
    if not text.isprintable() and any(char < " " or "\x7f" <= char <= "\x9f" or _is_surrogate(char) for char in text):
        return ""
    scheme, *rest = text.split("://")
    text = "://".join([scheme, *map(_without_credentials, rest)])
    return text if len(text) <= _MAX_CHARACTERS else f"{text[: _MAX_CHARACTERS - 1]}…"


def _is_surrogate(char: str) -> bool:
    return "\ud800" <= char <= "\udfff"


def _without_credentials(text: str) -> str:
    """Return what follows a URL's `://` without the user and the password."""
    end = min(at for at in (*map(text.find, "/?# "), len(text)) if at >= 0)
    _, colon, rest = text[:end].partition(":")
    if colon and "@" not in text[:end] and "@" in text[end:] and not rest.isdigit():
        # A password with a slash in it: what follows the colon is no port.
        end = len(text)
    return text[text.rfind("@", 0, end) + 1 :]


def _number(text: str) -> str:
    return text if text.isascii() and text.isdigit() and len(text) < 20 and text.strip("0") else ""


def _next(text: str) -> str:
    return str(int(text) + 1) if text == "0" or _number(text) else ""


def _build_id(text: str) -> str:
    return clean(text) if text != "0" else ""


def _commit(text: str) -> str:
    """Return *text* if it is a commit's hash: not `HEAD`, not zeros, not a revision of another system."""
    is_hash = 7 <= len(text) <= 64 and not text.strip("0123456789abcdefABCDEF") and text.strip("0")
    return text if is_hash else ""


def _branch(text: str) -> str:
    """Return the branch that *text* names: "" for a tag, a pull request's ref, or no branch at all."""
    name = text.removeprefix("refs/heads/")
    # Buildkite writes owner:branch for a fork. No branch has a colon in its name.
    name = name.rpartition(":")[2]
    is_request = name.startswith("pull/") and _number(name.split("/")[1])
    return "" if name.startswith("refs/") or name == "HEAD" or is_request else clean(name)


def _remote_branch(text: str) -> str:
    return _branch(text.removeprefix("origin/")) if text != "detached" else ""


def _request(text: str) -> str:
    """Return the number of the pull request that *text* is, or names as pr/N, as a ref, or as its page's URL."""
    if text.startswith("refs/pull/"):
        return _number(text.split("/")[2])
    before, _, last = text.rpartition("/")
    scheme, _, rest = before.partition("://")
    is_page = scheme in ("http", "https") and not rest.startswith("/") and "/" in rest
    return _number(last) if before in ("", "pr") or is_page else ""


def _git(environ: Mapping[str, str], names: Mapping[str, str]) -> dict[str, str]:
    request = _first(environ, names.get("request", ""), _request)
    branch = _first(environ, names.get("head", ""), _branch)
    commit = _first(environ, names.get("tip", ""), _commit)
    if not request:
        branch = branch or _first(environ, names.get("branch", ""), _branch)
        branch = branch or _first(environ, names.get("remote", ""), _remote_branch)
        branch = "" if _first(environ, names.get("tag", ""), clean) else branch
        commit = commit or _first(environ, names.get("commit", ""), _commit)
    return {"git_branch": branch, "git_commit": commit, "ci_pull_request": request}


def _github(environ: Mapping[str, str], _: Mapping[str, str]) -> dict[str, str]:
    ref, head = _raw(environ, "GITHUB_REF"), _raw(environ, "GITHUB_HEAD_REF")
    has_event = _raw(environ, "GITHUB_EVENT_NAME").startswith("pull_request")
    if not (has_event or head or ref.startswith("refs/pull/")):
        is_tag = _raw(environ, "GITHUB_REF_TYPE") == "tag"
        name = "" if is_tag else ref or _raw(environ, "GITHUB_REF_NAME")
        return {"git_branch": _branch(name), "git_commit": _commit(_raw(environ, "GITHUB_SHA"))}
    # Here the ref may be the target's, and GITHUB_SHA a trial merge: only the event's file says what was proposed.
    event = _read_event(_raw(environ, "GITHUB_EVENT_PATH")) if has_event else {}
    request = _inner(event, "pull_request")
    proposed = _inner(request, "head")
    number = request.get("number", event.get("number"))
    return {
        "git_branch": _branch(head) or _branch(_text(proposed.get("ref"))),
        "git_commit": _commit(_text(proposed.get("sha"))),
        "ci_pull_request": _number(str(number)) or _request(ref),
    }


def _read_event(path: str) -> dict[str, Any]:
    """Return GitHub's event; nothing if there is no such file, or it is too large or broken."""
    try:
        content = read_text_file(path, _MAX_EVENT_BYTES) if path else None
        event = loads((content or b"null").decode())
    except (OSError, ValueError, RecursionError):
        return {}
    return event if isinstance(event, dict) else {}


def _inner(value: object, key: str) -> dict[str, Any]:
    found = value.get(key) if isinstance(value, dict) else None
    return found if isinstance(found, dict) else {}


def _text(value: object) -> str:
    return value.strip() if isinstance(value, str) else ""
