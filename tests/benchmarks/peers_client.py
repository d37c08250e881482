"""One library in a hot loop: rillevents or a peer of it, in a process of its own, with the Python where it is installed.

    python tests/benchmarks/peers_client.py ROW CALLS raised|default PORT PATH

Prints as JSON the mean time of a call in microseconds, when the first one began (the clock is the whole machine's), how many
seconds it all took until the library said that it was done, and hosts other than 127.0.0.1 that it asked for (it gets none).
Rows in a coroutine time each call by itself, since it is the longest that an event loop notices.

Everybody gets the same event: six attributes that are the process's, three that are the call's. Where a library has a place
for the former (a resource, a scope, super properties), they are put there once, as its manual says; else into each call. With
`raised` the limit of the queue is so high that nothing is dropped; all else, the size of a batch above all, is as it comes.
"""

from __future__ import annotations

import asyncio
import json
import socket
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

NAME = "checkout-finished"
USER_ID = "u-48213"
OURS = {
    "service_name": "checkout",
    "service_version": "1.4.2",
    "service_commit": "9f3c2ab",
    "is_dev": False,
    "region": "eu",
}
# Analytics insist on a user's ID as an argument of its own, and get it as that alone; all others get it as an attribute.
COMMON = {**OURS, "user_id": USER_ID}
# Long enough that no library gives up: used where limits are raised, since then it is not time that is measured.
ENOUGH = 120.0


@dataclass(frozen=True)
class Run:
    """What a library is asked to do: one call for each of *requests*."""

    requests: list[str]
    raised: bool
    port: int
    path: str
    # What each call took, in seconds, in a row that times them.
    each: list[float] = field(default_factory=list)

    @property
    def url(self) -> str:
        """The sink."""
        return f"http://127.0.0.1:{self.port}"

    def limit(self, name: str) -> dict[str, int]:
        """Return the argument that raises a queue's limit, or none."""
        return {name: len(self.requests) + 1} if self.raised else {}


# Each row is a generator that yields when everything is ready, and again after the last call; then it delivers what is left.
# The loop stands in each of them: a function in between would be a part of every call.
Steps = Iterator[None]


def spool(run: Run) -> Steps:
    """Record into the spool."""
    from rillevents import Client, SpoolSink

    return _rillevents(run, Client(SpoolSink(run.path), attributes=COMMON))


def spool_unredacted(run: Run) -> Steps:
    """Record into the spool, and look for no secrets."""
    from rillevents import Client, SpoolSink

    return _rillevents(run, Client(SpoolSink(run.path), attributes=COMMON, redactor=None))


def intake(run: Run) -> Steps:
    """Record into memory, and deliver in the background."""
    from rillevents import Client, IntakeSink

    sink = IntakeSink(f"{run.url}/events/default", **run.limit("buffer_size"))
    return _rillevents(run, Client(sink, attributes=COMMON))


def configured(run: Run) -> Steps:
    """Record into the spool with the client that a service has."""
    return _rillevents(run, _configured(run, None))


def every_minute(run: Run) -> Steps:
    """The same, with the thread that delivers: as in a service, most calls meet no delivery."""
    return _rillevents(run, _configured(run, 60))


def every_moment(run: Run) -> Steps:
    """The same, delivering all the time."""
    return _rillevents(run, _configured(run, 0.05))


def _configured(run: Run, flush_every: float | None) -> Any:
    from rillevents import Client

    environ = {"RILLEVENTS_HOME": run.path}
    if flush_every:
        environ["RILLEVENTS_INTAKE_URL"] = f"{run.url}/events/default"
    return Client.from_config(environ=environ, flush_every=flush_every).with_attributes(COMMON)


def spool_coroutine(run: Run) -> Steps:
    """Record into the spool within a coroutine."""
    from rillevents import Client, SpoolSink

    client = Client(SpoolSink(run.path), attributes=COMMON)
    call = {"seconds": 0.25, "outcome": "success"}
    yield
    asyncio.run(_in_turns(run, lambda request: client.record("behavioral", NAME, {"request": request, **call})))
    yield
    client.close()


