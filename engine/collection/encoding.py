"""The long part of indexing: passages → vectors, shard by shard."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from ..errors import InferenceError
from ..recall.planning import Similarity
from ..text.tokens import TokenBatch
from .corpus import Corpus
from .prepare import Passages, Preparer
from .report import Progress
from .shards import BuildJob, Finished

Vectors = npt.NDArray[np.float32]
Encode = Callable[[TokenBatch], Vectors]
"""n passages' token ids without special tokens → float32 [n, d], unit vectors where they are compared by cosine."""
STEP = 256
"""Passages given to the encoder at a time, neighbours in length: the progress bar moves, and Ctrl-C is heard."""
UNIT_ERROR = 1e-2
"""Half precision is off by a thousandth; an encoder that does not normalise is off by far more."""
T = TypeVar("T")


class Encoding:
    """Encodes what is not encoded yet. `seconds` were spent in the encoder, `dimension` is its vectors'."""

    def __init__(
        self,
        encode: Encode,
        corpus: Corpus,
        preparer: Preparer,
        job: BuildJob,
        shard_size: int,
        progress: Progress,
        similarity: Similarity = "cosine",
    ) -> None:
        self.seconds = 0.0
        self.dimension = 0
        self._encode = encode
        self._corpus = corpus
        self._preparer = preparer
        self._job = job
        self._shard_size = shard_size
        self._progress = progress
        self._unit = similarity == "cosine"
        self._documents = 0

    def run(self, done: list[Finished]) -> list[Finished]:
        """Every shard of the corpus, those in `done` taken as they are."""
        finished = list(done)
        if done:
            self.dimension = self._job.read(0)["vectors"].shape[1]
        documents = iter(self._corpus)
        self._documents = sum(1 for _ in islice(documents, sum(shard.documents for shard in done)))
        for shard in _ahead(self._preparer.shards(documents, self._shard_size)):
            vectors = self._vectors(shard)
            arrays = shard.arrays(self._preparer.token_dtype) | {"vectors": vectors}
            finished.append(self._job.write(len(finished), shard.documents, arrays))
            self._documents += shard.documents
        return finished

    def _vectors(self, shard: Passages) -> Vectors:
        """float32 [n, d]: the shard's vectors, encoded in order of length."""
        tokens = shard.encoder_tokens()
        order = np.argsort(tokens.lengths, kind="stable")
        vectors = np.empty((0, 0), dtype=np.float32)
        for start in range(0, len(order), STEP):
            share = start / len(order) * shard.documents
            self._progress(self._documents + int(share), self._corpus.source.size, "encoding")
            rows = order[start : start + STEP]
            began = time.perf_counter()
            part = self._encode(tokens.select(rows))
            self.seconds += time.perf_counter() - began
            self._check(part, [shard.ids[row] for row in rows])
            if not start:
                vectors = np.empty((len(order), part.shape[1]), dtype=np.float32)
            vectors[rows] = part
        return vectors

    def _check(self, vectors: Vectors, ids: list[str]) -> None:
        if vectors.ndim != 2 or len(vectors) != len(ids):
            raise InferenceError(f"the encoder gave an array of shape {vectors.shape} for {len(ids)} passages")
        self.dimension = self.dimension or vectors.shape[1]
        if vectors.shape[1] != self.dimension:
            raise InferenceError(f"the encoder gave vectors of dimension {vectors.shape[1]} after {self.dimension}")
        norms = np.linalg.norm(vectors, axis=1)
        for identity, norm in zip(ids, norms, strict=True):
            if not np.isfinite(norm):
                raise InferenceError(
                    f"passage {identity!r}: the encoder gave a vector that is not finite; check its text"
                )
            if self._unit and abs(norm - 1) > UNIT_ERROR:
                raise InferenceError(f"passage {identity!r}: the encoder gave a vector of length {norm:.3f}, not 1")


def _ahead(items: Iterator[T]) -> Iterator[T]:
    """The same items, each made in another thread while the one before it is used: on a GPU the tokenizer would
    otherwise be waited for."""
    end = object()
    with ThreadPoolExecutor(1, thread_name_prefix="passages") as thread:
        waiting = thread.submit(next, items, end)
        while (item := waiting.result()) is not end:
            waiting = thread.submit(next, items, end)
            yield item  # type: ignore[misc]
