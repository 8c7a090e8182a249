"""A whole search with as many candidates as one may ask for."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from tandem.engine import Engine
from tandem.engine.build.indexing import index_corpus
from tandem.engine.config import MAX_CANDIDATES

PASSAGES = MAX_CANDIDATES + 50


def test_a_search_reads_2048_candidates(tmp_path: Path, tiny_bi_encoder: Path, tiny_cross_encoder: Path):
    """Every candidate is recalled and reranked once; the oracle of which they are is a full sort of the cosines."""
    corpus = tmp_path / "corpus.jsonl"
    corpus.write_text("".join(json.dumps({"_id": str(row), "text": f"item {row}"}) + "\n" for row in range(PASSAGES)))
    index_corpus(corpus, tmp_path / "c", encoder=tiny_bi_encoder, reranker=tiny_cross_encoder, device="cpu")
    with Engine.open(tmp_path / "c", device="cpu", warm_up=False) as engine:
        result = engine.search(
            "item 7", top_k=MAX_CANDIDATES, candidates=MAX_CANDIDATES, effort="thorough", budget_ms=None
        )
        cosines = engine.collection.index.vectors @ engine.embed(["item 7"])[0]
    assert len(result.hits) == MAX_CANDIDATES
    assert not result.degraded
    assert len({hit.id for hit in result.hits}) == MAX_CANDIDATES
    recalled = sorted(result.hits, key=lambda hit: hit.recall_rank)
    assert [hit.recall_rank for hit in recalled] == list(range(1, MAX_CANDIDATES + 1))
    np.testing.assert_allclose(
        [hit.recall_score for hit in recalled], np.sort(cosines)[::-1][:MAX_CANDIDATES], atol=1e-5
    )
    assert all(abs(cosines[int(hit.id)] - hit.recall_score) < 1e-5 for hit in recalled)
    scores = [hit.score for hit in result.hits]
    assert scores == sorted(scores, reverse=True)
    assert np.isfinite([hit.rerank_score for hit in result.hits]).all()
