"""`rillevents flush` as a real process, against destinations that misbehave: what it says, and where the events are then."""

from __future__ import annotations

import email.utils
import gzip
import json
import math
import re
import signal
import socket
import ssl
import subprocess
import sys
import time
import warnings
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from support import PACE, Tool, need, snapshot

from rillevents.delivery import flush as delivery
from rillevents.delivery.exporters.intake import IntakeExporter
from rillevents.local import Paths
from rillevents.spool import create, view
from rillevents.spool.drain import Drain
from rillevents.testing import FakeIntake, Request, Response

from .faults.sandbox import Ended, Resolver, Running, until, watching
from .faults.socket_server import (
    OK,
    FaultServer,
    Script,
    answering,
    dripping,
    flooding,
    full_server,
    greeting,
    hasty,
    resetting,
    silent,
    sipping,
    stalling,
    stopping,
)

pytestmark = pytest.mark.unmeasured

USER, PASSWORD = "worker", "pa55-w0rd"
SECRETS = (PASSWORD, "d29ya2VyOnBhNTUtdzByZA==")
BUDGET = 2.0 * PACE
# What a process may take beyond its budget on a machine that has much else to do; far from the 30 s that it takes without one.
SLACK = 15.0 * PACE
PEAK_KIB = 120_000


def line(number: int, pad: str = "") -> bytes:
    """Return an event that no JSON writer would write like this, so that it is known again only if nobody touched it."""
    return (
        f'{{"event_id": "e-{number:05}" ,"event_time":"2026-11-23T10:00:00Z","event_type":"t",'
        f'"event_name":"n\\u00e9","z":1.50,  "☃":"{pad}"}}\n'
    ).encode()


EIGHT = tuple(line(number) for number in range(8))
BIG = tuple(line(number, "x" * 30_000) for number in range(150))
MANY = tuple(line(number) for number in range(10_000))


@dataclass(frozen=True)
class Place:
    """Where a flush is sent to, and what was seen there: how often somebody came, and which events were accepted."""

    url: str
    seen: Callable[[], int]
    arrived: Callable[[], list[bytes]] = list
    environ: Mapping[str, str] = field(default_factory=dict)


At = Callable[[Path], AbstractContextManager[Place]]


@dataclass(frozen=True)
class Fault:
    """What a destination does to the events, and the expected result; events not mentioned are kept."""

    at: At
    code: int
    outcome: str
    delivered: int = 0
    rejected: int = 0
    says: str = ""
    because: str = ""
    seen: tuple[int, int] = (1, 99)
    seconds: tuple[float, float] = (0, SLACK)
    lines: tuple[bytes, ...] = EIGHT
    timeout: float = 40 * PACE
    settings: str = ""


@dataclass(frozen=True)
class After:
    """What a flush came to, and what a second one then delivered to a healthy intake."""

    ended: Ended
    document: Mapping[str, object]
    seen: int
    arrived: list[bytes]
    kept: list[bytes]
    rejected: list[tuple[bytes, str]]
    delivered_next: list[bytes]
    counted: Mapping[str, int]
    files: Mapping[str, bytes]


# --- Where events are sent to -------------------------------------------------------------------------------------------


def sockets(*scripts: Script, tls: bool = False, **settings: int) -> At:
    """A server of raw bytes, of which everything that was answered counts as accepted."""

    @contextmanager
    def at(folder: Path) -> Iterator[Place]:
        with FaultServer(*scripts, **settings) as server:  # type: ignore[arg-type]
            url = server.url.replace("http:", "https:") if tls else server.url
            yield Place(url, lambda: server.connections, lambda: bodies(server.requests))

    return at


def bodies(requests: Sequence[bytes]) -> list[bytes]:
    return [line for request in requests for line in request.partition(b"\r\n\r\n")[2].splitlines(keepends=True)]


def intake(reply: Callable[[Request], Response | int] | Response | int, *script: Response | int) -> At:
    """An intake that answers *script* first, and *reply* from then on; whatever it says, it is asked by POST alone."""

    @contextmanager
    def at(folder: Path) -> Iterator[Place]:
        with FakeIntake(USER, PASSWORD) as server:
            server.script += script
            server.respond = reply if callable(reply) else lambda request: reply
            yield Place(server.url, lambda: len(server.requests), lambda: server.lines)
            assert {("POST", "/events/default")} == {(request.method, request.path) for request in server.requests}

    return at


