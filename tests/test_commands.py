"""The other commands: status, events, spool, demo, help, and what stands everywhere."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import typer
from support import PACE, Tool, make_store, only

from rillevents import __version__
from rillevents.cli.app import assembled
from rillevents.store.schema import identity_of, put_aside


def commands() -> list[list[str]]:
    """Every command that is no group, by its words."""
    found: list[list[str]] = []

    def walk(command: object, words: list[str]) -> None:
        children = getattr(command, "commands", None)
        if children is None:
            found.append(words)
        for name, child in (children or {}).items():
            walk(child, [*words, name])

    walk(typer.main.get_command(assembled()), [])
    return found


GROUPS = [[], ["record"], ["spool"], ["id"], ["telemetry"], ["config"]]


class TestEverywhere:
    @pytest.mark.slow
    @pytest.mark.parametrize("words", commands(), ids=" ".join)
    def test_help(self, words: list[str], tool: Tool) -> None:
        """Every command has -h and --help with an example, --version and -q."""
        short, long = tool(*words, "-h"), tool(*words, "--help")
        assert (0, short.stdout) == (long.returncode, long.stdout)
        assert "Examples:" in long.stdout
        assert f"rillevents {' '.join(words)}" in long.stdout.partition("Examples:")[2]
        assert "--quiet" in long.stdout
        assert f"rillevents {__version__}\n" == tool(*words, "--version").stdout

    @pytest.mark.parametrize("words", GROUPS, ids=" ".join)
    def test_groups(self, words: list[str], tool: Tool) -> None:
        """A group without a subcommand shows its help on stderr, and is 2."""
        done = tool(*words)
        assert (2, "") == (done.returncode, done.stdout)
        assert "Usage:" in done.stderr
        assert 0 == tool(*words, "--help").returncode

    @pytest.mark.parametrize("words", GROUPS, ids=" ".join)
    def test_summaries(self, words: list[str], tool: Tool) -> None:
        """At 80 columns each command's summary fits its line uncut, and `record` is the first of all commands."""
        shown = tool(*words, "--help", COLUMNS="80").stdout
        lines = shown.partition("Commands:\n")[2].partition("\n\n")[0].splitlines()
        names = [line.split()[0] for line in lines]
        assert {command[len(words)] for command in commands() if command[: len(words)] == words} == {*names}
        assert [] == [line for line in lines if line.endswith("...")]
        assert words or "record" == names[0]

    @pytest.mark.parametrize(
        ("words", "told"),
        [
            (["recrd"], "record"),
            (["spool", "exprt"], "export"),
            (["flush", "--tmeout", "3"], "--timeout"),
            (["help", "recordng"], "recording"),
        ],
        ids=lambda value: " ".join(value) if isinstance(value, list) else "",
    )
    def test_did_you_mean(self, words: list[str], told: str, tool: Tool) -> None:
        """A mistyped command, option or topic is 2, and the message has the right one."""
        done = tool(*words)
        assert 2 == done.returncode
        assert told in done.stderr

    @pytest.mark.parametrize(
        ("line", "told"),
        [
            ("build 3", "run: rillevents record metric build 3"),
            ("build -2.5e3", "run: rillevents record metric build -2.5e3"),
            ("record build 3", "run: rillevents record metric build 3"),
            ("record build", "run: rillevents record behavioral build"),
            ("off", "run: rillevents telemetry off"),
            ("nothing-known now", "run: rillevents --help"),
        ],
    )
    def test_what_was_meant(self, line: str, told: str, tool: Tool) -> None:
        """A name where a command should be is 2, and the message has the command for it; before a number that is `metric`."""
        done = tool(*line.split())
        assert (2, "") == (done.returncode, done.stdout)
        assert told in done.stderr

    @pytest.mark.parametrize(
        ("line", "told"),
        [
            ("serve --port 8787x", "'--port': '8787x' is not a whole number"),
            ("events --limit 2.5", "'--limit': '2.5' is not a whole number"),
            ("events --limit 0", "'--limit': '0' is less than 1"),
            ("flush --timeout soon", "'--timeout': 'soon' is not a duration above 0, such as 30, 30s or 5m"),
        ],
    )
    def test_no_number(self, line: str, told: str, tool: Tool) -> None:
        """A value that is no number, or too small a one, is 2, told with its option and the value as it was written."""
        done = tool(*line.split())
        command = line.split()[0]
        told = f"rillevents: Invalid value for {told}; run: rillevents {command} --help\n"
        assert (2, "", told) == (done.returncode, done.stdout, done.stderr)

    def test_what_reads_values(self, tool: Tool) -> None:
        """Values are read without pydantic, which Typer would import for them."""
        code = "import sys; from rillevents.cli.app import run; run(['events', '--limit', '3', '-a', 'a=b', '--count'])"
        words = [sys.executable, "-c", f"{code}; print('pydantic' in sys.modules)"]
        done = subprocess.run(words, env=tool.environ, check=True, capture_output=True, text=True)
        assert "0\nFalse\n" == done.stdout

    @pytest.mark.slow
    @pytest.mark.parametrize(
        "words",
        [
            ["flush"],
            ["status"],
            ["events"],
            ["events", "--store", "missing"],
            ["stats"],
            ["stats", "--store", "missing"],
            ["spool", "rejected"],
            ["spool", "retry"],
            ["spool", "purge"],
            ["id", "show"],
            ["id", "reset"],
            ["telemetry", "status"],
            ["telemetry", "on"],
            ["telemetry", "off"],
            ["config", "list"],
            ["config", "get", "intake.url"],
            ["config", "get", "nope"],
            ["flush", "--bogus"],
            ["spool", "import", "missing"],
            ["record", "raw", "missing"],
        ],
        ids=" ".join,
    )
    def test_json(self, words: list[str], tool: Tool) -> None:
        """With --json stdout is one JSON document, on failure too."""
        done = tool(*words, "--json")
        assert isinstance(json.loads(done.stdout), (dict, list))


