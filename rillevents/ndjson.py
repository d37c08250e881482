"""JSON values ⇄ text, as the lines of NDJSON files hold them.

On the hot path: the C accelerators of the standard library are used without the `json` package around them, which alone
costs as much as Python's own start (it imports `re`). Where they are missing or have changed, `json` itself does the work.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_INFINITIES = (float("inf"), float("-inf"))


def dumps(value: object) -> str:
    """Return *value* as compact JSON, Unicode kept as it is.

    datetime becomes RFC 3339; UUID, Path, Enum and Decimal become strings. Anything else that is no JSON raises
    TypeError; NaN and infinities raise ValueError; nesting without end raises RecursionError.
    """
    return _encode(value)


def loads(text: str) -> object:
    """Return the one JSON document in *text*.

    Stricter than `json`: NaN, infinities and numbers too large for a float raise ValueError, as malformed text does.
    """
    return _decode(text)


def plain(value: object) -> object:
    """Return what stands for *value* in JSON where it is no JSON type itself."""
    from datetime import UTC, date, datetime
    from decimal import Decimal
    from enum import Enum
    from pathlib import PurePath
    from uuid import UUID

    if isinstance(value, datetime):
        # A naive datetime means local time, not UTC: because that is what datetime's own methods take it for.
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, Enum):
        return str(value.value)
    if isinstance(value, (UUID, PurePath, Decimal)):
        return str(value)
    raise TypeError(f"{type(value).__name__} is no JSON value")


def _number(text: str) -> float:
    value = float(text)
    if value in _INFINITIES:
        raise ValueError(f"{text} is too large for a number")
    return value


def _constant(text: str) -> object:
    raise ValueError(f"{text} is no JSON")


class _Scanner:
    """The settings that the C scanner reads off its context, by attribute."""

    strict = True
    object_hook = None
    object_pairs_hook = None
    array_hook = None
    parse_float = staticmethod(_number)
    parse_int = staticmethod(int)
    parse_constant = staticmethod(_constant)


def _make_encode() -> Callable[[object], str]:
    try:
        from _json import encode_basestring, make_encoder

        encoder = make_encoder(None, plain, encode_basestring, None, ":", ",", False, False, False)
        encoder({"probe": [1]}, 0)
    except (ImportError, TypeError):
        import json

        return json.JSONEncoder(
            ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=plain, check_circular=False
        ).encode
    return lambda value: "".join(encoder(value, 0))


def _json_decode(text: str) -> object:
    import json

    return json.JSONDecoder(parse_float=_number, parse_constant=_constant).decode(text)


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
            # SystemError too: because the scanner finds its exception only where `json.decoder` was imported before.
            return _json_decode(text)
        return _json_decode(text) if text[end:].strip(" \t\n\r") else value

    return decode


_encode = _make_encode()
_decode = _make_decode()
