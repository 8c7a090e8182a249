"""A stronger bi-encoder whose order the reranker learns, in place of that of the bi-encoder that recalls."""

from __future__ import annotations

import logging
import sys
from dataclasses import dataclass

import numpy as np

from ..source.library import Loaded
from .lists import Row
from .recall import Floats

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Teacher:
    """A loaded bi-encoder; its cosines say how a list is to be ordered, where labels say nothing."""

    encoder: Loaded

    def teach(self, rows: list[Row]) -> None:
        """Put this teacher's cosines into `rows`, in place of those of recall. Equal texts are encoded once.

        `evidence` stays recall's own, since that is what the reranker's logit is added to when it serves.
        """
        queries = list(dict.fromkeys(row["query"] for row in rows))
        passages = list(dict.fromkeys(passage for row in rows for passage in row["passages"]))
        log.info("the teacher reads %d passages and %d questions", len(passages), len(queries))
        asked = dict(zip(queries, self._vectors(queries, "encode_query"), strict=True))
        known = dict(zip(passages, self._vectors(passages, "encode_document"), strict=True))
        for row in rows:
            row["cosines"] = np.stack([known[passage] for passage in row["passages"]]) @ asked[row["query"]]

    def _vectors(self, texts: list[str], method: str) -> Floats:
        """float32 [n, d] of length 1."""
        encode = getattr(self.encoder.library, method)
        found = encode(texts, normalize_embeddings=True, show_progress_bar=sys.stderr.isatty())
        return np.asarray(found, dtype=np.float32)
