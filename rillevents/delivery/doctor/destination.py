"""What the doctor looks at on the way to the destination: name, address, connection and TLS, without a request."""

from __future__ import annotations

import os
import socket
import ssl
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar
from urllib.parse import urlsplit

from rillevents.delivery.destination import destination_name, intake_settings, kafka_settings
from rillevents.delivery.doctor.check import Check
from rillevents.delivery.exporters.http import HttpExporter
from rillevents.delivery.exporters.transport import tls_context
from rillevents.delivery.flush import exporter_to, otlp_of
from rillevents.delivery.url import is_kafka, is_otlp, is_stdout, origin, proxy_for, without_userinfo
from rillevents.errors import ConfigError, RilleventsError
from rillevents.local import Paths, config
from rillevents.local.config_file import is_secret

T = TypeVar("T")
_EXPIRES_SOON_DAYS = 14
_OFF = "not tried: telemetry is off"
_FIRST = "first mend the check above"
_BY_LIBRDKAFKA = "librdkafka speaks it, with the settings under [kafka]"


@dataclass(frozen=True, slots=True)
class Address:
    """Where a connection is opened to; *tls* None without TLS, or if it is not ours to try: then *note* says why."""

    host: str
    port: int
    tls: ssl.SSLContext | None = None
    note: str = ""

    @property
    def named(self) -> str:
        """Host and port."""
        return f"{self.host}:{self.port}"


def destination(
    paths: Paths, settings: config.Config, *, to: str, timeout: float, ca_cert: str | None, enabled: bool
) -> list[Check]:
    """Return the checks of the configured destination, or of *to*; each step of a connection may take *timeout* seconds.

    Unless *enabled*, no password's file is read, no command is run, and no connection is opened.
    """
    try:
        name = destination_name(paths, settings, to)
        shown = _shown(paths, settings, name)
    except RilleventsError as error:
        return [_unusable("destination", error)]
    found = Check("destination", True, shown)
    if not enabled:
        return [found, *(Check(step, True, _OFF) for step in ("credentials", "dns", "tcp", "tls"))]
    warnings: list[str] = []
    try:
        exporter = exporter_to(paths, settings, to=to, timeout=timeout, ca_cert=ca_cert, warn=warnings.append)
    except RilleventsError as error:
        return _unusable_exporter(found, paths, settings, timeout, error)
    exporter.close()
    advice = "; ".join(dict.fromkeys(warnings))
    if isinstance(exporter, HttpExporter):
        ca = ca_cert or (otlp_of(paths, settings, name).ca_cert if is_otlp(name) else None)
        credentials = Check("credentials", True, ", ".join(exporter.credentials) or "none are configured", advice)
        return [found, credentials, *_connection([_address(exporter.name, paths, ca)], timeout)]
    if not is_kafka(name):
        return [_file(name)]
    from rillevents.delivery.exporters.kafka.settings import KafkaAddress

    secrets = [f"kafka.{key}" for key in sorted(kafka_settings(paths, settings, name)) if is_secret(f"kafka.{key}")]
    servers = [
        Address(host.strip("[]"), port, note=_BY_LIBRDKAFKA) for host, port in KafkaAddress.from_url(name).servers
    ]
    return [
        found,
        Check("credentials", True, ", ".join(secrets) or "none are configured"),
        *_connection(servers, timeout),
    ]


def _unusable_exporter(
    found: Check, paths: Paths, settings: config.Config, timeout: float, error: RilleventsError
) -> list[Check]:
    """Return the check that fails, by whether the credentials alone are at fault."""
    try:
        intake_settings(paths, settings, timeout=timeout)
    except RilleventsError:
        return [found, _unusable("credentials", error)]
    return [_unusable("destination", error)]


def _unusable(name: str, error: RilleventsError) -> Check:
    advice = error.hint or "see: rillevents help flushing"
    return Check(name, False, error.message, advice, 78)


def _shown(paths: Paths, settings: config.Config, name: str) -> str:
    if name != "intake":
        return without_userinfo(name)
    intake = intake_settings(paths, settings, secrets=False)
    if intake is None:
        hint = "set RILLEVENTS_INTAKE_URL, or run: rillevents config set intake.url URL"
        raise ConfigError("no destination is configured", hint=hint)
    return intake.url


def _file(name: str) -> Check:
    if is_stdout(name):
        return Check("destination", True, "stdout")
    path = os.path.abspath(name.partition(":")[2].removeprefix("//"))
    folder = os.path.dirname(path)
    if {"%", "{"} & {*folder}:
        return Check("destination", True, f"{name}: its folder depends on the day")
    if not os.path.isdir(folder):
        return Check("destination", False, f"{folder} does not exist", f"run: mkdir -p {folder}", 75)
    if not os.access(path if os.path.exists(path) else folder, os.W_OK):
        return Check("destination", False, f"{path} cannot be written", f"give yourself access to {folder}", 75)
    return Check("destination", True, f"{name}: {folder} can be written")


