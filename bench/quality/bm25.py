"""BM25 over the same passages: the baseline that any recall must be compared with."""

from __future__ import annotations

import numpy as np

from ...engine.collection import Collection
from ...engine.collection.document import with_title
from .evaluate import Run

K1, B = 0.9, 0.4
"""Anserini's parameters, which published BM25 baselines use."""


def bm25(collection: Collection, questions: dict[str, str], depth: int) -> Run:
    """Question → documents, best first, by bm25s over titles and texts with its tokenizer, no stemming."""
    import bm25s

    rows = np.arange(len(collection))
    texts = [with_title(*each) for each in zip(collection.titles(rows), collection.texts(rows), strict=True)]
    documents = collection.documents(rows)
    index = bm25s.BM25(k1=K1, b=B)
    index.index(bm25s.tokenize(texts, stopwords="en", show_progress=False), show_progress=False)
    asked = bm25s.tokenize(list(questions.values()), stopwords="en", show_progress=False, return_ids=False)
    found, _ = index.retrieve(asked, k=min(depth, len(texts)), show_progress=False)
    return {
        name: list(dict.fromkeys(documents[int(row)] for row in places))
        for name, places in zip(questions, found, strict=True)
    }
