"""How batches are settled, with exporters in memory and a clock of our own."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import Clock

from rillevents.delivery.outcome import Kind, Outcome
from rillevents.delivery.pace import Backoff, BatchSize, Deadline
from rillevents.delivery.settle import Delivery, Settlement
from rillevents.errors import ConfigError
from rillevents.event.batch import DELIVERED, HELD, UNSETTLED, Batch, LineVerdict, Rejected

Answer = Callable[[Batch], object]
POISON = "poison"


class Scripted:
    """An exporter that answers as it is told, and remembers what it was given and what it accepted."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.batches: list[tuple[bytes, ...]] = []
        self.accepted: set[bytes] = set()
        self.alone: set[bytes] = set()

    def export(self, batch: Batch) -> Outcome:
        self.batches.append(batch.lines)
        outcome = self.answer(batch)
        if isinstance(outcome, Outcome) and outcome.kind is Kind.ACCEPTED:
            named = dict(outcome.rejected)
            self.accepted |= {line for n, line in enumerate(batch.lines) if n not in named}
            self.alone |= {line for n, line in enumerate(batch.lines) if n in named}
        elif len(batch) == 1:
            self.alone |= set(batch.lines)
        return outcome  # type: ignore[return-value]

    def close(self) -> None:
        """Nothing to close."""


def lines(n: int) -> list[bytes]:
    return [b'{"n":%d}\n' % i for i in range(n)]


def make(exporter: object, total: float | None = 60, stall: float = 30) -> tuple[Delivery, Clock]:
    clock = Clock()
    backoff = Backoff(random=lambda: 0.5)
    deadline = Deadline(total, stall, clock=clock)
    return Delivery(exporter, deadline, backoff=backoff, sleep=clock.sleep), clock  # type: ignore[arg-type]


def settle(answer: Answer, n: int) -> tuple[Settlement, Scripted, Delivery]:
    exporter = Scripted(answer)
    delivery, _ = make(exporter)
    try:
        return delivery.deliver(Batch(lines(n))), exporter, delivery
    finally:
        delivery.close()


def kind(kind: Kind, reason: str = "", retry_after: float | None = None) -> Answer:
    return lambda batch: Outcome(kind, reason, retry_after)


def in_turn(*answers: Answer) -> Answer:
    queue = list(answers)
    return lambda batch: (queue.pop(0) if len(queue) > 1 else queue[0])(batch)


def poisoned(numbers: set[int], refusal: Kind) -> Answer:
    bad = {lines(n + 1)[n] for n in numbers}
    return lambda batch: Outcome(refusal, POISON) if bad & set(batch.lines) else Outcome(Kind.ACCEPTED)


OK = kind(Kind.ACCEPTED)


class TestAccepted:
    def test_all_lines_are_delivered(self) -> None:
        """An acknowledgement settles the batch with one request."""
        settlement, _, delivery = settle(OK, 3)
        assert Settlement((DELIVERED,) * 3) == settlement
        assert (1, 27 - 3, True) == (delivery.requests, delivery.bytes, delivery.accepted_any)

    def test_named_lines_are_rejected(self) -> None:
        """What an acknowledgement takes out is rejected with its reason, and nonsense in it is ignored."""
        settlement, _, _ = settle(lambda batch: Outcome(Kind.ACCEPTED, rejected=((1, "bad"), (9, "x"), (-1, "y"))), 3)
        assert (DELIVERED, Rejected("bad"), DELIVERED) == settlement.verdicts

    def test_odd_answers_of_an_exporter(self) -> None:
        """Lines that an exporter of somebody's own names oddly, or without a reason, raise nothing after the acknowledgement."""
        odd: Any = (("0", "text"), (0, None), (1.0, "bad"), (None, "x"))
        settlement, _, delivery = settle(lambda batch: Outcome(Kind.ACCEPTED, rejected=odd), 3)
        assert (DELIVERED, Rejected("bad"), DELIVERED) == settlement.verdicts
        assert delivery.accepted_any

    def test_an_acknowledgement_of_nothing_is_no_evidence(self) -> None:
        """A destination that rejects every line has not shown that it takes events."""
        settlement, _, delivery = settle(lambda batch: Outcome(Kind.ACCEPTED, rejected=((0, "bad"),)), 1)
        assert ((Rejected("bad"),), False) == (settlement.verdicts, delivery.accepted_any)

    def test_an_empty_batch_needs_no_request(self) -> None:
        """Nothing to send is settled at once."""
        settlement, exporter, _ = settle(OK, 0)
        assert (Settlement(()), []) == (settlement, exporter.batches)


