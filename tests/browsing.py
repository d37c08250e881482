"""What tests with a browser share: Chromium, a server of events, and pages of other origins."""

from __future__ import annotations

import contextlib
import http.server
import json
import subprocess
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from selenium import webdriver
from support import PACE, Tool, need

# Nothing but what the test asks for leaves the browser, and names that a test makes up lead to this machine.
FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP evil.test 127.0.0.1, MAP app.example.com 127.0.0.1",
)


class Browser:
    """Chromium, without a window."""

    def __init__(self, driver: webdriver.Chrome) -> None:
        self.driver = driver

    def run(self, script: str, *values: Any) -> Any:
        """Return what a script in the page returns."""
        return self.driver.execute_script(script, *values)

    def later(self, script: str) -> Any:
        """Return what the async function with that body returns, or the message of what it throws."""
        call = "const done = arguments[0]; (async () => { %s })().then(done, (e) => done(`${e.name}: ${e.message}`));"
        return self.driver.execute_async_script(call % script)

    def text(self, selector: str) -> str:
        """Return the text of the first element there."""
        return str(self.run("return document.querySelector(arguments[0])?.textContent ?? ''", selector))

    def texts(self, selector: str) -> list[str]:
        """Return the texts of all elements there."""
        found: list[str] = self.run(
            "return [...document.querySelectorAll(arguments[0])].map((e) => e.textContent)", selector
        )
        return found

    def until(self, is_so: Callable[[], Any], seconds: float = 15) -> Any:
        """Wait until something is true, and return it."""
        end = time.monotonic() + seconds * PACE
        while not (found := is_so()):
            assert time.monotonic() < end, self.text("body")[:2000]
            time.sleep(0.05)
        return found

    def look(self, scheme: str, width: int, height: int) -> None:
        """Give the window a size, and the person in front of it a preference for light or dark."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        preference = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", preference)

    def console(self) -> list[str]:
        """Return what was written to the console since the last time: violations of a policy, too."""
        return [entry["message"] for entry in self.driver.get_log("browser")]

    def requested(self) -> list[str]:
        """Return what was asked for since the last time, by whatever page."""
        logged = [json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")]
        sent = [entry for entry in logged if entry["method"] == "Network.requestWillBeSent"]
        return [entry["params"]["request"]["url"] for entry in sent]


@contextlib.contextmanager
def chromium() -> Iterator[Browser]:
    """Start Chromium with a profile of its own."""
    options = webdriver.ChromeOptions()
    options.binary_location = need("chromium")
    service = webdriver.ChromeService(need("chromedriver"))
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        for flag in (*FLAGS, f"--user-data-dir={profile}"):
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        driver = webdriver.Chrome(options=options, service=service)
        driver.set_script_timeout(20)
        try:
            yield Browser(driver)
        finally:
            driver.quit()


class Serving:
    """A server of events in a process of its own, with the options given."""

    def __init__(self, tool: Tool, *options: str, port: int = 0, **environ: str) -> None:
        self.tool = tool
        words = tool.command("serve", "--port", str(port), "--json", *options)
        self.process = subprocess.Popen(
            words, env=tool.environ | environ, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )

    @cached_property
    def url(self) -> str:
        """Where it listens; waits until it does."""
        assert self.process.stdout
        return str(json.loads(self.process.stdout.readline())["url"])

    @property
    def port(self) -> int:
        """The port of it."""
        return int(self.url.rpartition(":")[2])

    def post(self, body: bytes, path: str = "/events/default") -> int:
        """Send a body, and return the status."""
        request = urllib.request.Request(f"{self.url}{path}", body, {"Content-Type": "application/x-ndjson"})
        try:
            with urllib.request.urlopen(request, timeout=10) as response:
                return int(response.status)
        except urllib.error.HTTPError as error:
            with error:
                return error.code

    def send(self, *events: Mapping[str, Any]) -> None:
        """Send events, and see to it that they are stored."""
        assert 200 == self.post("\n".join(json.dumps(event) for event in events).encode())

    def get(self, path: str, **headers: str) -> tuple[int, Any, Mapping[str, str]]:
        """Return the status, the document and the headers of an answer."""
        request = urllib.request.Request(f"{self.url}{path}", headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=30) as response:
                return response.status, json.loads(response.read()), response.headers
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.loads(error.read()), error.headers

    def names(self) -> list[str]:
        """Return the names of the newest events."""
        return [event["event_name"] for event in self.get("/api/events?limit=500")[1]["events"]]

    def stop(self) -> None:
        """Stop it as a person does."""
        self.process.terminate()
        self.process.wait(20)

    def __enter__(self) -> Self:
        _ = self.url
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        assert self.process.stdout
        self.process.stdout.close()


def damage(tool: Tool) -> None:
    """Put a folder where a server has its store: until it is gone, nothing can be stored there, or looked at."""
    path = Path(tool.paths.default_store)
    for each in path.parent.glob(f"{path.name}*"):
        each.unlink()
    path.mkdir()


class Elsewhere(http.server.ThreadingHTTPServer):
    """Serves an empty page: with another port, or another name, it is another origin. `asked` is what was asked for."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Blank)
        self.port = int(self.server_address[1])
        self.asked: list[str] = []


class _Blank(http.server.BaseHTTPRequestHandler):
    server: Elsewhere

    def do_GET(self) -> None:
        if self.path != "/favicon.ico":
            self.server.asked.append(self.path)
        body = b"<!doctype html><title>elsewhere</title><body>elsewhere"
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


@contextlib.contextmanager
def elsewhere() -> Iterator[Elsewhere]:
    """Serve an empty page of another origin."""
    with Elsewhere() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
