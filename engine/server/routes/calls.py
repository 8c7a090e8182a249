"""What routes ask the service for, in the name of a request: its time, its client, its budget go with each call."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any, TypeGuard

import numpy as np
import numpy.typing as npt
from fastapi import Request

from ...errors import InputError
from ...recall.planning import Similarity
from ...result import Embedded, RerankResult, Timings
from ...text.prompting import NO_WISH, Prompting, PromptWish
from ...text.tokens import Truncate
from ..deadline import milliseconds
from ..errors import Failure
from ..service import Service
from ..target import needed_encoder
from .shared import BUDGET_HEADER, Document, client_of, filled, remaining, target_of


async def embed_request(
    service: Service,
    request: Request,
    texts: Sequence[str],
    wish: PromptWish = NO_WISH,
    truncate: Truncate | None = None,
    *,
    field: str = "prompt_name",
) -> Embedded:
    """`Service.embed` for a request; `field` is what it calls the prompt's name."""
    with service.lease_for("encoder", target_of(request)) as lease:
        check_prompt(needed_encoder(lease.facts).prompting, wish, field)
        return await service.embed(
            lease, texts, wish, truncate=truncate, remaining=remaining(request), client=client_of(request)
        )


def check_prompt(encoder: Prompting, wish: PromptWish, field: str) -> None:
    """Raises Failure, naming the `field`, for a prompt that the encoder has not."""
    try:
        encoder.before_text(wish)
    except InputError as error:
        wrong = field if wish.name is not None else "instruction"
        raise Failure("validation", f"{wrong}: {error}", param=wrong) from error


def first_dimensions(
    vectors: npt.NDArray[np.float32], count: int | None, similarity: Similarity
) -> npt.NDArray[np.float32]:
    """The first `count` of each vector (None, 0: all), of unit length again where they are compared by cosine; raises
    Failure for too many."""
    if not count or count == vectors.shape[1]:
        return vectors
    if count > vectors.shape[1]:
        raise Failure("validation", f"dimensions exceed the model's {vectors.shape[1]}", param="dimensions")
    first = np.ascontiguousarray(vectors[:, :count])
    return unit(first) if similarity == "cosine" else first


def unit(vectors: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """float32 [n, d]: the directions of `vectors` [n, d]."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.ascontiguousarray(vectors / np.maximum(lengths, 1e-12))


async def rerank_request(
    service: Service, request: Request, query: str, texts: list[str] | None, **more: Any
) -> RerankResult:
    """`Service.rerank` for a request. Its header X-Budget-Ms is the time after which its client would rather have
    fewer passages scored."""
    budget = milliseconds(request.scope, BUDGET_HEADER)
    told = {"remaining": remaining(request), "client": client_of(request), "budget_ms": budget, **more}
    with service.lease_for("reranker", target_of(request)) as lease:
        return await service.rerank(lease, query, texts, **told)


async def rerank_documents(
    service: Service,
    request: Request,
    query: str,
    documents: list[Document],
    *,
    fields: list[str] | None = None,
    passage_tokens: int | None = None,
    wish: PromptWish = NO_WISH,
) -> tuple[RerankResult, list[str]]:
    """Rerank texts, objects with text, or stored ids; also each document's text, in the request's order."""
    service.check_count(len(documents), service.settings.max_documents, "documents")
    stored = [document for document in filled(documents, "documents") if _is_stored(document, fields)]
    ids = [str(document["id"]) for document in stored]
    if ids and len(ids) != len(documents):
        raise Failure("validation", "documents must be all texts or all ids of stored passages", param="documents")
    texts = None if ids else [_text(document, place, fields) for place, document in enumerate(documents)]
    result = await rerank_request(
        service, request, query, texts, ids=ids or None, passage_tokens=passage_tokens, wish=wish
    )
    if texts is not None:
        return result, texts
    by_place = {passage.index: passage.text or "" for passage in result.passages}
    return result, [by_place[place] for place in range(len(documents))]


async def score_pairs(
    service: Service,
    request: Request,
    pairs: list[tuple[str, str]],
    truncate: Truncate | None = None,
    wish: PromptWish = NO_WISH,
) -> tuple[list[float], int, Timings]:
    """Logits of pairs in their order, the tokens read and the time: those with the same first text are one job."""
    service.check_inputs([first for first, _ in pairs])
    places: dict[str, list[int]] = defaultdict(list)
    for place, (first, _) in enumerate(pairs):
        places[first].append(place)
    groups = [(first, [pairs[row][1] for row in rows]) for first, rows in places.items()]
    with service.lease_for("reranker", target_of(request)) as lease:
        results = await service.rerank_all(
            lease, groups, truncate=truncate, wish=wish, remaining=remaining(request), client=client_of(request)
        )
    logits = [0.0] * len(pairs)
    for rows, result in zip(places.values(), results, strict=True):
        for passage in result.passages:
            logits[rows[passage.index]] = passage.score
    spent = {name: sum(getattr(result.timings, name) for result in results) for name in Timings.__slots__}
    spent["total"] = max(result.timings.total for result in results)  # they run together
    return logits, sum(result.tokens for result in results), Timings(**spent)


def _is_stored(document: Document, fields: list[str] | None) -> TypeGuard[dict[str, Any]]:
    """Whether a document names a stored passage: it has an id and none of the fields that would be read."""
    if isinstance(document, str) or not isinstance(document.get("id"), str):
        return False
    return not any(name in document for name in [*(fields or ()), "text"])


def _text(document: Document, place: int, fields: list[str] | None) -> str:
    if isinstance(document, str):
        return document
    values = [document.get(name) for name in fields or ["text"]]
    if not values or not all(isinstance(value, str) for value in values):
        wanted = " and ".join(fields or ["text"])
        raise Failure("validation", f"document {place} needs {wanted} as text", param="documents")
    return "\n".join(value for value in values if isinstance(value, str))
