"""`rillevents serve`: receive events over HTTP, store or forward them."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from queue import Full, Queue
from threading import Thread
from typing import TYPE_CHECKING, Annotated

import typer

from rillevents.cli.command import Json, paths, register
from rillevents.cli.record_quick import is_quiet
from rillevents.cli.result import Result, Shown
from rillevents.errors import ConfigError
from rillevents.serve.limits import DEFAULT_PORT

if TYPE_CHECKING:
    from rillevents.serve.options import Options

_EXAMPLE = """
rillevents serve
rillevents serve --open
rillevents serve --port 0 --json
rillevents serve --to intake --allow-origin https://app.example.com
RILLEVENTS_SERVE_PASSWORD=… rillevents serve --host 0.0.0.0 --user ci --tls-cert cert.pem --tls-key key.pem
"""


_MOST_UNSAID = 64
_LAST_WORDS_SECONDS = 0.5


def add_to(app: typer.Typer) -> None:
    """Register the command."""

    @register(app, "serve", _EXAMPLE)
    def serve(
        host: Annotated[str, typer.Option("--host", metavar="HOST", help="The address to listen on.")] = "127.0.0.1",
        port: Annotated[
            int, typer.Option("--port", metavar="PORT", help="The port; 0 means any free port.")
        ] = DEFAULT_PORT,
        store: Annotated[str, typer.Option("--store", metavar="FILE", help="Keep events in this SQLite file.")] = "",
        to: Annotated[
            str,
            typer.Option(
                "--to", metavar="URL", help="Forward events: intake, spool, http(s)://…, kafka://…, file:PATH."
            ),
        ] = "",
        keep: Annotated[str, typer.Option("--keep", metavar="T", help="Delete events older than 30d, 12h, …")] = "",
        user: Annotated[
            str, typer.Option("--user", metavar="NAME", help="User name that clients must authenticate with.")
        ] = "",
        password_file: Annotated[
            str,
            typer.Option(
                "--password-file", metavar="F", help="File with the user's password (or RILLEVENTS_SERVE_PASSWORD)."
            ),
        ] = "",
        allow_host: Annotated[
            list[str], typer.Option("--allow-host", metavar="H", help="Another host name of this server.")
        ] = [],  # noqa: B006
        allow_origin: Annotated[
            list[str], typer.Option("--allow-origin", metavar="O", help="Also accept events from pages of this origin.")
        ] = [],  # noqa: B006
        tls_cert: Annotated[str, typer.Option("--tls-cert", metavar="F", help="Use TLS with this certificate.")] = "",
        tls_key: Annotated[str, typer.Option("--tls-key", metavar="F", help="The certificate's key.")] = "",
        opens: Annotated[bool, typer.Option("--open", help="Open the page in the browser.")] = False,
        as_json: Json = False,
    ) -> Result:
        """Receive events over HTTP; store them, or forward them. Runs until it is stopped."""
        from rillevents.serve.options import Options

        options = Options(
            host, port, os.path.abspath(store) if store else "", to, keep, user, password_file,
            tuple(allow_host), tuple(allow_origin), tls_cert, tls_key,
        )  # fmt: skip
        options.check()
        try:
            from rillevents.serve.server import run
        except ImportError as error:
            if (error.name or "").startswith("rillevents"):
                raise
            told = f"serve needs {error.name}, which is not installed"
            raise ConfigError(told, hint="run: pip install 'rillevents[serve]'") from None
        voice = StderrWriter(is_quiet(os.environ))
        try:
            run(options, paths(), on_ready=_tell(as_json, voice, options if opens else None), warn=voice.say)
        finally:
            voice.close()
        return Result()


class StderrWriter:
    """Writes to stderr on a thread of its own: a pipe that nobody reads must not block the server.

    Messages beyond the buffer are dropped. `close` waits a moment for pending ones.
    """

    def __init__(self, quiet: bool) -> None:
        # Loaded here, not on the thread: a thread that still loads it at the end would look like one that is blocked.
        from rillevents.cli.render import say

        self._say = say
        self._quiet = quiet
        self._unsaid: Queue[tuple[str, bool] | None] = Queue(_MOST_UNSAID)
        self._thread = Thread(target=self._run, name="rillevents-say", daemon=True)
        self._thread.start()

    def say(self, message: str, *, bare: bool = False) -> None:
        """Print a message soon; *bare* without the program's name in front."""
        with suppress(Full):
            self._unsaid.put_nowait((message, bare))

    def close(self) -> None:
        """Print what is left, then stop."""
        with suppress(Full):
            self._unsaid.put_nowait(None)
            self._thread.join(_LAST_WORDS_SECONDS)
        if self._thread.is_alive():
            # The thread is blocked by a pipe nobody reads; Python's cleanup of stderr would block, too.
            sys.stderr = None

    def _run(self) -> None:
        while (unsaid := self._unsaid.get()) is not None:
            message, bare = unsaid
            if not bare:
                self._say(Result(messages=(message,)), quiet=self._quiet)
            elif sys.stderr is not None and not self._quiet:
                with suppress(OSError):
                    print(message, file=sys.stderr, flush=True)


def _tell(as_json: bool, voice: StderrWriter, opened: Options | None) -> Callable[[str, str], None]:
    def tell(url: str, keeps: str) -> None:
        from rillevents.cli.render import show

        intake = f"{url}/events/default"
        voice.say(f"listening on {url}; {keeps}")
        voice.say("to send there:")
        # Without the program's name in front, ready to be copied.
        voice.say(f"export RILLEVENTS_INTAKE_URL={intake}", bare=True)
        # On one line: a script reads one line from a stdout that stays open.
        document = json.dumps({"url": url, "intake_url": intake}).encode() + b"\n"
        # Nobody may be reading it; serve all the same.
        with suppress(OSError):
            show(Shown(Result("stream", lines=[document] if as_json else []), quiet=True))
        if opened:
            _open(opened.page(url), url, voice)

    return tell


def _open(page: str, url: str, voice: StderrWriter) -> None:
    """Open the page, or say why not."""
    from rillevents.cli.browser import open_in_browser

    if not page:
        voice.say(f"the page was not opened: it is shown only under a loopback address, and {url} is none")
    elif not open_in_browser(page, os.environ):
        voice.say(f"no browser was found; open {page} in one")
