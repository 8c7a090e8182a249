"""The cross-encoder: (query, passage) pairs → logits."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .artifact import Artifact
from .device import Device
from .errors import InferenceError
from .model import LoadedModel
from .runtime import Rows, RuntimeWish
from .runtime.choosing import PrecisionWish
from .tokens import TokenBatch


class CrossEncoder(LoadedModel):
    """Reads a query with a passage and says how well it answers, as a float32 logit: half precision would make ties."""

    def __init__(
        self, artifact: Artifact, device: Device, precision: PrecisionWish = "auto", *, runtime: RuntimeWish = "auto"
    ) -> None:
        """`auto` on a CPU is INT8 where the artifact has it: its ranks were checked against FP32 at export."""
        super().__init__(artifact, device, precision, "logit", cpu_order=("int8", "fp32"), runtime=runtime)

    def score(self, query: str, passages: Sequence[str]) -> Rows:
        """float32 [n]: the logit of each passage; raises InferenceError when one is not finite."""
        ids = self.tokenizer.encode(self.tokenizer.cut(query)[0])
        texts = self.tokenizer.encode_many([self.tokenizer.cut(passage)[0] for passage in passages])
        logits = self.compute_all(self.tokenizer.pairs(ids, texts))
        if not np.isfinite(logits).all():
            raise InferenceError(f"{self.artifact.manifest.name} gave a logit that is not finite")
        return logits

    def run(self, batch: TokenBatch) -> Sequence[np.float32 | InferenceError]:
        """One micro-batch of joined pairs → their logits (see `batcher.Model`)."""
        bad = InferenceError(f"{self.artifact.manifest.name} gave a logit that is not finite for a passage")
        return [logit if np.isfinite(logit) else bad for logit in self.compute(batch)]
