"""The lexical score: how much of what a question says stands in a passage, word piece by word piece.

Recall's cosine and the cross-encoder both blur rare names and numbers; the token ids that are stored for the reranker
tell exactly where they occur, at the cost of one pass over the candidates' ids and of no model at all.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .tokens import Ids, TokenBatch

# BM25's constants as the BEIR baselines set them (Thakur et al. 2021): saturation of repeats, weight of the length.
K1 = 0.9
B = 0.4


@dataclass(frozen=True, slots=True)
class Lexicon:
    """What BM25 needs to know of a corpus.

    frequencies: uint32 [vocabulary]  passages that hold each token id
    passages:    their number         mean_length: tokens of a passage, on average
    """

    frequencies: npt.NDArray[np.uint32]
    passages: int
    mean_length: float

    @classmethod
    def of(cls, passages: TokenBatch, vocabulary: int) -> Lexicon:
        """Count a corpus of ids without special tokens, each below `vocabulary`."""
        frequencies = passage_frequencies(passages, vocabulary)
        return cls(frequencies, len(passages), len(passages.ids) / max(len(passages), 1))

    def scores(self, query: Ids, passages: TokenBatch) -> npt.NDArray[np.float32]:
        """float32 [n] from 0 to 1: BM25 of each of `passages` for `query` (both ids without special tokens), divided
        by the most that any passage could have.

        BM25 as in Robertson & Zaragoza 2009, each id of the query once, with the inverse document frequency
        `ln(1 + (N - n + 0.5) / (n + 0.5))`. Divided, so that one weight fits short and long questions alike.
        """
        terms = np.unique(query)
        if not len(terms) or not len(passages.ids):
            return np.zeros(len(passages), dtype=np.float32)
        counts = _counts(terms, passages, len(self.frequencies))
        rarity = self._rarity(terms)
        norm = K1 * (1.0 - B + B * passages.lengths / max(self.mean_length, 1.0))
        saturated = counts / (counts + norm[:, None])
        scores: npt.NDArray[np.float32] = (saturated @ rarity / rarity.sum()).astype(np.float32)
        return scores

    def _rarity(self, terms: Ids) -> npt.NDArray[np.float64]:
        holding = self.frequencies[terms].astype(np.float64)
        rarity: npt.NDArray[np.float64] = np.log1p((self.passages - holding + 0.5) / (holding + 0.5))
        return rarity


def passage_frequencies(passages: TokenBatch, vocabulary: int) -> npt.NDArray[np.uint32]:
    """uint32 [vocabulary]: how many of `passages` hold each token id."""
    owners = np.repeat(np.arange(len(passages), dtype=np.int64), passages.lengths)
    once = np.unique(owners * vocabulary + passages.ids) % vocabulary
    return np.bincount(once, minlength=vocabulary).astype(np.uint32)


def _counts(terms: Ids, passages: TokenBatch, vocabulary: int) -> npt.NDArray[np.int64]:
    """int64 [n, terms]: how often each passage holds each of the sorted `terms`."""
    place = np.full(vocabulary, -1, dtype=np.int32)
    place[terms] = np.arange(len(terms), dtype=np.int32)
    found = place[passages.ids]
    hits = np.flatnonzero(found >= 0)
    owners = np.searchsorted(passages.cu_seqlens, hits, side="right") - 1
    flat = np.bincount(owners * len(terms) + found[hits], minlength=len(passages) * len(terms))
    return flat.reshape(len(passages), len(terms))
