"""Header fields that a person adds to each request: `k=v,k2=v2` with percent-encoding, or a table. Their values are secrets."""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import unquote

from rillevents.errors import ConfigError

EXAMPLE = "header fields such as X-Api-Key=VALUE,X-Scope-OrgID=VALUE"

_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE = re.compile(r"[ -~]*")
# They frame the request, or name the server; the last one is the mark of `serve` on what it forwards.
_OURS = re.compile(r"host|content-.*|transfer-encoding|connection|expect|te|rillevents-via", re.IGNORECASE)


def parse_headers(text: str) -> dict[str, str]:
    """Return the header fields in `k=v,k2=v2`, percent-decoded; the last of a name wins. Raises ValueError.

    The format is that of OTEL_EXPORTER_OTLP_HEADERS.
    """
    pairs = [part.partition("=") for part in text.split(",") if part.strip()]
    if not pairs or not all(equals for _, equals, _ in pairs):
        raise ValueError(EXAMPLE)
    return check_headers({unquote(key.strip()): unquote(value.strip()) for key, _, value in pairs})


def check_headers(headers: Mapping[str, object]) -> dict[str, str]:
    """Return header fields that may be sent, each name once; raises ValueError, which shows no value."""
    found: dict[str, tuple[str, str]] = {}
    for name, value in headers.items():
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise ValueError(f"{EXAMPLE}; a name has letters, digits and dashes alone")
        if _OURS.fullmatch(name):
            raise ValueError(f"header fields other than {name}, which rillevents sets itself")
        if not isinstance(value, str) or not _VALUE.fullmatch(value):
            raise ValueError(f"a value of {name} in visible ASCII characters and spaces")
        found[name.lower()] = (name, value.strip(" "))
    return dict(found.values())


def headers_of(what: str, told: str | Mapping[str, object]) -> dict[str, str]:
    """Return the header fields of a variable or a parameter called *what*; raises ConfigError, which shows no value."""
    try:
        return parse_headers(told) if isinstance(told, str) else check_headers(told)
    except ValueError as error:
        raise ConfigError(f"{what} takes {error}") from None
