"""Proxies, certificates and addresses of an HTTP connection. httpx is imported for a proxy and for an odd URL alone."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

from rillevents.errors import ConfigError

if TYPE_CHECKING:
    import ssl
    from urllib.parse import SplitResult

    import httpcore

# As long as httpx keeps an idle connection.
KEEPALIVE_SECONDS = 5.0
# Without a dot at the beginning of a part: `/./` and `/../` have a meaning.
_PLAIN_TARGET = re.compile(r"(?:/(?!\.)[A-Za-z0-9._~-]*)+(?:\?[A-Za-z0-9._~=&/-]*)?")


class UnusableEnvironment(ConfigError):
    """A variable of the environment (a proxy, certificates) cannot be used; the arguments may be good."""


def pool_for(
    scheme: str, proxy: str | None, ca_cert: str | os.PathLike[str] | None, environ: Mapping[str, str]
) -> httpcore.ConnectionPool:
    """Return httpcore's connections; raises ConfigError if the certificates or the proxy cannot be used."""
    import ssl

    import httpcore

    from rillevents.delivery.exporters.connecting import Connecting

    if scheme == "https" or ca_cert is not None or (proxy or "").lower().startswith("https:"):
        context = tls_context(ca_cert, environ)
    else:
        # Empty, unlike httpcore's own: loading certificates that are not needed costs more than the request.
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if proxy is not None:
        return _through(proxy, context)
    return httpcore.ConnectionPool(
        ssl_context=context, keepalive_expiry=KEEPALIVE_SECONDS, network_backend=Connecting()
    )


def _through(proxy: str, context: ssl.SSLContext) -> httpcore.ConnectionPool:
    """Return connections through a proxy of any kind that httpx knows."""
    import httpx

    from rillevents.delivery.exporters.connecting import Connecting

    try:
        proxy_tls = context if proxy.lower().startswith("https:") else None
        via = httpx.Proxy(proxy, ssl_context=proxy_tls)
        pool = httpx.HTTPTransport(verify=context, trust_env=False, proxy=via)._pool
    except ImportError:
        hint = "run: pip install 'rillevents[socks]'"
        raise UnusableEnvironment("a SOCKS proxy needs the package socksio", hint=hint) from None
    except (ValueError, httpx.InvalidURL):
        hint = "it must look like http://HOST:PORT, https://HOST:PORT or socks5://HOST:PORT"
        raise UnusableEnvironment("the proxy's URL cannot be used", hint=hint) from None
    # httpx has no parameter for it; httpcore's pool does.
    pool._network_backend = Connecting()
    return pool


def request_target(parts: SplitResult) -> bytes:
    """Return the path and the query of a URL as they stand in a request, with percent signs for what it cannot hold."""
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    if _PLAIN_TARGET.fullmatch(target):
        return target.encode()
    import httpx

    try:
        return httpx.URL(f"http://host{target}").raw_path
    except (ValueError, httpx.InvalidURL):
        raise ConfigError("the URL has a path or a query that cannot be sent") from None


def tls_context(ca_cert: str | os.PathLike[str] | None, environ: Mapping[str, str]) -> ssl.SSLContext:
    """Return how TLS is spoken: from version 1.2 on, trusting the variables' certificates, else the system's, and *ca_cert*.

    Raises ConfigError if they cannot be read.
    """
    import ssl

    file, folder = environ.get("SSL_CERT_FILE") or None, environ.get("SSL_CERT_DIR") or None
    source = "SSL_CERT_FILE"
    try:
        context = ssl.create_default_context(cafile=file, capath=folder)
        if not (file or folder or _system_has_certificates(ssl.get_default_verify_paths())):
            import certifi

            context.load_verify_locations(certifi.where())
        source = "--ca-cert"
        if ca_cert is not None:
            context.load_verify_locations(ca_cert)
    except OSError as error:
        reason = f"the certificates of {source} cannot be read: {error.strerror or error}"
        kind = ConfigError if source == "--ca-cert" else UnusableEnvironment
        raise kind(reason, hint="give a file with certificates in PEM format") from None
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def _system_has_certificates(paths: ssl.DefaultVerifyPaths) -> bool:
    if paths.cafile or not paths.capath:
        return bool(paths.cafile)
    with os.scandir(paths.capath) as entries:
        return any(entries)
