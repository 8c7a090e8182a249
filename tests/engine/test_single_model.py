"""A model by itself, in this process: the same answers as an engine's."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import pytest

from tandem.engine import Engine, SingleModel
from tandem.engine.build.indexing import index_corpus
from tandem.engine.errors import ArtifactError, EngineClosed, InputError

TEXTS = ["The ladder is in the cellar.", "Nobody knows.", ""]
SETTINGS = {"device": "cpu", "warm_up": False, "reranker_precision": "fp32"}


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory, tiny_bi_encoder: Path, tiny_cross_encoder: Path):
    folder = tmp_path_factory.mktemp("engine")
    (folder / "a.txt").write_text("The ladder is in the cellar.")
    index_corpus(folder / "a.txt", folder / "c", encoder=tiny_bi_encoder, reranker=tiny_cross_encoder)
    with Engine.open(folder / "c", **SETTINGS) as opened:
        yield opened


def test_its_vectors_and_scores_are_the_engines(engine: Engine, tiny_bi_encoder: Path, tiny_cross_encoder: Path):
    with (
        SingleModel.open(tiny_bi_encoder, **SETTINGS) as encoder,
        SingleModel.open(tiny_cross_encoder, **SETTINGS) as reranker,
    ):
        np.testing.assert_array_equal(encoder.embed(TEXTS, "query"), engine.embed(TEXTS, "query"))
        assert reranker.rerank("the ladder", TEXTS) == engine.rerank("the ladder", TEXTS)
        assert asyncio.run(reranker.arerank("the ladder", TEXTS)).passages == engine.rerank("the ladder", TEXTS)


def test_with_a_pool_the_model_is_loaded_once(engine: Engine, tiny_bi_encoder: Path):
    with SingleModel.open(tiny_bi_encoder, pool=engine.pool, warm_up=False) as single:
        assert single.model is engine.encoder
        assert single.batcher is engine.batcher
    assert engine.embed(["still there"]).shape[0] == 1


def test_what_it_cannot_do_is_said(tiny_bi_encoder: Path, tiny_cross_encoder: Path, tmp_path: Path):
    encoder = SingleModel.open(tiny_bi_encoder, **SETTINGS)
    with encoder, pytest.raises(InputError, match="bi-encoder, which gives no scores"):
        encoder.rerank("q", ["a"])
    with SingleModel.open(tiny_cross_encoder, **SETTINGS) as reranker:
        with pytest.raises(InputError, match="cross-encoder, which gives no vectors"):
            reranker.embed(["a"])
        with pytest.raises(InputError, match="not of a collection: give texts"):
            reranker.rerank("q", ids=["a"])
    with pytest.raises(EngineClosed, match="open it again"):
        reranker.rerank("q", ["a"])
    reranker.close()  # a second time does nothing
    with pytest.raises(ArtifactError):
        SingleModel.open(tmp_path)
