"""`rillevents record`, as scripts use it."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from support import PACE, Tool, need, only

import rillevents
from rillevents.event.validate import count_events
from rillevents.spool import create

FORMS = [
    ["behavioral", "x"],
    ["metric", "x", "1"],
    ["log", "x", "hello"],
    ["event", "audit", "x"],
]


class TestForms:
    @pytest.mark.parametrize("words", FORMS, ids=lambda words: words[0])
    def test_recorded(self, words: list[str], tool: Tool) -> None:
        """Every form stores one event, prints nothing and returns 0."""
        done = tool("record", *words, "-a", "k=v")
        assert (0, "", "") == (done.returncode, done.stdout, done.stderr)
        found = only(tool.events())
        assert ({"event": "audit"}.get(words[0], words[0]), "x", "v") == (
            found["event_type"],
            found["event_name"],
            found["k"],
        )

    @pytest.mark.parametrize(
        ("words", "expected"),
        [
            (["-a", "k=v=w"], {"k": "v=w"}),
            (["-a", "k=@file"], {"k": "@file"}),
            (["-a", "k="], {"k": ""}),
            (["-a", "k=0x0"], {"k": "0x0"}),
            (["-a", "k:=0.10"], {"k": 0.1}),
            (["-a", "a:b=c"], {"a:b": "c"}),
            (["-a", "k=1", "-a", "k=2"], {"k": "2"}),
            (["-a", "k=1", "--attr=k:=2"], {"k": 2}),
            (["--attrs", '{"k": 1, "j": {}}', "-a", "k=2"], {"k": "2", "j": {}}),
            (["--user-id", "u"], {"user_id": "u"}),
            (["-a", "k=-x"], {"k": "-x"}),
            (["-ak=v"], {"k": "v"}),
            (["-a", "k:=123456789012345678901234567890"], {"k": 123456789012345678901234567890}),
            (["-a", 'k:={"a":[1,null]}'], {"k": {"a": [1, None]}}),
            (["-a", "ключ=☃\u202e"], {"ключ": "☃\u202e"}),
            (["-a", "k=two\nlines"], {"k": "two\nlines"}),
        ],
        ids=lambda value: " ".join(value) if isinstance(value, list) else "",
    )
    def test_attributes(self, words: list[str], expected: dict[str, object], tool: Tool) -> None:
        """Attributes are text, JSON after `:=`, or an object; the last of two wins."""
        assert 0 == tool("record", "behavioral", "x", *words).returncode
        found = only(tool.events())
        assert expected == {key: found[key] for key in expected}

    def test_attrs_from_elsewhere(self, tool: Tool) -> None:
        """`--attrs` reads a file or stdin."""
        (tool.home.parent / "attrs.json").write_text('{"from": "file"}')
        assert 0 == tool("record", "behavioral", "x", "--attrs", "@attrs.json").returncode
        assert 0 == tool("record", "behavioral", "x", "--attrs", "@-", stdin=b'{"from": "stdin"}').returncode
        assert ["file", "stdin"] == [event["from"] for event in tool.events()]

    @pytest.mark.parametrize("value", ["-45", "-0.5", "-1e3", "0", "1E+2"])
    def test_metric_values(self, value: str, tool: Tool) -> None:
        """A metric's value is any JSON number, a negative one too, wherever it stands among the options."""
        assert 0 == tool("record", "metric", "delta", value).returncode
        assert 0 == tool("record", "metric", "-a", "k=v", "delta", "--user-id", "-1", value, "-a", "x=-2").returncode
        assert [float(value)] * 2 == [event["value"] for event in tool.events()]
        assert "-1" == tool.events()[1]["user_id"]

    def test_truncated(self, tool: Tool) -> None:
        """The longest text of an event over 32 KiB is cut, the rest stays; said on stderr and counted."""
        done = tool("record", "log", "x", "m" * 40_000, "-a", "k=v")
        assert (0, 1) == (done.returncode, done.stderr.count("\n"))
        assert 'the text of "message" was cut' in done.stderr
        found = only(tool.events())
        assert (True, "v") == (found["truncated"], found["k"])
        assert found["install_id"]
        assert found["message"].strip("m") == "…"
        assert 1 == tool.json("status")["ledger"]["truncated"]

    def test_print(self, tool: Tool) -> None:
        """--print prints the event as it was stored, as one line."""
        done = tool("record", "behavioral", "x", "--print")
        assert done.stdout.encode() == only(tool.lines())

    @pytest.mark.parametrize("environ", [{}, {"DO_NOT_TRACK": "1"}], ids=["on", "off"])
    def test_dry_run(self, environ: dict[str, str], tool: Tool) -> None:
        """--dry-run prints the event and makes no file, opted out or not."""
        done = tool("record", "metric", "x", "1", "--dry-run", **environ)
        assert (0, "x") == (done.returncode, json.loads(done.stdout)["event_name"])
        assert not tool.home.exists()

    def test_legacy(self, tool: Tool) -> None:
        """--legacy adds the older format's fields, and says what is missing for it."""
        done = tool("record", "behavioral", "x", "--legacy")
        assert 2 == done.returncode
        assert "service_name" in done.stderr
        environ = {"RILLEVENTS_SERVICE_NAME": "s", "RILLEVENTS_SERVICE_VERSION": "1", "RILLEVENTS_USER_ID": "u"}
        assert 0 == tool("record", "behavioral", "x", "--legacy", **environ).returncode
        assert "rill-developer" == only(tool.events())["app_name"]


