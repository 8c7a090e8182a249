"""`tandem bench gpu` as a dry run on the CPU, and the graphs that it writes itself."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("safetensors")

from tandem.bench.gpu import data  # noqa: E402
from tandem.bench.gpu import run as running  # noqa: E402
from tandem.bench.gpu.models import make, texts  # noqa: E402
from tandem.bench.gpu.settings import TINY, Settings, dry_run  # noqa: E402
from tandem.engine import gpu  # noqa: E402
from tandem.engine.cross_encoder import CrossEncoder  # noqa: E402
from tandem.engine.device import Device  # noqa: E402
from tandem.engine.encoder import BiEncoder  # noqa: E402
from tandem.engine.errors import DeviceError  # noqa: E402
from tandem.engine.indexing import index_corpus  # noqa: E402

CPU = Device("cpu", "a test", 1)
SECTIONS = ["checks", "floors", "kernels", "latency", "throughput", "engine", "rivals"]


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory, packable_bi_encoder: Path, packable_cross_encoder: Path) -> dict:
    out = tmp_path_factory.mktemp("out")
    collection = tmp_path_factory.mktemp("collection") / "c"
    index_corpus("python:json", collection, encoder=packable_bi_encoder, reranker=packable_cross_encoder, device="cpu")
    settings = replace(dry_run(), passages=(300,), base_passages=300, concurrency=(2,), concurrency_seconds=0.05)
    document = running.run(settings, out, collection=collection)
    assert json.loads((out / "gpu-dry-run.json").read_text()) == document
    text = (out / "gpu-dry-run.md").read_text()
    assert "no number here means anything" in text
    assert all(f"**{name} (" in text for name in SECTIONS)
    return document


def test_every_section_runs_and_every_check_that_can_run_passes(document: dict):
    assert list(document["sections"]) == SECTIONS
    for name in SECTIONS:
        assert document["sections"][name]["error"] is None, name
        assert document["sections"][name]["rows"], name
    assert document["checks_passed"] is True
    passed = {row["check"]: row["passed"] for row in document["sections"]["checks"]["rows"]}
    assert sum(value is True for value in passed.values()) >= 6
    assert passed["FAISS against numpy"] is None or gpu.faiss_problem() is None


def test_a_real_collection_gives_the_hits_of_the_cpu(document: dict):
    (row,) = document["sections"]["engine"]["rows"]
    assert row["overlap@10"] >= row["wanted"]
    assert row["pipeline"].startswith("resident")


def test_without_a_collection_that_section_says_so():
    from tandem.bench.gpu.engine import engine

    assert "--collection" in running._measured(lambda: engine(dry_run(), None), float("inf"))["error"]


def test_rivals_are_rows_with_times_or_reasons(document: dict):
    rows = document["sections"]["rivals"]["rows"]
    assert {row["who"] for row in rows} >= {"tandem packed", "plain ONNX Runtime", "sentence-transformers FP16"}
    assert all(("error" in row) != ("p50 ms" in row) for row in rows)
    assert all(row["p50 ms"] > 0 for row in rows if row["who"] == "tandem packed")


def test_a_section_that_fails_keeps_what_it_had_and_ends_alone():
    def rows():
        yield {"a": 1}
        raise ValueError("broken")

    section = running._measured(rows, float("inf"))
    assert section["rows"] == [{"a": 1}]
    assert section["error"] == "ValueError: broken"


def test_a_section_without_time_left_says_so():
    assert "minutes given were over" in running._measured(lambda: [{"a": 1}], 0.0)["error"]


def test_without_a_gpu_it_is_refused(tmp_path: Path):
    if not isinstance(gpu.find(), str):
        pytest.skip("there is a GPU")
    with pytest.raises(DeviceError, match="--dry-run"):
        running.run(Settings(), tmp_path)


@pytest.mark.parametrize("kind", ["bi-encoder", "cross-encoder"])
def test_graphs_written_byte_by_byte_are_the_model(tmp_path: Path, kind: str):
    """Against the packed runtime on the same weights, and by the onnx package's own checker."""
    onnx = pytest.importorskip("onnx")
    artifact = make(tmp_path / "model", TINY, kind, seed=3, graphs=("fp32", "fp16"))  # type: ignore[arg-type]
    for name in ("model.onnx", "model_fp16.onnx"):
        onnx.checker.check_model(str(artifact.path / "onnx" / name))
    batch = data.pairs(12, 30, TINY, np.random.default_rng(0))
    loaded = BiEncoder if kind == "bi-encoder" else CrossEncoder
    packed, graph = (loaded(artifact, CPU, "fp32", runtime=runtime) for runtime in ("packed", "onnx"))
    np.testing.assert_allclose(packed.compute(batch), graph.compute(batch), atol=2e-5)


def test_texts_have_the_tokens_that_were_wanted(tmp_path: Path):
    tokenizer = make(tmp_path / "model", TINY, "cross-encoder", seed=3, graphs=()).tokenizer()
    made = texts(TINY, [1, 7, 30], np.random.default_rng(0))
    assert tokenizer.encode_many(made).lengths.tolist() == [1, 7, 30]


def test_pairs_of_a_random_store_have_the_length_that_was_wanted():
    settings = replace(dry_run(), base_passages=2000)
    stored = data.store(2000, 24, TINY, settings)
    mean = float(torch.diff(stored.tokens.offsets).float().mean())
    assert mean + data.PAIR_SPECIAL + settings.query_tokens == pytest.approx(24, rel=0.05)
    assert torch.allclose(stored.vectors.norm(dim=1), torch.ones(2000))
