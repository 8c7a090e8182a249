"""The bi-encoder: token ids → unit vectors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from ..errors import InferenceError
from ..platform.device import Device
from ..text.tokens import TokenBatch
from .artifact import Artifact
from .model import LoadedModel
from .runtime import Rows, RuntimeWish, Split
from .runtime.select import PrecisionWish

TextKind = Literal["query", "passage"]


class BiEncoder(LoadedModel):
    """Maps texts to vectors whose dot product is their similarity."""

    def __init__(
        self,
        artifact: Artifact,
        device: Device,
        precision: PrecisionWish = "auto",
        *,
        split: Split = "operators",
        runtime: RuntimeWish = "auto",
    ) -> None:
        """`auto` on a CPU is FP32: a query is a dozen tokens, and INT8 would cost recall for half a millisecond.

        `split` says how a CPU's threads share the work: `operators` for one query at a time, `sequences` for a corpus.
        """
        head = artifact.manifest.pooling or "mean"
        super().__init__(artifact, device, precision, head, cpu_order=("fp32", "int8"), split=split, runtime=runtime)
        self.prompts = artifact.manifest.prompts
        self.dimension = artifact.manifest.dimension or 0

    def prompted(self, text: str, kind: TextKind) -> str:
        """The text as the model wants it: its prompt for that kind in front."""
        return (self.prompts.query if kind == "query" else self.prompts.passage) + text

    def encode(self, batch: TokenBatch) -> Rows:
        """float32 [n, d]: unit vectors of n texts' ids without special tokens; not finite where the model failed."""
        return self._normalized(self.compute_all(self.tokenizer.single(batch)))

    def run(self, batch: TokenBatch) -> Sequence[Rows | InferenceError]:
        """One micro-batch of sequences as the model reads them → their unit vectors (see `job.Model`)."""
        vectors = self._normalized(self.runtime.run(batch))
        good: list[bool] = np.all(np.isfinite(vectors), axis=1).tolist()
        bad = InferenceError(f"{self.artifact.manifest.name} gave a vector that is not finite for this text")
        return [vector if fine else bad for vector, fine in zip(vectors, good, strict=True)]

    def _normalized(self, vectors: Rows) -> Rows:
        if self.artifact.manifest.normalize:
            vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
        return vectors
