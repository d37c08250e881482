"""Thirty days of events that a seed makes: logins, deploys and build times of some services, by installs that come one after another.

    python tests/thirty_days.py URL [EVENTS]

Sends them to a server, such as http://127.0.0.1:8787, so that its page has something to show.
"""

from __future__ import annotations

import json
import random
import sys
import time
import urllib.request
from collections.abc import Iterator
from itertools import islice
from typing import Any

from rillevents.event import format_time

DAYS = 30
DAY_US = 86_400_000_000
SERVICES = ("api", "web", "worker", "cron")
INSTALLS = 2000


def thirty_days(events: int, end_us: int, seed: int = 18) -> Iterator[dict[str, Any]]:
    """Yield events of the thirty days before *end_us*, by their time; each has a time of its own, in whole microseconds."""
    dice = random.Random(seed)
    start_us = end_us - DAYS * DAY_US
    found: list[tuple[int, dict[str, Any]]] = []

    def add(us: int, kind: str, name: str, **more: Any) -> None:
        if us < end_us and len(found) < events:
            found.append((us, {"event_type": kind, "event_name": name, **more}))

    firsts = [start_us + int(dice.random() ** 1.3 * DAYS * DAY_US) for _ in range(INSTALLS)]
    while len(found) < events:
        install = dice.randrange(INSTALLS)
        at = dice.randrange(firsts[install], end_us)
        who = {"install_id": f"00000000-0000-4000-8000-{install:012x}"}
        service = dice.choices(SERVICES, (5, 4, 2, 1))[0]
        chance = dice.random()
        if chance < 0.5:
            add(at, "behavioral", "login-start", **who, plan=dice.choice(("free", "pro")))
            if dice.random() < 0.8:
                add(at + int(dice.expovariate(1 / 240) * 1e6) + 1, "behavioral", "login-success", **who, plan="pro")
        elif chance < 0.6:
            add(at, "behavioral", "deploy-success", **who, service_name=service, region=dice.choice(("eu-1", "us-2")))
        else:
            seconds = round(dice.lognormvariate(3 + 0.3 * SERVICES.index(service), 0.5), 2)
            add(at, "metric", "build-seconds", **who, service_name=service, value=seconds)
    taken: set[int] = set()
    for us, event in sorted(found, key=lambda each: each[0]):
        moment = us
        while moment in taken:
            moment += 1
        taken.add(moment)
        yield {"event_id": f"thirty-{seed}-{len(taken)}", "event_time": format_time(moment * 1000), **event}


def send(url: str, events: int, end_us: int) -> None:
    """Send them to a server."""
    made = thirty_days(events, end_us)
    while some := list(islice(made, 2000)):
        body = "\n".join(json.dumps(event) for event in some).encode()
        request = urllib.request.Request(f"{url}/events/default", body, {"Content-Type": "application/x-ndjson"})
        with urllib.request.urlopen(request, timeout=60) as response:
            response.read()


if __name__ == "__main__":
    send(sys.argv[1], int(sys.argv[2]) if sys.argv[2:] else 200_000, time.time_ns() // 1000)
