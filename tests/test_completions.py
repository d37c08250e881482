"""The completion scripts: what is in them, and what the shells make of it."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any

import pytest
import typer
from pygments.lexers.shell import PowerShellLexer
from pygments.token import Token
from support import PACE, need

from rillevents.cli.app import assembled
from rillevents.cli.completion import scripts
from rillevents.cli.completion.tree import Values, tree
from rillevents.cli.help import SHELLS

pytestmark = pytest.mark.unmeasured

ROOT = Path(__file__).parents[1]
COMMAND = "python -m rillevents.cli.completion completions"
SECONDS = 20 * PACE
REAL_SHELLS = ("bash", "zsh", "fish")

Ask = Callable[[str], list[str]]


class Terminal:
    """A program in a terminal of its own, of 200 columns."""

    def __init__(self, argv: list[str], home: Path, **environ: str) -> None:
        self.fd, slave = os.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 60, 200, 0, 0))
        self.process = subprocess.Popen(
            argv,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            cwd=home / "work",
            env=environment(home, **environ),
            start_new_session=True,
        )
        os.close(slave)
        self.left = b""

    def read(self, end: bytes) -> str:
        """Return what the program prints up to *end*; what comes after it is for the next call."""
        bound = time.monotonic() + SECONDS
        while end not in self.left:
            if not select.select([self.fd], [], [], max(0, bound - time.monotonic()))[0]:
                pytest.fail(f"{end!r} did not come within {SECONDS} s, only {self.left!r}")
            self.left += os.read(self.fd, 65536)
        found, _, self.left = self.left.partition(end)
        return found.decode()

    def tab(self, line: str, tabs: int = 1) -> tuple[str, str, str, list[str]]:
        """Type a line and TAB; return what was shown, what the shell let replace, the line then, and the answers."""
        os.write(self.fd, line.encode() + b"\t" * tabs + b"\x14")
        shown, replaced, then, *answers = self.read(b"\x1d").split("\x1e")
        return shown, replaced, then, [answer for answer in answers if answer]

    def close(self) -> None:
        """End the program."""
        self.process.kill()
        self.process.wait()
        os.close(self.fd)


def environment(home: Path, **more: str) -> dict[str, str]:
    path = f"{home / 'bin'}{os.pathsep}{os.environ['PATH']}"
    return {"HOME": str(home), "PATH": path, "TERM": "dumb", "LC_ALL": "C.UTF-8", "HISTFILE": ""} | more


def make_home(home: Path) -> Path:
    """Fill a home folder: files to complete, and a program `rillevents` that leaves a trace when it is started."""
    (home / "work" / "folder").mkdir(parents=True)
    for name in ("events.ndjson", "extra.pem", "with space"):
        (home / "work" / name).touch()
    (home / "bin").mkdir()
    (home / "bin" / "rillevents").write_text(f"#!/bin/sh\n: > '{home}/started'\n")
    (home / "bin" / "rillevents").chmod(0o755)
    for name, script in scripts(assembled()).items():
        (home / name).write_bytes(script)
    return home


# Control-T prints what TAB has found, and clears the line.
BASH = r"""
PS1=$'\x1f'
{load}
probe() { _rillevents "$@"; replaced=$2 answers=("${COMPREPLY[@]}"); }
show() {
    printf '\036%s' "$replaced" "$READLINE_LINE" "${answers[@]}"
    printf '\035'
    answers=() READLINE_LINE= READLINE_POINT=0
}
complete -F probe rillevents
bind 'set page-completions off'
bind 'set completion-query-items 0'
bind 'set enable-bracketed-paste off'
bind -x '"\C-t": show'
"""
ZSH = r"""
PROMPT=$'\x1f'
unset zle_bracketed_paste
{load}
zstyle ':completion:*' insert-tab false
answers=()
compadd() {
    if [[ ${@[1,(i)(-|--)]} == *-(O|A|D)\ * ]]; then
        builtin compadd "$@"
        return
    fi
    local -a hits
    builtin compadd -A hits "$@"
    answers+=("$IPREFIX"${^hits})
    builtin compadd "$@"
}
show() {
    printf '\036%s' '' "$BUFFER" "${answers[@]}"
    printf '\035'
    answers=() BUFFER=
}
zle -N show
bindkey '^T' show
bindkey '^I' complete-word
"""
FPATH = "fpath=(~ $fpath); autoload -Uz compinit && compinit -u -d ~/.dump"
SOURCE = "autoload -Uz compinit && compinit -u -d ~/.dump; source ~/_rillevents"


def start(shell: str, home: Path, load: str) -> Terminal:
    """Return a shell at its prompt, after it has run *load*."""
    if shell == "bash":
        (home / "bashrc").write_text(BASH.replace("{load}", load))
        terminal = Terminal([need("bash"), "--noprofile", "--rcfile", str(home / "bashrc"), "-i"], home)
    else:
        (home / ".zshrc").write_text(ZSH.replace("{load}", load))
        terminal = Terminal([need("zsh"), "-d", "-i"], home)
    terminal.read(b"\x1f")
    return terminal


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home folder with the scripts in it, and files to complete."""
    return make_home(tmp_path_factory.mktemp("home"))


