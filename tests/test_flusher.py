"""One flush, from the spool to an exporter and into the result."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support import PACE, Clock, Tool, only, unzstd

from rillevents.delivery.exporters.encoding import Encoding, encoder
from rillevents.delivery.exporters.intake import IntakeExporter
from rillevents.delivery.flush import batch_limits
from rillevents.delivery.flusher import Flusher
from rillevents.delivery.outcome import FlushResult, Kind, Outcome
from rillevents.errors import Busy
from rillevents.event import Event
from rillevents.event.batch import Batch
from rillevents.local import config
from rillevents.spool import create, view
from rillevents.spool.drain import Drain
from rillevents.spool.offsets import SpoolBatch
from rillevents.spool.slots import append
from rillevents.spool.state import load
from rillevents.testing import FakeIntake, Response


class Exporter:
    """An exporter in memory that answers what *answer* says, 2xx without it."""

    def __init__(self, answer: Callable[[list[int]], Kind] | None = None) -> None:
        self.answer = answer
        self.accepted: list[int] = []
        self.requests = 0

    def export(self, batch: Batch) -> Outcome:
        self.requests += 1
        numbers = [json.loads(line)["number"] for line in batch.lines]
        kind = self.answer(numbers) if self.answer else Kind.ACCEPTED
        if kind is Kind.ACCEPTED:
            self.accepted += numbers
        return Outcome(kind, "" if kind is Kind.ACCEPTED else kind.value)

    def close(self) -> None:
        return


@pytest.fixture
def spool(tmp_path: Path) -> str:
    """A spool with twenty events."""
    path = str(tmp_path / "spool")
    fill(path, range(20))
    return path


def fill(spool: str, numbers: range) -> None:
    for number in numbers:
        append(create(spool), Event("t", "n", {"number": number}).line, max_bytes=1 << 30)


def flush(spool: str, exporter: Exporter, **settings: object) -> FlushResult:
    clock = Clock()
    return Flusher(exporter, clock=clock, sleep=clock.sleep, **settings).flush([spool])  # type: ignore[arg-type]


def poisoned(*bad: int, kind: Kind = Kind.INVALID) -> Callable[[list[int]], Kind]:
    return lambda numbers: kind if set(bad) & set(numbers) else Kind.ACCEPTED


class TestFlush:
    def test_delivered(self, spool: str) -> None:
        """What is in the spool is delivered once, in order, and the result counts it."""
        exporter = Exporter()
        result = flush(spool, exporter, batch_events=8)
        assert ("delivered", 20, 0, 3, 0) == (
            result.outcome,
            result.delivered,
            result.pending,
            result.requests,
            result.exit_code,
        )
        assert list(range(20)) == exporter.accepted
        assert ("empty", 0) == (flush(spool, exporter).outcome, flush(spool, exporter).exit_code)

    def test_poisoned(self, spool: str) -> None:
        """Only the events that the destination refuses are put aside, each with a reason; the others are delivered."""
        exporter = Exporter(poisoned(3, 4, 17))
        result = flush(spool, exporter)
        assert ("rejected", 17, 3, 65) == (result.outcome, result.delivered, result.rejected, result.exit_code)
        assert [3, 4, 17] == sorted(json.loads(found.line)["number"] for found in view.rejected(spool))

    def test_everything_refused(self, spool: str) -> None:
        """Where every event is refused none is put aside: the set-up is to blame, and all are kept."""
        result = flush(spool, Exporter(lambda numbers: Kind.INVALID))
        assert ("unconfigured", 20, 78) == (result.outcome, result.pending, result.exit_code)
        assert [] == list(view.rejected(spool))

    @pytest.mark.parametrize("batch_events", [1, 2, 1000])
    def test_everything_refused_in_small_batches(self, batch_events: int, spool: str) -> None:
        """That holds in batches of one event, too: the first two wait for evidence."""
        result = flush(spool, Exporter(lambda numbers: Kind.INVALID), batch_events=batch_events)
        assert ("unconfigured", 20) == (result.outcome, result.pending)

    @pytest.mark.parametrize("batch_events", [1, 2, 1000])
    def test_first_events_poisoned_in_small_batches(self, batch_events: int, spool: str) -> None:
        """Two bad events at the very start are put aside once a later one was accepted."""
        result = flush(spool, Exporter(poisoned(0, 1)), batch_events=batch_events)
        assert ("rejected", 18, 2, 0) == (result.outcome, result.delivered, result.rejected, result.pending)

    def test_a_lone_bad_event(self, tmp_path: Path) -> None:
        """A spool whose one event is refused has that event put aside."""
        path = str(tmp_path / "lone")
        fill(path, range(1))
        result = flush(path, Exporter(lambda numbers: Kind.INVALID))
        assert ("rejected", 1, 0) == (result.outcome, result.rejected, result.pending)

    @pytest.mark.parametrize(
        ("kind", "outcome", "code"),
        [(Kind.TEMPORARY, "temporary", 75), (Kind.REFUSED, "refused", 77), (Kind.MISCONFIGURED, "unconfigured", 78)],
        ids=["down", "credentials", "url"],
    )
    def test_stopped(self, kind: Kind, outcome: str, code: int, spool: str) -> None:
        """Events acknowledged before the flush had to stop are gone, the rest is kept, and the code says who must act."""
        result = flush(spool, Exporter(lambda numbers: kind if 10 in numbers else Kind.ACCEPTED), batch_events=5)
        assert (outcome, 10, 10, code) == (result.outcome, result.delivered, result.pending, result.exit_code)
        assert outcome == load(f"{spool}/v1").last_flush["outcome"]

    def test_outage_ends(self, spool: str) -> None:
        """An outage that ends within the deadline costs nothing but time."""
        answers = iter([Kind.TEMPORARY] * 4)
        exporter = Exporter(lambda numbers: next(answers, Kind.ACCEPTED))
        assert 20 == flush(spool, exporter).delivered

    def test_outage_lasts(self, spool: str) -> None:
        """An outage that lasts is given up after thirty seconds without progress."""
        clock = Clock()
        result = Flusher(Exporter(lambda numbers: Kind.TEMPORARY), clock=clock, sleep=clock.sleep).flush([spool])
        assert "temporary" == result.outcome
        assert clock.now - 1000 <= 30

    def test_several_spools(self, spool: str, tmp_path: Path) -> None:
        """The other place where events may lie is emptied, too."""
        fill(str(tmp_path / "other"), range(100, 103))
        exporter = Exporter()
        result = Flusher(exporter).flush([spool, str(tmp_path / "other"), str(tmp_path / "missing")])
        assert (23, 0) == (result.delivered, result.pending)

    def test_another_flush(self, spool: str) -> None:
        """A flush waits for another one, and gives up at its timeout."""
        with Drain(create(spool)):
            clock = Clock()
            with pytest.raises(Busy):
                Flusher(Exporter(), timeout=3, clock=clock, sleep=clock.sleep).flush([spool])
            assert 2.5 < clock.now - 1000 <= 3
            with pytest.raises(Busy):
                Flusher(Exporter(), wait=False).flush([spool])

    def test_progress(self, spool: str) -> None:
        """The progress callback gets the number of events done."""
        seen: list[int] = []
        Flusher(Exporter(), batch_events=8, on_progress=seen.append).flush([spool])
        assert [8, 16, 20] == seen


class TestGrowth:
    @pytest.mark.parametrize(("most", "largest"), [((8, 1 << 20), 8), (None, 2)], ids=["with-room", "fixed"])
    def test_batches(self, spool: str, most: tuple[int, int] | None, largest: int) -> None:
        """Batches grow while answers come at once, up to the most; without room they stay. Nothing is sent twice, or out of order."""
        # Large ones: what was read in one block is cut by the limits of that time.
        pad = "x" * 30_000
        for number in range(20, 60):
            append(create(spool), Event("t", "n", {"number": number, "pad": pad}).line, max_bytes=1 << 30)
        exporter = Exporter()
        sizes: list[int] = []
        exporter.answer = lambda numbers: sizes.append(len(numbers)) or Kind.ACCEPTED  # type: ignore[func-returns-value]
        assert 60 == flush(spool, exporter, batch_events=2, most=most).delivered
        assert (2, largest) == (sizes[0], max(sizes))
        assert [*range(60)] == exporter.accepted

    @pytest.mark.parametrize(
        ("setting", "most"),
        [("", IntakeExporter.most), ("batch_events = 7\n", None), ('batch_bytes = "1MiB"\n', None)],
        ids=["nothing", "events", "bytes"],
    )
    def test_what_is_configured_is_fixed(self, setting: str, most: object, tool: Tool) -> None:
        """A batch grows only where neither limit is set."""
        tool.home.mkdir()
        (tool.home / "config.toml").write_text(f"[flush]\n{setting}")
        exporter = IntakeExporter("http://127.0.0.1:1/", environ={})
        assert most == batch_limits(config.load(tool.paths), exporter)["most"]
        exporter.close()


class Preparing(Exporter):
    """An exporter whose answer waits until the batch after the one it was given has been read, where there is one."""

    def __init__(self, batches: int, answer: Callable[[list[int]], Kind] | None = None) -> None:
        super().__init__(answer)
        self.batches = batches
        self.read = threading.Semaphore(0)
        self.prepared: list[int] = []

    def prepare(self, batch: Batch) -> None:
        self.prepared += [json.loads(line)["number"] for line in batch.lines]
        self.read.release()

    def export(self, batch: Batch) -> Outcome:
        if self.requests + 1 < self.batches:
            assert self.read.acquire(timeout=60), "nobody reads ahead"
        return super().export(batch)


class TestReadAhead:
    def test_while_a_batch_is_under_way(self, spool: str) -> None:
        """While one batch is under way the next is read and prepared; all are delivered once, in order."""
        exporter = Preparing(5)
        assert ("delivered", 20) == (flush(spool, exporter, batch_events=4).outcome, len(exporter.accepted))
        assert list(range(20)) == exporter.accepted
        assert list(range(4, 20)) == exporter.prepared

    def test_stop(self, spool: str) -> None:
        """What was read ahead when the destination refused stays as it was: nothing is settled or counted, and all arrive later."""
        exporter = Preparing(5, lambda numbers: Kind.REFUSED if 8 in numbers else Kind.ACCEPTED)
        result = flush(spool, exporter, batch_events=4)
        assert ("refused", 8, 12) == (result.outcome, result.delivered, result.pending)
        assert list(range(8, 20)) == (after := Exporter(), flush(spool, after))[0].accepted
        assert 20 == load(create(spool)).counts["delivered"]

    def test_damage_read_ahead_twice(self, tmp_path: Path) -> None:
        """Damage in a batch that was read ahead and not sent is put aside once, and counted once, by the flush that gets there."""
        spool = str(tmp_path / "spool")
        fill(spool, range(4))
        with open(f"{create(spool)}/slot-0.ndjson", "ab") as slot:
            slot.write(b"damaged\n")
        fill(spool, range(4, 8))
        result = flush(spool, Exporter(lambda numbers: Kind.REFUSED), batch_events=4)
        assert ("refused", 0, 0) == (result.outcome, result.corrupt, result.delivered)
        result = flush(spool, Exporter(), batch_events=4)
        assert ("delivered", 8, 1) == (result.outcome, result.delivered, result.corrupt)
        assert [b"damaged\n"] == [path.read_bytes() for path in (Path(create(spool)) / "corrupt").iterdir()]

    @pytest.mark.parametrize("where", ["reading", "preparing"])
    def test_reading_ahead_fails(self, where: str, spool: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """What goes wrong with the batch that comes next costs nothing of the one under way; preparing may fail as it likes."""
        exporter = Preparing(1)
        if where == "preparing":
            exporter.prepare = lambda: None  # type: ignore[method-assign,assignment]
            assert ("delivered", 20) == (flush(spool, exporter, batch_events=4).outcome, len(exporter.accepted))
            return
        batches = Drain.batches

        def failing(drain: Drain) -> Iterator[SpoolBatch]:
            yield next(batches(drain))
            raise MemoryError

        monkeypatch.setattr(Drain, "batches", failing)
        with pytest.raises(MemoryError):
            flush(spool, exporter, batch_events=4)
        monkeypatch.undo()
        assert list(range(4)) == exporter.accepted
        flush(spool, exporter)
        assert list(range(20)) == exporter.accepted

    def test_exporter_that_is_used_again(self) -> None:
        """Batches that were prepared and never sent, because the flush stopped, do not pile up in an exporter."""
        encoding = Encoding(encoder("gzip"))
        batches = [Batch([b"%d\n" % number]) for number in range(9)]
        for batch in batches:
            encoding.begin(batch)
        assert 2 == len(encoding._begun)
        encoding.clear()
        assert [batch.body() for batch in batches] == [gzip.decompress(encoding.body(batch)) for batch in batches]

    def test_added_during_the_last_batch(self, tmp_path: Path) -> None:
        """What a writer adds to a claim while its last batch is under way, all of it read, goes with the same flush."""
        spool = str(tmp_path / "spool")
        fill(spool, range(2))
        held = os.open(f"{create(spool)}/slot-0.ndjson", os.O_WRONLY | os.O_APPEND)

        def add(numbers: list[int]) -> Kind:
            if 2 not in numbers:
                os.write(held, Event("t", "n", {"number": 2}).line)
            return Kind.ACCEPTED

        exporter = Exporter(add)
        result = flush(spool, exporter)
        os.close(held)
        assert ("delivered", 3, 0) == (result.outcome, result.delivered, result.pending)
        assert [0, 1, 2] == exporter.accepted

    @pytest.mark.parametrize("compression", ["none", "gzip", "zstd"])
    def test_compressed_ahead(self, compression: str) -> None:
        """A body that was begun ahead is the one that the batch has; a batch that is another, or half of it, has its own."""
        encoding = Encoding(encoder(compression))
        batch = Batch([b'{"n":%d}\n' % number for number in range(1000)])
        other, half = Batch([b"{}\n"]), batch.split()[0]
        encoding.begin(batch)
        encoding.begin(other)
        found = [encoding.body(one) for one in (half, batch, batch, other)]
        assert [one.body() for one in (half, batch, batch, other)] == [
            decompressed(body, compression) for body in found
        ]

    def test_compressing_fails_ahead(self) -> None:
        """Where compressing ahead fails it is tried again in the batch's turn, and that is what is told."""
        tries: list[int] = []

        def fail_once(body: bytes) -> bytes:
            tries.append(len(body))
            if len(tries) == 1:
                raise MemoryError
            return body

        encoding = Encoding(fail_once)
        batch = Batch([b"{}\n"])
        encoding.begin(batch)
        assert (b"{}\n", [3, 3]) == (encoding.body(batch), tries)


