"""The README and the manual say what the code does: commands, options, variables, settings, exit codes, examples, recipes."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

import rillevents
from rillevents import errors, testing
from rillevents.cli.app import assembled
from rillevents.cli.help import topics
from rillevents.cli.record_quick import failure_mode, is_quiet
from rillevents.delivery.destination import destination_name, intake_settings, kafka_settings
from rillevents.delivery.outcome import FlushOutcome
from rillevents.local import Paths, config, consent, install_id
from rillevents.local.config_file import KEYS, checker, parse
from rillevents.testing import FakeIntake

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "rillevents"
README = (ROOT / "README.md").read_text()
PAGES = {page.stem: page.read_text() for page in sorted((PACKAGE / "docs").glob("*.md"))}
TEXTS = {"README": README} | PAGES
SOURCES = {
    path.relative_to(ROOT).as_posix(): path.read_text()
    for path in sorted([*PACKAGE.rglob("*.py"), *PACKAGE.rglob("*.sh")])
}
ALL_SOURCE = "\n".join(SOURCES.values())

_FENCE = re.compile(r"^```([^\n`]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(text: str, info: str) -> list[str]:
    """Return the fenced blocks of a page whose info string is *info*."""
    return [body for found, body in _FENCE.findall(text) if found.strip() == info]


def only_block(text: str, info: str) -> str:
    """Return the one fenced block with that info string."""
    [body] = blocks(text, info)
    return body


# Commands


def walk(command: Any, path: tuple[str, ...] = ("rillevents",)) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield every command below *command*, itself first, with its words."""
    yield path, command
    for name, below in getattr(command, "commands", {}).items():
        yield from walk(below, (*path, name))


COMMANDS = {" ".join(path): command for path, command in walk(typer.main.get_command(assembled()))}
LEAVES = [path for path, command in COMMANDS.items() if not getattr(command, "commands", None)]


@pytest.mark.parametrize("path", LEAVES)
def test_every_command_is_documented(path: str) -> None:
    """Every command is named in full in the README or on a page of the manual."""
    assert any(re.search(rf"\b{re.escape(path)}\b", text) for text in TEXTS.values())


@pytest.mark.parametrize("path", COMMANDS)
def test_every_command_has_a_help_text(path: str) -> None:
    """Every command and every group says in a sentence what it does."""
    assert (COMMANDS[path].help or "").strip().endswith((".", "`"))


@pytest.mark.parametrize("path", ["rillevents", *LEAVES])
def test_every_command_has_examples_that_parse(path: str) -> None:
    """The help of every command ends in examples, and they are command lines of this tool."""
    epilog = COMMANDS[path].epilog or ""
    assert epilog.startswith("Examples:")
    found = list(command_lines(epilog.partition("\b\n")[2]))
    assert found
    assert [] == [problem for words in found for problem in problems(words)]


def command_lines(text: str) -> Iterator[list[str]]:
    """Yield the words after `rillevents` of each call of it in lines of shell."""
    for line in text.replace("\\\n", " ").splitlines():
        yield from _calls(line)


def _calls(line: str) -> Iterator[list[str]]:
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    try:
        tokens = list(lexer)
    except ValueError:  # a quote that ends on another line: not one of our commands
        return
    at_start, words = True, None
    for token in [*tokens, ";"]:
        for inner in re.findall(r"\$\((rillevents [^)]*)\)", token):
            yield from _calls(inner)
        if set(token) <= set("();<>|&"):
            if words is not None and not (token.startswith("(") and not words):
                yield words
            at_start, words = not set(token) & set("<>"), None
        elif words is not None:
            words.append(token)
        elif at_start and Path(token).name == "rillevents":
            words = []
        else:
            at_start = at_start and (token in ("{", "if", "then", "!") or bool(re.match(r"\w+=", token)))


def problems(words: list[str]) -> Iterator[str]:
    """Yield what is wrong with a command line: a command or an option that does not exist."""
    command, path = COMMANDS["rillevents"], "rillevents"
    # What follows is another command's.
    for word in words[: words.index("--")] if "--" in words else words:
        known = {flag for option in command.params for flag in (*option.opts, *option.secondary_opts)}
        known |= set(command.context_settings.get("help_option_names", ())) | {"-h", "--help"}
        if word.startswith("-") and len(word) > 1 and not word[1:2].isdigit():
            if word.partition("=")[0] not in known:
                yield f"{path} has no option {word}"
        elif getattr(command, "commands", None) and not word.startswith("…"):
            if word not in command.commands:
                yield f"{path} has no command {word}"
                return
            command, path = command.commands[word], f"{path} {word}"


