"""Configuration, consent and identity: what becomes of them when processes die, files are damaged, or secrets could be seen."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import socket
import stat
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from support import Tool, need, only

from rillevents import Client, IntakeSink
from rillevents.delivery.flush import exporter_for
from rillevents.delivery.url import IntakeSettings
from rillevents.errors import ConfigError, RilleventsError
from rillevents.local import Paths, config, consent, install_id
from rillevents.testing import FakeIntake

pytestmark = pytest.mark.unmeasured

UUID4 = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}\n")
CONFIG = """# ours
[intake]
url = "https://intake.example.com/events/default"
user = "me"
password = "hunter2"

[attributes]
service_name = "nightly ☃"
replicas = 3
when = 2026-11-23T10:00:00Z
nested = { a = [1, 2.5, true], b = "x" }

[filter]
drop_types = ["metric"]
drop_names = ["debug-*"]
drop_attributes = ["path"]

[spool]
max_bytes = "64MiB"
durable = true

[flush]
to = "intake"
batch_events = 500
compression = "gzip"
stall_timeout = 10
"""


def paths_of(home: Path) -> Paths:
    return Paths({"RILLEVENTS_HOME": str(home)})


def record(home: Path) -> tuple[str | None, list[str]]:
    """Record by the library, and return the event's ID and what was said about it."""
    told: list[str] = []
    client = Client(Client.from_config(environ={"RILLEVENTS_HOME": str(home)}).sink, warn=told.append)
    event_id = client.record("behavioral", "x")
    client.close()
    return event_id, told


class TestFirstRuns:
    @pytest.mark.slow
    def test_hundred_at_once(self, tool: Tool) -> None:
        """A hundred first runs at once, half of them commands and half programs, agree on one install ID, and it stays."""
        script = "from rillevents import Client; Client.from_config(on_error='raise').record('t', 'n')"
        kinds = [tool.command("record", "event", "t", "n", "--on-error", "fail"), [sys.executable, "-c", script]]
        running = [subprocess.Popen(words, env=tool.environ, cwd=tool.home.parent) for words in 50 * kinds]
        assert [0] * 100 == [process.wait(60) for process in running]
        found = {event["install_id"] for event in tool.events()}
        assert 100 == len(tool.events())
        assert UUID4.fullmatch((tool.home / "install_id").read_text())
        assert f"{only(list(found))}\n" == (tool.home / "install_id").read_text()


# What a process does with a file, until it says that it is done.
CHANGES = {
    "id-reset": "from rillevents.local import install_id; install_id.reset(paths)",
    "telemetry-off": "from rillevents.local import consent; consent.save(paths, False)",
    "telemetry-on": "from rillevents.local import consent; consent.save(paths, True)",
}


def changing(what: str) -> list[str]:
    script = f"from rillevents.local import Paths; import os; paths = Paths(os.environ); {CHANGES[what]}; print('done', flush=True)"
    return [sys.executable, "-c", script]


def calls_on(log: Path, folder: Path) -> list[tuple[str, int]]:
    """Return the system calls of a trace that were about a folder: name, and the how-manieth of that name it was."""
    counts: dict[str, int] = {}
    found = []
    for text in log.read_text(errors="replace").splitlines():
        called = re.match(r"(\w+)\(", text)
        if called:
            counts[called[1]] = counts.get(called[1], 0) + 1
            if str(folder) in text:
                found.append((called[1], counts[called[1]]))
    return found


def killed_everywhere(tool: Tool, what: str, restore: Callable[[], object]) -> Iterator[bool]:
    """Kill a change at each of its system calls on the home folder in turn, and yield whether it had said that it was done."""
    strace = need("strace")
    environ = {key: value for key, value in tool.environ.items() if "COVERAGE" not in key}
    environ["PYTHONDONTWRITEBYTECODE"] = "1"
    log = tool.home.parent / "trace"
    subprocess.run([strace, "-y", "-o", log, *changing(what)], env=environ, check=True, capture_output=True)
    calls = calls_on(log, tool.home)
    assert len(calls) > 6
    kills = 0
    for name, number in calls:
        restore()
        words = [strace, "-o", "/dev/null", "-e", f"trace={name}", "-e", f"inject={name}:signal=KILL:when={number}"]
        done = subprocess.run([*words, *changing(what)], env=environ, capture_output=True, check=False)
        kills += done.returncode == -9
        yield done.stdout == b"done\n"
    assert kills > len(calls) / 2


