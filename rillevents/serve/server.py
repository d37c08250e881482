"""A server, from its first socket to its last answer.

Startup order: check the options, bind the socket, open the storage, accept requests. Shutdown order: accept no more
connections, answer the requests in progress, commit what waits, send what is spooled for a few seconds more.
"""

from __future__ import annotations

import asyncio
import errno
import gc
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial

import uvicorn

from rillevents.delivery.destination import destination_name, intake_settings
from rillevents.delivery.flush import batch_limits, exporter_to, otlp_of
from rillevents.delivery.url import OTLP, is_otlp, without_otlp, without_userinfo
from rillevents.errors import Busy, ConfigError, RilleventsError, UsageError
from rillevents.local import Paths, config, consent
from rillevents.local.files import ensure_home
from rillevents.serve.access import Access
from rillevents.serve.api import RecentView, StoreView, View
from rillevents.serve.app import App
from rillevents.serve.commit import Committer
from rillevents.serve.forward import Forwarder, SpoolStorage, refused, spool_for
from rillevents.serve.limits import GRACE_SECONDS, MAX_CONNECTIONS, Deadlines
from rillevents.serve.metrics import Metrics
from rillevents.serve.options import Options
from rillevents.serve.protocol import GuardedProtocol, sweep
from rillevents.serve.via import Via, is_own
from rillevents.store.incoming import Storage
from rillevents.store.writer import StoreWriter

_CONSENT_SECONDS = 1.0
_BACKLOG = 2048
# Files of our own: those of the store, the spool and the libraries.
_OWN_FILES = 64
# Connections per connection that are still in the TLS handshake: for a minute the server does not see them or evict them.
_HANDSHAKES = 15

Say = Callable[[str], None]


@dataclass(slots=True)
class Server:
    """A server with these options for this user; `run` returns once it has been stopped.

    *on_ready* gets its URL, and a sentence that says where events are kept. *warn* is called from several threads.
    """

    options: Options
    paths: Paths
    on_ready: Callable[[str, str], None]
    warn: Say
    keeps: str = ""
    metrics: Metrics = field(default_factory=Metrics)
    forwarder: Forwarder | None = None
    writer: StoreWriter | None = None
    via: Via = field(default_factory=Via)
    view: View = field(default_factory=View)
    deadlines: Deadlines = field(default_factory=Deadlines)
    max_connections: int = MAX_CONNECTIONS

    def run(self) -> None:
        """Serve until SIGTERM or SIGINT; raises RilleventsError if it cannot start, and later whatever the signals raise."""
        self.options.check()
        self.options.check_tls()
        warnings: list[str] = []
        access = self.options.access(self.paths, warnings)
        for warning in warnings:
            self.warn(warning)
        with _listening(self.options) as listener:
            storage = self._storage(listener.getsockname()[1])
            _spare_the_collector()
            with asyncio.Runner(loop_factory=_loop_factory()) as runner:
                runner.run(self._serve(access, storage, listener))

    async def _serve(self, access: Access, storage: Storage, listener: socket.socket) -> None:
        committer = Committer(storage, asyncio.get_running_loop(), on_commit=self.metrics.count_commit, warn=self.warn)
        app = App(
            access,
            committer,
            self.metrics,
            views=self.view.paths(),
            allowed=self._allowed(),
            gauges=self._figures,
            on_stored=None if self.writer else self.view.note,
            has_passed=self.via.has_passed if self.forwarder else lambda headers: False,
            warn=self.warn,
        )
        committer.start()
        if self.forwarder:
            self.forwarder.start()
        try:
            await _Uvicorn(self._config(app), self._ready(listener)).serve(sockets=[listener])
        finally:
            committer.close()
            if self.forwarder:
                self.forwarder.close()

    def _ready(self, listener: socket.socket) -> Callable[[], None]:
        return lambda: self.on_ready(self.options.url(listener.getsockname()[1]), self.keeps)

    def _storage(self, port: int) -> Storage:
        ensure_home(self.paths.home)
        if not self.options.to:
            path = self.options.store or self.paths.default_store
            if not path:
                raise RilleventsError("there is no place for the store (no home folder)", hint="give one with --store")
            self.writer = StoreWriter(path, keep_us=self.options.keep_us, warn=self.warn)
            self.view = StoreView(path)
            self.keeps = f"events are stored in {path}"
            return self.writer
        settings = config.load(self.paths)
        for warning in settings.warnings:
            self.warn(warning)
        if self.options.destination == "spool":
            if is_own_intake(self.paths, settings, self.options, port):
                self.warn(
                    "`rillevents flush` would deliver to this server, and events would go round; give it another --to"
                )
            self.view = RecentView(partial(refused, self.paths.spool_dirs))
            self.keeps = f"events go into the spool {self.paths.spool_dir}; run: rillevents flush"
            return SpoolStorage(self.paths.spool_dirs, max_bytes=settings.max_bytes)
        return self._forwarding(settings, port)

    def _forwarding(self, settings: config.Config, port: int) -> Storage:
        to = self.options.destination
        exporter = exporter_to(self.paths, settings, to=to, warn=self.warn, mark=self.via.headers)
        name = without_userinfo(_url_of(self.paths, settings, to))
        if is_own_url(name, self.options, port):
            raise ConfigError(
                f"the destination {name} is this server itself: events would go round for ever",
                hint="give another destination, or another --port",
            )
        spools = (spool_for(self.paths, name),)
        self.keeps = f"events go to {name} through the spool {spools[0]}"
        self.view = RecentView(partial(refused, spools))
        self.forwarder = Forwarder(
            exporter,
            spools,
            allowed=self._allowed(),
            **batch_limits(settings, exporter),
            warn=self.warn,
        )
        return SpoolStorage(spools, max_bytes=settings.max_bytes, on_stored=self.forwarder.wake)

    def _allowed(self) -> Callable[[], bool]:
        """Return a function that says whether events may be accepted; consent applies only to a user's own intake."""
        if not self.options.needs_consent:
            return lambda: True
        asked, allowed = -_CONSENT_SECONDS, True

        def ask() -> bool:
            nonlocal asked, allowed
            if time.monotonic() - asked >= _CONSENT_SECONDS:
                asked, allowed = time.monotonic(), consent.decide(self.paths).enabled
            return allowed

        return ask

    def _figures(self) -> tuple[Mapping[str, float], Mapping[str, float]]:
        if self.writer:
            return {}, {"removed": self.writer.removed, "stores_put_aside": self.writer.put_aside}
        if self.forwarder:
            return {"pending": self.forwarder.pending}, {
                "delivered": self.forwarder.delivered,
                "rejected": self.forwarder.rejected,
            }
        return {}, {}

    def _config(self, app: App) -> uvicorn.Config:
        limits = {
            "deadlines": self.deadlines,
            "max_connections": _most_connections(self.max_connections, _HANDSHAKES if self.options.tls_cert else 0),
        }
        protocol = type("Protocol", (GuardedProtocol,), {"metrics": self.metrics, **limits})
        return uvicorn.Config(
            app,
            http=protocol,
            ws="none",
            lifespan="off",
            log_config=None,
            log_level="critical",
            access_log=False,
            proxy_headers=False,
            server_header=False,
            backlog=_BACKLOG,
            timeout_graceful_shutdown=GRACE_SECONDS,
            ssl_certfile=self.options.tls_cert or None,
            ssl_keyfile=self.options.tls_key or None,
        )


