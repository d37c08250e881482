"""Many lines at once: NDJSON from a file or a pipe → the spool, each line checked, valid ones stored byte for byte."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

from rillevents.errors import InvalidEvent, SpoolError, UsageError
from rillevents.event import MAX_EVENT_BYTES
from rillevents.event.batch import lines_of
from rillevents.event.envelope import required_fields
from rillevents.event.validate import checked_line, count_events
from rillevents.event.validate import fill as fill_line
from rillevents.local import Paths, config, consent
from rillevents.local.files import BOM, ensure_home
from rillevents.recording.setup import start_delivery, watched_sink
from rillevents.recording.sinks.noop import NoopSink
from rillevents.recording.sinks.spool import SpoolSink

# Larger blocks make the allocator give memory back to the system and ask for it again, block by block.
_READ_BYTES = 256 << 10
# A line is cut here, so that a file without newlines does not fill the memory; such a line is invalid anyway.
_MOST_OF_A_LINE = 2 * MAX_EVENT_BYTES


@dataclass(slots=True)
class ImportResult:
    """The result: how many lines were read and stored, which were invalid and why, and what stopped the import."""

    lines: int = 0
    stored: int = 0
    duplicates: int = 0
    bad: list[dict[str, Any]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    problem: str = ""
    exit_code: int = 0


def record_lines(
    file: str,
    paths: Paths,
    *,
    fill: tuple[str, str] | None = None,
    on_progress: Callable[[int], None] | None = None,
    wanted: Callable[[bytes], bool] | None = None,
) -> ImportResult:
    """Store the lines of *file* (`-`: stdin) as raw events; invalid lines are reported, and stop nothing.

    *fill* (a type and a name) adds missing required fields. If opted out, the lines are checked and nothing is stored. Valid
    lines that are not *wanted* are skipped. Raises UsageError if the file cannot be read.
    """
    done = ImportResult()
    decision = consent.decide(paths)
    enabled = decision.enabled
    if not enabled:
        done.warnings.append(f"telemetry is off ({decision.decided_by}): nothing was stored")
    sink = spool_sink(paths) if enabled else NoopSink()
    auto, odd = config.auto_interval(paths, config.load_for_recording(paths)) if enabled else (0.0, [])
    done.warnings += odd
    try:
        for block in _read_lines(file):
            good, count = _check(block, done, fill, wanted)
            # Asked again for each block: a pipe may be open for days.
            if count and isinstance(sink, SpoolSink) and sink.enabled and not _store(sink, good, count, done):
                break
            if auto and file == "-" and isinstance(sink, SpoolSink) and sink.stored_in:
                # With each block: a pipe may be open for days.
                start_delivery(paths, sink.stored_in, auto, lasting=True)
            if on_progress:
                on_progress(done.stored)
    finally:
        sink.close()
    if auto and isinstance(sink, SpoolSink) and sink.stored_in:
        start_delivery(paths, sink.stored_in, auto)
    if done.bad and not done.exit_code:
        done.exit_code = 2
    return done


def spool_sink(paths: Paths) -> SpoolSink:
    """Return the sink that stores lines unchanged in this user's spool."""
    settings = config.load_for_recording(paths)
    ensure_home(paths.home)
    return watched_sink(paths)(paths.spool_dirs, max_bytes=settings.max_bytes, durable=settings.durable)


def _check(
    block: bytes, done: ImportResult, fill: tuple[str, str] | None, wanted: Callable[[bytes], bool] | None
) -> tuple[bytes, int]:
    """Return the valid, wanted lines of *block*, and their number; note the invalid ones."""
    count = 0 if fill else count_events(block)
    done.lines += count
    if count and not wanted:
        return block, count
    good = lines_of(block) if count else _check_each(block, done, fill)
    if wanted:
        good = [line for line in good if wanted(line)]
    return b"".join(good), len(good)


def _check_each(block: bytes, done: ImportResult, fill: tuple[str, str] | None) -> list[bytes]:
    good = []
    for line in block.removesuffix(b"\n").split(b"\n"):
        done.lines += 1
        if not line.strip():
            continue
        try:
            good.append(fill_line(line, *fill) if fill else checked_line(line))
        except InvalidEvent as error:
            done.bad.append({"line": done.lines, "reason": str(error)})
    return good


def _store(sink: SpoolSink, lines: bytes, count: int, done: ImportResult) -> bool:
    try:
        sink.append(lines)
    except SpoolError as error:
        if count > 1:
            # Then one by one: of many lines together, the first ones may still fit.
            return all(_store(sink, line, 1, done) for line in lines_of(lines))
        done.problem = f"stored {done.stored} lines, then no more: {error}"
        done.exit_code = error.exit_code
        return False
    done.stored += count
    return True


def _read_lines(file: str) -> Iterator[bytes]:
    """Yield the complete lines of each read; at the end also a last one without its newline."""
    rest = b""
    for block in _blocks(file):
        cut = block.rfind(b"\n") + 1
        if cut:
            yield b"".join((rest, memoryview(block)[:cut]))
            rest = block[cut:]
        else:
            rest += block
        if len(rest) > _MOST_OF_A_LINE:
            # Keep the beginning, so that the verdict can report that it is too large.
            rest = rest[:_MOST_OF_A_LINE]
    if rest:
        yield rest


def _blocks(file: str) -> Iterator[bytes]:
    try:
        if file == "-":
            if sys.stdin is None:
                return
            fd = sys.stdin.fileno()
        else:
            fd = os.open(file, os.O_RDONLY)
        if stat.S_ISDIR(os.fstat(fd).st_mode):
            raise UsageError(f"{file} is a folder", hint="give an NDJSON file")
        # read, not readline: it returns what a pipe holds now, so each line is stored as it arrives.
        block = os.read(fd, _READ_BYTES)
        yield block.removeprefix(BOM)
        while block := os.read(fd, _READ_BYTES):
            yield block
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise UsageError(f"{file} cannot be read: {reason}", hint="give an NDJSON file, or - for stdin") from None


def import_lines(
    file: str,
    paths: Paths,
    *,
    on_progress: Callable[[int], None] | None = None,
) -> ImportResult:
    """Store events from an export as `record_lines` does, except those whose ID the spool still holds.

    The IDs in the spool are kept in memory during the import, eight bytes each.
    """
    from rillevents.spool.view import pending

    held = {_fingerprint(line) for place in paths.spool_dirs for line in pending(place)}
    duplicates = 0

    def is_new(line: bytes) -> bool:
        nonlocal duplicates
        mark = _fingerprint(line)
        known = mark in held
        held.add(mark)
        duplicates += known
        return not known

    done = record_lines(file, paths, on_progress=on_progress, wanted=is_new)
    done.duplicates = duplicates
    return done


def _fingerprint(line: bytes) -> int:
    return int.from_bytes(blake2b(required_fields(line).event_id.encode(), digest_size=8).digest(), "big")
