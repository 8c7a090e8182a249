"""MTEB itself with the adapter, on tasks that are made here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tandem.engine import Engine
from tandem.engine.errors import ArtifactError, EngineError, InputError

from .conftest import DOCUMENTS, QUERY, TEXTS, need

pytestmark = [pytest.mark.clients, pytest.mark.usefixtures("_their_warnings")]
mteb = need("mteb")

from tandem.engine.adapters.mteb import MtebCrossEncoder, MtebEncoder  # noqa: E402

CORPUS = [{"id": row["_id"], "title": row["title"], "text": row["text"]} for row in DOCUMENTS]
QUERIES = {"q1": QUERY, "q2": "rain and cold"}
JUDGED = {"q1": {"backups": 1}, "q2": {"wetter": 1}}


def task(kind: str) -> Any:
    """A task of MTEB's over the documents here: Retrieval, or Reranking of all of them for each query."""
    from datasets import Dataset
    from mteb.abstasks.retrieval import AbsTaskRetrieval
    from mteb.abstasks.task_metadata import TaskMetadata

    class Notes(AbsTaskRetrieval):
        metadata = TaskMetadata(
            name=f"Notes{kind}",
            description="Questions about notes.",
            dataset={"path": "none/none", "revision": "1"},
            type=kind,
            category="t2t",
            modalities=["text"],
            eval_splits=["test"],
            eval_langs=["eng-Latn"],
            main_score="ndcg_at_10",
            prompt={"query": "Find the note that answers"},
        )

        def load_data(self, *args: Any, **more: Any) -> None:
            every = {name: [row["id"] for row in CORPUS] for name in QUERIES}
            split = {
                "corpus": Dataset.from_list(CORPUS),
                "queries": Dataset.from_list([{"id": name, "text": text} for name, text in QUERIES.items()]),
                "relevant_docs": JUDGED,
                "top_ranked": every if kind == "Reranking" else None,
            }
            self.dataset = {"default": {"test": split}}
            self.data_loaded = True

    return Notes()


def scored(model: Any, kind: str, folder: Path) -> dict[str, float]:
    """What MTEB makes of a model."""
    result = mteb.evaluate(
        model, task(kind), cache=None, prediction_folder=folder, show_progress_bar=False, co2_tracker=False
    )
    (found,) = result.task_results[0].scores["test"]
    return found


def predicted(folder: Path, kind: str) -> dict[str, dict[str, float]]:
    (file,) = folder.rglob(f"*Notes{kind}*.json")
    rows: dict[str, dict[str, float]] = json.loads(file.read_text())["default"]["test"]
    return rows


@pytest.fixture
def passages() -> list[str]:
    """The documents, as MTEB gives them to a model."""
    return [f"{row['title']} {row['text']}".strip() for row in CORPUS]


def test_an_artifact_is_scored(tiny_bi_encoder: Path, engine: Engine, passages: list[str], tmp_path: Path):
    model = MtebEncoder(tiny_bi_encoder, device="cpu")
    found = scored(model, "Retrieval", tmp_path)
    assert 0 <= found["ndcg_at_10"] <= 1
    similarities = engine.embed(list(QUERIES.values()), "query") @ engine.embed(passages, "passage").T
    for name, row in zip(QUERIES, similarities, strict=True):
        told = predicted(tmp_path, "Retrieval")[name]
        np.testing.assert_allclose([told[each["id"]] for each in CORPUS], row, atol=1e-5)
    assert model.mteb_model_meta.embed_dim == engine.encoder.dimension
    assert model.mteb_model_meta.revision == engine.encoder.artifact.fingerprint[:12]


def test_each_source_of_a_bi_encoder_scores_the_same(given: dict[str, Any], tiny_bi_encoder: Path, tmp_path: Path):
    source = {name: value for name, value in given.items() if name != "backend"}
    served = scored(MtebEncoder(given["backend"], **source, name="notes/served"), "Retrieval", tmp_path / "a")
    assert served["ndcg_at_10"] == scored(MtebEncoder(tiny_bi_encoder), "Retrieval", tmp_path / "b")["ndcg_at_10"]


