"""The trace that an event belongs to: `TRACEPARENT` of the environment, and OpenTelemetry's current span in a program."""

from __future__ import annotations

import json
import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import pytest
from serving import event
from support import Tool, only

from rillevents import Client
from rillevents.recording.trace import current_span, trace_context

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
PARENT = f"00-{TRACE}-{SPAN}-01"
FOUND = {"trace_id": TRACE, "span_id": SPAN}


def traced(event: dict[str, Any]) -> dict[str, Any]:
    """Return what an event says of a trace."""
    return {key: event[key] for key in FOUND if key in event}


class TestTraceparent:
    @pytest.mark.parametrize(
        "text",
        [
            PARENT,
            f"00-{TRACE}-{SPAN}-00",
            f"00-{TRACE}-{SPAN}-ff",
            f"01-{TRACE}-{SPAN}-01",
            f"fe-{TRACE}-{SPAN}-01",
            f"cc-{TRACE}-{SPAN}-01-what-the-future-will-be-like",
            f"cc-{TRACE}-{SPAN}-01-",
            f" {PARENT}\n",
            f"\t{PARENT} ",
        ],
        ids=repr,
    )
    def test_valid(self, text: str) -> None:
        """A traceparent gives a trace's ID and a span's, whatever its flags; of a later version what comes after is passed over."""
        assert FOUND == trace_context(text)

    @pytest.mark.parametrize(
        ("trace_id", "span_id"),
        [("0" * 31 + "1", SPAN), (TRACE, "1" + "0" * 15), ("f" * 32, "f" * 16)],
        ids=["first 1", "last 1", "all set"],
    )
    def test_not_quite_zero(self, trace_id: str, span_id: str) -> None:
        """An ID of which one digit is not zero is one."""
        assert {"trace_id": trace_id, "span_id": span_id} == trace_context(f"00-{trace_id}-{span_id}-01")

    @pytest.mark.parametrize(
        "text",
        [
            "",
            " ",
            "-",
            "---",
            TRACE,
            "00",
            f"00-{TRACE}",
            f"00-{TRACE}-{SPAN}",
            f"{TRACE}-{SPAN}-01",
            f"ff-{TRACE}-{SPAN}-01",
            f"0-{TRACE}-{SPAN}-01",
            f"000-{TRACE}-{SPAN}-01",
            f"0x-{TRACE}-{SPAN}-01",
            f"FE-{TRACE}-{SPAN}-01",
            f"-{TRACE}-{SPAN}-01",
            f"00-{'0' * 32}-{SPAN}-01",
            f"00-{TRACE}-{'0' * 16}-01",
            f"00-{TRACE.upper()}-{SPAN}-01",
            f"00-{TRACE}-{SPAN.upper()}-01",
            f"00-{TRACE}-{SPAN}-0A",
            f"00-{TRACE[:-1]}-{SPAN}-01",
            f"00-{TRACE}0-{SPAN}-01",
            f"00-{TRACE}-{SPAN[:-1]}-01",
            f"00-{TRACE}-{SPAN}0-01",
            f"00-{TRACE[:-1]}g-{SPAN}-01",
            f"00-{TRACE}-g{SPAN[1:]}-01",
            f"00-{TRACE[:16]}.{TRACE[17:]}-{SPAN}-01",
            f"00-{TRACE}-{SPAN}-1",
            f"00-{TRACE}-{SPAN}-011",
            f"00-{TRACE}-{SPAN}-0g",
            f"00-{TRACE}-{SPAN}-",
            f"00-{TRACE}-{SPAN}-01-",
            f"00-{TRACE}-{SPAN}-01-more",
            f"cc-{TRACE}-{SPAN}-01.more",
            f"cc-{TRACE}-{SPAN}-0-1",
            f"00-{TRACE} -{SPAN}-01",
            f"00_{TRACE}_{SPAN}_01",
            f"{PARENT},{PARENT}",
            f"00-{'٣' * 32}-{SPAN}-01",
            f"00-{TRACE}-{SPAN}-01\0",
            f"00--{TRACE}-{SPAN}-01",
            "00-" + "a" * 100_000,
        ],
        ids=lambda text: repr(text[:70]),
    )
    def test_invalid(self, text: str) -> None:
        """What W3C's Trace Context does not allow is passed over as a whole."""
        assert {} == trace_context(text)


