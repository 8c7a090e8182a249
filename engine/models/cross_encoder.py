"""The cross-encoder: (query, passage) pairs → logits."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..errors import InferenceError
from ..platform.device import Device
from ..scheduling.job import Stop
from ..text.tokens import TokenBatch
from .artifact import Artifact
from .model import LoadedModel
from .runtime import Rows, RuntimeWish
from .runtime.select import PrecisionWish


class CrossEncoder(LoadedModel):
    """Reads a query with a passage and says how well it answers, as a float32 logit: half precision would make ties."""

    def __init__(
        self,
        artifact: Artifact,
        device: Device,
        precision: PrecisionWish = "auto",
        *,
        runtime: RuntimeWish = "auto",
        early_exit: bool = False,
    ) -> None:
        """`auto` on a CPU is INT8 where the artifact has it: its ranks were checked against FP32 at export.

        early_exit: open the artifact's early exit too, where it has one; on a CPU only, since on a GPU a search is one
        pass through all layers.
        """
        super().__init__(artifact, device, precision, cpu_order=("int8", "fp32"), runtime=runtime)
        shorter = artifact.early() if early_exit and device.kind == "cpu" else None
        self.early = None if shorter is None else CrossEncoder(shorter, device, precision, runtime=runtime)
        """The same model up to its early exit."""
        if self.early is not None and artifact.manifest.early is not None:
            self.early.cost = self.cost.share(artifact.manifest.early / artifact.manifest.size.layers)

    @property
    def exit_reason(self) -> str:
        """Whether there is an early exit, and why not, in words."""
        if self.early is not None:
            return f"after layer {self.artifact.manifest.early}, {self.early.precision}"
        if self.artifact.manifest.early is None:
            return "none: the artifact has none"
        return "none: every candidate goes through all layers at once"

    def warm_up(self) -> None:
        """`LoadedModel.warm_up`, of the early exit as well."""
        super().warm_up()
        if self.early is not None:
            self.early.warm_up()
            self.early.cost.pace = self.cost.pace

    def score(self, query: str, passages: Sequence[str]) -> Rows:
        """float32 [n]: the logit of each passage; raises InferenceError when one is not finite."""
        pairs = self.tokenizer.pairs(self.tokenizer.query(query), self.tokenizer.passages(passages))
        logits = self.compute_all(pairs)
        if not np.isfinite(logits).all():
            raise InferenceError(f"{self.artifact.manifest.name} gave a logit that is not finite")
        return logits

    def run(self, batch: TokenBatch) -> Sequence[np.float32 | InferenceError]:
        """One micro-batch of joined pairs → their logits (see `job.Model`)."""
        return self._checked(self.runtime.run(batch))

    def run_until(self, batch: TokenBatch, stop: Stop) -> Sequence[np.float32 | InferenceError]:
        """The same for the first of the pairs, until `stop` says so (see `job.Interruptible`)."""
        return self._checked(self.runtime.run_until(batch, stop))

    def _checked(self, logits: Rows) -> list[np.float32 | InferenceError]:
        bad = InferenceError(f"{self.artifact.manifest.name} gave a logit that is not finite for a passage")
        return [logit if np.isfinite(logit) else bad for logit in logits]
