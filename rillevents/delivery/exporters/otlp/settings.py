"""Where an OTLP destination is: a URL with `otlp+` before it, or the environment's OTEL_EXPORTER_OTLP_* variables.

The variables: https://opentelemetry.io/docs/specs/otel/protocol/exporter/ and
https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from rillevents.delivery.exporters.encoding import Compression
from rillevents.delivery.url import OTLP, is_otlp, origin, split_url, without_otlp
from rillevents.errors import ConfigError, UsageError
from rillevents.local.headers import headers_of

Encoding = Literal["protobuf", "json"]

LOGS_PATH = "/v1/logs"
# https://opentelemetry.io/docs/specs/otlp/#otlphttp-default-port
DEFAULT_ENDPOINT = "http://localhost:4318"
_COMPRESSIONS: Mapping[str, Compression] = {"none": "none", "gzip": "gzip", "zstd": "zstd"}
_PROTOCOLS: Mapping[str, Encoding] = {"http/protobuf": "protobuf", "http/json": "json"}


@dataclass(frozen=True, slots=True)
class OtlpSettings:
    """One OTLP destination. `timeout` is in seconds, for each step of a request; `resource` is what every resource has."""

    url: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    encoding: Encoding = "protobuf"
    compression: Compression | None = None
    ca_cert: str | None = None
    timeout: float | None = None
    resource: Mapping[str, str] = field(default_factory=dict)


def otlp_settings(
    to: str,
    configured: Mapping[str, Any],
    environ: Mapping[str, str],
    *,
    home: str = "",
    warn: Callable[[str], None] = lambda message: None,
) -> OtlpSettings:
    """Return the settings of the destination *to*; *configured* is `[otlp]` of config.toml, *home* its `flush.to`.

    Header fields go to the endpoint that they were configured for, and to no other: those of `[otlp]` to *home*, if that is an
    OTLP URL; those of the variables to the endpoint that the variables name. Raises ConfigError, and UsageError if the URL
    contains credentials.
    """
    resource = _resource(environ, warn)
    encoding: Encoding = configured.get("encoding", "protobuf")
    if to.lower() == OTLP:
        found = _Variables(environ, warn).settings(encoding, resource)
        named = found.url != DEFAULT_ENDPOINT + LOGS_PATH
    else:
        found, named = OtlpSettings(_url(to), encoding=encoding, resource=resource), False
    return _with_headers(found, configured.get("headers", {}), home, named=named, warn=warn)


def _with_headers(
    found: OtlpSettings, headers: Mapping[str, str], home: str, *, named: bool, warn: Callable[[str], None]
) -> OtlpSettings:
    if not headers or found.headers:
        return found
    is_home = is_otlp(home) and home.lower() != OTLP
    if origin(_url(home)) != origin(found.url) if is_home else named:
        warn("the header fields under [otlp] are for another endpoint than this one, and are not sent")
        return found
    return replace(found, headers=headers)


def _url(to: str) -> str:
    """Return the URL without `otlp+`, with the usual path if it has none."""
    parts = split_url(without_otlp(to))
    if "@" in parts.netloc:
        hint = "set [otlp] headers: rillevents help destinations"
        raise UsageError("secrets do not belong in a destination's URL", hint=hint)
    return parts._replace(path=parts.path if parts.path not in ("", "/") else LOGS_PATH).geturl()


class _Variables:
    """The variables of OpenTelemetry: what is said for logs wins over what is said for all signals."""

    def __init__(self, environ: Mapping[str, str], warn: Callable[[str], None]) -> None:
        self._environ = environ
        self._warn = warn

    def settings(self, encoding: Encoding, resource: Mapping[str, str]) -> OtlpSettings:
        return OtlpSettings(
            self._endpoint(),
            headers=headers_of(*headers) if (headers := self._named("HEADERS"))[1] else {},
            encoding=self._encoding() or encoding,
            compression=self._compression(),
            ca_cert=self._get("CERTIFICATE") or None,
            timeout=self._timeout(),
            resource=resource,
        )

    def _named(self, name: str) -> tuple[str, str]:
        """Return the variable that is set, and its value."""
        for variable in (f"OTEL_EXPORTER_OTLP_LOGS_{name}", f"OTEL_EXPORTER_OTLP_{name}"):
            if value := self._environ.get(variable, "").strip():
                return variable, value
        return "", ""

    def _get(self, name: str) -> str:
        return self._named(name)[1]

    def _endpoint(self) -> str:
        variable, value = self._named("ENDPOINT")
        try:
            parts = split_url(value or DEFAULT_ENDPOINT)
        except ConfigError as error:
            raise ConfigError(f"{variable}: {error.message}", hint="write it like http://localhost:4318") from None
        if "@" in parts.netloc:
            raise ConfigError(f"{variable} contains a password", hint="set OTEL_EXPORTER_OTLP_HEADERS")
        if variable.endswith("_LOGS_ENDPOINT"):
            return parts.geturl()
        return parts._replace(path=parts.path.rstrip("/") + LOGS_PATH).geturl()

    def _encoding(self) -> Encoding | None:
        variable, value = self._named("PROTOCOL")
        if value and value not in _PROTOCOLS:
            hint = "rillevents speaks http/protobuf and http/json: set it to one of them, and the port to that of HTTP (4318)"
            raise ConfigError(f"{variable}={value!r} is not supported", hint=hint)
        return _PROTOCOLS.get(value)

    def _compression(self) -> Compression | None:
        variable, value = self._named("COMPRESSION")
        if value and value not in _COMPRESSIONS:
            raise ConfigError(f"{variable}={value!r} is not supported", hint="possible values: none, gzip, zstd")
        return _COMPRESSIONS.get(value)

    def _timeout(self) -> float | None:
        variable, value = self._named("TIMEOUT")
        if value.isascii() and value.isdigit() and int(value[:12]):
            return int(value[:12]) / 1000
        if value:
            self._warn(f"{variable}={value!r} is not a number of milliseconds; it was left out")
        return None


def _resource(environ: Mapping[str, str], warn: Callable[[str], None]) -> Mapping[str, str]:
    """Return the resource's attributes that the environment sets for every program."""
    from rillevents.local.config import percent_decoded

    pairs = [part.partition("=") for part in environ.get("OTEL_RESOURCE_ATTRIBUTES", "").split(",") if part.strip()]
    found = {percent_decoded(key.strip()): percent_decoded(value.strip()) for key, equals, value in pairs if equals}
    usable = {key: value for key, value in found.items() if key and _is_unicode(key + value)}
    if len(usable) < len(found) or not all(equals for _, equals, _ in pairs):
        warn("OTEL_RESOURCE_ATTRIBUTES is partly malformed: write k=v,k2=v2")
    service = environ.get("OTEL_SERVICE_NAME", "")
    return usable | ({"service.name": service} if service and _is_unicode(service) else {})


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
