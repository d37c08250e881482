"""A command's arguments as they may be recorded: what follows the name of a secret, and what looks like one, is replaced."""

from __future__ import annotations

from collections.abc import Sequence

from rillevents.recording.redact import DEFAULT, REDACTED

_MOST_CHARACTERS = 8192


def redacted_arguments(words: Sequence[str]) -> list[str]:
    """Return arguments without secrets that are known by their key (`--token=X`, `--token X`, `TOKEN=X`) or by their form.

    After 8,192 characters the list ends with `…`. Not found: a secret of no known form after a short option (`-psecret`), or in a
    place where only the command knows it.
    """
    found: list[str] = []
    follows_key = False
    room = _MOST_CHARACTERS
    for word in words:
        room -= len(word)
        if room < 0:
            # So that the other attributes stay.
            found.append("…")
            break
        key, equals, value = word.partition("=")
        name = key.lstrip("-")
        if follows_key and word[:2] != "--":
            found.append(REDACTED)
            follows_key = False
            continue
        is_secret = bool(name) and _is_secret(name)
        follows_key = is_secret and not equals and word[:1] == "-"
        found.append(f"{key}={REDACTED}" if is_secret and equals and value else _without_secrets(word))
    return found


def _is_secret(key: str) -> bool:
    return bool(DEFAULT.redact({key: "x"})[key] != "x")


def _without_secrets(text: str) -> str:
    # Undecodable bytes of an argument are no JSON.
    text = text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    return str(dict(DEFAULT.redact({"argument": text}))["argument"])
