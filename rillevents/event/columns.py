"""`--every`: the columns of a table over time, at whole minutes, hours, days or weeks of a time zone."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from typing import Final

from rillevents.errors import UsageError
from rillevents.event.timestamp import parse_duration

MAX_COLUMNS: Final = 2000
_HOUR: Final = 3600
_DAY: Final = 86400
_US: Final = 1_000_000
# Weeks, and longer columns, begin on a Monday.
_MONDAY: Final = date(1970, 1, 5).toordinal()


def parse_every(text: str) -> int:
    """Return the seconds of a column such as `1d`, `1h`, `1w` or `5m`; raises UsageError."""
    try:
        found = parse_duration(text)
    except ValueError:
        found = 0
    seconds = int(found)
    if (
        seconds <= 0
        or seconds != found
        or seconds % 60
        or (seconds < _DAY and _DAY % seconds)
        or (seconds > _DAY and seconds % _DAY)
    ):
        raise UsageError(f"--every {text!r} is not a length that days consist of, such as 5m, 1h, 1d or 1w")
    return seconds


def bounds(first_us: int, last_us: int, seconds: int, zone: tzinfo | None) -> list[int]:
    """Return the microseconds at which columns begin, from the one with *first_us* on, and the end of that with *last_us*.

    *zone* is that of the whole hours, days and weeks; None is the local zone. Raises UsageError for more than MAX_COLUMNS.
    """
    try:
        found = _bounds(first_us, last_us, seconds, zone)
    except OverflowError:
        found = []
    if not found:
        raise UsageError(
            "--every cannot make columns at the ends of the calendar", hint="give --since, or an earlier --until"
        )
    return found


def _bounds(first_us: int, last_us: int, seconds: int, zone: tzinfo | None) -> list[int]:
    """Return the same, or nothing where the calendar ends before."""
    found: list[int] = []
    for bound in _all_bounds(_moment(first_us, zone).date(), seconds, zone):
        if found and bound <= found[-1]:
            # A day, or hours, that the zone leaves out.
            continue
        if bound <= first_us:
            found = [bound]
            continue
        found.append(bound)
        if bound > last_us:
            return found
        if len(found) > MAX_COLUMNS:
            raise UsageError(f"--every makes more than {MAX_COLUMNS:,} columns; give longer ones, or --since")
    return []


def _all_bounds(day: date, seconds: int, zone: tzinfo | None) -> Iterator[int]:
    days = max(1, seconds // _DAY)
    ordinal = day.toordinal() - (day.toordinal() - _MONDAY) % days
    last = date.max.toordinal()
    while 1 <= ordinal < last:
        day = date.fromordinal(ordinal)
        if _HOUR < seconds < _DAY:
            # By the clock: at 00:00, 06:00 and so on, also on days on which the clocks change.
            yield from (moment_of(day, at, zone) for at in range(0, _DAY, seconds))
        else:
            start, end = (moment_of(date.fromordinal(min(each, last)), 0, zone) for each in (ordinal, ordinal + days))
            yield from _hours(start, end, seconds, zone) if seconds < _DAY else [start]
        ordinal += days


def _hours(start: int, end: int, seconds: int, zone: tzinfo | None) -> Iterator[int]:
    """Yield the beginnings of the hours, or shorter columns, of a day; it has 23 or 25 hours where the clocks change.

    Where they change by half an hour, one is shorter.
    """
    while start < end:
        yield start
        local = _moment(start, zone)
        start += (seconds - (local.hour * _HOUR + local.minute * 60 + local.second) % seconds) * _US


def _moment(us: int, zone: tzinfo | None) -> datetime:
    return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=us)).astimezone(zone)


def moment_of(day: date, seconds: int, zone: tzinfo | None) -> int:
    """Return the microseconds at which the clocks of a zone (None: the local one) show so many seconds after midnight.

    Where they leave that out, the moment at which they do. At both ends of the calendar, where no local time is known, UTC's.
    """
    plain = datetime.combine(day, time()) + timedelta(seconds=seconds)
    if zone is None:
        # Not astimezone: where clocks leave midnight out, that of Python 3.11.7 takes the offset that holds afterwards.
        with suppress(ValueError, OverflowError, OSError):
            return int(plain.timestamp()) * _US
    return (plain.replace(tzinfo=zone or UTC) - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


class ColumnOf(dict[int, int]):
    """The number of the column for each minute since 1970, or other *unit* in microseconds, worked out once for each."""

    def __init__(self, bounds: list[int], unit: int = 60 * _US) -> None:
        super().__init__()
        self.unit = unit
        self._bounds = [bound // unit for bound in bounds]

    def __missing__(self, number: int) -> int:
        found = self[number] = min(max(bisect_right(self._bounds, number) - 1, 0), len(self._bounds) - 2)
        return found
