"""Rivals run: their scores are ours, and what cannot run says why."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tandem.bench.rivals import RIVALS, Rival, running
from tandem.bench.rivals.environments import install
from tandem.bench.rivals.staging import stage
from tandem.bench.turns import Unavailable
from tandem.engine.errors import InputError
from tandem.engine.models.artifact import Artifact
from tandem.engine.models.cross_encoder import CrossEncoder
from tandem.engine.models.encoder import BiEncoder
from tandem.engine.platform.device import choose

QUESTION = "return the largest of the items"
TEXTS = ["The largest item is returned.", "Open a file and read it. " * 40, "Nothing here.", "x"]
# One without and one with PyTorch; those with environments of their own are tried by `tandem bench rivals`.
HERE = ("onnxruntime", "sentence-transformers")


@pytest.fixture
def models(tiny_bi_encoder: Path, tiny_cross_encoder: Path) -> tuple[Artifact, Artifact]:
    return Artifact.open(tiny_bi_encoder), Artifact.open(tiny_cross_encoder)


@pytest.mark.parametrize("name", HERE)
def test_a_rival_reads_the_same_and_scores_the_same(models, name: str):
    encoder, reranker = models
    device = choose("cpu", 1)
    ours = BiEncoder(encoder, device, "fp32")
    vectors = ours.encode(ours.tokenizer.encode_many(TEXTS))
    logits = CrossEncoder(reranker, device, "fp32").score(QUESTION, TEXTS)
    with Rival(RIVALS[name], encoder, reranker, threads=1) as rival:
        assert np.allclose(rival.encode(TEXTS).values, vectors, atol=1e-4)
        answer = rival.rerank(QUESTION, TEXTS)
    assert np.allclose(answer.values, logits, atol=1e-4)
    assert answer.ms > 0
    assert rival.versions


def test_what_a_rival_reads_is_limited_as_ours_is(models, tmp_path: Path):
    import json

    encoder, _ = models
    folder = stage(encoder, "int8", tmp_path / "staged")
    config = json.loads((folder / "tokenizer_config.json").read_text())
    assert config["model_max_length"] == config["max_length"] == encoder.manifest.max_length
    assert [path.name for path in (folder / "onnx").iterdir()] == ["model_quantized.onnx"]


def test_a_rival_without_its_environment_says_how_to_make_it(models, tmp_path: Path):
    with running(["flashrank"], *models, threads=1, environments=tmp_path) as (started, absent):
        assert started == []
    assert "bench rivals --install" in absent["flashrank"]


def test_an_environment_loses_what_does_not_fit_and_is_made_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    ran: list[list[str]] = []

    def run(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        (tmp_path / "openvino").mkdir(exist_ok=True)
        ran.append(command[2:])
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(subprocess, "run", run)
    for _ in range(2):
        assert install(["openvino"], tmp_path) == {}
    spec = RIVALS["sentence-transformers openvino"]
    assert [words[:2] for words in ran[1:]] == [["pip", "install"], ["pip", "uninstall"]]
    assert ran[1][-len(spec.packages) :] == list(spec.packages)
    assert ran[2][-1] == "torchvision"
    assert len(ran) == 3, "made once"


def test_a_model_without_the_precision_is_named_and_its_place_is_not(models):
    with pytest.raises(Unavailable, match="has no fp16 variant") as reason:
        Rival(replace(RIVALS["onnxruntime"], precision="fp16"), *models, threads=1)
    assert str(models[0].path) not in str(reason.value), "a saved result must not tell where somebody's files lie"


def test_a_rival_that_cannot_load_says_why(models):
    broken = replace(RIVALS["sentence-transformers"], backend="nonsense")
    with pytest.raises(Unavailable, match="KeyError: 'nonsense'"):
        Rival(broken, *models, threads=1)


def test_a_rival_whose_process_dies_says_so(models):
    with pytest.raises(Unavailable, match=r"its process ended with exit status 1: .*No module named children\.nobody"):
        Rival(replace(RIVALS["onnxruntime"], child="nobody"), *models, threads=1)


def test_a_rival_that_hangs_is_left_out(models, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("tandem.bench.rivals.process.START_SECONDS", 0.0)
    with pytest.raises(Unavailable, match="nothing was heard for 0 s"):
        Rival(RIVALS["onnxruntime"], *models, threads=1)


def test_a_failed_request_is_the_reason_and_not_an_answer(models):
    with (
        Rival(RIVALS["onnxruntime"], *models, threads=1) as rival,
        pytest.raises(Unavailable, match="Error"),
    ):
        rival.rerank(QUESTION, [None])  # type: ignore[list-item]


def test_an_unknown_rival_is_an_input_error(models):
    with pytest.raises(InputError, match="unknown rival 'x'; there are transformers"):
        running(["x"], *models, threads=1).__enter__()