class TestTemporary:
    def test_the_same_batch_is_sent_again(self) -> None:
        """After a 503 the same lines follow, a back-off later."""
        settlement, exporter, _ = settle(in_turn(kind(Kind.TEMPORARY), kind(Kind.TEMPORARY), OK), 2)
        assert (DELIVERED, DELIVERED) == settlement.verdicts
        assert [tuple(lines(2))] * 3 == exporter.batches

    def test_a_storm_ends_within_the_deadline(self) -> None:
        """Where the next wait would end too late, it is not waited for."""
        delivery, clock = make(Scripted(kind(Kind.TEMPORARY, "HTTP 503")), total=10)
        settlement = delivery.deliver(Batch(lines(1)))
        delivery.close()
        assert Settlement((UNSETTLED,), Outcome(Kind.TEMPORARY, "HTTP 503")) == settlement
        assert clock.now < 1010
        assert sum(clock.sleeps) > 5

    def test_retry_after_is_a_minimum(self) -> None:
        """A wait that was asked for is kept to where there is time."""
        delivery, clock = make(Scripted(in_turn(kind(Kind.TEMPORARY, "", 20.0), OK)))
        assert (DELIVERED,) == delivery.deliver(Batch(lines(1))).verdicts
        delivery.close()
        assert [20.0] == clock.sleeps

    def test_a_wait_beyond_the_deadline_stops_at_once(self) -> None:
        """Nobody sleeps to no purpose."""
        delivery, clock = make(Scripted(kind(Kind.TEMPORARY, "HTTP 429", math.inf)))
        assert "HTTP 429" == delivery.deliver(Batch(lines(1))).stop.reason  # type: ignore[union-attr]
        delivery.close()
        assert [] == clock.sleeps

    def test_an_expired_deadline_sends_nothing(self) -> None:
        """Without time there is no request, and the last answer is told."""
        exporter = Scripted(OK)
        delivery, _ = make(exporter, total=0)
        settlement = delivery.deliver(Batch(lines(1)))
        assert Settlement((UNSETTLED,), Outcome(Kind.TEMPORARY, "no time left")) == settlement
        assert (0, []) == (delivery.requests, exporter.batches)

    def test_a_deadline_that_expires_between_two_batches(self) -> None:
        """What the destination answered last is told beside the end of the time."""
        exporter = Scripted(kind(Kind.ACCEPTED, "HTTP 202"))
        delivery, clock = make(exporter, total=10)
        delivery.deliver(Batch(lines(1)))
        clock.now += 10
        settlement = delivery.deliver(Batch(lines(1)))
        expected = Outcome(Kind.TEMPORARY, "no time left; the last answer was: HTTP 202")
        assert (Settlement((UNSETTLED,), expected), 1) == (settlement, delivery.requests)

    def test_a_closed_one_sends_nothing(self) -> None:
        """After `close` there is no request, however much time is left."""
        exporter = Scripted(OK)
        delivery, _ = make(exporter)
        delivery.close()
        settlement = delivery.deliver(Batch(lines(1)))
        assert ((UNSETTLED,), 0, []) == (settlement.verdicts, delivery.requests, exporter.batches)

    def test_a_wait_to_the_very_end_is_not_waited_for(self) -> None:
        """A wait that would end with the deadline leaves no time for an attempt, and so is none."""
        delivery, clock = make(Scripted(kind(Kind.TEMPORARY, "HTTP 503")), total=0.375)
        delivery.deliver(Batch(lines(1)))
        delivery.close()
        assert ([], 1) == (clock.sleeps, delivery.requests)

    @pytest.mark.parametrize(
        ("error", "expected"),
        [
            pytest.param(ValueError("boom"), Kind.TEMPORARY, id="bug"),
            pytest.param(SystemExit(3), Kind.TEMPORARY, id="exit"),
            pytest.param(ConfigError("no"), Kind.MISCONFIGURED, id="configuration"),
        ],
    )
    def test_an_exception_keeps_the_events(self, error: BaseException, expected: Kind) -> None:
        """A bug in an exporter is an outcome with its text, not a crash."""

        def fail(batch: Batch) -> object:
            raise error

        settlement, _, _ = settle(fail, 2)
        assert settlement.stop is not None
        assert ((UNSETTLED, UNSETTLED), expected) == (settlement.verdicts, settlement.stop.kind)
        assert str(error) in settlement.stop.reason

    def test_no_outcome_is_temporary(self) -> None:
        """An exporter that returns nothing has said nothing."""
        settlement, _, _ = settle(lambda batch: None, 1)
        assert (UNSETTLED,) == settlement.verdicts


