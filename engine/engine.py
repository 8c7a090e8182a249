"""Engine: two-stage search over a collection. `_search` is the whole story."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from .batcher import Batcher
from .collection import Collection, Pointer
from .config import EngineSettings, SearchSettings
from .cross_encoder import CrossEncoder
from .device import Device, choose
from .encoder import BiEncoder, TextKind
from .errors import InputError
from .fusion import Fusion, Scores
from .jobs import Job, Served
from .model import LoadedModel
from .opening import artifact_of
from .placing import Placed, place, plan_memory
from .ranking import Ranking, rank
from .recall import Allowed, Filtered
from .reranking import Reranking, Scored, cut_short
from .result import Embedded, Hit, Reranked, RerankResult, SearchResult
from .stages import Recall, Recalled
from .story import Clock, Story, drive, drive_async, drive_together, served_to
from .text import checked, checked_all
from .tokenizer import Tokenizer
from .tokens import Ids, TokenBatch, cumulative

# Queries of `search_many` in flight together: enough to fill every micro-batch, few enough for the queue's limit.
WINDOW = 32
# First stages remembered, one for each number of candidates and filter: the queries of one may share a micro-batch.
RECALLS = 128
NO_RERANKER = "the collection has no reranker: hits are in recall's order"


class Engine:
    """Both models and a collection, open on one device. Thread-safe; close it, or use it in a `with` block."""

    def __init__(
        self,
        collection: Collection,
        encoder: BiEncoder,
        reranker: CrossEncoder | None,
        device: Device,
        settings: EngineSettings,
        placed: Placed | None = None,
    ) -> None:
        """Takes parts that fit together; `Engine.open` finds and checks them.

        `placed`: where recall and the pipeline are; None: recall on the CPU, searches stage by stage.
        """
        self.collection = collection
        self.encoder = encoder
        self.reranker = reranker
        self.device = device
        self.fusion = _fusion(collection, reranker, settings)
        self._batcher = Batcher(settings.queue_tokens)
        self._reranking = None if reranker is None else Reranking(reranker, self.fusion, self._batcher)
        self.placed = placed or Placed(collection, collection.index, None, {})
        self._recall = lru_cache(RECALLS)(self._make_recall)
        self._resident = self.placed.searches(self._batcher)
        # Where awaited requests tokenise, join pairs and fetch: not on the event loop, and no more at once than cores.
        self._steps = ThreadPoolExecutor(max(2, device.threads), thread_name_prefix="tandem-step")

    @classmethod
    def open(
        cls,
        collection: str | Path,
        *,
        encoder: str | Path | None = None,
        reranker: str | Path | None = None,
        version: Pointer | None = None,
        **settings: Any,
    ) -> Engine:
        """Open a collection with the models it was indexed with.

        `encoder` and `reranker` say where the artifacts are when they are no longer where the collection remembers
        them; `version` is another than the collection's current one; `settings` are those of `EngineSettings` (device,
        threads, precisions, recall_weight, …).

        Raises CollectionError, ArtifactError, DeviceError or InputError.
        """
        chosen = EngineSettings(**settings)
        device = choose(chosen.device, chosen.threads)
        opened = Collection.open(collection, version=version, threads=device.threads)
        models = opened.manifest.models
        first = artifact_of(opened, models.encoder, encoder, "bi-encoder")
        second = None if models.reranker is None else artifact_of(opened, models.reranker, reranker, "cross-encoder")
        memory = plan_memory(opened, first, second, device, chosen)
        bi_encoder = BiEncoder(first, device, chosen.encoder_precision, runtime=chosen.runtime)
        cross_encoder = None
        if second is not None:
            cross_encoder = CrossEncoder(
                second, device, chosen.reranker_precision, runtime=chosen.runtime, early_exit=chosen.early_exit
            )
        fusion = _fusion(opened, cross_encoder, chosen)
        placed = place(opened, bi_encoder, cross_encoder, device, chosen, memory, fusion)
        if chosen.warm_up:
            for model in filter(None, (bi_encoder, cross_encoder)):
                model.warm_up()
            if placed.pipeline is not None:
                placed.pipeline.warm_up(SearchSettings().candidates)
        return cls(opened, bi_encoder, cross_encoder, device, chosen, placed)

    def search(self, query: str, **settings: Any) -> SearchResult:
        """The passages that answer `query`, best first.

        `settings` are those of `SearchSettings`: top_k=10, candidates=100, budget_ms=250 (None: no limit), rerank=True,
        finalists=20 (read by all layers of a reranker with an early exit), filters=None (on metadata, as
        {"year": {"$gte": 2020}}; see `filters`). Within the budget as many candidates as fit are reranked, in the order
        of the first stage's evidence; `result.degraded` tells when that was not all of them.

        Raises InputError, Overloaded, EngineClosed or InferenceError.
        """
        return drive(self._search(query, SearchSettings(**settings)))

    async def asearch(self, query: str, *, client: str = "", **settings: Any) -> SearchResult:
        """`search`, awaited: any number may be in flight, without a thread each. Clients take turns at the device."""
        return await drive_async(self._search(query, SearchSettings(**settings), client), self._steps)

    def search_many(self, queries: Sequence[str], **settings: Any) -> list[SearchResult]:
        """`search` for each query, WINDOW of them in flight together; without `budget_ms` given, none applies."""
        chosen = SearchSettings(**{"budget_ms": None, **settings})
        parts = [queries[start : start + WINDOW] for start in range(0, len(queries), WINDOW)]
        return [result for part in parts for result in self._together(part, chosen)]

    def _together(self, queries: Sequence[str], chosen: SearchSettings) -> list[SearchResult]:
        return drive_together([self._search(query, chosen) for query in queries])

    def embed(self, texts: Sequence[str], kind: TextKind = "query") -> npt.NDArray[np.float32]:
        """float32 [n, d]: unit vectors of `texts`, with the model's prompt for that kind of text."""
        if kind not in ("query", "passage"):
            raise InputError(f"kind {kind!r} is unknown; choose query or passage")
        return drive(self._embed(texts, kind, truncate=True)).vectors

    async def aembed(
        self, texts: Sequence[str], kind: TextKind | None = None, *, truncate: bool = True, client: str = ""
    ) -> Embedded:
        """Unit vectors of `texts`, with the model's prompt for that `kind` of text (None: the text as it is).

        Raises InputError, also for a text longer than the model reads when `truncate` is off.
        """
        return await drive_async(self._embed(texts, kind, truncate=truncate, client=client), self._steps)

    def rerank(
        self, query: str, texts: Sequence[str] | None = None, *, ids: Sequence[str] | None = None
    ) -> list[Reranked]:
        """The caller's passages in the cross-encoder's order, best first: `texts`, or `ids` of stored passages.

        Raises InputError when neither or both are given, or an id is not in the collection.
        """
        return drive(self._rerank(query, texts, ids, truncate=True, passage_tokens=None)).passages

    async def arerank(
        self,
        query: str,
        texts: Sequence[str] | None = None,
        *,
        ids: Sequence[str] | None = None,
        truncate: bool = True,
        passage_tokens: int | None = None,
        budget_ms: float | None = None,
        client: str = "",
    ) -> RerankResult:
        """`rerank`, awaited. `passage_tokens` cuts passages; without `truncate`, too long a pair is an InputError.

        Within `budget_ms` as many as fit are scored, in the order given; the others follow them with the lowest score
        that was given, and `degraded` says so.
        """
        story = self._rerank(
            query, texts, ids, truncate=truncate, passage_tokens=passage_tokens, budget_ms=budget_ms, client=client
        )
        return await drive_async(story, self._steps)

    @property
    def models(self) -> list[LoadedModel]:
        """What is loaded: the encoder, the reranker, its early exit, as far as there are."""
        early = None if self.reranker is None else self.reranker.early
        return [model for model in (self.encoder, self.reranker, early) if model is not None]

    @property
    def choices(self) -> dict[str, str]:
        """What runs each part and why, in words: the device, both models, recall, the pipeline."""
        models = {"encoder": self.encoder, "reranker": self.reranker}
        return {
            "device": f"{self.device.kind}: {self.device.reason}",
            **{
                name: f"{model.choice.runtime} {model.precision}: {model.choice.reason}"
                for name, model in models.items()
                if model is not None
            },
            **({} if self.reranker is None else {"early exit": self.reranker.exit_reason}),
            **self.placed.reasons,
        }

    @property
    def batcher(self) -> Batcher:
        """The device thread and its queues, for gauges."""
        return self._batcher

    def close(self) -> None:
        """Stop the device thread; requests that wait get EngineClosed."""
        self._batcher.close()
        self._steps.shutdown(cancel_futures=True)

    def __enter__(self) -> Engine:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _search(self, query: str, settings: SearchSettings, client: str = "") -> Story[SearchResult]:
        clock = Clock(settings.budget_ms)
        encoder_ids, reranker_ids, truncated = self._tokenize(checked(query, "the query"))
        clock.lap("tokenize")

        if self._resident is not None and self._resident.takes(settings, clock):
            whole = yield from self._search_resident(
                query, (encoder_ids, reranker_ids), truncated, settings, clock, client
            )
            if whole is not None:
                return whole
        clock.mark()
        allowed = None if (wanted := settings.filter()) is None else self.collection.allowed(wanted)
        clock.lap("recall")
        served = served_to((yield self._submit_recall(encoder_ids, settings.candidates, allowed, client)))
        recalled: Recalled = served.results[0]
        clock.spent(queue=served.queued, encode=recalled.encode_seconds, recall=recalled.search_seconds)

        scored = Scored.nothing(len(recalled.rows), NO_RERANKER if settings.rerank else None)
        lexical, evidence = None, recalled.scores
        if settings.rerank and self._reranking is not None:
            passages, lexical = self._read(reranker_ids, recalled, clock)
            evidence = self.fusion.evidence(recalled.scores, lexical)
            truncated |= self._needed_reranker().tokenizer.cuts_query(reranker_ids, passages)
            scored = yield from self._reranking.score(
                reranker_ids, passages, evidence, settings.read_whole, clock, client
            )

        ranking = rank(recalled.scores, evidence, scored.logits, self.fusion, scored.early)
        degraded = scored.degraded
        clock.mark()
        hits = self._hits(recalled, lexical, ranking, settings.top_k)
        clock.lap("fetch")
        if degraded is None and (late := clock.late()) > 0:
            degraded = f"budget: answered {late * 1e3:.0f} ms late"
        return SearchResult(
            query=query,
            hits=hits,
            timings=clock.timings(),
            reranked=scored.reranked,
            finalists=scored.finalists,
            candidates=len(recalled.rows),
            degraded=degraded,
            truncated=truncated,
            device=self.device.kind,
            version=self.collection.version,
        )

    def _search_resident(
        self,
        query: str,
        ids: tuple[Ids, Ids],
        truncated: bool,
        settings: SearchSettings,
        clock: Clock,
        client: str,
    ) -> Generator[Future[Served], Served | None, SearchResult | None]:
        """A whole search on the device; None where its pairs exceed the largest buffer there."""
        if self._resident is None:
            return None
        found = yield from self._resident.search(
            self.encoder.tokenizer.single(_one(ids[0])).ids, ids[1], settings, clock, client
        )
        if found is None:
            return None
        clock.mark()
        recalled, lexical, ranking = found.by_place(min(settings.candidates, len(self.collection)))
        hits = self._hits(recalled, lexical, ranking, settings.top_k)
        truncated |= self._needed_reranker().tokenizer.cuts_query(ids[1], self.collection.tokens(found.rows))
        clock.lap("fetch")
        late = clock.late()
        return SearchResult(
            query=query,
            hits=hits,
            timings=clock.timings(),
            reranked=len(recalled.rows),
            finalists=len(recalled.rows),
            candidates=len(recalled.rows),
            degraded=f"budget: answered {late * 1e3:.0f} ms late" if late > 0 else None,
            truncated=truncated,
            device=self.device.kind,
            version=self.collection.version,
        )

    def _embed(
        self, texts: Sequence[str], kind: TextKind | None, *, truncate: bool, client: str = ""
    ) -> Story[Embedded]:
        clock = Clock(None)
        tokenizer = self.encoder.tokenizer
        prompted = [self.encoder.prompted(text, kind) if kind else text for text in checked_all(texts)]
        if not prompted:
            return Embedded(np.empty((0, self.encoder.dimension), dtype=np.float32), 0, 0, clock.timings())
        cuts = [tokenizer.cut(text) for text in prompted]
        ids = tokenizer.encode_many([text for text, _ in cuts])
        long = (ids.lengths > tokenizer.text_room) | np.array([cut for _, cut in cuts])
        if not truncate:
            _refuse_long(long, "text", tokenizer.max_length)
        batch = tokenizer.single(ids)
        clock.lap("tokenize")

        served = served_to((yield self._batcher.submit(Job(self.encoder, batch, client=client))))
        clock.spent(queue=served.queued, encode=served.running)
        return Embedded(np.stack(served.results), len(batch.ids), int(long.sum()), clock.timings())

    def _rerank(
        self,
        query: str,
        texts: Sequence[str] | None,
        ids: Sequence[str] | None,
        *,
        truncate: bool,
        passage_tokens: int | None,
        budget_ms: float | None = None,
        client: str = "",
    ) -> Story[RerankResult]:
        reranker = self._needed_reranker()
        if (texts is None) == (ids is None):
            raise InputError("rerank takes texts or ids of stored passages: give one of the two")
        clock = Clock(budget_ms)
        tokenizer = reranker.tokenizer
        text, cut = tokenizer.cut(checked(query, "the query"))
        query_ids = tokenizer.encode(text)
        passages, long = self._passages(texts, ids, tokenizer)
        if not len(passages):
            return RerankResult([], 0, clock.timings())
        if passage_tokens is not None:
            long = np.where(passages.lengths > passage_tokens, False, long)
            passages = passages.heads(passage_tokens)
        long |= cut | (len(query_ids) + passages.lengths + tokenizer.pair_special > tokenizer.max_length)
        if not truncate:
            _refuse_long(long, "passage", tokenizer.max_length)
        pairs = tokenizer.pairs(query_ids, passages)
        clock.lap("tokenize")

        served = served_to((yield self._batcher.submit(Job(reranker, pairs, deadline=clock.deadline, client=client))))
        clock.spent(queue=served.queued, rerank=served.running)
        logits = _filled(served.results)
        if ids is not None:
            texts = self.collection.texts([self.collection.row_of(name) for name in ids])
        ranked = [
            Reranked(
                index=int(row),
                score=float(logits[row]),
                text=texts[row] if texts is not None else None,
                id=ids[row] if ids is not None else None,
                truncated=bool(long[row]),
            )
            for row in np.argsort(-logits, kind="stable")
        ]
        return RerankResult(ranked, len(pairs.ids), clock.timings(), cut_short(served))

    def _passages(
        self, texts: Sequence[str] | None, ids: Sequence[str] | None, tokenizer: Tokenizer
    ) -> tuple[TokenBatch, npt.NDArray[np.bool_]]:
        """Token ids of the caller's passages, or of stored ones, and bool [n]: which were cut before tokenising."""
        if ids is not None:
            rows = np.array([self.collection.row_of(name) for name in ids], dtype=np.int64)
            return self.collection.tokens(rows), np.zeros(len(rows), dtype=np.bool_)
        cuts = [tokenizer.cut(text) for text in checked_all(texts or [])]
        return tokenizer.encode_many([text for text, _ in cuts]), np.array([cut for _, cut in cuts], dtype=np.bool_)

    def _tokenize(self, query: str) -> tuple[Ids, Ids, bool]:
        """Ids for the encoder and for the reranker (the same where tokenizers agree), and whether something was cut."""
        tokenizer = self.encoder.tokenizer
        text, cut = tokenizer.cut(self.encoder.prompted(query, "query"))
        ids = tokenizer.encode(text)
        reranker_ids = ids
        if self.reranker is not None and (
            text != query or self.reranker.tokenizer.fingerprint != tokenizer.fingerprint
        ):
            reranker_ids = self.reranker.tokenizer.encode(self.reranker.tokenizer.cut(query)[0])
        return ids, reranker_ids, cut or len(ids) > tokenizer.text_room

    def _submit_recall(self, ids: Ids, candidates: int, allowed: Allowed | None, client: str) -> Future[Served]:
        tokenizer = self.encoder.tokenizer
        k = min(candidates, len(self.collection))
        batch = tokenizer.single(_one(ids))
        return self._batcher.submit(Job(self._recall(k, allowed), batch, urgent=True, client=client))

    def _make_recall(self, k: int, allowed: Allowed | None) -> Recall:
        """Under a filter on the host, whose indexes honour it: those on a GPU do not."""
        index = self.placed.index if allowed is None else Filtered(self.collection.index, allowed)
        return Recall(self.encoder, index, k)

    def _read(self, query: Ids, recalled: Recalled, clock: Clock) -> tuple[TokenBatch, Scores]:
        """The candidates' token ids, and how much of the query's words each holds."""
        clock.mark()
        passages = self.collection.tokens(recalled.rows)
        lexical = self.collection.lexicon.scores(query, passages)
        clock.lap("fetch")
        return passages, lexical

    def _hits(self, recalled: Recalled, lexical: Scores | None, ranking: Ranking, top_k: int) -> list[Hit]:
        places = ranking.places[:top_k]
        rows = recalled.rows[places]
        collection = self.collection
        texts, titles = collection.texts(rows), collection.titles(rows)
        ids, documents, metadata = collection.ids(rows), collection.documents(rows), collection.metadata(rows)
        return [
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

    def _needed_reranker(self) -> CrossEncoder:
        if self.reranker is None:
            raise InputError("this collection has no reranker; search with rerank=False, or index it with --reranker")
        return self.reranker


def _refuse_long(long: npt.NDArray[np.bool_], what: str, max_length: int) -> None:
    if long.any():
        raise InputError(
            f"{what} {int(np.argmax(long))} is longer than the {max_length} tokens that the model reads, and "
            "truncation was turned off"
        )


def _one(ids: Ids) -> TokenBatch:
    return TokenBatch(ids, cumulative([len(ids)]))


def _filled(results: list[Any]) -> npt.NDArray[np.float32]:
    """float32 [n]: the logits, the lowest of them where the deadline came first (0 where it left none)."""
    lowest = min((logit for logit in results if logit is not None), default=0.0)
    return np.array([lowest if logit is None else logit for logit in results], dtype=np.float32)


def _fusion(collection: Collection, reranker: CrossEncoder | None, settings: EngineSettings) -> Fusion:
    """The weights asked for, else the collection's own, else the reranker's fitted ones."""
    fusion = collection.fusion or (reranker.artifact.manifest.fusion if reranker is not None else Fusion())
    asked = {"recall_weight": settings.recall_weight, "lexical_weight": settings.lexical_weight}
    given = {name: weight for name, weight in asked.items() if weight is not None}
    return fusion.model_copy(update=given | {"fitted_on": "set when the engine was opened"}) if given else fusion
