"""Kill shells that record without a process, all the time, and count what is lost: the oracle of a shell's files.

    python tests/faults/shell_campaign.py [SECONDS] [SEED]

Shells with the function of `shell-init` record events of 100 bytes to 30 kB in a loop, in subshells and pipelines as well, while the
spool's own flusher takes their files away. Shells, whole groups of them and flushers are killed at random moments. An event is
acknowledged once the function has returned 0 and the shell has noted that.

Afterwards acknowledged ⊆ delivered ⊆ attempted, every payload is the one that was made for its number, one number has one ID, and
no file of a shell is left; otherwise the exit code is 1. It is 1, too, where a kind of kill did not happen: delays are parts of what
a process takes to record its first events on this machine, which is measured first.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from rillevents.event.batch import DELIVERED
from rillevents.shell.function import SHELLS, function_text
from rillevents.spool import SHELL_SLOT, SLOT
from rillevents.spool.drain import Drain

COMMAND = [sys.executable, "-m", "rillevents"]
TEXT = "abcdefghij" * 3000
# What a worker's shell does; its words are its tag, a folder, and how often: 0 is for ever.
WORK = r"""
one() {
  local size=$(( $2 * 37 % 1000 ))
  if [ $(( $2 % 101 )) = 0 ]; then size=$(( $2 * 97 % 30000 )); fi
  printf '%s\n' "$1 $size" >>"$folder/tried"
  if rillevents record behavioral shell -a "n=$1" -a "size=$size" -a "text=${text:0:$size}"; then
    printf '%s\n' "$1" >>"$folder/acknowledged"
  fi
}
tag=$1 folder=$2 most=$3 n=0
while [ $most = 0 ] || [ $n -lt $most ]; do
  n=$(( n + 1 ))
  one "$tag-$n" $n
  if [ $(( n % 40 )) = 0 ]; then ( one "$tag-$n-a" $n; one "$tag-$n-b" $(( n + 1 )); one "$tag-$n-c" $(( n + 2 )) ); fi
  if [ $(( n % 40 )) = 20 ]; then { one "$tag-$n-d" $n; one "$tag-$n-e" $(( n + 1 )); one "$tag-$n-f" $(( n + 2 )); } | cat; fi
  if [ $(( n % 40 )) = 30 ]; then { one "$tag-$n-g" $n; one "$tag-$n-h" $(( n + 1 )); } & fi
