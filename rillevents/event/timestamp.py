"""Times as people and programs write them → nanoseconds since 1970; pure, and exact to the nanosecond.

datetime is not used: it stops at microseconds, and importing it costs a fifth of Python's start.
"""

from __future__ import annotations

LAST_SECOND = 253402300799  # of the year 9999, the last that RFC 3339 can write
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


def parse_duration(text: str) -> int:
    """Return the seconds of a duration such as `90m` or `7d`; raises ValueError for anything else."""
    number, unit = text[:-1], text[-1:]
    if unit not in _UNITS or not (number.isascii() and number.isdigit()):
        raise ValueError(text)
    return int(number) * _UNITS[unit]


_seconds: dict[str, int] = {}
_MOST_SECONDS = 4096


def microseconds(text: str) -> int:
    """Return the whole microseconds since 1970 of a strict RFC 3339 time; raises ValueError for anything else.

    UTC seconds are cached: many events share one, and parsing a time costs more than storing it.
    """
    second, rest = text[:19], text[19:-1]
    if text[-1:] != "Z" or (rest and not (rest[0] == "." and rest[1:].isascii() and rest[1:].isdigit())):
        return parse_time(text, strict=True) // 1000
    whole = _seconds.get(second)
    if whole is None:
        if len(_seconds) >= _MOST_SECONDS:
            _seconds.clear()
        whole = _seconds[second] = parse_time(second + "Z", strict=True) // 1000
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