class TestRefused:
    CASES = [
        (["behavioral", ""], "NAME"),
        (["behavioral", "  "], "NAME"),
        (["behavioral"], "NAME"),
        (["behavioral", "x", "extra"], "extra"),
        (["behavioral", "x", "-a", "novalue"], "KEY=VALUE"),
        (["behavioral", "x", "-a", "=v"], "KEY=VALUE"),
        (["behavioral", "x", "-a", "k:={bad"], "k={bad"),
        (["behavioral", "x", "-a", "k:=NaN"], "JSON"),
        (["behavioral", "x", "-a", 'k:="\\ud800"'], "Unicode"),
        (["behavioral", "x", "-a", "event_id=1"], "event_id"),
        (["behavioral", "x", "-a"], "-a"),
        (["behavioral", "x", "--attrs", "[1]"], "object"),
        (["behavioral", "x", "--attrs", "@missing"], "missing"),
        (["behavioral", "x", "--time", "never"], "2026-11-23T10:00:00Z"),
        (["behavioral", "x", "--time", ""], "2026-11-23T10:00:00Z"),
        (["behavioral", "x", "--id", ""], "--id"),
        (["behavioral", "x", "--bogus"], "--bogus"),
        (["behavioral", "x", "--on-error", "explode"], "warn, fail, ignore"),
        (["behavioral", b"\xff"], "UTF-8"),
        (["behavioral", "x", "-a", b"k=\xff"], "UTF-8"),
        (["metric", "x"], "VALUE"),
        (["metric", "x", "nan"], "45, -0.5 or 1e3"),
        (["metric", "x", "1_000"], "45, -0.5 or 1e3"),
        (["metric", "x", "1e999"], "45, -0.5 or 1e3"),
        (["metric", "x", '"1"'], "45, -0.5 or 1e3"),
        (["metric", "x", "true"], "45, -0.5 or 1e3"),
        (["metric", "x", "-x"], "-x"),
        (["metric", "x", "1", "-a", "value=2"], "value"),
        (["metric", "x", "1", "--legacy"], "--legacy"),
        (["log", "x", "a", "b"], "b"),
        (["event", "x"], "NAME"),
        (["behaviorl", "x"], "behavioral"),
    ]

    @pytest.mark.parametrize(("words", "told"), CASES, ids=lambda value: repr(value) if isinstance(value, list) else "")
    @pytest.mark.parametrize("environ", [{}, {"DO_NOT_TRACK": "1"}], ids=["on", "off"])
    def test_refused(self, words: list[str], told: str, environ: dict[str, str], tool: Tool) -> None:
        """A mistake is 2 with a message that says what to type, opted out or not, and nothing is stored."""
        done = tool("record", *words, **environ)
        assert (2, "") == (done.returncode, done.stdout)
        assert told in done.stderr
        assert "Traceback" not in done.stderr
        assert not tool.home.exists()

    def test_ignored(self, tool: Tool) -> None:
        """With --on-error ignore a mistake is 0, told in one line, and counted as refused."""
        for words in (["behavioral", ""], ["behavioral", "x", "--bogus"], ["metric", "x", "nan"]):
            done = tool("record", *words, RILLEVENTS_ON_ERROR="ignore")
            assert (0, 1) == (done.returncode, done.stderr.count("\n"))
        assert 0 == tool("record", "behavioral", "", "--on-error", "ignore").returncode
        assert 2 == tool("record", "behavioral", "", "--on-error", "warn", RILLEVENTS_ON_ERROR="ignore").returncode
        assert 4 == tool.json("status")["ledger"]["refused"]
        assert [] == tool.lines()

    def test_quiet(self, tool: Tool) -> None:
        """-q leaves nothing on stderr but usage errors."""
        assert "" == tool("record", "behavioral", "x", "-a", "k=" + "v" * 40_000, "-q").stderr
        assert "" == tool("-q", "record", "behavioral", "x", "-a", "k=" + "v" * 40_000).stderr
        assert "" == tool("record", "behavioral", "x", "-a", "k=" + "v" * 40_000, RILLEVENTS_QUIET="1").stderr
        assert "NAME" in tool("record", "behavioral", "", "-q").stderr
        assert "" == tool("flush", "-q").stderr


