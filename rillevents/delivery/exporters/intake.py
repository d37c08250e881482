"""Batches as NDJSON to an intake: the lines of the spool, byte for byte."""

from __future__ import annotations

from rillevents.delivery.exporters.http import HttpExporter


class IntakeExporter(HttpExporter):
    """Posts batches as NDJSON to one URL; everything about HttpExporter applies."""