class TestRecord:
    def test_each_form(self, tool: Tool) -> None:
        """Every event that `record` makes has the trace's ID and the span's, by the quick parser and by Typer."""
        forms = [["behavioral", "a"], ["metric", "b", "1"], ["log", "c", "text"], ["event", "t", "d"]]
        # Options that stand close to their value are Typer's.
        forms.append(["behavioral", "e", "-ak=v"])
        for words in forms:
            assert "" == tool("record", *words, TRACEPARENT=PARENT).stderr
        assert [("abcde"[number], FOUND) for number in range(5)] == [
            (each["event_name"], traced(each)) for each in tool.events()
        ]

    def test_both_parsers(self, tool: Tool) -> None:
        """The quick parser and Typer make the same event of the same words, byte for byte."""
        fixed = ["--id", "i", "--time", "@0", "--dry-run"]
        environ = {"TRACEPARENT": PARENT, "RILLEVENTS_INSTALL_ID": "fixed", "RILLEVENTS_ATTRIBUTES": "a=b"}
        quick, typer = (tool("record", "log", "x", *each, *fixed, **environ) for each in (["-a", "k=v"], ["-ak=v"]))
        assert quick.stdout == typer.stdout
        assert FOUND == traced(json.loads(quick.stdout))

    def test_precedence(self, tool: Tool) -> None:
        """The trace comes before what is configured, in config.toml and in the environment, and before the call's own attributes."""
        tool.home.mkdir()
        (tool.home / "config.toml").write_text('[attributes]\ntrace_id = "configured"\n')
        tool("record", "log", "configured", TRACEPARENT=PARENT)
        tool("record", "log", "listed", TRACEPARENT=PARENT, RILLEVENTS_ATTRIBUTES="trace_id=listed,span_id=listed")
        tool("record", "log", "own", "-a", "span_id=own", TRACEPARENT=PARENT)
        expected = [("configured", SPAN), ("listed", "listed"), ("configured", "own")]
        assert expected == [(each["trace_id"], each["span_id"]) for each in tool.events()]

    def test_none(self, tool: Tool) -> None:
        """Without a traceparent, or with one that is not valid, there is nothing of a trace, and nothing is said."""
        for value in (None, "", "00-nonsense", f"ff{PARENT[2:]}"):
            assert "" == tool("record", "behavioral", "x", TRACEPARENT=value).stderr
        assert [{}] * 4 == [traced(each) for each in tool.events()]

    def test_raw(self, tool: Tool) -> None:
        """Raw events stay as they are, byte for byte."""
        assert 0 == tool("record", "raw", stdin=event("a"), TRACEPARENT=PARENT).returncode
        assert [event("a")] == tool.lines()

    def test_modules(self, tool: Tool) -> None:
        """With a traceparent a plain `record` loads one module more, and none of those that are slow to load."""
        script = (
            f"import sys; sys.path[:0] = {sys.path!r}; bare = set(sys.modules)\n"
            "sys.argv = ['rillevents', 'record', 'behavioral', 'x', '-a', 'k=v']\n"
            "import rillevents.cli as main\n"
            "main.leave = lambda code: print(code, *(set(sys.modules) - bare))\n"
            "main.main()\n"
        )

        def loaded(**environ: str) -> set[str]:
            without = {"COVERAGE_PROCESS_START": "", "COVERAGE_PROCESS_CONFIG": ""}
            words = [sys.executable, "-S", "-c", script]
            done = subprocess.run(
                words, env=tool.environ | without | environ, capture_output=True, text=True, check=True
            )
            code, *modules = done.stdout.split()
            assert "0" == code
            return {*modules}

        found = loaded(TRACEPARENT=PARENT)
        assert {"rillevents.recording.trace"} == found - loaded()
        assert 24 >= len([module for module in found if module.partition(".")[0] == "rillevents"])
        assert set() == found & {"re", "json", "logging", "typing", "dataclasses", "opentelemetry"}
        assert FOUND == traced(tool.events()[0])


