"""The packed runtime on a CPU, through the kernels' references in FP32: ONNX Runtime FP32 is its oracle."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from tandem.engine.errors import ArtifactError, InputError  # noqa: E402
from tandem.engine.models.artifact import Artifact  # noqa: E402
from tandem.engine.models.cross_encoder import CrossEncoder  # noqa: E402
from tandem.engine.models.encoder import BiEncoder  # noqa: E402
from tandem.engine.models.runtime import cuda_graphs, packed  # noqa: E402
from tandem.engine.models.runtime.families import HEAD_WIDTHS  # noqa: E402
from tandem.engine.models.runtime.families.model import PackedModel  # noqa: E402
from tandem.engine.models.runtime.select import shape_problem  # noqa: E402
from tandem.engine.platform.device import Device  # noqa: E402
from tandem.engine.text.tokens import TokenBatch, cumulative, pack  # noqa: E402
from tandem.kernels.attention import HEAD_DIMS  # noqa: E402

CPU = Device("cpu", "a test", 1)
TEXTS = ["a", "the list is sorted in place", "returns a new string " * 40, "file", "open the file and read it " * 5]
# FP32 on both sides, sums in another order: logits of the tiny models are near 1.
ATOL = 2e-5


def test_logits_equal_onnx_runtime_in_fp32(packable_cross_encoder: Path):
    artifact = Artifact.open(packable_cross_encoder)
    ours, onnx = (CrossEncoder(artifact, CPU, "fp32", runtime=name) for name in ("packed", "onnx"))
    assert (ours.choice.runtime, ours.precision) == ("packed", "fp32")
    np.testing.assert_allclose(ours.score("sort a list", TEXTS), onnx.score("sort a list", TEXTS), atol=ATOL)


@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_vectors_equal_onnx_runtime_in_fp32(tmp_path: Path, pooling: str):
    from ....conftest import exported

    artifact = Artifact.open(exported(tmp_path, "bi-encoder", pooling=pooling, hidden=64))
    ours, onnx = (BiEncoder(artifact, CPU, runtime=name) for name in ("packed", "onnx"))
    ids = ours.tokenizer.encode_many(TEXTS)
    np.testing.assert_allclose(ours.encode(ids), onnx.encode(ids), atol=ATOL)


@pytest.mark.parametrize("kind", ["bi-encoder", "cross-encoder"])
@pytest.mark.parametrize("family", ["xlm-roberta", "modernbert"])
def test_exported_families_equal_onnx_runtime_in_fp32(tmp_path: Path, family: Any, kind: Any):
    from tandem.export import export_model
    from tandem.export.parity.samples import docstrings

    from ....tiny import tiny_model

    source = tiny_model(tmp_path / "source", family, kind, hidden=64)
    artifact = export_model(str(source), kind, tmp_path / "artifact", precisions=("fp32",), texts=docstrings()[:60])
    assert shape_problem(artifact) is None
    if kind == "bi-encoder":
        ours, onnx = (BiEncoder(artifact, CPU, "fp32", runtime=name) for name in ("packed", "onnx"))
        ids = ours.tokenizer.encode_many(TEXTS)
        np.testing.assert_allclose(ours.encode(ids), onnx.encode(ids), atol=ATOL)
    else:
        one, other = (CrossEncoder(artifact, CPU, "fp32", runtime=name) for name in ("packed", "onnx"))
        np.testing.assert_allclose(one.score("sort a list", TEXTS), other.score("sort a list", TEXTS), atol=1e-4)


def test_a_score_does_not_depend_on_the_batch(packable_cross_encoder: Path):
    model = CrossEncoder(Artifact.open(packable_cross_encoder), CPU, runtime="packed")
    together = model.score("sort a list", TEXTS)
    alone = np.concatenate([model.score("sort a list", [text]) for text in TEXTS])
    np.testing.assert_allclose(together, alone, atol=ATOL)


def test_a_batch_beyond_the_largest_bucket_runs_in_parts(packable_cross_encoder: Path, monkeypatch: pytest.MonkeyPatch):
    model = CrossEncoder(Artifact.open(packable_cross_encoder), CPU, runtime="packed")
    expected = model.score("sort a list", TEXTS * 3)
    monkeypatch.setattr(packed, "BUCKETS", (packed.TokenBucket(64, 4), packed.TokenBucket(128, 3)))
    np.testing.assert_allclose(model.score("sort a list", TEXTS * 3), expected, atol=ATOL)


def test_fixed_buffers_give_the_same_scores(packable_cross_encoder: Path, monkeypatch: pytest.MonkeyPatch):
    """As with CUDA graphs, on the CPU: larger and smaller batches over what the buffers held before."""

    def captured(forward: Any, pool: Any) -> Any:
        forward()
        return forward

    model = CrossEncoder(Artifact.open(packable_cross_encoder), CPU, runtime="packed")
    expected = model.score("sort a list", TEXTS * 2)
    monkeypatch.setattr(packed, "BUCKETS", tuple(packed.TokenBucket(size, size // 16) for size in (64, 256, 1024)))
    monkeypatch.setattr(cuda_graphs, "captured", captured)
    runtime: Any = model.runtime
    runtime._cuda, runtime.buffers = True, runtime.model.buffers(1024)
    runtime.warm_up()
    assert len(runtime._captured) == 3
    for count in (10, 1, 3, 10, 2):
        np.testing.assert_allclose(model.score("sort a list", (TEXTS * 2)[:count]), expected[:count], atol=ATOL)


def test_splitting_keeps_within_the_bucket():
    lengths = np.random.default_rng(0).integers(1, 90, 200)
    parts = packed.split(lengths, packed.TokenBucket(100, 4))
    assert np.concatenate(parts).tolist() == list(range(200))
    assert all(lengths[part].sum() <= 100 and len(part) <= 4 for part in parts)
    assert [part.tolist() for part in packed.split(np.array([500, 1]), packed.TokenBucket(100, 4))] == [[0], [1]]


def test_every_batch_has_the_smallest_bucket_that_holds_it():
    tokens = [bucket.tokens for bucket in packed.BUCKETS]
    assert tokens == sorted(tokens)
    assert packed.bucket_for(12_800, 100) == packed.TokenBucket(14_336, 896)
    assert packed.bucket_for(100, 100) == packed.TokenBucket(2048, 128)  # many, and short
    assert packed.bucket_for(60_000, 100) is None


def test_an_id_beyond_the_vocabulary_is_refused_before_a_kernel_reads_it(packable_cross_encoder: Path):
    model = CrossEncoder(Artifact.open(packable_cross_encoder), CPU, runtime="packed")
    with pytest.raises(InputError, match="outside the model"):
        model.runtime.run(TokenBatch(np.array([2, 100_000, 3], dtype=np.int32), cumulative([3]), None))


def test_a_sequence_beyond_the_positions_is_refused_likewise(packable_cross_encoder: Path):
    model = CrossEncoder(Artifact.open(packable_cross_encoder), CPU, runtime="packed")
    long = model.runtime.model.shape.positions + 1
    with pytest.raises(InputError, match=f"a sequence of {long} tokens is longer than the model's {long - 1}"):
        model.runtime.run(TokenBatch(np.full(long, 7, dtype=np.int32), cumulative([long]), None))


def test_a_manifest_that_promises_more_positions_than_there_are_is_refused(
    packable_cross_encoder: Path, tmp_path: Path
):
    folder = shutil.copytree(packable_cross_encoder, tmp_path / "artifact")
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["max_length"] = 100_000
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ArtifactError, match=r"reads 100000 tokens and has \d+ positions; export the model again"):
        CrossEncoder(Artifact.open(folder), CPU, runtime="packed")


def test_missing_weights_are_an_artifact_error(packable_cross_encoder: Path, tmp_path: Path):
    from safetensors.torch import load_file, save_file

    folder = tmp_path / "artifact"
    shutil.copytree(packable_cross_encoder, folder)
    tensors = load_file(folder / "model.safetensors")
    tensors.pop("classifier.weight")
    save_file(tensors, folder / "model.safetensors")
    _resign(folder, "model.safetensors")
    with pytest.raises(ArtifactError, match=r"classifier\.weight"):
        CrossEncoder(Artifact.open(folder), CPU, runtime="packed")


def test_the_heads_that_are_supported_are_those_of_the_kernel():
    assert set(HEAD_WIDTHS) == set(HEAD_DIMS)


def test_the_bundled_encoder_gives_the_vectors_of_pytorch():
    """Trained weights, six layers, twelve heads of 32: Hugging Face's forward pass over padded texts is the oracle."""
    from safetensors.torch import load_file
    from transformers import AutoModel, AutoTokenizer

    from tandem.export.source.resolve import resolve

    folder = resolve("minilm-l6", "bi-encoder", revision=None, adapter=None).folder
    model = AutoModel.from_pretrained(folder, local_files_only=True).eval()
    batch = AutoTokenizer.from_pretrained(folder, local_files_only=True)(TEXTS, padding=True, return_tensors="pt")
    with torch.no_grad():
        hidden = model(**batch).last_hidden_state
    mask = batch["attention_mask"][:, :, None]
    expected = (hidden * mask).sum(1) / mask.sum(1)

    config = json.loads((folder / "config.json").read_text())
    tensors = load_file(folder / "model.safetensors")
    runtime = packed.PackedRuntime(PackedModel(config, tensors, "mean", torch.float32, "cpu"))
    lengths = batch["attention_mask"].sum(1)
    ids = batch["input_ids"][batch["attention_mask"].bool()].numpy().astype(np.int32)
    np.testing.assert_allclose(runtime.run(TokenBatch(ids, cumulative(lengths.numpy()))), expected.numpy(), atol=2e-5)


