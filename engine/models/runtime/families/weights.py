"""Tensors of a file by their names, put where and as the model wants them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

Tensors = Mapping[str, torch.Tensor]
Norm = tuple[torch.Tensor, torch.Tensor]
"""Weight and bias of a LayerNorm."""


@dataclass(frozen=True, slots=True)
class Linear:
    """A linear layer: weight [out, in] as torch.nn.Linear keeps it, bias [out] or None."""

    weight: torch.Tensor
    bias: torch.Tensor | None

    def into(self, x: torch.Tensor, out: torch.Tensor) -> torch.Tensor:
        """x weightᵀ + bias."""
        if self.bias is None:
            return self.product(x, out)
        return torch.addmm(self.bias, x, self.weight.t(), out=out)

    def product(self, x: torch.Tensor, out: torch.Tensor) -> torch.Tensor:
        """x weightᵀ; whoever follows adds the bias."""
        return torch.mm(x, self.weight.t(), out=out)

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """`into` a new tensor."""
        return self.into(x, x.new_empty(len(x), len(self.weight)))

    def part(self, start: int, stop: int | None = None) -> Linear:
        """The outputs from `start` to before `stop`, over the same memory."""
        return Linear(self.weight[start:stop], None if self.bias is None else self.bias[start:stop])


class Weights:
    """A model's tensors. Each method raises KeyError naming a tensor that is missing."""

    def __init__(self, tensors: Tensors, root: str, dtype: torch.dtype, device: torch.device | str) -> None:
        """`root`: what names begin with where the file has it; one of a model without a head may not have it."""
        self._tensors = tensors
        self._root = root if any(name.startswith(root) for name in tensors) else ""
        self._dtype = dtype
        self._device = device

    def take(self, name: str, *, rooted: bool = True, dtype: torch.dtype | None = None) -> torch.Tensor:
        """One tensor, of the model's dtype if no other is asked for; `rooted`: its name begins with the root."""
        found = self._tensors[self._root + name if rooted else name]
        return found.to(device=self._device, dtype=dtype or self._dtype).contiguous()

    def norm(self, name: str) -> Norm:
        """Weight and bias."""
        return self.take(f"{name}.weight"), self.take(f"{name}.bias")

    def linear(self, name: str, *, bias: bool = True, rooted: bool = True) -> Linear:
        """A linear layer."""
        return Linear(
            self.take(f"{name}.weight", rooted=rooted), self.take(f"{name}.bias", rooted=rooted) if bias else None
        )

    def joined(self, names: Sequence[str], *, bias: bool = True) -> Linear:
        """Several linear layers of one input as one, their outputs side by side."""
        parts = [self.linear(name, bias=bias) for name in names]
        biases = [part.bias for part in parts if part.bias is not None]
        return Linear(torch.cat([part.weight for part in parts]), torch.cat(biases) if biases else None)

    def stacked(self, names: Sequence[str]) -> torch.Tensor:
        """Vectors as rows."""
        return torch.stack([self.take(name) for name in names])

    def row(self, name: str) -> Linear:
        """A classifier of one output in float32: of two labels the second less the first, whose order is the softmax's.

        Half a thousand steps of half precision would make ties. Its names never begin with the root.
        """
        weight = self.take(f"{name}.weight", rooted=False, dtype=torch.float32)
        there = f"{name}.bias" in self._tensors
        bias = self.take(f"{name}.bias", rooted=False, dtype=torch.float32) if there else weight.new_zeros(len(weight))
        if len(weight) > 2:
            raise KeyError(f"{name}.weight of one or two rows (it has {len(weight)})")
        return Linear(weight, bias) if len(weight) == 1 else Linear(weight.diff(dim=0), bias.diff())