class TestStatus:
    KEYS = {
        "": {"install_id", "install_id_source", "telemetry", "spool", "destination", "ledger", "last_flush"},
        "telemetry": {"enabled", "decided_by"},
        "spool": {"path", "fallback", "events", "bytes", "oldest", "rejected", "corrupt"},
        "destination": {"to", "url", "user", "configured"},
        "ledger": {"since", "recorded", "delivered", "rejected", "truncated", "refused", "dropped"},
    }

    def test_keys(self, tool: Tool) -> None:
        """The document has the keys of the contract."""
        document = tool.json("status")
        for part, expected in self.KEYS.items():
            assert expected == (document[part] if part else document).keys()

    def test_numbers(self, tool: Tool) -> None:
        """What is in the spool is counted, with the time of the oldest."""
        tool("record", "behavioral", "x", "--time", "2026-01-02T00:00:00Z")
        tool("record", "behavioral", "y", "--time", "2026-01-01T00:00:00Z")
        spool = tool.json("status")["spool"]
        assert (2, sum(map(len, tool.lines())), False) == (spool["events"], spool["bytes"], spool["fallback"])
        assert "2026-01-01T00:00:00.000000000Z" == spool["oldest"]

    def test_destination(self, tool: Tool) -> None:
        """The destination is shown without its password, wherever it was configured."""
        found = tool.json("status", RILLEVENTS_INTAKE_URL="https://u:hunter2@i.example/e")["destination"]
        assert {"to": "intake", "url": "https://i.example/e", "user": "u", "configured": True} == found
        assert (
            "file:x"
            == tool.json("status", RILLEVENTS_TO="file:x", RILLEVENTS_INTAKE_URL="https://i.example")["destination"][
                "to"
            ]
        )

    def test_human(self, tool: Tool) -> None:
        """The page for people says what there is and what to type next."""
        page = tool("status").stdout
        assert "rillevents config set intake.url URL" in page
        assert "default" in page


