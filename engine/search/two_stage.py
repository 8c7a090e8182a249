"""A two-stage search: `TwoStage.search` is all of it, from the query to its hits."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from ..collection.filters import Filter
from ..config import SearchSettings
from ..errors import InferenceError
from ..models.cross_encoder import CrossEncoder
from ..models.encoder import BiEncoder
from ..recall import RowMask
from ..recall.nearest import Nearest, Recalled
from ..result import Degraded, Hit, SearchResult
from ..scheduling.batcher import Batcher
from ..scheduling.job import Job
from ..scheduling.request_steps import Clock
from ..scoring.fusion import Fusion, Places, Ranking, Scored, Scores, rank
from ..text.tokenizer import checked
from ..text.tokens import Ids, TokenBatch, pack
from .candidates import Candidates
from .filter_stage import filter_job
from .placement import Placed
from .reranking import Reranking

# First stages remembered, one for each number of candidates and filter: the queries of one may share a micro-batch.
RECALLS = 128
NO_RERANKER = Degraded("no_reranker", "the collection has no reranker: hits are in recall's order")


@dataclass(frozen=True, slots=True)
class Query:
    """A query as both models read it, without special tokens; `cut`: it was longer than the encoder reads."""

    text: str
    encoder_ids: Ids
    reranker_ids: Ids
    cut: bool


class TwoStage:
    """Searches of the collection that is `placed`, on the device thread of `batcher`."""

    def __init__(
        self,
        encoder: BiEncoder,
        reranker: CrossEncoder | None,
        device: str,
        fusion: Fusion,
        placed: Placed,
        batcher: Batcher,
    ) -> None:
        self._collection = placed.collection
        self._encoder = encoder
        self._reranker = reranker
        self._device = device
        self._fusion = fusion
        self._placed = placed
        self._batcher = batcher
        self._reranking = None if reranker is None else Reranking(reranker, fusion, batcher)
        self._on_gpu = placed.searches(batcher)
        self._stages = lru_cache(RECALLS)(self._recall_stage)

    async def search(self, text: str, asked: SearchSettings, client: str = "") -> SearchResult:
        """Tokenise, recall, rerank, fetch; on a GPU the middle two in one piece where the search allows it."""
        clock = Clock(asked.budget_ms)
        query = self._tokenize(checked(text, "the query"))
        clock.lap("tokenize")
        if self._on_gpu is not None and self._on_gpu.takes(asked, clock):
            whole = await self._search_on_gpu(query, asked, clock, client)
            if whole is not None:
                return whole

        recalled = await self._recall(query, asked, clock, client)
        lexical, evidence, degraded = None, recalled.scores, None
        scored, passages = Scored.nothing(len(recalled.rows)), None
        if asked.rerank and self._reranking is not None:
            passages, lexical = self._read(query, recalled, clock)
            evidence = self._fusion.evidence(recalled.scores, lexical)
            candidates = Candidates(query.reranker_ids, passages, evidence, clock, client)
            scored, degraded = await self._reranking.score(candidates, asked)
        elif asked.rerank:
            degraded = NO_RERANKER

        ranking = rank(recalled.scores, evidence, scored, self._fusion)
        return self._result(
            query, self._hits(recalled, lexical, ranking, asked, clock), clock, passages, degraded,
            candidates=len(recalled.rows), reranked=scored.reranked, finalists=scored.finalists, reread=scored.reread,
        )  # fmt: skip

    async def _search_on_gpu(
        self, query: Query, asked: SearchSettings, clock: Clock, client: str
    ) -> SearchResult | None:
        """The whole search on the device; None where its pairs exceed the buffers there."""
        if self._on_gpu is None:
            return None
        single = self._encoder.tokenizer.single(pack([query.encoder_ids])).ids
        found = await self._on_gpu.search(single, query.reranker_ids, asked, clock, client)
        if found is None:
            return None
        recalled, lexical, ranking = found.by_place(min(asked.recalled, len(self._collection)))
        count = len(recalled.rows)
        return self._result(
            query, self._hits(recalled, lexical, ranking, asked, clock), clock,
            self._collection.tokens(found.rows), None, candidates=count, reranked=count, finalists=count, reread=0,
        )  # fmt: skip

    def _tokenize(self, text: str) -> Query:
        """Ids for the encoder and for the reranker: the same where tokenizers agree."""
        tokenizer = self._encoder.tokenizer
        prompted, cut = tokenizer.cut(self._encoder.prompted(text, "query"))
        ids = reranker_ids = tokenizer.encode(prompted)
        if self._reranker is not None and (
            prompted != text or self._reranker.tokenizer.fingerprint != tokenizer.fingerprint
        ):
            reranker_ids = self._reranker.tokenizer.encode(self._reranker.tokenizer.cut(text)[0])
        return Query(text, ids, reranker_ids, cut or len(ids) > tokenizer.text_room)

    async def _recall(self, query: Query, asked: SearchSettings, clock: Clock, client: str) -> Recalled:
        allowed = None if asked.filter is None else await self._allowed(asked.filter, clock, client)
        stage = self._stages(min(asked.recalled, len(self._collection)), allowed)
        batch = self._encoder.tokenizer.single(pack([query.encoder_ids]))
        served = await self._batcher.run(Job(stage, batch, urgent=True, client=client))
        recalled: Recalled = served.results[0]
        clock.spent(queue=served.queued, encode=recalled.encode_seconds, recall=recalled.search_seconds)
        return recalled

    async def _allowed(self, filters: Filter, clock: Clock, client: str) -> RowMask:
        """The passages that a filter leaves: remembered, or worked out in the client's turn at the device thread.

        Not cut by a budget: without them there is no answer, as without recall.
        """
        if (known := self._collection.filtered.known(filters)) is not None:
            return known
        served = await self._batcher.run(filter_job(self._collection, filters, client))
        clock.spent(queue=served.queued, recall=served.running)
        rows: RowMask = served.results[-1]
        return rows

    def _recall_stage(self, k: int, allowed: RowMask | None) -> RecallStage:
        index = self._placed.index if allowed is None else self._placed.under(allowed)
        return RecallStage(self._encoder, index, k)

    def _read(self, query: Query, recalled: Recalled, clock: Clock) -> tuple[TokenBatch, Scores]:
        """The candidates' token ids, and how much of the query's words each holds."""
        clock.mark()
        passages = self._collection.tokens(recalled.rows)
        lexical = self._collection.lexicon.scores(query.reranker_ids, passages)
        clock.lap("fetch")
        return passages, lexical

    def _hits(
        self, recalled: Recalled, lexical: Scores | None, ranking: Ranking, asked: SearchSettings, clock: Clock
    ) -> list[Hit]:
        clock.mark()
        places = self._returned(recalled, ranking.places, asked)
        hits = [
            Hit(
                rank=number,
                id=passage.id,
                document=passage.document,
                text=passage.text,
                title=passage.title,
                metadata=passage.metadata,
                score=float(ranking.scores[place]),
                recall_score=float(recalled.scores[place]),
                recall_rank=int(place) + 1,
                rerank_score=float(ranking.logits[place]) if np.isfinite(ranking.logits[place]) else None,
                lexical_score=None if lexical is None else float(lexical[place]),
            )
            for number, (place, passage) in enumerate(
                zip(places, self._collection.passages(recalled.rows[places]), strict=True), start=1
            )
        ]
        clock.lap("fetch")
        return hits

    def _returned(self, recalled: Recalled, places: Places, asked: SearchSettings) -> Places:
        """The best `top_k` of the `places`, of one document at most `per_document`."""
        if asked.per_document is None:
            return places[: asked.top_k]
        seen: Counter[str] = Counter()
        kept = []
        for place, document in zip(places, self._collection.documents(recalled.rows[places]), strict=True):
            seen[document] += 1
            if seen[document] <= asked.per_document:
                kept.append(place)
        return np.array(kept[: asked.top_k], dtype=np.int64)

    def _result(
        self,
        query: Query,
        hits: list[Hit],
        clock: Clock,
        passages: TokenBatch | None,
        degraded: Degraded | None,
        **counted: int,
    ) -> SearchResult:
        """What is answered; late is degraded too. `passages`: what the reranker read beside the query."""
        if degraded is None and (late := clock.late()) > 0:
            degraded = Degraded("late", f"budget: answered {late * 1e3:.0f} ms late")
        cut = query.cut
        if passages is not None and self._reranker is not None:
            cut |= self._reranker.tokenizer.cuts_query(query.reranker_ids, passages)
        return SearchResult(
            query=query.text, hits=hits, timings=clock.timings(), truncated=cut,
            degraded=None if degraded is None else degraded.text,
            degraded_code=None if degraded is None else degraded.code,
            device=self._device, version=self._collection.version, **counted,
        )  # fmt: skip


class RecallStage:
    """The first stage as a model of the device thread: queries that wait together share one encoding and one search."""

    def __init__(self, encoder: BiEncoder, index: Nearest, k: int) -> None:
        self._encoder = encoder
        self._index = index
        self._k = k
        self.cost = replace(encoder.cost)

    def run(self, batch: TokenBatch) -> Sequence[Recalled | InferenceError]:
        """The `k` nearest passages of each query of a micro-batch, as the encoder reads them (see `job.Model`)."""
        start = time.perf_counter()
        vectors = self._encoder.run(batch)
        seconds = time.perf_counter() - start
        found = iter(self._search([vector for vector in vectors if not isinstance(vector, Exception)], seconds))
        return [vector if isinstance(vector, InferenceError) else next(found) for vector in vectors]

    def _search(self, vectors: list[npt.NDArray[np.float32]], encode_seconds: float) -> list[Recalled]:
        if not vectors:
            return []
        start = time.perf_counter()
        scores, rows = self._index.search(np.stack(vectors), self._k)
        spent = time.perf_counter() - start
        # An inverted file on a GPU fills up with row -1 where its clusters held fewer.
        found = [row >= 0 for row in rows]
        return [
            Recalled(row[real], score[real], encode_seconds, spent)
            for row, score, real in zip(rows, scores, found, strict=True)
        ]
