"""What is shown to a person never steers the terminal: wherever a text came from, its control characters come out escaped."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import subprocess
import sys
import time
import unicodedata
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from support import PACE, Tool, make_store

# Loaded here, for the forks to have: what the commands load when they run.
import rillevents.cli.app
import rillevents.cli.display
import rillevents.cli.render
import rillevents.delivery.exporters.intake  # noqa: F401
from rillevents.cli import main
from rillevents.testing import FakeIntake, Request, Response

pytestmark = [pytest.mark.slow, pytest.mark.unmeasured]

# A title, a cleared screen, C0, C1 and DEL; bidirectional and other format characters; a line separator; private use.
EVIL = "\x1b]0;t\x07\x1b[2J\x08\r\x9b2J\x85\x7f\u202e\u2066\u200b\ufeff\u2028\ue000\U000e0041"
# A byte that is no UTF-8: written back as it came, it is C1 for some terminals.
BYTE = "\udc9b"
# What rich writes of itself: styles, and how a progress line is drawn again.
OWN = re.compile(r"\x1b\[[0-9;]*m|\x1b\[\?25[lh]|\x1b\[2K|\x1b\[1A")


def unsafe(text: str) -> set[str]:
    """Return the characters of an output that a terminal might act upon, beside line ends, tabs and our own styles."""
    plain = OWN.sub("", text.replace("\r\n", "\n"))
    kinds = ("Cc", "Cf", "Cs", "Co", "Zl", "Zp")
    return {sign for sign in plain if sign not in "\n\t" and unicodedata.category(sign) in kinds}


class Shown:
    """Commands as a person sees them: both streams, on a terminal or in a pipe."""

    def __init__(self, tool: Tool) -> None:
        self.tool = tool
        self.environ = tool.environ | {"TERM": "xterm-256color", "COLUMNS": "100", "CI": "1"}

    def __call__(self, *words: str, terminal: bool, **environ: str) -> str:
        """Run a command in a fork of this process, not in a new one: loading the modules takes most of the time."""
        ours, theirs = pty.openpty() if terminal else os.pipe()
        pid = os.fork()
        if pid == 0:  # pragma: no cover - another process, which ends by os._exit
            self._become(theirs, words, self.environ | environ)
        os.close(theirs)
        seen = _read(ours)
        os.waitpid(pid, 0)
        return seen

    def _become(self, stream: int, words: tuple[str, ...], environ: Mapping[str, str]) -> None:  # pragma: no cover
        try:
            os.chdir(self.tool.home.parent)
            os.dup2(stream if os.isatty(stream) else os.open(os.devnull, os.O_RDONLY), 0)
            for fd in (1, 2):
                os.dup2(stream, fd)
            os.environ.clear()
            os.environ.update(environ)
            sys.argv = ["rillevents", *words]
            sys.stdin = os.fdopen(0, encoding="utf-8")
            sys.stdout = os.fdopen(1, "w", encoding="utf-8")
            sys.stderr = os.fdopen(2, "w", encoding="utf-8", errors="backslashreplace")
            main()
        finally:
            os._exit(99)

    def spawn(self, *words: str, terminal: bool, until: str = "", **environ: str) -> str:
        """Run a command in a process of its own; with *until* it is ended once that was seen."""
        ours, theirs = pty.openpty() if terminal else os.pipe()
        running = subprocess.Popen(
            self.tool.command(*words),
            env=self.environ | environ,
            stdin=subprocess.DEVNULL,
            stdout=theirs,
            stderr=theirs,
            cwd=self.tool.home.parent,
        )
        os.close(theirs)
        seen = _read(ours, until)
        if until:
            running.terminate()
        running.wait(30)
        return seen


def _read(fd: int, until: str = "") -> str:
    seen, deadline = b"", time.monotonic() + 60 * PACE
    while time.monotonic() < deadline and not (until and until.encode() in seen):
        if not select.select([fd], [], [], 1)[0]:
            continue
        try:
            piece = os.read(fd, 65536)
        except OSError:  # How a terminal says that nobody has it open any more.
            break
        if not piece:
            break
        seen += piece
    os.close(fd)
    return seen.decode("utf-8", "surrogateescape")


@pytest.fixture
def shown(tool: Tool) -> Shown:
    """Commands as a person sees them, in an empty home."""
    tool.home.mkdir(mode=0o700)
    return Shown(tool)


def stored(tool: Tool) -> None:
    """Put events into the spool that are evil in every place."""
    tool("record", "behavioral", "x")
    event = {
        "event_id": f"i{EVIL}",
        "event_time": f"2026-11{EVIL}",
        "event_type": f"t{EVIL}",
        "event_name": f"n{EVIL}",
        f"k{EVIL}": {f"a{EVIL}": [EVIL, f"v{EVIL}"]},
        "text": EVIL,
    }
    lines = [json.dumps(event, ensure_ascii=False), json.dumps(event | {"lone": "\ud800\udc9b\udfff"})]
    (tool.spool / "slot-0.ndjson").write_text("".join(f"{line}\n" for line in lines))


def in_store(tool: Tool) -> None:
    """Put events into the default store that are evil in every place but their time."""
    fields = {"event_id": f"i{EVIL}", "event_time": "2026-11-23T10:00:00Z", "event_name": f"n{EVIL}", f"k{EVIL}": EVIL}
    kinds = ({"event_type": f"t{EVIL}"}, {"event_type": "metric", "event_id": "m", "value": 1.5})
    make_store(tool.home / "events.db", [json.dumps({**fields, **kind}).encode() for kind in kinds])


def configured(text: str) -> Callable[[Tool], None]:
    """Write a config.toml, in which TOML's own escapes stand for evil characters."""

    def write(tool: Tool) -> None:
        escaped = "".join(f"\\U{ord(sign):08x}" for sign in EVIL)
        (tool.home / "config.toml").write_text(text.replace("EVIL", escaped))

    return write


