"""URLs of destinations, and who may see the credentials; cheap to import: exporters are loaded when one is requested."""

from __future__ import annotations

import base64
import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import SplitResult, unquote, urlsplit

from rillevents.errors import ConfigError

DEFAULT_PORTS = {"http": 80, "https": 443}

_NAME = re.compile(r"[a-z0-9_][a-z0-9_.-]*")
# Up to the last @: a password may contain an @ or a slash, and may stand where a URL should have none.
_USERINFO = re.compile(r"^([\w+.-]+:/+)?.*@", re.ASCII | re.DOTALL)
_SHAPE = "an intake's URL looks like https://intake.example/events/default"


@dataclass(frozen=True, slots=True, repr=False)
class IntakeSettings:
    """The configured intake; its repr shows no secret."""

    url: str
    user: str | None = None
    password: str | None = None
    token: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)

    def __repr__(self) -> str:
        url = _USERINFO.sub(r"\1***@", self.url)
        return f"IntakeSettings(url={url!r}, user={self.user!r})"

    @classmethod
    def from_url(
        cls,
        url: str,
        *,
        user: str | None = None,
        password: str | None = None,
        token: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> IntakeSettings:
        """Split `user:password@` from a URL; separately given values win over it, empty ones count as not given.

        Raises ConfigError, which does not show the credentials, if it is not an http(s) URL.
        """
        parts = split_url(url)
        userinfo, _, address = parts.netloc.rpartition("@")
        found_user, _, found_password = userinfo.partition(":")
        if not user and not token and found_user:
            user, password = unquote(found_user), password or unquote(found_password)
        return cls(
            parts._replace(netloc=address).geturl(), user or None, password or None, token or None, headers or {}
        )


def is_kafka(to: str) -> bool:
    """Return whether a destination is a Kafka topic."""
    return to[:6].lower() == "kafka:"


def is_stdout(to: str) -> bool:
    """Return whether a destination is this process's stdout."""
    return to[:5].lower() == "file:" and to[5:] == "-"


OTLP = "otlp"


def is_otlp(to: str) -> bool:
    """Return whether a destination is an OTLP endpoint: `otlp`, which the environment names, or `otlp+https://…`."""
    scheme, colon, _ = to.lower().partition(":")
    return to.lower() == OTLP or (bool(colon) and scheme in (f"{OTLP}+http", f"{OTLP}+https"))


def without_otlp(to: str) -> str:
    """Return an OTLP destination's URL without `otlp+`; anything else as it is."""
    return to[len(OTLP) + 1 :] if to[: len(OTLP) + 1].lower() == f"{OTLP}+" else to


def without_userinfo(to: str) -> str:
    """Return a destination as it may be shown: without the part before an `@` in a URL."""
    return to if to.startswith("file:") else _USERINFO.sub(r"\1", to)


def split_url(url: str) -> SplitResult:
    """Return the parts of an http(s) URL; raises ConfigError, which never shows the URL, if it is not usable."""
    # Checked here, before parsing: urlsplit drops newlines, and a backslash ends a host only for some readers.
    if any(ord(c) <= 32 or ord(c) == 127 or c == "\\" for c in url):
        raise ConfigError("the URL contains a space, a control character or a backslash", hint=_SHAPE)
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise ConfigError("the URL has a wrong host or port", hint=_SHAPE) from None
    if parts.scheme not in DEFAULT_PORTS or not parts.netloc:
        raise ConfigError("the URL must start with https:// or http:// and a host", hint=_SHAPE)
    if port == 0 or parts.netloc.endswith(":"):
        raise ConfigError("the URL has a wrong port", hint=_SHAPE)
    return parts


def origin(url: str) -> tuple[str, str, int]:
    """Return scheme, lower-cased host and port of an http(s) URL; raises ConfigError, which never shows the URL."""
    parts = split_url(url)
    return parts.scheme, _checked_host(parts.hostname or ""), parts.port or DEFAULT_PORTS[parts.scheme]


def bracketed(host: str) -> str:
    """Return a host in URL form: an IPv6 address in brackets."""
    return f"[{host}]" if ":" in host else host


def is_loopback(host: str) -> bool:
    """Whether a host is this machine without asking DNS: 127.0.0.0/8, ::1 or exactly localhost."""
    name = host.lower().removeprefix("[").removesuffix("]")
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return name == "localhost"
    return address.is_loopback if address.version == 4 else address == ipaddress.IPv6Address("::1")


def _checked_host(host: str) -> str:
    try:
        # Without a zone: parsers read the part after the % differently.
        if ":" in host and "%" not in host:
            return ipaddress.IPv6Address(host).compressed
        name = host if host.isascii() else _idna(host)
    except ValueError:
        name = ""
    if not _NAME.fullmatch(name):
        raise ConfigError("the URL has no usable host", hint=_SHAPE)
    return name


def _idna(host: str) -> str:
    import idna

    return idna.encode(host).decode("ascii")


def authorization(user: str | None, password: str | None, token: str | None) -> str:
    """Return the value of the Authorization header, "" without credentials; raises ConfigError for unusable ones."""
    for name, value in (("user", user), ("password", password), ("token", token)):
        if any(ord(c) < 32 or 127 <= ord(c) < 160 for c in value or ""):
            raise ConfigError(f"the intake's {name} contains a control character, perhaps a newline at its end")
    if token:
        if user or password or not token.isascii() or " " in token:
            raise ConfigError("give either a user and a password, or a token in ASCII without spaces")
        return f"Bearer {token}"
    if not user:
        if password:
            raise ConfigError("there is a password for the intake, but no user", hint="set RILLEVENTS_INTAKE_USER")
        return ""
    if ":" in user:
        raise ConfigError("the intake's user contains a colon, which Basic authentication does not allow")
    return "Basic " + base64.b64encode(f"{user}:{password or ''}".encode()).decode("ascii")


def proxy_for(scheme: str, host: str, port: int, environ: Mapping[str, str]) -> str | None:
    """Return the URL of the proxy that the environment names, None for none; loopback never uses one."""

    def value(name: str) -> str:
        # Like the standard library: in a CGI program, HTTP_PROXY is the value of the client's Proxy header.
        cgi = name == "http_proxy" and environ.get("REQUEST_METHOD")
        return environ.get(name) or ("" if cgi else environ.get(name.upper(), ""))

    proxy = value(f"{scheme}_proxy") or value("all_proxy")
    if not proxy or is_loopback(host):
        return None
    # Imported here: it takes a tenth of a flush of one event.
    from urllib.request import proxy_bypass_environment  # type: ignore[attr-defined]

    if proxy_bypass_environment(f"{host}:{port}", {"no": value("no_proxy")}):
        return None
    return proxy if "://" in proxy else f"http://{proxy}"
