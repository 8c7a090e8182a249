"""The shapes of answers, for /openapi.json and whoever makes a client from it.

Answers are not made of these while serving: a hundred objects a request would cost a millisecond. The tests hold what
every route really answers against them.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from ..result import SearchResult
from .errors import Dialect


class Answer(BaseModel):
    """What is listed is all there is: a field that the models do not name fails the tests."""

    model_config = ConfigDict(extra="forbid")


class SearchAnswers(Answer):
    """An answer for each of `queries`, in their order."""

    results: list[SearchResult]


class CollectionRow(Answer):
    """What is served."""

    name: str
    version: str
    passages: int
    documents: int
    dimension: int
    index: dict[str, Any] = Field(description="Its kind, and why it is that")
    encoder: str
    reranker: str | None
    device: str
    runs: dict[str, str] = Field(description="What runs where, and why")


class Collections(Answer):
    """Those that are served, the first one first: it answers whoever names none."""

    collections: list[CollectionRow]


class TeiRank(Answer):
    """TEI: best first; `text` where it was wanted."""

    index: int
    score: float
    text: str = ""


class TeiPrediction(Answer):
    """TEI: the score of one pair."""

    score: float
    label: str


class TeiToken(Answer):
    """TEI: a token and its characters in the text; null where it has none there."""

    id: int
    text: str
    special: bool
    start: int | None
    stop: int | None


class TeiInfo(Answer):
    """TEI: the model and the limits."""

    model_id: str
    model_sha: str | None
    model_dtype: str
    served_model_name: str
    model_type: dict[str, Any]
    max_concurrent_requests: int
    max_input_length: int
    max_batch_tokens: int
    max_batch_requests: int | None
    max_client_batch_size: int
    auto_truncate: bool
    tokenization_workers: int
    version: str
    sha: str | None
    docker_label: str | None
    prompts: list[str]


class TokenUsage(Answer):
    """Tokens that the model read."""

    prompt_tokens: int
    total_tokens: int


class DocumentText(Answer):
    """A document as Jina and Cohere echo it."""

    text: str


class Ranked(Answer):
    """Best first; `document` where it comes back: a text (Infinity) or an object (all others)."""

    index: int
    relevance_score: float
    document: str | DocumentText = ""


class Meta(Answer):
    """Cohere's account of a call."""

    api_version: dict[str, str]
    billed_units: dict[str, int]


class Ranks(Answer):
    """Cohere, Jina, vLLM and Infinity: what each of them has."""

    object: str
    id: str
    created: int
    model: str
    usage: TokenUsage
    meta: Meta
    results: list[Ranked]


class PairScore(Answer):
    """vLLM: the score of one pair."""

    index: int
    object: str
    score: float


class Scores(Answer):
    """vLLM: in the request's order."""

    id: str
    object: str
    created: int
    model: str
    data: list[PairScore]
    usage: TokenUsage


class CohereEmbeddings(Answer):
    """Cohere: vectors by format."""

    response_type: str
    id: str
    embeddings: dict[str, list[list[float] | str]] | list[list[float]]
    texts: list[str]
    meta: Meta


class WeaviateScore(Answer):
    """Weaviate: a document and its score."""

    document: str
    score: float


class WeaviateScores(Answer):
    """Weaviate: in the request's order."""

    query: str
    scores: list[WeaviateScore]
    property: Any
    error: str | None


class WeaviateMeta(Answer):
    """Weaviate: the model."""

    model: str
    max_length: int


class NimRanking(Answer):
    """NIM: a passage's logit."""

    index: int
    logit: float


class NimRankings(Answer):
    """NIM: best first."""

    rankings: list[NimRanking]
    usage: TokenUsage


class Embedding(Answer):
    """OpenAI: numbers, or base64 of their little-endian float32."""

    object: str
    index: int
    embedding: list[float] | str


class Embeddings(Answer):
    """OpenAI: in the request's order."""

    object: str
    data: list[Embedding]
    model: str
    usage: TokenUsage


class Stats(Answer):
    """Infinity: what waits, for both models together."""

    queue_fraction: float
    queue_absolute: int
    results_pending: int
    batch_size: int


class ModelEntry(Answer):
    """OpenAI and Infinity: one of the two models; `prompts` and `instruction` are what a request may ask for."""

    id: str
    object: str
    created: int
    owned_by: str
    capabilities: list[str]
    prompts: list[str]
    instruction: bool
    stats: Stats


class ModelList(Answer):
    """OpenAI."""

    object: str
    data: list[ModelEntry]


class Said(Answer):
    """What is wrong, by its name, in words, and in which field."""

    type: str
    message: str
    param: str | None
    request_id: str


class OpenAISaid(Answer):
    """What is wrong, as OpenAI's clients read it."""

    message: str
    type: str
    param: str | None
    code: str


class TandemFailure(Answer):
    """Why there is no answer."""

    error: Said


class OpenAIFailure(Answer):
    """Why there is no answer."""

    error: OpenAISaid


class FlatFailure(Answer):
    """Why there is no answer, wherever TEI's, Jina's, Cohere's and Weaviate's clients look for it."""

    error: str
    error_type: str
    message: str
    detail: str
    id: str


class NimFailure(Answer):
    """Why there is no answer."""

    detail: str | list[dict[str, Any]]


_FAILURES: dict[Dialect, type[Answer]] = {
    "tandem": TandemFailure, "tei": FlatFailure, "flat": FlatFailure, "openai": OpenAIFailure, "nim": NimFailure,
}  # fmt: skip


def failures(dialect: Dialect) -> dict[int | str, dict[str, Any]]:
    """The `responses` of a route whose errors are in `dialect`."""
    model = _FAILURES[dialect]
    refused = "Refused: what is wrong with the request, or why it cannot be taken now"
    return {"4XX": {"model": model, "description": refused}, "5XX": {"model": model, "description": "Failed"}}
