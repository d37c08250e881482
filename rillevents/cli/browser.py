"""The browser that `serve --open` opens its page in: a program of its own, which never writes to our streams."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from threading import Thread

# A display is where a window can be; on macOS one is always there.
_DISPLAYS = ("DISPLAY", "WAYLAND_DISPLAY")
_OPENERS = ("xdg-open", "x-www-browser", "sensible-browser")


def browser_command(url: str, environ: Mapping[str, str], platform: str = sys.platform) -> list[str]:
    """Return the command that shows *url* in the user's browser; empty where there is none.

    The commands in `$BROWSER` come first, separated by `:`, each with `%s` for the URL or without: as other programs read it.
    """
    path = environ.get("PATH")
    for command in environ.get("BROWSER", "").split(os.pathsep):
        with suppress(ValueError):
            words = shlex.split(command)
            if words and shutil.which(words[0], path=path):
                return [word.replace("%s", url) for word in words] + ([] if "%s" in command else [url])
    if platform == "darwin":
        openers: tuple[str, ...] = ("open",)
    elif any(environ.get(name) for name in _DISPLAYS):
        openers = _OPENERS
    else:
        # Windows' own browser, where Linux runs in Windows.
        openers = ("wslview",)
    return next(([opener, url] for opener in openers if shutil.which(opener, path=path)), [])


def open_in_browser(url: str, environ: Mapping[str, str]) -> bool:
    """Show *url* in the user's browser, without waiting for it; return whether there is one.

    The browser outlives us, and a Ctrl-C at our terminal does not reach it.
    """
    words = browser_command(url, environ)
    if words:
        # On a thread: some openers return when the window is closed.
        Thread(target=_run, args=(words,), name="rillevents-browser", daemon=True).start()
    return bool(words)


def _run(words: list[str]) -> None:
    silent = subprocess.DEVNULL
    with suppress(OSError):
        subprocess.run(words, stdin=silent, stdout=silent, stderr=silent, start_new_session=True, check=False)
