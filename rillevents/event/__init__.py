"""The event: four required fields, attributes, and the one line of JSON that it becomes.

The format is that of Rill's Go package `runtime/pkg/activity`. On `record`'s hot path: nothing heavy is imported.
"""

from __future__ import annotations

import os
import time

from rillevents.errors import InvalidEvent
from rillevents.event.ndjson import check_number as check_number
from rillevents.event.ndjson import dumps, quoted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

MAX_EVENT_BYTES = 32 * 1024
MAX_NAME_BYTES = 1024

BEHAVIORAL = "behavioral"
METRIC = "metric"
LOG = "log"
EVENT_TYPES = (BEHAVIORAL, METRIC, LOG)

SERVICE_NAME = "service_name"
SERVICE_VERSION = "service_version"
SERVICE_COMMIT = "service_commit"
IS_DEV = "is_dev"
INSTALL_ID = "install_id"
USER_ID = "user_id"
ATTRIBUTE_KEYS = (SERVICE_NAME, SERVICE_VERSION, SERVICE_COMMIT, IS_DEV, INSTALL_ID, USER_ID)

BEHAVIORAL_NAMES = (
    "install-success", "app-start", "login-start", "login-success", "deploy-start", "deploy-success",
    "ghconnected-start", "ghconnected-success", "dataaccess-start", "dataaccess-success",
)  # fmt: skip

ENVELOPE = ("event_id", "event_time", "event_type", "event_name")
METRIC_FIELDS = ("value", "name", "time")

# The threads whose calls record nothing now: see muting.py.
muted: set[int] = set()


class Shared:
    """Attributes shared by many events, rendered as JSON once if possible."""

    __slots__ = ("_keys", "_text", "attributes")

    def __init__(self, attributes: Mapping[str, Any]) -> None:
        self.attributes = attributes
        self._text: str | None = None
        self._keys = frozenset((*ENVELOPE, *attributes))

    def render(self, own: Mapping[str, Any]) -> str | None:
        """Return these attributes and an event's *own* as JSON, each after a comma; None if the simple way does not work."""
        text = self._text
        if text is None:
            text = self._text = self._rendered()
        if not text or not self._keys.isdisjoint(own):
            return None
        return f"{text[1:]},{dumps(own)[1:-1]}" if own else text[1:]

    def _rendered(self) -> str:
        """Render them and remember that; "" if a value may change, or a required field is among them."""
        if any(type(value) not in _UNCHANGING for value in self.attributes.values()):
            return ""
        if len(self._keys) < len(ENVELOPE) + len(self.attributes):
            return ""
        return "+" + (f",{dumps(self.attributes)[1:-1]}" if self.attributes else "")


_UNCHANGING = (str, int, float, bool, type(None))


