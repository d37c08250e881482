"""Mutated input for the three parsers of what others wrote: a spool file, a raw event, an intake's answer.

    python tests/faults/fuzz.py [SECONDS] [SEED] [TARGET]... [--keep]

Each target compares the parser with one of the standard library, or with its own words, and returns the behaviour that it saw.
Input that shows a new behaviour is mutated further; `--keep` stores it in the corpus. The first input that a target does not
hold against is printed, and the exit code is 1.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import re
import shutil
import sys
import tempfile
import time
import traceback
import unicodedata
from collections.abc import Callable, Iterator
from datetime import datetime
from itertools import chain, groupby
from pathlib import Path
from typing import Any

from rillevents.delivery.exporters.intake_responses import RETRY_AFTER_MAX, classify
from rillevents.delivery.outcome import REASON_MAX, Kind
from rillevents.errors import InvalidEvent
from rillevents.event import ENVELOPE, MAX_EVENT_BYTES, Event, ndjson
from rillevents.event.batch import DELIVERED
from rillevents.event.envelope import is_event
from rillevents.event.validate import checked_line, count_events, decode_line, fill, parse_raw, without_halves
from rillevents.spool import create
from rillevents.spool.drain import Drain
from rillevents.spool.state import load

CORPUS = Path(__file__).parent / "corpus"
MOST_BYTES = 3 * MAX_EVENT_BYTES
# Of the processor's time, not of the day's: the machine may be busy with others.
MOST_SECONDS = 2.0
VERDICT_MAX = 300
# Not the disk where it can be helped: each damaged piece is synced to it.
IN_MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
NOW = 1_795_428_000.0
EVENT = b'{"event_id":"i","event_time":"2026-11-23T10:00:00Z","event_type":"t","event_name":"n"}'
# fmt: off
TOKENS = [
    EVENT, EVENT[:-1] + b",", b'"event_id":', b'"event_time":', b'"event_type":"t"', b'"event_name":"n"', b"{}", b"[]", b'""',
    b"\n", b"\r", b"\r\n", b"\0", b"\0" * 64, b"\t", b" ", b"\x1b[2J", b"\x7f", b"\xef\xbb\xbf", "\u2028\u202e".encode(),
    b"\xff", b"\xc0\xaf", b"\xed\xa0\x80", b"\xf0\x9f\x98\x80", b"\\ud800", b"\\ud83d\\ude00", b"\\u0000", b'\\"', b"\\",
    b"null", b"true", b"NaN", b"-Infinity", b"1e999", b"-0", b"1e-9999", b"0.", b"01", b"9" * 400, b"9" * 5000,
    b"[" * 300, b"]" * 300, b'{"a":' * 300, b"}" * 300, b'"a":1,' * 500, b"x" * 40_000,
    b"2016-12-31T23:59:60Z", b"+24:00", b"-00:00", b"+05:30", b".123456789123Z", "\u0663Z".encode(), b"0000-02-30", b"@1",
    b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 503 x\r\n", b"Retry-After: ", b"Location: ", b"Content-Type: text/html\r\n", b"\r\n\r\n",
    b"Content-Length: ", b"Transfer-Encoding: chunked\r\n", b"9999999999", b"Fri, 31 Dec 9999 23:59:59 GMT", b"http://u:p@[::1",
    b'{"rejected":[{"line":1,"reason":"r"}]}', b'"line":2', b'"reason":', b"<html>", b"<!DOCTYPE html",
]
# fmt: on


def seeds(target: str) -> dict[str, bytes]:
    """Return the corpus of a target by file name."""
    return {path.name: path.read_bytes() for path in sorted((CORPUS / target).iterdir())}


# A raw event


def raw(data: bytes) -> str:
    """`record raw`: accepted is what the standard library reads as an event, byte for byte; and the spool takes that back."""
    line = data.rstrip(b"\r\n")
    verdict = refusal(checked_line, data)
    good = is_understood(line)
    assert good is (not verdict), f"json says {good}, we say: {verdict or 'accepted'}"
    if good:
        assert line + b"\n" == checked_line(data)
        assert is_event(line)
    for block in (data, line + b"\n", EVENT + b"\n" + line + b"\n"):
        check_block(block)
    whole = b"\n" not in line
    assert (good and whole) is not refusal(lambda text: check_event(parse_raw(text), line), data)
    told = [verdict, refusal(decode_line, line), refusal(lambda text: check_filled(text, good), data)]
    if not told[1]:
        told.append(refusal(lambda text: check_recorded(decode_line(text)), line))
    return " | ".join(kind_of(text) for text in told)


def refusal(parse: Callable[[bytes], object], data: bytes) -> str:
    """Return why *parse* refuses the data, in words that fit a line of a terminal; "" where it does not."""
    try:
        parse(data)
    except InvalidEvent as error:
        text = str(error)
        assert 0 < len(text) <= VERDICT_MAX, f"a verdict of {len(text)} characters"
        assert text.isprintable(), text
        return text
    return ""


def check_block(block: bytes) -> None:
    """What is taken at one glance, each line of it would have been taken alone."""
    count = count_events(block)
    if count:
        *lines, rest = block.split(b"\n")
        assert (count, rest) == (len(lines), b"")
        assert block == b"".join(map(checked_line, lines))


def check_event(event: Event, line: bytes) -> None:
    assert line + b"\n" == event.line


def check_filled(data: bytes, complete: bool) -> None:
    """What --fill makes of an object is an event, keeps what was there, and is left alone by another --fill."""
    filled = fill(data, "filled", "filled")
    assert is_understood(filled[:-1])
    assert filled == fill(filled, "x", "x")
    # A lone surrogate is replaced, and nothing else is.
    before, after = json.loads(without_halves(data)), json.loads(filled)
    assert all(after[key] == value or (key in ENVELOPE and not value) for key, value in before.items())
    if complete:
        assert checked_line(data) == filled


def check_recorded(fields: dict[str, Any]) -> None:
    """The same fields as attributes of an event of ours: what is recorded is what the spool takes for an event."""
    line = Event("t", "n", fields).line
    assert is_event(line)
    assert len(line) <= MAX_EVENT_BYTES + 1


def is_understood(line: bytes) -> bool:
    """Return whether a line is an event to the standard library, and to readers of other kinds: the oracle."""
    if len(line) > MAX_EVENT_BYTES:
        return False
    try:
        fields = json.loads(line.decode(), object_pairs_hook=_pairs, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return False
    if not isinstance(fields, dict) or _depth(line.decode()) > ndjson.MAX_DEPTH:
        return False
    return all(isinstance(fields.get(field), str) and fields[field] for field in ENVELOPE) and is_time(
        fields["event_time"]
    )


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Every value counts, one that another with the same name takes the place of, too: some readers see that one."""
    if not all(_is_unicode(item) for pair in pairs for item in pair):
        raise ValueError("no Unicode")
    if any(name in ENVELOPE and not isinstance(value, str) for name, value in pairs):
        return dict(pairs) | {"event_id": ""}
    return dict(pairs)


