"""What an encoder and a cross-encoder share: an artifact's graph on a device, run in micro-batches at a known cost."""

from __future__ import annotations

import logging
import time
from dataclasses import replace

import numpy as np

from ..platform.device import Device
from ..scheduling.cost_model import GPU_PROBES, PROBES, CostModel, Pace, learn
from ..scheduling.job import serving_order
from ..text.tokenizer import Tokenizer
from ..text.tokens import TokenBatch, cumulative
from .artifact import Artifact, Precision
from .runtime import Rows, Runtime, RuntimeWish, Split, choose, open_runtime
from .runtime.select import PrecisionWish

log = logging.getLogger(__name__)
# Before anything was measured: the order of magnitude of a 22 M-parameter encoder on one core (see `learn`).
_UNMEASURED = CostModel(call=1e-3, token=5e-5, square=1e-8, tokens=512)


class LoadedModel:
    """An artifact ready to run on a device. `run` belongs to one thread; `tokenizer` may be used by all."""

    def __init__(
        self,
        artifact: Artifact,
        device: Device,
        precision: PrecisionWish,
        *,
        cpu_order: tuple[Precision, ...],
        split: Split = "sequences",
        runtime: RuntimeWish = "auto",
    ) -> None:
        """`precision` auto is FP16 on a GPU, and on a CPU the first of `cpu_order` that the artifact has.

        Raises ArtifactError when the artifact is damaged or has no such precision; InputError or DeviceError when the
        runtime asked for cannot run it here.
        """
        self.artifact = artifact
        self._device = device
        self.choice = choose(runtime, artifact, device, precision, cpu_order)
        self.precision: Precision = self.choice.precision
        self.tokenizer: Tokenizer = artifact.tokenizer()
        self.cost: CostModel = replace(_UNMEASURED, pace=Pace())
        self.runtime: Runtime = open_runtime(self.choice, artifact, device, split)
        choice = self.choice
        log.info("%s: runtime %s in %s (%s)", artifact.manifest.name, choice.runtime, choice.precision, choice.reason)

    def warm_up(self) -> None:
        """Measure micro-batches of several shapes and learn what each costs here; about a second on two cores."""
        self.runtime.warm_up()
        probes = GPU_PROBES if self._device.kind == "cuda" else PROBES
        self.cost = learn(self._measure, self.tokenizer.max_length, probes, lanes=self.runtime.lanes)
        if not self.runtime.pads:
            self.cost.unpadded(interruptible=self.runtime.stops)
        log.info("%s %s: best micro-batch %d tokens", self.artifact.manifest.name, self.precision, self.cost.tokens)

    def compute_all(self, batch: TokenBatch) -> Rows:
        """Any number of sequences, length-sorted in micro-batches: float32 [n, d] or [n], in the batch's order."""
        lengths = batch.lengths
        order = serving_order(lengths, len(batch))
        outputs: list[Rows] = []
        start = 0
        while start < len(order):
            stop = start + max(1, self.cost.most // max(1, int(lengths[order[start]])))
            outputs.append(self.runtime.run(batch.select(order[start:stop])))
            start = stop
        joined = np.concatenate(outputs)
        restored = np.empty_like(joined)
        restored[order] = joined
        return restored

    def _measure(self, sequences: int, width: int) -> float:
        ids = np.full(sequences * width, self.artifact.manifest.pad_id, dtype=np.int32)
        segments = np.zeros(len(ids), dtype=np.uint8) if self.tokenizer.segments else None
        batch = TokenBatch(ids, cumulative([width] * sequences), segments)
        start = time.perf_counter()
        self.runtime.run(batch)
        return time.perf_counter() - start
