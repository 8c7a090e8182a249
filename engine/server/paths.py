"""One spelling of a path, before anything looks at it, and the route that an unknown path may have meant."""

from __future__ import annotations

import re
from collections.abc import Iterable
from difflib import get_close_matches

from starlette.types import ASGIApp, Receive, Scope, Send

_SLASHES = re.compile("/{2,}")
# A base URL that ends with /v1, and a client that adds /v1 or /v2.
_TWICE = re.compile(r"(/v1)+(?=/v[12]/)")


class Paths:
    """The outermost layer: `//v1/rerank/` and `/v1/v1/rerank` are `/v1/rerank` for keys, limits, routes and metrics."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            scope = {**scope, "path": tidy(scope["path"])}
        await self._app(scope, receive, send)


def tidy(path: str) -> str:
    """`path` without a slash or a version too many."""
    path = _SLASHES.sub("/", path).rstrip("/") or "/"
    twice = _TWICE.match(path)
    return path if twice is None else path[twice.end() :]


def nearest(path: str, known: Iterable[str]) -> str | None:
    """The one of `known` that is most like `path`, if any is."""
    return next(iter(get_close_matches(path[:100], [each for each in known if "{" not in each], 1)), None)
