"""The page of a server, in a real browser: what it shows, and what cannot be done to it by what it shows."""

from __future__ import annotations

import csv
import io
import json
import sqlite3
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browsing import Browser, Serving, damage, elsewhere
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from support import Tool

from rillevents.event import format_time
from rillevents.event.timestamp import parse_time

pytestmark = [pytest.mark.slow, pytest.mark.unmeasured]

MARKUP = "<img src=x onerror=\"window.hit=1\"><script>window.hit=2</script><svg onload='window.hit=3'>"


def event(name: str = "hello", kind: str = "behavioral", *, ago: float = 0, **more: Any) -> dict[str, Any]:
    """Return an event of now, or of some seconds ago."""
    at = format_time(time.time_ns() - int(ago * 1e9))
    return {"event_id": str(uuid.uuid4()), "event_time": at, "event_type": kind, "event_name": name, **more}


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """A server for all tests that do not stop it."""
    folder = tmp_path_factory.mktemp("page")
    (folder / "user").mkdir()
    with Serving(Tool(folder / "home")) as started:
        yield started


@pytest.fixture
def serving(shared: Serving) -> Serving:
    """A server with an empty store."""
    with sqlite3.connect(shared.tool.paths.default_store) as connection:
        for table in ("events", "rejected", "counts"):
            connection.execute(f"DELETE FROM {table}")
    connection.close()
    return shared


@pytest.fixture
def tool(serving: Serving) -> Tool:
    """The command line, with the home of the server."""
    return serving.tool


@pytest.fixture
def page(browser: Browser, serving: Serving) -> Iterator[Browser]:
    """The page of that server, of ordinary size; nothing that it wrote to the console is left over when the test ends."""
    browser.driver.get("about:blank")
    browser.console()
    browser.requested()
    browser.look("light", 1400, 1000)
    show(browser, serving)
    yield browser
    browser.driver.get("about:blank")


def show(browser: Browser, serving: Serving) -> None:
    """Open the page, and wait until it has shown something."""
    browser.driver.get(serving.url)
    browser.until(lambda: "live" == browser.text("#state-text"))


def names(page: Browser) -> list[str]:
    """Return the names in the list of events, from the top."""
    return page.texts("#list .name")


def poke(page: Browser) -> None:
    """Let the page ask for events now, as it does when somebody comes back to it."""
    page.run("document.dispatchEvent(new Event('visibilitychange'))")


def names_are(page: Browser, *expected: str) -> None:
    """Wait for the list to hold these names, from the top."""
    poke(page)
    page.until(lambda: list(expected) == names(page))


def names_hold(page: Browser, expected: str) -> None:
    """Wait for the list to hold this name."""
    poke(page)
    page.until(lambda: expected in names(page))


def click(page: Browser, selector: str) -> None:
    """Click the first element there."""
    page.driver.find_element(By.CSS_SELECTOR, selector).click()


def whole(page: Browser) -> bool:
    """Return whether each time in the list is shown as a whole."""
    return bool(
        page.run("return [...document.querySelectorAll('#list time')].every((e) => e.scrollWidth <= e.clientWidth)")
    )


def refresh(page: Browser) -> None:
    """Let the figures be asked for now, not in some seconds."""
    page.run("document.querySelector('#again').click()")


def type_name(page: Browser, text: str) -> None:
    """Type into the filter."""
    field = page.driver.find_element(By.ID, "name")
    field.clear()
    field.send_keys(text)


