"""The page, and the JSON that it and scripts request, by path. Pages of other origins get none of it.

The data comes from a `BoundedReader` into a store, or from the `Latest` when the server forwards.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC
from importlib.resources import files
from typing import Any

from rillevents.errors import Busy, RilleventsError, UsageError
from rillevents.event import METRIC, format_time
from rillevents.event.envelope import is_event
from rillevents.event.pattern import exactly
from rillevents.event.query import Query, decoded, point_in_time
from rillevents.event.stats import spread
from rillevents.event.timestamp import LAST_SECOND, parse_duration
from rillevents.serve.breakdown import Reader, count_read, values_read
from rillevents.serve.installs import installs_read, reach_read
from rillevents.serve.latest import RECENT, Latest
from rillevents.serve.response import Answer, later, problem
from rillevents.store.glance import BoundedReader, Window
from rillevents.store.incoming import Incoming, Stored
from rillevents.store.reader import Counted, RejectedRow
from rillevents.store.readonly import Replaced

Parameters = Mapping[str, str]
Show = Callable[[Parameters], Answer]
Headers = tuple[tuple[bytes, bytes], ...]

PRIVATE: Headers = (
    (b"cache-control", b"no-store"),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"x-frame-options", b"DENY"),
)
POLICY = (
    b"default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; "
    b"base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
ASSETS = {
    "/": ("index.html", b"text/html; charset=utf-8"),
    "/bars.js": ("bars.js", b"text/javascript; charset=utf-8"),
    "/chosen.js": ("chosen.js", b"text/javascript; charset=utf-8"),
    "/controls.js": ("controls.js", b"text/javascript; charset=utf-8"),
    "/csv.js": ("csv.js", b"text/javascript; charset=utf-8"),
    "/groups.js": ("groups.js", b"text/javascript; charset=utf-8"),
    "/installs.js": ("installs.js", b"text/javascript; charset=utf-8"),
    "/page.js": ("page.js", b"text/javascript; charset=utf-8"),
    "/live.js": ("live.js", b"text/javascript; charset=utf-8"),
    "/figures.js": ("figures.js", b"text/javascript; charset=utf-8"),
    "/draw.js": ("draw.js", b"text/javascript; charset=utf-8"),
    "/text.js": ("text.js", b"text/javascript; charset=utf-8"),
    "/page.css": ("page.css", b"text/css; charset=utf-8"),
    "/icon.svg": ("icon.svg", b"image/svg+xml"),
}
_FILTERS = ("type", "name", "since", "until", "attributes")
_CURSOR = re.compile(r"[0-9]{1,18}-[0-9a-f]{8}")
_LONGEST = 1024
# What can be chosen by a click: names have up to 1,024 bytes, and three for each sign of a pattern; values can be longer.
_LONGER = ("attributes", "by", "goal", "name", "start")
_LONGEST_CHOSEN = 8192
_LINE_CHARS = 2000
_KINDS = 50
# Days in half hours: what the page asks for where clocks change.
_BUCKETS = 1500
_SECOND_NS = 10**9
_MINUTE_NS = 60 * 10**9
_HOUR_NS = 3600 * 10**9
# The years 0 and 9999: a query may name a time long before or after every event.
_FIRST_NS, _LAST_NS = -62167219200 * 10**9, LAST_SECOND * 10**9


@dataclass(slots=True)
class View:
    """The paths that can be viewed, read by way of *see*; `note` is called with every request that was stored."""

    see: Callable[[], Reader] | None = None
    kept: str = "store"

    def note(self, incoming: Incoming, stored: Stored) -> None:
        """Take note of what was stored."""

    def paths(self) -> Mapping[str, Show]:
        """Return the viewable paths, each with the function that answers it."""
        if not self.see:
            return {}
        asked: dict[str, Show] = {
            "/api/events": self._asked(_events, *_FILTERS, "limit", "after"),
            "/api/rejected": self._asked(_rejected, "limit"),
            "/api/stats": self._asked(_stats, *_FILTERS, "buckets", "by"),
            "/api/values": self._asked(_values, *_FILTERS, "bins", "by"),
            "/api/installs": self._asked(_installs, "since", "until", "attributes", "buckets"),
            "/api/reach": self._asked(_reach, "since", "until", "attributes", "start", "goal", "within"),
        }
        return asked | {path: _asset(*asset) for path, asset in ASSETS.items()}

    def _asked(self, show: Callable[[Reader, Parameters], dict[str, Any] | bytes], *known: str) -> Show:
        """Return a function that answers with the JSON that *show* finds, or with the reason why it could not."""

        def answer(parameters: Parameters) -> Answer:
            try:
                _check(parameters, known)
                found = self._seen(show, parameters)
            except UsageError as error:
                return _private(problem(400, error.message))
            except (Busy, Replaced):
                return _private(later("the store is locked or being replaced, try again; nothing was lost"))
            except RilleventsError as error:
                return _private(problem(503, error.message))
            body = found if isinstance(found, bytes) else _written({**found, "kept": self.kept})
            return Answer(200, body, PRIVATE)

        return answer

    def _seen(self, show: Callable[[Reader, Parameters], dict[str, Any] | bytes], parameters: Parameters) -> Any:
        assert self.see  # noqa: S101 - without *see* there are no paths to ask for
        seeing = self.see()
        try:
            return show(seeing, parameters)
        finally:
            seeing.close()


class StoreView(View):
    """Views a store; each view opens it anew, since another file may stand there by now."""

    def __init__(self, path: str) -> None:
        super().__init__(lambda: BoundedReader(path))


class RecentView(View):
    """Keeps the latest events when there is no store to view; *refused* returns those that the destination refused."""

    def __init__(self, refused: Callable[[int], Iterable[RejectedRow]] = lambda limit: ()) -> None:
        self._latest = Latest(refused)
        super().__init__(lambda: self._latest, f"the latest {RECENT:,}")

    def note(self, incoming: Incoming, stored: Stored) -> None:
        """Keep the lines."""
        self._latest.add(incoming)


def _events(seeing: Reader, parameters: Parameters) -> bytes:
    query, limit = _query(parameters), _number(parameters, "limit", 100, 500)
    after = parameters.get("after", "")
    if after and not _CURSOR.fullmatch(after):
        raise UsageError("after is not a valid cursor; leave it out, and use the one in the answer")
    seen = seeing.after(after, query, limit) if after else seeing.newest(query, limit)
    # Joined as raw bytes: decoding and writing them again could change an event. An invalid line would break the JSON.
    lines = b",\n".join([line[:-1] for line in seen.lines if is_event(line)])
    rest = {"cursor": seen.cursor, "complete": seen.complete, "reset": seen.reset}
    return b'{"events":[' + lines + b"]," + _written(rest)[1:]


def _rejected(seeing: Reader, parameters: Parameters) -> dict[str, Any]:
    found, total = seeing.rejected(_number(parameters, "limit", 50, 500))
    return {"rejected": [_document(each) for each in found], "total": total}


def _document(rejected: RejectedRow) -> dict[str, Any]:
    line = rejected.body
    return {
        "received_at": rejected.received_at,
        "stream": rejected.stream,
        "reason": rejected.reason,
        "event_id": rejected.event_id,
        "line": line[:_LINE_CHARS],
        "cut": len(line) > _LINE_CHARS,
    }


def _stats(seeing: Reader, parameters: Parameters) -> dict[str, Any]:
    buckets, by = _number(parameters, "buckets", 60, _BUCKETS), parameters.get("by", "")
    since, until = _whole_buckets(parameters, buckets)
    query = replace(_query(parameters), since=since, until=until)
    window: Window | None = None
    groups: dict[str, Any] = {}
    if not (by or query.attributes or query.event_type or query.name):
        window = seeing.counts(since, until, buckets=buckets, limit=_KINDS)
    elif not (by or query.attributes):
        window = seeing.kept_counts(query, buckets=buckets, limit=_KINDS)
    if window is None:
        window, groups = count_read(seeing, query, buckets=buckets, limit=_KINDS, by=by)
    _, rejected = seeing.rejected(0)
    return {
        "since": format_time(window.since),
        "until": format_time(window.until),
        "bucket_seconds": (window.until - window.since) / buckets / 1e9,
        "total": window.total,
        "complete": not window.cut,
        "counts": [_counted(each, has_buckets=not by) for each in window.counted],
        **(groups or {"types": _types(window)}),
        "rejected": rejected,
    }


def _counted(each: Counted, *, has_buckets: bool) -> dict[str, Any]:
    counted = {"event_type": each.event_type, "event_name": each.event_name, "total": sum(each.buckets)}
    return {**counted, "buckets": each.buckets} if has_buckets else counted


def _types(window: Window) -> list[dict[str, Any]]:
    totals = {event_type: sum(buckets) for event_type, buckets in window.types.items()}
    most = sorted(totals, key=lambda event_type: (-totals[event_type], event_type))[:_KINDS]
    return [{"event_type": each, "total": totals[each], "buckets": window.types[each]} for each in most]


def _values(seeing: Reader, parameters: Parameters) -> dict[str, Any]:
    name, by = parameters.get("name", ""), parameters.get("by", "")
    if not name:
        raise UsageError("name is missing; name the metric whose values you want")
    bins = _number(parameters, "bins", 30, 100)
    # Whole microseconds, as the store has them: at most one event less.
    since, until = (bound // 1000 * 1000 for bound in _times(parameters))
    query = Query(parameters.get("type") or METRIC, exactly(name), since, until, _attributes(parameters))
    if by or query.attributes:
        return {"event_name": name, **values_read(seeing, query, bins=bins, limit=_KINDS, by=by)}
    values, complete = seeing.values(query)
    return {"event_name": name, **spread(values, bins), "complete": complete}


def _installs(seeing: Reader, parameters: Parameters) -> dict[str, Any]:
    buckets = _number(parameters, "buckets", 60, _BUCKETS)
    since, until = _whole_buckets(parameters, buckets)
    found = installs_read(seeing, replace(_query(parameters), since=since, until=until), buckets, _FIRST_NS)
    return {"since": format_time(since), "until": format_time(until), **found}


def _reach(seeing: Reader, parameters: Parameters) -> dict[str, Any]:
    start, goal = parameters.get("start", ""), parameters.get("goal", "")
    if not start or not goal:
        raise UsageError("start and goal are missing; name the event that starts, and the one that is to follow")
    text = parameters.get("within", "10m")
    try:
        within = parse_duration(text)
    except ValueError:
        raise UsageError("within is not a length of time such as 10m, 1h or 7d") from None
    since, until = (bound // 1000 * 1000 for bound in _times(parameters))
    query = replace(_query(parameters), since=since, until=until)
    return reach_read(seeing, query, start, goal, within=int(within * 1e6))


def _query(parameters: Parameters) -> Query:
    since, until = parameters.get("since"), parameters.get("until")
    return Query(
        parameters.get("type", ""),
        parameters.get("name", ""),
        _moment(since) if since else None,
        _moment(until) if until else None,
        _attributes(parameters),
    )


def _moment(text: str) -> int:
    return point_in_time(text, zone=UTC)


def _attributes(parameters: Parameters) -> list[tuple[str, Any]]:
    found: Any = None
    with suppress(ValueError, RecursionError):
        found = decoded(parameters.get("attributes", "").encode() or b"{}")
    if not isinstance(found, dict):
        raise UsageError('attributes is not a JSON object such as {"service_name":"web"}')
    return list(found.items())


def _times(parameters: Parameters) -> tuple[int, int]:
    until = _moment(parameters["until"]) if parameters.get("until") else time.time_ns() + 1
    since = _moment(parameters["since"]) if parameters.get("since") else until - _HOUR_NS
    since, until = (min(max(each, _FIRST_NS), _LAST_NS) for each in (since, until))
    if since >= until:
        raise UsageError("since must be before until")
    return since, until


def _whole_buckets(parameters: Parameters, buckets: int) -> tuple[int, int]:
    """Return a range of whole buckets that ends no sooner; bars that move with every refresh flicker.

    They are of whole seconds, and from a minute on of whole minutes, which the store has counted. A range with both ends given
    stays as it is if it divides into buckets of whole seconds.
    """
    since, until = _times(parameters)
    if (
        parameters.get("since")
        and parameters.get("until")
        and not (since % _SECOND_NS or (until - since) % (buckets * _SECOND_NS))
    ):
        return since, until
    unit = _SECOND_NS if until - since <= buckets * _MINUTE_NS else _MINUTE_NS
    width = -(-(until - since) // buckets // unit) * unit or unit
    end = -(-until // width) * width
    return end - width * buckets, end


def _number(parameters: Parameters, key: str, otherwise: int, most: int) -> int:
    text = parameters.get(key, "")
    if not text:
        return otherwise
    if not (text.isascii() and text.isdigit()) or not 1 <= int(text) <= most:
        raise UsageError(f"{key} must be a number from 1 to {most}")
    return int(text)


def _check(parameters: Parameters, known: Iterable[str]) -> None:
    for key, value in parameters.items():
        if key not in known:
            raise UsageError(f"unknown parameter; the known ones are: {', '.join(known)}")
        if len(value) > (_LONGEST_CHOSEN if key in _LONGER else _LONGEST):
            raise UsageError(f"{key} is too long")


def _asset(name: str, kind: bytes) -> Show:
    body = files("rillevents.serve").joinpath("page", name).read_bytes()
    answer = Answer(200, body, ((b"content-type", kind), *PRIVATE, (b"content-security-policy", POLICY)))
    return lambda parameters: answer


def _private(answer: Answer) -> Answer:
    answer.fields = [*answer.fields, *PRIVATE]
    return answer


def _written(found: Mapping[str, Any]) -> bytes:
    return json.dumps(found, separators=(",", ":")).encode()
