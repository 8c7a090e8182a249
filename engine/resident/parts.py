"""The parts a pipeline is made of, and a tensor with its page-locked twin on the host."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from ...kernels.pack import PairForm
from ..runtime.bert import Bert, Buffers
from .store import Store


@dataclass(frozen=True, slots=True)
class Parts:
    """Everything on the device that searches share.

    encoder_buffers, reranker_buffers: activations on CUDA; None on a CPU, where they are made as needed
    normalize: the encoder's vectors are made unit length
    weight, lexical_weight: of the evidence in the final score, of the lexical score in the evidence (`fusion.Fusion`)
    """

    encoder: Bert
    reranker: Bert
    store: Store
    form: PairForm
    normalize: bool
    weight: float
    lexical_weight: float = 0.0
    encoder_buffers: Buffers | None = None
    reranker_buffers: Buffers | None = None

    @property
    def device(self) -> torch.device:
        return self.encoder.device

    def buffers(self, bert: Bert, tokens: int) -> Buffers:
        """Activations for `tokens` tokens of one of the two models."""
        held = self.encoder_buffers if bert is self.encoder else self.reranker_buffers
        return held or Buffers(bert.shape, tokens, bert.dtype, bert.device)


class Input:
    """A tensor on the device that the host writes before each run: its address never changes."""

    def __init__(self, shape: tuple[int, ...], dtype: torch.dtype, device: torch.device, fill: int = 0) -> None:
        self.tensor = torch.full(shape, fill, dtype=dtype, device=device)
        self._host = self.tensor if device.type == "cpu" else torch.full(shape, fill, dtype=dtype).pin_memory()
        self._numpy = self._host.numpy()

    def write(self, array: Any) -> None:
        """Queue the copy of `array` (numpy, at most as long) to the beginning of the tensor."""
        count = len(np.asarray(array))
        self._numpy[:count] = array
        if self._host is not self.tensor:
            self.tensor[:count].copy_(self._host[:count], non_blocking=True)
