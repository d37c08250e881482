"""How long a block of code took, as a metric."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from types import TracebackType

    from rillevents.client import Client


class Timed:
    """A context manager that records the seconds that its block took; gives a dict for further attributes."""

    def __init__(self, client: Client, event_name: str, attributes: dict[str, Any]) -> None:
        self._client = client
        self._event_name = event_name
        self._attributes = attributes
        self._started = 0.0

    def __enter__(self) -> dict[str, Any]:
        self._started = time.perf_counter()
        return self._attributes

    def __exit__(self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None) -> None:
        told = {"unit": "s", "success": kind is None} | ({"error": kind.__name__} if kind else {})
        seconds = round(time.perf_counter() - self._started, 9)
        self._client.record_metric(self._event_name, seconds, {**self._attributes, **told})
