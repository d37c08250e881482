"""SQL on events: every attribute a column, the manual's recipes, and a guard that nothing gets through."""

from __future__ import annotations

import json
import os
import re
import signal
import sqlite3
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from support import Tool, make_store, snapshot

from rillevents.errors import UsageError
from rillevents.store.statement import prepared

DOCS = Path(__file__).parents[1] / "rillevents" / "docs"
ENDLESS = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c)"


def event(name: str, time: str, number: int = 0, **more: Any) -> bytes:
    """Return an event as its line."""
    fields = {"event_id": f"{name}-{time}-{number}", "event_time": time, "event_type": "t", "event_name": name}
    return json.dumps(fields | more).encode()


EVENTS = [
    event("deploy-success", "2026-11-02T10:00:00Z", service_name="api", install_id="a"),
    event("deploy-success", "2026-11-02T11:00:00Z", service_name="web", install_id="a"),
    event("deploy-success", "2026-11-02T12:00:00Z", service_name="web", install_id="b"),
    event("deploy-success", "2026-11-03T10:00:00Z", service_name="web", install_id="a"),
    *(
        event("build-seconds", f"2026-11-03T11:00:0{n}Z", event_type="metric", service_name="web", value=n * 10)
        for n in range(5)
    ),
    event("build-seconds", "2026-11-03T12:00:00Z", event_type="metric", service_name="api", value=7),
    event("login-start", "2026-11-10T10:00:00Z", install_id="a"),
    event("login-success", "2026-11-10T10:09:00Z", install_id="a"),
    event("login-start", "2026-11-10T10:00:00Z", 1, install_id="b"),
    event("login-success", "2026-11-10T10:11:00Z", install_id="b"),
    event("login-start", "2026-11-10T10:00:00Z", 2, install_id="c"),
    event("odd", "2026-11-10T12:00:00Z", **{"a.b": 1, "it's": True, "o": {"x": [1]}, "body": "mine", "null": None}),
]
RECIPES = {
    "deploys": [["2026-11-02", "api", 1], ["2026-11-02", "web", 2], ["2026-11-03", "web", 1]],
    "p95": [["api", 1, 7], ["web", 5, 38.0]],
    "installs": [["2026-11-02", 2], ["2026-11-10", 1]],
    "funnel": [[3, 1]],
    "retention": [["2026-10-29", 0, 2], ["2026-10-29", 1, 2], ["2026-11-05", 0, 1]],
}


@pytest.fixture
def store(tool: Tool) -> str:
    """A store with a few events."""
    return str(make_store(tool.home / "events.db", EVENTS))


def rows(tool: Tool, *words: str) -> list[list[Any]]:
    """Return the rows of a query."""
    seen = tool("query", *words, "--json")
    assert 0 == seen.returncode, seen.stderr
    return [[*row.values()] for row in json.loads(seen.stdout)]


