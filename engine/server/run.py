"""The HTTP process: two listeners, a worker opened beside them, and a going down that nobody notices."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import uvloop

from ..collection.versions import CURRENT
from ..errors import InputError
from . import telemetry
from .app import create_admin, create_app
from .backend import Backend, Local
from .engines import Wanted
from .fd_limit import make_room
from .listener import Listener, bind
from .metrics import Metrics
from .places import places
from .service import Service
from .settings import ServerSettings
from .supervisor import Host
from .worker_client import Remote

if TYPE_CHECKING:
    from .grpc_api.server import GrpcServer

log = logging.getLogger(__name__)


def serve(collections: Mapping[str, Path], settings: ServerSettings) -> None:
    """Serve collections by name until SIGTERM or SIGINT, and those in `settings.collections_folder`.

    Raises TandemError when one that is named cannot be opened, or the port is taken.
    """
    uvloop.run(Serving(collections, settings).run())


class Serving:
    """One run of the server."""

    def __init__(self, collections: Mapping[str, Path], settings: ServerSettings) -> None:
        self._settings = settings
        self._metrics = Metrics()
        self._places = places(settings)
        found = {} if settings.collections_folder is None else found_in(settings.collections_folder)
        # Those that are named come first, and keep their places where the folder has the same names.
        host = Host(
            {**collections, **found, **collections}, self._open, self._metrics, close_after=settings.timeout_ms / 1e3,
            needed=collections, workers=len(self._places), models=settings.models,
        )  # fmt: skip
        self.service = Service(settings, host=host)
        self._listeners: list[Listener] = []
        self._going: asyncio.Task[None] | None = None
        self._signals = 0

    async def run(self) -> None:
        """Listen, load, serve, drain."""
        settings, host, swaps = self._settings, self.service.host, self.service.swaps
        if settings.trace_endpoint is not None:
            telemetry.export_to(settings.trace_endpoint)
        sockets = [bind(settings.host, settings.port)]
        applications = [create_app(self.service)]
        if settings.admin_port is not None:
            sockets.append(bind(settings.admin_host, settings.admin_port))
            applications.append(create_admin(self.service, partial(self.stop, settings.drain_delay_ms / 1e3)))
        listeners = len(sockets) + (settings.grpc_port is not None)
        most = make_room(settings.max_connections * listeners) // listeners
        self._listeners = [
            Listener(application, settings, bound, self._metrics.refused, max(1, most))
            for application, bound in zip(applications, sockets, strict=True)
        ]
        calls = await self._grpc()
        self._catch_signals()
        listening = [asyncio.create_task(listener.run()) for listener in self._listeners]
        address, port = sockets[0].getsockname()[:2]
        log.info("listening", extra={"host": address, "port": port, "keys": len(settings.bearer_keys())})
        watching: asyncio.Task[None] | None = None
        try:
            opening = asyncio.create_task(swaps.open())
            await asyncio.wait({opening, *listening}, return_when=asyncio.FIRST_COMPLETED)
            if not opening.done():  # asked to stop while it loads
                opening.cancel()
                await asyncio.wait({opening})
                return
            opened = opening.result()
            gc.collect()
            gc.freeze()  # what stays for good is not looked through again: 50 ms each time
            for facts in opened.values():
                log.info("ready", extra={
                    "collection": facts.name, "device": facts.device, "reason": facts.reason,
                    "passages": facts.passages, "version": facts.version, "supervised": settings.supervise,
                    "workers": len(host.seats),
                })  # fmt: skip
            if settings.swap_poll_ms:
                watching = asyncio.create_task(swaps.watch(settings.swap_poll_ms / 1e3))
            await asyncio.gather(*listening)
        finally:
            if watching is not None:
                watching.cancel()
            for listener in self._listeners:
                listener.stop()
            await asyncio.gather(*listening, return_exceptions=True)
            if calls is not None:
                await calls.stop()
            await self.service.merges.close()
            await host.close()
        log.info("stopped")

    async def _grpc(self) -> GrpcServer | None:
        """The listener for gRPC, which takes calls; None where none is wanted. Raises InputError."""
        if self._settings.grpc_port is None:
            return None
        # Workers are other programs and never use gRPC; its handlers of forks would only write lines that are no JSON.
        os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
        try:
            from .grpc_api.server import GrpcServer
        except ImportError as error:
            raise InputError(f"gRPC needs more libraries ({error}): pip install 'tandem[grpc]'") from error
        return await GrpcServer.start(self.service)

    async def _open(self, worker: int, collections: Sequence[Wanted]) -> Backend:
        """A backend for collections: in the worker process of that number, or (unsupervised) in this one."""
        settings = self._settings
        if settings.supervise:
            return await Remote.start(collections, settings, self._metrics.batch, place=self._places[worker])
        return await asyncio.to_thread(Local.open, collections, settings.engine_settings(), self._metrics.batch)

    def _catch_signals(self) -> None:
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self._signalled, self._settings.drain_delay_ms / 1e3)
        loop.add_signal_handler(signal.SIGINT, self._signalled, 0.0)

    def _signalled(self, delay: float) -> None:
        """The first stops gracefully, also after /admin/drain, which a platform lets one follow; the next at once."""
        self._signals += 1
        if self._signals == 1:
            return self.stop(delay)
        log.warning("stopping at once")
        for listener in self._listeners:
            listener.stop(at_once=True)
        self.service.abort()

    def stop(self, delay: float) -> None:
        """Go down gracefully, taking requests for `delay` more seconds; called again, nothing more happens."""
        if self._going is None:
            self._going = asyncio.ensure_future(self._drain(delay))

    async def _drain(self, delay: float) -> None:
        """Readiness goes first, then new requests get 503, then those in flight end, then what is left gets 503."""
        service = self.service
        service.draining = True
        log.info("draining", extra={"in_flight": len(service.in_flight)})
        await asyncio.sleep(delay)
        service.closing = True
        if service.in_flight:
            ended = {request.done for request in service.in_flight}
            await asyncio.wait(ended, timeout=self._settings.drain_timeout_ms / 1e3)
        if service.in_flight:
            log.warning("ending requests in flight", extra={"in_flight": len(service.in_flight)})
            service.abort()
        for listener in self._listeners:
            listener.stop()


def found_in(folder: Path) -> dict[str, Path]:
    """The collections in a folder by their names. Raises InputError when it is no folder."""
    if not folder.is_dir():
        raise InputError(f"collections_folder {folder} is no folder; make it first")
    return {
        path.name: path
        for path in sorted(folder.iterdir())
        if not path.name.startswith(".") and (path / CURRENT).is_file()
    }
