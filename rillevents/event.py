"""The event: four required fields, attributes beside them, and the one line of JSON that it becomes.

The format is that of Rill's Go package `runtime/pkg/activity`. On the hot path of `record`: nothing heavy is imported.
"""

from __future__ import annotations

import os
import time

from rillevents import ndjson
from rillevents.errors import InvalidEvent

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime
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
    "install-success",
    "app-start",
    "login-start",
    "login-success",
    "deploy-start",
    "deploy-success",
    "ghconnected-start",
    "ghconnected-success",
    "dataaccess-start",
    "dataaccess-success",
)

ENVELOPE = ("event_id", "event_time", "event_type", "event_name")
METRIC_FIELDS = ("value", "name", "time")


class Event:
    """One event; `line` is the NDJSON that is stored and sent, made once and never again.

    `attributes` is everything beside the four required fields, and is not to be changed after `line` was read.
    `truncated` is the size in bytes of an event that was too large, 0 for all others; it is known once `line` is.
    """

    __slots__ = ("_line", "attributes", "event_id", "event_name", "event_time", "event_type", "is_raw", "truncated")

    def __init__(
        self,
        event_type: str,
        event_name: str,
        attributes: Mapping[str, Any] | None = None,
        *,
        event_id: str = "",
        event_time: str = "",
    ) -> None:
        self.event_id = event_id or new_event_id()
        self.event_time = event_time or format_time(time.time_ns())
        self.event_type = event_type
        self.event_name = event_name
        self.attributes: Mapping[str, Any] = {} if attributes is None else attributes
        self.truncated = 0
        self.is_raw = False
        self._line = b""

    @classmethod
    def raw(cls, line: bytes, fields: Mapping[str, Any]) -> Event:
        """Return the event that *line* already is, its bytes kept; *fields* is the same line decoded and checked."""
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
    def line(self) -> bytes:
        """The event as one line of UTF-8 JSON with its newline; raises InvalidEvent where it cannot be one."""
        if not self._line:
            self._line = self._encode()
        return self._line

    def replace(self, attributes: Mapping[str, Any]) -> Event:
        """Return the same event with other attributes; itself where they are its own."""
        if attributes is self.attributes:
            return self
        return Event(self.event_type, self.event_name, attributes, event_id=self.event_id, event_time=self.event_time)

    def _encode(self) -> bytes:
        envelope = {
            "event_id": self.event_id,
            "event_time": self.event_time,
            "event_type": self.event_type,
            "event_name": self.event_name,
        }
        line = encode_line({**envelope, **self.attributes, **envelope})
        if len(line) <= MAX_EVENT_BYTES + 1:
            return line
        self.truncated = len(line) - 1
        reason = f"the event had {self.truncated} bytes, more than {MAX_EVENT_BYTES}: its attributes were left out"
        return encode_line({**envelope, "truncated": True, "reason": reason})

    def __repr__(self) -> str:
        return f"<Event {self.event_type}/{self.event_name} {self.event_id}>"


def encode_line(fields: Mapping[str, Any]) -> bytes:
    """Return *fields* as one line of JSON with its newline, or raise InvalidEvent saying what is no JSON in it."""
    try:
        return (ndjson.dumps(fields) + "\n").encode()
    except UnicodeEncodeError:
        raise InvalidEvent("the event holds text that is not valid Unicode", hint="pass UTF-8") from None
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidEvent(f"the event cannot be written as JSON: {error}") from None


def new_event_id() -> str:
    """Return a new UUIDv7 (RFC 9562): it sorts by the time it was made, to a quarter of a microsecond."""
    milliseconds, rest = divmod(time.time_ns(), 1_000_000)
    random = int.from_bytes(os.urandom(8), "big")
    high = (milliseconds & 0xFFFFFFFFFFFF) << 16 | 0x7000 | rest * 4096 // 1_000_000
    text = f"{high:016x}{random & 0x3FFFFFFFFFFFFFFF | 0x8000000000000000:016x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def check_text(field: str, value: object) -> str:
    """Return *value* where it will do as an event's ID, type or name; raise InvalidEvent otherwise."""
    if not isinstance(value, str) or not value.strip():
        raise InvalidEvent(f"{field} must be a string that is not empty")
    try:
        size = len(value.encode())
    except UnicodeEncodeError:
        raise InvalidEvent(f"{field} is not valid Unicode", hint="pass UTF-8") from None
    if size > MAX_NAME_BYTES:
        raise InvalidEvent(f"{field} has {size} bytes, more than {MAX_NAME_BYTES}")
    return value


def check_number(value: object) -> int | float:
    """Return *value* where it is a finite number; raise InvalidEvent otherwise (a bool is none)."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise InvalidEvent(f"a metric's value must be a number, not {type(value).__name__}")
    if value != value or value in (float("inf"), float("-inf")):
        raise InvalidEvent("a metric's value must be a finite number")
    return value


def check_raw(fields: object) -> dict[str, Any]:
    """Return the decoded raw event *fields* where it has the four required ones, checked in their order."""
    if not isinstance(fields, dict) or not fields:
        raise InvalidEvent("empty event" if fields in ({}, None) else "an event is a JSON object")
    for field in ENVELOPE:
        if not isinstance(fields.get(field), str) or not fields[field]:
            raise InvalidEvent(
                f"missing {field}" if field not in fields else f"{field} must be a string that is not empty"
            )
        if field == "event_time":
            _check_time(fields[field])
    return fields


def _check_time(text: str) -> None:
    from rillevents.timestamp import parse_time

    try:
        parse_time(text, strict=True)
    except ValueError as error:
        raise InvalidEvent(f"event_time: {error}") from None


def format_time(nanoseconds: int) -> str:
    """Return nanoseconds since 1970 as RFC 3339 in UTC, with `Z` and nine digits.

    A clock outside the years 0 to 9999, which RFC 3339 cannot write, is taken as the nearer end of them.
    """
    nanoseconds = min(max(nanoseconds, -62167219200_000000000), 253402300799_999999999)
    seconds, rest = divmod(nanoseconds, 1_000_000_000)
    t = time.gmtime(seconds)
    return f"{t[0]:04d}-{t[1]:02d}-{t[2]:02d}T{t[3]:02d}:{t[4]:02d}:{t[5]:02d}.{rest:09d}Z"


def to_event_time(value: str | int | datetime) -> str:
    """Return a time given as text, nanoseconds or a datetime in the form that `event_time` has, or raise InvalidEvent."""
    if isinstance(value, int):
        return format_time(value)
    from rillevents.timestamp import parse_time

    try:
        return format_time(parse_time(value if isinstance(value, str) else value.astimezone().isoformat()))
    except ValueError as error:
        raise InvalidEvent(str(error)) from None