class TestColumns:
    @pytest.mark.parametrize(
        ("sql", "expected"),
        [
            ("SELECT service_name, COUNT(*) FROM events WHERE value > 5 GROUP BY 1", [["api", 1], ["web", 4]]),
            ('SELECT "a.b", "it\'s", o, "null" FROM events WHERE event_name = \'odd\'', [[1, 1, '{"x":[1]}', None]]),
            ("SELECT e.\"a.b\" FROM events e WHERE e.event_name = 'odd'", [[1]]),
            ("SELECT json_extract(body, '$.body') FROM events WHERE event_name = 'odd'", [["mine"]]),
            ('SELECT COUNT(*) FROM events WHERE event_name = "odd"', [[0]]),
            ("WITH d AS (SELECT service_name AS s FROM events) SELECT COUNT(s) FROM d", [[10]]),
            (
                "with recursive c(x) as (select 1 union all select x + 1 from c where x < 3) select x from c",
                [[1], [2], [3]],
            ),
            ("/* a comment */ SELECT 1; ", [[1]]),
            ("VALUES (1, 'a;b')", [[1, "a;b"]]),
            ("SELECT 9e999, x'00ff'", [[1.7976931348623157e308, "X'00FF'"]]),
            ("SELECT 1 AS a, 2 AS a", [[1, 2]]),
        ],
    )
    def test_spool_and_store(self, sql: str, expected: list[Any], tool: Tool, store: str) -> None:
        """Every attribute is a column by its name, on a store and on the spool alike; a double-quoted name is never text."""
        tool("record", "raw", stdin=b"\n".join(EVENTS))
        assert expected == rows(tool, "--store", store, sql) == rows(tool, sql)

    def test_star(self, tool: Tool, store: str) -> None:
        """`SELECT *` is the six columns, also where the statement uses attributes."""
        six = ["event_id", "event_time", "event_us", "event_type", "event_name", "body"]
        for sql in (
            "SELECT * FROM events WHERE value = 40",
            "SELECT * FROM (SELECT * FROM events WHERE value = 40 LIMIT 1)",
        ):
            [row] = json.loads(tool("query", "--store", store, "--json", sql).stdout)
            assert six == [*row]
            assert 40 == json.loads(row["body"])["value"]

    def test_names_that_sql_does_not_tell_apart(self, tool: Tool, store: str) -> None:
        """Two attributes that differ in case only are refused, with what to write."""
        seen = tool("query", "--store", store, "SELECT plan, Plan FROM events")
        assert (2, True) == (seen.returncode, "body ->> '$." in seen.stderr)

    def test_forms(self, tool: Tool, store: str) -> None:
        """Text fits the terminal, CSV is exact, and a failure with --json is one document."""
        sql = "SELECT event_id, value, body FROM events WHERE value IS NOT NULL ORDER BY value"
        seen = tool("query", "--store", store, sql, COLUMNS="60").stdout.splitlines()
        assert max(map(len, seen)) <= 60
        assert 7 == len(seen)
        assert (
            "event_name,n\nodd,1\n"
            == tool(
                "query",
                "--store",
                store,
                "--csv",
                "SELECT event_name, COUNT(*) AS n FROM events WHERE event_name = 'odd'",
            ).stdout
        )
        assert 2 == json.loads(tool("query", "--store", store, "--json", "SELEC").stdout)["exit_code"]


def test_json_as_rows(tool: Tool, store: str) -> None:
    """What is in an event can be asked for as rows, by SQLite's functions for JSON."""
    sql = "SELECT j.key, COUNT(*) FROM events, json_each(body) AS j WHERE j.key = 'event_id' GROUP BY 1"
    [[total]] = rows(tool, "--store", store, "SELECT COUNT(*) FROM events")
    assert [["event_id", total]] == rows(tool, "--store", store, sql)
    assert [["$.a[1]"]] == rows(tool, "--store", store, "SELECT fullkey FROM json_tree('{\"a\":[1,2]}') WHERE atom = 2")


@pytest.mark.parametrize("name", RECIPES)
def test_recipes(name: str, tool: Tool, store: str) -> None:
    """Each recipe of the manual answers its question."""
    [sql] = re.findall(rf"^```sql {name}\n(.*?)^```$", (DOCS / "query.md").read_text(), re.M | re.S)
    found = rows(tool, "--store", store, sql)
    assert [
        [pytest.approx(cell) if isinstance(cell, float) else cell for cell in row] for row in RECIPES[name]
    ] == found


ATTACKS = {
    "write": ("DELETE FROM events", 2),
    "write in a CTE": ("WITH d AS (SELECT 1) INSERT INTO events(event_id) SELECT 1", 2),
    "returning": ("WITH d AS (SELECT 1) DELETE FROM events RETURNING *", 2),
    "create": ("CREATE TABLE x(a)", 2),
    "attach": ("ATTACH 'other.db' AS o", 2),
    "vacuum into": ("VACUUM INTO 'copy.db'", 2),
    "pragma": ("PRAGMA query_only=OFF", 2),
    "pragma as a table": ("SELECT * FROM pragma_journal_mode", 2),
    "pragma table-valued": ("SELECT * FROM pragma_table_info('events')", 2),
    "second statement": ("SELECT 1; DELETE FROM events", 2),
    "second behind a comment": ("SELECT 1 /* ; */ ; ATTACH 'x.db' AS x", 2),
    "extension": ("SELECT load_extension('evil.so')", 2),
    "extension, in capitals": ("SELECT LOAD_EXTENSION('evil.so')", 2),
    "file function": ("SELECT writefile('out', 'x')", 2),
    "tokenizer": ("SELECT fts3_tokenizer('simple', x'00')", 2),
    "tokenizer that is shown": ("SELECT fts3_tokenizer('simple')", 2),
    "tokenizer as a table": ("SELECT * FROM fts3tokenize('simple', 'a')", 2),
    "pages as a table": ("SELECT * FROM dbstat", 2),
    "explain": ("EXPLAIN SELECT 1", 2),
    "nothing": ("", 2),
    "not closed": ("SELECT 'a", 2),
    "zero": ("SELECT 1 \0", 2),
    "huge blob": ("SELECT length(zeroblob(1000000000))", 73),
    "huge text": ("SELECT length(printf('%.*c', 900000000, 'x'))", 73),
    "huge text by doubling": ("SELECT replace(hex(zeroblob(10000000)), '0', 'xxxxxxxxxxxxxxxxxxxx')", 73),
    "huge group": (f"{ENDLESS} SELECT group_concat(x) FROM (SELECT x FROM c LIMIT 9999999)", 73),
    "much memory": (
        f"{ENDLESS} SELECT count(*) FROM (SELECT json_group_array(hex(randomblob(900000))) FROM (SELECT x FROM c LIMIT 90))", 73
    ),
    "endless recursion": (f"{ENDLESS} SELECT count(*) FROM c", 75),
    "endless rows": (f"{ENDLESS} SELECT x FROM c, events", 75),
    "endless join": ("SELECT count(*) FROM events a, events b, events c, events d, events e, events f, events g, events h", 75),
}  # fmt: skip


