"""Frames between the HTTP process and its worker, over a socket pair: JSON and, behind it, bytes. No pickle anywhere.

8 bytes     lengths of both parts, uint32 little-endian
JSON        {"id": 7, "call": "SearchCall", "arguments": {…}}   {"id": 7, "answer": {…}}   {"id": 7, "error": […]}
            {"cancel": 7}   {"beat": {…}}
bytes       vectors: float32, row by row; a search's answer, as the client gets it
"""

from __future__ import annotations

import asyncio
import dataclasses
import struct
from collections.abc import Callable
from typing import Any, cast

import numpy as np
import orjson

from .. import errors
from ..config import SearchSettings
from ..result import Embedded, Reranked, RerankResult, Timings
from ..scheduling.cost_model import CostModel, Pace
from . import rpc_calls
from .backend import WorkerFault
from .model_info import Facts, ModelFacts
from .rpc_calls import Call
from .search_response import SearchResponse

_LENGTHS = struct.Struct("<II")
_CALLS: dict[str, type[Call[Any]]] = {
    made.__name__: made
    for made in (rpc_calls.SearchCall, rpc_calls.Rerank, rpc_calls.Embed, rpc_calls.Tokenize, rpc_calls.Decode)
}
Document = dict[str, Any]


class Frames(asyncio.Protocol):
    """One end of the socket: each frame is handed on as soon as it is whole."""

    def __init__(self, on_frame: Callable[[Document, bytes], None], on_end: Callable[[], None]) -> None:
        """`on_frame` gets what was sent, `on_end` is called when the other side is gone."""
        self.on_frame = on_frame
        self._on_end = on_end
        self._buffer = bytearray()
        self._transport: asyncio.Transport | None = None

    @property
    def unsent(self) -> int:
        """Bytes that the other side has not taken."""
        return 0 if self._transport is None else self._transport.get_write_buffer_size()

    def write(self, data: bytes) -> None:
        """Send a frame's bytes; nothing where the other side is gone."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    def close(self) -> None:
        """Send what is left, and end."""
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._on_end()

    def data_received(self, data: bytes) -> None:
        buffer = self._buffer
        buffer += data
        start = 0
        while len(buffer) - start >= _LENGTHS.size:
            document, blob = _LENGTHS.unpack_from(buffer, start)
            first = start + _LENGTHS.size
            second, end = first + document, first + document + blob
            if len(buffer) < end:
                break
            with memoryview(buffer) as view:
                parsed, rest = orjson.loads(view[first:second]), bytes(view[second:end])
            self.on_frame(parsed, rest)
            start = end
        del buffer[:start]


def frame(document: Document, blob: bytes = b"") -> bytes:
    """A frame's bytes."""
    data = orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY)
    return b"".join((_LENGTHS.pack(len(data), len(blob)), data, blob))


def call_frame(number: int, call: Call[Any]) -> bytes:
    """A call as a frame."""
    arguments = {field.name: getattr(call, field.name) for field in dataclasses.fields(call)}
    if isinstance(call, rpc_calls.SearchCall):
        arguments["settings"] = call.settings.model_dump()
    return frame({"id": number, "call": type(call).__name__, "arguments": arguments})


def call_of(document: Document) -> Call[Any]:
    """The call in a frame."""
    made, arguments = _CALLS[document["call"]], document["arguments"]
    if made is rpc_calls.SearchCall:
        arguments["settings"] = SearchSettings(**arguments["settings"])
    return made(**arguments)


def answer_frame(number: int, answer: Any) -> bytes:
    """An answer as a frame."""
    if isinstance(answer, Embedded):
        fields: Document = {"tokens": answer.tokens, "truncated": answer.truncated, "timings": answer.timings}
        shape = answer.vectors.shape
        return frame({"id": number, "answer": {**fields, "shape": shape}}, answer.vectors.astype("<f4").tobytes())
    if isinstance(answer, SearchResponse):
        return frame(
            {"id": number, "answer": {"timings": answer.timings, "degraded_code": answer.degraded_code}}, answer.body
        )
    if isinstance(answer, RerankResult):
        return frame({"id": number, "answer": _columns(answer)})
    return frame({"id": number, "answer": answer})


def answer_of(call: Call[Any], document: Any, blob: bytes) -> Any:
    """The answer to `call` in a frame."""
    decode = _DECODERS.get(type(call))
    return document if decode is None else decode(document, blob)


def error_frame(number: int, error: Exception) -> bytes:
    """An error as a frame: the message of one that Tandem raises on purpose, only the type of any other."""
    told = str(error) if isinstance(error, errors.TandemError) else ""
    return frame({"id": number, "error": [type(error).__name__, told]})


def error_of(document: list[str]) -> Exception:
    """The error in a frame."""
    name, message = document
    known = getattr(errors, name, None)
    if isinstance(known, type) and issubclass(known, errors.TandemError):
        return known(message)
    return WorkerFault(f"{name} in the worker")


def facts_of(document: Document) -> Facts:
    """What a worker serves."""
    models = {
        name: document[name] and ModelFacts(**{**document[name], "cost": _cost(document[name]["cost"])})
        for name in ("encoder", "reranker", "early")
    }
    return Facts(**{**document, **models})


def _cost(document: Document) -> CostModel:
    return CostModel(**{**document, "pace": Pace(**document["pace"])})


def _search(document: Document, blob: bytes) -> SearchResponse:
    return SearchResponse(blob, Timings(**document["timings"]), document["degraded_code"])


def _columns(answer: RerankResult) -> Document:
    """Column by column; texts only of stored passages, since the caller has the others."""
    passages = answer.passages
    stored = bool(passages) and passages[0].id is not None
    return {
        "columns": [
            [passage.index for passage in passages],
            [passage.score for passage in passages],
            [passage.text if stored else None for passage in passages],
            [passage.id for passage in passages],
            [passage.truncated for passage in passages],
        ],
        "tokens": answer.tokens,
        "timings": answer.timings,
        "degraded": answer.degraded,
        "degraded_code": answer.degraded_code,
    }


def _rerank(document: Document, _: bytes) -> RerankResult:
    passages = [Reranked(*values) for values in zip(*document.pop("columns"), strict=True)]
    return RerankResult(passages=passages, **{**document, "timings": Timings(**document["timings"])})


def _embed(document: Document, blob: bytes) -> Embedded:
    vectors = np.frombuffer(blob, dtype="<f4").reshape(document.pop("shape"))
    return Embedded(vectors=vectors, **{**document, "timings": Timings(**document["timings"])})


_DECODERS: dict[type[Call[Any]], Callable[[Document, bytes], Any]] = {
    rpc_calls.SearchCall: _search, rpc_calls.Rerank: _rerank, rpc_calls.Embed: _embed,
}  # fmt: skip
