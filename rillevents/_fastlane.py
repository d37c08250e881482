"""The quick parser of `record`: the plain forms of its command line → a request, or None: "not mine".

A second parser, not a second implementation: whatever it does not recognise as plain it declines before any side effect, and
Typer handles the same words from the start. So it never reports an error; it has no messages.
"""

from __future__ import annotations

from rillevents._options import FORMS, ON_ERROR, options_of
from rillevents._record import Request

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from rillevents._options import Opt


def parse(argv: Sequence[str]) -> Request | None:
    """Return the request that `rillevents *argv*` makes, or None where it is for Typer to say."""
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
    """Sort the words into *found* options and the arguments that are returned; None where one is not plain."""
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
    """Return whether a word that begins with a dash is a metric's value, not an option."""
    return form == "metric" and word[:1] == "-" and word[1:2].isdigit()


def _request(form: str, arguments: list[str], found: dict[str, list[str]]) -> Request:
    request = Request(form, arguments)
    for name, values in found.items():
        if name in ("attr", "attrs"):
            setattr(request, name, values)
        else:
            setattr(request, name, values[-1] if values[-1] or name in ("time", "id", "user_id", "on_error") else True)
    return request
