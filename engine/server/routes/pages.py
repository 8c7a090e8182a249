"""The page at `/`, the list of routes at `/docs`, and what Weaviate asks of its sidecar."""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from pathlib import Path

from starlette.responses import Response

from ..json_response import Json
from ..response_schemas import WeaviateMeta, failures
from ..target import ANY, needed_reranker
from .shared import Served, new_router

router = new_router("operation")
# Everything a page needs is in it: no other server is asked, and no script runs but the page's own, known by its hash.
_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{hash}'; connect-src 'self'; img-src data:; "
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


@router.get("/meta", response_model=WeaviateMeta, responses=failures("tandem"))
async def meta(service: Served) -> Json:
    """As Weaviate's sidecar has it."""
    reranker = needed_reranker(service.facts_for("reranker", ANY))
    return Json({"model": reranker.name, "max_length": reranker.max_length})


@cache
def _read(name: str) -> tuple[bytes, str]:
    """A page and its policy."""
    data = (Path(__file__).parent.parent / name).read_bytes()
    script = data.partition(b"<script>")[2].partition(b"</script>")[0]
    return data, _POLICY.format(hash=base64.b64encode(hashlib.sha256(script).digest()).decode())


def _html(name: str) -> Response:
    data, policy = _read(name)
    return Response(data, media_type="text/html; charset=utf-8", headers={"content-security-policy": policy})
