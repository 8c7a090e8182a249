"""What PyTorch offers for the work of an op: the other column of `tandem bench kernels`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from ...kernels.layout import Layout, sequence_of

Call = Callable[[], Any]


@dataclass(frozen=True, slots=True)
class Contestant:
    """Another way to the same result. `captured`: whether a CUDA graph can hold it (nothing waits for the host)."""

    call: Call
    captured: bool = True


def pytorch(
    function: Callable[..., Any], device: torch.device, *args: Any, captured: bool = True
) -> dict[str, Contestant]:
    """`function` as it is and, on a GPU, through torch.compile, which compiles at its first call."""
    rivals = {"pytorch": Contestant(lambda: function(*args), captured)}
    if device.type == "cuda":
        compiled = torch.compile(function, dynamic=False)
        rivals["torch.compile"] = Contestant(lambda: compiled(*args), captured)
    return rivals


def padded_attention(qkv: torch.Tensor, layout: Layout, width: int) -> torch.Tensor:
    """`kernels.attention.attention` by padding every sequence to `width` and masking: what packing saves."""
    padded, mask, (sequence, place) = _padded(qkv, layout, width)
    q, k, v = padded[:-1].permute(2, 0, 3, 1, 4)
    read = torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    read = torch.cat([read.transpose(1, 2), torch.zeros_like(padded[-1:, :, 0])])
    return read[sequence, place]


def padded_first_attention(q: torch.Tensor, kv: torch.Tensor, layout: Layout, width: int) -> torch.Tensor:
    """`kernels.attention.first_attention` in the same way: one query a sequence."""
    padded, mask, _ = _padded(kv, layout, width)
    k, v = padded[:-1].permute(2, 0, 3, 1, 4)
    return torch.nn.functional.scaled_dot_product_attention(q[:, :, None], k, v, attn_mask=mask)[:, :, 0]


def _padded(
    rows: torch.Tensor, layout: Layout, width: int
) -> tuple[torch.Tensor, torch.Tensor, tuple[torch.Tensor, torch.Tensor]]:
    """`rows` [capacity, …] as [sequences + 1, width, …], the tail in the last; bool [sequences, 1, 1, width] where a
    token is; and each row's place there."""
    sequence = sequence_of(layout.cu_seqlens, layout.capacity)
    place = torch.arange(layout.capacity, device=rows.device) - layout.cu_seqlens[sequence]
    place = place.clamp(max=width - 1)
    padded = rows.new_zeros(layout.sequences + 1, width, *rows.shape[1:])
    padded[sequence, place] = rows
    lengths = torch.diff(layout.cu_seqlens)
    mask = torch.arange(width, device=rows.device) < lengths[:, None].clamp(min=1)
    return padded, mask[:, None, None], (sequence, place)


def varlen(qkv: torch.Tensor, where: Layout, longest: int) -> Contestant:
    """PyTorch's attention over packed sequences; it fails when it is called where PyTorch has none."""
    # Its sequences must cover the buffer, so the tail is one more.
    ends = torch.cat([where.cu_seqlens, where.cu_seqlens.new_tensor([where.capacity])])
    longest = max(longest, where.capacity - int(where.cu_seqlens[-1]))
    q, k, v = (part.contiguous() for part in qkv.unbind(1))

    def call() -> Any:
        from torch.nn.attention.varlen import varlen_attn

        return varlen_attn(q, k, v, ends, ends, longest, longest)

    return Contestant(call)
