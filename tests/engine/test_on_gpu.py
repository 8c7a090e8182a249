"""What only a GPU can show. Not one of these has run yet.

Models are random and made on the spot, since a GPU machine without network cannot export.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tandem.bench.random_models.artifacts import make, texts
from tandem.bench.random_models.shapes import TINY
from tandem.engine import Engine
from tandem.engine.build.indexing import index_corpus
from tandem.engine.errors import DeviceError
from tandem.engine.models.artifact import Artifact
from tandem.engine.models.cross_encoder import CrossEncoder
from tandem.engine.models.encoder import BiEncoder
from tandem.engine.platform import cuda_driver
from tandem.engine.platform.device import Device, choose
from tandem.engine.scoring.effort import EVERYTHING

pytestmark = pytest.mark.gpu
CPU = Device("cpu", "the oracle", 2)
RANDOM = np.random.default_rng(0)
TEXTS = texts(TINY, RANDOM.integers(1, 300, 35).tolist(), RANDOM)
QUESTIONS = texts(TINY, [5, 9, 12, 1, 30], RANDOM)
# Half precision on logits near 3 and on numbers of a unit vector.
LOGIT_ATOL, VECTOR_ATOL = 3e-2, 5e-3


@pytest.fixture(autouse=True, scope="module")
def needs_a_gpu() -> None:
    if isinstance(found := cuda_driver.find(), str):
        pytest.skip(found)
    if (problem := cuda_driver.torch_problem()) is not None:
        pytest.skip(problem)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("models")
    made = {"encoder": "bi-encoder", "reranker": "cross-encoder"}
    for name, kind in made.items():
        make(folder / name, TINY, kind, seed=1, graphs=("fp32", "fp16"))  # type: ignore[arg-type]
    return {name: folder / name for name in made}


@pytest.fixture(scope="module")
def collection(tmp_path_factory: pytest.TempPathFactory, models: dict[str, Path]) -> Path:
    folder = tmp_path_factory.mktemp("collection")
    passages = texts(TINY, RANDOM.integers(1, 120, 400).tolist(), RANDOM)
    rows = [json.dumps({"_id": str(row), "text": text}) + "\n" for row, text in enumerate(passages)]
    (folder / "corpus.jsonl").write_text("".join(rows))
    index_corpus(folder / "corpus.jsonl", folder / "c", **models, device="cpu")
    return folder / "c"


@pytest.fixture(scope="module")
def staged(collection: Path) -> Iterator[Engine]:
    with Engine.open(collection, device="cpu", reranker_precision="fp32", recall_weight=3.0) as opened:
        yield opened


def test_packed_logits_are_those_of_the_cpu(models: dict[str, Path]):
    artifact = Artifact.open(models["reranker"])
    ours = CrossEncoder(artifact, choose("cuda"), runtime="packed")
    ours.warm_up()
    oracle = CrossEncoder(artifact, CPU, "fp32").score(QUESTIONS[0], TEXTS)
    for count in (1, 3, len(TEXTS), 2):  # larger and smaller than what the buffers held before
        np.testing.assert_allclose(ours.score(QUESTIONS[0], TEXTS[:count]), oracle[:count], atol=LOGIT_ATOL)


def test_packed_vectors_are_those_of_the_cpu(models: dict[str, Path]):
    artifact = Artifact.open(models["encoder"])
    ours, oracle = BiEncoder(artifact, choose("cuda"), runtime="packed"), BiEncoder(artifact, CPU)
    ids = oracle.tokenizer.encode_many(TEXTS)
    np.testing.assert_allclose(ours.encode(ids), oracle.encode(ids), atol=VECTOR_ATOL)


def test_onnx_runtime_on_cuda_gives_the_logits_of_the_cpu(models: dict[str, Path]):
    device = choose("cuda")
    if device.onnx_problem is not None:
        pytest.skip(device.onnx_problem)
    artifact = Artifact.open(models["reranker"])
    ours = CrossEncoder(artifact, device, "fp32", runtime="onnx")
    ours.warm_up()
    oracle = CrossEncoder(artifact, CPU, "fp32")
    for _ in range(2):
        np.testing.assert_allclose(ours.score(QUESTIONS[1], TEXTS), oracle.score(QUESTIONS[1], TEXTS), atol=1e-3)


@pytest.mark.parametrize("warm_up", [True, False])
def test_resident_searches_give_the_hits_of_the_cpu(collection: Path, staged: Engine, warm_up: bool):
    """Ten hits are the same but for neighbours that half precision cannot tell apart; random models are the worst."""
    with Engine.open(collection, device="cuda", warm_up=warm_up, recall_weight=3.0) as engine:
        assert engine.choices["pipeline"].startswith("resident")
        for question in QUESTIONS * 2:
            ours = engine.search(question, budget_ms=None)
            theirs = staged.search(question, budget_ms=None, top_k=20, depth=EVERYTHING)
            bound = theirs.hits[9].score - LOGIT_ATOL * 2
            near = {hit.id for hit in theirs.hits if hit.score >= bound}
            assert {hit.id for hit in ours.hits} <= near
            assert ours.device == "cuda"
        many = engine.search_many(QUESTIONS)
        assert [result.query for result in many] == QUESTIONS
        assert [len(result.hits) for result in many] == [10] * len(QUESTIONS)


def test_stages_on_the_device_serve_what_the_pipeline_does_not(collection: Path, staged: Engine):
    with Engine.open(collection, device="cuda", warm_up=False, recall_weight=3.0) as engine:
        ours, theirs = (each.search(QUESTIONS[2], rerank=False, candidates=300) for each in (engine, staged))
        shared = {hit.id for hit in ours.hits} & {hit.id for hit in theirs.hits}
        assert len(shared) >= 9


def test_an_engine_that_does_not_fit_is_refused_before_anything_is_allocated(collection: Path):
    with pytest.raises(DeviceError, match="largest part"):
        Engine.open(collection, device="cuda", gpu_memory_gib=0.5)
