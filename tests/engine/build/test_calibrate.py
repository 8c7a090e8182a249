"""Fitting a collection's own weights: what chance does not change, what a real gain does, what few questions say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tandem.engine import Engine
from tandem.engine.build.calibrate import FEW, calibrate
from tandem.engine.build.indexing import index_corpus
from tandem.engine.scoring.fit import COUNTS
from tandem.engine.scoring.fusion import Fusion

OPEN: dict[str, Any] = dict(device="cpu", warm_up=False, reranker_precision="fp32")
COUNT = 60


@pytest.fixture(scope="module")
def collection(tmp_path_factory: pytest.TempPathFactory, tiny_bi_encoder: Path, exiting_cross_encoder: Path) -> Path:
    folder = tmp_path_factory.mktemp("calibrated")
    rows = [{"_id": f"d{n}", "text": f"{_word(n)} {_word(n + 7)} {_word(3 * n)}"} for n in range(COUNT)]
    (folder / "corpus.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    index_corpus(folder / "corpus.jsonl", folder / "c", encoder=tiny_bi_encoder, reranker=exiting_cross_encoder)
    return folder / "c"


def _word(number: int) -> str:
    return "".join("abcdefghij"[int(digit)] for digit in f"{number % COUNT:03d}")


def beir(folder: Path, answers: dict[str, str]) -> Path:
    """Judged questions: each text's document."""
    (folder / "qrels").mkdir(parents=True)
    lines = [json.dumps({"_id": f"q{n}", "text": text}) for n, text in enumerate(answers)]
    (folder / "queries.jsonl").write_text("\n".join(lines) + "\n")
    table = [f"q{n}\t{document}\t1" for n, document in enumerate(answers.values())]
    (folder / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\n" + "\n".join(table) + "\n")
    return folder


def test_ties_and_chance_keep_the_weights_and_few_questions_are_told(collection: Path, tmp_path: Path):
    with Engine.open(collection, **OPEN, recall_weight=5.0) as engine:
        found = calibrate(engine, beir(tmp_path / "b", {_word(3): "d3"}), candidates=COUNT)
    assert found.kept
    assert (found.fusion.recall_weight, found.fusion.lexical_weight) == (5.0, Fusion().lexical_weight)
    assert found.after == found.before
    assert found.doubt == f"1 questions are few: with {FEW} or more the relevance can be relied on"


def test_a_clear_gain_is_taken_and_everything_is_fitted(collection: Path, tmp_path: Path):
    """Each question's answer is what recall puts first, and the tiny reranker knows nothing."""
    answers = {}
    with Engine.open(collection, **OPEN) as engine:
        for number in range(FEW):
            answers[f"{_word(number)} {_word(number + 7)}"] = (
                engine.search(f"{_word(number)} {_word(number + 7)}", rerank=False).hits[0].document
            )
        found = calibrate(engine, beir(tmp_path / "b", answers), candidates=COUNT)
        assert not found.kept
        assert found.after > found.before
        assert (found.questions, found.doubt) == (FEW, None)
        layer = engine.reranker.artifact.manifest.early
    assert found.fusion.enough == COUNTS[0], "recall's first is always right"
    scale = found.fusion.scale
    assert [*scale.exits] == [layer]
    assert scale.unread is not None
    assert scale.relevance.slope > 0
    with Engine.open(collection, **OPEN) as engine:
        assert engine.fusion == found.fusion
        hits = engine.search(_word(5), budget_ms=None).hits
    likely = [hit.relevance for hit in hits]
    assert likely == sorted(likely, reverse=True)
    assert np.ptp(likely) > 0
