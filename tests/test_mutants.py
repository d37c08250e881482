"""The spool's protocol, broken on purpose: the tests of its races have to notice, or they prove nothing."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

import rillevents

from .faults import mutate

PACKAGE = Path(rillevents.__file__).parent
FAULTS = Path(__file__).parent / "faults"


class Mutant(NamedTuple):
    """One breakage: the file, what stands there, what takes its place, and the scenario or the fuzzer's target that notices."""

    file: str
    text: str
    broken: str
    noticed_by: str


MUTANTS = {
    "offset-moves-when-read": Mutant(
        "spool/drain.py",
        "                    yield run\n",
        "                    self._settle(Entry(name, run.end, run.last), None)\n                    yield run\n",
        "flush_killed",
    ),
    "commit-before-delivery": Mutant(
        "delivery/flusher.py",
        "            settlement = delivery.deliver(lines, meanwhile=ahead.read) if len(lines) else None\n",
        "            from rillevents.event.batch import DELIVERED\n"
        "            drain.commit(batch, [DELIVERED] * len(lines))\n"
        "            settlement = delivery.deliver(lines, meanwhile=ahead.read) if len(lines) else None\n",
        "flush_killed",
    ),
    "rejected-after-the-offset": Mutant(
        "spool/drain.py",
        "        kept = self._put_rejected_aside(settled)\n",
        "        for entry, verdict, lines in settled:\n"
        "            self._settle(entry, verdict, lines, purged)\n"
        "        self._save_offsets()\n"
        "        kept = self._put_rejected_aside(settled)\n",
        "flush_killed",
    ),
    "counts-not-remembered": Mutant(
        "spool/tally.py",
        "            state.folded.append(name)\n            if not save():\n",
        "            if not save() or state.folded.append(name):\n",
        "flush_killed",
    ),
    "no-second-read": Mutant(
        "spool/drain.py",
        "            if next(complete_lines(fd, offset, size), None):\n",
        "            if False:\n",
        "record_under_way",
    ),
    "unlink-without-the-lock": Mutant(
        "spool/drain.py",
        "or not lock_to_unlink(fd):\n",
        "or False:\n",
        "record_under_way",
    ),
    "no-flush-lock": Mutant(
        "spool/state.py",
        '            raise Busy("another flush is running; the events are kept")\n',
        "            pass\n",
        "two_flushers",
    ),
    "writer-without-the-lock": Mutant(
        "spool/slots.py",
        "        if not lock(fd):\n            return False\n        found = os.fstat(fd)\n",
        "        found = os.fstat(fd)\n",
        "flush_while_recording",
    ),
    "path-not-checked-after-locking": Mutant(
        "spool/slots.py",
        "        check_named(path, found)\n",
        "",
        "file_moved_while_recording",
    ),
    "links-not-counted-after-writing": Mutant(
        "spool/slots.py",
        "        if os.fstat(fd).st_nlink == 0:\n",
        "        if False:\n",
        "deleted_while_recording",
    ),
    "live-path-not-checked": Mutant(
        "spool/live.py",
        "            except FileNotFoundError:\n                pass\n            self._close()\n",
        "            except FileNotFoundError:\n                pass\n            return\n",
        "deleted_between_records",
    ),
    "torn-tail-not-mended": Mutant(
        "local/files.py",
        "    torn = is_torn(fd, size)\n",
        "    torn = False\n",
        "torn_tail",
    ),
    "short-write-not-undone": Mutant(
        "local/files.py",
        "    os.ftruncate(fd, os.fstat(fd).st_size - written + min(keep, written))\n",
        "",
        "full_disk",
    ),
    "child-keeps-its-parents-file": Mutant(
        "spool/live.py",
        "        if self._fd >= 0:\n            os.close(self._fd)\n        self._mutex = allocate_lock()\n        self._inside.clear()\n"
        "        self._forget()\n",
        "        self._mutex = allocate_lock()\n        self._inside.clear()\n",
        "full_disk_in_a_child",
    ),
    "no-checksum": Mutant(
        "spool/state.py",
        " and proof(fd, offset) == expected else 0\n",
        " else 0\n",
        "older_copy",
    ),
    "checksum-of-a-few-bytes": Mutant(
        "spool/state.py",
        "    return zlib.crc32(found) if ",
        "    return zlib.crc32(found[-64:]) if ",
        "older_copy",
    ),
    "checksum-of-whatever-is-there": Mutant(
        "spool/state.py",
        " if found.endswith((line, line[:-1])) else -1\n",
        "\n",
        "older_copy_under_way",
    ),
}


PARSER_MUTANTS = {
    "numbers-not-looked-at": Mutant(
        "event/validate.py", "good = is_event(line) and _is_understood(line)\n", "good = is_event(line)\n", "raw"
    ),
    "any-nesting": Mutant("event/ndjson.py", " and _depth(data) > MAX_DEPTH\n", " and False\n", "raw"),
    "digits-of-other-scripts": Mutant(
        "event/timestamp.py",
        "    if not (text.isascii() and text.isdigit()):\n        raise ValueError(text)\n    return int(text[:9]",
        "    return int(text[:9]",
        "raw",
    ),
    "text-without-end": Mutant("event/timestamp.py", "{text[:40]!r}", "{text!r}", "raw"),
    "zeros-are-damage": Mutant("spool/lines.py", '        if b"\\0" in text:\n', "        if False:\n", "line"),
    "fragment-dropped": Mutant(
        "spool/drain.py", "            self._keep_fragment(name, fd, offset, size)\n", "", "line"
    ),
    "wait-without-end": Mutant(
        "delivery/exporters/intake_responses.py", "min(float(number[2]), RETRY_AFTER_MAX)", "float(number[2])", "answer"
    ),
    "lines-that-are-none": Mutant(
        "delivery/exporters/acknowledgement.py", "1 <= line <= lines", "line <= lines", "answer"
    ),
    "control-characters": Mutant("delivery/outcome.py", '[0] in "CZ"', '[0] in "Z"', "answer"),
}