@pytest.mark.parametrize("refusal", [Kind.REFUSED, Kind.MISCONFIGURED], ids=lambda k: k.name)
def test_refused_and_misconfigured_stop_at_once(refusal: Kind) -> None:
    """401 and 404 end the flush with everything kept, after one request."""
    settlement, exporter, _ = settle(kind(refusal, "why"), 3)
    assert Settlement((UNSETTLED,) * 3, Outcome(refusal, "why")) == settlement
    assert 1 == len(exporter.batches)


class TestTooLarge:
    def test_the_batch_is_halved_until_it_fits(self) -> None:
        """A limit of two lines gets eight lines through, in their order."""
        answer: Answer = lambda b: Outcome(Kind.TOO_LARGE if len(b) > 2 else Kind.ACCEPTED)  # noqa: E731
        settlement, exporter, _ = settle(answer, 8)
        assert (DELIVERED,) * 8 == settlement.verdicts
        assert lines(8) == [line for batch in exporter.batches if len(batch) <= 2 for line in batch]

    def test_a_single_line_is_rejected(self) -> None:
        """A line that is too large alone is rejected, the others are delivered."""
        settlement, _, _ = settle(poisoned({2}, Kind.TOO_LARGE), 5)
        assert (DELIVERED, DELIVERED, Rejected(POISON), DELIVERED, DELIVERED) == settlement.verdicts

    @pytest.mark.parametrize("refusal", [Kind.TOO_LARGE, Kind.INVALID])
    def test_the_size_that_passed_is_remembered(self, refusal: Kind) -> None:
        """Once a size was refused, the next batches are sent in parts as large as what passed: none is refused again."""
        limit = len(b"".join(lines(10))) // 3
        exporter = Scripted(lambda b: Outcome(refusal if b.size > limit else Kind.ACCEPTED))
        delivery, _ = make(exporter)
        settlements = [delivery.deliver(Batch(lines(10))) for _ in range(3)]
        delivery.close()
        assert [(DELIVERED,) * 10] * 3 == [settlement.verdicts for settlement in settlements]
        refused = [len(b"".join(batch)) > limit for batch in exporter.batches]
        first = refused.count(True)
        assert 0 < first == sum(refused[: first + 4])
        assert lines(10) * 2 == [line for batch in exporter.batches[-8:] for line in batch]

    def test_a_larger_one_that_breaks_the_connection(self) -> None:
        """A batch that is larger than any before, and fails twice without an answer, is sent in parts that have passed before."""
        limit = len(b"".join(lines(4)))
        exporter = Scripted(lambda b: Outcome(Kind.TEMPORARY if b.size > limit else Kind.ACCEPTED))
        delivery, clock = make(exporter)
        first, second, third = (delivery.deliver(Batch(lines(n))) for n in (4, 8, 8))
        delivery.close()
        assert {DELIVERED} == {*first.verdicts, *second.verdicts, *third.verdicts}
        assert [4, 8, 8, 4, 4, 4, 4] == [len(batch) for batch in exporter.batches]
        assert clock.now < 1002

    def test_an_outage_is_not_the_size(self) -> None:
        """A batch as large as those before is tried as a whole until it passes: its events should arrive together."""
        answers = [OK, *[kind(Kind.TEMPORARY)] * 5, OK]
        exporter = Scripted(in_turn(*answers))
        delivery, _ = make(exporter)
        settlements = [delivery.deliver(Batch(lines(n))) for n in (8, 9)]
        delivery.close()
        assert {DELIVERED} == {verdict for settlement in settlements for verdict in settlement.verdicts}
        assert [8, 9, 9, 9, 9, 9, 9] == [len(batch) for batch in exporter.batches]

    def test_one_event_that_is_too_large(self) -> None:
        """A limit for events is none for bodies: the next batches are sent whole, but for the size that was refused."""
        exporter = Scripted(poisoned({1}, Kind.TOO_LARGE))
        delivery, _ = make(exporter)
        delivery.deliver(Batch(lines(8)))
        before = len(exporter.batches)
        delivery.deliver(Batch(lines(8)[2:8]))
        delivery.close()
        assert [6] == [len(batch) for batch in exporter.batches[before:]]


