"""`rillevents serve` with other deadlines, and room for fewer connections: `quick_server.py '{"head": 1.0, "connections": 9}'`."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from support import Tool

from rillevents.local import Paths
from rillevents.serve.limits import MAX_CONNECTIONS, Deadlines
from rillevents.serve.options import Options
from rillevents.serve.server import Server


class QuickTool(Tool):
    """The command line, but for `serve`, which is this file with these limits and no options."""

    def __init__(self, home: Path, **limits: float) -> None:
        super().__init__(home)
        self.environ["PYTHONPATH"] = str(Path(__file__).parent.parent)
        self._limits = json.dumps(limits)

    def command(self, *words: str | bytes) -> list[str | bytes]:
        return [sys.executable, __file__, self._limits]


def main(limits: dict[str, float]) -> None:
    most = int(limits.pop("connections", MAX_CONNECTIONS))
    server = Server(
        Options(port=0),
        Paths(os.environ),
        on_ready=lambda url, keeps: print(json.dumps({"url": url}), flush=True),
        warn=lambda message: print(message, file=sys.stderr, flush=True),
        deadlines=Deadlines(**limits),
        max_connections=most,
    )
    server.run()


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
