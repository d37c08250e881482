"""Every error that rillevents raises on purpose, each with the exit code that the command line gives it.

    RilleventsError            1   something failed
    ├── UsageError             2   the caller must change its request
    │   └── InvalidEvent       2   an event that cannot be recorded (also a ValueError)
    ├── SpoolError            73   the event was not stored
    │   ├── SpoolFull         73   the spool has reached its size limit
    │   └── SpoolUnwritable   73   the folder or the disk failed (also an OSError's cause)
    ├── StoreError            73   the store of events cannot be used
    ├── Busy                  75   another process is using it; nothing was lost
    └── ConfigError           78   the configuration must be changed; nothing was lost

`hint` is what a person should type next; the message itself says what happened and what was kept.
"""

from __future__ import annotations


class RilleventsError(Exception):
    """The base class of all errors."""

    exit_code = 1

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}; {self.hint}" if self.hint else self.message


class UsageError(RilleventsError):
    """The caller asked for something that is not possible."""

    exit_code = 2


class InvalidEvent(UsageError, ValueError):
    """An event lacks a required field, is too large, or contains something that is not valid JSON."""


class SpoolError(RilleventsError):
    """The event was not stored."""

    exit_code = 73


class SpoolFull(SpoolError):
    """The spool has reached its size limit."""


class SpoolUnwritable(SpoolError):
    """The spool's folder or disk failed; `errno` says how."""

    def __init__(self, message: str, *, hint: str = "", errno: int = 0) -> None:
        super().__init__(message, hint=hint)
        self.errno = errno


class StoreError(RilleventsError):
    """The file that `serve` stores events in cannot be read or written; it was not changed."""

    exit_code = 73


class Busy(RilleventsError):
    """Another process is using it; nothing was lost."""

    exit_code = 75


class ConfigError(RilleventsError):
    """The configuration cannot be used; nothing was lost."""

    exit_code = 78
