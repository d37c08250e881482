"""Log records as events: a handler for the standard library's `logging`."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rillevents.recording import Client


class EventHandler(logging.Handler):
    """Records an event for each log record that has `extra={"event_name": …}`; with *every_record* the others as `log` events.

    Such a record may also have `event_type` (`behavioral` without it) and `attributes`, a mapping. Its message is not part of the
    event. Any other record becomes a `log` event named like its logger, with `message`, `level` and, for an exception, its class
    as `error`; messages may hold what nobody meant to send, so this is off by default. An event's time is the record's. What
    rillevents itself logs is left out. Thread-safe; never raises, and never waits for a network with a client that spools.
    """

    def __init__(self, client: Client, level: int | str = logging.NOTSET, *, every_record: bool = False) -> None:
        super().__init__(level)
        self.client = client
        self.every_record = every_record

    def emit(self, record: logging.LogRecord) -> None:
        """Record the event of a log record, if it has one."""
        if record.name == "rillevents" or record.name.startswith("rillevents."):
            return
        try:
            self._emit(record)
        except Exception:  # noqa: BLE001 - a message that does not fit its arguments, as any handler meets it
            self.handleError(record)

    def _emit(self, record: logging.LogRecord) -> None:
        fields: Mapping[str, Any] = record.__dict__
        when = int(record.created * 1e9)
        name = fields.get("event_name")
        if name is not None:
            kind, attributes = fields.get("event_type", "behavioral"), fields.get("attributes")
            self.client.record(kind, name, attributes, event_time_ns=when)
        elif self.every_record:
            found = {"level": record.levelname.lower()}
            if record.exc_info and record.exc_info[0]:
                found["error"] = record.exc_info[0].__name__
            self.client.record_log(record.name, record.getMessage(), found, event_time_ns=when)
