"""The quick parser of `record`: its option table, and plain command lines → a request, or None: "not for me".

It is a second parser, not a second implementation. It declines everything that is not plain before any side effect, and
Typer handles the same words from the start. So it never reports an error and has no messages.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

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
    Opt("attr", ("-a", "--attr"), "An attribute: text, or with := a JSON value.", "KEY=VALUE", many=True),
    Opt("attrs", ("--attrs",), "Attributes as a JSON object, from a file, or from stdin.", "JSON|@FILE|@-", many=True),
    Opt("time", ("--time",), "When it happened: RFC 3339, or @SECONDS since 1970.", "T"),
    Opt("id", ("--id",), "The event's ID, instead of a new one.", "ID"),
    Opt("user_id", ("--user-id",), "The attribute user_id.", "ID"),
    Opt("ci", ("--ci",), "Add which CI job this is."),
    Opt("legacy", ("--legacy",), "Use the fields of Rill's older format.", only="behavioral", hidden=True),
    Opt("print", ("--print",), "Print the event as stored."),
    Opt("dry_run", ("--dry-run",), "Print the event; store nothing."),
    Opt("durable", ("--durable",), "Sync to the disk before returning."),
    Opt("on_error", ("--on-error",), "What a failure does to the exit code.", "|".join(ON_ERROR)),
    Opt("quiet", ("-q", "--quiet"), "Print nothing on stderr except usage errors."),
)


# The minimum and maximum number of positional arguments of each form.
FORMS = {"behavioral": (1, 1), "metric": (2, 2), "log": (1, 2), "event": (2, 2)}


def options_of(form: str) -> list[Opt]:
    """Return the options that one form of `record` takes."""
    return [option for option in OPTIONS if option.only in ("", form)]


class RecordCommand:
    """The words of one `record` command, sorted but not yet checked."""

    def __init__(self, form: str, arguments: list[str]) -> None:
        self.form = form
        self.arguments = arguments
        self.attr: list[str] = []
        self.attrs: list[str] = []
        self.time: str | None = None
        self.id: str | None = None
        self.user_id: str | None = None
        self.on_error: str | None = None
        self.ci = self.legacy = self.print = self.dry_run = self.durable = self.quiet = False


def parse(argv: Sequence[str]) -> RecordCommand | None:
    """Return the request that `rillevents *argv*` makes, or None if Typer must handle it."""
    quiet = argv[:1] in (["-q"], ["--quiet"])
    words = list(argv[quiet:])
    if words[:1] != ["record"] or len(words) < 3 or words[1] not in FORMS:
        return None
    form = words[1]
    flags = {flag: option for option in options_of(form) for flag in option.flags}
    found: dict[str, list[str]] = {"quiet": [""]} if quiet else {}
    arguments = _sort(words[2:], flags, found, form)
    if arguments is None or not FORMS[form][0] <= len(arguments) <= FORMS[form][1]:
        return None
    if any(text[:1] == "@" for text in found.get("attrs", ())) or found.get("on_error", ["warn"])[-1] not in ON_ERROR:
        return None
    return _request(form, arguments, found)


def _sort(words: list[str], flags: dict[str, Opt], found: dict[str, list[str]], form: str) -> list[str] | None:
    """Sort the options into *found* and return the arguments; None if a word is not plain."""
    arguments = []
    words.reverse()
    while words:
        word = words.pop()
        if word[:1] != "-" or is_negative(word, form):
            arguments.append(word)
            continue
        flag, equals, value = word.partition("=") if word[:2] == "--" else (word, "", "")
        option = flags.get(flag)
        if option is None or (equals and not option.metavar) or (option.metavar and not equals and not words):
            return None
        found.setdefault(option.name, []).append(value if equals else words.pop() if option.metavar else "")
    return arguments


def is_negative(word: str, form: str) -> bool:
    """Return whether a word that starts with a dash is a metric's value, not an option."""
    return form == "metric" and word[:1] == "-" and word[1:2].isdigit()


def _request(form: str, arguments: list[str], found: dict[str, list[str]]) -> RecordCommand:
    request = RecordCommand(form, arguments)
    for name, values in found.items():
        if name in ("attr", "attrs"):
            setattr(request, name, values)
        else:
            setattr(request, name, values[-1] if values[-1] or name in ("time", "id", "user_id", "on_error") else True)
    return request


def failure_mode(flag: str | None, environ: Mapping[str, str], default: str = "warn") -> tuple[str, str]:
    """Return what a failure does to the exit code: the flag, else RILLEVENTS_ON_ERROR, else the default; and a warning."""
    if flag:
        return flag, ""
    value = environ.get("RILLEVENTS_ON_ERROR", "").strip().lower()
    if value in ON_ERROR:
        return value, ""
    return default, f"RILLEVENTS_ON_ERROR={value!r} is not one of warn, fail, ignore; using {default}" if value else ""


def on_error_flag(words: Sequence[str]) -> str | None:
    """Return the known `--on-error` mode in an unparsed command line; None if there is none."""
    found = None
    for number, word in enumerate(words):
        flag, equals, value = word.partition("=")
        if flag == "--on-error":
            value = value if equals else "".join(words[number + 1 : number + 2])
            found = value if value in ON_ERROR else found
    return found


def is_quiet(environ: Mapping[str, str]) -> bool:
    """Return whether RILLEVENTS_QUIET asks for nothing on stderr except usage errors."""
    return environ.get("RILLEVENTS_QUIET", "").strip().lower() not in ("", "0", "false", "no", "off")
