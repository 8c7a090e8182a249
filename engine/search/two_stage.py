"""A two-stage search: `TwoStage.search` is all of it, from the query to its hits."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from functools import lru_cache

from ..collection.filters import Filter
from ..config import SearchSettings
from ..errors import InputError
from ..models.cross_encoder import CrossEncoder
from ..models.encoder import BiEncoder
from ..recall import LexicalIndex, RowMask
from ..recall.nearest import Neighbours, Recalled
from ..recall.words import of_ids
from ..result import Degraded, Hit, SearchResult
from ..scheduling.batcher import Batcher
from ..scheduling.job import Job
from ..scheduling.request_steps import Clock
from ..scoring.effort import EVERYTHING, RerankDepth, depth_of
from ..scoring.fusion import Fusion, Ranking, Scores, by_evidence, rank
from ..text.checking import checked
from ..text.prompting import search_wishes
from ..text.tokenizer import Tokenizer
from ..text.tokens import Ids, TokenBatch, pack
from .filter_stage import filter_job
from .hits import hits_of
from .passage_ids import PassageIds
from .placement import Placed
from .recall_stage import RecallStage
from .reranking import Reranking
from .second_stage import SecondReading, SecondStage
from .union import Listed, unite

# First stages remembered, one for each number of candidates and filter: the queries of one may share a micro-batch.
RECALLS = 128
NO_RERANKER = Degraded(
    "no_reranker", "the collection has no reranker and none was named (reranker=FOLDER): hits are in recall's order"
)
NO_RELEVANCE = (
    "min_relevance needs a reranker whose weights are fitted, which {collection} does not have: `tandem calibrate "
    "{collection} BEIR` fits them to judged questions"
)


@dataclass(frozen=True, slots=True)
class Query:
    """A query as both models read it, without special tokens: with their prompts, or what a template has before a
    passage. `words` are the reranker's ids of it alone; `looked_up` is what the lexical index is asked; `cut`: it was
    longer than the encoder reads."""

    text: str
    encoder_ids: Ids
    reranker_ids: Ids
    words: Ids
    looked_up: str
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
        passages: PassageIds | None,
        batcher: Batcher,
        words: LexicalIndex | None = None,
    ) -> None:
        """`passages`: what the reranker reads of them; None without one. `words`: None: recall is by vectors alone."""
        self._collection = placed.collection
        self._encoder = encoder
        self._reranker = reranker
        self._device = device
        self._fusion = fusion
        self._placed = placed
        self._batcher = batcher
        self._words = words if fusion.lexical_weight else None
        self._second = None
        if reranker is not None and passages is not None:
            self._second = SecondStage(Reranking(reranker, fusion, batcher), passages, fusion)
        self._on_gpu = placed.searches(batcher)
        self._stages = lru_cache(RECALLS)(self._recall_stage)

    async def search(
        self,
        text: str,
        asked: SearchSettings,
        client: str = "",
        recalled: Recalled | None = None,
        depth: RerankDepth | None = None,
    ) -> SearchResult:
        """Tokenise, recall, rerank, fetch; on a GPU the middle two in one piece where the search allows it.

        depth: in place of the one that `asked.effort` stands for
        recalled: what `recall` found for the same query and wish: it is not done again, and its time counts
        """
        if asked.min_relevance is not None and (self._second is None or self._fusion.scale.relevance is None):
            raise InputError(NO_RELEVANCE.format(collection=self._collection.path))
        clock = Clock(asked.budget_ms, 0.0 if recalled is None else recalled.seconds)
        query = self._tokenize(checked(text, "the query"), asked)
        clock.lap("tokenize")
        at_once = recalled is None and depth in (None, EVERYTHING)
        if at_once and self._on_gpu is not None and self._on_gpu.takes(asked, clock):
            whole = await self._search_on_gpu(query, asked, clock, client)
            if whole is not None:
                return whole

        if recalled is None:
            recalled = await self._recall(query, asked, clock, client)
        else:
            clock.spent(encode=recalled.encode_seconds, recall=recalled.search_seconds)
        if not asked.rerank or self._second is None:
            second = SecondReading.none(recalled, self._fusion, NO_RERANKER if asked.rerank else None)
        else:
            wanted = depth or depth_of(asked.effort, self._fusion.enough)
            second = await self._second.read(query.reranker_ids, query.words, recalled, wanted, clock, client)

        scored = second.scored
        if second.passages is None:
            ranking = by_evidence(second.evidence)
        else:
            ranking = rank(second.evidence, scored, self._fusion)
        return self._result(
            query, self._hits(recalled, second.lexical, ranking, asked, clock), clock, second.passages, second.degraded,
            candidates=len(recalled.rows), reranked=scored.reranked, finalists=scored.finalists, reread=scored.reread,
            warnings=self._warnings(asked),
        )  # fmt: skip

    async def recall(self, text: str, asked: SearchSettings) -> Recalled:
        """The first stage alone."""
        return await self._recall(self._tokenize(checked(text, "the query"), asked), asked, Clock(None), "")

    async def _search_on_gpu(
        self, query: Query, asked: SearchSettings, clock: Clock, client: str
    ) -> SearchResult | None:
        """The whole search on the device; None where its pairs exceed the buffers there."""
        if self._on_gpu is None:
            return None
        single = self._encoder.tokenizer.single(pack([query.encoder_ids])).ids
        listed = self._listed(query, min(asked.recalled, len(self._collection)), None)
        clock.lap("recall")
        found = await self._on_gpu.search(single, query.reranker_ids, query.words, listed, asked, clock, client)
        if found is None:
            return None
        recalled, lexical, ranking = found.by_place(min(asked.recalled, len(self._collection)))
        count = len(recalled.rows)
        return self._result(
            query, self._hits(recalled, lexical, ranking, asked, clock), clock,
            self._collection.tokens(found.rows), None, candidates=count, reranked=count, finalists=count, reread=0,
        )  # fmt: skip

    def _tokenize(self, text: str, asked: SearchSettings) -> Query:
        """Ids for the encoder and for the reranker; what both read alike is tokenised once."""
        by_ids = self._words is not None and self._words.language == "other"
        reranker = self._reranker.tokenizer if self._reranker is not None and (asked.rerank or by_ids) else None
        wishes = search_wishes(asked.wish, self._encoder.prompting, None if reranker is None else reranker.prompting)
        tokenizer = self._encoder.tokenizer
        known: dict[tuple[str, str], Ids] = {}

        def ids(by: Tokenizer, read: str) -> Ids:
            if (key := (by.fingerprint, read)) not in known:
                known[key] = by.encode(read)
            return known[key]

        own = ids(tokenizer, self._encoder.prompting.before_text(wishes[0]) + text)
        cut = len(own) > tokenizer.text_room
        if reranker is None:
            return Query(text, own, own, own, text, cut)
        other = ids(reranker, reranker.prompting.query(text, wishes[1]))
        words = ids(reranker, reranker.prompting.lead + text)
        return Query(text, own, other, words, of_ids(words.tolist()) if by_ids else text, cut)

    async def _recall(self, query: Query, asked: SearchSettings, clock: Clock, client: str) -> Recalled:
        """Both lists: words are looked up here, while the device thread encodes the query and compares vectors."""
        allowed = None if asked.filter is None else await self._allowed(asked.filter, clock, client)
        count = min(asked.recalled, len(self._collection))
        batch = self._encoder.tokenizer.single(pack([query.encoder_ids]))
        job = Job(self._stages(count, allowed), batch, urgent=True, client=client)
        self._batcher.submit(job)
        began = time.monotonic()
        listed = self._listed(query, count, allowed)
        looked_up = time.monotonic() - began
        served = await job
        near: Neighbours = served.results[0]
        began = time.monotonic()
        recalled = unite(near, listed, self._collection.index, self._fusion, count)
        waited_for = max(0.0, looked_up - served.queued - near.seconds)
        recalled = replace(recalled, search_seconds=near.search_seconds + waited_for + time.monotonic() - began)
        clock.spent(queue=served.queued, encode=recalled.encode_seconds, recall=recalled.search_seconds)
        return recalled

    def _listed(self, query: Query, count: int, allowed: RowMask | None) -> Listed | None:
        return None if self._words is None else self._words.search(query.looked_up, count, allowed)

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

    def _warnings(self, asked: SearchSettings) -> list[str]:
        """What the filter asks that no passage can satisfy: a wrong name or type would else look like no hits. And what
        was not searched since it is damaged."""
        damaged = len(self._collection.left_out)
        missing = [f"{damaged} of the collection's segments are damaged and were not searched"] if damaged else []
        leaves = () if asked.filter is None else asked.filter.leaves()
        said = map(self._collection.facets.unanswerable, leaves)
        return missing + list(dict.fromkeys(filter(None, said)))

    def _recall_stage(self, k: int, allowed: RowMask | None) -> RecallStage:
        index = self._placed.index if allowed is None else self._placed.under(allowed)
        return RecallStage(self._encoder, index, k)

    def _hits(
        self, recalled: Recalled, lexical: Scores | None, ranking: Ranking, asked: SearchSettings, clock: Clock
    ) -> list[Hit]:
        clock.mark()
        reranks = asked.rerank and self._second is not None
        relevance = self._fusion.relevance(ranking.scores) if reranks else None
        hits = hits_of(self._collection, recalled, lexical, ranking, relevance, asked)
        clock.lap("fetch")
        return hits

    def _result(
        self,
        query: Query,
        hits: list[Hit],
        clock: Clock,
        passages: TokenBatch | None,
        degraded: Degraded | None,
        *,
        warnings: list[str] | None = None,
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
            device=self._device, version=self._collection.version, warnings=warnings or [], **counted,
        )  # fmt: skip