def shell_lines(text: str) -> str:
    """Return the command lines of a page: its blocks of shell, and what is typed in its transcripts."""
    parts = [body for info, body in _FENCE.findall(text) if info.split()[:1] == ["sh"]]
    for transcript in blocks(text, "console"):
        parts += [line[2:] for line in transcript.splitlines() if line.startswith("$ ")]
    return "\n".join(parts)


@pytest.mark.parametrize("name", TEXTS)
def test_every_command_line_in_the_docs_exists(name: str) -> None:
    """What the docs tell people to type are commands and options that the tool has."""
    prose = _FENCE.sub("", TEXTS[name])
    inline = [line for code in re.findall(r"`(rillevents [^`]+)`", prose) for line in command_lines(code)]
    found = [*command_lines(shell_lines(TEXTS[name])), *inline]
    assert [] == [f"{shlex.join(words)}: {problem}" for words in found for problem in problems(words)]


def test_every_command_line_of_a_supervisor_exists() -> None:
    """What a unit of systemd and a program of supervisor start is a command line of the tool."""
    lines = re.findall(r"^(?:ExecStart|command)=(.*)$", "\n".join(blocks(PAGES["background"], "ini")), re.MULTILINE)
    found = [words for line in lines for words in command_lines(line)]
    assert [["flush", "--watch", "30s"]] * 2 == found
    assert [] == [problem for words in found for problem in problems(words)]


def test_command_lines_are_found_and_judged() -> None:
    """The search for command lines sees them after pipes, variables and in substitutions, and sees what is wrong."""
    text = 'x | rillevents flush --bad; A=1 rillevents statsu\neval "$(rillevents id nope)"\nrillevents() { :; }\n'
    found = list(command_lines(text + "pip install rillevents && .venv/bin/rillevents demo > rillevents\n"))
    assert [["flush", "--bad"], ["statsu"], ["id", "nope"], ["demo"]] == found
    assert [1, 1, 1, 0] == [len(list(problems(words))) for words in found]


def test_the_manual_has_the_pages_that_are_named() -> None:
    """Wherever a page of the manual is named, in the docs or in a message of the tool, it is there."""
    named = re.findall(r"rillevents help ([a-z][a-z-]+)", "\n".join([*TEXTS.values(), ALL_SOURCE]))
    assert set(named) <= set(topics())
    assert {"quickstart", "recording", "flushing", "configuration", "consent", "ci", "library"} <= set(topics())


@pytest.mark.parametrize("page", PAGES)
def test_a_page_has_one_title(page: str) -> None:
    """A page of the manual begins with its title, the only heading of that rank."""
    prose = _FENCE.sub("", PAGES[page])
    assert PAGES[page].startswith("# ")
    assert 1 == len(re.findall(r"^# ", prose, re.MULTILINE))


# Variables, settings, exit codes


class Asked(dict[str, str]):
    """An environment that remembers which variables it was asked for."""

    def __init__(self) -> None:
        super().__init__(HOME="/nonexistent")
        self.names: set[str] = set()

    def get(self, key: str, default: Any = None) -> Any:
        """Remember *key*."""
        self.names.add(key)
        return super().get(key, default)


def variables_in_the_code() -> set[str]:
    """Return our variables: those named in the source, and those that are asked for by a name that is put together."""
    asked = Asked()
    paths = Paths(asked)
    nothing = config.Config({"intake": {"url": "http://127.0.0.1/"}}, [])
    consent.decide(paths)
    install_id.peek(paths)
    config.identity_attributes(paths)
    destination_name(paths, nothing)
    intake_settings(paths, nothing, secrets=False)
    kafka_settings(paths, nothing)
    failure_mode(None, asked)
    is_quiet(asked)
    called = {f"RILLEVENTS_{name}" for name in re.findall(r'\.variable\(\s*(?:[\w.]+,\s*)?"([A-Z_]+)"', ALL_SOURCE)}
    found = asked.names | called | set(re.findall(r"RILLEVENTS_[A-Z_]+", ALL_SOURCE))
    # A program's own alone, under its prefix: `rillevents` itself has --dry-run.
    found.discard("RILLEVENTS_TELEMETRY_DEBUG")
    return {name for name in found if name.startswith("RILLEVENTS_") and not name.endswith("_")}


def first_cells(text: str) -> list[list[str]]:
    """Return the rows of a page's tables whose first cell is code, each as its cells."""
    rows = [line.strip("|").split(" | ") for line in text.splitlines() if line.startswith("| `")]
    return [[cell.strip() for cell in row] for row in rows]