class TestKilled:
    def test_id_reset(self, tool: Tool) -> None:
        """Killed at any system call of `id reset` the file holds the old ID or a new one, and the next reset works."""
        file, old = tool.home / "install_id", install_id.read_or_create(tool.paths).value
        seen = set()
        for _ in killed_everywhere(tool, "id-reset", lambda: file.write_text(f"{old}\n")):
            assert UUID4.fullmatch(file.read_text())
            seen.add(file.read_text() == f"{old}\n")
        assert {True, False} >= seen
        assert install_id.reset(tool.paths) != old

    @pytest.mark.parametrize(("what", "before"), [("telemetry-off", "on\n"), ("telemetry-on", "off\n")])
    def test_telemetry(self, what: str, before: str, tool: Tool) -> None:
        """Killed at any system call of `telemetry off` or `on` the decision is the old one or the new one, whole."""
        tool.home.mkdir()
        file = tool.home / "telemetry"
        for said in killed_everywhere(tool, what, lambda: file.write_text(before)):
            assert file.read_text() in ("on\n", "off\n")
            assert not said or file.read_text() != before

    def test_off_that_was_acknowledged(self, tool: Tool) -> None:
        """Once `telemetry off` has returned, killing whatever runs next does not turn telemetry on."""
        assert 0 == tool("telemetry", "off").returncode
        for _ in killed_everywhere(tool, "telemetry-off", lambda: None):
            assert not consent.decide(tool.paths).enabled
            assert "off\n" == (tool.home / "telemetry").read_text()

    def test_made_private(self, tool: Tool) -> None:
        """What is written anew is a file of mode 0600 from its first moment, synced before it takes the old one's name."""
        strace = need("strace")
        tool.home.mkdir(mode=0o700)
        log = tool.home.parent / "trace"
        script = "from rillevents.local import Paths; import os; from rillevents.local.config_file import change; change(Paths(os.environ), 'intake.user', 'u')"
        subprocess.run(
            [
                strace,
                "-y",
                "-o",
                log,
                "-e",
                "trace=openat,fsync,rename,renameat,renameat2",
                sys.executable,
                "-c",
                script,
            ],
            env={key: value for key, value in tool.environ.items() if "COVERAGE" not in key},
            check=True,
        )
        made = [text for text in log.read_text().splitlines() if "config.toml." in text]
        assert ["openat", "fsync", "rename"] == [text.partition("(")[0] for text in made]
        assert "O_CREAT|O_EXCL" in made[0]
        assert ", 0600)" in made[0]


def damaged() -> dict[str, bytes]:
    """Return broken and odd files in place of config.toml."""
    whole = CONFIG.encode()
    huge = b"[attributes]\n" + b"".join(b'k%07d = "%s"\n' % (n, b"v" * 60) for n in range(130_000))
    found = {
        "empty": b"",
        "NUL": b"\0" * 4096,
        "NUL-at-its-end": whole + b"\0" * 100,
        "not-UTF-8": whole.replace("☃".encode(), b"\xff"),
        "UTF-16": CONFIG.encode("utf-16"),
        "BOM": b"\xef\xbb\xbf" + whole,
        "CRLF": whole.replace(b"\n", b"\r\n"),
        "huge": huge,
        "deep-lists": b"[attributes]\nx = " + b"[" * 5000 + b"]" * 5000,
        "deep-tables": b"[attributes]\nx = " + b"{a=" * 3000 + b"1" + b"}" * 3000,
        "deep-key": b"[attributes]\nx" + b".a" * 1500 + b" = 1",
        "large-number": b"[attributes]\nx = " + b"9" * 5000,
        "no-number": b"[attributes]\nx = nan\ny = inf",
        "twice": whole + b"\n[spool]\n",
        "binary": bytes(range(256)) * 100,
        "sections-of-the-wrong-kind": b"attributes = 3\nfilter = []\nspool = 'x'\nflush = true\nintake = 1.5",
        "sections-that-are-lists": b"[[attributes]]\nk = 1\n[[filter]]\n[[spool]]\n",
        "unknown": b"[future]\nx = 1\n[spool]\nformat = 9\n[flush]\nto = 'intake'\nvia = 'pigeon'\n",
    }
    values = {"text": b"'x'", "number": b"3", "list": b"[1]", "table": b"{}", "switch": b"true", "time": b"10:00:00"}
    for key in sorted({key for key in config_keys() if not key.startswith("attributes.")}):
        for kind, value in values.items():
            section, _, name = key.partition(".")
            found[f"{key}-{kind}"] = b"[%s]\n%s = %s\n" % (section.encode(), name.encode(), value)
    return found