@dataclass(frozen=True)
class Case:
    """A command whose output has an evil text in it; *echoes* where it has to be seen, escaped."""

    words: list[str]
    environ: Mapping[str, str] = field(default_factory=dict)
    prepare: Callable[[Tool], None] = lambda tool: None
    echoes: bool = True


def usage(*words: str, echoes: bool = True) -> list[Case]:
    """Return mistakes in arguments, with text that is valid and with bytes that are not."""
    return [Case([word.replace("EVIL", evil) for word in words], echoes=echoes) for evil in (EVIL, f"x{BYTE}")]


def variable(name: str, *words: str, echoes: bool = True) -> list[Case]:
    """Return a variable with such a value, seen by a command."""
    return [Case([*words], {name: f"x{evil}"}, echoes=echoes) for evil in (EVIL, BYTE)]


CASES = [
    Case(["events"], prepare=stored),
    Case(["events", "--limit", "1"], prepare=stored),
    Case(["events", "--json"], prepare=stored, echoes=False),
    Case(["events", "--store", "home/events.db"], prepare=in_store),
    Case(["stats", "--store", "home/events.db"], prepare=in_store),
    Case(["stats", "--store", "home/events.db"], {"LC_ALL": "C"}, prepare=in_store),
    Case(["stats"], prepare=stored),
    Case(["status"], prepare=stored),
    *usage("EVIL"),
    *usage("-EVIL", echoes=False),
    *usage("record", "EVIL", "x"),
    *usage("record", "behavioral", "x", "--EVIL"),
    *usage("record", "behavioral", "x", "EVIL"),
    *usage("record", "behavioral", "x", "-a", "EVIL"),
    *usage("record", "behavioral", "x", "-a", "k:=EVIL"),
    *usage("record", "behavioral", "x", "-a", "event_id=EVIL", echoes=False),
    *usage("record", "behavioral", "x", "--attrs", "EVIL", echoes=False),
    *usage("record", "behavioral", "x", "--attrs", "@EVIL"),
    *usage("record", "behavioral", "x", "--time", "EVIL"),
    *usage("record", "behavioral", "x", "--on-error", "EVIL"),
    *usage("record", "behavioral", "x", "-q=EVIL", echoes=False),
    *usage("record", "metric", "x", "1EVIL"),
    *usage("record", "raw", "EVIL"),
    *usage("spool", "EVIL"),
    *usage("spool", "import", "EVIL"),
    *usage("events", "--since", "EVIL"),
    *usage("events", "--store", "EVIL"),
    *usage("stats", "--store", "EVIL"),
    *usage("events", "--limit", "EVIL", echoes=False),
    *usage("help", "EVIL"),
    *usage("completions", "EVIL"),
    *usage("config", "get", "EVIL"),
    *usage("config", "set", "spool.max_bytes", "EVIL"),
    *usage("config", "set", "intake.url", "EVIL", echoes=False),
    *usage("flush", "--timeout", "EVIL", echoes=False),
    *usage("flush", "--to", "EVIL", echoes=False),
    *usage("flush", "--to", "http://127.0.0.1:9/EVIL", echoes=False),
    *usage("flush", "--dry-run", "--to", "EVIL"),
    *variable("RILLEVENTS_TELEMETRY", "record", "behavioral", "x"),
    *variable("RILLEVENTS_TELEMETRY", "telemetry", "status"),
    *variable("RILLEVENTS_ON_ERROR", "record", "behavioral", "x"),
    *variable("RILLEVENTS_IS_DEV", "record", "behavioral", "x"),
    *variable("RILLEVENTS_CI_CONTEXT", "record", "behavioral", "x"),
    *variable("RILLEVENTS_ATTRIBUTES", "record", "behavioral", "x", echoes=False),
    *variable("RILLEVENTS_INSTALL_ID", "id", "show", echoes=False),
    *variable("RILLEVENTS_INSTALL_ID", "status", echoes=False),
    *variable("RILLEVENTS_TO", "status"),
    *variable("RILLEVENTS_INTAKE_URL", "status", echoes=False),
    *variable("RILLEVENTS_INTAKE_URL", "flush", echoes=False),
    *variable("RILLEVENTS_INTAKE_PASSWORD_FILE", "flush", echoes=False),
    *variable("RILLEVENTS_HOME", "status"),
    *variable("RILLEVENTS_HOME", "config", "list"),
    *variable("RILLEVENTS_HOME", "config", "set", "flush.to", "file:x"),
    *variable("RILLEVENTS_HOME", "telemetry", "on", echoes=False),
    Case(["demo"], {"RILLEVENTS_HOME": f"x{EVIL}{BYTE}"}),
    *variable("RILLEVENTS_SPOOL_DIR", "status"),
    *variable("RILLEVENTS_CONFIG", "config", "list"),
    Case(["record", "behavioral", "x"], {"RILLEVENTS_HOME": f"/dev/null/{EVIL}{BYTE}"}),
    Case(["flush"], {"RILLEVENTS_CONFIG": f"/{EVIL}" * 300}, echoes=False),
    Case(["config", "list"], prepare=configured('[attributes]\n"kEVIL" = "vEVIL"\nlist = ["EVIL"]\n')),
    Case(["config", "list"], prepare=configured('"sEVIL" = 3\n[intake]\n"kEVIL" = 3\nuser = "uEVIL"\n')),
    Case(["status"], prepare=configured('[intake]\nurl = "https://i.example/e"\nuser = "uEVIL"\n')),
    Case(["status"], prepare=configured('[flush]\nto = "file:EVIL"\n')),
    Case(["record", "behavioral", "x"], prepare=configured('[spool]\nmax_bytes = "EVIL"\n')),
    Case(["flush"], prepare=configured('[flush]\ncompression = "EVIL"\n')),
    Case(
        ["flush"], prepare=configured("[intake]\nurl = 'https://i.example/e'\nuser = 'u'\npassword_file = \"EVIL\"\n")
    ),
]
# Data of one value: for a script it is printed as it is, for a person escaped.
VALUES = [
    Case(["spool", "path"], {"RILLEVENTS_SPOOL_DIR": f"/x{EVIL}{BYTE}"}),
    Case(["config", "path"], {"RILLEVENTS_CONFIG": f"/x{EVIL}{BYTE}"}),
    Case(["config", "get", "attributes.k"], prepare=configured('[attributes]\nk = "vEVIL"\n')),
]


