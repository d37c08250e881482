"""How results look: the only place that prints, and the only one that uses rich."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import IO, Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from rillevents.cli import charts
from rillevents.cli.command import events, soften
from rillevents.cli.printable import printable, printable_json
from rillevents.cli.result import Result, Shown

Human = Callable[[Console, Any], None]


def console(file: IO[str] | None, *, width: int | None = None) -> Console:
    """Return a console for stdout or stderr; NO_COLOR, CLICOLOR_FORCE and TERM=dumb are honoured."""
    colour = os.environ.get("CLICOLOR_FORCE", "") not in ("", "0") and not os.environ.get("NO_COLOR")
    return Console(
        file=file,
        force_terminal=True if colour else None,
        highlight=False,
        markup=False,
        emoji=False,
        soft_wrap=True,
        width=width,
    )


def show(shown: Shown) -> int:
    """Print a command's result and return its exit code, or 1 if stdout fails (a full disk)."""
    result = shown.result
    try:
        _print(shown)
    except BrokenPipeError:
        raise
    except OSError as error:
        # Stop here: what is left in stdout's buffer would be tried again, and fail again, until the process ends.
        sys.stdout = None
        told = f"the output is incomplete: {error.strerror or error}"
        lost = Result(messages=(*result.messages, told), notices=result.notices, exit_code=result.exit_code or 1)
        result = soften(lost, shown.on_error)
    say(result, quiet=shown.quiet)
    return result.exit_code


def _print(shown: Shown) -> None:
    result = shown.result
    if sys.stdout is None:
        return
    if shown.as_json:
        _print_json(result.data)
    else:
        _write_lines(result)
        if result.data is not None and result.kind in HUMAN:
            HUMAN[result.kind](console(sys.stdout), result.data)
    sys.stdout.flush()


def _print_json(data: Any) -> None:
    if not isinstance(data, Iterator):
        print(json.dumps(data, indent=2), file=sys.stdout)
        return
    # One by one, not as a list: a spool may hold more than fits in memory.
    separator = "[\n"
    for item in data:
        print(separator + json.dumps(item, indent=2), end="", file=sys.stdout)
        separator = ",\n"
    print("[]" if separator == "[\n" else "\n]", file=sys.stdout)


def _write_lines(result: Result) -> None:
    on_terminal = sys.stdout.isatty()
    for line in result.lines:
        sys.stdout.buffer.write(printable_json(line) if on_terminal else line)
        if result.kind == "stream" or on_terminal:
            sys.stdout.buffer.flush()


def say(result: Result, *, quiet: bool) -> None:
    """Print the messages to stderr, and on a terminal the notices; with *quiet* only usage errors."""
    if sys.stderr is None or (quiet and not (result.kind == "failure" and result.exit_code == 2)):
        return
    try:
        for message in result.messages:
            print(f"rillevents: {printable(message)}", file=sys.stderr)
        if sys.stderr.isatty():
            for notice in result.notices:
                console(sys.stderr).print(Text(printable(notice), style="dim"))
    except OSError:
        # stderr is gone; only the exit code remains.
        return


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


def _pairs(out: Console, rows: Mapping[str, Any]) -> None:
    width = max((len(printable(key)) for key in rows), default=0)
    for key, value in rows.items():
        out.print(Text(printable(key).ljust(width + 2), style="bold") + Text(_text(value), style="not bold"))


def _text(value: Any) -> str:
    if isinstance(value, str):
        return printable(value)
    return printable(json.dumps(value, ensure_ascii=False))


def _status(out: Console, data: Mapping[str, Any]) -> None:
    spool, ledger, destination, last = data["spool"], data["ledger"], data["destination"], data["last_flush"]
    dropped = ", ".join(f"{count:,} {reason}" for reason, count in ledger["dropped"].items())
    _pairs(
        out,
        {
            "install ID": f"{data['install_id'] or 'none'} ({data['install_id_source'] or 'telemetry is off'})",
            "telemetry": f"{'on' if data['telemetry']['enabled'] else 'off'} (decided by: {data['telemetry']['decided_by']})",
            "spool": spool["path"] + (" (fallback)" if spool["fallback"] else ""),
            "waiting": f"{events(spool['events'])}, {spool['bytes']:,} bytes" + _since(spool["oldest"]),
            "set aside": f"{spool['rejected']:,} rejected, {spool['corrupt']:,} damaged",
            "destination": _destination(destination),
            "delivered": f"{ledger['delivered']:,} of {ledger['recorded']:,} recorded"
            + _since(ledger["since"], "since"),
            "losses": f"{ledger['refused']:,} refused, {ledger['truncated']:,} truncated, dropped: {dropped or 'none'}",
            "last flush": _last(last),
            **{f"server {number}": _server(found) for number, found in enumerate(data.get("servers", ()), 1)},
        },
    )