def test_a_cross_encoder_is_scored(tiny_cross_encoder: Path, engine: Engine, passages: list[str], tmp_path: Path):
    model = MtebCrossEncoder(tiny_cross_encoder, device="cpu", precision="fp32")
    found = scored(model, "Reranking", tmp_path)
    assert 0 <= found["ndcg_at_10"] <= 1
    for name, query in QUERIES.items():
        told = predicted(tmp_path, "Reranking")[name]
        wanted = {CORPUS[each.index]["id"]: each.score for each in engine.rerank(query, passages)}
        assert told == pytest.approx(wanted, abs=1e-5)


def test_each_source_of_a_cross_encoder_gives_the_same(given: dict[str, Any], tiny_cross_encoder: Path, engine: Engine):
    source = {name: value for name, value in given.items() if name != "backend"}
    queries, documents = [{"text": [QUERY, QUERY, "rain", QUERY]}], [{"text": TEXTS}]
    wanted = [engine.rerank(query, [text])[0].score for query, text in zip(queries[0]["text"], TEXTS, strict=True)]
    for model in (
        MtebCrossEncoder(given["backend"], **source),
        MtebCrossEncoder(tiny_cross_encoder, precision="fp32", device="cpu"),
    ):
        np.testing.assert_allclose(model.predict(queries, documents), wanted, rtol=1e-5)
    assert len(model.predict([], [])) == 0


def test_prompts_are_those_of_the_kind_of_text(tmp_path_factory: pytest.TempPathFactory):
    from mteb.types import PromptType

    from tandem.export import export_model
    from tandem.export.parity.samples import docstrings

    from ...tiny import tiny_model

    folder = tmp_path_factory.mktemp("prompted")
    prompts = {"query": "ask: ", "document": "note: "}
    source = tiny_model(folder / "source", prompts=prompts)
    artifact = export_model(
        str(source), "bi-encoder", folder / "artifact", precisions=("fp32",), texts=docstrings()[:60]
    ).path
    model, metadata = MtebEncoder(artifact, device="cpu"), task("Retrieval").metadata

    def encoded(text: str, kind: PromptType | None) -> Any:
        return model.encode([{"text": [text]}], task_metadata=metadata, prompt_type=kind)

    for kind, prompt in ((PromptType.query, "ask: "), (PromptType.document, "note: ")):
        np.testing.assert_array_equal(encoded(QUERY, kind), encoded(prompt + QUERY, None))
    assert not np.array_equal(encoded(QUERY, None), encoded(QUERY, PromptType.query))


def test_a_tasks_instruction_goes_to_models_that_take_one(tiny_bi_encoder: Path, tmp_path: Path):
    model = MtebEncoder(tiny_bi_encoder, device="cpu", task_instructions=True)
    with pytest.raises(InputError, match="takes no instruction"):
        scored(model, "Retrieval", tmp_path)


def test_what_is_wrong_is_told(tiny_bi_encoder: Path, engine: Engine, tmp_path: Path):
    with pytest.raises(ArtifactError, match="a cross-encoder is needed"):
        MtebCrossEncoder(tiny_bi_encoder)
    with pytest.raises(ArtifactError, match="absent"):
        MtebEncoder(tmp_path / "absent")
    with pytest.raises(InputError, match="device and precision are those of an artifact"):
        MtebEncoder(engine, precision="fp32")
    with pytest.raises(InputError, match="reads text, and the task has image"):
        MtebEncoder(engine).encode([{"image": [b""]}], task_metadata=None)
    with pytest.raises(EngineError, match="cannot be reached"):
        MtebEncoder("http://127.0.0.1:9").encode([{"text": ["a"]}], task_metadata=None)
