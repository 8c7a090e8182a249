"""`POST /rerank`, claimed by five families and told apart by their fields, and the routes of some of them."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Body as FromBody
from fastapi import Request
from pydantic import AliasChoices, Field

from ...result import Reranked, RerankResult
from ...scoring.scale import logistic
from ..errors import Failure
from ..json_response import Json
from ..response_schemas import NimRankings, Ranks, TeiRank, WeaviateScores, failures
from ..service import Service
from ..target import name_of, needed_reranker
from . import nim
from .calls import rerank_documents
from .shared import Documents, Prompted, Served, Texts, as_body, degradation, new_router, scaled, target_of, usage
from .tei import RerankBody, rank_texts

router = new_router("rerank")
# Fields to read of a document.
MAX_FIELDS = 64


@dataclass(frozen=True, slots=True)
class Form:
    """How a family's answer has the documents."""

    echoed: bool
    """Whether they come back unasked."""
    plain: bool = False
    """As a text, not as an object with one."""


VLLM = JINA = Form(echoed=True)
COHERE = Form(echoed=False)
INFINITY = Form(echoed=False, plain=True)


class DocumentsBody(Prompted):
    """Infinity, vLLM, Jina and Cohere: `documents`."""

    query: str
    documents: Documents
    top_n: int | None = Field(default=None, ge=0, validation_alias=AliasChoices("top_n", "top_k"))
    """Results wanted; 0, as vLLM has it, and null mean all."""
    return_documents: bool | None = None
    rank_fields: Texts | None = Field(default=None, max_length=MAX_FIELDS)
    max_tokens_per_doc: int | None = Field(default=None, ge=1)
    raw_scores: bool = False
    use_activation: bool | None = Field(default=None, description="vLLM: false for logits")

    def first(self, passages: list[Reranked]) -> list[Reranked]:
        """As many as asked for."""
        return passages[: self.top_n] if self.top_n else passages


@router.post("/rerank", response_model=list[TeiRank] | Ranks | WeaviateScores | NimRankings, responses=failures("tei"))
async def rerank(
    fields: Annotated[dict[str, Any], FromBody(description="TEI: texts; vLLM, Infinity: documents; NIM: passages")],
    request: Request,
    service: Served,
) -> Json:
    """By field: `texts` (TEI), `documents` (vLLM; with `raw_scores` Infinity, with `property` Weaviate), `passages`
    (NIM)."""
    markers = [name for name in ("texts", "documents", "passages") if fields.get(name) is not None]
    if len(markers) != 1:
        raise Failure("validation", "give exactly one of texts, documents and passages", param="documents")
    if markers == ["texts"]:
        return await rank_texts(as_body(RerankBody, fields), request, service)
    if markers == ["passages"]:
        return await nim.rank(as_body(nim.RankingBody, fields), request, service)
    body = as_body(DocumentsBody, fields)
    if "property" in fields:
        return await _sidecar(body, fields["property"], request, service)
    return await _ranked(body, request, service, INFINITY if "raw_scores" in fields else VLLM)


@router.post("/v1/rerank", response_model=Ranks, responses=failures("flat"))
@router.post("/v1/collections/{collection}/rerank", response_model=Ranks, responses=failures("flat"))
async def jina(body: DocumentsBody, request: Request, service: Served) -> Json:
    """Jina, vLLM, and Cohere's first version: documents come back unless `return_documents` is false."""
    return await _ranked(body, request, service, JINA)


@router.post("/v2/rerank", response_model=Ranks, responses=failures("flat"))
async def cohere(body: DocumentsBody, request: Request, service: Served) -> Json:
    """Cohere: documents come back where `return_documents` is true."""
    return await _ranked(body, request, service, COHERE)


@router.post("/infinity/rerank", response_model=Ranks, responses=failures("flat"))
async def infinity(body: DocumentsBody, request: Request, service: Served) -> Json:
    """Infinity: as /v2/rerank, documents as plain texts."""
    return await _ranked(body, request, service, INFINITY)


async def _ranked(body: DocumentsBody, request: Request, service: Service, form: Form) -> Json:
    """One answer with the fields of all families, best first; only its documents differ."""
    facts = service.facts_for("reranker", target_of(request))
    model = name_of(facts, needed_reranker(facts))
    result, texts = await _read(body, request, service)
    echoed = form.echoed if body.return_documents is None else body.return_documents
    raw = body.raw_scores or body.use_activation is False
    results: list[dict[str, Any]] = []
    for passage in body.first(result.passages):
        text = texts[passage.index]
        document = {"document": text if form.plain else {"text": text}} if echoed else {}
        results.append({"index": passage.index, "relevance_score": scaled(passage.score, raw), **document})
    answer = {
        "object": "rerank",
        "id": request.state.request_id,
        "created": int(time.time()),
        "model": model,
        "usage": usage(result.tokens),
        "meta": {"api_version": {"version": "2"}, "billed_units": {"search_units": 1}},
        "results": results,
    }
    return Json(answer, headers=degradation(result.degraded))


async def _sidecar(body: DocumentsBody, name: Any, request: Request, service: Service) -> Json:
    """Weaviate's sidecar: in the request's order, since Weaviate reads entry i for document i."""
    result, texts = await _read(body, request, service)
    scores = {passage.index: logistic(passage.score) for passage in result.passages}
    entries = [{"document": text, "score": scores[place]} for place, text in enumerate(texts)]
    answer = {"query": body.query, "scores": entries, "property": name, "error": None}
    return Json(answer, headers=degradation(result.degraded))


async def _read(body: DocumentsBody, request: Request, service: Service) -> tuple[RerankResult, list[str]]:
    return await rerank_documents(
        service, request, body.query, body.documents, fields=body.rank_fields, passage_tokens=body.max_tokens_per_doc,
        wish=body.wish,
    )  # fmt: skip
