"""Pages of other origins, in a real browser: which of them may send events, and that none of them may look."""

from __future__ import annotations

import json
import time
import urllib.request
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browsing import Browser, Elsewhere, Serving, elsewhere
from support import PACE, Tool

pytestmark = [pytest.mark.slow, pytest.mark.unmeasured]

# What a page sends with, as a script gets it: a URL, and the text of an event. Each returns what the page got to know.
SENDERS = {
    "fetch-json": "return (await fetch(url, {method: 'POST', body, headers: {'Content-Type': 'application/json'}})).json()",
    "fetch-json-credentials": (
        "return (await fetch(url, {method: 'POST', body, credentials: 'include', headers: {'Content-Type': 'application/json'}})).json()"
    ),
    "fetch-text": "return (await fetch(url, {method: 'POST', body})).json()",
    "fetch-text-credentials": "return (await fetch(url, {method: 'POST', body, credentials: 'include'})).json()",
    "fetch-keepalive": "return (await fetch(url, {method: 'POST', body, keepalive: true})).json()",
    "beacon-text": "return navigator.sendBeacon(url, body)",
    "beacon-json": "return navigator.sendBeacon(url, new Blob([body], {type: 'application/json'}))",
    "xhr": (
        "return new Promise((done, failed) => { const x = new XMLHttpRequest(); x.open('POST', url); x.withCredentials = true;"
        " x.onload = () => done(JSON.parse(x.responseText)); x.onerror = () => failed(new TypeError('refused')); x.send(body); })"
    ),
}
# These cannot read an answer at all, so no browser asks beforehand: it is the server that has to refuse them.
BLIND = {
    "fetch-no-cors": "return (await fetch(url, {method: 'POST', mode: 'no-cors', body})).type",
    "form": (
        "const f = document.createElement('form'); f.method = 'POST'; f.action = url; f.enctype = 'text/plain'; f.target = 'sink';"
        "const i = document.createElement('input'); i.name = body.slice(0, -1) + ',\"x\":\"'; i.value = '\"}'; f.append(i);"
        "const s = document.createElement('iframe'); s.name = 'sink'; document.body.append(s, f); f.submit(); return 'sent'"
    ),
}
ACCEPTED = {"accepted": 1, "duplicates": 0, "rejected": []}


@pytest.fixture(scope="module")
def other() -> Iterator[Elsewhere]:
    """A page that is not ours."""
    with elsewhere() as server:
        yield server


@pytest.fixture(scope="module")
def serving(tmp_path_factory: pytest.TempPathFactory, other: Elsewhere) -> Iterator[Serving]:
    """A server that allows one origin beside those of this machine."""
    folder = tmp_path_factory.mktemp("browser")
    (folder / "user").mkdir()
    with Serving(Tool(folder / "home"), "--allow-origin", f"http://app.example.com:{other.port}") as started:
        yield started


def visit(browser: Browser, url: str) -> None:
    """Go there, unless we are there already."""
    if not browser.driver.current_url.startswith(f"{url}/"):
        browser.driver.get(f"{url}/")


def send(browser: Browser, sender: str, url: str, name: str) -> Any:
    """Let the page that is open send an event of that name; return what it got to know."""
    event = {
        "event_id": str(uuid.uuid4()),
        "event_time": "2026-11-23T10:00:00Z",
        "event_type": "log",
        "event_name": name,
    }
    script = (SENDERS | BLIND)[sender]
    return browser.later(f"const url = {json.dumps(url)}, body = {json.dumps(json.dumps(event))}; {script}")


def arrives(serving: Serving, name: str) -> None:
    """Wait until an event of that name is stored: a beacon is sent after all else."""
    end = time.monotonic() + 10 * PACE
    while name not in serving.names():
        assert time.monotonic() < end
        time.sleep(0.05)


def answers(serving: Serving, status: int) -> int:
    """Return how often the server has answered so."""
    with urllib.request.urlopen(f"{serving.url}/metrics") as response:
        lines = response.read().decode().splitlines()
    return next(
        (
            int(float(line.split()[1]))
            for line in lines
            if line.startswith(f'rillevents_answers_total{{status="{status}"}}')
        ),
        0,
    )


class TestAllowed:
    @pytest.mark.parametrize("host", ["localhost", "app.example.com"])
    @pytest.mark.parametrize("sender", SENDERS)
    def test_sends(self, sender: str, host: str, browser: Browser, serving: Serving, other: Elsewhere) -> None:
        """A page of this machine, and one of an origin that was named, sends events in every way, and reads what came of them."""
        visit(browser, f"http://{host}:{other.port}")
        name = f"{sender}-{host}"
        told = send(browser, sender, f"{serving.url}/local/track", name)
        assert (True if sender.startswith("beacon") else ACCEPTED) == told
        arrives(serving, name)


