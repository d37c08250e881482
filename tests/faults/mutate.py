"""The package with one thing in it turned round, again and again: the tests of that module have to notice.

    python tests/faults/mutate.py SEED [COUNT] [MODULE]...

Draws COUNT mutations (35, where none is given) of the modules in `TESTS`, or of those named, always the same ones for a seed. A
mutation turns one comparison, one condition or one return value round. Each is made in a copy of the package, against which the
tests of its module run, and is told with the place, the line as it stands there, and what became of it: killed (a test failed),
timed out, survived, or equivalent (in `EQUIVALENT`, with the reason; it is not run). The exit code is 0 whatever survives, 2 for
a wrong call, and 1 where tests fail without any mutation.

This is the sample at random. What breaks the spool's protocol on purpose is in test_mutants.py and mutants.py.

Not turned round: annotations, what is for type checkers alone, `if __name__`, what stands in an f-string, and blocks that say
`pragma: no cover`, because they are for another platform.
"""

from __future__ import annotations

import ast
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import venv
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

REPOSITORY = Path(__file__).parents[2]
PACKAGE = REPOSITORY / "rillevents"
DEFAULT_COUNT = 35
# A run that takes so many times as long as without a mutation, and so many seconds more, hangs.
PATIENCE, GRACE = 4, 10
# A mutation may fill the memory instead of hanging.
MOST_BYTES = 8 << 30

# The fuzzer's corpus, and not what it makes of it: that takes seconds, however quick it is.
_FUZZ = ("tests/test_fuzz.py", "--deselect=tests/test_fuzz.py::test_mutated")
# Without the test that mounts a disk: a run that is killed would leave it there.
_STORE = ("tests/test_store_writer.py", "--deselect=tests/test_store_writer.py::TestFaults::test_full_disk")
_SPOOL = tuple(f"tests/test_spool.py::{group}" for group in ("TestAppend", "TestCap", "TestInterrupted"))
# Module → what pytest is given: the quick ones of the tests that are about it.
TESTS: dict[str, tuple[str, ...]] = {
    "event/__init__.py": ("tests/test_event.py",),
    "event/ndjson.py": ("tests/test_event.py::TestJson", "tests/test_event.py::TestLine", *_FUZZ),
    "event/timestamp.py": ("tests/test_event.py::TestTime", "tests/test_event.py::TestMicroseconds"),
    "event/batch.py": ("tests/test_delivery.py",),
    "event/envelope.py": ("tests/test_event.py::TestRaw", "tests/test_event.py::TestCertain", *_FUZZ),
    "event/validate.py": (
        *(f"tests/test_event.py::{group}" for group in ("TestRaw", "TestCertain", "TestFill")),
        *_FUZZ,
    ),
    "recording/redact.py": ("tests/test_redact.py",),
    "recording/secrets.py": ("tests/test_redact.py",),
    "delivery/outcome.py": ("tests/test_retry.py",),
    "delivery/pace.py": ("tests/test_retry.py",),
    "delivery/sender.py": ("tests/test_delivery.py",),
    "delivery/search.py": ("tests/test_delivery.py",),
    "delivery/settle.py": ("tests/test_delivery.py",),
    "delivery/exporters/intake_responses.py": ("tests/test_retry.py",),
    "delivery/exporters/acknowledgement.py": ("tests/test_acknowledgement.py", "tests/test_retry.py"),
    "delivery/exporters/http.py": ("tests/test_intake_exporter.py", "tests/test_delivery_faults.py"),
    "store/writer.py": _STORE,
    "store/insertion.py": _STORE,
    "store/uncounted.py": ("tests/test_counted.py",),
    "spool/lines.py": (
        *(f"tests/test_spool.py::{group}" for group in ("TestAppend", "TestLines", "TestDrain")),
        *_FUZZ,
    ),
    "spool/slots.py": _SPOOL,
    "local/files.py": ("tests/test_files.py",),
}

