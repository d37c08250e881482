"""The benchmarks' own arithmetic, and that the README and the manual show what they found; they decide nothing else."""

from __future__ import annotations

import json
import re
from pathlib import Path
from xml.etree import ElementTree

import chart
import pytest
from common import Table, at_least, at_most
from support import only

ROOT = Path(__file__).parents[1]


@pytest.fixture
def table() -> Table:
    """A table of three rounds."""
    table = Table("t", "ms", "theirs")
    for mine, theirs in ((1.0, 2.0), (10.0, 10.0), (3.0, 1.0)):
        table.add("ours", mine)
        table.add("theirs", theirs)
    return table


def test_ratio_of_rounds(table: Table) -> None:
    """A ratio is the median of the rounds' ratios, not the ratio of the medians: what disturbs a round disturbs both."""
    assert (1.0, 3.0, 2.0) == (table.ratio("ours"), table.median("ours"), table.median("theirs"))
    assert (1.0, 10.0) == table.spread("ours")


def test_turns() -> None:
    """Each row has its turn once a round, after one that does not count, and in another order each time."""
    turns: list[str] = []
    table = Table("t", "ms", "a")
    table.measure({name: lambda name=name: turns.append(name) or 1.0 for name in "ab"}, 3)  # type: ignore[misc]
    assert "ab" + "ba" + "ab" + "ba" == "".join(turns)
    assert {"a": [1.0] * 3, "b": [1.0] * 3} == table.samples


def test_goals() -> None:
    """A goal is met at its bound, whichever way it goes."""
    assert [True, False] == [at_most("j", "g", figure, 1.15).met for figure in (1.15, 1.16)]
    assert [True, False] == [at_least("j", "g", figure, 0.6).met for figure in (0.6, 0.59)]


def test_picture_and_table() -> None:
    """The README's picture and the manual's table are what the stored results come to."""
    results = chart.load()
    assert set(chart.ORDER) == results.keys()
    assert chart.picture(results) == chart.PICTURE.read_text()
    page = chart.PAGE.read_text()
    assert chart.page(page, results) == page
    assert f"](.github/images/{chart.PICTURE.name})" in (ROOT / "README.md").read_text()


def test_figures_of_the_readme() -> None:
    """The ratios that the README states are those of the stored results."""
    readme, results = (ROOT / "README.md").read_text(), chart.load()

    def ratio(name: str, number: int, row: str) -> str:
        return next(
            f"{found['ratio']:.2f} ×" for found in results[name]["tables"][number]["rows"] if found["name"] == row
        )

    def reached(peer: str) -> str:
        return only([str(goal["reached"]) for goal in results["flush"]["goals"] if peer in goal["goal"]])

    assert f"{ratio('oneshot', 0, 'rillevents record')} `python -c pass`" in readme
    assert f"`jq -n … >> file` is {ratio('oneshot', 0, 'jq -n … >> file')}" in readme
    assert f"takes {ratio('library', 0, 'rillevents, spool')} as long as `logging`" in readme
    assert f"`IntakeSink` {ratio('library', 1, 'rillevents, intake')} as many" in readme
    assert f"{reached('naive loop')} the time of a naive loop" in readme
    assert f"{reached('Collector')} as quick as the OpenTelemetry Collector" in readme
    assert f"{reached('Benthos')} as Benthos" in readme
    assert f"answers {ratio('serve', 0, 'rillevents serve --store')} as many requests" in readme


def test_picture_shows_every_row() -> None:
    """Every row of a table that is drawn is in the picture, those in which somebody else is ahead like all others; it is XML."""
    results = chart.load()
    texts = [
        element.text
        for element in ElementTree.fromstring(chart.picture(results)).iter()
        if element.tag.endswith("text")
    ]
    for name, number in chart.DRAWN:
        for row in results[name]["tables"][number]["rows"]:
            assert row["name"] in texts


def test_no_event_was_missing() -> None:
    """The stored results are of runs in which every event of rillevents arrived, on the machine that the page names."""
    page = chart.PAGE.read_text()
    for name, found in chart.load().items():
        for line in found["counted"]:
            assert not re.search(r"\b[1-9][\d,]* (of them )?missing", line), (name, line)
        for part in found["machine"].split(", ")[:2]:
            assert part in page, (name, part)


def test_results_are_of_commands_that_exist() -> None:
    """Each result names the command that measured it, and that is a file here."""
    for path in chart.RESULTS.glob("*.json"):
        program = json.loads(path.read_text())["command"].split()[1]
        assert path.stem == Path(program).stem
        assert (ROOT / program).is_file()
