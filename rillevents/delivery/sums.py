"""What was delivered of a session or a CI job, in numbers: a flush adds what it acknowledges to a small file of each.

A file holds, for each type and name, how many events there were, how many told of a failure, and the seconds of its metrics.
It has at most 64 KiB: the names that do not fit are counted together. A kill between an acknowledgement and the file loses
counts, never events.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from rillevents.event.batch import DELIVERED, Batch, Doubtful, LineVerdict
from rillevents.local import Paths
from rillevents.local.ci import ci_attributes, is_ci
from rillevents.local.files import make_folder, read_file, replace_file
from rillevents.local.keyed_files import drop_old, hashed

MAX_BYTES = 64 << 10
OTHERS = ("", "")
_JOB = ("ci_provider", "ci_build_id", "ci_job", "ci_attempt")
_MARKS = (b'"session_id"', b'"ci_build_id"')


class Told(msgspec.Struct):
    """What is counted of an event; a field of another type than it should have is as good as none."""

    event_type: Any = ""
    event_name: Any = ""
    session_id: Any = None
    ci_provider: Any = None
    ci_build_id: Any = None
    ci_job: Any = None
    ci_attempt: Any = None
    value: Any = None
    unit: Any = None
    success: Any = None

    @property
    def key(self) -> str:
        """The session that the event belongs to, else its CI job; "" if neither."""
        if isinstance(self.session_id, str) and self.session_id:
            return session_key(self.session_id)
        return job_key({name: getattr(self, name) for name in _JOB})

    @property
    def failed(self) -> bool:
        """Whether the event tells of a failure: by its name, or by `success`."""
        return self.success is False or str(self.event_name).endswith("-failure")

    @property
    def seconds(self) -> float:
        """The value of a metric of seconds, else 0."""
        is_number = isinstance(self.value, int | float) and not isinstance(self.value, bool)
        return float(self.value) if self.unit == "s" and is_number else 0.0


_decode = msgspec.json.Decoder(Told).decode


def session_key(session_id: str) -> str:
    """Return the key of a session's sums."""
    return f"session {session_id}"


def job_key(attributes: Mapping[str, Any]) -> str:
    """Return the key of a CI job's sums, "" if it is not known which job it is."""
    texts = [str(attributes.get(name) or "") for name in _JOB]
    return "job " + "\t".join(texts) if texts[1] else ""


def current_key(paths: Paths) -> str:
    """Return the key of the session of this environment, else of its CI job; "" if it is in neither."""
    session_id = paths.variable("SESSION_ID")
    return session_key(session_id) if session_id else job_key(ci_attributes(paths.environ))


class Sums:
    """Counts, failures and seconds by the type and name of events."""

    def __init__(self) -> None:
        self.rows: dict[tuple[str, str], list[float]] = {}

    def add(self, told: Told) -> None:
        """Count one event."""
        self._add((str(told.event_type), str(told.event_name)), (1, int(told.failed), told.seconds))

    def merge(self, other: Sums) -> None:
        """Add all of another one."""
        for name, row in other.rows.items():
            self._add(name, row)

    def _add(self, name: tuple[str, str], row: Sequence[float]) -> None:
        found = self.rows.setdefault(name, [0, 0, 0.0])
        for column, number in enumerate(row):
            found[column] += number

    def as_json(self) -> bytes:
        """Return the content of a file, of at most 64 KiB: the largest counts by name, the others in one row."""
        kept, others, size = [], [0.0, 0.0, 0.0], 200
        for name, row in sorted(self.rows.items(), key=lambda item: (item[0] == OTHERS, -item[1][0])):
            entry = [*name, *row]
            size += len(json.dumps(entry)) + 2
            if size > MAX_BYTES or name == OTHERS:
                others = [one + two for one, two in zip(others, row, strict=True)]
            else:
                kept.append(entry)
        return json.dumps([*kept, *([[*OTHERS, *others]] if others[0] else [])]).encode()

    @classmethod
    def of_json(cls, content: bytes) -> Sums:
        """Return what a file holds; nothing if it is damaged."""
        found = cls()
        try:
            for kind, name, count, failed, seconds in json.loads(content or b"[]"):
                found._add((str(kind), str(name)), (int(count), int(failed), float(seconds)))
        except (ValueError, TypeError, RecursionError, OverflowError):
            return cls()
        return found


def sums_of_lines(lines: Iterable[bytes], key: str) -> Sums:
    """Return the sums of those events that belong to a session or job; of all if *key* is empty."""
    found = Sums()
    for line in lines:
        told = _decoded(line)
        if told and (not key or told.key == key):
            found.add(told)
    return found


def load(paths: Paths, key: str) -> Sums:
    """Return what was delivered of a session or job, as far as this home's flushes know."""
    try:
        return Sums.of_json(read_file(_file(paths, key), 2 * MAX_BYTES) or b"") if paths.sessions_dir else Sums()
    except OSError:
        return Sums()


class Tally:
    """Counts what a flush delivers; *everything* also counts events of no session and no job, in `total`."""

    def __init__(self, *, everything: bool = False) -> None:
        self.total = Sums()
        self._everything = everything
        self._by_key: dict[str, Sums] = {}

    @classmethod
    def wanted(cls, paths: Paths) -> Tally | None:
        """Return a tally where there may be a session or a CI job, else None: reading events costs a flush time."""
        inside = paths.variable("SESSION_ID") or is_ci(paths.environ)
        return cls() if inside or os.path.isdir(paths.sessions_dir or "\0") else None

    def add(self, batch: Batch, verdicts: Sequence[LineVerdict]) -> None:
        """Count the events of a batch that were delivered."""
        if not self._everything and not any(mark in piece for piece in batch.pieces for mark in _MARKS):
            return
        for line, verdict in zip(batch.lines, verdicts, strict=True):
            told = _decoded(line) if verdict is DELIVERED or isinstance(verdict, Doubtful) else None
            if told is None:
                continue
            if self._everything:
                self.total.add(told)
            if told.key:
                self._by_key.setdefault(told.key, Sums()).add(told)

    def save(self, paths: Paths) -> None:
        """Add the counts to the files of their sessions and jobs; what cannot be written is not counted."""
        if not self._by_key or not paths.sessions_dir:
            return
        try:
            make_folder(paths.sessions_dir)
            drop_old(paths.sessions_dir)
        except OSError:
            return
        for key, sums in self._by_key.items():
            known = load(paths, key)
            known.merge(sums)
            try:
                replace_file(_file(paths, key), known.as_json(), durable=False)
            except OSError:
                continue


def _decoded(line: bytes) -> Told | None:
    try:
        return _decode(line)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None


def _file(paths: Paths, key: str) -> str:
    return f"{paths.sessions_dir}/{hashed(key)}.sums"
