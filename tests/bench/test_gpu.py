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
from tandem.bench.gpu.rivals import COMPILED, WAYS  # noqa: E402
from tandem.bench.gpu.settings import TINY, Settings, dry_run  # noqa: E402
from tandem.bench.report import report  # noqa: E402
from tandem.engine.build.indexing import index_corpus  # noqa: E402
from tandem.engine.errors import DeviceError  # noqa: E402
from tandem.engine.models.cross_encoder import CrossEncoder  # noqa: E402
from tandem.engine.models.encoder import BiEncoder  # noqa: E402
from tandem.engine.platform import cuda_driver  # noqa: E402
from tandem.engine.platform.device import Device  # noqa: E402

CPU = Device("cpu", "a test", 1)
SECTIONS = ["checks", "floors", "kernels", "latency", "throughput", "engine", "rivals"]


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory, packable_bi_encoder: Path, packable_cross_encoder: Path) -> dict:
    out = tmp_path_factory.mktemp("out")
    collection = tmp_path_factory.mktemp("collection") / "c"
    index_corpus("python:json", collection, encoder=packable_bi_encoder, reranker=packable_cross_encoder, device="cpu")
    settings = replace(dry_run(), passages=(300,), base_passages=300, concurrency=(2,), concurrency_seconds=0.05)
    document = running.run(settings, out, collection=collection, apart=False)
    assert json.loads((out / "gpu-dry-run.json").read_text()) == document
    text = (out / "gpu-dry-run.md").read_text()
    assert text.startswith("# tandem bench gpu: dry run\n")
    assert "no number here means anything" in text
    assert "| scan against numpy | yes |" in text
    places = [text.index(f"**{name}") for name in ["targets", *(f"{name} (" for name in SECTIONS)]]
    assert places == sorted(places)
    return document


def test_every_section_runs_and_every_check_that_can_run_passes(document: dict):
    assert list(document["sections"]) == SECTIONS
    for name in SECTIONS:
        assert document["sections"][name]["error"] is None, name
        assert document["sections"][name]["rows"], name
    assert document["checks_passed"] is True
    passed = {row["check"]: row["passed"] for row in document["sections"]["checks"]["rows"]}
    assert sum(value is True for value in passed.values()) >= 7
    assert passed["FAISS against numpy"] is None or cuda_driver.faiss_problem() is None


def test_every_rival_of_a_kernel_is_a_row_with_its_ratio(document: dict):
    rows = document["sections"]["kernels"]["rows"]
    padded = [row for row in rows if row["op"].startswith("attention") and row["who"] != "ours"]
    assert padded
    assert {row["who"] for row in rows} >= {"ours", "pytorch", "padded sdpa"}
    assert all(row["times slower than ours"] > 0 for row in rows if "error" not in row)
    assert all(row["times slower than ours"] == 1 for row in rows if row["who"] == "ours")
    assert len({(row["op"], row["who"], row["called"]) for row in rows}) == len(rows)


def test_a_dry_run_reaches_no_target(document: dict):
    assert len(document["targets"]) == 7
    assert all(row["passed"] is None for row in document["targets"])


def test_the_report_of_all_benchmarks_has_its_tables(document: dict, tmp_path: Path):
    (tmp_path / "gpu.json").write_text(json.dumps(document))
    words = report(tmp_path, tmp_path / "RESULTS.md").read_text()
    assert "## gpu: dry run" in words
    assert all(f"**{table['title']}**" in words for table in document["tables"])


def test_a_real_collection_gives_the_hits_of_the_cpu(document: dict):
    (row,) = document["sections"]["engine"]["rows"]
    assert row["overlap@10"] >= row["wanted"]
    assert row["passed"] is True
    assert row["pipeline"].startswith("resident")
    assert row["collection"] == "c"


def test_rivals_are_rows_with_times_or_reasons(document: dict):
    rows = document["sections"]["rivals"]["rows"]
    assert {row["who"] for row in rows} == set(WAYS)
    assert all(("error" in row) != ("p50 ms" in row) for row in rows)
    ours = [row for row in rows if row["who"].startswith("tandem packed")]
    assert len(ours) == 4, "from ids and from texts, at a search's size and at a larger one"
    assert all(row["times slower than packed"] > 0 for row in ours)
    assert rows[-1]["who"] == COMPILED, "what is slow to start is last"


def test_without_a_gpu_it_is_refused(tmp_path: Path):
    if not isinstance(cuda_driver.find(), str):
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
    np.testing.assert_allclose(packed.runtime.run(batch), graph.runtime.run(batch), atol=2e-5)


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
