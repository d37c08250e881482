"""The manual's page on readers, held to the readers: `tests/readers/run` installs them and runs this file.

Each block of the page is taken as it stands and reads events that rillevents stored. What becomes of hard values is put in one word,
which has to be the word in the page's table. pytest collects this file only if it is named.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import socket
import subprocess
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest
from serving import Serving, until
from support import PACE, Tool
from test_docs import PAGES, only_block

from rillevents.event.timestamp import parse_time

pytestmark = pytest.mark.unmeasured

PAGE = PAGES["readers"]
INSTALLED = Path(os.environ["RILLEVENTS_READERS"]).resolve()
# More than any of them looks at to detect a type: DuckDB 20,480 events, ClickHouse 25,000.
MANY = 26_000
START = "2026-11-23T10:00:00Z"

Rows = list[tuple[Any, Any]]
"""What a reader gives of each event: its time, as text or in nanoseconds, and its `value` as JSON has it, fractions exact."""
Reader = Callable[[Path, str], Rows]
"""Runs a block of the page, given as text, in a folder."""


# What they read


def line(number: int, value: str | None = None, moment: str = START) -> str:
    """Return an event whose `value` is that JSON, or that has none."""
    fields = f'"event_id":"e{number:05}","event_time":"{moment}","event_type":"audit","event_name":"n"'
    return f"{{{fields}}}" if value is None else f'{{{fields},"value":{value}}}'


TIMES = ["2026-11-23T10:00:00.123456789Z", "2026-11-23T12:00:00.000000001+02:00", START]
FAR = ["2026-11-23T10:00:00.123456789Z", "2300-01-01T00:00:00.5Z"]
LINES = {
    "times": [line(number, "1", moment) for number, moment in enumerate(TIMES)],
    "year 2300": [line(number, "1", moment) for number, moment in enumerate(FAR)],
    "2⁵³+1": [line(0, "1"), line(1), line(2, str(2**53 + 1))],
    "2⁶³+1": [line(0, "1"), line(1), line(2, str(2**63 + 1))],
    "late 2⁶³+1": [*(line(number, "1") for number in range(MANY)), line(MANY, str(2**63 + 1))],
    "2⁶⁴+1": [line(0, "1"), line(1), line(2, str(2**64 + 1))],
    "mixed types": [line(0, '"pro"'), line(1, '{"b": 1}'), line(2, "3")],
    "late key": [*(line(number) for number in range(MANY)), line(MANY, '"x"')],
    "late 0.5": [*(line(number, "1") for number in range(MANY)), line(MANY, "0.5")],
    "key twice": [line(0, '1,"value":2')],
    "torn line": [line(0, "1"), line(1, "2"), line(2, "3")],
}


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Give the folder that holds the events of a case: `events.ndjson`, and the same in `events.db`, both made by rillevents."""
    found: dict[str, Path] = {}

    def make(case: str) -> Path:
        if case not in found:
            found[case] = tmp_path_factory.mktemp("case")
            store_and_export(found[case], LINES[case])
            if case == "torn line":
                path = found[case] / "events.ndjson"
                path.write_bytes(path.read_bytes()[:-20])
        return found[case]

    return make


def store_and_export(folder: Path, lines: Sequence[str]) -> None:
    (folder / "user").mkdir()
    tool = Tool(folder / "home")
    assert tool("record", "raw", stdin="".join(f"{line}\n" for line in lines).encode()).returncode == 0
    by_rillevents(tool, only_block(PAGE, "sh ndjson-spool"))
    with Serving(tool, "--store", str(folder / "events.db")) as serving:
        assert tool("flush", "--to", f"{serving.url}/events/default").returncode == 0
        assert serving.stop() == 143


def by_rillevents(tool: Tool, script: str) -> None:
    """Run a script of the page that calls `rillevents`."""
    folder = tool.home.parent
    (folder / "bin").mkdir(exist_ok=True)
    words = shlex.join(str(word) for word in tool.command())
    (folder / "bin" / "rillevents").write_text(f'#!/bin/sh\nexec {words} "$@"\n')
    (folder / "bin" / "rillevents").chmod(0o755)
    environ = tool.environ | {"PATH": f"{folder / 'bin'}:{os.environ['PATH']}"}
    subprocess.run(["sh", "-ec", script], cwd=folder, env=environ, check=True)


