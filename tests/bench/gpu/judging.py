"""What an oracle allows: of a largest difference, of rows and of hits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tandem.bench.random_models.artifacts import SPECIAL
from tandem.bench.random_models.shapes import MAX_LENGTH, ModelShape
from tandem.bench.random_models.workload import CLS, SEP
from tandem.engine.text.tokens import TokenBatch, cumulative

# Half precision has 11 bits: 3e-2 on hidden states of unit size after six layers, 1e-2 on a cosine's vector entries.
LOGIT_ATOL, VECTOR_ATOL, SCORE_ATOL = 3e-2, 1e-2, 2e-3
Record = Callable[[str, Any], None]


def judge(record: Record, found: float, allowed: float, unit: str, **more: float) -> None:
    for name, value in {"found": found, "allowed": allowed, "unit": unit, **more}.items():
        record(name, value)
    assert found <= allowed, f"{found} {unit}, {allowed} allowed"


def judge_largest(record: Record, ours: Any, oracle: Any, allowed: float = LOGIT_ATOL) -> None:
    found = float(np.abs(ours - oracle).max()) if np.isfinite(ours).all() else float("inf")
    judge(record, found, allowed, "largest difference", scale=float(np.abs(oracle).max()))


def unit(random: np.random.Generator, rows: int, width: int) -> Any:
    """float32 [rows, width]: unit vectors."""
    made = random.normal(size=(rows, width)).astype(np.float32)
    return made / np.linalg.norm(made, axis=1, keepdims=True)


def pairs(count: int, tokens: int, shape: ModelShape, seed: int) -> TokenBatch:
    """Pairs as a cross-encoder reads them: `tokens` tokens on average, between three and five quarters of it."""
    random = np.random.default_rng(seed)
    lengths = random.integers(max(4, tokens * 3 // 4), min(MAX_LENGTH, tokens * 5 // 4) + 1, count)
    bounds = cumulative(lengths)
    ids = random.integers(len(SPECIAL), shape.vocabulary, int(bounds[-1])).astype(np.int32)
    ids[bounds[:-1]], ids[bounds[1:] - 1] = CLS, SEP
    segments = np.ones(len(ids), dtype=np.uint8)
    for start, length in zip(bounds[:-1], lengths, strict=True):
        segments[start : start + length // 4] = 0
    return TokenBatch(ids, bounds, segments)


def missing(vectors: Any, asked: Any, rows: Any) -> float:
    """Half precision may swap neighbours: a found row counts when its exact score is near the last of the best."""
    exact = asked @ vectors.T
    bound = np.sort(exact, axis=1)[:, -rows.shape[1]][:, None]
    wrong = np.take_along_axis(exact, np.maximum(rows, 0), axis=1) < bound - SCORE_ATOL
    return float((wrong | (rows < 0)).mean())


def hits_judged(ours: Any, oracle: Any, candidates: int) -> tuple[float, float, float]:
    """Of a query's hits: share of ten that are wrong, share that is the oracle's ten, spread of its scores.

    `oracle` has more than `candidates` candidates, all kept. No answer is wrong altogether.
    """
    if ours is None or oracle is None:
        return 1.0, 0.0, 0.0
    within = oracle.places < candidates
    best = oracle.rows[within][:10]
    tenth, last = oracle.scores[within][:10].min(), oracle.cosines[within].min()
    right = oracle.rows[(oracle.scores >= tenth - LOGIT_ATOL) & (oracle.cosines >= last - SCORE_ATOL)]
    hits = np.unique(ours.rows[:10])  # a row that came twice is one hit, and the other place is wrong
    wrong = 1 - len(np.intersect1d(hits, right)) / len(best)
    return wrong, len(np.intersect1d(hits, best)) / len(best), float(oracle.scores[within].std())
