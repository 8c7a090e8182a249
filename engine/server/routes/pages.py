"""The page at `/`, the list of routes at `/docs`, and what Weaviate asks of its sidecar."""

from __future__ import annotations

from pathlib import Path

from starlette.responses import Response

from ..replies import Json
from .shared import Served, new_router

router = new_router("operation")
# Everything a page needs is in it: no other server is asked, and no script of another one runs.
_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; img-src data:; "
    "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)


@router.get("/", include_in_schema=False)
async def page() -> Response:
    """One search box; recall's order and the reranked order side by side."""
    return _html("page.html")


@router.get("/docs", include_in_schema=False)
async def docs() -> Response:
    """The routes, read from /openapi.json."""
    return _html("docs.html")


@router.get("/meta")
async def meta(service: Served) -> Json:
    """As Weaviate's sidecar has it."""
    return Json({"model": service.reranker.artifact.manifest.name, "max_length": service.reranker.tokenizer.max_length})


def _html(name: str) -> Response:
    data = (Path(__file__).parent.parent / name).read_bytes()
    return Response(data, media_type="text/html; charset=utf-8", headers={"content-security-policy": _POLICY})
