"""What type checkers know of the public signatures: a wrong word is an error before the program runs."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from decimal import Decimal
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
# Each line is right with the first word and wrong with the second.
WORDS = [
    ("Client(NoopSink(), on_error={!r})", "raise", "rise"),
    ("Client.from_config(on_error={!r})", "log", "ignore"),
    ("Application('mytool', 'MYTOOL_', consent={!r})", "opt-in", "opt_in"),
    ("Application('mytool', 'MYTOOL_').client(on_error={!r})", "raise", "warn"),
    ("Client(NoopSink()).record_metric('m', {!r})", Decimal("1.5"), "1.5"),
    ("IntakeExporter('http://127.0.0.1/', compression={!r})", "zstd", "zip"),
    ("IntakeSink('http://127.0.0.1/', compression={!r})", "gzip", "gz"),
    ("OtlpExporter('http://127.0.0.1/', compression={!r})", "gzip", "gz"),
    ("OtlpExporter('http://127.0.0.1/', encoding={!r})", "json", "JSON"),
    ("OtlpSink('http://127.0.0.1/', compression={!r})", "none", ""),
    ("OtlpSink('http://127.0.0.1/', encoding={!r})", "protobuf", "proto"),
]
IMPORTS = "from decimal import Decimal\nfrom rillevents import Application, Client, IntakeExporter, IntakeSink, NoopSink, OtlpExporter, OtlpSink\n\n"


@pytest.mark.parametrize("checker", ["mypy", "basedpyright"])
def test_a_wrong_word_is_an_error(checker: str, tmp_path: Path) -> None:
    """Mypy and pyright accept each fixed word of a public signature, and tell the line of each wrong one, and nothing else."""
    lines = [f"{call.format(right)}\n{call.format(wrong)}\n" for call, right, wrong in WORDS]
    (tmp_path / "words.py").write_text(IMPORTS + "".join(lines))
    settings = tmp_path / "pyrightconfig.json"
    settings.write_text(
        json.dumps({"typeCheckingMode": "standard", "extraPaths": [str(ROOT)], "include": ["words.py"]})
    )
    words = {
        "mypy": ["--strict", "--config-file=", "--cache-dir", str(tmp_path / "cache"), str(tmp_path / "words.py")],
        "basedpyright": ["--project", str(settings), "--pythonpath", sys.executable],
    }[checker]
    done = subprocess.run(
        [sys.executable, "-m", checker, *words], cwd=ROOT, capture_output=True, text=True, check=False
    )
    told = {int(number) for number in re.findall(r"words\.py:(\d+):(?:\d+)? *(?:- )?error", done.stdout)}
    assert {5 + 2 * number for number in range(len(WORDS))} == told, done.stdout + done.stderr