class TestEvents:
    def test_nothing_yet(self, page: Browser, serving: Serving) -> None:
        """Before there is anything, the page says what to type; what comes then takes its place by itself."""
        assert f"export RILLEVENTS_INTAKE_URL={serving.url}/events/default" == page.text("#type-export")
        assert page.text("#type-record").startswith("rillevents record behavioral")
        assert not page.run("return document.querySelector('#full').checkVisibility()")
        click(page, "[data-copies='type-export']")
        assert page.text("#type-export") == page.run("return getSelection().toString()")
        serving.send(event())
        page.until(lambda: page.run("return document.querySelector('#full').checkVisibility()"))
        names_are(page, "hello")

    def test_what_it_says_to_type_works(self, page: Browser, serving: Serving, tool: Tool) -> None:
        """Who types what the page says sees the event."""
        url = page.text("#type-export").partition("=")[2]
        record, flush = page.text("#type-record").split(" && ")
        for command in (record, flush):
            assert 0 == tool(*command.split()[1:], RILLEVENTS_INTAKE_URL=url).returncode
        names_are(page, "hello")
        assert "from=me" in page.text("#list .attributes")

    def test_live(self, page: Browser, serving: Serving) -> None:
        """Events appear as they come, on top, and one that is open stays open."""
        serving.send(event("first", plan="pro"), event("second", "metric", value=41.5))
        names_are(page, "second", "first")
        assert page.texts("#list .attributes")[0].startswith("value=41.5")
        click(page, "#list summary")
        page.until(lambda: '"value": 41.5' in page.text("#list details[open] pre"))
        serving.send(event("third"))
        # Without a poke: the page has to see to it by itself.
        page.until(lambda: ["third", "second", "first"] == names(page))
        assert '"value": 41.5' in page.text("#list details[open] pre")

    def test_filters(self, page: Browser, serving: Serving) -> None:
        """The list can be narrowed by type, by a part of a name, by a pattern, and by what is clicked; new events respect it."""
        serving.send(
            event("build-seconds", "metric", value=1), event("login-start"), event("login-success"), event("x", "log")
        )
        names_are(page, "x", "login-success", "login-start", "build-seconds")
        type_name(page, "login")
        names_are(page, "login-success", "login-start")
        type_name(page, "*-s[et]*")
        names_are(page, "login-start", "build-seconds")
        serving.send(event("x"), event("re-start"))
        names_are(page, "re-start", "login-start", "build-seconds")
        type_name(page, "none")
        names_are(page)
        assert page.run("return document.querySelector('#none').checkVisibility()")
        click(page, "#clear")
        page.until(lambda: "login-success" in page.texts("#names .name"))
        page.run(
            "[...document.querySelectorAll('#names .name')].find((e) => e.textContent === 'login-success').click()"
        )
        names_are(page, "login-success")
        assert "behavioral" == page.run("return document.querySelector('#type').value")
        type_name(page, Keys.BACKSPACE * 40)
        page.run(
            "const type = document.querySelector('#type'); type.value = 'log'; type.dispatchEvent(new Event('input'))"
        )
        names_are(page, "x")

    def test_pause(self, page: Browser, serving: Serving) -> None:
        """A list that is paused stands still, and goes on with all that has come in the meantime."""
        serving.send(event("before"))
        names_are(page, "before")
        click(page, "#pause")
        serving.send(event("meanwhile"))
        refresh(page)
        page.until(lambda: "2" == page.text("#total"))
        assert ["before"] == names(page)
        click(page, "#pause")
        names_are(page, "meanwhile", "before")

    def test_many(self, page: Browser, serving: Serving) -> None:
        """More events than a list can follow do not fill the browser: it goes on with the newest."""
        serving.send(event("first"))
        names_are(page, "first")
        serving.send(*[event(f"e{number}") for number in range(1500)])
        page.until(lambda: "e1499" == names(page)[0])
        assert len(names(page)) <= 200

    def test_reading_further_down(self, page: Browser, serving: Serving) -> None:
        """A reader further down the list keeps seeing the same line when events arrive, and no panel moves."""
        serving.send(*[event(f"e{number}") for number in range(80)])
        page.until(lambda: 80 == len(names(page)))
        page.run("document.querySelector('#list').scrollTop = 600")
        where = (
            "const boxes = [...document.querySelectorAll('.panel, .figures')].map((e) => e.getBoundingClientRect().toJSON());"
            "const row = [...document.querySelectorAll('#list .event')].find((e) => e.textContent.includes('e50'));"
            "return [...boxes.flatMap(Object.values), row.getBoundingClientRect().top]"
        )
        before = page.run(where)
        serving.send(event("late"), event("late", "metric", value=3))
        serving.post(b"bad\n")
        refresh(page)
        page.until(lambda: "1" == page.text("#rejected-total") and "late" == names(page)[0])
        # Within a pixel: scrolling is rounded to those of the screen.
        assert pytest.approx(before, abs=0.6) == page.run(where)