def is_own_intake(paths: Paths, settings: config.Config, options: Options, port: int) -> bool:
    """Whether a plain `rillevents flush` of this user would deliver to this server."""
    to = destination_name(paths, settings)
    try:
        return is_own_url(without_userinfo(_url_of(paths, settings, to)), options, port)
    except ConfigError:
        # The flush tells; here the destination is asked for a warning alone.
        return False


def is_own_url(to: str, options: Options, port: int) -> bool:
    """Whether a destination's URL, of OTLP too, leads to the server with these options on *port*."""
    url = without_otlp(to)
    return url.startswith("http") and is_own(url, options, port)


def _url_of(paths: Paths, settings: config.Config, to: str) -> str:
    """Return a destination as the one URL that it has, however it was named; "" for an intake that is not configured."""
    if is_otlp(to):
        return f"{OTLP}+{otlp_of(paths, settings, to).url}"
    intake = intake_settings(paths, settings, secrets=False) if to == "intake" else None
    return intake.url if intake else "" if to == "intake" else to


class _Uvicorn(uvicorn.Server):
    """uvicorn's server, which also reports when it listens and checks its connections once a second."""

    def __init__(self, settings: uvicorn.Config, on_ready: Callable[[], None]) -> None:
        super().__init__(settings)
        self._on_ready = on_ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._on_ready()

    async def on_tick(self, counter: int) -> bool:
        if counter % 10 == 0:
            sweep(self.server_state.connections, asyncio.get_running_loop().time())
        return await super().on_tick(counter)


def _listening(options: Options) -> socket.socket:
    host = "127.0.0.1" if options.host == "localhost" else options.host
    try:
        family = socket.getaddrinfo(host, options.port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, options.port), family=family, backlog=_BACKLOG)
    except socket.gaierror as error:
        raise UsageError(f"--host {options.host!r} is not an address of this machine: {error.strerror}") from None
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            hint = "give another --port, or 0 for any free port"
            raise Busy(f"port {options.port} of {options.host} is in use", hint=hint) from None
        raise UsageError(f"cannot listen on {options.host} port {options.port}: {error.strerror or error}") from None


def _spare_the_collector() -> None:
    """Collect garbage less often, and never among what is loaded by now: that took a sixth of a small request."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    try:
        import uvloop
    except ImportError:
        # Windows has none; everywhere else it comes with the extra.
        return asyncio.new_event_loop
    found: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return found


def _most_connections(wanted: int, handshakes: int) -> int:
    """Return how many connections fit into this process's open-file limit; raises the limit if it is low."""
    try:
        import resource
    except ImportError:  # pragma: no cover - Windows
        return wanted
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    files = wanted * (1 + handshakes) + _OWN_FILES
    if soft != resource.RLIM_INFINITY and soft < files:
        soft = min(files, hard) if hard != resource.RLIM_INFINITY else files
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return max(8, min(wanted, soft - _OWN_FILES) if soft != resource.RLIM_INFINITY else wanted)


def run(options: Options, paths: Paths, *, on_ready: Callable[[str, str], None], warn: Say) -> None:
    """Serve until a signal ends it; raises RilleventsError if it cannot start."""
    Server(options, paths, on_ready, warn).run()
