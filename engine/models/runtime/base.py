"""What the engine knows of a runtime: TokenBatch in, one float32 row a sequence out."""

from __future__ import annotations

from typing import Literal, Protocol, get_args

import numpy as np
import numpy.typing as npt

from ...scheduling.job import Stop
from ...text.tokens import TokenBatch

RuntimeName = Literal["onnx", "packed"]
Pooling = Literal["mean", "cls", "lasttoken"]
POOLINGS: tuple[Pooling, ...] = get_args(Pooling)
"""Those that the packed runtime knows, by sentence-transformers' names."""
Head = Pooling | Literal["logit"]
"""How the packed runtime, which computes a model from its weights, is to answer; a graph knows it itself."""
Rows = npt.NDArray[np.float32]


class Runtime(Protocol):
    """One model on one device: float32 [n, d] vectors or float32 [n] logits. The engine's device thread is its only
    caller."""

    name: RuntimeName
    pads: bool
    """Whether sequences of different lengths cost each other padding."""
    lanes: int
    """Sequences that it computes at once, each on a core of its own; 1 where all cores share each of them."""

    stops: bool
    """Whether `run_until` can end between two sequences."""

    def run(self, batch: TokenBatch) -> Rows:
        """The outputs of the n sequences of `batch`."""
        ...

    def run_until(self, batch: TokenBatch, stop: Stop) -> Rows:
        """The outputs of the first of the sequences, one or more: once `stop` says so no further one is begun.

        A runtime that computes a batch as a whole runs all of it.
        """
        ...

    def warm_up(self) -> None:
        """Everything that a first run would otherwise do: graphs captured, memory taken."""
        ...