def _address(url: str, paths: Paths, ca_cert: str | None) -> Address:
    """Return where the connection to *url* is opened to: its host, or the proxy's."""
    scheme, host, port = origin(url)
    proxy = proxy_for(scheme, host, port, paths.environ)
    if proxy:
        parts = urlsplit(proxy)
        default = {"https": 443, "http": 80}.get(parts.scheme, 1080)
        return Address(parts.hostname or "", parts.port or default, note="behind a proxy, which would have to be asked")
    if scheme == "http":
        return Address(host, port, note="not used with http://")
    return Address(host, port, tls_context(ca_cert, paths.environ))


def _connection(addresses: Sequence[Address], timeout: float) -> list[Check]:
    dns, resolved = _dns(addresses, timeout)
    if not resolved:
        return [dns, Check("tcp", False, "not tried", _FIRST, 75), _untried_tls(addresses[0])]
    tcp, sock = _tcp(addresses, resolved, timeout)
    if sock is None:
        return [dns, tcp, _untried_tls(addresses[0])]
    with sock:
        return [dns, tcp, _tls(addresses[0], sock, timeout)]


def _dns(addresses: Sequence[Address], timeout: float) -> tuple[Check, list[Any]]:
    found, problems = list[Any](), list[str]()
    for address in addresses:
        try:
            found += _within(timeout, partial(_resolve, address))
        except TimeoutError:
            problems.append(f"{address.host}: no answer within {timeout:g} s")
        except (OSError, UnicodeError) as error:
            problems.append(f"{address.host}: {getattr(error, 'strerror', None) or error}")
    advice = "check the host's name in the URL, and this machine's network and DNS" if problems else ""
    shown = ", ".join(dict.fromkeys(str(entry[4][0]) for entry in found))
    return Check("dns", bool(found), "; ".join([*problems, *filter(None, [shown])]), advice, 75), found


def _resolve(address: Address) -> list[Any]:
    # As when it is sent there: without asking.
    hosts = ("127.0.0.1", "::1") if address.host == "localhost" else (address.host,)
    return [entry for host in hosts for entry in socket.getaddrinfo(host, address.port, type=socket.SOCK_STREAM)]


def _tcp(addresses: Sequence[Address], resolved: Sequence[Any], timeout: float) -> tuple[Check, socket.socket | None]:
    from rillevents.delivery.exporters.connecting import first_to_answer

    named = ", ".join(address.named for address in addresses)
    began = time.monotonic()
    try:
        sock = first_to_answer(resolved, timeout)
    except TimeoutError:
        advice = "a firewall may be in the way, or a proxy is needed: set HTTPS_PROXY"
        return Check("tcp", False, f"{named}: no connection within {timeout:g} s", advice, 75), None
    except OSError as error:
        advice = "check the port in the URL, and that the destination runs"
        return Check("tcp", False, f"{named}: {error.strerror or error}", advice, 75), None
    took = (time.monotonic() - began) * 1000
    return Check("tcp", True, f"connected to {sock.getpeername()[0]} in {took:.0f} ms"), sock


def _untried_tls(address: Address) -> Check:
    if address.tls is None:
        return Check("tls", True, f"not tried: {address.note}")
    return Check("tls", False, "not tried", _FIRST, 75)


def _tls(address: Address, sock: socket.socket, timeout: float) -> Check:
    if address.tls is None:
        return _untried_tls(address)
    sock.settimeout(timeout)
    try:
        with address.tls.wrap_socket(sock, server_hostname=address.host) as wrapped:
            certificate: Any = wrapped.getpeercert() or {}
            version = wrapped.version()
    except ssl.SSLCertVerificationError as error:
        return Check("tls", False, f"the certificate is not trusted: {error.verify_message}", _trust(error), 75)
    except (OSError, ValueError) as error:
        told = getattr(error, "reason", None) or getattr(error, "strerror", None) or str(error)
        return Check("tls", False, f"no TLS with {address.named}: {told}", "check that the port speaks TLS", 75)
    days = (
        (ssl.cert_time_to_seconds(certificate["notAfter"]) - time.time()) / 86_400 if "notAfter" in certificate else 1e9
    )
    advice = "tell those who run the destination to renew its certificate" if days < _EXPIRES_SOON_DAYS else ""
    return Check("tls", True, f"{version}, the certificate is valid for {days:,.0f} more days", advice)


def _trust(error: ssl.SSLCertVerificationError) -> str:
    if "expired" in error.verify_message or "not yet valid" in error.verify_message:
        return "check this machine's clock; else tell those who run the destination to renew its certificate"
    if "ostname" in error.verify_message or "IP address" in error.verify_message:
        return "check the host's name in the URL"
    return "give its CA with --ca-cert FILE or SSL_CERT_FILE"


def _within(seconds: float, ask: Callable[[], T]) -> T:
    """Return what *ask* returns, or raises; raises TimeoutError if that takes longer: DNS has no limit of its own."""
    told: list[T | BaseException] = []

    def run() -> None:
        try:
            told.append(ask())
        except BaseException as error:  # noqa: BLE001 - raised again where it is waited for
            told.append(error)

    thread = threading.Thread(target=run, name="rillevents-dns", daemon=True)
    thread.start()
    thread.join(seconds)
    if not told:
        raise TimeoutError
    if isinstance(told[0], BaseException):
        raise told[0]
    return told[0]
