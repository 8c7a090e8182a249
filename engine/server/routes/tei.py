"""Text Embeddings Inference: the routes of its embedding and ranking clients."""

from __future__ import annotations

from importlib.metadata import version
from typing import Annotated, Any, Literal

from fastapi import Body as FromBody
from fastapi import Request
from pydantic import Field

from ...result import Timings
from ...text.tokens import Truncate
from ..errors import Failure
from ..json_response import Json, written_vectors
from ..response_schemas import TeiInfo, TeiPrediction, TeiRank
from ..service import Service
from ..target import name_of, needed_encoder
from .calls import embed_request, first_dimensions, rerank_request, score_pairs, unit
from .shared import (
    Body,
    IdRows,
    Ids,
    Prompted,
    Served,
    TextRows,
    Texts,
    as_body,
    degradation,
    filled,
    new_router,
    scaled,
    target_of,
    texts_of,
)

router = new_router("TEI", "tei")
Direction = Literal["Right", "Left", "right", "left"]


class Truncation(Body):
    """How long texts are treated: cut as the model cuts them unless told otherwise."""

    truncate: bool | None = None
    truncation_direction: Direction | None = None

    def cut(self) -> Truncate | None:
        """What becomes of texts that are too long."""
        if self.truncate is False:
            return "never"
        if self.truncation_direction is None:
            return None
        return "left" if self.truncation_direction.lower() == "left" else "right"


class EmbedBody(Truncation, Prompted):
    """`inputs`: a text or texts."""

    inputs: str | Texts | Ids | IdRows
    normalize: bool = Field(default=True, description="false: the model's own vectors, which may be of unit length too")
    dimensions: int | None = Field(default=None, ge=1)


class PredictBody(Truncation):
    """`inputs`: one pair, or a batch of pairs."""

    inputs: str | Texts | TextRows
    raw_scores: bool = False


class RerankBody(Truncation, Prompted):
    """`query` and `texts`."""

    query: str
    texts: Texts
    raw_scores: bool = False
    return_text: bool = False


class Sentences(Body):
    """One sentence and those it is compared with."""

    source_sentence: str
    sentences: Texts


class SimilarityBody(Body):
    """`inputs` to compare."""

    inputs: Sentences


def told(service: Service, timings: Timings, tokens: int, characters: int) -> dict[str, str]:
    """TEI's headers: milliseconds of each part, and what was computed."""
    inference = timings.encode + timings.rerank
    milliseconds = {
        "x-compute-time": timings.tokenize + timings.queue + inference,
        "x-total-time": timings.total,
        "x-tokenization-time": timings.tokenize,
        "x-queue-time": timings.queue,
        "x-inference-time": inference,
    }
    return {
        "x-compute-type": "gpu" if service.device == "cuda" else "cpu",
        "x-compute-characters": str(characters),
        "x-compute-tokens": str(tokens),
        **{name: str(round(value)) for name, value in milliseconds.items()},
    }


@router.post("/", response_model=list[list[float]] | list[float] | list[TeiRank])
@router.post("/invocations", include_in_schema=False)
async def task(
    fields: Annotated[dict[str, Any], FromBody(description="As /embed, /similarity or /rerank has it")],
    request: Request,
    service: Served,
) -> Json:
    """What the fields tell: `query` and `texts` are ranked, an object of `inputs` compared, other `inputs` embedded."""
    if "texts" in fields:
        return await rank_texts(as_body(RerankBody, fields), request, service)
    if isinstance(fields.get("inputs"), dict):
        return await similarity(as_body(SimilarityBody, fields), request, service)
    return await embed(as_body(EmbedBody, fields), request, service)


