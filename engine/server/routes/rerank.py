"""`POST /rerank`, claimed by four families and told apart by their fields; Jina's and Cohere's routes beside it."""

from __future__ import annotations

import time
from typing import Annotated, Any, TypeVar

from fastapi import Body as FromBody
from fastapi import Request
from pydantic import AliasChoices, Field, ValidationError

from ...result import Reranked, RerankResult
from ..errors import Failure
from ..json_response import Json
from ..response_schemas import CohereRanks, InfinityRanks, JinaRanks, NimRankings, TeiRank, WeaviateScores, failures
from ..service import Service, needed_reranker
from . import nim
from .shared import (
    Body,
    Documents,
    Served,
    Texts,
    degradation,
    invalid,
    logistic,
    new_router,
    rerank_documents,
    rerank_request,
    score,
)
from .tei import Truncation, Watch

router = new_router("rerank")
# Fields to read of a document.
MAX_FIELDS = 64
Fields = TypeVar("Fields", bound=Body)


class TeiBody(Truncation):
    """TEI: `texts`."""

    query: str
    texts: Texts
    raw_scores: bool = False
    return_text: bool = False


class DocumentsBody(Body):
    """Infinity, vLLM, Jina and Cohere: `documents`."""

    query: str
    documents: Documents
    top_n: int | None = Field(default=None, ge=0, validation_alias=AliasChoices("top_n", "top_k"))
    """Results wanted; 0, as vLLM has it, and null mean all."""
    return_documents: bool | None = None
    rank_fields: Texts | None = Field(default=None, max_length=MAX_FIELDS)
    max_tokens_per_doc: int | None = Field(default=None, ge=1)
    raw_scores: bool = False

    def first(self, passages: list[Reranked]) -> list[Reranked]:
        """As many as asked for."""
        return passages[: self.top_n] if self.top_n else passages


@router.post(
    "/rerank", response_model=list[TeiRank] | InfinityRanks | WeaviateScores | NimRankings, responses=failures("rerank")
)
async def rerank(
    fields: Annotated[dict[str, Any], FromBody(description="TEI: texts; Infinity, vLLM: documents; NIM: passages")],
    request: Request,
    service: Served,
) -> Json:
    """By field: `texts` (TEI), `documents` (Infinity, vLLM), with `property` (Weaviate), `passages` (NIM)."""
    markers = [name for name in ("texts", "documents", "passages") if fields.get(name) is not None]
    if len(markers) != 1:
        raise Failure("validation", "give exactly one of texts, documents and passages", param="documents")
    if markers == ["texts"]:
        return await _tei(_parsed(TeiBody, fields), request, service)
    if markers == ["passages"]:
        return await nim.rank(_parsed(nim.RankingBody, fields), request, service)
    body = _parsed(DocumentsBody, fields)
    result, texts = await _ranked(body, request, service)
    if "property" in fields:
        answer = _weaviate(body, fields["property"], result, texts)
        return Json(answer, headers=degradation(result.degraded))
    answer = {
        "object": "rerank",
        "id": request.state.request_id,
        "created": int(time.time()),
        "model": _name(service),
        "usage": _usage(result),
        "results": _results(body, result, texts if body.return_documents else None, plain=True),
    }
    return Json(answer, headers=degradation(result.degraded))


@router.post("/v1/rerank", response_model=JinaRanks, responses=failures("shared"))
async def jina(body: DocumentsBody, request: Request, service: Served) -> Json:
    """Jina's, and Cohere's first version: one answer with the fields of both."""
    result, texts = await _ranked(body, request, service)
    answer = {
        "id": request.state.request_id,
        "model": _name(service),
        "usage": _usage(result),
        "results": _results(body, result, texts if body.return_documents else None),
        "meta": {"api_version": {"version": "1"}, "billed_units": {"search_units": 1}},
    }
    return Json(answer, headers=degradation(result.degraded))


@router.post("/v2/rerank", response_model=CohereRanks, responses=failures("cohere"))
async def cohere(body: DocumentsBody, request: Request, service: Served) -> Json:
    """Cohere's: scores in [0, 1], documents never echoed."""
    result, _ = await _ranked(body, request, service)
    answer = {
        "id": request.state.request_id,
        "results": _results(body, result, None),
        "meta": {"api_version": {"version": "2"}, "billed_units": {"search_units": 1}},
    }
    return Json(answer, headers=degradation(result.degraded))


async def _tei(body: TeiBody, request: Request, service: Service) -> Json:
    watch = Watch(request)
    if not body.texts:
        raise Failure("empty", "`texts` cannot be empty", param="texts")
    result = await rerank_request(service, request, body.query, body.texts, truncate=body.cut())
    ranked = [
        {"index": passage.index, "score": score(passage, body.raw_scores)}
        | ({"text": body.texts[passage.index]} if body.return_text else {})
        for passage in result.passages
    ]
    characters = len(body.query) + sum(map(len, body.texts))
    headers = watch.headers(service, result.timings, result.tokens, characters)
    return Json(ranked, headers=headers | degradation(result.degraded))


async def _ranked(body: DocumentsBody, request: Request, service: Service) -> tuple[RerankResult, list[str]]:
    return await rerank_documents(
        service, request, body.query, body.documents, fields=body.rank_fields, passage_tokens=body.max_tokens_per_doc
    )


def _results(
    body: DocumentsBody, result: RerankResult, texts: list[str] | None, *, plain: bool = False
) -> list[dict[str, Any]]:
    """Best first; with `texts` each has its document: `plain` as Infinity has it, else `{text}`."""
    return [
        {"index": passage.index, "relevance_score": score(passage, body.raw_scores)}
        | ({} if texts is None else {"document": texts[passage.index] if plain else {"text": texts[passage.index]}})
        for passage in body.first(result.passages)
    ]


def _weaviate(body: DocumentsBody, name: Any, result: RerankResult, texts: list[str]) -> dict[str, Any]:
    """In the request's order: Weaviate reads entry i for document i."""
    scores = {passage.index: logistic(passage.score) for passage in result.passages}
    entries = [{"document": text, "score": scores[place]} for place, text in enumerate(texts)]
    return {"query": body.query, "scores": entries, "property": name, "error": None}


def _parsed(model: type[Fields], fields: dict[str, Any]) -> Fields:
    try:
        return model.model_validate(fields)
    except ValidationError as error:
        raise invalid(error) from None


def _name(service: Service) -> str:
    return needed_reranker(service.facts).name


def _usage(result: RerankResult) -> dict[str, int]:
    return {"prompt_tokens": result.tokens, "total_tokens": result.tokens}
