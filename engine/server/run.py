"""The process: two listeners, the models loaded beside them, and a going down that nobody notices."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send

from ..engine import Engine
from ..errors import InputError
from .app import create_app, create_routes
from .auth import PROBES, Auth
from .errors import Failure
from .replies import send_failure
from .service import Service
from .settings import ServerSettings

log = logging.getLogger(__name__)
# A request's line and headers; beyond it the connection is closed before anything is kept (see h11's limit).
MAX_HEADER_BYTES = 32 * 1024
# How often uvicorn looks whether it should end; the drain adds it to its own time.
BACKSTOP_SECONDS = 5


def serve(collection: Path, settings: ServerSettings) -> None:
    """Serve a collection until SIGTERM or SIGINT; raises TandemError when it cannot be opened or the port is taken."""
    asyncio.run(Serving(collection, settings).run())


class Serving:
    """One run of the server."""

    def __init__(self, collection: Path, settings: ServerSettings) -> None:
        self.service = Service(settings)
        self._collection = collection
        self._settings = settings
        self._servers: list[uvicorn.Server] = []
        self._going: asyncio.Task[None] | None = None

    async def run(self) -> None:
        """Listen, load, serve, drain."""
        settings = self._settings
        routes = create_routes(self.service)
        app = create_app(self.service, routes)
        sockets = [_listen(settings.host, settings.port)]
        applications: list[ASGIApp] = [app]
        if settings.metrics_port is not None:
            sockets.append(_listen(settings.metrics_host, settings.metrics_port))
            # It asks for no key; bound to more than loopback, only names in `allowed_hosts` are answered.
            applications.append(Auth(_OnlyOperation(routes), settings, keyless=True))
        self._servers = [_Server(_config(application, settings)) for application in applications]
        self._catch_signals()
        listening = [
            asyncio.create_task(server.serve(sockets=[bound]))
            for server, bound in zip(self._servers, sockets, strict=True)
        ]
        host, port = sockets[0].getsockname()[:2]
        log.info("listening", extra={"host": host, "port": port, "keys": len(settings.bearer_keys())})
        engine = None
        try:
            engine = await self._load()
            await asyncio.gather(*listening)
        finally:
            for server in self._servers:
                server.should_exit = True
            await asyncio.gather(*listening, return_exceptions=True)
            if engine is not None:
                engine.close()
        log.info("stopped")

    async def _load(self) -> Engine | None:
        opening = asyncio.create_task(
            asyncio.to_thread(Engine.open, self._collection, **self._settings.engine_settings())
        )
        engine = await opening
        self.service.opened(engine)
        device = engine.device
        log.info("ready", extra={"device": device.kind, "reason": device.reason, "passages": len(engine.collection)})
        return engine

    def _catch_signals(self) -> None:
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self.stop, self._settings.drain_delay_ms / 1e3)
        loop.add_signal_handler(signal.SIGINT, self.stop, 0.0)

    def stop(self, delay: float) -> None:
        """Go down gracefully, taking requests for `delay` more seconds; called again, at once."""
        if self._going is not None:
            log.warning("stopping at once")
            for server in self._servers:
                server.force_exit = True
                server.should_exit = True
            self.service.abort()
            return
        self._going = asyncio.ensure_future(self._drain(delay))

    async def _drain(self, delay: float) -> None:
        """Readiness goes first, then new requests get 503, then those in flight end, then what is left gets 503."""
        service = self.service
        service.draining = True
        log.info("draining", extra={"in_flight": len(service.in_flight)})
        await asyncio.sleep(delay)
        service.closing = True
        if service.in_flight:
            await asyncio.wait(set(service.in_flight), timeout=self._settings.drain_timeout_ms / 1e3)
        if service.in_flight:
            log.warning("ending requests in flight", extra={"in_flight": len(service.in_flight)})
            service.abort()
        for server in self._servers:
            server.should_exit = True


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers: ours drain first."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class _OnlyOperation:
    """Of the whole application, the probes and the metrics."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] not in PROBES | {"/metrics"}:
            return await send_failure(Failure("not_found", "there is no such route on this listener"), scope, send)
        await self._app(scope, receive, send)


def _config(app: ASGIApp, settings: ServerSettings) -> uvicorn.Config:
    # h11 rather than httptools: it bounds a request's headers.
    options: dict[str, Any] = {
        "http": "h11", "ws": "none", "lifespan": "off", "log_config": None, "access_log": False, "server_header": False,
        "date_header": True, "proxy_headers": False, "timeout_keep_alive": 30, "backlog": 2048,
        "h11_max_incomplete_event_size": MAX_HEADER_BYTES,
        "timeout_graceful_shutdown": int(settings.drain_timeout_ms / 1e3) + BACKSTOP_SECONDS,
    }  # fmt: skip
    return uvicorn.Config(app, **options)


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((host.strip("[]"), port))
    except OSError as error:
        bound.close()
        raise InputError(f"cannot listen on {host}:{port} ({error.strerror}); choose another port or host") from error
    return bound
