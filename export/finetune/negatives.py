"""Hard negatives: passages that the bi-encoder confuses with the answer, and that are probably no answer themselves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors.numpy import load_file, save
from transformers import BertModel

from ...engine.platform.durable_io import replace_durably
from ...engine.scoring.fusion import Fusion
from ...engine.scoring.lexical import Lexicon
from ...engine.text.tokenizer import Tokenizer
from ...engine.text.tokens import Ids, TokenBatch, concatenate, pack
from .data import Dataset
from .encode import Vectors, encode

DEPTH = 64
# Two passages with this cosine are the same text with other line breaks.
DUPLICATE = 0.97
ROWS_AT_ONCE = 512


@dataclass(frozen=True)
class Mined:
    """One data set as token ids, vectors and candidates: all that training and validation need of it.

    passages, titles:  p sequences, ids without special tokens
    vectors:           float16 [p, hidden], of the passages with their titles
    questions:         q sequences                                  question_vectors: float16 [q, hidden]
    positives:         int32 [q], a row of passages
    candidates:        int32 [q, DEPTH], the rows with the highest cosines, -1 where there are fewer; for training by
                       falling evidence, what the engine has a reranker read first, else by falling cosine
    """

    passages: TokenBatch
    titles: TokenBatch
    questions: TokenBatch
    vectors: Vectors
    question_vectors: Vectors
    positives: npt.NDArray[np.int32]
    candidates: npt.NDArray[np.int32]

    @cached_property
    def titled(self) -> TokenBatch:
        """The passages with their titles before them, as an index gives them to both models."""
        return with_titles(self.titles, self.passages)

    def cosines(self, question: int, rows: npt.NDArray[np.int32]) -> npt.NDArray[np.float32]:
        """float32 [len(rows)]: recall scores of the passages `rows` for one question."""
        query = self.question_vectors[question].astype(np.float32)
        return np.asarray(self.vectors[rows].astype(np.float32) @ query, dtype=np.float32)

    def evidence(self, question: int, rows: npt.NDArray[np.int32]) -> npt.NDArray[np.float32]:
        """float32 [len(rows)]: what the first stage knows of the passages `rows` for one question (see `Fusion`)."""
        lexical = self.lexicon.scores(self.questions[question], self.titled.select(rows))
        return Fusion().evidence(self.cosines(question, rows), lexical)

    @cached_property
    def lexicon(self) -> Lexicon:
        """Of the passages with their titles; its vocabulary reaches to the highest id that occurs."""
        return Lexicon.of(self.titled, int(max(self.titled.ids.max(), self.questions.ids.max())) + 1)

    def save(self, path: Path) -> None:
        """Write one safetensors file, whole or not at all."""
        arrays: dict[str, npt.NDArray[np.generic]] = {}
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, TokenBatch):
                arrays[f"{field.name}.ids"], arrays[f"{field.name}.cu_seqlens"] = value.ids, value.cu_seqlens
            else:
                arrays[field.name] = value
        replace_durably(path, save(arrays))

    @classmethod
    def load(cls, path: Path) -> Mined:
        """Read what `save` wrote."""
        arrays = load_file(path)
        values: dict[str, Any] = {name: array for name, array in arrays.items() if "." not in name}
        for name in ("passages", "titles", "questions"):
            values[name] = TokenBatch(arrays[f"{name}.ids"], arrays[f"{name}.cu_seqlens"])
        return cls(**values)


def mine(
    dataset: Dataset,
    model: BertModel,
    tokenizer: Tokenizer,
    *,
    questions: int,
    rng: np.random.Generator,
    clean: bool = True,
    margin: float,
    advance: Callable[[int], None] = lambda count: None,
) -> Mined:
    """Up to `questions` questions of `dataset`, drawn at random, with their candidates by exact search.

    With `clean`, candidates lose labelled positives, near-duplicates of the positive and probable unlabelled positives,
    those with a cosine more than `margin` above the positive's (for training); without, they are recall's own answer
    (for validation).
    """
    chosen = np.sort(rng.permutation(len(dataset.questions))[:questions])
    asked = [dataset.questions[index] for index in chosen]
    passages = tokenizer.encode_many([passage.text for passage in dataset.passages])
    queries = tokenizer.encode_many([question.text for question in asked])
    titles = tokenizer.encode_many([passage.title for passage in dataset.passages])
    vectors = encode(model, tokenizer, with_titles(titles, passages), advance)
    question_vectors = encode(model, tokenizer, queries, advance)
    positives = np.array([int(rng.choice(question.positives)) for question in asked], dtype=np.int32)
    labelled = [np.array(question.positives) for question in asked]
    mined = Mined(
        passages=passages,
        titles=titles,
        questions=queries,
        vectors=vectors,
        question_vectors=question_vectors,
        positives=positives,
        candidates=_candidates(vectors, question_vectors, positives, labelled if clean else None, margin),
    )
    return by_evidence(mined) if clean else mined


def by_evidence(mined: Mined) -> Mined:
    """`mined` with each question's candidates by falling evidence.

    Words in common put other paragraphs first than the cosine does, and of those with the best evidence a dozen hold
    all that the reranker confuses (bench/LOG.md).
    """
    candidates = np.full_like(mined.candidates, -1)
    for question, found in enumerate(mined.candidates):
        rows = found[found >= 0]
        candidates[question, : len(rows)] = rows[np.argsort(-mined.evidence(question, rows), kind="stable")]
    return replace(mined, candidates=candidates)


def among(asked: Mined, others: Mined) -> Mined:
    """The questions of `asked` with the passages of `others` beside their own to be told from, as recall finds them.

    A few hundred passages are too easy: a reranker that has .98 among those has .84 among thousands (bench/LOG.md).
    """
    vectors = np.concatenate([asked.vectors, others.vectors])
    return replace(
        asked,
        passages=concatenate([asked.passages, others.passages]),
        titles=concatenate([asked.titles, others.titles]),
        vectors=vectors,
        candidates=_candidates(vectors, asked.question_vectors, asked.positives, None, 0.0),
    )


def with_titles(titles: TokenBatch, passages: TokenBatch) -> TokenBatch:
    """Each passage with its title before it: the tokens of "title text"."""
    joined: list[Ids] = [np.concatenate([titles[row], passages[row]]) for row in range(len(passages))]
    return pack(joined)


def _candidates(
    vectors: Vectors,
    queries: Vectors,
    positives: npt.NDArray[np.int32],
    labelled: list[npt.NDArray[np.int64]] | None,
    margin: float,
) -> npt.NDArray[np.int32]:
    corpus = vectors.astype(np.float32)
    depth = min(DEPTH, len(corpus))
    result = np.full((len(queries), DEPTH), -1, dtype=np.int32)
    for start in range(0, len(queries), ROWS_AT_ONCE):
        rows = slice(start, start + ROWS_AT_ONCE)
        scores = queries[rows].astype(np.float32) @ corpus.T
        if labelled is not None:
            answers = positives[rows]
            ceiling = scores[np.arange(len(answers)), answers] + margin
            scores[(scores > ceiling[:, None]) | (corpus[answers] @ corpus.T > DUPLICATE)] = -np.inf
            for row, known in enumerate(labelled[rows]):
                scores[row, known] = -np.inf
        best = np.argpartition(-scores, depth - 1, axis=1)[:, :depth]
        ranked = np.take_along_axis(scores, best, axis=1)
        order = np.argsort(-ranked, axis=1, kind="stable")
        found = np.take_along_axis(best, order, axis=1).astype(np.int32)
        found[~np.isfinite(np.take_along_axis(ranked, order, axis=1))] = -1
        result[rows, :depth] = found
    return result
