"""A collection of passages long enough to be read again in windows."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from tandem.engine.build.indexing import index_corpus
from tandem.engine.collection import IndexSettings
from tandem.export.parity.samples import docstrings


def index_long(folder: Path, encoder: Path, reranker: Path) -> None:
    """`folder / "c"`: 60 passages of 5 to 119 words, of which the longest have more tokens than a tiny reranker reads;
    `short` in the metadata tells those of less than 15 words."""
    words, random = " ".join(docstrings()[:200]).split(), np.random.default_rng(0)
    rows = [
        {"_id": str(row), "text": " ".join(random.choice(words, size)), "short": bool(size < 15)}
        for row, size in enumerate(random.integers(5, 120, 60))
    ]
    (folder / "corpus.jsonl").write_text("\n".join(map(json.dumps, rows)))
    index_corpus(
        folder / "corpus.jsonl", folder / "c", encoder=encoder, reranker=reranker,
        settings=IndexSettings(chunk_tokens=0),
    )  # fmt: skip
