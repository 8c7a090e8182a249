"""Frames between the HTTP process and its worker, over a socket pair: JSON and, behind it, bytes. No pickle anywhere.

8 bytes     lengths of both parts, uint32 little-endian
JSON        {"id": 7, "call": "SearchCall", "collection": "notes", "arguments": {…}}
            {"id": 7, "answer": {…}}   {"id": 7, "error": […]}
            {"cancel": 7}   {"beat": {…}}
bytes       vectors: float32, row by row; a search's answer, as the client gets it
"""

from __future__ import annotations

import asyncio
import struct
from typing import Any

import orjson
from pydantic import BaseModel

from .. import errors
from .backend import WorkerFault
from .rpc_calls import Call, call_named

_LENGTHS = struct.Struct("<II")
Document = dict[str, Any]


async def read_frame(reader: asyncio.StreamReader) -> tuple[Document, bytes] | None:
    """The next frame; None when the other side is gone."""
    try:
        document, blob = _LENGTHS.unpack(await reader.readexactly(_LENGTHS.size))
        parsed = orjson.loads(await reader.readexactly(document))
        return parsed, await reader.readexactly(blob)
    except (asyncio.IncompleteReadError, ConnectionError):
        return None


def frame(document: Document, blob: bytes = b"") -> bytes:
    """A frame's bytes. Dataclasses, arrays and pydantic's models are written as what they hold."""
    data = orjson.dumps(document, default=_fields, option=orjson.OPT_SERIALIZE_NUMPY)
    return b"".join((_LENGTHS.pack(len(data), len(blob)), data, blob))


def call_frame(number: int, call: Call[Any], name: str) -> bytes:
    """A call of the engine of that name, as a frame."""
    return frame({"id": number, "call": type(call).__name__, "collection": name, "arguments": call})


def call_of(document: Document) -> Call[Any]:
    """The call in a frame."""
    return call_named(document["call"], document["arguments"])


def answer_frame(number: int, call: Call[Any], answer: Any) -> bytes:
    """The answer to a call as a frame."""
    document, blob = call.pack(answer)
    return frame({"id": number, "answer": document}, blob)


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


def _fields(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump()
    raise TypeError(f"{type(value).__name__} is written into no frame")
