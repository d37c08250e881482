"""Counts and metric values by the minute, kept beside the events: what a large store holds is known without reading it.

Theory of operation. `counted` has the number of events by type, name and minute, for all events up to one row of the table:
the one with the ID in `counted_to`. Later rows are not counted yet; whoever reads the counts adds them by reading these few
events. So every writer's events count at once, an older version's too, and storing an event costs nothing more: a trigger for
each insert would cost a third of it. The server moves the mark on, slice by slice (uncounted.py). An ID marks the place, not a
row number: VACUUM gives all rows new numbers, but keeps their order.

Events that are deleted (`--keep`) or changed leave the counts by triggers, in the same transaction, whoever does it. They are
plain SQL without functions of ours; nor can they parse JSON, which an older SQLite forbids in a trigger where `trusted_schema` is
off. So they drop the values of the event's name and minute from `counted_values` altogether: a minute's values are all there if
and only if there are as many as metrics in `counted`. Each time that some of a minute's metrics are counted they become a part:
how many they are, and the numbers that they have, sorted, as doubles of 8 bytes, the lowest byte first.

What no trigger sees (`REPLACE`, a damaged file) shows in the sums, unless it is the mark's own event that is replaced: `counted`
must add up to the events before the mark. Where it does not, everything is counted again.
"""

from __future__ import annotations

import sqlite3
import sys
from array import array
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any, Final

import msgspec

from rillevents.event import METRIC
from rillevents.event.ndjson import finite
from rillevents.event.query import decoded
from rillevents.store.transaction import Transaction

MINUTE: Final = 60_000_000
# A slice holds the writer's lock, so requests wait for it.
SLICE: Final = 4000
# Minutes whose values are put back at a start; those of further ones are read from the events.
_MOST_MENDED = 200

_TABLES: Final = {
    "counted": (
        "CREATE TABLE counted(event_type TEXT, event_name TEXT, minute INTEGER, n INTEGER NOT NULL,"
        " PRIMARY KEY(event_type, event_name, minute)) WITHOUT ROWID"
    ),
    "counted_values": (
        "CREATE TABLE counted_values(event_name TEXT, minute INTEGER, part INTEGER, n INTEGER NOT NULL, numbers BLOB NOT NULL,"
        " PRIMARY KEY(event_name, minute, part)) WITHOUT ROWID"
    ),
    "counted_to": "CREATE TABLE counted_to(event_id TEXT)",
}
# The row of the last event that is counted; NULL if the mark is lost, 0 if nothing is counted.
MARK: Final = (
    "(SELECT CASE WHEN event_id IS NULL THEN 0 ELSE (SELECT rowid FROM events AS e WHERE e.event_id = t.event_id) END"
    " FROM counted_to AS t)"
)
PLUS: Final = "ON CONFLICT DO UPDATE SET n = n + excluded.n"


def minute_of(us: str) -> str:
    """Return the SQL for the minute of a time, rounded down: SQL's division rounds towards zero, also before 1970."""
    return f"({us} / {MINUTE} - ({us} % {MINUTE} < 0))"


def _key(row: str) -> str:
    # Another program may insert a row without these.
    return f"ifnull({row}.event_type, ''), ifnull({row}.event_name, ''), ifnull({minute_of(row + '.event_us')}, 0)"