# The readers


class NotRead(Exception):
    """The reader failed; what it printed before is in `printed`."""

    def __init__(self, printed: str, said: str) -> None:
        super().__init__(said)
        self.printed = printed


def run(words: Sequence[str | Path], folder: Path, stdin: str = "", path: str = os.environ["PATH"]) -> str:
    """Return what a program printed."""
    environ = {"PATH": path, "HOME": str(folder)}
    done = subprocess.run(
        words, cwd=folder, env=environ, input=stdin, capture_output=True, text=True, timeout=120 * PACE, check=False
    )
    if done.returncode:
        raise NotRead(done.stdout, done.stderr[-400:])
    return done.stdout


def decoded(text: str) -> Any:
    return json.loads(text, parse_float=Fraction)


def rows(printed: str) -> Rows:
    """Return the time and the value of each row: an array of time, name and value on a line of its own."""
    return [(found[0], found[2]) for found in map(decoded, printed.splitlines())]


def with_values_decoded(found: Rows) -> Rows:
    """Return rows whose values came as JSON in text, those of a column of texts as they are; an empty text is none."""

    def value_of(text: str | None) -> Any:
        try:
            return decoded(text) if text else None
        except ValueError:
            return text

    return [(moment, value_of(text)) for moment, text in found]


DUCKDB = """
import json, sys, duckdb
*before, last = [each for each in sys.stdin.read().split(";") if each.strip()]
try:
    import duckdb_extension_sqlite_scanner as package
    folder = f"{package.__path__[0]}/extensions/v{duckdb.__version__}"
    duckdb.sql(f"LOAD '{folder}/sqlite_scanner.duckdb_extension'")
except ImportError:
    pass
for each in before:
    duckdb.sql(each)
# As text: a datetime of Python has no nanoseconds.
for row in duckdb.sql(f"SELECT CAST(COLUMNS(*) AS VARCHAR) FROM ({last})").fetchall():
    print(json.dumps(row))
"""


def duckdb_2(folder: Path, sql: str) -> Rows:
    return with_values_decoded(rows(run([INSTALLED / "new/bin/python", "-c", DUCKDB], folder, sql)))


def duckdb_1(folder: Path, sql: str) -> Rows:
    return with_values_decoded(rows(run([INSTALLED / "duckdb-1.5/bin/python", "-c", DUCKDB], folder, sql)))


CLICKHOUSE = "import sys, chdb; sys.stdout.write(str(chdb.query(sys.stdin.read(), 'JSONCompactEachRow')))"


def clickhouse(folder: Path, sql: str) -> Rows:
    return rows(run([INSTALLED / "new/bin/python", "-c", CLICKHOUSE], folder, sql))


def clickhouse_json(folder: Path, sql: str) -> Rows:
    return with_values_decoded(clickhouse(folder, sql))


PYTHON = """
import json
for at, value in EVENTS:
    print(json.dumps([at, "", None if value != value else value]))
"""


def python(events: str) -> Reader:
    """Run a block in Python; *events* are then pairs of a time and a value."""

    def read(folder: Path, code: str) -> Rows:
        return rows(run([INSTALLED / "new/bin/python", "-c", code + PYTHON.replace("EVENTS", events)], folder))

    return read


def shell(program: str) -> Reader:
    """Run a block in sh, where `jq` is that program."""

    def read(folder: Path, script: str) -> Rows:
        called = folder / program.replace("/", "-")
        called.mkdir(exist_ok=True)
        if program != "jq" and not (called / "jq").exists():
            (called / "jq").symlink_to(INSTALLED / program)
        return rows(run(["sh", "-ec", script], folder, path=f"{called}:{os.environ['PATH']}"))

    return read


def sqlite(folder: Path, script: str) -> Rows:
    printed = run(["sh", "-ec", script], folder)
    return with_values_decoded([(row["time"], row["value"]) for row in decoded(printed)])