FILTERS = [
    ([], ["login-start", "seconds", "backup"]),
    (["--type", "metric"], ["seconds"]),
    (["--name", "login-*"], ["login-start"]),
    (["--name", "login"], []),
    (["--since", "2026-01-02T00:00:00Z"], ["seconds", "backup"]),
    (["--until", "2026-01-02T00:00:00Z"], ["login-start"]),
    (["--since", "1h"], []),
    (["-a", "plan=pro"], ["login-start"]),
    (["-a", "n:=1"], ["login-start"]),
    (["-a", "n=1"], []),
    (["--limit", "2"], ["seconds", "backup"]),
]


class TestEvents:
    @pytest.fixture
    def filled(self, tool: Tool) -> Tool:
        """A spool with three events of three kinds."""
        tool("record", "behavioral", "login-start", "-a", "plan=pro", "-a", "n:=1", "--time", "2026-01-01T00:00:00Z")
        tool("record", "metric", "seconds", "2.5", "--time", "2026-01-02T00:00:00Z")
        tool("record", "log", "backup", "done", "--time", "2026-01-03T00:00:00Z")
        return tool

    @pytest.mark.slow
    @pytest.mark.parametrize(
        ("words", "names"), FILTERS, ids=lambda value: " ".join(value) if isinstance(value, list) else ""
    )
    def test_filters(self, words: list[str], names: list[str], filled: Tool) -> None:
        """Each filter leaves what it says, in JSON, in NDJSON, in the table and in the count."""
        assert names == [event["event_name"] for event in filled.json("events", *words)]
        assert names == [
            json.loads(line)["event_name"] for line in filled("events", *words, "--ndjson").stdout.splitlines()
        ]
        assert f"{len(names)}\n" == filled("events", *words, "--count").stdout
        assert all(name in filled("events", *words).stdout for name in names)

    @pytest.mark.slow
    @pytest.mark.parametrize(
        ("words", "names"), FILTERS, ids=lambda value: " ".join(value) if isinstance(value, list) else ""
    )
    def test_of_a_store(self, words: list[str], names: list[str], filled: Tool) -> None:
        """Of a store with the same events each filter leaves the same, in every form."""
        store = str(make_store(filled.home / "state" / "events.db", filled.lines()))
        for form in ([], ["--ndjson"], ["--count"]):
            expected = filled("events", *words, *form)
            assert names or not form or expected.stdout in ("", "0\n")
            assert expected.stdout == filled("events", "--store", store, *words, *form).stdout
        assert names == [event["event_name"] for event in filled.json("events", "--store", store, *words)]
        assert [] == [name for name in os.listdir(filled.home / "state") if name != "events.db"]

    def test_ndjson_is_what_is_stored(self, filled: Tool) -> None:
        """--ndjson prints the lines byte for byte."""
        assert (
            b"".join(filled.lines()).decode() == filled("events", "--ndjson").stdout == filled("spool", "export").stdout
        )

    def test_bad_time(self, tool: Tool) -> None:
        """A time that is none is 2, and says how to write one."""
        assert "7d" in tool("events", "--since", "soon").stderr

    def test_follow(self, tool: Tool) -> None:
        """-f shows what is recorded while it runs, each event once, flushes under way or not."""
        tool("record", "behavioral", "before")
        running = subprocess.Popen(
            tool.command("events", "-f", "--ndjson"), env=tool.environ, stdout=subprocess.PIPE, cwd=tool.home.parent
        )
        assert running.stdout
        names = [json.loads(running.stdout.readline())["event_name"]]
        tool("record", "behavioral", "second")
        names.append(json.loads(running.stdout.readline())["event_name"])
        tool("flush", "--to", f"file:{tool.home}/out.ndjson")
        tool("record", "behavioral", "third")
        names.append(json.loads(running.stdout.readline())["event_name"])
        running.terminate()
        assert 143 == running.wait(10)
        running.stdout.close()
        assert ["before", "second", "third"] == names

    def test_follow_a_store(self, tool: Tool) -> None:
        """-f shows what is in a store and what comes, each event once, also where the server has begun a new file."""
        tool("record", "behavioral", "x")
        [line] = tool.lines()
        path = make_store(tool.home / "events.db", [line])
        running = subprocess.Popen(
            tool.command("events", "-f", "--ndjson", "--store", str(path)), env=tool.environ, stdout=subprocess.PIPE
        )
        assert running.stdout
        seen = [running.stdout.readline()]
        for event_id in ("second", "third"):
            make_store(path, [json.dumps(json.loads(line) | {"event_id": event_id}).encode()])
            seen.append(running.stdout.readline())
            put_aside(str(path), identity_of(str(path)))
        running.terminate()
        assert 143 == running.wait(10)
        running.stdout.close()
        assert line == seen[0]
        assert ["second", "third"] == [json.loads(found)["event_id"] for found in seen[1:]]

    def test_what_lies_in_the_default_store(self, filled: Tool) -> None:
        """Where the spool is empty, the default store and what it holds are named, with what to type; an empty one is not."""
        lines = filled.lines()
        filled("spool", "purge")
        store = make_store(filled.home / "events.db")
        assert store == Path(filled.paths.default_store)
        assert "rillevents: no matching events in the spool\n" == filled("events").stderr
        make_store(store, lines)
        hint = f"the store {store} holds 3 events, run: rillevents {{}} --store {store}\n"
        for command in ("events", "stats"):
            assert f"rillevents: no matching events in the spool; {hint.format(command)}" == filled(command).stderr
        assert "backup" in filled("events", "--store", str(store)).stdout

    @pytest.mark.parametrize(
        ("words", "told"),
        [
            (["--name", "logn-start"], "; among the newest events, --name can be login-start"),
            (["--name", "zzz*"], "; among the newest events, --name can be login-start, seconds, backup"),
            (["--type", "metrik"], "; among the newest events, --type can be metric"),
            (["--type", "metric", "--name", "backup"], ""),
            (["--since", "2999-01-01T00:00:00Z"], ""),
        ],
    )
    def test_a_name_that_matches_nothing(self, words: list[str], told: str, filled: Tool) -> None:
        """A name or a type that no event has is told with those that there are; what merely does not go together is not."""
        for command in ("events", "stats"):
            done = filled(command, *words)
            assert (0, f"rillevents: no matching events in the spool{told}\n") == (done.returncode, done.stderr)

    def test_no_such_events_in_a_store(self, filled: Tool) -> None:
        """Where a store has none, that store is named, and no other place."""
        store = make_store(filled.home / "mine.db")
        assert f"rillevents: no matching events in {store}\n" == filled("events", "--store", str(store)).stderr

    def test_no_store(self, tool: Tool) -> None:
        """A store that is not there, or is none, is 73 at once, and nothing is made."""
        tool.home.mkdir()
        (tool.home / "none").write_text("no store")
        for name in ("missing", "none"):
            for form in (["--count"], ["--ndjson"], ["-f"], []):
                done = tool("events", "--store", str(tool.home / name), *form)
                assert (73, "") == (done.returncode, done.stdout)
                assert "rillevents serve --store" in done.stderr
        assert ["none"] == os.listdir(tool.home)

    def test_reader_gone(self, filled: Tool) -> None:
        """`events --ndjson | head` ends without a complaint."""
        done = subprocess.run(
            ["bash", "-c", '"$@" | head -1', "sh", *filled.command("events", "--ndjson")],
            env=filled.environ,
            capture_output=True,
            check=True,
        )
        assert b"" == done.stderr


