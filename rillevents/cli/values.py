"""The values of a command line, read by plain Python and refused in plain words.

Typer reads each value through pydantic, whose import alone takes as long as a whole command should, and whose errors speak of
schemas. Its parameters hold what reads them in `_runtime_param`; where a future Typer does not, it reads them itself.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import typer

from rillevents.event.timestamp import parse_duration


class Seconds(float):
    """The type of an option that takes a duration above 0: a number of seconds, or `30s`, `5m`, `2h`."""

    def __new__(cls, value: float | str) -> Seconds:
        """Read a duration; raises ValueError."""
        found = parse_duration(value) if isinstance(value, str) else value
        if not 0 < found < _MOST_SECONDS:
            raise ValueError(value)
        return super().__new__(cls, found)


# More is a slip, and more than the system can wait.
_MOST_SECONDS = 1e8
_NAMES = {int: "a whole number", float: "a number", Seconds: "a duration above 0, such as 30, 30s or 5m"}
_READ: dict[Any, Callable[[Any], Any]] = {str: str, bool: bool, int: int, float: float, Seconds: Seconds}


class PlainValue:
    """Reads the value of one parameter: a text, a number with its limits, a switch, or a list of them."""

    def __init__(self, kind: Any, least: float | None, most: float | None, is_list: bool) -> None:
        self._kind = kind
        self._least = least
        self._most = most
        self._is_list = is_list

    def coerce(self, value: Any, param: Any, ctx: Any) -> Any:
        """Return the value in its type; raises BadParameter."""
        if self._is_list:
            return [self._one(item, param, ctx) for item in value or ()]
        return None if value is None else self._one(value, param, ctx)

    def _one(self, value: Any, param: Any, ctx: Any) -> Any:
        try:
            found = _READ[self._kind](value)
        except ValueError:
            raise typer.BadParameter(f"{value!r} is not {_NAMES[self._kind]}", ctx=ctx, param=param) from None
        if self._least is not None and found < self._least:
            raise typer.BadParameter(f"{value!r} is less than {self._least}", ctx=ctx, param=param)
        if self._most is not None and found > self._most:
            raise typer.BadParameter(f"{value!r} is more than {self._most}", ctx=ctx, param=param)
        return found


def read_plainly(command: Any) -> None:
    """Let the parameters of a command, and of those below it, be read by PlainValue, as far as it knows their types."""
    made = command.get_params

    def get_params(ctx: Any) -> list[Any]:
        # Here and not at once: only a command that runs makes its option --help.
        params: list[Any] = made(ctx)
        for param in params:
            _read_plainly(param)
        return params

    command.get_params = get_params
    for inner in getattr(command, "commands", {}).values():
        read_plainly(inner)


def _read_plainly(param: Any) -> None:
    described = getattr(param, "type_descriptor", None)
    if described is None or not hasattr(param, "_runtime_param"):
        return
    annotation, info = described.annotation, described.parameter_info
    is_list = annotation == list[str]
    kind = str if is_list else annotation
    if kind in _READ and not info.parser:
        param._runtime_param = PlainValue(kind, info.min, info.max, is_list)