def named(cases: list[Case]) -> list[object]:
    """Return the cases as parameters, with names that are safe themselves."""

    def name(case: Case) -> str:
        words = [*case.environ, *case.words]
        return "-".join("".join(sign for sign in word if sign.isalnum() and sign.isascii()) for word in words)

    return [pytest.param(case, id=f"{number}-{name(case)}"[:60]) for number, case in enumerate(cases)]


@pytest.mark.parametrize("terminal", [True, False], ids=["terminal", "pipe"])
@pytest.mark.parametrize("case", named(CASES))
def test_shown(case: Case, terminal: bool, shown: Shown) -> None:
    """Whatever a person reads, on a terminal or in a log: nothing in it is a character that a terminal acts upon."""
    case.prepare(shown.tool)
    seen = shown(*case.words, terminal=terminal, **case.environ)
    assert set() == unsafe(seen), seen
    assert "internal error" not in seen
    assert not case.echoes or re.search(r"\\x1b|\\udc9b", seen), seen


@pytest.mark.parametrize("case", named(VALUES))
def test_values(case: Case, shown: Shown) -> None:
    """A single value is escaped on a terminal, and byte for byte what it is in a pipe."""
    case.prepare(shown.tool)
    assert set() == unsafe(shown(*case.words, terminal=True, **case.environ))
    assert EVIL in shown(*case.words, terminal=False, **case.environ)