def config_keys() -> tuple[str, ...]:
    from rillevents.local.config_file import KEYS

    return KEYS


def load_or_error(home: Path) -> str:
    """Read config.toml as `flush` does, and return the error that it gives, empty for none."""
    try:
        config.load(paths_of(home))
    except ConfigError as error:
        return str(error)
    return ""


class TestDamaged:
    @pytest.mark.parametrize("content", damaged().values(), ids=damaged())
    def test_config(self, content: bytes, tmp_path: Path) -> None:
        """Whatever is in config.toml: an event is stored, reading it works or names the file, and off stays off."""
        (tmp_path / "config.toml").write_bytes(content)
        told = load_or_error(tmp_path)
        assert not told or str(tmp_path / "config.toml") in told
        for _ in range(2):  # The second time from the cache, where there is one.
            found = config.load_for_recording(paths_of(tmp_path))
            assert (bool(told), []) == (bool(found.warnings), found.warnings[1:])
            event_id, warnings = record(tmp_path)
            assert event_id or found.max_bytes < 100, warnings
        (tmp_path / "telemetry").write_text("off\n")
        assert record(tmp_path) == (None, [])

    @pytest.mark.parametrize("name", ["huge", "NUL", "deep-tables", "not-UTF-8", "spool.max_bytes-list"])
    def test_commands(self, name: str, tool: Tool) -> None:
        """With a broken config.toml `record` stores and returns 0 with a line, `flush` is 78 and names the file, no traceback."""
        tool.home.mkdir(mode=0o700)
        (tool.home / "config.toml").write_bytes(damaged()[name])
        recorded, flushed = tool("record", "behavioral", "x"), tool("flush", "--to", "file:out")
        assert (0, "", 1, 1) == (recorded.returncode, recorded.stdout, recorded.stderr.count("\n"), len(tool.events()))
        assert (78, 1) == (flushed.returncode, flushed.stderr.count("\n"))
        assert str(tool.home / "config.toml") in flushed.stderr
        assert "Traceback" not in recorded.stderr + flushed.stderr

    def test_cut_off_anywhere(self, tmp_path: Path) -> None:
        """A config.toml that is cut off at any byte is read as far as it goes, or refused by its name; nothing else comes of it."""
        whole = CONFIG.encode()
        for cut in range(len(whole)):
            (tmp_path / "config.toml").write_bytes(whole[:cut])
            told = load_or_error(tmp_path)
            assert not told or str(tmp_path / "config.toml") in told, cut
            assert "hunter2" not in told
            assert bool(told) == bool(config.load_for_recording(paths_of(tmp_path), cache=False).warnings), cut

    def test_flipped_bits(self, tmp_path: Path) -> None:
        """A config.toml with flipped bits is read or refused by its name, and recording goes on."""
        whole, chance = CONFIG.encode(), random.Random(4)
        for number in range(800):
            at = chance.randrange(len(whole))
            (tmp_path / "config.toml").write_bytes(
                whole[:at] + bytes([whole[at] ^ 1 << chance.randrange(8)]) + whole[at + 1 :]
            )
            told = load_or_error(tmp_path)
            assert not told or str(tmp_path / "config.toml") in told
            if number % 40 == 0:
                found = config.load_for_recording(paths_of(tmp_path), cache=False)
                assert bool(told) == bool(found.warnings)

    def test_flipped_bits_in_the_cache(self, tmp_path: Path) -> None:
        """Whatever bit of the parsed configuration is flipped, and wherever it is cut off, it is read or made anew."""
        (tmp_path / "config.toml").write_text(
            '[attributes]\nservice = "ci"\n[filter]\ndrop_names = ["a-*"]\n[spool]\nmax_bytes = 1048576\n'
        )
        config.load_for_recording(paths_of(tmp_path))
        cache = tmp_path / "config.json"
        whole = cache.read_bytes()
        damages = [whole[:at] for at in range(len(whole))]
        damages += [
            whole[:at] + bytes([whole[at] ^ 1 << bit]) + whole[at + 1 :] for at in range(len(whole)) for bit in range(8)
        ]
        odd = [b"[" * 100_000, b"{}", b"[]", b"null", b"\xff"]
        for number, damage in enumerate(odd + damages):
            cache.write_bytes(damage)
            found = config.load_for_recording(paths_of(tmp_path))
            assert (dict, list, True) == (type(found.attributes), type(found.warnings), found.max_bytes > 0), damage
            if number % 40 == 0:
                event_id, warnings = record(tmp_path)
                assert event_id, (damage, warnings)

    def test_larger_than_what_is_read(self, tool: Tool) -> None:
        """A config.toml that is too large to be read is never written back cut off."""
        tool.home.mkdir(mode=0o700)
        line = 'k%07d = "' + "v" * 51 + '"\n'
        rows = "".join(line % number for number in range(1 << 14))
        text = f"[attributes]\n{rows}"[: 1 << 20].rpartition("\n")[0].ljust((1 << 20) - 1) + "\n[intake]\nuser = 'u'\n"
        (tool.home / "config.toml").write_text(text)
        assert 0 != tool("config", "set", "intake.user", "v").returncode
        assert text == (tool.home / "config.toml").read_text()

    @pytest.mark.parametrize("name", ["telemetry", "install_id", "config.toml", "config.json", "noticed"])
    @pytest.mark.parametrize("kind", ["fifo", "socket", "folder"])
    def test_no_file_at_all(self, kind: str, name: str, tool: Tool, monkeypatch: pytest.MonkeyPatch) -> None:
        """A FIFO, a socket or a folder under one of our names is never waited for, and never fails `record`."""
        tool.home.mkdir(mode=0o700)
        if name == "config.json":
            (tool.home / "config.toml").write_text("[attributes]\n")
        if kind == "fifo":
            os.mkfifo(tool.home / name)
        elif kind == "folder":
            (tool.home / name).mkdir()
        else:
            # A socket's name is short, so it is bound from within.
            monkeypatch.chdir(tool.home)
            with socket.socket(socket.AF_UNIX) as listener:
                listener.bind(name)
        done = tool("record", "behavioral", "x", timeout=20)
        assert (0, "", False) == (done.returncode, done.stdout, "Traceback" in done.stderr)
        assert (name != "telemetry") == bool(tool.events())
        assert ("telemetry is off" in done.stderr) == (name == "telemetry")
        if name == "config.toml":
            for words, code in ((["flush", "--to", "file:out"], 78), (["config", "set", "intake.user", "u"], 1)):
                told = tool(*words, timeout=20)
                assert (code, False) == (told.returncode, "internal error" in told.stderr), told.stderr

    def test_install_id_that_is_none(self, tmp_path: Path) -> None:
        """A file that is larger than any ID is replaced by one with an ID, which stays."""
        (tmp_path / "install_id").write_text("x" * 5000)
        first = install_id.read_or_create(paths_of(tmp_path))
        assert UUID4.fullmatch(f"{first.value}\n")
        assert first.value == install_id.read_or_create(paths_of(tmp_path)).value

    def test_opt_out_that_cannot_be_read(self, tool: Tool) -> None:
        """Where nobody can tell whether telemetry is off it is off, and `record` and `flush` say why in one line."""
        tool.home.mkdir(mode=0o700)
        (tool.home / "telemetry").mkdir()
        for words in (["record", "behavioral", "x"], ["record", "raw"]):
            done = tool(*words, stdin=b"")
            assert (0, "") == (done.returncode, done.stdout)
        assert "cannot be read" in tool("record", "behavioral", "x").stderr
        assert "cannot be read" in tool("flush").stderr
        assert [] == tool.lines()


