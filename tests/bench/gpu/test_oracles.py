"""The oracles of `tandem bench gpu`: kernels and models on a device against numpy and FP32 on the CPU.

Inputs are random. Each runs twice: on the CPU at sizes that show only that the comparison is right, and on a GPU at
those of a search.
What it found, what is allowed and the scale of both are recorded, and become a row of the benchmark.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("safetensors")

from tandem.bench.gpu.checks import PLUGIN  # noqa: E402
from tandem.bench.gpu.settings import DRY_RUN, Settings  # noqa: E402
from tandem.bench.random_models.artifacts import made  # noqa: E402
from tandem.bench.random_models.shapes import (  # noqa: E402
    MINILM,
    MODERNBERT_BASE,
    QWEN3_SMALL,
    TINY,
    TINY_MODERNBERT,
    TINY_QWEN3,
    TINY_ROBERTA,
    ModelShape,
)
from tandem.bench.random_models.workload import TEMPLATE  # noqa: E402
from tandem.engine.models.artifact import Artifact, Precision  # noqa: E402
from tandem.engine.models.cross_encoder import CrossEncoder  # noqa: E402
from tandem.engine.models.encoder import BiEncoder  # noqa: E402
from tandem.engine.models.runtime.onnx_cuda import OnnxCudaRuntime  # noqa: E402
from tandem.engine.platform import cuda_driver  # noqa: E402
from tandem.engine.platform.device import Device  # noqa: E402
from tandem.engine.text.tokens import TokenBatch, cumulative, join_pairs  # noqa: E402
from tandem.kernels.pack import PairForm, TokenRows, pack  # noqa: E402
from tandem.kernels.scan import scan  # noqa: E402

from .judging import VECTOR_ATOL, Record, hits_judged, judge, judge_largest, missing, pairs, unit  # noqa: E402

HITS_THAT_MAY_DIFFER = 0.005
"""Of ten hits on the device, at least 99.5 % are the oracle's."""
PIPELINE_QUERIES = 20
# Heads of 64, of which MiniLM (32) says nothing, at the least depth.
WIDE_HEADS = ModelShape("two layers of bert-base", 2, 12, 768, 3072, 30_522)
FAMILIES = {
    "xlm-roberta": (TINY_ROBERTA, ModelShape("two layers of XLM-R-base", 2, 12, 768, 3072, 30_522, "xlm-roberta")),
    "modernbert": (TINY_MODERNBERT, replace(MODERNBERT_BASE, layers=4)),
    "qwen3": (TINY_QWEN3, replace(QWEN3_SMALL, layers=2, vocabulary=30_522)),
}
"""Tiny for a dry run, and wide at the least depth that has every kind of layer."""
TINY_WIDE_HEADS = ModelShape("tiny with heads of 64", 2, 2, 128, 256, 500)
ORACLE = Device("cpu", "the oracle", 4)


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def settings(request: pytest.FixtureRequest) -> Settings:
    """Of a dry run on the CPU, or of a GPU, where there is one."""
    run = request.config.pluginmanager.get_plugin(PLUGIN)  # of `tandem bench gpu`, which has a seed
    seed = 0 if run is None else run.task.settings.seed
    if request.param == "cpu":
        return replace(DRY_RUN, seed=seed)
    if (problem := cuda_driver.torch_problem()) is not None:
        pytest.skip(problem)
    return Settings(seed=seed)


@pytest.fixture
def shape(settings: Settings) -> ModelShape:
    return TINY if settings.dry else MINILM


def device(settings: Settings) -> Device:
    return Device("cpu" if settings.dry else "cuda", "a test", 4)


def test_scan_against_numpy(settings: Settings, record_property: Record):
    random = np.random.default_rng(settings.seed)
    vectors, asked = unit(random, settings.faiss_rows, 384), unit(random, 7, 384)
    dtype = torch.float32 if settings.dry else torch.float16
    stored, queries = (torch.from_numpy(part).to(settings.device, dtype) for part in (vectors, asked))
    _, rows = scan(stored, queries, 100)
    judge(record_property, missing(vectors, asked, rows.cpu().numpy()), 0.0, "share of rows that are wrong")


def test_pack_against_the_join_on_the_host(settings: Settings, record_property: Record):
    """Pairs with short, long and empty passages."""
    random = np.random.default_rng(settings.seed)
    lengths = np.array([0, 1, 5, 700, 508, 509, *random.integers(1, 300, 58)])
    bounds = cumulative(lengths)
    ids = random.integers(5, 30_000, int(bounds[-1])).astype(np.int32)
    query = random.integers(5, 30_000, 13).astype(np.int32)
    expected = join_pairs(query, TokenBatch(ids, bounds), TEMPLATE, 512, segments=True)

    def on(array: Any) -> Any:
        return torch.from_numpy(np.ascontiguousarray(array)).to(settings.device)

    packed = pack(
        TokenRows(on(query), on(np.array([0, len(query)]))), TokenRows(on(ids), on(bounds)),
        on(np.arange(len(lengths))), torch.zeros(len(lengths), dtype=torch.int32, device=settings.device),
        PairForm.of(TEMPLATE, 512, settings.device), 16_384,
    )  # fmt: skip
    differing = (packed.ids[: len(expected.ids)].cpu().numpy() != expected.ids).sum()
    differing += (packed.layout.cu_seqlens.cpu().numpy() != expected.cu_seqlens).sum()
    judge(record_property, int(differing), 0, "ids that differ")