def test_every_variable_is_documented() -> None:
    """The configuration page lists every variable that the code asks for, and no other."""
    listed = {row[0].strip("`") for row in first_cells(PAGES["configuration"]) if row[0].startswith("`RILLEVENTS_")}
    assert variables_in_the_code() == listed


def test_no_other_variable_is_named() -> None:
    """No page names a variable of ours that the code does not know."""
    named = {name for text in TEXTS.values() for name in re.findall(r"RILLEVENTS_[A-Z_]+[A-Z]", text)}
    # The recipes' own: their scripts read it.
    assert named <= variables_in_the_code() | {"RILLEVENTS_INSTALL"}


def test_variables_of_others_are_documented() -> None:
    """The configuration page names every variable of somebody else's that the code asks for by its name."""
    asked = set(re.findall(r'env(?:iron)?\.get\("([A-Z_]+)"', ALL_SOURCE)) - {"HOME", "REQUEST_METHOD"}
    asked = {name for name in asked if not name.startswith("RILLEVENTS_")}
    assert {"DO_NOT_TRACK", "NO_COLOR", "SSL_CERT_FILE"} <= asked
    assert set() == {name for name in asked if f"`{name}`" not in PAGES["configuration"]}


SETTINGS = {row[0].strip("`"): row for row in first_cells(PAGES["configuration"]) if "." in row[0]}


def test_every_setting_is_documented() -> None:
    """The configuration page lists every key of config.toml, and no other."""
    assert set(KEYS) == set(SETTINGS)


@pytest.mark.parametrize("key", KEYS)
def test_a_settings_default_and_example_are_valid(key: str) -> None:
    """What is given as a setting's default and example is TOML that the setting takes."""
    check = checker(key)
    for cell in SETTINGS[key][2:4]:
        if cell != "none":
            assert check is not None
            check(tomllib.loads(f"value = {cell.strip('`')}")["value"])


def test_the_example_of_config_toml_is_valid() -> None:
    """The config.toml that the manual shows is read without an error or a warning."""
    found = parse(only_block(PAGES["configuration"], "toml").encode(), "config.toml")
    assert [] == found.warnings


def test_every_exit_code_is_documented() -> None:
    """The table of exit codes holds every code that the tool can give, and no other."""
    raised = {kind.exit_code for kind in vars(errors).values() if isinstance(kind, type) and hasattr(kind, "exit_code")}
    source = SOURCES["rillevents/cli/app.py"]
    returned = {int(code) for code in re.findall(r"^ +return (?:_ended\(\"\w+\", )?(\d+)\b", source, re.MULTILINE)}
    rows = re.findall(r"^\| (\d+(?:, \d+)*) \|", PAGES["exit-codes"], re.MULTILINE)
    assert raised | returned | {outcome.exit_code for outcome in FlushOutcome} == {
        int(code) for row in rows for code in row.split(", ")
    }


def test_every_outcome_of_a_flush_is_documented() -> None:
    """The flushing page says for every outcome which exit code it has."""
    rows = re.findall(r"^\| (\d+) \| (`\w+`(?:, `\w+`)*) \|", PAGES["flushing"], re.MULTILINE)
    assert {outcome: int(code) for code, cell in rows for outcome in re.findall(r"\w+", cell)} == {
        outcome.value: outcome.exit_code for outcome in FlushOutcome
    }


RECIPES = [
    "sh recipe",
    "yaml github",
    "yaml github-action",
    "yaml gitlab",
    "groovy jenkins",
    "yaml buildkite",
    "yaml circleci",
    "yaml woodpecker",
]


# The README


def test_the_readme_is_short() -> None:
    """The README has at most 150 lines."""
    assert len(README.splitlines()) <= 150


@pytest.mark.parametrize("info", RECIPES)
def test_recipes_are_in_one_place(info: str) -> None:
    """Each recipe is in the manual's page on CI, which test_recipes.py runs, and nowhere else."""
    assert {"ci": 1} == {name: len(found) for name, text in TEXTS.items() if (found := blocks(text, info))}


def test_the_readme_leads_to_the_manual() -> None:
    """Every link of the README leads to a file that is there, and every page of the manual is linked."""
    links = [link for link in re.findall(r"\]\(([^)\s]+)\)", README) if "://" not in link]
    assert [] == [link for link in links if not (ROOT / link).is_file()]
    assert {f"rillevents/docs/{page}.md" for page in PAGES} <= set(links)


