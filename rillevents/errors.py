"""Every error that rillevents raises on purpose, each with the exit code that the command line gives it.

    RilleventsError            1   something failed
    ├── UsageError             2   the caller has to change what it asked for
    │   └── InvalidEvent       2   an event that cannot be recorded (also a ValueError)
    ├── SpoolError            73   the event was not stored
    │   ├── SpoolFull         73   the spool holds as many bytes as it may
    │   └── SpoolUnwritable   73   the folder or the disk refused (also an OSError's cause)
    ├── StoreError            73   the store of events cannot be used as it is
    ├── Busy                  75   somebody else is at it; nothing was lost
    └── ConfigError           78   the configuration has to change; nothing was lost

`hint` is what a person should type next; the message itself says what happened and what was kept.
"""

from __future__ import annotations


class RilleventsError(Exception):
    """The base of all of them."""

    exit_code = 1

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}; {self.hint}" if self.hint else self.message


class UsageError(RilleventsError):
    """The caller asked for something that cannot be done as asked."""

    exit_code = 2


class InvalidEvent(UsageError, ValueError):
    """An event lacks a required field, is too large, or holds something that is no JSON."""


class SpoolError(RilleventsError):
    """The event was not stored."""

    exit_code = 73


class SpoolFull(SpoolError):
    """The spool holds as many bytes as it may."""


class SpoolUnwritable(SpoolError):
    """The spool's folder or disk refused; `errno` says how."""

    def __init__(self, message: str, *, hint: str = "", errno: int = 0) -> None:
        super().__init__(message, hint=hint)
        self.errno = errno


class StoreError(RilleventsError):
    """The file that `serve` stores events in cannot be read or written as it is; what is in it was left alone."""

    exit_code = 73


class Busy(RilleventsError):
    """Another process is at it; nothing was lost."""

    exit_code = 75


class ConfigError(RilleventsError):
    """The configuration cannot be used as it is; nothing was lost."""

    exit_code = 78
