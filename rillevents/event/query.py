"""Which events to show: the filters of `events`, over lines of NDJSON."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rillevents.errors import UsageError
from rillevents.event.ndjson import MAX_DIGITS, finite, no_constant
from rillevents.event.pattern import matches
from rillevents.event.timestamp import parse_duration, parse_time

if TYPE_CHECKING:
    from datetime import tzinfo


@dataclass(frozen=True, slots=True)
class Query:
    """A query; everything that is set must match. Times are nanoseconds since 1970."""

    event_type: str = ""
    name: str = ""
    since: int | None = None
    until: int | None = None
    attributes: Sequence[tuple[str, Any]] = ()

    def accepts(self, event: Mapping[str, Any]) -> bool:
        """Return whether *event* matches."""
        if self.event_type and event["event_type"] != self.event_type:
            return False
        if self.name and not matches(event["event_name"], self.name):
            return False
        if any(key not in event or not same(event[key], value) for key, value in self.attributes):
            return False
        return self._in_time(event["event_time"]) if (self.since, self.until) != (None, None) else True

    def _in_time(self, text: str) -> bool:
        try:
            when = parse_time(text)
        except ValueError:
            return False
        return (self.since is None or when >= self.since) and (self.until is None or when < self.until)


def same(one: Any, other: Any) -> bool:
    """Return whether two values of JSON are equal: 1 equals 1.0, and neither is true."""
    return bool(one == other) and (one is True or one is False) == (other is True or other is False)


def find(lines: Iterable[bytes], query: Query) -> Iterator[tuple[bytes, dict[str, Any]]]:
    """Yield the lines that *query* accepts, each with its event decoded."""
    for line in lines:
        event = decoded(line)
        if query.accepts(event):
            yield line, event


def decoded(line: bytes) -> dict[str, Any]:
    """Return a stored event; a number that is too large or too long becomes the nearest float, as in jq."""
    event: dict[str, Any] = _decoder.decode(line.decode())
    return event


def _whole(text: str) -> int | float:
    return int(text) if len(text) <= MAX_DIGITS else finite(float(text))


# Created once: creating it in each json.loads takes a quarter of the time.
_decoder = json.JSONDecoder(parse_float=lambda text: finite(float(text)), parse_int=_whole, parse_constant=no_constant)


def newest(found: Iterable[tuple[bytes, dict[str, Any]]], limit: int) -> list[tuple[bytes, dict[str, Any]]]:
    """Return the *limit* newest by time, oldest first, keeping only those in memory; of equal times, the later ones."""
    import heapq

    numbered = ((moment(item[1]["event_time"]), number, item) for number, item in enumerate(found))
    return [item for _, _, item in sorted(heapq.nlargest(limit, numbered))]


def moment(text: str) -> int:
    """Return the nanoseconds since 1970 of an event's time, 0 if it is not valid."""
    try:
        return parse_time(text)
    except ValueError:
        return 0


# From here on a bare number of seconds is meant as a time since 1970, not as how long ago.
_SINCE_1970 = 10**8


def point_in_time(text: str, *, zone: tzinfo | None = None, now_ns: Callable[[], int] = time.time_ns) -> int:
    """Return the time given as *text*: RFC 3339, `@SECONDS`, or how long ago, such as `90m`, `7d` or a number of seconds.

    A date alone, `2026-10-24`, is the beginning of that day in *zone* (None: local time). Raises UsageError.
    """
    if len(text) == 10 and text[4] == "-" == text[7]:
        return _midnight(text, zone)
    try:
        ago = parse_duration(text)
        if text[-1:].isdigit() and ago >= _SINCE_1970:
            raise UsageError(f"{text} seconds ago is years ago", hint=f"write @{text} for seconds since 1970")
        return now_ns() - int(ago * 1_000_000_000)
    except ValueError:
        pass
    try:
        return parse_time(text)
    except ValueError as error:
        raise UsageError(f"{error}, or a date alone, or 90m, 24h, 7d for that long ago") from None


def _midnight(text: str, zone: tzinfo | None) -> int:
    from datetime import date

    from rillevents.event.columns import moment_of

    try:
        day = date.fromisoformat(text)
    except ValueError:
        raise UsageError(f"{text!r} is not a day that the calendar has") from None
    return moment_of(day, 0, zone) * 1000
