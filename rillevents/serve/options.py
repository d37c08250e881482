"""The options of a server, checked before anything is opened; works without the extra's libraries."""

from __future__ import annotations

import os
from dataclasses import dataclass, field

from rillevents.delivery.credentials import read_secret
from rillevents.delivery.url import bracketed, is_loopback
from rillevents.errors import ConfigError, UsageError
from rillevents.event.timestamp import parse_duration
from rillevents.local import Paths
from rillevents.serve.access import Access, is_host
from rillevents.serve.limits import DEFAULT_PORT

# 300 years: more is a slip.
_MOST_KEPT_SECONDS = 10**10


@dataclass(frozen=True, slots=True)
class Options:
    """The options of `rillevents serve`, as they were given."""

    host: str = "127.0.0.1"
    port: int = DEFAULT_PORT
    store: str = ""
    to: str = ""
    keep: str = ""
    user: str = ""
    password_file: str = ""
    allow_hosts: tuple[str, ...] = field(default_factory=tuple)
    allow_origins: tuple[str, ...] = field(default_factory=tuple)
    tls_cert: str = ""
    tls_key: str = ""

    @property
    def destination(self) -> str:
        """The destination: its scheme in lower case, a file by its absolute path, so that one destination has one name."""
        scheme, colon, rest = self.to.partition(":")
        if scheme.lower() == "file" and colon:
            path = rest.removeprefix("//") if rest.startswith("///") or not rest.startswith("//") else rest
            return f"file:{os.path.abspath(path)}" if path and not path.startswith("//") else f"file:{rest}"
        return f"{scheme.lower()}{colon}{rest}"

    @property
    def needs_consent(self) -> bool:
        """Whether consent applies: to every destination except a store, a file and Kafka."""
        return bool(self.to) and self.destination.partition(":")[0] not in ("file", "kafka")

    @property
    def keep_us(self) -> int:
        """How many microseconds an event is kept, 0 means forever; raises UsageError."""
        if not self.keep:
            return 0
        try:
            seconds = parse_duration(self.keep)
        except ValueError:
            seconds = 0
        if not 0 < seconds < _MOST_KEPT_SECONDS:
            raise UsageError(f"--keep {self.keep!r} is not a valid duration", hint="write 30d, 12h or 90m")
        return int(seconds * 1_000_000)

    def check(self) -> None:
        """Raise UsageError if two of the options exclude each other, or one requires another."""
        if not 0 <= self.port <= 65535:
            raise UsageError(f"--port {self.port} is not a valid port", hint="give 1 to 65535, or 0 for any free port")
        if self.store and self.to:
            raise UsageError(
                "--store and --to exclude each other: events are either stored here or forwarded",
                hint="give one of them",
            )
        if self.keep and self.to:
            raise UsageError("--keep applies to a store, and --to has none", hint="leave one of them out")
        if bool(self.tls_cert) != bool(self.tls_key):
            raise UsageError("--tls-cert and --tls-key go together", hint="give both")
        if not is_host(self.host):
            raise UsageError(f"--host {self.host!r} is not a valid address", hint="write --host 127.0.0.1")
        if not is_loopback(self.host) and not self.user:
            raise UsageError(
                f"{self.host} can be reached from other machines, so authentication is required",
                hint="give --user, and set RILLEVENTS_SERVE_PASSWORD or give --password-file",
            )
        if ":" in self.user or any(ord(c) < 32 or ord(c) == 127 for c in self.user):
            raise UsageError(
                "--user contains a colon or a control character, which Basic authentication does not allow"
            )
        _ = self.keep_us

    def check_tls(self) -> None:
        """Raise ConfigError if the certificate or its key cannot be used."""
        import ssl

        try:
            if self.tls_cert:
                ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(self.tls_cert, self.tls_key)
        except OSError as error:
            reason = error.strerror or error
            raise ConfigError(
                f"--tls-cert and --tls-key cannot be used: {reason}", hint="give files in PEM format"
            ) from None

    def access(self, paths: Paths, warnings: list[str]) -> Access:
        """Return who may ask; raises UsageError, and ConfigError if there is a user but no password."""
        password = paths.variable("SERVE_PASSWORD")
        if self.password_file:
            password = read_secret(self.password_file, warnings.append)
        if self.user and not password:
            hint = "set RILLEVENTS_SERVE_PASSWORD, or give --password-file"
            raise ConfigError(f"there is no password for user {self.user}", hint=hint)
        if not self.user and self.password_file:
            raise UsageError("--password-file needs --user", hint="give --user")
        if not is_loopback(self.host) and not self.tls_cert:
            warnings.append(f"passwords are sent to {self.host} in plain text; give --tls-cert and --tls-key")
        hosts = self.allow_hosts if self.host in ("0.0.0.0", "::") else (*self.allow_hosts, bracketed(self.host))  # noqa: S104
        return Access(hosts=hosts, origins=self.allow_origins, user=self.user, password=password)

    def page(self, url: str) -> str:
        """Return where a server with this URL shows its page on its own machine; "" if it listens to no loopback address."""
        anywhere = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}  # noqa: S104
        if self.host in anywhere:
            scheme, _, rest = url.partition("://")
            return f"{scheme}://{anywhere[self.host]}:{rest.rpartition(':')[2]}/"
        return f"{url}/" if is_loopback(self.host) else ""

    def url(self, port: int) -> str:
        """Return the URL of a server with these options that listens on *port*."""
        return f"{'https' if self.tls_cert else 'http'}://{bracketed(self.host)}:{port}"
