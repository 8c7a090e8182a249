"""Rivals are compared one after the other, and each by its order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tandem.bench import setup
from tandem.bench.agreement import agreement
from tandem.bench.rivals import RIVALS
from tandem.bench.rivals.process import Timed
from tandem.bench.turns import Unavailable
from tandem.bench.workloads import prepare
from tandem.engine import Engine
from tandem.engine.build.indexing import index_corpus
from tandem.engine.errors import InputError
from tandem.engine.models.cross_encoder import CrossEncoder

from .corpus import write_corpus, write_questions


class Fake:
    """A rival that scores as `score` does."""

    def __init__(self, name: str, score: Any) -> None:
        self.name, self.spec, self.versions, self._score = name, RIVALS[name], {"package": "1.0"}, score

    def rerank(self, query: str, texts: Sequence[str]) -> Timed:
        return Timed(self._score(query, texts), 1.0)


@pytest.fixture
def given(tmp_path: Path, tiny_bi_encoder: Path, tiny_cross_encoder: Path) -> Iterator[setup.Setup]:
    collection = tmp_path / "collection"
    index_corpus(write_corpus(tmp_path, 8), collection, encoder=tiny_bi_encoder, reranker=tiny_cross_encoder, threads=1)
    write_questions(tmp_path, 3)
    with Engine.open(collection, device="cpu", threads=1, warm_up=False) as engine:
        yield setup.Setup(engine, prepare(collection, tmp_path, tell=lambda message: None))


def test_one_rival_after_the_other(given: setup.Setup, monkeypatch: pytest.MonkeyPatch):
    ours = CrossEncoder(given.reranker.artifact, given.engine.device, "fp32")

    def fails(query: str, texts: Sequence[str]) -> Any:
        raise Unavailable("it ran out of memory")

    ways = {
        "transformers": ours.score,
        "onnxruntime": lambda query, texts: -ours.score(query, texts),
        "flashrank": lambda query, texts: 1 / (1 + np.exp(-ours.score(query, texts))),
        "infinity": fails,
    }
    at_once: list[list[str]] = []
    running: list[str] = []

    @contextmanager
    def started(names: Sequence[str], *_: Any, **__: Any) -> Iterator[tuple[list[Fake], dict[str, str]]]:
        running.extend(names)
        at_once.append([*running])
        yield [Fake(name, ways[name]) for name in names], {}
        for name in names:
            running.remove(name)

    monkeypatch.setattr(setup, "running", started)
    asked = setup.Setup(given.engine, given.workload, rivals=[*ways, "fastembed"])
    found = agreement(asked, sample=2, candidates=6, absent={"fastembed": "pip failed"})
    assert at_once == [[name] for name in ways], "what is known to be missing is not started"
    assert {name: each["tau"] for name, each in found["rivals"].items()} == {
        "transformers": 1.0, "onnxruntime": -1.0, "flashrank": 1.0,
    }  # fmt: skip
    assert [found["rivals"][name]["agrees"] for name in ("transformers", "onnxruntime", "flashrank")] == [
        True, False, True,
    ]  # fmt: skip
    assert found["absent"] == {"fastembed": "pip failed", "infinity": "it ran out of memory"}


def test_an_unknown_rival_is_refused_before_any_is_started(given: setup.Setup, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(setup, "running", lambda *_, **__: pytest.fail("one was started"))
    asked = setup.Setup(given.engine, given.workload, rivals=["onnxruntime", "nobody"])
    with pytest.raises(InputError, match="unknown rival 'nobody'"):
        agreement(asked)
