"""The options of `record`: one table for both of its parsers, the quick one and Typer's."""

from __future__ import annotations

ON_ERROR = ("warn", "fail", "ignore")


class Opt:
    """An option: its name in code, its flags, and whether it takes a value and may be repeated."""

    __slots__ = ("flags", "help", "hidden", "many", "metavar", "name", "only")

    def __init__(
        self,
        name: str,
        flags: tuple[str, ...],
        help: str,
        metavar: str = "",
        *,
        many: bool = False,
        only: str = "",
        hidden: bool = False,
    ) -> None:
        self.name = name
        self.flags = flags
        self.help = help
        self.metavar = metavar
        self.many = many
        self.only = only
        self.hidden = hidden


OPTIONS = (
    Opt("attr", ("-a", "--attr"), "An attribute: text, or JSON after := in place of =.", "KEY=VALUE", many=True),
    Opt("attrs", ("--attrs",), "Attributes as a JSON object, from a file, or from stdin.", "JSON|@FILE|@-", many=True),
    Opt("time", ("--time",), "When it happened: RFC 3339, or @SECONDS since 1970.", "T"),
    Opt("id", ("--id",), "The event's ID, in place of a new one.", "ID"),
    Opt("user_id", ("--user-id",), "The attribute user_id.", "ID"),
    Opt("legacy", ("--legacy",), "With the fields of Rill's older format.", only="behavioral", hidden=True),
    Opt("print", ("--print",), "Print the event as it was stored."),
    Opt("dry_run", ("--dry-run",), "Print the event, and store nothing."),
    Opt("durable", ("--durable",), "Sync to the disk before returning."),
    Opt("on_error", ("--on-error",), "What a failure does to the exit code.", "|".join(ON_ERROR)),
    Opt("quiet", ("-q", "--quiet"), "Nothing on stderr but usage errors."),
)

# The positional arguments of each form: the least and the most there may be.
FORMS = {"behavioral": (1, 1), "metric": (2, 2), "log": (1, 2), "event": (2, 2)}


def options_of(form: str) -> list[Opt]:
    """Return the options that one form of `record` takes."""
    return [option for option in OPTIONS if option.only in ("", form)]
