"""Recall's two lists as one: the passages nearest to a question, and those that hold its words."""

from __future__ import annotations

import logging

import numpy as np

from ..collection import Collection
from ..recall import LexicalIndex, SegmentedIndex
from ..recall.exact import Rows
from ..recall.nearest import Neighbours, Recalled
from ..scoring.fusion import Fusion, Scores

log = logging.getLogger(__name__)
Listed = tuple[Rows, Scores]
"""Passages that hold a question's words, and how much of them: int64 and float32 [m] (see `LexicalIndex.search`)."""


def unite(near: Neighbours, listed: Listed | None, index: SegmentedIndex, fusion: Fusion, count: int) -> Recalled:
    """The `count` candidates of both lists with the most evidence, best first.

    listed: None: there are no words, and the order is that of the vectors; index: the collection's

    A passage that only the words found gets its exact product with the question's vector. One that they did not find
    has none of them, or fewer than all that they found: that counts as none.
    """
    if listed is None:
        return Recalled(near.rows[:count], near.scores[:count], None, near.encode_seconds, near.search_seconds)
    found, shares = listed
    others = found[~np.isin(found, near.rows)]
    rows = np.concatenate([near.rows, others])
    scores = np.concatenate([near.scores, index.products(near.vector, others)])
    words = shares_of(rows, found, shares)
    best = np.argsort(-fusion.evidence(scores, words), kind="stable")[:count]
    return Recalled(rows[best], scores[best], words[best], near.encode_seconds, near.search_seconds)


def shares_of(rows: Rows, found: Rows, shares: Scores) -> Scores:
    """float32 [n]: of each of `rows` (int64 [n]) its share among those `found`, 0 where it is not among them."""
    if not len(found):
        return np.zeros(len(rows), dtype=np.float32)
    order = np.argsort(found)
    places = order[np.searchsorted(found, rows, sorter=order).clip(max=len(found) - 1)]
    return np.where(found[places] == rows, shares[places], np.float32(0.0)).astype(np.float32)


def words_of(collection: Collection, unstored: str | None) -> tuple[LexicalIndex | None, str]:
    """The index of words that searches of an engine can use, and why, in words.

    unstored: why the collection's token ids are not those of the engine's reranker (see `passage_ids.unstored`)
    """
    index = collection.lexical
    if index is None:
        return (
            None,
            "none are indexed: recall is by vectors alone (`tandem index` again adds them, and encodes nothing)",
        )
    if index.language == "other" and unstored is not None:
        reason = f"not used, since they are the token ids of another reranker: {unstored}"
        log.warning("words are %s", reason)
        return None, reason
    return index, f"of the language {index.language}"