class Event:
    """One event; `line` is the NDJSON that is stored and sent, created once and never again.

    `attributes` is everything besides the four required fields; do not change it after reading `line`. `own` holds what this
    event does not share with others. Known once `line` is: `truncated`, the size in bytes of an event that was too large (0 for
    all others), whose `reason` says what it lost; and `invalid`, the keys and types of attributes that were left out because they
    are no JSON (None: one of them makes the event invalid).
    """

    __slots__ = (
        "_line", "_shared", "event_id", "event_name", "event_time", "event_type", "invalid", "is_raw", "own",
        "reason", "truncated",
    )  # fmt: skip
    reason: str  # Set with `truncated` alone.

    def __init__(
        self,
        event_type: str,
        event_name: str,
        attributes: Mapping[str, Any] | None = None,
        *,
        event_id: str = "",
        event_time: str = "",
        shared: Shared | None = None,
        invalid: dict[str, str] | None = None,
    ) -> None:
        now = time.time_ns()
        self.event_id = event_id or new_event_id(now)
        self.event_time = event_time or format_time(now)
        self.event_type = event_type
        self.event_name = event_name
        self.own: Mapping[str, Any] = {} if attributes is None else attributes
        self._shared = shared
        self.truncated = 0
        self.is_raw = False
        self.invalid = invalid
        self._line = b""

    @classmethod
    def raw(cls, line: bytes, fields: Mapping[str, Any]) -> Event:
        """Return the event that *line* already is, keeping its bytes; *fields* is the same line decoded and checked."""
        event = cls(
            fields["event_type"],
            fields["event_name"],
            fields,
            event_id=fields["event_id"],
            event_time=fields["event_time"],
        )
        event.is_raw = True
        event._line = line
        return event

    @property
    def attributes(self) -> Mapping[str, Any]:
        """Everything besides the four required fields."""
        shared = self._shared
        if shared is not None:
            self.own, self._shared = {**shared.attributes, **self.own}, None
        return self.own

    @attributes.setter
    def attributes(self, attributes: Mapping[str, Any]) -> None:
        self.own, self._shared = attributes, None

    @property
    def line(self) -> bytes:
        """The event as one line of UTF-8 JSON with its newline; raises InvalidEvent if that is not possible."""
        return self._line or self._encode()

    def replace(self, attributes: Mapping[str, Any]) -> Event:
        """Return the same event with other attributes; itself if they are its own."""
        if attributes is self.attributes:
            return self
        event = Event(self.event_type, self.event_name, attributes, event_id=self.event_id, event_time=self.event_time)
        event.invalid = self.invalid
        return event

    def drop_invalid(self) -> None:
        """Leave out the attributes that are no JSON."""
        from rillevents.event.mending import without_invalid

        self.attributes = without_invalid(self.attributes, self.invalid)

    def _encode(self) -> bytes:
        line = self._joined() or self._encoded()
        if len(line) > MAX_EVENT_BYTES + 1:
            from rillevents.event.mending import shortened

            self.truncated = len(line) - 1
            line, self.reason = shortened(line, MAX_EVENT_BYTES, self._envelope())
        self._line = line
        return line

    def _encoded(self) -> bytes:
        try:
            return encode_line({**self._envelope(), **self.attributes, **self._envelope()})
        except InvalidEvent:
            if self.invalid is None:
                raise
            self.drop_invalid()
        return encode_line({**self._envelope(), **self.attributes, **self._envelope()})

    def _envelope(self) -> dict[str, str]:
        return {
            "event_id": self.event_id,
            "event_time": self.event_time,
            "event_type": self.event_type,
            "event_name": self.event_name,
        }

    def _joined(self) -> bytes:
        """Return the line, joined from parts that are rendered already; b"" if the encoder must do it."""
        if self._shared is None:
            return b""
        try:
            text = self._shared.render(self.own)
            if text is None:
                return b""
            head = f'{{"event_id":{quoted(self.event_id)},"event_time":{quoted(self.event_time)}'
            return f"{head}{_kind(self.event_type, self.event_name)}{text}}}\n".encode()
        except (TypeError, ValueError, RecursionError):
            # The encoder reports what is wrong with it.
            return b""

    def __repr__(self) -> str:
        return f"<Event {self.event_type}/{self.event_name} {self.event_id}>"


def encode_line(fields: Mapping[str, Any]) -> bytes:
    """Return *fields* as one line of JSON with its newline; raises InvalidEvent with the reason if they are not JSON."""
    try:
        return (dumps(fields) + "\n").encode()
    except UnicodeEncodeError:
        raise InvalidEvent("the event holds text that is not valid Unicode", hint="pass UTF-8") from None
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidEvent(f"the event cannot be written as JSON: {error}") from None


_randoms: list[str] = []
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_randoms.clear)


def _random_digits() -> str:
    """Return sixteen random hexadecimal digits from the system; safe in threads, signal handlers and forks.

    They come from a pool of 64: a system call lets another thread take the interpreter lock, and while a thread delivers, a call
    per event cost more than everything else. In a copied machine the pool repeats, but the time in the ID differs.
    """
    try:
        return _randoms.pop()
    except IndexError:
        text = os.urandom(512).hex()
        _randoms.extend([text[at : at + 16] for at in range(16, 1024, 16)])
        return text[:16]


_kinds: dict[tuple[str, str], str] = {}
_MOST_KINDS = 256


def _kind(event_type: str, event_name: str) -> str:
    """Return an event's type and name as JSON; cached, since a program has few of them."""
    if type(event_type) is not str or type(event_name) is not str:
        # A str subclass may compare equal to another text.
        return f',"event_type":{quoted(event_type)},"event_name":{quoted(event_name)}'
    text = _kinds.get((event_type, event_name))
    if text is None:
        if len(_kinds) >= _MOST_KINDS:
            _kinds.clear()
        text = f',"event_type":{quoted(event_type)},"event_name":{quoted(event_name)}'
        _kinds[event_type, event_name] = text
    return text


