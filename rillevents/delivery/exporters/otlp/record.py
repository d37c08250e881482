"""Lines of the spool → log records, in whatever form they are written.

Theory of operation. An event at a time would take several times as long. So lines with the same keys are written together, key by
key: all values of a key in one go, and then the pieces of each record joined. Most keys have few values, so the piece of a
value is kept and copied; keys whose values hardly repeat, such as IDs, are noticed and written without looking.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from operator import itemgetter
from typing import Any, NamedTuple

import msgspec

from rillevents.delivery.exporters.otlp.form import INT64, Form, Resource
from rillevents.event import LOG, SERVICE_NAME, SERVICE_VERSION, ndjson
from rillevents.event.timestamp import parse_time

# So many bytes at a time.
_PIECE = 64 << 10
_FEW = 8
_MOST_VALUES, _MOST_KEYS = 1024, 1024
# After so many values that were not known, a key's values are taken to be all different.
_MOST_MISSES = 4 * _MOST_VALUES


class _Column(NamedTuple):
    """What the values of one key become: fields and attributes of their records (b"" for none), or names of their resources."""

    fields: list[bytes]
    attributes: list[bytes]
    names: list[str]


class LogRecords:
    """Writes requests in one form; for one thread at a time."""

    def __init__(self, form: Form) -> None:
        self._form = form
        self._known: dict[str, _Known] = {}
        self._objects: dict[tuple[str, tuple[tuple[str, str], ...]], bytes] = {}
        self._fields = {
            "event_name": _Known(form.name),
            "trace_id": _Known(lambda value: form.trace_id(value) if _TRACE_ID.fullmatch(value) else b""),
            "span_id": _Known(lambda value: form.span_id(value) if _SPAN_ID.fullmatch(value) else b""),
        }
        self._fields_of_log = {**self._fields, "message": _Known(form.body), "level": _Known(form.severity)}

    def __call__(self, block: bytes, now: int) -> bytes:
        """Return the body of a request with the events in a block of lines, observed *now*, in nanoseconds since 1970.

        Nothing of an event is left out.
        """
        groups: dict[Resource, list[bytes]] = {}
        for lines in _pieces(block):
            # Another thread has its turn: the one that sends would wait 5 ms for each piece of the batch before.
            time.sleep(0)
            resources, records = self._written(lines, now)
            if len(set(resources)) == 1:
                groups.setdefault(resources[0], []).append(self._form.joined(records))
            else:
                for resource, record in zip(resources, records, strict=True):
                    groups.setdefault(resource, []).append(record)
        return self._form.request(groups)

    def _written(self, lines: Sequence[bytes], now: int) -> tuple[Sequence[Resource], Sequence[bytes]]:
        """Return the resource of each line, and its record."""
        events = _decoded(lines)
        kinds = list(zip(map(_IS_LOG, map(_TYPE, events)), map(tuple, events), strict=True))
        if len(set(kinds)) == 1:
            return self._alike(*kinds[0], events, now)
        places: dict[tuple[bool, tuple[str, ...]], list[int]] = {}
        for at, kind in enumerate(kinds):
            places.setdefault(kind, []).append(at)
        # Few of a kind are not worth columns of their own.
        few: dict[bool, list[int]] = {}
        for kind in [kind for kind, found in places.items() if len(found) < _FEW]:
            few.setdefault(kind[0], []).extend(places.pop(kind))
        resources, records = [("", "")] * len(lines), [b""] * len(lines)
        parts = [(found, self._alike(*kind, [events[at] for at in found], now)) for kind, found in places.items()]
        parts += [(found, self._mixed(is_log, [events[at] for at in found], now)) for is_log, found in few.items()]
        for found, part in parts:
            for at, resource, record in zip(found, *part, strict=True):
                resources[at], records[at] = resource, record
        return resources, records

    def _alike(
        self, is_log: bool, keys: Sequence[str], events: Sequence[Mapping[str, Any]], now: int
    ) -> tuple[Sequence[Resource], Sequence[bytes]]:
        """Return the resources and records of events that have the same keys."""
        fields: list[list[bytes]] = []
        attributes: list[list[bytes]] = []
        named = {SERVICE_NAME: [""] * len(events), SERVICE_VERSION: [""] * len(events)}
        for key in keys:
            column = self._column(key, [event[key] for event in events], is_log=is_log)
            fields += [column.fields] if column.fields else []
            attributes += [column.attributes] if column.attributes else []
            named |= {key: column.names} if column.names else {}
        return list(zip(*named.values(), strict=True)), self._form.records(fields, attributes, now)

    def _mixed(
        self, is_log: bool, events: Sequence[Mapping[str, Any]], now: int
    ) -> tuple[Sequence[Resource], Sequence[bytes]]:
        """Return the resources and records of events with any keys."""
        places: dict[str, list[int]] = {}
        for at, event in enumerate(events):
            for key in event:
                places.setdefault(key, []).append(at)
        fields: list[list[bytes]] = [[] for _ in events]
        attributes: list[list[bytes]] = [[] for _ in events]
        named = {SERVICE_NAME: [""] * len(events), SERVICE_VERSION: [""] * len(events)}
        for key, found in places.items():
            column = self._column(key, [events[at][key] for at in found], is_log=is_log)
            for pieces, into in ((column.fields, fields), (column.attributes, attributes)):
                for at, piece in zip(found, pieces, strict=False):
                    into[at].append(piece)
            for at, name in zip(found, column.names, strict=False):
                named[key][at] = name
        records = [self._form.record(*pieces, now) for pieces in zip(fields, attributes, strict=True)]
        return list(zip(*named.values(), strict=True)), records

    def _column(self, key: str, values: Sequence[Any], *, is_log: bool) -> _Column:
        """Return what the values of one key become."""
        known = (self._fields_of_log if is_log else self._fields).get(key)
        fields: list[bytes] = []
        names: list[str] = []
        if key in (SERVICE_NAME, SERVICE_VERSION):
            names = [value if isinstance(value, str) else "" for value in values]
        elif key == "event_time":
            fields = list(map(self._form.time, _nanoseconds(values)))
        elif known is not None:
            fields = known.pieces(values) if _are_texts(values) else list(map(known.piece, values))
        else:
            return _Column([], self._attributes(key, values), [])
        taken = names or fields
        if all(taken):
            return _Column(fields, [], names)
        # What is no field stays the attribute that it is.
        pairs = zip(taken, values, strict=True)
        return _Column(fields, [b"" if found else self._form.attribute(key, value) for found, value in pairs], names)

    def _attributes(self, key: str, values: Sequence[Any]) -> list[bytes]:
        kinds = set(map(type, values))
        if kinds == {str}:
            known = self._known.get(key)
            if known is None:
                if len(self._known) >= _MOST_KEYS:
                    self._known.clear()
                form = self._form
                known = self._known[key] = _Known(partial(form.attribute, key), partial(form.texts, key))
            return known.pieces(values)
        if kinds == {float}:
            return self._form.floats(key, values)
        if kinds == {dict}:
            return [self._object(key, value) for value in values]
        return [self._form.attribute(key, value) for value in values]

    def _object(self, key: str, value: dict[str, Any]) -> bytes:
        # Of texts alone: 1, 1.0 and true are one key of a dict.
        if not _are_texts(value.values()):
            return self._form.attribute(key, value)
        kind = (key, tuple(value.items()))
        written = self._objects.get(kind)
        if written is None:
            if len(self._objects) >= _MOST_VALUES:
                self._objects.clear()
            written = self._objects[kind] = self._form.attribute(key, value)
        return written


class _Known(dict[str, bytes]):
    """The pieces of the texts of one key; *many* writes a list of them, once they turn out to be all different."""

    def __init__(
        self, write: Callable[[str], bytes], many: Callable[[Sequence[str]], list[bytes]] | None = None
    ) -> None:
        self._write = write
        self._many = many or (lambda values: list(map(write, values)))
        self._misses = 0

    def pieces(self, values: Sequence[str]) -> list[bytes]:
        """Return the piece of each text."""
        return list(map(self.__getitem__, values)) if self._misses < _MOST_MISSES else self._many(values)

    def piece(self, value: Any) -> bytes:
        """Return the piece of any value; b"" if it is no text."""
        return self[value] if isinstance(value, str) else b""

    def __missing__(self, value: str) -> bytes:
        written = self._write(value)
        self._misses += 1
        if len(self) >= _MOST_VALUES or self._misses >= _MOST_MISSES:
            self.clear()
        self[value] = written
        return written


def _pieces(block: bytes) -> Iterator[list[bytes]]:
    """Yield the lines of a block, some at a time: the allocator would give the memory of all of them back, block by block."""
    start = 0
    while start < len(block):
        end = block.rfind(b"\n", start, start + _PIECE) + 1 or block.index(b"\n", start) + 1
        yield block[start : end - 1].split(b"\n")
        start = end


_decode: Callable[[bytes], dict[str, Any]] = msgspec.json.Decoder().decode
_TYPE, _IS_LOG = itemgetter("event_type"), LOG.__eq__
_TRACE_ID = re.compile(r"(?!0+$)[0-9a-f]{32}")
_SPAN_ID = re.compile(r"(?!0+$)[0-9a-f]{16}")


def _are_texts(values: Iterable[Any]) -> bool:
    return set(map(type, values)) <= {str}


def _decoded(lines: Sequence[bytes]) -> list[dict[str, Any]]:
    try:
        return list(map(_decode, lines))
    except (msgspec.MsgspecError, RecursionError):
        return list(map(_decoded_slowly, lines))


def _decoded_slowly(line: bytes) -> dict[str, Any]:
    """Return what another program wrote: a number beyond a double, or too long, becomes text; half a character U+FFFD."""
    text = line.decode("utf-8", "replace")
    found: dict[str, Any] = json.loads(text, parse_float=_float_or_text, parse_int=_int_or_text)
    return found


def _int_or_text(text: str) -> int | str:
    return int(text) if len(text) <= ndjson.MAX_DIGITS else text


def _float_or_text(text: str) -> float | str:
    number = float(text)
    return text if number in (float("inf"), float("-inf")) else number


_seconds: dict[str, int] = {}
_MOST_SECONDS = 4096


def _nanoseconds(times: Sequence[str]) -> list[int]:
    """Return the nanoseconds since 1970 of each time; 0 where a log record cannot hold them.

    UTC seconds are cached: many events share one.
    """
    fractions = [time[20:29] for time in times]
    count, together = len(times), "".join(times)
    are_ours = (
        len(together) == 30 * count
        and together[19::30] == "." * count
        and together[29::30] == "Z" * count
        and all(map(str.isdigit, fractions))
    )
    try:
        if are_ours and together.isascii():
            return [_seconds[time[:19]] + int(digits) for time, digits in zip(times, fractions, strict=True)]
    except KeyError:
        pass
    return list(map(_parsed, times))


def _parsed(text: str) -> int:
    try:
        nanoseconds = parse_time(text, strict=True)
    except ValueError:
        return 0
    if not 0 < nanoseconds < INT64:
        return 0
    # Not the last second: a part of it is too late.
    if text.endswith("Z") and nanoseconds + 1_000_000_000 < INT64:
        if len(_seconds) >= _MOST_SECONDS:
            _seconds.clear()
        _seconds[text[:19]] = nanoseconds - nanoseconds % 1_000_000_000
    return nanoseconds
