"""What a command's result prints, to stdout and stderr: the only place that prints. What people look at is in display.py."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from time import time_ns
from typing import Any

from rillevents.cli.command import events, soften
from rillevents.cli.printable import printable, printable_json, text_of
from rillevents.cli.result import Result, Shown


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
    # A stream has printed its documents as they came.
    if shown.as_json and result.kind != "stream":
        _print_json(result.data)
    else:
        _write_lines(result)
        if result.data is not None:
            _view(result.kind, result.data)
    sys.stdout.flush()


def _print_json(data: Any) -> None:
    if not isinstance(data, Iterator):
        # In parts: the whole text is larger than the data, and one write of more than 2 GiB is cut by the system.
        parts = json.JSONEncoder(indent=2).iterencode(data)
        while part := "".join(islice(parts, _PARTS)):
            print(part, end="", file=sys.stdout)
        print(file=sys.stdout)
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
        if result.notices and sys.stderr.isatty():
            from rillevents.cli import display

            for notice in result.notices:
                display.dim(printable(notice))
    except OSError:
        # stderr is gone; only the exit code remains.
        return


def _view(kind: str, data: Any) -> None:
    if kind in _PLAIN:
        _PLAIN[kind](data)
    elif kind in _PAIRS:
        _pairs(_PAIRS[kind](data))
    elif kind in _RICH:
        # Imported here: it takes longer to load than most commands take.
        from rillevents.cli import display

        display.VIEWS[kind](display.console(sys.stdout), data)


def _pairs(rows: Mapping[str, Any]) -> None:
    shown = {printable(name): text_of(value) for name, value in rows.items()}
    if sys.stdout.isatty() or os.environ.get("CLICOLOR_FORCE", "") not in ("", "0"):
        from rillevents.cli import display

        display.pairs(shown)
        return
    width = max(map(len, shown), default=0)
    for name, value in shown.items():
        print(f"{name:<{width}}  {value}")


def _status(data: Mapping[str, Any]) -> dict[str, str]:
    spool, ledger, destination, last = data["spool"], data["ledger"], data["destination"], data["last_flush"]
    dropped = ", ".join(f"{count:,} {reason}" for reason, count in ledger["dropped"].items())
    return {
        "install ID": f"{data['install_id'] or 'none'} ({data['install_id_source'] or 'telemetry is off'})",
        "telemetry": f"{'on' if data['telemetry']['enabled'] else 'off'} (decided by: {data['telemetry']['decided_by']})",
        "spool": spool["path"] + (" (fallback)" if spool["fallback"] else ""),
        "waiting": f"{events(spool['events'])}, {spool['bytes']:,} bytes"
        + _since(spool["oldest"])
        + _age(spool["oldest"]),
        "set aside": f"{spool['rejected']:,} rejected, {spool['corrupt']:,} damaged",
        "destination": _destination(destination),
        "delivered": f"{ledger['delivered']:,} of {ledger['recorded']:,} recorded" + _since(ledger["since"], "since"),
        "losses": f"{ledger['refused']:,} refused, {ledger['truncated']:,} truncated, dropped: {dropped or 'none'}",
        "last flush": _last(last),
        **{f"server {number}": _server(found) for number, found in enumerate(data.get("servers", ()), 1)},
    }


def _last(told: Mapping[str, Any] | None) -> str:
    return f"{told['at'][:19]}Z: {told['outcome']}; {told['reason']}".strip("; ") if told else "never"


def _server(found: Mapping[str, Any]) -> str:
    counts = f"{events(found['events'])} waiting, {found['delivered']:,} delivered, {found['rejected']:,} rejected"
    return f"{counts}; last: {_last(found['last_flush'])}; {found['spool']}"


def _since(time: str | None, word: str = "the oldest of") -> str:
    return f", {word} {time[:19]}Z" if time else ""


def _age(time: str | None) -> str:
    from rillevents.event.timestamp import parse_time

    try:
        seconds = (time_ns() - parse_time(time)) // 1_000_000_000 if time else -1
    except ValueError:
        return ""
    size, name = next(((size, name) for size, name in _AGES if seconds >= 2 * size), (1, "seconds"))
    return f" ({seconds // size:,} {name} old)" if seconds >= 0 else ""


# Of these a text of some kilobytes is made.
_PARTS = 4096
_AGES = ((86_400, "days"), (3600, "hours"), (60, "minutes"))


def _destination(found: Mapping[str, Any]) -> str:
    if not found["configured"]:
        return "none; run: rillevents config set intake.url URL"
    where = found["url"] if found["to"] == "intake" else found["to"]
    return f"{where} (as {found['user']})" if found["user"] and found["to"] == "intake" else str(where)


def _plain(value: Any) -> None:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    if sys.stdout.isatty():
        print(printable(text))
        return
    try:
        # Raw bytes, not text: a path may contain any bytes, and a script must find the file by it.
        sys.stdout.buffer.write(os.fsencode(text) + b"\n")
    except UnicodeEncodeError:
        print(text)


def _doctor(data: Mapping[str, Any]) -> None:
    for check in data["checks"]:
        mark = "FAIL" if not check["ok"] else "note" if check["advice"] else "ok"
        print(f"{mark:<4}  {check['name']:<13}  {printable(check['detail'])}")
        if check["advice"]:
            print(f"{'':<21}-> {printable(check['advice'])}")


def _topics(titles: Mapping[str, str]) -> Mapping[str, str]:
    print("The manual's pages; run: rillevents help TOPIC\n")
    return titles


# What display.py shows. Other kinds have data for --json alone.
_RICH = ("events", "following", "stats", "rejected", "summary", "page", "table")
_PAIRS: Mapping[str, Callable[[Any], Mapping[str, Any]]] = {
    "status": _status,
    "settings": dict,
    "topics": _topics,
    "ci": lambda data: data["attributes"],
}


def _csv(rows: Iterable[Sequence[Any]]) -> None:
    """Print rows as CSV: texts as they are, anything else as JSON, None as nothing."""
    import csv

    writer = csv.writer(sys.stdout, lineterminator="\n")
    for row in rows:
        writer.writerow(["" if cell is None else cell if isinstance(cell, str) else _json_cell(cell) for cell in row])


def _json_cell(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else json.dumps(value, ensure_ascii=False)


_PLAIN: Mapping[str, Callable[[Any], None]] = {
    "text": _plain,
    "count": _plain,
    "csv": _csv,
    "setting": _plain,
    "switch": lambda data: _plain("on" if data["enabled"] else "off"),
    "id": lambda data: _plain(data["install_id"]) if data["install_id"] else None,
    "usage": print,
    "doctor": _doctor,
}