_KEY = "(event_type, event_name, minute)"
_LEAVE = (
    f"UPDATE counted SET n = n - 1 WHERE {_KEY} = ({_key('OLD')}) AND OLD.rowid <= {MARK};"  # noqa: S608 - our own text
    f" DELETE FROM counted WHERE {_KEY} = ({_key('OLD')}) AND n <= 0;"
    f" DELETE FROM counted_values WHERE OLD.event_type = '{METRIC}'"
    f" AND (event_name, minute) = (ifnull(OLD.event_name, ''), ifnull({minute_of('OLD.event_us')}, 0));"
)
# The mark moves to the row before, while this one is still there.
_MARK_BACK = (
    "UPDATE counted_to SET event_id ="
    " (SELECT event_id FROM events WHERE rowid < OLD.rowid ORDER BY rowid DESC LIMIT 1) WHERE event_id = OLD.event_id;"
)
_ENTER = f"INSERT INTO counted SELECT {_key('NEW')}, 1 WHERE OLD.rowid <= {MARK} {PLUS};"
_TRIGGERS: Final = {
    "counted_delete": f"CREATE TRIGGER counted_delete BEFORE DELETE ON events BEGIN {_LEAVE} {_MARK_BACK} END",
    "counted_update": (
        "CREATE TRIGGER counted_update BEFORE UPDATE OF event_us, event_type, event_name, body ON events"
        f" BEGIN {_LEAVE} {_ENTER} END"
    ),
}
_OBJECTS: Final = {**_TABLES, **_TRIGGERS}
# Whether the counts add up, from indexes: all events, those after the mark, and the sum of the counts.
SUMS: Final = (
    f"SELECT (SELECT COUNT(*) FROM events), (SELECT COUNT(*) FROM events NOT INDEXED WHERE rowid > {MARK}),"  # noqa: S608 - our own text
    " (SELECT ifnull(SUM(n), 0) FROM counted)"
)


# The tables and triggers that a store has, and whether they are these.
DEFINED: Final = f"SELECT name, sql FROM sqlite_master WHERE name IN ({','.join(map(repr, _OBJECTS))})"  # noqa: S608 - our own names


def is_ours(rows: Iterable[tuple[str, str]]) -> bool:
    """Return whether the answer to DEFINED is what this version makes."""
    return dict(rows) == _OBJECTS


class _Value(msgspec.Struct, gc=False):
    value: Any = None


# Values of metrics by name and minute, as `value_of` tells them.
Values = dict[tuple[Any, int], list[float | str]]

_value = msgspec.json.Decoder(_Value).decode


def value_of(body: bytes) -> float | str:
    """Return the number that an event has as its `value`, the nearest float; "" if it has none, or is no event."""
    try:
        value = _value(body).value
    except (msgspec.DecodeError, RecursionError):
        # Too large or too long a number, which Python reads all the same; or no event.
        value = _slowly(body)
    return finite(value) if type(value) in (int, float) else ""


def _slowly(body: bytes) -> Any:
    try:
        return decoded(body).get("value")
    except (ValueError, RecursionError, AttributeError):
        return None


def prepare(connection: sqlite3.Connection) -> None:
    """Create the tables and triggers as far as one of them is missing or not ours; all events are then to be counted again."""
    if not _is_prepared(connection):
        with Transaction(connection):
            _create(connection)


def _is_prepared(connection: sqlite3.Connection) -> bool:
    return is_ours(connection.execute(DEFINED))


def _create(connection: sqlite3.Connection) -> None:
    if _is_prepared(connection):
        return  # Another server was quicker.
    for name in _TRIGGERS:
        connection.execute(f"DROP TRIGGER IF EXISTS {name}")
    for name in _TABLES:
        connection.execute(f"DROP TABLE IF EXISTS {name}")
    for sql in _OBJECTS.values():
        connection.execute(sql)
    connection.execute("INSERT INTO counted_to VALUES (NULL)")


def check(connection: sqlite3.Connection) -> None:
    """Begin again if the counts do not add up, and mend the values of minutes that lost some; reads all counts."""
    if not _adds_up(connection):
        with Transaction(connection):
            _begin_again(connection)
    lacking = connection.execute(
        "SELECT minute FROM counted AS c WHERE event_type = ? AND n <> (SELECT ifnull(SUM(n), 0) FROM counted_values AS v"
        " WHERE v.event_name = c.event_name AND v.minute = c.minute) GROUP BY minute LIMIT ?",
        (METRIC, _MOST_MENDED),
    ).fetchall()
    for (minute,) in lacking:
        with Transaction(connection):
            _count_minute(connection, minute)


def _adds_up(connection: sqlite3.Connection) -> bool:
    events, later, counted = connection.execute(SUMS).fetchone()
    return bool(connection.execute(f"SELECT {MARK}").fetchone()[0] is not None and events == later + counted)


