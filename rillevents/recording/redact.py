"""Removes secrets before anything is stored: attributes by their exact key, and text by its form.

On `record`'s hot path: a cheap test comes first, and the patterns (with `re`) are loaded only for a text that may match one.
Harmless values cost a look-up: keys and longer texts that were checked once are cached.
"""

from __future__ import annotations

from rillevents.errors import InvalidEvent

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

    from rillevents.event import Event

REDACTED = "[redacted]"
# The attribute with the number of redacted values in an event.
COUNT = "redacted"

# Compared without case, `-` and `_`: API-Key and apiKey are api_key; max_tokens is not token.
KEYS = (
    "password",
    "passwd",
    "passphrase",
    "secret",
    "client_secret",
    "secret_key",
    "secret_access_key",
    "aws_secret_access_key",
    "token",
    "access_token",
    "refresh_token",
    "id_token",
    "auth_token",
    "session_token",
    "bearer_token",
    "api_token",
    "api_key",
    "x_api_key",
    "private_key",
    "credential",
    "credentials",
    "authorization",
    "proxy_authorization",
    "cookie",
    "set_cookie",
)

# Every text that a pattern of `secrets.py` matches contains one of these (checked by a test); few other texts do.
MARKS = (
    "eyJ", "PRIVATE KEY", "uthorization", "UTHORIZATION", "earer", "EARER", "AKIA", "ASIA", "ghp_", "gho_", "ghu_", "ghs_",
    "ghr_", "github_pat_", "glpat-", "xox", "xapp-", "k_live_", "k_test_", "sk-ant-", "sk-proj-", "sk-svcacct-", "sk-admin-",
    "T3BlbkFJ", "AIza", "ya29.", "npm_", "pypi-AgE", "hf_", "dop_v1_", "SG.", "rill_",
)  # fmt: skip
# Shorter texts are never secrets, except a URL with a password in it.
_SHORTEST = 16
_MOST_REMEMBERED, _LONGEST_REMEMBERED = 1024, 256
_NO_TEXT = (int, float, bool, type(None))


class Redactor:
    """Replaces secrets in attributes with `[redacted]`, at any depth; safe to share between threads.

    A value is a secret if its key is in KEYS or *keys* (and it is not empty, null, true or false). With *values*, so is each part
    of a text that is a token in a known form, a JWT, a private key, or the user and password of a URL. Of a text over
    128 KiB only the start is kept and searched: no event holds more.
    """

    __slots__ = ("_clean", "_harmless", "_keys", "_values")

    def __init__(self, keys: Iterable[str] = (), *, values: bool = True) -> None:
        if isinstance(keys, str):
            raise TypeError("keys must be a list of keys, not a text")
        self._keys = frozenset(map(_folded, (*KEYS, *keys)))
        self._values = values
        self._harmless: set[str] = set()
        self._clean: set[str] = set()

    @property
    def keys(self) -> frozenset[str]:
        """The keys of secrets, without case, `-` and `_`."""
        return self._keys

    @property
    def searches_values(self) -> bool:
        """Whether texts are searched for tokens, whatever their key."""
        return self._values

    def redact(self, attributes: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return *attributes* without secrets, plus `redacted`, their number; the same mapping if there were none.

        Raises InvalidEvent if they are nested without end.
        """
        try:
            if self.has_no_secrets(attributes):
                return attributes
            found: list[str] = []
            redacted = self._mapping(attributes, found)
        except RecursionError:
            raise InvalidEvent("the attributes are nested too deeply, or contain themselves") from None
        return {**redacted, COUNT: len(found)} if found else attributes

    def has_no_secrets(self, attributes: Mapping[str, Any]) -> bool:
        """Return whether *attributes* certainly contain no secret; one flat function, since every event passes through it."""
        harmless, clean = self._harmless, self._clean
        for key, value in attributes.items():
            if key not in harmless and self._is_secret(key):
                return False
            if type(value) is str:
                if value not in clean and self._may_match(value):
                    return False
            elif type(value) not in _NO_TEXT:
                return False
        return True

    def _is_secret(self, key: object) -> bool:
        if not isinstance(key, str):
            return False
        if _folded(key) in self._keys:
            return True
        _remember(self._harmless, key)
        return False

    def _may_match(self, text: str) -> bool:
        if not self._values or (len(text) < _SHORTEST and "@" not in text):
            return False
        if "@" in text and "://" in text:
            return True
        for mark in MARKS:
            if mark in text:
                return True
        _remember(self._clean, text)
        return False

    def _mapping(self, fields: Mapping[str, Any], found: list[str]) -> dict[str, Any]:
        return {
            key: self._secret(value, found) if self._is_secret(key) else self._value(value, found)
            for key, value in fields.items()
        }

    def _secret(self, value: object, found: list[str]) -> object:
        # Not by `in`: an array of another library has no truth, and comparing it raises.
        if value is None or isinstance(value, bool) or (isinstance(value, (str, list, dict, tuple)) and not value):
            return value
        found.append(REDACTED)
        return REDACTED

    def _value(self, value: object, found: list[str]) -> object:
        if type(value) in _NO_TEXT:
            return value
        if isinstance(value, dict):
            return self._mapping(value, found)
        if isinstance(value, (list, tuple)):
            return [self._value(item, found) for item in value]
        return self._text(value, found)

    def _text(self, value: object, found: list[str]) -> object:
        """Return *value*, or its text without secrets; a value without a text in JSON is left for the encoder to refuse."""
        from rillevents.event.ndjson import plain

        try:
            text = value if isinstance(value, (str, int, float)) else plain(value)
        except TypeError:
            return value
        if not isinstance(text, str) or not self._may_match(text):
            return value
        from rillevents.recording import secrets

        without = secrets.redacted(text, REDACTED)
        if without == text:
            _remember(self._clean, text)
            return value
        found.append(without)
        return without


def redacted(redactor: Redactor, event: Event) -> Event:
    """Return *event* without secrets; itself if it is raw.

    Attributes that are no JSON are left out first where that is what a redactor fails at.
    """
    if event.is_raw:
        return event
    try:
        if type(redactor).redact is Redactor.redact:
            return event.replace(redactor.redact(event.attributes))
        from rillevents.event.muting import Muted

        with Muted():
            return event.replace(redactor.redact(event.attributes))
    except InvalidEvent:
        if event.invalid is None:
            raise
        event.drop_invalid()
        return event.replace(redactor.redact(event.attributes))


def _remember(known: set[str], text: str) -> None:
    if len(known) >= _MOST_REMEMBERED:
        known.clear()
    if len(text) <= _LONGEST_REMEMBERED:
        known.add(text)


def _folded(key: str) -> str:
    return key.lower().replace("-", "").replace("_", "")


DEFAULT = Redactor()
