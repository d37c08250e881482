"""The package's structure: allowed imports, public names, sizes, and the wording of messages."""

from __future__ import annotations

import ast
import re
import statistics
import subprocess
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import rillevents

PACKAGE = Path(rillevents.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))
# The floors, from the ground: a room (a folder, or a file at the top) imports from its own floor and from those below it.
FLOORS = (
    ("errors",),
    ("event",),
    ("local",),
    ("spool",),
    ("delivery", "store"),
    ("recording",),
    ("serve", "shell", "integrations"),
    ("cli", "testing"),
    ("__init__", "__main__"),
)
FLOOR_OF = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}


def module_of(path: Path) -> str:
    """Return a file's name as a module, below the package."""
    name = ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
    return name.removesuffix(".__init__")


MODULES = {module_of(path): path for path in FILES}


def room_of(module: str) -> str:
    return module.partition(".")[0]


def imports(path: Path) -> set[str]:
    """Return our modules that a file imports, wherever in it and in whatever way; for type checkers alone counts, too."""
    tree = ast.parse(path.read_text())
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {_ours(alias.name) for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = _absolute(path, node)
            # A name of a package may be a module in it.
            found |= {
                inner if (inner := _ours(f"{base}.{alias.name}")) in MODULES else _ours(base) for alias in node.names
            }
        elif _is_import_call(node):
            # What is loaded by name stands somewhere in the file.
            texts = {
                text.value for text in ast.walk(tree) if isinstance(text, ast.Constant) and isinstance(text.value, str)
            }
            found |= {_ours(text) for text in texts} & {*MODULES}
    return found - {"", module_of(path)}


def _absolute(path: Path, node: ast.ImportFrom) -> str:
    if not node.level:
        return node.module or ""
    package = ["rillevents", *path.relative_to(PACKAGE).parent.parts]
    return ".".join([*package[: len(package) - node.level + 1], *filter(None, [node.module])])


def _is_import_call(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] in ("import_module", "__import__")


def _ours(name: str) -> str:
    """Return a dotted name below the package; the package itself is its front door, `__init__`."""
    return (
        "__init__"
        if name == "rillevents"
        else name.removeprefix("rillevents.")
        if name.startswith("rillevents.")
        else ""
    )


def test_rooms() -> None:
    """At most fourteen rooms stand at the top, each of them on a floor."""
    rooms = {room_of(module) for module in MODULES}
    assert len(rooms) <= 14
    assert rooms <= {*FLOOR_OF}


@pytest.mark.parametrize("path", FILES, ids=module_of)
def test_imports_go_upward_only(path: Path) -> None:
    """A module imports only from its own floor and from those below it; imports inside functions count."""
    module = module_of(path)
    assert [] == [found for found in imports(path) if FLOOR_OF[room_of(found)] > FLOOR_OF[room_of(module)]]


def test_no_circles() -> None:
    """No module leads back to itself by imports, nor does a room; imports inside functions and for type checkers count."""
    modules = {module: imports(path) for module, path in MODULES.items()}
    rooms = {
        room: {room_of(found) for module in modules if room_of(module) == room for found in modules[module]} - {room}
        for room in map(room_of, modules)
    }
    assert [] == _circles(modules)
    assert [] == _circles(rooms)


def _circles(arrows: dict[str, set[str]]) -> list[list[str]]:
    try:
        list(TopologicalSorter(arrows).static_order())
    except CycleError as error:
        return [error.args[1]]
    return []


def test_public_names() -> None:
    """The public names are exactly these, each can be had, and each is typed for those who read the source."""
    expected = [
        "ATTRIBUTE_KEYS",
        "BEHAVIORAL_NAMES",
        "EVENT_TYPES",
        "MAX_EVENT_BYTES",
        "Application",
        "BatchingSink",
        "Busy",
        "Client",
        "ConfigError",
        "Event",
        "FileExporter",
        "FilterSink",
        "FlushResult",
        "IntakeExporter",
        "IntakeSink",
        "InvalidEvent",
        "KafkaExporter",
        "KafkaSink",
        "LoggerSink",
        "NoopSink",
        "OtlpExporter",
        "OtlpSink",
        "Redactor",
        "RilleventsError",
        "Sink",
        "SpoolError",
        "SpoolFull",
        "SpoolSink",
        "SpoolUnwritable",
        "UsageError",
        "__version__",
        "set_attributes",
    ]
    assert sorted(expected) == sorted(rillevents.__all__) == sorted(dir(rillevents))
    for name in expected:
        assert getattr(rillevents, name) is not None
    declared = set(re.findall(r"import \w+ as (\w+)", (PACKAGE / "__init__.py").read_text()))
    assert {*expected} == declared
    with pytest.raises(AttributeError):
        _ = rillevents.nonsense  # type: ignore[attr-defined]


def _without_type_checking(tree: ast.AST) -> Iterator[ast.AST]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        yield node
        yield from _without_type_checking(node)


def test_click_is_never_imported() -> None:
    """Typer's copy of click is Typer's own matter: no file of ours imports it, or a click beside it."""
    assert [] == [path for path in FILES if re.search(r"import _?click|from (typer\._)?_?click", path.read_text())]


def test_only_what_people_look_at_knows_rich() -> None:
    """Two files import rich: results as people look at them, and the manual's pages."""
    assert ["cli.display", "cli.manual"] == [
        module_of(path) for path in FILES if re.search(r"^\s*(from|import) rich", path.read_text(), re.M)
    ]


def test_sizes() -> None:
    """Files stay near 300 lines, functions short: half of them within ten lines, nine in ten within thirty."""
    assert [] == [module_of(path) for path in FILES if len(path.read_text().splitlines()) > 350]
    lengths = [
        (node.end_lineno or 0) - node.lineno + 1
        for path in FILES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
    ]
    assert statistics.median(lengths) <= 10
    assert statistics.quantiles(lengths, n=10)[8] <= 30


def test_exit_codes_of_errors() -> None:
    """Every error has an exit code of the contract, drawn in the module's docstring."""
    from rillevents import errors

    classes = [
        value
        for value in vars(errors).values()
        if isinstance(value, type) and issubclass(value, errors.RilleventsError)
    ]
    for kind in classes:
        assert kind.exit_code in (1, 2, 73, 75, 78)
        assert re.search(rf"{kind.__name__}\s+{kind.exit_code}\b", errors.__doc__ or ""), kind


def test_core_dependencies_are_enough() -> None:
    """Importing, recording and flushing need nothing that is not a core dependency."""
    wanted = {"typer", "rich", "httpx", "platformdirs", "msgspec", "tomlkit"}
    optional = {
        "PyInstaller",
        "celery",
        "zstandard",
        "confluent_kafka",
        "google",
        "opentelemetry",
        "pytest",
        "uvicorn",
        "httptools",
        "uvloop",
        "prometheus_client",
    }
    found = set()
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else []
            found |= {name.split(".")[0] for name in names}
    assert found - set(sys.stdlib_module_names) - {"rillevents", "", "compression"} <= wanted | optional | {
        "certifi",
        "httpcore",
        "idna",
    }


def test_type_checker_and_linter() -> None:
    """The strict type checker and the linter find nothing to say."""
    root = PACKAGE.parent
    for words in (["mypy"], ["ruff", "check", "."], ["ruff", "format", "--check", "."]):
        done = subprocess.run([sys.executable, "-m", *words], cwd=root, capture_output=True, text=True, check=False)
        assert 0 == done.returncode, done.stdout + done.stderr


@pytest.mark.slow
def test_one_place_imports_confluent_kafka() -> None:
    """Only the Kafka exporter imports confluent-kafka, inside functions: other destinations never load it."""
    found = {
        (module_of(path), node.col_offset > 0)
        for path in FILES
        for node in _without_type_checking(ast.parse(path.read_text()))
        if "confluent_kafka" in ast.unparse(node) and isinstance(node, (ast.Import, ast.ImportFrom))
    }
    assert {(f"delivery.exporters.kafka.{name}", True) for name in ("exporter", "producer", "sending")} == found