@pytest.mark.parametrize("words", [["help", "flush"], ["help", "record"]], ids=" ".join)
def test_lines_stay_lines(words: list[str], shown: Shown) -> None:
    """The help of a command is the same on a terminal as in a pipe, line by line."""
    seen = shown(*words, terminal=True)
    assert len(seen.splitlines()) > 5
    assert shown(*words, terminal=False).splitlines() == seen.splitlines()
    assert "\\n" not in seen


def answers(status: int, body: bytes) -> Callable[[Request], Response]:
    """Let the intake say the same to every request, with a phrase and headers that are as evil as HTTP permits."""
    return lambda request: Response(
        status, body, {"Content-Type": "text/plain; charset=utf-8", "Location": "https://x/\x9b2J"}
    )


BODIES = {
    "text": EVIL.encode(),
    "bytes": bytes(range(1, 256)),
    "json": json.dumps({"error": EVIL, "message": EVIL}, ensure_ascii=False).encode(),
    "rejected": json.dumps({"rejected": [{"line": 1, "reason": f"no{EVIL}"}]}, ensure_ascii=False).encode(),
}


@pytest.fixture
def intake() -> Iterator[FakeIntake]:
    """An intake."""
    with FakeIntake() as running:
        yield running


@pytest.mark.parametrize("body", BODIES)
@pytest.mark.parametrize("status", [200, 302, 400, 401, 404])
def test_answers(status: int, body: str, shown: Shown, intake: FakeIntake) -> None:
    """What an intake answers is shown escaped by `flush`, and remembered that way for `status` and `spool rejected`."""
    shown.tool("record", "behavioral", f"n{EVIL}")
    intake.respond = answers(status, BODIES[body])
    seen = shown.spawn("flush", "--timeout", "3", terminal=True, RILLEVENTS_INTAKE_URL=intake.url)
    assert "rillevents: " in seen
    assert set() == unsafe(seen), seen
    if body == "rejected" and status == 200:
        for terminal in (True, False):
            rejected = shown.spawn("spool", "rejected", terminal=terminal)
            assert set() == unsafe(rejected), rejected
            assert "n\\x1b" in rejected
            assert set() == unsafe(shown.spawn("status", terminal=terminal))