def _last(told: Mapping[str, Any] | None) -> str:
    return f"{told['at'][:19]}Z: {told['outcome']}; {told['reason']}".strip("; ") if told else "never"


def _server(found: Mapping[str, Any]) -> str:
    counts = f"{events(found['events'])} waiting, {found['delivered']:,} delivered, {found['rejected']:,} rejected"
    return f"{counts}; last: {_last(found['last_flush'])}; {found['spool']}"


def _since(time: str | None, word: str = "the oldest of") -> str:
    return f", {word} {time[:19]}Z" if time else ""


def _destination(found: Mapping[str, Any]) -> str:
    if not found["configured"]:
        return "none; run: rillevents config set intake.url URL"
    where = found["url"] if found["to"] == "intake" else found["to"]
    return f"{where} (as {found['user']})" if found["user"] and found["to"] == "intake" else str(where)


def _events(out: Console, events: Sequence[Mapping[str, Any]]) -> None:
    if not events:
        return
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1), expand=False)
    for heading in ("time", "type", "name", "attributes"):
        table.add_column(heading, overflow="fold")
    for event in events:
        table.add_row(*(Text(cell) for cell in _cells(event)))
    _print_table(out, table)


def _print_table(out: Console, table: Table) -> None:
    Console(file=out.file, force_terminal=out.is_terminal or None, highlight=False, width=out.width).print(table)


def _stats(out: Console, data: Mapping[str, Any]) -> None:
    if not data["events"]:
        return
    ascii_only = charts.is_ascii(out.encoding, os.environ)
    width = charts.width_in(out.width)
    out.print(Text(charts.headline(data, width)))
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    for heading in ("type", "name"):
        table.add_column(heading, overflow="fold")
    table.add_column("events", justify="right", no_wrap=True)
    table.add_column("over time", no_wrap=True, style="cyan")
    for kind, name, count, chart in charts.counted(data, width, ascii_only=ascii_only):
        table.add_row(Text(printable(kind)), Text(printable(name)), count, Text(chart))
    _print_table(out, table)
    for metric in data["values"][: charts.MAX_METRICS]:
        out.print(Text(f"\n{printable(metric['name'])}", style="bold"))
        out.print(Text(f"  {charts.about(metric)}"))
        for figures, bar in charts.spread(metric, out.width, ascii_only=ascii_only):
            out.print(Text(figures) + Text(bar, style="cyan"))
    if charts.left_out(data):
        out.print(Text(f"\nand {charts.left_out(data)}: --json, or a filter", style="dim"))


def _cells(event: Mapping[str, Any]) -> tuple[str, str, str, str]:
    hidden = ("event_id", "event_time", "event_type", "event_name", "install_id", "name", "time")
    more = " ".join(f"{key}={_text(value)}" for key, value in event.items() if key not in hidden)
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


def _plain(out: Console, value: Any) -> None:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    if out.is_terminal:
        print(printable(text), file=out.file)
        return
    try:
        # Raw bytes, not text: a path may contain any bytes, and a script must find the file by it.
        sys.stdout.buffer.write(os.fsencode(text) + b"\n")
    except UnicodeEncodeError:
        print(text, file=out.file)


def _page(out: Console, text: str) -> None:
    if out.is_terminal:
        # Imported here: it takes longer to load than most commands take.
        from rich.markdown import Markdown

        Console(file=out.file, force_terminal=True, width=min(out.width, 100), no_color=out.no_color).print(
            Markdown(text)
        )
    else:
        print(text, end="", file=out.file)


def _usage(out: Console, text: str) -> None:
    print(text, file=out.file)


def _topics(out: Console, titles: Mapping[str, str]) -> None:
    print("The manual's pages; run: rillevents help TOPIC\n", file=out.file)
    _pairs(out, titles)


HUMAN: Mapping[str, Human] = {
    "status": _status,
    "settings": _pairs,
    "events": _events,
    "following": _following,
    "stats": _stats,
    "rejected": _rejected,
    "text": _plain,
    "count": _plain,
    "setting": _plain,
    "switch": lambda out, data: _plain(out, "on" if data["enabled"] else "off"),
    "id": lambda out, data: _plain(out, data["install_id"]) if data["install_id"] else None,
    "page": _page,
    "usage": _usage,
    "topics": _topics,
}
