"""The events of waiting requests into the tables, in one transaction.

All events of a transaction are inserted by few statements of many rows, with IGNORE for IDs that exist
already. If as many rows were inserted as given, that is all. Otherwise the transaction is rolled back and compared row by
row: the same event again is a duplicate; an ID that belongs to another event is a conflict and goes to the table `rejected`.
Few statements are used because each one releases the interpreter lock and must wait for it afterwards.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import NamedTuple

from rillevents.event.timestamp import microseconds
from rillevents.store.incoming import Incoming, Stored
from rillevents.store.transaction import Transaction

# The events' columns, in their order.
Row = tuple[str, str, int, str, str, str, int, str]

# Rows inserted by one statement.
_ROWS = 128
_MARKS = "(?,?,?,?,?,?,?,?)"
_REJECT = "INSERT INTO rejected VALUES (?,?,?,?,?)"
_COUNT = "INSERT INTO counts VALUES (?,?) ON CONFLICT(name) DO UPDATE SET n = n + excluded.n"
_ONE = Stored(1)
CONFLICT = "another event has this event_id"


class Inserted(NamedTuple):
    """New events in the order of their rows, the number of the last row, and SQLite's `data_version` in their transaction."""

    rows: Sequence[Row]
    last: int
    version: int


def insert(connection: sqlite3.Connection, incoming: Sequence[Incoming]) -> tuple[list[Stored], Inserted]:
    """Store the events, the invalid lines and the counts of these requests in one transaction; raises sqlite3.Error."""
    rows = list(chain.from_iterable(map(_rows, incoming)))
    with Transaction(connection) as transaction:
        number, inserted = _insert(connection, rows)
        if number == len(rows):
            _note(connection, incoming, {})
            return [_ONE if len(arrived.lines) == 1 else Stored(len(arrived.lines)) for arrived in incoming], inserted
        transaction.begin_again()
        stored, new = _compare(connection, incoming)
        _, inserted = _insert(connection, new)
        duplicates = sum(one.duplicates for one in stored)
        conflicts = [(arrived, index) for arrived, one in zip(incoming, stored, strict=True) for index in one.conflicts]
        _note(connection, incoming, {"duplicates": duplicates, "conflicts": len(conflicts)})
        connection.executemany(_REJECT, [_conflict(*each) for each in conflicts])
        return stored, inserted


def _rows(arrived: Incoming) -> list[Row]:
    stream, received_us = arrived.stream, arrived.received_us
    return [
        (
            fields.event_id,
            fields.event_time,
            microseconds(fields.event_time),
            fields.event_type,
            fields.event_name,
            stream,
            received_us,
            line[:-1].decode(),
        )
        for fields, line in zip(arrived.fields, arrived.lines, strict=True)
    ]


def _insert(connection: sqlite3.Connection, rows: Sequence[Row]) -> tuple[int, Inserted]:
    """Insert the rows whose ID does not exist yet, and return how many that were, and what is known of them."""
    inserted = last = 0
    changes = connection.total_changes
    for at in range(0, len(rows), _ROWS):
        some = rows[at : at + _ROWS]
        # One statement per length, not in powers of two: SQLite prepares each length once and caches it.
        statement = f"INSERT OR IGNORE INTO events VALUES {','.join([_MARKS] * len(some))}"  # noqa: S608 - marks alone
        cursor = connection.execute(statement, list(chain.from_iterable(some)))
        inserted, last = inserted + cursor.rowcount, cursor.lastrowid or 0
    # Another program's trigger may have changed what was inserted: then it is not known what is there.
    is_known = inserted == len(rows) == connection.total_changes - changes
    return inserted, Inserted(rows if is_known else (), last, data_version(connection))


def _compare(connection: sqlite3.Connection, incoming: Sequence[Incoming]) -> tuple[list[Stored], list[Row]]:
    """Separate new events from those stored already, byte for byte, and from those that only share the ID."""
    known = _bodies(connection, [fields.event_id for arrived in incoming for fields in arrived.fields])
    stored, new = [], []
    for arrived in incoming:
        accepted, duplicates, conflicts = 0, 0, []
        for index, row in enumerate(_rows(arrived)):
            body = known.setdefault(row[0], row[7])
            if body is row[7]:
                accepted += 1
                new.append(row)
            elif body == row[7]:
                duplicates += 1
            else:
                conflicts.append(index)
        stored.append(Stored(accepted, duplicates, tuple(conflicts)))
    return stored, new


def _bodies(connection: sqlite3.Connection, event_ids: Sequence[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for at in range(0, len(event_ids), 500):
        some = event_ids[at : at + 500]
        query = f"SELECT event_id, body FROM events WHERE event_id IN ({','.join('?' * len(some))})"  # noqa: S608 - marks alone
        found.update(connection.execute(query, some))
    return found


def _note(connection: sqlite3.Connection, incoming: Sequence[Incoming], counts: Mapping[str, int]) -> None:
    """Store the invalid lines, and count the results of the others."""
    bad = [
        (arrived.received_us, arrived.stream, each.reason, None, each.line.decode("utf-8", "replace"))
        for arrived in incoming
        for each in arrived.bad
    ]
    if bad:
        connection.executemany(_REJECT, bad)
    count(connection, {**counts, "invalid": len(bad)})


def _conflict(arrived: Incoming, index: int) -> tuple[int, str, str, str, str]:
    fields, line = arrived.fields[index], arrived.lines[index]
    return arrived.received_us, arrived.stream, CONFLICT, fields.event_id, line[:-1].decode()


def count(connection: sqlite3.Connection, counts: Mapping[str, int]) -> None:
    """Add to the table of what has happened, within a transaction."""
    for name, n in counts.items():
        if n:
            connection.execute(_COUNT, (name, n))


def data_version(connection: sqlite3.Connection) -> int:
    """Return a number that changes where another connection has changed the file."""
    return int(connection.execute("PRAGMA data_version").fetchone()[0])
