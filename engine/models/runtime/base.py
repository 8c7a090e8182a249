"""What the engine knows of a runtime: TokenBatch in, one float32 row a sequence out."""

from __future__ import annotations

from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt

from ...scheduling.job import Stop
from ...text.tokens import TokenBatch

RuntimeName = Literal["onnx", "packed"]
Head = Literal["mean", "cls", "logit"]
Rows = npt.NDArray[np.float32]


class Runtime(Protocol):
    """One model on one device. The engine's device thread is its only caller.

    head `mean` or `cls`: hidden states pooled to float32 [n, d], not normalised; head `logit`: float32 [n].
    """

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