class TestRaw:
    GOOD = b'{"event_id":"%d","event_time":"2026-11-23T10:00:00Z","event_type":"t","event_name":"n" ,"x":1.50}\n'

    def test_verdicts(self, tool: Tool) -> None:
        """Bad lines are told one by one, the good ones are stored byte for byte, and the code is 2."""
        lines = [
            self.GOOD % 1,
            b"nonsense\n",
            b"\n",
            b'{"event_id":"x"}\n',
            self.GOOD % 2,
            b'{"a": "\xff"}\n',
            self.GOOD % 3,
        ]
        done = tool("record", "raw", "--json", stdin=b"".join(lines))
        document = json.loads(done.stdout)
        assert (2, 3, [2, 4, 6]) == (done.returncode, document["stored"], [bad["line"] for bad in document["bad"]])
        assert [self.GOOD % 1, self.GOOD % 2, self.GOOD % 3] == tool.lines()
        assert ["line 2", "line 4", "line 6"] == [text[12:18] for text in done.stderr.splitlines()]

    def test_what_is_asked_of_a_block_at_once(self) -> None:
        """Ordinary events are taken a block at a time; one line that is not quite ordinary has all of its block looked at."""
        block = b"".join(self.GOOD % number for number in range(500))
        assert 500 == count_events(block)
        assert 1 == count_events(
            '{"event_id":"ä","event_time":"2024-12-31T23:59:59.1+05:30","event_type":"t","event_name":"\u00fc"}\n'.encode()
        )
        for line in (
            b"",
            b"\n",
            b" \n",
            self.GOOD[:-1] % 1,
            (self.GOOD % 1).replace(b"\n", b"\r\n"),
            (self.GOOD % 1)[:-1] + self.GOOD % 2,
            (self.GOOD % 1).replace(b'"1"', b'""'),
            (self.GOOD % 1).replace(b'"1"', b"1"),
            (self.GOOD % 1).replace(b"11-23T", b"11-31T"),
            (self.GOOD % 1).replace(b"11-23T", b"02-29T"),
            (self.GOOD % 1).replace(b"11-23T", b"11-23t"),
            (self.GOOD % 1).replace(b"10:00:00Z", b"10:00:60Z"),
            (self.GOOD % 1).replace(b"00Z", b"00Z\\n2026-11-23T10:00:00Z"),
            (self.GOOD % 1).replace(b"1.50", b"[" * 300 + b"]" * 300),
            (self.GOOD % 1).replace(b"1.50", b'"\xff"'),
            (self.GOOD % 1).replace(b"1.50", b"9" * 5000),
            (self.GOOD % 1).replace(b"1.50", b'"' + b"x" * 33_000 + b'"'),
        ):
            assert 0 == count_events(block + line if line else line), line

    def test_bad_lines_in_later_blocks(self, tool: Tool) -> None:
        """Lines are numbered through, blocks that were taken at once and empty lines included."""
        lines = [self.GOOD % number for number in range(30_000)]
        lines[2] = lines[15_000] = b"nonsense\n"
        lines[20_000] = b"\n"
        lines[29_999] = b"{}"
        document = json.loads(tool("record", "raw", "--json", stdin=b"".join(lines)).stdout)
        assert [3, 15_001, 30_000] == [bad["line"] for bad in document["bad"]]
        assert 29_996 == document["stored"] == len(tool.lines())

    def test_many_bad_lines(self, tool: Tool) -> None:
        """After twenty verdicts only the number of the others is told."""
        done = tool("record", "raw", stdin=b"x\n" * 100)
        assert (2, 21) == (done.returncode, done.stderr.count("\n"))
        assert "80 more" in done.stderr

    def test_last_line_without_newline(self, tool: Tool) -> None:
        """A last line without its newline, and lines that end in CR LF, are events, too."""
        assert (
            0
            == tool(
                "record", "raw", stdin=(self.GOOD % 1).replace(b"\n", b"\r\n") + (self.GOOD % 2).rstrip()
            ).returncode
        )
        assert [self.GOOD % 1, self.GOOD % 2] == tool.lines()

    def test_fill(self, tool: Tool) -> None:
        """--fill mints what is missing of the four fields, and keeps what is there."""
        lines = b'{"msg": "hello", "event_name": "mine"}\n' + self.GOOD % 7
        assert 0 == tool("record", "raw", "--fill", "--type", "app", "--name", "n", stdin=lines).returncode
        first, second = tool.events()
        assert ("app", "mine", "hello") == (first["event_type"], first["event_name"], first["msg"])
        assert self.GOOD % 7 == tool.lines()[1]
        assert second["event_id"] == "7"

    @pytest.mark.parametrize("fill", [[], ["--fill"]], ids=["raw", "fill"])
    def test_binary(self, fill: list[str], tool: Tool) -> None:
        """A binary file gives verdicts, no crash and no event."""
        (tool.home.parent / "binary").write_bytes(bytes(range(256)) * 4000)
        done = tool("record", "raw", "binary", *fill)
        assert (2, "") == (done.returncode, done.stdout)
        assert "Traceback" not in done.stderr
        assert [] == tool.lines()

    def test_no_newline_at_all(self, tool: Tool) -> None:
        """A file of many megabytes without a newline is one bad line, in bounded memory."""
        (tool.home.parent / "long").write_bytes(b"x" * (20 << 20))
        done = tool("record", "raw", "long", "--json")
        assert [1] == [bad["line"] for bad in json.loads(done.stdout)["bad"]]

    def test_too_large(self, tool: Tool) -> None:
        """A raw event over 32 KiB is a bad line, and the one after it is stored."""
        large = (self.GOOD % 1)[:-3] + b'0,"y":"' + b"y" * 40_000 + b'"}\n'
        assert 2 == tool("record", "raw", stdin=large + self.GOOD % 2).returncode
        assert [self.GOOD % 2] == tool.lines()

    def test_pipe_that_stays_open(self, tool: Tool) -> None:
        """From a pipe each line is stored as it comes, while the pipe stays open."""
        running = subprocess.Popen(
            tool.command("record", "raw"), env=tool.environ, stdin=subprocess.PIPE, cwd=tool.home.parent
        )
        assert running.stdin
        for number in range(1, 4):
            running.stdin.write(self.GOOD % number)
            running.stdin.flush()
            deadline = 200
            while len(tool.lines()) < number and deadline:
                subprocess.run(["sleep", "0.05"], check=True)
                deadline -= 1
            assert number == len(tool.lines())
        running.kill()
        running.wait()
        running.stdin.close()
        assert 3 == len(tool.lines())

    @pytest.mark.parametrize("file", ["missing.ndjson", "."], ids=["missing", "folder"])
    def test_no_file(self, file: str, tool: Tool) -> None:
        """A file that cannot be read is 2, and says which."""
        done = tool("record", "raw", file)
        assert 2 == done.returncode
        assert file in done.stderr

    def test_unknown_on_error(self, tool: Tool) -> None:
        """A word after --on-error that is none of the three is refused here, too, and nothing is stored."""
        assert 2 == tool("record", "raw", "--on-error", "explode", stdin=self.GOOD % 1).returncode
        assert not tool.home.exists()

    def test_off(self, tool: Tool) -> None:
        """Opted out, the lines are checked and nothing is stored."""
        assert 0 == tool("record", "raw", stdin=self.GOOD % 1, DO_NOT_TRACK="1").returncode
        assert 2 == tool("record", "raw", stdin=b"x\n", DO_NOT_TRACK="1").returncode
        assert not tool.home.exists()

    def test_import(self, tool: Tool) -> None:
        """An export that is imported where it came from stores nothing, and elsewhere everything, byte for byte."""
        tool("record", "behavioral", "x")
        tool("record", "behavioral", "y")
        exported = tool("spool", "export").stdout.encode()
        (tool.home.parent / "export.ndjson").write_bytes(exported)
        done = tool.json("spool", "import", "export.ndjson")
        assert (0, 2) == (done["stored"], done["duplicates"])
        assert 0 == tool("spool", "purge").returncode
        done = tool.json("spool", "import", "export.ndjson")
        assert (2, 0) == (done["stored"], done["duplicates"])
        assert exported == b"".join(tool.lines())

    def test_import_of_a_bad_line(self, tool: Tool) -> None:
        """A bad line of an import is told by its number in the file, however many good ones stand before it."""
        lines = [self.GOOD % number for number in range(30_000)]
        (tool.home.parent / "export.ndjson").write_bytes(b"".join(lines) + b"garbage\n")
        done = tool.json("spool", "import", "export.ndjson")
        assert (30_000, [30_001]) == (done["stored"], [bad["line"] for bad in done["bad"]])


