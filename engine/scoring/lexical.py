"""The lexical score: how much of what a question says stands in a passage, and how much of it stands close together.

Recall's cosine and the cross-encoder both blur rare names and numbers. Which passages hold a question's words is what
the lexical index tells (`recall.LexicalIndex`); how close together they stand is told here, by the token ids that are
stored for the reranker, at the cost of one pass over the candidates' ids and of no model at all.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..text.tokens import Ids, TokenBatch

# Tokens of a window, a sentence or two, of which the next one shares half.
WINDOW = 32
HALF = WINDOW // 2
Scores = npt.NDArray[np.float32]


def lexical_scores(words: Scores | None, windows: Scores) -> Scores:
    """float32 [n] from 0 to 1: the mean of what the lexical index and the token ids tell of passages.

    words: float32 [n], 0 for a passage that the index did not list; None: there is none, and the windows count alone
    windows: see `Lexicon.windows`
    """
    return windows if words is None else np.float32(0.5) * (words + windows)


@dataclass(frozen=True, slots=True)
class Lexicon:
    """How rare each token id is in a corpus.

    frequencies: uint32 [vocabulary]  passages that hold each token id
    passages:    their number
    """

    frequencies: npt.NDArray[np.uint32]
    passages: int

    @classmethod
    def of(cls, passages: TokenBatch, vocabulary: int) -> Lexicon:
        """Count a corpus of ids without special tokens, each below `vocabulary`."""
        return cls(passage_frequencies(passages, vocabulary), len(passages))

    def windows(self, query: Ids, passages: TokenBatch) -> Scores:
        """float32 [n] from 0 to 1: the largest share of what `query` asks for that one window of each of `passages`
        holds (all are ids without special tokens; see `densest_windows`)."""
        if not len(passages):
            return np.zeros(0, dtype=np.float32)
        terms, shares = self.terms(query)
        hits = Hits.of(terms, passages, len(self.frequencies))
        return densest_windows(hits, shares, len(passages)).astype(np.float32)

    def terms(self, query: Ids) -> tuple[Ids, npt.NDArray[np.float64]]:
        """int32 [m] the distinct ids of `query`, and float64 [m] their inverse document frequencies, of sum 1."""
        terms = np.unique(query)
        holding = self.frequencies[terms].astype(np.float64)
        rarity = np.log1p((self.passages - holding + 0.5) / (holding + 0.5))
        return terms, rarity / rarity.sum() if len(terms) else rarity


def passage_frequencies(passages: TokenBatch, vocabulary: int) -> npt.NDArray[np.uint32]:
    """uint32 [vocabulary]: how many of `passages` hold each token id."""
    owners = np.repeat(np.arange(len(passages), dtype=np.int64), passages.lengths)
    once = np.unique(owners * vocabulary + passages.ids) % vocabulary
    return np.bincount(once, minlength=vocabulary).astype(np.uint32)


@dataclass(frozen=True, slots=True)
class Hits:
    """Where passages hold a query's terms, in the order of their tokens.

    passages, places, terms: int64 [hits]  the passage, the token's place in it, which of the query's terms it is
    """

    passages: npt.NDArray[np.int64]
    places: npt.NDArray[np.int64]
    terms: npt.NDArray[np.int64]

    @classmethod
    def of(cls, terms: Ids, passages: TokenBatch, vocabulary: int) -> Hits:
        """Those of the distinct `terms`, each id of the passages being below `vocabulary`."""
        number = np.full(vocabulary, -1, dtype=np.int32)
        number[terms] = np.arange(len(terms), dtype=np.int32)
        found = number[passages.ids]
        hits = np.flatnonzero(found >= 0)
        owners = np.searchsorted(passages.cu_seqlens, hits, side="right") - 1
        return cls(owners, hits - passages.cu_seqlens[owners], found[hits].astype(np.int64))


def densest_windows(hits: Hits, shares: npt.NDArray[np.float64], passages: int) -> npt.NDArray[np.float64]:
    """float64 [passages] from 0 to 1: the largest sum of the terms' `shares` that one window of a passage holds.

    Windows are `WINDOW` tokens long and begin every `HALF` (half-overlapping, as in Callan 1994): an answer says in a
    sentence or two what a question asks for, while a passage of the same article has those words here and there.
    """
    densest = np.zeros(passages)
    if not len(hits.places):
        return densest
    # Halves that hold a term, numbered through all passages; two passages' halves never follow each other.
    stride = int(hits.places.max()) // HALF + 2
    halves = hits.passages * stride + hits.places // HALF
    begins = np.concatenate([[True], halves[1:] != halves[:-1]])
    numbers = halves[begins]
    held = np.zeros((len(numbers), len(shares)), dtype=bool)
    held[np.cumsum(begins) - 1, hits.terms] = True
    windows = held.copy()
    windows[:-1] |= held[1:] & (numbers[1:] == numbers[:-1] + 1)[:, None]
    np.maximum.at(densest, numbers // stride, windows @ shares)
    return densest
