"""What the first stage makes of a source: vectors, cosines and evidence, by exact search."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from ...engine.collection.document import with_title
from ...engine.recall import LexicalIndex
from ...engine.scoring.fusion import Fusion
from ...engine.scoring.lexical import Lexicon, lexical_scores
from ...engine.search.union import shares_of
from ...engine.text.tokenizer import Tokenizer
from ...engine.text.tokens import TokenBatch
from ..source.library import Loaded
from .labelled import Labelled, Question

log = logging.getLogger(__name__)
Floats = npt.NDArray[np.float32]
Rows = npt.NDArray[np.int64]
DEPTH = 64
# Passages that a search lists for a question's words.
LISTED = 100
# Two passages with this cosine are the same text with other line breaks.
DUPLICATE = 0.97


Recaller = Callable[[Labelled, list[Question]], "Recall"]
"""Encodes a source and questions of it."""


@dataclass(frozen=True)
class Recall:
    """The passages of `source` and `questions` of it.

    passages, asked: token ids without special tokens, of the passages with their titles and of the questions
    vectors, queries: float32 [p, d] and [q, d], of length 1
    """

    source: Labelled
    questions: list[Question]
    passages: TokenBatch
    asked: TokenBatch
    vectors: Floats
    queries: Floats

    @classmethod
    def of(cls, source: Labelled, questions: list[Question], encoder: Loaded, tokenizer: Tokenizer) -> Recall:
        """Encode all passages of `source`, as an index gives them to both models, and `questions`."""
        texts = [with_title(passage.title, passage.text) for passage in source.passages]
        asked = [question.text for question in questions]
        log.info("%s: encoding %d passages and %d questions", source.name, len(texts), len(asked))
        shared = {"normalize_embeddings": True, "show_progress_bar": sys.stderr.isatty()}
        return cls(
            source, questions, tokenizer.encode_many(texts), tokenizer.encode_many(asked),
            np.asarray(encoder.library.encode_document(texts, **shared), dtype=np.float32),
            np.asarray(encoder.library.encode_query(asked, **shared), dtype=np.float32),
        )  # fmt: skip

    @cached_property
    def lexicon(self) -> Lexicon:
        """Of the passages with their titles; its vocabulary reaches to the highest id that occurs."""
        return Lexicon.of(self.passages, int(max(self.passages.ids.max(), self.asked.ids.max())) + 1)

    @cached_property
    def words(self) -> LexicalIndex:
        """Of the passages with their titles, as a collection of English texts has it."""
        return LexicalIndex.of((with_title(each.title, each.text) for each in self.source.passages), "english")

    def cosines(self, question: int, rows: Rows) -> Floats:
        """float32 [len(rows)]: recall scores of the passages `rows`."""
        found: Floats = self.vectors[rows] @ self.queries[question]
        return found

    def evidence(self, question: int, rows: Rows) -> Floats:
        """float32 [len(rows)]: what the first stage knows of the passages `rows` (see `Fusion`)."""
        listed = shares_of(rows, *self.words.search(self.questions[question].text, LISTED))
        lexical = lexical_scores(listed, self.lexicon.windows(self.asked[question], self.passages.select(rows)))
        return Fusion().evidence(self.cosines(question, rows), lexical)

    def best(self, question: int, depth: int) -> Rows:
        """int64 [at most depth]: the passages with the highest cosines, best first."""
        return _best(self.vectors @ self.queries[question], depth)

    def likeliest(self, question: int, rows: Rows) -> Rows:
        """`rows` by falling evidence.

        Words in common put other paragraphs first than the cosine does, and of those with the best evidence a dozen
        hold all that the reranker confuses (bench/LOG.md).
        """
        return rows[np.argsort(-self.evidence(question, rows), kind="stable")]

    def negatives(self, question: int, barred: Rows, margin: float) -> Rows:
        """int64 [at most DEPTH]: what the bi-encoder confuses with the first answer, by falling evidence.

        Without labelled answers, near-duplicates of the answer, likely answers that nobody labelled (a cosine more than
        `margin` above the answer's) and the `barred` rows.
        """
        positives = np.array(self.questions[question].positives)
        scores = self.vectors @ self.queries[question]
        duplicate = self.vectors @ self.vectors[positives[0]] > DUPLICATE
        scores[duplicate | (scores > scores[positives[0]] + margin)] = -np.inf
        scores[positives] = scores[barred] = -np.inf
        return self.likeliest(question, _best(scores, DEPTH))


def _best(scores: Floats, depth: int) -> Rows:
    depth = min(depth, len(scores))
    found = np.argpartition(-scores, depth - 1)[:depth]
    found = found[np.argsort(-scores[found], kind="stable")]
    return found[np.isfinite(scores[found])]
