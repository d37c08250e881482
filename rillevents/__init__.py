"""Telemetry events for scripts, CI jobs, programs and services: recorded at once, never lost.

Importing this package opens nothing, starts nothing and costs nothing: each name below is loaded when it is first used.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    # Repeats the table below, so that type checkers and bundlers (PyInstaller) see what is loaded by name.
    from rillevents.delivery.exporters.file import FileExporter as FileExporter
    from rillevents.delivery.exporters.intake import IntakeExporter as IntakeExporter
    from rillevents.delivery.exporters.kafka.exporter import KafkaExporter as KafkaExporter
    from rillevents.delivery.exporters.otlp.exporter import OtlpExporter as OtlpExporter
    from rillevents.delivery.outcome import FlushResult as FlushResult
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
    from rillevents.local import __version__ as __version__
    from rillevents.recording import Client as Client
    from rillevents.recording.application import Application as Application
    from rillevents.recording.context import set_attributes as set_attributes
    from rillevents.recording.redact import Redactor as Redactor
    from rillevents.recording.sinks import Sink as Sink
    from rillevents.recording.sinks.batching import BatchingSink as BatchingSink
    from rillevents.recording.sinks.batching import IntakeSink as IntakeSink
    from rillevents.recording.sinks.filter import FilterSink as FilterSink
    from rillevents.recording.sinks.kafka import KafkaSink as KafkaSink
    from rillevents.recording.sinks.logger import LoggerSink as LoggerSink
    from rillevents.recording.sinks.noop import NoopSink as NoopSink
    from rillevents.recording.sinks.otlp import OtlpSink as OtlpSink
    from rillevents.recording.sinks.spool import SpoolSink as SpoolSink

_HOMES = {
    "rillevents.recording": ("Client",),
    "rillevents.recording.context": ("set_attributes",),
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
    "rillevents.delivery.exporters.file": ("FileExporter",),
    "rillevents.delivery.exporters.intake": ("IntakeExporter",),
    "rillevents.delivery.exporters.kafka.exporter": ("KafkaExporter",),
    "rillevents.delivery.exporters.otlp.exporter": ("OtlpExporter",),
    "rillevents.delivery.outcome": ("FlushResult",),
    "rillevents.local": ("__version__",),
    "rillevents.recording.application": ("Application",),
    "rillevents.recording.redact": ("Redactor",),
    "rillevents.recording.sinks": ("Sink",),
    "rillevents.recording.sinks.batching": ("BatchingSink", "IntakeSink"),
    "rillevents.recording.sinks.filter": ("FilterSink",),
    "rillevents.recording.sinks.kafka": ("KafkaSink",),
    "rillevents.recording.sinks.logger": ("LoggerSink",),
    "rillevents.recording.sinks.noop": ("NoopSink",),
    "rillevents.recording.sinks.otlp": ("OtlpSink",),
    "rillevents.recording.sinks.spool": ("SpoolSink",),
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
    "OtlpExporter",
    "OtlpSink",
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
