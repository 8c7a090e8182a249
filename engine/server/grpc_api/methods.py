"""Tandem's own calls: search, rerank, embed."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import Any

import orjson
from google.protobuf import json_format, struct_pb2
from google.protobuf.message import Message

from ...config import SearchOptions, SearchSettings
from ...errors import InputError
from ...result import Timings as Spent
from ...text.prompting import PromptWish
from ..aside import aside
from ..errors import Failure
from ..service import Service
from ..target import Target
from . import tandem_v1_pb2 as v1
from .guard import Caller

NAME = "tandem.v1.Tandem"
# Bytes of an answer that is read beside the event loop: a hundred hits take 17 ms.
LARGE = 16_384
# Up to here every whole number is one of a double.
WHOLE = 2.0**53


class Methods:
    """What the calls do, by the service."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def search(self, request: v1.SearchRequest, asked: Caller) -> v1.SearchReply:
        """As /v1/search. Raises InputError for an option that there is not."""
        chosen = _options(request.options)
        with self._service.lease(request.collection or None) as lease:
            self._service.check_queries([request.query])
            [answer] = await self._service.search(
                lease, [request.query], chosen, asked.remaining, asked.client, return_text=not request.without_text
            )
        if len(answer.body) > LARGE:
            return await aside(_reply, answer.body)
        return _reply(answer.body)

    async def rerank(self, request: v1.RerankRequest, asked: Caller) -> v1.RerankReply:
        """As /v1/rerank, with logits."""
        texts, budget = list(request.texts) or None, _given(request, "budget_ms")
        if budget is not None and not 0 < budget < math.inf:
            raise InputError("budget_ms must be a positive number of milliseconds")
        with self._service.lease_for("reranker", _target(request)) as lease:
            found = await self._service.rerank(
                lease, request.query, texts, ids=list(request.ids) or None, budget_ms=budget,
                wish=_wish(request), remaining=asked.remaining, client=asked.client,
            )  # fmt: skip
        passages = [
            v1.RankedPassage(index=each.index, score=each.score, truncated=each.truncated) for each in found.passages
        ]
        return v1.RerankReply(
            passages=passages, tokens=found.tokens, degraded=found.degraded, degraded_code=found.degraded_code,
            timings=_timings(found.timings),
        )  # fmt: skip

    async def embed(self, request: v1.EmbedRequest, asked: Caller) -> v1.EmbedReply:
        """As /v1/embeddings."""
        if not request.texts:
            raise Failure("empty", "texts is empty; give at least one", param="texts")
        with self._service.lease_for("encoder", _target(request)) as lease:
            found = await self._service.embed(
                lease, list(request.texts), _wish(request), remaining=asked.remaining, client=asked.client
            )
        vectors = [v1.Vector(values=row) for row in found.vectors.tolist()]
        return v1.EmbedReply(
            vectors=vectors, tokens=found.tokens, truncated=found.truncated, timings=_timings(found.timings)
        )


def _reply(body: bytes) -> v1.SearchReply:
    reply = v1.SearchReply()
    json_format.ParseDict(orjson.loads(body), reply)
    return reply


def _options(given: struct_pb2.Struct) -> SearchSettings:
    """A search's options. A Struct knows no whole numbers: those without a fraction are read as such."""
    try:
        options = _whole(json_format.MessageToDict(given))
    except (json_format.Error, ValueError) as error:  # a number that JSON has not
        raise InputError(f"the options cannot be read: {error}") from error
    unknown = [name for name in options if name not in SearchOptions.model_fields]
    if unknown:
        raise InputError(f"option {unknown[0]!r} is unknown; known are {', '.join(SearchOptions.model_fields)}")
    return SearchSettings(**options)


def _whole(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _whole(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_whole(each) for each in value]
    whole = isinstance(value, float) and abs(value) <= WHOLE and value.is_integer()
    return int(value) if whole else value


def _given(request: Message, field: str) -> Any:
    return getattr(request, field) if request.HasField(field) else None


def _target(request: v1.RerankRequest | v1.EmbedRequest) -> Target:
    return Target(request.collection or None, request.model or None)


def _wish(request: v1.RerankRequest | v1.EmbedRequest) -> PromptWish:
    return PromptWish(_given(request, "prompt_name"), _given(request, "prompt"), _given(request, "instruction"))


def _timings(spent: Spent) -> v1.Timings:
    return v1.Timings(**asdict(spent))
