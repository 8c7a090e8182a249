"""JSON answers: dumped by orjson, which writes float32 arrays and never a bare NaN."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson
from starlette.responses import JSONResponse, Response
from starlette.types import Scope, Send

from .errors import Failure, dialect_of

SLICE = 64


class Json(JSONResponse):
    """A JSON response of plain types and NumPy arrays."""

    def render(self, content: Any) -> bytes:
        return orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY)


class Written(Response):
    """JSON that is written already."""

    media_type = "application/json"


async def written_rows(rows: Sequence[npt.NDArray[np.float32] | str]) -> list[orjson.Fragment]:
    """Vectors, or texts in their place, as JSON. The event loop turns between slices of them: 2,048 vectors of 384
    numbers are 9 MB, of which a tenth of a second would be written in one go."""
    written: list[orjson.Fragment] = []
    for start in range(0, len(rows), SLICE):
        if start:
            await asyncio.sleep(0)
        slice_ = rows[start : start + SLICE]
        written += [orjson.Fragment(orjson.dumps(row, option=orjson.OPT_SERIALIZE_NUMPY)) for row in slice_]
    return written


def failure_reply(failure: Failure, scope: Scope) -> Json:
    """The answer to a failed request, in its route's dialect."""
    dialect = dialect_of(scope["path"])
    request_id = scope.get("state", {}).get("request_id", "")
    if "state" in scope:
        scope["state"]["reason"] = failure.reason or failure.kind
        scope["state"]["failure"] = failure.kind
    return Json(failure.body(dialect, request_id), status_code=failure.status(dialect), headers=failure.headers())


async def send_failure(failure: Failure, scope: Scope, send: Send) -> None:
    """`failure_reply`, from a layer below the routes."""

    async def receive() -> dict[str, Any]:  # a plain response asks for nothing
        return {"type": "http.disconnect"}

    await failure_reply(failure, scope)(scope, receive, send)