class TestPrecedence:
    """A flag wins over a variable, that over config.toml, and that over the default."""

    FILE = '[intake]\nurl = "{url}"\nuser = "file"\npassword = "file"\n[flush]\nto = "file:from-file"\n[attributes]\nuser_id = "file"\n'

    @pytest.mark.parametrize(
        ("environ", "words", "expected"),
        [
            ({}, [], "from-file"),
            ({"RILLEVENTS_TO": ""}, [], "from-file"),
            ({"RILLEVENTS_TO": "file:from-variable"}, [], "from-variable"),
            ({"RILLEVENTS_TO": "file:from-variable"}, ["--to", "file:from-flag"], "from-flag"),
            ({"RILLEVENTS_INTAKE_URL": "http://127.0.0.1:9/"}, [], "from-file"),
            (
                {"RILLEVENTS_INTAKE_URL": "http://127.0.0.1:9/", "RILLEVENTS_TO": "file:from-variable"},
                [],
                "from-variable",
            ),
        ],
        ids=["file", "empty", "variable", "flag", "url-is-no-to", "to-over-url"],
    )
    def test_to(self, environ: dict[str, str], words: list[str], expected: str, tool: Tool) -> None:
        """`--to` over RILLEVENTS_TO over flush.to; a URL alone changes nothing where `flush.to` says otherwise."""
        tool("record", "behavioral", "x")
        (tool.home / "config.toml").write_text(self.FILE.format(url="http://127.0.0.1:9/"))
        assert 0 == tool("flush", *words, **environ).returncode
        assert [expected] == [path.name for path in tool.home.parent.glob("from-*")]

    @pytest.mark.slow
    @pytest.mark.parametrize(
        ("environ", "expected"),
        [
            ({}, "Basic ZmlsZTpmaWxl"),
            ({"RILLEVENTS_INTAKE_USER": "", "RILLEVENTS_INTAKE_PASSWORD": ""}, "Basic ZmlsZTpmaWxl"),
            ({"RILLEVENTS_INTAKE_PASSWORD": "variable"}, "Basic ZmlsZTp2YXJpYWJsZQ=="),
            ({"RILLEVENTS_INTAKE_USER": "variable"}, "Basic dmFyaWFibGU6ZmlsZQ=="),
            ({"RILLEVENTS_INTAKE_PASSWORD_FILE": "{file}"}, "Basic ZmlsZTpzZWNyZXQ="),
            ({"RILLEVENTS_INTAKE_TOKEN": "variable"}, "Bearer variable"),
            (
                {
                    "RILLEVENTS_INTAKE_TOKEN": "variable",
                    "RILLEVENTS_INTAKE_USER": "u",
                    "RILLEVENTS_INTAKE_PASSWORD": "p",
                },
                "Bearer variable",
            ),
            ({"RILLEVENTS_INTAKE_URL": "{with_user}"}, "Basic dXJsOnVybA=="),
            (
                {
                    "RILLEVENTS_INTAKE_URL": "{with_user}",
                    "RILLEVENTS_INTAKE_USER": "v",
                    "RILLEVENTS_INTAKE_PASSWORD": "v",
                },
                "Basic djp2",
            ),
        ],
        ids=["file", "empty", "password", "user", "password-file", "token", "token-and-user", "url", "over-url"],
    )
    def test_credentials(self, environ: dict[str, str], expected: str, tool: Tool) -> None:
        """A credential of the environment wins over the same one of config.toml, a token over a password, empty is unset."""
        tool("record", "behavioral", "x")
        secret = tool.home / "secret"
        secret.write_text("secret\n")
        secret.chmod(0o600)
        with FakeIntake() as intake:
            (tool.home / "config.toml").write_text(self.FILE.format(url=intake.url).replace("file:from-file", "intake"))
            (tool.home / "config.toml").chmod(0o600)
            with_user = intake.url.replace("//", "//url:url@")
            given = {key: value.format(file=secret, with_user=with_user) for key, value in environ.items()}
            done = tool("flush", "--timeout", "10", **given)
        assert (0, expected) == (done.returncode, only(intake.requests).headers["authorization"]), done.stderr

    def test_url(self, tool: Tool) -> None:
        """`--to` wins over RILLEVENTS_INTAKE_URL, and that over intake.url."""
        (tool.home).mkdir(mode=0o700)
        with FakeIntake() as file, FakeIntake() as variable, FakeIntake() as flag:
            (tool.home / "config.toml").write_text(f'[intake]\nurl = "{file.url}"\n')
            for environ, words in (
                ({}, []),
                ({"RILLEVENTS_INTAKE_URL": variable.url}, []),
                ({"RILLEVENTS_INTAKE_URL": variable.url}, ["--to", flag.url]),
            ):
                tool("record", "behavioral", "x")
                assert 0 == tool("flush", *words, **environ).returncode
        assert (1, 1, 1) == (len(file.events), len(variable.events), len(flag.events))

    @pytest.mark.parametrize(
        ("variable", "flag", "expected"),
        [
            (None, None, 0),
            ("", None, 0),
            ("fail", None, 73),
            (" FAIL ", None, 73),
            ("nonsense", None, 0),
            ("fail", "warn", 0),
            ("warn", "fail", 73),
            ("ignore", "fail", 73),
            ("nonsense", "fail", 73),
        ],
    )
    def test_on_error(self, variable: str | None, flag: str | None, expected: int, tool: Tool) -> None:
        """--on-error wins over RILLEVENTS_ON_ERROR, and that over the default, `warn`."""
        tool.home.write_text("in the way")
        words = ["--on-error", flag] if flag else []
        done = tool("record", "behavioral", "x", *words, RILLEVENTS_ON_ERROR=variable)
        assert (expected, "") == (done.returncode, done.stdout)
        assert "not recorded" in done.stderr

    @pytest.mark.parametrize(
        ("environ", "expected"),
        [
            ({"RILLEVENTS_HOME": None}, "user/.local/state/rillevents/spool"),
            ({"RILLEVENTS_HOME": None, "XDG_STATE_HOME": "{root}/xdg"}, "xdg/rillevents/spool"),
            ({"RILLEVENTS_HOME": "{root}/h", "XDG_STATE_HOME": "{root}/xdg"}, "h/spool"),
            ({"RILLEVENTS_HOME": "", "RILLEVENTS_SPOOL_DIR": ""}, "user/.local/state/rillevents/spool"),
            ({"RILLEVENTS_HOME": "{root}/h", "RILLEVENTS_SPOOL_DIR": "{root}/s"}, "s"),
        ],
        ids=["HOME", "XDG", "place", "empty", "spool"],
    )
    def test_spool(self, environ: Mapping[str, str | None], expected: str, tool: Tool) -> None:
        """RILLEVENTS_SPOOL_DIR wins over RILLEVENTS_HOME, that over XDG_STATE_HOME, and that over HOME."""
        root = tool.home.parent
        given = {key: value and value.format(root=root) for key, value in environ.items()}
        assert 0 == tool("record", "behavioral", "x", **given).returncode
        assert [f"{root}/{expected}/v1/slot-0.ndjson"] == [str(path) for path in root.rglob("slot-0.ndjson")]

    @pytest.mark.parametrize(
        ("environ", "words", "expected"),
        [
            ({}, [], "file"),
            ({"RILLEVENTS_ATTRIBUTES": "user_id=listed"}, [], "listed"),
            ({"RILLEVENTS_ATTRIBUTES": "user_id=listed", "RILLEVENTS_USER_ID": "variable"}, [], "variable"),
            ({"RILLEVENTS_USER_ID": "variable"}, ["-a", "user_id=attribute"], "attribute"),
            ({"RILLEVENTS_USER_ID": "variable"}, ["--user-id", "flag"], "flag"),
            ({"RILLEVENTS_USER_ID": "variable"}, ["-a", "user_id=attribute", "--user-id", "flag"], "flag"),
            ({"RILLEVENTS_USER_ID": ""}, [], "file"),
        ],
    )
    def test_user_id(self, environ: dict[str, str], words: list[str], expected: str, tool: Tool) -> None:
        """--user-id wins over -a, that over RILLEVENTS_USER_ID, RILLEVENTS_ATTRIBUTES and config.toml, in this order."""
        tool.home.mkdir(mode=0o700)
        (tool.home / "config.toml").write_text(self.FILE.format(url="http://127.0.0.1:9/"))
        assert 0 == tool("record", "behavioral", "x", *words, **environ).returncode
        assert expected == only(tool.events())["user_id"]

    @pytest.mark.parametrize(
        ("environ", "words", "expected"),
        [
            ({}, [], "kept"),
            ({"RILLEVENTS_INSTALL_ID": ""}, [], "kept"),
            ({"RILLEVENTS_INSTALL_ID": "variable"}, [], "variable"),
            ({"RILLEVENTS_INSTALL_ID": "two\nlines"}, [], "kept"),
            ({"RILLEVENTS_ATTRIBUTES": "install_id=listed"}, [], "listed"),
            ({"RILLEVENTS_INSTALL_ID": "variable"}, ["-a", "install_id=flag"], "flag"),
        ],
    )
    def test_install_id(self, environ: dict[str, str], words: list[str], expected: str, tool: Tool) -> None:
        """RILLEVENTS_INSTALL_ID wins over the file where it is a text in one line, and an attribute of the call over both."""
        tool.home.mkdir(mode=0o700)
        (tool.home / "install_id").write_text("kept\n")
        assert 0 == tool("record", "behavioral", "x", *words, **environ).returncode
        assert expected == only(tool.events())["install_id"]