def test_files_that_the_readme_names_exist() -> None:
    """The README's picture of the package names what is there: every folder and module at its top."""
    picture = only_block(README, "")
    named = re.findall(r"\b[a-z_]+\.py\b", picture) + re.findall(r"\b([a-z_]+)/", picture)
    assert [] == [name for name in named if not (PACKAGE / name).exists()]
    modules = {path.name for path in PACKAGE.glob("[!_]*.py")}
    folders = {path.parent.name for path in PACKAGE.glob("[!_]*/__init__.py")}
    assert modules | folders | {"docs"} == {*named}


def test_the_changelog_names_what_is_public() -> None:
    """The changelog names every public name of the library, every fixture and every command."""
    changelog = " ".join((ROOT / "CHANGELOG.md").read_text().split())
    names = [
        *(f"rillevents.{name}" for name in rillevents.__all__),
        *(f"rillevents.testing.{name}" for name in testing.__all__),
    ]
    assert [] == [name for name in [*names, "rillevents_home", "rillevents_intake"] if f"`{name}`" not in changelog]
    assert [] == [path for path in LEAVES if f"`{path}`" not in changelog]


def test_the_first_result_is_as_it_is_shown(tmp_path: Path) -> None:
    """The commands of the README's transcript print what stands there, within eight lines, but for times."""
    transcript = only_block(README, "console").splitlines()
    assert len(transcript) <= 8
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    call = f'export PYTHONPATH={shlex.quote(str(ROOT))}\nexec {shlex.quote(sys.executable)} -m rillevents "$@"'
    (tmp_path / ".venv" / "bin" / "rillevents").write_text(f"#!/bin/sh\n{call}\n")
    (tmp_path / ".venv" / "bin" / "rillevents").chmod(0o755)
    (tmp_path / ".venv" / "bin" / "activate").write_text(f"PATH={shlex.quote(str(tmp_path))}/.venv/bin:$PATH\n")
    script = "".join(f"echo {shlex.quote(line)}\n{line[2:]}\n" for line in transcript if line.startswith("$ "))
    done = subprocess.run(
        ["sh", "-euc", script],
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path)},
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=True,
    )
    # What is shown is what is printed, in its order: a command's line comes before what it prints.
    shown = [line for line in transcript if line]
    printed = done.stdout.splitlines()
    assert [_without_chance(line) for line in shown] == [_without_chance(line) for line in printed]


def _without_chance(line: str) -> str:
    return re.sub(r"[0-9a-f]{8}-[0-9a-f-]{27}|\d+\.\d s$", "…", line)


# Python


PYTHON = [
    pytest.param(body, id=f"{name}-{number}")
    for name in ("README", "library", "services", "embedding")
    for number, body in enumerate(blocks(TEXTS[name], "python"), 1)
]


@pytest.fixture
def intake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeIntake]:
    """Give the test a home of its own, and an intake that is the configured one."""
    for name in list(os.environ):
        if name.startswith(("RILLEVENTS_", "MYTOOL_", "XDG_")) or name == "DO_NOT_TRACK":
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    with FakeIntake() as running:
        monkeypatch.setenv("RILLEVENTS_INTAKE_URL", running.url)
        yield running


@pytest.mark.usefixtures("intake")
@pytest.mark.parametrize("code", PYTHON)
def test_python_examples_run(code: str, caplog: pytest.LogCaptureFixture) -> None:
    """Every example in Python runs as it stands, without a warning."""
    exec(compile(code, "example", "exec"), {"__name__": "example"})
    assert [] == [record.getMessage() for record in caplog.records if record.name == "rillevents"]


def test_the_page_on_readers_is_held_to_them() -> None:
    """Each block of the page on readers is read by tests/readers, and the page names each version that is installed there."""
    infos = [info.strip() for info, _ in _FENCE.findall(PAGES["readers"])]
    source = (ROOT / "tests" / "readers" / "readers.py").read_text()
    assert len(infos) == len(set(infos))
    assert [] == [info for info in infos if f'"{info}"' not in source]
    installed = re.findall(r"(?:==|@v?)([\d.]+)", (ROOT / "tests" / "readers" / "run").read_text())
    assert {"2.0.1", "1.5.5"} <= set(installed)
    assert [] == [version for version in installed if version not in PAGES["readers"]]


def test_the_examples_for_tests_pass(tmp_path: Path) -> None:
    """The tests that the testing page shows are collected by pytest, and pass."""
    (tmp_path / "conftest.py").write_text(only_block(PAGES["testing"], "python conftest"))
    examples = blocks(PAGES["testing"], "python")
    for number, body in enumerate(examples):
        (tmp_path / f"test_example_{number}.py").write_text(body)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "error", str(tmp_path)],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "HOME": str(tmp_path)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert 0 == done.returncode, done.stdout + done.stderr
    assert f"{sum(body.count('def test_') for body in examples)} passed" in done.stdout