@pytest.fixture(scope="module")
def bash(home: Path) -> Iterator[Terminal]:
    """An interactive bash that has the completions."""
    terminal = start("bash", home, "source ~/rillevents.bash")
    yield terminal
    terminal.close()


@pytest.fixture(scope="module")
def zsh(home: Path) -> Iterator[Terminal]:
    """An interactive zsh that loads the completions from a folder of its fpath."""
    terminal = start("zsh", home, FPATH)
    yield terminal
    terminal.close()


def fish_offers(home: Path, line: str, script: str = "source ~/rillevents.fish;") -> dict[str, str]:
    """Return what fish offers for a line, with the descriptions."""
    command = [need("fish"), "-c", f'{script} complete -C "$argv[1]"', line]
    done = subprocess.run(
        command, cwd=home / "work", env=environment(home), capture_output=True, text=True, timeout=SECONDS, check=True
    )
    assert "" == done.stderr
    return {word: told for word, _, told in (row.partition("\t") for row in done.stdout.splitlines())}


@pytest.fixture
def ask(request: pytest.FixtureRequest, home: Path) -> Callable[[str], Ask]:
    """Asks a shell for completions: what the last word of a line may become."""

    def asking(shell: str) -> Ask:
        if shell == "fish":
            need("fish")
            return lambda line: list(fish_offers(home, line))
        terminal: Terminal = request.getfixturevalue(shell)

        def typed(line: str) -> list[str]:
            _, replaced, _, answers = terminal.tab(line)
            kept = line.removesuffix(replaced).rpartition(" ")[2] if shell == "bash" else ""
            return [kept + answer for answer in answers]

        return typed

    return asking


