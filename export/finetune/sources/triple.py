"""What a source of questions gives, and how triples become a data set."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from ....engine.collection.document import Document
from ..labelled import Labelled, Question

CHARACTERS = 1500
LEAST_WORDS = 15


@dataclass(frozen=True, slots=True)
class Triple:
    """A question, the passage that answers it, and the document it is from: `group` is the passage's title."""

    question: str
    passage: str
    group: str


def plain(text: str) -> str:
    """`text` on one line: its white space is single spaces."""
    return " ".join(text.split())


def fit(question: str, passage: str, group: str) -> list[Triple]:
    """The triple, tidied and cut to CHARACTERS; none where the passage is too short to be told from others.

    A question without a letter asks nothing and is left out too.
    """
    question, passage = plain(question), plain(passage)[:CHARACTERS]
    if len(passage.split()) < LEAST_WORDS or not re.search(r"[^\W\d_]", question):
        return []
    return [Triple(question, passage, plain(group))]


def dataset(name: str, triples: Iterable[Triple]) -> Labelled:
    """The data set of `triples`: a passage that answers several questions is in it once, as a question is."""
    found = Labelled(name, [], [])
    rows: dict[str, int] = {}
    asked: set[str] = set()
    for triple in triples:
        if triple.question in asked:
            continue
        asked.add(triple.question)
        row = rows.setdefault(triple.passage, len(found.passages))
        if row == len(found.passages):
            found.passages.append(Document(f"{triple.group}#{row}", triple.group, triple.passage))
        found.questions.append(Question(triple.question, (row,)))
    return found