# Module → the line as it stands after a mutation that changes nothing anybody could see → why.
EQUIVALENT: dict[str, dict[str, str]] = {
    "event/__init__.py": {
        "return format_time(_FIRST * 1_000_000_000 if seconds <= _FIRST else _LAST * 1_000_000_000 + 999_999_999)": (
            "only a second beyond the ends comes here"
        ),
    },
    "event/ndjson.py": {
        "if len(text) >= 2 * MAX_DEPTH and is_too_deep(text):": "so short a text is not too deep, and `is_too_deep` says so",
        "if len(text) < 2 * MAX_DEPTH:": "a document of that length has no room for one more pair of brackets",
        'return data.count(b"[") + data.count(b"{") >= MAX_DEPTH and _depth(data) > MAX_DEPTH': "the depth decides",
    },
    "event/timestamp.py": {
        "if len(_seconds) < _MOST_SECONDS:": "fewer seconds are remembered, and their times are taken apart again",
        "if len(_seconds) > _MOST_SECONDS:": "one second more is remembered",
        "seconds = _digits(whole[1:] if sign <= 0 else whole)": "the sign is 1 or -1",
    },
    "event/envelope.py": {
        "if len(events) != len(lines) or (longest_line >= 2 * ndjson.MAX_DEPTH and any(map(ndjson.is_too_deep, lines))):": (
            "so short a line is not too deep"
        ),
    },
    "event/validate.py": {
        "if len(line) > ndjson.MAX_DIGITS or (len(line) > MAX_EVENT_BYTES or _LONG_NUMBER.search(line)):": (
            "a line that needs no second look passes it"
        ),
        "if len(line) > ndjson.MAX_DIGITS and (len(line) >= MAX_EVENT_BYTES or _LONG_NUMBER.search(line)):": (
            "a line that needs no second look passes it"
        ),
        "if len(line) >= ndjson.MAX_DIGITS and (len(line) > MAX_EVENT_BYTES or _LONG_NUMBER.search(line)):": (
            "a line of that length has no room for so long a number beside its four fields"
        ),
    },
    "recording/redact.py": {
        'if not self._values or (len(text) <= _SHORTEST and "@" not in text):': "every known form has a sign more than that",
    },
    "delivery/exporters/intake_responses.py": {
        "kind = _KINDS.get(status) or (Kind.MISCONFIGURED if 400 < status < 500 else Kind.TEMPORARY)": "400 is in the table",
        "kind = _KINDS.get(status) or (Kind.MISCONFIGURED if 400 <= status <= 500 else Kind.TEMPORARY)": "500 is in the table",
    },
    "store/writer.py": {
        "ahead = [(now_us, rowid) for rowid, received_us in rows if received_us >= now_us]": "it becomes what it is",
    },
    "spool/lines.py": {
        "while start <= end:": "one more read, which finds nothing",
    },
    "local/files.py": {
        "if home or not os.path.isdir(home):": "`prepare_home` leaves what is there as it is, and no home alone",
    },
    "spool/slots.py": {
        "if (not first or (held + more) * 2 + behind >= max_bytes) and slot_bytes(folder) + more + behind > max_bytes:": (
            "at one size more the other slots are asked as well, which decides the same while the first holds most"
        ),
    },
}


class Mutation(NamedTuple):
    """One thing turned round: the bytes from *start* to *end* of a module's source become *text*."""

    module: str
    line: int
    start: int
    end: int
    text: str
    before: str
    after: str

    @property
    def equivalent(self) -> str:
        """Why nobody could notice; empty where somebody could."""
        return EQUIVALENT.get(self.module, {}).get(self.after, "")

    def applied(self, source: bytes) -> bytes:
        return source[: self.start] + self.text.encode() + source[self.end :]

    def __str__(self) -> str:
        return f"{self.module}:{self.line}: {self.before}  ->  {self.after}"


# What is turned round


