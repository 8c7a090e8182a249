"""A step that is run again and again: on CUDA a graph captured once, on a CPU the step itself."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Generic, TypeVar

import torch

from ..models.runtime import cuda_graphs

Step = TypeVar("Step")
# Graphs kept. Each holds its inputs, its pairs and small temporaries (some MB); activations are shared by all.
LIMIT = 96


class Graphs(Generic[Step]):
    """Steps by what they were made for; the least recently used one goes when there are too many."""

    def __init__(self, device: torch.device) -> None:
        self._captures = device.type == "cuda"
        self._pool: Any = torch.cuda.graph_pool_handle() if self._captures else None
        self._made: OrderedDict[Any, tuple[Step, Callable[[], Any]]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._made)

    def get(
        self, key: Any, make: Callable[[], Step], forward: Callable[[Step], None]
    ) -> tuple[Step, Callable[[], Any]]:
        """The step made for `key`, and what runs it. Made and captured when it is first wanted."""
        if key in self._made:
            self._made.move_to_end(key)
            return self._made[key]
        step = make()
        if not self._captures:
            return step, lambda: forward(step)
        run = cuda_graphs.captured(lambda: forward(step), self._pool)
        self._made[key] = step, run
        if len(self._made) > LIMIT:
            self._made.popitem(last=False)
        return step, run
