"""A small corpus of random words, where what a benchmark computes can be checked."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

WORDS = np.array(
    ["oil", "crisis", "began", "october", "embargo", "price", "river", "bank", "piano", "ladder", "bucket"]
)


def write_corpus(folder: Path, documents: int) -> Path:
    """A corpus.jsonl of `documents` documents of 3 to 29 words, the same every time."""
    random = np.random.default_rng(0)
    rows = [
        {"_id": str(row), "text": " ".join(random.choice(WORDS, random.integers(3, 30)))} for row in range(documents)
    ]
    path = folder / "corpus.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def write_questions(folder: Path, questions: int) -> None:
    """BEIR's queries and judgements beside `write_corpus`'s documents: question `q0` is answered by document 0."""
    asked = [{"_id": f"q{row}", "text": f"when was the {WORDS[row % len(WORDS)]}"} for row in range(questions)]
    (folder / "queries.jsonl").write_text("".join(json.dumps(row) + "\n" for row in asked))
    (folder / "qrels").mkdir()
    judged = "".join(f"q{row}\t{row}\t1\n" for row in range(questions))
    (folder / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\n" + judged)
