"""Telemetry events that are recorded at once and never lost."""

__version__ = "0.1.0"
