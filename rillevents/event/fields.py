"""Some fields of many events, decoded by msgspec in blocks: quick, and with the same values as Python's `json` gives."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import compress
from typing import Any, Final

import msgspec

from rillevents.event.query import decoded, same

MISSING: Final = msgspec.UNSET
_WHOLE_64: Final = 1 << 63
_ODD: Final = {'"', "\\", *map(chr, range(32))}


class Fields:
    """Decodes the fields with these keys; `name(key)` is a row's attribute for one, MISSING where an event lacks it."""

    def __init__(self, keys: Sequence[str]) -> None:
        self._names = {key: f"f{number}" for number, key in enumerate(dict.fromkeys(keys))}
        # msgspec takes no such key, in any form.
        self._is_odd = any(_ODD & {*key} or (not key.isascii() and not _is_text(key)) for key in self._names)
        self._form: Any = msgspec.defstruct(
            "Row",
            [(name, Any, MISSING) for name in self._names.values()],
            rename=None if self._is_odd else {name: key for key, name in self._names.items()},
            gc=False,
        )
        self._decoder = msgspec.json.Decoder(self._form)

    def name(self, key: str) -> str:
        """Return the attribute of a row that holds the field *key*."""
        return self._names[key]

    def rows(self, lines: Sequence[bytes]) -> list[Any]:
        """Return a row for each line without its newline; all fields of a line that is no JSON object are MISSING."""
        if self._is_odd:
            return [self._form(**self._slowly(line)) for line in lines]
        try:
            rows: list[Any] = self._decoder.decode_lines(b"\n".join(lines))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            rows = []
        return rows if len(rows) == len(lines) else [self._row(line) for line in lines]

    def _row(self, line: bytes) -> Any:
        try:
            return self._decoder.decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            # A number that is too large or too long for msgspec, or no event.
            return self._form(**self._slowly(line))

    def _slowly(self, line: bytes) -> dict[str, Any]:
        try:
            event = decoded(line)
            return {name: event[key] for key, name in self._names.items() if key in event}
        except (ValueError, RecursionError, TypeError):
            return {}


def _is_text(key: str) -> bool:
    """Return whether *key* has no half of a character, as JSON can write one."""
    try:
        key.encode()
    except UnicodeEncodeError:
        return False
    return True


def _needle(key: str, value: Any) -> bytes:
    """Return bytes that every line with this attribute has, unless it has a backslash."""
    text = json.dumps(value if type(value) is str else key, ensure_ascii=False)
    return text.encode("utf-8", "surrogatepass")


class Attributes:
    """Filters lines by the values of attributes."""

    def __init__(self, wanted: Sequence[tuple[str, Any]]) -> None:
        self._wanted = wanted
        self._fields = Fields([key for key, _ in wanted])
        self._needle = max((_needle(*each) for each in wanted), key=len)
        # msgspec reads larger numbers as floats.
        self._is_exact = all(type(value) is not int or abs(value) < _WHOLE_64 for _, value in wanted)

    def accepted(self, lines: Sequence[bytes]) -> list[bool]:
        """Return for each line whether it has these values."""
        if not self._is_exact:
            return [self._accepts(line) for line in lines]
        # A line without the text, and without any escape that could stand for it, need not be decoded.
        needle, block = self._needle, b"\n".join(lines)
        if needle not in block and b"\\" not in block:
            return [False] * len(lines)
        possible = [needle in line or b"\\" in line for line in lines]
        if not all(possible):
            some = iter(self._decoded([*compress(lines, possible)]))
            return [is_so and next(some) for is_so in possible]
        return self._decoded(lines)

    def _decoded(self, lines: Sequence[bytes]) -> list[bool]:
        rows = self._fields.rows(lines)
        found = [True] * len(rows)
        for key, value in self._wanted:
            name = self._fields.name(key)
            if type(value) is str:
                found = [is_so and getattr(row, name) == value for is_so, row in zip(found, rows, strict=True)]
            else:
                found = [is_so and same(getattr(row, name), value) for is_so, row in zip(found, rows, strict=True)]
        return found

    def _accepts(self, line: bytes) -> bool:
        try:
            event = decoded(line)
        except (ValueError, RecursionError):
            return False
        return all(key in event and same(event[key], value) for key, value in self._wanted)