_TURNED = {
    "<": ">=", "<=": ">", ">": "<=", ">=": "<", "==": "!=", "!=": "==",
    "in": "not in", "not in": "in", "is": "is not", "is not": "is", "and": "or", "or": "and",
}  # fmt: skip
# The edge alone, too: that is what a test of a limit has to tell.
_EDGES = {"<": "<=", "<=": "<", ">": ">=", ">=": ">"}
_OPERATOR = re.compile(r"not\s+in\b|is\s+not\b|in\b|is\b|[<>]=?|[=!]=|and\b|or\b")
_NO_VALUES = {"str": '""', "bytes": 'b""', "tuple": "()", "list": "[]", "dict": "{}"}
_OTHER_VALUES = {"str": '"other"', "bytes": 'b"other"'}
Change = tuple[int, int, str]


class _Finder:
    """Finds what can be turned round in the source of one module."""

    def __init__(self, source: bytes) -> None:
        self._source = source
        self._lines = source.splitlines(keepends=True)
        self._starts = [0]
        for line in self._lines:
            self._starts.append(self._starts[-1] + len(line))

    def changes(self) -> list[Change]:
        """Return the changes, each once, in the order of the source."""
        return sorted(
            {change for change in self._of(ast.parse(self._source), "") if self._text(*change[:2]) != change[2]}
        )

    def _of(self, node: ast.AST, returns: str) -> Iterator[Change]:
        """Yield the changes of a node and of all in it; *returns* is the annotation of the function that it stands in."""
        if isinstance(node, ast.JoinedStr) or self._is_left_alone(node):
            return
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            returns = ast.unparse(node.returns) if node.returns else ""
        elif isinstance(node, ast.Lambda):
            returns = ""
        elif isinstance(node, (ast.If, ast.While, ast.IfExp, ast.Assert)):
            yield from self._negated(node.test)
        elif isinstance(node, ast.comprehension):
            for test in node.ifs:
                yield from self._negated(test)
        elif isinstance(node, ast.Compare):
            operands = [node.left, *node.comparators]
            for left, right in pairwise(operands):
                yield from self._operators([(left, right)], _TURNED)
                yield from self._operators([(left, right)], _EDGES)
        elif isinstance(node, ast.BoolOp):
            yield from self._operators(list(pairwise(node.values)), _TURNED)
        elif isinstance(node, ast.Return) and node.value is not None:
            yield from self._returned(node.value, returns)
        for field, child in ast.iter_fields(node):
            if field in ("annotation", "returns", "decorator_list"):
                continue
            for each in child if isinstance(child, list) else [child]:
                if isinstance(each, ast.AST):
                    yield from self._of(each, returns)

    def _is_left_alone(self, node: ast.AST) -> bool:
        if isinstance(node, ast.stmt) and b"pragma: no cover" in self._lines[node.lineno - 1]:
            return True
        if not isinstance(node, ast.If):
            return False
        return "TYPE_CHECKING" in ast.unparse(node.test) or "__name__" in ast.unparse(node.test)

    def _negated(self, test: ast.expr) -> Iterator[Change]:
        start, end = self._span(test)
        if isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not):
            yield start, end, self._text(*self._span(test.operand, outer=end))
        elif isinstance(test, (ast.Name, ast.Attribute, ast.Call, ast.Subscript, ast.Constant)):
            yield start, end, f"not {self._text(start, end)}"
        elif not isinstance(test, ast.Compare) or len(test.ops) > 1:
            yield start, end, f"not ({self._text(start, end)})"
        # A single comparison has its operator turned round, which is the same.

    def _operators(self, pairs: Sequence[tuple[ast.expr, ast.expr]], table: dict[str, str]) -> Iterator[Change]:
        """Yield one change in which all the operators between these operands are other ones."""
        start, end = self._span(pairs[0][0])[1], self._span(pairs[-1][1])[0]
        text, at = "", start
        for left, right in pairs:
            (_, after), (before, _) = self._span(left), self._span(right)
            between = self._text(after, before)
            found = _OPERATOR.search(between)
            if found is None or " ".join(found[0].split()) not in table:
                return
            turned = between[: found.start()] + table[" ".join(found[0].split())] + between[found.end() :]
            text += self._text(at, after) + turned
            at = before
        yield start, end, text

    def _returned(self, value: ast.expr, returns: str) -> Iterator[Change]:
        start, end = self._span(value)
        text = self._text(start, end)
        kind = returns.partition("[")[0].strip()
        if isinstance(value, ast.Constant) and isinstance(value.value, bool):
            yield start, end, str(not value.value)
        elif kind == "bool" or isinstance(value, ast.Compare):
            if not isinstance(value, ast.Compare) or len(value.ops) > 1:
                yield start, end, f"not ({text})"
        elif kind in ("int", "float"):
            yield (
                start,
                end,
                f"{text} + 1" if isinstance(value, (ast.Constant, ast.Call, ast.Name)) else f"({text}) + 1",
            )
        elif isinstance(value, ast.Constant) and value.value in ("", b""):
            yield start, end, _OTHER_VALUES.get(kind, text)
        elif returns.endswith("| None") and not (isinstance(value, ast.Constant) and value.value is None):
            yield start, end, "None"
        elif kind in _NO_VALUES:
            yield start, end, _NO_VALUES[kind]

    def _span(self, node: ast.expr, outer: int = 0) -> tuple[int, int]:
        """Return where an expression begins and ends, in bytes; with *outer* up to there, for the parentheses around it."""
        assert node.end_lineno is not None
        assert node.end_col_offset is not None
        start = self._starts[node.lineno - 1] + node.col_offset
        end = self._starts[node.end_lineno - 1] + node.end_col_offset
        if outer > end:
            return self._source.rfind(b"(", 0, start), outer
        return start, end

    def _text(self, start: int, end: int) -> str:
        return self._source[start:end].decode()

    def lines_around(self, start: int, end: int) -> tuple[int, int, int]:
        """Return the number of the line that *start* is in, and where the lines from there to *end* begin and end."""
        first = max(n for n, at in enumerate(self._starts[:-1]) if at <= start)
        last = max(n for n, at in enumerate(self._starts[:-1]) if at <= max(start, end - 1))
        return first + 1, self._starts[first], self._starts[last + 1]


