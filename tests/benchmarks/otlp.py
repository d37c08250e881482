"""How long a flush of a million events as OpenTelemetry's log records takes, beside the OpenTelemetry Collector that reads a file.

    python tests/benchmarks/otlp.py [ROUNDS] [--collector FILE] [--save]

Builds the wheel of this checkout and installs it into a plain venv. `rillevents flush --to otlp+http://…` and, where
its binary is given (`tests/benchmarks/peers_go.sh FOLDER` builds it), the Collector's own file_log receiver and otlp_http exporter
send the same million events to one sink on loopback, in turn, each as a process of its own. The Collector has two rows: one sends
each line as the body of a record, without looking into it; the other parses it, as `flush` does: attributes, and the event's own
time. What arrived is counted after each turn. Exit code 1 where an event is missing; else it decides nothing.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from bulk import LINES, write_events
from common import Table, arguments, at_least, environment, install, report, version_of
from drain_server import OTLP_PATH, Sink, running
from flush import COLLECTOR_CONFIG, Saved, collect, measured

PROTOBUF, JSON, GZIP = "rillevents flush, protobuf", "rillevents flush, JSON", "rillevents flush, protobuf, gzip"
BODIES, PARSED = "Collector, lines as bodies", "Collector, lines parsed"
PROGRAMS = {"collector": "the binary of an OpenTelemetry Collector with file_log and otlp_http"}
SETTINGS = {
    PROTOBUF: "",
    JSON: '[otlp]\nencoding = "json"\n',
    GZIP: '[flush]\ncompression = "gzip"\n',
}
OPERATORS = {
    BODIES: "",
    PARSED: "{type: json_parser, timestamp: {parse_from: attributes.event_time, layout_type: gotime,"
    " layout: '2006-01-02T15:04:05.999999999Z07:00'}}, {type: remove, field: body}",
}


@dataclass
class Bench:
    """The installed programs, the file, the sink, and what arrived in each turn."""

    script: str
    folder: Path
    file: Path
    sink: Sink
    saved: Saved
    collector: str
    missing: list[int] = field(default_factory=list)
    sent: dict[str, tuple[int, int]] = field(default_factory=dict)
    peaks: list[float] = field(default_factory=list)

    def runs(self) -> Mapping[str, Callable[[], float]]:
        """Return a turn of each row."""
        ours = {row: self._flush(row) for row in SETTINGS}
        return ours | ({row: self._collect(row) for row in OPERATORS} if self.collector else {})

    def _flush(self, row: str) -> Callable[[], float]:
        def run() -> float:
            self.saved.restore(SETTINGS[row])
            to = f"otlp+{self.sink.url(OTLP_PATH.removeprefix('/'))}"
            done = measured(
                [self.script, "flush", "--json", "--to", to], environment(self.folder, self.saved.home.name)
            )
            assert LINES == json.loads(done.output)["delivered"], done.output
            self.peaks.append(done.megabytes)
            # Compressed bodies are not looked into: the flush's own word must do there.
            self._look(row, counted=row != GZIP)
            return done.seconds

        return run

    def _collect(self, row: str) -> Callable[[], float]:
        config = self.folder / f"{len(row)}.yaml"
        url = self.sink.url(OTLP_PATH.removeprefix("/"))
        config.write_text(COLLECTOR_CONFIG % {"file": self.file, "url": url, "operators": OPERATORS[row]})

        def run() -> float:
            seconds = collect(self.collector, ["--config", str(config)], self.sink, environment(self.folder))
            self._look(row)
            return seconds

        return run

    def _look(self, row: str, *, counted: bool = True) -> None:
        arrived = self.sink.taken()
        if counted:
            self.missing.append(abs(LINES - arrived.events))
        self.sent[row] = (arrived.requests, arrived.bytes)


def main() -> int:
    """Measure, and print the table."""
    assert __doc__
    options = arguments(__doc__, 3, PROGRAMS)
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        python, script = install(folder)
        versions = {"python": version_of(python, "--version").split()[1]}
        if options.collector:
            versions["OpenTelemetry Collector"] = (
                version_of(options.collector, "--version").split()[-1].removeprefix("v")
            )
        file = write_events(folder / "events.ndjson", LINES)
        saved = Saved.filled(script, file, folder, "home")
        with running(python) as sink:
            bench = Bench(script, folder, file, sink, saved, options.collector or "")
            table = Table(f"flush as OTLP: {LINES:,} events, the whole process", "s", PROTOBUF)
            table.measure(bench.runs(), options.rounds)
    job = f"`flush` of {LINES:,} events as OTLP"
    rows = (
        (PARSED, "≥ 1 × the Collector's file_log → OTLP, lines parsed"),
        (BODIES, "≥ 1 × the same, lines as bodies"),
    )
    goals = [at_least(job, goal, table.ratio(row, PROTOBUF), 1) for row, goal in rows if options.collector]
    counted = [f"{row}: {requests:,} requests, {size / 1e6:.0f} MB" for row, (requests, size) in bench.sent.items()]
    counted.append(f"{len(bench.missing)} turns of {LINES:,} events, {sum(bench.missing)} missing or sent twice")
    counted.append(f"peak memory of a flush: {statistics.median(bench.peaks):.1f} MB")
    report([table], goals, counted, versions, options)
    return int(any(bench.missing))


if __name__ == "__main__":
    sys.exit(main())
