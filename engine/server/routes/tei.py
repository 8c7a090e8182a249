"""Text Embeddings Inference: the routes of its embedding, ranking and tokenising clients."""

from __future__ import annotations

import time
from importlib.metadata import version
from typing import Annotated, Any, Literal

from fastapi import Body as FromBody
from fastapi import Request
from pydantic import Field

from ...result import Timings
from ...text.tokens import Truncate
from ..admission import CHARACTERS_A_TOKEN
from ..errors import Failure
from ..json_response import Json
from ..response_schemas import TeiInfo, TeiPrediction, TeiRank, TeiToken
from ..rpc_calls import Decode, Tokenize
from ..service import Service
from .calls import embed_request, first_dimensions, rerank_request, score_pairs
from .shared import (
    Body,
    IdRows,
    Ids,
    Served,
    TextRows,
    Texts,
    as_body,
    client_of,
    degradation,
    kind_of,
    listed,
    new_router,
    remaining,
    scaled,
)

router = new_router("TEI", "tei")
# Characters of a request to /tokenize, in all.
MAX_TOKENIZED = 262_144
# Token ids of a request to /decode, in all.
MAX_IDS = 65_536
Direction = Literal["Right", "Left", "right", "left"]


class Truncation(Body):
    """How long texts are treated: cut on the right unless told otherwise."""

    truncate: bool | None = None
    truncation_direction: Direction = "right"

    def cut(self) -> Truncate:
        """What becomes of texts that are too long."""
        if self.truncate is False:
            return "never"
        return "left" if self.truncation_direction.lower() == "left" else "right"


class EmbedBody(Truncation):
    """`inputs`: a text or texts."""

    inputs: str | Texts | Ids | IdRows
    prompt_name: str | None = None
    normalize: bool = Field(default=True, description="false: the model's own vectors, which may be of unit length too")
    dimensions: int | None = Field(default=None, ge=1)


class PredictBody(Truncation):
    """`inputs`: one pair, or a batch of pairs."""

    inputs: str | Texts | TextRows
    raw_scores: bool = False


class RerankBody(Truncation):
    """`query` and `texts`."""

    query: str
    texts: Texts
    raw_scores: bool = False
    return_text: bool = False


class TokenizeBody(Body):
    """`inputs`: a text or texts."""

    inputs: str | Texts
    add_special_tokens: bool = True
    prompt_name: str | None = None


class DecodeBody(Body):
    """`ids` of one text or of several."""

    ids: Ids | IdRows
    skip_special_tokens: bool = True


class Sentences(Body):
    """One sentence and those it is compared with."""

    source_sentence: str
    sentences: Texts


class SimilarityBody(Body):
    """`inputs` to compare."""

    inputs: Sentences


