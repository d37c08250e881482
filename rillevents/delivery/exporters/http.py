"""Batches over HTTP, in whatever form a destination takes them. httpcore's exceptions end here; it is imported when needed.

httpcore is what httpx sends with. It is used without httpx's client, whose import takes longer than a flush of one event.
"""

from __future__ import annotations

import errno
import os
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from rillevents.delivery.exporters.encoding import Compression, Encoding, decoded, encoder
from rillevents.delivery.exporters.http_failures import CONNECT_TIMEOUT, errors, os_error, outcome_of
from rillevents.delivery.exporters.intake_responses import classify
from rillevents.delivery.exporters.transport import pool_for, request_target
from rillevents.delivery.outcome import Kind, Outcome, clean
from rillevents.delivery.url import DEFAULT_PORTS, authorization, bracketed, is_loopback, origin, proxy_for, split_url
from rillevents.errors import ConfigError
from rillevents.event.batch import Batch
from rillevents.local import __version__
from rillevents.local.headers import headers_of

if TYPE_CHECKING:
    import httpcore

    from rillevents.delivery.url import IntakeSettings


ANSWER_MAX = 1 << 20
# Not the deadline of a flush, which Delivery enforces: this only ends an abandoned thread.
SOCKET_TIMEOUT = 600.0
_SHORT = 3


