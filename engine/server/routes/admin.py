"""What an operator asks of a running server: only on the second listener."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from fastapi import Request
from pydantic import Field

from ...collection.creating import drop_collection
from ...errors import TandemError
from ..aside import aside
from ..errors import Failure
from ..json_response import Json
from ..model_info import Load
from ..service import Service
from .shared import OwnBody, Served, new_router

router = new_router("admin")
NAME = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,99}$"
"""Of a collection that is made here: a folder's name that needs no care in a URL or a shell."""


class CollectionBody(OwnBody):
    """A collection of the server's collections_folder. `like` a collection that is served, which lends its models and
    settings, it is made, without a document; else it is there already, and is served from now on."""

    name: str = Field(pattern=NAME)
    like: str | None = None


@router.get("/admin/status")
async def status(service: Served) -> Json:
    """What is served, what is in flight, how often the worker was started again."""
    host, facts = service.host, service.host.facts
    state: dict[str, Any] = {
        "ready": service.is_ready,
        "draining": service.draining,
        "in_flight": len(service.in_flight),
        "reserved": {"requests": service.admission.requests, "tokens": service.admission.tokens},
        "load": asdict(host.load),
        "restarts": host.restarts,
        "collections": {name: facts[name].version if name in facts else None for name in host.catalogue.names},
        "workers": [
            {
                "worker": seat.number,
                "process": getattr(getattr(seat.current, "process", None), "pid", None),
                "ready": seat.lives,
                "restarts": seat.restarts,
                "load": asdict(Load() if seat.current is None else seat.current.load),
                "reserved_seconds": service.admission.seconds(seat.number),
            }
            for seat in host.seats
        ],
    }
    return Json(state)


@router.post("/admin/reload")
async def reload(service: Served) -> Json:
    """Open what the collections' pointers name now and serve it, also where it is what is served.

    Picks up new versions at once, or a new calibration. `swapped` is false when they were refused; the log says why.
    """
    swapped = await service.swaps.reload()
    versions = {facts.name: facts.version for facts in service.all_facts()}
    return Json({"swapped": swapped, "collections": versions}, status_code=200 if swapped else 409)


@router.post("/admin/collections")
async def add(body: CollectionBody, service: Served) -> Json:
    """Serve one more collection of the server's folder; where `like` names one, make it first."""
    path = _folder(service) / body.name
    with _told():
        like = None if body.like is None else Path(service.facts(body.like).path)
        facts = await service.swaps.add(body.name, path, like)
    return Json({"name": facts.name, "version": facts.version, "documents": facts.documents}, status_code=201)


@router.delete("/admin/collections/{collection}")
async def remove(collection: str, service: Served, drop: bool = False) -> Json:
    """Serve a collection no more; with `?drop=true` remove it from the disk too, if it is of the server's folder."""
    path = _droppable(service, collection) if drop else None
    with _told():
        await service.swaps.remove(collection)
        if path is not None:
            await aside(drop_collection, path)
    return Json({"name": collection, "dropped": drop})


@router.post("/admin/drain")
async def drain(request: Request, service: Served) -> Json:
    """Go down as after SIGTERM."""
    request.app.state.stop()
    return Json({"draining": True, "in_flight": len(service.in_flight)}, status_code=202)


def _folder(service: Service) -> Path:
    folder = service.settings.collections_folder
    if folder is None:
        raise Failure("forbidden", "collections are made and dropped in a folder that the server was started with: "
                      "set collections_folder")  # fmt: skip
    return folder


def _droppable(service: Service, name: str) -> Path:
    """Where a collection is that may be removed; raises Failure where it is elsewhere, or served by another name."""
    path, served = _folder(service) / name, service.host.catalogue.paths
    if name in served and (path.is_symlink() or served[name].resolve() != path.resolve()):
        raise Failure("forbidden", f"{name} does not lie in collections_folder: remove it by hand")
    others = [other for other, where in served.items() if other != name and where.resolve() == path.resolve()]
    if others:
        raise Failure("forbidden", f"{name} is served as {', '.join(others)} too: serve that no more first")
    return path


@contextmanager
def _told() -> Iterator[None]:
    """Operators are told what went wrong, paths included."""
    try:
        yield
    except TandemError as error:
        raise Failure("validation", str(error), status_override=409) from error
