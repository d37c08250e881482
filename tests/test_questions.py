"""Four questions of somebody who looks after a product, over thirty days of events that a seed makes: by a command, and on the page."""

from __future__ import annotations

import csv
import io
import json
import re
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from browsing import Browser, Serving
from support import Tool
from thirty_days import SERVICES, send, thirty_days

pytestmark = [pytest.mark.slow, pytest.mark.unmeasured]

EVENTS = 200_000
DOCS = Path(__file__).parents[1] / "rillevents" / "docs"


class Asked:
    """A server with the events, and what is true of them."""

    def __init__(self, serving: Serving, end_us: int) -> None:
        self.serving = serving
        self.events = list(thirty_days(EVENTS, end_us))
        # The days that the page shows: thirty, and the last is today.
        midnight = datetime.fromtimestamp(end_us / 1e6, UTC).replace(hour=0, minute=0, second=0, microsecond=0)
        self.until = midnight + timedelta(days=1)
        self.since = self.until - timedelta(days=30)
        self.shown = [event for event in self.events if event["event_time"] >= f"{self.since:%Y-%m-%d}"]

    def tell(self, command: str, *words: str) -> str:
        """Return what a command says of the store."""
        done = self.serving.tool(command, "--store", str(self.serving.tool.paths.default_store), *words)
        assert 0 == done.returncode, done.stderr
        return done.stdout

    def stats(self, *words: str) -> dict[str, Any]:
        """Return what `stats` says of the time that the page shows."""
        times = ("--since", f"{self.since:%Y-%m-%dT%H:%M:%SZ}", "--until", f"{self.until:%Y-%m-%dT%H:%M:%SZ}")
        found: dict[str, Any] = json.loads(self.tell("stats", *times, *words, "--json"))
        return found

    def recipe(self, name: str, condition: str = "") -> list[list[str]]:
        """Return the rows of a recipe of the manual, with one more condition on its events."""
        [sql] = re.findall(rf"^```sql {name}\n(.*?)^```$", (DOCS / "query.md").read_text(), re.M | re.S)
        _, *rows = csv.reader(io.StringIO(self.tell("query", "--csv", sql + condition)))
        return rows


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Asked]:
    """A server with the events of the last thirty days."""
    folder = tmp_path_factory.mktemp("questions")
    (folder / "user").mkdir()
    with Serving(Tool(folder / "home")) as serving:
        end_us = time.time_ns() // 1000
        send(serving.url, EVENTS, end_us)
        yield Asked(serving, end_us)


@pytest.fixture
def page(browser: Browser, asked: Asked) -> Iterator[Browser]:
    """A browser with a large window, whose zone is UTC as that of the questions."""
    browser.look("light", 1400, 1400)
    browser.driver.execute_cdp_cmd("Emulation.setTimezoneOverride", {"timezoneId": "UTC"})
    yield browser
    browser.driver.get("about:blank")
    browser.driver.execute_cdp_cmd("Emulation.setTimezoneOverride", {"timezoneId": ""})


def show(page: Browser, asked: Asked, address: str, shown: str = "#installs") -> None:
    """Open an address of the page, and wait until it has its last figures."""
    times = f"since={asked.since:%Y-%m-%dT%H:%M:%SZ}&until={asked.until:%Y-%m-%dT%H:%M:%SZ}"
    page.driver.get(f"{asked.serving.url}/?{times}&{address}")
    page.until(lambda: page.text(shown) not in ("", "–"), 60)


def rows(page: Browser, selector: str) -> dict[str, list[str]]:
    """Return the rows of a table by their first cell, without cells that have no text."""
    found = page.run(
        "return [...document.querySelectorAll(arguments[0])].map((row) => [...row.children].map((cell) => cell.textContent))",
        selector,
    )
    return {first: [text for text in rest if text] for first, *rest in found}


