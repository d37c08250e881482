"""A person's SQL → the statement that SQLite gets: attributes by name, and double-quoted text always a name.

SQLite takes a double-quoted name that it does not know for text, and Python 3.11 cannot switch that off; so such names become
`` `names` `` before SQLite sees them. The table `events` becomes a common table expression with the six columns, and with each
attribute that SQLite finds missing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from rillevents.errors import UsageError

COLUMNS: Final = ("event_id", "event_time", "event_us", "event_type", "event_name", "body")
_MOST_ATTRIBUTES = 100
_TOKEN = re.compile(
    r"""(?P<space>\s+|--[^\n]*|/\*.*?(?:\*/|\Z))
    |(?P<text>'(?:[^']|'')*')
    |(?P<quoted>"(?:[^"]|"")*"|`(?:[^`]|``)*`|\[[^\]]*\])
    |(?P<number>\d[\w.]*)
    |(?P<word>[^\W\d][\w$]*)
    |(?P<sign>.)""",
    re.VERBOSE | re.DOTALL,
)
_MISSING = re.compile(r"no such column: (.+)", re.DOTALL)


class _Token(NamedTuple):
    kind: str
    text: str

    @property
    def name(self) -> str:
        """The name that this token is, "" if it is none."""
        if self.kind == "word":
            return self.text
        if self.kind != "quoted":
            return ""
        mark = self.text[-1]
        return self.text[1:-1].replace(mark * 2, mark) if mark != "]" else self.text[1:-1]

    @property
    def word(self) -> str:
        """The keyword or sign, in upper case; "" for a quoted name."""
        return "" if self.kind == "quoted" else self.text.upper()


def prepared(sql: str, missing: Callable[[str], str]) -> str:
    """Return the statement for SQLite; *missing* prepares one and returns SQLite's complaint, or "". Raises UsageError."""
    tokens = _tokens(sql)
    names = {token.name for token in tokens} - {""}
    body = "".join(token.text for token in _starred(tokens))
    attributes: list[str] = []
    while True:
        statement = _with_events(body, attributes)
        complaint = missing(statement)
        if not complaint:
            return statement
        found = _MISSING.fullmatch(complaint)
        name = _name_in(found[1], names) if found else ""
        if not name or name in attributes or len(attributes) >= _MOST_ATTRIBUTES:
            told = f'the columns are {", ".join(COLUMNS)}, and every attribute that is named where events are selected, "a.b" too'
            raise UsageError(complaint, hint=told)
        _check_attribute(name, attributes, names)
        attributes.append(name)


def _tokens(sql: str) -> list[_Token]:
    tokens = [_Token(found.lastgroup or "", found[0]) for found in _TOKEN.finditer(sql)]
    while tokens and (tokens[-1].kind == "space" or tokens[-1].text == ";"):
        tokens.pop()
    for token in tokens:
        if token.text == ";":
            raise UsageError("only one statement can be run at a time")
        if token.text in ("'", '"', "`", "["):
            raise UsageError(f"a {token.text} is not closed")
        if token.text == "\0":
            raise UsageError("a statement cannot have a zero character")
    first = next((token.word for token in tokens if token.kind != "space"), "")
    if first not in ("SELECT", "WITH", "VALUES"):
        raise UsageError("only SELECT, WITH and VALUES can be run; a store is never changed")
    return [_Token("quoted", _quoted(token.name)) if token.kind == "quoted" else token for token in tokens]


def _quoted(name: str) -> str:
    return "`" + name.replace("`", "``") + "`"


def _with_events(body: str, attributes: Sequence[str]) -> str:
    """Put the table `events` with these attributes in front of a statement."""
    more = "".join(
        f", CASE WHEN json_valid(body) THEN json_extract(body, {_path(name)}) END AS {_quoted(name)}"
        for name in attributes
    )
    table = f"events AS NOT MATERIALIZED (SELECT {', '.join(COLUMNS)}{more} FROM main.events)"  # noqa: S608 - quoted above
    found = re.match(r"((?:\s|--[^\n]*\n|/\*.*?\*/)*WITH(?:\s+RECURSIVE\b)?)", body, re.IGNORECASE | re.DOTALL)
    if found:
        return f"{found[1]} {table},{body[found.end() :]}"
    return f"WITH {table} {body}"


def _path(name: str) -> str:
    path = f'$."{name}"'
    return "'" + path.replace("'", "''") + "'"


def _name_in(told: str, names: set[str]) -> str:
    """Return the name that SQLite misses: all of what it says, or what follows the name of a table."""
    parts = told.split(".")
    return next((rest for at in range(len(parts)) if (rest := ".".join(parts[at:])) in names), "")


def _check_attribute(name: str, attributes: Sequence[str], names: set[str]) -> None:
    if '"' in name or "\\" in name:
        raise UsageError(f"the attribute {name!r} cannot be a column", hint="use json_each(body)")
    twin = next((other for other in names if other != name and other.lower() == name.lower()), "")
    if twin:
        told = f"{name} and {twin} are one column to SQL, and two attributes"
        raise UsageError(told, hint=f"write body ->> '$.{name}' for each")


def _starred(tokens: Sequence[_Token]) -> list[_Token]:
    """Return the tokens with the six columns in place of the `*` of a SELECT from `events` alone."""
    found = list(tokens)
    for at, token in enumerate(tokens):
        before = _next(tokens, at, -1)
        if token.text == "*" and before in ("SELECT", "DISTINCT", "ALL", ",") and _is_from_events(tokens, at):
            found[at] = _Token("word", ", ".join(COLUMNS))
    return found


def _next(tokens: Sequence[_Token], at: int, step: int) -> str:
    at += step
    while 0 <= at < len(tokens) and tokens[at].kind == "space":
        at += step
    return tokens[at].word or tokens[at].name.upper() if 0 <= at < len(tokens) else ""


def _is_from_events(tokens: Sequence[_Token], at: int) -> bool:
    depth = 0
    for place in range(at + 1, len(tokens)):
        token = tokens[place]
        depth += {"(": 1, ")": -1}.get(token.text, 0)
        if depth < 0:
            return False
        if depth == 0 and token.word == "FROM":
            return _next(tokens, place, 1) == "EVENTS" and not _is_joined(tokens, place)
    return False


def _is_joined(tokens: Sequence[_Token], at: int) -> bool:
    """Return whether a FROM has more than one table."""
    depth = 0
    for token in tokens[at + 1 :]:
        depth += {"(": 1, ")": -1}.get(token.text, 0)
        if depth < 0 or (
            depth == 0 and token.word in ("WHERE", "GROUP", "ORDER", "LIMIT", "HAVING", "WINDOW", "UNION")
        ):
            return False
        if depth == 0 and token.word in (",", "JOIN"):
            return True
    return False
