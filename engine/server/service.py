"""What the routes share: the engine once it is open, admission, metrics, and the state of the server."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from ..config import SearchSettings
from ..cross_encoder import CrossEncoder
from ..encoder import TextKind
from ..engine import Engine
from ..result import Embedded, RerankResult, SearchResult
from .admission import Admission, Work, lengths_of, work_of
from .errors import Failure
from .metrics import Metrics
from .settings import ServerSettings

# Rows whose lengths tell the mean length of a collection's passages.
SAMPLE = 256


class Service:
    """One server. Belongs to the event loop; the engine has its own threads."""

    def __init__(self, settings: ServerSettings, engine: Engine | None = None) -> None:
        """Without an engine the server lives and is not ready; `opened` brings it."""
        self.settings = settings
        self.metrics = Metrics()
        self.admission = Admission(settings.max_queue_tokens, settings.max_concurrent_requests)
        self.in_flight: set[asyncio.Future[Any]] = set()
        self.draining = False
        self.closing = False
        self._engine: Engine | None = None
        self._passage_tokens = 0
        self._gauges()
        if engine is not None:
            self.opened(engine)

    def opened(self, engine: Engine) -> None:
        """The engine is there: be ready."""
        rows = np.linspace(0, max(0, len(engine.collection) - 1), min(SAMPLE, len(engine.collection)), dtype=np.int64)
        if engine.reranker is not None and len(rows):
            self._passage_tokens = int(engine.collection.tokens(rows).lengths.mean())
        engine.batcher.on_batch = self.metrics.batch
        self.metrics.device.labels(engine.device.kind).set(1)
        self._engine = engine

    @property
    def is_ready(self) -> bool:
        """Whether new requests should be sent here."""
        return self._engine is not None and not self.draining and self._engine.batcher.broken is None

    @property
    def engine(self) -> Engine:
        """The open engine; raises Failure `unavailable` while it is loading or when the server goes down."""
        if self._engine is None:
            raise Failure("unavailable", "the models are being loaded; try again soon", retry_after=2)
        if self.closing:
            raise Failure("unavailable", "the server is going down; try another one", retry_after=5, close=True)
        return self._engine

    @property
    def reranker(self) -> CrossEncoder:
        """The cross-encoder; raises Failure where the collection has none."""
        if self.engine.reranker is None:
            raise Failure("validation", "this server's collection has no reranker", status_override=422)
        return self.engine.reranker

    def abort(self) -> None:
        """End every request in flight with 503."""
        for task in list(self.in_flight):
            task.cancel()

    async def search(self, query: str, chosen: SearchSettings, remaining: float) -> SearchResult:
        """One admitted search."""
        engine = self.engine
        count = min(chosen.candidates, len(engine.collection))
        work = Work(len(query) // 4, 0.0)
        if engine.reranker is not None and chosen.rerank:
            budget = None if chosen.budget_ms is None else chosen.budget_ms / 1e3
            work = work_of(self._stored(count, query, engine.reranker), engine.reranker.cost, at_most=budget)
        with self.admission.reserve(work, remaining):
            result = await engine.asearch(query, **chosen.model_dump())
        self.metrics.timings(result.timings)
        if result.degraded:
            self.metrics.degraded.labels(
                result.degraded.partition(":")[0] if "budget" in result.degraded else "no reranker"
            ).inc()
        return result

    async def rerank(
        self,
        query: str,
        texts: Sequence[str] | None = None,
        *,
        ids: Sequence[str] | None = None,
        truncate: bool = True,
        passage_tokens: int | None = None,
        remaining: float,
    ) -> RerankResult:
        """One admitted rerank, whole or not at all."""
        reranker = self.reranker
        count = len(texts if texts is not None else ids or ())
        self._check_count(count, self.settings.max_documents, "documents")
        self._check_characters([query], "the query")
        if texts is not None:
            self._check_characters(texts, "document")
            estimated = lengths_of(_characters(texts), len(query) // 4, reranker.tokenizer.max_length)
        else:
            estimated = self._stored(count, query, reranker)
        with self.admission.reserve(work_of(estimated, reranker.cost), remaining):
            result = await self.engine.arerank(query, texts, ids=ids, truncate=truncate, passage_tokens=passage_tokens)
        self.metrics.timings(result.timings, result.tokens)
        return result

    async def embed(
        self, texts: Sequence[str], kind: TextKind | None = None, *, truncate: bool = True, remaining: float
    ) -> Embedded:
        """One admitted embedding request, whole or not at all."""
        encoder = self.engine.encoder
        self._check_count(len(texts), self.settings.max_inputs, "inputs")
        self._check_characters(texts, "input")
        estimated = lengths_of(_characters(texts), 2, encoder.tokenizer.max_length)
        with self.admission.reserve(work_of(estimated, encoder.cost), remaining):
            result = await self.engine.aembed(texts, kind, truncate=truncate)
        self.metrics.timings(result.timings, result.tokens)
        return result

    def check_inputs(self, texts: Sequence[str], limit: int) -> None:
        """Raises Failure for too many `texts`, or for one of more than `limit` characters."""
        self._check_count(len(texts), self.settings.max_inputs, "inputs")
        self._check_characters(texts, "input", limit)

    def _check_count(self, count: int, limit: int, what: str) -> None:
        if count > limit:
            raise Failure("validation", f"{count} {what} exceed the limit of {limit}; split the request", param=what)

    def _check_characters(self, texts: Sequence[str], what: str, limit: int | None = None) -> None:
        limit = limit or self.settings.max_text_characters
        for place, text in enumerate(texts):
            if len(text) > limit:
                which = what if what == "the query" else f"{what} {place}"
                raise Failure("validation", f"{which} has {len(text)} characters; the limit is {limit}", param=what)

    def _stored(self, count: int, query: str, reranker: CrossEncoder) -> npt.NDArray[np.int64]:
        length = min(self._passage_tokens + len(query) // 4 + 3, reranker.tokenizer.max_length)
        return np.full(count, length, dtype=np.int64)

    def _gauges(self) -> None:
        def batcher(name: str) -> float:
            return float(getattr(self._engine.batcher, name)) if self._engine is not None else 0.0

        self.metrics.te_queue_size.set_function(partial(batcher, "waiting_jobs"))
        self.metrics.gauge("tandem_queue_tokens", "Tokens that wait for the device", partial(batcher, "waiting_tokens"))
        self.metrics.gauge("tandem_reserved_tokens", "Tokens of admitted requests", lambda: self.admission.tokens)
        self.metrics.gauge("tandem_in_flight", "Requests in flight", lambda: len(self.in_flight))
        self.metrics.gauge("tandem_ready", "1 when new requests should come here", lambda: self.is_ready)


def _characters(texts: Sequence[str]) -> npt.NDArray[np.int64]:
    return np.array([len(text) for text in texts], dtype=np.int64)