class TestFaults:
    def test_full(self, tool: Tool) -> None:
        """A full spool is a warning and 0, 73 with --on-error fail; what is there stays."""
        tool.home.mkdir()
        (tool.home / "config.toml").write_text('[spool]\nmax_bytes = "2KiB"\n')
        codes = [
            tool("record", "behavioral", "x", "-a", "k=" + "v" * 300, "--on-error", "fail").returncode for _ in range(6)
        ]
        assert [0, 0, 0, 0, 73, 73] == codes
        done = tool("record", "behavioral", "x", "-a", "k=" + "v" * 300)
        assert (0, 1) == (done.returncode, done.stderr.count("\n"))
        assert "rillevents flush" in done.stderr
        assert 4 == len(tool.events())
        assert 3 == tool.json("status")["ledger"]["dropped"]["spool-full"]

    def test_full_disk(self, tool: Tool) -> None:
        """A full disk is a warning and 0, 73 with --on-error fail, and earlier events stay whole."""
        if os.geteuid() != 0:
            pytest.skip("mounting a small file system needs root")
        place = tool.home.parent / "small"
        place.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", place], check=True)
        try:
            environ = {"RILLEVENTS_SPOOL_DIR": str(place / "spool")}
            codes = [
                tool("record", "behavioral", "x", "-a", "k=" + "v" * 9000, "--on-error", "fail", **environ).returncode
                for _ in range(8)
            ]
            assert (0, 73) == (codes[0], codes[-1])
            assert codes.count(0) == len(tool("spool", "export", **environ).stdout.splitlines())
            assert 0 == tool("record", "behavioral", "x", "-a", "k=" + "v" * 9000, **environ).returncode
        finally:
            subprocess.run(["umount", place], check=True)

    @pytest.mark.parametrize("call", ["write", "flock", "openat"])
    def test_killed(self, call: str, tool: Tool) -> None:
        """Killed at any system call, `record` leaves nothing that harms the next event."""
        strace = need("strace")
        tool("record", "behavioral", "first")
        for number in (1, 2, 3):
            words = [
                strace,
                "-o",
                "/dev/null",
                "-P",
                str(tool.spool / "slot-0.ndjson"),
                "-e",
                f"inject={call}:signal=KILL:when={number}",
            ]
            subprocess.run([*words, *tool.command("record", "behavioral", "killed")], env=tool.environ, check=False)
        tool("record", "behavioral", "last")
        names = [event["event_name"] for event in tool.events()]
        assert ("first", "last") == (names[0], names[-1])

    @pytest.mark.parametrize("code", ["ENOSPC", "EIO", "EDQUOT"])
    def test_write_fails(self, code: str, tool: Tool) -> None:
        """A disk that refuses is one line that says why, and 73 with --on-error fail."""
        strace = need("strace")
        tool("record", "behavioral", "first")
        words = [
            strace,
            "-o",
            "/dev/null",
            "-P",
            str(tool.spool / "slot-0.ndjson"),
            "-e",
            f"inject=write:error={code}:when=1+",
        ]
        done = subprocess.run(
            [*words, *tool.command("record", "behavioral", "x", "--on-error", "fail")],
            env=tool.environ,
            check=False,
            capture_output=True,
            text=True,
        )
        assert 73 == done.returncode
        assert os.strerror(getattr(errno, code)) in done.stderr
        assert 1 == len(tool.events())

    @pytest.mark.parametrize("redirect", ["0<&-", "1>&-", "2>&-", "0<&- 1>&- 2>&-"])
    def test_closed_streams(self, redirect: str, tool: Tool) -> None:
        """Closed streams change nothing, and nothing that was meant for them gets into the spool."""
        for words in ("behavioral x --print", "behavioral '' --print", f"behavioral x -a k={'v' * 40_000}"):
            subprocess.run(
                ["sh", "-c", f'"$@" {words} {redirect}', "sh", *tool.command("record")],
                env=tool.environ,
                check=False,
                capture_output=True,
            )
        assert 2 == len(tool.events())
        assert 2 == (tool.spool / "slot-0.ndjson").read_bytes().count(b"\n")

    def test_reader_gone(self, tool: Tool) -> None:
        """A reader that does not wait for the output is no failure."""
        done = subprocess.run(
            [
                "bash",
                "-o",
                "pipefail",
                "-c",
                '"$@" record behavioral x --print | true; exit ${PIPESTATUS[0]}',
                "sh",
                *tool.command(),
            ],
            env=tool.environ,
            check=False,
            capture_output=True,
        )
        assert (0, b"") == (done.returncode, done.stderr)
        assert 1 == len(tool.events())

    @pytest.mark.parametrize("home", [None, "", "/nonexistent", "relative", "/proc/nowhere"], ids=str)
    def test_no_home(self, home: str | None, tool: Tool) -> None:
        """Without a usable home folder events go to a private folder elsewhere, and nothing fails or is made in the way."""
        user = "12345"
        script = ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups"] if os.geteuid() == 0 else []
        place = Path(f"/var/tmp/rillevents-{user if script else os.getuid()}")
        if not script or place.exists():
            pytest.skip("needs root to become a user without a home, and a machine on which that user was never used")
        with tempfile.TemporaryDirectory() as folder:
            os.chmod(folder, 0o777)
            environ = {key: value for key, value in tool.environ.items() if key not in ("HOME", "RILLEVENTS_HOME")}
            environ |= {} if home is None else {"HOME": home}
            try:
                run = [*script, *tool.command("record", "behavioral", "x", "--on-error", "fail")]
                done = subprocess.run(run, env=environ, cwd=folder, check=False, capture_output=True, text=True)
                assert (0, "", "") == (done.returncode, done.stdout, done.stderr)
                assert (
                    1 == (place / "spool" / "v1" / "slot-0.ndjson").read_bytes().count(b"\n")
                    if (place / "spool").exists()
                    else True
                )
                status = subprocess.run(
                    [*script, *tool.command("status", "--json")],
                    env=environ,
                    cwd=folder,
                    check=True,
                    capture_output=True,
                )
                found = json.loads(status.stdout)
                assert (True, 1, "process") == (
                    found["spool"]["fallback"],
                    found["spool"]["events"],
                    found["install_id_source"],
                )
                assert [] == os.listdir(folder)
            finally:
                subprocess.run(["rm", "-rf", place], check=True)

    def test_read_only_home(self, tool: Tool) -> None:
        """In a home that cannot be written to recording goes elsewhere, without a word."""
        if os.geteuid() != 0:
            pytest.skip("mounting read-only needs root")
        home = tool.home.parent / "user"
        script = f'mount --bind {home} {home} && mount -o remount,ro,bind {home} && exec "$@"'
        environ = {key: value for key, value in tool.environ.items() if key != "RILLEVENTS_HOME"}
        try:
            done = subprocess.run(
                [
                    "unshare",
                    "-m",
                    "sh",
                    "-c",
                    script,
                    "sh",
                    *tool.command("record", "behavioral", "x", "--on-error", "fail"),
                ],
                env=environ,
                check=False,
                capture_output=True,
                text=True,
            )
            assert (0, "") == (done.returncode, done.stderr)
        finally:
            subprocess.run(["rm", "-rf", f"/var/tmp/rillevents-{os.getuid()}"], check=True)

    def test_root_in_another_users_home(self, tool: Tool) -> None:
        """What root creates in another user's home belongs to that user."""
        if os.geteuid() != 0:
            pytest.skip("needs root")
        user = tool.home.parent / "user"
        os.chown(user, 12345, 12345)
        tool("record", "behavioral", "x", RILLEVENTS_HOME=None)
        made = list(user.rglob("*"))
        assert made
        assert {12345} == {path.stat().st_uid for path in made}

    def test_interrupted(self, tool: Tool) -> None:
        """An interrupt ends `record` with 130 or by the signal, without a traceback of ours."""
        strace = need("strace")
        words = [
            strace,
            "-o",
            "/dev/null",
            "-P",
            str(create(tool.paths.spool_dir)),
            "-e",
            "inject=all:signal=INT:when=1",
        ]
        done = subprocess.run(
            [*words, *tool.command("record", "behavioral", "x")],
            env=tool.environ,
            check=False,
            capture_output=True,
            text=True,
        )
        assert done.returncode in (0, 130, -2)
        assert "Traceback" not in done.stderr

    def test_descriptor_limit(self, tool: Tool) -> None:
        """A program that has no descriptor left records nothing, hears of it in its log, and goes on."""
        script = (
            "import resource; from rillevents import Client; c = Client.from_config(); c.record('t', 'first')\n"
            "import rillevents.spool.tally, logging, os\n"
            "d = Client.from_config(); resource.setrlimit(resource.RLIMIT_NOFILE, (3, 3))\n"
            "assert d.record('t', 'n') is None; assert c.record('t', 'second')\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", script], env=tool.environ, check=False, capture_output=True, text=True
        )
        assert (0, 1) == (done.returncode, done.stderr.count("not recorded")), done.stderr
        assert ["first", "second"] == [event["event_name"] for event in tool.events()]


