"""Sources, recall and lists: against something slower or worked by hand."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from datasets import load_from_disk

from tandem.engine.collection.document import Document
from tandem.engine.errors import CorpusError, InputError
from tandem.engine.scoring.fit import Domain
from tandem.engine.scoring.fusion import Fusion
from tandem.engine.text.tokens import pack
from tandem.export.finetune.data import read_source
from tandem.export.finetune.evaluate import JudgedQuestions
from tandem.export.finetune.exits import exit_curve
from tandem.export.finetune.judge import CEILING, READ, Judge
from tandem.export.finetune.labelled import Labelled, Question, documents, drawn
from tandem.export.finetune.lists import dataset, judged_lists, training_lists
from tandem.export.finetune.prepare import LISTS, TRAIN, Sources, prepare
from tandem.export.finetune.recall import DEPTH, Recall
from tandem.export.finetune.teacher import Teacher
from tandem.export.source.library import Loaded

from .worlds import SETTINGS


def unit(rows: int, seed: int = 0) -> np.ndarray:
    vectors = np.random.default_rng(seed).normal(size=(rows, 16)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def recalled(questions: int, passages: int = 100) -> Recall:
    """Passage i is the number i, question i has the only word of passage i + 50; its answer is passage i."""
    texts = [Document(f"d{i}", f"T{i // 5}", str(i)) for i in range(passages)]
    asked = [Question(str(i), (i,)) for i in range(questions)]
    return Recall(
        Labelled("numbers", texts, asked), asked, pack([[row] for row in range(passages)]),
        pack([[(row + 50) % passages] for row in range(questions)]), unit(passages), unit(questions, 1),
    )  # fmt: skip


@pytest.mark.parametrize("margin", [0.0, 0.10, 0.25])
def test_negatives_are_the_nearest_that_are_no_likely_answer(margin: float):
    recall = recalled(5)
    recall.vectors[7] = recall.vectors[3] + 0.001  # all but the same text
    recall.questions[1] = Question("1", (1, 20))
    barred = np.array([40, 41])
    for row in range(5):
        cosines = recall.vectors @ recall.queries[row]
        allowed = [
            passage
            for passage in np.argsort(-cosines, kind="stable")
            if passage not in (*recall.questions[row].positives, *barred)
            and cosines[passage] <= cosines[row] + margin
            and recall.vectors[passage] @ recall.vectors[row] <= 0.97
        ]
        found = recall.negatives(row, barred, margin)
        assert sorted(found) == sorted(allowed[:DEPTH])
        assert (np.diff(recall.evidence(row, found)) <= 0).all(), "by falling evidence"
    assert 7 not in recall.negatives(3, barred, margin)


def test_validation_asks_for_the_best_evidence_in_recalls_order():
    recall = recalled(20)
    rows = judged_lists(recall, range(20), 20, 8, complete=False)
    assert rows
    for row in rows:
        question = int(row["query"])
        nearest = np.argsort(-(recall.vectors @ recall.queries[question]), kind="stable")[:DEPTH]
        best = sorted(recall.evidence(question, nearest))[-8:]
        assert sorted(row["evidence"]) == pytest.approx(best)
        assert (np.diff(row["cosines"]) <= 0).all()
        assert row["labels"].sum() == 1
    tested = judged_lists(recall, range(20), 20, 8, complete=True)
    assert len(tested) == 20
    assert all(row["labels"].sum() + row["missed"] == 1 for row in tested)


def test_training_lists_begin_with_the_answer_and_never_repeat_it():
    settings = SETTINGS.model_copy(update={"negatives": 7, "epochs": 1.5})
    barred = np.arange(90, 100)
    rows = training_lists(recalled(30), 20, barred, settings, None, np.random.default_rng(0))
    assert [int(row["query"]) for row in rows] == [row for row in range(20) for _ in range(2)]
    for row in rows:
        numbers = [int(passage.split()[-1]) for passage in row["passages"]]
        assert numbers[0] == int(row["query"])
        assert len(set(numbers)) == 8
        assert not set(numbers) & set(barred)
        assert row["labels"].tolist() == [1] + [0] * 7
    titled = np.mean([row["passages"][0].startswith("T") for row in rows])
    assert 0.5 < titled < 1.0
    assert rows != training_lists(recalled(30), 20, barred, settings, None, np.random.default_rng(1))


def test_answers_that_recall_missed_count_but_are_never_ranked():
    row = {"query": "q", "passages": ["a", "b"], "cosines": [0.9, 0.8], "evidence": [0.9, 0.8], "labels": [0.0, 1.0]}
    asked = dataset([{**row, "missed": 1}, {**row, "missed": 0}])
    judged = JudgedQuestions.of(asked, np.arange(8, dtype=np.float32).reshape(2, 4))
    assert [each.tolist() for each in judged.gains] == [[0.0, 1.0, 1.0], [0.0, 1.0]]
    assert judged.logits[0].shape == (2, 3)
    assert judged.logits[1].tolist() == [[2.0, 3.0], [6.0, 7.0]]
    assert judged.logits[0][:, 2].max() < -1e8


def test_documents_are_drawn_whole():
    source = recalled(20).source
    rows = documents(source, 12, np.random.default_rng(0))
    assert len(rows) == 15
    assert {row // 5 for row in rows} == {row // 5 for row in rows if row % 5 == 0}
    part = drawn(source, 12, np.random.default_rng(0))
    assert [passage.text for passage in part.passages] == [str(row) for row in sorted(rows)]
    for question in part.questions:
        assert part.passages[question.positives[0]].text == question.text


def test_a_split_is_chosen_by_use(data: Path, tmp_path: Path):
    folder = shutil.copytree(data, tmp_path / "words")
    (folder / "qrels" / "dev.tsv").write_text("query-id\tcorpus-id\tscore\nq3\td3\t1\n")
    assert len(read_source(folder, ("train",)).questions) == 30
    assert [question.positives for question in read_source(folder, ("dev", "test")).questions] == [(3,)]
    (folder / "qrels" / "dev.tsv").write_text("query-id\tcorpus-id\tscore\nq3\tnowhere\t1\n")
    with pytest.raises(CorpusError, match="no judged question"):
        read_source(folder, ("dev",))


def test_documentation_asks_by_its_first_sentence():
    source = read_source("python:json", ())
    assert len(source.questions) == len(source.passages) > 3
    assert all(question.text not in source.passages[question.positives[0]].text[:20] for question in source.questions)


def recaller(source: Labelled, questions: list[Question]) -> Recall:
    """Every question's vector is nearly its answer's."""
    vectors = unit(len(source.passages))
    queries = vectors[[question.positives[0] for question in questions]] + 0.01
    numbers = pack([[row] for row in range(len(vectors))])
    return Recall(source, questions, numbers, numbers.select(np.arange(len(questions))), vectors, queries)


def test_a_folder_may_train_and_validate_by_its_splits(data: Path, tmp_path: Path):
    folder = shutil.copytree(data, tmp_path / "words")
    (folder / "qrels" / "dev.tsv").write_text("query-id\tcorpus-id\tscore\nq3\td3\t1\nq4\td4\t1\n")
    found = prepare(Sources((str(folder),), (str(folder),)), SETTINGS, recaller, None, tmp_path)
    asked = {passages[int(np.argmax(labels))] for passages, labels in zip(
        found.domains["words"]["passages"], found.domains["words"]["labels"], strict=True)}  # fmt: skip
    assert (found.counts, len(asked)) == ({"words": 28}, 2)
    shown = {passage for passages in load_from_disk(str(tmp_path / LISTS / TRAIN))["passages"] for passage in passages}
    texts = {passage.split(maxsplit=2)[2] for passage in asked}
    assert not any(passage.endswith(text) for passage in shown for text in texts)


def test_what_is_held_back_is_asked_among_all_and_never_shown(data: Path, tmp_path: Path):
    found = prepare(Sources((str(data),)), SETTINGS, recaller, None, tmp_path)
    assert found.counts == {"words": 24}
    assert len(found.domains["words"]) == 6
    again = prepare(Sources((str(data),)), SETTINGS, None, None, tmp_path)
    assert again.counts == found.counts, "a run that goes on reads what is kept"
    shutil.rmtree(tmp_path / LISTS)
    only = prepare(Sources((str(data),)), SETTINGS, recaller, None, tmp_path, train=False)
    assert only.domains["words"]["query"] == found.domains["words"]["query"]
    assert only.counts == {}


def test_two_sources_of_one_name_are_refused(data: Path, tmp_path: Path):
    other = shutil.copytree(data, tmp_path / "words")
    with pytest.raises(InputError, match="two sources are called words"):
        prepare(Sources((str(data), str(other))), SETTINGS, recaller, None, tmp_path)


class Reader:
    """Stands for a cross-encoder: the logit of a pair is `slope` times its passage's number, plus `favour`."""

    def __init__(self, slope: float, favour: dict[tuple[int, int], float] | None = None) -> None:
        self.slope, self.favour = slope, favour or {}

    def score(self, query: str, passages: list[str]) -> np.ndarray:
        numbers = [int(passage.split()[-1]) for passage in passages]
        return np.array([self.slope * n + self.favour.get((int(query), n), 0.0) for n in numbers], dtype=np.float32)


