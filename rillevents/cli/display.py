"""How results look to people. This and manual.py alone use rich, which takes longer to load than most commands take."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import IO, Any

from rich import box
from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.table import Table
from rich.text import Text

from rillevents.cli import charts
from rillevents.cli.printable import printable, text_of

_TIME = len("2026-11-23T10:00:00Z")
_LEAST_ROOM = 10
_LEAST_BAR = 4
_MOST_ROWS = 1000

View = Callable[[Console, Any], None]


def console(file: IO[str] | None) -> Console:
    """Return a console for stdout or stderr; NO_COLOR, CLICOLOR_FORCE and TERM=dumb are honoured."""
    colour = os.environ.get("CLICOLOR_FORCE", "") not in ("", "0") and not os.environ.get("NO_COLOR")
    return Console(
        file=file,
        force_terminal=True if colour else None,
        highlight=False,
        markup=False,
        emoji=False,
        soft_wrap=True,
    )


@contextmanager
def progress_bar(verb: str, total: int | None) -> Iterator[tuple[Callable[[], None], Callable[[int], None]]]:
    """Give two functions: one starts showing progress on stderr, the other takes the number of events done."""
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), TextColumn("{task.completed:,} events " + verb), BarColumn(), TimeElapsedColumn())
    bar = Progress(*columns, console=console(sys.stderr), transient=True)
    task = bar.add_task("", total=total)
    try:
        yield bar.start, lambda done: bar.update(task, completed=done)
    finally:
        bar.stop()


def dim(text: str) -> None:
    """Print a line to stderr that does not matter much."""
    console(sys.stderr).print(Text(text, style="dim"))


def pairs(rows: Mapping[str, str]) -> None:
    """Print names and values to stdout, the names bold."""
    width = max(map(len, rows), default=0)
    for name, value in rows.items():
        console(sys.stdout).print(Text(name.ljust(width + 2), style="bold") + Text(value, style="not bold"))


def _events(out: Console, events: Sequence[Mapping[str, Any]]) -> None:
    if not events:
        return
    rows = [("time", "type", "name", "attributes"), *map(_cells, events)]
    # A time or a name that is broken cannot be read or copied; only one that is as long as half the line is cropped.
    most = (_TIME, 16, max(20, out.width // 2))
    widths = [min(max(cell_len(row[at]) for row in rows), width) for at, width in enumerate(most)]
    widths.append(max(_LEAST_ROOM, out.width - sum(widths) - 2 * len(widths)))
    for number, row in enumerate(rows):
        line = "  ".join(_cropped(cell, width) for cell, width in zip(row, widths, strict=True))
        out.print(Text(line.rstrip(), style="" if number else "bold", no_wrap=True))


def _cropped(cell: str, width: int) -> str:
    """Return a text in exactly so many columns of a terminal."""
    if cell_len(cell) <= width:
        return cell + " " * (width - cell_len(cell))
    mark = "..." if charts.is_ascii(sys.stdout.encoding if sys.stdout else None, os.environ) else "…"
    return set_cell_size(cell, width - len(mark)) + mark


def _print_table(out: Console, table: Table) -> None:
    Console(file=out.file, force_terminal=out.is_terminal or None, highlight=False, width=out.width).print(table)


def _stats(out: Console, data: Mapping[str, Any]) -> None:
    if not data["events"]:
        return
    ascii_only = charts.is_ascii(out.encoding, os.environ)
    width = charts.width_in(out.width)
    out.print(Text(charts.headline(data, width)))
    _stats_groups(out, data, ascii_only=ascii_only)
    if not data["every"] and not data["groups"][0]["by"]:
        _stats_names(out, data, width, ascii_only=ascii_only)
    for metric in data["values"][: charts.MAX_METRICS] if not data["groups"][0]["by"] else ():
        out.print(Text(f"\n{printable(metric['name'])}", style="bold"))
        out.print(Text(f"  {charts.about(metric)}"))
        for figures, bar in charts.spread(metric, out.width, ascii_only=ascii_only):
            out.print(Text(figures) + Text(bar, style="cyan"))
    if charts.left_out(data) and not data["every"] and not data["groups"][0]["by"]:
        out.print(Text(f"\nand {charts.left_out(data)}: --json, or a filter", style="dim"))


def _stats_groups(out: Console, data: Mapping[str, Any], *, ascii_only: bool) -> None:
    groups = data["groups"]
    if data["every"] and groups[0]["columns"]:
        found, keys = [*charts.over_columns(data, out.width)], 1
    elif groups[0]["by"]:
        found, keys = [*charts.by_group(data)], len(groups[0]["by"])
    else:
        return
    rows = [[printable(cell) for cell in row] for row, _ in found]
    widths = _widths(out, rows, [at >= keys for at in range(len(rows[0]))])
    room = min(charts.MAX_BAR, out.width - sum(widths) - 2 * len(widths))
    for number, (row, (_, share)) in enumerate(zip(rows, found, strict=True)):
        line = Text(_line(row, widths, [at >= keys for at in range(len(row))]), style="" if number else "bold")
        if room >= _LEAST_BAR and share:
            line = line.append("  ").append(charts.bar(share, room, ascii_only=ascii_only), style="cyan")
        line.rstrip()
        out.print(line)


def _widths(out: Console, rows: Sequence[Sequence[str]], are_numbers: Sequence[bool]) -> list[int]:
    """Return the widths of columns; texts give way first, the longest ones: a number that is cropped is another number."""
    widths = [max(cell_len(row[at]) for row in rows) for at in range(len(rows[0]))]
    for of_numbers in (False, True):
        some = [at for at, is_number in enumerate(are_numbers) if is_number == of_numbers]
        while some and sum(widths) + 2 * (len(widths) - 1) > out.width:
            widest = max(some, key=lambda at: widths[at])
            if widths[widest] <= _LEAST_ROOM:
                break
            widths[widest] -= 1
    return widths


def _line(row: Sequence[str], widths: Sequence[int], are_numbers: Sequence[bool]) -> str:
    parts = [_cropped(cell, width) for cell, width in zip(row, widths, strict=True)]
    return "  ".join(
        part.rstrip().rjust(len(part)) if is_number else part
        for part, is_number in zip(parts, are_numbers, strict=True)
    ).rstrip()


def _stats_names(out: Console, data: Mapping[str, Any], width: int, *, ascii_only: bool) -> None:
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    for heading in ("type", "name"):
        table.add_column(heading, overflow="fold")
    table.add_column("events", justify="right", no_wrap=True)
    table.add_column("over time", no_wrap=True, style="cyan")
    for kind, name, count, chart in charts.counted(data, width, ascii_only=ascii_only):
        table.add_row(Text(printable(kind)), Text(printable(name)), count, Text(chart))
    _print_table(out, table)


def _rows(out: Console, data: tuple[Sequence[str], Iterator[Sequence[Any]]]) -> None:
    """Print a table of any columns; a row that is too wide is cropped, and so is what follows the first thousand rows."""
    columns, rows = data
    shown = list(islice(rows, _MOST_ROWS))
    rest = sum(1 for _ in rows)
    cells = [[printable(name) for name in columns], *([_cell(value) for value in row] for row in shown)]
    are_numbers = [all(isinstance(row[at], (int, float, type(None))) for row in shown) for at in range(len(columns))]
    widths = _widths(out, cells, are_numbers)
    for number, row in enumerate(cells):
        out.print(Text(_line(row, widths, are_numbers), style="" if number else "bold", no_wrap=True))
    if rest:
        out.print(Text(f"and {rest:,} more rows: --csv or --json", style="dim"))


def _cell(value: Any) -> str:
    return "" if value is None else text_of(value)


def _cells(event: Mapping[str, Any]) -> tuple[str, str, str, str]:
    hidden = ("event_id", "event_time", "event_type", "event_name", "install_id", "name", "time")
    more = " ".join(f"{key}={text_of(value)}" for key, value in event.items() if key not in hidden)
    return (
        printable(event["event_time"][:19]) + "Z",
        printable(event["event_type"]),
        printable(event["event_name"]),
        printable(more),
    )


def _following(out: Console, events: Iterator[Mapping[str, Any]]) -> None:
    for event in events:
        out.print(Text("  ".join(_cells(event))))
        out.file.flush()


def _rejected(out: Console, entries: Sequence[Mapping[str, Any]]) -> None:
    for entry in entries:
        out.print(Text("  ".join(_cells(entry["event"]))))
        out.print(Text(f"    {printable(entry['reason'])}", style="red"))


def _summary(out: Console, data: Mapping[str, Any]) -> None:
    if not data["events"]:
        return
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1), expand=False)
    for heading in ("type", "name"):
        table.add_column(heading, overflow="fold")
    for heading in ("delivered", "waiting", "failed", "seconds"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in data["events"]:
        name = printable(row["event_name"]) or "others"
        numbers = (f"{row[key]:,}" for key in ("delivered", "waiting", "failed"))
        seconds = f"{row['seconds']:,.3f}" if row["seconds"] else ""
        table.add_row(Text(printable(row["event_type"])), Text(name), *numbers, seconds)
    _print_table(out, table)


def _page(out: Console, text: str) -> None:
    if out.is_terminal:
        # Imported here: it takes longer to load than most commands take.
        from rillevents.cli.manual import show_page

        show_page(out, text)
    else:
        print(text, end="", file=out.file)


VIEWS: Mapping[str, View] = {
    "events": _events,
    "following": _following,
    "stats": _stats,
    "table": _rows,
    "rejected": _rejected,
    "summary": _summary,
    "page": _page,
}
