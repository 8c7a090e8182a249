"""The listener for gRPC: calls, health and reflection."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection

from ...errors import InputError
from ..service import Service
from . import tandem_v1_pb2 as own
from . import tei_v1_pb2 as tei
from .guard import Context, Guard
from .methods import NAME, Methods
from .tei import EMBED, INFO, RERANK, TeiMethods

log = logging.getLogger(__name__)
HEALTH = "grpc.health.v1.Health"
SERVICES = (NAME, INFO, EMBED, RERANK)
# How often a client that watches the health is looked after.
WATCH_SECONDS = 0.5
# Seconds that calls in flight have when the server ends: the drain before it has waited for them.
GRACE = 1.0


class GrpcServer:
    """One listener."""

    def __init__(self, server: grpc.aio.Server, port: int) -> None:
        self.port = port
        self._server = server

    @classmethod
    async def start(cls, service: Service) -> GrpcServer:
        """Take calls at the settings' `host` and `grpc_port`; raises InputError when the port is taken."""
        settings = service.settings
        limits = [
            ("grpc.max_receive_message_length", settings.max_body_bytes),
            ("grpc.max_send_message_length", -1),
            ("grpc.so_reuseport", 0),
            ("grpc.max_concurrent_streams", settings.max_concurrent_requests),
        ]
        # A stream that is open counts, also while nothing of it is read.
        server = grpc.aio.server(options=limits, maximum_concurrent_rpcs=settings.max_connections)
        server.add_generic_rpc_handlers(tuple(_handlers(service)))
        reflection.enable_server_reflection((*SERVICES, HEALTH, reflection.SERVICE_NAME), server)
        host = f"[{settings.host}]" if ":" in settings.host else settings.host
        try:
            port = server.add_insecure_port(f"{host}:{settings.grpc_port}")
        except RuntimeError as error:
            raise InputError(
                f"grpc_port {settings.grpc_port} at {settings.host} cannot be used; is another server running?"
            ) from error
        await server.start()
        log.info("listening for gRPC", extra={"host": settings.host, "port": port})
        return cls(server, port)

    async def stop(self) -> None:
        """Take no more calls, and end those that are in flight."""
        await self._server.stop(GRACE)


def _handlers(service: Service) -> list[grpc.GenericRpcHandler]:
    guard, methods, others, health = Guard(service), Methods(service), TeiMethods(service), _Health(service)
    one = grpc.unary_unary_rpc_method_handler
    calls: dict[str, dict[str, grpc.RpcMethodHandler[Any, Any]]] = {
        NAME: {
            "Search": _made(one, guard.one(f"/{NAME}/Search", methods.search), own.SearchRequest, own.SearchReply),
            "Rerank": _made(one, guard.one(f"/{NAME}/Rerank", methods.rerank), own.RerankRequest, own.RerankReply),
            "Embed": _made(one, guard.one(f"/{NAME}/Embed", methods.embed), own.EmbedRequest, own.EmbedReply),
        },
        INFO: {"Info": _made(one, guard.one(f"/{INFO}/Info", others.info), tei.InfoRequest, tei.InfoResponse)},
        EMBED: {
            "Embed": _made(one, guard.one(f"/{EMBED}/Embed", others.embed), tei.EmbedRequest, tei.EmbedResponse),
            "EmbedStream": _made(
                grpc.stream_stream_rpc_method_handler, guard.each(f"/{EMBED}/EmbedStream", others.embed),
                tei.EmbedRequest, tei.EmbedResponse,
            ),
        },
        RERANK: {
            "Rerank": _made(one, guard.one(f"/{RERANK}/Rerank", others.rerank), tei.RerankRequest, tei.RerankResponse),
            "RerankStream": _made(
                grpc.stream_unary_rpc_method_handler, guard.whole(f"/{RERANK}/RerankStream", others.rerank_stream),
                tei.RerankStreamRequest, tei.RerankResponse,
            ),
        },
        HEALTH: {
            "Check": _made(one, health.check, health_pb2.HealthCheckRequest, health_pb2.HealthCheckResponse),
            "Watch": _made(
                grpc.unary_stream_rpc_method_handler, health.watch, health_pb2.HealthCheckRequest,
                health_pb2.HealthCheckResponse,
            ),
        },
    }  # fmt: skip
    return [grpc.method_handlers_generic_handler(name, handlers) for name, handlers in calls.items()]


def _made(
    make: Callable[..., grpc.RpcMethodHandler[Any, Any]], handle: Callable[..., Any], request: Any, reply: Any
) -> grpc.RpcMethodHandler[Any, Any]:
    return make(handle, request_deserializer=request.FromString, response_serializer=reply.SerializeToString)


class _Health:
    """grpc.health.v1: the same answer as /readyz, for the server ("") and each of its services. No key is asked."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def check(self, request: health_pb2.HealthCheckRequest, context: Context) -> health_pb2.HealthCheckResponse:
        """What is so now."""
        if request.service not in ("", *SERVICES):
            await context.abort(grpc.StatusCode.NOT_FOUND, "there is no such service")
        return self._now()

    async def watch(
        self, request: health_pb2.HealthCheckRequest, context: Context
    ) -> AsyncIterator[health_pb2.HealthCheckResponse]:
        """What is so now, and each change of it."""
        told = None
        while True:
            now = self._now()
            if request.service not in ("", *SERVICES):
                now = health_pb2.HealthCheckResponse(status=health_pb2.HealthCheckResponse.SERVICE_UNKNOWN)
            if now != told:
                yield now
                told = now
            await asyncio.sleep(WATCH_SECONDS)

    def _now(self) -> health_pb2.HealthCheckResponse:
        states = health_pb2.HealthCheckResponse
        return states(status=states.SERVING if self._service.is_ready else states.NOT_SERVING)
