"""Numbers → characters that show them, in Unicode or ASCII. Pure functions, limited to the requested width."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, tzinfo
from typing import Any

from rillevents.cli.printable import text_of

MAX_GROUPS = 12
MAX_BAR = 40
MAX_NAMES = 20
MAX_METRICS = 10
# Room for the words beside a chart on its line; with less, the chart keeps its minimum width and the words wrap.
_WORDS = 46
_LEAST, _MOST = 20, 60
_COLUMNS = "▁▂▃▄▅▆▇█"
_PARTS = "▏▎▍▌▋▊▉█"
_ASCII_COLUMNS = ".:-=+*#@"
_WIDTHS = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))


def is_ascii(encoding: str | None, environ: Mapping[str, str]) -> bool:
    """Return whether a stream's output must be ASCII: its encoding cannot write more, or the locale is C.

    The locale matters as well: in the locale C Python writes UTF-8, but the terminal may not show it.
    """
    try:
        f"{_COLUMNS}{_PARTS}".encode(encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return True
    names = (environ.get("LC_ALL"), environ.get("LC_CTYPE"), environ.get("LANG"))
    return next((name for name in names if name), "") in ("C", "POSIX")


def merged(counts: Sequence[int], width: int) -> tuple[list[int], int]:
    """Return *counts* as at most *width* sums of neighbouring counts, and how many neighbours each sum has."""
    step = max(1, -(-len(counts) // width))
    return [sum(counts[at : at + step]) for at in range(0, len(counts), step)], step


def columns(counts: Sequence[int], *, ascii_only: bool) -> str:
    """Return one character per count, as high as its share of the largest; a blank means none."""
    signs = _ASCII_COLUMNS if ascii_only else _COLUMNS
    most = max(counts, default=0)
    return "".join(signs[(count * len(signs) - 1) // most] if count else " " for count in counts)


def bar(share: float, width: int, *, ascii_only: bool) -> str:
    """Return a bar that is *share* (0 to 1) of *width* characters long."""
    if ascii_only:
        return "#" * round(share * width)
    whole, part = divmod(round(share * width * len(_PARTS)), len(_PARTS))
    return _PARTS[-1] * whole + (_PARTS[part - 1] if part else "")


def span(seconds: int) -> str:
    """Return a number of seconds in the largest unit that divides it."""
    size, unit = next((size, unit) for size, unit in _WIDTHS if seconds % size == 0)
    return f"{seconds // size:,} {unit}"


def number(value: float) -> str:
    """Return a value in at most six digits, or as many as it has before the decimal point."""
    return f"{value:,.0f}" if 1e6 <= abs(value) < 1e15 else f"{value:,.6g}"


def width_in(width: int) -> int:
    """Return the width of the count charts on a terminal of this *width*."""
    return min(_MOST, max(_LEAST, width - _WORDS))


def headline(data: Mapping[str, Any], width: int) -> str:
    """Return the headline of the charts in a `stats` document, each at most *width* wide."""
    events = "1 event" if data["events"] == 1 else f"{data['events']:,} events"
    if data["since"] is None:
        return events
    step = merged([0] * len(data["names"][0]["buckets"]), width)[1]
    digits = len("2026-11-23T10:00:00" if data["bucket_seconds"] < 60 else "2026-11-23T10:00")
    since, until = (_in_zone(data[end], data) for end in ("since", "until"))
    told = f"{events}, {since[:digits]} to {until[:digits]} {until[20:]}"
    if data["every"]:
        return f"{told}; a line: {span(data['every'])}"
    # A table of groups has no chart over time.
    has_chart = not (data["groups"] and data["groups"][0]["by"])
    return f"{told}; a column: {span(step * data['bucket_seconds'])}" if has_chart else told


def _in_zone(text: str, data: Mapping[str, Any]) -> str:
    """Return a time with its zone: that of the columns of `--every` if there are some, else UTC."""
    if data["utc"] or not data["every"]:
        return f"{text[:19].replace('T', ' ')} UTC"
    found = _moment(text, None)
    # Not %Y, which does not pad years.
    return f"{found.replace(tzinfo=None).isoformat(' ')} {found:%z}"


def counted(data: Mapping[str, Any], width: int, *, ascii_only: bool) -> Iterator[tuple[str, str, str, str]]:
    """Yield a row per most frequent name, below one for all: type, name, count, and chart."""
    names = data["names"]
    if len(names) > 1:
        buckets = [sum(counts) for counts in zip(*(entry["buckets"] for entry in names), strict=True)]
        counts = merged(buckets, width)[0]
        yield "", "all", f"{data['events'] - data['others']:,}", columns(counts, ascii_only=ascii_only)
    for entry in names[:MAX_NAMES]:
        counts = merged(entry["buckets"], width)[0]
        yield entry["type"], entry["name"], f"{entry['count']:,}", columns(counts, ascii_only=ascii_only)


def left_out(data: Mapping[str, Any]) -> str:
    """Return what the charts leave out of a document; "" if they show everything."""
    found = {
        "names": len(data["names"]) - MAX_NAMES,
        "metrics": len(data["values"]) - MAX_METRICS,
        "events of other names": data["others"],
    }
    return ", ".join(f"{count:,} more {what}" for what, count in found.items() if count > 0)


def about(metric: Mapping[str, Any]) -> str:
    """Return a summary of all values of a metric."""
    values = "1 value" if metric["count"] == 1 else f"{metric['count']:,} values"
    return f"{values}, mean {number(metric['mean'])}, sum {number(metric['sum'])}"


def by_group(data: Mapping[str, Any]) -> Iterator[tuple[list[str], float]]:
    """Yield the headings and the rows of a table of the largest groups: keys, events, two percentiles; and the share of a bar."""
    groups, rest = data["groups"][:MAX_GROUPS], data["groups"][MAX_GROUPS:]
    has_values = any(group["values"] for group in groups)
    keys = [*groups[0]["by"]]
    yield [*keys, "events", *(["p50", "p95"] if has_values else [])], 0.0
    most = max(group["count"] for group in groups)
    for group in groups:
        values = group["values"]
        figures = [number(values[name]) if values else "" for name in ("p50", "p95")] if has_values else []
        yield [*(label(group["by"][key]) for key in keys), f"{group['count']:,}", *figures], group["count"] / most
    if rest:
        count = sum(group["count"] for group in rest)
        yield [f"{len(rest):,} others", *[""] * (len(keys) - 1), f"{count:,}", *([""] * 2 if has_values else [])], 0.0


def over_columns(data: Mapping[str, Any], width: int) -> Iterator[tuple[list[str], float]]:
    """Yield the headings and the rows of a table with a line for each column of `--every`, and what fits of the groups beside.

    Without groups each row has the share of a bar.
    """
    groups = data["groups"]
    times = moments([column["from"] for column in groups[0]["columns"]], data)
    if not groups[0]["by"]:
        counts = [column["count"] for column in groups[0]["columns"]]
        most = max(max(counts), 1)
        yield ["from", "events"], 0.0
        for time, count in zip(times, counts, strict=True):
            yield [time, f"{count:,}"], count / most
        return
    names = [", ".join(map(label, group["by"].values())) for group in groups]
    widths = [
        max(len(name), *(len(f"{column['count']:,}") for column in group["columns"])) + 2
        for name, group in zip(names, groups, strict=True)
    ]
    # Room for the time and for what does not fit.
    room, shown = width - max(map(len, times)) - 14, 0
    while shown < min(len(groups), MAX_GROUPS) and widths[shown] <= room:
        room -= widths[shown]
        shown += 1
    rest = groups[shown:]
    yield ["from", *names[:shown], *([f"{len(rest):,} others"] if rest else [])], 0.0
    for at, time in enumerate(times):
        counts = [group["columns"][at]["count"] for group in groups[:shown]]
        others = [sum(group["columns"][at]["count"] for group in rest)] if rest else []
        yield [time, *(f"{count:,}" for count in (*counts, *others))], 0.0


def label(value: Any) -> str:
    """Return the value of a group's key as people see it: "-" where the events have none."""
    return "-" if value is None else text_of(value)