def walk(command: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the path and the parameters of each visible command, by another way than the generator's."""
    yield path, command.params
    for name, below in getattr(command, "commands", {}).items():
        if not below.hidden:
            yield from walk(below, f"{path} {name}".strip())


def flags(params: Any, *, hidden: bool) -> list[str]:
    """Return the flags of the options that are, or are not, hidden."""
    return [flag for param in params for flag in param.opts if flag.startswith("-") and param.hidden is hidden]


PARAMETERS = dict(walk(typer.main.get_command(assembled())))
COMMANDS = {path: [*flags(params, hidden=False), "-h", "--help"] for path, params in PARAMETERS.items()}


class TestScripts:
    @pytest.mark.parametrize("name", SHELLS.values(), ids=SHELLS)
    def test_the_committed_scripts_are_up_to_date(self, name: str) -> None:
        """The scripts in completions/ are what the generator makes of the app today."""
        committed = ROOT / "completions" / name
        actual = committed.read_bytes() if committed.is_file() else b""

        assert scripts(assembled())[name] == actual, f"run: {COMMAND}"

    def test_the_generator_writes_them(self, tmp_path: Path) -> None:
        """The command that the failure of the test before names writes each script into the folder."""
        subprocess.run([sys.executable, "-m", "rillevents.cli.completion", str(tmp_path / "new")], cwd=ROOT, check=True)

        assert scripts(assembled()) == {path.name: path.read_bytes() for path in (tmp_path / "new").iterdir()}

    def test_the_generator_wants_a_folder(self) -> None:
        """Without a folder the generator says how it is called, and exits with 2."""
        done = subprocess.run(
            [sys.executable, "-m", "rillevents.cli.completion"], cwd=ROOT, capture_output=True, text=True, check=False
        )

        assert (2, "usage: python -m rillevents.cli.completion FOLDER\n") == (done.returncode, done.stderr)

    @pytest.mark.parametrize("shell", SHELLS, ids=str)
    def test_the_tool_prints_them(self, shell: str, tmp_path: Path) -> None:
        """`rillevents completions SHELL` prints the committed script, byte for byte."""
        done = subprocess.run(
            [sys.executable, "-m", "rillevents", "completions", shell],
            cwd=ROOT,
            env={"HOME": str(tmp_path), "PATH": os.environ["PATH"]},
            capture_output=True,
            check=True,
        )

        assert (ROOT / "completions" / SHELLS[shell]).read_bytes() == done.stdout

    @pytest.mark.parametrize("name", SHELLS.values(), ids=SHELLS)
    def test_nothing_is_left_out(self, name: str) -> None:
        """Each visible command and option occurs in each script."""
        words = set(re.findall(r"[\w-]+", scripts(assembled())[name].decode()))
        # fish writes -s a for -a, and -l attr for --attr.
        dashes = "-" if name.endswith(".fish") else ""
        wanted = {word for path, options in COMMANDS.items() for word in (*path.split(), *options)}

        assert set() == {word for word in wanted if word not in words and word.lstrip(dashes) not in words}

    def test_hidden_options_are_left_out(self) -> None:
        """A hidden option occurs in no script."""
        hidden = {flag.lstrip("-") for params in PARAMETERS.values() for flag in flags(params, hidden=True)}
        words = {
            word.lstrip("-")
            for script in scripts(assembled()).values()
            for word in re.findall(r"[\w-]+", script.decode())
        }

        assert hidden
        assert set() == hidden & words


CASES = [
    # line, what is offered among others, what is not
    pytest.param("rillevents rec", {"record"}, {"flush", "events.ndjson"}, id="command"),
    pytest.param("rillevents ", {"record", "flush", "help"}, {"behavioral", "events.ndjson"}, id="commands"),
    pytest.param("rillevents record ", {"behavioral", "raw"}, {"record", "flush", "events.ndjson"}, id="subcommands"),
    pytest.param("rillevents -q spool re", {"rejected", "retry"}, {"record"}, id="after-an-option-of-the-program"),
    pytest.param(
        "rillevents --", {"--quiet", "--version", "--help"}, {"--json", "record"}, id="options-of-the-program"
    ),
    pytest.param("rillevents flush --t", {"--to", "--timeout"}, {"--json"}, id="options"),
    pytest.param("rillevents events -", {"-a", "--attr", "-f", "--follow"}, {"--to"}, id="short-and-long-options"),
    pytest.param("rillevents record behavioral --", {"--attr"}, {"--legacy"}, id="no-hidden-option"),
    pytest.param("rillevents nonsense ", set(), {"record", "behavioral", "events.ndjson"}, id="unknown-command"),
    pytest.param("rillevents record behavioral login-s", {"login-start", "login-success"}, {"app-start"}, id="name"),
    pytest.param(
        "rillevents record behavioral login-start ", set(), {"app-start", "events.ndjson"}, id="no-second-name"
    ),
    pytest.param("rillevents record behavioral -a k=v lo", {"login-start"}, set(), id="name-after-an-attribute"),
    pytest.param("rillevents record behavioral --attr=k=v lo", {"login-start"}, set(), id="name-after-attr="),
    pytest.param("rillevents record behavioral -a k:=3 lo", {"login-start"}, set(), id="name-after-a-typed-attribute"),
    pytest.param("rillevents record behavioral -qa k=v lo", {"login-start"}, set(), id="name-after-joined-options"),
    pytest.param("rillevents record behavioral -ak=v lo", {"login-start"}, set(), id="name-after-a-joined-value"),
    pytest.param("rillevents record behavioral -a 'k=a b' lo", {"login-start"}, set(), id="name-after-quotes"),
    pytest.param("rillevents record behavioral -- lo", {"login-start"}, set(), id="name-after-two-dashes"),
    pytest.param("rillevents record behavioral -- -", set(), {"--attr", "-a"}, id="no-option-after-two-dashes"),
    pytest.param("rillevents record event ", {"behavioral", "metric", "log"}, {"events.ndjson"}, id="type"),
    pytest.param("rillevents record event audit ", set(), {"behavioral", "events.ndjson"}, id="free-name"),
    pytest.param("rillevents record metric x ", set(), {"events.ndjson", "behavioral"}, id="free-value"),
    pytest.param("rillevents record metric x -45 -a us", {"user_id="}, set(), id="after-a-negative-number"),
    pytest.param("rillevents record log x --attr ", {"service_name=", "user_id="}, {"login-start"}, id="attribute"),
    pytest.param("rillevents record log x -a is", {"is_dev="}, {"install_id="}, id="attribute-begun"),
    pytest.param(
        "rillevents record log x -a is_dev=", set(), {"is_dev=is_dev=", "events.ndjson"}, id="attribute-value"
    ),
    pytest.param("rillevents record log x -a k=v -", {"-a", "--attr"}, {"--json"}, id="option-to-repeat"),
    pytest.param("rillevents record log x --attr=is", {"--attr=is_dev="}, set(), id="attribute-after-="),
    pytest.param("rillevents events -a is", {"is_dev="}, set(), id="attribute-to-look-for"),
    pytest.param("rillevents events --type me", {"metric"}, {"log"}, id="type-to-look-for"),
    pytest.param("rillevents events --since ", set(), {"events.ndjson", "metric"}, id="free-value-of-an-option"),
    pytest.param("rillevents record log x --attrs ", {"@", "@-"}, {"events.ndjson"}, id="attributes"),
    pytest.param("rillevents record log x --attrs @e", {"@events.ndjson", "@extra.pem"}, {"@folder/"}, id="at-file"),
    pytest.param("rillevents record log x --attrs=@ev", {"--attrs=@events.ndjson"}, set(), id="at-file-after-="),
    pytest.param("rillevents flush --on-error ", {"warn", "fail", "ignore"}, {"events.ndjson"}, id="fixed-values"),
    pytest.param("rillevents flush --on-error=w", {"--on-error=warn"}, {"--on-error=fail"}, id="fixed-values-after-="),
    pytest.param("rillevents flush --on-error=", {"--on-error=warn", "--on-error=fail"}, set(), id="nothing-after-="),
    pytest.param("rillevents flush --to ", {"intake", "https://", "file:"}, {"events.ndjson"}, id="destination"),
    pytest.param("rillevents flush --to file:ev", {"file:events.ndjson"}, {"file:extra.pem"}, id="file-after-:"),
    pytest.param("rillevents flush --to=file:ev", {"--to=file:events.ndjson"}, set(), id="file-after-=-and-:"),
    pytest.param("rillevents flush --ca-cert ex", {"extra.pem"}, {"events.ndjson"}, id="file-of-an-option"),
    pytest.param("rillevents record raw ev", {"events.ndjson"}, {"extra.pem"}, id="file"),
    pytest.param("rillevents record raw events.ndjson ", set(), {"extra.pem"}, id="no-second-file"),
    pytest.param("rillevents spool import ev", {"events.ndjson"}, {"extra.pem"}, id="file-to-import"),
    pytest.param("rillevents spool export > ev", {"events.ndjson"}, {"extra.pem"}, id="file-of-a-redirection"),
    pytest.param("rillevents completions ", set(SHELLS), {"events.ndjson"}, id="shells"),
    pytest.param("rillevents config set intake.", {"intake.url", "intake.token"}, {"flush.to"}, id="settings"),
    pytest.param("rillevents config get a", {"attributes."}, {"intake.url"}, id="setting-to-go-on-with"),
    pytest.param("rillevents config unset flush.t", {"flush.to"}, set(), id="setting-to-unset"),
]


class TestShells:
    @pytest.mark.parametrize("shell", REAL_SHELLS, ids=str)
    @pytest.mark.parametrize(("line", "offered", "forbidden"), CASES)
    def test_what_is_offered(
        self, ask: Callable[[str], Ask], shell: str, line: str, offered: set[str], forbidden: set[str]
    ) -> None:
        """A shell offers at the end of a line what may stand there, and nothing that may not."""
        actual = set(ask(shell)(line))

        assert (offered, set()) == (offered & actual, forbidden & actual), actual

    @pytest.mark.parametrize("shell", REAL_SHELLS, ids=str)
    def test_the_topics_of_the_manual(self, ask: Callable[[str], Ask], shell: str) -> None:
        """`help` is offered the manual's pages, as they were when the script was made."""
        pages = {page.stem for page in (ROOT / "rillevents" / "docs").glob("*.md")}

        assert pages == {word for word in ask(shell)("rillevents help ") if not word.startswith("-")}

    @pytest.mark.parametrize("shell", REAL_SHELLS, ids=str)
    @pytest.mark.parametrize("path", COMMANDS, ids=lambda path: path.replace(" ", "-") or "the-program")
    def test_the_options_of_each_command(self, ask: Callable[[str], Ask], shell: str, path: str) -> None:
        """After a dash each command is offered its own visible options, and only those."""
        line = f"rillevents {path} " if path else "rillevents "
        # Some fish versions keep back the long ones while a single dash is there.
        actual = {word for dashes in ("-", "--") for word in ask(shell)(line + dashes)}

        assert set(COMMANDS[path]) == actual

    @pytest.mark.parametrize("shell", ["bash", "zsh"], ids=str)
    @pytest.mark.parametrize("words", ["flush", "record metric x -45", "spool import events.ndjson"], ids=str)
    def test_options_where_nothing_else_may_stand(self, ask: Callable[[str], Ask], shell: str, words: str) -> None:
        """Where no argument is left to type, bash and zsh offer the options; a negative number is an argument."""
        assert "--quiet" in ask(shell)(f"rillevents {words} ")

    @pytest.mark.parametrize("shell", REAL_SHELLS, ids=str)
    def test_nothing_is_started(self, ask: Callable[[str], Ask], home: Path, shell: str) -> None:
        """Completing does not run rillevents."""
        assert ask(shell)("rillevents record behavioral ")
        assert not (home / "started").exists()


INSERTED = [
    pytest.param("rillevents rec", "rillevents record ", id="command"),
    pytest.param("rillevents flush --on-error=w", "rillevents flush --on-error=warn ", id="value-after-="),
    pytest.param("rillevents record log x -a is_", "rillevents record log x -a is_dev=", id="no-space-after-="),
    pytest.param("rillevents flush --to f", "rillevents flush --to file:", id="no-space-after-:"),
    pytest.param("rillevents flush --to file:w", "rillevents flush --to file:with\\ space ", id="space-in-a-file"),
    pytest.param("rillevents flush --to=file:fo", "rillevents flush --to=file:folder/", id="folder-after-:"),
    pytest.param("rillevents record log x --attrs @w", "rillevents record log x --attrs @with\\ space ", id="at-file"),
    pytest.param("rillevents record log x --attrs=@fo", "rillevents record log x --attrs=@folder/", id="at-folder"),
    pytest.param('rillevents record log x --attrs "@w', 'rillevents record log x --attrs "@with space" ', id="quotes"),
    pytest.param("rillevents record raw with\\ s", "rillevents record raw with\\ space ", id="backslash"),
    pytest.param("rillevents record raw fo", "rillevents record raw folder/", id="folder"),
    pytest.param("rillevents spool export >ev", "rillevents spool export >events.ndjson ", id="redirection"),
    pytest.param("rillevents config set at", "rillevents config set attributes.", id="no-space-after-a-section"),
]


class TestTerminal:
    @pytest.mark.parametrize(("line", "expected"), INSERTED)
    @pytest.mark.parametrize("shell", ["bash", "zsh"], ids=str)
    def test_what_tab_inserts(self, request: pytest.FixtureRequest, shell: str, line: str, expected: str) -> None:
        """TAB completes the line itself where there is one answer, quoted as the shell needs it."""
        terminal: Terminal = request.getfixturevalue(shell)

        assert expected == terminal.tab(line)[2]

    def test_bash_lists_on_the_second_tab(self, bash: Terminal) -> None:
        """In bash TAB TAB lists the commands below the line."""
        shown = bash.tab("rillevents record ", tabs=2)[0]

        assert {"behavioral", "metric", "log", "event", "raw"} <= set(shown.split())

    def test_bash_without_colons_and_equals_among_its_breaks(self, home: Path) -> None:
        """In bash the answers fit as well where COMP_WORDBREAKS has been emptied of = : and @."""
        terminal = start("bash", home, "source ~/rillevents.bash; COMP_WORDBREAKS=${COMP_WORDBREAKS//[=:@]/}")
        with contextlib.closing(terminal):
            lines = [terminal.tab(case.values[0])[2] for case in INSERTED]

        assert [case.values[1] for case in INSERTED] == lines

    def test_zsh_by_source(self, home: Path, tmp_path: Path) -> None:
        """In zsh the script works when it is sourced, too, and its second loading does no harm."""
        other = make_home(tmp_path / "home")
        terminal = start("zsh", other, f'{SOURCE}; eval "$(<~/_rillevents)"')
        with contextlib.closing(terminal):
            assert "rillevents record " == terminal.tab("rillevents rec")[2]

    def test_zsh_without_compinit(self, home: Path) -> None:
        """In a zsh whose completion has not been set up the script says what is missing, and does no harm."""
        command = [need("zsh"), "-f", "-c", "source ~/_rillevents && echo loaded"]
        done = subprocess.run(command, env=environment(home), capture_output=True, text=True, check=False)

        assert (0, "loaded\n") == (done.returncode, done.stdout)
        assert "compinit" in done.stderr

    def test_zsh_describes(self, zsh: Terminal) -> None:
        """In zsh the help of commands and options stands beside them."""
        assert "Record a number" in zsh.tab("rillevents record ")[0]
        assert "Give up after" in zsh.tab("rillevents flush --")[0]

    def test_fish_by_itself(self, tmp_path: Path) -> None:
        """In fish the script is loaded from the folder of completions by itself, and the help is shown."""
        other = make_home(tmp_path / "home")
        folder = other / ".config" / "fish" / "completions"
        folder.mkdir(parents=True)
        (other / "rillevents.fish").rename(folder / "rillevents.fish")

        assert "Record a number" == fish_offers(other, "rillevents record m", script="")["metric"]


# What a script makes of the words that bash has found, without a terminal: {0} is a line, and the words in it.
NON_INTERACTIVE = """
set -u
source ~/rillevents.bash
COMP_LINE={line} COMP_POINT={point} COMP_WORDS=({words}) COMP_CWORD={last}
_rillevents rillevents {typed} ''
printf '%s\\n' "${{COMPREPLY[@]}}"
"""


class TestBashFunction:
    @pytest.mark.parametrize(
        ("words", "typed", "expected"),
        [
            pytest.param(["rillevents", " rec"], "rec", ["record"], id="command"),
            pytest.param(["rillevents", " flush", " --on-error", "=", "w"], "w", ["warn"], id="value-after-="),
            pytest.param(["rillevents", " flush", " --to", "=", "file", ":", "ev"], "ev", ["events.ndjson"], id="file"),
            pytest.param(
                ["rillevents", " record", " log", " x", " -a", " k", ":=", "3", " -a", " is"],
                "is",
                ["is_dev="],
                id=":=",
            ),
        ],
    )
    def test_it_reads_the_line_that_bash_has_split(
        self, home: Path, words: list[str], typed: str, expected: list[str]
    ) -> None:
        """The function puts together what bash has split at = and :, in a shell with `set -u` and no terminal as well."""
        line = "".join(words)
        values = {
            "line": f"'{line}'",
            "point": len(line),
            "words": " ".join(f"'{word.strip()}'" for word in words),
            "last": len(words) - 1,
            "typed": f"'{typed}'",
        }
        done = subprocess.run(
            [need("bash"), "-c", NON_INTERACTIVE.format(**values)],
            cwd=home / "work",
            env=environment(home),
            capture_output=True,
            text=True,
            check=False,
        )

        assert (expected, "") == (done.stdout.splitlines(), done.stderr)


ODD = """it's "50%" of [it]: a\\b, $HOME `id` #1 \u2018so\u2019"""


def odd_app() -> typer.Typer:
    """Return an app whose help has what shells stumble over."""
    made = typer.Typer(add_completion=False, rich_markup_mode=None)

    @made.callback()
    def root() -> None: ...

    @made.command("odd", help=ODD)
    def odd(option: Annotated[str, typer.Option("--option", help=ODD, metavar="A:B")] = "") -> None: ...

    @made.command("plain", help="Plain.")
    def plain(file: Annotated[typer.FileText, typer.Argument()]) -> None: ...

    return made


class TestQuoting:
    @pytest.fixture
    def odd_home(self, tmp_path: Path) -> Path:
        """A home folder with the scripts of the odd app."""
        home = make_home(tmp_path / "home")
        for name, script in scripts(odd_app()).items():
            (home / name).write_bytes(script)
        return home

    def test_bash(self, odd_home: Path) -> None:
        """In bash the script of an app with odd help works."""
        with contextlib.closing(start("bash", odd_home, "source ~/rillevents.bash")) as terminal:
            assert "rillevents odd --option " == terminal.tab("rillevents odd --o")[2]

    def test_zsh(self, odd_home: Path) -> None:
        """In zsh odd help is shown as it is, of commands and of options."""
        with contextlib.closing(start("zsh", odd_home, FPATH)) as terminal:
            assert ODD in terminal.tab("rillevents ")[0]
            assert ODD in terminal.tab("rillevents odd --")[0]

    def test_fish(self, odd_home: Path) -> None:
        """In fish odd help is shown as it is, of commands and of options."""
        assert ODD == fish_offers(odd_home, "rillevents ")["odd"]
        assert ODD == fish_offers(odd_home, "rillevents odd --")["--option"]

    def test_a_type_of_files_is_enough(self) -> None:
        """A parameter that Typer itself knows to be a file completes files."""
        plain = next(command for command in tree(odd_app()).commands if command.name == "plain")

        assert [("",)] == [argument.values.files for argument in plain.arguments]

    def test_words_are_plain(self) -> None:
        """A value that a shell would need quoted is refused when the scripts are made, not met by users."""
        with pytest.raises(ValueError, match="quoted"):
            Values("kind", ("two words",))

    def test_arguments_are_single_words(self) -> None:
        """An argument of several words is refused when the scripts are made: they count one word for each."""
        made = typer.Typer()

        @made.command()
        def many(names: Annotated[list[str], typer.Argument()]) -> None: ...

        with pytest.raises(ValueError, match="one word"):
            tree(made)


class TestPowerShell:
    """PowerShell itself is not run here: what a lexer and the script's structure can show has to do."""

    @pytest.mark.parametrize("made", [assembled(), odd_app()], ids=["rillevents", "odd"])
    def test_the_script_is_well_formed(self, made: typer.Typer) -> None:
        """Each token of the script is one of PowerShell's, and its brackets are closed in order; it is not run."""
        script = scripts(made)["rillevents.ps1"].decode()
        tokens = list(PowerShellLexer().get_tokens(script))
        opened: list[str] = []
        for kind, text in tokens:
            for bracket in text if kind in Token.Punctuation else "":
                if bracket in "([{":
                    opened.append(bracket)
                elif bracket in ")]}":
                    assert opened.pop() + bracket in ("()", "[]", "{}")

        assert ([], []) == (opened, [text for kind, text in tokens if kind in Token.Error])

    def test_each_command_has_its_table(self) -> None:
        """The script has a table for each visible command, with its own options; it is not run."""
        script = scripts(assembled())["rillevents.ps1"].decode()
        tables = re.findall(r"^        '([^']*)' = @\{\n(.*?)^        \}", script, re.MULTILINE | re.DOTALL)
        options = {
            path: re.search(r"Options = \[ordered\]@\{\n(.*?)\n *\}", table, re.DOTALL) for path, table in tables
        }

        assert {path: set(options) for path, options in COMMANDS.items()} == {
            path: set(re.findall(r"^ *'(--?[\w-]+)' = ", found[1], re.MULTILINE))
            for path, found in options.items()
            if found
        }

    def test_no_description_is_empty(self) -> None:
        """No tool tip is empty, which PowerShell would refuse; it is not run."""
        assert not re.search(r"' = ''$", scripts(assembled())["rillevents.ps1"].decode(), re.MULTILINE)