@pytest.mark.slow
def test_the_bundled_reranker_scores_as_its_onnx_graph(bundled_reranker: Path):
    artifact = Artifact.open(bundled_reranker)
    ours, onnx = (CrossEncoder(artifact, CPU, "fp32", runtime=name) for name in ("packed", "onnx"))
    texts = ["Monday is a day of the week.", "json.loads parses text. " * 12, "x"]
    np.testing.assert_allclose(ours.score("parse json", texts), onnx.score("parse json", texts), atol=1e-4)


@pytest.mark.slow
def test_the_bundled_encoder_gives_the_vectors_of_its_onnx_graph(bundled_encoder: Path):
    artifact = Artifact.open(bundled_encoder)
    ours, onnx = (BiEncoder(artifact, CPU, runtime=name) for name in ("packed", "onnx"))
    ids = ours.tokenizer.encode_many(TEXTS)
    np.testing.assert_allclose(ours.encode(ids), onnx.encode(ids), atol=1e-5)


def test_an_empty_batch_is_answered(packable_cross_encoder: Path):
    model = CrossEncoder(Artifact.open(packable_cross_encoder), CPU, runtime="packed")
    assert model.runtime.run(pack([[2, 5, 3]])).shape == (1,)


def _resign(folder: Path, name: str) -> None:
    """Let the manifest name the file's new contents."""
    from tandem.engine.platform.durable_io import sha256

    manifest = json.loads((folder / "manifest.json").read_text())
    file = folder / name
    manifest["files"][name] = {"sha256": sha256(file), "size": file.stat().st_size}
    (folder / "manifest.json").write_text(json.dumps(manifest))
