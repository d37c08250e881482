"""Events as the rows of a table with a column for each attribute, exact: numbers keep their digits, objects are JSON."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

import msgspec

REQUIRED: Final = ("event_id", "event_time", "event_type", "event_name")
_decoder = msgspec.json.Decoder(dict[str, msgspec.Raw])
_MEMORY = 8 << 20


def rows(lines: Iterable[bytes]) -> Iterator[list[Any]]:
    """Yield the headings, and then a row for each line: texts, JSON as bytes for any other value, None where there is none.

    The headings are known after all lines have been read, so a large number of them waits in a temporary file.
    """
    with tempfile.SpooledTemporaryFile(_MEMORY) as held:
        keys: dict[str, None] = dict.fromkeys(REQUIRED)
        for line in lines:
            held.write(line)
            keys.update(dict.fromkeys(_fields(line)))
        yield [*keys]
        held.seek(0)
        for line in held:
            fields = _fields(line)
            yield [_cell(fields[key]) if key in fields else None for key in keys]


def _fields(line: bytes) -> Mapping[str, msgspec.Raw]:
    return _decoder.decode(line)


def _cell(raw: msgspec.Raw) -> str | bytes:
    data = bytes(raw)
    return msgspec.json.decode(data, type=str) if data[:1] == b'"' else data
