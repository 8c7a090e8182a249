"""What a page of latencies says: where a rival is faster, and the least that the work could have taken."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tandem.bench import roofline
from tandem.bench.latency import EARLY_EXIT, FP32, SAME_PRECISION, _summaries, _tables, floor
from tandem.bench.setup import Asked
from tandem.bench.stats import spread
from tandem.bench.workloads import needed_reranker
from tandem.engine import Engine
from tandem.engine.build.indexing import index_corpus
from tandem.engine.scoring.effort import FINALISTS

from .corpus import write_corpus

WITHIN = {"ms": 250.0, "degraded": 0, "over": 0, "recall_over": 0} | dict.fromkeys(
    ("total", "recall", "reranked"), spread([1.0])
)
WORKLOAD = {
    "name": "corpus", "passages": 3, "questions": 2, "question_tokens": spread([4.0]), "pair_tokens": None,
    "threads": 1, "candidates": 3, "reranker": "tiny int8",
}  # fmt: skip
RATES = roofline.Rates({"fp32": 1e9, "int8": 4e9}, 1e9, {"fp32": "numpy", "int8": "numpy"})


def stages(recall: float, rerank: float) -> dict[str, list[float]]:
    return {"recall": [recall] * 2, "rerank": [rerank] * 2, "total": [recall + rerank] * 2}


def notes(taken: dict[str, dict[str, list[float]]]) -> list[str]:
    measured, compared = _summaries(taken, [])
    least = {"recall": {"fp32": 1.0}, "rerank": {"fp32": 2.0}}
    return list(_tables(WORKLOAD, measured, compared, least, WITHIN, RATES, {})[0].notes)


def test_a_rival_that_is_faster_is_named():
    said = notes({"tandem": stages(4.0, 100.0), "onnxruntime": stages(3.0, 200.0)})
    assert "onnxruntime takes less time than Tandem to recall: × 0.75, the median of its ratios" in said
    assert not any("to rerank" in note for note in said)


def test_a_rival_that_is_faster_in_the_same_precision_alone_is_named_too():
    taken = {"tandem": stages(4.0, 100.0), FP32: stages(4.0, 400.0), "onnxruntime": stages(5.0, 300.0)}
    said = notes(taken)
    assert f"onnxruntime takes less time than Tandem to {SAME_PRECISION}: × 0.75, the median of its ratios" in said
    assert not any(note.endswith("to rerank: × 3.00, the median of its ratios") for note in said)


@pytest.fixture(scope="module")
def engine(
    tmp_path_factory: pytest.TempPathFactory, tiny_bi_encoder: Path, exiting_cross_encoder: Path
) -> Iterator[Engine]:
    folder = tmp_path_factory.mktemp("latency")
    models = {"encoder": tiny_bi_encoder, "reranker": exiting_cross_encoder}
    index_corpus(write_corpus(folder, 60), folder / "collection", threads=1, **models)
    with Engine.open(folder / "collection", device="cpu", threads=1, warm_up=False) as opened:
        yield opened


def test_the_floor_of_a_search_with_an_exit_is_its_own(engine: Engine):
    reranker = needed_reranker(engine)
    lengths = [np.full(60, 30), np.full(60, 50)]
    least = floor(engine, reranker, Asked(["when did it begin", "and end"], [], lengths), RATES)
    whole = roofline.model_flops(reranker.artifact.manifest.size, np.concatenate(lengths), first_token=True)
    assert least["rerank"]["fp32"] == pytest.approx(whole.sum() / 2 / 1e9 * 1e3, rel=0.01)
    assert reranker.early is not None
    begun = roofline.model_flops(reranker.early.artifact.manifest.size, np.concatenate(lengths), first_token=True)
    assert least[EARLY_EXIT]["fp32"] == pytest.approx((begun.sum() / 2 + FINALISTS * whole.mean()) / 1e6, rel=0.01)


def test_numpys_rate_is_none_of_fewer_threads_than_cores(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(roofline, "available_cores", lambda: 2)
    assert "numpy" not in [library for _, library, _ in roofline._products(1)]
    assert "numpy" in [library for _, library, _ in roofline._products(2)]