def play(package_in: Path, program: str, *words: str) -> subprocess.CompletedProcess[str]:
    """Run one of the programs beside this one with the package that is in a folder.

    Its coverage is not measured: what is in a folder of a test is gone when the report is made.
    """
    return subprocess.run(
        [sys.executable, FAULTS / program, *words],
        env={key: value for key, value in os.environ.items() if not key.startswith("COVERAGE_")}
        | {"PYTHONPATH": str(package_in)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform cannot fork")
def test_every_race() -> None:
    """A process that is stopped at any of its system calls, and killed, flushed, copied or deleted under, loses nothing."""
    done = play(PACKAGE.parent, "mutants.py")
    assert (0, "") == (done.returncode, done.stdout + done.stderr)


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform cannot fork")
@pytest.mark.parametrize("mutant", MUTANTS.values(), ids=MUTANTS)
def test_mutant(mutant: Mutant, tmp_path: Path) -> None:
    """Without this piece of the protocol events are lost, sent twice or miscounted, and that is noticed."""
    break_copy(mutant, tmp_path)
    done = play(tmp_path, "mutants.py", mutant.noticed_by)
    assert (1, "") == (done.returncode, done.stderr)
    assert done.stdout.startswith(f"{mutant.noticed_by}: ")


@pytest.mark.parametrize("mutant", PARSER_MUTANTS.values(), ids=PARSER_MUTANTS)
def test_parser_mutant(mutant: Mutant, tmp_path: Path) -> None:
    """Without this piece of a parser the fuzzer finds input that it does not hold against."""
    break_copy(mutant, tmp_path)
    done = play(tmp_path, "fuzz.py", "3", "1", mutant.noticed_by)
    assert (1, "") == (done.returncode, done.stderr)
    assert f"{mutant.noticed_by}: AssertionError: " in done.stdout


def break_copy(mutant: Mutant, place: Path) -> None:
    """Copy the package to a folder, and break it there."""
    shutil.copytree(PACKAGE, place / PACKAGE.name, ignore=shutil.ignore_patterns("__pycache__"))
    file = place / PACKAGE.name / mutant.file
    source = file.read_text()
    assert 1 == source.count(mutant.text), "the text to break is not there any more: the mutant has to be written anew"
    file.write_text(source.replace(mutant.text, mutant.broken))


class TestRandomMutations:
    """The sample at random (see faults/mutate.py): what draws it and what judges it."""

    def test_drawn_from_the_seed(self) -> None:
        """A seed draws the same mutations each time, another one others, and none twice."""
        drawn = mutate.draw(1)
        assert drawn == mutate.draw(1)
        assert drawn != mutate.draw(2)
        assert [mutate.DEFAULT_COUNT] * 2 == [len(drawn), len(set(drawn))]

    def test_each_is_python(self) -> None:
        """What each mutation makes of its module is other code than before, and can be compiled."""
        for mutation in mutate.draw(3, 100):
            source = (mutate.PACKAGE / mutation.module).read_bytes()
            assert ast.dump(ast.parse(source)) != ast.dump(ast.parse(mutation.applied(source))), mutation

    def test_what_is_turned_round(self) -> None:
        """Comparisons, conditions and return values are, annotations, f-strings and what type checkers see are not."""
        source = b"""
if TYPE_CHECKING:
    x = 1 < 2
def f(a: "1 < 2" = None) -> str:
    while a and not (b or c):
        f"{a < 1}"
    return ""
def g() -> bool:
    return a if b in c else True
"""
        expected = [
            "    while not (a and not (b or c)):",
            "    while a or not (b or c):",
            "    while a and not (b and c):",
            '    return "other"',
            "    return not (a if b in c else True)",
            "    return a if b not in c else True",
        ]
        changed = [source[:start] + text.encode() + source[end:] for start, end, text in mutate.changes(source)]
        before = source.splitlines()
        found = [[line.decode() for line in each.splitlines() if line not in before] for each in changed]
        assert [[line] for line in expected] == found

    def test_equivalents_are_there(self) -> None:
        """Every mutation that is listed as equivalent is one that can be drawn."""
        drawn = {(module, mutation.after) for module in mutate.TESTS for mutation in mutate.mutations(module)}
        listed = {(module, after) for module, known in mutate.EQUIVALENT.items() for after in known}
        assert set() == listed - drawn

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="the mutations are tried out on POSIX systems")
    def test_a_known_breakage(self, tmp_path: Path) -> None:
        """Tests that hold against the package are failed by a copy of it in which a limit is turned round, and hold again after."""
        module, tests = "delivery/pace.py", ["tests/test_retry.py::TestDeadline"]
        [breakage] = [found for found in mutate.mutations(module) if found.after == "return self.remaining() > 0"]
        copy = mutate.Copy(tmp_path)
        assert ["survived", "killed", "survived"] == [
            copy.test(tests),
            copy.try_out(breakage, tests),
            copy.test(tests),
        ]
