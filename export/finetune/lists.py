"""Questions with the passages to be ordered, as data sets: what a training learns from and what validation asks."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
from datasets import Dataset, Features, Value
from datasets import List as ListOf

from ...engine.collection.document import with_title
from .judge import Judge
from .recall import DEPTH, Recall, Rows
from .settings import FinetuneSettings

# `labels`: 1 for an answer, 0 for another passage. `missed`: answers that recall did not find.
FEATURES = Features(
    {
        "query": Value("string"), "passages": ListOf(Value("string")), "cosines": ListOf(Value("float32")),
        "evidence": ListOf(Value("float32")), "labels": ListOf(Value("float32")), "missed": Value("int32"),
    }
)  # fmt: skip
# Half of the hard negatives come from so many with the best evidence; one in ten negatives is any passage.
CLOSE, EASY_SHARE = 16, 0.1
# Of the lists: most collections are indexed with titles, some have none.
TITLE_SHARE = 0.75
Row = dict[str, Any]


def dataset(rows: list[Row]) -> Dataset:
    """The data set of `rows`."""
    return Dataset.from_list(rows, features=FEATURES)


def training_lists(
    recall: Recall, count: int, barred: Rows, settings: FinetuneSettings, judge: Judge | None, rng: np.random.Generator
) -> list[Row]:
    """`epochs` lists of each of the first `count` questions: an answer first, `negatives` others after it.

    barred: passages that validation asks about

    A question that `judge` finds too easy may be left out.
    """
    rows = []
    others = np.setdiff1d(np.arange(len(recall.source.passages)), barred)
    for number, question in enumerate(recall.questions[:count]):
        found = recall.negatives(number, barred, settings.margin)
        if judge is not None:
            found, sure = judge.hardest(recall, number, found)
            if judge.spares(sure, rng):
                continue
        for _ in range(math.ceil(settings.epochs)):
            answer = int(rng.choice(question.positives))
            negatives = _draw(found, np.setdiff1d(others, question.positives), settings.negatives, rng)
            rows.append(_row(recall, number, np.concatenate([[answer], negatives]), titled=rng.random() < TITLE_SHARE))
    return rows


def judged_lists(
    recall: Recall, numbers: Iterable[int], questions: int, candidates: int, *, complete: bool
) -> list[Row]:
    """The candidates of the first `questions` of the questions `numbers`, in recall's order.

    complete: the best `candidates`, whether an answer is among them or not; else those of DEPTH with the best evidence,
    of questions whose answer is among them
    """
    rows: list[Row] = []
    for number in numbers:
        found = recall.best(number, candidates if complete else DEPTH)
        if not complete:
            found = found[np.isin(found, recall.likeliest(number, found)[:candidates])]
        if complete or np.isin(recall.questions[number].positives, found).any():
            rows.append(_row(recall, number, found, titled=True))
        if len(rows) == questions:
            break
    return rows


def _draw(hard: Rows, others: Rows, count: int, rng: np.random.Generator) -> Rows:
    """`count` rows: some of the first of `hard`, some of all of them, a few of any `others`."""
    easy = int((rng.random(count) < EASY_SHARE).sum())
    wanted = min(count - easy, len(hard))
    near = rng.permutation(hard[:CLOSE])[: (wanted + 1) // 2]
    far = rng.permutation(np.setdiff1d(hard, near))[: wanted - len(near)]
    chosen = np.concatenate([near, far])
    rest = np.setdiff1d(others, chosen)
    return np.concatenate([chosen, rng.choice(rest, count - len(chosen), replace=False)])


def _row(recall: Recall, question: int, rows: Rows, *, titled: bool) -> Row:
    passages = [recall.source.passages[row] for row in rows]
    positives = np.array(recall.questions[question].positives)
    return {
        "query": recall.questions[question].text,
        "passages": [with_title(each.title if titled else "", each.text) for each in passages],
        "cosines": recall.cosines(question, rows),
        "evidence": recall.evidence(question, rows),
        "labels": np.isin(rows, positives).astype(np.float32),
        "missed": len(np.setdiff1d(positives, rows)),
    }