@pytest.mark.parametrize(
    ("words", "variable", "code"),
    [
        (("x",), "", 0),
        (("fail",), "", 0),
        (("x", "--on-error", "fail"), "", 1),
        (("x", "--on-error=ignore"), "fail", 0),
        (("x",), " Fail", 1),
    ],
)
def test_a_broken_installation(tool: Tool, tmp_path: Path, words: tuple[str, ...], variable: str, code: int) -> None:
    """Where a part of the tool is missing `record` says so in a line, and the script goes on unless it asked for more."""
    shutil.copytree(Path(rillevents.__file__).parent, tmp_path / "broken" / "rillevents")
    (tmp_path / "broken" / "rillevents" / "recording" / "redact.py").unlink()
    command = [sys.executable, "-m", "rillevents", "record", "behavioral", *words]
    environ = {key: value for key, value in tool.environ.items() if "COVERAGE" not in key}
    environ |= {"PYTHONPATH": str(tmp_path / "broken"), "RILLEVENTS_ON_ERROR": variable}
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert (code, "", 1) == (done.returncode, done.stdout, len(done.stderr.splitlines())), done.stderr


def test_a_failed_sync_leaves_nothing(tool: Tool) -> None:
    """An event that --durable could not sync is told as not recorded, is not in the spool, and harms no other."""
    strace = need("strace")
    tool("record", "behavioral", "before")
    record = tool.command("record", "behavioral", "failed", "--durable", "--on-error", "fail")
    words = [strace, "-o", "/dev/null", "-e", "inject=fdatasync,fsync:error=EIO:when=1+", *record]
    done = subprocess.run(words, env=tool.environ, capture_output=True, text=True, check=False)
    assert (73, True) == (done.returncode, "Input/output error" in done.stderr)
    tool("record", "behavioral", "after", "--durable")
    assert ["before", "after"] == [event["event_name"] for event in tool.events()]


