"""Straight to one model: texts to vectors, and the caller's passages in the cross-encoder's order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, get_args

import numpy as np
import numpy.typing as npt

from ..collection import Collection
from ..errors import InputError
from ..models.cross_encoder import CrossEncoder
from ..models.encoder import BiEncoder
from ..result import DegradedCode, Embedded, Reranked, RerankResult
from ..scheduling.batcher import Batcher
from ..scheduling.job import Job, Served
from ..scheduling.request_steps import Clock
from ..text.checking import checked, checked_all
from ..text.prompting import NO_WISH, PromptWish
from ..text.tokenizer import Tokenizer
from ..text.tokens import CutSide, TokenBatch, Truncate
from .passage_ids import PassageIds

# The logit of a blank text, whatever the model says of one: models put it before texts that miss the question. It is
# far below all that they give, and its logistic is 0.
BLANK = -1000.0


class ModelApi:
    """Requests for one model; stored passages may be named instead of sent."""

    def __init__(
        self,
        collection: Collection | None,
        encoder: BiEncoder | None,
        reranker: CrossEncoder | None,
        passages: PassageIds | None,
        batcher: Batcher,
    ) -> None:
        """`collection`: None for a model by itself, of which there is one then; `passages`: what the reranker reads of
        the stored ones; None without one."""
        self._collection = collection
        self._encoder = encoder
        self._reranker = reranker
        self._stored = passages
        self._batcher = batcher

    async def embed(
        self, texts: Sequence[str], wish: PromptWish, *, truncate: Truncate | None = None, client: str = ""
    ) -> Embedded:
        """See `Engine.aembed`."""
        encoder = self._encoder
        if encoder is None:
            raise InputError("this model is a cross-encoder, which gives no vectors; ask a bi-encoder for them")
        clock = Clock(None)
        tokenizer = encoder.tokenizer
        side, before = _side(truncate, tokenizer), encoder.prompting.before_text(wish)
        if not texts:
            return Embedded(np.empty((0, encoder.dimension), dtype=np.float32), 0, 0, clock.timings())
        ids = tokenizer.encode_many([before + text for text in checked_all(texts)])
        long = ids.lengths > tokenizer.text_room
        if truncate == "never":
            _refuse_long(long, "text", tokenizer.max_length)
        batch = tokenizer.single(ids, side)
        clock.lap("tokenize")

        served = await self._batcher.run(Job(encoder, batch, client=client))
        clock.spent(queue=served.queued, encode=served.running)
        return Embedded(np.stack(served.results), len(batch.ids), int(long.sum()), clock.timings())

    async def rerank(
        self,
        query: str,
        texts: Sequence[str] | None,
        ids: Sequence[str] | None,
        *,
        truncate: Truncate | None = None,
        passage_tokens: int | None = None,
        budget_ms: float | None = None,
        wish: PromptWish = NO_WISH,
        client: str = "",
    ) -> RerankResult:
        """See `Engine.arerank`."""
        reranker = self._needed_reranker()
        if (texts is None) == (ids is None):
            raise InputError("rerank takes texts or ids of stored passages: give one of the two")
        if ids is not None and self._collection is None:
            raise InputError("ids are of stored passages, and this model is not of a collection: give texts")
        clock = Clock(budget_ms)
        tokenizer = reranker.tokenizer
        side = _side(truncate, tokenizer)
        query_ids = tokenizer.query(checked(query, "the query"), wish)
        passages = self._passages(texts, ids, tokenizer)
        if not len(passages):
            return RerankResult([], 0, clock.timings())
        if passage_tokens is not None:
            passages = passages.cut(passage_tokens, side)
        long = len(query_ids) + passages.lengths + tokenizer.pair_special > tokenizer.max_length
        if truncate == "never":
            _refuse_long(long, "passage", tokenizer.max_length)
        pairs = tokenizer.pairs(query_ids, passages, side)
        clock.lap("tokenize")

        served = await self._batcher.run(Job(reranker, pairs, deadline=clock.deadline, client=client))
        clock.spent(queue=served.queued, rerank=served.running)
        logits = _filled(served.results)
        blank = np.array([not text.strip() for text in texts or ()] or [False] * len(logits))
        logits[blank] = np.minimum(BLANK, logits.min())
        if ids is not None and self._collection is not None:
            texts = self._collection.texts([self._collection.row_of(name) for name in ids])
        ranked = [
            Reranked(
                index=int(row),
                score=float(logits[row]),
                text=texts[row] if texts is not None else None,
                id=ids[row] if ids is not None else None,
                truncated=bool(long[row]),
            )
            for row in np.lexsort((-logits, blank))
        ]
        return RerankResult(ranked, len(pairs.ids), clock.timings(), *_cut_short(served))

    def _passages(self, texts: Sequence[str] | None, ids: Sequence[str] | None, tokenizer: Tokenizer) -> TokenBatch:
        """Token ids of the caller's passages, or of stored ones."""
        if ids is not None and self._stored is not None and self._collection is not None:
            return self._stored.tokens(np.array([self._collection.row_of(name) for name in ids], dtype=np.int64))
        return tokenizer.passages(checked_all(texts or []))

    def _needed_reranker(self) -> CrossEncoder:
        if self._reranker is None and self._collection is None:
            raise InputError("this model is a bi-encoder, which gives no scores of pairs; ask a cross-encoder for them")
        if self._reranker is None:
            raise InputError(
                "this collection has no reranker; open it with one (reranker=FOLDER), or search with rerank=False"
            )
        return self._reranker


def _side(truncate: Truncate | None, tokenizer: Tokenizer) -> CutSide:
    """Where a text is cut: as the request says, else as the model does."""
    if truncate is None or truncate == "never":
        return tokenizer.side
    if truncate not in get_args(Truncate):
        raise InputError(f"truncate {truncate!r} is unknown; choose {', '.join(get_args(Truncate))}")
    return truncate


def _refuse_long(long: npt.NDArray[np.bool_], what: str, max_length: int) -> None:
    if long.any():
        raise InputError(
            f"{what} {int(np.argmax(long))} is longer than the {max_length} tokens that the model reads, and "
            "truncation was turned off"
        )


def _cut_short(served: Served) -> tuple[str, DegradedCode] | tuple[None, None]:
    """How many sequences of a job have a result where a deadline left some without."""
    if served.served == len(served.results):
        return None, None
    return f"budget: {served.served} of {len(served.results)} passages were scored in time", "cut_short"


def _filled(results: list[Any]) -> npt.NDArray[np.float32]:
    """float32 [n]: the logits, the lowest of them where the deadline came first (0 where it left none)."""
    lowest = min((logit for logit in results if logit is not None), default=0.0)
    return np.array([lowest if logit is None else logit for logit in results], dtype=np.float32)
