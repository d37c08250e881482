"""What a server is asked to be, checked before anything is opened; without the libraries that it runs on."""

from __future__ import annotations

import os
from dataclasses import dataclass, field

from rillevents.delivery.credentials import read_secret
from rillevents.delivery.url import bracketed
from rillevents.errors import ConfigError, UsageError
from rillevents.event.timestamp import parse_duration
from rillevents.local import Paths
from rillevents.serve.access import Access, is_host, is_local_bind

DEFAULT_PORT = 8787


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
        """Where events go on to: the scheme in small letters, and a file by its whole path, so that it is one and the same."""
        scheme, colon, rest = self.to.partition(":")
        if scheme.lower() == "file" and colon:
            path = rest.removeprefix("//") if rest.startswith("///") or not rest.startswith("//") else rest
            return f"file:{os.path.abspath(path)}" if path and not path.startswith("//") else f"file:{rest}"
        return f"{scheme.lower()}{colon}{rest}"

    @property
    def is_governed(self) -> bool:
        """Whether consent is asked: everywhere but where events are stored, or handed to a file or to Kafka."""
        return bool(self.to) and self.destination.partition(":")[0] not in ("file", "kafka")

    @property
    def keep_us(self) -> int:
        """The microseconds that an event is kept for, 0 for ever; raises UsageError."""
        if not self.keep:
            return 0
        try:
            seconds = parse_duration(self.keep)
        except ValueError:
            seconds = 0
        if not seconds or int(self.keep[:-1]) >= 10**6:
            raise UsageError(f"--keep {self.keep!r} is no time", hint="write 30d, 12h or 90m")
        return seconds * 1_000_000

    def check(self) -> None:
        """Raise UsageError where two of these exclude each other, or one of them lacks another."""
        if not 0 <= self.port <= 65535:
            raise UsageError(f"--port {self.port} is none", hint="name one from 1 to 65535, or 0 for any that is free")
        if self.store and self.to:
            raise UsageError(
                "--store and --to exclude each other: events are stored here, or they go on", hint="name one"
            )
        if self.keep and self.to:
            raise UsageError("--keep is about a store, and --to has none", hint="leave one of them out")
        if bool(self.tls_cert) != bool(self.tls_key):
            raise UsageError("--tls-cert and --tls-key go together", hint="name both")
        if not is_host(self.host):
            raise UsageError(f"--host {self.host!r} is no address", hint="write --host 127.0.0.1")
        if not is_local_bind(self.host) and not self.user:
            raise UsageError(
                f"{self.host} can be reached from other machines, so who sends has to say who they are",
                hint="name a --user, and set RILLEVENTS_SERVE_PASSWORD or --password-file",
            )
        if ":" in self.user or any(ord(c) < 32 or ord(c) == 127 for c in self.user):
            raise UsageError("--user holds a colon or a control character, which Basic authentication cannot carry")
        _ = self.keep_us

    def check_tls(self) -> None:
        """Raise ConfigError where the certificate or its key cannot be used."""
        import ssl

        try:
            if self.tls_cert:
                ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(self.tls_cert, self.tls_key)
        except OSError as error:
            reason = error.strerror or error
            raise ConfigError(f"--tls-cert and --tls-key cannot be used: {reason}", hint="give files in PEM") from None

    def access(self, paths: Paths, warnings: list[str]) -> Access:
        """Return who may ask; raises UsageError, and ConfigError where there is a user and no password."""
        password = paths.variable("SERVE_PASSWORD")
        if self.password_file:
            password = read_secret(self.password_file, warnings.append)
        if self.user and not password:
            hint = "set RILLEVENTS_SERVE_PASSWORD, or name a --password-file"
            raise ConfigError(f"there is no password for {self.user}", hint=hint)
        if not self.user and self.password_file:
            raise UsageError("there is a --password-file, and no --user", hint="name a --user")
        if not is_local_bind(self.host) and not self.tls_cert:
            warnings.append(f"passwords travel to {self.host} in plain text; name --tls-cert and --tls-key")
        hosts = self.allow_hosts if self.host in ("0.0.0.0", "::") else (*self.allow_hosts, bracketed(self.host))  # noqa: S104
        return Access(hosts=hosts, origins=self.allow_origins, user=self.user, password=password)

    def url(self, port: int) -> str:
        """Return where a server with these options is reached that listens on *port*."""
        return f"{'https' if self.tls_cert else 'http'}://{bracketed(self.host)}:{port}"