class TestBatchSize:
    START, MOST = (10, 1000), (80, 4000)

    def size(self, *settled: tuple[int, float], verdict: LineVerdict = DELIVERED) -> tuple[int, int]:
        """Return the limits after batches of so many events, and seconds."""
        found = BatchSize(self.START, self.MOST)
        for events, seconds in settled:
            found.settled(Batch(lines(events)), [verdict] * events, seconds)
        return found.limits

    def test_it_grows(self) -> None:
        """Quick answers to large batches double it, up to the most of each."""
        assert [(20, 2000), (40, 4000), (80, 4000), (80, 4000)] == [
            self.size(*[(10 * 2**n, 0.1) for n in range(times)]) for times in (1, 2, 3, 4)
        ]

    @pytest.mark.parametrize(
        ("settled", "verdict"),
        [
            pytest.param((4, 0.1), DELIVERED, id="small"),
            pytest.param((10, 0.5), DELIVERED, id="slow"),
            pytest.param((10, 0.1), Rejected("r"), id="refused"),
        ],
    )
    def test_it_stays(self, settled: tuple[int, float], verdict: LineVerdict) -> None:
        """A batch that is not full, not quick or not accepted is no reason for larger ones."""
        assert self.START == self.size(settled, verdict=verdict)

    def test_it_shrinks(self) -> None:
        """What takes long halves it, down to where it began."""
        assert (20, 2000) == self.size((10, 0.1), (20, 0.1), (40, 3))
        assert self.START == self.size((10, 0.1), (20, 3), (10, 3), (10, 3))


class TestInvalid:
    def test_only_the_poisoned_line_is_rejected(self) -> None:
        """One bad line of a thousand is found in about 2·log2(n) requests."""
        settlement, exporter, _ = settle(poisoned({637}, Kind.INVALID), 1000)
        rejected = [n for n, verdict in enumerate(settlement.verdicts) if verdict == Rejected(POISON)]
        assert ([637], 999) == (rejected, settlement.verdicts.count(DELIVERED))
        assert len(exporter.batches) <= 2 * 10 + 1

    def test_everything_refused_is_a_wrong_destination(self) -> None:
        """Three single refusals without an acceptance stop the flush soon, and nothing is rejected."""
        settlement, exporter, _ = settle(kind(Kind.INVALID, "no"), 1000)
        assert Settlement((UNSETTLED,) * 1000, Outcome(Kind.MISCONFIGURED, "every event is refused: no")) == settlement
        assert len(exporter.batches) <= 2 * 10 + 5

    def test_refusals_count_across_batches(self) -> None:
        """The third refused single stops, whichever batch it is in."""
        delivery, _ = make(Scripted(kind(Kind.INVALID, "no")))
        verdicts = [delivery.deliver(Batch([line])) for line in lines(3)]
        delivery.close()
        assert [Settlement((HELD,)), Settlement((HELD,))] == verdicts[:2]
        assert Settlement((UNSETTLED,), Outcome(Kind.MISCONFIGURED, "every event is refused: no")) == verdicts[2]
        assert UNSETTLED is delivery.held_verdict(final=True)

    def test_a_later_acceptance_is_evidence(self) -> None:
        """A held event is rejected once the destination has taken another one."""
        delivery, _ = make(Scripted(in_turn(kind(Kind.INVALID, "no"), OK)))
        assert (HELD,) == delivery.deliver(Batch(lines(1))).verdicts
        assert HELD is delivery.held_verdict(final=False)
        delivery.deliver(Batch(lines(1)))
        delivery.close()
        assert Rejected("no") == delivery.held_verdict(final=False)

    def test_the_end_of_a_flush_is_final(self) -> None:
        """A held event is rejected where nothing more comes."""
        settlement, _, delivery = settle(kind(Kind.INVALID, "no"), 2)
        assert ((HELD, HELD), None) == (settlement.verdicts, settlement.stop)
        assert Rejected("no") == delivery.held_verdict(final=True)

    def test_a_stop_without_evidence_keeps_what_is_held(self) -> None:
        """Where the credentials are refused next, nothing shows that the held event was the bad one."""
        delivery, _ = make(Scripted(in_turn(kind(Kind.INVALID, "no"), kind(Kind.REFUSED))))
        delivery.deliver(Batch(lines(1)))
        delivery.deliver(Batch(lines(1)))
        delivery.close()
        assert UNSETTLED is delivery.held_verdict(final=True)


class TestOrder:
    @pytest.mark.parametrize(
        ("refusal", "expected"),
        [
            pytest.param(Kind.INVALID, [(0, 4), (0, 2), (2, 2), (0, 1), (1, 1)], id="invalid"),
            pytest.param(Kind.TOO_LARGE, [(0, 4), (0, 2), (0, 1), (1, 1), (2, 2)], id="too-large"),
        ],
    )
    def test_of_halves(self, refusal: Kind, expected: list[tuple[int, int]]) -> None:
        """Both halves of what is invalid are sent before their halves, as evidence; what is too large goes in the order of events."""
        _, exporter, _ = settle(poisoned({0}, refusal), 4)
        assert expected == [(lines(4).index(batch[0]), len(batch)) for batch in exporter.batches]