POLARS = python('zip(events["event_time"].dt.timestamp("ns"), events["value"])')
PANDAS = python('zip(events["event_time"].map(pd.Timestamp.isoformat), events["value"])')
PYARROW = python('zip(events["event_time"].cast(pa.int64()).to_pylist(), events["value"].to_pylist())')

READERS: dict[str, tuple[str, Reader]] = {
    "DuckDB 2.0.1": ("sql duckdb-2", duckdb_2),
    "DuckDB 2.0.1, columns": ("sql duckdb-columns", duckdb_2),
    "DuckDB 1.5.5": ("sql duckdb-1.5", duckdb_1),
    "DuckDB 1.5.5, columns": ("sql duckdb-columns", duckdb_1),
    "Polars 2.1.0": ("python polars", POLARS),
    "pandas 3.1.1": ("python pandas", PANDAS),
    "PyArrow 26.0.1": ("python pyarrow", PYARROW),
    "ClickHouse 26.9": ("sql clickhouse", clickhouse_json),
    "ClickHouse 26.9, columns": ("sql clickhouse-columns", clickhouse),
    "jq 1.6": ("sh jq", shell("jq")),
    "gojq 0.12.19": ("sh jq", shell("gojq")),
    "jaq 3.1.2": ("sh jq", shell("cargo/bin/jaq")),
    "SQLite 3.40, a store": ("sh sqlite3", sqlite),
    "DuckDB 1.5.5, a store": ("sql duckdb-1.5-store", duckdb_1),
}


# What becomes of the events, in a word


def nanoseconds(moment: Any) -> int:
    """Return a time in nanoseconds, from them or from text as a database writes it."""
    if isinstance(moment, int):
        return moment
    text = moment.replace(" ", "T")
    text = re.sub(r"\+00$", "+00:00", text)
    return parse_time(text if re.search(r"Z|[+-]\d\d:\d\d$", text) else f"{text}Z")


