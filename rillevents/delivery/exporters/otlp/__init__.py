"""Events as OpenTelemetry's log records, over HTTP.

record.py     events → log records, key by key            form.py protobuf.py json.py   the pieces of a record, in either form
settings.py   URLs, OTEL_EXPORTER_OTLP_* → where to       exporter.py   requests, and what the answers mean

Format: https://github.com/open-telemetry/opentelemetry-proto (1.9), protocol: https://opentelemetry.io/docs/specs/otlp/
"""
