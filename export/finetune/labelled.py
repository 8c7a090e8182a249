"""Labelled text, and draws from it that keep whole documents together."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...engine.collection.document import Document


@dataclass(frozen=True, slots=True)
class Question:
    text: str
    positives: tuple[int, ...]
    """Rows of the source's passages that answer it."""


@dataclass(frozen=True, slots=True)
class Labelled:
    """Passages and the questions that they answer. Passages of one title are one document."""

    name: str
    passages: list[Document]
    questions: list[Question]


def drawn(source: Labelled, passages: int, rng: np.random.Generator) -> Labelled:
    """`source` with whole documents only, drawn until they hold about `passages` passages, in their order.

    A question is kept where all of its answers are.
    """
    rows = sorted(documents(source, passages, rng))
    new = {row: index for index, row in enumerate(rows)}
    questions = [
        Question(question.text, tuple(new[row] for row in question.positives))
        for question in source.questions
        if all(row in new for row in question.positives)
    ]
    return Labelled(source.name, [source.passages[row] for row in rows], questions)


def documents(source: Labelled, passages: int, rng: np.random.Generator) -> set[int]:
    """Rows of whole documents of `source`, drawn until they are about `passages`."""
    titles: dict[str, list[int]] = {}
    for row, passage in enumerate(source.passages):
        titles.setdefault(passage.title or f"\0{row}", []).append(row)
    names = list(titles)
    taken: set[int] = set()
    for index in rng.permutation(len(names)):
        if len(taken) >= passages:
            break
        taken.update(titles[names[index]])
    return taken
