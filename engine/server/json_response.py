"""JSON answers: dumped by orjson, which writes float32 arrays and never a bare NaN."""

from __future__ import annotations

import asyncio
import base64
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import orjson
from starlette.responses import JSONResponse, Response
from starlette.types import Scope, Send

from .errors import Failure, dialect_of

Form = Literal["float", "base64"]
# Vectors that are written before the event loop turns.
SLICE = 64


class Json(JSONResponse):
    """A JSON response of plain types and NumPy arrays."""

    def render(self, content: Any) -> bytes:
        return orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY)


class Written(Response):
    """JSON that is written already."""

    media_type = "application/json"


async def written_vectors(vectors: npt.NDArray[np.float32], form: Form = "float") -> list[orjson.Fragment]:
    """Each of `vectors`, float32 [n, d], as JSON: its numbers, or base64 of its little-endian float32.

    The event loop turns between slices of them: 2,048 vectors of 384 numbers are 9 MB of JSON.
    """
    written: list[orjson.Fragment] = []
    for start in range(0, len(vectors), SLICE):
        await asyncio.sleep(0)
        for vector in vectors[start : start + SLICE]:
            told = vector if form == "float" else base64.b64encode(vector.astype("<f4").tobytes()).decode()
            written.append(orjson.Fragment(orjson.dumps(told, option=orjson.OPT_SERIALIZE_NUMPY)))
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