done
wait
"""
# The flusher of the spool, with a file for its destination: the lines are there before they are acknowledged.
FLUSHER = """
import os, random, sys, time
from rillevents.errors import RilleventsError
from rillevents.event.batch import DELIVERED
from rillevents.spool.drain import Drain
folder, into = sys.argv[1:3]
fd = os.open(into, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
while True:
    try:
        with Drain(folder, batch_events=200) as drain:
            for batch in drain.batches():
                # The newline ends what a killed flusher has left of its last line.
                lines = b"\\n" + b"".join(batch.batch.lines)
                while lines:
                    lines = lines[os.write(fd, lines):]
                drain.commit(batch, [DELIVERED] * len(batch.batch))
    except RilleventsError:
        pass
    time.sleep(random.random() * float(sys.argv[3]))
"""
KILLS = {"shell": "shell killed", "group": "shell killed with its subshells", "flusher": "flusher killed"}
MUST_BE_NONE = (
    "acknowledged and lost",
    "delivered and never tried",
    "payload altered",
    "two IDs for one number",
    "files left over",
)


class Campaign:
    """One run: the folder it works in, and how often what was killed."""

    def __init__(self, folder: Path, seed: int, shells: list[str], change: Callable[[str], str] = str) -> None:
        self.folder = folder
        self.seed = seed
        self.shells = shells
        # What makes another function of ours: one that loses events has to be found out.
        self.change = change
        self.environ = {key: value for key, value in os.environ.items() if not key.startswith("RILLEVENTS_")}
        self.environ |= {
            "RILLEVENTS_HOME": str(folder / "home"),
            "RILLEVENTS_SERVICE_NAME": "campaign",
            "FOLDER": str(folder),
        }
        self.spool = folder / "home" / "spool" / "v1"
        self.times: Counter[str] = Counter()
        self.lock = threading.Lock()
        self.over = threading.Event()
        self.first_seconds = 0.0

    def prepare(self) -> None:
        """Make the ID and the spool, and measure what a shell takes for its first ten events."""
        subprocess.run([*COMMAND, "record", "behavioral", "first"], env=self.environ, check=True)
        with Drain(str(self.spool)) as drain:
            for batch in drain.batches():
                drain.commit(batch, [DELIVERED] * len(batch.batch))
        time.sleep(0.1)
        for shell in self.shells:
            text = function_text(shell, self.environ, COMMAND)
            (self.folder / f"work.{shell}").write_text(f"{self.change(text)}\ntext={TEXT}\n{WORK}")
        began = time.monotonic()
        self.start(self.shells[0], "measured", 10).wait()
        self.first_seconds = time.monotonic() - began

    def start(self, shell: str, tag: str, most: int) -> subprocess.Popen[bytes]:
        """Start a worker's shell in a session of its own."""
        words = [shell, str(self.folder / f"work.{shell}"), tag, str(self.folder), str(most)]
        return subprocess.Popen(words, env=self.environ, stdin=subprocess.DEVNULL, start_new_session=True)

    def run(self, seconds: float) -> None:
        """Let everybody loose for so long."""
        workers = [threading.Thread(target=self.work, args=(number,)) for number in range(4)]
        workers += [threading.Thread(target=self.flush, args=(number,)) for number in range(2)]
        for worker in workers:
            worker.start()
        time.sleep(seconds)
        self.over.set()
        for worker in workers:
            worker.join()

    def work(self, worker: int) -> None:
        """Let a shell record until it is killed, again and again."""
        rng, number = random.Random(f"{self.seed}-{worker}"), 0
        while not self.over.is_set():
            number += 1
            process = self.start(self.shells[number % len(self.shells)], f"w{worker}-{number}", 0)
            self.over.wait(self.first_seconds * rng.choice([1, 4, 16]) * rng.uniform(0.5, 1.5))
            kind = rng.choice(["shell", "group"])
            try:
                if kind == "group":
                    os.killpg(process.pid, signal.SIGKILL)
                else:
                    process.kill()
                    time.sleep(self.first_seconds / 4)
                    # What it left in the background records on, and ends by itself or now.
                    os.killpg(process.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            process.wait()
            self.count(kind)

    def flush(self, number: int) -> None:
        """Let a flusher take files away until it is killed, again and again."""
        rng = random.Random(f"{self.seed}-flusher-{number}")
        while not self.over.is_set():
            words = [
                sys.executable,
                "-c",
                FLUSHER,
                str(self.spool),
                str(self.folder / "delivered"),
                str(rng.choice([0, 0.01, 0.05])),
            ]
            with subprocess.Popen(words, env=self.environ) as process:
                self.over.wait(self.first_seconds * rng.uniform(2, 20))
                process.kill()
            self.count("flusher")

    def count(self, kind: str) -> None:
        """Note that one was killed."""
        with self.lock:
            self.times[kind] += 1

    def finish(self) -> None:
        """Deliver what is left, once the last of those that were killed has let go of its file."""
        # Twenty seconds at most: a process that a killed shell left behind can hold one for long where the machine is busy.
        for _ in range(200):
            with Drain(str(self.spool)) as drain, (self.folder / "delivered").open("ab") as into:
                for batch in drain.batches():
                    into.write(b"\n" + b"".join(batch.batch.lines))
                    drain.commit(batch, [DELIVERED] * len(batch.batch))
            if not self.left_over():
                break
            time.sleep(0.1)

    def left_over(self) -> list[Path]:
        """Return the files that still hold events, or could; an empty slot of a command stays, for the next one."""
        found = [path for path in self.spool.iterdir() if path.name.endswith(".ndjson")]
        commands = [path for path in found if path.name.startswith(SLOT) and not path.name.startswith(SHELL_SLOT)]
        return [path for path in found if path not in commands or path.stat().st_size]

    def lines(self, name: str) -> list[str]:
        """Return the lines of a file of this run."""
        path = self.folder / name
        return path.read_text().splitlines() if path.exists() else []


def verdict(campaign: Campaign) -> dict[str, int]:
    """Return what a run came to."""
    # A line of a shell that was killed in the midst of it has no end.
    tried = dict(line.split(" ") for line in campaign.lines("tried") if line.count(" ") == 1)
    acknowledged = {line for line in campaign.lines("acknowledged") if line in tried}
    events = [
        json.loads(line)
        for line in (campaign.folder / "delivered").read_bytes().split(b"\n")
        if line.strip() and line[-1:] == b"}"
    ]
    ids: dict[str, set[str]] = {}
    altered = 0
    for event in events:
        number = event["n"]
        ids.setdefault(number, set()).add(event["event_id"])
        altered += event["text"] != TEXT[: int(event["size"])] or tried.get(number) != event["size"]
    return {
        "tried": len(tried),
        "acknowledged": len(acknowledged),
        "delivered": len(ids),
        "duplicates": len(events) - len(ids),
        "acknowledged and lost": len(acknowledged - ids.keys()),
        "delivered and never tried": len(ids.keys() - tried.keys()),
        "payload altered": altered,
        "two IDs for one number": sum(len(some) > 1 for some in ids.values()),
        "files left over": len(campaign.left_over()),
    }


def report(campaign: Campaign, figures: dict[str, int], seconds: float) -> Iterator[str]:
    """Yield the tables of a run, as Markdown."""
    kills = sum(campaign.times.values())
    yield f"{kills:,} kills of shells ({', '.join(campaign.shells)}) and flushers in {seconds:.0f} s, seed {campaign.seed}."
    for what, rows in (("fault", {text: campaign.times[kind] for kind, text in KILLS.items()}), ("events", figures)):
        width = max(map(len, rows))
        yield ""
        yield f"| {what.ljust(width)} | {'times' if what == 'fault' else 'number':>9} |"
        yield f"|{'-' * (width + 2)}|{'-' * 10}:|"
        for name, figure in rows.items():
            yield f"| {name.ljust(width)} | {figure:>9,} |"


def main(seconds: float = 60, seed: int = 1, change: Callable[[str], str] = str) -> int:
    """Run a campaign and print its tables; 0 where every kill was played and nothing was lost."""
    shells = [shell for shell in SHELLS if shutil.which(shell)]
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        campaign = Campaign(Path(folder), seed, shells, change)
        campaign.prepare()
        campaign.run(seconds)
        campaign.finish()
        figures = verdict(campaign)
        left = [f"{path.name}: {path.read_bytes()[:200]!r}" for path in campaign.left_over()]
    for line in report(campaign, figures, time.monotonic() - began):
        print(line)
    for line in left:
        print("left over:", line, file=sys.stderr)
    missing = [text for kind, text in KILLS.items() if not campaign.times[kind]]
    for name in missing:
        print("not played, so this run proves nothing about it:", name, file=sys.stderr)
    return int(bool(missing) or not figures["acknowledged"] or any(figures[name] for name in MUST_BE_NONE))


if __name__ == "__main__":
    sys.exit(main(*(float(text) if n == 0 else int(text) for n, text in enumerate(sys.argv[1:3]))))  # type: ignore[arg-type]
