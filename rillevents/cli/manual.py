"""How a page of the manual looks on a terminal: in the terminal's own text colour, whatever its background."""

from __future__ import annotations

import re
from typing import ClassVar

from rich.console import Console, ConsoleOptions, RenderResult
from rich.markdown import CodeBlock, Markdown, MarkdownElement
from rich.text import Text
from rich.theme import Theme

_WIDTH = 100
_INDENT = 4

# Weights alone. Of the six ANSI colours none has a contrast of 3:1 on each of these: xterm on white and on black, Solarized Light
# and Dark, the Terminal of macOS, that of Windows, and Linux's console. The default text colour has at least 4:1 on all of them.
_STYLES = {
    "markdown.h1": "bold underline",
    "markdown.h2": "bold underline",
    "markdown.h3": "bold",
    "markdown.code": "bold",
    "markdown.em": "italic",
    "markdown.strong": "bold",
    "markdown.list": "none",
    "markdown.item.bullet": "none",
    "markdown.item.number": "none",
    "markdown.block_quote": "italic",
    "markdown.hr": "none",
    "markdown.link": "underline",
    "markdown.link_url": "underline",
    "markdown.table.header": "bold",
    "markdown.table.border": "none",
}
# A link within its page leads nowhere on a terminal.
_ANCHOR = re.compile(r"\[([^\]]+)\]\(#[^)\s]*\)")
_LINK = re.compile(r"\[[^\]]+\]\((https?://[^)\s]+)\)")


class _Block(CodeBlock):
    """A block of code, indented. Its long lines stay whole, so that what is copied from the terminal can be run."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for line in str(self.text).rstrip().split("\n"):
            yield Text(" " * _INDENT + line if line else "", no_wrap=True, overflow="ignore")


class _Page(Markdown):
    elements: ClassVar[dict[str, type[MarkdownElement]]] = Markdown.elements | {"fence": _Block, "code_block": _Block}


def show_page(out: Console, text: str) -> None:
    """Print a page of the manual, given as Markdown, to a terminal: at most 100 columns, but for long lines of code."""
    width = min(out.width, _WIDTH)
    console = Console(file=out.file, force_terminal=True, width=width, no_color=out.no_color, theme=Theme(_STYLES))
    console.print(_Page(_with_links_listed(_ANCHOR.sub(r"\1", text))), crop=False)


def _with_links_listed(text: str) -> str:
    """Number the links of a page and list their addresses at its end: not every terminal can follow a link."""
    urls = list(dict.fromkeys(_LINK.findall(text)))
    if not urls:
        return text
    numbered = _LINK.sub(lambda link: f"{link[0]} \\[{urls.index(link[1]) + 1}]", text)
    listed = "\n".join(f"[{number}] {url}" for number, url in enumerate(urls, 1))
    return f"{numbered}\n## Links\n\n```\n{listed}\n```\n"
