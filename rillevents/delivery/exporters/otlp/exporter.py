"""Requests of OTLP over HTTP. What differs from an intake's is the body, and how an answer is read."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from rillevents.delivery.exporters.encoding import Compression
from rillevents.delivery.exporters.http import SOCKET_TIMEOUT, HttpExporter
from rillevents.delivery.exporters.http_failures import INVALID
from rillevents.delivery.exporters.intake_responses import CREDENTIALS_ADVICE
from rillevents.delivery.exporters.otlp.form import INT64
from rillevents.delivery.exporters.otlp.json import Json
from rillevents.delivery.exporters.otlp.protobuf import Protobuf
from rillevents.delivery.exporters.otlp.record import LogRecords
from rillevents.delivery.outcome import Kind, Outcome, clean
from rillevents.errors import ConfigError
from rillevents.event.batch import Batch
from rillevents.local import __version__

if TYPE_CHECKING:
    from rillevents.delivery.exporters.otlp.settings import Encoding, OtlpSettings

# The Collector takes 20 MiB, unpacked (0.165.0), and answers 400 to more.
MAX_BODY_BYTES = 16 << 20
_ADVICE = "check the header fields: OTEL_EXPORTER_OTLP_HEADERS for --to otlp, [otlp] headers for a URL"
_GRPC = "is this the port of gRPC? OTLP over HTTP is usually at 4318"
_FORMS: Mapping[str, type[Protobuf] | type[Json]] = {"protobuf": Protobuf, "json": Json}


class OtlpExporter(HttpExporter):
    """Posts batches as log records to an OTLP/HTTP endpoint, whose URL is given with its path (`/v1/logs`).

    *encoding* is `protobuf` or `json`; *resource* has attributes for every resource; an event's own service name and version win
    over them. Everything about HttpExporter applies.
    """

    # In JSON an event grows up to eightfold.
    most = (10_000, 2 << 20)

    def __init__(
        self,
        url: str,
        *,
        encoding: Encoding = "protobuf",
        compression: Compression = "none",
        headers: Mapping[str, str] | None = None,
        resource: Mapping[str, str] | None = None,
        ca_cert: str | os.PathLike[str] | None = None,
        environ: Mapping[str, str] | None = None,
        mark: Callable[[], Mapping[str, str]] | None = None,
        timeout: float | None = None,
        clock: Callable[[], int] = time.time_ns,
    ) -> None:
        if encoding not in _FORMS:
            raise ConfigError("unknown encoding", hint="possible values: protobuf, json")
        self._records = LogRecords(_FORMS[encoding](("rillevents", __version__), resource or {}))
        self._turn = threading.Lock()
        self._clock = clock
        self.accept = self.content_type = _FORMS[encoding].content_type
        super().__init__(
            url,
            headers=headers,
            compression=compression,
            ca_cert=ca_cert,
            environ=environ,
            mark=mark,
            timeout=SOCKET_TIMEOUT if timeout is None else timeout,
        )

    @classmethod
    def of(
        cls, found: OtlpSettings, compression: Compression, ca_cert: str | os.PathLike[str] | None, **given: Any
    ) -> OtlpExporter:
        """Return the exporter for these settings; *compression* is used where they do not say, *ca_cert* wins over theirs."""
        return cls(
            found.url,
            encoding=found.encoding,
            compression=found.compression or compression,
            headers=found.headers,
            resource=found.resource,
            ca_cert=ca_cert or found.ca_cert,
            timeout=found.timeout,
            **given,
        )

    def _encoder(self, compress: Callable[[bytes], bytes] | None) -> Callable[[bytes], bytes]:
        def encode(lines: bytes) -> bytes:
            # The next batch is announced while the current one is being written. One after the other: only compressing lets both
            # work at a time.
            with self._turn:
                body = self._records(lines, self._clock())
            if len(body) > MAX_BODY_BYTES:
                raise _TooLarge
            return compress(body) if compress else body

        return encode

    def _export(self, batch: Batch) -> Outcome:
        try:
            outcome = super()._export(batch)
        except _TooLarge:
            return Outcome(Kind.TOO_LARGE, f"the request would have more than {MAX_BODY_BYTES} bytes")
        if outcome.kind is Kind.TEMPORARY and INVALID in outcome.reason:
            # What a server of gRPC answers to HTTP/1.1.
            return replace(outcome, reason=clean(f"{outcome.reason}; {_GRPC}"))
        return replace(outcome, reason=clean(outcome.reason.replace(CREDENTIALS_ADVICE, _ADVICE)))

    def _as_json(self, answer: bytes, headers: Mapping[str, str]) -> bytes:
        if headers.get("content-type", "").partition(";")[0].strip().lower() != Protobuf.content_type:
            return answer
        return _told(answer)


class _TooLarge(Exception):
    pass


def _told(answer: bytes) -> bytes:
    """Return an ExportLogsServiceResponse, or a google.rpc.Status, as JSON: both are small, and differ in their first field."""
    try:
        fields = dict(_fields(answer))
        partial = fields.get(1)
        if isinstance(partial, bytes):
            inner = dict(_fields(partial))
            rejected, message = inner.get(1, 0), inner.get(2, b"")
            # An int64, so the upper half is negative.
            count = rejected if isinstance(rejected, int) and rejected < INT64 else 0
            return json.dumps(
                {"partialSuccess": {"rejectedLogRecords": count, "errorMessage": _text(message)}}
            ).encode()
        return _text(fields.get(2, b"")).encode()
    except (IndexError, ValueError):
        return b""


def _text(value: int | bytes) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else ""


def _fields(message: bytes) -> list[tuple[int, int | bytes]]:
    """Return the fields of a protobuf message: numbers, and what has a length; raises ValueError or IndexError for others."""
    found: list[tuple[int, int | bytes]] = []
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        value: int | bytes
        number, at = _varint(message, at)
        value = number
        if tag & 7 == 2:
            if at + number > len(message):
                raise ValueError("cut off")
            value, at = message[at : at + number], at + number
        elif tag & 7:
            raise ValueError("another kind of field")
        found.append((tag >> 3, value))
    return found


def _varint(message: bytes, at: int) -> tuple[int, int]:
    number = shift = 0
    while message[at] & 128 and shift < 64:
        number |= (message[at] & 127) << shift
        at, shift = at + 1, shift + 7
    return number | message[at] << shift, at + 1