def saved(page: Browser, folder: Path, button: str, name: str) -> list[dict[str, str]]:
    """Return the rows of the CSV that a button saves."""
    page.driver.execute_cdp_cmd("Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(folder)})
    page.run(f"document.querySelector('#{button}').click()")
    file = folder / f"rillevents-{name}.csv"
    page.until(lambda: file.exists() and file.stat().st_size)
    return list(csv.DictReader(io.StringIO(file.read_text("utf-8-sig"))))


def comma(n: int | float) -> str:
    """Return a count as the page writes it."""
    return f"{n:,}"


def test_deploys_a_day_by_service(asked: Asked, page: Browser, tmp_path: Path) -> None:
    """`stats --every 1d --by`, the recipe and the page's chart and CSV tell the deploys of each day by service."""
    true = Counter(
        (event["event_time"][:10], event["service_name"])
        for event in asked.shown
        if event["event_name"] == "deploy-success"
    )
    found = asked.stats("--name", "deploy-success", "--every", "1d", "--utc", "--by", "service_name")
    told = {
        (column["from"][:10], group["by"]["service_name"]): column["count"]
        for group in found["groups"]
        for column in group["columns"]
        if column["count"]
    }
    assert true == told
    of_recipe = {(day, service): int(n) for day, service, n in asked.recipe("deploys")}
    assert true == {key: n for key, n in of_recipe.items() if key[0] >= f"{asked.since:%Y-%m-%d}"}
    show(page, asked, "name=deploy-success&by=service_name")
    shown: Counter[tuple[str, str]] = Counter()
    for row in saved(page, tmp_path, "time-csv", "counts"):
        shown[row["from"][:10], row["service_name"]] += int(row["count"])
    assert true == shown
    sums = {
        service: comma(sum(n for (_, each), n in true.items() if each == service))
        for service in {service for _, service in true}
    }
    assert sums == {service: texts[-1] for service, texts in rows(page, "#names tr").items()}


def test_build_times_by_service(asked: Asked, page: Browser, tmp_path: Path) -> None:
    """`stats --name --by` and the page tell the same percentiles of build times by service, to the last digit."""
    found = asked.stats("--name", "build-seconds", "--by", "service_name")
    told = {group["by"]["service_name"]: group["values"] for group in found["groups"]}
    assert set(SERVICES) == set(told)
    p95 = {row[0]: float(row[2]) for row in asked.recipe("p95")}
    everything = json.loads(asked.tell("stats", "--name", "build-seconds", "--by", "service_name", "--json"))
    assert p95 == {group["by"]["service_name"]: pytest.approx(group["values"]["p95"]) for group in everything["groups"]}
    show(page, asked, "by=service_name&metric=build-seconds")
    found_rows = {row["service_name"]: row for row in saved(page, tmp_path, "values-csv", "values")}
    for service, values in told.items():
        row = found_rows[service]
        assert values["count"] == int(row["count"])
        for name in ("min", "p50", "p90", "p95", "p99", "max", "mean", "sum"):
            # The page reads events in another order, so that its sums can differ in the last bit.
            assert pytest.approx(values[name], rel=1e-12) == float(row[name]), name
    assert {service: comma(told[service]["count"]) for service in told} == {
        service: texts[0] for service, texts in rows(page, "#value-rows tr").items()
    }


def test_new_installs(asked: Asked, page: Browser, tmp_path: Path) -> None:
    """The recipe and the page tell how many installs were new on each day."""
    firsts: dict[str, str] = {}
    for event in asked.events:
        firsts.setdefault(event["install_id"], event["event_time"][:10])
    true = {day: n for day, n in Counter(firsts.values()).items() if day >= f"{asked.since:%Y-%m-%d}"}
    told = {day: int(n) for day, n in asked.recipe("installs") if day >= f"{asked.since:%Y-%m-%d}"}
    assert true == told
    show(page, asked, "name=deploy-success", "#new-installs")
    assert comma(sum(true.values())) == page.text("#new-installs")
    assert comma(len({event["install_id"] for event in asked.shown})) == page.text("#installs")
    shown: Counter[str] = Counter()
    for row in saved(page, tmp_path, "installs-csv", "installs"):
        shown[row["from"][:10]] += int(row["new_installs"])
    assert true == shown


def test_logins_that_succeed(asked: Asked, page: Browser) -> None:
    """The recipe and the page tell how many logins that were started succeed within ten minutes."""
    by_install: defaultdict[str, list[tuple[datetime, str]]] = defaultdict(list)
    for event in asked.events:
        if event["event_name"].startswith("login-"):
            at = datetime.fromisoformat(event["event_time"][:26] + "Z")
            by_install[event["install_id"]].append((at, event["event_name"]))
    true = {False: [0, 0], True: [0, 0]}
    for events in by_install.values():
        succeeded: datetime | None = None
        for at, name in reversed(events):
            if name == "login-success":
                succeeded = at
                continue
            is_reached = succeeded is not None and succeeded - at <= timedelta(minutes=10)
            for is_shown in {False, at >= asked.since}:
                true[is_shown][0] += 1
                true[is_shown][1] += is_reached
    assert [[str(n) for n in true[False]]] == asked.recipe("funnel")
    since_us = int(asked.since.timestamp()) * 1_000_000
    assert [[str(n) for n in true[True]]] == asked.recipe("funnel", f" AND event_us >= {since_us}")
    show(page, asked, "start=login-start&goal=login-success", "#reach")
    started, reached = true[True]
    page.until(lambda: page.text("#reach").startswith(f"{comma(reached)} of {comma(started)} ("))


def test_counts(asked: Asked, page: Browser) -> None:
    """The page's counts by name, and its percentiles of all values, are those of `stats` and of the events."""
    true = Counter(event["event_name"] for event in asked.shown)
    found = asked.stats()
    assert dict(true) == {each["name"]: each["count"] for each in found["names"]}
    show(page, asked, "metric=build-seconds")
    assert comma(true.total()) == page.text("#total")
    assert {name: comma(n) for name, n in true.items()} == {
        name: texts[-1] for name, texts in rows(page, "#names tr").items()
    }
    [values] = asked.stats("--name", "build-seconds")["values"]
    shown = dict(zip(page.texts("#percentiles dt"), page.texts("#percentiles dd"), strict=True))
    for name in ("min", "p50", "p90", "p95", "p99", "max", "mean"):
        # The page shows four digits.
        assert pytest.approx(values[name], rel=6e-4) == float(shown[name].replace(",", "")), name