def _begin_again(connection: sqlite3.Connection) -> None:
    if _adds_up(connection):
        return  # Another server was quicker.
    for name in _TABLES:
        connection.execute(f"DELETE FROM {name}")  # noqa: S608 - our own names
    connection.execute("INSERT INTO counted_to VALUES (NULL)")


def later(connection: sqlite3.Connection) -> int | None:
    """Return about how many events are not counted yet, exact where none of them was deleted; None if the mark is lost."""
    newest, mark = connection.execute(f"SELECT (SELECT MAX(rowid) FROM events), {MARK}").fetchone()  # noqa: S608 - our own text
    return (newest or 0) - mark if mark is not None else None


def count_slice(connection: sqlite3.Connection, last: int = 1 << 62) -> bool:
    """Count a slice of the events that are not counted yet, up to the row *last*, in a transaction; False if there are none."""
    slice_ = f"SELECT rowid FROM events NOT INDEXED WHERE rowid > {MARK} AND rowid <= ? ORDER BY rowid LIMIT {SLICE}"  # noqa: S608 - our own text
    low, high = connection.execute(f"SELECT MIN(rowid), MAX(rowid) FROM ({slice_})", (last,)).fetchone()  # noqa: S608 - likewise
    if high is None:
        return False
    connection.execute(
        f"INSERT INTO counted SELECT {_key('events')}, COUNT(*) FROM events NOT INDEXED"  # noqa: S608 - likewise
        f" WHERE rowid BETWEEN ? AND ? GROUP BY 1, 2, 3 {PLUS}",
        (low, high),
    )
    insert_values(connection, _values_of(connection, "NOT INDEXED WHERE rowid BETWEEN ? AND ?", low, high))
    move_mark(connection, high)
    return True


def move_mark(connection: sqlite3.Connection, row: int) -> None:
    """Note that the events up to this row are counted."""
    connection.execute("UPDATE counted_to SET event_id = (SELECT event_id FROM events WHERE rowid = ?)", (row,))


def _values_of(connection: sqlite3.Connection, condition: str, *values: int) -> Values:
    # As bytes: one text that is not valid UTF-8 must not stop the rest.
    rows = connection.execute(
        "SELECT CAST(ifnull(event_name, '') AS BLOB), ifnull(event_us, 0), CAST(ifnull(body, '') AS BLOB)"  # noqa: S608 - our own text
        f" FROM events {condition} AND event_type = '{METRIC}'",
        values,
    )
    found: Values = defaultdict(list)
    for name, us, body in rows:
        found[name, us // MINUTE].append(value_of(body))
    return found


def insert_values(connection: sqlite3.Connection, found: Values) -> None:
    """Add the values of metrics by name and minute."""
    # In the order of the table, which is quicker.
    connection.executemany(
        "INSERT INTO counted_values SELECT CAST(? AS TEXT), ?, 1 + ifnull((SELECT MAX(part) FROM counted_values"
        " WHERE event_name = CAST(? AS TEXT) AND minute = ?), 0), ?, ?",
        ((*key, *key, len(values), _packed(values)) for key, values in sorted(found.items())),
    )


def _packed(values: Sequence[float | str]) -> bytes:
    numbers = array("d", sorted(value for value in values if value != ""))  # type: ignore[type-var]
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers.tobytes()


def unpacked(parts: Iterable[bytes]) -> array[float]:
    """Return the numbers of some parts of `counted_values`."""
    numbers = array("d", b"".join(parts))
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers


def _count_minute(connection: sqlite3.Connection, minute: int) -> None:
    """Insert all values of a minute anew, of the events up to the mark."""
    connection.execute(
        "DELETE FROM counted_values WHERE minute = ? AND event_name IN (SELECT DISTINCT event_name"
        " FROM counted WHERE event_type = ?)",
        (minute, METRIC),
    )
    condition = f"WHERE event_us >= ? AND event_us < ? AND +rowid <= {MARK}"
    insert_values(connection, _values_of(connection, condition, minute * MINUTE, (minute + 1) * MINUTE))
