"""The fields of Rill's older behavioral events, as written by `RecordBehavioralLegacy` of its Go client."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from rillevents.errors import InvalidEvent
from rillevents.event import (
    BEHAVIORAL,
    INSTALL_ID,
    SERVICE_COMMIT,
    SERVICE_NAME,
    SERVICE_VERSION,
    USER_ID,
    Event,
    check_text,
    format_time,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

_NEEDED = {
    SERVICE_NAME: "with_service_name",
    SERVICE_VERSION: "with_service_version",
    INSTALL_ID: "with_install_id",
    USER_ID: "with_user_id",
}


def legacy_event(
    event_name: str,
    client: Mapping[str, Any],
    call: Mapping[str, Any],
    *,
    event_id: str = "",
    event_time: str = "",
) -> Event:
    """Return the event; raises InvalidEvent that names the required attributes missing on the *client*."""
    missing = [f"{key} ({method})" for key, method in _NEEDED.items() if key not in client]
    if missing:
        raise InvalidEvent(f"a legacy event needs {', '.join(missing)} to be set on the client")
    data: dict[str, Any] = {**client, **call}
    data.setdefault(SERVICE_COMMIT, "")
    if "olap_connector" in data:
        data["payload"] = {key: data[key] for key in ("olap_connector", "connectors") if key in data}
    event_time = event_time or format_time(time.time_ns())
    data |= {
        "build_id": data[SERVICE_COMMIT],
        "version": data[SERVICE_VERSION],
        "app_name": "rill-developer",
        "mode": "edit",
        "action": check_text("the event's name", event_name),
        "medium": "cli",
        "space": "terminal",
        "screen_name": "terminal",
        "event_datetime": _epoch_seconds(event_time) * 1000,
    }
    return Event(BEHAVIORAL, event_name, data, event_id=event_id, event_time=event_time)


def _epoch_seconds(event_time: str) -> int:
    from rillevents.event.timestamp import parse_time

    return parse_time(event_time) // 1_000_000_000