def new_event_id(now_ns: int = 0) -> str:
    """Return a new UUIDv7 (RFC 9562), which sorts by its creation time, to a quarter of a microsecond."""
    milliseconds, rest = divmod(now_ns or time.time_ns(), 1_000_000)
    random = _random_digits()
    return f"{_stamp(milliseconds)}{rest * 4096 // 1_000_000:03x}-{_VARIANT[random[0]]}{random[1:4]}-{random[4:]}"


# The first two bits of this digit are the variant; the other two are random.
_VARIANT = dict(zip("0123456789abcdef", "89ab" * 4, strict=True))


# Types and names that were checked: a program has few of them.
_good_texts: set[str] = set()


def check_text(field: str, value: object) -> str:
    """Return *value* if it can be an event's ID, type or name; raises InvalidEvent otherwise."""
    if type(value) is str and value in _good_texts:
        return value
    if not isinstance(value, str) or not value.strip():
        raise InvalidEvent(f"{field} must be a non-empty string")
    try:
        size = len(value.encode())
    except UnicodeEncodeError:
        raise InvalidEvent(f"{field} is not valid Unicode", hint="pass UTF-8") from None
    if size > MAX_NAME_BYTES:
        raise InvalidEvent(f"{field} has {size} bytes, more than {MAX_NAME_BYTES}")
    if len(_good_texts) >= _MOST_KINDS:
        _good_texts.clear()
    if type(value) is str:
        _good_texts.add(value)
    return value


def check_mapping(attributes: Mapping[str, Any] | None) -> Mapping[str, Any]:
    """Return *attributes*, an empty mapping for None; raises InvalidEvent if they are none."""
    if attributes is None or hasattr(attributes, "keys"):
        return {} if attributes is None else attributes
    raise InvalidEvent(f"attributes must be a mapping, not {type(attributes).__name__}")


def format_time(nanoseconds: int) -> str:
    """Return nanoseconds since 1970 as RFC 3339 in UTC, with `Z` and nine digits.

    Times of a clock outside the years 0 to 9999, which RFC 3339 cannot express, become the nearest one it can.
    """
    seconds, rest = divmod(nanoseconds, 1_000_000_000)
    if _FIRST <= seconds <= _LAST:
        return f"{_second(seconds)}.{rest:09d}Z"
    return format_time(_FIRST * 1_000_000_000 if seconds < _FIRST else _LAST * 1_000_000_000 + 999_999_999)


_FIRST, _LAST = -62167219200, 253402300799


# The latest of each is cached as one value: threads and signal handlers share it.
_latest_second = (0, "1970-01-01T00:00:00")
_latest_stamp = (0, "00000000-0000-7")


def _second(seconds: int) -> str:
    """Return a second in UTC."""
    global _latest_second
    latest = _latest_second
    if latest[0] != seconds:
        t = time.gmtime(seconds)
        _latest_second = latest = (seconds, f"{t[0]:04d}-{t[1]:02d}-{t[2]:02d}T{t[3]:02d}:{t[4]:02d}:{t[5]:02d}")
    return latest[1]


def _stamp(milliseconds: int) -> str:
    """Return the start of all UUIDv7s of a millisecond."""
    global _latest_stamp
    latest = _latest_stamp
    if latest[0] != milliseconds:
        digits = f"{milliseconds & 0xFFFFFFFFFFFF:012x}"
        _latest_stamp = latest = (milliseconds, f"{digits[:8]}-{digits[8:]}-7")
    return latest[1]


def to_event_time(value: object, nanoseconds: object = None, tell: Callable[[str], None] | None = None) -> str:
    """Return a time (text, a datetime, seconds since 1970) or *nanoseconds* in the form of `event_time`; raises InvalidEvent.

    "" for None. *tell* gets a warning about a deprecated form.
    """
    if value is None and nanoseconds is None:
        return ""
    from rillevents.event.timestamp import nanoseconds_of, parse_time, whole_nanoseconds

    try:
        if nanoseconds is None:
            return format_time(parse_time(value) if isinstance(value, str) else nanoseconds_of(value, tell))
        if value is not None:
            raise ValueError("event_time and event_time_ns were both given; give one of them")
        return format_time(whole_nanoseconds(nanoseconds))
    except ValueError as error:
        raise InvalidEvent(str(error)) from None
