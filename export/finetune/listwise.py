"""Training examples: one question, its answer and seven passages that are none, drawn anew for every step.

Everything is a function of (seed, step), so that a resumed training sees what an unbroken one would have seen.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ...engine.text.tokenizer import Tokenizer
from ...engine.text.tokens import TokenBatch, concatenate
from .negatives import Mined

# Of the lists: most collections are indexed with titles, some have none.
TITLE_SHARE = 0.75


@dataclass(frozen=True, slots=True)
class Lists:
    """`b` lists of `k` joined pairs; the first of each list is the positive.

    pairs: b * k sequences, list after list     evidence: float32 [b, k], see `Fusion`
    """

    pairs: TokenBatch
    evidence: npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class ListSource:
    """A mined data set and its share of the training examples."""

    name: str
    mined: Mined
    weight: float


def schedule(sources: list[ListSource], seed: int, start: str | None = None) -> npt.NDArray[np.int32]:
    """int32 [n, 2]: (source, question) in training order, sources mixed by weight.

    It ends where the source that lasts longest is used up, and the loop then begins it again; a shorter one is asked
    anew, in another order, when all of its questions were. A training that goes on from the weights `start` (sha256)
    has an order of its own.
    """
    rng = np.random.default_rng((seed, 1) if start is None else (seed, 1, int(start[:8], 16)))
    shares = {
        index: source for index, source in enumerate(sources) if source.weight > 0 and len(source.mined.questions)
    }
    longest = max((len(source.mined.questions) / source.weight for source in shares.values()), default=0.0)
    rows: list[tuple[float, int, int]] = []
    for index, source in shares.items():
        size, count = len(source.mined.questions), round(longest * source.weight)
        for done in range(0, count, size):
            order = rng.permutation(size)[: count - done]
            # Positions of one round lie behind those of the round before.
            places = (done + np.sort(rng.random(len(order))) * len(order)) / count
            rows.extend((place, index, question) for place, question in zip(places, order, strict=True))
    rows.sort()
    return np.array([(index, question) for _, index, question in rows], dtype=np.int32).reshape(-1, 2)


def draw(
    sources: list[ListSource],
    order: npt.NDArray[np.int32],
    tokenizer: Tokenizer,
    *,
    step: int,
    lists: int,
    negatives: int,
    easy: float,
    seed: int,
    close: int = 16,
    close_share: float = 0.5,
) -> Lists:
    """The `lists` examples of one step, each with `negatives` negatives, of which about a share `easy` is random.

    Of the others `close_share` (rounded up) come from the first `close` candidates, the rest from all.
    """
    rng = np.random.default_rng((seed, 2, step))
    pairs, evidence = [], []
    for index in range(step * lists, (step + 1) * lists):
        source, question = order[index % len(order)]
        mined = sources[source].mined
        rows = _rows(mined, question, negatives, easy, rng, close, close_share)
        passages = mined.titled if rng.random() < TITLE_SHARE else mined.passages
        pairs.append(tokenizer.pairs(mined.questions[question], passages.select(rows)))
        evidence.append(mined.evidence(question, rows))
    return Lists(concatenate(pairs), np.stack(evidence))


def _rows(
    mined: Mined,
    question: int,
    negatives: int,
    easy: float,
    rng: np.random.Generator,
    close: int,
    close_share: float,
) -> npt.NDArray[np.int32]:
    """The positive's row, then `negatives` others: from the first candidates, from all, some random."""
    found = mined.candidates[question]
    found = found[found >= 0]
    random = int((rng.random(negatives) < easy).sum())
    hard = min(negatives - random, len(found))
    near = min(math.ceil(hard * close_share), len(found[:close]))
    chosen = rng.choice(min(close, len(found)), near, replace=False) if near else np.empty(0, dtype=np.int64)
    rest = np.setdiff1d(np.arange(len(found)), chosen)
    far = rng.choice(rest, min(hard - near, len(rest)), replace=False) if len(rest) else rest
    rows = found[np.concatenate([chosen, far]).astype(np.int64)]
    filler = rng.integers(0, len(mined.passages), negatives - len(rows)).astype(np.int32)
    positive = mined.positives[question]
    filler[filler == positive] = (positive + 1) % len(mined.passages)
    return np.concatenate([[positive], rows, filler]).astype(np.int32)
