"""Proxies, certificates and addresses of an HTTP connection. httpx is imported when the first transport is created."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

from rillevents.errors import ConfigError

if TYPE_CHECKING:
    import ssl

    import httpx


class UnusableEnvironment(ConfigError):
    """A variable of the environment (a proxy, certificates) cannot be used; the arguments may be good."""


def transport_for(
    scheme: str, proxy: str | None, ca_cert: str | os.PathLike[str] | None, environ: Mapping[str, str]
) -> httpx.HTTPTransport:
    """Return httpx's transport; raises ConfigError if the certificates or the proxy cannot be used."""
    import ssl

    import httpx

    if scheme == "https" or ca_cert is not None or (proxy or "").lower().startswith("https:"):
        context = _tls(ca_cert, environ)
    else:
        # Empty, unlike httpx's own: loading certificates that are not needed costs more than the request.
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        proxy_tls = context if (proxy or "").lower().startswith("https:") else None
        via = None if proxy is None else httpx.Proxy(proxy, ssl_context=proxy_tls)
        transport = httpx.HTTPTransport(verify=context, trust_env=False, proxy=via)
    except ImportError:
        hint = "run: pip install 'rillevents[socks]'"
        raise UnusableEnvironment("a SOCKS proxy needs the package socksio", hint=hint) from None
    except (ValueError, httpx.InvalidURL):
        hint = "it must look like http://HOST:PORT, https://HOST:PORT or socks5://HOST:PORT"
        raise UnusableEnvironment("the proxy's URL cannot be used", hint=hint) from None
    from rillevents.delivery.exporters.connecting import Connecting

    # httpx has no parameter for it; httpcore's pool does.
    transport._pool._network_backend = Connecting()
    return transport


def _tls(ca_cert: str | os.PathLike[str] | None, environ: Mapping[str, str]) -> ssl.SSLContext:
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