def changes(source: bytes) -> list[Change]:
    """Return what may be turned round in a source, each change once, in order: where it begins and ends, and the text for that."""
    return _Finder(source).changes()


def mutations(module: str) -> list[Mutation]:
    """Return all mutations of a module, in the order of its source."""
    source = (PACKAGE / module).read_bytes()
    finder = _Finder(source)
    found = []
    for start, end, text in finder.changes():
        number, first, last = finder.lines_around(start, end)
        before = " ".join(source[first:last].decode().split())
        after = " ".join((source[first:start] + text.encode() + source[end:last]).decode().split())
        found.append(Mutation(module, number, start, end, text, before, after))
    return found


def draw(seed: int, count: int = DEFAULT_COUNT, modules: Sequence[str] = tuple(TESTS)) -> list[Mutation]:
    """Return so many mutations of these modules, drawn at random from the seed; all of them where there are no more."""
    found = [mutation for module in modules for mutation in mutations(module)]
    drawn = random.Random(seed).sample(range(len(found)), min(count, len(found)))
    return [found[number] for number in sorted(drawn)]


# Where it is tried


class Copy:
    """A copy of the package and its tests, and an interpreter that finds that copy before all others, in every process.

    An interpreter of its own, not PYTHONPATH: tests start the command line with an environment of their own.
    """

    def __init__(self, place: Path) -> None:
        self.place = place / "copy"
        self._python = place / "interpreter" / "bin" / "python"
        self._changed = 0.0
        unwanted = shutil.ignore_patterns("__pycache__", ".*")
        shutil.copytree(PACKAGE, self.place / PACKAGE.name, ignore=unwanted)
        shutil.copytree(REPOSITORY / "tests", self.place / "tests", ignore=unwanted)
        shutil.copy(REPOSITORY / "pyproject.toml", self.place)
        venv.create(place / "interpreter", symlinks=True)
        [packages] = (place / "interpreter" / "lib").glob("python*/site-packages")
        ours = [path for path in sys.path if path.endswith("-packages")]
        # What is added first comes first: the copy is found before an installed package, or one that is linked to.
        (packages / "copy.pth").write_text(f"{self.place}\nimport site; list(map(site.addsitedir, {ours!r}))\n")
        code = "import os, rillevents; print(os.path.dirname(rillevents.__file__), end='')"
        found = subprocess.run(
            [self._python, "-c", code], cwd=place, env=self._environ(), capture_output=True, text=True
        )
        if found.stdout != str(self.place / PACKAGE.name):
            raise RuntimeError(f"not the copy would be tested, but {found.stdout or found.stderr}")

    def test(self, words: Sequence[str], seconds: float | None = None) -> str:
        """Run tests, and return `survived`, `killed`, or `timed out`."""
        pytest = [self._python, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "-n0"]
        # By the same seed each time: so that a mutation's fate does not depend on chance.
        command = [*pytest, "--hypothesis-seed=0", f"--basetemp={self.place.parent / 'tests'}", *words]
        with subprocess.Popen(
            command,
            cwd=self.place,
            env=self._environ(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            preexec_fn=_limit_memory,
        ) as process:
            try:
                return "killed" if process.wait(seconds) else "survived"
            except subprocess.TimeoutExpired:
                return "timed out"
            finally:
                # What the tests have started, too.
                try:
                    os.killpg(process.pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass

    def try_out(self, mutation: Mutation, words: Sequence[str], seconds: float | None = None) -> str:
        """Run tests with a mutation, and take it back."""
        path = self.place / PACKAGE.name / mutation.module
        source = path.read_bytes()
        self._write(path, mutation.applied(source))
        try:
            return self.test(words, seconds)
        finally:
            self._write(path, source)

    def _write(self, path: Path, source: bytes) -> None:
        path.write_bytes(source)
        # A time that no file had before: Python tells by time and size whether what it has compiled is of this source.
        self._changed += 2
        os.utime(path, (self._changed, self._changed))

    def _environ(self) -> dict[str, str]:
        unwanted = ("COVERAGE_", "PYTEST_", "PYTHON", "VIRTUAL_ENV")
        return {key: value for key, value in os.environ.items() if not key.startswith(unwanted)}


def _limit_memory() -> None:
    import resource

    resource.setrlimit(resource.RLIMIT_AS, (MOST_BYTES, MOST_BYTES))


# The command


def main(words: list[str]) -> int:
    """Draw, try out, tell; the exit code."""
    numbers = [word for word in words if word.isdigit()]
    modules = words[len(numbers) :]
    unknown = [module for module in modules if module not in TESTS]
    if not 1 <= len(numbers) <= 2 or unknown:
        print(f"usage: mutate.py SEED [COUNT] [MODULE]...\nmodules: {' '.join(TESTS)}", file=sys.stderr)
        return 2
    drawn = draw(*map(int, numbers), modules=modules or tuple(TESTS))
    with tempfile.TemporaryDirectory(prefix="mutate-") as place:
        copy = Copy(Path(place))
        took: dict[str, float] = {}
        fates: Counter[str] = Counter()
        for mutation in drawn:
            tests = TESTS[mutation.module]
            if mutation.equivalent:
                fate = "equivalent"
            else:
                if mutation.module not in took:
                    began = time.monotonic()
                    if copy.test(tests) != "survived":
                        print(f"without any mutation these fail: {' '.join(tests)}", file=sys.stderr)
                        return 1
                    took[mutation.module] = time.monotonic() - began
                fate = copy.try_out(mutation, tests, took[mutation.module] * PATIENCE + GRACE)
            fates[fate] += 1
            print(f"{fate:10} {mutation}", flush=True)
    told = ", ".join(f"{fates[fate]} {fate}" for fate in ("killed", "timed out", "equivalent", "survived"))
    print(f"{len(drawn)} drawn, {told}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
