"""The second stage of a search as a whole: candidates' token ids, words in common, the cross-encoder's reading."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np

from ..recall.nearest import Recalled
from ..result import Degraded
from ..scheduling.request_steps import Clock
from ..scoring.effort import RerankDepth
from ..scoring.fusion import Fusion, Scored, Scores
from ..scoring.lexical import lexical_scores
from ..text.tokens import Ids, TokenBatch
from .candidates import Candidates
from .passage_ids import PassageIds
from .reranking import Reranking

# Of the time that a search has left, what may go by until its candidates' ids are there: the rest is for reading them.
SHARE_FOR_IDS = 0.5
# Words of a question that are looked for: a megabyte of text has a tenth of a million.
LONGEST_QUESTION = 8192


@dataclass(frozen=True, slots=True)
class SecondReading:
    """What is known of `n` candidates after the second stage, in recall's order.

    scored:   what the cross-encoder made of them
    lexical:  float32 [n], by words alone for those whose ids were not read; NaN, None: nothing is known of one, of all
    evidence: float32 [n]
    passages: ids of the first of them, those that there was time for; None: nothing was read
    degraded: what time left undone
    """

    scored: Scored
    lexical: Scores | None
    evidence: Scores
    passages: TokenBatch | None
    degraded: Degraded | None

    @classmethod
    def none(cls, recalled: Recalled, fusion: Fusion, degraded: Degraded | None) -> SecondReading:
        """Nothing was read, and why that is less than was asked for."""
        evidence = fusion.evidence(recalled.scores, recalled.words)
        return cls(Scored.nothing(len(recalled.rows)), recalled.words, evidence, None, degraded)


class SecondStage:
    """Reads candidates with a reranker."""

    def __init__(self, reranking: Reranking, passages: PassageIds, fusion: Fusion) -> None:
        self._reranking = reranking
        self._passages = passages
        self._fusion = fusion

    async def read(
        self, query: Ids, words: Ids, recalled: Recalled, depth: RerankDepth, clock: Clock, client: str
    ) -> SecondReading:
        """Read what recall found to this `depth`, as far as the budget goes.

        query: ids as the reranker's tokenizer gives them for a pair; words: those of the query alone, without a prompt
        """
        passages, windows = self._fetch(words, recalled, clock)
        count, known = len(recalled.rows), len(passages)
        lexical = np.full(count, np.nan, dtype=np.float32) if recalled.words is None else recalled.words.copy()
        lexical[:known] = lexical_scores(None if recalled.words is None else lexical[:known], windows)
        evidence = self._fusion.evidence(recalled.scores, np.nan_to_num(lexical))
        candidates = Candidates(query, passages, evidence[:known], clock, client)
        scored, degraded = await self._reranking.score(candidates, depth)
        if known == count:
            return SecondReading(scored, lexical, evidence, passages, degraded)
        said = f"budget: {scored.reranked} of {depth.of(count)} candidates were reranked in time"
        degraded = Degraded("fewer_candidates", f"{said}, and {known} of {count} were tokenised for that")
        return SecondReading(scored.among(count), lexical, evidence, passages, degraded)

    def _fetch(self, words: Ids, recalled: Recalled, clock: Clock) -> tuple[TokenBatch, Scores]:
        """Token ids of the first candidates, of all unless they have to be made and there is no time for that; and
        float32, how much of the query's `words` one window of each of these holds."""
        clock.mark()
        now = time.monotonic()
        until = None if clock.deadline is None else now + SHARE_FOR_IDS * (clock.deadline - now)
        passages = self._passages.tokens(recalled.rows, until)
        clock.lap(self._passages.stage)
        clock.mark()
        windows = self._passages.lexicon.windows(words[:LONGEST_QUESTION], passages)
        clock.lap("fetch")
        return passages, windows