@router.post("/embed", response_model=list[list[float]])
async def embed(body: EmbedBody, request: Request, service: Served) -> Json:
    """Vectors of texts: a list of lists."""
    texts = texts_of(request, body.inputs, "inputs")
    result = await embed_request(service, request, texts, body.wish, body.cut())
    similarity = needed_encoder(service.facts_for("encoder", target_of(request))).similarity
    vectors = first_dimensions(result.vectors, body.dimensions, similarity)
    written = await written_vectors(unit(vectors) if body.normalize and similarity == "dot" else vectors)
    return Json(written, headers=told(service, result.timings, result.tokens, sum(map(len, texts))))


async def rank_texts(body: RerankBody, request: Request, service: Service) -> Json:
    """The answer to a request with `texts`, whichever route it came by: best first."""
    texts = filled(body.texts, "texts")
    result = await rerank_request(service, request, body.query, texts, truncate=body.cut(), wish=body.wish)
    ranked = [
        {"index": passage.index, "score": scaled(passage.score, body.raw_scores)}
        | ({"text": texts[passage.index]} if body.return_text else {})
        for passage in result.passages
    ]
    characters = len(body.query) + sum(map(len, texts))
    headers = told(service, result.timings, result.tokens, characters)
    return Json(ranked, headers=headers | degradation(result.degraded))


@router.post("/predict", response_model=list[TeiPrediction] | list[list[TeiPrediction]])
async def predict(body: PredictBody, request: Request, service: Served) -> Json:
    """The cross-encoder as a classifier of pairs, with one label."""
    single = isinstance(body.inputs, list) and len(body.inputs) > 0 and isinstance(body.inputs[0], str)
    pairs = [body.inputs] if single else filled(body.inputs, "inputs")
    request.state.single = single
    if isinstance(pairs, str) or not all(isinstance(pair, list) and len(pair) == 2 for pair in pairs):
        raise Failure(
            "validation", "the model reads pairs of texts: [first, second], or a list of those", param="inputs"
        )
    texts = [(str(pair[0]), str(pair[1])) for pair in pairs]
    logits, tokens, timings = await score_pairs(service, request, texts, body.cut())
    answer = [[{"score": scaled(logit, body.raw_scores), "label": "LABEL_0"}] for logit in logits]
    characters = sum(len(first) + len(second) for first, second in texts)
    return Json(answer[0] if single else answer, headers=told(service, timings, tokens, characters))


@router.post("/similarity", response_model=list[float])
async def similarity(body: SimilarityBody, request: Request, service: Served) -> Json:
    """Cosines of a sentence with others."""
    texts = [body.inputs.source_sentence, *filled(body.inputs.sentences, "sentences")]
    result = await embed_request(service, request, texts)
    vectors = unit(result.vectors)
    cosines = vectors[1:] @ vectors[0]
    return Json(cosines, headers=told(service, result.timings, result.tokens, sum(map(len, texts))))


@router.get("/info", response_model=TeiInfo)
async def info(service: Served) -> Json:
    """The model and the limits, for clients that split their requests by them."""
    facts, settings = service.main_facts(), service.settings
    served = facts.reranker or needed_encoder(facts)
    label = {"reranker": {"id2label": {"0": "LABEL_0"}, "label2id": {"LABEL_0": 0}}}
    pooling = {"embedding": {"pooling": facts.encoder.pooling if facts.encoder is not None else None}}
    return Json({
        "model_id": name_of(facts, served),
        "model_sha": served.fingerprint,
        "model_dtype": served.precision,
        "served_model_name": name_of(facts, served),
        "model_type": pooling if facts.reranker is None else label,
        "max_concurrent_requests": settings.max_concurrent_requests,
        "max_input_length": served.max_length,
        "max_batch_tokens": served.cost.tokens,
        "max_batch_requests": None,
        "max_client_batch_size": settings.max_documents,
        "auto_truncate": True,
        "tokenization_workers": facts.threads,
        "version": version("tandem"),
        "sha": None,
        "docker_label": None,
        "prompts": [] if facts.encoder is None else facts.encoder.prompts,
    })  # fmt: skip
