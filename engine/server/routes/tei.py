"""Text Embeddings Inference: the routes of its embedding, ranking and tokenising clients."""

from __future__ import annotations

import time
from collections import defaultdict
from importlib.metadata import version
from typing import Literal

import numpy as np
import numpy.typing as npt
from fastapi import Request
from pydantic import Field

from ...models.encoder import TextKind
from ...result import Timings
from ...text.tokens import Truncate
from ..admission import CHARACTERS_A_TOKEN
from ..errors import Failure
from ..json_response import Json
from ..response_schemas import TeiInfo, TeiPrediction, TeiToken
from ..rpc_calls import Decode, Tokenize
from ..service import Service
from ..supervisor import Lease
from .shared import Body, IdRows, Ids, Served, TextRows, Texts, client_of, listed, new_router, remaining, score

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
    normalize: bool = True
    dimensions: int | None = Field(default=None, ge=1)


class PredictBody(Truncation):
    """`inputs`: one pair, or a batch of pairs."""

    inputs: str | Texts | TextRows
    raw_scores: bool = False


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

    def __init__(self, request: Request) -> None:
        self._start = time.perf_counter()
        self._request = request

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


@router.post("/embed", response_model=list[list[float]])
async def embed(body: EmbedBody, request: Request, service: Served) -> Json:
    """Unit vectors of texts: a list of lists."""
    watch = Watch(request)
    inputs = listed(request, body.inputs)
    if not inputs:
        raise Failure("empty", "`inputs` cannot be empty", param="inputs")
    texts = [text for text in inputs if isinstance(text, str)]
    if len(texts) != len(inputs):
        raise Failure("validation", "token ids are not accepted as inputs; send texts", param="inputs")
    kind = _kind(body.prompt_name)
    with service.lease() as lease:
        if not body.normalize and lease.facts.encoder.normalize:
            raise Failure("validation", "this model gives unit vectors only; leave normalize out", param="normalize")
        result = await service.embed(
            lease, texts, kind, truncate=body.cut(), remaining=remaining(request), client=client_of(request)
        )
    vectors = shortened(result.vectors, body.dimensions)
    return Json(vectors, headers=watch.headers(service, result.timings, result.tokens, sum(map(len, texts))))


@router.post("/predict", response_model=list[TeiPrediction] | list[list[TeiPrediction]])
async def predict(body: PredictBody, request: Request, service: Served) -> Json:
    """The cross-encoder as a classifier of pairs, with one label."""
    watch = Watch(request)
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
    with service.lease() as lease:
        scores, tokens, timings = await _score_pairs(service, lease, request, texts, body)
    answer = [[{"score": value, "label": "LABEL_0"}] for value in scores]
    characters = sum(len(first) + len(second) for first, second in texts)
    return Json(answer[0] if single else answer, headers=watch.headers(service, timings, tokens, characters))


@router.post("/tokenize", response_model=list[list[TeiToken]])
async def tokenize(body: TokenizeBody, request: Request, service: Served) -> Json:
    """Token ids with their places in the text, by the encoder's tokenizer."""
    texts = [body.inputs] if isinstance(body.inputs, str) else body.inputs
    if not texts:
        raise Failure("empty", "`inputs` cannot be empty", param="inputs")
    kind = _kind(body.prompt_name)
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
    watch = Watch(request)
    if not body.inputs.sentences:
        raise Failure("empty", "`sentences` cannot be empty", param="inputs")
    texts = [body.inputs.source_sentence, *body.inputs.sentences]
    with service.lease() as lease:
        result = await service.embed(lease, texts, remaining=remaining(request), client=client_of(request))
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


def shortened(vectors: npt.NDArray[np.float32], dimensions: int | None) -> npt.NDArray[np.float32]:
    """The first `dimensions` of each vector, of unit length again (None: as they are); raises Failure for too many."""
    if dimensions is None or dimensions == vectors.shape[1]:
        return vectors
    if dimensions > vectors.shape[1]:
        raise Failure("validation", f"dimensions exceed the model's {vectors.shape[1]}", param="dimensions")
    first = vectors[:, :dimensions]
    return np.ascontiguousarray(first / np.maximum(np.linalg.norm(first, axis=1, keepdims=True), 1e-12))


def _kind(prompt_name: str | None) -> TextKind | None:
    if prompt_name is None or prompt_name == "query" or prompt_name == "passage":
        return prompt_name  # type: ignore[return-value]
    raise Failure("validation", "prompt_name is unknown; choose query or passage, or leave it out", param="prompt_name")


async def _score_pairs(
    service: Service, lease: Lease, request: Request, pairs: list[tuple[str, str]], body: PredictBody
) -> tuple[list[float], int, Timings]:
    """Scores of pairs in their order: those with the same first text are one job."""
    service.check_inputs([first for first, _ in pairs], service.settings.max_text_characters)
    places: dict[str, list[int]] = defaultdict(list)
    for place, (first, _) in enumerate(pairs):
        places[first].append(place)
    groups = [(first, [pairs[row][1] for row in rows]) for first, rows in places.items()]
    results = await service.rerank_all(
        lease, groups, truncate=body.cut(), remaining=remaining(request), client=client_of(request)
    )
    scores, tokens = [0.0] * len(pairs), 0
    timings = Timings(**dict.fromkeys(Timings.__slots__, 0.0))
    for rows, result in zip(places.values(), results, strict=True):
        for passage in result.passages:
            scores[rows[passage.index]] = score(passage, body.raw_scores)
        tokens += result.tokens
        sums = {name: getattr(timings, name) + getattr(result.timings, name) for name in Timings.__slots__}
        timings = Timings(**sums)
    return scores, tokens, timings
