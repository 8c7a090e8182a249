"""Negatives, training lists, pseudo-questions, the curve of exits: against something slower or worked by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tandem.engine.scoring.fit import Domain
from tandem.engine.scoring.fusion import Fusion
from tandem.engine.text.tokens import TokenBatch, pack
from tandem.export.finetune.data import Dataset, Passage
from tandem.export.finetune.exits import exit_curve
from tandem.export.finetune.judge_negatives import CEILING, READ, Judge, harden
from tandem.export.finetune.listwise import ListSource, _rows, schedule
from tandem.export.finetune.negatives import DEPTH, Mined, _candidates, among, by_evidence
from tandem.export.finetune.pseudo import inverse_cloze, python_docs
from tandem.export.finetune.validate import _likeliest


def unit(rows: int, seed: int = 0) -> np.ndarray:
    vectors = np.random.default_rng(seed).normal(size=(rows, 16))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float16)


def mined(questions: int, passages: int = 40) -> Mined:
    vectors, queries = unit(passages), unit(questions, 1)
    positives = np.arange(questions, dtype=np.int32) % passages
    texts = pack([[row] for row in range(passages)])
    asked = pack([[row] for row in range(questions)])
    found = _candidates(vectors, queries, positives, [np.array([row]) for row in positives], 0.10)
    return Mined(texts, texts, asked, vectors, queries, positives, found)


@pytest.mark.parametrize("margin", [0.0, 0.10, 0.25])
def test_candidates_are_the_nearest_that_are_no_likely_answer(margin: float) -> None:
    vectors, queries = unit(50), unit(5, 1)
    vectors[7] = vectors[3]
    vectors[7, 0] += np.float16(0.01)  # all but the same text
    positives = np.array([3, 11, 12, 13, 14], dtype=np.int32)
    labelled = [np.array([3]), np.array([11, 20]), *(np.array([row]) for row in (12, 13, 14))]
    found = _candidates(vectors, queries, positives, labelled, margin)
    scores = queries.astype(np.float32) @ vectors.astype(np.float32).T
    for row in range(5):
        allowed = [
            passage
            for passage in np.argsort(-scores[row], kind="stable")
            if passage not in labelled[row]
            and scores[row, passage] <= scores[row, positives[row]] + margin
            and float(vectors[passage].astype(np.float32) @ vectors[positives[row]].astype(np.float32)) <= 0.97
        ]
        assert found[row][found[row] >= 0].tolist() == allowed[:DEPTH]
    assert 7 not in found[0]
    assert 20 not in found[1]


def test_validation_is_told_from_what_is_trained_on_too() -> None:
    asked, others = mined(20, passages=30), mined(5, passages=70)
    wide = among(asked, others)
    assert len(wide.passages) == len(wide.titles) == len(wide.vectors) == 100
    every = np.concatenate([asked.vectors, others.vectors]).astype(np.float64)
    for question in range(20):
        cosines = every @ asked.question_vectors[question].astype(np.float64)
        nearest = np.sort(cosines)[::-1][:DEPTH]
        assert np.allclose(cosines[wide.candidates[question]], nearest, atol=1e-5)
        assert wide.passages[int(wide.positives[question])].tolist() == [asked.positives[question]]
        best = _likeliest(wide, question, 8)
        evidence = wide.evidence(question, wide.candidates[question])
        assert sorted(wide.evidence(question, best)) == pytest.approx(sorted(np.sort(evidence)[::-1][:8]))
        places = [wide.candidates[question].tolist().index(row) for row in best]
        assert places == sorted(places), "in recall's order"


def test_negatives_are_ordered_by_evidence() -> None:
    words = pack([[row + 50] for row in range(20)])  # each is the only word of a passage that is not the answer
    data = replace(mined(20, passages=100), questions=words)
    ordered = by_evidence(data)
    for question in range(20):
        before, after = data.candidates[question], ordered.candidates[question]
        assert sorted(before) == sorted(after)
        found = after[after >= 0]
        assert (after[len(found) :] == -1).all()
        evidence = data.evidence(question, found)
        assert (np.diff(evidence) <= 0).all()
    assert any(not np.array_equal(a, b) for a, b in zip(data.candidates, ordered.candidates, strict=True))


def test_training_rows_start_with_the_answer_and_never_repeat_it() -> None:
    data = mined(20)
    rng = np.random.default_rng(0)
    for question in range(20):
        rows = _rows(data, question, 7, 0.5, rng, 16, 0.5)
        assert len(rows) == 8
        assert rows[0] == data.positives[question]
        assert rows[0] not in rows[1:]


def test_schedule_mixes_by_weight_until_every_question_was_asked() -> None:
    sources = [ListSource("a", mined(60), 0.75), ListSource("b", mined(30), 0.25), ListSource("none", mined(0), 0.5)]
    order = schedule(sources, 0)
    assert np.bincount(order[:, 0]).tolist() == [90, 30]  # b lasts longest; a is asked half again
    asked = order[order[:, 0] == 0, 1].tolist()
    assert sorted(asked[:60]) == list(range(60))
    assert len(set(asked[60:])) == 30
    assert sorted(order[order[:, 0] == 1, 1].tolist()) == list(range(30))
    half = np.bincount(order[: len(order) // 2, 0])
    assert half[0] / half.sum() == pytest.approx(0.75, abs=0.15)
    assert np.array_equal(order, schedule(sources, 0))
    assert schedule([ListSource("none", mined(0), 0.5)], 0).shape == (0, 2)


def test_a_removed_sentence_asks_for_its_passage() -> None:
    text = "The first sentence has quite enough words. The second one also has enough words. Short one here."
    dataset = Dataset("d", [Passage("T", text)] * 40 + [Passage("T", "Too short. To use.")], [])
    made = inverse_cloze([dataset], np.random.default_rng(0))
    assert len(made.questions) == 40
    kept = [question.text in made.passages[question.positives[0]].text for question in made.questions]
    assert 0 < sum(kept) < 15  # one in ten on average


def test_python_docs_are_questions_with_an_answer_each() -> None:
    made = python_docs(40, np.random.default_rng(0), packages=())
    assert 20 < len(made.passages) <= 40
    assert len(made.questions) == len(made.passages)
    assert len({question.text for question in made.questions}) == len(made.questions)
    assert all(question.text not in made.passages[question.positives[0]].text[:20] for question in made.questions)


def test_exit_curve_by_hand() -> None:
    recall = [np.zeros(4)]
    gains = [np.array([0.0, 0.0, 1.0, 0.0])]
    early = Domain([np.array([3.0, 2.0, 1.0, 0.0])], recall, recall, gains)  # the answer is third
    last = Domain([np.array([0.0, 1.0, 9.0, 2.0])], recall, recall, gains)  # and first after the last layer
    lost, found, all_on = exit_curve([early, last], [2], 6, 0.0, cuts=(2, 3, 40))
    assert lost.ndcg == pytest.approx(1 / np.log2(4))  # dropped: third, behind the two that went on
    assert found.ndcg == pytest.approx(1.0)
    assert lost.compute == pytest.approx((2 + 4 * 2 / 4) / 6)
    assert all_on.compute == pytest.approx(1.0)


class Reader:
    """Stands for a cross-encoder: the logit of a pair is `slope` times its passage's number, plus `favour`."""

    def __init__(self, slope: float, favour: dict[tuple[int, int], float] | None = None) -> None:
        self.slope = slope
        self.favour = favour or {}
        self.read = 0

    def compute_all(self, pairs: TokenBatch) -> np.ndarray:
        self.read += len(pairs)
        return np.array([self._logit(*(int(pairs[row][at]) for at in (1, 3))) for row in range(len(pairs))], np.float32)

    def _logit(self, question: int, passage: int) -> float:
        return self.slope * passage + self.favour.get((question, passage), 0.0)