class HttpExporter:
    """Posts batches to one URL; a kind of destination says how a body is written, and how an answer is read.

    Raises ConfigError if the URL, the credentials, the certificates, the proxy or the compression is not usable, above all if
    credentials would be sent in plain text. *headers* are further fields, credentials too. *renew* reads the credentials again
    after a refusal: if they are others by then, the batch is posted once more. *mark* gives further fields for each request.
    *timeout* is how many seconds each step of a request may take. One call at a time; `close` may be called from another thread,
    and aborts a call.
    """

    most = (10_000, 8 << 20)
    may_drop_old = True
    accept = "application/json"
    content_type = "application/x-ndjson"

    def __init__(
        self,
        url: str,
        *,
        user: str | None = None,
        password: str | None = None,
        token: str | None = None,
        headers: Mapping[str, str] | None = None,
        ca_cert: str | os.PathLike[str] | None = None,
        compression: Compression = "none",
        environ: Mapping[str, str] | None = None,
        user_agent: str = f"rillevents/{__version__}",
        renew: Callable[[], IntakeSettings | None] | None = None,
        mark: Callable[[], Mapping[str, str]] | None = None,
        timeout: float = SOCKET_TIMEOUT,
    ) -> None:
        scheme, self._host, port = origin(url)
        parts = split_url(url)
        if "@" in parts.netloc:
            raise ConfigError("the URL contains credentials", hint="give them as user and password")
        env = os.environ if environ is None else environ
        self._encoding = Encoding(self._encoder(encoder(compression)))
        self._scheme, self._port = scheme, "" if port == DEFAULT_PORTS[scheme] else f":{port}"
        self._renew = renew
        self._mark = mark or dict
        self._secrets: list[str] = []
        self._target = request_target(parts)
        self._own_headers = self._fixed_headers(compression, user_agent)
        self._authorize(authorization(user, password, token), headers or {}, password, token)
        self._timeouts = {
            **dict.fromkeys(("connect", "pool"), min(CONNECT_TIMEOUT, timeout)),
            **dict.fromkeys(("read", "write"), timeout),
        }
        self._pool = pool_for(scheme, proxy_for(scheme, self._host, port, env), ca_cert, env)
        # Only if the address differs from the name: httpcore also uses it to check a proxy's certificate.
        self._sni = {"sni_hostname": "localhost"} if self._host == "localhost" else {}
        self._socket: socket.socket | None = None
        self._closed = self._connected = self._answered = self._sent_all = False

    @property
    def name(self) -> str:
        """Scheme, host and port: the destination's name in messages."""
        return f"{self._scheme}://{bracketed(self._host)}{self._port}"

    @property
    def credentials(self) -> list[str]:
        """Which credentials each request has, in words; never their value."""
        kind = self._credentials.get("Authorization", "").partition(" ")[0]
        known = {"Basic": "a user and a password", "Bearer": "a token"}
        fields = [
            f"the header field {name}" for name in self._credentials if name != "Authorization" or kind not in known
        ]
        return [*filter(None, [known.get(kind)]), *fields]

    def export(self, batch: Batch) -> Outcome:
        """Post the batch once, and once more if a kept connection turns out to have been closed meanwhile.

        Lines that an earlier answer acknowledged are left out.
        """
        if not batch.acknowledged:
            return self._noted(batch, self._export(batch))
        left = [at for at in range(len(batch)) if not batch.is_acknowledged(at)]
        if not left:
            return Outcome(Kind.ACCEPTED)
        outcome = self._export(Batch([batch.lines[at] for at in left], batch.on_progress))
        rejected = tuple((left[at], reason) for at, reason in outcome.rejected)
        acknowledged = tuple(left[at] for at in outcome.acknowledged)
        return self._noted(batch, replace(outcome, rejected=rejected, acknowledged=acknowledged))

    def _noted(self, batch: Batch, outcome: Outcome) -> Outcome:
        for at in outcome.acknowledged:
            batch.acknowledge(at)
        return outcome

    def _export(self, batch: Batch) -> Outcome:
        try:
            body = self._encoding.body(batch)
            outcome = self._post_to_any(batch, body)
            if outcome.kind is Kind.REFUSED and self._renew:
                return self._post_renewed(batch, body, outcome)
            return outcome
        except errors() as error:
            return outcome_of(error, self.name)

    def prepare(self, batch: Batch) -> None:
        """Start compressing the next batch; safe while `export` runs in another thread."""
        self._encoding.begin(batch)

    def close(self) -> None:
        """Close the connections; a call in another thread ends soon, and sends nothing further."""
        self._closed = True
        self._encoding.clear()
        if self._socket is not None:
            try:
                # The plain socket's shutdown, neither the TLS socket's nor close(): only that wakes up a reading thread.
                socket.socket.shutdown(self._socket, socket.SHUT_RDWR)
            except OSError:
                self._socket = None
        self._pool.close()

    def _encoder(self, compress: Callable[[bytes], bytes] | None) -> Callable[[bytes], bytes] | None:
        """Return what turns lines of NDJSON into a body; None for the lines themselves."""
        return compress

    def _as_json(self, answer: bytes, headers: Mapping[str, str]) -> bytes:
        """Return an answer as JSON, or as text that tells of an error."""
        return answer

    def _fixed_headers(self, compression: Compression, user_agent: str) -> dict[str, str]:
        headers = {
            "Host": bracketed(self._host) + self._port,
            "User-Agent": user_agent,
            "Accept": self.accept,
            "Accept-Encoding": "identity",
            "Content-Type": self.content_type,
        }
        if compression != "none":
            headers["Content-Encoding"] = compression
        return headers

    def _authorize(self, value: str, headers: Mapping[str, str], *secrets: str | None) -> None:
        given = headers_of("headers", headers)
        if (value or given) and self._scheme == "http" and not is_loopback(self._host):
            reason = f"refused before connecting: credentials would be sent to {self._host} in plain text"
            raise ConfigError(reason, hint="use https://")
        names = {name.lower() for name in given}
        if value and "authorization" in names:
            hint = "give either the header field, or a user and a password, or a token"
            raise ConfigError("Authorization is set twice", hint=hint)
        # Those of before, too: an answer may still repeat them. Not the shortest: they are parts of other words.
        parts = [part for text in given.values() for part in (text, *text.split()) if len(part) > _SHORT]
        found = [*secrets, *value.split()[1:], *parts]
        self._secrets += [secret for secret in found if secret and secret not in self._secrets]
        self._credentials = {**given, **({"Authorization": value} if value else {})}
        own = {name: text for name, text in self._own_headers.items() if name.lower() not in names}
        self._headers = {**own, **self._credentials}

    def _post_renewed(self, batch: Batch, body: bytes, refused: Outcome) -> Outcome:
        """Post once more with the credentials of now, if they are others than those refused."""
        try:
            found = self._renew() if self._renew else None
            value = authorization(found.user, found.password, found.token) if found else ""
            if found is None or not (value or found.headers):
                return refused
            before = self._credentials
            self._authorize(value, found.headers, found.password, found.token)
            if self._credentials == before:
                return refused
        except ConfigError as problem:
            return replace(refused, reason=clean(f"{refused.reason}; read again: {problem}"))
        return self._post_to_any(batch, body)

    def _post_to_any(self, batch: Batch, body: bytes) -> Outcome:
        import httpcore

        if self._host != "localhost":
            return self._post(self._host, batch, body)
        try:
            return self._post("127.0.0.1", batch, body)
        except httpcore.ConnectError as refused:
            if os_error(refused).errno != errno.ECONNREFUSED:
                raise
            try:
                return self._post("::1", batch, body)
            except httpcore.ConnectError:
                raise refused from refused.__cause__

    def _post(self, address: str, batch: Batch, body: bytes) -> Outcome:
        import httpcore

        self._connected = self._answered = False
        try:
            return self._exchange(address, batch, body)
        except (httpcore.ReadError, httpcore.WriteError, httpcore.RemoteProtocolError):
            if self._connected or self._answered or self._closed:
                raise
        return self._exchange(address, batch, body)

    def _exchange(self, address: str, batch: Batch, body: bytes) -> Outcome:
        import httpcore

        port = int(self._port[1:]) if self._port else None
        request = httpcore.Request(
            "POST",
            httpcore.URL(scheme=self._scheme.encode(), host=address.encode(), port=port, target=self._target),
            headers=[*self._headers.items(), *self._mark().items(), ("Content-Length", str(len(body)))],
            content=self._upload(batch, body),
            extensions={**self._sni, "timeout": self._timeouts, "trace": self._watch},
        )
        response = self._pool.handle_request(request)
        self._answered = True
        try:
            return self._understand(response, len(batch))
        finally:
            response.close()

    def _upload(self, batch: Batch, body: bytes) -> Iterator[bytes]:
        self._sent_all = False
        yield from batch.chunks(body=body)
        self._sent_all = True

    def _understand(self, response: httpcore.Response, lines: int) -> Outcome:
        is_success, headers = _is_success(response), _headers(response)
        if is_success and not self._sent_all:
            # httpcore reads the answer even if the upload broke off: right for a 413, but nobody can accept what was not sent.
            return Outcome(Kind.TEMPORARY, f"{self.name} answered before it had received all of the events")
        answer, warning = self._read(response), ""
        try:
            answer = answer and decoded(answer, headers.get("content-encoding", ""), ANSWER_MAX)
        except ValueError as problem:
            answer, warning = b"", clean(f"the answer of {self.name} could not be read: {problem}")
        if answer is None and is_success:
            # Not accepted: an acknowledgement is short, and the unread part may reject events.
            return Outcome(Kind.TEMPORARY, f"{self.name} answered with more than {ANSWER_MAX} bytes")
        # Here, and again below: a secret that is cut in the middle would not be found any more.
        text = self._without_secrets(self._as_json(answer or b"", headers).decode("utf-8", "replace")).encode()
        outcome = classify(response.status, headers, text, lines=lines, now=time.time())
        rejected = tuple((line, self._without_secrets(reason)) for line, reason in outcome.rejected)
        reason, warning = map(self._without_secrets, (outcome.reason, outcome.warning or warning))
        return replace(outcome, reason=reason, rejected=rejected, warning=warning)

    def _read(self, response: httpcore.Response) -> bytes | None:
        answer = bytearray()
        try:
            for piece in response.iter_stream():
                answer += piece
                if len(answer) > ANSWER_MAX or self._closed:
                    return None
        except errors():
            # A refusal's head is enough: a server that refuses early often closes before the end of its answer.
            if _is_success(response):
                raise
        return bytes(answer)

    def _without_secrets(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return text

    def _watch(self, event: str, info: Mapping[str, Any]) -> None:
        # Not during cleanup: httpcore would then leave the socket open.
        if self._closed and event.endswith(".started") and not event.endswith("closed.started"):
            import httpcore

            raise httpcore.NetworkError("closed")
        if event.endswith(("connect_tcp.complete", "start_tls.complete")):
            self._connected = True
            self._socket = info["return_value"].get_extra_info("socket")


def _is_success(response: httpcore.Response) -> bool:
    return 200 <= response.status < 300


def _headers(response: httpcore.Response) -> dict[str, str]:
    """Return the headers by their names in lower case; of one that comes several times, the values joined."""
    found: dict[str, str] = {}
    for name, value in response.headers:
        key, text = name.decode("latin-1").lower(), value.decode("latin-1")
        found[key] = f"{found[key]}, {text}" if key in found else text
    return found