@pytest.mark.parametrize("terminal", [True, False], ids=["terminal", "pipe"])
def test_following(terminal: bool, shown: Shown) -> None:
    """`events -f` shows events that come in escaped, too."""
    stored(shown.tool)
    in_store(shown.tool)
    for words, until in ([], "text="), (["--store", "home/events.db"], "value="):
        seen = shown.spawn("events", "-f", *words, terminal=terminal, until=until)
        assert set() == unsafe(seen), seen
        assert "\\x1b" in seen


@pytest.mark.parametrize(
    "words",
    [["events"], ["stats"], ["status"], ["spool", "rejected"], ["config", "list"], ["config", "get", "nope"]],
    ids=" ".join,
)
def test_json(words: list[str], shown: Shown) -> None:
    """--json is plain ASCII, on a terminal as in a pipe, and gives back every character."""
    stored(shown.tool)
    configured('[attributes]\n"kEVIL" = "vEVIL"\n')(shown.tool)
    for terminal in (True, False):
        seen = shown(*words, "--json", terminal=terminal, RILLEVENTS_TO=f"file:{EVIL}")
        document = seen.partition("rillevents: ")[0]
        assert document.replace("\r\n", "\n").isascii()
        assert set() == unsafe(seen)
        json.loads(document)
        if words == ["events"]:
            assert f"n{EVIL}" == json.loads(document)[0]["event_name"]


@pytest.mark.parametrize(
    "words",
    [
        ["events", "--ndjson"],
        ["spool", "export"],
        ["flush", "--dry-run"],
        ["record", "log", EVIL, "--dry-run"],
        ["record", "log", "x", "-a", f"{EVIL}={EVIL}", "--print"],
    ],
    ids=["events", "export", "flush", "dry-run", "print"],
)
def test_ndjson(words: list[str], shown: Shown) -> None:
    """NDJSON on a terminal is the same document with everything escaped; in a pipe it is byte for byte what is stored."""
    stored(shown.tool)
    seen = shown(*words, terminal=True)
    assert set() == unsafe(seen), seen
    line = next(text for text in seen.splitlines() if text.startswith("{"))
    assert EVIL in [*json.loads(line).values(), *json.loads(line)]
    assert unsafe(shown(*words, terminal=False))


def test_first_notice(shown: Shown) -> None:
    """The notice for the first event on a terminal, and the hint about a name, show the place and the name escaped."""
    place = str(shown.tool.home / EVIL)
    seen = shown("record", "behavioral", "login-strat\u200b", terminal=True, CI="false", RILLEVENTS_HOME=place)
    assert "telemetry off" in seen
    assert "did you mean" in seen
    assert set() == unsafe(seen), seen


@pytest.mark.parametrize("place", ["cwd", "argument"])
def test_paths_of_any_bytes(place: str, shown: Shown, tmp_path: Path) -> None:
    """A folder whose name is no UTF-8 is shown escaped, whether it was named or is the one that we are in."""
    folder = Path(f"{tmp_path}/{EVIL}{BYTE}")
    folder.mkdir()
    if place == "cwd":
        shown.tool.home = folder / "home"
        seen = shown("status", terminal=True, RILLEVENTS_HOME="here")
    else:
        shown.tool("record", "behavioral", "x")
        seen = shown("flush", "--to", f"file:{folder}/no/such", terminal=True)
    assert set() == unsafe(seen), seen
    assert "\\udc9b" in seen or "folder does not exist" in seen
