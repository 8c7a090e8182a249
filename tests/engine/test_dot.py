"""A model that is compared by the dot product: indexed, searched, reranked, served; its vectors keep their lengths."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tandem.engine import Engine
from tandem.engine.build.indexing import index_corpus
from tandem.engine.errors import InferenceError
from tandem.engine.scoring.effort import EVERYTHING

from ..conftest import exported
from ..prompted import with_manifest

QUESTIONS = ("how to wait for a thread", "parse json", "acquire a lock twice")


@pytest.fixture(scope="module")
def dot_encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny BERT without a normalisation, its heads as wide as the attention kernel wants them."""
    folder = tmp_path_factory.mktemp("dot")
    made = exported(folder, "bi-encoder", hidden=64, normalize=False)
    return with_manifest(made, folder / "encoder", similarity="dot")


@pytest.fixture(scope="module")
def collection(tmp_path_factory: pytest.TempPathFactory, dot_encoder: Path, packable_cross_encoder: Path) -> Path:
    folder = tmp_path_factory.mktemp("dot-collection") / "c"
    index_corpus("python:json,threading", folder, encoder=dot_encoder, reranker=packable_cross_encoder)
    return folder


@pytest.fixture(scope="module")
def engine(collection: Path) -> Iterator[Engine]:
    with Engine.open(collection, device="cpu", warm_up=False, reranker_precision="fp32", recall_weight=3.0) as opened:
        yield opened


def test_vectors_keep_their_lengths_and_the_manifest_says_how_long(engine: Engine):
    lengths = np.linalg.norm(engine.collection.index.vectors, axis=1)
    assert abs(lengths.mean() - 1) > 0.5
    plan = engine.collection.manifest.largest
    assert plan.similarity == "dot"
    assert plan.longest == pytest.approx(float(lengths.max()))
    assert plan.scale == pytest.approx(float((lengths.astype(np.float64) ** 2).mean()))


@pytest.mark.parametrize("question", QUESTIONS)
def test_recall_counts_a_dot_product_like_a_cosine_beside_words(engine: Engine, question: str):
    hits = engine.search(question, rerank=False).hits
    products = engine.collection.index.vectors.astype(np.float64) @ engine.embed([question])[0].astype(np.float64)
    rows = [engine.collection.row_of(hit.id) for hit in hits]
    assert [hit.recall_score for hit in hits] == pytest.approx(products[rows], rel=1e-6)
    fusion = engine.fusion
    scores = [hit.recall_score / fusion.recall_scale + fusion.lexical_weight * hit.lexical_score for hit in hits]
    assert [hit.score for hit in hits] == pytest.approx(scores, rel=1e-5)
    assert sorted(scores, reverse=True) == scores


@pytest.mark.parametrize("question", QUESTIONS)
def test_the_final_order_counts_a_dot_product_like_a_cosine(engine: Engine, question: str):
    fusion = engine.fusion
    assert fusion.recall_scale == engine.collection.manifest.scale
    hits = engine.search(question, budget_ms=None).hits
    for hit in hits:
        evidence = hit.recall_score / fusion.recall_scale + fusion.lexical_weight * hit.lexical_score
        assert hit.score == pytest.approx(hit.rerank_score + 3.0 * evidence, rel=1e-5)
        assert 0.0 < abs(hit.recall_score / fusion.recall_scale) < 2.0  # as a cosine between vectors of usual length
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)


def test_a_resident_search_is_the_same(collection: Path, engine: Engine):
    settings = {"runtime": "packed", "pipeline": "resident", "warm_up": False, "recall_weight": 3.0}
    with Engine.open(collection, device="cpu", **settings) as resident:
        for question in QUESTIONS:
            mine = resident.search(question, budget_ms=None).hits
            other = engine.search(question, budget_ms=None, depth=EVERYTHING).hits
            for name in ("score", "recall_score", "rerank_score", "lexical_score"):
                values = [[getattr(hit, name) for hit in hits] for hits in (mine, other)]
                np.testing.assert_allclose(*values, rtol=1e-4, atol=1e-4)


def test_a_model_compared_by_cosine_has_unit_vectors_or_is_no_such_model(
    tmp_path: Path, dot_encoder: Path, packable_cross_encoder: Path
):
    claims = with_manifest(dot_encoder, tmp_path / "claims", similarity="cosine")
    with pytest.raises(InferenceError, match="gave a vector of length"):
        index_corpus("python:json", tmp_path / "c", encoder=claims, reranker=packable_cross_encoder)
