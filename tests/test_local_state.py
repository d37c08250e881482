"""Paths, consent, install ID and configuration: what is on this machine beside the spool."""

from __future__ import annotations

import json
import os
import re
import stat
import subprocess
import sys
import tomllib
from pathlib import Path

import platformdirs
import pytest
from faults.sandbox import need_root
from support import PACE, Tool, need, only, snapshot

from rillevents.errors import ConfigError
from rillevents.local import Application, Paths, config, consent, install_id
from rillevents.local.config import Config
from rillevents.local.config_file import KEYS, change, parse, size
from rillevents.testing import FakeIntake

UUID4 = r"^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$"


class TestPaths:
    @pytest.mark.parametrize(
        "config_home", [None, "", "/x/config", "relative"], ids=["unset", "empty", "set", "relative"]
    )
    @pytest.mark.parametrize(
        "home", ["/home/someone", "/", "", "relative", None], ids=["home", "root", "empty", "relative", "unset"]
    )
    def test_same_as_platformdirs(
        self, config_home: str | None, home: str | None, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Without our own variables the folders are those that platformdirs gives, in every case of HOME and XDG."""
        environ = {"HOME": home, "XDG_CONFIG_HOME": config_home, "XDG_STATE_HOME": config_home}
        for key, value in environ.items():
            if value is None:
                monkeypatch.delenv(key, raising=False)
            else:
                monkeypatch.setenv(key, value)
        paths = Paths({key: value for key, value in environ.items() if value is not None})
        assert platformdirs.user_config_dir("rillevents", appauthor=False) == paths.config_dir
        assert platformdirs.user_state_dir("rillevents", appauthor=False) == paths.state_dir

    def test_one_home(self) -> None:
        """RILLEVENTS_HOME holds everything."""
        paths = Paths({"RILLEVENTS_HOME": "/h/"})
        assert ["/h/config.toml", "/h/telemetry", "/h/install_id", "/h/spool"] == [
            paths.config_file,
            paths.telemetry_file,
            paths.install_id_file,
            paths.spool_dir,
        ]

    @pytest.mark.parametrize("text", ["/x/", "/x//"])
    def test_trailing_slash(self, text: str) -> None:
        """A slash at the end of an XDG folder is not doubled in what is shown."""
        assert "/x/rillevents/config.toml" == Paths({"XDG_CONFIG_HOME": text}).config_file

    def test_spool_dir_wins(self) -> None:
        """RILLEVENTS_SPOOL_DIR wins over RILLEVENTS_HOME, and leaves no fallback."""
        paths = Paths({"RILLEVENTS_HOME": "/h", "RILLEVENTS_SPOOL_DIR": "/s/"})
        assert (("/s",), "") == (paths.spool_dirs, paths.fallback_spool)

    def test_no_home(self, tmp_path: Path) -> None:
        """Where the state folder cannot be made the spool is a private folder in /var/tmp."""
        blocked = tmp_path / "file"
        blocked.write_text("")
        paths = Paths({"HOME": str(blocked / "home")})
        assert f"/var/tmp/rillevents-{os.getuid()}" == paths.spool_dir

    def test_another_application(self) -> None:
        """Folders and variables of an application that embeds the library are its own."""
        paths = Paths(
            {"HOME": "/home/a", "ACME_SPOOL_DIR": "/s", "RILLEVENTS_HOME": "/h"}, Application("acme", "ACME_")
        )
        assert ("/home/a/.config/acme", "/s") == (paths.config_dir, paths.spool_dir)


class TestConsent:
    @pytest.mark.parametrize(
        ("environ", "file", "enabled", "decided_by"),
        [
            pytest.param({}, None, True, "default", id="nothing"),
            pytest.param({"DO_NOT_TRACK": "1"}, None, False, "DO_NOT_TRACK", id="dnt"),
            pytest.param({"DO_NOT_TRACK": "anything"}, "on", False, "DO_NOT_TRACK", id="dnt-wins"),
            pytest.param({"DO_NOT_TRACK": "0"}, None, True, "default", id="dnt-0"),
            pytest.param({"DO_NOT_TRACK": ""}, None, True, "default", id="dnt-empty"),
            pytest.param({"DO_NOT_TRACK": "False"}, "off", False, "file", id="dnt-false-is-no-yes"),
            pytest.param({"RILLEVENTS_TELEMETRY": "off"}, "on", False, "RILLEVENTS_TELEMETRY", id="variable-off"),
            pytest.param({"RILLEVENTS_TELEMETRY": "on"}, "off", False, "file", id="variable-on-is-no-yes"),
            pytest.param({"RILLEVENTS_TELEMETRY": "1"}, None, True, "default", id="variable-on"),
            pytest.param({"RILLEVENTS_TELEMETRY": "maybe"}, None, False, "RILLEVENTS_TELEMETRY", id="variable-unknown"),
            pytest.param({"RILLEVENTS_TELEMETRY": ""}, None, True, "default", id="variable-empty"),
            pytest.param({}, "off", False, "file", id="file-off"),
            pytest.param({}, "on", True, "file", id="file-on"),
            pytest.param({}, "", False, "file", id="file-empty"),
            pytest.param({}, "\0garbage", False, "file", id="file-garbage"),
        ],
    )
    def test_decision(
        self, environ: dict[str, str], file: str | None, enabled: bool, decided_by: str, tmp_path: Path
    ) -> None:
        """Off wins over on, wherever it is set; an unknown value means off; and the message says what decided it."""
        paths = Paths(environ | {"RILLEVENTS_HOME": str(tmp_path)})
        if file is not None:
            (tmp_path / "telemetry").write_text(file)
        found = consent.decide(paths)
        expected = str(tmp_path / "telemetry") if decided_by == "file" else decided_by
        assert (enabled, expected) == (found.enabled, found.decided_by)
        assert bool(found.warning) == (environ.get("RILLEVENTS_TELEMETRY") == "maybe")

    def test_folder_in_place_of_the_file(self, tmp_path: Path) -> None:
        """A telemetry file that cannot be read means off."""
        (tmp_path / "telemetry").mkdir()
        assert not consent.decide(Paths({"RILLEVENTS_HOME": str(tmp_path)})).enabled

    def test_saved_for_good(self, tool: Tool) -> None:
        """`telemetry off` holds until `telemetry on`, even beside a config.toml that is broken."""
        tool.home.mkdir()
        (tool.home / "config.toml").write_text("not [ toml")
        assert 0 == tool("telemetry", "off").returncode
        assert "off\n" == tool("telemetry", "status").stdout
        assert 0 == tool("record", "behavioral", "x").returncode
        assert not (tool.home / "spool").exists()
        assert 0 == tool("telemetry", "on").returncode
        assert 0 == tool("record", "behavioral", "x").returncode
        assert only(tool.events())["event_name"] == "x"

    def test_on_does_not_overrule_a_variable(self, tool: Tool) -> None:
        """`telemetry on` says so where a variable keeps telemetry off all the same."""
        done = tool("telemetry", "on", DO_NOT_TRACK="1")
        assert "DO_NOT_TRACK" in done.stderr


class TestByteOrderMark:
    def test_files(self, tool: Tool) -> None:
        """The mark that some editors put before a text is no part of config.toml, the decision, the ID or a password."""
        mark = "\ufeff"
        tool.home.mkdir()
        (tool.home / "config.toml").write_text(f'{mark}[attributes]\nteam = "core"\n')
        (tool.home / "telemetry").write_text(f"{mark}on\n")
        (tool.home / "install_id").write_text(f"{mark}0123-the-id\n")
        (tool.home / "password").write_text(f"{mark}hunter2\n")
        assert 0 == tool("record", "behavioral", "x").returncode
        [event] = tool.events()
        assert ("core", "0123-the-id") == (event["team"], event["install_id"])
        with FakeIntake("u", "hunter2") as intake:
            given = {"RILLEVENTS_INTAKE_USER": "u", "RILLEVENTS_INTAKE_PASSWORD_FILE": str(tool.home / "password")}
            assert 0 == tool("flush", RILLEVENTS_INTAKE_URL=intake.url, **given).returncode
        assert 0 == tool("config", "set", "attributes.team", "other").returncode
        assert "other\n" == tool("config", "get", "attributes.team").stdout

    @pytest.mark.parametrize("words", [["record", "raw"], ["spool", "import", "-"]], ids=["raw", "import"])
    def test_ndjson(self, words: list[str], tool: Tool) -> None:
        """It is no part of the first event, either, and is not stored."""
        text = b'{"event_id":"i","event_time":"2026-11-23T10:00:00Z","event_type":"t","event_name":"n"}\n'
        assert 0 == tool(*words, stdin=b"\xef\xbb\xbf" + text).returncode
        assert [text] == tool.lines()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="bind mounts are Linux")
class TestBindMount:
    @pytest.mark.parametrize(
        ("name", "words"),
        [
            ("config.toml", ["config", "set", "attributes.team", "core"]),
            ("telemetry", ["telemetry", "on"]),
            ("install_id", ["id", "reset"]),
        ],
        ids=["config", "telemetry", "id"],
    )
    def test_written_in_place(self, name: str, words: list[str], tool: Tool, tmp_path: Path) -> None:
        """A file that is a mount of its own, as in a container, cannot be replaced: it is written in place, and stays mounted."""
        need_root()
        need("unshare")
        tool.home.mkdir()
        for path in (tmp_path / "outside", tool.home / name):
            path.write_text("x = 1\n" if name == "config.toml" else "off and a longer text than the next one\n")
        command = f'mount --bind {tmp_path}/outside {tool.home}/{name} && exec "$@"'
        words = ["unshare", "--mount", "sh", "-c", command, "sh", *map(str, tool.command(*words))]
        done = subprocess.run(words, env=tool.environ, capture_output=True, text=True, check=False)
        assert 0 == done.returncode, done.stderr
        written = (tmp_path / "outside").read_text()
        expected = {"config.toml": 'x = 1\n\n[attributes]\nteam = "core"\n', "telemetry": "on\n"}.get(name)
        assert written == expected or (name == "install_id" and re.fullmatch(UUID4, written.strip()))
        assert [] == [path.name for path in tool.home.iterdir() if path.name.endswith(".tmp")]


class TestInstallId:
    def test_config_folder_that_cannot_be_written(self, tool: Tool) -> None:
        """Without a place in the config folder the ID is kept in the state folder, and stays when that place comes."""
        tool.environ.pop("RILLEVENTS_HOME")
        user = Path(tool.environ["HOME"])
        # A file where the folder should be: that holds for root as well.
        (user / ".config").write_text("")
        told = {tool.json("id", "show")["install_id"] for _ in range(3)}
        assert told == {(user / ".local/state/rillevents/install_id").read_text().strip()}
        (user / ".config").unlink()
        assert told == {tool.json("id", "show")["install_id"]}
        assert 0 == tool("id", "reset").returncode
        assert told != {tool.json("id", "show")["install_id"]}

    def test_made_once_by_fifty(self, tool: Tool) -> None:
        """Fifty first runs at once agree on one install ID, and it stays."""
        running = [
            subprocess.Popen(
                tool.command("record", "behavioral", "x", "--print"),
                env=tool.environ,
                stdout=subprocess.PIPE,
                cwd=tool.home.parent,
            )
            for _ in range(50)
        ]
        found = {json.loads(process.communicate()[0])["install_id"] for process in running}
        assert [0] * 50 == [process.returncode for process in running]
        assert {only(list(found))} == {event["install_id"] for event in tool.events()}
        assert f"{only(list(found))}\n" == (tool.home / "install_id").read_text()
        assert ["install_id"] == [name for name in os.listdir(tool.home) if name.startswith("install_id")]

    @pytest.mark.parametrize(
        "content", [b"", b"\n", b"\xff\xfe", b"\0\0\0"], ids=["empty", "newline", "not-utf8", "nul"]
    )
    def test_damaged_file(self, content: bytes, tmp_path: Path) -> None:
        """A file without an ID in it is replaced quietly, and the new ID is kept."""
        (tmp_path / "install_id").write_bytes(content)
        paths = Paths({"RILLEVENTS_HOME": str(tmp_path)})
        first = install_id.read_or_create(paths)
        assert (first.value, "file") == (
            install_id.read_or_create(paths).value,
            install_id.read_or_create(paths).source,
        )

    def test_many_repair_a_damaged_file(self, tool: Tool) -> None:
        """Ten processes that find a damaged file agree on one new ID."""
        tool.home.mkdir()
        (tool.home / "install_id").write_bytes(b"")
        running = [
            subprocess.Popen(tool.command("id", "show"), env=tool.environ, stdout=subprocess.PIPE, cwd=tool.home.parent)
            for _ in range(10)
        ]
        assert 1 == len({process.communicate()[0] for process in running})

    def test_nowhere_to_keep_it(self, tmp_path: Path) -> None:
        """Where nothing can be written the ID is for this process only, and nothing fails."""
        (tmp_path / "file").write_text("")
        found = install_id.read_or_create(Paths({"RILLEVENTS_HOME": str(tmp_path / "file" / "home")}))
        assert "process" == found.source

    def test_variable(self, tool: Tool) -> None:
        """RILLEVENTS_INSTALL_ID is used as it is, and no file is made for it."""
        assert 0 == tool("record", "behavioral", "x", RILLEVENTS_INSTALL_ID="ci-fleet").returncode
        assert "ci-fleet" == only(tool.events())["install_id"]
        assert not (tool.home / "install_id").exists()

    def test_reset(self, tool: Tool) -> None:
        """`id reset` gives a new ID that stays."""
        first, second = tool("id", "show").stdout, tool("id", "reset").stdout
        assert first != second
        assert second == tool("id", "show").stdout

    def test_random(self) -> None:
        """The ID is a random UUID of version 4, another one every time."""
        found = {install_id.mint() for _ in range(1000)}
        assert 1000 == len(found)
        assert all(value[14] == "4" and value[19] in "89ab" for value in found)

    @pytest.mark.slow
    def test_off(self, tool: Tool) -> None:
        """Opted out, no ID is made, by none of the commands that show it."""
        for words in (["id", "show"], ["status"], ["id", "reset"]):
            tool(*words, DO_NOT_TRACK="1")
        assert not tool.home.exists()
        assert tool.json("status", DO_NOT_TRACK="1")["install_id"] is None


class TestModes:
    @pytest.mark.parametrize("umask", [0o000, 0o077, 0o777], ids=["000", "077", "777"])
    def test_private_whatever_the_umask(self, umask: int, tool: Tool) -> None:
        """Folders are 0700 and files 0600, whatever the umask, for the command and for the library."""
        script = (
            f"import os; os.umask({umask}); from rillevents import Client; "
            "c = Client.from_config(on_error='raise'); c.record('log', 'x'); c.close()"
        )
        subprocess.run([sys.executable, "-c", script], env=tool.environ, check=True)
        subprocess.run(
            ["sh", "-c", f'umask {umask:o}; exec "$@"', "sh", *tool.command("record", "behavioral", "x")],
            env=tool.environ,
            check=True,
        )
        assert 2 == len(tool.events())
        for path in [tool.home, *tool.home.rglob("*")]:
            assert (0o700 if path.is_dir() else 0o600) == stat.S_IMODE(path.stat().st_mode), path

    def test_ignored_by_git(self, tool: Tool) -> None:
        """A new RILLEVENTS_HOME gets a .gitignore of `*`; one that was there before is left as it was."""
        tool("record", "behavioral", "x")
        assert "*\n" == (tool.home / ".gitignore").read_text()
        (tool.home / ".gitignore").unlink()
        tool("record", "behavioral", "x")
        assert not (tool.home / ".gitignore").exists()


class TestConfig:
    def test_every_key(self, tmp_path: Path) -> None:
        """Every setting of the contract can stand in config.toml, and is read with its type."""
        text = """
            [intake]
            url = "https://i.example"
            user = "u"
            password = "p"
            password_file = "f"
            password_command = "c"
            token = "t"
            headers = {"X-Api-Key" = "k"}
            [attributes]
            service_name = "ci"
            n = 1
            [filter]
            drop_types = ["metric"]
            drop_names = ["debug-*"]
            drop_attributes = ["path"]
            [redact]
            keys = ["session"]
            values = true
            enabled = true
            [spool]
            max_bytes = "1GiB"
            durable = true
            [flush]
            to = "intake"
            batch_events = 10
            batch_bytes = "1MiB"
            compression = "gzip"
            stall_timeout = "30s"
            auto = "5m"
            [kafka]
            key = "event_id"
            [otlp]
            encoding = "json"
            headers = "X-Api-Key=k"
            [ci]
            context = true
        """
        found = Config(*parse(text.encode(), "config.toml"))
        assert [] == found.warnings
        assert set(KEYS) == {f"{s}.{k}" for s, table in found.sections.items() for k in table if s != "attributes"}
        assert (1 << 30, 1 << 20, 30.0) == (
            found.max_bytes,
            found.get("flush", "batch_bytes"),
            found.get("flush", "stall_timeout"),
        )

    def test_unknown_key(self) -> None:
        """An unknown key is a warning with the nearest known one, and nothing else is lost by it."""
        found = Config(*parse(b'[intake]\nulr = "x"\nuser = "u"\n[sppol]\na = 1\n', "c.toml"))
        assert "did you mean intake.url?" in found.warnings[0]
        assert "did you mean spool?" in found.warnings[1]
        assert "u" == found.get("intake", "user")

    @pytest.mark.parametrize(
        "text",
        [
            '[spool]\nmax_bytes = "lots"',
            "[spool]\ndurable = 1",
            "[flush]\nbatch_events = 0",
            '[filter]\ndrop_types = "metric"',
            "nonsense [",
        ],
        ids=["size", "switch", "count", "list", "toml"],
    )
    def test_wrong_value(self, text: str) -> None:
        """A value of the wrong kind is an error that says what the key takes."""
        with pytest.raises(ConfigError):
            parse(text.encode(), "c.toml")

    @pytest.mark.parametrize(("text", "expected"), [("64MiB", 64 << 20), (10, 10), ("1kb", 1000), ("1 GiB", 1 << 30)])
    def test_sizes(self, text: object, expected: int) -> None:
        """Sizes are numbers of bytes, or numbers with a unit."""
        assert expected == size(text)

    @pytest.mark.parametrize(
        "content",
        [
            b"",
            b"\0" * 100,
            b"[attributes\n",
            b"\xff\xfe",
            b"attributes = 3",
            b"x = [" * 5000,
            b'[attributes]\nx = "' + b"y" * 100_000,
        ],
        ids=["empty", "nul", "cut-off", "not-utf8", "wrong-type", "deep", "huge"],
    )
    def test_broken_never_stops_record(self, content: bytes, tool: Tool) -> None:
        """Whatever is in config.toml, `record` stores its event and returns 0."""
        tool.home.mkdir()
        (tool.home / "config.toml").write_bytes(content)
        done = tool("record", "behavioral", "x")
        assert (0, "", 1) == (done.returncode, done.stdout, len(tool.events()))

    def test_broken_is_78_for_flush(self, tool: Tool) -> None:
        """A broken config.toml is 78 for `flush`, which says where, and keeps the events."""
        tool("record", "behavioral", "x")
        (tool.home / "config.toml").write_text("[intake")
        done = tool("flush", "--to", "http://127.0.0.1:9/")
        assert 78 == done.returncode
        assert str(tool.home / "config.toml") in done.stderr
        assert 1 == len(tool.events())

    def test_attributes_and_filter(self, tool: Tool) -> None:
        """[attributes] are put on every event, [filter] drops what it names, and what was dropped is counted."""
        tool.home.mkdir()
        (tool.home / "config.toml").write_text(
            '[attributes]\nservice_name = "ci"\n[filter]\ndrop_types = ["metric"]\ndrop_names = ["debug-*"]\ndrop_attributes = ["path"]\n'
        )
        tool("record", "metric", "m", "1")
        tool("record", "behavioral", "debug-me")
        tool("record", "behavioral", "kept", "-a", "path=/x", "-a", "k=v")
        found = only(tool.events())
        assert ("kept", "ci", "v") == (found["event_name"], found["service_name"], found["k"])
        assert "path" not in found
        assert {"filter": 2} == tool.json("status")["ledger"]["dropped"]

    def test_cache(self, tool: Tool) -> None:
        """What `record` needs of config.toml is cached beside the spool, without secrets, until the file changes."""
        tool.home.mkdir()
        file = tool.home / "config.toml"
        file.write_text('[attributes]\nk = "old"\n[intake]\npassword = "hunter2"\n')
        tool("record", "behavioral", "x")
        cached = (tool.home / "config.json").read_bytes()
        assert b"hunter2" not in cached
        tool("record", "behavioral", "x")
        assert cached == (tool.home / "config.json").read_bytes()
        file.write_text('[attributes]\nk = "new"\n')
        tool("record", "behavioral", "x")
        assert ["old", "old", "new"] == [event["k"] for event in tool.events()]

    @pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"identity": 1}'], ids=["empty", "torn", "list", "other"])
    def test_damaged_cache(self, content: bytes, tool: Tool) -> None:
        """A cache that is damaged is made anew."""
        tool.home.mkdir()
        (tool.home / "config.toml").write_text('[attributes]\nk = "v"\n')
        (tool.home / "config.json").write_bytes(content)
        tool("record", "behavioral", "x")
        assert "v" == only(tool.events())["k"]

    @pytest.mark.slow
    def test_set_get_unset(self, tool: Tool) -> None:
        """A setting can be set, read and removed; comments and other settings stay, and the file is 0600."""
        tool.home.mkdir()
        file = tool.home / "config.toml"
        file.write_text("# mine\n[flush]\nbatch_events = 7 # few\n")
        assert 0 == tool("config", "set", "intake.url", "https://i.example/e").returncode
        assert "https://i.example/e\n" == tool("config", "get", "intake.url").stdout
        assert 0 == tool("config", "set", "filter.drop_types", '["metric"]').returncode
        assert ["metric"] == tomllib.loads(file.read_text())["filter"]["drop_types"]
        assert 0 == tool("config", "unset", "intake.url").returncode
        assert file.read_text().startswith("# mine\n[flush]\nbatch_events = 7 # few\n")
        assert 2 == tool("config", "get", "intake.url").returncode
        assert 0o600 == stat.S_IMODE(file.stat().st_mode)

    def test_secret(self, tool: Tool) -> None:
        """A secret is read from stdin, refused as an argument, and never shown."""
        assert 2 == tool("config", "set", "intake.password", "hunter2").returncode
        assert 0 == tool("config", "set", "intake.password", stdin=b"hunter2\n").returncode
        assert "hunter2" == tomllib.loads((tool.home / "config.toml").read_text())["intake"]["password"]
        shown = [
            tool("config", "list"),
            tool("config", "get", "intake.password"),
            tool("status"),
            tool("config", "list", "--json"),
        ]
        assert "hunter2" not in "".join(done.stdout + done.stderr for done in shown)
        assert 2 == tool("config", "set", "intake.url", "https://u:hunter2@i.example").returncode

    @pytest.mark.parametrize(
        "words", [("set", "intake.ulr", "x"), ("set", "flush.batch_events", "many"), ("get", "x")], ids=str
    )
    def test_refused(self, words: tuple[str, ...], tool: Tool) -> None:
        """A key that is none, or a value that does not fit, is refused with 2, and nothing is written."""
        done = tool("config", *words)
        assert 2 == done.returncode
        assert not tool.home.exists()

    def test_link(self, tmp_path: Path) -> None:
        """A config.toml that is a link is read, but not replaced by a file."""
        real = tmp_path / "real.toml"
        real.write_text('[intake]\nuser = "u"\n')
        (tmp_path / "config.toml").symlink_to(real)
        paths = Paths({"RILLEVENTS_HOME": str(tmp_path)})
        assert "u" == config.load(paths).get("intake", "user")
        with pytest.raises(ConfigError, match="link"):
            change(paths, "intake.user", "v")
        assert '[intake]\nuser = "u"\n' == real.read_text()

    @pytest.mark.slow
    def test_killed_while_writing(self, tool: Tool) -> None:
        """Killed at any system call of `config set`, config.toml holds the old setting or the new one."""
        strace = need("strace")
        # Not measured for coverage: a killed process leaves no data, and tracing takes time.
        tool.environ = {key: value for key, value in tool.environ.items() if "COVERAGE" not in key}
        tool("config", "set", "intake.user", "old")
        for call in ("openat", "write", "fsync", "rename", "close"):
            for number in (1, 2, 3):
                inject = ["-e", f"trace={call}", "-P", str(tool.home), "-P", str(tool.home / "config.toml")]
                words = [strace, "-f", "-o", "/dev/null", *inject, "-e", f"inject={call}:signal=KILL:when={number}"]
                subprocess.run(
                    [*words, *tool.command("config", "set", "intake.user", "new")],
                    env=tool.environ,
                    check=False,
                    capture_output=True,
                )
                assert tool("config", "get", "intake.user").stdout in ("old\n", "new\n")

    def test_environment_attributes(self, tool: Tool) -> None:
        """The environment's attributes are put on every event, percent-decoded, and what is malformed is a warning."""
        done = tool(
            "record",
            "behavioral",
            "x",
            RILLEVENTS_ATTRIBUTES="branch=a%2Fb,k=v%20w,event_id=no,broken",
            RILLEVENTS_SERVICE_NAME="s",
            RILLEVENTS_SERVICE_VERSION="1.10",
            RILLEVENTS_SERVICE_COMMIT="c",
            RILLEVENTS_USER_ID="u",
            RILLEVENTS_IS_DEV="true",
        )
        found = only(tool.events())
        expected = {
            "branch": "a/b",
            "k": "v w",
            "service_name": "s",
            "service_version": "1.10",
            "service_commit": "c",
            "user_id": "u",
            "is_dev": True,
        }
        assert expected == {key: found[key] for key in expected}
        assert "RILLEVENTS_ATTRIBUTES" in done.stderr

    def test_environment_attributes_as_json(self, tool: Tool) -> None:
        """RILLEVENTS_ATTRIBUTES may be a JSON object, with typed values."""
        tool("record", "behavioral", "x", RILLEVENTS_ATTRIBUTES='{"n": 1, "o": {"p": [null]}}')
        assert (1, {"p": [None]}) == (only(tool.events())["n"], only(tool.events())["o"])

    def test_precedence(self, tool: Tool) -> None:
        """The flag wins over the environment, and that over config.toml."""
        tool.home.mkdir()
        (tool.home / "config.toml").write_text('[attributes]\na = "file"\nb = "file"\nc = "file"\n')
        tool("record", "behavioral", "x", "-a", "a=flag", RILLEVENTS_ATTRIBUTES="a=environment,b=environment")
        found = only(tool.events())
        assert ("flag", "environment", "file") == (found["a"], found["b"], found["c"])

    def test_nothing_is_made_by_looking(self, tool: Tool) -> None:
        """Commands that only look make no file."""
        for words in (
            ["config", "list"],
            ["config", "path"],
            ["spool", "path"],
            ["telemetry", "status"],
            ["events"],
            ["help"],
        ):
            assert 0 == tool(*words).returncode
        assert not tool.home.exists()
        assert {} == snapshot(tool.home.parent)


class TestSecrets:
    @pytest.mark.slow
    @pytest.mark.parametrize(
        "text", ["password = 48151623", 'token = ["48151623"]', "url = 48151623"], ids=["password", "token", "url"]
    )
    def test_of_the_wrong_type(self, text: str, tool: Tool) -> None:
        """A secret of the wrong type is in no message and in no cache."""
        tool.home.mkdir()
        (tool.home / "config.toml").write_text(f"[intake]\n{text}\n")
        told = [tool("record", "behavioral", "x"), tool("status"), tool("flush"), tool("config", "list")]
        assert "48151623" not in "".join(done.stdout + done.stderr for done in told)
        assert b"48151623" not in b"".join(
            content for name, content in snapshot(tool.home).items() if name != "config.toml"
        )

    def test_in_a_destination(self, tool: Tool) -> None:
        """A password in RILLEVENTS_TO or flush.to is shown nowhere, and refused where it would be used."""
        tool("record", "behavioral", "x")
        environ = {"RILLEVENTS_TO": "http://u:hunter2@127.0.0.1:9/"}
        told = [
            tool("status", **environ),
            tool("status", "--json", **environ),
            tool("flush", "--dry-run", **environ),
            tool("flush", **environ),
        ]
        assert "hunter2" not in "".join(done.stdout + done.stderr for done in told)
        assert 78 == told[-1].returncode
        assert 2 == tool("config", "set", "flush.to", "http://u:hunter2@h/").returncode

    def test_from_two_places(self, tool: Tool) -> None:
        """The password of the environment completes the user of config.toml, at the URL of config.toml only."""
        from rillevents.testing import FakeIntake

        tool("record", "behavioral", "x")
        with FakeIntake() as ours, FakeIntake() as other:
            (tool.home / "config.toml").write_text(f"[intake]\nurl='{ours.url}'\nuser='u'\npassword='old'\n")
            assert 0 == tool("flush", RILLEVENTS_INTAKE_PASSWORD="p").returncode
            tool("record", "behavioral", "y")
            assert 0 == tool("flush", RILLEVENTS_INTAKE_URL=other.url).returncode
        assert "Basic dTpw" == only(ours.requests).headers["authorization"]
        assert "authorization" not in only(other.requests).headers

    def test_command_that_hangs(self, tool: Tool) -> None:
        """A password command that hangs ends with the flush's time-out."""
        import time

        tool("record", "behavioral", "x")
        (tool.home / "config.toml").write_text(
            "[intake]\nurl='http://127.0.0.1:9/'\nuser='u'\npassword_command='sleep 30; echo p'\n"
        )
        started = time.monotonic()
        assert 78 == tool("flush", "--timeout", "1").returncode
        assert time.monotonic() - started < 6 * PACE

    def test_file_that_others_can_read(self, tool: Tool) -> None:
        """A config.toml with a secret that others can read is a warning that says what to type."""
        tool.home.mkdir()
        (tool.home / "config.toml").write_text("[intake]\npassword='p'\n")
        (tool.home / "config.toml").chmod(0o644)
        assert "chmod 600" in tool("config", "list").stderr


class TestEnvironment:
    @pytest.mark.parametrize(
        "environ",
        [
            {"RILLEVENTS_USER_ID": "\udcff"},
            {"RILLEVENTS_INSTALL_ID": "\udcff"},
            {"RILLEVENTS_ATTRIBUTES": '{"a":["\\ud800"]}'},
            {"RILLEVENTS_ATTRIBUTES": '{"a":{"\\ud800":1}}'},
            {"RILLEVENTS_ATTRIBUTES": "oops"},
            {"RILLEVENTS_ATTRIBUTES": "%"},
            {"RILLEVENTS_IS_DEV": "perhaps"},
            {"RILLEVENTS_ON_ERROR": "explode"},
        ],
        ids=lambda environ: "-".join(environ) + repr(list(environ.values())),
    )
    def test_bad_values_never_stop_record(self, environ: dict[str, str], tool: Tool) -> None:
        """A variable that cannot be used is left out, and the event is stored."""
        done = tool("record", "behavioral", "x", **environ)
        assert (0, 1) == (done.returncode, len(tool.events()))
        assert "Traceback" not in done.stderr

    def test_a_value_like_a_reserved_key(self, tool: Tool) -> None:
        """Only keys are reserved, not values."""
        tool("record", "behavioral", "x", RILLEVENTS_ATTRIBUTES="field=event_id")
        assert "event_id" == only(tool.events())["field"]

    @pytest.mark.parametrize("words", [["record", "raw"], ["record", "behavioral", "x"]], ids=" ".join)
    def test_every_new_home_is_ignored_by_git(self, words: list[str], tool: Tool) -> None:
        """A new RILLEVENTS_HOME gets its .gitignore, whichever command makes it."""
        line = b'{"event_id":"i","event_time":"2026-11-23T10:00:00Z","event_type":"t","event_name":"n"}\n'
        assert 0 == tool(*words, stdin=line, RILLEVENTS_INSTALL_ID="i").returncode
        assert (tool.home / ".gitignore").exists()
