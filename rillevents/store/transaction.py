"""A transaction of a store that is written."""

from __future__ import annotations

import sqlite3


class Transaction:
    """A transaction that is committed at the end, and rolled back if anything fails."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def __enter__(self) -> Transaction:
        # IMMEDIATE takes the write lock at once: a reader that becomes a writer may have to give up half-way.
        self._connection.execute("BEGIN IMMEDIATE")
        return self

    def begin_again(self) -> None:
        """Undo everything so far."""
        self._connection.execute("ROLLBACK")
        self._connection.execute("BEGIN IMMEDIATE")

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: object) -> None:
        if kind is None:
            self._connection.execute("COMMIT")
        elif self._connection.in_transaction:
            self._connection.execute("ROLLBACK")