def test_what_the_judge_puts_highest_comes_first():
    recall = recalled(20)
    for question in range(20):
        found = recall.negatives(question, np.array([], dtype=int), 0.1)
        hardest, sure = Judge(Reader(0.01), Fusion()).hardest(recall, question, found)
        assert hardest.tolist() == [*sorted(found[:READ], reverse=True), *found[READ:]]
        assert sure < 0.9


def test_a_passage_far_above_the_answer_is_no_negative():
    recall = recalled(20)
    found = recall.negatives(4, np.array([], dtype=int), 2.0)
    above = {(4, int(found[3])): CEILING + 0.1, (4, int(found[5])): CEILING - 0.1}
    hardest, _ = Judge(Reader(0.0, above), Fusion()).hardest(recall, 4, found)
    assert hardest.tolist() == [found[5], *(row for at, row in enumerate(found) if at not in (3, 5))]


def test_most_questions_that_the_judge_is_sure_of_are_left_out():
    judge = Judge(Reader(0.0, {(question, question): 1e3 for question in range(0, 50, 2)}), Fusion())
    asked: list[int] = []
    for seed in range(8):
        rows = training_lists(recalled(50), 50, np.array([], dtype=int), SETTINGS, judge, np.random.default_rng(seed))
        asked += [int(row["query"]) for row in rows]
    assert sum(question % 2 for question in asked) == 8 * 25
    assert 30 < sum(question % 2 == 0 for question in asked) < 70  # a quarter of 200