SECRET = "hunter2-5f2c"


class TestSecrets:
    FILE = f'[intake]\nurl = "https://i.example/e"\nuser = "me"\npassword = "{SECRET}"\ntoken = "{SECRET}"\n'

    @pytest.mark.slow
    @pytest.mark.parametrize(
        "environ",
        [
            {},
            {"RILLEVENTS_INTAKE_URL": f"https://me:{SECRET}@i.example/e"},
            {"RILLEVENTS_INTAKE_URL": f"https://me:{SECRET}@i.example:port/e"},
            {"RILLEVENTS_INTAKE_URL": f"https://me:{SECRET}/@i.example/e"},
            {"RILLEVENTS_INTAKE_URL": f"ftp://me:{SECRET}@i.example/e"},
            {"RILLEVENTS_INTAKE_URL": f"http://me:{SECRET}@i.example/e"},
            {"RILLEVENTS_INTAKE_URL": f"https://me:{SECRET}\x1b@i.example/e"},
            {"RILLEVENTS_INTAKE_TOKEN": f"{SECRET} with a space", "RILLEVENTS_INTAKE_URL": "https://127.0.0.1:9/"},
            {"RILLEVENTS_INTAKE_PASSWORD": f"{SECRET}\n", "RILLEVENTS_INTAKE_USER": "u"},
            {"RILLEVENTS_TO": f"https://me:{SECRET}@i.example/e"},
        ],
        ids=["file", "url", "port", "slash", "scheme", "plain", "control", "token", "newline", "to"],
    )
    def test_shown_nowhere(self, environ: dict[str, str], tool: Tool) -> None:
        """A secret, well-formed or not, is in no output, no message, no cache, no event and nothing that a flush leaves."""
        tool.home.mkdir(mode=0o700)
        file = tool.home / "config.toml"
        file.write_text(self.FILE)
        tool("record", "behavioral", "x", **environ)
        commands = [["record", "behavioral", "x", "--print"], ["status"], ["flush", "--timeout", "1", "--json"]]
        commands += [["flush", "--dry-run"]] if environ else [["config", "list"], ["config", "get", "intake.token"]]
        with ThreadPoolExecutor() as pool:
            told = list(pool.map(lambda words: tool(*words, timeout=30, **environ), commands))
        assert SECRET not in "".join(done.stdout + done.stderr for done in told)
        for path in tool.home.rglob("*"):
            assert path == file or path.is_dir() or SECRET.encode() not in path.read_bytes(), path

    @pytest.mark.parametrize(
        "make",
        [
            lambda: IntakeSettings("https://i.example/e", "me", SECRET, SECRET),
            lambda: IntakeSettings.from_url(f"https://me:{SECRET}@i.example/e"),
            lambda: exporter_for("intake", IntakeSettings("https://i.example/e", "me", SECRET)),
            lambda: IntakeSink("https://i.example/e", user="me", password=SECRET),
            lambda: Client(IntakeSink("https://i.example/e", user="me", password=SECRET)).with_user_id("u"),
            lambda: config.Config({"intake": {"password": SECRET}}, []),
        ],
        ids=["settings", "from-url", "exporter", "sink", "client", "config"],
    )
    def test_repr(self, make: Callable[[], object]) -> None:
        """What holds a secret does not show it in its repr, its str or a traceback's text."""
        made = make()
        assert SECRET not in f"{made!r} {made} {[made]} {made.__class__}"

    @pytest.mark.parametrize(
        "url",
        [
            f"https://me:{SECRET}@i.example:port/e",
            f"https://me:{SECRET}@/e",
            f"ftp://me:{SECRET}@i.example",
            f"https://me:{SECRET}@[::1/e",
            f"http://me:{SECRET}@i.example/e",
            f"https://me:{SECRET}\n@i.example/e",
            f"//me:{SECRET}@i.example/e",
        ],
    )
    def test_traceback(self, url: str) -> None:
        """A wrong URL's traceback, with all the errors behind it, does not show the password."""
        with pytest.raises(RilleventsError) as caught:
            IntakeSink(url)
        assert SECRET not in "".join(traceback.format_exception(caught.value))

    def test_no_arguments(self, tool: Tool) -> None:
        """No process that a flush starts has a secret among its arguments."""
        tool.home.mkdir(mode=0o700)
        seen = tool.home.parent / "seen"
        (tool.home / "secret").write_text(f"{SECRET}\n")
        command = f"cat /proc/*/cmdline > {seen}; cat {tool.home}/secret"
        with FakeIntake("me", SECRET) as intake:
            (tool.home / "config.toml").write_text(
                f"[intake]\nurl = '{intake.url}'\nuser = 'me'\npassword_command = '{command}'\n"
            )
            tool("record", "behavioral", "x")
            assert 0 == tool("flush").returncode
        assert b"rillevents" in seen.read_bytes()
        assert SECRET.encode() not in seen.read_bytes()

    def test_rewritten(self, tool: Tool) -> None:
        """A config.toml that others can read is warned about where there is a secret in it, and is 0600 once it is rewritten."""
        tool.home.mkdir(mode=0o700)
        file = tool.home / "config.toml"
        file.write_text(self.FILE)
        file.chmod(0o644)
        for words in (["status"], ["config", "list"]):
            assert f"chmod 600 {file}" in tool(*words).stderr
        assert 0 == tool("config", "set", "flush.batch_events", "7").returncode
        assert 0o600 == stat.S_IMODE(file.stat().st_mode)
        assert SECRET in file.read_text()
        assert "chmod" not in tool("config", "list").stderr

    @pytest.mark.parametrize(("mode", "owner"), [(0o666, 0), (0o644, 54321)], ids=["writable", "foreign"])
    def test_others_decide(self, mode: int, owner: int, tool: Tool) -> None:
        """A config.toml that another user can change is warned about: who can change it decides where events go."""
        if os.geteuid() != 0 and owner:
            pytest.skip("giving a file away needs root")
        tool.home.mkdir(mode=0o755)
        file = tool.home / "config.toml"
        file.write_text('[flush]\nto = "file:out"\n')
        file.chmod(mode)
        if owner:
            os.chown(file, owner, owner)
        script = "from rillevents.local import config; from rillevents.local import Paths; import os; print(config.load(Paths(os.environ)).warnings)"
        for folder in (tool.home, *tool.home.parents):
            if folder == Path("/tmp"):
                break
            folder.chmod(0o755)
        user = ["setpriv", "--reuid=12345", "--regid=12345", "--clear-groups"] if owner else []
        done = subprocess.run(
            [*user, sys.executable, "-c", script], env=tool.environ, capture_output=True, text=True, check=True, cwd="/"
        )
        assert "can be changed by other users" in done.stdout