async def _in_turns(run: Run, call: Callable[[str], object]) -> None:
    """Time each call, and let the event loop have its turn after it."""
    now, note = time.perf_counter, run.each.append
    for request in run.requests:
        started = now()
        call(request)
        note(now() - started)
        await asyncio.sleep(0)


def _rillevents(run: Run, client: Any) -> Steps:
    yield
    for request in run.requests:
        client.record("behavioral", NAME, {"request": request, "seconds": 0.25, "outcome": "success"})
    yield
    if run.raised:
        client.flush(ENOUGH)
    else:
        client.flush()
    client.close()


def system_calls(run: Run) -> Steps:
    """Make the two system calls that storing an event takes, with lines that cost nothing: no client can be below that."""
    import os

    os.makedirs(f"{run.path}/spool/v1")
    name = f"{run.path}/spool/v1/live-00000000000000000000-0123456789abcdef.ndjson"
    fd = os.open(name, os.O_RDWR | os.O_APPEND | os.O_CREAT)
    fields = {
        **COMMON,
        "event_id": "01a20a40-16f4-7ab6-8d3c-3f4d94ae3d34",
        "event_time": "2026-11-23T21:11:41.556347394Z",
    }
    lines = [
        json.dumps({**fields, "event_name": NAME, "request": request}).encode() + b"\n" for request in run.requests
    ]
    yield
    for line in lines:
        os.write(fd, line)
        os.lstat(name)
    yield
    os.close(fd)


def stdlib(run: Run) -> Steps:
    """Write lines of JSON into a file with what Python comes with."""
    handler, info = _logging(run)
    yield
    for request in run.requests:
        attributes = {"request": request, "seconds": 0.25, "outcome": "success"}
        info(NAME, extra={"attributes": attributes})
    yield
    handler.close()


def stdlib_coroutine(run: Run) -> Steps:
    """The same within a coroutine."""
    handler, info = _logging(run)
    call = {"seconds": 0.25, "outcome": "success"}
    yield
    asyncio.run(_in_turns(run, lambda request: info(NAME, extra={"attributes": {"request": request, **call}})))
    yield
    handler.close()


def _logging(run: Run) -> tuple[Any, Callable[..., None]]:
    import logging
    import os
    from datetime import UTC, datetime
    from uuid import uuid4

    class Lines(logging.Formatter):
        def format(self, record: Any) -> str:
            event = {
                "event_id": str(uuid4()),
                "event_time": datetime.fromtimestamp(record.created, UTC).isoformat(),
                "event_type": "behavioral",
                "event_name": record.msg,
                **COMMON,
                **record.attributes,
            }
            return json.dumps(event)

    os.makedirs(run.path)
    handler = logging.FileHandler(f"{run.path}/events.ndjson")
    handler.setFormatter(Lines())
    logger = logging.getLogger("events")
    logger.setLevel(logging.INFO)
    logger.propagate = False
    logger.addHandler(handler)
    return handler, logger.info


def opentelemetry(run: Run) -> Steps:
    """Emit log records that are events; OpenTelemetry gives them a time, but no ID."""
    from opentelemetry._logs import SeverityNumber
    from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
    from opentelemetry.sdk._logs import LoggerProvider
    from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
    from opentelemetry.sdk.resources import Resource

    provider = LoggerProvider(Resource(COMMON))
    exporter = OTLPLogExporter(endpoint=f"{run.url}/v1/logs")
    provider.add_log_record_processor(BatchLogRecordProcessor(exporter, **run.limit("max_queue_size")))
    logger, info = provider.get_logger("benchmark"), SeverityNumber.INFO
    yield
    for request in run.requests:
        attributes = {"request": request, "seconds": 0.25, "outcome": "success"}
        logger.emit(event_name=NAME, severity_number=info, attributes=attributes)
    yield
    provider.force_flush()
    provider.shutdown()


