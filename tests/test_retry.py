"""What answers mean, and when to try again."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rillevents.delivery.exporters.intake_responses import RETRY_AFTER_MAX, classify, retry_after_seconds
from rillevents.delivery.outcome import REASON_MAX, Kind, Outcome, clean
from rillevents.delivery.pace import Backoff, Deadline

NOW = datetime(2026, 11, 23, 10, 0, 0, tzinfo=UTC)


def answer(status: int, headers: dict[str, str] | None = None, body: bytes = b"", lines: int = 3) -> Outcome:
    return classify(status, headers or {}, body, lines=lines, now=NOW)


class TestClassify:
    @pytest.mark.parametrize(
        ("status", "kind"),
        [pytest.param(s, Kind.ACCEPTED, id=str(s)) for s in (200, 201, 202, 204, 207, 299)]
        + [pytest.param(s, Kind.TEMPORARY, id=str(s)) for s in (408, 425, 429, 501, 502, 503, 504, 599, 100, 700)]
        + [pytest.param(s, Kind.INVALID, id=str(s)) for s in (400, 422)]
        + [pytest.param(s, Kind.REFUSED, id=str(s)) for s in (401, 403)]
        + [
            pytest.param(s, Kind.MISCONFIGURED, id=str(s))
            for s in (300, 301, 302, 304, 307, 308, 399, 404, 405, 407, 410, 415)
        ]
        + [pytest.param(500, Kind.SERVER_ERROR, id="500"), pytest.param(413, Kind.TOO_LARGE, id="413")],
    )
    def test_the_status_decides(self, status: int, kind: Kind) -> None:
        """Each status means what the table of the design says."""
        assert kind is answer(status).kind

    def test_rejected_lines_are_named(self) -> None:
        """An acknowledgement may take lines out, counted from 1 there and from 0 here."""
        named = [{"line": line, "reason": "no event_id"} for line in (1, 3)]
        body = json.dumps({"rejected": named}).encode()
        assert ((0, "no event_id"), (2, "no event_id")) == answer(200, body=body).rejected

    def test_nonsense_among_the_rejected_is_ignored(self) -> None:
        """What is no integer, a bool, out of range or said twice rejects nothing."""
        lines = [True, "1", 1.0, None, 0, 4, -1, 3, 3]
        entries: list[object] = [{"line": line, "reason": str(n)} for n, line in enumerate(lines)]
        entries += ["x", None, {}]
        assert ((2, "7"),) == answer(200, body=json.dumps({"rejected": entries}).encode()).rejected

    @pytest.mark.parametrize(
        "body",
        [
            pytest.param(b"", id="empty"),
            pytest.param(b"ok", id="text"),
            pytest.param(b"{", id="torn"),
            pytest.param(b"[]", id="array"),
            pytest.param(b'{"a":' * 100_000, id="deep"),
            pytest.param(b'{"a":' + b"9" * 5000 + b"}", id="huge-number"),
            pytest.param(b'{"a": "\xff"}', id="not-utf-8"),
        ],
    )
    def test_a_2xx_with_any_other_body_accepts_all(self, body: bytes) -> None:
        """An intake has no contract on its body, so nothing else in it takes an acknowledgement back."""
        assert Outcome(Kind.ACCEPTED) == answer(200, body=body)

    @pytest.mark.parametrize(
        ("headers", "body"),
        [
            pytest.param({"Content-Type": "text/html; charset=utf-8"}, b"", id="header"),
            pytest.param({"CONTENT-TYPE": "Text/HTML"}, b"", id="case"),
            pytest.param({}, b"\n<!DOCTYPE html><html>", id="doctype"),
            pytest.param({"Content-Type": "text/plain"}, b"<HTML>", id="tag"),
        ],
    )
    def test_a_web_page_is_no_acknowledgement(self, headers: dict[str, str], body: bytes) -> None:
        """A login portal answers 200 to everything, and has taken nothing."""
        outcome = answer(200, headers, body)
        assert (Kind.TEMPORARY, True) == (outcome.kind, "login portal" in outcome.reason)

    def test_what_the_server_wrote_is_bounded_and_clean(self) -> None:
        """A reason is one short line that cannot steer a terminal."""
        reason = answer(503, body="\x1b[2J\r\n\u202eabc\x00".encode() + b"x" * 10_000).reason
        assert reason.startswith("HTTP 503 Service Unavailable: [2J abc xxx")
        assert REASON_MAX == len(reason)

    @pytest.mark.parametrize(
        ("status", "body", "expected"),
        [
            pytest.param(503, b"", "HTTP 503 Service Unavailable", id="nothing"),
            pytest.param(503, b"<html>later</html>", "HTTP 503 Service Unavailable", id="page"),
            pytest.param(503, b"later", "HTTP 503 Service Unavailable: later", id="text"),
            pytest.param(599, b"later", "HTTP 599: later", id="unknown"),
            pytest.param(404, b"", "HTTP 404 Not Found; check the URL", id="advice"),
        ],
    )
    def test_what_is_said_of_an_answer(self, status: int, body: bytes, expected: str) -> None:
        """A reason is the status, by its name where it has one, what to do, and what the server wrote, unless it is a page."""
        assert expected == answer(status, body=body).reason

    def test_a_redirect_shows_where_to_without_secrets(self) -> None:
        """The target of a redirect is shown without its user, query and fragment."""
        reason = answer(302, {"Location": "https://u:p@new.example/x?token=t#f"}).reason
        assert "https://new.example/x" in reason
        assert not any(secret in reason for secret in ("u:p", "token"))

    def test_a_garbled_redirect_is_still_one(self) -> None:
        """A location that is no URL is left out."""
        assert Kind.MISCONFIGURED is answer(302, {"Location": "http://[::1"}).kind

    @given(status=st.integers(-1, 999), body=st.binary(max_size=200), value=st.text(max_size=50))
    def test_it_never_raises(self, status: int, body: bytes, value: str) -> None:
        """Whatever a server sends has a meaning."""
        headers = {"Retry-After": value, "Location": value, "Content-Type": value}
        assert len(answer(status, headers, body).reason) <= REASON_MAX


class TestRetryAfter:
    @pytest.mark.parametrize(
        ("value", "seconds"),
        [
            pytest.param("120", 120.0, id="seconds"),
            pytest.param(" 7 ", 7.0, id="spaces"),
            pytest.param("1.5", 1.5, id="fraction"),
            pytest.param("0", 0.0, id="zero"),
            pytest.param("-5", 0.0, id="negative"),
            pytest.param("9999999999", RETRY_AFTER_MAX, id="too-large"),
            pytest.param("9" * 10_000, RETRY_AFTER_MAX, id="huge"),
            pytest.param("Mon, 23 Nov 2026 10:00:42 GMT", 42.0, id="date"),
            pytest.param("Mon, 23 Nov 2026 10:00:42", 42.0, id="date-without-zone"),
            pytest.param("Mon, 23 Nov 2026 12:00:42 +0200", 42.0, id="date-of-another-zone"),
            pytest.param("Mon, 23 Nov 2020 10:00:42 GMT", 0.0, id="past"),
            pytest.param("Mon, 23 Nov 2099 10:00:42 GMT", RETRY_AFTER_MAX, id="far-future"),
            pytest.param("abc", None, id="garbage"),
            pytest.param("nan", None, id="nan"),
            pytest.param("inf", None, id="inf"),
            pytest.param("1e9", None, id="exponent"),
            pytest.param("", None, id="empty"),
            pytest.param(None, None, id="missing"),
        ],
    )
    def test_each_form(self, value: str | None, seconds: float | None) -> None:
        """Seconds and dates count within limits, and garbage says nothing."""
        assert seconds == retry_after_seconds(value, NOW)
        assert seconds == retry_after_seconds(value, NOW.timestamp())

    @given(st.text())
    def test_it_never_raises(self, value: str) -> None:
        """Any text is a number within the limits, or none."""
        seconds = retry_after_seconds(value, NOW)
        assert seconds is None or 0 <= seconds <= RETRY_AFTER_MAX

    @pytest.mark.parametrize(
        ("status", "waits", "fault"),
        [(502, False, 502), (503, False, 503), (503, True, 0), (511, False, 0), (500, False, 0), (429, False, 0)],
    )
    def test_which_answers_may_be_about_an_event(self, status: int, waits: bool, fault: int) -> None:
        """A 5xx may be about one event of the batch, unless the server says when to come back."""
        assert fault == answer(status, headers={"Retry-After": "9"} if waits else {}).fault

    @pytest.mark.parametrize(("status", "seconds"), [(429, 9.0), (503, 9.0), (500, 9.0), (401, None), (413, None)])
    def test_it_counts_where_trying_again_helps(self, status: int, seconds: float | None) -> None:
        """Only answers that are tried again carry a wait."""
        assert seconds == answer(status, {"retry-after": "9"}).retry_after


class TestBackoff:
    def test_it_doubles_up_to_its_cap(self) -> None:
        """Without luck the waits are half of 0.5, 1, 2 … 30 s."""
        backoff = Backoff(random=lambda: 0.0)
        assert [0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 15.0] == [backoff.delay(n) for n in range(8)]

    @given(attempt=st.integers(0, 10**9), luck=st.floats(0, 1, exclude_max=True), asked=st.none() | st.floats(0, 300))
    def test_it_stays_within_bounds(self, attempt: int, luck: float, asked: float | None) -> None:
        """A wait is never negative, never over the cap unless asked for, and never under what was asked for."""
        wait = Backoff(random=lambda: luck).delay(attempt, asked)
        assert (asked or 0) <= wait <= max(30.0, asked or 0)


class TestDeadline:
    def test_the_nearer_end_counts(self) -> None:
        """What remains is the lesser of the total and the time since something moved, and is never negative."""
        now = [100.0]
        deadline = Deadline(10, 4, clock=lambda: now[0])
        seen = [deadline.remaining()]
        now[0] = 103
        deadline.progress()
        seen.append(deadline.remaining())
        now[0] = 109
        deadline.progress()
        seen.append(deadline.remaining())
        now[0] = 111
        assert [4, 4, 1, 0] == [*seen, deadline.remaining()]
        assert deadline.expired

    def test_without_a_total_only_the_stall_counts(self) -> None:
        """No total is an infinite one."""
        assert math.inf == Deadline(None, math.inf, clock=lambda: 0.0).remaining()


def test_clean_keeps_what_people_read() -> None:
    """Letters of any script stay, runs of spaces become one."""
    assert "größe 日本 ok" == clean("größe\t日本\n\x9b ok")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("abcd", "abcd", id="below"),
        pytest.param("abcde", "abcde", id="at"),
        pytest.param("abcdef", "abcd…", id="over"),
        pytest.param(b"abcde", "abcde", id="bytes-at"),
        pytest.param(b"abcdef", "abcd…", id="bytes-over"),
        pytest.param(b"abc\xff", "abc\ufffd", id="not-utf-8"),
    ],
)
def test_clean_cuts_at_its_limit(text: str | bytes, expected: str) -> None:
    """A text of exactly the limit stays whole, a longer one is cut to it and ends in an ellipsis."""
    assert expected == clean(text, 5)