def redirecting(status: int, to: str) -> At:
    """An intake that sends its callers elsewhere; nobody may arrive there."""

    @contextmanager
    def at(folder: Path) -> Iterator[Place]:
        with FaultServer(answering(OK)) as elsewhere, FakeIntake(USER, PASSWORD) as server:
            target = to.format(elsewhere=elsewhere.url, here=server.url)
            server.respond = lambda request: Response(status, b"", {"Location": target})
            yield Place(server.url, lambda: len(server.requests))
            assert (0, ["POST"]) == (elsewhere.connections, [request.method for request in server.requests])

    return at


def tls_server(script: Script, *, name: str = "IP:127.0.0.1", trusted: bool = True, old: bool = False) -> At:
    """A server that speaks TLS with a certificate for *name*; what was read there counts as seen."""

    @contextmanager
    def at(folder: Path) -> Iterator[Place]:
        cert, key = folder / "cert.pem", folder / "key.pem"
        what = ["-subj", "/CN=x", "-addext", f"subjectAltName={name}", "-days", "2", "-nodes"]
        made = [
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-keyout",
            key,
            "-out",
            cert,
        ]
        subprocess.run([need("openssl"), *made, *what], check=True, capture_output=True)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(cert, key)
        if old:
            context.set_ciphers("ALL:@SECLEVEL=0")
            with warnings.catch_warnings(action="ignore"):
                context.minimum_version, context.maximum_version = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1
        with FaultServer(script, wrap=lambda plain: context.wrap_socket(plain, server_side=True)) as server:
            environ = {"SSL_CERT_FILE": str(cert)} if trusted else {}
            url = server.url.replace("http:", "https:")
            yield Place(url, lambda: len(server.requests), lambda: bodies(server.requests), environ)

    return at


@contextmanager
def closed_port(folder: Path) -> Iterator[Place]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    yield Place(f"http://127.0.0.1:{port}/", lambda: 1)


@contextmanager
def full_port(folder: Path) -> Iterator[Place]:
    with full_server() as url:
        yield Place(url, lambda: 1)


# --- What they do -------------------------------------------------------------------------------------------------------


def kept(at: At, says: str = "", **more: object) -> Fault:
    """Nobody has to act: tried until the time is up, and everything is kept."""
    return Fault(at, 75, "temporary", says=says, timeout=BUDGET, **more)  # type: ignore[arg-type]


def delivered(at: At, **more: object) -> Fault:
    return Fault(at, 0, "delivered", delivered=8, **more)  # type: ignore[arg-type]


def stopped(at: At, code: int, says: str, **more: object) -> Fault:
    """Somebody has to act: one request, and everything is kept."""
    outcome = {77: "refused", 78: "unconfigured"}[code]
    return Fault(at, code, outcome, says=says, seen=(1, 1), **more)  # type: ignore[arg-type]


def http(status: str, body: bytes = b"", *headers: str) -> bytes:
    return "\r\n".join([f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers, "", ""]).encode() + body


def named(*numbers: int, reason: object = "no such name") -> Response:
    return Response(200, json.dumps({"rejected": [{"line": number, "reason": reason} for number in numbers]}).encode())


def gzip_bomb() -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    megabyte = packer.compress(bytes(1 << 20)) + packer.flush(zlib.Z_FULL_FLUSH)
    return gzip.compress(b"")[:10] + megabyte * 800


HTTPS = "https://intake.test/events/default"
HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"
CUT_OFF = b"HTTP/1.1 %d No\r\nContent-Length: 1000\r\n\r\nnot a"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
UNREAD: Mapping[str, object] = {"lines": BIG, "settings": "[flush]\nbatch_bytes = '8MiB'\n"}
BUSY = http("503 Service Unavailable")

