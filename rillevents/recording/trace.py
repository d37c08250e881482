"""What the code around a call adds to an event: ambient attributes, and the trace that it belongs to.

The trace is W3C's `traceparent` of the environment, or OpenTelemetry's current span. Nothing is minted: without a trace there are
no attributes. Format: https://www.w3.org/TR/trace-context/#traceparent-header
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

_HEX = "0123456789abcdef"


def trace_context(traceparent: str) -> dict[str, str]:
    """Return the attributes `trace_id` and `span_id` of a traceparent; none if it is not valid."""
    version, *fields = traceparent.strip().split("-")
    if len(fields) < 3 or len(version) != 2 or version.strip(_HEX) or version == "ff":
        return {}
    # A later version may have more fields.
    if version == "00" and len(fields) > 3:
        return {}
    trace_id, span_id, flags = fields[:3]
    is_hex = not (trace_id + span_id + flags).strip(_HEX)
    is_whole = (len(trace_id), len(span_id), len(flags)) == (32, 16, 2)
    if not (is_hex and is_whole and trace_id.strip("0") and span_id.strip("0")):
        return {}
    return {"trace_id": trace_id, "span_id": span_id}


def current_span(api: Any) -> dict[str, str]:
    """Return the attributes of the current span of OpenTelemetry's API, the module `opentelemetry.trace`; none without a span."""
    try:
        context = api.get_current_span().get_span_context()
        if context.is_valid:
            return {"trace_id": f"{context.trace_id:032x}", "span_id": f"{context.span_id:016x}"}
    except Exception:  # noqa: BLE001, S110 - another library's, perhaps while it is being imported
        pass
    return {}


def ambient_attributes() -> Mapping[str, Any]:
    """Return the attributes of OpenTelemetry's current span and of the `set_attributes` around the caller, which win over them.

    Neither is imported for this: what nobody has imported has set nothing.
    """
    context, api = sys.modules.get("rillevents.recording.context"), sys.modules.get("opentelemetry.trace")
    ambient: Mapping[str, Any] | None = context.ambient() if context else None
    return {**current_span(api), **(ambient or {})} if api else ambient or {}
