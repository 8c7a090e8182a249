"""Liveness and readiness under every name that orchestrators and clients ask for, and the metrics."""

from __future__ import annotations

import time

from starlette.responses import Response

from ..errors import Failure
from .shared import Served, new_router

router = new_router("operation")


@router.get("/livez")
@router.get("/v1/health/live", include_in_schema=False)
@router.get("/.well-known/live", include_in_schema=False)
async def livez() -> dict[str, str]:
    """The event loop turns."""
    return {"status": "alive"}


@router.get("/readyz")
@router.get("/v1/health/ready", include_in_schema=False)
@router.get("/.well-known/ready", include_in_schema=False)
async def readyz(service: Served) -> dict[str, str]:
    """The models are loaded and the server is not going down."""
    _check(service)
    return {"status": "ready"}


@router.get("/health")
@router.get("/ping", include_in_schema=False)
@router.get("/infinity/health", include_in_schema=False)
async def health(service: Served) -> dict[str, int]:
    """200 or 503, as TEI has it, and the time, as Infinity has it."""
    _check(service)
    return {"unix": int(time.time())}


@router.get("/metrics", response_class=Response)
async def metrics(service: Served) -> Response:
    """Prometheus metrics; without a key on the second listener (`admin_port`)."""
    return Response(service.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")


def _check(service: Served) -> None:
    if not service.is_ready:
        raise Failure("unavailable", "unhealthy: loading, or going down", retry_after=2)