NO_CONNECTION = {
    "connection-refused": kept(closed_port, "connection refused"),
    "connecting-hangs": kept(full_port, "no answer within"),
    "tls-hangs": kept(sockets(silent, tls=True), "no answer within"),
    "tls-drips": kept(sockets(greeting(b"\x16\x03\x03\x3f\xff" + bytes(9999)), tls=True), "no answer within"),
    "tls-is-reset": kept(sockets(resetting(1), tls=True)),
    "tls-is-no-tls": kept(sockets(greeting(http("400 Bad Request"), 0), tls=True), "could not speak TLS"),
    "tls-too-old": kept(tls_server(answering(OK), old=True), "could not speak TLS", seen=(0, 0)),
    # Not tried again, but it is nobody's fault for good: the next flush may find it mended.
    "tls-not-trusted": kept(tls_server(answering(OK), trusted=False), "--ca-cert FILE", seen=(0, 0)),
    "tls-of-another": kept(tls_server(answering(OK), name="DNS:localhost"), "is not trusted", seen=(0, 0)),
    "tls-trusted": delivered(tls_server(answering(OK))),
}
BROKEN_REQUESTS = {
    "reset-before-the-request": kept(sockets(resetting(0))),
    "reset-within-its-head": kept(sockets(resetting(10))),
    "reset-within-its-body": kept(sockets(resetting(100_000), receive_buffer=1024), **UNREAD),
    "reset-after-it": kept(sockets(resetting())),
    "closed-after-it": kept(sockets(answering(b"")), "an incomplete or invalid HTTP response"),
    "nothing-is-read": kept(sockets(silent, receive_buffer=1024), "no answer within", **UNREAD),
    "half-is-read": kept(sockets(stopping(2_000_000), receive_buffer=1024), "no answer within", **UNREAD),
    "byte-by-byte-is-read": kept(sockets(sipping, receive_buffer=1024), "no answer within", **UNREAD),
    "accepted-before-it-was-sent": kept(
        sockets(hasty(OK), receive_buffer=1024), "before it had received all", **UNREAD
    ),
    "refused-before-it-was-sent": stopped(
        sockets(hasty(http("401 No")), receive_buffer=1024), 77, "HTTP 401", **UNREAD
    ),
    "refused-and-reset": stopped(sockets(resetting(answer=CUT_OFF % 401)), 77, "HTTP 401"),
    "broken-once": delivered(sockets(resetting(), answering(OK)), seen=(2, 2)),
    "accepted-and-reset-once": delivered(sockets(resetting(answer=b"HTTP/1.1 200 OK\r\n"), answering(OK)), seen=(2, 2)),
    "closed-between-batches": delivered(sockets(answering(OK)), seen=(4, 4), settings="[flush]\nbatch_events = 2\n"),
}
BROKEN_ANSWERS = {
    "no-answer": kept(sockets(stalling()), "no answer within"),
    "half-a-status-line": kept(sockets(answering(b"HTTP/1.1 2")), "an incomplete or invalid HTTP response"),
    "status-line-hangs": kept(sockets(stalling(b"HTTP/1.1 2")), "no answer within"),
    "status-line-drips": kept(sockets(dripping(b"", b"HTTP/1.1 200 " + b"O" * 9999)), "no answer within"),
    "status-line-alone": kept(sockets(answering(b"HTTP/1.1 200 OK\r\n")), "an incomplete or invalid HTTP response"),
    "reset-after-the-status-line": kept(sockets(resetting(answer=b"HTTP/1.1 200 OK\r\n"))),
    "headers-hang": kept(sockets(stalling(b"HTTP/1.1 200 OK\r\nX: ")), "no answer within"),
    "headers-drip": kept(sockets(dripping(b"", b"HTTP/1.1 200 OK\r\nX: " + b"x" * 9999)), "no answer within"),
    "reset-after-the-headers": kept(sockets(resetting(answer=HEAD))),
    "body-hangs": kept(sockets(stalling(HEAD + b"{")), "no answer within"),
    "body-drips": kept(sockets(dripping(HEAD, b" " * 9999)), "no answer within"),
    "reset-within-the-body": kept(sockets(resetting(answer=HEAD + b"{"))),
    "body-too-short": kept(sockets(answering(HEAD + b"{}")), "an incomplete or invalid HTTP response"),
    "chunks-drip": kept(sockets(dripping(CHUNKED, b"1\r\n \r\n" * 9999)), "no answer within"),
    "chunk-too-short": kept(sockets(answering(CHUNKED + b"5\r\nab")), "an incomplete or invalid HTTP response"),
    "chunk-of-size-zz": kept(sockets(answering(CHUNKED + b"zz\r\n")), "an incomplete or invalid HTTP response"),
    "chunk-of-size-minus-one": kept(sockets(answering(CHUNKED + b"-1\r\n")), "an incomplete or invalid HTTP response"),
    "chunk-beyond-64-bits": kept(
        sockets(answering(CHUNKED + b"f" * 40 + b"\r\n")), "an incomplete or invalid HTTP response"
    ),
    "no-last-chunk": kept(sockets(answering(CHUNKED + b"2\r\n{}\r\n")), "an incomplete or invalid HTTP response"),
    "length-minus-one": kept(sockets(answering(b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n"))),
    "two-lengths": kept(sockets(answering(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nContent-Length: 2\r\n\r\n{}"))),
    "unknown-encoding": kept(sockets(answering(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: x\r\n\r\n"))),
    "no-http": kept(sockets(answering(b"SSH-2.0-OpenSSH_9.6\r\n")), "an incomplete or invalid HTTP response"),
    "switching-protocols": kept(
        sockets(answering(b"HTTP/1.1 101 Up\r\nUpgrade: x\r\n\r\n")), "an incomplete or invalid HTTP response"
    ),
    "hints-come-first": delivered(sockets(answering(b"HTTP/1.1 103 Hints\r\n\r\n" * 3 + OK)), seen=(1, 1)),
    "http-1.0-without-a-length": delivered(sockets(answering(b"HTTP/1.0 200 OK\r\n\r\nthanks")), seen=(1, 1)),
}
ENDLESS = {
    "10-GB": kept(sockets(flooding(HEAD.replace(b"1000", b"10000000000"), b" " * 65536)), "more than 1048576 bytes"),
    "endless-body": kept(sockets(flooding(b"HTTP/1.1 200 OK\r\n\r\n", b" " * 65536)), "more than 1048576 bytes"),
    "endless-error": kept(sockets(flooding(b"HTTP/1.1 503 Busy\r\n\r\n", b" " * 65536)), "HTTP 503"),
    "endless-chunks": kept(sockets(flooding(CHUNKED, b"400\r\n" + b" " * 1024 + b"\r\n")), "more than 1048576 bytes"),
    "endless-chunks-of-a-byte": kept(sockets(flooding(CHUNKED, b"1\r\n \r\n" * 9999))),
    "endless-chunk-head": kept(
        sockets(flooding(CHUNKED + b"1;", b"x" * 65536)), "an incomplete or invalid HTTP response"
    ),
    "endless-trailers": kept(
        sockets(flooding(CHUNKED + b"0\r\n", b"X: y\r\n" * 9999)), "an incomplete or invalid HTTP response"
    ),
    "endless-status-line": kept(
        sockets(flooding(b"HTTP/1.1 200 ", b"O" * 65536)), "an incomplete or invalid HTTP response"
    ),
    "endless-header": kept(
        sockets(flooding(b"HTTP/1.1 200 OK\r\nX: ", b"x" * 65536)), "an incomplete or invalid HTTP response"
    ),
    "endless-headers": kept(
        sockets(flooding(b"HTTP/1.1 200 OK\r\n", b"X: y\r\n" * 9999)), "an incomplete or invalid HTTP response"
    ),
    "endless-hints": kept(sockets(flooding(b"", b"HTTP/1.1 103 Hints\r\n\r\n" * 999)), "no answer within"),
    # It is never unpacked: that would take 800 MB.
    "gzip-bomb": kept(
        sockets(answering(http("200 OK", gzip_bomb(), "Content-Encoding: gzip"))), "answered with more than"
    ),
}
ANSWERS = {
    **{f"{status}": delivered(intake(status), seen=(1, 1)) for status in (200, 201, 202, 204, 207)},
    "200-but-two": Fault(
        intake(named(2, 7)), 65, "rejected", delivered=6, rejected=2, because="no such name", seen=(1, 1)
    ),
    "200-but-nonsense": delivered(intake(Response(200, b'{"rejected": [{"line": 99}, {"line": "1"}, 7, null]}'))),
    "200-but-all": Fault(intake(named(*range(1, 9))), 65, "rejected", rejected=8, because="no such name"),
    "200-web-page": kept(intake(Response(200, b"<html>log in", {"Content-Type": "text/html"})), "login portal"),
    "200-web-page-unlabelled": kept(intake(Response(200, b"  <!DOCTYPE HTML><p>log in")), "login portal"),
    "511-login-portal": kept(intake(511), "HTTP 511"),
    "408": kept(intake(408), "HTTP 408", seen=(2, 99)),
    "503-for-longer": kept(intake(503), "HTTP 503", seen=(2, 99)),
    "503-for-a-while": delivered(intake(200, 503, 502, 504), seen=(4, 4)),
    "500-for-everything": kept(intake(500), "HTTP 500"),
    "500-for-a-while": delivered(intake(200, 500, 500), seen=(3, 3)),
    "401": stopped(intake(401), 77, "check the user and the password"),
    "403": stopped(intake(403), 77, "check the user and the password"),
    "404": stopped(intake(404), 78, "check the URL"),
    "410": stopped(intake(410), 78, "check the URL"),
    "405": stopped(intake(405), 78, "HTTP 405"),
    "415": stopped(intake(415), 78, "HTTP 415"),
    "400-for-everything": Fault(intake(400), 78, "unconfigured", says="every event is refused: HTTP 400"),
    "422-for-everything": Fault(intake(422), 78, "unconfigured", says="every event is refused: HTTP 422"),
    "413-over-a-limit": delivered(intake(lambda request: 413 if len(request.body) > 400 else 200), seen=(4, 20)),
    "413-for-one": Fault(
        intake(lambda request: 413 if b"e-00003" in request.body else 200), 65, "rejected", 7, 1, because="HTTP 413"
    ),
    # The order: what follows a batch that fails is not sent before it.
    "503-for-the-second-batch": Fault(
        intake(lambda request: 503 if b"e-00002" in request.body else 200),
        75,
        "temporary",
        delivered=2,
        timeout=BUDGET,
        settings="[flush]\nbatch_events = 2\n",
    ),
    "401-for-the-second-batch": Fault(
        intake(lambda request: 401 if b"e-00002" in request.body else 200),
        77,
        "refused",
        delivered=2,
        seen=(2, 2),
        settings="[flush]\nbatch_events = 2\n",
    ),
    "it-repeats-the-secrets": stopped(
        intake(lambda request: Response(403, f"who is {request.headers['authorization']} {PASSWORD}?".encode())),
        77,
        "who is Basic ***",
    ),
    "it-repeats-them-in-a-reason": Fault(
        intake(named(1, reason=f"{PASSWORD} {SECRETS[1]}")), 65, "rejected", 7, 1, because="*** ***"
    ),
}
RETRY_AFTER = {
    **{
        f"ignored-{name}": delivered(intake(200, Response(429, b"", {"Retry-After": text})), seen=(2, 2))
        for name, text in {
            "empty": "",
            "zero": "0",
            "negative": "-5",
            "words": "abc",
            "exponent": "1e400",
            "infinity": "inf",
            "past-date": "Wed, 21 Oct 2015 07:28:00 GMT",
            "no-date": "Thu, 32 Foo 2026 99:99:99 GMT",
            "year-99999": "Fri, 31 Dec 99999 23:59:59 GMT",
        }.items()
    },
    "ignored-two": delivered(
        sockets(answering(http("429 Slow", b"", "Retry-After: 1", "Retry-After: 9999"), OK)), seen=(1, 1)
    ),
    "waited-for": delivered(intake(200, Response(429, b"", {"Retry-After": "2"})), seen=(2, 2), seconds=(2, SLACK)),
    # A wait that ends too late is not begun: 75 at once.
    **{
        f"too-long-{name}": Fault(
            intake(Response(status, b"", {"Retry-After": text})),
            75,
            "temporary",
            seen=(1, 1),
            says=f"HTTP {status}",
        )
        for name, status, text in (
            ("seconds", 429, "9999999999"),
            ("minutes", 503, "300"),
            ("date", 429, email.utils.formatdate(time.time() + 86400, usegmt=True)),
        )
    },
}
REDIRECTS = {
    **{
        f"{status}-{name}": stopped(redirecting(status, to), 78, "redirects are not followed")
        for status, name, to in (
            (301, "elsewhere", "{elsewhere}"),
            (302, "elsewhere", "{elsewhere}"),
            (303, "elsewhere", "{elsewhere}"),
            (307, "elsewhere", "{elsewhere}"),
            (308, "elsewhere", "{elsewhere}"),
            (302, "without-a-location", ""),
            (307, "another-path", "/login?next=1"),
            (308, "loop", "{here}"),
            (307, "other-credentials", "http://a:b@127.0.0.1:9/"),
        )
    },
    "307-from-https-to-http": stopped(
        tls_server(answering(http("307 X", b"", "Location: http://127.0.0.1:9/"))), 78, "redirects are not followed"
    ),
}


def poison(status: int, numbers: Sequence[int], most: int, **more: object) -> Fault:
    """An intake that answers *status* to whatever contains one of these of 10,000 events; *most* requests find them."""
    bad = [f"e-{number:05}".encode() for number in numbers]

    def reply(request: Request) -> Response | int:
        return Response(status, b"no such thing") if any(name in request.body for name in bad) else 200

    found: dict[str, object] = {"delivered": 10_000 - len(bad), "rejected": len(bad), "because": f"HTTP {status}"}
    settled = {"code": 65, "outcome": "rejected", "seen": (10, most), "seconds": (0, 40 * PACE)} | found | more
    return Fault(intake(reply), lines=MANY, **settled)  # type: ignore[arg-type]


def spread(number: int) -> range:
    return range(7, 10_000, 10_000 // number)


# Ten batches of 1000. A bad event costs two requests for each of the 10 halvings below its batch, and some where a 500
# is asked again; neighbours share most of them.
TEN, EACH, AGAIN = 10, 2 * math.ceil(math.log2(IntakeExporter.most[0])), 6
POISON = {
    "400-for-1": poison(400, [637], TEN + EACH),
    "400-for-5-spread": poison(400, spread(5), TEN + 5 * EACH),
    "400-for-5-neighbours": poison(400, range(500, 505), TEN + EACH + 5 * 4),
    "400-for-20-spread": poison(400, spread(20), TEN + 20 * EACH),
    "422-for-20-neighbours": poison(422, range(9980, 10_000), TEN + EACH + 20 * 4),
    "500-for-1": poison(500, [637], TEN + EACH + AGAIN),
    "500-for-5-spread": poison(500, spread(5), TEN + 5 * (EACH + AGAIN)),
    # Only one that is sent again tells these from a server that went down: so one or two arrive twice.
    "500-for-2-neighbours": poison(500, [500, 501], TEN + EACH + 2 * AGAIN),
    "500-for-20-neighbours": poison(500, range(500, 520), TEN + EACH + 20 * 6),
    "500-for-2-in-both-halves": poison(500, [7, 507], TEN + 2 * EACH + 2 * AGAIN),
}
FAULTS: dict[str, Fault] = {
    **NO_CONNECTION,
    **BROKEN_REQUESTS,
    **BROKEN_ANSWERS,
    **ENDLESS,
    **ANSWERS,
    **{f"retry-after-{name}": fault for name, fault in RETRY_AFTER.items()},
    **REDIRECTS,
    **POISON,
}


# --- The tests ----------------------------------------------------------------------------------------------------------


def prepare(folder: Path, lines: Sequence[bytes] = EIGHT, settings: str = "") -> Tool:
    """Return the tool with a home of its own, in whose spool the lines are."""
    tool = Tool(folder / "home")
    (folder / "user").mkdir()
    slot = Path(create(tool.paths.spool_dir), "slot-0.ndjson")
    slot.touch(0o600)
    slot.write_bytes(b"".join(lines))
    (tool.home / "config.toml").write_text(settings)
    tool.environ |= {"RILLEVENTS_INTAKE_USER": USER, "RILLEVENTS_INTAKE_PASSWORD": PASSWORD}
    return tool


def flush(tool: Tool, url: str, *options: str, within: Callable[..., list[str | bytes]] | None = None) -> Running:
    """Start `flush --json` as a process."""
    words = tool.command("flush", "--json", *options)
    return Running(within(words) if within else words, tool.environ | {"RILLEVENTS_INTAKE_URL": url}, tool.home)


def deliver_the_rest(tool: Tool) -> list[bytes]:
    """Flush to a healthy intake, and return what it got."""
    with FakeIntake() as healthy:
        settings = {key: value for key, value in tool.environ.items() if key.startswith("RILLEVENTS_")}
        done = delivery.flush(Paths(settings | {"RILLEVENTS_INTAKE_URL": healthy.url}))
    assert 0 == done.exit_code, done
    return healthy.lines


def go_through(fault: Fault, folder: Path) -> After:
    """Flush to a destination with this fault, look at everything, and flush again to a healthy one."""
    tool = prepare(folder, fault.lines, fault.settings)
    with fault.at(folder) as place:
        tool.environ |= place.environ
        ended = flush(tool, place.url, "--timeout", str(fault.timeout)).end()
    document = json.loads(ended.stdout)
    left, files = tool.lines(), snapshot(tool.home)
    rejected = [(found.line, found.reason) for found in view.rejected(tool.paths.spool_dir)]
    arrived = place.arrived() if fault.delivered else []
    rest = deliver_the_rest(tool)
    ledger = view.ledger(tool.paths.spool_dir)
    assert ledger
    return After(ended, document, place.seen(), arrived, left, rejected, rest, ledger.counts, files)


@pytest.fixture(scope="module")
def after(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], After]]:
    """Go through the faults that were asked for, some at a time: most of them only wait."""
    mine = [item for item in request.session.items if item.module is request.module]
    asked = [item.callspec.params["name"] for item in mine if item.originalname == "test_fault"]
    with ThreadPoolExecutor(6) as pool:
        folders = {name: tmp_path_factory.mktemp("fault") for name in asked}
        found = {name: pool.submit(go_through, FAULTS[name], folder) for name, folder in folders.items()}
        yield lambda name: found[name].result()


@pytest.mark.slow
@pytest.mark.parametrize("name", FAULTS)
def test_fault(name: str, after: Callable[[str], After]) -> None:
    """Whatever the destination does: the code says who must act, no event is lost, and the rest follows unchanged."""
    fault, found = FAULTS[name], after(name)
    told, left = found.document, len(fault.lines) - fault.delivered - fault.rejected
    assert (fault.code, fault.outcome) == (found.ended.code, told["outcome"]), told
    assert (fault.delivered, fault.rejected, left) == (told["delivered"], told["rejected"], told["pending"])
    assert fault.says in str(told["reason"])
    assert fault.seen[0] <= found.seen <= fault.seen[1]
    assert fault.seconds[0] <= float(str(told["seconds"])) <= fault.seconds[1]
    # Where each event is.
    arrived, rejected = set(found.arrived), {event for event, _ in found.rejected}
    assert (fault.delivered, fault.rejected) == (len(arrived), len(found.rejected))
    assert [event for event in fault.lines if event not in arrived | rejected] == found.kept == found.delivered_next
    assert set(fault.lines) == arrived | rejected | set(found.kept)
    assert [] == [reason for _, reason in found.rejected if fault.because not in reason]
    assert (len(fault.lines) - fault.rejected, fault.rejected) == (
        found.counted["delivered"],
        found.counted["rejected"],
    )
    # What a flush must never do.
    assert found.ended.peak < PEAK_KIB
    written = [found.ended.stdout.encode(), found.ended.stderr.encode(), *found.files.values()]
    assert [] == [secret for secret in SECRETS for text in written if secret.encode() in text]


class TestNames:
    @pytest.mark.slow
    def test_a_name_server_that_never_answers(self, tmp_path: Path) -> None:
        """The total holds while the system's resolver hangs, and the process does not wait for it at its end."""
        tool = prepare(tmp_path)
        with Resolver() as resolver:
            started = time.monotonic()
            ended = flush(tool, HTTPS, "--timeout", str(BUDGET), within=resolver.within(tmp_path)).end()
            seconds = time.monotonic() - started
        assert resolver.asked.is_set()
        assert (75, "temporary", 8) == (ended.code, *(json.loads(ended.stdout)[key] for key in ("outcome", "pending")))
        assert seconds < SLACK
        assert list(EIGHT) == deliver_the_rest(tool)

    def test_a_program_that_flushes(self, tmp_path: Path) -> None:
        """A program that ends by itself while the resolver still hangs in its thread is not held up either."""
        tool = prepare(tmp_path)
        program = "from rillevents import Client; client = Client.from_config(); print(client.flush(1).outcome)"
        words = [sys.executable, "-c", program]
        with Resolver() as resolver:
            started = time.monotonic()
            environ = tool.environ | {"RILLEVENTS_INTAKE_URL": HTTPS}
            ended = Running(resolver.within(tmp_path)(words), environ, tmp_path).end()
            seconds = time.monotonic() - started
        assert resolver.asked.is_set()
        assert (0, "temporary\n", "") == (ended.code, ended.stdout, ended.stderr)
        assert seconds < SLACK

    @pytest.mark.slow
    @pytest.mark.parametrize("code", [2, 3], ids=["server-failure", "no-such-name"])
    def test_a_name_that_is_not_known(self, code: int, tmp_path: Path) -> None:
        """A name that cannot be resolved keeps everything, and the message says whose name it was."""
        tool = prepare(tmp_path)
        with Resolver(code) as resolver:
            ended = flush(tool, HTTPS, "--timeout", str(BUDGET), within=resolver.within(tmp_path)).end()
        assert 75 == ended.code
        assert "could not find the host of https://intake.test" in ended.stderr
        assert list(EIGHT) == deliver_the_rest(tool)


# --- Signals ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Hold:
    """Something that holds a flush up, and how to know that it does."""

    url: str
    reached: Callable[[], object]
    within: Callable[..., list[str | bytes]] | None = None


def holding(script: Script, *, tls: bool = False) -> Callable[[Path], AbstractContextManager[Hold]]:
    @contextmanager
    def hold(folder: Path) -> Iterator[Hold]:
        with FaultServer(script, receive_buffer=1024) as server:
            yield Hold(server.url.replace("http:", "https:" if tls else "http:"), lambda: server.reached.is_set())

    return hold


@contextmanager
def resolving(folder: Path) -> Iterator[Hold]:
    with Resolver() as resolver:
        yield Hold(HTTPS, lambda: resolver.asked.is_set(), resolver.within(folder))


@contextmanager
def connecting(folder: Path) -> Iterator[Hold]:
    with full_server() as url:
        port = int(url.rpartition(":")[2].strip("/"))
        before = syns_sent_to(port)
        yield Hold(url, lambda: syns_sent_to(port) > before)


def syns_sent_to(port: int) -> int:
    """Return how many sockets of this machine have sent a SYN (state 02) to this port, and nothing came back."""
    return len(re.findall(rf":{port:04X} 02 ", Path("/proc/net/tcp").read_text()))


@contextmanager
def backing_off(folder: Path) -> Iterator[Hold]:
    with FakeIntake() as server:
        server.respond = lambda request: Response(503, b"", {"Retry-After": "25"})
        yield Hold(server.url, lambda: server.requests)


@contextmanager
def waiting_for_another(folder: Path) -> Iterator[Hold]:
    """Another flush has the lock: the process asks for it again and again."""
    spool = folder / "home" / "spool" / "v1"
    with Drain(str(spool)), watching(spool / "flush.lock") as was_opened:
        yield Hold("http://127.0.0.1:9/", was_opened)


HOLDS: Mapping[str, Callable[[Path], AbstractContextManager[Hold]]] = {
    "resolving": resolving,
    "connecting": connecting,
    "handshake": holding(silent, tls=True),
    "upload": holding(stopping(1000)),
    "no-answer": holding(stalling()),
    "headers": holding(dripping(b"", b"HTTP/1.1 200 OK\r\nX: " + b"x" * 99_999)),
    "body": holding(dripping(HEAD, b" " * 99_999)),
    "back-off": backing_off,
    "another-flush": waiting_for_another,
}


def interrupt(name: str, number: int, folder: Path) -> tuple[Ended, Mapping[str, bytes]]:
    """Send a signal to a flush that is held up, and then flush to a healthy intake; return what was left of both."""
    lines = BIG if name == "upload" else EIGHT
    tool = prepare(folder, lines, str(UNREAD["settings"]))
    with HOLDS[name](folder) as hold:
        running = flush(tool, hold.url, within=hold.within)
        until(hold.reached)
        ended = running.end(number)
    assert list(lines) == tool.lines() == deliver_the_rest(tool), name
    return ended, snapshot(tool.spool)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL], ids=lambda number: number.name)
def test_signals(number: signal.Signals, tmp_path: Path) -> None:
    """Wherever a flush hangs, a signal ends it, it still prints its document, and the next one delivers everything once."""
    for name in HOLDS:
        (tmp_path / name).mkdir()
    with ThreadPoolExecutor(len(HOLDS)) as pool:
        found = {name: pool.submit(interrupt, name, number, tmp_path / name) for name in HOLDS}
    for name, future in found.items():
        ended, files = future.result()
        assert (name, set()) == (name, {file for file in files if file.endswith((".tmp", ".ndjson"))})
        if number is signal.SIGKILL:
            assert (name, -9) == (name, ended.code)
        else:
            code = 128 + number
            how = {signal.SIGTERM: "terminated", signal.SIGINT: "interrupted"}[number]
            assert (name, code, "") == (name, ended.code, ended.stderr)
            assert {"error": how, "hint": "", "exit_code": code} == json.loads(ended.stdout)


class TestSeveralAtOnce:
    @pytest.mark.slow
    def test_five(self, tmp_path: Path) -> None:
        """Of five flushes at once one works; the others leave at once with 0, or with 75 once their time is up."""
        tool = prepare(tmp_path)
        with FaultServer(stalling(), answering(OK)) as server:
            first = flush(tool, server.url, "--timeout", str(60 * PACE))
            until(server.reached.is_set)
            others = [flush(tool, server.url, *more) for more in (["--no-wait"], ["--timeout", "1"]) * 2]
            ended = [other.end() for other in others]
            assert None is first.process.poll()
            server.stopping.set()
            assert 0 == first.end().code
        assert [0, 75, 0, 75] == [end.code for end in ended]
        for end in ended:
            told = json.loads(end.stdout)
            assert ("temporary", 0, 8, 0) == tuple(told[key] for key in ("outcome", "delivered", "pending", "requests"))
            assert "another flush is running" in told["reason"]
        assert list(EIGHT) == bodies(server.requests)

    @pytest.mark.slow
    def test_one_after_the_other(self, tmp_path: Path) -> None:
        """A flush that waits for another one takes over what that has left, and nothing is sent twice."""
        tool = prepare(tmp_path, settings="[flush]\nbatch_events = 2\n")
        with FakeIntake() as server:
            server.respond = lambda request: time.sleep(0.2) or 200
            ended = [running.end() for running in [flush(tool, server.url) for _ in range(5)]]
        assert [0] * 5 == [end.code for end in ended]
        assert 8 == sum(json.loads(end.stdout)["delivered"] for end in ended)
        assert list(EIGHT) == server.lines


def test_a_flush_starts_no_process(tmp_path: Path) -> None:
    """A flush to an intake is one process, whatever else is installed: httpcore imports trio, which would start ldconfig."""
    tool, log = prepare(tmp_path), tmp_path / "strace"
    with FakeIntake() as running:
        words = [need("strace"), "-f", "-e", "trace=execve", "-o", log, *tool.command("flush")]
        environ = tool.environ | {"RILLEVENTS_INTAKE_URL": running.url}
        subprocess.run(words, env=environ, check=True, capture_output=True, cwd=tmp_path)
    assert 8 == len(running.events)
    assert 1 == log.read_text().count("execve(")
