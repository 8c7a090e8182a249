"""Memory for the activations of a batch."""

from __future__ import annotations

import torch

from .shape import Shape


class Buffers:
    """Activations of up to `capacity` tokens, taken once; a smaller batch uses their first rows.

    stream: [capacity, width]  hidden states from layer to layer; float32 where they are a sum that is kept (pre-norm)
    narrow: [capacity, width]  what a half of a layer adds to them
    """

    def __init__(self, shape: Shape, capacity: int, dtype: torch.dtype, device: torch.device | str) -> None:
        kept = torch.float32 if shape.pre_norm else dtype
        self.capacity = capacity
        self.stream = torch.zeros(capacity, shape.width, dtype=kept, device=device)
        self.narrow = torch.zeros(capacity, shape.width, dtype=dtype, device=device)
        self._work = torch.zeros(capacity * shape.work, dtype=dtype, device=device)

    def rows(self, tokens: int, *widths: int) -> list[torch.Tensor]:
        """[tokens, width] for each of `widths`, one behind the other. The next call gives the same memory again.

        The attention and the feed-forward need theirs in turns.
        """
        sizes = [tokens * width for width in widths]
        parts = torch.split(self._work[: sum(sizes)], sizes)
        return [part.view(tokens, width) for part, width in zip(parts, widths, strict=True)]
