"""What httpcore raises → what it means for a batch."""

from __future__ import annotations

import math
import socket

from rillevents.delivery.exporters.intake_responses import PROXY_ADVICE
from rillevents.delivery.outcome import Kind, Outcome, clean

CONNECT_TIMEOUT = 10.0
INVALID = "an incomplete or invalid HTTP response"


def errors() -> tuple[type[Exception], ...]:
    """Return all that httpcore raises."""
    import httpcore

    return (
        httpcore.TimeoutException,
        httpcore.NetworkError,
        httpcore.ProtocolError,
        httpcore.ProxyError,
        httpcore.UnsupportedProtocol,
    )


def os_error(error: BaseException | None) -> OSError:
    """Return the error of the operating system behind an exception; an empty one if there is none."""
    while error is not None and not isinstance(error, OSError):
        error = error.__cause__ or error.__context__
    return error or OSError()


def outcome_of(error: Exception, name: str) -> Outcome:
    """Return what an exception means for the batch that was sent to *name*."""
    import ssl

    import httpcore

    cause = os_error(error)
    if isinstance(cause, ssl.SSLCertVerificationError):
        remedy = "give its CA with --ca-cert FILE or SSL_CERT_FILE"
        reason = f"the certificate of {name} is not trusted ({cause.verify_message}); {remedy}"
        return Outcome(Kind.TEMPORARY, clean(reason), math.inf)
    if isinstance(error, httpcore.ProxyError):
        status = str(error)[:3]
        retry = status in ("408", "429") or not status.startswith("4")
        advice = f"; {PROXY_ADVICE}" if status in ("401", "407") else ""
        return Outcome(Kind.TEMPORARY if retry else Kind.MISCONFIGURED, clean(f"the proxy answered: {error}{advice}"))
    return Outcome(Kind.TEMPORARY, clean(_reason(error, cause, name)))


def _reason(error: Exception, cause: OSError, name: str) -> str:
    import ssl

    import httpcore

    if isinstance(cause, socket.gaierror):
        return f"could not find the host of {name}: {cause.strerror}"
    if isinstance(cause, ssl.SSLError):
        return f"could not speak TLS with {name}: {cause.reason or cause}"
    if isinstance(error, httpcore.ConnectTimeout):
        return f"could not connect to {name} within {CONNECT_TIMEOUT:g} s"
    if isinstance(error, httpcore.ConnectError):
        return f"could not connect to {name}: {(cause.strerror or str(error)).lower()}"
    if isinstance(error, httpcore.TimeoutException):
        return f"{name} stopped answering"
    if isinstance(error, httpcore.RemoteProtocolError):
        return f"{name} answered with {INVALID}: {error}"
    return f"the connection to {name} broke: {cause.strerror or error}"