def sentry(run: Run) -> Steps:
    """Write structured logs."""
    import sentry_sdk.logger
    from sentry_sdk._log_batcher import LogBatcher

    if run.raised:
        # No option does this: what waits for the next envelope is limited by a constant.
        LogBatcher.MAX_BEFORE_DROP = len(run.requests) + 1
    sentry_sdk.init(
        dsn=f"http://public@127.0.0.1:{run.port}/1",
        enable_logs=True,
        # Else it would ask git.
        release=OURS["service_version"],
        default_integrations=False,
        auto_enabling_integrations=False,
        auto_session_tracking=False,
        send_client_reports=False,
        **run.limit("transport_queue_size"),
    )
    sentry_sdk.get_global_scope().set_attributes(COMMON)
    info = sentry_sdk.logger.info
    yield
    for request in run.requests:
        info(NAME, attributes={"request": request, "seconds": 0.25, "outcome": "success"})
    yield
    timeout = ENOUGH if run.raised else None
    sentry_sdk.flush(timeout)
    sentry_sdk.get_client().close(timeout)


def mixpanel(run: Run) -> Steps:
    """Track into a buffer that is sent inside of every fiftieth call, the most that it takes."""
    from mixpanel import BufferedConsumer, Mixpanel

    consumer = BufferedConsumer(events_url=f"{run.url}/track")
    client = Mixpanel("token", consumer)
    yield
    for request in run.requests:
        properties = {**OURS, "request": request, "seconds": 0.25, "outcome": "success"}
        client.track(USER_ID, NAME, properties)
    yield
    consumer.flush()


def segment(run: Run) -> Steps:
    """Track; the loop ends in `shutdown`, which waits for the queue to be empty."""
    from segment.analytics.client import Client

    client = Client("key", host=run.url, **run.limit("max_queue_size"))
    yield
    for request in run.requests:
        properties = {**OURS, "request": request, "seconds": 0.25, "outcome": "success"}
        client.track(user_id=USER_ID, event=NAME, properties=properties)
    yield
    client.shutdown()


def posthog(run: Run) -> Steps:
    """Capture; without a personal key no feature flags are polled."""
    from posthog import Posthog

    client = Posthog("key", host=run.url, super_properties=OURS, **run.limit("max_queue_size"))
    yield
    for request in run.requests:
        properties = {"request": request, "seconds": 0.25, "outcome": "success"}
        client.capture(NAME, distinct_id=USER_ID, properties=properties)
    yield
    client.shutdown()


ROWS: dict[str, Callable[[Run], Steps]] = {
    row.__name__: row
    for row in (
        system_calls,
        spool,
        spool_unredacted,
        configured,
        every_minute,
        every_moment,
        spool_coroutine,
        intake,
        stdlib,
        stdlib_coroutine,
        opentelemetry,
        sentry,
        mixpanel,
        segment,
        posthog,
    )
}


def stay_on_loopback() -> list[str]:
    """Refuse to find any host but 127.0.0.1, and return the list of those that will be asked for."""
    strangers: list[str] = []
    find = socket.getaddrinfo

    def find_near(host: Any, *rest: Any, **more: Any) -> Any:
        if host not in ("127.0.0.1", b"127.0.0.1"):
            strangers.append(str(host))
            raise OSError(f"the benchmark has no network, and no {host}")
        return find(host, *rest, **more)

    socket.getaddrinfo = find_near
    return strangers


def main() -> int:
    """Do what the arguments say, and print how long it took."""
    row, calls, limits, port, path = sys.argv[1:]
    strangers = stay_on_loopback()
    run = Run([f"call-{number:07}" for number in range(int(calls))], limits == "raised", int(port), path)
    steps = ROWS[row](run)
    next(steps)
    started, begun = time.monotonic(), time.perf_counter()
    next(steps)
    called = time.perf_counter()
    for _ in steps:
        raise AssertionError(f"{row} has one step too many")
    ended = time.perf_counter()
    figures = {"call": (called - begun) / len(run.requests) * 1e6, "started": started, "wall": ended - begun}
    each = sorted(run.each)
    quantiles = {"median": len(each) // 2, "p99": len(each) * 99 // 100, "longest": len(each) - 1}
    blocked = {name: each[number] * 1e6 for name, number in quantiles.items()} if each else {}
    print(json.dumps({**figures, "strangers": strangers, "blocked": blocked}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
