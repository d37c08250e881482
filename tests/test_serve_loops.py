"""A server that would deliver to itself, directly or through others: no event goes round."""

from __future__ import annotations

import re
import socket
from pathlib import Path

import pytest
from serving import Serving, event, until
from support import Tool

from rillevents.serve.options import Options
from rillevents.serve.via import HEADER, Via, is_own
from rillevents.testing import FakeIntake


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


pytestmark = pytest.mark.unmeasured


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]", "127.8.8.8", "LOCALHOST"])
@pytest.mark.parametrize("given", ["intake", "url"])
def test_its_own_url_is_refused(host: str, given: str, tool: Tool) -> None:
    """A server that is told to deliver to itself, by any name of this machine, does not start: 78."""
    port = free_port()
    url = f"http://{host}:{port}/events/default"
    done = tool("serve", "--port", str(port), "--to", "intake" if given == "intake" else url, RILLEVENTS_INTAKE_URL=url)
    assert (78, True) == (done.returncode, "is this server itself" in done.stderr)


@pytest.mark.parametrize(
    ("url", "own"),
    [
        ("http://127.0.0.1:8787/", True),
        ("http://127.0.0.1:8788/", False),
        ("http://0.0.0.0:8787/", True),
        ("http://10.0.0.7:8787/", True),
        ("http://10.0.0.8:8787/", False),
        ("http://events.example:8787/", True),
        ("https://events.example/", True),
        ("https://events.example:9000/", False),
        ("https://front.example:444/", True),
        ("https://front.example/", False),
    ],
)
def test_what_is_known_at_the_start(url: str, own: bool) -> None:
    """A server knows its port, its address and the names that it was allowed."""
    options = Options(host="10.0.0.7", allow_hosts=("Events.example", "front.example:444"))
    assert own is is_own(url, options, 8787)


def test_a_spool_that_would_come_back_is_told(tool: Tool) -> None:
    """A server that fills the spool of a flush that leads to the server says so, and starts."""
    port = free_port()
    url = f"http://127.0.0.1:{port}/events/default"
    with Serving(tool, "--to", "spool", "--port", str(port), RILLEVENTS_INTAKE_URL=url) as serving:
        until(lambda: "events would go round" in serving.stderr)


def accepted(metrics: str) -> float:
    found = re.search(r"^rillevents\S*\{[^}]*accepted[^}]*\} (\S+)$", metrics, re.MULTILINE)
    return float(found[1]) if found else -1


def answers(serving: Serving, status: int) -> float:
    """How many requests were answered so."""
    text = serving.ask("GET", "/metrics").body.decode()
    found = re.search(rf'^rillevents_answers_total{{status="{status}"}} (\S+)$', text, re.MULTILINE)
    return float(found[1]) if found else 0


def other(tmp_path: Path) -> Tool:
    (tmp_path / "other" / "user").mkdir(parents=True)
    return Tool(tmp_path / "other" / "home")


@pytest.mark.slow
def test_two_servers_that_forward_to_each_other(tool: Tool, tmp_path: Path) -> None:
    """An event that comes back is answered 508 and stays with the server that has it; that server says so, once."""
    ports = free_port(), free_port()
    urls = [f"http://127.0.0.1:{port}/events/default" for port in ports]
    with (
        Serving(tool, "--to", urls[1], "--port", str(ports[0])) as first,
        Serving(other(tmp_path), "--to", urls[0], "--port", str(ports[1])) as second,
    ):
        assert 200 == first.post(event("1")).status
        # The third answer: what there was to say of the second one has been said.
        until(lambda: answers(first, 508) >= 3)
        assert (1, 0) == (second.stderr.count("HTTP 508"), first.stderr.count("HTTP 508"))
        counted = [serving.ask("GET", "/metrics").body.decode() for serving in (first, second)]
    assert [1.0, 1.0] == [accepted(text) for text in counted]


def test_a_chain_is_no_loop(tool: Tool, tmp_path: Path) -> None:
    """From one server to the next, and to the intake: an event arrives, and the mark of both with it."""
    with FakeIntake() as intake, Serving(other(tmp_path), "--to", intake.url) as second:
        with Serving(tool, "--to", f"http://127.0.0.1:{second.port}/events/default") as first:
            assert 200 == first.post(event("1")).status
            until(lambda: len(intake.events) == 1)
        assert 2 == len(intake.requests[0].headers[HEADER.lower()].split(", "))


class TestVia:
    def test_ones_own_mark_is_known(self) -> None:
        """What has the mark of this server has passed it, and no other."""
        via = Via()
        field = via.headers()[HEADER].encode()
        assert via.has_passed({HEADER.lower().encode(): b"x, " + field})
        assert not Via().has_passed({HEADER.lower().encode(): field})
        assert not via.has_passed({})

    def test_it_does_not_grow(self) -> None:
        """Of the marks of others the last ones are kept, and nonsense is none."""
        via = Via()
        for number in range(200):
            assert not via.has_passed({HEADER.lower().encode(): b"%016x, <script>\xff" % number})
        found = via.headers()[HEADER].split(", ")
        assert (64, f"{199:016x}", False) == (len(found), found[-1], "<" in "".join(found))
