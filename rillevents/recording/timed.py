"""The duration of a block of code, as a metric."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import TracebackType


class Timed:
    """A context manager that calls *record* with a metric's name, the seconds of its block and attributes; yields those."""

    def __init__(
        self,
        record: Callable[[str, float, Any], object],
        event_name: str,
        attributes: Mapping[str, Any] | None,
        more: Mapping[str, Any],
    ) -> None:
        self._record = record
        self._event_name = event_name
        # What is no mapping is refused with the metric, not where the block begins, which must run.
        self._refused = None if attributes is None or hasattr(attributes, "keys") else attributes
        self._attributes = {**(attributes or {}), **more} if self._refused is None else {}
        self._started = 0.0

    def __enter__(self) -> dict[str, Any]:
        self._started = time.perf_counter()
        return self._attributes

    def __exit__(self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None) -> None:
        seconds = round(time.perf_counter() - self._started, 9)
        told = {"unit": "s", "success": kind is None} | ({"error": kind.__name__} if kind else {})
        self._record(
            self._event_name, seconds, {**self._attributes, **told} if self._refused is None else self._refused
        )