class TestForbidden:
    @pytest.mark.parametrize("sender", [*SENDERS, *BLIND])
    def test_sends(self, sender: str, browser: Browser, serving: Serving, other: Elsewhere) -> None:
        """What a page of another origin sends is refused, whichever way it is sent, and the page cannot read why."""
        visit(browser, f"http://evil.test:{other.port}")
        before = serving.names()
        refused = answers(serving, 403)
        told = send(browser, sender, f"{serving.url}/local/track", "evil")
        expected = {"fetch-no-cors": "opaque", "form": "sent"}.get(
            sender, True if sender.startswith("beacon") else None
        )
        assert told == expected or (expected is None and str(told).startswith("TypeError"))
        browser.until(lambda: answers(serving, 403) > refused)
        assert before == serving.names()

    @pytest.mark.parametrize("host", ["evil.test", "app.example.com", "localhost"])
    @pytest.mark.parametrize("path", ["/", "/api/events", "/api/stats", "/api/rejected", "/metrics", "/healthz"])
    def test_reads(self, path: str, host: str, browser: Browser, serving: Serving, other: Elsewhere) -> None:
        """No page elsewhere reads what there is to see, not even one that may send."""
        visit(browser, f"http://{host}:{other.port}")
        for credentials in ("omit", "include"):
            told = browser.later(
                f"return (await fetch('{serving.url}{path}', {{credentials: '{credentials}'}})).text()"
            )
            assert str(told).startswith("TypeError")

    def test_includes(self, browser: Browser, serving: Serving, other: Elsewhere) -> None:
        """A page elsewhere cannot make a script, a picture or a style sheet of what there is to see."""
        visit(browser, f"http://localhost:{other.port}")
        script = (
            "return Promise.all([['script', 'src', '/api/events'], ['script', 'src', '/page.js'], ['img', 'src', '/icon.svg']]"
            ".map(([tag, key, path]) => new Promise((done) => { const e = document.createElement(tag); e.onload = () => done('loaded');"
            f" e.onerror = () => done('refused'); e[key] = '{serving.url}' + path; document.body.append(e); }})))"
        )
        assert ["refused"] * 3 == browser.later(script)

    @pytest.mark.parametrize("host", ["evil.test", "localhost"])
    def test_frames(self, host: str, browser: Browser, serving: Serving, other: Elsewhere) -> None:
        """The page of a server is not shown within a page of another origin, where clicks could be led astray."""
        visit(browser, f"http://{host}:{other.port}")
        browser.console()
        browser.run(
            "const f = document.createElement('iframe'); f.src = arguments[0]; document.body.append(f)",
            f"{serving.url}/",
        )
        told = browser.until(lambda: [line for line in browser.console() if "fram" in line])
        assert "frame-ancestors 'none'" in told[0] or "X-Frame-Options" in told[0]

    def test_rebinding(self, browser: Browser, serving: Serving) -> None:
        """A name that leads here by a trick of its DNS shows nothing and stores nothing: the Host is not ours."""
        rebound = f"http://evil.test:{serving.port}"
        browser.driver.get(f"{rebound}/")
        assert "this Host is not allowed here" in browser.text("body")
        before = serving.names()
        for sender in ("fetch-json", "fetch-text"):
            assert "not allowed" in send(browser, sender, f"{rebound}/local/track", "rebound")["error"]
        assert send(browser, "beacon-text", f"{rebound}/local/track", "rebound")
        for path in ("/api/events", "/api/stats"):
            told = browser.later(f"return (await fetch('{path}')).json()")
            assert "not allowed" in told["error"]
        assert before == serving.names()

    def test_before_it_is_named(self, browser: Browser, tmp_path: Path, other: Elsewhere) -> None:
        """An origin is refused by a server that was not told of it, another scheme or port of it by one that was."""
        (tmp_path / "user").mkdir()
        named = ("--allow-origin", f"https://app.example.com:{other.port}", "--allow-origin", "http://app.example.com")
        visit(browser, f"http://app.example.com:{other.port}")
        with Serving(Tool(tmp_path / "home"), *named) as serving:
            assert str(send(browser, "fetch-text", f"{serving.url}/local/track", "x")).startswith("TypeError")
            assert [] == serving.names()
