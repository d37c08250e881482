"""A client among coroutines, and `timed` as a decorator."""

from __future__ import annotations

import asyncio
import inspect
import json
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import typer
from support import PACE, only

from rillevents import Client, IntakeSink, SpoolSink
from rillevents.spool.view import pending
from rillevents.testing import CapturingSink, FakeIntake


@pytest.fixture
def sink() -> CapturingSink:
    return CapturingSink()


@pytest.fixture
def client(sink: CapturingSink) -> Client:
    return Client(sink, on_error="raise")


def seen(sink: CapturingSink) -> list[tuple[str, bool, str | None]]:
    return [(e.event_name, e.attributes["success"], e.attributes.get("error")) for e in sink.events]


class TestDecorator:
    def test_a_function(self, client: Client, sink: CapturingSink) -> None:
        """Each call is a metric, a failing one with the exception's class; the function keeps its name and its result."""

        @client.timed("build", k=1)
        def build(fails: bool = False) -> int:
            """Builds."""
            if fails:
                raise KeyError("x")
            return 5

        assert (5, "build", "Builds.") == (build(), build.__name__, build.__doc__)
        with pytest.raises(KeyError):
            build(fails=True)
        assert [("build", True, None), ("build", False, "KeyError")] == seen(sink)
        assert {1} == {event.attributes["k"] for event in sink.events}

    def test_a_coroutine(self, client: Client, sink: CapturingSink) -> None:
        """A coroutine is timed until it has ended, and calls that overlap each have their own time."""
        step = 0.05

        @client.timed("fetch")
        async def fetch(times: int) -> int:
            for _ in range(times):
                await asyncio.sleep(step)
            return times

        async def main() -> list[int]:
            return list(await asyncio.gather(fetch(4), fetch(1)))

        assert inspect.iscoroutinefunction(fetch)
        assert [4, 1] == asyncio.run(main())
        short, long = (event.attributes["value"] for event in sink.events)
        assert short >= step * 0.9
        assert long >= 4 * step * 0.9

    def test_a_cancelled_coroutine(self, client: Client, sink: CapturingSink) -> None:
        """A cancelled call has not succeeded, and the cancellation goes on."""

        @client.timed("fetch")
        async def fetch() -> None:
            await asyncio.sleep(600)

        async def main() -> None:
            task = asyncio.create_task(fetch())
            await asyncio.sleep(0)
            task.cancel()
            await task

        with pytest.raises(asyncio.CancelledError):
            asyncio.run(main())
        assert [("fetch", False, "CancelledError")] == seen(sink)

    def test_generators(self, client: Client, sink: CapturingSink) -> None:
        """A generator is timed from its first step to its end, and gives what it gave."""

        @client.timed("walk")
        def walk() -> Iterator[int]:
            yield 1
            yield 2

        @client.timed("awalk")
        async def awalk() -> AsyncIterator[int]:
            yield 3

        async def main() -> list[int]:
            return [item async for item in awalk()]

        assert ([1, 2], [3]) == (list(walk()), asyncio.run(main()))
        assert [("walk", True, None), ("awalk", True, None)] == seen(sink)

    def test_an_async_generator_is_the_same_with_it(self, client: Client, sink: CapturingSink) -> None:
        """What is sent and thrown into an asynchronous generator, and its closing, arrives there, as without the decorator."""

        async def echo(told: list[object]) -> AsyncGenerator[object, object]:
            got: object = "begin"
            try:
                while True:
                    try:
                        got = yield got
                    except KeyError:
                        got = "caught"
                    if got == "end":
                        return
            finally:
                await asyncio.sleep(0)
                told.append("closed")

        async def talk(function: Any, *, to_the_end: bool) -> list[object]:
            told: list[object] = []
            talking = function(told)
            told += [await talking.asend(None), await talking.asend("hello"), await talking.athrow(KeyError("x"))]
            if to_the_end:
                with pytest.raises(StopAsyncIteration):
                    await talking.asend("end")
            await talking.aclose()
            told.append("after it")
            with pytest.raises(ValueError, match="thrown"):
                other = function(told)
                await anext(other)
                await other.athrow(ValueError("thrown"))
            return told

        for to_the_end in (True, False):
            plain, timed = (
                asyncio.run(talk(each, to_the_end=to_the_end)) for each in (echo, client.timed("echo")(echo))
            )
            assert ["begin", "hello", "caught", "closed", "after it", "closed"] == plain == timed
            assert [("echo", True, None), ("echo", False, "ValueError")] == seen(sink)
            sink.events.clear()

    def test_a_generator_that_outlives_the_loop(self, client: Client, sink: CapturingSink) -> None:
        """An asynchronous generator that is still there when the event loop ends is closed by it, once, without a complaint."""
        told: list[Any] = []

        @client.timed("walk")
        async def walk() -> AsyncIterator[int]:
            try:
                yield 1
                yield 2
            finally:
                await asyncio.sleep(0)
                told.append("closed")

        async def main() -> None:
            asyncio.get_running_loop().set_exception_handler(lambda loop, context: told.append(context))
            kept.append(walk())
            await anext(kept[0])

        kept: list[Any] = []
        asyncio.run(main())
        assert (["closed"], [("walk", True, None)]) == (told, seen(sink))

    def test_a_generator_of_two_threads(self, client: Client, sink: CapturingSink) -> None:
        """A generator may begin in one thread and end in another."""

        @client.timed("walk")
        def walk() -> Iterator[int]:
            yield 1

        walking = walk()
        next(walking)
        thread = threading.Thread(target=lambda: list(walking))
        thread.start()
        thread.join()
        assert [("walk", True, None)] == seen(sink)

    def test_a_coroutine_that_is_closed(self, client: Client, sink: CapturingSink) -> None:
        """A block in a coroutine that is closed within it has not succeeded, and an exception's own properties cannot harm."""

        async def work() -> None:
            with client.timed("work"):
                await asyncio.sleep(600)

        class Odd(Exception):
            @property
            def exit_code(self) -> int:
                raise RuntimeError

        async def main() -> None:
            coroutine = work()
            coroutine.send(None)
            coroutine.close()

        asyncio.run(main())
        with pytest.raises(Odd), client.timed("odd"):
            raise Odd
        assert [("work", False, "GeneratorExit"), ("odd", False, "Odd")] == seen(sink)

    def test_a_context_manager(self, client: Client, sink: CapturingSink) -> None:
        """With `asynccontextmanager` around it, the exception of a block gets into the generator."""
        done: list[str] = []

        @asynccontextmanager
        @client.timed("transaction")
        async def transaction() -> AsyncIterator[None]:
            try:
                yield
            except ValueError:
                done.append("rollback")

        async def main() -> None:
            async with transaction():
                raise ValueError

        asyncio.run(main())
        assert ["rollback"] == done
        assert [("transaction", True, None)] == seen(sink)

    @pytest.mark.parametrize(
        ("end", "expected"),
        [
            (SystemExit(), (True, None)),
            (SystemExit(0), (True, None)),
            (typer.Exit(), (True, None)),
            (SystemExit(3), (False, "SystemExit")),
            (typer.Exit(3), (False, "Exit")),
            (SystemExit("text"), (False, "SystemExit")),
        ],
        ids=repr,
    )
    def test_exits(
        self, end: BaseException, expected: tuple[bool, str | None], client: Client, sink: CapturingSink
    ) -> None:
        """A program that exits with 0 went well."""
        with pytest.raises(type(end)), client.timed("main"):
            raise end
        assert [("main", *expected)] == seen(sink)

    def test_a_generator_that_is_left(self, client: Client, sink: CapturingSink) -> None:
        """Whoever needs no more of a generator has not failed."""

        @client.timed("walk")
        def walk() -> Iterator[int]:
            yield from range(10)

        for _ in walk():
            break
        assert [("walk", True, None)] == seen(sink)

    def test_one_for_several_blocks(self, client: Client, sink: CapturingSink) -> None:
        """One timer in several blocks, one after the other, within each other, in threads and in tasks, tells each by itself."""
        timer = client.timed("step", k=1)
        for number in range(2):
            with timer as more:
                more[f"only_{number}"] = number
        found = [[key for key in event.attributes if key.startswith("only")] for event in sink.events]
        assert [["only_0"], ["only_1"]] == found
        sink.events.clear()
        order = [threading.Event() for _ in range(2)]

        def block(number: int) -> None:
            with timer as more:
                more["number"] = number
                order[number].set()
                # The first one ends first.
                order[1].wait(60 * PACE)

        threads = [threading.Thread(target=block, args=(number,)) for number in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        async def task(number: int, ready: asyncio.Event, go: asyncio.Event) -> None:
            with timer as more:
                more["number"] = number
                ready.set()
                await go.wait()

        async def main() -> None:
            events = [asyncio.Event() for _ in range(3)]
            await asyncio.gather(task(2, events[0], events[1]), task(3, events[1], events[0]))

        asyncio.run(main())
        with timer as outer:
            with timer as inner:
                inner["number"] = 4
            outer["number"] = 5
        assert [0, 1, 2, 3, 4, 5] == sorted(event.attributes["number"] for event in sink.events)
        outside, inside = (event.attributes["value"] for event in reversed(sink.events[-2:]))
        assert outside >= inside

    def test_recursion_and_threads(self, client: Client, sink: CapturingSink) -> None:
        """A function that calls itself, and calls from many threads, are timed call by call."""

        @client.timed("down")
        def down(depth: int) -> None:
            if depth:
                down(depth - 1)

        threads = [threading.Thread(target=down, args=(3,)) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert 32 == len(sink.events)
        assert all(0 <= event.attributes["value"] < 60 * PACE for event in sink.events)

    def test_as_a_block(self, client: Client, sink: CapturingSink) -> None:
        """As a context manager it still gives a dict for further attributes."""
        with client.timed("build") as attributes:
            attributes["k"] = 2
        assert 2 == only(sink.events).attributes["k"]


class TestAsync:
    def test_aflush(self) -> None:
        """`aflush` delivers what is held while the event loop goes on."""
        with FakeIntake() as intake:
            gate = threading.Event()

            def respond(request: Any) -> int:
                gate.wait(60 * PACE)
                return 200

            intake.respond = respond
            client = Client(IntakeSink(intake.url))
            client.record("a", "x")

            async def main() -> int:
                flushing = asyncio.create_task(client.aflush(60 * PACE))
                turns = 0
                while not intake.requests and turns < 6000 * PACE:
                    await asyncio.sleep(0.01)
                    turns += 1
                gate.set()
                assert not flushing.done() or turns
                return (await flushing).delivered

            assert 1 == asyncio.run(main())
            client.close()

    def test_async_with(self, sink: CapturingSink) -> None:
        """`async with` closes the client, and returns it."""

        async def main() -> None:
            async with Client(sink) as client:
                client.record("a", "x")

        asyncio.run(main())
        assert sink.closed

    def test_the_loop_goes_on_with_a_full_spool(self, tmp_path: Path) -> None:
        """Recording in a coroutine with a spool that is full is a log line, and the loop takes its turns."""
        client = Client(SpoolSink(str(tmp_path / "spool"), max_bytes=1))

        async def main() -> int:
            turns = 0
            for _ in range(50):
                assert None is client.record("a", "x")
                await asyncio.sleep(0)
                turns += 1
            return turns

        assert 50 == asyncio.run(main())
        assert [] == list(pending(str(tmp_path / "spool")))

    def test_from_many_tasks(self, tmp_path: Path) -> None:
        """Events of many tasks are each stored once, with the attributes of their task."""
        from rillevents import set_attributes

        client = Client(SpoolSink(str(tmp_path / "spool")))

        async def one(number: int) -> None:
            with set_attributes(task=number):
                await asyncio.sleep(0)
                client.record("a", f"n{number}")

        async def main() -> None:
            async with client:
                await asyncio.gather(*(one(number) for number in range(50)))

        asyncio.run(main())
        found = [json.loads(line) for line in pending(str(tmp_path / "spool"))]
        assert [f"n{n}" for n in range(50)] == sorted((e["event_name"] for e in found), key=lambda name: int(name[1:]))
        assert all(event["event_name"] == f"n{event['task']}" for event in found)
