"""The bi-encoder: token ids → vectors, of length 1 under the cosine."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..errors import InferenceError
from ..platform.device import Device
from ..text.prompting import PromptWish
from ..text.tokens import TokenBatch
from .artifact import Artifact
from .model import LoadedModel
from .runtime import Rows, RuntimeWish, Split
from .runtime.select import PrecisionWish


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
        super().__init__(artifact, device, precision, cpu_order=("fp32", "int8"), split=split, runtime=runtime)
        self.prompting = artifact.manifest.prompting
        self.dimension = artifact.manifest.dimension or 0

    def prompted(self, text: str, name: str) -> str:
        """The text as the model wants it: its prompt of that `name` in front; raises InputError where it has none."""
        return self.prompting.before_text(PromptWish(name)) + text

    def encode(self, batch: TokenBatch) -> Rows:
        """float32 [n, d]: vectors of n texts' ids without special tokens; not finite where the model failed."""
        return self.compute_all(self.tokenizer.single(batch))

    def run(self, batch: TokenBatch) -> Sequence[Rows | InferenceError]:
        """One micro-batch of sequences as the model reads them → their vectors (see `job.Model`)."""
        vectors = self.runtime.run(batch)
        good: list[bool] = np.all(np.isfinite(vectors), axis=1).tolist()
        bad = InferenceError(f"{self.artifact.manifest.name} gave a vector that is not finite for this text")
        return [vector if fine else bad for vector, fine in zip(vectors, good, strict=True)]