class TestServerError:
    def test_the_third_attempt_may_succeed(self) -> None:
        """A 500 that goes away is a temporary one."""
        settlement, exporter, _ = settle(in_turn(*[kind(Kind.SERVER_ERROR)] * 2, OK), 4)
        assert (Settlement((DELIVERED,) * 4), 3) == (settlement, len(exporter.batches))

    def test_one_poisoned_line_is_parked(self) -> None:
        """A line that makes the server fail is rejected, because its neighbour was accepted."""
        settlement, _, _ = settle(poisoned({5}, Kind.SERVER_ERROR), 64)
        assert [5] == [n for n, v in enumerate(settlement.verdicts) if v == Rejected(POISON)]
        assert (63, None) == (settlement.verdicts.count(DELIVERED), settlement.stop)

    def test_two_poisoned_lines_in_one_half_are_parked(self) -> None:
        """Below an accepted half the search goes on where both halves fail."""
        settlement, _, _ = settle(poisoned({1, 20}, Kind.SERVER_ERROR), 64)
        assert [1, 20] == [n for n, v in enumerate(settlement.verdicts) if v == Rejected(POISON)]

    @pytest.mark.parametrize("bad", [{1, 40}, {0, 31, 32, 63}, {30, 31, 32, 33}, set(range(0, 64, 3))])
    def test_poisoned_lines_in_both_halves_are_parked(self, bad: set[int]) -> None:
        """Where both halves fail the search goes on, and what failed before anything was accepted is asked once more."""
        settlement, _, _ = settle(poisoned(bad, Kind.SERVER_ERROR), 64)
        assert bad == {n for n, v in enumerate(settlement.verdicts) if v == Rejected(POISON)}
        assert (64 - len(bad), None) == (settlement.verdicts.count(DELIVERED), settlement.stop)

    def test_a_hundred_bad_neighbours_are_parked(self) -> None:
        """Many bad lines beside each other are settled as they are found, within a time that does not grow with them."""
        settlement, exporter, _ = settle(poisoned(set(range(100)), Kind.SERVER_ERROR), 1000)
        assert (100, 900, None) == (
            settlement.verdicts.count(Rejected(POISON)),
            settlement.verdicts.count(DELIVERED),
            settlement.stop,
        )
        assert len(exporter.batches) < 6 * 100

    def test_a_bad_line_that_travels_alone_for_its_size(self) -> None:
        """Where a limit of size leaves a bad line alone, its neighbour is delivered all the same."""
        bad = poisoned({0}, Kind.SERVER_ERROR)
        settlement, _, _ = settle(
            lambda batch: Outcome(Kind.TOO_LARGE, "HTTP 413") if len(batch.lines) > 1 else bad(batch), 2
        )
        assert (Rejected(POISON), DELIVERED) == settlement.verdicts

    def test_an_outage_that_ends_within_the_search_rejects_nothing(self) -> None:
        """What failed while the server was down is delivered once it is not."""
        for errors in range(3, 12):
            settlement, _, _ = settle(in_turn(*[kind(Kind.SERVER_ERROR)] * errors, OK), 8)
            assert Settlement((DELIVERED,) * 8) == settlement

    def test_a_server_that_is_down_rejects_nothing(self) -> None:
        """Where nothing is accepted everything is kept, after requests as few as a search and the back-off take."""
        settlement, exporter, _ = settle(kind(Kind.SERVER_ERROR, "HTTP 500"), 64)
        assert Settlement((UNSETTLED,) * 64, Outcome(Kind.TEMPORARY, "HTTP 500")) == settlement
        assert len(exporter.batches) <= 25

    @pytest.mark.parametrize(("n", "requests"), [(8, 15 + 4), (16, 17 + 4), (32, 19 + 4)])
    def test_a_server_that_is_down_is_asked_so_often(self, n: int, requests: int) -> None:
        """Twice as many events take one more halving, which is two requests; then one request follows each back-off."""
        _, exporter, _ = settle(kind(Kind.SERVER_ERROR, "HTTP 500"), n)
        assert requests == len(exporter.batches)

    def test_halves_of_another_refusal(self) -> None:
        """Halves of what was refused for another reason have three attempts each, like a whole batch."""
        _, exporter, _ = settle(lambda batch: Outcome(Kind.INVALID if len(batch) == 4 else Kind.SERVER_ERROR, "no"), 4)
        assert [4, *[2] * 6, 1] == [len(batch) for batch in exporter.batches[:8]]

    def test_eight_at_a_time(self) -> None:
        """Bad neighbours are asked again by eights, before the search goes on: so that they are settled should the time end."""
        _, exporter, _ = settle(poisoned(set(range(9)), Kind.SERVER_ERROR), 32)
        alone = [batch[0] for batch in exporter.batches if len(batch) == 1 and batch[0] in lines(9)]
        assert [lines(9)[n] for n in (*range(8), *range(8), 8, 8)] == alone

    def test_a_single_line_is_never_rejected_for_it(self) -> None:
        """A 500 for the only event there is says nothing about the event."""
        settlement, exporter, _ = settle(kind(Kind.SERVER_ERROR, "HTTP 500"), 1)
        assert Settlement((UNSETTLED,), Outcome(Kind.TEMPORARY, "HTTP 500")) == settlement
        assert 7 == len(exporter.batches)

    def test_a_server_that_goes_down_meanwhile_rejects_nothing(self) -> None:
        """After one accepted half a row of 500s stops the search with the rest kept."""
        answers = [kind(Kind.SERVER_ERROR)] * 4 + [OK, kind(Kind.SERVER_ERROR)]
        settlement, exporter, _ = settle(in_turn(*answers), 64)
        assert (32, 32) == (settlement.verdicts.count(DELIVERED), settlement.verdicts.count(UNSETTLED))
        assert len(exporter.batches) < 30

    def test_two_bad_neighbours_are_parked_once_a_good_one_passes_again(self) -> None:
        """Two lines that fail beside each other are told from a server that went down by sending an accepted one again."""
        settlement, exporter, _ = settle(poisoned({0, 1}, Kind.SERVER_ERROR), 8)
        assert ((Rejected(POISON),) * 2 + (DELIVERED,) * 6, None) == (settlement.verdicts, settlement.stop)
        assert [lines(3)[2]] == list(exporter.batches[-1])

    def test_two_bad_neighbours_and_a_server_that_is_down_are_kept(self) -> None:
        """Where the accepted one fails now, too, nothing is put aside."""
        bad = poisoned({0, 1}, Kind.SERVER_ERROR)

        def answer(batch: Batch) -> object:
            repeated = any(list(batch.lines) == [line] for line in lines(8)[2:])
            return Outcome(Kind.SERVER_ERROR, "HTTP 500") if repeated else bad(batch)

        settlement, _, _ = settle(answer, 8)
        assert ((UNSETTLED,) * 2 + (DELIVERED,) * 6) == settlement.verdicts
        assert settlement.stop is not None


