"""JSON values ⇄ text, as in the lines of NDJSON files.

On the hot path: the C accelerators of the standard library are used without the `json` package, which alone costs as much as
starting Python (it imports `re`). If they are missing or have changed, `json` itself does the work.
"""

from __future__ import annotations

from rillevents.errors import InvalidEvent

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import SupportsIndex

# Less than jq's 256 and Python's thousand, and less than the current stack allows: a reader's stack may already be
# deeper.
MAX_DEPTH = 200
# Python's own limit, as a constant here: a program may raise Python's.
MAX_DIGITS = 4300

LARGEST = 1.7976931348623157e308  # the largest float

_INFINITIES = (float("inf"), float("-inf"))


def dumps(value: object) -> str:
    """Return *value* as compact JSON, Unicode kept as it is.

    datetime becomes RFC 3339; UUID, Path, Enum and Decimal become strings, other libraries' numbers numbers. Any other type that
    JSON lacks raises TypeError;
    NaN and infinities raise ValueError; circular nesting, or nesting beyond MAX_DEPTH, raises RecursionError.
    """
    text = "".join(_encode(value, 0))
    if len(text) > 2 * MAX_DEPTH and is_too_deep(text):
        raise RecursionError(f"nested more than {MAX_DEPTH} deep")
    return text


def loads(text: str) -> object:
    """Return the one JSON document in *text*.

    Stricter than `json`: NaN, infinities and numbers too large for a float raise ValueError, as malformed text does.
    """
    return _decode(text)


def is_too_deep(text: str | bytes) -> bool:
    """Return whether the JSON document in *text* is nested more than MAX_DEPTH deep."""
    if len(text) <= 2 * MAX_DEPTH:
        return False
    data = text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass")
    return data.count(b"[") + data.count(b"{") > MAX_DEPTH and _depth(data) > MAX_DEPTH


def _depth(data: bytes) -> int:
    import re

    deepest = depth = 0
    for bracket in re.findall(rb"[\[{}\]]", re.sub(rb'"(?:[^"\\]|\\.)*"', b"", data)):
        depth += 1 if bracket in b"[{" else -1
        deepest = max(deepest, depth)
    return deepest


def plain(value: object) -> object:
    """Return the JSON form of a *value* that is not a JSON type; raises TypeError, and nothing else, if it has none."""
    try:
        return _plain(value)
    except Exception:  # noqa: BLE001 - whatever another library's object raises, and datetime's own OverflowError
        raise TypeError(f"{type(value).__name__} is not a JSON value") from None


def _plain(value: object) -> object:
    from datetime import UTC, date, datetime
    from decimal import Decimal
    from enum import Enum
    from pathlib import PurePath
    from uuid import UUID

    if isinstance(value, datetime):
        # A naive datetime means local time, not UTC: datetime's own methods treat it so.
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, Enum):
        return str(value.value)
    if isinstance(value, (UUID, PurePath, Decimal)):
        return str(value)
    found = number(value)
    if found is None:
        raise TypeError
    return found


def check_number(value: object) -> int | float:
    """Return *value* as a finite number that a double can hold; raises InvalidEvent otherwise (a bool is not a number)."""
    found = value if type(value) in (int, float) else to_number(value)
    if not isinstance(found, (int, float)):
        raise InvalidEvent(f"a metric's value must be a number, not {type(value).__name__}")
    if not -LARGEST <= found <= LARGEST:
        raise InvalidEvent("a metric's value must be a finite number")
    return found


def number(value: object) -> int | float | None:
    """Return any library's number, or bool, as Python's own, by `__index__` or else `__float__`; None if it is none."""
    if isinstance(value, (int, float)):
        return value
    kind = type(value)
    if kind.__name__ in ("bool", "bool_"):
        return bool(value)
    for method, convert in (("__index__", _index), ("__float__", float)):
        if hasattr(kind, method):
            try:
                return convert(value)  # type: ignore[arg-type]
            except Exception:  # noqa: BLE001, S112 - an array of three numbers has both methods, and is no number
                continue
    return None


def to_number(value: object) -> int | float | None:
    """Return the number that an object of any class is, a Decimal too; None for a bool, an Enum of no number, and all others."""
    from decimal import Decimal
    from enum import Enum

    found = None if isinstance(value, Enum) and not isinstance(value, (int, float)) else number(value)
    if isinstance(value, Decimal) and found and -LARGEST <= found <= LARGEST and value.as_tuple().exponent == 0:
        return int(value)
    return None if isinstance(found, bool) else found


def _index(value: SupportsIndex) -> int:
    from operator import index

    return index(value)


def to_float(text: str) -> float:
    """Return the number that *text* represents; raises ValueError if no float can hold it."""
    value = float(text)
    if value in _INFINITIES:
        raise ValueError(f"{text[:40]} is too large for a number")
    return value


def to_int(text: str) -> int:
    """Return the integer that *text* represents; raises ValueError if it has more than MAX_DIGITS digits."""
    if len(text) > MAX_DIGITS:
        raise ValueError(f"a number of {len(text)} digits is too long")
    return int(text)


def no_constant(text: str) -> object:
    """Raise ValueError: NaN and the infinities are not valid JSON."""
    raise ValueError(f"{text} is not valid JSON")


class _Scanner:
    """The settings that the C scanner reads from its context as attributes."""

    strict = True
    object_hook = None
    object_pairs_hook = None
    array_hook = None
    parse_float = staticmethod(to_float)
    parse_int = staticmethod(to_int)
    parse_constant = staticmethod(no_constant)


def _make_encode() -> Callable[[object, int], Iterable[str]]:
    try:
        from _json import encode_basestring, make_encoder

        encoder = make_encoder(None, plain, encode_basestring, None, ":", ",", False, False, False)
        encoder({"probe": [1]}, 0)
    except (ImportError, TypeError):
        import json

        slow = json.JSONEncoder(
            ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=plain, check_circular=False
        )
        return lambda value, _: slow.iterencode(value)
    return encoder


def _json_decode(text: str) -> object:
    import json

    return json.JSONDecoder(parse_float=to_float, parse_int=to_int, parse_constant=no_constant).decode(text)


def _make_decode() -> Callable[[str], object]:
    try:
        from _json import make_scanner

        scan = make_scanner(_Scanner)  # type: ignore[arg-type]
        scan("[1]", 0)
    except (ImportError, AttributeError, TypeError):
        return _json_decode

    def decode(text: str) -> object:
        try:
            value, end = scan(text, len(text) - len(text.lstrip(" \t\n\r")))
        except (StopIteration, SystemError):
            # SystemError, too: the scanner finds its exception class only if `json.decoder` was imported before.
            return _json_decode(text)
        return _json_decode(text) if text[end:].strip(" \t\n\r") else value

    return decode


def _make_quoted() -> Callable[[str], str]:
    try:
        from _json import encode_basestring
    except ImportError:
        return dumps
    return encode_basestring


_encode = _make_encode()
quoted = _make_quoted()
_decode = _make_decode()


def finite(value: float) -> float:
    """Return a number as the nearest finite float."""
    try:
        return min(max(float(value), -LARGEST), LARGEST)
    except OverflowError:
        return LARGEST if value > 0 else -LARGEST
