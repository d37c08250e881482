"""The package's shape: what may import what, what is public, how large things may get, and what a message may say."""

from __future__ import annotations

import ast
import re
import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import rillevents

PACKAGE = Path(rillevents.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))
# Vocabulary, local state, recording, delivering, command line: a module imports from its own layer and those before it.
LAYERS = (
    ("rillevents", "errors", "event", "ndjson", "timestamp", "files", "batch"),
    ("paths", "consent", "install_id", "config", "config_file"),
    ("spool.folder", "spool.append", "spool.live", "spool.state", "spool.tally", "spool.lines", "spool.quarantine", "spool.batch", "spool"),
    ("store", "store.schema", "store.incoming", "store.writer"),
    ("exporters", "retry", "exporters.file", "exporters.destination", "exporters.encoding", "exporters.intake", "exporters.kafka_settings", "exporters.kafka_message", "exporters.kafka_producer", "exporters.kafka_sending", "exporters.kafka", "delivery"),
    ("spool.drain", "spool.view", "spool.follow", "spool.retry", "flusher"),
    ("sinks", "sinks.noop", "sinks.logger", "sinks.tap", "sinks.filter", "sinks.spool", "sinks._memory", "sinks._link", "sinks._worker", "sinks.batching", "sinks.kafka"),
    ("_token_forms", "redact", "raw", "legacy", "context", "client", "timed", "configured"),
    ("destination", "bulk", "query", "status", "notices", "_fake_intake", "testing"),
    ("store.readonly", "store.reader", "store.follow", "store.glance", "source", "stats"),
    (
        "serve", "serve.limits", "serve.answer", "serve.body", "serve.access", "serve.arrival", "serve.endpoints", "serve.reading", "serve.metrics",
        "serve.commit", "serve.forward", "serve.app", "serve.protocol", "serve.look", "serve.recent", "serve.spread", "serve.options", "serve.server",
    ),
    ("_options", "_record", "_fastlane"),
    ("cli", "__main__"),
)  # fmt: skip
# Not imports but promises: what a module calls on at run time, from inside a function, when it is asked to.
LATE = {
    ("errors", "destination"), ("sinks", "flusher"), ("client", "configured"), ("configured", "destination"),
}  # fmt: skip


def module_of(path: Path) -> str:
    name = ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__")
    return "rillevents" if name == "__init__" else name


def layer_of(module: str) -> int:
    for number, names in enumerate(LAYERS):
        if module in names or (module.split(".")[0] in names and module.split(".")[0] == "cli"):
            return number
    raise AssertionError(f"{module} belongs to no layer: name it in LAYERS")


def imports(path: Path) -> Iterator[str]:
    """Yield our modules that a file imports at run time, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            node.body = []
    tree = ast.parse(path.read_text())
    for node in _without_type_checking(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("rillevents"):
            base = (node.module or "").removeprefix("rillevents").lstrip(".")
            for alias in node.names:
                inner = f"{base}.{alias.name}".lstrip(".")
                yield inner if (PACKAGE / inner.replace(".", "/")).with_suffix(".py").exists() else base or "rillevents"


def _without_type_checking(tree: ast.AST) -> Iterator[ast.AST]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        yield node
        yield from _without_type_checking(node)


@pytest.mark.parametrize("path", FILES, ids=module_of)
def test_imports_go_upward_only(path: Path) -> None:
    """A module imports only from its own layer and from those below it."""
    module = module_of(path)
    if module == "rillevents":
        return
    above = [found for found in imports(path) if layer_of(found) > layer_of(module) and (module, found) not in LATE]
    assert [] == above


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
    assert {*expected} - {"__version__"} == declared
    with pytest.raises(AttributeError):
        _ = rillevents.nonsense  # type: ignore[attr-defined]


def test_click_is_never_imported() -> None:
    """Typer's copy of click is Typer's own matter: no file of ours imports it, or a click beside it."""
    assert [] == [path for path in FILES if re.search(r"import _?click|from (typer\._)?_?click", path.read_text())]


def test_only_render_knows_rich() -> None:
    """One file imports rich."""
    assert ["cli.render"] == [
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
    optional = {"zstandard", "confluent_kafka", "pytest", "uvicorn", "httptools", "uvloop", "prometheus_client"}
    found = set()
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else []
            found |= {name.split(".")[0] for name in names}
    assert found - set(sys.stdlib_module_names) - {"rillevents", ""} <= wanted | optional | {
        "certifi",
        "idna",
    }


def test_type_checker_and_linter() -> None:
    """The strict type checker and the linter find nothing to say."""
    root = PACKAGE.parent
    for words in (["mypy"], ["ruff", "check", "."], ["ruff", "format", "--check", "."]):
        done = subprocess.run([sys.executable, "-m", *words], cwd=root, capture_output=True, text=True, check=False)
        assert 0 == done.returncode, done.stdout + done.stderr


def test_one_place_imports_confluent_kafka() -> None:
    """Only the Kafka exporter imports confluent-kafka, inside of functions: who sends elsewhere never loads it."""
    found = {
        (module_of(path), node.col_offset > 0)
        for path in FILES
        for node in _without_type_checking(ast.parse(path.read_text()))
        if "confluent_kafka" in ast.unparse(node) and isinstance(node, (ast.Import, ast.ImportFrom))
    }
    assert {(f"exporters.{name}", True) for name in ("kafka", "kafka_producer", "kafka_sending")} == found
