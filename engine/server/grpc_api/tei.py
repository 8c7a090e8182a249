"""Text Embeddings Inference's calls: info, embed, rerank."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version

from ...result import RerankResult, Timings
from ...text.prompting import PromptWish
from ...text.tokens import Truncate
from ..errors import Failure
from ..routes.calls import unit
from ..routes.shared import scaled
from ..service import Service
from ..target import ANY, name_of, needed_encoder
from . import tei_v1_pb2 as v1
from .guard import Caller

INFO, EMBED, RERANK = "tei.v1.Info", "tei.v1.Embed", "tei.v1.Rerank"


class TeiMethods:
    """What the calls do, by the service: with the first model that can, since they name none."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def info(self, request: v1.InfoRequest, asked: Caller) -> v1.InfoResponse:
        """As /info."""
        facts, settings = self._service.main_facts(), self._service.settings
        served = facts.reranker or needed_encoder(facts)
        return v1.InfoResponse(
            version=version("tandem"), model_id=name_of(facts, served), model_sha=served.fingerprint,
            model_dtype=served.precision,
            model_type=v1.MODEL_TYPE_EMBEDDING if facts.reranker is None else v1.MODEL_TYPE_RERANKER,
            max_concurrent_requests=settings.max_concurrent_requests, max_input_length=served.max_length,
            max_batch_tokens=served.cost.tokens, max_client_batch_size=settings.max_documents,
            tokenization_workers=facts.threads,
        )  # fmt: skip

    async def embed(self, request: v1.EmbedRequest, asked: Caller) -> v1.EmbedResponse:
        """The vector of a text."""
        wish = PromptWish(request.prompt_name if request.HasField("prompt_name") else None)
        with self._service.lease_for("encoder", ANY) as lease:
            similarity = needed_encoder(lease.facts).similarity
            found = await self._service.embed(
                lease, [request.inputs], wish, truncate=_side(request), remaining=asked.remaining, client=asked.client
            )
        vectors = unit(found.vectors) if request.normalize and similarity == "dot" else found.vectors
        return v1.EmbedResponse(
            embeddings=vectors[0].tolist(), metadata=_metadata(found.timings, found.tokens, len(request.inputs))
        )

    async def rerank(self, request: v1.RerankRequest, asked: Caller) -> v1.RerankResponse:
        """Texts by their scores, best first."""
        texts = list(request.texts)
        found = await self._ranked(request.query, texts, _side(request), asked)
        return _response(found, request.query, texts, request.raw_scores, request.return_text)

    async def rerank_stream(self, requests: list[v1.RerankStreamRequest], asked: Caller) -> v1.RerankResponse:
        """The same for texts that come one by one."""
        if not requests:
            raise Failure("empty", "no message was sent; give at least one")
        first, texts = requests[0], [each.text for each in requests]
        found = await self._ranked(first.query, texts, _side(first), asked)
        return _response(found, first.query, texts, first.raw_scores, first.return_text)

    async def _ranked(self, query: str, texts: list[str], side: Truncate | None, asked: Caller) -> RerankResult:
        if not texts:
            raise Failure("empty", "texts is empty; give at least one")
        with self._service.lease_for("reranker", ANY) as lease:
            return await self._service.rerank(
                lease, query, texts, truncate=side, remaining=asked.remaining, client=asked.client
            )


def _side(request: v1.EmbedRequest | v1.RerankRequest | v1.RerankStreamRequest) -> Truncate | None:
    """Long texts are cut whatever `truncate` says, as /info tells: in protocol buffers false is what nobody said. The
    right side is what nobody said, too: there the model decides."""
    return "left" if request.truncation_direction == v1.TRUNCATION_DIRECTION_LEFT else None


def _response(found: RerankResult, query: str, texts: Sequence[str], raw: bool, return_text: bool) -> v1.RerankResponse:
    ranks = [
        v1.Rank(index=each.index, score=scaled(each.score, raw), text=texts[each.index] if return_text else None)
        for each in found.passages
    ]
    characters = len(query) + sum(map(len, texts))
    return v1.RerankResponse(ranks=ranks, metadata=_metadata(found.timings, found.tokens, characters))


def _metadata(timings: Timings, tokens: int, characters: int) -> v1.Metadata:
    nanoseconds = {
        "total_time_ns": timings.total,
        "tokenization_time_ns": timings.tokenize,
        "queue_time_ns": timings.queue,
        "inference_time_ns": timings.encode + timings.rerank,
    }
    return v1.Metadata(
        compute_chars=characters, compute_tokens=tokens,
        **{name: round(milliseconds * 1e6) for name, milliseconds in nanoseconds.items()},
    )  # fmt: skip