class TestSpool:
    def test_path(self, tool: Tool) -> None:
        """The spool's path is printed as it is, and follows RILLEVENTS_SPOOL_DIR."""
        assert f"{tool.home}/spool\n" == tool("spool", "path").stdout
        assert "/x/y\n" == tool("spool", "path", RILLEVENTS_SPOOL_DIR="/x/y").stdout

    def test_purge(self, tool: Tool) -> None:
        """`spool purge` deletes everything and counts it."""
        tool("record", "behavioral", "x")
        assert {"purged": 1} == tool.json("spool", "purge")
        ledger = tool.json("status")["ledger"]
        assert (1, {"purged": 1}) == (ledger["recorded"], ledger["dropped"])

    def test_empty(self, tool: Tool) -> None:
        """On an empty spool every command says so, and returns 0."""
        for words in (["export"], ["rejected"], ["retry"], ["purge"]):
            assert 0 == tool("spool", *words).returncode


class TestDemo:
    @pytest.mark.parametrize(
        "environ",
        [{}, {"DO_NOT_TRACK": "1"}, {"RILLEVENTS_INTAKE_URL": "https://i.example", "RILLEVENTS_QUIET": "1"}],
        ids=["plain", "off", "configured"],
    )
    def test_demo(self, environ: dict[str, str], tool: Tool) -> None:
        """The demo shows what it records and what arrives within ten seconds, opted out or not, and leaves nothing behind."""
        started = time.monotonic()
        done = tool("demo", TMPDIR=str(tool.home.parent), **environ)
        assert time.monotonic() - started < 10 * PACE
        assert 0 == done.returncode, done.stderr
        assert "6 events" in done.stdout
        assert "rillevents flush" in done.stdout
        assert ("DO_NOT_TRACK" in environ) == ("ignores that" in done.stdout)
        assert ["user"] == [path.name for path in tool.home.parent.iterdir()]
        assert [] == list((tool.home.parent / "user").iterdir())


