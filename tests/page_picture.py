"""The picture of the server's page in the README, made of events that nobody recorded.

    python tests/page_picture.py [FOLDER]

Starts a server with a store of its own, fills it, looks at it with Chromium, and writes `.github/images/page.png`. With a folder,
it writes what the page looks like there: wide and narrow, in the light and in the dark, empty, and when the server is gone.
"""

from __future__ import annotations

import random
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from browsing import Browser, Serving, chromium
from support import Tool

from rillevents.event import format_time

ROOT = Path(__file__).parents[1]
PICTURE = ROOT / ".github" / "images" / "page.png"
HOUR = 3600
# Type, name, how many an hour, and attributes to choose from.
PLAUSIBLE: tuple[tuple[str, str, int, dict[str, list[Any]]], ...] = (
    ("behavioral", "login-start", 150, {"plan": ["free", "pro", "team"], "browser": ["firefox", "chrome", "safari"]}),
    ("behavioral", "login-success", 128, {"plan": ["free", "pro", "team"], "method": ["password", "sso"]}),
    ("behavioral", "deploy-success", 41, {"region": ["eu-1", "us-2"], "commit": ["3da03df", "19c9fe9", "fdf9456"]}),
    (
        "metric",
        "request-seconds",
        420,
        {"route": ["/orders", "/search", "/login"], "status": [200, 200, 200, 304, 500]},
    ),
    ("metric", "build-seconds", 60, {"job": ["linux", "macos", "docs"], "cached": [True, False]}),
    ("metric", "queue-depth", 60, {"queue": ["mail", "thumbnails"]}),
    ("log", "backup", 12, {"message": ["nightly backup finished", "2 files were skipped"], "level": ["info", "warn"]}),
    ("log", "worker-restart", 18, {"message": ["out of memory", "new configuration"], "level": ["error", "info"]}),
    ("audit", "key-rotated", 9, {"actor": ["ci", "ada", "grace"], "key_id": [7, 8, 9]}),
)
BAD = (
    '{"event_id":"a-41","event_time":"yesterday","event_type":"log","event_name":"backup"}',
    '{"event_id":"a-42","event_type":"metric","event_name":"build-seconds","value":NaN}',
    '{"event_id":"a-43","event_time":"2026-11-23T10:00:00Z","event_name":"login-start"}',
)


def plausible(now: float, seed: int = 7) -> Iterator[dict[str, Any]]:
    """Yield an hour of events, with a quiet quarter and a busy one in it."""
    dice = random.Random(seed)
    for kind, name, an_hour, choices in PLAUSIBLE:
        for _ in range(an_hour):
            ago = dice.choice((dice.uniform(0, HOUR), dice.triangular(0, HOUR, 900), dice.triangular(0, 1800, 1200)))
            more: dict[str, Any] = {key: dice.choice(values) for key, values in choices.items()}
            if kind == "metric":
                more = {"value": value(name, dice)} | more
            yield {
                "event_id": str(uuid.UUID(int=dice.getrandbits(128), version=4)),
                "event_time": format_time(int((now - ago) * 1e9)),
                "event_type": kind,
                "event_name": name,
                **more,
                "service_name": dice.choice(("web", "worker", "ci")),
                "install_id": str(uuid.UUID(int=dice.randrange(60), version=4)),
            }


def value(name: str, dice: random.Random) -> float:
    """Return a plausible value of a metric."""
    if name == "request-seconds":
        return round(dice.lognormvariate(-2.2, 0.7), 4)
    return round(dice.gauss(74, 11), 1) if name == "build-seconds" else dice.randrange(40)


def fill(serving: Serving) -> None:
    """Send everything, the oldest first, and what is refused."""
    found = sorted(plausible(time.time()), key=lambda event: event["event_time"])
    serving.send(*found)
    serving.post("\n".join(BAD).encode())


def shoot(browser: Browser, url: str, path: Path, width: int, height: int, *, dark: bool = False) -> None:
    """Write what a page looks like."""
    browser.look("dark" if dark else "light", width, height)
    browser.driver.get(f"{url}/?start=login-start&goal=login-success")
    time.sleep(2)
    browser.driver.save_screenshot(str(path))


def main(folder: Path | None) -> None:
    """Make the picture, or all of them."""
    with tempfile.TemporaryDirectory() as home, chromium() as browser:
        (Path(home) / "user").mkdir()
        with Serving(Tool(Path(home) / "home")) as serving:
            if folder:
                shoot(browser, serving.url, folder / "empty.png", 1400, 900)
            fill(serving)
            if not folder:
                shoot(browser, serving.url, PICTURE, 1400, 1300)
                return
            shoot(browser, serving.url, folder / "wide.png", 1400, 1300)
            shoot(browser, serving.url, folder / "dark.png", 1400, 1300, dark=True)
            shoot(browser, serving.url, folder / "narrow.png", 400, 2900)
        time.sleep(4)
        browser.driver.save_screenshot(str(folder / "gone.png"))


if __name__ == "__main__":
    main(Path(sys.argv[1]) if sys.argv[1:] else None)
