"""Times as people and programs write them → nanoseconds since 1970, exact to the nanosecond.

Text is read without datetime: that stops at microseconds, and importing it costs a fifth of Python's start.
"""

from __future__ import annotations

from rillevents.event import ndjson

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

FIRST_SECOND = -62167219200  # of the year 0
LAST_SECOND = 253402300799  # of the year 9999, the last that RFC 3339 can write
_MOST_DURATION = 1e18
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}


def parse_time(text: str, *, strict: bool = False) -> int:
    """Return the nanoseconds since 1970 of an RFC 3339 time or of `@EPOCH[.fraction]`; raises ValueError for anything else.

    Unless *strict*, an offset may lack its colon, and a space may replace the `T`. Digits after the ninth are cut off.
    """
    try:
        if text[:1] == "@" and not strict:
            return _parse_epoch(text[1:])
        return _parse_rfc3339(text, strict)
    except (ValueError, IndexError):
        raise ValueError(
            f"{text[:40]!r} is not a valid time; write 2026-11-23T10:00:00Z (or an offset for the Z), or @SECONDS since 1970"
        ) from None


def oldest(times: Sequence[str]) -> str:
    """Return the oldest of RFC 3339 times; "" without any. Texts in UTC are compared as they are: to parse them takes long."""
    if all(time[-1:] == "Z" for time in times):
        return min(times, default="")
    return min(times, key=_known_or_last)


def _known_or_last(text: str) -> int:
    try:
        return parse_time(text)
    except ValueError:
        return LAST_SECOND * 1_000_000_000


def parse_duration(text: str) -> float:
    """Return the seconds of a duration: a number of them, or one with a unit, such as `30s`, `1.5h` or `7d`.

    The units are s, m, h, d and w. Raises ValueError for anything else, and from 10**18 seconds on.
    """
    unit = text[-1:]
    number = text[:-1] if unit in _UNITS else text
    if not number or number.strip("0123456789."):
        raise ValueError(text)
    seconds = float(number) * _UNITS.get(unit, 1)
    if seconds >= _MOST_DURATION:
        raise ValueError(text)
    return seconds


_seconds: dict[str, int] = {}
_MOST_SECONDS = 4096


def microseconds(text: str) -> int:
    """Return the whole microseconds since 1970 of a strict RFC 3339 time; raises ValueError for anything else.

    UTC seconds are cached: many events share one, and parsing a time costs more than storing it.
    """
    # A time without a fraction is found as it is.
    whole = _seconds.get(text)
    if whole is not None:
        return whole
    second, rest = f"{text[:19]}Z", text[19:-1]
    if text[-1:] != "Z" or (rest and not (rest[0] == "." and rest[1:].isascii() and rest[1:].isdigit())):
        return parse_time(text, strict=True) // 1000
    whole = _seconds.get(second)
    if whole is None:
        if len(_seconds) >= _MOST_SECONDS:
            _seconds.clear()
        whole = _seconds[second] = parse_time(second, strict=True) // 1000
    return whole + int(rest[1:7].ljust(6, "0")) if rest else whole


