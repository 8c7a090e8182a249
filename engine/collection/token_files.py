"""The files with what a reranker reads: every passage's token ids, and how many passages hold each id."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..platform.npy import ArrayWriter
from ..scoring.lexical import passage_frequencies
from ..text.tokens import TokenBatch
from .manifest import TokenDtype
from .ragged import RaggedWriter, data_file, offsets_file

TOKENS = "tokens"
LEXICON = "lexicon.npy"
TOKEN_FILES = frozenset({data_file(Path(TOKENS)).name, offsets_file(Path(TOKENS)).name, LEXICON})


class TokenWriter:
    """Writes the token ids of a segment's passages, in the order of their rows."""

    def __init__(self, folder: Path, dtype: TokenDtype, vocabulary: int) -> None:
        """vocabulary: each id is below it"""
        self._lexicon = folder / LEXICON
        self._tokens = RaggedWriter(folder / TOKENS, dtype)
        self._frequencies = np.zeros(vocabulary, dtype=np.uint32)

    def append(self, passages: TokenBatch) -> None:
        """Write some passages' ids, without special tokens, and count them."""
        self._tokens.append(passages.ids, passages.lengths)
        self._frequencies += passage_frequencies(passages, len(self._frequencies))

    def close(self) -> None:
        """Finish the files."""
        self._tokens.close()
        lexicon = ArrayWriter(self._lexicon, np.uint32)
        lexicon.append(self._frequencies)
        lexicon.close()

    def abandon(self) -> None:
        """Close the files as they are: the job failed."""
        self._tokens.abandon()
