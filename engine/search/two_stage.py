"""Two-stage search. `TwoStage.story` is the whole story."""

from __future__ import annotations

from collections.abc import Generator
from concurrent.futures import Future
from functools import lru_cache
from typing import Any

import numpy as np

from ..config import SearchSettings
from ..models.cross_encoder import CrossEncoder
from ..models.encoder import BiEncoder
from ..platform.device import Device
from ..recall import RowMask
from ..recall.nearest import Recalled
from ..result import Hit, SearchResult
from ..scheduling.batcher import Batcher
from ..scheduling.job import Job, Served
from ..scheduling.request_steps import Clock, Steps, served_to
from ..scoring.fusion import Fusion, Scores
from ..scoring.ranking import Ranking, rank
from ..text.tokens import Ids, TokenBatch, cumulative
from ..text.validation import checked
from .candidates import Candidates, Scored
from .placement import Placed
from .recall_stage import RecallStage
from .reranking import Reranking

# First stages remembered, one for each number of candidates and filter: the queries of one may share a micro-batch.
RECALLS = 128
NO_RERANKER = "the collection has no reranker: hits are in recall's order"


class TwoStage:
    """Searches of the collection that is `placed`, on the device thread of `batcher`."""

    def __init__(
        self,
        encoder: BiEncoder,
        reranker: CrossEncoder | None,
        device: Device,
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
        self._resident = placed.searches(batcher)
        self._recall = lru_cache(RECALLS)(self._make_recall)

    def story(self, query: str, settings: SearchSettings, client: str = "") -> Steps[SearchResult]:
        """Tokenise, recall, rerank, fetch."""
        clock = Clock(settings.budget_ms)
        encoder_ids, reranker_ids, truncated = self._tokenize(checked(query, "the query"))
        clock.lap("tokenize")

        whole = yield from self._on_device(query, encoder_ids, reranker_ids, truncated, settings, clock, client)
        if whole is not None:
            return whole
        clock.mark()
        allowed = None if (wanted := settings.filter()) is None else self._collection.allowed(wanted)
        clock.lap("recall")
        served = served_to((yield self._submit_recall(encoder_ids, settings.candidates, allowed, client)))
        recalled: Recalled = served.results[0]
        clock.spent(queue=served.queued, encode=recalled.encode_seconds, recall=recalled.search_seconds)

        scored = Scored.nothing(len(recalled.rows), NO_RERANKER if settings.rerank else None)
        lexical, evidence = None, recalled.scores
        if settings.rerank and self._reranking is not None:
            passages, lexical = self._read(reranker_ids, recalled, clock)
            evidence = self._fusion.evidence(recalled.scores, lexical)
            truncated |= self._cuts(reranker_ids, passages)
            scored = yield from self._reranking.score(
                Candidates(reranker_ids, passages, evidence, clock, client),
                count=settings.read, finalists=settings.read_whole, reread=settings.reread or 0,
            )  # fmt: skip

        ranking = rank(recalled.scores, evidence, scored.logits, self._fusion, scored.early, scored.again)
        hits = self._hits(recalled, lexical, ranking, settings.top_k, clock)
        return self._result(
            query, hits, clock, reranked=scored.reranked, finalists=scored.finalists, reread=scored.reread,
            candidates=len(recalled.rows), truncated=truncated, degraded=scored.degraded,
        )  # fmt: skip

    def _on_device(
        self,
        query: str,
        encoder_ids: Ids,
        reranker_ids: Ids,
        truncated: bool,
        settings: SearchSettings,
        clock: Clock,
        client: str,
    ) -> Generator[Future[Served], Served | None, SearchResult | None]:
        """A whole search on the device; None where it goes stage by stage, also since its pairs exceed the buffers."""
        if self._resident is None or not self._resident.takes(settings, clock):
            return None
        single = self._encoder.tokenizer.single(_one(encoder_ids)).ids
        found = yield from self._resident.search(single, reranker_ids, settings, clock, client)
        if found is None:
            return None
        recalled, lexical, ranking = found.by_place(min(settings.candidates, len(self._collection)))
        hits = self._hits(recalled, lexical, ranking, settings.top_k, clock)
        truncated |= self._cuts(reranker_ids, self._collection.tokens(found.rows))
        count = len(recalled.rows)
        return self._result(
            query, hits, clock, reranked=count, finalists=count, candidates=count, truncated=truncated, degraded=None
        )

    def _tokenize(self, query: str) -> tuple[Ids, Ids, bool]:
        """Ids for the encoder and for the reranker (the same where tokenizers agree), and whether something was cut."""
        tokenizer = self._encoder.tokenizer
        text, cut = tokenizer.cut(self._encoder.prompted(query, "query"))
        ids = tokenizer.encode(text)
        reranker_ids = ids
        if self._reranker is not None and (
            text != query or self._reranker.tokenizer.fingerprint != tokenizer.fingerprint
        ):
            reranker_ids = self._reranker.tokenizer.encode(self._reranker.tokenizer.cut(query)[0])
        return ids, reranker_ids, cut or len(ids) > tokenizer.text_room

    def _submit_recall(self, ids: Ids, candidates: int, allowed: RowMask | None, client: str) -> Future[Served]:
        tokenizer = self._encoder.tokenizer
        k = min(candidates, len(self._collection))
        batch = tokenizer.single(_one(ids))
        return self._batcher.submit(Job(self._recall(k, allowed), batch, urgent=True, client=client))

    def _make_recall(self, k: int, allowed: RowMask | None) -> RecallStage:
        index = self._placed.index if allowed is None else self._placed.under(allowed)
        return RecallStage(self._encoder, index, k)

    def _read(self, query: Ids, recalled: Recalled, clock: Clock) -> tuple[TokenBatch, Scores]:
        """The candidates' token ids, and how much of the query's words each holds."""
        clock.mark()
        passages = self._collection.tokens(recalled.rows)
        lexical = self._collection.lexicon.scores(query, passages)
        clock.lap("fetch")
        return passages, lexical

    def _cuts(self, query: Ids, passages: TokenBatch) -> bool:
        """Whether the query does not fit beside some passage."""
        return self._reranker is not None and self._reranker.tokenizer.cuts_query(query, passages)

    def _hits(
        self, recalled: Recalled, lexical: Scores | None, ranking: Ranking, top_k: int, clock: Clock
    ) -> list[Hit]:
        clock.mark()
        places = ranking.places[:top_k]
        rows = recalled.rows[places]
        collection = self._collection
        texts, titles = collection.texts(rows), collection.titles(rows)
        ids, documents, metadata = collection.ids(rows), collection.documents(rows), collection.metadata(rows)
        hits = [
            Hit(
                id=ids[i],
                document=documents[i],
                text=texts[i],
                title=titles[i],
                metadata=metadata[i],
                score=float(ranking.scores[place]),
                recall_score=float(recalled.scores[place]),
                recall_rank=int(place) + 1,
                rerank_score=float(ranking.logits[place]) if np.isfinite(ranking.logits[place]) else None,
                lexical_score=None if lexical is None else float(lexical[place]),
            )
            for i, place in enumerate(places)
        ]
        clock.lap("fetch")
        return hits

    def _result(
        self, query: str, hits: list[Hit], clock: Clock, *, degraded: str | None, **counted: Any
    ) -> SearchResult:
        """What is answered; late is degraded too."""
        if degraded is None and (late := clock.late()) > 0:
            degraded = f"budget: answered {late * 1e3:.0f} ms late"
        return SearchResult(
            query=query, hits=hits, timings=clock.timings(), degraded=degraded, device=self._device.kind,
            version=self._collection.version, **counted,
        )  # fmt: skip


def _one(ids: Ids) -> TokenBatch:
    return TokenBatch(ids, cumulative([len(ids)]))