def decompressed(body: bytes, compression: str) -> bytes:
    if compression == "none":
        return body
    return gzip.decompress(body) if compression == "gzip" else unzstd(body)


class TestCommand:
    def test_twenty_events_byte_for_byte(self, tool: Tool) -> None:
        """Twenty events in six forms arrive once, byte for byte what `spool export` showed before."""
        long = "é☃" * 3000
        commands = [
            ["behavioral", "login-start"],
            ["behavioral", "login-success", "-a", "plan=pro", "-a", 'q="\\\n\t\u2028\U0001f600'],
            ["metric", "delta", "-45"],
            ["metric", "big", "123456789012345678901234567890", "-a", f"long={long}"],
            ["log", "backup", "it's done", "--time", "2026-11-23 10:00:00.5+0200"],
            ["log", "silent"],
            ["event", "audit", "rotated", "-a", 'k:={"a":[1,null]}', "--id", "mine"],
            ["behavioral", "more", "--attrs", '{"n": 9007199254740993, "x": 1}', "-a", "x=2"],
        ]
        for words in (commands * 3)[:18]:
            assert 0 == tool("record", *words).returncode
        raw = b'{"event_name":"r","event_type":"t","event_time":"2026-11-23T10:00:00Z","event_id":"raw-1" , "z":1.50}\n'
        assert 0 == tool("record", "raw", stdin=raw).returncode
        assert 0 == tool("record", "raw", "--fill", stdin=b'{"msg":"filled"}\n').returncode
        exported = tool("spool", "export").stdout.encode()
        assert 20 == exported.count(b"\n")
        assert raw in exported
        with FakeIntake("u", "p") as intake:
            environ = {
                "RILLEVENTS_INTAKE_URL": intake.url,
                "RILLEVENTS_INTAKE_USER": "u",
                "RILLEVENTS_INTAKE_PASSWORD": "p",
            }
            done = tool.json("flush", **environ)
            assert ("delivered", 20, 0) == (done["outcome"], done["delivered"], done["pending"])
            assert exported == b"".join(intake.lines)
            assert "empty" == tool.json("flush", **environ)["outcome"]
            assert 1 == len(intake.requests)
        found = {event["event_name"]: event for event in intake.events}
        assert (-45, 123456789012345678901234567890) == (found["delta"]["value"], found["big"]["value"])
        assert (long, 9007199254740993, "2") == (found["big"]["long"], found["more"]["n"], found["more"]["x"])
        assert '"\\\n\t\u2028\U0001f600' == found["login-success"]["q"]
        assert "2026-11-23T08:00:00.500000000Z" == found["backup"]["event_time"]

    @pytest.mark.parametrize(
        ("status", "code", "outcome"),
        [
            (503, 75, "temporary"),
            (401, 77, "refused"),
            (403, 77, "refused"),
            (404, 78, "unconfigured"),
            (302, 78, "unconfigured"),
        ],
    )
    def test_exit_codes(self, status: int, code: int, outcome: str, tool: Tool) -> None:
        """The exit code of `flush` says who must act, the JSON says why, and the events are kept."""
        tool("record", "behavioral", "x")
        with FakeIntake() as intake:
            intake.respond = lambda request: Response(status, headers={"Location": "http://127.0.0.1:9/"})
            # Only what is tried again uses its time up.
            seconds = str(0.5 * PACE if code == 75 else 60 * PACE)
            done = tool("flush", "--json", "--timeout", seconds, RILLEVENTS_INTAKE_URL=intake.url)
            soft = tool("flush", "--timeout", seconds, "--on-error", "warn", RILLEVENTS_INTAKE_URL=intake.url)
        document = json.loads(done.stdout)
        assert (code, outcome, 1) == (done.returncode, document["outcome"], document["pending"])
        assert 0 == soft.returncode
        assert 1 == soft.stderr.count("\n")

    def test_keys(self, tool: Tool) -> None:
        """The document of `flush --json` has the keys of the contract, whatever came of it."""
        expected = {
            "outcome",
            "delivered",
            "rejected",
            "corrupt",
            "dropped",
            "pending",
            "requests",
            "bytes",
            "seconds",
            "reason",
        }
        assert expected == tool.json("flush").keys() == tool.json("flush", DO_NOT_TRACK="1").keys()

    def test_off(self, tool: Tool) -> None:
        """Opted out, `flush` returns 0 and says who decided."""
        tool("record", "behavioral", "x")
        done = tool("flush", DO_NOT_TRACK="1")
        assert (0, "") == (done.returncode, done.stdout)
        assert "off: " in done.stderr
        assert "DO_NOT_TRACK" in done.stderr

    def test_no_destination(self, tool: Tool) -> None:
        """Without a destination the code is 78, and the message says what to type."""
        done = tool("flush")
        assert 78 == done.returncode
        assert "rillevents config set intake.url URL" in done.stderr

    def test_no_wait(self, tool: Tool) -> None:
        """With --no-wait, `flush` exits at once with 0 if another flush is running; without it the wait ends at the timeout with 75."""
        tool("record", "behavioral", "x")
        with Drain(str(tool.spool)):
            assert 0 == tool("flush", "--no-wait", "--to", "http://127.0.0.1:9/").returncode
            assert 75 == tool("flush", "--timeout", "0.3", "--to", "http://127.0.0.1:9/").returncode
        assert 1 == len(tool.events())

    def test_credentials_stay_at_home(self, tool: Tool) -> None:
        """Credentials go to the origin that they were configured for, and nowhere else; and never in an argument."""
        tool("record", "behavioral", "x")
        with FakeIntake() as ours, FakeIntake() as other:
            environ = {"RILLEVENTS_INTAKE_URL": ours.url.replace("://", "://user:pa%20ss@")}
            assert 0 == tool("flush", "--to", other.url, **environ).returncode
            tool("record", "behavioral", "y")
            assert 0 == tool("flush", **environ).returncode
            refused = tool("flush", "--to", other.url.replace("://", "://u:hunter2@"))
        assert "authorization" not in only(other.requests).headers
        assert "Basic dXNlcjpwYSBzcw==" == only(ours.requests).headers["authorization"]
        assert 2 == refused.returncode
        assert "hunter2" not in refused.stderr + refused.stdout

    @pytest.mark.parametrize("kind", ["password_file", "password_command", "token"])
    def test_secrets(self, kind: str, tool: Tool) -> None:
        """The password may come from a file or a command, and a token is a bearer."""
        tool("record", "behavioral", "x")
        secret = tool.home / "secret"
        secret.write_text("pa55\n")
        secret.chmod(0o600)
        text = {
            "password_file": f"user='u'\npassword_file='{secret}'",
            "password_command": "user='u'\npassword_command='echo pa55'",
        }
        with FakeIntake() as intake:
            (tool.home / "config.toml").write_text(f"[intake]\nurl='{intake.url}'\n" + text.get(kind, "token='pa55'"))
            assert 0 == tool("flush").returncode
        assert {"token": "Bearer pa55"}.get(kind, "Basic dTpwYTU1") == only(intake.requests).headers["authorization"]

    def test_file(self, tool: Tool) -> None:
        """A file is a destination, one for each day of the events if its name says so."""
        tool("record", "behavioral", "x", "--time", "2026-01-02T03:04:05Z")
        tool("record", "behavioral", "y", "--time", "2026-01-03T03:04:05Z")
        before = tool("spool", "export").stdout
        assert 0 == tool("flush", "--to", f"file:{tool.home}/%Y-%m-%d.ndjson").returncode
        found = [(tool.home / f"2026-01-0{day}.ndjson").read_text() for day in (2, 3)]
        assert before == "".join(found)

    def test_rejected_and_retried(self, tool: Tool) -> None:
        """An event that the intake names is put aside with the reason, and delivered by `retry` once that is mended."""
        for name in ("good", "bad", "fine"):
            tool("record", "behavioral", name)
        with FakeIntake() as intake:
            intake.script.append(
                Response(200, json.dumps({"rejected": [{"line": 2, "reason": "no such name"}]}).encode())
            )
            done = tool("flush", RILLEVENTS_INTAKE_URL=intake.url)
            assert 65 == done.returncode
            assert "rillevents spool rejected" in done.stderr
            found = only(tool.json("spool", "rejected"))
            assert ("no such name", "bad") == (found["reason"], found["event"]["event_name"])
            assert {"retried": 1} == tool.json("spool", "retry")
            assert 0 == tool("flush", RILLEVENTS_INTAKE_URL=intake.url).returncode
        assert ["good", "fine", "bad"] == [event["event_name"] for event in intake.events]
        ledger = tool.json("status")["ledger"]
        assert (3, 3, 0) == (ledger["recorded"], ledger["delivered"], ledger["rejected"])

    def test_dry_run(self, tool: Tool) -> None:
        """--dry-run prints what would be sent, sends nothing and needs no destination."""
        tool("record", "behavioral", "x")
        done = tool("flush", "--dry-run")
        assert (0, tool("spool", "export").stdout) == (done.returncode, done.stdout)
        assert "would send 1 event" in done.stderr

    def test_killed_and_resumed(self, tool: Tool) -> None:
        """A flush that is terminated keeps what was not acknowledged, and the next one delivers it."""
        for number in range(4):
            tool("record", "behavioral", f"x{number}")
        with FakeIntake() as intake:
            import threading

            reached, release = threading.Event(), threading.Event()

            def hang(request: object) -> int:
                reached.set()
                release.wait(30)
                return 503

            intake.respond = hang
            running = subprocess.Popen(
                tool.command("flush"),
                env=tool.environ | {"RILLEVENTS_INTAKE_URL": intake.url},
                stderr=subprocess.PIPE,
                cwd=tool.home,
            )
            assert reached.wait(30)
            running.terminate()
            assert 143 == running.wait(10)
            assert running.stderr
            assert b"" == running.stderr.read()
            running.stderr.close()
            release.set()
            intake.respond = None
            assert 4 == tool.json("flush", RILLEVENTS_INTAKE_URL=intake.url)["delivered"]

    def test_compression(self, tool: Tool) -> None:
        """With compression configured the intake gets the same lines."""
        for kind in ("gzip", "zstd"):
            tool("record", "behavioral", kind)
            (tool.home / "config.toml").write_text(f"[flush]\ncompression = '{kind}'\n")
            with FakeIntake() as intake:
                assert 0 == tool("flush", RILLEVENTS_INTAKE_URL=intake.url).returncode
            assert kind == only(intake.requests).headers["content-encoding"]
            assert kind == only(intake.events)["event_name"]

    def test_library_result(self, tool: Tool) -> None:
        """`Client.flush` gives the same result as the command, and never raises."""
        script = (
            "from rillevents import Client; c = Client.from_config(); c.record('log', 'x'); r = c.flush(5); "
            "print(r.outcome, r.delivered, r.pending); c.close()"
        )
        with FakeIntake() as intake:
            outputs = [
                subprocess.run(
                    [sys.executable, "-c", script], env=tool.environ | more, capture_output=True, text=True, check=True
                ).stdout
                for more in ({}, {"RILLEVENTS_INTAKE_URL": intake.url}, {"DO_NOT_TRACK": "1"})
            ]
        assert ["unconfigured 0 1\n", "delivered 2 0\n", "off 0 0\n"] == outputs

    def test_root_flushes_for_a_user(self, tool: Tool) -> None:
        """Whatever root's flush creates in another user's home belongs to that user, who can go on flushing."""
        if os.geteuid() != 0:
            pytest.skip("needs root")
        os.chown(tool.home.parent / "user", 12345, 12345)
        for name in ("good", "bad"):
            tool("record", "behavioral", name, RILLEVENTS_HOME=None)
        with open(tool.home.parent / "user/.local/state/rillevents/spool/v1/slot-0.ndjson", "ab") as file:
            file.write(b"damaged\n")
        with FakeIntake() as intake:
            intake.script.append(Response(200, json.dumps({"rejected": [{"line": 2, "reason": "no"}]}).encode()))
            assert 65 == tool("flush", RILLEVENTS_HOME=None, RILLEVENTS_INTAKE_URL=intake.url).returncode
        made = list((tool.home.parent / "user").rglob("*"))
        assert {"flush.lock", "state.json", "rejected", "corrupt"} <= {path.name for path in made}
        assert {12345} == {path.stat().st_uid for path in made}