class Watch:
    """TEI's timing headers."""

    def __init__(self) -> None:
        self._start = time.perf_counter()

    def headers(self, service: Service, timings: Timings, tokens: int, characters: int) -> dict[str, str]:
        """Milliseconds of each part, and what was computed."""
        inference = timings.encode + timings.rerank
        milliseconds = {
            "x-compute-time": timings.tokenize + timings.queue + inference,
            "x-total-time": (time.perf_counter() - self._start) * 1e3,
            "x-tokenization-time": timings.tokenize,
            "x-queue-time": timings.queue,
            "x-inference-time": inference,
        }
        current = service.host.current
        kind = "gpu" if current is not None and current.facts.device == "cuda" else "cpu"
        return {
            "x-compute-type": kind,
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
    watch = Watch()
    inputs = listed(request, body.inputs)
    if not inputs:
        raise Failure("empty", "`inputs` cannot be empty", param="inputs")
    texts = [text for text in inputs if isinstance(text, str)]
    if len(texts) != len(inputs):
        raise Failure("validation", "token ids are not accepted as inputs; send texts", param="inputs")
    result = await embed_request(service, request, texts, kind_of(body.prompt_name, "prompt_name"), body.cut())
    vectors = first_dimensions(result.vectors, body.dimensions)
    return Json(vectors, headers=watch.headers(service, result.timings, result.tokens, sum(map(len, texts))))


async def rank_texts(body: RerankBody, request: Request, service: Service) -> Json:
    """The answer to a request with `texts`, whichever route it came by: best first."""
    watch = Watch()
    if not body.texts:
        raise Failure("empty", "`texts` cannot be empty", param="texts")
    result = await rerank_request(service, request, body.query, body.texts, truncate=body.cut())
    ranked = [
        {"index": passage.index, "score": scaled(passage.score, body.raw_scores)}
        | ({"text": body.texts[passage.index]} if body.return_text else {})
        for passage in result.passages
    ]
    characters = len(body.query) + sum(map(len, body.texts))
    headers = watch.headers(service, result.timings, result.tokens, characters)
    return Json(ranked, headers=headers | degradation(result.degraded))


@router.post("/predict", response_model=list[TeiPrediction] | list[list[TeiPrediction]])
async def predict(body: PredictBody, request: Request, service: Served) -> Json:
    """The cross-encoder as a classifier of pairs, with one label."""
    watch = Watch()
    single = isinstance(body.inputs, list) and len(body.inputs) > 0 and isinstance(body.inputs[0], str)
    pairs = [body.inputs] if single else body.inputs
    request.state.single = single
    if not pairs:
        raise Failure("empty", "`inputs` cannot be empty", param="inputs")
    if isinstance(pairs, str) or not all(isinstance(pair, list) and len(pair) == 2 for pair in pairs):
        raise Failure(
            "validation", "the model reads pairs of texts: [first, second], or a list of those", param="inputs"
        )
    texts = [(str(pair[0]), str(pair[1])) for pair in pairs]
    logits, tokens, timings = await score_pairs(service, request, texts, body.cut())
    answer = [[{"score": scaled(logit, body.raw_scores), "label": "LABEL_0"}] for logit in logits]
    characters = sum(len(first) + len(second) for first, second in texts)
    return Json(answer[0] if single else answer, headers=watch.headers(service, timings, tokens, characters))


@router.post("/tokenize", response_model=list[list[TeiToken]])
async def tokenize(body: TokenizeBody, request: Request, service: Served) -> Json:
    """Token ids with their places in the text, by the encoder's tokenizer."""
    texts = [body.inputs] if isinstance(body.inputs, str) else body.inputs
    if not texts:
        raise Failure("empty", "`inputs` cannot be empty", param="inputs")
    kind = kind_of(body.prompt_name, "prompt_name")
    with service.lease() as lease:
        service.check_inputs(texts, min(lease.facts.encoder.characters, service.settings.max_text_characters))
        characters = sum(map(len, texts))
        if characters > MAX_TOKENIZED:
            raise Failure(
                "validation",
                f"the texts have {characters} characters; the limit is {MAX_TOKENIZED} a request, since the answer is "
                "some 30 times as large; split the request",
                param="inputs",
            )
        client = client_of(request)
        call = Tokenize(client=client, texts=texts, kind=kind, special=body.add_special_tokens)
        return Json(await service.ask(lease, call, characters // CHARACTERS_A_TOKEN, remaining(request), client))


@router.post("/decode", response_model=list[str])
async def decode(body: DecodeBody, request: Request, service: Served) -> Json:
    """The texts of token ids."""
    rows = [row if isinstance(row, list) else [row] for row in body.ids]
    if body.ids and isinstance(body.ids[0], int):
        rows = [[token for row in rows for token in row]]
    if not rows:
        raise Failure("empty", "`ids` cannot be empty", param="ids")
    service.check_count(len(rows), service.settings.max_inputs, "ids")
    service.check_count(sum(map(len, rows)), MAX_IDS, "ids")
    with service.lease() as lease:
        size = lease.facts.encoder.vocab_size
        if not all(0 <= token < size for row in rows for token in row):
            raise Failure("validation", f"a token id is outside [0, {size})", param="ids")
        client = client_of(request)
        call = Decode(client=client, rows=rows, skip_special=body.skip_special_tokens)
        return Json(await service.ask(lease, call, sum(map(len, rows)), remaining(request), client))


@router.post("/similarity", response_model=list[float])
async def similarity(body: SimilarityBody, request: Request, service: Served) -> Json:
    """Cosines of a sentence with others."""
    watch = Watch()
    if not body.inputs.sentences:
        raise Failure("empty", "`sentences` cannot be empty", param="inputs")
    texts = [body.inputs.source_sentence, *body.inputs.sentences]
    result = await embed_request(service, request, texts)
    cosines = result.vectors[1:] @ result.vectors[0]
    return Json(cosines, headers=watch.headers(service, result.timings, result.tokens, sum(map(len, texts))))


@router.get("/info", response_model=TeiInfo)
async def info(service: Served) -> Json:
    """The model and the limits, for clients that split their requests by them."""
    facts, settings = service.facts, service.settings
    served = facts.reranker or facts.encoder
    label = {"reranker": {"id2label": {"0": "LABEL_0"}, "label2id": {"LABEL_0": 0}}}
    pooling = {"embedding": {"pooling": facts.encoder.pooling}}
    return Json({
        "model_id": served.name,
        "model_sha": served.fingerprint,
        "model_dtype": served.precision,
        "served_model_name": served.name,
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
    })  # fmt: skip
