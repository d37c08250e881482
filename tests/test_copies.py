"""Copies of a client: in this process they share the sink, in another they open the user's own again."""

from __future__ import annotations

import copy
import multiprocessing
import pickle
from pathlib import Path

import pytest
from support import Tool

from rillevents import Application, BatchingSink, Client, FileExporter, IntakeSink, SpoolSink
from rillevents.testing import CapturingSink


def record(client: Client) -> str | None:
    """Record in another process."""
    found = client.record("t", "there")
    client.close()
    return found


@pytest.mark.parametrize("make", [copy.copy, copy.deepcopy], ids=["copy", "deepcopy"])
def test_copies_share_the_sink(make: object, tool: Tool, tmp_path: Path) -> None:
    """A copy of a client, taken before or after its first event, records into the same sink with the same attributes."""
    spool = Client.from_config(environ=tool.environ).with_service_name("s")
    batching = BatchingSink(FileExporter(tmp_path / "x"))
    for client in (spool, Client(CapturingSink(), attributes={"a": [1]}), Client(batching)):
        client.record("t", "n")
        other = make(client)  # type: ignore[operator]
        assert client.sink is other.sink
        assert client.attributes == other.attributes
        assert other.record("t", "copy")
    spool.close()
    batching.close()
    assert ["n", "copy"] == [event["event_name"] for event in tool.events()]
    assert ["s", "s"] == [event["service_name"] for event in tool.events()]


def test_in_a_structure(tool: Tool) -> None:
    """A copy of a program's settings with a client in them is one of these."""
    settings = {"telemetry": Client.from_config(environ=tool.environ), "list": [1]}
    other = copy.deepcopy(settings)
    assert other["telemetry"].sink is settings["telemetry"].sink  # type: ignore[attr-defined]


def test_another_process(tool: Tool) -> None:
    """A client from the configuration, sent to another process, opens the same user's spool there, with what was added to it."""
    client = Client.from_config(environ=tool.environ).with_service_name("s").with_attributes(k={"a": 1})
    client.record("t", "here")
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.apply(record, (client,))
    client.close()
    here, there = tool.events()
    assert ("here", "there") == (here["event_name"], there["event_name"])
    assert 1 == len({(event["install_id"], event["service_name"], str(event["k"])) for event in (here, there)})


def test_again(tool: Tool) -> None:
    """What was unpickled can be pickled again, under another name and with its way of reporting errors, too."""
    environ = {key.replace("RILLEVENTS_", "MINE_"): value for key, value in tool.environ.items()}
    client = Client.from_config(environ=environ, app=Application("mine", "MINE_"), on_error="raise")
    other = pickle.loads(pickle.dumps(pickle.loads(pickle.dumps(client.with_user_id("u")))))
    assert {**client.attributes, "user_id": "u"} == other.attributes
    with pytest.raises(ValueError, match="non-empty"):
        other.record("t", "")


@pytest.mark.parametrize(
    "sink",
    [CapturingSink(), SpoolSink("x"), IntakeSink("https://intake.example/")],
    ids=["own", "spool", "intake"],
)
def test_other_clients(sink: object) -> None:
    """A client on a sink that a programmer made cannot be sent to another process, and says so."""
    with pytest.raises(TypeError, match="make a client in the other process"):
        pickle.dumps(Client(sink))  # type: ignore[arg-type]