class TestFullPipe:
    @pytest.mark.parametrize(
        ("words", "environ", "code"),
        [
            (["record", "behavioral"], {}, 2),
            (
                ["record", "behavioral", "x"],
                {"RILLEVENTS_HOME": "/dev/null/x", "RILLEVENTS_SPOOL_DIR": "/dev/null/s"},
                0,
            ),
            (["flush"], {}, 78),
            (["--help", "--nonsense"], {}, 2),
        ],
        ids=["usage", "unusable-home", "flush", "unknown-option"],
    )
    def test_nobody_reads_stderr(self, words: list[str], environ: dict[str, str], code: int, tool: Tool) -> None:
        """A command with something to say ends by itself, with its own exit code, though its stderr is a full pipe."""
        tool("record", "behavioral", "first")
        read, write = os.pipe()
        os.set_blocking(write, False)
        with contextlib.suppress(BlockingIOError):
            while True:
                os.write(write, b"x" * 4096)
        os.set_blocking(write, True)
        try:
            done = subprocess.run(
                tool.command(*words),
                env=tool.environ | environ,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=write,
                timeout=30 * PACE,
                check=False,
            )
        finally:
            os.close(read)
            os.close(write)
        assert code == done.returncode

    def test_a_slow_reader(self, tool: Tool) -> None:
        """Whoever reads late, but reads, gets every line whole."""
        words = tool.command("record", "raw")
        bad = b"".join(b"{%d\n" % number for number in range(5000))
        with subprocess.Popen(words, env=tool.environ, stdin=subprocess.PIPE, stderr=subprocess.PIPE) as running:
            told, _ = b"", None
            _, told = running.communicate(bad)
        assert b"rillevents: and 4980 more bad lines" == told.splitlines()[-1]