class TestFigures:
    def test_counts(self, page: Browser, serving: Serving) -> None:
        """Events are counted by type and by name, over the time that was chosen."""
        serving.send(*[event("often") for _ in range(3)], event("once", "log"), event("old", "audit", ago=5000))
        refresh(page)
        page.until(lambda: "4" == page.text("#total"))
        assert ["behavioral 3", "metric 0", "log 1", "other 0"] == page.texts("#legend li")
        assert [("often", "3"), ("once", "1")] == list(
            zip(page.texts("#names .name"), page.texts("#names .total"), strict=True)
        )
        click(page, "#range label:has([value='24h'])")
        page.until(lambda: "5" == page.text("#total"))
        assert "other 1" == page.texts("#legend li")[3]
        assert 3 <= page.run("return document.querySelectorAll('#stack rect').length")

    def test_values(self, page: Browser, serving: Serving) -> None:
        """The values of the metric that is chosen are shown with their percentiles."""
        serving.send(*[event("a", "metric", value=number) for number in range(1, 101)])
        serving.send(*[event("b", "metric", value=7) for _ in range(2)])
        refresh(page)
        shown = lambda: dict(zip(page.texts("#percentiles dt"), page.texts("#percentiles dd"), strict=True))  # noqa: E731
        page.until(lambda: "100 values" == page.text("#spread-note"))
        figures = {
            "min": "1",
            "p50": "50.5",
            "p90": "90.1",
            "p95": "95.05",
            "p99": "99.01",
            "max": "100",
            "mean": "50.5",
        }
        assert figures == shown()
        assert 4 == page.run("return document.querySelectorAll('#histogram line').length")
        page.run(
            "const m = document.querySelector('#metric'); m.value = 'b'; m.dispatchEvent(new Event('change', {bubbles: true}))"
        )
        page.until(lambda: "2 values" == page.text("#spread-note"))
        assert "7" == shown()["p99"]

    def test_rejected(self, page: Browser, serving: Serving) -> None:
        """What was rejected is shown with its reason, and opens to the whole line."""
        assert 400 == serving.post(b'{"event_id":"a"}\n')
        refresh(page)
        page.until(lambda: ["missing event_time"] == page.texts("#rejected .reason"))
        assert "1" == page.text("#rejected-total")
        click(page, "#rejected summary")
        assert '{"event_id":"a"}' == page.text("#rejected pre")

    def test_keyboard(self, page: Browser, serving: Serving) -> None:
        """All that can be clicked can be reached and used by the keyboard, the bars of the chart, too."""
        serving.send(event("one", "metric", value=1))
        serving.post(b"bad\n")
        refresh(page)
        page.until(lambda: page.texts("#rejected .reason") and names(page))
        click(page, "h1")
        reached = []
        for _ in range(28):
            ActionChains(page.driver).send_keys(Keys.TAB).perform()
            reached.append(
                page.run("const e = document.activeElement; return e.id || e.name || e.className || e.tagName")
            )
        expected = [
            "type",
            "name",
            "attribute",
            "stack",
            "name kind-metric",
            "pause",
            "SUMMARY",
            "metric",
            "start",
            "goal",
            "within",
            "SUMMARY",
        ]
        assert expected == [each for each in reached if each in expected][: len(expected)]
        page.run("document.querySelector('#stack').focus()")
        ActionChains(page.driver).send_keys(Keys.ARROW_LEFT).perform()
        assert "·" in page.text("#readout")
        while "1 metric" not in page.text("#readout"):
            ActionChains(page.driver).send_keys(Keys.ARROW_LEFT).perform()

    def test_forwarding(self, browser: Browser, tmp_path: Path) -> None:
        """A server that hands events on says that what is shown is not all there was."""
        (tmp_path / "user").mkdir()
        tool = Tool(tmp_path / "home")
        with Serving(tool, "--to", "spool") as serving:
            serving.send(event("passing"))
            show(browser, serving)
            names_are(browser, "passing")
            assert "forwards events" in browser.text("#stats-note")
        browser.driver.get("about:blank")


HOSTILE = [
    {"event_type": MARKUP, "event_name": MARKUP, MARKUP: MARKUP, "list": [MARKUP]},
    {"event_name": "\u202egnp.exe\u2066", "control": "\x00\x07\x1b[31m\r\n", "tag": "\U000e0041", "zero": "\u200b"},
    {"event_name": "long", "event_type": "t" * 900, "text": "x" * 30_000},
    {"event_name": "n" * 1000, "wide": "W" * 3000, "zalgo": "e" + "\u0301" * 500},
    {"event_name": "metric", "event_type": "metric", "value": 1e308},
    {"event_name": "metric", "event_type": "metric", "value": -1e308},
    {"event_name": "*[?]", "event_type": "metric", "value": 5e-324},
    {"event_name": "__proto__", "event_type": "constructor", "__proto__": {"x": 1}, "toString": 1, "hasOwnProperty": None},
    {"event_name": "deep", "deep": json.loads("[" * 190 + "]" * 190)},
    {"event_name": "keys", **{f"k{number}": number for number in range(2000)}},
    {"event_name": "😀👩‍👩‍👧", "text": "שלום עולם"},
]  # fmt: skip


def choose(page: Browser, selector: str, text: str) -> None:
    """Type into a field, and press Enter."""
    field = page.driver.find_element(By.CSS_SELECTOR, selector)
    page.until(field.is_displayed)
    field.clear()
    field.send_keys(text, Keys.ENTER)


def figures(page: Browser) -> dict[str, str]:
    """Return the table of names or values, as name and count."""
    # At once: the table may be drawn anew between two calls.
    texts = "selector => [...document.querySelectorAll(selector)].map(cell => cell.textContent)"
    names, totals = page.run(f'const texts = {texts}; return [texts("#names .name"), texts("#names .total")]')
    return dict(zip(names, totals, strict=True))


