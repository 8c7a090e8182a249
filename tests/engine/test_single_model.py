"""A model by itself, in this process: the same answers as an engine's."""

from __future__ import annotations

import asyncio
import json
import shutil
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


def test_long_texts_are_cut_where_the_model_cuts_them_unless_a_request_says_otherwise(
    tiny_bi_encoder: Path, tiny_cross_encoder: Path, tmp_path: Path
):
    text = "alpha " * 700 + "omega " * 700
    for artifact, ask in (
        (tiny_bi_encoder, lambda model, **how: asyncio.run(model.aembed([text], **how)).vectors[0].tolist()),
        (tiny_cross_encoder, lambda model, **how: asyncio.run(model.arerank("omega", [text], **how)).passages[0].score),
    ):
        left = tmp_path / artifact.parent.name / artifact.name
        shutil.copytree(artifact, left)
        manifest = json.loads((left / "manifest.json").read_text())
        (left / "manifest.json").write_text(json.dumps({**manifest, "cut_side": "left"}))
        with SingleModel.open(artifact, **SETTINGS) as right, SingleModel.open(left, **SETTINGS) as other:
            assert ask(other) == ask(right, truncate="left") != ask(right)
            assert ask(other, truncate="right") == ask(right)
            with pytest.raises(InputError, match="truncation was turned off"):
                ask(other, truncate="never")
