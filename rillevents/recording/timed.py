"""The duration of a block of code, as a metric."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType


class Timed:
    """A context manager that passes *record* the seconds of its block, and yields a dict for further attributes."""

    def __init__(self, record: Callable[[float, dict[str, Any]], object], attributes: dict[str, Any]) -> None:
        self._record = record
        self._attributes = attributes
        self._started = 0.0

    def __enter__(self) -> dict[str, Any]:
        self._started = time.perf_counter()
        return self._attributes

    def __exit__(self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None) -> None:
        told = {"unit": "s", "success": kind is None} | ({"error": kind.__name__} if kind else {})
        self._record(round(time.perf_counter() - self._started, 9), {**self._attributes, **told})