def fault(status: int) -> Answer:
    if status == 500:
        return kind(Kind.SERVER_ERROR, "HTTP 500")
    return lambda batch: Outcome(Kind.TEMPORARY, f"HTTP {status}", fault=status)


def failing(bad: set[int], status: int) -> Answer:
    found = {lines(n + 1)[n] for n in bad}
    return lambda batch: (fault(status) if found & set(batch.lines) else OK)(batch)


@pytest.mark.parametrize("status", [500, 502, 503, 504, 599])
class TestFailsAgainAndAgain:
    @pytest.mark.parametrize("n", [1, 2, 1000])
    def test_the_time_is_used(self, status: int, n: int) -> None:
        """A server that fails for everything is asked until the time is up, less and less often, and nothing is rejected."""
        exporter = Scripted(fault(status))
        delivery, clock = make(exporter, total=15)
        settlement = delivery.deliver(Batch(lines(n)))
        delivery.close()
        assert Settlement((UNSETTLED,) * n, Outcome(Kind.TEMPORARY, f"HTTP {status}")) == replace(
            settlement, stop=replace(settlement.stop, fault=0)
        )
        assert clock.now > 1000 + 15 / 2
        assert len(exporter.batches) <= 30

    @pytest.mark.parametrize("failures", range(1, 40, 3))
    def test_a_server_that_comes_back_gets_everything(self, status: int, failures: int) -> None:
        """Where an outage ends within the time, every event is delivered, once, and none is rejected."""
        exporter = Scripted(in_turn(*[fault(status)] * failures, OK))
        delivery, _ = make(exporter, total=1e6, stall=1e6)
        assert Settlement((DELIVERED,) * 16) == delivery.deliver(Batch(lines(16)))
        delivery.close()
        assert sorted(lines(16)) == sorted(line for batch in exporter.batches[failures:] for line in batch)

    @pytest.mark.parametrize("bad", [{637}, {0}, {999}, {1, 998}, set(range(7)), set(range(0, 1000, 200))], ids=str)
    def test_an_event_that_makes_it_fail_is_found(self, status: int, bad: set[int]) -> None:
        """Where others pass, the events for which the server fails are rejected, and the rest is delivered."""
        settlement, exporter, _ = settle(failing(bad, status), 1000)
        assert bad == {n for n, verdict in enumerate(settlement.verdicts) if verdict == Rejected(f"HTTP {status}")}
        assert (1000 - len(bad), None) == (settlement.verdicts.count(DELIVERED), settlement.stop)
        assert len(exporter.batches) < 40 * (1 + len(bad))

    def test_the_next_batch_is_searched_at_once(self, status: int) -> None:
        """What a status means here is known for the rest of the flush: a bad event of the next batch costs less time."""
        delivery, clock = make(Scripted(failing({3, 11}, status)))
        seconds = []
        for part in (lines(8), lines(16)[8:]):
            before = clock.now
            assert 1 == sum(isinstance(verdict, Rejected) for verdict in delivery.deliver(Batch(part)).verdicts)
            seconds.append(clock.now - before)
        delivery.close()
        assert seconds[1] <= seconds[0]

    def test_a_server_that_goes_down_within_the_search_is_waited_for(self, status: int) -> None:
        """After an acceptance and an outage the rest is delivered once the server is back."""
        delivery, _ = make(Scripted(in_turn(*[fault(status)] * 4, OK, *[fault(status)] * 25, OK)), total=1e6, stall=1e6)
        assert Settlement((DELIVERED,) * 64) == delivery.deliver(Batch(lines(64)))
        delivery.close()


