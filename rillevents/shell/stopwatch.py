"""Seconds between two processes: read by a clock that nobody sets, which runs on while the machine sleeps.

A reading is a text, `BOOT:NANOSECONDS`: the kernel's boot ID (without its dashes; empty where there is none) and CLOCK_BOOTTIME.
Only modules that cost nothing are imported here.
"""

from __future__ import annotations

import os
import time

_BOOT_ID = "/proc/sys/kernel/random/boot_id"


def reading() -> str:
    """Return what `seconds_since` takes later, in this process or another one."""
    return f"{_boot_id()}:{_now_ns()}"


def seconds_since(earlier: str) -> float | None:
    """Return the seconds since a reading; None if it is damaged, or from before the machine was started."""
    boot, _, nanoseconds = earlier.strip().partition(":")
    if boot != _boot_id() or not (nanoseconds.isascii() and nanoseconds.isdigit()) or len(nanoseconds) > 19:
        return None
    passed = _now_ns() - int(nanoseconds)
    return passed / 1e9 if passed >= 0 else None


def _now_ns() -> int:
    # Without suspends elsewhere: no other system has this clock under this name.
    return time.clock_gettime_ns(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


def _boot_id() -> str:
    try:
        fd = os.open(_BOOT_ID, os.O_RDONLY)
    except OSError:
        return ""
    try:
        return os.read(fd, 64).decode("ascii", "replace").strip().replace("-", "")
    finally:
        os.close(fd)
