"""The duration of a block of code, or of a function's calls, as a metric."""

from __future__ import annotations

import functools
import inspect
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

_Function = TypeVar("_Function", bound=Callable[..., Any])


class Timed:
    """A context manager that calls *record* with a metric's name, the seconds of its block and attributes; yields those.

    As a decorator it does so for each call of a function, of a coroutine function until it has ended, and of a generator (also an
    asynchronous one) from its first step to its end. Calls may overlap, in threads and tasks.
    """

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

    def __call__(self, function: _Function) -> _Function:
        """Return *function* with each of its calls timed."""
        timed: Any
        if inspect.iscoroutinefunction(function):

            async def timed(*args: Any, **more: Any) -> Any:
                with self._again():
                    return await function(*args, **more)

        elif inspect.isasyncgenfunction(function):

            async def timed(*args: Any, **more: Any) -> Any:
                with self._again():
                    async for item in function(*args, **more):
                        yield item

        elif inspect.isgeneratorfunction(function):

            def timed(*args: Any, **more: Any) -> Any:
                with self._again():
                    return (yield from function(*args, **more))

        else:

            def timed(*args: Any, **more: Any) -> Any:
                with self._again():
                    return function(*args, **more)

        wrapped: Any = functools.wraps(function)(timed)
        found: _Function = wrapped
        return found

    def _again(self) -> Timed:
        """Return one for another call: each has a start of its own."""
        return Timed(self._record, self._event_name, self._attributes if self._refused is None else self._refused, {})
