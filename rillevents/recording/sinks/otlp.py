"""Events as OpenTelemetry's log records, in the background."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from rillevents.delivery.url import without_otlp
from rillevents.recording.sinks import log
from rillevents.recording.sinks.batching import BatchingSink, made

if TYPE_CHECKING:
    from rillevents.delivery.exporters.encoding import Compression
    from rillevents.delivery.exporters.otlp.settings import Encoding


class OtlpSink(BatchingSink):
    """Sends events to an OTLP/HTTP endpoint, in the background; everything about BatchingSink and IntakeSink applies.

    *url* is the endpoint, `http://localhost:4318` for instance; without a path it gets `/v1/logs`. Without a URL the endpoint is
    where the `OTEL_EXPORTER_OTLP_*` variables say. *resource* has attributes for every resource; an event's service name and
    version win over them. Raises ConfigError if something is not usable.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        headers: Mapping[str, str] | None = None,
        encoding: Encoding | None = None,
        compression: Compression | None = None,
        resource: Mapping[str, str] | None = None,
        ca_cert: str | os.PathLike[str] | None = None,
        buffer_size: int = 10_000,
        batch_events: int = 2000,
        interval: float = 1.0,
        close_timeout: float = 2.0,
        max_wait: float = 1.0,
    ) -> None:
        import encodings.idna  # noqa: F401 - or the first connection would import it, in a thread

        from rillevents.delivery.exporters.otlp.exporter import OtlpExporter
        from rillevents.delivery.exporters.otlp.settings import otlp_settings

        to = "otlp" if url is None else f"otlp+{without_otlp(url)}"
        found = otlp_settings(to, {}, os.environ, warn=log)
        settings = replace(
            found,
            headers=headers or found.headers,
            encoding=encoding or found.encoding,
            compression=compression or found.compression,
            resource={**found.resource, **(resource or {})},
        )
        make = partial(OtlpExporter.of, settings, "none", ca_cert)
        super().__init__(
            made(make),
            renew=make,
            buffer_size=buffer_size,
            batch_events=batch_events,
            interval=interval,
            close_timeout=close_timeout,
            max_wait=max_wait,
        )