def moments(texts: Sequence[str], data: Mapping[str, Any]) -> list[str]:
    """Return the starts of the columns of `--every`, in their zone: the days, or the minutes if columns are shorter than days.

    With the offsets where two would read alike: clocks go back between them.
    """
    zone = UTC if data["utc"] else None
    starts = [_moment(text, zone) for text in texts]
    if data["every"] % 86400 == 0:
        return [f"{start.date().isoformat()} {start:%a}" for start in starts]
    found = [start.isoformat(" ")[:16] for start in starts]
    return found if len({*found}) == len(found) else [f"{start.isoformat(' ')[:16]} {start:%z}" for start in starts]


def _moment(text: str, zone: tzinfo | None) -> datetime:
    return datetime.fromisoformat(text[:19] + "+00:00").astimezone(zone)


def spread(metric: Mapping[str, Any], width: int, *, ascii_only: bool) -> Iterator[tuple[str, str]]:
    """Yield a line for the minimum, each percentile and the maximum of a metric's values: as a number, and as a bar."""
    names = [key for key in metric if key in ("min", "max") or key[1:].isdigit()]
    figures = [number(metric[name]) for name in names]
    longest = max(map(len, figures))
    room = max(1, min(_MOST, width - longest - 10))
    # Halves: the difference of the two largest numbers would overflow.
    least, most = min(0.0, metric["min"]) / 2, metric["max"] / 2
    for name, figure in zip(names, figures, strict=True):
        share = (metric[name] / 2 - least) / (most - least) if most > least else 0.0
        yield f"  {name}  {figure:>{longest}}  ", bar(share, room, ascii_only=ascii_only)