def test_exit_curve_by_hand():
    recall = [np.zeros(4)]
    gains = [np.array([0.0, 0.0, 1.0, 0.0])]
    early = Domain([np.array([3.0, 2.0, 1.0, 0.0])], recall, recall, gains)  # the answer is third
    last = Domain([np.array([0.0, 1.0, 9.0, 2.0])], recall, recall, gains)  # and first after the last layer
    lost, found, all_on = exit_curve([early, last], [2], 6, 0.0, cuts=(2, 3, 40))
    assert lost.ndcg == pytest.approx(1 / np.log2(4))  # dropped: third, behind the two that went on
    assert found.ndcg == pytest.approx(1.0)
    assert lost.compute == pytest.approx((2 + 4 * 2 / 4) / 6)
    assert all_on.compute == pytest.approx(1.0)


class Compass:
    """A bi-encoder for which text i points i degrees from north."""

    def __init__(self) -> None:
        self.read: list[list[str]] = []

    def encode_query(self, texts: list[str], **_: object) -> np.ndarray:
        self.read.append(texts)
        angles = np.radians([float(text.split()[-1]) for text in texts])
        return np.stack([np.cos(angles), np.sin(angles)], axis=1)

    encode_document = encode_query


def test_a_teacher_gives_its_own_order_and_leaves_the_evidence():
    rows = training_lists(recalled(4), 4, np.array([], dtype=np.int64), SETTINGS, None, np.random.default_rng(0))
    before, compass = [dict(row) for row in rows], Compass()
    Teacher(Loaded(compass, "bi-encoder")).teach([*rows, *(dict(row) for row in rows)])
    for row, old in zip(rows, before, strict=True):
        degrees = np.array([float(passage.split()[-1]) for passage in row["passages"]]) - float(row["query"])
        np.testing.assert_allclose(row["cosines"], np.cos(np.radians(degrees)), atol=1e-6)
        assert {key: value is old[key] for key, value in row.items() if key != "cosines"} == dict.fromkeys(
            ("query", "passages", "evidence", "labels", "missed"), True
        )
    assert all(len(texts) == len(set(texts)) for texts in compass.read), "equal texts are read once"
