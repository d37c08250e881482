"""Who may ask: the requested Host, the page's Origin, and the credentials. Pure functions."""

from __future__ import annotations

import base64
import hmac
import ipaddress
import re
from collections.abc import Mapping, Sequence
from urllib.parse import urlsplit

from rillevents.delivery.url import is_loopback
from rillevents.errors import UsageError

_HOST = re.compile(r"(\[[0-9a-f:.]+\]|[a-z0-9_.-]+)(?::([0-9]{1,5}))?", re.IGNORECASE)
_MOST_KNOWN = 256
_FORWARDED = (b"for", b"host", b"proto", b"port", b"server", b"ssl", b"prefix")
# Headers that proxies add to a request they forward.
_OF_PROXIES = frozenset((b"forwarded", b"via", b"x-real-ip", *(b"x-forwarded-" + what for what in _FORWARDED)))
_LOCAL = ("localhost", "127.0.0.1", "[::1]")


class Access:
    """What a server allows: these hosts besides the local ones, these origins, and this user, if any.

    *hosts* are names with or without a port, *origins* look like `https://app.example.com`. Raises UsageError if one is invalid.
    """

    def __init__(
        self, *, hosts: Sequence[str] = (), origins: Sequence[str] = (), user: str = "", password: str = ""
    ) -> None:
        self._hosts = {_checked_host(host) for host in hosts}
        self._origins = {_checked_origin(origin) for origin in origins}
        credentials = base64.b64encode(f"{user}:{password}".encode("utf-8", "surrogateescape"))
        self._expected = credentials if user else b""
        self._known_hosts: set[bytes] = set()

    @property
    def needs_credentials(self) -> bool:
        """Whether clients must authenticate."""
        return bool(self._expected)

    def allows_host(self, header: bytes | None) -> bool:
        """Whether this Host is allowed; a page that rebinds its name to this address (DNS rebinding) sends its own name."""
        if header is None or header in self._known_hosts:
            return header is not None
        known = self._is_our_host(header)
        if known and len(self._known_hosts) < _MOST_KNOWN:
            self._known_hosts.add(header)
        return known

    def _is_our_host(self, header: bytes) -> bool:
        found = _HOST.fullmatch(header.decode("latin-1"))
        if not found or int(found[2] or 0) > 65535:
            return False
        name = found[1].lower()
        return name in _LOCAL or name in self._hosts or f"{name}:{found[2]}" in self._hosts

    def allows_origin(self, header: bytes) -> bool:
        """Whether a page of this Origin may send and read: a page of this machine, or an allowed origin."""
        return self._is_named(header) or self._is_of_this_machine(header)

    def vouches(self, origin: bytes | None, *, is_local: bool) -> bool:
        """Whether an Origin stands in for credentials: an allowed one, or one of this machine if the client *is_local*.

        A remote client's claim to come from this machine does not count: anybody can send that Origin.
        """
        return origin is not None and (self._is_named(origin) or (is_local and self._is_of_this_machine(origin)))

    def _is_named(self, header: bytes) -> bool:
        return header.decode("latin-1").lower() in self._origins

    def _is_of_this_machine(self, header: bytes) -> bool:
        origin = header.decode("latin-1")
        scheme, separator, host = origin.partition("://")
        found = _HOST.fullmatch(host)
        return bool(separator and scheme in ("http", "https") and found and found[1].lower() in _LOCAL)

    def allows(self, authorization: bytes | None) -> bool:
        """Whether these credentials are correct, or none are needed; comparing takes the same time for all wrong ones."""
        if not self._expected:
            return True
        scheme, _, given = (authorization or b"").partition(b" ")
        return hmac.compare_digest(given.strip(), self._expected) and scheme.lower() == b"basic"


def is_direct(client: tuple[str, int] | None, headers: Mapping[bytes, bytes]) -> bool:
    """Whether the client is on this machine and addresses this server directly; behind a proxy every client looks local."""
    host = _HOST.fullmatch(headers.get(b"host", b"").decode("latin-1"))
    by_name = host is not None and (host[1].lower() in _LOCAL or is_loopback(host[1]))
    return by_name and is_loopback_client(client) and _OF_PROXIES.isdisjoint(headers)


def is_loopback_client(client: tuple[str, int] | None) -> bool:
    """Whether the client is on this machine."""
    if client is None:
        return False
    try:
        address = ipaddress.ip_address(client[0].partition("%")[0])
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback


def is_host(text: str) -> bool:
    """Whether *text* can be a name or an address to listen on."""
    return bool(_HOST.fullmatch(f"[{text}]" if ":" in text else text))


def _checked_host(text: str) -> str:
    found = _HOST.fullmatch(text)
    if not found:
        raise UsageError(
            f"--allow-host {text!r} is not a valid host name", hint="write --allow-host events.example.com"
        )
    return text.lower()


def _checked_origin(text: str) -> str:
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        parts, port = urlsplit(""), None
    bare = f"{parts.scheme}://{parts.netloc}".lower() == text.lower() and "@" not in text
    # Any scheme: browser extensions and desktop shells have their own. Pages of file: have the Origin `null`, as many others.
    if parts.scheme in ("", "file") or not parts.hostname or "*" in text or not bare or port == 0:
        hint = "write --allow-origin https://app.example.com, without a path"
        raise UsageError(f"--allow-origin {text!r} is not a valid origin", hint=hint)
    return text.lower()