def test_a_server_that_is_down_is_not_asked_with_single_events() -> None:
    """A gateway without its server gets no more requests than there are waits, and mostly the batch or a half of it."""
    exporter = Scripted(fault(502))
    delivery, clock = make(exporter, total=None)
    delivery.deliver(Batch(lines(1000)))
    delivery.close()
    assert [1000, 1000, 1000, 500, 1000, 500, 1] == [len(batch) for batch in exporter.batches]
    assert len(clock.sleeps) == len(exporter.batches) - 1


class TestLeavingBehind:
    def test_a_call_that_hangs_is_left_behind(self) -> None:
        """The deadline holds although the exporter never returns, and nothing further is sent."""
        release = threading.Event()
        exporter = Scripted(lambda batch: release.wait(30))
        delivery = Delivery(exporter, Deadline(0.1))
        settlement = delivery.deliver(Batch(lines(2)))
        again = delivery.deliver(Batch(lines(1)))
        release.set()
        assert settlement.stop is not None
        assert (UNSETTLED, UNSETTLED) == settlement.verdicts
        assert settlement.stop.reason.startswith("no answer within 0.1 s")
        assert ((UNSETTLED,), 1) == (again.verdicts, len(exporter.batches))

    def test_a_call_left_behind_cannot_upload(self) -> None:
        """The thread that wakes up too late is stopped at its next piece."""
        release, ended = threading.Event(), threading.Event()
        pieces: list[bytes] = []

        def upload(batch: Batch) -> object:
            release.wait(30)
            try:
                pieces.extend(batch.chunks())
            finally:
                ended.set()
            return Outcome(Kind.ACCEPTED)

        delivery = Delivery(Scripted(upload), Deadline(0.05))
        delivery.deliver(Batch(lines(2)))
        release.set()
        assert ended.wait(30)
        assert [] == pieces

    def test_an_interrupt_gets_through(self) -> None:
        """What is raised in the waiting thread leaves the call behind and is raised on."""
        release = threading.Event()

        class Interrupting(Deadline):
            def remaining(self) -> float:
                if self.calls:
                    raise KeyboardInterrupt
                self.calls += 1
                return 1.0

            calls = 0

        exporter = Scripted(lambda batch: release.wait(30))
        delivery = Delivery(exporter, Interrupting(None))
        with pytest.raises(KeyboardInterrupt):
            delivery.deliver(Batch(lines(1)))
        release.set()

    @pytest.mark.parametrize(
        ("seconds", "sizes"),
        [(0.001, [4, 8, 16, 32, 20]), (0.05, [4] * 20)],
        ids=["quick", "slow"],
    )
    def test_pieces(self, seconds: float, sizes: list[int]) -> None:
        """The pieces of a body double while they are taken quickly, and stay where a line is slow."""
        clock, batch = Clock(), Batch([b"x" * 79 + b"\n"])
        found = []
        for piece in batch.chunks(4, clock=clock):
            found.append(piece)
            clock.now += seconds
        assert batch.body() == b"".join(found)
        assert sizes == [len(piece) for piece in found]

    def test_an_upload_that_moves_goes_on(self) -> None:
        """Bytes beyond the most ever sent are progress, so a slow upload outlives the stall time."""
        clock = Clock()

        def slow(batch: Batch) -> object:
            for _ in batch.chunks(4, clock=clock):
                clock.now += 20
            return Outcome(Kind.ACCEPTED)

        delivery = Delivery(Scripted(slow), Deadline(None, 30, clock=clock))
        settlement = delivery.deliver(Batch(lines(4)))
        delivery.close()
        assert ((DELIVERED,) * 4, 1160.0, 32) == (settlement.verdicts, clock.now, delivery.bytes)

    def test_sending_the_same_again_is_no_progress(self) -> None:
        """Retries do not extend the stall time."""
        clock = Clock()

        def fail(batch: Batch) -> object:
            list(batch.chunks())
            return Outcome(Kind.TEMPORARY, "HTTP 503")

        delivery = Delivery(Scripted(fail), Deadline(None, 30, clock=clock), sleep=clock.sleep)
        assert (UNSETTLED,) == delivery.deliver(Batch(lines(1))).verdicts
        delivery.close()
        assert clock.now <= 1030

    def test_the_thread_is_used_again_and_ends(self) -> None:
        """Calls share one thread, which ends with the Delivery."""
        threads: list[threading.Thread] = []

        def remember(batch: Batch) -> object:
            threads.append(threading.current_thread())
            return Outcome(Kind.ACCEPTED)

        delivery, _ = make(Scripted(remember))
        delivery.deliver(Batch(lines(1)))
        delivery.deliver(Batch(lines(1)))
        del delivery
        threads[0].join(30)
        assert (1, False) == (len(set(threads)), threads[0].is_alive())


