"""`tandem bench gpu` as a dry run on the CPU, and what it makes to measure on."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("safetensors")

from tandem.bench.gpu import run as running  # noqa: E402
from tandem.bench.gpu.rivals import COMPILED, THEIRS, WAYS  # noqa: E402
from tandem.bench.gpu.settings import DRY_RUN, Settings  # noqa: E402
from tandem.bench.random_models.artifacts import make, texts  # noqa: E402
from tandem.bench.random_models.shapes import TINY  # noqa: E402
from tandem.bench.random_models.workload import PAIR_SPECIAL, RandomWorkload  # noqa: E402
from tandem.bench.report import report  # noqa: E402
from tandem.engine.build.indexing import index_corpus  # noqa: E402
from tandem.engine.errors import DeviceError  # noqa: E402
from tandem.engine.platform import cuda_driver  # noqa: E402

SECTIONS = ["checks", "floors", "kernels", "latency", "throughput", "engine", "rivals", "tests"]


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory, packable_bi_encoder: Path, packable_cross_encoder: Path) -> dict:
    out = tmp_path_factory.mktemp("out")
    collection = tmp_path_factory.mktemp("collection") / "c"
    index_corpus("python:json", collection, encoder=packable_bi_encoder, reranker=packable_cross_encoder, device="cpu")
    settings = replace(DRY_RUN, passages=(300,), base_passages=300, concurrency=(2,), concurrency_seconds=0.05)
    document = running.run(settings, out, collection=collection, command=None)
    assert json.loads((out / "gpu-dry-run.json").read_text()) == document
    text = (out / "gpu-dry-run.md").read_text()
    assert text.startswith("## gpu: dry run\n")
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
    rows = document["sections"]["checks"]["rows"]
    assert sum(row["passed"] is True and row["found"] <= row["allowed"] for row in rows) >= 7
    (faiss,) = (row for row in rows if row["file"] == "bench/gpu/test_faiss.py")
    assert faiss["passed"] is None, "a dry run has no GPU for it"


def test_a_row_of_a_kernel_has_the_ratio_of_every_rival(document: dict):
    rows = document["sections"]["kernels"]["rows"]
    assert all(row["µs"] > 0 and row["share of peak"] > 0 for row in rows)
    assert all("x" in row["slower than ours"] for row in rows)
    (padded,) = (row for row in rows if row["case"] == "attention tiny")
    assert padded["slower than ours"].startswith("padded sdpa ")
    assert len({row["case"] for row in rows}) == len(rows)


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
    assert row["overlap@10"] >= 0.995
    assert row["found"] <= row["allowed"]
    assert row["p50 ms"] > 0
    assert row["passed"] is True
    assert row["pipeline"].startswith("resident")
    assert row["collection"] == "c"


def test_rivals_are_rows_with_times_or_reasons(document: dict):
    rows = document["sections"]["rivals"]["rows"]
    assert {row["who"] for row in rows} == set(WAYS)
    assert all(("error" in row) != ("p50 ms" in row) for row in rows)
    ours = [row for row in rows if row["who"].startswith("tandem packed")]
    models = len({*DRY_RUN.models, *DRY_RUN.decoders})
    assert len(ours) == 4 * models, "from ids and from texts, at a search's size and at a larger one"
    assert all("p50 ms" in row for row in (*ours, *(row for row in rows if row["who"] in (THEIRS, COMPILED))))
    assert all(row["times slower than packed"] > 0 for row in ours)
    assert rows[-1]["who"] == COMPILED, "what is slow to start is last"


def test_without_a_gpu_it_is_refused(tmp_path: Path):
    if not isinstance(cuda_driver.find(), str):
        pytest.skip("there is a GPU")
    with pytest.raises(DeviceError, match="--dry-run"):
        running.run(Settings(), tmp_path)


def test_texts_have_the_tokens_that_were_wanted(tmp_path: Path):
    tokenizer = make(tmp_path / "model", TINY, "cross-encoder", seed=3, graphs=()).tokenizer()
    made = texts(TINY, [1, 7, 30], np.random.default_rng(0))
    assert tokenizer.encode_many(made).lengths.tolist() == [1, 7, 30]


def test_pairs_of_a_random_store_have_the_length_that_was_wanted():
    workload = RandomWorkload(TINY, passages=2000, tokens=24)
    stored = workload.store()
    mean = float(torch.diff(stored.tokens.offsets).float().mean())
    assert mean + PAIR_SPECIAL + workload.query_tokens == pytest.approx(24, rel=0.05)
    assert torch.allclose(stored.vectors.norm(dim=1), torch.ones(2000))