def _refuse(name: str) -> object:
    raise ValueError(name)


def _is_unicode(value: object) -> bool:
    if isinstance(value, list):
        return all(map(_is_unicode, value))
    return not isinstance(value, str) or not re.search("[\ud800-\udfff]", value)


def _depth(text: str) -> int:
    depth = most = 0
    quoted = escaped = False
    for character in text:
        if quoted:
            quoted, escaped = escaped or character != '"', not escaped and character == "\\"
        else:
            quoted = character == '"'
            depth += (character in "[{") - (character in "]}")
            most = max(most, depth)
    return most


def is_time(text: str) -> bool:
    """Return whether RFC 3339 knows this time, as the standard library sees it."""
    found = re.fullmatch(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(\.\d+)?(Z|[+-]([01]\d|2[0-3]):[0-5]\d)", text, re.ASCII)
    try:
        # Year 0 is one to RFC 3339 and none to datetime; 2000 has the same days.
        # Nor is 24:00 one, which datetime takes from Python 3.14 on.
        return bool(found and found[1][11:13] != "24" and datetime.fromisoformat(re.sub("^0000", "2000", found[1])))
    except ValueError:
        return False


# A spool file


def line(data: bytes) -> str:
    """A file in the spool: what is an event is delivered, in order, and every other byte but zeros is put aside and counted."""
    *texts, tail = data.split(b"\n")
    pieces = [[piece for piece in text.split(b"\0") if piece] for text in texts]
    for piece in chain(*pieces):
        assert is_event(piece) or not is_understood(piece), "an event would not be delivered"
    events = [piece + b"\n" for piece in chain(*pieces) if is_event(piece)]
    # What stands between two events is one damaged piece.
    bad = [list(run) for good, run in groupby(chain(*pieces), is_event) if not good]
    place = tempfile.mkdtemp(prefix="fuzz-", dir=IN_MEMORY)
    try:
        folder = create(f"{place}/spool")
        Path(folder, "slot-0.ndjson").write_bytes(data)
        assert events == drain(folder)
        assert [] == drain(folder)
        damaged = len(bad) + bool(tail.strip(b"\0"))
        counts = load(folder).counts
        assert (len(events), damaged) == (counts["delivered"], counts["corrupt"])
        aside = b"".join(path.read_bytes() for path in sorted(Path(folder).glob("corrupt/*"), key=_offset))
        assert b"".join([*chain(*bad), tail]).replace(b"\0", b"") == re.sub(rb"[\0\n]", b"", aside)
        assert not any(path.stat().st_size for path in Path(folder).glob("*.ndjson"))
    finally:
        shutil.rmtree(place)
    why = {kind_of(refusal(checked_line, run[0])) for run in bad[:3]}
    return f"{min(len(events), 2)} events, {min(len(bad), 2)} bad, tail {bool(tail)}: {sorted(why)}"


def drain(folder: str) -> list[bytes]:
    """Deliver everything, and return it."""
    delivered: list[bytes] = []
    with Drain(folder, batch_events=2) as drain:
        for batch in drain.batches():
            delivered += batch.batch.lines
            drain.commit(batch, [DELIVERED] * len(batch.batch))
    return delivered


def _offset(path: Path) -> int:
    return int(path.name.rpartition("-")[2])


# An intake's answer


def answer(data: bytes) -> str:
    """An answer has one meaning, told in a short clean line; it acknowledges or rejects nothing that it does not name."""
    head, _, body = data.partition(b"\r\n\r\n")
    first, *fields = head.decode("latin-1").split("\r\n")
    headers = {name: value.strip() for name, found, value in (text.partition(":") for text in fields) if found}
    found = re.match(r"HTTP/1\.[01] (\d{3})", first)
    outcome = classify(int(found[1]) if found else 0, headers, body, lines=3, now=NOW)
    accepted = bool(found and found[1][0] == "2")
    assert accepted or outcome.kind is not Kind.ACCEPTED
    check_reason(outcome.reason)
    wait = outcome.retry_after
    assert wait is None or (0 <= wait <= RETRY_AFTER_MAX and outcome.kind in (Kind.TEMPORARY, Kind.SERVER_ERROR))
    assert {*outcome.acknowledged} <= {0, 1, 2}
    assert not outcome.acknowledged or not outcome.rejected
    places = [place for place, _ in outcome.rejected]
    assert set(places) <= _named(body), "rejected without being named"
    assert places == sorted(set(places))
    for _, reason in outcome.rejected:
        check_reason(reason)
        assert reason
    times = "no wait" if wait is None else f"wait {min(wait, 1):g}"
    return f"{outcome.kind.value}: {kind_of(outcome.reason.partition(':')[0])}, {times}, {len(places)} rejected"


def check_reason(text: str) -> None:
    """Hold a reason to what a terminal and a log can take: one short line."""
    assert len(text) <= REASON_MAX
    assert not [character for character in text if unicodedata.category(character)[0] == "C"]
    assert text == " ".join(text.split())


def _named(body: bytes) -> set[int]:
    try:
        told = json.loads(body.decode("utf-8-sig", "replace"))
        entries = told.get("rejected")
        if not isinstance(entries, list):
            return {at for at, item in enumerate(told["items"]) if "error" in json.dumps(item)}
        lines = [entry.get("line") for entry in entries if isinstance(entry, dict)]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return set()
    return {line - 1 for line in lines if type(line) is int and 1 <= line <= 3}


def kind_of(text: str) -> str:
    """Return the class that a message belongs to: its words, without what it quotes and counts."""
    return re.sub(r"'.*'|\".*\"|\d+", "_", text)[:80]


# The fuzzer

TARGETS: dict[str, Callable[[bytes], str]] = {"line": line, "raw": raw, "answer": answer}


def check(target: str, data: bytes) -> str:
    """Run one input, in bounded time; raises AssertionError with the input in it."""
    started = time.process_time()
    try:
        behaviour = TARGETS[target](data)
        assert time.process_time() - started < MOST_SECONDS, "too slow"
    except Exception as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        told = f"{target}: {type(error).__name__}: {error} ({where.name}: {where.line})"
        raise AssertionError(f"{told}\n{len(data)} bytes: {shortened(data)}") from error
    return behaviour


def shortened(data: bytes) -> str:
    """Return the data for a person to read: what is said many times is said once, with a number."""
    shown = re.sub(rb"(?s)(.{1,8}?)\1{15,}", lambda found: b"%b*%d" % (found[1], len(found[0]) // len(found[1])), data)
    return repr(shown if len(shown) < 2000 else shown[:1000] + b"..." + shown[-1000:])


def mutations(rng: random.Random, corpus: list[bytes]) -> Iterator[bytes]:
    """Yield inputs without end; what is added to the corpus under way is mutated, too."""
    while True:
        data = rng.choice(corpus)
        for _ in range(rng.choice([1, 1, 1, 2, 3, 6])):
            data = mutate(rng, data, rng.choice(corpus))[:MOST_BYTES]
        yield data


def mutate(rng: random.Random, data: bytes, other: bytes) -> bytes:
    """Return *data* with one change."""
    start, end = sorted((rng.randint(0, len(data)), rng.randint(0, len(data))))
    if rng.random() < 0.5:
        end = min(end, start + rng.randint(0, 8))
    kind = rng.randrange(7)
    if kind == 0 and data:
        place = min(start, len(data) - 1)
        return data[:place] + bytes([data[place] ^ 1 << rng.randrange(8)]) + data[place + 1 :]
    if kind == 1:
        return data[:start] + data[end:]
    if kind == 2:
        return data[:end] + data[start:end] * rng.choice([1, 1, 3, 300]) + data[end:]
    if kind == 3:
        return data[:start] + other[rng.randint(0, len(other)) :]
    if kind == 4:
        return data[:start] + rng.randbytes(rng.randint(1, 4)) + data[end:]
    return data[:start] + rng.choice(TOKENS) + data[end if kind == 5 else start :]


def fuzz(target: str, seconds: float, seed: int, *, keep: bool = False) -> tuple[int, set[str]]:
    """Mutate the corpus of one target for so long; return how many inputs that were, and the behaviours that they showed."""
    rng = random.Random(f"{target} {seed}")
    corpus = list(seeds(target).values())
    seen = {check(target, data) for data in corpus}
    until, runs = time.monotonic() + seconds, 0
    for data in mutations(rng, corpus):
        if time.monotonic() > until:
            break
        runs += 1
        behaviour = check(target, data)
        if behaviour not in seen:
            seen.add(behaviour)
            corpus.append(data)
            if keep:
                name = hashlib.blake2b(data, digest_size=6).hexdigest()
                (CORPUS / target / f"found-{name}").write_bytes(data)
    return runs, seen


def main(words: list[str]) -> int:
    """Fuzz the targets that are named, or all of them, each for its share of the time."""
    numbers = [word for word in words if word[0].isdigit()]
    targets = [word for word in words if word in TARGETS] or list(TARGETS)
    seconds, seed = float(numbers[0]) if numbers else 60.0, int(numbers[1]) if numbers[1:] else 1
    for target in targets:
        try:
            runs, seen = fuzz(target, seconds / len(targets), seed, keep="--keep" in words)
        except AssertionError as error:
            print(error)
            return 1
        print(f"{target:8}{runs:>10,} inputs{len(seen):>6} behaviours")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