def cross_encoder(tmp_path: Path, shape: ModelShape, seed: int) -> tuple[Any, TokenBatch, Any]:
    """A cross-encoder, pairs for it, and their logits in FP32 on the CPU."""
    artifact = made(tmp_path / "cross", shape, "cross-encoder", seed=seed, graphs=("fp32", "fp16"))
    batch = pairs(40, 100, shape, seed)
    return artifact, batch, graph_on(ORACLE, artifact, "fp32").run(batch)


def graph_on(device: Device, artifact: Artifact, precision: Precision) -> OnnxCudaRuntime:
    """The graph of a GPU, on the CPU too."""
    manifest = artifact.manifest
    return OnnxCudaRuntime(
        artifact.graph(precision), pad_id=manifest.pad_id, dimension=manifest.dimension, max_length=manifest.max_length,
        device=device,
    )  # fmt: skip


def packed_logits(tmp_path: Path, settings: Settings, shape: ModelShape, record: Record) -> None:
    artifact, batch, oracle = cross_encoder(tmp_path, shape, settings.seed)
    ours = CrossEncoder(artifact, device(settings), runtime="packed").compute_all(batch)
    judge_largest(record, ours, oracle)


def test_packed_cross_encoder_against_fp32_on_the_cpu(
    tmp_path: Path, settings: Settings, shape: ModelShape, record_property: Record
):
    packed_logits(tmp_path, settings, shape, record_property)


def test_packed_cross_encoder_with_heads_of_64(tmp_path: Path, settings: Settings, record_property: Record):
    """MiniLM's heads of 32 say nothing of them."""
    shape = TINY_WIDE_HEADS if settings.dry else WIDE_HEADS
    assert shape.width // shape.heads == 64
    assert MINILM.width // MINILM.heads == 32
    packed_logits(tmp_path, settings, shape, record_property)


@pytest.mark.parametrize("family", FAMILIES)
def test_packed_families_against_fp32_on_the_cpu(
    tmp_path: Path, settings: Settings, family: str, record_property: Record
):
    """The oracle is the packed runtime itself, which equals transformers there, given one sequence at a time.

    Some are longer than ModernBERT's windows.
    """
    shape = FAMILIES[family][0 if settings.dry else 1]
    artifact = made(tmp_path / "cross", shape, "cross-encoder", seed=settings.seed, graphs=())
    batch = pairs(12, 250, shape, settings.seed)
    one = CrossEncoder(artifact, ORACLE, runtime="packed")
    oracle = np.concatenate([one.compute_all(batch.select(np.array([row]))) for row in range(len(batch))])
    judge_largest(
        record_property, CrossEncoder(artifact, device(settings), runtime="packed").compute_all(batch), oracle
    )


def test_packed_bi_encoder_against_fp32_on_the_cpu(
    tmp_path: Path, settings: Settings, shape: ModelShape, record_property: Record
):
    artifact = made(tmp_path / "bi", shape, "bi-encoder", seed=settings.seed, graphs=("fp32",))
    batch = pairs(40, 60, shape, settings.seed)
    ours = np.stack([np.asarray(row) for row in BiEncoder(artifact, device(settings), runtime="packed").run(batch)])
    judge_largest(record_property, ours, graph_on(ORACLE, artifact, "fp32").run(batch), VECTOR_ATOL)


def test_onnx_runtime_on_the_device_against_fp32_on_the_cpu(
    tmp_path: Path, settings: Settings, shape: ModelShape, record_property: Record
):
    if (problem := device(settings).onnx_problem) is not None:
        pytest.skip(problem)
    artifact = made(tmp_path / "cross", shape, "cross-encoder", seed=settings.seed, graphs=("fp32", "fp16"))
    batch, oracle = pairs(40, 100, shape, settings.seed), CrossEncoder(artifact, ORACLE, runtime="packed")
    ours = graph_on(device(settings), artifact, "fp32" if settings.dry else "fp16")
    ours.warm_up()
    judge_largest(record_property, ours.run(batch), oracle.compute_all(batch))


def test_resident_pipeline_against_stages_on_the_cpu(settings: Settings, shape: ModelShape, record_property: Record):
    """Ten hits that are not hits of the same pipeline on the CPU in FP32.

    Random models score random texts nearly alike, so a hit is one too whose score there is, within the error of a
    logit, the tenth's; `overlap@10` counts without that.
    """
    workload, candidates = settings.workload(shape, 500, 40), min(settings.candidates, 30)
    asked, ours = workload.queries(PIPELINE_QUERIES), workload.pipeline()
    oracle = replace(workload, device="cpu").pipeline(ours.parts.store)
    one = ours.search(asked, candidates, 10)
    # More candidates than ours had: what half precision took from just beyond them is judged as well.
    other = oracle.search(asked, 2 * candidates, 2 * candidates)
    judged = [hits_judged(a, b, candidates) for a, b in zip(one, other, strict=True)]
    wrong, overlap, spread = np.mean(judged, axis=0).tolist()
    more = {"overlap@10": overlap, "scale": spread}
    judge(record_property, wrong, HITS_THAT_MAY_DIFFER, "share of hits that are wrong", **more)