class Joiner:
    """Pairs as [0, question, 0, passage …]: tokens enough to know both again."""

    def pairs(self, question: np.ndarray, passages: TokenBatch) -> TokenBatch:
        return pack([np.array([0, question[0], 0, passages[row][-1]], np.int32) for row in range(len(passages))])


def harder(data: Mined, reader: Reader) -> Mined:
    judge = Judge(reader, Fusion(recall_weight=0.0))
    return harden(data, judge, Joiner(), np.random.default_rng(0))


def test_what_the_judge_puts_highest_comes_first() -> None:
    data = mined(20)
    reader = Reader(0.01)
    hard = harder(data, reader)
    assert reader.read == sum(1 + min(READ, found) for found in (data.candidates >= 0).sum(axis=1))
    assert len(hard.questions) == 20, "the judge is sure of none"
    for question in range(20):
        before = data.candidates[question][data.candidates[question] >= 0]
        after = hard.candidates[question][hard.candidates[question] >= 0]
        likeliest = before[np.argsort(-data.evidence(question, before), kind="stable")]
        assert after.tolist() == [*sorted(likeliest[:READ], reverse=True), *likeliest[READ:]]


def test_a_passage_far_above_the_answer_is_no_negative() -> None:
    data = mined(20)
    question = int(np.flatnonzero((data.candidates >= 0).sum(axis=1) > READ)[0])
    found = data.candidates[question][data.candidates[question] >= 0]
    likeliest = found[np.argsort(-data.evidence(question, found), kind="stable")]
    asked = int(data.questions[question][0])
    above = {(asked, int(likeliest[3])): CEILING + 0.1, (asked, int(likeliest[5])): CEILING - 0.1}
    hard = harder(data, Reader(0.0, above))
    after = hard.candidates[question][hard.candidates[question] >= 0].tolist()
    assert after == [likeliest[5], *(row for at, row in enumerate(likeliest) if at not in (3, 5))]


def test_most_questions_that_the_judge_is_sure_of_are_left_out() -> None:
    data = mined(400, passages=40)
    sure = {(question, question % 40): 1e3 for question in range(0, 400, 2)}
    hard = harder(data, Reader(0.0, sure))
    asked = [int(hard.questions[row][0]) for row in range(len(hard.questions))]
    kept = [question for question in asked if question % 2 == 0]
    open_ones = [question for question in range(1, 400, 2) if (data.candidates[question] >= 0).any()]
    assert set(open_ones) <= set(asked)
    assert 30 < len(kept) < 70  # a quarter of 200
    assert hard.positives.tolist() == [question % 40 for question in asked]
    assert np.array_equal(hard.question_vectors, data.question_vectors[asked])


def test_negatives_come_from_the_first_candidates_as_often_as_was_asked() -> None:
    data = mined(20)
    for question in np.flatnonzero((data.candidates >= 0).sum(axis=1) >= 6):
        rows = _rows(data, question, 4, 0.0, np.random.default_rng(question), 6, 0.75)
        found = data.candidates[question][data.candidates[question] >= 0]
        assert np.isin(rows[1:], found[:6]).sum() >= 3
        assert len(set(rows.tolist())) == 5
