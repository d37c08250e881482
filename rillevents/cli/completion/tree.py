"""The command line as data, read from the Typer app: everything a completion script needs."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import typer
from typer.core import TyperArgument, TyperOption

from rillevents.event import ATTRIBUTE_KEYS, EVENT_TYPES
from rillevents.local.config_file import KEYS

# Only these characters, so that no shell needs to quote a word; and the endings of words that still continue.
_PLAIN = re.compile(r"[\w.:/=@-]+")
_OPEN = ("=", ":", "/", ".")


@dataclass(frozen=True, slots=True)
class Values:
    """What may stand in one place: known *words*, a file name after one of the prefixes *files*, or free text."""

    kind: str
    words: tuple[str, ...] = ()
    files: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        odd = [word for word in (self.kind, *self.words) if not _PLAIN.fullmatch(word)]
        if odd:
            raise ValueError(f"these words would have to be quoted: {odd}")

    @property
    def whole(self) -> tuple[str, ...]:
        """The words that may be followed by a space."""
        return tuple(word for word in self.words if not word.endswith(_OPEN))

    @property
    def open(self) -> tuple[str, ...]:
        """The words that still continue."""
        return tuple(word for word in self.words if word.endswith(_OPEN))


@dataclass(frozen=True, slots=True)
class Option:
    """An option; *values* is None if it takes no value, *alone* means that it excludes everything else."""

    flags: tuple[str, ...]
    help: str
    label: str = ""
    values: Values | None = None
    repeatable: bool = False
    alone: bool = False


@dataclass(frozen=True, slots=True)
class Argument:
    """One positional argument."""

    label: str
    values: Values


@dataclass(frozen=True, slots=True)
class Command:
    """A command, or a group with its commands; *path* is what one types after the program's name."""

    path: str
    help: str
    options: tuple[Option, ...]
    arguments: tuple[Argument, ...]
    commands: tuple[Command, ...]

    @property
    def name(self) -> str:
        """The last word of the path."""
        return self.path.rpartition(" ")[2]

    def walk(self) -> Iterator[Command]:
        """Yield this command and all commands below it."""
        yield self
        for command in self.commands:
            yield from command.walk()

    def values(self) -> list[Values]:
        """Return the different kinds of values in this command and below it, without free text."""
        options = [option.values for command in self.walk() for option in command.options if option.values]
        found = {*options, *(argument.values for command in self.walk() for argument in command.arguments)} - {TEXT}
        if len({values.kind for values in found}) < len(found):
            raise ValueError(f"two kinds of values have the same name: {sorted(values.kind for values in found)}")
        return sorted(found, key=lambda values: values.kind)


TEXT = Values("text")
_EVENT_TYPE = Values("event_type", EVENT_TYPES)
_ATTRIBUTE = Values("attribute", tuple(f"{key}=" for key in ATTRIBUTE_KEYS))
_FILE = Values("file", files=("",))

# What the app does not say itself: values by an option's flag, or by the label of an option's value or an argument.
_KNOWN = {
    "--to": Values("destination", ("intake", "https://", "http://"), ("file:",)),
    "--type": _EVENT_TYPE,
    "TYPE": _EVENT_TYPE,
    "KEY=VALUE": _ATTRIBUTE,
    "K=V": _ATTRIBUTE,
    "JSON|@FILE|@-": Values("attributes", ("@-",), ("@",)),
    "FILE": _FILE,
    "F": _FILE,
    "KEY": Values("setting", (*KEYS, "attributes.")),
}


def tree(app: typer.Typer) -> Command:
    """Return the app's commands, options and arguments, without hidden ones."""
    return _command(typer.main.get_command(app), "", None)


def _command(command: Any, path: str, parent: typer.Context | None) -> Command:
    context = typer.Context(command, parent, path, **command.context_settings)
    params = [param for param in command.get_params(context) if not param.hidden]
    below = {name: child for name, child in getattr(command, "commands", {}).items() if not child.hidden}
    return Command(
        path,
        command.get_short_help_str(1000).rstrip("."),
        tuple(_option(param, context) for param in params if isinstance(param, TyperOption)),
        tuple(_argument(param, context) for param in params if isinstance(param, TyperArgument)),
        tuple(_command(child, f"{path} {name}".strip(), context) for name, child in below.items()),
    )


def _option(param: TyperOption, context: typer.Context) -> Option:
    # Sorted: the help option keeps its flags in a set, whose order differs from process to process.
    flags = tuple(sorted((*param.opts, *param.secondary_opts), key=len))
    label = "" if param.is_flag or param.count else _label(param)
    values = _values(param, (*flags, label), context) if label else None
    return Option(
        flags, " ".join((param.help or "").split()).rstrip("."), label, values, param.multiple, param.is_eager
    )


def _argument(param: TyperArgument, context: typer.Context) -> Argument:
    if param.nargs != 1:
        raise ValueError(f"{param.name}: the scripts count one word for each argument")
    return Argument(_label(param), _values(param, (_label(param),), context))


def _label(param: TyperOption | TyperArgument) -> str:
    return (param.metavar or param.name.upper()).strip("[]")


def _values(param: TyperOption | TyperArgument, names: tuple[str, ...], context: typer.Context) -> Values:
    known = [_KNOWN[name] for name in names if name in _KNOWN]
    if known:
        return known[0]
    offered = param.shell_complete(context, "")
    if any(item.type == "file" for item in offered):
        return _FILE
    words = [item.value for item in offered] or _alternatives(names[-1])
    return Values(param.name, tuple(words)) if words else TEXT


def _alternatives(label: str) -> list[str]:
    """Return the words of a label such as `warn|fail|ignore`."""
    return label.split("|") if re.fullmatch(r"[a-z-]+(\|[a-z-]+)+", label) else []
