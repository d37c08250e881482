"""The picture in the README and the table in the manual, made of what the benchmarks found.

    python tests/benchmarks/NAME.py --save        # each of them, first
    python tests/benchmarks/chart.py

Reads `tests/benchmarks/results/`, and writes `.github/images/benchmarks.svg` and the table of `rillevents help performance`. All rows
are drawn, those in which somebody else is ahead as well. A test holds both to the results.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

ROOT = Path(__file__).parents[2]
RESULTS = Path(__file__).parent / "results"
PICTURE = ROOT / ".github" / "images" / "benchmarks.svg"
PAGE = ROOT / "rillevents" / "docs" / "performance.md"
BEGIN, END = "<!-- results -->", "<!-- end -->"
# Benchmark and number of the table, in the order in which they are drawn, two beside each other.
DRAWN = (
    ("oneshot", 0),
    ("shell", 0),
    ("library", 0),
    ("library", 1),
    ("library", 2),
    ("bulk", 0),
    ("flush", 0),
    ("flush", 1),
    ("flush", 2),
    ("otlp", 0),
    ("serve", 0),
    ("serve", 1),
)
ORDER = ("oneshot", "shell", "growth", "library", "embedded", "bulk", "flush", "otlp", "serve", "store", "memory")

WIDTH, MARGIN, GAP, BAR, TITLE = 580, 16, 24, 22, 48
LABEL, VALUE = 244, 100


def load() -> dict[str, dict[str, Any]]:
    """Return what each benchmark found."""
    return {path.stem: json.loads(path.read_text()) for path in sorted(RESULTS.glob("*.json"))}


def picture(results: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the picture as SVG."""
    panels = [results[name]["tables"][number] for name, number in DRAWN]
    pairs = [panels[at : at + 2] for at in range(0, len(panels), 2)]
    parts, top = [], float(MARGIN)
    for pair in pairs:
        for column, table in enumerate(pair):
            parts += panel(table, MARGIN + column * (WIDTH + GAP), top)
        top += max(height(table) for table in pair) + GAP
    foot = list(footnotes(results))
    for line in foot:
        parts.append(text(MARGIN, top + 12, line, "note"))
        top += 17
    whole = (2 * WIDTH + GAP + 2 * MARGIN, int(top + MARGIN))
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {whole[0]} {whole[1]}" width="{whole[0]}" height="{whole[1]}" role="img">'
    title = "<title>rillevents beside other tools and libraries, measured in the same runs</title>"
    return "\n".join(
        [head, title, STYLE, f'<rect width="{whole[0]}" height="{whole[1]}" class="page"/>', *parts, "</svg>", ""]
    )


STYLE = (
    "<style>text{font:13px system-ui,-apple-system,'Segoe UI',sans-serif;fill:#24292f}.title{font-weight:600;font-size:15px}"
    ".note,.unit{fill:#57606a;font-size:12px}.page{fill:#fff}.ours{fill:#2563eb}.theirs{fill:#c3cad3}.spread{stroke:#57606a;stroke-width:1}"
    "@media(prefers-color-scheme:dark){text{fill:#e6edf3}.note,.unit{fill:#9198a1}.page{fill:#0d1117}.ours{fill:#4f8ff7}"
    ".theirs{fill:#444c56}.spread{stroke:#9198a1}}</style>"
)


def height(table: Mapping[str, Any]) -> int:
    """Return how high the panel of a table is."""
    return TITLE + BAR * len(table["rows"])


def panel(table: Mapping[str, Any], left: float, top: float) -> Iterator[str]:
    """Yield one table as bars: the median, and a line from the tenth to the ninetieth percentile."""
    better = "less" if table["less"] else "more"
    yield text(left, top + 14, table["title"], "title")
    yield text(left, top + 32, f"{table['unit']}, {better} is better; × {table['base']}", "unit")
    most = max(row["high"] for row in table["rows"])
    scale = (WIDTH - LABEL - VALUE - 8) / most
    for number, row in enumerate(table["rows"]):
        y = top + TITLE + BAR * number
        kind = "ours" if is_ours(row["name"]) else "theirs"
        start = left + LABEL
        yield text(start - 8, y + 13, row["name"], anchor="end")
        yield f'<rect x="{start:.1f}" y="{y + 2:.1f}" width="{max(1.0, row["median"] * scale):.1f}" height="{BAR - 8}" rx="2" class="{kind}"/>'
        low, high = start + row["low"] * scale, start + row["high"] * scale
        yield f'<line x1="{low:.1f}" x2="{high:.1f}" y1="{y + 9:.1f}" y2="{y + 9:.1f}" class="spread"/>'
        yield text(start + row["high"] * scale + 6, y + 13, f"{figure(row['median'])} · {row['ratio']:.2f} ×", "unit")


def is_ours(row: str) -> bool:
    """Return whether a row is about this project."""
    return row.startswith(("rillevents", "record", "flush", "client"))


def text(x: float, y: float, content: str, kind: str = "", *, anchor: str = "") -> str:
    """Return a line of text."""
    marks = (f' class="{kind}"' if kind else "") + (f' text-anchor="{anchor}"' if anchor else "")
    return f'<text x="{x:.1f}" y="{y:.1f}"{marks}>{escape(content)}</text>'


def figure(value: float) -> str:
    """Return a figure with as many digits as mean something."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def footnotes(results: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """Yield the machine, the versions and what the bars are, in lines that fit."""
    yield f"{results['oneshot']['machine']}, shared and noisy. Bars: medians; lines: 10th to 90th percentile; ×: median of the rounds' ratios."
    versions: dict[str, str] = {}
    for name in ORDER:
        versions |= results[name]["versions"]
    line = ""
    for peer, version in versions.items():
        word = f"{peer} {version.removeprefix(f'{peer}-')}"
        if len(line) + len(word) > 165:
            yield line + ","
            line = ""
        line += f", {word}" if line else word
    yield line + "."


def table(results: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the goals and what was reached, as Markdown."""
    rows = [("job", "goal", "reached", "", "measured by")]
    for name in ORDER:
        found = results[name]
        for goal in found["goals"]:
            rows.append(
                (
                    goal["job"],
                    goal["goal"],
                    goal["reached"],
                    "yes" if goal["met"] else "**no**",
                    f"`{found['command']}`",
                )
            )
    return "\n".join(markdown(rows))


def markdown(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Yield the lines of a table."""
    for number, row in enumerate(rows):
        yield f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |"
        if not number:
            yield "|" + "---|" * len(row)


def page(before: str, results: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the manual's page with the table of these results in it."""
    head, _, rest = before.partition(BEGIN)
    _, _, tail = rest.partition(END)
    return f"{head}{BEGIN}\n{table(results)}\n{END}{tail}"


def main() -> None:
    """Write the picture and the table."""
    results = load()
    PICTURE.parent.mkdir(parents=True, exist_ok=True)
    PICTURE.write_text(picture(results))
    PAGE.write_text(page(PAGE.read_text(), results))


if __name__ == "__main__":
    main()
