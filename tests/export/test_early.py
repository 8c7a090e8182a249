"""An early exit goes along with its model: the same layers, a head of its own, proven and verified like the whole."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from tandem.engine.errors import ArtifactError, ExportError
from tandem.engine.models.artifact import EARLY, MANIFEST, Artifact
from tandem.engine.platform.durable_io import sha256
from tandem.export import export_model, verify_artifact
from tandem.export.finetune.reranker import Reranker
from tandem.export.parity.samples import docstrings
from tandem.export.parity.scoring import onnx_forward

from ..tiny import hf_tokenizer
from .test_adapter import sequences

TEXTS = docstrings()[:30]


@pytest.fixture(scope="module")
def parts(exiting_cross_encoder: Path) -> tuple[Path, Path]:
    """The base and the adapter, with exits after layers 1 and 2."""
    return exiting_cross_encoder.parent / "base", exiting_cross_encoder.parent / "adapter"


def export(parts: tuple[Path, Path], out: Path, **options: object) -> Artifact:
    base, adapter = parts
    return export_model(
        str(base), "cross-encoder", out, adapter=adapter, precisions=("fp32",), texts=TEXTS, **options
    )  # fmt: skip


def logits(graph: Path) -> np.ndarray:
    return onnx_forward(graph, 0)(sequences(pairs()))


PAIRS = [("a query", passage) for passage in ("some passage", "text", "sort a list")]


def pairs():
    return hf_tokenizer("bert")(*map(list, zip(*PAIRS, strict=True)), padding=True, return_tensors="pt")


def test_the_exit_gives_what_its_head_gives_inside_the_whole_model(exiting_cross_encoder: Path, parts):
    base, adapter = parts
    expected = Reranker(str(base), str(adapter), False, 1, None, None).score(PAIRS)
    artifact = Artifact.open(exiting_cross_encoder)
    early = artifact.early()
    assert early is not None
    assert (artifact.manifest.early, early.manifest.exit_after, early.manifest.early) == (1, 1, None)
    np.testing.assert_allclose(logits(early.graph("fp32")), expected[0], atol=1e-5)
    np.testing.assert_allclose(logits(artifact.graph("fp32")), expected[-1], atol=1e-5)
    assert np.abs(expected[0] - expected[-1]).max() > 1e-3


def test_another_exit_or_none_can_be_chosen(parts, tmp_path: Path):
    second = export(parts, tmp_path / "second", early_exit=2)
    assert second.manifest.early == 2
    assert second.early().architecture()["num_hidden_layers"] == 2
    none = export(parts, tmp_path / "none", early_exit=0)
    assert (none.manifest.early, none.early(), (none.path / EARLY).exists()) == (None, None, False)


def test_an_exit_that_is_not_there_is_an_error(parts, tmp_path: Path):
    with pytest.raises(ExportError, match="exits after layers 1, 2, none after layer 3"):
        export(parts, tmp_path / "out", early_exit=3)
    with pytest.raises(ExportError, match="has no early exits"):
        export_model(str(parts[0]), "bi-encoder", tmp_path / "out", precisions=("fp32",), texts=TEXTS, early_exit=1)
    assert list(tmp_path.iterdir()) == []


def test_verify_reads_the_exit_too(exiting_cross_encoder: Path, tmp_path: Path):
    lines: list[str] = []
    report = verify_artifact(exiting_cross_encoder, progress=lines.append)
    assert report.early is not None
    assert "the early exit after layer 1:" in lines
    copy = Path(shutil.copytree(exiting_cross_encoder, tmp_path / "copy"))
    graph = copy / EARLY / "onnx/model.onnx"
    data = bytearray(graph.read_bytes())
    data[len(data) // 2] ^= 1
    graph.write_bytes(data)
    with pytest.raises(ArtifactError, match=r"early/onnx/model\.onnx is damaged"):
        verify_artifact(copy)


@pytest.mark.parametrize("change", ["exit_after", "max_length", "pad_id", "tokenizer"])
def test_an_exit_of_another_model_is_refused(exiting_cross_encoder: Path, tmp_path: Path, change: str):
    """Though every sum is right: somebody put it there."""
    copy = Path(shutil.copytree(exiting_cross_encoder, tmp_path / "copy"))
    inner = copy / EARLY / MANIFEST
    manifest = json.loads(inner.read_text())
    if change == "tokenizer":
        tokenizer = inner.parent / "tokenizer.json"
        tokenizer.write_text(tokenizer.read_text() + " ")
        record = {"sha256": sha256(tokenizer), "size": tokenizer.stat().st_size}
        manifest["files"]["tokenizer.json"] = record
    else:
        manifest[change] = 16
    inner.write_text(json.dumps(manifest))
    outer = json.loads((copy / MANIFEST).read_text())
    outer["files"][f"{EARLY}/{MANIFEST}"] = {"sha256": sha256(inner), "size": inner.stat().st_size}
    if change == "tokenizer":
        outer["files"][f"{EARLY}/tokenizer.json"] = record
    (copy / MANIFEST).write_text(json.dumps(outer))
    with pytest.raises(ArtifactError, match="no exit after layer 1 of this model"):
        Artifact.open(copy).early()


def test_an_exit_that_fails_its_check_is_left_out_unless_it_was_asked_for(
    parts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    def failing(precision: str, reference: object, variant: object, *, early: bool = False) -> list[str]:
        return ["it is another one"] if early else []

    monkeypatch.setattr("tandem.export.pipeline.failures", failing)
    artifact = export(parts, tmp_path / "out")
    assert (artifact.manifest.early, (artifact.path / EARLY).exists()) == (None, False)
    assert "the early exit after layer 1 is left out" in caplog.text
    with pytest.raises(ExportError, match="it is another one"):
        export(parts, tmp_path / "asked", early_exit=1)
    assert not (tmp_path / "asked").exists()


def test_a_changed_manifest_of_the_exit_is_refused(exiting_cross_encoder: Path, tmp_path: Path):
    copy = Path(shutil.copytree(exiting_cross_encoder, tmp_path / "copy"))
    manifest = copy / EARLY / MANIFEST
    manifest.write_text(manifest.read_text().replace("to layer 1", "to layer 2"))
    with pytest.raises(ArtifactError, match=r"early/manifest\.json is damaged"):
        Artifact.open(copy).early()