def word_for_times(found: Rows, moments: Sequence[str]) -> str:
    times = [moment for moment, _ in found]
    if times == list(moments):
        return "text"
    right, read = [parse_time(moment) for moment in moments], [nanoseconds(moment) for moment in times]
    if read == right:
        return "exact"
    if [moment // 1000 for moment in read] == [moment // 1000 for moment in right]:
        return "µs"
    return "wraps" if all((one - other) % 2**64 == 0 for one, other in zip(read, right, strict=True)) else "wrong"


def word_for_values(found: Rows, lines: Sequence[str]) -> str:
    right, read = [decoded(each).get("value") for each in lines], [value for _, value in found]
    if read == right:
        return "exact"
    if len(read) != len(right):
        return f"{len(read)} of {len(right)}"
    if all(one == other or one == written(each) for one, other, each in zip(read, right, lines, strict=True)):
        return "text"
    if isinstance(read[-1], (int, Fraction)) and read[:-1] == right[:-1]:
        return "wraps" if read[-1] < 0 else "rounded"
    return "wrong"


def written(event: str) -> str:
    """Return an event's value as it is written, without quotation marks."""
    return event.partition('"value":')[2].removesuffix("}").strip('"')


def word(name: str, case: str, folder: Path) -> str:
    """Return what becomes of a case."""
    info, reader = READERS[name]
    try:
        found = reader(folder, only_block(PAGE, info))
    except NotRead as error:
        return f"{len(rows(error.printed))} of {len(LINES[case])}" if error.printed else "error"
    if case in ("times", "year 2300"):
        return word_for_times(found, TIMES if case == "times" else FAR)
    if case == "key twice":
        return {1: "first", 2: "last"}[found[0][1]]
    return word_for_values(found, LINES[case])


def table() -> dict[str, dict[str, str]]:
    """Return the page's tables, one after the other: for each reader a word for each case."""
    found: dict[str, dict[str, str]] = {}
    for text in re.findall(r"^\| reader \|.*\n(?:\|.*\n)+", PAGE, re.MULTILINE):
        heading, _, *body = ([cell.strip() for cell in row.strip("|").split("|")] for row in text.splitlines())
        for cells in body:
            found.setdefault(cells[0], {}).update(zip(heading[1:], cells[1:], strict=True))
    return found


def test_the_tables_are_whole() -> None:
    """The page's tables have a row for each reader and a column for each case."""
    assert list(READERS) == list(table())
    assert [list(LINES)] * len(READERS) == [list(cells) for cells in table().values()]


@pytest.mark.parametrize("case", LINES)
@pytest.mark.parametrize("name", READERS)
def test_reader(name: str, case: str, made: Callable[[str], Path]) -> None:
    """What the page's line makes of the events is what the page's table says."""
    said = table()[name][case]
    if case == "torn line" and name.endswith("a store"):
        assert said == "none"
    else:
        assert said == word(name, case, made(case))


# What the page says besides


def changed(name: str, old: str, new: str) -> Callable[[Path], Rows]:
    """Return a reader whose block of the page is changed in one place."""
    info, reader = READERS[name]
    block = only_block(PAGE, info)
    assert block.count(old) == 1
    return lambda folder: reader(folder, block.replace(old, new))


def values(found: Rows) -> list[Any]:
    return [value for _, value in found]


@pytest.mark.parametrize("name", ["DuckDB 2.0.1, columns", "DuckDB 1.5.5, columns"])
def test_duckdb_with_a_sample(name: str, made: Callable[[str], Path]) -> None:
    """Without `sample_size = -1` a late fraction is rounded, so that the sum is wrong, and a late key is an error."""
    sampled = changed(name, ", sample_size = -1", "")
    assert MANY == sum(values(sampled(made("late 0.5"))))
    with pytest.raises(NotRead):
        sampled(made("late key"))


@pytest.mark.parametrize("name", ["DuckDB 2.0.1, columns", "DuckDB 1.5.5, columns"])
def test_duckdb_ignores_errors(name: str, made: Callable[[str], Path]) -> None:
    """With `ignore_errors` a torn line is a row of NULLs."""
    found = changed(name, "-1", "-1, ignore_errors = true")(made("torn line"))
    assert [1, 2, None] == values(found)
    assert found[-1][0] is None


def test_duckdb_drops_an_offset(made: Callable[[str], Path]) -> None:
    """`TIMESTAMP_NS` drops an offset in DuckDB 2: the time is two hours late."""
    found = changed("DuckDB 2.0.1", "TIMESTAMPTZ_NS", "TIMESTAMP_NS")(made("times"))
    assert [0, 2 * 3600, 0] == [
        (nanoseconds(moment) - parse_time(right)) / 1e9 for (moment, _), right in zip(found, TIMES, strict=True)
    ]
    with pytest.raises(NotRead):
        changed("DuckDB 1.5.5", "TIMESTAMP_NS", "TIMESTAMPTZ_NS")(made("times"))


def test_polars_with_a_sample(made: Callable[[str], Path]) -> None:
    """Without `infer_schema_length=None` a late key is absent, and nothing says so."""
    code = only_block(PAGE, "python polars").replace(", infer_schema_length=None", "")
    assert "value" not in run([INSTALLED / "new/bin/python", "-c", f"{code}\nprint(events.columns)"], made("late key"))


def test_polars_in_microseconds(made: Callable[[str], Path]) -> None:
    """With `time_unit="us"` a time of the year 2300 stays."""
    code = only_block(PAGE, "python polars").replace('"ns"', '"us"') + "print(events['event_time'][-1].isoformat())"
    assert "2300-01-01T00:00:00.500000+00:00\n" == run([INSTALLED / "new/bin/python", "-c", code], made("year 2300"))


def test_pandas_without_objects(made: Callable[[str], Path]) -> None:
    """Without `dtype=object` an integer is rounded if another event has no value; `read_json` fails at 65 bits."""
    assert [1, None, 2**53] == values(changed("pandas 3.1.1", ", dtype=object", "")(made("2⁵³+1")))
    code = "import pandas as pd; pd.read_json('events.ndjson', lines=True)"
    run([INSTALLED / "new/bin/python", "-c", code], made("2⁵³+1"))
    with pytest.raises(NotRead, match="too big"):
        run([INSTALLED / "new/bin/python", "-c", code], made("2⁶⁴+1"))


def test_pyarrow_with_a_schema(made: Callable[[str], Path]) -> None:
    """With `unexpected_field_behavior="ignore"` the columns of the schema are read, whatever the others hold."""
    code = only_block(PAGE, "python pyarrow").replace("=schema", '=schema, unexpected_field_behavior="ignore"')
    for case in ("mixed types", "key twice"):
        printed = run([INSTALLED / "new/bin/python", "-c", f"{code}\nprint(events.column_names)"], made(case))
        assert "['event_time']\n" == printed


def test_clickhouse_takes_a_key_of_other_case(tmp_path: Path) -> None:
    """`Plan` is answered with `plan` where an event has only that."""
    store_and_export(tmp_path, [line(0, '1,"plan":"pro"'), line(1, '1,"Plan":"team"')])
    assert PAGE.count("SELECT event_id, Plan") == 1
    found = run(
        [INSTALLED / "new/bin/python", "-c", CLICKHOUSE], tmp_path, "SELECT event_id, Plan FROM file('events.ndjson')"
    )
    assert [["e00000", "pro"], ["e00001", "team"]] == [json.loads(row) for row in found.splitlines()]


def test_sqlite_rounds_text(made: Callable[[str], Path]) -> None:
    """`->>` rounds an integer of more than 64 bits."""
    script = only_block(PAGE, "sh sqlite3").replace("-> 'value'", "->> 'value'")
    last = decoded(run(["sh", "-ec", script], made("2⁶⁴+1")))[-1]["value"]
    assert 2**64 + 1 != last
    assert abs(last - 2**64) < 2**12


def test_sqlite_beside_a_server(tmp_path: Path) -> None:
    """sqlite3 reads a store while a server writes it, and a copy of it as well."""
    store_and_export(tmp_path, LINES["times"])
    with Serving(Tool(tmp_path / "home"), "--store", str(tmp_path / "events.db")):
        assert 3 == len(sqlite(tmp_path, only_block(PAGE, "sh sqlite3")))


@pytest.mark.parametrize("info", ["sh ndjson-store", "sh ndjson-file"])
def test_the_ways_to_the_file(info: str, tmp_path: Path) -> None:
    """The ways to the file give the same events, byte for byte."""
    store_and_export(tmp_path, [*LINES["times"], line(3, "1.50"), line(4, '{"b": 1}')])
    exported = (tmp_path / "events.ndjson").read_bytes()
    assert exported
    tool = Tool(tmp_path / "home")
    if info == "sh ndjson-file":
        tool("record", "raw", stdin=exported)
        (tmp_path / "events.ndjson").unlink()
    by_rillevents(tool, only_block(PAGE, info))
    # A store is read in the order of time.
    assert sorted(exported.splitlines()) == sorted((tmp_path / "events.ndjson").read_bytes().splitlines())


def test_an_array_keeps_the_last_of_two_keys(made: Callable[[str], Path]) -> None:
    """`events --json` keeps the last of two equal keys."""
    folder = made("key twice")
    [event] = Tool(folder / "home").json("events", "--store", str(folder / "events.db"))
    assert 2 == event["value"]


def test_datasette(tmp_path: Path) -> None:
    """Datasette shows a copy of a store."""
    store_and_export(tmp_path, LINES["times"])
    backup, serve = only_block(PAGE, "sh datasette").splitlines()
    by_rillevents(Tool(tmp_path / "home"), backup)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    words = [INSTALLED / "datasette/bin/datasette", *serve.replace("8001", str(port)).split()[1:]]
    process = subprocess.Popen(words, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        url = f"http://127.0.0.1:{port}"
        until(lambda: is_up(url))
        with urlopen(f"{url}/copy/events.json?_shape=array", timeout=60) as answer:
            assert LINES["times"] == [event["body"] for event in json.load(answer)]
        with urlopen(f"{url}/-/settings.json", timeout=60) as answer:
            settings = json.load(answer)
        assert (1000, 1000) == (settings["sql_time_limit_ms"], settings["max_returned_rows"])
    finally:
        process.kill()
        process.wait()


def is_up(url: str) -> bool:
    try:
        urlopen(f"{url}/-/versions.json", timeout=5).close()
    except OSError:
        return False
    return True
