"""Telemetry events for scripts, CI jobs, programs and services: recorded at once, never lost.

Importing this package opens nothing, starts nothing and costs nothing: every name below is loaded when it is first used.
"""

__version__ = "0.1.0"

TYPE_CHECKING = False
if TYPE_CHECKING:
    # Beside the table below, so that type checkers and bundlers (PyInstaller) see what is loaded by name.
    from rillevents.client import Client as Client
    from rillevents.context import set_attributes as set_attributes
    from rillevents.errors import Busy as Busy
    from rillevents.errors import ConfigError as ConfigError
    from rillevents.errors import InvalidEvent as InvalidEvent
    from rillevents.errors import RilleventsError as RilleventsError
    from rillevents.errors import SpoolError as SpoolError
    from rillevents.errors import SpoolFull as SpoolFull
    from rillevents.errors import SpoolUnwritable as SpoolUnwritable
    from rillevents.errors import UsageError as UsageError
    from rillevents.event import ATTRIBUTE_KEYS as ATTRIBUTE_KEYS
    from rillevents.event import BEHAVIORAL_NAMES as BEHAVIORAL_NAMES
    from rillevents.event import EVENT_TYPES as EVENT_TYPES
    from rillevents.event import MAX_EVENT_BYTES as MAX_EVENT_BYTES
    from rillevents.event import Event as Event
    from rillevents.exporters.file import FileExporter as FileExporter
    from rillevents.exporters.intake import IntakeExporter as IntakeExporter
    from rillevents.exporters.kafka import KafkaExporter as KafkaExporter
    from rillevents.flusher import FlushResult as FlushResult
    from rillevents.paths import Application as Application
    from rillevents.redact import Redactor as Redactor
    from rillevents.sinks import Sink as Sink
    from rillevents.sinks.batching import BatchingSink as BatchingSink
    from rillevents.sinks.batching import IntakeSink as IntakeSink
    from rillevents.sinks.filter import FilterSink as FilterSink
    from rillevents.sinks.kafka import KafkaSink as KafkaSink
    from rillevents.sinks.logger import LoggerSink as LoggerSink
    from rillevents.sinks.noop import NoopSink as NoopSink
    from rillevents.sinks.spool import SpoolSink as SpoolSink

_HOMES = {
    "rillevents.client": ("Client",),
    "rillevents.context": ("set_attributes",),
    "rillevents.errors": (
        "Busy",
        "ConfigError",
        "InvalidEvent",
        "RilleventsError",
        "SpoolError",
        "SpoolFull",
        "SpoolUnwritable",
        "UsageError",
    ),
    "rillevents.event": ("ATTRIBUTE_KEYS", "BEHAVIORAL_NAMES", "EVENT_TYPES", "MAX_EVENT_BYTES", "Event"),
    "rillevents.exporters.file": ("FileExporter",),
    "rillevents.exporters.intake": ("IntakeExporter",),
    "rillevents.exporters.kafka": ("KafkaExporter",),
    "rillevents.flusher": ("FlushResult",),
    "rillevents.paths": ("Application",),
    "rillevents.redact": ("Redactor",),
    "rillevents.sinks": ("Sink",),
    "rillevents.sinks.batching": ("BatchingSink", "IntakeSink"),
    "rillevents.sinks.filter": ("FilterSink",),
    "rillevents.sinks.kafka": ("KafkaSink",),
    "rillevents.sinks.logger": ("LoggerSink",),
    "rillevents.sinks.noop": ("NoopSink",),
    "rillevents.sinks.spool": ("SpoolSink",),
}

__all__ = [
    "ATTRIBUTE_KEYS",
    "BEHAVIORAL_NAMES",
    "EVENT_TYPES",
    "MAX_EVENT_BYTES",
    "Application",
    "BatchingSink",
    "Busy",
    "Client",
    "ConfigError",
    "Event",
    "FileExporter",
    "FilterSink",
    "FlushResult",
    "IntakeExporter",
    "IntakeSink",
    "InvalidEvent",
    "KafkaExporter",
    "KafkaSink",
    "LoggerSink",
    "NoopSink",
    "Redactor",
    "RilleventsError",
    "Sink",
    "SpoolError",
    "SpoolFull",
    "SpoolSink",
    "SpoolUnwritable",
    "UsageError",
    "__version__",
    "set_attributes",
]


def __getattr__(name: str) -> object:
    for module, names in _HOMES.items():
        if name in names:
            from importlib import import_module

            value = getattr(import_module(module), name)
            globals()[name] = value
            return value
    raise AttributeError(f"module 'rillevents' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
