"""The parts a pipeline is made of."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from ...kernels.pack import PairForm
from ...kernels.scan import Workspace
from ..models.runtime.families.buffers import Buffers
from ..models.runtime.families.model import PackedModel
from .device_store import Store


@dataclass(frozen=True, slots=True)
class Parts:
    """Everything on the device that searches share.

    encoder_buffers, reranker_buffers, scratch: activations and the scan's workspace on CUDA, where every graph uses the
    same ones; None on a CPU, where they are made as needed
    normalize: the encoder's vectors are made unit length
    words: a list of the passages with a query's words comes with it
    weight, lexical_weight, recall_scale: of the evidence in the final score, of the lexical score in the evidence, and
    what recall's score is divided by in it (`fusion.Fusion`)
    """

    encoder: PackedModel
    reranker: PackedModel
    store: Store
    form: PairForm
    normalize: bool
    weight: float
    lexical_weight: float = 0.0
    recall_scale: float = 1.0
    words: bool = False
    encoder_buffers: Buffers | None = None
    reranker_buffers: Buffers | None = None
    scratch: Workspace | None = None

    @property
    def device(self) -> torch.device:
        return self.encoder.device

    def evidence(self, cosines: torch.Tensor, lexical: torch.Tensor) -> torch.Tensor:
        """Of candidates, as `Fusion.evidence` has it."""
        return cosines / self.recall_scale + self.lexical_weight * lexical

    def buffers(self, model: PackedModel, tokens: int) -> Buffers:
        """Activations for `tokens` tokens of one of the two models."""
        held = self.encoder_buffers if model is self.encoder else self.reranker_buffers
        return held or model.buffers(tokens)