class TestChosen:
    def fill(self, serving: Serving) -> None:
        """Send deploys of three services, and build times of two."""
        for service, n in (("web", 3), ("api", 2), ("=cmd", 1)):
            serving.send(*[event("deploy-success", service_name=service) for _ in range(n)])
        serving.send(event("deploy-success"), event("login-start", service_name="web"))
        for service, values in (("web", (1, 2, 3, 4)), ("api", (10, 30))):
            serving.send(*[event("build-seconds", "metric", value=v, service_name=service) for v in values])

    def test_by(self, page: Browser, serving: Serving) -> None:
        """The chart, the table and the values are broken down by an attribute; a click on a value filters by it."""
        self.fill(serving)
        choose(page, "#by", "service_name")
        page.until(lambda: {"web": "8", "api": "4", "-": "1", "=cmd": "1"} == figures(page))
        assert ["web 8", "api 4", "=cmd 1", "- 1"] == page.texts("#legend li")
        assert "Over time, by service_name" == page.text("#over-time-title")
        page.until(lambda: 2 == len(page.texts("#value-rows tr")))
        cells = [page.texts(f"#value-rows tr:nth-child({row}) > *") for row in (1, 2)]
        assert [["web", "4", "2.5", "3.85", "3.97"], ["api", "2", "20", "29", "29.8"]] == cells
        click(page, "#names button.name")
        page.until(lambda: {"web": "8"} == figures(page) and 8 == len(names(page)))
        assert ["service_name=web ×"] == page.texts("#chips button")

    def test_address(self, page: Browser, serving: Serving) -> None:
        """What is chosen stands in the address, survives a reload, and the back and forward buttons step through it."""
        self.fill(serving)
        click(page, "#range label:has([value='30d'])")
        choose(page, "#attribute", "service_name=web")
        choose(page, "#by", "event_name")
        type_name(page, "deploy")
        expected = {"deploy-success": "3"}
        page.until(lambda: expected == figures(page))
        address = str(page.run("return location.search"))
        for part in (
            "range=30d",
            "by=event_name",
            "contains=deploy",
            "attributes=%7B%22service_name%22%3A%22web%22%7D",
        ):
            assert part in address
        page.driver.refresh()
        page.until(lambda: expected == figures(page) and 3 == len(names(page)))
        assert "30d" == page.run("return document.querySelector('#range input:checked').value")
        assert ("deploy", "event_name") == tuple(
            page.run("return [document.querySelector('#name').value, document.querySelector('#by').value]")
        )
        page.driver.back()
        page.until(lambda: "8" == page.text("#total") and 8 == len(names(page)))
        page.driver.back()
        page.driver.back()
        page.until(lambda: "14" == page.text("#total") and [] == page.texts("#chips button"))
        page.driver.forward()
        page.until(lambda: "8" == page.text("#total"))

    def test_reach(self, page: Browser, serving: Serving) -> None:
        """Two names tell how often one leads to the other; they stand in the address, and a length of time of one's own does too."""
        for install, seconds in (("one", 5), ("two", 700)):
            serving.send(event("login-start", ago=800, install_id=install))
            serving.send(event("login-success", ago=800 - seconds, install_id=install))
        page.until(lambda: ("2", "2") == (page.text("#installs"), page.text("#new-installs")))
        choose(page, "#start", "login-start")
        choose(page, "#goal", "login-success")
        page.until(lambda: "1 of 2 (50 %) login-start reach login-success within 10m." == page.text("#reach"))
        assert "start=login-start&goal=login-success" in page.run("return location.search")
        page.driver.back()
        page.until(lambda: page.text("#reach").startswith("Choose two names"))
        page.driver.get(f"{serving.url}/?start=login-start&goal=login-success&within=701s")
        page.until(lambda: "2 of 2 (100 %) login-start reach login-success within 701s." == page.text("#reach"))
        page.driver.get(f"{serving.url}/?within=soon")
        page.until(lambda: "Not understood in the address, and left out: within." == page.text("#unread"))

    def test_typed_attributes(self, page: Browser, serving: Serving) -> None:
        """An attribute is typed as for `-a`: text after `=`, JSON after `:=`; what is neither is said beside the field."""
        serving.send(event("a", status="500"), event("b", status=500), event("c", **{'k"\\': "x=1"}))
        page.until(lambda: 3 == len(names(page)))
        for typed, expected in (("status=500", "a"), ("status:=500", "b"), ('k"\\=x=1', "c")):
            choose(page, "#attribute", typed)
            names_are(page, expected)
            click(page, "#chips button")
            page.until(lambda: 3 == len(names(page)))
        for typed in ("status", "status:=x", "=1", "event_type:=5", "event_name:=null"):
            choose(page, "#attribute", typed)
            assert page.run("return document.querySelector('#attribute').validationMessage").startswith("Write KEY=")

    def test_unreadable_address(self, page: Browser, serving: Serving) -> None:
        """What cannot be understood in an address is left out and named."""
        self.fill(serving)
        page.driver.get(f"{serving.url}/?range=9y&attributes=nonsense&name=login-*")
        page.until(lambda: ["login-start"] == names(page))
        assert "Not understood in the address, and left out: range, attributes." == page.text("#unread")

    @pytest.mark.parametrize(
        ("zone", "now"),
        [
            ("America/New_York", "2026-11-03T12:00:00Z"),
            ("Europe/Berlin", "2026-10-26T12:00:00Z"),
            ("Europe/Berlin", "2026-03-30T12:00:00Z"),
            ("Australia/Lord_Howe", "2026-10-06T12:00:00Z"),
            # There clocks leave out midnight, or a whole day.
            ("America/Havana", "2020-03-10T12:00:00Z"),
            ("Pacific/Apia", "2012-01-02T12:00:00Z"),
            ("Asia/Kolkata", "2026-11-03T12:00:00Z"),
        ],
    )
    def test_days_where_clocks_change(self, zone: str, now: str, page: Browser, serving: Serving) -> None:
        """The bars of days are those of `stats --every`, with its counts, also where clocks change; the CSV has their beginnings."""
        at_us = parse_time(now) // 1000
        times = [at_us - number * 1_800_000_000 for number in range(31 * 48)]
        serving.send(*({**event("a"), "event_time": format_time(us * 1000)} for us in times))
        page.driver.execute_cdp_cmd("Emulation.setTimezoneOverride", {"timezoneId": zone})
        try:
            for days, parts in ((30, 1), (7, 8)):
                found = page.run(
                    "const bars = await import('/bars.js'); const { sizes, ...asked } = bars.dayBars(...arguments);"
                    "const answer = await (await fetch(`/api/stats?${new URLSearchParams(asked)}`)).json();"
                    "return bars.inBars(answer, { buckets: asked.buckets, sizes });",
                    days, parts, at_us // 1000,
                )  # fmt: skip
                words = ("--since", found["since"], "--until", found["until"], "--every", "1d" if parts == 1 else "3h")
                told = json.loads(
                    serving.tool("stats", *words, "--json", "--store", serving.tool.paths.default_store, TZ=zone).stdout
                )
                columns = {parse_time(each["from"]): each["count"] for each in told["groups"][0]["columns"]}
                bars = [*zip(map(parse_time, found["starts"]), found["types"][0]["buckets"], strict=True)]
                assert [*columns.items()] == [(start, n) for start, n in bars if start in columns or n]
                assert sum(n for _, n in bars) == sum(columns.values()) == found["total"]
                assert {1: 86400, 8: 10800}[parts] == found["bar_seconds"]
        finally:
            page.driver.execute_cdp_cmd("Emulation.setTimezoneOverride", {"timezoneId": ""})

    def test_times_are_whole(self, page: Browser, serving: Serving) -> None:
        """The time of an event of another year is not cropped, also beside one of today."""
        serving.send(event("old", ago=400 * 86400), event("new"))
        page.driver.get(f"{serving.url}/?since=2020-01-01T00:00:00Z")
        names_are(page, "new", "old")
        assert whole(page)

    def test_range(self, page: Browser, serving: Serving) -> None:
        """The list and the counts obey the range, a custom one too; an empty range says where the newest event is."""
        serving.send(event("old", ago=3 * 86400))
        page.until(lambda: page.text("#none").startswith("No events in this time range. The newest event is of"))
        assert not page.run("return document.querySelector('#empty').checkVisibility()")
        serving.send(event("new"))
        names_are(page, "new")
        click(page, "#range label:has([value='7d'])")
        names_are(page, "new", "old")
        page.until(lambda: "2" == page.text("#total"))
        assert whole(page)
        click(page, "#range label:has([value='custom'])")
        page.run(
            "const at = (days) => new Date(Date.now() - days * 864e5 - new Date().getTimezoneOffset() * 6e4).toISOString().slice(0, 16);"
            "for (const [id, days] of [['since', 4], ['until', 2]]) { const f = document.getElementById(id); f.value = at(days);"
            " f.dispatchEvent(new Event('change')); }"
        )
        names_are(page, "old")
        page.until(lambda: "1" == page.text("#total"))
        assert "since=" in page.run("return location.search")
        assert page.text("#zone").startswith("Times are in ")

    @pytest.mark.parametrize(
        ("given", "unread"),
        [
            ("since=2999-01-01T00:00:00Z", "since"),
            ("since=2026-11-20T00:00:00Z&until=2026-11-10T00:00:00Z", "since, until"),
            ("until=2026-11-20T00:00:00Z", "until"),
            ("since=%2B020000-01-01T00:00:00Z", "since"),
            ("within=99999999999999999999999d", "within"),
        ],
    )
    def test_no_range(self, given: str, unread: str, page: Browser, serving: Serving) -> None:
        """Times in an address that are no range are left out and named; the page shows its usual range."""
        serving.send(event("new"))
        page.driver.get(f"{serving.url}/?{given}")
        page.until(lambda: ["new"] == names(page) and "1" == page.text("#total"))
        assert f"Not understood in the address, and left out: {unread}." == page.text("#unread")

    def test_exact_range(self, page: Browser, serving: Serving) -> None:
        """A range of some seconds has just these, and a range of years says them."""
        at = {"event_time": "2024-02-03T10:00:45Z"}
        serving.send(event("in") | at, event("out") | at | {"event_time": "2024-02-03T10:00:25Z"})
        page.driver.get(f"{serving.url}/?since=2024-02-03T10:00:30Z&until=2024-02-03T10:01:00Z")
        page.until(
            lambda: ["in"] == names(page) and ("1", "one bar: 1 s") == (page.text("#total"), page.text("#readout"))
        )
        page.driver.get(f"{serving.url}/?since=2016-02-03T10:00:00Z&until=2024-03-03T10:00:00Z")
        page.until(lambda: "2" == page.text("#total"))
        assert ("2016", "2024") == tuple(page.text(f"#axis-{end}").split()[2][:4] for end in ("begin", "end"))
        assert "2024" in page.text("#list time")

    def test_many_names(self, page: Browser, serving: Serving) -> None:
        """The chart counts every name, and each metric can be chosen, where there are more names than the server tells apart."""
        serving.send(*[event(f"n{n:03}") for n in range(60)], event("z", "metric", value=5), event("zz", "log"))
        page.until(lambda: "62" == page.text("#total"))
        assert ["behavioral 60", "metric 1", "log 1", "other 0"] == page.texts("#legend li")
        page.until(lambda: "1 value" == page.text("#spread-note"))
        assert ["z"] == page.texts("#metric option")

    def test_large_numbers(self, page: Browser, serving: Serving) -> None:
        """A group keeps its number as it was written, and a click on it filters by that."""
        serving.send(event("a", user=2**53 + 1))
        page.driver.get(f"{serving.url}/?by=user")
        page.until(lambda: ["9007199254740993"] == page.texts("#names .name"))
        click(page, "#names .name")
        page.until(lambda: ["user=9007199254740993 ×"] == page.texts("#chips button") and "1" == page.text("#total"))

    def test_clicks(self, page: Browser, serving: Serving) -> None:
        """A click on a name in the list, or on a value of an opened event, filters by it."""
        self.fill(serving)
        page.until(lambda: 14 == len(names(page)))
        page.run("document.querySelector('#list details').open = true")
        page.until(lambda: "service_name=api" in page.texts("#list .offer"))
        page.run(
            "[...document.querySelectorAll('#list .offer')].find((e) => e.textContent === 'service_name=api').click()"
        )
        page.until(lambda: 4 == len(names(page)))
        click(page, "#list .event:last-child .name")
        names_are(page, "deploy-success", "deploy-success")
        click(page, "#chips button")
        page.until(lambda: 7 == len(names(page)))

    def test_csv(self, page: Browser, serving: Serving, tmp_path: Path) -> None:
        """What is seen is saved as CSV, and no cell of it is run by a spreadsheet."""
        page.driver.execute_cdp_cmd("Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(tmp_path)})
        self.fill(serving)
        serving.send(event("m", "metric", value=-5, service_name="@x"))
        choose(page, "#by", "service_name")
        page.until(lambda: "@x" in figures(page) and page.texts("#value-rows tr") and 15 == len(names(page)))
        serving.post(b"=not, an event")
        refresh(page)
        page.until(lambda: 1 == len(page.texts("#rejected .reason")))
        rows = {}
        buttons = (("time", "counts"), ("events", "events"), ("values", "values"), ("rejected", "rejected"))
        for button, name in buttons:
            click(page, f"#{button}-csv")
            file = tmp_path / f"rillevents-{name}.csv"
            page.until(lambda file=file: file.exists() and file.stat().st_size)
            rows[name] = list(csv.DictReader(io.StringIO(file.read_text("utf-8-sig"))))
        sums: dict[str, int] = {}
        for row in rows["counts"]:
            sums[row["service_name"]] = sums.get(row["service_name"], 0) + int(row["count"])
        assert {"web": 8, "api": 4, "": 1, "'=cmd": 1, "'@x": 1} == sums
        assert {"web", "api", "", "'=cmd", "'@x"} == {row["service_name"] for row in rows["events"]}
        assert "-5" in {row["value"] for row in rows["events"]}
        assert {"web": "2.5", "api": "20"} == {row["service_name"]: row["p50"] for row in rows["values"]}
        assert [("'=not, an event", "false")] == [(row["line"], row["cut"]) for row in rows["rejected"]]


class TestHostile:
    def fill(self, serving: Serving) -> None:
        """Send all that is hostile, as events and as what is rejected."""
        for more in HOSTILE:
            serving.send(event() | more)
        line = json.dumps(event("exact"))[:-1] + ',"big":12345678901234567890123,"tiny":1.50,"no":1e999}'
        assert 200 == serving.post(line.encode())
        for text in (
            MARKUP,
            json.dumps({"event_id": MARKUP, "event_time": MARKUP, "event_type": "x", "event_name": "\u202ex"}),
        ):
            serving.post(text.encode(), "/local/track")

    def test_markup(self, page: Browser, serving: Serving) -> None:
        """Markup in whatever field runs nothing, makes no element, and violates no policy: it is text like any other."""
        self.fill(serving)
        names_hold(page, "exact")
        refresh(page)
        page.until(lambda: 2 == len(page.texts("#rejected .reason")))
        page.run("document.querySelectorAll('details').forEach((e) => { e.open = true })")
        page.until(lambda: len(page.texts("#list pre")) == len(HOSTILE) + 1)
        assert MARKUP in names(page)
        assert MARKUP in page.texts("#rejected pre")
        assert None is page.run("return window.hit ?? null")
        assert 0 == page.run("return document.querySelectorAll('main img, main script, main svg[onload]').length")
        assert [] == page.console()
        assert "live" == page.text("#state-text")

    def test_what_cannot_be_seen(self, page: Browser, serving: Serving) -> None:
        """Controls and marks that turn text round are shown as what they are; letters of any script, and emoji, as themselves."""
        self.fill(serving)
        names_hold(page, "exact")
        assert {"\\u{202e}gnp.exe\\u{2066}", "😀👩‍👩‍👧", "__proto__", "*[?]"} <= set(names(page))
        told = " ".join(page.texts("#list .attributes"))
        assert "\\u{0}\\u{7}\\u{1b}[31m\\u{d}\\u{a}" in told
        assert "\\u{e0041}" in told
        assert "שלום עולם" in told
        assert not set("\u202e\u2066\x00\x1b\u200b") & set(page.text("body"))

    def test_numbers(self, page: Browser, serving: Serving) -> None:
        """A number is shown as it was written, also where JavaScript could not hold it."""
        self.fill(serving)
        names_hold(page, "exact")
        told = next(text for text in page.texts("#list .attributes") if "big=" in text)
        assert "big=12345678901234567890123 tiny=1.50 no=1e999 " == told

    def test_values(self, page: Browser, serving: Serving) -> None:
        """The largest, the smallest, and the metric with the oddest name have a histogram like any other."""
        self.fill(serving)
        refresh(page)
        page.until(lambda: "1e308" in page.texts("#percentiles dd"))
        page.run(
            "const m = document.querySelector('#metric'); m.value = '*[?]'; m.dispatchEvent(new Event('change', {bubbles: true}))"
        )
        page.until(lambda: "4.94e-324" in page.texts("#percentiles dd"))

    def test_choosing(self, page: Browser, serving: Serving) -> None:
        """A name that is itself a pattern, or markup, can be chosen like any other, and finds its own events alone."""
        self.fill(serving)
        refresh(page)
        page.until(lambda: 10 == len(page.texts("#names .name")))
        for name in ("*[?]", MARKUP):
            page.run(
                "[...document.querySelectorAll('#names .name')].find((e) => e.textContent.startsWith(arguments[0])).click()",
                name[:20],
            )
            names_are(page, name)
            click(page, "#clear")
            page.until(lambda: 10 == len(page.texts("#names .name")))

    @pytest.mark.parametrize("width", [400, 1400])
    def test_width(self, width: int, page: Browser, serving: Serving) -> None:
        """Whatever an event holds, the page is no wider than the window."""
        page.look("light", width, 900)
        self.fill(serving)
        refresh(page)
        page.until(lambda: "exact" in names(page) and page.texts("#rejected .reason") and page.texts("#names .name"))
        page.run("document.querySelectorAll('details').forEach((e) => { e.open = true })")
        page.until(lambda: page.texts("#list pre"))
        assert page.run("return document.documentElement.scrollWidth") <= width


class TestConnection:
    def test_nothing_leaves(self, page: Browser, serving: Serving) -> None:
        """The page asks its own server, and nobody else."""
        serving.send(event(text="http://evil.test/"))
        names_are(page, "hello")
        asked = [url for url in page.requested() if not url.startswith("about:")]
        assert f"{serving.url}/page.css" in asked
        assert any(url.startswith(f"{serving.url}/api/events?") for url in asked)
        assert [] == [url for url in asked if not url.startswith(f"{serving.url}/")]
        assert [] == page.console()

    def test_the_policy_holds(self, page: Browser, serving: Serving) -> None:
        """Should markup ever get into the page, the browser would not run it, nor ask another host."""
        with elsewhere() as other:
            hostile = f"<img src='http://evil.test:{other.port}/x' onerror='window.hit=1'>"
            page.run("document.body.insertAdjacentHTML('beforeend', arguments[0])", hostile)
            page.until(lambda: any("Content Security Policy" in line for line in page.console()))
            assert "TypeError" in page.later(f"await fetch('http://evil.test:{other.port}/')")
            assert [] == other.asked
        assert None is page.run("return window.hit ?? null")

    def test_restart(self, page: Browser, tmp_path: Path) -> None:
        """When the server is gone the page says so and keeps what it has; when it is back, it goes on by itself."""
        (tmp_path / "user").mkdir()
        tool = Tool(tmp_path / "home")
        with Serving(tool) as serving:
            serving.send(event("before"))
            show(page, serving)
            names_are(page, "before")
        page.until(lambda: page.run("return document.querySelector('#gone').checkVisibility()"))
        assert ("server gone", ["before"]) == (page.text("#state-text"), names(page))
        assert f"No answer from 127.0.0.1:{serving.port}." == page.text("#gone-what")
        with Serving(tool, port=serving.port) as again:
            again.send(event("after"))
            page.until(lambda: ["after", "before"] == names(page))
            page.until(lambda: not page.run("return document.querySelector('#gone').checkVisibility()"))
            assert "live" == page.text("#state-text")
            # And a server that cannot look into its store says why.
            damage(tool)
            page.until(lambda: "server error" == page.text("#state-text"))
            assert "not a regular file" in page.text("#gone-what")
            Path(tool.paths.default_store).rmdir()
            again.send(event("anew"))
            names_are(page, "anew")

    def test_a_choice_that_is_refused(self, page: Browser, serving: Serving) -> None:
        """What the server cannot answer is said, without a promise of another try; whatever is chosen next is shown."""
        serving.send(event("a", k="v" * 3000))
        page.driver.get(f"{serving.url}/?by=k")
        page.until(lambda: page.texts("#names button.name"))
        click(page, "#names button.name")
        page.until(lambda: page.texts("#chips button") and "live" == page.text("#state-text"))
        names_are(page, "a")
        page.driver.get(f"{serving.url}/?name={'x' * 8193}")
        page.until(lambda: "not answered" == page.text("#state-text"))
        assert ("The server says: name is too long.", "") == (page.text("#gone-what"), page.text("#gone-next"))
        page.driver.back()
        names_are(page, "a")

    def test_password(self, page: Browser, tmp_path: Path) -> None:
        """Where a password is asked for, the page works once the browser knows it, and shows nothing before."""
        (tmp_path / "user").mkdir()
        with Serving(Tool(tmp_path / "home"), "--user", "ada", RILLEVENTS_SERVE_PASSWORD="s3cret") as serving:
            assert 401 == serving.get("/api/events")[0]
            page.driver.get(serving.url.replace("://", "://ada:s3cret@"))
            page.until(lambda: "live" == page.text("#state-text"))

    def test_unseen(self, page: Browser, serving: Serving) -> None:
        """Nobody is asked anything while the page is not looked at; when it is again, it is up to date at once."""
        serving.send(event("before"))
        names_are(page, "before")
        hide = "Object.defineProperty(document, 'hidden', {value: arguments[0], configurable: true}); document.dispatchEvent(new Event('visibilitychange'))"
        page.run(hide, True)
        time.sleep(0.5)
        page.requested()
        serving.send(event("meanwhile"))
        time.sleep(3)
        assert [] == page.requested()
        page.run(hide, False)
        names_are(page, "meanwhile", "before")

    @pytest.mark.parametrize("scheme", ["light", "dark"])
    def test_contrast(self, scheme: str, page: Browser, serving: Serving) -> None:
        """In the light and in the dark, text stands out from what is behind it."""
        serving.send(event("hello", plan="pro"))
        serving.post(b"bad\n")
        page.look(scheme, 1400, 1000)
        refresh(page)
        page.until(lambda: names(page) and page.texts("#rejected .reason"))
        assert (scheme == "dark") == (luminance(style(page, "body", "color")) > 0.5)
        panel = luminance(style(page, ".panel", "background-color"))
        for selector in (
            "h2",
            "#list .name",
            "#list .key",
            "#list time",
            "#rejected .reason",
            "#readout",
            "#names .total",
        ):
            text = luminance(style(page, selector, "color"))
            assert (max(text, panel) + 0.05) / (min(text, panel) + 0.05) >= 4.5, selector


def style(page: Browser, selector: str, key: str) -> str:
    """Return what an element's style is, in the end."""
    script = "return getComputedStyle(document.querySelector(arguments[0])).getPropertyValue(arguments[1])"
    return str(page.run(script, selector, key))


def luminance(color: str) -> float:
    """Return the relative luminance of `rgb(r, g, b)`, as the guidelines for accessibility define it."""
    parts = [int(part) / 255 for part in color[4:-1].split(",")]
    linear = [part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))