class TestGuard:
    @pytest.mark.parametrize("name", ATTACKS)
    def test_attacks(self, name: str, tool: Tool, store: str) -> None:
        """Nothing is written, attached, loaded or exhausted: each attack is refused with its code, and no file changes."""
        sql, code = ATTACKS[name]
        if "\0" in sql:
            with pytest.raises(UsageError):
                prepared(sql, lambda statement: "")
            return
        before = snapshot(tool.home.parent)
        seen = tool("query", "--store", store, "--timeout", "1", sql, TMPDIR=str(tool.home.parent / "tmp"))
        # What takes long before it takes much is stopped by either limit.
        assert seen.returncode in ((code,) if code != 73 else (73, 75)), seen.stderr
        assert "" == seen.stdout
        assert before == snapshot(tool.home.parent)

    def test_memory(self, tool: Tool, store: str) -> None:
        """A sort of more than fits in memory goes to a temporary file, in a folder that is removed."""
        folder = tool.home.parent / "tmp"
        folder.mkdir()
        sql = f"{ENDLESS} SELECT count(*) AS n FROM (SELECT hex(randomblob(500)) AS h FROM c LIMIT 100000) ORDER BY 1"
        assert [[100000]] == rows(tool, "--store", store, sql)
        assert [] == [*folder.iterdir()]

    def test_interrupted(self, tool: Tool, store: str) -> None:
        """Ctrl-C stops a statement at work, with 130 and nothing left behind."""
        folder = tool.home.parent / "tmp"
        folder.mkdir()
        words = tool.command("query", "--store", store, f"{ENDLESS} SELECT count(*) FROM c")
        environ = tool.environ | {"TMPDIR": str(folder)}
        process = subprocess.Popen(words, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        while not any(folder.iterdir()):
            assert process.poll() is None
            time.sleep(0.01)
        # Until it works, Python itself would handle the signal.
        time.sleep(0.2)
        process.send_signal(signal.SIGINT)
        assert b"" == process.communicate(timeout=30)[0]
        assert 130 == process.returncode
        assert [] == [*folder.iterdir()]

    def test_a_spool_that_is_too_large(self, tool: Tool) -> None:
        """A spool over the bound is refused with 73 and what to do instead; nothing is changed."""
        tool("record", "raw", stdin=b"\n".join(EVENTS))
        code = (
            "import sys; import rillevents.store.sql as s; real = s.Limits;"
            "s.Limits = lambda **given: real(spool=1000, **given);"
            "from rillevents.cli import main; sys.argv[1:] = ['query', 'SELECT 1']; sys.exit(main())"
        )
        seen = subprocess.run(
            [tool.command()[0], "-c", code], env=tool.environ, capture_output=True, text=True, check=False
        )  # fmt: skip
        assert 73 == seen.returncode, seen.stderr
        assert "rillevents spool export" in seen.stderr

    def test_a_server_at_work(self, tool: Tool, store: str) -> None:
        """A query leaves a writer undisturbed, and sees what it has committed."""
        writer = sqlite3.connect(store, isolation_level=None)
        writer.execute("PRAGMA journal_mode=WAL")
        writer.execute("UPDATE events SET event_name = 'other' WHERE event_name = 'odd'")
        assert [[1]] == rows(tool, "--store", store, "SELECT COUNT(*) FROM events WHERE event_name = 'other'")
        assert (0, 0) == writer.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[:2]
        writer.close()
        assert not os.path.exists(f"{store}-wal")