class TestClient:
    def test_every_event(self, tool: Tool) -> None:
        """Every event of a configured client has the trace's ID and the span's; its own attributes win, and raw events have none."""
        client = Client.from_config(environ=tool.environ | {"TRACEPARENT": PARENT}, on_error="raise")
        assert FOUND == traced(dict(client.attributes))
        client.record_behavioral("a")
        client.record_log("b", "text", {"trace_id": "own"})
        client.with_attributes(span_id="of the client").record_metric("c", 1)
        with client.timed("d"):
            pass
        client.record_raw(event("e"))
        client.close()
        own = [FOUND, FOUND | {"trace_id": "own"}, FOUND | {"span_id": "of the client"}, FOUND, {}]
        assert own == [traced(each) for each in tool.events()]
        assert event("e") == tool.lines()[-1]

    def test_none(self, tool: Tool) -> None:
        """A client whose environment has no valid traceparent adds nothing."""
        for environ in ({}, {"TRACEPARENT": ""}, {"TRACEPARENT": PARENT.upper()}):
            assert {} == traced(dict(Client.from_config(environ=tool.environ | environ).attributes))


class Span:
    """As much of OpenTelemetry's API as is asked for."""

    def __init__(self, trace_id: object, span_id: object, is_valid: bool = True) -> None:
        self.context = SimpleNamespace(trace_id=trace_id, span_id=span_id, is_valid=is_valid)

    def get_current_span(self) -> Span:
        return self

    def get_span_context(self) -> SimpleNamespace:
        return self.context


class TestCurrentSpan:
    def test_ids(self) -> None:
        """The numbers of a span's context become texts of 32 and 16 digits."""
        assert FOUND == current_span(Span(int(TRACE, 16), int(SPAN, 16)))
        assert {"trace_id": f"{1:032x}", "span_id": f"{2:016x}"} == current_span(Span(1, 2))

    @pytest.mark.parametrize("api", [Span(0, 0, is_valid=False), Span("x", 1), Span(None, None), object(), None])
    def test_none(self, api: object) -> None:
        """Without a valid span there is nothing, and whatever another library does instead of answering stays without effect."""
        assert {} == current_span(api)

    def test_a_program(self, tool: Tool) -> None:
        """In a program with OpenTelemetry's API the current span gives the IDs; `set_attributes` and the call's own win over it."""
        pytest.importorskip("opentelemetry.trace")
        script = f"""
from opentelemetry import trace
from rillevents import Client, set_attributes

def span(trace_id, span_id):
    return trace.use_span(trace.NonRecordingSpan(trace.SpanContext(trace_id, span_id, is_remote=False)))

client = Client.from_config(on_error="raise").with_attributes(trace_id="of the client")
with span(0x{TRACE}, 0x{SPAN}):
    client.record_behavioral("in a span")
    with span(1, 2):
        client.record_behavioral("within")
    with set_attributes(trace_id="ambient"):
        client.record_behavioral("ambient")
        client.record_behavioral("own", trace_id="own", span_id="own")
    client.record_raw({event("raw")!r})
client.record_behavioral("after")
client.close()
"""
        run(tool, script, TRACEPARENT=f"00-{'1' * 32}-{'2' * 16}-01")
        assert {
            "in a span": FOUND,
            "within": {"trace_id": f"{1:032x}", "span_id": f"{2:016x}"},
            "ambient": {"trace_id": "ambient", "span_id": SPAN},
            "own": {"trace_id": "own", "span_id": "own"},
            "n": {},
            "after": {"trace_id": "of the client", "span_id": "2" * 16},
        } == {each["event_name"]: traced(each) for each in tool.events()}

    def test_it_is_not_imported(self, tool: Tool) -> None:
        """A program that does not use OpenTelemetry does not load it by recording."""
        script = """
import sys
from rillevents import Client, set_attributes

client = Client.from_config(on_error="raise")
with set_attributes(a=1):
    client.record_behavioral("x")
client.close()
assert not [name for name in sys.modules if name.startswith("opentelemetry")]
"""
        run(tool, script, TRACEPARENT=PARENT)
        assert FOUND == traced(only(tool.events()))


def run(tool: Tool, script: str, **environ: str) -> None:
    """Run a program; nothing may be said on stderr."""
    words = [sys.executable, "-c", script]
    done = subprocess.run(words, env=tool.environ | environ, capture_output=True, text=True, check=False)
    assert (0, "") == (done.returncode, done.stderr)