class TestManual:
    @pytest.mark.slow
    def test_topics(self, tool: Tool) -> None:
        """`help` lists the pages, and `help TOPIC` prints each."""
        listed = tool("help").stdout
        pages = sorted(path.stem for path in (Path(__file__).parent.parent / "rillevents" / "docs").glob("*.md"))
        assert pages
        for page in pages:
            assert page in listed
            assert tool("help", page).stdout.startswith("# ")

    def test_completions(self, tool: Tool) -> None:
        """An unknown shell is 2, and the known ones are named."""
        assert "fish" in tool("completions", "tcsh").stderr
        assert only([tool("completions", "tcsh").returncode]) == 2


class TestSeveralPlaces:
    def test_off_with_an_unusable_spool(self, tool: Tool) -> None:
        """Opted out, a spool that cannot be used is nobody's problem."""
        tool.home.mkdir()
        (tool.home / "spool").symlink_to(tool.home.parent)
        assert 0 == tool("flush", DO_NOT_TRACK="1").returncode
        assert 0 == tool("status", DO_NOT_TRACK="1").returncode
        assert 73 == tool("flush", "--to", f"file:{tool.home}/x").returncode
        assert ["user"] == sorted(path.name for path in tool.home.parent.iterdir() if path != tool.home)

    @pytest.mark.slow
    def test_interrupted_json(self, tool: Tool) -> None:
        """Terminated or interrupted, `flush --json` still prints one document."""
        import signal
        import threading

        from rillevents.testing import FakeIntake

        tool("record", "behavioral", "x")
        for number, code in ((signal.SIGTERM, 143), (signal.SIGINT, 130)):
            with FakeIntake() as intake:
                reached, release = threading.Event(), threading.Event()
                intake.respond = lambda request, reached=reached, release=release: (
                    reached.set(),
                    release.wait(20),
                    503,
                )[2]
                running = subprocess.Popen(
                    tool.command("flush", "--json"),
                    env=tool.environ | {"RILLEVENTS_INTAKE_URL": intake.url},
                    stdout=subprocess.PIPE,
                    cwd=tool.home,
                )
                assert reached.wait(20)
                running.send_signal(number)
                printed, _ = running.communicate(timeout=20 * PACE)
                release.set()
            assert (code, code) == (running.returncode, json.loads(printed)["exit_code"])
        assert 1 == len(tool.events())


def test_numbers_that_no_float_holds(tool: Tool) -> None:
    """Events with numbers beyond a float's range, or of thousands of digits, are shown, as JSON that every reader takes."""
    tool("record", "log", "x")
    event = '{"event_id":"i","event_time":"2026-11-23T10:00:00Z","event_type":"t","event_name":"n","a":-1e999,"b":%s}'
    (tool.spool / "slot-0.ndjson").write_text(event % ("9" * 5000) + "\n")
    found = only(tool.json("events"))
    assert [-sys.float_info.max, sys.float_info.max] == [found["a"], found["b"]]
    assert 0 == tool("status").returncode
    assert "Infinity" not in tool("events", "--json").stdout
