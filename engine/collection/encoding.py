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
from ..recall.exact import Rows
from ..recall.planning import Similarity
from ..text.tokens import TokenBatch
from .document import Document
from .prepare import Passages, Preparer
from .report import Progress
from .shards import BuildJob, Finished

Vectors = npt.NDArray[np.float32]
Encode = Callable[[TokenBatch], Vectors]
"""n passages' token ids without special tokens → float32 [n, d], unit vectors where they are compared by cosine."""
STEP = 256
"""Passages given to the encoder at a time, neighbours in length: the progress bar moves, and Ctrl-C is heard."""
STEP_TOKENS = 32_768
"""And no more tokens: a model of 24 layers takes some ten seconds for a quarter of these on two cores."""
KEEP_SECONDS = 5.0
"""Encoding that an interruption may lose, besides the step that it falls into."""
UNIT_ERROR = 1e-2
"""Half precision is off by a thousandth; an encoder that does not normalise is off by far more."""
T = TypeVar("T")


class Encoding:
    """Encodes what is not encoded yet. `seconds` were spent in the encoder, `dimension` is its vectors'."""

    def __init__(
        self,
        encode: Encode,
        preparer: Preparer,
        job: BuildJob,
        shard_size: int,
        progress: Progress,
        similarity: Similarity = "cosine",
        total: int | None = None,
    ) -> None:
        """total: documents to expect, for the progress; None: unknown"""
        self.seconds = 0.0
        self.dimension = 0
        self._encode = encode
        self._preparer = preparer
        self._job = job
        self._shard_size = shard_size
        self._progress = progress
        self._unit = similarity == "cosine"
        self._total = total
        self._documents = 0

    def run(self, documents: Iterator[Document], done: list[Finished]) -> list[Finished]:
        """Every shard of `documents`, those in `done` taken as they are: they are of the first documents."""
        finished = list(done)
        if done:
            self.dimension = self._job.read(0)["vectors"].shape[1]
        self._documents = sum(1 for _ in islice(documents, sum(shard.documents for shard in done)))
        for shard in _ahead(self._preparer.shards(documents, self._shard_size)):
            vectors = self._vectors(shard, len(finished))
            arrays = shard.arrays(self._preparer.token_dtype) | {"vectors": vectors}
            finished.append(self._job.write(len(finished), shard.documents, arrays))
            self._documents += shard.documents
        return finished

    def _vectors(self, shard: Passages, number: int) -> Vectors:
        """float32 [n, d]: the shard's vectors, encoded in order of length, equal passages once."""
        tokens = shard.encoder_tokens()
        first, same = _distinct(tokens)
        order = first[np.argsort(tokens.lengths[first], kind="stable")]
        vectors = self._job.kept(number, shard.contents)
        start = 0 if vectors is None else len(vectors)
        parts = [] if vectors is None else [vectors]
        kept_at = time.monotonic()
        while start < len(order):
            share = start / len(order) * shard.documents
            self._progress(self._documents + int(share), self._total, "encoding")
            rows = order[start : start + _step(tokens.lengths[order[start : start + STEP]])]
            began = time.perf_counter()
            parts.append(self._encode(tokens.select(rows)))
            self.seconds += time.perf_counter() - began
            self._check(parts[-1], [shard.ids[row] for row in rows])
            start += len(rows)
            if time.monotonic() - kept_at > KEEP_SECONDS and start < len(order):
                self._job.keep(number, shard.contents, np.concatenate(parts))
                kept_at = time.monotonic()
        encoded = np.concatenate(parts)
        places = np.empty(len(tokens), dtype=np.int64)
        places[order] = np.arange(len(order))
        return np.ascontiguousarray(encoded[places[same]], dtype=np.float32)

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


def _distinct(tokens: TokenBatch) -> tuple[Rows, Rows]:
    """int64 [m]: the first of each kind of equal sequences; int64 [n]: of each sequence the first that it equals."""
    known: dict[bytes, int] = {}
    same = np.array([known.setdefault(tokens[row].tobytes(), row) for row in range(len(tokens))], dtype=np.int64)
    return np.array(list(known.values()), dtype=np.int64), same


def _step(lengths: npt.NDArray[np.int64]) -> int:
    """How many of the sequences are encoded together: at least one, of at most STEP_TOKENS together."""
    return max(1, int(np.searchsorted(np.cumsum(lengths), STEP_TOKENS, side="right")))