def _digits(text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise ValueError(text)
    return int(text)


def _two(text: str, least: int, most: int) -> int:
    value = _digits(text)
    if len(text) != 2 or not least <= value <= most:
        raise ValueError(text)
    return value


def _fraction(text: str) -> int:
    # Check all digits, not only the nine that count: callers let digits of other scripts through.
    if not (text.isascii() and text.isdigit()):
        raise ValueError(text)
    return int(text[:9].ljust(9, "0"))


def _parse_epoch(text: str) -> int:
    whole, point, fraction = text.partition(".")
    sign = -1 if whole[:1] == "-" else 1
    seconds = _digits(whole[1:] if sign < 0 else whole)
    if seconds > LAST_SECOND:
        raise ValueError(text)
    return sign * (seconds * 1_000_000_000 + (_fraction(fraction) if point else 0))


def _parse_rfc3339(text: str, strict: bool) -> int:
    year, month, day = _digits(text[:4]), _two(text[5:7], 1, 12), _two(text[8:10], 1, 31)
    if text[4] + text[7] != "--" or text[10] not in ("T" if strict else "Tt ") or day > _month_days(year, month):
        raise ValueError(text)
    hour, minute, second = _two(text[11:13], 0, 23), _two(text[14:16], 0, 59), _two(text[17:19], 0, 59)
    if text[13] + text[16] != "::":
        raise ValueError(text)
    end, nanoseconds = 19, 0
    if text[19] == ".":
        end = 20
        while text[end].isdigit():
            end += 1
        nanoseconds = _fraction(text[20:end])
    seconds = _days_since_1970(year, month, day) * 86400 + hour * 3600 + minute * 60 + second
    return (seconds - _offset(text[end:], strict)) * 1_000_000_000 + nanoseconds


def _offset(text: str, strict: bool) -> int:
    if text == "Z" or (text == "z" and not strict):
        return 0
    colon = text[3:4] == ":"
    if text[0] not in "+-" or (strict and not colon):
        raise ValueError(text)
    seconds = _two(text[1:3], 0, 23) * 3600 + _two(text[3 + colon :], 0, 59) * 60
    return seconds if text[0] == "+" else -seconds


def _month_days(year: int, month: int) -> int:
    if month == 2:
        return 29 if year % 4 == 0 and (year % 100 or year % 400 == 0) else 28
    return 30 if month in (4, 6, 9, 11) else 31


def _days_since_1970(year: int, month: int, day: int) -> int:
    # Start the year in March: then the leap day is its last day.
    year -= month < 3
    day_of_year = (153 * ((month + 9) % 12) + 2) // 5 + day - 1
    return 365 * year + year // 4 - year // 100 + year // 400 + day_of_year - 719468


# No time in seconds that anybody records; as milliseconds it is 1973, as nanoseconds (from the second number on) 1973, too.
_NOT_SECONDS, _ONLY_NANOSECONDS = 10**11, 10**17
_FORMS = "give text, a datetime, or seconds since 1970 (event_time_ns= takes nanoseconds)"


def nanoseconds_of(value: object, tell: Callable[[str], None] | None = None) -> int:
    """Return the nanoseconds since 1970 of a datetime, or of a number of seconds; raises ValueError for anything else.

    A naive datetime means local time. Digits after the ninth are cut off. An int of 10**17 or more is taken as nanoseconds, as
    version 0.1.0 took every int, with a DeprecationWarning and, once a process, a call of *tell*.
    """
    from datetime import date, datetime

    if isinstance(value, datetime):
        return _in_range(_of_datetime(value), value)
    if isinstance(value, date):
        raise ValueError("a date has no time of day; give a datetime")
    return _in_range(_of_seconds(value, tell), value)


def whole_nanoseconds(value: object) -> int:
    """Return *value* if it is a number of nanoseconds since 1970 that RFC 3339 can write; raises ValueError otherwise."""
    number = None if isinstance(value, bool) else ndjson.number(value)
    if not isinstance(number, int) or isinstance(number, bool):
        raise ValueError(f"event_time_ns must be a whole number, not {type(value).__name__}")
    return _in_range(number, value)


def _in_range(nanoseconds: int, value: object) -> int:
    if not FIRST_SECOND <= nanoseconds // 1_000_000_000 <= LAST_SECOND:
        raise ValueError(f"the time {_shown(value)} is outside of the years 0 to 9999")
    return nanoseconds


def _shown(value: object) -> str:
    try:
        return repr(value)[:40]
    except Exception:  # noqa: BLE001 - another library's object, or a number with too many digits
        return f"({type(value).__name__})"


def _of_datetime(value: datetime) -> int:
    """Return the nanoseconds of a datetime, or of an object of a subclass, which may know more digits (pandas)."""
    try:
        offset = value.utcoffset()
        if offset is None:
            offset = value.astimezone().utcoffset()
        days = value.toordinal() - 719163 - (offset.days if offset else 0)
        seconds = (
            days * 86400 + value.hour * 3600 + value.minute * 60 + value.second - (offset.seconds if offset else 0)
        )
        below = value.microsecond - (offset.microseconds if offset else 0)
        finer = getattr(value, "nanosecond", 0)
        return seconds * 1_000_000_000 + below * 1000 + (finer if isinstance(finer, int) else 0)
    except Exception:  # noqa: BLE001 - whatever a subclass raises, and datetime's own for a local time in the year 1
        raise ValueError(f"{_shown(value)} is not a time that can be told; give one with a time zone") from None


def _of_seconds(value: object, tell: Callable[[str], None] | None) -> int:
    from decimal import ROUND_DOWN, Context, Decimal

    number = value if isinstance(value, Decimal) else None if isinstance(value, bool) else ndjson.number(value)
    if number is None or isinstance(number, bool):
        raise ValueError(f"a time cannot be a {type(value).__name__}; {_FORMS}")
    if isinstance(number, int) and number >= _ONLY_NANOSECONDS:
        _in_range(number, value)
        _warn_of_nanoseconds(tell)
        return number
    # By its shortest form, not by its exact value: 1700000000.1 means what `--time @1700000000.1` means.
    exact = Decimal(float.__repr__(number)) if isinstance(number, float) else Decimal(number)
    if not exact.is_finite():
        raise ValueError(f"a time cannot be {_shown(value)}; {_FORMS}")
    if _NOT_SECONDS <= exact < _ONLY_NANOSECONDS:
        raise ValueError(f"the time {_shown(value)} looks like milliseconds or microseconds; {_FORMS}")
    if abs(exact) >= _NOT_SECONDS:
        raise ValueError(f"the time {_shown(value)} is outside of the years 0 to 9999; {_FORMS}")
    return int(Context(prec=60, rounding=ROUND_DOWN).multiply(exact, Decimal(1_000_000_000)))


def _warn_of_nanoseconds(tell: Callable[[str], None] | None) -> None:
    """Warn of an event_time in nanoseconds: where it was written, and once a process in the log."""
    import sys
    import warnings

    text = "event_time= in nanoseconds is deprecated, it takes seconds since 1970; write event_time_ns="
    level, frame = 1, sys._getframe()
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith("rillevents."):
        level, frame = level + 1, frame.f_back
    try:
        warnings.warn(text, DeprecationWarning, stacklevel=level)
    except DeprecationWarning:
        pass  # Warnings are errors here; the event is recorded all the same.
    if tell and not _warned:
        _warned.append(text)
        tell(text)


_warned: list[str] = []