KINDS = st.sampled_from(list(Kind))
OUTCOMES = st.builds(
    Outcome,
    KINDS,
    st.just("reason"),
    st.none() | st.floats(0, 100),
    st.lists(st.tuples(st.integers(-1, 20), st.just("named")), max_size=3).map(tuple),
    st.sampled_from([0, 0, 502, 503]),
)


class TestProperties:
    @given(n=st.integers(0, 20), script=st.lists(OUTCOMES, min_size=1, max_size=60))
    @settings(deadline=None)
    def test_every_line_gets_the_verdict_it_earned(self, n: int, script: list[Outcome]) -> None:
        """Whatever is answered: a verdict each, delivered only if accepted, rejected only if refused alone or named."""
        settlement, exporter, _ = settle(in_turn(*[lambda batch, o=o: o for o in script]), n)
        assert n == len(settlement.verdicts)
        for line, verdict in zip(lines(n), settlement.verdicts, strict=True):
            assert verdict is not DELIVERED or line in exporter.accepted
            assert not isinstance(verdict, Rejected) or line in exporter.alone
            assert verdict is not UNSETTLED or settlement.stop is not None

    @given(n=st.integers(1, 300), bad=st.sets(st.integers(0, 299), max_size=5), refusal=st.sampled_from([400, 413]))
    @settings(deadline=None)
    def test_few_requests_find_the_poisoned(self, n: int, bad: set[int], refusal: int) -> None:
        """Of n lines k poisoned ones are found in 2·k·log2(n) requests and some, and nothing else is refused."""
        bad = {number for number in bad if number < n}
        answer = poisoned(bad, Kind.INVALID if refusal == 400 else Kind.TOO_LARGE)
        exporter = Scripted(answer)
        delivery, _ = make(exporter)
        delivery.evidence.accepted_any = True
        verdicts = delivery.deliver(Batch(lines(n))).verdicts
        delivery.close()
        assert bad == {number for number, verdict in enumerate(verdicts) if verdict == Rejected(POISON)}
        assert n - len(bad) == verdicts.count(DELIVERED)
        assert len(exporter.batches) <= 2 * max(len(bad), 1) * math.ceil(math.log2(n) + 1) + 1

    def test_batches_are_told_by_their_size(self) -> None:
        """A batch in a debugger says how many events it has, and how many bytes."""
        assert "<Batch of 2 events, 16 bytes>" == repr(Batch(lines(2)))

    @given(st.lists(st.binary(min_size=1, max_size=9).map(lambda b: b.replace(b"\n", b"") + b"\n")), st.integers(1, 9))
    def test_batches_lose_no_byte(self, content: list[bytes], size: int) -> None:
        """Pieces and halves put together are the batch."""
        seen: list[int] = []
        batch = Batch(content, seen.append)
        left, right = batch.split()
        assert b"".join(content) == batch.body() == b"".join(batch.chunks(size)) == left.body() + right.body()
        assert batch.size == seen[-1]
        assert (batch.lines, len(left)) == (left.lines + right.lines, right.start)
