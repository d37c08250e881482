"""Text that is safe to print on a terminal: it contains nothing that the terminal would act upon."""

from __future__ import annotations

import json


def printable(text: str) -> str:
    """Return *text* with everything escaped that a terminal may act upon: control, format and lone surrogate characters."""
    return "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in text)


def text_of(value: object) -> str:
    """Return a value of JSON as a printable text: a text as it is, anything else as JSON."""
    return printable(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))


def printable_json(line: bytes) -> bytes:
    r"""Return a line of JSON that is safe for a terminal: the same document, with `\u` for everything it may act upon."""
    text = line.decode("utf-8", "replace").replace("\r", " ")
    return "".join(sign if sign.isprintable() or sign in "\n\t" else _unicode_escape(sign) for sign in text).encode()


def _unicode_escape(sign: str) -> str:
    units = sign.encode("utf-16-be").hex()
    return "".join(f"\\u{units[at : at + 4]}" for at in range(0, len(units), 4))