def test_cloned_machine(tool: Tool, tmp_path: Path) -> None:
    """Two copies of a machine have one install ID until `id reset` gives one of them another, as its help says."""
    tool("record", "behavioral", "x")
    shutil.copytree(tool.home, tmp_path / "copy")
    copy = {"RILLEVENTS_HOME": str(tmp_path / "copy")}
    baked = tool("id", "show").stdout
    assert baked == tool("id", "show", **copy).stdout
    assert baked != tool("id", "reset", **copy).stdout
    assert baked != tool("id", "show", **copy).stdout
    assert baked == tool("id", "show").stdout
    tool("record", "behavioral", "y", **copy)
    found = [
        json.loads(line)["install_id"]
        for line in (tmp_path / "copy" / "spool" / "v1" / "slot-0.ndjson").read_bytes().splitlines()
    ]
    assert (baked.strip(), 2) == (found[0], len(set(found)))
    assert "copied virtual machine" in " ".join(tool("id", "reset", "--help").stdout.split())


@pytest.mark.parametrize("text", ["attributes = 3\n", "[[attributes]]\nk = 1\n", 'intake = "x"\n'])
def test_a_section_that_is_none(tool: Tool, text: str) -> None:
    """Where something else stands in the place of a section, `config set` says so, and the file stays as it is."""
    tool.home.mkdir()
    Path(tool.paths.config_file).write_text(text)
    key = "intake.url" if "intake" in text else "attributes.k"
    done = tool("config", "set", key, "http://127.0.0.1/")
    assert 78 == done.returncode, done.stderr
    assert "is not a table" in done.stderr
    assert text == Path(tool.paths.config_file).read_text()


@pytest.mark.slow
@pytest.mark.parametrize(
    "to", ["u:hunter2@host", "https:/u:hunter2@h", "https://u:hun/ter2@h/x", "kafka://u:hunter2@h/t"]
)
def test_a_password_in_what_is_no_url(tool: Tool, to: str) -> None:
    """A destination with a password in it shows that nowhere, whatever is wrong with the rest of it."""
    tool("record", "behavioral", "x")
    for words in (["status"], ["status", "--json"], ["flush"], ["flush", "--json"], ["flush", "--dry-run"]):
        done = tool(*words, RILLEVENTS_TO=to)
        assert "ter2" not in done.stdout + done.stderr
