"""`rillevents serve --open`: which browser shows the page, and what is said where there is none."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from browsing import Serving as Started
from serving import until
from support import Tool

from rillevents.cli.browser import browser_command
from rillevents.serve.options import Options

URL = "http://127.0.0.1:8787/"


def program(folder: Path, name: str, body: str = "") -> Path:
    """Return a program that runs some lines of shell."""
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return path


def test_it_opens(tool: Tool, tmp_path: Path) -> None:
    """The browser gets the page's URL once the server listens, and what it prints is not ours."""
    opened = tmp_path / "opened"
    browser = program(
        tmp_path / "b in",
        "browser",
        f'echo noise; echo noise >&2; echo "$@" > "{opened}.new"; mv "{opened}.new" "{opened}"',
    )
    with Started(tool, "--open", BROWSER=f"'{browser}'") as serving:
        until(opened.exists)
        assert f"{serving.url}/\n" == opened.read_text()
        assert 200 == serving.get("/api/events")[0]
        serving.process.terminate()
        assert serving.process.stdout
        assert "" == serving.process.stdout.read()


def test_none(tool: Tool, tmp_path: Path) -> None:
    """Without a browser the server says so, with the URL, and serves."""
    environ = {"PATH": str(tmp_path), "BROWSER": "", "DISPLAY": "", "WAYLAND_DISPLAY": ""}
    done = said(tool, environ, "--open")
    assert f"rillevents: no browser was found; open {done['url']}/ in one" in done["told"]


def said(tool: Tool, environ: dict[str, str], *options: str) -> dict[str, str]:
    """Return the URL of a server, and what it has said on stderr when it ends."""
    words = tool.command("serve", "--port", "0", "--json", *options)
    with subprocess.Popen(
        words, env=tool.environ | environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout
        assert process.stderr
        url = json.loads(process.stdout.readline())["url"]
        told = ""
        while "browser" not in told and "not opened" not in told:
            line = process.stderr.readline()
            assert line, told
            told += line
        process.terminate()
        return {"url": url, "told": told}


@pytest.mark.parametrize(
    ("environ", "platform", "expected"),
    [
        ({"BROWSER": "fox"}, "linux", ["fox", URL]),
        ({"BROWSER": "nosuch:fox --new '%s' -x", "DISPLAY": ":0"}, "linux", ["fox", "--new", URL, "-x"]),
        ({"BROWSER": "'"}, "linux", []),
        ({"DISPLAY": ":0"}, "linux", ["xdg-open", URL]),
        ({"WAYLAND_DISPLAY": "wayland-0"}, "linux", ["xdg-open", URL]),
        ({"DISPLAY": ""}, "linux", []),
        ({}, "darwin", ["open", URL]),
    ],
)
def test_which_browser(environ: dict[str, str], platform: str, expected: list[str], tmp_path: Path) -> None:
    """`$BROWSER` comes first, and without a display there is no browser."""
    for name in ("fox", "xdg-open", "open", "x-www-browser"):
        program(tmp_path / "bin", name)
    assert expected == browser_command(URL, environ | {"PATH": str(tmp_path / "bin")}, platform)


@pytest.mark.parametrize(
    ("options", "page"),
    [
        (Options(), "http://127.0.0.1:9/"),
        (Options(host="::1"), "http://[::1]:9/"),
        (Options(host="0.0.0.0", user="u"), "http://127.0.0.1:9/"),
        (Options(host="::", user="u", tls_cert="c", tls_key="k"), "https://[::1]:9/"),
        (Options(host="192.0.2.7", user="u"), ""),
    ],
)
def test_which_page(options: Options, page: str) -> None:
    """The page is opened under a loopback address, where alone it is shown."""
    assert page == options.page(options.url(9))
