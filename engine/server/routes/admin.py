"""What an operator asks of a running server: only on the second listener."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from fastapi import Request

from ..json_response import Json
from .shared import Served, new_router

router = new_router("admin")


@router.get("/admin/status")
async def status(service: Served) -> Json:
    """What is served, what is in flight, how often the worker was started again."""
    current = service.host.current
    state: dict[str, Any] = {
        "ready": service.is_ready,
        "draining": service.draining,
        "in_flight": len(service.in_flight),
        "reserved": {"requests": service.admission.requests, "tokens": service.admission.tokens},
        "load": asdict(service.host.load),
        "restarts": service.host.restarts,
        "version": None if current is None else current.facts.version,
        "process": getattr(getattr(current, "process", None), "pid", None),
    }
    return Json(state)


@router.post("/admin/reload")
async def reload(service: Served) -> Json:
    """Open what the collection's pointer names now and serve it, also when it is the version that is served.

    Picks up a new version at once, or a new calibration. `swapped` is false when it was refused; the log says why.
    """
    swapped = await service.host.reload()
    current = service.host.current
    version = None if current is None else current.facts.version
    return Json({"swapped": swapped, "version": version}, status_code=200 if swapped else 409)


@router.post("/admin/drain")
async def drain(request: Request, service: Served) -> Json:
    """Go down as after SIGTERM."""
    request.app.state.stop()
    return Json({"draining": True, "in_flight": len(service.in_flight)}, status_code=202)
