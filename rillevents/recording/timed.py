"""The duration of a block of code, or of a function's calls, as a metric."""

from __future__ import annotations

import functools
import inspect
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from threading import get_ident
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Mapping
    from types import TracebackType

_Function = TypeVar("_Function", bound=Callable[..., Any])


class Timed:
    """A context manager that calls *record* with a metric's name, the seconds of its block and attributes; yields those.

    As a decorator it does so for each call of a function, of a coroutine function until it has ended, and of a generator (also an
    asynchronous one) from its first step to its end. Calls may overlap, and so may blocks in threads and in
    asyncio's tasks. What ends with the exit code 0 has succeeded, and so has a decorated generator that nobody asks for more.
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
        # A generator that nobody asks for more has not failed.
        self._may_be_left = False
        # The blocks that each thread or task is in: their starts and attributes.
        self._blocks: dict[object, list[tuple[float, dict[str, Any]]]] = {}

    def __enter__(self) -> dict[str, Any]:
        attributes = dict(self._attributes)
        self._blocks.setdefault(_here(), []).append((time.perf_counter(), attributes))
        return attributes

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        ended = time.perf_counter()
        here = _here()
        # A generator may end in another thread or task than it began in; a decorated one has a Timed of its own.
        here = here if here in self._blocks else next(iter(self._blocks))
        started, attributes = self._blocks[here].pop()
        if not self._blocks[here]:
            del self._blocks[here]
        is_left = self._may_be_left and isinstance(error, GeneratorExit)
        kind = None if is_left or _is_exit_0(error) else kind
        told = {"unit": "s", "success": kind is None} | ({"error": kind.__name__} if kind else {})
        found = {**attributes, **told} if self._refused is None else self._refused
        self._record(self._event_name, round(ended - started, 9), found)

    def __call__(self, function: _Function) -> _Function:
        """Return *function* with each of its calls timed."""
        timed: Any
        if inspect.iscoroutinefunction(function):

            async def timed(*args: Any, **more: Any) -> Any:
                with self._again():
                    return await function(*args, **more)

        elif inspect.isasyncgenfunction(function):

            async def timed(*args: Any, **more: Any) -> Any:
                with self._again(may_be_left=True):
                    found = function(*args, **more)
                    try:
                        step = _begun(found)
                        while True:
                            item = await step
                            try:
                                sent = yield item
                            except GeneratorExit:
                                raise
                            except BaseException as raised:  # noqa: BLE001 - what the caller throws is the generator's
                                step = found.athrow(raised)
                            else:
                                step = found.asend(sent)
                    except StopAsyncIteration:
                        pass
                    finally:
                        await found.aclose()

        elif inspect.isgeneratorfunction(function):

            def timed(*args: Any, **more: Any) -> Any:
                with self._again(may_be_left=True):
                    return (yield from function(*args, **more))

        else:

            def timed(*args: Any, **more: Any) -> Any:
                with self._again():
                    return function(*args, **more)

        wrapped: Any = functools.wraps(function)(timed)
        found: _Function = wrapped
        return found

    def _again(self, *, may_be_left: bool = False) -> Timed:
        """Return one for another call: each has a start of its own."""
        found = Timed(self._record, self._event_name, self._attributes if self._refused is None else self._refused, {})
        found._may_be_left = may_be_left
        return found


def _here() -> object:
    """Return what tells the running thread, and the task in it, from others."""
    asyncio, task = sys.modules.get("asyncio"), None
    if asyncio:
        # No loop runs here, or another thread is importing it right now.
        with suppress(RuntimeError, AttributeError):
            task = asyncio.current_task()
    return get_ident(), task


def _begun(generator: AsyncGenerator[Any, Any]) -> Awaitable[Any]:
    """Return the first step of a generator that is nobody's but its wrapper's: the event loop is not to close both at its end."""
    hooks = sys.get_asyncgen_hooks()
    sys.set_asyncgen_hooks(None, None)
    try:
        return generator.__anext__()
    finally:
        sys.set_asyncgen_hooks(*hooks)


def _is_exit_0(error: BaseException | None) -> bool:
    """Return whether this exception ends a program well."""
    if isinstance(error, SystemExit):
        return error.code in (None, 0)
    try:
        # The code of Typer's and click's Exit.
        return bool(getattr(error, "exit_code", None) == 0)
    except Exception:  # noqa: BLE001 - somebody else's property
        return False
