"""How a wrapped command ended."""

from __future__ import annotations

import os


class Ended:
    """How a command ended: its exit code, or the signal that killed it; and what it used, in seconds and bytes."""

    __slots__ = ("exit_code", "max_rss_bytes", "seconds", "signal", "system_s", "user_s")

    def __init__(self, status: int, seconds: float, usage: tuple[float, float, int]) -> None:
        self.signal = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
        self.exit_code = -1 if self.signal else os.WEXITSTATUS(status)
        self.seconds = seconds
        self.user_s, self.system_s, self.max_rss_bytes = usage
